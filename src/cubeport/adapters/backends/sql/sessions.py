"""Locks by name and the journal as a table, for a catalog on several machines. Both live as long as a database session.

A lock is a PostgreSQL advisory lock on its own connection. PostgreSQL frees it as soon as that connection ends, for any reason. The
holder can then no longer commit, because it commits over the same connection.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import errors

from cubeport.adapters.backends.sql.postgresql import PostgresConnection, PostgresStore
from cubeport.catalog.disk.failpoints import STATES, step
from cubeport.catalog.forms.canonical import dumps, json_value, now, timestamp
from cubeport.catalog.locks import LockKind
from cubeport.catalog.work.journal import Line
from cubeport.errors import BackendUnavailable, Locked, RecordExists

_log = logging.getLogger(__name__)

_HOLDER = """
    SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid::bigint = ? AND l.objid::bigint = ? AND l.objsubid = 1
"""


def lock_key(catalog_id: str, kind: str, name: str) -> int:
    """Return the number of a lock: 64 bits, so that two names hardly ever share one; sharing it would only make them wait."""
    digest = blake2b(f"{catalog_id}\0{kind}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class PostgresHold:
    """One lock, on a connection of its own."""

    def __init__(self, store: PostgresStore, kind: LockKind, name: str, key: int, wait_s: float) -> None:
        self._store = store
        self._kind, self._name, self._key, self._wait_s = kind, name, key, wait_s
        self._connection: PostgresConnection | None = None
        self._committing: contextlib.AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        with self._store.translated:
            connection = self._store.connect()
            try:
                connection.execute("SELECT set_config('application_name', ?, false)", (self._note(),))
                if not self._taken(connection):
                    raise self._busy(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        if self._kind == "dataset":
            self._committing = self._store.committing_on(connection)
            self._committing.__enter__()
        return self

    def _note(self) -> str:
        command = " ".join([Path(sys.argv[0]).name or "python", *sys.argv[1:2]])
        return f"cubeport {self._kind} {self._name[:16]} {socket.gethostname()[:16]} {os.getpid()} {command}"[:63]

    def _taken(self, connection: PostgresConnection) -> bool:
        if self._wait_s <= 0:
            ((done,),) = connection.execute("SELECT pg_try_advisory_lock(?)", (self._key,)).fetchall()
            return bool(done)
        was = connection.execute("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')").fetchone()
        connection.execute("SELECT set_config('lock_timeout', ?, false)", (f"{max(1, int(self._wait_s * 1000))}ms",))
        connection.execute("SET statement_timeout = 0")
        try:
            connection.execute("SELECT pg_advisory_lock(?)", (self._key,))
        except errors.LockNotAvailable:
            return False
        connection.execute("SELECT set_config('lock_timeout', ?, false), set_config('statement_timeout', ?, false)", was)
        return True

    def _busy(self, connection: PostgresConnection) -> Locked:
        found = connection.execute(_HOLDER, halves(self._key)).fetchone()
        who = f" Held by: {found[0]}, since {timestamp(found[1])}." if found else ""
        message = f"The {self._kind} {self._name} is locked; waited {self._wait_s:g} s.{who}"
        return Locked(message, next_step="wait for the holder, or see `cubeport doctor`", what=self._name)

    def __exit__(self, *exc: object) -> None:
        if self._committing is not None:
            self._committing.__exit__(None, None, None)
            self._committing = None
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):  # because the server notices the end of a connection a moment later
                self._connection.execute("SELECT pg_advisory_unlock(?)", (self._key,))
            self._connection.close()
            self._connection = None

    def lost(self) -> bool:
        """Return whether the connection, and so the lock, has ended."""
        if self._connection is None:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return True
        return False


class PostgresLocks:
    """Locks of all machines that use the catalog."""

    def __init__(self, store: PostgresStore, catalog_id: str) -> None:
        self._store = store
        self._catalog_id = catalog_id

    def hold(self, kind: LockKind, name: str, wait_s: float = 0.0) -> PostgresHold:
        """See :class:`~cubeport.catalog.locks.Locks`."""
        return PostgresHold(self._store, kind, name, lock_key(self._catalog_id, kind, name), wait_s)

    def held(self, kind: LockKind, name: str) -> bool:
        """See :class:`~cubeport.catalog.locks.Locks`."""
        with self._store.reading() as connection:
            return connection.execute(_HOLDER, halves(lock_key(self._catalog_id, kind, name))).fetchone() is not None

    def forget(self, kind: LockKind, name: str) -> None:
        """Do nothing: a lock that nobody holds leaves nothing behind."""


def halves(key: int) -> tuple[int, int]:
    """Return the number of a lock as ``pg_locks`` shows it."""
    unsigned = key % 2**64
    return unsigned >> 32, unsigned % 2**32


class TableEntry:
    """The lines of an operation, for the process that may write them."""

    def __init__(self, journal: TableJournal, operation_id: str, lines: list[Line]) -> None:
        self.operation_id = operation_id
        self.lines = lines
        self._journal = journal
        self._owed = False

    def write(self, state: str, data: Mapping[str, Any] | None = None, *, binding: bool = False, durable: bool = False) -> None:
        """Add a line; see ``JournalEntry``."""
        assert state in STATES, state
        line = Line(self.operation_id, len(self.lines), timestamp(now()), state, dict(data or {}))
        with step(state):
            self._journal.append(line, durable=durable)
            self.lines.append(line)
            self._owed = (self._owed or binding) and not durable

    def settle(self) -> None:
        """See ``JournalEntry``."""
        if self._owed:
            self._journal.settle()
            self._owed = False

    def close(self) -> None:
        """See ``JournalEntry``: its lines stay in the table."""
        self._journal.close_operation(self.operation_id)
        self.leave()

    def leave(self) -> None:
        """See ``JournalEntry``."""
        self._journal.free(self.operation_id)


class TableJournal:
    """The journal of a catalog on several machines: a table, and an advisory lock for each open operation.

    A process writes all its lines over the session that holds its locks. If the session ends, every other process can recover its
    open operations, and the process can no longer write lines: the next one raises BackendUnavailable.
    """

    def __init__(self, store: PostgresStore, catalog_id: str) -> None:
        self._store = store
        self._catalog_id = catalog_id
        self._lock = threading.RLock()
        self._session: PostgresConnection | None = None
        self._mine: dict[str, PostgresConnection] = {}
        """Open operations of this process, and the session that holds each."""

    # --- the session ----------------------------------------------------------------------------------------------------

    def _connected(self) -> PostgresConnection:
        session = self._session
        if session is not None:
            with contextlib.suppress(psycopg.Error):
                session.execute("SELECT 1")
                return session
            session.close()
        session = self._session = self._store.connect()
        # A line that must be on the disk says so; the others need not wait for it.
        session.execute("SET synchronous_commit = off")
        return session

    def _held(self, operation_id: str) -> PostgresConnection:
        session = self._mine.get(operation_id)
        if session is None or session.closed:
            raise BackendUnavailable("The session of this operation has ended, so it may go no further.", next_step="try again")
        return session

    def _key(self, operation_id: str) -> int:
        return lock_key(self._catalog_id, "operation", operation_id)

    def _take_lock(self, operation_id: str) -> bool:
        """Take the operation's lock; a session would get its own again, so that what is ours is never asked."""
        if operation_id in self._mine:
            return False
        session = self._connected()
        ((taken,),) = session.execute("SELECT pg_try_advisory_lock(?)", (self._key(operation_id),)).fetchall()
        if taken:
            self._mine[operation_id] = session
        return bool(taken)

    def free(self, operation_id: str) -> None:
        """Let go of an operation."""
        with self._lock:
            session = self._mine.pop(operation_id, None)
            if session is not None and not session.closed:
                with contextlib.suppress(psycopg.Error):
                    session.execute("SELECT pg_advisory_unlock(?)", (self._key(operation_id),))

    def end(self) -> None:
        """End the session: what is open is anybody's to recover."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    # --- writing --------------------------------------------------------------------------------------------------------

    def append(self, line: Line, *, durable: bool) -> None:
        """Add a line of an operation of ours; *durable* returns when it, and every line before it, is on the disk."""
        data = dumps(json_value(line.data))
        values = (line.operation_id, line.n, line.at, line.state, data, _sum(line, data))
        with self._lock, self._store.translated:
            session = self._held(line.operation_id)
            with _committed(session, durable=durable):
                session.execute("INSERT INTO journal (operation_id, n, at, state, data, sum) VALUES (?, ?, ?, ?, ?, ?)", values)

    def settle(self) -> None:
        """Return when all lines are on the disk."""
        with self._lock, self._store.translated:
            session = self._connected()
            with _committed(session, durable=True):
                session.execute("SELECT pg_current_xact_id()")  # a commit that is waited for, and all before it

    def close_operation(self, operation_id: str) -> None:
        """Take the operation off the open ones, durably."""
        with self._lock, self._store.translated:
            session = self._held(operation_id)
            with _committed(session, durable=True):
                session.execute("DELETE FROM journal_open WHERE operation_id = ?", (operation_id,))

    # --- Journal --------------------------------------------------------------------------------------------------------

    def begin(self, operation_id: str) -> TableEntry:
        """Open a new operation; see ``Journal``."""
        taken = RecordExists(f"Operation {operation_id} has already begun.", operation_id=operation_id)
        with self._lock, self._store.translated:
            if not self._take_lock(operation_id):
                raise taken
            try:
                session = self._held(operation_id)
                began = (
                    "INSERT INTO journal_open (operation_id, host, began) VALUES (?, ?, clock_timestamp()) ON CONFLICT DO NOTHING"
                )
                if session.execute(began, (operation_id, socket.gethostname())).rowcount != 1:
                    raise taken
            except BaseException:
                self.free(operation_id)
                raise
        return TableEntry(self, operation_id, [])

    def open_ids(self) -> list[str]:
        """Return the operations that are not closed; see ``Journal``."""
        with self._store.reading() as connection:
            return [row[0] for row in connection.execute("SELECT operation_id FROM journal_open ORDER BY operation_id")]

    def take(self, operation_id: str) -> TableEntry | None:
        """Return a dead owner's journal; see ``Journal``."""
        with self._lock, self._store.translated:
            if not self._is_open(operation_id) or not self._take_lock(operation_id):
                return None
            if not self._is_open(operation_id):  # closed while we took its lock
                self.free(operation_id)
                return None
            return TableEntry(self, operation_id, self.read(operation_id))

    def _is_open(self, operation_id: str) -> bool:
        asked = "SELECT 1 FROM journal_open WHERE operation_id = ?"
        return self._connected().execute(asked, (operation_id,)).fetchone() is not None

    def read(self, operation_id: str) -> list[Line]:
        """Return the lines of an operation; see ``Journal``."""
        asked = "SELECT operation_id, n, at, state, data FROM journal WHERE operation_id = ? ORDER BY n"
        with self._store.reading() as connection:
            return [_line(row) for row in connection.execute(asked, (operation_id,))]

    def alive(self, operation_id: str) -> bool:
        """Return whether a process holds its lock."""
        with self._store.reading() as connection:
            return connection.execute(_HOLDER, halves(self._key(operation_id))).fetchone() is not None

    def closed(self) -> Iterator[list[Line]]:
        """Yield the lines of each closed operation, oldest first."""
        asked = (
            "SELECT operation_id FROM journal j WHERE n = 0 AND NOT EXISTS"
            " (SELECT 1 FROM journal_open o WHERE o.operation_id = j.operation_id) ORDER BY at, operation_id"
        )
        with self._store.snapshot() as connection:
            ids = [row[0] for row in connection.execute(asked)]
        for each in ids:
            yield self.read(each)

    def differences(self) -> Iterator[str]:
        """Yield the place of each line that is not what was written."""
        asked = "SELECT operation_id, n, at, state, data, sum FROM journal ORDER BY operation_id, n"
        with self._store.snapshot() as connection:
            for *own, data, written in connection.execute(asked):
                if _sum(Line(*own), data) != written:
                    yield f"{own[0]}:{own[1]}"


@contextlib.contextmanager
def _committed(session: PostgresConnection, *, durable: bool) -> Iterator[None]:
    if not durable:
        yield
        return
    session.execute("BEGIN; SET LOCAL synchronous_commit = on")
    try:
        yield
        session.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            session.execute("ROLLBACK")
        raise


def _line(row: Any) -> Line:
    operation_id, n, at, state, data = row
    return Line(operation_id, n, at, state, json.loads(data))


def _sum(line: Line, data: str) -> str:
    whole = "\0".join([line.operation_id, str(line.n), line.at, line.state, data])
    return blake2b(whole.encode(), digest_size=8).hexdigest()
