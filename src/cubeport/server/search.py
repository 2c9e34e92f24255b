"""The parameters of STAC item search: read, checked, and handed to the service as one value (STAC API, Item Search)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.query import parse_interval
from cubeport.cubes.description import CubeDescription
from cubeport.errors import InvalidRequest, Problem
from cubeport.server import incoming
from cubeport.service.items import ItemSearch
from cubeport.service.state import Reach

MAX_PAGE = 1_000
MAX_VERTICES = 10_000
MAX_VALUES = 32_000
"""JSON values in the body of a search: a geometry of 10,000 vertices has 30,000."""

type Box = tuple[float, float, float, float]


def check_box(numbers: list[float]) -> list[float]:
    """Return *numbers* if they are a box of 4 or 6; west > east crosses the antimeridian. Raises ValueError."""
    if len(numbers) not in (4, 6):
        raise ValueError("must be 4 or 6 numbers")
    west, south, east, north = _flat(numbers)
    if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90):
        raise ValueError("must be west,south,east,north in degrees, south not above north")
    return numbers


def _flat(numbers: list[float]) -> Box:
    west, south = numbers[0], numbers[1]
    east, north = (numbers[2], numbers[3]) if len(numbers) == 4 else (numbers[3], numbers[4])
    return west, south, east, north


Names = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=10_000)]

Number = Annotated[float, Field(allow_inf_nan=False)]


class Search(incoming.Model):
    """The body of ``POST /stac/search``."""

    ids: Names | None = None
    collections: Names | None = None
    bbox: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=6), AfterValidator(check_box)] | None = (
        None
    )
    datetime: Annotated[str | None, Field(max_length=100)] = None
    intersects: dict[str, Any] | None = None
    limit: Annotated[int, Field(ge=1, description="At most 1000 are given")] = 100
    token: Annotated[str | None, Field(max_length=1000)] = None


class SearchQuery(incoming.Model):
    """What ``GET /stac/search`` takes: lists with commas, a geometry as GeoJSON text."""

    ids: Annotated[str | None, Field(description="Item ids, with commas")] = None
    collections: Annotated[str | None, Field(description="Collection ids, with commas")] = None
    bbox: Annotated[str | None, Field(description="west,south,east,north; west > east crosses 180°")] = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/..")] = None
    intersects: Annotated[str | None, Field(description="A GeoJSON geometry")] = None
    limit: Annotated[str | None, Field(description="At most 1000 are given")] = None
    token: str | None = None

    def search(self) -> Search:
        """Return it as the body says it. Raises InvalidRequest."""
        problems: list[Problem] = []
        values: dict[str, Any] = {name: value for name, value in self.model_dump().items() if value is not None}
        for name in ("ids", "collections"):
            if name in values:
                values[name] = [part for part in values[name].split(",") if part]
        for name, read in (("bbox", _numbers), ("limit", int), ("intersects", _geometry_text)):
            if name in values:
                try:
                    values[name] = read(values[name])
                except (ValueError, InvalidRequest):
                    problems.append(Problem(("query", name), "malformed", "cannot be read"))
        if problems:
            raise InvalidRequest("; ".join(f"{each.loc[1]}: {each.message}" for each in problems), errors=problems)
        return incoming.validated(values, Search)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _geometry_text(text: str) -> Any:
    return incoming.strict_json(text.encode(), max_values=MAX_VALUES)


def checked(asked: Search) -> ItemSearch:
    """Return the search as the service takes it.

    Raises
    ------
    InvalidRequest
        For a ``bbox`` next to ``intersects``, or a bad geometry or time.
    """
    if asked.bbox is not None and asked.intersects is not None:
        why = "bbox and intersects cannot be combined; send one of them"
        raise InvalidRequest(why, errors=[Problem(("body", "intersects"), "conflict", why)])
    geometry = _geometry(asked.intersects) if asked.intersects is not None else None
    return ItemSearch(
        ids=frozenset(asked.ids) if asked.ids is not None else None,
        collections=frozenset(asked.collections) if asked.collections is not None else None,
        box=_flat(asked.bbox) if asked.bbox is not None else _around(geometry) if geometry is not None else None,
        datetime=asked.datetime,
        interval=parse_interval(asked.datetime) if asked.datetime is not None else None,
        meets=_meets(geometry) if geometry is not None else None,
        limit=min(asked.limit, MAX_PAGE),
        token=asked.token,
        binding=_binding(asked),
    )


def meets(cube: CubeDescription, box: Box) -> bool:
    """Tell whether a cube is in *box*, its edge included."""
    return Reach.of(cube).meets(box)


def within(cube: CubeDescription, start: str | None, end: str | None) -> bool:
    """Tell whether a cube has time in the closed interval; one whose time is unknown has none."""
    return Reach.of(cube).during(start, end)


def _around(geometry: Any) -> Box | None:
    """Return the box around a geometry; ``None`` where it reaches out of the world, for which no box of ours stands."""
    west, south, east, north = geometry.bounds
    inside = west >= -180 and east <= 180 and south >= -90 and north <= 90
    return (west, south, east, north) if inside else None


def _meets(geometry: Any) -> Callable[[Mapping[str, Any] | None], bool]:
    from shapely.geometry import shape

    # An item without a place has no geometry, and meets none.
    return lambda document: document is not None and bool(shape(dict(document)).intersects(geometry))


def _geometry(document: Mapping[str, Any]) -> Any:
    import shapely
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        geometry = shape(dict(document))
        good = geometry.is_valid and not geometry.is_empty and shapely.get_num_coordinates(geometry) <= MAX_VERTICES
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        good = False
    if not good:
        why = f"must be a valid GeoJSON geometry of at most {MAX_VERTICES} vertices"
        raise InvalidRequest(f"intersects: {why}", errors=[Problem(("body", "intersects"), "bad-geometry", why)])
    return geometry


def _binding(asked: Search) -> str:
    """Return what a token is bound to: the query without page and token."""
    return hashlib.sha256(dumps(asked.model_dump(mode="json", exclude={"token", "limit"})).encode()).hexdigest()[:12]
