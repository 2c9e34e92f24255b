"""Calendar arithmetic agrees with cftime, and turns back."""

from __future__ import annotations

import cftime
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.catalog.query import parse_interval
from cubeport.cubes.calendars import (
    DAY_US,
    Stamp,
    canonical,
    day_number,
    day_of,
    days_in_month,
    duration,
    exists,
    gregorian,
    ordinal,
    parse_stamp,
    same,
    stamp_of,
)
from cubeport.cubes.describe import describe
from cubeport.cubes.selection import Instant, in_utc, parse_datetime
from cubeport.errors import InvalidFilter, InvalidPeriod

CALENDARS = ("standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian")
calendars = st.sampled_from(CALENDARS)


@st.composite
def stamps(draw: st.DrawFn) -> tuple[str, Stamp]:
    calendar = draw(calendars)
    year, month = draw(st.integers(1, 9998)), draw(st.integers(1, 12))
    day = draw(st.integers(1, days_in_month(year, month, calendar)))
    if not exists(year, month, day, calendar):
        day = 15
    return calendar, Stamp(
        year,
        month,
        day,
        draw(st.integers(0, 23)),
        draw(st.integers(0, 59)),
        draw(st.integers(0, 59)),
        draw(st.integers(0, 999_999)),
    )


@given(stamps())
def test_an_ordinal_turns_back_into_its_stamp(case: tuple[str, Stamp]) -> None:
    calendar, stamp = case
    assert stamp_of(ordinal(stamp, calendar), calendar) == stamp  # type: ignore[arg-type]
    assert parse_stamp(str(stamp), calendar) == stamp  # type: ignore[arg-type]


@given(stamps(), st.integers(-200_000, 200_000))
def test_days_are_counted_as_cftime_counts_them(case: tuple[str, Stamp], days: int) -> None:
    calendar, stamp = case
    first = cftime.datetime(stamp.year, stamp.month, stamp.day, calendar=calendar)
    number = day_number(stamp.year, stamp.month, stamp.day, calendar) + days  # type: ignore[arg-type]
    moved = day_of(number, calendar)  # type: ignore[arg-type]
    if not 1 <= moved[0] <= 9999:
        return
    then = cftime.num2date(days, f"days since {stamp.year:04d}-{stamp.month:02d}-{stamp.day:02d}", calendar)
    assert moved == (then.year, then.month, then.day)
    assert (then - first).days == days


def test_the_standard_calendar_jumps_in_october_1582() -> None:
    assert day_number(1582, 10, 15, "standard") == day_number(1582, 10, 4, "standard") + 1
    assert not exists(1582, 10, 10, "standard")
    assert exists(1582, 10, 10, "proleptic_gregorian")
    assert exists(1500, 2, 29, "standard")
    assert not exists(1500, 2, 29, "proleptic_gregorian")


def test_a_day_that_gregorian_lacks_becomes_the_last_of_its_month() -> None:
    assert str(gregorian(Stamp(2095, 2, 30))) == "2095-02-28T00:00:00Z"
    assert str(gregorian(Stamp(2096, 2, 30))) == "2096-02-29T00:00:00Z"
    assert str(gregorian(Stamp(2095, 4, 30))) == "2095-04-30T00:00:00Z"


def test_names_of_calendars() -> None:
    assert canonical("Gregorian") == "standard"
    assert canonical("365_day") == "noleap"
    assert canonical("365_days") is None
    assert same("gregorian", "proleptic_gregorian", earliest=Stamp(1582, 10, 15))
    assert not same("gregorian", "proleptic_gregorian", earliest=Stamp(1582, 10, 4))
    assert not same("noleap", "standard", earliest=Stamp(2000, 1, 1))
    assert same("365_day", "noleap", earliest=Stamp(1, 1, 1))


def test_offsets_are_taken_to_utc() -> None:
    assert parse_stamp("2024-03-01T00:30:00+02:00", "standard") == Stamp(2024, 2, 29, 22, 30)
    assert parse_stamp("2095-02-30T23:30:00-01:00", "360_day") == Stamp(2095, 3, 1, 0, 30)
    assert str(parse_stamp("2024-03-01T00:00:00.250Z", "standard")) == "2024-03-01T00:00:00.25Z"


@pytest.mark.parametrize(
    "text", ["2016-12-31T23:59:60Z", "2016-12-31t23:59:60.5z", "2017-01-01T05:29:60+05:30", "2016-12-31T18:59:60-05:00"]
)
def test_a_leap_second_is_the_end_of_its_minute(text: str) -> None:
    """RFC 3339 has it (5.7)."""
    assert parse_stamp(text, "standard") == Stamp(2016, 12, 31, 23, 59, 59, 999999)
    instant = parse_datetime(text)
    assert isinstance(instant, Instant)
    assert in_utc(instant, "standard").fields == (2016, 12, 31, 23, 59, 59, 999999)
    assert parse_interval(text.upper()).start == "2016-12-31T23:59:59.999999Z"


@pytest.mark.parametrize("text", ["2016-12-31T23:58:60Z", "2016-12-31T23:59:61Z", "2016-12-31T23:59:60+01:00"])
def test_other_minutes_have_no_leap_second(text: str) -> None:
    with pytest.raises(InvalidPeriod):
        parse_stamp(text, "standard")
    with pytest.raises(ValueError, match="exists in no calendar"):
        parse_datetime(text)
    with pytest.raises(InvalidFilter):
        parse_interval(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-01-01",
        "2024-02-30T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:00+25:00",
        "２０２４-01-01T00:00:00Z",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidPeriod):
        parse_stamp(text, "standard")


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (DAY_US, "P1D"),
        (6 * 3_600_000_000, "PT6H"),
        (30 * DAY_US + 10 * 3_600_000_000 + 29 * 60_000_000 + 6_000_000, "P30DT10H29M6S"),
        (300_000_000, "PT5M"),
        (1_500_000, "PT1.5S"),
    ],
)
def test_durations_are_iso_8601(microseconds: int, text: str) -> None:
    assert duration(microseconds) == text


def test_a_climatology_says_that_its_labels_are_no_single_year() -> None:
    """A page said '1990-01 to 1990-03' of normals of thirty years."""
    days = {"units": "days since 1990-01-01", "climatology": "edges"}
    held = {"time": ("time", [15.0, 45], days), "edges": (("time", "nv"), [[0.0, 10988], [31.0, 11016]]), "v": ("time", [1.0, 2])}
    (words,) = [words for kind, words in describe(xr.Dataset(held)).warnings if kind == "climatology"]
    assert "several years within 1990 to 2020" in words
    held["time"] = ("time", [15.0, 45], {"units": days["units"]})
    assert "climatology" not in {kind for kind, _ in describe(xr.Dataset(held)).warnings}
