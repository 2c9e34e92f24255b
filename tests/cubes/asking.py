"""A version in memory: a source, what it is found to be, and what queries take of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cubeport.cubes.cells import exact, in_degrees
from cubeport.cubes.decoding import decoded
from cubeport.cubes.describe import describe
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.queries import parse_query, resolve_query, settle
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import order, parse
from cubeport.cubes.times import calendar_of, decode
from cubeport.cubes.windows import Labels, Windows

FORMS = ("json", "netcdf", "csv")


class Version:
    """An undecoded dataset, asked as a stored version is asked."""

    def __init__(self, raw: xr.Dataset, *, fields: list[str] | None = None) -> None:
        self.raw = raw
        self.description = describe(raw, fields=fields)
        self.labels = labels_of(raw, self.description)

    def coverage(self, **query: str) -> Windows:
        """Resolve parameters of a coverage."""
        pairs = [(name.replace("_", "-"), text) for name, text in query.items()]
        return resolve(self.description, self.labels, parse(pairs, forms=FORMS))

    def edr(self, kind: Any, **query: str) -> Windows:
        """Resolve an EDR query; underscores in names stay."""
        place, selection = parse_query(kind, list(query.items()), forms=FORMS)
        windows = resolve_query(self.description, self.labels, selection, place)
        return settle(self.description, self.labels, windows, selection, place, lambda: None)

    def values(self, windows: Windows, field: str | None = None) -> list[float]:
        """Return the values of a field in the windows, those outside the mask left out, sorted."""
        name = field or windows.fields[0]
        variable = self.raw.variables[name]
        dims = [str(each) for each in variable.dims]
        taken = np.asarray(decoded(variable))[np.ix_(*(windows.along[each].indices() for each in dims))]
        if windows.mask is not None:
            order_ = [dims.index(each) for each in windows.mask.dimensions]
            shape = [n if at in order_ else 1 for at, n in enumerate(taken.shape)]
            inside = np.broadcast_to(windows.mask.inside.transpose(np.argsort(order_)).reshape(shape), taken.shape)
            taken = taken[inside]
        return sorted(float(each) for each in taken.ravel())


def labels_of(raw: xr.Dataset, description: CubeDescription) -> Labels:
    """Return the labels as an opened version has them."""
    spatial, temporal = description.spatial, description.temporal
    values: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    for axis in description.axes:
        if axis.name not in raw.variables:
            continue
        variable = raw.variables[axis.name]
        is_time = temporal is not None and axis.name == temporal.axis
        values[axis.name] = np.atleast_1d(orders(variable) if is_time else decoded(variable))
        if axis.bounds is not None and axis.bounds != variable.attrs.get("climatology"):
            edges = raw.variables[axis.bounds]
            bounds[axis.name] = (orders(edges, variable.attrs) if is_time else np.asarray(decoded(edges))).reshape(-1, 2)
    for name in (spatial.x, spatial.y):
        if name is not None and name not in values:
            values[name] = decoded(raw.variables[name])
    if spatial.family != "projected" and spatial.to_crs != 1:
        for name in (spatial.x, spatial.y):
            for each in (values, bounds):
                if name in each:
                    each[str(name)] = in_degrees(exact(each[str(name)]), spatial.to_crs)
    return Labels(values, bounds)


def orders(variable: Any, of: Any = None) -> Any:
    """Return times as the numbers that their calendar fields order by."""
    attributes = {**(of or {}), **variable.attrs}
    stamps = decode(decoded(variable), attributes["units"], calendar_of(attributes, name="time"), name="time")
    return np.array([order(stamp) for stamp in stamps], dtype="int64").reshape(variable.shape)
