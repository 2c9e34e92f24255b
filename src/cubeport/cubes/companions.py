"""Which variables go with others: all that locates their values, and all that explains them.

One rule for an ingestion of chosen variables and for an answer about some fields. It reads attributes and dimensions, no values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

REFERENCES = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms", "ancillary_variables")
"""CF attributes that name variables which a variable cannot be read without."""

_MESH = (
    "mesh",
    "node_coordinates",
    "face_coordinates",
    "edge_coordinates",
    "face_node_connectivity",
    "edge_node_connectivity",
)
"""The same of UGRID: a mesh, and what its topology names."""


def companions(
    wanted: Iterable[str],
    *,
    names: Sequence[str],
    attributes: Callable[[str], Mapping[Any, Any]],
    dimensions: Callable[[str], Sequence[str]],
    roles: Mapping[str, str],
    vertical: Iterable[str] = (),
) -> list[str]:
    """Return the wanted variables and those that go with them, in the order of *names*.

    These are what attributes name, the coordinates of all dimensions, positions, times and labels along them, scalar coordinates,
    and the coefficients of hybrid levels: variables along a vertical dimension alone, or called hybrid by their long name.

    Parameters
    ----------
    names
        All variables there are.
    roles
        What each is: ``data``, ``auxiliary``, ``coordinate``, ``bounds``, ``grid_mapping``.
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
            words = re.findall(r"[^\s:]+", " ".join(str(given.get(key, "")) for key in (*REFERENCES, *_MESH)))
            front += [each for each in (*words, *dimensions(name)) if each in names]
    return [name for name in names if name in kept]
