"""The classic formats of netCDF (CDF-1, CDF-2, CDF-5). This module parses the header; netCDF4 reads the values.

Libraries invent values for the missing part of a truncated file (netcdf4-python#1030), so the header is first compared with the
size of the file. The grammar is in the NetCDF User's Guide, appendix B, "File Format Specifications".
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import xarray as xr

from cubeport.adapters.engines.zarrv3 import Form
from cubeport.adapters.sandbox.child import Input
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.contents import Group, plain, variable
from cubeport.adapters.sources.reading import RAW, OpenedSource, check_group, opened, opening
from cubeport.adapters.sources.scanned import Array, Arrays, Scanned, SourceTexts, shown, truncated, unique, unreadable
from cubeport.adapters.sources.signatures import is_netcdf3
from cubeport.adapters.sources.stored import Stored
from cubeport.cubes.readers import reader

EXTRA = "netcdf"

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8}
_SIZES_5 = _SIZES | {7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_CHAR = 2
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_NAME_BYTES = 256
_PIECE = 64 * 1024


def matches(source: Input) -> bool:
    """Return whether the file begins like a classic netCDF file."""
    return not source.is_folder and is_netcdf3(source.fd)


def scan(source: Input, limits: SourceLimits) -> Scanned:
    """Return the arrays that the header declares. Everything must be inside the file and within the limits."""
    size = os.fstat(source.fd).st_size
    return Scanned(source.name, "netcdf3", size, _Header(source.name, source.fd, size, limits).read())


def verify(source: Input, limits: SourceLimits, pool: Executor, *, group: str = "", left_out: Collection[object] = ()) -> None:
    """Do nothing. Values are not encoded, and :func:`scan` has checked that they are all inside the file."""


def open(  # noqa: A001 - every format has it
    source: Input, *, group: str | None = None, wanted: Collection[str] = (), skipped: Collection[str] = ()
) -> OpenedSource:
    """Return the file as one lazy source. It has no groups."""
    check_group(source.name, group, list)
    with opening(source.name):
        raw = xr.open_dataset(str(source.path), engine=reader("netcdf4"), group=group, drop_variables=list(skipped), **RAW)
    # netCDF4 replaces bytes that are not UTF-8 by U+FFFD; the header still has them.
    header = _Header(source.name, source.fd, os.fstat(source.fd).st_size, SourceLimits())
    header.read()
    for (owner, attribute), text in header.latin1.items():
        (raw.variables[owner] if owner else raw).attrs[attribute] = text
    return opened(source.name, raw, wanted, skipped, list, group=group)


def stored(source: Input, *, group: str = "", variables: Collection[str] = ()) -> dict[str, Stored | str]:  # noqa: ARG001 - every format has it
    """Return how each variable is stored: as plain big-endian numbers, all at once, or a record at a time."""
    header = _Header(source.name, source.fd, os.fstat(source.fd).st_size, SourceLimits())
    header.read()
    return {each.name: _stored(each, header.records, header.record_bytes) for each in header.variables if each.name in variables}


def _stored(variable: _Variable, records: int, record_bytes: int) -> Stored | str:
    if variable.kind not in _NUMBERS:
        return "is text"
    dtype = np.dtype(_NUMBERS[variable.kind])
    shape = (records, *variable.shape) if variable.is_record else variable.shape
    form = Form(big_endian=dtype.itemsize > 1)
    if not variable.is_record or record_bytes == variable.slab_bytes:
        size = math.prod(shape) * dtype.itemsize
        whole = tuple(max(each, 1) for each in shape)
        return Stored(shape, whole, dtype, form, {(0,) * len(shape): (variable.begin, size)} if size else {})
    rest = (0,) * len(variable.shape)
    places = {(n, *rest): (variable.begin + n * record_bytes, variable.slab_bytes) for n in range(records)}
    return Stored(shape, (1, *(max(each, 1) for each in variable.shape)), dtype, form, places)


_NUMBERS = {
    1: "int8", 3: "int16", 4: "int32", 5: "float32", 6: "float64", 7: "uint8", 8: "uint16", 9: "uint32", 10: "int64", 11: "uint64"
}  # fmt: skip
"""Types by their number in the format."""


def contents(path: Path) -> Iterator[Group]:
    """Yield the description of the file."""
    import netCDF4

    with netCDF4.Dataset(path) as file:
        variables = {
            key: variable(each.dtype, each.shape, each.dimensions, None, {name: each.getncattr(name) for name in each.ncattrs()})
            for key, each in file.variables.items()
        }
        sizes = {key: len(each) for key, each in file.dimensions.items()}
        yield Group("", sizes, variables, plain({name: file.getncattr(name) for name in file.ncattrs()}))


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    shape: tuple[int, ...]
    """The shape without the record dimension."""
    is_record: bool
    kind: int
    item_bytes: int
    begin: int

    @property
    def slab_bytes(self) -> int:
        """The size in bytes: of the whole variable, or of one record."""
        return math.prod(self.shape) * self.item_bytes


class _Header:
    def __init__(self, name: str, descriptor: int, size: int, limits: SourceLimits) -> None:
        self._name = name
        self._descriptor = descriptor
        self._size = size
        self._texts = SourceTexts(name, limits)
        self._arrays = Arrays(name, limits)
        self.variables: list[_Variable] = []
        self.records = self.record_bytes = 0
        self.latin1: dict[tuple[str, str], str] = {}
        """The text of attributes that are not UTF-8, by (variable, name). The variable is empty for attributes of the file."""
        self._inside = False
        self._at = 0
        self._held = b""
        self._held_at = 0
        version = self._take(4)[3]
        self._wide_counts = version == 5
        self._wide_offsets = version != 1
        self._sizes = _SIZES_5 if version == 5 else _SIZES

    def read(self) -> tuple[Array, ...]:
        records = self._integer(8 if self._wide_counts else 4)
        dimensions = self._dimensions()
        self._attributes("the file")
        self._inside = True
        variables = [self._variable(dimensions) for _ in range(self._list(_VARIABLES, "variables"))]
        if not unique(each.name for each in variables):
            self._fail("two variables of one name")
        record_bytes = self._record_bytes(variables)
        if records == (1 << (64 if self._wide_counts else 32)) - 1:
            records = self._streamed(variables, record_bytes)
        for each in variables:
            self._within(each, records, record_bytes)
            shape = (records, *each.shape) if each.is_record else each.shape
            self._arrays.add(Array(each.name, shape, each.item_bytes))
        self.variables, self.records, self.record_bytes = variables, records, record_bytes
        return self._arrays.done(self._size)

    def _dimensions(self) -> list[int]:
        lengths = []
        names = []
        for _ in range(self._list(_DIMENSIONS, "dimensions")):
            names.append(self._text("a dimension"))
            lengths.append(self._count())
        if not unique(names):
            self._fail("two dimensions of one name")
        if lengths.count(0) > 1:
            self._fail("two record dimensions")
        return lengths

    def _attributes(self, owner: str) -> None:
        names = []
        for _ in range(self._list(_ATTRIBUTES, "attributes")):
            name = self._text(f"an attribute of {owner}")
            names.append(name)
            kind = self._kind()
            length = self._count() * self._sizes[kind]
            self._texts.size(length)
            body = self._padded(length)
            if kind == _CHAR and (text := _latin1(body)) is not None:
                self.latin1[owner if self._inside else "", name] = text
        if not unique(names):
            self._fail(f"two attributes of one name on {owner}")

    def _variable(self, dimensions: list[int]) -> _Variable:
        name = self._text("a variable")
        rank = self._count()
        self._arrays.check("dimensions", rank, f"dimensions of {shown(name)}")
        numbers = [self._count() for _ in range(rank)]
        if any(each >= len(dimensions) for each in numbers):
            self._fail(f"{name} names a dimension that does not exist")
        lengths = [dimensions[each] for each in numbers]
        if 0 in lengths[1:]:
            self._fail(f"{name} does not have its record dimension first")
        is_record = lengths[:1] == [0]
        self._attributes(name)
        kind = self._kind()
        self._integer(8 if self._wide_counts else 4)  # vsize is redundant, and wrong by design above 4 GiB, so it is ignored
        begin = self._integer(8 if self._wide_offsets else 4)
        return _Variable(name, tuple(lengths[1:] if is_record else lengths), is_record, kind, self._sizes[kind], begin)

    def _record_bytes(self, variables: list[_Variable]) -> int:
        """Return the bytes from one record to the next. Each slab is padded to four bytes, except for a single variable of small
        items.
        """
        slabs = [each.slab_bytes for each in variables if each.is_record]
        return slabs[0] if len(slabs) == 1 else sum(-(-each // 4) * 4 for each in slabs)

    def _streamed(self, variables: list[_Variable], record_bytes: int) -> int:
        """Return the number of records of a file whose writer did not record it."""
        begins = [each.begin for each in variables if each.is_record]
        return max(self._size - min(begins), 0) // record_bytes if begins and record_bytes else 0

    def _within(self, variable: _Variable, records: int, record_bytes: int) -> None:
        if variable.begin < self._at:
            self._fail(f"{variable.name} begins inside the header")
        end = variable.begin + variable.slab_bytes
        if variable.is_record:
            end += (records - 1) * record_bytes
        if end > self._size and not (variable.is_record and records == 0):
            raise truncated(self._name, end, self._size, f"the values of {shown(variable.name)}")

    def _list(self, tag: int, what: str) -> int:
        """Return the length of the list that follows, after checking the limits."""
        found, count = self._integer(4), self._count()
        if found != tag and (found, count) != (0, 0):
            self._fail(f"no list of {what} where one must be")
        self._arrays.count(0 if tag == _ATTRIBUTES else count)
        self._arrays.check("objects", count, f"number of {what}")
        return count

    def _kind(self) -> int:
        kind = self._integer(4)
        if kind not in self._sizes:
            self._fail("an unknown data type")
        return kind

    def _count(self) -> int:
        return self._integer(8 if self._wide_counts else 4)

    def _text(self, where: str) -> str:
        length = self._count()
        if not 1 <= length <= _NAME_BYTES:
            self._fail(f"a name of {length:,} bytes")
        return self._texts.decode(where, self._padded(length))

    def _integer(self, width: int) -> int:
        return int.from_bytes(self._take(width))

    def _padded(self, length: int) -> bytes:
        return self._take(-(-length // 4) * 4)[:length]

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > self._size:
            raise truncated(self._name, end, self._size, "its header")
        if end > self._held_at + len(self._held):
            self._held = os.pread(self._descriptor, max(length, _PIECE), self._at)
            self._held_at = self._at
        start = self._at - self._held_at
        self._at = end
        return self._held[start : start + length]

    def _fail(self, why: str) -> NoReturn:
        raise unreadable(self._name, f"has no valid NetCDF header: {shown(why)}")


def _latin1(body: bytes) -> str | None:
    """Return text that is not UTF-8, with its bytes escaped as in Python; ``None`` if it is UTF-8."""
    body = body.rstrip(b"\0")
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "surrogateescape")
    return None
