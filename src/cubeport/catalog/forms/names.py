"""Ids made of the names that people give to files and entries."""

from __future__ import annotations

import re

_LONGEST = 64


def of_name(text: str) -> str | None:
    """Return the id that *text* makes, or ``None``: lower case; what is not a-z, 0-9, _ or - becomes -."""
    cleaned = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9_-]", "-", text.lower())).strip("-_")
    return cleaned[:_LONGEST].rstrip("-_") or None
