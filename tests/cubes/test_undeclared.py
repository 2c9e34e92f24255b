"""Numbers that a source means to be missing and does not declare are named, with a repair that works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray as xr

from cubeport.catalog.forms import strictyaml
from cubeport.cubes.decoding import opened
from cubeport.cubes.describe import describe
from cubeport.cubes.normalise import normalise
from cubeport.cubes.steps import NormaliseStep, TransformStep, plain
from cubeport.cubes.transforms import transform

PLACE = {"lat": ("lat", [1.0, 2], {"units": "degrees_north"}), "lon": ("lon", [1.0, 2, 3], {"units": "degrees_east"})}


def source(values: Any, dtype: str, **attributes: Any) -> xr.Dataset:
    return xr.Dataset({"t": (("lat", "lon"), np.array([values[:3], values[3:]], dtype), {"units": "K", **attributes})}, PLACE)


def kinds(raw: xr.Dataset) -> dict[str, str]:
    return {kind: words for kind, words in describe(raw).warnings if kind in ("undeclared-missing", "outside-valid-range")}


DOUBTED = {
    "text": (source([1, -999, 3, 4, 5, 6], "f4", missing_value="-999"), "undeclared-missing"),
    "another name": (source([1, 2, 3, 4, 5, -9999], "f4", FillValue=-9999.0), "undeclared-missing"),
    "packed": (source([1, 2, 3, 4, 5, -32768], "i2", nodata_value=np.int16(-32768), scale_factor=0.1), "undeclared-missing"),
    "unwritten": (source([1, 2, 3, 4, 5, -32767], "i2", scale_factor=0.1, add_offset=5.0), "undeclared-missing"),
    "unwritten reals": (source([1, 2, 3, 4, 5, 9.969209968386869e36], "f4"), "undeclared-missing"),
    "unwritten integers": (source([1, 2, 3, 4, 5, -(2**31) + 1], "i4"), "undeclared-missing"),
    "range": (source([1, 2, 3, 4, 5, -32768], "i2", valid_range=np.array([0, 100], "i2"), scale_factor=0.1), "outside-valid-range"),
    "range turned": (
        source([1, 2, 3, 4, 5, -32768], "i2", valid_range=np.array([0, 100], "i2"), scale_factor=-0.1),
        "outside-valid-range",
    ),
    "range of decoded": (
        source([1, 2, 3, 4, 5, 255], "u1", valid_range=np.array([0, 10.0], "f4"), scale_factor=0.1),
        "outside-valid-range",
    ),
    "most": (source([1, 2, 3, 4, 5, 9.9e20], "f4", valid_max=np.float32(400)), "outside-valid-range"),
}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (source([np.nan] * 6, "f4"), True),
        (source([7] * 6, "i2", _FillValue=np.int16(7)), True),
        (source([7] * 6, "i2", missing_value=np.int16(7), scale_factor=0.1), True),
        (source([7, 7, 7, 7, 7, 8], "i2", _FillValue=np.int16(7)), False),
        (source([np.inf] * 6, "f4"), True),
        (source([0] * 6, "f4"), False),
    ],
)
def test_a_variable_without_any_value_is_named(raw: xr.Dataset, said: bool) -> None:
    words = [text for kind, text in describe(raw).warnings if kind == "all-missing"]
    assert [text.startswith("'t' has no finite value in any of its 6 cells") for text in words] == [True] * said


@pytest.mark.parametrize("name", DOUBTED)
def test_the_repair_of_a_warning_makes_the_number_missing_and_the_warning_go(name: str) -> None:
    raw, kind = DOUBTED[name]
    words = kinds(raw)[kind]
    repair = re.search(r"--(normalise|transform) '(.*)'$", words)
    assert repair is not None
    model, apply = (NormaliseStep, normalise) if repair[1] == "normalise" else (TransformStep, transform)
    steps = plain((model.model_validate(strictyaml.parse(repair[2], "flag").value),))
    mended = apply(raw, steps)
    assert np.isnan(opened(mended["t"].variable, name="t")[0].values).sum() == 1
    assert kinds(mended) == {}


@pytest.mark.parametrize("name", DOUBTED)
def test_a_version_says_what_its_source_says(name: str, tmp_path: Path) -> None:
    """A Zarr store keeps attributes as JSON, where a valid range is a list."""
    raw, _ = DOUBTED[name]
    raw.to_zarr(tmp_path / "t.zarr", consolidated=False, encoding={"t": {"_FillValue": None}})
    with xr.open_zarr(tmp_path / "t.zarr", chunks=None, decode_cf=False, consolidated=False) as stored:
        assert kinds(stored) == kinds(raw)


@pytest.mark.parametrize(
    "raw",
    [
        source([1, 2, 3, 4, 5, 6], "f4", missing_value=np.float32(-999), valid_range=np.array([1, 6], "f4")),
        source([1, 2, 3, 4, 5, 65535], "u2", _FillValue=np.uint16(9)),
        source([1, 2, 3, 4, 5, 6], "f4", FillValue="none", valid_range="0 10", valid_min="0"),
        source([0, 100, -56, -6, 1, 2], "i1", _Unsigned="true", valid_range=np.array([0, -6], "i1"), scale_factor=0.5),
        source([0, 100, 7, 8, 1, 2], "i2", valid_range=np.array([0, 10.0], "f4"), scale_factor=0.1),
        source([0, 100, 7, 8, 1, 2], "i2", valid_min=np.int16(0), valid_max=np.int16(100), scale_factor=0.1, add_offset=-5.0),
    ],
)
def test_nothing_is_said_of_what_is_declared_or_no_number(raw: xr.Dataset) -> None:
    assert kinds(raw) == {}


@pytest.mark.parametrize("steps", [{"decode_packed": True}, {"decode_packed": ["t"]}])
def test_an_unpacked_variable_has_an_unpacked_valid_range(steps: dict[str, Any], tmp_path: Path) -> None:
    """It kept the packed one, by which netCDF4 took right values for missing."""
    raw = source([0, 100, 200, 4, 5, 6], "i2", valid_range=np.array([0, 150], "i2"), scale_factor=0.1, add_offset=270.0)
    decoded = normalise(raw, plain((NormaliseStep.model_validate(steps),)))
    decoded.to_netcdf(tmp_path / "t.nc")
    with netCDF4.Dataset(tmp_path / "t.nc") as found:
        values = found["t"][:]
    assert np.ma.getmaskarray(values).ravel().tolist() == [False, False, True, False, False, False]
    assert values.filled(0).ravel().tolist() == pytest.approx([270, 280, 0, 270.4, 270.5, 270.6])


def test_two_marks_of_missing_values_are_told_in_words() -> None:
    marked = source([1, -9, 7, 4, 5, 6], "i2", _FillValue=np.int16(-9), missing_value=np.int16(7))
    assert ("decoding", "'t': its _FillValue -9 and missing_value 7 are all read as missing") in describe(marked).warnings
    assert np.isnan(opened(marked["t"].variable, name="t")[0].values).sum() == 2
