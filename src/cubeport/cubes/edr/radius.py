"""EDR radius: the cells whose centre is within a distance of a point, measured on the ellipsoid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr import regions
from cubeport.cubes.edr.distances import UNITS, distance, unit
from cubeport.cubes.edr.geometry import canonical, read
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.part import Deadline

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyproj import Geod

    type Array = NDArray[Any]

_DEGREE = 110_500.0
"""Less than the shortest degree of latitude on WGS 84 (110,574 m), so that a box in degrees surrounds the circle."""
_SHORTEST_RADIUS = 6_335_000.0
"""Less than the smallest radius of curvature of WGS 84 (6,335,439 m), so that an angle computed with it is never too small."""
_STRIP = 1 << 18
"""How many distances are computed at a time."""


@dataclass(frozen=True)
class Circle:
    """All places within *metres* of a point (degrees), along geodesics of WGS 84."""

    lon: float
    lat: float
    metres: float

    @cached_property
    def _earth(self) -> Geod:
        from pyproj import Geod

        return Geod(ellps="WGS84")

    @property
    def middle(self) -> tuple[float, float]:
        return self.lon, self.lat

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        up = self.metres / _DEGREE
        south, north = max(-90.0, self.lat - up), min(90.0, self.lat + up)
        # A cap that contains a pole has every longitude. No other cap extends further than this in longitude (right spherical
        # triangle: sin(longitude) = sin(radius) / cos(latitude)).
        angle = self.metres / _SHORTEST_RADIUS
        wide = math.sin(angle) / math.cos(math.radians(self.lat)) if angle < math.pi / 2 and abs(self.lat) < 90 else 1.0
        if south == -90 or north == 90 or wide >= 1:
            return -180.0, south, 180.0, north
        reach = math.degrees(math.asin(wide)) * 1.01
        return (-180.0, south, 180.0, north) if reach >= 180 else (self.lon - reach, south, self.lon + reach, north)

    def on_axes(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        import numpy as np

        found = np.zeros((lat.size, lon.size), dtype=bool)
        step = max(1, _STRIP // max(1, lon.size))
        for start in range(0, lat.size, step):
            rows = lat[start : start + step]
            found[start : start + step] = self.anywhere(*np.meshgrid(lon, rows), deadline)
        return found

    def anywhere(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        import numpy as np

        found = np.zeros(lon.size, dtype=bool)
        x, y = np.asarray(lon, "float64").reshape(-1), np.asarray(lat, "float64").reshape(-1)
        for start in range(0, x.size, _STRIP):
            deadline()
            part = slice(start, start + _STRIP)
            # Missing positions have no distance.
            known = np.flatnonzero(np.isfinite(x[part]) & np.isfinite(y[part]) & (np.abs(y[part]) <= 90))
            one = np.broadcast_to(np.float64(1), known.shape)
            metres = self._earth.inv(self.lon * one, self.lat * one, x[part][known], y[part][known])[2]
            found[start + known] = np.asarray(metres) <= self.metres
        return found.reshape(lon.shape)


def _circle(place: Place) -> Circle:
    point = read(place["coords"])
    return Circle(float(point.x), float(point.y), float(place["within"]) * UNITS[place["within-units"]])


def _link_variables(_: CubeDescription) -> Mapping[str, Any]:
    return {"within_units": list(UNITS)}


QUERY = EdrQuery(
    name="radius",
    text="Values of the cells whose centres are within a distance of a point",
    parameters=(
        Parameter("coords", "POINT(lon lat); CRS84", partial(canonical, types=("Point",))),
        Parameter("within", "The distance, above 0", distance),
        Parameter("within-units", ", ".join(UNITS), unit),
    ),
    resolve=regions.resolving(_circle),
    settle=regions.settling(_circle),
    link_variables=_link_variables,
)
