"""SQLite connections: their settings, the lock of writers, and the translation of errors.

Every write transaction and its automatic checkpoint run under flock, because SQLite 3.7.0 to 3.51.2 can corrupt a WAL database if
two connections write and checkpoint at the same time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from operator import methodcaller
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from cubeport.catalog.disk.locks import FileLock
from cubeport.errors import (
    BackendUnavailable,
    CatalogMoved,
    CorruptCatalog,
    CubeportError,
    KeyExists,
    Locked,
    NoSpace,
    ReadOnly,
    RecordExists,
    TargetExists,
)

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 8 * 1024
BULK_CACHE_KIB = 128 * 1024
BULK_RECORDS = 1_000
"""A transaction that has changed this many records gets the large cache. Otherwise SQLite would write each index page many
times."""

WAL_KEPT_BYTES = 64 * 1024 * 1024
IDLE_CONNECTIONS = 8

_UNIQUE: Mapping[str, tuple[type[CubeportError], str]] = {
    "record.id": (RecordExists, "A record with that id already exists."),
    "record.key": (KeyExists, "A record with that key already exists."),
    "artifact.profile": (TargetExists, "An artifact already has that managed path; no path is used twice."),
    "operation.operation_id": (RecordExists, "An operation with that id already exists."),
    "beside.tbl": (RecordExists, "A row with that id already exists."),
}


_TEXT = methodcaller("decode", "utf-8", "surrogateescape")
"""One damaged text must not make a whole answer unreadable. Its digest detects the damage when the text is used."""


class Transaction:
    """A write transaction in progress. It belongs to the context that began it."""

    __slots__ = ("changed", "connection", "generation", "large", "open")

    def __init__(self, connection: sqlite3.Connection, generation: int) -> None:
        self.connection = connection
        self.generation = generation
        """The generation that this transaction commits if it changes records."""
        self.changed: dict[str, bool] = {}
        """Ids of changed records, and whether they were removed."""
        self.large = False
        self.open = True

    def note(self, id: str, *, removed: bool = False) -> None:
        """Record that this transaction changed the record."""
        self.changed[id] = removed
        if len(self.changed) == BULK_RECORDS:
            self.enlarge()

    def enlarge(self) -> None:
        """Use the large cache until the transaction ends."""
        self.large = True
        self.connection.execute(f"PRAGMA cache_size = -{BULK_CACHE_KIB}")


class Translated:
    """Translates SQLite's errors to ours. It is a class instead of a generator because it runs for every read."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(exc, sqlite3.Error):
            raise translate(exc) from exc


def translate(exc: sqlite3.Error) -> Exception:
    """Return our error for one of SQLite's, or the same error if it can only be a bug in cubeport."""
    code = getattr(exc, "sqlite_errorcode", 0)
    match code & 0xFF:
        case sqlite3.SQLITE_CONSTRAINT:
            message = str(exc)
            for place, (cls, words) in _UNIQUE.items():
                if f"failed: {place}" in message:
                    return cls(words)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_FORMAT:
            return corrupt(f"The catalog's database cannot be read ({exc}).")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Locked(f"The catalog's database is busy ({exc}).", next_step="try again")
        case sqlite3.SQLITE_FULL:
            return NoSpace("There is no space left for the catalog's database.", next_step="cubeport gc")
        case sqlite3.SQLITE_READONLY:
            return ReadOnly("The catalog's database cannot be written.")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_PROTOCOL:
            return BackendUnavailable(f"The catalog's database does not answer ({exc}).", next_step="cubeport doctor")
    if "no such module" in str(exc):
        return BackendUnavailable(f"This Python's SQLite was built without a part that the catalog needs ({exc}).")
    if "no such table" in str(exc) or "no such column" in str(exc):
        return corrupt(f"A part of the catalog's database is missing ({exc}).")
    return exc


def moved(target: str) -> CatalogMoved:
    """Return the error for a catalog that was converted."""
    message = f"The catalog was converted and is now in {target}."
    return CatalogMoved(message, next_step="open the catalog again", target=target)


def corrupt(message: str) -> CorruptCatalog:
    """Return the error for a database that cannot be read."""
    return CorruptCatalog(message, next_step="restore a backup; `cubeport fsck` reports what is readable")


TRANSLATED = Translated()


class Store:
    """The connections to one database file, for the threads of one process.

    Idle connections are kept in a pool. A read borrows one; a transaction keeps one for the context that began it.
    """

    def __init__(self, path: Path, lock_path: Path, *, read_only: bool, lock_timeout_s: float, wal: bool) -> None:
        self.path = path
        self.lock_path = lock_path
        self.read_only = read_only
        self.lock_timeout_s = lock_timeout_s
        self._wal = wal
        self._idle: deque[sqlite3.Connection] = deque()
        self._pid = os.getpid()
        self._closed = False
        self._wrote = False
        self._current: ContextVar[Transaction | None] = ContextVar("cubeport-sql-transaction", default=None)

    def connect(self) -> sqlite3.Connection:
        """Return a new configured connection. The file must exist, because a missing database is never an empty catalog."""
        mode = "ro" if self.read_only else "rw"
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # only one thread at a time uses a borrowed connection
            timeout=BUSY_TIMEOUT_MS / 1000,
            cached_statements=256,
        )
        try:
            configure(connection, wal=self._wal, read_only=self.read_only)
        except BaseException:
            connection.close()
            raise
        return connection

    def current(self) -> Transaction | None:
        """Return the transaction of this context, if it is in one."""
        transaction = self._current.get()
        return transaction if transaction is not None and transaction.open else None

    def borrow(self) -> sqlite3.Connection:
        """Return a connection. The caller must give it back."""
        if self._pid != os.getpid():
            raise RuntimeError("a catalog cannot be used after a fork: open it again in the child")
        if self._closed:
            raise RuntimeError("the catalog is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self.connect()

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Return the connection to the pool, or close it if the pool is full."""
        if self._closed or connection.in_transaction or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)

    def one(self, statement: str, values: Mapping[str, Any]) -> Any:
        """Return the first row, or ``None``."""
        return self._fetched(statement, values, sqlite3.Cursor.fetchone)

    def all(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        """Return every row."""
        rows: list[Any] = self._fetched(statement, values, sqlite3.Cursor.fetchall)
        return rows

    def _fetched(self, statement: str, values: Mapping[str, Any], fetch: Callable[[sqlite3.Cursor], Any]) -> Any:
        # `reading` is not used here: its generator costs as much as a small statement, and each request needs several.
        with TRANSLATED:
            if (transaction := self.current()) is not None:
                return fetch(transaction.connection.execute(statement, values))
            connection = self.borrow()
            try:
                return fetch(connection.execute(statement, values))
            finally:
                self.give_back(connection)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection on which each statement sees the newest state."""
        with TRANSLATED:
            if (transaction := self.current()) is not None:
                yield transaction.connection
                return
            connection = self.borrow()
            try:
                yield connection
            finally:
                self.give_back(connection)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection on which all reads see the same state: that of the transaction, or a snapshot."""
        with TRANSLATED:
            if (transaction := self.current()) is not None:
                yield transaction.connection
                return
            connection = self.borrow()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                self.give_back(connection)

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """Yield the transaction of this context, or a new transaction that commits at the end."""
        if (transaction := self.current()) is not None:
            with TRANSLATED:
                # A group of statements is applied completely or not at all, even if the caller continues after its error.
                transaction.connection.execute("SAVEPOINT step")
                changed = dict(transaction.changed)
                try:
                    yield transaction
                except BaseException:
                    transaction.changed = changed
                    transaction.connection.execute("ROLLBACK TO step")
                    raise
                finally:
                    transaction.connection.execute("RELEASE step")
            return
        with self.begin() as transaction:
            yield transaction

    @contextlib.contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Yield a new write transaction. Everything in it is committed together with its generation, or nothing is."""
        if self.current() is not None:
            raise RuntimeError("transactions do not nest")
        if self.read_only:
            raise ReadOnly("The catalog is open for reading only.", next_step="open it for writing")
        with FileLock(self.lock_path, {}, self.lock_timeout_s), TRANSLATED:
            connection = self.borrow()
            transaction: Transaction | None = None
            try:
                connection.execute("BEGIN IMMEDIATE")
                row = connection.execute("SELECT generation, retired FROM state").fetchone()
                if row is None:
                    raise corrupt("The catalog's database has lost its state.")
                if row[1] is not None:
                    raise moved(row[1])
                transaction = Transaction(connection, row[0] + 1)
                token = self._current.set(transaction)
                try:
                    yield transaction
                    if transaction.changed:
                        self._advance(transaction)
                finally:
                    transaction.open = False
                    self._current.reset(token)
                connection.execute("COMMIT")
                self._wrote = True
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a failed COMMIT may already have rolled back
                    connection.execute("ROLLBACK")
                raise
            finally:
                if transaction is not None and transaction.large:
                    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                self.give_back(connection)

    def _advance(self, transaction: Transaction) -> None:
        transaction.connection.execute("UPDATE state SET generation = ?", (transaction.generation,))
        transaction.connection.executemany(
            "INSERT INTO change (generation, id, removed) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, removed = excluded.removed",
            [(transaction.generation, each, removed) for each, removed in transaction.changed.items()],
        )

    def close(self) -> None:
        """Checkpoint the write-ahead log, and close the idle connections. Connections in use are closed when they are given back.

        A flipped bit in the log would undo every later commit, so the log is kept short. SQLite's own checkpoint at close does not
        take our lock, so it is switched off.
        """
        if self._wrote and self._wal and not self._closed:
            with contextlib.suppress(CubeportError, sqlite3.Error), FileLock(self.lock_path, {}, 0.0):
                connection = self.borrow()
                try:
                    connection.execute("PRAGMA busy_timeout = 0")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.close()
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def configure(connection: sqlite3.Connection, *, wal: bool, read_only: bool) -> None:
    """Apply the settings of all connections."""
    connection.text_factory = _TEXT
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_TRUSTED_SCHEMA, False)
    settings = {"foreign_keys": "ON", "cache_size": f"-{CACHE_KIB}", "mmap_size": "0", "temp_store": "MEMORY"}
    if read_only:
        settings["query_only"] = "ON"
    else:
        settings |= {"journal_mode": "WAL" if wal else "DELETE", "synchronous": "FULL", "journal_size_limit": f"{WAL_KEPT_BYTES}"}
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}")
