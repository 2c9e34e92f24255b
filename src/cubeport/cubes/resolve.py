"""Resolve a selection to the cells of a cube. Pure functions from labels to index windows.

``docs/explanation/invariants.md`` gives the rules for trims, slices, longitudes and order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes import boxes, periods
from cubeport.cubes.calendars import canonical, exists
from cubeport.cubes.cells import Cells, exact
from cubeport.cubes.cells import cells as cells_of
from cubeport.cubes.crs import MERCATOR, degrees_of_mercator
from cubeport.cubes.cylinders import longitudes, world_of
from cubeport.cubes.description import Axis, CubeDescription, Temporal
from cubeport.cubes.outside import no_data
from cubeport.cubes.selection import (
    Instant,
    Latest,
    Period,
    Point,
    Selection,
    Slice,
    Subset,
    Trim,
    first_of,
    in_utc,
    last_of,
    order,
    parse_datetime,
    stamp_at,
    to_milliseconds,
)
from cubeport.cubes.times import decode, is_time_units
from cubeport.cubes.windows import (
    UNKNOWN,
    IndexRange,
    Labels,
    Mask,
    Window,
    Windows,
    native_system,
    runs_of,
    storage_crs,
    time_axis,
)
from cubeport.errors import InvalidPeriod, InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_ALIASES = {
    "x": ("lon", "long", "longitude", "e", "x"),
    "y": ("lat", "latitude", "n", "y"),
    "z": ("z", "h", "height", "depth", "elev", "elevation", "level", "pressure"),
    "t": ("time", "t", "date", "datetime"),
    "member": ("member", "ensemble", "realization"),
}
"""Other names of an axis besides its own, in lower case."""

_MOMENT = 6
"""A time with at least this many fields (year to second) is a moment. A shorter time is a period."""

_RADIANS = ("rad", "radian", "radians")


def resolve(description: CubeDescription, labels: Labels, selection: Selection) -> Windows:
    """Return the index windows of *selection*.

    Raises
    ------
    InvalidRequest
        With a problem for each name that the cube does not have and each value that does not fit its axis.
    NotFound
        With ``what="data"`` and the extent of the cube, if the selection contains no cell.
    """
    return _Resolver(description, labels, selection).windows()


def steps_named(
    temporal: Temporal | None, stamps: Array, bounds: Array | None, start: Instant | None, end: Instant | None
) -> Array | None:
    """Return which steps belong to the periods from *start* to *end* (both included), written in a short form such as 1991 or
    1991-04.

    A step belongs to the period of its label, or of its bounds if these are periods. For example, a year from December to November
    belongs only to the year of its label. Returns ``None`` if the steps are longer than the requested periods or have no period
    type; the cells then decide.

    Parameters
    ----------
    stamps, bounds
        Labels ``(n,)`` and CF bounds ``(n, 2)``, as numbers of :func:`cubeport.cubes.selection.order`.
    """
    kind = temporal.period_type if temporal is not None else None
    if temporal is None or kind not in periods.PERIOD_TYPES or kind in ("climatology", "irregular", "none"):
        return None
    calendar = canonical(temporal.calendar) or "standard"
    try:
        first = None if start is None else periods.parse(_date_of(start), kind, calendar, side="start")
        last = None if end is None else periods.parse(_date_of(end), kind, calendar, side="end")
    except InvalidPeriod:
        return None
    moments, at_end = stamps, temporal.time_label == "end"
    if bounds is not None:
        ends = bounds[[0, -1]]
        pair = [stamp_at(int(each)) for each in ends[:, 0]], [stamp_at(int(each)) for each in ends[:, 1]]
        labels = [stamp_at(int(each)) for each in stamps[[0, -1]]]
        if periods.moments(labels, kind, calendar, pair) is pair[0]:
            moments, at_end = bounds[:, 0], False
    inside: Array = moments == moments
    if first is not None:
        begin = order(periods.start_of(first, kind, calendar))
        inside &= moments > begin if at_end else moments >= begin
    if last is not None:
        stop = order(periods.end_of(last, kind, calendar))
        inside &= moments <= stop if at_end else moments < stop
    return inside


def _in_utc(instant: Instant, calendar: str, stamps: Array, *, bounds: bool = False) -> Instant:
    """Return the instant in UTC, as precise as the labels: those of days in double precision are rounded to the millisecond, and
    other programs read more digits from the same numbers. One that *bounds* a period a microsecond beside a second stays there.

    Raises
    ------
    ValueError
        If the calendar has no such day.
    """
    moment = in_utc(instant, calendar)
    if len(moment.fields) < 7 or (bounds and moment.fields[6] in _BESIDE) or (stamps % 1000).any():
        return moment
    return to_milliseconds(moment, calendar)


_BESIDE = (1, 999_999)
"""Microseconds with which periods are written that begin after a second, or end before one."""


def _ends_of(time: Instant | Period, calendar: str, stamps: Array) -> tuple[Instant | None, Instant | None]:
    """Return the start and the end of what is asked for, as :func:`_in_utc` does.

    An end of a period may be a day of the Gregorian calendar that *calendar* does not have, as 31 January: it is then between the
    last day of its month and the first of the next, and a start there is that first day.
    """
    if isinstance(time, Instant):
        return (_in_utc(time, calendar, stamps),) * 2
    start, end = (
        each if each is None or _is_foreign(each, calendar) else _in_utc(each, calendar, stamps, bounds=True)
        for each in (time.start, time.end)
    )
    if start is not None and _is_foreign(start, calendar):
        year, month = start.fields[:2]
        start = Instant((year + month // 12, month % 12 + 1, 1))
        if end is not None and first_of(start) > last_of(end):
            raise ValueError(f"the calendar {calendar} has no such day")
    return start, end


def _is_foreign(instant: Instant, calendar: str) -> bool:
    """Return whether the Gregorian calendar has the day of a time in UTC, but *calendar* has not."""
    name, day = canonical(calendar) or "standard", instant.fields[:3]
    return len(day) == 3 and not instant.offset and exists(*day, "standard") and not exists(*day, name)


def _date_of(instant: Instant) -> str:
    """Return a short time in the format of periods: 1991, 1991-04, 1991-04-01 or 1991-04-01T12."""
    if len(instant.fields) > 4:
        raise InvalidPeriod("a minute is not a period")
    return str(instant).removesuffix("Z")


def axis_named(description: CubeDescription, name: str) -> Axis | None:
    """Return the axis with this name: its name in the store, otherwise a common name of its kind."""
    for axis in description.axes:
        if name in (axis.name, axis.dimension):
            return axis
    for kind, names in _ALIASES.items():
        if name.lower() in names:
            found = time_axis(description) if kind == "t" else description.axis_of(kind)  # type: ignore[arg-type]  # keys are kinds
            # Lat and Lon mean degrees on the Earth. On an axis in metres or on a rotated grid, they would be other numbers.
            native = description.spatial.family == "projected" and kind in ("x", "y") and name.lower() not in ("x", "y", "e", "n")
            return None if native else found
    return None


def run_times(description: CubeDescription, axis: Axis, labels: Labels) -> Array | None:
    """Return the starts of forecasts as numbers of :func:`~cubeport.cubes.selection.order`; ``None`` for other labels."""
    import numpy as np

    values, temporal = labels.values.get(axis.name), description.temporal
    if values is None or axis.standard_name != "forecast_reference_time" or axis is time_axis(description):
        return None
    if values.dtype.kind not in "iuf" or not is_time_units(axis.units):
        return None
    calendar = (canonical(temporal.calendar) if temporal is not None else None) or "standard"
    return np.array([order(each) for each in decode(values, axis.units or "", calendar, name=axis.name)], "int64")


def turns(description: CubeDescription, axis: Axis) -> bool:
    """Return whether the axis goes round the Earth, so that 350 and −10 are the same place."""
    units = (axis.units or "").lower()
    if axis.kind != "x" or units in _RADIANS:
        return False
    return description.spatial.family != "projected" or units.startswith("degree")


def cells(description: CubeDescription, axis: Axis, labels: Labels) -> Cells:
    """Return the cells of an axis: from CF bounds, otherwise from midpoint to midpoint (x, y), otherwise the labels themselves."""
    found = labels.cells.get(axis.name)
    if found is None:
        found = labels.cells[axis.name] = _found_cells(description, axis, labels)
    return found


def _found_cells(description: CubeDescription, axis: Axis, labels: Labels) -> Cells:
    import numpy as np

    values, given = labels.values.get(axis.name), labels.bounds.get(axis.name)
    straight = description.spatial.family != "projected" and (axis.units or "degree").lower().startswith("deg")
    return cells_of(
        np.arange(axis.size) if values is None else values,
        None if given is None else exact(given),
        spread=axis.kind in ("x", "y") and not axis.scalar,
        circle=turns(description, axis),
        latitude=axis.kind == "y" and straight,
    )


class _Resolver:
    """Resolves one selection and collects its problems."""

    def __init__(self, description: CubeDescription, labels: Labels, selection: Selection) -> None:
        self.description = description
        self.labels = labels
        self.selection = selection
        self.problems: list[Problem] = []
        self.along: dict[str, Window] = {}
        self.masks: list[tuple[tuple[str, ...], Array]] = []
        """The selected cells, over all of their dimensions."""

    def windows(self) -> Windows:
        fields = self._fields()
        outside = False
        self._crs()
        for step in (self._subsets, self._datetime, self._bbox):
            try:
                step()
            except boxes.Outside:
                outside = True
        if self.problems:
            raise InvalidRequest("The query requests something that these data do not have.", errors=self.problems)
        whole: dict[str, Window] = {}
        for variable in map(self.description.variable, fields):
            for dimension, size in zip(variable.dimensions, variable.shape, strict=True):
                whole[dimension] = Window(dimension, (IndexRange(0, size),))
        if outside or not all(whole[dimension].size for dimension in whole):
            raise self._nothing()
        along, mask = self._narrowed(whole | self.along)
        return Windows(fields, self._scaled(along), mask)

    def _narrowed(self, along: dict[str, Window]) -> tuple[dict[str, Window], Mask | None]:
        """Return the windows around the selected cells, and the mask of the selected cells in them."""
        import numpy as np

        found: Mask | None = None
        for dimensions, whole in self.masks:
            if not all(dimension in along for dimension in dimensions):
                continue
            inside = whole[np.ix_(*(along[dimension].indices() for dimension in dimensions))]
            if not inside.any():
                raise self._nothing()
            if len(dimensions) == 1:
                (dimension,) = dimensions
                along[dimension] = replace(along[dimension], runs=_runs(along[dimension].indices()[inside].tolist()))
                continue
            for number, dimension in enumerate(dimensions):
                hits = np.flatnonzero(inside.any(axis=tuple(each for each in range(inside.ndim) if each != number)))
                taken = slice(int(hits[0]), int(hits[-1]) + 1)
                along[dimension] = replace(along[dimension], runs=_runs(along[dimension].indices()[taken].tolist()))
                inside = inside[(slice(None),) * number + (taken,)]
        for dimensions, whole in self.masks:
            if len(dimensions) > 1 and all(dimension in along for dimension in dimensions):
                mask = Mask(dimensions, whole[np.ix_(*(along[dimension].indices() for dimension in dimensions))])
                found = mask if found is None else found & mask
        if found is not None and not found.inside.any():
            raise self._nothing()
        return along, found

    def _nothing(self) -> NotFound:
        return no_data(self.description)

    def _problem(self, parameter: str, kind: str, message: str) -> None:
        self.problems.append(Problem(("query", parameter), kind, message))

    # --- names --------------------------------------------------------------------------------------------------------

    def _fields(self) -> tuple[str, ...]:
        known = self.description.fields
        for parameter, names in (("properties", self.selection.properties or ()), ("exclude-properties", self.selection.excluded)):
            if not set(names) <= set(known):
                self._problem(parameter, "unknown", f"{parameter} may name {', '.join(known[:50])}")
        if self.selection.properties is not None:
            return tuple(name for name in self.selection.properties if name in known)
        kept = tuple(name for name in known if name not in self.selection.excluded)
        if not kept:
            self._problem("exclude-properties", "empty", "exclude-properties leaves no field")
        return kept

    def _crs(self) -> None:
        """Accept the name of the storage CRS for the answer and for subsets, which use it by default.

        :mod:`cubeport.cubes.reprojected` handles other systems of an answer. It resolves the selection without them.
        """
        native = storage_crs(self.description)
        if self.selection.crs not in (None, native):
            words = f"crs may be the storage CRS, {native}; coverages and cubes can have OGC:CRS84, EPSG:4326 and EPSG:3857 too"
            self._problem("crs", "not-offered", words)
        if self.selection.subset_crs not in (None, native):
            self._problem("subset-crs", "not-offered", f"subset-crs may be the storage CRS: {native}")

    # --- parameters ---------------------------------------------------------------------------------------------------

    def _subsets(self) -> None:
        asked: set[str] = set()
        for subset in self.selection.subsets:
            axis = axis_named(self.description, subset.axis)
            if axis is None and subset.axis.lower() in _ALIASES["z"] and self.description.axis_of("z") is None:
                self._problem("subset", "no-axis", f"{subset.axis}: these data have no vertical axis")
            elif axis is None:
                names = ", ".join(each.name for each in self.description.axes if not each.scalar)
                self._problem("subset", "unknown", f"subset may name the axes {names}")
            elif axis.name in asked:
                self._problem("subset", "repeated", f"subset names the axis {axis.name} twice")
            elif axis.kind in ("x", "y") and self.selection.bbox is not None:
                self._problem("subset", "clash", f"bbox and subset both select {axis.name}")
            elif self._is_time(axis) and self.selection.datetime is not None:
                self._problem("subset", "clash", f"datetime and subset both select {axis.name}")
            else:
                asked.add(axis.name)
                self._take(axis, self._on_axis(axis, subset), sliced=_is_one(subset))

    def _datetime(self) -> None:
        asked = self.selection.datetime
        if asked is None:
            return
        axis, temporal = time_axis(self.description), self.description.temporal
        if axis is None and temporal is not None:
            self._at_times(temporal, asked)
            return
        if axis is None:
            self._problem("datetime", "no-axis", "these data have no time")
            return
        self._take(axis, self._in_time(axis, asked, "datetime"), sliced=isinstance(asked, Instant))

    def _bbox(self) -> None:
        box = self.selection.bbox
        if box is None:
            return
        half = len(box) // 2
        if half == 3:
            self._vertical(box[2], box[5])
        crs, native = self.selection.bbox_crs, storage_crs(self.description)
        west, south, east, north = box[0], box[1], box[half], box[half + 1]
        if crs == MERCATOR != native:
            # Its x and y lines are meridians and parallels, so the box is in degrees.
            crs, (west, south), (east, north) = None, degrees_of_mercator(west, south), degrees_of_mercator(east, north)
        if crs not in (None, native):
            offered = ["OGC:CRS84", "EPSG:4326", MERCATOR, *([] if native in ("OGC:CRS84", "native") else [native])]
            self._problem("bbox-crs", "not-offered", f"bbox-crs may be {', '.join(dict.fromkeys(offered))}")
            return
        if crs is not None and west > east and native != "OGC:CRS84":
            self._problem("bbox", "invalid-range", "bbox must have its lower end before its upper end")
            return
        family = self.description.spatial.family
        if family in ("curvilinear", "unstructured"):
            self._by_centre((west, south, east, north))
            return
        x, y = self.description.axis_of("x"), self.description.axis_of("y")
        if family == "none" or x is None or y is None:
            self._problem("bbox", "no-axis", "these data have no horizontal position: use subset with the names of its axes")
            return
        if family == "projected" and crs is None:
            onto, factor = native_system(self.description)
            columns, rows = self._cells(x), self._cells(y)
            round_world = None if columns.circle else longitudes(onto, columns, factor)
            if round_world is not None and boxes.width_of(west, east) < 360:
                self._on_a_cylinder(onto, (west, south, east, north), round_world, factor, (x, y))
                return
            outer = self.description.spatial.bbox
            across, up = boxes.through(onto, (west, south, east, north), columns, rows, factor=factor, outer=outer)
            # The frame of the query does not apply to a rotated grid, so its labels stay as stored.
            self._take(x, _runs(across.tolist()))
            self._take(y, _runs(up.tolist()))
            return
        if turns(self.description, x):
            runs = self._around(x, west, east)
            self._take(x, _runs(sorted(at for run in runs for at in range(run.start, run.stop))) if family == "projected" else runs)
        else:
            self._take(x, self._between(x, west, east))
        self._take(y, self._between(y, south, north))

    def _on_a_cylinder(self, onto: Any, box: boxes.Box, columns: Cells, factor: float, axes: tuple[Axis, Axis]) -> None:
        """Select by longitudes if x goes round the Earth in a cylindrical projection, so that a box over its seam joins both ends.

        The first column has its stored label. Beyond the seam x runs on, past the width of the world.

        Parameters
        ----------
        onto
            A pyproj transformer from CRS84 to the projection, x before y.
        columns
            The columns as cells of longitude.
        factor
            Converts stored numbers to the units of the projection by multiplication.
        axes
            x and y.
        """
        x, y = axes
        taken, turned = boxes.around(columns, box[0], box[2])
        _, low, _, high = boxes.into_native(onto, box, factor=factor, circle=False)
        world = (world_of(onto) or 0.0) / 360.0 / factor
        self._take(x, _runs(taken.tolist(), ((turned - turned[0]) * world).tolist()))
        self._take(y, self._between(y, low, high))

    def _vertical(self, low: float, high: float) -> None:
        axis = self.description.axis_of("z")
        if axis is None:
            self._problem("bbox", "no-axis", "these data have no vertical axis: a bbox has 4 numbers")
        elif any(axis_named(self.description, subset.axis) is axis for subset in self.selection.subsets):
            self._problem("subset", "clash", f"bbox and subset both select {axis.name}")
        else:
            self._take(axis, self._between(axis, low, high))

    def _take(self, axis: Axis, runs: tuple[IndexRange, ...], *, sliced: bool = False) -> None:
        """Keep the index ranges of an axis. An empty tuple means that a problem was recorded."""
        if runs and not axis.scalar:
            window = Window(axis.dimension, runs)
            # A short time can name several steps, and then the axis keeps all of them.
            self.along[axis.dimension] = replace(window, sliced=sliced and window.size == 1)

    def _scaled(self, along: dict[str, Window]) -> dict[str, Window]:
        """Return the windows with fewer cells along x and y. Each cell of the answer is a cell of the data; no value is
        computed.
        """
        scale = self.selection.scale
        if scale is None:
            return along
        x, y = self.description.axis_of("x"), self.description.axis_of("y")
        asked: list[tuple[Axis, float]] = []
        for name, number in scale.parts:
            axes = (x, y) if not name else (axis_named(self.description, name),)
            if any(axis is None or axis.kind not in ("x", "y") or axis.dimension not in along for axis in axes):
                self._problem(scale.family, "no-axis", f"{scale.family} takes the axes of x and y")
            asked += [(axis, number) for axis in axes if axis is not None and axis.dimension in along]
        scaled = dict(along)
        for axis, number in asked:
            window = along[axis.dimension]
            size = number if scale.family == "scale-size" else max(1, round(window.size / number))
            if window.sliced:
                self._problem(scale.family, "clash", f"{axis.name} is sliced, so it cannot be scaled")
            elif size > window.size:
                self._problem(
                    scale.family, "out-of-range", f"{axis.name} has {window.size} cells here, and there are no finer ones"
                )
            else:
                scaled[axis.dimension] = replace(window, runs=_every(window, int(size)))
        if self.problems:
            raise InvalidRequest("The query requests something that these data do not have.", errors=self.problems)
        return scaled

    # --- one axis -----------------------------------------------------------------------------------------------------

    def _is_time(self, axis: Axis) -> bool:
        return axis is time_axis(self.description)

    def _values(self, axis: Axis) -> Array:
        import numpy as np

        values = self.labels.values.get(axis.name)
        return np.arange(axis.size) if values is None else values

    def _on_axis(self, axis: Axis, subset: Subset) -> tuple[IndexRange, ...]:
        match subset.part:
            case Latest():
                runs = run_times(self.description, axis, self.labels)
                if runs is not None:
                    return _runs([int(runs.argmax())])
                if not self._is_time(axis):
                    self._problem("subset", "malformed", f"only time has a latest value, not {axis.name}")
                    return ()
                return _runs([int(self._values(axis).argmax())])
            case Trim(low, high):
                return self._trim(axis, low, high)
            case Slice(points):
                return self._slices(axis, points)

    def _trim(self, axis: Axis, low: Point | None, high: Point | None) -> tuple[IndexRange, ...]:
        if self._is_time(axis):
            ends = [None if end is None else self._time(end) for end in (low, high)]
            if any(end is None and given is not None for end, given in zip(ends, (low, high), strict=True)):
                return ()
            return self._in_time(axis, Period(*ends), "subset")
        runs = run_times(self.description, axis, self.labels)
        if runs is not None and (isinstance(low, str) or isinstance(high, str)):
            return self._started(runs, [(low, high)])
        if isinstance(low, str) or isinstance(high, str) or self._values(axis).dtype.kind not in "iuf":
            self._problem("subset", "malformed", f"{axis.name}(low:high) needs numbers and an axis of numbers")
            return ()
        if turns(self.description, axis) and low is not None and high is not None:
            return self._around(axis, low, high)
        if low is not None and high is not None and low > high:
            self._problem("subset", "invalid-range", f"{axis.name} must have its lower end before its upper end")
            return ()
        return self._between(axis, -math.inf if low is None else low, math.inf if high is None else high)

    def _slices(self, axis: Axis, points: Sequence[Point]) -> tuple[IndexRange, ...]:
        if self._is_time(axis):
            times = [self._time(point) for point in points]
            found = [self._in_time(axis, time, "subset") for time in times if time is not None]
            taken = sorted({at for runs in found for run in runs for at in range(run.start, run.stop)})
            return _runs(taken) if all(found) and None not in times else ()
        values = self._values(axis)
        if values.dtype.kind not in "iuf":
            matches = [[at for at, label in enumerate(values.tolist()) if str(label) == _as_text(point)] for point in points]
            if not all(matches):
                raise boxes.Outside
            return _runs(sorted({match[0] for match in matches}))
        if any(isinstance(point, str) for point in points):
            runs = run_times(self.description, axis, self.labels)
            if runs is not None:
                return self._started(runs, [(point, point) for point in points])
            self._problem("subset", "malformed", f"{axis.name} has numbers")
            return ()
        found_runs = [self._holding(axis, float(point)) for point in points]
        if len(found_runs) == 1:
            return (found_runs[0],)
        # Several values keep the labels and the order of the store. Shifted one by one, longitudes would jump.
        return _runs(sorted({run.start for run in found_runs}))

    def _started(self, runs: Array, spans: Sequence[tuple[Point | None, Point | None]]) -> tuple[IndexRange, ...]:
        """Return the forecasts that started in the spans, ends included. Raises Outside for a span without one."""
        import numpy as np

        calendar = self.description.temporal.calendar if self.description.temporal else "standard"
        taken: set[int] = set()
        for low, high in spans:
            inside = np.ones(runs.shape, "bool")
            for point, side in ((low, 0), (high, 1)):
                if point is None:
                    continue
                instant = self._time(point)
                if instant is None:
                    return ()
                try:
                    at = _in_utc(instant, calendar, runs)
                except ValueError as error:
                    self._problem("subset", "invalid-period", f"subset: {error}")
                    return ()
                inside &= runs <= last_of(at) if side else runs >= first_of(at)
            if not inside.any():
                raise boxes.Outside
            taken |= set(np.flatnonzero(inside).tolist())
        return _runs(sorted(taken))

    def _between(self, axis: Axis, low: float, high: float) -> tuple[IndexRange, ...]:
        return _runs(boxes.between(self._cells(axis), low, high).tolist())

    def _around(self, axis: Axis, west: float, east: float) -> tuple[IndexRange, ...]:
        indices, moved = boxes.around(self._cells(axis), west, east)
        return _runs(indices.tolist(), moved.tolist())

    def _holding(self, axis: Axis, value: float) -> IndexRange:
        at, moved = boxes.holding(self._cells(axis), value)
        return IndexRange(at, at + 1, moved)

    def _cells(self, axis: Axis) -> Cells:
        return cells(self.description, axis, self.labels)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _time(self, point: Point) -> Instant | None:
        try:
            instant = parse_datetime(point if isinstance(point, str) else _as_text(point))
        except ValueError as error:
            self._problem("subset", "malformed", f"subset of time {error}")
            return None
        if isinstance(instant, Period):
            self._problem("subset", "malformed", "a period in subset is written time(low:high)")
            return None
        return instant

    def _in_time(self, axis: Axis, time: Instant | Period, parameter: str) -> tuple[IndexRange, ...]:
        """Return the selected steps by calendar fields. Returns an empty tuple and records a problem if the calendar has no such
        day.
        """
        import numpy as np

        calendar = self.description.temporal.calendar if self.description.temporal else "standard"
        stamps = self.labels.values[axis.name]
        try:
            start, end = _ends_of(time, calendar, stamps)
        except ValueError as error:
            self._problem(parameter, "invalid-period", f"{parameter}: {error}")
            return ()
        low, high = -math.inf if start is None else first_of(start), math.inf if end is None else last_of(end)
        if low > high:
            self._problem(parameter, "invalid-range", f"{parameter} must have its start before its end")
            return ()
        bounds = self.labels.bounds.get(axis.name)
        lower, upper = (stamps, stamps) if bounds is None else (bounds.min(axis=1), bounds.max(axis=1))
        points = upper <= lower
        short = all(each is None or len(each.fields) < _MOMENT for each in (start, end))
        if isinstance(time, Period) or short:
            named = steps_named(self.description.temporal, stamps, bounds, start, end) if short else None
            if named is not None:
                return _runs(np.flatnonzero(named).tolist())
            inside = np.where(points, (stamps >= low) & (stamps <= high), (lower < high) & (upper > low))
            # A moment that equals a label selects its step, as it does alone. Otherwise the published extent would miss a step.
            for moment in (start, end):
                if moment is not None and len(moment.fields) >= _MOMENT:
                    inside |= stamps == first_of(moment)
            return _runs(np.flatnonzero(inside).tolist())
        for found in (np.flatnonzero(stamps == low), np.flatnonzero(~points & (lower <= low) & (low < upper))):
            if found.size:
                return _runs([int(found[0])])
        raise boxes.Outside

    def _at_times(self, temporal: Temporal, time: Instant | Period) -> None:
        """Select values by their own times if times are not an axis: those of runs and steps, or of points of a trajectory."""
        stamps = self.labels.values[temporal.axis]
        try:
            start, end = _ends_of(time, temporal.calendar, stamps[stamps != UNKNOWN])
        except ValueError as error:
            self._problem("datetime", "invalid-period", f"datetime: {error}")
            return
        inside = stamps != UNKNOWN
        if start is not None:
            inside = inside & (stamps >= first_of(start))
        if end is not None:
            inside = inside & (stamps <= last_of(end))
        if not inside.any():
            raise boxes.Outside
        self.masks.append((temporal.dimensions, inside))

    # --- grids without straight axes ----------------------------------------------------------------------------------

    def _by_centre(self, box: boxes.Box) -> None:
        spatial = self.description.spatial
        lon, lat = self.labels.values[spatial.x or ""], self.labels.values[spatial.y or ""]
        inside = boxes.positions_in(lon, lat, box, reach=spatial.reach, outlines=self.labels.outlines)
        again = None if self._cells_have_times() else self.labels.repeated()
        if again is not None and (inside & ~again).any():
            inside = inside & ~again  # a place comes once, as on grids with axes
        self.masks.append((self.description.cell_dimensions, inside))

    def _cells_have_times(self) -> bool:
        """Return whether two cells at one place can be of two times, as in the swath of a satellite."""
        temporal, time = self.description.temporal, time_axis(self.description)
        own = () if temporal is None else temporal.dimensions if time is None else (time.dimension,)
        return not set(own).isdisjoint(self.description.cell_dimensions)


def _runs(indices: Sequence[int], shifts: Sequence[float] | None = None) -> tuple[IndexRange, ...]:
    """Join consecutive indices with the same shift into ranges. Raises boxes.Outside if there are none."""
    found = runs_of(indices, shifts)
    if not found:
        raise boxes.Outside
    return found


def _every(window: Window, size: int) -> tuple[IndexRange, ...]:
    """Return *size* cells of the window, evenly spread: the middle cell of each equal part."""
    import numpy as np

    indices = window.indices()
    shifts = np.concatenate([np.full(run.stop - run.start, run.shift) for run in window.runs])
    taken = ((2 * np.arange(size) + 1) * len(indices)) // (2 * size)
    return _runs(indices[taken].tolist(), shifts[taken].tolist())


def _is_one(subset: Subset) -> bool:
    return isinstance(subset.part, Latest) or (isinstance(subset.part, Slice) and len(subset.part.values) == 1)


def _as_text(point: Point) -> str:
    if isinstance(point, str):
        return point
    return str(int(point)) if point.is_integer() and abs(point) < 1e15 else repr(point)
