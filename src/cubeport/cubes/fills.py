"""The number that stands for the cells that an answer leaves out, in variables that have no fill value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import Variable

if TYPE_CHECKING:
    import numpy as np

_NETCDF: Mapping[str, float] = {
    "i1": -127, "u1": 255, "i2": -32767, "u2": 65535, "i4": -2147483647, "u4": 4294967295,
    "i8": -9223372036854775806, "u8": 18446744073709551614, "f4": 9.969209968386869e36, "f8": 9.969209968386869e36,
}  # fmt: skip
"""The default fill values of the NetCDF library (netcdf.h, ``NC_FILL_*``)."""
_PACKING = {"scale_factor", "add_offset", "_Unsigned"}


def unused(variable: Variable, dtype: np.dtype[Any], attributes: Mapping[str, Any]) -> float:
    """Return a number that no value has: that of the NetCDF library, or one beyond the range of the values.

    Of a byte, 255 and -127 are values as good as any other.
    """
    usual = _NETCDF[dtype.str[1:]]
    if dtype.kind == "f" or _PACKING & set(attributes) or variable.valid_min is None or variable.valid_max is None:
        return usual
    import numpy as np

    limits = np.iinfo(dtype)
    beyond = (number for number in (usual, limits.min, limits.max) if not variable.valid_min <= number <= variable.valid_max)
    return next(beyond, usual)


def number_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of numbers that can be missing: that of the store, but bytes for true and false."""
    import numpy as np

    return np.dtype("u1") if dtype.kind == "b" else dtype


def missing_in(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> Any:
    """Return the stored number that means a missing value, of a field with these attributes; NaN if none does."""
    import numpy as np

    for key in ("_FillValue", "missing_value"):
        if key in attributes:
            return np.asarray(np.ravel(np.asarray(attributes[key]))[0], dtype)
    return np.asarray(np.nan, dtype)
