"""The steps of ``normalise`` and ``transforms``: what may be written, and what each does to values and labels."""

from __future__ import annotations

import shlex
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from cubeport.cubes.normalise import normalise
from cubeport.cubes.raw import dataset
from cubeport.cubes.repairs import after, flag
from cubeport.cubes.steps import NormaliseStep, TransformStep, plain
from cubeport.cubes.transforms import transform
from cubeport.cubes.units import conversion
from cubeport.errors import InvalidRequest, SourceRejected


def raw(**changes: Any) -> xr.Dataset:
    held: dict[str, Any] = {
        "time": (("time",), [0, 1, 2], {"units": "days since 2000-01-01", "standard_name": "time"}),
        "lat": (("lat",), [10.0, 0.0], {"units": "degrees_north"}),
        "lon": (("lon",), [0.0, 90.0, 180.0, 270.0], {"units": "degrees_east"}),
        "t": (("time", "lat", "lon"), np.arange(24.0, dtype="f4").reshape(3, 2, 4), {"units": "K"}),
        **changes,
    }
    return dataset({name: xr.Variable(*value) for name, value in held.items() if value is not None}, {"title": "x"})


def done(source: xr.Dataset, *steps: Any, file: str = "") -> xr.Dataset:
    return normalise(source, plain(tuple(NormaliseStep.model_validate(step) for step in steps)), file=file)


def changed(source: xr.Dataset, *steps: Any) -> xr.Dataset:
    return transform(source, plain(tuple(TransformStep.model_validate(step) for step in steps)))


@pytest.mark.parametrize(
    "step",
    [
        {},
        {"rename": {"a": "b"}, "drop": ["c"]},
        {"flip": True},
        {"wrap_longitude": 90},
        {"set_time": {}},
        {"set_time": {"values": [1]}},
        {"set_time": {"from_name": "{YYYY}", "from_variable": "d"}},
        {"tolerance": 0},
        {"drop": []},
    ],
)
def test_what_is_not_a_step_is_refused(step: Any) -> None:
    with pytest.raises(ValidationError):
        NormaliseStep.model_validate(step)


@pytest.mark.parametrize(
    "step", ["squeeze", {"sort": "time"}, {"decode_periods": "time"}, {"set_time": {"units": "days since 2000-01-01"}}]
)
def test_a_step_survives_a_round_trip_through_json(step: Any) -> None:
    one = NormaliseStep.model_validate(step)
    assert NormaliseStep.model_validate_json(one.model_dump_json()) == one
    assert len(one.model_dump()) == 1


def test_rename_and_drop_follow_what_refers_to_them() -> None:
    source = raw(
        cell=(("lat", "lon"), np.ones((2, 4)), {}),
        t=(("time", "lat", "lon"), np.zeros((3, 2, 4)), {"cell_measures": "area: cell", "coordinates": "h"}),
        h=((), 2.0, {}),
    )
    found = done(source, {"rename": {"lat": "y", "h": "height"}}, {"drop": "cell"})
    assert found["t"].dims == ("time", "y", "lon")
    assert found["t"].attrs == {"coordinates": "height"}
    assert list(found.variables) == ["time", "y", "lon", "t", "height"]


def test_renaming_two_things_alike_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="would be called lon"):
        done(raw(), {"rename": {"lat": "lon"}})


def test_a_step_that_does_not_fit_names_itself_and_what_there_is() -> None:
    with pytest.raises(InvalidRequest, match=r"step 2 \(drop\): the source has no 'x'") as caught:
        done(raw(), {"rename": {"t": "T"}}, {"drop": ["x"]})
    assert "choose from T, lat, lon, time" in str(caught.value.next_step)


def test_squeeze_and_transpose() -> None:
    source = raw(z=(("z",), [5.0], {}), t=(("time", "z", "lat", "lon"), np.arange(24.0).reshape(3, 1, 2, 4), {}))
    found = done(source, "squeeze", {"transpose": ["lon", "lat"]})
    assert (found["t"].dims, found["z"].dims) == (("lon", "lat", "time"), ())
    assert found["t"].values[3, 1, 2] == source["t"].values[2, 0, 1, 3]
    with pytest.raises(InvalidRequest, match="'lat' has length 2"):
        done(source, {"squeeze": ["lat"]})


def test_sort_takes_the_values_along() -> None:
    source = raw(time=(("time",), [2, 0, 1], {"units": "days since 2000-01-01"}))
    found = done(source, {"sort": ["time", "lat"]}, {"sort": "-lon"})
    assert (found["time"].values.tolist(), found["lat"].values.tolist()) == ([0, 1, 2], [0.0, 10.0])
    assert found["t"].values[0, 0, 0] == source["t"].values[1, 1, 3]


@pytest.mark.parametrize(
    ("labels", "end", "expected"),
    [
        ([0.0, 90.0, 180.0, 270.0], 180, [-180.0, -90.0, 0.0, 90.0]),
        ([-180.0, -90.0, 0.0, 90.0], 360, [0.0, 90.0, 180.0, 270.0]),
        ([170.0, 175.0, -180.0, -175.0], 360, [170.0, 175.0, 180.0, 185.0]),
    ],
)
def test_longitudes_are_wrapped_with_their_columns(labels: list[float], end: int, expected: list[float]) -> None:
    bounds = np.stack([np.array(labels) - 5, np.array(labels) + 5], axis=1)
    source = raw(
        lon=(("lon",), labels, {"units": "degrees_east", "bounds": "lon_bnds"}),
        lon_bnds=(("lon", "bnds"), bounds, {}),
    )
    found = done(source, {"wrap_longitude": end})
    assert found["lon"].values.tolist() == expected
    assert (found["lon_bnds"].values.mean(axis=1) == found["lon"].values).all()
    for index, label in enumerate(found["lon"].values):
        before = next(i for i, each in enumerate(labels) if (each - label) % 360 == 0)
        assert (found["t"].values[..., index] == source["t"].values[..., before]).all()


def test_packed_values_are_stored_as_what_they_mean() -> None:
    packed = np.array([[1, 2, -9]], "i2")
    source = raw(p=(("lat0", "x"), packed, {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": np.int16(-9), "units": "m"}))
    found = done(source, "decode_packed")
    assert found["p"].values.tolist()[0][:2] == [10.5, 11.0]
    assert np.isnan(found["p"].values[0, 2])
    assert set(found["p"].attrs) == {"units", "_FillValue"}
    assert found["t"].attrs == {"units": "K"}


def test_attributes_are_set_and_removed_in_the_type_of_the_values() -> None:
    found = done(
        raw(),
        {"set_attributes": {"t": {"units": "degC", "_FillValue": -1, "note": None}, "global": {"title": None, "source": "us"}}},
    )
    assert found.attrs == {"source": "us"}
    assert found["t"].attrs["units"] == "degC"
    assert found["t"].attrs["_FillValue"].dtype == np.float32


def test_a_reference_system_is_set() -> None:
    source = raw(
        lat=None, lon=None, y=(("y",), [0.0, 1000.0], {}), x=(("x",), [0.0, 1000.0], {}), t=(("y", "x"), np.zeros((2, 2)), {})
    )
    found = done(source, {"set_crs": "EPSG:3035"})
    mapping = found[found["t"].attrs["grid_mapping"]]
    assert mapping.attrs["grid_mapping_name"] == "lambert_azimuthal_equal_area"
    assert (found["x"].attrs["standard_name"], found["x"].attrs["units"]) == ("projection_x_coordinate", "m")
    with pytest.raises(InvalidRequest, match="not a reference system"):
        done(source, {"set_crs": "EPSG:1"})


def moments(found: xr.Dataset) -> list[str]:
    return [str(each)[:16] for each in np.atleast_1d(xr.decode_cf(found[["time"]])["time"].values)]


@pytest.mark.parametrize(
    ("pattern", "file", "moment"),
    [
        ("{YYYY}{MM}{DD}", "sst_20240131.nc", "2024-01-31T00:00"),
        ("{YYYY}{DOY}", "MOD_2024060_h18.nc", "2024-02-29T00:00"),
        ("{YYYY}-{MM}-{DD}T{hh}{mm}", "a 2024-01-31T0635.nc", "2024-01-31T06:35"),
        ("_{YYYY}_", "x_1999_y.nc", "1999-01-01T00:00"),
    ],
)
def test_time_comes_from_the_name_of_the_file(pattern: str, file: str, moment: str) -> None:
    source = raw(time=None, t=(("lat", "lon"), np.arange(8.0).reshape(2, 4), {}))
    found = done(source, {"set_time": {"from_name": pattern}}, file=file)
    assert found["t"].dims == ("time", "lat", "lon")
    assert found["t"].values[0].tolist() == source["t"].values.tolist()
    assert moments(found) == [moment]


def test_a_name_without_a_date_is_refused() -> None:
    source = raw(time=None, t=(("lat", "lon"), np.zeros((2, 4)), {}))
    with pytest.raises(InvalidRequest, match="does not fit"):
        done(source, {"set_time": {"from_name": "{YYYY}{MM}"}}, file="sst.nc")
    with pytest.raises(InvalidRequest, match="has no date"):
        done(source, {"set_time": {"from_name": "{YYYY}{MM}{DD}"}}, file="sst_20240231.nc")


@pytest.mark.parametrize(
    ("values", "dates"),
    [
        ([20100131, 20100228, 20100331], ["2010-01-31T00:00", "2010-02-28T00:00", "2010-03-31T00:00"]),
        ([2010001, 2010032, 2010366 - 1], ["2010-01-01T00:00", "2010-02-01T00:00", "2010-12-31T00:00"]),
        ([201001, 201002, 201003], ["2010-01-01T00:00", "2010-02-01T00:00", "2010-03-01T00:00"]),
        (
            ["2010-01-31T06:00:00Z", "2010-01-31T12:00:00Z", "2010-02-01"],
            ["2010-01-31T06:00", "2010-01-31T12:00", "2010-02-01T00:00"],
        ),
    ],
)
def test_dates_written_as_numbers_or_texts_become_time(values: list[Any], dates: list[str]) -> None:
    found = done(raw(time=(("time",), np.array(values), {})), {"set_time": {"from_variable": "time"}})
    assert moments(found) == dates


def test_time_is_declared_by_units_or_values() -> None:
    source = raw(time=(("time",), [0, 1, 2], {}))
    assert moments(done(source, {"set_time": {"units": "hours since 2001-02-03"}})) == [
        "2001-02-03T00:00",
        "2001-02-03T01:00",
        "2001-02-03T02:00",
    ]
    found = done(source, {"set_time": {"units": "days since 2000-01-01", "values": [0, 31, 60]}})
    assert moments(found) == ["2000-01-01T00:00", "2000-02-01T00:00", "2000-03-01T00:00"]
    with pytest.raises(InvalidRequest, match="2 values, and 'time' has 3 steps"):
        done(source, {"set_time": {"units": "days since 2000-01-01", "values": [0, 1]}})


def test_parts_of_months_are_taken_when_asked_for() -> None:
    source = raw(time=(("time",), [0.5, 1.0, 2.5], {"units": "months since 2001-01-01"}))
    found = done(source, {"decode_periods": {"time": "parts"}})
    assert found["time"].values.tolist() == [15.5, 31.0, 59 + 15.5]


def test_positions_that_stand_still_lose_their_time() -> None:
    lon, lat = np.meshgrid([10.0, 10.1], [50.0, 50.1])
    source = raw(
        time=None,
        lat=None,
        lon=None,
        XLONG=(("Time", "y", "x"), np.stack([lon, lon]), {}),
        XLAT=(("Time", "y", "x"), np.stack([lat, lat]), {}),
        t=(("Time", "y", "x"), np.zeros((2, 2, 2)), {}),
    )
    found = done(source, {"positions": {"longitude": "XLONG", "latitude": "XLAT"}})
    assert (found["XLONG"].dims, found["XLONG"].attrs["units"]) == (("y", "x"), "degrees_east")
    assert found["t"].attrs["coordinates"] == "XLAT XLONG"
    moving = source.assign(XLONG=(("Time", "y", "x"), np.stack([lon, lon + 1])))
    with pytest.raises(InvalidRequest, match="the grid moves"):
        done(moving, {"positions": {"longitude": "XLONG", "latitude": "XLAT"}})


def test_values_change_with_their_units_and_stay_lazy() -> None:
    found = changed(raw(), {"kelvin_to_celsius": "t"}, {"mask": {"t": {"above": -255.0}}})
    assert (found["t"].dtype, found["t"].attrs["units"]) == (np.float32, "degC")
    expected = np.arange(24.0).reshape(3, 2, 4) - 273.15
    assert np.allclose(found["t"].values, np.where(expected > -255, np.nan, expected), equal_nan=True)
    assert np.isclose(found["t"][1:2, 1, ::2].values, expected[1:2, 1, ::2]).all()


def test_missing_and_packed_values_are_converted_as_what_they_mean() -> None:
    packed = np.array([[0, 100, -9]], "i2")
    source = raw(
        p=(
            ("y", "x"),
            packed,
            {"scale_factor": 0.01, "add_offset": 0.0, "_FillValue": np.int16(-9), "units": "m", "valid_max": 100},
        )
    )
    found = changed(source, {"metres_to_mm": ["p"]})
    assert found["p"].values[0, :2].tolist() == [0.0, 1000.0]
    assert np.isnan(found["p"].values[0, 2])
    assert (found["p"].attrs["units"], "valid_max" in found["p"].attrs) == ("mm", False)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"kelvin_to_celsius": ["t"]}, "is in 'm' and not in K"),
        ({"convert_units": {"t": "Pa"}}, "cannot be converted to 'Pa'"),
        ({"convert_units": {"lat": "radian"}}, "is a coordinate"),
        ({"scale": {"x": {"factor": 2}}}, "has no 'x'"),
        ({"deaccumulate": {"t": {"dimension": "step"}}}, "has no dimension 'step'"),
    ],
)
def test_a_conversion_that_makes_no_sense_is_refused(step: Any, words: str) -> None:
    source = raw(t=(("time", "lat", "lon"), np.zeros((3, 2, 4), "f4"), {"units": "m"}))
    with pytest.raises(InvalidRequest, match=words):
        changed(source, step)


@pytest.mark.parametrize(
    ("given", "wanted", "value", "expected"),
    [
        ("K", "celsius", 273.15, 0.0),
        ("degF", "degC", 212.0, 100.0),
        ("kg m**-2 s**-1", "mm/day", 1 / 86_400, 1.0),
        ("m", "mm", 0.5, 500.0),
        ("kg m-2", "mm", 3.0, 3.0),
        ("mbar", "Pa", 1000.0, 100_000.0),
        ("knots", "m/s", 3600 / 1852, 1.0),
        ("%", "1", 50.0, 0.5),
    ],
)
def test_conversions(given: str, wanted: str, value: float, expected: float) -> None:
    found = conversion(given, wanted)
    assert found is not None
    assert value * found[0] + found[1] == pytest.approx(expected, abs=1e-9)


def test_units_of_different_kinds_are_not_converted() -> None:
    assert conversion("MPa", "mPa") is None
    assert conversion("K", "m") is None


def test_sums_since_a_start_become_those_of_each_step() -> None:
    sums = np.array([1.0, 3.0, 6.0, 2.0, 5.0])  # begins again at the fourth
    source = dataset({"tp": xr.Variable(("time",), sums, {"units": "m"})}, {})
    found = changed(source, {"deaccumulate": "tp"})
    assert found["tp"].values.tolist() == [1.0, 2.0, 3.0, 2.0, 3.0]
    assert found["tp"][2:4].values.tolist() == [3.0, 2.0]
    assert found["tp"][1].values == 2.0
    kept = changed(source, {"deaccumulate": {"tp": {"restarts": False}}})
    assert kept["tp"].values.tolist() == [1.0, 2.0, 3.0, -4.0, 3.0]


def test_dates_that_are_none_are_refused() -> None:
    with pytest.raises(SourceRejected, match="does not contain dates"):
        done(raw(time=(("time",), [1, 2, 3], {})), {"set_time": {"from_variable": "time"}})


@pytest.mark.parametrize(
    ("values", "calendar", "dates"),
    [
        (np.array([20200115.25, 20200215.5]), None, ["2020-01-15T06:00", "2020-02-15T12:00"]),
        (np.array([2000.5, 2001.0]), None, ["2000-07-02T00:00", "2001-01-01T00:00"]),
        (np.array([2001.5]), "360_day", ["2001-07-01T00:00"]),
        ([20240229, 20240301], "noleap", None),
        ([20240228, 20240301], "noleap", ["2024-02-28T00:00", "2024-03-01T00:00"]),
        ([20230230, 20230301], "360_day", ["2023-02-30T00:00", "2023-03-01T00:00"]),
        ([2024060], "noleap", ["2024-03-01T00:00"]),
        ([15821004, 15821015], "standard", ["1582-10-04T00:00", "1582-10-15T00:00"]),
        (["2024060", "202404"], None, ["2024-02-29T00:00", "2024-04-01T00:00"]),
        (["2024-02-28_06:00:00"], None, ["2024-02-28T06:00"]),
        (np.array([20200115, 20200116], "f4"), None, None),
        (np.array([202001.5]), None, None),
        (["2020-01-01T00:00:00+02:00"], None, None),
    ],
)
def test_dates_are_those_of_the_calendar_to_the_second(values: Any, calendar: str | None, dates: list[str] | None) -> None:
    """They were counted in days of the Gregorian calendar, and read in those of the stated one."""
    step = {"set_time": {"from_variable": "time", **({"calendar": calendar} if calendar else {})}}
    source = raw(time=(("time",), np.array(values), {}), t=None)
    if dates is None:
        with pytest.raises(SourceRejected, match="does not contain dates"):
            done(source, step)
    else:
        time = done(source, step)["time"]
        assert [
            each.isoformat()[:16] for each in cftime.num2date(time.values, time.attrs["units"], time.attrs["calendar"])
        ] == dates


def test_the_date_of_a_name_is_one_of_the_calendar() -> None:
    step = {"set_time": {"from_name": "{YYYY}{MM}{DD}", "calendar": "noleap"}}
    source = raw(time=None, t=(("lat", "lon"), np.ones((2, 4)), {}))
    time = done(source, step, file="a_20240301.nc")["time"]
    assert cftime.num2date(time.values, time.attrs["units"], "noleap")[0].isoformat() == "2024-03-01T00:00:00"
    with pytest.raises(InvalidRequest, match="has no day 2024-02-29"):
        done(source, step, file="a_20240229.nc")


SINGLE, DOUBLE = ({"set_dtype": {"t": kind}} for kind in ("float32", "float64"))


def in_type(kind: str, values: Any, **attributes: Any) -> xr.Dataset:
    return raw(t=(("time", "lat", "lon"), np.resize(np.asarray(values, kind), (3, 2, 4)), attributes))


@pytest.mark.parametrize("own", ["<f8", ">f8"])
def test_single_precision_is_the_nearest_and_missing_values_stay_missing(own: str) -> None:
    values = [0.1, 1 / 3, -9999.0, np.nan, np.inf, 1e-50, -273.15, 16777217.0]
    found = done(in_type(own, values, _FillValue=np.float64(-9999), valid_min=np.float64(0.1)), SINGLE)
    assert found["t"].dtype == np.dtype("float32")
    np.testing.assert_array_equal(found["t"].values[0].ravel(), np.array(values).astype("float32"))
    for key, number in (("_FillValue", -9999), ("valid_min", 0.1)):
        assert (found["t"].attrs[key].dtype, found["t"].attrs[key]) == (np.float32, np.float32(number))
    again = done(found, DOUBLE)["t"]
    np.testing.assert_array_equal(again.values, found["t"].values.astype("float64"))
    assert (again.dtype, again.attrs["_FillValue"].dtype, again.attrs["_FillValue"]) == (np.float64, np.float64, -9999)
    assert done(found, SINGLE)["t"].variable.identical(found["t"].variable)


def test_a_fill_value_that_single_precision_does_not_have_becomes_nan() -> None:
    lowest = np.finfo("float64").min  # what GDAL writes
    found = done(in_type("f8", [1.5, lowest], missing_value=lowest, valid_max=1e300), SINGLE)["t"]
    assert found.values[0, 0].tolist()[::2] == [1.5, 1.5]
    assert np.isnan(found.values[0, 0, 1::2]).all()
    assert np.isnan(found.attrs["missing_value"])
    assert found.attrs["valid_max"] == np.finfo("float32").max


@pytest.mark.parametrize(
    ("values", "attributes", "words"),
    [
        ([0.0, -1e39], {}, r"'t' has the value -1e\+39, and the largest number of float32 is 3.40282e\+38"),
        ([0.0, 0.1 + 1e-12], {"_FillValue": np.float64(0.1)}, "cannot tell from the one that marks missing values"),
    ],
)
def test_a_value_that_single_precision_would_lose_is_refused_when_it_is_read(values: Any, attributes: Any, words: str) -> None:
    found = done(in_type("f8", values, **attributes), SINGLE)
    with pytest.raises(InvalidRequest, match=words) as caught:
        found["t"].load()
    assert str(caught.value.next_step).startswith("correct the value in the file; or leave 't' out of set_dtype")


@pytest.mark.parametrize(
    ("single", "double"),
    [(1e20, 1e20), (-9999, -9999.0), (-999.9, -999.9), (9.969209968386869e36, 9.969209968386869e36), (np.nan, np.nan)],
)
def test_the_mark_of_missing_values_is_the_one_that_double_precision_would_have(single: float, double: float) -> None:
    found = done(in_type("f4", [1.25, single], _FillValue=np.float32(single)), DOUBLE)["t"]
    np.testing.assert_array_equal(found.attrs["_FillValue"], double)
    np.testing.assert_array_equal(found.values[0, 0], [1.25, double] * 2)
    back = done(dataset({"t": found.variable}, {}), SINGLE)["t"]
    np.testing.assert_array_equal(back.values[0, 0], np.array([1.25, single] * 2, "f4"))


@pytest.mark.parametrize(
    ("step", "words", "next_step"),
    [
        ({"t": "float32"}, "'t' is packed", """unpack it first: --normalise 'decode_packed: ["t"]'"""),
        ({"n": "float64"}, "'n' is int16, and the step only converts between float32 and float64", None),
        ({"lat": "float32"}, "'lat' is a coordinate", "leave it out of set_dtype"),
        ({"edges": "float32"}, "'edges' is a coordinate", "leave it out of set_dtype"),
        ({"start": "float32"}, "'start' is a coordinate", "leave it out of set_dtype"),
        ({"none": "float32"}, "the source has no 'none'", "choose from edges, lat, lon, n, start, t, time"),
    ],
)
def test_what_has_no_precision_to_choose_is_refused(step: dict[str, str], words: str, next_step: str | None) -> None:
    source = raw(
        lat=(("lat",), [10.0, 0.0], {"units": "degrees_north", "bounds": "edges"}),
        edges=(("lat", "n2"), [[5.0, 15.0], [-5.0, 5.0]], {}),
        start=((), 0.5, {"units": "days since 2000-01-01"}),
        n=(("lat",), np.array([1, 2], "i2"), {}),
        t=(("time", "lat", "lon"), np.zeros((3, 2, 4)), {"scale_factor": 2.0}),
    )
    with pytest.raises(InvalidRequest, match=words) as caught:
        done(source, {"set_dtype": step})
    assert caught.value.next_step == next_step
    assert done(source, {"decode_packed": "t"}, SINGLE)["t"].dtype == np.float32


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, None),
        ("repeat it", "repeat it"),
        ("repeat with --normalise 'b: 1' --normalise 'c: 2'", "repeat with {} --normalise 'b: 1' --normalise 'c: 2'"),
        ("do --normalise 'b: 1'; or --normalise 'c: 2', then", "do {} --normalise 'b: 1'; or {} --normalise 'c: 2', then"),
        ("--normalise with set_time", "--normalise with set_time"),
    ],
)
def test_advised_steps_follow_those_that_a_request_repeats(told: str | None, expected: str | None) -> None:
    steps = [{"rename": {"it's": "a"}}, {"sort": ["time"]}]
    words = " ".join(flag(step) for step in steps)
    assert shlex.split(words)[1::2] == ['rename: {"it\'s": "a"}', 'sort: ["time"]']
    if told is None or expected is None:
        told = expected = f"repeat with {words}"
        assert after(told, "--transform", steps) == told
        assert after(told, "--normalise", steps) == f"repeat with {words} {words}"
        return
    assert after(told, "--normalise", steps) == expected.format(*[words] * 2)
    assert after(told, "--normalise", []) == told
