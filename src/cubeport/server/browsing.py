"""Documents as pages: on every face, a client that prefers HTML gets the JSON document of a URL as a page.

The document is made as for any other client and then rendered, so the page has the same content. ``f`` takes precedence over
``Accept``. URLs with their own pages (the landing page, a dataset) and answers with values are not changed.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from cubeport.server import html, negotiation, replies
from cubeport.server.parts import Parts

BROWSABLE = frozenset(
    {
        "/datasets",
        "/datasets/{dataset_id}/versions",
        "/datasets/{dataset_id}/versions/{ref}",
        "/dataset-templates",
        "/dataset-templates/{template_id}",
        "/extent",
        "/extent/{extent_id}",
        "/zones",
        "/ingestions",
        "/ingestions/{ingestion_id}",
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
        "/ogcapi/collections",
        "/ogcapi/collections/{collection_id}",
        "/ogcapi/collections/{collection_id}/schema",
        "/ogcapi/collections/{collection_id}/instances",
        "/ogcapi/collections/{collection_id}/instances/{instance_id}",
        "/ogcapi/collections/{collection_id}/locations",
        "/ogcapi/collections/{collection_id}/items",
        "/ogcapi/collections/{collection_id}/items/{location_id}",
    }
)
"""The templates of routes whose documents are also pages. Listings below ``/zarr`` are pages too."""

_OFFERS = {"application/json": "json", "text/html": "html", "application/xhtml+xml": "html"}
_HIDDEN = frozenset({b"accept", b"accept-encoding", b"if-none-match"})

type Answering = Callable[[Scope, Receive, Send], Awaitable[None]]


def prefers_html(scope: Scope) -> bool:
    """Return whether ``Accept`` prefers HTML to JSON."""
    return negotiation.preferred(Request(scope), _OFFERS) == "html"


def asked(scope: Scope) -> tuple[bool, Scope]:
    """Return whether the client asks for a page, and the request without ``f`` if ``f`` only asks for a page."""
    parts = scope["query_string"].split(b"&")
    forms = [part for part in parts if part.startswith(b"f=")]
    if not forms:
        return prefers_html(scope), scope
    if forms not in ([b"f=html"], [b"f=json"]):
        return False, scope  # another form, or an error that the route itself reports
    rest = b"&".join(part for part in parts if part not in forms)
    return forms == [b"f=html"], {**scope, "query_string": rest}


async def answer(parts: Parts, scope: Scope, receive: Receive, send: Send, inner: Answering) -> None:
    """Answer with the document of *inner*, or with its page."""
    as_page, without_form = asked(scope)
    if not as_page:
        await inner(without_form, receive, _varied(send))
        return
    started: dict[str, Any] = {}
    content = bytearray()

    async def take(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            content.extend(message.get("body", b""))

    # Request the complete, uncompressed document. This module checks whether the client already has the page.
    headers = [(name, value) for name, value in scope["headers"] if name not in _HIDDEN]
    await inner({**without_form, "headers": headers, "method": "GET"}, receive, take)
    found = {name.decode(): value.decode("latin-1") for name, value in started["headers"]}
    if started["status"] != 200 or "json" not in found.get("content-type", ""):
        await send({**started, "headers": started["headers"]})
        await send({"type": "http.response.body", "body": bytes(content)})
        return
    tag = found.get("etag")
    passed = {name.title(): found[name] for name in ("cubeport-version", "link") if name in found}
    page = replies.reply(
        Request(scope),
        lambda: html.document(parts, scope["path"], json.loads(bytes(content))),
        media_type=negotiation.HTML,
        tag=tag and replies.etag("page", tag, parts.version, parts.title),
        cache=found.get("cache-control", replies.NO_CACHE),
        headers={**passed, **replies.PAGE_HEADERS},
        varies=("Accept",),
    )
    await page(scope, receive, send)


def _varied(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"vary", b"Accept")]}
        await send(message)

    return sending
