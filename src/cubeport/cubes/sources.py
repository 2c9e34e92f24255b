"""What a source of data is: which periods it has, and the files of each. A format, a store and a plugin all look like this.

A source knows no catalog, store, job or policy. What it brings is hostile until the gate has passed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp

type SourceFactory = Callable[[dict[str, Any]], PeriodSource]
"""``factory(params)`` returns a source; a plugin registers it by name, and a template says ``kind: plugin``."""


def is_zarr(address: str) -> bool:
    """Tell by its name whether an address is that of a Zarr store."""
    return address.partition("?")[0].rstrip("/").endswith(".zarr")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One period of a calendar: consecutive periods have consecutive numbers, and they are compared as such."""

    number: int
    type: str
    """``daily``, ``monthly`` and so on."""
    calendar: CalendarName = "standard"

    @classmethod
    def parse(cls, text: str, type: str, calendar: CalendarName = "standard") -> Period:
        """Return the period that *text* is: ``2024-01-31``, ``2024-01``. Raises InvalidPeriod."""
        return cls(periods.parse(text, type, calendar), type, calendar)

    @property
    def start(self) -> Stamp:
        """Its first moment."""
        return periods.start_of(self.number, self.type, self.calendar)

    @property
    def end(self) -> Stamp:
        """The first moment after it."""
        return periods.end_of(self.number, self.type, self.calendar)

    def moved(self, steps: int) -> Period:
        """Return the period so many behind this one."""
        return Period(self.number + steps, self.type, self.calendar)

    def __str__(self) -> str:
        """Return its native text."""
        return periods.format_period(self.number, self.type, self.calendar)


@dataclass(frozen=True, slots=True)
class Area:
    """The named area that is asked for."""

    bbox: tuple[float, float, float, float]
    """West, south, east, north; CRS84 degrees; west > east crosses the antimeridian."""
    country_code: str | None = None
    """ISO 3166-1 alpha-3, where the extent has one. A source that needs it says so where it is missing (InvalidRequest)."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was brought for one period."""

    files: tuple[Path, ...]
    """Files or Zarr folders below the folder that was given. Their names are shown to people."""
    validator: str | None = None
    """What the source said of exactly these bytes (an ETag, a digest): equal later means that they need not come again."""


class PeriodSource(Protocol):
    """Where data come from, one period at a time.

    Further attributes are optional:

    - ``validator(period) -> str | None``, cheap, says what :attr:`Fetched.validator` would be;
    - ``unit(period) -> str`` names the files of a period, the same for periods that share them;
    - ``is_periodic``: True for a source that has nothing but periods, False for one that has none;
    - ``max_concurrency`` is how many periods may be fetched at once, 1 where it is not said;
    - ``resumes = True`` says that what a killed fetch left in its folder is of use to the next;
    - ``asks_each = True`` says that listing costs a request for each period;
    - ``stop()`` ends running fetches when nobody wants them any more.
    """

    def periods(self, start: Period, end: Period) -> Sequence[Period] | None:
        """Return the periods that exist from *start* to *end*, both inclusive, ascending, each once; ``None`` = cannot list."""

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:
        """Bring the files of one period below the folder *into*; ``None`` is all that a source without periods has.

        Raises
        ------
        NoData
            When the source says that the period does not exist.
        """
