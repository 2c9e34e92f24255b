"""Make ids from the names of files and entries."""

from __future__ import annotations

import re

_LONGEST = 64


def of_name(text: str) -> str | None:
    """Return the id for *text*, or ``None`` if nothing remains. It is lower case, with other characters than a-z, 0-9, _ and - as
    -.
    """
    cleaned = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9_-]", "-", text.lower())).strip("-_")
    return cleaned[:_LONGEST].rstrip("-_") or None
