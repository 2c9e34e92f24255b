"""Find cells by place: the cell that contains a point, the cells of several points, or the cell around a small area."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes import boxes
from cubeport.cubes.cells import Cells
from cubeport.cubes.cylinders import longitudes
from cubeport.cubes.description import Axis, CubeDescription
from cubeport.cubes.outside import no_data
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Selection, Slice, Subset
from cubeport.cubes.windows import IndexRange, Labels, Mask, Points, Window, Windows, native_system
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]


def containing(description: CubeDescription, labels: Labels, selection: Selection, place: tuple[float, float]) -> Windows:
    """Return the cell that contains the point (longitude, latitude, in degrees).

    On grids without straight axes it is the cell with the nearest centre. Raises NotFound if the point is outside the data.
    """
    lon, lat = place
    if description.spatial.family in ("curvilinear", "unstructured"):
        return _nearest(description, labels, selection, lon, lat)
    x, y = description.axis_of("x"), description.axis_of("y")
    if x is None or y is None or description.spatial.family == "none":
        problem = Problem(("query", "coords"), "no-axis", "these data have no horizontal position")
        raise InvalidRequest("These data have no horizontal position.", errors=[problem])
    if description.spatial.family == "projected":
        onto, factor = native_system(description)
        native_x, native_y = onto.transform(lon, lat)
        if not (math.isfinite(native_x) and math.isfinite(native_y)):
            raise no_data(description)
        lon, lat = native_x / factor, native_y / factor
    slices = (Subset(x.name, Slice((lon,))), Subset(y.name, Slice((lat,))))
    windows = resolve(description, labels, replace(selection, subsets=(*selection.subsets, *slices)))
    if description.spatial.family == "projected" and x.dimension in windows.along:
        # The labels of a rotated grid stay as stored.
        window = windows.along[x.dimension]
        still = replace(window, runs=tuple(replace(run, shift=0.0) for run in window.runs))
        windows = replace(windows, along={**windows.along, x.dimension: still})
    return windows


def _nearest(description: CubeDescription, labels: Labels, selection: Selection, lon: float, lat: float) -> Windows:
    spatial = description.spatial
    positions = labels.values[spatial.x or ""], labels.values[spatial.y or ""]
    try:
        at = boxes.nearest(*positions, (lon, lat), reach=spatial.reach, outlines=labels.outlines())
    except boxes.Outside:
        raise no_data(description) from None
    return of_cell(description, labels, selection, at)


def of_cell(description: CubeDescription, labels: Labels, selection: Selection, at: Sequence[int]) -> Windows:
    """Return the cell with the indices *at* along the dimensions of positions. Raises NotFound when it has no data there."""
    windows = resolve(description, labels, selection)
    dimensions = description.cell_dimensions
    mask = windows.mask
    if mask is not None and set(mask.dimensions) & set(dimensions):
        # The query has a time, and each position has its own time.
        places = {name: windows.along[name].indices().tolist() for name in dimensions}
        here = {name: places[name].index(index) for name, index in zip(dimensions, at, strict=True) if index in places[name]}
        mask = mask.at({name: here[name] for name in mask.dimensions if name in here})
        if len(here) < len(dimensions) or not mask.inside.any():
            raise no_data(description)
        windows = replace(windows, mask=mask if mask.dimensions else None)
    cut = {
        name: Window(name, (IndexRange(int(index), int(index) + 1),), sliced=True)
        for name, index in zip(dimensions, at, strict=True)
    }
    return replace(windows, along={**windows.along, **{name: each for name, each in cut.items() if name in windows.along}})


def containing_each(
    description: CubeDescription, labels: Labels, selection: Selection, points: Sequence[tuple[float, float]]
) -> Windows:
    """Return several points with the cell that contains each; ``along`` has the windows of the other dimensions.

    Raises
    ------
    NotFound
        If all points are outside the data.
    InvalidRequest
        If a point has no place in the reference system of the data, in which the answer is.
    """
    import numpy as np

    found: list[Windows | None] = []
    outside: NotFound | None = None
    for point in points:
        try:
            found.append(containing(description, labels, selection, point))
        except NotFound as refused:
            outside = refused
            found.append(None)
    one = next((each for each in found if each is not None), None)
    if one is None:
        raise outside or no_data(description)
    dimensions = horizontal(description)
    index = np.zeros((len(points), len(dimensions)), dtype="int64")
    for at, each in enumerate(found):
        if each is not None:
            index[at] = [int(each.along[name].runs[0].start) for name in dimensions]
    x, y = _native(description, points)
    name = "point"
    while any(name == each.name or name in each.dimensions for each in description.variables):
        name += "_"
    inside = np.array([each is not None for each in found])
    asked = Points(dimensions, index, inside, x, y, name)
    mask = _stacked(asked, [None if each is None else each.mask for each in found])
    return replace(one, along={key: each for key, each in one.along.items() if key not in dimensions}, mask=mask, points=asked)


def onto_columns(description: CubeDescription, columns: Cells) -> tuple[Cells, Callable[[Array], Array]]:
    """Return the columns of a projected grid for lines, and the function that puts points of a line, ``(n, 2 or more)``, on them.

    If the projection is cylindrical, they are cells of longitude, so that a line goes on over the seam of the projection.
    """
    import numpy as np

    onto, factor = native_system(description)
    around = None if columns.circle else longitudes(onto, columns, factor)

    def carried(points: Array) -> Array:
        east, north = (np.asarray(each) / factor for each in onto.transform(points[:, 0], points[:, 1]))
        return np.column_stack([east if around is None else points[:, 0], north, *points.T[2:]])

    return around or columns, carried


def _native(description: CubeDescription, points: Sequence[tuple[float, float]]) -> tuple[Array, Array]:
    import numpy as np

    lon, lat = np.array(points, dtype="float64").T
    if description.spatial.family != "projected":
        return lon, lat
    onto, factor = native_system(description)
    x, y = (np.asarray(each, dtype="float64") / factor for each in onto.transform(lon, lat))
    lost = np.flatnonzero(~(np.isfinite(x) & np.isfinite(y)))
    if lost.size:
        words = f"coords has POINT({lon[lost[0]]:g} {lat[lost[0]]:g}), which has no place in the reference system of these data"
        raise InvalidRequest(words, errors=[Problem(("query", "coords"), "out-of-range", words)])
    return x, y


def _stacked(points: Points, masks: Sequence[Mask | None]) -> Mask | None:
    """Return the masks of several places as one with a dimension of places; ``None`` if none of them has a mask."""
    import numpy as np

    one = next((each for each in masks if each is not None), None)
    if one is None:
        return None
    every = [np.ones_like(one.inside) if each is None else each.inside for each in masks]
    return Mask((points.name, *one.dimensions), np.stack(every))


def these(
    windows: Windows,
    dimensions: Sequence[str],
    cells: Iterable[tuple[int, ...]],
    shifts: Mapping[tuple[str, int], float] | None = None,
) -> Windows:
    """Return the windows with only the given cells, as separate places.

    Parameters
    ----------
    cells
        Indices along *dimensions*; at least one cell.
    shifts
        The shift of a label by whole turns, by dimension and index.
    """
    import numpy as np

    wanted, moved = sorted(set(cells)), shifts or {}
    along = dict(windows.along)
    taken = {name: sorted({cell[number] for cell in wanted}) for number, name in enumerate(dimensions)}
    for name in dimensions:
        along[name] = Window(name, tuple(IndexRange(at, at + 1, moved.get((name, at), 0.0)) for at in taken[name]))
    if len(dimensions) == 1:
        return replace(windows, along=along)
    place = {name: {at: number for number, at in enumerate(taken[name])} for name in dimensions}
    inside = np.zeros([len(taken[name]) for name in dimensions], bool)
    for cell in wanted:
        inside[tuple(place[name][at] for name, at in zip(dimensions, cell, strict=True))] = True
    return masked(replace(windows, along=along, scattered=tuple(dimensions)), Mask(tuple(dimensions), inside))


def in_order(windows: Windows, dimensions: Sequence[str], cells: Sequence[tuple[int, ...]]) -> Windows:
    """Return the windows of :func:`these` with the cells in the given order, of a line."""
    import numpy as np

    taken = zip(dimensions, np.array(cells).T, strict=True)
    return replace(windows, path={name: np.searchsorted(windows.along[name].indices(), index) for name, index in taken})


def with_levels(description: CubeDescription, windows: Windows, *, explicit: bool) -> tuple[Axis, Windows]:
    """Return the vertical axis, and the windows of the fields that have levels. Raises InvalidRequest if a wished one has none."""
    z = description.axis_of("z")
    if z is None or z.scalar:
        raise _none("levels", "these data have no levels")
    return z, without_fields(description, windows, z, "levels", explicit=explicit)


def without_fields(description: CubeDescription, windows: Windows, axis: Axis, what: str, *, explicit: bool) -> Windows:
    """Return the windows of the fields with an axis of *what*: levels, times. Raises InvalidRequest if a wished one has none."""
    flat = [name for name in windows.fields if axis.dimension not in description.variable(name).dimensions]
    if len(flat) == len(windows.fields) or (flat and explicit):
        raise _none(what, f"{flat[0]} has no {what}")
    return replace(windows, fields=tuple(name for name in windows.fields if name not in flat))


def _none(what: str, words: str) -> InvalidRequest:
    message = f"coords has {'heights' if what == 'levels' else what}, and {words}"
    return InvalidRequest(message, errors=[Problem(("query", "coords"), "no-axis", message)])


def horizontal(description: CubeDescription) -> tuple[str, ...]:
    """Return the dimensions of the cells: y and x, or those of the positions."""
    if description.spatial.family in ("curvilinear", "unstructured"):
        return description.cell_dimensions
    x, y = description.axis_of("x"), description.axis_of("y")
    return tuple(axis.dimension for axis in (y, x) if axis is not None and not axis.scalar)


def masked(windows: Windows, mask: Mask) -> Windows:
    """Return the windows with one more mask. They may already have a mask from a time."""
    return replace(windows, mask=mask if windows.mask is None else windows.mask & mask)
