"""The tree of all published datasets, divided by the beginnings of their ids, so that no node has too many children.

A branch is the beginning of ids. Its children are its datasets if these are few, else the longer beginnings of their ids. Only
names are read, and never more than a branch can have, so the time does not depend on the number of datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_FIRST, _BEHIND = "-", "~"
"""The first character that an id can have, and one that sorts after all of them."""


type Name = tuple[str, str]
"""The id and the title of a dataset."""


class Names(Protocol):
    """A list of the published datasets in the order of their ids."""

    def __call__(self, *, between: tuple[str, str], limit: int) -> Sequence[Name]:
        """Return the first *limit* names with an id from the first text on and below the second."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The content of a branch."""

    datasets: tuple[Name, ...]
    branches: tuple[str, ...] = ()
    """Longer beginnings. Each dataset is below one of them only."""


def branch(names: Names, beginning: str, *, most: int) -> Branch:
    """Return the children of a beginning of ids, at most *most* datasets. The empty beginning is the root."""
    some = tuple(names(between=(beginning, beginning + _BEHIND), limit=most + 1))
    if len(some) <= most:
        return Branch(some)
    whole: tuple[Name, ...] = ()
    found = _below(names, beginning, first=some[:2])
    if found and found[0][0] == beginning:
        whole, found = some[:1], found[1:]
    return Branch(whole, tuple(_forked(names, longer) if only is None else only for longer, only in found))


def parent(names: Names, beginning: str) -> str:
    """Return the parent of this branch: the longest shorter beginning at which ids differ."""
    while beginning:
        beginning = beginning[:-1]
        if len(_below(names, beginning, most=2)) > 1:
            return beginning
    return ""


def _below(names: Names, beginning: str, *, most: int = 100, first: Sequence[Name] = ()) -> list[tuple[str, str | None]]:
    """Return the beginnings that are one character longer, each with the id of its dataset if it has only one.

    The beginning itself comes first if it is the id of a dataset.

    Parameters
    ----------
    first
        The first two names below the beginning, if they are known.
    """
    found: list[tuple[str, str | None]] = []
    start = beginning
    while len(found) < most:
        two = first or names(between=(start, beginning + _BEHIND), limit=2)
        first = ()
        if not two:
            break
        longer = two[0][0][: len(beginning) + 1]
        only = len(two) < 2 or longer == beginning or not two[1][0].startswith(longer)
        found.append((longer, two[0][0] if only else None))
        if len(two) < 2:
            break
        start = longer + (_BEHIND if len(longer) > len(beginning) else _FIRST)
    return found


def _forked(names: Names, beginning: str) -> str:
    """Return the beginning of several ids, extended up to the character at which they differ."""
    while len(found := _below(names, beginning, most=2)) == 1 and found[0][0] != beginning:
        beginning = found[0][0]
    return beginning
