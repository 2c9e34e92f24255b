"""The documents of jobs: the request of an ingestion, its plan, its progress and result, and those of a table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    WithJsonSchema,
    field_serializer,
    model_validator,
)

from cubeport.catalog.forms.canonical import TRUSTED, Timestamp, dumps, new_id, now
from cubeport.cubes.sources import is_zarr
from cubeport.cubes.write_request import Storage, Verify
from cubeport.errors import NoSuchJob, NotFound
from cubeport.service.templates import PublicId, SourceBlock, TemplateFields

type Status = Literal["planned", "accepted", "running", "retrying", "completed", "failed", "cancelled"]
type Action = Literal["create", "reuse", "append", "extend", "revise", "replace", "rematerialize"]

WAITING: tuple[Status, ...] = ("accepted", "retrying")
"""The states in which a worker may take a job."""

UNFINISHED: tuple[Status, ...] = ("accepted", "running", "retrying")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def is_address(source: str) -> bool:
    """Return whether a text names a source that is not a local path."""
    return _ELSEWHERE.match(source) is not None


def in_full(source: Any) -> Any:
    """Return the source block for a text or a list of paths: ``upload:ID``, ``store:PROFILE/KEY``, a URL, a path."""
    if isinstance(source, list | tuple):
        return {"kind": "files", "paths": source}
    if not isinstance(source, str):
        return source
    if source.startswith("upload:"):
        return {"kind": "upload", "upload": source.removeprefix("upload:")}
    if source.startswith("store:"):
        profile, _, key = source.removeprefix("store:").partition("/")
        return {"kind": "zarr" if is_zarr(key) else "store", "profile": profile, "key": key}
    if is_address(source):
        return {"kind": "url", "template": source}
    return {"kind": "files", "paths": source}


_ELSEWHERE = re.compile(r"upload:|store:|[A-Za-z][A-Za-z0-9+.-]*://")


_FORMS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "object"}]}

type Source = Annotated[SourceBlock, BeforeValidator(in_full), WithJsonSchema(_FORMS)]
"""A path, several paths, a URL, ``store:PROFILE/KEY``, ``upload:ID``, or a source block."""


class IngestionRequest(_Value):
    """The body of ``POST /ingestions``. Its names never change."""

    dataset_id: PublicId
    start: str | None = None
    end: str | None = None
    extent_id: PublicId | None = None
    overwrite: bool = False
    prefer_zarr: bool | None = None
    """The cube is always Zarr. With ``false``, the version also has a NetCDF-4 copy, which a download of all of it sends as it
    lies; with ``true``, it has none. Null is as the template says, or as the existing version has it."""
    publish: bool | None = None
    """Whether to publish the new version immediately; null uses the template, whose default is to publish."""
    source: Source | None = None
    mode: Literal["create", "update", "replace"] | None = None
    on_overlap: Literal["error", "skip", "replace"] | None = None
    """What to do with steps that the dataset already has or that are in several files: refuse them (the default), use the first
    (``skip``), or use the last (``replace``)."""
    template: TemplateFields | None = None
    allow_gaps: bool = False
    skip_bad: bool = False
    """Whether to skip and report variables that cannot be published, instead of refusing the source."""
    storage: Storage | None = None
    """``copy``, ``virtual`` or ``auto``; null is what the template says."""
    verify: Verify | None = None
    """``full`` or ``sample``; null is what the template says."""
    tag: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9._-]{0,63}$")] = None
    attributes: Annotated[dict[str, str | int | float | list[int | float]], Field(max_length=100)] = {}
    """Global attributes to set, as strings, numbers or lists of numbers."""
    append_dim: Annotated[str | None, Field(max_length=200)] = None
    """The dimension along which to join several files; null is time."""
    dry_run: bool = False

    @field_serializer("template")
    def _as_given(self, template: TemplateFields | None, info: FieldSerializationInfo) -> dict[str, Any] | None:
        """Write only the fields that were given: an update repeats the steps and chunks of its dataset for those that were not."""
        return None if template is None else template.model_dump(mode=info.mode, exclude_unset=True)

    @model_validator(mode="after")
    def _no_tag_of_ours(self) -> IngestionRequest:
        if self.tag == "latest":
            raise ValueError("a tag may not be called latest")
        return self


class FileOptions(_Value):
    """Options of the command line for the caller's own files. They are never part of an HTTP request."""

    files: tuple[str, ...] = ()
    """Absolute paths. They need not be below ``sources.roots``, but only the gate reads them."""
    attributes: dict[str, Any] = {}
    append_dim: str | None = None
    group: str | None = None
    filter_by_keys: dict[str, str | int] = {}


class Scope(_Value):
    """The requested area and periods."""

    start: str | None = None
    end: str | None = None
    extent_id: str | None = None
    bbox: tuple[float, float, float, float] | None = None


class IngestionPlan(_Value):
    """What an ingestion will do. It is decided before any byte is written."""

    action: Action
    reason: str
    held: dict[str, Any] | None = None
    fetch: tuple[dict[str, Any], ...] = ()
    replace: tuple[dict[str, Any], ...] = ()
    gaps: tuple[dict[str, Any], ...] = ()
    estimate: dict[str, int | None] = {}
    base_version_id: str | None = None
    warnings: tuple[dict[str, str], ...] = ()


class Phase(_Value):
    """The progress of a job."""

    phase: Literal[
        "queued", "waiting", "planning", "fetching", "checking", "writing", "measuring", "sealing", "committing", "done"
    ] = "queued"
    done: int = 0
    total: int = 0
    unit: Literal["periods", "bytes"] = "bytes"
    percent: float = 0.0
    message: str | None = None


class Job(_Value):
    """Work that continues after its request: what every kind of job has. Over HTTP its id is called ``ingestion_id``."""

    ingestion_id: str = Field(default_factory=new_id)
    dataset_id: str
    """The id of the dataset that it makes, changes or reads."""
    status: Status = "accepted"
    kind: Literal["ingestion", "sync", "table"] = "ingestion"
    warnings: tuple[dict[str, str], ...] = ()
    progress: Phase = Phase()
    attempt: int = 0
    cancel_requested: bool = False
    created_at: Timestamp = Field(default_factory=now)
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    error: dict[str, Any] | None = None
    """Why it, or its last attempt, failed."""
    retry_at: Timestamp | None = None
    """When a job with status ``retrying`` begins its next attempt."""
    waited_for: bool = True
    """Whether its caller waits for it. If it is then killed, it ends as ``interrupted`` instead of being queued again."""
    created_by: str | None = None
    asker: str | None = None
    """The API key of the request. Only the key that sent an upload can ingest it."""

    @property
    def digest(self) -> str:
        """What an identical job has in common with this one; its id if every job is one of its own."""
        return self.ingestion_id

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.status not in UNFINISHED

    def started(self, at: datetime) -> Self:
        """Return it with status ``running`` and one more attempt."""
        begun = {"status": "running", "attempt": self.attempt + 1, "started_at": at, "progress": Phase(phase="planning")}
        return self.model_copy(update={**begun, "retry_at": None, "error": None})


class Ingestion(Job):
    """One ingestion with any status. ``request``, ``options`` and ``digest`` are not shown over HTTP."""

    kind: Literal["ingestion", "sync"] = "ingestion"
    action: Action | None = None
    reused: bool = False
    changed: tuple[str, ...] = ()
    """What changed besides the data if the existing version was reused: names of texts, tags, ``published``."""
    version_id: str | None = None
    request_scope: Scope = Scope()
    coverage: dict[str, Any] | None = None
    plan: IngestionPlan | None = None

    request: IngestionRequest
    options: FileOptions = FileOptions()
    until: str | None = None
    """For a sync without an end: the last period that the template's availability allows."""
    revised: tuple[str, ...] = ()
    """For a sync: existing periods that the source has changed and that are fetched again."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The global attributes to set."""
        return {**self.request.attributes, **self.options.attributes}

    @property
    def append_dim(self) -> str | None:
        """The dimension along which files are joined; ``None`` is time."""
        return self.options.append_dim or self.request.append_dim

    @property
    def digest(self) -> str:
        """The sha256 of the request. An identical unfinished request returns the same ingestion."""
        asked = {"request": self.request.model_dump(mode="json"), "options": self.options.model_dump(mode="json")}
        return hashlib.sha256(dumps(asked).encode()).hexdigest()


class TableJob(Job):
    """A table of zones that is made as a job. Its zones and its result are files (``service.tablejobs``)."""

    kind: Literal["table"] = "table"
    version_id: str
    """The version that is read, which stays the same whatever is published meanwhile."""
    parameters: tuple[tuple[str, str], ...]
    """The parameters of the table, as a request writes them."""
    form: str
    as_document: bool = False
    """Whether the answer is the JSON document of a process, with the table as a value."""
    title: str
    """What it makes, in words."""
    waited_for: bool = False

    @property
    def percent(self) -> float:
        """How much of it is done."""
        return self.progress.percent


type Work = Ingestion | TableJob
"""A job of any kind."""


def job_of(document: Mapping[str, Any]) -> Work:
    """Return the job of a stored document. Its request was accepted by the rules of its time, which are not applied again."""
    return (TableJob if document.get("kind") == "table" else Ingestion).model_validate(document, context=TRUSTED)


def no_ingestion(ingestion_id: str) -> NotFound:
    """Return the error for an ingestion that does not exist, or that the caller may not see."""
    return NotFound(f"There is no ingestion {ingestion_id[:40]!r}.", what="ingestion", next_step="cubeport jobs")


def no_job(job_id: str) -> NoSuchJob:
    """Return the error for a job that does not exist, or that the caller may not see."""
    return NoSuchJob(f"There is no job {job_id[:40]}.", what="job")
