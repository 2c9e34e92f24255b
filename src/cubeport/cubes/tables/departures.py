"""Departures from normal: the difference between a value and the mean of the same time of year over several years."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.tables.request import Departure
from cubeport.cubes.tables.timing import Grouping, day_of_year
from cubeport.cubes.units import canonical
from cubeport.errors import InvalidRequest, NoData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

LEAST_YEARS = 0.8
"""The part of the years of a normal that must have values."""
_HALF_WINDOW = 15
"""Days before and after a day whose values make its normal, over all years: 31 in all."""
_DAYS = 366


def times_of_year(grouping: Grouping) -> Array:
    """Return the time of the year of each period: its month, for example, or for days and weeks the day of the year."""
    kind = grouping.kind
    assert kind is not None  # the caller has chosen one
    within = kind.within_year
    if within is not None:
        return np.array([within(number) for number in grouping.numbers], "int64")
    return np.array([day_of_year(start) for start in grouping.starts], "int64")


def years_of(grouping: Grouping) -> Array:
    """Return the year of each period: that of its last day, so that the winter of 2020 is the one that ends in 2020."""
    kind = grouping.kind
    if kind is not None and kind.name == "season":
        return np.array([number // 4 for number in grouping.numbers], "int64")
    return np.array([start.year for start in grouping.starts], "int64")


def departed(values: Numbers, grouping: Grouping, years: tuple[int, int], how: Departure) -> Numbers:
    """Return the values minus their normal, ``(periods, zones)``. NaN if the normal is unknown, or if it is zero for percent.

    The normal of a month (dekad, quarter, season) is the mean of that month over *years*; of a day or a week, the mean of the 31
    days around it over *years*.

    Parameters
    ----------
    values
        All periods that are asked for and all of the years of the normal.

    Raises
    ------
    NoData
        If less than 80 % of the years of the normal have values.
    """
    first, last = years
    assert grouping.kind is not None  # the caller has chosen one
    near = grouping.kind.within_year is None
    time, year = times_of_year(grouping), years_of(grouping)
    base = (year >= first) & (year <= last)
    wanted = last - first + 1
    have = len(np.unique(year[base]))
    if have < LEAST_YEARS * wanted - 1e-9:
        raise NoData(
            f"The data have {have} of the {wanted} years {first} to {last} of the normal; it needs {LEAST_YEARS:.0%} of them.",
            next_step="Choose years that the data have with relative-to.",
        )
    normal, spread = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    for each in np.unique(time).tolist():
        if near:
            apart = np.abs(time - each)
            taken = base & (np.minimum(apart, _DAYS - apart) <= _HALF_WINDOW)
        else:
            taken = base & (time == each)
        mean, deviation = _normal(values[taken], year[taken], wanted)
        normal[time == each], spread[time == each] = mean, deviation
    gap: Numbers = values - normal
    if how == "absolute":
        return gap
    below = np.abs(normal) if how == "percent" else spread
    above = 100 * gap if how == "percent" else gap
    found: Numbers = np.divide(above, below, out=np.full(values.shape, np.nan), where=below > 0)
    return found


def _normal(values: Numbers, years: Array, wanted: int) -> tuple[Numbers, Numbers]:
    """Return the mean and the standard deviation of *values* for each zone; NaN if less than 80 % of the years have values."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    with_values = np.zeros((len(np.unique(years)), values.shape[1]), "bool")
    places = np.unique(years, return_inverse=True)[1]
    np.logical_or.at(with_values, places, present)
    enough = (with_values.sum(axis=0) >= LEAST_YEARS * wanted - 1e-9) & (count > 0)
    mean = np.where(present, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    square = np.where(present, (values - mean) ** 2, 0.0).sum(axis=0)
    deviation = np.sqrt(square / np.maximum(count - 1, 1))
    return np.where(enough, mean, np.nan), np.where(enough & (count > 1), deviation, np.nan)


def check_percent(name: str, unit: str | None) -> None:
    """Refuse percent for quantities whose zero is arbitrary, such as temperatures. Raises InvalidRequest."""
    if canonical(unit or "") in ("K", "degC", "degF"):
        raise InvalidRequest(
            f"{name} is a temperature in {unit}, and a percentage of it means nothing.",
            next_step="Ask for departure=absolute or departure=standard.",
        )
