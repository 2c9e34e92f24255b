"""Records, artifacts and operations in other standards: RO-Crate 1.1 and OpenLineage. Pure functions; nothing is read.

- `RO-Crate 1.1 <https://w3id.org/ro/crate/1.1>`_ with the Process Run Crate profile: a record is a ``Dataset``, an artifact a
  ``File`` (a folder a ``Dataset``), an operation a ``CreateAction``.
- `OpenLineage 2-0-2 <https://openlineage.io/spec/2-0-2/OpenLineage.json>`_: an operation is a run, with one event for its start
  and one for its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from cubeport.catalog.forms.canonical import dumps, is_id, timestamp
from cubeport.catalog.models import Artifact, CatalogRecord, Operation

CRATE_FILE = "ro-crate-metadata.json"
_CRATE = "https://w3id.org/ro/crate/1.1"
_RUN_CRATE = "https://w3id.org/ro/wfrun/process/0.5"
_PRODUCER = "urn:cubeport"
_RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_RELATIONS: Mapping[str, str] = {
    "derived_from": "isBasedOn",
    "version_of": "isBasedOn",
    "uses": "isBasedOn",
    "member_of": "isPartOf",
}
"""Lineage relations with a schema.org term. All others become an ``additionalProperty``."""


def record_id(record: str) -> str:
    """Return the identifier of a record in a crate, which is its folder."""
    return f"{record}/"


def crate(
    records: Sequence[CatalogRecord],
    operations: Iterable[Operation],
    *,
    name: str,
    description: str,
    published: str,
    places: Mapping[tuple[str, str], str],
    license: str | None = None,
) -> dict[str, Any]:
    """Return the document ``ro-crate-metadata.json``.

    Parameters
    ----------
    published
        The date of the crate (RO-Crate 1.1, 3: ``datePublished``).
    places
        The location of the bytes by record and artifact id: a path in the crate, or a URI. Artifacts without one are omitted.
    license
        A URI. RO-Crate requires one, but if it is unknown, none is invented.
    """
    held = {record.id for record in records}
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": name,
        "description": description,
        "datePublished": published,
        "hasPart": [{"@id": record_id(record.id)} for record in records],
        "conformsTo": {"@id": _RUN_CRATE},
    }
    if license is not None:
        root["license"] = {"@id": license}
    actions = [_action(each, held) for each in operations if each.status == "succeeded"]
    if actions:
        root["mentions"] = [{"@id": each["@id"]} for each in actions]
    people = sorted({each["agent"]["@id"] for each in actions if "agent" in each})
    graph: list[dict[str, Any]] = [
        {"@id": CRATE_FILE, "@type": "CreativeWork", "conformsTo": {"@id": _CRATE}, "about": {"@id": "./"}},
        root,
        {"@id": _RUN_CRATE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {"@id": _PRODUCER, "@type": "SoftwareApplication", "name": "cubeport"},
    ]
    for record in records:
        graph += _record(record, held, places)
    graph += actions
    graph += [{"@id": each, "@type": "Person", "name": each.removeprefix("#user-")} for each in people]
    return {"@context": f"{_CRATE}/context", "@graph": graph}


def _record(record: CatalogRecord, held: set[str], places: Mapping[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    parts = [(each, place) for each in record.artifacts if (place := places.get((record.id, each.artifact_id))) is not None]
    entity: dict[str, Any] = {
        "@id": record_id(record.id),
        "@type": "Dataset",
        "name": record.title or record.key or record.id,
        "identifier": record.key or record.id,
        "dateCreated": timestamp(record.created_at),
        "dateModified": timestamp(record.updated_at),
        "version": str(record.version),
        "hasPart": [{"@id": place} for _, place in parts],
    }
    if record.description:
        entity["description"] = record.description
    if record.tags:
        entity["keywords"] = list(record.tags)
    if record.time is not None:
        ends = (timestamp(end) if end else ".." for end in (record.time.start, record.time.end))
        entity["temporalCoverage"] = "/".join(ends)
    properties = [_property(key, value) for key, value in sorted(record.metadata.items())]
    for edge in record.lineage:
        word = _RELATIONS.get(edge.rel)
        target = record_id(edge.target) if edge.target in held else f"#record-{edge.target}" if is_id(edge.target) else edge.target
        if word is None:
            properties.append(_property(edge.rel, target))
        else:
            entity.setdefault(word, []).append({"@id": target})
    if record.bbox is not None:
        west, south, east, north = record.bbox
        yield {"@id": f"#box-{record.id}", "@type": "GeoShape", "box": f"{south} {west} {north} {east}"}
        yield {"@id": f"#place-{record.id}", "@type": "Place", "geo": {"@id": f"#box-{record.id}"}}
        entity["spatialCoverage"] = {"@id": f"#place-{record.id}"}
    named = [{"@id": f"#{record.id}-{n}", "@type": "PropertyValue", **each} for n, each in enumerate(properties)]
    if named:
        entity["additionalProperty"] = [{"@id": each["@id"]} for each in named]
    yield entity
    yield from named
    yield from (_file(artifact, place) for artifact, place in parts)


def _property(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "value": value if isinstance(value, (str, int, float)) else dumps(value)}


def _file(artifact: Artifact, place: str) -> dict[str, Any]:
    entity: dict[str, Any] = {
        "@id": place,
        "@type": "Dataset" if artifact.target_kind == "directory" else "File",
        "name": artifact.original_name or place.rstrip("/").rpartition("/")[2],
    }
    if artifact.size_bytes is not None:
        entity["contentSize"] = str(artifact.size_bytes)
    if artifact.media_type:
        entity["encodingFormat"] = artifact.media_type
    if digest := artifact.hashes.get("sha256"):
        entity["sha256"] = digest
    if artifact.modified_at is not None:
        entity["dateModified"] = timestamp(artifact.modified_at)
    return entity


def _action(operation: Operation, held: set[str]) -> dict[str, Any]:
    def ids(named: Iterable[str]) -> list[dict[str, str]]:
        found = dict.fromkeys(each.partition("/")[0] if is_id(each.partition("/")[0]) else each for each in named)
        return [{"@id": record_id(each) if each in held else each} for each in found if each in held or "://" in each]

    entity: dict[str, Any] = {
        "@id": f"#operation-{operation.operation_id}",
        "@type": "CreateAction",
        "name": operation.operation_type,
        "instrument": {"@id": _PRODUCER},
        "startTime": timestamp(operation.started_at),
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "object": ids(operation.inputs),
        "result": ids(operation.outputs),
    }
    if operation.ended_at is not None:
        entity["endTime"] = timestamp(operation.ended_at)
    if operation.created_by:
        entity["agent"] = {"@id": f"#user-{operation.created_by}"}
    return entity


_ENDS: Mapping[str, str] = {"succeeded": "COMPLETE", "failed": "FAIL", "rolled_back": "ABORT"}


def run_events(operation: Operation, namespace: str) -> Iterator[dict[str, Any]]:
    """Yield the OpenLineage events of an operation: its start, and its end if it has ended.

    Parameters
    ----------
    namespace
        The namespace of the job and its datasets, which is the catalog.
    """
    run: dict[str, Any] = {"runId": str(UUID(operation.operation_id)), "facets": {}}
    if operation.parent_id is not None:
        parent = {"run": {"runId": str(UUID(operation.parent_id))}, "job": {"namespace": namespace, "name": "batch"}}
        run["facets"]["parent"] = {
            "_producer": _PRODUCER,
            "_schemaURL": "https://openlineage.io/spec/facets/1-0-1/ParentRunFacet.json#/$defs/ParentRunFacet",
            **parent,
        }
    if operation.error is not None:
        run["facets"]["errorMessage"] = {
            "_producer": _PRODUCER,
            "_schemaURL": "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
            "message": str(operation.error.get("message", "")),
            "programmingLanguage": "python",
        }
    common = {
        "run": run,
        "job": {"namespace": namespace, "name": operation.operation_type},
        "producer": _PRODUCER,
        "schemaURL": _RUN_EVENT,
        "inputs": [{"namespace": namespace, "name": each} for each in operation.inputs],
        "outputs": [{"namespace": namespace, "name": each} for each in operation.outputs],
    }
    yield {"eventType": "START", "eventTime": timestamp(operation.started_at), **common}
    if (end := _ENDS.get(operation.status)) is not None and operation.ended_at is not None:
        yield {"eventType": end, "eventTime": timestamp(operation.ended_at), **common}
