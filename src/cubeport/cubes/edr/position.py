"""EDR position: the cell that contains a point, or the cells of several points."""

from __future__ import annotations

from functools import partial

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr.cells import containing, containing_each, of_cell
from cubeport.cubes.edr.geometry import canonical, read
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.selection import Selection
from cubeport.cubes.tables.request import DEPARTURES, years_in
from cubeport.cubes.windows import Labels, Windows


def _resolve(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    if place.cell is not None:
        return of_cell(description, labels, selection, place.cell)
    geometry = read(place["coords"])
    if geometry.geom_type == "Point":
        return containing(description, labels, selection, (float(geometry.x), float(geometry.y)))
    return containing_each(description, labels, selection, [(float(each.x), float(each.y)) for each in geometry.geoms])


def _normal(text: str) -> str:
    return "/".join(f"{year:04d}" for year in years_in(text))


def _departure(text: str) -> str:
    if text not in DEPARTURES:
        raise ValueError(f"must be one of {', '.join(DEPARTURES)}")
    return text


QUERY = EdrQuery(
    name="position",
    text="Values of the cell that contains a point, or of each of several points",
    parameters=(
        Parameter("coords", "POINT(lon lat) or MULTIPOINT((lon lat), …); CRS84", partial(canonical, types=("Point", "MultiPoint"))),
        Parameter(
            "relative-to", "The years of a normal, such as 1991/2020: values are departures from it", _normal, required=False
        ),
        Parameter("departure", "absolute (default), percent or standard; with relative-to", _departure, required=False),
    ),
    resolve=_resolve,
    at_points=True,
)
