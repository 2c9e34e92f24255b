"""Geometries of GeoJSON in other reference systems, with the axes in the order of the system."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cubeport.cubes.windows import native_crs

if TYPE_CHECKING:
    from cubeport.cubes.description import CubeDescription


def onto_system(description: CubeDescription, crs: str) -> tuple[Any, float]:
    """Return the pyproj transformer from CRS84 to *crs*, and the factor from its numbers to the units of the transformer.

    Parameters
    ----------
    crs
        ``AUTHORITY:code``, whose axes are in the order of the system, or ``native`` for the system of the store if it has no code.
        Its x is before y, in the units of the store.
    """
    from pyproj import Transformer

    if crs == "native":
        return Transformer.from_crs("OGC:CRS84", native_crs(description), always_xy=True), description.spatial.axis_factor
    return Transformer.from_crs("OGC:CRS84", crs), 1.0


def carried(geometry: Mapping[str, Any] | None, onto: Any, factor: float) -> dict[str, Any] | None:
    """Return a geometry in longitude and latitude (CRS84) in the system of :func:`onto_system`."""

    def moved(part: Any) -> Any:
        if isinstance(part[0], int | float):
            return [*(each / factor for each in onto.transform(part[0], part[1])), *part[2:]]
        return [moved(each) for each in part]

    return None if geometry is None else {**geometry, "coordinates": moved(geometry["coordinates"])}


def to_degrees(box: tuple[float, float, float, float], onto: Any, factor: float) -> tuple[float, float, float, float]:
    """Return the box in longitude and latitude (CRS84) around a box in the system of :func:`onto_system`.

    Raises
    ------
    ValueError
        If it is not in the domain of the system.
    """
    from pyproj.exceptions import ProjError

    try:
        scaled = (each * factor for each in box)
        west, south, east, north = onto.transform_bounds(*scaled, densify_pts=21, direction="INVERSE")
    except ProjError:
        west, south, east, north = (math.inf,) * 4
    if box[0] > box[2] or not all(map(math.isfinite, (west, south, east, north))):
        raise ValueError("must be in the domain of its reference system")
    return float(west), float(south), float(east), float(north)
