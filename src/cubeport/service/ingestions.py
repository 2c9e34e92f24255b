"""What an ingestion is: the request for it, its plan, and the document that tells how it goes ."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from cubeport.catalog.forms.canonical import Timestamp, dumps, new_id, now
from cubeport.catalog.forms.later import Later
from cubeport.cubes.sources import is_zarr
from cubeport.service.templates import PublicId, SourceBlock, TemplateFields

type Status = Literal["planned", "accepted", "running", "retrying", "completed", "failed", "cancelled"]
type Action = Literal["create", "reuse", "append", "extend", "revise", "replace", "rematerialize"]

UNFINISHED: tuple[Status, ...] = ("accepted", "running", "retrying")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def is_address(source: str) -> bool:
    """Return whether a text names something that is not on this machine."""
    return _ELSEWHERE.match(source) is not None


def in_full(source: Any) -> Any:
    """Return the block that a text, or a list of paths, stands for: ``upload:ID``, ``store:PROFILE/KEY``, an address, a path."""
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
"""A path, several paths, an address, ``store:PROFILE/KEY``, ``upload:ID``, or a block."""


class IngestionRequest(_Value):
    """The body of ``POST /ingestions``. Names are the service's, never renamed."""

    dataset_id: PublicId
    start: str | None = None
    end: str | None = None
    extent_id: PublicId | None = None
    overwrite: bool = False
    prefer_zarr: Annotated[bool, Later(True)] = True
    publish: bool | None = None
    """Whether the new version is shown at once; null is what the template says, and a template that says nothing publishes."""
    source: Source | None = None
    mode: Literal["create", "update", "replace"] | None = None
    on_overlap: Literal["error", "skip", "replace"] | None = None
    """Steps that are held, or that several files have: refuse them (the default), or take the first (``skip``) or last ones."""
    template: TemplateFields | None = None
    allow_gaps: bool = False
    skip_bad: bool = False
    """Whether variables that cannot be published are left out and reported, instead of refusing the source."""
    tag: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9._-]{0,63}$")] = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _no_tag_of_ours(self) -> IngestionRequest:
        if self.tag == "latest":
            raise ValueError("a tag may not be called latest")
        return self


class FileOptions(_Value):
    """What the command line may say about the caller's own files; never part of an HTTP request."""

    files: tuple[str, ...] = ()
    """Absolute paths. They need not lie under ``sources.roots``; the gate reads them all the same."""
    attributes: dict[str, Any] = {}
    append_dim: str | None = None
    group: str | None = None
    filter_by_keys: dict[str, str | int] = {}


class Scope(_Value):
    """What was asked for."""

    start: str | None = None
    end: str | None = None
    extent_id: str | None = None
    bbox: tuple[float, float, float, float] | None = None


class IngestionPlan(_Value):
    """What an ingestion will do, decided before any byte is written."""

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
    """How far an ingestion is."""

    phase: Literal[
        "queued", "waiting", "planning", "fetching", "checking", "writing", "measuring", "sealing", "committing", "done"
    ] = "queued"
    done: int = 0
    total: int = 0
    unit: Literal["periods", "bytes"] = "bytes"
    percent: float = 0.0
    message: str | None = None


class Ingestion(_Value):
    """One ingestion, whatever its status. Over HTTP ``request``, ``options`` and ``digest`` stay inside."""

    ingestion_id: str = Field(default_factory=new_id)
    dataset_id: str
    """The public id of the dataset that it makes or changes."""
    status: Status = "accepted"
    kind: Literal["ingestion", "sync"] = "ingestion"
    action: Action | None = None
    reused: bool = False
    changed: tuple[str, ...] = ()
    """What changed next to the data when the held version was reused: names of texts, tags, ``published``."""
    version_id: str | None = None
    request_scope: Scope = Scope()
    coverage: dict[str, Any] | None = None
    warnings: tuple[dict[str, str], ...] = ()
    plan: IngestionPlan | None = None
    progress: Phase = Phase()
    attempt: int = 0
    cancel_requested: bool = False
    created_at: Timestamp = Field(default_factory=now)
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    error: dict[str, Any] | None = None
    """Why it failed, or why its last attempt did."""
    retry_at: Timestamp | None = None
    """When a job that is ``retrying`` begins its next attempt."""

    request: IngestionRequest
    options: FileOptions = FileOptions()
    waited_for: bool = True
    """Whether its caller waits: then a kill ends it as ``interrupted`` instead of queueing it again."""
    created_by: str | None = None
    asker: str | None = None
    """The key that asked: what was uploaded with it can be ingested with it alone."""
    until: str | None = None
    """Of a sync: the last period that the template's availability admits, when no end was asked for."""
    revised: tuple[str, ...] = ()
    """Of a sync: held periods that the source has changed, and that are taken anew."""

    @property
    def digest(self) -> str:
        """The sha256 of what was asked: an identical unfinished request gives the same ingestion."""
        asked = {"request": self.request.model_dump(mode="json"), "options": self.options.model_dump(mode="json")}
        return hashlib.sha256(dumps(asked).encode()).hexdigest()

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in UNFINISHED

    def started(self, at: datetime) -> Ingestion:
        """Return it as running, one attempt further."""
        return self.model_copy(
            update={"status": "running", "attempt": self.attempt + 1, "started_at": at, "retry_at": None, "error": None}
        )
