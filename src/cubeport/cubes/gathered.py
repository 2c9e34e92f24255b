"""Compression by gathering (CF 8.2): fields that have only some cells of a grid, such as land, as fields of the whole grid.

A list variable such as ``landpoint(landpoint)`` has the attribute ``compress = "lat lon"``. Its numbers count the cells of these
dimensions from 0, the last dimension first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.cubes.decoding import decoded
from cubeport.cubes.packing import missing_number
from cubeport.cubes.raw import dataset, variables
from cubeport.cubes.variables import kind_of, text_dims

type Values = np.ndarray[Any, Any]


class NotGathered(Exception):
    """The dimension does not have some of the cells of a grid."""


def gathered(raw: xr.Dataset) -> Mapping[str, tuple[str, ...]]:
    """Return the dimensions whose list variable names other dimensions of *raw* as compressed, with these."""
    found = {}
    for name, variable in variables(raw).items():
        dims = tuple(str(variable.attrs.get("compress", "")).split())
        if dims and text_dims(variable) == (name,) and all(dim in raw.sizes for dim in dims):
            found[name] = dims
    return found


def scattered(raw: xr.Dataset, gathering: str) -> xr.Dataset:
    """Return *raw* with the dimensions that *gathering* compresses in its place. Cells that are not listed are missing.

    Stored numbers do not change. A whole number without a fill value gets one that none of its values has. Positions along the
    dimension are left out, because the axes of the grid say the same. Fields are read when they are used, piece by piece.

    Raises
    ------
    NotGathered
        If there is no list variable of this name, or it names a cell that does not exist, or one twice, or a field uses all
        numbers of its type.
    """
    dims = gathered(raw).get(gathering)
    if dims is None:
        known = ", ".join(map(repr, gathered(raw))) or "none"
        raise NotGathered(
            f"{gathering!r} is no list of the cells of a grid (its attribute compress names none); such lists: {known}"
        )
    shape = tuple(raw.sizes[dim] for dim in dims)
    cells = np.asarray(decoded(raw.variables[gathering], name=gathering))
    if cells.dtype.kind not in "iu" or (cells < 0).any() or (cells >= np.prod(shape)).any():
        raise NotGathered(
            f"{gathering!r} names cells that {' × '.join(dims)} does not have: it counts from 0 to {np.prod(shape) - 1}"
        )
    if len(np.unique(cells)) != len(cells):
        raise NotGathered(f"{gathering!r} names a cell twice")
    places = np.full(np.prod(shape), -1, "int64")
    places[cells] = np.arange(len(cells))
    held = {}
    for name, variable in variables(raw).items():
        if name == gathering or (text_dims(variable) == (gathering,) and kind_of(name, variable) in ("x", "y")):
            continue
        held[name] = _scattered(name, variable, gathering, dims, places.reshape(shape)) if gathering in variable.dims else variable
    gone = raw.variables.keys() - held.keys()
    for name, variable in held.items():
        words = str(variable.attrs.get("coordinates", "")).split()
        if gone & set(words):
            held[name] = variable.copy(deep=False)
            kept = " ".join(word for word in words if word not in gone)
            held[name].attrs = {**variable.attrs, "coordinates": kept}
            if not kept:
                del held[name].attrs["coordinates"]
    return dataset(held, raw.attrs)


def _scattered(name: str, variable: xr.Variable, gathering: str, dims: tuple[str, ...], places: Values) -> xr.Variable:
    axis = variable.dims.index(gathering)
    after = (*text_dims(variable)[:axis], *dims, *text_dims(variable)[axis + 1 :])
    attributes = dict(variable.attrs)
    if variable.dtype.kind in "iuf":
        empty = missing_number(variable)
        if empty is None:
            raise NotGathered(f"{name!r} uses all numbers of its type, so that none can mean missing")
        attributes["_FillValue"] = empty
    elif variable.dtype.kind == "b":
        empty = False
    else:
        empty = ""
    return xr.Variable(after, indexing.LazilyIndexedArray(_Scattered(variable, axis, places, empty)), attributes)


class _Scattered(BackendArray):
    """A field on its grid, of which the cells that are not missing are read when they are asked for."""

    def __init__(self, variable: xr.Variable, axis: int, places: Values, empty: Any) -> None:
        self._variable, self._axis, self._places, self._empty = variable, axis, places, empty
        self.shape = (*variable.shape[:axis], *places.shape, *variable.shape[axis + 1 :])
        self.dtype = variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        before, own, after = (
            key[: self._axis],
            key[self._axis : self._axis + self._places.ndim],
            key[self._axis + self._places.ndim :],
        )
        places = self._places[own]
        there = places >= 0
        first, last = (int(places[there].min()), int(places[there].max())) if there.any() else (0, -1)
        read = np.asarray(self._variable[(*before, slice(first, last + 1), *after)].values)
        at = sum(isinstance(each, slice) for each in before)
        read = np.moveaxis(read, at, 0)
        made = np.full((*places.shape, *read.shape[1:]), self._empty, self.dtype)
        made[there] = read[places[there] - first]
        return np.moveaxis(made, range(places.ndim), range(at, at + places.ndim))
