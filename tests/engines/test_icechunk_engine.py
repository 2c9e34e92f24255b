"""The engine ``icechunk``: its contract on a folder, and what a store can do to it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("icechunk")

from tests import badstores, objectstore
from tests.engines.contract import (
    OBJECTS,
    Engine,
    EngineContract,
    Version,
    content,
    damaged,
    finish,
    make,
    new_id,
    update,
    write_new,
)

from cubeport.adapters.engines import icechunk, repositories
from cubeport.adapters.engines.repositories import Bucket, Folder, ObjectPlace, Repositories, Tuning
from cubeport.adapters.storage.s3 import S3Place
from cubeport.errors import Corrupt, StoreUnavailable

NOTHING_INLINE = Tuning(inline_bytes=0)


def engine_at(folder: Path, place: ObjectPlace, damage: Callable[[Version, str, str], None], tuning: Tuning) -> Engine:
    """Return an engine. Each role has repositories of its own, as in processes of their own."""
    references: dict[str, str] = {}
    digests: dict[str, str] = {}

    def store() -> Repositories:
        return Repositories(place, tuning)

    known = references.__getitem__, digests.__getitem__
    writer = icechunk.Writer(folder / "data", store=store(), references=known[0], digests=known[1])
    reader = icechunk.Reader(store(), *known)
    return Engine(writer, reader, icechunk.Lister(folder / "data", store(), known[0]), damage, references, digests)


def icechunk_engine(folder: Path, tuning: Tuning = NOTHING_INLINE) -> Engine:
    """Return an engine with its repositories in a folder."""

    def damage(version: Version, key: str, how: str) -> None:
        chunks = (folder / "bucket" / version[0] / "chunks").iterdir()
        [path] = [each for each in chunks if each.read_bytes() == OBJECTS[key]]
        damaged(path, how)

    return engine_at(folder, Folder(folder / "bucket"), damage, tuning)


def engine_on_s3(folder: Path, store: objectstore.ObjectStore, tuning: Tuning = NOTHING_INLINE) -> Engine:
    """Return an engine with its repositories in a bucket."""
    bucket = store.bucket()

    def damage(version: Version, key: str, how: str) -> None:
        for each in store.keys(bucket):
            if each.startswith(f"cubes/{version[0]}/chunks/"):
                data = store.client.get_object(Bucket=bucket, Key=each)["Body"].read()
                if data == OBJECTS[key] and how == "lost":
                    store.client.delete_object(Bucket=bucket, Key=each)
                elif data == OBJECTS[key]:
                    store.put(bucket, each, data[:-1] if how == "shorter" else bytes([data[0] ^ 1]) + data[1:])

    place = S3Place(
        "bulk", bucket, "cubes", endpoint_url=store.endpoint, key=objectstore.KEY, secret=objectstore.SECRET, allow_http=True
    )
    return engine_at(folder, Bucket(place), damage, tuning)


class TestIcechunkOnS3(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path, object_store: objectstore.ObjectStore) -> Engine:
        return engine_on_s3(tmp_path, object_store)


def test_a_store_that_does_not_answer_is_unavailable_and_nothing_is_absent(tmp_path: Path) -> None:
    with objectstore.running() as store:
        engine, late = engine_on_s3(tmp_path, store), engine_on_s3(tmp_path, store)
        version = make(engine)
        assert content(engine, version, "v/c/0/1") == b"one"
        late.references.update(engine.references)
        late.digests.update(engine.digests)
    began = time.monotonic()
    for each in (engine, late):  # one that had the version open, and one that had not
        with pytest.raises(StoreUnavailable):
            each.reader.read(*version, "v/c/0/0")
    with pytest.raises(StoreUnavailable):
        engine.lister.versions()
    assert engine.reader.read(*version, "v/c/0/7") is None, "the manifest says so"
    assert time.monotonic() - began < 60


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

    def test_the_branch_follows_from_where_the_version_began_and_never_back(self, engine: Engine, tmp_path: Path) -> None:
        first = make(engine)
        second = update(engine, first, {**OBJECTS, "v/c/0/1": b"two"}, only={"v/c/0/1"})
        store = Repositories(Folder(tmp_path / "bucket"))
        repository = store.find("sst")
        assert repository is not None
        for version in (first, second, first, second):  # late and repeated, as of recovered operations
            [action] = engine.afterwards[version[1]]
            icechunk.move_main(lambda: store, action)
        assert repository.lookup_branch("main") == engine.references[second[1]]
        third = update(engine, second, {**OBJECTS, "v/c/0/1": b"three"}, only={"v/c/0/1"})
        engine.lister.drop(*third)
        [action] = engine.afterwards[third[1]]
        action["proof"]["before"] = engine.references[first[1]]
        icechunk.move_main(lambda: store, action)
        assert repository.lookup_branch("main") == engine.references[second[1]]

    def test_the_branch_follows_a_commit_of_an_older_release(self, engine: Engine, tmp_path: Path) -> None:
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


def test_a_manifest_that_the_catalog_does_not_know_is_damage(tmp_path: Path) -> None:
    """A manifest with one key less would make a chunk absent, which readers take for fill values."""
    engine = icechunk_engine(tmp_path)
    version = make(engine)
    engine.digests[version[1]] = "0" * 64
    with pytest.raises(Corrupt, match="manifest has different bytes"):
        engine.reader.read(*version, "v/c/0/1")


def test_an_update_asks_the_store_for_little_beside_the_chunks(tmp_path: Path, object_store: objectstore.ObjectStore) -> None:
    asked: list[str] = []

    def note(request: badstores.Request) -> badstores.Answer:
        asked.append(f"{request.method} {request.path}")
        return request.forward()

    with badstores.behind(object_store, note) as store:
        engine = engine_on_s3(tmp_path, store)
        moving = Repositories(engine.writer.store.place, NOTHING_INLINE)  # type: ignore[attr-defined]

        def updated(version: Version, content: bytes) -> Version:
            found = update(engine, version, {**OBJECTS, "v/c/0/1": content}, only={"v/c/0/1"})
            [action] = engine.afterwards[found[1]]
            icechunk.move_main(lambda: moving, action)
            return found

        version = updated(make(engine), b"first of the process")
        asked.clear()
        version = updated(version, b"later")
        others = [each for each in asked if "/chunks/" not in each]
        assert content(engine, version, "v/c/0/1") == b"later"
    assert len(others) <= 20, "\n".join(others)
    assert urlsplit(others[0]).path.endswith("/repo"), "nothing of the parent is read"
    assert not [each for each in others if "config.yaml" in each or "/refs/" in each], "no repository is opened again"
    repository = moving.find("sst")
    assert repository is not None
    assert repository.lookup_branch("main") == engine.references[version[1]]


def test_readers_who_come_at_once_open_a_version_once(tmp_path: Path, object_store: objectstore.ObjectStore) -> None:
    asked: list[str] = []

    def note(request: badstores.Request) -> badstores.Answer:
        asked.append(urlsplit(request.path).path.rpartition("/cubes/sst/")[2])
        return request.forward()

    with badstores.behind(object_store, note) as store:
        engine = engine_on_s3(tmp_path, store)
        first = make(engine)
        assert content(engine, first, "v/c/0/1") == OBJECTS["v/c/0/1"]  # the repository is open from here on
        version = update(engine, first, {**OBJECTS, "v/c/0/1": b"two"}, only={"v/c/0/1"})
        asked.clear()
        together = threading.Barrier(8)

        def read(_: int) -> bytes | None:
            together.wait()
            return content(engine, version, "v/c/0/1")

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(read, range(8))) == {b"two"}
    assert asked.count("repo") == 1
    assert len([each for each in asked if each.startswith("snapshots/")]) == 1


def look_up(folder: Path) -> None:
    """Look up the snapshot of an operation through a proxy in a thread of this process: it answers only if threads go on."""
    with objectstore.running() as object_store, badstores.behind(object_store, badstores.Request.forward) as store:
        engine = engine_on_s3(folder, store)
        staging, _ = engine.writer.stage(operation := new_id(), "sst", new_id())
        engine.writer.begin(staging)
        write_new(staging, OBJECTS)
        finish(engine, staging)
        repository = engine.writer.store.find("sst")  # type: ignore[attr-defined]
        assert repositories.snapshot_of(repository, operation) == engine.references[staging.version_id]
        assert repositories.snapshot_of(repository, new_id()) is None


def test_the_snapshot_of_an_operation_is_looked_up_while_other_threads_go_on(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    code = f"""
import sys, pathlib, types
sys.modules["tests"] = types.ModuleType("tests")  # some installed package has modules of this name
sys.modules["tests"].__path__ = [{str(tests)!r}]
from tests.engines.test_icechunk_engine import look_up
look_up(pathlib.Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dry_run", [True, False])
def test_former_states_of_a_repository_are_removed_but_never_the_newest(
    tmp_path: Path, object_store: objectstore.ObjectStore, dry_run: bool
) -> None:
    engine = engine_on_s3(tmp_path, object_store)
    version = make(engine)
    for number in range(3):
        version = update(engine, version, {**OBJECTS, "v/c/0/1": b"%d" % number}, only={"v/c/0/1"})
    bucket = object_store.client.list_buckets()["Buckets"][-1]["Name"]

    def states() -> list[str]:
        return [each for each in object_store.keys(bucket) if each.startswith("cubes/sst/overwritten/")]

    before = states()
    assert len(before) > 6
    place = Bucket(S3Place("bulk", bucket, "cubes", endpoint_url=object_store.endpoint, key=objectstore.KEY,
                           secret=objectstore.SECRET, allow_http=True))  # fmt: skip
    young, strict = Repositories(place, Tuning(kept_states=2)), Repositories(place, Tuning(kept_states=2, kept_days=0))
    now = strict.now() + timedelta(seconds=1)
    assert young.forget("sst", now) == 0
    freed = strict.forget("sst", now, dry_run=dry_run)
    assert freed > 0
    assert len(states()) == (len(before) if dry_run else 2)
    assert set(states()) <= set(before)
    assert content(engine, version, "v/c/0/1") == b"2"
    assert engine.lister.collect("sst") == 0
    update(engine, version, {**OBJECTS, "v/c/0/1": b"later"}, only={"v/c/0/1"})


def test_gc_removes_former_states(tmp_path: Path) -> None:
    engine = icechunk_engine(tmp_path, Tuning(inline_bytes=0, kept_states=1, kept_days=0))
    make(engine)
    time.sleep(0.01)
    folder = tmp_path / "bucket" / "sst" / "overwritten"
    sizes = sorted(each.stat().st_size for each in folder.iterdir())
    assert len(sizes) > 1
    assert engine.lister.collect("sst", dry_run=True) > 0
    assert engine.lister.collect("sst") > 0
    assert len(list(folder.iterdir())) <= 2  # the newest before, and that of this run


@pytest.mark.parametrize("kept", [True, False])
def test_a_version_without_its_tag_survives_only_as_one_of_those_to_keep(tmp_path: Path, kept: bool) -> None:
    import icechunk as library

    engine = icechunk_engine(tmp_path, Tuning(inline_bytes=0, gc_cutoff_h=0))
    version = make(engine)
    library.Repository.open(library.local_filesystem_storage(str(tmp_path / "bucket/sst"))).delete_tag(f"v-{version[1]}")
    assert engine.lister.is_unnamed(*version)
    assert engine.lister.versions() == []
    time.sleep(1.1)
    engine.lister.collect("sst", [version[1]] if kept else [])
    late = icechunk.Reader(Repositories(Folder(tmp_path / "bucket")), engine.references.__getitem__, engine.digests.__getitem__)
    if kept:
        assert [each.name for _, each in engine.lister.versions()] == [version[1]]
        assert late.read(*version, "v/c/0/0") is not None
        engine.lister.drop(*version)
        assert engine.lister.versions() == []
    else:
        with pytest.raises(Corrupt):
            late.read(*version, "v/c/0/0")
