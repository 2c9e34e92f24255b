"""Types that Zarr has and NetCDF has not: every value is the same in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr


@pytest.mark.filterwarnings("ignore:You are writing invalid netcdf features")
@pytest.mark.parametrize("dtype", ["float16", "bool"])
def test_netcdf_has_the_values_of_types_that_it_lacks(dtype: str, client: httpx.Client, stored: Any, tmp_path: Path) -> None:
    values = (np.arange(12).reshape(3, 4) % 3 / 3).astype(dtype)
    if dtype == "float16":
        values[1, 2] = np.nan
    cube = xr.Dataset({"a": (("lat", "lon"), values)}, {"lat": [1.0, 2, 3], "lon": [1.0, 2, 3, 4]})
    cube.lat.attrs["units"], cube.lon.attrs["units"] = "degrees_north", "degrees_east"
    cube.to_netcdf(tmp_path / f"{dtype}.nc", engine="h5netcdf", invalid_netcdf=True)
    identity = stored(str(tmp_path / f"{dtype}.nc")).dataset_id
    answer = client.get(f"/ogcapi/collections/{identity}/coverage", params={"f": "netcdf"})
    assert answer.status_code == 200, answer.text
    (tmp_path / "answer.nc").write_bytes(answer.content)
    with xr.open_dataset(tmp_path / "answer.nc", engine="netcdf4") as found:
        assert found.a.dtype == ("float32" if dtype == "float16" else "bool")
        np.testing.assert_array_equal(found.a.values, values)
