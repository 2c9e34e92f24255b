"""The part of each cell that is in each zone, for cells that are polygons of their own: curvilinear and unstructured grids.

The edges of cells and of zones are straight lines between longitudes and latitudes, so neighbours share theirs, and the zones of a
partition share out every cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.part import Deadline
from cubeport.cubes.tables.weights import LEAST, LEAST_OF_ZONE, Weights, on_sphere
from cubeport.cubes.zones import ZoneSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

_BLOCK = 250_000
"""Cells whose polygons are in memory at once."""
_PAIRS = 20_000
"""Pairs of a cell and a zone that are intersected at once."""
_POLE_DEG = 90 - 1e-6
_TURNS = (-720.0, -360.0, 0.0, 360.0, 720.0)
"""Longitudes of zones and of cells are in any turn within ±540."""


@dataclass(frozen=True, slots=True)
class PolygonGrid:
    """A grid whose cells have corners of their own."""

    lon: Numbers
    lat: Numbers
    """``(cells, corners)`` in degrees, in order around the cell, cells in the order of the flattened grid. Cells with fewer corners
    have NaN."""
    shape: tuple[int, ...]
    """The sizes of the dimensions of the grid."""

    @property
    def digest(self) -> str:
        """The sha256 of everything that the weights of a zone set depend on."""
        found = hashlib.sha256(repr(self.shape).encode())
        for each in (self.lon, self.lat):
            found.update(np.ascontiguousarray(each).tobytes() + b"\0")
        return found.hexdigest()


def weigh_polygons(grid: PolygonGrid, zones: ZoneSet, *, areas: Array | None, deadline: Deadline) -> Weights:
    """Return the weights of every zone.

    Parameters
    ----------
    areas
        The area of each cell, of the shape of the grid, where the data say it (CF ``cell_measures``); else that on the sphere.
    """
    import shapely

    shapes = np.array([zone.geometry for zone in zones.zones])
    shapely.prepare(shapes)
    found: list[tuple[Array, Array, Numbers, Numbers, Numbers]] = []
    for cells, polygons in _polygons(grid):
        deadline()
        plane = shapely.area(polygons)
        ground = on_sphere(polygons) if areas is None else np.asarray(areas.reshape(-1)[cells], "float64")
        tree = shapely.STRtree(polygons)
        for zone, cell, part in _pairs(shapes, polygons, tree, deadline):
            fraction = part / plane[cell]
            some = fraction > np.minimum(LEAST, LEAST_OF_ZONE * shapely.area(shapes[zone]) / plane[cell])
            zone, cell = zone[some], cell[some]
            found.append((zone, cells[cell], np.minimum(fraction[some], 1.0), ground[cell], part[some]))
    count = len(shapes)
    if not found:
        nothing = np.zeros(0)
        indices = tuple(np.zeros(0, "int32") for _ in grid.shape)
        return Weights(np.zeros(count + 1, "int64"), indices, nothing, nothing, on_sphere(shapes))
    zone, cell, fraction, ground, part = (np.concatenate([each[i] for each in found]) for i in range(5))
    inside = np.bincount(zone, part, count)
    # A cell over the antimeridian can have a part in each of two turns of a zone.
    keys, first, again = np.unique(zone.astype("int64") * np.prod(grid.shape) + cell, return_index=True, return_inverse=True)
    fraction = np.minimum(np.bincount(again, fraction, len(keys)), 1.0)
    zone, cell, ground = zone[first], cell[first], ground[first]
    covered = np.bincount(zone, fraction * ground, count)
    whole = inside >= shapely.area(shapes) * (1 - 1e-7)
    return Weights(
        np.searchsorted(zone, np.arange(count + 1)),
        tuple(each.astype("int32") for each in np.unravel_index(cell, grid.shape)),
        fraction,
        ground,
        np.where(whole, covered, np.maximum(covered, on_sphere(shapes))),
    )


def _pairs(shapes: Array, polygons: Array, tree: Any, deadline: Deadline) -> Iterator[tuple[Array, Array, Numbers]]:
    """Yield zones and cells that meet, as indices, and the area that they share, in the plane of degrees."""
    import shapely

    west, south, east, north = shapely.total_bounds(polygons)
    for turn in _TURNS:
        bounds = shapely.bounds(shapes) + np.array([turn, 0.0, turn, 0.0])
        near = np.flatnonzero((bounds[:, 0] < east) & (bounds[:, 2] > west) & (bounds[:, 1] < north) & (bounds[:, 3] > south))
        if not near.size:
            continue
        moved = shapes if turn == 0 else shapely.transform(shapes, partial(np.add, np.array([turn, 0.0])))
        shapely.prepare(moved)
        zone, cell = tree.query(moved[near], predicate="intersects")
        zone = near[zone]
        for start in range(0, len(zone), _PAIRS):
            deadline()
            a, b = zone[start : start + _PAIRS], cell[start : start + _PAIRS]
            part = shapely.area(polygons[b])
            border = ~shapely.contains_properly(moved[a], polygons[b])
            part[border] = shapely.area(shapely.intersection(moved[a[border]], polygons[b[border]]))
            yield a, b, part


def _polygons(grid: PolygonGrid) -> Iterator[tuple[Array, Array]]:
    """Yield cells, as flat indices, and their polygons, without cells of no area."""
    import shapely

    for start in range(0, len(grid.lon), _BLOCK):
        lon, lat = grid.lon[start : start + _BLOCK], grid.lat[start : start + _BLOCK]
        known = np.isfinite(lon) & np.isfinite(lat)
        cells = np.flatnonzero(known[:, 0] & (known.sum(axis=1) >= 3))
        if not cells.size:
            continue
        # A corner that is missing is the one before it.
        last = np.maximum.accumulate(np.where(known[cells], np.arange(lon.shape[1]), 0), axis=1)
        lon, lat = (np.take_along_axis(each[cells], last, axis=1) for each in (lon, lat))
        lon, pole = _off_poles(lon, lat)
        step = np.diff(lon, axis=1, append=lon[:, :1])
        step = (step + 180.0) % 360.0 - 180.0
        lon = lon[:, :1] + np.concatenate([np.zeros((len(lon), 1)), np.cumsum(step[:, :-1], axis=1)], axis=1)
        polygons: Array = np.asarray(shapely.polygons(np.stack([lon, lat], axis=-1)))
        polar = (np.abs(step.sum(axis=1)) > 180.0) | pole.any(axis=1)
        for each in np.flatnonzero(polar).tolist():
            polygons[each] = _polar(lon[each], lat[each], pole[each], float(step[each].sum()))
        bad = ~shapely.is_valid(polygons)
        polygons[bad] = shapely.make_valid(polygons[bad], method="structure", keep_collapsed=False)
        there = shapely.area(polygons) > 0
        yield start + cells[there], polygons[there]


def _off_poles(lon: Numbers, lat: Numbers) -> tuple[Numbers, Array]:
    """Return longitudes in which a corner on a pole has that of the corner before it, and which corners are on a pole."""
    pole = np.abs(lat) >= _POLE_DEG
    number = np.arange(lat.shape[1])
    before = np.maximum.accumulate(np.where(pole, -1, number), axis=1)
    last = np.where(pole, -1, number).max(axis=1, keepdims=True)
    return np.take_along_axis(lon, np.maximum(np.where(before < 0, last, before), 0), axis=1), pole


def _polar(lon: Numbers, lat: Numbers, pole: Array, around: float) -> Any:
    """Return the polygon of a cell around a pole, or with a corner on it, where all longitudes are one place."""
    import shapely

    if pole.all():
        return shapely.Polygon()
    points: list[tuple[float, float]] = []
    count = len(lon)
    for at, (x, y) in enumerate(zip(lon.tolist(), lat.tolist(), strict=True)):
        points.append((x, y))
        following = (at + 1) % count
        if pole[at] and not pole[following]:
            points.append((float(lon[following]), y))  # along the pole to the meridian of the next corner
    if abs(around) > 180:
        end = 90.0 if lat.mean() > 0 else -90.0
        first, second = points[0]
        points += [(first + around, second), (first + around, end), (first, end)]
    return shapely.Polygon(points)
