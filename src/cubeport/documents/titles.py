"""How a quantity is written where a person reads it: above a legend or a plot, beside a list of labels."""

from __future__ import annotations

import unicodedata
from itertools import accumulate


def titled(title: str, units: str | None, *, most: int | None = None) -> str:
    """Return a title with its unit: ``air temperature (K)``. A pure number, whose unit is ``1``, has its title alone.

    Parameters
    ----------
    most
        The largest number of letters. A longer title is cut, and its unit stays if it is short. East Asian letters, which are twice
        as wide as others, count twice.
    """
    unit = f" ({units})" if units and units.strip() != "1" else ""
    if most is None:
        return title + unit
    kept = unit if len(unit) <= most // 2 else ""
    widths = list(accumulate(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in title + unit))
    if not widths or widths[-1] <= most:
        return title + unit
    fits = sum(1 for each in widths[: len(title)] if each < most - len(kept))
    return f"{title[:fits].rstrip()}…{kept}"
