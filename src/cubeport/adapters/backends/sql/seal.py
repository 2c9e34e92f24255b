"""A digest after each document in the database, which detects flipped bits. SQLite checks the form of its pages, not their content.

A stored text is the document, a line feed (which no JSON text here contains), and a digest of the document and of the columns that
belong to it. Earlier releases wrote texts without a digest. They are still read, and get a digest when they are written next.
"""

from __future__ import annotations

from hashlib import blake2b

from cubeport.adapters.backends.sql.problems import corrupt
from cubeport.errors import CorruptCatalog

_BYTES = 8


def seal(text: str, *columns: object) -> str:
    """Return *text* followed by the digest of *text* and *columns*."""
    return f"{text}\n{_digest(text, columns)}"


def unseal(stored: str, what: str, *columns: object) -> str:
    """Return the document in *stored*. Raises CorruptCatalog with the name *what* if it differs from what was written."""
    text = intact(stored, *columns)
    if text is None:
        raise differs(what)
    return text


def intact(stored: str, *columns: object) -> str | None:
    """Return the document in *stored*, ``None`` if it differs from what was written."""
    text, line_feed, digest = stored.rpartition("\n")
    if not line_feed:
        return stored
    return text if digest == _digest(text, columns) else None


def differs(what: str) -> CorruptCatalog:
    """Return the error for a document that differs from what was written."""
    return corrupt(f"{what} in the catalog's database differs from what was written.")


def _digest(text: str, columns: tuple[object, ...]) -> str:
    whole = "\0".join([text, *map(str, columns)]) if columns else text
    return blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=_BYTES).hexdigest()
