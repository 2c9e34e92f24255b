"""Periods of time in every calendar, with one parser and one formatter for every face.

A period is an ordinal of its type and calendar. Consecutive periods have consecutive ordinals. Periods are compared by ordinals,
never as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

from cubeport.cubes.calendars import (
    DAY_US,
    CalendarName,
    Stamp,
    day_number,
    day_of,
    days_in_month,
    exists,
    first_from,
    ordinal,
    parse_stamp,
    stamp_of,
)
from cubeport.cubes.stamps import Stamps
from cubeport.errors import InvalidPeriod

PERIOD_TYPES = (
    "hourly",
    "2-hourly",
    "3-hourly",
    "4-hourly",
    "6-hourly",
    "8-hourly",
    "12-hourly",
    "daily",
    "weekly",
    "pentad",
    "dekadal",
    "monthly",
    "yearly",
    "climatology",
    "irregular",
    "none",
)
"""All period types. Their names never change."""

CLIMATOLOGIES: dict[str, tuple[str, ...]] = {
    "monthly": tuple(f"{n:02d}" for n in range(1, 13)),
    "daily": tuple(f"{n:03d}" for n in range(1, 367)),
    "dekadal": tuple(f"{n:02d}" for n in range(1, 37)),
    "seasonal": ("DJF", "MAM", "JJA", "SON"),
}
"""The labels of each climatology, complete and in order. The ordinal is the index in the list."""

type ClimatologyKind = Literal["monthly", "daily", "dekadal", "seasonal"]

type Side = Literal["start", "end"]

type TimeLabel = Literal["start", "middle", "end"]
"""Which moment of its period a label is. A label at the end of a period is the first moment of the next one."""

_SPAN = re.compile(
    r"(?P<year>\d{4})"
    r"(?:-W(?P<week>\d{2})|-(?P<month>\d{2})(?:-P(?P<pentad>\d)|-D(?P<dekad>\d)|-(?P<day>\d{2})(?:T(?P<hour>\d{2}))?)?)?",
    re.ASCII,
)

# A later rank is coarser. A text may be coarser than its period type, but not finer.
_RANKS = {"hour": 0, "day": 1, "pentad": 2, "week": 2, "dekad": 3, "month": 4, "year": 5}
_RANK_OF_TYPE = {"daily": 1, "weekly": 2, "pentad": 2, "dekadal": 3, "monthly": 4, "yearly": 5, "irregular": 0}


def _hours(period_type: str) -> int | None:
    """Return the number of hours of an hourly type, or ``None`` for other types."""
    if period_type == "hourly":
        return 1
    return int(period_type.split("-")[0]) if period_type.endswith("-hourly") else None


def check_type(period_type: str, calendar: CalendarName = "standard", climatology: str | None = None) -> None:
    """Raise InvalidPeriod if the type is unknown or the calendar does not have it."""
    if period_type not in PERIOD_TYPES:
        raise InvalidPeriod(f"no such period type; there are {', '.join(PERIOD_TYPES)}")
    if period_type == "weekly" and calendar not in ("standard", "proleptic_gregorian"):
        raise InvalidPeriod(f"ISO weeks exist in the standard calendars only, not in {calendar}")
    if period_type == "climatology" and climatology not in CLIMATOLOGIES:
        raise InvalidPeriod(f"a climatology is one of {', '.join(CLIMATOLOGIES)}")


def climatology_of(stamp: Stamp, kind: ClimatologyKind, calendar: CalendarName) -> int:
    """Return the ordinal of the period of a climatology that contains the stamp, whatever its year."""
    match kind:
        case "monthly":
            return stamp.month - 1
        case "dekadal":
            return (stamp.month - 1) * 3 + min((stamp.day - 1) // 10, 2)
        case "seasonal":
            return stamp.month % 12 // 3
        case "daily":
            return _day_of_climatology(stamp.month, stamp.day, calendar)


def expected_of(stamps: Sequence[Stamp], kind: ClimatologyKind, calendar: CalendarName) -> set[int]:
    """Return the ordinals that a complete climatology has whose steps are in the years of *stamps*. A day that none of these years
    has, such as 29 February, is not expected.
    """
    if kind != "daily":
        return set(range(len(CLIMATOLOGIES[kind])))
    return {
        _day_of_climatology(month, day, calendar)
        for year in {stamp.year for stamp in stamps}
        for month in range(1, 13)
        for day in range(1, days_in_month(year, month, calendar) + 1)
    }


def _day_of_climatology(month: int, day: int, calendar: CalendarName) -> int:
    # The days of the longest year, so that a date has the same number in each year.
    before = 30 * (month - 1) if calendar == "360_day" else sum(_LONGEST[: month - 1])
    return before + day - 1


_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def of(stamp: Stamp, period_type: str, calendar: CalendarName = "standard") -> int:
    """Return the ordinal of the period that contains the stamp; for ``irregular``, the ordinal of the stamp itself.

    Raises
    ------
    InvalidPeriod
        For ``climatology`` and ``none``, whose periods have no moments.
    """
    return numbers_of((stamp,), period_type, calendar)[0]


def numbers_of(stamps: Iterable[Stamp], period_type: str, calendar: CalendarName = "standard") -> list[int]:
    """Return the ordinals of the periods that contain the stamps. Faster than calling :func:`of` many times."""
    check_type(period_type, calendar, "monthly")
    if isinstance(stamps, Stamps):
        many: list[int] = _numbers(stamps, period_type).tolist()
        return many
    return [_number(each, period_type, calendar) for each in stamps]


def _numbers(stamps: Stamps, period_type: str) -> Any:
    """Return what :func:`_number` returns of each, as an array."""
    if (hours := _hours(period_type)) is not None:
        return stamps.ordinals // (DAY_US // 24) // hours
    match period_type:
        case "daily":
            return stamps.ordinals // DAY_US
        case "weekly":
            return stamps.ordinals // DAY_US // 7
        case "irregular":
            return stamps.ordinals
        case "pentad" | "dekadal" | "monthly" | "yearly":
            year, month, day = stamps.dates
            month = year * 12 + month - 1
            pentads, dekads = month * 6 + ((day - 1) // 5).clip(max=5), month * 3 + ((day - 1) // 10).clip(max=2)
            return {"pentad": pentads, "dekadal": dekads, "monthly": month, "yearly": year}[period_type]
        case _:
            raise InvalidPeriod(f"periods of type {period_type} have no moments")


def _number(stamp: Stamp, period_type: str, calendar: CalendarName) -> int:
    if (hours := _hours(period_type)) is not None:
        return (day_number(stamp.year, stamp.month, stamp.day, calendar) * 24 + stamp.hour) // hours
    month = stamp.year * 12 + stamp.month - 1
    day = day_number(stamp.year, stamp.month, stamp.day, calendar)
    match period_type:
        case "daily":
            return day
        case "weekly":
            return day // 7  # Julian day 0 was a Monday
        case "pentad":
            return month * 6 + min((stamp.day - 1) // 5, 5)
        case "dekadal":
            return month * 3 + min((stamp.day - 1) // 10, 2)
        case "monthly":
            return month
        case "yearly":
            return stamp.year
        case "irregular":
            return ordinal(stamp, calendar)
        case _:
            raise InvalidPeriod(f"periods of type {period_type} have no moments")


def start_of(number: int, period_type: str, calendar: CalendarName = "standard") -> Stamp:
    """Return the first moment of a period."""
    if (hours := _hours(period_type)) is not None:
        day, hour = divmod(number * hours, 24)
        return Stamp(*day_of(day, calendar), hour)
    match period_type:
        case "daily":
            return Stamp(*day_of(number, calendar))
        case "weekly":
            return Stamp(*day_of(number * 7, calendar))
        case "pentad":
            return first_from(number // 72, number // 6 % 12 + 1, number % 6 * 5 + 1, calendar)
        case "dekadal":
            return first_from(number // 36, number // 3 % 12 + 1, number % 3 * 10 + 1, calendar)
        case "monthly":
            return Stamp(number // 12, number % 12 + 1, 1)
        case "yearly":
            return Stamp(number, 1, 1)
        case "irregular":
            return stamp_of(number, calendar)
        case _:
            raise InvalidPeriod(f"periods of type {period_type} have no moments")


def end_of(number: int, period_type: str, calendar: CalendarName = "standard") -> Stamp:
    """Return the first moment after a period; for ``irregular``, the moment itself."""
    return start_of(number if period_type == "irregular" else number + 1, period_type, calendar)


def format_period(number: int, period_type: str, calendar: CalendarName = "standard", climatology: str | None = None) -> str:
    """Return the native text of a period, such as ``2024-01``."""
    check_type(period_type, calendar, climatology)
    if period_type == "climatology":
        return CLIMATOLOGIES[str(climatology)][number]
    first = start_of(number, period_type, calendar)
    date = f"{first.year:04d}-{first.month:02d}-{first.day:02d}"
    if _hours(period_type) is not None:
        return f"{date}T{first.hour:02d}"
    match period_type:
        case "weekly":
            year, _, _ = day_of(number * 7 + 3, calendar)  # the year of its Thursday
            return f"{year:04d}-W{(number * 7 + 3 - day_number(year, 1, 1, calendar)) // 7 + 1:02d}"
        case "monthly":
            return date[:7]
        case "yearly":
            return date[:4]
        case "irregular":
            return str(first)
        case _:
            return date


def parse_holding(text: str, period_type: str, calendar: CalendarName = "standard", *, side: Side = "start") -> int:
    """Return what :func:`parse` does; a date may also stand for the week, month or year that it is in. Raises InvalidPeriod."""
    dated = _DATE.fullmatch(text) is not None and period_type in ("weekly", "pentad", "dekadal", "monthly", "yearly")
    return parse(f"{text}T00:00:00Z" if dated else text, period_type, calendar, side=side)


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def parse(
    text: str, period_type: str, calendar: CalendarName = "standard", *, side: Side = "start", climatology: str | None = None
) -> int:
    """Return the ordinal of a period from its native text, an RFC 3339 text or a coarser text.

    Parameters
    ----------
    text
        ``2024-01-31``, ``2024-01-31T18:00:00+02:00``. For daily periods, ``2024-02`` is its first day as a start and its last day
        as an end.
    side
        Whether a coarser text is a start or an end. Ends are inclusive.

    Raises
    ------
    InvalidPeriod
        When the text is not a period of that type and calendar.
    """
    check_type(period_type, calendar, climatology)
    if period_type == "none":
        raise InvalidPeriod("the dataset has no time axis: it does not accept start or end")
    if period_type == "climatology":
        try:
            return CLIMATOLOGIES[str(climatology)].index(text)
        except ValueError:
            raise InvalidPeriod(
                f"not a {climatology} climatology's label; the first is {CLIMATOLOGIES[str(climatology)][0]}"
            ) from None
    if len(text) > 40:
        raise InvalidPeriod(_expected(text, period_type))
    if (found := _SPAN.fullmatch(text)) is None:
        if "T" not in text:
            raise InvalidPeriod(_expected(text, period_type))
        return of(parse_stamp(text, calendar), period_type, calendar)
    first, last, rank = _span(found, calendar, period_type)
    if rank < _RANK_OF_TYPE.get(period_type, 0):
        raise InvalidPeriod(_expected(text, period_type))
    number = of(first if side == "start" else last, period_type, calendar)
    native = rank == _RANK_OF_TYPE.get(period_type, 0)
    if native and period_type != "irregular" and start_of(number, period_type, calendar) != first:
        raise InvalidPeriod(_expected(text, period_type))
    return number


def _expected(text: str, period_type: str) -> str:
    example = {
        "daily": "2024-01-31",
        "weekly": "2024-W05",
        "pentad": "2024-01-26",
        "dekadal": "2024-01-21",
        "monthly": "2024-01",
        "yearly": "2024",
        "irregular": "2024-01-31T18:03:20Z",
    }.get(period_type, "2024-01-31T18")
    return f"{text[:40]!r} is not a period of type {period_type}, such as {example}"


def _span(found: re.Match[str], calendar: CalendarName, period_type: str) -> tuple[Stamp, Stamp, int]:
    """Return the first and last moment of a text, and the rank of its resolution."""
    part = {key: int(value) for key, value in found.groupdict().items() if value is not None}
    year = part["year"]

    def whole(first: Stamp, after: Stamp, rank: str) -> tuple[Stamp, Stamp, int]:
        return first, stamp_of(ordinal(after, calendar) - 1, calendar), _RANKS[rank]

    def spread(number: int, kind: str, rank: str) -> tuple[Stamp, Stamp, int]:
        return whole(start_of(number, kind, calendar), end_of(number, kind, calendar), rank)

    if not exists(year, part.get("month", 1), part.get("day", 1), calendar):
        raise InvalidPeriod(f"the calendar {calendar} has no such day")
    if "week" in part:
        check_type("weekly", calendar)
        number = day_number(year, 1, 4, calendar) // 7 + part["week"] - 1
        if not 1 <= part["week"] <= 53 or format_period(number, "weekly", calendar) != found[0]:
            raise InvalidPeriod("the year has no such week")
        return spread(number, "weekly", "week")
    if "month" not in part:
        return spread(year, "yearly", "year")
    month = year * 12 + part["month"] - 1
    for kind, period, count in (("pentad", "pentad", 6), ("dekad", "dekadal", 3)):
        if kind in part:
            if not 1 <= part[kind] <= count or period_type not in (period, "irregular"):
                raise InvalidPeriod(_expected(found[0], period_type))
            return spread(month * count + part[kind] - 1, period, kind)
    if "day" not in part:
        return spread(month, "monthly", "month")
    if "hour" not in part:
        first, last, rank = spread(day_number(year, part["month"], part["day"], calendar), "daily", "day")
        # The native text of a pentad or dekad is its first day, so a date counts as coarse as they are.
        return first, last, max(rank, _RANK_OF_TYPE[period_type]) if period_type in ("pentad", "dekadal") else rank
    if part["hour"] > 23:
        raise InvalidPeriod("an hour is 00 to 23")
    number = day_number(year, part["month"], part["day"], calendar) * 24 + part["hour"]
    return spread(number, "hourly", "hour")


_MANY = 1_000
"""From how many ordinals on numpy is faster than a loop, also where it must be imported."""


def gaps(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last missing ordinal of each gap in ascending ordinals."""
    if len(numbers) < _MANY:
        return ((a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1)
    import numpy as np

    steps = np.diff(np.asarray(numbers))
    return ((numbers[at] + 1, numbers[at + 1] - 1) for at in np.flatnonzero(steps > 1).tolist())


_FREQUENCIES = {
    "day": "daily",
    "daily": "daily",
    "mon": "monthly",
    "month": "monthly",
    "monthly": "monthly",
    "yr": "yearly",
    "year": "yearly",
    "yearly": "yearly",
    "annual": "yearly",
    "1hr": "hourly",
    "hr": "hourly",
    "hourly": "hourly",
    "3hr": "3-hourly",
    "6hr": "6-hourly",
    "dec": "dekadal",
}

_FINE_TO_COARSE = ("hourly", "2-hourly", "3-hourly", "4-hourly", "6-hourly", "8-hourly", "12-hourly")
_LENGTHS = {"daily": DAY_US, "weekly": 7 * DAY_US}
_FROM_BOUNDS = (*_FINE_TO_COARSE, "daily", "pentad", "weekly", "dekadal", "monthly", "yearly")


def infer(
    labels: Sequence[Stamp],
    calendar: CalendarName,
    bounds: tuple[Sequence[Stamp], Sequence[Stamp]] | None = None,
    *,
    frequency: str | None = None,
) -> str:
    """Return the period type of ascending labels by their bounds, even spacing or ``frequency``, otherwise ``irregular``.

    A type fits only if every label has its own period, so that no step can overwrite another.
    """
    weeks = calendar in ("standard", "proleptic_gregorian")
    candidates = [each for each in _FROM_BOUNDS if each != "weekly" or weeks]
    if not labels:
        return "none"

    def fits(kind: str, stamps: Sequence[Stamp], most: int | None = None) -> bool:
        if isinstance(stamps, Stamps):
            found = _numbers(stamps, kind)
            steps = found[1:] - found[:-1]
            return len(steps) == 0 or bool(steps.min() > 0 and (most is None or steps.max() <= most))
        return all(a < b and (most is None or b - a <= most) for a, b in pairwise(numbers_of(stamps, kind, calendar)))

    if bounds is not None:
        for kind in candidates:
            if _are_periods(bounds, kind, calendar) and fits(kind, bounds[0]):
                return kind
    if len(labels) > 1:
        for kind in candidates:
            if fits(kind, labels, 1) and _is_even(labels, kind, calendar):
                return kind
    named = _FREQUENCIES.get((frequency or "").strip().lower())
    if named is not None and fits(named, labels):
        return named
    return "irregular"


def nearly(labels: Sequence[Stamp], calendar: CalendarName) -> tuple[str, int] | None:
    """Return the period type of ascending labels of which some are missing, and how many; ``None`` if they have none.

    Most labels must follow the one before without a gap, and each must be at the same place in its period.
    """
    for kind in (each for each in _FROM_BOUNDS if each != "weekly" or calendar in ("standard", "proleptic_gregorian")):
        numbers = numbers_of(labels, kind, calendar)
        steps = [b - a for a, b in pairwise(numbers)]
        if steps and min(steps) == 1 and 2 * steps.count(1) > len(steps) and _is_even(labels, kind, calendar):
            missing = sum(steps) - len(steps)
            return (kind, missing) if missing else None
    return None


def within(labels: Sequence[Stamp], calendar: CalendarName, time_label: TimeLabel) -> Sequence[Stamp]:
    """Return a moment inside the period of each step: its label, or the microsecond before a label at the end."""
    if time_label != "end":
        return labels
    if isinstance(labels, Stamps):
        return Stamps(labels.ordinals - 1, labels.calendar)
    return [stamp_of(ordinal(each, calendar) - 1, calendar) for each in labels]


def moments(
    labels: Sequence[Stamp],
    kind: str,
    calendar: CalendarName,
    bounds: tuple[Sequence[Stamp], Sequence[Stamp]] | None,
    time_label: TimeLabel = "start",
) -> Sequence[Stamp]:
    """Return the moments that decide the period of each step: the starts of bounds that are periods, otherwise the labels, each
    as *time_label* says.

    Bounds that are not periods (a year that starts in December) would assign a step to the period before its own.
    """
    if kind in ("irregular", "none", "climatology"):
        return labels
    if bounds is not None and _are_periods(bounds, kind, calendar):
        return bounds[0]
    return within(labels, calendar, time_label)


def _are_periods(bounds: tuple[Sequence[Stamp], Sequence[Stamp]], kind: str, calendar: CalendarName) -> bool:
    starts, ends = bounds
    length = _LENGTHS.get(kind) or (_hours(kind) or 0) * DAY_US // 24
    if length and isinstance(starts, Stamps) and isinstance(ends, Stamps):
        return bool((starts.ordinals % length == 0).all() and (ends.ordinals - starts.ordinals == length).all())
    return all(
        start_of(n := of(start, kind, calendar), kind, calendar) == start and end_of(n, kind, calendar) == end
        for start, end in zip(*bounds, strict=True)
    )


def _is_even(labels: Sequence[Stamp], kind: str, calendar: CalendarName) -> bool:
    """Return whether each label is at the same place in its period (approximately, if periods differ in length)."""
    length = _LENGTHS.get(kind) or (_hours(kind) or 0) * DAY_US // 24
    if length and isinstance(labels, Stamps):
        inside = labels.ordinals % length
        if int(inside.max()) == int(inside.min()):
            return True
    # A thousand labels are enough to decide, and each label has its own period in any case.
    some = labels[:: max(1, len(labels) // 1000)]
    places = []
    for stamp in some:
        number = of(stamp, kind, calendar)
        start, end = (ordinal(edge(number, kind, calendar), calendar) for edge in (start_of, end_of))
        places.append((ordinal(stamp, calendar) - start) / (end - start))
    month_ends = all(stamp.day == days_in_month(stamp.year, stamp.month, calendar) for stamp in some)
    # The middle of a month is not at the same fraction of every month.
    return month_ends or max(places) - min(places) <= (0.1 if kind == "monthly" else 0.01)
