"""Periods of every type: printing and parsing turn back, spans are contiguous, and types are inferred from data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.calendars import Stamp, exists, ordinal
from cubeport.cubes.periods import CLIMATOLOGIES, PERIOD_TYPES, end_of, format_period, gaps, infer, nearly, of, parse, start_of
from cubeport.errors import InvalidPeriod

CALENDARS = ("standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian")
MOMENTS = [each for each in PERIOD_TYPES if each not in ("climatology", "none")]


@st.composite
def periods(draw: st.DrawFn) -> tuple[str, str, int]:
    calendar = draw(st.sampled_from(CALENDARS))
    kind = draw(st.sampled_from([each for each in MOMENTS if each != "weekly" or calendar in CALENDARS[:2]]))
    stamp = Stamp(draw(st.integers(1583, 9997)), draw(st.integers(1, 12)), draw(st.integers(1, 28)), draw(st.integers(0, 23)))
    return kind, calendar, of(stamp, kind, calendar)  # type: ignore[arg-type]


@given(periods())
def test_parsing_undoes_printing(case: tuple[str, str, int]) -> None:
    kind, calendar, number = case
    text = format_period(number, kind, calendar)  # type: ignore[arg-type]
    for side in ("start", "end"):
        assert parse(text, kind, calendar, side=side) == number  # type: ignore[arg-type]
    assert parse(str(start_of(number, kind, calendar)), kind, calendar) == number  # type: ignore[arg-type]


@given(periods(), st.integers(0, 400))
def test_periods_follow_each_other_without_holes(case: tuple[str, str, int], ahead: int) -> None:
    kind, calendar, number = case
    if kind == "irregular":
        return
    number += ahead
    start, end = start_of(number, kind, calendar), end_of(number, kind, calendar)  # type: ignore[arg-type]
    assert start < end == start_of(number + 1, kind, calendar)  # type: ignore[arg-type]
    assert of(start, kind, calendar) == number  # type: ignore[arg-type]
    last = ordinal(end, calendar) - 1  # type: ignore[arg-type]
    from cubeport.cubes.calendars import stamp_of

    assert of(stamp_of(last, calendar), kind, calendar) == number  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind", "calendar", "start", "end"),
    [
        ("2024-02", "daily", "standard", "2024-02-01", "2024-02-29"),
        ("2024-02", "daily", "360_day", "2024-02-01", "2024-02-30"),
        ("2024", "monthly", "standard", "2024-01", "2024-12"),
        ("2024-02-10", "6-hourly", "standard", "2024-02-10T00", "2024-02-10T18"),
        ("2024-02", "dekadal", "standard", "2024-02-01", "2024-02-21"),
        ("2024-02-D2", "dekadal", "standard", "2024-02-11", "2024-02-11"),
        ("2024-01-P6", "pentad", "standard", "2024-01-26", "2024-01-26"),
        ("2024-W05", "daily", "standard", "2024-01-29", "2024-02-04"),
        ("2020", "weekly", "standard", "2020-W01", "2020-W53"),
        ("2024-01-31T23:30:00-01:00", "daily", "standard", "2024-02-01", "2024-02-01"),
        ("2024-02-28", "irregular", "standard", "2024-02-28T00:00:00Z", "2024-02-28T23:59:59.999999Z"),
        ("1582-10", "daily", "standard", "1582-10-01", "1582-10-31"),
    ],
)
def test_coarser_texts_have_two_ends(text: str, kind: str, calendar: str, start: str, end: str) -> None:
    assert format_period(parse(text, kind, calendar, side="start"), kind, calendar) == start  # type: ignore[arg-type]
    assert format_period(parse(text, kind, calendar, side="end"), kind, calendar) == end  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "kind", "calendar"),
    [
        ("2024-02-30", "daily", "standard"),
        ("2023-02-29", "daily", "noleap"),
        ("2024-01-31", "monthly", "standard"),
        ("2024-01", "yearly", "standard"),
        ("2024-01-02", "pentad", "standard"),
        ("2024-01-P7", "pentad", "standard"),
        ("2024-01-P6", "dekadal", "standard"),
        ("2024-01-31T17", "6-hourly", "standard"),
        ("2024-01-31T24", "hourly", "standard"),
        ("2021-W53", "weekly", "standard"),
        ("2021-W00", "weekly", "standard"),
        ("0000", "yearly", "standard"),
        ("2024-1", "monthly", "standard"),
        ("1582-10-10", "daily", "standard"),
        ("latest", "daily", "standard"),
        ("", "daily", "standard"),
        ("2024" * 20, "daily", "standard"),
        ("2024", "none", "standard"),
        ("2024-W01", "weekly", "360_day"),
        ("2024-W01", "daily", "noleap"),
        ("2024", "fortnightly", "standard"),
    ],
)
def test_what_is_no_period_is_refused(text: str, kind: str, calendar: str) -> None:
    with pytest.raises(InvalidPeriod):
        parse(text, kind, calendar)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(CLIMATOLOGIES))
def test_climatologies_are_lists(kind: str) -> None:
    for number, label in enumerate(CLIMATOLOGIES[kind]):
        assert parse(label, "climatology", climatology=kind) == number
        assert format_period(number, "climatology", climatology=kind) == label
    with pytest.raises(InvalidPeriod):
        parse("2024", "climatology", climatology=kind)


def test_gaps_are_holes_between_ordinals() -> None:
    assert list(gaps([1, 2, 3, 5, 9])) == [(4, 4), (6, 8)]
    assert list(gaps([])) == []


@given(periods(), st.integers(2, 30))
def test_even_labels_tell_their_type(case: tuple[str, str, int], count: int) -> None:
    kind, calendar, number = case
    if kind == "irregular":
        return
    labels = [start_of(number + n, kind, calendar) for n in range(count)]  # type: ignore[arg-type]
    bounds = labels, [end_of(number + n, kind, calendar) for n in range(count)]  # type: ignore[arg-type]
    assert infer(labels, calendar, bounds) == kind  # type: ignore[arg-type]
    if kind not in ("pentad", "dekadal") or count > 8:
        assert infer(labels, calendar) in (kind, "irregular")  # type: ignore[arg-type]


def test_types_are_inferred_from_what_the_data_say() -> None:
    days = [Stamp(2024, 1, d, 12) for d in (1, 2, 3)]
    assert infer(days, "standard") == "daily"
    assert infer([days[0], days[2]], "standard") == "irregular"
    assert infer([days[0], days[2]], "standard", frequency="day") == "daily"
    assert infer([Stamp(2024, 1, 16, 12), Stamp(2024, 2, 15, 12), Stamp(2024, 3, 16, 12)], "standard") == "monthly"
    assert infer([Stamp(2024, 1, 31), Stamp(2024, 2, 29), Stamp(2024, 3, 31)], "standard") == "monthly"
    assert infer([Stamp(2024, 1, 16)], "standard", frequency="mon") == "monthly"
    assert infer([Stamp(2024, 1, 16)], "standard") == "irregular"
    assert infer([Stamp(2024, 1, 1, h) for h in (0, 6, 12, 18)], "standard") == "6-hourly"
    assert infer([Stamp(2024, 1, d) for d in (1, 8, 15, 22)], "standard") == "weekly"
    assert infer([Stamp(2024, 1, d) for d in (1, 11, 21)], "standard") == "dekadal"
    # two labels in one month are never months, whatever the frequency says
    assert infer([Stamp(2024, 1, 1), Stamp(2024, 1, 20)], "standard", frequency="mon") == "irregular"
    assert infer([], "standard") == "none"


@pytest.mark.parametrize("kind", ["daily", "pentad", "dekadal", "monthly", "yearly"])
def test_periods_around_the_skipped_days_begin_on_days_that_exist(kind: str) -> None:
    numbers = range(of(Stamp(1582, 9, 1), kind), of(Stamp(1582, 12, 31), kind) + 2)
    starts = [start_of(number, kind) for number in numbers]
    assert all(exists(*start[:3], "standard") for start in starts)
    assert [ordinal(start, "standard") for start in starts] == sorted(ordinal(start, "standard") for start in starts)


def test_labels_around_the_skipped_days_have_a_type() -> None:
    """The dekad of the 11th began on a day that does not exist, and ended when it began."""
    labels = [Stamp(1582, 10, day) for day in (1, 20, 21)]
    assert infer(labels, "standard") == "irregular"


@pytest.mark.parametrize(
    ("days", "hours", "found"),
    [
        ((1, 2, 3, 6, 7, 8), (12,) * 6, ("daily", 2)),
        ((1, 2, 3, 4), (0,) * 4, None),  # none is missing
        ((1, 3, 5, 8), (0,) * 4, None),  # every second day at most
        ((1, 2, 3, 6, 7, 8), (0, 3, 1, 7, 2, 5), None),  # whenever something happened
        ((1, 1, 1, 1, 1, 2), (0, 6, 12, 18, 19, 0), None),  # at no even hours
        ((1, 1, 1, 2, 2, 2), (0, 6, 12, 0, 6, 12), ("6-hourly", 1)),
    ],
)
def test_steps_of_which_some_are_missing_have_a_type(
    days: tuple[int, ...], hours: tuple[int, ...], found: tuple[str, int] | None
) -> None:
    labels = [Stamp(2024, 1, day, hour) for day, hour in zip(days, hours, strict=True)]
    assert nearly(labels, "standard") == found
