"""How a quantity is written where a person reads it: above a legend or a plot, beside a list of labels."""

from __future__ import annotations


def titled(title: str, units: str | None, *, most: int | None = None) -> str:
    """Return a title with its unit: ``air temperature (K)``. A pure number, whose unit is ``1``, has its title alone.

    Parameters
    ----------
    most
        The largest number of letters. A longer title is cut, and its unit stays if it is short.
    """
    unit = f" ({units})" if units and units.strip() != "1" else ""
    if most is None or len(title) + len(unit) <= most:
        return title + unit
    unit = unit if len(unit) <= most // 2 else ""
    return f"{title[: most - len(unit) - 1].rstrip()}…{unit}"
