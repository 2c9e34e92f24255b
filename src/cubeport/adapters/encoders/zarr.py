"""Zarr v3 in one zip file: the part as a separate, consolidated store, with stored names, attributes and packing.

Members of the zip file are not compressed again, because chunks are already compressed.
"""

from __future__ import annotations

import json
import math
import zipfile
from typing import Any, BinaryIO

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from cubeport.adapters.engines import zarrv3
from cubeport.cubes.fills import number_type, unused
from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.keys import METADATA
from cubeport.cubes.part import Deadline, Part
from cubeport.cubes.windows import Window, turned_labels

type Array = NDArray[Any]

_FRAME_BYTES = 3_000
"""The approximate size of a variable in a store without its values, in bytes."""
_PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of all members, so that the same part gives the same bytes."""


class _Zarr(Encoder):
    def size(self, part: Part) -> int:
        opened = part.opened
        size = 0
        for name in _names(part):
            lengths = [
                part.windows.along[dimension].size if dimension in part.windows.along else length
                for dimension, length in zip(opened.dimensions(name), opened.shape(name), strict=True)
            ]
            dtype = opened.dtype(name)
            size += math.prod(lengths) * (dtype.itemsize if dtype.kind in "iufb" else 48) + _FRAME_BYTES
        return size

    def encode(self, part: Part, room: Room, deadline: Deadline) -> BinaryIO:
        target = room.open(self.size(part))
        try:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
                for key, content in sorted(_store(part, deadline).items()):
                    deadline()
                    archive.writestr(zipfile.ZipInfo(key, _EPOCH), content)
            return room.finished(target)
        except BaseException:
            target.close()
            raise


ENCODER = _Zarr()


def _names(part: Part) -> list[str]:
    return list(part.opened.names()) if part.everything else part.opened.needed(part.windows.fields)


def _store(part: Part, deadline: Deadline) -> dict[str, bytes]:
    """Return the objects of the store by key."""
    variables = {name: _variable(part, name, deadline) for name in _names(part)}
    data = xr.Dataset(attrs=dict(part.opened.global_attributes()))
    # Every variable is added unchanged. As coordinates they would become indexes and be decoded.
    data = data.assign({name: each for name, each in variables.items() if name not in each.dims})
    data = data.assign_coords(xr.Coordinates({name: each for name, each in variables.items() if name in each.dims}, indexes={}))
    held: dict[str, Any] = {}
    data.to_zarr(MemoryStore(held), zarr_format=3, consolidated=False)
    found = {key: bytes(buffer.to_bytes()) for key, buffer in held.items()}
    nodes = {name: json.loads(found[f"{name}/{METADATA}"]) for name in variables}
    root = zarrv3.group_document(json.loads(found[METADATA]).get("attributes", {}))
    return {**found, METADATA: zarrv3.to_bytes(zarrv3.consolidated(root, nodes))}


def _variable(part: Part, name: str, deadline: Deadline) -> xr.Variable:
    opened, along = part.opened, part.windows.along
    attributes = dict(opened.attributes(name))
    dimensions = opened.dimensions(name)
    turned = _turned(part, name)
    if turned is not None:
        values = turned_labels(opened.decode(name, opened.raw(name, {})), turned).astype("float64")
        return xr.Variable(dimensions, values, {key: each for key, each in attributes.items() if key not in _PACKING})
    mask = part.windows.mask if name in part.windows.fields else None
    values = opened.raw(name, along, deadline=deadline, mask=mask)
    if mask is not None and set(mask.dimensions) <= set(dimensions) and values.dtype.kind in "iufb":
        values = values.astype(number_type(values.dtype), copy=False)
        spare = np.nan if values.dtype.kind == "f" else unused(part.description.variable(name), values.dtype, attributes)
        fill = np.ravel(np.asarray(attributes.setdefault("_FillValue", spare)))[0]
        values = np.where(mask.aligned(dimensions), values, np.asarray(fill, values.dtype))
    chunks = [min(max(1, size), length) for size, length in zip(_chunks(part, name), np.shape(values), strict=True)]
    encoding = {"chunks": tuple(max(1, each) for each in chunks)} if dimensions else {}
    return xr.Variable(dimensions, values, attributes, encoding)


def _chunks(part: Part, name: str) -> tuple[int, ...]:
    known = next((each.chunks for each in part.description.variables if each.name == name), ())
    return known if len(known) == len(part.opened.dimensions(name)) else part.opened.shape(name)


def _turned(part: Part, name: str) -> Window | None:
    """Return the window that shifts the labels of a longitude or of its bounds; ``None`` if nothing is shifted."""
    for axis in part.description.axes:
        window = part.windows.along.get(axis.dimension)
        if axis.kind != "x" or axis.scalar or window is None or name not in (axis.name, axis.bounds):
            continue
        runs = part.runs(window)
        if any(run.shift for run in runs):
            return Window(window.dimension, runs)
    return None
