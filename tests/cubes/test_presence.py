"""Which steps have a value: as numpy says of all values, whatever the order of dimensions, the chunks and the packing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.describe import describe
from cubeport.cubes.presence import Presence


@given(st.data())
def test_it_finds_the_steps_without_a_value_in_any_blocks(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    axis = data.draw(st.integers(0, 2))
    chunks = [data.draw(st.integers(1, size)) for size in shape]
    missing = data.draw(st.sets(st.integers(0, shape[axis] - 1)))
    values = np.where(np.random.default_rng(data.draw(st.integers(0, 9))).random(shape) < 0.8, np.nan, 1.0)
    np.moveaxis(values, axis, 0)[sorted(missing)] = np.nan
    dims = tuple("time" if each == axis else f"d{each}" for each in range(3))
    expected = np.flatnonzero(np.isnan(np.moveaxis(values, axis, 0)).reshape(shape[axis], -1).all(axis=1)).tolist()
    noted, searched = (Presence("time", shape[axis]) for _ in range(2))
    for corner in itertools.product(*(range(0, size, own) for size, own in zip(shape, chunks, strict=True))):
        block = values[tuple(slice(at, at + own) for at, own in zip(corner, chunks, strict=True))]
        noted.note("t", dims, corner[axis], block)
    searched.search("t", xr.Variable(dims, values), chunks)
    assert noted.without(["t"]) == searched.without(["t"]) == expected


def cube(**more: xr.Variable) -> xr.Dataset:
    ends = {"time_bnds": (("time", "side"), np.array([[0, 31], [31, 60], [60, 91]]))}
    packed = np.array([[1, 2], [-9, -9], [-9, 4]], "int16")
    made = {"a": (("time", "x"), packed, {"_FillValue": np.int16(-9), "scale_factor": 0.1}), **ends, **more}
    time = ("time", [31, 60, 91], {"units": "days since 2024-01-01", "standard_name": "time", "bounds": "time_bnds"})
    return xr.Dataset(made, {"time": time, "x": ("x", [0.0, 1.0], {"units": "degrees_east"})})


@pytest.mark.parametrize(
    ("more", "fields", "empty"),
    [
        ({}, None, ("2024-02-01T00:00:00Z",)),
        ({"b": xr.Variable(("time", "x"), np.array([[np.nan] * 2, [0.5] * 2, [np.nan] * 2]))}, None, ()),
        ({"b": xr.Variable(("time", "x"), np.array([[np.nan] * 2, [0.5] * 2, [np.nan] * 2]))}, ["a"], ("2024-02-01T00:00:00Z",)),
    ],
    ids=["packed", "another field has a value", "the fields that are chosen"],
)
def test_a_month_is_empty_if_no_field_has_a_value(more: dict[str, xr.Variable], fields: list[str] | None, empty: object) -> None:
    """Its moment is that of its bounds, which say that the label of its end is not the next month."""
    temporal = describe(cube(**more), fields=fields).temporal
    assert temporal is not None
    assert (temporal.empty, temporal.empty_count) == (empty, len(empty)), temporal


def test_what_is_not_read_is_unknown() -> None:
    temporal = describe(cube(), ranges={"a": None}).temporal
    assert temporal is not None
    assert temporal.empty is None
