"""Errors that more than one part of the backend raises."""

from __future__ import annotations

from cubeport.errors import CorruptCatalog


def corrupt(message: str) -> CorruptCatalog:
    """Return the error for a database that cannot be read."""
    return CorruptCatalog(message, next_step="restore a backup; `cubeport fsck` reports what is readable")
