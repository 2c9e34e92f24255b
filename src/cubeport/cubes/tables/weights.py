"""The part of each cell that is in each zone, and the areas of the cells. For straight axes the result is exact.

The part of a cell that a polygon covers is found as fonts are drawn: every edge is cut where it crosses an edge of cells, each
piece adds its signed area to its own cell, and its height to all cells on its left. Edges are straight lines between longitudes and
latitudes (RFC 7946, 3.1.1); on a projected grid they are followed closely and are straight between the places looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.cells import Cells
from cubeport.cubes.part import Deadline
from cubeport.cubes.zones import ZoneSet
from cubeport.errors import InvalidRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

_STRIP_CELLS = 1 << 21
"""Cells of one zone that are looked at at once."""
LEAST = 1e-9
"""Parts of a cell below this are rounding, unless they are larger parts of the zone than the next: a house in a coarse cell."""
LEAST_OF_ZONE = 1e-5
_RADIUS_M = 6_371_007.18
"""The sphere with the area of the earth (authalic radius of WGS 84)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The cells that overlap each zone, and the part of each cell that is in the zone.

    The cells of zone *i* are ``starts[i]`` to ``starts[i + 1]``, none where the zone is outside the grid.
    """

    starts: Array
    """``(zones + 1,)``, int64."""
    indices: tuple[Array, ...]
    """For each dimension of the grid ``(cells,)``, int32: the index as stored. Along y and x on straight axes."""
    fractions: Numbers
    """``(cells,)``: the part of the cell that lies in the zone, above 0 and up to 1."""
    areas: Numbers
    """``(cells,)``: the area of the whole cell, in square metres or in the square of the units of the grid."""
    totals: Numbers
    """``(zones,)``: the area of the whole zone, in the same units."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(each.nbytes for each in (self.starts, *self.indices, self.fractions, self.areas, self.totals))


@dataclass(frozen=True, slots=True)
class StraightGrid:
    """A grid with straight axes, y and x: their cells, and how to transform a polygon from degrees."""

    x: Cells
    y: Cells
    spherical: bool
    """Whether x and y are degrees on a sphere, of the earth or of a rotated pole: cells are smaller near the pole."""
    project: Callable[[Any], Any] | None = None
    """Brings a shapely polygon from degrees to x and y; ``None`` where these are degrees of the earth."""


def weigh(grid: StraightGrid, zones: ZoneSet, *, areas: Array | None = None, deadline: Deadline = lambda: None) -> Weights:
    """Return the weights of every zone.

    Parameters
    ----------
    areas
        The area of each cell, ``(y, x)``, where the data say it (CF ``cell_measures``).

    Raises
    ------
    InvalidRequest
        When the cells of an axis overlap or have no width, or a zone has no place on the grid's projection.
    """
    x, y = _Edges.of(grid.x, "x"), _Edges.of(grid.y, "y")
    found: list[tuple[Array, Array, Numbers, Numbers]] = []
    totals = np.zeros(len(zones.zones))
    starts = np.zeros(len(zones.zones) + 1, "int64")
    for place, zone in enumerate(zones.zones):
        deadline()
        shape = zone.geometry if grid.project is None else _projected(grid, zone.id, zone.geometry)
        parts = list(_covered(x, y, _edges_of(shape)[0], circle=grid.x.circle, deadline=deadline))
        rows, columns, fractions = (np.concatenate([part[i] for part in parts]) if parts else _NOTHING[i] for i in range(3))
        size = _ground(grid, areas, rows, columns)
        found.append((rows, columns, fractions, size))
        starts[place + 1] = starts[place] + len(rows)
        inside = (x.widths[columns] * y.widths[rows] * fractions).sum()
        totals[place] = _total(grid, shape, float((size * fractions).sum()), float(inside))
    rows, columns, fractions, sizes = (np.concatenate([each[i] for each in found]) if found else _NOTHING[i] for i in range(4))
    return Weights(starts, (rows.astype("int32"), columns.astype("int32")), fractions, sizes, totals)


_NOTHING = (np.zeros(0, "int64"), np.zeros(0, "int64"), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, slots=True)
class _Edges:
    """The edges of an axis in ascending order, and the cell between each two of them."""

    at: Numbers
    """``(n + 1,)``, ascending."""
    cell: Array
    """``(n,)``: the index of the cell as stored, -1 where there is a hole."""
    widths: Numbers
    """By index as stored."""

    @classmethod
    def of(cls, cells: Cells, name: str) -> _Edges:
        lower, upper = cells.lower.astype("float64"), cells.upper.astype("float64")
        order = np.argsort(lower, kind="stable")
        if cells.circle:
            # A column that comes round again is the same place: it counts once.
            again = lower[order] >= lower[order[0]] + 360.0 - 1e-6 * (upper - lower)[order]
            order = order[~again]
        low, high = lower[order], upper[order]
        if (high <= low).any():
            raise InvalidRequest(
                f"The cells of {name} have no width: the axis has no bounds, and too few labels to tell.",
                next_step="Ask for values at positions instead.",
            )
        if (low[1:] < high[:-1] - 1e-6 * (high - low)[:-1]).any():
            raise InvalidRequest(f"The cells of {name} overlap, so no part of them is in one zone only.")
        at, cell = [low[0]], []
        for index, a, b in zip(order.tolist(), low.tolist(), high.tolist(), strict=True):
            if a > at[-1]:
                if a - at[-1] > 1e-6 * (b - a):
                    cell.append(-1)
                    at.append(a)
                else:
                    at[-1] = a
            cell.append(index)
            at.append(b)
        return cls(np.array(at), np.array(cell, "int64"), upper - lower)


def _edges_of(shapes: Any) -> tuple[Numbers, Array]:
    """Return the edges of all rings, ``(n, 4)`` as x, y of both ends, and the index of the shape of each.

    Shells are counterclockwise, holes clockwise.
    """
    import shapely

    parts, of_part = shapely.get_parts(shapely.orient_polygons(shapes), return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    points, of = shapely.get_coordinates(rings, return_index=True)
    same = of[1:] == of[:-1]
    return np.hstack([points[:-1][same], points[1:][same]]), of_part[of_ring[of[:-1][same]]]


def _covered(x: _Edges, y: _Edges, edges: Numbers, *, circle: bool, deadline: Deadline) -> Iterator[tuple[Array, Array, Numbers]]:
    """Yield rows, columns and parts of the cells that a polygon covers. Its longitudes can differ by full circles."""
    west, east = edges[:, [0, 2]].min(), edges[:, [0, 2]].max()
    turns = range(int(np.ceil((x.at[0] - east) / 360.0)), int(np.floor((x.at[-1] - west) / 360.0)) + 1) if circle else range(1)
    for turn in turns:
        moved = edges + np.array([360.0 * turn, 0, 360.0 * turn, 0]) if turn else edges
        yield from _on_axes(x, y, moved, deadline)


def _on_axes(x: _Edges, y: _Edges, edges: Numbers, deadline: Deadline) -> Iterator[tuple[Array, Array, Numbers]]:
    """Yield the same for axes that do not wrap around, in blocks of rows."""
    span = edges[:, [0, 2]].min(), edges[:, [0, 2]].max()
    first, last = _range(x.at, *span)
    bottom, top = _range(y.at, edges[:, [1, 3]].min(), edges[:, [1, 3]].max())
    if first >= last or bottom >= top:
        return
    pieces = _pieces(edges, x.at[first : last + 1], y.at[bottom : top + 1])
    row = np.searchsorted(y.at[bottom : top + 1], pieces[:, 4], side="right") - 1
    # Left of the grid a piece adds nothing; right of it, it adds its height to all columns.
    column = np.searchsorted(x.at[first : last + 1], pieces[:, 5], side="right") - 1
    wide = last - first
    area = _area(edges)
    step = max(1, _STRIP_CELLS // wide)
    width = np.diff(x.at[first : last + 1])
    height = np.diff(y.at[bottom : top + 1])
    for start in range(0, top - bottom, step):
        deadline()
        stop = min(top - bottom, start + step)
        mine = (row >= start) & (row < stop) & (column >= 0)
        rise = pieces[mine, 3] - pieces[mine, 1]
        r, c = row[mine] - start, np.minimum(column[mine], wide)
        heights = np.zeros((stop - start, wide + 1))
        np.add.at(heights, (r, c), rise)
        own = np.zeros((stop - start, wide))
        within = c < wide
        middle = (pieces[mine, 0] + pieces[mine, 2]) / 2 - x.at[first + c]
        np.add.at(own, (r[within], c[within]), (rise * middle)[within])
        right = np.cumsum(heights[:, ::-1], axis=1)[:, -2::-1]
        part = (own + width * right) / (width * height[start:stop, None])
        part[:, x.cell[first:last] < 0] = 0
        part[y.cell[bottom + start : bottom + stop] < 0] = 0
        taken_rows, taken_columns = np.nonzero(part > np.minimum(LEAST, LEAST_OF_ZONE * area / (width * height[start:stop, None])))
        yield (
            y.cell[bottom + start + taken_rows],
            x.cell[first + taken_columns],
            np.minimum(part[taken_rows, taken_columns], 1.0),
        )


def _area(edges: Numbers) -> float:
    """Return the area within closed rings in the plane."""
    x1, y1, x2, y2 = edges.T
    return abs(float(((x2 - x1) * ((y1 - y1[0]) + (y2 - y1[0]))).sum())) / 2


def _range(at: Numbers, low: float, high: float) -> tuple[int, int]:
    """Return the intervals of *at* that intersect ``low`` to ``high``: the first, and the one after the last."""
    first = int(np.searchsorted(at, low, side="right")) - 1
    last = int(np.searchsorted(at, high, side="left"))
    return max(first, 0), min(last, len(at) - 1)


def _pieces(edges: Numbers, columns: Numbers, rows: Numbers) -> Numbers:
    """Return the edges cut at all *columns* and *rows*: x, y of both ends, then y and x of the middle."""
    x1, y1, x2, y2 = edges.T
    which = [np.arange(len(edges)), np.arange(len(edges))]
    where = [np.zeros(len(edges)), np.ones(len(edges))]
    for lines, a, b in ((columns, x1, x2), (rows, y1, y2)):
        low, high = np.minimum(a, b), np.maximum(a, b)
        begin = np.searchsorted(lines, low, side="right")
        count = np.maximum(np.searchsorted(lines, high, side="left") - begin, 0)
        of = np.repeat(np.arange(len(edges)), count)
        at = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + begin[of]
        which.append(of)
        where.append((lines[at] - a[of]) / (b[of] - a[of]))
    of, t = np.concatenate(which), np.clip(np.concatenate(where), 0, 1)
    order = np.lexsort((t, of))
    of, t = of[order], t[order]
    px, py = x1[of] + t * (x2 - x1)[of], y1[of] + t * (y2 - y1)[of]
    # The ends exactly as they are, so that neighbours share them.
    px, py = np.where(t == 1, x2[of], px), np.where(t == 1, y2[of], py)
    same = of[1:] == of[:-1]
    a, b = np.column_stack([px[:-1], py[:-1]])[same], np.column_stack([px[1:], py[1:]])[same]
    middle = (a + b) / 2
    return np.column_stack([a, b, middle[:, 1], middle[:, 0]])


def _ground(grid: StraightGrid, areas: Array | None, rows: Array, columns: Array) -> Numbers:
    """Return the area of each cell: from the data if they have it, otherwise on the sphere, or in the plane of a projection."""
    if areas is not None:
        return np.asarray(areas[rows, columns], "float64")
    return cell_areas(grid, rows, columns)


def cell_areas(grid: StraightGrid, rows: Array, columns: Array) -> Numbers:
    """Return the areas of cells: on the sphere in m², or in the plane of a projection."""
    width, low, high = grid.x.upper - grid.x.lower, grid.y.lower, grid.y.upper
    if not grid.spherical:
        return np.asarray(width[columns] * (high - low)[rows], "float64")
    # The sines of all rows, because most zones share them.
    band = np.sin(np.radians(high)) - np.sin(np.radians(low))
    return np.asarray((_RADIUS_M**2 * np.radians(width))[columns] * band[rows], "float64")


def _total(grid: StraightGrid, shape: Any, covered: float, inside: float) -> float:
    """Return the area of a zone of which the cells cover *covered*, and *inside* in the plane of the grid."""
    plane = float(shape.area)
    if inside >= plane * (1 - 1e-7):
        return covered  # all of it is on the grid: nothing of it is missing
    whole = float(on_sphere(np.array([shape]))[0]) if grid.spherical else plane
    return max(covered, whole)


def on_sphere(shapes: Array) -> Numbers:
    """Return the area of polygons whose edges are straight in degrees, in m²: the integral of sin(latitude) over longitude."""
    edges, of = _edges_of(shapes)
    lon1, lat1, lon2, lat2 = np.radians(edges.T)
    flat = np.abs(lat2 - lat1) < 1e-12
    rise = np.where(flat, 1.0, lat2 - lat1)
    mean = np.where(flat, np.sin((lat1 + lat2) / 2), (np.cos(lat1) - np.cos(lat2)) / rise)
    return -(_RADIUS_M**2) * np.bincount(of, (lon2 - lon1) * mean, len(shapes))


def _projected(grid: StraightGrid, zone_id: str, shape: Any) -> Any:
    assert grid.project is not None  # the caller has looked
    found = grid.project(shape)
    if found is None or found.is_empty or not np.isfinite(found.bounds).all():
        raise InvalidRequest(
            f"The zone {zone_id[:60]} has no place on the projection of these data.", next_step="Leave it out with zone=."
        )
    return found
