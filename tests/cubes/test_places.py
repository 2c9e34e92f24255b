"""Points, areas and boxes of EDR take the cells of their places, on every kind of grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
import xarray as xr
from tests.cubes.asking import Version

from cubeport.cubes.describe import describe
from cubeport.cubes.edr import corridor
from cubeport.cubes.pictures import places
from cubeport.cubes.pictures.places import CRS84, MERCATOR, MERCATOR_M, Canvas, Places, locate
from cubeport.cubes.quads import quads
from cubeport.cubes.windows import Labels
from cubeport.errors import InvalidRequest, NotFound

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}


def straight(lat: Any, lon: Any) -> Version:
    lat, lon = np.asarray(lat, "f8"), np.asarray(lon, "f8")
    values = np.arange(lat.size * lon.size, dtype="f4").reshape(lat.size, lon.size)
    return Version(xr.Dataset({"v": (("lat", "lon"), values)}, {"lat": ("lat", lat, LAT), "lon": ("lon", lon, LON)}))


def points(lon: Any, lat: Any, **attributes: Any) -> Version:
    raw = xr.Dataset(
        {"v": ("cell", np.arange(len(lon), dtype="f4"), {"coordinates": "lon lat"})},
        {"lon": ("cell", np.asarray(lon, "f8"), LON), "lat": ("cell", np.asarray(lat, "f8"), LAT)},
        attributes,
    )
    return Version(raw)


@pytest.mark.parametrize("across", ["lat", "lon"])
@pytest.mark.parametrize("named", [True, False])
def test_a_section_is_where_its_scalar_says(across: str, named: bool) -> None:
    """It had no place: only a dimension was a place, or a scalar for both."""
    whole = straight([10, 20, 30], [40, 50, 60, 70]).raw
    raw = whole.isel({across: 1})
    raw["v"].attrs |= {"coordinates": across} if named else {}
    section = Version(raw)
    spatial = section.description.spatial
    assert (spatial.family, spatial.x, spatial.y) == ("rectilinear", "lon", "lat")
    assert spatial.bbox == ((35, 20, 75, 20) if across == "lat" else (50, 5, 50, 35))
    assert section.values(section.edr("position", coords="POINT(50 20)")) == [float(whole.v.sel(lat=20, lon=50))]
    along = {"lat": 20.0} if across == "lat" else {"lon": 50.0}
    for kind, place in (("cube", {"bbox": "45,15,65,35"}), ("area", {"coords": "POLYGON((45 15,65 15,65 35,45 35,45 15))"})):
        box = whole.v.sel(along).sel({"lon": slice(45, 65)} if across == "lat" else {"lat": slice(15, 35)})
        assert section.values(section.edr(kind, **place)) == sorted(box.values.tolist())
    with pytest.raises(NotFound):
        section.edr("position", coords="POINT(100 20)" if across == "lat" else "POINT(50 80)")
    with pytest.raises(NotFound):
        section.edr("position", coords="POINT(50 25)" if across == "lat" else "POINT(45 20)")
    with pytest.raises(InvalidRequest, match="on one line already"):
        section.edr("trajectory", coords="LINESTRING(40 20,70 20)")


globe = straight(np.arange(90, -91, -30.0), np.arange(-180, 180, 30.0))


@pytest.mark.parametrize("lon", [np.arange(-180, 180, 30.0), np.arange(0, 360, 30.0), np.arange(-165, 180, 30.0)])
@pytest.mark.parametrize("lat", [np.arange(90, -91, -30.0), np.arange(-75, 90, 30.0)])
def test_the_world_and_the_caps_are_whole(lat: Any, lon: Any) -> None:
    grid = straight(lat, lon)
    world = grid.edr("area", coords="POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))")
    assert len(grid.values(world)) == lat.size * lon.size
    cap = grid.edr("area", coords="MULTIPOLYGON(((-180 60,180 60,180 90,-180 90,-180 60)))")
    assert len(grid.values(cap)) == (lat >= 60).sum() * lon.size
    for half in ("POLYGON((0 -90,180 -90,180 90,0 90,0 -90))", "POLYGON((-180 -90,0 -90,0 90,-180 90,-180 -90))"):
        assert len(grid.values(grid.edr("area", coords=half))) >= lat.size * lon.size / 2


@pytest.mark.parametrize("box", ["0,0,60,60", "5,5,55,55", "-179,-90,179,90", "170,-10,190,10", "2,2,3,3", "-180,60,180,90"])
def test_an_area_is_the_cube_of_the_same_box(box: str) -> None:
    west, south, east, north = map(float, box.split(","))
    polygon = shapely.to_wkt(shapely.box(west, south, east, north))
    assert globe.values(globe.edr("area", coords=polygon)) == globe.values(globe.edr("cube", bbox=box))


def test_cells_on_the_edge_of_any_polygon_are_taken() -> None:
    triangle = globe.edr("area", coords="POLYGON((0 0,60 0,0 60,0 0))")
    lat, lon = np.meshgrid(np.arange(90, -91, -30.0), np.arange(-180, 180, 30.0), indexing="ij")
    on = (lon >= 0) & (lat >= 0) & (lon + lat <= 60)
    assert globe.values(triangle) == sorted(np.arange(84.0).reshape(7, 12)[on].tolist())


def test_an_area_within_one_cell_is_that_cell_on_every_grid() -> None:
    small = "POLYGON((10.2 47.2,10.3 47.2,10.25 47.3,10.2 47.2))"
    assert len(globe.values(globe.edr("area", coords=small))) == 1
    lon, lat = np.meshgrid(np.arange(8.0, 13), np.arange(45.0, 50))
    mesh = points(lon.ravel(), lat.ravel())
    assert mesh.values(mesh.edr("area", coords=small)) == [12.0]
    assert mesh.values(mesh.edr("cube", bbox="10.2,47.2,10.3,47.3")) == [12.0]
    with pytest.raises(NotFound):
        mesh.edr("area", coords="POLYGON((30 30,30.1 30,30.1 30.1,30 30))")


def test_several_points_are_the_cells_that_hold_them() -> None:
    found = globe.edr("position", coords="MULTIPOINT((1 1),(100 60),(-179 -89))")
    assert found.points is not None
    assert found.points.index.tolist() == [[3, 6], [1, 9], [6, 0]]
    lone = straight([50.0, 51], [8.0, 9])
    some = lone.edr("position", coords="MULTIPOINT((8 50),(100 0),(8.1 50.1),(9 50))").points
    assert some is not None
    assert some.inside.tolist() == [True, False, True, True]
    assert some.index[some.inside].tolist() == [[0, 0], [0, 0], [0, 1]]
    with pytest.raises(NotFound):
        lone.edr("position", coords="MULTIPOINT((60 50),(100 0))")
    with pytest.raises(InvalidRequest):
        lone.edr("position", coords="MULTIPOINT EMPTY")


@pytest.mark.parametrize("name", ["CRS84", "OGC:CRS84", "http://www.opengis.net/def/crs/OGC/1.3/CRS84", "[OGC:CRS84]"])
def test_the_reference_system_has_the_name_that_is_advertised(name: str) -> None:
    assert globe.values(globe.edr("position", coords="POINT(0 0)", crs=name)) == [42.0]


@pytest.mark.parametrize("name", ["parameter-name", "parameter_names"])
def test_parameters_are_named_as_clients_name_them(name: str) -> None:
    assert globe.edr("position", coords="POINT(0 0)", **{name: "v"}).fields == ("v",)
    with pytest.raises(InvalidRequest):
        globe.edr("position", coords="POINT(0 0)", **{name: "snow"})


def test_stations_have_a_reach_and_meshes_do_not() -> None:
    lon, lat = [-63.5, -75.7, -123.1], [44.6, 45.4, 49.2]
    for stations in (points(lon, lat, featureType="timeSeries"), named_stations(lon, lat)):
        assert stations.values(stations.edr("position", coords="POINT(-75.6 45.4)")) == [1.0]
        for far in ("POINT(-90 47)", "POINT(-75.7 44)"):
            with pytest.raises(NotFound):
                stations.edr("position", coords=far)
        assert stations.values(stations.edr("cube", bbox="-80,40,-60,50")) == [0.0, 1.0]
        with pytest.raises(NotFound):
            stations.edr("cube", bbox="-75.69,45.41,-75.68,45.42")


def named_stations(lon: Any, lat: Any) -> Version:
    raw = points(lon, lat).raw
    return Version(raw.assign_coords(name=("cell", np.array(["a", "b", "c"], dtype=object), {"cf_role": "timeseries_id"})))


def test_a_cell_without_position_answers_for_nobody() -> None:
    lon, lat = np.meshgrid(np.arange(0.0, 10), np.arange(40.0, 50))
    lon, lat = lon + 0.1 * (lat - 40), lat + 0.05 * lon
    at = f"POINT({float(lon[5, 5])!r} {float(lat[5, 5])!r})"
    lon[5, 5] = lat[5, 5] = np.nan
    raw = xr.Dataset(
        {"v": (("j", "i"), np.arange(100, dtype="f4").reshape(10, 10), {"coordinates": "lon lat"})},
        {"lon": (("j", "i"), lon, LON), "lat": (("j", "i"), lat, LAT)},
    )
    sea = Version(raw)
    with pytest.raises(NotFound):
        sea.edr("position", coords=at)
    for j, i in ((4, 5), (5, 4), (0, 0), (9, 9), (6, 6)):
        beside = f"POINT({lon[j, i] + 0.2} {lat[j, i] - 0.1})"
        assert sea.values(sea.edr("position", coords=beside)) == [10.0 * j + i]
    for outside in (f"POINT({lon[0, 0] - 0.7} {lat[0, 0]})", f"POINT({lon[9, 9]} {lat[9, 9] + 0.7})"):
        with pytest.raises(NotFound):
            sea.edr("position", coords=outside)


@pytest.mark.parametrize(("units", "factor"), [("radian", 57.29577951308232), ("arc_minute", 1 / 60), ("degrees", 1)])
def test_places_are_in_degrees_whatever_angle_is_stored(units: str, factor: float) -> None:
    lat, lon = np.arange(40.0, 50) / factor, np.arange(0.0, 10) / factor
    raw = xr.Dataset(
        {"v": (("lat", "lon"), np.arange(100, dtype="f4").reshape(10, 10))},
        {"lat": ("lat", lat, {**LAT, "units": units}), "lon": ("lon", lon, {**LON, "units": units})},
    )
    grid = Version(raw)
    assert grid.description.spatial.bbox == pytest.approx((-0.5, 39.5, 9.5, 49.5))
    assert grid.values(grid.edr("position", coords="POINT(3.2 44.9)")) == [53.0]
    assert grid.values(grid.edr("cube", bbox="3,44,4,45")) == [43.0, 44.0, 53.0, 54.0]
    with pytest.raises(NotFound):
        grid.edr("position", coords="POINT(0.05 0.8)")


def test_stations_are_dots_and_say_nothing_of_places_far_from_them() -> None:
    lon, lat = np.array([-120.0, 0.0, 60.0]), np.array([45.0, 0.0, -30.0])
    data = xr.Dataset(
        {"t": ("station", np.arange(3.0), {"coordinates": "lat lon"})},
        {
            "lon": ("station", lon, {"units": "degrees_east", "standard_name": "longitude"}),
            "lat": ("station", lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "name": ("station", np.array(["a", "b", "c"], dtype=object), {"cf_role": "timeseries_id"}),
        },
        {"featureType": "timeSeries"},
    )
    cube = describe(data)
    assert cube.spatial.reach is not None
    canvas = Canvas((-180.0, -90.0, 180.0, 90.0), 360, 180, CRS84)
    (index,) = locate(cube, Labels({"lon": lon, "lat": lat}), canvas).index
    rows, columns = np.nonzero(index >= 0)
    x, y = -180 + columns + 0.5, 90 - rows - 0.5
    near = np.hypot(x[:, None] - lon, y[:, None] - lat)
    assert near.min(axis=1).max() < 4
    assert np.array_equal(index[rows, columns], near.argmin(axis=1))
    assert set(index[rows, columns].tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    "canvas",
    [
        Canvas((-180.0, -90.0, 180.0, 90.0), 360, 180, CRS84),
        Canvas((-MERCATOR_M, -MERCATOR_M, MERCATOR_M, MERCATOR_M), 200, 200, MERCATOR),
        Canvas((-5e6, -5e6, 5e6, 5e6), 200, 200, "EPSG:3995"),
        Canvas((170.0, 20.0, 200.0, 35.0), 200, 100, CRS84),
        Canvas((10.0, 40.0, 10.5, 40.5), 50, 50, CRS84),
    ],
    ids=["world", "mercator", "arctic", "dateline", "within cells"],
)
def test_the_centre_of_a_pixel_is_in_the_cell_that_is_drawn(canvas: Canvas) -> None:
    # The whole globe in cells of a rotated pole: the seam and both poles are within cells.
    rotated = pyproj.CRS.from_cf(
        {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
    )
    turned = pyproj.Transformer.from_crs(rotated, CRS84, always_xy=True)
    lon, lat = turned.transform(*np.meshgrid(np.arange(-178.5, 180, 3.0), np.arange(-88.5, 90, 3.0)))
    values = np.arange(lon.size, dtype="f4").reshape(lon.shape)
    cube = describe(
        xr.Dataset(
            {"v": (("j", "i"), values, {"coordinates": "lon lat"})}, {"lon": (("j", "i"), lon, LON), "lat": (("j", "i"), lat, LAT)}
        )
    )
    rows, columns = locate(cube, Labels({"lon": lon, "lat": lat}), canvas).index
    drawn = rows >= 0
    assert drawn.mean() > 0.95  # the grid leaves a gap of half a cell at its own seam
    x, y = np.meshgrid(*canvas.centres())
    a, b = np.radians(pyproj.Transformer.from_crs(canvas.crs, CRS84, always_xy=True).transform(x[drawn], y[drawn]))
    points = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    corners, _, _ = quads(lon, lat)
    j, i = rows[drawn], columns[drawn]
    ring = np.stack([corners[j, i], corners[j, i + 1], corners[j + 1, i + 1], corners[j + 1, i]])
    planes = np.cross(ring, np.roll(ring, -1, axis=0))
    planes *= np.sign((planes * ring.mean(axis=0)).sum(axis=-1, keepdims=True)) / np.linalg.norm(planes, axis=-1, keepdims=True)
    # How far a centre is outside an edge, in pixels of a degree at the equator.
    wide = canvas.width / (canvas.bbox[2] - canvas.bbox[0]) * (1 if canvas.crs == CRS84 else MERCATOR_M / 180)
    outside = -np.degrees((planes * points).sum(axis=-1).min(axis=0)) * wide
    assert (outside <= 0.05).mean() > 0.97
    assert outside.max() < 1


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("apart", [True, False], ids=["rows and columns", "pixels"])
def test_what_is_seen_is_the_cell_of_each_pixel(apart: bool, level: int) -> None:
    rng = np.random.default_rng(level)
    rows, columns = (rng.integers(-1, 40, size) for size in ((30,), (50,)))
    if not apart:
        rows, columns = rng.integers(3, 40, (30, 50)), rng.integers(5, 60, (30, 50))
        gone = rng.random((30, 50)) < 0.2
        rows[gone] = columns[gone] = -1
    seen = Places(("y", "x"), (rows.astype("i4"), columns.astype("i4")), apart).seen(level)
    whole = np.arange(1, 60 * 60 + 1).reshape(60, 60)
    window = tuple(slice(part.start, part.stop) for part in seen.window)
    drawn = seen.hide(seen.spread(whole[window]))
    across = np.broadcast_arrays(rows[:, None], columns[None]) if apart else (rows, columns)
    held = (across[0] >= 0) & (across[1] >= 0)
    wanted = np.where(held, whole[across[0] >> level, across[1] >> level], 0)
    assert np.array_equal(drawn, wanted)
    for row, column in np.ndindex(drawn.shape):
        cell = seen.cell(row, column)
        assert (0 if cell is None else whole[cell]) == wanted[row, column]


def test_a_picture_beside_the_data_has_no_window() -> None:
    seen = Places(("y", "x"), (np.full(4, -1, "i4"), np.arange(6, dtype="i4")), apart=True).seen()
    assert (seen.window, seen.shape, seen.cell(0, 0)) == ((), (4, 6), None)


def fibonacci(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions all over the sphere, from the poles to the equator at about the same distance, not quite even."""
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(1 - 2 * (np.arange(count) + 0.5) / count))
    lon = (np.arange(count) * 137.50776 + 180) % 360 - 180
    return lon + rng.normal(0, 0.5, count), np.clip(lat + rng.normal(0, 0.5, count), -90, 90)


@pytest.mark.parametrize(
    "canvas",
    [
        Canvas((-180.0, -90.0, 180.0, 90.0), 90, 45, CRS84),
        Canvas((0.0, -90.0, 360.0, 90.0), 90, 45, CRS84),
        Canvas((-MERCATOR_M, -MERCATOR_M, MERCATOR_M, MERCATOR_M), 60, 60, MERCATOR),
        Canvas((-5e6, -5e6, 5e6, 5e6), 60, 60, "EPSG:3995"),
        Canvas((-4e6, -4e6, 4e6, 4e6), 60, 60, "EPSG:3031"),
        Canvas((170.0, 60.0, 200.0, 88.0), 60, 56, CRS84),
    ],
    ids=["world", "from 0", "mercator", "arctic", "antarctic", "dateline"],
)
@pytest.mark.parametrize("count", [60, 3000])
def test_a_pixel_of_a_mesh_has_the_cell_of_the_position_at_its_centre(canvas: Canvas, count: int) -> None:
    """On a map in degrees, the nearest node near a pole was another one, or none."""
    lon, lat = fibonacci(count, 1)
    mesh = points(lon, lat)
    (index,) = locate(mesh.description, Labels({"lon": lon, "lat": lat}), canvas).index
    x, y = pyproj.Transformer.from_crs(canvas.crs, CRS84, always_xy=True).transform(*np.meshgrid(*canvas.centres()))
    a, b = np.radians(x), np.radians(y)
    pixels = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    a, b = np.radians(lon), np.radians(lat)
    nodes = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    near = pixels @ nodes.T
    assert (index >= 0).all()  # the mesh has no edge
    taken = np.take_along_axis(near, index[..., None].astype("int64"), -1)[..., 0]
    lost = np.degrees(np.arccos(np.clip(taken, -1, 1)) - np.arccos(np.clip(near.max(axis=-1), -1, 1)))
    assert lost.max() < 1e-6
    row, column = divmod(7 * index.size // 9, index.shape[1])
    at = f"POINT({(x[row, column] + 180) % 360 - 180:.12f} {y[row, column]:.12f})"
    assert mesh.values(mesh.edr("position", coords=at)) == [float(index[row, column])]


def test_a_mesh_ends_where_its_last_nodes_reach_no_farther() -> None:
    lon, lat = (each.ravel() for each in np.meshgrid(np.arange(0.0, 10), np.arange(60.0, 66)))
    mesh, canvas = points(lon, lat), Canvas((-5.0, 55.0, 15.0, 70.0), 40, 30, CRS84)
    (index,) = locate(mesh.description, Labels({"lon": lon, "lat": lat}), canvas).index
    for row, column in np.ndindex(index.shape):
        x, y = -5 + (column + 0.5) / 2, 70 - (row + 0.5) / 2
        try:
            cell = mesh.values(mesh.edr("position", coords=f"POINT({x} {y})"))[0]
        except NotFound:
            cell = -1.0
        away = np.hypot((lon - x) * np.cos(np.radians(y)), lat - y).min()
        assert index[row, column] == cell or (cell == -1 and away < 0.5), (x, y)  # a pixel is half a degree wide


def reduced(rings: int) -> tuple[np.ndarray, np.ndarray]:
    """Return longitudes and latitudes of a reduced Gaussian grid: 20 cells around a pole, four more in each further ring."""
    lat = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(2 * rings)[0]))[::-1]
    sizes = [20 + 4 * min(n, 2 * rings - 1 - n) for n in range(2 * rings)]
    return np.concatenate([np.arange(size) * 360 / size for size in sizes]), np.repeat(lat, sizes)


def test_rings_around_a_pole_leave_no_place_out() -> None:
    """In a ring next to a pole, cells are much nearer to each other than to the next ring: between them was nothing."""
    lon, lat = reduced(16)
    mesh = points(lon, lat)
    assert mesh.description.spatial.bbox == (-180, -90, 180, 90)
    rng = np.random.default_rng(1)
    for north in (*(90 - 12 * rng.random(30)), 90.0, -90.0):
        east = 360 * rng.random() - 180
        x, y = np.radians(lon), np.radians(lat)
        far = np.sin(y) * np.sin(np.radians(north)) + np.cos(y) * np.cos(np.radians(north)) * np.cos(x - np.radians(east))
        (value,) = mesh.values(mesh.edr("position", coords=f"POINT({east} {north})"))
        assert far[int(value)] == pytest.approx(far.max(), abs=1e-9)
    for canvas in (Canvas((-180, -90, 180, 90), 72, 36), Canvas((-2e6, -2e6, 2e6, 2e6), 40, 40, "EPSG:3995")):
        (index,) = locate(mesh.description, mesh.labels, canvas).index
        assert (index >= 0).all()


def test_the_box_of_a_mesh_reaches_half_a_step_beyond_its_centres() -> None:
    lon, lat = np.meshgrid(np.arange(170.0, 191), np.arange(40.0, 51))
    assert points(lon.ravel(), lat.ravel()).description.spatial.bbox == pytest.approx((169.35, 39.5, -169.35, 50.5), abs=0.2)
    lon, lat = reduced(16)
    part = (lat > -60) & (lat < 30)
    west, south, east, north = points(lon[part], lat[part]).description.spatial.bbox or ()
    assert (west, east) == (-180, 180)
    assert -63 < south < lat[part].min() - 2
    assert lat[part].max() + 2 < north < 33


@pytest.mark.parametrize(
    "bounds", [None, [[0, 0], [1, 1], [2, 2]], [[-0.5, 0.5], [0.5, 1.5], [1.5, 2.5]], [[-1, 0], [0, 1], [1, 2]]]
)
def test_a_step_reaches_as_far_as_its_bounds_or_half_way_to_the_next(bounds: list[list[float]] | None) -> None:
    values = np.arange(15, dtype="f4").reshape(3, 5)
    time = {"units": "days since 2020-01-01", "standard_name": "time"}
    raw = xr.Dataset(
        {"v": (("time", "lat", "lon"), values[:, None])},
        {"time": ("time", [0.0, 1.0, 2.0], time), "lat": ("lat", [0.0], LAT), "lon": ("lon", np.arange(5.0), LON)},
    )
    if bounds is not None:
        raw["time_bnds"] = (("time", "nv"), np.array(bounds, "f8"))
        raw["time"].attrs["bounds"] = "time_bnds"
    version = Version(raw)
    first = 1577836800
    # In the middle of the cells at 0, 12, 24, 36 and 48 hours; at a border between two steps it is in both cells' steps.
    found = version.values(version.edr("trajectory", coords=f"LINESTRING M(0.01 0 {first + 900},4 0 {first + 2 * 86_400 + 900})"))
    steps = [0, 0, 1, 1, 2] if bounds is None or bounds[0][1] != 0 or bounds[0][0] == 0 else [1, 1, 2, 2]
    wanted = {float(values[step, column]) for column, step in enumerate(steps)}
    assert wanted <= set(found), found


@pytest.mark.parametrize(
    ("crs", "box", "to"),
    [
        ("EPSG:3995", (-5.6e6, -3e6, 1.2e6, 4.5e6), CRS84),
        ("EPSG:3031", (-9e6, -9e6, 9e6, 9e6), CRS84),
        ("EPSG:3857", (-2e7, -2e7, 2e7, 2e7), "EPSG:6933"),
        ("EPSG:3857", (0.0, 5e6, 1e6, 6e6), "EPSG:3035"),
    ],
)
@pytest.mark.parametrize("size", [96, 256])
def test_no_pixel_is_placed_more_than_an_eighth_of_its_size_away(
    crs: str, box: tuple[float, float, float, float], to: str, size: int
) -> None:
    canvas, into = places.Canvas(box, size, size, crs), places.transform(crs, to)
    found = places._between(canvas, into)
    for has, exact in zip(found, into(*np.meshgrid(*canvas.centres())), strict=True):
        # Where longitudes jump from 180 to -180 the slope says nothing, and the jump itself is exact.
        slope = np.hypot(*np.gradient(np.where(np.isfinite(exact), exact, np.nan)))
        known = np.isfinite(exact) & np.isfinite(has) & np.isfinite(slope)
        assert (np.abs(has - exact)[known] <= 0.126 * slope[known] + 1e-9).all()


@pytest.mark.parametrize(
    ("line", "metres"),
    [
        ([(-124, 48), (-70, 26)], 2_500.0),
        ([(170, 10), (190, -80), (100, 89)], 300_000.0),
        ([(0, 0), (0, 0.001)], 50.0),
        ([(0, 0), (10, 0)], 19_000_000.0),
    ],
)
def test_a_corridor_compares_places_with_the_parts_of_its_line_that_they_can_be_near(
    line: list[tuple[float, float]], metres: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    band = corridor.Band(shapely.LineString(line), metres)
    west, south, east, north = band.bounds
    lon, lat = np.meshgrid(np.linspace(west, east, 120), np.linspace(south, north, 90))
    every = corridor._vectors(lon.ravel(), lat.ravel())
    truth = (band._nearest(every)[0] * corridor._RADIUS_M <= metres).reshape(lon.shape)
    compared, real = [], corridor._to_segment
    monkeypatch.setattr(corridor, "_to_segment", lambda points, *ends: compared.append(len(points)) or real(points, *ends))
    assert np.array_equal(band.anywhere(lon, lat, lambda: None), truth)
    if metres < 10_000 and band.line.length > 1:
        assert sum(compared) < 0.03 * lon.size * len(band._parts[0]), "a thin line is far from most places of its box"


def test_axes_without_a_reference_system_are_no_place() -> None:
    """Their labels can be anything: metres, or numbers of rows."""
    axes = {"y": ("y", [1.0, 2, 3]), "x": ("x", [1.0, 2, 3, 4])}
    bare = Version(xr.Dataset({"v": (("y", "x"), np.arange(12.0).reshape(3, 4))}, axes))
    assert bare.description.spatial.family == "none"
    for kind, coords in (
        ("position", "POINT(1 1)"),
        ("position", "MULTIPOINT((1 1),(2 2))"),
        ("trajectory", "LINESTRING(1 1,2 2)"),
    ):
        with pytest.raises(InvalidRequest, match="no horizontal position"):
            bare.edr(kind, coords=coords)
