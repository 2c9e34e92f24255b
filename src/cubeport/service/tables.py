"""Tables of zones. The plan and its cost need only metadata. Values are computed in blocks of steps, within a deadline."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes.bounded import Bounded
from cubeport.cubes.calendars import Stamp
from cubeport.cubes.description import Axis, CubeDescription
from cubeport.cubes.part import Deadline, Opened, OpenedCube
from cubeport.cubes.resolve import axis_named, resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.tables.request import TableRequest, renamed
from cubeport.cubes.tables.steps import steps_of, taking
from cubeport.cubes.tables.table import Column, Table
from cubeport.cubes.tables.timing import (
    AS_STORED,
    Grouping,
    Kind,
    Steps,
    as_stored,
    cells_of,
    grouped,
    kind_named,
    kind_of_steps,
    method_for,
    reduced,
)
from cubeport.cubes.windows import Cost, IndexRange, Window, Windows, count, runs_of, time_axis
from cubeport.cubes.zones import ZoneSet
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, NotAcceptable, Problem, TooLarge
from cubeport.service.queries import LIGHT_CELLS, AnswerDeadline, Queries
from cubeport.service.weighing import check_statistics, variable_of, weighted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cubeport.cubes.tables.grids import Grid
    from cubeport.cubes.tables.weights import Weights

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

MIB = 1 << 20
_WEIGHTS_BYTES = 64 * MIB
"""Bytes of weights that are kept in memory, because the next table of the same zones needs the same weights."""
_READ_BYTES = 16 * MIB
"""Bytes of the statistics of steps that are kept in memory: those of another period, or of the same table again, read no values."""
_SLAB_BYTES = 16 * MIB
"""Stored bytes that are read at once."""
_BLOCK_VALUES = MIB // 2
"""Values of cells that are in memory at once."""
_RATE = 40e6
"""Cells a second, about."""


@dataclass(frozen=True, slots=True)
class TableLimits:
    """The limits above which a table is refused."""

    rows: int = 1_000_000
    cells: int = 1_000_000_000
    chunks: int = 10_000
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table of one version: what is read, what is returned, and the limit that it exceeds, if any."""

    shown: PublishedView
    request: TableRequest
    zone_set: ZoneSet
    opened: OpenedCube
    fields: tuple[str, ...]
    time: Axis | None
    window: Window | None
    """The steps that are read, along time."""
    grouping: Grouping
    chosen: tuple[int, ...]
    """The periods that are answered; the others are of the years of the normal."""
    weights: Weights
    weights_key: tuple[str, ...] | None
    """What the weights depend on; ``None`` if nothing short says it."""
    others: Mapping[str, Window]
    """One value of each axis that is neither time nor of the grid."""
    cost: Cost
    rows: int
    refusal: TooLarge | None


class Tables:
    """Makes tables. A process has one of these."""

    def __init__(self, queries: Queries, *, limits: TableLimits | None = None) -> None:
        self._queries = queries
        self._versions = queries.versions
        self.limits = limits or TableLimits()
        self._weights: Bounded[tuple[str, ...], Weights] = Bounded(_WEIGHTS_BYTES)
        self._read: Bounded[Hashable, tuple[Numbers, Numbers, Numbers]] = Bounded(_READ_BYTES)

    def offered(self, shown: PublishedView, field: str) -> bool:
        """Return whether there are tables of a field: it has numbers in cells, and its times lie along one axis, if any."""
        from cubeport.cubes.tables.grids import has_cells

        shown = shown.having((field,))
        description = shown.description
        if description.variable(field).decoded_dtype[:1] not in "iufb":
            return False
        if time_axis(description) is None and description.temporal is not None:
            return False
        return has_cells(self._versions.open(shown.texts.dataset_id, shown.version.version_id, description))

    def plan(
        self,
        shown: PublishedView,
        request: TableRequest,
        zone_set: ZoneSet,
        deadline: Deadline,
        *,
        weighing: PublishedView | None = None,
    ) -> TablePlan:
        """Return the plan, even if it is refused. This reads coordinates, and the values of *weighing*, but none of the data.

        Parameters
        ----------
        weighing
            The dataset of ``request.weights``.

        Raises
        ------
        InvalidRequest, NotFound
            What the request names and the cube does not have; what is outside the data.
        NotAcceptable
            When the grid has no cells.
        """
        from cubeport.cubes.tables.grids import dimensions_of, grid_of

        zone_set = zone_set.taking(request.zone) if request.zone else zone_set
        names = request.selection.properties or shown.description.fields[:1]
        # The fields of another grid of the dataset have axes of their own.
        shown = shown.having(names)
        opened = self._versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        description = opened.description
        grid = grid_of(opened)
        try:
            windows = resolve(description, opened.labels(), replace(request.selection, properties=tuple(names), datetime=None))
        except InvalidRequest as refused:
            raise InvalidRequest(refused.message, errors=[renamed(each) for each in refused.errors]) from refused
        time, grid_dimensions = time_axis(description), dimensions_of(description)
        own = {time.dimension} if time is not None else set()
        others = _single(description, windows, own.union(grid_dimensions))
        weights, key = self._weighed(opened, grid, names[0], zone_set, deadline)
        if request.weights is not None and weighing is not None:
            check_statistics(request)
            name = request.weights[1]
            view = variable_of(weighing, name)
            other = self._versions.open(view.texts.dataset_id, view.version.version_id, view.description)
            key = None
            weights = weighted(weights, grid, opened, other, name, most_cells=self.limits.cells, deadline=deadline)
        window, grouping, chosen = _timed(opened, shown, request, time)
        along = dict(others) | _around(weights, grid_dimensions)
        if time is not None and window is not None:
            along[time.dimension] = window
        cost = _cost(description, names, along)
        rows = len(names) * len(request.statistics) * len(chosen) * len(zone_set.zones)
        return TablePlan(
            shown, request, zone_set, opened, tuple(names), time, window, grouping, chosen, weights, key, others, cost, rows,
            self._refusal(cost, rows, len(chosen)),
        )  # fmt: skip

    def _refusal(self, cost: Cost, rows: int, count: int) -> TooLarge | None:
        checks = (
            ("limits.table_rows", self.limits.rows, rows, "rows"),
            ("limits.table_cells", self.limits.cells, cost.cells, "cells"),
            ("limits.chunks", self.limits.chunks, cost.chunks, "chunks"),
        )
        for setting, limit, value, unit in checks:
            if value > limit:
                fits = int(count * limit / value)
                step = f"Ask for {fits} of the {count} periods at a time, or for fewer zones." if fits else "Ask for fewer zones."
                message = f"The table would take {value:,} {unit}; the limit is {limit:,}."
                return TooLarge(message, limit=limit, value=value, unit=unit, setting=setting, next_step=step)
        return None

    def estimate(self, plan: TablePlan) -> dict[str, Any]:
        """Return the cost of the table. No value is read."""
        over = plan.refusal
        return {
            "rows": plan.rows,
            "zones": len(plan.zone_set.zones),
            "periods": len(plan.chosen),
            "cells": plan.cost.cells,
            "chunks": plan.cost.chunks,
            "bytes": 90 * plan.rows,
            "seconds": round(0.01 + plan.cost.cells / _RATE, 3),
            "allowed": over is None,
            "limit": None if over is None else {"setting": over.members["setting"], "limit": over.members["limit"]},
        }

    def heavy(self, plan: TablePlan) -> bool:
        """Return whether the table counts as a heavy answer, of which few run at a time."""
        return plan.cost.cells > LIGHT_CELLS

    def answer(
        self, plan: TablePlan, *, left: threading.Event | None = None, deadline: Deadline | None = None, placed: bool = False
    ) -> Table:
        """Return the table, before *deadline* instead of the limit if there is one.

        Raises
        ------
        TooLarge, NoData, Unavailable, Cancelled
            Over a limit; too few years for a normal; no place or no time; when the client left.
        """
        if plan.refusal is not None:
            raise plan.refusal
        deadline = deadline or AnswerDeadline(self.limits.seconds, left)
        with self._queries.place() if self.heavy(plan) and not placed else nullcontext():
            columns = tuple(
                column for name in plan.fields for column in _columns(plan, name, lambda name: self._of_steps(plan, name, deadline))
            )
        grouping, request = plan.grouping, plan.request
        kind = grouping.kind or kind_of_steps(_period_type(plan.shown))
        return Table(
            dataset_id=plan.shown.texts.dataset_id,
            version_id=plan.shown.version.version_id,
            title=plan.shown.texts.title,
            zone_set=plan.zone_set,
            period=request.period,
            kind=None if kind is None or plan.time is None else kind.name,
            labels=tuple(grouping.labels[each] for each in plan.chosen),
            starts=tuple(grouping.starts[each] for each in plan.chosen),
            ends=tuple(grouping.ends[each] for each in plan.chosen),
            columns=columns,
            relative_to=request.years,
            departure=request.departure if request.years is not None else None,
        )

    def _weighed(
        self, opened: Opened, grid: Grid, name: str, zone_set: ZoneSet, deadline: Deadline
    ) -> tuple[Weights, tuple[str, ...] | None]:
        from cubeport.cubes.tables.grids import areas_of, digest_of, weights_of
        from cubeport.cubes.tables.weights import StraightGrid

        self._check_size(grid, zone_set)
        # On longitudes and latitudes the areas are known; elsewhere the data may say them.
        straight = isinstance(grid, StraightGrid) and grid.project is None
        areas = None if straight else areas_of(opened, name)
        key = (digest_of(opened.description, grid), zone_set.digest, "" if areas is None else f"{id(opened)} {areas[0]}")
        found = self._weights.get(key)
        if found is None:
            found = weights_of(grid, zone_set, areas=None if areas is None else areas[1], deadline=deadline)
            if areas is None:
                self._weights.put(key, found, found.nbytes)
        return found, key if areas is None else None

    def _of_steps(self, plan: TablePlan, name: str, deadline: Deadline) -> tuple[Numbers, Numbers, Numbers]:
        """Return what :func:`_of_steps` does. A version never changes, so what was read of it is kept."""
        if plan.weights_key is None:
            return _of_steps(plan, name, deadline)
        statistics = tuple(each.text for each in plan.request.statistics)
        others = tuple((each, plan.others[each].runs) for each in sorted(plan.others))
        steps = None if plan.window is None else plan.window.runs
        key = (plan.shown.texts.dataset_id, plan.shown.version.version_id, name, plan.weights_key, statistics, steps, others)
        found = self._read.get(key)
        if found is None:
            found = _of_steps(plan, name, deadline)
            for each in found:
                each.flags.writeable = False
            self._read.put(key, found, sum(each.nbytes for each in found))
        return found

    def _check_size(self, grid: Grid, zone_set: ZoneSet) -> None:
        """Refuse too many zones or cells before their weights are computed."""
        from cubeport.cubes.tables.grids import looked_at

        total = looked_at(grid, zone_set)
        if total > self.limits.cells / 4:
            raise TooLarge(
                f"The zones have about {total:.3g} cells in their boxes; the limit is {self.limits.cells // 4:,}.",
                limit=self.limits.cells // 4,
                value=int(total),
                unit="cells",
                setting="limits.table_cells",
                next_step="Ask for fewer zones with zone=.",
            )


def _single(description: CubeDescription, windows: Windows, known: set[str]) -> dict[str, Window]:
    """Return the window of each axis that is neither time nor horizontal. It must have one value. Raises InvalidRequest."""
    problems = []
    found: dict[str, Window] = {}
    for dimension, window in windows.along.items():
        if dimension in known:
            continue
        if window.size != 1:
            axis = next((each for each in description.axes if each.dimension == dimension), None)
            name = axis.name if axis is not None else dimension
            labels = _first_labels(axis, window)
            some = f", such as {', '.join(labels)}"
            parameter = "z" if axis is not None and axis.kind == "z" else "subset"
            wanted = f"z={labels[0]}" if parameter == "z" else f"subset={name}({labels[0]})"
            problems.append(
                Problem(("query", parameter), "missing", f"must take one of the {window.size} values of {name}{some}: {wanted}")
            )
        found[dimension] = window
    if problems:
        raise InvalidRequest(f"{problems[0].loc[1]} {problems[0].message}.", errors=problems)
    return found


def _first_labels(axis: Axis | None, window: Window) -> list[str]:
    """Return the first labels of an axis in a window, as a query takes them; the indices if the axis has no labels."""
    places = window.indices()[:8].tolist()
    if axis is not None and axis.values is not None:
        return [str(axis.values[each]) for each in places]
    if axis is None or axis.first is None:
        return [str(each) for each in places]
    return [f"{axis.first + each * (axis.step or 0.0):.10g}" for each in places]


def _around(weights: Weights, dimensions: tuple[str, ...]) -> dict[str, Window]:
    """Return the indices that any zone overlaps, along each dimension of the grid; none if no zone overlaps the data."""
    import numpy as np

    return {name: Window(name, runs_of(np.unique(each))) for name, each in zip(dimensions, weights.indices, strict=True)}


def _cost(description: CubeDescription, names: tuple[str, ...], along: Mapping[str, Window]) -> Cost:
    """Return what is read: nothing if no zone overlaps the data."""
    if not all(window.runs for window in along.values()):
        return Cost(0, 0, 0, 0)
    whole = dict(along)
    for name in names:
        variable = description.variable(name)
        for dimension, size in zip(variable.dimensions, variable.shape, strict=True):
            whole.setdefault(dimension, Window(dimension, (IndexRange(0, size),)))
    return count(description, Windows(tuple(names), whole))


def _period_type(shown: PublishedView) -> str | None:
    temporal = shown.description.temporal
    return None if temporal is None else shown.texts.period_type or temporal.period_type


def _timed(
    opened: Opened, shown: PublishedView, request: TableRequest, time: Axis | None
) -> tuple[Window | None, Grouping, tuple[int, ...]]:
    """Return the steps that are read, how they become periods, and which of these periods are returned.

    A period that overlaps ``datetime`` is answered as a whole, so its steps outside are read too.
    """
    description = opened.description
    if time is None:
        if description.temporal is not None:
            raise NotAcceptable(
                "A table needs a time axis, and the times of these data lie along several dimensions.",
                next_step="Ask EDR area for the values in a polygon; it takes datetime.",
            )
        if request.period != AS_STORED or request.years is not None or request.selection.datetime is not None:
            parameter = "period" if request.period != AS_STORED else "relative-to" if request.years is not None else "datetime"
            problem = Problem(("query", parameter), "no-axis", "these data have no time")
            raise InvalidRequest("These data have no time.", errors=[problem])
        nothing = Stamp(0, 1, 1)
        once = Steps(("",), (nothing,), (nothing,), "standard", spans=False)
        return None, as_stored(once), (0,)
    steps = steps_of(opened, time, _period_type(shown))
    wanted = _indices(opened, request.selection, time)
    kind = _kind(request, steps)
    if kind is None:
        window = None if time.scalar else Window(time.dimension, runs_of(wanted))
        return window, as_stored(taking(steps, wanted)), tuple(range(len(wanted)))
    numbers = [_numbers(kind, steps, index) for index in wanted]
    answered = {number for first, last in numbers for number in range(first, last + 1)}
    reading = {index for index in _near(steps, kind, answered) if _meets(kind, steps, index, answered)}
    if request.years is not None:
        # A winter begins in the year before its own.
        first_year, last_year = request.years[0] - 1, request.years[1] + 1
        reading |= {index for index, start in enumerate(steps.starts) if first_year <= start.year <= last_year}
    indices = sorted(reading)
    picked = taking(steps, indices)
    grouping = grouped(picked, kind) if request.period != AS_STORED else replace(as_stored(picked), kind=kind)
    chosen = tuple(i for i, number in enumerate(grouping.numbers) if number in answered)
    return (None if time.scalar else Window(time.dimension, runs_of(indices))), grouping, chosen


def _near(steps: Steps, kind: Kind, answered: set[int]) -> range:
    """Return the steps that may overlap the periods."""
    import bisect

    calendar = steps.calendar
    first, last = kind.start(min(answered), calendar), kind.start(max(answered) + 1, calendar)
    return range(
        max(bisect.bisect_left(steps.ends, first) - 1, 0), min(bisect.bisect_right(steps.starts, last) + 1, len(steps.starts))
    )


def _numbers(kind: Kind, steps: Steps, index: int) -> tuple[int, int]:
    """Return the first and the last period that a step overlaps."""
    start, end = steps.starts[index], steps.ends[index]
    first = kind.number(start, steps.calendar)
    if not steps.spans or end <= start:
        return first, first
    last = kind.number(end, steps.calendar)
    return first, max(first, last - 1 if kind.start(last, steps.calendar) == end else last)


def _meets(kind: Kind, steps: Steps, index: int, answered: set[int]) -> bool:
    first, last = _numbers(kind, steps, index)
    return any(number in answered for number in range(first, last + 1))


def _kind(request: TableRequest, steps: Steps) -> Kind | None:
    """Return the kind of period of the rows; ``None`` if the steps stay as they are and the request has no normal."""
    if request.period != AS_STORED:
        return kind_named(request.period)
    if request.years is None:
        return None
    if steps.kind is None:
        raise InvalidRequest(
            "A normal is computed for months or for days of the year, and the steps of these data are neither.",
            errors=[Problem(("query", "period"), "missing", "must be given with relative-to: month, for example")],
        )
    return steps.kind


def _indices(opened: Opened, selection: Selection, time: Axis) -> list[int]:
    """Return the steps that ``datetime`` says, in the order of time. Raises NotFound outside the data."""
    description = opened.description
    if time.scalar:
        return [0]
    subsets = tuple(each for each in selection.subsets if axis_named(description, each.axis) is time)
    alone = Selection(datetime=selection.datetime, subsets=subsets, properties=_with(description, time))
    return sorted(resolve(description, opened.labels(), alone).along[time.dimension].indices().tolist())


def _with(description: CubeDescription, time: Axis) -> tuple[str, ...]:
    return tuple(name for name in description.fields if time.dimension in description.variable(name).dimensions)[:1]


def _columns(plan: TablePlan, name: str, read: Callable[[str], tuple[Numbers, Numbers, Numbers]]) -> list[Column]:
    """Return the columns of one variable, one for each statistic, of what *read* returns of its steps."""
    import numpy as np

    from cubeport.cubes.tables.departures import check_percent, departed

    request, opened = plan.request, plan.opened
    variable = plan.shown.description.variable(name)
    attributes = opened.attributes(name)
    unit = variable.units
    if request.years is not None and request.departure == "percent":
        check_percent(name, unit)
    values, cells, shares = read(name)
    grouping = plan.grouping
    longer = request.period != AS_STORED
    method, why = (None, None)
    if longer:
        dimension = plan.time.dimension if plan.time is not None else "time"
        method, why = method_for(name, attributes, dimension, request.method)
    found = []
    for place, each in enumerate(request.statistics):
        mine, part, seen = values[place], shares, cells
        if longer and method is not None:
            if each.statistic.classes:
                raise InvalidRequest(
                    f"The {each.text} of a longer period cannot be computed from those of its steps.",
                    errors=[Problem(("query", "statistic"), "not-with-period", f"{each.text} needs period=as-stored")],
                )
            mine, part = reduced(mine, shares, grouping, method, min_share=request.min_share)
            seen = cells_of(cells, grouping)
        if request.years is not None:
            mine = departed(mine, grouping, request.years, request.departure)
        rows = list(plan.chosen)
        departure_unit = {"percent": "%", "standard": "1"}.get(request.departure) if request.years is not None else None
        found.append(
            Column(
                variable=name,
                title=variable.long_name or variable.standard_name,
                statistic=each.text,
                unit=departure_unit or each.statistic.unit or unit,
                method=method,
                method_from=why,
                values=np.ascontiguousarray(mine[rows]),
                cells=np.ascontiguousarray(seen[rows]),
                shares=np.ascontiguousarray(part[rows]),
            )
        )
    return found


def _of_steps(plan: TablePlan, name: str, deadline: Deadline) -> tuple[Numbers, Numbers, Numbers]:
    """Return values ``(statistics, steps, zones)``, and cells and shares ``(steps, zones)``, of the steps that are read."""
    import numpy as np

    from cubeport.cubes.tables.grids import dimensions_of
    from cubeport.cubes.tables.statistics import Block, ZoneCells

    opened, weights, time = plan.opened, plan.weights, plan.time
    zones = len(plan.zone_set.zones)
    steps = 1 if plan.window is None else plan.window.size
    values = np.full((len(plan.request.statistics), steps, zones), np.nan)
    cells, shares = np.zeros((steps, zones)), np.zeros((steps, zones))
    taken = len(weights.fractions)
    if taken == 0:
        return values, cells, shares
    description = opened.description
    dtype = opened.dtype(name)
    if dtype.kind not in "iufb":
        raise NotAcceptable(f"{name} has values of type {dtype.name}, which have no mean.")
    grid = dimensions_of(description)
    around = _around(weights, grid)
    own = opened.dimensions(name)
    if not set(grid) <= set(own):
        raise NotAcceptable(f"{name} does not lie along all dimensions of the grid.")
    read = [around[dimension].indices() for dimension in grid]
    places = [np.searchsorted(mine, each) for mine, each in zip(read, weights.indices, strict=True)]
    flat = np.ravel_multi_index(places, [len(each) for each in read])
    cells_read = math.prod(len(each) for each in read)
    timed = time is not None and not time.scalar and time.dimension in own
    chunk = description.variable(name).chunks[own.index(time.dimension)] if timed and time is not None else 1
    at_once = max(1, min(steps, _SLAB_BYTES // max(1, cells_read * dtype.itemsize)))
    if at_once > chunk:
        at_once -= at_once % chunk
    together = max(1, _BLOCK_VALUES // taken)
    indices = plan.window.indices() if plan.window is not None else np.zeros(1, "int64")
    zone_cells = ZoneCells(weights)
    order = [own.index(each) for each in own if each not in grid]

    def windows(start: int, stop: int) -> dict[str, Window]:
        along = dict(plan.others) | around
        return (
            along | {time.dimension: Window(time.dimension, runs_of(indices[start:stop]))} if timed and time is not None else along
        )

    # What is in memory comes first: what is read would take its place there before it is used.
    slabs = sorted(range(0, steps if timed else 1, at_once), key=lambda start: not opened.held(name, windows(start, start + 1)))
    for start in slabs:
        stop = min(steps, start + at_once) if timed else 1
        along = windows(start, stop)
        raw = opened.raw(name, along, deadline=deadline)
        raw = raw.transpose([*order, *map(own.index, grid)]).reshape(stop - start, -1)
        for first in range(0, stop - start, together):
            deadline()
            last = min(stop - start, first + together)
            picked = np.take(raw[first:last], flat, axis=1, mode="clip")  # the other modes look whether all are inside
            block = Block(_finite(opened.decode_like(name, picked.reshape(-1)).reshape(picked.shape)), zone_cells)
            here = slice(start + first, start + last)
            for place, each in enumerate(plan.request.statistics):
                values[place, here] = each.of(block)
            cells[here] = block.cells
            shares[here] = np.minimum(block.over(block.covered, np.broadcast_to(weights.totals, block.covered.shape)), 1.0)
    if not timed and steps > 1:
        values[:], cells[:], shares[:] = values[:, :1], cells[:1], shares[:1]
    shares[np.isnan(shares)] = 0.0
    return values, cells, shares


def _finite(values: Array) -> Array:
    """Return the values as floating-point numbers, in which infinite ones are missing."""
    import numpy as np

    floating = values if values.dtype.kind == "f" else values.astype("float64")
    if np.isfinite(floating.sum(dtype="float64")):
        return floating
    return np.where(np.isinf(floating), np.nan, floating)
