"""The cells of a curvilinear grid: by their vertices, or if it has only centres, quadrilaterals between midpoints to neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

_WIDE = 6.0
"""A cell of a curvilinear grid that is this many times wider than the median is a fold of the grid."""


@dataclass(frozen=True, slots=True)
class Outlines:
    """The vertices of the cells of a curvilinear grid."""

    lon: Array
    lat: Array
    """Degrees, ``(rows, columns, 4)``, in order around each cell."""
    size: Array
    """The longer diagonals in degrees, ``(rows, columns)``; NaN of cells whose vertices are missing or not around their centre."""


def quads(lon: Array, lat: Array) -> tuple[Array, Array, Array]:
    """Return the corners of the cells, the length of their diagonals in degrees, and which cells are valid.

    Parameters
    ----------
    lon, lat
        The centres in degrees, ``(rows, columns)``.

    Returns
    -------
    The corners are unit vectors, ``(rows + 1, columns + 1, 3)``; the others are ``(rows, columns)``. A fold of the grid is no cell.
    """
    import numpy as np

    a, b = np.radians(lon), np.radians(lat)
    flat = np.cos(b)
    centre = np.stack([flat * np.cos(a), flat * np.sin(a), np.sin(b)], axis=-1)
    placed = np.isfinite(centre).all(axis=-1)
    centre[~placed] = np.nan
    wide = np.full((lon.shape[0] + 2, lon.shape[1] + 2, 3), np.nan)
    wide[1:-1, 1:-1] = centre
    first, last = (1, -2) if lon.shape[0] > 1 else (0, -1)
    wide[0, 1:-1] = 2 * centre[0] - centre[first]
    wide[-1, 1:-1] = 2 * centre[-1] - centre[last]
    wide[:, 0], wide[:, -1] = 2 * wide[:, 1] - wide[:, 2], 2 * wide[:, -2] - wide[:, -3]
    if not placed.all():
        # A cell beside one without a position has edges too. Twice: the corners need the neighbours across, and they theirs.
        wide = _continued(_continued(wide))
    corners = (wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:]) / 4
    corners /= _length(corners)[..., None]
    one = _length(corners[1:, 1:] - corners[:-1, :-1])
    other = _length(corners[1:, :-1] - corners[:-1, 1:])
    size = np.degrees(np.maximum(one, other))
    known = np.isfinite(size) & placed
    with np.errstate(invalid="ignore"):
        sound = known & (size < _WIDE * (np.median(size[known]) if known.any() else 1))
    return corners, np.where(known, size, 0), sound


def _length(vectors: Array) -> Array:
    """Return the lengths of vectors along the last axis, in half the time of ``np.linalg.norm``."""
    import numpy as np

    length: Array = np.sqrt(np.einsum("...i,...i", vectors, vectors))
    return length


def _continued(centres: Array) -> Array:
    """Return the centres with those that are missing continued from two neighbours in a row, along rows and columns."""
    import numpy as np

    rows, columns, _ = centres.shape
    around = np.pad(centres, ((2, 2), (2, 2), (0, 0)), constant_values=np.nan)
    total, count = np.zeros_like(centres), np.zeros((rows, columns, 1))
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        near, far = (around[2 + n * down : 2 + n * down + rows, 2 + n * right : 2 + n * right + columns] for n in (1, 2))
        guess = 2 * near - far
        known = np.isfinite(guess).all(axis=-1, keepdims=True)
        total += np.where(known, guess, 0)
        count += known
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(centres) & (count > 0), total / count, centres)
