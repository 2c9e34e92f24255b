"""Clients that we did not write read the right numbers over a real socket, on every face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pystac_client
import pytest
import xarray as xr

from .conftest import FILES, Server

pytestmark = [
    # What xarray and the clients say of odd source files is theirs; what we serve is compared with it.
    pytest.mark.filterwarnings("ignore"),
]


RAW = {"mask_and_scale": False, "decode_times": False}


def source(realdata: Path, dataset_id: str, **options: Any) -> xr.Dataset:
    paths = [realdata / name for name in FILES[dataset_id]]
    if paths[0].suffix == ".zarr":
        return xr.open_dataset(paths[0], engine="zarr", consolidated=False, **options)
    opened = [xr.open_dataset(path, **options) for path in paths]
    return opened[0] if len(opened) == 1 else xr.concat(opened, dim="time", data_vars="minimal")


def assert_equal(served: xr.Dataset, wanted: xr.Dataset) -> None:
    """Every variable of *wanted* is in *served* with the same dimensions and values, missing where missing."""
    assert set(map(str, wanted.variables)) <= set(map(str, served.variables))
    for name in wanted.variables:
        a, b = served[name], wanted[name]
        assert a.dims == b.dims, name
        if b.dtype.kind in "OSUT":
            assert texts(a.values) == texts(b.values), name
        elif "scale_factor" in b.encoding or "add_offset" in b.encoding:
            # JSON has no float32, so xarray unpacks to float64 where the source's float32 factors gave float32.
            largest = float(np.nanmax(np.abs(b.values.astype(float)), initial=0)) + abs(float(b.encoding.get("add_offset", 0)))
            nearest = np.finfo(np.float32).eps * largest
            np.testing.assert_allclose(a.values, b.values, rtol=0, atol=nearest, err_msg=str(name))
        else:
            np.testing.assert_array_equal(a.values, b.values, err_msg=str(name))


def assert_same_bits(served: xr.Dataset, wanted: xr.Dataset) -> None:
    """Nothing was unpacked, converted or filled on the way: numbers are in the store as they are in the file."""
    for name in wanted.variables:
        a, b = served[name], wanted[name]
        if b.dtype.kind not in "OSUT":
            assert a.dtype == b.dtype.newbyteorder("="), name
            np.testing.assert_array_equal(a.values, b.values, err_msg=str(name))


def texts(values: np.ndarray) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in np.ravel(values).tolist()]


@pytest.fixture(scope="session")
def catalog(published: Server) -> pystac_client.Client:
    return pystac_client.Client.open(published.url + "/stac")


def test_at_least_twenty_kinds_of_files_went_in(published: Server) -> None:
    assert len(FILES) - len(published.refused) >= 20, published.refused
    assert published.refused == {}


@pytest.mark.parametrize("dataset_id", FILES)
def test_xarray_opens_what_the_stac_collection_points_to(
    published: Server, catalog: pystac_client.Client, realdata: Path, dataset_id: str
) -> None:
    if dataset_id in published.refused:
        pytest.fail(str(published.refused[dataset_id]))
    asset = catalog.get_collection(dataset_id).assets["zarr"]
    served = xr.open_dataset(asset.href, **asset.extra_fields["xarray:open_kwargs"])
    assert_equal(served, source(realdata, dataset_id))
    raw = xr.open_dataset(asset.href, **asset.extra_fields["xarray:open_kwargs"], **RAW)
    assert_same_bits(raw, source(realdata, dataset_id, **RAW))


def test_every_face_lists_the_same_datasets(published: Server, catalog: pystac_client.Client) -> None:
    wanted = sorted(set(FILES) - set(published.refused))
    assert sorted(each.id for each in catalog.get_collections()) == wanted
    assert sorted(each["dataset_id"] for each in published.json("/datasets", limit=1000)["items"]) == wanted
    assert sorted(each["id"] for each in published.json("/ogcapi/collections", limit=1000)["collections"]) == wanted
    for dataset_id in wanted:
        assert published.json(f"/zarr/{dataset_id}")["dataset_id"] == dataset_id


def window(axis: Any, values: np.ndarray) -> tuple[int, int]:
    """Return a range of labels away from the middle, such that a flip or a shift by one would show."""
    n = len(values)
    return (n // 5, max(n // 5 + 1, n // 2 - n // 10))


RECTILINEAR = ["co2", "coads", "hycom", "rlds", "rlds-zarr", "tasmax-365", "tasmax-360", "gebco", "pcp-yearly", "sst-zarr"]


@pytest.mark.parametrize("dataset_id", RECTILINEAR)
def test_a_coverage_by_bbox_alone_equals_the_source(published: Server, realdata: Path, dataset_id: str) -> None:
    wanted = source(realdata, dataset_id)
    described = published.json(f"/ogcapi/collections/{dataset_id}")
    field = next(iter(described["parameter_names"]))
    variable = wanted[field]
    x = next(d for d in variable.dims if str(d).lower().startswith(("lon", "coadsx")))
    y = next(d for d in variable.dims if str(d).lower().startswith(("lat", "coadsy")))
    i0, i1 = window(x, wanted[x].values)
    j0, j1 = window(y, wanted[y].values)
    xs, ys = wanted[x].values[i0:i1].astype(float), wanted[y].values[j0:j1].astype(float)
    dx = abs(float(wanted[x].values[1] - wanted[x].values[0])) / 4
    dy = abs(float(wanted[y].values[1] - wanted[y].values[0])) / 4
    west, east = (((v + 180) % 360) - 180 for v in (xs.min() - dx, xs.max() + dx))
    params = {"bbox": f"{west},{ys.min() - dy},{east},{ys.max() + dy}", "properties": field}
    if (
        "time" in {str(d).lower() for d in variable.dims}
        and variable.sizes[next(d for d in variable.dims if str(d).lower() == "time")] > 40
    ):
        params["datetime"] = str(published.json(f"/stac/collections/{dataset_id}")["extent"]["temporal"]["interval"][0][0])
        variable = variable.isel({next(d for d in variable.dims if str(d).lower() == "time"): slice(0, 1)})
    got = published.json(f"/ogcapi/collections/{dataset_id}/coverage", **params)
    coverage = got["coverages"][0] if got["type"] == "CoverageCollection" else got
    axes = coverage["domain"]["axes"]
    np.testing.assert_allclose(axes["y"]["values"], ys, rtol=1e-6)
    np.testing.assert_allclose(np.mod(axes["x"]["values"], 360), np.mod(xs, 360), rtol=1e-6)
    served = coverage["ranges"][field]
    expected = variable.isel({x: slice(i0, i1), y: slice(j0, j1)}).values
    values = np.array([np.nan if v is None else v for v in served["values"]], dtype=float)
    np.testing.assert_allclose(values, expected.astype(float).ravel(), rtol=1e-6)


@pytest.mark.parametrize("dataset_id", ["co2", "tasmax-360", "rotated", "hadgem2"])
def test_a_download_is_the_source_again(published: Server, realdata: Path, tmp_path: Path, dataset_id: str) -> None:
    response = published.get(f"/datasets/{dataset_id}/download")
    assert response.status_code == 200, response.text
    (tmp_path / "d.nc").write_bytes(response.content)
    assert_equal(xr.open_dataset(tmp_path / "d.nc"), source(realdata, dataset_id))
