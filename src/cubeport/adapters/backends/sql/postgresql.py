"""PostgreSQL with psycopg: the settings of a connection, the translation of errors, and the parts that only PostgreSQL has.

One transaction at a time changes records, because the first statement of each locks the row of ``state``. So generations have no
gaps, and readers see them in order. Transactions that change rows only, such as the progress of a job, share that lock. Snapshots
are REPEATABLE READ. If the peer of a connection has gone, the connection ends within ``dead_peer_s`` on both sides.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, ClassVar, NamedTuple

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from sqlalchemy import ColumnElement, Index, TableClause, and_, cast, column, func, literal, or_
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.dialects.postgresql.psycopg import dialect as compiling
from sqlalchemy.schema import CreateIndex

from cubeport.adapters.backends.sql.dialect import Dialect, Sides
from cubeport.adapters.backends.sql.problems import corrupt
from cubeport.adapters.backends.sql.store import Store, Transaction
from cubeport.adapters.backends.sql.tables import BOX, PARTIAL, SCHEMA, record_text
from cubeport.catalog.backend import Finding
from cubeport.catalog.forms import clock
from cubeport.errors import (
    BackendUnavailable,
    CatalogExists,
    CorruptCatalog,
    CubeportError,
    Forbidden,
    InvalidRequest,
    KeyExists,
    Locked,
    NoSpace,
    ReadOnly,
    RecordExists,
    TargetExists,
)

_log = logging.getLogger(__name__)

_UNIQUE: Mapping[str, tuple[type[CubeportError], str]] = {
    "record_id": (RecordExists, "A record with that id already exists."),
    "record_key": (KeyExists, "A record with that key already exists."),
    "artifact_profile_path_key": (TargetExists, "An artifact already has that managed path; no path is used twice."),
    "operation_pkey": (RecordExists, "An operation with that id already exists."),
    "beside_pkey": (RecordExists, "A row with that id already exists."),
}

_LONGEST_WORD = 255
"""Longer words are indexed by their beginning: a lexeme of PostgreSQL has at most 2,046 bytes."""

_FEW = 3
"""Up to this many rows, INSERT is faster than COPY."""

_BOXES = (
    "CREATE TABLE {0} (id bigint PRIMARY KEY, "
    + ", ".join(f"{name} float8" for name in BOX[1:])
    + ", area box GENERATED ALWAYS AS (box(point(x_west, x_south), point(x_east, x_north))) STORED)"
)


class Postgresql(Dialect):
    """PostgreSQL 15 and later, without extensions."""

    name: ClassVar[str] = "postgresql"
    begin: ClassVar[str] = "BEGIN"
    state: ClassVar[str] = "SELECT generation, retired, schema FROM state FOR NO KEY UPDATE"
    rows_state: ClassVar[str] = "SELECT generation, retired, schema FROM state FOR KEY SHARE"
    alone_state: ClassVar[str] = "SELECT generation, retired, schema FROM state FOR UPDATE"
    # Statements are prepared, yet planned for their values in searches: a plan for all of them was up to a hundred times slower.
    # Not in what writes: the checks of foreign keys would be planned for each row, which took more than half of an import.
    snapshot: ClassVar[str] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
    errors: ClassVar[type[Exception]] = psycopg.Error
    # It takes "(x IS NULL) = false" for "x IS NOT NULL", which is not in the index.
    orders_whole: ClassVar[bool] = True
    derived: ClassVar[Sequence[tuple[str, str]]] = (
        # No parser and no dictionary of PostgreSQL is used, so words are folded by our rules.
        (
            "record_text",
            'CREATE TABLE record_text (rowid bigint PRIMARY KEY, words text COLLATE "C" NOT NULL, lexemes tsvector GENERATED ALWAYS'
            " AS (array_to_tsvector(string_to_array("
            f"regexp_replace(words, '([^ ]{{{_LONGEST_WORD}}})[^ ]+', '\\1', 'g'), ' '))) STORED)",
        ),
        ("record_text", "CREATE INDEX record_text_lexemes ON record_text USING gin (lexemes)"),
        ("record_box", _BOXES.format("record_box")),
        ("record_box", "CREATE INDEX record_box_area ON record_box USING gist (area)"),
        ("place_box", _BOXES.format("place_box")),
        ("place_box", "CREATE INDEX place_box_area ON place_box USING gist (area)"),
        # Without these statistics the planner assumes that columns are independent: one search took 5.3 s instead of 18 ms.
        ("field", "CREATE STATISTICS field_numbers (mcv, dependencies, ndistinct) ON path, type, num FROM field"),
        ("field", "CREATE STATISTICS field_texts (mcv, dependencies, ndistinct) ON path, type, text FROM field"),
        ("field", "ALTER STATISTICS field_numbers SET STATISTICS 1000"),
        ("field", "ALTER STATISTICS field_texts SET STATISTICS 1000"),
        (
            "journal",
            "CREATE TABLE journal (operation_id text NOT NULL, n integer NOT NULL, at text NOT NULL, state text NOT NULL,"
            " data text NOT NULL, sum text NOT NULL, PRIMARY KEY (operation_id, n))",
        ),
        (
            "journal_open",
            "CREATE TABLE journal_open (operation_id text PRIMARY KEY, host text NOT NULL, began timestamptz NOT NULL)",
        ),
    )

    def parts(self, connection: Any) -> set[str]:
        """See :class:`Dialect`."""
        asked = (
            "SELECT c.relname FROM pg_class c LEFT JOIN pg_index i ON c.oid = i.indexrelid"
            " WHERE i.indisvalid IS NOT FALSE AND c.relnamespace = current_schema()::regnamespace"
        )
        return {name for (name,) in connection.execute(asked).fetchall()}

    def make(self, connection: Any, index: Index) -> None:
        """See :class:`Dialect`. It waits for the transactions that have begun, for as long as they take."""
        connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}")  # one whose making was interrupted cannot be used
        connection.execute(self.text(CreateIndex(index)).replace("INDEX", "INDEX CONCURRENTLY", 1))

    def with_words(self, texts: Sequence[Sequence[str]]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """See :class:`Dialect`."""
        asked = " | ".join(f"({' & '.join(f"'{word[:_LONGEST_WORD]}':*" for word in words)})" for words in texts)
        found: ColumnElement[bool] = column("lexemes").op("@@")(cast(literal(asked), TSQUERY))
        if any(len(word) > _LONGEST_WORD for words in texts for word in words):
            held = literal(" ").concat(record_text.c.words)
            found = and_(found, or_(*(and_(*(held.like(f"% {word}%") for word in words)) for words in texts)))
        return found, found

    def meets(self, tree: TableClause, box: Sides) -> tuple[ColumnElement[bool], ...]:
        """See :class:`Dialect`."""
        west, south, east, north = box
        asked = func.box(func.point(west, south), func.point(east, north))
        area: ColumnElement[bool] = column("area", _selectable=tree).op("&&")(asked)
        return (area,)

    def next_numbers(self, connection: Any, count: int, given: int) -> Sequence[int]:  # noqa: ARG002  # a sequence never repeats
        """See :class:`Dialect`."""
        asked = "SELECT nextval(pg_get_serial_sequence('record', 'n')) FROM generate_series(1, ?)"
        return [number for (number,) in connection.execute(asked, (count,))]

    def fill(self, connection: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See :class:`Dialect`."""
        if len(rows) <= _FEW:
            super().fill(connection, table, columns, rows)
            return
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def enlarge(self, connection: Any) -> None:
        """See :class:`Dialect`."""

    def shrink(self, connection: Any) -> None:
        """Let the planner see what a transaction of many records has changed.

        Without the columns of the extended statistics, whose samples take many seconds. Autovacuum makes those in a minute or two.
        """
        if not connection.in_transaction:
            small = "record, artifact, lineage, record_text, record_box, beside, place, place_box"
            connection.execute(f"ANALYZE {small}, field (path, type, n)")

    def damage(self, connection: Any, deep: bool) -> Iterator[Finding]:
        """See :class:`Dialect`."""
        connection.execute("SELECT catalog_id, schema, generation, retired FROM state").fetchone()
        checks = connection.execute(
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'amcheck'"
        ).fetchone()
        if not deep or checks is None:
            return
        asked = (
            "SELECT c.relname, c.oid FROM pg_class c JOIN pg_am a ON a.oid = c.relam"
            " WHERE a.amname = 'btree' AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname"
        )
        for name, oid in connection.execute(asked).fetchall():
            try:
                connection.execute("SAVEPOINT amcheck")
                connection.execute(f"SELECT {checks[0]}.bt_index_check(?::regclass)", (oid,))  # from the catalog
                connection.execute("RELEASE amcheck")
            except errors.IndexCorrupted as exc:
                connection.execute("ROLLBACK TO amcheck")
                yield Finding("index-differs", name, str(exc).partition("\n")[0], "REINDEX INDEX, then cubeport fsck")

    def translate(self, exc: Exception) -> Exception:
        """See :class:`Dialect`."""
        match exc:
            case errors.UniqueViolation():
                found = _UNIQUE.get(exc.diag.constraint_name or "")
                return found[0](found[1]) if found else exc
            case (
                errors.LockNotAvailable()
                | errors.DeadlockDetected()
                | errors.QueryCanceled()
                | errors.IdleInTransactionSessionTimeout()
            ):
                return Locked(f"The catalog's database is busy ({_said(exc)}).", next_step="try again")
            case errors.DataCorrupted() | errors.IndexCorrupted():
                return corrupt(f"The catalog's database cannot be read ({_said(exc)}).")
            case errors.UndefinedTable() | errors.UndefinedColumn() | errors.InvalidSchemaName():
                return corrupt(f"A part of the catalog's database is missing ({_said(exc)}).")
            case errors.ReadOnlySqlTransaction():
                return ReadOnly(
                    f"The catalog's database is read-only ({_said(exc)}).",
                    next_step="use the address of the primary (target_session_attrs=read-write finds it among several hosts), or"
                    " let the database be written: default_transaction_read_only = off",
                )
            case errors.InsufficientPrivilege():
                return ReadOnly(
                    f"The role of the database address does not have the right ({_said(exc)}).",
                    next_step="ask the owner of the catalog for it, or use the address with another role",
                )
            case errors.DiskFull():
                _met_full_disk()
                return NoSpace(
                    "There is no space left for the catalog's database.", next_step="make space on the disk of the database server"
                )
            case errors.ProgramLimitExceeded():
                return InvalidRequest(f"PostgreSQL cannot index a text so long ({_said(exc)}).")
            case psycopg.OperationalError() | psycopg.InterfaceError():
                _unanswered(exc)
                return BackendUnavailable(f"The catalog's database does not answer ({_said(exc)}).", next_step=_cure(str(exc)))
        return exc


_last_full = -math.inf
"""When a statement of this process last met a full disk, by the monotonic clock."""


def _met_full_disk() -> None:
    global _last_full
    _last_full = time.monotonic()


_last_logged = -math.inf
_LOGGED_EVERY_S, _REMINDER_S = 10.0, 3600.0
_logged: dict[str, float] = {}
"""When each reason was logged since the database last answered."""


def _unanswered(exc: Exception) -> None:
    """Log why the database does not answer, with its address, once for each reason: there can be hundreds of requests a second."""
    global _last_logged
    words, at = " ".join(str(exc).split()), time.monotonic()
    if at - _last_logged >= _LOGGED_EVERY_S and at - _logged.get(words, -math.inf) >= _REMINDER_S:
        _last_logged = _logged[words] = at
        _log.error("the catalog's database does not answer: %s", words, extra={"raised": True})


def _answered() -> None:
    """Let the next outage be logged. What was logged a moment ago is still the same outage."""
    for words in [words for words, at in list(_logged.items()) if time.monotonic() - at >= _LOGGED_EVERY_S]:
        _logged.pop(words, None)


def _cure(text: str) -> str:
    """Return what to do about a connection that could not be made or was lost. Before a session there is no code of an error."""
    if "too many clients" in text or "remaining connection slots" in text or "too many connections" in text:
        return "raise max_connections of the database, or lower catalog.pool or server.workers"
    if "authentication failed" in text or "no password supplied" in text:
        return "correct the password in PGPASSWORD, ~/.pgpass or CUBEPORT_CATALOG_URL"
    if "SSL" in text or "certificate" in text:
        return "correct sslmode or sslrootcert of the address, or turn on ssl on the server of the database"
    if "does not exist" in text:
        return "create it, or correct the address of the database (CUBEPORT_CATALOG_URL, or catalog_url in service.yaml)"
    return "start the database, or correct its address (CUBEPORT_CATALOG_URL, or catalog_url in service.yaml)"


def _said(exc: Exception) -> str:
    """Return the message of the error without the address of the server, which HTTP clients must not see."""
    text = str(exc).partition("\n")[0]
    return text.rpartition(" failed: ")[2][:200]


for _each in PARTIAL:
    _each.dialect_options["postgresql"]["where"] = _each.dialect_options["sqlite"]["where"]

POSTGRESQL = Postgresql(compiling())  # type: ignore[no-untyped-call]  # SQLAlchemy does not type its dialects


class PostgresConnection(psycopg.Connection[Any]):
    """A connection that knows its dialect, and accepts ``?`` for the values of our own texts."""

    dialect: Dialect = POSTGRESQL

    @property
    def in_transaction(self) -> bool:
        """Whether the connection is in a transaction, or broken. It must then not be used again."""
        return self.closed or self.info.transaction_status != TransactionStatus.IDLE

    @property
    def ended(self) -> bool:
        """Whether the other side has ended the connection while it was idle. On an idle connection, nothing can be read except its
        end.
        """
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    def execute(self, query: Any, params: Any = (), **options: Any) -> psycopg.Cursor[Any]:
        """Execute a compiled text with a mapping, or one of ours with a sequence."""
        if isinstance(params, Mapping):
            return super().execute(query, params, **options)
        return super().execute(_marked(query) if params else query, params or None, **options)

    def executemany(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute one of our own texts for each row, in one batch."""
        with self.cursor() as cursor:
            cursor.executemany(_marked(query), rows)


_MARKED: dict[str, str] = {}


def _marked(text: str) -> str:
    """Return one of our texts with the placeholders of psycopg instead of ``?``."""
    found = _MARKED.get(text)
    if found is None:
        found = _MARKED[text] = text.replace("%", "%%").replace("?", "%s")
    return found


_MEGABYTE_OF_ROWS = 75_000
"""As many integers fill a temporary file of a megabyte."""
SPACE_LASTS_S = 30.0
"""How long space that was found on the disk of the database counts, in seconds."""

_HELD = """
    SELECT DISTINCT a.application_name, a.backend_start AT TIME ZONE 'UTC' FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE 'cubeport dataset %'
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1
"""


class PostgresOptions(NamedTuple):
    """The settings of the connections of a catalog."""

    pool: int = 8
    """Most connections of one process for reading and writing."""
    statement_timeout_s: float = 60.0
    dead_peer_s: int = 12
    """A connection ends on both sides after this time without an answer from the other machine."""


def schema_of(catalog_id: str) -> str:
    """Return the schema of a catalog, so that several catalogs can share one database."""
    return f"cubeport_{catalog_id[:8]}"


_UNKNOWN = re.compile(r'invalid URI query parameter: "(\w{1,40})"')
"""What psycopg says of a parameter with a name that is none. Its other messages can repeat a password."""


def address(url: str, schema: str, lock_timeout_s: float, options: PostgresOptions) -> str:
    """Return the connection string for libpq: the address from the caller, and the settings of every connection.

    Raises
    ------
    InvalidRequest
        If it is not an address of PostgreSQL. The message does not repeat it, because it may contain a password.
    """
    try:
        own = conninfo_to_dict(url)
    except psycopg.ProgrammingError as exc:
        words, known = "The address of the database is not one of PostgreSQL.", "postgresql://HOST/DATABASE"
        if named := _UNKNOWN.search(str(exc)):
            words, known = f"PostgreSQL knows no parameter {named[1]!r} of an address.", "correct its name, such as sslmode"
        raise InvalidRequest(words, next_step=known) from exc
    dead = max(3, options.dead_peer_s)
    keepalives = {"keepalives_idle": dead * 5 // 12, "keepalives_interval": max(1, dead // 6), "keepalives_count": 3}
    said = {
        "search_path": schema,
        "lock_timeout": f"{max(1, int(lock_timeout_s * 1000))}",
        "statement_timeout": f"{int(options.statement_timeout_s * 1000)}",
        "idle_in_transaction_session_timeout": f"{int(options.statement_timeout_s * 10_000)}",
        "synchronous_commit": "on",
        # A database or a role may have another style, in which psycopg reads no times.
        "DateStyle": "ISO",
        "TimeZone": "UTC",
        "jit": "off",
        "tcp_user_timeout": f"{dead * 1000}",
        **{f"tcp_{name}": str(value) for name, value in keepalives.items()},
    }
    given = " ".join(f"-c {name}={value}" for name, value in said.items())
    ours: dict[str, Any] = {
        "keepalives": 1,
        **keepalives,
        "tcp_user_timeout": dead * 1000,
        "connect_timeout": max(2, int(lock_timeout_s)),
    }
    return make_conninfo(
        url,
        options=f"{own.get('options', '')} {given}".strip(),
        application_name=own.get("application_name") or f"cubeport {socket.gethostname()}"[:63],
        **{name: value for name, value in ours.items() if name not in own},
    )


class PostgresStore(Store):
    """The schema of one catalog in a database.

    Parameters
    ----------
    url
        ``postgresql://HOST[,HOST]/DATABASE?target_session_attrs=read-write`` or another form that libpq knows.

    Raises
    ------
    CorruptCatalog
        If the catalog does not exist.
    BackendUnavailable
        If the server does not answer, or if the address is that of a pooler of transactions.
    """

    dialect = POSTGRESQL

    def __init__(
        self,
        url: str,
        catalog_id: str,
        *,
        read_only: bool = False,
        lock_timeout_s: float = 10.0,
        pool: int = 8,
        statement_timeout_s: float = 60.0,
        dead_peer_s: int = 12,
    ) -> None:
        options = PostgresOptions(pool, statement_timeout_s, dead_peer_s)
        super().__init__(read_only=read_only, lock_timeout_s=lock_timeout_s)
        self.schema = schema_of(catalog_id)
        self.url = url
        self._address = address(url, self.schema, lock_timeout_s, options)
        self._free = threading.BoundedSemaphore(options.pool)
        self._commits: ContextVar[PostgresConnection | None] = ContextVar("cubeport-postgresql-commits", default=None)
        self._space_found = -math.inf
        with self.translated:
            connection = self.connect()
            refuse_pooler(connection)
            demand_usage(connection, self.schema)
            _follow(connection)
        self._idle.append(connection)

    @property
    def name(self) -> str:
        """The name of the database in messages."""
        return self.schema

    def connect(self) -> PostgresConnection:
        """Return a new, configured connection."""
        connection = PostgresConnection.connect(self._address, autocommit=True)
        _answered()
        if self.read_only:
            connection.execute("SET default_transaction_read_only = on")
        return connection

    def borrow(self) -> Any:
        """Return a connection, which the caller must give back. Raises BackendUnavailable if all are in use for too long."""
        if not self._free.acquire(timeout=max(self.lock_timeout_s, 0.001)):
            raise BackendUnavailable("All connections to the catalog's database are in use.", next_step="raise catalog.pool")
        try:
            while (connection := super().borrow()).ended:
                connection.close()
            if clock.is_stale():
                with contextlib.ExitStack() as unless_told:
                    unless_told.callback(connection.close)
                    _follow(connection)
                    unless_told.pop_all()
            return connection
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: Any) -> None:
        """Return the connection to the pool, or close it if it is broken."""
        try:
            super().give_back(connection)
        finally:
            self._free.release()

    @contextlib.contextmanager
    def committing_on(self, connection: PostgresConnection) -> Iterator[None]:
        """Use *connection* for the transactions of this context. The connection holds a lock, and nothing is committed without the
        lock.
        """
        token = self._commits.set(connection)
        try:
            yield
        finally:
            self._commits.reset(token)

    def for_commit(self) -> AbstractContextManager[Any]:
        """See :class:`Store`."""
        connection = self._commits.get()
        return super().for_commit() if connection is None else self._on(connection)

    @contextlib.contextmanager
    def _on(self, connection: PostgresConnection) -> Iterator[Any]:
        connection.execute(self.dialect.begin)
        yield connection

    def begun(self, text: str) -> Any:
        """Return a connection in which *text* began a transaction. Connects again if the server has restarted."""
        try:
            return super().begun(text)
        except psycopg.OperationalError:
            self._forget()
            return super().begun(text)

    def _fetched(self, statement: Any, values: Mapping[str, Any], fetch: Any) -> Any:
        if self.current() is not None:
            return super()._fetched(statement, values, fetch)
        try:
            return super()._fetched(statement, values, fetch)
        except BackendUnavailable as exc:
            if not isinstance(exc.__cause__, psycopg.OperationalError):
                raise
            self._forget()
            return super()._fetched(statement, values, fetch)

    def _forget(self) -> None:
        """Close the idle connections: one was broken, so the server has probably restarted."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def alone(self) -> AbstractContextManager[object]:
        """Return a context that does nothing, because the row of ``state`` is the lock."""
        return contextlib.nullcontext()

    def batch(self, numbers: Sequence[int]) -> AbstractContextManager[Transaction]:  # noqa: ARG002  # a savepoint costs little here
        """Return the transaction of this context, with a savepoint."""
        return self.write()

    def warnings(self) -> Iterator[Finding]:
        """Yield nothing."""
        yield from ()

    def demand_space(self, lasts_s: float = SPACE_LASTS_S) -> float:
        """Check that the disk of the database has about a megabyte of free space. Return how long ago that was found, in seconds.

        PostgreSQL does not tell how much is free. A result that is larger than its memory is written to a temporary file beside the
        tables, which fails as a commit would. Nothing is changed, so this works for roles that only read, and on a standby. Since
        anybody may ask a server whether it is ready, space that was found counts for *lasts_s*, unless a statement has met a full
        disk since.

        Raises
        ------
        NoSpace
            If the disk has less.
        BackendUnavailable
            If the database does not answer.
        """
        began = time.monotonic()
        if self._space_found > max(began - lasts_s, _last_full):
            return began - self._space_found
        with self.snapshot() as connection:
            connection.execute("SET LOCAL work_mem = '64kB'; SET LOCAL temp_tablespaces = ''")
            # With a lower temp_file_limit, its operator does not let us know.
            with contextlib.suppress(errors.ConfigurationLimitExceeded):
                connection.execute("SELECT count(*) FROM generate_series(1, ?)", (_MEGABYTE_OF_ROWS,)).fetchone()
        self._space_found = began
        return 0.0

    def server_version(self) -> str:
        """Return the version of the server."""
        with self.reading() as connection:
            return str(connection.execute("SHOW server_version").fetchone()[0]).split()[0]

    def facts(self) -> Iterator[Finding]:
        """Yield the name of the server, the guarantees that it does not give, and the holders of locks."""
        asked = ("server_version", "data_checksums", "max_connections", "fsync", "full_page_writes", "ssl")
        with self.reading() as connection:
            said = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in asked}
            host, encrypted = connection.info.host, connection.info.pgconn.ssl_in_use
            held = connection.execute(_HELD).fetchall()
        place = f"PostgreSQL {said['server_version'].split()[0]}"
        yield Finding("database", place, f"schema {self.schema}, {said['max_connections']} connections at most", level="ok")
        try:
            self.demand_space(0)
        except NoSpace as exc:
            yield Finding(exc.kind, place, exc.message, exc.next_step)
        if said["data_checksums"] == "off":
            words = "data checksums are off: fsck finds a flipped bit in a document, but not in an index"
            yield Finding("no-checksums", place, words, "pg_checksums --enable, while the server is stopped", "warn")
        if "off" in (said["fsync"], said["full_page_writes"]):
            yield Finding(
                "not-durable", place, "fsync or full_page_writes is off: a crash can lose or damage the catalog", None, "warn"
            )
        if not encrypted and not host.startswith(("/", "127.", "localhost", "::1")):
            yield Finding(
                "not-encrypted", place, "the connection is not encrypted", "add sslmode=verify-full to the address", "warn"
            )
        for name, since in held:
            yield Finding("lock", name, f"held since {since:%Y-%m-%dT%H:%M:%SZ}", level="ok")

    def words_damage(self) -> Iterator[Finding]:
        """Yield nothing: the index of words is an index like the others."""
        yield from ()


def _follow(connection: PostgresConnection) -> None:
    """Take the time from the server, which is that of all machines. Its answer is from the middle of the time that it took."""
    asked = clock.elapsed()
    ((at,),) = connection.execute("SELECT clock_timestamp()").fetchall()
    clock.follow(at, (asked + clock.elapsed()) / 2)


def refuse_pooler(connection: PostgresConnection) -> None:
    """Raise BackendUnavailable if a pooler hands out the sessions of the server, because locks and settings belong to a session."""
    ((pid,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
    if pid != connection.info.backend_pid:
        connection.close()
        raise BackendUnavailable(
            "A connection pooler is in front of the catalog's database. It cannot be used, because locks belong to a session.",
            next_step="name the server itself in catalog_url",
        )


def demand_usage(connection: PostgresConnection, schema: str) -> None:
    """Raise Forbidden if the role may not see the schema of the catalog: to it, all of its tables would seem to be missing. Raise
    CorruptCatalog if the database has no such schema.
    """
    query = "SELECT current_user, current_database(), has_schema_privilege(to_regnamespace(%(schema)s), 'USAGE')"
    ((role, database, may),) = connection.execute(query, {"schema": schema}).fetchall()
    if may is None:
        connection.close()
        raise CorruptCatalog(
            f"The database {database} has no schema {schema}, in which the catalog would be.",
            next_step="correct the address (CUBEPORT_CATALOG_URL, or catalog_url in service.yaml), or restore a backup",
        )
    if not may:
        connection.close()
        raise Forbidden(
            f"The role {role} may not use the schema {schema}, in which the catalog is.",
            next_step=f"ask its owner for GRANT USAGE ON SCHEMA {schema} TO {role}",
        )


def create(url: str, catalog_id: str) -> None:
    """Make the schema of a new catalog, in one transaction. Raises CatalogExists."""
    schema = schema_of(catalog_id)
    with POSTGRESQL.translated:
        connection = PostgresConnection.connect(address(url, schema, 10.0, PostgresOptions()), autocommit=True)
        with contextlib.closing(connection):
            refuse_pooler(connection)
            connection.execute("BEGIN")
            try:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
                for statement in POSTGRESQL.ddl():
                    connection.execute(statement)
            except (errors.DuplicateTable, errors.UniqueViolation) as exc:
                raise CatalogExists(f"The database has a catalog {schema} already.", next_step="open it") from exc
            connection.execute("INSERT INTO state VALUES (?, ?, 0, NULL)", (catalog_id, SCHEMA))
            connection.execute("COMMIT")


def set_aside(url: str, catalog_id: str) -> None:
    """Rename the schema of a catalog, if it exists."""
    schema = schema_of(catalog_id)
    with lifting(url, catalog_id) as connection:
        there = {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cubeport%'")}
        number = next(n for n in range(1, 10_000) if f"{schema}_old{n}" not in there)
        if schema in there:
            connection.execute(f"ALTER SCHEMA {schema} RENAME TO {schema}_old{number}")


@contextlib.contextmanager
def lifting(url: str, catalog_id: str) -> Iterator[PostgresConnection]:
    """Yield a connection to a database, for any schema."""
    with POSTGRESQL.translated:
        connection = PostgresConnection.connect(address(url, schema_of(catalog_id), 10.0, PostgresOptions()), autocommit=True)
        with contextlib.closing(connection):
            yield connection
