"""Collection search: find published datasets by words, place, time and filter (STAC API, Collection Search)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cubeport.catalog.forms.boxes import Box
from cubeport.catalog.forms.canonical import timestamp
from cubeport.documents.geojson import box_geometry
from cubeport.documents.licences import in_stac
from cubeport.documents.texts import PublishedView
from cubeport.service.datasets import ShownPage, is_back

DEADLINE_S = 5.0
MOST_TESTED = 500
"""How many datasets one request tests for conditions that the index cannot check, which takes about a quarter of a second."""
_STEP = 500
"""How many datasets are checked at a time if the index cannot decide."""


class Pages(Protocol):
    """The part of :class:`~cubeport.service.datasets.Datasets` that a search needs."""

    def page(self, *nothing: Any, **filters: Any) -> ShownPage: ...


@dataclass(frozen=True, slots=True)
class CollectionSearch:
    """A validated search."""

    q: tuple[str, ...] | None = None
    """Texts, any of which may match. All words of a text must match."""
    ids: frozenset[str] | None = None
    box: Box | None = None
    datetime: str | None = None
    tests: tuple[Callable[[Mapping[str, Any]], bool], ...] = ()
    """Conditions that the index cannot check. Each is applied to the facts of a collection."""
    sort: tuple[str, ...] = ("dataset_id",)
    limit: int = 100
    token: str | None = None
    count: bool = False
    """Whether the page has the total number if the index can count it. A filter is counted only if one page has all that fit."""


def find(datasets: Pages, search: CollectionSearch, *, deadline_s: float = DEADLINE_S) -> ShownPage:
    """Return one page of datasets. A page can have fewer than *limit* datasets; the last page has no cursor.

    Raises
    ------
    InvalidCursor
        If the cursor belongs to another search.
    """
    asked: dict[str, Any] = {
        "q": search.q,
        "ids": search.ids,
        "bbox": search.box,
        "datetime": search.datetime,
        "sort": search.sort,
    }
    if not search.tests:
        counted = "few" if search.count else False
        return datasets.page(**asked, limit=search.limit, cursor=search.token, count=counted, versions=True)
    until = time.monotonic() + deadline_s
    found: list[PublishedView] = []
    damaged: list[str] = []
    back = is_back(search.token)
    cursor, step, tested = search.token, search.limit, 0
    behind: str | None = None
    """The cursor of the page on the other side of where this one began."""

    def ended(matched: int | None = None) -> ShownPage:
        items, following, before = (found[::-1], behind, cursor) if back else (found, cursor, behind)
        return ShownPage(tuple(items), following, matched, tuple(damaged), before)

    while True:
        page = datasets.page(**asked, limit=step, cursor=cursor, versions=True)
        if not tested:
            behind = page.next if back else page.before
        fit = [each for each in page.items[:: -1 if back else 1] if all(test(Facts(each)) for test in search.tests)]
        room = search.limit - len(found)
        if len(fit) > room:
            if room == 0 or found:
                return ended()
            step = search.limit  # a full page is complete
            continue
        found += fit
        damaged += page.damaged
        cursor, tested = page.before if back else page.next, tested + len(page.items)
        if cursor is None or len(found) == search.limit or tested >= MOST_TESTED or time.monotonic() > until:
            whole = search.token is None and cursor is None
            return ended(len(found) if whole and search.count else None)
        step = min(max(search.limit, _STEP), MOST_TESTED - tested) if not found else search.limit


class Facts(Mapping[str, Any]):
    """The facts about a collection, by the names of the queryables: what its document says."""

    def __init__(self, shown: PublishedView) -> None:
        self._shown = shown

    def __getitem__(self, name: str) -> Any:
        shown, texts, cube = self._shown, self._shown.texts, self._shown.description
        match name:
            case "id" | "collection":
                return texts.dataset_id
            case "title":
                return texts.title
            case "description":
                return texts.description or texts.title
            case "license":
                return in_stac(texts.license)
            case "keywords":
                return list(texts.keywords) or None
            case "created":
                return timestamp(shown.created_at)
            case "updated":
                return timestamp(shown.updated_at)
            case "version":
                return shown.version.version_id
            case "deprecated":
                return False
            case "geometry":
                return None if cube.spatial.bbox is None else box_geometry(cube.spatial.bbox)
            case "variables":
                return list(cube.fields)
            case "standard_names":
                fields = map(cube.variable, cube.fields)
                return list(dict.fromkeys(each.standard_name for each in fields if each.standard_name))
        start, end = shown.sealed["stac"]["extent"]["temporal"]["interval"][0]
        match name:
            case "start_datetime":
                return start
            case "end_datetime":
                return end
            case "datetime":
                return start if start == end else None
        return shown.sealed["stac"].get(name)

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("facts are asked for by name")

    def __len__(self) -> int:
        raise NotImplementedError("facts are asked for by name")
