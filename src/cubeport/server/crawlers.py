"""``/robots.txt`` and the sitemap: search engines find the page of every dataset, and leave the data alone.

Sitemaps: the protocol of sitemaps.org 0.9. Robots: RFC 9309.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from typing import Annotated, Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.server import incoming, replies
from cubeport.server.openapi import described
from cubeport.server.parts import Parts

XML = "application/xml"
LISTED = 1_000
"""Up to this many datasets are in one sitemap. For more, there is one for each first character of an id, at the same path, because
a sitemap is only for addresses below its folder."""
_MOST = 50_000
"""The most addresses of one sitemap (the protocol's limit)."""
_FIRST = string.digits + string.ascii_lowercase
"""The characters with which an id can begin."""
_HEAVY = (
    "/datasets/*/download",
    "/datasets/*/plot",
    "/datasets/*/table",
    *(f"/ogcapi/collections/*/{each}" for each in ("area", "corridor", "coverage", "cube", "position", "radius", "trajectory")),
    "/ogcapi/*/tiles/",
    *(f"/{each}/" for each in ("dap", "geozarr", "griddap", "wms", "wmts", "zarr", "zarr-v2")),
)
"""What answers with values or pictures of any part. The pages and their previews are not in it."""


class SitemapQuery(incoming.Model):
    """The query of ``/sitemap.xml``."""

    first: Annotated[str | None, Field(pattern="^[0-9a-z]$", description="The first character of the ids")] = None


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Crawlers(parts)

    def add(template: str, handler: Callable[..., Any], summary: str, **description: Any) -> None:
        router.add_api_route(
            template, handler, methods=["GET"], summary=summary, tags=["The service"], **described(template, **description)
        )

    add("/robots.txt", face.robots, "What search engines may read", media_types=("text/plain",))
    add("/sitemap.xml", face.sitemap, "The pages of all datasets, for search engines", query=SitemapQuery, media_types=(XML,))
    return router


class _Crawlers:
    def __init__(self, parts: Parts) -> None:
        self._service = parts.service
        self._url = parts.public_url

    def robots(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        path = urlsplit(self._url).path.rstrip("/")
        lines = ["User-agent: *", *(f"Disallow: {path}{each}" for each in _HEAVY), f"Sitemap: {self._url}/sitemap.xml"]
        content = "\n".join([*lines, ""]).encode()
        return replies.reply(request, content, media_type="text/plain; charset=utf-8", tag=replies.etag("robots", content.decode()))

    def sitemap(self, request: Request) -> Response:
        first = incoming.query(request.scope["query_string"], SitemapQuery).first
        tag = replies.etag_of_list(self._service.generation(), request, "xml", self._url)

        def build() -> bytes:
            if first is not None:
                return _xml("urlset", "url", self._names(first, _MOST))
            names = self._names("", LISTED + 1)
            if len(names) <= LISTED:
                return _xml("urlset", "url", [f"{self._url}/", *names])
            parts = [each for each in _FIRST if self._names(each, 1)]
            return _xml("sitemapindex", "sitemap", [f"{self._url}/sitemap.xml?first={each}" for each in parts])

        return replies.reply(request, build, media_type=XML, tag=tag)

    def _names(self, beginning: str, most: int) -> list[str]:
        """Return the addresses of the pages of the first datasets with this beginning that the caller may see."""
        behind = beginning + "\U0010ffff"
        found = self._service.dataset_names(between=(beginning, behind), limit=most)
        return [f"{self._url}/datasets/{dataset_id}" for dataset_id, _ in found]


def _xml(root: str, entry: str, addresses: Iterable[str]) -> bytes:
    entries = "".join(f"<{entry}><loc>{escape(each)}</loc></{entry}>\n" for each in addresses)
    opening = f'<{root} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{opening}\n{entries}</{root}>\n'.encode()
