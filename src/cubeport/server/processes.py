"""OGC API Processes, Part 1: Core 1.0 (OGC 18-062r2): tables of zones as the process ``zonal-statistics``, at once or as a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from cubeport.cubes.tables.request import parse_table
from cubeport.cubes.zones import read_zone_set
from cubeport.documents import processes
from cubeport.documents.processes import PROCESS
from cubeport.documents.tables.form import TableForm
from cubeport.documents.tables.forms import TABLE_FORMS, table_form
from cubeport.errors import CubeportError, InvalidRequest, NoSuchJob, NoSuchProcess, Problem, ResultNotReady
from cubeport.server import incoming, negotiation, replies
from cubeport.server.auth import caller_of, may_know_of
from cubeport.server.ogcapi import DocumentQuery
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Service
from cubeport.server.tables import TablesFace
from cubeport.server.zones import MOST_VALUES
from cubeport.service.ingestions import TableJob, no_job
from cubeport.service.tablejobs import TableJobs, TableOrder

_MEMBERS = frozenset({"inputs", "outputs", "response", "subscriber"})
_OF_SENT = ("id_property", "name_property")


class JobsQuery(DocumentQuery):
    """The parameters of ``GET /ogcapi/jobs`` (clause 11)."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ProcessesFace:
    """The process and its jobs, with their routes (``Parts.processes``).

    Parameters
    ----------
    jobs
        ``None`` for a read-only instance, which makes no jobs: everything is answered at once.
    """

    def __init__(
        self, service: Service, tables: TablesFace, jobs: TableJobs | None, *, public_url: str, version: str, body_bytes: int
    ) -> None:
        self._service = service
        self._tables = tables
        self._jobs = jobs
        self._url = public_url
        self._version = version
        self._body_bytes = body_bytes

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()

        def add(method: str, template: str, handler: Callable[..., Any], summary: str, name: str, **options: Any) -> None:
            router.add_api_route(
                template,
                handler,
                methods=[method],
                summary=summary,
                tags=["OGC API"],
                operation_id=name,
                **described(template, **options),
            )

        documents = {"query": DocumentQuery, "statuses": (*READ, 406)}
        one = "/ogcapi/processes/{process_id}"
        add("GET", "/ogcapi/processes", self.list, "What can be computed", "ogc.getProcesses", **documents)
        add("GET", one, self.process, "A process, with its inputs", "ogc.getProcess", **documents)
        add(
            "POST",
            f"{one}/execution",
            self.execute,
            "Compute it at once, or as a job with Prefer: respond-async",
            "ogc.execute",
            raw_body=negotiation.JSON,
            statuses=(*READ, 406, 409, 413, 415, 507),
            success={200: "The table, or the results as a document", 201: "A job; its Location has the status"},
            media_types=tuple(dict.fromkeys([negotiation.JSON, *(each.media_type for each in TABLE_FORMS)])),
        )
        add("GET", "/ogcapi/jobs", self.jobs, "Your jobs, newest first", "ogc.getJobs", query=JobsQuery)
        add("GET", "/ogcapi/jobs/{job_id}", self.job, "How a job goes on", "ogc.getStatus", **documents)
        add("GET", "/ogcapi/jobs/{job_id}/results", self.results, "The table of a job", "ogc.getResult")
        add("DELETE", "/ogcapi/jobs/{job_id}", self.dismiss, "Cancel a job, or remove its result", "ogc.dismiss")
        return router

    # --- what can be run ---

    def list(self, request: Request) -> Response:
        """Answer ``/ogcapi/processes``."""
        incoming.query(request.scope["query_string"], DocumentQuery)
        document = processes.process_list(self._url, version=self._version, may_wait=self._jobs is not None)
        return replies.by_content(request, document)

    def process(self, request: Request) -> Response:
        """Answer ``/ogcapi/processes/{process_id}``."""
        incoming.query(request.scope["query_string"], DocumentQuery)
        _check(request)
        return replies.by_content(request, processes.process(self._url, version=self._version, may_wait=self._jobs is not None))

    async def execute(self, request: Request) -> Response:
        """Answer ``/ogcapi/processes/{process_id}/execution``: with the table, or with a job."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        _check(request)
        body = await incoming.json_document(
            request, limit=self._body_bytes, max_values=MOST_VALUES, media_types=(negotiation.JSON,)
        )
        inputs, form, as_document = _parsed(body)

        def make() -> TableOrder:
            return self._order(inputs, form, as_document=as_document)

        jobs = self._jobs
        wait_s, _ = incoming.preferred_wait(request.headers.getlist("prefer"), 1.0)
        if wait_s > 0 or jobs is None:  # a server that makes no jobs may answer at once (RFC 7240, 4.1)
            return await self._tables.answered(request, make)
        owner = caller_of(request).name
        job = await asyncio.to_thread(lambda: jobs.begin(make(), owner=owner))
        headers = {"Location": f"{self._url}/ogcapi/jobs/{job.ingestion_id}", "Preference-Applied": "respond-async"}
        return replies.fresh(replies.dumps(processes.status(job, self._url)), status=201, headers=headers)

    def _order(self, inputs: Mapping[str, Any], form: TableForm, *, as_document: bool) -> TableOrder:
        given = dict(inputs)
        dataset = given.pop("dataset", None)
        if not isinstance(dataset, str):
            raise _wrong("inputs.dataset", "must be the id of a dataset")
        sent = given.pop("zones", None) if isinstance(given.get("zones"), Mapping) else None
        of_sent = [given.pop(name, None) for name in _OF_SENT]
        pairs = [(name, _text(name, value)) for name, value in given.items()]
        try:
            asked = parse_table(pairs)
        except InvalidRequest as refused:
            errors = [Problem(("body", "inputs", *each.loc[1:]), each.kind, each.message) for each in refused.errors]
            raise InvalidRequest("The inputs are not valid.", errors=errors) from refused
        shown = self._service.shown(dataset)
        if sent is None:
            zone_set = self._tables.zone_set(asked.zones)
        else:
            id_property, name_property = (None if each is None else _text("id_property", each) for each in of_sent)
            zone_set = read_zone_set("body", sent, id_property=id_property, name_property=name_property)
        weighing = self._tables.weighing(asked)
        return TableOrder(shown, asked, zone_set, form, as_document=as_document, weighing=weighing, parameters=tuple(pairs))

    # --- jobs ---

    def jobs(self, request: Request) -> Response:
        """Answer ``/ogcapi/jobs``: the jobs of the caller's key; an admin key sees all."""
        asked = incoming.query(request.scope["query_string"], JobsQuery)
        found = [] if self._jobs is None else self._jobs.jobs(**_caller(request), limit=asked.limit)
        found = [each for each in found if may_know_of(request, self._service, each.dataset_id)]
        return replies.fresh(replies.dumps(processes.job_list(found, self._url)))

    def job(self, request: Request) -> Response:
        """Answer ``/ogcapi/jobs/{job_id}``."""
        incoming.query(request.scope["query_string"], DocumentQuery)
        job, _ = self._found(request)
        headers = {} if job.finished else {"Retry-After": "1"}
        return replies.fresh(replies.dumps(processes.status(job, self._url)), headers=headers)

    def results(self, request: Request) -> Response:
        """Answer ``/ogcapi/jobs/{job_id}/results``: the table, in the form that was asked for."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        job, jobs = self._found(request)
        if job.status == "failed" and job.error is not None:
            raise CubeportError.from_mapping(job.error)
        if job.status == "cancelled":
            raise NoSuchJob("The job was dismissed, so it has no result.", what="result")
        if job.status != "completed":
            raise ResultNotReady("The job has no result yet.", what="result", next_step="look again later")
        form = table_form(job.form)
        media_type = negotiation.JSON if job.as_document or form is None else form.media_type
        return FileResponse(jobs.result(job), media_type=media_type, headers={"Cache-Control": "no-store"})

    def dismiss(self, request: Request) -> Response:
        """Answer DELETE ``/ogcapi/jobs/{job_id}``."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        job, jobs = self._found(request)
        return replies.fresh(replies.dumps(processes.status(jobs.dismiss(job), self._url)))

    def _found(self, request: Request) -> tuple[TableJob, TableJobs]:
        if self._jobs is None:
            raise NoSuchJob("This service runs no jobs.", what="job")
        job = self._jobs.job(request.path_params["job_id"], **_caller(request))
        if not may_know_of(request, self._service, job.dataset_id):  # it became private after the table was ordered
            raise no_job(job.ingestion_id)
        return job, self._jobs


def _caller(request: Request) -> dict[str, Any]:
    caller = caller_of(request)
    return {"owner": caller.name, "sees_all": caller.may("admin")}


def _check(request: Request) -> None:
    if request.path_params["process_id"] != PROCESS:
        raise NoSuchProcess("There is no such process.", what="process", next_step=f"{PROCESS} is the only one")


def _parsed(body: Any) -> tuple[Mapping[str, Any], TableForm, bool]:
    """Return the inputs without their wrapping, the form, and whether the answer is a document (7.11.2). Raises InvalidRequest."""
    if not isinstance(body, Mapping) or not isinstance(body.get("inputs"), Mapping):
        raise _wrong("inputs", "must be an object, and is needed")
    if unknown := sorted(set(map(str, body)) - _MEMBERS):
        raise _wrong(unknown[0], "is not a member of a request to execute")
    if "subscriber" in body:
        raise _wrong("subscriber", "is not possible: this service sends no notifications; ask for the status of the job")
    response = body.get("response", "raw")
    if response not in ("raw", "document"):
        raise _wrong("response", "must be raw or document")
    inputs = {str(name): _value(str(name), value) for name, value in body["inputs"].items()}
    return inputs, _form(inputs.pop("form", None), body.get("outputs") or {"table": {}}), response == "document"


def _form(named: Any, outputs: Any) -> TableForm:
    """Return the form by its name, or by the media type that the output should have."""
    if not isinstance(outputs, Mapping) or set(outputs) != {"table"} or not isinstance(outputs["table"], Mapping):
        raise _wrong("outputs", "may have one member: table")
    if outputs["table"].get("transmissionMode", "value") != "value":
        raise _wrong("outputs", "transmissionMode must be value; a job (Prefer: respond-async) has an address")
    wanted = outputs["table"].get("format")
    media_type = wanted.get("mediaType") if isinstance(wanted, Mapping) else None
    fitting = [each for each in TABLE_FORMS if media_type in (None, each.media_type)]
    form = next((each for each in fitting if named in (None, each.name)), None)
    if form is None:
        raise _wrong("form", f"must be one of {', '.join(f'{each.name} ({each.media_type})' for each in TABLE_FORMS)}")
    return form


def _value(name: str, value: Any) -> Any:
    """Return the value of an input, which may be qualified (``{"value": …}``). Raises InvalidRequest for one by reference."""
    if isinstance(value, Mapping):
        if "href" in value and "type" not in value:
            raise _wrong(f"inputs.{name}", "is a reference, and this service fetches nothing: send the value itself")
        if "value" in value:
            return value["value"]
    return value


def _text(name: str, value: Any) -> str:
    """Return an input as the text that the address of a table would have. Raises InvalidRequest."""
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case Sequence() if all(isinstance(each, str | int | float) for each in value):
            return ",".join(map(str, value))
    raise _wrong(f"inputs.{name}", "must be a text, a number or a list of them")


def _wrong(name: str, words: str) -> InvalidRequest:
    return InvalidRequest(f"{name[:60]} {words}.", errors=[Problem(("body", *name[:60].split(".")), "malformed", words)])
