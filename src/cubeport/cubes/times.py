"""Time in CF encoding: convert numbers of units since a date to stamps of their own calendar, and find the step of stamps."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from cubeport.cubes.bounded import Bounded
from cubeport.cubes.calendars import DAY_US, CalendarName, Stamp, canonical, day_number, days_in_month, duration, ordinal
from cubeport.cubes.repairs import repairable
from cubeport.cubes.stamps import Numbers, Stamps
from cubeport.errors import SourceRejected

_SINCE = re.compile(r"\s*(\w+)\s+since\s+(.+)", re.IGNORECASE)

_REFERENCE = re.compile(
    r"(?:(?P<year>[+-]?\d+)-(?P<month>\d{1,2})-(?P<day>\d{1,2})|(?P<slashed>\d{4}/\d{1,2}/\d{1,2})|(?P<packed>\d{8})|(?P<short>\d{1,4}(?:-\d{1,2})?))"
    r"(?:(?:[\s,_]+|\s*T)(?P<hour>\d{1,2})(?P<rest>:\d{1,2}(?::\d{1,2}(?:\.\d*)?)?)?)?(?![\d:])"
    r"(?:(?P<gap>\s*)(?P<zone>\S.*?))?\s*",
    re.IGNORECASE | re.ASCII,
)
"""A date as UDUNITS writes it: the time of day may end after the hour, and its zone may have no sign."""
_READ_BY_ALL = re.compile(
    r"[+-]?\d+-\d{1,2}-\d{1,2}(?:[ T]\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d+)?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?)?",
    re.ASCII,
)
"""Dates that every library reads, and reads alike."""
_OFFSET = re.compile(r"([+-]?)(\d{1,2})(?::?([0-5]\d))?", re.ASCII)
_ZONE_NAME = re.compile(r"[A-Za-z]{2,5}(?:[+-]?\d{1,2}(?::?\d{2})?)?", re.ASCII)
_UTC = frozenset({"utc", "gmt", "ut", "z"})

_SECONDS = {
    **dict.fromkeys(("day", "days", "d"), 86400.0),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "h"), 3600.0),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), 60.0),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "s"), 1.0),
    **dict.fromkeys(("millisecond", "milliseconds", "msec", "msecs", "ms", "millis"), 1e-3),
    **dict.fromkeys(("microsecond", "microseconds", "us"), 1e-6),
    **dict.fromkeys(("nanosecond", "nanoseconds", "ns"), 1e-9),
}


_MEANT = (
    (re.compile(r"365|no_?leap"), "noleap"),
    (re.compile(r"366|all_?leap"), "all_leap"),
    (re.compile(r"360"), "360_day"),
    (re.compile(r"gregor|^std$|normal"), "standard"),
)
"""Calendars that a wrong name probably means. They are suggested in the error message; a person decides."""


def is_time_units(units: object) -> bool:
    """Return whether these are time units in CF, such as ``days since 1950-01-01``."""
    return isinstance(units, str) and _SINCE.match(units) is not None


def spelled_out(units: str, *, name: str) -> str:
    """Return *units* with their date in a form that all libraries read alike.

    cftime reads as much of a date as it knows, and skips the rest without a word: the zone ``-6:00`` (CF 4.4), any zone behind a
    date without a time of day, a time of day that is only an hour or follows two spaces, and all but the year of ``2020/06/15``.
    Units that all read alike stay as they are.

    Raises
    ------
    SourceRejected
        ``bad-time``, if the text is not wholly a date, or for the name of a zone other than UTC, because many names mean several
        zones.
    """
    since = _SINCE.fullmatch(units)
    text = since[2].strip() if since else ""
    if since is None or _READ_BY_ALL.fullmatch(text) or not text.lstrip("+-")[:1].isdecimal():
        return units  # what does not begin with a number, no library reads
    found = _REFERENCE.fullmatch(text)
    date = "" if found is None else _date(found)
    zone = _zone(found) if found else None
    if zone is not None:
        return f"{since[1]} since {date}{zone}"
    if found is not None and _ZONE_NAME.fullmatch(found["zone"]):
        raise repairable(
            f"time {name!r} counts from a date in the time zone {found['zone']!r}, whose offset CF does not define",
            reason="bad-time",
            repair={"set_attributes": {name: {"units": f"{since[1]} since {date} +00:00"}}},
            before="write its offset instead of +00:00, and repeat with",
        )
    raise repairable(
        f"time {name!r} counts from {text[:40]!r}, which is not wholly a date: libraries read different dates",
        reason="bad-time",
        repair={"set_attributes": {name: {"units": f"{since[1]} since 2000-01-01 00:00:00"}}},
        before="write the date that is meant instead of 2000-01-01 00:00:00, and repeat with",
    )


def _date(found: re.Match[str]) -> str:
    """Return the date and the time of day of a reference."""
    if found["packed"]:
        day = f"{found['packed'][:4]}-{found['packed'][4:6]}-{found['packed'][6:]}"
    elif found["slashed"]:
        day = found["slashed"].replace("/", "-")
    elif found["short"]:
        day = f"{found['short']}-01" if "-" in found["short"] else f"{found['short']}-01-01"
    else:
        day = f"{found['year']}-{found['month']}-{found['day']}"
    if found["hour"] is None and not found["zone"]:
        return day
    clock = (found["rest"] or ":00:00").rstrip(".")
    return f"{day} {found['hour'] or '00'}{clock}"


def _zone(found: re.Match[str]) -> str | None:
    """Return the zone of a reference as an offset, or nothing if it has none; ``None`` if it is no offset."""
    if not found["zone"]:
        return ""
    if found["zone"].lower() in _UTC:
        return " +00:00"
    offset = _OFFSET.fullmatch(found["zone"])
    if offset is None or not (found["gap"] and offset[1] if found["hour"] is None else found["gap"] or offset[1]):
        return None
    return f" {offset[1] or '+'}{int(offset[2]):02}:{offset[3] or '00'}"


def calendar_of(attributes: Any, *, name: str) -> CalendarName:
    """Return the calendar of a time variable. Raises SourceRejected (``bad-time``) if CF has no calendar with this name."""
    text = str(attributes.get("calendar", "standard"))
    found = canonical(text)
    if found is None:
        words = f"time {name!r}: CF has no calendar with the name {text[:40]!r}"
        meant = next((calendar for pattern, calendar in _MEANT if pattern.search(text.lower())), None)
        if meant is not None:
            raise repairable(words, reason="bad-time", repair={"set_attributes": {name: {"calendar": meant}}})
        raise SourceRejected(
            words, reason="bad-time", next_step=f"state it: --normalise 'set_attributes: {{{name}: {{calendar: standard}}}}'"
        )
    return found


def decode(values: Any, units: str, calendar: CalendarName, *, name: str) -> Stamps:
    """Return the stamps of decoded numbers, in their order.

    Numbers that cannot resolve microseconds (``float64`` days since 1950) are rounded to the millisecond, so that rounding errors
    of the encoding do not appear in labels.

    Raises
    ------
    SourceRejected
        ``bad-time``, if the units or a number cannot be decoded in this calendar, or are outside the years 0001–9999.
    """
    import numpy as np

    numbers = np.atleast_1d(np.asarray(values))
    if numbers.size == 0:
        return Stamps(np.zeros(0, "int64"), calendar)
    # A long axis is decoded many times while a source is checked, joined and described.
    key = hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).digest(), numbers.dtype.str, units, calendar
    stamps = _DECODED.get(key)
    if stamps is None:
        ordinals = _decoded(numbers.ravel(), units, calendar, name=name)
        ordinals.setflags(write=False)
        stamps = Stamps(ordinals, calendar)
        if len(stamps) >= _LONG:
            _DECODED.put(key, stamps, len(stamps))
    return stamps


_LONG = 1_000
_DECODED: Bounded[tuple[bytes, str, str, str], Stamps] = Bounded(1_000_000)
"""Cached stamps of long axes, 8 bytes each."""


def _decoded(numbers: Any, units: str, calendar: CalendarName, *, name: str) -> Numbers:
    import cftime
    import numpy as np

    units = spelled_out(units, name=name)
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        where = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise repairable(
            f"time {name!r}: label {where} is missing or not finite",
            reason="bad-time",
            repair={"drop_missing": [name]},
            before="to remove the steps without a time, repeat with",
        )
    given, counted = units, numbers
    if (found := _SINCE.match(units)) and _SECONDS.get(found[1].lower()) == 1e-9:  # cftime has no nanoseconds
        given, counted = f"microseconds since {found[2]}", numbers // 1000
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about years before 1, which are refused below
            if (quick := _counted(counted, given, calendar)) is not None:
                return _to_milliseconds(quick) if _is_coarse(numbers, units) else quick
            moments = cftime.num2date(counted, given, calendar, only_use_cftime_datetimes=True)
    except (ValueError, OverflowError, TypeError, KeyError) as exc:
        raise repairable(
            f"time {name!r} cannot be decoded: units {units[:80]!r}, calendar {calendar!r}",
            reason="bad-time",
            repair={"set_attributes": {name: {"units": None}}},
            before="say what it counts with set_time, or use it as an axis of numbers without a date, with",
        ) from exc
    stamps = [Stamp(m.year, m.month, m.day, m.hour, m.minute, m.second, m.microsecond) for m in moments.ravel()]
    for index in (0, -1):
        if not 1 <= stamps[index].year <= 9999:
            raise repairable(
                f"time {name!r}: year {stamps[index].year} at index {index % len(stamps)} is outside 0001–9999",
                reason="bad-time",
                repair={"set_attributes": {name: {"units": None}}},
                before="use it as an axis of numbers without a date, with",
            )
    ordinals = np.array([ordinal(stamp, calendar) for stamp in stamps], "int64")
    return _to_milliseconds(ordinals) if _is_coarse(numbers, units) else ordinals


def _counted(numbers: Any, units: str, calendar: CalendarName) -> Numbers | None:
    """Return the ordinals of numbers of days or smaller units, or ``None`` where cftime has to decide.

    They are those of cftime, which makes an object of each number: of 100,000 it takes a quarter of a second.
    """
    import numpy as np

    found = _SINCE.match(units)
    unit = round(_SECONDS.get(found[1].lower(), 0) * 1e6) if found else 0
    if unit == 0 or numbers.dtype.kind not in "iuf":
        return None
    epoch = _epoch(units, calendar)
    if not 1 <= epoch.year <= 9999 or float(np.abs(numbers.astype("float64")).max()) * unit > _FAR_US:
        return None
    whole = np.floor(numbers).astype("int64")
    ordinals = whole * unit
    if numbers.dtype.kind == "f":
        part = (numbers.astype("float64") - whole) * unit
        near = np.rint(part)
        if bool((np.abs(part - near) > 0.25).any()):  # between two microseconds, where cftime counts with more digits
            return None
        ordinals += near.astype("int64")
    first = Stamp(epoch.year, epoch.month, epoch.day, epoch.hour, epoch.minute, epoch.second, epoch.microsecond)
    ordinals += ordinal(first, calendar)
    lowest, highest = (ordinal(Stamp(*date), calendar) for date in ((1, 1, 1), (9999, 12, 30)))
    return ordinals if lowest <= int(ordinals.min()) and int(ordinals.max()) < highest else None


@lru_cache(maxsize=256)
def _epoch(units: str, calendar: CalendarName) -> Any:
    import cftime

    return cftime.num2date(0, units, calendar, only_use_cftime_datetimes=True)


_FAR_US = 10_000 * 366 * DAY_US
"""Ten thousand years."""


def _is_coarse(numbers: Any, units: str) -> bool:
    import numpy as np

    found = _SINCE.match(units)
    if numbers.dtype.kind != "f" or found is None:
        return False
    unit = _SECONDS.get(found[1].lower(), 86400.0)
    return bool(np.spacing(np.abs(numbers).max()) * unit > 1e-8)


def _to_milliseconds(ordinals: Numbers) -> Numbers:
    return (ordinals + 500) // 1000 * 1000


def step_of(stamps: Sequence[Stamp], calendar: CalendarName, starts: Sequence[Stamp] | None = None) -> str | None:
    """Return the even step as an ISO 8601 duration, or ``None``.

    Months and years are even in months, not in days: labels at the same day and hour, at month ends, or near the middle of their
    months. If the labels do not decide, *starts*, the lower CF bounds, do.
    """
    if len(stamps) < 2:
        return None
    import numpy as np

    found = stamps if isinstance(stamps, Stamps) else Stamps(np.array([ordinal(each, calendar) for each in stamps]), calendar)
    numbers = found.ordinals
    differences = np.diff(numbers)
    least, most = int(differences.min()), int(differences.max())
    months = _months(stamps, calendar) or (_months(starts, calendar) if starts is not None else None)
    if months is not None:
        return f"P{months // 12}Y" if months % 12 == 0 else f"P{months}M"
    # Labels that were rounded to the millisecond can differ by one millisecond.
    if most - least > (1000 if bool((numbers % 1000 == 0).all()) else 0):
        return None
    mean = int(numbers[-1] - numbers[0]) / len(differences)
    return duration(least if least == most else round(mean / 1000) * 1000)


def _months(stamps: Sequence[Stamp], calendar: CalendarName) -> int | None:
    if (stamps[1].year - stamps[0].year) * 12 + stamps[1].month - stamps[0].month < 1:
        return None
    steps = {(b.year - a.year) * 12 + b.month - a.month for a, b in pairwise(stamps)}
    if len(steps) != 1 or (step := steps.pop()) < 1:
        return None
    same_day = len({stamp[2:] for stamp in stamps}) == 1
    month_ends = len({stamp[3:] for stamp in stamps}) == 1 and all(
        stamp.day == days_in_month(stamp.year, stamp.month, calendar) for stamp in stamps
    )
    return step if same_day or month_ends or all(_is_mid_month(stamp, calendar) for stamp in stamps) else None


def _is_mid_month(stamp: Stamp, calendar: CalendarName) -> bool:
    first = day_number(stamp.year, stamp.month, 1, calendar)
    into = ordinal(stamp, calendar) / DAY_US - first
    return abs(into - days_in_month(stamp.year, stamp.month, calendar) / 2) <= 1.5
