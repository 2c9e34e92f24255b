"""The kinds of EDR query, and what they have in common: parameters, canonical form, and names in error messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.edr import area, corridor, cube, position, radius, trajectory
from cubeport.cubes.edr.geometry import flattened
from cubeport.cubes.edr.query import EdrQuery, Parameter, Place
from cubeport.cubes.part import Deadline
from cubeport.cubes.selection import Point, Scale, Selection, Slice, Subset, Trim, parse, read_number
from cubeport.cubes.windows import Labels, Windows
from cubeport.errors import InvalidRequest, NotFound, Problem, renamed, unknown_parameter

QUERIES: tuple[EdrQuery, ...] = (position.QUERY, radius.QUERY, area.QUERY, cube.QUERY, trajectory.QUERY, corridor.QUERY)

_COMMON = {
    "z": "v, a/b, v1,v2 or Rn/start/step",
    "datetime": "One value is a slice; a/b, ../b, a/.. a trim",
    "subset": "axis(value) or axis(low:high) of axes that have no parameter here, as members, forecast steps and categories",
    "parameter-name": "Fields, with commas",
    "crs": "The storage CRS",
}
_BBOX = Parameter("bbox", "4 numbers, or 6 with the vertical; west > east crosses 180°", str)
_RESOLUTION = {"resolution-x": "x", "resolution-y": "y"}
"""Parameters for fewer cells along an axis (clause 8.2.5), as ``scale-size`` of coverages."""
_OF_ANSWERS = ("f", "estimate")
_COVERAGE_NAMES = {"properties": "parameter-name", "subset": "z"}
"""The names that EDR uses for parameters of coverages."""
_MOST_LEVELS = 1_000


def query_named(name: str) -> EdrQuery:
    """Return the kind of query with this name. Raises NotFound with the known names."""
    for each in QUERIES:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in QUERIES)
    raise NotFound(f"There is no query {name[:40]}: there are coverage, {names}.", what="query")


def parameters_of(kind: EdrQuery) -> list[Parameter]:
    """Return the parameters of the query except ``f`` and ``estimate``, in the order of the API definition."""
    common = [Parameter(name, text, str, required=False) for name, text in _COMMON.items()]
    fewer = [Parameter(name, f"Number of cells along {axis}", str, required=False) for name, axis in _RESOLUTION.items()]
    return [*([_BBOX] if kind.bbox else []), *kind.parameters, *(fewer if kind.bbox else []), *common]


def parse_query(name: str, pairs: Iterable[tuple[str, str]], *, forms: Sequence[str]) -> tuple[Place, Selection]:
    """Return the place and the rest of the selection.

    Raises
    ------
    InvalidRequest
        With all problems.
    NotFound
        If the kind of query is unknown.
    """
    kind = query_named(name)
    given: Sequence[tuple[str, str]] = [("parameter-name" if key == "parameter_names" else key, value) for key, value in pairs]
    problems: list[Problem] = []
    if kind.at_points:
        given, problems = _with_levels(given, several=kind.heights)
    takes = parameters_of(kind)
    allowed = (*(each.name for each in takes), *_OF_ANSWERS)
    problems += [unknown_parameter(key, allowed) for key, _ in given if key not in allowed]
    readers: dict[str, Any] = {"z": _levels} | {each.name: each.read for each in kind.parameters}
    readers |= dict.fromkeys(_RESOLUTION, _number_of_cells) if kind.bbox else {}
    own = {key: value for key, value in given if key in readers}
    problems += [
        Problem(("query", key), "repeated", f"{key} may be given once") for key in own if sum(each == key for each, _ in given) > 1
    ]
    problems += [
        Problem(("query", each.name), "missing", f"a {name} query needs {each.name}")
        for each in takes
        if each.required and not any(key == each.name for key, _ in given)
    ]
    selection = Selection()
    rest = [
        ("properties" if key == "parameter-name" else key, value) for key, value in given if key in allowed and key not in readers
    ]
    try:
        selection = parse(rest, forms=forms, allowed=("bbox", "datetime", "subset", "properties", "crs", *_OF_ANSWERS))
    except InvalidRequest as refused:
        problems += [renamed(each, _COVERAGE_NAMES) for each in refused.errors]
    read: dict[str, Any] = {}
    for key, reader in readers.items():
        if key in own:
            try:
                read[key] = reader(own[key])
            except ValueError as error:
                problems.append(Problem(("query", key), "malformed", f"{key} {error}"))
    if problems:
        raise InvalidRequest("The query has parameters that are not valid.", errors=problems)
    if "z" in read:
        selection = replace(selection, subsets=(*selection.subsets, Subset("z", read["z"])))
    if sizes := tuple((axis, read[name]) for name, axis in _RESOLUTION.items() if name in read):
        selection = replace(selection, scale=Scale("scale-size", sizes))
    return Place(name, tuple((each.name, read[each.name]) for each in kind.parameters if each.name in read)), selection


def query_of(place: Place, selection: Selection) -> list[tuple[str, str]]:
    """Return the parameters in canonical form. Parsing them gives the same place and selection."""
    levels = [("z", _levels_text(subset.part)) for subset in selection.subsets if subset.axis == "z"]
    sizes = {axis: f"{number:.0f}" for axis, number in selection.scale.parts} if selection.scale is not None else {}
    fewer = [(name, sizes[axis]) for name, axis in _RESOLUTION.items() if axis in sizes]
    plain = replace(selection, scale=None, subsets=tuple(subset for subset in selection.subsets if subset.axis != "z")).query()
    return [*place.given, *fewer, *levels, *(("parameter-name" if name == "properties" else name, value) for name, value in plain)]


def resolve_query(description: CubeDescription, labels: Labels, selection: Selection, place: Place) -> Windows:
    """Return what the query selects. For a region this is its whole box; :func:`settle` then hides the cells outside it.

    Raises as :func:`cubeport.cubes.resolve.resolve`.
    """
    kind = query_named(place.kind)
    try:
        return kind.resolve(description, labels, selection, place)
    except InvalidRequest as refused:
        names = _COVERAGE_NAMES if kind.bbox else {**_COVERAGE_NAMES, "bbox": "coords"}
        if any(subset.axis != "z" for subset in selection.subsets):
            names = {name: ours for name, ours in names.items() if name != "subset"}
        y = description.axis_of("y")

        def of(problem: Problem) -> Mapping[str, str]:
            return {**names, "scale-size": "resolution-y" if y and problem.message.startswith(f"{y.name} ") else "resolution-x"}

        raise InvalidRequest(refused.message, errors=[renamed(each, of(each)) for each in refused.errors]) from refused


def settle(
    description: CubeDescription, labels: Labels, windows: Windows, selection: Selection, place: Place, deadline: Deadline
) -> Windows:
    """Return the windows without the cells of the box that the query does not select. Most kinds have no such cells.

    The cost grows with the cells of the box, so call this only after the box was found to be within the limits. *deadline* can stop
    it.
    """
    hide = query_named(place.kind).settle
    return windows if hide is None else hide(description, labels, windows, selection, place, deadline)


def _with_levels(given: Sequence[tuple[str, str]], *, several: bool) -> tuple[Sequence[tuple[str, str]], list[Problem]]:
    """Return the parameters with the height of ``POINT Z`` as ``z``, and what is wrong with it.

    With *several*, vertices may have heights of their own, which stay in ``coords``.
    """
    coords = next((value for key, value in given if key == "coords"), "")
    found = flattened(coords)
    if found is None:
        return given, []
    flat, heights = found
    without = [(key, flat if key == "coords" else value) for key, value in given]
    if not all(map(math.isfinite, heights)):
        return without, [Problem(("query", "coords"), "malformed", "coords must have a height at each place")]
    if any(key == "z" for key, _ in given):
        return without, [Problem(("query", "z"), "clash", "z and the heights of coords cannot be combined")]
    if len(heights) == 1:
        return [*without, ("z", repr(min(heights)))], []
    words = "coords must have one height; ask for several with z"
    return (given, []) if several else (without, [Problem(("query", "coords"), "malformed", words)])


def _number_of_cells(text: str) -> float:
    number = read_number(text)
    if number < 1 or not number.is_integer():
        raise ValueError("must be a whole number above 0")
    return number


def _levels(text: str) -> Trim | Slice:
    """Return ``v``, ``a/b``, ``v1,v2`` or ``Rn/start/step``. Raises ValueError."""
    parts = text.split("/")
    if len(parts) == 3 and parts[0][:1] in "Rr" and parts[0][1:].isascii() and parts[0][1:].isdigit():
        count, start, step = int(parts[0][1:]), read_number(parts[1]), read_number(parts[2])
        if not 1 <= count <= _MOST_LEVELS:
            raise ValueError(f"may have up to {_MOST_LEVELS} levels")
        return Slice(tuple(start + step * at for at in range(count)))
    if len(parts) == 2:
        low, high = (None if part in ("", "..") else read_number(part) for part in parts)
        return Trim(*sorted((low, high))) if low is not None and high is not None else Trim(low, high)
    if len(parts) == 1 and text.count(",") < _MOST_LEVELS:
        return Slice(tuple(map(read_number, text.split(","))))
    raise ValueError("must be a level, low/high, levels with commas, or Rn/start/step")


def _levels_text(part: Any) -> str:
    def one(value: Point | None) -> str:
        return ".." if value is None else repr(value)

    return f"{one(part.low)}/{one(part.high)}" if isinstance(part, Trim) else ",".join(map(one, part.values))
