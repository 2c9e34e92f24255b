"""A digest behind every document in the database, so that a flipped bit is found: SQLite checks its pages' form, not their content.

A stored text is the document, a line feed (which no JSON text here has), and a digest of the document and of the columns that
belong to it. A text without digest was written by an earlier release; it is read as it is, and gets one when it is written next.
"""

from __future__ import annotations

from hashlib import blake2b

from cubeport.adapters.backends.sql.sqlite import corrupt

_BYTES = 8


def seal(text: str, *columns: object) -> str:
    """Return *text* with the digest of it and of *columns*."""
    return f"{text}\n{_digest(text, columns)}"


def unseal(stored: str, what: str, *columns: object) -> str:
    """Return the document in *stored*. Raises CorruptCatalog, naming *what*, if it differs from what was written."""
    text, line_feed, digest = stored.rpartition("\n")
    if not line_feed:
        return stored
    if digest != _digest(text, columns):
        raise corrupt(f"{what} in the catalog's database differs from what was written.")
    return text


def _digest(text: str, columns: tuple[object, ...]) -> str:
    whole = "\0".join([text, *map(str, columns)])
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=_BYTES).hexdigest()
