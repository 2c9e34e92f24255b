"""Compression by gathering (CF 8.2): each cell of the grid has the value that the list gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.gathered import NotGathered, gathered, scattered


def gather(whole: np.ndarray[Any, Any], cells: list[int], *, after: bool = False) -> xr.Dataset:
    """Return the cells of ``whole(time, lat, lon)``, with the list's dimension last, or first."""
    flat = whole.reshape(len(whole), -1)[:, cells]
    dims, values = (("land", "time"), flat.T) if after else (("time", "land"), flat)
    return xr.Dataset(
        {"soil": (dims, values)},
        coords={
            "land": ("land", np.array(cells, "i4"), {"compress": "lat lon"}),
            "lat": ("lat", np.linspace(-45, 45, whole.shape[1])),
            "lon": ("lon", np.linspace(0, 270, whole.shape[2])),
        },
    ).drop_indexes(["land", "lat", "lon"])


def forward(size: int) -> st.SearchStrategy[slice]:
    """Slices as they are read. Of an empty one backwards xarray makes an error."""
    return st.builds(slice, st.integers(0, size), st.integers(0, size), st.integers(1, 3))


@given(data=st.data(), after=st.booleans())
def test_any_part_of_the_grid_has_the_listed_values_and_else_none(data: st.DataObject, after: bool) -> None:
    whole = np.arange(2 * 3 * 4, dtype="f4").reshape(2, 3, 4)
    cells = data.draw(st.lists(st.integers(0, 11), unique=True, min_size=1))
    expected = np.full((2, 12), np.nan, "f4")
    expected[:, cells] = whole.reshape(2, 12)[:, cells]
    made = scattered(gather(whole, cells, after=after), "land").soil
    assert made.dims == (("lat", "lon", "time") if after else ("time", "lat", "lon"))
    wanted = np.moveaxis(expected.reshape(2, 3, 4), 0, -1 if after else 0)
    index = tuple(data.draw(st.one_of(st.integers(0, size - 1), forward(size))) for size in made.shape)
    np.testing.assert_array_equal(made[index].values, wanted[index])


def test_whole_numbers_get_a_fill_value_that_no_value_has() -> None:
    whole = np.array([[[-128, 5], [6, 7]]], "i1")
    made = scattered(gather(whole, [0, 3]), "land").soil
    assert made.attrs["_FillValue"] == 127
    assert made.values.tolist() == [[[-128, 127], [127, 7]]]


def test_a_declared_fill_value_is_kept_and_other_variables_stay() -> None:
    raw = gather(np.ones((1, 2, 2), "i2"), [1])
    raw.soil.attrs |= {"_FillValue": np.int16(-9), "coordinates": "where depth"}
    raw = raw.assign(where=("land", [45.0], {"units": "degrees_north"}), depth=((), 2.0))
    made = scattered(raw, "land")
    assert made.soil.values.tolist() == [[[-9, 1], [-9, -9]]]
    assert set(made.variables) == {"soil", "lat", "lon", "depth"}  # the axes say where cells are
    assert made.soil.attrs["coordinates"] == "depth"


@pytest.mark.parametrize(
    ("cells", "words"), [([0, 12], "does not have: it counts from 0 to 11"), ([-1], "does not have"), ([3, 3], "a cell twice")]
)
def test_a_list_that_is_none_is_named(cells: list[int], words: str) -> None:
    raw = gather(np.zeros((1, 3, 4), "f4"), [0] * len(cells))
    raw["land"] = ("land", np.array(cells, "i4"), {"compress": "lat lon"})
    with pytest.raises(NotGathered, match=words):
        scattered(raw.drop_indexes("land", errors="ignore"), "land")


def test_what_is_no_list_is_named_with_those_that_are() -> None:
    raw = gather(np.zeros((1, 3, 4), "f4"), [0])
    assert gathered(raw) == {"land": ("lat", "lon")}
    with pytest.raises(NotGathered, match=r"'lat' is no list of the cells of a grid .*; such lists: 'land'"):
        scattered(raw, "lat")


def test_all_numbers_used_leave_none_for_missing() -> None:
    whole = np.arange(-128, 128).astype("i1").reshape(1, 16, 16)
    with pytest.raises(NotGathered, match="uses all numbers of its type"):
        scattered(gather(whole, list(range(256))), "land")
