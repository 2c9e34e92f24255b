"""Queries of OGC API EDR: a place (point, polygon or box), compared with a cube like any other selection."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cubeport.cubes import boxes
from cubeport.cubes.area import anywhere, on_axes
from cubeport.cubes.cells import exact
from cubeport.cubes.description import Axis, CubeDescription
from cubeport.cubes.part import Patience
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Point, Selection, Slice, Subset, Trim, parse
from cubeport.cubes.windows import Labels, Mask, Run, Window, Windows, native_system, runs_of, turned_labels
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

type Kind = Literal["position", "area", "cube"]

KINDS: tuple[Kind, ...] = ("position", "area", "cube")
PARAMETERS = ("coords", "z", "datetime", "parameter-name", "crs", "f", "estimate")
"""Of position and area; a cube has ``bbox`` in place of ``coords``."""
_NAMES = {"properties": "parameter-name", "subset": "z"}
"""What EDR calls parameters of coverages."""
_MOST_VERTICES = 10_000
_MOST_LEVELS = 1_000
_MOST_POINTS = 500
_STRIP = 1 << 18
"""Cells whose positions are in memory at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where: what kind of query, and the geometry of ``coords`` in CRS84 (WKT), none for a cube."""

    kind: Kind
    coords: str | None = None


def parse_query(kind: Kind, pairs: Iterable[tuple[str, str]], *, forms: Sequence[str]) -> tuple[Place, Selection]:
    """Return the place and the rest of the selection. Raises InvalidRequest with every problem."""
    given = [("parameter-name" if name == "parameter_names" else name, value) for name, value in pairs]
    allowed = ("bbox", *PARAMETERS[1:]) if kind == "cube" else PARAMETERS
    problems = [
        Problem(("query", name[:60]), "unknown", f"{name[:60]} is not a parameter here") for name, _ in given if name not in allowed
    ]
    own = {name: value for name, value in given if name in ("coords", "z")}
    problems += [
        Problem(("query", name), "repeated", f"{name} may stand once") for name in own if sum(each == name for each, _ in given) > 1
    ]
    needed = "bbox" if kind == "cube" else "coords"
    if not any(name == needed for name, _ in given):
        problems.append(Problem(("query", needed), "missing", f"a {kind} query needs {needed}"))
    selection, coords, levels = Selection(), None, None
    rest = [
        ("properties" if name == "parameter-name" else name, value) for name, value in given if name in allowed and name not in own
    ]
    try:
        selection = parse(rest, forms=forms, allowed=("bbox", "datetime", "properties", "crs", "f", "estimate"))
    except InvalidRequest as refused:
        problems += [_renamed(each) for each in refused.errors]
    for name, read in (("coords", lambda text: _geometry(text, kind)), ("z", _levels)):
        try:
            if name in own and name in allowed:
                found = read(own[name])
                coords, levels = (found, levels) if name == "coords" else (coords, found)
        except ValueError as error:
            problems.append(Problem(("query", name), "malformed", f"{name} {error}"))
    if problems:
        raise InvalidRequest("The query has parameters that cannot be taken; errors names each.", errors=problems)
    if levels is not None:
        selection = replace(selection, subsets=(Subset("z", levels),))  # type: ignore[arg-type]  # _levels gives no text
    return Place(kind, coords if isinstance(coords, str) else None), selection


def query_of(place: Place, selection: Selection) -> list[tuple[str, str]]:
    """Return the parameters in canonical form: parsing them is the same place and selection."""
    pairs = [] if place.coords is None else [("coords", place.coords)]
    pairs += [("z", _levels_text(subset.part)) for subset in selection.subsets]
    plain = replace(selection, subsets=()).query()
    return pairs + [("parameter-name" if name == "properties" else name, value) for name, value in plain]


def resolve_query(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    """Return what the query takes of the cube, of an area its whole box: :func:`settle` then hides what is outside the polygon.

    Raises as :func:`cubeport.cubes.resolve.resolve`.
    """
    try:
        return _resolved(description, labels, selection, place)
    except InvalidRequest as refused:
        names = _NAMES if place.coords is None else {**_NAMES, "bbox": "coords"}
        raise InvalidRequest(refused.message, errors=[_renamed(each, names) for each in refused.errors]) from refused


def _resolved(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    import shapely

    if place.coords is None:
        return resolve(description, labels, selection)
    if description.spatial.family == "none":
        problem = Problem(("query", "coords"), "no-axis", "this data has no horizontal position")
        raise InvalidRequest("This data has no horizontal position.", errors=[problem])
    geometry: Any = shapely.from_wkt(place.coords)
    if geometry.geom_type == "Point":
        return _at(description, labels, selection, (float(geometry.x), float(geometry.y)))
    if geometry.geom_type == "MultiPoint":
        return _at_all(description, labels, selection, [(float(each.x), float(each.y)) for each in geometry.geoms])
    try:
        return resolve(description, labels, replace(selection, bbox=geometry.bounds))
    except NotFound:
        return _within_one(description, labels, selection, geometry)


def settle(
    description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, place: Place, patience: Patience
) -> Windows:
    """Return the windows of an area with a mask of the cells whose centre is in the polygon or on its edge; others as they are.

    A polygon that is a box of longitudes and latitudes takes what the box takes, so that an area is the cube of the same box. The
    work grows with the cells of the box, so it is done when the box is known to be within the limits, and gives up when
    *patience* does.
    """
    import shapely

    if place.kind != "area" or place.coords is None:
        return windows
    polygon: Any = shapely.from_wkt(place.coords)
    spatial = description.spatial
    if spatial.family == "rectilinear" and polygon.geom_type == "Polygon" and polygon.equals(shapely.box(*polygon.bounds)):
        return windows
    if spatial.family in ("curvilinear", "unstructured"):
        dimensions = description.cell_dimensions
        if not set(dimensions) <= windows.along.keys():
            return windows
        cut = _cut_of(windows, dimensions)
        inside = anywhere(polygon, labels.values[spatial.x or ""][cut], labels.values[spatial.y or ""][cut], patience)
    else:
        x, y = description.axis_of("x"), description.axis_of("y")
        if x is None or y is None or not {x.dimension, y.dimension} <= windows.along.keys():
            return windows
        dimensions = (y.dimension, x.dimension)
        columns = exact(turned_labels(labels.values[x.name], windows.along[x.dimension]))
        rows = exact(turned_labels(labels.values[y.name], windows.along[y.dimension]))
        if spatial.family == "projected":
            inside = _projected(description, x, polygon, columns, rows, patience)
        else:
            inside = on_axes(polygon, columns, rows, patience)
    if not inside.any():
        # No centre is in an area within one cell, as with a box within one cell: it is that cell.
        return _within_one(description, labels, selection, polygon)
    if len(dimensions) == 1:
        window = windows.along[dimensions[0]]
        return replace(windows, along={**windows.along, dimensions[0]: Window(dimensions[0], runs_of(window.indices()[inside]))})
    return _masked(windows, Mask(dimensions, inside))


def _masked(windows: Windows, mask: Mask) -> Windows:
    """Return the windows with one more mask; a time may have put one there."""
    return replace(windows, mask=mask if windows.mask is None else windows.mask & mask)


def _at_all(description: CubeDescription, labels: Labels, selection: Selection, points: Sequence[tuple[float, float]]) -> Windows:
    """Return the cells that hold several points, each once; points outside the data have none. NotFound when all are outside."""
    import numpy as np

    found: list[Windows] = []
    outside: NotFound | None = None
    for point in points:
        try:
            found.append(_at(description, labels, selection, point))
        except NotFound as refused:
            outside = refused
    if not found:
        raise outside or NotFound("There is no data at what was asked for.", what="data")
    dimensions = _horizontal(description)
    cells = sorted({tuple(int(each.along[name].indices()[0]) for name in dimensions) for each in found})
    shifts = {(name, each.along[name].runs[0].start): each.along[name].runs[0].shift for each in found for name in dimensions}
    along = dict(found[0].along)
    taken = {name: sorted({cell[number] for cell in cells}) for number, name in enumerate(dimensions)}
    for name in dimensions:
        along[name] = Window(name, tuple(Run(at, at + 1, shifts[name, at]) for at in taken[name]))
    if len(dimensions) == 1:
        return replace(found[0], along=along)
    inside = np.zeros([len(taken[name]) for name in dimensions], bool)
    for cell in cells:
        inside[tuple(taken[name].index(at) for name, at in zip(dimensions, cell, strict=True))] = True
    return _masked(replace(found[0], along=along, scattered=dimensions), Mask(dimensions, inside))


def _horizontal(description: CubeDescription) -> tuple[str, ...]:
    """Return the dimensions of the cells: y and x, or those of their positions."""
    if description.spatial.family in ("curvilinear", "unstructured"):
        return description.cell_dimensions
    x, y = description.axis_of("x"), description.axis_of("y")
    return tuple(axis.dimension for axis in (y, x) if axis is not None and not axis.scalar)


def _cut_of(windows: Windows, dimensions: Sequence[str]) -> Any:
    """Return what cuts an array along *dimensions* to the windows."""
    import numpy as np

    return np.ix_(*(windows.along[each].indices() for each in dimensions))


def _projected(description: CubeDescription, x: Axis, polygon: Any, columns: Array, rows: Array, patience: Patience) -> Array:
    """Return which cells have their centre in the polygon, rows by rows: positions of all of them are never in memory at once."""
    import numpy as np

    onto, factor = native_system(description, x)
    inside = np.zeros((rows.size, columns.size), dtype=bool)
    step = max(1, _STRIP // max(1, columns.size))
    for start in range(0, rows.size, step):
        patience()
        east, north = np.meshgrid(columns, rows[start : start + step])
        lon, lat = onto.transform(east * factor, north * factor, direction="INVERSE")
        inside[start : start + step] = anywhere(polygon, lon, lat, patience)
    return inside


def _within_one(description: CubeDescription, labels: Labels, selection: Selection, polygon: Any) -> Windows:
    middle = polygon.representative_point()
    return _at(description, labels, selection, (float(middle.x), float(middle.y)))


def _at(description: CubeDescription, labels: Labels, selection: Selection, place: tuple[float, float]) -> Windows:
    """Return the cell that holds the point; on grids without straight axes the one whose centre is nearest."""
    lon, lat = place
    if description.spatial.family in ("curvilinear", "unstructured"):
        return _nearest(description, labels, selection, lon, lat)
    x, y = description.axis_of("x"), description.axis_of("y")
    if x is None or y is None:
        problem = Problem(("query", "coords"), "no-axis", "this data has no horizontal position")
        raise InvalidRequest("This data has no horizontal position.", errors=[problem])
    if description.spatial.family == "projected":
        onto, factor = native_system(description, x)
        native_x, native_y = onto.transform(lon, lat)
        if not (math.isfinite(native_x) and math.isfinite(native_y)):
            raise NotFound("There is no data at what was asked for.", what="data")
        lon, lat = native_x / factor, native_y / factor
    slices = (Subset(x.name, Slice((lon,))), Subset(y.name, Slice((lat,))))
    windows = resolve(description, labels, replace(selection, subsets=(*selection.subsets, *slices)))
    if description.spatial.family == "projected" and x.dimension in windows.along:
        # The labels of a turned grid stay as stored.
        window = windows.along[x.dimension]
        still = replace(window, runs=tuple(replace(run, shift=0.0) for run in window.runs))
        windows = replace(windows, along={**windows.along, x.dimension: still})
    return windows


def _nearest(description: CubeDescription, labels: Labels, selection: Selection, lon: float, lat: float) -> Windows:
    windows = resolve(description, labels, selection)
    spatial = description.spatial
    try:
        at = boxes.nearest(labels.values[spatial.x or ""], labels.values[spatial.y or ""], (lon, lat), reach=spatial.reach)
    except boxes.Outside:
        raise NotFound("There is no data at what was asked for.", what="data", extent={"bbox": list(spatial.bbox or ())}) from None
    dimensions = description.cell_dimensions
    mask = windows.mask
    if mask is not None and set(mask.dimensions) & set(dimensions):
        # A time was asked for, and each position has its own.
        places = {name: windows.along[name].indices().tolist() for name in dimensions}
        here = {name: places[name].index(index) for name, index in zip(dimensions, at, strict=True) if index in places[name]}
        mask = mask.at({name: here[name] for name in mask.dimensions if name in here})
        if len(here) < len(dimensions) or not mask.inside.any():
            raise NotFound("There is no data at what was asked for.", what="data")
        windows = replace(windows, mask=mask if mask.dimensions else None)
    cut = {name: Window(name, (Run(int(index), int(index) + 1),), sliced=True) for name, index in zip(dimensions, at, strict=True)}
    return replace(windows, along={**windows.along, **{name: each for name, each in cut.items() if name in windows.along}})


# --- the grammar --------------------------------------------------------------------------------------------------------


def _renamed(problem: Problem, names: Mapping[str, str] = _NAMES) -> Problem:
    """Return the problem with the name that the parameter has here."""
    name = str(problem.loc[1])
    if name not in names:
        return problem
    return Problem(("query", names[name]), problem.kind, problem.message.replace(name, names[name]))


def _geometry(text: str, kind: Kind) -> str:
    """Return well-known text in canonical form. Raises ValueError with a message for the caller."""
    import shapely

    if text.count(",") >= _MOST_VERTICES:  # counted before anything is made of them
        raise ValueError(f"may have {_MOST_VERTICES} vertices")
    try:
        geometry: Any = shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        raise ValueError("must be well-known text") from error
    wanted = ("Point", "MultiPoint") if kind == "position" else ("Polygon", "MultiPolygon")
    if geometry is None or geometry.geom_type not in wanted or geometry.is_empty or geometry.has_z:
        raise ValueError(f"must be a {' or '.join(each.upper() for each in wanted)} of two dimensions")
    if shapely.get_num_coordinates(geometry) > _MOST_VERTICES:
        raise ValueError(f"may have {_MOST_VERTICES} vertices")
    if geometry.geom_type == "MultiPoint" and len(geometry.geoms) > _MOST_POINTS:
        raise ValueError(f"may have {_MOST_POINTS} points")
    west, south, east, north = geometry.bounds
    if not all(map(math.isfinite, geometry.bounds)) or max(abs(west), abs(east)) > 540 or max(abs(south), abs(north)) > 90:
        raise ValueError("must be within longitudes of ±540 and latitudes of ±90")
    if not geometry.is_valid:
        raise ValueError("must be a polygon that does not cross itself")
    return str(shapely.to_wkt(geometry, rounding_precision=-1))


def _levels(text: str) -> Trim | Slice:
    """Return ``v``, ``a/b``, ``v1,v2`` or ``Rn/start/step``. Raises ValueError."""
    parts = text.split("/")
    if len(parts) == 3 and parts[0][:1] in "Rr" and parts[0][1:].isascii() and parts[0][1:].isdigit():
        count, start, step = int(parts[0][1:]), _number(parts[1]), _number(parts[2])
        if not 1 <= count <= _MOST_LEVELS:
            raise ValueError(f"may have up to {_MOST_LEVELS} levels")
        return Slice(tuple(start + step * at for at in range(count)))
    if len(parts) == 2:
        low, high = (None if part in ("", "..") else _number(part) for part in parts)
        return Trim(*sorted((low, high))) if low is not None and high is not None else Trim(low, high)
    if len(parts) == 1 and text.count(",") < _MOST_LEVELS:
        return Slice(tuple(map(_number, text.split(","))))
    raise ValueError("must be a level, low/high, levels with commas, or Rn/start/step")


def _number(text: str) -> float:
    from cubeport.cubes.selection import read_number

    return read_number(text)


def _levels_text(part: Any) -> str:
    def one(value: Point | None) -> str:
        return ".." if value is None else repr(value)

    return f"{one(part.low)}/{one(part.high)}" if isinstance(part, Trim) else ",".join(map(one, part.values))
