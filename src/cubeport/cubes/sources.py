"""The interface of a source of data: its periods, and the files of each period. Formats, stores and plugins implement it.

A source knows nothing of catalogs, stores, jobs or policies. Everything that it returns is untrusted until the gate has checked it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp

type SourceFactory = Callable[[dict[str, Any]], PeriodSource]
"""``factory(params)`` returns a source. A plugin registers it by name, and a template uses it with ``kind: plugin``."""


def is_zarr(address: str) -> bool:
    """Return whether an address is that of a Zarr store, by its name."""
    return address.partition("?")[0].rstrip("/").endswith(".zarr")


def may_be_zarr(address: str) -> bool:
    """Return whether an address can be that of a Zarr store with another name: its last part has no dot, or it ends in ``/``."""
    path = address.partition("?")[0]
    return path.endswith("/") or "." not in path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One period of a calendar. Consecutive periods have consecutive numbers, and periods are compared by these numbers."""

    number: int
    type: str
    """``daily``, ``monthly`` and so on."""
    calendar: CalendarName = "standard"

    @classmethod
    def parse(cls, text: str, type: str, calendar: CalendarName = "standard") -> Period:
        """Return the period of *text*, such as ``2024-01-31`` or ``2024-01``. Raises InvalidPeriod."""
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
        """Return the period *steps* after this one."""
        return Period(self.number + steps, self.type, self.calendar)

    def __str__(self) -> str:
        """Return its native text."""
        return periods.format_period(self.number, self.type, self.calendar)


@dataclass(frozen=True, slots=True)
class Area:
    """The named area of a request."""

    bbox: tuple[float, float, float, float]
    """West, south, east, north; CRS84 degrees; west > east crosses the antimeridian."""
    country_code: str | None = None
    """ISO 3166-1 alpha-3, if the extent has one. A source that needs it raises InvalidRequest if it is missing."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The files of one period."""

    files: tuple[Path, ...]
    """Files or Zarr folders below the given folder. Their names are visible to users."""
    validator: str | None = None
    """The source's identifier of exactly these bytes (an ETag or a digest). If it is the same later, cubeport does not fetch them
    again."""


class PeriodSource(Protocol):
    """A source of data that delivers one period at a time.

    Further attributes are optional:

    - ``validator(period) -> str | None`` returns :attr:`Fetched.validator` at low cost, without fetching;
    - ``unit(period) -> str`` names the files of a period; periods that share their files have the same name;
    - ``is_periodic`` is True for a source that has only periods, and False for one that has none;
    - ``max_concurrency`` is the number of periods that can be fetched at the same time (default 1);
    - ``resumes = True`` means that a fetch can continue with the files that a killed fetch left in its folder;
    - ``asks_each = True`` means that listing costs one request for each period;
    - ``fetch_chosen(choose, into)`` fetches, of a source without periods, only what ``choose(folder)`` needs of an excerpt;
    - ``is_patient = True`` means that it keeps ``ingestion.timeout_s`` and ``ingestion.retries`` itself, for each of its files; for
      all others cubeport keeps them for each period, and calls again what failed;
    - ``stop()`` ends running fetches that are no longer needed.
    """

    def periods(self, start: Period, end: Period) -> Sequence[Period] | None:
        """Return the existing periods from *start* to *end* (both included), ascending, each once; ``None`` if it cannot list
        them.
        """

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:
        """Write the files of one period to the folder *into*. *period* is ``None`` for a source without periods.

        Raises
        ------
        NoData
            If the source says that the period does not exist.
        """
