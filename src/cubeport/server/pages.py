"""HTML pages and the description of the API: landing page, problem kinds, OpenAPI, its interactive page, assets.

Everything that a page needs comes from this server: no script, style, font or picture of another host, and no inline code.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport import errors
from cubeport.cubes.pictures import coast
from cubeport.cubes.pictures.places import CRS84, Canvas
from cubeport.cubes.view import corners
from cubeport.documents import maps
from cubeport.documents import native as documents
from cubeport.documents.texts import PublishedView
from cubeport.errors import NotFound
from cubeport.server import html, incoming, negotiation, openapi, problems, records, replies
from cubeport.server.bodies import SCHEMAS
from cubeport.server.incoming import FormQuery
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Parts
from cubeport.server.search import Search
from cubeport.service.datasets import MOST_COUNTED

_ASSETS = (
    "coast.svg",
    "cubeport.css",
    "dataset.js",
    "docs.css",
    "docs.js",
    "icon.svg",
    "jobs.js",
    "land.svg",
    "landing.js",
    "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui/swagger-ui.css",
)
OPENAPI = "application/vnd.oai.openapi+json;version=3.1"

_ONE_DAY = "public, max-age=86400"
"""Of what only another release changes, and many views load."""
_PAGE = 50
"""How many datasets the landing page shows."""
_FACETS = {"variable": "Variable", "keyword": "Keyword", "license": "Licence"}
_CHOSEN = {"q": "Words", "bbox": "Place", "datetime": "Time", **_FACETS}
"""What the list can be narrowed down by, and freed of."""
_LEAST_VALUES = 2
"""Values from which a facet is shown: one value narrows nothing down."""
_SORTS = (("dataset_id", "Id"), ("dataset_name", "Title"), ("-last_updated", "Newest first"))

_CALENDARS = (
    ("standard", "Mixed Julian and Gregorian: Gregorian since 1582-10-15, as in civil life."),
    ("gregorian", "The same as standard."),
    ("proleptic_gregorian", "Gregorian leap years for all of time."),
    ("julian", "A leap year every fourth year."),
    ("noleap", "Every year has 365 days; there is no 29 February."),
    ("365_day", "The same as noleap."),
    ("all_leap", "Every year has 366 days."),
    ("366_day", "The same as all_leap."),
    ("360_day", "Twelve months of 30 days: 30 February is a day."),
)

_ADVICE = {
    errors.InvalidRequest: "change the request; errors names each place.",
    errors.NotFound: "see what exists, then request that.",
    errors.Conflict: "read the present state, then decide.",
    errors.Refused: "bring another source; reason says what is wrong with this one.",
    errors.Unavailable: "try again later; Retry-After says when.",
    errors.Corrupt: "tell the operator; stored bytes must be restored.",
    errors.CubeportError: "tell the operator, with the request id.",
}


class LandingQuery(incoming.Model):
    """The parameters of the landing page."""

    f: Literal["json", "html"] | None = None
    q: Annotated[str | None, Field(max_length=500)] = None
    bbox: incoming.BBox | Literal[""] | None = None
    datetime: Annotated[str | None, Field(max_length=100, description="An RFC 3339 instant, or a/b, ../b, a/..")] = None
    variable: Annotated[str | None, Field(max_length=200)] = None
    keyword: Annotated[str | None, Field(max_length=200)] = None
    license: Annotated[str | None, Field(max_length=200)] = None
    sort: Literal["dataset_id", "dataset_name", "-last_updated", ""] | None = None
    cursor: Annotated[str | None, Field(max_length=1000)] = None


class CoastQuery(incoming.Model):
    """The parameters of a picture of the coast."""

    bbox: Annotated[str, Field(max_length=200, description="xmin,ymin,xmax,ymax in crs; degrees may go beyond 180")]
    crs: Annotated[
        Literal["CRS84", "EPSG:3995", "EPSG:3031"], Field(description="CRS84 (default), EPSG:3995 (north) or EPSG:3031 (south)")
    ] = "CRS84"
    width: Annotated[int, Field(ge=16, le=4096, description="Pixels")] = 1120
    land: Annotated[bool, Field(description="The filled land, to lie below the data, instead of the lines above them")] = False


class LandingPage(BaseModel):
    """Every face of the service."""

    title: str
    description: str
    links: tuple[documents.Link, ...]


class ProblemKind(BaseModel):
    """The description of one kind of problem."""

    kind: str
    title: str
    status: int
    advice: str
    type: str


def routes(parts: Parts, framework: FastAPI) -> APIRouter:
    """Return the routes of this face. *framework* makes the OpenAPI document on request."""
    router = APIRouter()
    face = _Pages(parts, framework)

    def add(template: str, handler: Callable[..., Any], summary: str, **description: Any) -> None:
        router.add_api_route(
            template, handler, methods=["GET"], summary=summary, tags=["The service"], **described(template, **description)
        )

    both = ("application/json", "text/html")
    form = FormQuery
    add("/", face.landing, "Every face", query=LandingQuery, statuses=(*READ, 406), schema=LandingPage, media_types=both)
    add(
        "/problems/{kind}",
        face.problem,
        "What a kind means",
        query=form,
        statuses=(*READ, 406),
        schema=ProblemKind,
        media_types=both,
    )
    add("/openapi.json", face.openapi, "This document", media_types=(OPENAPI,))
    add("/docs", face.docs, "Interactive documentation", media_types=("text/html",))
    add("/jobs", face.jobs, "Jobs, for callers with a key", media_types=("text/html",))
    add("/help", face.help, "How to find, see, take and cite a dataset", media_types=("text/html",))
    add("/docs/calendars", face.calendars, "What calendars mean", media_types=("text/html",))
    add("/coast.svg", face.coast, "The coast in a part of a map", query=CoastQuery, media_types=(maps.SVG,))
    add("/assets/{name}", face.asset, "Styles, scripts and pictures of the pages", media_types=("text/css", "text/javascript"))
    return router


class _Pages:
    def __init__(self, parts: Parts, framework: FastAPI) -> None:
        self._parts = parts
        self._framework = framework
        self._url = parts.public_url
        self._openapi: bytes | None = None
        self._about: tuple[str, str] | None = None
        """The dataset and version of the examples in the document."""

    def landing(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], LandingQuery)
        form = negotiation.form(request, asked.f)
        links = _faces(self._url)
        tag = replies.etag_of_list(self._parts.service.generation(), request, form, f"{self._url} {self._parts.version}")
        if form == "json":
            page = LandingPage(title=self._parts.title, description=self._parts.description, links=tuple(link for link, _ in links))
            return replies.reply(request, lambda: page.model_dump_json(exclude_none=True).encode(), tag=tag, varies=("Accept",))

        def build() -> bytes:
            filters: dict[str, Any] = {name: getattr(asked, name) or None for name in ("q", "datetime", *_FACETS)}
            filters["bbox"] = tuple(map(float, asked.bbox.split(","))) if asked.bbox else None
            given = {name: value for name, value in filters.items() if value is not None}
            sort = asked.sort or "dataset_id"
            found = self._parts.service.datasets(limit=_PAGE, cursor=asked.cursor, count=True, sort=sort, **given)
            here = {name: value for name, value in asked.model_dump(exclude={"f", "cursor"}).items() if value}
            return html.rendered(
                "landing.html",
                self._parts,
                faces=[{"href": link.href, "title": link.title, "text": text} for link, text in links if link.rel in _SHOWN_FACES],
                datasets=[html.card(shown, self._parts) for shown in found.items],
                matched=found.matched,
                most_counted=MOST_COUNTED,
                asked=here,
                sort=sort,
                sorts=_SORTS,
                chosen=[
                    {"name": title, "value": here[name], "href": self._address(here, name, None)}
                    for name, title in _CHOSEN.items()
                    if name in here
                ],
                facets=self._facets(given, here),
                next=found.next and self._address(here | {"cursor": found.next}),
                first=asked.cursor and self._address(here),
            )

        return _page(request, build, tag=tag)

    def _facets(self, given: Mapping[str, Any], here: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return what the list can be narrowed down by: values that some of it has, and not all."""
        found: list[Mapping[str, Any]] = []
        for name, values in self._parts.service.facets(**given).items():
            if name in here or len(values) < _LEAST_VALUES:
                continue
            entries = [
                {
                    "value": value,
                    "count": count,
                    "href": self._address(here, name, value),
                }
                for value, count in values
            ]
            found.append({"title": _FACETS[name], "entries": entries})
        return found

    def _address(self, here: Mapping[str, Any], name: str | None = None, value: str | None = None) -> str:
        """Return the address of this page with one parameter changed, without it for ``None``."""
        pairs = {"f": "html", **here} | ({name: value} if name is not None else {})
        return f"{urlsplit(self._url).path.rstrip('/')}/?{urlencode({key: each for key, each in pairs.items() if each})}"

    def problem(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], FormQuery)
        form = negotiation.form(request, asked.f)
        kind = next((each for each in errors.kinds() if each.kind == request.path_params["kind"]), None)
        if kind is None:
            raise NotFound("No problem has that kind", what="path")
        status = problems.status_of(kind)
        advice = next(_ADVICE[each] for each in kind.__mro__ if each in _ADVICE)
        meaning = ProblemKind(
            kind=kind.kind, title=kind.title(), status=status, advice=advice, type=f"{self._url}/problems/{kind.kind}"
        )
        tag = replies.etag("problem", meaning.model_dump_json(), form, self._parts.version)
        if form == "json":
            return replies.reply(request, meaning.model_dump_json().encode(), tag=tag, varies=("Accept",))
        return _page(
            request,
            lambda: html.rendered("problem.html", self._parts, kind=kind.kind, text=kind.title(), status=status, advice=advice),
            tag=tag,
        )

    def openapi(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = next(iter(self._parts.service.datasets(limit=1).items), None)
        about = (shown.texts.dataset_id, shown.version.version_id) if shown is not None else None
        if self._openapi is None or about != self._about:
            self._about = about
            models = (*SCHEMAS, *records.SCHEMAS, LandingPage, ProblemKind, Search)
            examples = _examples(shown) | self._configured()
            made = openapi.document(self._framework, models, public_url=self._url, limits=self._parts.limits, examples=examples)
            self._openapi = replies.dumps(made)
        tag = replies.etag("openapi", hashlib.sha256(self._openapi).hexdigest())
        return replies.reply(request, self._openapi, media_type=OPENAPI, tag=tag)

    def _configured(self) -> dict[str, str]:
        """Return the first template and the first area, if there are any."""
        zone_sets, extents = self._parts.service.zone_sets(), self._parts.service.extents()
        found = (
            ("template_id", self._parts.service.templates()),
            ("extent_id", extents),
            ("zone_set_id", zone_sets or extents),
            ("zones", zone_sets or extents),
        )
        return {name: min(things) for name, things in found if things}

    def docs(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag("docs", self._parts.title, self._url, self._parts.version)
        return _page(request, lambda: html.rendered("docs.html", self._parts), tag=tag, varies=())

    def jobs(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag("jobs", self._parts.title, self._url, self._parts.version)
        return _page(request, lambda: html.rendered("jobs.html", self._parts), tag=tag, varies=())

    def help(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag("help", self._parts.title, self._url, self._parts.version)
        return _page(request, lambda: html.rendered("help.html", self._parts), tag=tag, varies=())

    def calendars(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag("calendars", self._parts.title, self._url, self._parts.version)
        return _page(request, lambda: html.rendered("calendars.html", self._parts, calendars=_CALENDARS), tag=tag, varies=())

    def coast(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], CoastQuery)
        x0, y0, x1, y1 = corners(asked.bbox, None if asked.crs == "CRS84" else asked.crs)
        crs = CRS84 if asked.crs == "CRS84" else asked.crs
        height = min(4096, max(1, round(asked.width * (y1 - y0) / (x1 - x0))))
        canvas = Canvas((x0, y0, x1, y1), asked.width, height, crs)
        return replies.reply(
            request,
            (lambda: maps.land_svg(canvas, coast.land(canvas)))
            if asked.land
            else (lambda: maps.coast_svg(canvas, coast.lines(canvas), coast.graticule(canvas), coast.parallels(canvas))),
            media_type=maps.SVG,
            tag=replies.etag("coast", self._parts.version, canvas, asked.land),
            cache=_ONE_DAY,
        )

    def asset(self, request: Request) -> Response:
        asset = _assets().get(request.path_params["name"])
        if asset is None:
            raise NotFound("There is no such file", what="path")
        return replies.reply(request, asset.content, zipped=asset.zipped, media_type=asset.media_type, tag=asset.tag)


def _examples(shown: PublishedView | None) -> dict[str, Any]:
    """Return parameter values that work for a dataset and select a small part with data."""
    if shown is None:
        return {}
    dataset_id, cube = shown.texts.dataset_id, shown.description
    found: dict[str, Any] = {"dataset_id": dataset_id, "collection_id": dataset_id, "ref": "latest"}
    found["beginning"] = dataset_id[0]
    found["item_id"] = f"{dataset_id}@{shown.version.version_id}"
    found["instance_id"] = shown.version.version_id
    if cube.fields:
        found |= dict.fromkeys(("properties", "parameter-name", "variables"), cube.fields[0])
    if cube.temporal is not None and cube.temporal.index_start:
        found["datetime"] = cube.temporal.index_start
    if cube.spatial.bbox is not None:
        west, south, east, north = cube.spatial.bbox
        east = east if east >= west else 180.0
        x, y = round((west + east) / 2, 4), round((south + north) / 2, 4)
        dx, dy = round(min((east - west) / 4, 5.0), 4), round(min((north - south) / 4, 5.0), 4)
        found["bbox"] = ",".join(f"{each:g}" for each in (x - dx, y - dy, x + dx, y + dy))
        found["coords"] = f"POINT({x:g} {y:g})"
        corners = ((x - dx, y - dy), (x + dx, y - dy), (x + dx, y + dy), (x - dx, y - dy))
        found["line"] = f"LINESTRING({x - dx:g} {y - dy:g},{x + dx:g} {y + dy:g})"
        found["polygon"] = f"POLYGON(({','.join(f'{a:g} {b:g}' for a, b in corners)}))"
    return found


_SHOWN_FACES = ("data", "stac", "ogc", "service-doc")


def _faces(url: str) -> list[tuple[documents.Link, str]]:
    def face(rel: str, path: str, title: str, text: str, type: str = "application/json") -> tuple[documents.Link, str]:
        return documents.Link(href=f"{url}{path}", rel=rel, title=title, type=type), text

    return [
        face("self", "/?f=json", "This document", ""),
        face("alternate", "/?f=html", "This document as a page", "", "text/html"),
        face("stac", "/stac", "STAC", "Collections and items for STAC clients and browsers."),
        face("ogc", "/ogcapi", "OGC API", "Coverages: select the part of a cube that you need by place, time and variable."),
        face("data", "/datasets", "Datasets", "The service's own list: every dataset with all its addresses."),
        face("records", "/records", "Records", "All records of the catalog that you may see, of any kind."),
        face("service-doc", "/docs", "API", "Every route, to read and to try.", "text/html"),
        face("service-desc", "/openapi.json", "The API's description", "", OPENAPI),
        face("templates", "/dataset-templates", "Sources that can be ingested", ""),
        face("extents", "/extent", "Named areas", ""),
        face("about", "/info", "What this service is", ""),
    ]


def _page(request: Request, build: Callable[[], bytes], *, tag: str, varies: tuple[str, ...] = ("Accept",)) -> Response:
    return replies.reply(request, build, media_type=negotiation.HTML, tag=tag, varies=varies, headers=replies.PAGE_HEADERS)


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    zipped: bytes
    media_type: str
    tag: str


@cache
def _assets() -> Mapping[str, _Asset]:
    """Return all asset files, read and compressed once. Only their names are valid."""
    found = {}
    for name in _ASSETS:
        content = (files("cubeport.server") / "assets" / name).read_bytes()
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        found[name.rpartition("/")[2]] = _Asset(
            content,
            gzip.compress(content, mtime=0),
            f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type,
            replies.etag("asset", hashlib.sha256(content).hexdigest()),
        )
    return found
