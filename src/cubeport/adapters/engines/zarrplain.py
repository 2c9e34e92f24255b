"""Open a version of ours with numcodecs alone: numbers in checksummed zstd, as most versions have.

zarr-python passes every read through the event loop of another thread, and parses metadata at length. To open a version and read
its labels takes a quarter of the first child's time for a small update, and a fifth of that here. For a version with other arrays
:func:`read` returns ``None``, and zarr-python opens it. Where both can, they give the same variables, attributes and values in the
same order, which tests/gate/test_plain_zarr.py holds; and the second child reads what was written with zarr-python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numcodecs import Zstd
from xarray.backends import BackendArray
from xarray.backends.zarr import FillValueCoder
from xarray.core import indexing

from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.zarrv3 import Grid, Values
from cubeport.cubes import keys

type ReadsObject = Callable[[str], bytes | None]
"""Returns the bytes of a key, or ``None`` if there is no such object. It raises for one that is lost."""


def read(root: Mapping[str, Any], objects: ReadsObject) -> xr.Dataset | None:
    """Return the cube whose consolidated metadata are in *root* as stored, lazily; ``None`` if it has other arrays."""
    variables = {}
    for name, node in root["consolidated_metadata"]["metadata"].items():
        grid, dimensions, attributes = zarrv3.parse_array(node)
        if grid.form is not None or grid.is_text:
            return None
        if "_FillValue" in attributes:
            attributes["_FillValue"] = FillValueCoder.decode(attributes["_FillValue"], grid.dtype)
        data = indexing.LazilyIndexedArray(_Stored(name, grid, objects))
        variables[name] = xr.Variable(dimensions, data, attributes, {"chunks": grid.chunks})
    labels = {name: each for name, each in variables.items() if each.dims == (name,)}
    fields = {name: each for name, each in variables.items() if name not in labels}  # xarray has these first
    shown = {name: each for name, each in root["attributes"].items() if not name.lower().startswith("_nc")}  # as it hides them
    return xr.Dataset(fields, coords=xr.Coordinates(labels, indexes={}), attrs=shown)


class _Stored(BackendArray):
    """The values of an array."""

    def __init__(self, name: str, grid: Grid, objects: ReadsObject) -> None:
        self._name, self._grid, self._objects = name, grid, objects
        self.shape, self.dtype = grid.shape, grid.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        ranges = [
            range(*each.indices(size)) if isinstance(each, slice) else range(each % size, each % size + 1)
            for each, size in zip(key, self.shape, strict=True)
        ]
        found = np.empty(tuple(map(len, ranges)), self.dtype)
        for parts in product(*(list(_by_chunk(each, length)) for each, length in zip(ranges, self._grid.chunks, strict=True))):
            chunk = self._chunk(tuple(number for number, _, _ in parts))
            found[tuple(into for _, _, into in parts)] = chunk[tuple(of for _, of, _ in parts)]
        return found[tuple(slice(None) if isinstance(each, slice) else 0 for each in key)]

    def _chunk(self, index: tuple[int, ...]) -> Values:
        data = self._objects(keys.chunk(self._name, index))
        if data is None:
            return np.full(self._grid.chunks, self._grid.fill, self.dtype)
        plain = np.frombuffer(Zstd().decode(data), self.dtype.newbyteorder("<"))
        return plain.reshape(self._grid.chunks)  # raises ValueError if it is shorter or longer


def _by_chunk(wanted: range, length: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each chunk along a dimension of which something is *wanted*, what of it, and where that goes in the result."""
    at = 0
    while at < len(wanted):
        number = wanted[at] // length
        first = wanted[at] - number * length
        count = min(len(wanted) - at, (length - first - 1) // wanted.step + 1)
        yield number, slice(first, first + (count - 1) * wanted.step + 1, wanted.step), slice(at, at + count)
        at += count
