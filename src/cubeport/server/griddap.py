"""ERDDAP's griddap below ``/griddap``, for erddapy, rerddap and everybody who has such addresses.

``/griddap/{id}[:{grid}][@{ref}].{csv,csvp,csv0,json,nc,png,das,dds,dods,ncml,html}`` with queries by values of axes
(:mod:`cubeport.cubes.griddap`), and ``/info/{id}/index.{csv,json}``. The values come through the same plans as those of all other
faces. Errors have ERDDAP's own form.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cubeport.cubes.forms import GRIDDAP, form_named
from cubeport.cubes.griddap import GridAxis, GridOffer, GridRequest, offer, resolve_query
from cubeport.cubes.selection import Selection, stamp_at
from cubeport.cubes.windows import Window
from cubeport.documents import griddap as documents
from cubeport.documents.texts import PublishedView
from cubeport.errors import CubeportError, InvalidRequest, NotFound
from cubeport.server import html, negotiation, problems, replies
from cubeport.server.openapi import READ, described
from cubeport.server.ranges import AnswerFile, in_parts
from cubeport.service.griddap import picture_query
from cubeport.service.pictures import Pictures
from cubeport.service.plans import CubeQuery
from cubeport.service.queries import Queries
from cubeport.service.slabs import Slabs

if TYPE_CHECKING:
    from cubeport.cubes.part import OpenedCube
    from cubeport.server.dap import DapFace
    from cubeport.server.parts import Reads

log = logging.getLogger("cubeport.server")

TABLES = ("csv", "csvp", "csv0", "json")
DAP = ("dds", "das", "dods", "asc")
FORMS = (*TABLES, "nc", "png", "transparentPng", *DAP, "ncml", "html")
_TEXT, _CSV, _PNG = "text/plain; charset=utf-8", "text/csv", "image/png"
_BY_VALUE = re.compile(r"\[[^\]]*(?:\(|last)")


@dataclass(frozen=True, slots=True)
class _ParsedQuery:
    """One request: a coverage, the ending of the address, and the query, decoded and in its two parts."""

    request: Request
    shown: PublishedView
    opened: OpenedCube
    offered: GridOffer
    form: str
    constraints: str
    commands: tuple[str, ...]
    pinned: bool


class GriddapFace:
    """ERDDAP's griddap, with its routes."""

    def __init__(self, service: Reads, queries: Queries, pictures: Pictures, dap: DapFace, *, site: html.Site) -> None:
        self._service = service
        self._queries = queries
        self._slabs = Slabs(queries)
        self._pictures = pictures
        self._dap = dap
        self._site = site
        self._url = site.public_url

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()
        kinds = (_CSV, "application/json", "application/x-netcdf", _PNG, "text/plain", "application/xml", negotiation.HTML)
        router.add_api_route(
            "/griddap/{griddap_name}",
            self.answer,
            methods=["GET"],
            summary="ERDDAP's griddap: values by labels of axes, as table, NetCDF or picture",
            tags=["ERDDAP"],
            operation_id="griddap.get",
            **described("/griddap/{griddap_name}", statuses=(*READ, 413, 507), media_types=kinds, problem_types=("text/plain",)),
        )
        router.add_api_route(
            "/info/{griddap_id}/index.{table_form}",
            self.info,
            methods=["GET"],
            summary="ERDDAP's table of axes, fields and attributes",
            tags=["ERDDAP"],
            operation_id="griddap.info",
            **described(
                "/info/{griddap_id}/index.{table_form}", media_types=(_CSV, "application/json"), problem_types=("text/plain",)
            ),
        )
        return router

    def answer(self, request: Request) -> Response:
        """Answer one request of griddap."""
        return self._in_its_form(lambda: self._answered(request))

    def info(self, request: Request) -> Response:
        """Answer ``/info/{griddap_id}/index.{csv,json}``."""
        return self._in_its_form(lambda: self._info(request))

    def _in_its_form(self, make: Callable[[], Response]) -> Response:
        try:
            return make()
        except CubeportError as exc:
            status = problems.status_of(type(exc))
            if status >= 500:
                log.error("%s: %s", exc.kind, exc)
            words = problems.in_words(exc, self._url)
            headers = {"Cache-Control": "no-store", **problems.headers(exc), "Content-Type": _TEXT}
            return Response(documents.error(status, words), status, headers=headers)

    def _answered(self, request: Request) -> Response:
        name, dot, form = request.path_params["griddap_name"].rpartition(".")
        if not dot or form not in FORMS:
            if dot and not re.fullmatch(r"[0-9]+[a-z0-9-]*", form):
                raise InvalidRequest(f"Query error: fileType=.{form[:40]} isn't supported. The types are {', '.join(FORMS)}.")
            name, form = request.path_params["griddap_name"], "html"
        asked = self._asked(request, name, form)
        if asked.commands and form not in ("png", "transparentPng"):
            raise InvalidRequest("Query error: commands such as &.draw are for pictures; filters with & are for tabledap.")
        if form in DAP:
            return self._opendap(asked)
        if form in ("png", "transparentPng"):
            return self._picture(asked)
        if form == "ncml":
            return self._described(asked, "application/xml", lambda: self._ncml(asked))
        if form == "html":
            return self._described(asked, negotiation.HTML, lambda: self._page(asked))
        return self._values(asked)

    def _asked(self, request: Request, name: str, form: str) -> _ParsedQuery:
        shown = self._coverage(name)
        opened = self._queries.versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        try:
            query = unquote_to_bytes(request.scope["query_string"]).decode()
        except UnicodeDecodeError as exc:
            raise InvalidRequest("Query error: it is not text.") from exc
        constraints, *commands = query.split("&")
        pinned = shown.pinned and name.endswith(f"@{shown.version.version_id}")
        return _ParsedQuery(
            request, shown, opened, offer(opened), form, constraints, tuple(each for each in commands if each), pinned
        )

    def _coverage(self, name: str) -> PublishedView:
        try:
            return self._service.coverage(name)
        except NotFound as exc:
            if problems.status_of(type(exc)) != 404:
                raise
            raise NotFound(f"Currently unknown datasetID={name[:100]}", what="dataset") from exc

    # --- values ---------------------------------------------------------------------------------------------------------

    def _values(self, asked: _ParsedQuery) -> Response:
        found = resolve_query(asked.offered, asked.constraints)
        media_type = {"nc": "application/x-netcdf", "json": "application/json"}.get(asked.form, _CSV)
        if found.of_axes and asked.form != "nc":
            return self._described(asked, media_type, lambda: self._labels(asked, found), fixed=True)
        form = form_named("csv" if asked.form.startswith("csv") else asked.form, GRIDDAP)
        assert form is not None  # _answered has checked
        unstored = [name for name in found.names if name not in asked.opened.names()]
        if unstored:
            raise InvalidRequest(f"Query error: {unstored[0]} counts cells and is not a variable; ask for it as csv or json.")
        query = CubeQuery(Selection(properties=found.names), form, windows=tuple(found.windows.values()))
        tag, headers = self._tag(asked), self._headers(asked)
        known = asked.request.headers.get("if-none-match")
        if form.name == "nc" and known is not None and replies.fits(known, tag):
            return Response(status_code=304, headers={**headers, "ETag": tag})
        plan = self._queries.plan(asked.shown, query)
        self._queries.check(plan)
        if asked.form == "nc":
            name = f'attachment; filename="{asked.shown.texts.dataset_id}.nc"'
            headers |= {"ETag": tag, "Content-Type": media_type, "Content-Disposition": name, "Accept-Ranges": "bytes"}
            if asked.request.scope.get("cubeport.head"):
                return StreamingResponse(iter(()), headers=headers)
            content = self._queries.answer(plan).content
            if isinstance(content, bytes):
                return in_parts(asked.request, Response(content, headers=headers))
            return AnswerFile(content, headers)

        def build() -> bytes:
            content = self._queries.answer(plan).content
            assert isinstance(content, bytes)  # tables are made at once
            return _with_header(content, asked.form)

        return replies.reply(
            asked.request, build, media_type=media_type, tag=tag, cache=headers.pop("Cache-Control"), headers=headers
        )

    def _labels(self, asked: _ParsedQuery, found: GridRequest) -> bytes:
        """Return the labels of axes as a table, in columns of their own lengths."""
        columns = []
        for name in found.names:
            axis = asked.offered.axis(name)
            assert axis is not None  # the request has been resolved
            taken = axis.labels[found.windows[axis.dimension].indices()]
            columns.append(documents.label_column(name, self._units(asked, axis), taken, axis.calendar is not None))
        if asked.form == "json":
            return documents.table_json(columns)
        return _with_header(documents.csv(columns), asked.form)

    def _opendap(self, asked: _ParsedQuery) -> Response:
        axes = asked.offered.axes.values()
        source = self._slabs.source(asked.shown, only={*asked.offered.fields, *(each.name for each in axes)})
        expression = quote(asked.constraints, safe="[]:,.@")
        if _BY_VALUE.search(asked.constraints):
            found = resolve_query(asked.offered, asked.constraints)
            slabs = {dimension: _slab(window) for dimension, window in found.windows.items()}
            parts = []
            for name in found.names:
                axis = asked.offered.axis(name) if found.of_axes else None
                dimensions = asked.offered.fields[name] if axis is None else (axis.dimension,)
                parts.append(name + "".join(slabs[each] for each in dimensions))
            expression = quote(",".join(parts), safe="[]:,.@")
        form = "ascii" if asked.form == "asc" else asked.form
        return self._dap.document(asked.request, asked.shown, form, source, expression, pinned=asked.pinned)

    # --- pictures -------------------------------------------------------------------------------------------------------

    def _picture(self, asked: _ParsedQuery) -> Response:
        query = picture_query(asked.opened, asked.offered, asked.constraints, asked.commands)
        headers = self._headers(asked)

        def build() -> bytes:
            return self._pictures.draw(asked.shown, query).content

        cache = headers.pop("Cache-Control")
        return replies.reply(asked.request, build, media_type=_PNG, tag=self._tag(asked), cache=cache, headers=headers)

    # --- documents ------------------------------------------------------------------------------------------------------

    def _info(self, request: Request) -> Response:
        name, form = request.path_params["griddap_id"], request.path_params["table_form"]
        if form not in ("csv", "json"):
            raise InvalidRequest(f"Query error: fileType=.{form[:40]} isn't supported. The types are csv and json.")
        asked = replace(self._asked(request, name, form), constraints="")

        def build() -> bytes:
            columns = documents.info(self._global(asked), self._parts(asked))
            return documents.info_csv(columns) if form == "csv" else documents.table_json(columns)

        return self._described(asked, _CSV if form == "csv" else "application/json", build)

    def _ncml(self, asked: _ParsedQuery) -> bytes:
        location = f"{self._url}/griddap/{asked.shown.coverage_name}"
        return documents.ncml(location, self._global(asked), self._parts(asked))

    def _global(self, asked: _ParsedQuery) -> Mapping[str, object]:
        return {**asked.opened.global_attributes(), "title": asked.shown.texts.title}

    def _parts(self, asked: _ParsedQuery) -> list[documents.Described]:
        """Return the axes, then the fields, as griddap describes them."""
        description, offered = asked.shown.description, asked.offered
        stored = asked.opened.names()
        parts = []
        for axis in offered.axes.values():
            attributes = asked.opened.attributes(axis.name) if axis.name in stored else {}
            said = documents.axis_attributes(axis, attributes, self._units(asked, axis))
            kind = "double" if axis.calendar else documents.type_of(axis.labels.dtype)
            span = axis.range()
            step = (span[1] - span[0]) / (axis.size - 1) if span is not None and axis.size > 1 else None
            own = next((each for each in description.axes if each.name == axis.name), None)
            even = own is None or own.regular
            parts.append(documents.Described(axis.name, kind, (axis.name,), axis.size, said, step, even))
        for name, dimensions in offered.fields.items():
            variable = description.variable(name)
            said = documents.field_attributes(asked.opened.attributes(name), variable.units)
            axes = tuple(offered.axes[each].name for each in dimensions)
            parts.append(documents.Described(name, documents.type_named(variable.decoded_dtype), axes, 0, said))
        return parts

    def _units(self, asked: _ParsedQuery, axis: GridAxis) -> str | None:
        units: str | None = next((each.units for each in asked.shown.description.axes if each.name == axis.name), None)
        return units

    def _page(self, asked: _ParsedQuery) -> bytes:
        """Return a short page: what can be asked here, and how."""
        name, offered = asked.shown.coverage_name, asked.offered
        first, dimensions = next(iter(offered.fields.items()))
        return html.rendered(
            "griddap.html",
            self._site,
            title=asked.shown.texts.title,
            dataset=asked.shown.texts.dataset_id,
            id=name,
            example=f"{self._url}/griddap/{name}.csv?{first}" + "[(last)]" * len(dimensions),
            axes=[{"name": each.name, "size": each.size, "ends": _ends(each)} for each in offered.axes.values()],
            fields={field: [offered.axes[each].name for each in own] for field, own in offered.fields.items()},
            forms=FORMS,
        )

    def _described(self, asked: _ParsedQuery, media_type: str, build: Callable[[], bytes], *, fixed: bool = False) -> Response:
        """Return a document. With *fixed*, it depends only on the version."""
        headers = self._headers(asked) if fixed else {**replies.versioned(asked.shown), "Cache-Control": replies.NO_CACHE}
        if media_type == negotiation.HTML:
            headers |= replies.PAGE_HEADERS
        tag = self._tag(asked) if fixed else replies.etag_of(asked.shown, asked.request, asked.form, self._url)
        cache = headers.pop("Cache-Control")
        return replies.reply(asked.request, build, media_type=media_type, tag=tag, cache=cache, headers=headers)

    def _tag(self, asked: _ParsedQuery) -> str:
        return replies.etag_of(
            asked.shown, asked.request, asked.form, self._url, asked.shown.description.overview_levels, fixed=asked.pinned
        )

    def _headers(self, asked: _ParsedQuery) -> dict[str, str]:
        return {**replies.versioned(asked.shown), "Cache-Control": replies.IMMUTABLE if asked.pinned else replies.NO_CACHE}


def _with_header(table: bytes, form: str) -> bytes:
    match form:
        case "csvp":
            return documents.with_units(table)
        case "csv0":
            return documents.without_header(table)
        case _:
            return table


def _slab(window: Window) -> str:
    """Return a window as DAP2 writes it: first, step, last."""
    indices = window.indices().tolist()
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    return f"[{indices[0]}:{step}:{indices[-1]}]"


def _ends(axis: GridAxis) -> str:
    """Return the first and the last label in words."""
    if not axis.size:
        return ""
    ends = [axis.labels[at] for at in (0, -1)]
    return ", ".join(str(stamp_at(int(each))) if axis.calendar else str(each) for each in ends)
