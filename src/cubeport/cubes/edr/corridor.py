"""EDR corridor: the cells whose centre is within half a width of a line, and half a height of a level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr import regions
from cubeport.cubes.edr.distances import UNITS, distance, unit
from cubeport.cubes.edr.geometry import canonical, read
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.edr.radius import Circle
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Selection, Slice, Subset, Trim
from cubeport.cubes.windows import Labels, Windows
from cubeport.errors import InvalidRequest, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_RADIUS_M = 6_371_008.8
"""The mean radius of the Earth (IUGG). Distances from the line are computed on the sphere."""
_MOST_POINTS = 400
"""The largest number of points of the line: its vertices, and points between them that keep it straight in longitude and
latitude."""
_STEP = 0.5
_STRIP = 1 << 16
"""How many cells are compared with the line at a time."""


@dataclass(frozen=True)
class Band:
    """All places within *metres* of a line that is straight in longitude and latitude between its vertices."""

    line: Any
    metres: float

    @cached_property
    def _parts(self) -> tuple[Array, Array]:
        """The start and end points of the segments of the line, as unit vectors (n, 3)."""
        import numpy as np
        import shapely

        step = max(_STEP, self.line.length / _MOST_POINTS)
        starts, ends = [], []
        for part in getattr(self.line, "geoms", [self.line]):
            points = _vectors(*shapely.get_coordinates(shapely.segmentize(part, step)).T)
            starts.append(points[:-1])
            ends.append(points[1:])
        return np.concatenate(starts), np.concatenate(ends)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        west, south, east, north = self.line.bounds
        ends = [Circle(lon, lat, self.metres).bounds for lon in (west, east) for lat in (south, north)]
        low, high = min(each[1] for each in ends), max(each[3] for each in ends)
        wide = max(lon - box[0] if box[2] - box[0] < 360 else 360.0 for lon, box in ((west, ends[0]), (west, ends[1])))
        if low <= -90 or high >= 90 or east - west + 2 * wide >= 360:
            return -180.0, max(low, -90.0), 180.0, min(high, 90.0)
        return west - wide, low, east + wide, high

    @property
    def middle(self) -> tuple[float, float]:
        point = self.line.interpolate(0.5, normalized=True)
        return float(point.x), float(point.y)

    def on_axes(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        import numpy as np

        return self.anywhere(*np.meshgrid(lon, lat), deadline)

    def anywhere(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        import numpy as np

        x, y = np.asarray(lon, "f8").ravel(), np.asarray(lat, "f8").ravel()
        found = np.zeros(x.size, bool)
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        for start in range(0, known.size, _STRIP):
            deadline()
            part = known[start : start + _STRIP]
            found[part] = self._nearest(_vectors(x[part], y[part])) * _RADIUS_M <= self.metres
        return found.reshape(np.shape(lon))

    def _nearest(self, points: Array) -> Array:
        """Return the angle from each point to the nearest segment of the line."""
        import numpy as np

        least = np.full(len(points), np.inf)
        for a, b in zip(*self._parts, strict=True):
            ends = np.minimum(_angle(points, a), _angle(points, b))
            normal = np.cross(a, b)
            size = np.linalg.norm(normal)
            if size > 1e-12:
                normal = normal / size
                # The foot of the perpendicular is on the segment if neither of these is negative.
                inside = (points @ np.cross(normal, a) >= 0) & (points @ np.cross(b, normal) >= 0)
                across = np.abs(np.arcsin(np.clip(points @ normal, -1, 1)))
                ends = np.where(inside, np.minimum(across, ends), ends)
            least = np.minimum(least, ends)
        return least


def _vectors(lon: Array, lat: Array) -> Array:
    import numpy as np

    a, b = np.radians(lon), np.radians(lat)
    return np.column_stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])


def _angle(points: Array, to: Array) -> Array:
    import numpy as np

    return np.asarray(2 * np.arcsin(np.clip(np.linalg.norm(points - to, axis=1) / 2, 0, 1)))


def _band(place: Place) -> Band:
    return Band(read(place["coords"]), float(place["corridor-width"]) * UNITS[place["width-units"]] / 2)


_around = regions.resolving(_band)


def _resolve(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    """Return the box around the band, between the heights. Raises as :func:`cubeport.cubes.edr.regions.around`."""
    height, units = place.value("corridor-height"), place.value("height-units")
    if height is None and units is None:
        return _around(description, labels, selection, place)
    z = description.axis_of("z")
    level = next((each for each in selection.subsets if each.axis == "z"), None)
    if z is None:
        raise _wrong("corridor-height", "no-axis", "these data have no levels")
    if height is None or units is None:
        raise _wrong("height-units", "missing", "corridor-height and height-units come together")
    if level is None or not isinstance(level.part, Slice) or len(level.part.values) != 1 or isinstance(level.part.values[0], str):
        raise _wrong("z", "missing", "corridor-height needs z with one value, the level in the middle of the corridor")
    middle, half = level.part.values[0], float(height) * _per_unit(units, z.units) / 2
    band = Subset("z", Trim(middle - half, middle + half))
    rest = tuple(each for each in selection.subsets if each is not level)
    return _around(description, labels, replace(selection, subsets=(*rest, band)), place)


def _per_unit(units: str, of_axis: str | None) -> float:
    """Return how many units of the axis one of *units* is. Raises InvalidRequest."""
    if units == of_axis:
        return 1.0
    axis = {"metre": "m", "metres": "m", "meter": "m", "meters": "m"}.get(str(of_axis), of_axis)
    if units in UNITS and axis in UNITS:
        return UNITS[units] / UNITS[axis]
    raise _wrong("height-units", "unknown", f"height-units must be {of_axis}, the units of the levels")


def _wrong(name: str, kind: str, words: str) -> InvalidRequest:
    return InvalidRequest(words, errors=[Problem(("query", name), kind, words)])


def _link_variables(description: CubeDescription) -> Mapping[str, Any]:
    z = description.axis_of("z")
    return {"width_units": list(UNITS), "height_units": [z.units] if z is not None and z.units else []}


def _line(text: str) -> str:
    import shapely

    found = canonical(text, types=("LineString", "MultiLineString"))
    line = read(found)
    if len(shapely.get_coordinates(line)) > _MOST_POINTS:
        raise ValueError(f"may have {_MOST_POINTS} vertices")
    if not math.isfinite(line.length) or line.length == 0:
        raise ValueError("must be a line with a length")
    return found


def _units(text: str) -> str:
    if not 0 < len(text) <= 40:
        raise ValueError("must be units")
    return text


QUERY = EdrQuery(
    name="corridor",
    text="Values of the cells whose centres are within half a width of a line",
    parameters=(
        Parameter("coords", "LINESTRING(lon lat, …); CRS84", _line),
        Parameter("corridor-width", "The whole width, above 0", distance),
        Parameter("width-units", ", ".join(UNITS), unit),
        Parameter("corridor-height", "The whole height around the level z, above 0", distance, required=False),
        Parameter("height-units", "The units of the levels; m, km, mi or nmi for levels in metres", _units, required=False),
    ),
    resolve=_resolve,
    settle=regions.settling(_band),
    link_variables=_link_variables,
)
