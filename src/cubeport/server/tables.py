"""``/datasets/{dataset_id}/table``: values of zones by period. GET is for a stored zone set, POST for one in the body."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import Field, create_model
from starlette.requests import Request
from starlette.responses import Response

from cubeport.cubes.tables.request import PARAMETERS, TableRequest, parse_table
from cubeport.cubes.tables.table import Table
from cubeport.cubes.view import point
from cubeport.cubes.zones import MEDIA_TYPE, MOST_BYTES, ZoneSet, of_box, read_zone_set
from cubeport.documents.processes import PROCESS, results
from cubeport.documents.tables.drawn import plot_form
from cubeport.documents.tables.forms import TABLE_FORMS, table_form
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, Problem, TooLarge
from cubeport.server import incoming, negotiation, replies, waiting
from cubeport.server.ogcapi import PlotQuery
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Service
from cubeport.server.ranges import AnswerFile
from cubeport.server.zones import MEDIA_TYPES, MOST_VALUES
from cubeport.service.queries import AnswerDeadline, Queries
from cubeport.service.tablejobs import TableOrder
from cubeport.service.tables import TablePlan, Tables

_THREADS = 4
"""Threads that read zones and plan. Tables are computed in the threads of heavy answers."""
_F = ", ".join(each.name for each in TABLE_FORMS)


def _model(name: str, **more: Any) -> type[incoming.Model]:
    """Return the parameters of a table for the API definition. ``cubes.tables.request`` parses them."""
    fields: dict[str, Any] = {
        each.replace("-", "_"): (str | None, Field(None, alias=each, description=text)) for each, text in PARAMETERS.items()
    }
    fields["f"] = (Annotated[str | None, Field(description=f"The form: {_F}; default {TABLE_FORMS[0].name}; html is a page")], None)
    return create_model(name, __base__=incoming.Model, **(fields | more))


TableQuery = _model("TableQuery")
PostedTableQuery = _model(
    "PostedTableQuery",
    zones=(str | None, Field(None, exclude=True)),
    id_property=(str | None, Field(None, description="The property that identifies each zone of the body")),
    name_property=(str | None, Field(None, description="The property that names each zone of the body")),
)


class TablesFace:
    """Tables of zones, with their routes (``Parts.tables``)."""

    def __init__(
        self,
        service: Service,
        queries: Queries,
        tables: Tables,
        *,
        public_url: str,
        zone_bytes: int = MOST_BYTES,
        may_wait: bool = False,
    ) -> None:
        self._service = service
        self._queries = queries
        self._tables = tables
        self._url = public_url
        self._zone_bytes = zone_bytes
        self.may_wait = may_wait
        """Whether a table can be made as a job."""
        self._light = CapacityLimiter(_THREADS)
        self._heavy = CapacityLimiter(queries.limits.heavy)

    def offered(self, shown: PublishedView, field: str) -> bool:
        """Return whether there are tables of a field."""
        return self._tables.offered(shown, field)

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()
        template = "/datasets/{dataset_id}/table"
        files = {
            "statuses": (*READ, 406, 409, 413, 415, 507),
            "media_types": (*dict.fromkeys(each.media_type for each in TABLE_FORMS), "text/html"),
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
        return await self.answered(request, lambda: self._asked(request, document))

    async def plot(self, request: Request, query: PlotQuery) -> Response:
        """Answer a plot of departures from normal: the table of the cell at a place, drawn."""
        return await self.answered(request, lambda: self._at_place(request, query))

    def _at_place(self, request: Request, query: PlotQuery) -> TableOrder:
        """Return the order of the table of one cell: that of a box at the place which is smaller than any cell."""
        lon, lat = (float(each) for each in point(query.at)[6:-1].split(" "))
        names = {"variables": query.v, "datetime": query.t, "z": query.z, "subset": query.subset, "period": query.period}
        names |= {"relative-to": query.relative_to, "departure": query.departure}
        asked = parse_table([(name, value) for name, value in names.items() if value is not None])
        shown = self._service.shown(request.path_params["dataset_id"])
        side = _within_cell(shown)
        zone_set = of_box("place", f"{lon:g}, {lat:g}", (lon, lat, lon + side, lat + side))
        form = table_form("csv") if query.f == "csv" else None
        tag = replies.etag_of(shown, request, query.f or "svg", self._url)
        return TableOrder(shown, asked, zone_set, form or plot_form(query.w), tag)

    async def answered(self, request: Request, make: Callable[[], TableOrder]) -> Response:
        """Answer with the table that *make* orders, which a thread calls. Raises what the table raises."""
        left = threading.Event()
        watching = asyncio.create_task(waiting.watch(request, left))
        try:
            begun = await to_thread.run_sync(self._begun, request, make, left, limiter=self._light)
            if isinstance(begun, Response):
                return begun
            asked, plan = begun
            async with waiting.place(self._queries, left):
                return await to_thread.run_sync(self._made, request, asked, plan, left, limiter=self._heavy)
        finally:
            watching.cancel()

    def _begun(
        self, request: Request, make: Callable[[], TableOrder], left: threading.Event
    ) -> Response | tuple[TableOrder, TablePlan]:
        """Return the answer; for a heavy table, its plan, before it waits for its turn."""
        asked = make()
        # The version, the zones and the parameters say what the answer is, before any of it is made.
        if asked.tag is not None and replies.fits(request.headers.get("if-none-match"), asked.tag):
            return replies.reply(request, b"", tag=asked.tag, headers=replies.versioned(asked.shown))
        waiting.check_there(left)
        plan = self._tables.plan(
            asked.shown,
            asked.request,
            asked.zone_set,
            AnswerDeadline(self._tables.limits.seconds, left),
            weighing=asked.weighing,
        )
        if asked.request.estimate:
            return replies.reply(request, replies.dumps(self._tables.estimate(plan)), headers=replies.versioned(asked.shown))
        if plan.refusal is not None:
            raise self._with_alternatives(request, asked, plan, plan.refusal)
        if self._tables.heavy(plan):
            return asked, plan
        return self._made(request, asked, plan, left, placed=False)

    def _asked(self, request: Request, document: Any) -> TableOrder:
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
            return TableOrder(shown, asked, zone_set, form, weighing=self.weighing(asked))
        zone_set, weighing = self.zone_set(asked.zones), self.weighing(asked)
        made_of = zone_set.digest if weighing is None else f"{zone_set.digest} {weighing.version.version_id}"
        tag = replies.etag_of(shown, request, form.name, self._url, made_of)
        return TableOrder(shown, asked, zone_set, form, tag, weighing=weighing)

    def weighing(self, asked: TableRequest) -> PublishedView | None:
        """Return the dataset that says what cells count, if the request names one. Raises NotFound."""
        return None if asked.weights is None else self._service.shown(asked.weights[0])

    def zone_set(self, zone_set_id: str | None) -> ZoneSet:
        """Return a zone set, or an extent as one. Raises InvalidRequest without an id, NotFound."""
        if zone_set_id is not None:
            return self._service.zone_set(zone_set_id)
        names = ", ".join([*self._service.zone_sets(), *self._service.extents()][:20])
        words = f"must be one of the zone sets and extents of this service: {names}" if names else "needs a zone set"
        raise InvalidRequest(
            f"zones {words}.",
            errors=[Problem(("query", "zones"), "missing", words)],
            next_step="Keep zones with PUT /zones/NAME, or send them with POST.",
        )

    def _with_alternatives(self, request: Request, asked: TableOrder, plan: TablePlan, refusal: TooLarge) -> TooLarge:
        """Return the refusal with what would be answered: the first periods that fit, and a job for the whole table."""
        ways: list[dict[str, Any]] = []
        base = f"{self._url}/datasets/{asked.shown.texts.dataset_id}"
        pairs = incoming.pairs(request.scope["query_string"])[0]
        fits = int(len(plan.chosen) * refusal.members["limit"] / refusal.members["value"])
        if fits and request.method == "GET":
            starts = [plan.grouping.starts[plan.chosen[each]] for each in (0, fits - 1)]
            kept = [pair for pair in pairs if pair[0] != "datetime"]
            query = urlencode([*kept, ("datetime", f"{starts[0]}/{starts[1]}")], safe=",/:")
            ways.append({"title": f"The first {fits} of {len(plan.chosen)} periods", "href": f"{base}/table?{query}"})
        if self.may_wait and asked.request.zones is not None and not asked.as_document:
            names = {"f": "form"}
            inputs = {"dataset": asked.shown.texts.dataset_id, **{names.get(name, name): value for name, value in pairs}}
            ways.append(
                {
                    "title": "The whole table as a job: POST body to this address",
                    "href": f"{self._url}/ogcapi/processes/{PROCESS}/execution",
                    "method": "POST",
                    "headers": {"Content-Type": "application/json", "Prefer": "respond-async"},
                    "body": {"inputs": inputs},
                }
            )
        return TooLarge(refusal.message, next_step=refusal.next_step, **{**refusal.members, "alternatives": ways})

    def _made(
        self, request: Request, asked: TableOrder, plan: TablePlan, left: threading.Event, *, placed: bool = True
    ) -> Response:
        table = self._tables.answer(plan, left=left, placed=placed)
        content = asked.form.write(table, asked.request.elements)
        headers = {**replies.versioned(asked.shown), **_told(table)}
        if asked.form.suffix == "csv" and not asked.as_document:
            headers["Content-Disposition"] = f'attachment; filename="{table.dataset_id}_{table.zone_set.id}.csv"'
        media_type = asked.form.media_type
        if asked.as_document:
            content, media_type = replies.dumps(results(content.decode(), media_type)), negotiation.JSON
        reply = replies.reply(request, content, media_type=media_type, tag=asked.tag, headers=headers)
        sent = self._queries.hold(bytes(reply.body))
        return reply if isinstance(sent, bytes) else AnswerFile(sent, reply.headers)


def _within_cell(shown: PublishedView) -> float:
    """Return the side of a box that lies in one cell but for places at its very edge: a thousandth of a cell, in degrees."""
    west, south, east, north = shown.description.spatial.bbox
    x, y = shown.description.axis_of("x"), shown.description.axis_of("y")
    width = east - west if east > west else east - west + 360
    wide, high = (max(axis.size, 1) if axis is not None else 1 for axis in (x, y))
    return float(min(width / wide, (north - south) / high)) / 1000


def _told(table: Table) -> dict[str, str]:
    """Return how steps became periods, if they did, and why: the request, ``cell_methods``, or an assumption."""
    methods = {f"{each.variable}={each.method} ({each.method_from})" for each in table.columns if each.method is not None}
    return {"Cubeport-Period-Statistic": ", ".join(sorted(methods))} if methods else {}
