"""Well-known text of a query: read once, bounded, and written in canonical form."""

from __future__ import annotations

import math
from typing import Any

MOST_VERTICES = 10_000
MOST_POINTS = 500


def canonical(text: str, *, types: tuple[str, ...]) -> str:
    """Return well-known text in canonical form (OGC 06-103r4, clause 7), CRS84.

    Parameters
    ----------
    types
        The geometry types that are accepted, as shapely names them: ``Point``, ``MultiPoint``, …

    Raises
    ------
    ValueError
        With the end of a sentence that begins with the parameter's name.
    """
    import shapely

    if text.count(",") >= MOST_VERTICES:  # counted before anything is made of them
        raise ValueError(f"may have {MOST_VERTICES} vertices")
    try:
        geometry: Any = shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        raise ValueError("must be well-known text") from error
    if geometry is None or geometry.geom_type not in types or geometry.is_empty or geometry.has_z:
        raise ValueError(f"must be a {' or '.join(each.upper() for each in types)} of two dimensions")
    if shapely.get_num_coordinates(geometry) > MOST_VERTICES:
        raise ValueError(f"may have {MOST_VERTICES} vertices")
    if geometry.geom_type == "MultiPoint" and len(geometry.geoms) > MOST_POINTS:
        raise ValueError(f"may have {MOST_POINTS} points")
    west, south, east, north = geometry.bounds
    if not all(map(math.isfinite, geometry.bounds)) or max(abs(west), abs(east)) > 540 or max(abs(south), abs(north)) > 90:
        raise ValueError("must be within longitudes of ±540 and latitudes of ±90")
    if not geometry.is_valid:
        raise ValueError("must be a polygon that does not cross itself")
    return str(shapely.to_wkt(geometry, rounding_precision=-1))


def read(text: str) -> Any:
    """Return canonical text as a shapely geometry."""
    import shapely

    return shapely.from_wkt(text)
