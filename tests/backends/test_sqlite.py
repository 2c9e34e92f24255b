"""What SQLite promises beyond the contract: how it is set up, what it costs, and what it does when something is wrong."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.sql.backend import migrate
from cubeport.adapters.backends.sql.sqlite import SQLITE
from cubeport.adapters.backends.sql.tables import ORDERS, SCHEMA
from cubeport.catalog.backend import Row
from cubeport.catalog.disk.locks import FileLock
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import Query, matches, select
from cubeport.catalog.testing.backend import BackendContract
from cubeport.catalog.testing.generated import sample
from cubeport.errors import (
    BackendUnavailable,
    CatalogExists,
    CatalogMoved,
    CorruptCatalog,
    CubeportError,
    InvalidRequest,
    Locked,
    NetworkFilesystem,
    NewerModel,
    NoSpace,
    ReadOnly,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqlBackend]:
    with contextlib.closing(SqlBackend.create(path, "c" * 32)) as backend:
        yield backend


def raw(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path, isolation_level=None))


@contextlib.contextmanager
def traced(backend: SqlBackend) -> Iterator[list[str]]:
    """Collect the statements that the backend's one idle connection runs, without those of the virtual tables themselves."""
    said: list[str] = []
    connection = backend._store.borrow()
    connection.set_trace_callback(lambda text: None if text.startswith("--") else said.append(text))
    backend._store.give_back(connection)
    yield said
    connection.set_trace_callback(None)


# --- how it is set up -----------------------------------------------------------------------------------------------


def test_connections_are_durable_and_distrustful(backend: SqlBackend) -> None:
    with backend._store.reading() as connection:
        said = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "mmap_size", "busy_timeout")
        }
        assert said == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "trusted_schema": 0,
            "mmap_size": 0,
            "busy_timeout": 5000,
        }
        assert connection.getconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)


def test_creating_never_touches_what_is_there(path: Path, backend: SqlBackend) -> None:
    backend.add_record(sample(1))
    with pytest.raises(CatalogExists):
        SqlBackend.create(path, "d" * 32)
    assert backend.catalog_id == "c" * 32
    assert backend.count(Query()) == 1
    assert [each.name for each in path.parent.iterdir() if each.name.endswith((".part", ".part-wal"))] == []


def test_the_core_imports_no_driver() -> None:
    program = "import sys, cubeport.catalog.backend, cubeport.catalog.query; print({'sqlalchemy', 'tinydb'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_network_file_systems_are_refused_and_allowed_only_aloud(
    path: Path, backend: SqlBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.add_record(sample(1))
    backend.close()
    monkeypatch.setattr("cubeport.catalog.disk.mounts.mount_type", lambda path, mountinfo=None: "nfs4")
    monkeypatch.setattr("cubeport.adapters.backends.sql.sqlite.mount_type", lambda path: "nfs4")
    with pytest.raises(NetworkFilesystem, match="nfs4"):
        SqlBackend.open(path)
    with pytest.warns(RuntimeWarning, match="guarantees nothing"):
        allowed = SqlBackend.open(path, allow_network_filesystem=True)
    with contextlib.closing(allowed), allowed._store.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert allowed.count(Query()) == 1
        assert [(each.kind, each.level) for each in allowed.check()] == [("network-filesystem", "warn")]


# --- locks and death ------------------------------------------------------------------------------------------------


def test_a_writer_waits_for_the_lock_and_names_its_holder_while_readers_read(path: Path, backend: SqlBackend) -> None:
    record = backend.add_record(sample(1))
    with (
        contextlib.closing(SqlBackend.open(path, lock_timeout_s=0.05)) as other,
        FileLock(path.parent / "locks" / "catalog.lock", {"command": "cubeport import"}),
    ):
        with pytest.raises(Locked, match="doing: cubeport import"):
            other.add_record(sample(2))
        assert other.get_record(record.id) == record
    backend.add_record(sample(3))
    assert backend.generation() == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.catalog.models import CatalogRecord
backend = SqlBackend.open(Path(sys.argv[1]))
backend.add_record(CatalogRecord(key="acknowledged"))
with backend.transaction():
    backend.add_record(CatalogRecord(key="never"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_what_was_acknowledged_and_nothing_else(path: Path, backend: SqlBackend) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -signal.SIGKILL
    assert [each.key for each in backend.iterate()] == ["acknowledged"]
    assert backend.generation() == 1
    backend.add_record(sample(1))
    assert backend.check(deep=True) == []


def test_reading_takes_no_lock_and_cannot_write(path: Path, backend: SqlBackend) -> None:
    record = backend.add_record(sample(1))
    with contextlib.closing(SqlBackend.open(path, read_only=True, lock_path=path.parent / "none" / "x.lock")) as reader:
        assert reader.get_record(record.id) == record
        for act in (lambda: reader.add_record(sample(2)), lambda: reader.rows.put(Row("job", "a")), lambda: reader.retire("x")):
            with pytest.raises(ReadOnly):
                act()
        backend.add_record(sample(3))
        assert reader.count(Query()) == 2
    assert not (path.parent / "none").exists()


def test_a_fork_is_told_apart(backend: SqlBackend) -> None:
    backend._store._pid = os.getppid()
    with pytest.raises(RuntimeError, match="fork"):
        backend.count(Query())
    backend._store._pid = os.getpid()


def test_a_full_disk_is_no_space_and_changes_nothing(backend: SqlBackend) -> None:
    backend.add_record(sample(1))
    connection = backend._store.borrow()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    backend._store.give_back(connection)
    with pytest.raises(NoSpace):
        backend.add_record(sample(2, metadata={"text": "x" * 100_000}))
    assert backend.generation() == 1
    assert backend.check(deep=True) == []


def test_what_is_too_large_is_refused(backend: SqlBackend) -> None:
    with pytest.raises(InvalidRequest, match="larger than 1048576 bytes"):
        backend.add_record(sample(1, metadata={"text": "é" * 600_000}))
    with pytest.raises(InvalidRequest, match="2001 values"):
        backend.add_record(sample(1, metadata={"list": list(range(2001))}))
    assert backend.generation() == 0


# --- what it costs --------------------------------------------------------------------------------------------------

QUERIES = {
    "key": Query(where=["key=k7"], statuses=None),
    "field": Query(where=["n=7"]),
    "two fields": Query(where=["n>=3", "deep.flag=true"]),
    "text": Query(text="t7"),
    "time and bbox": Query(time="2020-01-05", bbox=(0, 0, 5, 5)),
    "the newest": Query(),
    "one kind": Query(kinds={"document"}),
}


def fill(backend: SqlBackend, first: int, last: int) -> None:
    with backend.transaction():
        for i in range(first, last):
            day = f"2020-01-{i % 28 + 1:02d}T00:00:00Z"
            backend.add_record(
                CatalogRecord(
                    key=f"k{i}",
                    title=f"t{i}",
                    metadata={"n": i, "deep": {"flag": i % 2 == 0}},
                    time={"start": day, "end": day},
                    bbox=(i % 90, i % 80, i % 90 + 1, i % 80 + 1),
                )
            )


def test_statements_per_page_are_few_and_do_not_grow(backend: SqlBackend) -> None:
    def statements() -> dict[tuple[str, bool], int]:
        counts = {}
        for name, query in QUERIES.items():
            for count in (False, True):
                with traced(backend) as said:
                    backend.search(replace(query, count=count, limit=5))
                assert [said[0], said[-1]] == ["BEGIN", "ROLLBACK"]
                counts[name, count] = len(said) - 2
        return counts

    fill(backend, 0, 10)
    few = statements()
    fill(backend, 10, 400)
    assert statements() == few
    assert max(few.values()) <= 4


def test_key_field_time_area_and_text_use_an_index(backend: SqlBackend) -> None:
    fill(backend, 0, 200)
    for name, query in QUERIES.items():
        with traced(backend) as said:
            assert len(backend.search(query)) > 0, name
        with backend._store.reading() as connection:
            reads = [each for each in said if each.startswith("SELECT")]
            steps = [row[3] for each in reads for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
        scans = [step for step in steps if step.startswith("SCAN") and "INDEX" not in step and "VIRTUAL TABLE INDEX" not in step]
        assert [step for step in scans if "record" in step.split() or "field" in step.split()] == [], (name, steps)
    with traced(backend) as said:
        backend.get_by_key("k7")
        backend.match_prefix("abcd")
    with backend._store.reading() as connection:
        steps = [row[3] for each in said for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    assert all(step.startswith("SEARCH record USING") for step in steps), steps


def test_each_page_of_one_kind_in_the_order_of_keys_is_read_along_an_index(backend: SqlBackend) -> None:
    fill(backend, 0, 200)
    query = Query(kinds=frozenset({"document"}), order=["key"], limit=5)
    page = backend.search(query)
    assert len(page) == 5
    for cursor in (None, page.next):
        with traced(backend) as said:
            backend.search(replace(query, cursor=cursor))
        with backend._store.reading() as connection:
            steps = [row[3] for each in said for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
        assert all(step.startswith("SEARCH record USING INDEX record_by_key") for step in steps), steps


@pytest.mark.parametrize(
    "query",
    [
        Query(order=["title"], limit=5),
        Query(order=["title"], limit=5, kinds=["document"], statuses=None),
        Query(order=["-title"], limit=5),
    ],
    ids=["title", "title of one kind", "-title"],
)
def test_each_page_in_the_order_of_titles_is_read_along_an_index(backend: SqlBackend, query: Query) -> None:
    fill(backend, 0, 200)
    page = backend.search(query)
    down = query.order == ("-title",)
    assert [each.title for each in page] == sorted((str(each.title) for each in backend.iterate()), reverse=down)[:5]
    for cursor in (None, page.next):
        with traced(backend) as said:
            backend.search(replace(query, cursor=cursor))
        with backend._store.reading() as connection:
            steps = [row[3] for each in said for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
        # Only the ids of equal titles are sorted; the words differ between releases of SQLite.
        steps = [step for step in steps if not re.fullmatch("USE TEMP B-TREE FOR (RIGHT PART|LAST TERM) OF ORDER BY", step)]
        assert all(" record USING INDEX record_by_title" in step for step in steps), steps


@pytest.mark.parametrize("order", [["n"], ["-n"], ["seldom", "-n"], ["-seldom", "title"], ["mixed"], ["-mixed"]], ids="-".join)
@pytest.mark.parametrize("few", [1_000, 5])
def test_pages_in_the_order_of_a_field_follow_the_table_of_fields(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch, order: list[str], few: int
) -> None:
    """No sort of all records, and the pages are those of Python: values of several types, records without one, others deleted."""
    monkeypatch.setattr("cubeport.adapters.backends.sql.search.FEW", few)
    fill(backend, 0, 60)
    mixed: list[Any] = ["b", 7, True, "a", -1.5, False, None]
    for i in range(40):
        metadata = {"n": 100 + i % 9, "mixed": mixed[i % 7]} | ({"seldom": i % 4} if i % 3 == 0 else {})
        backend.add_record(CatalogRecord(title=f"u{i % 5}", metadata=metadata, status="deleted" if i % 10 == 9 else "active"))
    for where in ([], ["n>=20"]):
        query = Query(where=where, order=order, limit=7)
        expected = [each.id for each in select(replace(query, limit=1000), backend.iterate())]
        found: list[str] = []
        plans: list[str] = []
        cursor: str | None = None
        while True:
            with traced(backend) as said:
                page = backend.search(replace(query, cursor=cursor))
            found += [each.id for each in page]
            with backend._store.reading() as connection:
                plans += [row[3] for each in said for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
            if (cursor := page.next) is None:
                break
        assert found == expected
        if not where:
            assert any("order_0 USING PRIMARY KEY" in step for step in plans), plans
            along = [step for step in plans if step.startswith("USE TEMP B-TREE FOR ORDER BY")]
            assert len(along) == 0 or len(order) > 1, plans


@pytest.mark.parametrize("statuses", [["active"], ["active", "deprecated"], ["deleted"], None])
def test_a_count_by_a_field_leaves_out_the_other_statuses(backend: SqlBackend, statuses: Any) -> None:
    for i in range(60):
        status: Any = ("active", "deleted", "active", "deprecated", "failed")[i % 5]
        backend.add_record(CatalogRecord(metadata={"n": i % 3, "m": i % 2}, status=status))
    for where in (["n=1"], ["n=1", "m=0"], ["n=1", "m!=0"], ["n=1", "status=active"]):
        query = Query(where=where, statuses=statuses)
        assert backend.count(query) == sum(matches(query, each) for each in backend.iterate()), where


def test_dense_and_sparse_conditions_give_the_same_page(backend: SqlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(backend, 0, 300)
    query = Query(where=["n>=10", "deep.flag=true"], text="t", time="2020-01", bbox=(0, 0, 60, 60), limit=20, count=True)
    pages = []
    for few, listed in ((1_000, 6_000), (0, 6_000), (0, 1), (1_000, 200)):
        monkeypatch.setattr("cubeport.adapters.backends.sql.search.FEW", few)
        monkeypatch.setattr("cubeport.adapters.backends.sql.search.LISTED", listed)
        pages.append((backend.search(query), backend.count(query)))
    assert pages[0][1] > 20
    assert all(page == pages[0] for page in pages)


# --- schema, damage -------------------------------------------------------------------------------------------------


def test_other_schemas_ask_for_the_right_step(path: Path, backend: SqlBackend) -> None:
    backend.close()
    with raw(path) as connection:
        connection.execute("UPDATE state SET schema = 99")
    with pytest.raises(NewerModel, match="schema 99"):
        SqlBackend.open(path)
    with raw(path) as connection:
        connection.execute("UPDATE state SET schema = 0")
    with pytest.raises(BackendUnavailable) as caught:
        SqlBackend.open(path)
    assert caught.value.next_step == "cubeport migrate"


def test_an_index_of_a_newer_release_is_made_beside_everything_else(path: Path, backend: SqlBackend) -> None:
    """Servers of the older release go on: they look for no index that they do not know, and no table is made anew."""
    fill(backend, 0, 3)

    def tables() -> list[object]:
        with raw(path) as connection:
            return connection.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'").fetchall()

    with raw(path) as connection:
        connection.execute("DROP INDEX record_updated")
        connection.execute("CREATE INDEX of_a_later_release ON record (created_by)")
    before = tables()
    with pytest.raises(BackendUnavailable, match="no index record_updated") as caught:
        SqlBackend.open(path)
    assert caught.value.next_step == "cubeport migrate"
    assert backend.search(Query(where=["n=1"])) != [], "the process that has it open goes on"
    assert migrate(path) == (SCHEMA, SCHEMA, ["record_updated"])
    assert tables() == before
    with contextlib.closing(SqlBackend.open(path)) as opened:
        assert [each.key for each in opened.search(Query(order=["updated_at"], limit=3))] == ["k0", "k1", "k2"]
    assert backend.add_record(sample(7)).version == 1
    assert migrate(path).made == []


def test_a_process_under_which_the_catalog_was_migrated_refuses_to_go_on(path: Path, backend: SqlBackend) -> None:
    """It would read and write tables of a form that it does not know."""
    fill(backend, 0, 1)
    with raw(path) as connection:
        connection.execute("UPDATE state SET schema = 99")
    for act in (
        backend.generation,
        lambda: backend.add_record(sample(1)),
        lambda: backend.rows.put(Row("job", "j", {}, state="accepted", seq=1)),
    ):
        with pytest.raises(NewerModel, match="schema 99"):
            act()
    with raw(path) as connection:
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM beside").fetchone() == (0,)


def test_migrations_run_in_order_each_whole(path: Path, backend: SqlBackend) -> None:
    backend.close()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (a)")
        raise RuntimeError("stop")

    with raw(path) as connection:
        connection.execute("UPDATE state SET schema = 1")
    steps = {1: lambda c: c.execute("CREATE TABLE one (a)"), 2: lambda c: c.execute("INSERT INTO one VALUES (1)"), 3: fail}
    with pytest.raises(RuntimeError, match="stop"):
        migrate(path, migrations=steps)
    with raw(path) as connection:
        assert connection.execute("SELECT schema FROM state").fetchone() == (3,)
        assert connection.execute("SELECT a FROM one").fetchall() == [(1,)]
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchone() is None
    assert migrate(path, migrations=steps | {3: lambda c: None}) == (3, 4, [])


def test_migrating_what_is_up_to_date_does_nothing(path: Path, backend: SqlBackend) -> None:
    assert migrate(path) == (SCHEMA, SCHEMA, [])
    assert backend.add_record(sample(1)).version == 1


def test_a_catalog_of_the_first_release_is_migrated(path: Path, backend: SqlBackend) -> None:
    fill(backend, 0, 5)
    backend.close()
    with raw(path) as connection:
        connection.execute("DROP INDEX record_by_key")
        for index in ORDERS.values():
            connection.execute(f"DROP INDEX {index.name}")
        for name in ("time_start", "time_end", "generation"):
            connection.execute(f"CREATE INDEX record_{name} ON record ({name})")
        connection.execute("DROP TABLE field_path")
        connection.execute("DROP TABLE field")
        connection.execute(
            "CREATE TABLE field (path TEXT, type INTEGER, num FLOAT, text TEXT, n INTEGER REFERENCES record (n) ON DELETE CASCADE,"
            " rank INTEGER, PRIMARY KEY (path, type, num, text, n)) WITHOUT ROWID"
        )
        connection.execute("INSERT INTO field SELECT 'metadata.n', 1, 5, '', n, 2 FROM record")
        connection.execute("UPDATE state SET schema = 1")
    with pytest.raises(CubeportError) as old:
        SqlBackend.open(path)
    assert old.value.next_step == "cubeport migrate"
    assert migrate(path)[:2] == (1, SCHEMA)
    with contextlib.closing(SqlBackend.open(path)) as opened:
        assert [each.key for each in opened.search(Query(order=["key"], limit=2))] == ["k0", "k1"]
        for order in ORDERS:
            assert len(opened.search(Query(order=[order], limit=2))) == 2
        assert [each.key for each in opened.search(Query(where=["n=3"]))] == ["k3"]
        assert opened.check(deep=True) == []
    with raw(path) as connection, raw(path.with_name("new.db")) as fresh:
        for statement in SQLITE.ddl():
            fresh.execute(statement)
        schemas = [
            dict(each.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index')").fetchall())
            for each in (connection, fresh)
        ]
    assert schemas[0] == schemas[1], "a migrated catalog has the tables and indexes of a new one"


@pytest.mark.parametrize("order", ["key", "-key", "title", "updated_at", "-updated_at", "time.start", "-time.end"])
def test_pages_of_a_list_join_into_the_whole_and_cost_the_same_each(backend: SqlBackend, order: str) -> None:
    """Records without the value come last; each page is found along the index, wherever it begins."""
    for n in range(30):
        backend.add_record(
            sample(n).replace(
                key=None if n % 3 == 0 else f"k{n * 7 % 30:02}",
                title=None if n % 4 == 0 else f"t{n}",
                time=None if n % 5 == 0 else {"start": f"20{n * 11 % 17:02}-01-01T00:00:00Z", "end": f"20{30 + n}-01-01T00:00:00Z"},
            )
        )
    whole = [each.id for each in backend.search(Query(order=[order], limit=100))]
    pages: list[str] = []
    cursor = None
    while True:
        page = backend.search(Query(order=[order], limit=4, cursor=cursor))
        pages += [each.id for each in page]
        if (cursor := page.next) is None:
            break
    assert pages == whole
    assert len(set(pages)) == 30


@pytest.mark.parametrize("field", ORDERS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_page_in_the_order_of_a_field_does_not_sort_all_records(backend: SqlBackend, field: str, sign: str) -> None:
    fill(backend, 0, 20)
    with traced(backend) as said:
        backend.search(Query(order=[sign + field], limit=5))
    with backend._store.reading() as connection:
        reads = [each for each in said if each.startswith("SELECT")]
        steps = [row[3] for each in reads for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]
    assert any(f"USING INDEX {ORDERS[field].name}" in step for step in steps), steps
    assert "USE TEMP B-TREE FOR ORDER BY" not in steps


def test_derived_tables_are_checked_and_made_anew(path: Path, backend: SqlBackend) -> None:
    fill(backend, 0, 5)
    record = backend.get_by_key("k2")
    assert record is not None
    with raw(path) as connection:
        (n,) = connection.execute("SELECT n FROM record WHERE key = 'k2'").fetchone()
        connection.execute("DELETE FROM field WHERE n = ? AND path = (SELECT id FROM field_path WHERE name = 'metadata.n')", (n,))
        connection.execute("UPDATE record_text SET words = 'wrong' WHERE rowid = ?", (n,))
        connection.execute("DELETE FROM record_box WHERE id = ?", (2 * n,))
    (finding,) = backend.check(deep=True)
    assert (finding.kind, finding.place) == ("index-differs", record.id)
    assert "fields, words, boxes" in finding.message
    assert len(backend.search(Query(where=["n=2"]))) == 0
    assert finding.next_step == "cubeport migrate"
    assert migrate(path) == (SCHEMA, SCHEMA, [])
    assert backend.check(deep=True) == []
    assert tuple(backend.search(Query(where=["n=2"], text="t2", bbox=(2, 2, 3, 3)))) == (record,)


def test_rows_of_no_record_are_found_and_removed(path: Path, backend: SqlBackend) -> None:
    fill(backend, 0, 2)
    with raw(path) as connection:
        connection.execute("INSERT INTO field SELECT path, type, num, text, 999, rank FROM field LIMIT 1")
    (finding,) = backend.check(deep=True)
    assert (finding.kind, finding.place) == ("index-differs", "field")
    assert "record 999" in finding.message
    assert finding.next_step == "cubeport migrate"
    migrate(path)
    assert backend.check(deep=True) == []


def test_a_document_that_is_no_record_is_corrupt(path: Path, backend: SqlBackend) -> None:
    record = backend.add_record(sample(1))
    with raw(path) as connection:
        connection.execute("UPDATE record SET doc = replace(doc, 'active', 'alive')")
    with pytest.raises(CorruptCatalog, match="differs from what was written"):
        backend.get_record(record.id)
    assert [each.kind for each in backend.check(deep=True)] == ["document-differs"]
    with raw(path) as connection:
        connection.execute("UPDATE record SET doc = ?", ('{"id": 1}',))
    with pytest.raises(CorruptCatalog, match="not valid"):
        backend.get_record(record.id)


def test_damaged_pages_are_found(path: Path, backend: SqlBackend) -> None:
    fill(backend, 0, 200)
    backend.close()
    with raw(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 :] = os.urandom(len(whole) - len(whole) // 2)
    path.write_bytes(whole)
    with contextlib.closing(SqlBackend.open(path)) as damaged:
        assert {each.kind for each in damaged.check()} == {"corrupt-catalog"}
        with pytest.raises(CorruptCatalog):
            list(damaged.iterate())


def test_a_retired_catalog_sends_its_writers_away(path: Path, backend: SqlBackend) -> None:
    record = backend.add_record(sample(1))
    with contextlib.closing(SqlBackend.open(path)) as other:
        backend.retire("tinydb")
        for act in (lambda: other.add_record(sample(2)), other.generation, lambda: SqlBackend.open(path)):
            with pytest.raises(CatalogMoved) as caught:
                act()
            assert caught.value.target == "tinydb"
        assert other.get_record(record.id) == record


@pytest.mark.parametrize(("few", "listed"), [(0, 1), (1, 3)])
def test_conditions_that_many_fit_mean_the_same(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch, few: int, listed: int
) -> None:
    monkeypatch.setattr("cubeport.adapters.backends.sql.search.FEW", few)
    monkeypatch.setattr("cubeport.adapters.backends.sql.search.LISTED", listed)
    BackendContract().test_searching_is_what_matches_says(backend=backend)


@pytest.mark.parametrize(("short", "listed"), [(0, 1), (1, 8), (0, 2_000)])
def test_rows_that_many_conditions_fit_mean_the_same(
    backend: SqlBackend, monkeypatch: pytest.MonkeyPatch, short: int, listed: int
) -> None:
    monkeypatch.setattr("cubeport.adapters.backends.sql.places.SHORT", short)
    monkeypatch.setattr("cubeport.adapters.backends.sql.places.LISTED", listed)
    BackendContract().test_rows_are_found_by_place_time_and_record(backend)


@pytest.mark.parametrize(
    ("first", "then", "words"), [("cubeport", "eccodes", "opened"), ("eccodes", "cubeport", "before the first file")]
)
def test_the_old_sqlite_of_eccodes_is_not_used(tmp_path: Path, first: str, then: str, words: str) -> None:
    """eccodes loads SQLite 3.26 for the whole process; setconfig of a later import of sqlite3 was a SystemError."""
    pytest.importorskip("eccodes")
    program = f"""
import {first}, {then}, pathlib, sqlite3
if {first!r} == "eccodes" and sqlite3.sqlite_version_info >= (3, 35):
    print("no old SQLite")
else:
    try:
        cubeport.Catalog.create(pathlib.Path({str(tmp_path / "catalog")!r})).close()
        print("opened")
    except cubeport.CubeportError as refused:
        print(refused.kind, refused.next_step)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    if done.stdout.strip() == "no old SQLite":
        pytest.skip("this eccodes brings no old SQLite, so that nothing can be refused")
    assert words in done.stdout, (done.stdout, done.stderr)
