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

        point = _on_sphere(np.array(lon), np.array(lat))
        far = np.sqrt(((self.centres - point) ** 2).sum(axis=1))
        low = far - self.radii
        found: list[tuple[tuple[int, ...], float]] = []
        for block in np.argsort(low).tolist():
            if not np.isfinite(low[block]) or (len(found) == count and low[block] > found[-1][1]):
                break
            cut = self.blocks[block]
            chords = np.sqrt(((_on_sphere(self.lon[cut], self.lat[cut]) - point) ** 2).sum(axis=-1))
            flat = chords.reshape(-1)
            known = np.flatnonzero(np.isfinite(flat))
            for at in known[np.argsort(flat[known], kind="stable")[:count]].tolist():
                inner = np.unravel_index(at, chords.shape)
                cell = tuple(int(number) + piece.start for number, piece in zip(inner, cut, strict=True))
                found.append((cell, float(flat[at])))
            found = sorted(found, key=lambda each: (each[1], each[0]))[:count]
        return [(cell, float(2 * np.arcsin(min(1.0, chord / 2)))) for cell, chord in found]


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
            centres[number] = _on_sphere(np.array((west + east) / 2), np.array((south + north) / 2))
            # Along the meridian, then along the parallel: no position is farther from the centre than this, and a chord is shorter.
            widest = math.cos(math.radians(0 if south <= 0 <= north else min(abs(south), abs(north))))
            radii[number] = math.radians((north - south) / 2 + (east - west) / 2 * widest) + 1e-12
    return Index(lon, lat, tuple(blocks), centres, radii)


def _ends(values: Array) -> tuple[float, float]:
    """Return the smallest and the largest known value; (inf, −inf) if none is known."""
    import numpy as np

    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (math.inf, -math.inf)


def _on_sphere(lon: Array, lat: Array) -> Array:
    """Return positions in degrees as points of the unit sphere, along a last dimension of three."""
    import numpy as np

    east, north = np.radians(np.asarray(lon, "float64")), np.radians(np.asarray(lat, "float64"))
    with np.errstate(invalid="ignore"):  # infinite positions are missing positions
        flat = np.cos(north)
        return np.stack([flat * np.cos(east), flat * np.sin(east), np.sin(north)], axis=-1)
