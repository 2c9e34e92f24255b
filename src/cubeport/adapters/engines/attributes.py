"""Convert the attributes of a source to strict JSON, in the form from which xarray's Zarr v3 backend decodes the same values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from cubeport.adapters.engines.zarrv3 import float_to_text

type Warnings = list[tuple[str, str]]

_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def encode(attributes: Mapping[Any, Any], dtype: np.dtype[Any] | None, where: str, warnings: Warnings) -> dict[str, Any]:
    """Return *attributes* in order. Values that JSON cannot express are changed or omitted, with a warning in *warnings*.

    Parameters
    ----------
    dtype
        The dtype of the variable; ``None`` for the attributes of a group.
    where
        The name of the variable, or ``global``, for the warnings.
    """
    encoded: dict[str, Any] = {}
    for key, value in _with_fill(attributes, dtype, where, warnings).items():
        name = str(key)
        if name == "_FillValue" and dtype is not None:
            encoded[name] = fill_to_json(value, dtype)
            continue
        try:
            plain = _plain(value)
        except (TypeError, ValueError):
            warnings.append(("attribute-dropped", f"{where}: the attribute {name!r} is neither text nor numbers"))
            continue
        finite = _finite(plain)
        if finite != plain:
            warnings.append(("attribute-as-text", f"{where}: the attribute {name!r} is not finite; it is kept as text"))
        encoded[name] = finite
    return encoded


def fill_of(attributes: Mapping[Any, Any], dtype: np.dtype[Any]) -> Any:
    """Return the fill value of the array: ``_FillValue`` if the type can express it, otherwise NaN, 0 or an empty text.

    Chunks that contain only the fill value then need no bytes, and clients that do not know CF see which values are missing.
    """
    if dtype.kind == "T":
        return ""
    value = _fill(attributes.get("_FillValue"), dtype)
    if value is not None:
        return value
    return {"f": math.nan, "b": False}.get(dtype.kind, 0)


def fill_to_json(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return a ``_FillValue`` as xarray writes it: floats as base64 of a double, other types as plain values."""
    plain = _fill(value, dtype)
    return float_to_text(plain) if dtype.kind == "f" else plain


def _with_fill(attributes: Mapping[Any, Any], dtype: np.dtype[Any] | None, where: str, warnings: Warnings) -> dict[Any, Any]:
    """Return *attributes* without fill values that no value of the type can equal or that JSON cannot express."""
    held = dict(attributes)
    if dtype is None:
        return held
    if dtype.kind == "T":
        # xarray cannot decode a text _FillValue from Zarr v3, but missing_value has the same effect.
        return {"missing_value" if key == "_FillValue" else key: value for key, value in held.items()}
    missing = held.get("missing_value")
    if dtype.kind == "f" and np.asarray(missing).dtype.kind in "iuf":
        # In the precision of the values: the double 1e20 equals no float32, and JSON does not say which of both it was.
        with np.errstate(over="ignore"):  # no value equals what is too large for the type
            missing = held["missing_value"] = np.asarray(missing).astype(dtype)[()]
    if isinstance(missing, float | np.floating) and not math.isfinite(missing):
        del held["missing_value"]
        if "_FillValue" not in held and dtype.kind == "f":
            held["_FillValue"] = missing
        elif not math.isnan(missing):
            warnings.append(("attribute-dropped", f"{where}: missing_value {missing} differs from the _FillValue"))
    if "_FillValue" in held and _fill(held["_FillValue"], dtype) is None:
        warnings.append(("attribute-dropped", f"{where}: no value of type {dtype} can equal the attribute '_FillValue'"))
        del held["_FillValue"]
    return held


def _fill(value: Any, dtype: np.dtype[Any]) -> Any:
    """Return *value* as a plain number of the type, or ``None`` if the type does not have this number."""
    if value is None or np.size(value) != 1:
        return None
    single = np.ravel(value)[0]
    if dtype.kind == "f":
        return float(single) if np.asarray(single).dtype.kind in "iufb" else None
    if np.asarray(single).dtype.kind not in "iufb" or not math.isfinite(single) or int(single) != single:
        return None
    number = int(single)
    if dtype.kind == "b":
        return bool(number)
    limits = np.iinfo(dtype)
    if dtype.kind == "i" and limits.max < number <= np.iinfo(f"u{dtype.itemsize}").max:
        # ``_Unsigned`` variables give their fill value as an unsigned number.
        number -= 1 << (8 * dtype.itemsize)
    return number if limits.min <= number <= limits.max else None


def _plain(value: Any) -> Any:
    """Return text, a number, or lists of them. Raises TypeError or ValueError for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    match value:
        case bytes():
            return value.decode("utf-8")
        case str() | bool() | int() | None:
            return value
        case float() | np.floating():
            return float(value)
        case list() | tuple():
            return [_plain(each) for each in value]
    raise TypeError("not a value of JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _NAMES.get(value, "NaN")
    return value
