"""What PostgreSQL promises beyond the contract: how its connections are set up, and what is refused."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.pages import blocks

from cubeport.adapters.backends.sql import SqlBackend, postgresql, search
from cubeport.adapters.backends.sql.backend import migrate_database
from cubeport.adapters.backends.sql.postgresql import PostgresConnection, PostgresStore
from cubeport.catalog.backend import Row, RowOrder, RowSearch
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import Query, select
from cubeport.catalog.testing.generated import sample
from cubeport.errors import (
    BackendUnavailable,
    CatalogExists,
    CatalogMoved,
    CorruptCatalog,
    CubeportError,
    Forbidden,
    InvalidRequest,
    Locked,
    NoSpace,
    ReadOnly,
)

ID = "c" * 32


@pytest.fixture
def backend(database: str) -> Iterator[SqlBackend]:
    postgresql.create(database, ID)
    with contextlib.closing(SqlBackend.at(database, ID, lock_timeout_s=0.3)) as backend:
        yield backend


def test_connections_end_with_their_peer_and_commits_are_waited_for(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:  # what a country may set for all its databases
        for setting in ("DateStyle = 'German, DMY'", "TimeZone = 'Asia/Kolkata'", "statement_timeout = 1"):
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting}")  # type: ignore[arg-type]
    postgresql.create(database, ID)
    with contextlib.closing(SqlBackend.at(database, ID, lock_timeout_s=0.3)) as backend:
        _has_settings_of_its_own(backend)
        backend.generation()


def _has_settings_of_its_own(backend: SqlBackend) -> None:
    wanted = {
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "12000",
        "lock_timeout": "300ms",
        "statement_timeout": "1min",
        "synchronous_commit": "on",
        "DateStyle": "ISO, MDY",
        "TimeZone": "UTC",
        "search_path": "cubeport_cccccccc",
    }
    with backend._store.reading() as connection:
        found = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in wanted}
        parameters = connection.info.get_parameters()
    assert found == wanted | {"tcp_user_timeout": found["tcp_user_timeout"]}
    with backend._store.snapshot() as connection:
        assert connection.execute("SHOW plan_cache_mode").fetchone()[0] == "force_custom_plan"
    assert found["tcp_user_timeout"] in ("12s", "12000")
    assert {name: parameters[name] for name in ("keepalives_idle", "tcp_user_timeout")} == {
        "keepalives_idle": "5",
        "tcp_user_timeout": "12000",
    }


def test_a_catalog_is_made_once_and_several_share_a_database(backend: SqlBackend, database: str) -> None:
    record = backend.add_record(sample(1))
    with pytest.raises(CatalogExists):
        postgresql.create(database, ID)
    postgresql.create(database, "d" * 32)
    with contextlib.closing(SqlBackend.at(database, "d" * 32)) as other:
        assert other.get_record(record.id) is None
        assert other.catalog_id == "d" * 32


def test_the_version_is_that_of_the_server(backend: SqlBackend) -> None:
    asked = backend.store.server_version()
    with backend.store.reading() as connection:
        assert connection.execute("SHOW server_version_num").fetchone()[0].startswith(asked.partition(".")[0])


def test_a_writer_that_waits_too_long_is_told(backend: SqlBackend, database: str) -> None:
    with contextlib.closing(SqlBackend.at(database, ID)) as other, other.transaction():
        other.add_record(sample(1))
        with pytest.raises(Locked):
            backend.add_record(sample(2))
    assert backend.count(Query()) == 1


def test_rows_wait_for_no_long_commit_but_a_conversion(backend: SqlBackend, database: str) -> None:
    """The progress of a job, and the claim of another, beside an import of minutes."""
    backend.rows.put(Row("job", "waiting", state="accepted"))
    with contextlib.closing(SqlBackend.at(database, ID)) as other:
        with other.transaction():
            other.add_record(sample(1))
            backend.rows.put(Row("job", "a"))
            claimed = backend.rows.claim("job", ["accepted"], lambda row: replace(row, state="running"))
            assert claimed is not None
            assert backend.rows.get("job", "a") is not None
        with other.alone(), pytest.raises(Locked):
            backend.rows.put(Row("job", "b"))
        other.retire("sqlite")
        with pytest.raises(CatalogMoved):
            backend.rows.put(Row("job", "c"))


def test_reading_only_is_held_by_the_server_too(backend: SqlBackend, database: str) -> None:
    with contextlib.closing(SqlBackend.at(database, ID, read_only=True)) as reader:
        with pytest.raises(ReadOnly):
            reader.add_record(sample(1))
        with reader._store.reading() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM record")


def test_a_database_that_is_read_only_says_how_it_is_written(backend: SqlBackend, database: str) -> None:
    """As on a standby, where each transaction reads only."""
    standby = f"{database}?options=-c%20default_transaction_read_only%3Don"
    with contextlib.closing(SqlBackend.at(standby, ID)) as reader, pytest.raises(ReadOnly, match="is read-only") as refused:
        reader.add_record(sample(1))
    assert "target_session_attrs=read-write" in str(refused.value.next_step)


def test_more_callers_than_connections_wait_and_are_told(database: str, backend: SqlBackend) -> None:
    with contextlib.closing(SqlBackend(PostgresStore(database, ID, lock_timeout_s=0.2, pool=1))) as small:
        small.add_record(sample(1))
        walking = small.iterate()
        next(walking)
        with pytest.raises(BackendUnavailable, match="All connections"):
            small.count(Query())
        walking.close()
        assert small.count(Query()) == 1


def test_a_server_that_is_not_there_is_unavailable_and_its_address_is_not_told() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        SqlBackend.at("postgresql://ana:geheim@127.0.0.1:1/db", ID)
    assert "geheim" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    with pytest.raises(InvalidRequest) as refused:
        SqlBackend.at("postgresql://ana:geheim@host:port:/db?x=y", ID)
    assert "geheim" not in refused.value.message


def test_a_database_without_a_free_connection_says_so_and_the_log_says_it_once(
    database: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        try:
            monkeypatch.setattr(postgresql, "_logged", {})

            def later() -> None:
                """Let as much time pass as lies between two lines."""
                postgresql._last_logged -= postgresql._LOGGED_EVERY_S
                postgresql._logged.update((words, at - postgresql._LOGGED_EVERY_S) for words, at in postgresql._logged.items())

            for _ in range(5):
                monkeypatch.setattr(postgresql, "_last_logged", -math.inf)
                with pytest.raises(BackendUnavailable) as told:
                    PostgresStore(database.replace("cubeport@", "crowded@"), ID)
                later()
            assert len(caplog.records) == 1
            postgresql._answered()  # as when a store connects
            for _ in range(2):
                with pytest.raises(BackendUnavailable):
                    PostgresStore(database.replace("cubeport@", "crowded@"), ID)
            assert "too many connections" in told.value.message
            assert told.value.next_step is not None
            assert "max_connections" in told.value.next_step
        finally:
            admin.execute("DROP ROLE crowded")
    assert [each.name for each in caplog.records] == ["cubeport.adapters.backends.sql.postgresql"] * 2, "the next outage is another"


def test_long_words_are_found_whole_and_by_their_beginning(backend: SqlBackend) -> None:
    """A lexeme of PostgreSQL is shorter than a word of ours may be."""
    word = "é" * 3000
    record = backend.add_record(CatalogRecord(title=f"{word} end", description="plain"))
    others = [backend.add_record(CatalogRecord(title="é" * length)) for length in (254, 255, 256, 299)]
    for text in ("é" * 254, "é" * 300, word, "é" * 256, "end plain", "é" * 299 + "x"):
        found = backend.search(Query(text=text))
        assert {each.id for each in found} == {each.id for each in select(Query(text=text), [record, *others])}
    assert backend.get_record(record.id) == record
    assert backend.check(deep=True) == []


def test_a_text_that_no_index_takes_is_refused_and_leaves_nothing(backend: SqlBackend) -> None:
    import random

    rng = random.Random(1)
    path = ".".join("".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(200)) for _ in range(12))
    nested: dict[str, object] = {"end": 1}
    for name in reversed(path.split(".")):
        nested = {name: nested}
    with pytest.raises(InvalidRequest, match="PostgreSQL"):
        backend.add_record(CatalogRecord(metadata=nested))
    assert backend.count(Query()) == 0
    backend.add_record(sample(1))


COUNT = 2_000


@pytest.fixture
def many(backend: SqlBackend, database: str) -> list[CatalogRecord]:
    """Records of which some have no title."""
    made = [
        sample(n, kind="dataset", key=f"k{n:04}", title=None if n % 10 == 0 else f"title {n * 7919 % COUNT:04}")
        for n in range(COUNT)
    ]
    backend.add_records(made)
    analysed(database)
    return made


def analysed(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def most_rows(backend: SqlBackend, text: str, values: Any) -> int:
    """Return how many rows the busiest step of a statement reads, those that it drops included."""
    with backend.store.snapshot() as connection:
        ((plan,),) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}", values).fetchall()

    def rows(node: Any) -> int:
        own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        return max(int(own), *(rows(each) for each in node.get("Plans", ())), 0)

    return rows(plan[0]["Plan"])


@pytest.mark.parametrize("order", ["title", "-title"])
def test_pages_in_an_order_with_an_index_read_what_they_show(
    backend: SqlBackend, many: list[CatalogRecord], monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    asked: list[Any] = []
    ran = search.run

    def noted(connection: Any, statement: Any, *more: Any) -> Any:
        asked.append(connection.dialect.compiled(statement))
        return ran(connection, statement, *more)

    query = Query(order=(order,), limit=20)
    middle = backend.search(replace(query, limit=COUNT // 2)).next
    with monkeypatch.context() as patched:
        patched.setattr(search, "run", noted)
        page = backend.search(query)
        further = backend.search(replace(query, cursor=middle))
    expected = [each.id for each in select(replace(query, limit=COUNT), many)]
    assert [each.id for each in page] == expected[:20]
    assert [each.id for each in further] == expected[COUNT // 2 :][:20]
    assert max(most_rows(backend, *each) for each in asked) < 100


@pytest.mark.parametrize(("name", "descends"), [("owner.title", True), ("owner.key", False)])
def test_versions_in_the_order_of_their_records_are_read_along_its_index(
    backend: SqlBackend, database: str, many: list[CatalogRecord], monkeypatch: pytest.MonkeyPatch, name: RowOrder, descends: bool
) -> None:
    shown = {"created_at": "2020-01-01T00:00:00Z", "shown_at": "2020-01-02T00:00:00Z", "reach": None}
    with backend.transaction():
        for n, each in enumerate(many):
            backend.rows.put(Row("v", f"v{n:04}", shown, each.id, "there", n))
    analysed(database)
    asked: list[Any] = []
    execute = PostgresConnection.execute

    def noted(connection: Any, text: Any, values: Any = (), **more: Any) -> Any:
        if "FROM record JOIN place" in str(text):
            asked.append((text, values))
        return execute(connection, text, values, **more)

    def value(each: CatalogRecord) -> str | None:
        return each.title if name == "owner.title" else each.key

    named = sorted(((str(value(each)), each.id) for each in many if value(each) is not None), reverse=descends)
    first = RowSearch("v", "there", Query(kinds=["dataset"]), order=((name, descends),), limit=20)
    middle = backend.rows.find(replace(first, limit=COUNT // 2))[-1].at
    with monkeypatch.context() as patched:
        patched.setattr(PostgresConnection, "execute", noted)
        page = backend.rows.find(first)
        further = backend.rows.find(replace(first, after=middle))
    assert [each.owner.id for each in page] == [each for _, each in named[:20]]
    assert [each.owner.id for each in further] == [each for _, each in named[COUNT // 2 :][:20]]
    assert asked
    assert max(most_rows(backend, *each) for each in asked) < 100


def test_an_index_of_a_newer_release_is_made_while_others_write(backend: SqlBackend, database: str) -> None:
    stop, added, failed = threading.Event(), [], []

    def write() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                added.append(backend.add_record(sample(number)).id)
        except CubeportError as error:
            failed.append(error)

    with psycopg.connect(database, autocommit=True, options="-c search_path=cubeport_cccccccc") as own:
        own.execute("DROP INDEX record_updated")
        with pytest.raises(BackendUnavailable, match="no index record_updated") as caught:
            SqlBackend.at(database, ID)
        assert caught.value.next_step == "cubeport migrate"
        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert migrate_database(database, ID).made == ["record_updated"]
            # A migration that was killed leaves an index that cannot be used.
            own.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'record_updated'::regclass")
            assert migrate_database(database, ID).made == ["record_updated"]
        finally:
            stop.set()
            writer.join()
    assert failed == []
    assert added
    with contextlib.closing(SqlBackend.at(database, ID)) as opened:
        assert opened.count(Query()) == len(added)
        assert opened.check(deep=True) == []


@pytest.mark.slow  # it waits ten seconds for a lock
def test_tables_are_made_anew_while_nobody_writes(backend: SqlBackend, database: str) -> None:
    with backend.transaction():
        backend.add_record(sample(1))
        with pytest.raises(Locked):
            migrate_database(f"{database}?options=-c%20lock_timeout%3D300ms", ID)
    assert backend.count(Query()) == 1


def test_damaged_indexes_are_found(backend: SqlBackend) -> None:
    record = backend.add_record(sample(1, metadata={"a": 1}, bbox=(0, 0, 1, 1)))
    with backend._store.reading() as connection:
        connection.execute("DELETE FROM field")
        connection.execute("UPDATE record_box SET x_east = 2")
    [found] = backend.check(deep=True)
    assert (found.kind, found.place) == ("index-differs", record.id)
    assert "fields, boxes" in found.message


@contextlib.contextmanager
def pooler(port: int) -> Iterator[int]:
    """A proxy that tells clients a process id of its own in the server's first messages, as PgBouncer does."""
    door = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                at = data.find(b"K\x00\x00\x00\x0c")
                target.sendall(data if at < 0 else data[: at + 5] + b"\x01\x02\x03\x04" + data[at + 9 :])
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = door.accept()
                server = socket.create_connection(("127.0.0.1", port))
                opened.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    opened: list[socket.socket] = []
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield door.getsockname()[1]
    finally:
        for each in (door, *opened):
            each.close()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://h/d?sslmod=require", "'sslmod'"),
        ("postgresql://h/d?secret", "HOST/DATABASE"),
        ("host=h secret", "HOST/DATABASE"),
    ],
)
def test_a_parameter_that_postgresql_does_not_know_is_named_and_nothing_else_of_the_address(address: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SqlBackend.at(address, ID)
    assert words in f"{refused.value} {refused.value.next_step}"
    assert "secret" not in f"{refused.value} {refused.value.next_step}"


def test_a_database_without_the_catalog_is_told_as_a_wrong_address(database: str) -> None:
    with pytest.raises(CorruptCatalog, match=f"has no schema cubeport_{ID[:8]}") as refused:
        SqlBackend.at(database, ID)
    assert str(refused.value.next_step).startswith("correct the address")


@pytest.mark.parametrize(
    ("wrong", "cure"), [({"dbname": "climat"}, "create it"), ({"sslmode": "verify-full", "sslrootcert": "/nowhere"}, "sslrootcert")]
)
def test_what_is_wrong_with_an_address_is_what_the_next_step_is_about(database: str, wrong: dict[str, str], cure: str) -> None:
    with pytest.raises(BackendUnavailable) as refused:
        SqlBackend.at(make_conninfo(database, **wrong), ID)
    assert cure in str(refused.value.next_step)


def test_space_that_was_found_counts_for_a_while_but_not_after_a_full_disk(
    database: str, backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may ask ``/ready``, and each real check writes a megabyte."""
    store = backend._store
    made = []
    snapshot = store.snapshot
    monkeypatch.setattr(store, "snapshot", lambda: made.append(1) or snapshot())
    assert store.demand_space() == 0
    assert 0 < store.demand_space() < postgresql.SPACE_LASTS_S
    assert len(made) == 1
    assert store.demand_space(0) == 0
    assert len(made) == 2
    with pytest.raises(NoSpace), store.translated:
        raise psycopg.errors.DiskFull("could not extend file")
    assert store.demand_space() == 0
    assert len(made) == 3, "a statement met a full disk since"


def test_asking_for_space_changes_nothing_and_needs_no_right(database: str, backend: SqlBackend) -> None:
    with contextlib.closing(SqlBackend.at(database, ID, read_only=True)) as reader:
        reader._store.demand_space()
    with contextlib.closing(psycopg.connect(database, autocommit=True)) as operator:
        operator.execute(f"ALTER DATABASE {operator.info.dbname} SET temp_file_limit = '100kB'")
    with contextlib.closing(SqlBackend.at(database, ID)) as limited:
        limited._store.demand_space()
        assert limited.generation() == 0, "and its connection is still of use"
        with limited._store.snapshot() as connection:
            connection.execute("SET LOCAL work_mem = '64kB'")
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
                connection.execute("SELECT count(*) FROM generate_series(1, 75000)")


def test_a_pooler_is_refused(backend: SqlBackend, database: str) -> None:
    """PgBouncer 1.18 was tried by hand in both of its modes; this one has the mark by which it is known."""
    port = int(database.rpartition(":")[2].partition("/")[0])
    with pooler(port) as other, pytest.raises(BackendUnavailable, match="pooler") as caught:
        SqlBackend.at(database.replace(f":{port}/", f":{other}/"), ID)
    assert caught.value.next_step == "name the server itself in catalog_url"


def granted(name: str, role: str, schema: str) -> list[str]:
    """Return the statements of a block of the page on PostgreSQL, for a role and a schema of this test."""
    [block] = [each.text for each in blocks("operations/postgresql.md") if each.title == f"{name}.sql"]
    return [each.replace("cubeport_0123abcd", schema).replace(name, role) for each in block.strip().rstrip(";").split(";")]


def test_roles_read_and_write_one_catalog_each(database: str) -> None:
    """Two catalogs in one database. A reader of the first writes nothing, and an editor of it does not see the second."""
    other = "e" * 32
    for each in (ID, other):
        postgresql.create(database, each)
    token = database.rpartition("/")[2]
    reader, editor = f"{token}_r", f"{token}_e"
    with psycopg.connect(database, autocommit=True) as connection:
        for name, role in (("reader", reader), ("editor", editor)):
            for statement in granted(name, role, "cubeport_cccccccc"):
                connection.execute(statement)
    try:
        with contextlib.closing(SqlBackend.at(database.replace("cubeport@", f"{editor}@"), ID)) as backend:
            record = backend.add_record(sample(1, key="k"))
            backend.rows.put(Row("job", "a"))
            record = backend.update_record(record.replace(title="edited"))
            removed = backend.add_record(sample(2))
            backend.delete_record(removed.id, removed.version)
        with contextlib.closing(SqlBackend.at(database.replace("cubeport@", f"{reader}@"), ID)) as backend:
            assert backend.search(Query(text="edited"))[0] == record
            for write in (
                lambda: backend.add_record(sample(3)),
                lambda: backend.update_record(record.replace(title="mine")),
                lambda: backend.rows.put(Row("job", "b")),
                lambda: backend.rows.delete("job", "a"),
            ):
                with pytest.raises(ReadOnly, match=r"does not have the right .permission denied for table") as refused:
                    write()
                assert "ask the owner" in str(refused.value.next_step)
            assert backend.get_record(record.id) == record
        for role in (reader, editor):
            with pytest.raises(Forbidden, match=f"The role {role} may not use the schema cubeport_eeeeeeee"):
                SqlBackend.at(database.replace("cubeport@", f"{role}@"), other)
    finally:
        with psycopg.connect(database, autocommit=True) as connection:
            for role in (reader, editor):
                connection.execute(f"DROP OWNED BY {role}")
                connection.execute(f"DROP ROLE {role}")
