"""What the service keeps of a dataset: its state in the catalog's record, and one row a version beside it.

The record (kind ``dataset``, key = dataset id) holds the texts and the pointers; ``version`` rows hold what never changes about a
version, ``cube`` rows the large immutable rest (description and sealed documents), read once and cached by version id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cubeport.catalog.backend import Row
from cubeport.catalog.forms.canonical import Timestamp
from cubeport.catalog.models import CatalogRecord
from cubeport.cubes.description import CubeDescription
from cubeport.documents.texts import Texts, VersionRef
from cubeport.service.ingestions import Scope

type VersionKind = Literal["created", "appended", "extended", "revised", "replaced", "rematerialized"]

KIND = "dataset"
VERSION, CUBE, JOB, CHANGE = "version", "cube", "job", "change"
"""The service's row tables."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Publication(_Value):
    """Whether faces show the dataset."""

    status: Literal["published", "unpublished"] = "unpublished"
    published_at: Timestamp | None = None


class DatasetState(_Value):
    """``metadata.dataset`` of the record."""

    texts: Texts
    latest: str | None = None
    """The version that faces show."""
    head: str | None = None
    """The version that the next ingestion builds on."""
    tags: dict[str, str] = {}
    publication: Publication = Publication()
    source_dataset_id: str | None = None
    """The template; ``None`` when the source was given directly."""
    extent_id: str | None = None
    extent_digest: str | None = None
    template_digest: str | None = None
    variables: tuple[str, ...] = ()
    """Names of the data variables of what is shown, for searches."""
    shown_since: Timestamp | None = None
    """When ``latest`` last moved."""

    @property
    def published(self) -> bool:
        """Whether the dataset is on the faces."""
        return self.publication.status == "published" and self.latest is not None

    @classmethod
    def of(cls, record: CatalogRecord) -> DatasetState:
        """Return the state that *record* holds."""
        return cls.model_validate(record.metadata["dataset"])

    def metadata(self) -> dict[str, Any]:
        """Return it as the record's metadata."""
        return {"dataset": self.model_dump(mode="json")}


class VersionState(_Value):
    """One immutable state of a cube: the small part, read for lists."""

    version_id: str
    seq: int
    parent_id: str | None = None
    kind: VersionKind
    created_at: Timestamp
    format: str = "zarr"
    copies: tuple[dict[str, Any], ...] = ()
    coverage: dict[str, Any]
    request_scope: Scope
    added: tuple[dict[str, Any], ...] = ()
    replaced: tuple[dict[str, Any], ...] = ()
    size_bytes: int
    digest: str
    ingestion_id: str
    template_digest: str | None = None
    engine: str
    request_digest: str
    """sha256 of source identities and options: equal means the same ingestion again."""
    sources: tuple[dict[str, Any], ...] = ()
    shown_at: Timestamp | None = None
    """When it first was ``latest``; a version that never was is 404 to readers."""
    warnings: tuple[dict[str, str], ...] = ()

    def ref(self) -> VersionRef:
        """Return what documents say of it."""
        return VersionRef(
            version_id=self.version_id,
            created_at=self.created_at,
            digest=self.digest,
            size_bytes=self.size_bytes,
            format=self.format,
        )

    def row(self, owner: str, *, state: str = "retained", revision: int = 0) -> Row:
        """Return the row of the version of the record *owner*."""
        return Row(VERSION, self.version_id, self.model_dump(mode="json"), owner, state, self.seq, revision)


class Cube(_Value):
    """The large part of a version: immutable, cached by version id."""

    description: CubeDescription
    documents: dict[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Cube:
        """Return the cube that a row's document says."""
        return cls.model_validate(document)

    def row(self, version_id: str, owner: str) -> Row:
        """Return its row."""
        return Row(CUBE, version_id, self.model_dump(mode="json"), owner)


def shown_since(state: DatasetState, version: VersionState) -> datetime:
    """Return when the shown version became the shown one."""
    return state.shown_since or version.created_at
