"""Many stamps at once: what numbers say is what cftime says, in every calendar, and what one stamp says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp, ordinal
from cubeport.cubes.describe import where_and_when
from cubeport.cubes.stamps import Stamps
from cubeport.cubes.times import decode, step_of

CALENDARS = ("standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian")
UNITS = ("days", "hours", "minutes", "seconds", "milliseconds", "microseconds")
EPOCHS = ("1950-01-01", "1582-10-15", "0001-01-01", "2000-02-29 12:30:15.25", "1900-01-01 00:00 +02:00")
PER_DAY = {"days": 1, "hours": 24, "minutes": 1440, "seconds": 86_400, "milliseconds": 86_400_000, "microseconds": 86_400_000_000}


def by_cftime(numbers: np.ndarray, units: str, calendar: CalendarName) -> list[Stamp]:
    moments = cftime.num2date(numbers, units, calendar, only_use_cftime_datetimes=True)
    return [Stamp(m.year, m.month, m.day, m.hour, m.minute, m.second, m.microsecond) for m in moments]


@st.composite
def axes(draw: st.DrawFn) -> tuple[np.ndarray, str, CalendarName]:
    calendar, unit, epoch = draw(st.sampled_from(CALENDARS)), draw(st.sampled_from(UNITS)), draw(st.sampled_from(EPOCHS))
    if calendar in ("noleap", "360_day") and "02-29" in epoch:
        epoch = "1950-01-01"
    days = draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=8))
    part = draw(st.sampled_from((0.0, 0.5, 0.25, 1 / 3)))
    numbers = (np.array(days, "float64") + part) * PER_DAY[unit]
    kind = draw(st.sampled_from(("float64", "int64", "float32", "int32") if PER_DAY[unit] < 1e4 else ("float64", "int64")))
    return numbers.astype(kind), f"{unit} since {epoch}", calendar


@given(axes())
def test_numbers_become_the_stamps_of_cftime(axis: tuple[np.ndarray, str, CalendarName]) -> None:
    numbers, units, calendar = axis
    found = decode(numbers, units, calendar, name="time")
    expected = by_cftime(numbers, units, calendar)
    ours, theirs = ([ordinal(each, calendar) for each in one] for one in (found, expected))
    # Coarse numbers are rounded to the millisecond, which cftime does not do.
    assert np.abs(np.subtract(ours, theirs)).max() <= (500 if numbers.dtype.kind == "f" else 0)
    assert [found[n] for n in range(len(found))] == list(found), "one by one as all at once"
    assert found.ordinals.tolist() == ours


@given(axes(), st.sampled_from(periods.PERIOD_TYPES))
def test_periods_of_many_are_those_of_each(axis: tuple[np.ndarray, str, CalendarName], kind: str) -> None:
    numbers, units, calendar = axis
    if kind in ("climatology", "none") or (kind == "weekly" and calendar not in ("standard", "proleptic_gregorian")):
        return
    found = decode(numbers, units, calendar, name="time")
    assert periods.numbers_of(found, kind, calendar) == periods.numbers_of(list(found), kind, calendar)


@pytest.mark.parametrize("calendar", CALENDARS)
def test_every_day_of_eight_centuries_is_the_calendars(calendar: CalendarName) -> None:
    found = decode(np.arange(0, 300_000, 1, "int32"), "days since 1400-01-01", calendar, name="time")
    some = slice(None, None, 97)
    assert list(found[some]) == by_cftime(np.arange(0, 300_000, 97), "days since 1400-01-01", calendar)
    assert found.is_ascending
    assert (found.earliest, found.latest) == (found[0], found[-1])


def test_stamps_are_a_sequence() -> None:
    days = decode(np.array([3, 1, 2]), "days since 2000-01-01", "standard", name="time")
    assert days == [Stamp(2000, 1, 4), Stamp(2000, 1, 2), Stamp(2000, 1, 3)]
    assert days != Stamps(days.ordinals, "julian")
    assert not days.is_ascending
    assert days[1:] == [Stamp(2000, 1, 2), Stamp(2000, 1, 3)]
    assert (days.earliest, days.latest) == (Stamp(2000, 1, 2), Stamp(2000, 1, 4))
    assert step_of(decode(np.arange(5) * 6, "hours since 2000-01-01", "standard", name="time"), "standard") == "PT6H"


def test_a_long_axis_is_described_without_looking_at_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at, made = [0], [0]
    iterate, num2date = Stamps.__iter__, cftime.num2date

    def counting(self: Stamps) -> Iterator[Stamp]:
        looked_at.append(len(self))
        return iterate(self)

    def counted(times: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(np.size(times))
        return num2date(times, *args, **kwargs)

    monkeypatch.setattr(Stamps, "__iter__", counting)
    monkeypatch.setattr(cftime, "num2date", counted)
    count = 50_000
    hours = {"units": "hours since 1990-01-01", "standard_name": "time", "bounds": "edges"}
    edges = np.stack([np.arange(count), np.arange(count) + 1], axis=1)
    raw = xr.Dataset(
        {"t": (("time", "x"), np.zeros((count, 1))), "edges": (("time", "nv"), edges)}, {"time": ("time", np.arange(count), hours)}
    )
    _, (when,) = where_and_when(raw)
    assert (when.count, when.period_type, when.step, when.last_period) == (count, "hourly", "PT1H", "1995-09-15T07")
    assert max(looked_at) <= 2_000
    assert max(made) <= 1
