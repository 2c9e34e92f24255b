"""NetCDF-4, written by h5py in this process from values that the server has already decoded (ADR 0010).

netCDF-C is not thread-safe and kills workers (netcdf4-python#844, #1192); h5py has its own lock around HDF5. A NetCDF-4 file is an
HDF5 file with dimension scales. The file follows the NetCDF-4 format specification, appendix B of the NetCDF User's Guide
("Interoperability with HDF5").

Values, names, order, attributes, packing and fill values are those of the store, with these exceptions: sliced axes become scalar
coordinates (coverages), longitudes across the seam are shifted so that they are continuous, and cells outside the box of a
curvilinear grid are missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from cubeport.cubes.fills import number_type, unused
from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.part import Deadline, Opened, Part
from cubeport.cubes.windows import IndexRange, Mask, Window, turned_labels

type Array = NDArray[Any]

MIB = 1 << 20
_STRIP_BYTES = 32 * MIB
"""How many bytes of values are in memory at a time."""
_CHUNK_BYTES = MIB
"""How many bytes one chunk of a variable with the record dimension has, or one step if that is more."""
_VARIABLE_BYTES = 2_600
"""The approximate size of a variable in a NetCDF-4 file without its values, in bytes."""
_OF_VALUES = ("_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "flag_values", "flag_masks", "actual_range")
"""Attributes with the type of the values (CF 2.5.1, 3.5). JSON keeps the number but not its type."""

_WIDER: Mapping[str, np.dtype[Any]] = {"b1": np.dtype("int8"), "f2": np.dtype("float32")}
"""The types that replace types unknown to NetCDF. Every value is the same."""
_ONLY_A_DIMENSION = b"This is a netCDF dimension but not a netCDF variable. %10d"
_RESERVED = (
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_nc3_strict",
    "_NCProperties",
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
)
"""Names that the format itself uses. Attributes with these names are omitted."""


class _NetCDF(Encoder):
    def size(self, part: Part) -> int:
        """Return the estimated size of the file in bytes: uncompressed stored values, and HDF5's overhead for variables and
        attributes.
        """
        opened = part.opened
        names = opened.names() if part.everything else opened.needed(part.windows.fields)
        size = _VARIABLE_BYTES * len(names) + 3 * len(str(opened.global_attributes()))
        for name in names:
            lengths = [
                part.windows.along[dimension].size if dimension in part.windows.along else length
                for dimension, length in zip(opened.dimensions(name), opened.shape(name), strict=True)
            ]
            size += math.prod(lengths) * (opened.dtype(name).itemsize if opened.dtype(name).kind in "iufb" else 48)
        return size

    def encode(self, part: Part, room: Room, deadline: Deadline) -> BinaryIO:
        target = room.open(self.size(part))
        try:
            # netCDF-C needs the creation order; version 1.8 and later can store attributes of more than 64 KiB.
            with h5py.File(target, "w", track_order=True, libver=("v108", "v110")) as file:
                _Writer(file, part, deadline).write()
            return room.finished(target)
        except BaseException:
            target.close()
            raise


ENCODER = _NetCDF()


class NotNetCDF(ValueError):
    """Parts of a cube that a NetCDF-4 file cannot hold: ``problems`` has a line for each, with its name."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def copy(part: Part, path: Path, deadline: Deadline) -> None:
    """Write the part to a new file, then read the file back and compare each stored value with it.

    Raises
    ------
    NotNetCDF
        With every name, type and value that the format cannot hold.
    """
    if problems := list(_problems(part.opened)):
        raise NotNetCDF(problems)
    with h5py.File(path, "x", track_order=True, libver=("v108", "v110")) as file:
        _Writer(file, part, deadline).write()
    with h5py.File(path, "r") as file:
        if differing := _Writer(file, part, deadline).differing():
            raise NotNetCDF([f"{name}: its values come back as others" for name in differing])


_LONGEST_NAME = 256
"""NC_MAX_NAME of netCDF-C, in bytes."""


def _problems(opened: Opened) -> Iterator[str]:
    """Yield what the format cannot hold, by names and types alone."""
    for name in opened.names():
        for what, each in (("", name), *(("its dimension ", each) for each in opened.dimensions(name))):
            if each in _RESERVED or not _is_name(each):
                yield f"{name}: {what}{each!r} is no name in NetCDF"
        dtype = opened.dtype(name)
        if dtype.kind not in "iufbUTOS" or (dtype.itemsize > 8 and dtype.kind in "iuf"):
            yield f"{name}: NetCDF has no type for {dtype}"
        yield from (
            f"{name}: {each!r} is no name of an attribute in NetCDF" for each in opened.attributes(name) if not _is_name(each)
        )
    yield from (f"{each!r} is no name of an attribute in NetCDF" for each in opened.global_attributes() if not _is_name(each))


def _is_name(name: str) -> bool:
    """Return whether netCDF-C can read it: no ``/``, no control characters, no space at its end, at most 256 bytes."""
    first = name[:1]
    begins = (first.isascii() and (first.isalnum() or first == "_")) or not first.isascii()
    return (
        bool(name)
        and begins
        and "/" not in name
        and name.isprintable()
        and not name.endswith(" ")
        and len(name.encode()) <= _LONGEST_NAME
    )


class _Writer:
    """Writes one file."""

    def __init__(self, file: h5py.File, part: Part, deadline: Deadline) -> None:
        self._file = file
        self._opened = part.opened
        self._deadline = deadline
        self._description = part.description
        self._fields = part.windows.fields
        self._windows = part.windows.along
        self._runs = part.runs
        self._dropped = part.dropped
        self._mask = part.windows.mask
        self._names = list(part.opened.names()) if part.everything else part.opened.needed(self._fields)
        self._turned = self._turned_names()
        times = {axis.dimension for axis in part.description.axes if axis.kind == "t" and not axis.scalar}
        self._records = times - self._dropped
        self._sizes: dict[str, int] = {}
        self._scales: dict[str, h5py.Dataset] = {}
        self._made: list[tuple[h5py.Dataset, tuple[str, ...]]] = []

    def write(self) -> None:
        self._file.attrs["_NCProperties"] = _text(f"version=2,h5py={h5py.__version__},hdf5={h5py.version.hdf5_version}")
        _set(self._file, {name: _attribute(value) for name, value in self._opened.global_attributes().items()})
        self._measure()
        for name in self._names:
            self._deadline()
            self._variable(name)
        for number, (dimension, size) in enumerate(self._sizes.items()):
            if dimension not in self._scales:
                space = self._space((dimension,), 4, text=False)
                scale = self._file.create_dataset(dimension, dtype=">f4", track_order=True, **space)
                scale.make_scale((_ONLY_A_DIMENSION % size).decode())
                self._scales[dimension] = scale
            self._scales[dimension].attrs["_Netcdf4Dimid"] = np.int32(number)
        for dataset, dimensions in self._made:
            for at, dimension in enumerate(dimensions):
                if dataset != self._scales[dimension]:
                    dataset.dims[at].attach_scale(self._scales[dimension])

    def _turned_names(self) -> dict[str, str]:
        """Return the longitude and its bounds, with the dimension whose window shifts them."""
        found: dict[str, str] = {}
        for axis in self._description.axes:
            window = self._windows.get(axis.dimension)
            if axis.kind == "x" and not axis.scalar and window is not None and any(run.shift for run in self._runs(window)):
                found[axis.name] = axis.dimension
                if axis.bounds is not None:
                    found[axis.bounds] = axis.dimension
        return found

    def _variable(self, name: str) -> None:
        opened = self._opened
        attributes = dict(opened.attributes(name))
        dimensions = tuple(each for each in opened.dimensions(name) if each not in self._dropped)
        values: Array | None = None
        if name in self._turned:
            window = self._windows[self._turned[name]]
            decoded = opened.decode(name, opened.raw(name, {}))
            values = turned_labels(decoded, Window(window.dimension, self._runs(window))).astype("float64")
            values = values.reshape(
                [size for size, each in zip(values.shape, opened.dimensions(name), strict=True) if each not in self._dropped]
            )
            for packing in ("scale_factor", "add_offset", "_FillValue", "missing_value"):
                attributes.pop(packing, None)
        dtype = opened.dtype(name) if values is None else values.dtype
        text = dtype.kind not in "iufb"
        if self._hides(name):
            dtype = number_type(dtype)
        if dtype.kind == "b":
            attributes["dtype"] = "bool"  # xarray writes and reads booleans like this
        dtype = _WIDER.get(dtype.str[1:], dtype)
        fill = attributes.pop("_FillValue", None)
        if self._hides(name) and fill is None and not text:
            fill = unused(self._description.variable(name), dtype, opened.attributes(name))
        fill_value = None if text or fill is None else np.asarray(fill, dtype=dtype).reshape(-1)[0]
        own = self._own(name, dimensions)
        # Uncompressed, so that the size is known and sending starts immediately.
        variable = self._file.create_dataset(
            own,
            dtype=h5py.string_dtype() if text else dtype,
            fillvalue=fill_value,
            track_order=True,
            **self._space(dimensions, 16 if text else dtype.itemsize, text=text),
        )
        if dimensions == (name,):
            variable.make_scale(name)
            self._scales[name] = variable
        self._made.append((variable, dimensions))
        if name in self._fields:
            attributes = self._with_scalars(name, attributes)
        if fill_value is not None:
            variable.attrs["_FillValue"] = np.array([fill_value])
        _set(
            variable,
            {
                key: _attribute(value, dtype if key in _OF_VALUES and not text and _holds(dtype, value) else None)
                for key, value in attributes.items()
                if value is not None
            },
        )
        if values is not None:
            variable[...] = values
            return
        for place, strip in self._strips(name, fill_value):
            variable[place] = np.asarray(strip, dtype=object) if text else strip

    def _space(self, dimensions: tuple[str, ...], itemsize: int, *, text: bool) -> dict[str, Any]:
        """Return the shape of a variable, and how its values lie. What has the record dimension can grow, so it lies in chunks."""
        shape = tuple(self._sizes[each] for each in dimensions)
        if not self._records & set(dimensions) or not all(shape):
            # Every value is written, so no pre-fill is needed.
            return {"shape": shape} if text else {"shape": shape, "fill_time": "never"}
        row = math.prod(shape[1:]) * itemsize
        parts = math.ceil(shape[0] / max(1, _CHUNK_BYTES // row))  # of equal length, so that the last one has little to spare
        return {
            "shape": shape,
            "maxshape": tuple(None if each in self._records else size for each, size in zip(dimensions, shape, strict=True)),
            "chunks": (math.ceil(shape[0] / parts), *shape[1:]),
        }

    def _own(self, name: str, dimensions: tuple[str, ...]) -> str:
        """Return the name of a variable in the file. One that has the name of a dimension that is not its own has another."""
        return "_nc4_non_coord_" + name if name in self._sizes and dimensions != (name,) else name

    def differing(self) -> list[str]:
        """Return the variables whose values in the file are not those of the store, bit by bit."""
        self._measure()
        return [name for name in self._names if not self._is_equal(name)]

    def _is_equal(self, name: str) -> bool:
        stored = self._file[self._own(name, tuple(self._opened.dimensions(name)))]
        dtype = self._opened.dtype(name)
        text = dtype.kind not in "iufb"
        for place, strip in self._strips(name, None):
            self._deadline()
            found = stored.asstr()[place] if text else stored[place]
            if text:
                if not np.array_equal(np.asarray(found, dtype=object), np.asarray(strip, dtype=object)):
                    return False
            elif np.asarray(found).tobytes() != np.asarray(strip).astype(stored.dtype).tobytes():
                return False
        return True

    def _measure(self) -> None:
        """Find the length of each dimension of the file."""
        for name in self._names:
            for dimension, size in zip(self._opened.dimensions(name), self._opened.shape(name), strict=True):
                if dimension not in self._dropped:
                    window = self._windows.get(dimension)
                    self._sizes.setdefault(dimension, size if window is None else window.size)

    def _with_scalars(self, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes with the sliced axes of a field in its ``coordinates``, because these axes became scalars."""
        sliced = [
            axis.name for axis in self._description.axes if axis.dimension in self._dropped & set(self._opened.dimensions(name))
        ]
        words = str(attributes.get("coordinates", "")).split()
        added = [each for each in sliced if each not in words and each in self._names]
        return attributes | ({"coordinates": " ".join([*words, *added])} if added else {})

    def _hides(self, name: str) -> bool:
        return name in self._fields and self._mask is not None and set(self._mask.dimensions) <= set(self._opened.dimensions(name))

    def _strips(self, name: str, fill: Any) -> Iterator[tuple[Any, Array]]:
        """Yield the values in strips along the first dimension, each with its selection in the file."""
        opened = self._opened
        dimensions, shape = opened.dimensions(name), opened.shape(name)
        windows = [
            self._windows.get(each, Window(each, (IndexRange(0, size),))) for each, size in zip(dimensions, shape, strict=True)
        ]
        along = {window.dimension: window for window in windows}
        if not dimensions:
            yield ..., opened.raw(name, {})
            return
        if not all(window.size for window in windows):
            return
        first = windows[0]
        row = max(1, math.prod(window.size for window in windows[1:])) * max(1, opened.dtype(name).itemsize)
        step = max(1, _STRIP_BYTES // row)
        for start in range(0, first.size, step):
            part = Window(first.dimension, _part(first.runs, start, start + step))
            mask = self._mask_of(name, dimensions, start, part.size)
            values = opened.raw(name, {**along, first.dimension: part}, deadline=self._deadline, mask=mask)
            if mask is not None:
                values = values.astype(number_type(values.dtype), copy=False)
                values = np.where(mask.aligned(dimensions), values, "" if fill is None else np.asarray(fill, dtype=values.dtype))
            sliced = tuple(0 if each in self._dropped else slice(None) for each in dimensions)
            place = () if dimensions[0] in self._dropped else (slice(start, start + part.size),)
            rest = tuple(slice(None) for each in dimensions[1:] if each not in self._dropped)
            yield (*place, *rest) or ..., values[sliced]

    def _mask_of(self, name: str, dimensions: tuple[str, ...], start: int, size: int) -> Mask | None:
        """Return which cells of a strip of a field are selected, or ``None`` if all are."""
        if not self._hides(name) or self._mask is None:
            return None
        if dimensions[0] not in self._mask.dimensions:
            return self._mask
        at = self._mask.dimensions.index(dimensions[0])
        return Mask(self._mask.dimensions, np.take(self._mask.inside, range(start, start + size), axis=at))


def _part(runs: tuple[IndexRange, ...], start: int, stop: int) -> tuple[IndexRange, ...]:
    """Return the ranges between two indices of the answer."""
    kept, at = [], 0
    for run in runs:
        low, high = max(start - at, 0), min(stop - at, run.stop - run.start)
        if low < high:
            kept.append(IndexRange(run.start + low, run.start + high, run.shift))
        at += run.stop - run.start
    return tuple(kept)


def _set(owner: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if name not in _RESERVED:
            owner.attrs[name] = value


def _text(text: str) -> Any:
    """Return text as netCDF-C writes it, with a fixed number of characters, so that readers of the classic model can read it
    too.
    """
    encoded = text.encode()
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded))) if encoded else h5py.Empty("S1")


def _holds(dtype: np.dtype[Any], value: Any) -> bool:
    """Return whether the type has these numbers. 1e20 as int16 would be 0, and zeros would be missing."""
    numbers = np.ravel(value)
    if dtype.kind not in "iu" or numbers.dtype.kind not in "iuf":
        return True
    limits = np.iinfo(dtype)
    lowest = limits.min if dtype.kind == "i" else -(2 ** (8 * dtype.itemsize - 1))  # some write -1 for 255
    return all(number == number and number % 1 == 0 and lowest <= number <= limits.max for number in numbers.tolist())


def _attribute(value: Any, dtype: Any = None) -> Any:
    """Return an attribute in its written form. Numbers that refer to values get the type of the values."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return _text(json.dumps(value))
    if isinstance(value, list) and (not value or any(isinstance(each, str) for each in value)):
        return np.array([str(each) for each in value], dtype=h5py.string_dtype()) if value else h5py.Empty("S1")
    if dtype is not None:
        return np.atleast_1d(np.asarray(value).astype(dtype))
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind == "b":
        return array.astype("int8")
    if array.dtype == np.int64 and (np.abs(array) < 2**31).all():
        return array.astype("int32")
    return _text(json.dumps(value)) if array.dtype.kind == "O" else array
