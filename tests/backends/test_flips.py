"""Every flipped bit of the database's file is found by ``check(deep=True)``, or changes nothing that anybody can read."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cubeport.adapters.backends.sql import SqlBackend
from cubeport.adapters.backends.sql.backend import migrate
from cubeport.catalog.backend import Row
from cubeport.catalog.forms.canonical import new_id, now
from cubeport.catalog.models import Operation
from cubeport.catalog.query import Query
from cubeport.catalog.testing.generated import sample
from cubeport.errors import CorruptCatalog, CubeportError

FLIPS = 90


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "catalog.db"
    with contextlib.closing(SqlBackend.create(path, new_id())) as backend:
        for n in range(40):
            backend.add_record(sample(n))
            backend.put_operation(Operation(operation_id=new_id(), operation_type="add", status="succeeded", started_at=now()))
            row = backend.rows.put(Row("version", new_id(), {"n": n, "words": "ä" * 200}, f"owner {n % 3}", "retained", n))
            backend.rows.put(row)
    assert not path.with_name("catalog.db-wal").exists() or not path.with_name("catalog.db-wal").stat().st_size, (
        "what was written is in the file when it is closed"
    )
    return path


def everything(path: Path) -> list[Any]:
    """Return all that a reader can be told."""
    with contextlib.closing(SqlBackend.open(path, read_only=True)) as backend:
        words = sorted({word for n in range(40) for word in (sample(n).title or "").split()})
        return [
            backend.catalog_id,
            backend.generation(),
            [each.to_json() for each in backend.iterate()],
            [each.to_json() for each in backend.all_operations()],
            list(backend.all_rows()),
            backend.changes(0),
            [[each.id for each in backend.search(Query(text=word, limit=100))] for word in words],
            [[each.id for each in backend.search(Query(bbox=(n, n, n + 1, n + 1), limit=100))] for n in range(0, 40, 7)],
            [[each.id for each in backend.search(Query(where=[f"n={n}"], limit=100))] for n in range(40)],
            [backend.get_by_key(f"k{n}") for n in range(40)],
            [row.id for owner in range(3) for row in backend.rows.select("version", owner=f"owner {owner}")],
        ]


@pytest.mark.parametrize("part", range(3))
def test_every_flip_is_found_or_harmless(whole: Path, tmp_path: Path, part: int) -> None:
    truth = everything(whole)
    content = bytearray(whole.read_bytes())
    choose = random.Random(part)
    path = tmp_path / "catalog.db"
    silent = []
    for _ in range(FLIPS // 3):
        bit = choose.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        for left in tmp_path.glob("catalog.db*"):
            left.unlink()
        path.write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        if not findings(path) and told(lambda: everything(path)) != truth:
            silent.append(bit)
    assert not silent


def findings(path: Path) -> list[str]:
    try:
        with contextlib.closing(SqlBackend.open(path)) as backend:
            return [each.kind for each in backend.check(deep=True)]
    except CubeportError as exc:
        return [exc.kind]


def told(ask: Callable[[], list[Any]]) -> list[Any] | str:
    try:
        return ask()
    except (CubeportError, sqlite3.Error) as exc:
        return str(exc)


def test_the_index_of_words_is_checked_too(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(whole.read_bytes())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rowid, block = connection.execute("SELECT id, block FROM record_text_data ORDER BY length(block) DESC").fetchone()
        at = len(block) // 2
        flipped = block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]
        connection.execute("UPDATE record_text_data SET block = ? WHERE id = ?", (flipped, rowid))
    with contextlib.closing(SqlBackend.open(path, read_only=True)) as backend:
        assert [(each.kind, each.place) for each in backend.check(deep=True)] == [("index-differs", "record_text")]
    migrate(path)
    with contextlib.closing(SqlBackend.open(path)) as backend:
        assert backend.check(deep=True) == [], "the advice cures it"


@pytest.mark.parametrize("where", ["record", "beside", "operation"])
def test_a_flip_in_each_document_is_found_and_costs_that_one_alone(whole: Path, tmp_path: Path, where: str) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(whole.read_bytes())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (n, doc) = connection.execute(f"SELECT rowid, doc FROM {where} LIMIT 1 OFFSET 7").fetchone()
        at = len(doc) // 2
        flipped = doc[:at] + chr(ord(doc[at]) ^ 1) + doc[at + 1 :]
        connection.execute(f"UPDATE {where} SET doc = ? WHERE rowid = ?", (flipped, n))
    with contextlib.closing(SqlBackend.open(path)) as backend:
        (finding,) = backend.check(deep=True)
        assert finding.kind == "document-differs"
        if where == "record":
            page = backend.search(Query(limit=100))
            assert len(page) == 39
            assert page.damaged == (finding.place.removeprefix("record "),)
            assert pages(backend, 1) == list(page), "paging passes by it"
            assert len(list(backend.iterate(skip_damaged=True))) == 39
            with pytest.raises(CorruptCatalog):
                backend.get_record(page.damaged[0])
        elif where == "beside":
            id_ = finding.place.removeprefix("version ")
            assert len(backend.rows.select("version")) == 39
            with pytest.raises(CorruptCatalog, match=id_):
                backend.rows.get("version", id_)
            with pytest.raises(CorruptCatalog, match=id_):
                backend.rows.get_many("version", [id_])
        else:
            assert len(backend.list_operations(limit=100)) == 39


def pages(backend: SqlBackend, limit: int) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = backend.search(Query(limit=limit, cursor=cursor))
        found += page
        if (cursor := page.next) is None:
            return found


def test_a_document_of_an_earlier_release_is_read_and_sealed_when_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with contextlib.closing(SqlBackend.create(path, new_id())) as backend:
        record = backend.add_record(sample(1))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE record SET doc = ?", (record.to_json(),))
        assert backend.get_record(record.id) == record
        backend.update_record(record)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            assert "\n" in connection.execute("SELECT doc FROM record").fetchone()[0]
