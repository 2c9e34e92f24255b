"""One damaged row costs one dataset: every list leaves it out, names it, and goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import cubeport
from cubeport.adapters.backends.sql.rows import _values
from cubeport.errors import Corrupt, NewerModel
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.state import CUBE, VERSION

from .conftest import here, start, stop


@pytest.fixture(scope="module")
def made(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("instance")
    assert here("init", root).returncode == 0
    with cubeport.connect(root) as service:
        for dataset_id in ("one", "two", "three"):
            options = FileOptions(files=(str(realdata / "test_lcc.nc"),))
            assert service.ingest_here(IngestionRequest(dataset_id=dataset_id), options).status == "completed"
    return root


@pytest.fixture(params=["record", "version", "cube"])
def damaged(made: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, str]]:
    """One bit of the document of dataset ``two`` is flipped, in the record or in a row of its version."""
    with closing(sqlite3.connect(made / ".cubeport" / "catalog.db", isolation_level=None)) as connection:
        record_id, version = connection.execute(
            "SELECT id, json_extract(substr(doc, 1, instr(doc, char(10)) - 1),"
            " '$.metadata.dataset.head') FROM record WHERE key = 'two'"
        ).fetchone()
        table, where = ("record", ("id", record_id)) if request.param == "record" else ("beside", ("id", version))
        condition = f"{where[0]} = ? AND (? = 'record' OR tbl = ?)" if table == "beside" else f"{where[0]} = ? AND ? = ?"
        values = (where[1], request.param, request.param)
        (doc,) = connection.execute(f"SELECT doc FROM {table} WHERE {condition}", values).fetchone()
        at = doc.index('"', len(doc) // 2) + 1
        flipped = doc[:at] + chr(ord(doc[at]) ^ 1) + doc[at + 1 :]
        connection.execute(f"UPDATE {table} SET doc = ? WHERE {condition}", (flipped, *values))
        yield made, record_id if request.param == "record" else "two"
        connection.execute(f"UPDATE {table} SET doc = ? WHERE {condition}", (doc, *values))


def test_lists_leave_it_out_and_name_it(damaged: tuple[Path, str]) -> None:
    root, name = damaged
    with cubeport.connect(root) as service:
        page = service.datasets()
        assert [each.texts.dataset_id for each in page.items] == ["one", "three"]
        assert page.damaged == (name,)
        with pytest.raises(Corrupt):
            service.shown("two")
        assert service.shown("one").texts.dataset_id == "one"
        found = [(each.kind, each.place) for each in service.catalog.fsck().findings]
        assert [kind for kind, _ in found if kind != "not-checked"] == ["document-differs"], found
    listed = here("datasets", "--instance", root)
    assert listed.returncode == 0
    assert f"dataset {name} cannot be read" in listed.stderr


def test_every_face_lists_the_others(damaged: tuple[Path, str]) -> None:
    root, name = damaged
    process, url = start(root)
    try:
        for path, ids in LISTS.items():
            answer = httpx.get(url + path, timeout=60, trust_env=False)
            assert answer.status_code == 200, (path, answer.text)
            assert ids(answer.json()) == {"one", "three"}, path
        assert httpx.get(f"{url}/datasets", trust_env=False).json()["damaged"] == [name]
        answer = httpx.get(f"{url}/datasets/two", trust_env=False)
        assert answer.status_code == 500
        assert answer.json()["kind"] in ("corrupt", "corrupt-catalog")
    finally:
        stop(process)


LISTS: dict[str, Any] = {
    "/datasets": lambda page: {each["dataset_id"] for each in page["items"]},
    "/stac/collections": lambda page: {each["id"] for each in page["collections"]},
    "/ogcapi/collections": lambda page: {each["id"] for each in page["collections"]},
    "/ingestions": lambda page: {each["dataset_id"] for each in page["items"] if each["dataset"] is not None},
}


@pytest.mark.parametrize("table", [CUBE, VERSION])
def test_a_version_of_a_newer_release_costs_one_dataset_too(made: Path, table: str) -> None:
    with cubeport.connect(made) as service:
        version = service.shown("two").version.version_id
        row = service.catalog.backend.rows.get(table, version)
    assert row is not None
    newer = replace(row, document={**row.document, "unheard_of": 1})
    with closing(sqlite3.connect(made / ".cubeport" / "catalog.db", isolation_level=None)) as connection:
        change = f"UPDATE beside SET doc = ? WHERE tbl = '{table}' AND id = ?"
        connection.execute(change, (_values(newer)["doc"], version))
        try:
            with cubeport.connect(made) as service:
                page = service.datasets()
                assert [each.texts.dataset_id for each in page.items] == ["one", "three"]
                assert page.damaged == ("two",)
                with pytest.raises(NewerModel, match="newer cubeport"):
                    service.shown("two")
                assert here("jobs", "--instance", made).returncode == 0
        finally:
            connection.execute(change, (_values(row)["doc"], version))
