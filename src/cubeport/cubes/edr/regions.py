"""Which cells of a box have their centre in a region, for every family of grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from cubeport.cubes.cells import exact
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.cells import containing, masked
from cubeport.cubes.edr.query import Place, Resolve, Settle
from cubeport.cubes.part import Deadline
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels, Mask, Window, Windows, native_system, runs_of, turned_labels
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_STRIP = 1 << 18
"""How many positions are in memory at a time."""


class Region(Protocol):
    """A region of the Earth. Longitudes and latitudes are in degrees (CRS84), longitudes in any turn."""

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Return west, south, east, north of its bounding box; west > east crosses 180°."""

    @property
    def middle(self) -> tuple[float, float]:
        """Return a point inside it."""

    def on_axes(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        """Return which cells of a grid with straight axes have their centre in the region: ``(lat, lon)``, bool."""

    def anywhere(self, lon: Array, lat: Array, deadline: Deadline) -> Array:
        """Return which positions are in the region. *lon*, *lat* and the result have the same shape."""


def resolving(region_of: Callable[[Place], Region]) -> Resolve:
    """Return the ``resolve`` of a query whose place is a region: :func:`around`."""

    def resolve_region(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
        return around(description, labels, selection, region_of(place))

    return resolve_region


def settling(region_of: Callable[[Place], Region]) -> Settle:
    """Return the ``settle`` of a query whose place is a region: :func:`inside`."""

    def settle_region(
        description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, place: Place, deadline: Deadline
    ) -> Windows:
        return inside(description, labels, windows, selection, region_of(place), deadline)

    return settle_region


def around(description: CubeDescription, labels: Labels, selection: Selection, region: Region) -> Windows:
    """Return the box around the region, or the single cell that contains the whole region.

    Raises as :func:`cubeport.cubes.resolve.resolve`.
    """
    if description.spatial.family == "none":
        problem = Problem(("query", "coords"), "no-axis", "these data have no horizontal position")
        raise InvalidRequest("These data have no horizontal position.", errors=[problem])
    try:
        return resolve(description, labels, replace(selection, bbox=region.bounds))
    except NotFound:
        return containing(description, labels, selection, region.middle)


def inside(
    description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, region: Region, deadline: Deadline
) -> Windows:
    """Return the windows of :func:`around` without the cells whose centre is not in the region.

    If no centre is in the region, the region is inside one cell, and that cell is returned. *deadline* can stop the work.
    """
    spatial = description.spatial
    if spatial.family in ("curvilinear", "unstructured"):
        dimensions = description.cell_dimensions
        if not set(dimensions) <= windows.along.keys():
            return windows
        cut = _cut_of(windows, dimensions)
        found = region.anywhere(labels.values[spatial.x or ""][cut], labels.values[spatial.y or ""][cut], deadline)
    else:
        x, y = description.axis_of("x"), description.axis_of("y")
        if x is None or y is None or not {x.dimension, y.dimension} <= windows.along.keys():
            return windows
        dimensions = (y.dimension, x.dimension)
        columns = exact(turned_labels(labels.values[x.name], windows.along[x.dimension]))
        rows = exact(turned_labels(labels.values[y.name], windows.along[y.dimension]))
        if spatial.family == "projected":
            found = _projected(description, region, columns, rows, deadline)
        else:
            found = region.on_axes(columns, rows, deadline)
    if not found.any():
        return containing(description, labels, selection, region.middle)
    if len(dimensions) == 1:
        window = windows.along[dimensions[0]]
        return replace(windows, along={**windows.along, dimensions[0]: Window(dimensions[0], runs_of(window.indices()[found]))})
    return masked(windows, Mask(dimensions, found))


def positions(description: CubeDescription, labels: Labels, windows: Windows) -> tuple[tuple[str, ...], Array, Array]:
    """Return the dimensions of the cells, and longitude and latitude of each cell of the windows, shaped by these dimensions."""
    import numpy as np

    spatial = description.spatial
    if description.cell_dimensions:
        cut = _cut_of(windows, description.cell_dimensions)
        return description.cell_dimensions, labels.values[spatial.x or ""][cut], labels.values[spatial.y or ""][cut]
    x, y = description.axis(str(spatial.x)), description.axis(str(spatial.y))
    lon, lat = np.meshgrid(
        exact(turned_labels(labels.values[x.name], windows.along[x.dimension])),
        exact(turned_labels(labels.values[y.name], windows.along[y.dimension])),
    )
    if spatial.family == "projected":
        onto, factor = native_system(description)
        lon, lat = onto.transform(lon * factor, lat * factor, direction="INVERSE")
    return (y.dimension, x.dimension), lon, lat


def _cut_of(windows: Windows, dimensions: Sequence[str]) -> Any:
    """Return the index that cuts an array along *dimensions* to the windows."""
    import numpy as np

    return np.ix_(*(windows.along[each].indices() for each in dimensions))


def _projected(description: CubeDescription, region: Region, columns: Array, rows: Array, deadline: Deadline) -> Array:
    """Return which cells have their centre in the region, a few rows at a time, so that not all positions are in memory
    together.
    """
    import numpy as np

    onto, factor = native_system(description)
    found = np.zeros((rows.size, columns.size), dtype=bool)
    step = max(1, _STRIP // max(1, columns.size))
    for start in range(0, rows.size, step):
        deadline()
        east, north = np.meshgrid(columns, rows[start : start + step])
        lon, lat = onto.transform(east * factor, north * factor, direction="INVERSE")
        found[start : start + step] = region.anywhere(lon, lat, deadline)
    return found
