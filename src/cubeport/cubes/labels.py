"""The decoded coordinates of an opened cube, by which a selection finds its cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol

from cubeport.cubes.cells import exact, in_degrees
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.outlines import repeated
from cubeport.cubes.selection import order
from cubeport.cubes.times import calendar_of, decode
from cubeport.cubes.windows import UNKNOWN, IndexRange, Labels, Window, time_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cubeport.cubes.quads import Outlines

    type Array = NDArray[Any]


class Coordinates(Protocol):
    """What :func:`labels_of` reads."""

    @property
    def description(self) -> CubeDescription: ...

    def names(self) -> tuple[str, ...]:
        """Return the names of all variables."""

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of a variable as stored."""

    def dimensions(self, name: str) -> tuple[str, ...]:
        """Return the dimensions of a variable."""

    def raw(self, name: str, along: Mapping[str, Window]) -> Array:
        """Return the stored values of a variable, in windows along some of its dimensions."""

    def decode(self, name: str, raw: Array) -> Array:
        """Return stored values masked, unpacked and scaled. Times stay numbers."""


def labels_of(opened: Coordinates, *, outlines: Callable[[], Outlines | None] = lambda: None) -> Labels:
    """Return the decoded coordinates of a cube.

    Parameters
    ----------
    outlines
        Returns the vertices of the cells of a curvilinear grid, if the data have them.
    """
    import numpy as np

    description, names = opened.description, set(opened.names())
    values: dict[str, Array] = {}
    bounds: dict[str, Array] = {}
    clock = time_axis(description)
    for axis in description.axes:
        if axis.name not in names:
            continue
        attributes = opened.attributes(axis.name)
        raw = opened.raw(axis.name, {})
        is_time = axis is clock
        values[axis.name] = np.atleast_1d(_orders(opened, axis.name, raw, attributes) if is_time else opened.decode(axis.name, raw))
        edges = axis.bounds
        if edges is None or edges not in names or edges == attributes.get("climatology"):
            continue
        pairs = opened.raw(edges, {})
        if pairs.shape != (*raw.shape, 2):
            continue
        # CF 7.1: bounds without units have the units of their coordinate.
        units = {**attributes, **opened.attributes(edges)}
        cells = _orders(opened, edges, pairs, units) if is_time else opened.decode(edges, pairs)
        bounds[axis.name] = cells.reshape(-1, 2)
    spatial = description.spatial
    if spatial.family in ("curvilinear", "unstructured"):
        for name in (spatial.x, spatial.y):
            if name is not None and name not in values:
                values[name] = _positions(opened, name)
    if spatial.z is not None and spatial.z not in values:
        values[spatial.z] = opened.decode(spatial.z, opened.raw(spatial.z, {}))
    temporal = description.temporal
    if temporal is not None and temporal.dimensions:
        values[temporal.axis] = _own_times(opened, temporal.axis)
    if spatial.family != "projected" and spatial.to_crs != 1.0:
        # All faces accept and return places in degrees, even if the store has radians.
        for name in (spatial.x, spatial.y):
            for each in (values, bounds):
                if name is not None and name in each:
                    each[name] = in_degrees(exact(each[name]), spatial.to_crs)
    if spatial.family != "curvilinear":
        return Labels(values, bounds)
    again = cache(partial(repeated, values[str(spatial.x)], values[str(spatial.y)]))
    return Labels(values, bounds, outlines=outlines, repeated=again)


def _own_times(opened: Coordinates, name: str) -> Array:
    """Return times that are not an axis as numbers of :func:`cubeport.cubes.selection.order`; missing times are ``UNKNOWN``."""
    import numpy as np

    attributes = opened.attributes(name)
    numbers = opened.decode(name, opened.raw(name, {}))
    known = np.isfinite(numbers)
    stamps = decode(numbers[known], attributes["units"], calendar_of(attributes, name=name), name=name)
    found = np.full(numbers.shape, UNKNOWN, dtype="int64")
    found[known] = np.fromiter(map(order, stamps), dtype="int64", count=len(stamps))
    return found


def _orders(opened: Coordinates, name: str, raw: Array, attributes: Mapping[str, Any]) -> Array:
    """Return times along an axis, or their bounds, as numbers of :func:`cubeport.cubes.selection.order`. They may be packed."""
    import numpy as np

    numbers = opened.decode(name, raw)
    stamps = decode(numbers, attributes["units"], calendar_of(attributes, name=name), name=name)
    return np.fromiter(map(order, stamps), dtype="int64", count=len(stamps)).reshape(raw.shape)


def _positions(opened: Coordinates, name: str) -> Array:
    """Return longitudes or latitudes of cells. If they are stored for each step, return the first, because they do not change."""
    dimensions = opened.dimensions(name)
    along = {each: Window(each, (IndexRange(0, 1),)) for each in dimensions if each not in opened.description.cell_dimensions}
    values = opened.decode(name, opened.raw(name, along))
    return values.reshape([size for size, each in zip(values.shape, dimensions, strict=True) if each not in along])
