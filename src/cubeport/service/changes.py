"""The feed of changes that readers can see, with one entry for each commit, written in the commit itself.

Replaying it from the beginning gives exactly the published datasets. Changes that readers cannot see have no entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from cubeport.catalog.backend import CatalogBackend, Row
from cubeport.catalog.forms import cursors
from cubeport.catalog.forms.canonical import new_id, now, timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.work.unit_of_work import UnitOfWork
from cubeport.errors import CursorExpired, InvalidCursor
from cubeport.service.state import CHANGE, DatasetState

type Reason = Literal["created", "version", "published", "unpublished", "deleted", "restored", "rolled_back", "metadata"]

_PRUNED_AT_ONCE = 1_000
_BEGINNING = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One change that readers can see."""

    seq: int
    time: str
    type: Literal["upserted", "removed"]
    reason: Reason
    dataset_id: str
    version_id: str | None
    visibility: str | None = None
    created_by: str | None = None
    """Of the dataset, when it changed."""
    id: str = ""
    """Unlike ``seq``, no other change has it, also not of another instance or from before a backup was restored."""

    @property
    def cursor(self) -> str:
        """The cursor after this change."""
        return cursors.write(self.seq)


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in the order of their commits, and the cursor after them."""

    items: tuple[Change, ...]
    next: str


def announce(work: UnitOfWork, backend: CatalogBackend, before: CatalogRecord | None, after: CatalogRecord, reason: Reason) -> None:
    """Add an entry to the commit of *work* for its change of a dataset, if readers can see the dataset before or after it."""
    was, state = _shown(before), _shown(after)
    if was is None and state is None:
        return
    shown = state or was
    assert shown is not None
    document = {
        "time": timestamp(now()),
        "type": "removed" if state is None else "upserted",
        "reason": reason,
        "dataset_id": shown.texts.dataset_id,
        "version_id": None if state is None else state.latest,
        "visibility": after.visibility,
        "created_by": after.created_by,
    }
    # The number is assigned in the transaction, under its lock, so that numbers have the order of commits, without gaps.
    work.join(lambda: backend.rows.put(Row(CHANGE, new_id(), document, seq=backend.rows.next_seq(CHANGE))))


def join_version(
    work: UnitOfWork,
    backend: CatalogBackend,
    before: CatalogRecord | None,
    after: CatalogRecord,
    rows: Sequence[Row],
    *,
    seen: bool,
) -> None:
    """Add a new version to the commit of *work*: the dataset's record, the rows of the version, and the change for readers.

    Parameters
    ----------
    before
        The dataset's record as it is now; ``None`` for a new dataset.
    seen
        Whether readers of an existing dataset see another version afterwards.
    """
    if before is None:
        work.add_record(after)
    else:
        work.update_record(after)
    if before is None or seen:
        announce(work, backend, before, after, "created" if before is None else "version" if _shown(before) else "published")
    for row in rows:
        work.join(partial(backend.rows.put, row))


def _shown(record: CatalogRecord | None) -> DatasetState | None:
    if record is None or record.status == "deleted":
        return None
    state = DatasetState.of(record)
    return state if state.published else None


class Changes:
    """The feed for readers."""

    def __init__(self, backend: CatalogBackend, *, keep_days: int = 90) -> None:
        self._rows = backend.rows
        self._keep_days = keep_days

    def page(self, *, cursor: str | None = None, dataset_id: str | None = None, limit: int = 100) -> ChangePage:
        """Return changes after *cursor*, oldest first. Without a cursor, start with the oldest kept change.

        Raises
        ------
        InvalidCursor
            If the cursor is not valid.
        CursorExpired
            If changes after the cursor are no longer kept (``changes.keep_days``). Start again from the list of datasets.
        """
        after = _BEGINNING if cursor is None else _read(cursor)
        oldest = self._rows.select(CHANGE, limit=1)
        if cursor is not None and oldest and after < oldest[0].seq - 1:
            raise CursorExpired(
                f"Changes older than {self._keep_days} days are no longer listed.",
                next_step="read the list of datasets, then request changes without a cursor",
            )
        found: list[Change] = []
        while len(found) < limit and (rows := self._rows.select(CHANGE, after=(after, "~"), limit=limit)):
            found += [each for row in rows if (each := change(row)).dataset_id == dataset_id or dataset_id is None]
            after = rows[-1].seq
        found = found[:limit]
        last = found[-1].seq if len(found) == limit else after
        return ChangePage(tuple(found), cursors.write(last))

    def prune(self, at: datetime | None = None) -> int:
        """Remove entries older than ``changes.keep_days``, except the newest entry. Return how many were removed."""
        before = timestamp((at or now()) - timedelta(days=self._keep_days))
        rows: Sequence[Row] = self._rows.select(CHANGE, limit=_PRUNED_AT_ONCE)
        old = [row for row in rows[:-1] if str(row.document["time"]) < before]
        for row in old:
            self._rows.delete(CHANGE, row.id)
        return len(old)


def _read(cursor: str) -> int:
    try:
        (seq,) = cursors.read(cursor, 1)
    except ValueError as exc:
        raise InvalidCursor("The cursor does not belong to this list.") from exc
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
        raise InvalidCursor("The cursor does not belong to this list.")
    return seq


def change(row: Row) -> Change:
    """Return the change in a row of the feed."""
    document: Any = row.document
    return Change(
        row.seq,
        document["time"],
        document["type"],
        document["reason"],
        document["dataset_id"],
        document["version_id"],
        document.get("visibility"),
        document.get("created_by"),
        row.id,
    )
