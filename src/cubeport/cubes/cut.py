"""A cut of a cube: the values of an answer with their coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut of a cube: index windows with their labels and values.

    ``labels`` contains, by axis name, decoded numbers (longitudes shifted as in the answer), text, or for time the numbers of
    :func:`cubeport.cubes.selection.order`; ``bounds`` likewise, (n, 2). ``positions`` contains x and y of grids without straight
    axes, in the window. ``values`` contains the decoded values by field, in the order of the field's own dimensions.
    """

    description: CubeDescription
    windows: Windows
    labels: Mapping[str, Array]
    bounds: Mapping[str, Array]
    values: Mapping[str, Array]
    positions: tuple[Array, Array] | None = None
    times: Array | None = None
    """Times that are not an axis, in the window, along ``description.temporal.dimensions``; missing times are ``UNKNOWN``."""
    heights: Array | None = None
    """Heights of the positions, with the same shape."""
    point: bool = False
    """Whether the caller asked for one position. The domain is then a point, a series or a profile."""
