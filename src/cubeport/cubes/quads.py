"""The cells of a curvilinear grid that has only centres: quadrilaterals between the midpoints to the neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

_WIDE = 6.0
"""A cell of a curvilinear grid that is this many times wider than the median is a fold of the grid."""


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
    centre = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)
    wide = np.full((lon.shape[0] + 2, lon.shape[1] + 2, 3), np.nan)
    wide[1:-1, 1:-1] = centre
    first, last = (1, -2) if lon.shape[0] > 1 else (0, -1)
    wide[0, 1:-1] = 2 * centre[0] - centre[first]
    wide[-1, 1:-1] = 2 * centre[-1] - centre[last]
    wide[:, 0], wide[:, -1] = 2 * wide[:, 1] - wide[:, 2], 2 * wide[:, -2] - wide[:, -3]
    corners = (wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:]) / 4
    corners /= np.linalg.norm(corners, axis=-1, keepdims=True)
    one = np.linalg.norm(corners[1:, 1:] - corners[:-1, :-1], axis=-1)
    other = np.linalg.norm(corners[1:, :-1] - corners[:-1, 1:], axis=-1)
    size = np.degrees(np.maximum(one, other))
    known = np.isfinite(size)
    with np.errstate(invalid="ignore"):
        sound = known & (size < _WIDE * (np.median(size[known]) if known.any() else 1))
    return corners, np.where(known, size, 0), sound
