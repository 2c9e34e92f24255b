"""The arrays of a cube that is being checked: every chunk that is read is hashed on the way."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.manifest import CUBE
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate.objects import Objects
from cubeport.adapters.gate.write import THREADS
from cubeport.adapters.sandbox import child, wire
from cubeport.adapters.sources.reading import AXIS_BYTES, decoding, is_label, native
from cubeport.cubes.keys import METADATA
from cubeport.errors import SourceRejected

_BLOCK_BYTES = 32 * 2**20


def document(made: Objects, node: str = "") -> dict[str, Any]:
    """Return a node's metadata as strict JSON."""
    data = made.read(f"{node}/{METADATA}" if node else METADATA)
    try:
        if data is not None:
            return wire.decode(data)
    except wire.Garbled as error:
        raise foreign(node or CUBE) from error
    raise foreign(node or CUBE)


def parsed(name: str, document: Mapping[str, Any]) -> Grid:
    """Return the grid of an array. Raises SourceRejected (``unsafe``) if its metadata have not the form that cubeport writes."""
    try:
        return zarrv3.parse_array(document)[0]
    except ValueError as error:
        raise foreign(name) from error


def foreign(name: str) -> SourceRejected:
    """Return the refusal of such metadata."""
    return SourceRejected(f"the metadata of {name!r} are not as cubeport writes them", reason="unsafe")


class Told:
    """Reports how many bytes were checked, at most a hundred times."""

    def __init__(self, context: child.Context, total: int) -> None:
        self._context, self._total = context, total
        self._done = self._told = 0
        self._lock = threading.Lock()
        context.declare(total)

    def add(self, size: int) -> None:
        """Add *size* bytes. Threads can call it concurrently; one at a time writes to the channel."""
        with self._lock:
            self._done += size
            if self._done >= self._told + self._total // 100:
                self._told = self._done
                self._context.progress("measuring", self._done, self._total)


class Watched(BackendArray):
    """An array whose chunks are hashed when they are read for the description, so that no value is decoded twice."""

    def __init__(
        self,
        name: str,
        grid: Grid,
        variable: xr.Variable,
        stated: Told,
        takes: Callable[[tuple[int, ...]], bool],
        *,
        apart: bool = False,
        found: Mapping[tuple[int, ...], bytes] | None = None,
    ) -> None:
        if (variable.shape, native(variable.dtype)) != (grid.shape, grid.dtype):
            raise foreign(name)
        self._name, self._grid, self._variable, self._told, self._takes = name, grid, variable, stated, takes
        self._apart = apart
        """Whether the chunks that are taken are far apart, so that what is between them is not read."""
        self.found: dict[tuple[int, ...], bytes] = dict(found or {})
        """The digests of the values of the chunks that were read, here or by a worker."""
        self.shape, self.dtype = variable.shape, grid.dtype

    def variable(self) -> xr.Variable:
        """Return the variable to describe. Text is already in memory, and labels are read here, once for all that needs them."""
        if self._grid.is_text:
            return self._variable
        if is_label(self._variable, most=AXIS_BYTES) and not self._apart:
            return xr.Variable(self._variable.dims, self._get((slice(None),) * self._variable.ndim), self._variable.attrs)
        return xr.Variable(self._variable.dims, indexing.LazilyIndexedArray(self), self._variable.attrs)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Any:
        values = self._read(key)
        if all(isinstance(each, slice) and each.step in (None, 1) for each in key):
            region = tuple(slice(*each.indices(size)[:2]) for each, size in zip(key, self.shape, strict=True))
            for index in self._grid.within(region):
                self._note(index, region, values)
        return values

    def read(self, region: zarrv3.Region) -> None:
        """Read a region, whose chunks are hashed."""
        self._get(region)

    def _read(self, key: tuple[Any, ...]) -> zarrv3.Values:
        with decoding(self._name):
            return np.asarray(self._variable[key].values, dtype=self.dtype)

    def _note(self, index: tuple[int, ...], region: zarrv3.Region, values: zarrv3.Values) -> None:
        if index not in self.found and self._takes(index):
            chunk = values[zarrv3.inside(self._grid.region(index), region)]
            self.found[index] = self._grid.digest(chunk)
            self._told.add(chunk.size * self._grid.itemsize)

    def _hash(self, indices: list[tuple[int, ...]]) -> None:
        region = self._grid.around(indices)
        values = self._read(region)
        for index in indices:
            self._note(index, region, values)

    def digest(self, pool: Executor, hashes: Callable[[tuple[int, ...]], bool]) -> str:
        """Return the digest of the chunks that the first child hashed. *pool* decodes the chunks that were not read yet."""
        flying: deque[Future[None]] = deque()
        for _, every in zarrv3.blocks(self._grid, None, _BLOCK_BYTES):
            indices = [index for index in every if self._takes(index)]
            if any(index not in self.found for index in indices):
                flying += [pool.submit(self._hash, each) for each in ([[index] for index in indices] if self._apart else [indices])]
            while len(flying) > THREADS:  # at most this many blocks are in memory
                flying.popleft().result()
        for each in flying:
            each.result()
        return zarrv3.digest_of([self.found[index] for index in sorted(self.found) if hashes(index)])
