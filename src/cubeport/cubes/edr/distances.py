"""Distances as EDR queries take them: a number, and its unit in a parameter of its own."""

from __future__ import annotations

from cubeport.cubes.selection import read_number

UNITS = {"m": 1.0, "km": 1000.0, "mi": 1609.344, "nmi": 1852.0}
"""Metres in each unit."""
_MOST_METRES = 20_100_000.0
"""More than the distance from any place to its antipode."""


def distance(text: str) -> str:
    """Return a distance in canonical form. Raises ValueError."""
    length = read_number(text)
    if not 0 < length <= _MOST_METRES:
        raise ValueError("must be a distance above 0, and at most halfway around the Earth")
    return repr(length)


def unit(text: str) -> str:
    """Return a unit of :data:`UNITS`. Raises ValueError."""
    if text not in UNITS:
        raise ValueError(f"must be one of {', '.join(UNITS)}")
    return text
