"""Documents of records, for ``/records``. Pure functions.

A document says where bytes can be read, never where they are on the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cubeport.catalog.forms.canonical import Timestamp
from cubeport.catalog.history import Edit
from cubeport.catalog.models import Artifact, CatalogRecord, ExternalURILocator, Lineage, TimeSpan
from cubeport.documents.native import Link, NativeDocument


class ArtifactDocument(NativeDocument):
    """Bytes of a record."""

    artifact_id: str
    role: str
    original_name: str | None
    media_type: str | None
    format: str | None
    target_kind: str
    size_bytes: int | None
    hashes: dict[str, str]
    created_at: Timestamp | None
    modified_at: Timestamp | None
    checked_at: Timestamp | None
    metadata: dict[str, Any]
    status: str
    href: str | None
    """Where the bytes can be read: at this server, or at the external address; ``None`` if at neither."""


class RecordDocument(NativeDocument):
    """A record of the catalog, with the names that it has in the catalog."""

    id: str
    key: str | None
    kind: str
    schema_name: str | None
    schema_version: str | None
    title: str | None
    description: str | None
    tags: tuple[str, ...]
    artifacts: tuple[ArtifactDocument, ...]
    lineage: tuple[Lineage, ...]
    metadata: dict[str, Any]
    time: TimeSpan | None
    bbox: tuple[float, float, float, float] | None
    status: str
    version: int
    created_at: Timestamp
    created_by: str | None
    updated_at: Timestamp
    updated_by: str | None
    operation_id: str | None
    """The operation that wrote this version."""
    visibility: str | None
    links: tuple[Link, ...]


class FieldChangeDocument(NativeDocument):
    """A field that an edit changed."""

    field: str
    before: Any
    after: Any


class EditDocument(NativeDocument):
    """One version of a record, and what differs from the version before."""

    version: int
    at: Timestamp
    by: str | None
    operation_id: str | None
    changes: tuple[FieldChangeDocument, ...]


class FacetValue(NativeDocument):
    """A value of a field, and how many matching records have it."""

    value: bool | int | float | str
    records: int


class LineageDocument(NativeDocument):
    """The records that a record was derived from, and those derived from it, as far as the caller sees them."""

    root: str
    edges: tuple[dict[str, str], ...]
    records: dict[str, dict[str, Any] | None]


def record(it: CatalogRecord, public_url: str) -> RecordDocument:
    """Return the document of a record."""
    values = {name: getattr(it, name) for name in RecordDocument.model_fields if name not in ("artifacts", "links")}
    here = address(it, public_url)
    return RecordDocument(
        **values,
        artifacts=tuple(artifact(it, each, public_url) for each in it.artifacts),
        links=(
            Link(href=here, rel="self", title=it.title or it.key or it.id, type="application/json"),
            Link(href=f"{here}?f=html", rel="alternate", title="This record as a page", type="text/html"),
            Link(href=f"{here}/history", rel="version-history", title="Its versions", type="application/json"),
            Link(href=f"{here}/lineage", rel="related", title="Where it comes from", type="application/json"),
            *_dataset(it, public_url),
        ),
    )


def _dataset(it: CatalogRecord, public_url: str) -> tuple[Link, ...]:
    if it.kind != "dataset" or it.key is None:
        return ()
    return (Link(href=f"{public_url}/datasets/{quote(it.key)}", rel="describes", title="The dataset", type="application/json"),)


def artifact(it: CatalogRecord, each: Artifact, public_url: str) -> ArtifactDocument:
    """Return the document of an artifact of the record *it*."""
    values = {name: getattr(each, name) for name in ArtifactDocument.model_fields if name != "href"}
    return ArtifactDocument(**values, href=_href(it, each, public_url))


def _href(it: CatalogRecord, each: Artifact, public_url: str) -> str | None:
    if isinstance(each.locator, ExternalURILocator):
        return each.locator.uri
    if each.status != "available" or each.target_kind == "directory":
        return None
    return f"{address(it, public_url)}/artifacts/{each.artifact_id}"


def address(it: CatalogRecord, public_url: str) -> str:
    """Return the URL of a record."""
    return f"{public_url}/records/{it.id}"


def edit(it: Edit) -> EditDocument:
    """Return the document of one version of a record."""
    document = it.to_mapping()
    for change in document["changes"]:
        if change["field"] == "artifacts":
            change |= {side: change[side] and [_without_place(each) for each in change[side]] for side in ("before", "after")}
    return EditDocument.model_validate(document)


def _without_place(artifact: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an earlier state of an artifact as :func:`artifact` does, but for the address of its bytes: they may be gone."""
    told = {name: value for name, value in artifact.items() if name in ArtifactDocument.model_fields}
    return told | {"href": artifact["locator"].get("uri")}
