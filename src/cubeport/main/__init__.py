"""The only place where parts meet: settings to adapters, adapters to the catalog, all of it to commands and apps.

Each name is imported when it is first used: ``cubeport --help`` needs neither the catalog nor the service.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cubeport.main.catalog import Catalog, arm
    from cubeport.main.command import run
    from cubeport.main.connecting import aconnect, aopen_stac, connect, open_stac, queries
    from cubeport.main.service import DEMO, prepare, serve

_HOME = {
    **dict.fromkeys(("Catalog", "arm"), "catalog"),
    "run": "command",
    **dict.fromkeys(("aconnect", "aopen_stac", "connect", "open_stac", "queries"), "connecting"),
    **dict.fromkeys(("DEMO", "prepare", "serve"), "service"),
}

__all__ = ["DEMO", "Catalog", "aconnect", "aopen_stac", "arm", "connect", "open_stac", "prepare", "queries", "run", "serve"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cubeport.main' has no attribute {name!r}")
    value = getattr(import_module(f"cubeport.main.{_HOME[name]}"), name)
    globals()[name] = value
    return value
