"""Which variables belong to others, because they locate or explain their values.

Ingestions of selected variables and answers about some fields use the same rule. It reads attributes and dimensions, never values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

REFERENCES = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms", "ancillary_variables")
"""The CF attributes that name the variables needed to read a variable."""


def of_topology(attributes: Mapping[Any, Any]) -> list[str]:
    """Return the names of the variables that a mesh topology needs: positions and connectivities (UGRID 1.0)."""
    needed = (value for key, value in attributes.items() if str(key).endswith(("_coordinates", "_connectivity")))
    return [word for words in needed if isinstance(words, str) for word in words.split()]


def companions(
    wanted: Iterable[str],
    *,
    names: Sequence[str],
    attributes: Callable[[str], Mapping[Any, Any]],
    dimensions: Callable[[str], Sequence[str]],
    roles: Mapping[str, str],
    vertical: Iterable[str] = (),
) -> list[str]:
    """Return the wanted variables and those that belong to them, in the order of *names*.

    These are: variables named by attributes; the coordinates of all dimensions; positions, times and labels along them; scalar
    coordinates; and the coefficients of hybrid levels, which are variables along a vertical dimension alone, or with "hybrid" in
    their long name.

    Parameters
    ----------
    names
        All variables of the dataset.
    roles
        The role of each: ``data``, ``auxiliary``, ``coordinate``, ``bounds``, ``grid_mapping``.
    vertical
        The dimensions of height, depth or pressure.
    """
    asked = list(wanted)
    within = {dimension for name in asked for dimension in dimensions(name)}
    high = within & set(vertical)

    def locates(name: str) -> bool:
        along = set(dimensions(name))
        if roles.get(name) in ("auxiliary", "coordinate"):
            return along <= within
        if roles.get(name) != "data" or len(along) != 1 or not high or any(len(dimensions(each)) == 1 for each in asked):
            return False
        return along <= high or "hybrid" in str(attributes(name).get("long_name", "")).lower()

    front = [*asked, *filter(locates, names)]
    kept: set[str] = set()
    while front:
        name = front.pop()
        if name not in kept:
            kept.add(name)
            given = attributes(name)
            words = re.findall(r"[^\s:]+", " ".join(str(given.get(key, "")) for key in (*REFERENCES, "mesh")))
            front += [each for each in (*words, *of_topology(given), *dimensions(name)) if each in names]
    return [name for name in names if name in kept]
