"""Earlier states of records. Each update stores what it changed, as the way back to the state before.

The table ``history`` has one row for each earlier version, written in the transaction of the update. The row contains the former
values of the fields that changed, with metadata stored key by key, so that a small edit of a large record stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cubeport.catalog.backend import Row, Rows
from cubeport.catalog.models import CatalogRecord
from cubeport.errors import RecordNotFound

TABLE = "history"
_PAGE = 500
_STAMPS = ("version", "updated_at", "updated_by", "operation_id")
"""The fields that every update sets. They say who and when, and do not count as changes."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that an edit changed; ``None`` if there was or is no value."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Edit:
    """One version of a record: when and by whom it was made, and what differs from the version before."""

    version: int
    at: str
    by: str | None
    operation_id: str | None
    changes: tuple[FieldChange, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Return the edit as JSON values."""
        changes = [{"field": each.field, "before": each.before, "after": each.after} for each in self.changes]
        return {"version": self.version, "at": self.at, "by": self.by, "operation_id": self.operation_id, "changes": changes}


def keep(rows: Rows, former: CatalogRecord, now: CatalogRecord) -> None:
    """Store the way back from *now* to *former*. Call it in the transaction of the update."""
    document = _way_back(now.to_mapping(), former.to_mapping())
    rows.put(Row(TABLE, f"{former.id}@{former.version}", document, owner=former.id, seq=former.version))


def forget(rows: Rows, record_id: str) -> None:
    """Remove the history of a record. Call it in the transaction that removes the record."""
    while found := rows.select(TABLE, owner=record_id, limit=_PAGE):
        for row in found:
            rows.delete(TABLE, row.id)


def edits(rows: Rows, record: CatalogRecord) -> list[Edit]:
    """Return the versions of *record*, newest first. Versions from before the history began are missing."""
    return compared(_states(rows, record))


def compared(states: Iterable[Mapping[str, Any]]) -> list[Edit]:
    """Return the versions of a record from their states, newest first. Nothing is said of what came before the last."""
    found = []
    now: Mapping[str, Any] | None = None
    for former in states:
        if now is not None:
            found.append(_edit(now, _differences(former, now)))
        now = former
    return found if now is None else [*found, _edit(now, ())]


def states(rows: Rows, record: CatalogRecord) -> Iterator[CatalogRecord]:
    """Yield *record* and its earlier states, newest first."""
    yield from map(CatalogRecord.from_mapping, _states(rows, record))


def at_version(rows: Rows, record: CatalogRecord, version: int) -> CatalogRecord:
    """Return *record* as it was at *version*. Raises RecordNotFound if there was no such version, or the history does not have
    it.
    """
    if version == record.version:
        return record
    for each in _states(rows, record):
        if each["version"] == version:
            return CatalogRecord.from_mapping(each)
        if each["version"] < version:
            break
    raise RecordNotFound(f"Record {record.id[:8]} has no version {version}.", next_step=f"cubeport history {record.id[:8]}")


def _states(rows: Rows, record: CatalogRecord) -> Iterator[dict[str, Any]]:
    now = record.to_mapping()
    yield now
    for row in _rows(rows, record.id):
        now = _back(now, row.document)
        yield now


def _rows(rows: Rows, record_id: str) -> Iterator[Row]:
    after: tuple[int, str] | None = None
    while found := rows.select(TABLE, owner=record_id, after=after, descending=True, limit=_PAGE):
        yield from found
        after = (found[-1].seq, found[-1].id)


def _edit(document: Mapping[str, Any], changes: tuple[FieldChange, ...]) -> Edit:
    return Edit(document["version"], document["updated_at"], document["updated_by"], document["operation_id"], changes)


def _way_back(now: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in former.items() if name != "metadata" and now.get(name) != value}
    was, is_ = former["metadata"], now["metadata"]
    return {
        "fields": fields,
        "metadata": {key: value for key, value in was.items() if key not in is_ or is_[key] != value},
        "added": sorted(key for key in is_ if key not in was),
    }


def _back(now: Mapping[str, Any], way: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in now["metadata"].items() if key not in way["added"]} | way["metadata"]
    return {**now, **way["fields"], "metadata": metadata}


def _differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    found = [
        FieldChange(name, former[name], now[name])
        for name in now
        if name != "metadata" and name not in _STAMPS and former[name] != now[name]
    ]
    was, is_ = former["metadata"], now["metadata"]
    found += [
        FieldChange(f"metadata.{key}", was.get(key), is_.get(key))
        for key in sorted(was.keys() | is_.keys())
        if was.get(key) != is_.get(key) or (key in was) != (key in is_)
    ]
    return tuple(found)
