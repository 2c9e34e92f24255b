"""The Zarr v2 view over a real socket: zarr-python, xarray and GDAL read the values of the source."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from cubeport.cubes.description import CubeDescription
from cubeport.documents.zarr_v2 import View

from ..families import FAMILIES
from .conftest import VERSION, Shelf
from .test_dap import NAMES, Door, door, stored

__all__ = ["door", "stored"]  # fixtures


@pytest.mark.parametrize("name", NAMES)
def test_xarray_reads_the_values_of_the_source(door: Door, name: str) -> None:
    with (
        xr.open_dataset(door.folder / f"{name}.nc", decode_timedelta=False) as truth,
        xr.open_dataset(f"{door.url}/zarr-v2/{name}", engine="zarr", zarr_format=2, chunks=None, decode_timedelta=False) as found,
    ):
        assert set(found.variables) == set(truth.variables)
        for each in truth.variables:
            assert np.array_equal(found[each].values, truth[each].values, equal_nan=truth[each].dtype.kind == "f"), each


def test_every_type_is_read_as_it_is_stored(door: Door) -> None:
    group = zarr.open_group(f"{door.url}/zarr-v2/types", mode="r", zarr_format=2)
    with netCDF4.Dataset(door.folder / "types.nc") as truth:
        for name, variable in truth.variables.items():
            variable.set_auto_maskandscale(False)
            mine, theirs = group[name][...], variable[...]  # type: ignore[index]
            assert np.asarray(mine).tolist() == np.asarray(theirs).tolist(), name


def test_a_chunk_that_is_all_fill_is_not_missing(stored: tuple[Shelf, Path], door: Door) -> None:
    """Zeros are not stored where zero is the fill of version 3; in version 2 a fill is a missing value, and zeros are none."""
    shelf, folder = stored
    with netCDF4.Dataset(folder / "zeros.nc", "w") as file:
        for name in ("lat", "lon"):
            file.createDimension(name, 4)
            axis = file.createVariable(name, "f8", (name,))
            axis.standard_name, axis.units = {"lat": ("latitude", "degrees_north"), "lon": ("longitude", "degrees_east")}[name]
            axis[:] = np.arange(4.0)
        file.createVariable("plain", "i2", ("lat", "lon"))[:] = np.zeros((4, 4), "i2")
        masked = file.createVariable("masked", "f4", ("lat", "lon"), fill_value=-9.0)
        masked[:] = np.ma.masked_all((4, 4), "f4")
    shelf.put("zeros.nc")
    answer = httpx.get(f"{door.url}/zarr-v2/zeros/plain/0.0", trust_env=False)
    assert (answer.status_code, answer.headers["cubeport-version"]) == (200, VERSION)
    assert httpx.get(f"{door.url}/zarr/zeros/plain/c/0/0", trust_env=False).status_code == 404, "the premise of this test"
    with xr.open_dataset(f"{door.url}/zarr-v2/zeros", engine="zarr", zarr_format=2, chunks=None) as found:
        assert found.plain.values.tolist() == np.zeros((4, 4)).tolist()
        assert np.isnan(found.masked.values).all()
        assert found.masked.encoding["_FillValue"] == -9.0


@pytest.mark.skipif(shutil.which("gdalmdiminfo") is None, reason="GDAL is not installed: apt-get install gdal-bin")
@pytest.mark.parametrize("name", ["regular", "south-up", "from-0-to-360", "packed", "projected"])
def test_gdal_reads_values_and_place(door: Door, name: str) -> None:
    address = f'ZARR:"/vsicurl/{door.url}/zarr-v2/{name}"'
    done = subprocess.run(
        ["gdalmdiminfo", "-detailed", "-array", "/t", address], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    truth = xr.open_dataset(door.folder / f"{name}.nc", decode_cf=False)
    assert _flat(found["values"]) == truth.t.values.ravel().tolist()
    assert found["dimension_size"] == list(truth.t.shape)
    assert "srs" in found, "GDAL finds the reference system"
    wkt = json.dumps(found["srs"])
    assert ("WGS 84" if name != "projected" else "3035") in wkt
    truth.close()


@pytest.mark.skipif(shutil.which("gdalmdiminfo") is None, reason="GDAL is not installed: apt-get install gdal-bin")
def test_gdal_says_nothing_of_a_grid_mapping_that_is_text(stored: tuple[Shelf, Path], door: Door) -> None:
    """CORDEX has ``char rotated_pole``. GDAL 3.6 printed "Invalid or unsupported format for dtype: |O" for it."""
    shelf, folder = stored
    with xr.open_dataset(folder / "projected.nc", decode_cf=False) as data:
        text = xr.Variable((), np.array(b"", "S1"), data.crs.attrs)
        data.drop_vars("crs").assign(crs=text).to_netcdf(folder / "mapped-by-text.nc")
    shelf.put("mapped-by-text.nc")
    address = f"{door.url}/zarr-v2/mapped-by-text"
    done = subprocess.run(["gdalmdiminfo", f'ZARR:"/vsicurl/{address}"'], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with xr.open_dataset(address, engine="zarr", zarr_format=2, chunks=None) as found:
        assert found.crs.attrs == text.attrs
        assert found.crs.values.tolist() == 0


def _flat(values: Any) -> list[float]:
    return [each for part in values for each in _flat(part)] if isinstance(values, list) else [values]


@pytest.mark.parametrize(
    "key",
    ["zarr.json", "t/zarr.json", "t/c/0/0/0", "t/0", "t/0.0.1", "t/00.0.0", "nix/.zarray", "t/.zgroup", "t/.zmetadata", "../x"],
)
def test_what_is_not_of_version_2_is_404(door: Door, key: str) -> None:
    assert httpx.get(f"{door.url}/zarr-v2/regular/{key}", trust_env=False).status_code == 404


def test_parts_of_chunks_and_conditions_are_those_of_zarr(door: Door) -> None:
    for name in ("regular", f"regular@{VERSION}"):
        ours = httpx.get(f"{door.url}/zarr-v2/{name}/t/0.0.0", trust_env=False)
        theirs = httpx.get(f"{door.url}/zarr/{name}/t/c/0/0/0", trust_env=False)
        assert ours.content == theirs.content
        assert (ours.headers["etag"], ours.headers["cache-control"]) == (theirs.headers["etag"], theirs.headers["cache-control"])
        part = httpx.get(f"{door.url}/zarr-v2/{name}/t/0.0.0", headers={"range": "bytes=2-5"}, trust_env=False)
        assert (part.status_code, part.content) == (206, theirs.content[2:6])


def _root(**changes: Any) -> dict[str, Any]:
    node = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd", "configuration": {"level": 3}}],
        "attributes": {},
        "dimension_names": ["x"],
    }
    return {"attributes": {}, "consolidated_metadata": {"metadata": {"a": {**node, **changes}}}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codecs": [{"name": "sharding_indexed", "configuration": {}}]}, "version 2 has no codec sharding_indexed"),
        ({"codecs": [{"name": "transpose"}, {"name": "bytes"}]}, "version 2 has no codec transpose"),
        ({"codecs": [{"name": "bytes"}, {"name": "zstd"}, {"name": "crc32c"}]}, "version 2 has no codec crc32c"),
        ({"data_type": "float128"}, "version 2 has no type float128"),
        ({"data_type": {"name": "numpy.datetime64"}}, "version 2 has no type numpy.datetime64"),
        ({"chunk_grid": {"name": "rectangular"}}, "its chunks are not regular"),
    ],
)
def test_what_has_no_form_in_version_2_is_left_out_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    cube = CubeDescription.model_validate({"axes": (), "variables": (), "fields": (), "spatial": {"family": "none"}})
    view = View.of(_root(**changes), cube)
    assert (dict(view.arrays), view.left_out) == ({}, {"a": reason})


@pytest.mark.parametrize(
    ("codec", "compressor"),
    [
        ({"name": "gzip", "configuration": {"level": 4}}, {"id": "gzip", "level": 4}),
        (
            {
                "name": "blosc",
                "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0},
            },
            {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0},
        ),
    ],
)
def test_compressors_have_their_older_names(codec: dict[str, Any], compressor: dict[str, Any]) -> None:
    cube = CubeDescription.model_validate({"axes": (), "variables": (), "fields": (), "spatial": {"family": "none"}})
    view = View.of(_root(codecs=[{"name": "bytes", "configuration": {"endian": "big"}}, codec]), cube)
    assert (view.arrays["a"].zarray["compressor"], view.arrays["a"].zarray["dtype"]) == (compressor, ">f4")


def test_families_are_all_tried() -> None:
    assert set(NAMES) <= set(FAMILIES)
