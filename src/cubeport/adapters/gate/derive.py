"""The child's task for a derived dataset: read the input versions, compute, and write one Zarr group.

The recipes of cubeport process the cells block by block, so that memory use does not depend on the size of the inputs. A plugin's
function is called once with the inputs as lazy datasets. The result is a source like any other, which the gate then reads and
checks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr
import zarr

from cubeport.adapters.engines.manifest import CUBE, sources_of
from cubeport.adapters.engines.opened import VersionStore
from cubeport.adapters.gate.functions import imported
from cubeport.adapters.gate.parent import parent_of
from cubeport.adapters.sandbox import child
from cubeport.cubes import periods, recipes
from cubeport.cubes.calendars import CalendarName, Stamp
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.periods import nearly, within
from cubeport.cubes.readers import reader
from cubeport.cubes.recipes import Anomaly, Reference, Resampling
from cubeport.cubes.reduction import Groups, by_month, by_period, departures, method_of, reduce
from cubeport.cubes.times import calendar_of, decode
from cubeport.errors import Configuration, InvalidRequest

BLOCK_BYTES = 64 * 2**20
"""The size of one block of values in double precision, in bytes."""

RESULT = "derived.zarr"

_ANOMALIES = {"air_temperature", "air_pressure", "geopotential", "geopotential_height", "surface_temperature"}
"""Standard names that also exist with ``_anomaly`` in CF's table. The anomalies of other variables have no standard name."""

_TEMPERATURES = {"K", "kelvin", "degC", "degF", "Celsius", "celsius", "deg_C", "degree_Celsius", "degrees_Celsius", "°C"}

_PACKING = ("scale_factor", "add_offset", "missing_value", "_FillValue", "_Unsigned", "valid_min", "valid_max", "valid_range")


def derive(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Write ``into/derived.zarr`` and return its name.

    ``request`` contains ``recipe``, ``params`` (bound), ``function`` (``module:name`` or null), ``into``, and ``inputs``: the
    folder and the description of a version by name, and whether the service ``brings`` its objects.
    """
    target = Path(request["into"]) / RESULT
    opened = {name: _open(each, context) for name, each in request["inputs"].items()}
    if request["function"] is not None:
        made = imported(request["function"])(*opened.values(), **request["params"])
        if not isinstance(made, xr.Dataset):
            raise Configuration(f"The recipe {request['recipe']!r} returns {type(made).__name__}, not an xarray.Dataset.")
        made.to_zarr(target, zarr_format=3, consolidated=False, mode="w-")
        return {"file": RESULT}
    [(_, data)] = opened.items()
    [described] = (CubeDescription.model_validate(each["description"]) for each in request["inputs"].values())
    params = recipes.RECIPES[request["recipe"]].parameters.model_validate(request["params"])
    work = _Work(data, described, context)
    if isinstance(params, Resampling):
        work.resample(target, params)
    elif isinstance(params, Anomaly):
        work.anomaly(target, params)
    else:
        assert isinstance(params, Reference)
        work.normal(target, params)
    return {"file": RESULT}


def _open(told: Mapping[str, Any], context: child.Context) -> xr.Dataset:
    """Return a version of ours as a lazy dataset, with values decoded and times as numbers."""
    folder = Path(told["folder"])
    # Not every folder has every chunk, and a missing chunk is read as fill values.
    apart = told["brings"] or sources_of(folder)
    store: Any = VersionStore(parent_of({**told, "digest": None}, context), "", "") if apart else folder / CUBE
    opened: xr.Dataset = xr.open_dataset(
        store,
        engine=reader("zarr"),
        consolidated=True,
        zarr_format=3,
        chunks=None,
        decode_times=False,
        decode_timedelta=False,
        create_default_indexes=False,
    )
    return opened


class _Work:
    """One input with time steps, and the result that is made from it."""

    def __init__(self, data: xr.Dataset, described: CubeDescription, context: child.Context) -> None:
        temporal = described.temporal
        if temporal is None or temporal.dimensions:
            raise InvalidRequest("The recipe needs an input with a time axis.")
        self._data, self._context = data, context
        self._axis = next(each for each in described.axes if each.name == temporal.axis)
        self._along = self._axis.dimension
        self._type = temporal.period_type or "irregular"
        labels = data.variables[self._axis.name]
        self._units = str(labels.attrs["units"])
        self._calendar: CalendarName = calendar_of(labels.attrs, name=self._axis.name)
        edges = self._axis.bounds if self._axis.bounds in data.variables and "climatology" not in labels.attrs else None
        numbers = data.variables[edges].values[:, 0] if edges is not None else labels.values
        self._starts: Sequence[Stamp] = decode(numbers, self._units, self._calendar, name=self._axis.name)
        if edges is None:
            self._starts = within(self._starts, self._calendar, temporal.time_label)
        if self._type == "irregular" and (found := nearly(self._starts, self._calendar)) is not None:
            self._type = found[0]  # some steps are missing: else the rest of a period would look like all of it
        self._labels = labels
        roles = {each.name: each.role for each in described.variables}
        self._fields = [
            str(name)
            for name, each in data.variables.items()
            if roles.get(str(name)) == "data" and self._along in each.dims and each.dtype.kind in "fiub"
        ]
        if not self._fields:
            raise InvalidRequest("The recipe needs a variable of numbers along time, and the input has none.")
        # Other variables with a time dimension (bounds of time, text) would describe other steps.
        self._others = [str(name) for name, each in data.variables.items() if self._along not in each.dims]

    def resample(self, target: Path, params: Resampling) -> None:
        groups = by_period(self._starts, self._type, params.period_type, self._calendar, partial=params.partial)
        methods = {name: method_of(name, self._attributes(name), self._along, params.method) for name in self._fields}
        group = self._begin(target, groups, climatology=False)
        for name in self._fields:
            attributes = self._attributes(name)
            said = attributes.get("cell_methods", "")
            attributes["cell_methods"] = f"{said} {self._axis.name}: {methods[name]}".strip()
            array = self._array(group, name, len(groups.starts), attributes)
            for cut, values in self._blocks(name):
                array[(slice(None), *cut)] = reduce(values, groups, methods[name], least=params.least)

    def normal(self, target: Path, params: Reference) -> None:
        groups = by_month(self._starts, params.start, params.end, source_type=self._type, calendar=self._calendar)
        group = self._begin(target, groups, climatology=True)
        for name in self._fields:
            attributes = self._attributes(name)
            time = self._axis.name
            attributes["cell_methods"] = f"{time}: mean within years {time}: mean over years"
            array = self._array(group, name, len(groups.starts), attributes)
            for cut, values in self._blocks(name):
                array[(slice(None), *cut)] = reduce(values, groups, "mean", least=params.least)

    def anomaly(self, target: Path, params: Anomaly) -> None:
        groups = by_month(self._starts, params.start, params.end, source_type=self._type, calendar=self._calendar)
        months = np.array([each.month - 1 for each in self._starts])
        group = zarr.open_group(target, mode="w-", zarr_format=3, attributes=_plain(self._data.attrs))
        for name in (*self._others, *(str(each) for each in (self._axis.name, self._axis.bounds) if each in self._data.variables)):
            _copy(group, name, self._data.variables[name])
        for name in self._fields:
            attributes = self._attributes(name)
            units = str(attributes.get("units", "1"))
            if params.departure == "percent":
                if units in _TEMPERATURES:
                    raise InvalidRequest(f"Variable {name!r} is in {units}: a percentage of a temperature means nothing.")
                attributes["units"] = "%"
            standard = attributes.pop("standard_name", None)
            if standard in _ANOMALIES:
                attributes["standard_name"] = f"{standard}_anomaly"
            attributes["long_name"] = (
                f"{attributes.get('long_name', standard or name)} less its mean of {params.start}-{params.end}"
            )
            array = self._array(group, name, len(self._starts), attributes)
            for cut, values in self._blocks(name):
                mean = reduce(values, groups, "mean", least=params.least)
                array[(slice(None), *cut)] = departures(values, months, mean, percent=params.departure == "percent")

    def _attributes(self, name: str) -> dict[str, Any]:
        variable = self._data.variables[name]
        said = {
            **variable.attrs,
            **{key: value for key, value in variable.encoding.items() if key in ("coordinates", "grid_mapping")},
        }
        return {key: value for key, value in _plain(said).items() if key not in _PACKING}

    def _begin(self, target: Path, groups: Groups, *, climatology: bool) -> zarr.Group:
        """Make the group with the variables that do not change in time, and with the new steps and their bounds."""
        group = zarr.open_group(target, mode="w-", zarr_format=3, attributes=_plain(self._data.attrs))
        for name in self._others:
            _copy(group, name, self._data.variables[name])
        units = f"days since {_moment(groups.starts[0], self._calendar).strftime('%Y-%m-%d %H:%M:%S')}"
        numbers = [[self._number(each, units) for each in edge] for edge in (groups.starts, groups.ends)]
        starts, ends = (np.array(each, "float64") for each in numbers)
        labels = starts
        if climatology:  # the middle of the month in the first year, as in CF's own example (7.4)
            ends_there = [periods.end_of(each.year * 12 + each.month - 1, "monthly", self._calendar) for each in groups.starts]
            labels = (starts + np.array([self._number(each, units) for each in ends_there])) / 2
        name = self._axis.name
        edges = "climatology_bounds" if climatology else f"{name}_bnds"
        kept = {key: value for key, value in self._labels.attrs.items() if key in ("standard_name", "long_name", "axis")}
        attributes = {**kept, "units": units, "calendar": self._calendar, "climatology" if climatology else "bounds": edges}
        _write(group, name, (self._along,), labels, attributes)
        _write(
            group, edges, (self._along, "bnds" if "bnds" not in self._data.dims else "edges"), np.stack([starts, ends], axis=1), {}
        )
        return group

    def _number(self, stamp: Stamp, units: str) -> float:
        return float(cftime.date2num(_moment(stamp, self._calendar), units, self._calendar))

    def _array(self, group: zarr.Group, name: str, steps: int, attributes: Mapping[str, Any]) -> zarr.Array[Any]:
        """Make the array of a field, with its steps as first dimension, followed by the other dimensions of the input."""
        variable = self._data.variables[name]
        dtype = np.dtype("float32") if variable.dtype.itemsize <= 4 and variable.dtype.kind == "f" else np.dtype("float64")
        dimensions = (self._along, *(str(each) for each in variable.dims if each != self._along))
        sizes = dict(zip(map(str, variable.dims), variable.shape, strict=True))
        shape = (steps, *(sizes[each] for each in dimensions[1:]))
        made: zarr.Array[Any] = group.create_array(
            name,
            shape=shape,
            chunks=tuple(max(1, each) for each in self._block(name, steps)),
            dtype=dtype,
            fill_value=np.nan,
            dimension_names=dimensions,
            attributes={**attributes, "_FillValue": _fill(dtype)},
        )
        return made

    def _block(self, name: str, steps: int) -> tuple[int, ...]:
        """Return the shape of one block of the result: all steps, and as many cells as fit in memory with all their input."""
        variable = self._data.variables[name]
        sizes = [size for each, size in zip(variable.dims, variable.shape, strict=True) if each != self._along]
        budget = max(1, BLOCK_BYTES // (8 * max(1, len(self._starts))))
        lengths = [1] * len(sizes)
        for axis in reversed(range(len(sizes))):  # the fastest dimension first, which is the order in memory
            lengths[axis] = max(1, min(sizes[axis], budget // math.prod(lengths)))
        return steps, *lengths

    def _blocks(self, name: str) -> Iterator[tuple[tuple[slice, ...], Any]]:
        """Yield the index and the decoded values of each block, with the steps as first dimension and missing values as NaN."""
        variable = self._data.variables[name]
        rest = [each for each in variable.dims if each != self._along]
        sizes = [variable.sizes[each] for each in rest]
        _, *lengths = self._block(name, 1)
        starts = [range(0, size, length) for size, length in zip(sizes, lengths, strict=True)]
        total = math.prod(map(len, starts))
        self._context.declare(8 * variable.size)
        for done, corner in enumerate(itertools.product(*starts)):
            self._context.progress("deriving", done, total)
            cut = tuple(slice(low, min(low + n, size)) for low, n, size in zip(corner, lengths, sizes, strict=True))
            chosen = dict(zip(rest, cut, strict=True))
            values = variable.isel(chosen).transpose(self._along, *rest).values
            yield cut, values.astype("float64") if values.dtype.kind != "f" else values


def _moment(stamp: Stamp, calendar: str) -> cftime.datetime:
    return cftime.datetime(*stamp, calendar=calendar)


def _copy(group: zarr.Group, name: str, variable: xr.Variable) -> None:
    """Write a variable as it is stored, including its packing."""
    stored = xr.conventions.encode_cf_variable(variable, name=name)
    _write(group, name, tuple(map(str, stored.dims)), stored.values, _plain(stored.attrs))


def _write(group: zarr.Group, name: str, dimensions: Sequence[str], values: Any, attributes: Mapping[str, Any]) -> None:
    if values.dtype.kind in "OUST":
        values = values.astype(np.dtypes.StringDType())
    fill = attributes.get("_FillValue")
    attributes = {**attributes, "_FillValue": _fill(values.dtype)} if isinstance(fill, float) and math.isnan(fill) else attributes
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=tuple(max(1, each) for each in values.shape),
        dtype=values.dtype,
        dimension_names=dimensions,
        attributes=dict(attributes),
    )
    array[...] = values


def _fill(dtype: np.dtype[Any]) -> str | float:
    """Return the attribute ``_FillValue`` of NaN as xarray writes it in Zarr v3: base64 of the little-endian double."""
    from cubeport.adapters.engines.zarrv3 import float_to_text

    return float_to_text(float("nan")) if dtype.kind == "f" else float("nan")


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as JSON values."""
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        found[str(name)] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return found
