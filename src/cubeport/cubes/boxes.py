"""Which cells a box selects. Ingestions and queries use the same rule.

A box is closed, in degrees (CRS84), and crosses the antimeridian if west > east (RFC 7946, 5.2). It selects the cells whose
interior it intersects. A cell that only shares an edge with the box is not selected, but a point on the edge is. A box inside one
cell selects that cell. Longitudes are taken modulo 360. A box of 360° or more selects all columns, in stored order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cells import Cells
from cubeport.cubes.cylinders import Cylinder
from cubeport.cubes.nearest import index_of, is_across

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cubeport.cubes.quads import Outlines

    type Array = NDArray[Any]

type Box = tuple[float, float, float, float]
"""West, south, east, north."""

_SIDE = 21
"""The minimum number of points on each side of a box that is transformed to a native grid; wide boxes get one point per degree."""


_NEAR = 1e-9
"""Differences of this many degrees are rounding errors."""


class Outside(Exception):
    """The box selects no cell."""


def width_of(west: float, east: float) -> float:
    """Return the width of a box in degrees of longitude."""
    return 360.0 if east - west >= 360 else (east - west) % 360


def between(cells: Cells, low: float, high: float) -> Array:
    """Return the indices of the cells that the closed interval intersects, in stored order. Raises Outside."""
    import numpy as np

    lower, upper, slack = cells.lower, cells.upper, cells.slack
    points = upper <= lower
    inside = np.where(points, (lower <= high + slack) & (upper >= low - slack), (lower < high - slack) & (upper > low + slack))
    if low == high and not inside.any():
        return np.array([holding(cells, low)[0]])
    return _some(np.flatnonzero(inside))


def around(cells: Cells, west: float, east: float) -> tuple[Array, Array]:
    """Return the indices of the cells that [west, east] intersects on the circle, and the shift of each label in degrees.

    The shifted labels are continuous inside [west, west + 360), in the stored direction. If all cells are selected, the labels do
    not change. A column that comes round again is not selected (:class:`cubeport.cubes.cells.Once`). Raises Outside.
    """
    import numpy as np

    if cells.once is not None:
        found, moved = around(cells.once.cells, west, east)
        return cells.once.of(found), moved
    labels, lower, upper, slack = cells.labels, cells.lower, cells.upper, cells.slack
    width = 360.0 if east - west >= 360 else (east - west) % 360 if west > east else east - west
    if width >= 360:
        return np.arange(len(labels)), np.zeros(len(labels))
    points = upper <= lower
    turn = np.where(points, np.ceil((west - upper - slack) / 360), np.floor((west + slack - upper) / 360) + 1)
    begin = lower + 360 * turn
    inside = np.where(points, begin <= west + width + slack, begin < west + width - slack)
    if width == 0 and not inside.any():
        at, turned = holding(cells, west)
        return np.array([at]), np.array([turned])
    taken = _some(np.flatnonzero(inside))
    places = labels + 360 * turn
    order = taken[np.argsort(places[taken], kind="stable")]
    if len(taken) == len(labels) and (np.any(np.diff(turn)) or not _runs_on(order)):
        return taken, np.zeros(len(taken))
    if len(labels) > 1 and labels[-1] < labels[0] and _falls(labels):
        order = order[::-1]
    return order, 360.0 * turn[order]


def centres(cells: Cells, low: float, high: float) -> Array:
    """Return the indices of the cells whose label is in the closed interval, modulo 360 on the circle. Raises Outside."""
    import numpy as np

    if not cells.circle:
        return _some(np.flatnonzero((cells.labels >= low) & (cells.labels <= high)))
    if cells.once is not None:
        return cells.once.of(centres(cells.once.cells, low, high))
    width = width_of(low, high) if high != low else 0.0
    return _some(np.flatnonzero((cells.labels - low) % 360.0 <= width))


def holding(cells: Cells, value: float) -> tuple[int, float]:
    """Return the index of the cell that contains the value, and the shift of its label in degrees.

    Cells are half-open, [low, high); the last cell is closed. On an axis of points it is the nearest label, if the value is within
    their range. Raises Outside.
    """
    import numpy as np

    if cells.once is not None:
        number, turned = holding(cells.once.cells, value)
        return int(cells.once.index[number]), turned
    labels, lower, upper, slack = cells.labels, cells.lower, cells.upper, cells.slack
    moved = np.zeros(labels.shape)
    if cells.circle:
        moved = 360 * np.where(upper > lower, np.ceil((value - upper - slack) / 360), np.round((value - labels) / 360))
        lower, upper = lower + moved, upper + moved
    if (upper > lower).any():
        holds = (lower - slack <= value) & (value < upper - slack)
        if not holds.any():
            holds = (lower - slack <= value) & (value <= upper + slack)
        at = int(_some(np.flatnonzero(holds))[0])
    else:
        if not labels.size or not (lower - slack).min() <= value <= (upper + slack).max():
            raise Outside
        at = int(np.abs(lower - value).argmin())
    return at, float(moved[at])


def holding_each(axis: Cells, values: Array) -> Array:
    """Return the index of the cell that contains each value, int32; −1 where there is none."""
    import numpy as np

    if axis.once is not None:
        return axis.once.of(holding_each(axis.once.cells, values))
    lower, upper = axis.lower, axis.upper
    if axis.circle:
        first = float(axis.outer[0])
        turned = first + (lower - first + 1e-9) % 360.0 - 1e-9
        upper = upper + (turned - lower)
        lower = turned
        values = first + (values - first) % 360.0
    order = np.argsort(lower, kind="stable")
    at = np.clip(np.searchsorted(lower[order], values, side="right") - 1, 0, None)
    found = order[at]
    inside = (values >= lower[found] - axis.slack[found]) & (values <= upper[found] + axis.slack[found])
    if axis.circle:
        # The last cell may extend across the seam, where the first cell begins.
        again = values + 360.0 <= upper[order[-1]]
        found, inside = np.where(again & ~inside, order[-1], found), inside | again
    return np.where(inside & np.isfinite(values), found, -1).astype("int32")


_AROUND = 32
"""The first ring of a reduced Gaussian grid has 20 positions, and all of them can be nearer to each other than to the next ring."""


def positions_in(
    lon: Array, lat: Array, box: Box, *, reach: float | None = None, outlines: Callable[[], Outlines | None] = lambda: None
) -> Array:
    """Return which cells a box selects by their positions: those whose position is inside it or on its edge.

    A box inside one cell selects that cell, but stations (with a *reach*) are not cells. Raises Outside.
    """
    found = inside(lon, lat, box)
    if not found.any():
        if reach is not None:
            raise Outside
        west, south, east, north = box
        found[nearest(lon, lat, (west + width_of(west, east) / 2, (south + north) / 2), outlines=outlines())] = True
    return found


def inside(lon: Array, lat: Array, box: Box) -> Array:
    """Return which positions are inside the box or on its edge."""
    import numpy as np

    west, south, east, north = box
    with np.errstate(invalid="ignore"):
        found: Array = ((lon - west + _NEAR) % 360.0 <= width_of(west, east) + 2 * _NEAR) & (lat >= south) & (lat <= north)
    return found


def nearest(
    lon: Array, lat: Array, place: tuple[float, float], *, reach: float | None = None, outlines: Outlines | None = None
) -> tuple[int, ...]:
    """Return the index of the cell that contains a place, by the positions of the cells. Missing positions are ignored.

    On a grid it is the cell whose vertices are around the place; without vertices, the one between midpoints to its neighbours, as
    maps draw them. Where the grid has no such cells, as on a fold, it is the nearest position, unless the place is more than half a
    step outside the edge of the grid. Of cells at the same place, as where columns of a global grid come round again, it is one
    that is not at the edge of the grid, and of these the first.
    Scattered positions must not be farther from the place than they are from each other, or than *reach* if it is given.

    Parameters
    ----------
    lon, lat
        Degrees, both with the shape ``(y, x)`` or ``(n,)``.
    place
        Longitude and latitude in degrees.
    reach
        For stations: how far from a position its values are valid, in degrees on the sphere.
    outlines
        The vertices of the cells of a grid.

    Raises
    ------
    Outside
        If no cell contains the place.
    """
    index = index_of(lon, lat)
    is_grid = lon.ndim == 2 and min(lon.shape) > 1 and reach is None
    found = index.nearest(*place, _SAME_PLACE if is_grid else 1)
    if not found:
        raise Outside
    at, far = found[0]
    if reach is not None:
        if far > math.radians(reach):
            raise Outside
        return at
    if not is_grid:
        if far > spacing(lon, lat, at):
            raise Outside
        return at
    at = min((cell for cell, angle in found if angle <= far + _SAME), key=lambda cell: (_at_edges(cell, lon.shape), cell))
    for slack in (0.0, _ROUNDED):
        if (cell := _around_place(lon, lat, at, place, outlines, slack)) is not None:
            return cell
    given = outlines is not None and math.isfinite(outlines.size[at])
    if given or far > spacing(lon, lat, at) or _past_its_edge(lon, lat, at, place):
        raise Outside
    return at


_SAME_PLACE = 4
"""The most cells of a grid that have the same place: two columns of it come round again, in a row that is folded."""
_SAME = 4e-7
"""Cells whose centres differ by this angle (3 m), the precision of longitudes in single precision, have the same place."""
_ROUNDED = 1e-3
"""The part of a cell by which its edges may miss those of its neighbour, because vertices are rounded."""


def _at_edges(cell: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return how many edges of a grid a cell is at: 2 in a corner."""
    return sum(at in (0, size - 1) for at, size in zip(cell, shape, strict=True))


_FOLD = 6.0
"""Neighbours of a cell are on a fold of the grid if one is this many times farther away than the one on the other side."""
_BESIDE = sorted(((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)), key=lambda each: abs(each[0]) + abs(each[1]))


def _around_place(
    lon: Array, lat: Array, at: tuple[int, ...], place: tuple[float, float], outlines: Outlines | None, slack: float
) -> tuple[int, ...] | None:
    """Return the cell of a curvilinear grid, among that at an index and those beside it, whose edges are around a place, or miss it
    by *slack* of the cell.

    The edges are those of :func:`cubeport.cubes.quads.quads`, which draws them all; here one cell is tested in a few microseconds.
    """
    rows, columns = lon.shape
    known: dict[tuple[int, int], tuple[float, float, float] | None] = {}

    def centre(row: int, column: int) -> tuple[float, float, float] | None:
        """Return a centre as a vector; one beyond the grid continues its last step."""
        key = row, column
        if key not in known:
            if not 0 <= column < columns:
                edge, inner = (0, 1) if column < 0 else (columns - 1, columns - 2)
                known[key] = _continued(centre(row, edge), centre(row, inner))
            elif not 0 <= row < rows:
                edge, inner = (0, 1) if row < 0 else (rows - 1, rows - 2)
                known[key] = _continued(centre(edge, column), centre(inner, column))
            else:
                known[key] = _vector(float(lon[key]), float(lat[key]))
        return known[key]

    point = _vector(*place)
    for down, right in _BESIDE:
        row, column = at[0] + down, at[1] + right
        if point is None or not (0 <= row < rows and 0 <= column < columns):
            continue
        if outlines is not None and math.isfinite(outlines.size[row, column]):
            ends = zip(outlines.lon[row, column].tolist(), outlines.lat[row, column].tolist(), strict=True)
            ring = [corner for each in ends if (corner := _vector(*each)) is not None]
        else:
            block = [[centre(row + n, column + m) for m in (-1, 0, 1)] for n in (-1, 0, 1)]
            ring = _ring([each for line in block for each in line], point)
        if len(ring) == _CORNERS and _is_in(ring, point, slack):
            return row, column
    return None


type _Vector = tuple[float, float, float]


def _vector(lon: float, lat: float) -> _Vector | None:
    a, b = math.radians(lon), math.radians(lat)
    found = math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)
    return found if math.isfinite(found[0] + found[2]) else None


def _continued(edge: _Vector | None, inner: _Vector | None) -> _Vector | None:
    if edge is None or inner is None:
        return None
    return 2 * edge[0] - inner[0], 2 * edge[1] - inner[1], 2 * edge[2] - inner[2]


_CORNERS = 4


def _ring(block: Sequence[_Vector | None], point: _Vector) -> list[_Vector]:
    """Return the corners of the cell in the middle of nine centres, row by row; nothing if it is beside a fold, or beyond the
    horizon of a point.
    """
    nine = [each for each in block if each is not None]
    if len(nine) < 9 or math.sumprod(nine[4], point) <= 0:
        return []
    for before, after in ((1, 7), (3, 5)):
        one, other = math.dist(nine[before], nine[4]), math.dist(nine[after], nine[4])
        if max(one, other) > _FOLD * min(one, other):
            return []
    sums = (tuple(nine[a][n] + nine[a + 1][n] + nine[a + 3][n] + nine[a + 4][n] for n in range(3)) for a in (0, 1, 4, 3))
    return [(x / 4, y / 4, z / 4) for x, y, z in sums]


def _is_in(ring: Sequence[_Vector], point: _Vector, slack: float) -> bool:
    """Return whether a point is between great circles from corner to corner, or misses them by *slack* of the cell."""
    if math.sumprod(ring[0], point) <= 0:
        return False
    hair = slack * max(math.dist(ring[0], ring[2]), math.dist(ring[1], ring[3])) ** 2
    sides = []
    for (ax, ay, az), (bx, by, bz) in zip(ring, (*ring[1:], ring[0]), strict=True):
        sides.append(math.sumprod((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), point))
    return all(each >= -hair for each in sides) or all(each <= hair for each in sides)


def spacing(lon: Array, lat: Array, at: tuple[int, ...]) -> float:
    """Return how far from a position without edges its values are valid, as an angle: up to its neighbours; inf without any.

    Next to a pole, positions in rings are much nearer to each other than rings are, so of a mesh the neighbour on another parallel
    counts too.
    """
    # Positions can be repeated; a repeated position is not a neighbour.
    count = _AROUND if len(at) == 1 else 9 + 2 * len(at)
    around = [(cell, angle) for cell, angle in index_of(lon, lat).nearest(float(lon[at]), float(lat[at]), count) if angle > 0]
    near = [angle for _, angle in around[: 2 * len(at)]]
    if len(at) == 1:
        near += [angle for cell, angle in around if is_across(math.radians(float(lat[cell] - lat[at])), angle)][:1]
    return max(near, default=math.inf)


def _past_its_edge(lon: Array, lat: Array, at: tuple[int, ...], place: tuple[float, float]) -> bool:
    """Return whether a place is more than half a step from the centre of a cell, on a side where the grid has no other cell."""
    import numpy as np

    def offset(x: float, y: float) -> Array:
        east = (x - lon[at] + 180) % 360 - 180
        return np.array([east * math.cos(math.radians(float(lat[at]))), y - lat[at]])

    steps, missing = [], []
    for axis in (0, 1):
        sides = []
        for step in (-1, 1):
            index = tuple(each + (step if number == axis else 0) for number, each in enumerate(at))
            there = 0 <= index[axis] < lon.shape[axis] and bool(np.isfinite(lon[index]) and np.isfinite(lat[index]))
            sides.append(offset(float(lon[index]), float(lat[index])) * step if there else None)
        known = [side for side in sides if side is not None]
        if not known:
            return False  # a single cell: its size is unknown
        steps.append(sum(known[1:], known[0]) / len(known))
        missing.append((sides[0] is None, sides[1] is None))
    matrix = np.stack(steps, axis=1)
    if abs(float(np.linalg.det(matrix))) < 1e-12:
        return False
    along = np.linalg.solve(matrix, offset(*place))
    return any((into < -_HALF and before) or (into > _HALF and after) for into, (before, after) in zip(along, missing, strict=True))


_HALF = 0.5 + 1e-6


def through(onto: Any, box: Box, columns: Cells, rows: Cells, *, factor: float, outer: Box | None) -> tuple[Array, Array]:
    """Return the columns and rows of a native grid that a CRS84 box selects, in stored order.

    The native window surrounds the densified edges of the box and the cell centres inside it. The edges alone are not enough if the
    box is larger than the domain of the projection. A box around the whole grid selects all of it.

    Parameters
    ----------
    onto
        A pyproj transformer from CRS84 to the native system, x before y.
    factor
        Converts stored numbers to the units of the native system by multiplication.
    outer
        The CRS84 box of the whole grid, if it is known.

    Raises
    ------
    Outside
        When no cell is in the box.
    """
    import numpy as np

    if outer is not None and _holds(box, outer):
        return np.arange(len(columns.labels)), np.arange(len(rows.labels))
    across, up = np.array([], int), np.array([], int)
    try:
        west, south, east, north = into_native(onto, box, factor=factor, circle=columns.circle)
        first = around(columns, west, east)[0] if columns.circle else between(columns, west, east)
        across, up = first, between(rows, south, north)
    except Outside:
        pass
    some_columns, some_rows = _spread(len(columns.labels)), _spread(len(rows.labels))
    xs, ys = np.meshgrid(columns.labels[some_columns] * factor, rows.labels[some_rows] * factor)
    lon, lat = onto.transform(xs, ys, direction="INVERSE")
    hits = inside(np.asarray(lon), np.asarray(lat), box)
    if hits.any():
        across = _joined(across, some_columns[hits.any(axis=0)], gaps=columns.circle)
        up = _joined(up, some_rows[hits.any(axis=1)], gaps=False)
    return np.sort(_some(across)), np.sort(_some(up))


_LATTICE = 48
"""The number of columns and of rows whose centres are tested against a box."""


def _spread(size: int) -> Array:
    import numpy as np

    return np.unique(np.linspace(0, size - 1, min(size, _LATTICE)).astype(int))


def _joined(taken: Array, more: Array, *, gaps: bool) -> Array:
    """Return the union of both, and the cells between them if the axis has no seam."""
    import numpy as np

    both = np.union1d(taken, more).astype(int)
    return both if gaps or not len(both) else np.arange(int(both.min()), int(both.max()) + 1)


def _holds(box: Box, inner: Box) -> bool:
    """Return whether a box contains another."""
    west, south, east, north = inner
    into, width = (west - box[0] + _NEAR) % 360, width_of(west, east) if west != east else 0.0
    return into + width <= width_of(box[0], box[2]) + 2 * _NEAR and box[1] <= south and north <= box[3]


def into_native(onto: Any, box: Box, *, factor: float, circle: bool) -> Box:
    """Return the native box around a CRS84 box: around its densified edges, and around the poles of a rotated grid inside it.

    Parameters
    ----------
    onto
        A pyproj transformer from CRS84 to the native system, x before y.
    factor
        Converts stored numbers to the units of the native system by multiplication.
    circle
        Whether the native x goes round the Earth (a rotated pole). The native west is then in [0, 360).

    Raises
    ------
    Outside
        If no part of the box is in the domain of the native system.
    """
    import numpy as np

    west, south, east, north = box
    width = width_of(west, east)
    side = max(_SIDE, math.ceil(width) + 1, math.ceil(north - south) + 1)
    lons, lats = np.linspace(west, west + width, side), np.linspace(south, north, side)
    edge_lon = np.concatenate([lons, lons, np.full(side, west), np.full(side, west + width)])
    edge_lat = np.concatenate([np.full(side, south), np.full(side, north), lats, lats])
    xs, ys = (np.asarray(part, dtype="float64") for part in onto.transform(edge_lon, edge_lat))
    seen = np.isfinite(xs) & np.isfinite(ys)
    if not seen.any():
        raise Outside
    if isinstance(onto, Cylinder):
        ends = onto.across(west, width)
        if ends is None:
            raise Outside
        return ends[0] / factor, float(ys[seen].min()) / factor, ends[1] / factor, float(ys[seen].max()) / factor
    xs, ys = xs[seen] / factor, ys[seen] / factor
    if not circle:
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
    pole_lon, pole_lat = onto.transform([0.0, 0.0], [90.0, -90.0], direction="INVERSE")
    within = [(lon - west) % 360 <= width and south <= lat <= north for lon, lat in zip(pole_lon, pole_lat, strict=True)]
    top, bottom = 90.0 if within[0] else float(ys.max()), -90.0 if within[1] else float(ys.min())
    if any(within):
        return -180.0, bottom, 180.0, top
    places = np.sort(xs % 360)
    gaps = np.diff(places, append=places[0] + 360)
    widest = int(gaps.argmax())
    left = float(places[(widest + 1) % places.size])
    return left, bottom, left + 360 - float(gaps[widest]), top


def _some(indices: Array) -> Array:
    if not len(indices):
        raise Outside
    return indices


def _runs_on(indices: Array) -> bool:
    """Return whether indices are consecutive, forwards or backwards."""
    import numpy as np

    return len(set(np.diff(indices).tolist())) <= 1


def _falls(labels: Array) -> bool:
    """Return whether labels run westwards, also across a seam."""
    import numpy as np

    return bool(np.median(np.diff(labels)) < 0)
