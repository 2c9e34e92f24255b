"""Grids in a cylindrical projection (Mercator, equirectangular and others) that go past the projection's seam, mostly 180°.

Their x goes on beyond half the world. The projection never gives such an x: a place beyond the seam is a whole world away from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cubeport.cubes.cells import Cells, with_once
from cubeport.cubes.description import BoundingBox


@dataclass(frozen=True, slots=True)
class Cylinder:
    """A pyproj transformer from CRS84, x before y, whose x is in the half worlds on both sides of the middle of a grid."""

    onto: Any
    world: float
    """The width of the world, in the units of the projection."""
    west: float
    east: float
    """The outer edges of the grid, in the units of the projection."""
    falls: bool = False
    """Whether x is stored from east to west."""

    @property
    def target_crs(self) -> Any:
        return self.onto.target_crs

    def transform(self, x: Any, y: Any, direction: str = "FORWARD") -> tuple[Any, Any]:
        """Return points of the projection, or with ``INVERSE`` of CRS84."""
        import numpy as np

        east, north = self.onto.transform(x, y, direction=direction)
        if direction == "INVERSE":
            return east, north
        # Of a column that comes round again it is the first as stored (cubeport.cubes.cells.Once).
        middle = (self.west + self.east - self.world) / 2
        first = max(self.east - self.world, middle) if self.falls else min(self.west, middle)
        with np.errstate(invalid="ignore"):  # a pole is infinitely far away
            placed = np.where(np.isfinite(east), first + np.remainder(np.subtract(east, first), self.world), east)
        return (placed if placed.ndim else float(placed)), north

    def across(self, west: float, width: float) -> tuple[float, float] | None:
        """Return the range of x that surrounds what the grid has of some longitudes, ``None`` if it has none of them."""
        left, span = float(self.transform(west, 0.0)[0]), width * self.world / 360.0
        parts = [low for low in (left - self.world, left) if low <= self.east and low + span >= self.west]
        return (parts[0], parts[-1] + span) if parts else None


def world_of(onto: Any) -> float | None:
    """Return how wide the world is in the units of a cylindrical projection; ``None`` if the projection is not one.

    Parameters
    ----------
    onto
        A pyproj transformer from CRS84, x before y.
    """
    import numpy as np

    xs, _ = (np.reshape(each, (2, 3)) for each in onto.transform([0.0, 1.0, 2.0] * 2, [0.0] * 3 + [50.0] * 3))
    if not np.isfinite(xs).all() or not np.allclose(xs[0], xs[1], rtol=0, atol=1e-9 * float(np.abs(xs).max())):
        return None
    # Meridians are vertical lines. One of the two steps may be over the seam.
    world = 360.0 * float(np.diff(xs[0]).max())
    return world if world > 0 and np.allclose(np.diff(xs[0]) % world, world / 360.0, rtol=1e-9) else None


def longitudes(onto: Any, columns: Cells, factor: float) -> Cells | None:
    """Return the columns of a grid in a cylindrical projection as cells of longitude, on the circle; ``None`` in any other.

    Parameters
    ----------
    factor
        Converts stored numbers to the units of the projection by multiplication.
    """
    world = world_of(onto)
    if world is None:
        return None
    zero = float(onto.transform(0.0, 0.0)[0])
    labels, lower, upper = ((each * factor - zero) * 360.0 / world for each in (columns.labels, columns.lower, columns.upper))
    return with_once(Cells(labels, lower, upper, circle=True, grain=columns.grain))


def around_seam(onto: Any, native: BoundingBox, factor: float, *, falls: bool = False) -> Any:
    """Return the transformer as a :class:`Cylinder` if a grid with these outer edges, as stored, goes past the seam of a
    cylindrical projection, else unchanged. *falls* says that its x are stored from east to west.
    """
    import numpy as np

    world = world_of(onto)
    if world is None:
        return onto
    west, east = native[0] * factor, native[2] * factor
    middle = float(onto.transform(0.0, 0.0)[1])
    inner = np.array([west, east]) + np.array([1e-6, -1e-6]) * (east - west)
    again, _ = onto.transform(*onto.transform(inner, np.full(2, middle), direction="INVERSE"))
    return Cylinder(onto, world, west, east, falls) if bool((np.abs(again - inner) > world / 2).any()) else onto
