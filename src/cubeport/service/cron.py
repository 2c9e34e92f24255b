"""Five-field cron expressions (POSIX crontab: minute, hour, day of month, month, day of week), for schedules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES = ("minute", "hour", "day of month", "month", "day of week")
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
        weekdays = frozenset(day % 7 for day in found[4])
        return cls(tuple(sorted(found[0])), tuple(sorted(found[1])), found[2], found[3], weekdays, restricted)

    def latest(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the latest scheduled time up to *at*, in UTC. Local times that a clock change skips do not count."""
        return next(self._times(at.astimezone(zone).date(), -1, zone, lambda moment: moment <= at), None)

    def following(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the next scheduled time after *at*, in UTC."""
        return next(self._times(at.astimezone(zone).date(), 1, zone, lambda moment: moment > at), None)

    def _times(self, begin: date, step: int, zone: ZoneInfo, fits: object) -> Iterator[datetime]:
        assert callable(fits)
        order = (lambda values: values) if step > 0 else reversed
        for distance in range(_FURTHEST_DAYS):
            day = begin + timedelta(days=step * distance)
            if not self._on(day):
                continue
            for hour in order(self.hours):
                for minute in order(self.minutes):
                    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    moment = local.astimezone(UTC)
                    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None) and fits(moment):
                        yield moment

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
