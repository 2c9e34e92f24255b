"""What the catalog needs of a store, as protocols. ``catalog.testing`` holds their promises as tests that anybody can inherit.

Arguments and results are models; no driver's type leaves its module. Objects serve threads (a transaction belongs to its
context), never forks. Unreadable is :class:`~cubeport.errors.Corrupt`, never an empty catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from cubeport.catalog.forms.boxes import Box
from cubeport.catalog.models import CatalogRecord, Operation, OperationStatus
from cubeport.catalog.query import FieldSummary, Interval, Page, Query, Scalar, in_space, in_time
from cubeport.errors import RecordExists, StaleRecord


def stale(what: str) -> StaleRecord:
    """Return the error of a compare-and-set that lost."""
    return StaleRecord(f"{what} changed since it was read.", next_step="read it again")


def taken(what: str) -> RecordExists:
    """Return the error of creating what is there."""
    return RecordExists(f"{what} is there already.")


@dataclass(frozen=True, slots=True)
class Edge:
    """One lineage edge as the index sees it: from record *source* to *target* (a record id or a URI)."""

    source: str
    rel: str
    target: str


@dataclass(frozen=True, slots=True)
class RecordChange:
    """One record changed in the commit of this *generation*; *removed* when its row is gone."""

    generation: int
    id: str
    removed: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found: a slug that is never renamed, where, in words, and what to do next."""

    kind: str
    place: str
    message: str
    next_step: str | None = None
    level: Literal["ok", "warn", "error"] = "error"


@dataclass(frozen=True, slots=True)
class Row:
    """A document that a user of the core keeps next to the records, committed in the same transaction.

    The service's versions, jobs and changes are such rows; the core neither knows nor reads them. ``(table, id)`` is unique.
    ``owner``, ``state`` and ``seq`` are the three columns that lists are cut and ordered by.
    """

    table: str
    id: str
    document: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    state: str = ""
    seq: int = 0
    revision: int = 0
    """0 for a row not stored yet; +1 at each update. An update names the revision it read."""


type RowOrder = Literal["created", "start", "end", "id", "owner.key", "owner.title", "owner.updated_at"]
"""What found rows may be sorted by: when they were made, the time that they cover, their id, or a field of their record."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when a row is, for searches: what its document says of itself."""

    created: str
    """When the row was made; RFC 3339, as all times here, so that their texts compare as they do."""
    known: bool = True
    """Whether the rest was ever measured: a row of an unknown place is found by every search, and its reader looks closer."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in CRS84; west > east crosses the antimeridian. ``None``: found by no search for a box."""
    start: str | None = None
    end: str | None = None
    """Both included. ``None``: found by no search for a time."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Place | None:
        """Return the place that a row's document says; ``None`` for a row that no search finds.

        A row is found once its document has ``shown_at``; ``created_at`` orders it, and ``reach`` (``bbox, start, end``) places it.
        """
        if "reach" not in document or document.get("shown_at") is None:
            return None
        reach = document["reach"]
        if reach is None:
            return cls(document["created_at"], known=False)
        bbox = reach.get("bbox")
        return cls(document["created_at"], True, tuple(bbox) if bbox is not None else None, reach.get("start"), reach.get("end"))

    def fits(self, box: Box | None, interval: Interval | None) -> bool:
        """Return whether the row may be in *box* and *interval*, both closed; one of an unknown place may be anywhere."""
        if not self.known:
            return True
        if interval is not None and not in_time(interval, {"start": self.start, "end": self.end}):
            return False
        return box is None or in_space(box, self.bbox)


@dataclass(frozen=True, slots=True)
class RowSearch:
    """Which rows are searched for by place, time and record, and in which order; all parts must fit."""

    table: str
    state: str
    """The state that a row must have."""
    owner: Query = field(default_factory=Query)
    """What the record must be that owns the row: ``where``, ``kinds`` and ``statuses``; the rest is not looked at."""
    box: Box | None = None
    interval: Interval | None = None
    ids: Sequence[str] | None = None
    order: Sequence[tuple[RowOrder, bool]] = (("created", True),)
    """Keys, and whether each descends; missing values come last both ways. Ties go by id, in the direction of the last key."""
    after: Sequence[str | None] | None = None
    """``Placed.at`` of the row that the page begins behind."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Placed:
    """A row that a search found."""

    row: Row
    owner: CatalogRecord
    at: tuple[str | None, ...]
    """Where it stands in the order: the value of each key, then its id."""


class Rows(Protocol):
    """The rows next to the records. Outside a ``transaction()`` each call is a transaction of its own."""

    def get(self, table: str, id: str) -> Row | None:
        """Return the row, or ``None`` when the store said that there is none."""

    def get_many(self, table: str, ids: Sequence[str]) -> dict[str, Row]:
        """Return the rows that are there, by id, with one statement."""

    def put(self, row: Row) -> Row:
        """Insert (revision 0) or compare-and-set on ``row.revision``; return it with the new revision.

        Raises
        ------
        RecordExists
            On inserting an id that is there.
        StaleRecord
            On updating another revision than the stored one, or a row that is gone.
        """

    def delete(self, table: str, id: str) -> None:
        """Remove the row if it is there."""

    def select(
        self,
        table: str,
        *,
        owner: str | None = None,
        states: Sequence[str] | None = None,
        after: tuple[int, str] | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> list[Row]:
        """Return rows ordered by ``(seq, id)``, strictly behind *after* in that direction.

        A row that cannot be read is left out and logged, as a list must not fail for one of its rows; ``get`` and ``get_many``
        raise CorruptCatalog for it.
        """

    def of_owners(self, table: str, owners: Sequence[str]) -> dict[str, list[Row]]:
        """Return the rows of each owner that has any, the highest ``(seq, id)`` first, with one statement."""

    def find(self, search: RowSearch) -> list[Placed]:
        """Return rows by place, time and record, in order: the cost depends on what is found, not on how many rows there are.

        A row, or a record, that cannot be read is left out and logged.
        """

    def newest(self, table: str, state: str, owners: Sequence[str], most: int) -> dict[str, list[Row]]:
        """Return up to *most* rows of each owner that searches find, the highest ``(seq, id)`` first, with one statement."""

    def neighbours(self, table: str, state: str, ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
        """Return for each row the ids of the rows of its owner before and behind it that searches find, by ``(seq, id)``."""

    def next_seq(self, table: str, owner: str = "") -> int:
        """Return the highest ``seq`` of the owner's rows plus one (1 at first); call it inside the transaction that uses it."""

    def count(self, table: str, *, owner: str | None = None, states: Sequence[str] | None = None) -> int:
        """Return how many rows there are."""


class CatalogBackend(Protocol):
    """A store of records, operations and rows with one commit point."""

    rows: Rows

    def add_record(self, record: CatalogRecord) -> CatalogRecord:
        """Create the record; never overwrite. Raises RecordExists, KeyExists, TargetExists (a managed path is taken)."""

    def add_records(self, records: Iterable[CatalogRecord]) -> None:
        """Create many records, all or none, faster than one by one. Raises as :meth:`add_record` does, naming the record."""

    def get_record(self, id: str) -> CatalogRecord | None:
        """Return the record of any status, or ``None`` only when the store said that there is none."""

    def get_by_key(self, key: str) -> CatalogRecord | None:
        """Return the one record with that key that is not deleted."""

    def update_record(self, record: CatalogRecord) -> CatalogRecord:
        """Compare-and-set: *record* carries the version that was read; return it stored, with version + 1.

        Raises
        ------
        StaleRecord
            If the stored version is another, or the record is gone.
        KeyExists
            If another record that is not deleted has the key.
        """

    def delete_record(self, id: str, version: int) -> None:
        """Remove the row (purge); a tombstone is an update. Raises StaleRecord."""

    def search(self, query: Query) -> Page:
        """Return the page of records that the query asks for; one that cannot be read costs its own place only."""

    def count(self, query: Query) -> int: ...

    def list_fields(self, query: Query | None = None) -> list[FieldSummary]:
        """Return the metadata fields and tags of the records that match (of the active ones, if not asked), sorted."""

    def field_values(self, field: str, query: Query | None = None, limit: int = 1000) -> list[tuple[Scalar, int]]:
        """Return the distinct values of any field with how many records have each, most frequent first, then smallest."""

    def match_prefix(self, prefix: str, limit: int = 10) -> list[str]:
        """Return up to *limit* ids that begin with *prefix*, in order, of every status."""

    def iterate(self, *, skip_damaged: bool = False) -> Iterator[CatalogRecord]:
        """Yield every record of every status by id, from one snapshot, in flat memory.

        A record that cannot be read raises CorruptCatalog, or is left out with *skip_damaged*: :meth:`check` names it.
        """

    def edges(self, id: str, direction: Literal["out", "in"], rel: str | None = None) -> list[Edge]: ...

    def put_operation(self, operation: Operation) -> None:
        """Insert the row; its id is unique, so an owner that only seemed dead can no longer commit. Raises RecordExists."""

    def get_operation(self, id: str) -> Operation | None: ...

    def list_operations(
        self, *, status: OperationStatus | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing. Reads inside see own writes; nesting is an error; leaving by an exception rolls back."""

    def generation(self) -> int:
        """Return the sequence number of the last commit that changed records: +1 each, under the commit's lock, without gaps.

        A commit of rows or operations alone leaves it, so that a job's progress makes no reader of records look again.
        """

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return which records changed behind generation *after*, oldest first, each once, at its last change.

        About *limit* of them, but whole generations, so that the last one's generation is what to ask from next.
        """

    def check(self, deep: bool = False) -> list[Finding]:
        """Return what is wrong with the store; empty when all is well."""

    def close(self) -> None: ...
