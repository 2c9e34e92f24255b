"""The OGC API face below ``/ogcapi``, and ``/datasets/{dataset_id}/download``: the answers that read values.

Parameters are read by our own grammar before anything else sees them, answers are counted before they are read, and a 304 is
answered from the record alone.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cubeport.cubes import periods
from cubeport.cubes.calendars import canonical, ordinal, stamp_of
from cubeport.cubes.edr import Kind, Place, parse_query
from cubeport.cubes.selection import COVERAGE_PARAMETERS, Instant, Period, Selection, first_of, last_of, parse, parse_datetime
from cubeport.documents import ogc
from cubeport.documents.coveragejson import MEDIA_TYPE as COVJSON
from cubeport.documents.texts import Shown
from cubeport.errors import InvalidPeriod, InvalidRange, InvalidRequest, NotAcceptable, Problem
from cubeport.server import incoming, negotiation, replies
from cubeport.server.openapi import READ, described

if TYPE_CHECKING:
    from cubeport.adapters.ogc.answers import Answers, Plan
    from cubeport.server.parts import Service

_BLOCK = 1 << 18
_QUERIES: tuple[tuple[Kind, str], ...] = (
    ("position", "Its values at a point"),
    ("area", "Its values in a polygon"),
    ("cube", "Its values in a box"),
)
_OFFERS: Mapping[str, str] = {
    COVJSON: "covjson",
    "application/prs.coverage+json": "covjson",
    "application/json": "covjson",
    ogc.NETCDF: "netcdf",
    "application/netcdf": "netcdf",
    ogc.CSV: "csv",
}
"""What ``Accept`` may name of a coverage, and the form that it gets."""

_DOWNLOADS: Mapping[str, str] = {
    ogc.NETCDF: "netcdf",
    "application/netcdf": "netcdf",
    "application/octet-stream": "netcdf",
    ogc.CSV: "csv",
}
"""What ``Accept`` may name of a download."""
_DOWNLOAD_NAMES = {"format": "f", "variables": "properties"}
_DOWNLOAD_PARAMETERS = ("format", "bbox", "datetime", "start", "end", "variables", "estimate")
_DOWNLOAD_FORMS = ("netcdf", "csv")
_PERIOD = re.compile(r"[0-9]{4}[0-9TtZzWPD:.+-]{0,36}", re.ASCII)


class DocumentQuery(incoming.Model):
    """What a document takes."""

    f: Annotated[str | None, Field(pattern="^json$", description="json")] = None


class CollectionsQuery(DocumentQuery):
    """What ``GET /ogcapi/collections`` takes."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(max_length=1000)] = None
    bbox: Annotated[str | None, Field(max_length=200, description="west,south,east,north; west > east crosses 180°")] = None
    datetime: Annotated[str | None, Field(max_length=100, description="An RFC 3339 instant, or a/b, ../b, a/..")] = None
    q: Annotated[str | None, Field(max_length=500, description="Words to find")] = None


class CoverageQuery(incoming.Model):
    """What a coverage takes; this model is for the definition, the grammar is :mod:`cubeport.cubes.selection`."""

    bbox: Annotated[str | None, Field(description="4 numbers, or 6 with the vertical; west > east crosses 180°")] = None
    bbox_crs: Annotated[str | None, Field(alias="bbox-crs", description="CRS84 (default) or the storage CRS")] = None
    datetime: Annotated[str | None, Field(description="One value is a slice; a/b, ../b, a/.. a trim")] = None
    subset: Annotated[str | None, Field(description="axis(low:high), axis(value), axis(v1,v2); repeatable")] = None
    subset_crs: Annotated[str | None, Field(alias="subset-crs", description="The storage CRS")] = None
    properties: Annotated[str | None, Field(description="Fields, with commas")] = None
    exclude_properties: Annotated[str | None, Field(alias="exclude-properties", description="Fields to leave out")] = None
    scale_factor: Annotated[str | None, Field(alias="scale-factor", description="x and y have so many times fewer cells")] = None
    scale_axes: Annotated[str | None, Field(alias="scale-axes", description="axis(factor), with commas")] = None
    scale_size: Annotated[str | None, Field(alias="scale-size", description="axis(cells), with commas")] = None
    crs: Annotated[str | None, Field(description="The storage CRS")] = None
    f: Annotated[str | None, Field(description=", ".join(ogc.FORMS))] = None
    estimate: Annotated[bool, Field(description="What it would cost; nothing is read")] = False


class PositionQuery(incoming.Model):
    """What a position or an area takes; this model is for the definition, the grammar is :mod:`cubeport.cubes.edr`."""

    coords: Annotated[str, Field(description="POINT(lon lat), or of an area POLYGON((…)); CRS84")]
    z: Annotated[str | None, Field(description="v, a/b, v1,v2 or Rn/start/step")] = None
    datetime: Annotated[str | None, Field(description="One value is a slice; a/b, ../b, a/.. a trim")] = None
    parameter_name: Annotated[str | None, Field(alias="parameter-name", description="Fields, with commas")] = None
    crs: Annotated[str | None, Field(description="The storage CRS")] = None
    f: Annotated[str | None, Field(description=", ".join(ogc.FORMS))] = None
    estimate: Annotated[bool, Field(description="What it would cost; nothing is read")] = False


class CubeQuery(incoming.Model):
    """What a cube takes; for the definition."""

    bbox: Annotated[str, Field(description="4 numbers, or 6 with the vertical; west > east crosses 180°")]
    z: Annotated[str | None, Field(description="v, a/b, v1,v2 or Rn/start/step")] = None
    datetime: Annotated[str | None, Field(description="One value is a slice; a/b, ../b, a/.. a trim")] = None
    parameter_name: Annotated[str | None, Field(alias="parameter-name", description="Fields, with commas")] = None
    crs: Annotated[str | None, Field(description="The storage CRS")] = None
    f: Annotated[str | None, Field(description=", ".join(ogc.FORMS))] = None
    estimate: Annotated[bool, Field(description="What it would cost; nothing is read")] = False


class DownloadQuery(incoming.Model):
    """What a download takes; this model is for the definition."""

    format: Annotated[str | None, Field(description="netcdf (default), csv")] = None
    bbox: Annotated[str | None, Field(description="west,south,east,north; west > east crosses 180°")] = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or a/b, ../b, a/..")] = None
    start: Annotated[str | None, Field(description="First period, inclusive")] = None
    end: Annotated[str | None, Field(description="Last period, inclusive")] = None
    variables: Annotated[str | None, Field(description="Names, with commas")] = None
    estimate: Annotated[bool, Field(description="What it would cost; nothing is read")] = False


class OgcFace:
    """The answers that read values, with their routes (``Parts.queries``)."""

    def __init__(self, service: Service, answers: Answers, *, public_url: str, title: str, description: str) -> None:
        self._service = service
        self._answers = answers
        self._url = public_url
        self._title = title
        self._description = description

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()

        def add(template: str, handler: Callable[..., Any], summary: str, name: str, **words: Any) -> None:
            tag = "OGC API" if template.startswith("/ogcapi") else "Datasets"
            router.add_api_route(
                template, handler, methods=["GET"], summary=summary, tags=[tag], operation_id=name, **described(template, **words)
            )

        one = "/ogcapi/collections/{collection_id}"
        documents = {"query": DocumentQuery, "statuses": (*READ, 406)}
        files = {"statuses": (*READ, 406, 413, 507), "media_types": (COVJSON, ogc.NETCDF, ogc.CSV, "application/json")}
        add("/ogcapi", self.landing, "Where the OGC API begins", "ogc.getLandingPage", **documents)
        add("/ogcapi/conformance", self.conformance, "Classes that it keeps to", "ogc.getConformance", **documents)
        add(
            "/ogcapi/collections",
            self.collections,
            "All published datasets",
            "ogc.getCollections",
            query=CollectionsQuery,
            statuses=(*READ, 406),
        )
        add(one, self.collection, "One dataset", "ogc.getCollection", **documents)
        add(f"{one}/schema", self.schema, "Its fields", "ogc.getSchema", **{**documents, "media_types": (ogc.SCHEMA,)})
        add(
            f"{one}/coverage",
            self.coverage,
            "Its values, or a part of them",
            "collection.getCoverage",
            query=CoverageQuery,
            **files,
        )
        for kind, summary in _QUERIES:
            model = CubeQuery if kind == "cube" else PositionQuery
            add(f"{one}/{kind}", self._edr(kind), summary, f"collection.query{kind.capitalize()}", query=model, **files)
        add(
            "/datasets/{dataset_id}/download",
            self.download,
            "A part of it as a file, as stored",
            "downloadDataset",
            query=DownloadQuery,
            **{**files, "media_types": (ogc.NETCDF, ogc.CSV, "application/json")},
        )
        return router

    # --- documents ------------------------------------------------------------------------------------------------------

    def landing(self, request: Request) -> Response:
        """Answer ``/ogcapi``."""
        document = ogc.landing(title=self._title, description=self._description, public_url=self._url)
        return self._fixed(request, document)

    def conformance(self, request: Request) -> Response:
        """Answer ``/ogcapi/conformance``."""
        return self._fixed(request, ogc.conformance())

    def _fixed(self, request: Request, document: Mapping[str, Any]) -> Response:
        incoming.query(request.scope["query_string"], DocumentQuery)
        _accepts_json(request)
        content = replies.dumps(document)
        return replies.reply(request, content, tag=replies.etag("fixed", content))

    def collections(self, request: Request) -> Response:
        """Answer ``/ogcapi/collections``: one page, each collection in full."""
        asked = incoming.query(request.scope["query_string"], CollectionsQuery)
        _accepts_json(request)
        tag = replies.etag_of_list(self._service.generation(), request, "ogc", self._url)
        box = None if asked.bbox is None else parse([("bbox", asked.bbox)], forms=()).bbox
        if asked.datetime is not None:
            parse([("datetime", asked.datetime)], forms=())

        def build() -> bytes:
            filters = {"q": asked.q, "datetime": asked.datetime, "bbox": None if box is None else _flat(box)}
            given = {name: value for name, value in filters.items() if value is not None}
            page = self._service.datasets(limit=asked.limit, cursor=asked.cursor, **given)
            base = f"{self._url}/ogcapi/collections"
            here = request.scope["query_string"].decode("latin-1")
            links = [
                ogc.link(f"{base}?{here}" if here else base, "self", "This page"),
                ogc.link(f"{self._url}/ogcapi", "root", "OGC API"),
            ]
            if page.next is not None:
                kept = {name: value for name, value in asked.model_dump(exclude_none=True).items() if name != "cursor"}
                links.append(ogc.link(f"{base}?{urlencode({**kept, 'cursor': page.next})}", "next", "The next page"))
            return replies.dumps(ogc.collections(page.items, public_url=self._url, links=links, matched=page.matched))

        return replies.reply(request, build, tag=tag)

    def collection(self, request: Request) -> Response:
        """Answer ``/ogcapi/collections/{collection_id}``."""
        return self._described(request, lambda shown: ogc.collection(shown, public_url=self._url))

    def schema(self, request: Request) -> Response:
        """Answer ``…/schema``."""
        return self._described(request, lambda shown: ogc.schema(shown, public_url=self._url), media_type=ogc.SCHEMA)

    def _described(
        self, request: Request, build: Callable[[Shown], Mapping[str, Any]], *, media_type: str = negotiation.JSON
    ) -> Response:
        incoming.query(request.scope["query_string"], DocumentQuery)
        _accepts_json(request, media_type)
        shown = self._service.shown(request.path_params["collection_id"])
        tag = replies.etag_of(shown, request, media_type, self._url)
        return replies.reply(
            request,
            lambda: replies.dumps(build(shown)),
            media_type=media_type,
            tag=tag,
            headers={"Cubeport-Version": shown.version.version_id},
        )

    # --- values ---------------------------------------------------------------------------------------------------------

    async def coverage(self, request: Request) -> Response:
        """Answer ``…/coverage``."""
        return await _while_there(request, self._coverage)

    async def download(self, request: Request) -> Response:
        """Answer ``/datasets/{dataset_id}/download``."""
        return await _while_there(request, self._download)

    def _edr(self, kind: Kind) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of one kind of EDR query."""

        def work(request: Request, left: threading.Event) -> Response:
            place, selection = parse_query(kind, _pairs(request), forms=tuple(ogc.FORMS))
            form = _form(request, selection)
            shown = self._service.shown(request.path_params["collection_id"])
            return self._answer(request, shown, selection, "covjson" if form == "json" else form, left, place=place)

        async def handler(request: Request) -> Response:
            return await _while_there(request, work)

        return handler

    def _coverage(self, request: Request, left: threading.Event) -> Response:
        selection = parse(_pairs(request), forms=tuple(ogc.FORMS), allowed=COVERAGE_PARAMETERS)
        form = _form(request, selection)
        shown = self._service.shown(request.path_params["collection_id"])
        return self._answer(request, shown, selection, "covjson" if form == "json" else form, left)

    def _download(self, request: Request, left: threading.Event) -> Response:
        selection, ends = _download_selection(_pairs(request))
        form = selection.form or negotiation.preferred(request, _DOWNLOADS) or "netcdf"
        if selection.form is None and not selection.estimate and not negotiation.takes(request, _DOWNLOADS):
            raise NotAcceptable("A download is NetCDF or CSV.", next_step=f"Ask with Accept: {ogc.NETCDF}.")
        shown = self._service.shown(request.path_params["dataset_id"])
        if ends:
            selection = replace(selection, datetime=_periods(shown, ends))
        return self._answer(request, shown, selection, form, left, download=True)

    def _answer(
        self,
        request: Request,
        shown: Shown,
        selection: Selection,
        form: str,
        left: threading.Event,
        *,
        download: bool = False,
        place: Place | None = None,
    ) -> Response:
        from cubeport.adapters.ogc import answers

        tag = replies.etag_of(shown, request, form, self._url)
        base = {"Cubeport-Version": shown.version.version_id}
        # Only addresses that name the version itself never change: a tag can be moved, latest moves.
        cache = replies.IMMUTABLE if shown.pinned and _names_version(request, shown) else replies.NO_CACHE
        known = replies.reply(request, b"", tag=tag, cache=cache, headers=base, varies=("Accept",))
        if known.status_code == 304:
            return known
        plan = self._answers.plan(shown, selection, form=form, download=download, place=place)
        if selection.estimate:
            return replies.reply(request, replies.dumps(self._answers.estimate(plan)), headers=base)
        self._answers.check(plan)
        told = base | answers.headers(plan, public_url=self._url)
        if form == "netcdf" or download:
            told["Content-Disposition"] = f'attachment; filename="{answers.file_name(plan)}"'
        if request.scope.get("cubeport.head"):
            return self._without_values(request, plan, tag, cache, told)
        content = self._answers.download(plan, left=left) if download else self._answers.coverage(plan, left=left)
        if isinstance(content, bytes):
            return replies.reply(
                request, content, media_type=ogc.FORMS[form], tag=tag, cache=cache, headers=told, varies=("Accept",)
            )
        return _file(content, {**told, "ETag": tag, "Cache-Control": cache, "Vary": "Accept", "Content-Type": ogc.FORMS[form]})

    def _without_values(self, request: Request, plan: Plan, tag: str, cache: str, told: Mapping[str, str]) -> Response:
        """Return the headers of GET without a length: it is known only when the values have been read."""
        media_type = ogc.FORMS[plan.form]
        if plan.form == "netcdf":
            fields = {**told, "ETag": tag, "Cache-Control": cache, "Vary": "Accept", "Content-Type": media_type}
        else:
            # The same decision on gzip, and so on the ETag, as for the document itself.
            like = b" " * min(4096, self._answers.estimate(plan)["bytes"])
            given = replies.reply(request, like, media_type=media_type, tag=tag, cache=cache, headers=told, varies=("Accept",))
            fields = {name: value for name, value in given.headers.items() if name != "content-length"}
        return StreamingResponse(iter(()), headers=fields)


async def _while_there(request: Request, work: Callable[[Request, threading.Event], Response]) -> Response:
    """Do the work in a thread, and tell it when the client leaves: nobody pays for answers that nobody reads."""
    left = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left.set()

    watching = asyncio.create_task(watch())
    try:
        return await run_in_threadpool(work, request, left)
    finally:
        watching.cancel()


def _names_version(request: Request, shown: Shown) -> bool:
    address = request.path_params.get("collection_id") or request.path_params.get("dataset_id") or ""
    return str(address).endswith(f"@{shown.version.version_id}")


def _file(file: BinaryIO, headers: Mapping[str, str]) -> Response:
    """Return the file as an answer; it has no name any more, and is gone when it is closed."""
    size = file.seek(0, 2)
    file.seek(0)

    def blocks() -> Iterator[bytes]:
        with file:
            while block := file.read(_BLOCK):
                yield block

    return StreamingResponse(blocks(), headers={**headers, "Content-Length": str(size)})


def _pairs(request: Request) -> list[tuple[str, str]]:
    """Return names and values as given, repeated ones too. Raises InvalidRequest for what is not text."""
    pairs, problems = incoming.pairs(request.scope["query_string"])
    if problems:
        raise InvalidRequest("The query is not text.", errors=problems)
    return pairs


def _download_selection(pairs: Sequence[tuple[str, str]]) -> tuple[Selection, dict[str, str]]:
    """Return the selection of a download, whose parameters have names of their own, and its ``start`` and ``end``."""
    ends = {name: value for name, value in pairs if name in ("start", "end")}
    problems = [
        Problem(("query", name), "malformed", f"{name} must be a period, as 2024-01-31, 2024-01 or 2024-W05")
        for name, value in ends.items()
        if not _PERIOD.fullmatch(value)
    ]
    if ends and any(name == "datetime" for name, _ in pairs):
        problems.append(Problem(("query", "datetime"), "clash", "datetime says the same as start and end"))
    if len(ends) < sum(name in ends for name, _ in pairs):
        problems.append(Problem(("query", "start"), "repeated", "start and end may stand once"))
    for name, _ in pairs:
        if name not in _DOWNLOAD_PARAMETERS:
            problems.append(Problem(("query", name[:60]), "unknown", f"{name[:60]} is not a parameter here"))
    taken = [(_DOWNLOAD_NAMES.get(name, name), value) for name, value in pairs if name in _DOWNLOAD_PARAMETERS and name not in ends]
    selection = Selection()
    try:
        selection = parse(taken, forms=_DOWNLOAD_FORMS, allowed=("f", "bbox", "datetime", "properties", "estimate"))
    except InvalidRequest as refused:
        back = {theirs: ours for ours, theirs in _DOWNLOAD_NAMES.items()}
        for each in refused.errors:
            name = str(each.loc[1])
            words = each.message.replace(name, back.get(name, name), 1)
            problems.append(Problem(("query", back.get(name, name), *each.loc[2:]), each.kind, words))
    if problems:
        raise InvalidRequest("The query has parameters that cannot be taken; errors names each.", errors=problems)
    return selection, ends


def _periods(shown: Shown, ends: Mapping[str, str]) -> Period:
    """Return the time from the first moment of ``start`` to the last of ``end``, as periods of the dataset's own type.

    Raises
    ------
    InvalidRequest, InvalidPeriod
        When the dataset has no time, or the text is no period of its type and calendar.
    """
    temporal = shown.description.temporal
    if temporal is None:
        raise InvalidRequest("This data has no time.", errors=[Problem(("query", "start"), "no-axis", "this data has no time")])
    calendar = canonical(temporal.calendar) or "standard"
    kind = shown.texts.period_type
    # Where no period is known, any date is one: each end is a day, a month, a year as it is written.
    kind = kind if kind in periods.PERIOD_TYPES and kind not in ("climatology", "irregular", "none") else None

    def end(name: str) -> Instant | None:
        if name not in ends:
            return None
        if kind is None:
            try:
                found = parse_datetime(ends[name])
            except ValueError as error:
                raise InvalidPeriod(
                    f"{name} {error}.", errors=[Problem(("query", name), "malformed", f"{name} {error}")]
                ) from error
            if isinstance(found, Instant):
                return found
            raise InvalidPeriod(
                f"{name} must be one period.", errors=[Problem(("query", name), "malformed", f"{name} is an interval")]
            )
        number = periods.parse(ends[name], kind, calendar, side="start" if name == "start" else "end")
        if name == "start":
            return Instant(tuple(periods.start_of(number, kind, calendar)))
        return Instant(tuple(stamp_of(ordinal(periods.end_of(number, kind, calendar), calendar) - 1, calendar)))

    first, last = end("start"), end("end")
    if first is not None and last is not None and first_of(first) > last_of(last):
        raise InvalidRange(
            "The end lies before the start.", errors=[Problem(("query", "end"), "invalid-range", "end lies before start")]
        )
    return Period(first, last)


def _form(request: Request, selection: Selection) -> str:
    """Return the form of a coverage: ``f`` beats ``Accept``."""
    if selection.form is not None:
        return selection.form
    if selection.estimate:
        return "covjson"
    best = negotiation.preferred(request, _OFFERS)
    if best is None:
        raise NotAcceptable("A coverage is CoverageJSON, NetCDF or CSV.", next_step=f"Ask with Accept: {COVJSON} or {ogc.NETCDF}.")
    return best


def _accepts_json(request: Request, media_type: str = negotiation.JSON) -> None:
    asked = incoming.parameters(request.scope["query_string"])[0]
    if "f" not in asked and not negotiation.takes(request, {negotiation.JSON, media_type}):
        raise NotAcceptable("This document is JSON.", next_step=f"Ask with Accept: {media_type}.")


def _flat(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the horizontal part of a box of four or six numbers, its longitudes within ±180."""
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    if east - west >= 360:
        return -180.0, south, 180.0, north
    west, east = ((edge + 180) % 360 - 180 if abs(edge) > 180 else edge for edge in (west, east))
    return west, south, east, north
