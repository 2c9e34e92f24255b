"""Overviews: coarser levels of the fields of a grid. Each cell combines two by two cells of the level before. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from cubeport.cubes.description import CubeDescription, Variable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

type Method = Literal["mean", "nearest", "max"]
type Wanted = int | Literal["off", "auto"]

WORTH_CELLS = 1 << 20
"""By default, overviews are made if a slice has more cells than this."""
SIDE = 512
"""Neither side of the coarsest level has more cells than this; it is also the side of a chunk."""
MOST = 12
"""Most levels that can be requested."""


def levels(cube: CubeDescription, wanted: Wanted = "auto") -> int:
    """Return how many levels a cube has. Grids without x and y axes have none."""
    sides = sides_of(cube)
    if sides is None or wanted == "off":
        return 0
    high, wide = sides
    if wanted == "auto" and high * wide <= WORTH_CELLS:
        return 0
    found, most = 0, MOST if wanted == "auto" else wanted
    while found < most and max(high, wide) > (SIDE if wanted == "auto" else 1):
        high, wide, found = halved(high), halved(wide), found + 1
    return found


def sides_of(cube: CubeDescription) -> tuple[int, int] | None:
    """Return the numbers of rows and columns of a slice, ``None`` unless x and y are both axes."""
    x, y = cube.axis_of("x"), cube.axis_of("y")
    if cube.spatial.family not in ("rectilinear", "projected") or x is None or y is None or x.scalar or y.scalar:
        return None
    return y.size, x.size


def dimensions_of(cube: CubeDescription) -> tuple[str, str]:
    """Return the dimensions of y and x of a cube that has overviews."""
    x, y = cube.axis_of("x"), cube.axis_of("y")
    assert x is not None
    assert y is not None
    return y.dimension, x.dimension


def fields_of(cube: CubeDescription) -> tuple[str, ...]:
    """Return the fields that have overviews: numeric fields whose last two dimensions are y and x, in either order."""
    across = set(dimensions_of(cube))
    return tuple(name for name in cube.fields if set((each := cube.variable(name)).dimensions[-2:]) == across and _is_number(each))


def _is_number(variable: Variable) -> bool:
    return variable.dtype[:3] in ("int", "uin", "flo")


def method_of(variable: Variable, wanted: Method | None = None) -> Method:
    """Return how a field is made coarser: the mean of numbers, the greatest value of masks of 0 and 1, else the first of the four
    cells.
    """
    if wanted is not None:
        return wanted
    if variable.decoded_dtype.startswith("float"):
        return "mean"
    return "max" if (variable.valid_min, variable.valid_max) == (0, 1) and not variable.has_classes else "nearest"


def dtype_of(variable: Variable, method: Method) -> str:
    """Return the type of the values of a level: means of unpacked values are float32, unless they were float64 as stored."""
    if method != "mean":
        return variable.dtype
    return variable.dtype if variable.dtype.startswith("float") else "float32"


def halved(size: int) -> int:
    """Return the length of the next level; an odd edge is kept."""
    return -(-size // 2)


def coarser(values: Array, method: Method, missing: Any = None) -> Array:
    """Return the next level of ``(…, rows, columns)``.

    Parameters
    ----------
    values
        Shape (…, rows, columns). For means: decoded, NaN where missing. Else as stored.
    missing
        For ``max``: the stored value that means missing; ``None`` if there is no such value.
    """
    import numpy as np

    if method == "nearest":
        return values[..., ::2, ::2]
    parts = [values[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
    first = parts[0]
    if method == "max":
        found = np.array(first)
        for part in parts[1:]:
            held = found[..., : part.shape[-2], : part.shape[-1]]
            better = (part > held) if missing is None else ((part != missing) & ((held == missing) | (part > held)))
            held[better] = part[better]
        return found
    total = np.zeros(first.shape, "float64")
    count = np.zeros(first.shape, "uint8")
    for part in parts:
        here = (..., slice(part.shape[-2]), slice(part.shape[-1]))
        known = part == part
        total[here] += np.where(known, part, 0)
        count[here] += known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Array = (total / count).astype(values.dtype)
    return mean


def at_level(cube: CubeDescription, level: int, methods: Sequence[tuple[str, Method]]) -> CubeDescription:
    """Return the description of the fields of one level, for reading: shapes, chunks and types."""
    across = dimensions_of(cube)
    made = dict(methods)
    found = []
    for variable in cube.variables:
        if variable.name not in made:
            continue
        shape, chunks = list(variable.shape), list(variable.chunks)
        for at, dimension in enumerate(variable.dimensions):
            if dimension in across:
                for _ in range(level):
                    shape[at] = halved(shape[at])
                chunks[at] = min(SIDE, shape[at])
        dtype = dtype_of(variable, made[variable.name])
        decoded = dtype if made[variable.name] == "mean" else variable.decoded_dtype
        found.append(
            variable.model_copy(update={"shape": tuple(shape), "chunks": tuple(chunks), "dtype": dtype, "decoded_dtype": decoded})
        )
    return cube.model_copy(update={"variables": tuple(found), "fields": tuple(made)})


def fitting(index: Sequence[Array], most: int) -> int:
    """Return the coarsest level whose cells are not larger than a pixel, at most *most*.

    Parameters
    ----------
    index
        Indices of the cells of the base: for each row and each column of pixels, or (height, width) along both dimensions. Negative
        where there is no cell.
    """
    import numpy as np

    apart = index[0].ndim == 1
    pairs = [(each[None, :], 1) for each in index] if apart else [(each, axis) for axis in (0, 1) for each in index]
    moved: list[float] = []
    for each, axis in pairs:
        here, there = (each[:, :-1], each[:, 1:]) if axis == 1 else (each[:-1], each[1:])
        seen = (here >= 0) & (there >= 0)
        distances = np.abs(there[seen].astype("int64") - here[seen])
        if apart and distances.max(initial=0) < 2:
            return 0  # as for most pictures: no pixel is two cells from the next one
        moved.append(_step(distances) if distances.size else 0.0)
    # On a rotated grid the next pixel can be along either dimension; take the longer distance.
    steps = moved if apart else [max(moved[:2]), max(moved[2:])]
    level = 0
    while level < most and 2 ** (level + 1) <= min(steps):
        level += 1
    return level


def _step(moved: Array) -> float:
    """Return the mean distance to the next pixel in cells, without the jumps over the seam of the data."""
    import numpy as np

    return float(moved[moved <= 2 * np.median(moved) + 1].mean())
