"""Periods of a table: the steps of each period with their weights, and the part of each period that has values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp, day_number, ordinal
from cubeport.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

type Method = Literal["mean", "sum", "minimum", "maximum"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of period."""

    name: str
    number: Callable[[Stamp, CalendarName], int]
    """Which one a moment is in; consecutive ones have consecutive numbers."""
    start: Callable[[int, CalendarName], Stamp]
    """Its first moment."""
    label: Callable[[int, CalendarName], str]
    within_year: Callable[[int], int] | None
    """Which one of a year it is, for its normal; ``None`` where a normal is of the days around it."""


type _Reads = tuple[Callable[[Stamp, CalendarName], int], Callable[[int, CalendarName], Stamp], Callable[[int, CalendarName], str]]


def _of(kind: str) -> _Reads:
    return (
        lambda stamp, calendar: periods.of(stamp, kind, calendar),
        lambda number, calendar: periods.start_of(number, kind, calendar),
        lambda number, calendar: periods.format_period(number, kind, calendar),
    )


def _month(stamp: Stamp) -> int:
    return stamp.year * 12 + stamp.month - 1


SEASONS = ("DJF", "MAM", "JJA", "SON")

KINDS: tuple[Kind, ...] = (
    Kind("day", *_of("daily"), None),
    Kind("week", *_of("weekly"), None),
    Kind("dekad", *_of("dekadal"), lambda number: number % 36),
    Kind("month", *_of("monthly"), lambda number: number % 12),
    Kind(
        "quarter",
        lambda stamp, _: _month(stamp) // 3,
        lambda number, _: Stamp(number // 4, number % 4 * 3 + 1, 1),
        lambda number, _: f"{number // 4:04d}-Q{number % 4 + 1}",
        lambda number: number % 4,
    ),
    # December belongs to the winter of the year after it.
    Kind(
        "season",
        lambda stamp, _: (_month(stamp) + 1) // 3,
        lambda number, _: Stamp((number * 3 - 1) // 12, (number * 3 - 1) % 12 + 1, 1),
        lambda number, _: f"{number // 4:04d}-{SEASONS[number % 4]}",
        lambda number: number % 4,
    ),
    Kind("year", *_of("yearly"), lambda _: 0),
)
"""Every kind of period, finest first; a request may also say ``as-stored``."""

AS_STORED = "as-stored"
_OF_TYPE = {"daily": "day", "weekly": "week", "dekadal": "dekad", "monthly": "month", "yearly": "year"}


def kind_named(name: str) -> Kind:
    """Return the kind of period. Raises KeyError."""
    return {each.name: each for each in KINDS}[name]


def kind_of_steps(period_type: str | None) -> Kind | None:
    """Return the kind of period that steps of this type are, or ``None``."""
    name = _OF_TYPE.get(period_type or "")
    return None if name is None else kind_named(name)


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of the data, in order."""

    labels: tuple[str, ...]
    """As a reader writes them: ``2024-01-31``, ``2024-01``, or an instant."""
    starts: tuple[Stamp, ...]
    ends: tuple[Stamp, ...]
    """The first moment behind each; of instants, the instant itself."""
    calendar: CalendarName
    spans: bool
    """Whether steps are spans of time, not instants."""
    kind: Kind | None = None
    """The kind of period that each of them is, where it is one of ours."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """How steps become periods: pairs of a step and a period, each with its weight."""

    kind: Kind | None
    """``None``: each step stays as it is."""
    labels: tuple[str, ...]
    numbers: tuple[int, ...]
    """Of the kind."""
    starts: tuple[Stamp, ...]
    ends: tuple[Stamp, ...]
    step: Array
    period: Array
    overlap: Numbers
    """How much of time the step has in common with the period (microseconds); 1 for instants."""
    part: Numbers
    """``overlap`` as a part of the step."""
    expected: Numbers
    """By period: the ``overlap`` that makes it whole; of instants, how many there are."""


def as_stored(steps: Steps) -> Grouping:
    """Return a grouping in which each step is a period."""
    count = len(steps.labels)
    numbers = tuple(steps.kind.number(each, steps.calendar) for each in steps.starts) if steps.kind else tuple(range(count))
    one = np.ones(count)
    return Grouping(
        None, steps.labels, numbers, steps.starts, steps.ends, np.arange(count), np.arange(count), one, one, one.copy()
    )  # fmt: skip


def grouped(steps: Steps, kind: Kind) -> Grouping:
    """Return a grouping of the steps by the periods that they overlap.

    A step that lies in two periods, as a week at the end of a month does, counts in each by the days that it has there.

    Raises
    ------
    InvalidRequest
        When the steps are longer than the periods, or a calendar has no such period.
    """
    calendar = steps.calendar
    if kind.name == "week":
        periods.check_type("weekly", calendar)
    pairs: list[tuple[int, int, float, float]] = []
    for place, (start, end) in enumerate(zip(steps.starts, steps.ends, strict=True)):
        first = kind.number(start, calendar)
        if not steps.spans or end <= start:
            pairs.append((place, first, 1.0, 1.0))
            continue
        a, b = ordinal(start, calendar), ordinal(end, calendar)
        number = first
        while True:
            low = ordinal(kind.start(number, calendar), calendar)
            high = ordinal(kind.start(number + 1, calendar), calendar)
            common = min(b, high) - max(a, low)
            if common > 0:
                pairs.append((place, number, float(common), common / (b - a)))
            if high >= b:
                break
            number += 1
            if number - first > 1:
                name = steps.kind.name if steps.kind else "step"
                raise InvalidRequest(
                    f"A {name} of these data is longer than a {kind.name}: no value of a {kind.name} can be made of it.",
                    next_step="Choose a longer period.",
                )
    numbers = sorted({number for _, number, _, _ in pairs})
    places = {number: i for i, number in enumerate(numbers)}
    starts = tuple(kind.start(number, calendar) for number in numbers)
    ends = tuple(kind.start(number + 1, calendar) for number in numbers)
    step = np.array([each for each, _, _, _ in pairs], "int64")
    of = np.array([places[number] for _, number, _, _ in pairs], "int64")
    overlap, part = (np.array([each[i] for each in pairs]) for i in (2, 3))
    if steps.spans:
        expected = np.array([float(ordinal(b, calendar) - ordinal(a, calendar)) for a, b in zip(starts, ends, strict=True)])
    else:
        expected = np.bincount(of, minlength=len(numbers)).astype("float64")
    labels = tuple(kind.label(number, calendar) for number in numbers)
    return Grouping(kind, labels, tuple(numbers), starts, ends, step, of, overlap, part, expected)


def reduced(values: Numbers, shares: Numbers, grouping: Grouping, method: Method, *, min_share: float) -> tuple[Numbers, Numbers]:
    """Return values and shares for each period, ``(periods, …)``. A value is NaN if less than *min_share* of the period has values.

    Parameters
    ----------
    values, shares
        ``(steps, zones)``: NaN is missing; the part of each zone that has values.
    """
    count = len(grouping.labels)
    shape = (count, *values.shape[1:])
    present = ~np.isnan(values)
    there, share = np.zeros(shape), np.zeros(shape)
    np.add.at(there, grouping.period, grouping.overlap[:, None] * present[grouping.step])
    np.add.at(share, grouping.period, grouping.overlap[:, None] * shares[grouping.step])
    expected = grouping.expected[:, None]
    filled = np.where(present, values, 0.0)[grouping.step]
    if method == "mean":
        total = np.zeros(shape)
        np.add.at(total, grouping.period, grouping.overlap[:, None] * filled)
        found = np.divide(total, there, out=np.full(shape, np.nan), where=there > 0)
    elif method == "sum":
        found = np.zeros(shape)
        np.add.at(found, grouping.period, grouping.part[:, None] * filled)
    else:
        # A step belongs to the period that has most of it: a few days of another month are not this one's extreme.
        most = grouping.part >= 0.5
        empty = -np.inf if method == "maximum" else np.inf
        found = np.full(shape, empty)
        how = np.maximum if method == "maximum" else np.minimum
        how.at(found, grouping.period[most], np.where(present, values, empty)[grouping.step[most]])
        found[~np.isfinite(found)] = np.nan
    enough = (there >= min_share * expected - 1e-6) & (there > 0)
    return np.where(enough, found, np.nan), np.minimum(share / expected, 1.0)


def cells_of(cells: Numbers, grouping: Grouping) -> Numbers:
    """Return the largest number of cells of any step of each period, ``(periods, zones)``."""
    found = np.zeros((len(grouping.labels), *cells.shape[1:]))
    np.maximum.at(found, grouping.period, cells[grouping.step])
    return found


def day_of_year(stamp: Stamp) -> int:
    """Return the day of the year from 0 to 365. A date has the same number in every year."""
    return day_number(2000, stamp.month, stamp.day, "all_leap") - day_number(2000, 1, 1, "all_leap")


def method_for(name: str, attributes: Mapping[str, Any], dimension: str, wanted: Method | None) -> tuple[Method, str]:
    """Return how the steps of a variable become a longer period, and why: ``asked``, ``cell_methods`` or ``assumed``.

    Without ``cell_methods``, amounts are summed and everything else is averaged.
    """
    from cubeport.cubes.reduction import method_of

    if wanted is not None:
        return wanted, "asked"
    try:
        return method_of(name, attributes, dimension, "cell_methods"), "cell_methods"
    except InvalidRequest:
        standard = str(attributes.get("standard_name", ""))
        return ("sum" if standard.endswith("_amount") else "mean"), "assumed"
