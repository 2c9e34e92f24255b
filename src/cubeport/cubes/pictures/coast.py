"""The coast in the frame of a picture: Natural Earth 1:50 million, for maps that are zoomed in and for polar maps."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cubeport.cubes.pictures.places import CRS84, Canvas, transform

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

_POLE_SIGN = {"EPSG:3995": 1, "EPSG:3031": -1}
"""Polar stereographic systems, with the sign of the latitudes of their pole."""
_LEAST_LATITUDE = 20.0
"""Lines nearer to the equator are not drawn on a polar map: they are far outside, and the other pole would go around it."""


def lines(canvas: Canvas) -> list[Array]:
    """Return the parts of the coast that touch the canvas, each (n, 2) int32: column and row in pixels, rounded.

    The canvas is in CRS84, where it may cross the antimeridian, or in a polar system. A point on the pixel of the one before
    is left out.
    """
    import numpy as np

    lon, lat, first = _stored()
    x0, _, x1, _ = canvas.bbox
    if canvas.crs in _POLE_SIGN:
        near = lat * _POLE_SIGN[canvas.crs] >= _LEAST_LATITUDE
        x, y = transform(CRS84, canvas.crs)(lon, np.where(near, lat, _POLE_SIGN[canvas.crs] * _LEAST_LATITUDE))
        return _within(x, y, first, near, canvas)
    found: list[Array] = []
    for turn in range(int((x0 + 180.0) // 360.0), int((x1 + 180.0) // 360.0) + 1):
        found += _within(lon + turn * 360.0, lat, first, np.ones(lon.shape, bool), canvas)
    return found


def _within(x: Array, y: Array, first: Array, drawn: Array, canvas: Canvas) -> list[Array]:
    """Return runs of points of which each, or its neighbour, is on the canvas. Islands below two pixels are left out."""
    import numpy as np

    x0, y0, x1, y1 = canvas.bbox
    # A segment is outside if both of its ends are on the outer side of one edge.
    sides = np.stack([x < x0, x > x1, y < y0, y > y1])
    joined = ~first[1:] & drawn[1:] & drawn[:-1]
    kept = joined & ~(sides[:, 1:] & sides[:, :-1]).any(axis=0)
    point = np.zeros(x.shape, bool)
    point[1:] |= kept
    point[:-1] |= kept
    at = np.flatnonzero(point)
    if not at.size:
        return []
    column, row = canvas.pixels(x[at], y[at])
    spots = np.round(np.stack([column, row], axis=1)).astype("int32")
    begins = np.r_[True, (np.diff(at) > 1) | ~kept[at[1:] - 1]]
    moved = np.r_[True, (np.diff(spots, axis=0) != 0).any(axis=1)] | begins
    spots, begins = spots[moved], begins[moved]
    runs = np.split(spots, np.flatnonzero(begins)[1:])
    return [each for each in runs if len(each) > 1 and np.ptp(each, axis=0).max() > 1]


@cache
def _stored() -> tuple[Array, Array, Array]:
    """Return longitudes and latitudes in degrees, and whether a point begins a line."""
    import numpy as np

    with (files(__package__) / "coast-50m.npz").open("rb") as file, np.load(file) as stored:
        steps, counts = stored["steps"].astype("int32"), stored["counts"]
    starts = np.r_[0, np.cumsum(counts)[:-1]]
    points = np.cumsum(steps, axis=0)
    # The first step of a line is its first point, so what came before it is taken off.
    before = np.repeat(points[starts] - steps[starts], counts, axis=0)
    points -= before
    first = np.zeros(len(points), bool)
    first[starts] = True
    return points[:, 0] / 100.0, points[:, 1] / 100.0, first
