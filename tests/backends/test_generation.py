"""The number of the last commit costs a request next to nothing while nobody writes, and is never an old one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cubeport.adapters.backends.sql import SqlBackend, sqlite
from cubeport.catalog.disk.locks import FileLock
from cubeport.catalog.testing.generated import sample
from cubeport.errors import CatalogMoved

from .test_sqlite import traced

_AGES = count(10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqlBackend]:
    with contextlib.closing(SqlBackend.create(path, "c" * 32)) as backend:
        assert isinstance(backend._store, sqlite.SqliteStore)
        if not backend._store._is_stamped:
            pytest.skip("the folder of tests is on a file system whose times of files are not relied on")
        backend.add_record(sample(0))
        yield backend


def rest(path: Path) -> None:
    """Let the log look as if nothing had been written for a while: each time for another while."""
    then = time.time() - next(_AGES)
    os.utime(f"{path}-wal", (then, then))


def asks(backend: SqlBackend) -> tuple[int, int]:
    """Return the generation, and how many statements it took."""
    with traced(backend) as statements:
        found = backend.generation()
    return found, len(statements)


def test_while_nothing_is_written_the_database_is_not_asked(path: Path, backend: SqlBackend) -> None:
    assert asks(backend) == (1, 1)
    rest(path)
    assert [asks(backend) for _ in range(4)][-2:] == [(1, 0)] * 2


def test_right_after_a_commit_it_is_asked_each_time(backend: SqlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_SETTLED_NS", 10**15)
    assert [asks(backend) for _ in range(4)] == [(1, 1)] * 4, "a further commit could leave the same time of the file"


def test_commits_of_others_are_seen_at_once(path: Path, backend: SqlBackend) -> None:
    with contextlib.closing(SqlBackend.open(path)) as other:
        for number in range(1, 60):
            rest(path)
            assert [backend.generation() for _ in range(3)] == [number] * 3
            assert asks(backend) == (number, 0)
            other.add_record(sample(number))
            assert backend.generation() == number + 1


def test_while_somebody_writes_nothing_is_kept(path: Path, backend: SqlBackend) -> None:
    """A commit writes to the log, waits for the disk for as long as that takes, and only then do readers see it."""
    rest(path)
    with FileLock(path.parent / "locks" / "catalog.lock", {}):
        assert [asks(backend) for _ in range(4)] == [(1, 1)] * 4
    assert [asks(backend) for _ in range(2)] == [(1, 1), (1, 0)]


def test_a_transaction_of_ones_own_is_counted_when_it_ends(path: Path, backend: SqlBackend) -> None:
    rest(path)
    assert [backend.generation() for _ in range(3)] == [1] * 3
    with backend.transaction():
        backend.add_record(sample(1))
        assert backend.generation() == 1
    assert backend.generation() == 2


def test_a_log_that_is_another_file_is_noticed(path: Path, backend: SqlBackend) -> None:
    rest(path)
    assert [asks(backend)[1] for _ in range(3)][-1] == 0
    log = path.with_name("catalog.db-wal")
    old = log.read_bytes()
    log.unlink()
    log.write_bytes(old)
    rest(path)
    assert [asks(backend)[1] for _ in range(3)] == [1, 1, 0], "opened again, then asked, then known"


def test_threads_that_open_the_log_at_once_leave_no_file_open(backend: SqlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    whole = Path.open

    def slow(path: Path, *arguments: Any, **options: Any) -> Any:
        time.sleep(0.02)  # long enough for the others to come
        opened.append(whole(path, *arguments, **options))
        return opened[-1]

    store = backend._store
    assert isinstance(store, sqlite.SqliteStore)
    monkeypatch.setattr(Path, "open", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store._open_log(), range(4)))
    assert len(opened) == 4
    assert [each for each in opened if not each.closed] == [store._log]


def test_a_retired_catalog_still_sends_its_writers_away(path: Path, backend: SqlBackend) -> None:
    rest(path)
    assert [asks(backend)[1] for _ in range(3)][-1] == 0
    with contextlib.closing(SqlBackend.open(path)) as other:
        other.retire("postgresql://elsewhere")
    with pytest.raises(CatalogMoved):
        backend.generation()


WRITER = """
import sys, time, random
from pathlib import Path
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.catalog.testing.generated import sample
random.seed(1)
backend = SqlBackend.open(Path(sys.argv[1]))
for number in range(1, 41):
    time.sleep(random.choice((0, 0.002, 0.02, 0.05)))
    backend.add_record(sample(number))
    print(backend.generation(), flush=True)
backend.close()
"""


def test_a_reader_never_falls_behind_another_process(path: Path, backend: SqlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_SETTLED_NS", 15_000_000)  # more than the clock of files is coarse here, but not long
    quick = False
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            told = int(line)
            began = time.monotonic()
            while time.monotonic() - began < 0.04:
                assert backend.generation() >= told
                quick = quick or asks(backend)[1] == 0
    assert (writer.returncode, backend.generation()) == (0, 41)
    assert quick, "it was never answered without asking"
