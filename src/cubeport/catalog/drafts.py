"""Convert a caller's description of a new record and its bytes to a draft of the record and the options for adding it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal, TypedDict, get_args

from cubeport.catalog.artifacts.planning import PlannedPlace
from cubeport.catalog.models import CatalogRecord, Lineage, RecordStatus, TimeSpan, normalise_locator
from cubeport.catalog.query import parse_interval
from cubeport.catalog.schemas import Policy
from cubeport.errors import InvalidRequest

OnExists = Literal["error", "skip", "new_version"]
"""What to do if a record with the key already exists."""

Duplicates = Literal["allow", "skip", "error"]
"""What to do if an active record with the same bytes (sha256) already exists."""

type Edge = Lineage | Mapping[str, Any] | tuple[str, Any]
"""A lineage edge as a caller gives it: a relation and a target, which is an id, a key, a record or a URI."""

type Time = TimeSpan | Mapping[str, Any] | tuple[Any, Any] | datetime | date | str
"""A time as a caller gives it: ``2018-06``, ``A/B``, an instant, a pair, or a ``TimeSpan``."""


class RecordFields(TypedDict, total=False):
    """The record fields that all methods for adding accept."""

    id: str | None
    key: str | None
    on_exists: OnExists
    kind: str | None
    title: str | None
    description: str | None
    tags: Iterable[str] | None
    schema_name: str | None
    schema_version: str | None
    schema_policy: Policy | None
    time: Time | None
    bbox: Sequence[float] | None
    status: RecordStatus | None
    visibility: Literal["private", "project", "public"] | None
    lineage: Iterable[Edge] | None
    dry_run: bool


class ArtifactFields(RecordFields, total=False):
    """The additional fields for adding bytes."""

    profile: str | None
    directory_template: str | None
    filename_template: str | None
    role: str | None
    media_type: str | None
    format: str | None
    extract_metadata: bool | Sequence[str]
    require_metadata: bool
    hash: bool
    original_name: str | None
    size_bytes: int | None
    hashes: Mapping[str, str] | None
    duplicates: Duplicates


OF_RECORD = frozenset(
    {"kind", "schema_name", "schema_version", "title", "description", "tags", "time", "bbox", "status", "visibility"}
)
"""The record's own fields that a caller can give, in addition to ``id``, ``key``, ``metadata`` and ``lineage``."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options that all methods for adding share."""

    key: str | None = None
    on_exists: OnExists = "error"
    place: PlannedPlace = field(default_factory=PlannedPlace)
    role: str = "primary"
    media_type: str | None = None
    format: str | None = None
    extract: bool | Sequence[str] = False
    """Whether to run the extractors, or the names of those to run."""
    require_metadata: bool = False
    schema_policy: Policy | None = None
    hash: bool = False
    """Whether to hash references too."""
    dry_run: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The metadata of the artifact."""
    original_name: str | None = None
    size_bytes: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    """The known hashes of the bytes. Written bytes, and bytes fetched later, must match them."""
    duplicates: Duplicates = "allow"
    parent_id: str | None = None
    """The operation that this one is part of, such as a batch."""


def draft(
    metadata: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
    *,
    edge: Callable[[Edge], Lineage],
    newest: Callable[[str], str],
    locator: object = None,
) -> tuple[CatalogRecord, Options]:
    """Return the record that a caller describes, and the options for adding it. Raises InvalidRequest for an unknown name.

    Parameters
    ----------
    edge
        Resolves a lineage edge.
    newest
        Returns the newest version of a schema, which is used if no version is given.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidRequest(f"Metadata must be a mapping of names to values, not a {type(metadata).__name__}.")
    rest = {key: value for key, value in fields.items() if value is not None}
    on_exists = rest.pop("on_exists", "error")
    if on_exists not in get_args(OnExists):
        raise InvalidRequest(f"on_exists is error, skip or new_version, not {on_exists!r}.")
    document = {key: rest.pop(key) for key in OF_RECORD | {"id"} if key in rest}
    document["metadata"] = dict(metadata or {})
    if "schema_name" in document and "schema_version" not in document:
        document["schema_version"] = newest(document["schema_name"])
    document["lineage"] = [edge(each) for each in rest.pop("lineage", ())]
    if "time" in document:
        document["time"] = time_span(document["time"])
    options = Options(
        key=rest.pop("key", None),
        on_exists=on_exists,
        place=PlannedPlace(
            rest.pop("profile", None),
            rest.pop("directory_template", None),
            rest.pop("filename_template", None),
            None if locator is None else normalise_locator(locator),
        ),
        role=rest.pop("role", "primary"),
        media_type=rest.pop("media_type", None),
        format=rest.pop("format", None),
        extract=rest.pop("extract_metadata", False),
        require_metadata=rest.pop("require_metadata", False),
        schema_policy=rest.pop("schema_policy", None),
        hash=rest.pop("hash", False),
        dry_run=rest.pop("dry_run", False),
        original_name=rest.pop("original_name", None),
        size_bytes=rest.pop("size_bytes", None),
        hashes=dict(rest.pop("hashes", {})),
        duplicates=rest.pop("duplicates", "allow"),
    )
    if options.duplicates not in get_args(Duplicates):
        raise InvalidRequest(f"duplicates is allow, skip or error, not {options.duplicates!r}.")
    if rest:
        raise InvalidRequest(f"Unknown: {', '.join(sorted(rest))}.")
    return CatalogRecord.from_mapping(document), options


def time_span(value: Time) -> Any:
    """Return the span of a time in the form that a caller gives. Anything else is returned unchanged, and the model reports the
    error.
    """
    match value:
        case str():
            start, end = parse_interval(value)
            return {"start": start, "end": end}
        case datetime():
            return {"start": _end(value), "end": _end(value)}
        case date():
            return time_span(value.isoformat())
        case (start, end):
            return {"start": _end(start), "end": _end(end, last=True)}
    return value


def _end(value: Any, *, last: bool = False) -> Any:
    """Return one end of a time. A datetime without a time zone is UTC, as everywhere in a catalog."""
    match value:
        case str():
            return parse_interval(value)[1 if last else 0]
        case datetime(tzinfo=None):
            return value.replace(tzinfo=UTC)
        case date() if not isinstance(value, datetime):
            return _end(value.isoformat(), last=last)
    return value
