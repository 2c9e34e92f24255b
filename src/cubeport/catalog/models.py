"""The documents of a catalog: records, their artifacts and locators, lineage and operations.

All are immutable values. ``from_mapping`` and ``to_mapping`` are inverse, and equal values have equal bytes (``to_json``) after any
round trip through any backend. Unknown kinds of locators are kept unchanged; other unknown fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError, model_validator
from pydantic import Tag as PydanticTag
from pydantic_core import PydanticCustomError, from_json

from cubeport.catalog.forms import wording
from cubeport.catalog.forms.boxes import checked_box
from cubeport.catalog.forms.canonical import TRUSTED, Id, JsonObject, Key, Name, Tag, Timestamp, dumps, new_id, now
from cubeport.errors import InvalidRequest, NewerModel, Problem, SecretRefused

MODEL_VERSION = 1
"""The version of documents that this release writes. Older documents are converted when read; newer ones are neither read nor
written."""

_LIFTS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""``{n: function}`` that convert a document of version n to version n + 1; none yet."""

_REFUSED = "secret-refused"
INLINE_BYTES = 64 * 1024
RECORD_BYTES = 1024 * 1024
METADATA_LEAVES = 2_000

RecordStatus = Literal["active", "planned", "failed", "deprecated", "deleted"]
ArtifactStatus = Literal["available", "planned", "missing", "failed", "external"]
OperationStatus = Literal["planned", "running", "succeeded", "failed", "rolled_back"]
TargetKind = Literal["file", "directory"]


class Model(BaseModel):
    """An immutable value with exactly one JSON text."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    label: ClassVar[str] = "document"

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Self:
        """Return the value of *document*.

        Raises
        ------
        InvalidRequest
            With all problems and their places.
        NewerModel
            If a newer release wrote it.
        """
        try:
            return cls.model_validate(dict(document))
        except ValidationError as exc:
            raise invalid(cls.label, exc, cls) from None

    def to_mapping(self) -> dict[str, Any]:
        """Return the document as plain JSON values, with all fields."""
        return self.model_dump(mode="json")

    def to_json(self, *, indent: bool = False) -> str:
        """Return the canonical JSON text."""
        return dumps(self.to_mapping(), indent=indent)

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with *changes*. Raises InvalidRequest as :meth:`from_mapping`."""
        return self.from_mapping(self.model_dump() | changes)


def invalid(label: str, exc: ValidationError, model: type[BaseModel] | None = None) -> InvalidRequest:
    """Return pydantic's errors as one error that lists them all, without any values. With *model*, it names fields that exist."""
    found = exc.errors(include_input=False, include_url=False)
    problems = [Problem(tuple(e["loc"]), e["type"], wording.message(e, model)) for e in found]
    words = "; ".join(wording.sentence(".".join(map(str, p.loc)) or "document", p.message) for p in problems)
    if any(p.kind == _REFUSED for p in problems):
        advice = "name a profile with storage_options_env in config/profiles.yaml"
        return SecretRefused(f"This {label} is refused: {words}", errors=problems, next_step=advice)
    return InvalidRequest(f"This {label} is not valid: {words}", errors=problems)


# --- locators -------------------------------------------------------------------------------------------------------


class LocalPathLocator(Model):
    """A local path: relative to its profile's root with ``/`` separators, or absolute, which is a reference only."""

    kind: Literal["path"] = "path"
    path: str = Field(min_length=1)
    profile: Name | None = None

    @model_validator(mode="after")
    def _managed_is_relative(self) -> Self:
        if self.profile is None and not self.path.startswith("/"):
            raise ValueError("a path without a profile must be absolute")
        if self.profile is not None:
            _check_relative(self.path)
        return self

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """Return a reference to *path*, made absolute."""
        return cls(path=str(Path(path).absolute()))


class FSSpecLocator(Model):
    """An fsspec URL: relative to its profile's root, or complete, which is a reference only."""

    kind: Literal["urlpath"] = "urlpath"
    urlpath: str = Field(min_length=1)
    profile: Name | None = None

    @model_validator(mode="after")
    def _clean(self) -> Self:
        if self.profile is None:
            check_url(self.urlpath)
        else:
            _check_relative(self.urlpath)
        return self

    @classmethod
    def from_urlpath(cls, urlpath: str) -> Self:
        """Return a reference to *urlpath*."""
        return cls(urlpath=urlpath)


class ExternalURILocator(Model):
    """An external URI. Its bytes can only be fetched with ``fetch``."""

    kind: Literal["uri"] = "uri"
    uri: str = Field(min_length=1)

    @model_validator(mode="after")
    def _clean(self) -> Self:
        check_url(self.uri)
        return self


class PlannedPathLocator(Model):
    """The future place of bytes that do not exist yet."""

    kind: Literal["planned"] = "planned"
    profile: Name
    path: str = Field(min_length=1)

    @model_validator(mode="after")
    def _managed_is_relative(self) -> Self:
        _check_relative(self.path)
        return self


class OpaqueLocator(Model):
    """A place that only its owner understands."""

    kind: Literal["opaque"] = "opaque"
    value: str | None = None


class InlineLocator(Model):
    """The bytes themselves, at most 64 KiB, as text or Base64."""

    kind: Literal["inline"] = "inline"
    text: str | None = None
    data_base64: str | None = None

    @model_validator(mode="after")
    def _one_and_small(self) -> Self:
        if (self.text is None) == (self.data_base64 is None):
            raise ValueError("give text or data_base64, not both")
        if len(self.text.encode() if self.text is not None else (self.data_base64 or "")) * 3 // 4 > INLINE_BYTES:
            raise ValueError(f"inline bytes may have at most {INLINE_BYTES} bytes")
        return self


class BundleMemberLocator(Model):
    """A member of a bundle that has its own locator."""

    kind: Literal["bundle_member"] = "bundle_member"
    bundle: Locator
    member: str = Field(min_length=1)


class UnknownLocator(Model):
    """A kind from a newer release or a missing plugin. Its fields are kept and shown but not interpreted."""

    model_config = ConfigDict(frozen=True, extra="allow")
    kind: str


_LOCATORS: Mapping[str, type[Model]] = {
    "path": LocalPathLocator,
    "urlpath": FSSpecLocator,
    "uri": ExternalURILocator,
    "planned": PlannedPathLocator,
    "opaque": OpaqueLocator,
    "inline": InlineLocator,
    "bundle_member": BundleMemberLocator,
}


def _locator_tag(value: object) -> str:
    kind = value.get("kind") if type(value) is dict or isinstance(value, Mapping) else getattr(value, "kind", None)
    return kind if isinstance(kind, str) and kind in _LOCATORS else "unknown"


type Locator = Annotated[
    Annotated[LocalPathLocator, PydanticTag("path")]
    | Annotated[FSSpecLocator, PydanticTag("urlpath")]
    | Annotated[ExternalURILocator, PydanticTag("uri")]
    | Annotated[PlannedPathLocator, PydanticTag("planned")]
    | Annotated[OpaqueLocator, PydanticTag("opaque")]
    | Annotated[InlineLocator, PydanticTag("inline")]
    | Annotated[BundleMemberLocator, PydanticTag("bundle_member")]
    | Annotated[UnknownLocator, PydanticTag("unknown")],
    Discriminator(_locator_tag),
]

BundleMemberLocator.model_rebuild()


_UNPLAIN = frozenset(("", ".", ".."))


def _check_relative(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or "\0" in path or not _UNPLAIN.isdisjoint(parts):
        raise ValueError("a managed path must be relative, with / between plain segments")


def check_url(url: str) -> str:
    """Return *url* if a record may contain it. Raises ValueError for user info, a ``::`` chain or a query parameter that looks
    secret.
    """
    from cubeport.catalog.forms.redaction import NOT_A_URL, url_secrets

    why = url_secrets(url)
    if why is None:
        return url
    if why == NOT_A_URL:
        raise ValueError(why)
    raise PydanticCustomError(_REFUSED, "{why}", {"why": why})


# --- artifacts, records ---------------------------------------------------------------------------------------------


class Artifact(Model):
    """Bytes that belong to a record, wherever they are stored. Unknown fields are null."""

    label = "artifact"

    artifact_id: str = Field(default_factory=lambda: new_id()[:8], pattern=r"^[0-9a-f]{8}$")
    role: Name = "primary"
    original_name: str | None = None
    """The name of the file in its original place."""
    locator: Locator
    origin: Locator | None = None
    media_type: str | None = None
    format: str | None = None
    target_kind: TargetKind = "file"
    size_bytes: int | None = Field(default=None, ge=0)
    hashes: dict[str, str] = {}
    created_at: Timestamp | None = None
    modified_at: Timestamp | None = None
    checked_at: Timestamp | None = None
    metadata: JsonObject = {}
    status: ArtifactStatus = "available"

    @property
    def managed(self) -> bool:
        """Whether the locator is under a profile. Only managed bytes are ever removed."""
        return getattr(self.locator, "profile", None) is not None


class Lineage(Model):
    """An edge from the record that contains it to another record (by id) or to a URI."""

    label = "lineage edge"

    rel: Name
    target: str = Field(min_length=1, max_length=2048)
    operation_id: Id | None = None
    created_at: Timestamp | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _clean(self) -> Self:
        if "://" in self.target:
            check_url(self.target)
        return self


class TimeSpan(Model):
    """A closed time interval; a null end is open. Both are null for calendars without such instants."""

    start: Timestamp | None = None
    end: Timestamp | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start is None and self.end is None:
            raise ValueError("at least one end must be known")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError("the end is before the start")
        return self


type BBox = Annotated[tuple[float, float, float, float], Field(description="west, south, east, north; CRS84 degrees")]


class Home(Protocol):
    """The open catalog that a record came from."""

    def path(self, name: Any, artifact: str | None = None) -> Path: ...

    def load(self, name: Any, artifact: str | None = None) -> Any: ...


class _Bound:
    """A record's reference to its catalog. It is not part of the record and is not compared, written, copied or pickled with it."""

    def __init__(self, home: Home | None) -> None:
        self.home = home

    def __deepcopy__(self, memo: object) -> _Bound:
        return self

    def __reduce__(self) -> tuple[type[_Bound], tuple[None]]:
        return _Bound, (None,)


class CatalogRecord(Model):
    """What the catalog knows about one thing. The record is the only state; everything else is a projection of it."""

    label = "record"

    model_version: int = MODEL_VERSION
    id: Id = Field(default_factory=new_id)
    key: Key | None = None
    kind: Name = "document"
    schema_name: Name | None = None
    schema_version: str | None = None
    title: str | None = None
    description: str | None = None
    tags: tuple[Tag, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    lineage: tuple[Lineage, ...] = ()
    metadata: JsonObject = {}
    time: TimeSpan | None = None
    bbox: BBox | None = None
    status: RecordStatus = "active"
    deleted_from: RecordStatus | None = None
    version: int = Field(default=1, ge=1)
    created_at: Timestamp = Field(default_factory=now)
    created_by: str | None = None
    updated_at: Timestamp = Field(default_factory=now)
    updated_by: str | None = None
    deleted_at: Timestamp | None = None
    deleted_by: str | None = None
    operation_id: Id | None = None
    visibility: Literal["private", "project", "public"] | None = None

    def of(self, home: Home) -> Self:
        """Return this record with a reference to the open catalog that it came from."""
        # Stored outside the fields, like pydantic's cached properties, so that equality and JSON ignore it.
        self.__dict__["_bound"] = _Bound(home)
        return self

    def __repr__(self) -> str:
        named = "".join(f" {name}={value!r}" for name, value in (("key", self.key), ("title", self.title)) if value is not None)
        state = "" if self.status == "active" else f" {self.status}"
        artifacts = f", {len(self.artifacts)} artifact{'s' if len(self.artifacts) != 1 else ''}"
        return f"<CatalogRecord {self.id[:8]} {self.kind}{named} (version {self.version}{state}{artifacts})>"

    __str__ = __repr__

    def path(self, artifact: str | None = None) -> Path:
        """Return the local path of an artifact (by default the primary one); see ``Catalog.path``."""
        return self._home().path(self, artifact)

    def open(self, artifact: str | None = None) -> Any:
        """Open an artifact by its format: an ``xarray.Dataset``, a data frame, JSON, or a file; see ``Catalog.load``."""
        return self._home().load(self, artifact)

    def _home(self) -> Home:
        bound = self.__dict__.get("_bound")
        if bound is None or bound.home is None:
            raise InvalidRequest(
                "This record was not read from an open catalog.", next_step="ask the catalog: catalog.path(record)"
            )
        home: Home = bound.home
        return home

    @model_validator(mode="before")
    @classmethod
    def _lift(cls, document: Any) -> Any:
        if not isinstance(document, Mapping):
            return document
        written = document.get("model_version", MODEL_VERSION)
        if written == MODEL_VERSION:  # read by the hundred for each list
            return document if type(document) is dict else dict(document)
        if isinstance(written, int) and written > MODEL_VERSION:
            raise NewerModel(
                f"The record has model version {written}; this release knows up to {MODEL_VERSION}.",
                next_step="upgrade cubeport",
            )
        lifted = dict(document)
        while isinstance(version := lifted.get("model_version", MODEL_VERSION), int) and version < MODEL_VERSION:
            lifted = _LIFTS[version](lifted) | {"model_version": version + 1}
        return lifted

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.tags) > 1 and len(set(self.tags)) != len(self.tags):
            raise ValueError("tags must be unique")
        if len(self.artifacts) > 1 and len({each.artifact_id for each in self.artifacts}) != len(self.artifacts):
            raise ValueError("artifact ids must be unique")
        if self.lineage and any(edge.target == self.id for edge in self.lineage):
            raise ValueError("lineage may not point to the record itself")
        if self.bbox is not None:
            checked_box(self.bbox)
        if (self.schema_name is None) != (self.schema_version is None):
            raise ValueError("schema_name and schema_version go together")
        return self


class Operation(Model):
    """One finished unit of work. Its row and the records that it wrote are committed together."""

    label = "operation"

    operation_id: Id = Field(default_factory=new_id)
    parent_id: Id | None = None
    operation_type: Name
    status: OperationStatus
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    parameters: JsonObject = {}
    started_at: Timestamp = Field(default_factory=now)
    ended_at: Timestamp | None = None
    created_by: str | None = None
    log_ref: str | None = None
    error: JsonObject | None = None


def normalise_locator(value: object) -> Any:
    """Return the locator of *value*.

    *value* is a locator, a :class:`~pathlib.Path`, a URL, an absolute path as text, the mapping of a locator, or ``{"kind",
    "value"}`` with the kinds ``local_path fsspec_url external_uri planned_path`` (and ours).

    Raises
    ------
    InvalidRequest
        If it is none of these, or contains something that no record may contain.
    """
    if isinstance(value, Model):
        return value
    if isinstance(value, Path):
        return LocalPathLocator.from_path(value)
    try:
        if isinstance(value, str):
            if not is_uri(value):
                return LocalPathLocator.from_path(value)
            web = "://" not in value or value.startswith(("http://", "https://", "ftp://"))
            return ExternalURILocator(uri=value) if web else FSSpecLocator(urlpath=value)
        if isinstance(value, Mapping):
            return _from_kind(dict(value))
    except ValidationError as exc:
        raise invalid("locator", exc) from None
    raise InvalidRequest(f"A {type(value).__name__} is not a locator; give a path, a URL or a locator's mapping.")


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?=\S)")


def is_uri(text: str) -> bool:
    """Return whether *text* is a URL or an identifier (``https://…``, ``doi:…``, ``hdl:…``) instead of an existing file."""
    return "://" in text or (_SCHEME.match(text) is not None and not Path(text).exists())


_SPOKEN_KINDS = {
    "local_path": ("path", "path"),
    "fsspec_url": ("urlpath", "urlpath"),
    "external_uri": ("uri", "uri"),
    "planned_path": ("planned", "path"),
}


def _from_kind(document: dict[str, Any]) -> Any:
    kind = document.get("kind")
    if not isinstance(kind, str):
        raise InvalidRequest("A locator's mapping needs its kind.")
    kind, field = _SPOKEN_KINDS.get(kind, (kind, kind))
    field = {"planned": "path", "opaque": "value"}.get(kind, field)
    if "value" in document and kind in _LOCATORS and field != "value":
        document[field] = document.pop("value")
        if kind == "planned":
            document.setdefault("profile", "default")
    return _LOCATORS.get(kind, UnknownLocator).model_validate(document | {"kind": kind})


def storable(record: CatalogRecord) -> tuple[dict[str, Any], str]:
    """Return the record's document and its canonical text, in the form in which a backend stores them.

    Raises
    ------
    InvalidRequest
        If it is larger than :data:`RECORD_BYTES`, or its metadata have more than :data:`METADATA_LEAVES` values.
    """
    document = record.to_mapping()
    text = dumps(document)
    if len(text) > RECORD_BYTES // 4 and len(text.encode()) > RECORD_BYTES:
        raise InvalidRequest(f"The record is larger than {RECORD_BYTES} bytes; keep large documents as artifacts.")
    # A value and what parts it from the next are two characters, so that a short text need not be counted.
    if len(text) > 2 * METADATA_LEAVES and (found := _leaves_in(document["metadata"])) > METADATA_LEAVES:
        raise InvalidRequest(f"The metadata have {found} values; a record holds at most {METADATA_LEAVES}.")
    return document, text


def _leaves_in(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_leaves_in, value.values()))
    return sum(map(_leaves_in, value)) if isinstance(value, list) else 1


def trusted_record(document: Mapping[str, Any]) -> CatalogRecord:
    """Return the record of a document from our own store, like ``from_mapping`` but without checking the metadata again."""
    try:
        return CatalogRecord.model_validate(document, context=TRUSTED)
    except ValidationError as exc:
        raise invalid(CatalogRecord.label, exc) from None


def record_from_json(text: str) -> CatalogRecord:
    """Return :func:`trusted_record` of a JSON text. Raises ValueError if it is none."""
    return trusted_record(from_json(text))
