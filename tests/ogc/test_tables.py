"""Tables of zones over a socket: the numbers first, each against a value that was found another way."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shapely
import xarray as xr
from shapely.geometry import mapping

from cubeport.cubes.zones import Zone, ZoneSet
from cubeport.service import tables
from cubeport.service.tables import TableLimits

LON = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
LAT = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}


def cube(
    lon: np.ndarray,
    lat: np.ndarray,
    values: np.ndarray,
    *,
    start: str = "2020-01-01",
    calendar: str = "standard",
    **attributes: str,
) -> xr.Dataset:
    """Return a cube of daily steps whose values are given."""
    time = xr.DataArray(
        np.arange(len(values), dtype="f8"), dims="time", attrs={"units": f"days since {start}", "calendar": calendar, "axis": "T"}
    )
    data = xr.Dataset({"v": (("time", "lat", "lon"), values, {"units": "K", "long_name": "Value", **attributes})})
    return data.assign_coords(lon=("lon", lon, LON), lat=("lat", lat, LAT), time=time)


def zones(name: str, **shapes: Any) -> ZoneSet:
    return ZoneSet(name, tuple(Zone(each, each.title(), shape) for each, shape in shapes.items()))


@pytest.fixture(scope="module")
def keep(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    folder = tmp_path_factory.mktemp("tables")

    def put(name: str, data: xr.Dataset, **options: Any) -> str:
        file = folder / f"{name}.nc"
        if not file.exists():
            data.to_netcdf(file)
            shelf.keep(name, file, **options)
        return name

    return put


@pytest.fixture(scope="module")
def ask(client: httpx.Client, shelf: Any) -> Callable[..., list[dict[str, Any]]]:
    """Return the rows of a table as JSON; zones are sent unless they are named."""

    def rows(dataset: str, zone_set: ZoneSet | None = None, **parameters: Any) -> list[dict[str, Any]]:
        given = {name.replace("_", "-"): value for name, value in parameters.items()}
        if zone_set is not None:
            shelf.zones[zone_set.id] = zone_set
            given["zones"] = zone_set.id
        answer = client.get(f"/datasets/{dataset}/table", params={"f": "json", **given})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["rows"]
        return found

    return rows


def value_of(rows: list[dict[str, Any]], zone: str, period: str | None = None) -> float | None:
    found: list[float | None] = [each["value"] for each in rows if each["zone"] == zone and period in (None, each["period"])]
    assert len(found) == 1, rows
    return found[0]


RNG = np.random.default_rng(7)
LON10, LAT10 = np.arange(5.0, 60, 10), np.arange(-45.0, 50, 10)
FIELD = RNG.normal(280, 15, (3, len(LAT10), len(LON10))).round(3)


def band(low: float, high: float) -> float:
    return float(np.sin(np.radians(high)) - np.sin(np.radians(low)))


@pytest.fixture(scope="module")
def plain(keep: Callable[..., str]) -> str:
    return keep("plain", cube(LON10, LAT10, FIELD))


class TestNumbers:
    def test_a_box_takes_each_cell_by_its_part_and_by_its_area_on_the_sphere(self, plain: str, ask: Any) -> None:
        rows = ask(plain, zones("box", box=shapely.box(5, 35, 20, 47.5)), datetime="2020-01-02")
        weights = np.array(
            [[0.5 * 10 * band(30, 40) * 0.5, 10 * band(30, 40) * 0.5], [0.5 * 10 * band(40, 50) * 0.75, 10 * band(40, 50) * 0.75]]
        )
        wanted = (FIELD[1, 8:10, 0:2] * weights).sum() / weights.sum()
        assert rows[0]["value"] == pytest.approx(wanted, rel=1e-12)
        assert (rows[0]["period"], rows[0]["cells"], rows[0]["share"]) == ("2020-01-02", 4, 1.0)

    def test_what_is_kept_of_one_table_is_not_given_to_another(self, keep: Any, ask: Any) -> None:
        """The same zones on two datasets of one grid, two times, two statistics and two sets of zones, each asked twice."""
        other = FIELD + 500
        names = {keep("kept-a", cube(LON10, LAT10, FIELD)): FIELD, keep("kept-b", cube(LON10, LAT10, other)): other}
        sets = {"first": (5, 0), "second": (7, 3)}  # the row and the column of the cell in the zone
        drawn = {
            name: zones(
                name, one=shapely.box(LON10[x] - 5, LAT10[y] - 5, LON10[x] + 5, LAT10[y] + 5), two=shapely.box(0, -50, 60, 50)
            )
            for name, (y, x) in sets.items()
        }
        for _ in range(2):
            for dataset, field in names.items():
                for name, (y, x) in sets.items():
                    for day in (0, 2):
                        for statistic, of in (("min", np.min), ("max", np.max)):
                            rows = ask(dataset, drawn[name], datetime=f"2020-01-0{day + 1}", statistic=statistic)
                            found = {each["zone"]: each["value"] for each in rows}
                            assert found == {"one": field[day, y, x], "two": of(field[day])}
                    assert [each["zone"] for each in ask(dataset, drawn[name], zone="two")] == ["two"] * 3

    def test_every_statistic_is_that_of_its_cells(self, plain: str, ask: Any) -> None:
        asked = "mean,sum,min,max,median,stdev,count,p25,share(1)"
        rows = ask(plain, zones("box", box=shapely.box(0, 0, 20, 15)), datetime="2020-01-01", statistic=asked)
        cells = np.array([FIELD[0, 5, 0], FIELD[0, 5, 1], FIELD[0, 6, 0], FIELD[0, 6, 1]])
        parts = np.array([1, 1, 0.5, 0.5])
        area = parts * np.array([band(0, 10)] * 2 + [band(10, 20)] * 2)
        mean = (cells * area).sum() / area.sum()
        found = {each["statistic"]: each["value"] for each in rows}
        assert found["mean"] == pytest.approx(mean, rel=1e-12)
        assert found["sum"] == pytest.approx((cells * parts).sum(), rel=1e-12)
        assert (found["min"], found["max"]) == (cells.min(), cells.max())
        assert found["stdev"] == pytest.approx(np.sqrt((area * (cells - mean) ** 2).sum() / area.sum()), rel=1e-9)
        assert found["count"] == pytest.approx(3.0, rel=1e-12)
        assert found["share(1)"] == 0
        assert cells.min() < found["p25"] < found["median"] < cells.max()

    def test_percentiles_of_equal_weights_are_those_of_numpy(self, keep: Any, ask: Any) -> None:
        # One row of cells: every area is the same.
        values = RNG.normal(0, 1, (2, 2, 9)).round(4)
        name = keep("row", cube(np.arange(5.0, 95, 10), np.array([-5.0, 5.0]), values))
        rows = ask(name, zones("r", r=shapely.box(0, 0, 90, 10)), datetime="2020-01-01", statistic="median,p10,p95,p0,p100")
        found = {each["statistic"]: each["value"] for each in rows}
        for text, percent in (("median", 50), ("p10", 10), ("p95", 95), ("p0", 0), ("p100", 100)):
            assert found[text] == pytest.approx(np.percentile(values[0, 1], percent), rel=1e-9), text

    @pytest.mark.parametrize("way", ["north-up", "0-360", "lon-first", "packed"])
    def test_twins_of_a_cube_have_the_same_table(self, keep: Any, ask: Any, way: str) -> None:
        lon, lat = np.arange(-175.0, 180, 10), np.arange(-85.0, 90, 10)
        values = np.random.default_rng(3).integers(0, 1000, (2, len(lat), len(lon))).astype("f4")
        base = cube(lon, lat, values)
        twins = {
            "north-up": lambda: base.isel(lat=slice(None, None, -1)),
            "0-360": lambda: base.assign_coords(lon=("lon", lon % 360, LON)).sortby("lon"),
            "lon-first": lambda: base.transpose("lon", "lat", "time"),
            "packed": lambda: base.assign(v=(base.v.dims, values, {**base.v.attrs})),
        }
        twin = twins[way]()
        if way == "packed":
            twin.v.encoding = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -1}
        shapes = zones(
            "twins",
            west=shapely.Polygon([(-30, -20), (33, 7), (4, 61.5), (-21, 40)]),
            seam=shapely.MultiPolygon([shapely.box(170, -10, 180, 22), shapely.box(-180, -10, -171, 22)]),
        )
        one = ask(keep("base", base), shapes)
        other = ask(keep(f"twin-{way}", twin), shapes)
        assert [(each["zone"], each["cells"]) for each in one] == [(each["zone"], each["cells"]) for each in other]
        np.testing.assert_allclose([each["value"] for each in other], [each["value"] for each in one], rtol=1e-12)
        np.testing.assert_allclose([each["share"] for each in other], 1.0)

    def test_a_zone_over_the_antimeridian_may_be_in_two_parts_or_run_past_180(self, keep: Any, ask: Any) -> None:
        lon, lat = np.arange(-175.0, 180, 10), np.arange(-85.0, 90, 10)
        name = keep("seam", cube(lon, lat, RNG.normal(0, 1, (1, len(lat), len(lon)))))
        parts = shapely.MultiPolygon([shapely.box(172, -7, 180, 9), shapely.box(-180, -7, -166, 9)])
        rows = ask(name, zones("s", parts=parts, past=shapely.box(172, -7, 194, 9), before=shapely.box(-188, -7, -166, 9)))
        assert rows[0]["value"] == pytest.approx(rows[1]["value"], rel=1e-12)
        assert rows[0]["value"] == pytest.approx(rows[2]["value"], rel=1e-12)
        assert [each["cells"] for each in rows] == [6, 6, 6]

    def test_holes_islands_and_zones_outside(self, plain: str, ask: Any) -> None:
        outer, hole = shapely.box(0, 0, 30, 20), shapely.box(10, 0, 20, 10)
        shapes = zones(
            "odd",
            holed=outer.difference(hole),
            island=shapely.Point(13, 7).buffer(0.01),
            house=shapely.Point(13, 7).buffer(1e-5),
            outside=shapely.box(-100, 0, -90, 10),
            edge=shapely.box(-10, 0, 10, 10),
        )
        rows = {each["zone"]: each for each in ask(plain, shapes, datetime="2020-01-01")}
        cells = [(5, 0), (5, 2), (6, 0), (6, 1), (6, 2)]
        area = np.array([band(0, 10)] * 2 + [band(10, 20)] * 3)
        wanted = (np.array([FIELD[0, r, c] for r, c in cells]) * area).sum() / area.sum()
        assert rows["holed"]["value"] == pytest.approx(wanted, rel=1e-12)
        for small in ("island", "house"):
            assert (rows[small]["value"], rows[small]["cells"]) == (FIELD[0, 5, 1], 1)
            assert rows[small]["share"] == pytest.approx(1.0)
        assert (rows["outside"]["value"], rows["outside"]["cells"], rows["outside"]["share"]) == (None, 0, 0)
        assert rows["edge"]["value"] == FIELD[0, 5, 0]
        assert rows["edge"]["share"] == pytest.approx(0.5, abs=1e-6)

    def test_the_sum_over_a_partition_is_the_sum_over_the_union(self, plain: str, ask: Any) -> None:
        whole = shapely.Polygon([(2, -33), (48, -21), (41, 38), (11, 27)])
        left, right = (whole.intersection(shapely.box(*box)) for box in ((-9, -90, 23.7, 90), (23.7, -90, 99, 90)))
        rows = ask(plain, zones("p", whole=whole, left=left, right=right), datetime="2020-01-03", statistic="sum")
        assert value_of(rows, "left") + value_of(rows, "right") == pytest.approx(value_of(rows, "whole"), rel=1e-11)

    def test_missing_cells_count_for_nothing_and_show_in_the_share(self, keep: Any, ask: Any) -> None:
        values = FIELD.copy()
        values[0, 5, 0] = np.nan
        name = keep("holes", cube(LON10, LAT10, values))
        rows = ask(name, zones("m", m=shapely.box(0, 0, 20, 10)), datetime="2020-01-01")
        assert (rows[0]["value"], rows[0]["cells"], rows[0]["share"]) == (values[0, 5, 1], 1, 0.5)

    def test_a_projected_grid_weighs_the_area_in_its_own_plane(self, keep: Any, ask: Any) -> None:
        import pyproj

        x, y = np.arange(-900.0, 1000, 200), np.arange(900.0, -1000, -200)
        values = RNG.normal(0, 10, (1, len(y), len(x)))
        crs = pyproj.CRS.from_epsg(3413)
        time = xr.DataArray([0.0], dims="time", attrs={"units": "days since 2020-01-01", "axis": "T"})
        data = xr.Dataset({"v": (("time", "y", "x"), values, {"units": "m", "grid_mapping": "crs"}), "crs": ((), 0, crs.to_cf())})
        data = data.assign_coords(
            x=("x", x, {"standard_name": "projection_x_coordinate", "units": "km", "axis": "X"}),
            y=("y", y, {"standard_name": "projection_y_coordinate", "units": "km", "axis": "Y"}),
            time=time,
        )
        name = keep("polar", data)
        shape = shapely.Polygon([(-60, 84), (-20, 83), (10, 86), (-40, 87.5)])
        rows = ask(name, zones("north", north=shape))
        onto = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
        fine = shapely.transform(shapely.segmentize(shape, 0.1), lambda p: np.column_stack(onto.transform(p[:, 0], p[:, 1])) / 1000)
        weights = np.array([[shapely.box(a - 100, b - 100, a + 100, b + 100).intersection(fine).area for a in x] for b in y])
        assert rows[0]["value"] == pytest.approx((values[0] * weights).sum() / weights.sum(), rel=1e-6)
        assert rows[0]["cells"] == (weights > 1e-3).sum()

    @pytest.mark.parametrize("at_once", [1, 100, 1 << 18], ids=["by row", "few zones", "all"])
    def test_random_polygons_take_what_shapely_finds(self, at_once: int) -> None:
        from cubeport.cubes.cells import cells
        from cubeport.cubes.tables.weights import StraightGrid, weigh

        lon, lat = np.array([0.0, 1, 2.5, 4.5, 7, 8]), np.arange(10.0, 0, -1.25)
        grid = StraightGrid(
            cells(lon, None, spread=True, circle=True), cells(lat, None, spread=True, latitude=True), spherical=True
        )
        shapes = {}
        for number in range(60):
            points = RNG.uniform((-1, -1), (9, 12), (RNG.integers(4, 9), 2))
            shape = shapely.convex_hull(shapely.MultiPoint(points))
            shapes[f"z{number}"] = shape if number % 2 else shape.difference(shapely.Point(points[0]).buffer(0.8)).buffer(0)
        found = weigh(grid, zones("random", **shapes), at_once=at_once)
        for place, shape in enumerate(shapes.values()):
            mine = slice(found.starts[place], found.starts[place + 1])
            got = {(int(r), int(c)): f for r, c, f in zip(*(each[mine] for each in (*found.indices, found.fractions)), strict=True)}
            for row in range(len(lat)):
                for column in range(len(lon)):
                    cell = shapely.box(grid.x.lower[column], grid.y.lower[row], grid.x.upper[column], grid.y.upper[row])
                    assert got.get((row, column), 0.0) == pytest.approx(cell.intersection(shape).area / cell.area, abs=2e-9)

    @pytest.mark.parametrize("at_once", [1, 1 << 18], ids=["by row", "all"])
    def test_zones_over_the_seam_take_what_each_of_them_takes_alone(self, at_once: int) -> None:
        from cubeport.cubes.cells import cells
        from cubeport.cubes.tables.weights import StraightGrid, weigh

        grid = StraightGrid(
            cells(np.arange(0.0, 360, 7.5), None, spread=True, circle=True),
            cells(np.arange(85.0, -86, -10), None, spread=True, latitude=True),
            spherical=True,
        )
        rng = np.random.default_rng(4)
        shapes = {}
        for number in range(12):
            middle = rng.uniform((-180, -60), (180, 60))
            points = middle + rng.uniform((-30, -25), (30, 25), (7, 2))
            shapes[f"z{number}"] = shapely.convex_hull(shapely.MultiPoint(points))
        found = weigh(grid, zones("random", **shapes), at_once=at_once)
        taken = [set(zip(*(each[a:b].tolist() for each in found.indices), strict=True)) for a, b in pairwise(found.starts)]
        assert any({0, 47} <= {column for _, column in mine} for mine in taken), "some zone has cells on both sides of the seam"
        for place, (name, shape) in enumerate(shapes.items()):
            mine = slice(found.starts[place], found.starts[place + 1])
            plane = 10 * 7.5 * found.fractions[mine].sum()
            assert plane == pytest.approx(shape.area, rel=1e-9)
            alone = weigh(grid, zones("one", **{name: shape}))
            assert set(zip(*(each.tolist() for each in alone.indices), strict=True)) == taken[place]
            assert found.totals[place] == pytest.approx(alone.totals[0], rel=1e-12)


ONE = shapely.box(0, 0, 20, 10)


def daily(days: int, *, start: str = "2020-01-01", calendar: str = "standard", **attributes: str) -> xr.Dataset:
    """Return a cube whose value is the number of its day, from 0, everywhere."""
    values = np.broadcast_to(np.arange(days, dtype="f8")[:, None, None], (days, 3, 4)).copy()
    return cube(np.arange(5.0, 45, 10), np.arange(-5.0, 20, 10), values, start=start, calendar=calendar, **attributes)


def test_another_statistic_reads_first_what_is_in_memory(
    shelf: Any, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cache for 12 of 16 chunks, reading in order would find none of them: each new one takes the place of the next."""
    chunk = 4 * len(LAT10) * len(LON10) * 8
    values = RNG.normal(280, 15, (64, len(LAT10), len(LON10)))
    cube(LON10, LAT10, values).to_netcdf(tmp_path / "longer.nc")
    shelf.keep("longer", tmp_path / "longer.nc", chunks={"time": 4, "lat": len(LAT10), "lon": len(LON10)})
    shelf.zones["one"] = zones("one", one=shapely.box(0, -50, 60, 50))
    monkeypatch.setattr(tables, "_SLAB_BYTES", chunk)
    client = serve(cache_bytes=12 * chunk + 1000)  # and three coordinates
    chunks = client.queries.versions.caches["chunks"]
    for decoded, (statistic, of) in zip((3 + 16, 4, 4), (("max", np.max), ("min", np.min), ("count", np.size)), strict=True):
        before = chunks.misses
        rows = client.get("/datasets/longer/table", params={"zones": "one", "statistic": statistic, "f": "json"}).json()["rows"]
        assert [each["value"] for each in rows] == [of(each) for each in values]
        assert chunks.misses - before == decoded


class TestPeriods:
    def test_a_month_is_the_mean_of_its_days(self, keep: Any, ask: Any) -> None:
        name = keep("days", daily(91), period_type="daily")
        rows = ask(name, zones("one", one=ONE), period="month")
        assert [(each["period"], each["value"]) for each in rows] == [("2020-01", 15.0), ("2020-02", 45.0), ("2020-03", 75.0)]

    def test_an_amount_is_summed_and_a_named_method_wins(self, keep: Any, ask: Any, client: httpx.Client) -> None:
        name = keep("amounts", daily(31, cell_methods="time: sum", standard_name="precipitation_amount"), period_type="daily")
        assert ask(name, zones("one", one=ONE), period="month")[0]["value"] == sum(range(31))
        assert ask(name, zones("one", one=ONE), period="month", period_statistic="max")[0]["value"] == 30
        answer = client.get(f"/datasets/{name}/table?zones=one&period=month")
        assert answer.headers["cubeport-period-statistic"] == "v=sum (cell_methods)"
        assumed = client.get(f"/datasets/{keep('days', daily(91), period_type='daily')}/table?zones=one&period=month")
        assert assumed.headers["cubeport-period-statistic"] == "v=mean (assumed)"

    def test_a_period_with_too_few_days_is_missing(self, keep: Any, ask: Any) -> None:
        name = keep("part", daily(31 + 20), period_type="daily")
        rows = ask(name, zones("one", one=ONE), period="month")
        assert [each["value"] for each in rows] == [15.0, None]
        assert rows[1]["share"] == pytest.approx(20 / 29, abs=1e-5)
        assert ask(name, zones("one", one=ONE), period="month", min_share="0.5")[1]["value"] == 40.5

    def test_a_missing_day_is_left_out_of_its_month(self, keep: Any, ask: Any) -> None:
        data = daily(31)
        data.v[4] = np.nan
        rows = ask(keep("hole", data, period_type="daily"), zones("one", one=ONE), period="month")
        assert rows[0]["value"] == pytest.approx(np.delete(np.arange(31), 4).mean())
        assert rows[0]["share"] == pytest.approx(30 / 31, abs=1e-5)

    def test_datetime_chooses_whole_periods(self, keep: Any, ask: Any) -> None:
        name = keep("days", daily(91), period_type="daily")
        rows = ask(name, zones("one", one=ONE), period="month", datetime="2020-01-25/2020-02-02")
        assert [(each["period"], each["value"]) for each in rows] == [("2020-01", 15.0), ("2020-02", 45.0)]

    def test_a_winter_goes_over_new_year_and_has_the_year_it_ends_in(self, keep: Any, ask: Any) -> None:
        name = keep("winter", daily(182, start="2020-12-01"), period_type="daily")
        rows = ask(name, zones("one", one=ONE), period="season")
        assert [each["period"] for each in rows] == ["2021-DJF", "2021-MAM"]
        assert rows[0]["value"] == np.arange(90).mean()

    @pytest.mark.parametrize(
        ("period", "labels"),
        [
            ("dekad", ["2020-01-01", "2020-01-11", "2020-01-21"]),
            ("week", ["2019-W53", "2020-W01"]),
            ("quarter", ["2020-Q1"]),
            ("year", ["2020"]),
            ("day", ["2020-01-01", "2020-01-02"]),
        ],
    )
    def test_each_kind_of_period_has_its_labels(self, keep: Any, ask: Any, period: str, labels: list[str]) -> None:
        name = keep("days", daily(91), period_type="daily")
        found = [each["period"] for each in ask(name, zones("one", one=ONE), period=period, min_share="0")]
        if period == "week":
            labels = ["2020-W01", "2020-W02"]
        assert found[: len(labels)] == labels

    def test_months_of_30_days(self, keep: Any, ask: Any) -> None:
        name = keep("thirty", daily(60, calendar="360_day"), period_type="daily")
        rows = ask(name, zones("one", one=ONE), period="month")
        assert [(each["period"], each["value"]) for each in rows] == [("2020-01", 14.5), ("2020-02", 44.5)]

    def test_a_week_that_lies_in_two_months_counts_in_each_by_its_days(self, keep: Any, ask: Any) -> None:
        # Weeks from Monday 30 December 2019; the fifth begins on 27 January and has five days of it.
        data = daily(10, start="2019-12-30")
        data["time"] = ("time", np.arange(10) * 7.0, data.time.attrs)
        rows = ask(
            keep("weeks", data, period_type="weekly"), zones("one", one=ONE), period="month", datetime="2020-01-10/2020-01-20"
        )
        wanted = np.average(np.arange(5), weights=[5, 7, 7, 7, 5])
        assert rows[0]["value"] == pytest.approx(wanted)

    def test_steps_longer_than_the_period_are_refused(self, keep: Any, client: httpx.Client, shelf: Any) -> None:
        data = daily(3)
        data["time"] = ("time", [0.0, 31, 60], data.time.attrs)
        name = keep("months", data, period_type="monthly")
        shelf.zones["one"] = zones("one", one=ONE)
        answer = client.get(f"/datasets/{name}/table?zones=one&period=day")
        assert answer.status_code == 400
        assert "longer than a day" in answer.json()["detail"]


def monthly(years: int, *, start: int = 2000, units: str = "K") -> xr.Dataset:
    """Return months whose value is 10 for each month of the year, and 1 for each year."""
    count = 12 * years
    months = np.arange(count)
    values = (10.0 * (months % 12) + months // 12)[:, None, None] + np.zeros((1, 3, 4))
    stamps = np.array([np.datetime64(f"{start + at // 12}-{at % 12 + 1:02d}-01") for at in range(count)])
    data = cube(np.arange(5.0, 45, 10), np.arange(-5.0, 20, 10), values, units=units)
    numbers = (stamps - np.datetime64("2000-01-01")).astype("timedelta64[D]").astype("f8")
    return data.assign_coords(time=("time", numbers, {"units": "days since 2000-01-01", "axis": "T"}))


class TestDepartures:
    def test_a_month_less_the_mean_of_that_month(self, keep: Any, ask: Any) -> None:
        name = keep("normal", monthly(12), period_type="monthly")
        rows = ask(name, zones("one", one=ONE), datetime="2011", relative_to="2000/2009")
        # The mean of years 0 to 9 is 4.5, and 2011 is year 11.
        assert [each["value"] for each in rows] == pytest.approx([6.5] * 12)

    def test_in_standard_deviations_and_in_percent(self, keep: Any, ask: Any, client: httpx.Client, shelf: Any) -> None:
        name = keep("rain", monthly(12, units="mm"), period_type="monthly")
        rows = ask(name, zones("one", one=ONE), datetime="2011-03", relative_to="2000/2009", departure="standard")
        assert rows[0]["value"] == pytest.approx(6.5 / np.arange(10).std(ddof=1))
        rows = ask(name, zones("one", one=ONE), datetime="2011-03", relative_to="2000/2009", departure="percent")
        assert rows[0]["value"] == pytest.approx(100 * 6.5 / 24.5)
        kelvin = keep("normal", monthly(12), period_type="monthly")
        refused = client.get(f"/datasets/{kelvin}/table?zones=one&relative-to=2000/2009&departure=percent")
        assert (refused.status_code, refused.json()["kind"]) == (400, "invalid-request")

    def test_years_that_are_not_there_are_no_normal(self, keep: Any, client: httpx.Client, shelf: Any) -> None:
        name = keep("normal", monthly(12), period_type="monthly")
        shelf.zones["one"] = zones("one", one=ONE)
        answer = client.get(f"/datasets/{name}/table?zones=one&relative-to=1991/2020")
        assert (answer.status_code, answer.json()["kind"]) == (409, "no-data")
        assert client.get(f"/datasets/{name}/table?zones=one&relative-to=2000/2014").status_code == 200

    def test_a_plot_draws_the_departures_of_the_cell_at_a_place(self, keep: Any, client: httpx.Client) -> None:
        name = keep("normal", monthly(12), period_type="monthly")
        query = "at=17,3&t=2010/2011&relative-to=2000/2009"
        drawn = client.get(f"/datasets/{name}/plot?{query}")
        assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/svg+xml"), drawn.text
        assert "Value, departure from 2000 to 2009: 24 values from 2010-01 to 2011-12; least 5.5 K" in drawn.text
        assert "greatest 6.5 K" in drawn.text
        again = client.get(f"/datasets/{name}/plot?{query}", headers={"If-None-Match": drawn.headers["etag"]})
        assert again.status_code == 304
        refused = client.get(f"/datasets/{name}/plot?{query}&departure=percent")
        assert (refused.status_code, "percent" in refused.json()["detail"]) == (400, True)
        alone = client.get(f"/datasets/{name}/plot?at=17,3&departure=percent").json()
        assert alone["errors"][0]["loc"] == ["query", "departure"]
        assert client.get(f"/datasets/{name}/plot?at=17,3").status_code == 200

    def test_a_day_less_the_31_days_around_it(self, keep: Any, ask: Any) -> None:
        data = daily(366 + 365)
        values = np.concatenate([np.arange(366), np.arange(365)]).astype("f8")
        data["v"] = (data.v.dims, np.broadcast_to(values[:, None, None], data.v.shape).copy(), data.v.attrs)
        name = keep("daily-normal", data, period_type="daily")
        rows = ask(name, zones("one", one=ONE), datetime="2020-06-15", relative_to="2020/2021")
        day = 166
        around = [*range(day - 15, day + 16), *range(day - 16, day + 15)]
        assert rows[0]["value"] == pytest.approx(day - np.mean(around))

    def test_a_season_less_the_season(self, keep: Any, ask: Any) -> None:
        rows = ask(
            keep("normal", monthly(12), period_type="monthly"),
            zones("one", one=ONE), datetime="2010-01", period="season", relative_to="2001/2009",
        )  # fmt: skip
        assert rows[0]["period"] == "2010-DJF"
        assert rows[0]["value"] == pytest.approx(5.0, abs=0.1)


@pytest.fixture(scope="module")
def name(keep: Any, shelf: Any) -> str:
    odd = Zone("=cmd()", '+Na"me, x', ONE)
    shelf.zones["odd"] = ZoneSet("odd", (odd, Zone("b", "Bee", shapely.box(20, 0, 40, 10))))
    unit = [Zone(f"O6uvpzGd5p{letter}", letter, ONE) for letter in "uv"]
    shelf.zones["units"] = ZoneSet("units", tuple(unit))
    return str(keep("days", daily(91), period_type="daily"))


class TestForms:
    def test_csv_has_a_row_for_each_value_and_no_formula(self, client: httpx.Client, name: str) -> None:
        answer = client.get(f"/datasets/{name}/table?zones=odd&period=month")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert list(rows[0]) == ["zone", "name", "period", "variable", "statistic", "value", "cells", "share"]
        assert rows[0] == {
            "zone": "'=cmd()", "name": "'+Na\"me, x", "period": "2020-01", "variable": "v", "statistic": "mean",
            "value": "15", "cells": "2", "share": "1",
        }  # fmt: skip
        assert [row["value"] for row in rows] == ["15", "45", "75"] * 2

    def test_wide_csv_has_a_column_for_each_period(self, client: httpx.Client, name: str) -> None:
        rows = list(csv.DictReader(io.StringIO(client.get(f"/datasets/{name}/table?zones=odd&period=month&f=csv-wide").text)))
        assert rows[1] == {"zone": "b", "name": "Bee", "2020-01": "15", "2020-02": "45", "2020-03": "75"}

    def test_a_person_gets_a_page_with_the_rows_and_the_files(self, client: httpx.Client, name: str) -> None:
        address = f"/datasets/{name}/table?zones=odd&period=month"
        answer = client.get(f"{address}&f=html")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), answer.text
        rows = list(csv.reader(io.StringIO(client.get(address).text)))
        shown = re.findall("<tr>(.*?)</tr>", answer.text)
        assert [[unescape(each) for each in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in shown] == rows
        files = [unescape(each) for each in re.findall(r'<li><a href="([^"]+)"', answer.text)]
        assert len(files) == 5
        assert [client.get(each).status_code for each in files] == [200] * 5
        assert client.get(f"{address}&f=html", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert "cells" in client.get(f"{address}&f=html&estimate=true").text
        refused = client.get(f"/datasets/{name}/table?zones=nowhere&f=html")
        assert (refused.status_code, refused.headers["content-type"]) == (404, "text/html; charset=utf-8")

    def test_geojson_has_the_zones_with_their_values(self, client: httpx.Client, name: str) -> None:
        answer = client.get(f"/datasets/{name}/table?zones=odd&period=month&f=geojson&statistic=mean,max")
        feature = answer.json()["features"][1]
        assert shapely.from_geojson(json.dumps(feature["geometry"])).equals(shapely.box(20, 0, 40, 10))
        assert (feature["properties"]["v 2020-02"], feature["properties"]["v max 2020-02"]) == (45.0, 45.0)

    def test_chap_has_its_columns(self, client: httpx.Client, name: str) -> None:
        lines = client.get(f"/datasets/{name}/table?zones=odd&period=month&f=chap").text.splitlines()
        assert lines[0] == "time_period,location,v"
        assert lines[4] == "2020-01,b,15"
        weeks = client.get(f"/datasets/{name}/table?zones=odd&period=week&f=chap").text.splitlines()
        assert weeks[2].startswith("2020-W02,")
        refused = client.get(f"/datasets/{name}/table?zones=odd&period=dekad&f=chap")
        assert (refused.status_code, "period=month" in refused.json()["detail"]) == (406, True)

    @pytest.mark.parametrize(
        ("period", "text"), [("month", "202002"), ("day", "20200202"), ("week", "2020W6"), ("quarter", "2020Q1")]
    )
    def test_dhis2_has_data_values(self, client: httpx.Client, name: str, period: str, text: str) -> None:
        answer = client.get(f"/datasets/{name}/table?zones=units&period={period}&f=dhis2&data-element=fbfJHSPpUQD&min-share=0.5")
        values = answer.json()["dataValues"]
        assert {each["orgUnit"] for each in values} == {"O6uvpzGd5pu", "O6uvpzGd5pv"}
        assert {tuple(sorted(each)) for each in values} == {("dataElement", "orgUnit", "period", "value")}
        assert text in {each["period"] for each in values}

    def test_dhis2_says_what_it_needs(self, client: httpx.Client, name: str) -> None:
        missing = client.get(f"/datasets/{name}/table?zones=units&period=month&f=dhis2").json()
        assert missing["errors"][0]["loc"] == ["query", "data-element"]
        other = client.get(f"/datasets/{name}/table?zones=odd&period=month&f=dhis2&data-element=fbfJHSPpUQD").json()
        assert "organisation unit" in other["detail"]


class TestHttp:
    def test_zones_of_the_body_are_read_like_those_that_are_kept(self, client: httpx.Client, plain: str, ask: Any) -> None:
        feature = {"type": "Feature", "properties": {"code": "x"}, "geometry": mapping(shapely.box(0, 0, 20, 10))}
        answer = client.post(
            f"/datasets/{plain}/table?f=json&id_property=code", json={"type": "FeatureCollection", "features": [feature]}
        )
        assert answer.status_code == 200, answer.text
        kept = ask(plain, zones("one", x=shapely.box(0, 0, 20, 10)))
        assert [each["value"] for each in answer.json()["rows"]] == [each["value"] for each in kept]

    def test_a_ring_that_crosses_itself_is_named(self, client: httpx.Client, plain: str) -> None:
        crossed = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
        body = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "bad", "properties": {}, "geometry": crossed}]}
        answer = client.post(f"/datasets/{plain}/table", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (400, ["features", "bad"])

    def test_the_answer_is_kept_by_clients_until_zones_or_data_change(self, client: httpx.Client, plain: str, shelf: Any) -> None:
        shelf.zones["kept"] = zones("kept", a=ONE)
        first = client.get(f"/datasets/{plain}/table?zones=kept")
        again = client.get(f"/datasets/{plain}/table?zones=kept", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        shelf.zones["kept"] = zones("kept", a=shapely.box(0, 0, 30, 10))
        changed = client.get(f"/datasets/{plain}/table?zones=kept", headers={"If-None-Match": first.headers["etag"]})
        assert changed.status_code == 200

    def test_a_table_over_a_limit_is_refused_before_anything_is_read(self, serve: Any, plain: str, shelf: Any) -> None:
        shelf.zones["one"] = zones("one", one=ONE)
        small = serve(table_limits=TableLimits(rows=2))
        small.get(f"/datasets/{plain}/table?zones=one&datetime=2020-01-01").raise_for_status()
        before = len(shelf.engine.reads)
        answer = small.get(f"/datasets/{plain}/table?zones=one")
        assert answer.status_code == 413
        problem = answer.json()
        assert (problem["setting"], problem["value"], problem["limit"]) == ("limits.table_rows", 3, 2)
        assert "2 of the 3 periods" in problem["detail"]
        assert len(shelf.engine.reads) == before
        cost = small.get(f"/datasets/{plain}/table?zones=one&estimate=true").json()
        assert (cost["allowed"], cost["rows"], cost["cells"]) == (False, 3, 6)
        assert len(shelf.engine.reads) == before

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("zones=one&statistic=mode", "statistic"),
            ("zones=one&period=fortnight", "period"),
            ("zones=one&min-share=2", "min-share"),
            ("zones=one&relative-to=2020", "relative-to"),
            ("zones=one&departure=percent", "departure"),
            ("zones=one&variables=nothing", "variables"),
            ("zones=one&bbox=1,2,3,4", "bbox"),
            ("zones=one&zones=one", "zones"),
            ("", "zones"),
            ("zones=one&f=xlsx", "f"),
        ],
    )
    def test_what_is_wrong_is_named(self, client: httpx.Client, plain: str, shelf: Any, query: str, name: str) -> None:
        shelf.zones["one"] = zones("one", one=ONE)
        answer = client.get(f"/datasets/{plain}/table?{query}")
        assert answer.status_code == 400, answer.text
        assert answer.json()["errors"][0]["loc"][-1] == name

    def test_unknown_zones_are_not_found(self, client: httpx.Client, plain: str, shelf: Any) -> None:
        shelf.zones["one"] = zones("one", one=ONE)
        assert client.get(f"/datasets/{plain}/table?zones=nowhere").status_code == 404
        assert client.get(f"/datasets/{plain}/table?zones=one&zone=two").status_code == 404
        assert client.get(f"/datasets/{plain}/table?zones=one&zone=one").status_code == 200


class TestCellsOfTheirOwn:
    """Curvilinear and unstructured grids, whose cells are polygons."""

    SHAPES = zones(
        "own-cells",
        slanted=shapely.Polygon([(-30, -20), (33, 7), (4, 61.5), (-21, 40)]),
        seam=shapely.MultiPolygon([shapely.box(170, -10, 180, 22), shapely.box(-180, -10, -171, 22)]),
        past=shapely.box(170, -10, 189, 22),
        cap=shapely.box(-180, 63, 180, 90),
        small=shapely.Point(13, 7).buffer(0.01),
        outside=shapely.box(0, -90, 10, -88),
    )

    @staticmethod
    def regular(*, south: float = -85.0) -> xr.Dataset:
        lon, lat = np.arange(-175.0, 180, 10), np.arange(south, 90, 10)
        values = np.random.default_rng(5).integers(0, 1000, (2, len(lat), len(lon))).astype("f4")
        values[1, 9, 4] = np.nan
        return cube(lon, lat, values)

    def twin(self, data: xr.Dataset, dims: tuple[str, ...]) -> xr.Dataset:
        """Return the same cells with corners of their own, as a curvilinear grid or one after the other."""
        lon, lat = np.meshgrid(data.lon.values, data.lat.values)
        size = (2, len(data.lat), len(data.lon)) if len(dims) == 2 else (2, -1)
        corners = [
            np.stack([part + each for each in steps], axis=-1) for part, steps in ((lon, (-5, 5, 5, -5)), (lat, (-5, -5, 5, 5)))
        ]
        corners[0] = (corners[0] + 180) % 360 - 180  # as models write them: a cell over the seam has -180 beside 170
        shape = size[1:]
        return xr.Dataset(
            {"v": (("time", *dims), data.v.values.reshape(size), {"units": "K", "coordinates": "lat lon"})},
            {
                "time": data.time,
                "lon": (dims, lon.reshape(shape), {**LON, "bounds": "lon_corners"}),
                "lat": (dims, lat.reshape(shape), {**LAT, "bounds": "lat_corners"}),
                "lon_corners": ((*dims, "corner"), corners[0].reshape((*shape, 4))),
                "lat_corners": ((*dims, "corner"), corners[1].reshape((*shape, 4))),
            },
        )

    @pytest.mark.parametrize("dims", [("j", "i"), ("cell",)], ids=["curvilinear", "unstructured"])
    def test_the_same_cells_with_corners_of_their_own_have_the_same_table(self, keep: Any, ask: Any, dims: tuple[str, ...]) -> None:
        data = self.regular(south=-75.0)
        statistic = "mean,sum,min,median,count,stdev"
        wanted = ask(keep("own-straight", data), self.SHAPES, statistic=statistic)
        found = ask(keep(f"own-{len(dims)}", self.twin(data, dims)), self.SHAPES, statistic=statistic)
        for one, other in zip(wanted, found, strict=True):
            assert {**other, "value": 0, "share": 0} == {**one, "value": 0, "share": 0}
            assert (other["value"] is None) == (one["value"] is None)
            if one["value"] is not None:
                assert other["value"] == pytest.approx(one["value"], rel=1e-6, abs=1e-6), (one, other)
            assert other["share"] == pytest.approx(one["share"], abs=1e-6), (one, other)

    def test_a_turned_grid_takes_what_an_equal_area_projection_finds(self, keep: Any, ask: Any) -> None:
        import pyproj
        from tests.families import ROTATED

        onto = pyproj.Transformer.from_crs(ROTATED, "OGC:CRS84", always_xy=True)
        middle, edge = np.arange(-10.0, 11, 2), np.array([-1.0, 1, 1, -1])
        x, y = np.meshgrid(middle, middle)
        lon, lat = onto.transform(x, y)
        corner_lon, corner_lat = onto.transform(x[..., None] + edge, y[..., None] + np.roll(edge, -1) * -1)
        values = RNG.normal(0, 10, (1, *x.shape))
        data = xr.Dataset(
            {"v": (("time", "y", "x"), values, {"units": "K", "coordinates": "lat lon"})},
            {
                "time": ("time", [0.0], {"units": "days since 2020-01-01"}),
                "lon": (("y", "x"), lon, {**LON, "bounds": "lon_b"}),
                "lat": (("y", "x"), lat, {**LAT, "bounds": "lat_b"}),
                "lon_b": (("y", "x", "n"), corner_lon),
                "lat_b": (("y", "x", "n"), corner_lat),
            },
        )
        shape = shapely.Polygon([(8, 47), (23, 45), (25, 56), (12, 55)])
        rows = ask(keep("turned", data), zones("t", t=shape), statistic="mean,sum")
        flat = pyproj.Transformer.from_crs("OGC:CRS84", "+proj=cea +R=6371007.18", always_xy=True)

        def equal_area(each: Any) -> Any:
            return shapely.transform(shapely.segmentize(each, 0.02), lambda p: np.column_stack(flat.transform(p[:, 0], p[:, 1])))

        cells = [
            shapely.Polygon(np.column_stack(each))
            for each in zip(corner_lon.reshape(-1, 4), corner_lat.reshape(-1, 4), strict=True)
        ]
        zone = equal_area(shape)
        share = np.array([equal_area(each).intersection(zone).area for each in cells])
        # The part of a cell is measured in degrees, as on straight grids, and its whole area on the sphere.
        part = np.array([each.intersection(shape).area / each.area for each in cells])
        ground = part * np.array([equal_area(each).area for each in cells])
        assert rows[0]["value"] == pytest.approx((ground * values.ravel()).sum() / ground.sum(), rel=1e-6)
        assert rows[0]["value"] == pytest.approx((share * values.ravel()).sum() / share.sum(), abs=0.01)  # of values of ±10
        assert rows[1]["value"] == pytest.approx((part * values.ravel()).sum(), rel=1e-9)
        assert rows[0]["share"] == pytest.approx(1.0, abs=1e-9)

    def test_cells_around_a_pole_cover_it(self, keep: Any, ask: Any) -> None:
        """One cell around the pole, and a ring of six that touch the south pole with a corner."""
        ring = np.arange(-180.0, 180, 60)
        lon = np.vstack([ring, *[[a, a + 60, np.nan, np.nan, np.nan, np.nan] for a in ring]])
        lat = np.vstack([np.full(6, 80.0), *[[-80, -80, np.nan, np.nan, np.nan, np.nan] for _ in ring]])
        lon[1:, 2], lat[1:, 2] = 17.0, -90.0
        data = xr.Dataset(
            {"v": (("time", "cell"), np.array([[7.0, 1, 2, 3, 4, 5, 6]]), {"units": "K", "coordinates": "lat lon"})},
            {
                "time": ("time", [0.0], {"units": "days since 2020-01-01"}),
                "lon": ("cell", np.append(0.0, ring + 30), {**LON, "bounds": "lon_b"}),
                "lat": ("cell", np.append(89.0, np.full(6, -85.0)), {**LAT, "bounds": "lat_b"}),
                "lon_b": (("cell", "n"), lon),
                "lat_b": (("cell", "n"), lat),
            },
        )
        shapes = zones(
            "poles",
            north=shapely.box(-180, 85, 180, 90),
            south=shapely.box(-180, -90, 180, -85),
            one=shapely.box(-170, -89, -130, -84),
        )
        rows = {each["zone"]: each for each in ask(keep("poles", data), shapes)}
        assert (rows["north"]["value"], rows["one"]["value"]) == pytest.approx((7.0, 1.0), rel=1e-12)
        assert rows["south"]["cells"] == 6
        assert rows["south"]["value"] == pytest.approx(3.5, rel=1e-12)
        assert [each["share"] for each in rows.values()] == pytest.approx([1.0, 1.0, 1.0], abs=1e-9)

    def test_a_curvilinear_grid_of_centres_has_cells_midway_between_them(self, keep: Any, ask: Any) -> None:
        data = self.twin(self.regular(), ("j", "i")).drop_vars(["lon_corners", "lat_corners"])
        for each in ("lon", "lat"):
            del data[each].attrs["bounds"]
        data = data.isel(j=slice(3, -3), i=slice(10, 26))
        box = shapely.box(-20, -10, 20, 10)
        rows = ask(keep("centres", data), zones("c", c=box, **{"two-cells": shapely.box(1, 1, 19, 9)}), datetime="2020-01-01")
        held = data.v.isel(time=0).where((abs(data.lat) < 10) & (abs(data.lon) < 20))
        assert rows[0]["cells"] == 8
        assert rows[0]["value"] == pytest.approx(float(held.mean()), rel=1e-3)
        assert rows[1]["cells"] == 2

    def test_a_partition_shares_out_every_cell(self, keep: Any, ask: Any) -> None:
        name = keep("own-2", self.twin(self.regular(south=-75.0), ("j", "i")))
        whole = shapely.Polygon([(2, -33), (48, -21), (41, 38), (11, 27)])
        left, right = (whole.intersection(shapely.box(*box)) for box in ((-9, -90, 23.7, 90), (23.7, -90, 99, 90)))
        rows = ask(name, zones("p", whole=whole, left=left, right=right), datetime="2020-01-01", statistic="sum")
        assert value_of(rows, "left") + value_of(rows, "right") == pytest.approx(value_of(rows, "whole"), rel=1e-11)

    def test_positions_without_cells_are_refused_with_another_way(self, shelf: Any, client: httpx.Client, tmp_path: Path) -> None:
        from tests.families import FAMILIES

        shelf.keep("positions", FAMILIES["unstructured"].write(tmp_path, "positions"))
        shelf.zones["one"] = zones("one", one=ONE)
        answer = client.get("/datasets/positions/table?zones=one")
        assert (answer.status_code, "EDR area" in answer.json()["detail"]) == (406, True)
        assert "positions without cells" in answer.json()["detail"]


class TestWeights:
    """Cells that count by the people in them, not by their area."""

    PEOPLE = np.random.default_rng(11).integers(0, 5000, (20, 12)).astype("f8")

    def people(self, *, step: float = 5.0, per_area: bool = False, **attributes: str) -> xr.Dataset:
        """Return people on cells of 5°: half of those of the data, so that each of those has four."""
        lon, lat = np.arange(0.0, 60, step) + step / 2, np.arange(-50.0, 50, step) + step / 2
        values = self.PEOPLE.copy()
        units = "1"
        if per_area:
            width = np.radians(step) * 6371.00718**2
            values /= (width * (np.sin(np.radians(lat + step / 2)) - np.sin(np.radians(lat - step / 2))))[:, None]
            units = "km-2"
        data = cube(lon, lat, np.stack([values * 0 + 1, values]), start="2019-12-31", **attributes)
        data.v.attrs["units"] = units
        return data

    def wanted(self, zone: Any, field: np.ndarray) -> float:
        above = below = 0.0
        held = self.PEOPLE.reshape(10, 2, 6, 2).sum(axis=(1, 3))
        for row, lat in enumerate(LAT10):
            for column, lon in enumerate(LON10):
                cell = shapely.box(lon - 5, lat - 5, lon + 5, lat + 5)
                people = held[row, column] * cell.intersection(zone).area / cell.area
                above, below = above + people * field[row, column], below + people
        return above / below

    ZONE = shapely.Polygon([(3, -33), (48, -21), (41, 38), (11, 27)])

    @pytest.mark.parametrize("way", ["finer", "per-area", "0-360", "north-up"])
    def test_the_mean_of_people_is_not_that_of_the_area(self, plain: str, keep: Any, ask: Any, way: str) -> None:
        data = self.people(per_area=way == "per-area")
        if way == "0-360":
            data = data.assign_coords(lon=("lon", (data.lon.values + 360), LON))
        if way == "north-up":
            data = data.isel(lat=slice(None, None, -1))
        weights = f"{keep(f'people-{way}', data)}:v"
        rows = ask(plain, zones("w", w=self.ZONE), datetime="2020-01-02", weights=weights, statistic="mean,median,max")
        assert rows[0]["value"] == pytest.approx(self.wanted(self.ZONE, FIELD[1]), rel=1e-9)
        assert rows[0]["share"] == pytest.approx(1.0, abs=1e-9)
        by_area = ask(plain, zones("w", w=self.ZONE), datetime="2020-01-02", statistic="mean,median,max")
        assert abs(by_area[0]["value"] - rows[0]["value"]) > 0.1
        assert rows[2]["value"] == by_area[2]["value"]

    def test_on_the_same_curvilinear_grid_cells_are_matched_one_by_one(self, keep: Any, ask: Any) -> None:
        own = TestCellsOfTheirOwn()
        data = own.twin(own.regular(south=-75.0), ("j", "i"))
        people = data.assign(v=data.v.copy(data=np.random.default_rng(2).uniform(0, 9, data.v.shape).astype("f4")))
        name, by = keep("own-2", data), keep("own-people", people)
        box = shapely.box(-20, -10, 20, 10)  # whole cells
        rows = ask(name, zones("b", b=box), datetime="2020-01-01", weights=f"{by}:v")
        inside = ((abs(data.lat) < 10) & (abs(data.lon) < 20)).values
        assert rows[0]["value"] == pytest.approx(np.average(data.v.values[0][inside], weights=people.v.values[1][inside]), rel=1e-6)

    def test_a_place_without_people_has_no_mean(self, plain: str, keep: Any, ask: Any) -> None:
        data = self.people()
        data.v[1, :4] = np.nan  # south of 30° S
        rows = ask(plain, zones("e", e=shapely.box(0, -50, 20, -30)), datetime="2020-01-01", weights=f"{keep('few', data)}:v")
        assert (rows[0]["value"], rows[0]["share"]) == (None, 0.0)

    @pytest.mark.parametrize(
        ("parameters", "status", "told"),
        [
            ("weights=people-finer:v&statistic=sum", 400, "does not go with weights"),
            ("weights=people-finer:nothing", 400, "has no variable nothing"),
            ("weights=no-such-one:v", 404, "no such dataset"),
            ("weights=people-finer", 400, "must be dataset:variable"),
            ("weights=negative:v", 400, "negative"),
        ],
    )
    def test_what_cannot_be_a_weight_is_named(
        self, plain: str, keep: Any, client: httpx.Client, shelf: Any, parameters: str, status: int, told: str
    ) -> None:
        keep("people-finer", self.people())
        negative = self.people()
        keep("negative", negative.assign(v=-negative.v))
        shelf.zones["one"] = zones("one", one=ONE)
        answer = client.get(f"/datasets/{plain}/table?zones=one&{parameters}")
        assert (answer.status_code, told.lower() in answer.text.lower()) == (status, True), answer.text

    def test_another_grid_that_is_not_of_degrees_is_refused(
        self, plain: str, client: httpx.Client, shelf: Any, tmp_path: Path
    ) -> None:
        from tests.families import FAMILIES

        shelf.keep("projected-people", FAMILIES["projected"].write(tmp_path, "projected"))
        shelf.zones["one"] = zones("one", one=ONE)
        answer = client.get(f"/datasets/{plain}/table?zones=one&weights=projected-people:t")
        assert (answer.status_code, "another grid" in answer.json()["detail"]) == (406, True)


def test_an_axis_that_is_not_chosen_is_asked_for(keep: Any, client: httpx.Client, shelf: Any) -> None:
    base = cube(LON10, LAT10, FIELD)
    data = base.assign(v=base.v.expand_dims(level=[1000.0, 850.0], axis=1).assign_attrs(base.v.attrs))
    data["level"].attrs = {"units": "hPa", "positive": "down", "standard_name": "air_pressure", "axis": "Z"}
    name = keep("levels", data)
    shelf.zones["one"] = zones("one", one=ONE)
    answer = client.get(f"/datasets/{name}/table?zones=one")
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (400, ["query", "z"])
    assert client.get(f"/datasets/{name}/table?zones=one&z=850").status_code == 200
