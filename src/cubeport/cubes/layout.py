"""How a cube is divided into chunks: about 1 MiB each, balanced between maps and series. A coordinate is one chunk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cubeport.cubes.groups import find
from cubeport.cubes.variables import is_text
from cubeport.errors import InvalidTemplate

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 1024 * 1024
"""The target size of a chunk of data, before compression."""

COORDINATE_BYTES = 64 * 1024 * 1024
"""A coordinate up to this size is one chunk; a larger coordinate is chunked like data."""

_TEXT_BYTES = 64


def chunks(raw: xr.Dataset, explicit: Mapping[str, int] | None = None) -> dict[str, tuple[int, ...]]:
    """Return the chunk lengths of an undecoded dataset, by variable.

    Parameters
    ----------
    raw
        Opened with ``decode_cf=False``.
    explicit
        Lengths by dimension that a template sets for data; −1 is the whole dimension. The other dimensions share the rest of 1 MiB.

    Raises
    ------
    InvalidTemplate
        If *explicit* names a dimension that does not exist, or a length is not valid.
    """
    found = find(raw)
    fixed = _fixed(raw, explicit or {})
    kinds = {axis.dimension: axis.kind for axis in found.axes if not axis.scalar}
    lengths: dict[str, tuple[int, ...]] = {}
    for key, variable in raw.variables.items():
        name = str(key)
        shape = tuple(max(int(size), 1) for size in variable.shape)
        itemsize = _TEXT_BYTES if is_text(variable) and variable.dtype.kind != "S" else variable.dtype.itemsize
        if found.roles[name] != "data" and math.prod(shape) * itemsize <= COORDINATE_BYTES:
            lengths[name] = shape
            continue
        dims = tuple(map(str, variable.dims))
        given = {n: fixed[d] for n, d in enumerate(dims) if d in fixed}
        series = {n for n, d in enumerate(dims) if kinds.get(d) == "t"}
        maps = {n for n, d in enumerate(dims) if kinds.get(d, "index") in ("x", "y", "index")}
        lengths[name] = balanced(shape, itemsize, series=series, maps=maps, given=given)
    return lengths


def _fixed(raw: xr.Dataset, explicit: Mapping[str, int]) -> dict[str, int]:
    for dimension, length in explicit.items():
        if dimension not in raw.sizes:
            raise InvalidTemplate(
                f"chunks: there is no dimension {dimension!r}; there are {', '.join(sorted(map(str, raw.sizes)))}"
            )
        if length < 1 and length != -1:
            raise InvalidTemplate(f"chunks: the length of {dimension!r} is a whole number from 1, or -1 for all")
    return {d: int(raw.sizes[d]) if n == -1 else min(n, max(int(raw.sizes[d]), 1)) for d, n in explicit.items()}


def balanced(
    shape: tuple[int, ...],
    itemsize: int,
    *,
    series: set[int],
    maps: set[int],
    given: Mapping[int, int] | None = None,
) -> tuple[int, ...]:
    """Return chunk lengths of about 1 MiB for which a whole map and a whole series touch about the same number of chunks.

    Parameters
    ----------
    shape, itemsize
        The shape of the array, and the bytes of one value.
    series, maps
        The indices of the time dimensions and of the horizontal dimensions. All other dimensions get length 1 unless there is space
        for more.
    given
        Lengths that are already set, by index of the dimension.
    """
    given = given or {}
    lengths = [given.get(n, 1) for n in range(len(shape))]
    room = max(1.0, CHUNK_BYTES / itemsize / math.prod(lengths))
    if math.prod(size for n, size in enumerate(shape) if n not in given) <= room:
        return tuple(given.get(n, size) for n, size in enumerate(shape))
    free_series = sorted(series - set(given))
    free_maps = sorted(maps - set(given))
    times = math.prod(shape[n] for n in free_series)
    cells = math.prod(shape[n] for n in free_maps)
    # A series touches n_t / c_t chunks, a map n_xy / c_xy, and c_t · c_xy fills the chunk. Both are equal if c_t² = n_t · room /
    # n_xy.
    long = min(float(times), room, max(1.0, math.sqrt(times * room / cells)))
    wide = min(float(cells), max(1.0, room / long))
    long = min(float(times), max(1.0, room / wide))
    _spread(lengths, shape, free_maps, wide)
    _spread(lengths, shape, free_series, long)
    left = CHUNK_BYTES / itemsize / math.prod(lengths)
    for n in reversed(range(len(shape))):
        if n in given or n in series or n in maps or left < 2:
            continue
        lengths[n] = _even(shape[n], min(float(shape[n]), left))
        left /= lengths[n]
    return tuple(lengths)


def _spread(lengths: list[int], shape: tuple[int, ...], places: list[int], amount: float) -> None:
    """Divide *amount* cells among several dimensions in proportion to their sizes. The smallest is first, because it may fit
    whole.
    """
    for taken, n in enumerate(sorted(places, key=lambda n: shape[n])):
        rest = [shape[m] for m in sorted(places, key=lambda m: shape[m])[taken:]]
        share = shape[n] * (amount / math.prod(rest)) ** (1 / len(rest))
        lengths[n] = _even(shape[n], min(float(shape[n]), max(1.0, share)))
        amount = max(1.0, amount / lengths[n])


def _even(size: int, length: float) -> int:
    """Return a length near *length* that leaves no thin last chunk."""
    return math.ceil(size / max(1, math.ceil(size / max(1.0, length) - 1e-9)))
