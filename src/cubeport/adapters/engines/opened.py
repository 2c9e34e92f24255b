"""An opened version. All queries read data through it; :mod:`cubeport.adapters.engines.handles` keeps those of a process."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from typing import Any, Protocol, cast

import numpy as np
import xarray as xr
import zarr
from numcodecs import Zstd
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import BytesCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.core import default_buffer_prototype

from cubeport.adapters.engines import inflating
from cubeport.adapters.readonly import ReadOnlyStore, span_of
from cubeport.cubes import keys
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.companions import companions
from cubeport.cubes.cut import Cut
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.labels import labels_of
from cubeport.cubes.outlines import outlines
from cubeport.cubes.overviews import Method, at_level
from cubeport.cubes.part import Deadline
from cubeport.cubes.quads import Outlines
from cubeport.cubes.readers import reader
from cubeport.cubes.windows import IndexRange, Labels, Mask, Window, Windows, turned_labels
from cubeport.cubes.write_request import StoredObject
from cubeport.errors import Corrupt, CubeportError, StoreUnavailable

type Array = NDArray[Any]
type Chunks = Bounded[tuple[str, str, str, tuple[int, ...]], Array]
"""Decoded chunks by dataset, version, variable and index in the chunk grid. Their weights are bytes."""

MIB = 1 << 20
HANDLE_BYTES = MIB // 4
"""The approximate size of an opened version without its coordinates, in bytes."""
_AT_ONCE = 16 * MIB
"""The largest number of decoded bytes that one call reads."""
_ON_THE_WAY = 16
"""How many chunks of one variable are on their way from another machine at a time."""


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 (a fork does not have the threads of its parent)
    return ThreadPoolExecutor(2 * _ON_THE_WAY, thread_name_prefix="chunks")


class ReadsObjects(Protocol):
    """The part of an engine that reading needs. It returns the object, or ``None`` if the version has none, or raises."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None: ...


class ReadsVersions(ReadsObjects, Protocol):
    """The same with where versions are."""

    def waits(self, dataset_id: str, version_id: str) -> bool:
        """Return whether a read waits for another machine."""


def _endless() -> None: ...


class ReadsOverviews(ReadsObjects, Protocol):
    """The same with the overviews of versions."""

    def overview(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None: ...


class _Level:
    """The objects of one level of the overviews, as an engine has those of a version."""

    def __init__(self, engine: ReadsOverviews, version_id: str, level: int) -> None:
        self._engine, self._version_id, self._level = engine, version_id, level

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:  # noqa: ARG002 (that of the level)
        return self._engine.overview(dataset_id, self._version_id, f"{self._level}/{key}")


class VersionStore(ReadOnlyStore):
    """One version as a read-only Zarr store that reads through its engine.

    The engine raises ``Corrupt`` if the manifest lists an object that the store does not have, so that a lost chunk is never read
    as fill values.
    """

    refusal = "a version is never changed or listed through its reader"

    def __init__(self, engine: ReadsObjects, dataset_id: str, version_id: str) -> None:
        super().__init__()
        inflating.use()
        self._engine = engine
        self._address = dataset_id, version_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionStore) and other._address == self._address

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = self.content(key, byte_range)
        return None if data is None else (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    def content(self, key: str, byte_range: ByteRequest | None = None) -> bytes | None:
        """Return the bytes of an object or of a range of it; ``None`` if the version has no such object."""
        found = self._engine.read(*self._address, key)
        if found is None:
            return None
        with found.file as file:
            start, end = span_of(byte_range, found.size)
            if start:
                file.seek(start)
            data = _whole(file, end - start)
        if len(data) != end - start:
            raise Corrupt(f"An object of {self._address[0]} is shorter than it was written.", what=key)
        return data

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        return self.get_sync(key, prototype=prototype, byte_range=byte_range)

    async def exists(self, key: str) -> bool:
        found = self._engine.read(*self._address, key)
        if found is not None:
            found.file.close()
        return found is not None


class OpenedVersion:
    """A version that is open for reading."""

    def __init__(
        self,
        engine: ReadsObjects,
        dataset_id: str,
        version_id: str,
        description: CubeDescription,
        chunks: Chunks,
        grown: Callable[[OpenedVersion, int], None] = lambda *_: None,
        *,
        waits: bool = False,
    ) -> None:
        self._waits = waits
        self.description = description
        self._key = dataset_id, version_id
        self._chunks = chunks
        self._grown = grown
        self._engine = engine
        self._levels: dict[int, OpenedVersion] = {}
        self._lock = threading.RLock()
        self._labels: Labels | None = None
        self._store = VersionStore(engine, dataset_id, version_id)
        store: Any = self._store  # xarray's types know no stores of zarr
        with _reading(dataset_id):
            self._group = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=True)
            raw = xr.open_dataset(
                store,
                engine=reader("zarr"),
                consolidated=True,
                zarr_format=3,
                chunks=None,
                decode_cf=False,
                create_default_indexes=False,
            )
        self._variables = raw.variables
        self._attributes = dict(raw.attrs)
        self._arrays: dict[str, Any] = {}

    def coarser(self, level: int) -> OpenedVersion:
        """Return the fields of one level of the overviews, opened at the first call."""
        with self._lock:
            found = self._levels.get(level)
            if found is None:
                dataset_id, version_id = self._key
                objects = _Level(cast(ReadsOverviews, self._engine), version_id, level)
                made = tuple((name, cast(Method, method)) for name, method in self.description.overviews)
                own = at_level(self.description, level, made)
                # Chunks of a level are kept next to those of the cube, under a name of their own.
                found = OpenedVersion(objects, dataset_id, f"{version_id}/{level}", own, self._chunks, waits=self._waits)
                self._levels[level] = found
                self._grown(self, HANDLE_BYTES * len(self._levels))
            return found

    def names(self) -> tuple[str, ...]:
        """Return the names of all variables, in the order of the store."""
        known = [each.name for each in self.description.variables if each.name in self._variables]
        return (*known, *(str(name) for name in self._variables if name not in known))

    def needed(self, fields: Iterable[str]) -> list[str]:
        """Return the fields and all variables that locate or explain their values, in the order of the store."""
        description = self.description
        names = self.names()
        return companions(
            fields,
            names=names,
            attributes=self.attributes,
            dimensions=self.dimensions,
            roles={each.name: each.role for each in description.variables},
            vertical={axis.dimension for axis in description.axes if axis.kind == "z"},
        )

    def dimensions(self, name: str) -> tuple[str, ...]:
        """Return a variable's dimensions."""
        return tuple(map(str, self._variables[name].dims))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a variable in the store."""
        return tuple(self._variables[name].shape)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype of a variable's stored values, in native byte order."""
        stored: np.dtype[Any] = self._variables[name].dtype
        return _native(stored)

    def global_attributes(self) -> Mapping[str, Any]:
        """Return the global attributes as stored."""
        return self._attributes

    def attributes(self, name: str) -> Mapping[str, Any]:
        """Return the attributes of a variable as stored, including packing and fill value."""
        return cast(Mapping[str, Any], self._variables[name].attrs)

    def labels(self) -> Labels:
        """Return the decoded coordinates. The first call reads them."""
        with self._lock:
            if self._labels is None:
                self._labels = labels_of(self, outlines=cache(partial(_outlines, weakref.ref(self))))
                held = (*self._labels.values.values(), *self._labels.bounds.values())
                self._grown(self, sum(each.nbytes for each in held))
            return self._labels

    def outlines(self) -> Outlines | None:
        """Return the vertices of the cells of a curvilinear grid, ``None`` if the data have none. They are read at each call."""
        spatial, held = self.description.spatial, self.labels().values
        found = outlines(self, *(np.asarray(held[str(name)], "float64") for name in (spatial.x, spatial.y)))
        if found is not None:
            self._grown(self, found.lon.nbytes + found.lat.nbytes + found.size.nbytes)
        return found

    def read(self, name: str, windows: Windows, *, deadline: Deadline = _endless) -> Array:
        """Return the values of a field in *windows*, decoded exactly as by xarray, C-contiguous and in native byte order.

        Parameters
        ----------
        deadline
            Called before each chunk. It can raise to stop the reading.

        Raises
        ------
        Corrupt
            If stored bytes are missing or cannot be decoded. They are never replaced by fill values.
        StoreUnavailable
            If the store cannot be read at the moment.
        """
        mask, dimensions = windows.mask, self.dimensions(name)
        values = self.decode(name, self.raw(name, windows.along, deadline=deadline, mask=mask))
        if mask is not None and set(mask.dimensions) <= set(dimensions) and values.dtype.kind == "f":
            values = np.where(mask.aligned(dimensions), values, values.dtype.type(np.nan))
        return values

    def decode_like(self, name: str, values: Array) -> Array:
        """Return stored values of any shape, decoded like those of the field."""
        if _is_decoded(values.dtype, self._variables[name].attrs):
            return values.astype(_native(values.dtype), copy=False)
        values, attributes = _one_fill(values, self._variables[name].attrs)
        decoded: Array = xr.conventions.decode_cf_variable(name, xr.Variable(("n",), values, attributes), decode_times=False).values
        return decoded

    def decode(self, name: str, raw: Array) -> Array:
        """Return stored values masked, unpacked and scaled, as xarray does it. Times and durations stay numbers."""
        stored = self._variables[name]
        if _is_decoded(raw.dtype, stored.attrs):
            return np.ascontiguousarray(raw.astype(_native(raw.dtype), copy=False))
        raw, attributes = _one_fill(raw, stored.attrs)
        # Views have other dimensions: places instead of rows and columns, a grid instead of positions.
        dims = stored.dims if raw.ndim == len(stored.dims) else [f"n{number}" for number in range(raw.ndim)]
        decoded = xr.conventions.decode_cf_variable(
            name, xr.Variable(dims, raw, attributes), decode_times=False, decode_timedelta=False, concat_characters=False
        ).values
        return np.ascontiguousarray(decoded.astype(_native(decoded.dtype), copy=False))

    def cut(self, windows: Windows, *, deadline: Deadline = _endless) -> Cut:
        """Return the decoded labels and values in *windows*. *deadline* and errors are as for :meth:`read`."""
        labels, bounds = self._cut_labels(windows)
        positions = None
        spatial = self.description.spatial
        x, y = (spatial.x, spatial.y) if spatial.family in ("curvilinear", "unstructured") else (None, None)
        if x is not None and y is not None and set(self.description.cell_dimensions) <= windows.along.keys():
            positions = self._in_window(x, windows), self._in_window(y, windows)
        elif windows.scattered and spatial.x in labels and spatial.y in labels:
            columns, rows = np.meshgrid(labels[spatial.x], labels[spatial.y])
            positions = columns, rows
        values = {name: self.read(name, windows, deadline=deadline) for name in windows.fields}
        return Cut(self.description, windows, labels, bounds, values, positions, *self._cut_own(windows))

    def _cut_own(self, windows: Windows) -> tuple[Array | None, Array | None]:
        """Return times that are not an axis, and heights of positions, in the windows."""
        whole, temporal, z = self.labels().values, self.description.temporal, self.description.spatial.z
        found: list[Array | None] = []
        for name, dimensions in (
            (temporal.axis if temporal is not None and temporal.dimensions else None, temporal.dimensions if temporal else ()),
            (z, self.description.cell_dimensions),
        ):
            if name is None or not set(dimensions) <= windows.along.keys():
                found.append(None)
            else:
                found.append(whole[name][np.ix_(*(windows.along[each].indices() for each in dimensions))])
        return found[0], found[1]

    def _in_window(self, name: str, windows: Windows) -> Array:
        indices = [windows.along[dimension].indices() for dimension in self.description.cell_dimensions]
        return cast(Array, self.labels().values[name][np.ix_(*indices)])

    def _cut_labels(self, windows: Windows) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return labels and bounds in the windows. Longitudes are shifted by each range's shift, so that they are continuous."""
        whole = self.labels()
        labels: dict[str, Array] = {}
        bounds: dict[str, Array] = {}
        for axis in self.description.axes:
            if axis.name not in whole.values or not (axis.scalar or axis.dimension in windows.along):
                continue
            window = None if axis.scalar else windows.along[axis.dimension]
            for cut, found in ((labels, whole.values), (bounds, whole.bounds)):
                if axis.name in found:
                    cut[axis.name] = found[axis.name] if window is None else turned_labels(found[axis.name], window)
        return labels, bounds

    def raw(self, name: str, along: Mapping[str, Window], *, deadline: Deadline = _endless, mask: Mask | None = None) -> Array:
        """Return the stored values in the windows of the variable's dimensions, and all of a dimension without a window.

        With a *mask* of these dimensions, chunks without a selected cell are not read, and their values mean nothing.
        """
        array = self._array(name)
        windows = self._windows(name, along)
        own = self.dimensions(name)
        if mask is not None and not set(mask.dimensions) <= set(own):
            mask = None
        shape = [window.size for window in windows]
        # Of a region or of separate places, the box around them can have many more chunks than they have.
        out = np.empty(shape, dtype=array.dtype) if mask is None else np.zeros(shape, dtype=array.dtype)
        if mask is not None and array.dtype.kind == "O":
            out[...] = ""
        masked = [] if mask is None else [own.index(each) for each in mask.dimensions]
        parts = [_by_chunk(each, length) for each, length in zip(windows, array.chunks, strict=True)]
        with _reading(self._key[0]):
            if mask is None:
                self._fetch(name, array, [[at for at, _, _ in each] for each in parts])
            places = (
                place for place in product(*parts) if mask is None or mask.inside[_all_of([place[at][2] for at in masked])].any()
            )
            wanted = ((tuple(at for at, _, _ in place), place) for place in places)
            for place, values in self._several(name, array, wanted, deadline):
                for number, (_, source, _) in enumerate(place):
                    values = values[(slice(None),) * number + (source,)]
                out[_all_of([target for _, _, target in place])] = values
        return out

    def held(self, name: str, along: Mapping[str, Window]) -> bool:
        """Return whether the first chunk of these windows is decoded in memory (:class:`cubeport.cubes.part.OpenedCube`)."""
        lengths = self._array(name).chunks
        first = tuple(window.runs[0].start // length for window, length in zip(self._windows(name, along), lengths, strict=True))
        return (*self._key, name, first) in self._chunks

    def _windows(self, name: str, along: Mapping[str, Window]) -> list[Window]:
        """Return the window of each dimension of the variable, which is all of one that *along* does not have."""
        sizes = zip(self.dimensions(name), self._array(name).shape, strict=True)
        return [along.get(each, Window(each, (IndexRange(0, size),))) for each, size in sizes]

    def cells(
        self, name: str, along: Mapping[str, Window], dimensions: Sequence[str], index: Array, *, deadline: Deadline = _endless
    ) -> Array:
        """Return the stored values of separate cells (:class:`cubeport.cubes.part.OpenedCube`)."""
        if not dimensions:
            return np.repeat(self.raw(name, along, deadline=deadline)[..., None], len(index), axis=-1)
        array, own = self._array(name), self.dimensions(name)
        lengths = dict(zip(own, array.chunks, strict=True))
        places, others = [own.index(each) for each in dimensions], [at for at, each in enumerate(own) if each not in dimensions]
        windows = [along.get(own[at], Window(own[at], (IndexRange(0, array.shape[at]),))) for at in others]
        parts = [_by_chunk(each, array.chunks[at]) for each, at in zip(windows, others, strict=True)]
        out = np.empty([*(window.size for window in windows), len(index)], dtype=array.dtype)
        length = np.array([lengths[each] for each in dimensions], dtype="int64")
        chunks, member = np.unique(index // length, axis=0, return_inverse=True)
        with _reading(self._key[0]):
            wanted = (
                (
                    tuple(n for _, n in sorted(zip(places + others, (*chunk, *(each[0] for each in place)), strict=True))),
                    (number, place),
                )
                for number, chunk in enumerate(chunks.tolist())
                for place in product(*parts)
            )
            for (number, place), values in self._several(name, array, wanted, deadline):
                members = np.flatnonzero(member.ravel() == number)
                for n, (_, source, _) in zip(others, place, strict=True):
                    values = values[(slice(None),) * n + (source,)]
                inner = (..., *(index[members] - chunks[number] * length).T)
                out[_all_of([*(target for _, _, target in place), _plain(members)])] = values.transpose(others + places)[inner]
        return out

    def _several[T](
        self, name: str, array: Any, wanted: Iterable[tuple[tuple[int, ...], T]], deadline: Deadline
    ) -> Iterator[tuple[T, Array]]:
        """Yield decoded chunks in order, each with what it is for. If the store is another machine, several are on their way at a
        time, but few enough to be in memory together.
        """
        if not self._waits:
            for at, purpose in wanted:
                deadline()
                yield purpose, self._chunk(name, array, at)
            return
        most = max(1, min(_ON_THE_WAY, _AT_ONCE // max(1, math.prod(array.chunks) * array.dtype.itemsize)))
        coming: deque[tuple[T, Future[Array]]] = deque()
        try:
            for at, purpose in wanted:
                deadline()
                coming.append((purpose, _pool(os.getpid()).submit(self._chunk, name, array, at)))
                if len(coming) >= most:
                    first, chunk = coming.popleft()
                    yield first, chunk.result()
            while coming:
                deadline()
                first, chunk = coming.popleft()
                yield first, chunk.result()
        finally:
            for _, chunk in coming:
                chunk.cancel()

    def _array(self, name: str) -> Any:
        with self._lock:
            if name not in self._arrays:
                with _reading(self._key[0]):
                    self._arrays[name] = self._group[name]
            return self._arrays[name]

    def _fetch(self, name: str, array: Any, chunks: Sequence[Sequence[int]]) -> None:
        """Read a box of chunks into the cache with one call if none of them is cached. zarr reads them concurrently.

        A separate call for each chunk costs a millisecond. One call for very many chunks would need the memory twice and could not
        be stopped. Chunks that are read without zarr need neither.
        """
        if _is_zstd(array):
            return
        size = math.prod(map(len, chunks)) * math.prod(array.chunks) * array.dtype.itemsize
        together = all(each and sorted(each) == list(range(min(each), max(each) + 1)) for each in chunks)
        if not together or math.prod(map(len, chunks)) < 2 or size > _AT_ONCE:
            return
        if any(self._chunks.get((*self._key, name, at)) is not None for at in product(*chunks)):
            return
        low = [min(each) * length for each, length in zip(chunks, array.chunks, strict=True)]
        high = [min((max(each) + 1) * length, n) for each, length, n in zip(chunks, array.chunks, array.shape, strict=True)]
        box = np.asarray(array[tuple(map(slice, low, high))])
        for at in product(*chunks):
            starts = [number * length - first for number, length, first in zip(at, array.chunks, low, strict=True)]
            cut = box[tuple(slice(start, start + length) for start, length in zip(starts, array.chunks, strict=True))]
            # A copy, because a view of one chunk would keep the whole box in memory.
            self._chunks.put((*self._key, name, at), cut.copy(), cut.nbytes or 1)

    def _chunk(self, name: str, array: Any, at: tuple[int, ...]) -> Array:
        key = (*self._key, name, at)
        found = self._chunks.get(key)
        if found is None:
            cut = tuple(
                slice(number * length, min((number + 1) * length, size))
                for number, length, size in zip(at, array.chunks, array.shape, strict=True)
            )
            stored = self._store.content(keys.chunk(name, at)) if _is_zstd(array) else None
            if stored is None:
                found = np.asarray(array[cut])
            else:
                whole = np.frombuffer(Zstd().decode(stored), array.dtype.newbyteorder("<")).reshape(array.chunks)
                found = whole[tuple(slice(each.stop - each.start) for each in cut)]
            # A part of a chunk keeps all of it in memory.
            size = found.nbytes if stored is None else whole.nbytes
            self._chunks.put(key, found, size or 1)
        return found


def _outlines(opened: weakref.ref[OpenedVersion]) -> Outlines | None:
    """Return the vertices of the cells of a version. It is open as long as its labels are in use."""
    own = opened()
    assert own is not None
    return own.outlines()


@contextmanager
def _reading(dataset_id: str) -> Iterator[None]:
    """Translate the errors of zarr and its codecs to ours, and distinguish a failing store from damaged bytes."""
    try:
        yield
    except CubeportError:
        raise
    except OSError as error:
        raise StoreUnavailable(f"The data of {dataset_id} cannot be read now.", next_step="try again later") from error
    except (ValueError, TypeError, KeyError, RuntimeError, ArithmeticError, LookupError) as error:
        # numcodecs, zarr and crc32c raise these errors for damaged bytes.
        raise Corrupt(f"Stored data of {dataset_id} cannot be decoded.", next_step="ask the administrator to run fsck") from error


def _is_zstd(array: Any) -> bool:
    """Return whether the chunks of an array are its numbers in zstd and nothing else, as we write them.

    They are decoded without zarr, whose event loop and buffers take as long as reading and decoding a chunk of 1 MB.
    """
    codecs = array.metadata.codecs
    return (
        array.dtype.kind in "iufb"
        and len(codecs) == 2
        and isinstance(codecs[0], BytesCodec)
        and codecs[0].endian in (None, "little")
        and isinstance(codecs[1], ZstdCodec)
        and array.metadata.encode_chunk_key((0,)) == "c/0"
    )


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in native byte order. Text has no byte order."""
    return dtype.newbyteorder("=") if dtype.kind in "iufc" else dtype


def _is_decoded(dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> bool:
    """Return whether stored values need no decoding: numbers that are not packed, with no fill value but NaN.

    xarray takes longer to find this out than a small answer takes for everything else.
    """
    if dtype.kind not in "iuf" or not _PACKING.isdisjoint(attributes):
        return False
    fills = [attributes[key] for key in ("_FillValue", "missing_value") if key in attributes]
    return not fills or (dtype.kind == "f" and all(isinstance(each, float) and math.isnan(each) for each in fills))


def _one_fill(raw: Array, attributes: Mapping[str, Any]) -> tuple[Array, Mapping[str, Any]]:
    """Return values and attributes with at most one fill value, which the type can express.

    xarray also decodes several fill values as missing and ignores impossible ones, but it warns at each read.
    """
    if raw.dtype.kind not in "iuf" or not {"_FillValue", "missing_value"} & attributes.keys():
        return raw, attributes
    told = [np.ravel(attributes[key]) for key in ("_FillValue", "missing_value") if key in attributes]
    numbers = [each for part in told if part.dtype.kind in "iuf" for each in part.tolist()]
    rest = {key: value for key, value in attributes.items() if key not in ("_FillValue", "missing_value")}
    fills: list[Any] = []
    for number in numbers:
        if raw.dtype.kind == "f":
            fill = raw.dtype.type(number)
        else:
            limits = np.iinfo(raw.dtype)
            signed = number + 2 ** (8 * raw.dtype.itemsize) if number < 0 and raw.dtype.kind == "u" else number
            if signed != signed or signed % 1 or not limits.min <= signed <= limits.max:
                continue
            fill = raw.dtype.type(signed)
        if not any(fill == each or (fill != fill and each != each) for each in fills):
            fills.append(fill)
    if not fills:
        return raw, rest
    others = np.array(fills[1:], dtype=raw.dtype)
    if others.size:
        raw = np.where(np.isin(raw, others), fills[0], raw)
    return raw, {**rest, "_FillValue": fills[0]}


def _whole(file: Any, length: int) -> bytes:
    """Read *length* bytes of an unbuffered file. A single read can return fewer."""
    data: bytes = file.read(length)
    while len(data) < length and (more := file.read(length - len(data))):
        data += more
    return data


_PACKING = frozenset({"scale_factor", "add_offset", "_Unsigned", "_Encoding", "dtype"})
"""Attributes that change how xarray decodes numbers, besides fill values."""

type _Selector = slice | Array


def _by_chunk(window: Window, length: int) -> list[tuple[int, _Selector, _Selector]]:
    """Return each chunk that the window touches along its dimension, with the selection in the chunk and in the result."""
    if not window.size:
        return []
    if len(window.runs) == 1:
        start, stop = window.runs[0].start, window.runs[0].stop
        return [
            (
                at,
                slice(max(start - at * length, 0), min(stop - at * length, length)),
                slice(max(at * length - start, 0), min((at + 1) * length, stop) - start),
            )
            for at in range(start // length, (stop - 1) // length + 1)
        ]
    indices = window.indices()
    chunks = indices // length
    found = []
    for at in dict.fromkeys(chunks.tolist()):
        places = np.flatnonzero(chunks == at)
        found.append((at, _plain(indices[places] - at * length), _plain(places)))
    return found


def _plain(indices: Array) -> _Selector:
    """Return a slice if the indices are consecutive, because copying a slice is fastest."""
    first = int(indices[0])
    return slice(first, first + indices.size) if np.array_equal(indices, np.arange(first, first + indices.size)) else indices


def _all_of(selectors: Sequence[_Selector]) -> Any:
    """Return the index for the product of all selectors: the slices unchanged, or otherwise a mesh of indices."""
    if all(isinstance(each, slice) for each in selectors):
        return tuple(selectors)
    return np.ix_(*(np.arange(each.start, each.stop) if isinstance(each, slice) else each for each in selectors))
