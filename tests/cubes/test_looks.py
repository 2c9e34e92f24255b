"""The class of a value: which colour of the palette it has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cubeport.cubes.pictures import looks
from cubeport.cubes.pictures.looks import Look


def by_hand(look: Look, value: float) -> int:
    """Return the class as the definition says: equal parts of the range, each with its lower end; 0 if nothing is drawn."""
    if not math.isfinite(value) or (look.hide_beyond and not look.low <= value <= look.high):
        return 0
    part = math.floor((value - look.low) / (look.high - look.low) * look.steps)
    return 1 + min(max(part, 0), look.steps - 1)


@given(
    arrays.arrays("float64", (3, 4), elements=st.floats(-20, 20) | st.sampled_from([math.nan, math.inf, -math.inf])),
    st.sampled_from([2, 10, 254]),
    st.booleans(),
)
def test_a_value_has_the_class_of_its_part_of_the_range(values: np.ndarray, steps: int, hide: bool) -> None:
    look = Look("viridis", -8.0, 8.0, steps=steps, hide_beyond=hide)
    wanted = [[by_hand(look, each) for each in row] for row in values.tolist()]
    found = look.classes(values)
    assert found.dtype == "uint8"
    # A rounded product may put a value on the edge of its class into the class beside.
    part = np.where(np.isfinite(values), values + 8, 0.5) / 16 * steps
    inside = np.abs(part - np.round(part)) > 1e-9
    assert np.array_equal(found[inside], np.array(wanted)[inside])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_greatest_number_below_a_class_is_not_in_it(dtype: str) -> None:
    edges = np.arange(1, 254, dtype=dtype)
    look = Look("viridis", 0.0, 254.0)
    assert look.classes(edges).tolist() == list(range(2, 255))
    assert look.classes(np.nextafter(edges, np.asarray(0, dtype))).tolist() == list(range(1, 254))


def test_the_values_are_left_as_they_are() -> None:
    values = np.array([[1.0, math.nan, 3.0]], "f4")
    Look("viridis", 0.0, 4.0).classes(values)
    assert np.array_equal(values, np.array([[1.0, math.nan, 3.0]], "f4"), equal_nan=True)


ONE_WAY = (
    "thermal",
    "haline",
    "deep",
    "rain",
    "ice",
    "speed",
    "viridis",
    "cividis",
    "magma",
    "YlGnBu",
    "YlOrRd",
    "Blues",
    "batlow",
    "gray",
)
TWO_WAYS = ("balance", "delta", "PuOr", "RdBu", "BrBG", "vik", "roma")


@pytest.mark.parametrize("name", ONE_WAY + TWO_WAYS)
def test_a_palette_grows_lighter_or_darker_all_the_way(name: str) -> None:
    """So that it is read without its colours. One of two ways does so on both sides of its middle."""
    red_green_blue = looks.palette(name)[:, :3] / 255
    linear = np.where(red_green_blue <= 0.04045, red_green_blue / 12.92, ((red_green_blue + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    halves = [lightness] if name in ONE_WAY else [lightness[:120], lightness[136:][::-1]]
    for half in halves:
        steps = np.diff(half) * np.sign(half[-1] - half[0])
        assert steps.min() > -0.15
        assert abs(half[-1] - half[0]) > 40
    if name in TWO_WAYS:
        assert np.sign(np.subtract(halves[0][-1], halves[0][0])) == np.sign(np.subtract(halves[1][-1], halves[1][0]))
