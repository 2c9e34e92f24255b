"""Documents as pages: on every face, a client that prefers HTML gets the JSON document of a URL as a page.

The document is made as for any other client and then rendered, so the page has the same content. ``f`` takes precedence over
``Accept``. URLs with their own pages (the landing page, a dataset) and answers with values are not changed.
"""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from cubeport.errors import NotAcceptable
from cubeport.server import html, negotiation, problems, replies, streams
from cubeport.server.parts import Parts

BROWSABLE = frozenset(
    {
        "/datasets",
        "/datasets/{dataset_id}/versions",
        "/datasets/{dataset_id}/versions/{ref}",
        "/records",
        "/records/{record_id}",
        "/records/{record_id}/history",
        "/records/{record_id}/lineage",
        "/records/{record_id}/artifacts",
        "/dataset-templates",
        "/dataset-templates/{template_id}",
        "/extent",
        "/extent/{extent_id}",
        "/zones",
        "/ingestions",
        "/ingestions/{ingestion_id}",
        "/changes",
        "/info",
        "/usage",
        "/webhooks",
        "/recipes",
        "/derived",
        "/stac",
        "/stac/catalog.json",
        "/stac/catalogs/{beginning}",
        "/stac/conformance",
        "/stac/collections",
        "/stac/collections/{collection_id}",
        "/stac/collections/{collection_id}/items",
        "/stac/collections/{collection_id}/items/{item_id}",
        "/stac/queryables",
        "/stac/collections/{collection_id}/queryables",
        "/stac/search",
        "/ogcapi",
        "/ogcapi/conformance",
        "/ogcapi/processes",
        "/ogcapi/processes/{process_id}",
        "/ogcapi/jobs",
        "/ogcapi/jobs/{job_id}",
        "/ogcapi/collections",
        "/ogcapi/collections/{collection_id}",
        "/ogcapi/collections/{collection_id}/schema",
        "/ogcapi/collections/{collection_id}/instances",
        "/ogcapi/collections/{collection_id}/instances/{instance_id}",
        "/ogcapi/collections/{collection_id}/locations",
        "/ogcapi/collections/{collection_id}/styles",
        "/ogcapi/collections/{collection_id}/map/tiles",
        "/ogcapi/collections/{collection_id}/map/tiles/{tms}",
        "/ogcapi/collections/{collection_id}/styles/{style_id}/map/tiles",
        "/ogcapi/collections/{collection_id}/styles/{style_id}/map/tiles/{tms}",
        "/ogcapi/tileMatrixSets",
        "/ogcapi/tileMatrixSets/{tms}",
        "/ogcapi/collections/{collection_id}/items",
        "/ogcapi/collections/{collection_id}/items/{location_id}",
    }
)
"""The templates of routes whose documents are also pages. Listings below ``/zarr`` are pages too."""

_VALUES = re.compile(
    r"/ogcapi/collections/\{collection_id\}(?:/instances/\{instance_id\})?/(coverage|locations/\{location_id\}|\w+)"
)
_NO_VALUES = frozenset({"schema", "instances", "locations", "items", "styles", "map"})
_ROWS = 200
"""Values of a page, as rows of a table; the rest is in the files that it links to."""
_CELLS = 10_000
"""Values up to which a page reads them at all."""

_LONG = ("/datasets", "/changes", "/records", "/ingestions", "/stac/collections", "/ogcapi/collections")
"""Lists that have more entries than a person reads at once; each page of them costs its share."""
_ENTRIES = 25

_OFFERS = {"application/json": "json", "text/html": "html", "application/xhtml+xml": "html"}
ONLY_DOCUMENTS = ("/stac", "/zarr", "/geozarr")
"""Faces whose readers send any ``Accept``: they have JSON or bytes for all that do not prefer a page."""
_STREAMED = ("/changes",)
"""Documents that are streams of events too."""
_HIDDEN = frozenset({b"accept", b"accept-encoding", b"if-none-match"})

PLOT = "/datasets/{dataset_id}/plot"
"""The route of plots, which are pages only with ``f=html``: the address of a plot is that of a picture."""

TABLE = "/datasets/{dataset_id}/table"
"""The route of tables by zones, which are pages only with ``f=html``: the address of a table is that of a file."""

type Answering = Callable[[Scope, Receive, Send], Awaitable[None]]


def prefers_html(scope: Scope) -> bool:
    """Return whether ``Accept`` prefers HTML to JSON."""
    return negotiation.preferred(Request(scope), _OFFERS) == "html"


def asked(scope: Scope) -> tuple[bool, Scope]:
    """Return whether the client asks for a page, and the request without ``f`` if ``f`` only asks for a page or a document.

    Without ``f``, it is without ``Accept`` too, which ``f`` overrides.
    """
    parts = scope["query_string"].split(b"&")
    forms = [part for part in parts if part.startswith(b"f=")]
    if not forms:
        return prefers_html(scope), scope
    if forms not in ([b"f=html"], [b"f=json"]):
        return False, scope  # another form, or an error that the route itself reports
    rest = b"&".join(part for part in parts if part not in forms)
    headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
    return forms == [b"f=html"], {**scope, "query_string": rest, "headers": headers}


def problem_asked(scope: Scope) -> bool:
    """Return whether a problem is answered as a page: also to a browser that asked for a file, such as ``f=covjson``."""
    return asked(scope)[0] or (b"f=json" not in scope["query_string"].split(b"&") and prefers_html(scope))


def has_values(template: str) -> bool:
    """Tell whether a route answers with values: a coverage, an EDR query, a location."""
    found = _VALUES.fullmatch(template)
    return found is not None and found[1] not in _NO_VALUES


async def answer_values(parts: Parts, scope: Scope, receive: Receive, send: Send, inner: Answering) -> None:
    """Answer with values as *inner* makes them, or with a page: what they cost, the first of them, and each form as a file.

    The page is made of the answers that any client gets: the estimate, and the values as CSV where they are few.
    """
    as_page, without_form = asked(scope)
    if not as_page:
        # ``f=json`` is a form of values, and not what is said of a page.
        await inner(scope, receive, _varied(send))
        return
    query, form = of_form(without_form["query_string"])
    if any(part.startswith(b"estimate=") for part in query.split(b"&")):
        await answer(parts, scope, receive, send, inner)
        return
    asked_form = f"f={form}".encode() if form is not None else b""
    cost = await _taken(without_form, b"&".join(filter(None, (query, asked_form, b"estimate=true"))), receive, inner)
    price = json.loads(cost.content)
    rows: list[list[str]] = []
    headers, no_table = cost.headers, None
    if price["allowed"] and price["cells"] <= _CELLS:
        try:
            values = await _taken(without_form, b"&".join(filter(None, (query, b"f=csv"))), receive, inner)
        except NotAcceptable as refused:  # other forms have what does not fit into one table
            no_table = problems.in_words(refused, parts.public_url)
        else:
            rows = list(itertools.islice(csv.reader(io.StringIO(values.content.decode())), _ROWS + 1))
            headers = values.headers
    # The other forms represent every part.
    tiff = b"&".join(filter(None, (query, b"f=geotiff", b"estimate=true")))
    try:
        await _taken(without_form, tiff, receive, inner)
        refused_forms: frozenset[str] = frozenset()
    except NotAcceptable:
        refused_forms = frozenset({"geotiff"})
    passed = {
        name.title(): headers[name]
        for name in ("cubeport-version", "content-bbox", "content-crs", "content-datetime")
        if name in headers
    }
    tag = headers.get("etag")
    collection = scope["path"].split("/")[3]
    shown = await asyncio.to_thread(parts.service.coverage, collection)
    page = replies.reply(
        Request(scope),
        lambda: html.values(
            parts,
            scope["path"],
            query.decode("latin-1"),
            price,
            rows,
            form=form,
            no_table=no_table,
            without=refused_forms,
            placed=shown.description.spatial.family != "none",
        ),
        media_type=negotiation.HTML,
        tag=replies.etag("values", tag or cost.content, parts.version, parts.title, query, form or ""),
        headers={**passed, **replies.PAGE_HEADERS},
        varies=("Accept",),
    )
    await page(scope, receive, send)


async def answer_plot(parts: Parts, scope: Scope, receive: Receive, send: Send, inner: Answering) -> None:
    """Answer with the page of a plot: the picture, and the values that it draws. What cannot be drawn is raised."""
    query = asked(scope)[1]["query_string"]
    values = await _taken(scope, b"&".join(filter(None, (query, b"f=csv"))), receive, inner)
    rows = list(csv.reader(io.StringIO(values.content.decode())))
    shown = await asyncio.to_thread(parts.service.shown, scope["path_params"]["dataset_id"])
    page = replies.reply(
        Request(scope),
        lambda: html.plot(parts, shown, query.decode("latin-1"), rows[: _ROWS + 1], len(rows) - 1),
        media_type=negotiation.HTML,
        tag=replies.etag("plot", values.content, query, parts.version, parts.title, shown.record_version),
        headers={**replies.versioned(shown), **replies.PAGE_HEADERS},
    )
    await page(scope, receive, send)


async def answer_table(parts: Parts, scope: Scope, receive: Receive, send: Send, inner: Answering) -> None:
    """Answer with the page of a table by zones: its first rows, and each form as a file. What cannot be made is raised."""
    query = asked(scope)[1]["query_string"]
    if any(part.startswith(b"estimate=") for part in query.split(b"&")):
        await answer(parts, scope, receive, send, inner)
        return
    values = await _taken(scope, b"&".join(filter(None, (query, b"f=csv"))), receive, inner)
    shown = await asyncio.to_thread(parts.service.shown, scope["path_params"]["dataset_id"])

    def made() -> bytes:
        rows = list(csv.reader(io.StringIO(values.content.decode())))
        return html.table(parts, shown, query.decode("latin-1"), rows[: _ROWS + 1], len(rows) - 1)

    page = replies.reply(
        Request(scope),
        made,
        media_type=negotiation.HTML,
        tag=replies.etag("table", values.content, query, parts.version, parts.title, shown.record_version),
        headers={**replies.versioned(shown), **replies.PAGE_HEADERS},
    )
    await page(scope, receive, send)


def of_form(query: bytes) -> tuple[bytes, str | None]:
    """Return the query that the fields of a page's form mean, and the form of the file that was chosen.

    A browser sends fields that are empty, and one ``properties`` for each ticked box; the grammar of values takes neither.
    """
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    if not any(name == "form" or not value for name, value in pairs) and sum(name == "properties" for name, _ in pairs) < 2:
        return query, None
    ticked = ",".join(value for name, value in pairs if name == "properties" and value)
    kept = [(name, value) for name, value in pairs if value and name not in ("properties", "form")]
    form = next((value for name, value in pairs if name == "form" and value), None)
    return urlencode([*([("properties", ticked)] if ticked else []), *kept], safe=",/:()").encode(), form


class _Taken(NamedTuple):
    started: Message
    headers: Mapping[str, str]
    content: bytes


async def _taken(scope: Scope, query: bytes, receive: Receive, inner: Answering) -> _Taken:
    """Return what *inner* answers to another query; what it raises comes through."""
    started: dict[str, Any] = {}
    content = bytearray()

    async def take(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            content.extend(message.get("body", b""))

    headers = [(name, value) for name, value in scope["headers"] if name not in _HIDDEN]
    await inner({**scope, "query_string": query, "headers": headers, "method": "GET"}, receive, take)
    found = {name.decode(): value.decode("latin-1") for name, value in started["headers"]}
    return _Taken(started, found, bytes(content))


async def answer(parts: Parts, scope: Scope, receive: Receive, send: Send, inner: Answering) -> None:
    """Answer with the document of *inner*, or with its page."""
    as_page, without_form = asked(scope)
    if not as_page:
        request = Request(scope)
        follows = scope["path"] in _STREAMED and negotiation.takes(request, (streams.MEDIA_TYPE,))
        if not follows and b"f=" not in scope["query_string"] and not scope["path"].startswith(ONLY_DOCUMENTS):
            negotiation.check_document(request)
        await inner(without_form, receive, _varied(send))
        return
    # Request the complete, uncompressed document. This module checks whether the client already has the page.
    taken = await _taken(without_form, _limited(scope["path"], without_form["query_string"]), receive, inner)
    started, found, content = taken.started, taken.headers, taken.content
    if started["status"] != 200 or "json" not in found.get("content-type", ""):
        await send({**started, "headers": started["headers"]})
        await send({"type": "http.response.body", "body": content})
        return
    tag = found.get("etag")
    passed = {name.title(): found[name] for name in ("cubeport-version", "link") if name in found}
    page = replies.reply(
        Request(scope),
        lambda: html.document(
            parts,
            scope["path"],
            json.loads(content),
            query=without_form["query_string"].decode("latin-1"),
            crumbs=crumbs(scope["path"]),
        ),
        media_type=negotiation.HTML,
        tag=tag and replies.etag("page", tag, parts.version, parts.title),
        cache=found.get("cache-control", replies.NO_CACHE),
        headers={**passed, **replies.PAGE_HEADERS},
        varies=("Accept",),
    )
    await page(scope, receive, send)


_NAMES = {
    "stac": "STAC",
    "zarr": "Zarr",
    "zarr-v2": "Zarr v2",
    "geozarr": "GeoZarr",
    "ogcapi": "OGC API",
    "collections": "Collections",
    "items": "Items",
    "datasets": "Datasets",
    "versions": "Versions",
    "records": "Records",
    "instances": "Versions",
    "processes": "Processes",
    "jobs": "Jobs",
    "dataset-templates": "Sources",
    "extent": "Areas",
    "zones": "Zone sets",
    "changes": "Changes",
    "ingestions": "Ingestions",
    "tileMatrixSets": "Tile matrix sets",
}
_OWN_PAGES = ("/datasets/{dataset_id}", "/zones/{zone_set_id}")
_PAGES = re.compile("|".join(re.sub(r"\{\w+\}", "[^/]+", each) for each in sorted((*BROWSABLE, *_OWN_PAGES))))


def crumbs(path: str) -> list[tuple[str, str | None]]:
    """Return the way to a page: the names of the parts of its path, and the paths of those that are pages; none for one part."""
    names = path.strip("/").split("/")
    found = []
    for depth, name in enumerate(names, 1):
        here = "/" + "/".join(names[:depth])
        found.append((_NAMES.get(name, name), here if depth < len(names) and _PAGES.fullmatch(here) else None))
    return found if len(found) > 1 else []


def _limited(path: str, query: bytes) -> bytes:
    """Return the query with the number of entries that a page lists, unless it says one."""
    if path not in _LONG or any(part.startswith(b"limit=") for part in query.split(b"&")):
        return query
    return b"&".join(filter(None, (query, b"limit=%d" % _ENTRIES)))


def _varied(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            varies = [each for name, value in headers if name == b"vary" for each in value.split(b", ")]
            others = [(name, value) for name, value in headers if name != b"vary"]
            message = {**message, "headers": [*others, (b"vary", b", ".join(dict.fromkeys([b"Accept", *varies])))]}
        await send(message)

    return sending
