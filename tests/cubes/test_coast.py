"""The coast of maps that are zoomed in or polar: it passes the capes of the world, and nothing that is no coast is drawn."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest

from cubeport.cubes.description import Crs, Spatial
from cubeport.cubes.pictures import coast
from cubeport.cubes.pictures.places import CRS84, Canvas, transform
from cubeport.cubes.view import maps, pin, polar_frame

CAPES = {
    "Agulhas": (20.0, -34.83),
    "Nordkapp": (25.78, 71.17),
    "Gibraltar": (-5.35, 36.11),
    "Horn": (-67.29, -55.97),
    "East Cape": (178.55, -37.69),
    "Morris Jesup": (-32.5, 83.6),
}


def _distance(lines: list[np.ndarray], canvas: Canvas, x: float, y: float) -> float:
    """Return how far a point is from the nearest line, in pixels."""
    at = np.array([float(each) for each in canvas.pixels(np.array(x), np.array(y))])
    nearest = np.inf
    for line in lines:
        a, b = line[:-1].astype(float), line[1:].astype(float)
        along = np.clip(((at - a) * (b - a)).sum(axis=1) / np.maximum(((b - a) ** 2).sum(axis=1), 1e-9), 0, 1)
        nearest = min(nearest, float(np.hypot(*(a + along[:, None] * (b - a) - at).T).min()))
    return nearest


@pytest.mark.parametrize("name", CAPES)
@pytest.mark.parametrize("turn", [0, 360])
def test_it_passes_the_capes(name: str, turn: int) -> None:
    lon, lat = CAPES[name]
    lon += turn
    canvas = Canvas((lon - 10, lat - 5, lon + 10, min(90, lat + 5)), 1000, 500)  # a pixel is 0.02 degrees
    assert _distance(coast.lines(canvas), canvas, lon, lat) < 12


@pytest.mark.parametrize(("name", "crs"), [("Nordkapp", "EPSG:3995"), ("Morris Jesup", "EPSG:3995"), ("Horn", "EPSG:3031")])
def test_it_passes_the_capes_of_a_polar_map(name: str, crs: str) -> None:
    x, y = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(*CAPES[name])
    canvas = Canvas((-6e6, -6e6, 6e6, 6e6), 1200, 1200, crs)  # a pixel is 10 km
    found = coast.lines(canvas)
    assert _distance(found, canvas, x, y) < 3
    # Nothing of the other half of the world goes around it.
    assert max(float(np.hypot(*(line - 600).T).max()) for line in found) < 1200


@pytest.mark.parametrize(
    "box", [(179.0, 65.0, 181.0, 69.5), (-181.0, 65.0, -179.0, 69.5), (179, -85, 181, -84), (-180, -90, 180, -89)]
)
def test_the_edges_of_the_world_are_no_coast(box: tuple[float, float, float, float]) -> None:
    canvas = Canvas(box, 400, 800)
    for line in coast.lines(canvas):
        steps = np.abs(np.diff(line, axis=0))
        along = (steps[:, 0] <= 1) & (np.abs(line[:-1, 0] - 200) <= 1)
        assert steps[along, 1].max(initial=0) < 60, box
    assert canvas.bbox[3] > -89 or coast.lines(canvas) == []


def test_what_is_outside_is_left_out() -> None:
    canvas = Canvas((-30.0, 20.0, -25.0, 22.5), 1000, 500)  # of the Atlantic
    assert coast.lines(canvas) == []
    near = coast.lines(Canvas((0.0, 40.0, 20.0, 50.0), 1120, 560))
    assert 0 < sum(map(len, near)) < 3_000


GRID = Spatial(family="rectilinear", bbox=(-180, -90, 180, 90))
STEREOGRAPHIC = Crs(name="polar", wkt2=pyproj.CRS.from_epsg(3413).to_wkt("WKT2_2019"), geographic=False)


@pytest.mark.parametrize(
    ("spatial", "offered"),
    [
        (GRID, ("world", "north", "south")),
        (GRID.model_copy(update={"bbox": (0, 40, 30, 59)}), ("world",)),
        (GRID.model_copy(update={"bbox": (0, 40, 30, 61)}), ("world", "north")),
        (GRID.model_copy(update={"bbox": (0, -80, 30, 10)}), ("world", "south")),
        (GRID.model_copy(update={"family": "projected", "crs": STEREOGRAPHIC, "bbox": (-40, 30, 20, 58)}), ("north", "world")),
        (GRID.model_copy(update={"bbox": None}), ("world",)),
    ],
)
def test_polar_maps_are_offered_where_there_are_data(spatial: Spatial, offered: tuple[str, ...]) -> None:
    assert maps(spatial) == offered


@pytest.mark.parametrize("name", ["north", "south"])
@pytest.mark.parametrize("box", [(-180, -90, 180, 90), (10, 70, 40, 80), (170, 65, -170, 75), (-180, 75, 180, 90)])
def test_a_polar_map_begins_with_all_of_a_dataset_or_a_circle_around_the_pole(name: str, box: tuple[int, ...]) -> None:
    if name == "south":
        box = (box[0], -box[3], box[2], -box[1])
    x, y, width, height = polar_frame(box, name)  # type: ignore[arg-type]
    assert width == pytest.approx(2 * height, abs=2)
    west, south, east, north = box
    low = max(south, 50) if name == "north" else min(north, -50)
    for lon in np.linspace(west, east + (360 if east < west else 0), 7):
        for lat in (low, north if name == "north" else south):
            across, down = pin(f"{(lon + 540) % 360 - 180},{lat}", name)
            assert x <= across <= x + width
            assert y <= down <= y + height


def _is_land(canvas: Canvas, lon: float, lat: float) -> bool:
    """Return whether a place is inside an odd number of the rings."""
    x, y = transform(CRS84, canvas.crs)(np.array([lon]), np.array([lat]))
    [column], [row] = canvas.pixels(x, y)
    crossings = 0
    for ring in coast.land(canvas):
        ends = np.r_[ring[1:], ring[:1]]
        (x0, y0), (x1, y1) = ring.T.astype(float), ends.T.astype(float)
        over = (y0 <= row) != (y1 <= row)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings += int((over & (x0 + (row - y0) / (y1 - y0) * (x1 - x0) > column)).sum())
    return crossings % 2 == 1


@pytest.mark.parametrize(
    ("canvas", "land", "water"),
    [
        (Canvas((-10.0, 35.0, 20.0, 55.0), 1680, 1120), [(2.3, 48.9), (-4.0, 40.0), (9.0, 40.0)], [(-8.0, 47.0), (5.0, 42.0)]),
        (Canvas((44.0, 35.0, 60.0, 48.0), 1680, 1400), [(45.0, 40.0), (58.0, 40.0)], [(50.5, 42.0)]),  # the Caspian is a hole
        (Canvas((170.0, 60.0, 190.0, 72.0), 1680, 1008), [(175.0, 67.0), (182.0, 67.0)], [(179.0, 62.0), (189.0, 64.5)]),
        (Canvas((9.0, 49.0, 10.0, 50.0), 800, 800), [(9.1, 49.1), (9.9, 49.9)], []),  # no coast in sight
        (Canvas((-30.0, 30.0, -29.0, 31.0), 800, 800), [], [(-29.5, 30.5)]),
        (
            Canvas((-6e6, -6e6, 6e6, 6e6), 1200, 1200, "EPSG:3995"),
            [(-40.0, 75.0), (100.0, 65.0), (-100.0, 60.0), (178.0, 67.0), (-178.0, 67.0)],
            [(0.0, 89.9), (0.0, 75.0), (-30.0, 50.0), (-175.0, 50.0)],
        ),
        (
            Canvas((-6e6, -6e6, 6e6, 6e6), 1200, 1200, "EPSG:3031"),
            [(0.5, -89.0), (90.0, -75.0), (-178.0, -87.0), (178.0, -87.0)],
            [(0.0, -60.0), (180.0, -70.0)],
        ),
    ],
    ids=["europe", "caspian", "antimeridian", "inland", "at-sea", "north", "south"],
)
def test_land_is_filled_and_water_is_not(canvas: Canvas, land: list[tuple[float, float]], water: list[tuple[float, float]]) -> None:
    assert [_is_land(canvas, *place) for place in land] == [True] * len(land)
    assert [_is_land(canvas, *place) for place in water] == [False] * len(water)


def test_the_land_of_a_small_part_has_few_points() -> None:
    assert sum(map(len, coast.land(Canvas((9.0, 49.0, 10.0, 50.0), 800, 800)))) < 200
    assert sum(map(len, coast.land(Canvas((-10.0, 35.0, 20.0, 55.0), 1680, 1120)))) < 6000


def test_a_polar_map_has_parallels_and_meridians_where_they_are() -> None:
    canvas = Canvas((-3e6, -3e6, 3e6, 3e6), 1200, 1200, "EPSG:3995")
    x, y = transform(CRS84, canvas.crs)(np.array([0.0, 90.0, 180.0]), np.array([70.0, 80.0, 74.0]))
    for column, row in np.stack(canvas.pixels(x, y), axis=1):  # each on a line
        assert min(np.hypot(*(line - [column, row]).T).min() for line in coast.graticule(canvas)) < 12
    assert coast.graticule(Canvas((0.0, 0.0, 10.0, 10.0), 100, 100)) == []


@pytest.mark.parametrize(("crs", "sign", "letter"), [("EPSG:3995", 1, "N"), ("EPSG:3031", -1, "S")])
@pytest.mark.parametrize("box", [(-3e6, -3e6, 3e6, 3e6), (1e6, 1e6, 4e6, 3e6)])
def test_parallels_have_their_latitude_beside_them(box: tuple[float, ...], crs: str, sign: int, letter: str) -> None:
    canvas = Canvas(box, 1200, 800, crs)  # type: ignore[arg-type]
    labels = coast.parallels(canvas)
    assert len(labels) > 1
    for column, row, words in labels:
        x0, y0, x1, y1 = canvas.bbox
        x, y = x0 + column / canvas.width * (x1 - x0), y1 - row / canvas.height * (y1 - y0)
        _, lat = transform(canvas.crs, CRS84)(np.array([x]), np.array([y]))
        assert words == f"{round(abs(lat[0]))}°{letter}"
        assert lat[0] * sign > 0
    assert coast.parallels(Canvas((0.0, 0.0, 10.0, 10.0), 100, 100)) == []
