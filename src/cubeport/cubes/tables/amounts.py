"""Weights that the data of another cube say, such as people: how much of them is in each cell of a grid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cubeport.cubes.cells import Cells
from cubeport.cubes.tables.weights import StraightGrid, cell_areas
from cubeport.errors import InvalidRequest, NotAcceptable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]
    type Numbers = NDArray[np.float64]

_PER_AREA = re.compile(
    r"\bk?m\s*(?:\^|\*\*)?\s*-\s*2\b|/\s*k?m\s*(?:\^|\*\*)?\s*2\b|\bha-1\b|/\s*ha\b|\bper square\b", re.IGNORECASE
)
_METHOD = re.compile(r"(?:^|\s)area:\s*(\w+)")
_TOUCHING = 1e-6
"""How far edges of neighbours may be apart, in cells."""


def is_per_area(attributes: Mapping[str, Any]) -> bool:
    """Return whether the values are per area, such as people per km², and not a number of each cell.

    ``cell_methods`` decide (CF 7.3: ``area: sum``, ``area: mean``), otherwise the units.
    """
    method = _METHOD.search(str(attributes.get("cell_methods", "")))
    if method is not None and method[1] in ("sum", "mean"):
        return method[1] == "mean"
    return _PER_AREA.search(str(attributes.get("units", ""))) is not None


def checked(values: Array) -> Numbers:
    """Return values as weights, missing ones as 0. Raises InvalidRequest if some are negative."""
    found = np.where(np.isfinite(values), values, 0.0).astype("float64")
    if (found < 0).any():
        raise InvalidRequest(
            "Some of the weights are negative.", next_step="Name a variable that counts something, such as people."
        )
    return found


def moved(values: Numbers, source: StraightGrid, target: StraightGrid) -> Numbers:
    """Return what is in each cell of *target*, ``(y, x)``, of amounts that lie evenly in the cells of *source*, ``(y, x)``.

    Both grids have longitudes and latitudes. What lies between the cells of the target, or outside, is in none of them.

    Raises
    ------
    NotAcceptable
        If the cells of the source do not touch, so that it is unknown what is between them.
    """
    # Evenly on the sphere is evenly along the sine of the latitude.
    along_y = _between(values, _edges(source.y, "latitude"), target.y, sine=True)
    return _between(along_y.T, _edges(source.x, "longitude"), target.x, circle=source.x.circle or target.x.circle).T


def per_cell(values: Numbers, grid: StraightGrid) -> Numbers:
    """Return what is in each cell, ``(y, x)``, of values per area."""
    rows, columns = (each.ravel() for each in np.indices(values.shape))
    return values * cell_areas(grid, rows, columns).reshape(values.shape)


def _edges(axis: Cells, name: str) -> tuple[Array, Numbers]:
    """Return the order of the cells from low to high, and their edges, one more than cells. No place is twice among them."""
    cells, own = (axis, np.arange(len(axis.lower))) if axis.once is None else (axis.once.cells, axis.once.index)
    order = np.argsort(cells.lower, kind="stable")
    lower, upper = cells.lower[order].astype("float64"), cells.upper[order].astype("float64")
    if (np.abs(lower[1:] - upper[:-1]) > _TOUCHING * (upper - lower)[:-1] + 1e-9).any() or (upper <= lower).any():
        raise NotAcceptable(f"The cells of the weights do not touch along {name}.")
    return own[order], np.append(lower, upper[-1])


def _between(values: Numbers, along: tuple[Array, Numbers], to: Cells, *, sine: bool = False, circle: bool = False) -> Numbers:
    """Return the sums of *values* along their first axis in each cell of *to*. A part of a cell counts by its length."""
    order, edges = along
    running = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[order], axis=0)])
    scaled = np.sin(np.radians(np.clip(edges, -90, 90))) if sine else edges

    def up_to(places: Array) -> Numbers:
        """Return the sum of everything below each place."""
        at = np.asarray(places, "float64")
        turns = np.floor((at - edges[0]) / 360.0) if circle else np.zeros(len(at))
        at = at - 360.0 * turns
        at = np.sin(np.radians(np.clip(at, -90, 90))) if sine else at
        cell = np.clip(np.searchsorted(scaled, at, side="right") - 1, 0, len(scaled) - 2)
        part = np.clip((at - scaled[cell]) / (scaled[cell + 1] - scaled[cell]), 0.0, 1.0)[:, None]
        found: Numbers = running[cell] + part * (running[cell + 1] - running[cell]) + turns[:, None] * running[-1]
        return found

    return np.maximum(up_to(to.upper) - up_to(to.lower), 0.0)
