"""What is repaired in every source without being asked for: the right value, and a warning that names the part."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubeport.cubes import times
from cubeport.cubes.calendars import Stamp
from cubeport.cubes.mending import clean, counted_in_days, mend
from cubeport.errors import SourceRejected


def raw(variables: dict[str, Any] | None = None, **attributes: Any) -> xr.Dataset:
    held = {"t": (("y", "x"), np.zeros((2, 3), "f4"), {}), **(variables or {})}
    return xr.Dataset({name: xr.Variable(*value) for name, value in held.items()}, attrs=attributes)


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("Åland °C", "Åland °C"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("bell\x07 and \x1b[2J", "bell and [2J"),
        (b"\xb0C".decode("utf-8", "surrogateescape"), "°C"),
        (b"\x80 100".decode("utf-8", "surrogateescape"), "€ 100"),
        (b"\x81\xb0".decode("utf-8", "surrogateescape"), "°"),
        ("\ud800", "\ufffd"),
    ],
)
def test_texts(text: str, better: str) -> None:
    assert clean(text) == better
    mended, warnings = mend(raw(title=text))
    assert mended.attrs["title"] == better
    assert [kind for kind, _ in warnings] == ([] if text == better else ["text-repaired"])
    assert all("'title' of the file" in words for _, words in warnings)


def test_lists_of_texts_keep_their_form() -> None:
    mended, warnings = mend(raw({"s": (("x",), np.zeros(3), {"names": ["a", "b\x07"], "table": np.arange(3)})}))
    assert mended["s"].attrs["names"] == ["a", "b"]
    assert mended["s"].attrs["table"].tolist() == [0, 1, 2]
    assert "'names' of 's'" in warnings[0][1]


def test_a_long_attribute_is_skipped_and_the_others_stay() -> None:
    mended, warnings = mend(raw(history="x" * 65_537, title="kept", table=np.zeros(9_000)))
    assert mended.attrs == {"title": "kept"}
    assert warnings[0][0] == "attribute-skipped"
    assert "'history' of the file, 'table' of the file" in warnings[0][1]


def test_a_variable_without_values_is_skipped_and_named() -> None:
    mended, warnings = mend(raw({"HISTORY": (("n", "x"), np.zeros((0, 3)), {}), "n": (("n",), np.zeros(0), {})}))
    assert list(mended.variables) == ["t"]
    assert warnings == [
        ("variable-skipped", "variables without values are skipped: 'HISTORY' (n has length 0), 'n' (n has length 0)")
    ]


def test_a_source_without_any_values_is_left_for_the_refusal() -> None:
    source = xr.Dataset({"t": ("time", np.zeros(0)), "z": ("z", np.arange(3.0))})
    mended, warnings = mend(source)
    assert (set(mended.variables), warnings) == ({"t", "z"}, [])


def test_a_nameless_array_gets_a_name() -> None:
    source = xr.Dataset({"__xarray_dataarray_variable__": (("y", "x"), np.ones((2, 3)))})
    mended, warnings = mend(source)
    assert list(mended.variables) == ["values"]
    assert warnings[0][0] == "variable-renamed"


def time(values: Any, units: str, calendar: str = "standard", **more: Any) -> xr.Dataset:
    variable = ("time", np.asarray(values), {"units": units, "calendar": calendar, **more})
    return raw({"time": variable, "f": (("time",), np.zeros(len(values)), {})})


@pytest.mark.parametrize(
    ("values", "units", "calendar", "dates"),
    [
        ([0, 1, 2], "months since 1979-01-01", "standard", ["1979-01-01", "1979-02-01", "1979-03-01"]),
        ([0, 13], "months since jan 1899", "standard", ["1899-01-01", "1900-02-01"]),
        ([0.0, 1.0], "years since 2000-07-01", "noleap", ["2000-07-01", "2001-07-01"]),
        ([0, 1], "months since 2023-01-31", "standard", ["2023-01-31", "2023-02-28"]),
        ([0, 1], "months since 2000-01-01 12:00:00", "standard", ["2000-01-01", "2000-02-01"]),
        ([0, 1.5], "weeks since 2000-01-01 12:00:00", "standard", ["2000-01-01", "2000-01-12"]),
        ([0, 9], "week since 2000-01-01", "360_day", ["2000-01-01", "2000-03-04"]),
    ],
)
def test_weeks_and_whole_months_and_years_are_those_of_the_calendar(
    values: Any, units: str, calendar: str, dates: list[str]
) -> None:
    mended, warnings = counted_in_days(time(values, units, calendar))
    decoded = xr.decode_cf(mended[["time"]], decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))
    assert [each.strftime("%Y-%m-%d") for each in decoded["time"].values] == dates
    assert [kind for kind, _ in warnings] == ["time-repaired"]


def test_a_part_of_a_month_is_refused_with_the_step_that_takes_it() -> None:
    with pytest.raises(SourceRejected, match=r"at index 1 is 1\.5 months") as caught:
        counted_in_days(time([0, 1.5], "months since 1979-01-01"))
    assert caught.value.reason == "bad-time"
    assert "--normalise 'decode_periods: {time: parts}'" in (caught.value.next_step or "")


@pytest.mark.parametrize(
    ("zone", "hour"),
    [
        ("-6:00", 6),
        (" -6:00", 6),
        (" -06:00", 6),
        (" -6", 6),
        (" -0600", 6),
        (" +5:30", -5.5),
        (" UTC", 0),
        ("+01:00", -1),
        (" +01", -1),
        ("  +01", -1),
        ("+130", -1.5),
        (" gmt", 0),
        ("Z", 0),
        ("", 0),
    ],
)
@pytest.mark.parametrize("date", ["2020-01-02 00:00:00", "2020-1-2T0:0", "2020-01-02 00:00:00.0"])
def test_a_time_zone_is_heeded_however_it_is_written(date: str, zone: str, hour: float) -> None:
    """CF 4.4 writes -6:00; cftime skips it without a word, so that dates were six hours wrong."""
    units = f"hours since {date}{zone}"
    source = raw({"time": (("time",), np.array([0, 1], "i4"), {"units": units})})
    mended, warnings = counted_in_days(source)
    expected = Stamp(2020, 1, 2 if hour >= 0 else 1, int(hour % 24), round(hour % 1 * 60))
    for written in (units, mended["time"].attrs["units"]):
        assert times.decode([0, 1], written, "standard", name="time")[0] == expected
    # Every reader of the stored units agrees, the one that skipped the zone too.
    assert mended["time"].dtype == "i4"
    for use_cftime in (True, False):
        read = xr.decode_cf(mended, decode_times=xr.coders.CFDatetimeCoder(use_cftime=use_cftime)).time
        assert read.dt.strftime("%Y-%m-%d %H:%M")[0] == f"2020-01-{expected.day:02} {expected.hour:02}:{expected.minute:02}"
    assert bool(warnings) == (mended["time"].attrs["units"] != units)


@pytest.mark.parametrize("zone", ["", "+01:00", " +01:00", " +0100", " -06", " UTC", "Z"])
@pytest.mark.parametrize("date", ["2020-01-02 00:00:00", "2020-1-2T00:00:0.0"])
def test_a_time_zone_that_every_library_reads_stays_as_it_is(date: str, zone: str) -> None:
    units = f"hours since {date}{zone}"
    mended, warnings = counted_in_days(raw({"time": (("time",), np.array([0, 1], "i4"), {"units": units})}))
    assert (mended["time"].attrs["units"], list(warnings)) == (units, [])
    dates = {
        xr.decode_cf(mended, decode_times=xr.coders.CFDatetimeCoder(use_cftime=use)).time.dt.strftime("%m-%d %H:%M").values[0]
        for use in (True, False)
    }
    assert len(dates) == 1, dates


@pytest.mark.parametrize(("zone", "hour"), [(" -6:00", 6), (" -06:00", 6), (" -0600", 6), (" +5:30", -5.5)])
def test_a_time_zone_behind_a_date_alone_is_heeded(zone: str, hour: float) -> None:
    units = f"days since 2020-01-02{zone}"
    mended, warnings = counted_in_days(raw({"time": (("time",), np.array([0, 1], "i4"), {"units": units})}))
    assert [kind for kind, _ in warnings] == ["time-repaired"]
    expected = Stamp(2020, 1, 2 if hour >= 0 else 1, int(hour % 24), round(hour % 1 * 60))
    for written in (units, mended["time"].attrs["units"]):
        assert times.decode([0, 1], written, "standard", name="time")[0] == expected
    for use_cftime in (True, False):
        read = xr.decode_cf(mended, decode_times=xr.coders.CFDatetimeCoder(use_cftime=use_cftime)).time
        assert read.dt.strftime("%d %H:%M")[0] == f"{expected.day:02} {expected.hour:02}:{expected.minute:02}"


@pytest.mark.parametrize(
    ("date", "meant"),
    [
        ("2020-06-15 12", "06-15 12:00"),
        ("2020-6-15T6", "06-15 06:00"),
        ("2020-06-15 12 UTC", "06-15 12:00"),
        ("2020-06-15 12Z", "06-15 12:00"),
        ("2020-06-15  12:30:00", "06-15 12:30"),
        ("2020-06-15 T12:30", "06-15 12:30"),
        ("2020-06-15_12:30:00", "06-15 12:30"),
        ("2020-06-15, 12:30:00", "06-15 12:30"),
        ("2020-06-15 12:30:00.", "06-15 12:30"),
        ("2020-06-15 12:30:00. +1", "06-15 11:30"),
        ("2020-06-15 12:30:00 0:00", "06-15 12:30"),
        ("2020-06-15 12:30:00 1:00", "06-15 11:30"),
        ("2020-06-15 12:30 -3", "06-15 15:30"),
        ("2020/06/15 12:30", "06-15 12:30"),
        ("2020/6/15", "06-15 00:00"),
        ("20200615", "06-15 00:00"),
        ("20200615 12:30:00", "06-15 12:30"),
        ("2020-06", "06-01 00:00"),
        ("2020", "01-01 00:00"),
        ("2020-06-15 UTC", "06-15 00:00"),
        ("2020-06-15Z", "06-15 00:00"),
    ],
)
def test_a_date_is_read_to_its_end(date: str, meant: str) -> None:
    """cftime skips what it does not know of a date, without a word: ``2020/06/15`` was the first of January."""
    units = f"hours since {date}"
    mended, warnings = counted_in_days(raw({"time": (("time",), np.array([0, 1], "i4"), {"units": units})}))
    assert bool(warnings) == (mended["time"].attrs["units"] != units)
    for written in (units, mended["time"].attrs["units"]):
        first = times.decode([0, 1], written, "standard", name="time")[0]
        assert f"{first.month:02}-{first.day:02} {first.hour:02}:{first.minute:02}" == meant
    for use_cftime in (True, False):
        read = xr.decode_cf(mended, decode_times=xr.coders.CFDatetimeCoder(use_cftime=use_cftime)).time
        assert read.dt.strftime("%m-%d %H:%M")[0] == meant


@pytest.mark.parametrize(
    "date",
    ["15-06-2020", "15.06.2020", "2020.06.15", "2020-06-15 1230", "2020-06-15 12:30 (local)", "2020-06-15 at 6", "2020-06-1512"],
)
def test_a_text_that_is_only_partly_a_date_is_refused(date: str) -> None:
    with pytest.raises(SourceRejected, match=re.escape(f"counts from '{date}', which is not wholly a date")) as refused:
        times.decode([0, 1], f"hours since {date}", "standard", name="time")
    assert '"units": "hours since 2000-01-01 00:00:00"' in str(refused.value.next_step)


@pytest.mark.parametrize("zone", ["EST", "CET", "local", "PM", "UTC+3"])
def test_a_time_zone_that_means_several_is_refused(zone: str) -> None:
    with pytest.raises(SourceRejected, match=re.escape(f"in the time zone '{zone}'")) as refused:
        times.decode([0, 1], f"hours since 2020-01-01 00:00:00 {zone}", "standard", name="time")
    assert '"units": "hours since 2020-01-01 00:00:00 +00:00"' in str(refused.value.next_step)
