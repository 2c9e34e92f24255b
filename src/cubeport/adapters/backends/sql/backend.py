"""``CatalogBackend`` in SQLite."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import batched
from pathlib import Path
from typing import Any, Literal, Self

from sqlalchemy import Index, bindparam, case, delete, func, insert, literal_column, or_, select, tuple_, update
from sqlalchemy.schema import CreateIndex

from cubeport.adapters.backends.sql import search
from cubeport.adapters.backends.sql.places import same_boxes
from cubeport.adapters.backends.sql.rows import SqlRows, damaged, differing, read_record, rebuild
from cubeport.adapters.backends.sql.seal import seal, unseal
from cubeport.adapters.backends.sql.sqlite import TRANSLATED, Store, Transaction, configure, corrupt, moved
from cubeport.adapters.backends.sql.tables import (
    BY_KEY,
    BY_TITLE,
    DERIVED,
    KEY_IS_LIVE,
    SCHEMA,
    Derived,
    at_most,
    change,
    ddl,
    field,
    lineage,
    operation,
    record,
    record_row,
    sql,
    state,
)
from cubeport.catalog.backend import Edge, Finding, RecordChange, Row, stale
from cubeport.catalog.disk.durable import make_folders, open_file, sync_folder
from cubeport.catalog.disk.locks import FileLock
from cubeport.catalog.disk.mounts import is_network, mount_type, refuse_network
from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.models import CatalogRecord, Operation, OperationStatus, storable
from cubeport.catalog.query import FieldSummary, Page, Query, field_summary, read_cursor, sort_key, write_cursor
from cubeport.errors import (
    BackendUnavailable,
    CatalogExists,
    CorruptCatalog,
    InvalidRequest,
    KeyExists,
    Locked,
    NewerModel,
    NoSpace,
    RecordExists,
    StoreUnavailable,
    TargetExists,
)


def _making(index: Index) -> Callable[[sqlite3.Connection], None]:
    def make(connection: sqlite3.Connection) -> None:
        connection.execute(sql(CreateIndex(index)))

    return make


def _index_places(connection: sqlite3.Connection) -> None:
    """Do nothing: the tables of places are derived, and ``migrate`` rebuilds them."""


MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _making(BY_KEY), 2: _index_places, 3: _making(BY_TITLE)}
"""``{n: function}`` that convert tables of schema n to schema n + 1, each in one transaction."""

_log = logging.getLogger(__name__)

_R = record.c
_GET = sql(select(_R.doc).where(_R.id == bindparam("id")))
_BY_KEY = sql(select(_R.doc).where(_R.key == bindparam("key"), KEY_IS_LIVE))
_STORED = sql(select(_R.n, _R.version, _R.doc).where(_R.id == bindparam("id")))
_INSERT = sql(insert(record).values({each.name: bindparam(each.name) for each in _R if each.name != "n"}))
_UPDATE = sql(
    update(record)
    .values({each.name: bindparam(each.name) for each in _R if each.name not in ("n", "id")})
    .where(_R.n == bindparam("number"), _R.version == bindparam("read"))
)
_INSERT_NUMBERED = sql(insert(record).values({each.name: bindparam(each.name) for each in _R}))
_DELETE = sql(delete(record).where(_R.n == bindparam("number")))
_PREFIX = sql(at_most(select(_R.id).where(_R.id >= bindparam("first"), _R.id < bindparam("last")).order_by(_R.id)))
_ALL = sql(at_most(select(_R.id, _R.doc).where(_R.id > bindparam("last")).order_by(_R.id)))
_NUMBERED = sql(at_most(select(_R.n, _R.id, _R.doc).where(_R.n > bindparam("last")).order_by(_R.n)))
_STATE = sql(select(state))
_AFTER = select(change.c.generation).where(change.c.generation > bindparam("after")).order_by(change.c.generation)
_LAST = _AFTER.limit(literal_column("1")).offset(bindparam("most") - literal_column("1")).scalar_subquery()
_CHANGES = sql(
    select(change.c.generation, change.c.id, change.c.removed)
    .where(change.c.generation > bindparam("after"), change.c.generation <= func.coalesce(_LAST, literal_column("9e18")))
    .order_by(change.c.generation, change.c.id)
)
_PUT_OPERATION = sql(insert(operation).values({each.name: bindparam(each.name) for each in operation.c}))
_GET_OPERATION = sql(select(operation.c.doc).where(operation.c.operation_id == bindparam("id")))

# Rows of the derived tables, by position. Hundreds of them are written and removed at a time.
_IN = {
    "fields": "INSERT INTO field (path, type, num, text, rank, n) VALUES (?, ?, ?, ?, ?, ?)",
    "artifacts": "INSERT INTO artifact (artifact_id, role, format, status, profile, path, size, n) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "edges": "INSERT INTO lineage (rel, dst, src, n) VALUES (?, ?, ?, ?)",
}
_OUT = {
    "fields": "DELETE FROM field WHERE path = ? AND type = ? AND num = ? AND text = ? AND n = ?",
    "artifacts": "DELETE FROM artifact WHERE artifact_id = ? AND n = ?",
    "edges": "DELETE FROM lineage WHERE rel = ? AND dst = ? AND n = ?",
}
_BATCH = 200
_BULK = 5_000
"""How many records have their rows sorted together. A larger number would only use more memory."""


class SqlBackend:
    """A catalog in one SQLite file. The object can be used by all threads of a process.

    Parameters
    ----------
    path
        The existing database file; see :meth:`create`.
    lock_path
        The lock file of all writers; by default ``locks/catalog.lock`` next to the database file.
    """

    def __init__(
        self,
        path: Path,
        *,
        lock_path: Path | None = None,
        read_only: bool = False,
        lock_timeout_s: float = 10.0,
        allow_network_filesystem: bool = False,
    ) -> None:
        self._network = mount_type(path) if is_network(mount_type(path)) else None
        if not allow_network_filesystem and not read_only:
            refuse_network(path)
        elif self._network and not read_only:
            warnings.warn(f"{path} is on {self._network}, where cubeport guarantees nothing", RuntimeWarning, stacklevel=3)
        _demand_database(path)
        lock_path = lock_path or path.parent / "locks" / "catalog.lock"
        if not read_only:
            make_folders(lock_path.parent)
        self._store = Store(path, lock_path, read_only=read_only, lock_timeout_s=lock_timeout_s, wal=not self._network)
        self.rows = SqlRows(self._store)
        try:
            self._check_schema()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path, **options: Any) -> Self:
        """Return the catalog in the file at *path*. The options are those of the class.

        Raises
        ------
        CorruptCatalog
            If the file is missing or is not the database of a catalog. It is never treated as an empty catalog.
        NewerModel, BackendUnavailable
            If a newer release wrote it; or an older release, whose files ``cubeport migrate`` converts.
        NetworkFilesystem
            If it is not on a local disk.
        """
        return cls(path, **options)

    @classmethod
    def create(cls, path: Path, catalog_id: str, **options: Any) -> Self:
        """Make a complete new database file, or none, and open it. Raises CatalogExists."""
        if not options.get("allow_network_filesystem"):
            refuse_network(path)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            # SQLite would make it readable for everyone. Its -wal and -shm files copy the mode of this file.
            os.close(open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection, TRANSLATED:
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN")
                for statement in ddl():
                    connection.execute(statement)
                connection.execute("INSERT INTO state VALUES (?, ?, 0, NULL)", (catalog_id, SCHEMA))
                connection.execute("COMMIT")
                if not is_network(mount_type(path)):
                    connection.execute("PRAGMA journal_mode = WAL")
            try:
                os.link(part, path)
            except FileExistsError:
                raise CatalogExists(f"There is already a catalog: {path}.", next_step="open it") from None
        finally:
            for leftover in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", "-journal"))):
                leftover.unlink(missing_ok=True)
        sync_folder(path.parent)
        return cls(path, **options)

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
        if schema > SCHEMA:
            raise NewerModel(f"The database has schema {schema}; this release knows up to {SCHEMA}.", next_step="upgrade cubeport")
        if schema < SCHEMA:
            raise BackendUnavailable(
                f"The database has schema {schema}; this release needs {SCHEMA}.", next_step="cubeport migrate"
            )
        if retired is not None and not self._store.read_only:
            raise moved(retired)

    # --- records ----------------------------------------------------------------------------------------------------

    def add_record(self, record: CatalogRecord) -> CatalogRecord:
        """Create the record. An existing record is never overwritten."""
        document, text = storable(record)
        with self._store.write() as transaction, _naming(record):
            if transaction.connection.execute(_GET, {"id": record.id}).fetchone() is not None:
                # Looked up again, because the database may name the key first if both the id and the key exist.
                raise RecordExists(f"A record with the id {record.id} already exists.")
            values = record_row(document, text, transaction.generation)
            number = transaction.connection.execute(_INSERT, values).lastrowid or 0
            _write_derived(transaction.connection, number, record.id, None, Derived.of(document))
            transaction.note(record.id)
        return record

    def add_records(self, records: Iterable[CatalogRecord]) -> None:
        """Create many records in one transaction, and never overwrite. Rows are inserted in batches, sorted like their tables."""
        with self._store.write() as transaction:
            for batch in batched(records, _BULK):
                try:
                    with self._store.write(), TRANSLATED:
                        _insert_all(transaction, batch)
                except (RecordExists, KeyExists, TargetExists):
                    for record in batch:  # one by one, because the error must name the record
                        self.add_record(record)
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
        with self._store.write() as transaction, _naming(record):
            number, old = self._stored(transaction.connection, record.id, record.version)
            values = record_row(document, text, transaction.generation) | {"number": number, "read": record.version}
            del values["id"]
            if transaction.connection.execute(_UPDATE, values).rowcount != 1:
                raise stale(f"Record {record.id[:8]}")
            _write_derived(transaction.connection, number, record.id, Derived.of(old), Derived.of(document))
            transaction.note(record.id)
        return stored

    def delete_record(self, id: str, version: int) -> None:
        """Remove the row (purge)."""
        with self._store.write() as transaction:
            number, old = self._stored(transaction.connection, id, version)
            _write_derived(transaction.connection, number, id, Derived.of(old), None)
            transaction.connection.execute(_DELETE, {"number": number})
            transaction.note(id, removed=True)

    def _stored(self, connection: sqlite3.Connection, id: str, version: int) -> tuple[int, dict[str, Any]]:
        row = connection.execute(_STORED, {"id": id}).fetchone()
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
                rows = search.page_documents(connection, query, start, after, most)
                found, damaged = _readable(rows)
                if len(found) > query.limit or len(rows) < most:
                    break
                most += 2 * len(damaged)  # unreadable records are skipped, and later records take their places
            matched = search.count_records(connection, start) if query.count else None
        items, more = found[: query.limit], len(found) > query.limit
        return Page(items, write_cursor(query, sort_key(query, items[-1].to_mapping())) if more else None, matched, damaged)

    def count(self, query: Query) -> int:
        """Return how many records match."""
        with self._store.snapshot() as connection:
            return search.count_records(connection, search.Start.of(connection, query))

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
            while rows := connection.execute(_ALL, {"last": last, "most": _BATCH}).fetchall():
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
            transaction.connection.execute(_PUT_OPERATION, {n: document[n] for n in columns} | {"doc": seal(operation.to_json())})

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
        with self._store.begin():
            yield

    def generation(self) -> int:
        """Return the sequence number of the last commit that changed a record. Raises CatalogMoved if the catalog was converted."""
        _, _, generation, retired = self._state()
        if retired is not None and not self._store.read_only:
            raise moved(retired)
        return int(generation)

    def changes(self, after: int, limit: int = 1000) -> list[RecordChange]:
        """Return the records that changed after generation *after*, each once, oldest first, in complete generations."""
        rows = self._store.all(_CHANGES, {"after": after, "most": limit})
        return [RecordChange(generation, id_, bool(removed)) for generation, id_, removed in rows]

    def check(self, deep: bool = False) -> list[Finding]:
        """Return problems found by SQLite's own check; with *deep*, also differences between derived tables and documents."""
        try:
            with self._store.snapshot() as connection:
                found = list(_damage(connection, deep))
                if deep and not found:
                    found = [*_differences(connection), *_bits(connection)]
            if deep and not found:
                found = list(self._words())
        except CorruptCatalog as exc:
            found = [Finding("corrupt-catalog", self._store.path.name, exc.message, exc.next_step)]
        except sqlite3.Error as exc:  # our statements are correct, so the tables must be damaged
            found = [Finding("corrupt-catalog", self._store.path.name, str(exc), "restore a backup")]
        if self._network:
            words = f"is on {self._network}, where cubeport guarantees nothing"
            found.append(Finding("network-filesystem", self._store.path.name, words, "move it to a local disk", "warn"))
        return found

    def _words(self) -> Iterator[Finding]:
        """Yield problems of the full-text index. Its check has the form of a write but changes nothing."""
        if not os.access(self._store.path, os.W_OK):
            yield Finding(
                "not-checked", "record_text", "the index of words cannot be checked in a file that is read-only", None, "warn"
            )
            return
        try:
            make_folders(self._store.lock_path.parent)
            with (
                FileLock(self._store.lock_path, {}, self._store.lock_timeout_s),
                contextlib.closing(sqlite3.connect(self._store.path, isolation_level=None)) as connection,
            ):
                configure(connection, wal=not self._network, read_only=False)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.execute("INSERT INTO record_text (record_text) VALUES ('integrity-check')")
                except sqlite3.DatabaseError as exc:
                    yield Finding("index-differs", "record_text", f"the index of words is damaged ({exc})", "cubeport migrate")
                finally:
                    connection.execute("ROLLBACK")
        except (Locked, StoreUnavailable, NoSpace, OSError) as exc:
            yield Finding("not-checked", "record_text", f"the index of words was not checked: {exc}", None, "warn")

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
            log = [(each.id, each.generation, each.removed) for each in changes]
            changed_in = {each: at for each, at, _ in log}
            connection.executemany("INSERT INTO change (id, generation, removed) VALUES (?, ?, ?)", log)
            for record in records:
                document, text = storable(record)
                values = record_row(document, text, changed_in.get(record.id, generation))
                number = connection.execute(_INSERT, values).lastrowid or 0
                _write_derived(connection, number, record.id, None, Derived.of(document))
            for operation in operations:
                self.put_operation(operation)
            for row in rows:
                self.rows.restore(row)
            connection.execute("UPDATE state SET generation = ?", (generation,))

    def all_operations(self) -> Iterator[Operation]:
        """Yield every operation by id."""
        with self._store.snapshot() as connection:
            for (text,) in connection.execute(sql(select(operation.c.doc).order_by(operation.c.operation_id))):
                yield _read_operation(text)

    def all_rows(self) -> Iterator[Row]:
        """Yield all rows that are stored next to the records, by table and id."""
        yield from self.rows.all()

    def close(self) -> None:
        """Close the connections. Calling it twice is safe."""
        self._store.close()


def migrate(
    path: Path, *, lock_path: Path | None = None, migrations: Mapping[int, Callable[[sqlite3.Connection], None]] = MIGRATIONS
) -> tuple[int, int]:
    """Convert the database to the schema of this release, one transaction for each step. Return the schema before and after.

    Then all derived tables are rebuilt from the documents. This also repairs tables that differ from them (``index-differs``).
    """
    _demand_database(path)
    lock_path = lock_path or path.parent / "locks" / "catalog.lock"
    make_folders(lock_path.parent)
    newest = max((n + 1 for n in migrations), default=SCHEMA)
    with (
        FileLock(lock_path, {"command": "migrate"}),
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
        TRANSLATED,
    ):
        configure(connection, wal=True, read_only=False)
        (before,) = connection.execute("SELECT schema FROM state").fetchone() or (newest,)
        if before > newest:
            raise NewerModel(f"The database has schema {before}; this release knows up to {newest}.", next_step="upgrade cubeport")
        for step in range(before, newest):
            _whole(connection, step + 1, migrations[step])
        _whole(connection, newest, _rebuild)
    return before, newest


def _whole(connection: sqlite3.Connection, schema: int, act: Callable[[sqlite3.Connection], None]) -> None:
    """Call *act* and record the resulting schema, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        act(connection)
        connection.execute("UPDATE state SET schema = ?", (schema,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


# --- derived tables -------------------------------------------------------------------------------------------------


def _write_derived(connection: sqlite3.Connection, number: int, record_id: str, old: Derived | None, new: Derived | None) -> None:
    """Replace the derived rows of *old* by those of *new*. Only rows that differ are written."""
    for name in ("fields", "artifacts", "edges"):
        before: frozenset[Any] = getattr(old, name) if old else frozenset()
        after: frozenset[Any] = getattr(new, name) if new else frozenset()
        width = {"fields": 4, "artifacts": 1, "edges": 2}[name]
        own = (record_id, number) if name == "edges" else (number,)
        if gone := before - after:
            connection.executemany(_OUT[name], [(*row[:width], number) for row in gone])
        if come := after - before:
            connection.executemany(_IN[name], [(*row, *own) for row in come])
    if (old.words if old else None) != (new.words if new else None):
        if old:
            connection.execute("DELETE FROM record_text WHERE rowid = ?", (number,))
        if new:
            connection.execute("INSERT INTO record_text (rowid, words) VALUES (?, ?)", (number, new.words))
    if (old.boxes if old else ()) != (new.boxes if new else ()):
        if old and old.boxes:
            connection.execute("DELETE FROM record_box WHERE id IN (?, ?)", (2 * number, 2 * number + 1))
        for half, box in enumerate(new.boxes if new else ()):
            connection.execute(f"INSERT INTO record_box VALUES ({', '.join('?' * 11)})", (2 * number + half, *box))  # noqa: S608  # marks


def _insert_all(transaction: Transaction, records: Sequence[CatalogRecord]) -> None:
    """Insert new records with all their derived rows, each table in the order of its key."""
    connection = transaction.connection
    transaction.enlarge()
    (last,) = connection.execute("SELECT coalesce(max(n), 0) FROM record").fetchone()
    rows: list[dict[str, Any]] = []
    derived: dict[str, list[tuple[Any, ...]]] = {"fields": [], "artifacts": [], "edges": []}
    words: list[tuple[Any, ...]] = []
    boxes: list[tuple[Any, ...]] = []
    for number, each in enumerate(records, last + 1):
        document, text = storable(each)
        rows.append(record_row(document, text, transaction.generation) | {"n": number})
        of = Derived.of(document)
        derived["fields"] += [(*row, number) for row in of.fields]
        derived["artifacts"] += [(*row, number) for row in of.artifacts]
        derived["edges"] += [(*row, each.id, number) for row in of.edges]
        words.append((number, of.words))
        boxes += [(2 * number + half, *box) for half, box in enumerate(of.boxes)]
    connection.executemany(_INSERT_NUMBERED, rows)
    derived["fields"].sort()  # the order of the table's key, except for ranks among equal values
    for name, found in derived.items():
        connection.executemany(_IN[name], found)
    connection.executemany("INSERT INTO record_text (rowid, words) VALUES (?, ?)", words)
    connection.executemany(f"INSERT INTO record_box VALUES ({', '.join('?' * 11)})", boxes)  # noqa: S608  # marks
    for each in records:
        transaction.changed[each.id] = False


def _rebuild(connection: sqlite3.Connection) -> None:
    for name in DERIVED:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in ddl(*DERIVED):
        connection.execute(statement)
    for number, record_id, text in _numbered(connection):
        _write_derived(connection, number, record_id, None, Derived.of(read_record(text).to_mapping()))
    rebuild(connection)


def _numbered(connection: sqlite3.Connection) -> Iterator[tuple[int, str, str]]:
    last = 0
    while rows := connection.execute(_NUMBERED, {"last": last, "most": _BATCH}).fetchall():
        last = rows[-1][0]
        yield from rows


def _damage(connection: sqlite3.Connection, deep: bool) -> Iterator[Finding]:
    try:
        for (message,) in connection.execute(f"PRAGMA {'integrity' if deep else 'quick'}_check(20)"):
            if message != "ok":
                yield Finding("corrupt-catalog", "catalog.db", message, "restore a backup")
        if deep:
            for tree in ("record_box", "place_box"):
                for (message,) in connection.execute("SELECT rtreecheck(?)", (tree,)):
                    if message != "ok":
                        yield Finding("index-differs", tree, message, "cubeport migrate")
        for table, *_ in connection.execute("PRAGMA foreign_key_check"):
            yield Finding("index-differs", str(table), "has rows of a record that does not exist", "cubeport migrate")
    except sqlite3.DatabaseError as exc:
        yield Finding("corrupt-catalog", "catalog.db", str(exc), "restore a backup")


def _differences(connection: sqlite3.Connection) -> Iterator[Finding]:
    for number, record_id, text in _numbered(connection):
        try:
            document = read_record(text).to_mapping()
            derived = Derived.of(document)
        except CorruptCatalog as exc:
            yield Finding("document-differs", f"record {record_id}", exc.message, "restore a backup")
            continue
        found = _held(connection, number)
        wrong = [name for name in ("fields", "artifacts", "edges", "words") if getattr(found, name) != getattr(derived, name)]
        if _columns(connection, number) != {name: value for name, value in record_row(document, "", 0).items() if name in _OWN}:
            wrong.append("columns")
        if not same_boxes(found.boxes, derived.boxes):
            wrong.append("boxes")
        if wrong:
            words = f"the record's {', '.join(wrong)} differ from its document"
            yield Finding("index-differs", record_id, words, "cubeport migrate")
    for row in differing(connection):
        yield Finding("index-differs", row, "the index of places differs from the document", "cubeport migrate")


_OWN = [each.name for each in _R if each.name not in ("n", "generation", "doc")]


def _columns(connection: sqlite3.Connection, number: int) -> dict[str, Any]:
    found = connection.execute(f"SELECT {', '.join(_OWN)} FROM record WHERE n = ?", (number,)).fetchone()  # noqa: S608  # our names
    return dict(zip(_OWN, found, strict=True))


def _bits(connection: sqlite3.Connection) -> Iterator[Finding]:
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
    strays = (
        "SELECT record.id FROM record LEFT JOIN change ON change.id = record.id"
        " WHERE change.generation IS NOT record.generation OR change.removed IS NOT 0"
    )
    for (record_id,) in connection.execute(strays):
        yield Finding("index-differs", f"record {record_id}", "its generation differs from the list of changes", "restore a backup")
    newest, state = connection.execute("SELECT (SELECT max(generation) FROM change), generation FROM state").fetchone()
    if newest is not None and newest != state:
        yield Finding("index-differs", "state", f"the last change has generation {newest}, the catalog {state}", "restore a backup")


def _held(connection: sqlite3.Connection, number: int) -> Derived:
    """Return the record's derived rows in the tables."""

    def rows(columns: str, name: str) -> list[Any]:
        return connection.execute(f"SELECT {columns} FROM {name} WHERE n = ?", (number,)).fetchall()  # noqa: S608  # our own names

    text = connection.execute("SELECT words FROM record_text WHERE rowid = ?", (number,)).fetchone()
    boxes = connection.execute("SELECT * FROM record_box WHERE id IN (?, ?) ORDER BY id", (2 * number, 2 * number + 1)).fetchall()
    return Derived(
        frozenset(rows("path, type, num, text, rank", "field")),
        frozenset(rows("artifact_id, role, format, status, profile, path, size", "artifact")),
        frozenset(rows("rel, dst", "lineage")),
        text[0] if text else "",
        tuple(box[1:] for box in boxes),
    )


def _summaries(connection: sqlite3.Connection, numbers: Any | None) -> list[FieldSummary]:
    c = field.c
    ours = or_(c.path == "tags", (c.path > "metadata.") & (c.path < "metadata/"))
    among = [] if numbers is None else [c.n.in_(numbers)]
    counts = select(c.path, c.type, func.sum(case((c.rank >= 1, 1), else_=0)), func.sum(case((c.rank == 2, 1), else_=0))).where(
        ours, *among
    )
    types: dict[str, dict[int, int]] = {}
    records: dict[str, int] = {}
    for path, code, of_type, first in search.run(connection, counts.group_by(c.path, c.type)):
        types.setdefault(path, {})[code] = of_type
        records[path] = records.get(path, 0) + first
    schemas: dict[str, set[str]] = {}
    own = select(c.path, _R.schema_name).distinct().join(record, _R.n == c.n).where(_R.schema_name.is_not(None), ours, *among)
    if search.run(connection, select(_R.n).where(_R.schema_name.is_not(None)).limit(1)):
        for path, schema in search.run(connection, own):
            schemas.setdefault(path, set()).add(schema)
    return sorted(
        (
            field_summary(path, types[path], records[path], list(_smallest(connection, path, among)), schemas.get(path, ()))
            for path in types
        ),
        key=lambda each: each.field,
    )


def _smallest(connection: sqlite3.Connection, path: str, among: list[Any]) -> Iterator[tuple[int, Any]]:
    """Yield the five smallest values of a field, with one index lookup for each."""
    c = field.c
    behind = tuple_(c.type, c.num, c.text) > tuple_(bindparam("t", 0), bindparam("x", 0.0), bindparam("s", ""))
    ordered = select(c.type, c.num, c.text).where(c.path == path, behind, *among).order_by(c.type, c.num, c.text).limit(1)
    text, values = search.said(ordered)
    last = (0, 0.0, "")
    for _ in range(5):
        found = connection.execute(text, values | dict(zip("txs", last, strict=True))).fetchone()
        if found is None:
            return
        last = found
        yield last[0], last[2] if last[0] == 2 else last[1]


# --- small ----------------------------------------------------------------------------------------------------------


def _demand_database(path: Path) -> None:
    # SQLite treats an empty file as an empty database and writes a header to it, so check first.
    try:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise corrupt(f"The catalog's database {path.name} is not a SQLite database.")
    except FileNotFoundError:
        raise corrupt(f"The catalog's database {path.name} is missing.") from None


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
def _naming(record: CatalogRecord) -> Iterator[None]:
    """Add the id of the record to a conflict."""
    try:
        with TRANSLATED:
            yield
    except RecordExists:
        raise RecordExists(f"A record with the id {record.id} already exists.") from None
    except KeyExists:
        raise KeyExists(f"A record has the key {record.key!r} already.", next_step="use --on-exists skip or new_version") from None
    except TargetExists:
        raise TargetExists("An artifact of another record has the same managed path; no path is used twice.") from None
