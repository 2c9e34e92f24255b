"""Examine an HDF5 or NetCDF-4 file before any data are read.

HDF5 silently follows external links, external storage and virtual layouts to any file that the process can read. With both engines
of xarray, an upload of 3 kB could publish another file. Therefore every link of every group is examined through its metadata,
without opening it. A link that leads out of the file refuses the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5l, h5o, h5p, h5s, h5t
from isal import isal_zlib

from cubeport.adapters.engines.zarrv3 import Filter, Form
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.scanned import (
    Array,
    Arrays,
    Scanned,
    SourceTexts,
    bad_codec,
    rejected,
    shown,
    truncated,
    unreadable,
    unsafe,
)
from cubeport.adapters.sources.stored import Stored

_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP = 1, 2, 3, 4
_FILTERS = frozenset((_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP))
"""The accepted filters by registered number, which are those built into HDF5. Plugins are libraries that a file asks to load; none
is."""

_PLAIN = (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING, h5t.BITFIELD)
_PHANTOM = b"This is a netCDF dimension but not a netCDF variable"
"""The start of ``NAME`` of a NetCDF-4 dimension without a variable (NetCDF-4 File Format, "Dimension Scales")."""
_NON_COORDINATE = "_nc4_non_coord_"
"""NetCDF-4's prefix for a variable that has the name of a dimension but is not its coordinate."""
_CUT = "truncated file"


def scan(name: str, descriptor: int, limits: SourceLimits) -> Scanned:
    """Return the arrays that the file declares. Everything must be inside the file, decodable and within the limits."""
    size = os.fstat(descriptor).st_size
    with _opened(name, descriptor) as file:
        walk = _Walk(name, size, limits)
        walk.run(h5g.open(file, b"/"))
        return Scanned(name, "hdf5", size, walk.arrays.done(size), tuple(walk.skipped), tuple(walk.warnings))


def verify(
    name: str,
    descriptor: int,
    pool: Executor,
    *,
    group: str = "",
    left_out: Collection[object] = (),
    most_dimensions: int | None = None,
) -> None:
    """Check that every stored chunk of the arrays of *group*, except those in *left_out*, decodes to its declared length.

    HDF5 does not check this. For a chunk that is too short it returns whatever follows in memory, and a chunk that is too long can
    fill the memory. Here decoding stops one byte after the declared length.

    Raises
    ------
    SourceRejected
        ``bad-codec`` for a chunk with another length, ``unreadable`` for a damaged chunk.
    """
    with _opened(name, descriptor) as file:
        held = h5g.open(file, f"/{group}".encode())
        for link in list(held):
            dataset = h5o.open(held, link)
            path = link.decode()
            if not isinstance(dataset, h5d.DatasetID) or path.removeprefix(_NON_COORDINATE) in left_out:
                continue
            if most_dimensions is not None and dataset.rank > most_dimensions:
                continue
            plist = dataset.get_create_plist()
            filters = tuple(plist.get_filter(n)[0] for n in range(plist.get_nfilters()))
            if not filters or not dataset.get_num_chunks():  # the scan has measured chunks without filters
                continue
            declared = math.prod(plist.get_chunk()) * _stored_bytes(dataset.get_type())
            chunks: list[_Chunk] = []
            dataset.chunk_iter(lambda chunk, into=chunks: into.append((chunk.byte_offset, chunk.size, chunk.filter_mask)))
            for chunk, verdict in zip(chunks, pool.map(partial(_verdict, descriptor, filters, declared), chunks), strict=True):
                if verdict == "damaged":
                    why = f"is damaged: a chunk of {shown(path)}, at byte {chunk[0]:,}, cannot be decoded"
                    raise rejected(name, why, "unreadable", "fetch it again, and compare its checksum with the publisher's")
                if verdict == "lies":
                    raise bad_codec(name, f"has a chunk of {shown(path)} that does not decode to its declared length")


type _Chunk = tuple[int, int, int]
"""The offset and the size of a stored chunk, and the bit mask of its skipped filters."""


def _verdict(descriptor: int, filters: tuple[int, ...], declared: int, chunk: _Chunk) -> Literal["whole", "damaged", "lies"]:
    """Return whether one stored chunk decodes to *declared* bytes, cannot be decoded, or decodes to another length."""
    offset, length, left_out = chunk
    applied = [number for n, number in enumerate(filters) if not left_out & (1 << n)]
    body = os.pread(descriptor, length, offset) if {_DEFLATE, _SZIP} & set(applied) else b""
    for number in reversed(applied):
        if number == _FLETCHER32:
            length -= 4
            body = body[:length]
        elif number == _SZIP:
            length = int.from_bytes(body[:4], "little")  # HDF5 writes the length first, and szip must match it
        elif number == _DEFLATE:
            inflater = isal_zlib.decompressobj()  # 2.4 times as fast as zlib, and of the same mind about damage
            most = declared + 4 * filters.count(_FLETCHER32)
            try:
                body = inflater.decompress(body, most + 1)
            except isal_zlib.IsalError:  # type: ignore[misc]  # its stubs take the class for an instance
                return "damaged"
            length = len(body)
            if not inflater.eof:
                return "lies" if length > most else "damaged"
    return "whole" if length == declared else "lies"


def stored(name: str, descriptor: int, group: str, variables: Collection[str]) -> dict[str, Stored | str]:
    """Return how each variable of a group is stored, or in words why nobody else could read its chunks."""
    found: dict[str, Stored | str] = {}
    with _opened(name, descriptor) as file:
        held = h5g.open(file, f"/{group}".encode())
        for link in list(held):
            variable = link.decode().removeprefix(_NON_COORDINATE)
            if variable in variables and isinstance(dataset := h5o.open(held, link), h5d.DatasetID):
                found[variable] = _stored(dataset)
    return found


def _stored(dataset: h5d.DatasetID) -> Stored | str:
    kind, plist = dataset.get_type(), dataset.get_create_plist()
    if kind.get_class() == h5t.ENUM:
        kind = kind.get_super()
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT) or not h5t.py_create(kind.dtype).equal(kind):
        return "has a type that Zarr does not have"
    dtype = kind.dtype.newbyteorder("=")
    filters: list[Filter] = []
    for n in range(plist.get_nfilters()):
        number, _, values, _ = plist.get_filter(n)
        match number:
            case n if n == _SHUFFLE:
                filters.append(("shuffle", dtype.itemsize))
            case n if n == _DEFLATE:
                filters.append(("zlib", int(values[0])))
            case n if n == _FLETCHER32:
                filters.append(("fletcher32", 0))
            case _:
                return "is compressed with szip, which Zarr does not have"
    form = Form(dtype.itemsize > 1 and kind.get_order() == h5t.ORDER_BE, tuple(filters))
    shape = tuple(dataset.shape)
    match plist.get_layout():
        case h5d.CONTIGUOUS:
            offset = dataset.get_offset()
            places = {} if offset is None else {(0,) * len(shape): (offset, math.prod(shape) * dtype.itemsize)}
            chunks = tuple(max(size, 1) for size in shape)
        case h5d.CHUNKED:
            chunks, places, odd = tuple(plist.get_chunk()), {}, []

            def take(chunk: Any) -> None:
                places[tuple(at // length for at, length in zip(chunk.chunk_offset, chunks, strict=True))] = (
                    int(chunk.byte_offset),
                    int(chunk.size),
                )
                if chunk.filter_mask:
                    odd.append(chunk)

            if dataset.get_num_chunks():
                dataset.chunk_iter(take)
            if odd:
                return f"has {len(odd)} chunks that are filtered in another way than the rest"
        case _:
            return "lies in the header of the file"
    found = Stored(shape, chunks, dtype, form, places)
    return found if found.is_whole else replace(found, fill=_fill(plist, dtype))


def _fill(plist: Any, dtype: np.dtype[Any]) -> Any:
    """Return what HDF5 gives for chunks that were never written, ``None`` where that is left open."""
    if plist.fill_value_defined() == h5d.FILL_VALUE_UNDEFINED:
        return None
    value = np.zeros((), dtype)
    plist.get_fill_value(value)
    return value.item()


def driver_of(descriptor: int) -> str | None:
    """Return the driver of HDF5 for a file; ``None`` is its own choice.

    That one asks for the real path of a link to a descriptor, which a file in memory does not have.
    """
    return "stdio" if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:") else None


@contextmanager
def _opened(name: str, descriptor: int) -> Iterator[h5f.FileID]:
    with _reading(name):
        access = h5p.create(h5p.FILE_ACCESS)
        if driver_of(descriptor) is not None:
            access.set_fapl_stdio()
        file = h5f.open(f"/proc/self/fd/{descriptor}".encode(), h5f.ACC_RDONLY, access)
        try:
            yield file
        finally:
            file.close()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Translate any error of HDF5 to the refusal that the file cannot be read."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        if _CUT in str(error):
            raise rejected(
                name, "is truncated: it is shorter than its own header says", "truncated", "transfer it again"
            ) from error
        raise unreadable(name, "cannot be read by HDF5") from error


class _Walk:
    def __init__(self, name: str, size: int, limits: SourceLimits) -> None:
        self.arrays = Arrays(name, limits)
        self.skipped: list[str] = []
        self.warnings: list[tuple[str, str]] = []
        self._name = name
        self._size = size
        self._texts = SourceTexts(name, limits)
        self._seen: set[Any] = set()
        self._soft_links: list[tuple[h5g.GroupID, bytes, str]] = []

    def run(self, root: h5g.GroupID) -> None:
        self._group(root, "", 0)
        for group, link, here in self._soft_links:
            self._soft(group, link, here)

    def _group(self, group: h5g.GroupID, path: str, depth: int) -> None:
        self.arrays.check("depth", depth, "depth of groups")
        address = h5o.get_info(group).addr
        if address in self._seen:  # hard links can form cycles; the address in the file identifies an object
            return
        self._seen.add(address)
        self.arrays.count(group.get_num_objs())
        self._attributes(group, path or "the file")
        for link in list(group):
            here = f"{path}/{self._texts.decode(path or 'the root', link)}".lstrip("/")
            match group.links.get_info(link).type:
                case h5l.TYPE_HARD:
                    self._object(h5o.open(group, link), here, depth)
                case h5l.TYPE_SOFT:
                    self._soft_links.append((group, link, here))
                case h5l.TYPE_EXTERNAL:
                    raise unsafe(self._name, f"has an external link, {shown(here)}, which leads to another file")
                case _:
                    raise unsafe(self._name, f"has a user-defined link, {shown(here)}")

    def _soft(self, group: h5g.GroupID, link: bytes, here: str) -> None:
        """Follow a soft link. It cannot lead out of the file, because all other links were checked. It must have a target."""
        try:
            thing = h5o.open(group, link)
        except (KeyError, OSError, RuntimeError, ValueError) as error:
            raise unsafe(self._name, f"has a soft link, {shown(here)}, whose target does not exist", "remove the link") from error
        if isinstance(thing, h5d.DatasetID):  # counts as one more array
            self._dataset(thing, here)

    def _object(self, thing: Any, here: str, depth: int) -> None:
        match thing:
            case h5g.GroupID():
                self._group(thing, here, depth + 1)
            case h5d.DatasetID():
                self._dataset(thing, here)
            case h5t.TypeID():
                pass  # a named type, which is read with the arrays that use it
            case _:
                raise unsafe(self._name, f"has an object of an unknown kind, {shown(here)}")

    def _dataset(self, dataset: h5d.DatasetID, here: str) -> None:
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        # This must come first, because HDF5 opens the files of a virtual layout when it is asked for the shape.
        if layout == h5d.VIRTUAL:
            raise unsafe(self._name, f"reads the values of {shown(here)} from other files: it is a virtual dataset")
        if plist.get_external_count():
            raise unsafe(self._name, f"stores the values of {shown(here)} in another file")
        self._attributes(dataset, here)
        self._filters(plist, here)
        space, kind = dataset.get_space(), dataset.get_type()
        if space.get_simple_extent_type() == h5s.NULL or self._is_phantom(dataset):
            return
        what = None
        if not _readable(kind):
            what = f"has a type that a cube cannot contain: {_CLASS.get(kind.get_class(), 'unknown')}"
        elif kind.get_class() == h5t.STRING and _stored_bytes(kind) > self.arrays.limits.item_bytes:
            # For example StructMetadata.0 of HDF-EOS, 32 kB of text next to the grids.
            what = f"holds a text of {_stored_bytes(kind):,} bytes, which is a document, not a label"
        if what is not None:
            self.skipped.append(here)
            self.warnings.append(("variable-skipped", f"{shown(here)} {what}"))
            return
        shape = tuple(space.get_simple_extent_dims())
        chunks = tuple(plist.get_chunk()) if layout == h5d.CHUNKED else None
        self.arrays.add(Array(here, shape, _stored_bytes(kind), chunks))
        self._within(dataset, plist, layout, math.prod(chunks or shape) * _stored_bytes(kind), here)

    def _filters(self, plist: Any, here: str) -> None:
        numbers = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
        self.arrays.check("filters", len(numbers), f"filters of {shown(here)}")
        for number in numbers:
            if number not in _FILTERS:
                raise bad_codec(
                    self._name, f"encodes {shown(here)} with the HDF5 filter {number}, which is not on the list", "deflate"
                )
        if len(set(numbers)) != len(numbers):
            raise bad_codec(self._name, f"encodes {shown(here)} twice with one filter", "deflate")

    def _is_phantom(self, dataset: h5d.DatasetID) -> bool:
        if not h5a.exists(dataset, b"NAME"):
            return False
        attribute = h5a.open(dataset, b"NAME")
        if attribute.get_type().get_class() != h5t.STRING or attribute.get_type().is_variable_str():
            return False
        return any(each.startswith(_PHANTOM) for each in _values(attribute))

    def _within(self, dataset: h5d.DatasetID, plist: Any, layout: int, whole: int, here: str) -> None:
        """Check that every stored byte is inside the file, and that unfiltered chunks have their decoded size."""
        if layout == h5d.CONTIGUOUS and dataset.get_offset() is not None:
            self._end(dataset.get_offset() + dataset.get_storage_size(), here)
        elif layout == h5d.CHUNKED:
            filtered = plist.get_nfilters() > 0

            def check(chunk: Any) -> None:
                self._end(chunk.byte_offset + chunk.size, here)
                if not filtered and chunk.size != whole:
                    raise bad_codec(self._name, f"has a chunk of {shown(here)} that does not have its declared size")

            if dataset.get_num_chunks():
                dataset.chunk_iter(check)

    def _end(self, end: int, here: str) -> None:
        if end > self._size:
            raise truncated(self._name, end, self._size, f"the values of {shown(here)}")

    def _attributes(self, thing: Any, owner: str) -> None:
        self.arrays.check("objects", h5a.get_num_attrs(thing), f"attributes of {shown(owner)}")
        names: list[bytes] = []
        h5a.iterate(thing, names.append)
        for raw in names:
            self._texts.decode(owner, raw)
            attribute = h5a.open(thing, raw)
            kind, space = attribute.get_type(), attribute.get_space()
            if space.get_simple_extent_type() == h5s.NULL:
                continue
            self._texts.size(math.prod(space.get_simple_extent_dims()) * kind.get_size())
            if kind.get_class() == h5t.STRING and kind.is_variable_str():
                for text in _values(attribute):
                    self._texts.size(len(text))


def _values(attribute: h5a.AttrID) -> list[bytes]:
    """Return the texts of an attribute as bytes, whatever their type."""
    values = np.empty(attribute.shape, dtype=attribute.dtype)
    attribute.read(values)
    return [bytes(each) for each in values.flat]


def _stored_bytes(kind: h5t.TypeID) -> int:
    """Return the size of one item in the file. Text of variable length is stored elsewhere; only its length and address are counted
    here.
    """
    is_elsewhere = kind.get_class() == h5t.STRING and kind.is_variable_str()
    return 16 if is_elsewhere else int(kind.get_size())


def _readable(kind: h5t.TypeID) -> bool:
    """Return whether numpy has the type. h5py itself refuses numbers of unusual widths."""
    if kind.get_class() not in _PLAIN:
        return False
    try:
        return kind.dtype is not None
    except (TypeError, ValueError):
        return False


_CLASS = {
    h5t.INTEGER: "integer",
    h5t.FLOAT: "number",
    h5t.TIME: "time",
    h5t.STRING: "text",
    h5t.BITFIELD: "bits",
    h5t.OPAQUE: "opaque bytes",
    h5t.COMPOUND: "compound",
    h5t.REFERENCE: "reference",
    h5t.ENUM: "enumeration",
    h5t.VLEN: "arrays of variable length",
    h5t.ARRAY: "arrays",
    h5t.COMPLEX: "complex number",
}
