"""Texts in pictures: each character is 6 by 13 pixels. The font is 6x13 of the X Window System, which is in the public domain."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

WIDE, HIGH = 6, 13
"""The size of a character in pixels."""


def written(text: str) -> Array:
    """Return which pixels of a text are ink, ``(13, 6 * characters)``. A character that is not in the font is a question mark."""
    import numpy as np

    font = _font()
    rows = np.frombuffer(b"".join(font.get(each, font["?"]) for each in text), "uint8").reshape(-1, HIGH)
    ink: Array = np.unpackbits(rows[:, :, None], axis=2)[:, :, :WIDE].transpose(1, 0, 2).reshape(HIGH, -1).astype(bool)
    return ink


@cache
def _font() -> Mapping[str, bytes]:
    stored = json.loads(files(__package__).joinpath("font-6x13.json").read_text(encoding="utf-8"))
    rows = bytes.fromhex(stored["rows"])
    return {each: rows[HIGH * at : HIGH * (at + 1)] for at, each in enumerate(stored["characters"])}
