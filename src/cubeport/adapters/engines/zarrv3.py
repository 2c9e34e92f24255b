"""The part of Zarr v3 that cubeport writes: metadata documents, keys, and chunks of numbers or text with zstd and checksums.

cubeport uses this module instead of zarr-python because it writes a chunk once (without a temporary file and a rename), compresses
in threads during reading, and computes the hashes at the same time. zarr-python reads everything back before a version is
published, so an independent library confirms that the result is valid Zarr.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numcodecs import Fletcher32, Shuffle, VLenUTF8, Zstd

LEVEL = 3
"""The default level of zstd."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "string": np.dtypes.StringDType(),
    "bool": np.dtype("bool"),
    **{f"{kind}{bits}": np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
"""The types that are written, by their Zarr v3 names."""

_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}

type Values = np.ndarray[Any, Any]
type Region = tuple[slice, ...]

type Filter = tuple[Literal["shuffle", "zlib", "fletcher32"], int]
"""A filter of HDF5 under its name in numcodecs, with its one number: bytes of an element, level, or 0."""

_NUMBERS: Mapping[str, str | None] = {"shuffle": "elementsize", "zlib": "level", "fletcher32": None}
"""What the number of each filter is called in its configuration."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a source stores the bytes of a chunk, where they are not written by us."""

    big_endian: bool = False
    filters: tuple[Filter, ...] = ()
    """In the order in which they were applied."""

    @property
    def codecs(self) -> list[dict[str, Any]]:
        """Return the filters as codecs: extensions, which zarr-python reads and tensorstore does not."""
        return [
            {"name": f"numcodecs.{name}", "configuration": {key: number} if (key := _NUMBERS[name]) else {}}
            for name, number in self.filters
        ]

    @classmethod
    def of(cls, codecs: Sequence[Mapping[str, Any]]) -> Form:
        """Return what *codecs* were made of. Raises LookupError, TypeError for others."""
        first, *rest = codecs
        names = [each["name"].removeprefix("numcodecs.") for each in rest]
        numbers = [each["configuration"][key] if (key := _NUMBERS[name]) else 0 for name, each in zip(names, rest, strict=True)]
        if any(type(each) is not int for each in numbers):
            raise TypeError("a number that is none")
        return cls(first.get("configuration", {}).get("endian") == "big", tuple(zip(names, numbers, strict=True)))

    def encode(self, plain: bytes) -> bytes:
        """Return the stored chunk of values that are in its byte order."""
        for name, number in self.filters:
            match name:
                case "shuffle":
                    plain = bytes(Shuffle(number).encode(plain))
                case "zlib":
                    plain = zlib.compress(plain, number)
                case "fletcher32":
                    plain = bytes(Fletcher32().encode(plain))
        return plain


@dataclass(frozen=True)
class Grid:
    """The chunk grid of an array, and the encoding of its values."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    form: Form | None = None
    """That of the source in which chunks lie, also for those that lie with us; ``None`` is our own, checksummed zstd."""

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Return the number of chunks along each dimension."""
        return tuple(math.ceil(size / length) for size, length in zip(self.shape, self.chunks, strict=True))

    @property
    def itemsize(self) -> int:
        """Return the bytes of a value; for text, an estimate that is good enough to size blocks."""
        return 64 if self.is_text else self.dtype.itemsize

    @property
    def is_text(self) -> bool:
        """Return whether the values are text of any length."""
        return self.dtype.kind == "T"

    def region(self, index: tuple[int, ...]) -> Region:
        """Return the part of the array that the chunk contains. It is shorter at the end of the array."""
        return tuple(
            slice(i * length, min((i + 1) * length, size)) for i, length, size in zip(index, self.chunks, self.shape, strict=True)
        )

    def around(self, indices: Sequence[tuple[int, ...]]) -> Region:
        """Return the smallest region that contains all these chunks."""
        regions = [self.region(index) for index in indices]
        return tuple(
            slice(min(part.start for part in each), max(part.stop for part in each)) for each in zip(*regions, strict=True)
        )

    def size_of(self, takes: Callable[[tuple[int, ...]], bool]) -> int:
        """Return the decoded size of the chunks that *takes* accepts, in bytes."""
        lengths = (
            math.prod(part.stop - part.start for part in self.region(index))
            for index in itertools.product(*map(range, self.counts))
            if takes(index)
        )
        return int(self.itemsize * sum(lengths))

    def within(self, region: Region) -> Iterator[tuple[int, ...]]:
        """Yield the indices of the chunks that are completely in *region*."""
        ranges = []
        for part, length, size in zip(region, self.chunks, self.shape, strict=True):
            last = math.ceil(size / length) if part.stop >= size else part.stop // length
            ranges.append(range(math.ceil(part.start / length), last))
        yield from itertools.product(*ranges)

    def has(self, index: tuple[int, ...]) -> bool:
        """Return whether there is a chunk at *index*."""
        counts = self.counts
        return len(index) == len(counts) and all(each < n for each, n in zip(index, counts, strict=True))

    def plain(self, values: Values) -> Any:
        """Return *values* in C order in the form that is hashed and compressed: little-endian numbers, or length and UTF-8 of each
        text.
        """
        if self.is_text:
            return VLenUTF8().encode(values.astype(object).ravel())
        return np.ascontiguousarray(values, self.dtype.newbyteorder("<"))

    def digest(self, values: Values) -> bytes:
        """Return the sha256 of the plain values."""
        return hashlib.sha256(self.plain(values)).digest()

    def encode(self, values: Values) -> tuple[bytes, bytes | None]:
        """Return the digest of *values* and their stored chunk, padded at the edges; ``None`` if all values are fill, bit by
        bit.
        """
        plain = self.plain(values)
        digest = hashlib.sha256(plain).digest()
        if not self.is_text and self._is_fill(plain):
            return digest, None
        if values.shape != self.chunks:
            whole = np.full(self.chunks, self.fill, self.dtype)
            whole[tuple(slice(size) for size in values.shape)] = values
            plain = self.plain(whole)
        if self.form is not None:
            order = plain.astype(self.dtype.newbyteorder(">")) if self.form.big_endian else plain
            return digest, self.form.encode(order.tobytes())
        return digest, bytes(Zstd(level=LEVEL, checksum=True).encode(plain))

    def _is_fill(self, plain: Values) -> bool:
        """Return whether all bits equal the fill value: −0.0 is not 0.0, and NaNs can differ."""
        bits = np.dtype(f"<u{self.dtype.itemsize}")
        fill = np.array(self.fill, self.dtype.newbyteorder("<")).view(bits)
        held = plain.view(bits)
        return bool(held.flat[0] == fill and (held == fill).all())


def digest_of(chunks: list[bytes]) -> str:
    """Return the digest of a variable: the sha256 of the sha256s of its chunks' plain values, in C order of the grid."""
    return hashlib.sha256(b"".join(chunks)).hexdigest()


def blocks(grid: Grid, source: tuple[int, ...] | None, budget: int) -> Iterator[tuple[Region, list[tuple[int, ...]]]]:
    """Yield the regions to read at a time, each with the indices of its chunks. Every chunk is completely in one region.

    A block starts as one chunk. It first grows to cover the *source*'s own chunks, up to four times *budget* bytes, because they
    would otherwise be decoded several times. Then it grows along the fastest dimensions up to *budget*.
    """
    counts = grid.counts
    steps = [1] * len(counts)

    def grow(axis: int, step: int, limit: int) -> None:
        step = min(step, counts[axis])
        while step > steps[axis]:
            trial = [*steps[:axis], step, *steps[axis + 1 :]]
            if math.prod(n * length for n, length in zip(trial, grid.chunks, strict=True)) * grid.itemsize <= limit:
                steps[axis] = step
            step //= 2

    for axis in reversed(range(len(counts))):
        if source:
            grow(axis, math.ceil(source[axis] / grid.chunks[axis]), 4 * budget)
    for axis in reversed(range(len(counts))):
        grow(axis, counts[axis], budget)
        if steps[axis] < counts[axis]:
            break
    for corner in itertools.product(*(range(0, n, step) for n, step in zip(counts, steps, strict=True))):
        stop = [min(first + step, n) for first, step, n in zip(corner, steps, counts, strict=True)]
        region = tuple(
            slice(first * length, min(end * length, size))
            for first, end, length, size in zip(corner, stop, grid.chunks, grid.shape, strict=True)
        )
        yield region, list(itertools.product(*(range(a, b) for a, b in zip(corner, stop, strict=True))))


def inside(chunk: Region, block: Region) -> Any:
    """Return the index of *chunk* in the values of *block*. For a scalar, the index returns the array, not its item."""
    return (*(slice(c.start - b.start, c.stop - b.start) for c, b in zip(chunk, block, strict=True)), ...)


def array_document(grid: Grid, dimensions: tuple[str, ...], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``zarr.json`` of an array."""
    first: dict[str, Any] = {"name": "vlen-utf8"} if grid.is_text else {"name": "bytes"}
    if not grid.is_text and grid.dtype.itemsize > 1:
        endian = "big" if grid.form is not None and grid.form.big_endian else "little"
        first = {"name": "bytes", "configuration": {"endian": endian}}
    own = [{"name": "zstd", "configuration": {"level": LEVEL, "checksum": True}}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(grid.shape),
        "data_type": "string" if grid.is_text else grid.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(grid.chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill_json(grid),
        "codecs": [first, *(own if grid.form is None else grid.form.codecs)],
        "attributes": dict(attributes),
        "dimension_names": list(dimensions),
        "storage_transformers": [],
    }


def group_document(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``zarr.json`` of a group, not yet consolidated."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def consolidated(group: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the group's document with the documents of all *nodes* below it, by path, in the given order."""
    held = {"kind": "inline", "must_understand": False, "metadata": dict(nodes)}
    return {**{key: value for key, value in group.items() if key != "consolidated_metadata"}, "consolidated_metadata": held}


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """Return strict JSON. The same document always gives the same bytes."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()


def parse_array(document: Mapping[str, Any]) -> tuple[Grid, tuple[str, ...], dict[str, Any]]:
    """Return the arguments of :func:`array_document`.

    Raises
    ------
    ValueError
        If the document is not exactly in the form of :func:`array_document`, because it has other codecs, members or types.
    """
    try:
        dtype = _DTYPES[document["data_type"]]
        lengths = document["chunk_grid"]["configuration"]["chunk_shape"]
        ours = document["codecs"][-1]["name"] == "zstd"
        form = None if ours else Form.of(document["codecs"])
        grid = Grid(tuple(document["shape"]), tuple(lengths), dtype, _fill_from_json(document["fill_value"], dtype), form)
        parts = grid, tuple(document["dimension_names"]), dict(document["attributes"])
        same = document == array_document(*parts) and all(n >= 0 for n in grid.shape) and all(n >= 1 for n in grid.chunks)
    except (LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("not an array of ours") from error
    if not same:
        raise ValueError("not an array of ours")
    return parts


def _fill_json(grid: Grid) -> Any:
    if grid.dtype.kind != "f":
        return grid.fill
    value = float(np.array(grid.fill, grid.dtype))
    return _NOT_FINITE.get(value, "NaN") if not math.isfinite(value) else value


def _fill_from_json(value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f":
        return float(value)
    if type(value) is not type(np.zeros((), dtype).item()):
        raise TypeError("a fill value of another type")
    return np.array(value, dtype).item()


def float_to_text(value: float) -> str:
    """Return a float ``_FillValue`` in xarray's format for Zarr v3: base64 of the little-endian double."""
    return base64.standard_b64encode(struct.pack("<d", value)).decode()
