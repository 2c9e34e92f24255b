"""Five-field cron expressions (POSIX crontab: minute, hour, day of month, month, day of week), for schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES = ("minute", "hour", "day of month", "month", "day of week")
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FURTHEST_DAYS = 366 * 5
"""How many days to search ahead. The next 29 February is usually within this time."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression. As in crontab, if both date and weekday are restricted, a day matches if either does."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """The weekdays; 0 is Sunday."""
    either: bool
    """Whether both date and weekday are restricted."""

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Return the expression. Raises ValueError with the name of the invalid field."""
        fields = text.split()
        if len(fields) != 5:
            raise ValueError(f"{text!r} has {len(fields)} fields; a schedule has five: minute hour day month weekday")
        found = [_field(*each) for each in zip(fields, _RANGES, _NAMES, strict=True)]
        restricted = not fields[2].startswith("*") and not fields[4].startswith("*")
        if not restricted and min(found[2]) > max(_LENGTHS[month - 1] for month in found[3]):
            raise ValueError(f"{text!r} never happens: no month of it has {min(found[2])} days")
        weekdays = frozenset(day % 7 for day in found[4])
        return cls(tuple(sorted(found[0])), tuple(sorted(found[1])), found[2], found[3], weekdays, restricted)

    def latest(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the latest scheduled time up to *at*, in UTC.

        As in crontab, a local time that a clock change skips is as much later, and one that it repeats counts once; of a schedule
        of every hour, twice.
        """
        return next(self._times(at.astimezone(zone).date(), -1, zone, lambda moment: moment <= at), None)

    def following(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the next scheduled time after *at*, in UTC."""
        return next(self._times(at.astimezone(zone).date(), 1, zone, lambda moment: moment > at), None)

    def _times(self, begin: date, step: int, zone: ZoneInfo, fits: Callable[[datetime], bool]) -> Iterator[datetime]:
        order: Callable[[Sequence[Any]], Iterable[Any]] = (lambda values: values) if step > 0 else reversed
        for distance in range(_FURTHEST_DAYS):
            day = begin + timedelta(days=step * distance)
            if not self._on(day):
                continue
            for hour in order(self.hours):
                at = (datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone) for minute in self.minutes)
                yield from filter(fits, order(sorted({moment for local in at for moment in self._moments(local)})))

    def _moments(self, local: datetime) -> Iterator[datetime]:
        """Yield the moments of a local time: of one that a clock change skips, with the clock before it."""
        first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
        yield first
        if second > first and len(self.hours) == 24:
            yield second

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either else by_date and by_weekday


def _field(text: str, limits: tuple[int, int], name: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            every = int(step) if slash else 1
            low = limits[0] if span == "*" else int(first)
            high = limits[1] if span == "*" or (slash and not dash) else int(last) if dash else low
        except ValueError:
            raise ValueError(f"{part!r} is not a {name}: write numbers, a-b, a,b, * or */n") from None
        if every < 1 or not limits[0] <= low <= high <= limits[1]:
            raise ValueError(f"{part!r} is not a {name}: it goes from {limits[0]} to {limits[1]}")
        found |= set(range(low, high + 1, every))
    return frozenset(found)
