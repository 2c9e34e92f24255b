"""``CatalogBackend`` over documents in memory. TinyDB stores them in a file; tests use them as a fake.

A state does not change once others can see it: a transaction works on a copy, and a commit replaces the state with the copy.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cmp_to_key
from typing import Any, Literal

from cubeport.catalog.backend import Edge, Finding, Name, Place, Placed, RecordChange, Row, RowSearch, stale, taken
from cubeport.catalog.forms.canonical import dumps, new_id
from cubeport.catalog.models import CatalogRecord, Operation, OperationStatus, storable
from cubeport.catalog.ndjson import Lines, read_records
from cubeport.catalog.query import TEXT_COMPARED, Page, Query, matches, select
from cubeport.catalog.summaries import FieldSummary, count_values, summarise
from cubeport.catalog.terms import Scalar
from cubeport.errors import CatalogMoved, KeyExists, Locked, ReadOnly, RecordExists, TargetExists

type ManagedPath = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Whole:
    """A record that is added as it is. See ``cubeport.catalog.backend.Prepared``."""

    _record: CatalogRecord

    @property
    def id(self) -> str:
        """The record's id."""
        return self._record.id

    @property
    def kind(self) -> str:
        """The record's kind."""
        return self._record.kind

    @property
    def schema_name(self) -> str | None:
        """The name of the record's schema."""
        return self._record.schema_name

    def record(self) -> CatalogRecord:
        """Return the record itself."""
        return self._record


class Wholes(tuple[Whole, ...]):
    """The records of a batch. See ``cubeport.catalog.backend.Batch``."""

    __slots__ = ()

    def without(self, ids: Collection[str]) -> Wholes:
        """Return the batch without these records."""
        return Wholes(each for each in self if each.id not in ids)


@dataclass(slots=True)
class State:
    """The complete contents of a catalog at one generation."""

    catalog_id: str
    generation: int = 0
    retired: str | None = None
    records: dict[str, CatalogRecord] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    changes: dict[str, RecordChange] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    """Record ids by the keys of the records that are not deleted."""
    paths: dict[ManagedPath, str] = field(default_factory=dict)
    """Record ids by the managed paths of their artifacts."""

    def copy(self) -> State:
        """Return an independent copy."""
        return replace(
            self,
            records=dict(self.records),
            operations=dict(self.operations),
            rows=dict(self.rows),
            changes=dict(self.changes),
            keys=dict(self.keys),
            paths=dict(self.paths),
        )

    def put(self, record: CatalogRecord) -> None:
        """Add or replace the record with its keys and paths, or raise and change nothing."""
        old = self.records.get(record.id)
        paths = [path for each in record.artifacts if (path := managed_path(each.locator)) is not None]
        if record.key is not None and record.status != "deleted" and self.keys.get(record.key, record.id) != record.id:
            raise KeyExists(f"A record has the key {record.key!r} already.", next_step="use --on-exists skip or new_version")
        if len(set(paths)) != len(paths) or any(self.paths.get(path, record.id) != record.id for path in paths):
            raise TargetExists("An artifact already has that managed path; no path is used twice.")
        if old is not None:
            self._forget(old)
        self.records[record.id] = record
        if record.key is not None and record.status != "deleted":
            self.keys[record.key] = record.id
        self.paths |= dict.fromkeys(paths, record.id)

    def remove(self, record: CatalogRecord) -> None:
        """Remove the record."""
        self._forget(record)
        del self.records[record.id]

    def _forget(self, record: CatalogRecord) -> None:
        if record.key is not None and self.keys.get(record.key) == record.id:
            del self.keys[record.key]
        for each in record.artifacts:
            if (path := managed_path(each.locator)) is not None:
                self.paths.pop(path, None)


def managed_path(locator: Any) -> ManagedPath | None:
    """Return the profile and path of a managed locator."""
    profile = getattr(locator, "profile", None)
    path = getattr(locator, "path", None) or getattr(locator, "urlpath", None)
    return (profile, path) if isinstance(profile, str) and isinstance(path, str) else None


class _Transaction:
    __slots__ = ("changed", "open", "state", "touched")

    def __init__(self, state: State) -> None:
        self.state = state
        self.changed: dict[str, bool] = {}
        self.touched = False
        self.open = True


class DocumentBackend:
    """The part that TinyDB and the fake share. A subclass decides where the state is stored."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.rows = DocumentRows(self)
        self.read_only = read_only
        self._current: ContextVar[_Transaction | None] = ContextVar("cubeport-documents-transaction", default=None)

    def load_state(self) -> State:
        """Return the newest committed state."""
        raise NotImplementedError

    def save_state(self, state: State) -> None:
        """Commit *state* durably, or raise."""
        raise NotImplementedError

    def lock(self) -> AbstractContextManager[Any]:
        """Return the lock that allows one writer at a time."""
        raise NotImplementedError

    def close(self) -> None:
        """Release all resources. Calling it twice is safe."""

    def check(self, deep: bool = False) -> list[Finding]:
        """Return the problems of the store."""
        raise NotImplementedError

    # --- transactions -----------------------------------------------------------------------------------------------

    def state(self) -> State:
        """Return the state that this context sees: that of its transaction, or the newest committed state."""
        transaction = self._current.get()
        return transaction.state if transaction is not None and transaction.open else self.load_state()

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context that commits all its changes together, or none of them."""
        return self._begun()

    @contextlib.contextmanager
    def _begun(self) -> Iterator[None]:
        with self._begin():
            yield

    @contextlib.contextmanager
    def _begin(self) -> Iterator[_Transaction]:
        current = self._current.get()
        if current is not None and current.open:
            raise RuntimeError("transactions do not nest")
        if self.read_only:
            raise ReadOnly("The catalog is open for reading only.", next_step="open it for writing")
        with self.lock():
            committed = self.load_state()
            if committed.retired is not None:
                raise CatalogMoved.to(committed.retired)
            transaction = _Transaction(committed.copy())
            token = self._current.set(transaction)
            try:
                yield transaction
            finally:
                transaction.open = False
                self._current.reset(token)
            state = transaction.state
            if transaction.changed:
                state.generation += 1
                for each, removed in transaction.changed.items():
                    state.changes[each] = RecordChange(state.generation, each, removed)
            if transaction.changed or transaction.touched:
                self.save_state(state)

    def alone(self) -> AbstractContextManager[object]:
        """Return a transaction beside which nobody else writes, as beside every one."""
        return self.transaction()

    @contextlib.contextmanager
    def write(self) -> Iterator[_Transaction]:
        """Yield the transaction of this context, or a new transaction that commits at the end."""
        current = self._current.get()
        if current is not None and current.open:
            current.touched = True
            yield current
            return
        with self._begin() as transaction:
            transaction.touched = True
            yield transaction

    # --- records ----------------------------------------------------------------------------------------------------

    def add_record(self, record: CatalogRecord) -> CatalogRecord:
        """Create the record. An existing record is never overwritten."""
        storable(record)
        with self.write() as transaction:
            if record.id in transaction.state.records:
                raise RecordExists(f"A record with the id {record.id} already exists.")
            transaction.state.put(record)
            transaction.changed[record.id] = False
        return record

    def add_records(self, records: Iterable[CatalogRecord]) -> None:
        """Create many records in one transaction. Existing records are never overwritten."""
        added: list[CatalogRecord] = []
        with self.write() as transaction:
            try:
                for record in records:
                    added.append(self.add_record(record))  # noqa: PERF401  # those before an error must be known
            except BaseException:
                for each in added:
                    transaction.state.remove(each)
                    del transaction.changed[each.id]
                raise

    @contextlib.contextmanager
    def preparing(self, batches: Iterable[Lines]) -> Iterator[Iterator[Wholes]]:
        """Yield the records of each batch. Nothing is prepared ahead."""
        yield (Wholes(map(Whole, read_records(each.texts, first=each.first))) for each in batches)

    def add_prepared(self, batch: Wholes) -> None:
        """Create the records in one transaction. Existing records are never overwritten."""
        self.add_records(each.record() for each in batch)

    def get_record(self, id: str) -> CatalogRecord | None:
        """Return the record with any status, or ``None``."""
        return self.state().records.get(id)

    def get_by_key(self, key: str) -> CatalogRecord | None:
        """Return the record with this key that is not deleted, or ``None``."""
        state = self.state()
        found = state.keys.get(key)
        return None if found is None else state.records[found]

    def update_record(self, record: CatalogRecord) -> CatalogRecord:
        """Compare-and-set on ``record.version``; return the record as stored."""
        stored = record.model_copy(update={"version": record.version + 1})
        storable(stored)
        with self.write() as transaction:
            self._demand(transaction.state, record.id, record.version)
            transaction.state.put(stored)
            transaction.changed[record.id] = False
        return stored

    def delete_record(self, id: str, version: int) -> None:
        """Remove the row (purge)."""
        with self.write() as transaction:
            transaction.state.remove(self._demand(transaction.state, id, version))
            transaction.changed[id] = True

    @staticmethod
    def _demand(state: State, id: str, version: int) -> CatalogRecord:
        found = state.records.get(id)
        if found is None or found.version != version:
            raise stale(f"Record {id[:8]}")
        return found

    # --- searching --------------------------------------------------------------------------------------------------

    def search(self, query: Query) -> Page:
        """Return the page of records that matches the query."""
        return select(query, self.state().records.values())

    def names(self, query: Query) -> list[Name]:
        """Return the names of the records of the page that matches the query."""
        return [Name(each.id, each.key, each.title) for each in self.search(query)]

    def count(self, query: Query) -> int:
        """Return how many records match."""
        matched = select(replace(query, cursor=None, limit=1, count=True), self.state().records.values()).matched
        return matched or 0

    def list_fields(self, query: Query | None = None) -> list[FieldSummary]:
        """Return the metadata fields and tags of the records that match."""
        return summarise(query, self.state().records.values())

    def field_values(self, field: str, query: Query | None = None, limit: int = 1000) -> list[tuple[Scalar, int]]:
        """Return the distinct values of a field with the number of records that have each."""
        return count_values(query, field, self.state().records.values(), limit)

    def match_prefix(self, prefix: str, limit: int = 10) -> list[str]:
        """Return up to *limit* ids that begin with *prefix*, in order."""
        return sorted(each for each in self.state().records if each.startswith(prefix))[:limit]

    def iterate(self, *, skip_damaged: bool = False) -> Iterator[CatalogRecord]:  # noqa: ARG002  # the whole file is verified
        """Yield every record by id, from one snapshot."""
        records = self.state().records
        for each in sorted(records):
            yield records[each]

    def edges(self, id: str, direction: Literal["out", "in"], rel: str | None = None) -> list[Edge]:
        """Return the lineage edges from (``out``) or to (``in``) the record."""
        found = {Edge(r.id, edge.rel, edge.target) for r in self.state().records.values() for edge in r.lineage}
        mine = (e for e in found if (e.source if direction == "out" else e.target) == id and rel in (None, e.rel))
        return sorted(mine, key=lambda e: (e.source, e.rel, e.target))

    # --- operations -------------------------------------------------------------------------------------------------

    def put_operation(self, operation: Operation) -> None:
        """Insert the row of the operation. An existing row is never overwritten."""
        with self.write() as transaction:
            if operation.operation_id in transaction.state.operations:
                raise RecordExists("An operation with that id already exists.")
            transaction.state.operations[operation.operation_id] = operation

    def get_operation(self, id: str) -> Operation | None:
        """Return the operation, or ``None``."""
        return self.state().operations.get(id)

    def list_operations(
        self, *, status: OperationStatus | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first."""
        found = [
            each
            for each in self.state().operations.values()
            if status in (None, each.status) and (since is None or each.started_at >= since)
        ]
        found.sort(key=lambda each: each.operation_id)
        found.sort(key=lambda each: each.started_at, reverse=True)
        return found[:limit]

    # --- the store --------------------------------------------------------------------------------------------------

    @property
    def catalog_id(self) -> str:
        """The id of the catalog."""
        return self.state().catalog_id

    def generation(self) -> int:
        """Return the sequence number of the last commit that changed a record. Raises CatalogMoved if the catalog was converted."""
        state = self.state()
        if state.retired is not None and not self.read_only:
            raise CatalogMoved.to(state.retired)
        return state.generation

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return the records that changed after generation *after*, each once, oldest first, in complete generations."""
        found = [each for each in self.state().changes.values() if each.generation > after]
        found.sort(key=lambda each: (each.generation, each.id))
        if len(found) <= limit:
            return found
        last = found[limit - 1].generation
        return [each for each in found if each.generation <= last]

    def retire(self, target: str) -> None:
        """Mark the catalog as converted to *target*. From now on writers get CatalogMoved."""
        with self.write() as transaction:
            transaction.state.retired = target

    def load(
        self,
        records: Iterable[CatalogRecord],
        operations: Iterable[Operation],
        rows: Iterable[Row],
        changes: Iterable[RecordChange],
        generation: int,
    ) -> None:
        """Load a complete catalog into this empty one in one commit, with documents, revisions and generations unchanged."""
        with self.write() as transaction:
            state = transaction.state
            for record in records:
                state.put(record)
            state.operations |= {each.operation_id: each for each in operations}
            state.rows |= {(each.table, each.id): each for each in rows}
            state.changes |= {each.id: each for each in changes}
            state.generation = generation

    def all_operations(self) -> Iterator[Operation]:
        """Yield every operation by id."""
        operations = self.state().operations
        for each in sorted(operations):
            yield operations[each]

    def all_rows(self) -> Iterator[Row]:
        """Yield all rows that are stored next to the records, by table and id."""
        rows = self.state().rows
        for each in sorted(rows):
            yield rows[each]


class DocumentRows:
    """``Rows`` in a state. A commit that changes only rows does not change the catalog's generation."""

    def __init__(self, backend: DocumentBackend) -> None:
        self._backend = backend

    def get(self, table: str, id: str) -> Row | None:
        """Return the row, or ``None``."""
        return self._backend.state().rows.get((table, id))

    def get_many(self, table: str, ids: Sequence[str]) -> dict[str, Row]:
        """Return the existing rows by id."""
        rows = self._backend.state().rows
        return {each: rows[table, each] for each in ids if (table, each) in rows}

    def put(self, row: Row) -> Row:
        """Insert the row, or compare-and-set; return it with its new revision."""
        dumps(row.document)
        stored = replace(row, revision=row.revision + 1)
        with self._backend.write() as transaction:
            rows = transaction.state.rows
            old = rows.get((row.table, row.id))
            if row.revision == 0 and old is not None:
                raise taken(f"The {row.table} {row.id}")
            if row.revision != 0 and (old is None or old.revision != row.revision):
                raise stale(f"The {row.table} {row.id}")
            rows[row.table, row.id] = stored
        return stored

    def delete(self, table: str, id: str) -> None:
        """Remove the row if it exists."""
        with self._backend.write() as transaction:
            transaction.state.rows.pop((table, id), None)

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
        """Return rows ordered by ``(seq, id)``, strictly after *after* in this direction."""
        found = sorted(self._cut(table, owner, states), key=lambda row: (row.seq, row.id), reverse=descending)
        if after is not None:
            found = [row for row in found if ((row.seq, row.id) < after if descending else (row.seq, row.id) > after)]
        return found[:limit]

    def claim(self, table: str, states: Sequence[str], take: Callable[[Row], Row | None]) -> Row | None:
        """See ``Rows``."""
        with self._backend.write():
            found = sorted(self._cut(table, None, states), key=lambda row: (row.seq, row.id))
            changed = next((changed for row in found if (changed := take(row)) is not None), None)
            return None if changed is None else self.put(changed)

    def of_owners(self, table: str, owners: Sequence[str]) -> dict[str, list[Row]]:
        """Return the rows of each owner that has any, the highest ``(seq, id)`` first."""
        wanted = set(owners)
        rows: dict[str, list[Row]] = {}
        for row in sorted(self._cut(table, None, None), key=lambda row: (row.seq, row.id), reverse=True):
            if row.owner in wanted:
                rows.setdefault(row.owner, []).append(row)
        return rows

    def find(self, search: RowSearch) -> list[Placed]:
        """Return the rows that match a place, a time and a record, in order."""
        state = self._backend.state()
        found: list[Placed] = []
        for row in self._cut(search.table, None, [search.state]):
            place, owner = Place.of(row.document), state.records.get(row.owner)
            if place is None or owner is None or not place.fits(search.box, search.interval):
                continue
            if (search.ids is None or row.id in search.ids) and matches(
                replace(search.owner, text=None, time=None, bbox=None), owner
            ):
                document = owner.to_mapping()
                at = (*(_sort_value(name, row, place, document) for name, _ in search.order), row.id)
                found.append(Placed(row, owner, at))
        down = [descends for _, descends in search.order]

        def compare(a: Sequence[str | None], b: Sequence[str | None]) -> int:
            for x, y, descends in zip(a, b, [*down, down[-1]], strict=True):
                if x == y:
                    continue
                if x is None or y is None:
                    return 1 if x is None else -1
                return -1 if (x < y) is not descends else 1
            return 0

        def in_order(a: Placed, b: Placed) -> int:
            return compare(a.at, b.at)

        after = search.after
        rest = [each for each in found if after is None or compare(each.at, after) > 0]
        return sorted(rest, key=cmp_to_key(in_order))[: search.limit]

    def newest(self, table: str, state: str, owners: Sequence[str], most: int) -> dict[str, list[Row]]:
        """Return up to *most* searchable rows of each owner, the highest ``(seq, id)`` first."""
        rows = self.of_owners(table, owners)
        found = {owner: [row for row in own if row.state == state and Place.of(row.document)] for owner, own in rows.items()}
        return {owner: own[:most] for owner, own in found.items() if own}

    def neighbours(self, table: str, state: str, ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
        """Return, for each row, the ids of the previous and the next searchable row of its owner."""
        owners = {row.owner for row in self.get_many(table, ids).values()}
        found: dict[str, tuple[str | None, str | None]] = {}
        for own in self.newest(table, state, sorted(owners), len(self._backend.state().rows)).values():
            names = [None, *(row.id for row in own), None]
            found |= {row.id: (names[n + 2], names[n]) for n, row in enumerate(own) if row.id in ids}
        return found

    def next_seq(self, table: str, owner: str = "") -> int:
        """Return the highest ``seq`` of the owner's rows plus one."""
        return max((row.seq for row in self._cut(table, owner, None)), default=0) + 1

    def count(self, table: str, *, owner: str | None = None, states: Sequence[str] | None = None) -> int:
        """Return the number of rows."""
        return sum(1 for _ in self._cut(table, owner, states))

    def _cut(self, table: str, owner: str | None, states: Sequence[str] | None) -> Iterator[Row]:
        for (own_table, _), row in self._backend.state().rows.items():
            if own_table == table and owner in (None, row.owner) and (states is None or row.state in states):
                yield row


def _sort_value(name: str, row: Row, place: Place, owner: Mapping[str, Any]) -> str | None:
    match name:
        case "created" | "start" | "end":
            value = getattr(place, name)
        case "id":
            value = row.id
        case _:
            value = owner[name.removeprefix("owner.")]
    return None if value is None else str(value)[:TEXT_COMPARED]


class MemoryBackend(DocumentBackend):
    """A catalog in memory, for tests."""

    def __init__(self, catalog_id: str | None = None, *, lock_timeout_s: float = 10.0) -> None:
        super().__init__()
        self._committed = State(catalog_id or new_id())
        self._lock = threading.Lock()
        self._lock_timeout_s = lock_timeout_s

    def load_state(self) -> State:
        """Return the newest committed state."""
        return self._committed

    def save_state(self, state: State) -> None:
        """Commit *state*."""
        self._committed = state

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Allow one thread at a time to write."""
        if not self._lock.acquire(timeout=self._lock_timeout_s):
            raise Locked("Another thread writes to the catalog.")
        try:
            yield
        finally:
            self._lock.release()

    def check(self, deep: bool = False) -> list[Finding]:  # noqa: ARG002  # memory cannot be damaged
        """Return nothing."""
        return []
