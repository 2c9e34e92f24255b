"""Lines that are somewhere at some time (``LINESTRING M`` and ``ZM``): the cells that they pass, at the steps of the data then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cubeport.cubes.calendars as calendar_
from cubeport.cubes import boxes
from cubeport.cubes.calendars import CalendarName, Stamp
from cubeport.cubes.cells import Cells, exact
from cubeport.cubes.cells import cells as cells_of
from cubeport.cubes.description import Axis, CubeDescription
from cubeport.cubes.edr.cells import horizontal, in_order, onto_columns, these, with_levels, without_fields
from cubeport.cubes.edr.geometry import dense, vertices
from cubeport.cubes.resolve import cells
from cubeport.cubes.selection import Selection, order, stamp_at
from cubeport.cubes.windows import Labels, Window, Windows, runs_of, time_axis
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cubeport.cubes.quads import Outlines

    type Array = NDArray[Any]

_STEP = 0.1
"""The largest distance in degrees between points of a line that is transformed to a projection or compared with positions."""
_MOST_SAMPLES = 4_000
"""The largest number of points of a line that are searched on grids without straight axes."""
_MOST_PARTS = 400_000
"""The largest number of parts of a line, each in one cell and one step."""
_MOST_CELLS = 1 << 26
"""The largest number of cells and steps around a line."""
_EPOCH = calendar_.ordinal(Stamp(1970, 1, 1, 0, 0, 0, 0), "proleptic_gregorian")
_BEFORE, _AFTER = 2, 2
"""Steps that are looked at besides those between the first and the last time: they decide where the others end."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The steps of the data around the times of a line, in seconds along the days of their calendar."""

    axis: Axis
    first: int
    """The index of the first of these steps."""
    steps: Cells
    """Each step reaches to the middle between it and the next, or as far as its CF bounds."""
    calendar: CalendarName
    origin: int
    """The first time of the line, from which seconds are counted, in microseconds of the calendar."""
    length: float
    """The last time of the line, in seconds."""

    def seconds(self, times: Array) -> Array:
        """Return Unix times as seconds of this clock. Raises InvalidRequest for a day that the calendar does not have."""
        import numpy as np

        return np.array([(_ordinal(each, self.calendar) - self.origin) / 1e6 for each in np.ravel(times).tolist()])

    def indices(self, seconds: Array) -> Array:
        """Return the index of the step at each of some seconds, −1 where there is none."""
        import numpy as np

        found = boxes.holding_each(self.steps, seconds)
        return np.where(found < 0, -1, found + self.first)


def clock_of(description: CubeDescription, labels: Labels, times: Array) -> Clock:
    """Return the steps around Unix times. Raises InvalidRequest for data without a time axis, or whose calendar has no such day."""
    import numpy as np

    axis, temporal = time_axis(description), description.temporal
    if axis is None or temporal is None or axis.scalar:
        raise _wrong("no-axis", "coords has times, and the times of these data are no axis: leave out M, and use datetime")
    calendar = calendar_.canonical(temporal.calendar) or "standard"
    origin = _ordinal(float(times.min()), calendar)
    orders, given = labels.values[axis.name], labels.bounds.get(axis.name)
    start, stop = 0, len(orders)
    if stop > 1 and bool((np.diff(orders) > 0).all()):
        ends = [_order(float(each), calendar) for each in (times.min(), times.max())]
        start = max(0, int(np.searchsorted(orders, ends[0])) - _BEFORE)
        stop = min(stop, int(np.searchsorted(orders, ends[1], side="right")) + _AFTER)

    def along(numbers: Iterable[int]) -> Array:
        return np.array([(calendar_.ordinal(stamp_at(int(each)), calendar) - origin) / 1e6 for each in numbers])

    bounds = None if given is None else along(given[start:stop].ravel().tolist()).reshape(-1, 2)
    if bounds is not None and (bounds[:, 0] == bounds[:, 1]).any():
        bounds = None  # XIOS writes instants as periods without a length
    steps = cells_of(along(orders[start:stop].tolist()), bounds, spread=True)
    return Clock(axis, start, steps, calendar, origin, (_ordinal(float(times.max()), calendar) - origin) / 1e6)


def passed(description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, line: Any) -> Windows:
    """Return the cells that a line with times passes, each at the steps in which it is there, and at the levels that it has then.

    Raises
    ------
    InvalidRequest
        If the fields have no times or no levels, or the line is too long.
    NotFound
        If the data are nowhere on the way at that time.
    """
    import numpy as np

    _alone(selection)
    parts = vertices(line)
    clock = clock_of(description, labels, np.concatenate([each[:, 3] for each in parts]))
    explicit = selection.properties is not None
    windows = without_fields(description, windows, clock.axis, "times", explicit=explicit)
    across, along = horizontal(description), [clock.axis.dimension]
    layers = None
    if line.has_z:
        z, windows = with_levels(description, windows, explicit=explicit)
        given = labels.bounds.get(z.name)
        layers = cells_of(labels.values[z.name], None if given is None else exact(given), spread=True)
        along.append(z.dimension)
    places: list[tuple[float, tuple[int, ...]]] = []
    for part in parts:
        moving = np.column_stack([part[:, :3], clock.seconds(part[:, 3])])
        places += _cells_of(description, labels, moving, clock, layers)
    found = list(dict.fromkeys(cell for _, cell in sorted(places, key=lambda piece: piece[0])))
    if not found:
        raise NotFound("There are no data where this line is at its times.", what="data")
    if math.prod(len({cell[at] for cell in found}) for at in range(len(along) + len(across))) > _MOST_CELLS:
        raise _wrong("too-long", f"coords may have {_MOST_CELLS} cells and steps around it: ask for parts of the line")
    return in_order(these(windows, (*along, *across), found), (*along, *across), found)


def during(description: CubeDescription, windows: Windows, selection: Selection, clock: Clock) -> Windows:
    """Return the windows with the steps of a clock only. Raises InvalidRequest for fields without times, NotFound."""
    import numpy as np

    _alone(selection)
    windows = without_fields(description, windows, clock.axis, "times", explicit=selection.properties is not None)
    meeting = np.flatnonzero((clock.steps.lower <= clock.length) & (clock.steps.upper >= 0))
    if not meeting.size:
        raise NotFound("There are no data at these times.", what="data")
    window = Window(clock.axis.dimension, runs_of(meeting + clock.first))
    return replace(windows, along={**windows.along, clock.axis.dimension: window})


def _cells_of(
    description: CubeDescription, labels: Labels, part: Array, clock: Clock, layers: Cells | None
) -> list[tuple[float, tuple[int, ...]]]:
    """Return the time, and step, level and cell of each piece of one line, ``(vertices, 4)``: longitude, latitude, height,
    seconds.
    """
    import numpy as np

    spatial, edges = description.spatial, [(3, clock.steps)]
    if layers is not None:
        edges.append((2, layers))
    if description.cell_dimensions:
        part = dense(part, max(_STEP, _length(part) / (_MOST_SAMPLES / 2)))
        middle = pieces(part, edges)
        if len(middle) > _MOST_SAMPLES:
            raise _too_long()
        placed = _nearest(labels.values[str(spatial.x)], labels.values[str(spatial.y)], middle, spatial.reach, labels.outlines())
    else:
        x, y = (description.axis(str(name)) for name in (spatial.x, spatial.y))
        if x.scalar or y.scalar:
            raise _wrong("no-axis", "these data are at one place or on one line: ask for a position or a cube")
        columns, rows = cells(description, x, labels), cells(description, y, labels)
        if spatial.family == "projected":
            columns, carried = onto_columns(description, columns)
            part = carried(dense(part, _STEP))
            if not np.isfinite(part[:, :2]).all():
                raise NotFound("A part of the line cannot be projected as the data are.", what="data")
        middle = pieces(part, [*edges, (0, columns), (1, rows)])
        placed = [boxes.holding_each(rows, middle[:, 1]), boxes.holding_each(columns, middle[:, 0])]
    index = [clock.indices(middle[:, 3])]
    if layers is not None:
        index.append(boxes.holding_each(layers, middle[:, 2]))
    whole = np.column_stack([*index, *placed])
    kept = (whole >= 0).all(axis=1)
    return list(zip(middle[kept, 3].tolist(), map(tuple, whole[kept].tolist()), strict=True))


def pieces(part: Array, edges: Sequence[tuple[int, Cells]]) -> Array:
    """Return the middle of each piece of a line between two edges: of cells, of levels and of steps, by column."""
    import numpy as np

    cuts = [np.arange(len(part), dtype="f8")]
    for column, axis in edges:
        lines = np.unique(np.concatenate([axis.lower, axis.upper]))
        if axis.circle:
            lines = np.unique(np.concatenate([lines + turn for turn in (-720.0, -360.0, 0.0, 360.0, 720.0)]))
        cuts.append(_crossings(part[:, column], lines))
    whole = np.unique(np.concatenate(cuts))
    if len(whole) > _MOST_PARTS:
        raise _too_long()
    middle = (whole[:-1] + whole[1:]) / 2
    return np.column_stack([np.interp(middle, cuts[0], each) for each in part.T])


def _crossings(values: Array, lines: Array) -> Array:
    """Return where a coordinate that is linear between vertices passes some values, as numbers of vertices with their fractions."""
    import numpy as np

    begin, end = values[:-1], values[1:]
    first = np.searchsorted(lines, np.minimum(begin, end), side="right")
    count = np.maximum(np.searchsorted(lines, np.maximum(begin, end), side="left") - first, 0)
    if int(count.sum()) > _MOST_PARTS:
        raise _too_long()
    which = np.repeat(np.arange(count.size), count)
    at = np.arange(which.size) + (first - (np.cumsum(count) - count))[which]
    return np.asarray(which + (lines[at] - begin[which]) / (end - begin)[which])


def _nearest(lon: Array, lat: Array, places: Array, reach: float | None, outlines: Outlines | None) -> list[Array]:
    import numpy as np

    found = np.full((len(places), lon.ndim), -1)
    for at, (x, y) in enumerate(places[:, :2].tolist()):
        try:
            found[at] = boxes.nearest(lon, lat, (x, y), reach=reach, outlines=outlines)
        except boxes.Outside:
            continue
    return list(found.T)


def _length(part: Array) -> float:
    import numpy as np

    return float(np.hypot(*np.diff(part[:, :2], axis=0).T).sum())


def _ordinal(time: float, calendar: CalendarName) -> int:
    stamp = _stamp(time)
    if not calendar_.exists(stamp.year, stamp.month, stamp.day, calendar):
        raise _wrong("invalid-period", f"coords has a time on {str(stamp)[:10]}, a day that the calendar {calendar} does not have")
    return calendar_.ordinal(stamp, calendar)


def _order(time: float, calendar: CalendarName) -> int:
    _ordinal(time, calendar)
    return order(_stamp(time))


def _stamp(time: float) -> Stamp:
    return calendar_.stamp_of(_EPOCH + round(time * 1e6), "proleptic_gregorian")


def _alone(selection: Selection) -> None:
    if selection.datetime is not None:
        words = "datetime and the times of coords cannot be combined"
        raise InvalidRequest(words, errors=[Problem(("query", "datetime"), "clash", words)])


def _too_long() -> InvalidRequest:
    return _wrong("too-long", f"coords may pass through {_MOST_PARTS} cells")


def _wrong(kind: str, words: str) -> InvalidRequest:
    return InvalidRequest(words, errors=[Problem(("query", "coords"), kind, words)])
