"""``/datasets/{dataset_id}/table``: values of zones by period. GET is for a stored zone set, POST for one in the body."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import Field, create_model
from starlette.requests import Request
from starlette.responses import Response

from cubeport.cubes.tables.request import PARAMETERS, TableRequest, parse_table
from cubeport.cubes.tables.table import Table
from cubeport.cubes.zones import MEDIA_TYPE, MOST_BYTES, ZoneSet, read_zone_set
from cubeport.documents.tables.form import TableForm
from cubeport.documents.tables.forms import TABLE_FORMS, table_form
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, Problem
from cubeport.server import incoming, replies, waiting
from cubeport.server.ogcapi import File
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Service
from cubeport.server.zones import MEDIA_TYPES, MOST_VALUES
from cubeport.service.queries import AnswerDeadline, Queries
from cubeport.service.tables import TablePlan, Tables

_THREADS = 4
"""Threads that read zones and plan. Tables are computed in the threads of heavy answers."""
_F = ", ".join(each.name for each in TABLE_FORMS)


def _model(name: str, **more: Any) -> type[incoming.Model]:
    """Return the parameters of a table for the API definition. ``cubes.tables.request`` parses them."""
    fields: dict[str, Any] = {
        each.replace("-", "_"): (str | None, Field(None, alias=each, description=text)) for each, text in PARAMETERS.items()
    }
    fields["f"] = (Annotated[str | None, Field(description=f"The form: {_F}; default {TABLE_FORMS[0].name}")], None)
    return create_model(name, __base__=incoming.Model, **(fields | more))


TableQuery = _model("TableQuery")
PostedTableQuery = _model(
    "PostedTableQuery",
    zones=(str | None, Field(None, exclude=True)),
    id_property=(str | None, Field(None, description="The property that identifies each zone of the body")),
    name_property=(str | None, Field(None, description="The property that names each zone of the body")),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A parsed request for a table, before its plan."""

    shown: PublishedView
    request: TableRequest
    zone_set: ZoneSet
    form: TableForm
    tag: str | None


class TablesFace:
    """Tables of zones, with their routes (``Parts.tables``)."""

    def __init__(
        self, service: Service, queries: Queries, tables: Tables, *, public_url: str, zone_bytes: int = MOST_BYTES
    ) -> None:
        self._service = service
        self._queries = queries
        self._tables = tables
        self._url = public_url
        self._zone_bytes = zone_bytes
        self._light = CapacityLimiter(_THREADS)
        self._heavy = CapacityLimiter(queries.limits.heavy)

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()
        template = "/datasets/{dataset_id}/table"
        files = {
            "statuses": (*READ, 406, 409, 413, 415, 507),
            "media_types": tuple(dict.fromkeys(each.media_type for each in TABLE_FORMS)),
        }
        for method, handler, summary, query, more in (
            ("GET", self.get, "Its values by zone and period, for a zone set of this service", TableQuery, {}),
            ("POST", self.post, "Its values by zone and period, for zones in the body", PostedTableQuery, {"raw_body": MEDIA_TYPE}),
        ):
            router.add_api_route(
                template,
                handler,
                methods=[method],
                summary=summary,
                tags=["Datasets"],
                operation_id=f"{method.lower()}Table",
                **described(template, query=query, **files, **more),  # type: ignore[arg-type]
            )
        return router

    async def get(self, request: Request) -> Response:
        """Answer GET."""
        return await self._answered(request, None)

    async def post(self, request: Request) -> Response:
        """Answer POST."""
        document = await incoming.json_document(request, limit=self._zone_bytes, max_values=MOST_VALUES, media_types=MEDIA_TYPES)
        return await self._answered(request, document)

    async def _answered(self, request: Request, document: Any) -> Response:
        left = threading.Event()
        watching = asyncio.create_task(waiting.watch(request, left))
        try:
            begun = await to_thread.run_sync(self._begun, request, document, left, limiter=self._light)
            if isinstance(begun, Response):
                return begun
            asked, plan = begun
            async with waiting.place(self._queries, left):
                return await to_thread.run_sync(self._made, request, asked, plan, left, limiter=self._heavy)
        finally:
            watching.cancel()

    def _begun(self, request: Request, document: Any, left: threading.Event) -> Response | tuple[_Asked, TablePlan]:
        """Return the answer; for a heavy table, its plan, before it waits for its turn."""
        asked = self._asked(request, document)
        # The version, the zones and the parameters say what the answer is, before any of it is made.
        if asked.tag is not None and replies.fits(request.headers.get("if-none-match"), asked.tag):
            return replies.reply(request, b"", tag=asked.tag, headers=replies.versioned(asked.shown))
        waiting.check_there(left)
        plan = self._tables.plan(asked.shown, asked.request, asked.zone_set, AnswerDeadline(self._tables.limits.seconds, left))
        if asked.request.estimate:
            return replies.reply(request, replies.dumps(self._tables.estimate(plan)), headers=replies.versioned(asked.shown))
        if plan.refusal is not None:
            raise plan.refusal
        if self._tables.heavy(plan):
            return asked, plan
        return self._made(request, asked, plan, left, placed=False)

    def _asked(self, request: Request, document: Any) -> _Asked:
        pairs, problems = incoming.pairs(request.scope["query_string"])
        if problems:
            raise InvalidRequest("The query is not text.", errors=problems)
        given = dict(pairs)
        form = table_form(given.get("f", TABLE_FORMS[0].name))
        if form is None:
            raise InvalidRequest(f"f: may be {_F}.", errors=[Problem(("query", "f"), "not-a-choice", f"may be {_F}")])
        own = {"f", *(("id_property", "name_property") if document is not None else ())}
        asked = parse_table([pair for pair in pairs if pair[0] not in own])
        shown = self._service.shown(request.path_params["dataset_id"])
        if document is not None:
            if asked.zones is not None:
                problem = Problem(("query", "zones"), "clash", "the body has the zones")
                raise InvalidRequest("zones: the body has the zones.", errors=[problem])
            zone_set = read_zone_set(
                "body", document, id_property=given.get("id_property"), name_property=given.get("name_property")
            )
            return _Asked(shown, asked, zone_set, form, None)
        if asked.zones is None:
            names = ", ".join([*self._service.zone_sets(), *self._service.extents()][:20])
            words = f"must be one of the zone sets and extents of this service: {names}" if names else "needs a zone set"
            raise InvalidRequest(
                f"zones {words}.",
                errors=[Problem(("query", "zones"), "missing", words)],
                next_step="Keep zones with PUT /zones/NAME, or send them with POST.",
            )
        zone_set = self._service.zone_set(asked.zones)
        return _Asked(shown, asked, zone_set, form, replies.etag_of(shown, request, form.name, self._url, zone_set.digest))

    def _made(self, request: Request, asked: _Asked, plan: TablePlan, left: threading.Event, *, placed: bool = True) -> Response:
        table = self._tables.answer(plan, left=left, placed=placed)
        content = asked.form.write(table, asked.request.elements)
        headers = {**replies.versioned(asked.shown), **_told(table)}
        if asked.form.suffix == "csv":
            headers["Content-Disposition"] = f'attachment; filename="{table.dataset_id}_{table.zone_set.id}.csv"'
        media_type = asked.form.media_type
        reply = replies.reply(request, content, media_type=media_type, tag=asked.tag, headers=headers)
        sent = self._queries.hold(bytes(reply.body))
        return reply if isinstance(sent, bytes) else File(sent, reply.headers)


def _told(table: Table) -> dict[str, str]:
    """Return how steps became periods, if they did, and why: the request, ``cell_methods``, or an assumption."""
    methods = {f"{each.variable}={each.method} ({each.method_from})" for each in table.columns if each.method is not None}
    return {"Cubeport-Period-Statistic": ", ".join(sorted(methods))} if methods else {}
