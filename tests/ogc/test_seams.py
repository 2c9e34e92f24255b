"""Boxes, zones and pictures over the antimeridian, the seam of a grid and the poles, on grids of the whole world: every door has
the values that numpy finds in the source.

What is expected comes from the labels of the source and pyproj alone: the value at a place is that of the cell that holds it.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from tests.sample import sample

from cubeport.cubes.cutout import window_indexers
from cubeport.cubes.write_request import SourceWindow
from cubeport.cubes.zones import Zone, ZoneSet
from cubeport.errors import AreaOutsideSource

WORLD = 20037508.342789244
POLAR = 9_000_000.0


@dataclass(frozen=True)
class Grid:
    """A grid of evenly spaced cells; each value is the number of its cell, from 1 on."""

    x: np.ndarray
    y: np.ndarray
    code: int | None = None

    @property
    def values(self) -> np.ndarray:
        return 1.0 + np.arange(self.y.size * self.x.size, dtype="f8").reshape(self.y.size, self.x.size)

    def native(self, lon: Any, lat: Any, *, back: bool = False) -> tuple[np.ndarray, np.ndarray]:
        if self.code is None:
            return np.asarray(lon, "f8"), np.asarray(lat, "f8")
        system = pyproj.Transformer.from_crs("OGC:CRS84", f"EPSG:{self.code}", always_xy=True)
        x, y = system.transform(lon, lat, direction="INVERSE" if back else "FORWARD")
        return np.asarray(x), np.asarray(y)

    def at(self, lon: Any, lat: Any) -> np.ndarray:
        """Return the value of the cell that holds each place, NaN outside, and −1 on an edge between cells."""
        x, y = self.native(lon, lat)
        if self.code is None:
            first = self.x.min() - abs(self.x[1] - self.x[0]) / 2
            x = first + (x - first) % 360
        found = []
        for labels, places in ((self.y, y), (self.x, x)):
            step = labels[1] - labels[0]
            found.append((places - labels[0]) / step + 0.5)
        rows, columns = found
        with np.errstate(invalid="ignore"):
            inside = (rows >= 0) & (rows <= self.y.size) & (columns >= 0) & (columns <= self.x.size)
            near = (rows > -1e-5) & (rows < self.y.size + 1e-5) & (columns > -1e-5) & (columns < self.x.size + 1e-5)
            edge = near & ((np.abs(rows - np.round(rows)) < 1e-5) | (np.abs(columns - np.round(columns)) < 1e-5))
            row = np.clip(np.nan_to_num(rows), 0, self.y.size - 1).astype(int)
            column = np.clip(np.nan_to_num(columns), 0, self.x.size - 1).astype(int)
        return np.where(edge, -1.0, np.where(inside, self.values[row, column], np.nan))

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        return self.native(*np.meshgrid(self.x, self.y), back=True)

    def data(self) -> xr.Dataset:
        values = self.values.astype("f4")
        if self.code is None:
            data = xr.Dataset({"v": (("lat", "lon"), values, {"units": "1"})})
            lon = ("lon", self.x, {"standard_name": "longitude", "units": "degrees_east"})
            return data.assign_coords(lon=lon, lat=("lat", self.y, {"standard_name": "latitude", "units": "degrees_north"}))
        data = xr.Dataset({"v": (("y", "x"), values, {"units": "1", "grid_mapping": "crs"})})
        data["crs"] = xr.DataArray(0, attrs=pyproj.CRS.from_epsg(self.code).to_cf())
        return data.assign_coords(
            x=("x", self.x, {"standard_name": "projection_x_coordinate", "units": "m"}),
            y=("y", self.y, {"standard_name": "projection_y_coordinate", "units": "m"}),
        )


def middles(low: float, high: float, count: int) -> np.ndarray:
    return low + (np.arange(count) + 0.5) * (high - low) / count


GRIDS = {
    "west-first": Grid(middles(-180, 180, 20), middles(90, -90, 12)),
    "greenwich-first": Grid(middles(0, 360, 20), middles(-90, 90, 12)),
    "centre-on-zero": Grid(np.arange(0.0, 360, 18), middles(90, -90, 12)),
    "falling": Grid(middles(360, 0, 20), middles(90, -90, 12)),
    "web-mercator": Grid(middles(-WORLD, WORLD, 20), middles(WORLD, -WORLD, 12), 3857),
    "world-mercator": Grid(middles(-WORLD, WORLD, 20), middles(15_000_000, -15_000_000, 12), 3395),
    "equal-area": Grid(middles(-17_367_530, 17_367_530, 20), middles(7_300_000, -7_300_000, 12), 6933),
    "equidistant": Grid(middles(-WORLD, WORLD, 20), middles(-10_018_754, 10_018_754, 12), 4087),
    "north": Grid(middles(-POLAR, POLAR, 15), middles(POLAR, -POLAR, 14), 3995),
    "ice": Grid(middles(-3_850_000, 3_750_000, 15), middles(5_850_000, -5_350_000, 14), 3413),
    "south": Grid(middles(-POLAR, POLAR, 15), middles(-POLAR, POLAR, 14), 3031),
    "north-equal-area": Grid(middles(-POLAR, POLAR, 15), middles(POLAR, -POLAR, 14), 6931),
}
STRAIGHT = [name for name, each in GRIDS.items() if each.code is None]
QUIET: dict[str, Any] = {
    "deadline": None,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@pytest.fixture(scope="module")
def kept(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder, done = tmp_path_factory.mktemp("seams"), {}

    def put(name: str) -> Any:
        if name not in done:
            GRIDS[name].data().to_netcdf(folder / f"{name}.nc")
            done[name] = shelf.keep(f"seam-{name}", folder / f"{name}.nc")
        return done[name]

    return put


boxes = st.builds(
    lambda west, width, south, height: (
        round(west, 2),
        round(south, 2),
        round((west + width + 180) % 360 - 180, 2),
        round(min(90.0, south + height), 2),
    ),
    st.sampled_from([150.003, 171.37, 179.11, -9.87, -17.913, 40.51, -179.97]) | st.floats(-179.9, 179.9),
    st.floats(3.1, 330.0),
    st.sampled_from([-90.0, -71.7, 66.6]) | st.floats(-89.0, 80.0),
    st.floats(4.3, 180.0),
).filter(lambda box: abs(box[0] - box[2]) > 1)


def is_in(box: tuple[float, ...], lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    west, south, east, north = box
    with np.errstate(invalid="ignore"):
        return ((lon - west) % 360 <= (east - west) % 360) & (lat >= south) & (lat <= north)


def met(name: str, box: tuple[float, ...]) -> np.ndarray:
    """Return which cells of degrees a box meets."""
    grid = GRIDS[name]
    west, south, east, north = box
    half, high = abs(grid.x[1] - grid.x[0]) / 2, abs(grid.y[1] - grid.y[0]) / 2
    into = (grid.x - half - west) % 360
    columns = (into < (east - west) % 360 - 1e-9) | (into + 2 * half > 360 + 1e-9)
    rows = (grid.y + high > south + 1e-9) & (grid.y - high < north - 1e-9)
    return rows[:, None] & columns


def round_world(grid: Grid, box: tuple[float, ...]) -> np.ndarray:
    """Return which columns of a grid round the world a box meets, by their longitudes."""
    half = (grid.x[1] - grid.x[0]) / 2
    west = grid.native(grid.x - half * (1 - 1e-12), np.zeros(grid.x.size), back=True)[0]
    width = 360 / grid.x.size
    into = (west - box[0]) % 360
    return np.asarray((into < (box[2] - box[0]) % 360 - 1e-6) | (into + width > 360 + 1e-6))


@pytest.mark.parametrize("name", ["web-mercator", "world-mercator", "equal-area", "equidistant"])
@settings(max_examples=8, **QUIET)
@example(box=(170.0, 10.0, -170.0, 20.0))
@example(box=(100.0, 10.0, -100.0, 20.0))
@given(box=boxes)
def test_a_box_over_the_seam_of_a_projection_joins_both_ends(
    client: httpx.Client, kept: Any, name: str, box: tuple[float, ...]
) -> None:
    grid = GRIDS[name]
    answer = client.get(f"/ogcapi/collections/{kept(name).dataset_id}/coverage", params={"bbox": text(box)})
    if answer.status_code == 404:  # north or south of the grid
        assert not is_in(box, *grid.centres()).any()
        return
    document = answer.json()
    x, values = np.array(document["domain"]["axes"]["x"]["values"]), document["ranges"]["v"]
    columns = (np.reshape(values["values"], values["shape"])[0].astype(int) - 1) % grid.x.size
    assert np.array_equal(np.sort(columns), np.flatnonzero(round_world(grid, box)))
    step = grid.x[1] - grid.x[0]
    assert np.diff(x) == pytest.approx(step, abs=2.0)
    # Each label is that of its column, or one world further on.
    turns = (x - grid.x[columns]) / (grid.x.size * step)
    assert np.abs(turns - np.round(turns)).max() < 1e-6
    assert {*np.round(turns)} <= {0.0, 1.0}


def text(box: tuple[float, ...]) -> str:
    return ",".join(f"{each:.10g}" for each in box)


def found(answer: httpx.Response) -> set[float]:
    if answer.status_code == 404:
        return set()
    assert answer.status_code == 200, answer.text
    return {each for each in answer.json()["ranges"]["v"]["values"] if each is not None}


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=4, **QUIET)
@given(box=boxes)
def test_a_box_has_the_cells_of_the_source(client: httpx.Client, kept: Any, name: str, box: tuple[float, ...]) -> None:
    base, grid = f"/ogcapi/collections/{kept(name).dataset_id}", GRIDS[name]
    inside = is_in(box, *grid.centres())
    must = set(grid.values[inside].tolist())
    whole = set(grid.values[met(name, box)].tolist()) if name in STRAIGHT else None
    for door in ("coverage", "cube"):
        has = found(client.get(f"{base}/{door}", params={"bbox": text(box)}))
        assert must <= has, (door, must - has)
        assert whole is None or has == whole, (door, has ^ whole)
    west, south, east, north = box
    east += 360 if east < west else 0
    ring = ",".join(f"{x:.10g} {y:.10g}" for x, y in ((west, south), (east, south), (east, north), (west, north), (west, south)))
    if east <= 180:
        has = found(client.get(f"{base}/area", params={"coords": f"POLYGON(({ring}))"}))
        if whole is not None:  # a polygon along the axes is a box
            assert has == whole, has ^ whole
        else:  # a region within one cell gives that cell
            assert has == must or (not must and len(has) <= 1), has ^ must


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=3, **QUIET)
@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90))
def test_a_place_has_the_value_of_its_cell(client: httpx.Client, kept: Any, name: str, lon: float, lat: float) -> None:
    base, grid = f"/ogcapi/collections/{kept(name).dataset_id}", GRIDS[name]
    places = [(lon, lat), (180.0, lat), (-180.0, lat), (179.9999, lat), (-179.9999, lat), (lon, 89.9), (lon, -89.9), (0.0, 90.0)]
    for x, y in places:
        wanted = float(grid.at(x, y))
        answer = client.get(f"{base}/position", params={"coords": f"POINT({x:.12f} {y:.12f})"})
        has = found(answer)
        if wanted == -1:
            continue
        assert has == (set() if np.isnan(wanted) else {wanted}), ((x, y), has, wanted)


@pytest.mark.parametrize("crs", sample(["EPSG:3857", "CRS84", "EPSG:3395", "EPSG:3995", "EPSG:3031"], every=3))
@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=4, **QUIET)
@example(box=(-0.0, -3.73, 44.8, 12.27))
@given(box=boxes)
def test_a_pixel_has_the_colour_of_its_cell(client: httpx.Client, kept: Any, name: str, crs: str, box: tuple[float, ...]) -> None:
    grid, count = GRIDS[name], GRIDS[name].values.size
    if crs in ("EPSG:3857", "EPSG:3395"):
        box = (box[0], max(box[1], -84.0), box[2], min(max(box[3], -70.0), 84.0))
    asked = {"bbox": text(box), "crs": crs, "width": "64", "height": "64", "range": f"0.5,{count + 0.5}", "steps": str(count)}
    answer = client.get(f"/ogcapi/collections/{kept(name).dataset_id}/map", params=asked)
    assert answer.status_code == 200, answer.text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(io.BytesIO(answer.content)) as opened:
            (pixels,) = opened.read()
    west, south, east, north = map(float, answer.headers["content-bbox"].split(","))
    centre = np.meshgrid(middles(west, east, 64), middles(north, south, 64))
    right = np.zeros(pixels.shape, bool)
    # A pixel may be placed with an error of an eighth of its size. The corner of a cell can be between the first nine places.
    for right_by, up_by in (
        *itertools.product((-0.13, 0.0, 0.13), repeat=2),
        *itertools.product(np.linspace(-0.13, 0.13, 9), repeat=2),
    ):
        if right.all():
            break
        x, y = centre[0] + right_by * (east - west) / 64, centre[1] + up_by * (north - south) / 64
        if crs != "CRS84":
            x, y = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(x, y, direction="INVERSE")
        with np.errstate(invalid="ignore"):
            wanted = np.where(np.isfinite(x) & (np.abs(y) <= 90), grid.at(x, y), np.nan)
        right |= (pixels == np.nan_to_num(wanted)) | (wanted == -1)
    assert right.all(), (int((~right).sum()), pixels[~right][:5], np.argwhere(~right)[:5].tolist())


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=3, **QUIET)
@given(box=boxes)
def test_a_reprojected_coverage_has_the_value_of_each_place(
    client: httpx.Client, kept: Any, name: str, crs: str, box: tuple[float, ...]
) -> None:
    grid = GRIDS[name]
    box = (box[0], max(box[1], -84.0), box[2], min(max(box[3], -70.0), 84.0))
    answer = client.get(f"/ogcapi/collections/{kept(name).dataset_id}/coverage", params={"bbox": text(box), "crs": crs})
    if answer.status_code == 404:
        assert not is_in(box, *grid.centres()).any()
        return
    assert answer.status_code == 200, answer.text
    document = answer.json()
    axes = {
        key: np.asarray(each.get("values") or np.linspace(each["start"], each["stop"], each["num"]))
        for key, each in document["domain"]["axes"].items()
    }
    x, y = np.meshgrid(axes["x"], axes["y"])
    if crs == "EPSG:3857":
        x, y = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(x, y, direction="INVERSE")
    values = document["ranges"]["v"]
    assert [each for each in values["axisNames"] if each in "xy"] == ["y", "x"]
    has = np.array([np.nan if each is None else each for each in values["values"]], "f8").reshape(x.shape)
    wanted = grid.at(x, y)
    sure = (wanted != -1) & np.isfinite(has)
    assert np.array_equal(has[sure], wanted[sure])
    inside = is_in(box, x, y)
    gone = inside & (wanted != -1) & np.isfinite(wanted) & ~np.isfinite(has)
    assert not gone.any(), (int(gone.sum()), x[gone][:4], y[gone][:4], wanted[gone][:4])


@pytest.mark.parametrize("name", sample(GRIDS, every=4))
@settings(max_examples=4, **QUIET)
@given(box=boxes.filter(lambda box: (box[2] - box[0]) % 360 < 170))
def test_a_zone_has_the_mean_of_its_parts_of_cells(
    client: httpx.Client, shelf: Any, kept: Any, name: str, box: tuple[float, ...]
) -> None:
    """The mean of what numpy finds at many places of the zone, each weighed as the grid weighs: on the sphere, or in its plane."""
    grid = GRIDS[name]
    west, south, east, north = box
    south, north = max(south, -84.0), min(max(north, -70.0), 84.0)
    east += 360 if east < west else 0
    shape: Any = shapely.box(west, south, east, north)
    if east > 180:
        shape = shapely.MultiPolygon([shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)])
    shelf.zones["seam"] = ZoneSet("seam", (Zone("z", "Z", shape),))
    answer = client.get(f"/datasets/{kept(name).dataset_id}/table", params={"f": "json", "zones": "seam"})
    assert answer.status_code == 200, answer.text
    (row,) = answer.json()["rows"]
    if grid.code is None:
        lon, lat = np.meshgrid(middles(west, east, 700), middles(south, north, 700))
        values = grid.at(lon, lat)
        # Each cell counts by the part of it in the zone, times its own area on the sphere.
        low = np.floor(lat / 15) * 15
        weights = np.sin(np.radians(low + 15)) - np.sin(np.radians(low))
    else:
        x, y = np.meshgrid(
            *(
                middles(each.min() - step / 2, each.max() + step / 2, 900)
                for each, step in ((grid.x, abs(grid.x[1] - grid.x[0])), (grid.y, abs(grid.y[1] - grid.y[0])))
            )
        )
        lon, lat = grid.native(x, y, back=True)
        here = np.isfinite(lon) & is_in((west, south, (east + 180) % 360 - 180, north), np.nan_to_num(lon), np.nan_to_num(lat))
        values, weights = grid.at(lon[here], lat[here]), np.ones(int(here.sum()))
    sure = np.isfinite(values) & (values != -1)
    if row["value"] is None:
        assert sure.sum() < 30
        return
    wanted = (values[sure] * weights[sure]).sum() / weights[sure].sum()
    assert row["value"] == pytest.approx(wanted, abs=1.2), (row, wanted)


@pytest.mark.parametrize("name", sample(GRIDS, every=4))
@settings(max_examples=15, **QUIET)
@example(box=(16.83, -90.0, -152.26, 74.14), clip="centre")
@example(box=(163.2, 0.0, 166.3, 90.0), clip="centre")
@given(box=boxes, clip=st.sampled_from(["touch", "centre"]))
def test_an_ingestion_takes_the_cells_of_the_box(name: str, box: tuple[float, ...], clip: Any) -> None:
    grid, raw = GRIDS[name], GRIDS[name].data()
    lon, lat = grid.centres()
    must = is_in(box, lon, lat)
    try:
        taken = window_indexers(raw, SourceWindow(bbox=box, clip=clip))
    except AreaOutsideSource as exc:
        if "seam" not in exc.message:
            assert not must.any()
            return
        touched = round_world(grid, box) if grid.code is not None else met(name, box).any(axis=0)
        columns = np.flatnonzero(touched if clip == "touch" else must.any(axis=0))
        assert np.diff(columns).max(initial=1) > 1, "these columns are one range"
        return
    rows, columns = (taken.get(each, slice(None)) for each in (("lat", "lon") if grid.code is None else ("y", "x")))
    has = np.zeros(must.shape, bool)
    has[rows, columns] = True
    assert (has | ~must).all()
    if grid.code is None:
        exactly = met(name, box) if clip == "touch" else must
        assert np.array_equal(has, exactly)
    elif grid.code in (3857, 3395, 6933, 4087):
        wanted = round_world(grid, box) if clip == "touch" else must.any(axis=0)
        assert np.array_equal(has.any(axis=0), wanted)
