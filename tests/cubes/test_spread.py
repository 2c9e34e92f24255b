"""Ends of values, and ends of colours: percentiles, without what nobody measured."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes import spread
from cubeport.cubes.describe import describe
from cubeport.cubes.pictures.looks import look_of
from cubeport.cubes.spread import Spread, Values, ends, part_of, sampled, together

ENDS = st.one_of(st.none(), st.floats(-1e9, 1e9))


def of(values: np.ndarray) -> tuple[float | None, float | None, bool]:
    return ends([sampled(part, (7,), values.size) for part in np.array_split(values, 7)])


def test_percentiles_are_those_of_numpy() -> None:
    values = np.random.default_rng(1).normal(10, 3, 20_000)
    low, high, far = of(values)
    assert (low, high) == tuple(np.percentile(values, [2, 98]))
    assert not far


def test_an_undeclared_fill_does_not_count() -> None:
    values = np.random.default_rng(1).normal(280, 10, 10_000).astype("float32")
    values[::20] = 1e37
    low, high, far = of(values)
    assert far
    assert low is not None
    assert high is not None
    assert 250 < low < high < 310


def test_rain_that_hardly_ever_falls_keeps_its_ends() -> None:
    values = np.zeros(10_000)
    values[:50] = np.linspace(1, 5, 50)
    assert of(values) == (0.0, 5.0, False)
    assert of(np.full(9, np.nan)) == (None, None, False)
    assert of(np.full(9, 4.0)) == (4.0, 4.0, False)


def test_it_does_not_matter_in_which_blocks_an_array_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "SAMPLED", 500)
    values = np.random.default_rng(3).normal(10, 3, (12, 20, 30))
    values[3, 4], values[0, 0, 0] = np.nan, np.inf
    chunks = (4, 5, 30)
    whole = together([part_of(values, chunks, values.size)])
    rows = together([part_of(values[at : at + 4], chunks, values.size) for at in (8, 0, 4)])
    each = [values[at : at + 4, row : row + 5] for at in (0, 4, 8) for row in (0, 5, 10, 15)]
    assert whole == rows == together([part_of(one, chunks, values.size) for one in each])
    assert whole.endless
    assert whole.spread.least == np.nanmin(values)


@given(st.tuples(ENDS, ENDS, ENDS, ENDS), st.tuples(ENDS, ENDS, ENDS, ENDS))
def test_a_hull_has_both(one: tuple, other: tuple) -> None:
    found = Spread(*one).hull(Spread(*other))
    assert found == Spread(*other).hull(Spread(*one))
    for at, (each, a, b) in enumerate(zip(found, one, other, strict=True)):
        known = [value for value in (a, b) if value is not None]
        assert each == (None if not known else max(known) if at % 2 else min(known))


@pytest.mark.parametrize(
    ("held", "new", "wanted"),
    [
        ((0.0, 9.0, 1.0, 8.0), (2.0, 1e30, 3.0, 1e28), ((0.0, 1e30, 1.0, 8.0), True)),
        ((0.0, 9.0, 1.0, 8.0), (-1e30, 2.0, -1e29, 2.0), ((-1e30, 9.0, 1.0, 8.0), True)),
        ((0.0, 9.0, 1.0, 8.0), (-5.0, 700.0, -4.0, 600.0), ((-5.0, 700.0, -4.0, 600.0), False)),
        ((4.0, 4.0, 4.0, 4.0), (4.0, 1e30, 4.0, 1e28), ((4.0, 1e30, 4.0, 1e28), False)),
        ((None, None, None, None), (1.0, 2.0, 1.0, 2.0), ((1.0, 2.0, 1.0, 2.0), False)),
        ((0.0, 9.0, 1.0, 8.0), (None, None, None, None), ((0.0, 9.0, 1.0, 8.0), False)),
    ],
)
def test_new_values_are_judged_beside_the_known_ones(held: tuple, new: tuple, wanted: tuple) -> None:
    found = Values(Spread(*new)).beside(Spread(*held))
    assert (tuple(found.spread), found.far) == wanted


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_picture_has_the_colours_of_what_was_measured(dtype: str) -> None:
    values = np.tile(np.arange(100), (100, 1)).astype(dtype)
    if dtype == "float32":
        values[0, :5] = 9.96921e36
    data = xr.Dataset(
        {"t": (("lat", "lon"), values)},
        {
            "lat": ("lat", np.arange(100.0) / 2, {"units": "degrees_north"}),
            "lon": ("lon", np.arange(100.0), {"units": "degrees_east"}),
        },
    )
    found = describe(data)
    look = look_of(found.variable("t"))
    assert (look.low, look.high) == (0.0, 100.0)
    assert [kind for kind, _ in found.warnings if kind == "outliers"] == (["outliers"] if dtype == "float32" else [])
    assert found.variable("t").valid_max == (9.96921e36 if dtype == "float32" else 99)


def test_infinite_values_are_in_csv_and_reported_because_json_has_none() -> None:
    values = np.arange(4.0).reshape(2, 2)
    values[0] = np.inf, -np.inf
    place = {"lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}), "lon": ("lon", [1.0, 2.0], {"units": "degrees_east"})}
    found = describe(xr.Dataset({"t": (("lat", "lon"), values), "u": (("lat", "lon"), np.ones((2, 2)))}, place))
    (words,) = (text for kind, text in found.warnings if kind == "infinite")
    assert words.startswith("'t' has infinite values; JSON has no number for them")
    assert (found.variable("t").valid_min, found.variable("t").valid_max) == (2.0, 3.0)
