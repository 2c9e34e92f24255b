"""A part as Zarr in a zip file, as zarr-python and xarray open it: equal to the source, and to the NetCDF of the same part."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
import zarr
from tests.families import FAMILIES


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder = tmp_path_factory.mktemp("zipped")

    def write(name: str) -> Any:
        path = folder / f"zip-{name}.nc"
        if not path.exists():
            FAMILIES[name].make().to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def opened(answer: httpx.Response, folder: Path, **options: Any) -> xr.Dataset:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    path = folder / "part.zarr.zip"
    path.write_bytes(answer.content)
    with zarr.storage.ZipStore(path, mode="r") as store, xr.open_zarr(store, consolidated=True, chunks=None, **options) as found:
        return found.load()


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith(("zarr", "classic"))])
def test_a_whole_download_is_the_source(client: httpx.Client, put: Any, name: str, tmp_path: Path) -> None:
    cube = put(name)
    answer = client.get(f"/datasets/{cube.dataset_id}/download", params={"format": "zarr"})
    assert answer.headers["content-disposition"].endswith('.zarr.zip"')
    found = opened(answer, tmp_path)
    with xr.open_dataset(cube.source, engine="netcdf4") as truth:
        xr.testing.assert_equal(found.reset_coords(drop=True), truth.reset_coords(drop=True))
        assert set(found.variables) == set(truth.variables)
        for each in truth.variables:
            assert found[each].attrs.keys() == truth[each].attrs.keys()


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("from-0-to-360", {"bbox": "-100,-60,100,60", "datetime": "2020-01-02"}),
        ("packed", {"datetime": "2020-01-01/2020-01-02"}),
        ("curvilinear", {"bbox": "12,41,18,47"}),
        ("projected", {"crs": "EPSG:4326", "datetime": "2020-01-01"}),
    ],
)
def test_a_part_has_the_values_of_its_netcdf(
    client: httpx.Client, put: Any, name: str, query: dict[str, str], tmp_path: Path
) -> None:
    cube = put(name)
    address = f"/ogcapi/collections/{cube.dataset_id}/coverage"
    found = opened(client.get(address, params={**query, "f": "zarr"}), tmp_path)
    other = client.get(address, params={**query, "f": "netcdf"})
    with xr.open_dataset(io.BytesIO(other.content), engine="h5netcdf") as truth:
        assert np.array_equal(found["t"].values.ravel(), truth["t"].values.ravel(), equal_nan=True)
        for each in set(found.coords) & set(truth.coords):
            if found[each].dtype.kind in "fiM":
                assert np.array_equal(np.ravel(found[each].values), np.ravel(truth[each].values), equal_nan=True), each


def test_the_same_part_is_the_same_bytes_and_not_compressed_twice(client: httpx.Client, put: Any) -> None:
    address = f"/ogcapi/collections/{put('regular').dataset_id}/coverage"
    one, two = (client.get(address, params={"f": "zarr"}, headers={"Cache-Control": "no-store"}).content for _ in range(2))
    assert one == two
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert archive.testzip() is None
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}
        assert "zarr.json" in archive.namelist()
