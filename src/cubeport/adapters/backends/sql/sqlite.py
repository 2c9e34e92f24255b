"""SQLite: the settings of a connection, the lock of writers, the translation of errors, and the parts that only SQLite has.

Every write transaction and its automatic checkpoint run under flock, because SQLite 3.7.0 to 3.51.2 can corrupt a WAL database if
two connections write and checkpoint at the same time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from io import FileIO
from operator import methodcaller
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from sqlalchemy import ColumnElement, Index, TableClause, and_, column, literal, or_
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import Dialect as Compiling
from sqlalchemy.schema import CreateIndex

from cubeport.adapters.backends.sql.dialect import Dialect, Sides
from cubeport.adapters.backends.sql.problems import corrupt
from cubeport.adapters.backends.sql.store import Store, Transaction
from cubeport.adapters.backends.sql.tables import SCHEMA, record_text
from cubeport.catalog.backend import Finding
from cubeport.catalog.disk.durable import make_folders, open_file, sync_folder
from cubeport.catalog.disk.locks import FileLock, lock_state
from cubeport.catalog.disk.mounts import is_network, mount_type, refuse_network
from cubeport.errors import (
    BackendUnavailable,
    CatalogExists,
    CubeportError,
    KeyExists,
    Locked,
    NoSpace,
    ReadOnly,
    RecordExists,
    StoreUnavailable,
    TargetExists,
)

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 8 * 1024
BULK_CACHE_KIB = 128 * 1024
WAL_KEPT_BYTES = 64 * 1024 * 1024

_UNIQUE: Mapping[str, tuple[type[CubeportError], str]] = {
    "record.id": (RecordExists, "A record with that id already exists."),
    "record.key": (KeyExists, "A record with that key already exists."),
    "artifact.profile": (TargetExists, "An artifact already has that managed path; no path is used twice."),
    "operation.operation_id": (RecordExists, "An operation with that id already exists."),
    "beside.tbl": (RecordExists, "A row with that id already exists."),
}

_TEXT = methodcaller("decode", "utf-8", "surrogateescape")
"""One damaged text must not make a whole answer unreadable. Its digest detects the damage when the text is used."""


class _Compiler(SQLiteCompiler):
    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:  # noqa: ARG002  # the base class names them
        return text  # INDEXED BY and NOT INDEXED, which the dialect omits


def _compiling() -> Compiling:
    made = sqlite.dialect(paramstyle="named")
    made.statement_compiler = _Compiler
    return made


_TREE = "CREATE VIRTUAL TABLE {} USING rtree(id, west, east, south, north, start, stop, +x_west, +x_east, +x_south, +x_north)"


class Sqlite(Dialect):
    """SQLite with FTS5 and R*Tree."""

    name: ClassVar[str] = "sqlite"
    begin: ClassVar[str] = "BEGIN IMMEDIATE"
    state: ClassVar[str] = "SELECT generation, retired, schema FROM state"
    rows_state: ClassVar[str] = state
    alone_state: ClassVar[str] = state
    snapshot: ClassVar[str] = "BEGIN"
    errors: ClassVar[type[Exception]] = sqlite3.Error
    orders_whole: ClassVar[bool] = False
    derived: ClassVar[Sequence[tuple[str, str]]] = (
        # With a prefix index, the records of a common prefix are read one by one. Without it, SQLite collects them all first.
        (
            "record_text",
            "CREATE VIRTUAL TABLE record_text USING fts5(words, tokenize='ascii', detail=none, columnsize=0,"
            " prefix='1 2 3 4 5 6 7 8 9 10 11 12')",
        ),
        ("record_box", _TREE.format("record_box")),
        ("place_box", _TREE.format("place_box")),
    )

    def parts(self, connection: Any) -> set[str]:
        """See :class:`Dialect`."""
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}

    def make(self, connection: Any, index: Index) -> None:
        """See :class:`Dialect`."""
        connection.execute(self.text(CreateIndex(index)))

    def with_words(self, texts: Sequence[Sequence[str]]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """See :class:`Dialect`."""
        asked = " OR ".join(f"({' AND '.join(f'"{word}" *' for word in words)})" for words in texts)
        match: ColumnElement[bool] = column("record_text").op("MATCH")(asked)  # the table's hidden column, which covers all columns
        # To test one record, its words are read. FTS5 would look up all records with a common word each time.
        held = literal(" ").concat(record_text.c.words)
        return match, or_(*(and_(*(held.like(f"% {word}%") for word in words)) for words in texts))

    def meets(self, tree: TableClause, box: Sides) -> tuple[ColumnElement[bool], ...]:
        """See :class:`Dialect`. The exact box is read only if needed, since that is slow."""
        c, (west, south, east, north), d = tree.c, box, _ROUNDING_DEG
        clear = and_(c.west <= east - d, c.east >= west + d, c.south <= north - d, c.north >= south + d)
        exact = and_(c.x_west <= east, c.x_east >= west, c.x_south <= north, c.x_north >= south)
        return c.west <= east, c.east >= west, c.south <= north, c.north >= south, or_(clear, exact)

    def next_numbers(self, connection: Any, count: int, given: int) -> Sequence[int]:
        """See :class:`Dialect`."""
        (last,) = connection.execute("SELECT max(coalesce(max(n), 0), ?) FROM record", (given,)).fetchone()
        return range(last + 1, last + 1 + count)

    def enlarge(self, connection: Any) -> None:
        """See :class:`Dialect`."""
        connection.execute(f"PRAGMA cache_size = -{BULK_CACHE_KIB}")

    def shrink(self, connection: Any) -> None:
        """See :class:`Dialect`."""
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")

    def damage(self, connection: Any, deep: bool) -> Iterator[Finding]:
        """See :class:`Dialect`."""
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

    def translate(self, exc: Exception) -> Exception:
        """See :class:`Dialect`."""
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


_STAMPED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay"})
"""File systems on which every process sees the new time of a file as soon as it was written."""

_SETTLED_NS = 3_000_000_000

_ROUNDING_DEG = 1e-4
"""More than the rounding error of a 32-bit coordinate, in degrees."""

SQLITE = Sqlite(_compiling())


class SqliteConnection(sqlite3.Connection):
    """A connection that knows its dialect."""

    dialect: Dialect = SQLITE


class SqliteStore(Store):
    """One database file.

    Parameters
    ----------
    path
        The file, which exists; see :func:`create`.
    lock_path
        The lock file of all writers; by default ``locks/catalog.lock`` next to the database file.

    Raises
    ------
    CorruptCatalog
        If the file is missing or is not a catalog's database: never an empty catalog.
    NetworkFilesystem
        If it is not on a local disk.
    """

    dialect = SQLITE

    def __init__(
        self,
        path: Path,
        *,
        lock_path: Path | None = None,
        read_only: bool = False,
        lock_timeout_s: float = 10.0,
        allow_network_filesystem: bool = False,
    ) -> None:
        kind = mount_type(path)
        self._network = kind if is_network(kind) else None
        self._is_stamped = kind in _STAMPED
        if not allow_network_filesystem and not read_only:
            refuse_network(path)
        elif self._network and not read_only:
            warnings.warn(f"{path} is on {self._network}, where cubeport guarantees nothing", RuntimeWarning, stacklevel=5)
        demand_database(path)
        self.path = path
        self._log: FileIO | None = None
        self._opening = threading.Lock()
        self.lock_path = lock_path or path.parent / "locks" / "catalog.lock"
        if not read_only:
            make_folders(self.lock_path.parent)
        self._wal = not self._network
        super().__init__(read_only=read_only, lock_timeout_s=lock_timeout_s)

    @property
    def name(self) -> str:
        """The name of the database in messages."""
        return self.path.name

    @contextlib.contextmanager
    def batch(self, numbers: Sequence[int]) -> Iterator[Transaction]:
        """Yield the transaction of this context. If there is an error, remove what was inserted.

        A savepoint would do this too, but SQLite would first copy each page that a batch changes to a file, and a batch changes
        nearly every page of the table of fields.
        """
        transaction = self.current()
        if transaction is None:
            raise RuntimeError("a batch is part of a transaction")
        with self.translated:
            try:
                yield transaction
            except BaseException:
                if numbers and transaction.connection.in_transaction:  # SQLite may have rolled all of it back, as for a full disk
                    ends = (numbers[0], numbers[-1])
                    transaction.connection.execute("DELETE FROM record_text WHERE rowid BETWEEN ? AND ?", ends)
                    transaction.connection.execute("DELETE FROM record_box WHERE id BETWEEN 2 * ? AND 2 * ? + 1", ends)
                    for table in ("field", "artifact", "lineage", "record"):
                        transaction.connection.execute(f"DELETE FROM {table} WHERE n BETWEEN ? AND ?", ends)  # noqa: S608  # our names
                raise

    def connect(self) -> SqliteConnection:
        """Return a new configured connection. The file must exist, because a missing database is never an empty catalog."""
        mode = "ro" if self.read_only else "rw"
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # only one thread at a time uses a borrowed connection
            timeout=BUSY_TIMEOUT_MS / 1000,
            cached_statements=256,
            factory=SqliteConnection,
        )
        try:
            configure(connection, wal=self._wal, read_only=self.read_only)
        except UnicodeDecodeError as exc:  # Python's, of a message about a table whose name is damaged
            connection.close()
            raise corrupt("The catalog's database cannot be read: the names of its tables are damaged.") from exc
        except BaseException:
            connection.close()
            raise
        return connection

    def alone(self) -> AbstractContextManager[object]:
        """Return the lock of all writers."""
        return FileLock(self.lock_path, {}, self.lock_timeout_s)

    def mark(self) -> Hashable | None:
        """Return which file the write-ahead log is, its size and the time of its last change; ``None`` if that is not long ago.

        A commit writes to the log before any reader sees it, so the log has another time by then. Times of files are as coarse
        as two seconds, so a change right after another one can have the same: a log that was just written has no mark.
        """
        try:
            found = None if self._log is None else os.fstat(self._log.fileno())
        except (ValueError, OSError):
            return None  # another thread is closing it
        if found is None or not found.st_nlink:
            self._open_log()
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns) if time.time_ns() - found.st_mtime_ns > _SETTLED_NS else None

    def _open_log(self) -> None:
        """Open the write-ahead log, if there is one. SQLite locks other files, so closing this one frees no lock."""
        with self._opening:  # two threads at once would forget to close one of two files
            before, self._log = self._log, None
            if before is not None:
                before.close()
            if self._is_stamped and not self._closed:
                with contextlib.suppress(OSError):
                    self._log = self.path.with_name(f"{self.path.name}-wal").open("rb", buffering=0)

    def is_quiet(self) -> bool:
        """Return whether nobody holds the lock of all writers."""
        try:
            return lock_state(self.lock_path) in ("free", "left")
        except OSError:
            return False

    def warnings(self) -> Iterator[Finding]:
        """Yield a warning if the file is on a network file system."""
        if self._network:
            words = f"is on {self._network}, where cubeport guarantees nothing"
            yield Finding("network-filesystem", self.path.name, words, "move it to a local disk", "warn")

    def words_damage(self) -> Iterator[Finding]:
        """Yield problems of the full-text index. Its check has the form of a write but changes nothing."""
        if not os.access(self.path, os.W_OK):
            yield Finding(
                "not-checked", "record_text", "the index of words cannot be checked in a file that is read-only", None, "warn"
            )
            return
        try:
            make_folders(self.lock_path.parent)
            with (
                FileLock(self.lock_path, {}, self.lock_timeout_s),
                contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection,
            ):
                configure(connection, wal=self._wal, read_only=False)
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.execute("INSERT INTO record_text (record_text) VALUES ('integrity-check')")
                except sqlite3.DatabaseError as exc:
                    yield Finding("index-differs", "record_text", f"the index of words is damaged ({exc})", "cubeport migrate")
                finally:
                    connection.execute("ROLLBACK")
        except (Locked, StoreUnavailable, NoSpace, OSError) as exc:
            yield Finding("not-checked", "record_text", f"the index of words was not checked: {exc}", None, "warn")

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
        super().close()
        self._open_log()  # closes it


def create(path: Path, catalog_id: str, *, allow_network_filesystem: bool = False) -> None:
    """Make a complete new database file, or none. Raises CatalogExists."""
    if not allow_network_filesystem:
        refuse_network(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        # SQLite would make it readable for everyone. Its -wal and -shm files copy the mode of this file.
        os.close(open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as connection, SQLITE.translated:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN")
            for statement in SQLITE.ddl():
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


def demand_database(path: Path) -> None:
    """Raise CorruptCatalog unless the file is a SQLite database."""
    # SQLite treats an empty file as an empty database and writes a header to it, so check first.
    try:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise corrupt(f"The catalog's database {path.name} is not a SQLite database.")
    except FileNotFoundError:
        raise corrupt(f"The catalog's database {path.name} is missing.") from None


def _demand_library(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Raise BackendUnavailable for an SQLite older than 3.35, the first with RETURNING."""
    if version < (3, 35):
        raise BackendUnavailable(
            f"SQLite {'.'.join(map(str, version))} is loaded, and a catalog needs 3.35. Python's own may be newer: eccodes, which"
            " xarray loads to open files, brings an old one, which a later import of sqlite3 gets.",
            next_step="put `import cubeport` before the first file is opened",
        )


def configure(connection: sqlite3.Connection, *, wal: bool, read_only: bool) -> None:
    """Apply the settings of all connections."""
    _demand_library()
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


@contextlib.contextmanager
def lifting(path: Path, lock_path: Path | None) -> Iterator[SqliteConnection]:
    """Yield a connection to a database of any schema, while no other process writes."""
    demand_database(path)
    lock_path = lock_path or path.parent / "locks" / "catalog.lock"
    make_folders(lock_path.parent)
    with (
        FileLock(lock_path, {"command": "migrate"}),
        contextlib.closing(sqlite3.connect(path, isolation_level=None, factory=SqliteConnection)) as connection,
        SQLITE.translated,
    ):
        configure(connection, wal=True, read_only=False)
        yield connection
