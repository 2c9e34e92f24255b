"""The task of the second child: check the output of the first child, without access to the source.

It examines every object without following links. The metadata of every array must have the form that cubeport writes. zarr-python
decodes every chunk, and its values are compared with the digests of the first child. Only then are the cube described, its metadata
consolidated and the manifest written. The engine accepts only what the manifest lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.adapters.engines import manifest as manifests
from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.manifest import CUBE, MANIFEST, Entry
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate.parent import Parent, Updated, opened
from cubeport.adapters.gate.write import THREADS, put
from cubeport.adapters.sandbox import child, wire
from cubeport.adapters.sources.reading import decoding
from cubeport.adapters.sources.zarr import open_zarr
from cubeport.cubes import checks, keys
from cubeport.cubes.describe import describe
from cubeport.cubes.keys import METADATA
from cubeport.cubes.raw import dataset
from cubeport.cubes.update import StepsChange
from cubeport.documents import ogc, stac
from cubeport.errors import SourceRejected

with contextlib.suppress(ImportError):
    # The modules that make the documents are imported once in the template, not by each child.
    import pystac  # noqa: F401
    import xstac  # noqa: F401

_BLOCK_BYTES = 32 * 2**20


def measure(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Check ``target/cube.zarr`` against ``digests`` and return ``description, documents, files, size_bytes, digest``.

    ``request`` contains ``target``; ``digests`` by variable in the order of the store, or ``None`` if another instance wrote the
    version; and ``fields``, a list or ``None``.
    """
    target = Path(request["target"])
    root = target / CUBE
    sizes = _objects(root)
    expected: Mapping[str, str | None] = request["digests"] if request["digests"] is not None else _told(root)
    nodes = {name: _document(root / name) for name in expected}
    arrays = {name: _parsed(name, node) for name, node in nodes.items()}
    _check_keys(sizes, arrays)
    whole = zarrv3.to_bytes(zarrv3.consolidated(zarrv3.group_document(_document(root).get("attributes", {})), nodes))
    (root / METADATA).unlink()
    put(root / METADATA, whole)
    sizes[METADATA] = len(whole)
    updated = _updated(request, root, arrays, {name: node["dimension_names"] for name, node in nodes.items()})
    if updated is not None and (twice := [key for key in sizes if updated.is_shared(key)]):
        raise SourceRejected(f"{twice[0]!r} was written, but the update does not change it", reason="unsafe")
    takes = {name: partial(_takes, updated, name) for name in arrays}
    told = _Told(context, sum(grid.size_of(takes[name]) for name, grid in arrays.items()))
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        others = [key for key in sizes if key != METADATA]
        digests = pool.map(lambda key: _file_digest(root / key), others)
        raw = open_zarr(str(root), CUBE).raw if updated is None else opened(updated)
        watched = {name: _Watched(name, grid, raw.variables[name], told, takes[name]) for name, grid in arrays.items()}
        seen = dataset({name: each.variable() for name, each in watched.items()}, raw.attrs)
        checks.check(seen)  # the first child did this too, but a source may have controlled it
        lengths = {name: grid.chunks for name, grid in arrays.items()}
        known = {} if updated is None else updated.ranges(seen, lengths)
        description = describe(seen, chunks=lengths, fields=request["fields"], ranges=known)
        for name, each in watched.items():
            read = each.digest(pool)
            if expected[name] not in (None, read):
                raise SourceRejected(f"variable {name!r} reads back differently than it was written", reason="digest-mismatch")
        entries = dict(zip(others, digests, strict=True))
    entries[METADATA] = hashlib.sha256(whole).hexdigest()
    listed = {key: Entry(sizes[key], digest) for key, digest in entries.items()}
    if updated is not None:
        listed |= updated.kept()
    manifest = manifests.to_bytes(listed)
    put(target / MANIFEST, manifest)
    return {
        "description": description.model_dump(mode="json"),
        "documents": {**stac.seal(description, seen), "ogc": ogc.seal(description), "manifest": {"file:size": len(manifest)}},
        "files": len(listed),
        "size_bytes": sum(entry.size for entry in listed.values()),
        "digest": hashlib.sha256(manifest).hexdigest(),
    }


def _updated(
    request: Mapping[str, Any], root: Path, arrays: Mapping[str, Grid], dimensions: Mapping[str, list[str]]
) -> Updated | None:
    """Return the union of the output with its base version, if there is one."""
    base, said = request.get("base"), request.get("change")
    if base is None or said is None:
        return None
    change = StepsChange(said["dimension"], said["length"], tuple(map(tuple, said["kept"])), said["added"], said["replaced"])
    parent = Parent(Path(base["folder"]), base["digest"])
    return Updated(parent, root, arrays, dimensions, change, base["ranges"])


def _takes(updated: Updated | None, name: str, index: tuple[int, ...]) -> bool:
    return updated is None or not updated.shares(name, index)


def _objects(root: Path) -> dict[str, int]:
    """Return the size of every object by key. Refuses anything that is not a regular file with a valid key and exactly one name."""
    sizes = {}
    for folder, folders, files, descriptor in os.fwalk(root, follow_symlinks=False):
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            key = str((Path(folder) / name).relative_to(root))
            if stat.S_ISDIR(status.st_mode):
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or keys.parse(key) is None:
                raise SourceRejected(f"{key[:200]!r} was written, but is not an object of a cube", reason="unsafe")
            sizes[key] = status.st_size
    return sizes


def _told(root: Path) -> dict[str, None]:
    """Return the variables in the consolidated metadata, in order."""
    held = _document(root).get("consolidated_metadata")
    nodes = held.get("metadata") if isinstance(held, Mapping) else None
    if not isinstance(nodes, Mapping) or any("/" in str(name) or keys.parse(f"{name}/{METADATA}") is None for name in nodes):
        raise _foreign(root.name)
    return dict.fromkeys(map(str, nodes))


def _document(folder: Path) -> dict[str, Any]:
    """Return a node's metadata as strict JSON."""
    try:
        return wire.decode((folder / METADATA).read_bytes())
    except (wire.Garbled, FileNotFoundError) as error:
        raise _foreign(folder.name) from error


def _parsed(name: str, document: Mapping[str, Any]) -> Grid:
    try:
        return zarrv3.parse_array(document)[0]
    except ValueError as error:
        raise _foreign(name) from error


def _foreign(name: str) -> SourceRejected:
    return SourceRejected(f"the metadata of {name!r} are not such as are written here", reason="unsafe")


def _check_keys(sizes: Mapping[str, int], arrays: Mapping[str, Grid]) -> None:
    """Refuse objects that do not belong to the metadata, such as other arrays or chunks outside the grid."""
    for text in sizes:
        key = keys.parse(text)
        assert key is not None  # `_objects` has checked this
        node, index = key
        if not (node in ("", *arrays) if index is None else node in arrays and arrays[node].has(index)):
            raise SourceRejected(f"{text!r} was written, but the metadata do not name it", reason="unsafe")


def _file_digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Told:
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


class _Watched(BackendArray):
    """An array whose chunks are hashed when they are read for the description, so that no value is decoded twice."""

    def __init__(
        self, name: str, grid: Grid, variable: xr.Variable, stated: _Told, takes: Callable[[tuple[int, ...]], bool]
    ) -> None:
        if (variable.shape, variable.dtype) != (grid.shape, grid.dtype):
            raise _foreign(name)
        self._name, self._grid, self._variable, self._told, self._takes = name, grid, variable, stated, takes
        self._found: dict[tuple[int, ...], bytes] = {}
        self.shape, self.dtype = variable.shape, variable.dtype

    def variable(self) -> xr.Variable:
        """Return the variable to describe. Text is already in memory."""
        if self._grid.is_text:
            return self._variable
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

    def _read(self, key: tuple[Any, ...]) -> zarrv3.Values:
        with decoding(self._name):
            return np.asarray(self._variable[key].values, dtype=self.dtype)

    def _note(self, index: tuple[int, ...], region: zarrv3.Region, values: zarrv3.Values) -> None:
        if index not in self._found and self._takes(index):
            chunk = values[zarrv3.inside(self._grid.region(index), region)]
            self._found[index] = self._grid.digest(chunk)
            self._told.add(chunk.size * self._grid.itemsize)

    def _hash(self, indices: list[tuple[int, ...]]) -> None:
        region = self._grid.around(indices)
        values = self._read(region)
        for index in indices:
            self._note(index, region, values)

    def digest(self, pool: Executor) -> str:
        """Return the digest of the written values. *pool* decodes and hashes the chunks that were not read yet."""
        flying: deque[Future[None]] = deque()
        for _, every in zarrv3.blocks(self._grid, None, _BLOCK_BYTES):
            indices = [index for index in every if self._takes(index)]
            if any(index not in self._found for index in indices):
                flying.append(pool.submit(self._hash, indices))
            if len(flying) > THREADS:  # at most this many blocks are in memory
                flying.popleft().result()
        for each in flying:
            each.result()
        return zarrv3.digest_of([self._found[index] for index in sorted(self._found)])
