"""Many stamps of one calendar, stored as numbers: the hours of ten years take 0.7 MB, and nothing is computed until it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from cubeport.cubes.calendars import DAY_US, CalendarName, Stamp, days_in_month, stamp_of

if TYPE_CHECKING:
    import numpy as np

type Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Stamps(Sequence[Stamp]):
    """Stamps in order, numbered as :func:`~cubeport.cubes.calendars.ordinal` does; a stamp is made when it is read.

    Parameters
    ----------
    ordinals
        Microseconds, counted in the days of the calendar itself. Do not change them afterwards.
    """

    __slots__ = ("calendar", "ordinals")

    def __init__(self, ordinals: Numbers, calendar: CalendarName) -> None:
        self.ordinals = ordinals
        self.calendar = calendar

    def __len__(self) -> int:
        return len(self.ordinals)

    @overload
    def __getitem__(self, index: int) -> Stamp: ...
    @overload
    def __getitem__(self, index: slice) -> Stamps: ...
    def __getitem__(self, index: int | slice) -> Stamp | Stamps:
        if isinstance(index, slice):
            return Stamps(self.ordinals[index], self.calendar)
        return stamp_of(int(self.ordinals[index]), self.calendar)

    def __iter__(self) -> Iterator[Stamp]:
        import numpy as np

        days, rest = np.divmod(self.ordinals, DAY_US)
        seconds, microseconds = np.divmod(rest, 1_000_000)
        minutes, second = np.divmod(seconds, 60)
        fields = (*dates(days, self.calendar), *np.divmod(minutes, 60), second, microseconds)
        return map(Stamp._make, zip(*(each.tolist() for each in fields), strict=True))

    def __eq__(self, other: object) -> bool:
        import numpy as np

        if isinstance(other, Stamps):
            return self.calendar == other.calendar and np.array_equal(self.ordinals, other.ordinals)
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list

    @property
    def is_ascending(self) -> bool:
        """Whether each stamp is later than the one before."""
        return bool((self.ordinals[1:] > self.ordinals[:-1]).all())

    @property
    def dates(self) -> tuple[Numbers, Numbers, Numbers]:
        """Years, months and days."""
        return dates(self.ordinals // DAY_US, self.calendar)

    @property
    def earliest(self) -> Stamp:
        """The earliest stamp, at any position."""
        return self[int(self.ordinals.argmin())]

    @property
    def latest(self) -> Stamp:
        """The latest stamp, at any position."""
        return self[int(self.ordinals.argmax())]


def dates(days: Numbers, calendar: CalendarName) -> tuple[Numbers, Numbers, Numbers]:
    """Return years, months and days of ordinals of days: :func:`~cubeport.cubes.calendars.day_of` of each."""
    import numpy as np

    if calendar == "360_day":
        months, day = np.divmod(days - 1, 30)
        return months // 12, months % 12 + 1, day + 1
    if calendar in ("noleap", "all_leap"):
        before = np.cumsum([0, *(days_in_month(1, month, calendar) for month in range(1, 13))])
        year, rest = np.divmod(days - 1, int(before[-1]))
        month = np.searchsorted(before, rest, side="right")
        return year, month, rest - before[month - 1] + 1
    # Fliegel and Van Flandern, as in calendars.day_of.
    whole = calendar == "proleptic_gregorian"
    gregorian = np.full(days.shape, whole) if calendar != "standard" else days >= _GREGORIAN_DAY
    a = days + 32044
    b = np.where(gregorian, (4 * a + 3) // 146097, 0)
    c = np.where(gregorian, a - 146097 * b // 4, days + 32082)
    d = (4 * c + 3) // 1461
    e = c - 1461 * d // 4
    m = (5 * e + 2) // 153
    return 100 * b + d - 4800 + m // 10, m + 3 - 12 * (m // 10), e - (153 * m + 2) // 5 + 1


_GREGORIAN_DAY = 2_299_161
"""The Julian day of 1582-10-15."""
