"""Trajectories, corridors, named areas, versions, and axes without a parameter of their own: values compared with the source."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shapely
import xarray as xr
from pyproj import CRS, Geod
from tests.families import FAMILIES, positions

from cubeport.service.templates import Extent

VERSION = "0123456789abcdef0123456789abcdef"
LINES = {
    "regular": "LINESTRING(-150 70,20 -40,100 10)",
    "south-up": "LINESTRING(-19 -19,3 4,3 14,18 14)",
    "from-0-to-360": "LINESTRING(-100 50,100 -50)",
    "over-the-dateline": "LINESTRING(168 8,192 -9)",
    "projected": "LINESTRING(6 52,14 55)",
    "curvilinear": "LINESTRING(12 41,20 48)",
}


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    folder = tmp_path_factory.mktemp("lines")

    def write(name: str) -> Any:
        path = folder / f"line-{name}.nc"
        if not path.exists():
            FAMILIES[name].make().to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def ask(client: httpx.Client, cube: Any, kind: str, **query: str) -> Any:
    answer = client.get(
        f"/ogcapi/collections/{cube.dataset_id}/{kind}", params={name.replace("_", "-"): text for name, text in query.items()}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def present(document: Any) -> list[float]:
    """Return the values that are there, sorted."""
    return sorted(each for each in document["ranges"]["t"]["values"] if each is not None)


def lons_and_lats(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return longitude, latitude and the value of the first day of every cell."""
    lon, lat = positions(FAMILIES[name])
    values = FAMILIES[name].make()["t"].isel(time=0).values
    return lon.ravel(), lat.ravel(), values.ravel()


@pytest.mark.parametrize("name", LINES)
def test_a_trajectory_takes_each_cell_that_the_line_passes(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    line = shapely.from_wkt(LINES[name])
    found = ask(client, cube, "trajectory", coords=LINES[name], datetime="2020-01-01")
    values = present(found)
    assert len(values) == len(set(values)) > 2
    along = shapely.get_coordinates(shapely.segmentize(line, line.length / 120))
    by_position = set()
    for lon, lat in along.tolist():
        answer = client.get(
            f"/ogcapi/collections/{cube.dataset_id}/position",
            params={"coords": f"POINT({(lon + 180) % 360 - 180} {lat})", "datetime": "2020-01-01"},
        )
        if answer.status_code == 200:
            by_position.add(answer.json()["ranges"]["t"]["values"][0])
    assert by_position <= set(values)
    # A cell whose corner alone is cut may lie between two of the sampled points.
    assert len(set(values) - by_position) <= 3
    assert found["domain"]["domainType"] == "MultiPoint"
    series = ask(client, cube, "trajectory", coords=LINES[name])
    assert series["domain"]["domainType"] == "MultiPointSeries"
    assert len(series["ranges"]["t"]["values"]) == 3 * len(values)


def far_from(line: Any, lon: float, lat: float) -> float:
    """Return the kilometres from a place to the nearest of many points of a line, over the ellipsoid."""
    points = shapely.get_coordinates(shapely.segmentize(line, 0.05))
    _, _, metres = Geod(ellps="WGS84").inv(*points.T, np.full(len(points), lon), np.full(len(points), lat))
    return float(np.min(metres)) / 1000


@pytest.mark.parametrize("name", LINES)
def test_a_corridor_takes_the_cells_within_half_its_width(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    width = {"projected": 240.0, "curvilinear": 400.0}.get(name, 3600.0)
    found = present(
        ask(client, cube, "corridor", coords=LINES[name], corridor_width=str(width), width_units="km", datetime="2020-01-01")
    )
    line = shapely.from_wkt(LINES[name])
    lon, lat, values = lons_and_lats(name)
    distances = np.array([far_from(line, a, b) for a, b in zip(lon, lat, strict=True)])
    surely, perhaps = values[distances < 0.98 * width / 2], values[distances < 1.02 * width / 2]
    assert len(surely)
    assert set(surely.tolist()) <= set(found) <= set(perhaps.tolist())
    miles = ask(
        client, cube, "corridor", coords=LINES[name], corridor_width=str(width / 1.609344), width_units="mi", datetime="2020-01-01"
    )
    assert present(miles) == found


def test_a_line_with_heights_has_the_levels_that_it_passes(client: httpx.Client, stored: Any) -> None:
    """Each cell of the descent of a glider, found again here by 100,000 points along it."""
    cube = stored("cmems_mod_bal_phy_anfc_P1D.nc")
    truth = cube.truth().isel(time=1)
    corners = np.array([[23.27, 59.11, 0.8], [23.6, 59.52, 33.3], [23.41, 59.9, 4.1]])
    line = f"LINESTRING Z({','.join(' '.join(map(str, each)) for each in corners)})"
    found = ask(client, cube, "trajectory", coords=line, datetime=cube.description.temporal.end[:8] + "02", parameter_name="thetao")
    way = np.concatenate([np.linspace(a, b, 50_000) for a, b in itertools.pairwise(corners)])
    axes = [truth[name].values.astype("f8") for name in ("longitude", "latitude", "depth")]
    nearest = [np.abs(axis[None] - part[:, None]).argmin(1) for axis, part in zip(axes, way.T, strict=True)]
    passed = set(zip(*(each.tolist() for each in nearest), strict=True))
    expected = {
        (round(float(axes[2][k]), 3), round(float(axes[0][i]), 4), round(float(axes[1][j]), 4)): float(truth.thetao.values[k, j, i])
        for i, j, k in passed
    }
    seen = {}
    for coverage in found["coverages"]:
        depth = float(coverage["id"].partition("=")[2])
        places, values = coverage["domain"]["axes"]["composite"]["values"], coverage["ranges"]["thetao"]["values"]
        assert len(places) == len(values)
        for (x, y), value in zip(places, values, strict=True):
            seen[round(depth, 3), round(x, 4), round(y, 4)] = np.nan if value is None else value
    assert len(seen) > 60
    assert seen.keys() == expected.keys()
    assert np.array_equal(
        np.array([seen[each] for each in seen], "f4"), np.array([expected[each] for each in seen], "f4"), equal_nan=True
    )
    rows = client.get(
        f"/ogcapi/collections/{cube.dataset_id}/trajectory",
        params={"coords": line, "datetime": cube.description.temporal.start, "parameter-name": "thetao", "f": "csv"},
    ).text.splitlines()
    assert len(rows) - 1 == len(expected)
    flat = ask(client, cube, "trajectory", coords="LINESTRING Z(23.27 59.11 2.6,23.6 59.52 2.5)", parameter_name="so")
    level = ask(client, cube, "trajectory", coords="LINESTRING(23.27 59.11,23.6 59.52)", z=str(axes[2][2]), parameter_name="so")
    assert flat["ranges"]["so"]["values"] == level["ranges"]["so"]["values"]
    south = ask(client, cube, "trajectory", coords="LINESTRING Z(23.6 59.52 2.5,23.27 59.11 2.6)", parameter_name="so")
    rows_of = [y for _, y, _ in south["domain"]["axes"]["composite"]["values"]]
    assert rows_of == sorted(rows_of, reverse=True) != rows_of[::-1]


def test_heights_need_levels(client: httpx.Client, put: Any, stored: Any) -> None:
    without = put("south-up").dataset_id
    with_levels = stored("cmems_mod_bal_phy_anfc_P1D.nc").dataset_id
    for name, query, words in (
        (without, {"coords": "LINESTRING Z(0 0 1,1 1 2)"}, "no levels"),
        (with_levels, {"coords": "LINESTRING Z(23.3 59.2 1,23.5 59.4 2)", "z": "1"}, "cannot be combined"),
        (with_levels, {"coords": "LINESTRING Z(23.3 59.2 1,23.5 59.4 nan)"}, "a height at each place"),
    ):
        answer = client.get(f"/ogcapi/collections/{name}/trajectory", params=query)
        assert answer.status_code == 400
        assert words in answer.text
    above = {"coords": "LINESTRING Z(23.3 59.2 900,23.5 59.4 950)"}
    assert client.get(f"/ogcapi/collections/{with_levels}/trajectory", params=above).status_code == 404


def test_a_line_outside_the_data_is_404_with_the_extent(client: httpx.Client, put: Any) -> None:
    cube = put("south-up")
    for kind, more in (("trajectory", {}), ("corridor", {"corridor-width": "10", "width-units": "km"})):
        answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params={"coords": "LINESTRING(100 60,110 70)", **more})
        assert answer.status_code == 404
        assert "extent" in answer.json()


@pytest.mark.parametrize(
    "query",
    [
        {"coords": "POINT(0 0)"},
        {"coords": "LINESTRING(0 0)"},
        {"coords": "LINESTRING(0 0,0 95)"},
        {"coords": "LINESTRING Z(0 0 1,1 1 1)"},
        {"coords": "LINESTRING M(0 0 nan,1 1 1577923200)"},
        {"coords": "LINESTRING M(0 0 1e13,1 1 1577923200)"},
        {"coords": "LINESTRING M(0 0 1577836800,1 1 1577923200)", "datetime": "2020-01-01"},
        {},
    ],
)
def test_what_is_no_line_is_400(client: httpx.Client, put: Any, query: dict[str, str]) -> None:
    base = f"/ogcapi/collections/{put('south-up').dataset_id}"
    assert client.get(f"{base}/trajectory", params=query).status_code == 400
    more = {"corridor-width": "10", "width-units": "km"}
    assert client.get(f"{base}/corridor", params={**query, **more}).status_code == 400


@pytest.mark.parametrize(
    ("z", "height", "units", "levels"),
    [("1000", "10", "hPa", [0]), ("1000", "1000", "hPa", [0, 1]), ("760", "481", "hPa", [0]), ("740", "480", "hPa", [1])],
)
def test_a_corridor_has_the_levels_within_half_its_height(
    client: httpx.Client, put: Any, z: str, height: str, units: str, levels: list[int]
) -> None:
    cube = put("pressure-levels")
    query = {"coords": "LINESTRING(0 20,40 20)", "corridor-width": "100", "width-units": "km", "datetime": "2020-01-01", "z": z}
    base = f"/ogcapi/collections/{cube.dataset_id}/corridor"
    answer = client.get(base, params={**query, "corridor-height": height, "height-units": units})
    assert answer.status_code == 200, answer.text
    found = {each for each in answer.json()["ranges"]["t"]["values"] if each is not None}
    row = cube.truth().t.values[0][levels][:, 2]
    assert found == set(row.ravel().tolist())
    for wrong, place in (
        ({"corridor-height": "10"}, "height-units"),
        ({"corridor-height": "10", "height-units": "m"}, "height-units"),
        ({"corridor-height": "-1", "height-units": "hPa"}, "corridor-height"),
        ({"corridor-height": "10", "height-units": "hPa", "z": "500/1000"}, "z"),
    ):
        refused = client.get(base, params={**query, **wrong})
        assert refused.status_code == 400, wrong
        assert [each["loc"][-1] for each in refused.json()["errors"]] == [place]


def test_a_corridor_follows_the_heights_of_its_line(client: httpx.Client, put: Any, tmp_path: Path) -> None:
    cube = put("pressure-levels")
    base = f"/ogcapi/collections/{cube.dataset_id}/corridor"
    query = {
        "coords": "LINESTRING Z(0 20 1000,40 20 500)", "corridor-width": "100", "width-units": "km", "corridor-height": "300",
        "height-units": "hPa", "datetime": "2020-01-01",
    }  # fmt: skip
    answer = client.get(base, params=query)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    seen = np.array(found["ranges"]["t"]["values"], "f8").reshape(found["ranges"]["t"]["shape"]).squeeze()
    # On the line the pressure is 1000, 875, 750, 625 and 500 hPa, and the corridor reaches 150 hPa from it.
    nan, truth = np.nan, cube.truth().t.values[0][:, 2]
    expected = np.where([[True, True, False, False, False], [False, False, False, True, True]], truth, nan)
    assert np.array_equal(seen, expected, equal_nan=True)
    (tmp_path / "a.nc").write_bytes(client.get(base, params={**query, "f": "netcdf"}).content)
    with xr.open_dataset(tmp_path / "a.nc") as stored:
        assert np.array_equal(stored.t.values.squeeze(), expected, equal_nan=True)
    rows = client.get(base, params={**query, "f": "csv"}).text.strip().splitlines()
    last = [row.rpartition(",")[2] for row in rows[1:]]
    assert {float(each) for each in last if each} == set(expected[np.isfinite(expected)].tolist())
    one = client.get(base, params={**query, "corridor-height": "2", "coords": "LINESTRING Z(0 20 1000,10 20 1000)"})
    assert {each for each in one.json()["ranges"]["t"]["values"] if each is not None} == set(truth[0][:2].tolist())
    between = client.get(base, params={**query, "coords": "LINESTRING Z(0 20 700,10 20 760)", "corridor-height": "100"})
    assert between.status_code == 404
    for wrong, place in (
        ({"z": "1000"}, "z"),
        ({"corridor-height": None, "height-units": None}, "corridor-height"),
        ({"coords": "LINESTRING Z(0 20 nan,40 20 500)"}, "coords"),
    ):
        refused = client.get(base, params={name: value for name, value in {**query, **wrong}.items() if value is not None})
        assert refused.status_code == 400, wrong
        assert [each["loc"][-1] for each in refused.json()["errors"]] == [place]
    flat = client.get(f"/ogcapi/collections/{put('south-up').dataset_id}/corridor", params=query)
    assert flat.status_code == 400


def unix(text: str) -> float:
    return float(np.datetime64(text, "s").astype("i8"))


def tuples(found: Any, name: str) -> dict[tuple[Any, ...], float | None]:
    """Return the value of each tuple of a trajectory."""
    assert found["domain"]["domainType"] == "Trajectory"
    composite = found["domain"]["axes"]["composite"]
    values = found["ranges"][name]["values"]
    assert found["ranges"][name]["axisNames"] == ["composite"]
    assert composite["values"] == sorted(composite["values"], key=lambda each: each[0])
    return dict(zip((tuple(each) for each in composite["values"]), values, strict=True))


def moving(name: str, written: str = "LINESTRING M") -> tuple[str, np.ndarray]:
    """Return a line that needs two days, slow at first, as text and as (longitude, latitude, Unix time) of 40,000 moments."""
    corners = shapely.get_coordinates(shapely.from_wkt(LINES[name]))
    times = unix("2020-01-01T00:00:00") + 2 * 86_400 * np.linspace(0, 1, len(corners)) ** 2
    text = ",".join(f"{x!r} {y!r} {m!r}" for (x, y), m in zip(corners.tolist(), times.tolist(), strict=True))
    at = np.linspace(0, len(corners) - 1, 40_000)
    moments = np.column_stack([np.interp(at, np.arange(len(corners)), each) for each in (*corners.T, times)])
    return f"{written}({text}){')' if '(' in written else ''}", moments


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("regular", "LINESTRING M"), ("regular", "MULTILINESTRING M("), ("south-up", "LINESTRINGM"),
        ("from-0-to-360", "LINESTRING M"), ("over-the-dateline", "LINESTRING M"),
    ],
)  # fmt: skip
def test_a_line_with_times_has_the_step_at_which_it_is_in_a_cell(client: httpx.Client, put: Any, name: str, written: str) -> None:
    cube, truth = put(name), FAMILIES[name].make()
    line, moments = moving(name, written)
    found = tuples(ask(client, cube, "trajectory", coords=line), "t")
    lon, lat = truth.lon.values, truth.lat.values
    x, y, when = moments.T
    step, row = np.round((when - when[0]) / 86_400).astype(int), np.abs(lat[None] - y[:, None]).argmin(1)
    turns = np.abs((lon[None] - x[:, None] + 180) % 360 - 180)
    column = turns.argmin(1)
    inside = (turns.min(1) <= (lon[1] - lon[0]) / 2) & (np.abs(lat[row] - y) <= abs(lat[1] - lat[0]) / 2)
    expected = set(truth.t.values[step, row, column][inside].tolist())
    assert expected <= set(found.values())
    assert len(set(found.values()) - expected) <= 1  # one that is crossed at a corner, between two moments
    for place, value in found.items():
        day, r, c = (int(each) for each in (value // 100, value // 10 % 10, value % 10))
        assert place == (f"2020-01-0{day + 1}T00:00:00Z", lon[c], lat[r])


@pytest.mark.parametrize("name", ["projected", "curvilinear"])
def test_a_line_with_times_on_other_grids_has_what_positions_have(
    client: httpx.Client, put: Any, name: str, tmp_path: Path
) -> None:
    cube = put(name)
    line, moments = moving(name)
    found = tuples(ask(client, cube, "trajectory", coords=line), "t")
    for x, y, when in moments[:: len(moments) // 9].tolist():
        day = f"2020-01-0{1 + round((when - moments[0, 2]) / 86_400)}"
        query = {"coords": f"POINT({x} {y})", "datetime": day}
        answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/position", params=query)
        if answer.status_code == 200:
            assert answer.json()["ranges"]["t"]["values"][0] in found.values()
    base = f"/ogcapi/collections/{cube.dataset_id}/trajectory"
    rows = client.get(base, params={"coords": line, "f": "csv"}).text.split()[1:]
    assert sorted(float(row.rpartition(",")[2]) for row in rows) == sorted(found.values())
    (tmp_path / "way.nc").write_bytes(client.get(base, params={"coords": line, "f": "netcdf"}).content)
    with xr.open_dataset(tmp_path / "way.nc") as stored:
        assert sorted(stored.t.values[np.isfinite(stored.t.values)].tolist()) == sorted(found.values())


def test_a_line_with_heights_and_times_is_a_descent(client: httpx.Client, stored: Any) -> None:
    """A glider, found again here by 100,000 of its moments."""
    cube = stored("cmems_mod_bal_phy_anfc_P1D.nc")
    truth = cube.truth()
    first = float(truth.time.values[0].astype("datetime64[s]").astype("i8"))
    corners = np.array([[23.27, 59.11, 0.8, first], [23.6, 59.52, 33.3, first + 1e5], [23.41, 59.9, 4.1, first + 1.6e5]])
    line = f"LINESTRING ZM({','.join(' '.join(map(repr, each)) for each in corners.tolist())})"
    found = tuples(ask(client, cube, "trajectory", coords=line, parameter_name="thetao"), "thetao")
    way = np.concatenate([np.linspace(a, b, 50_000) for a, b in itertools.pairwise(corners)])
    axes = [truth[name].values.astype("f8") for name in ("longitude", "latitude", "depth")]
    axes.append(truth.time.values.astype("datetime64[s]").astype("f8"))
    i, j, k, n = (np.abs(axis[None] - part[:, None]).argmin(1) for axis, part in zip(axes, way.T, strict=True))
    passed = set(zip(n.tolist(), i.tolist(), j.tolist(), k.tolist(), strict=True))
    labels = [f"{np.datetime64(int(each), 's')}Z" for each in axes[3]]
    expected = {
        (labels[n], *(round(float(axis[at]), 4) for axis, at in zip(axes, (i, j, k), strict=False))): truth.thetao.values[
            n, k, j, i
        ]
        for n, i, j, k in passed
    }
    seen = {(when, *(round(each, 4) for each in place)): value for (when, *place), value in found.items()}
    assert len({when for when, *_ in seen}) == 3
    assert seen.keys() == expected.keys()
    for place, value in expected.items():
        assert np.array_equal(np.float32(value), np.float32(np.nan if seen[place] is None else seen[place]), equal_nan=True)


def test_a_corridor_follows_the_times_of_its_line(client: httpx.Client, put: Any) -> None:
    cube = put("south-up")
    truth, day = FAMILIES["south-up"].make(), unix("2020-01-01T00:00:00")
    query = {"corridor-width": "2400", "width-units": "km"}
    base = f"/ogcapi/collections/{cube.dataset_id}/corridor"
    # Along the equator, from 20° W to 20° E in two days: each column of cells is passed on one day.
    line = f"LINESTRING M(-20 0 {day},20 0 {day + 2 * 86_400})"
    found = client.get(base, params={**query, "coords": line}).json()
    shape = dict(zip(found["ranges"]["t"]["axisNames"], found["ranges"]["t"]["shape"], strict=True))
    seen = np.array(found["ranges"]["t"]["values"], "f8").reshape(shape["t"], shape["y"], shape["x"])
    assert found["domain"]["axes"]["t"]["values"] == [f"2020-01-0{each}T00:00:00Z" for each in (1, 2, 3)]
    whole = client.get(base, params={**query, "coords": "LINESTRING(-20 0,20 0)"}).json()
    every = np.array(whole["ranges"]["t"]["values"], "f8").reshape(seen.shape)
    on_day = np.array([0, 1, 1, 2, 2])  # at 0, 12, 24, 36 and 48 hours; a day begins at the noon before it
    assert np.array_equal(seen, np.where(np.arange(3)[:, None, None] == on_day, every, np.nan), equal_nan=True)
    assert np.nanmax(seen) <= truth.t.values.max()
    short = client.get(base, params={**query, "coords": f"LINESTRING M(-20 0 {day + 9e6},20 0 {day + 9.1e6})"})
    assert short.status_code == 404


def test_a_trajectory_is_in_the_order_of_its_line(client: httpx.Client, put: Any) -> None:
    """Forth and back within a day, and again on the next: to be drawn as a line, it must not jump."""
    cube, day = put("south-up"), unix("2020-01-01T00:00:00")
    line = f"LINESTRING M(20 0 {day},-20 0 {day + 20_000},-20 10 {day + 30_000},20 10 {day + 40_000},20 0 {day + 86_400})"
    address = f"/ogcapi/collections/{cube.dataset_id}/trajectory"
    found = client.get(address, params={"coords": line}).json()
    places = found["domain"]["axes"]["composite"]["values"]
    first = [(x, y) for when, x, y in places if when == "2020-01-01T00:00:00Z"]
    assert first[:6] == [(20, 0), (10, 0), (0, 0), (-10, 0), (-20, 0), (-20, 10)]
    assert first[6:] == [(-10, 10), (0, 10), (10, 10), (20, 10)]
    assert [tuple(each) for each in places[len(first) :]] == [("2020-01-02T00:00:00Z", 20, 10), ("2020-01-02T00:00:00Z", 20, 0)]
    truth = FAMILIES["south-up"].make().t
    wanted = [float(truth.isel(time=int(when[9]) - 1).sel(lon=x, lat=y)) for when, x, y in places]
    assert found["ranges"]["t"]["values"] == wanted


@pytest.mark.parametrize("written", ["LINESTRING({})", "MULTILINESTRING(({}))"])
def test_a_line_without_times_is_in_its_own_order(client: httpx.Client, put: Any, written: str) -> None:
    """There and back along another row, and over a cell twice: each is once, where the line comes to it first."""
    cube, truth = put("south-up"), FAMILIES["south-up"].make().t
    line = written.format("20 1,-20 1,-20 9,20 9,20 1")
    wanted = [*((x, 0) for x in (20, 10, 0, -10, -20)), *((x, 10) for x in (-20, -10, 0, 10, 20))]
    found = ask(client, cube, "trajectory", coords=line)
    assert [tuple(each) for each in found["domain"]["axes"]["composite"]["values"]] == wanted
    values = [[float(truth.isel(time=day).sel(lon=x, lat=y)) for x, y in wanted] for day in range(3)]
    assert np.array_equal(np.reshape(found["ranges"]["t"]["values"], (3, 10)), values)
    address = f"/ogcapi/collections/{cube.dataset_id}/trajectory"
    rows = client.get(address, params={"coords": line, "f": "csv"}).text.split()[1:]
    assert [float(row.rpartition(",")[2]) for row in rows] == np.ravel(values).tolist()
    day = unix("2020-01-01T00:00:00")
    timed = f"LINESTRING M(20 1 {day},-20 1 {day + 80_000},-20 9 {day + 90_000})"
    along = client.get(address, params={"coords": timed}).json()["ranges"]["t"]["values"]
    rows = client.get(address, params={"coords": timed, "f": "csv"}).text.split()[1:]
    assert [float(row.rpartition(",")[2]) for row in rows] == along != sorted(along)


@pytest.mark.parametrize("name", ["from-0-to-360", "over-the-dateline", "projected", "curvilinear", "regular", "unstructured"])
def test_the_order_of_a_line_is_that_of_positions_along_it(client: httpx.Client, put: Any, name: str) -> None:
    cube = put(name)
    corners = shapely.get_coordinates(shapely.from_wkt(LINES.get(name, "LINESTRING(0 0,32 3,32 12,3 9)")))[::-1]
    line = shapely.LineString(corners)
    found = ask(client, cube, "trajectory", coords=line.wkt, datetime="2020-01-01")["ranges"]["t"]["values"]
    lon, lat, values = lons_and_lats(name)
    first: dict[float, None] = {}
    for x, y in shapely.get_coordinates(shapely.segmentize(line, line.length / 400)).tolist():
        _, _, far = Geod(ellps="WGS84").inv(lon, lat, np.full(len(lon), x), np.full(len(lon), y))
        first.setdefault(float(values[np.argmin(far)]))
    nearest = [each for each in first if each in found]
    assert len(nearest) > 2
    # A cell that the line passes is in most places the one with the nearest centre: these are in one order.
    places = [found.index(each) for each in nearest]
    assert np.corrcoef(places, range(len(places)))[0, 1] > 0.95


def test_the_limit_of_a_line_counts_its_cells_and_not_the_box_around_it(serve: Any, put: Any) -> None:
    """And of several points. The box has 25 cells on three days."""
    small, cube = serve(json_cells=30, csv_cells=30, binary_cells=70), put("south-up")
    truth, steps = FAMILIES["south-up"].make().t, range(-20, 30, 10)
    for kind, coords, places in (
        ("trajectory", "LINESTRING(-20 -20,-20 20,20 20)", [*((-20, y) for y in steps), *((x, 20) for x in steps[1:])]),
        ("position", "MULTIPOINT((-20 -20),(20 20),(-10 -10),(10 10),(0 0))", [(at, at) for at in (-20, 20, -10, 10, 0)]),
    ):
        address, query = f"/ogcapi/collections/{cube.dataset_id}/{kind}", {"coords": coords}
        answer = small.get(address, params=query)
        assert answer.status_code == 200, answer.text
        wanted = [float(truth.isel(time=day).sel(lon=x, lat=y)) for day in range(3) for x, y in places]
        assert answer.json()["ranges"]["t"]["values"] == wanted
        rows = small.get(address, params={**query, "f": "csv"}).text.split()[1:]
        assert [float(row.rpartition(",")[2]) for row in rows] == wanted
        assert small.get(address, params={**query, "estimate": "true"}).json()["cells"] == len(wanted)
        # Of a line it has the box.
        assert small.get(address, params={**query, "f": "netcdf"}).status_code == (413 if kind == "trajectory" else 200)
    longer = {"coords": "LINESTRING(-20 -20,-20 20,20 20,20 -20)"}
    refused = small.get(f"/ogcapi/collections/{cube.dataset_id}/trajectory", params=longer)
    assert (refused.status_code, refused.json()["value"]) == (413, 39)
    shorter = next(each["href"] for each in refused.json()["alternatives"] if "longest time" in each["title"])
    assert len(small.get(shorter).json()["ranges"]["t"]["values"]) == 26


def test_a_line_reads_the_chunks_that_it_passes(client: httpx.Client, serve: Any, stored: Any, tmp_path: Path) -> None:
    """All chunks beside a diagonal are gone. Whatever read one of them would be refused."""
    n = 12
    labels, values = np.arange(n, dtype="f8"), np.arange(2.0 * n * n, dtype="f4").reshape(2, n, n)
    fields = {
        "v": (("time", "lat", "lon"), values, {"units": "K"}),
        "w": (("time", "lat", "lon"), values.astype("i4"), {"units": "1"}),
    }
    source = xr.Dataset(
        fields,
        {
            "time": ("time", [0, 1], {"units": "days since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", labels, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", labels, {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    source.to_netcdf(tmp_path / "diagonal.nc")
    cube = stored(str(tmp_path / "diagonal.nc"), chunks={"time": 2, "lat": 3, "lon": 3})
    points = "MULTIPOINT(" + ",".join(f"({at} {at})" for at in range(n)) + ")"
    store = cube.engine.path(cube.dataset_id, VERSION)
    for field, row, column in itertools.product("vw", range(4), range(4)):
        if row != column:
            (store / field / "c" / "0" / str(row) / str(column)).unlink()
    small = serve(chunks=8)
    for form in ("covjson", "csv"):
        query = {"coords": points, "f": form}
        answer = small.get(f"/ogcapi/collections/{cube.dataset_id}/position", params=query)
        assert answer.status_code == 200, answer.text
        told = small.get(f"/ogcapi/collections/{cube.dataset_id}/position", params={**query, "estimate": "true"}).json()
        assert told["chunks"] == 8
        wanted = [float(values[step, at, at]) for step in range(2) for at in range(n)]
        if form == "covjson":
            for field in "vw":
                assert answer.json()["ranges"][field]["values"] == wanted
        else:
            rows = [row.split(",") for row in answer.text.split()[1:]]
            assert [[float(each) for each in row[-2:]] for row in rows] == [[each, each] for each in wanted]
    for kind, query in (
        ("position", {"coords": points}),
        ("trajectory", {"coords": "MULTILINESTRING((0 0,2 2),(3 3,5 5),(6 6,8 8),(9 9,11 11))"}),
        ("corridor", {"coords": "LINESTRING(0 0,11 11)", "corridor-width": "40", "width-units": "km"}),
        ("area", {"coords": "POLYGON((0 0,0.5 0,11 10.5,11 11,10.5 11,0 0.5,0 0))"}),
        ("radius", {"coords": "POINT(1 1)", "within": "200", "within-units": "km"}),
    ):
        for form in ("covjson", "csv", "netcdf", "zarr"):
            asked = {**query, "f": form}
            answer = small.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params=asked)
            assert answer.status_code == 200, (kind, form, answer.text)
            told = small.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params={**asked, "estimate": "true"}).json()
            assert (told["chunks"], told["allowed"]) == (2 if kind == "radius" else 8, True), (kind, form)
            if form == "netcdf":
                with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as found:
                    held = np.unique(found.v.isel(time=0).values[np.isfinite(found.v.isel(time=0).values)])
                    places = found.v.lat.values.size
                assert np.isin(np.diagonal(values[0])[: 3 if kind == "radius" else n], held).all(), (kind, held, places)
    # A triangle has chunks beside the diagonal.
    half = {"coords": "POLYGON((0 0,11 0,11 11,0 0))"}
    refused = small.get(f"/ogcapi/collections/{cube.dataset_id}/area", params=half)
    assert (refused.status_code, refused.json()["value"]) == (413, 20)
    beside = client.get(f"/ogcapi/collections/{cube.dataset_id}/position", params={"coords": "POINT(11 0)"})
    assert beside.status_code == 500, "a missing chunk is never read as values"


@pytest.fixture(scope="module")
def past_180(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, xr.Dataset]:
    """Web Mercator from 177.5° E to 177.5° W, whose x goes on beyond 20,037,508 m."""
    degree = 20037508.342789244 / 180
    x, y = np.arange(178.0, 183) * degree, np.arange(3.0) * degree
    data = xr.Dataset({"t": (("time", "y", "x"), np.arange(15.0).reshape(1, 3, 5), {"units": "K", "grid_mapping": "crs"})})
    data["crs"] = ((), 0, CRS.from_epsg(3857).to_cf())
    about = {"units": "m", "standard_name": "projection_x_coordinate"}
    data = data.assign_coords(
        x=("x", x, about),
        y=("y", y, {**about, "standard_name": "projection_y_coordinate"}),
        time=np.array(["2020-01-01"], "M8[ns]"),
    )
    path = tmp_path_factory.mktemp("seam") / "past-180.nc"
    data.to_netcdf(path, engine="netcdf4")
    return stored(str(path)), data


def test_a_grid_past_the_seam_of_its_projection_answers_on_both_sides(client: httpx.Client, past_180: Any) -> None:
    cube, data = past_180
    truth, base = data.t.isel(time=0), f"/ogcapi/collections/{cube.dataset_id}"

    def values(kind: str, **query: str) -> list[Any]:
        answer = client.get(f"{base}/{kind}", params={"f": "covjson", **query})
        assert answer.status_code == 200, answer.text
        return answer.json()["ranges"]["t"]["values"]

    for column, lon in enumerate((178, 179, 180, -179, -178)):
        wanted = float(truth.isel(x=column, y=1))
        for turned in (lon + 0.2, lon - 0.2):
            assert values("position", coords=f"POINT({(turned + 180) % 360 - 180} 1)") == [wanted]
    beyond = truth.isel(x=slice(3, 5)).values.ravel().tolist()
    assert values("coverage", bbox="-179.4,-0.4,-177.6,2.4") == beyond
    assert values("cube", bbox="178.6,-0.4,-178.6,2.4") == truth.isel(x=slice(1, 4)).values.ravel().tolist()
    assert values("coverage", bbox="-180,-90,180,90") == truth.values.ravel().tolist()
    assert values("area", coords="POLYGON((-179.4 -0.4,-177.6 -0.4,-177.6 2.4,-179.4 2.4,-179.4 -0.4))") == beyond
    assert values("trajectory", coords="LINESTRING(178 1,182 1)") == truth.isel(y=1).values.tolist()
    assert values("trajectory", coords="LINESTRING(-178 1,-179 1)") == truth.isel(y=1, x=[4, 3]).values.tolist()
    for kind, query in (("coverage", {"bbox": "-10,-1,10,1"}), ("position", {"coords": "POINT(-176 1)"})):
        assert client.get(f"{base}/{kind}", params=query).status_code == 404


def test_times_of_a_line_need_a_time_axis(client: httpx.Client, put: Any) -> None:
    day = unix("2020-01-30T00:00:00")
    wrong = client.get(
        f"/ogcapi/collections/{put('days-of-360').dataset_id}/trajectory",
        params={"coords": f"LINESTRING M(1 1 {day},9 9 {day + 86_400})"},
    )
    assert wrong.status_code == 400
    assert "a day that the calendar 360_day does not have" in wrong.text


@pytest.mark.parametrize(("kilometres", "metres"), [(20, 5), pytest.param(60, 30, marks=pytest.mark.slow)])
def test_a_corridor_around_a_descent_is_found_again_by_brute_force(
    client: httpx.Client, stored: Any, kilometres: int, metres: int
) -> None:
    cube = stored("cmems_mod_bal_phy_anfc_P1D.nc")
    truth = cube.truth().isel(time=1)
    corners = np.array([[23.27, 59.11, 0.8], [23.6, 59.52, 33.3], [23.41, 59.9, 4.1]])
    line = f"LINESTRING Z({','.join(' '.join(map(str, each)) for each in corners)})"
    found = ask(
        client, cube, "corridor", coords=line, corridor_width=str(kilometres), width_units="km", corridor_height=str(metres),
        height_units="m", datetime=cube.description.temporal.end[:8] + "02", parameter_name="thetao",
    )  # fmt: skip
    axes = {axis: found["domain"]["axes"][axis]["values"] for axis in "xyz"}
    shape = dict(zip(found["ranges"]["thetao"]["axisNames"], found["ranges"]["thetao"]["shape"], strict=True))
    seen = np.array(found["ranges"]["thetao"]["values"], "f8").reshape(shape["z"], shape["y"], shape["x"])
    near = truth.thetao.sel(longitude=axes["x"], latitude=axes["y"], depth=axes["z"], method="nearest")
    values = near.transpose("depth", "latitude", "longitude").values
    way = np.concatenate([np.linspace(a, b, 2_000) for a, b in itertools.pairwise(corners)])
    doubtful = 0
    for j, lat in enumerate(axes["y"]):
        for i, lon in enumerate(axes["x"]):
            _, _, far = Geod(ellps="sphere").inv(np.full(len(way), lon), np.full(len(way), lat), way[:, 0], way[:, 1])
            nearest = int(np.argmin(far))
            for k, depth in enumerate(axes["z"]):
                across, up = far[nearest] / (kilometres * 500), abs(depth - way[nearest, 2]) / (metres / 2)
                if abs(across - 1) < 0.02 or abs(up - 1) < 0.02:
                    doubtful += 1
                    continue
                expected = values[k, j, i] if across < 1 and up < 1 else np.nan
                assert np.array_equal(np.float32(seen[k, j, i]), np.float32(expected), equal_nan=True), (lon, lat, depth)
    assert doubtful < seen.size / 4
    assert np.isfinite(seen).any()


@pytest.mark.parametrize("more", [{}, {"corridor-width": "0", "width-units": "km"}, {"corridor-width": "1", "width-units": "ft"}])
def test_a_corridor_needs_its_width(client: httpx.Client, put: Any, more: dict[str, str]) -> None:
    address = f"/ogcapi/collections/{put('south-up').dataset_id}/corridor"
    assert client.get(address, params={"coords": "LINESTRING(0 0,1 1)", **more}).status_code == 400


def test_members_and_other_axes_are_chosen_by_subset(client: httpx.Client, put: Any) -> None:
    cube = put("members")
    data = FAMILIES["members"].make()
    (axis,) = [each for each in cube.description.axes if each.kind == "member"]
    label = data[axis.name].values[1].item()
    lon, lat = float(data["lon"][1]), float(data["lat"][2])
    chosen = {"coords": f"POINT({lon} {lat})", "datetime": "2020-01-02", "subset": f"{axis.name}({label})"}
    found = ask(client, cube, "position", **chosen)
    truth = data["t"].isel({axis.dimension: 1, "time": 1}).sel(lon=lon, lat=lat)
    assert found["ranges"]["t"]["values"] == [float(truth)]
    refused = client.get(f"/ogcapi/collections/{cube.dataset_id}/position", params={"coords": "POINT(0 0)", "subset": "nothing(1)"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["loc"] == ["query", "subset"]


@pytest.mark.usefixtures("no_zones")
def test_named_areas_are_features_and_queries(client: httpx.Client, put: Any, shelf: Any) -> None:
    cube = put("south-up")
    triangle = {"type": "Polygon", "coordinates": [[[-20, -20], [20, -20], [-20, 20], [-20, -20]]]}
    shelf.areas = {
        "half": Extent(extent_id="half", bbox=(-20, -20, 20, 20), name="Half of it", geometry=triangle),
        "box": Extent(extent_id="box", bbox=(-5, -5, 5, 5)),
        "far": Extent(extent_id="far", bbox=(100, 50, 110, 60)),
        "pacific": Extent(extent_id="pacific", bbox=(170, -20, -170, 20)),
    }
    try:
        base = f"/ogcapi/collections/{cube.dataset_id}/locations"
        features = client.get(base).json()["features"]
        assert [each["id"] for each in features] == ["half", "box"]
        assert all(shapely.geometry.shape(each["geometry"]).is_valid for each in features)
        for each, polygon in (
            ("half", shapely.to_wkt(shapely.geometry.shape(triangle))),
            ("box", "POLYGON((-5 -5,5 -5,5 5,-5 5,-5 -5))"),
        ):
            ours = ask(client, cube, f"locations/{each}", datetime="2020-01-01")
            assert ours == ask(client, cube, "area", coords=polygon, datetime="2020-01-01")
            assert client.get(features[0]["properties"]["edrqueryendpoint"]).status_code == 200
        assert client.get(f"{base}/far").status_code == 404
        assert client.get(f"{base}/half", params={"coords": "POINT(0 0)"}).status_code == 400
        assert client.get(f"{base}/half", params={"f": "csv"}).headers["content-type"].startswith("text/csv")
        crossing = put("over-the-dateline")
        areas = client.get(f"/ogcapi/collections/{crossing.dataset_id}/locations").json()["features"]
        assert [each["id"] for each in areas] == ["pacific"]
        assert areas[0]["geometry"]["type"] == "MultiPolygon"
        whole = ask(client, crossing, "locations/pacific", datetime="2020-01-01")
        assert len(present(whole)) == 25
    finally:
        shelf.areas = {}


def test_instances_are_versions(client: httpx.Client, put: Any) -> None:
    cube = put("south-up")
    base = f"/ogcapi/collections/{cube.dataset_id}/instances"
    (only,) = client.get(base).json()["instances"]
    assert only["id"] == VERSION
    assert client.get(f"{base}/{VERSION}").json()["id"] == f"{cube.dataset_id}@{VERSION}"
    answer = client.get(f"{base}/{VERSION}/position", params={"coords": "POINT(0 0)"})
    assert "immutable" in answer.headers["cache-control"]
    assert answer.json() == ask(client, cube, "position", coords="POINT(0 0)")
    assert client.get(f"{base}/{'0' * 32}").status_code == 404
    assert client.get(f"/ogcapi/collections/{cube.dataset_id}@{VERSION}/instances/{VERSION}").status_code == 404


def test_owslib_asks_trajectories_and_lists_instances(client: httpx.Client, put: Any) -> None:
    from owslib.ogcapi.edr import EnvironmentalDataRetrieval

    cube = put("south-up")
    edr = EnvironmentalDataRetrieval(f"{str(client.base_url).rstrip(chr(47))}/ogcapi")
    found = edr.query_data(cube.dataset_id, "trajectory", coords=LINES["south-up"], parameter_names=["t"], datetime="2020-01-01")
    assert b"MultiPoint" in found.read() if hasattr(found, "read") else "MultiPoint" in str(found)
