"""Maps over HTTP: OGC API Maps and Tiles below ``/ogcapi``, legends and thumbnails below ``/datasets``."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.cubes.pictures.looks import palettes
from cubeport.cubes.pictures.places import CRS84, MERCATOR, Canvas, carried
from cubeport.cubes.selection import Selection, Subset, Trim, parse
from cubeport.documents import maps as documents
from cubeport.documents.legends import legend_png
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, NotAcceptable, NotFound, Problem
from cubeport.server import incoming, negotiation, replies
from cubeport.server.html import Site
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Reads
from cubeport.server.webmaps import WebMaps
from cubeport.service.pictures import MOST_SIDE, Choice, Picture, PictureQuery, Pictures, framed, moment, world

PNG = "image/png"
_LEGENDS = {documents.SVG: "svg", PNG: "png", "application/json": "json"}
_WIDTH, _THUMBNAIL = 1024, 512
_CODE = re.compile(r"(?:https?://www\.opengis\.net/def/crs/)?\[?([A-Za-z]{2,10})[:/](?:[0-9.]{1,6}/)?([A-Za-z0-9]{1,10})\]?")
_SELECTION = ("datetime", "subset", "properties")
_JOINED = ("subset",)
"""What may be given several times, as in coverages (OGC API Maps 1.0, 13.4)."""
_PLACES = {"lon": "x", "long": "x", "longitude": "x", "lat": "y", "latitude": "y"}
"""The axes of CRS84 in a subset of a map, by their usual names."""


def _checked_colour(text: str) -> str:
    if re.fullmatch("(0x|#)?[0-9A-Fa-f]{6}", text) is None:
        raise ValueError("must be a colour of six hex digits, such as 0xFF8800")
    return text


class LookQuery(incoming.Model):
    """The parameters for colours."""

    datetime: Annotated[str | None, Field(max_length=100, description="One instant. Default: the newest step up to now")] = None
    subset: Annotated[str | None, Field(max_length=500, description="axis(value), with commas: one slice of each axis")] = None
    properties: Annotated[str | None, Field(max_length=200, description="One field. Default: the first")] = None
    palette: Annotated[str | None, Field(max_length=40, description="For example viridis, thermal, balance, rain")] = None
    range: Annotated[
        str | None,
        Field(
            max_length=60,
            description="low,high; auto (default); level: of the level at all times; or view: of the values in the picture",
        ),
    ] = None
    steps: Annotated[int | None, Field(ge=2, le=254, description="Number of colours")] = None
    beyond: Annotated[Literal["clamp", "hide"] | None, Field(description="What to draw outside the range")] = None
    scale: Annotated[Literal["linear", "log"] | None, Field(description="Of the colours")] = None
    f: Annotated[Literal["png", "image/png"] | None, Field(description="png")] = None
    transparent: Annotated[bool, Field(description="Whether pixels without data are transparent")] = True
    bgcolor: Annotated[
        Annotated[str, AfterValidator(_checked_colour)] | None, Field(description="0xRRGGBB of pixels without data")
    ] = None


class MapQuery(LookQuery):
    """The parameters of a map (OGC API Maps 1.0)."""

    bbox: Annotated[str | None, Field(max_length=200, description="Four numbers, in bbox-crs")] = None
    bbox_crs: Annotated[str | None, Field(alias="bbox-crs", max_length=100, description="CRS84 (default), EPSG:4326 …")] = None
    crs: Annotated[str | None, Field(max_length=100, description="Of the picture: CRS84 (default), EPSG:3857 …")] = None
    width: Annotated[int | None, Field(ge=1, le=MOST_SIDE, description="Pixels")] = None
    height: Annotated[int | None, Field(ge=1, le=MOST_SIDE, description="Pixels")] = None
    estimate: Annotated[bool, Field(description="Return what it would cost, and read nothing")] = False


class TilesetQuery(LookQuery):
    """The parameters of a tileset. The URLs of its tiles contain the same parameters."""

    f: Annotated[Literal["json", "tilejson"] | None, Field(description="json (default) or tilejson")] = None  # type: ignore[assignment]


class LegendQuery(incoming.Model):
    """The parameters of a legend."""

    properties: Annotated[str | None, Field(max_length=200, description="One field. Default: the first")] = None
    palette: Annotated[str | None, Field(max_length=40, description="That of the map, if it has one")] = None
    range: Annotated[str | None, Field(max_length=60, description="That of the map, if it has one: low,high, auto or level")] = None
    subset: Annotated[str | None, Field(max_length=500, description="That of the map, for range=level")] = None
    f: Annotated[Literal["svg", "png", "json"] | None, Field(description="svg (default), png or json")] = None


class MapsFace:
    """Maps, tiles, legends and thumbnails."""

    def __init__(self, service: Reads, pictures: Pictures, *, site: Site) -> None:
        self._service = service
        self._pictures = pictures
        self._site = site
        self._url = site.public_url
        # Maps have their own threads, so that lists never wait for them.
        self._threads = CapacityLimiter(max(2, os.cpu_count() or 2))

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()

        def add(template: str, handler: Callable[..., Any], summary: str, **options: Any) -> None:
            tag = "OGC API" if template.startswith("/ogcapi") else "Datasets"
            router.add_api_route(template, handler, methods=["GET"], summary=summary, tags=[tag], **described(template, **options))

        collection = "/ogcapi/collections/{collection_id}"
        picture = {"statuses": (*READ, 413), "media_types": (PNG,)}
        priced = {**picture, "media_types": (PNG, "application/json")}
        add(f"{collection}/styles", self.styles, "The styles of its map", query=incoming.NoParameters)
        for one, styled in ((f"{collection}/map", ""), (f"{collection}/styles/{{style_id}}/map", " in a style")):
            add(one, self.map, f"A map of one slice{styled}", query=MapQuery, **priced)
            add(f"{one}/tiles", self.tilesets, f"Its tilesets{styled}", query=incoming.NoParameters)
            add(f"{one}/tiles/{{tms}}", self.tileset, f"One tileset, or its TileJSON{styled}", query=TilesetQuery)
            add(f"{one}/tiles/{{tms}}/{{zoom}}/{{row}}/{{column}}", self.tile, f"One tile{styled}", query=LookQuery, **picture)
        add("/ogcapi/tileMatrixSets", self.tile_matrix_sets, "Tile matrix sets", query=incoming.NoParameters)
        add("/ogcapi/tileMatrixSets/{tms}", self.tile_matrix_set, "One tile matrix set", query=incoming.NoParameters)
        add(
            "/datasets/{dataset_id}/legend",
            self.legend,
            "The legend of its map",
            query=LegendQuery,
            statuses=(*READ, 406),
            media_types=(documents.SVG, PNG, "application/json"),
        )
        add("/datasets/{dataset_id}/thumbnail.png", self.thumbnail, "A small map", query=incoming.NoParameters, **picture)
        router.routes.extend(WebMaps(self._service, self._pictures, self._threads, site=self._site).routes().routes)
        return router

    def choices(self, shown: PublishedView, selection: Selection) -> tuple[Choice, ...]:
        """Return the axes of a field along which a map shows one label."""
        return self._pictures.choices(shown, selection)

    def middle(self, shown: PublishedView) -> tuple[float, float] | None:
        """Return a place with data in the middle of them, ``None`` if that is the middle of their box."""
        return self._pictures.middle(shown)

    # --- pictures -------------------------------------------------------------------------------------------------------

    async def map(self, request: Request) -> Response:
        """Answer ``…/map``."""
        asked = incoming.query(request.scope["query_string"], MapQuery, joined=_JOINED)
        request.state.generation = self._service.generation()
        shown = self._service.coverage(request.path_params["collection_id"])
        if asked.estimate:
            return await to_thread.run_sync(partial(self._estimated, request, shown, asked), limiter=self._threads)
        return await self._drawn(request, shown, lambda: self._placed(asked, shown, _style(request)))

    async def tile(self, request: Request) -> Response:
        """Answer one tile."""
        asked = incoming.query(request.scope["query_string"], LookQuery, joined=_JOINED)
        request.state.generation = self._service.generation()
        shown = self._service.coverage(request.path_params["collection_id"])
        named = [request.path_params[each] for each in ("zoom", "row", "column")]
        numbers = [int(each) if re.fullmatch(r"[0-9]{1,7}", each) else -1 for each in named]
        canvas = documents.tile(request.path_params["tms"], *numbers)
        if canvas is None:
            raise NotFound("The tile matrix set has no such tile.", what="path", next_step=f"{self._url}/ogcapi/tileMatrixSets")
        return await self._drawn(request, shown, lambda: self._query(asked, canvas, _style(request)))

    async def thumbnail(self, request: Request) -> Response:
        """Answer ``…/thumbnail.png``."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        request.state.generation = self._service.generation()
        shown = self._service.shown(request.path_params["dataset_id"])
        return await self._drawn(request, shown, lambda: PictureQuery(world(shown.description, _THUMBNAIL), range="level"))

    async def _drawn(self, request: Request, shown: PublishedView, query: Callable[[], PictureQuery]) -> Response:
        pinned = shown.pinned and f"@{shown.version.version_id}" in request.scope["path"]
        dated = "datetime" in request.query_params or shown.description.temporal is None
        now = None if dated else moment(shown.description)
        tag = replies.etag_of(shown, request, "png", self._url, shown.description.overview_levels, now)
        request.state.lasting = now is None
        answer = partial(self._answer, request, shown, query, tag, replies.IMMUTABLE if pinned and dated else replies.NO_CACHE)
        return await to_thread.run_sync(answer, limiter=self._threads)

    def _answer(self, request: Request, shown: PublishedView, query: Callable[[], PictureQuery], tag: str, cache: str) -> Response:
        drawn: list[Picture] = []
        asked = query()

        def build() -> bytes:
            drawn.append(self._pictures.draw(shown, asked))
            return drawn[0].content

        response = replies.reply(request, build, media_type=PNG, tag=tag, cache=cache, headers=replies.versioned(shown))
        if drawn:
            response.headers.update(_described_by(asked.canvas, drawn[0], shown))
        return response

    def _estimated(self, request: Request, shown: PublishedView, asked: MapQuery) -> Response:
        cost = self._pictures.estimate(shown, self._placed(asked, shown, _style(request)))
        return replies.reply(request, replies.dumps(cost), headers=replies.versioned(shown))

    def _placed(self, query: MapQuery, shown: PublishedView, style: str | None) -> PictureQuery:
        """Return the picture of a map. A subset of longitudes and latitudes is its box (OGC API Maps 1.0, 13.4)."""
        selection = _selection(query.datetime, query.subset, query.properties)
        box, rest = _subset_box(selection)
        if box and query.bbox is not None:
            why = "bbox and subset both choose the part of the map"
            raise InvalidRequest(f"subset: {why}", errors=[Problem(("query", "subset"), "clash", why)])
        found = self._query(query, _canvas(query, shown, box), style)
        return replace(found, selection=replace(selection, subsets=rest))

    def _query(self, query: LookQuery, canvas: Canvas, style: str | None) -> PictureQuery:
        if style is not None and query.palette is not None:
            why = "the style of the address is the palette"
            raise InvalidRequest(f"palette: {why}", errors=[Problem(("query", "palette"), "conflict", why)])
        return PictureQuery(
            canvas,
            _selection(query.datetime, query.subset, query.properties),
            range=_range(query.range),
            palette=query.palette or style,
            steps=query.steps,
            hide_beyond=None if query.beyond is None else query.beyond == "hide",
            logarithmic=None if query.scale is None else query.scale == "log",
            background=None if query.transparent else _colour(query.bgcolor or "FFFFFF"),
        )

    # --- documents ------------------------------------------------------------------------------------------------------

    def legend(self, request: Request) -> Response:
        """Answer ``…/legend``."""
        asked = incoming.query(request.scope["query_string"], LegendQuery, joined=_JOINED)
        shown = self._service.shown(request.path_params["dataset_id"])
        form = asked.f or negotiation.preferred(request, _LEGENDS)
        if form is None:
            raise NotAcceptable("A legend is SVG, PNG or JSON.", next_step=f"Send Accept: {', '.join(_LEGENDS)}.")
        tag = replies.etag_of(shown, request, form, self._url)

        def build() -> bytes:
            selection = _selection(None, None, asked.properties)
            coverage = shown.having(selection.properties or ())
            level = _selection(None, asked.subset, asked.properties)
            wanted = PictureQuery(Canvas((0, 0, 1, 1), 1, 1), level, range=_range(asked.range), palette=asked.palette)
            if wanted.range == "view":
                why = "must be low,high, auto or level: the range of a view depends on its map"
                raise InvalidRequest(f"range: {why}", errors=[Problem(("query", "range"), "malformed", why)])
            field, _ = self._pictures.look(coverage, selection)
            look = self._pictures.look_of(coverage, wanted)
            variable = shown.description.variable(field)
            if form == "json":
                return replies.dumps(documents.legend(field, variable.title, variable.units, look))
            drawn = legend_png if form == "png" else documents.legend_svg
            return drawn(variable.title, variable.units, look)

        kind = next(each for each, name in _LEGENDS.items() if name == form)
        return replies.reply(request, build, media_type=kind, tag=tag, headers=replies.versioned(shown), varies=("Accept",))

    def styles(self, request: Request) -> Response:
        """Answer ``…/styles``: the dataset's own look, and every palette (OGC API Styles; OGC API Maps 1.0, 9)."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = self._service.coverage(request.path_params["collection_id"])
        field, look = self._pictures.look(shown)
        base = f"{self._url}/ogcapi/collections/{shown.coverage_name}"
        legend = f"{self._url}/datasets/{shown.dataset_name}/legend?{urlencode({'properties': field})}"
        document = documents.styles(base, shown.texts.title, look.palette, palettes(), legend)
        tag = replies.etag_of(shown, request, "json", self._url)
        return replies.reply(request, lambda: replies.dumps(document), tag=tag, headers=replies.versioned(shown))

    def tilesets(self, request: Request) -> Response:
        """Answer ``…/map/tiles``."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = self._service.coverage(request.path_params["collection_id"])
        name = _styled(request)
        self._pictures.look(shown)  # what cannot be drawn has no tiles

        def build() -> bytes:
            sets = [documents.tileset(name, shown.texts.title, each, self._url, "") for each in documents.TILE_MATRIX_SETS]
            return replies.dumps({"tilesets": sets})

        tag = replies.etag_of(shown, request, "json", self._url)
        return replies.reply(request, build, tag=tag, headers=replies.versioned(shown))

    def tileset(self, request: Request) -> Response:
        """Answer ``…/map/tiles/{tms}``."""
        asked = incoming.query(request.scope["query_string"], TilesetQuery, joined=_JOINED)
        name, tms = _styled(request), request.path_params["tms"]
        shown = self._service.coverage(request.path_params["collection_id"])
        if tms not in documents.TILE_MATRIX_SETS:
            raise NotFound("There is no such tile matrix set.", what="path", next_step=f"{self._url}/ogcapi/tileMatrixSets")
        # What its tiles would refuse is refused here.
        query = self._query(asked, Canvas((0, 0, 1, 1), 1, 1), _style(request))
        self._pictures.look_of(shown, replace(query, range=None, logarithmic=None) if query.range in ("view", "level") else query)
        kept = urlencode([(key, value) for key, value in request.query_params.multi_items() if key != "f"])

        def build() -> bytes:
            if asked.f == "tilejson":
                box = framed(shown.description.spatial.bbox)
                return replies.dumps(documents.tilejson(name, shown.texts.title, box, shown.texts.attribution, self._url, kept))
            return replies.dumps(documents.tileset(name, shown.texts.title, tms, self._url, kept))

        tag = replies.etag_of(shown, request, "json", self._url)
        return replies.reply(request, build, tag=tag, headers=replies.versioned(shown))

    def tile_matrix_sets(self, request: Request) -> Response:
        """Answer ``/ogcapi/tileMatrixSets``."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        return _fixed(request, documents.tile_matrix_sets(self._url))

    def tile_matrix_set(self, request: Request) -> Response:
        """Answer ``/ogcapi/tileMatrixSets/{tms}``."""
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tms = request.path_params["tms"]
        if tms not in documents.TILE_MATRIX_SETS:
            raise NotFound("There is no such tile matrix set.", what="path", next_step=f"{self._url}/ogcapi/tileMatrixSets")
        return _fixed(request, documents.tile_matrix_set(tms))


def _style(request: Request) -> str | None:
    """Return the palette that the address names, ``None`` where it leaves the look to the dataset. Raises NotFound."""
    name: str | None = request.path_params.get("style_id")
    if name in (None, documents.DEFAULT_STYLE):
        return None
    if name not in palettes():
        raise NotFound("There is no such style.", what="path", next_step="See …/styles of the collection.")
    return name


def _styled(request: Request) -> str:
    """Return the collection's name as addresses of its tiles have it, with the style where there is one. Raises NotFound."""
    name = str(request.path_params["collection_id"])
    _style(request)
    style = request.path_params.get("style_id")
    return name if style is None else f"{name}/styles/{style}"


def _fixed(request: Request, document: Mapping[str, Any]) -> Response:
    content = replies.dumps(document)
    return replies.reply(request, content, tag=replies.etag("fixed", content))


def _selection(datetime: str | None, subset: str | None, properties: str | None) -> Selection:
    if datetime is not None and "/" in datetime:
        why = "must be one time, because a map shows one slice"
        raise InvalidRequest(f"datetime: {why}", errors=[Problem(("query", "datetime"), "malformed", why)])
    given = (("datetime", datetime), ("subset", subset), ("properties", properties))
    return parse([(name, value) for name, value in given if value is not None], forms=(), allowed=_SELECTION)


def _subset_box(selection: Selection) -> tuple[dict[str, tuple[float, float]], tuple[Subset, ...]]:
    """Return the ends of longitudes and latitudes that subsets choose, by ``x`` and ``y``, and the other subsets."""
    box: dict[str, tuple[float, float]] = {}
    rest = []
    for each in selection.subsets:
        name, part = _PLACES.get(each.axis.lower()), each.part
        if name is None or name in box or not isinstance(part, Trim):
            rest.append(each)
        elif isinstance(part.low, float | int) and isinstance(part.high, float | int):
            box[name] = float(part.low), float(part.high)
        else:
            why = f"{each.axis} needs two numbers"
            raise InvalidRequest(f"subset: {why}", errors=[Problem(("query", "subset"), "malformed", why)])
    return box, tuple(rest)


def _canvas(query: MapQuery, shown: PublishedView, part: Mapping[str, tuple[float, float]]) -> Canvas:
    """Return the canvas of a map: the requested box, that of *part*, or that of the dataset. Raises InvalidRequest."""
    crs = _crs(query.crs, "crs") if query.crs else CRS84
    own = world(shown.description, _WIDTH)
    if part:
        (west, east), (south, north) = (part.get(name, (own.bbox[at], own.bbox[at + 2])) for at, name in enumerate("xy"))
        bbox = _carried(_within((west, south, east, north), "subset", degrees=True), CRS84, crs)
    elif query.bbox is None:
        bbox = _carried(own.bbox, CRS84, crs)
    else:
        given_in = _crs(query.bbox_crs, "bbox-crs") if query.bbox_crs else CRS84
        bbox = _carried(_box(query.bbox, query.bbox_crs), given_in, crs)
    x0, y0, x1, y1 = bbox
    ratio = (y1 - y0) / (x1 - x0)
    if crs == CRS84:
        ratio /= max(0.1, math.cos(math.radians((y0 + y1) / 2)))
    width, height = query.width, query.height
    if width is None and height is None:
        width = _WIDTH if ratio <= 1 else max(1, round(_WIDTH / ratio))
    if width is None:
        assert height is not None
        width = max(1, round(height / ratio))
    height = max(1, round(width * ratio)) if height is None else height
    return Canvas(bbox, width, height, crs)


def _crs(text: str, parameter: str) -> str:
    """Return ``AUTHORITY:code``, with one name for CRS84 and for Web Mercator."""
    found = _CODE.fullmatch(text.strip())
    name = "CRS84" if text.strip().upper() == "CRS84" else None
    if found is None and name is None:
        why = "must be CRS84, AUTHORITY:code or the address of a reference system"
        raise InvalidRequest(f"{parameter}: {why}", errors=[Problem(("query", parameter), "malformed", why)])
    authority, code = (found.group(1).upper(), found.group(2)) if found is not None else ("OGC", "CRS84")
    if (authority, code) in (("OGC", "CRS84"), ("CRS", "84"), ("EPSG", "4326")):
        return CRS84
    return MERCATOR if (authority, code) in (("EPSG", "900913"), ("EPSG", "3785")) else f"{authority}:{code}"


def _box(text: str, crs: str | None) -> tuple[float, float, float, float]:
    """Return the box, x before y. In EPSG:4326, the parameter has latitude first. Raises InvalidRequest."""
    try:
        numbers = [float(each) for each in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        why = "must be four numbers with commas"
        raise InvalidRequest(f"bbox: {why}", errors=[Problem(("query", "bbox"), "malformed", why)])
    if crs is not None and "4326" in crs:
        numbers = [numbers[1], numbers[0], numbers[3], numbers[2]]
    west, south, east, north = numbers
    return _within((west, south, east, north), "bbox", degrees=crs is None or "4326" in crs or "CRS84" in crs.upper())


def _within(box: tuple[float, float, float, float], name: str, *, degrees: bool) -> tuple[float, float, float, float]:
    """Return the box of a parameter with its east beyond its west. Raises InvalidRequest."""
    west, south, east, north = box
    if degrees and east <= west:
        east += 360.0
    if not (south < north and west < east) or (degrees and (abs(south) > 90 or abs(north) > 90 or east - west > 720)):
        why = "must be west,south,east,north: south below north, latitudes within 90 degrees"
        raise InvalidRequest(f"{name}: {why}", errors=[Problem(("query", name), "out-of-range", why)])
    return west, south, east, north


def _carried(box: tuple[float, float, float, float], crs: str, to: str) -> tuple[float, float, float, float]:
    """Return the bounding box of *box* in another reference system. Raises InvalidRequest."""
    try:
        return carried(box, crs, to)
    except ValueError as exc:
        raise InvalidRequest(f"crs: {exc}", errors=[Problem(("query", "crs"), "out-of-range", str(exc))]) from exc


def _range(text: str | None) -> tuple[float, float] | str | None:
    if text in (None, "auto"):
        return None
    if text in ("view", "level"):
        return text
    try:
        low, high = (float(each) for each in str(text).split(","))
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(text)
    except ValueError as exc:
        why = "must be low,high with low below high; auto; level; or view"
        raise InvalidRequest(f"range: {why}", errors=[Problem(("query", "range"), "malformed", why)]) from exc
    return low, high


def _colour(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text.removeprefix("0x").removeprefix("#"))
    return red, green, blue


def _described_by(canvas: Canvas, picture: Picture, shown: PublishedView) -> dict[str, str]:
    """Return the headers that describe the map (OGC API Maps 1.0, 7.2)."""
    address = {CRS84: "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}
    authority, _, code = canvas.crs.partition(":")
    headers = {
        "Content-Bbox": ",".join(f"{each:.10g}" for each in canvas.bbox),
        "Content-Crs": f"<{address.get(canvas.crs, f'http://www.opengis.net/def/crs/{authority}/0/{code}')}>",
    }
    if shown.description.overview_levels:
        headers["Cubeport-Overview"] = str(picture.overview)
    temporal = shown.description.temporal
    if temporal is not None:
        axis = next((each for each in shown.description.axes if each.name == temporal.axis), None)
        if axis is not None and axis.dimension in picture.slices:
            headers["Content-Datetime"] = picture.slices[axis.dimension]
    return headers
