"""The well-known text of a query: parsed once, limited in size, and written in canonical form."""

from __future__ import annotations

import math
from typing import Any

MOST_VERTICES = 10_000
MOST_POINTS = 500


def canonical(text: str, *, types: tuple[str, ...], heights: bool = False) -> str:
    """Return well-known text in canonical form (OGC 06-103r4, clause 7), CRS84.

    Parameters
    ----------
    types
        The accepted geometry types, by their shapely names: ``Point``, ``MultiPoint``, …
    heights
        Whether vertices may have a height (``Z``).

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
        raise ValueError("must be well-known text") from error
    if geometry is not None and shapely.has_m(geometry):
        raise ValueError("may not have M: write the places without it, and ask for times with datetime")
    if geometry is None or geometry.geom_type not in types or geometry.is_empty or (geometry.has_z and not heights):
        raise ValueError(f"must be a {' or '.join(each.upper() for each in types)} of two dimensions")
    if shapely.get_num_coordinates(geometry) > MOST_VERTICES:
        raise ValueError(f"may have at most {MOST_VERTICES} vertices")
    if geometry.geom_type == "MultiPoint" and len(geometry.geoms) > MOST_POINTS:
        raise ValueError(f"may have at most {MOST_POINTS} points")
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


def read(text: str) -> Any:
    """Return canonical text as a shapely geometry."""
    import shapely

    return shapely.from_wkt(text)
