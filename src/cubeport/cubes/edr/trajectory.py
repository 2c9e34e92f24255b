"""EDR trajectory: each cell that a line passes through, once, in the order of the line; of a line with heights, at the levels that
it passes there; of a line with times, at the steps in which it is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cubeport.cubes import boxes
from cubeport.cubes.cells import Cells, exact
from cubeport.cubes.cells import cells as cells_of
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.cells import horizontal, in_order, onto_columns, these, with_levels
from cubeport.cubes.edr.geometry import LINES, canonical, read
from cubeport.cubes.edr.moments import passed, pieces
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.outside import no_data
from cubeport.cubes.resolve import cells, resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels, Windows
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

type _Cells = dict[tuple[int, ...], tuple[float, float]]
"""The lowest and the highest point of the line in each cell, by the cell's indices."""

_MOST_SAMPLES = 2_000
"""The largest number of points of a line that are searched on grids without straight axes."""
_STEP = 0.1
"""The largest distance in degrees between points of a line that is transformed to a projection or compared with positions."""
_MOST_CELLS = 100_000
"""The largest number of cells that a line may pass through."""
_MOST_AROUND = 1 << 26
"""The largest number of cells in the box around a line."""


def _resolve(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    if description.spatial.family == "none":
        problem = Problem(("query", "coords"), "no-axis", "these data have no horizontal position")
        raise InvalidRequest("These data have no horizontal position.", errors=[problem])
    windows = resolve(description, labels, selection)
    line = read(place["coords"])
    if line.has_m:
        return passed(description, labels, windows, selection, line)
    found = _of_positions(description, labels, line) if description.cell_dimensions else _of_axes(description, labels, line)
    if not found:
        raise no_data(description)
    if math.prod(len(set(each)) for each in zip(*found, strict=True)) > _MOST_AROUND:
        words = f"coords may have {_MOST_AROUND} cells around it: ask for parts of the line"
        raise InvalidRequest(words, errors=[Problem(("query", "coords"), "too-long", words)])
    if not line.has_z:
        return in_order(these(windows, horizontal(description), found), horizontal(description), list(found))
    return _at_levels(description, labels, windows, found, explicit=selection.properties is not None)


def _at_levels(description: CubeDescription, labels: Labels, windows: Windows, found: _Cells, *, explicit: bool) -> Windows:
    """Return the cells at the levels that the line passes in each. Raises InvalidRequest for fields without levels, NotFound."""
    import numpy as np

    across = horizontal(description)
    z, windows = with_levels(description, windows, explicit=explicit)
    # A level reaches to the middle between it and the next, or as far as its CF bounds.
    given = labels.bounds.get(z.name)
    layers = cells_of(labels.values[z.name], None if given is None else exact(given), spread=True, circle=False, latitude=False)
    wanted = {
        (int(level), *cell)
        for cell, (low, high) in found.items()
        for level in np.nonzero((layers.lower <= high) & (layers.upper >= low))[0]
    }
    if not wanted:
        raise NotFound("There are no data at these heights.", what="data")
    here = these(windows, (z.dimension, *across), wanted)
    here = replace(here, scattered=across if len(across) > 1 else windows.scattered)
    levelled = {cell[1:] for cell in wanted}
    here = in_order(here, across, [cell for cell in found if cell in levelled])
    if here.along[z.dimension].size > 1 or here.mask is None:
        return here
    return replace(here, mask=here.mask.at({z.dimension: 0}))


def _of_axes(description: CubeDescription, labels: Labels, line: Any) -> _Cells:
    """Return row and column of each cell that contains a part of the line, with the heights of that part."""
    import shapely
    import shapely.affinity

    x, y = (description.axis(str(name)) for name in (description.spatial.x, description.spatial.y))
    if x.scalar or y.scalar:
        where, instead = ("at one place", "a position") if x.scalar and y.scalar else ("on one line already", "a cube")
        raise InvalidRequest(f"These data are {where}.", errors=[Problem(("query", "coords"), "no-axis", f"ask for {instead}")])
    columns, rows = cells(description, x, labels), cells(description, y, labels)
    if description.spatial.family == "projected":
        columns, carried = onto_columns(description, columns)
        line = shapely.transform(shapely.segmentize(line, _STEP), carried, include_z=line.has_z)
        if not all(map(math.isfinite, line.bounds)):
            raise NotFound("A part of the line cannot be projected as the data are.", what="data")
    once = columns.once
    columns = columns if once is None else once.cells
    turns = (-360.0, 0.0, 360.0) if columns.circle else (0.0,)
    found: _Cells = {}
    for turn in turns:
        turned = shapely.affinity.translate(line, xoff=turn)
        crossed = sorted(_crossed(columns, rows, turned))
        for cell, (low, high) in zip(crossed, _heights(columns, rows, turned, crossed), strict=True):
            before = found.get(cell, (low, high))
            found[cell] = min(low, before[0]), max(high, before[1])
    ordered = {cell: found[cell] for cell in _ordered(columns, rows, line, list(found))}
    return ordered if once is None else {(row, int(once.index[column])): heights for (row, column), heights in ordered.items()}


def _ordered(columns: Cells, rows: Cells, line: Any, found: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
    """Return the cells in the order in which the line first passes each. One that it only touches comes after the nearest of these
    pieces.
    """
    import numpy as np
    import shapely

    if len(found) < 2:
        return found
    parts = [shapely.get_coordinates(each)[:, :2] for each in shapely.get_parts(line)]
    middle = np.concatenate([pieces(each, [(0, columns), (1, rows)]) for each in parts])
    if not len(middle):
        return found
    passed_in = np.column_stack([boxes.holding_each(rows, middle[:, 1]), boxes.holding_each(columns, middle[:, 0])])
    first: dict[tuple[int, ...], float] = {}
    for at, cell in enumerate(map(tuple, passed_in.tolist())):
        first.setdefault(cell, at)
    touched = [cell for cell in found if cell not in first]
    if touched:
        row, column = np.array(touched).T
        x, y = (columns.lower + columns.upper)[column] / 2, (rows.lower + rows.upper)[row] / 2
        if columns.circle:
            x, middle[:, 0] = x % 360.0, middle[:, 0] % 360.0
        near = shapely.STRtree(np.asarray(shapely.points(middle))).nearest(shapely.points(x, y))
        first |= {cell: at + 0.5 for cell, at in zip(touched, near.tolist(), strict=True)}
    return sorted(found, key=first.__getitem__)


def _heights(columns: Cells, rows: Cells, line: Any, crossed: Sequence[tuple[int, ...]]) -> Sequence[tuple[float, float]]:
    """Return the lowest and the highest point of the line in each cell; of a line without heights, 0 and 0."""
    import numpy as np
    import shapely

    if not line.has_z or not crossed:
        return [(0.0, 0.0)] * len(crossed)
    row, column = np.array(crossed).T
    boxes_ = shapely.box(columns.lower[column], rows.lower[row], columns.upper[column], rows.upper[row])
    parts = shapely.intersection(line, boxes_)
    points, of = shapely.get_coordinates(parts, include_z=True, return_index=True)
    low, high = np.full(len(crossed), np.inf), np.full(len(crossed), -np.inf)
    np.fmin.at(low, of, points[:, 2])
    np.fmax.at(high, of, points[:, 2])
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _crossed(columns: Cells, rows: Cells, line: Any) -> set[tuple[int, ...]]:
    """Return the cells that a line intersects, by halving blocks of cells until each is one cell."""
    import numpy as np
    import shapely

    shapely.prepare(line)
    across, up = (np.argsort(axis.lower, kind="stable") for axis in (columns, rows))
    # A row or column without edges is a line: as for points, its label may be rounded.
    wide, high = (np.where(axis.upper > axis.lower, 0.0, axis.slack) for axis in (columns, rows))
    west, east = (columns.lower - wide)[across], (columns.upper + wide)[across]
    south, north = (rows.lower - high)[up], (rows.upper + high)[up]
    blocks = [(0, len(up), 0, len(across))]
    found: set[tuple[int, ...]] = set()
    while blocks:
        top, bottom, left, right = np.array(blocks).T
        boxes_ = shapely.box(
            west[left], south[top], np.maximum.accumulate(east)[right - 1], np.maximum.accumulate(north)[bottom - 1]
        )
        kept = [block for block, meets in zip(blocks, shapely.intersects(line, boxes_).tolist(), strict=True) if meets]
        blocks = []
        for a, b, c, d in kept:
            if b - a == 1 and d - c == 1:
                found.add((int(up[a]), int(across[c])))
                continue
            middle, centre = (a + b) // 2, (c + d) // 2
            parts_y = ((a, middle), (middle, b)) if b - a > 1 else ((a, b),)
            parts_x = ((c, centre), (centre, d)) if d - c > 1 else ((c, d),)
            blocks += [(*high, *wide) for high in parts_y for wide in parts_x]
        if len(found) + len(blocks) > 4 * _MOST_CELLS:
            words = f"coords may pass through {_MOST_CELLS} cells"
            raise InvalidRequest(words, errors=[Problem(("query", "coords"), "too-long", words)])
    return found


def _of_positions(description: CubeDescription, labels: Labels, line: Any) -> _Cells:
    """Return the cells whose centres are nearest to points along the line, with the heights of these points."""
    import shapely

    spatial = description.spatial
    length = max(_STEP, line.length / _MOST_SAMPLES)
    points = shapely.get_coordinates(shapely.segmentize(line, length), include_z=line.has_z)
    if len(points) > 2 * _MOST_SAMPLES:
        words = f"coords may have {_MOST_SAMPLES} points on a grid without straight axes"
        raise InvalidRequest(words, errors=[Problem(("query", "coords"), "too-long", words)])
    found: _Cells = {}
    positions, outlines = (labels.values[str(spatial.x)], labels.values[str(spatial.y)]), labels.outlines()
    for lon, lat, *heights in points.tolist():
        try:
            at = boxes.nearest(*positions, (lon, lat), reach=spatial.reach, outlines=outlines)
        except boxes.Outside:
            continue
        cell, height = tuple(int(each) for each in at), heights[0] if heights else 0.0
        low, high = found.get(cell, (height, height))
        found[cell] = min(low, height), max(high, height)
    return found


QUERY = EdrQuery(
    name="trajectory",
    text="Values of the cells that a line passes through, each once",
    parameters=(
        Parameter(
            "coords",
            LINES,
            partial(canonical, types=("LineString", "MultiLineString"), heights=True, times=True),
        ),
    ),
    resolve=_resolve,
    at_points=True,
    heights=True,
)
