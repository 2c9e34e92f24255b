"""The part of each cell that is in each zone, and the areas of the cells. For straight axes the result is exact.

The part of a cell that a polygon covers is found as fonts are drawn: every edge is cut where it crosses an edge of cells, each
piece adds its signed area to its own cell, and its height to all cells on its left. Edges are straight lines between longitudes and
latitudes (RFC 7946, 3.1.1); on a projected grid they are followed closely and are straight between the places looked at.
"""

from __future__ import annotations

import math
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

_STRIP_CELLS = 1 << 18
"""Cells of zones that are looked at at once."""
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


def weigh(
    grid: StraightGrid,
    zones: ZoneSet,
    *,
    areas: Array | None = None,
    at_once: int = _STRIP_CELLS,
    deadline: Deadline = lambda: None,
) -> Weights:
    """Return the weights of every zone.

    Parameters
    ----------
    areas
        The area of each cell, ``(y, x)``, where the data say it (CF ``cell_measures``).
    at_once
        Cells of zones, about, that are looked at together: the more, the fewer calls, and the more memory.

    Raises
    ------
    InvalidRequest
        When the cells of an axis overlap or have no width, or a zone has no place on the grid's projection.
    """
    import shapely

    x, y = _Edges.of(grid.x, "x"), _Edges.of(grid.y, "y")
    shapes = np.array(
        [zone.geometry if grid.project is None else _projected(grid, zone.id, zone.geometry) for zone in zones.zones], dtype=object
    )
    edges, of = _edges_of(shapes)
    first_edges = np.searchsorted(of, np.arange(len(shapes) + 1))
    plane = shapely.area(shapes)
    boxes = _boxes(x, y, shapely.bounds(shapes), circle=grid.x.circle, at_once=at_once)
    counts = np.zeros(len(shapes), "int64")
    found: list[tuple[Array, Array, Numbers]] = [(np.zeros(0, "int64"), np.zeros(0, "int64"), np.zeros(0))]
    for together in _groups(boxes, np.diff(first_edges), at_once):
        deadline()
        mine = [edges[first_edges[box.zone] : first_edges[box.zone + 1]] for box in together]
        for box, part in zip(together, _covered(x, y, together, mine, plane), strict=True):
            counts[box.zone] += len(part[0])
            found.append(part)
    rows, columns, fractions = (np.concatenate(each) for each in zip(*found, strict=True))
    zone = np.repeat(np.arange(len(shapes)), counts)
    sizes = _ground(grid, areas, rows, columns)
    inside = np.bincount(zone, x.widths[columns] * y.widths[rows] * fractions, len(shapes))
    covered = np.bincount(zone, sizes * fractions, len(shapes))
    starts = np.concatenate([[0], counts.cumsum()]).astype("int64")
    return Weights(
        starts, (rows.astype("int32"), columns.astype("int32")), fractions, sizes, _totals(grid, shapes, plane, covered, inside)
    )


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
        if cells.once is not None:
            own = cells.once.index
            lower[own], upper[own] = cells.once.cells.lower, cells.once.cells.upper
            order = own[np.argsort(lower[own], kind="stable")]
        low, high = lower[order], upper[order]
        if (high <= low).any():
            raise InvalidRequest(
                f"The cells of {name} have no width: the axis has no bounds, and too few labels to tell.",
                next_step="Ask for values at positions instead.",
            )
        if (low[1:] < high[:-1] - 1e-6 * (high - low)[:-1]).any():
            raise InvalidRequest(f"The cells of {name} overlap, so their parts cannot be divided among zones.")
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


@dataclass(frozen=True, slots=True)
class _Box:
    """A part of the grid that a zone may cover, in intervals of the edges of the axes."""

    zone: int
    turn: int
    """The full circles by which the zone is moved to be here."""
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


def _boxes(x: _Edges, y: _Edges, bounds: Numbers, *, circle: bool, at_once: int) -> list[_Box]:
    """Return the boxes of all zones, in their order, none of them with many more than *at_once* cells."""
    found = []
    for zone, (west, south, east, north) in enumerate(bounds.tolist()):
        turns = range(int(np.ceil((x.at[0] - east) / 360.0)), int(np.floor((x.at[-1] - west) / 360.0)) + 1) if circle else range(1)
        bottom, top = _range(y.at, south, north)
        for turn in turns:
            first, last = _range(x.at, west + 360.0 * turn, east + 360.0 * turn)
            if first < last:
                step = max(1, at_once // (last - first))
                found += [_Box(zone, turn, (row, min(row + step, top)), (first, last)) for row in range(bottom, top, step)]
    return found


def _groups(boxes: list[_Box], edges: Array, at_once: int) -> Iterator[list[_Box]]:
    """Yield boxes that are looked at together: the fewer calls, the faster, but memory is bounded."""
    group: list[_Box] = []
    size = 0
    for box in boxes:
        mine = math.prod(box.shape) + int(edges[box.zone])
        if group and size + mine > at_once:
            yield group
            group, size = [], 0
        group.append(box)
        size += mine
    if group:
        yield group


def _covered(
    x: _Edges, y: _Edges, boxes: list[_Box], edges: list[Numbers], plane: Numbers
) -> Iterator[tuple[Array, Array, Numbers]]:
    """Yield rows, columns and parts of the cells of each box that its zone covers, with the edges of the zones in *edges*."""
    bottom, top, first, last = np.array([(*box.rows, *box.columns) for box in boxes]).T
    of = np.repeat(np.arange(len(boxes)), [len(each) for each in edges])
    whole = np.concatenate(edges).T
    # Edges above and below have no part in a box; those to the east and the west have.
    near = (np.minimum(whole[1], whole[3]) < y.at[top[of]]) & (np.maximum(whole[1], whole[3]) > y.at[bottom[of]])
    of, (x1, y1, x2, y2) = of[near], whole[:, near]
    shift = 360.0 * np.array([box.turn for box in boxes])[of]
    (y1, x1, y2, x2), of = _cut(y.at, (y1, x1 + shift, y2, x2 + shift), of)
    (x1, y1, x2, y2), of = _cut(x.at, (x1, y1, x2, y2), of)
    row = np.searchsorted(y.at, (y1 + y2) / 2, side="right") - 1
    # Left of the grid a piece adds nothing; right of it, it adds its height to all columns, by a column that is one too many.
    column = np.searchsorted(x.at, (x1 + x2) / 2, side="right") - 1
    taken = (row >= bottom[of]) & (row < top[of]) & (column >= first[of])
    x1, y1, x2, y2, of, row, column = (each[taken] for each in (x1, y1, x2, y2, of, row, column))
    column = np.minimum(column, last[of])
    wide = last - first + 1
    begin = np.concatenate([[0], np.cumsum((top - bottom) * wide)])
    at = begin[of] + (row - bottom[of]) * wide[of] + column - first[of]
    rise = y2 - y1
    heights = np.bincount(at, rise, begin[-1])
    own = np.bincount(at, rise * ((x1 + x2) / 2 - x.at[column]), begin[-1])
    for number, box in enumerate(boxes):
        mine, shape = slice(begin[number], begin[number + 1]), (-1, wide[number])
        width = np.diff(x.at[first[number] : last[number] + 1])
        cell = width * np.diff(y.at[bottom[number] : top[number] + 1])[:, None]
        part = np.cumsum(heights[mine].reshape(shape)[:, :0:-1], axis=1)[:, ::-1] * width
        part += own[mine].reshape(shape)[:, :-1]
        rows, columns = y.cell[slice(*box.rows)], x.cell[slice(*box.columns)]
        part[:, columns < 0] = 0
        part[rows < 0] = 0
        here = np.flatnonzero(part > np.minimum(LEAST * cell, LEAST_OF_ZONE * plane[box.zone]))
        r, c = np.divmod(here, len(width))
        yield rows[r], columns[c], np.minimum(part.ravel()[here] / cell.ravel()[here], 1.0)


def _range(at: Numbers, low: float, high: float) -> tuple[int, int]:
    """Return the intervals of *at* that intersect ``low`` to ``high``: the first, and the one after the last."""
    first = int(np.searchsorted(at, low, side="right")) - 1
    last = int(np.searchsorted(at, high, side="left"))
    return max(first, 0), min(last, len(at) - 1)


def _cut(lines: Numbers, edges: tuple[Numbers, ...], of: Array) -> tuple[tuple[Numbers, ...], Array]:
    """Return edges from (a1, b1) to (a2, b2) cut where *a* crosses a line: both ends of each piece, and its *of*."""
    a1, b1, a2, b2 = edges
    up = a2 >= a1
    begin = np.searchsorted(lines, np.minimum(a1, a2), side="right")
    end = np.maximum(np.searchsorted(lines, np.maximum(a1, a2), side="left"), begin)
    count = end - begin
    edge = np.repeat(np.arange(len(of)), count)
    if not len(edge):
        return edges, of
    number = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    line = lines[np.where(up[edge], begin[edge] + number, end[edge] - 1 - number)]
    # The points of each edge: its ends exactly as they are, so that neighbours share them, and the cuts between them.
    start = np.cumsum(count + 2) - (count + 2)
    stop = start + count + 1
    cut = start[edge] + 1 + number
    a, b = np.empty(stop[-1] + 1), np.empty(stop[-1] + 1)
    a[start], b[start], a[stop], b[stop] = a1, b1, a2, b2
    a[cut] = line
    b[cut] = b1[edge] + np.clip((line - a1[edge]) / (a2 - a1)[edge], 0, 1) * (b2 - b1)[edge]
    piece = np.ones(len(a) - 1, bool)
    piece[stop[:-1]] = False
    return (a[:-1][piece], b[:-1][piece], a[1:][piece], b[1:][piece]), np.repeat(of, count + 1)


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


def _totals(grid: StraightGrid, shapes: Array, plane: Numbers, covered: Numbers, inside: Numbers) -> Numbers:
    """Return the areas of zones of which the cells cover *covered*, and *inside* in the plane of the grid."""
    # Where all of a zone is on the grid, nothing of it is missing.
    rest = np.flatnonzero(inside < plane * (1 - 1e-7))
    totals = covered.copy()
    totals[rest] = np.maximum(covered[rest], on_sphere(shapes[rest]) if grid.spherical else plane[rest])
    return totals


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
