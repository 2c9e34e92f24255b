"""Make ids from the names of files and entries."""

from __future__ import annotations

import re
import unicodedata

_LONGEST = 64
_SMALL = {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h", "ß": "ss"}
_LETTERS = str.maketrans(_SMALL | {letter.upper(): plain.capitalize() for letter, plain in _SMALL.items() if letter not in "ıß"})
"""Letters that Unicode does not decompose to a base letter and a mark."""


def unmarked(text: str) -> str:
    """Return *text* without diacritics."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).translate(_LETTERS)


def latin(text: str) -> str:
    """Return *text* in lower case and without diacritics."""
    return unmarked(text.casefold())


def of_name(text: str) -> str | None:
    """Return the id for *text*, or ``None`` if nothing remains. It is lower case and without diacritics, with other characters than
    a-z, 0-9, _ and - as -.
    """
    cleaned = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9_-]", "-", latin(text))).strip("-_")
    return cleaned[:_LONGEST].rstrip("-_") or None
