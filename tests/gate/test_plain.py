"""A plain NetCDF-4 file that h5py alone opens is what h5netcdf opens: names, order, types, attributes and values."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sources import hdf5, hdf5plain
from cubeport.adapters.sources.reading import RAW
from cubeport.adapters.sources.signatures import is_hdf5


def by_h5netcdf(path: Path) -> xr.Dataset:
    return xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", **RAW)


def same_attributes(ours: Any, theirs: Any) -> None:
    assert [(name, type(each), repr(each)) for name, each in ours.items()] == [
        (name, type(each), repr(each)) for name, each in theirs.items()
    ]


def same(ours: xr.Dataset, theirs: xr.Dataset) -> None:
    assert list(ours.variables) == list(theirs.variables)
    assert set(ours.coords) == set(theirs.coords)
    same_attributes(ours.attrs, theirs.attrs)
    for name, one in ours.variables.items():
        other = theirs.variables[name]
        assert (one.dims, one.shape, one.dtype) == (other.dims, other.shape, other.dtype), name
        assert one.encoding["chunksizes"] == other.encoding["chunksizes"], name
        same_attributes(one.attrs, other.attrs)
        if one.nbytes < 2**24:
            np.testing.assert_array_equal(one.values, other.values)


def plain_file(path: Path, form: str = "NETCDF4") -> netCDF4.Dataset:
    """Make a file with all that a plain one may have. netCDF-C writes texts of the classic model with a fixed length."""
    made = netCDF4.Dataset(path, "w", format=form)
    made.setncatts({"title": "é", "one": np.int32(1), "many": np.arange(3.0), "history": "", "letter": "a"})
    made.createDimension("time", None)
    made.createDimension("lat", 4)
    made.createDimension("nv", 2)
    t = made.createVariable("t", "i2", ("time", "lat"), zlib=True, shuffle=True, fletcher32=True, fill_value=-9, chunksizes=(2, 3))
    t.setncatts({"scale_factor": 0.5, "flag_values": np.arange(2, dtype="i1"), "axis": "X", "missing_value": np.int16(-9)})
    t.set_auto_maskandscale(False)
    for name, dims in (("time", ("time",)), ("lat", ("lat",)), ("lat_bnds", ("lat", "nv")), ("crs", ()), ("level", ())):
        made.createVariable(name, "i4" if name == "crs" else "f8", dims)
    t[:] = np.arange(12).reshape(3, 4)
    made["time"][:], made["lat"][:], made["crs"][...] = np.arange(3.0), np.arange(4.0), 7
    return made


@pytest.mark.parametrize("form", ["NETCDF4", "NETCDF4_CLASSIC"])
def test_a_plain_file_is_what_h5netcdf_opens(tmp_path: Path, form: str) -> None:
    plain_file(tmp_path / "a.nc", form).close()
    ours = hdf5plain.read(str(tmp_path / "a.nc"), None)
    assert ours is not None
    with ours, by_h5netcdf(tmp_path / "a.nc") as theirs:
        same(ours, theirs)
        for part in ({"time": slice(1, None)}, {"time": 2, "lat": [0, 3]}, {"lat": slice(None, None, -2)}, {"lat": [3, 1, 1]}):
            np.testing.assert_array_equal(ours["t"].isel(part).values, theirs["t"].isel(part).values)


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_what_xarray_writes_is_plain(tmp_path: Path, engine: Any) -> None:
    cube = xr.Dataset({"t": (("y", "x"), np.arange(6.0).reshape(2, 3), {"units": "K"})}, {"y": [10.0, 20.0], "x": [1.0, 2.0, 3.0]})
    cube.to_netcdf(tmp_path / "a.nc", engine=engine)
    ours = hdf5plain.read(str(tmp_path / "a.nc"), None)
    assert ours is not None
    with ours, by_h5netcdf(tmp_path / "a.nc") as theirs:
        same(ours, theirs)


ODD: dict[str, Callable[[netCDF4.Dataset], object]] = {
    "a group": lambda made: made.createGroup("g"),
    "text": lambda made: made.createVariable("s", str, ("lat",)),
    "characters": lambda made: made.createVariable("c", "S1", ("lat", "nv")),
    "an enumeration": lambda made: made.createVariable("e", made.createEnumType("i1", "kind", {"a": 0, "b": 1}), ("lat",)),
    "another byte order": lambda made: made.createVariable("big", ">f4", ("lat",), endian="big"),
    "a variable shorter than its dimension": lambda made: made.createVariable("short", "f4", ("time",)),
    "the name of a dimension that is not its own": lambda made: made.createVariable("nv", "f4", ("lat",)),
    "a coordinate of two dimensions": lambda made: made.createVariable("nv", "f4", ("nv", "lat")),
    "true and false, as xarray stores them": lambda made: made["t"].setncattr("dtype", "bool"),
    "an enumeration as an attribute": lambda made: _odd_attribute(made, np.bool_(1)),
    "no value as an attribute": lambda made: _odd_attribute(made, h5py.Empty("f8")),
    "rows and columns as an attribute": lambda made: _odd_attribute(made, np.zeros((2, 2))),
}


def _odd_attribute(made: netCDF4.Dataset, value: Any) -> None:
    path = made.filepath()
    made.close()
    with h5py.File(path, "a") as file:
        file["t"].attrs["odd"] = value


@pytest.mark.parametrize("what", ODD)
def test_any_other_file_is_left_to_h5netcdf(tmp_path: Path, what: str) -> None:
    made = plain_file(tmp_path / "a.nc")
    ODD[what](made)
    if made.isopen():
        made.close()
    assert hdf5plain.read(str(tmp_path / "a.nc"), None) is None
    descriptor = os.open(tmp_path / "a.nc", os.O_RDONLY)
    with hdf5.open(Input("a.nc", descriptor, is_folder=False)).raw as opened:
        assert opened["t"].shape == (3, 4)
    os.close(descriptor)


def test_a_file_without_dimensions_is_left_to_h5netcdf(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = np.zeros((2, 3))
    assert hdf5plain.read(str(tmp_path / "a.h5"), None) is None


def test_every_real_file_is_what_h5netcdf_opens(realdata: Path) -> None:
    plain = 0
    for path in sorted(realdata.glob("*.nc")):
        descriptor = os.open(path, os.O_RDONLY)
        is_ours = is_hdf5(descriptor)
        os.close(descriptor)
        if not is_ours or (ours := hdf5plain.read(str(path), None)) is None:
            continue
        plain += 1
        with ours, by_h5netcdf(path) as theirs:
            same(ours, theirs)
    assert plain > 10
