"""Cursors: the place where a list continues, as opaque text that callers pass back."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from cubeport.catalog.forms.canonical import dumps


def write(*values: Any) -> str:
    """Return the text of *values*, which are JSON: URL-safe base64 without padding (RFC 4648, 5)."""
    return base64.urlsafe_b64encode(dumps(list(values)).encode()).decode().rstrip("=")


def read(text: str, count: int) -> list[Any]:
    """Return the *count* values of a cursor. The caller must check them.

    Raises
    ------
    ValueError
        If *text* is not a result of :func:`write`.
    """
    try:
        values = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (binascii.Error, RecursionError) as exc:
        raise ValueError("not a cursor") from exc
    if not isinstance(values, list) or len(values) != count:
        raise ValueError("not a cursor")
    return values


def write_place(seq: int, row_id: str) -> str:
    """Return the cursor after one row of a list ordered by sequence number."""
    return write(seq, row_id)


def read_place(text: str) -> tuple[int, str]:
    """Return the arguments of :func:`write_place`. Raises ValueError."""
    seq, row_id = read(text, 2)
    if type(seq) is not int or not isinstance(row_id, str):
        raise ValueError("not a position in a list")
    return seq, row_id
