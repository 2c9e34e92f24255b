"""Which cells a box takes: one rule for what an ingestion cuts out of a source and what a query asks of a version.

A box is closed, in degrees (CRS84), and crosses the antimeridian where west > east (RFC 7946, 5.2). It takes the cells whose inside
it meets; edges that only touch do not count, and a point counts on the edge. A box within one cell takes that cell. Longitudes are
taken modulo 360; a box of 360° or more takes all, as stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cells import CLOSE, Cells
from cubeport.cubes.nearest import index_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

type Box = tuple[float, float, float, float]
"""West, south, east, north."""

_SIDE = 21
"""How many points of each side of a box are carried into a native grid, at least; wide boxes get one for each degree."""


_NEAR = 1e-9
"""Degrees that are noise of arithmetic."""


class Outside(Exception):
    """No cell is in the box."""


def width_of(west: float, east: float) -> float:
    """Return how many degrees a box goes round the Earth."""
    return 360.0 if east - west >= 360 else (east - west) % 360


def between(cells: Cells, low: float, high: float) -> Array:
    """Return the indices of the cells that the closed interval meets, in stored order. Raises Outside."""
    import numpy as np

    lower, upper, slack = cells.lower, cells.upper, cells.slack
    points = upper <= lower
    inside = np.where(points, (lower <= high + slack) & (upper >= low - slack), (lower < high - slack) & (upper > low + slack))
    if low == high and not inside.any():
        return np.array([holding(cells, low)[0]])
    return _some(np.flatnonzero(inside))


def around(cells: Cells, west: float, east: float) -> tuple[Array, Array]:
    """Return the indices of the cells that [west, east] meets on the circle, and how many degrees their labels are moved.

    Labels run on without a jump inside [west, west + 360), in the stored direction; where no cell is left out they stay as they are
    stored. A column that the data repeat a turn later is taken once. Raises Outside.
    """
    import numpy as np

    labels, lower, upper, slack = cells.labels, cells.lower, cells.upper, cells.slack
    width = 360.0 if east - west >= 360 else (east - west) % 360 if west > east else east - west
    if width >= 360:
        kept = _once(cells, np.arange(len(labels)))
        return kept, np.zeros(len(kept))
    points = upper <= lower
    turn = np.where(points, np.ceil((west - upper - slack) / 360), np.floor((west + slack - upper) / 360) + 1)
    begin = lower + 360 * turn
    inside = np.where(points, begin <= west + width + slack, begin < west + width - slack)
    if width == 0 and not inside.any():
        at, moved = holding(cells, west)
        return np.array([at]), np.array([moved])
    taken = _some(np.flatnonzero(inside))
    places = labels + 360 * turn
    order = taken[np.argsort(places[taken], kind="stable")]
    if len(taken) == len(labels) and (np.any(np.diff(turn)) or not _runs_on(order)):
        kept = _once(cells, taken)
        return kept, np.zeros(len(kept))
    size = (upper - lower)[order]
    near = np.maximum(np.maximum(slack[order][1:], _NEAR), CLOSE * np.minimum(size[1:], size[:-1]))
    order = order[np.concatenate([[True], np.diff(places[order]) > near])]
    if len(labels) > 1 and labels[-1] < labels[0] and _falls(labels):
        order = order[::-1]
    return order, 360.0 * turn[order]


def centres(cells: Cells, low: float, high: float) -> Array:
    """Return the indices of the cells whose label is in the closed interval, on the circle in any turn. Raises Outside."""
    import numpy as np

    if not cells.circle:
        return _some(np.flatnonzero((cells.labels >= low) & (cells.labels <= high)))
    width = width_of(low, high) if high != low else 0.0
    return _some(np.flatnonzero((cells.labels - low) % 360.0 <= width))


def holding(cells: Cells, value: float) -> tuple[int, float]:
    """Return the cell [low, high) that holds the value, the last one closed, and how many degrees its label is moved.

    On points it is the nearest label inside their range. Raises Outside.
    """
    import numpy as np

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


def positions_in(lon: Array, lat: Array, box: Box, *, reach: float | None = None) -> Array:
    """Say which cells, known by their positions, a box takes: those whose position is in it or on its edge.

    A box within one cell takes that cell. Stations, which have a *reach*, are no cells. Raises Outside.
    """
    inside = _inside(lon, lat, box)
    if not inside.any():
        if reach is not None:
            raise Outside
        west, south, east, north = box
        inside[nearest(lon, lat, (west + width_of(west, east) / 2, (south + north) / 2))] = True
    return inside


def _inside(lon: Array, lat: Array, box: Box) -> Array:
    import numpy as np

    west, south, east, north = box
    with np.errstate(invalid="ignore"):
        inside: Array = ((lon - west + _NEAR) % 360.0 <= width_of(west, east) + 2 * _NEAR) & (lat >= south) & (lat <= north)
    return inside


def nearest(lon: Array, lat: Array, place: tuple[float, float], *, reach: float | None = None) -> tuple[int, ...]:
    """Return the index of the cell that holds a place, among cells known by their positions; missing positions hold none.

    Of a grid it is the nearest position, unless the place lies more than half a step past it towards where there is no neighbour.
    Of scattered positions it must lie no farther than they lie from each other, or than *reach* where that is given.

    Parameters
    ----------
    lon, lat
        Degrees, of one shape, ``(y, x)`` or ``(n,)``.
    place
        Longitude and latitude in degrees.
    reach
        How far from a position its values hold, in degrees on the sphere; for stations.

    Raises
    ------
    Outside
        When no cell holds the place.
    """
    index = index_of(lon, lat)
    found = index.nearest(*place)
    if not found:
        raise Outside
    ((at, far),) = found
    if reach is not None:
        if far > math.radians(reach):
            raise Outside
        return at
    # Positions may be written several times: those are no neighbours.
    around = [angle for _, angle in index.nearest(float(lon[at]), float(lat[at]), 9 + 2 * len(at)) if angle > 0][: 2 * len(at)]
    if (around and far > max(around)) or (len(at) == 2 and min(lon.shape) > 1 and _past_its_edge(lon, lat, at, place)):
        raise Outside
    return at


def _past_its_edge(lon: Array, lat: Array, at: tuple[int, ...], place: tuple[float, float]) -> bool:
    """Say whether a place lies more than half a step from a cell's centre, on a side where the grid has no cell."""
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
            return False  # a cell by itself: its size is not known
        steps.append(sum(known[1:], known[0]) / len(known))
        missing.append((sides[0] is None, sides[1] is None))
    matrix = np.stack(steps, axis=1)
    if abs(float(np.linalg.det(matrix))) < 1e-12:
        return False
    along = np.linalg.solve(matrix, offset(*place))
    return any((into < -_HALF and before) or (into > _HALF and after) for into, (before, after) in zip(along, missing, strict=True))


_HALF = 0.5 + 1e-6


def through(onto: Any, box: Box, columns: Cells, rows: Cells, *, factor: float, outer: Box | None) -> tuple[Array, Array]:
    """Return the columns and rows of a native grid that a CRS84 box takes, in stored order.

    They are those of the native window around the densified edges of the box, and around the centres that are in it: edges alone do
    not bound a box that is larger than what a projection can hold. A box around the whole grid takes all of it.

    Parameters
    ----------
    onto
        What carries CRS84 into the native system: a pyproj transformer, x before y.
    factor
        What stored numbers are multiplied by to be in the units of the native system.
    outer
        The CRS84 box of the whole grid, where it is known.

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
    hits = _inside(np.asarray(lon), np.asarray(lat), box)
    if hits.any():
        across = _joined(across, some_columns[hits.any(axis=0)], gaps=columns.circle)
        up = _joined(up, some_rows[hits.any(axis=1)], gaps=False)
    return np.sort(_some(across)), np.sort(_some(up))


_LATTICE = 48
"""Columns and rows of a grid whose centres are looked for in a box."""


def _spread(size: int) -> Array:
    import numpy as np

    return np.unique(np.linspace(0, size - 1, min(size, _LATTICE)).astype(int))


def _joined(taken: Array, more: Array, *, gaps: bool) -> Array:
    """Return both, and what is between them where the axis has no seam."""
    import numpy as np

    both = np.union1d(taken, more).astype(int)
    return both if gaps or not len(both) else np.arange(int(both.min()), int(both.max()) + 1)


def _holds(box: Box, inner: Box) -> bool:
    """Say whether a box is in another."""
    west, south, east, north = inner
    into, width = (west - box[0] + _NEAR) % 360, width_of(west, east) if west != east else 0.0
    return into + width <= width_of(box[0], box[2]) + 2 * _NEAR and box[1] <= south and north <= box[3]


def into_native(onto: Any, box: Box, *, factor: float, circle: bool) -> Box:
    """Return the native box around a CRS84 box: around its densified edges, and the poles of a rotated grid that are in it.

    Parameters
    ----------
    onto
        What carries CRS84 into the native system: a pyproj transformer, x before y.
    factor
        What stored numbers are multiplied by to be in the units of the native system.
    circle
        Whether the native x goes round the Earth (a rotated pole): then the native west may be anything in [0, 360).

    Raises
    ------
    Outside
        When nothing of the box can be seen in the native system.
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
    """Say whether indices are those of the store, one after the other or backwards."""
    import numpy as np

    return len(set(np.diff(indices).tolist())) <= 1


def _falls(labels: Array) -> bool:
    """Say whether labels go westwards, over a seam too."""
    import numpy as np

    return bool(np.median(np.diff(labels)) < 0)


def _once(cells: Cells, indices: Array) -> Array:
    """Return the indices without columns that repeat the place of an earlier one."""
    import numpy as np

    if len(indices) < 2 or float(np.ptp(cells.labels)) < 360 - 1:
        return indices
    near = max(CLOSE * float(np.median(cells.upper - cells.lower)), _NEAR)
    first = cells.labels[indices[0]]
    again = np.abs((cells.labels[indices] - first + 180) % 360 - 180) <= near
    again[0] = False
    kept: Array = indices[~again]
    return kept
