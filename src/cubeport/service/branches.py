"""The tree of all published datasets, divided by the beginnings of their ids, so that no node has too many children.

A branch is the beginning of ids. Its children are its datasets if these are few, else the longer beginnings of their ids. Apart
from one count after each commit, the time for a branch does not depend on the number of datasets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cubeport.documents.texts import PublishedView

_FIRST, _BEHIND = "-", "~"
"""The first character that an id can have, and one that sorts after all of them."""


class Listed(Protocol):
    """One page of a list."""

    @property
    def items(self) -> tuple[PublishedView, ...]: ...

    @property
    def matched(self) -> int | None: ...


type Lists = Callable[..., Listed]
"""``datasets(limit=, count=, between=)``, in the order of ids."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The content of a branch."""

    datasets: tuple[tuple[str, str], ...]
    """Id and title."""
    branches: tuple[str, ...] = ()
    """Longer beginnings. Each dataset is below one of them only."""


def branch(datasets: Lists, beginning: str, *, most: int) -> Branch:
    """Return the children of a beginning of ids, at most *most* datasets. The empty beginning is the root."""
    every = (beginning, beginning + _BEHIND)
    if (datasets(limit=1, count=True, between=every).matched or 0) <= most:
        return Branch(_told(datasets(limit=most, between=every)))
    whole: tuple[tuple[str, str], ...] = ()
    found = _below(datasets, beginning)
    if found and found[0] == beginning:
        whole, found = _told(datasets(limit=1, between=every)), found[1:]
    return Branch(whole, tuple(_forked(datasets, each) for each in found))


def parent(datasets: Lists, beginning: str) -> str:
    """Return the parent of this branch: the longest shorter beginning at which ids differ."""
    while beginning:
        beginning = beginning[:-1]
        if len(_below(datasets, beginning, most=2)) > 1:
            return beginning
    return ""


def _told(page: Listed) -> tuple[tuple[str, str], ...]:
    return tuple((each.texts.dataset_id, each.texts.title) for each in page.items)


def _below(datasets: Lists, beginning: str, *, most: int = 100) -> list[str]:
    """Return the beginnings that are one character longer. The beginning itself comes first if it is the id of a dataset."""
    found: list[str] = []
    start = beginning
    while len(found) < most:
        page = datasets(limit=1, between=(start, beginning + _BEHIND))
        if not page.items:
            break
        found.append(page.items[0].texts.dataset_id[: len(beginning) + 1])
        start = found[-1] + (_BEHIND if len(found[-1]) > len(beginning) else _FIRST)
    return found


def _forked(datasets: Lists, beginning: str) -> str:
    """Return the beginning, extended up to the character at which ids differ."""
    while len(found := _below(datasets, beginning, most=2)) == 1 and found[0] != beginning:
        beginning = found[0]
    return beginning
