"""Retention of records: how long ``catalog.yaml`` keeps deleted records, and records of a kind.

Datasets have the retention of their versions instead (``config/service.yaml``), and are never selected here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.terms import Term

APART = "dataset"
"""The kind of the service's records."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long records are kept, in days. What is not named is always kept."""

    purge_deleted_days: float | None = None
    """From the deletion of a record to its removal for good."""
    kinds: Mapping[str, float] = field(default_factory=dict)
    """By kind, from the last change of a record to its deletion."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A record that has been kept as long as the retention says."""

    record: CatalogRecord
    act: Literal["delete", "purge"]
    reason: str


def expired(find: Callable[..., Iterable[CatalogRecord]], retention: Retention, now: datetime) -> Iterator[Expired]:
    """Yield the records to delete, then those to purge. *find* is ``Catalog.iterate``."""
    for kind, days in sorted(retention.kinds.items()):
        before = Term("updated_at", "<", timestamp(now - timedelta(days=days)))
        for record in find(before, kinds={kind}, statuses={"active", "deprecated", "failed"}, order=("id",)):
            yield Expired(record, "delete", f"{kind} records are deleted {days:g} days after their last change")
    if retention.purge_deleted_days is not None:
        days = retention.purge_deleted_days
        before = Term("deleted_at", "<", timestamp(now - timedelta(days=days)))
        for record in find(before, statuses={"deleted"}, order=("id",)):
            if record.kind != APART:
                yield Expired(record, "purge", f"deleted records are purged after {days:g} days")
