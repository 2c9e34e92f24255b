"""The well-known text of a query: parsed once, limited in size, and written in canonical form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

LINES = (
    "LINESTRING(lon lat, …); with heights, as the levels of the data, LINESTRING Z(lon lat height, …); with times, in seconds "
    "since 1970-01-01T00:00:00Z, LINESTRING M(lon lat time, …); with both, LINESTRING ZM(lon lat height time, …); CRS84"
)
"""How the lines of a query are written."""
MOST_VERTICES = 10_000
MOST_POINTS = 500
_LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999 in Unix time; times before 1970 reach as far back."""


def canonical(text: str, *, types: tuple[str, ...], heights: bool = False, times: bool = False) -> str:
    """Return well-known text in canonical form (OGC 06-103r4, clause 7), CRS84.

    Parameters
    ----------
    types
        The accepted geometry types, by their shapely names: ``Point``, ``MultiPoint``, …
    heights
        Whether vertices may have a height (``Z``).
    times
        Whether vertices may have a time (``M``): seconds since 1970-01-01T00:00:00Z (19-086r6, A.2.12).

    Raises
    ------
    ValueError
        With a message that continues a sentence beginning with the name of the parameter.
    """
    import shapely

    if text.count(",") >= MOST_VERTICES:  # checked before anything is built from them
        raise ValueError(f"may have at most {MOST_VERTICES} vertices")
    try:
        geometry: Any = shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        if "closed" in str(error):
            raise ValueError("must have rings that end where they begin: repeat the first point as the last") from error
        raise ValueError(f"must be {' or '.join(each.upper() for each in types)} as well-known text") from error
    if geometry is not None and shapely.has_m(geometry) and not times:
        raise ValueError("may not have M: write the places without it, and ask for times with datetime")
    if geometry is None or geometry.geom_type not in types or geometry.is_empty or (geometry.has_z and not heights):
        raise ValueError(f"must be a {' or '.join(each.upper() for each in types)} of two dimensions")
    if shapely.get_num_coordinates(geometry) > MOST_VERTICES:
        raise ValueError(f"may have at most {MOST_VERTICES} vertices")
    if geometry.geom_type == "MultiPoint" and len(geometry.geoms) > MOST_POINTS:
        raise ValueError(f"may have at most {MOST_POINTS} points")
    if times and geometry.has_m:
        z, m = shapely.get_coordinates(geometry, include_z=True, include_m=True)[:, 2:].T.tolist()
        if not all(abs(each) <= _LAST_SECOND for each in m):
            raise ValueError("must have as M a time at each place, in seconds since 1970")
        if geometry.has_z and not all(map(math.isfinite, z)):
            raise ValueError("must have a height at each place")
    west, south, east, north = geometry.bounds
    if not all(map(math.isfinite, geometry.bounds)) or max(abs(west), abs(east)) > 540 or max(abs(south), abs(north)) > 90:
        raise ValueError("must be within longitudes of ±540 and latitudes of ±90")
    if not geometry.is_valid:
        if geometry.geom_type.endswith("LineString"):
            raise ValueError("must be a line with two different places")
        raise ValueError("must be a polygon that does not cross itself")
    return str(shapely.to_wkt(geometry, rounding_precision=-1))


def flattened(text: str) -> tuple[str, frozenset[float]] | None:
    """Return ``POINT Z``, ``MULTIPOINT Z`` or ``LINESTRING Z`` without its heights, and the heights; ``None`` for other texts.

    Many programs write no Z: ``POINT(10 20 500)``.
    """
    import shapely

    if text.count(",") >= MOST_VERTICES:
        return None
    try:
        geometry: Any = shapely.from_wkt(text)
    except shapely.errors.ShapelyError:
        return None  # it is refused where it is read
    if geometry is None or not geometry.has_z or shapely.has_m(geometry):
        return None
    heights = frozenset(map(float, shapely.get_coordinates(geometry, include_z=True)[:, 2]))
    return str(shapely.to_wkt(shapely.force_2d(geometry), rounding_precision=-1)), heights


def has_times(text: str) -> bool:
    """Return whether canonical text has times (``M``)."""
    return text.partition("(")[0].rstrip().endswith("M")


def vertices(line: Any) -> list[Array]:
    """Return the vertices of each line, ``(vertices, 4)``: longitude, latitude, height, time; 0 where it has none."""
    import numpy as np
    import shapely

    parts = [each for each in getattr(line, "geoms", [line]) if not each.is_empty]
    return [np.nan_to_num(shapely.get_coordinates(each, include_z=True, include_m=True), nan=0.0) for each in parts]


def dense(part: Array, step: float) -> Array:
    """Return the vertices of a line, ``(vertices, columns)``, with more between them, at most *step* apart in the first two
    columns. The others are interpolated: heights and times too, which GEOS drops.
    """
    import numpy as np

    far = np.hypot(*np.diff(part[:, :2], axis=0).T)
    count = np.maximum(np.ceil(far / step).astype(int), 1)
    before = np.arange(len(part))
    at = np.concatenate([np.repeat(before[:-1], count) + _fractions(count), before[-1:]])
    return np.column_stack([np.interp(at, before, each) for each in part.T])


def _fractions(count: Array) -> Array:
    import numpy as np

    ends = np.cumsum(count)
    return np.asarray((np.arange(ends[-1]) - np.repeat(ends - count, count)) / np.repeat(count, count))


def read(text: str) -> Any:
    """Return canonical text as a shapely geometry."""
    import shapely

    return shapely.from_wkt(text)
