"""The command line's own files: what the flags say of them reaches the faces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

from .conftest import here


def test_a_group_and_a_file_of_template_fields(tmp_path: Path) -> None:
    times = xr.DataArray(np.arange(3), dims="time", attrs={"units": "days since 2001-01-01", "standard_name": "time"})
    cube = xr.Dataset(
        {"t": (("time", "lat", "lon"), np.arange(24.0).reshape(3, 2, 4), {"units": "K"})},
        {
            "time": times,
            "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0, 2.0, 3.0], {"units": "degrees_east"}),
        },
    )
    cube.to_netcdf(tmp_path / "grouped.nc", group="model", engine="netcdf4")
    (tmp_path / "fields.yaml").write_text("title: From a file\nkeywords: [one, two]\nlicense: CC-BY-4.0\n")
    root = tmp_path / "instance"
    assert here("init", root).returncode == 0
    at_root = here("ingest", tmp_path / "grouped.nc", "--id", "grouped", "--instance", root, "--no-progress")
    assert (at_root.returncode, "choose one, for example --group model" in at_root.stderr) == (5, True), at_root.stderr
    made = here(
        "ingest", tmp_path / "grouped.nc", "--id", "grouped", "--group", "model", "--template", tmp_path / "fields.yaml",
        "--title", "From a flag", "--instance", root, "--no-progress", "--json",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert document["dataset"]["dataset_name"] == "From a flag"
    assert (document["dataset"]["license"], document["dataset"]["period_type"]) == ("CC-BY-4.0", "daily")
    store = next((root / "data" / "store" / "grouped").glob("*/cube.zarr"))
    np.testing.assert_array_equal(xr.open_zarr(store)["t"].values, cube["t"].values)


def test_groups_that_are_left_out_are_told(tmp_path: Path) -> None:
    axes = {"lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}), "lon": ("lon", [3.0, 4.0], {"units": "degrees_east"})}
    cube = xr.Dataset({"t": (("lat", "lon"), np.arange(4.0).reshape(2, 2))}, axes)
    cube.to_netcdf(tmp_path / "both.nc", engine="netcdf4")
    cube.to_netcdf(tmp_path / "both.nc", engine="netcdf4", group="other", mode="a")
    root = tmp_path / "instance"
    assert here("init", root).returncode == 0
    made = here("ingest", tmp_path / "both.nc", "--id", "both", "--instance", root, "--no-progress")
    assert made.returncode == 0, made.stderr
    assert "warning: both.nc: only the root is read; its groups other are skipped" in made.stderr
