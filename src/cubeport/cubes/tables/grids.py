"""The grid of a cube, as tables need it: straight axes and how to transform polygons to them, or the corners of each cell."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.cylinders import longitudes
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.outlines import corners, repeated
from cubeport.cubes.part import Deadline, Opened
from cubeport.cubes.quads import quads
from cubeport.cubes.resolve import cells, turns
from cubeport.cubes.tables.polygons import PolygonGrid, weigh_polygons
from cubeport.cubes.tables.weights import StraightGrid, Weights, weigh
from cubeport.cubes.windows import native_system
from cubeport.cubes.zones import ZoneSet
from cubeport.errors import NotAcceptable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_STEP_DEG = 0.1
"""How often an edge of a zone is looked at on its way onto a projected grid, in degrees."""
_AREA = re.compile(r"(?:^|\s)area:\s*(\S+)")
"""``area: areacella`` of CF's cell_measures (7.2)."""


_ROWS_AND_COLUMNS = 2

type Grid = StraightGrid | PolygonGrid


def grid_of(opened: Opened) -> Grid:
    """Return the grid of the cube.

    Raises
    ------
    NotAcceptable
        When the data have positions without cells, or no place.
    """
    family = opened.description.spatial.family
    if family in ("rectilinear", "projected"):
        found: Grid | None = _straight(opened)
    elif family in ("curvilinear", "unstructured"):
        found = _polygons(opened)
    else:
        found = None
    if found is None:
        what = {"unstructured": "positions without cells", "none": "no place"}.get(family, "one position")
        raise NotAcceptable(
            f"A table needs cells; these data have {what}.",
            next_step="Give the source the corners of its cells (CF bounds), or ask EDR area for the positions in a polygon.",
        )
    return found


def has_cells(opened: Opened) -> bool:
    """Tell whether :func:`grid_of` finds cells, by what the data are and declare; no coordinate is read."""
    description = opened.description
    match description.spatial.family:
        case "rectilinear" | "projected":
            return description.axis_of("x") is not None and description.axis_of("y") is not None
        case "curvilinear":
            return True
        case "unstructured":
            return _declares_corners(opened)
        case _:
            return False


def _declares_corners(opened: Opened) -> bool:
    """Tell whether the positions have bounds, or are the faces of a mesh (:func:`cubeport.cubes.outlines.corners`)."""
    spatial, names = opened.description.spatial, set(opened.names())
    if not {spatial.x, spatial.y} <= names:
        return False
    about = {name: opened.attributes(name) for name in names}
    if all(about[str(each)].get("bounds") in names for each in (spatial.x, spatial.y)):
        return True
    return any(
        mesh.get("cf_role") == "mesh_topology"
        and str(spatial.x) in str(mesh.get("face_coordinates", "")).split()
        and mesh.get("face_node_connectivity") in names
        for mesh in about.values()
    )


def dimensions_of(description: CubeDescription) -> tuple[str, ...]:
    """Return the dimensions of the grid: y and x, or those of the positions."""
    x, y = description.axis_of("x"), description.axis_of("y")
    return description.cell_dimensions or tuple(axis.dimension for axis in (y, x) if axis is not None)


def _straight(opened: Opened) -> StraightGrid | None:
    description = opened.description
    x, y = description.axis_of("x"), description.axis_of("y")
    if x is None or y is None:
        return None
    labels = opened.labels()
    along_x, along_y = cells(description, x, labels), cells(description, y, labels)
    if description.spatial.family == "rectilinear":
        return StraightGrid(along_x, along_y, spherical=True)
    onto, factor = native_system(description)
    degrees = turns(description, x)
    # In a cylindrical projection a zone goes on over the seam, so its columns are cells of longitude.
    around = None if degrees else longitudes(onto, along_x, factor)

    def project(shape: Any) -> Any:
        import shapely

        def moved(points: Array) -> Array:
            east, north = onto.transform(points[:, 0], points[:, 1])
            along = np.asarray(east) / factor if around is None else points[:, 0]
            return np.column_stack([along, np.asarray(north) / factor])

        return shapely.transform(shapely.segmentize(shape, _STEP_DEG), moved)

    return StraightGrid(around or along_x, along_y, spherical=degrees, project=project)


def _polygons(opened: Opened) -> PolygonGrid | None:
    """Return the cells by their corners: as the data say them, else midway between the centres of a curvilinear grid."""
    spatial = opened.description.spatial
    x, y = str(spatial.x), str(spatial.y)
    lon, lat = (np.asarray(opened.labels().values[name], "float64") for name in (x, y))
    said = corners(opened)
    if said is not None and said[0].shape[:-1] == lon.shape:
        around_lon, around_lat = said[0].reshape(lon.size, -1), said[1].reshape(lon.size, -1)
        if lon.ndim == _ROWS_AND_COLUMNS and (again := repeated(lon, lat)).any():
            around_lon = np.where(again.reshape(-1, 1), np.nan, around_lon)
        return PolygonGrid(around_lon, around_lat, lon.shape)
    if spatial.family != "curvilinear":
        return None
    points, _, sound = quads(lon, lat)
    around = np.stack([points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], axis=2).reshape(lon.size, 4, 3)
    around[~(sound & ~repeated(lon, lat)).reshape(-1)] = np.nan
    return PolygonGrid(
        np.degrees(np.arctan2(around[..., 1], around[..., 0])), np.degrees(np.arcsin(np.clip(around[..., 2], -1, 1))), lon.shape
    )


def digest_of(description: CubeDescription, grid: Grid) -> str:
    """Return the sha256 of everything that the weights of a zone set depend on: the edges of the cells and the projection."""
    if isinstance(grid, PolygonGrid):
        return grid.digest
    found = hashlib.sha256()
    for each in (grid.x.lower, grid.x.upper, grid.y.lower, grid.y.upper):
        found.update(np.ascontiguousarray(each, "float64").tobytes() + b"\0")
    crs = description.spatial.crs
    found.update(repr((grid.spherical, grid.x.circle, description.spatial.to_crs)).encode())
    found.update(("" if grid.project is None or crs is None else f"{crs.wkt2} {crs.projjson}").encode())
    return found.hexdigest()


def weights_of(grid: Grid, zones: ZoneSet, *, areas: Array | None, deadline: Deadline) -> Weights:
    """Return the weights of every zone. Raises as :func:`cubeport.cubes.tables.weights.weigh`."""
    if isinstance(grid, PolygonGrid):
        return weigh_polygons(grid, zones, areas=areas, deadline=deadline)
    return weigh(grid, zones, areas=areas, deadline=deadline)


def looked_at(grid: Grid, zones: ZoneSet) -> float:
    """Return about how many cells are in the boxes of the zones: what weighing them costs."""
    if isinstance(grid, PolygonGrid):
        return float(len(grid.lon) * len(zones.zones)) / 4
    step_x = max(float(np.median(grid.x.upper - grid.x.lower)), 1e-12)
    step_y = max(float(np.median(grid.y.upper - grid.y.lower)), 1e-12)
    size = len(grid.x.lower) * len(grid.y.lower)
    total = 0.0
    for zone in zones.zones:
        west, south, east, north = zone.geometry.bounds
        mine = ((east - west) / step_x + 2) * ((north - south) / step_y + 2) if grid.project is None else size / 4
        total += min(float(size), mine)
    return total


def areas_of(opened: Opened, name: str) -> tuple[str, Array] | None:
    """Return the name and the values of the cell areas of the grid if the data have them (CF cell_measures), otherwise ``None``."""
    found = _AREA.search(str(opened.attributes(name).get("cell_measures", "")))
    description = opened.description
    if found is None or found[1] not in opened.names() or opened.dimensions(found[1]) != dimensions_of(description):
        return None
    values = opened.decode(found[1], opened.raw(found[1], {})).astype("float64")
    return (found[1], values) if bool(np.isfinite(values).all() and (values > 0).all()) else None
