"""A cut of a cube: the values that an answer has, with all that locates them."""

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
    """A cut of a cube: windows with the labels and the values in them.

    ``labels`` has, by axis name: decoded numbers (turned as the answer turns them), text, or for time the numbers of
    :func:`cubeport.cubes.selection.order`; ``bounds`` likewise, (n, 2). ``positions`` are x and y of grids without straight axes,
    in the window. ``values`` are decoded, by field, in the order of the field's own dimensions.
    """

    description: CubeDescription
    windows: Windows
    labels: Mapping[str, Array]
    bounds: Mapping[str, Array]
    values: Mapping[str, Array]
    positions: tuple[Array, Array] | None = None
    times: Array | None = None
    """Times that are no axis, in the window, along ``description.temporal.dimensions``; missing ones are ``UNKNOWN``."""
    heights: Array | None = None
    """Heights of positions, of their shape."""
    point: bool = False
    """Whether one position was asked for: its domain is a point, a series or a profile."""
