"""Converting there and back: equal documents, rows and generations; the old store sends its writers on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cubeport.adapters.backends.documents import MemoryBackend
from cubeport.adapters.backends.sql import SqlBackend, postgresql
from cubeport.adapters.backends.tinydb import TinyBackend
from cubeport.catalog.backend import Row
from cubeport.catalog.keeping.convert import Portable, convert, digest
from cubeport.catalog.models import Artifact, Operation
from cubeport.catalog.query import Query
from cubeport.catalog.testing.generated import every_locator, sample
from cubeport.errors import CatalogExists, CatalogMoved, HashMismatch

type Make = Callable[[str], Portable]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str, str], Portable]]:
    with contextlib.ExitStack() as opened:

        def make(kind: str, name: str) -> Portable:
            folder = tmp_path / name
            folder.mkdir()
            if kind == "sqlite":
                return opened.enter_context(contextlib.closing(SqlBackend.create(folder / "catalog.db", "c" * 32)))
            if kind == "postgresql":
                database = request.getfixturevalue("postgres_server").database()
                postgresql.create(database, "c" * 32)
                return opened.enter_context(contextlib.closing(SqlBackend.at(database, "c" * 32)))
            return opened.enter_context(contextlib.closing(TinyBackend.create(folder / "catalog.json", "c" * 32)))

        yield make


def fill(backend: Portable) -> None:
    first = backend.add_record(
        sample(1, key="k", artifacts=[Artifact(locator=each) for each in every_locator("a")], metadata={"n": [1, 1.0, "é"]})
    )
    backend.update_record(first.replace(title="second"))
    gone = backend.add_record(sample(2))
    backend.delete_record(gone.id, 1)
    backend.add_record(sample(3, key="k3", status="deleted", deleted_from="active"))
    backend.put_operation(Operation(operation_type="add", status="succeeded"))
    row = backend.rows.put(Row("version", "v1", {"a": 1}, owner="d", state="sealed", seq=1))
    backend.rows.put(row)


@pytest.mark.parametrize("kinds", [("sqlite", "tinydb"), ("tinydb", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "tinydb")])
def test_there_and_back(make: Callable[[str, str], Portable], kinds: tuple[str, str]) -> None:
    source, middle, back = make(kinds[0], "a"), make(kinds[1], "b"), make(kinds[0], "c")
    fill(source)
    documents = [each.to_json() for each in source.iterate()]
    facts = (source.generation(), source.changes(0), source.rows.get("version", "v1"), list(source.all_operations()))
    done = convert(source, middle, kinds[1])
    assert (done.records, done.rows) == (2, 1)
    convert(middle, back, kinds[0])
    assert [each.to_json() for each in back.iterate()] == documents
    assert (back.generation(), back.changes(0), back.rows.get("version", "v1"), list(back.all_operations())) == facts
    assert [each.title for each in back.search(Query(where=["n=é"], text="second"))] == ["second"]
    assert back.check(deep=True) == []
    with pytest.raises(CatalogMoved, match=kinds[1]):
        source.add_record(sample(9))
    back.add_record(sample(9))
    assert back.generation() == facts[0] + 1


def test_the_target_must_be_empty(make: Callable[[str, str], Portable]) -> None:
    source, target = make("sqlite", "a"), make("tinydb", "b")
    fill(source)
    target.add_record(sample(1))
    with pytest.raises(CatalogExists):
        convert(source, target, "tinydb")
    source.add_record(sample(4))


class Forgetful(MemoryBackend):
    """Loses a record on its way in."""

    def load(self, records, operations, rows, changes, generation):
        super().load(list(records)[1:], operations, rows, changes, generation)


def test_a_copy_that_differs_is_refused_and_the_source_stays(make: Callable[[str, str], Portable]) -> None:
    source = make("sqlite", "a")
    fill(source)
    before = digest(source)
    with pytest.raises(HashMismatch):
        convert(source, Forgetful(), "memory")
    assert digest(source) == before
    source.add_record(sample(5))
