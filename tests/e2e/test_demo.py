"""The README's first command, as a newcomer would run it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pystac_client
import pytest
import xarray as xr

from .conftest import CUBEPORT, cli

iris_sample_data = pytest.importorskip("iris_sample_data", reason="the demonstration's data need the extra cubeport[demo]")


def test_the_demonstration_lands_real_data_serves_them_and_changes_nothing_again(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    process = subprocess.Popen(
        [*CUBEPORT, "demo", str(root), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].rstrip("/")
        printed = [process.stdout.readline() for _ in range(21)]
        assert sum("Open Government Licence v3.0" in line for line in printed) == 4
        catalog = pystac_client.Client.open(f"{url}/stac")
        ids = sorted(each.id for each in catalog.get_collections())
        assert ids == ["a1b-temperature", "a1b-temperature_great-lakes", "ostia-sst", "toa-brightness"]
        assert all(any(f"{url}/zarr/{each}" in line for line in printed) for each in ids)
        for dataset_id, file, field in (
            ("a1b-temperature", "A1B_north_america.nc", "air_temperature"),
            ("ostia-sst", "ostia_monthly.nc", "surface_temperature"),
            ("toa-brightness", "toa_brightness_stereographic.nc", "data"),
        ):
            zarr = catalog.get_collection(dataset_id).assets["zarr"]
            served = xr.open_dataset(zarr.href, **zarr.extra_fields["xarray:open_kwargs"])
            with xr.open_dataset(Path(iris_sample_data.path) / file) as source:
                np.testing.assert_array_equal(served[field].values, source[field].values)
                for coordinate in source[field].dims:
                    np.testing.assert_array_equal(served[coordinate].values, source[coordinate].values)
    finally:
        process.terminate()
        _, told = process.communicate(timeout=60)
    assert "4 datasets were made" in told
    again = cli("demo", root, "--no-serve")
    assert again.returncode == 0, again.stderr
    assert "Nothing changed" in again.stderr
