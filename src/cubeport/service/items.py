"""Item search: find the retained versions of published datasets by id, place, time and filter (STAC API, Item Search).

The catalog's index of versions finds candidates in the requested order. Conditions that the index cannot check (a geometry that is
not a box, a filter) are tested for each candidate. A search that has tested as many as one request may, or reaches its deadline,
returns a partial page and a token to continue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cubeport.catalog.backend import RowOrder
from cubeport.catalog.forms import cursors
from cubeport.catalog.forms.boxes import Box
from cubeport.catalog.forms.canonical import timestamp
from cubeport.catalog.query import Interval
from cubeport.documents.geojson import box_geometry
from cubeport.documents.licences import in_stac
from cubeport.documents.texts import PublishedView, item_title
from cubeport.errors import InvalidRequest, Problem
from cubeport.service.state import Cube, DatasetState, Reach, VersionState

DEADLINE_S = 5.0
MOST_TESTED = 1_000
"""How many versions one request tests for conditions that the index cannot check, which takes about a fifth of a second."""
_STEP = 500
"""How many versions are checked at a time if the index cannot decide."""

type Order = tuple[tuple[RowOrder, bool], ...]


@dataclass(frozen=True, slots=True)
class Look:
    """A query to the index."""

    names: Sequence[str] | None
    """The ids of datasets."""
    versions: Sequence[str] | None
    """The ids of versions."""
    box: Box | None
    interval: Interval | None
    order: Order
    after: Sequence[str | None] | None
    limit: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that can match, with its dataset."""

    record_id: str
    state: DatasetState
    version: VersionState
    at: tuple[str | None, ...]
    """Its position in the order."""
    origin: Any = None
    """Data from which the finder can make an item."""

    @property
    def item_id(self) -> str:
        """The id of its item."""
        return f"{self.state.texts.dataset_id}@{self.version.version_id}"


class Finds(Protocol):
    """The part of :class:`~cubeport.service.datasets.Datasets` that a search needs."""

    def look(self, query: Look) -> list[Candidate]: ...

    def cube(self, version_id: str) -> Cube: ...

    def items(self, found: Sequence[Candidate]) -> tuple[PublishedView, ...]: ...


@dataclass(frozen=True, slots=True)
class ItemSearch:
    """A validated search."""

    ids: frozenset[str] | None = None
    collections: frozenset[str] | None = None
    box: Box | None = None
    """The requested box, or the box around the geometry: west, south, east, north in CRS84."""
    interval: Interval | None = None
    tests: tuple[Callable[[Mapping[str, Any]], bool], ...] = ()
    """Conditions that the index cannot check. Each is applied to the facts of an item (:class:`Facts`)."""
    order: Order = (("created", True),)
    limit: int = 100
    token: str | None = None
    binding: str = ""
    """Identifies the search of a token: the search without page and token."""


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of items, and the tokens of the next and of the previous one."""

    items: tuple[PublishedView, ...]
    token: str | None
    matched: int | None = None
    before: str | None = None

    @property
    def tokens(self) -> list[tuple[str, str]]:
        """The tokens with the relations of their links (STAC API, Item Search: Pagination)."""
        return [(rel, token) for rel, token in (("next", self.token), ("prev", self.before)) if token is not None]

    """How many match, if this page has all of them. Of more, nobody counts: that would read each of them for every page."""


def find(datasets: Finds, search: ItemSearch, *, deadline_s: float = DEADLINE_S) -> ItemPage:
    """Return one page of items. After :data:`MOST_TESTED` tests, or at the deadline, it returns a partial page with a token to
    continue.

    Raises
    ------
    InvalidRequest
        If the token belongs to another search.
    """
    after, back = _read(search) if search.token else (None, False)
    # Going back is the other way round: every key of the order is known, so nothing comes last in both directions.
    order = tuple((name, descends is not back) for name, descends in search.order)
    until = time.monotonic() + deadline_s
    found: list[Candidate] = []
    ids = search.ids
    names = search.collections
    if ids is not None:
        of_ids = frozenset(each.partition("@")[0] for each in ids)
        names = of_ids if names is None else of_ids & names
    step, tested = search.limit + 1, 0
    while True:
        some = datasets.look(
            Look(
                names=sorted(names) if names is not None else None,
                versions=sorted(each.partition("@")[2] for each in ids) if ids is not None else None,
                box=search.box,
                interval=search.interval,
                order=order,
                after=after,
                limit=step,
            )
        )
        for candidate in some:
            if (ids is None or candidate.item_id in ids) and _fits(datasets, search, candidate):
                if len(found) == search.limit:
                    return _page(datasets, search, found, found[-1].at, back=back)
                found.append(candidate)
            after, tested = candidate.at, tested + 1
            if time.monotonic() > until or (search.tests and tested >= MOST_TESTED):
                return _page(datasets, search, found, candidate.at, back=back)
        if len(some) < step:
            return _page(datasets, search, found, None, back=back)
        step = min(max(step, _STEP), MOST_TESTED - tested) if search.tests else max(step, _STEP)


_ALWAYS_KNOWN: frozenset[RowOrder] = frozenset({"created", "id", "owner.key", "owner.updated_at"})
"""Keys of an order that no item is without. Without a value, items are last in both directions, and so nobody can go back."""


def _page(
    datasets: Finds, search: ItemSearch, found: Sequence[Candidate], reached: tuple[str | None, ...] | None, *, back: bool
) -> ItemPage:
    """Return a page of what was found on the way, which ended at *reached*, or at the end of all if that is ``None``."""
    beyond = None if reached is None else _write(reached, search, back=back)
    if back:
        return ItemPage(datasets.items(found[::-1]), _write(found[0].at, search) if found else None, before=beyond)
    known = all(name in _ALWAYS_KNOWN for name, _ in search.order)
    before = _write(found[0].at, search, back=True) if found and search.token is not None and known else None
    matched = len(found) if search.token is None and reached is None else None
    return ItemPage(datasets.items(found), beyond, matched, before)


def _fits(datasets: Finds, search: ItemSearch, candidate: Candidate) -> bool:
    reach = candidate.version.reach
    if reach is None and (search.box is not None or search.interval is not None):
        reach = Reach.of(datasets.cube(candidate.version.version_id).description)
        if search.box is not None and not reach.meets(search.box):
            return False
        if search.interval is not None and not reach.during(*search.interval):
            return False
    if not search.tests:
        return True
    facts = Facts(datasets, candidate)
    return all(test(facts) for test in search.tests)


class Facts(Mapping[str, Any]):
    """The facts about an item, by the names of the queryables: what its document says.

    The cube is only opened for facts that no row contains.
    """

    def __init__(self, datasets: Finds, candidate: Candidate) -> None:
        self._datasets, self._candidate = datasets, candidate

    def __getitem__(self, name: str) -> Any:
        candidate = self._candidate
        state, version, texts = candidate.state, candidate.version, candidate.state.texts
        match name:
            case "id":
                return candidate.item_id
            case "collection":
                return texts.dataset_id
            case "title":
                return item_title(texts.title, version.version_id)
            case "description":
                return texts.description or texts.title
            case "license":
                return in_stac(texts.license)
            case "keywords":
                return list(texts.keywords) or None
            case "created":
                return timestamp(version.created_at)
            case "version":
                return version.version_id
            case "deprecated":
                return version.version_id != state.latest
            case "geometry" if version.reach is not None:
                return box_geometry(version.reach.bbox) if version.reach.bbox is not None else None
        return self._of_cube(name)

    def _of_cube(self, name: str) -> Any:
        cube = self._datasets.cube(self._candidate.version.version_id)
        match name:
            case "variables":
                return list(cube.description.fields)
            case "standard_names":
                fields = map(cube.description.variable, cube.description.fields)
                return list(dict.fromkeys(each.standard_name for each in fields if each.standard_name))
            case "geometry":
                return cube.documents["item"]["geometry"]
        found = cube.documents["item"]["properties"].get(name)
        if name == "datetime" and found is None and "start_datetime" not in cube.documents["item"]["properties"]:
            return timestamp(self._candidate.version.created_at)  # as in its item
        return found

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("facts are asked for by name")

    def __len__(self) -> int:
        raise NotImplementedError("facts are asked for by name")


_BACK = "<"
"""Marks the binding of a token that leads to the page before a position."""


def _write(at: Sequence[str | None], search: ItemSearch, *, back: bool = False) -> str:
    return cursors.write(search.binding + (_BACK if back else ""), list(at))


def _read(search: ItemSearch) -> tuple[tuple[str | None, ...], bool]:
    """Return the position of the token, and whether the page is before it."""
    try:
        bound, at = cursors.read(search.token or "", 2)
        back = bound == search.binding + _BACK
        if not (back or bound == search.binding) or not isinstance(at, list) or len(at) != len(search.order) + 1:
            raise ValueError("of another search")
        if not all(isinstance(each, str | None) for each in at) or at[-1] is None:
            raise ValueError("not a position")
    except ValueError as exc:
        why = "does not belong to this search"
        raise InvalidRequest(f"token: {why}", errors=[Problem(("body", "token"), "invalid-cursor", why)]) from exc
    return tuple(at), back
