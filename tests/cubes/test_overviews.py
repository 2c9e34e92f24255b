"""Overviews as arithmetic: what four cells become, how many levels there are, which level a picture is drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cubeport.cubes import overviews

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)


def coarsened(values: np.ndarray, how: str) -> np.ndarray:
    """Return what xarray makes of it."""
    dims = [f"d{n}" for n in range(values.ndim)]
    windows = xr.DataArray(values, dims=dims).coarsen({dims[-2]: 2, dims[-1]: 2}, boundary="pad")
    return getattr(windows, how)().values


@given(hnp.arrays("float32", SHAPES, elements=st.floats(-1e6, 1e6, width=32) | st.just(np.nan)))
def test_a_mean_is_that_of_xarray(values: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        truth = coarsened(values.astype("float64"), "mean")
    np.testing.assert_allclose(overviews.coarser(values, "mean"), truth, rtol=2e-7, atol=1e-6)


@given(hnp.arrays("uint8", SHAPES, elements=st.integers(0, 1)))
def test_a_mask_keeps_what_is_there(values: np.ndarray) -> None:
    assert np.array_equal(overviews.coarser(values, "max"), coarsened(values.astype("float64"), "max"))


def test_missing_cells_of_a_mask_give_way() -> None:
    values = np.array([[-1, 0], [-1, -1]], "int8")
    assert overviews.coarser(values, "max", missing=np.int8(-1)).tolist() == [[0]]
    assert overviews.coarser(np.full((2, 2), -1, "int8"), "max", missing=np.int8(-1)).tolist() == [[-1]]
    assert overviews.coarser(np.array([[127, 1], [0, 0]], "int8"), "max", missing=np.int8(127)).tolist() == [[1]]


@given(hnp.arrays("int16", SHAPES))
def test_the_nearest_is_the_first_cell(values: np.ndarray) -> None:
    found = overviews.coarser(values, "nearest")
    assert np.array_equal(found, values[..., ::2, ::2])
    assert found.shape[-2:] == tuple(overviews.halved(size) for size in values.shape[-2:])


@pytest.mark.parametrize(
    ("step", "most", "level"), [(1.0, 3, 0), (1.9, 3, 0), (2.0, 3, 1), (3.9, 3, 1), (4.0, 3, 2), (64.0, 3, 3), (0.2, 3, 0)]
)
def test_the_coarsest_level_whose_cells_are_not_larger_than_a_pixel(step: float, most: int, level: int) -> None:
    rows = np.arange(0, 200 * step, step).astype("int64")
    columns = rows[::-1].copy()
    columns[:20] = -1
    assert overviews.fitting((rows, columns), most) == level
    # The same pixels as a map of a turned grid: along a row of pixels the first index moves, along a column the second.
    turned = (np.broadcast_to(rows, (200, 200)), np.broadcast_to(rows[:, None], (200, 200)))
    assert overviews.fitting(turned, most) == level
    assert overviews.fitting((rows, np.full(200, 7)), most) == 0, "a picture within one cell"
    assert overviews.fitting((np.full(5, -1), np.full(5, -1)), most) == 0
