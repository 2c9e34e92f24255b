"""Find the cells nearest to a point on grids whose positions are arrays, without testing all cells.

An index divides the positions into blocks. It is made once for an array of positions and is kept as long as the array. For each
block it contains a ball around the block on the unit sphere. A block cannot contain the nearest cell if its ball is farther away
than the far side of another ball.
"""

from __future__ import annotations

import math
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_BLOCK = 2_048
"""The approximate number of cells of a block."""

_kept: dict[tuple[int, int], tuple[Any, Index]] = {}
_lock = threading.Lock()


def index_of(lon: Array, lat: Array) -> Index:
    """Return the index of these positions. It is made by the first call and dropped with the array."""
    key = id(lon), id(lat)
    with _lock:  # only one is made at a time, which limits the memory
        found = _kept.get(key)
        if found is None or found[0]() is not lon:
            index = _made(lon, lat)
            _kept[key] = (weakref.ref(lon, partial(_forget, _kept, key)), index)
            return index
        return found[1]


def _forget(kept: dict[tuple[int, int], Any], key: tuple[int, int], _: object) -> None:
    kept.pop(key, None)


@dataclass(frozen=True, slots=True)
class Index:
    """Positions divided into blocks."""

    lon: Array
    lat: Array
    blocks: tuple[tuple[slice, ...], ...]
    centres: Array
    """The centre of each block on the unit sphere, ``(block, 3)``; NaN for a block without positions."""
    radii: Array
    """The largest distance of the positions of each block from its centre, as a chord."""

    def nearest(self, lon: float, lat: float, count: int = 1) -> list[tuple[tuple[int, ...], float]]:
        """Return the *count* cells nearest to the point, the nearest first, each with its distance as an angle in radians."""
        import numpy as np

        point = on_sphere(np.array(lon), np.array(lat))
        far = np.sqrt(((self.centres - point) ** 2).sum(axis=1))
        low = far - self.radii
        found: list[tuple[tuple[int, ...], float]] = []
        for block in np.argsort(low).tolist():
            if not np.isfinite(low[block]) or (len(found) == count and low[block] > found[-1][1]):
                break
            cut = self.blocks[block]
            chords = np.sqrt(((on_sphere(self.lon[cut], self.lat[cut]) - point) ** 2).sum(axis=-1))
            flat = chords.reshape(-1)
            known = np.flatnonzero(np.isfinite(flat))
            for at in known[np.argsort(flat[known], kind="stable")[:count]].tolist():
                inner = np.unravel_index(at, chords.shape)
                cell = tuple(int(number) + piece.start for number, piece in zip(inner, cut, strict=True))
                found.append((cell, float(flat[at])))
            found = sorted(found, key=lambda each: (each[1], each[0]))[:count]
        return [(cell, float(2 * np.arcsin(min(1.0, chord / 2)))) for cell, chord in found]


class Sphere:
    """Nodes on the unit sphere, ``(n, 3)``, at least one, for questions about many points at once.

    A stereographic map shows circles as circles. So a circle on the sphere is a query on the map of its hemisphere.
    """

    def __init__(self, nodes: Array) -> None:
        import numpy as np
        import shapely

        self._nodes = nodes
        self._maps: list[tuple[float, Array, Any]] = []
        for sign in (1.0, -1.0):
            own = np.flatnonzero(nodes[:, 2] * sign > -_FAR)
            places: Any = shapely.points(*_on_map(nodes[own], sign))
            self._maps.append((sign, own, shapely.STRtree(places)))

    def nearest(self, points: Array) -> tuple[Array, Array]:
        """Return the number of the node nearest to each point, and how far it is, as an angle."""
        import numpy as np

        found = self._first(points)
        best = _cosines(points, self._nodes[found])
        at, inside, near = self._within(points, np.arccos(np.clip(best, -1, 1)))
        np.maximum.at(best, at, near)
        nearest = near == best[at]
        found[at[nearest]] = inside[nearest]
        return found, _angles(points, self._nodes[found])

    def spacing(self, numbers: Array, count: int) -> Array:
        """Return the angle from each of some nodes to the last of its *count* nearest neighbours at other places, or to the
        nearest on another parallel if that is farther away; NaN where they are too far away to be found at once.
        """
        import numpy as np

        points = self._nodes[numbers]
        nearest = _angles(points, self._nodes[self._first(points, exclusive=True)])
        found = np.full(len(points), np.nan)
        left = np.arange(len(points))
        for times in (2.5, 8.0):  # few have all of these neighbours so far away, and far more are within
            reach, known = self._reaching(points[left], times * nearest[left], count)
            found[left[known]] = reach[known]
            left = left[~known]
            if not left.size:
                break
        return found

    def _reaching(self, points: Array, far: Array, count: int) -> tuple[Array, Array]:
        """Return the spacing of nodes by their neighbours that are at most *far* away, and of which of them these are enough."""
        import numpy as np

        at, inside, _ = self._within(points, far)
        angle = _angles(points[at], self._nodes[inside])
        other = is_across(np.arcsin(np.clip(self._nodes[inside, 2], -1, 1)) - np.arcsin(np.clip(points[at, 2], -1, 1)), angle)
        at, angle, other = at[angle > 0], angle[angle > 0], other[angle > 0]
        order = np.lexsort((angle, at))
        at, angle, other = at[order], angle[order], other[order]
        begin, end = np.searchsorted(at, np.arange(len(points))), np.searchsorted(at, np.arange(len(points)), side="right")
        across = np.full(len(points), np.inf)
        np.minimum.at(across, at[other], angle[other])
        known = (end - begin >= count) & np.isfinite(across)
        found = np.full(len(points), np.nan)
        found[known] = np.maximum(angle[begin[known] + count - 1], across[known])
        return found, known

    def _first(self, points: Array, *, exclusive: bool = False) -> Array:
        """Return the node nearest to each point on the map, which is nearly that on the sphere."""
        import numpy as np
        import shapely

        found = np.zeros(len(points), "int64")
        for sign, own, tree in self._maps:
            mine = _half(points, sign)
            if mine.size and own.size:
                places = shapely.points(*_on_map(points[mine], sign))
                at, nearest = tree.query_nearest(places, all_matches=False, exclusive=exclusive)
                found[mine[at]] = own[nearest]
        return found

    def _within(self, points: Array, far: Array) -> tuple[Array, Array, Array]:
        """Return the pairs of a point and a node at most *far* from it, as an angle, and the cosines of their angles."""
        import numpy as np
        import shapely

        found: list[tuple[Array, Array]] = []
        for sign, own, tree in self._maps:
            mine = _half(points, sign)
            if not mine.size or not own.size:
                continue
            x, y = _on_map(points[mine], sign)
            away = np.hypot(x, y)
            angle = 2 * np.arctan(away)
            inner, outer = np.tan((angle - far[mine]) / 2), np.tan(np.minimum(angle + far[mine], 3.1) / 2)
            moved = (inner + outer) / 2 / np.where(away > 0, away, 1)
            radius = (outer - inner) / 2 * (1 + 1e-9)
            at, inside = tree.query(shapely.points(x * moved, y * moved), predicate="dwithin", distance=radius)
            found.append((mine[at], own[inside]))
        at, inside = (np.concatenate(each) for each in zip(*found, strict=True))
        return at, inside, _cosines(points[at], self._nodes[inside])


def is_across(north: Any, angle: Any) -> Any:
    """Return whether a neighbour at an angle, of which *north* is along the meridian, is on another parallel: 30° from it."""
    return abs(north) > angle / 2


def _half(points: Array, sign: float) -> Array:
    """Return the numbers of the points on the northern (1) or southern (-1) hemisphere."""
    import numpy as np

    return np.flatnonzero(points[:, 2] >= 0 if sign > 0 else points[:, 2] < 0)


def _angles(one: Array, other: Array) -> Array:
    import numpy as np

    found: Array = 2 * np.arcsin(np.minimum(1.0, np.linalg.norm(one - other, axis=1) / 2))
    return found


_FAR = 0.995
"""The sine of a latitude on the other hemisphere. What is beyond it would be far away on the map."""


def _on_map(points: Array, sign: float) -> tuple[Array, Array]:
    """Return points on the stereographic map around the north pole (1) or the south pole (-1)."""
    x, y, z = points.T
    return x / (1 + sign * z), y / (1 + sign * z)


def _cosines(one: Array, other: Array) -> Array:
    import numpy as np

    found: Array = np.einsum("ij,ij->i", one, other)
    return found


def _made(lon: Array, lat: Array) -> Index:
    import numpy as np

    side = max(1, round(_BLOCK ** (1 / lon.ndim)))
    steps = [[slice(start, min(start + side, size)) for start in range(0, size, side)] for size in lon.shape]
    blocks: list[tuple[slice, ...]] = [()]
    for step in steps:
        blocks = [(*block, piece) for block in blocks for piece in step]
    centres, radii = np.full((len(blocks), 3), np.nan), np.full(len(blocks), np.nan)
    for number, block in enumerate(blocks):
        west, east = _ends(lon[block])
        south, north = _ends(lat[block])
        if west <= east and south <= north:  # false if all positions are missing
            centres[number] = on_sphere(np.array((west + east) / 2), np.array((south + north) / 2))
            # Along the meridian, then along the parallel: no position is farther from the centre than this, and a chord is shorter.
            widest = math.cos(math.radians(0 if south <= 0 <= north else min(abs(south), abs(north))))
            radii[number] = math.radians((north - south) / 2 + (east - west) / 2 * widest) + 1e-12
    return Index(lon, lat, tuple(blocks), centres, radii)


def _ends(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest known value; (inf, −inf) if none is known."""
    import numpy as np

    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (math.inf, -math.inf)


def on_sphere(lon: Array, lat: Array) -> Array:
    """Return positions in degrees as points of the unit sphere, along a last dimension of three."""
    import numpy as np

    east, north = np.radians(np.asarray(lon, "float64")), np.radians(np.asarray(lat, "float64"))
    with np.errstate(invalid="ignore"):  # infinite positions are missing positions
        flat = np.cos(north)
        return np.stack([flat * np.cos(east), flat * np.sin(east), np.sin(north)], axis=-1)
