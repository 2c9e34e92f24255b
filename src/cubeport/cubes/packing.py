"""How the numbers of a variable are packed, and what its valid range means for the numbers that readers see."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import xarray as xr

VALID = ("valid_min", "valid_max", "valid_range")
MISSING = ("_FillValue", "missing_value")
"""The attributes that name missing values."""


class Packing(NamedTuple):
    """``decoded = stored * scale + offset``."""

    is_whole: bool
    """Whether integers are stored."""
    modulus: float
    """What makes a negative number of an attribute unsigned, as ``_Unsigned`` demands; 0 for signed values."""
    scale: float
    offset: float

    @classmethod
    def of(cls, variable: xr.Variable) -> Packing:
        """Return the packing of an undecoded variable."""
        is_whole = variable.dtype.kind in "iu"
        is_unsigned = variable.dtype.kind == "u" or (is_whole and str(variable.attrs.get("_Unsigned", "")).lower() == "true")
        scale, offset = number(variable.attrs.get("scale_factor")), number(variable.attrs.get("add_offset"))
        modulus = 2.0 ** (8 * variable.dtype.itemsize) if is_unsigned else 0.0
        return cls(is_whole, modulus, scale or 1.0, offset or 0.0)

    def packed(self, value: float) -> float:
        """Return a decoded value as it is stored."""
        stored = (value - self.offset) / self.scale if (self.scale, self.offset) != (1.0, 0.0) else value
        return round(stored) if self.is_whole else stored

    def decoded(self, given: Any) -> float | None:
        """Return a number of an attribute as it limits decoded values.

        It is packed as the values are, unless its type shows that it is not (NetCDF Users Guide, ``valid_range``).
        """
        import numpy as np

        found = number(given)
        is_decoded = self.is_whole and np.asarray(given).dtype.kind == "f"
        if found is None or is_decoded:
            return found
        return (found + (self.modulus if found < 0 else 0.0)) * self.scale + self.offset


def valid_range(variable: xr.Variable) -> tuple[float, float]:
    """Return the ends of the valid range of decoded values; infinite where an undecoded variable has none."""
    import numpy as np

    attributes, packing = variable.attrs, Packing.of(variable)
    pair = np.atleast_1d(attributes.get("valid_range", ()))  # of a Zarr store it is a list
    given = pair if pair.size == 2 else (attributes.get("valid_min"), attributes.get("valid_max"))
    ends = zip(map(packing.decoded, given), (-math.inf, math.inf), strict=True)
    lowest, highest = (default if end is None else end for end, default in ends)
    return min(lowest, highest), max(lowest, highest)


def number(given: Any) -> float | None:
    """Return the finite number that an attribute is or writes; ``None`` if it is none."""
    try:
        found = float(given)  # of an array too, if it has one element
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


_AT_ONCE = 4 * 2**20
"""How many values are looked at together."""


def missing_number(variable: xr.Variable) -> Any | None:
    """Return the number that stands for a missing value: the fill value, NaN, or one that no value has; ``None`` if all are used.

    Only whole numbers without a fill value are read, and these piece by piece.
    """
    import numpy as np

    for key in MISSING:
        if key in variable.attrs:
            return np.asarray(variable.attrs[key], variable.dtype).ravel()[0]
    if variable.dtype.kind == "f":
        return variable.dtype.type(np.nan)
    limits = np.iinfo(variable.dtype)
    free = {limits.min, limits.max}
    rows = max(1, _AT_ONCE // max(1, variable.size // max(1, variable.shape[0]))) if variable.ndim else 1
    for first in range(0, variable.shape[0] if variable.ndim else 0, rows):
        values = np.asarray(variable[first : first + rows].values)
        free -= {each for each in free if (values == each).any()}
    return variable.dtype.type(min(free)) if free else None


def missing_numbers(attributes: Mapping[Any, Any], dtype: np.dtype[Any]) -> frozenset[Any]:
    """Return the stored values that are missing, named by ``_FillValue``, ``missing_value`` or both (CF 2.5.1).

    Floats are in the precision of *dtype*, where NaN is always missing, so it is not among them. A ``_FillValue`` of signed numbers
    may be given as an unsigned one (``_Unsigned``).
    """
    import numpy as np

    found: set[Any] = set()
    for key in MISSING:
        values = np.ravel(attributes.get(key, ()))
        if dtype.kind == "f" and values.dtype.kind in "iuf":
            with np.errstate(over="ignore"):  # no value equals what is too large for the type
                values = values.astype(dtype)
        numbers = values.tolist()
        if dtype.kind == "i" and key == "_FillValue":
            all_of = 2 ** (8 * dtype.itemsize)
            numbers = [each - all_of if isinstance(each, int) and all_of // 2 <= each < all_of else each for each in numbers]
        found.update(each for each in numbers if each == each)
    return frozenset(found)


def says_nothing(key: str, value: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether a packing attribute of floats changes nothing that readers see, as a factor of 1."""
    import numpy as np

    neutral = {"scale_factor": 1.0, "add_offset": 0.0}.get(key)
    given = np.asarray(value)
    if dtype.kind != "f" or neutral is None or given.dtype.kind not in "iuf" or given.size != 1:
        return False
    return float(given.item()) == neutral
