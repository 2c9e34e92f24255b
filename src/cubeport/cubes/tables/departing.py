"""A version seen as departures from normal: each value minus the mean of its cell at the same time of year over several years."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, CubeDescription, Variable
from cubeport.cubes.part import Deadline, Opened
from cubeport.cubes.tables.departures import check_percent, departed
from cubeport.cubes.tables.request import Departure
from cubeport.cubes.tables.steps import steps_of, taking
from cubeport.cubes.tables.timing import Steps, as_stored
from cubeport.cubes.windows import Window, Windows, runs_of, time_axis
from cubeport.errors import InvalidRequest, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]


def departing(
    opened: Opened, windows: Windows, years: tuple[int, int], how: Departure, period_type: str | None
) -> tuple[Opened, Windows]:
    """Return the version whose values are departures, and all that is read for *windows*: the years of the normal too.

    Raises
    ------
    InvalidRequest
        If the values have no time, or their steps are neither of a month nor of a day of the year; percent of a temperature.
    """
    description = opened.description
    time = time_axis(description)
    if time is None or time.scalar or not all(time.dimension in description.variable(name).dimensions for name in windows.fields):
        raise _no_normal("no-axis", "needs values along time")
    steps = steps_of(opened, time, period_type)
    if steps.kind is None:
        raise _no_normal("no-period", "needs steps of months or days, and the steps of these data are neither")
    if how == "percent":
        for name in windows.fields:
            check_percent(name, description.variable(name).units)
    seen = _Departed(opened, time, steps, years, how)
    return cast("Opened", seen), seen.reading(windows)


def _no_normal(kind: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"relative-to {why}.", errors=[Problem(("query", "relative-to"), kind, f"relative-to {why}")])


@dataclass(frozen=True)
class _Departed:
    """All but the description of the fields and their values is that of the version."""

    whole: Opened
    time: Axis
    steps: Steps
    years: tuple[int, int]
    how: Departure

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    @property
    def description(self) -> CubeDescription:
        found = self.whole.description
        return found.model_copy(update={"variables": tuple(self._described(each) for each in found.variables)})

    def _described(self, variable: Variable) -> Variable:
        if variable.role != "data" or self.time.dimension not in variable.dimensions:
            return variable
        units = {"absolute": variable.units, "percent": "%", "standard": "1"}[self.how]
        first, last = self.years
        title = f"{variable.title}, departure from the normal of {first} to {last}"
        # The standard name is that of the values, not of their departures.
        attributes = {name: value for name, value in variable.attributes.items() if name not in ("standard_name", "valid_range")}
        attributes |= {"long_name": title} | ({} if units is None else {"units": units})
        changes = {"units": units, "long_name": title, "standard_name": None, "attributes": attributes}
        return variable.model_copy(update=changes | {"dtype": "float64", "decoded_dtype": "float64"})

    def _indices(self, windows: Windows) -> list[int]:
        # A winter begins in the year before its own.
        first, last = self.years[0] - 1, self.years[1] + 1
        base = {index for index, start in enumerate(self.steps.starts) if first <= start.year <= last}
        return sorted(base.union(windows.along[self.time.dimension].indices().tolist()))

    def reading(self, windows: Windows) -> Windows:
        """Return the windows with the steps of the normal."""
        along = {**windows.along, self.time.dimension: Window(self.time.dimension, runs_of(self._indices(windows)))}
        return replace(windows, along=along)

    def cut(self, windows: Windows, *, deadline: Deadline = lambda: None) -> Cut:
        """Return the labels of *windows*, and the departures of their values."""
        import numpy as np

        indices = self._indices(windows)
        grouping = replace(as_stored(taking(self.steps, indices)), kind=self.steps.kind)
        asked = np.searchsorted(indices, windows.along[self.time.dimension].indices())
        found = self.whole.cut(windows, deadline=deadline)
        read = self.whole.cut(self.reading(windows), deadline=deadline)
        values: dict[str, Array] = {}
        for name, each in read.values.items():
            at = self.whole.description.variable(name).dimensions.index(self.time.dimension)
            along = np.moveaxis(np.ma.filled(np.ma.masked_invalid(each.astype("float64")), np.nan), at, 0)
            gaps = departed(along.reshape(len(indices), -1), grouping, self.years, self.how)
            values[name] = np.moveaxis(gaps.reshape(along.shape)[asked], 0, at)
        return replace(found, values=values, description=self.description)
