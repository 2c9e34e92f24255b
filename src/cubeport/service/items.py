"""Search for items: the retained versions of published datasets, by id, place and time (STAC API, Item Search).

Datasets are walked in the order of their ids and versions newest first, so a token names a place that other people's inserts do not
move. The catalog's index finds the datasets; each version is then compared by its own reach, since an older version may lie
elsewhere than the one that is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cubeport.catalog.forms import cursors
from cubeport.catalog.forms.canonical import timestamp
from cubeport.documents.texts import Shown
from cubeport.errors import InvalidRequest, Problem
from cubeport.service.datasets import Candidate
from cubeport.service.state import Reach, VersionState

DEADLINE_S = 5.0
_FIRST, _LATER = 25, 200
"""Datasets looked at in the first step and in each that follows."""

type Box = tuple[float, float, float, float]


class Finds(Protocol):
    """What a search asks: :class:`~cubeport.service.datasets.Datasets`."""

    def candidates(
        self,
        *,
        bbox: Box | None = None,
        datetime: str | None = None,
        names: Sequence[str] | None = None,
        after: tuple[str, str] | None = None,
        limit: int = 100,
    ) -> list[Candidate]: ...

    def reach(self, version: VersionState) -> Reach: ...

    def items(self, found: Sequence[tuple[Candidate, VersionState]]) -> tuple[Shown, ...]: ...


@dataclass(frozen=True, slots=True)
class ItemSearch:
    """A search that was checked."""

    ids: frozenset[str] | None = None
    collections: frozenset[str] | None = None
    box: Box | None = None
    """The box asked for, or that around the geometry: west, south, east, north in CRS84."""
    datetime: str | None = None
    """``A/B``, ``../B``, ``A/..`` or an instant, RFC 3339."""
    interval: tuple[str | None, str | None] | None = None
    """The same as two timestamps."""
    meets: Callable[[Mapping[str, Any] | None], bool] | None = None
    """Tells whether an item's geometry meets the one asked for."""
    limit: int = 100
    token: str | None = None
    binding: str = ""
    """What the token belongs to: the search without page and token."""

    @property
    def names(self) -> frozenset[str] | None:
        """The datasets that are named, by collection or by item id; ``None`` for all."""
        if self.ids is None:
            return self.collections
        of_ids = frozenset(each.partition("@")[0] for each in self.ids)
        return of_ids if self.collections is None else of_ids & self.collections


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of items, and the token of the next one."""

    items: tuple[Shown, ...]
    token: str | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk stopped."""

    dataset_id: str
    record_id: str
    version_id: str | None = None
    """The last version looked at; ``None`` when that was all of the dataset."""
    created: str | None = None
    """When that version was made: where the walk goes on if retention has removed it since."""


def find(datasets: Finds, search: ItemSearch, *, deadline_s: float = DEADLINE_S) -> ItemPage:
    """Return one page of items. At the deadline it ends early, with a token to go on from.

    Raises
    ------
    InvalidRequest
        For a token of another search.
    """
    place = _read(search.token, search.binding) if search.token else None
    until = time.monotonic() + deadline_s
    found: list[tuple[Candidate, VersionState]] = []
    geometries = search.meets
    names = sorted(search.names) if search.names is not None else None
    step = _FIRST

    def page(stopped: _Place | None) -> ItemPage:
        return ItemPage(datasets.items(found), _write(stopped, search.binding) if stopped else None)

    while True:
        # A place inside a dataset begins with that very dataset.
        inside = place is not None and place.version_id is not None
        after = None if place is None else (place.dataset_id, "" if inside else place.record_id)
        some = datasets.candidates(bbox=search.box, datetime=search.datetime, names=names, after=after, limit=step)
        for candidate in some:
            for version in _behind(candidate, place):
                fits = _fits(datasets, search, candidate, version)
                if fits and geometries is not None:
                    (item,) = datasets.items([(candidate, version)])
                    fits = geometries(item.sealed["item"]["geometry"])
                if fits and len(found) == search.limit:
                    return page(_place(*found[-1]))
                if fits:
                    found.append((candidate, version))
                if time.monotonic() > until:
                    return page(_place(candidate, version))
            place = _Place(candidate.dataset_id, candidate.record_id)
        if len(some) < step:
            return page(None)
        step = _LATER


def _fits(datasets: Finds, search: ItemSearch, candidate: Candidate, version: VersionState) -> bool:
    if search.ids is not None and f"{candidate.dataset_id}@{version.version_id}" not in search.ids:
        return False
    if search.box is None and search.interval is None:
        return True
    reach = datasets.reach(version)
    return (search.box is None or reach.meets(search.box)) and (search.interval is None or reach.during(*search.interval))


def _behind(candidate: Candidate, place: _Place | None) -> tuple[VersionState, ...]:
    versions = candidate.versions
    if place is None or place.version_id is None or place.record_id != candidate.record_id:
        return versions
    ids = [each.version_id for each in versions]
    if place.version_id in ids:
        return versions[ids.index(place.version_id) + 1 :]
    return tuple(each for each in versions if timestamp(each.created_at) < (place.created or ""))


def _place(candidate: Candidate, version: VersionState) -> _Place:
    return _Place(candidate.dataset_id, candidate.record_id, version.version_id, timestamp(version.created_at))


def _write(place: _Place, binding: str) -> str:
    return cursors.write(binding, place.dataset_id, place.record_id, place.version_id, place.created)


def _read(token: str, binding: str) -> _Place:
    try:
        bound, dataset_id, record_id, version_id, created = cursors.read(token, 5)
        if bound != binding or not (isinstance(dataset_id, str) and isinstance(record_id, str)):
            raise ValueError("of another search")
        if not isinstance(version_id, str | None) or not isinstance(created, str | None):
            raise ValueError("not a place")
    except ValueError as exc:
        why = "was not given by this search"
        raise InvalidRequest(f"token: {why}", errors=[Problem(("body", "token"), "invalid-cursor", why)]) from exc
    return _Place(dataset_id, record_id, version_id, created)
