"""Grids of the whole world whose last column comes round again: 0…360 or −180…180, both ends included.

The two have different values here, so an answer shows which of them it has. Each door has the first as stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pyproj
import pytest
import xarray as xr
from tests.families import LATITUDE, LONGITUDE

from cubeport.cubes.cells import cells
from cubeport.cubes.cutout import window_indexers
from cubeport.cubes.tables.amounts import moved
from cubeport.cubes.tables.weights import StraightGrid
from cubeport.cubes.write_request import SourceWindow

HALF = 20037508.342789244

LAT = np.arange(-60.0, 61, 15)


def of(lon: np.ndarray, lat: np.ndarray = LAT, edges: np.ndarray | None = None) -> xr.Dataset:
    """Return a grid whose values are the numbers of its cells, from 1 on."""
    values = 1.0 + np.arange(lat.size * lon.size, dtype="f4").reshape(lat.size, lon.size)
    data = xr.Dataset({"v": (("lat", "lon"), values, {"units": "1"})})
    data = data.assign_coords(lon=("lon", lon, dict(LONGITUDE)), lat=("lat", lat, LATITUDE))
    if edges is not None:
        data.lon.attrs["bounds"] = "lon_bounds"
        data["lon_bounds"] = (("lon", "two"), np.column_stack([edges[:-1], edges[1:]]))
    return data


def halves(lon: np.ndarray) -> np.ndarray:
    """Return edges that end at the labels of both ends."""
    return np.concatenate([lon[:1], (lon[1:] + lon[:-1]) / 2, lon[-1:]])


GRIDS = {
    "both-180": of(np.arange(-180.0, 181, 10)),
    "both-0-360": of(np.arange(0.0, 361, 10)),
    "north-first": of(np.arange(-180.0, 181, 10), LAT[::-1]),
    "westwards": of(np.arange(180.0, -181, -10)),
    "single-precision": of(np.linspace(0, 359.99997, 37).astype("f4")),
    "half-cells": of(np.arange(0.0, 361, 10), edges=halves(np.arange(0.0, 361, 10))),
    "two-more": of(np.arange(-10.0, 361, 10)),
    "none": of(np.arange(-180.0, 180, 10)),
}
PLACES = [-180.0, -179.9, -177.0, 176.0, 179.9, 180.0, -0.1, 0.0, 0.1, 4.0, -4.0, 90.0]


METRES = {
    "plain": (4087, "none"),
    "equidistant": (4087, "both-180"),
    "equidistant-two-more": (4087, "two-more"),
    "mercator-westwards": (3395, "westwards"),
    "equal-area-0-360": (6933, "both-0-360"),
}
"""Grids in metres of cylindrical projections, with the cells of others."""


def in_metres(epsg: int, name: str) -> xr.Dataset:
    data, onto = GRIDS[name], pyproj.Transformer.from_crs("OGC:CRS84", epsg, always_xy=True)
    found = xr.Dataset({"v": (("y", "x"), data.v.values, {"units": "1", "grid_mapping": "crs"})})
    found["crs"] = xr.DataArray(0, attrs=pyproj.CRS.from_epsg(epsg).to_cf())
    _, y = onto.transform(np.zeros(data.lat.size), data.lat.values)
    return found.assign_coords(
        x=("x", data.lon.values * onto.transform(1, 0)[0], {"standard_name": "projection_x_coordinate", "units": "m"}),
        y=("y", np.round(y, 6), {"standard_name": "projection_y_coordinate", "units": "m"}),
    )


@pytest.fixture(scope="module")
def kept(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder, done = tmp_path_factory.mktemp("repeated"), {}

    def put(name: str) -> str:
        if name not in done:
            (in_metres(*METRES[name]) if name in METRES else GRIDS[name]).to_netcdf(folder / f"{name}.nc")
            done[name] = shelf.keep(f"repeated-{name}", folder / f"{name}.nc")
        return str(done[name].dataset_id)

    return put


def wanted(name: str, lon: float, lat: float) -> float:
    """Return the value of the first column, as stored, whose centre is nearest to the place."""
    data = GRIDS[METRES[name][1] if name in METRES else name]
    far = np.round(np.abs((data.lon.values.astype("f8") - lon + 180) % 360 - 180), 3)
    return float(data.v.isel(lon=int(far.argmin())).sel(lat=lat, method="nearest"))


def numbers(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [each for each in answer.json()["ranges"]["v"]["values"] if each is not None]


def metres(lon: float, lat: float) -> tuple[float, float]:
    return lon / 180 * HALF, float(np.degrees(np.log(np.tan(np.radians(45 + lat / 2))))) / 180 * HALF


@pytest.mark.parametrize("lon", PLACES)
@pytest.mark.parametrize("name", [*GRIDS, *list(METRES)[1:]])
def test_each_door_has_the_first_column_of_a_place(client: httpx.Client, kept: Any, name: str, lon: float) -> None:
    lat = 1.0
    base, value = f"/ogcapi/collections/{kept(name)}", wanted(name, lon, lat)
    assert numbers(client.get(f"{base}/position", params={"coords": f"POINT({lon} {lat})"})) == [value], "position"
    box = f"{lon - 0.05},{lat},{lon + 0.05},{lat + 0.1}"
    for crs in ("CRS84", "EPSG:3857", "EPSG:4326", None):
        asked = {"bbox": box} | ({} if crs is None else {"crs": crs})
        assert {*numbers(client.get(f"{base}/coverage", params=asked))} == {value}, crs
    # The same box in metres, also past ±180.
    west_south, east_north = metres(lon - 0.05, lat), metres(lon + 0.05, lat + 0.1)
    flat = ",".join(f"{each:.3f}" for each in (*west_south, *east_north))
    for crs in ("CRS84", "EPSG:3857"):
        asked = {"bbox": flat, "bbox-crs": "EPSG:3857", "crs": crs}
        assert {*numbers(client.get(f"{base}/coverage", params=asked))} == {value}, ("metres", crs)
    picture = {
        "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetFeatureInfo", "LAYERS": "v", "QUERY_LAYERS": "v", "STYLES": "",
        "WIDTH": "3", "HEIGHT": "3", "I": "1", "J": "1", "INFO_FORMAT": "application/json",
    }  # fmt: skip
    for crs, frame in (("CRS:84", box), ("EPSG:3857", flat)):
        info = client.get(f"/wms/{kept(name)}", params={**picture, "CRS": crs, "BBOX": frame})
        assert info.status_code == 200, info.text
        assert f'"value": {value}' in info.text, (crs, info.text)


@pytest.mark.parametrize("box", [(175.0, 0.0, -175.0, 8.0), (150.0, 0.0, -100.0, 40.0), (-20.0, 0.0, 20.0, 8.0)])
@pytest.mark.parametrize("name", GRIDS)
def test_a_box_over_the_seam_has_each_place_once(
    client: httpx.Client, kept: Any, name: str, box: tuple[float, float, float, float]
) -> None:
    base, (west, _, east, _) = f"/ogcapi/collections/{kept(name)}", box
    answer = client.get(f"{base}/coverage", params={"bbox": ",".join(map(str, box))})
    assert answer.status_code == 200, answer.text
    axes = answer.json()["domain"]["axes"]
    x, y = (
        np.array(each.get("values") or np.linspace(each["start"], each["stop"], each["num"])) for each in (axes["x"], axes["y"])
    )
    assert np.allclose(np.abs(np.diff(x)), 10, atol=1e-4)
    assert numbers(answer) == [wanted(name, lon, lat) for lat in y for lon in x]
    for crs in ("EPSG:4326", "EPSG:3857"):
        drawn = client.get(f"{base}/coverage", params={"bbox": ",".join(map(str, box)), "crs": crs})
        ranges = drawn.json()["ranges"]["v"]
        assert None not in ranges["values"], crs
        assert {*ranges["values"]} <= {*numbers(answer)}
    ends = west + 0.01, east + (360 if east < west else 0) - 0.01  # on an edge, it would be in the cells on both sides
    line = numbers(client.get(f"{base}/trajectory", params={"coords": f"LINESTRING({ends[0]} 1,{ends[1]} 1)"}))
    assert len(line) == len({*line})
    assert {*line} == {wanted(name, lon, 1.0) for lon in x}


@pytest.mark.parametrize("box", [(175.0, 0.0, -175.0, 8.0), (150.0, 0.0, -100.0, 40.0), (-20.0, 0.0, 20.0, 8.0)])
@pytest.mark.parametrize("name", METRES)
def test_in_metres_a_box_over_the_seam_has_each_place_once(
    client: httpx.Client, kept: Any, name: str, box: tuple[float, float, float, float]
) -> None:
    base, (west, south, east, north) = f"/ogcapi/collections/{kept(name)}", box
    around = {"bbox": ",".join(map(str, box))}
    width, lats = (east - west) % 360, [lat for lat in LAT if lat - 7.3 < north and lat + 7.3 > south]
    lons = [lon for lon in np.arange(-180, 180, 10) if (lon + 5 - west - 1e-6) % 360 < width + 10 - 2e-6]
    places = sorted(wanted(name, lon, lat) for lon in lons for lat in lats)
    for path in ("coverage", "cube"):
        assert sorted(numbers(client.get(f"{base}/{path}", params=around))) == places, path
    left, right = west - 0.01, west + width + 0.01  # a centre that was in metres is not exactly on an edge
    ring = f"POLYGON(({left} {south},{right} {south},{right} {north},{left} {north},{left} {south}))"
    centred = sorted(
        wanted(name, lon, lat) for lon in lons for lat in lats if (lon - west) % 360 <= width and south <= lat <= north
    )
    assert sorted(numbers(client.get(f"{base}/area", params={"coords": ring}))) == centred
    line = numbers(client.get(f"{base}/trajectory", params={"coords": f"LINESTRING({west + 0.01} 1,{west + width - 0.01} 1)"}))
    assert sorted(line) == sorted(wanted(name, lon, 1.0) for lon in lons)


@pytest.mark.parametrize(
    ("name", "degrees"), [("equidistant", "both-180"), ("equidistant-two-more", "two-more"), ("plain", "none")]
)
def test_tables_in_metres_are_those_in_degrees(client: httpx.Client, kept: Any, name: str, degrees: str) -> None:
    """A zone over the seam of the projection had the mean of the rest of the world, and the whole world that of few cells."""

    def means(dataset: str) -> list[float]:
        rings = [[[west, -20], [east, -20], [east, 20], [west, 20], [west, -20]] for west, east in ZONES]
        zones = [
            {"type": "Feature", "id": str(at), "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
            for at, ring in enumerate(rings)
        ]
        body = {"type": "FeatureCollection", "features": zones}
        answer = client.post(f"/datasets/{dataset}/table", params={"f": "csv"}, json=body)
        assert answer.status_code == 200, answer.text
        return [float(row.split(",")[5]) for row in answer.text.splitlines()[1:]]

    # The rows are as high as each other on both sides of the equator, so that areas weigh the same.
    assert means(kept(name)) == pytest.approx(means(kept(degrees)))


ZONES = [(10, 50), (165, 195), (-40, 30), (-180, 180), (170, 180)]


@pytest.mark.parametrize("clip", ["touch", "centre"])
@pytest.mark.parametrize(("west", "east"), [(0.0, 180.0), (-180.0, 0.0)])
def test_an_ingestion_takes_either_half_of_the_world(west: float, east: float, clip: Any) -> None:
    """It was refused as lying over the seam, because a column at the other end is at the same place."""
    raw = GRIDS["both-180"]
    taken = raw.isel(window_indexers(raw, SourceWindow(bbox=(west, -60.0, east, 60.0), clip=clip)))
    assert {*np.arange(west, east + 1, 10)} == {*taken.lon.values.tolist()}


@pytest.mark.parametrize("name", ["both-180", "westwards", "half-cells", "two-more"])
def test_amounts_of_a_repeated_column_count_once(name: str) -> None:
    """Such as people: those of the last column were counted beside those of the first, and beside the next turn of the grid."""

    def grid(data: xr.Dataset) -> StraightGrid:
        edges = data.lon_bounds.values if "lon_bounds" in data else None
        x, y = cells(data.lon.values, edges, spread=True, circle=True), cells(data.lat.values, None, spread=True, latitude=True)
        return StraightGrid(x, y, spherical=True)

    data, to = GRIDS[name], of(np.arange(-175.0, 180, 10))
    once = data.v.where(~(np.round(data.lon % 360, 3).to_series().duplicated().to_xarray()), 0.0)
    moved_to = moved(data.v.values.astype("f8"), grid(data), grid(to))
    assert moved_to.sum() == pytest.approx(float(once.sum()))
    # Each of these cells has half of the two whose centres are its edges.
    for at, lon in enumerate(to.lon.values):
        west, east = (
            once.values[:, int(np.abs((data.lon.values - place + 180) % 360 - 180).argmin())] for place in (lon - 5, lon + 5)
        )
        assert np.allclose(moved_to[:, at], (west + east) / 2)
