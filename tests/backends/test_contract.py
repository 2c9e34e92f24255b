"""The contract, kept by every backend that we bring."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from pathlib import Path

import pytest

from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.tinydb import TinyBackend
from cubeport.catalog.testing.backend import BackendContract, Open

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
