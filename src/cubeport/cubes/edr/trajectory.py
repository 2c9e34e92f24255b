"""EDR trajectory: each cell that a line passes through, once."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from cubeport.cubes import boxes
from cubeport.cubes.cells import Cells
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.cells import horizontal, these
from cubeport.cubes.edr.geometry import canonical, read
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.resolve import cells, resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels, Windows, native_system
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

_MOST_SAMPLES = 2_000
"""The largest number of points of a line that are searched on grids without straight axes."""
_STEP = 0.1
"""The largest distance in degrees between points of a line that is transformed to a projection or compared with positions."""
_MOST_CELLS = 100_000
"""The largest number of cells that a line may pass through."""


def _resolve(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    if description.spatial.family == "none":
        problem = Problem(("query", "coords"), "no-axis", "these data have no horizontal position")
        raise InvalidRequest("These data have no horizontal position.", errors=[problem])
    windows = resolve(description, labels, selection)
    line = read(place["coords"])
    found = _of_positions(description, labels, line) if description.cell_dimensions else _of_axes(description, labels, line)
    if not found:
        raise NotFound("There are no data for this request.", what="data", extent={"bbox": list(description.spatial.bbox or ())})
    return these(windows, horizontal(description), found)


def _of_axes(description: CubeDescription, labels: Labels, line: Any) -> set[tuple[int, ...]]:
    """Return row and column of each cell that contains a part of the line."""
    import shapely
    import shapely.affinity

    x, y = (description.axis(str(name)) for name in (description.spatial.x, description.spatial.y))
    if x.scalar or y.scalar:
        raise InvalidRequest("These data are at one place.", errors=[Problem(("query", "coords"), "no-axis", "ask for a position")])
    columns, rows = cells(description, x, labels), cells(description, y, labels)
    if description.spatial.family == "projected":
        onto, factor = native_system(description)
        dense = shapely.segmentize(line, _STEP)

        def carried(points: Array) -> Array:
            import numpy as np

            east, north = onto.transform(points[:, 0], points[:, 1])
            return np.column_stack([np.asarray(east) / factor, np.asarray(north) / factor])

        line = shapely.transform(dense, carried)
        if not all(map(math.isfinite, line.bounds)):
            raise NotFound("A part of the line cannot be projected as the data are.", what="data")
    turns = (-360.0, 0.0, 360.0) if columns.circle else (0.0,)
    found: set[tuple[int, ...]] = set()
    for turn in turns:
        found |= _crossed(columns, rows, shapely.affinity.translate(line, xoff=turn))
    return found


def _crossed(columns: Cells, rows: Cells, line: Any) -> set[tuple[int, ...]]:
    """Return the cells that a line intersects, by halving blocks of cells until each is one cell."""
    import numpy as np
    import shapely

    shapely.prepare(line)
    across, up = (np.argsort(axis.lower, kind="stable") for axis in (columns, rows))
    west, east = columns.lower[across], columns.upper[across]
    south, north = rows.lower[up], rows.upper[up]
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


def _of_positions(description: CubeDescription, labels: Labels, line: Any) -> set[tuple[int, ...]]:
    """Return the cells whose centres are nearest to points along the line."""
    import shapely

    spatial = description.spatial
    length = max(_STEP, line.length / _MOST_SAMPLES)
    points = shapely.get_coordinates(shapely.segmentize(line, length))
    if len(points) > 2 * _MOST_SAMPLES:
        words = f"coords may have {_MOST_SAMPLES} points on a grid without straight axes"
        raise InvalidRequest(words, errors=[Problem(("query", "coords"), "too-long", words)])
    found: set[tuple[int, ...]] = set()
    for lon, lat in points.tolist():
        try:
            at = boxes.nearest(labels.values[str(spatial.x)], labels.values[str(spatial.y)], (lon, lat), reach=spatial.reach)
        except boxes.Outside:
            continue
        found.add(tuple(int(each) for each in at))
    return found


QUERY = EdrQuery(
    name="trajectory",
    text="Values of the cells that a line passes through, each once",
    parameters=(Parameter("coords", "LINESTRING(lon lat, …); CRS84", partial(canonical, types=("LineString", "MultiLineString"))),),
    resolve=_resolve,
    at_points=True,
)
