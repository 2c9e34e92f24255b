"""Files are added to a dataset: values, versions, shared bytes, readers of the old version, and interruptions at every call."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import xarray as xr

import cubeport
from cubeport.adapters.engines import zarr
from cubeport.adapters.engines.disk import Disk
from cubeport.adapters.engines.opened import VersionStore
from cubeport.catalog.disk import failpoints
from cubeport.documents import native
from cubeport.errors import CubeportError
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.keys import Keys

from .conftest import here, start, stop


def save(path: Path, days: list[int], *, add: float = 0.0) -> FileOptions:
    values = np.stack([np.full((3, 4), day + add, "float32") for day in days])
    xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.asarray(days, "int64"), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", [10.0, 20.0, 30.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
        attrs={"title": "Days"},
    ).to_netcdf(path)
    return FileOptions(files=(str(path),))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare(tmp_path / "instance")
    with cubeport.connect(tmp_path / "instance") as service:
        request = IngestionRequest.model_validate(
            {"dataset_id": "x", "template": {"layout": {"chunks": {"time": 4}}, "title": "Kept title"}}
        )
        assert service.ingest_here(request, save(tmp_path / "first.nc", list(range(10)))).status == "completed"
    return tmp_path / "instance"


def update(service: Any, options: FileOptions, **fields: Any) -> Any:
    return service.ingest_here(IngestionRequest(dataset_id="x", mode="update", **fields), options)


def days_of(service: Any, ref: str = "x") -> dict[int, float]:
    shown = service.shown(ref)
    store: Any = VersionStore(service.engines, "x", shown.version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as opened:
        assert shown.description.temporal.count == opened.sizes["time"]
        return {int(day): float(opened.t.values[n, 0, 0]) for n, day in enumerate(opened.time.values)}


def held(days: range, **changed: float) -> dict[int, float]:
    return {day: changed.get(f"d{day}", float(day)) for day in days}


def test_an_append_is_a_version_that_shares_what_it_does_not_touch(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        first = service.shown("x").version.version_id
        done = update(service, save(tmp_path / "new.nc", [10, 11]))
        assert (done.status, done.action, done.reused) == ("completed", "append", False)
        assert days_of(service) == held(range(12))
        assert days_of(service, f"x@{first}") == held(range(10))
        states = {state.version_id: state for state, _ in service.versions("x")}
        assert (states[done.version_id].kind, states[done.version_id].parent_id) == ("appended", first)
        assert service.shown("x").texts.title == "Kept title"
        usage = {each.version_id: each for each in service.usage().datasets[0].versions}
        assert usage[done.version_id].shared_bytes > 0
        chunk = "cube.zarr/t/c/0/0/0"
        old, new = (root / "data/store/x" / version / chunk for version in (first, done.version_id))
        assert old.stat().st_ino == new.stat().st_ino
        # The same again is nothing to do, whether it is the same file or the same values in another.
        assert update(service, save(tmp_path / "new.nc", [10, 11])).reused
        assert update(service, save(tmp_path / "again.nc", [11]), on_overlap="replace").reused
        assert update(service, save(tmp_path / "again.nc", [11]), on_overlap="skip").reused
    with cubeport.Catalog.open(root) as catalog:
        assert catalog.fsck(data=True).findings == ()


@pytest.mark.parametrize("length", [1, 8])
def test_chunks_that_somebody_chose_stay_as_they_were_chosen(tmp_path: Path, length: int) -> None:
    """Of such small maps a chunk could have hundreds of steps, and chunks that nobody chose grow."""
    cubeport.Catalog.create(tmp_path / "i").close()
    with cubeport.connect(tmp_path / "i") as service:
        request = {"dataset_id": "x", "template": {"layout": {"chunks": {"time": length}}}}
        assert (
            service.ingest_here(IngestionRequest.model_validate(request), save(tmp_path / "0.nc", list(range(4)))).action
            == "create"
        )
        for first in (4, 12, 20):
            done = update(service, save(tmp_path / f"{first}.nc", list(range(first, first + 8))))
            assert done.action == "append", done.error
        [store] = (tmp_path / "i/data/store/x").glob(f"{done.version_id}/cube.zarr")
        assert json.loads((store / "t/zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"][0] == length
        assert days_of(service) == held(range(28))


def test_a_server_repeats_the_steps_and_chunks_of_the_dataset_whatever_else_is_said(root: Path, tmp_path: Path) -> None:
    """It runs the request of its row, which had all fields that nobody gave, so that the new step was 11 instead of 22."""
    with (root / "config/service.yaml").open("a") as file:
        file.write(f"sources:\n  roots: ['{tmp_path}']\n")
    save(tmp_path / "new.nc", [10, 11])
    with cubeport.connect(root) as service:
        made = {"transforms": [{"scale": {"t": {"factor": 2}}}], "layout": {"chunks": {"time": 4}}}
        request = IngestionRequest.model_validate({"dataset_id": "x", "mode": "replace", "template": made})
        service.ingest_here(request, save(tmp_path / "first.nc", list(range(10))))
        service.start()
        said = {"dataset_id": "x", "mode": "update", "source": str(tmp_path / "new.nc"), "template": {"units": "K"}}
        done = service.wait(service.ingest(IngestionRequest.model_validate(said)).ingestion_id, 60)
        assert done.status == "completed", done.error
        assert days_of(service) == {day: 2.0 * day for day in range(12)}
        assert service.versions("x")[0][0].chunks == {"time": 4}


def test_one_step_after_another_is_read_by_the_same_two_processes(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        before = forks()  # of other tests
        update(service, save(tmp_path / "0.nc", [10]))
        pids = forks() - before
        for day in (11, 12, 13):
            update(service, save(tmp_path / f"{day}.nc", [day]))
        assert days_of(service) == held(range(14))
        assert len(pids) == 2, "one that reads and one that checks"
        assert forks() - before == pids
    assert not forks() & pids, "they end with the service"


def test_each_update_has_processes_of_its_own_if_none_are_kept(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root, gate__keep_children=False) as service:
        before = forks()  # of other tests
        update(service, save(tmp_path / "0.nc", [10]))
        assert days_of(service) == held(range(11))
        assert forks() <= before


@pytest.mark.slow
def test_a_server_keeps_them_from_request_to_request(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        key = Keys(service.catalog.backend).add("updates", scope="ingest", datasets=["x"]).text
    with (root / "config/service.yaml").open("a") as file:
        file.write(f"sources:\n  roots: ['{tmp_path / 'files'}']\n")
    (tmp_path / "files").mkdir()
    process, url = start(root)
    try:
        seen = []
        for day in (10, 11, 12):
            save(tmp_path / f"files/{day}.nc", [day])
            source = {"kind": "files", "paths": [str(tmp_path / f"files/{day}.nc")]}
            answer = httpx.post(
                f"{url}/ingestions",
                json={"dataset_id": "x", "mode": "update", "source": source},
                headers={"Authorization": f"Bearer {key}", "Prefer": "wait=60"},
                timeout=90,
                trust_env=False,
            )
            assert answer.json()["status"] == "completed", answer.text
            seen.append(forks(process.pid))
        assert seen[0] == seen[1] == seen[2]
        assert len(seen[0]) == 2
    finally:
        stop(process)


def forks(pid: int | None = None) -> set[int]:
    """Return the confined children of a process, by default of this one: those of its template."""
    return {
        each.pid
        for template in psutil.Process(pid).children(recursive=True)
        if "cubeport.adapters.sandbox.template" in template.cmdline()
        for each in template.children()
    }


def test_overlap_gap_and_a_missing_dataset_are_refused_and_change_nothing(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        before = service.generation()
        for options, fields, kind in (
            (save(tmp_path / "a.nc", [9, 10], add=0.5), {}, "overlap"),
            (save(tmp_path / "b.nc", [12]), {}, "gap"),
        ):
            done = update(service, options, **fields)
            assert (done.status, done.error["kind"]) == ("failed", kind), done.error
        assert update(service, save(tmp_path / "b.nc", [12]), allow_gaps=True).status == "completed"
        assert days_of(service) == {**held(range(10)), 12: 12.0}
        assert service.generation() > before
        missing = service.ingest_here(IngestionRequest(dataset_id="nosuch", mode="update"), save(tmp_path / "c.nc", [1]))
        assert missing.error["kind"] == "not-found"


def test_a_climatology_is_whole_and_stays_so(root: Path, tmp_path: Path) -> None:
    fields = {"period_type": "climatology", "climatology": "monthly"}
    request = IngestionRequest.model_validate({"dataset_id": "normal", "template": fields})
    with cubeport.connect(root) as service:
        short = service.ingest_here(request, save(tmp_path / "eleven.nc", [15 + 30 * month for month in range(11)]))
        assert (short.status, short.error and short.error["kind"]) == ("failed", "gap")
        whole = service.ingest_here(request, save(tmp_path / "twelve.nc", [15 + 30 * month for month in range(12)]))
        assert whole.status == "completed", whole.error
        asked = IngestionRequest(dataset_id="normal", mode="update")
        more = service.ingest_here(asked, save(tmp_path / "more.nc", [500]))
        assert (more.error and more.error["reason"], service.shown("normal").version.version_id) == ("bad-time", whole.version_id)


def test_the_years_of_a_climatology_are_shown_kept_and_held_against_its_bounds(root: Path, tmp_path: Path) -> None:
    said = {"period_type": "climatology", "climatology": "monthly", "climatology_period": [1991, 2020]}
    days = [15 + 30 * month for month in range(12)]
    asked = {"dataset_id": "normal", "mode": "replace"}
    with cubeport.connect(root) as service:

        def ingest(options: FileOptions, **fields: Any) -> Any:
            return service.ingest_here(IngestionRequest.model_validate({**asked, "template": fields}), options)

        plain = save(tmp_path / "normal.nc", days)
        before = ingest(plain, period_type="climatology", climatology="monthly")
        assert service.shown("normal").description.temporal.years is None
        made = ingest(plain, **said)
        assert (made.status, made.version_id == before.version_id) == ("completed", False)
        shown = service.shown("normal")
        assert (shown.description.temporal.years, shown.description.temporal.period_type) == ("1991 to 2020", "climatology")
        assert service.catalog.get("normal").time.end.year == 2021
        assert native.summary(shown, "http://x").extent.temporal == native.Periods(start="1991", end="2020")
        again = ingest(plain, **said)
        assert again.version_id == made.version_id
        update = IngestionRequest(dataset_id="normal", mode="update", on_overlap="replace")
        assert service.ingest_here(update, save(tmp_path / "new.nc", days[:1], add=0.5)).status == "completed"
        assert service.shown("normal").description.temporal.years == "1991 to 2020"
        with xr.open_dataset(plain.files[0], decode_times=False) as opened:
            bounded = opened.load()
        bounded["edges"] = ("time", "nv"), np.array([[day - 15, day + 3650] for day in days])
        bounded["time"].attrs["climatology"] = "edges"
        bounded.to_netcdf(tmp_path / "bounded.nc")
        refused = ingest(FileOptions(files=(str(tmp_path / "bounded.nc"),)), **said)
        assert (refused.status, refused.error and refused.error["reason"]) == ("failed", "bad-time")
        assert "climatology_period 1991 to 2020, the bounds of the data say 2000" in refused.error["detail"]


def test_a_dataset_that_began_with_one_step_learns_its_period_type(tmp_path: Path) -> None:
    """Its first label alone is no type, and `irregular` stayed for ever, so that no gap was ever noticed."""
    prepare(tmp_path / "instance")
    with cubeport.connect(tmp_path / "instance") as service:
        request = IngestionRequest.model_validate({"dataset_id": "x"})
        assert service.ingest_here(request, save(tmp_path / "first.nc", [7])).status == "completed"
        assert update(service, save(tmp_path / "second.nc", [8])).status == "completed"
        assert service.shown("x").texts.period_type == "daily"
        late = update(service, save(tmp_path / "late.nc", [10]))
        assert (late.status, late.error["kind"]) == ("failed", "gap")
        assert days_of(service) == {7: 7.0, 8: 8.0}


def half(path: Path, days: list[int], *, last_bit: bool = False) -> Path:
    """Write days of random values, the same in each file, with a NaN in each day; *last_bit* changes the last bit of one value."""
    values = np.stack([np.random.default_rng(day).normal(280, 10, (3, 4)).astype("f4") for day in days])
    values[:, 1, 1] = np.nan
    if last_bit:
        values[-1, 2, 3] = np.nextafter(values[-1, 2, 3], np.float32(np.inf))
    time = np.datetime64("2024-01-01") + np.array(days).astype("timedelta64[D]")
    tas = xr.DataArray(values, {"time": time, "lat": [10.0, 20, 30], "lon": [0.0, 1, 2, 3]}, ("time", "lat", "lon"), name="tas")
    tas.attrs = {"units": "K"}
    tas.lat.attrs, tas.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    tas.to_netcdf(path, encoding={"time": {"units": "days since 2000-01-01"}})
    return path


def test_other_files_with_the_same_values_are_nothing_to_do_and_the_last_bit_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "instance"
    prepare(root)
    files = tmp_path / "files"
    files.mkdir()
    with (root / "config/service.yaml").open("a") as file:
        file.write(f"sources:\n  roots: ['{files}']\n")

    def run(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
        said = here("--instance", root, *arguments, "--json")
        return said.returncode, json.loads(said.stdout or said.stderr)

    assert run("ingest", half(files / "a.nc", list(range(10))), "--id", "tas")[0] == 0
    first = run("update", "tas", half(files / "same.nc", [9]))[1]
    equal, odd, longer = half(files / "b.nc", [3, 4]), half(files / "c.nc", [3, 4], last_bit=True), half(files / "d.nc", [8, 9, 10])
    code, said = run("update", "tas", equal)
    assert (code, said["reused"], said["action"]) == (0, True, "reuse")
    assert "nothing changed" in here("--instance", root, "update", "tas", equal).stdout
    code, said = run("update", "tas", odd)
    assert (code, said["error"]["kind"]) == (4, "overlap"), said
    told = here("--instance", root, "update", "tas", odd).stderr
    assert "'tas' has other values at 2024-01-05" in told
    assert "--on-overlap skip" in told
    with cubeport.connect(root) as service:
        assert len(service.versions("tas")) == 1
        assert service.shown("tas").version.version_id == first["version_id"]
        key = Keys(service.catalog.backend).add("updates", scope="ingest", datasets=["tas"]).text
    process, url = start(root)
    try:

        def ask(path: Path) -> httpx.Response:
            request = {"dataset_id": "tas", "mode": "update", "source": {"kind": "files", "paths": [str(path)]}}
            headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=60"}
            return httpx.post(f"{url}/ingestions", json=request, headers=headers, timeout=90, trust_env=False)

        done = ask(equal)
        assert (done.status_code, done.json()["reused"], done.json()["version_id"]) == (200, True, first["version_id"]), done.text
        refused = ask(odd)
        assert (refused.status_code, refused.json()["kind"]) == (409, "overlap"), refused.text
        assert "on_overlap" in refused.json()["detail"], refused.text
        assert refused.json()["periods"] == ["2024-01-04T00:00:00Z", "2024-01-05T00:00:00Z"]
        # What is held and equal is no conflict for what is new.
        done = ask(longer)
        assert (done.json()["status"], done.json()["action"], done.json()["reused"]) == ("completed", "append", False), done.text
        with xr.open_zarr(f"{url}/zarr/tas", consolidated=True) as shown, xr.open_dataset(longer) as given:
            assert shown.sizes["time"] == 11
            np.testing.assert_array_equal(shown.tas[8:].values, given.tas.values)
    finally:
        stop(process)


def test_overwrite_with_files_keeps_what_they_do_not_hold(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        new = save(tmp_path / "fixed.nc", [3, 4], add=0.5)
        done = service.ingest_here(IngestionRequest(dataset_id="x", overwrite=True), new)
        assert (done.status, done.action) == ("completed", "revise")
        assert days_of(service) == held(range(10), d3=3.5, d4=4.5)


def test_old_versions_go_and_the_shared_bytes_stay(root: Path, tmp_path: Path) -> None:
    with cubeport.connect(root) as service:
        update(service, save(tmp_path / "new.nc", [10]))
    with cubeport.connect(root, retention__keep_last=1, retention__keep_days=0, retention__grace_min=0) as service:
        assert [each.act for each in service.retain()] == ["freed"]
        assert days_of(service) == held(range(11))
        used = service.usage().datasets[0].versions
        assert sum(each.own_bytes for each in used if each.state == "latest") > 0
    with cubeport.Catalog.open(root) as catalog:
        assert catalog.fsck(data=True).findings == ()


def _left(root: Path) -> list[str]:
    return [path.name for folder in ("data/staging", ".cubeport/journal/open") for path in (root / folder).iterdir()]


class _Faulty(Disk):
    """A disk whose *n*-th call fails."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number, self.calls = at, number, 0
        self._lock = threading.Lock()  # several syncs run at the same time

    def _count(self) -> None:
        with self._lock:
            self.calls += 1
            is_due = self.calls == self.at
        if is_due:
            raise OSError(self.number, os.strerror(self.number))

    def make_folder(self, path: Path) -> None:
        self._count()
        super().make_folder(path)

    def rename(self, *names: Any, **folders: Any) -> None:
        self._count()
        super().rename(*names, **folders)

    def link(self, *names: Any, **folders: Any) -> None:
        self._count()
        super().link(*names, **folders)

    def write(self, *what: Any, **folder: Any) -> None:
        self._count()
        super().write(*what, **folder)

    def sync(self, descriptor: int) -> None:
        self._count()
        super().sync(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, "store-unavailable"), (errno.ENOSPC, "no-space")])
def test_a_disk_that_fails_at_any_call_leaves_the_old_version(root: Path, tmp_path: Path, number: int, kind: str) -> None:
    new = save(tmp_path / "new.nc", [10])
    with cubeport.connect(root) as service:
        writer = service.engines.writer
        assert isinstance(writer, zarr.Writer)
        failed = 0
        for at in range(1, 200):
            writer.disk = disk = _Faulty(at, number)
            done = update(service, new)
            if disk.calls < at:
                break
            failed += 1
            assert (done.status, done.error["kind"]) == ("failed", kind), (at, done.error)
            assert days_of(service) == held(range(10))
            assert _left(root) == []
        assert done.status == "completed"
        assert failed > 20
        assert days_of(service) == held(range(11))


POINTS = (
    "begin:before", "begin:after", "bytes:after", "measure:after", "assemble:before", "assemble:after", "fsync:half", "fsync:after",
    "publish:before", "publish:after", "catalog_write_started:after",
)  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_an_update_that_is_interrupted_is_old_or_new(root: Path, tmp_path: Path, point: str) -> None:
    new = save(tmp_path / "new.nc", [10])
    failpoints.arm(f"{point}=raise")
    try:
        with cubeport.connect(root) as service:
            update(service, new)
    except (failpoints.FailPointRaised, CubeportError):
        pass
    finally:
        failpoints.arm("")
    with cubeport.connect(root) as service:
        assert days_of(service) in (held(range(10)), held(range(11)))
        assert update(service, new).status == "completed"
        assert days_of(service) == held(range(11))
        assert _left(root) == []


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cubeport.main import run

    save(tmp_path / "new.nc", [10])
    assert run(["--json", "-i", str(root), "update", "x", str(tmp_path / "new.nc")]) == 0
    assert json.loads(capsys.readouterr().out)["action"] == "append"
    assert run(["-i", str(root), "update", "nosuch", str(tmp_path / "new.nc")]) == 3
    save(tmp_path / "over.nc", [10, 11], add=0.5)
    assert run(["-i", str(root), "update", "x", str(tmp_path / "over.nc")]) == 4
    assert "--on-overlap skip" in capsys.readouterr().err
    assert run(["-i", str(root), "update", "x", str(tmp_path / "over.nc"), "--on-overlap", "skip"]) == 0
    with cubeport.connect(root) as service:
        assert days_of(service) == held(range(12), d11=11.5)


def test_days_that_only_seemed_to_be_pentads_are_added_as_the_refusal_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """January alone, each fifth day, looks like pentads; with February two steps are in the last of them."""
    from cubeport.main import run

    root = tmp_path / "instance"
    prepare(root)
    january, february = (save(tmp_path / f"{first}.nc", list(range(first, first + 30, 5))).files[0] for first in (0, 30))
    assert run(["-i", str(root), "ingest", january, "--id", "x"]) == 0
    capsys.readouterr()
    asked = ["-i", str(root), "update", "x", february]
    assert run(asked) == 5
    [advice] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    assert "if the data are not pentad" in advice
    assert run([*asked, *shlex.split(advice.partition("repeat with ")[2])]) == 0
    with cubeport.connect(root) as service:
        assert service.shown("x").texts.period_type == "irregular"
        assert days_of(service) == held(range(0, 60, 5))


KILLS = (
    "started", "planned", "artifact_write_started", "begin", "bytes", "measure", "assemble", "fsync", "artifact_write_succeeded",
    "publish", "catalog_write_started", "commit", "catalog_write_succeeded", "afterwards", "committed",
)  # fmt: skip


@pytest.mark.crash
@pytest.mark.parametrize(
    "point", [*(f"{name}:{side}" for name in KILLS for side in ("before", "after")), "bytes:half", "fsync:half"]
)
def test_an_update_that_is_killed_is_old_or_new_and_nobody_repairs(root: Path, tmp_path: Path, point: str) -> None:
    save(tmp_path / "new.nc", [10])
    command = [sys.executable, "-m", "cubeport", "-i", str(root), "update", "x", str(tmp_path / "new.nc")]
    testing = {**os.environ, "CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": point}
    killed = subprocess.run(command, capture_output=True, text=True, env=testing, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, (point, killed.returncode, killed.stderr)
    with cubeport.connect(root) as service:
        assert days_of(service) in (held(range(10)), held(range(11)))
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    with cubeport.connect(root) as service:
        assert days_of(service) == held(range(11))
        assert _left(root) == []
    with cubeport.Catalog.open(root) as catalog:
        assert catalog.fsck(data=True).findings == ()


def test_other_units_are_refused_with_the_step_that_converts_them(root: Path, tmp_path: Path) -> None:
    path = Path(save(tmp_path / "celsius.nc", [10]).files[0])
    with xr.open_dataset(path, decode_times=False) as opened:
        raw = opened.load()
    raw["t"] = (raw.t - 273.15).astype("float32").assign_attrs(units="degC")
    raw.to_netcdf(path)
    refused = here("-i", root, "update", "x", path)
    assert (refused.returncode, "error[units-mismatch]" in refused.stderr) == (4, True)
    [advice] = [line for line in refused.stderr.splitlines() if line.startswith("next: ")]
    arguments = shlex.split(advice.partition("them: ")[2])
    assert arguments == ["--transform", "convert_units: {t: K}"]
    done = here("-i", root, "update", "x", path, *arguments)
    assert done.returncode == 0, done.stderr
    with cubeport.connect(root) as service:
        assert days_of(service)[10] == pytest.approx(10, abs=1e-4)
    raw["t"].attrs["units"] = "Pa"
    raw.assign_coords(time=raw.time + 1).to_netcdf(path)
    assert "'t' is in 'Pa'" in here("-i", root, "update", "x", path).stderr  # the step is repeated, and cannot convert it
    assert "cannot convert one into the other" in here("-i", root, "update", "x", path, "--as-is").stderr


def _as_double(path: Path, days: list[int], **changes: Any) -> Path:
    """Save days whose values single precision does not have, in double precision, as a writer without the habit of the others."""
    with xr.open_dataset(save(path, days).files[0], decode_times=False) as opened:
        raw = opened.load()
    raw["t"] = (raw.t.astype("float64") + 0.1).assign_attrs(raw.t.attrs)
    raw["t"][:, 0, 1] = np.nan
    raw.t.encoding = {"_FillValue": -9999.0}
    raw.assign(changes).to_netcdf(path)
    return path


@pytest.mark.slow
def test_other_precision_is_refused_with_the_step_that_converts_it(tmp_path: Path) -> None:
    """The advice is run as it is printed, keeps the other steps of the dataset, and repeats none of them."""
    root = tmp_path / "instance"
    assert here("init", root, "-q").returncode == 0
    first = _as_double(tmp_path / "first.nc", [0, 1, 2])
    with xr.open_dataset(first, decode_times=False, mask_and_scale=False) as opened:
        raw = opened.load()
    raw["t"] = raw.t.astype("float32").assign_attrs({**raw.t.attrs, "_FillValue": np.float32(-9999)})
    raw.to_netcdf(first)
    steps = "--normalise", "rename: {t: sst}", "--transform", "scale: {sst: {factor: 2}}"
    made = here("-i", root, "ingest", first, "--id", "x", *steps)
    assert made.returncode == 0, made.stderr
    new = _as_double(tmp_path / "new.nc", [3, 4])
    for own in ((), steps, ("--as-is", *steps)):
        refused = here("-i", root, "update", "x", new, *own)
        assert (refused.returncode, "error[dtype-mismatch]: new.nc: variable 'sst' is float64" in refused.stderr) == (4, True)
        advice = advice_of(refused)
        before = [] if own else ["--normalise", 'rename: {"t": "sst"}']
        assert advice == [*before, "--normalise", 'set_dtype: {"sst": "float32"}']
        tried = here("-i", root, "update", "x", new, "--dry-run", *own, *advice)
        assert tried.returncode == 0, tried.stderr
    done = here("-i", root, "update", "x", new, *advice_of(here("-i", root, "update", "x", new)))
    assert done.returncode == 0, done.stderr
    later = here("-i", root, "update", "x", _as_double(tmp_path / "later.nc", [5]))  # the step is one of the dataset's now
    assert later.returncode == 0, later.stderr
    process, url = start(root)
    try:
        with xr.open_zarr(f"{url}/zarr/x", chunks=None, decode_times=False) as served:
            found = served.load()
    finally:
        stop(process)
    parts = [xr.open_dataset(tmp_path / f"{name}.nc", decode_times=False) for name in ("first", "new", "later")]
    expected = np.concatenate([part.t.values.astype("float32") for part in parts]) * 2
    assert found.time.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.sst.dtype == np.float32
    np.testing.assert_array_equal(found.sst.values, expected)
    assert np.isnan(found.sst.values[:, 0, 1]).all()


def advice_of(refused: subprocess.CompletedProcess[str]) -> list[str]:
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("next: ")]
    return shlex.split(line.partition("repeat with ")[2])
