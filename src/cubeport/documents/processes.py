"""The documents of OGC API Processes, Part 1: Core 1.0 (OGC 18-062r2): what can be run, and how a job goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from cubeport.catalog.forms.canonical import timestamp
from cubeport.cubes.tables.request import PARAMETERS
from cubeport.documents.ogc import link
from cubeport.documents.tables.forms import TABLE_FORMS

PROCESS = "zonal-statistics"
_REL = "http://www.opengis.net/def/rel/ogc/1.0/"
_TITLE = "A value for each zone and period"
_TEXT = (
    "Statistics of the cells of a dataset in each polygon of a zone set, weighted by the part of each cell that lies in the zone, "
    "for each period. The same as GET /datasets/{id}/table, also for tables that are too large for one answer."
)

_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "zones": {"oneOf": [{"type": "string"}, {"type": "object", "format": "geojson-feature-collection"}]},
    "min-share": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.8},
    "z": {"oneOf": [{"type": "number"}, {"type": "string"}]},
}
_LISTS = ("zone", "statistic", "variables")
"""Inputs that may be a list instead of a text with commas."""


def process_list(public_url: str, *, version: str, may_wait: bool) -> dict[str, Any]:
    """Return the list of processes (7.9.2). *may_wait* says whether jobs can be made."""
    return {
        "processes": [_summary(public_url, version, may_wait=may_wait)],
        "links": [link(f"{public_url}/ogcapi/processes", "self", "The processes")],
    }


def process(public_url: str, *, version: str, may_wait: bool) -> dict[str, Any]:
    """Return the description of ``zonal-statistics`` (7.10.2)."""
    inputs: dict[str, Any] = {
        "dataset": {
            "title": "dataset",
            "description": "The id of a dataset, or id@version",
            "schema": {"type": "string"},
            "minOccurs": 1,
            "maxOccurs": 1,
        }
    }
    for name, text in PARAMETERS.items():
        if name == "estimate":
            continue
        one: Mapping[str, Any] = _SCHEMAS.get(name, {"type": "string"})
        schema = {"oneOf": [one, {"type": "array", "items": one}]} if name in _LISTS else one
        required = name == "zones"
        inputs[name] = {
            "title": name, "description": text, "schema": schema, "minOccurs": int(required), "maxOccurs": 1,
        }  # fmt: skip
    inputs["zones"]["description"] = "The id of a zone set or extent, or a GeoJSON FeatureCollection of polygons"
    for name, text in (("id_property", "identifies"), ("name_property", "names")):
        inputs[name] = {
            "title": name,
            "description": f"For zones that are sent: the property that {text} each zone",
            "schema": {"type": "string"},
            "minOccurs": 0,
            "maxOccurs": 1,
        }
    forms = [each.name for each in TABLE_FORMS]
    inputs["form"] = {
        "title": "form",
        "description": "The form of the table; a table with more than limits.table_rows values is csv",
        "schema": {"type": "string", "enum": forms, "default": forms[0]},
        "minOccurs": 0,
        "maxOccurs": 1,
    }
    media_types = dict.fromkeys(each.media_type for each in TABLE_FORMS)
    schemas = [{"type": "string", "contentMediaType": each} for each in media_types]
    outputs = {"table": {"title": "The table", "description": "In the form that was asked for", "schema": {"oneOf": schemas}}}
    return {**_summary(public_url, version, may_wait=may_wait), "inputs": inputs, "outputs": outputs}


def _summary(public_url: str, version: str, *, may_wait: bool) -> dict[str, Any]:
    base = f"{public_url}/ogcapi/processes/{PROCESS}"
    return {
        "id": PROCESS,
        "title": _TITLE,
        "description": _TEXT,
        "version": version,
        "jobControlOptions": ["sync-execute", *(["async-execute", "dismiss"] if may_wait else [])],
        "outputTransmission": ["value"],
        "keywords": ["zonal statistics", "time series", "aggregation"],
        "links": [
            link(base, "self", "This process"),
            link(f"{base}/execution", f"{_REL}execute", "Run it (POST)"),
        ],
    }


class JobState(Protocol):
    """What the status of a job is made of."""

    @property
    def ingestion_id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def percent(self) -> float: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def finished_at(self) -> datetime | None: ...
    @property
    def error(self) -> Mapping[str, Any] | None: ...


_STATUS = {"retrying": "running", "completed": "successful", "cancelled": "dismissed"}
"""The statuses of a job that have another name in the standard (table 11)."""


def status(job: JobState, public_url: str) -> dict[str, Any]:
    """Return the status of a job (7.12.2)."""
    base = f"{public_url}/ogcapi/jobs/{job.ingestion_id}"
    ended = job.error["detail"] if job.error is not None else None
    times = {"created": job.created_at, "started": job.started_at, "finished": job.finished_at}
    links = [link(base, "self", "This job")]
    if job.status == "completed":
        links.append(link(f"{base}/results", f"{_REL}results", "Its results"))
    return {
        "jobID": job.ingestion_id,
        "processID": PROCESS,
        "type": "process",
        "status": _STATUS.get(job.status, job.status),
        "message": ended or job.title,
        "progress": round(job.percent),
        **{name: timestamp(each) for name, each in times.items() if each is not None},
        "links": links,
    }


def job_list(jobs: Sequence[JobState], public_url: str) -> dict[str, Any]:
    """Return a list of jobs (clause 11)."""
    return {
        "jobs": [status(each, public_url) for each in jobs],
        "links": [link(f"{public_url}/ogcapi/jobs", "self", "The jobs")],
    }


def results(content: str, media_type: str) -> dict[str, Any]:
    """Return the results as a document (7.11.4.2): the table as a value with its media type."""
    return {"table": {"value": content, "mediaType": media_type}}
