"""cubeport publishes NetCDF and Zarr data as STAC, raw Zarr and OGC API coverages, all from one record.

Each public name is imported when it is first used, so ``import cubeport`` is fast.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

# eccodes loads an old SQLite (3.26) for the whole process, which a later import of sqlite3 would be bound to. Of that package, this
# module is what loads the library. A Python without it can still use everything but a catalog in SQLite.
with suppress(ImportError):
    import _sqlite3  # noqa: F401

if TYPE_CHECKING:
    from cubeport.catalog.artifacts.storage import StoragePlan
    from cubeport.catalog.artifacts.writers import (
        FunctionArtifactWriter,
        UnzipSingleFileArtifactWriter,
        WriteResult,
        path_source,
    )
    from cubeport.catalog.extraction import Extracted, MetadataExtractor
    from cubeport.catalog.hooks import HookContext, HookResult
    from cubeport.catalog.models import (
        Artifact,
        BundleMemberLocator,
        CatalogRecord,
        ExternalURILocator,
        FSSpecLocator,
        InlineLocator,
        Lineage,
        LocalPathLocator,
        Locator,
        OpaqueLocator,
        Operation,
        PlannedPathLocator,
        TimeSpan,
        UnknownLocator,
        normalise_locator,
    )
    from cubeport.catalog.query import Page, Query
    from cubeport.catalog.schemas import Schema, ValidationResult
    from cubeport.catalog.terms import Term
    from cubeport.catalog.testing.backend import BackendContract
    from cubeport.catalog.work.unit_of_work import UnitOfWork
    from cubeport.errors import CubeportError
    from cubeport.main import Catalog, aconnect, aopen_stac, connect, open_stac, queries

_HOMES = {
    "cubeport.catalog.models": (
        "Artifact",
        "BundleMemberLocator",
        "CatalogRecord",
        "ExternalURILocator",
        "FSSpecLocator",
        "InlineLocator",
        "Lineage",
        "LocalPathLocator",
        "Locator",
        "OpaqueLocator",
        "Operation",
        "PlannedPathLocator",
        "TimeSpan",
        "UnknownLocator",
        "normalise_locator",
    ),
    "cubeport.catalog.query": ("Page", "Query"),
    "cubeport.catalog.terms": ("Term",),
    "cubeport.catalog.artifacts.storage": ("StoragePlan",),
    "cubeport.catalog.artifacts.writers": ("FunctionArtifactWriter", "UnzipSingleFileArtifactWriter", "WriteResult", "path_source"),
    "cubeport.catalog.extraction": ("Extracted", "MetadataExtractor"),
    "cubeport.catalog.hooks": ("HookContext", "HookResult"),
    "cubeport.catalog.schemas": ("Schema", "ValidationResult"),
    "cubeport.catalog.testing.backend": ("BackendContract",),
    "cubeport.catalog.work.unit_of_work": ("UnitOfWork",),
    "cubeport.errors": ("CubeportError",),
    "cubeport.main": ("Catalog", "aconnect", "aopen_stac", "connect", "open_stac", "queries"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Artifact",
    "BackendContract",
    "BundleMemberLocator",
    "Catalog",
    "CatalogRecord",
    "CubeportError",
    "ExternalURILocator",
    "Extracted",
    "FSSpecLocator",
    "FunctionArtifactWriter",
    "HookContext",
    "HookResult",
    "InlineLocator",
    "Lineage",
    "LocalPathLocator",
    "Locator",
    "MetadataExtractor",
    "OpaqueLocator",
    "Operation",
    "Page",
    "PlannedPathLocator",
    "Query",
    "Schema",
    "StoragePlan",
    "Term",
    "TimeSpan",
    "UnitOfWork",
    "UnknownLocator",
    "UnzipSingleFileArtifactWriter",
    "ValidationResult",
    "WriteResult",
    "aconnect",
    "aopen_stac",
    "connect",
    "normalise_locator",
    "open_stac",
    "path_source",
    "queries",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cubeport' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
