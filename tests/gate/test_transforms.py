"""The transform of a plugin runs in the confined child, which imports it by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.sandbox.children import Children
from cubeport.cubes.write_request import WriteRequest


def test_a_function_of_a_plugin_changes_what_is_written(children: Children, tmp_path: Path) -> None:
    values = np.array([[1.0, 20.0], [np.nan, 5.0]], "float32")
    xr.Dataset(
        {"t": (("lat", "lon"), values, {"units": "K"})},
        coords={
            "lat": ("lat", [50.0, 51.0], {"units": "degrees_north"}),
            "lon": ("lon", [3.0, 4.0], {"units": "degrees_east"}),
        },
    ).to_netcdf(tmp_path / "t.nc")
    (tmp_path / "new").mkdir()
    step = {"plugin": {"name": "above", "variables": ["t"], "params": {"base": 5.0}, "units": "K d"}}
    order = WriteRequest(
        sources=(tmp_path / "t.nc",), target=tmp_path / "new", transforms=(step,), functions={"above": "gate_transforms:above"}
    )
    ConfinedGate(children).write(order)
    with xr.open_zarr(tmp_path / "new/cube.zarr", consolidated=False) as written:
        np.testing.assert_array_equal(written.t.values, np.array([[0, 15], [np.nan, 0]], "float32"))
        assert written.t.attrs["units"] == "K d"
