"""Names with placeholders such as ``{YYYY}``: from a period to a name and back. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from pathlib import PurePath

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, day_number
from cubeport.cubes.sources import Period
from cubeport.errors import InvalidRequest

DATES: Mapping[str, str] = {
    "YYYY": r"\d{4}",
    "MM": r"\d\d",
    "DD": r"\d\d",
    "HH": r"\d\d",
    "DOY": r"\d{3}",
    "WW": r"\d\d",
    "DEKAD": r"\d",
    "PENTAD": r"\d",
}
"""The placeholders of dates, with the pattern that each matches in a name."""

_UNITS = (
    ("hourly", "{YYYY}-{MM}-{DD}T{HH}"),
    ("daily", "{YYYY}-{MM}-{DD}"),
    ("pentad", "{YYYY}-{MM}-P{PENTAD}"),
    ("dekadal", "{YYYY}-{MM}-D{DEKAD}"),
    ("weekly", "{YYYY}-W{WW}"),
    ("monthly", "{YYYY}-{MM}"),
    ("yearly", "{YYYY}"),
)
"""How the dates in a name are written as a period, the shortest first."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,199}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name with placeholders for dates. All other parts are plain text."""

    text: str

    @classmethod
    def of(cls, text: str, params: Mapping[str, object]) -> Pattern:
        """Return the pattern *text* with its lower-case placeholders replaced by *params*.

        Raises
        ------
        InvalidRequest
            If a placeholder is neither a date nor in *params*, or if a value could change the meaning of a URL.
        """

        def filled(found: re.Match[str]) -> str:
            name = found[1]
            if name in DATES:
                return found[0]
            if name not in params:
                known = ", ".join(f"{{{each}}}" for each in DATES)
                raise InvalidRequest(f"{{{name}}} is neither a date ({known}) nor in params of the source.")
            value = str(params[name])
            if not _VALUE.fullmatch(value) or ".." in value:
                raise InvalidRequest(f"params.{name} may hold letters, digits and ._~- only.")
            return value

        whole = _PLACEHOLDER.sub(filled, text)
        if unused := set(params) - set(_PLACEHOLDER.findall(text)):
            raise InvalidRequest(f"params of the source has {', '.join(sorted(unused))[:200]}, and no placeholder of that name.")
        return cls(whole)

    @property
    def has_dates(self) -> bool:
        """Whether the name differs by period."""
        return bool(_PLACEHOLDER.search(self.text))

    def at(self, period: Period | None) -> str:
        """Return the name for a period, with the date of its first moment; for a week, with its ISO year."""
        if period is None:
            if self.has_dates:
                raise InvalidRequest("An address with dates needs periods: name period_type, start and end.")
            return self.text
        first = period.start
        year = first.year
        if "{WW}" in self.text:
            named = periods.format_period(periods.of(first, "weekly", period.calendar), "weekly", period.calendar)
            year, week = int(named[:4]), named[-2:]
        else:
            week = "00"
        values = {
            "YYYY": f"{year:04d}",
            "MM": f"{first.month:02d}",
            "DD": f"{first.day:02d}",
            "HH": f"{first.hour:02d}",
            "DOY": f"{_day_of_year(period):03d}",
            "WW": week,
            "DEKAD": str(min((first.day - 1) // 10, 2) + 1),
            "PENTAD": str(min((first.day - 1) // 5, 5) + 1),
        }
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)

    @property
    def example(self) -> str:
        """The name with example digits for its dates, so that the URL can be checked."""
        return _PLACEHOLDER.sub("0", self.text)

    @property
    def before(self) -> str:
        """The text before the first placeholder."""
        return self.text.partition("{")[0]


def expression(part: str, *, keep: bool = False) -> str:
    """Return the regular expression of one part of a path with placeholders and ``*``. With *keep*, each date is a group."""
    pieces = re.split(r"(\{[A-Z]+\})", part)
    dates = {name: f"({each})" if keep else each for name, each in DATES.items()}
    return "".join(dates.get(p[1:-1], re.escape(p)) if p.startswith("{") else translate(p)[4:-3] for p in pieces if p)


def period_in(path: PurePath, text: str, calendar: CalendarName) -> Period | None:
    """Return the period that the name of a file says by the placeholders of the pattern *text*; ``None`` if it says none."""
    parts = PurePath(text).parts
    names = [each for each in _PLACEHOLDER.findall(text) if each in DATES]
    found = re.fullmatch("/".join(expression(each, keep=True) for each in parts), "/".join(path.parts[-len(parts) :]))
    said = dict(zip(names, found.groups(), strict=True)) if found else {}
    if found is None or tuple(said[name] for name in names) != found.groups():
        return None  # a date that is there twice, and not the same
    try:
        if "DOY" in said and "YYYY" in said:
            first = periods.parse(f"{said['YYYY']}-01-01", "daily", calendar)
            day = Period(first + int(said["DOY"]) - 1, "daily", calendar)
            return day if day.start.year == int(said["YYYY"]) else None
        for kind, form in _UNITS:
            if set(_PLACEHOLDER.findall(form)) <= set(said):
                return Period.parse(_PLACEHOLDER.sub(lambda each: said[each[1]], form), kind, calendar)
    except InvalidRequest:
        pass  # the 31st of February, or weeks in another calendar than ours
    return None


def _day_of_year(period: Period) -> int:
    first = period.start
    calendar = period.calendar
    return day_number(first.year, first.month, first.day, calendar) - day_number(first.year, 1, 1, calendar) + 1
