"""The part of a source that an ingestion takes, as one index range per dimension of the undecoded dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubeport.cubes import crs as reference
from cubeport.cubes import periods, times
from cubeport.cubes.axes import CubeAxes, FoundAxis, find, text_dims
from cubeport.cubes.calendars import CalendarName, Stamp
from cubeport.cubes.cells import Cells, bounds, cells, exact, labels
from cubeport.cubes.decoding import decoded
from cubeport.cubes.orders import Window
from cubeport.errors import AreaOutsideSource, InvalidPeriod, InvalidRange, InvalidRequest, NoData

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    type Mask = np.ndarray[Any, np.dtype[np.bool_]]

_POINTS = 91
"""Points along each side of a box that is carried into a native grid, at least one every four degrees of the globe."""


def window_indexers(raw: xr.Dataset, window: Window) -> dict[str, slice | Any]:
    """Return what ``raw.isel`` takes: a slice per dimension, or an array of indices for scattered points.

    Raises
    ------
    AreaOutsideSource
        When no cell meets the box; or when the box lies over the seam of the source's longitudes, where one range cannot hold it.
    NoData
        When no step lies between start and end.
    InvalidPeriod, InvalidRange
        When start or end is none of the source's calendar, or the end lies before the start.
    InvalidRequest
        When the source has no place to cut at.
    """
    if window.bbox is None and window.start is None and window.end is None:
        return {}
    found = find(raw)
    indexers: dict[str, slice | Any] = {}
    if window.bbox is not None:
        indexers |= _area(raw, found, window.bbox, centre=window.clip == "centre")
    if window.start is not None or window.end is not None:
        indexers |= _times(raw, found, window.start, window.end)
    return indexers


def _area(raw: xr.Dataset, found: CubeAxes, bbox: tuple[float, float, float, float], *, centre: bool) -> dict[str, slice | Any]:
    match found.family:
        case "rectilinear":
            return _rectilinear(raw, found, bbox, centre=centre)
        case "projected":
            return _projected(raw, found, bbox, centre=centre)
        case "curvilinear" | "unstructured":
            return _positions(raw, found, bbox)
        case _:
            raise InvalidRequest("the source has no horizontal position, so no area can be cut out of it")


def _outside() -> AreaOutsideSource:
    return AreaOutsideSource("no cell of the source lies in the area", next_step="choose an area that the source covers")


def _axes(raw: xr.Dataset, found: CubeAxes) -> tuple[tuple[FoundAxis, Any, Cells], tuple[FoundAxis, Any, Cells]]:
    def one(name: str | None) -> tuple[FoundAxis, Any, Cells]:
        axis = next(each for each in found.axes if each.name == name)
        values = labels(raw, axis.name)
        return axis, values, cells(values, bounds(raw, axis), spread=not axis.scalar)

    return one(found.x), one(found.y)


def _meets(values: Any, edges: Cells, low: float, high: float, *, centre: bool) -> Mask:
    """Say which cells meet a closed interval: with their inside, or with their label; a point counts on the edge."""
    inside: Mask = (values >= low) & (values <= high)
    if centre:
        return inside
    touched: Mask = (edges.upper > low) & (edges.lower < high)
    if low == high:  # a box without width takes the cells on both sides of the edge that it lies on
        touched |= (edges.lower <= low) & (edges.upper >= low)
    point: Mask = edges.lower == edges.upper
    return (point & inside) | (~point & touched)


def _slice(mask: Mask) -> slice:
    import numpy as np

    where = np.flatnonzero(mask)
    if not len(where):
        raise _outside()
    return slice(int(where[0]), int(where[-1]) + 1)


def _along(axis: FoundAxis, mask: Mask) -> dict[str, slice]:
    """Return the range of an axis; a scalar coordinate is in or out."""
    taken = _slice(mask)
    return {} if axis.scalar else {axis.dimension: taken}


def _rectilinear(raw: xr.Dataset, found: CubeAxes, bbox: tuple[float, float, float, float], *, centre: bool) -> dict[str, slice]:
    import numpy as np

    (x, lon, x_cells), (y, lat, y_cells) = _axes(raw, found)
    west, south, east, north = bbox
    east += 360.0 if east < west else 0.0
    if east - west >= 360.0:
        mask = np.ones(len(lon), dtype=bool)
    else:
        # Longitudes are taken modulo 360 into the frame of the source, whatever that is.
        turns = [
            _meets(lon, x_cells, west + 360.0 * turn, east + 360.0 * turn, centre=centre)
            for turn in range(round((lon.min() - east) // 360.0), round((lon.max() - west) // 360.0) + 2)
        ]
        mask = np.logical_or.reduce(turns)
    where = np.flatnonzero(mask)
    if len(where) and len(where) != where[-1] - where[0] + 1:
        raise AreaOutsideSource(
            f"the area lies over the seam of {x.name!r}, whose longitudes run from {lon[0]:g} to {lon[-1]:g}: "
            "one range of columns cannot hold it, and data are published in their own order",
            next_step="take an area on one side of the seam, or all longitudes",
        )
    return _along(x, mask) | _along(y, _meets(lat, y_cells, south, north, centre=centre))


def _projected(raw: xr.Dataset, found: CubeAxes, bbox: tuple[float, float, float, float], *, centre: bool) -> dict[str, slice]:
    import numpy as np
    import pyproj

    (x, across, x_cells), (y, up, y_cells) = _axes(raw, found)
    crs = reference.from_attributes(found.mapping)
    largest = max(float(np.abs(across).max()), float(np.abs(up).max()))
    factor = reference.unit_factor(crs, raw.variables[x.name].attrs.get("units"), largest=largest, attributes=found.mapping)
    west, south, east, north = bbox
    east += 360.0 if east < west else 0.0
    lon, lat = np.meshgrid(np.linspace(west, east, _POINTS), np.linspace(south, north, _POINTS))
    to_native = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    native_x, native_y = (np.asarray(part, dtype="float64") / factor for part in to_native.transform(lon.ravel(), lat.ravel()))
    seen = np.isfinite(native_x) & np.isfinite(native_y)
    if not seen.any():
        raise _outside()
    native_x, native_y = native_x[seen], native_y[seen]
    if crs is not None and crs.is_geographic:  # rotated longitudes repeat
        middle = (across.min() + across.max()) / 2
        native_x = middle + (native_x - middle + 180.0) % 360.0 - 180.0
    return _along(x, _meets(across, x_cells, float(native_x.min()), float(native_x.max()), centre=centre)) | _along(
        y, _meets(up, y_cells, float(native_y.min()), float(native_y.max()), centre=centre)
    )


def _positions(raw: xr.Dataset, found: CubeAxes, bbox: tuple[float, float, float, float]) -> dict[str, slice | Any]:
    """Return the window around all cells whose centre lies in the box; of points, just those."""
    import numpy as np

    variable = raw.variables[str(found.x)]
    lon, lat = (exact(decoded(raw.variables[str(name)], name=str(name))) for name in (found.x, found.y))
    west, south, east, north = bbox
    width = (east - west) % 360.0 if east != west + 360.0 else 360.0
    with np.errstate(invalid="ignore"):
        mask = ((lon - west) % 360.0 <= width) & (lat >= south) & (lat <= north)
    if not mask.any():
        raise _outside()
    dims = text_dims(variable)
    if len(dims) == 2:
        return {dims[0]: _slice(mask.any(axis=1)), dims[1]: _slice(mask.any(axis=0))}
    if any(each.attrs.get("cf_role") == "mesh_topology" for each in raw.variables.values()):
        raise InvalidRequest(
            "a mesh cannot be cut: its connectivity would point at cells that are gone", next_step="take all of it"
        )
    where = np.flatnonzero(mask)
    whole = len(where) == where[-1] - where[0] + 1
    return {dims[0]: slice(int(where[0]), int(where[-1]) + 1) if whole else where}


def _times(raw: xr.Dataset, found: CubeAxes, start: str | None, end: str | None) -> dict[str, slice | Any]:
    axis = found.axis_of("t")
    if axis is None:
        raise InvalidPeriod("the source has no time axis: it takes no start and no end")
    variable = raw.variables[axis.name]
    calendar = times.calendar_of(variable.attrs, name=axis.name)
    stamps = times.decode(decoded(variable, name=axis.name), str(variable.attrs.get("units", "")), calendar, name=axis.name)
    starts = _starts(raw, axis, calendar)
    kind = periods.infer(stamps, calendar, starts, frequency=_frequency(raw))
    try:
        low, high = _limits(start, end, kind, calendar)
    except InvalidPeriod:
        if kind == "irregular":
            raise
        # A moment that is no period of the inferred type is still a moment.
        kind = "irregular"
        low, high = _limits(start, end, kind, calendar)
    if low is not None and high is not None and high < low:
        raise InvalidRange("the end lies before the start")
    numbers = [periods.of(moment, kind, calendar) for moment in periods.moments(stamps, kind, calendar, starts)]
    where = [n for n, number in enumerate(numbers) if (low is None or number >= low) and (high is None or number <= high)]
    if not where:
        raise NoData(f"no step of the source lies between start and end; it has {stamps[0]} to {stamps[-1]}")
    return {} if axis.scalar else {axis.dimension: slice(where[0], where[-1] + 1)}


def _starts(raw: xr.Dataset, axis: FoundAxis, calendar: CalendarName) -> tuple[list[Stamp], list[Stamp]] | None:
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
