"""The engines that store versions, one module for each, found by name.

A module has three classes for the roles in ``cubeport.service.ports``: ``Writer``, ``Reader`` and ``Lister``. Each is made with the
data folder of the instance. To add an engine, add a module and a line in :data:`ENGINES`.
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
