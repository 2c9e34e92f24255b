"""``cubeport.connect(url)`` against a real server: search, select, open; the values are those of the source."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.e2e.conftest import here, start, stop

import cubeport
from cubeport.client import Port
from cubeport.errors import InvalidRequest, NotFound, Unavailable
from cubeport.service.ingestions import FileOptions, IngestionRequest


def source(path: Path, offset: float = 0.0) -> xr.Dataset:
    values = np.arange(4 * 6 * 8, dtype="float32").reshape(4, 6, 8) + np.float32(offset)
    made = xr.Dataset(
        {"sst": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(4), {"units": "days since 2020-01-01"}),
            "lat": ("lat", np.linspace(-25.0, 25.0, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(170.0, 205.0, 8), {"units": "degrees_east"}),
        },
        attrs={"title": "Sea"},
    )
    made.to_netcdf(path, engine="h5netcdf")
    return xr.open_dataset(path, engine="h5netcdf").load()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("instance")
    assert here("init", root).returncode == 0
    source(root / "sea.nc")
    with cubeport.connect(root) as service:
        for dataset_id in ("sea", "sea-2"):
            done = service.ingest_here(
                IngestionRequest(dataset_id=dataset_id, tag="first"), FileOptions(files=(str(root / "sea.nc"),))
            )
            assert done.status == "completed", done.error
    return root


@pytest.fixture(scope="module")
def port(root: Path) -> Iterator[Port]:
    process, url = start(root)
    yield cubeport.connect(url)
    stop(process)


def test_search_finds_by_words_place_time_and_variable(port: Port) -> None:
    assert [each.id for each in port] == ["sea", "sea-2"]
    assert [each.id for each in port.search("sea-2")] == ["sea-2"]
    assert [each.id for each in port.search(box=(-160, 0, -150, 10), time="2020-01-02T00:00:00Z", variable="sst")] == [
        "sea",
        "sea-2",
    ]
    assert list(port.search(box=(0, 0, 10, 10))) == list(port.search(variable="none")) == []
    found = port["sea"]
    assert (found.title, found.variables, found.time) == ("Sea", ("sst",), ("2020-01-01", "2020-01-04"))
    assert found.box == (167.5, -30.0, -152.5, 30.0)
    assert repr(found) == "<cubeport.Dataset sea: Sea (sst; 2020-01-01 to 2020-01-04)>"


def test_open_is_the_source_and_stays_the_version_that_was_asked_for(port: Port, root: Path, tmp_path: Path) -> None:
    before = port["sea-2"]
    first = before.open()
    wanted = xr.open_dataset(root / "sea.nc", engine="h5netcdf").load()
    xr.testing.assert_identical(first.sst.load(), wanted.sst)
    changed = source(tmp_path / "sea.nc", offset=1000)
    with cubeport.connect(root) as service:
        request = IngestionRequest(dataset_id="sea-2", mode="replace")
        assert service.ingest_here(request, FileOptions(files=(str(tmp_path / "sea.nc"),))).status == "completed"
    np.testing.assert_array_equal(before.open().sst, wanted.sst)
    np.testing.assert_array_equal(port["sea-2@first"].select().load().sst, wanted.sst)
    np.testing.assert_array_equal(port["sea-2"].open().sst, changed.sst)


def test_a_part_is_cut_by_the_service_and_has_the_source_s_values(port: Port, root: Path, tmp_path: Path) -> None:
    part = port["sea"].select(variables="sst", time="2020-01-02/2020-01-03", box=(-180, -5, -170, 15))
    loaded = part.load()
    wanted = xr.open_dataset(root / "sea.nc", engine="h5netcdf").load().sel(time=slice("2020-01-02", "2020-01-03"))
    wanted = wanted.sel(lat=slice(-5, 15), lon=slice(180, 190))
    np.testing.assert_array_equal(loaded.sst, wanted.sst)
    np.testing.assert_array_equal(loaded.lat, wanted.lat)
    assert part.price()["cells"] == wanted.sst.size
    np.testing.assert_array_equal(xr.open_dataset(part.save(tmp_path / "part.nc"), engine="h5netcdf").sst, wanted.sst)
    rows = part.save(tmp_path / "part.csv").read_text().splitlines()
    assert len(rows) >= wanted.sst.size
    with pytest.raises(InvalidRequest):
        part.save(tmp_path / "part.tiff")


def test_a_closed_instance_leaves_no_thread_and_no_open_file(root: Path) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        ours = [each for each in threading.enumerate() if each.name == "here"]  # zarr has threads of its own, which come and go
        return len(ours), len(list(Path("/proc/self/fd").iterdir()))

    def read() -> None:
        with cubeport.connect(root) as service:
            assert service["sea"].open().sst.load().size

    read()  # libraries start threads of their own, once
    before = held()
    read()
    read()
    assert held() == before


def test_problems_of_the_service_are_our_own_errors(port: Port) -> None:
    with pytest.raises(NotFound, match="no dataset 'seaa'; did you mean 'sea'"):
        port["seaa"]
    with pytest.raises(InvalidRequest):
        port["sea"].select(time="never").load()
    with pytest.raises(NotFound):
        port["sea@unknown"]


def test_what_only_an_open_dataset_has_is_said(port: Port) -> None:
    found: Any = port["sea"]
    for name in ("sel", "isel", "mean"):
        with pytest.raises(AttributeError, match=rf"no '{name}'.*open\(\) returns an xarray.Dataset, and \.select\("):
            getattr(found, name)
    with pytest.raises(TypeError, match=r"no \['sst'\].*open\(\) returns"):
        found["sst"]
    with pytest.raises(TypeError, match="not iterable"):
        list(found)


def test_what_is_no_service_is_said(tmp_path: Path) -> None:
    assert repr(cubeport.connect("http://127.0.0.1:9")) == "<cubeport.Port http://127.0.0.1:9>"
    with pytest.raises(Unavailable, match="does not answer"):
        next(iter(cubeport.connect("http://127.0.0.1:9")))
    with pytest.raises(InvalidRequest, match="s3: is neither"):
        cubeport.connect("s3://bucket/key")
    with pytest.raises(InvalidRequest, match="for a folder"):
        cubeport.connect("https://data.example.org", read_only=True)
    with pytest.raises(InvalidRequest, match="needs none"):
        cubeport.connect(str(tmp_path), key="cp_x")
