"""The port ``Engine`` as a contract, and the engine ``zarr`` under faults: whole or not there; what is listed is never absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cubeport.adapters.engines.disk import Disk
from cubeport.adapters.engines.zarr import ZarrEngine
from cubeport.adapters.storage.local import LocalProfile
from cubeport.catalog.artifacts.storage import Profiles
from cubeport.catalog.disk import failpoints
from cubeport.catalog.hooks import HookManager
from cubeport.catalog.work.undo import Compensation, Undoer
from cubeport.cubes.orders import Staging
from cubeport.errors import (
    Corrupt,
    CubeportError,
    InvalidRequest,
    NoSpace,
    PathEscapes,
    SourceRejected,
    StoreUnavailable,
    TargetExists,
)

OBJECTS = {"zarr.json": b'{"zarr_format":3}', "v/zarr.json": b"{}", "v/c/0/0": b"\x00" * 50, "v/c/0/1": b"one", "s/c": b"scalar"}


def new_id() -> str:
    return secrets.token_hex(16)


def write_new(staging: Staging, objects: dict[str, bytes], **changes: Any) -> bytes:
    """Leave in ``new`` what the two children would."""
    for key, data in objects.items():
        path = staging.new / "cube.zarr" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    entries = [{"key": k, "size": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in sorted(objects.items())]
    manifest = json.dumps({"algorithm": "sha256", "entries": entries, **changes}).encode()
    (staging.new / "manifest.json").write_bytes(manifest)
    return manifest


def make(engine: ZarrEngine, objects: dict[str, bytes] = OBJECTS, dataset: str = "sst") -> tuple[str, str]:
    staging, _ = engine.stage(new_id(), dataset, new_id())
    engine.begin(staging, None)
    write_new(staging, objects)
    engine.assemble(staging)
    engine.sync(staging)
    engine.publish(staging)
    engine.clear(staging)
    return staging.dataset_id, staging.version_id


def content(engine: ZarrEngine, version: tuple[str, str], key: str) -> bytes | None:
    found = engine.read(*version, key)
    if found is None:
        return None
    with found.file as file:
        data = file.read()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (found.size, found.digest)
    return data


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


class EngineContract:
    """What every engine promises."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> ZarrEngine:
        raise NotImplementedError

    def test_what_was_written_is_read(self, engine: ZarrEngine) -> None:
        version = make(engine)
        assert {key: content(engine, version, key) for key in OBJECTS} == OBJECTS
        entries = json.loads(engine.manifest(*version))["entries"]
        assert [each["key"] for each in entries] == sorted(OBJECTS)

    def test_what_the_manifest_does_not_list_is_absent(self, engine: ZarrEngine) -> None:
        version = make(engine)
        for key in ("v/c/0/2", "w/zarr.json", ".zgroup", "", "..", "../manifest.json", "v", "/etc/passwd", "v/c/0/0/"):
            assert engine.read(*version, key) is None

    def test_what_the_manifest_lists_is_never_absent(self, engine: ZarrEngine) -> None:
        version = make(engine)
        path = engine.path(*version) / "v/c/0/1"
        path.unlink()
        with pytest.raises(Corrupt, match="missing"):
            engine.read(*version, "v/c/0/1")
        assert content(engine, version, "v/c/0/0") == OBJECTS["v/c/0/0"]

    def test_versions_do_not_touch_each_other(self, engine: ZarrEngine) -> None:
        first, second = make(engine), make(engine, {**OBJECTS, "v/c/0/1": b"two"})
        assert content(engine, first, "v/c/0/1") == b"one"
        assert content(engine, second, "v/c/0/1") == b"two"
        engine.drop(*first)
        assert content(engine, second, "v/c/0/1") == b"two"
        with pytest.raises(Corrupt):
            engine.read(*first, "v/c/0/1")

    def test_drop_and_clear_are_idempotent(self, engine: ZarrEngine) -> None:
        version = make(engine)
        staging, _ = engine.stage(new_id(), "sst", new_id())
        for _ in range(2):
            engine.drop(*version)
            engine.clear(staging)

    def test_a_parent_is_refused_and_not_ignored(self, engine: ZarrEngine) -> None:
        version = make(engine)
        staging, _ = engine.stage(new_id(), "sst", new_id())
        with pytest.raises(InvalidRequest):
            engine.begin(staging, version[1])

    def test_only_what_the_manifest_names_is_taken_in(self, engine: ZarrEngine) -> None:
        staging, _ = engine.stage(new_id(), "sst", new_id())
        engine.begin(staging, None)
        write_new(staging, OBJECTS)
        (staging.new / "cube.zarr/v/c/0/7").write_bytes(b"stray")
        engine.assemble(staging)
        engine.sync(staging)
        engine.publish(staging)
        assert engine.read("sst", staging.version_id, "v/c/0/7") is None
        assert not (engine.path("sst", staging.version_id) / "v/c/0/7").exists()

    @pytest.mark.parametrize("dataset", ["..", "a/b", "", "__x", "a\0"])
    def test_names_never_become_paths_elsewhere(self, engine: ZarrEngine, dataset: str) -> None:
        with pytest.raises(PathEscapes):
            engine.stage(new_id(), dataset, new_id())
        with pytest.raises(PathEscapes):
            engine.path(dataset, new_id())
        with pytest.raises(PathEscapes):
            engine.drop("sst", dataset)


class TestZarrEngine(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> ZarrEngine:
        return ZarrEngine(tmp_path / "data")

    def test_files_are_read_only_and_nothing_else_is_left(self, engine: ZarrEngine) -> None:
        version = make(engine)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in engine.path(*version).rglob("*") if path.is_file()}
        assert modes == {0o444}
        assert everything(engine.data / "staging") == set()

    def test_a_compensation_names_its_place_and_proves_it_ours(self, engine: ZarrEngine) -> None:
        operation, version = new_id(), new_id()
        staging, undo = engine.stage(operation, "sst", version)
        engine.begin(staging, None)
        write_new(staging, OBJECTS)
        assert [each["path"] for each in undo] == [f"staging/{operation}", f"store/sst/{version}"]
        assert all(each["undo"] == "remove_tree" and each["profile"] == "data" for each in undo)
        assert undo[0]["proof"]["inode"] == staging.root.stat().st_ino
        engine.assemble(staging)
        engine.sync(staging)
        engine.publish(staging)
        assert undo[1]["proof"]["inode"] == (engine.data / undo[1]["path"]).stat().st_ino

    def test_an_operation_stages_once(self, engine: ZarrEngine) -> None:
        operation = new_id()
        engine.stage(operation, "sst", new_id())
        with pytest.raises(StoreUnavailable):
            engine.stage(operation, "sst", new_id())

    @pytest.mark.parametrize("kind", ["symlink", "hardlink", "fifo", "folder", "longer", "shorter", "linked folder"])
    def test_an_object_that_is_not_the_verified_file_is_refused(self, engine: ZarrEngine, kind: str, tmp_path: Path) -> None:
        staging, _ = engine.stage(new_id(), "sst", new_id())
        engine.begin(staging, None)
        write_new(staging, OBJECTS)
        secret = tmp_path / "secret"
        secret.write_bytes(b"one")
        victim = staging.new / "cube.zarr/v/c/0/1"
        match kind:
            case "symlink":
                victim.unlink()
                victim.symlink_to(secret)
            case "hardlink":
                victim.unlink()
                victim.hardlink_to(secret)
            case "fifo":
                victim.unlink()
                os.mkfifo(victim)
            case "folder":
                victim.unlink()
                victim.mkdir()
            case "linked folder":
                victim.parent.rename(tmp_path / "elsewhere")
                victim.parent.symlink_to(tmp_path / "elsewhere")
            case _:
                victim.write_bytes(b"on" if kind == "shorter" else b"one more")
        with pytest.raises((SourceRejected, StoreUnavailable)):
            engine.assemble(staging)
        assert not any((engine.data / "store").iterdir())

    @pytest.mark.parametrize(
        "manifest",
        [
            b"",
            b"[]",
            b"{}",
            b'{"algorithm":"md5","entries":[]}',
            b'{"algorithm":"sha256","entries":[{"key":"../../x","size":1,"sha256":"0"}]}',
            b'{"algorithm":"sha256","entries":[{"key":"b/c","size":1,"sha256":"0"},{"key":"a/c","size":1,"sha256":"0"}]}',
            b'{"algorithm":"sha256","entries":[{"key":"a/c","size":1,"sha256":"0"},{"key":"a/c","size":1,"sha256":"0"}]}',
            b'{"algorithm":"sha256","entries":[{"size":1}]}',
            b"[" * 100_000,
            b"\xff",
        ],
    )
    def test_a_manifest_that_is_not_ours_is_refused(self, engine: ZarrEngine, manifest: bytes) -> None:
        staging, _ = engine.stage(new_id(), "sst", new_id())
        engine.begin(staging, None)
        (staging.new / "cube.zarr").mkdir()
        (staging.new / "manifest.json").write_bytes(manifest)
        with pytest.raises(SourceRejected) as refusal:
            engine.assemble(staging)
        assert refusal.value.reason == "unsafe"

    def test_a_version_is_never_put_over_another(self, engine: ZarrEngine) -> None:
        dataset, version = make(engine)
        staging, _ = engine.stage(new_id(), dataset, version)
        engine.begin(staging, None)
        write_new(staging, {"zarr.json": b"other"})
        engine.assemble(staging)
        engine.sync(staging)
        with pytest.raises(TargetExists):
            engine.publish(staging)
        assert content(engine, (dataset, version), "zarr.json") == OBJECTS["zarr.json"]

    @pytest.mark.parametrize("damage", ["longer", "link", "linked folder", "folder"])
    def test_what_is_damaged_is_told(self, engine: ZarrEngine, damage: str, tmp_path: Path) -> None:
        version = make(engine)
        path = engine.path(*version) / "v/c/0/1"
        (tmp_path / "other").write_bytes(b"one")
        match damage:
            case "longer":
                path.chmod(0o644)
                path.write_bytes(b"one more")
            case "link":
                path.unlink()
                path.symlink_to(tmp_path / "other")
            case "linked folder":
                path.parent.rename(tmp_path / "moved")
                path.parent.symlink_to(tmp_path / "moved")
            case "folder":
                path.unlink()
                path.mkdir()
        with pytest.raises(Corrupt) as told:
            engine.read(*version, "v/c/0/1")
        assert str(engine.data) not in str(told.value.to_mapping())

    def test_a_lost_or_broken_manifest_is_told(self, engine: ZarrEngine) -> None:
        dataset, version = make(engine)
        path = engine.path(dataset, version).parent / "manifest.json"
        path.chmod(0o644)
        path.write_bytes(b"{")
        with pytest.raises(Corrupt):
            engine.read(dataset, version, "zarr.json")
        path.unlink()
        with pytest.raises(Corrupt):
            engine.manifest(dataset, version)

    def test_old_manifests_leave_the_memory(self, engine: ZarrEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cubeport.adapters.engines.zarr._CACHED_ENTRIES", 12)
        versions = [make(engine) for _ in range(4)]
        for version in (*versions, *versions):
            assert content(engine, version, "s/c") == b"scalar"
        assert len(engine._manifests) == 2

    def test_a_drop_that_was_killed_is_finished_by_the_next(self, engine: ZarrEngine) -> None:
        version = make(engine)
        failpoints.arm("trash:after=raise")
        try:
            with pytest.raises(failpoints.FailPointRaised):
                engine.drop(*version)
        finally:
            failpoints.arm("")
        assert [path.name for path in (engine.data / "staging").iterdir()] == [f"trash-{version[1]}"]
        engine.drop(*version)
        assert everything(engine.data / "staging") == set()

    def test_staging_on_another_file_system_is_refused(self, tmp_path: Path) -> None:
        other = Path("/dev/shm")
        if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("this machine has no second file system to try")
        (tmp_path / "data").mkdir()
        away = other / f"cubeport-{new_id()}"
        away.mkdir()
        try:
            (tmp_path / "data/staging").symlink_to(away)
            with pytest.raises(StoreUnavailable, match="one file system"):
                ZarrEngine(tmp_path / "data")
            assert not any(away.iterdir())
        finally:
            away.rmdir()


@dataclass
class Faulty(Disk):
    """A disk whose *n*-th call fails."""

    at: int = 0
    number: int = errno.EIO
    calls: list[str] = field(default_factory=list)

    def _count(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.at:
            raise OSError(self.number, os.strerror(self.number))

    def make_folder(self, path: Path) -> None:
        self._count("make_folder")
        super().make_folder(path)

    def rename(self, source: str | Path, target: str | Path, *, source_fd: int | None = None, target_fd: int | None = None) -> None:
        self._count("rename")
        super().rename(source, target, source_fd=source_fd, target_fd=target_fd)

    def write(self, path: Path, data: bytes) -> None:
        self._count("write")
        super().write(path, data)

    def sync(self, descriptor: int) -> None:
        self._count("sync")
        super().sync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        self._count("sync_all")
        super().sync_all(descriptor)


@pytest.mark.parametrize(("number", "error"), [(errno.EIO, StoreUnavailable), (errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace)])
def test_every_call_may_fail_and_nothing_is_lost_or_left(tmp_path: Path, number: int, error: type[CubeportError]) -> None:
    kept = ZarrEngine(tmp_path / "data")
    before = make(kept)
    for at in range(1, 100):
        disk = Faulty(at=at, number=number)
        engine = ZarrEngine(tmp_path / "data", disk=disk)
        operation, version = new_id(), new_id()
        try:
            staging, _ = engine.stage(operation, "sst", version)
            engine.begin(staging, None)
            write_new(staging, OBJECTS)
            engine.assemble(staging)
            engine.sync(staging)
            engine.publish(staging)
        except CubeportError as exc:
            told = exc
        else:
            assert len(disk.calls) < at, "every call was tried"
            break
        finally:
            # What the unit of work does: staging, then the version, as far as they are there.
            kept.clear(Staging(operation, "sst", version, *(tmp_path / "data/staging" / operation,) * 3))
            if at <= len(disk.calls):
                kept.drop("sst", version)
        assert type(told) is error, (at, disk.calls)
        assert str(tmp_path) not in str(told.to_mapping())
        assert content(kept, before, "zarr.json") == OBJECTS["zarr.json"]
        assert everything(tmp_path / "data/staging") == set()
        assert [path.name for path in (tmp_path / "data/store/sst").iterdir()] == [before[1]]
    assert disk.calls.count("sync") >= len(OBJECTS) + 1


STEPS = ("begin", "new", "assemble", "sync", "publish", "clear")


@pytest.mark.parametrize("reached", range(len(STEPS) + 1))
def test_what_was_journalled_undoes_whatever_was_reached(tmp_path: Path, reached: int) -> None:
    # A kill leaves no process: compensations as data, read back from the journal, have to do.
    engine = ZarrEngine(tmp_path / "data")
    kept = make(engine)
    operation = new_id()
    staging, undo = engine.stage(operation, "sst", new_id())
    journalled = json.dumps(undo)
    acts = {
        "begin": lambda: engine.begin(staging, None),
        "new": lambda: write_new(staging, OBJECTS),
        "assemble": lambda: engine.assemble(staging),
        "sync": lambda: engine.sync(staging),
        "publish": lambda: engine.publish(staging),
        "clear": lambda: engine.clear(staging),
    }
    for name in STEPS[:reached]:
        acts[name]()
    profiles = Profiles()
    profiles.add(LocalProfile("data", tmp_path / "data"))
    undoer = Undoer(profiles, HookManager())
    for _ in range(2):
        report = undoer.undo([Compensation.model_validate(each) for each in json.loads(journalled)], operation)
        assert report.left == ()
        assert all(words.endswith((": removed", ": absent")) for words in report.done), report.done
    assert everything(tmp_path / "data/staging") == set()
    assert [path.name for path in (tmp_path / "data/store/sst").iterdir()] == [kept[1]]
    assert content(engine, kept, "v/c/0/1") == b"one"


def test_what_another_made_is_never_undone(tmp_path: Path) -> None:
    engine = ZarrEngine(tmp_path / "data")
    dataset, version = make(engine)
    staging, undo = engine.stage(new_id(), dataset, version)  # the same name by a chance that must not count
    profiles = Profiles()
    profiles.add(LocalProfile("data", tmp_path / "data"))
    report = Undoer(profiles, HookManager()).undo([Compensation.model_validate(each) for each in undo], staging.operation_id)
    assert [words for words in report.done if words.endswith("not-ours")]
    assert content(engine, (dataset, version), "zarr.json") == OBJECTS["zarr.json"]


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.mark.usefixtures("disarmed")
def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    disk = Faulty(at=10_000)
    engine = ZarrEngine(tmp_path, disk=disk)
    staging, _ = engine.stage(new_id(), "sst", new_id())
    engine.begin(staging, None)
    write_new(staging, OBJECTS)
    engine.assemble(staging)
    disk.at, disk.calls = 2, []
    with pytest.raises(StoreUnavailable):
        engine.sync(staging)
    assert disk.calls == ["sync", "sync"]
    failpoints.arm("fsync:half=enospc")
    with pytest.raises(NoSpace):
        engine.sync(staging)


def test_everything_is_synced_before_it_is_renamed_and_folders_after(tmp_path: Path) -> None:
    names: list[str] = []

    class Told(Disk):
        def sync(self, descriptor: int) -> None:
            names.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix())
            super().sync(descriptor)

        def rename(self, source: str | Path, target: str | Path, **descriptors: int | None) -> None:  # type: ignore[override]
            if not descriptors:
                names.append("rename")
            super().rename(source, target, **descriptors)

    engine = ZarrEngine(tmp_path, disk=Told())
    make(engine)
    names.clear()
    dataset, version = make(engine)  # the second of the dataset, whose folder is there but may not be durable yet
    at = names.index("rename")
    data = names[0].partition("/data/")[0] + "/data"
    synced = {name.removeprefix(data).lstrip("/") for name in names[:at] if name.startswith(data)}
    assert synced == {"", *everything(tmp_path / "store" / dataset / version)}
    for name in names[:at]:
        inner = [other for other in names[:at] if other.startswith(f"{name}/")]
        assert all(names.index(other) < names.index(name) for other in inner), f"{name} before what it holds"
    assert names[at - 1] == "store", "the new folder of the dataset is durable before a version is in it"
    assert names[at + 1 :] == [f"store/{dataset}", data.removesuffix("/data")]


def test_many_files_are_synced_by_one_call(tmp_path: Path) -> None:
    disk = Faulty(at=100_000)
    engine = ZarrEngine(tmp_path, disk=disk)
    make(engine, {"zarr.json": b"{}", **{f"v/c/{n}": b"x" for n in range(2_100)}})
    assert disk.calls.count("sync_all") == 1
    assert disk.calls.count("sync") == 3
