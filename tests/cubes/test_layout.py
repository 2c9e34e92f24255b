"""Chunks of about 1 MiB that serve maps and series alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.layout import CHUNK_BYTES, balanced, chunks
from cubeport.errors import InvalidTemplate


def test_a_year_of_hours_over_the_globe_costs_a_map_as_many_chunks_as_a_series() -> None:
    shape = (8760, 721, 1440)
    lengths = balanced(shape, 4, series={0}, maps={1, 2})
    series = math.ceil(shape[0] / lengths[0])
    maps = math.ceil(shape[1] / lengths[1]) * math.ceil(shape[2] / lengths[2])
    assert 0.5 < series / maps < 2
    assert 0.5 * CHUNK_BYTES < math.prod(lengths) * 4 <= 1.3 * CHUNK_BYTES


@given(
    st.lists(st.integers(1, 5000), min_size=1, max_size=5),
    st.sampled_from([1, 2, 4, 8]),
    st.data(),
)
def test_chunks_stay_near_a_mebibyte_and_inside_the_array(shape: list[int], itemsize: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.sampled_from("smo"), min_size=len(shape), max_size=len(shape)))
    series = {n for n, kind in enumerate(places) if kind == "s"}
    maps = {n for n, kind in enumerate(places) if kind == "m"}
    lengths = balanced(tuple(shape), itemsize, series=series, maps=maps)
    assert all(1 <= length <= size for length, size in zip(lengths, shape, strict=True))
    size = math.prod(lengths) * itemsize
    assert size <= 2 * CHUNK_BYTES
    assert size >= min(CHUNK_BYTES / 16, math.prod(shape) * itemsize)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=4), st.data())
def test_given_lengths_are_kept(shape: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(shape) - 1))
    length = data.draw(st.integers(1, shape[place]))
    lengths = balanced(tuple(shape), 4, series={0}, maps=set(range(1, len(shape))), given={place: length})
    assert lengths[place] == length


def test_coordinates_are_whole_and_data_are_cut() -> None:
    raw = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), np.zeros((4000, 90, 180), "f4"), {"units": "K"})},
        coords={
            "time": ("time", np.arange(4000.0), {"units": "hours since 2000-01-01"}),
            "lat": ("lat", np.linspace(-89, 89, 90), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(0.0, 360, 2), {"units": "degrees_east"}),
        },
    )
    lengths = chunks(raw)
    assert lengths["time"] == (4000,)
    assert lengths["lat"] == (90,)
    assert lengths["t2m"] != (4000, 90, 180)
    assert chunks(raw, {"time": 100, "lat": -1})["t2m"][:2] == (100, 90)
    assert chunks(raw, {"time": 100, "lat": -1})["time"] == (4000,)
    with pytest.raises(InvalidTemplate, match="no dimension 'level'"):
        chunks(raw, {"level": 1})
    with pytest.raises(InvalidTemplate, match="length of 'time'"):
        chunks(raw, {"time": 0})


def test_real_files_fit_one_chunk_or_are_cut_evenly(opened: Callable[[str], xr.Dataset]) -> None:
    raw = opened("SMALL_total_column_co2.nc")
    lengths = chunks(raw)["tcco2"]
    assert 0.4 * CHUNK_BYTES < math.prod(lengths) * 2 < 1.3 * CHUNK_BYTES
    assert chunks(opened("gebco_2020.nc"))["elevation"] == (264, 216)
