"""The steps of ``transforms`` on a raw dataset. They change values lazily, and update ``units``.

Results are floating-point numbers in the precision of the source (at least ``float32``), with missing values as NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.cubes import units
from cubeport.cubes.normalise import Unfit, need, unpacked
from cubeport.cubes.raw import Values, computed, dataset, variables
from cubeport.cubes.steps import Deaccumulate, Mask, PluginTransform, Scale, TransformStep, parsed
from cubeport.errors import CubeportError, InvalidRequest, PluginFailed

_RANGES = ("valid_min", "valid_max", "valid_range", "actual_range")


type ValuesFunction = Callable[..., Values]
"""``f(values, *, parameter=…)`` of a plugin: returns new values of floating-point *values*, of which the missing are NaN."""


def transform(
    raw: xr.Dataset, steps: Sequence[Mapping[str, Any]], functions: Mapping[str, ValuesFunction] | None = None
) -> xr.Dataset:
    """Apply *steps* to *raw* in order and return the result. *functions* are those of plugins, by name.

    Raises
    ------
    InvalidRequest
        If a step does not fit the source. The message names the step and what the source contains.
    """
    for number, (name, value) in enumerate(parsed(TransformStep, list(steps)), 1):
        try:
            raw = _plugin(raw, value, functions or {}) if name == "plugin" else _STEPS[name](raw, value)
        except Unfit as error:
            raise InvalidRequest(f"transforms, step {number} ({name}): {error}", next_step=error.next_step) from None
    return raw


def unknown_starts(steps: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the variable and the dimension of each ``deaccumulate`` that does not say what the first step of a source is."""
    found = [value for name, value in parsed(TransformStep, list(steps)) if name == "deaccumulate"]
    return [(name, rule.dimension) for each in found for name, rule in each.items() if rule.first is None]


def _numbers(raw: xr.Dataset, name: str) -> xr.Variable:
    need(raw, [name])
    variable = raw.variables[name]
    if variable.dtype.kind not in "iuf":
        raise Unfit(f"{name!r} does not contain numbers")
    if variable.dims == (name,):
        raise Unfit(
            f"{name!r} is a coordinate, and cubeport does not change labels", "use normalise: set_attributes or coordinate_units"
        )
    return unpacked(name, variable)


def _linear(variable: xr.Variable, factor: float, offset: float, unit: str | None) -> xr.Variable:
    attributes = {key: value for key, value in variable.attrs.items() if key not in _RANGES}
    if unit is not None:
        attributes["units"] = unit
    kind = variable.dtype

    def changed(values: Values) -> Values:
        return values.astype("float64") * factor + offset

    return computed(variable, changed, kind, attributes)


def _replaced(raw: xr.Dataset, changed: Mapping[str, xr.Variable]) -> xr.Dataset:
    return dataset({**variables(raw), **changed}, raw.attrs)


def _convert(raw: xr.Dataset, wanted: Mapping[str, str]) -> xr.Dataset:
    changed = {}
    for name, unit in wanted.items():
        variable = _numbers(raw, name)
        given = variable.attrs.get("units")
        if given is None:
            raise Unfit(f"{name!r} has no units", "set them first with set_attributes of normalise, or use scale")
        found = units.conversion(str(given), unit)
        if found is None:
            known = units.siblings(str(given))
            raise Unfit(
                f"{name!r} is in {str(given)[:40]!r}, which cannot be converted to {unit[:40]!r}",
                f"convert it to {', '.join(known)}, or use scale" if known else "use scale, with factor, offset and units",
            )
        changed[name] = _linear(variable, *found, unit)
    return _replaced(raw, changed)


def _to(unit: str, *, given: str) -> Callable[[xr.Dataset, Sequence[str]], xr.Dataset]:
    def step(raw: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
        need(raw, names)
        for name in names:
            found = str(raw.variables[name].attrs.get("units", ""))
            if units.canonical(found) != given:
                raise Unfit(f"{name!r} is in {found[:40]!r} and not in {given}", f"use convert_units: {{{name}: {unit}}}")
        return _convert(raw, dict.fromkeys(names, unit))

    return step


def _scale(raw: xr.Dataset, wanted: Mapping[str, Scale]) -> xr.Dataset:
    changed = {name: _linear(_numbers(raw, name), each.factor, each.offset, each.units) for name, each in wanted.items()}
    return _replaced(raw, changed)


def _mask(raw: xr.Dataset, wanted: Mapping[str, Mask]) -> xr.Dataset:
    changed = {}
    for name, rule in wanted.items():
        variable = _numbers(raw, name)

        def masked(values: Values, rule: Mask = rule) -> Values:
            wrong = np.isin(values, np.asarray(rule.equal, values.dtype)) if rule.equal else np.zeros(values.shape, bool)
            with np.errstate(invalid="ignore"):
                if rule.below is not None:
                    wrong |= values < rule.below
                if rule.above is not None:
                    wrong |= values > rule.above
            return np.where(wrong, np.nan, values)

        changed[name] = computed(variable, masked, variable.dtype, variable.attrs)
    return _replaced(raw, changed)


def _deaccumulate(raw: xr.Dataset, wanted: Mapping[str, Deaccumulate]) -> xr.Dataset:
    changed = {}
    for name, rule in wanted.items():
        variable = _numbers(raw, name)
        if rule.dimension not in variable.dims:
            raise Unfit(f"{name!r} has no dimension {rule.dimension!r}", f"choose from {', '.join(map(str, variable.dims))}")
        axis = variable.dims.index(rule.dimension)
        lazily = indexing.LazilyIndexedArray(_Differences(variable, axis, restarts=rule.restarts))
        attributes = {key: value for key, value in variable.attrs.items() if key not in _RANGES}
        changed[name] = xr.Variable(variable.dims, lazily, attributes, variable.encoding)
    return _replaced(raw, changed)


def _plugin(raw: xr.Dataset, wanted: PluginTransform, functions: Mapping[str, ValuesFunction]) -> xr.Dataset:
    function = functions[wanted.name]
    step = "tell the author of the plugin"

    def changed(values: Values) -> Values:
        try:
            found = np.asarray(function(values.copy(), **wanted.params))
        except CubeportError:
            raise
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise PluginFailed(f"The transform {wanted.name!r} failed: {words}", next_step=step) from error
        if found.shape != values.shape or found.dtype.kind not in "iuf":
            words = f"{found.dtype} of the shape {found.shape} for values of the shape {values.shape}"
            raise PluginFailed(f"The transform {wanted.name!r} returned {words}.", next_step=step)
        return found

    done = {}
    for name in wanted.variables:
        variable = _numbers(raw, name)
        attributes = {key: value for key, value in variable.attrs.items() if key not in _RANGES}
        if wanted.units is not None:
            attributes["units"] = wanted.units
        done[name] = computed(variable, changed, variable.dtype, attributes)
    return _replaced(raw, done)


class _Differences(BackendArray):
    """The difference of each step and the one before. The first step, and a step that restarts, are unchanged."""

    def __init__(self, variable: xr.Variable, axis: int, *, restarts: bool) -> None:
        self._variable, self._axis, self._restarts = variable, axis, restarts
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        along = key[self._axis]
        start, stop, step = (along, along + 1, 1) if not isinstance(along, slice) else along.indices(self.shape[self._axis])
        before = max(start - 1, 0)
        wide = (*key[: self._axis], slice(before, stop), *key[self._axis + 1 :])
        axis = sum(isinstance(each, slice) for each in key[: self._axis])
        values = np.asarray(self._variable[wide].values).astype("float64")
        found = np.diff(values, axis=axis)
        later = values[(slice(None),) * axis + (slice(1, None),)]
        if self._restarts:
            with np.errstate(invalid="ignore"):
                found = np.where(found < 0, later, found)
        if start == 0:
            found = np.concatenate([values[(slice(None),) * axis + (slice(0, 1),)], found], axis=axis)
        found = found[(slice(None),) * axis + (slice(None, None, step),)]
        result = found if isinstance(along, slice) else found[(slice(None),) * axis + (0,)]
        return result.astype(self.dtype)


_STEPS: Mapping[str, Callable[[xr.Dataset, Any], xr.Dataset]] = {
    "kelvin_to_celsius": _to("degC", given="K"),
    "celsius_to_kelvin": _to("K", given="degC"),
    "metres_to_mm": _to("mm", given="m"),
    "scale": _scale,
    "convert_units": _convert,
    "mask": _mask,
    "deaccumulate": _deaccumulate,
}
