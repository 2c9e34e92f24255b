"""``.cubeport/catalog.yaml``: what a catalog is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cubeport.catalog.artifacts.paths import DIRECTORY, FILENAME
from cubeport.catalog.forms import strictyaml
from cubeport.catalog.forms.canonical import Id, Name, dumps
from cubeport.catalog.schemas import Policy
from cubeport.errors import NewerModel, NotACatalog

MARK = ".cubeport"
"""The folder that makes its parent a catalog."""

CATALOG_FILE = "catalog.yaml"

FORMAT = 1
"""The version of ``.cubeport`` that this release writes."""


def written(catalog_id: str, backend: str, **more: Any) -> bytes:
    """Return the text of a new ``catalog.yaml``. *more* contains keys that differ from their defaults."""
    lines = [
        "# What this folder is. You can set templates, schemas and policies here.",
        f"catalog_id: {catalog_id}",
        f"format: {FORMAT}",
        f"backend: {dumps(backend)}",
        *(f"{key}: {dumps(value)}" for key, value in more.items()),
        "",
    ]
    return "\n".join(lines).encode()


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _KindTemplates(_Section):
    directory: str | None = None
    filename: str | None = None


class _Templates(_Section):
    directory: str = DIRECTORY
    filename: str = FILENAME
    kinds: dict[str, _KindTemplates] = {}
    """Templates by the kind of the record. They take precedence over those of a profile."""


class _KindSchema(_Section):
    schema_: str | None = Field(default=None, alias="schema")
    policy: Policy | None = None


class _PluginSettings(_Section):
    disabled: tuple[str, ...] = ()


class CatalogFile(_Section):
    """``.cubeport/catalog.yaml``: what a catalog is."""

    catalog_id: Id
    format: int = FORMAT
    backend: str = "sqlite"
    """``sqlite``, ``tinydb``, or the URL of a database."""
    templates: _Templates = _Templates()
    schemas: dict[str, _KindSchema] = {}
    schema_policy: Policy = "warn"
    plugins: _PluginSettings = _PluginSettings()
    relations: tuple[Name, ...] = ()
    """Lineage relations in addition to the built-in ones, for example ``cites``."""
    lock_timeout_s: float = Field(default=10.0, ge=0)
    allow_network_filesystem: bool = False
    shared: Literal["group"] | None = None
    """``group`` lets all members of the folder's Unix group write, whatever their umask."""


def catalog_file(root: Path) -> CatalogFile:
    """Return the contents of ``.cubeport/catalog.yaml``. Raises NotACatalog, NewerModel, InvalidConfiguration."""
    path = root / MARK / CATALOG_FILE
    if not path.is_file():
        raise NotACatalog(f"{root} is not a catalog.", next_step="cubeport init")
    document = strictyaml.read(path, f"{MARK}/{CATALOG_FILE}")
    if isinstance(document.value, dict) and isinstance(written := document.value.get("format"), int) and written > FORMAT:
        raise NewerModel(f"The catalog has format {written}; this release knows up to {FORMAT}.", next_step="upgrade cubeport")
    return strictyaml.validated(document, CatalogFile, {(): CatalogFile.model_fields})
