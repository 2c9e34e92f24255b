"""The part of a source that an ingestion reads, as one index range per dimension of the undecoded dataset."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes import boxes, footprint, periods, times
from cubeport.cubes import crs as reference
from cubeport.cubes.axes import CubeAxes, FoundAxis
from cubeport.cubes.boxes import Box
from cubeport.cubes.calendars import CalendarName
from cubeport.cubes.cells import Cells, bounds, cells_of, places
from cubeport.cubes.cylinders import around_seam, longitudes
from cubeport.cubes.decoding import decoded
from cubeport.cubes.grids import position_dims, reach_of
from cubeport.cubes.groups import find
from cubeport.cubes.stamps import Stamps
from cubeport.cubes.write_request import SourceWindow
from cubeport.errors import AreaOutsideSource, InvalidPeriod, InvalidRange, InvalidRequest, NoData

if TYPE_CHECKING:
    import xarray as xr


def window_indexers(raw: xr.Dataset, window: SourceWindow) -> dict[str, slice | Any]:
    """Return the argument of ``raw.isel``: a slice per dimension, or an array of indices for scattered points.

    Raises
    ------
    AreaOutsideSource
        If no cell intersects the box, or if the box crosses the seam of the source's longitudes, so that one range cannot contain
        it.
    NoData
        If there is no step between start and end.
    InvalidPeriod, InvalidRange
        If start or end is not a date of the source's calendar, or the end is before the start.
    InvalidRequest
        If the source has no horizontal coordinates.
    """
    if window.bbox is None and window.start is None and window.end is None:
        return {}
    found = find(raw)
    indexers: dict[str, slice | Any] = {}
    if window.bbox is not None:
        indexers |= _area(raw, found, window.bbox, centre=window.clip == "centre")
        for other in found.others:
            # Other grids of the source, such as those of staggered velocities, are cut by the same box.
            with contextlib.suppress(AreaOutsideSource, InvalidRequest):
                beside = _area(raw, other, window.bbox, centre=window.clip == "centre")
                if not set(beside) & set(indexers):
                    indexers |= beside
    if window.start is not None or window.end is not None:
        indexers |= _times(raw, found, window)
    return indexers


def not_asked(raw: xr.Dataset, window: SourceWindow) -> list[tuple[str, str]]:
    """Return a warning if files that were fetched for the periods of *window* have steps of others, which are left out."""
    if not window.is_all or (window.start is None and window.end is None):
        return []
    axis = find(raw).axis_of("t")
    if axis is None or axis.dimension not in raw.sizes:
        return []
    of_time = replace(window, bbox=None)
    taken = window_indexers(raw, of_time).get(axis.dimension, slice(None))
    first, stop, _ = taken.indices(raw.sizes[axis.dimension])
    _, stamps = _stamps(raw, axis)
    others = [*stamps[:first], *stamps[stop:]]
    if not others:
        return []
    asked = " to ".join(dict.fromkeys(each for each in (window.start, window.end) if each is not None))
    said = ", ".join(map(str, others[:3])) + (", …" if len(others) > 3 else "")
    words = f"beside the steps of {asked}, the files have {len(others)} of other periods in {axis.name!r}, which are left out"
    return [("steps-left-out", f"{words}: {said}")]


def _area(raw: xr.Dataset, found: CubeAxes, bbox: Box, *, centre: bool) -> dict[str, slice | Any]:
    try:
        match found.family:
            case "rectilinear" | "projected":
                return {**_straight(raw, found, bbox, centre=centre)}
            case "curvilinear" | "unstructured":
                return _positions(raw, found, bbox)
            case _:
                raise InvalidRequest("the source has no horizontal position, so it cannot be cut by an area")
    except boxes.Outside:
        raise _outside() from None


def _outside() -> AreaOutsideSource:
    return AreaOutsideSource("no cell of the source is in the area", next_step="choose an area that the source covers")


def _straight(raw: xr.Dataset, found: CubeAxes, bbox: Box, *, centre: bool) -> dict[str, slice]:
    """Return the index ranges of straight axes, in degrees or in the units of a grid mapping."""
    import numpy as np
    import pyproj

    x, y = (next(each for each in found.axes if each.name == name) for name in (found.x, found.y))
    columns, rows = cells_of(raw, found, x), cells_of(raw, found, y)
    west, south, east, north = bbox
    if found.family == "projected":
        crs = reference.from_attributes(found.mapping)
        largest = float(max(abs(columns.labels).max(), abs(rows.labels).max()))
        factor = reference.unit_factor(crs, raw.variables[x.name].attrs.get("units"), largest=largest, attributes=found.mapping)
        assert factor is not None  # with other units the family is not projected
        onto = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
        native = columns.outer[0], rows.outer[0], columns.outer[1], rows.outer[1]
        view = found.mapping if found.mapping.get("grid_mapping_name") == "geostationary" else None
        if (round_world := longitudes(onto, columns, factor)) is not None:
            # Its x ends at the seam, so a box over it is at both ends of the grid, as on a grid of longitudes.
            _, south, _, north = boxes.into_native(around_seam(onto, native, factor), bbox, factor=factor, circle=False)
            up = boxes.centres(rows, south, north) if centre else boxes.between(rows, south, north)
            across = boxes.centres(round_world, west, east) if centre else boxes.around(round_world, west, east)[0]
            return _along(x, across, columns) | _along(y, up, rows)
        outer = footprint.projected(crs, native, factor=factor, geostationary=view)
        across, up = boxes.through(onto, bbox, columns, rows, factor=factor, outer=outer)
        if centre:
            # The rectangle around the box in x and y has other centres too, and of a box around a pole it may lack some.
            places = np.meshgrid(columns.labels[across] * factor, rows.labels[up] * factor)
            inside = boxes.inside(*onto.transform(*places, direction="INVERSE"), bbox)
            if not inside.any():
                raise boxes.Outside
            # A window is whole, also if a narrow box has no centre in a row between two others.
            across, up = (
                each[slice(taken.min(), taken.max() + 1)]
                for each, taken in ((across, np.flatnonzero(inside.any(axis=0))), (up, np.flatnonzero(inside.any(axis=1))))
            )
        return _along(x, across, columns) | _along(y, up, rows)
    if centre:
        across, up = boxes.centres(columns, west, east), boxes.centres(rows, south, north)
    else:
        across = boxes.around(columns, west, east)[0] if columns.circle else boxes.between(columns, west, east)
        up = boxes.between(rows, south, north)
    return _along(x, across, columns) | _along(y, up, rows)


def _along(axis: FoundAxis, taken: Any, cells: Cells) -> dict[str, slice]:
    """Return the index range of an axis; a scalar coordinate is either inside or outside."""
    import numpy as np

    if cells.once is not None and int(np.ptp(taken)) + 1 != len(taken):
        # Of a column that comes round again, the other is next to the rest.
        ends = dict(zip(cells.once.index.tolist(), cells.once.last.tolist(), strict=True))
        taken = np.array([ends[each] for each in taken.tolist()])
    low, high = int(taken.min()), int(taken.max())
    if high - low + 1 != len(taken):
        labels = cells.labels
        raise AreaOutsideSource(
            f"the area lies over the seam of {axis.name!r}, whose labels run from {labels[0]:g} to {labels[-1]:g}: "
            "it is not one range of columns, and the order of the data is not changed",
            next_step="use an area on one side of the seam, or all longitudes",
        )
    return {} if axis.scalar else {axis.dimension: slice(low, high + 1)}


def _positions(raw: xr.Dataset, found: CubeAxes, bbox: Box) -> dict[str, slice | Any]:
    """Return the index range around all cells whose centre is in the box; for points, exactly those points."""
    import numpy as np

    reach = reach_of(raw, found)
    mask = boxes.positions_in(places(raw, str(found.x)), places(raw, str(found.y)), bbox, reach=reach)
    dims = position_dims(raw, str(found.x))
    if len(dims) == 2:
        hits = [np.flatnonzero(mask.any(axis=1 - number)) for number in (0, 1)]
        return {dim: slice(int(each[0]), int(each[-1]) + 1) for dim, each in zip(dims, hits, strict=True)}
    if any(each.attrs.get("cf_role") == "mesh_topology" for each in raw.variables.values()):
        raise InvalidRequest("a mesh cannot be cut: its connectivity would point at missing cells", next_step="ingest all of it")
    where = np.flatnonzero(mask)
    whole = len(where) == where[-1] - where[0] + 1
    return {dims[0]: slice(int(where[0]), int(where[-1]) + 1) if whole else where}


def _times(raw: xr.Dataset, found: CubeAxes, window: SourceWindow) -> dict[str, slice | Any]:
    start, end = window.start, window.end
    axis = found.axis_of("t")
    if axis is None:
        raise InvalidPeriod(
            "the source has no time axis: it does not accept start or end",
            next_step="if its name has its time, repeat with --normalise 'set_time: {from_name: \"{YYYY}{MM}{DD}\"}'",
        )
    calendar, stamps = _stamps(raw, axis)
    starts = _starts(raw, axis, calendar)
    kind = periods.infer(stamps, calendar, starts, frequency=_frequency(raw))
    try:
        low, high = _limits(start, end, kind, calendar)
    except InvalidPeriod:
        if kind == "irregular":
            raise
        # A text that is not a period of the inferred type can still be a moment.
        kind = "irregular"
        low, high = _limits(start, end, kind, calendar)
    if low is not None and high is not None and high < low:
        raise InvalidRange("the end is before the start")
    moments = periods.moments(stamps, kind, calendar, starts, window.time_label)
    if kind == "irregular":
        moments = periods.within(stamps, calendar, window.time_label)  # one step alone has no type, and yet a label
    numbers = periods.numbers_of(moments, kind, calendar)
    where = [n for n, number in enumerate(numbers) if (low is None or number >= low) and (high is None or number <= high)]
    if not where:
        has = stamps[0] if len(stamps) == 1 else f"{stamps[0]} to {stamps[-1]}"
        raise NoData(
            f"the source has no step between start and end; it has {has}",
            next_step="ask for periods that it has; if its name says another time, tell its provider",
        )
    return {} if axis.scalar else {axis.dimension: slice(where[0], where[-1] + 1)}


def _stamps(raw: xr.Dataset, axis: FoundAxis) -> tuple[CalendarName, Stamps]:
    variable = raw.variables[axis.name]
    calendar = times.calendar_of(variable.attrs, name=axis.name)
    units = str(variable.attrs.get("units", ""))
    return calendar, times.decode(decoded(variable, name=axis.name), units, calendar, name=axis.name)


def _starts(raw: xr.Dataset, axis: FoundAxis, calendar: CalendarName) -> tuple[Stamps, Stamps] | None:
    given = bounds(raw, axis)
    if given is None or "climatology" in raw.variables[axis.name].attrs:
        return None
    units = str(raw.variables[str(axis.bounds)].attrs.get("units", raw.variables[axis.name].attrs.get("units", "")))
    return (
        times.decode(given[:, 0], units, calendar, name=str(axis.bounds)),
        times.decode(given[:, 1], units, calendar, name=str(axis.bounds)),
    )


def _frequency(raw: xr.Dataset) -> str | None:
    value = raw.attrs.get("frequency")
    return value if isinstance(value, str) else None


def _limits(start: str | None, end: str | None, kind: str, calendar: CalendarName) -> tuple[int | None, int | None]:
    return (
        None if start is None else periods.parse(start, kind, calendar, side="start"),
        None if end is None else periods.parse(end, kind, calendar, side="end"),
    )
