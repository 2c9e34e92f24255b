"""The engine ``icechunk``: its contract on a folder, and what a store can do to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("icechunk")

from tests.engines.contract import OBJECTS, Engine, EngineContract, Version, content, damaged, make, update

from cubeport.adapters.engines import icechunk
from cubeport.adapters.engines.repositories import Folder, Repositories, Tuning
from cubeport.errors import Corrupt

NOTHING_INLINE = Tuning(inline_bytes=0)


def icechunk_engine(folder: Path, tuning: Tuning = NOTHING_INLINE) -> Engine:
    """Return an engine with its repositories in a folder. Each role has its own, as in processes of their own."""
    references: dict[str, str] = {}

    def store() -> Repositories:
        return Repositories(Folder(folder / "bucket"), tuning)

    def damage(version: Version, key: str, how: str) -> None:
        chunks = (folder / "bucket" / version[0] / "chunks").iterdir()
        [path] = [each for each in chunks if each.read_bytes() == OBJECTS[key]]
        damaged(path, how)

    writer = icechunk.Writer(folder / "data", store=store(), references=references.__getitem__)
    reader = icechunk.Reader(store(), references.__getitem__)
    return Engine(writer, reader, icechunk.Lister(folder / "data", store()), damage, references)


class TestIcechunkEngine(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        return icechunk_engine(tmp_path)

    def test_a_flipped_byte_is_never_returned(self, engine: Engine) -> None:
        version = make(engine)
        engine.damage(version, "v/c/0/0", "flipped")
        with pytest.raises(Corrupt, match="different bytes"):
            engine.reader.read(*version, "v/c/0/0")

    def test_the_repository_is_one_that_icechunk_alone_reads(self, engine: Engine, tmp_path: Path) -> None:
        import icechunk as library
        import zarr

        version = make(engine)
        repository = library.Repository.open(library.local_filesystem_storage(str(tmp_path / "bucket/sst")))
        session = repository.readonly_session(tag=f"v-{version[1]}")
        assert dict(zarr.open_group(session.store, mode="r").arrays()).keys() == {"v", "s"}
        assert session.snapshot_id == engine.references[version[1]]
        [info] = [each for each in repository.ancestry(tag=f"v-{version[1]}") if each.id == session.snapshot_id]
        assert json.loads(json.dumps(dict(info.metadata)))["version"] == version[1]

    def test_the_branch_follows_a_commit(self, engine: Engine, tmp_path: Path) -> None:
        first = make(engine)
        store = Repositories(Folder(tmp_path / "bucket"))
        action = {"path": f"store/sst/{first[1]}", "proof": {}}
        for _ in range(2):
            icechunk.move_main(lambda: store, action)
        repository = store.find("sst")
        assert repository is not None
        assert repository.lookup_branch("main") == engine.references[first[1]]
        second = update(engine, first, {**OBJECTS, "v/c/0/1": b"two"}, only={"v/c/0/1"})
        icechunk.move_main(lambda: store, {"path": f"store/sst/{second[1]}", "proof": {}})
        icechunk.move_main(lambda: store, action)  # late, as of a recovered operation
        assert repository.lookup_branch("main") == engine.references[second[1]]
        assert content(engine, second, "v/c/0/1") == b"two"
