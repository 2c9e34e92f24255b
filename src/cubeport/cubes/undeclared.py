"""Values that a source probably means to be missing, though no reader treats them so.

They are published as they are, as xarray reads them, and the version says it: a mean with -9999 in it looks like a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cubeport.cubes.packing import Packing, number, valid_range
from cubeport.cubes.spread import Spread

if TYPE_CHECKING:
    import xarray as xr

_MEANT = frozenset({"fillvalue", "missingvalue", "missingvalues", "missing", "missingdata", "nodata", "nodatavalue", "undef"})
"""Attributes that mean ``missing_value``, in small letters and without marks. CF has only ``_FillValue`` and ``missing_value``."""
_UNWRITTEN = {
    **dict.fromkeys(("f4", "f8"), 9.969209968386869e36),
    **{f"i{size}": -(2.0 ** (8 * size - 1)) + 1 for size in (2, 4)},
    **{f"u{size}": 2.0 ** (8 * size) - 1 for size in (2, 4)},
}
"""What NetCDF writes where nothing was written, by type, if no ``_FillValue`` is declared. Its libraries read that as missing."""
_SLACK = 1e-5
"""How far a value may be outside a valid range because of rounding, as a share of the range's ends."""


def undeclared(name: str, variable: xr.Variable, spread: Spread) -> Iterator[tuple[str, str]]:
    """Yield a kind and a warning for each reason to doubt the least or the greatest value of an undecoded variable.

    Only these two are compared, as numbers for missing values are far from the others, so that no value is read again.
    """
    if spread.least is None or spread.greatest is None:
        return
    packing = Packing.of(variable)
    ends = {packing.packed(end): end for end in (spread.least, spread.greatest)}
    for key, given in variable.attrs.items():
        is_read = key in ("_FillValue", "missing_value") and not isinstance(given, str)
        if is_read or re.sub("[^a-z]", "", str(key).lower()) not in _MEANT:
            continue
        meant = number(given)
        if meant is None:
            continue
        stored = next((each for each, end in ends.items() if _is_close(meant, each) or _is_close(meant, end)), None)
        if stored is not None:
            words = f"{name!r} has values of {ends[stored]:.7g}, which its attribute {key!r} names; CF does not read it"
            yield _undeclared(name, stored, words)
    unwritten = _UNWRITTEN.get(variable.dtype.str[1:], math.nan)
    stored = next((each for each in ends if _is_close(unwritten, each)), None)
    if stored is not None and "_FillValue" not in variable.attrs:
        words = f"{name!r} has values of {ends[stored]:.7g}, which NetCDF libraries read as missing where nothing is declared"
        yield _undeclared(name, unwritten, words)
    lowest, highest = valid_range(variable)
    limits = {"below": lowest - _SLACK * abs(lowest), "above": highest + _SLACK * abs(highest)}
    outside = [end for end in ends.values() if not limits["below"] <= end <= limits["above"]]
    if outside:
        reached = " and ".join(f"{end:.7g}" for end in outside)
        words = f"{name!r} reaches {reached}, outside its valid range from {lowest:.7g} to {highest:.7g}"
        rules = ", ".join(f"{key}: {limit:.9g}" for key, limit in limits.items() if math.isfinite(limit))
        said = f"{words}; some programs take such values for missing, xarray and this service do not"
        yield "outside-valid-range", f"{said}. To make them missing, repeat with --transform 'mask: {{{name}: {{{rules}}}}}'"


def _is_close(one: float, other: float) -> bool:
    """Return whether both are one number, of which one may have been rounded to single precision or seven digits."""
    return math.isclose(one, other, rel_tol=1e-6)


def _undeclared(name: str, stored: float, words: str) -> tuple[str, str]:
    repair = f"--normalise 'set_attributes: {{{name}: {{missing_value: {stored:.16g}}}}}'"
    return "undeclared-missing", f"{words}. They are values here. To make them missing, repeat with {repair}"
