"""WMS 1.3.0 at ``/wms/{dataset_id}`` and WMTS 1.0.0 at ``/wmts/{dataset_id}``, for QGIS, GDAL, ArcGIS and OpenLayers.

Each dataset is a separate service, so capabilities stay small. Its layers are the fields of all its grids.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.cubes.pictures.looks import palettes
from cubeport.cubes.pictures.places import CRS84, MERCATOR, Canvas
from cubeport.cubes.selection import Selection, Slice, Subset, parse_datetime
from cubeport.cubes.view import POLAR
from cubeport.cubes.view import maps as maps_of
from cubeport.documents import maps, webmaps
from cubeport.documents.legends import legend_png
from cubeport.documents.texts import PublishedView
from cubeport.errors import CubeportError, InvalidRequest, NotFound, Problem
from cubeport.server import html, incoming, negotiation, problems, replies
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Reads
from cubeport.service.pictures import MOST_SIDE, RUN, Picture, PictureQuery, Pictures, framed, moment, no_map

PNG = "image/png"
_LISTED_LABELS = 2_000
"""Capabilities list up to this many labels of an axis. If there are more and they are even, they are given as an interval."""
_SYSTEMS = ("CRS:84", "EPSG:4326", "EPSG:3857")
_REQUESTS = "GetCapabilities, GetMap, GetFeatureInfo or GetLegendGraphic"


class MapRequest(incoming.Model):
    """The parameters of a WMS, for the API definition. Names are case-insensitive."""

    REQUEST: Annotated[str | None, Field(description=f"{_REQUESTS}; default GetCapabilities")] = None
    SERVICE: Annotated[str | None, Field(description="WMS")] = None
    VERSION: Annotated[str | None, Field(description="1.3.0 (default) or 1.1.1")] = None
    LAYERS: Annotated[str | None, Field(description="One field")] = None
    STYLES: Annotated[str | None, Field(description="default, or raster/ and a palette")] = None
    CRS: Annotated[str | None, Field(description="CRS:84, EPSG:4326, EPSG:3857 or another EPSG code; SRS in 1.1.1")] = None
    BBOX: Annotated[str | None, Field(description="Four numbers, in the axis order of CRS")] = None
    WIDTH: Annotated[str | None, Field(description="Pixels")] = None
    HEIGHT: Annotated[str | None, Field(description="Pixels")] = None
    FORMAT: Annotated[str | None, Field(description="image/png")] = None
    TRANSPARENT: Annotated[str | None, Field(description="TRUE or FALSE (default)")] = None
    BGCOLOR: Annotated[str | None, Field(description="0xRRGGBB")] = None
    TIME: Annotated[str | None, Field(description="A step, or a/b for the first step in it. Default: the newest up to now")] = None
    ELEVATION: Annotated[str | None, Field(description="One level; other axes are DIM_ and their name")] = None
    COLORSCALERANGE: Annotated[
        str | None, Field(description="low,high; level: of the ELEVATION at all times; or auto: of the values in the map")
    ] = None
    NUMCOLORBANDS: Annotated[str | None, Field(description="2 to 254")] = None
    LOGSCALE: Annotated[str | None, Field(description="true")] = None
    QUERY_LAYERS: Annotated[str | None, Field(description="Fields whose value is returned")] = None
    I: Annotated[str | None, Field(description="Column of the pixel")] = None  # noqa: E741  # the standard's name
    J: Annotated[str | None, Field(description="Row of the pixel, from the top")] = None
    LAYER: Annotated[str | None, Field(description="The field of a legend")] = None
    STYLE: Annotated[str | None, Field(description="The style of a legend")] = None
    INFO_FORMAT: Annotated[str | None, Field(description="application/json (default), text/plain or text/html")] = None


class TileRequest(incoming.Model):
    """The parameters of a WMTS, for the API definition. Names are case-insensitive."""

    REQUEST: Annotated[str | None, Field(description="GetCapabilities (default) or GetTile")] = None
    SERVICE: Annotated[str | None, Field(description="WMTS")] = None
    VERSION: Annotated[str | None, Field(description="1.0.0")] = None
    LAYER: Annotated[str | None, Field(description="One field")] = None
    STYLE: Annotated[str | None, Field(description="default, or raster/ and a palette")] = None
    TILEMATRIXSET: Annotated[str | None, Field(description="WebMercatorQuad or WorldCRS84Quad")] = None
    TILEMATRIX: Annotated[str | None, Field(description="The zoom level")] = None
    TILEROW: Annotated[str | None, Field(description="From the top")] = None
    TILECOL: Annotated[str | None, Field(description="From the left")] = None
    TIME: Annotated[str | None, Field(description="One step. Default: the newest up to now")] = None


_TAKEN = frozenset(name.lower() for name in (*MapRequest.model_fields, *TileRequest.model_fields))
"""Names of parameters: an axis with such a name, as ``height``, is requested as ``DIM_`` and its name only."""


class _Refused(Exception):
    """A refused request, with the error code of the standard."""

    def __init__(self, text: str, code: str | None = None, parameter: str | None = None) -> None:
        super().__init__(text)
        self.code, self.parameter = code, parameter


class WebMaps:
    """WMS and WMTS."""

    def __init__(self, service: Reads, pictures: Pictures, threads: CapacityLimiter, *, site: html.Site) -> None:
        self._service = service
        self._pictures = pictures
        self._threads = threads
        self._site = site
        self._url = site.public_url

    def routes(self) -> APIRouter:
        """Return the routes of both services."""
        router = APIRouter()

        def add(template: str, handler: Callable[..., Any], summary: str, query: type[incoming.Model] | None = None) -> None:
            words = described(
                template,
                query=query,
                statuses=(*READ, 413),
                media_types=(webmaps.XML, PNG, maps.SVG, "text/html"),
                problem_types=(webmaps.XML,),
            )
            router.add_api_route(template, handler, methods=["GET"], summary=summary, tags=["OGC API"], **words)

        add("/wms/{dataset_id}", self.wms, "Web Map Service 1.3.0 of a dataset", MapRequest)
        add("/wmts/{dataset_id}", self.wmts, "Web Map Tile Service 1.0.0 of a dataset", TileRequest)
        add("/wmts/{dataset_id}/1.0.0/WMTSCapabilities.xml", self.wmts_capabilities, "Its capabilities")
        return router

    async def wms(self, request: Request) -> Response:
        """Answer one request of the WMS."""
        return await to_thread.run_sync(self._answer, request, self._wms, _wms_problem, limiter=self._threads)

    async def wmts(self, request: Request) -> Response:
        """Answer one request of the WMTS."""
        return await to_thread.run_sync(self._answer, request, self._wmts, _wmts_problem, limiter=self._threads)

    async def wmts_capabilities(self, request: Request) -> Response:
        """Answer the capabilities at their own URL."""

        def build(request: Request, shown: PublishedView, _: Mapping[str, str]) -> Response:
            return self._capabilities(request, shown, "wmts")

        return await to_thread.run_sync(self._answer, request, build, _wmts_problem, limiter=self._threads)

    def _answer(
        self,
        request: Request,
        handle: Callable[[Request, PublishedView, Mapping[str, str]], Response],
        refuse: Callable[[str | None, str | None, str], bytes],
    ) -> Response:
        """Answer as the standard requires: refusals are XML, with the appropriate HTTP status."""
        request.state.generation = self._service.generation()
        shown = self._service.shown(request.path_params["dataset_id"])
        if asks_for_page(request):  # what is refused is a page too
            return self._page(request, shown, request.scope["path"].split("/")[1])
        try:
            return handle(request, shown, _parameters(request))
        except _Refused as refused:
            return Response(refuse(refused.code, refused.parameter, str(refused)), 400, media_type=webmaps.XML)
        except CubeportError as error:
            words = " ".join(
                [error.message, *(each.message for each in error.errors), *([error.next_step] if error.next_step else [])]
            )
            place = next((str(each.loc[-1]) for each in error.errors), None)
            code = {"crs": "InvalidCRS", "datetime": "InvalidDimensionValue", "subset": "InvalidDimensionValue"}.get(place or "")
            if isinstance(error, NotFound) and error.members.get("what") == "data":
                code = "InvalidDimensionValue"  # a time or a run without data
            return Response(refuse(code, place, words), problems.status_of(type(error)), media_type=webmaps.XML)

    def _page(self, request: Request, shown: PublishedView, name: str) -> Response:
        """Return what a person sees at the address of a service: where QGIS takes it, and its layers."""
        address = f"{self._url}/{name}/{shown.dataset_name}"
        query = f"{address}?SERVICE={name.upper()}&REQUEST=GetCapabilities"
        layers = self._layers(shown)
        if not layers:
            raise no_map()

        def build() -> bytes:
            return html.rendered(
                "webmaps.html",
                self._site,
                title=shown.texts.title,
                dataset=shown.texts.dataset_id,
                short=name.upper(),
                service=_SERVICES[name],
                # QGIS adds its parameters to the address of a WMS, and takes that of a WMTS as the one of its capabilities.
                address=address if name == "wms" else query,
                capabilities=query,
                layers=layers,
            )

        tag = replies.etag_of(shown, request, "html", self._url)
        headers = {**replies.versioned(shown), **replies.PAGE_HEADERS}
        return replies.reply(request, build, media_type=negotiation.HTML, tag=tag, headers=headers, varies=("Accept",))

    # --- WMS ------------------------------------------------------------------------------------------------------------

    def _wms(self, request: Request, shown: PublishedView, given: Mapping[str, str]) -> Response:
        if given.get("service", "WMS").upper() != "WMS":
            raise _Refused("SERVICE must be WMS", parameter="service")
        match given.get("request", "GetCapabilities").lower():
            case "getcapabilities" | "capabilities":
                return self._capabilities(request, shown, "wms")
            case "getmap" | "map":
                layer, query = self._picture(shown, given, given.get("layers"))
                _check_png(given, "InvalidFormat")
                return self._drawn(request, layer, query, given)
            case "getfeatureinfo" | "feature_info":
                return self._feature_info(request, shown, given)
            case "getlegendgraphic":
                return self._legend(request, shown, given)
            case _:
                raise _Refused(f"REQUEST must be {_REQUESTS}", "OperationNotSupported", "request")

    def _picture(self, shown: PublishedView, given: Mapping[str, str], layers: str | None) -> tuple[PublishedView, PictureQuery]:
        """Return the coverage and the query of a map."""
        version = given.get("version", "1.3.0")
        if version not in ("1.3.0", "1.1.1"):
            raise _Refused("VERSION must be 1.3.0 or 1.1.1", parameter="version")
        layer, field = _layer(shown, layers)
        name = given.get("crs") or given.get("srs")
        if name is None:
            raise _Refused("CRS is missing", "InvalidCRS", "crs")
        canvas = _canvas(given, name, latitude_first=version == "1.3.0")
        style = given.get("styles", given.get("style", ""))
        transparent = given.get("transparent", "FALSE").upper() == "TRUE"
        query = PictureQuery(
            canvas,
            Selection(properties=(field,), **self._wishes(layer, field, given)),
            background=None if transparent else _colour(given.get("bgcolor", "0xFFFFFF")),
            **_wanted_look(given, style),
        )
        return layer, query

    def _wishes(self, shown: PublishedView, field: str, given: Mapping[str, str]) -> dict[str, Any]:
        """Return ``datetime`` and ``subsets`` for the requested dimensions, with one label each."""
        found: dict[str, Any] = {}
        subsets = []
        dimensions = self._pictures.dimensions(shown, field)
        if shown.description.temporal is not None and not any(each.name == "time" for each in dimensions):
            # The times are no axis (those of runs and steps, or one of all data), but a map of another time would be wrong.
            found |= _datetime(given.get("time", ""))
        for each in dimensions:
            key = _parameter(each, given)
            text = given.get(key, "")
            if text in _DEFAULT:
                continue
            # QGIS asks for each frame of an animation by its interval, unless it is told otherwise: its first step is drawn.
            if "%" in text and (whole := unquote(text)) in self._labels(shown, field, each):
                text = whole
            several = "," in text or ("/" in text and each.name != "time")
            if several and text not in self._labels(shown, field, each):
                raise _Refused(f"{key.upper()} takes one value: a map shows one slice", "InvalidDimensionValue", key)
            if each.name == "time":
                found |= _datetime(text)
            elif each.name == RUN:
                subsets.append(Subset(each.axis, Slice((text if "-" in text else _label(text),))))
            else:
                subsets.append(Subset(each.axis, Slice((_label(text),))))
        return found | ({"subsets": tuple(subsets)} if subsets else {})

    def _labels(self, shown: PublishedView, field: str, dimension: webmaps.Dimension) -> tuple[str, ...]:
        found = self._pictures.dimensions(shown, field, most=_LISTED_LABELS)
        return next((each.labels for each in found if each.axis == dimension.axis), ())

    def _drawn(
        self, request: Request, shown: PublishedView, query: PictureQuery, given: Mapping[str, str] | None = None
    ) -> Response:
        """Return the picture; for the *given* parameters of a WMS, with a warning of each label that they do not name."""
        dated = query.selection.datetime is not None or shown.description.temporal is None
        now = None if dated else moment(shown.description)
        tag = replies.etag_of(shown, request, "png", self._url, shown.description.overview_levels, now)
        request.state.lasting = now is None
        pinned = shown.pinned and f"@{shown.version.version_id}" in request.scope["path"]
        cache = replies.IMMUTABLE if pinned and dated else replies.NO_CACHE
        drawn: list[Picture] = []

        def build() -> bytes:
            drawn.append(self._pictures.draw(shown, query))
            return drawn[0].content

        answer = replies.reply(request, build, media_type=PNG, tag=tag, cache=cache, headers=replies.versioned(shown))
        if given is not None and drawn:
            for words in self._unnamed(shown, drawn[0], given):
                answer.headers.append("Warning", words)
        return answer

    def _unnamed(self, shown: PublishedView, picture: Picture, given: Mapping[str, str]) -> Iterator[str]:
        """Yield a warning for each label of a map that is a default, or the nearest to what was given (06-042, C.4.2 and C.4.3)."""
        for each in self._pictures.dimensions(shown, picture.field):
            text = given.get(_parameter(each, given), "")
            axis = next((one for one in shown.description.axes if one.name == each.axis), None)
            label = each.default if axis is None else picture.slices.get(axis.dimension, "")
            if not each.listed or not label:
                continue
            near = each.nearest and text not in _DEFAULT and _label(text) != _label(label)
            if near or text in _DEFAULT:
                words = f"99 {'Nearest' if near else 'Default'} value used: {each.name}={label} {each.units}"
                yield re.sub(r"[^ -~]", "?", words).strip()

    def _feature_info(self, request: Request, shown: PublishedView, given: Mapping[str, str]) -> Response:
        form = given.get("info_format", webmaps.INFO_FORMATS[0]).partition(";")[0].strip()
        if form not in webmaps.INFO_FORMATS:
            raise _Refused(f"INFO_FORMAT must be one of {', '.join(webmaps.INFO_FORMATS)}", "InvalidFormat", "info_format")
        columns, rows = ("i", "j") if "i" in given else ("x", "y")
        names = (given.get("query_layers") or given.get("layers") or "").split(",")
        features: list[dict[str, Any]] = []
        for name in names:
            layer, query = self._picture(shown, given, name)
            canvas = query.canvas
            at = _pixel(given, columns, canvas.width), _pixel(given, rows, canvas.height)
            value, slices = self._pictures.value(layer, query, *at)
            variable = layer.description.variable(name)
            found = {"layer": name, "value": value, "units": variable.units, **slices}
            features.append({"type": "Feature", "id": name, "geometry": None, "properties": found})
        content, media_type = _info(features, form)
        tag = replies.etag(shown.version.version_id, request.scope["path"], content.decode())
        return replies.reply(request, content, media_type=media_type, tag=tag, headers=replies.versioned(shown))

    def _legend(self, request: Request, shown: PublishedView, given: Mapping[str, str]) -> Response:
        """Return the legend of a layer in a style (Styled Layer Descriptor 1.1, 05-078r4, 12.2)."""
        layer, field = _layer(shown, given.get("layer"))
        kind = given.get("format", maps.SVG).partition(";")[0].strip()
        if kind not in (maps.SVG, PNG):
            raise _Refused(f"FORMAT must be {maps.SVG} or {PNG}", "InvalidFormat", "format")
        wanted = _wanted_look(given, given.get("style", ""))
        if wanted["range"] == "view":
            raise _Refused(
                "COLORSCALERANGE of a legend must be low,high or level: auto depends on a map", parameter="colorscalerange"
            )
        variable = layer.description.variable(field)
        slices = self._wishes(layer, field, given) if wanted["range"] == "level" else {}
        selection = Selection(properties=(field,), **slices)
        look = self._pictures.look_of(layer, PictureQuery(Canvas((0, 0, 1, 1), 1, 1), selection, **wanted))

        def build() -> bytes:
            return (legend_png if kind == PNG else maps.legend_svg)(variable.title, variable.units, look)

        tag = replies.etag_of(shown, request, f"legend {kind}", self._url)
        return replies.reply(request, build, media_type=kind, tag=tag, headers=replies.versioned(shown))

    # --- WMTS -----------------------------------------------------------------------------------------------------------

    def _wmts(self, request: Request, shown: PublishedView, given: Mapping[str, str]) -> Response:
        if given.get("service", "WMTS").upper() != "WMTS":
            raise _Refused("SERVICE must be WMTS", "InvalidParameterValue", "service")
        match given.get("request", "GetCapabilities").lower():
            case "getcapabilities":
                return self._capabilities(request, shown, "wmts")
            case "gettile":
                _check_png(given, "InvalidParameterValue")
                layer, field = _layer(shown, given.get("layer"))
                numbers = [int(text) if re.fullmatch(r"[0-9]{1,7}", text := given.get(each, "")) else -1 for each in _TILE]
                canvas = maps.tile(given.get("tilematrixset", ""), *numbers)
                if canvas is None:
                    raise _Refused(
                        "There is no such tile: TILEMATRIXSET, TILEMATRIX, TILEROW, TILECOL", "TileOutOfRange", "tilerow"
                    )
                wishes = self._wishes(layer, field, given)
                query = PictureQuery(canvas, Selection(properties=(field,), **wishes), palette=_palette(given.get("style", "")))
                return self._drawn(request, layer, query)
            case _:
                raise _Refused("REQUEST must be GetCapabilities or GetTile", "OperationNotSupported", "request")

    # --- capabilities ---------------------------------------------------------------------------------------------------

    def _capabilities(self, request: Request, shown: PublishedView, kind: str) -> Response:
        address = f"{self._url}/{kind}/{shown.dataset_name}"
        layers = list(self._layers(shown))
        if not layers:
            raise no_map()
        title, text = shown.texts.title, shown.texts.description
        if kind == "wms":
            content = webmaps.wms(title, text, layers, address, most_side=MOST_SIDE, attribution=shown.texts.attribution)
        else:
            content = webmaps.wmts(title, text, layers, address)
        tag = replies.etag(shown.version.version_id, content.decode())
        varies = ("Accept",) if _is_bare(request) else ()
        return replies.reply(request, content, media_type=webmaps.XML, tag=tag, headers=replies.versioned(shown), varies=varies)

    def _layers(self, shown: PublishedView) -> list[webmaps.Layer]:
        found = []
        for coverage in shown.coverages():
            description = coverage.description
            box = description.spatial.bbox
            if description.spatial.family == "none" or box is None:
                continue
            for name in description.fields:
                variable = description.variable(name)
                if variable.decoded_dtype[:1] not in "iufb":
                    continue
                _, look = self._pictures.look(coverage, Selection(properties=(name,)))
                found.append(
                    webmaps.Layer(
                        name=name,
                        title=variable.title,
                        bbox=framed(box),
                        systems=_systems(coverage),
                        palette=look.palette,
                        palettes=tuple(palettes()),
                        dimensions=tuple(
                            each for each in self._pictures.dimensions(coverage, name, most=_LISTED_LABELS) if each.listed
                        ),
                        legend=f"{self._url}/datasets/{shown.dataset_name}/legend?properties={name}",
                        map_tiles=f"{self._url}/ogcapi/collections/{coverage.coverage_name}/map/tiles",
                    )
                )
        return found


_SERVICES = {"wms": "Web Map Service (WMS) 1.3.0", "wmts": "Web Map Tile Service (WMTS) 1.0.0"}
_PAGE_FORMS = {webmaps.XML: "xml", "text/html": "html", "application/xhtml+xml": "html"}


def _is_bare(request: Request) -> bool:
    """Return whether the address of a service has no parameters, so that ``Accept`` decides."""
    return not request.scope["query_string"] and not request.scope["path"].endswith(".xml")


def asks_for_page(request: Request) -> bool:
    """Return whether a person asks for the address of a service. With any parameter of the standards, the answer is theirs."""
    if request.scope["query_string"] == b"f=html":
        return not request.scope["path"].endswith(".xml")
    return _is_bare(request) and negotiation.preferred(request, _PAGE_FORMS) == "html"


_DEFAULT = ("", "current", "default")


def _parameter(dimension: webmaps.Dimension, given: Mapping[str, str]) -> str:
    """Return the parameter that selects a label along a dimension."""
    plain, own = dimension.name.lower(), f"dim_{dimension.axis.lower()}"
    if plain in ("time", "elevation") or (plain in given and plain not in _TAKEN):
        return plain
    if dimension.name == RUN and f"dim_{plain}" not in given and own in given:
        return own  # by its name in the store
    return f"dim_{plain}"


_TILE = ("tilematrix", "tilerow", "tilecol")


def _parameters(request: Request) -> dict[str, str]:
    """Return the parameters with case-insensitive names. Raises InvalidRequest."""
    pairs, found = incoming.pairs(request.scope["query_string"])
    if found:
        raise InvalidRequest("The query is not text.", errors=found)
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.lower() in given:
            words = f"{name[:40]} may be given once"
            raise InvalidRequest(words, errors=[Problem(("query", name[:40]), "repeated", words)])
        given[name.lower()] = value
    return given


def _layer(shown: PublishedView, name: str | None) -> tuple[PublishedView, str]:
    """Return the coverage with the layer, and the field of the layer."""
    for coverage in shown.coverages():
        if name in coverage.description.fields and coverage.description.spatial.family != "none":
            return coverage, str(name)
    placed = [each for each in shown.coverages() if each.description.spatial.family != "none"]
    if not placed:
        raise _Refused("These data have no horizontal position, so they have no layers", "LayerNotDefined", "layers")
    known = ", ".join(field for each in placed for field in each.description.fields[:20])
    raise _Refused(f"LAYERS names one of {known}", "LayerNotDefined", "layers")


def _canvas(given: Mapping[str, str], name: str, *, latitude_first: bool) -> Canvas:
    try:
        numbers = [float(each) for each in given.get("bbox", "").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise _Refused("BBOX must be four numbers with commas", parameter="bbox")
    plain = name.strip().upper()
    crs = {"CRS:84": CRS84, "OGC:CRS84": CRS84, "EPSG:4326": CRS84, "EPSG:900913": MERCATOR}.get(plain, plain)
    if re.fullmatch(r"(EPSG|OGC):[A-Z0-9]{1,10}", crs) is None:
        raise _Refused(f"CRS may be {', '.join(_SYSTEMS)} or another EPSG code", "InvalidCRS", "crs")
    if latitude_first and _begins_north(crs, plain):
        numbers = [numbers[1], numbers[0], numbers[3], numbers[2]]
    west, south, east, north = numbers
    if not (west < east and south < north):
        raise _Refused("BBOX must have its lower ends before its upper ends", parameter="bbox")
    return Canvas((west, south, east, north), _side(given, "width"), _side(given, "height"), crs)


def _begins_north(crs: str, name: str) -> bool:
    """Return whether the first axis of the system is y (06-042, 6.7.2), as EPSG defines it: 4326 and 3995, but not 3857."""
    if name == "EPSG:4326":
        return True
    if crs in (CRS84, MERCATOR):
        return False
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        first, second = CRS.from_user_input(crs).axis_info[:2]
    except (CRSError, ValueError):
        raise _Refused(f"{name[:20]} is not a reference system that is known here", "InvalidCRS", "crs") from None
    if first.direction == second.direction:  # around a pole, both axes point away from it or towards it
        return "north" in first.name.lower()
    return bool(first.direction.lower() == "north")


def _side(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "")
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= MOST_SIDE:
        raise _Refused(f"{name.upper()} must be 1 to {MOST_SIDE}", parameter=name)
    return int(text)


def _check_png(given: Mapping[str, str], code: str) -> None:
    if given.get("format", PNG).partition(";")[0].strip() != PNG:
        raise _Refused("FORMAT must be image/png", code, "format")


def _pixel(given: Mapping[str, str], name: str, size: int) -> int:
    text = given.get(name, "")
    if re.fullmatch(r"[0-9]{1,5}", text) is None or int(text) >= size:
        raise _Refused(f"{name.upper()} must be a pixel of the map: 0 to {size - 1}", "InvalidPoint", name)
    return int(text)


def _wanted_look(given: Mapping[str, str], style: str) -> dict[str, Any]:
    """Return the fields of a :class:`PictureQuery` for the colours."""
    return {
        "palette": _palette(style),
        "range": _range(given.get("colorscalerange")),
        "steps": _steps(given.get("numcolorbands")),
        "logarithmic": True if given.get("logscale", "").lower() == "true" else None,
    }


def _palette(style: str) -> str | None:
    """Return the palette of ``raster/{palette}``; ``None``, for the layer's own palette, if the style is ``default`` or empty."""
    if style in ("", "default"):
        return None
    name = style.removeprefix("raster/")
    if name not in palettes():
        raise _Refused(f"STYLES may be default or raster/ with one of {', '.join(palettes())}", "StyleNotDefined", "styles")
    return name


def _range(text: str | None) -> tuple[float, float] | str | None:
    if text is None or text == "level":
        return text
    if text == "auto":
        return "view"
    try:
        low, high = (float(each) for each in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _Refused("COLORSCALERANGE must be low,high, level or auto", parameter="colorscalerange")
    return low, high


def _steps(text: str | None) -> int | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,3}", text) is None or not 2 <= int(text) <= 254:
        raise _Refused("NUMCOLORBANDS must be 2 to 254", parameter="numcolorbands")
    return int(text)


def _colour(text: str) -> tuple[int, int, int]:
    if re.fullmatch(r"(0x|#)?[0-9A-Fa-f]{6}", text) is None:
        raise _Refused("BGCOLOR must be 0xRRGGBB", parameter="bgcolor")
    red, green, blue = bytes.fromhex(text.removeprefix("0x").removeprefix("#"))
    return red, green, blue


def _label(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _systems(shown: PublishedView) -> tuple[str, ...]:
    """Return the reference systems for the capabilities: WGS 84 with both names, Web Mercator, that of the store, polar ones if
    they have data.
    """
    spatial = shown.description.spatial
    own = spatial.crs.authority if spatial.family == "projected" and spatial.crs is not None else None
    polar = [POLAR[name] for name in maps_of(spatial) if name in POLAR]
    return tuple(dict.fromkeys([*_SYSTEMS, *([own] if own and own.startswith("EPSG:") else []), *polar]))


def _wms_problem(code: str | None, _: str | None, text: str) -> bytes:
    return webmaps.wms_problem(code, text)


def _wmts_problem(code: str | None, locator: str | None, text: str) -> bytes:
    return webmaps.wmts_problem(code or "InvalidParameterValue", locator, text)


def _info(features: Sequence[Mapping[str, Any]], form: str) -> tuple[bytes, str]:
    """Return the answer to GetFeatureInfo and its media type: GeoJSON, or lines of text, as a page too."""
    if form == "application/json":
        return json.dumps({"type": "FeatureCollection", "features": list(features)}).encode(), form
    rows = []
    for each in features:
        properties = each["properties"]
        value = "no data" if properties["value"] is None else f"{properties['value']} {properties['units'] or ''}".strip()
        rows.append((properties["layer"], value))
        rows += [(key, text) for key, text in properties.items() if key not in ("layer", "value", "units")]
    if form == "text/html":
        return html.bare("feature_info.html", rows=rows), negotiation.HTML
    return "".join(f"{name}: {text}\n" for name, text in rows).encode(), "text/plain"


def _datetime(text: str) -> dict[str, Any]:
    """Return ``datetime`` of a request for TIME; nothing for the default."""
    if text in _DEFAULT:
        return {}
    try:
        return {"datetime": parse_datetime(text)}
    except ValueError as error:
        raise _Refused(f"TIME {error}", "InvalidDimensionValue", "time") from error
