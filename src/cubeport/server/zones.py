"""``/zones``: the zone sets of the instance. A zone set contains named polygons, for which cubeport makes tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.cubes.zones import MEDIA_TYPE
from cubeport.documents import native as documents
from cubeport.errors import Forbidden, NotAcceptable
from cubeport.server import html, incoming, negotiation, replies
from cubeport.server.auth import caller_of
from cubeport.server.openapi import READ, WRITE, described
from cubeport.server.parts import Parts
from cubeport.service import present

MEDIA_TYPES = (MEDIA_TYPE, "application/json")
"""The media types of a body with zones."""
_FORMS = {MEDIA_TYPE: "json", "application/json": "json", "text/html": "html", "application/xhtml+xml": "html"}
MOST_VALUES = 4_000_000
"""JSON values of a body with zones: two for each vertex, and lists and properties."""


class ZonesQuery(incoming.Model):
    """The query of ``PUT /zones/{zone_set_id}``."""

    id_property: Annotated[str | None, Field(max_length=200, description="The property that identifies each zone")] = None
    name_property: Annotated[str | None, Field(max_length=200, description="The property that names each zone")] = None


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Zones(parts)

    def add(method: str, template: str, handler: Callable[..., Any], summary: str, **description: Any) -> None:
        router.add_api_route(
            template, handler, methods=[method], summary=summary, tags=["Zones"], **described(template, **description)
        )

    add("GET", "/zones", face.list, "Zone sets", schema=documents.Listing[documents.ZoneSetSummary])
    add(
        "GET",
        "/zones/{zone_set_id}",
        face.get,
        "The zones of a set, as GeoJSON",
        query=incoming.FormQuery,
        statuses=(*READ, 406),
        media_types=(MEDIA_TYPE, "text/html"),
    )
    add(
        "PUT",
        "/zones/{zone_set_id}",
        face.put,
        "Keep a GeoJSON FeatureCollection as a zone set",
        query=ZonesQuery,
        raw_body=MEDIA_TYPE,
        statuses=(*WRITE, 507),
        schema=documents.ZoneSetSummary,
    )
    add("DELETE", "/zones/{zone_set_id}", face.delete, "Remove a zone set", statuses=WRITE, success={204: "It is removed"})
    return router


class _Zones:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._service = parts.service
        self._url = parts.public_url
        self._most_bytes = parts.zone_bytes

    async def list(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        # Files that changed are read and checked: not on the event loop.
        sets = await asyncio.to_thread(self._service.zone_sets)
        items = [present.zone_set(each, self._url) for each in sets.values()]
        return replies.by_content(
            request, documents.listing("ZoneSetList", items, replies.page_links(f"{self._url}/zones", request, None))
        )

    async def get(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], incoming.FormQuery)
        form = asked.f or negotiation.preferred(request, _FORMS)
        if form is None:
            raise NotAcceptable("This address has GeoJSON and HTML", next_step=f"Send Accept: {MEDIA_TYPE} or text/html.")
        found = await asyncio.to_thread(self._service.zone_set, request.path_params["zone_set_id"])
        if form == "html":
            content = await asyncio.to_thread(html.zone_set, self._parts, found)
            tag = replies.etag("zones", content.decode())
            return replies.reply(
                request, content, media_type=negotiation.HTML, tag=tag, headers=replies.PAGE_HEADERS, varies=("Accept",)
            )
        content = await asyncio.to_thread(lambda: replies.dumps(found.document()))
        tag = replies.etag("zones", content.decode())
        return replies.reply(request, content, media_type=MEDIA_TYPE, tag=tag, varies=("Accept",))

    async def put(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], ZonesQuery)
        _for_all(request)
        document = await incoming.json_document(request, limit=self._most_bytes, max_values=MOST_VALUES, media_types=MEDIA_TYPES)

        def act() -> bytes:
            found = self._service.put_zone_set(
                request.path_params["zone_set_id"],
                document,
                id_property=asked.id_property,
                name_property=asked.name_property,
            )
            return present.zone_set(found, self._url).model_dump_json().encode()

        return replies.fresh(await asyncio.to_thread(act))

    async def delete(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        _for_all(request)
        await asyncio.to_thread(self._service.remove_zone_set, request.path_params["zone_set_id"])
        return Response(status_code=204, headers={"Cache-Control": "no-store"})


def _for_all(request: Request) -> None:
    """Refuse a key that is limited to some datasets, because zone sets are for all. Raises Forbidden."""
    if caller_of(request).datasets != ("*",):
        raise Forbidden("The key is for some datasets only, and a zone set is for all of them")
