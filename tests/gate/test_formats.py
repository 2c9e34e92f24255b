"""What the module of every format promises, and that a source is of one format or of none."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources import formats
from cubeport.adapters.sources.formats import FORMATS, Format, format_of


def made(folder: Path, name: str) -> Path:
    """Make a small cube in the format *name*."""
    path = folder / name
    cube = xr.Dataset({"t": (("y", "x"), np.arange(6.0).reshape(2, 3))}, {"y": [10.0, 20.0], "x": [1.0, 2.0, 3.0]})
    match name:
        case "zarr":
            cube.to_zarr(path, zarr_format=3, consolidated=False)
        case "netcdf3":
            cube.to_netcdf(path, format="NETCDF3_CLASSIC")
        case "hdf5":
            cube.to_netcdf(path, engine="h5netcdf")
        case _:
            pytest.fail(f"say how a file of format {name!r} is made")
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_everything_that_the_gate_asks_for(name: str) -> None:
    form = FORMATS[name]
    assert isinstance(form.EXTRA, str)
    for each in ("matches", "scan", "verify", "open", "contents"):
        promised = list(inspect.signature(getattr(Format, each)).parameters.values())[1:]
        found = list(inspect.signature(getattr(form, each)).parameters.values())
        assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in promised], each


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "grib"])  # test_grib.py: in a process of its own
def test_a_source_is_of_one_format_and_reads_as_what_it_is(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        source = Input(path.name, descriptor, path.is_dir())
        assert [key for key, form in FORMATS.items() if form.matches(source)] == [name]
        form = format_of(source)
        assert form is FORMATS[name]
        assert formats.scan(source, SourceLimits()).declared_bytes >= 6 * 8
        opened = form.open(source)
        assert opened.raw["t"].values.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        (root,) = form.contents(path)
        assert root.variables["t"]["shape"] == [2, 3]
        opened.close()
    finally:
        os.close(descriptor)


def test_groups_are_those_with_variables(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 2)
        file.createGroup("empty")
        file.createGroup("some/inner").createVariable("t", "f4", ("x",))
    assert [group.path for group in FORMATS["hdf5"].contents(path) if group.variables] == ["some/inner"]
