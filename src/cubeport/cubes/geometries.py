"""Geometries of GeoJSON in other reference systems, with the axes in the order of the system."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def carried(geometry: Mapping[str, Any] | None, crs: str) -> dict[str, Any] | None:
    """Return a geometry in longitude and latitude (CRS84) in *crs*, ``AUTHORITY:code``."""
    from pyproj import Transformer

    onto = Transformer.from_crs("OGC:CRS84", crs)

    def moved(part: Any) -> Any:
        if isinstance(part[0], int | float):
            return [*onto.transform(part[0], part[1]), *part[2:]]
        return [moved(each) for each in part]

    return None if geometry is None else {**geometry, "coordinates": moved(geometry["coordinates"])}


def to_degrees(box: tuple[float, float, float, float], crs: str) -> tuple[float, float, float, float]:
    """Return the box in longitude and latitude (CRS84) around a box in *crs*.

    Raises
    ------
    ValueError
        If it is not in the domain of *crs*.
    """
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        west, south, east, north = Transformer.from_crs(crs, "OGC:CRS84").transform_bounds(*box, densify_pts=21)
    except ProjError:
        west, south, east, north = (math.inf,) * 4
    if box[0] > box[2] or not all(map(math.isfinite, (west, south, east, north))):
        raise ValueError(f"must be in the domain of {crs}")
    return float(west), float(south), float(east), float(north)
