"""The store of a catalog in a folder: its backend and its file. A backend is imported when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cubeport.catalog.backend import CatalogBackend
from cubeport.catalog.catalogfile import CATALOG_FILE, MARK, CatalogFile
from cubeport.errors import CorruptCatalog, InvalidConfiguration, InvalidRequest

STORES: Mapping[str, str] = {"sqlite": "catalog.db", "tinydb": "catalog.json"}
"""The file name of each backend's store."""


def create_backend(inner: Path, kind: str, catalog_id: str, *, allow_network_filesystem: bool = False) -> str:
    """Make the catalog's store and return its id. A store that a killed process left is used as it is."""
    match kind:
        case "sqlite":
            from cubeport.adapters.backends.sql import SqlBackend

            path = inner / "catalog.db"
            allowed = {"allow_network_filesystem": allow_network_filesystem}
            backend = SqlBackend.open(path, **allowed) if path.exists() else SqlBackend.create(path, catalog_id, **allowed)
            try:
                return backend.catalog_id
            finally:
                backend.close()
        case "tinydb":
            from cubeport.adapters.backends.tinydb import TinyBackend

            path = inner / "catalog.json"
            tiny = TinyBackend.open(path) if path.exists() else TinyBackend.create(path, catalog_id)
            try:
                return str(tiny.catalog_id)
            finally:
                tiny.close()
    raise InvalidRequest(f"A catalog is sqlite or tinydb, not {kind[:40]!r}.", next_step="cubeport init --catalog sqlite")


def open_backend(inner: Path, file: CatalogFile, *, read_only: bool) -> CatalogBackend:
    """Open the store that ``catalog.yaml`` names. Raises CorruptCatalog if it belongs to another catalog."""
    options: dict[str, Any] = {
        "lock_path": inner / "locks" / "catalog.lock",
        "read_only": read_only,
        "lock_timeout_s": file.lock_timeout_s,
        "allow_network_filesystem": file.allow_network_filesystem,
    }
    opened = open_store(inner, file.backend, **options)
    if opened.catalog_id != file.catalog_id:
        opened.close()
        raise CorruptCatalog("The catalog's store belongs to another catalog.", next_step="restore a backup of the whole folder")
    backend: CatalogBackend = opened
    return backend


def open_store(inner: Path, kind: str, **options: Any) -> Any:
    """Open the store of this kind. The options are those of its class."""
    match kind:
        case "sqlite":
            from cubeport.adapters.backends.sql import SqlBackend

            return SqlBackend.open(inner / STORES[kind], **options)
        case "tinydb":
            from cubeport.adapters.backends.tinydb import TinyBackend

            options.pop("allow_network_filesystem", None)  # nothing can make a JSON file safe on one
            return TinyBackend.open(inner / STORES[kind], **options)
    raise InvalidConfiguration(f"{MARK}/{CATALOG_FILE}: backend: {kind.partition(':')[0]!r} is not sqlite or tinydb")
