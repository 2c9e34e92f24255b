"""Index windows: what an answer reads along each dimension, and what it costs.

:mod:`cubeport.cubes.resolve` makes them. Axes and values are cut by the same windows, so both keep the order of the store; nothing
is flipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cells import Cells, exact
from cubeport.cubes.cylinders import around_seam
from cubeport.cubes.description import Axis, CubeDescription

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cubeport.cubes.quads import Outlines

    type Array = NDArray[Any]


LATITUDE_FIRST = "EPSG:4326"
"""WGS 84 with latitude as the first axis. CRS84 is the same system with longitude first."""
UNKNOWN = -(2**62)
"""The order of a missing time. It sorts before all others."""


@dataclass(frozen=True, slots=True)
class Labels:
    """The coordinates of a cube, decoded once for each version.

    ``values`` contains, by axis name, numbers, text, or for time the numbers of :func:`cubeport.cubes.selection.order`. It also
    contains the positions of curvilinear and unstructured grids under the names ``spatial.x`` and ``spatial.y``, times that are not
    an axis (:data:`UNKNOWN` if missing), and heights of positions. ``bounds`` contains CF bounds (n, 2) in the same form.
    """

    values: Mapping[str, Array]
    bounds: Mapping[str, Array] = field(default_factory=dict)
    cells: dict[str, Cells] = field(default_factory=dict, compare=False, repr=False)
    """Cached cells of axes (:func:`cubeport.cubes.resolve.cells`), because computing them costs more than most queries."""
    outlines: Callable[[], Outlines | None] = field(default=lambda: None, compare=False, repr=False)
    """Returns the vertices of the cells of a curvilinear grid if the data have them. The first call reads them."""
    repeated: Callable[[], Array | None] = field(default=lambda: None, compare=False, repr=False)
    """Returns which cells of a curvilinear grid are at the place of another (:func:`cubeport.cubes.outlines.repeated`). The first
    call computes it.
    """


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Indices ``start`` to ``stop`` (not included), with labels shifted by ``shift`` (whole turns of 360°)."""

    start: int
    stop: int
    shift: float = 0.0


def runs_of(indices: Sequence[int] | Array, shifts: Sequence[float] | Array | None = None) -> tuple[IndexRange, ...]:
    """Return ranges of consecutive indices with the same shift, in order; an empty tuple if there are no indices."""
    import numpy as np

    numbers = np.asarray(indices, dtype="int64")
    if not numbers.size:
        return ()
    moved = np.zeros(numbers.size) if shifts is None else np.asarray(shifts, dtype="float64")
    breaks = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(moved) != 0)) + 1
    first, last = [0, *breaks.tolist()], [*breaks.tolist(), numbers.size]
    return tuple(
        IndexRange(int(numbers[low]), int(numbers[high - 1]) + 1, float(moved[low])) for low, high in zip(first, last, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Window:
    """The part of one dimension: index ranges in the order of the answer (two if a box crosses the seam of the data)."""

    dimension: str
    runs: tuple[IndexRange, ...]
    sliced: bool = False
    """Whether the caller asked for a single value, so that an answer may drop the dimension."""

    @property
    def size(self) -> int:
        return sum(run.stop - run.start for run in self.runs)

    def indices(self) -> Array:
        """Return the indices in the order of the answer."""
        import numpy as np

        return np.concatenate([np.arange(run.start, run.stop) for run in self.runs])

    def chunks(self, length: int) -> int:
        """Return how many chunks of this length the window touches."""
        return len({at for run in self.runs for at in range(run.start // length, (run.stop - 1) // length + 1)})


def aligned(values: Array, own: Sequence[str], dimensions: Sequence[str]) -> Array:
    """Return values along *own* dimensions transposed to *dimensions*, with length 1 along dimensions that they do not have."""
    import numpy as np

    order = [dimensions.index(each) for each in own]
    lengths = dict(zip(own, values.shape, strict=True))
    found: Array = values.transpose(np.argsort(order)).reshape([lengths.get(each, 1) for each in dimensions])
    return found


@dataclass(frozen=True, slots=True)
class Mask:
    """Which cells of the windows are selected. The other cells are missing values in the answer."""

    dimensions: tuple[str, ...]
    inside: Array

    def aligned(self, dimensions: Sequence[str]) -> Array:
        """Return the mask transposed to *dimensions*, with length 1 along dimensions that it does not have."""
        return aligned(self.inside, self.dimensions, dimensions)

    def at(self, places: Mapping[str, int]) -> Mask:
        """Return the mask at the given indices of some dimensions."""
        index = tuple(places.get(each, slice(None)) for each in self.dimensions)
        return Mask(tuple(each for each in self.dimensions if each not in places), self.inside[index])

    def __and__(self, other: Mask) -> Mask:
        dimensions = (*self.dimensions, *(each for each in other.dimensions if each not in self.dimensions))
        return Mask(dimensions, self.aligned(dimensions) & other.aligned(dimensions))


@dataclass(frozen=True, slots=True)
class Points:
    """Separate places, in the order in which they were asked for, each with the cell that contains it."""

    dimensions: tuple[str, ...]
    """The dimensions of the cells."""
    index: Array
    """The indices of the cells along these dimensions, ``(places, dimensions)``."""
    inside: Array
    """Which places have a cell. The others are outside the data."""
    x: Array
    y: Array
    """The places: longitude and latitude, or the labels of a projected grid."""
    name: str = "point"
    """The dimension of the places in an answer."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The part of a cube: fields, and a window for each of their dimensions."""

    fields: tuple[str, ...]
    along: Mapping[str, Window]
    mask: Mask | None = None
    scattered: tuple[str, ...] = ()
    """The dimensions of the cells if the caller asked for those of a line. The cells are then separate places, not part of a
    grid."""
    path: Mapping[str, Array] | None = field(default=None, compare=False)
    """The cells in the order of a line: by dimension of these cells, the position of each in the window."""
    points: Points | None = field(default=None, compare=False)
    """Several points that the caller asked for (:mod:`cubeport.cubes.sampled`)."""

    def shape(self, dimensions: Iterable[str]) -> tuple[int, ...]:
        """Return the lengths of the answer along *dimensions*."""
        return tuple(self.along[dimension].size for dimension in dimensions)

    def written(self, dimensions: Sequence[str]) -> int:
        """Return how many cells along *dimensions* are written as separate places. The box around them can have many more."""
        whole = math.prod(self.shape(dimensions))
        if self.mask is None or not self.scattered or not {*self.scattered} <= {*dimensions} & {*self.mask.dimensions}:
            return whole
        others = tuple(at for at, each in enumerate(self.mask.dimensions) if each not in self.scattered)
        return whole // math.prod(self.shape(self.scattered)) * int(self.mask.inside.any(axis=others).sum())


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an answer, from metadata alone."""

    cells: int
    """The number of values of all fields."""
    written: int
    """The same as text: without the box around separate places (:meth:`Windows.written`)."""
    chunks: int
    """The number of chunks to read."""
    bytes: int
    """The decoded size of all fields in bytes."""


def count(description: CubeDescription, windows: Windows) -> Cost:
    """Return the cost of *windows*: the exact number of cells and chunks, and the decoded bytes."""
    cells = written = chunks = size = 0
    for name in windows.fields:
        variable = description.variable(name)
        values = math.prod(windows.shape(variable.dimensions))
        cells += values
        written += windows.written(variable.dimensions)
        size += values * _itemsize(variable.decoded_dtype)
        chunks += math.prod(
            windows.along[dimension].chunks(max(1, length))
            for dimension, length in zip(variable.dimensions, variable.chunks, strict=True)
        )
    return Cost(cells, written, chunks, size)


def touched(description: CubeDescription, windows: Windows) -> int:
    """Return how many chunks have a selected cell. The box around a region or around separate places can have many more."""
    import numpy as np

    found = 0
    for name in windows.fields:
        variable, mask = description.variable(name), windows.mask
        lengths = {each: max(1, size) for each, size in zip(variable.dimensions, variable.chunks, strict=True)}
        masked = () if mask is None or not set(mask.dimensions) <= lengths.keys() else mask.dimensions
        whole = math.prod(windows.along[each].chunks(size) for each, size in lengths.items() if each not in masked)
        if mask is not None and masked:
            inside, at = mask.inside, []
            for axis, each in enumerate(masked):
                chunks = windows.along[each].indices() // lengths[each]
                begins = np.flatnonzero(np.diff(chunks, prepend=-1))
                inside = np.logical_or.reduceat(inside, begins, axis=axis)
                at.append(chunks[begins])
            # Over the seam of the data, the first and the last column can be in one chunk.
            places = [each[cell] for each, cell in zip(at, np.nonzero(inside), strict=True)]
            whole *= len(np.unique(np.stack(places), axis=1).T)
        found += whole
    return found


def fitting(description: CubeDescription, windows: Windows, *, cells: int) -> Windows | None:
    """Return *windows* with only as many of the first time steps as fit into *cells*, or ``None`` if not even one step fits."""
    time = time_axis(description)
    if time is None or time.dimension not in windows.along:
        return None
    along = windows.along[time.dimension]
    first = replace(along, runs=(IndexRange(along.runs[0].start, along.runs[0].start + 1),))
    one = replace(windows, along={**windows.along, time.dimension: first})
    steps = cells // max(1, count(description, one).cells)
    if not 1 <= steps < along.size:
        return None
    kept, left = [], steps
    for run in along.runs:
        length = min(left, run.stop - run.start)
        if length:
            kept.append(replace(run, stop=run.start + length))
        left -= length
    return replace(windows, along={**windows.along, time.dimension: replace(along, runs=tuple(kept))})


def time_axis(description: CubeDescription) -> Axis | None:
    """Return the axis whose labels are times of a calendar, or ``None``."""
    temporal = description.temporal
    return None if temporal is None or temporal.dimensions else description.axis(temporal.axis)


def storage_crs(description: CubeDescription) -> str:
    """Return ``AUTHORITY:code`` of the native reference system, ``OGC:CRS84`` for longitudes and latitudes, or ``native``.

    ``EPSG:4326`` is returned only for an answer that was requested in it, with the same longitudes and latitudes.
    """
    crs = description.spatial.system
    if crs is None or not description.spatial.is_native:
        return LATITUDE_FIRST if crs is not None and crs.authority == LATITUDE_FIRST else "OGC:CRS84"
    return crs.authority or "native"


def native_crs(description: CubeDescription) -> Any:
    """Return the ``pyproj.CRS`` of a projected grid."""
    from pyproj import CRS

    crs = description.spatial.crs
    return CRS.from_wkt(crs.wkt2) if crs is not None and crs.wkt2 else CRS.from_json_dict((crs and crs.projjson) or {})


def native_system(description: CubeDescription) -> tuple[Any, float]:
    """Return the pyproj transformer from CRS84 to the native system (x before y), and the factor from the labels of a projected
    grid to its units. Its x is where the grid has it, also if the grid goes past the seam of a cylindrical projection.
    """
    from pyproj import Transformer

    native = native_crs(description)
    onto, factor = Transformer.from_crs("OGC:CRS84", native, always_xy=True), description.spatial.axis_factor
    box = description.spatial.native_bbox
    if box is None or native.is_geographic:
        return onto, factor
    x = description.axis_of("x")
    return around_seam(onto, box, factor, falls=x is not None and x.ascending is False), factor


def turned_labels(values: Array, window: Window) -> Array:
    """Return the labels of a window (or their bounds), shifted by the whole turns of its ranges.

    If anything is shifted, the result is float64 by the shortest decimal of the stored labels: 359.9 − 360 is −0.1.
    """
    import numpy as np

    taken = values[window.indices()]
    if not any(run.shift for run in window.runs):
        return taken
    shift = np.concatenate([np.full(run.stop - run.start, run.shift) for run in window.runs])
    moved: Array = np.round(exact(taken) + shift.reshape(-1, *[1] * (taken.ndim - 1)), 10)
    return moved


def _itemsize(dtype: str) -> int:
    """Return the bytes of one value; 8 for text and objects, whose length is only in the data."""
    digits = "".join(character for character in dtype if character.isdigit())
    return max(1, int(digits) // 8) if digits and not dtype.startswith(("<U", "|S", "str", "datetime", "timedelta")) else 8
