"""Which cells have their centre in a polygon. On straight axes the cost grows with its outline; elsewhere cells are tested in
strips.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubeport.cubes.part import Deadline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_LEAF = 16
"""Tiles of up to this many cells a side are tested cell by cell."""
_STRIP = 1 << 18
"""How many cells are tested at a time."""
_PAD = 1e-9
"""Tiles are widened by this many degrees, so that a tile of one row is still a polygon."""


def on_axes(polygon: Any, lon: Array, lat: Array, deadline: Deadline) -> Array:
    """Return which cells of a grid with straight axes have their centre in the polygon or on its edge.

    Tiles that are completely inside or outside are not examined further, so the cost grows with the outline, not with the area.

    Parameters
    ----------
    polygon
        A shapely Polygon or MultiPolygon, longitude and latitude in degrees.
    lon, lat
        Centres of the columns and of the rows, in any order. Longitudes are taken modulo 360 into the frame of the polygon.

    Returns
    -------
    Array
        ``(lat, lon)``, bool.
    """
    import numpy as np
    import shapely

    shapely.prepare(polygon)
    turned = _turned(lon, polygon.bounds[0])
    columns, rows = np.argsort(turned, kind="stable"), np.argsort(lat, kind="stable")
    x, y = turned[columns], lat[rows]
    inside = np.zeros((y.size, x.size), dtype=bool)
    tiles = [(0, y.size, 0, x.size)]
    while tiles:
        deadline()
        batch, tiles = tiles[:4096], tiles[4096:]
        top, bottom, left, right = np.array(batch).T
        boxes = shapely.box(x[left] - _PAD, y[top] - _PAD, x[right - 1] + _PAD, y[bottom - 1] + _PAD)
        meets, covered = shapely.intersects(polygon, boxes), shapely.covers(polygon, boxes)
        for (a, b, c, d), some, every in zip(batch, meets.tolist(), covered.tolist(), strict=True):
            if every:
                inside[a:b, c:d] = True
            elif some and (b - a <= _LEAF and d - c <= _LEAF):
                inside[a:b, c:d] = shapely.intersects_xy(polygon, *np.meshgrid(x[c:d], y[a:b]))
            elif some:
                tiles += [(*half, *other) for half in _halves(a, b) for other in _halves(c, d)]
    found = np.empty_like(inside)
    found[np.ix_(rows, columns)] = inside
    return found


def anywhere(polygon: Any, lon: Array, lat: Array, deadline: Deadline) -> Array:
    """Return which positions are in the polygon or on its edge. *lon* and *lat* have the same shape. See :func:`on_axes`."""
    import numpy as np
    import shapely

    shapely.prepare(polygon)
    west, south, _, north = polygon.bounds
    inside = np.zeros(lon.size, dtype=bool)
    x, y = lon.reshape(-1), lat.reshape(-1)
    for start in range(0, x.size, _STRIP):
        deadline()
        part = slice(start, start + _STRIP)
        near = np.flatnonzero((y[part] >= south) & (y[part] <= north))
        inside[start + near] = shapely.intersects_xy(polygon, _turned(x[part][near], west), y[part][near])
    return inside.reshape(lon.shape)


def _turned(lon: Array, west: float) -> Array:
    """Return the longitudes in [west, west + 360)."""
    import numpy as np

    east = (np.asarray(lon, dtype="float64") - west) % 360
    return np.asarray(west + np.where(east > 360 - _PAD, 0, east))


def _halves(low: int, high: int) -> tuple[tuple[int, int], ...]:
    middle = (low + high) // 2
    return ((low, middle), (middle, high)) if high - low > _LEAF else ((low, high),)
