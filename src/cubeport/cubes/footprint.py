"""The place of a cube on the Earth: one CRS84 box around the outer cell edges, with west > east if it crosses the antimeridian."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cubeport.cubes import boxes
from cubeport.cubes.cells import CLOSE, degrees
from cubeport.cubes.decoding import decoded
from cubeport.cubes.description import BoundingBox

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    type Numbers = np.ndarray[Any, np.dtype[np.float64]]

_SIDE = 21
"""The number of points on each side of a native box that is transformed to CRS84."""

_DIGITS = 9
"""Computed (not stored) boxes are rounded to this many decimals of a degree, a tenth of a millimetre."""


def wrap(longitude: float) -> float:
    """Return the longitude in [−180, 180)."""
    return (longitude + 180.0) % 360.0 - 180.0


def box(west: float, south: float, east: float, north: float, *, digits: int = _DIGITS) -> BoundingBox:
    """Return the CRS84 box of outer cell edges: latitudes within ±90, a full circle as −180..180, otherwise west in [−180, 180)."""
    low, high = max(-90.0, south), min(90.0, north)
    width = east - west
    if width >= 360.0 - 1e-9:
        return -180.0, _round(low, digits), 180.0, _round(high, digits)
    start = _round(wrap(west), digits)
    start = -180.0 if start >= 180.0 else start
    end = _round(start + width, digits)
    return start, _round(low, digits), end - 360.0 if end > 180.0 else end, _round(high, digits)


def _round(number: float, digits: int) -> float:
    return round(number, digits) + 0.0  # −0.0 looks like a mistake


def crosses(bbox: BoundingBox) -> bool:
    """Return whether the box crosses the antimeridian."""
    return bbox[0] > bbox[2]


def projected(
    crs: Any, native: BoundingBox, *, factor: float, geostationary: Mapping[str, Any] | None = None
) -> BoundingBox | None:
    """Return the CRS84 box of a native box, or ``None`` if no part of it is on the Earth.

    The edges are densified, and both poles are tested in the native system.

    Parameters
    ----------
    crs
        The native pyproj CRS.
    native
        Cell edges as stored: xmin, ymin, xmax, ymax.
    factor
        Converts stored numbers to the units of the CRS by multiplication.
    geostationary
        The attributes of the grid mapping if the grid is a satellite view. Rays that miss the disc are then ignored.
    """
    import numpy as np
    import pyproj

    x0, y0, x1, y1 = (edge * factor for edge in native)
    to_world = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    to_native = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    if geostationary is not None:
        lon, lat = _seen(to_world, to_native, (x0, y0, x1, y1), geostationary)
        if not len(lon):
            return None
        middle = _number(geostationary.get("longitude_of_projection_origin", 0.0))
        around = (lon - middle + 180.0) % 360.0 - 180.0
        return box(middle + around.min(), lat.min(), middle + around.max(), lat.max())
    poles = {pole: to_native.transform(0.0, pole) for pole in (90.0, -90.0)}
    across, up = np.linspace(x0, x1, _SIDE), np.linspace(y0, y1, _SIDE)
    for px, py in poles.values():
        # A side that passes near a pole turns there, so the point nearest to the pole must be part of the ring.
        across = np.union1d(across, [px]) if x0 < px < x1 else across
        up = np.union1d(up, [py]) if y0 < py < y1 else up
    ring_x = np.concatenate((across, np.full(len(up), x1), across[::-1], np.full(len(up), x0)))
    ring_y = np.concatenate((np.full(len(across), y0), up, np.full(len(across), y1), up[::-1]))
    lon, lat = (np.asarray(part, dtype="float64") for part in to_world.transform(ring_x, ring_y))
    finite = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[finite], lat[finite]
    if not len(lon):
        return None
    inside = [pole for pole, point in poles.items() if _holds((x0, y0, x1, y1), point, crs)]
    south, north = min(lat.min(), *inside, 90.0), max(lat.max(), *inside, -90.0)
    if inside:
        return -180.0, _round(max(-90.0, float(south)), _DIGITS), 180.0, _round(min(90.0, float(north)), _DIGITS)
    turns = (np.diff(lon, append=lon[0]) + 180.0) % 360.0 - 180.0
    along = lon[0] + np.concatenate(([0.0], np.cumsum(turns[:-1])))
    return box(float(along.min()), float(south), float(along.max()), float(north))


def _holds(native: BoundingBox, point: tuple[float, float], crs: Any) -> bool:
    x, y = point
    if not (math.isfinite(x) and math.isfinite(y)):
        return False
    x0, y0, x1, y1 = native
    if crs.is_geographic:  # rotated longitudes repeat
        x = x0 + (x - x0) % 360.0
        if abs(y) > 90.0 - 1e-9:
            x = x0
    return x0 <= x <= x1 and y0 <= y <= y1


def _number(value: Any) -> float:
    return float(value.ravel()[0]) if hasattr(value, "ravel") else float(value)


def _seen(to_world: Any, to_native: Any, native: BoundingBox, view: Mapping[str, Any]) -> tuple[Numbers, Numbers]:
    """Return longitudes and latitudes that a satellite sees inside a native box: a lattice of points, and the limb of the disc."""
    import numpy as np

    x0, y0, x1, y1 = native
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(x0, x1, 5 * _SIDE), np.linspace(y0, y1, 5 * _SIDE)))
    lon, lat = (np.asarray(part, dtype="float64") for part in to_world.transform(x, y))
    height = _number(view.get("perspective_point_height", 35_786_023.0))
    reach = math.acos(6_356_752.0 / (6_356_752.0 + height)) * 0.999
    turn = np.linspace(0.0, 2 * math.pi, 721)
    limb_lat = np.degrees(np.arcsin(math.sin(reach) * np.cos(turn)))
    limb_lon = np.degrees(np.arctan2(np.sin(turn) * math.sin(reach), math.cos(reach)))
    limb_lon = limb_lon + _number(view.get("longitude_of_projection_origin", 0.0))
    limb_x, limb_y = (np.asarray(part, dtype="float64") for part in to_native.transform(limb_lon, limb_lat))
    on = np.isfinite(limb_x) & np.isfinite(limb_y) & (limb_x >= x0) & (limb_x <= x1) & (limb_y >= y0) & (limb_y <= y1)
    lon, lat = np.concatenate((lon, limb_lon[on])), np.concatenate((lat, limb_lat[on]))
    finite = np.isfinite(lon) & np.isfinite(lat)
    return lon[finite], lat[finite]


def positions(lon: Numbers, lat: Numbers, corners: tuple[Numbers, Numbers] | None, *, spread: bool = True) -> BoundingBox | None:
    """Return the box of cells from their positions, 2-D or 1-D. Missing positions are skipped; ``None`` means that all are missing.

    On the circle, the box is the complement of the largest gap that no cell covers.

    Parameters
    ----------
    lon, lat
        Centres in degrees.
    corners
        Longitudes and latitudes of the vertices, with one axis more than the centres; ``None`` uses half the spacing around the
        centres.
    spread
        Whether centres without corners are cells or points.
    """
    import numpy as np

    if corners is None and spread and lon.ndim == 1 and (found := _of_mesh(lon, lat)) is not None:
        return found
    if corners is not None:
        west, east, low, high = _from_corners(lon, *corners)
    else:
        half_lon, half_lat = (
            (_half_spacing(lon, circle=True), _half_spacing(lat, circle=False)) if lon.ndim == 2 and spread else (0.0, 0.0)
        )
        west, east, low, high = (
            part.ravel() for part in np.broadcast_arrays(lon - half_lon, lon + half_lon, lat - half_lat, lat + half_lat)
        )
    finite = np.isfinite(west) & np.isfinite(east) & np.isfinite(low) & np.isfinite(high)
    if not finite.any():
        return None
    west, east, low, high = west[finite], east[finite], low[finite], high[finite]
    start, width = covered(west, east)
    return box(start, float(low.min()), start + width, float(high.max()))


def _of_mesh(lon: Numbers, lat: Numbers) -> BoundingBox | None:
    """Return the box of a mesh that has only centres: half the spacing around the outer ones, and the poles that are in a cell;
    ``None`` if it has no two places.
    """
    import numpy as np

    known = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
    x, y = lon[known], lat[known]
    if known.size < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return None

    def half(at: int) -> float:
        return math.degrees(boxes.spacing(x, y, (at,))) / 2

    lowest, highest = int(y.argmin()), int(y.argmax())
    poles = [pole for pole in (-90.0, 90.0) if _has(x, y, pole)]
    south, north = min(float(y.min()) - half(lowest), *poles, 90.0), max(float(y.max()) + half(highest), *poles, -90.0)
    start, width = covered(x, x)
    if poles or width >= 360.0:
        return box(-180.0, south, 180.0, north)
    first, last = (int(np.abs((x - end + 180.0) % 360.0 - 180.0).argmin()) for end in (start, start + width))
    wide = [half(at) / max(math.cos(math.radians(float(y[at]))), 1e-3) for at in (first, last)]
    return box(start - wide[0], south, start + width + wide[1], north)


def _has(lon: Numbers, lat: Numbers, pole: float) -> bool:
    try:
        boxes.nearest(lon, lat, (0.0, pole))
    except boxes.Outside:
        return False
    return True


def _from_corners(lon: Numbers, corner_lon: Numbers, corner_lat: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    import warnings

    import numpy as np

    centre = lon[..., None]
    # Cells on the antimeridian have corners on both sides, so corners are measured from the centre.
    around = (corner_lon - centre + 180.0) % 360.0 - 180.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # cells whose corners are all missing
        return (
            (lon + np.nanmin(around, axis=-1)).ravel(),
            (lon + np.nanmax(around, axis=-1)).ravel(),
            np.nanmin(corner_lat, axis=-1).ravel(),
            np.nanmax(corner_lat, axis=-1).ravel(),
        )


def _half_spacing(values: Numbers, *, circle: bool) -> Numbers:
    """Return, for each cell, half of the larger distance to a neighbour along either dimension."""
    import numpy as np

    half = np.zeros(values.shape)
    for axis in (0, 1):
        if values.shape[axis] < 2:
            continue
        distance = np.diff(values, axis=axis)
        distance = np.abs((distance + 180.0) % 360.0 - 180.0) if circle else np.abs(distance)
        distance = np.where(np.isfinite(distance), distance, 0.0)
        padded = np.concatenate((distance.take([0], axis), distance, distance.take([-1], axis)), axis=axis)
        near = np.minimum(padded.take(range(values.shape[axis]), axis), padded.take(range(1, values.shape[axis] + 1), axis))
        half = np.maximum(half, near / 2)
    return half


def covered(west: Numbers, east: Numbers) -> tuple[float, float]:
    """Return the start and width of the shortest arc that contains all arcs from *west* to *east* (east ≥ west, in any turn)."""
    import numpy as np

    width = east - west
    if (width >= 360.0).any():
        return -180.0, 360.0
    start = (west + 180.0) % 360.0 - 180.0
    order = np.argsort(start, kind="stable")
    start, end = start[order], (start + width)[order]
    reached = np.maximum.accumulate(end)
    # An arc beyond 180 overlaps the first arcs again.
    over = float(reached[-1]) - 360.0
    gaps = np.append(start[1:] - np.maximum(reached[:-1], over), start[0] - over)
    largest = int(np.argmax(gaps))
    if gaps[largest] <= 1e-9 + CLOSE * float(np.median(width)):
        return -180.0, 360.0
    if largest == len(gaps) - 1:
        return float(start[0]), float(reached[-1] - start[0])
    # Start after the gap and end before it, one turn later. Arcs that wrap past it are already inside.
    head = float(start[largest + 1])
    tail = max(float(reached[largest]), over)
    return head, tail + 360.0 - head


def corners_of(raw: xr.Dataset, x: str, y: str) -> tuple[Numbers, Numbers] | None:
    """Return the vertices of cells from CF bounds of both positions or the faces of a UGRID mesh; ``None`` if there are none."""
    import numpy as np

    lon, lat = raw.variables[x], raw.variables[y]
    names = lon.attrs.get("bounds"), lat.attrs.get("bounds")
    if all(isinstance(name, str) and name in raw.variables and raw.variables[name].ndim == lon.ndim + 1 for name in names):
        values = tuple(_in_degrees(raw, str(name), of=of) for name, of in zip(names, (x, y), strict=True))
        if all(part.shape[:-1] == lon.shape for part in values) and all(
            (np.abs(part[np.isfinite(part)]) <= 720).all() for part in values
        ):
            return values[0], values[1]
    for mesh in raw.variables.values():
        if mesh.attrs.get("cf_role") != "mesh_topology" or x not in str(mesh.attrs.get("face_coordinates", "")).split():
            continue
        nodes = str(mesh.attrs.get("node_coordinates", "")).split()
        faces = raw.variables.get(str(mesh.attrs.get("face_node_connectivity", "")))
        if faces is None or len(nodes) != 2 or any(node not in raw.variables for node in nodes):
            continue
        index = np.asarray(decoded(faces, name="face_node_connectivity"), dtype="float64") - float(
            faces.attrs.get("start_index", 0)
        )
        node_lon, node_lat = (_in_degrees(raw, node, of=of) for node, of in zip(nodes, (x, y), strict=True))
        there = np.isfinite(index) & (index >= 0) & (index < len(node_lon))
        if index.shape[:1] != lon.shape:
            continue
        place = np.where(there, index, 0).astype("int64")
        return np.where(there, node_lon[place], np.nan), np.where(there, node_lat[place], np.nan)
    return None


def _in_degrees(raw: xr.Dataset, name: str, *, of: str) -> Numbers:
    """Return vertices in degrees. Vertices without units have the units of the positions (CF 7.1)."""
    import numpy as np

    factor = degrees(raw, name if raw.variables[name].attrs.get("units") else of)
    return np.asarray(np.asarray(decoded(raw.variables[name], name=name), dtype="float64") * factor)
