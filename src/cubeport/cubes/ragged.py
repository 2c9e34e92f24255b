"""Ragged arrays of stations (CF 9.3.3 and 9.3.4) as rows of stations and times.

A ragged array has the observations of all stations along one sample dimension. How many belong to each station, or to which station
each belongs, is in another variable. Queries need one time for each column, so the observations are placed by station and time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cubeport.cubes.decoding import decoded
from cubeport.cubes.packing import missing_number
from cubeport.cubes.raw import dataset, variables
from cubeport.cubes.variables import kind_of, text_dims

type Values = np.ndarray[Any, Any]

_SPARSE = 50
"""The result may have this many cells for each observation,"""
_SMALL = 10_000_000
"""or this many cells in all."""


class NotRagged(Exception):
    """The dimension does not have the observations of stations at times."""


def by_station(raw: xr.Dataset, sample: str) -> xr.Dataset:
    """Return *raw* with the observations along *sample* as ``(station, time)``, missing where a station has none.

    The times are those of all stations, each once, in ascending order. Stored numbers do not change. A whole number without a fill
    value gets one that no observation has.

    Raises
    ------
    NotRagged
        If the dimension is not a sample dimension, its observations have no time or the same time twice, or the result would be
        almost empty.
    """
    held = variables(raw)
    counting, instance, rows = _instances(raw, sample)
    clocks = [name for name, each in held.items() if text_dims(each) == (sample,) and kind_of(name, each) == "t"]
    if not clocks:
        raise NotRagged(f"no variable along {sample!r} is a time, so its observations cannot be placed")
    clock = clocks[0]
    when = np.asarray(decoded(held[clock], name=clock), "float64")
    if not np.isfinite(when).all():
        raise NotRagged(f"{clock!r} is missing at index {int(np.flatnonzero(~np.isfinite(when))[0])}")
    labels, first, columns = np.unique(when, return_index=True, return_inverse=True)
    stations = raw.sizes[instance]
    cells = stations * len(labels)
    if cells > max(_SMALL, _SPARSE * len(when)):
        raise NotRagged(f"{len(when):,} observations would be {cells:,} cells: these stations have hardly any time in common")
    flat = rows * len(labels) + columns
    once, counts = np.unique(flat, return_counts=True)
    if (counts > 1).any():
        station, step = divmod(int(once[counts > 1][0]), len(labels))
        again = np.flatnonzero(flat == once[counts > 1][0])
        raise NotRagged(f"station {station} has one time twice, at index {again[0]} and {again[1]} of {clock!r} (its step {step})")
    result = {}
    for name, variable in held.items():
        if name == counting:
            continue
        if name == clock:
            result[name] = xr.Variable((clock,), np.asarray(variable.values)[first], dict(variable.attrs))
        elif text_dims(variable) == (sample,):
            result[name] = _placed(name, variable, (instance, clock), (stations, len(labels)), flat, clock)
        elif sample in variable.dims:
            raise NotRagged(f"{name!r} has more dimensions than {sample!r}: {', '.join(map(str, variable.dims))}")
        else:
            result[name] = variable
    return dataset(result, raw.attrs)


def _instances(raw: xr.Dataset, sample: str) -> tuple[str, str, Values]:
    """Return the variable that counts or names the stations, their dimension, and the station of each observation."""
    size = raw.sizes[sample]
    for name, variable in variables(raw).items():
        if variable.attrs.get("sample_dimension") == sample and variable.ndim == 1:
            counts = np.asarray(decoded(variable, name=name))
            if counts.dtype.kind not in "iu" or (counts < 0).any() or int(counts.sum()) != size:
                raise NotRagged(f"{name!r} does not count the {size} observations along {sample!r}")
            return name, str(variable.dims[0]), np.repeat(np.arange(len(counts)), counts)
        instance = variable.attrs.get("instance_dimension")
        if isinstance(instance, str) and text_dims(variable) == (sample,):
            rows = np.asarray(decoded(variable, name=name))
            if instance not in raw.sizes or rows.dtype.kind not in "iu" or (rows < 0).any() or (rows >= raw.sizes[instance]).any():
                raise NotRagged(f"{name!r} does not give each observation along {sample!r} a station")
            return name, instance, rows.astype("int64")
    raise NotRagged(f"{sample!r} is not the sample dimension of a ragged array: no sample_dimension or instance_dimension names it")


def _placed(
    name: str, variable: xr.Variable, dims: tuple[str, str], shape: tuple[int, int], flat: Values, clock: str
) -> xr.Variable:
    values = variable.values
    attributes = dict(variable.attrs)
    if values.dtype.kind in "iufb":
        empty: Any = missing_number(variable) if values.dtype.kind != "b" else None
        if empty is None:
            raise NotRagged(f"{name!r} uses all numbers of its type, so that none can mean missing")
        attributes["_FillValue"] = empty
    else:
        empty = ""
    table = np.full(shape[0] * shape[1], empty, dtype=values.dtype)
    table[flat] = values
    words = [word for word in str(attributes.get("coordinates", "")).split() if word != clock]
    attributes = {key: value for key, value in attributes.items() if key != "coordinates"}
    return xr.Variable(dims, table.reshape(shape), attributes | ({"coordinates": " ".join(words)} if words else {}))
