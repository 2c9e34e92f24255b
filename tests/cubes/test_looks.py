"""The class of a value: which colour of the palette it has."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

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
