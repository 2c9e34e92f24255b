"""NetCDF-4 written by a confined child: netCDF-C in server threads kills workers (netcdf4-python#844, #1192).

Values, names, order, attributes, packing and fill values are those of the store. What changes: sliced axes become scalar
coordinates (coverages), longitudes that run over the seam are turned so that they run on, cells outside the box of a
curvilinear grid are missing.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from cubeport.adapters.engines.opened import Opened, OpenedVersions
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.orders import StoredObject
from cubeport.cubes.windows import Run, Window, turned_labels
from cubeport.errors import Corrupt, StoreUnavailable

if TYPE_CHECKING:
    from cubeport.adapters.sandbox.child import Context

type Array = NDArray[Any]

MIB = 1 << 20
_STRIP_BYTES = 32 * MIB
"""Values in memory at once."""
_OF_VALUES = ("_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "flag_values", "flag_masks", "actual_range")
"""Attributes that are of the type of the values (CF 2.5.1, 3.5); JSON has kept the number and not the type."""

_WIDER: Mapping[str, np.dtype[Any]] = {"b1": np.dtype("int8"), "f2": np.dtype("float32")}
"""What NetCDF has for the types that it lacks; every value is the same."""


class _Folder:
    """A version's folder read as an engine reads it: what the manifest lists must be there."""

    def __init__(self, store: Path) -> None:
        self._store = store
        entries = json.loads((store.parent / "manifest.json").read_bytes())["entries"]
        self._sizes: Mapping[str, int] = {each["key"]: each["size"] for each in entries}

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:  # noqa: ARG002  # there is one version
        size = self._sizes.get(key)
        if size is None:
            return None
        try:
            return StoredObject(file=(self._store / key).open("rb", buffering=0), size=size, digest="")
        except FileNotFoundError as error:
            raise Corrupt("An object of the store is missing.", what=key) from error
        except OSError as error:
            raise StoreUnavailable("The store cannot be read now.") from error


def encode(request: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Write ``target`` and return ``{"bytes": size}``; the request is that of ``answers.encode_request``."""
    description = CubeDescription.model_validate(request["description"])
    opened = OpenedVersions(_Folder(Path(request["store"])), chunk_bytes=64 * MIB).open("d", "v", description)
    target = Path(request["target"])
    with netCDF4.Dataset(target, "w", format="NETCDF4") as file:
        _Writer(file, opened, request, context).write()
    return {"bytes": target.stat().st_size}


class _Writer:
    """Writes one file."""

    def __init__(self, file: netCDF4.Dataset, opened: Opened, request: Mapping[str, Any], context: Context) -> None:
        self._file = file
        self._opened = opened
        self._context = context
        self._description = opened.description
        self._as_stored = bool(request["as_stored"])
        self._fields = tuple(request["fields"])
        self._windows = {
            name: Window(name, tuple(Run(*run) for run in each["runs"]), each["sliced"])
            for name, each in request["windows"].items()
        }
        # Only coverages drop what was sliced: a download keeps the dimensions of the store.
        self._dropped = set() if self._as_stored else {name for name, window in self._windows.items() if window.sliced}
        self._mask = _mask(request["mask"])
        self._names = list(opened.names()) if request["everything"] else opened.needed(self._fields)
        self._turned = self._turned_names()

    def write(self) -> None:
        file = self._file
        file.set_fill_off()
        file.setncatts({name: _attribute(value) for name, value in self._opened.global_attributes().items()})
        for name in self._names:
            for dimension, size in zip(self._opened.dimensions(name), self._opened.shape(name), strict=True):
                if dimension not in self._dropped and dimension not in file.dimensions:
                    window = self._windows.get(dimension)
                    file.createDimension(dimension, size if window is None else window.size)
        for done, name in enumerate(self._names):
            self._variable(name)
            self._context.progress("encoding", done + 1, len(self._names))

    def _turned_names(self) -> dict[str, str]:
        """Return the longitude and its bounds, with the dimension whose window turns them."""
        found: dict[str, str] = {}
        for axis in self._description.axes:
            window = self._windows.get(axis.dimension)
            if axis.kind == "x" and not axis.scalar and window is not None and any(run.shift for run in self._shifts(window)):
                found[axis.name] = axis.dimension
                if axis.bounds is not None:
                    found[axis.bounds] = axis.dimension
        return found

    def _shifts(self, window: Window) -> tuple[Run, ...]:
        """Return the runs as they are turned: a download keeps the store's labels, and turns only what comes after the seam."""
        if not self._as_stored:
            return window.runs
        first = window.runs[0].shift
        return tuple(Run(run.start, run.stop, run.shift - first) for run in window.runs)

    def _variable(self, name: str) -> None:
        opened = self._opened
        attributes = dict(opened.attributes(name))
        dimensions = tuple(each for each in opened.dimensions(name) if each not in self._dropped)
        values: Array | None = None
        if name in self._turned:
            window = self._windows[self._turned[name]]
            decoded = opened.decode(name, opened.raw(name, {}))
            values = turned_labels(decoded, Window(window.dimension, self._shifts(window))).astype("float64")
            values = values.reshape(
                [size for size, each in zip(values.shape, opened.dimensions(name), strict=True) if each not in self._dropped]
            )
            for packing in ("scale_factor", "add_offset", "_FillValue", "missing_value"):
                attributes.pop(packing, None)
        dtype = opened.dtype(name) if values is None else values.dtype
        text = dtype.kind not in "iufb"
        if dtype.kind == "b":
            attributes["dtype"] = "bool"  # as xarray writes it, and reads it back
        dtype = _WIDER.get(dtype.str[1:], dtype)
        fill = attributes.pop("_FillValue", None)
        if self._hides(name) and fill is None and not text:
            fill = netCDF4.default_fillvals[dtype.str[1:]]
        fill_value = {} if text or fill is None else {"fill_value": np.asarray(fill, dtype=dtype).reshape(-1)[0]}
        # Uncompressed, so that the size is known before and sending begins at once.
        variable = self._file.createVariable(
            name, str if text else dtype, dimensions, contiguous=not text and bool(dimensions), **fill_value
        )
        variable.set_auto_maskandscale(False)
        variable.set_auto_chartostring(False)
        if name in self._fields:
            attributes = self._with_scalars(name, attributes)
        variable.setncatts(
            {
                key: _attribute(value, dtype if key in _OF_VALUES and not text else None)
                for key, value in attributes.items()
                if value is not None
            }
        )
        if values is not None:
            variable[...] = values
            return
        for place, strip in self._strips(name, fill_value.get("fill_value")):
            variable[place] = np.asarray(strip, dtype=object) if text else strip

    def _with_scalars(self, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes with the sliced axes of a field among its ``coordinates``: they have become scalars."""
        sliced = [
            axis.name for axis in self._description.axes if axis.dimension in self._dropped & set(self._opened.dimensions(name))
        ]
        words = str(attributes.get("coordinates", "")).split()
        added = [each for each in sliced if each not in words and each in self._names]
        return attributes | ({"coordinates": " ".join([*words, *added])} if added else {})

    def _hides(self, name: str) -> bool:
        return name in self._fields and self._mask is not None and set(self._mask[0]) <= set(self._opened.dimensions(name))

    def _strips(self, name: str, fill: Any) -> Iterator[tuple[Any, Array]]:
        """Yield the values in strips along the first dimension, each with its place in the file."""
        opened = self._opened
        dimensions, shape = opened.dimensions(name), opened.shape(name)
        windows = [self._windows.get(each, Window(each, (Run(0, size),))) for each, size in zip(dimensions, shape, strict=True)]
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
            values = opened.raw(name, {**along, first.dimension: part})
            if self._hides(name):
                values = self._hidden(values, dimensions, start, fill)
            sliced = tuple(0 if each in self._dropped else slice(None) for each in dimensions)
            place = () if dimensions[0] in self._dropped else (slice(start, start + part.size),)
            rest = tuple(slice(None) for each in dimensions[1:] if each not in self._dropped)
            yield (*place, *rest) or ..., values[sliced]

    def _hidden(self, values: Array, dimensions: tuple[str, ...], start: int, fill: Any) -> Array:
        """Return the values with those outside the box missing."""
        assert self._mask is not None  # the caller has asked
        (first, second), inside = self._mask
        if dimensions[0] == first:
            inside = inside[start : start + values.shape[0]]
        shape = [size if each in (first, second) else 1 for size, each in zip(values.shape, dimensions, strict=True)]
        if dimensions.index(first) > dimensions.index(second):
            inside = inside.T
        return np.where(inside.reshape(shape), values, np.asarray(fill, dtype=values.dtype))


def _part(runs: tuple[Run, ...], start: int, stop: int) -> tuple[Run, ...]:
    """Return the runs between two places of the answer."""
    kept, at = [], 0
    for run in runs:
        low, high = max(start - at, 0), min(stop - at, run.stop - run.start)
        if low < high:
            kept.append(Run(run.start + low, run.start + high, run.shift))
        at += run.stop - run.start
    return tuple(kept)


def _mask(told: Mapping[str, Any] | None) -> tuple[tuple[str, str], Array] | None:
    if told is None:
        return None
    bits = np.unpackbits(np.frombuffer(base64.b64decode(told["bits"]), dtype="uint8"))
    shape = tuple(told["shape"])
    first, second = told["dimensions"]
    return (first, second), bits[: math.prod(shape)].astype(bool).reshape(shape)


def _attribute(value: Any, dtype: Any = None) -> Any:
    """Return an attribute as netCDF4 takes it; numbers about values get the type of the values."""
    if isinstance(value, bool):
        return np.int8(value)
    if isinstance(value, int) and dtype is None:
        return np.int32(value) if -(2**31) <= value < 2**31 else np.int64(value)
    if dtype is not None and not isinstance(value, str):
        return np.asarray(value).astype(dtype)
    if isinstance(value, list) and value and all(isinstance(each, int) and -(2**31) <= each < 2**31 for each in value):
        return np.asarray(value, dtype="int32")
    if isinstance(value, dict):
        return json.dumps(value)
    return value
