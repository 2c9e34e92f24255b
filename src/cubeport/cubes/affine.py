"""Axes that are not written as labels but as an affine transform from columns and rows to x and y.

Three attributes say it: ``GeoTransform`` of a grid mapping, six numbers as GDAL orders them (GDAL's netCDF driver, rioxarray);
``spatial:transform`` of a variable or of its group (the Zarr convention *spatial*, of GeoZarr); and ``transform`` of a variable
(older xarray and rasterio). The last two are ordered as in the package affine: ``x = a·column + b·row + c``, then d, e
and f for y.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from cubeport.cubes import crs
from cubeport.cubes.raw import dataset, variables
from cubeport.cubes.variables import text_dims

_MAPPING = "spatial_ref"


class NoTransform(Exception):
    """There is no transform, or none that gives axes."""


class Transform(NamedTuple):
    """The labels of two axes: those of the centres of cells."""

    dims: tuple[str, str]
    """The dimensions of y and x."""
    x: tuple[float, float]
    """The label of the first column, and the step from one to the next, in the units of the reference system."""
    y: tuple[float, float]
    """The same of the rows."""


def transforms_of(raw: xr.Dataset) -> Mapping[str, Transform]:
    """Return the transform of each field that has one and no labels along both dimensions. Raises NoTransform for a turned one."""
    found = {}
    for name, variable in variables(raw).items():
        said = _said(raw, variable)
        dims = _dims(raw, variable)
        if said is not None and dims is not None and not any(dim in raw.variables for dim in dims):
            found[name] = _transform(said, dims, _is_node(raw, variable), name)
    return found


def with_axes(raw: xr.Dataset, given: Sequence[float] | None = None) -> xr.Dataset:
    """Return *raw* with the labels of x and y that the transforms of its fields give, and the reference system said with them.

    Parameters
    ----------
    given
        The transform as GDAL orders it, (x of the first edge, step of x, 0, y of the first edge, 0, step of y), instead of what the
        fields say.

    Raises
    ------
    NoTransform
        If no field without labels has a transform, it is turned, or two fields with the same dimensions have different ones.
    """
    if given is not None:
        bare = {
            name: dims for name, each in variables(raw).items() if (dims := _dims(raw, each)) and not set(dims) & set(raw.variables)
        }
        found = {name: _transform(_gdal(given), dims, False, name) for name, dims in bare.items()}
    else:
        found = dict(transforms_of(raw))
    if not found:
        raise NoTransform("no field without labels of x and y has a transform (GeoTransform, spatial:transform or transform)")
    labels: dict[str, tuple[Literal["x", "y"], tuple[float, float], str]] = {}
    for name, each in found.items():
        lines: tuple[tuple[Literal["x", "y"], tuple[float, float]], ...] = (("y", each.y), ("x", each.x))
        for dim, (axis, line) in zip(each.dims, lines, strict=True):
            if labels.setdefault(dim, (axis, line, name))[:2] != (axis, line):
                raise NoTransform(f"{labels[dim][2]!r} and {name!r} have different transforms along {dim!r}")
    held = variables(raw)
    systems: dict[str, Mapping[str, Any]] = {}
    for name in found:
        if (mapping := _mapping(raw, raw.variables[name])) is not None:
            systems[name] = mapping
        elif (attributes := _declared(raw, held[name])) is not None:
            made = _free(held, attributes)
            held[made] = xr.Variable((), np.int32(0), dict(attributes))
            held[name] = held[name].copy(deep=False)
            held[name].attrs = {**held[name].attrs, "grid_mapping": made}
            systems[name] = attributes
    for dim, (axis, (first, step), name) in labels.items():
        values = first + step * np.arange(raw.sizes[dim])
        system = crs.from_attributes(systems[name]) if name in systems else None
        said = {} if system is None else crs.of_labels(system, axis)
        held[dim] = xr.Variable((dim,), values, {"axis": axis.upper(), **said})
    return dataset(held, raw.attrs)


def _said(raw: xr.Dataset, variable: xr.Variable) -> tuple[float, ...] | None:
    """Return the six numbers in the order of the package affine."""
    mapping = _mapping(raw, variable)
    if mapping is not None and (numbers := _numbers(mapping.get("GeoTransform"))) is not None:
        return _gdal(numbers)
    for attributes in (variable.attrs, raw.attrs):
        for key in ("spatial:transform", "transform"):
            if (numbers := _numbers(attributes.get(key))) is not None:
                return numbers
    return None


def _mapping(raw: xr.Dataset, variable: xr.Variable) -> Mapping[str, Any] | None:
    """Return the attributes of the grid mapping that a field names, or of the only one that says a transform."""
    for word in re.findall(r"[^\s:]+", str(variable.attrs.get("grid_mapping", ""))):
        if word in raw.variables:
            return raw.variables[word].attrs
    alone = [each.attrs for each in raw.variables.values() if "GeoTransform" in each.attrs and each.ndim == 0]
    return alone[0] if len(alone) == 1 else None


def _gdal(numbers: Sequence[float]) -> tuple[float, ...]:
    x, dx, turn_x, y, turn_y, dy = numbers
    return dx, turn_x, x, turn_y, dy, y


def _numbers(value: Any) -> tuple[float, ...] | None:
    """Return the first six numbers of an attribute: a list, or a text with blanks or commas. Of nine, the last are 0, 0, 1."""
    if value is None:
        return None
    try:
        words = re.split(r"[\s,]+", value.strip(" ()[]")) if isinstance(value, str) else np.ravel(value).tolist()
        numbers = tuple(float(each) for each in words)
    except (TypeError, ValueError):
        return None
    if len(numbers) not in (6, 9) or not np.isfinite(numbers).all():
        return None
    return numbers[:6]


def _dims(raw: xr.Dataset, variable: xr.Variable) -> tuple[str, str] | None:
    said = variable.attrs.get("spatial:dimensions", raw.attrs.get("spatial:dimensions"))
    dims = text_dims(variable)
    if isinstance(said, list | tuple | np.ndarray) and len(said) == 2 and set(map(str, said)) <= set(dims):
        return str(said[0]), str(said[1])
    return (dims[-2], dims[-1]) if len(dims) >= 2 else None


def _is_node(raw: xr.Dataset, variable: xr.Variable) -> bool:
    return variable.attrs.get("spatial:registration", raw.attrs.get("spatial:registration")) == "node"


def _transform(numbers: Sequence[float], dims: tuple[str, str], is_node: bool, name: str) -> Transform:
    a, b, c, d, e, f = numbers
    if b or d:
        raise NoTransform(f"the transform of {name!r} is turned, so x and y are no axes")
    if not (a and e):
        raise NoTransform(f"the transform of {name!r} has a step of 0")
    half = 0.0 if is_node else 0.5
    return Transform(dims, (c + a * half, a), (f + e * half, e))


def _declared(raw: xr.Dataset, variable: xr.Variable) -> Mapping[str, Any] | None:
    """Return the grid mapping of the reference system that is declared with the transform by the Zarr convention *proj*."""
    found = (crs.declared(attributes) for attributes in (variable.attrs, raw.attrs))
    return next((dict(each.to_cf()) for each in found if each is not None), None)


def _free(held: Mapping[str, xr.Variable], attributes: Mapping[str, Any]) -> str:
    """Return a name for the grid mapping: that of an equal one that was made before, or a free one."""
    names = (_MAPPING, *(f"{_MAPPING}_{number}" for number in range(2, len(held) + 3)))
    return next(name for name in names if name not in held or dict(held[name].attrs) == dict(attributes))
