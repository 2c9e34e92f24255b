"""Names of records that are spelled like another text, for a caller who mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

_MOST = 100
"""Keys that are compared: difflib needs about 20 µs for each."""
_BEGINNING = 3
"""Characters at the beginning that are taken to be right where a catalog has more records than that."""
_BEHIND = "~"
"""A character that sorts after all that most keys have."""


class Keys(Protocol):
    """A list of keys in their order, such as ids of datasets."""

    def __call__(self, *, between: tuple[str, str], limit: int) -> Sequence[str]:
        """Return the first *limit* keys from the first text on and below the second."""


def similar(keys: Keys, wanted: str) -> list[str]:
    """Return at most three keys like *wanted*, the most similar first.

    Only the keys that share its beginning are read, so the time does not depend on the number of records.
    """
    for length in (0, *range(min(_BEGINNING, len(wanted)), len(wanted) + 1)):
        beginning = wanted[:length]
        found = keys(between=(beginning, beginning + _BEHIND), limit=_MOST + 1)
        if len(found) <= _MOST:
            return difflib.get_close_matches(wanted, [each for each in found if each != wanted], 3)
    return []


def did_you_mean(near: Sequence[str]) -> str:
    """Return the end of a sentence that names *near*; a full stop if there are none."""
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
