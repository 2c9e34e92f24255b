"""Stored values are decoded exactly as by xarray, whatever their attributes say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.engines.opened import IndexRange, OpenedVersion, Window, _by_chunk

NAN = float("nan")


@pytest.mark.parametrize(
    ("dtype", "attributes"),
    [
        ("f4", {}),
        ("f4", {"_FillValue": NAN}),
        (">f4", {"_FillValue": NAN, "missing_value": NAN}),
        ("f8", {"_FillValue": 2.0}),
        ("f4", {"_FillValue": NAN, "missing_value": 2.0}),
        ("f4", {"_FillValue": NAN, "scale_factor": 2.0}),
        ("f2", {"_FillValue": NAN}),
        ("i2", {}),
        ("i2", {"_FillValue": 2}),
        ("i2", {"_FillValue": NAN}),
        ("i1", {"_Unsigned": "true"}),
        ("i1", {"dtype": "bool"}),
        ("u1", {"_Unsigned": "false"}),
        ("i2", {"scale_factor": 0.1, "add_offset": 3.0, "_FillValue": -1}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")  # xarray warns of attributes that say nothing
def test_values_are_those_of_xarray(dtype: str, attributes: dict[str, Any]) -> None:
    raw = np.array([[0, 1, 2], [3, -1, 5]]).astype(dtype)
    if raw.dtype.kind == "f":
        raw[0, 0] = np.nan
    version = object.__new__(OpenedVersion)
    version._variables = {"v": xr.Variable(("y", "x"), raw, attributes)}
    found = version.decode("v", raw.copy())
    wanted = xr.conventions.decode_cf_variable("v", xr.Variable(("y", "x"), raw, dict(attributes)), decode_times=False).values
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype.newbyteorder("=")
    assert found.flags.c_contiguous
    flat = version.decode_like("v", raw.reshape(-1).copy())
    np.testing.assert_array_equal(flat, wanted.reshape(-1))
    assert flat.dtype.newbyteorder("=") == found.dtype


def test_values_that_are_not_packed_do_not_go_through_xarray(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports dask for the first of them, which takes longer than the table of a process that has just begun."""
    version = object.__new__(OpenedVersion)
    version._variables = {"v": xr.Variable(("y",), np.arange(3.0), {"_FillValue": NAN})}
    monkeypatch.setattr(xr.conventions, "decode_cf_variable", None)
    assert version.decode_like("v", np.array([1.0, NAN])).tolist()[:1] == [1.0]


@pytest.mark.parametrize("runs", [[(3, 17)], [(0, 5)], [(5, 10)], [(19, 20)], [(0, 20)], [(15, 20), (0, 4)]], ids=str)
def test_a_window_by_chunks_is_the_window(runs: list[tuple[int, int]]) -> None:
    stored = np.arange(20)
    window = Window("x", tuple(IndexRange(*each) for each in runs))
    found = np.full(window.size, -1)
    for at, source, target in _by_chunk(window, 5):
        found[target] = stored[at * 5 : at * 5 + 5][source]
    assert np.array_equal(found, stored[window.indices()])
