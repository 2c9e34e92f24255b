"""NetCDF files that we write, read by netCDF-C: names, order, dimensions, text and attributes are those of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import netCDF4
import numpy as np
import pytest
import xarray as xr


@pytest.fixture(scope="module")
def odd(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Everything that a file may have and that a writer of HDF5 may get wrong."""
    path = tmp_path_factory.mktemp("odd") / "odd.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", None), ("y", 3), ("x", 4), ("nv", 2), ("station", 2)):
            file.createDimension(name, size)
        file.setncatts({"title": "Größe", "empty": "", "long": "z" * 60_000, "numbers": np.arange(3, dtype="i4"), "one": 1.5})
        file.Conventions = "CF-1.10"
        # In no order of the alphabet; the first uses dimensions that have no variable of their own.
        file.createVariable("zeta", "f4", ("time", "y", "x"), fill_value=-9.0)[:] = np.arange(24).reshape(2, 3, 4)
        file["zeta"].setncatts(
            {"units": "K", "coordinates": "lat lon", "grid_mapping": "crs", **{f"a{n}": f"v{n}" for n in range(12)}}
        )
        file.createVariable("alpha", "i2", ("time", "y", "x"))[:] = np.arange(24).reshape(2, 3, 4)
        file["alpha"].setncatts({"coordinates": "lat lon", "flag_values": np.array([0, 1], "i2"), "flag_meanings": "no yes"})
        file.createVariable("time", "f8", ("time",))[:] = [0, 1]
        file["time"].setncatts({"units": "days since 2000-01-01", "calendar": "standard", "bounds": "time_bnds"})
        file.createVariable("time_bnds", "f8", ("time", "nv"))[:] = [[-0.5, 0.5], [0.5, 1.5]]
        lon, lat = np.meshgrid(np.arange(4.0), np.arange(50.0, 53))
        for name, values, units in (("lat", lat, "degrees_north"), ("lon", lon, "degrees_east")):
            file.createVariable(name, "f8", ("y", "x"))[:] = values
            file[name].units = units
        file.createVariable("crs", "i4", ())[...] = 0
        file["crs"].grid_mapping_name = "latitude_longitude"
    return stored(str(path))


def read(content: bytes, tmp_path: Path) -> netCDF4.Dataset:
    (tmp_path / "answer.nc").write_bytes(content)
    return netCDF4.Dataset(tmp_path / "answer.nc")


def test_a_download_is_read_by_netcdf_c_as_it_was_stored(client: httpx.Client, odd: Any, tmp_path: Path) -> None:
    answer = client.get(f"/datasets/{odd.dataset_id}/download")
    assert answer.status_code == 200, answer.text
    with read(answer.content, tmp_path) as ours, netCDF4.Dataset(odd.source) as theirs:
        assert list(ours.variables) == list(odd.open().names())
        assert set(ours.variables) == set(theirs.variables)
        assert {name: len(each) for name, each in ours.dimensions.items()} == {"time": 2, "y": 3, "x": 4, "nv": 2}
        assert ours.title == "Größe"
        assert ours.empty == ""
        assert ours.long == "z" * 60_000
        assert ours.one == 1.5
        np.testing.assert_array_equal(ours.numbers, [0, 1, 2])
        for name, variable in theirs.variables.items():
            ours[name].set_auto_mask(False)
            variable.set_auto_mask(False)
            assert ours[name].dimensions == variable.dimensions
            assert ours[name].dtype == variable.dtype
            np.testing.assert_array_equal(ours[name][...], variable[...])
            assert sorted(ours[name].ncattrs()) == sorted(variable.ncattrs()), name
            for key in variable.ncattrs():
                np.testing.assert_array_equal(ours[name].getncattr(key), variable.getncattr(key))
        assert ours["alpha"].flag_values.dtype == "i2"


def test_steps_can_be_added_to_a_download(client: httpx.Client, odd: Any, tmp_path: Path) -> None:
    """Time is a record dimension: `ncrcat` of NCO joins the downloads of two months, and refuses files without one."""
    (tmp_path / "a.nc").write_bytes(client.get(f"/datasets/{odd.dataset_id}/download").content)
    with netCDF4.Dataset(tmp_path / "a.nc", "a") as file:
        assert [name for name, each in file.dimensions.items() if each.isunlimited()] == ["time"]
        file["zeta"][2] = np.full((3, 4), 7.0)
    with netCDF4.Dataset(tmp_path / "a.nc") as file:
        assert len(file.dimensions["time"]) == 3
        np.testing.assert_array_equal(file["zeta"][:, 0, 0], [0, 12, 7])
        assert np.ma.getmaskarray(file["alpha"][2]).all()  # the pre-fill, not what lay in memory


def test_a_slice_drops_its_dimension_and_keeps_its_label(client: httpx.Client, odd: Any, tmp_path: Path) -> None:
    answer = client.get(
        f"/ogcapi/collections/{odd.dataset_id}/coverage", params={"f": "netcdf", "datetime": "2000-01-02T00:00:00Z"}
    )
    with read(answer.content, tmp_path) as ours:
        assert ours["zeta"].dimensions == ("y", "x")
        assert ours["time"].dimensions == ()
        assert float(ours["time"][...]) == 1
        assert "time" in ours["zeta"].coordinates.split()
    with xr.open_dataset(tmp_path / "answer.nc", engine="netcdf4") as ours:
        assert ours.zeta.coords["time"].values == np.datetime64("2000-01-02")


def test_text_and_names_that_are_dimensions_too(client: httpx.Client, stored: Any, tmp_path: Path) -> None:
    path = tmp_path / "texts.nc"
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("member", 2), ("lat", 2), ("lon", 3)):
            file.createDimension(name, size)
        file.createVariable("member", str, ("member",))[:] = np.array(["r1i1", "größer"], dtype=object)
        for name, values, units in (("lat", [1.0, 2], "degrees_north"), ("lon", [1.0, 2, 3], "degrees_east")):
            file.createVariable(name, "f8", (name,))[:] = values
            file[name].units = units
        file.createVariable("v", "f4", ("member", "lat", "lon"))[:] = np.arange(12).reshape(2, 2, 3)
    identity = stored(str(path)).dataset_id
    answer = client.get(f"/ogcapi/collections/{identity}/coverage", params={"f": "netcdf"})
    assert answer.status_code == 200, answer.text
    with read(answer.content, tmp_path) as ours:
        assert list(ours["member"][:]) == ["r1i1", "größer"]
        np.testing.assert_array_equal(ours["v"][...], np.arange(12).reshape(2, 2, 3))
