"""Every verb that moves data, killed and failing on the way: old or new, and nobody repairs anything."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from tests.e2e.test_update import _Faulty, days_of, held, save

import cubeport
from cubeport.adapters.engines import zarr
from cubeport.adapters.engines.disk import Disk
from cubeport.adapters.engines.opened import VersionStore
from cubeport.catalog.disk import failpoints
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.keys import Keys

from .conftest import CUBEPORT, start, stop

SETTINGS = {
    "retain": {"CUBEPORT_RETENTION__KEEP_LAST": "1", "CUBEPORT_RETENTION__KEEP_DAYS": "0", "CUBEPORT_RETENTION__GRACE_MIN": "0"},
    "apart": {"CUBEPORT_GATE__KEEP_CHILDREN": "false"},  # as for large files, which write to the staging folder themselves
}

MAKING = (
    "started", "planned", "artifact_write_started", "begin", "bytes", "measure", "assemble", "fsync", "artifact_write_succeeded",
    "publish", "catalog_write_started", "commit", "catalog_write_succeeded", "afterwards", "committed",
)  # fmt: skip
POINTING = ("started", "catalog_write_started", "commit", "catalog_write_succeeded", "afterwards", "committed")


def sides(*names: str) -> list[str]:
    return [f"{name}:{side}" for name in names for side in ("before", "after")]


POINTS = {
    "revise": [*sides(*MAKING), "bytes:half", "fsync:half", "commit:unknown"],
    "apart": [*sides(*MAKING), "bytes:half", "fsync:half", "commit:unknown"],
    "derive": [*sides("fetch", *MAKING), "bytes:half", "commit:unknown"],
    "pull": [*sides("fetch", "lock", *MAKING), "fetch:after@3", "fsync:half", "commit:unknown"],
    "rollback": [*sides(*POINTING), "commit:unknown"],
    "retain": [*sides(*POINTING, "trash"), "commit:unknown"],
    "push": ["port", "port@3"],
}
SAMPLE = {
    ("revise", "publish:after"), ("pull", "fetch:after@3"), ("retain", "trash:after"), ("push", "port@3"),
}  # fmt: skip
ALL = [(verb, point) for verb, points in POINTS.items() for point in points]


@dataclass(frozen=True)
class World:
    """An instance with two versions of x, and a service elsewhere."""

    root: Path
    files: Path
    first: str
    url: str
    key: str

    def command(self, verb: str) -> list[str]:
        return {
            "revise": ["update", "x", str(self.files / "fixed.nc"), "--on-overlap", "replace"],
            "apart": ["update", "x", str(self.files / "fixed.nc"), "--on-overlap", "replace"],
            "derive": ["derive", "resample", "x", "--id", "y", "--param", "period_type=pentad", "--param", "method=mean"],
            "pull": ["pull", "there", "--from", self.url],
            "rollback": ["rollback", "x", "--to", self.first],
            "retain": ["gc"],
            "push": ["push", "x", "--to", self.url],
        }[verb]

    def run(self, verb: str, **environment: str) -> subprocess.CompletedProcess[str]:
        said = {**os.environ, **SETTINGS.get(verb, {}), "CUBEPORT_KEY": self.key, **environment}
        command = [*CUBEPORT, "-i", str(self.root), *self.command(verb)]
        return subprocess.run(command, capture_output=True, text=True, env=said, timeout=180, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("worlds")
    for name in ("here", "there"):
        prepare(folder / name)
    template = {"layout": {"chunks": {"time": 4}}}
    with cubeport.connect(folder / "there") as service:
        asked = IngestionRequest.model_validate({"dataset_id": "there", "template": template})
        assert service.ingest_here(asked, save(folder / "first.nc", list(range(10)))).status == "completed"
        key = Keys(service.catalog.backend).add("mirror", scope="ingest", datasets=["*"]).text
    process, url = start(folder / "there")
    with (folder / "here/config/service.yaml").open("a") as file:
        file.write(f"mirrors:\n  origins: ['{url}']\n")
    with cubeport.connect(folder / "here") as service:
        asked = IngestionRequest.model_validate({"dataset_id": "x", "template": template})
        first = service.ingest_here(asked, save(folder / "first.nc", list(range(10))))
        done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), save(folder / "second.nc", [10]))
        assert done.status == "completed", done.error
    save(folder / "fixed.nc", [3], add=0.5)
    save(folder / "more.nc", [11])
    yield World(folder / "here", folder, str(first.version_id), url, key)
    stop(process)


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    shutil.copytree(made.root, tmp_path / "i")
    return World(tmp_path / "i", made.files, made.first, made.url, made.key)


def values(service: Any, dataset_id: str) -> list[float]:
    shown = service.shown(dataset_id)
    store: Any = VersionStore(service.engines, dataset_id, shown.version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as opened:
        return [float(each) for each in opened.t.values[:, 0, 0]]


def state(world: World) -> tuple[dict[str, list[float]], int]:
    """Return what readers see of each dataset, and how many versions of x have their bytes."""
    with cubeport.connect(world.root) as service:
        ids = list(service.dataset_ids())
        versions = len(list((world.root / "data/store/x").iterdir()))
        return {name: values(service, name) for name in ids}, versions


def old_and_new(verb: str) -> list[tuple[dict[str, list[float]], int]]:
    x, ten = [*map(float, range(11))], [*map(float, range(10))]
    new: tuple[dict[str, list[float]], int] = {
        "append": ({"x": [*x, 11.0]}, 3),
        "revise": ({"x": [3.5 if n == 3 else n for n in x]}, 3),
        "apart": ({"x": [3.5 if n == 3 else n for n in x]}, 3),
        "derive": ({"x": x, "y": [2.0, 7.0]}, 2),
        "pull": ({"there": ten, "x": x}, 2),
        "rollback": ({"x": ten}, 2),
        "retain": ({"x": x}, 1),
        "push": ({"x": x}, 2),
    }[verb]
    return [({"x": x}, 2), new]


def left(root: Path) -> list[str]:
    folders = ("data/staging", "data/arriving", ".cubeport/journal/open")
    return [each.name for folder in folders for each in (root / folder).glob("*")]


@pytest.mark.parametrize(
    ("verb", "point"), [pytest.param(*each, marks=() if each in SAMPLE else pytest.mark.crash, id="-".join(each)) for each in ALL]
)
def test_killed_anywhere_it_is_old_or_new_and_the_next_run_ends_it(world: World, verb: str, point: str) -> None:
    killed = world.run(verb, CUBEPORT_TESTING="1", CUBEPORT_FAIL_POINTS=point)
    assert killed.returncode == -signal.SIGKILL, (verb, point, killed.returncode, killed.stderr)
    old, new = old_and_new(verb)
    assert state(world) in (old, new)
    again = world.run(verb)
    assert again.returncode == 0, again.stderr
    assert state(world) == new
    assert left(world.root) == []
    with cubeport.Catalog.open(world.root) as catalog:
        assert catalog.fsck(data=True).findings == ()


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, "store-unavailable"), (errno.ENOSPC, "no-space")])
@pytest.mark.parametrize("every", [pytest.param(9, id="sample"), pytest.param(1, id="all", marks=pytest.mark.slow)])
def test_a_disk_that_fails_at_any_call_of_a_pull_leaves_the_old_state(
    world: World, number: int, kind: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cubeport.connect(world.root) as service:
        writer, arriving = service.engines.writer, service._replicator.arriving
        assert isinstance(writer, zarr.Writer)
        failed = 0
        for at in range(1, 400, every):
            disk = _Faulty(at, number)
            monkeypatch.setattr(writer, "disk", disk)
            monkeypatch.setattr(arriving, "disk", disk)
            refused: cubeport.errors.CubeportError | None = None
            try:
                service.pull("there", world.url)
            except cubeport.errors.CubeportError as exc:
                refused = exc
            if refused is None:
                break
            failed += 1
            assert refused.kind == kind, (at, refused)
            assert list(service.dataset_ids()) == ["x"]
            assert {*left(world.root)} <= {*(each.name for each in (world.root / "data/arriving").glob("*"))}, (
                "only what arrived is kept"
            )
        assert disk.calls < at, "the last run met no fault"
        assert failed > 20 // every
        assert values(service, "there") == [*map(float, range(10))]
        assert days_of(service) == held(range(11))


def run_here(service: Any, world: World, verb: str) -> None:
    """Do what the command does, in this process."""
    match verb:
        case "append" | "revise":
            overlap, file = ("error", "more.nc") if verb == "append" else ("replace", "fixed.nc")
            asked = IngestionRequest.model_validate({"dataset_id": "x", "mode": "update", "on_overlap": overlap})
            done = service.ingest_here(asked, FileOptions(files=(str(world.files / file),)))
            if done.status != "completed":
                raise cubeport.errors.CubeportError.from_mapping(done.error)
        case "pull":
            service.pull("there", world.url)
        case "derive":
            params = {"period_type": "pentad", "method": "mean"}
            done = service.derive("resample", ["x"], dataset_id="y", params=params)
            if done.status != "completed":
                raise cubeport.errors.CubeportError.from_mapping(done.error)
        case "rollback":
            service.rollback("x", to=world.first)
        case "retain":
            service.retain()
        case _:
            service.push("x", world.url, key=world.key)


FAULTS = {
    "append": ("disk", "port"), "revise": ("disk", "port"), "derive": ("disk", "port"), "retain": ("disk", "port"),
    "rollback": ("port",), "push": ("port",), "pull": ("port",),
}  # fmt: skip
"""The places whose calls fail, by verb; those of the disk in a pull have a test of their own, because what arrived is kept."""

CASES = [(verb, place, number) for verb, places in FAULTS.items() for place in places for number in ("EIO", "ENOSPC")]
ALWAYS = {
    ("derive", "disk", "ENOSPC"), ("derive", "port", "EIO"), ("rollback", "port", "ENOSPC"), ("retain", "disk", "EIO"),
    ("push", "port", "EIO"), ("append", "port", "ENOSPC"), ("revise", "disk", "EIO"), ("pull", "port", "ENOSPC"),
}  # fmt: skip
"""The cases of the default lane: each verb, place and error, but not each with each."""


@pytest.mark.parametrize(
    ("verb", "place", "number"),
    [pytest.param(*case, id="-".join(case), marks=() if case in ALWAYS else pytest.mark.crash) for case in CASES],
)
@pytest.mark.parametrize("every", [pytest.param(23, id="sample"), pytest.param(1, id="all", marks=pytest.mark.crash)])
def test_any_call_of_the_disk_or_the_catalog_may_fail(
    world: World, verb: str, place: str, number: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Nth call fails, for N until none does: the verb is refused by name or done, and what readers see is old or new."""
    old, new = old_and_new(verb)
    shutil.copytree(world.root, world.root.parent / "again")
    for name, value in SETTINGS.get(verb, {}).items():
        monkeypatch.setenv(name, value)
    refused, seen = 0, old
    for at in range(1, 1_000, every):
        if place == "port":
            failpoints.arm(f"port@{at}={number.lower()}")  # before opening, which wraps the backend
        error: cubeport.errors.CubeportError | None = None
        disk = _Faulty(at, getattr(errno, number)) if place == "disk" else None
        fired = False

        def over(disk: _Faulty | None = disk, at: int = at) -> bool:
            """Let nothing fail any more, and tell whether something did."""
            passed = failpoints.passed("port") if disk is None else disk.calls
            failpoints.arm("")
            return passed >= at

        try:
            with cubeport.connect(world.root) as service:
                if disk is not None:
                    monkeypatch.setattr(service.engines.writer, "disk", disk)
                    monkeypatch.setattr(zarr, "Disk", lambda disk=disk: disk)
                try:
                    run_here(service, world, verb)
                finally:
                    fired = over()
        except cubeport.errors.CubeportError as exc:
            error, fired = exc, fired or over()
        seen = state(world)  # which opens it again, and so recovers
        assert seen in (old, new), (verb, place, at, error)
        if error is not None:
            refused += 1
            kinds = ("no-space",) if number == "ENOSPC" else ("store-unavailable", "backend-unavailable", "unavailable")
            assert error.kind in kinds, (at, error)
        if verb == "retain" and error is not None:  # what was removed by its commit, the next round frees
            monkeypatch.setattr(zarr, "Disk", Disk)
            with cubeport.connect(world.root) as service:
                service.retain()
            seen = state(world)
            assert seen == new
        arrived = {each.name for each in (world.root / "data/arriving").glob("*")} if verb == "pull" else set[str]()
        assert {*left(world.root)} <= arrived, (verb, place, at)
        if not fired:
            break
        if seen == new and new != old:
            assert error is None or verb == "retain", "what failed is not there"
            shutil.rmtree(world.root)
            shutil.copytree(world.root.parent / "again", world.root)
    assert not fired, "the calls end"
    assert error is None
    assert seen == new
    assert refused >= (1 if every > 1 else 3)
    with cubeport.Catalog.open(world.root) as catalog:
        assert catalog.fsck(data=True).findings == ()


def test_what_another_machine_undid_leaves_the_staging_folder_of_this_one(tmp_path: Path) -> None:
    """The versions are in a bucket, so each machine has a staging folder of its own, and the other one could not see it."""
    prepare(tmp_path / "i")
    staging = tmp_path / "i/data/staging"
    with cubeport.connect(tmp_path / "i") as service:
        service.catalog.add(key="a")
        ended = service.catalog.operations()[0].operation_id
        entry = service.catalog.ports.journal.begin("b" * 32)
        for name in (ended, "b" * 32, "c" * 32):
            (staging / name / "new").mkdir(parents=True)
        with cubeport.connect(tmp_path / "i"):
            assert {each.name for each in staging.iterdir()} == {"b" * 32, "c" * 32}, "one runs, and one is unknown"
        entry.close()
