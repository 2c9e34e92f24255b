"""Records as a table for pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cubeport.catalog.models import CatalogRecord
from cubeport.errors import ExtraMissing

_COLUMNS = ("key", "kind", "title", "tags", "status", "time_start", "time_end", "bbox", "created_at", "updated_at", "version")


def to_dataframe(records: Iterable[CatalogRecord]) -> Any:
    """Return a ``pandas.DataFrame`` with a row for each record, indexed by id.

    Columns are the record's own fields, then one for each key of metadata (``metadata.a``); lists and objects stay as they are.

    Raises
    ------
    ExtraMissing
        Without pandas.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as exc:
        raise ExtraMissing(
            "A data frame needs pandas, which is not installed.", next_step="pip install pandas", what="pandas"
        ) from exc
    rows = [(record.id, _row(record)) for record in records]
    frame = pd.DataFrame.from_records([row for _, row in rows], index=pd.Index([each for each, _ in rows], name="id"))
    return frame if rows else pd.DataFrame(columns=list(_COLUMNS), index=frame.index)


def _row(record: CatalogRecord) -> dict[str, Any]:
    span = record.time
    own: dict[str, Any] = {
        "key": record.key,
        "kind": record.kind,
        "title": record.title,
        "tags": list(record.tags),
        "status": record.status,
        "time_start": span.start if span else None,
        "time_end": span.end if span else None,
        "bbox": list(record.bbox) if record.bbox else None,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "version": record.version,
    }
    return own | {f"metadata.{key}": value for key, value in record.metadata.items()}
