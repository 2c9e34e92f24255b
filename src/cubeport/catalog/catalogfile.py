"""``.cubeport/catalog.yaml``: what a catalog is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from cubeport.catalog.artifacts.paths import DIRECTORY, FILENAME
from cubeport.catalog.forms import strictyaml
from cubeport.catalog.forms.canonical import Id, Name, dumps
from cubeport.catalog.retention import APART
from cubeport.catalog.schemas import Policy
from cubeport.catalog.terms import canonical_field
from cubeport.errors import InvalidFilter, NewerModel, NotACatalog

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


def _field(text: str) -> str:
    try:
        return canonical_field(text)
    except InvalidFilter as exc:
        raise ValueError(f"{text!r} is not the name of a field: {exc.message.partition('\n')[0]}") from None


class _KindSchema(_Section):
    schema_: str | None = Field(default=None, alias="schema")
    policy: Policy | None = None
    required: tuple[Annotated[str, AfterValidator(_field)], ...] = ()
    """Fields that each record of the kind must have, named as in a search: ``title``, ``site``, ``instrument.id``."""


class _KindRetention(_Section):
    delete_days: float = Field(gt=0)


class _Retention(_Section):
    purge_deleted_days: float | None = Field(default=None, ge=0)
    kinds: dict[Name, _KindRetention] = {}

    @field_validator("kinds")
    @classmethod
    def _without_datasets(cls, kinds: dict[str, _KindRetention]) -> dict[str, _KindRetention]:
        if APART in kinds:
            raise ValueError("datasets have the retention of their versions: retention in config/service.yaml")
        return kinds


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
    retention: _Retention = _Retention()
    """How long ``gc`` keeps deleted records, and records of a kind."""
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
        place = "" if root == Path.cwd() else f" {shlex.quote(str(root))}"
        raise NotACatalog(f"{root} is not a catalog.", next_step=f"cubeport init{place}")
    document = strictyaml.read(path, f"{MARK}/{CATALOG_FILE}")
    if isinstance(document.value, dict) and isinstance(written := document.value.get("format"), int) and written > FORMAT:
        raise NewerModel(f"The catalog has format {written}; this release knows up to {FORMAT}.", next_step="upgrade cubeport")
    return strictyaml.validated(document, CatalogFile, {(): CatalogFile.model_fields})
