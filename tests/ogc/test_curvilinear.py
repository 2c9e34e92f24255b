"""Curvilinear grids: with vertices, sheared, and with columns that come round again. Every door has the same cell of a place."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import shapely
import xarray as xr
from tests.families import LATITUDE, LONGITUDE

from cubeport.cubes.outlines import repeated


def of(lon: np.ndarray, lat: np.ndarray, corners: tuple[np.ndarray, np.ndarray] | None = None) -> xr.Dataset:
    """Return a grid whose values are the numbers of its cells, from 1 on."""
    values = 1.0 + np.arange(lon.size, dtype="f8").reshape(lon.shape)
    data = xr.Dataset({"v": (("j", "i"), values, {"units": "1", "coordinates": "lat lon"})})
    data = data.assign_coords(lon=(("j", "i"), lon, dict(LONGITUDE)), lat=(("j", "i"), lat, dict(LATITUDE)))
    for name, each in zip(("lon", "lat"), corners or (), strict=False):
        data[name].attrs["bounds"] = f"{name}_vertices"
        data[f"{name}_vertices"] = (("j", "i", "four"), each)
    return data


def sheared() -> xr.Dataset:
    i, j = np.meshgrid(np.arange(40.0), np.arange(30.0))
    return of(10 + 0.5 * i + 0.5 * j, 30 + 0.4 * j)


def with_vertices() -> xr.Dataset:
    """Cells whose centres are not in their middle: midpoints between them are far from the edges."""
    rng = np.random.default_rng(5)
    i, j = np.meshgrid(np.arange(13.0), np.arange(9.0))
    x, y = 5 * i + rng.uniform(-1, 1, i.shape), 40 - 5 * j + rng.uniform(-1, 1, i.shape)
    lon, lat = (np.stack([each[:-1, :-1], each[1:, :-1], each[1:, 1:], each[:-1, 1:]], axis=-1) for each in (x, y))
    part = rng.dirichlet([1, 1, 1, 1], lon.shape[:2])
    return of((part * lon).sum(-1), (part * lat).sum(-1), (lon, lat))


def coming_round() -> xr.Dataset:
    """As NEMO's global grids: the first two columns are the last two again, and the edges of the grid were not computed."""
    i, j = np.meshgrid(np.arange(38.0), np.arange(16.0))
    data = of((10 * i + 74.0 + 180) % 360 - 180, -75 + 10 * j)
    data["v"][:, [0, -1]] = np.nan
    data["v"][-1] = np.nan
    return data


GRIDS = {"sheared": sheared, "vertices": with_vertices, "round": coming_round}


@pytest.fixture(scope="module")
def kept(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder, done = tmp_path_factory.mktemp("curvilinear"), {}

    def put(name: str) -> str:
        if name not in done:
            GRIDS[name]().to_netcdf(folder / f"{name}.nc")
            done[name] = shelf.keep(f"curvilinear-{name}", folder / f"{name}.nc")
        return str(done[name].dataset_id)

    return put


def at_position(client: httpx.Client, name: str, lon: float, lat: float) -> float | None:
    answer = client.get(f"/ogcapi/collections/{name}/position", params={"coords": f"POINT({lon} {lat})"})
    if answer.status_code == 404:
        return None
    [value] = answer.json()["ranges"]["v"]["values"]
    return None if value is None else float(value)


def on_the_map(client: httpx.Client, name: str, lon: float, lat: float) -> float | None:
    asked = {
        "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetFeatureInfo", "LAYERS": "v", "QUERY_LAYERS": "v", "STYLES": "",
        "WIDTH": "9", "HEIGHT": "9", "I": "4", "J": "4", "INFO_FORMAT": "application/json", "CRS": "CRS:84",
        "BBOX": f"{lon - 0.01},{lat - 0.01},{lon + 0.01},{lat + 0.01}",
    }  # fmt: skip
    value = client.get(f"/wms/{name}", params=asked).json()["features"][0]["properties"]["value"]
    return None if value is None else float(value)


@pytest.mark.parametrize("name", ["sheared", "vertices"])
def test_a_place_has_the_cell_that_contains_it(client: httpx.Client, kept: Any, name: str) -> None:
    """Its nearest centre can be that of a neighbour."""
    data, known = GRIDS[name](), kept(name)
    nearest = 0
    for at in np.random.default_rng(1).choice(data.v.size, 25, replace=False):
        j, i = np.unravel_index(at, data.v.shape)
        if name == "vertices":
            ring = np.column_stack([data.lon_vertices[j, i], data.lat_vertices[j, i]])
        else:
            lon, lat = (float(data[each][j, i]) for each in ("lon", "lat"))
            ring = np.array([(lon + 0.25 * (a + b), lat + 0.2 * b) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        inner = ring.mean(axis=0) + 0.9 * (ring[int(at) % 4] - ring.mean(axis=0))  # near a corner
        assert shapely.Polygon(ring).contains(shapely.Point(inner))
        x, y = inner.round(4).tolist()
        value = float(data.v[j, i])
        assert at_position(client, known, x, y) == on_the_map(client, known, x, y) == value, (j, i)
        far = np.hypot((data.lon.values - x) * np.cos(np.radians(y)), data.lat.values - y)
        nearest += int(np.unravel_index(far.argmin(), far.shape) == (j, i))
    assert nearest < 22  # the test would be of no use otherwise


def test_beyond_the_vertices_are_no_data(client: httpx.Client, kept: Any) -> None:
    data, known = with_vertices(), kept("vertices")
    whole = shapely.union_all([shapely.Polygon(np.column_stack(each)) for each in zip(
        data.lon_vertices.values.reshape(-1, 4), data.lat_vertices.values.reshape(-1, 4), strict=True)])  # fmt: skip
    for x, y in ((-2.0, 20.0), (62.0, 20.0), (30.0, 42.5), (30.0, -2.5)):
        assert not whole.contains(shapely.Point(x, y))
        assert at_position(client, known, x, y) is on_the_map(client, known, x, y) is None


@pytest.mark.parametrize("lon", [64.0, 65.1, 68.9, 73.9, 74.0, 76.0, 78.9, 79.1, 84.0, 88.9, 250.0])
def test_of_columns_that_come_round_again_none_hides_the_values(client: httpx.Client, kept: Any, lon: float) -> None:
    data, known = coming_round(), kept("round")
    far = np.round(np.abs((data.lon.values - lon + 180) % 360 - 180), 6)
    j, inner = 7, data.v.isel(i=slice(1, -1))
    value = float(inner[j, int(far[j, 1:-1].argmin())])
    assert at_position(client, known, lon, -5.5) == on_the_map(client, known, lon, -5.5) == value
    line = client.get(f"/ogcapi/collections/{known}/trajectory", params={"coords": f"LINESTRING({lon} -5.5,{lon + 0.01} -5.5)"})
    assert line.json()["ranges"]["v"]["values"] == [value]


@pytest.mark.parametrize(
    ("query", "box"),
    [
        ("coverage?bbox=-180,-90,180,90", (-180, 180)),
        ("coverage?bbox=60,-90,90,90", (60, 90)),
        ("area?coords=POLYGON((60 -89,90 -89,90 89,60 89,60 -89))", (60, 90)),
        ("cube?bbox=60,-90,90,90", (60, 90)),
    ],
)
def test_a_place_of_a_box_comes_once(client: httpx.Client, kept: Any, query: str, box: tuple[int, int]) -> None:
    """The two columns that come round again are the last two, or are not there."""
    rows = list(csv.DictReader(client.get(f"/ogcapi/collections/{kept('round')}/{query}&f=csv").text.splitlines()))
    inner = coming_round().isel(i=slice(1, -1))
    wanted = inner.v.values[(inner.lon.values >= box[0]) & (inner.lon.values <= box[1])]
    found = [float(each["v"] or "nan") for each in rows]
    assert np.array_equal(np.sort(found), np.sort(wanted), equal_nan=True)


def test_cells_at_one_place_count_once() -> None:
    data = coming_round()
    again = repeated(data.lon.values, data.lat.values)
    assert np.flatnonzero(again.all(axis=0)).tolist() == [0, 37]
    assert again.sum() == 2 * data.lon.shape[0]
    single = repeated(data.lon.values.astype("f4") + np.float32(360), data.lat.values.astype("f4"))
    assert np.array_equal(again, single)
