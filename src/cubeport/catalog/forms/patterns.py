"""Patterns with wildcards, matched in at most the product of the lengths; a regular expression can take exponential time."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Wildcard(Enum):
    """A part of a pattern that is not one certain character."""

    TEXT = 1
    """Any text, also none."""
    CHARACTER = 2
    """Any one character."""


def is_like(pattern: Sequence[str | Wildcard], text: str) -> bool:
    """Return whether the whole text matches the pattern, whose parts are single characters and wildcards."""
    p = t = 0
    star, resume = -1, 0  # the one position to return to: the last TEXT, and how far it reached
    while t < len(text):
        if p < len(pattern) and pattern[p] is Wildcard.TEXT:
            star, resume = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in (Wildcard.CHARACTER, text[t]):
            p, t = p + 1, t + 1
        elif star >= 0:
            resume += 1
            p, t = star + 1, resume
        else:
            return False
    return all(each is Wildcard.TEXT for each in pattern[p:])
