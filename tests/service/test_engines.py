"""A version is read by the engine that wrote it; an engine that is not installed is named."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from cubeport.catalog.forms.canonical import new_id, now
from cubeport.cubes.write_request import StoredObject
from cubeport.errors import Configuration, Corrupt, VersionRemoved
from cubeport.main.catalog import Catalog
from cubeport.service.engines import Engines
from cubeport.service.ingestions import Scope
from cubeport.service.state import VERSION, VersionState


class Memory:
    """A reader of one word."""

    def __init__(self, word: bytes) -> None:
        self.word = word
        self.dropped: list[tuple[str, str]] = []

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        return StoredObject(io.BytesIO(self.word), len(self.word), "") if key == "zarr.json" else None

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        return self.word

    def place(self, dataset_id: str, version_id: str, key: str) -> str | None:
        return None

    def drop(self, dataset_id: str, version_id: str) -> None:
        self.dropped.append((dataset_id, version_id))


def keep(catalog: Catalog, engine: str) -> str:
    record = catalog.add(kind="dataset", key="sst", on_exists="skip").record
    version = VersionState(
        version_id=new_id(),
        seq=1,
        kind="created",
        created_at=now(),
        coverage={},
        request_scope=Scope(),
        size_bytes=1,
        digest="0" * 64,
        ingestion_id=new_id(),
        engine=engine,
        request_digest="0" * 64,
    )
    catalog.rows.put(version.row(record.id))
    return version.version_id


class Lost(Memory):
    """A reader whose store has lost everything."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        raise Corrupt("it is missing")

    manifest = place = read  # type: ignore[assignment]


def test_a_version_that_came_again_is_read_and_removed_by_the_engine_that_wrote_it_then(tmp_path: Path) -> None:
    old, new = Memory(b"plain files"), Memory(b"one file")
    installed = {"zarr": old, "zip": new}
    with Catalog.create(tmp_path, plugins=False) as catalog:
        engines = Engines(catalog.backend, writer=lambda: None, reader=installed.__getitem__, lister=installed.__getitem__)  # type: ignore[arg-type]
        version = keep(catalog, "zarr")
        assert engines.manifest("sst", version) == b"plain files"
        old.read = old.manifest = Lost(b"").read  # type: ignore[assignment, method-assign]
        with pytest.raises(Corrupt):
            engines.read("sst", version, "zarr.json")
        row = catalog.rows.get(VERSION, version)
        assert row is not None
        # Another process has pulled it again, in an instance whose engine for new versions is another by now.
        catalog.rows.put(dataclasses.replace(row, document={**row.document, "engine": "zip"}))
        found = engines.read("sst", version, "zarr.json")
        assert found is not None
        assert found.file.read() == b"one file"
        engines.drop("sst", version)
        assert (old.dropped, new.dropped) == ([], [("sst", version)])


def test_each_version_is_read_by_the_engine_that_wrote_it(tmp_path: Path) -> None:
    installed = {"zarr": Memory(b"plain files"), "zip": Memory(b"one file")}
    with Catalog.create(tmp_path, plugins=False) as catalog:
        engines = Engines(catalog.backend, writer=lambda: None, reader=installed.__getitem__, lister=installed.__getitem__)  # type: ignore[arg-type]
        for name, memory in installed.items():
            version = keep(catalog, name)
            found = engines.read("sst", version, "zarr.json")
            assert found is not None
            assert found.file.read() == memory.word
            assert engines.read("sst", version, "a/c/0") is None
            assert engines.manifest("sst", version) == memory.word
            engines.drop("sst", version)
            assert memory.dropped == [("sst", version)]
        version = keep(catalog, "icechunk")
        for act in (lambda: engines.read("sst", version, "zarr.json"), lambda: engines.drop("sst", version)):
            with pytest.raises(Configuration, match="by the engine 'icechunk', which is not installed here"):
                act()
        with pytest.raises(VersionRemoved):
            engines.read("sst", new_id(), "zarr.json")
