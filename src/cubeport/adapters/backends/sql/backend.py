"""``CatalogBackend`` in a SQL database."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import batched
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from sqlalchemy import bindparam, case, delete, func, insert, literal_column, or_, select, tuple_, update

from cubeport.adapters.backends.sql import derived, search
from cubeport.adapters.backends.sql.batch import Batch
from cubeport.adapters.backends.sql.dialect import Connection, Cursor
from cubeport.adapters.backends.sql.places import held_boxes, same_boxes
from cubeport.adapters.backends.sql.prepared import preparing
from cubeport.adapters.backends.sql.problems import corrupt
from cubeport.adapters.backends.sql.rows import SqlRows, damaged, differing, read_record
from cubeport.adapters.backends.sql.seal import seal, unseal
from cubeport.adapters.backends.sql.sqlite import SqliteStore, create, lifting
from cubeport.adapters.backends.sql.store import Store, demand_indexes, demand_schema
from cubeport.adapters.backends.sql.tables import (
    INDEXES,
    KEY_IS_LIVE,
    ROW,
    SCHEMA,
    Derived,
    at_most,
    change,
    field,
    field_path,
    lineage,
    operation,
    record,
    record_row,
    state,
)
from cubeport.catalog.backend import Edge, Finding, Name, RecordChange, Row, stale
from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.models import CatalogRecord, Operation, OperationStatus, storable
from cubeport.catalog.ndjson import Lines
from cubeport.catalog.query import Page, Query, read_cursor, sort_key, write_cursor
from cubeport.catalog.summaries import FieldSummary, field_summary
from cubeport.errors import (
    CatalogMoved,
    CorruptCatalog,
    InvalidRequest,
    KeyExists,
    NewerModel,
    RecordExists,
    TargetExists,
)


def _nothing(connection: Connection) -> None:
    """Do nothing: ``migrate`` makes the indexes that are missing, and the tables that are derived."""


def _drop_orders(connection: Connection) -> None:
    """Drop the indexes that no statement uses. Fields are derived, and get numbers when they are rebuilt."""
    for name in ("record_time_start", "record_time_end", "record_generation"):
        connection.execute(f"DROP INDEX IF EXISTS {name}")


MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _nothing, 2: _nothing, 3: _nothing, 4: _drop_orders}
"""``{n: function}`` that convert tables of schema n to schema n + 1, each in one transaction."""


class Migrated(NamedTuple):
    """What a migration did."""

    before: int
    after: int
    """The schemas of the tables."""
    made: Sequence[str]
    """The indexes that were missing."""


_log = logging.getLogger(__name__)

_R = record.c
_GET = select(_R.doc).where(_R.id == bindparam("id"))
_BY_KEY = select(_R.doc).where(_R.key == bindparam("key"), KEY_IS_LIVE)
_STORED = select(_R.n, _R.version, _R.doc).where(_R.id == bindparam("id"))
_INSERT = insert(record).values({each.name: bindparam(each.name) for each in _R if each.name != "n"}).returning(_R.n)
_UPDATE = (
    update(record)
    .values({each.name: bindparam(each.name) for each in _R if each.name not in ("n", "id")})
    .where(_R.n == bindparam("number"), _R.version == bindparam("read"))
)
_DELETE = delete(record).where(_R.n == bindparam("number"))
_PREFIX = at_most(select(_R.id).where(_R.id >= bindparam("first"), _R.id < bindparam("last")).order_by(_R.id))
_ALL = at_most(select(_R.id, _R.doc).where(_R.id > bindparam("last")).order_by(_R.id))
_STATE = select(state)
_AFTER = select(change.c.generation).where(change.c.generation > bindparam("after")).order_by(change.c.generation)
_LAST = _AFTER.limit(literal_column("1")).offset(bindparam("most") - literal_column("1")).scalar_subquery()
_CHANGES = (
    select(change.c.generation, change.c.id, change.c.removed)
    .where(change.c.generation > bindparam("after"), change.c.generation <= func.coalesce(_LAST, literal_column("9e18")))
    .order_by(change.c.generation, change.c.id)
)
_STRAYS = (
    select(_R.id)
    .select_from(record.outerjoin(change, change.c.id == _R.id))
    .where(or_(change.c.generation.is_distinct_from(_R.generation), change.c.removed.is_distinct_from(literal_column("0"))))
)
_WITHOUT_RECORD = select(field.c.n).where(field.c.n.not_in(select(_R.n))).distinct()
_PUT_OPERATION = insert(operation).values({each.name: bindparam(each.name) for each in operation.c})
_ALL_OPERATIONS = select(operation.c.doc).order_by(operation.c.operation_id)
_GET_OPERATION = select(operation.c.doc).where(operation.c.operation_id == bindparam("id"))

_BATCH = 200


class SqlBackend:
    """A catalog in one database. The object can be used by all threads of a process.

    Parameters
    ----------
    store
        The connections; see :meth:`open`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rows = SqlRows(store)
        self._last: tuple[Hashable, int] = None, 0
        """A mark of the store, and the generation that it has."""
        try:
            self._check_schema()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, **options: Any) -> Self:
        """Return the catalog in the SQLite file at *path*. The options are those of ``SqliteStore``.

        Raises
        ------
        CorruptCatalog
            If the file is missing or is not the database of a catalog. It is never treated as an empty catalog.
        NewerModel, BackendUnavailable
            If a newer release wrote it; or an older release, whose files ``cubeport migrate`` converts.
        NetworkFilesystem
            If it is not on a local disk.
        """
        return cls(SqliteStore(path, **options))

    @classmethod
    def create(cls, path: Path, catalog_id: str, **options: Any) -> Self:
        """Make a complete new SQLite file, or none, and open it. Raises CatalogExists."""
        create(path, catalog_id, allow_network_filesystem=bool(options.get("allow_network_filesystem")))
        return cls.open(path, **options)

    @classmethod
    def at(cls, url: str, catalog_id: str, **options: Any) -> Self:
        """Return the catalog in PostgreSQL; options as of ``PostgresStore``.

        Raises
        ------
        CorruptCatalog
            If the database has no such catalog.
        BackendUnavailable
            If the database does not answer.
        """
        from cubeport.adapters.backends.sql.postgresql import PostgresStore

        return cls(PostgresStore(url, catalog_id, **options))

    @property
    def store(self) -> Store:
        """The connections."""
        return self._store

    @property
    def catalog_id(self) -> str:
        """The id of the catalog."""
        found: str = self._state()[0]
        return found

    def _state(self) -> Sequence[Any]:
        row: Sequence[Any] | None = self._store.one(_STATE, {})
        if row is None:
            raise corrupt("The catalog's database has lost its state.")
        return row

    def _check_schema(self) -> None:
        _, schema, _, retired = self._state()
        demand_schema(schema)
        with self._store.reading() as connection:
            demand_indexes(connection.dialect.parts(connection))
        if retired is not None and not self._store.read_only:
            raise CatalogMoved.to(retired)

    # --- records ----------------------------------------------------------------------------------------------------

    def add_record(self, record: CatalogRecord) -> CatalogRecord:
        """Create the record. An existing record is never overwritten."""
        document, text = storable(record)
        with self._store.write() as transaction, _naming(self._store, record):
            if transaction.execute(_GET, {"id": record.id}).fetchone() is not None:
                # Looked up again, because the database may name the key first if both the id and the key exist.
                raise RecordExists(f"A record with the id {record.id} already exists.")
            values = dict(zip(ROW, (*record_row(document, text), transaction.generation), strict=True))
            number = _number(transaction.execute(_INSERT, values))
            derived.write(transaction.connection, transaction.paths, number, record.id, None, Derived.of(document))
            transaction.note(record.id)
        return record

    def add_records(self, records: Iterable[CatalogRecord]) -> None:
        """Create many records in one transaction, and never overwrite. Rows are inserted in batches."""
        with self._store.write() as transaction:
            for batch in batched(records, derived.BULK):
                self.add_prepared(Batch.of(batch, transaction.numbers(len(batch)), transaction.paths))

    @contextlib.contextmanager
    def preparing(self, batches: Iterable[Lines]) -> Iterator[Iterator[Batch]]:
        """See ``CatalogBackend``. Many batches are prepared in another process."""
        transaction = self._store.current()
        if transaction is None:
            raise RuntimeError("records are prepared in a transaction, which numbers them")
        with preparing(batches, transaction.numbers, transaction.paths) as prepared:
            yield prepared

    def add_prepared(self, batch: Batch) -> None:
        """Create the records, and never overwrite."""
        try:
            with self._store.batch(batch.numbers) as transaction:
                transaction.enlarge()
                derived.insert(transaction.connection, transaction.paths, batch, lambda _: transaction.generation)
                transaction.changed |= dict.fromkeys((each.id for each in batch), False)
        except (RecordExists, KeyExists, TargetExists):
            with self._store.write():
                for each in batch:  # one by one, because the error must name the record
                    self.add_record(each.record())
                raise

    def get_record(self, id: str) -> CatalogRecord | None:
        """Return the record with any status; ``None`` only if the database says that there is none."""
        found = self._store.one(_GET, {"id": id})
        return None if found is None else read_record(found[0])

    def get_by_key(self, key: str) -> CatalogRecord | None:
        """Return the record with this key that is not deleted, or ``None``."""
        found = self._store.one(_BY_KEY, {"key": key})
        return None if found is None else read_record(found[0])

    def update_record(self, record: CatalogRecord) -> CatalogRecord:
        """Compare-and-set on ``record.version``; return the record as stored."""
        stored = record.model_copy(update={"version": record.version + 1})
        document, text = storable(stored)
        with self._store.write() as transaction, _naming(self._store, record):
            number, old = self._stored(transaction.connection, record.id, record.version)
            values = dict(zip(ROW, (*record_row(document, text), transaction.generation), strict=True))
            del values["id"]
            values |= {"number": number, "read": record.version}
            if transaction.execute(_UPDATE, values).rowcount != 1:
                raise stale(f"Record {record.id[:8]}")
            derived.write(transaction.connection, transaction.paths, number, record.id, Derived.of(old), Derived.of(document))
            transaction.note(record.id)
        return stored

    def delete_record(self, id: str, version: int) -> None:
        """Remove the row (purge)."""
        with self._store.write() as transaction:
            number, old = self._stored(transaction.connection, id, version)
            derived.write(transaction.connection, transaction.paths, number, id, Derived.of(old), None)
            transaction.execute(_DELETE, {"number": number})
            transaction.note(id, removed=True)

    def _stored(self, connection: Connection, id: str, version: int) -> tuple[int, dict[str, Any]]:
        row = connection.execute(connection.dialect.prepared(_STORED), {"id": id}).fetchone()
        if row is None or row[1] != version:
            raise stale(f"Record {id[:8]}")
        return row[0], read_record(row[2]).to_mapping()

    # --- searching --------------------------------------------------------------------------------------------------

    def search(self, query: Query) -> Page:
        """Return the page of records that matches the query."""
        after = read_cursor(query)
        with self._store.snapshot() as connection:
            start = search.Start.of(connection, query)
            most = query.limit + 1
            while True:
                rows, following = search.page_rows(connection, query, start, after, most, (_R.id, _R.doc))
                found, damaged = _readable(rows)
                if len(found) > query.limit or len(rows) < most:
                    break
                most += 2 * len(damaged)  # unreadable records are skipped, and later records take their places
            matched, whole = search.count_records(connection, query, start) if query.count else (None, True)
        items = found[: query.limit]
        if len(found) > query.limit:
            following = sort_key(query, items[-1].to_mapping())
        return Page(items, None if following is None else write_cursor(query, following), matched, not whole, damaged)

    def names(self, query: Query) -> list[Name]:
        """Return the names of the records of the page that matches the query, without reading their documents."""
        with self._store.snapshot() as connection:
            start = search.Start.of(connection, query)
            rows, _ = search.page_rows(connection, query, start, read_cursor(query), query.limit, (_R.id, _R.key, _R.title))
        return [Name(*row) for row in rows]

    def count(self, query: Query) -> int:
        """Return how many records match."""
        with self._store.snapshot() as connection:
            return search.count_records(connection, query, search.Start.of(connection, query))[0]

    def list_fields(self, query: Query | None = None) -> list[FieldSummary]:
        """Return the metadata fields and tags of the records that match; without a query, of all active records."""
        with self._store.snapshot() as connection:
            numbers = search.matching_numbers(connection, query or Query())
            return _summaries(connection, numbers)

    def field_values(self, field: str, query: Query | None = None, limit: int = 1000) -> list[tuple[Any, int]]:
        """Return the distinct values of a field with the number of records that have each, most frequent first."""
        with self._store.snapshot() as connection:
            return search.distinct_values(connection, field, query or Query(), limit)

    def match_prefix(self, prefix: str, limit: int = 10) -> list[str]:
        """Return up to *limit* ids that begin with *prefix*, in order."""
        return [row[0] for row in self._store.all(_PREFIX, {"first": prefix, "last": prefix + "g", "most": limit})]

    def iterate(self, *, skip_damaged: bool = False) -> Iterator[CatalogRecord]:
        """Yield every record by id, from one snapshot, in constant memory."""
        with self._store.snapshot() as connection:
            last = ""
            while rows := connection.execute(connection.dialect.prepared(_ALL), {"last": last, "most": _BATCH}).fetchall():
                last = rows[-1][0]
                for _, text in rows:
                    try:
                        found = read_record(text)
                    except CorruptCatalog:
                        if not skip_damaged:
                            raise
                        continue
                    yield found

    def edges(self, id: str, direction: Literal["out", "in"], rel: str | None = None) -> list[Edge]:
        """Return the lineage edges from (``out``) or to (``in``) the record."""
        c = lineage.c
        statement = select(c.src, c.rel, c.dst).where((c.src if direction == "out" else c.dst) == id)
        if rel is not None:
            statement = statement.where(c.rel == rel)
        with self._store.reading() as connection:
            return [Edge(*row) for row in search.run(connection, statement.order_by(c.src, c.rel, c.dst))]

    # --- operations -------------------------------------------------------------------------------------------------

    def put_operation(self, operation: Operation) -> None:
        """Insert the row of the operation. An existing row is never overwritten."""
        document = operation.to_mapping()
        columns = ("operation_id", "parent_id", "operation_type", "status", "started_at", "ended_at")
        with self._store.write() as transaction:
            transaction.execute(_PUT_OPERATION, {n: document[n] for n in columns} | {"doc": seal(operation.to_json())})

    def get_operation(self, id: str) -> Operation | None:
        """Return the operation; ``None`` only if the database says that there is none."""
        found = self._store.one(_GET_OPERATION, {"id": id})
        return None if found is None else _read_operation(found[0])

    def list_operations(
        self, *, status: OperationStatus | None = None, since: datetime | None = None, limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first."""
        c = operation.c
        statement = select(c.doc).order_by(c.started_at.desc(), c.operation_id).limit(limit)
        if status is not None:
            statement = statement.where(c.status == status)
        if since is not None:
            statement = statement.where(c.started_at >= timestamp(since))
        with self._store.reading() as connection:
            texts = [row[0] for row in search.run(connection, statement)]
        return [each for text in texts if (each := _operation_or_none(text)) is not None]

    # --- the store --------------------------------------------------------------------------------------------------

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context that commits all its changes together, or none of them."""
        return self._transaction()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._store.begin(commit=True):
            yield

    def alone(self) -> AbstractContextManager[object]:
        """Return a transaction beside which nobody else writes."""
        return self._store.begin(state=self._store.dialect.alone_state)

    def generation(self) -> int:
        """Return the sequence number of the last commit that changed a record.

        Raises
        ------
        CatalogMoved, NewerModel
            If the catalog was converted, or migrated by a release whose tables this one does not know.
        """
        # The order matters: a commit that the mark does not tell of still holds the lock, or the statement sees it.
        mark = self._store.mark() if self._store.current() is None else None
        known, last = self._last
        if mark is not None and mark == known:
            return last
        is_quiet = mark is not None and self._store.is_quiet()
        _, schema, generation, retired = self._state()
        demand_schema(schema)
        if retired is not None and not self._store.read_only:
            raise CatalogMoved.to(retired)
        if is_quiet:
            self._last = mark, int(generation)
        return int(generation)

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return the records that changed after generation *after*, each once, oldest first, in complete generations."""
        rows = self._store.all(_CHANGES, {"after": after, "most": limit})
        return [RecordChange(generation, id_, bool(removed)) for generation, id_, removed in rows]

    def check(self, deep: bool = False) -> list[Finding]:
        """Return problems found by the database's own check; with *deep*, also differences between derived tables and documents."""
        store = self._store
        try:
            with store.snapshot() as connection:
                found = list(store.dialect.damage(connection, deep))
                if deep and not found:
                    found = [*_differences(connection), *_bits(connection)]
            if deep and not found:
                found = list(store.words_damage())
        except CorruptCatalog as exc:
            found = [Finding("corrupt-catalog", store.name, exc.message, exc.next_step)]
        except store.dialect.errors as exc:  # our statements are correct, so the tables must be damaged
            found = [Finding("corrupt-catalog", store.name, str(exc), "restore a backup")]
        return [*found, *store.warnings()]

    def retire(self, target: str) -> None:
        """Mark the catalog as converted to *target*. From now on writers get CatalogMoved."""
        with self._store.write() as transaction:
            transaction.connection.execute("UPDATE state SET retired = ?", (target,))

    def load(
        self,
        records: Iterable[CatalogRecord],
        operations: Iterable[Operation],
        rows: Iterable[Row],
        changes: Iterable[RecordChange],
        generation: int,
    ) -> None:
        """Load a complete catalog into this empty one in one commit, with documents, revisions and generations unchanged."""
        with self._store.begin() as transaction:
            transaction.enlarge()
            connection = transaction.connection
            log = [(each.id, each.generation, int(each.removed)) for each in changes]
            changed_in = {each: at for each, at, _ in log}
            connection.dialect.fill(connection, "change", ("id", "generation", "removed"), log)
            for batch in batched(records, derived.BULK):
                prepared = Batch.of(batch, transaction.numbers(len(batch)), transaction.paths)
                derived.insert(connection, transaction.paths, prepared, lambda id_: changed_in.get(id_, generation))
            for operation in operations:
                self.put_operation(operation)
            for row in rows:
                self.rows.restore(row)
            connection.execute("UPDATE state SET generation = ?", (generation,))

    def all_operations(self) -> Iterator[Operation]:
        """Yield every operation by id."""
        with self._store.snapshot() as connection:
            for (text,) in connection.execute(connection.dialect.prepared(_ALL_OPERATIONS)):
                yield _read_operation(text)

    def all_rows(self) -> Iterator[Row]:
        """Yield all rows that are stored next to the records, by table and id."""
        yield from self.rows.all()

    def close(self) -> None:
        """Close the connections. Calling it twice is safe."""
        self._store.close()


def migrate(
    path: Path, *, lock_path: Path | None = None, migrations: Mapping[int, Callable[[Connection], None]] = MIGRATIONS
) -> Migrated:
    """Convert the database to the schema of this release, one transaction for each step, and make the indexes that are missing.

    Then all derived tables are rebuilt from the documents. This also repairs tables that differ from them (``index-differs``).
    Where only indexes were missing, nothing else is touched, so that servers go on meanwhile.
    """
    with lifting(path, lock_path) as connection:
        return _lift(connection, migrations)


def migrate_database(url: str, catalog_id: str) -> Migrated:
    """Do as :func:`migrate` does, in PostgreSQL."""
    from cubeport.adapters.backends.sql import postgresql

    with postgresql.lifting(url, catalog_id) as connection:
        return _lift(connection, MIGRATIONS)


def _lift(connection: Connection, migrations: Mapping[int, Callable[[Connection], None]]) -> Migrated:
    newest = max((n + 1 for n in migrations), default=SCHEMA)
    (before,) = connection.execute("SELECT schema FROM state").fetchone() or (newest,)
    if before > newest:
        raise NewerModel(f"The database has schema {before}; this release knows up to {newest}.", next_step="upgrade cubeport")
    for step in range(before, newest):
        _whole(connection, step + 1, migrations[step])
    there = connection.dialect.parts(connection)
    missing = {name: index for name, index in INDEXES.items() if name not in there}
    if before < newest or not missing:
        _whole(connection, newest, derived.rebuild)  # with the indexes of the derived tables
    for name in missing.keys() - connection.dialect.parts(connection):
        connection.dialect.make(connection, missing[name])
    return Migrated(before, newest, sorted(missing))


def _whole(connection: Connection, schema: int, act: Callable[[Connection], None]) -> None:
    """Call *act* and record the resulting schema, in one transaction, beside which nobody else writes."""
    connection.execute(connection.dialect.begin)
    try:
        connection.execute(connection.dialect.alone_state)
        act(connection)
        connection.execute("UPDATE state SET schema = ?", (schema,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


# --- checks ----------------------------------------------------------------------------------------------------------


def _differences(connection: Connection) -> Iterator[Finding]:
    for number, record_id, text in derived.numbered(connection):
        try:
            document = read_record(text).to_mapping()
            ours = Derived.of(document)
        except CorruptCatalog as exc:
            yield Finding("document-differs", f"record {record_id}", exc.message, "restore a backup")
            continue
        found = _held(connection, number)
        wrong = [name for name in ("artifacts", "edges", "words") if getattr(found, name) != getattr(ours, name)]
        if set(found.fields) != set(ours.fields):
            wrong.insert(0, "fields")
        own = dict(zip(ROW, (*record_row(document, ""), 0), strict=True))
        if _own_columns(connection, number) != {name: own[name] for name in _OWN}:
            wrong.append("columns")
        if not same_boxes(found.boxes, ours.boxes):
            wrong.append("boxes")
        if wrong:
            words = f"the record's {', '.join(wrong)} differ from its document"
            yield Finding("index-differs", record_id, words, "cubeport migrate")
    for (number,) in search.run(connection, _WITHOUT_RECORD):
        yield Finding("index-differs", "field", f"has rows of record {number}, which does not exist", "cubeport migrate")
    for row in differing(connection):
        yield Finding("index-differs", row, "the index of places differs from the document", "cubeport migrate")


_OWN = [each.name for each in _R if each.name not in ("n", "generation", "doc")]


def _own_columns(connection: Connection, number: int) -> dict[str, Any]:
    found = connection.execute(f"SELECT {', '.join(_OWN)} FROM record WHERE n = ?", (number,)).fetchone()  # noqa: S608  # our names
    return dict(zip(_OWN, found, strict=True))


def _bits(connection: Connection) -> Iterator[Finding]:
    """Yield problems of operations, of rows next to the records, and of numbers that are not in any document."""
    columns = ("operation_id", "parent_id", "operation_type", "status", "started_at", "ended_at")
    for *own, text in connection.execute(f"SELECT {', '.join(columns)}, doc FROM operation"):  # noqa: S608  # our own names
        try:
            said = _read_operation(text).to_mapping()
        except CorruptCatalog as exc:
            yield Finding("document-differs", f"operation {own[0]}", exc.message, "restore a backup")
            continue
        if own != [said[name] for name in columns]:
            yield Finding("document-differs", f"operation {own[0]}", "its columns differ from its document", "restore a backup")
    for place, problem in damaged(connection):
        yield Finding("document-differs", place, problem.message, "restore a backup")
    for (record_id,) in connection.execute(connection.dialect.prepared(_STRAYS)):
        yield Finding("index-differs", f"record {record_id}", "its generation differs from the list of changes", "restore a backup")
    newest, state = connection.execute("SELECT (SELECT max(generation) FROM change), generation FROM state").fetchone()
    if newest is not None and newest != state:
        yield Finding("index-differs", "state", f"the last change has generation {newest}, the catalog {state}", "restore a backup")


def _held(connection: Connection, number: int) -> Derived:
    """Return the record's derived rows in the tables."""

    def rows(columns: str, name: str) -> list[Any]:
        return connection.execute(f"SELECT {columns} FROM {name} WHERE n = ?", (number,)).fetchall()  # noqa: S608  # our own names

    text = connection.execute("SELECT words FROM record_text WHERE rowid = ?", (number,)).fetchone()
    boxes = held_boxes(connection, "record_box", number)
    return Derived(
        rows("name, type, num, text, rank", "field LEFT JOIN field_path ON id = path"),
        frozenset(rows("artifact_id, role, format, status, profile, path, size", "artifact")),
        frozenset(rows("rel, dst", "lineage")),
        text[0] if text else "",
        tuple(boxes),
    )


def _summaries(connection: Connection, numbers: Any | None) -> list[FieldSummary]:
    c, name = field.c, field_path.c.name
    shown = select(name, field_path.c.id).where(or_(name == "tags", (name > "metadata.") & (name < "metadata/")))
    names: dict[int, str] = {number: path for path, number in search.run(connection, shown)}
    ours = c.path.in_(select(shown.subquery().c.id))
    among = [] if numbers is None else [c.n.in_(numbers)]
    counts = select(c.path, c.type, func.sum(case((c.rank >= 1, 1), else_=0)), func.sum(case((c.rank == 2, 1), else_=0))).where(
        ours, *among
    )
    types: dict[int, dict[int, int]] = {}
    records: dict[int, int] = {}
    for path, code, of_type, first in search.run(connection, counts.group_by(c.path, c.type)):
        types.setdefault(path, {})[code] = of_type
        records[path] = records.get(path, 0) + first
    schemas: dict[int, set[str]] = {}
    own = select(c.path, _R.schema_name).distinct().join(record, _R.n == c.n).where(_R.schema_name.is_not(None), ours, *among)
    if search.run(connection, select(_R.n).where(_R.schema_name.is_not(None)).limit(1)):
        for path, schema in search.run(connection, own):
            schemas.setdefault(path, set()).add(schema)
    return sorted(
        (
            field_summary(names[path], types[path], records[path], list(_smallest(connection, path, among)), schemas.get(path, ()))
            for path in types
        ),
        key=lambda each: each.field,
    )


def _smallest(connection: Connection, path: int, among: list[Any]) -> Iterator[tuple[int, Any]]:
    """Yield the five smallest values of a field, with one index lookup for each."""
    c = field.c
    behind = tuple_(c.type, c.num, c.text) > tuple_(bindparam("t", 0), bindparam("x", 0.0), bindparam("s", ""))
    ordered = select(c.type, c.num, c.text).where(c.path == path, behind, *among).order_by(c.type, c.num, c.text).limit(1)
    text, values = connection.dialect.compiled(ordered)
    last = (0, 0.0, "")
    for _ in range(5):
        found = connection.execute(text, values | dict(zip("txs", last, strict=True))).fetchone()
        if found is None:
            return
        last = found
        yield last[0], last[2] if last[0] == 2 else last[1]


# --- small ----------------------------------------------------------------------------------------------------------


def _number(inserted: Cursor) -> int:
    """Return the number of the record that was inserted."""
    ((number,),) = inserted.fetchall()
    return int(number)


def _readable(rows: Sequence[tuple[str, str]]) -> tuple[tuple[CatalogRecord, ...], tuple[str, ...]]:
    """Return the records, and the ids of damaged records."""
    found, damaged = [], []
    for record_id, text in rows:
        try:
            found.append(read_record(text))
        except CorruptCatalog as exc:
            _log.error("record %s is missing from a list: %s", record_id, exc.message)
            damaged.append(record_id)
    return tuple(found), tuple(damaged)


def _read_operation(text: str) -> Operation:
    try:
        return Operation.from_mapping(json.loads(unseal(text, "An operation")))
    except (InvalidRequest, ValueError) as exc:
        raise corrupt(f"An operation in the catalog's database is not valid: {exc}") from exc


def _operation_or_none(text: str) -> Operation | None:
    """Return the operation. If it is damaged, log this and return ``None``, so that one row cannot break a whole list."""
    try:
        return _read_operation(text)
    except CorruptCatalog as exc:
        _log.error("an operation is missing from a list: %s", exc.message)
        return None


@contextlib.contextmanager
def _naming(store: Store, record: CatalogRecord) -> Iterator[None]:
    """Add the id of the record to a conflict."""
    try:
        with store.translated:
            yield
    except RecordExists:
        raise RecordExists(f"A record with the id {record.id} already exists.") from None
    except KeyExists:
        raise KeyExists(f"A record has the key {record.key!r} already.", next_step="use --on-exists skip or new_version") from None
    except TargetExists:
        raise TargetExists("An artifact of another record has the same managed path; no path is used twice.") from None
