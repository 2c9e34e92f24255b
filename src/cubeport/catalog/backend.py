"""The interface of a catalog's store, as protocols. ``catalog.testing`` contains contract tests that any backend can inherit.

Arguments and results are models; no type of a driver leaves its module. Objects can be used by several threads (a transaction
belongs to its context), but not after a fork. An unreadable store raises :class:`~cubeport.errors.Corrupt` and is never treated as
empty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, Self

from cubeport.catalog.forms.boxes import Box
from cubeport.catalog.models import CatalogRecord, Operation, OperationStatus
from cubeport.catalog.ndjson import Lines
from cubeport.catalog.query import Interval, Page, Query, in_space, in_time
from cubeport.catalog.summaries import FieldSummary
from cubeport.catalog.terms import Scalar
from cubeport.errors import RecordExists, StaleRecord


def stale(what: str) -> StaleRecord:
    """Return the error for a compare-and-set that failed."""
    return StaleRecord(f"{what} changed since it was read.", next_step="read it again")


def taken(what: str) -> RecordExists:
    """Return the error for creating something that exists."""
    return RecordExists(f"{what} is there already.")


@dataclass(frozen=True, slots=True)
class Edge:
    """One lineage edge in the index: from the record *source* to *target* (a record id or a URI)."""

    source: str
    rel: str
    target: str


@dataclass(frozen=True, slots=True)
class Name:
    """What a record is called."""

    id: str
    key: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A record that the commit of *generation* changed. *removed* is true if its row was removed."""

    generation: int
    id: str
    removed: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check: a permanent slug, the place, a message, and the next step."""

    kind: str
    place: str
    message: str
    next_step: str | None = None
    level: Literal["ok", "warn", "error"] = "error"


@dataclass(frozen=True, slots=True)
class Row:
    """A document that a user of the core stores next to the records, in the same transactions.

    The service stores its versions, jobs and changes as rows. The core does not interpret them. ``(table, id)`` is unique. Lists
    are filtered and sorted by the columns ``owner``, ``state`` and ``seq``.
    """

    table: str
    id: str
    document: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    state: str = ""
    seq: int = 0
    revision: int = 0
    """0 for a row that is not stored yet. Each update adds 1 and must give the revision that it read."""


type RowOrder = Literal["created", "start", "end", "id", "owner.key", "owner.title", "owner.updated_at"]
"""The sort keys of found rows: their creation time, the time that they cover, their id, or a field of their record."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place and time of a row for searches, from its document."""

    created: str
    """The creation time of the row. All times here are RFC 3339, so that text order is time order."""
    known: bool = True
    """Whether the other fields were measured. Every search finds a row whose place is unknown, and the caller must check it."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in CRS84; west > east crosses the antimeridian. If ``None``, no search with a box finds the row."""
    start: str | None = None
    end: str | None = None
    """The time range, both ends included. If ``None``, no search with a time finds the row."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Place | None:
        """Return the place of a row's document; ``None`` for a row that searches do not find.

        Searches find a row if its document has ``shown_at``. ``created_at`` gives its order, and ``reach`` (``bbox, start, end``)
        its place.
        """
        if "reach" not in document or document.get("shown_at") is None:
            return None
        reach = document["reach"]
        if reach is None:
            return cls(document["created_at"], known=False)
        bbox = reach.get("bbox")
        return cls(document["created_at"], True, tuple(bbox) if bbox is not None else None, reach.get("start"), reach.get("end"))

    def fits(self, box: Box | None, interval: Interval | None) -> bool:
        """Return whether the row can be in *box* and *interval*, both closed. A row with an unknown place can be anywhere."""
        if not self.known:
            return True
        if interval is not None and not in_time(interval, {"start": self.start, "end": self.end}):
            return False
        return box is None or in_space(box, self.bbox)


@dataclass(frozen=True, slots=True)
class RowSearch:
    """A search for rows by place, time and record, with their order. All conditions must match."""

    table: str
    state: str
    """The required state of a row."""
    owner: Query = field(default_factory=Query)
    """The conditions on the record that owns the row: ``where``, ``kinds``, ``statuses`` and ``audience``. Other parts of the
    query are ignored."""
    box: Box | None = None
    interval: Interval | None = None
    ids: Sequence[str] | None = None
    order: Sequence[tuple[RowOrder, bool]] = (("created", True),)
    """Sort keys, and whether each is descending. Missing values come last in both directions. Ties are sorted by id, in the
    direction of the last key."""
    after: Sequence[str | None] | None = None
    """``Placed.at`` of the last row before the page."""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Placed:
    """A row that a search found."""

    row: Row
    owner: CatalogRecord
    at: tuple[str | None, ...]
    """Its position in the order: the value of each sort key, then its id."""


class Rows(Protocol):
    """The rows next to the records. Outside a ``transaction()``, each call is a separate transaction."""

    def get(self, table: str, id: str) -> Row | None:
        """Return the row, or ``None`` if the store says that there is none."""

    def get_many(self, table: str, ids: Sequence[str]) -> dict[str, Row]:
        """Return the existing rows by id, with one statement."""

    def put(self, row: Row) -> Row:
        """Insert (revision 0) or compare-and-set on ``row.revision``; return it with the new revision.

        Raises
        ------
        RecordExists
            If the id to insert exists.
        StaleRecord
            If the stored revision differs, or the row to update is gone.
        """

    def delete(self, table: str, id: str) -> None:
        """Remove the row if it exists."""

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
        """Return rows ordered by ``(seq, id)``, strictly after *after* in this direction.

        A row that cannot be read is skipped and logged, so that one row cannot break a whole list. ``get`` and ``get_many`` raise
        CorruptCatalog for it.
        """

    def claim(self, table: str, states: Sequence[str], take: Callable[[Row], Row | None]) -> Row | None:
        """Change the first row in these states, by ``(seq, id)``, that *take* returns changed, and return it as stored.

        Two callers never get the same row, and none waits for a row that another is claiming.
        """

    def of_owners(self, table: str, owners: Sequence[str]) -> dict[str, list[Row]]:
        """Return the rows of each owner that has any, the highest ``(seq, id)`` first, with one statement."""

    def find(self, search: RowSearch) -> list[Placed]:
        """Return the rows that match a place, a time and a record, in order. The cost depends on the matches, not on the number of
        rows.

        Rows and records that cannot be read are skipped and logged.
        """

    def newest(self, table: str, state: str, owners: Sequence[str], most: int) -> dict[str, list[Row]]:
        """Return up to *most* searchable rows of each owner, the highest ``(seq, id)`` first, with one statement."""

    def neighbours(self, table: str, state: str, ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
        """Return, for each row, the ids of the previous and the next searchable row of its owner, by ``(seq, id)``."""

    def next_seq(self, table: str, owner: str = "") -> int:
        """Return the highest ``seq`` of the owner's rows plus one (1 at first); call it inside the transaction that uses it."""

    def count(self, table: str, *, owner: str | None = None, states: Sequence[str] | None = None) -> int:
        """Return the number of rows."""


class Prepared(Protocol):
    """A valid record of a :class:`Batch`."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def schema_name(self) -> str | None: ...

    def record(self) -> CatalogRecord:
        """Return the record itself."""


class Batch(Protocol):
    """Valid records in the form in which a backend adds them. Only the backend that made it can use it."""

    def __iter__(self) -> Iterator[Prepared]: ...

    def without(self, ids: Collection[str]) -> Self:
        """Return the batch without these records."""


class CatalogBackend(Protocol):
    """A store of records, operations and rows with one commit point."""

    rows: Rows

    def add_record(self, record: CatalogRecord) -> CatalogRecord:
        """Create the record without overwriting. Raises RecordExists, KeyExists, TargetExists (a managed path is taken)."""

    def add_records(self, records: Iterable[CatalogRecord]) -> None:
        """Create many records, all or none, faster than one by one. Raises as :meth:`add_record`, with the name of the record."""

    def preparing(self, batches: Iterable[Lines]) -> AbstractContextManager[Iterator[Batch]]:
        """Return a context, in a transaction, with the valid records of each batch, in order, ready for :meth:`add_prepared`.

        They may be prepared ahead, in another process. Raises InvalidRequest, NewerModel when the batch with the fault is reached.
        """

    def add_prepared(self, batch: Any) -> None:
        """Create the records of one batch of :meth:`preparing`, all or none. Raises as :meth:`add_records`."""

    def get_record(self, id: str) -> CatalogRecord | None:
        """Return the record with any status; ``None`` only if the store says that there is none."""

    def get_by_key(self, key: str) -> CatalogRecord | None:
        """Return the record with this key that is not deleted, or ``None``."""

    def update_record(self, record: CatalogRecord) -> CatalogRecord:
        """Update the record by compare-and-set on ``record.version``. Return it as stored, with version + 1.

        Raises
        ------
        StaleRecord
            If the stored version differs, or the record is gone.
        KeyExists
            If another record that is not deleted has the key.
        """

    def delete_record(self, id: str, version: int) -> None:
        """Remove the row (purge). A tombstone, in contrast, is an update. Raises StaleRecord."""

    def search(self, query: Query) -> Page:
        """Return the page of records that matches the query. A record that cannot be read is skipped."""

    def names(self, query: Query) -> list[Name]:
        """Return the names of the records of the page that matches the query, without reading their documents."""

    def count(self, query: Query) -> int: ...

    def list_fields(self, query: Query | None = None) -> list[FieldSummary]:
        """Return the metadata fields and tags of the matching records, sorted; without a query, of all active records."""

    def field_values(self, field: str, query: Query | None = None, limit: int = 1000) -> list[tuple[Scalar, int]]:
        """Return the distinct values of a field and how many records have each, the most frequent first, then the smallest."""

    def match_prefix(self, prefix: str, limit: int = 10) -> list[str]:
        """Return up to *limit* ids that begin with *prefix*, in order, of records with any status."""

    def iterate(self, *, skip_damaged: bool = False) -> Iterator[CatalogRecord]:
        """Yield all records with any status by id, from one snapshot, in constant memory.

        A record that cannot be read raises CorruptCatalog, or is skipped with *skip_damaged*. :meth:`check` names such records.
        """

    def edges(self, id: str, direction: Literal["out", "in"], rel: str | None = None) -> list[Edge]: ...

    def put_operation(self, operation: Operation) -> None:
        """Insert the row. Its id is unique, so that a process that was wrongly taken for dead can no longer commit. Raises
        RecordExists.
        """

    def get_operation(self, id: str) -> Operation | None: ...

    def list_operations(
        self, *, status: OperationStatus | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first."""

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context that commits all or nothing. Reads inside see its writes; an exception rolls back; nesting is an
        error.
        """

    def generation(self) -> int:
        """Return the sequence number of the last commit that changed records. Each adds 1 under the commit's lock, without gaps.

        Commits of rows or operations do not change it, so that the progress of a job does not make readers read the records again.
        """

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return the records that changed after generation *after*, oldest first, each once at its last change.

        Returns about *limit* records in complete generations, so that the caller can continue after the generation of the last one.
        """

    def check(self, deep: bool = False) -> list[Finding]:
        """Return the problems of the store; an empty list if there are none."""

    def close(self) -> None: ...
