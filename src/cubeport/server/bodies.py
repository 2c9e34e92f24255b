"""The models of bodies of the native face, and the list of all models in ``/openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from cubeport.cubes.difference import AttributeDifference, Compared, DimensionDifference, Variables
from cubeport.documents import native as documents
from cubeport.documents.native import DatasetDetail, DatasetSummary, Link, Version
from cubeport.server import incoming
from cubeport.service.describe import TextChanges
from cubeport.service.ingestions import IngestionRequest
from cubeport.service.replicate import Replica
from cubeport.service.sync import SyncDetail


class PublishRequest(incoming.Model):
    """The body of ``POST /datasets/{dataset_id}/publish``. An empty body publishes the head."""

    version: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] = None


class RollbackRequest(incoming.Model):
    """The body of ``POST /datasets/{dataset_id}/rollback``."""

    to: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="A version id or tag")]


class TagRequest(incoming.Model):
    """The body of ``PUT /datasets/{dataset_id}/tags/{tag}``."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="A version id or tag")] = "latest"
    force: bool = False


class ChangeDocument(documents.NativeDocument):
    """One change that readers can see."""

    cursor: str
    time: str
    type: str
    reason: str
    dataset_id: str
    version_id: str | None
    href: str


class ChangeList(documents.NativeDocument):
    """Changes in the order of their commits. Continue with ``next_cursor``."""

    kind: str
    items: tuple[ChangeDocument, ...]
    next_cursor: str


class Citation(documents.NativeDocument):
    """How a version is cited."""

    text: str
    bibtex: str


class ReplicaRequest(incoming.Model):
    """The body of ``POST /replicas/{digest}``."""

    replica: Replica
    publish: bool = True
    ref: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
            description="The version id or tag that was asked for; null is the published version. A tag is set here too",
        ),
    ] = None


class MissingObjects(documents.NativeDocument):
    """The missing objects of a version."""

    kind: str
    digest: str
    missing: tuple[str, ...]
    """The sha256 of all missing objects, or of some if there are many."""
    missing_objects: int
    missing_bytes: int


class Replication(documents.NativeDocument):
    """The outcome of receiving a version."""

    kind: str
    dataset_id: str
    version_id: str
    added: bool
    sent_objects: int
    sent_bytes: int
    changed: list[str]


class DiffVersion(documents.NativeDocument):
    """One of the two versions of a difference."""

    version_id: str
    created_at: str
    digest: str
    seq: int | None


class VersionDiff(documents.NativeDocument):
    """The differences between two versions."""

    kind: str
    dataset_id: str
    old: Annotated[DiffVersion, Field(alias="from")]
    new: Annotated[DiffVersion, Field(alias="to")]
    equal: bool
    dimensions: tuple[DimensionDifference, ...]
    variables: Variables
    attributes: tuple[AttributeDifference, ...]
    compared: Compared


class IngestionDocument(documents.NativeDocument):
    """One ingestion with any status."""

    ingestion_id: str | None
    dataset_id: str
    status: str
    dataset: DatasetSummary | None
    kind: str
    action: str | None
    reused: bool
    changed: tuple[str, ...]
    version_id: str | None
    request_scope: dict[str, Any]
    coverage: dict[str, Any] | None
    warnings: tuple[dict[str, str], ...]
    plan: dict[str, Any] | None
    progress: dict[str, Any] | None
    attempt: int
    cancel_requested: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: dict[str, Any] | None
    retry_at: str | None
    links: tuple[Link, ...]


class UploadDocument(documents.NativeDocument):
    """An uploaded file."""

    upload_id: str
    filename: str
    size_bytes: int
    sha256: str
    expires_at: str


class SyncRequest(incoming.Model):
    """The body of ``POST /sync/{dataset_id}``. An empty body syncs up to the newest available period."""

    end: Annotated[str | None, Field(max_length=40, description="The last period to ingest")] = None
    publish: Annotated[bool | None, Field(description="Whether to publish the new version; null keeps the status")] = None
    prefer_zarr: Annotated[
        bool | None, Field(description="false: with a NetCDF copy; true: without; null: as the version has it")
    ] = None
    on_overlap: Annotated[
        Literal["error", "skip", "replace"] | None,
        Field(description="What to do with steps that the dataset has already; null: as the template says"),
    ] = None


class SyncResponse(documents.NativeDocument):
    """The outcome of a sync."""

    sync_id: str | None
    status: str
    message: str
    dataset: DatasetDetail | None
    sync_detail: SyncDetail


SCHEMAS = (
    SyncRequest,
    SyncResponse,
    SyncDetail,
    IngestionRequest,
    IngestionDocument,
    UploadDocument,
    PublishRequest,
    RollbackRequest,
    TagRequest,
    TextChanges,
    ChangeList,
    VersionDiff,
    Replica,
    ReplicaRequest,
    MissingObjects,
    Replication,
    DatasetDetail,
    DatasetSummary,
    Version,
    documents.ExtentDocument,
    documents.TemplateDocument,
    documents.ZoneSetSummary,
    Citation,
    documents.Listing[documents.ZoneSetSummary],
    documents.Listing[DatasetSummary],
    documents.Listing[Version],
    documents.Listing[documents.ExtentDocument],
    documents.TemplateList,
    documents.Listing[IngestionDocument],
)
"""The models in ``/openapi.json``."""
