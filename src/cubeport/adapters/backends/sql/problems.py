"""Errors that more than one part of the backend raises."""

from __future__ import annotations

from cubeport.errors import CatalogMoved, CorruptCatalog


def moved(target: str) -> CatalogMoved:
    """Return the error for a catalog that was converted."""
    message = f"The catalog was converted and is now in {target}."
    return CatalogMoved(message, next_step="open the catalog again", target=target)


def corrupt(message: str) -> CorruptCatalog:
    """Return the error for a database that cannot be read."""
    return CorruptCatalog(message, next_step="restore a backup; `cubeport fsck` reports what is readable")
