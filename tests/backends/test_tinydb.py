"""What the JSON file promises beyond the contract: it can be read by eye and by TinyDB, and no death leaves half of it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tinydb import TinyDB

from cubeport.adapters.backends import tinydb
from cubeport.adapters.backends.tinydb import CatalogStorage, TinyBackend, encoded
from cubeport.catalog.backend import Row
from cubeport.catalog.models import Operation
from cubeport.catalog.query import Query
from cubeport.catalog.testing.generated import sample
from cubeport.errors import BackendUnavailable, CatalogExists, CorruptCatalog, NewerModel, ReadOnly


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.json"


@pytest.fixture
def backend(path: Path) -> Iterator[TinyBackend]:
    with contextlib.closing(TinyBackend.create(path, "c" * 32)) as backend:
        yield backend


def test_tinydb_reads_it(path: Path, backend: TinyBackend) -> None:
    records = [backend.add_record(sample(i, title=f"é {i}")) for i in range(3)]
    for options in ({"access_mode": "r", "encoding": "utf-8"}, {"storage": CatalogStorage}):
        with TinyDB(path, **options) as db:
            assert db.tables() == {"catalog", "changes", "operations", "records", "rows"}
            assert [dict(each) for each in db.table("records")] == [each.to_mapping() for each in records]
            assert db.table("catalog").get(doc_id=1)["generation"] == 3


def test_the_file_is_sorted_indented_and_says_its_digest(path: Path, backend: TinyBackend) -> None:
    backend.add_record(sample(1, metadata={"z": {}, "a": [1, [2, {"b": "}\n    }"}]]}))
    backend.rows.put(Row("job", "a", {"text": 'x": {\n    }'}))
    text = path.read_text("utf-8")
    document = json.loads(text)
    assert text == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_what_is_kept_of_the_text_is_what_would_be_written_anew(path: Path, backend: TinyBackend) -> None:
    for i in range(3):
        backend.add_record(sample(i, metadata={"a": [{"b": i}], "text": "}\n    },"}))
    backend.close()
    with contextlib.closing(TinyBackend.open(path)) as again:  # cuts the texts that it keeps out of the file
        changed = again.update_record(next(again.iterate()).replace(title="changed"))
        again.put_operation(Operation(operation_type="add", status="failed"))
        again.rows.put(Row("job", "a"))
        again.delete_record(changed.id, changed.version)
    storage = CatalogStorage(path)
    tables = storage.read()
    kept = path.read_bytes()
    tables["catalog"]["1"]["sha256"] = "0" * 64
    assert encoded(tables) == kept


def test_the_former_state_is_kept(path: Path, backend: TinyBackend) -> None:
    first = backend.add_record(sample(1))
    backend.add_record(sample(2))
    with contextlib.closing(TinyBackend.open(path.with_name("catalog.json.bak"), read_only=True)) as former:
        assert list(former.iterate()) == [first]
        assert former.generation() == 1
        with pytest.raises(ReadOnly):
            former.add_record(sample(3))


def test_an_edit_by_hand_is_seen(path: Path, backend: TinyBackend) -> None:
    backend.add_record(sample(1, title="before"))
    path.write_text(path.read_text().replace("before", "edited"))
    with pytest.raises(CorruptCatalog, match="sha256") as caught:
        backend.count(Query())
    assert "catalog.json.bak" in (caught.value.next_step or "")
    assert [each.kind for each in backend.check()] == ["corrupt-catalog"]


def test_a_newer_form_is_neither_read_nor_written(path: Path, backend: TinyBackend) -> None:
    text = path.read_text().replace('"schema": 1', '"schema": 2')
    path.write_text(text)
    with pytest.raises(NewerModel):
        TinyBackend.open(path)
    assert path.read_text() == text


def test_creating_never_touches_what_is_there(path: Path, backend: TinyBackend) -> None:
    backend.add_record(sample(1))
    before = path.read_bytes()
    with pytest.raises(CatalogExists):
        TinyBackend.create(path, "d" * 32)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".part")] == []


KILLED = """
import os, signal, sys
from pathlib import Path
from cubeport.adapters.backends.tinydb import CatalogStorage, TinyBackend
from cubeport.catalog.models import CatalogRecord

class Dying(CatalogStorage):
    def _replace(self, part):
        os.kill(os.getpid(), signal.SIGKILL)

backend = TinyBackend.open(Path(sys.argv[1]))
backend.add_record(CatalogRecord(key="acknowledged"))
backend._storage.__class__ = Dying
backend.add_record(CatalogRecord(key="never"))
"""


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_sweeps(path: Path, backend: TinyBackend) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -signal.SIGKILL
    parts = list(path.parent.glob(".catalog.json.*.part"))
    assert len(parts) == 1
    assert [each.key for each in backend.iterate()] == ["acknowledged"]
    backend.add_record(sample(1))
    assert list(path.parent.glob(".catalog.json.*.part")) == []
    assert backend.generation() == 2


def test_a_failed_sync_after_the_rename_is_unknown(path: Path, backend: TinyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(tinydb, "sync_folder", fail)
        with pytest.raises(BackendUnavailable, match="unknown whether"):
            backend.add_record(sample(1, key="k"))
    assert backend.get_by_key("k") is not None, "the file is read again"


def test_a_failed_write_leaves_the_file_and_memory_as_they_were(
    path: Path, backend: TinyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = backend.add_record(sample(1))
    before = path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tinydb, "sync", fail)
        with pytest.raises(Exception, match="No space"):
            backend.add_record(sample(2))
    assert path.read_bytes() == before
    assert list(backend.iterate()) == [record]
    assert list(path.parent.glob(".*.part")) == []


def test_only_the_newest_finished_operations_stay(backend: TinyBackend) -> None:
    running = Operation(operation_type="add", status="running")
    backend.put_operation(running)
    with backend.transaction():
        for _ in range(120):
            backend.put_operation(Operation(operation_type="add", status="succeeded"))
    kept = backend.list_operations(limit=1000)
    assert len(kept) == 101
    assert running in kept
