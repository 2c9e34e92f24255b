"""The statistics of a table: one value for each step and zone, from the values of its cells.

A statistic is a function and its line in :data:`STATISTICS`. Each takes a :class:`Block`, in which missing cells weigh nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.tables.weights import Weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

type Compute = Callable[[Block, float], Numbers]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One statistic."""

    name: str
    text: str
    compute: Compute
    """Returns ``(steps, zones)``, NaN where a zone has no value."""
    pattern: re.Pattern[str]
    """What a request writes; its group, if any, is a number."""
    unit: str | None = None
    """The unit of the result where it is not that of the values: ``1`` for shares and counts."""
    classes: bool = False
    """Whether it is about classes, so that no mean of it over time is a class."""


@dataclass(frozen=True)
class ZoneCells:
    """The cells of all zones, and what they add up to where no value is missing: computed once for all steps."""

    weights: Weights

    @cached_property
    def filled(self) -> Array:
        """The zones that have cells, as indices."""
        return np.flatnonzero(np.diff(self.weights.starts))

    @cached_property
    def ground(self) -> Numbers:
        """The area of each cell in its zone."""
        return self.weights.fractions * self.weights.areas

    @cached_property
    def covered(self) -> Numbers:
        """``(1, zones)``."""
        return self.by_zone(self.ground[None], np.add)

    @cached_property
    def parts(self) -> Numbers:
        """``(1, zones)``."""
        return self.by_zone(self.weights.fractions[None], np.add)

    @cached_property
    def number(self) -> Numbers:
        """``(1, zones)``."""
        return np.diff(self.weights.starts)[None].astype("float64")

    def by_zone(self, each: Array, how: Any) -> Numbers:
        """Return *each* ``(steps, cells)`` reduced to zones by a ufunc; 0 for zones without cells."""
        found = np.zeros((len(each), len(self.weights.totals)))
        if len(self.filled):
            found[:, self.filled] = how.reduceat(each, self.weights.starts[self.filled], axis=1)
        return found


@dataclass(frozen=True)
class Block:
    """The values of the cells of all zones, for some steps."""

    values: Array
    """``(steps, cells)``, in the order of the weights, floating; NaN is missing, and nothing is infinite."""
    of: ZoneCells

    @property
    def ground(self) -> Numbers:
        """The area of each cell in its zone."""
        return self.of.ground

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Whether each value is known."""
        return ~np.isnan(self.values)

    @cached_property
    def whole(self) -> bool:
        """Whether no value is missing."""
        return not np.isnan(self.values.sum(dtype="float64"))

    @cached_property
    def covered(self) -> Numbers:
        """``(steps, zones)``: the area of each zone that has values."""
        return self._every(self.of.covered) if self.whole else self._summed(self.ground)

    @cached_property
    def parts(self) -> Numbers:
        """``(steps, zones)``: the number of cells with values, each counted by the part of it that is in the zone."""
        return self._every(self.of.parts) if self.whole else self._summed(self.of.weights.fractions)

    @cached_property
    def cells(self) -> Numbers:
        """``(steps, zones)``: how many cells with values intersect the zone."""
        return self._every(self.of.number) if self.whole else self.by_zone(self.present.astype("float64"), np.add)

    @cached_property
    def mean(self) -> Numbers:
        """``(steps, zones)``: the mean over the area of the zone that has values."""
        return self.over(self.times(self.ground), self.covered)

    def _every(self, of_one: Numbers) -> Numbers:
        """Return what is the same for every step, by step."""
        return np.broadcast_to(of_one, (len(self.values), of_one.shape[1]))

    def _summed(self, each: Numbers) -> Numbers:
        """Return the sum of *each* (by cell) over the cells of a zone that have values, ``(steps, zones)``."""
        return self.by_zone(np.where(self.present, each, 0.0), np.add)

    def times(self, each: Numbers) -> Numbers:
        """Return the sum of value × *each* over the cells of a zone, ``(steps, zones)``."""
        product = self.values * each
        return self.by_zone(product if self.whole else np.where(self.present, product, 0.0), np.add)

    def by_zone(self, each: Array, how: Any) -> Numbers:
        """Return *each* ``(steps, cells)`` reduced to zones by a ufunc; 0 for zones without cells."""
        return self.of.by_zone(each, how)

    def over(self, above: Numbers, below: Numbers) -> Numbers:
        """Return the quotient; NaN if the divisor is 0."""
        found: Numbers = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
        return found


def _mean(block: Block, _: float) -> Numbers:
    return block.mean


def _sum(block: Block, _: float) -> Numbers:
    found = block.times(block.of.weights.fractions)
    return np.where(block.parts > 0, found, np.nan)


def _count(block: Block, _: float) -> Numbers:
    return block.parts


def _extreme(block: Block, how: Any, empty: float) -> Numbers:
    found = block.by_zone(block.values if block.whole else np.where(block.present, block.values, empty), how)
    return np.where(block.parts > 0, found, np.nan)


def _min(block: Block, _: float) -> Numbers:
    return _extreme(block, np.minimum, np.inf)


def _max(block: Block, _: float) -> Numbers:
    return _extreme(block, np.maximum, -np.inf)


def _stdev(block: Block, _: float) -> Numbers:
    # Around the mean, not by the sum of squares: temperatures in kelvin would lose their digits.
    apart = block.values - np.repeat(block.mean, np.diff(block.of.weights.starts), axis=1)
    square = np.where(block.present, apart * apart * block.ground, 0.0)
    return np.sqrt(block.over(block.by_zone(square, np.add), block.covered))


def _quantile(block: Block, percent: float) -> Numbers:
    """Return the weighted percentile that is R's type 7 for equal weights, as exactextract defines it."""
    found = np.full(block.covered.shape, np.nan)
    starts = block.of.weights.starts
    for zone in block.of.filled.tolist():
        mine = slice(int(starts[zone]), int(starts[zone + 1]))
        found[:, zone] = _weighted_quantiles(block.values[:, mine], block.ground[mine], percent / 100)
    return found


def _weighted_quantiles(values: Array, weights: Numbers, q: float) -> Numbers:
    order = np.argsort(values, axis=1, kind="stable")  # NaN last
    ordered = np.take_along_axis(values, order, axis=1)
    weight = np.where(np.isnan(ordered), 0.0, weights[order])
    count = (~np.isnan(ordered)).sum(axis=1)
    total = weight.cumsum(axis=1)
    number = np.arange(values.shape[1])
    place = number * weight + (count[:, None] - 1) * (total - weight)
    wanted = q * (count - 1) * total[:, -1]
    rows = np.arange(len(values))
    behind = (place <= wanted[:, None] * (1 + 1e-12)) & (number < count[:, None])
    left = np.maximum(behind.sum(axis=1) - 1, 0)
    right = np.minimum(left + 1, np.maximum(count - 1, 0))
    gap = place[rows, right] - place[rows, left]
    part = np.divide(wanted - place[rows, left], gap, out=np.zeros(len(values)), where=gap > 0)
    low, high = ordered[rows, left], ordered[rows, right]
    return np.where(count > 0, low + np.clip(part, 0, 1) * (high - low), np.nan)


def _median(block: Block, _: float) -> Numbers:
    return _quantile(block, 50.0)


def _share(block: Block, value: float) -> Numbers:
    here = np.where(block.values == value, block.ground, 0.0)
    return block.over(block.by_zone(here, np.add), block.covered)


def _majority(block: Block, _: float) -> Numbers:
    classes = np.unique(block.values[block.present])
    best = np.zeros(block.covered.shape)
    found = np.full(block.covered.shape, np.nan)
    for value in classes.tolist():
        here = block.by_zone(np.where(block.values == value, block.ground, 0.0), np.add)
        more = here > best
        found, best = np.where(more, value, found), np.where(more, here, best)
    return found


def _named(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name))


_PERCENTILE = re.compile(r"p((?:100|[0-9]{1,2})(?:\.[0-9]{1,3})?)", re.ASCII)
_SHARE = re.compile(r"share\((-?[0-9]{1,12}(?:\.[0-9]{1,6})?)\)", re.ASCII)

STATISTICS: tuple[Statistic, ...] = (
    Statistic("mean", "The mean over the area of the zone", _mean, _named("mean")),
    Statistic("sum", "The sum of the cells, each counted by the part of it in the zone", _sum, _named("sum")),
    Statistic("min", "The least value of the cells that the zone meets", _min, _named("min")),
    Statistic("max", "The greatest value of the cells that the zone meets", _max, _named("max")),
    Statistic("median", "The value below which half of the area is", _median, _named("median")),
    Statistic("stdev", "The standard deviation over the area of the zone", _stdev, _named("stdev")),
    Statistic("count", "The cells with values, each counted by the part of it in the zone", _count, _named("count"), unit="1"),
    Statistic("pN", "The percentile N, by area: p5, p95, p99.9", _quantile, _PERCENTILE),
    Statistic(
        "share(N)", "The share of the area with values that has the value N", _share,
        _SHARE, unit="1",
    ),
    Statistic("majority", "The value that most of the area has, for classes", _majority, _named("majority"), classes=True),
)  # fmt: skip
"""Every statistic; the first is that of a request that names none."""


@dataclass(frozen=True, slots=True)
class RequestedStatistic:
    """A statistic with its number, as written in the request."""

    text: str
    statistic: Statistic
    number: float = 0.0

    def of(self, block: Block) -> Numbers:
        """Return ``(steps, zones)``."""
        return self.statistic.compute(block, self.number)


def asked(text: str) -> RequestedStatistic:
    """Return the statistic that the text means. Raises ValueError with the end of a sentence that begins with its name."""
    for each in STATISTICS:
        found = each.pattern.fullmatch(text)
        if found is not None:
            number = float(found[1]) if found.groups() else 0.0
            if each.name == "pN" and number > 100:
                break
            return RequestedStatistic(text, each, number)
    names = ", ".join(each.name for each in STATISTICS)
    raise ValueError(f"may be {names}")
