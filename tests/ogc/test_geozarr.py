"""The GeoZarr view over a real socket: its attributes fit the schemas of the conventions, and place every cell where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyproj
import pytest
import xarray as xr
from jsonschema import Draft7Validator
from tests.families import FAMILIES, positions

AFFINE = ["regular", "south-up", "from-0-to-360", "over-the-dateline", "packed", "members", "projected", "rotated-pole"]


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder = tmp_path_factory.mktemp("geozarr")

    def write(name: str) -> Any:
        path = folder / f"{name}.nc"
        if not path.exists():
            FAMILIES[name].make().to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def document(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(f"/geozarr/{path}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def cells(attributes: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of every cell's centre, from the attributes alone, as a client computes them."""
    (height, width), (a, b, c, d, e, f) = attributes["spatial:shape"], attributes["spatial:transform"]
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = a * column + b * row + c, d * column + e * row + f
    west, south, east, north = attributes["spatial:bbox"]
    assert west < x.min() < x.max() < east
    assert south < y.min() < y.max() < north
    crs = pyproj.CRS.from_user_input(attributes.get("proj:code") or attributes["proj:wkt2"])
    lon, lat = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(x, y)
    return np.ravel(lon), np.ravel(lat)


@pytest.mark.parametrize("name", AFFINE)
def test_the_attributes_place_every_cell_where_it_is(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    root = document(client, f"{cube.dataset_id}/zarr.json")
    array = document(client, f"{cube.dataset_id}/t/zarr.json")
    assert root["consolidated_metadata"]["metadata"]["t"] == array
    names = array["dimension_names"]
    for attributes in (root["attributes"], array["attributes"]):
        lon, lat = cells(attributes)
        truth_lon, truth_lat = positions(FAMILIES[name])
        np.testing.assert_allclose((lon - truth_lon + 180) % 360 - 180, 0, atol=1e-6)
        np.testing.assert_allclose(lat, truth_lat, atol=1e-6)
        assert [array["shape"][names.index(each)] for each in attributes["spatial:dimensions"]] == attributes["spatial:shape"]
    assert "zarr_conventions" not in root["consolidated_metadata"]["metadata"]["time" if "time" in root else names[0]]["attributes"]


@pytest.mark.parametrize("name", AFFINE)
def test_the_metadata_fit_the_schemas(client: httpx.Client, put: Any, schemas: Path, name: str) -> None:
    folder = schemas / "zarr-conventions"
    cube = put(name)
    framework = json.loads((folder / "zarr-conventions-v1.json").read_text())
    for path in ("zarr.json", "t/zarr.json"):
        found = document(client, f"{cube.dataset_id}/{path}")
        Draft7Validator(framework).validate(found)
        assert [each["name"] for each in found["attributes"]["zarr_conventions"]] == ["proj", "spatial"]
        for each in found["attributes"]["zarr_conventions"]:
            schema = json.loads((folder / f"{each['name']}-v0.1.json").read_text())
            if each["name"] == "proj":
                # The schema of PROJJSON is fetched by its address; proj:wkt2 says the same here.
                schema["$defs"]["projAttributes"]["properties"]["proj:projjson"] = {"type": "object"}
            Draft7Validator(schema).validate(found)


def test_chunks_and_values_are_those_of_zarr(client: httpx.Client, put: Any) -> None:
    cube = put("packed")
    base = str(client.base_url).rstrip("/")
    with (
        xr.open_dataset(f"{base}/geozarr/{cube.dataset_id}", engine="zarr", zarr_format=3, chunks=None) as found,
        xr.open_dataset(cube.source) as truth,
    ):
        xr.testing.assert_equal(found.load(), truth.load())
    plain, same = (client.get(f"/{face}/{cube.dataset_id}/t/c/0/0/0") for face in ("zarr", "geozarr"))
    assert plain.content == same.content
    assert plain.headers["etag"] == same.headers["etag"]
    assert client.get(f"/geozarr/{cube.dataset_id}/t/c/0/0/0", headers={"Range": "bytes=-3"}).content == plain.content[-3:]
    for path in ("t/c/9/9/9", "u/zarr.json", "t", "%2e%2e/zarr.json"):
        assert client.get(f"/geozarr/{cube.dataset_id}/{path}").status_code == 404


def test_the_sealed_store_has_none_of_it(client: httpx.Client, put: Any, tmp_path: Path) -> None:
    cube = put("south-up")
    assert "zarr_conventions" not in client.get(f"/zarr/{cube.dataset_id}/zarr.json").text
    with xr.open_dataset(f"{str(client.base_url).rstrip('/')}/zarr/{cube.dataset_id}", engine="zarr", chunks=None) as found:
        found.to_netcdf(tmp_path / "copy.nc")


@pytest.mark.parametrize("name", ["curvilinear", "unstructured"])
def test_a_grid_without_axes_has_no_view(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    answer = client.get(f"/geozarr/{cube.dataset_id}/zarr.json")
    assert answer.status_code == 404
    assert cube.description.spatial.family in answer.json()["detail"]
    assert "geozarr" not in client.get(f"/stac/collections/{cube.dataset_id}").json()["assets"]


def test_an_uneven_grid_has_its_reference_system_alone(client: httpx.Client, stored: Any, tmp_path: Path) -> None:
    data = (
        FAMILIES["regular"].make().assign_coords(lat=("lat", [80.0, 50, 15, -10, -40, -75], FAMILIES["regular"].make().lat.attrs))
    )
    data.to_netcdf(tmp_path / "uneven.nc")
    cube = stored(str(tmp_path / "uneven.nc"))
    attributes = document(client, f"{cube.dataset_id}/t/zarr.json")["attributes"]
    assert attributes["proj:code"] == "EPSG:4326"
    assert not [each for each in attributes if each.startswith("spatial:")]
    assert [each["name"] for each in attributes["zarr_conventions"]] == ["proj"]


def test_stac_has_the_asset(client: httpx.Client, put: Any) -> None:
    cube = put("regular")
    asset = client.get(f"/stac/collections/{cube.dataset_id}").json()["assets"]["geozarr"]
    assert asset["type"] == "application/vnd.zarr"
    assert asset["roles"] == ["data", "visual"]
    assert client.get(f"{asset['href']}/zarr.json").json()["attributes"]["spatial:shape"] == [6, 8]
