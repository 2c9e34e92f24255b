"""Open a plain NetCDF-4 file with h5py alone: a root of numbers on named dimensions, as most files are.

h5netcdf looks up the object of a variable again for each of its properties, and xarray asks for twenty. Opening a small file takes
12 ms with them and 2.5 ms here. For a file that is not plain :func:`read` returns ``None``, and h5netcdf opens it. For a plain one
both give the same variables, attributes and values in the same order, which tests/gate/test_plain.py holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np
import xarray as xr
from h5py import h5, h5a, h5d, h5g, h5i, h5l, h5o, h5p, h5r, h5s, h5t
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing

_HIDDEN = frozenset(
    (
        *("REFERENCE_LIST", "CLASS", "DIMENSION_LIST", "NAME", "_Netcdf4Dimid", "_Netcdf4Coordinates"),
        *("_nc3_strict", "_NCProperties"),
    )
)
"""The attributes by which NetCDF-4 stores itself; h5netcdf hides the same."""

_SCALE = b"DIMENSION_SCALE"
_PHANTOM = b"This is a netCDF dimension but not a netCDF variable"


class _NotPlainError(Exception):
    """The file needs a reader that knows more."""


def read(path: str, driver: str | None) -> xr.Dataset | None:
    """Return the root of a scanned file as stored, lazily, or ``None`` if it is not plain. Raises what h5py raises."""
    manager = CachingFileManager(h5py.File, path, mode="r", kwargs={} if driver is None else {"driver": driver})
    try:
        file = manager.acquire()
        found = _read(h5g.open(file.id, b"/"), manager)
    except BaseException as error:
        manager.close()
        if isinstance(error, (_NotPlainError, UnicodeDecodeError)):
            return None
        raise
    found.set_close(manager.close)
    return found


def _read(root: h5g.GroupID, manager: Any) -> xr.Dataset:
    held: dict[str, h5d.DatasetID] = {}
    attributes: dict[str, list[bytes]] = {}
    sizes: dict[str, int] = {}
    phantoms: set[str] = set()
    for link in list(root):
        name = link.decode()
        if root.links.get_info(link).type != h5l.TYPE_HARD or name.startswith("_nc4_non_coord_"):
            raise _NotPlainError
        thing = h5o.open(root, link)
        if not isinstance(thing, h5d.DatasetID) or thing.get_space().get_simple_extent_type() == h5s.NULL:
            raise _NotPlainError
        held[name], attributes[name] = thing, _names(thing)
        if b"CLASS" in attributes[name]:
            if _text(thing, b"CLASS") != _SCALE or thing.rank != 1:
                raise _NotPlainError
            sizes[name] = thing.shape[0]
            if b"NAME" in attributes[name] and _PHANTOM in _text(thing, b"NAME"):
                phantoms.add(name)
    variables = {
        name: _variable(root, name, thing, attributes[name], sizes, manager) for name, thing in held.items() if name not in phantoms
    }
    labels = {name: each for name, each in variables.items() if each.dims == (name,)}
    fields = {name: each for name, each in variables.items() if name not in labels}  # xarray has these first
    return xr.Dataset(fields, coords=xr.Coordinates(labels, indexes={}), attrs=_attributes(root, _names(root)))


def _variable(
    root: h5g.GroupID, name: str, thing: h5d.DatasetID, named: list[bytes], sizes: Mapping[str, int], manager: Any
) -> xr.Variable:
    shape, dtype = thing.shape, thing.dtype
    if not _is_number(thing.get_type(), dtype) or b"dtype" in named:
        raise _NotPlainError  # with that attribute xarray says that numbers are true or false
    dims = _dimensions(root, name, thing, named, sizes)
    if len(set(dims)) != len(dims) or tuple(sizes[each] for each in dims) != shape:
        raise _NotPlainError  # a variable may be shorter than its dimension, and is then filled up
    plist = thing.get_create_plist()
    chunks = plist.get_chunk() if shape and plist.get_layout() == h5d.CHUNKED else None
    lazily = indexing.LazilyIndexedArray(_Stored(manager, name, shape, dtype))
    return xr.Variable(dims, lazily, _attributes(thing, named), {"chunksizes": chunks, "dtype": dtype})


def _is_number(kind: h5t.TypeID, dtype: np.dtype[Any]) -> bool:
    return kind.get_class() in (h5t.INTEGER, h5t.FLOAT) and dtype.kind in "iuf" and dtype.isnative and dtype.metadata is None


def _dimensions(
    root: h5g.GroupID, name: str, thing: h5d.DatasetID, named: list[bytes], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the names of the dimensions: a scale is its own, and any other variable refers to one for each axis."""
    if name in sizes:
        if b"_Netcdf4Coordinates" in named and (
            b"_Netcdf4Dimid" not in named
            or not np.array_equal(_value(thing, b"_Netcdf4Coordinates"), _value(thing, b"_Netcdf4Dimid"))
        ):
            raise _NotPlainError
        return (name,)
    if not thing.rank:
        return ()
    if b"DIMENSION_LIST" not in named:
        raise _NotPlainError
    attribute = h5a.open(thing, b"DIMENSION_LIST")
    references = np.empty(attribute.shape, dtype=attribute.dtype)
    attribute.read(references)
    if references.shape != (thing.rank,) or any(np.size(each) != 1 for each in references):
        raise _NotPlainError
    paths = [h5i.get_name(h5r.dereference(each[0], root)) for each in references]
    dims = tuple(path.decode().removeprefix("/") for path in paths if path is not None)
    if len(dims) != thing.rank or any(each not in sizes for each in dims):
        raise _NotPlainError
    return dims


def _names(thing: Any) -> list[bytes]:
    """Return the names of the attributes, in the order of their creation if the file knows it (as h5py does)."""
    found: list[bytes] = []
    tracked = thing.get_create_plist().get_attr_creation_order() & h5p.CRT_ORDER_TRACKED
    _iterate(thing, found.append, index_type=h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME)
    return found


_iterate: Callable[..., object] = h5a.iterate


def _attributes(thing: Any, named: list[bytes]) -> dict[str, Any]:
    names = {each: each.decode() for each in named}
    return {name: _plain(name, _value(thing, raw)) for raw, name in names.items() if name not in _HIDDEN}


def _value(thing: Any, name: bytes) -> Any:
    """Return an attribute as h5netcdf does: one value as a scalar, several numbers as an array, several texts as a list."""
    attribute = h5a.open(thing, name)
    space, dtype = attribute.get_space(), attribute.dtype
    if space.get_simple_extent_type() == h5s.NULL or space.get_simple_extent_ndims() > 1:
        raise _NotPlainError
    values = np.empty(space.get_simple_extent_dims(), dtype=dtype)
    if dtype.kind in "iuf" and dtype.metadata is None:
        attribute.read(values)
        return values[()] if values.ndim == 0 else values[0] if len(values) == 1 else values
    text = h5py.check_string_dtype(dtype)
    if text is None:
        raise _NotPlainError
    attribute.read(values)
    if text.length == 1:
        texts = values.ravel().tolist()
    else:
        encoding = "utf-8" if text.length is None else text.encoding
        texts = [each.decode(encoding, "surrogateescape") for each in values.flat]
    return texts[0] if len(texts) == 1 else texts


def _plain(name: str, value: Any) -> Any:
    """Return single characters as text, as xarray does, except where they are a value."""
    return value.decode() if isinstance(value, bytes) and name not in ("_FillValue", "missing_value") else value


def _text(thing: Any, name: bytes) -> bytes:
    """Return an attribute of NetCDF-4 itself, which is text of a fixed length."""
    attribute = h5a.open(thing, name)
    if attribute.shape not in ((), (1,)) or attribute.dtype.kind != "S":
        raise _NotPlainError
    values = np.empty(attribute.shape, dtype=attribute.dtype)
    attribute.read(values)
    return bytes(values.flat[0])


class _Stored(BackendArray):
    """The values of a variable, which h5py reads."""

    def __init__(self, manager: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._manager, self._name = manager, name
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._get)

    def _get(self, key: tuple[Any, ...]) -> Any:
        with self._manager.acquire_context() as file:
            return file[self._name][key]
