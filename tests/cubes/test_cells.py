"""Cells, steps and boxes: what holds for every axis."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cubeport.cubes.calendars import Stamp, stamp_of
from cubeport.cubes.cells import cells, exact, steps
from cubeport.cubes.crs import from_attributes
from cubeport.cubes.describe import blocks
from cubeport.cubes.footprint import box, covered, crosses, positions, projected
from cubeport.cubes.times import decode, step_of


def test_float32_is_read_as_its_shortest_decimal() -> None:
    assert exact(np.array([0.1, -124.7917], "f4")).tolist() == [0.1, -124.7917]
    assert exact(np.array([1, 2], "i2")).tolist() == [1.0, 2.0]


@example(59.984052617433804, 268, -5.0)  # its edges touched but for their last digit
@example(-92.13509358562804, 245, 1.125)
@given(st.floats(-180, 180), st.integers(2, 400), st.sampled_from([0.01, 0.1, 0.25, 1 / 3, 1.125, 2.5, -0.75, -5.0]))
def test_even_labels_have_their_step_and_cells_that_touch(start: float, count: int, step: float) -> None:
    for dtype in ("f8", "f4"):
        values = exact((start + step * np.arange(count)).astype(dtype))
        regular, found = steps(values)
        if dtype == "f4" and abs(step) < 0.1:
            continue  # single precision does not hold so fine a step at 180 degrees
        assert regular
        grain = 5e-5 if dtype == "f4" else 0  # two labels of single precision at 180 degrees, each rounded, and their half steps
        assert found == pytest.approx(step, rel=1e-4, abs=grain)
        edges = cells(values, None, spread=True)
        low, high = edges.outer
        assert high - low == pytest.approx(abs(step) * count, rel=1e-4, abs=grain)
        assert (edges.lower < values).all()
        assert (edges.upper > values).all()
        inner = np.sort(np.concatenate((edges.lower, edges.upper)))[1:-1]
        assert np.array_equal(inner[::2], inner[1::2])


def test_uneven_labels_have_no_step() -> None:
    assert steps(np.array([0.0, 1.0, 3.0])) == (False, 1.5)
    assert steps(np.array([4.0])) == (False, None)


def test_bounds_win_and_points_have_no_width() -> None:
    values = np.array([1.0, 2.0])
    given_bounds = np.array([[0.0, 1.5], [1.5, 4.0]])
    assert cells(values, given_bounds, spread=True).outer == (0.0, 4.0)
    assert cells(values, None, spread=False).outer == (1.0, 2.0)
    assert cells(values[:1], None, spread=True).outer == (1.0, 1.0)


@given(st.floats(-540, 540), st.floats(0.001, 720), st.floats(-100, 89), st.floats(0, 100))
def test_a_box_has_longitudes_in_their_range_and_keeps_its_width(west: float, width: float, south: float, height: float) -> None:
    w, s, e, n = box(west, south, west + width, south + height)
    assert -180 <= w < 180 or (w, e) == (-180, 180)
    assert -180 <= e <= 180
    assert -90 <= s <= n <= 90 or s > n  # a box beyond a pole is not a box of the Earth
    if width >= 360:
        assert (w, e) == (-180, 180)
    else:
        assert ((e - w) % 360) == pytest.approx(width % 360, abs=1e-6) or math.isclose(width, 360, abs_tol=1e-6)
        assert crosses((w, s, e, n)) == (e < w)
        assert math.isclose(math.remainder(w - west, 360), 0, abs_tol=1e-6)


@given(st.lists(st.tuples(st.floats(-180, 179.9), st.floats(0.01, 60)), min_size=1, max_size=12))
def test_the_covering_arc_holds_every_arc_and_is_no_longer_than_it_must(arcs: list[tuple[float, float]]) -> None:
    west = np.array([start for start, _ in arcs])
    east = np.array([start + width for start, width in arcs])
    start, width = covered(west, east)
    assert 0 < width <= 360
    for a, length in arcs:
        into = (a - start) % 360
        assert min(into, abs(into - 360)) + 0 <= width + 1e-6 or width == 360
        if width < 360:
            into = 0.0 if into > 360 - 1e-6 else into
            assert into + length <= width + 1e-6
    # the rest of the circle is a hole that no arc enters, and no hole is larger
    if width < 360:
        marks = np.linspace(-180, 180, 721)[:-1]
        free = [not any((m - a + 0.5) % 360 <= length + 1 for a, length in arcs) for m in marks]
        doubled = free + free
        longest = run = 0
        for each in doubled:
            run = run + 1 if each else 0
            longest = max(longest, run)
        assert 360 - width >= (min(longest, 720) - 1) * 0.5 - 1e-6


def test_positions_on_both_sides_of_the_antimeridian_make_one_crossing_box() -> None:
    lon, lat = np.meshgrid(np.array([175.0, 177, 179, -179, -177]), np.array([10.0, 12]))
    assert positions(lon, lat, None) == (174.0, 9.0, -176.0, 13.0)


def test_the_full_disc_of_a_satellite_ends_at_the_limb() -> None:
    view = {
        "grid_mapping_name": "geostationary",
        "perspective_point_height": 35786023.0,
        "semi_major_axis": 6378137.0,
        "semi_minor_axis": 6356752.31414,
        "longitude_of_projection_origin": 140.7,
        "latitude_of_projection_origin": 0.0,
        "sweep_angle_axis": "y",
    }
    crs = from_attributes(view)
    disc = projected(crs, (-0.1519, -0.1519, 0.1519, 0.1519), factor=35786023.0, geostationary=view)
    assert disc == pytest.approx((59.4, -81.3, 222.0 - 360, 81.3), abs=0.3)
    assert projected(crs, (0.2, 0.2, 0.3, 0.3), factor=35786023.0, geostationary=view) is None


@settings(max_examples=25, deadline=None)
@example(x=-60500.0, y=500.0, width=481000.0, height=100000.0)
@given(
    *(st.integers(-2000, 2000).map(lambda n: n * 1e3 + 500.0) for _ in "xy"),
    *(st.integers(100, 3000).map(lambda n: n * 1e3) for _ in "wh"),
)
def test_a_native_box_lies_inside_its_crs84_box(x: float, y: float, width: float, height: float) -> None:
    crs = from_attributes(
        {
            "grid_mapping_name": "polar_stereographic",
            "latitude_of_projection_origin": 90.0,
            "straight_vertical_longitude_from_pole": -45.0,
            "standard_parallel": 70.0,
        }
    )
    west, south, east, north = projected(crs, (x, y, x + width, y + height), factor=1.0)
    over_the_pole = x <= 0 <= x + width and y <= 0 <= y + height
    assert (north == 90) == over_the_pole
    from pyproj import Transformer

    inside = np.meshgrid(np.linspace(x, x + width, 9), np.linspace(y, y + height, 9))
    lon, lat = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform(*inside)
    # between two points of a densified side the circle bends by less than this
    slack = 0.1
    assert south - slack <= lat.min()
    assert lat.max() <= north + slack
    around = (lon - west + slack) % 360
    assert (around <= (east - west) % 360 + 2 * slack).all() or (west, east) == (-180, 180)


def test_missing_positions_are_skipped() -> None:
    lon, lat = np.meshgrid(np.array([10.0, 11, 12]), np.array([50.0, 51]))
    lon[0, 0] = lat[1, 2] = np.nan
    west, south, east, north = positions(lon, lat, None)
    assert (west, south, east, north) == (9.5, 49.5, 12.5, 51.5)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.data())
def test_blocks_cover_an_array_once(shape: list[int], data: st.DataObject) -> None:
    chunk = [data.draw(st.integers(1, size)) for size in shape]
    limit = data.draw(st.integers(1, 4000))
    seen = np.zeros(shape, int)
    for window in blocks(shape, chunk, 4, limit):
        assert seen[window].nbytes // 2 <= max(limit, math.prod(chunk) * 4)
        seen[window] += 1
    assert (seen == 1).all()


@given(
    st.sampled_from(["standard", "noleap", "360_day", "julian", "all_leap", "proleptic_gregorian"]),
    st.integers(1, 60),
    st.sampled_from([("P1D", 86_400), ("PT6H", 21_600), ("PT1H", 3_600), ("PT10M", 600), ("P5D", 432_000)]),
)
def test_even_steps_are_found(calendar: str, count: int, step: tuple[str, int]) -> None:
    first = 2_460_000 * 86_400_000_000
    labels = [stamp_of(first + n * step[1] * 1_000_000, calendar) for n in range(count + 1)]  # type: ignore[arg-type]
    assert step_of(labels, calendar) == step[0]  # type: ignore[arg-type]
    if count > 2:
        assert step_of([*labels[:1], *labels[2:]], calendar) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("days", "calendar", "step"),
    [
        ([(2024, m, 1) for m in range(1, 13)], "standard", "P1M"),
        ([(2024, m, d) for m, d in ((1, 31), (2, 29), (3, 31), (4, 30))], "standard", "P1M"),
        ([(2024, m, d) for m, d in ((1, 16), (2, 15), (3, 16))], "standard", "P1M"),
        ([(y, 1, 1) for y in range(2000, 2010)], "standard", "P1Y"),
        ([(2000 + 5 * n, 1, 1) for n in range(4)], "standard", "P5Y"),
        ([(2024, 1, 16), (2024, 2, 16), (2024, 3, 16)], "360_day", "P1M"),
        ([(2024, 1, 1), (2024, 4, 1), (2024, 7, 1)], "noleap", "P3M"),
        ([(2024, 1, 1), (2024, 1, 3), (2024, 1, 4)], "standard", None),
        ([(2024, 1, 1)], "standard", None),
    ],
)
def test_months_and_years_are_even_in_their_own_way(days: list[tuple[int, int, int]], calendar: str, step: str | None) -> None:
    assert step_of([Stamp(*day) for day in days], calendar) == step  # type: ignore[arg-type]


def test_noise_of_the_encoding_is_no_part_of_a_label() -> None:
    minutes = np.arange(0, 48, 0.5)
    labels = decode(26541 + minutes / 24, "days since 1950-01-01T00:00:00Z", "standard", name="time")
    assert str(labels[1]) == "2022-09-01T00:30:00Z"
    assert step_of(labels, "standard") == "PT30M"
    # a number that can tell microseconds keeps them
    for unit in ("seconds", "s", "sec"):
        fine = decode(np.array([0.250125]), f"{unit} since 2000-01-01", "standard", name="time")
        assert str(fine[0]) == "2000-01-01T00:00:00.250125Z"


@given(st.integers(-50_000, 60_000))
def test_days_decode_as_they_are_counted(day: int) -> None:
    assume(day > -700_000)
    (label,) = decode(np.array([float(day)]), "days since 1900-01-01", "360_day", name="time")
    assert (label.year * 12 + label.month - 1) * 30 + label.day - 1 == 1900 * 360 + day


@pytest.mark.parametrize("numbers", [np.array([0, 500_000_000, 86_400_000_000_000]), np.array([0.0, 5e8, 8.64e13])])
def test_nanoseconds_are_told_as_far_as_calendars_go(numbers: np.ndarray) -> None:
    found = decode(numbers, "nanoseconds since 2000-01-01", "standard", name="time")
    assert [str(stamp) for stamp in found] == ["2000-01-01T00:00:00Z", "2000-01-01T00:00:00.5Z", "2000-01-02T00:00:00Z"]
