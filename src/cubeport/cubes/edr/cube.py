"""EDR cube: the cells that intersect a box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.query import EdrQuery, Place
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Selection
from cubeport.cubes.windows import Labels, Windows


def _resolve(description: CubeDescription, labels: Labels, selection: Selection, _: Place) -> Windows:
    return resolve(description, labels, selection)


def _height_units(description: CubeDescription) -> Mapping[str, Any]:
    z = description.axis_of("z")
    return {"height_units": [z.units] if z is not None and z.units else []}


QUERY = EdrQuery(
    name="cube",
    text="Values of the cells that meet a box",
    bbox=True,
    resolve=_resolve,
    link_variables=_height_units,
)
