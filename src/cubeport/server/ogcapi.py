"""The OGC API face below ``/ogcapi``, and ``/datasets/{dataset_id}/download``.

Our own grammar parses the parameters before anything else uses them. The cost of an answer is computed before values are read. A
304 needs only the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import AfterValidator, Field, create_model
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cubeport.catalog.forms.canonical import timestamp
from cubeport.cubes import geometries, reprojected
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.download import parse_download, period_of
from cubeport.cubes.edr.queries import QUERIES, parameters_of, parse_query, query_named
from cubeport.cubes.edr.query import EdrQuery
from cubeport.cubes.forms import FORMS, PLOT, Form, downloads, form_named
from cubeport.cubes.selection import COVERAGE_PARAMETERS, Selection, parse, parse_crs
from cubeport.cubes.view import View, known_field, plot_parameters, point
from cubeport.cubes.windows import LATITUDE_FIRST, storage_crs
from cubeport.cubes.write_request import StoredObject
from cubeport.documents import ogc, places
from cubeport.documents.coveragejson import crs_uri
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, NotAcceptable, NotFound, Problem
from cubeport.server import incoming, negotiation, replies, waiting
from cubeport.server.openapi import READ, described
from cubeport.server.ranges import AnswerFile, RangedFile, in_parts
from cubeport.service import answered
from cubeport.service.datasets import is_back
from cubeport.service.places import Found, Places
from cubeport.service.plans import CubeQuery, QueryPlan
from cubeport.service.queries import Queries

if TYPE_CHECKING:
    from cubeport.server.parts import Counted, Service

_INSTANCES = 100
"""How many versions a collection lists as instances."""
_LOCATIONS = 10_000
"""Places that a list of locations has: of more, ``items`` has pages."""
_ZONE_SETS = 64
"""Zone sets whose areas are kept in memory."""
_INSIDE = re.compile(r"(-?)([0-9]{1,4})~([a-z0-9_-]{1,64})~(.*)")
"""A cursor within a dataset: the number of its coverages before this place, the id of the dataset, and the catalog's cursor of the
page that begins with the dataset. With ``-`` it leads to the page before the place, and the catalog's cursor ends before the
dataset.
"""
_COUNTED = 100
"""Coverages are only counted if at most this many datasets have several."""
_COUNTS = 64
"""How many counts are cached, one for each filter."""
_VARIES = ("Accept",)
_LIGHT_THREADS = 8
"""The number of threads for parsing and planning queries and for light answers. Heavy answers have one thread for each place."""
_F = ", ".join(form.name for form in FORMS)
_MEDIA_TYPES = (*(form.media_type for form in FORMS), "application/json")
_DOWNLOADS = downloads()
_NAMES = tuple(form.name for form in FORMS)


class DocumentQuery(incoming.Model):
    """The parameters of a document."""

    f: Annotated[Literal["json", "html"] | None, Field(description="json (default), or html: its page")] = None


class FeaturesQuery(incoming.Model):
    """The parameters of a document of features, which are GeoJSON."""

    f: Annotated[Literal["json", "geojson", "html"] | None, Field(description="json or geojson (default), or html: its page")] = (
        None
    )


def _as_in_coverages(name: str, *, later: Sequence[str] = ()) -> AfterValidator:
    """Return the check of a parameter by the grammar of coverages, whose problems are then listed with those of the others.

    Problems of the kinds *later* are not among them: they depend on another parameter.
    """

    def check(text: str) -> str:
        try:
            parse([(name, text)], forms=())
        except InvalidRequest as refused:
            errors = [each for each in refused.errors if each.kind not in later]
            if errors:
                words = "; ".join(each.message.removeprefix(f"{name} ") for each in errors)
                raise PydanticCustomError(errors[0].kind, "{words}", {"words": words}) from None
        return text

    return AfterValidator(check)


_Box = Annotated[
    Annotated[str, Field(max_length=200), _as_in_coverages("bbox")],
    Field(description="west,south,east,north; west > east crosses 180°"),
]
_Datetime = Annotated[
    Annotated[str, Field(max_length=100), _as_in_coverages("datetime")],
    Field(description="An RFC 3339 instant, or a/b, ../b, a/.."),
]


_Crs = Annotated[str, Field(max_length=300), _as_in_coverages("crs")]


class CollectionsQuery(DocumentQuery):
    """The parameters of ``GET /ogcapi/collections``."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(max_length=1000)] = None
    bbox: _Box | None = None
    datetime: _Datetime | None = None
    q: Annotated[str | None, Field(max_length=500, description="Words to find")] = None


class ItemQuery(FeaturesQuery):
    """What a feature takes (OGC API Features 2): GDAL 3.12 asks for the storage CRS of each collection by name."""

    crs: Annotated[
        _Crs | None,
        Field(description="The reference system of the answer: CRS84 (default), EPSG:4326, EPSG:3857 or the storage CRS"),
    ] = None


class ItemsQuery(ItemQuery):
    """What ``GET …/items`` takes (OGC API Features 1, 7.15)."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    cursor: Annotated[str | None, Field(pattern="^[0-9]{1,9}$", description="The number of places that came before")] = None
    bbox: Annotated[
        Annotated[str, Field(max_length=200), _as_in_coverages("bbox", later=("invalid-range", "out-of-range"))] | None,
        Field(description="west,south,east,north; west > east crosses 180°"),
    ] = None
    bbox_crs: Annotated[_Crs | None, Field(alias="bbox-crs", description="That of bbox: one of those of crs")] = None
    datetime: _Datetime | None = None


class CoverageQuery(incoming.Model):
    """The parameters of a coverage, for the API definition. :mod:`cubeport.cubes.selection` is the grammar."""

    bbox: Annotated[str | None, Field(description="4 numbers, or 6 with the vertical; west > east crosses 180°")] = None
    bbox_crs: Annotated[
        str | None, Field(alias="bbox-crs", description="CRS84 (default), EPSG:4326, EPSG:3857 or the storage CRS")
    ] = None
    datetime: Annotated[str | None, Field(description="One value is a slice; a/b, ../b, a/.. a trim")] = None
    subset: Annotated[str | None, Field(description="axis(low:high), axis(value), axis(v1,v2); repeatable")] = None
    subset_crs: Annotated[str | None, Field(alias="subset-crs", description="The storage CRS")] = None
    properties: Annotated[str | None, Field(description="Fields, with commas")] = None
    exclude_properties: Annotated[str | None, Field(alias="exclude-properties", description="Fields to exclude")] = None
    scale_factor: Annotated[str | None, Field(alias="scale-factor", description="The factor by which x and y have fewer cells")] = (
        None
    )
    scale_axes: Annotated[str | None, Field(alias="scale-axes", description="axis(factor), with commas")] = None
    scale_size: Annotated[str | None, Field(alias="scale-size", description="axis(cells), with commas")] = None
    crs: Annotated[str | None, Field(description="The storage CRS (default), CRS84, EPSG:4326 or EPSG:3857")] = None
    f: Annotated[str | None, Field(description=_F)] = None
    estimate: Annotated[bool, Field(description="Return what it would cost, and read nothing")] = False


def edr_model(kind: EdrQuery) -> type[incoming.Model]:
    """Return the parameters of an EDR query, for the API definition. :mod:`cubeport.cubes.edr.queries` is the grammar."""
    fields: dict[str, Any] = {}
    for each in parameters_of(kind):
        about = Field(alias=each.name, description=each.description)
        fields[each.name.replace("-", "_")] = (
            (Annotated[str, about], ...) if each.required else (Annotated[str | None, about], None)
        )
    fields["f"] = (Annotated[str | None, Field(description=_F)], None)
    fields["estimate"] = (Annotated[bool, Field(description="Return what it would cost, and read nothing")], False)
    model: type[incoming.Model] = create_model(f"{kind.title}Query", __base__=incoming.Model, **fields)
    return model


LocationQuery = edr_model(replace(query_named("area"), name="location", parameters=()))
"""The parameters of values in a named area: those of an area query except the polygon."""


class DownloadQuery(incoming.Model):
    """The parameters of a download, for the API definition."""

    format: Annotated[str | None, Field(description=", ".join(form.name for form in _DOWNLOADS))] = None
    bbox: Annotated[str | None, Field(description="west,south,east,north; west > east crosses 180°")] = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or a/b, ../b, a/..")] = None
    start: Annotated[str | None, Field(description="First period, inclusive")] = None
    end: Annotated[str | None, Field(description="Last period, inclusive")] = None
    variables: Annotated[str | None, Field(description="Names, with commas")] = None
    estimate: Annotated[bool, Field(description="Return what it would cost, and read nothing")] = False


class PlotQuery(incoming.Model):
    """The parameters of a plot, which are those of a dataset's page."""

    at: Annotated[str | None, Field(max_length=60, description="lon,lat in degrees; not for data without a place")] = None
    v: Annotated[str | None, Field(max_length=200, description="One field. Default: the first")] = None
    t: Annotated[
        str | None, Field(max_length=100, description="One time gives a profile; a/b, ../b, a/.. a part of the series")
    ] = None
    z: Annotated[str | None, Field(max_length=200, description="One level. Default: the first, or all of them with one time")] = (
        None
    )
    subset: Annotated[str | None, Field(max_length=500, description="axis(value), with commas: one label of each other axis")] = (
        None
    )
    f: Annotated[
        Literal["svg", "csv", "html"] | None, Field(description="svg (default), csv of the same values, or a page of both")
    ] = None
    relative_to: Annotated[
        str | None,
        Field(alias="relative-to", max_length=20, description="The years of a normal, such as 1991/2020"),
    ] = None
    departure: Annotated[str | None, Field(max_length=20, description="absolute (default), percent, standard")] = None
    period: Annotated[str | None, Field(max_length=20, description="With relative-to: as of a table, such as month")] = None
    w: Annotated[int, Field(ge=320, le=1200, description="The width of the picture, in pixels")] = 720


_CSV = next(form for form in FORMS if form.name == "csv")


class OgcFace:
    """The OGC API and downloads, with their routes (``Parts.queries``)."""

    def __init__(
        self,
        service: Service,
        queries: Queries,
        *,
        public_url: str,
        title: str,
        description: str,
        departures: Callable[[Request, PlotQuery], Awaitable[Response]] | None = None,
        copy: Callable[[str, str, int], StoredObject] | None = None,
    ) -> None:
        self._copy = copy
        """Opens the NetCDF copy of a version, given the dataset, the version and its size; ``None`` if no version has one."""
        self._departures = departures
        """Answers a plot of departures from normal, which are made as those of tables are."""
        self._service = service
        self._queries = queries
        self._url = public_url
        self._title = title
        self._description = description
        self._light = CapacityLimiter(_LIGHT_THREADS)
        self._heavy = CapacityLimiter(queries.limits.heavy)
        self._places = Places(queries.versions, self._areas)
        self._zones: Bounded[tuple[str, str], tuple[places.Area, ...]] = Bounded(_ZONE_SETS)
        self._counted: Bounded[tuple[int, str], tuple[int | None]] = Bounded(_COUNTS)

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()

        def add(template: str, handler: Callable[..., Any], summary: str, name: str, **options: Any) -> None:
            tag = "OGC API" if template.startswith("/ogcapi") else "Datasets"
            router.add_api_route(
                template, handler, methods=["GET"], summary=summary, tags=[tag], operation_id=name, **described(template, **options)
            )

        one = "/ogcapi/collections/{collection_id}"
        instance = f"{one}/instances/{{instance_id}}"
        documents = {"query": DocumentQuery, "statuses": (*READ, 406)}
        files = {"statuses": (*READ, 406, 413, 507), "media_types": _MEDIA_TYPES}
        add("/ogcapi", self.landing, "The landing page of the OGC API", "ogc.getLandingPage", **documents)
        add("/ogcapi/conformance", self.conformance, "Its conformance classes", "ogc.getConformance", **documents)
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
        for kind in QUERIES:
            for place, of in ((one, "collection"), (instance, "instance")):
                name = f"{of}.query{kind.title}"
                add(f"{place}/{kind.name}", self._edr(kind), kind.text, name, query=edr_model(kind), **files)
        geojson = {**documents, "query": FeaturesQuery, "media_types": (ogc.GEOJSON,)}
        add(f"{one}/locations", self.locations, "Its stations, and areas that meet it", "collection.getLocations", **geojson)
        add(
            f"{one}/locations/{{location_id}}",
            self.location,
            "Its values at a station or in a named area",
            "collection.queryLocation",
            query=LocationQuery,
            **files,
        )
        add(f"{one}/items", self.items, "The same places as features", "collection.getFeatures", **{**geojson, "query": ItemsQuery})
        add(f"{one}/items/{{location_id}}", self.item, "One place as a feature", "collection.getFeature", **geojson)
        add(f"{one}/instances", self.instances, "Its versions", "collection.getInstances", **documents)
        add(instance, self.collection, "One version", "collection.getInstance", **documents)
        add(
            "/datasets/{dataset_id}/download",
            self.download,
            "A part of it as a file, as stored",
            "downloadDataset",
            query=DownloadQuery,
            **{**files, "media_types": (*(form.media_type for form in _DOWNLOADS), "application/json")},
        )
        add(
            "/datasets/{dataset_id}/plot",
            self.plot,
            "One field at one place, along time or height",
            "plotDataset",
            query=PlotQuery,
            **{**files, "media_types": (PLOT.media_type, _CSV.media_type, "text/html")},
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
        """Answer ``/ogcapi/collections`` with one page of complete descriptions."""
        asked = incoming.query(request.scope["query_string"], CollectionsQuery)
        _accepts_json(request)
        tag = replies.etag_of_list(self._service.generation(), request, "ogc", self._url)
        box = None if asked.bbox is None else parse([("bbox", asked.bbox)], forms=()).bbox

        def build() -> bytes:
            filters = {"q": asked.q, "datetime": asked.datetime, "bbox": None if box is None else _flat(box)}
            given = {name: value for name, value in filters.items() if value is not None}
            page, before, following = self._coverages(asked.limit, asked.cursor, given)
            base = f"{self._url}/ogcapi/collections"
            here = request.scope["query_string"].decode("latin-1")
            links = [
                ogc.link(f"{base}?{here}" if here else base, "self", "This page"),
                ogc.link(f"{self._url}/ogcapi", "root", "OGC API"),
            ]
            kept = {name: value for name, value in asked.model_dump(exclude_none=True).items() if name != "cursor"}
            for cursor, rel, title in ((following, "next", "The next page"), (before, "prev", "The previous page")):
                if cursor is not None:
                    links.append(ogc.link(f"{base}?{urlencode({**kept, 'cursor': cursor})}", rel, title))
            whole = asked.cursor is None and following is None
            matched = len(page) if whole else self._matched(self._service.generation(), given)
            return replies.dumps(ogc.collections(page, public_url=self._url, links=links, matched=matched))

        return replies.reply(request, build, tag=tag)

    def _coverages(
        self, limit: int, cursor: str | None, given: Mapping[str, Any]
    ) -> tuple[list[PublishedView], str | None, str | None]:
        """Return one page of coverages, and the cursors of the page before and of the next page.

        A dataset can have several coverages. If a page begins or ends within a dataset, the cursor says so (:data:`_INSIDE`).
        """
        inside = _INSIDE.fullmatch(cursor or "")
        done, of, start = (int(inside[2]), inside[3], inside[4] or None) if inside else (0, "", cursor)
        if (inside and inside[1]) or is_back(start):
            return self._coverages_before(limit, start, (of, done), given)
        page = self._service.datasets(limit=limit, cursor=start, **given)
        found = [(at, each) for at, shown in enumerate(page.items) for each in shown.coverages()]
        before = page.before
        if inside and page.items and page.items[0].texts.dataset_id == of:
            found = found[done:]
            before = f"-{done}~{of}~{page.before or ''}"
        else:
            done = 0
        taken = [each for _, each in found[:limit]]
        if len(taken) == len(found):
            return taken, before, page.next
        at = found[limit][0]
        shown = sum(number == at for number, _ in found[:limit]) + (done if at == 0 else 0)
        resumed = start if at == 0 else self._first(at, start, given).next
        return taken, before, f"{shown}~{page.items[at].texts.dataset_id}~{resumed or ''}"

    def _coverages_before(
        self, limit: int, end: str | None, inside: tuple[str, int], given: Mapping[str, Any]
    ) -> tuple[list[PublishedView], str | None, str | None]:
        """Return the page that ends before a place: of the datasets before the cursor *end*, and of the first coverages of the
        dataset *inside* after them, if it is still there.
        """
        page = None if end is None else self._service.datasets(limit=limit, cursor=end, **given)
        items, (of, done) = list(page.items) if page else [], inside
        found = [(at, number, each) for at, shown in enumerate(items) for number, each in enumerate(shown.coverages())]
        following = page.next if page else None
        if of:
            with contextlib.suppress(NotFound):
                last = self._service.shown(of)
                found += [(len(items), number, each) for number, each in enumerate(last.coverages()[:done])]
                items.append(last)
                following = f"{done}~{of}~{following or ''}"
        taken = found[-limit:]
        if len(taken) == len(found):
            return [each for _, _, each in taken], page.before if page else None, following
        at, number, _ = taken[0]
        begin = end
        if page is not None and at < len(page.items):
            begin = self._first(len(page.items) - at, end, given).before
        before = f"-{number}~{items[at].texts.dataset_id}~{begin or ''}" if number else begin
        return [each for _, _, each in taken], before, following

    def _first(self, count: int, cursor: str | None, given: Mapping[str, Any]) -> Counted[PublishedView]:
        """Return the page of the first *count* datasets. A page has unreadable ones too, but not in its items."""
        limit = count
        while True:
            page = self._service.datasets(limit=limit, cursor=cursor, **given)
            missing = count - len(page.items)
            if not missing:
                return page
            limit += missing

    def _matched(self, generation: int, given: Mapping[str, Any]) -> int | None:
        """Return the total number of coverages; ``None`` if too many datasets have several coverages to count them.

        It is cached for each state of the catalog, because it is the same on each page and costs more than a page.
        """
        asked = generation, repr(sorted(given.items()))
        found = self._counted.get(asked)
        if found is None:
            found = (self._count(given),)
            self._counted.put(asked, found)
        return found[0]

    def _count(self, given: Mapping[str, Any]) -> int | None:
        matched = self._service.datasets(limit=1, count=True, **given).matched
        several = self._service.datasets(limit=_COUNTED, several_grids=True, **given)
        if matched is None or several.next is not None:
            return None
        return matched + sum(len(shown.description.grids) for shown in several.items)

    def collection(self, request: Request) -> Response:
        """Answer ``/ogcapi/collections/{collection_id}``."""
        return self._described(request, lambda shown: ogc.collection(shown, public_url=self._url))

    def schema(self, request: Request) -> Response:
        """Answer ``…/schema``."""
        return self._described(request, lambda shown: ogc.schema(shown, public_url=self._url), media_type=ogc.SCHEMA)

    def _described(
        self, request: Request, build: Callable[[PublishedView], Mapping[str, Any]], *, media_type: str = negotiation.JSON
    ) -> Response:
        incoming.query(request.scope["query_string"], DocumentQuery)
        _accepts_json(request, media_type)
        shown = self._coverage_at(request)
        tag = replies.etag_of(shown, request, media_type, self._url)
        return replies.reply(
            request,
            lambda: replies.dumps(build(shown)),
            media_type=media_type,
            tag=tag,
            headers={"Cubeport-Version": shown.version.version_id},
        )

    def instances(self, request: Request) -> Response:
        """Answer ``…/instances``: the retained versions that were ever published, newest first, with complete descriptions."""
        incoming.query(request.scope["query_string"], DocumentQuery)
        _accepts_json(request)
        shown = self._coverage_at(request)
        tag = replies.etag_of(shown, request, negotiation.JSON, self._url, self._service.generation())

        def build() -> bytes:
            dataset_id, grid = shown.texts.dataset_id, "" if shown.grid is None else f":{shown.grid}"
            [whole] = self._service.with_versions(self._service.shown(dataset_id))
            found = []
            for version in whole.versions[:_INSTANCES]:
                try:
                    found.append(self._service.coverage(f"{dataset_id}{grid}@{version.version_id}"))
                except NotFound:
                    continue  # an older version may not have this grid
            return replies.dumps(ogc.instances(shown, found, public_url=self._url))

        return replies.reply(request, build, tag=tag, headers=replies.versioned(shown))

    def locations(self, request: Request) -> Response:
        """Answer ``…/locations``: the stations of the data and the areas of the instance that meet them, as GeoJSON."""
        incoming.query(request.scope["query_string"], FeaturesQuery)
        _accepts_json(request, ogc.GEOJSON)
        shown = self._coverage_at(request)
        found, _ = self._places.page(shown, limit=_LOCATIONS)
        content = replies.dumps(places.locations(shown, [each.place for each in found], public_url=self._url))
        tag = replies.etag(shown.version.version_id, content.decode())
        return replies.reply(request, content, media_type=ogc.GEOJSON, tag=tag, headers=replies.versioned(shown))

    async def location(self, request: Request) -> Response:
        """Answer ``…/locations/{location_id}``: the values of a station, or the area query of a named area."""

        def read(request: Request) -> _ValuesRequest:
            shown = self._coverage_at(request)
            found = self._place_at(request, shown)
            kind = "area" if found.index is None else "position"
            pairs = [("coords", found.place.wkt), *_pairs_with_form(request, "f", FORMS)]
            place, selection = parse_query(kind, pairs, forms=_NAMES)
            place = replace(place, cell=None if found.index is None else (found.index,))
            return self._asked(request, shown, CubeQuery(selection, _form(request, selection, FORMS), place))

        return await self._values(request, read)

    def items(self, request: Request) -> Response:
        """Answer ``…/items``: the places of ``…/locations`` by pages, in a box and at a time (OGC API Features 1, 7.15)."""
        asked = incoming.query(request.scope["query_string"], ItemsQuery)
        _accepts_json(request, ogc.GEOJSON)
        shown = self._coverage_at(request)
        crs, box = _system(shown, asked.crs, "crs"), _box(shown, asked)
        start = int(asked.cursor or 0)
        found, matched = self._places.page(shown, box=box, datetime=asked.datetime, start=start, limit=asked.limit)
        base = f"{self._collection(shown)}/items"
        given = asked.model_dump(by_alias=True, exclude_none=True, exclude_unset=True)
        kept = {name: str(value) for name, value in given.items() if name != "f"}
        links = [ogc.link(f"{base}?{urlencode(kept)}" if kept else base, "self", "This page", ogc.GEOJSON)]
        if start + len(found) < matched:
            further = urlencode({**kept, "cursor": str(start + len(found))})
            links.append(ogc.link(f"{base}?{further}", "next", "The next page", ogc.GEOJSON))
        stamp = timestamp(shown.updated_at)
        listed = [each.place for each in found]
        document = places.items(shown, listed, public_url=self._url, links=links, matched=matched, stamp=stamp)
        return _features(request, shown, document, document["features"], crs, self._collection(shown))

    def item(self, request: Request) -> Response:
        """Answer ``…/items/{location_id}``."""
        asked = incoming.query(request.scope["query_string"], ItemQuery)
        _accepts_json(request, ogc.GEOJSON)
        shown = self._coverage_at(request)
        crs = _system(shown, asked.crs, "crs")
        document = places.item(shown, self._place_at(request, shown).place, public_url=self._url)
        return _features(request, shown, document, [document], crs, self._collection(shown))

    def _collection(self, shown: PublishedView) -> str:
        return f"{self._url}/ogcapi/collections/{shown.coverage_name}"

    def _place_at(self, request: Request, shown: PublishedView) -> Found:
        try:
            return self._places.named(shown, request.path_params["location_id"])
        except NotFound as absent:
            near = f"{self._collection(shown)}/locations"
            raise NotFound(absent.message, what="location", next_step=near) from None

    def _areas(self) -> Iterable[places.Area]:
        """Return the named areas of the instance: its extents, then the zones of its zone sets."""
        for each in self._service.extents().values():
            yield places.Area(each.extent_id, each.name, each.description, each.bbox, each.geometry)
        for zones in self._service.zone_sets().values():
            key = zones.id, zones.digest
            found = self._zones.get(key)
            if found is None:
                found = places.areas_of(zones)
                self._zones.put(key, found)
            yield from found

    def _coverage_at(self, request: Request) -> PublishedView:
        """Return the coverage in the URL; for an instance, the coverage of this version."""
        name, instance = request.path_params["collection_id"], request.path_params.get("instance_id")
        if instance is not None and "@" in name:
            raise NotFound("Instances belong to a collection, not to a version.", what="path")
        return self._service.coverage(name if instance is None else f"{name}@{instance}")

    # --- values ---------------------------------------------------------------------------------------------------------

    async def coverage(self, request: Request) -> Response:
        """Answer ``…/coverage``."""
        return await self._values(request, self._coverage)

    async def download(self, request: Request) -> Response:
        """Answer ``/datasets/{dataset_id}/download``: the copy of a version as it lies, or what is asked of its cube."""
        lying = await to_thread.run_sync(self._lying, request, limiter=self._light)
        return await self._values(request, self._download) if lying is None else lying

    def _lying(self, request: Request) -> Response | None:
        """Return the copy of the version, if all of it is wanted in the format of the copy."""
        asked = self._download(request)
        copy = asked.shown.version.copy_in(asked.query.form.name)
        selection = asked.query.selection
        if self._copy is None or copy is None or replace(selection, estimate=False) != Selection(form=selection.form):
            return None
        if selection.estimate:
            cost = self._queries.estimate(self._queries.plan(asked.shown, asked.query, placed=True))
            # It is sent as it lies, whatever the limits of answers that are made.
            lies = {"bytes": copy["size_bytes"], "seconds": 0.005, "allowed": True, "limit": None, "alternatives": []}
            return replies.reply(request, replies.dumps(cost | lies), headers=asked.version)
        # The tag is of the bytes: they stay the same when the texts of the dataset change.
        asked = replace(asked, tag=f'"{copy["sha256"][:32]}"')
        if (known := asked.known()) is not None:
            return known
        dataset_id, version_id = asked.shown.texts.dataset_id, asked.shown.version.version_id
        said = asked.version | answered.headers(self._queries.plan(asked.shown, asked.query, placed=True))
        fields = {"ETag": asked.tag, "Cache-Control": asked.cache, "Vary": "Accept", "Content-Type": asked.query.form.media_type}
        file = self._copy(dataset_id, version_id, copy["size_bytes"])
        return RangedFile(file.file, file.size, {**said, **fields})

    async def plot(self, request: Request) -> Response:
        """Answer ``/datasets/{dataset_id}/plot``."""
        query = _plot_query(request)
        if query.relative_to is not None and self._departures is not None:
            answer = await self._departures(request, query)
            answer.headers["Vary"] = ", ".join((*_VARIES, *filter(None, [answer.headers.get("vary")])))
            return answer
        for name, value in (("departure", query.departure), ("period", query.period)):
            if value is not None:
                words = f"{name} needs relative-to, the years of the normal"
                raise InvalidRequest(f"{words}.", errors=[Problem(("query", name), "missing", words)])
        return await self._values(request, self._plot)

    def _edr(self, kind: EdrQuery) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of one kind of EDR query."""

        def read(request: Request) -> _ValuesRequest:
            place, selection = parse_query(kind.name, _pairs_with_form(request, "f", FORMS), forms=_NAMES)
            query = CubeQuery(selection, _form(request, selection, FORMS), place)
            return self._asked(request, self._coverage_at(request), query)

        async def handler(request: Request) -> Response:
            return await self._values(request, read)

        return handler

    def _coverage(self, request: Request) -> _ValuesRequest:
        selection = parse(_pairs_with_form(request, "f", FORMS), forms=_NAMES, allowed=COVERAGE_PARAMETERS)
        query = CubeQuery(selection, _form(request, selection, FORMS))
        return self._asked(request, self._coverage_at(request), query)

    def _plot(self, request: Request) -> _ValuesRequest:
        query = _plot_query(request)
        view = View(query.v, query.t, query.z, query.subset, query.at)
        shown = self._service.shown(request.path_params["dataset_id"])
        shown = shown.having((view.v,)) if view.v is not None else shown
        known_field(shown.description, view.v)
        selection = parse(plot_parameters(shown.description, view), forms=(), allowed=COVERAGE_PARAMETERS)
        place = None
        if shown.description.spatial.family != "none":
            place = parse_query("position", [("coords", point(view.at))], forms=())[0]
        return self._asked(request, shown, CubeQuery(selection, _CSV if query.f == "csv" else PLOT, place, width=query.w))

    def _download(self, request: Request) -> _ValuesRequest:
        selection, ends = parse_download(_pairs_with_form(request, "format", _DOWNLOADS))
        form = _form(request, selection, _DOWNLOADS)
        shown = self._service.shown(request.path_params["dataset_id"]).having(selection.properties or ())
        if ends:
            selection = replace(selection, datetime=period_of(shown.description, shown.texts.period_type, ends))
        return self._asked(request, shown, CubeQuery(selection, form, download=True))

    def _asked(self, request: Request, shown: PublishedView, query: CubeQuery) -> _ValuesRequest:
        # Only URLs with a version id never change. A tag can be moved, and latest moves.
        cache = replies.IMMUTABLE if shown.pinned and _names_version(request, shown) else replies.NO_CACHE
        tag = replies.etag_of(shown, request, query.form.name, self._url, fixed=cache is replies.IMMUTABLE)
        return _ValuesRequest(request, shown, query, tag, cache)

    async def _values(self, request: Request, read: Callable[[Request], _ValuesRequest]) -> Response:
        """Answer with values: parse the query, plan it and run it.

        One thread does all the work for a light query. A heavy query waits for its place here, without a thread, so that lists and
        light queries are not delayed. If the client disconnects, the work stops.
        """
        left = threading.Event()
        watching = asyncio.create_task(waiting.watch(request, left))
        try:
            begun = await to_thread.run_sync(self._begun, request, read, left, limiter=self._light)
            if isinstance(begun, Response):
                return begun
            async with waiting.place(self._queries, left):
                return await to_thread.run_sync(self._finished, *begun, left, limiter=self._heavy)
        finally:
            watching.cancel()

    def _begun(
        self, request: Request, read: Callable[[Request], _ValuesRequest], left: threading.Event
    ) -> Response | tuple[_ValuesRequest, QueryPlan | None]:
        """Return the answer of a light query. For a heavy query, return its plan, or ``None`` if planning is heavy too."""
        asked = read(request)
        known = asked.known()
        if known is not None:
            return known
        waiting.check_there(left)
        if self._queries.large(asked.shown, asked.query):
            return asked, None
        plan = self._planned(asked, placed=False)
        if isinstance(plan, Response):
            return plan
        if self._queries.heavy(plan):
            return asked, plan
        waiting.check_there(left)
        return self._answered(asked, plan, left, placed=False)

    def _finished(self, query: _ValuesRequest, plan: QueryPlan | None, left: threading.Event) -> Response:
        """Return the answer to a query that has a place."""
        waiting.check_there(left)
        planned = self._planned(query, placed=True) if plan is None else plan
        if isinstance(planned, Response):
            return planned
        waiting.check_there(left)
        return self._answered(query, planned, left, placed=True)

    def _planned(self, wanted: _ValuesRequest, *, placed: bool) -> QueryPlan | Response:
        """Return the plan, or the complete answer if it needs no values (``estimate=true``, HEAD)."""
        plan = self._queries.plan(wanted.shown, wanted.query, placed=placed)
        if wanted.query.selection.estimate:
            return replies.reply(wanted.request, replies.dumps(self._queries.estimate(plan, placed=placed)), headers=wanted.version)
        head = wanted.request.scope.get("cubeport.head")
        self._queries.check(self._queries.final(plan, placed=placed) if head else plan)
        return self._without_values(wanted, plan) if head else plan

    def _answered(self, wanted: _ValuesRequest, plan: QueryPlan, left: threading.Event, *, placed: bool) -> Response:
        done = self._queries.answer(plan, left=left, placed=placed)
        said = wanted.version | answered.headers(done.plan)
        media_type = wanted.query.form.media_type
        if not isinstance(done.content, bytes):
            fields = {"ETag": wanted.tag, "Cache-Control": wanted.cache, "Vary": "Accept", "Content-Type": media_type}
            return AnswerFile(done.content, {**said, **fields})
        reply = replies.reply(
            wanted.request,
            done.content,
            media_type=media_type,
            tag=wanted.tag,
            cache=wanted.cache,
            headers=said,
            varies=_VARIES,
            zip_from=0,
        )
        sent = self._queries.hold(bytes(reply.body))
        return in_parts(wanted.request, reply) if isinstance(sent, bytes) else AnswerFile(sent, reply.headers)

    def _without_values(self, query: _ValuesRequest, plan: QueryPlan) -> Response:
        """Return the headers of GET without the length, which is only known after reading the values."""
        said = query.version | answered.headers(plan)
        given = replies.reply(
            query.request,
            b" ",
            media_type=plan.form.media_type,
            tag=query.tag,
            cache=query.cache,
            headers=said,
            varies=_VARIES,
            zip_from=0,
        )
        fields = {name: value for name, value in given.headers.items() if name != "content-length"}
        return StreamingResponse(iter(()), headers={**fields, "Accept-Ranges": "bytes"})


@dataclass(frozen=True, slots=True)
class _ValuesRequest:
    """A request for values that is parsed but not yet planned."""

    request: Request
    shown: PublishedView
    query: CubeQuery
    tag: str
    cache: str

    @property
    def version(self) -> dict[str, str]:
        return {"Cubeport-Version": self.shown.version.version_id}

    def known(self) -> Response | None:
        """Return 304 if the client already has the answer."""
        kind = self.query.form.media_type
        reply = replies.reply(
            self.request, b"", media_type=kind, tag=self.tag, cache=self.cache, headers=self.version, varies=_VARIES
        )
        return reply if reply.status_code == 304 else None


def _names_version(request: Request, shown: PublishedView) -> bool:
    if request.path_params.get("instance_id") == shown.version.version_id:
        return True
    address = request.path_params.get("collection_id") or request.path_params.get("dataset_id") or ""
    return str(address).endswith(f"@{shown.version.version_id}")


def _pairs(request: Request) -> list[tuple[str, str]]:
    """Return names and values as given, including repeated ones. Raises InvalidRequest if they are not text."""
    pairs, problems = incoming.pairs(request.scope["query_string"])
    if problems:
        raise InvalidRequest("The query is not text.", errors=problems)
    return pairs


def _pairs_with_form(request: Request, name: str, forms: Sequence[Form]) -> list[tuple[str, str]]:
    """Return the parameters, with the form (``f`` or ``format``) by its canonical name."""

    def plain(value: str) -> str:
        form = form_named(value, forms)
        return value if form is None else form.name

    return [(key, plain(value) if key == name else value) for key, value in _pairs(request)]


def _plot_query(request: Request) -> PlotQuery:
    """Return the parameters of a plot, with the form that ``Accept`` prefers if none is named. Raises NotAcceptable."""
    query = incoming.query(request.scope["query_string"], PlotQuery)
    if query.f is not None:
        return query
    form = negotiation.preferred(request, {PLOT.media_type: "svg", _CSV.media_type: "csv"})
    if form is None:
        raise NotAcceptable("A plot is SVG, or CSV with its values.", next_step="Send Accept: image/svg+xml or text/csv.")
    return query.model_copy(update={"f": form})


def _form(request: Request, selection: Selection, forms: Sequence[Form]) -> Form:
    """Return the form of the answer. ``f`` takes precedence over ``Accept``; the default is the first of *forms*.

    Raises
    ------
    NotAcceptable
        If ``Accept`` accepts none of them.
    """
    if selection.form is not None:
        return next(form for form in forms if form.name == selection.form)
    best = negotiation.preferred(request, _offers(forms))
    if best is None and selection.estimate:
        return forms[0]
    if best is None:
        offered = " or ".join(form.media_type for form in forms)
        raise NotAcceptable(
            f"The answer is one of {', '.join(form.title for form in forms)}.", next_step=f"Send Accept: {offered}."
        )
    return next(form for form in forms if form.name == best)


def _offers(forms: Sequence[Form]) -> dict[str, str]:
    """Return the media types for ``Accept`` with the names of their forms."""
    offers = {media_type: form.name for form in forms for media_type in (form.media_type, *form.also) if "/" in media_type}
    return offers | ({"application/octet-stream": forms[0].name} if forms == _DOWNLOADS else {})


def _accepts_json(request: Request, media_type: str = negotiation.JSON) -> None:
    asked = incoming.parameters(request.scope["query_string"])[0]
    if "f" not in asked and not negotiation.takes(request, {negotiation.JSON, media_type}):
        raise NotAcceptable("This document is JSON.", next_step=f"Send Accept: {media_type}.")


def _system(shown: PublishedView, asked: str | None, name: str) -> str:
    """Return the reference system of features that was asked for. Raises InvalidRequest if it is not offered."""
    crs = "OGC:CRS84" if asked is None else parse_crs(asked)
    offered = list(dict.fromkeys([*reprojected.OFFERED, storage_crs(shown.description)]))
    if crs not in offered:
        words = f"may be {', '.join('#storageCrs' if each == 'native' else each for each in offered)}"
        raise InvalidRequest(f"{name} {words}", errors=[Problem(("query", name), "not-offered", words)])
    return crs


def _box(shown: PublishedView, asked: ItemsQuery) -> tuple[float, float, float, float] | None:
    """Return the box of a query in degrees. Its axes have the order of its reference system."""
    system = _system(shown, asked.bbox_crs, "bbox-crs")
    given = [("bbox", asked.bbox), ("bbox-crs", asked.bbox_crs)]
    box = parse([(name, text) for name, text in given if text is not None], forms=()).bbox
    if box is None:
        return None
    if system in ("OGC:CRS84", LATITUDE_FIRST):
        return _flat(box)
    half = len(box) // 2
    try:
        own = geometries.onto_system(shown.description, system)
        return geometries.to_degrees((box[0], box[1], box[half], box[half + 1]), *own)
    except ValueError as exc:
        raise InvalidRequest(f"bbox {exc}", errors=[Problem(("query", "bbox"), "invalid-range", str(exc))]) from exc


def _features(
    request: Request,
    shown: PublishedView,
    document: Mapping[str, Any],
    features: Iterable[dict[str, Any]],
    crs: str,
    collection: str,
) -> Response:
    """Answer a document after its geometries are put into *crs* (OGC API Features 2)."""
    if crs != "OGC:CRS84":
        own = geometries.onto_system(shown.description, crs)
        for each in features:
            each["geometry"] = geometries.carried(each["geometry"], *own)
    content = replies.dumps(document)
    tag = replies.etag(shown.version.version_id, content.decode())
    headers = {**replies.versioned(shown), "Content-Crs": f"<{crs_uri(crs, collection)}>"}
    return replies.reply(request, content, media_type=ogc.GEOJSON, tag=tag, headers=headers)


def _flat(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the horizontal part of a box of four or six numbers, its longitudes within ±180."""
    half = len(box) // 2
    west, south, east, north = box[0], box[1], box[half], box[half + 1]
    if east - west >= 360:
        return -180.0, south, 180.0, north
    west, east = ((edge + 180) % 360 - 180 if abs(edge) > 180 else edge for edge in (west, east))
    return west, south, east, north
