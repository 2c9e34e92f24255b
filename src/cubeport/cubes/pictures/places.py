"""The cell of each pixel of a picture: the index of the cell that contains the pixel's centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cubeport.cubes.boxes import holding_each, spacing
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.nearest import Sphere, on_sphere
from cubeport.cubes.quads import quads
from cubeport.cubes.resolve import cells
from cubeport.cubes.windows import IndexRange, Labels, native_system

if TYPE_CHECKING:
    import numpy as np

    from cubeport.cubes.cells import Cells

    type Array = np.ndarray[Any, Any]

EARTH_M = 6378137.0
MERCATOR_M = math.pi * EARTH_M
"""Half the width of the world in Web Mercator (EPSG:3857), in metres."""

CRS84, MERCATOR = "OGC:CRS84", "EPSG:3857"

LIMIT = 85.0511287798066
"""The highest latitude of the Web Mercator square, in degrees."""

_BLOCK = 8
"""The distance in pixels between points that are transformed exactly. Other pixels are interpolated if the error is small
enough."""
_ALLOWED = 1 / 8
"""The largest error of an interpolated position, in pixels."""
_DOT = 3.0
"""Radius of a station in a picture, in pixels, at least."""
_BEND = 1 / 4
"""How far an edge of a cell may be from a straight line, in pixels."""
_CELLS = 250_000
"""The number of cells that are drawn together."""
_HALVINGS = 12
"""How often a cell is divided. What is left then is far smaller than a pixel, or at a pole."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """The frame of a picture: its box in a reference system, and its size in pixels."""

    bbox: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax in the units of ``crs``, x before y."""
    width: int
    height: int
    crs: str = CRS84

    def centres(self) -> tuple[Array, Array]:
        """Return x of the column centres and y of the row centres, the northern row first."""
        import numpy as np

        x0, y0, x1, y1 = self.bbox
        return (
            x0 + (np.arange(self.width) + 0.5) * ((x1 - x0) / self.width),
            y1 - (np.arange(self.height) + 0.5) * ((y1 - y0) / self.height),
        )

    def pixels(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return the fractional column and row of points; 0.5 is the centre of the first pixel."""
        x0, y0, x1, y1 = self.bbox
        return (x - x0) * (self.width / (x1 - x0)), (y1 - y) * (self.height / (y1 - y0))


@dataclass(frozen=True, slots=True)
class Places:
    """The cell of each pixel, by the dimensions of the grid; −1 where there is none.

    If ``apart`` is true, the row of a pixel alone decides its y index and the column its x index, so ``index`` contains arrays of
    shape (height,) and (width,). Otherwise each array has the shape (height, width).
    """

    dimensions: tuple[str, ...]
    index: tuple[Array, ...]
    apart: bool

    def seen(self, level: int = 0) -> Seen:
        """Return what reading and drawing needs, of the cells of a level of the overviews: those that have the cells here."""
        import numpy as np

        index = [np.where(each < 0, -1, each >> level) for each in self.index]
        height, width = (each.size for each in index) if self.apart else index[0].shape
        known = [each[each >= 0] for each in index]
        if not all(each.size for each in known):
            return Seen(level, self.dimensions, (), (), (), self.apart, (height, width))
        window = tuple(IndexRange(int(each.min()), int(each.max()) + 1) for each in known)
        kept = [each >= 0 for each in index]
        within = [np.where(own, each - part.start, 0).astype("intp") for own, each, part in zip(kept, index, window, strict=True)]
        if not self.apart:
            kept = [np.logical_and.reduce(kept)]
            within = [np.ravel_multi_index(within, [part.stop - part.start for part in window])]
        opacity = tuple(each.astype("uint8") for each in kept)
        return Seen(level, self.dimensions, window, tuple(within), opacity, self.apart, (height, width))


@dataclass(frozen=True, slots=True)
class Seen:
    """The cells that a picture shows: the window around them, and the cell of each pixel in this window."""

    level: int
    dimensions: tuple[str, ...]
    window: tuple[IndexRange, ...]
    """The cells to read along each dimension; empty if no cell is visible."""
    index: tuple[Array, ...]
    """The cell of each row and of each column if they are ``apart``; otherwise that of each pixel in the flattened window."""
    opacity: tuple[Array, ...]
    """1 where there is a cell, 0 where there is none (``index`` is then any cell), in the shapes of ``index``."""
    apart: bool
    shape: tuple[int, int]
    """Height and width."""

    @property
    def nbytes(self) -> int:
        """The size in memory, in bytes."""
        return sum(each.nbytes for each in (*self.index, *self.opacity))

    def spread(self, cells: Array) -> Array:
        """Return the value of each pixel, of cells in the window; that of any cell where there is none."""
        if self.apart:
            across: Array = cells.take(self.index[0], 0).take(self.index[1], 1)
            return across
        found: Array = cells.reshape(-1).take(self.index[0])
        return found

    def hide(self, classes: Array) -> Array:
        """Return palette indices of pixels with 0 where there is no cell. They are changed in place."""
        if self.apart:
            classes *= self.opacity[0][:, None]
        classes *= self.opacity[-1]
        return classes

    def cell(self, row: int, column: int) -> tuple[int, ...] | None:
        """Return the indices of the cell of one pixel, ``None`` where there is none."""
        import numpy as np

        if not self.window or not all(self._at(each, number, row, column) for number, each in enumerate(self.opacity)):
            return None
        within = [int(self._at(each, number, row, column)) for number, each in enumerate(self.index)]
        if not self.apart:
            within = [int(each) for each in np.unravel_index(within[0], [part.stop - part.start for part in self.window])]
        return tuple(part.start + each for part, each in zip(self.window, within, strict=True))

    def _at(self, each: Array, number: int, row: int, column: int) -> Any:
        return each[(row, column)[number]] if self.apart else each[row, column]


def locate(description: CubeDescription, labels: Labels, canvas: Canvas) -> Places:
    """Return the cell of each pixel.

    Raises
    ------
    ValueError
        If the cube has no horizontal positions, or the reference system is unknown.
    """
    spatial = description.spatial
    if spatial.family == "none" or spatial.x is None or spatial.y is None:
        raise ValueError("the data have no horizontal position")
    if spatial.family == "curvilinear":
        return _curvilinear(description, labels, canvas)
    if spatial.family == "unstructured":
        return _unstructured(description, labels, canvas)
    return _straight(description, labels, canvas)


def carried(box: tuple[float, float, float, float], crs: str, to: str) -> tuple[float, float, float, float]:
    """Return the bounding box of *box* in another reference system, x before y.

    Raises
    ------
    ValueError
        If a system is unknown, or the box is outside its domain.
    """
    if crs == to:
        return box
    west, south, east, north = box
    if (crs, to) == (CRS84, MERCATOR):
        import numpy as np

        x, y = _mercator(np.array([west, east]), np.array([max(-LIMIT, south), min(LIMIT, north)]))
        return float(x[0]), float(y[0]), float(x[1]), float(y[1])
    found = _transformer(crs, to).transform_bounds(west, south, east, north, densify_pts=21)
    if not all(map(math.isfinite, found)) or found[0] >= found[2] or found[1] >= found[3]:
        raise ValueError(f"the box cannot be drawn in {to}")
    return float(found[0]), float(found[1]), float(found[2]), float(found[3])


# --- straight axes --------------------------------------------------------------------------------------------------------


def middle(description: CubeDescription, labels: Labels) -> tuple[float, float]:
    """Return longitude and latitude of a cell in the middle of the data. The middle of their box can be outside every cell: of data
    in a projection, of data located by positions, and where bounds leave gaps.
    """
    import numpy as np

    spatial = description.spatial
    if spatial.family == "rectilinear" and spatial.bbox is not None:
        west, south, east, north = spatial.bbox
        at = ((west + (east if east >= west else east + 360)) / 2, (south + north) / 2)
        return _held(description, labels, str(spatial.x), at[0]), _held(description, labels, str(spatial.y), at[1])
    if spatial.family == "projected":
        onto, factor = native_system(description)
        # A rectangle of angles, such as a disc seen by a satellite, has places of the Earth in its middle.
        x, y = (float(np.median(labels.values[str(name)])) * factor for name in (spatial.x, spatial.y))
        lon, lat = onto.transform(x, y, direction="INVERSE")
        return float(lon), float(lat)
    lon, lat = (np.asarray(labels.values[str(name)], "float64").ravel() for name in (spatial.x, spatial.y))
    known = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
    places = on_sphere(lon[known], lat[known])
    nearest = known[int(np.argmax(places @ places.mean(axis=0)))]
    return float(lon[nearest]), float(lat[nearest])


def _held(description: CubeDescription, labels: Labels, name: str, value: float) -> float:
    """Return *value* if a cell of an axis holds it, else the label that is nearest."""
    import numpy as np

    axis = cells(description, description.axis(name), labels)
    if int(holding_each(axis, np.array([value]))[0]) >= 0:
        return value
    apart = np.abs(np.asarray(axis.labels, "float64") - value)
    return float(axis.labels[int(np.argmin(np.minimum(apart, 360 - apart) if axis.circle else apart))])


def _straight(description: CubeDescription, labels: Labels, canvas: Canvas) -> Places:
    spatial = description.spatial
    x, y = description.axis(str(spatial.x)), description.axis(str(spatial.y))
    across, along = cells(description, x, labels), cells(description, y, labels)
    if spatial.family == "rectilinear" and canvas.crs in (CRS84, MERCATOR):
        columns, rows = canvas.centres()
        if canvas.crs == MERCATOR:
            columns, rows = _degrees(columns, rows)
        held = _with_lines(along, across, (holding_each(along, rows), holding_each(across, columns)), canvas)
        return Places((y.dimension, x.dimension), held, apart=True)
    native_x, native_y = _between(canvas, _into(description, canvas.crs))
    return Places((y.dimension, x.dimension), (holding_each(along, native_y), holding_each(across, native_x)), apart=False)


def _with_lines(along: Cells, across: Cells, index: tuple[Array, Array], canvas: Canvas) -> tuple[Array, Array]:
    """Return the indices of rows and columns, with a row or column that has no width as wide as a dot, so that it is seen."""
    import numpy as np

    x0, y0, x1, y1 = canvas.bbox
    lon, lat = _turned(across.labels[:1].astype("f8"), canvas), along.labels[:1].astype("f8")
    x, y = transform(CRS84, canvas.crs)(lon, lat)
    found = []
    for axis, each, side, start, to in ((along, index[0], y1 - y0, y1, -y), (across, index[1], x1 - x0, -x0, x)):
        if axis.labels.size == 1 and not axis.upper[0] > axis.lower[0] and side > 0:
            away = np.abs((start + to) / side * each.size - (np.arange(each.size) + 0.5))
            each = np.where(away <= _DOT + 1e-6, 0, each).astype("int32")
        found.append(each)
    return found[0], found[1]


def _into(description: CubeDescription, crs: str) -> Any:
    """Return the function that transforms points of *crs* to stored labels of the grid."""
    if description.spatial.family == "rectilinear":
        return transform(crs, CRS84)
    to_native, factor = native_system(description)
    if crs == CRS84:
        return lambda a, b: tuple(each / factor for each in to_native.transform(a, b))
    to_degrees = transform(crs, CRS84)

    def both(a: Array, b: Array) -> tuple[Array, Array]:
        native_x, native_y = to_native.transform(*to_degrees(a, b))
        return native_x / factor, native_y / factor

    return both


def transform(crs: str, to: str) -> Any:
    """Return the transformation between two reference systems, x before y. Raises ValueError if one is unknown."""
    if crs == to:
        return lambda a, b: (a, b)
    if (crs, to) == (MERCATOR, CRS84):
        return _degrees
    if (crs, to) == (CRS84, MERCATOR):
        return _mercator
    return _transformer(crs, to).transform


@lru_cache(maxsize=64)
def _transformer(crs: str, to: str) -> Any:
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    def known(name: str) -> CRS:
        try:
            return CRS.from_user_input(name)
        except ProjError as exc:
            raise ValueError(f"{name} is not a known reference system") from exc

    before, after = known(crs), known(to)
    try:
        return Transformer.from_crs(before, after, always_xy=True)
    except ProjError as exc:
        raise ValueError(f"there is no transformation from {crs} to {to}") from exc


def _degrees(x: Array, y: Array) -> tuple[Array, Array]:
    import numpy as np

    return x / MERCATOR_M * 180.0, np.degrees(np.arctan(np.sinh(y / EARTH_M)))


def _mercator(lon: Array, lat: Array) -> tuple[Array, Array]:
    import numpy as np

    sine = np.clip(np.sin(np.radians(lat)), -1 + 1e-12, 1 - 1e-12)
    return lon / 180.0 * MERCATOR_M, EARTH_M * np.arctanh(sine)


def _between(canvas: Canvas, into: Any) -> tuple[Array, Array]:
    """Return x and y of every pixel in the grid's own system, exact every few pixels and interpolated in between if accurate
    enough.
    """
    import numpy as np

    columns, rows = canvas.centres()
    if canvas.width <= 2 * _BLOCK or canvas.height <= 2 * _BLOCK:
        return _finite(into(*np.meshgrid(columns, rows)))
    wide, high = -(-canvas.width // _BLOCK), -(-canvas.height // _BLOCK)
    at_x = np.linspace(0, canvas.width - 1, wide + 1)
    at_y = np.linspace(0, canvas.height - 1, high + 1)

    def exact(x: Array, y: Array) -> tuple[Array, Array]:
        across, down = np.interp(x, np.arange(canvas.width), columns), np.interp(y, np.arange(canvas.height), rows)
        return _finite(into(*np.meshgrid(across, down)))

    nodes = exact(at_x, at_y)
    half_x, half_y = (at_x[:-1] + at_x[1:]) / 2, (at_y[:-1] + at_y[1:]) / 2
    between = zip(nodes, exact(half_x, half_y), exact(half_x, at_y), exact(at_x, half_y), strict=True)
    bad = np.zeros((high, wide), bool)
    for node, middle, level, upright in between:
        # How far one pixel goes, where it goes least: there, an error counts for most.
        steps = (np.abs(np.diff(node, axis=1)), np.abs(np.diff(node, axis=0)))
        one = np.maximum(np.minimum(steps[0][:-1], steps[0][1:]), np.minimum(steps[1][:, :-1], steps[1][:, 1:])) / _BLOCK
        # Halfway between the nodes: of a whole block, and of each of its sides.
        off = np.abs((node[:-1, :-1] + node[:-1, 1:] + node[1:, :-1] + node[1:, 1:]) / 4 - middle)
        beside = np.abs((node[:, :-1] + node[:, 1:]) / 2 - level), np.abs((node[:-1] + node[1:]) / 2 - upright)
        off = np.maximum.reduce([off, beside[0][:-1], beside[0][1:], beside[1][:, :-1], beside[1][:, 1:]])
        with np.errstate(invalid="ignore"):
            bad |= ~(off <= _ALLOWED * one)
    block_x = np.clip(np.searchsorted(at_x, np.arange(canvas.width), side="right") - 1, 0, wide - 1)
    block_y = np.clip(np.searchsorted(at_y, np.arange(canvas.height), side="right") - 1, 0, high - 1)
    part_x = (np.arange(canvas.width) - at_x[block_x]) / (at_x[block_x + 1] - at_x[block_x])
    part_y = ((np.arange(canvas.height) - at_y[block_y]) / (at_y[block_y + 1] - at_y[block_y]))[:, None]
    found = []
    with np.errstate(invalid="ignore"):
        for node in nodes:
            upper = node[block_y][:, block_x] * (1 - part_x) + node[block_y][:, block_x + 1] * part_x
            lower = node[block_y + 1][:, block_x] * (1 - part_x) + node[block_y + 1][:, block_x + 1] * part_x
            found.append(upper * (1 - part_y) + lower * part_y)
    again = bad[block_y][:, block_x]
    if again.any():
        row, column = np.nonzero(again)
        exact_x, exact_y = _finite(into(columns[column], rows[row]))
        found[0][again], found[1][again] = exact_x, exact_y
    return found[0], found[1]


def _finite(pair: tuple[Array, Array]) -> tuple[Array, Array]:
    import numpy as np

    x, y = (np.asarray(each, "float64") for each in pair)
    outside = ~(np.isfinite(x) & np.isfinite(y))
    return np.where(outside, np.nan, x), np.where(outside, np.nan, y)


# --- positions ------------------------------------------------------------------------------------------------------------


def _curvilinear(description: CubeDescription, labels: Labels, canvas: Canvas) -> Places:
    """Locate pixels on a curvilinear grid. Each cell is a quadrilateral: its vertices, or between midpoints to its neighbours."""
    import numpy as np

    spatial = description.spatial
    lon, lat = (np.asarray(labels.values[str(name)], "float64") for name in (spatial.x, spatial.y))
    corners, size, sound = quads(lon, lat)
    outlines = labels.outlines()
    own = None if outlines is None else np.isfinite(outlines.size)
    if outlines is not None and own is not None:
        size, sound = np.where(own, np.nan_to_num(outlines.size), size), sound | own
    found = np.full(canvas.height * canvas.width, -1, "int32")
    project = transform(CRS84, canvas.crs)
    with np.errstate(invalid="ignore"):
        middle = np.stack(canvas.pixels(*_finite(project(_turned(lon, canvas), lat))))
    per_degree = _pixels_per_degree(canvas)
    reach = size * per_degree / np.maximum(np.cos(np.radians(np.where(np.isfinite(lat), lat, 0))), 0.05) + 2
    with np.errstate(invalid="ignore"):
        near = sound & (middle[0] > -reach) & (middle[0] < canvas.width + reach)
        near &= (middle[1] > -reach) & (middle[1] < canvas.height + reach)
    row, column, x, y = _outlines(corners, near, canvas, project)
    sine2 = corners[..., 2] ** 2
    flat = _cosine(np.maximum(sine2[:-1, :-1], sine2[1:, 1:]))
    if outlines is not None and own is not None:
        mine = np.flatnonzero(own[row, column])
        cells = row[mine], column[mine]
        ring_lon, ring_lat = outlines.lon[cells].T, outlines.lat[cells].T
        with np.errstate(invalid="ignore"):
            x[:, mine], y[:, mine] = canvas.pixels(*_finite(project(_turned(ring_lon, canvas), ring_lat)))
        flat[cells] = np.cos(np.radians(np.abs(ring_lat).max(axis=0)))
    # Later cells overwrite earlier ones. So of columns that come round again, inner cells are seen, and of these the first.
    edges = sum(((at == 0) | (at == size - 1)).astype("int8") for at, size in zip((row, column), lon.shape, strict=True))
    for chosen in (np.flatnonzero(edges == count)[::-1] for count in (2, 1, 0)):
        for start in range(0, chosen.size, _CELLS):
            part = chosen[start : start + _CELLS]
            cell = row[part] * lon.shape[1] + column[part]
            rest = _sweep_flat(found, x.take(part, 1), y.take(part, 1), size.take(cell), flat.take(cell), cell, canvas)
            # The corners on the sphere are taken of these cells only: there are few of them, if any.
            r, c = row[part][rest], column[part][rest]
            ring = np.stack([corners[r, c], corners[r, c + 1], corners[r + 1, c + 1], corners[r + 1, c]])
            if outlines is not None and own is not None:
                own_rest = np.flatnonzero(own[r, c])
                cells = r[own_rest], c[own_rest]
                ring[:, own_rest] = on_sphere(outlines.lon[cells].T, outlines.lat[cells].T)
            _paint(found, ring, cell[rest], canvas, project)
    return _flat(description, found, canvas, lon.shape)


def _outlines(corners: Array, near: Array, canvas: Canvas, project: Any) -> tuple[Array, Array, Array, Array]:
    """Return rows and columns of the cells that may be on the picture, and their four corners in pixels, ``(4, cells)``."""
    import numpy as np

    row, column = np.nonzero(near)
    if not row.size:
        return row, column, np.empty((4, 0)), np.empty((4, 0))
    top, left = row.min(), column.min()
    x, y = _pixels(corners[top : row.max() + 2, left : column.max() + 2], canvas, project)
    at, along = row - top, column - left
    ring = ((at, along), (at, along + 1), (at + 1, along + 1), (at + 1, along))
    return row, column, np.stack([x[each] for each in ring]), np.stack([y[each] for each in ring])


def _pixels(points: Array, canvas: Canvas, project: Any) -> tuple[Array, Array]:
    """Return x and y in pixels of points of the sphere; NaN for those that the reference system of the picture does not have."""
    import numpy as np

    x, y, z = np.moveaxis(points, -1, 0)
    lon, lat = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    with np.errstate(invalid="ignore"):
        return canvas.pixels(*_finite(project(_turned(lon, canvas), lat)))


def _paint(found: Array, ring: Array, cell: Array, canvas: Canvas, project: Any) -> None:
    """Draw cells in quarters, until the edges of each are straight on the picture.

    Parameters
    ----------
    ring
        The corners as unit vectors, ``(4, cells, 3)``.
    cell
        What is drawn.
    """
    import numpy as np

    for _ in range(_HALVINGS - 1):
        known = np.isfinite(ring).all(axis=(0, 2))
        ring, cell = _quarters(ring.compress(known, 1)), np.repeat(cell[known], 4)
        if not cell.size:
            return
        apart = [ring[n + 2] - ring[n] for n in (0, 1)]
        size = np.degrees(np.sqrt(np.maximum(*(np.einsum("ij,ij->i", each, each) for each in apart))))
        flat = _cosine(np.maximum(ring[0, :, 2] ** 2, ring[2, :, 2] ** 2))
        rest = _sweep_flat(found, *_pixels(ring, canvas, project), size, flat, cell, canvas)
        ring, cell = ring.take(rest, 1), cell[rest]


def _cosine(sine2: Array) -> Array:
    """Return the cosines of latitudes, of the squares of their sines."""
    import numpy as np

    cosine: Array = np.sqrt(np.maximum(1 - sine2, 1e-18))
    return cosine


def _sweep_flat(found: Array, x: Array, y: Array, size: Array, flat: Array, cell: Array, canvas: Canvas) -> Array:
    """Give each pixel the cell that contains its centre, and return the numbers of the cells that must be divided for it.

    Edges are great circles. These are the cells whose edges are not straight on the picture, or which contain a pole.

    Parameters
    ----------
    x, y
        The corners in pixels, ``(4, cells)``.
    size
        The longer diagonal in degrees.
    flat
        The cosine of the latitude nearer to a pole, of two opposite corners.
    cell
        What is drawn.
    """
    import numpy as np

    x = _unwrapped(x, canvas)
    # The sagitta of a great circle, as a part of the cell's extent. Elsewhere than on cylinders it is no more than this.
    curved = np.sqrt(1 - flat**2) / flat if canvas.crs in (CRS84, MERCATOR) else 2.0
    with np.errstate(invalid="ignore"):
        low, high = (np.stack([reduce(each, axis=0) for each in (x, y)]) for reduce in (np.min, np.max))
        extent = (high - low).max(axis=0)
        bend = extent * np.radians(size) / 8 * curved
        whole = extent <= 2 * (size * _pixels_per_degree(canvas) / np.maximum(flat, 0.05) + 2)
        beside = (high < -bend).any(axis=0) | (low[0] > canvas.width + bend) | (low[1] > canvas.height + bend)
    plain = whole & (bend <= _BEND)
    straight = np.flatnonzero(plain)
    if straight.size == cell.size:
        _sweep(found, x, y, cell, canvas)
    else:
        _sweep(found, x.take(straight, 1), y.take(straight, 1), cell[straight], canvas)
    rest: Array = np.flatnonzero(~plain & ~(whole & beside))
    return rest


def _quarters(ring: Array) -> Array:
    """Return the quarters of cells, ``(4, 4 * cells, 3)``."""
    import numpy as np

    edges = ring + np.roll(ring, -1, axis=0)
    middle = ring.sum(axis=0)
    parts = [np.stack([ring[n], edges[n], middle, edges[n - 1]]) for n in range(4)]
    joined = np.stack(parts, axis=2).reshape(4, -1, 3)
    quarters: Array = joined / np.linalg.norm(joined, axis=-1, keepdims=True)
    return quarters


def _sweep(found: Array, x: Array, y: Array, cell: Array, canvas: Canvas) -> None:
    """Fill outlines of straight edges, row by row of pixels."""
    import numpy as np

    turn = _turn(canvas)
    if turn is not None:
        # What crosses the seam begins again on the other side, and a picture of more than a turn has cells several times.
        low, high, most = x.min(axis=0), x.max(axis=0), math.ceil(canvas.width / turn)
        moved = [turn * number for number in range(-most, most + 1) if number]
        seen = [(by, np.flatnonzero((high + by > 0) & (low + by < canvas.width))) for by in moved]
        again = [(by, which) for by, which in seen if which.size]
        if again:
            x = np.concatenate([x, *(x.take(which, 1) + by for by, which in again)], axis=1)
            y = np.concatenate([y, *(y.take(which, 1) for _, which in again)], axis=1)
            cell = np.concatenate([cell, *(cell[which] for _, which in again)])
            order = np.argsort(np.concatenate([np.arange(low.size), *(which for _, which in again)]), kind="stable")
            x, y, cell = x.take(order, 1), y.take(order, 1), cell[order]
    top = np.maximum(np.ceil(y.min(axis=0) - 0.5), 0).astype("int64")
    bottom = np.minimum(np.floor(y.max(axis=0) - 0.5), canvas.height - 1).astype("int64")
    which, line = _spread(top, bottom)
    x, y, middle = x.take(which, 1), y.take(which, 1), line + 0.5
    left, right = np.full(which.size, np.inf), np.full(which.size, -np.inf)
    for one, other in ((0, 1), (1, 2), (2, 3), (3, 0)):
        crossed = np.flatnonzero((y[one] <= middle) != (y[other] <= middle))
        xa, ya = x[one][crossed], y[one][crossed]
        cut = xa + (middle[crossed] - ya) / (y[other][crossed] - ya) * (x[other][crossed] - xa)
        left[crossed] = np.minimum(left[crossed], cut)
        right[crossed] = np.maximum(right[crossed], cut)
    # Neighbours compute their common edge in opposite directions, so nearly the same.
    first = np.maximum(np.ceil(np.clip(left, -1, canvas.width + 1) - 0.5 - 1e-9), 0).astype("int64")
    last = np.minimum(np.floor(np.clip(right, -1, canvas.width + 1) - 0.5 + 1e-9), canvas.width - 1).astype("int64")
    span, pixel = _spread(first, last)
    found[line[span] * canvas.width + pixel] = cell[which[span]]


def _spread(first: Array, last: Array) -> tuple[Array, Array]:
    """Return the numbers from *first* to *last* of each entry one after another, and the entries that they belong to."""
    import numpy as np

    count = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(count.size), count)
    return which, np.arange(which.size) + (first - (np.cumsum(count) - count))[which]


def _turned(lon: Array, canvas: Canvas) -> Array:
    """Return longitudes in the turn of the canvas, if its x are longitudes."""
    if canvas.crs not in (CRS84, MERCATOR):
        return lon
    west = canvas.bbox[0] if canvas.crs == CRS84 else canvas.bbox[0] / MERCATOR_M * 180.0
    east = canvas.bbox[2] if canvas.crs == CRS84 else canvas.bbox[2] / MERCATOR_M * 180.0
    first = (west + east) / 2 - 180.0
    turned: Array = first + (lon - first) % 360.0
    return turned


def _turn(canvas: Canvas) -> float | None:
    """Return 360° in pixels, if x are longitudes."""
    if canvas.crs not in (CRS84, MERCATOR):
        return None
    return canvas.width / (canvas.bbox[2] - canvas.bbox[0]) * (360.0 if canvas.crs == CRS84 else 2 * MERCATOR_M)


def _unwrapped(x: Array, canvas: Canvas) -> Array:
    """Return corners, along the first axis, with those beyond the seam a turn further, next to the others of their cell."""
    turn = _turn(canvas)
    return x if turn is None else x + turn * (x < x.max(axis=0) - turn / 2)


def _pixels_per_degree(canvas: Canvas) -> float:
    x0, y0, x1, y1 = canvas.bbox
    if canvas.crs == CRS84:
        return max(canvas.width / (x1 - x0), canvas.height / (y1 - y0))
    metres = math.radians(1) * EARTH_M
    return max(canvas.width / (x1 - x0), canvas.height / (y1 - y0)) * metres


def _flat(description: CubeDescription, found: Array, canvas: Canvas, shape: tuple[int, ...]) -> Places:
    """Return the indices of flattened cells as one index for each dimension of the grid."""
    import numpy as np

    missing = found < 0
    index = np.unravel_index(np.where(missing, 0, found), shape)
    return Places(
        description.cell_dimensions,
        tuple(np.where(missing, -1, each).astype("int32").reshape(canvas.height, canvas.width) for each in index),
        apart=False,
    )


def _unstructured(description: CubeDescription, labels: Labels, canvas: Canvas) -> Places:
    import numpy as np

    spatial = description.spatial
    lon, lat = (np.asarray(labels.values[str(name)], "float64") for name in (spatial.x, spatial.y))
    found = _stations(lon, lat, canvas, spatial.reach) if spatial.reach is not None else _mesh(lon, lat, canvas)
    return _flat(description, found, canvas, lon.shape)


def _mesh(lon: Array, lat: Array, canvas: Canvas) -> Array:
    """Return the node nearest to each pixel on the sphere, if it is not farther away than its neighbours, as EDR has it."""
    import numpy as np

    found = np.full(canvas.height * canvas.width, -1, "int32")
    x, y = _finite(transform(canvas.crs, CRS84)(*np.meshgrid(*canvas.centres())))
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    points, positions = on_sphere(x.ravel()[there], y.ravel()[there]), on_sphere(lon.ravel(), lat.ravel())
    nodes = _near(positions, points)
    if not there.size or not nodes.size:
        return found
    sphere = Sphere(positions[nodes])
    nearest, far = sphere.nearest(points)
    used, of = np.unique(nearest, return_inverse=True)
    reach = sphere.spacing(used, 2 * lon.ndim)
    for each in np.flatnonzero(np.isnan(reach)).tolist():
        reach[each] = spacing(lon, lat, tuple(int(at) for at in np.unravel_index(nodes[used[each]], lon.shape)))
    reach[np.isinf(reach)] = 0  # the extent of a single node is unknown
    # A dense mesh can be smaller than a pixel, and is seen nevertheless.
    close = far <= np.maximum(reach[of], math.radians(1) / _pixels_per_degree(canvas))
    nearest = nodes[nearest]
    found[there[close]] = nearest[close]
    return found


def _near(positions: Array, points: Array) -> Array:
    """Return the known nodes around the points of a picture: as far away as it is wide, or more where nodes are farther apart."""
    import numpy as np

    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    centre = points.sum(axis=0) if len(points) else np.zeros(3)
    if (length := np.linalg.norm(centre)) < 0.5 * len(points) or known.size <= _ENOUGH:
        return known
    centre = centre / length
    away = np.arccos(np.clip(positions[known] @ centre, -1, 1))
    radius = 3 * float(np.arccos(np.clip(points @ centre, -1, 1)).max())
    return known[away <= max(radius, float(np.partition(away, _ENOUGH - 1)[_ENOUGH - 1]))]


def _stations(lon: Array, lat: Array, canvas: Canvas, reach: float) -> Array:
    """Return the nearest of stations, of pixels within its reach. Stations are no cells: what they measure says nothing of places
    far from them. A dot is wide enough to be seen.
    """
    import numpy as np
    import shapely

    lon, lat, nodes = _turned(lon.ravel(), canvas), lat.ravel(), np.arange(lon.size)
    if canvas.crs in (CRS84, MERCATOR):
        # A node near the seam is also near the pixels on the other side.
        lon, lat, nodes = np.concatenate([lon, lon - 360, lon + 360]), np.tile(lat, 3), np.tile(nodes, 3)
    found = np.full(canvas.height * canvas.width, -1, "int32")
    x, y, nodes = _around(*canvas.pixels(*_finite(transform(CRS84, canvas.crs)(lon, lat))), nodes, canvas)
    if nodes.size:
        column, row = (each.ravel() for each in np.meshgrid(np.arange(canvas.width) + 0.5, np.arange(canvas.height) + 0.5))
        places: Any = shapely.points(x, y)
        (pixel, nearest), distance = shapely.STRtree(places).query_nearest(
            shapely.points(column, row), return_distance=True, all_matches=False
        )
        close = distance <= max(reach * _pixels_per_degree(canvas), _DOT)
        found[pixel[close]] = nodes[nearest[close]]
    return found


_ENOUGH = 256
"""So many nodes around a picture include the nearest of each pixel that has one, and the neighbours of these."""


def _around(x: Array, y: Array, nodes: Array, canvas: Canvas) -> tuple[Array, Array, Array]:
    """Return the nodes around the picture: those that are at most its own size away, or more where nodes are farther apart."""
    import numpy as np

    side = max(canvas.width, canvas.height)
    with np.errstate(invalid="ignore"):
        away = np.maximum(np.abs(x - canvas.width / 2) - canvas.width / 2, np.abs(y - canvas.height / 2) - canvas.height / 2)
        near = away < side
        if near.sum() < _ENOUGH:
            known = away[np.isfinite(away)]
            least = np.partition(known, _ENOUGH - 1)[_ENOUGH - 1] if known.size > _ENOUGH else np.inf
            near = away <= least
    return x[near], y[near], nodes[near]
