"""The contract, kept by every backend that we bring."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests import postgres

from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.adapters.backends.sql import SqlBackend, postgresql
from cubeport.adapters.backends.tinydb import TinyBackend
from cubeport.catalog.testing.backend import BackendContract, Open
from cubeport.catalog.testing.generated import sample
from cubeport.errors import Corrupt

PATIENCE_S = 300.0
"""The promises hold on a slow machine too; how long a writer waits there is none of them."""


class TestSqlite(BackendContract):
    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Open:
        SqlBackend.create(tmp_path / "catalog.db", "c" * 32).close()
        return functools.partial(SqlBackend.open, tmp_path / "catalog.db", lock_timeout_s=PATIENCE_S)

    def store_file(self, tmp_path: Path) -> Path:
        with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return tmp_path / "catalog.db"


class TestPostgresql(BackendContract):
    """On the newest release that there is."""

    @pytest.fixture
    def open_backend(self, database: str) -> Open:
        postgresql.create(database, "c" * 32)
        return functools.partial(SqlBackend.at, database, "c" * 32, lock_timeout_s=PATIENCE_S)

    @pytest.mark.parametrize("damage", ["table", "column", "state", "schema", "another"])
    def test_unreadable_is_corrupt_never_empty(self, open_backend: Open, database: str, damage: str) -> None:  # type: ignore[override]
        with contextlib.closing(open_backend()) as backend:
            backend.add_record(sample(1))
        address = database
        with psycopg.connect(database) as connection:
            connection.execute("SET search_path TO cubeport_cccccccc")
            match damage:
                case "table":
                    connection.execute("DROP TABLE record CASCADE")
                case "column":
                    connection.execute("ALTER TABLE record DROP COLUMN doc")
                case "state":
                    connection.execute("DELETE FROM state")
                case "schema":
                    connection.execute("DROP SCHEMA cubeport_cccccccc CASCADE")
                case "another":
                    address = database.rpartition("/")[0] + "/postgres"
        for use in (lambda backend: list(backend.iterate()), lambda backend: backend.add_record(sample(2))):
            with pytest.raises(Corrupt), contextlib.closing(SqlBackend.at(address, "c" * 32)) as damaged:
                use(damaged)


@pytest.fixture(scope="module")
def oldest_server() -> Iterator[postgres.Server]:
    programs = postgres.binaries(15)
    if programs is None:
        pytest.skip("PostgreSQL 15 is missing: install Debian's postgresql-15")
    with postgres.running(programs) as server:
        yield server


@pytest.mark.slow
class TestPostgresql15(TestPostgresql):
    """On the oldest release that is supported."""

    @pytest.fixture
    def database(self, oldest_server: postgres.Server) -> str:
        return oldest_server.database()


class TestTinydb(BackendContract):
    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Open:
        TinyBackend.create(tmp_path / "catalog.json", "c" * 32).close()
        return functools.partial(TinyBackend.open, tmp_path / "catalog.json", lock_timeout_s=PATIENCE_S)

    def store_file(self, tmp_path: Path) -> Path:
        return tmp_path / "catalog.json"


class TestMemory(BackendContract):
    durable = False

    @pytest.fixture
    def open_backend(self) -> Open:
        backend = MemoryBackend()
        return lambda: backend
