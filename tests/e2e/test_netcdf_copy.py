"""The NetCDF-4 copy of a version: equal value by value, sent as it lies, durable, checked, and gone with its version."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

import cubeport
from cubeport.adapters.engines.zarr import Writer
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli, here, start, stop
from .test_update import _Faulty as Faulty


def cube(days: int, first: int = 0) -> xr.Dataset:
    """Packed, floating, whole and text values; a flag, a bound, a scalar, and a variable with the name of another's dimension."""
    random = np.random.default_rng(3)
    data = xr.Dataset(
        {
            "t": (("time", "lat", "lon"), random.normal(280, 9, (40, 5, 7)).astype("f4")[first : first + days], {"units": "K"}),
            "flag": (("time", "lat", "lon"), random.integers(0, 3, (40, 5, 7)).astype("u1")[first : first + days]),
            "name": (("lat",), np.array(["é", "", "öre", "x" * 300, "b"], dtype=object)),
            "mask": (("lat", "lon"), random.integers(0, 2, (5, 7)).astype(bool)),
            "crs": ((), np.int32(0), {"grid_mapping_name": "latitude_longitude"}),
        },
        {
            "time": ("time", np.arange(first, first + days), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(50, 54, 5), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.linspace(0, 6, 7), {"units": "degrees_east", "standard_name": "longitude"}),
        },
        {"title": "A cube", "long": "a" * 70_000},
    )
    data["t"][0, 2, 3] = np.nan
    data.t.encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}
    return data


def ingest(service: Any, dataset_id: str, *files: Path, **request: Any) -> Any:
    asked = IngestionRequest.model_validate({"dataset_id": dataset_id, **request})
    return service.ingest_here(asked, FileOptions(files=tuple(map(str, files))))


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    assert here("init", tmp_path / "instance", "--allow-root", tmp_path).returncode == 0
    with (tmp_path / "instance" / "config" / "service.yaml").open("a") as yaml:
        yaml.write("retention: {grace_min: 0}\n")
    return tmp_path / "instance"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {"ten": cube(10), "more": cube(3, 10)}
    for name, each in found.items():
        each.to_netcdf(tmp_path / f"{name}.nc")
    return {name: tmp_path / f"{name}.nc" for name in found}


def copies(root: Path, dataset_id: str) -> list[Path]:
    return sorted((root / "data" / "store" / dataset_id).glob("*/copy.nc"))


def check_equal(copy: Path, store: Path) -> None:
    """Compare every stored value of the file, read by netCDF-C, with the Zarr arrays as they lie."""
    group = zarr.open_group(store, mode="r")
    with netCDF4.Dataset(copy) as file:
        file.set_auto_maskandscale(False)
        assert set(file.variables) == set(group.array_keys())
        for name, array in group.arrays():
            held, found = np.asarray(array[...]), np.asarray(file[name][...])
            assert found.shape == held.shape
            if held.dtype.kind in "iufb":
                assert found.tobytes() == held.astype(found.dtype).tobytes(), name
            else:
                assert found.tolist() == held.tolist(), name
        assert {name: file.getncattr(name) for name in file.ncattrs()} == dict(group.attrs)
        for name, array in group.arrays():
            assert file[name].dimensions == tuple(array.metadata.dimension_names or ())


def test_a_download_of_all_sends_the_copy_as_it_lies(instance: Path, files: dict[str, Path]) -> None:
    with (instance / "config" / "service.yaml").open("a") as yaml:
        yaml.write("limits: {download_cells: 100}\n")
    with cubeport.connect(instance) as service:
        done = ingest(service, "sea", files["ten"], prefer_zarr=False)
        assert done.status == "completed", done.error
    [copy] = copies(instance, "sea")
    check_equal(copy, copy.parent / "cube.zarr")
    lying = copy.read_bytes()
    sha256 = hashlib.sha256(lying).hexdigest()
    process, url = start(instance, "--no-jobs")
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            answer = client.get("/datasets/sea/download")
            assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(lying)))
            assert answer.content == lying
            assert answer.headers["content-disposition"] == 'attachment; filename="sea_2000-01-01_2000-01-10.nc"'
            tag = answer.headers["etag"]
            part = client.get("/datasets/sea/download", headers={"Range": "bytes=1000-1999", "If-Range": tag})
            assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 1000-1999/{len(lying)}")
            assert part.content == lying[1000:2000]
            assert client.get("/datasets/sea/download", headers={"If-None-Match": tag}).status_code == 304
            head = client.head("/datasets/sea/download")
            assert (head.headers["content-length"], head.headers["etag"], head.content) == (str(len(lying)), tag, b"")
            cost = client.get("/datasets/sea/download", params={"estimate": "true"}).json()
            assert (cost["bytes"], cost["allowed"], cost["alternatives"]) == (len(lying), True, [])
            # What is not all of it is made from the cube, within the limits of that.
            assert client.get("/datasets/sea/download", params={"variables": "t"}).status_code == 413
            some = client.get("/datasets/sea/download", params={"variables": "t", "datetime": "2000-01-02"})
            assert some.status_code == 200
            assert some.headers["etag"] != tag
            assert some.content != lying
            [version] = client.get("/datasets/sea/versions").json()["items"]
            stated = {"format": "netcdf", "type": "application/x-netcdf", "size_bytes": len(lying), "sha256": sha256}
            assert version["copies"] == [stated]
            asset = client.get("/stac/collections/sea").json()["assets"]["netcdf"]
            assert (asset["file:size"], asset["file:checksum"]) == (len(lying), f"1220{sha256}")
            assert client.get(asset["href"]).content == lying
            kept = client.get(asset["href"].replace("@" + version["version_id"], "") + "?format=netcdf")
            assert kept.content == lying
    finally:
        stop(process)


@pytest.fixture
def service(instance: Path) -> Iterator[Any]:
    with cubeport.connect(instance) as opened:
        yield opened


def test_an_update_has_a_copy_of_all_steps_and_says_what_it_costs(
    service: Any, instance: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    ingest(service, "sea", files["ten"], prefer_zarr=False)
    [before] = copies(instance, "sea")
    old = before.read_bytes()
    done = ingest(service, "sea", files["more"], mode="update")
    assert done.status == "completed", done.error
    [made] = [each for each in copies(instance, "sea") if each != before]
    check_equal(made, made.parent / "cube.zarr")
    assert netCDF4.Dataset(made)["time"].shape == (13,)
    [told] = [each["message"] for each in done.warnings if each["kind"] == "netcdf-copy"]
    assert f"{made.stat().st_size:,} bytes" in told
    assert before.read_bytes() == old, "a version never changes"
    cube(2, 13).to_netcdf(tmp_path / "last.nc")
    ingest(service, "sea", tmp_path / "last.nc", mode="update", prefer_zarr=True)
    assert len(copies(instance, "sea")) == 2, "it was said that there shall be none"
    usage = json.loads(here("usage", "--json", "--instance", instance).stdout)
    bytes_of = {each["version_id"]: each["size_bytes"] for each in usage["datasets"][0]["versions"]}
    assert bytes_of[made.parent.name] > made.stat().st_size


def test_the_same_ingestion_adds_the_copy_that_is_missing_and_then_nothing(
    service: Any, instance: Path, files: dict[str, Path]
) -> None:
    first = ingest(service, "sea", files["ten"])
    assert copies(instance, "sea") == []
    planned = service.plan(IngestionRequest(dataset_id="sea", prefer_zarr=False), FileOptions(files=(str(files["ten"]),)))
    assert (planned.action, planned.reason.endswith("a NetCDF copy will be added")) == ("reuse", True)
    again = ingest(service, "sea", files["ten"], prefer_zarr=False)
    assert (again.reused, again.version_id, again.changed) == (True, first.version_id, ("NetCDF copy",))
    [copy] = copies(instance, "sea")
    check_equal(copy, copy.parent / "cube.zarr")
    third = ingest(service, "sea", files["ten"], prefer_zarr=False)
    assert (third.reused, third.changed) == (True, ())
    found = here("fsck", "--data", "--instance", instance)
    assert "0 findings" in found.stderr, found.stdout


def test_fsck_finds_a_copy_that_is_not_what_was_written(service: Any, instance: Path, files: dict[str, Path]) -> None:
    ingest(service, "sea", files["ten"], prefer_zarr=False)
    ingest(service, "lake", files["ten"])
    [copy] = copies(instance, "sea")
    held = copy.read_bytes()

    def findings() -> list[tuple[str, str]]:
        said = json.loads(here("fsck", "--data", "--json", "--instance", instance).stdout)
        return [(each["kind"], each["place"].rpartition("/")[2]) for each in said["findings"]]

    assert findings() == []
    copy.chmod(0o644)
    copy.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    assert findings() == [("digest-differs", "copy.nc")]
    copy.write_bytes(held[:-1])
    assert findings() == [("size-differs", "copy.nc")]
    copy.unlink()
    assert findings() == [("missing-object", "copy.nc")]
    copy.write_bytes(held)
    [other] = (instance / "data" / "store" / "lake").iterdir()
    (other / "copy.nc").write_bytes(held)
    assert findings() == [("extra-object", "copy.nc")]


def test_a_damaged_copy_is_put_away_and_made_again(service: Any, instance: Path, files: dict[str, Path]) -> None:
    ingest(service, "sea", files["ten"], prefer_zarr=False)
    [copy] = copies(instance, "sea")
    held = copy.read_bytes()
    copy.chmod(0o644)
    copy.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    said = here("fsck", "--data", "--repair", "--instance", instance).stdout
    assert "the version stays" in said
    shown = service.shown("sea")
    assert (shown.version.version_id, shown.version.copies) == (copy.parent.name, ()), "the cube is whole, so it stays"
    assert copies(instance, "sea") == []
    assert here("fsck", "--data", "--instance", instance).returncode == 0
    assert len(list((instance / ".cubeport/quarantine").rglob("*copy.nc"))) == 1
    assert ingest(service, "sea", files["ten"], prefer_zarr=False).status == "completed"
    assert service.shown("sea").version.version_id == shown.version.version_id
    assert copy.read_bytes() == held
    copy.unlink()
    assert here("fsck", "--repair", "--instance", instance).returncode in (0, 1)
    assert service.shown("sea").version.copies == ()


def test_what_netcdf_cannot_hold_is_refused_by_name_and_nothing_is_published(service: Any, instance: Path, tmp_path: Path) -> None:
    made = cube(2).drop_vars("name")
    made["t"].attrs["a/b"] = 1
    made.attrs["bad/name"] = "x"
    made.to_zarr(tmp_path / "odd.zarr", zarr_format=3, consolidated=False)
    refused = ingest(service, "odd", tmp_path / "odd.zarr", prefer_zarr=False)
    assert refused.status == "failed"
    assert (refused.error["kind"], refused.error["reason"]) == ("source-rejected", "not-netcdf")
    told = [each["message"] for each in refused.error["errors"]]
    assert told == ["t: 'a/b' is no name of an attribute in NetCDF", "'bad/name' is no name of an attribute in NetCDF"]
    assert service.datasets(publication="any").items == ()
    assert list((instance / "data" / "staging").iterdir()) == []
    assert not (instance / "data" / "store" / "odd").exists()
    assert ingest(service, "odd", tmp_path / "odd.zarr").status == "completed", "without a copy it can be published"


@pytest.mark.parametrize(
    "point",
    [*(pytest.param(each, marks=pytest.mark.slow) for each in ("copy:after", "fsync:after", "publish:before")), "publish:after"],
)
@pytest.mark.parametrize("adds", [False, True], ids=["made", "added"])
def test_a_kill_leaves_the_old_state_or_the_new_one(instance: Path, files: dict[str, Path], point: str, *, adds: bool) -> None:
    words = ("ingest", files["ten"], "--id", "sea", "--instance", instance)
    if adds:
        assert here(*words).returncode == 0
    env = {**os.environ, "CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": f"{point}=kill"}
    assert cli(*words, "--netcdf-copy", env=env).returncode == -9
    assert here("recover", "--instance", instance).returncode == 0
    assert list((instance / "data" / "staging").iterdir()) == []
    assert copies(instance, "sea") == []
    assert here("fsck", "--data", "--instance", instance).returncode == 0
    assert here(*words, "--netcdf-copy").returncode == 0
    [copy] = copies(instance, "sea")
    check_equal(copy, copy.parent / "cube.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("adds", [False, True], ids=["made", "added"])
@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, "store-unavailable"), (errno.ENOSPC, "no-space")])
def test_a_disk_that_fails_at_any_call_leaves_old_or_new(
    service: Any, instance: Path, files: dict[str, Path], number: int, kind: str, *, adds: bool
) -> None:
    if adds:
        assert ingest(service, "sea", files["ten"]).status == "completed"
    writer = service.engines.writer
    assert isinstance(writer, Writer)
    for at in range(1, 300):
        writer.disk = disk = Faulty(at, number)
        done = ingest(service, "sea", files["ten"], prefer_zarr=False)
        if disk.calls < at:
            break
        assert (done.status, done.error["kind"]) == ("failed", kind), (at, done.error)
        assert copies(instance, "sea") == []
        assert list((instance / "data" / "staging").iterdir()) == []
    assert done.status == "completed"
    assert at > 5
    [copy] = copies(instance, "sea")
    check_equal(copy, copy.parent / "cube.zarr")
    assert here("fsck", "--data", "--instance", instance).returncode == 0


FULL = """
import json, os, sys
from pathlib import Path
import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

disk, source = Path(sys.argv[1]), sys.argv[2]
root, fill, said = disk / "i", disk / "fill", []
prepare(root)

def leave(room):
    status = os.statvfs(disk)
    with fill.open("wb", buffering=0) as file:
        left = status.f_bavail * status.f_frsize - room
        while left > 0:
            left -= file.write(bytes(min(left, 65536)))

with cubeport.connect(root) as service:
    def ask(**more):
        asked = IngestionRequest.model_validate({"dataset_id": "sea", **more})
        return service.ingest_here(asked, FileOptions(files=(source,)))

    assert ask().status == "completed"
    [size] = [each.size_bytes for each in [service.shown("sea").description]]
    for room in map(int, (0.05 * size, 0.5 * size, 0.9 * size, 0.97 * size)):
        leave(room)
        done = ask(prefer_zarr=False)
        said.append([done.status, done.error and done.error["kind"], done.error and done.error["detail"]])
        fill.unlink()
        said[-1] += [len(list((root / "data/staging").iterdir())), len(list((root / "data/store").rglob("copy.nc")))]
    done = ask(prefer_zarr=False)
    said.append([done.status, None, None, 0, len(list((root / "data/store").rglob("copy.nc")))])
print(json.dumps(said))
"""


@pytest.mark.slow
def test_a_disk_that_is_full_while_the_copy_is_made_is_named(on_a_small_disk: Callable[..., str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    made = cube(4)
    made["noise"] = (("time", "row", "column"), random.normal(size=(4, 300, 300)).astype("f4"))
    source = tmp_path.parent / f"{tmp_path.name}.nc"  # the small disk hides the folder
    made.to_netcdf(source)
    *full, last = json.loads(on_a_small_disk(FULL, str(source), size="16m").splitlines()[-1])
    for status, kind, detail, left, copied in full:
        assert (status, kind, left, copied) == ("failed", "no-space", 0, 0), (kind, detail)
        assert "space" in detail
    assert last == ["completed", None, None, 0, 1]


def test_a_template_keeps_copies_and_retention_removes_them(service: Any, instance: Path, files: dict[str, Path]) -> None:
    (instance / "config" / "datasets" / "sea.yaml").write_text(
        f"id: sea\ntitle: Sea\nperiod_type: daily\ncopies: [netcdf]\nsource: {{kind: files, paths: '{files['ten']}'}}\n"
    )
    done = ingest(service, "sea", start="2000-01-01")
    assert done.status == "completed", done.error
    [copy] = copies(instance, "sea")
    service.delete("sea", purge=True)
    assert here("gc", "--instance", instance).returncode == 0
    assert not copy.exists()


@pytest.mark.slow
def test_a_sync_makes_the_copy_or_leaves_it_out_here_and_at_a_service(instance: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "days").mkdir()

    def arrives(number: int) -> None:
        cube(1, number).to_netcdf(folder / f"d_{20000101 + number}.nc")

    arrives(0)
    (instance / "config" / "datasets" / "sea.yaml").write_text(
        f"id: sea\ntitle: Sea\nperiod_type: daily\nsync: {{kind: temporal}}\n"
        f"source: {{kind: files, paths: '{folder}/d_{{YYYY}}{{MM}}{{DD}}.nc'}}\n"
    )
    assert here("ingest", "sea", "--start", "2000-01-01", "--instance", instance).returncode == 0
    assert copies(instance, "sea") == []
    arrives(1)
    done = here("sync", "sea", "--netcdf-copy", "--instance", instance)
    assert done.returncode == 0, done.stderr
    [copy] = copies(instance, "sea")
    check_equal(copy, copy.parent / "cube.zarr")
    out = here("export", "zarr", "sea", "--to", tmp_path / "out", "--instance", instance)
    assert (out.returncode, list((tmp_path / "out").rglob("copy.nc"))) == (0, [])
    assert "The NetCDF copy of sea is not exported" in out.stderr
    assert here("init", tmp_path / "other").returncode == 0
    process, url = start(tmp_path / "other")
    try:
        with (instance / "config" / "service.yaml").open("a") as yaml:
            yaml.write(f"mirrors: {{origins: ['{url}']}}\n")
        sent = here("push", "sea", "--to", url, "--instance", instance)
    finally:
        stop(process)
    assert (sent.returncode, copies(tmp_path / "other", "sea")) == (0, []), sent.stderr
    assert "The NetCDF copy of sea is not sent" in sent.stderr
    arrives(2)
    process, url = start(instance)
    try:
        done = here("sync", "sea", "--no-netcdf-copy", "--url", url)
        assert done.returncode == 0, done.stderr
        newest = httpx.get(f"{url}/datasets/sea", trust_env=False).json()["latest_version"]
    finally:
        stop(process)
    assert [each.parent.name for each in copies(instance, "sea")] == [copy.parent.name]
    assert newest != copy.parent.name
    assert here("sync", "sea", "--plan", "--netcdf-copy", "--instance", instance).returncode == 2
