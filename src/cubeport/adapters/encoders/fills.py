"""The number that stands for the cells that an answer leaves out, in variables that have no fill value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cubeport.cubes.description import Variable

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
    limits = np.iinfo(dtype)
    beyond = (number for number in (usual, limits.min, limits.max) if not variable.valid_min <= number <= variable.valid_max)
    return next(beyond, usual)
