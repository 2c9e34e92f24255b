"""Apply edits to records. Pure functions from a record and an edit to the new record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from cubeport.catalog.drafts import OF_RECORD, Time, time_span
from cubeport.catalog.hooks import set_paths
from cubeport.catalog.models import CatalogRecord, Lineage, Model, RecordStatus
from cubeport.errors import InvalidRequest, StaleRecord

_EDITED = OF_RECORD | {"key", "lineage"}
_SET_BY_THE_CATALOG = frozenset(CatalogRecord.model_fields) - _EDITED - {"metadata"}


class EditedFields(TypedDict, total=False):
    """The record's own fields that an edit can set; ``None`` clears a field."""

    key: str | None
    kind: str
    title: str | None
    description: str | None
    tags: Iterable[str] | None
    schema_name: str | None
    schema_version: str | None
    time: Time | None
    bbox: Sequence[float] | None
    status: RecordStatus
    visibility: Literal["private", "project", "public"] | None
    lineage: Iterable[Lineage] | None


class DescribedFields(TypedDict, total=False):
    """The fields of an artifact that an edit can set; ``None`` clears a field."""

    role: str
    media_type: str | None
    format: str | None
    original_name: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """The changes to a record."""

    set: Mapping[str, Any] = field(default_factory=dict)
    """Metadata to set, by dotted path."""
    unset: Iterable[str] = ()
    metadata: Mapping[str, Any] | None = None
    """Replaces all metadata."""
    tags_add: Iterable[str] = ()
    tags_remove: Iterable[str] = ()
    link: Iterable[Lineage] = ()
    unlink: frozenset[tuple[str, str]] = frozenset()
    """The relation and target of the edges to remove."""
    fields: Mapping[str, Any] = field(default_factory=dict)


def demand_version(record: CatalogRecord, version: int | None) -> None:
    """Raise StaleRecord unless the record has this version. ``None`` accepts any version."""
    if version is not None and record.version != version:
        raise StaleRecord(f"The record is at version {record.version}, not {version}.", next_step=f"cubeport show {record.id}")


def edited(record: CatalogRecord, edit: Edit) -> CatalogRecord:
    """Return *record* after the edit. Raises InvalidRequest for a field that only the catalog sets."""
    fields = dict(edit.fields)
    if refused := _SET_BY_THE_CATALOG & fields.keys():
        raise InvalidRequest(f"{', '.join(sorted(refused))}: only the catalog sets these.")
    if unknown := fields.keys() - _EDITED:
        raise InvalidRequest(f"Unknown: {', '.join(sorted(unknown))}.")
    if fields.get("status") == "deleted" or record.status == "deleted":
        raise InvalidRequest("Use delete to delete a record, and restore to restore it.", next_step=f"cubeport restore {record.id}")
    metadata = set_paths(dict(record.metadata if edit.metadata is None else edit.metadata), edit.set)
    for path in edit.unset:
        metadata = without(metadata, path.split("."))
    tags = [*(fields.pop("tags", record.tags) or ()), *edit.tags_add]
    gone = {*edit.tags_remove}
    if missing := edit.unlink - {(each.rel, each.target) for each in record.lineage}:
        rel, target = min(missing)
        raise InvalidRequest(f"The record has no edge {rel} to {target}.", next_step=f"cubeport lineage {record.id}")
    edges = {(each.rel, each.target): each for each in (*record.lineage, *edit.link)}
    if fields.get("time") is not None:
        fields["time"] = time_span(fields["time"])
    document = record.to_mapping() | {
        "metadata": metadata,
        "tags": [tag for tag in dict.fromkeys(tags) if tag not in gone],
        "lineage": [each.to_mapping() for key, each in edges.items() if key not in edit.unlink],
        **{key: value.to_mapping() if isinstance(value, Model) else value for key, value in fields.items()},
    }
    return CatalogRecord.from_mapping(document)


def without(metadata: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Return *metadata* without the value at *path*, or unchanged if there is none."""
    rest = dict(metadata)
    if len(path) == 1:
        rest.pop(path[0], None)
    elif isinstance(inner := rest.get(path[0]), Mapping):
        rest[path[0]] = without(inner, path[1:])
    return rest
