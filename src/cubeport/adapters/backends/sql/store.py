"""The connections to the database of one catalog, for the threads of one process: reading, writing and commits."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from operator import methodcaller
from typing import Any

from sqlalchemy.sql import ClauseElement

from cubeport.adapters.backends.sql.dialect import Connection, Cursor, Dialect
from cubeport.adapters.backends.sql.problems import corrupt
from cubeport.adapters.backends.sql.tables import INDEXES, SCHEMA
from cubeport.catalog.backend import Finding
from cubeport.errors import BackendUnavailable, CatalogMoved, NewerModel, ReadOnly

IDLE_CONNECTIONS = 8
BULK_RECORDS = 1_000
"""A transaction that has changed this many records gets more memory. Otherwise SQLite would write each index page many times."""

_ONE: Callable[[Cursor], Any] = methodcaller("fetchone")
_ALL: Callable[[Cursor], list[Any]] = methodcaller("fetchall")


class Transaction:
    """A write transaction in progress. It belongs to the context that began it."""

    __slots__ = ("_numbered", "changed", "connection", "generation", "large", "open", "paths")

    def __init__(self, connection: Connection, generation: int) -> None:
        self.connection = connection
        self.generation = generation
        """The generation that this transaction commits if it changes records."""
        self.changed: dict[str, bool] = {}
        """Ids of changed records, and whether they were removed."""
        self.paths: dict[str, int] = {}
        """The numbers of paths of fields that this transaction has asked for."""
        self.large = False
        self.open = True
        self._numbered = 0

    def execute(self, statement: ClauseElement, values: Mapping[str, Any]) -> Cursor:
        """Execute a prepared statement."""
        return self.connection.execute(self.connection.dialect.prepared(statement), values)

    def numbers(self, count: int) -> Sequence[int]:
        """Return numbers for *count* new records, ascending, which nothing else gets."""
        found = self.connection.dialect.next_numbers(self.connection, count, self._numbered)
        self._numbered = found[-1] if found else self._numbered
        return found

    def note(self, id: str, *, removed: bool = False) -> None:
        """Record that this transaction changed the record."""
        self.changed[id] = removed
        if len(self.changed) == BULK_RECORDS:
            self.enlarge()

    def enlarge(self) -> None:
        """Use the large cache until the transaction ends."""
        self.large = True
        self.connection.dialect.enlarge(self.connection)


class Store(ABC):
    """The connections to one database, for the threads of one process.

    Idle connections are kept in a pool. A read borrows one; a transaction keeps one for the context that began it.
    """

    dialect: Dialect

    def __init__(self, *, read_only: bool, lock_timeout_s: float) -> None:
        self.read_only = read_only
        self.lock_timeout_s = lock_timeout_s
        self.translated = self.dialect.translated
        self._idle: deque[Any] = deque()
        self._pid = os.getpid()
        self._closed = False
        self._wrote = False
        self._current: ContextVar[Transaction | None] = ContextVar("cubeport-sql-transaction", default=None)

    # --- what each database does in its own way -------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the database in messages."""

    @abstractmethod
    def connect(self) -> Any:
        """Return a new, configured connection."""

    @abstractmethod
    def alone(self) -> AbstractContextManager[object]:
        """Return a context in which no other transaction writes, if the database itself does not guarantee this."""

    @abstractmethod
    def batch(self, numbers: Sequence[int]) -> AbstractContextManager[Transaction]:
        """Return the transaction of this context for inserting the records with these numbers, completely or not at all."""

    @abstractmethod
    def warnings(self) -> Iterator[Finding]:
        """Yield conditions that are not errors yet, for checks."""

    def mark(self) -> Hashable | None:
        """Return something that every later commit of any process changes, if that can be had for less than a statement.

        It tells nothing of a commit that is under way: ask :meth:`is_quiet` after it.
        """
        return None

    def is_quiet(self) -> bool:
        """Return whether no transaction is writing at this moment."""
        return False

    @abstractmethod
    def words_damage(self) -> Iterator[Finding]:
        """Yield problems of the index of words, if these cannot be found in a snapshot."""

    # --- reading --------------------------------------------------------------------------------------------------------

    def current(self) -> Transaction | None:
        """Return the transaction of this context, if there is one."""
        transaction = self._current.get()
        return transaction if transaction is not None and transaction.open else None

    def borrow(self) -> Any:
        """Return a connection. The caller must give it back."""
        if self._pid != os.getpid():
            raise RuntimeError("a catalog cannot be used after a fork: open it again in the child")
        if self._closed:
            raise RuntimeError("the catalog is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self.connect()

    def give_back(self, connection: Any) -> None:
        """Return the connection to the pool, or close it if the pool is full."""
        if self._closed or connection.in_transaction or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)

    def begun(self, text: str) -> Any:
        """Return a borrowed connection in which the transaction that *text* begins is open."""
        connection = self.borrow()
        try:
            connection.execute(text)
        except BaseException:
            self.give_back(connection)
            raise
        return connection

    def one(self, statement: ClauseElement, values: Mapping[str, Any]) -> Any:
        """Return the first row, or ``None``."""
        return self._fetched(statement, values, _ONE)

    def all(self, statement: ClauseElement, values: Mapping[str, Any]) -> list[Any]:
        """Return every row."""
        rows: list[Any] = self._fetched(statement, values, _ALL)
        return rows

    def _fetched(self, statement: ClauseElement, values: Mapping[str, Any], fetch: Callable[[Cursor], Any]) -> Any:
        # `reading` and `translated` are not used here: they cost as much as a small statement, and each request needs several.
        text = self.dialect.prepared(statement)
        try:
            if (transaction := self.current()) is not None:
                return fetch(transaction.connection.execute(text, values))
            connection = self.borrow()
            try:
                return fetch(connection.execute(text, values))
            finally:
                self.give_back(connection)
        except self.dialect.errors as exc:
            raise self.dialect.translate(exc) from exc

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """Yield a connection on which each statement sees the newest state."""
        with self.translated:
            if (transaction := self.current()) is not None:
                yield transaction.connection
                return
            connection = self.borrow()
            try:
                yield connection
            finally:
                self.give_back(connection)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Any]:
        """Yield a connection on which all reads see the same state: that of the transaction, or a snapshot."""
        with self.translated:
            if (transaction := self.current()) is not None:
                yield transaction.connection
                return
            connection = self.begun(self.dialect.snapshot)
            try:
                yield connection
            finally:
                with contextlib.suppress(self.dialect.errors):
                    connection.execute("ROLLBACK")
                self.give_back(connection)

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """Yield the transaction of this context, or a new transaction that commits at the end."""
        if (transaction := self.current()) is not None:
            with self.translated:
                # A group of statements is applied completely or not at all, even if the caller continues after its error.
                transaction.connection.execute("SAVEPOINT step")
                changed = dict(transaction.changed)
                try:
                    yield transaction
                except BaseException:
                    transaction.changed = changed
                    transaction.paths.clear()  # some of them may be new; who prepares batches has this object too
                    transaction.connection.execute("ROLLBACK TO step")
                    raise
                finally:
                    transaction.connection.execute("RELEASE step")
            return
        with self.begin() as transaction:
            yield transaction

    def write_rows(self) -> AbstractContextManager[Transaction]:
        """Return the same for rows next to the records. A new transaction does not wait for others."""
        return self.write() if self.current() is not None else self.begin(state=self.dialect.rows_state)

    @contextlib.contextmanager
    def beginning(self) -> Iterator[Any]:
        """Yield a connection on which a transaction that writes has begun."""
        connection = self.begun(self.dialect.begin)
        try:
            yield connection
        finally:
            self.give_back(connection)

    def for_commit(self) -> AbstractContextManager[Any]:
        """Return the same for the commit of a unit of work, which may need a certain connection."""
        return self.beginning()

    @contextlib.contextmanager
    def begin(self, *, commit: bool = False, state: str | None = None) -> Iterator[Transaction]:
        """Yield a new write transaction. All of it is committed, with its generation, or nothing.

        Parameters
        ----------
        commit
            Whether this is the commit of a unit of work.
        state
            The statement that it executes first; by default ``dialect.state``.
        """
        if self.current() is not None:
            raise RuntimeError("transactions do not nest")
        if self.read_only:
            raise ReadOnly("The catalog is open for reading only.", next_step="open it for writing")
        with self.alone(), self.translated, self.for_commit() if commit else self.beginning() as connection:
            transaction: Transaction | None = None
            try:
                row = connection.execute(state or self.dialect.state).fetchone()
                if row is None:
                    raise corrupt("The catalog's database has lost its state.")
                if row[1] is not None:
                    raise CatalogMoved.to(row[1])
                demand_schema(row[2])
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
                with contextlib.suppress(self.dialect.errors):  # a failed COMMIT may already have rolled back
                    connection.execute("ROLLBACK")
                raise
            finally:
                if transaction is not None and transaction.large:
                    self.dialect.shrink(connection)

    def _advance(self, transaction: Transaction) -> None:
        transaction.connection.execute("UPDATE state SET generation = ?", (transaction.generation,))
        transaction.connection.executemany(
            "INSERT INTO change (generation, id, removed) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, removed = excluded.removed",
            [(transaction.generation, each, int(removed)) for each, removed in transaction.changed.items()],
        )

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back. Safe to call twice."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def demand_schema(schema: int) -> None:
    """Raise NewerModel or BackendUnavailable if the tables have another form than the one that this release reads and writes."""
    if schema > SCHEMA:
        raise NewerModel(f"The database has schema {schema}; this release knows up to {SCHEMA}.", next_step="upgrade cubeport")
    if schema < SCHEMA:
        raise BackendUnavailable(f"The database has schema {schema}; this release needs {SCHEMA}.", next_step="cubeport migrate")


def demand_indexes(there: Collection[str]) -> None:
    """Raise BackendUnavailable if an index of this release is missing, and CorruptCatalog if its table is. Those of a newer release
    disturb nobody.
    """
    missing = sorted(INDEXES.keys() - there)
    if lost := [name for name in missing if (of := INDEXES[name].table) is not None and of.name not in there]:
        raise corrupt(f"The catalog's database has lost the table of {lost[0]}.")
    if missing:
        words = f"The database has no index {missing[0]}; this release needs it. Other servers can go on meanwhile."
        raise BackendUnavailable(words, next_step="cubeport migrate")
