"""STAC item search: every retained version of every published dataset, by id, collection, place and time (publishing.md 3.2).

Datasets are walked in order of id and versions newest first, so a token names a place that others' inserts do not move. Each
version is held against the query by its own extent: an older one may lie elsewhere than the one that is shown.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from cubeport.catalog.forms import cursors
from cubeport.catalog.forms.canonical import dumps, timestamp
from cubeport.catalog.query import boxes, parse_interval, query_boxes
from cubeport.cubes.description import CubeDescription
from cubeport.documents.texts import Shown, VersionRef
from cubeport.errors import InvalidRequest, NotFound, Problem, Unavailable, VersionRemoved
from cubeport.server import incoming
from cubeport.server.parts import Lists

DEADLINE_S = 5.0
MAX_PAGE = 1_000
MAX_VERTICES = 10_000
MAX_VALUES = 32_000
"""JSON values in the body of a search: a geometry of 10,000 vertices has 30,000."""
_WALK = 100
"""Datasets read at once."""

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


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search."""

    page: tuple[Shown, ...]
    token: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a walk stopped: the last item, and the page of datasets that it was on."""

    dataset_id: str
    version_id: str
    created: str
    """When that version was made: where the walk goes on if retention has removed it since."""
    cursor: str | None


def run(service: Lists, asked: Search, *, deadline_s: float = DEADLINE_S) -> Found:
    """Return one page of items.

    Raises
    ------
    InvalidRequest
        For a ``bbox`` beside ``intersects``, a bad geometry or time, or a token of another query.
    Unavailable
        When nothing was found within the deadline.
    """
    fits = _Filter.of(asked)
    binding = _binding(asked)
    behind = _read(asked.token, binding) if asked.token else None
    limit, until = min(asked.limit, MAX_PAGE), time.monotonic() + deadline_s
    found: list[Shown] = []
    last: _Place | None = None
    for cursor, dataset_id in _datasets(service, asked, behind):
        for shown in _versions(service, dataset_id, behind):
            if time.monotonic() > until:
                raise Unavailable("The search took too long", next_step="Name collections, or ask for less at once.")
            if not fits(shown):
                continue
            if len(found) == limit:
                assert last is not None
                return Found(tuple(found), _write(last, binding))
            found.append(shown)
            last = _Place(dataset_id, shown.version.version_id, timestamp(shown.version.created_at), cursor)
    return Found(tuple(found), None)


def _datasets(service: Lists, asked: Search, behind: _Place | None) -> Iterator[tuple[str | None, str]]:
    """Yield dataset ids in order, each with the cursor of its page, from that of *behind* on."""
    named = set(asked.collections) if asked.collections is not None else None
    if asked.ids is not None:
        of_ids = {each.partition("@")[0] for each in asked.ids}
        named = of_ids if named is None else named & of_ids
    if named is not None:
        yield from ((None, each) for each in sorted(named) if behind is None or each >= behind.dataset_id)
        return
    cursor = behind.cursor if behind is not None else None
    while True:
        page = service.datasets(limit=_WALK, cursor=cursor)
        for shown in page.items:
            if behind is None or shown.texts.dataset_id >= behind.dataset_id:
                yield cursor, shown.texts.dataset_id
        if page.next is None:
            return
        cursor = page.next


def _versions(service: Lists, dataset_id: str, behind: _Place | None) -> Iterator[Shown]:
    """Yield the retained versions of a dataset, newest first, behind the last one given; none when it is gone meanwhile."""
    try:
        service.shown(dataset_id)
        versions = service.shown_versions(dataset_id)
    except (NotFound, VersionRemoved):
        return
    for version in versions if behind is None or dataset_id != behind.dataset_id else _older(versions, behind):
        try:
            shown = service.shown(f"{dataset_id}@{version.version_id}")
        except (NotFound, VersionRemoved):
            continue
        yield shown.model_copy(update={"versions": versions})


def _older(versions: tuple[VersionRef, ...], behind: _Place) -> tuple[VersionRef, ...]:
    ids = [each.version_id for each in versions]
    if behind.version_id in ids:
        return versions[ids.index(behind.version_id) + 1 :]
    return tuple(each for each in versions if timestamp(each.created_at) < behind.created)


@dataclass(frozen=True, slots=True)
class _Filter:
    ids: frozenset[str] | None
    box: Box | None
    interval: tuple[str | None, str | None] | None
    geometry: Any

    @classmethod
    def of(cls, asked: Search) -> _Filter:
        if asked.bbox is not None and asked.intersects is not None:
            raise InvalidRequest(
                "bbox and intersects go one at a time", errors=[Problem(("body", "intersects"), "conflict", "has bbox beside it")]
            )
        return cls(
            ids=frozenset(asked.ids) if asked.ids is not None else None,
            box=_flat(asked.bbox) if asked.bbox is not None else None,
            interval=parse_interval(asked.datetime) if asked.datetime is not None else None,
            geometry=_geometry(asked.intersects) if asked.intersects is not None else None,
        )

    def __call__(self, shown: Shown) -> bool:
        cube = shown.description
        if self.ids is not None and f"{shown.texts.dataset_id}@{shown.version.version_id}" not in self.ids:
            return False
        if self.box is not None and not meets(cube, self.box):
            return False
        if self.interval is not None and not within(cube, *self.interval):
            return False
        if self.geometry is None:
            return True
        from shapely.geometry import shape

        return bool(shape(shown.sealed["item"]["geometry"]).intersects(self.geometry))


def meets(cube: CubeDescription, box: Box) -> bool:
    """Tell whether a cube lies in *box*, its edge included."""
    pairs = ((a, b) for a in query_boxes(box) for b in boxes(*cube.spatial.bbox))
    return any(a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a, b in pairs)


def within(cube: CubeDescription, start: str | None, end: str | None) -> bool:
    """Tell whether a cube has time in the closed interval; one without time always has."""
    if cube.temporal is None or not cube.temporal.index_start:
        return True
    held = parse_interval(f"{cube.temporal.index_start}/{cube.temporal.index_end}")
    assert held.start is not None
    assert held.end is not None
    return (end is None or held.start <= end) and (start is None or start <= held.end)


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


def _write(place: _Place, binding: str) -> str:
    return cursors.write(binding, place.dataset_id, place.version_id, place.created, place.cursor)


def _read(token: str, binding: str) -> _Place:
    try:
        bound, dataset_id, version_id, created, cursor = cursors.read(token, 5)
        datetime.fromisoformat(created)
        if (
            bound != binding
            or not isinstance(dataset_id, str)
            or not isinstance(version_id, str)
            or not isinstance(cursor, str | None)
        ):
            raise ValueError("of another query")
    except (ValueError, TypeError) as exc:
        why = "was not given by this search"
        raise InvalidRequest(f"token: {why}", errors=[Problem(("body", "token"), "invalid-cursor", why)]) from exc
    return _Place(dataset_id, version_id, created, cursor)
