"""How versions are stored: one module an engine, found by its name.

A module has three classes, the roles of ``cubeport.service.ports``: ``Writer``, ``Reader`` and ``Lister``, each made with
the data folder of the instance. A new engine is a new module and a new line in :data:`ENGINES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

ENGINES: Mapping[str, str] = {
    "zarr": "cubeport.adapters.engines.zarr",
}
"""The module of each engine."""


def role(name: str, of: str) -> Any:
    """Return the class ``Writer``, ``Reader`` or ``Lister`` of an engine. Raises LookupError for an unknown engine."""
    return getattr(import_module(ENGINES[name]), of)
