"""The coast, the land and the graticule in the frame of a picture: Natural Earth 1:50 million, for close and for polar maps."""

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
_LEAST_LATITUDE = 5.0
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


def land(canvas: Canvas) -> list[Array]:
    """Return the rings of the land that touch the canvas, each (n, 2) int32: column and row in pixels, rounded.

    Filled by the rule *evenodd*, because a lake is a ring in a ring. Parts of a ring that are far outside run along a frame of
    three times the canvas, so what is inside is as it was.
    """
    import numpy as np

    lon, lat, first = _rings()
    x0, _, x1, _ = canvas.bbox
    if canvas.crs in _POLE_SIGN:
        sign = _POLE_SIGN[canvas.crs]
        # A ring of the other hemisphere would become the whole circle of the least latitude.
        starts = np.flatnonzero(first)
        near = np.repeat(np.maximum.reduceat(lat * sign, starts) > _LEAST_LATITUDE, np.diff(np.r_[starts, len(lat)]))
        lon, lat, first = lon[near], lat[near], first[near]
        x, y = transform(CRS84, canvas.crs)(lon, sign * np.maximum(lat * sign, _LEAST_LATITUDE))
        return _filled(x, y, first, canvas)
    found: list[Array] = []
    for turn in range(int((x0 + 180.0) // 360.0), int((x1 + 180.0) // 360.0) + 1):
        found += _filled(lon + turn * 360.0, lat, first, canvas)
    return found


def graticule(canvas: Canvas) -> list[Array]:
    """Return meridians and parallels of a polar canvas, as :func:`lines` does; none of a canvas in degrees."""
    import numpy as np

    if canvas.crs not in _POLE_SIGN:
        return []
    sign, along = _POLE_SIGN[canvas.crs], np.arange(-180.0, 181.0, 2.0)
    towards = np.linspace(10.0, 80.0, 36)
    parallels = [(along, np.full(along.shape, sign * each)) for each in np.arange(10.0, 81.0, 10.0)]
    meridians = [(np.full(towards.shape, each), sign * towards) for each in range(-180, 180, 30)]
    drawn = [*parallels, *meridians]
    lon, lat = (np.concatenate([each[axis] for each in drawn]) for axis in (0, 1))
    first = np.zeros(lon.shape, bool)
    first[np.r_[0, np.cumsum([len(each[0]) for each in drawn])[:-1]]] = True
    x, y = transform(CRS84, canvas.crs)(lon, lat)
    return _within(x, y, first, np.ones(lon.shape, bool), canvas)


def parallels(canvas: Canvas) -> list[tuple[int, int, str]]:
    """Return labels for the parallels of a polar canvas: column and row in pixels, and words; none of a canvas in degrees.

    They stand along one meridian, that on which most of them are inside.
    """
    import numpy as np

    if canvas.crs not in _POLE_SIGN:
        return []
    sign, latitudes = _POLE_SIGN[canvas.crs], np.arange(10, 81, 10)
    found: list[tuple[int, int, str]] = []
    for meridian in (0, 90, -90, 180, 30, -30, 60, -60, 120, -120, 150, -150):
        x, y = transform(CRS84, canvas.crs)(np.full(latitudes.shape, float(meridian)), latitudes * float(sign))
        column, row = canvas.pixels(x, y)
        inside = (column > _MARGIN) & (column < canvas.width - _MARGIN) & (row > _MARGIN) & (row < canvas.height - _MARGIN)
        if inside.sum() > len(found):
            places = zip(column[inside], row[inside], latitudes[inside].tolist(), strict=True)
            found = [(round(float(a)), round(float(b)), f"{latitude}°{'N' if sign > 0 else 'S'}") for a, b, latitude in places]
    return found


_MARGIN = 24
"""How near to the edge of a canvas no label stands, in pixels."""


def _filled(x: Array, y: Array, first: Array, canvas: Canvas) -> list[Array]:
    """Return the rings that touch the canvas, held within a frame around it."""
    import numpy as np

    starts = np.flatnonzero(first)
    column, row = canvas.pixels(x, y)
    spans = [(np.minimum.reduceat(each, starts), np.maximum.reduceat(each, starts)) for each in (column, row)]
    touching = (spans[0][1] > 0) & (spans[0][0] < canvas.width) & (spans[1][1] > 0) & (spans[1][0] < canvas.height)
    # Smaller than two pixels is not seen.
    touching &= np.maximum(spans[0][1] - spans[0][0], spans[1][1] - spans[1][0]) > 1
    column = np.clip(column, -canvas.width, 2 * canvas.width)
    row = np.clip(row, -canvas.height, 2 * canvas.height)
    ends = np.r_[starts[1:], len(x)]
    found = []
    for begin, end in zip(starts[touching], ends[touching], strict=True):
        spots = np.round(np.stack([column[begin:end], row[begin:end]], axis=1)).astype("int32")
        spots = spots[np.r_[True, (np.diff(spots, axis=0) != 0).any(axis=1)]]
        # A point between two on the same side of the frame adds nothing.
        still = np.diff(spots, axis=0) == 0
        on_frame = (spots == [-canvas.width, -canvas.height]) | (spots == [2 * canvas.width, 2 * canvas.height])
        between = np.zeros(len(spots), bool)
        between[1:-1] = (still[1:] & still[:-1] & on_frame[1:-1]).any(axis=1)
        found.append(spots[~between])
    return [each for each in found if len(each) > 2]


@cache
def _rings() -> tuple[Array, Array, Array]:
    """Return :func:`_stored` as rings: Antarctica, which the lines leave open, is closed along the south pole."""
    import numpy as np

    lon, lat, first = _stored()
    starts = np.flatnonzero(first)
    ends = np.r_[starts[1:], len(lon)]
    parts = []
    for begin, end in zip(starts, ends, strict=True):
        points = np.stack([lon[begin:end], lat[begin:end]])
        if abs(points[0, -1] - points[0, 0]) > 180.0:
            points = np.c_[points, [[points[0, -1], points[0, 0]], [-90.0, -90.0]]]
        parts.append(points)
    whole = np.concatenate(parts, axis=1)
    begins = np.zeros(whole.shape[1], bool)
    begins[np.r_[0, np.cumsum([each.shape[1] for each in parts])[:-1]]] = True
    return whole[0], whole[1], begins


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
