"""EDR corridor: the cells whose centre is within half a width of a line, and half a height of a level or of the line itself; of a
line with times, at the step in which the line is nearest to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cells import cells as cells_of
from cubeport.cubes.cells import exact
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr import regions
from cubeport.cubes.edr.cells import masked, with_levels
from cubeport.cubes.edr.distances import UNITS, distance, unit
from cubeport.cubes.edr.geometry import LINES, canonical, dense, read, vertices
from cubeport.cubes.edr.moments import Clock, clock_of, during
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.edr.radius import Circle
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Selection, Slice, Subset, Trim
from cubeport.cubes.windows import Labels, Mask, Windows
from cubeport.errors import InvalidRequest, NotFound, Problem

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
    clock: Clock | None = None
    """The steps of the data, if the line has times."""

    @cached_property
    def _parts(self) -> tuple[Array, Array, Array]:
        """The start and end points of the segments of the line, as unit vectors (n, 3), and the height and the seconds of both
        (n, 2, 2).
        """
        import numpy as np

        step = max(_STEP, self.line.length / _MOST_POINTS)
        starts, ends, others = [], [], []
        for part in vertices(self.line):
            if self.clock is not None:
                part[:, 3] = self.clock.seconds(part[:, 3])
            whole = dense(part, step)
            points = _vectors(*whole[:, :2].T)
            starts.append(points[:-1])
            ends.append(points[1:])
            others.append(np.stack([whole[:-1, 2:], whole[1:, 2:]], axis=1))
        return np.concatenate(starts), np.concatenate(ends), np.concatenate(others)

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
            found[part] = self._within(_vectors(x[part], y[part]))
        return found.reshape(np.shape(lon))

    def there(self, lon: Array, lat: Array, deadline: Deadline) -> tuple[Array, Array]:
        """Return the height of the line where it is nearest to each place, and when it is there, in seconds of the clock."""
        import numpy as np

        x, y = np.asarray(lon, "f8").ravel(), np.asarray(lat, "f8").ravel()
        found = np.full((x.size, 2), np.nan)
        for start in range(0, x.size, _STRIP):
            deadline()
            part = slice(start, start + _STRIP)
            found[part] = self._nearest(_vectors(x[part], y[part]))[1]
        return found[:, 0].reshape(np.shape(lon)), found[:, 1].reshape(np.shape(lon))

    def _within(self, points: Array) -> Array:
        """Return which points are within the band. Only those that a segment can reach are compared with it, which are few."""
        import numpy as np

        found, reach = np.zeros(len(points), bool), self.metres / _RADIUS_M
        for a, b, _ in zip(*self._parts, strict=True):
            middle = (a + b) / np.linalg.norm(a + b)
            most = min(float(_angle(a[None], middle)[0]) + reach, math.pi)
            near = np.flatnonzero(~found & (points @ middle >= math.cos(most) - _ROUNDING))
            found[near] = _to_segment(points[near], a, b)[0] * _RADIUS_M <= self.metres
        return found

    def _nearest(self, points: Array) -> tuple[Array, Array]:
        """Return the angle from each point to the nearest segment of the line, and the height and the seconds of the line there."""
        import numpy as np

        least, there = np.full(len(points), np.inf), np.full((len(points), 2), np.nan)
        for a, b, (begin, end) in zip(*self._parts, strict=True):
            ends, part = _to_segment(points, a, b)
            there = np.where((ends < least)[:, None], begin + part[:, None] * (end - begin), there)
            least = np.minimum(least, ends)
        return least, there


_ROUNDING = 1e-12


def _to_segment(points: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Return the angle from each point to the segment from *a* to *b*, and how far along it its nearest place is, from 0 to 1."""
    import numpy as np

    from_a, from_b = _angle(points, a), _angle(points, b)
    ends, part = np.minimum(from_a, from_b), np.where(from_a <= from_b, 0.0, 1.0)
    normal = np.cross(a, b)
    size = np.linalg.norm(normal)
    if size > 1e-12:
        normal = normal / size
        # The foot of the perpendicular is on the segment if neither of these is negative.
        inside = (points @ np.cross(normal, a) >= 0) & (points @ np.cross(b, normal) >= 0)
        across = np.abs(np.arcsin(np.clip(points @ normal, -1, 1)))
        ends = np.where(inside, np.minimum(across, ends), ends)
        # How far along the segment this foot is.
        along = np.arctan2(points @ np.cross(normal, a), points @ a) / _angle(b[None], a)[0]
        part = np.where(inside, np.clip(along, 0, 1), part)
    return ends, part


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
    """Return the box around the band, between the heights, at the steps between the times. Raises as
    :func:`cubeport.cubes.edr.regions.around`.
    """
    windows = _between(description, labels, selection, place)
    line = read(place["coords"])
    return during(description, windows, selection, _clock(description, labels, line)) if line.has_m else windows


def _clock(description: CubeDescription, labels: Labels, line: Any) -> Clock:
    import numpy as np

    return clock_of(description, labels, np.concatenate([each[:, 3] for each in vertices(line)]))


def _between(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    """Return the box around the band, between the heights."""
    half = _half_height(description, place)
    level = next((each for each in selection.subsets if each.axis == "z"), None)
    line = read(place["coords"])
    if line.has_z:
        if half is None:
            raise _wrong(
                "corridor-height", "missing", "coords has heights: a corridor around them needs corridor-height and height-units"
            )
        if level is not None:
            raise _wrong("z", "conflict", "coords has the heights of the corridor already: leave out z")
        low, high = _ends(line)
        band = Subset("z", Trim(low - half, high + half))
        windows = _around(description, labels, replace(selection, subsets=(*selection.subsets, band)), place)
        return with_levels(description, windows, explicit=selection.properties is not None)[1]
    if half is None:
        return _around(description, labels, selection, place)
    if level is None or not isinstance(level.part, Slice) or len(level.part.values) != 1 or isinstance(level.part.values[0], str):
        raise _wrong("z", "missing", "corridor-height needs z with one value, the level in the middle of the corridor")
    middle = level.part.values[0]
    band = Subset("z", Trim(middle - half, middle + half))
    rest = tuple(each for each in selection.subsets if each is not level)
    return _around(description, labels, replace(selection, subsets=(*rest, band)), place)


def _half_height(description: CubeDescription, place: Place) -> float | None:
    """Return half the height of the corridor in the units of the levels; ``None`` if none was asked for. Raises InvalidRequest."""
    height, units = place.value("corridor-height"), place.value("height-units")
    if height is None and units is None:
        return None
    z = description.axis_of("z")
    if z is None:
        raise _wrong("corridor-height", "no-axis", "these data have no levels")
    if height is None or units is None:
        raise _wrong("height-units", "missing", "corridor-height and height-units come together")
    return float(height) * _per_unit(units, z.units) / 2


def _ends(line: Any) -> tuple[float, float]:
    """Return the lowest and the highest point of a line."""
    import shapely

    heights = shapely.get_coordinates(line, include_z=True)[:, 2]
    return float(heights.min()), float(heights.max())


def _settle(
    description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, place: Place, deadline: Deadline
) -> Windows:
    """Return the cells within half the width of the line, at the levels within half the height of it there, and at the step at
    which it is there. Raises NotFound.
    """
    band, half = _band(place), _half_height(description, place)
    around = half if band.line.has_z else None
    if around is None and not band.line.has_m:
        return regions.inside(description, labels, windows, selection, band, deadline)
    kept = selection
    if around is not None:
        low, high = _ends(band.line)
        kept = replace(selection, subsets=(*selection.subsets, Subset("z", Trim(low - around, high + around))))
    inside = regions.inside(description, labels, windows, kept, band, deadline)
    if band.line.has_m:
        band = replace(band, clock=_clock(description, labels, band.line))
    across, lon, lat = regions.positions(description, labels, inside)
    heights, seconds = band.there(lon, lat, deadline)
    along: list[str] = []
    if band.clock is not None:
        inside = during(description, inside, selection, band.clock)
        dimension = band.clock.axis.dimension
        steps = inside.along[dimension].indices().reshape(-1, *[1] * seconds.ndim)
        inside = masked(inside, Mask((dimension, *across), steps == band.clock.indices(seconds)))
        along.append(dimension)
    if around is not None:
        z, inside = with_levels(description, inside, explicit=selection.properties is not None)
        given = labels.bounds.get(z.name)
        layers = cells_of(
            labels.values[z.name], None if given is None else exact(given), spread=False, circle=False, latitude=False
        )
        levels = inside.along[z.dimension].indices()
        lower, upper = (each[levels].reshape(-1, *[1] * heights.ndim) for each in (layers.lower, layers.upper))
        inside = masked(inside, Mask((z.dimension, *across), (lower <= heights + around) & (upper >= heights - around)))
        along.append(z.dimension)
    if inside.mask is None or not inside.mask.inside.any():
        raise NotFound("There are no data at these heights and times.", what="data")
    return replace(inside, mask=inside.mask.at({each: 0 for each in along if inside.along[each].size == 1}))


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

    found = canonical(text, types=("LineString", "MultiLineString"), heights=True, times=True)
    line = read(found)
    if len(shapely.get_coordinates(line)) > _MOST_POINTS:
        raise ValueError(f"may have {_MOST_POINTS} vertices")
    if not math.isfinite(line.length) or line.length == 0:
        raise ValueError("must be a line with a length")
    if line.has_z and not all(map(math.isfinite, _ends(line))):
        raise ValueError("must have a height at each place")
    return found


def _units(text: str) -> str:
    if not 0 < len(text) <= 40:
        raise ValueError("must be units")
    return text


QUERY = EdrQuery(
    name="corridor",
    text="Values of the cells whose centres are within half a width of a line",
    parameters=(
        Parameter("coords", LINES, _line),
        Parameter("corridor-width", "The whole width, above 0", distance),
        Parameter("width-units", ", ".join(UNITS), unit),
        Parameter(
            "corridor-height",
            "The whole height around the level z, or around the heights of coords, above 0",
            distance,
            required=False,
        ),
        Parameter("height-units", "The units of the levels; m, km, mi or nmi for levels in metres", _units, required=False),
    ),
    resolve=_resolve,
    settle=_settle,
    link_variables=_link_variables,
)
