"""A cube that workers wrote in units is that of one child, byte for byte, and what does not fit together is not merged.

The executor here does its orders in this process, one after another, with the worker's own function and confined children.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.executors.worker import make
from cubeport.adapters.gate.divided import Divided
from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.sandbox.children import Children
from cubeport.cubes.write_request import Base, SourceWindow, WriteRequest
from cubeport.errors import Cancelled, Corrupt, CubeportError, ExecutorUnavailable, SourceRejected

UNIT = 60_000


@dataclass
class Here:
    """An executor without a cluster. A test can change orders and answers on the way."""

    before: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda order: order
    after: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] = lambda _, answer: answer
    twice: bool = False
    workers: int = 1
    orders: list[Mapping[str, Any]] = field(default_factory=list)
    stopped: bool = False

    def width(self) -> int:
        return self.workers

    def run(
        self, orders: Sequence[Mapping[str, Any]], *, progress: Callable[[Collection[int]], None], stop: Callable[[], None]
    ) -> list[Mapping[str, Any]]:
        answers: list[Mapping[str, Any]] = []
        for order in orders:
            self.orders.append(order)
            try:
                progress(range(len(answers)))
            except BaseException:
                stop()
                self.stopped = make(order).get("error") is not None
                raise
            if self.twice:
                make(self.before(order))
            answers.append(self.after(order, make(self.before(order))))
            if "error" in answers[-1]:
                break
        return answers


def source(path: Path, first: int, *, days: int = 2, seed: int | None = None) -> Path:
    """A file of 2 days, of which one variable is packed and one does not change; a whole chunk of it is missing."""
    random = np.random.default_rng(first if seed is None else seed)
    t = random.normal(280, 10, size=(days, 24, 48)).astype("float32")
    t[:, :12] = np.nan if first == 4 else t[:, :12]
    xr.Dataset(
        {
            "t": (("time", "lat", "lon"), t, {"units": "K"}),
            "rain": (("time", "lat", "lon"), random.integers(-9, 9, size=t.shape).astype("int16"), {"scale_factor": 0.1}),
            "height": (("lat", "lon"), np.arange(24 * 48.0).reshape(24, 48), {"units": "m"}),
        },
        coords={
            "time": ("time", np.arange(first, first + days), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(-86, 86, 24), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(48) * 7.5, {"units": "degrees_east"}),
        },
    ).to_netcdf(path, encoding={"t": {"zlib": True, "chunksizes": (1, 24, 48)}})
    return path


def objects(folder: Path) -> dict[str, str]:
    root = folder / "cube.zarr"
    files = (each for each in root.rglob("*") if each.is_file())
    return {str(each.relative_to(root)): hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, ...]:
    return tuple(source(tmp_path / f"day-{n:02}.nc", 2 * n) for n in range(9))


def order(sources: tuple[Path, ...], staging: Path, **more: Any) -> WriteRequest:
    (staging / "new").mkdir(parents=True)
    return WriteRequest(sources=sources, target=staging / "new", chunks={"time": 4, "lat": 12, "lon": 48}, **more)


def gate(children: Children, executor: Here | None, unit_bytes: int = UNIT) -> ConfinedGate:
    return ConfinedGate(children, divided=None if executor is None else Divided(executor, children.limits, unit_bytes))


def test_the_cube_is_that_of_one_child(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    here = Here()
    plain = gate(children, None).write(order(sources, tmp_path / "plain"))
    said: list[tuple[str, int, int]] = []
    divided = gate(children, here).write(order(sources, tmp_path / "divided"), progress=lambda *each: said.append(each))
    assert replace(divided, digests={}, shares=()) == replace(plain, digests={})
    assert list(divided.digests.items()) == list(plain.digests.items())
    assert objects(tmp_path / "divided" / "new") == objects(tmp_path / "plain" / "new")
    assert not (tmp_path / "divided" / "units" / "mark").exists()
    tasks = [each["task"] for each in here.orders]
    checks = tasks.count("verify")
    assert tasks == ["verify"] * checks + ["write-runs"] * (len(tasks) - checks)
    assert len(tasks) - checks >= 3
    opened = [[Path(name).name for name, *_ in each["sources"]] for each in here.orders if each["task"] == "write-runs"]
    assert min(map(len, opened)) < len(sources) / 2, "each unit opens the files that it needs"
    assert {phase for phase, _, _ in said} >= {"checking", "writing"}
    assert len(divided.shares) == tasks.count("write-runs")
    second = gate(children, None).measure(tmp_path / "divided" / "new", divided)
    assert second == gate(children, None).measure(tmp_path / "plain" / "new", plain)


def test_windows_transforms_and_updates_are_those_of_one_child(
    children: Children, sources: tuple[Path, ...], tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "window": SourceWindow(bbox=(10, -50, 200, 60), start="2000-01-03"),
        "transforms": ({"kelvin_to_celsius": ["t"]},),
        "variables": ("t", "rain"),
    }
    new = source(tmp_path / "new.nc", 10, seed=99)  # of days that are there, with other values
    found = {}
    here = Here()
    for name, executor in (("plain", None), ("divided", here)):
        wall = gate(children, executor, 8_000)
        staging = tmp_path / name
        made = wall.write(order(sources[:6], staging, **options))
        measured = wall.measure(staging / "new", made, fields=options["variables"])
        base = Base(folder=staging / "new", digest=measured.digest, ranges={}, on_overlap="replace")
        window = SourceWindow(bbox=(10, -50, 200, 60))
        updated = wall.write(order((new, *sources[6:]), staging / "update", **{**options, "window": window}, base=base))
        assert updated.change is not None
        again = wall.measure(staging / "update" / "new", updated, fields=options["variables"], base=base)
        found[name] = objects(staging / "new"), measured, objects(staging / "update" / "new"), again, updated.change
    assert found["plain"] == found["divided"]
    assert found["plain"][4].replaced == 2
    assert {each["task"] for each in here.orders} == {"verify", "write"}


def test_an_update_that_appends_is_that_of_one_child(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    """Of what workers wrote, nothing is decoded again to know the ends of all values."""
    found = {}
    here = Here()
    for name, executor in (("plain", None), ("divided", here)):
        wall, staging = gate(children, executor, 20_000), tmp_path / name
        made = wall.write(order(sources[:4], staging))
        measured = wall.measure(staging / "new", made)
        ends = {
            each.name: (each.valid_min, each.valid_max, each.shown_min, each.shown_max) for each in measured.description.variables
        }
        base = Base(folder=staging / "new", digest=measured.digest, ranges=ends, on_overlap="error")
        updated = wall.write(order(sources[4:], staging / "update", append_dim="time", base=base))
        assert bool(updated.shares) == (name == "divided")
        found[name] = measured, wall.measure(staging / "update" / "new", updated, base=base)
    assert found["plain"] == found["divided"]


def test_files_that_are_joined_along_any_dimension_are_read_in_their_places(children: Children, tmp_path: Path) -> None:
    """Units then have boxes that are not beside each other along the dimension of the join, and chunks across files."""
    random = np.random.default_rng(7)
    files = []
    for number, days in enumerate((3, 1, 4, 2, 5, 2)):
        first = sum((3, 1, 4, 2, 5, 2)[:number])
        cube = xr.Dataset(
            {"t": (("lat", "time", "lon"), random.integers(0, 30_000, (8, days, 12)).astype("int16"), {"units": "K"})},
            coords={
                "time": ("time", first + np.arange(days), {"units": "days since 2000-01-01", "standard_name": "time"}),
                "lat": ("lat", np.linspace(-80, 80, 8), {"units": "degrees_north"}),
                "lon": ("lon", np.arange(12) * 30.0, {"units": "degrees_east"}),
            },
        )
        files.append(tmp_path / f"{number}.nc")
        cube.to_netcdf(files[-1])

    def asked(staging: Path) -> WriteRequest:
        return replace(order(tuple(files), staging), chunks={"lat": 3, "time": 4, "lon": 12})

    plain = gate(children, None).write(asked(tmp_path / "plain"))
    for unit_bytes in (300, 700, 1_500):
        here = Here(workers=3)
        divided = gate(children, here, unit_bytes).write(asked(tmp_path / str(unit_bytes)))
        assert divided.digests == plain.digests
        assert objects(tmp_path / str(unit_bytes) / "new") == objects(tmp_path / "plain" / "new")
        assert {each["task"] for each in here.orders} == {"verify", "write-runs"}


def test_a_small_cube_needs_no_worker(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    here = Here()
    gate(children, here, 10**9).write(order(sources[:2], tmp_path / "small"))
    assert not here.orders
    gate(children, here).write(order(sources, tmp_path / "auto", storage="auto", held=gate(children, None).hold(sources)))
    assert not here.orders


def test_a_unit_that_is_made_twice_gives_the_same_cube(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    plain = gate(children, None).write(order(sources[:6], tmp_path / "plain"))
    twice = gate(children, Here(twice=True)).write(order(sources[:6], tmp_path / "twice"))
    assert twice.digests == plain.digests
    assert objects(tmp_path / "twice" / "new") == objects(tmp_path / "plain" / "new")


def nothing_merged(staging: Path) -> bool:
    """Return whether there are no chunks but those of labels, which no worker writes."""
    return not any(key.startswith(("t/c", "rain/c")) for key in objects(staging / "new"))


def test_planted_overlaps_are_refused_before_the_merge(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    """The second worker makes the chunks of the first unit."""
    first: list[Mapping[str, Any]] = []

    def the_first(each: Mapping[str, Any]) -> Mapping[str, Any]:
        if each["task"] == "verify":
            return each
        first.append(each)
        return first[0] if len(first) == 2 else each

    with pytest.raises(Corrupt, match=r"Unit 1 made .*, which is not in it"):
        gate(children, Here(before=the_first)).write(order(sources, tmp_path / "staging"))
    assert nothing_merged(tmp_path / "staging")
    assert not (tmp_path / "staging" / "units" / "mark").exists()


@pytest.mark.parametrize("harm", ["cut", "lost", "link", "linked folder", "named elsewhere"])
def test_objects_that_do_not_arrive_as_they_were_made_are_refused(
    children: Children, sources: tuple[Path, ...], tmp_path: Path, harm: str
) -> None:
    harmed: list[str] = []

    def damaged(each: Mapping[str, Any], answer: Mapping[str, Any]) -> Mapping[str, Any]:
        if each["task"] == "verify" or harmed:
            return answer
        harmed.append(answer["folder"])
        if harm == "named elsewhere":
            return {**answer, "folder": "../../elsewhere"}
        cube = Path(each["folder"]) / answer["folder"] / "cube.zarr"
        victim = next(path for path in sorted(cube.rglob("*")) if path.is_file() and path.parent.name not in ("c", "0"))
        if harm == "cut":
            victim.write_bytes(victim.read_bytes()[:-1])
        elif harm == "lost":
            victim.unlink()
        elif harm == "link":
            victim.rename(tmp_path / "outside")
            victim.symlink_to(tmp_path / "outside")
        else:
            shutil.move(victim.parent, tmp_path / "outside-folder")
            victim.parent.symlink_to(tmp_path / "outside-folder")
        return answer

    with pytest.raises(SourceRejected) as refused:
        gate(children, Here(after=damaged)).write(order(sources, tmp_path / "staging"))
    assert refused.value.reason == {"linked folder": "unsafe", "named elsewhere": "crashed"}.get(harm, "digest-mismatch")
    assert (tmp_path / "outside").exists() == (harm == "link")


def said_of(written: Any) -> tuple[Path, dict[str, Any]]:
    """Return the first share with a chunk, and what it says."""
    found = {each / "share.json": json.loads((each / "share.json").read_bytes()) for each in written.shares}
    return next((path, said) for path, said in found.items() if said["chunks"])


@pytest.mark.parametrize("harm", ["object", "lost object", "values", "missing", "twice", "elsewhere", "sample", "nothing"])
def test_a_share_that_does_not_fit_is_refused(children: Children, sources: tuple[Path, ...], tmp_path: Path, harm: str) -> None:
    """What a worker says of its read-back is compared with the very objects that are published, and with the first child."""
    wall = gate(children, Here())
    written = wall.write(order(sources, tmp_path / "staging"))
    path, said = said_of(written)
    name, index, digest, sha256 = said["chunks"][0]
    stored = tmp_path / "staging/new/cube.zarr" / name / "c" / "/".join(map(str, index))
    match harm:
        case "object":
            chunks = (each for each in (stored.parents[len(index) - 1]).rglob("*") if each.is_file())
            other = next(each for each in chunks if each != stored)
            stored.write_bytes(other.read_bytes())
        case "lost object":
            stored.unlink()
        case "values":
            said["chunks"][0] = [name, index, "0" * 64, sha256]
        case "missing":
            del said["chunks"][0]
        case "twice":
            said["chunks"].append([name, index, digest, sha256])
        case "elsewhere":
            said["chunks"][0] = [name, [99, *index[1:]], digest, sha256]
        case "sample":
            (path.parent / "taken").write_bytes(b"12345678")
    path.write_text(json.dumps(said))
    if harm == "nothing":
        assert wall.measure(tmp_path / "staging" / "new", written).files > 20
        return
    with pytest.raises(SourceRejected) as refused:
        wall.measure(tmp_path / "staging" / "new", written)
    mismatch = harm in ("object", "lost object", "values")
    assert refused.value.reason == ("digest-mismatch" if mismatch else "crashed")


def test_who_reads_back_sees_no_source(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    seen: list[tuple[str, Any, Any]] = []
    run = Children.run

    def noting(self: Children, task: str, request: Any, **more: Any) -> Any:
        seen.append((task, more.get("sources", ()), more["read"]))
        return run(self, task, request, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Children, "run", noting)
        gate(children, Here()).write(order(sources, tmp_path / "staging"))
    backs = [each for each in seen if each[0] == "read-back"]
    assert len(backs) >= 3
    for _, given, read in backs:
        assert given == ()
        assert all(each.is_relative_to(tmp_path / "staging") for each in read)


def damage(path: Path) -> None:
    """Overwrite the middle of a compressed chunk."""
    with h5py.File(path) as file:
        place = file["t"].id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(place.byte_offset + place.size // 2)
        raw.write(os.urandom(200))


def test_the_words_for_a_damaged_file_are_the_same(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    damage(sources[5])
    damage(sources[8])
    words = []
    for name, executor in (("plain", None), ("divided", Here())):
        with pytest.raises(SourceRejected) as refused:
            gate(children, executor).write(order(sources, tmp_path / name))
        error = refused.value
        words.append((error.message, error.next_step, error.reason, dict(error.members)))
    assert words[0] == words[1]
    assert "day-05.nc" in words[0][0]


def test_workers_that_do_not_fit_say_so(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    def refusal(name: str, **changes: Any) -> CubeportError:
        with pytest.raises(CubeportError) as refused:
            gate(children, Here(before=lambda each: {**each, **changes})).write(order(sources, tmp_path / name))
        return refused.value

    assert "has cubeport" in refusal("release", version="0.0.0").message
    elsewhere = refusal("folder", folder=str(tmp_path / "not-mounted"))
    assert isinstance(elsewhere, ExecutorUnavailable)
    assert "does not see the data folder" in elsewhere.message
    assert "does not see the source f.nc" in refusal("source", sources=[["/nowhere/f.nc", 1, 1]]).message
    status = sources[0].stat()
    changed = refusal("changed", sources=[[str(sources[0]), status.st_size, status.st_mtime_ns + 1]])
    assert isinstance(changed, SourceRejected)
    assert changed.reason == "digest-mismatch"


def test_a_cancelled_ingestion_ends_the_units(children: Children, sources: tuple[Path, ...], tmp_path: Path) -> None:
    def cancelled(phase: str, done: int, total: int) -> None:
        if phase == "writing" and done:
            raise Cancelled("enough")

    here = Here()
    with pytest.raises(Cancelled):
        gate(children, here).write(order(sources, tmp_path / "staging"), progress=cancelled)
    assert here.stopped
    assert nothing_merged(tmp_path / "staging")
