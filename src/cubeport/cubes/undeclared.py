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
        stored = next((each for each, end in ends.items() if meant in (each, end)), None)
        if stored is not None:
            words = f"{name!r} has values of {ends[stored]:.7g}, which its attribute {key!r} names"
            repair = f"--normalise 'set_attributes: {{{name}: {{missing_value: {stored:.9g}}}}}'"
            yield (
                "undeclared-missing",
                f"{words}; CF does not read it, so they are values here. To make them missing, repeat with {repair}",
            )
    lowest, highest = valid_range(variable)
    limits = {"below": lowest - _SLACK * abs(lowest), "above": highest + _SLACK * abs(highest)}
    outside = [end for end in ends.values() if not limits["below"] <= end <= limits["above"]]
    if outside:
        reached = " and ".join(f"{end:.7g}" for end in outside)
        words = f"{name!r} reaches {reached}, outside its valid range from {lowest:.7g} to {highest:.7g}"
        rules = ", ".join(f"{key}: {limit:.9g}" for key, limit in limits.items() if math.isfinite(limit))
        said = f"{words}; some programs take such values for missing, xarray and this service do not"
        yield "outside-valid-range", f"{said}. To make them missing, repeat with --transform 'mask: {{{name}: {{{rules}}}}}'"
