"""Reduction in time: which steps are reduced to one value, and how. Pure functions of the values of a block of cells."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp
from cubeport.cubes.recipes import METHODS, Method
from cubeport.errors import InvalidRequest, NoData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_METHOD = re.compile(r"([A-Za-z_][\w.]*(?:\s*:\s*[A-Za-z_][\w.]*)*)\s*:\s+([a-z_]+)")
"""One part of CF's ``cell_methods`` (7.3), such as ``time: lat: mean``."""

MONTHS = 12


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of steps that are reduced to one step each. ``of`` contains the group of each input step, -1 for none."""

    of: Array
    starts: tuple[Stamp, ...]
    ends: tuple[Stamp, ...]
    """The first moment after each group."""
    expected: Array
    """The number of steps of each group if it is complete."""


def by_period(starts: Sequence[Stamp], source_type: str, target: str, calendar: CalendarName, *, partial: bool) -> Groups:
    """Group the steps by the period of type *target* in which each begins.

    Parameters
    ----------
    starts
        The start of each step, by its bounds or otherwise its label, ascending.
    source_type
        The period type of the steps; ``irregular`` if they have none.
    partial
        Whether to keep a period that the steps cover only in part.

    Raises
    ------
    InvalidRequest
        When the target is not coarser than the source.
    NoData
        If no period is covered completely.
    """
    numbers = np.array([periods.of(each, target, calendar) for each in starts], "int64")
    found, of, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    if len(found) == len(numbers) and len(numbers) > 1:
        raise InvalidRequest(
            f"The steps are not finer than {target}: each is a period of its own.", next_step="choose a coarser period_type"
        )
    firsts = [periods.start_of(int(each), target, calendar) for each in found]
    lasts = [periods.end_of(int(each), target, calendar) for each in found]
    if source_type in ("irregular", "climatology", "none"):
        expected = counts.copy()
    else:
        pairs = zip(firsts, lasts, strict=True)
        expected = np.array([_whole(first, last, source_type, calendar) for first, last in pairs], "int64")
    kept = np.ones(len(found), "bool") if partial else counts >= expected
    if not kept.any():
        share = float((counts / expected).max())
        scale = 10.0 ** (1 - math.floor(math.log10(share)))
        least = math.floor(share * scale) / scale  # two digits, rounded down
        step = f"keep a period of which {least:g} is there: repeat with --param partial=true --param least={least:g}"
        raise NoData(f"The input has no complete {target} period.", next_step=step)
    places = np.where(kept, np.cumsum(kept) - 1, -1)
    chosen = np.flatnonzero(kept)
    return Groups(places[of], tuple(firsts[i] for i in chosen), tuple(lasts[i] for i in chosen), expected[chosen])


def _whole(first: Stamp, last: Stamp, source_type: str, calendar: CalendarName) -> int:
    """Return how many source periods begin between *first* and *last*."""

    def at(stamp: Stamp) -> int:
        number = periods.of(stamp, source_type, calendar)
        return number if periods.start_of(number, source_type, calendar) >= stamp else number + 1

    return max(1, at(last) - at(first))


def by_month(starts: Sequence[Stamp], first_year: int, last_year: int, *, source_type: str, calendar: CalendarName) -> Groups:
    """Group the steps of the years *first_year* to *last_year* by month, January first.

    Raises
    ------
    NoData
        If a month has no step.
    """
    of = np.array([each.month - 1 if first_year <= each.year <= last_year else -1 for each in starts], "int64")
    missing = sorted(set(range(MONTHS)) - set(of.tolist()))
    if missing:
        raise NoData(
            f"The input has no step in month {missing[0] + 1} of the years {first_year} to {last_year}.",
            next_step="choose years that the input has",
        )
    years = last_year - first_year + 1
    counts = np.bincount(of[of >= 0], minlength=MONTHS)
    if source_type in ("irregular", "climatology", "none"):
        expected = counts
    else:
        expected = np.zeros(MONTHS, "int64")
        for year in range(first_year, last_year + 1):
            for month in range(MONTHS):
                number = year * 12 + month
                bounds = periods.start_of(number, "monthly", calendar), periods.end_of(number, "monthly", calendar)
                expected[month] += _whole(*bounds, source_type, calendar) if source_type != "yearly" else 0
    if source_type == "yearly" or years < 1:
        raise InvalidRequest("A normal needs steps within the year, and the input has yearly ones.")
    starts_ = tuple(Stamp(first_year, month + 1, 1) for month in range(MONTHS))
    ends = tuple(periods.end_of(last_year * 12 + month, "monthly", calendar) for month in range(MONTHS))
    return Groups(of, starts_, ends, expected)


def reduce(values: Array, groups: Groups, method: Method, *, least: float) -> Array:
    """Return one value for each group along the first dimension, in double precision; NaN if too few values are present.

    Parameters
    ----------
    values
        ``(step, …)``; NaN is missing.
    least
        The share of the expected steps that must be present.
    """
    out = np.full((len(groups.starts), *values.shape[1:]), np.nan)
    present = ~np.isnan(values)
    for place in range(len(groups.starts)):
        steps = np.flatnonzero(groups.of == place)
        mine, there = values[steps].astype("float64"), present[steps]
        count = there.sum(axis=0)
        enough = count >= np.maximum(1, np.ceil(least * groups.expected[place] - 1e-9))
        if method in ("mean", "sum"):
            total = np.where(there, mine, 0.0).sum(axis=0)
            found = total / np.maximum(count, 1) if method == "mean" else total
        elif method == "maximum":
            found = np.where(there, mine, -np.inf).max(axis=0)
        else:
            found = np.where(there, mine, np.inf).min(axis=0)
        out[place] = np.where(enough, found, np.nan)
    return out


def departures(values: Array, months: Array, normal: Array, *, percent: bool) -> Array:
    """Return each value minus the normal of its month (0 to 11), or as a percentage of the normal, with NaN where the normal is
    zero.
    """
    base = normal[months]
    gap = values.astype("float64") - base
    if not percent:
        return gap
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(base == 0, np.nan, 100.0 * gap / np.abs(base))
    return found


def method_of(name: str, attributes: Mapping[str, Any], dimension: str, wanted: str) -> Method:
    """Return how a variable is reduced in time: *wanted*, or the method in its ``cell_methods`` for *dimension*.

    Raises
    ------
    InvalidRequest
        If ``cell_methods`` does not contain the dimension, or its method does not apply to longer periods.
    """
    if wanted != "cell_methods":
        return cast("Method", wanted)
    text = re.sub(r"\([^)]*\)", "", str(attributes.get("cell_methods", "")))
    said = [method for names, method in _METHOD.findall(text) if {dimension, "time"} & set(re.split(r"\s*:\s*", names))]
    if said and said[-1] in METHODS:
        return cast("Method", said[-1])
    words = f"says {said[-1]!r} of {dimension}" if said else f"has no cell_methods for {dimension}"
    raise InvalidRequest(
        f"Variable {name!r} {words}, which does not say how to compute longer periods.",
        next_step="name the method: --param method=mean (or sum, maximum, minimum)",
    )
