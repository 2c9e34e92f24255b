"""A table: a value for each zone and period, with the part of each zone that has values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cubeport.cubes.calendars import Stamp
from cubeport.cubes.zones import ZoneSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one variable and one statistic."""

    variable: str
    title: str | None
    statistic: str
    unit: str | None
    method: str | None
    """How steps became a period: ``mean``, ``sum``, ``minimum``, ``maximum``; ``None`` where each step stays."""
    method_from: str | None
    """Why: ``asked``, ``cell_methods`` or ``assumed``."""
    values: Numbers
    """``(periods, zones)``; NaN is missing."""
    cells: Numbers
    """``(periods, zones)``: the cells with values that the zone meets; of longer periods the most of a step."""
    shares: Numbers
    """``(periods, zones)``: the part of the zone's area that has values, over the whole of the period."""

    @property
    def name(self) -> str:
        """The variable, followed by the statistic if this is not the mean."""
        return self.variable if self.statistic == "mean" else f"{self.variable} {self.statistic}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table."""

    dataset_id: str
    version_id: str
    title: str | None
    zone_set: ZoneSet
    period: str
    """The kind of period: ``month``; ``as-stored``."""
    kind: str | None
    """The kind of period that each row is, also where steps stay as they are; ``None`` where they are none."""
    labels: tuple[str, ...]
    """By period; one empty label where the data have no time."""
    starts: tuple[Stamp, ...]
    ends: tuple[Stamp, ...]
    columns: tuple[Column, ...]
    relative_to: tuple[int, int] | None = None
    departure: str | None = None

    @property
    def rows(self) -> int:
        """The number of values in the table."""
        return len(self.columns) * len(self.labels) * len(self.zone_set.zones)
