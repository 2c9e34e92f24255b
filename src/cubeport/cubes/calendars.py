"""The calendars of CF, as arithmetic on fields: a stamp keeps the year, month and day of its own calendar.

Stamps are compared by their fields, never by elapsed seconds; 30 February exists in ``360_day``. This module imports neither numpy
nor cftime, so every face can use it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from cubeport.errors import InvalidPeriod
from cubeport.leap import without_leap

type CalendarName = Literal["standard", "proleptic_gregorian", "noleap", "all_leap", "360_day", "julian"]

_ALIASES: dict[str, CalendarName] = {
    "": "standard",
    "standard": "standard",
    "gregorian": "standard",
    "proleptic_gregorian": "proleptic_gregorian",
    "noleap": "noleap",
    "365_day": "noleap",
    "all_leap": "all_leap",
    "366_day": "all_leap",
    "360_day": "360_day",
    "julian": "julian",
}

_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

DAY_US = 86_400_000_000
"""Microseconds of a day."""

_GREGORIAN_FROM = (1582, 10, 15)
"""The first Gregorian day of the standard calendar. The day before is 4 October 1582 (Julian)."""

_STAMP = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d{2}):(\d{2}))?", re.ASCII
)


class Stamp(NamedTuple):
    """A moment as fields of its own calendar. Within one calendar, tuples compare in time order."""

    year: int
    month: int
    day: int
    hour: int = 0
    minute: int = 0
    second: int = 0
    microsecond: int = 0

    def __str__(self) -> str:
        """Return RFC 3339 text with ``Z``, with fractions of a second only if there are any."""
        text = f"{self.year:04d}-{self.month:02d}-{self.day:02d}T{self.hour:02d}:{self.minute:02d}:{self.second:02d}"
        return f"{text}.{self.microsecond:06d}".rstrip("0") + "Z" if self.microsecond else text + "Z"


def canonical(name: str) -> CalendarName | None:
    """Return the canonical name of a calendar, or ``None`` if CF has no such calendar; ``gregorian`` and an empty name are
    ``standard``.
    """
    return _ALIASES.get(name.strip().lower())


def same(a: str, b: str, *, earliest: Stamp) -> bool:
    """Return whether two calendars agree from *earliest* on: ``standard`` equals ``proleptic_gregorian`` from 1582-10-15."""
    first, second = canonical(a), canonical(b)
    if first is None or second is None or first == second:
        return first is not None and first == second
    return {first, second} == {"standard", "proleptic_gregorian"} and earliest[:3] >= _GREGORIAN_FROM


def is_leap(year: int, calendar: CalendarName) -> bool:
    """Return whether February has 29 days. In ``360_day`` no year is a leap year."""
    match calendar:
        case "noleap" | "360_day":
            return False
        case "all_leap":
            return True
        case "julian":
            return year % 4 == 0
        case "standard" if year <= 1582:
            return year % 4 == 0
        case _:
            return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year: int, month: int, calendar: CalendarName) -> int:
    """Return the last day of a month (31 for October 1582, although it skips ten days)."""
    if calendar == "360_day":
        return 30
    return 29 if month == 2 and is_leap(year, calendar) else _MONTHS[month - 1]


def exists(year: int, month: int, day: int, calendar: CalendarName) -> bool:
    """Return whether the calendar has this day, in the years 0001–9999."""
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= days_in_month(year, month, calendar)):
        return False
    return not is_skipped(year, month, day, calendar)


def is_skipped(year: int, month: int, day: int, calendar: CalendarName) -> bool:
    """Return whether this is one of the ten days between the Julian and the Gregorian part of ``standard``."""
    return calendar == "standard" and (1582, 10, 4) < (year, month, day) < _GREGORIAN_FROM


def first_from(year: int, month: int, day: int, calendar: CalendarName) -> Stamp:
    """Return the first moment of a day, or of the day that follows the skipped ones."""
    return Stamp(*(_GREGORIAN_FROM if is_skipped(year, month, day, calendar) else (year, month, day)))


@lru_cache(maxsize=1 << 14)
def day_number(year: int, month: int, day: int, calendar: CalendarName) -> int:
    """Return the ordinal of a day: consecutive days of a calendar have consecutive numbers.

    Results are cached, because a long axis of hours needs the same day many times.
    """
    match calendar:
        case "360_day":
            return (year * 12 + month - 1) * 30 + day
        case "noleap":
            return year * 365 + sum(_MONTHS[: month - 1]) + day
        case "all_leap":
            return year * 366 + sum(_MONTHS[: month - 1]) + (month > 2) + day
        case _:
            gregorian = calendar == "proleptic_gregorian" or (calendar == "standard" and (year, month, day) >= _GREGORIAN_FROM)
            # Julian day number of Fliegel and Van Flandern: the two rules meet at 1582-10-15.
            a = (14 - month) // 12
            y = year + 4800 - a
            m = month + 12 * a - 3
            number = day + (153 * m + 2) // 5 + 365 * y + y // 4
            return number - y // 100 + y // 400 - 32045 if gregorian else number - 32083


def day_of(number: int, calendar: CalendarName) -> tuple[int, int, int]:
    """Return year, month and day of an ordinal: the inverse of :func:`day_number`."""
    match calendar:
        case "360_day":
            months, day = divmod(number - 1, 30)
            return months // 12, months % 12 + 1, day + 1
        case "noleap" | "all_leap":
            length = 365 if calendar == "noleap" else 366
            year, rest = divmod(number - 1, length)
            month = 1
            while rest >= (days := days_in_month(year, month, calendar)):
                rest -= days
                month += 1
            return year, month, rest + 1
        case _:
            gregorian = calendar == "proleptic_gregorian" or (calendar == "standard" and number >= 2299161)
            if gregorian:
                a = number + 32044
                b = (4 * a + 3) // 146097
                c = a - 146097 * b // 4
            else:
                b, c = 0, number + 32082
            d = (4 * c + 3) // 1461
            e = c - 1461 * d // 4
            m = (5 * e + 2) // 153
            return 100 * b + d - 4800 + m // 10, m + 3 - 12 * (m // 10), e - (153 * m + 2) // 5 + 1


def ordinal(stamp: Stamp, calendar: CalendarName) -> int:
    """Return the ordinal of a stamp in microseconds, counted along the days of its own calendar."""
    day = day_number(stamp.year, stamp.month, stamp.day, calendar)
    return day * DAY_US + ((stamp.hour * 60 + stamp.minute) * 60 + stamp.second) * 1_000_000 + stamp.microsecond


def stamp_of(number: int, calendar: CalendarName) -> Stamp:
    """Return the stamp of an ordinal: the inverse of :func:`ordinal`."""
    days, rest = divmod(number, DAY_US)
    seconds, microsecond = divmod(rest, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return Stamp(*day_of(days, calendar), hour, minute, second, microsecond)


def gregorian(stamp: Stamp) -> Stamp:
    """Return the stamp as a Gregorian instant; a day that the Gregorian calendar does not have becomes the last day of its
    month.
    """
    return stamp._replace(day=min(stamp.day, days_in_month(stamp.year, stamp.month, "proleptic_gregorian")))


def parse_stamp(text: str, calendar: CalendarName) -> Stamp:
    """Return the stamp of an RFC 3339 date and time in UTC; a time without an offset is UTC.

    Raises
    ------
    InvalidPeriod
        If the text is not a date and time, or the calendar has no such day.
    """
    found = _STAMP.fullmatch(without_leap(text))
    if found is None:
        raise InvalidPeriod("not an RFC 3339 date and time, such as 2024-01-31T18:00:00Z")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if hour > 23 or minute > 59 or second > 59 or not exists(year, month, day, calendar):
        raise InvalidPeriod(f"the calendar {calendar} has no such date and time")
    stamp = Stamp(year, month, day, hour, minute, second, int((found[7] or "").ljust(6, "0")[:6] or 0))
    if found[9] is None:
        return stamp
    minutes = int(found[10]) * 60 + int(found[11])
    if int(found[10]) > 23 or int(found[11]) > 59:
        raise InvalidPeriod("the offset of the time zone is not valid")
    shift = minutes * 60_000_000
    moved = stamp_of(ordinal(stamp, calendar) - (shift if found[9] == "+" else -shift), calendar)
    if not 1 <= moved.year <= 9999:
        raise InvalidPeriod("the year is outside 0001–9999")
    return moved


def now() -> Stamp:
    """Return the current time in UTC, in the standard calendar."""
    moment = datetime.now(UTC)
    return Stamp(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond)


def duration(microseconds: int) -> str:
    """Return an ISO 8601 duration of whole days, hours, minutes and seconds: ``P1D``, ``PT6H``, ``P30DT10H30M``."""
    delta = timedelta(microseconds=microseconds)
    hours, rest = divmod(delta.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{delta.microseconds:06d}".rstrip("0") if delta.microseconds else ""
    clock = "".join(
        f"{number}{letter}"
        for number, letter in ((hours, "H"), (minutes, "M"), (f"{seconds}{fraction}", "S"))
        if number not in (0, "0")
    )
    return "P" + (f"{delta.days}D" if delta.days else "") + (f"T{clock}" if clock else "")
