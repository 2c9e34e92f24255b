"""Ids of datasets that are spelled like another text, for a caller who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

_MOST = 100
"""Ids that are compared: difflib needs about 20 µs for each."""
_BEGINNING = 3
"""Characters at the beginning that are taken to be right where a catalog has more datasets than that."""
_BEHIND = "~"
"""A character that sorts after all that an id can have."""


class Ids(Protocol):
    """A list of ids in their order."""

    def __call__(self, *, between: tuple[str, str], limit: int) -> Sequence[str]:
        """Return the first *limit* ids from the first text on and below the second."""


def similar(ids: Ids, wanted: str) -> list[str]:
    """Return at most three ids like *wanted*, the most similar first.

    Only the ids that share its beginning are read, so the time does not depend on the number of datasets.
    """
    for length in (0, *range(min(_BEGINNING, len(wanted)), len(wanted) + 1)):
        beginning = wanted[:length]
        found = ids(between=(beginning, beginning + _BEHIND), limit=_MOST + 1)
        if len(found) <= _MOST:
            return difflib.get_close_matches(wanted, [each for each in found if each != wanted], 3)
    return []
