"""The grid of a cube, as tables need it: its axes, and how to transform polygons to them."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.part import Opened
from cubeport.cubes.resolve import cells, turns
from cubeport.cubes.tables.weights import StraightGrid
from cubeport.cubes.windows import native_system
from cubeport.errors import NotAcceptable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_STEP_DEG = 0.1
"""How often an edge of a zone is looked at on its way onto a projected grid, in degrees."""
_AREA = re.compile(r"(?:^|\s)area:\s*(\S+)")
"""``area: areacella`` of CF's cell_measures (7.2)."""


def straight_grid(opened: Opened) -> StraightGrid:
    """Return the grid of the cube.

    Raises
    ------
    NotAcceptable
        When its cells have no straight edges, or the data have no place.
    """
    description = opened.description
    family = description.spatial.family
    x, y = description.axis_of("x"), description.axis_of("y")
    if family not in ("rectilinear", "projected") or x is None or y is None:
        what = {"curvilinear": "cells that follow curved lines", "unstructured": "positions without cells", "none": "no place"}
        raise NotAcceptable(
            f"A table needs cells with straight edges; these data have {what.get(family, 'one position')}.",
            next_step="Ask EDR area for the cells in a polygon, or derive the data on a regular grid first.",
        )
    labels = opened.labels()
    along_x, along_y = cells(description, x, labels), cells(description, y, labels)
    if family == "rectilinear":
        return StraightGrid(along_x, along_y, spherical=True)
    onto, factor = native_system(description)
    degrees = turns(description, x)

    def project(shape: Any) -> Any:
        import shapely

        def moved(points: Array) -> Array:
            east, north = onto.transform(points[:, 0], points[:, 1])
            return np.column_stack([np.asarray(east), np.asarray(north)]) / factor

        return shapely.transform(shapely.segmentize(shape, _STEP_DEG), moved)

    return StraightGrid(along_x, along_y, spherical=degrees, project=project)


def digest_of(description: CubeDescription, grid: StraightGrid) -> str:
    """Return the sha256 of everything that the weights of a zone set depend on: the edges of the cells and the projection."""
    found = hashlib.sha256()
    for each in (grid.x.lower, grid.x.upper, grid.y.lower, grid.y.upper):
        found.update(np.ascontiguousarray(each, "float64").tobytes() + b"\0")
    crs = description.spatial.crs
    found.update(repr((grid.spherical, grid.x.circle, description.spatial.to_crs)).encode())
    found.update(("" if grid.project is None or crs is None else f"{crs.wkt2} {crs.projjson}").encode())
    return found.hexdigest()


def areas_of(opened: Opened, name: str) -> tuple[str, Array] | None:
    """Return the name and the values ``(y, x)`` of the cell areas if the data have them (CF cell_measures), otherwise ``None``."""
    found = _AREA.search(str(opened.attributes(name).get("cell_measures", "")))
    description = opened.description
    x, y = description.axis_of("x"), description.axis_of("y")
    if found is None or found[1] not in opened.names() or x is None or y is None:
        return None
    if opened.dimensions(found[1]) != (y.dimension, x.dimension):
        return None
    values = opened.decode(found[1], opened.raw(found[1], {})).astype("float64")
    return (found[1], values) if bool(np.isfinite(values).all() and (values > 0).all()) else None
