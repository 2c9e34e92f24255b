"""The STAC face: sealed documents joined with the record's texts; a request only fills in links."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.catalog.query import parse_interval
from cubeport.documents import stac as documents
from cubeport.documents.texts import Shown, VersionRef
from cubeport.errors import InvalidFilter, InvalidRequest, NotFound, Problem
from cubeport.server import incoming, replies, search
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Lists, Parts
from cubeport.service.items import ItemPage

MAX_PAGE = 1_000

_MOMENT = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)"
_DATETIME = re.compile(rf"{_MOMENT}|({_MOMENT}|\.\.)?/{_MOMENT}|{_MOMENT}/({_MOMENT}|\.\.)?", re.ASCII)


def _datetime(text: str) -> str:
    if not _DATETIME.fullmatch(text):
        raise ValueError("must be an RFC 3339 instant with its offset, or an interval a/b, ../b, a/..")
    try:
        parse_interval(text.upper())
    except InvalidFilter as exc:
        raise ValueError(exc.message[:200]) from exc
    return text.upper()


class ItemsQuery(incoming.Model):
    """What a list of items takes."""

    bbox: incoming.BBox | None = None
    datetime: Annotated[
        Annotated[str, AfterValidator(_datetime)] | None, Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/..")
    ] = None
    limit: Annotated[int, Field(ge=1, description="At most 1000 are given")] = 100
    token: Annotated[str | None, Field(max_length=1000)] = None


class CollectionItemsQuery(ItemsQuery):
    """What the items of one collection take; clients that search name ids, and the collection once more."""

    ids: Annotated[str | None, Field(max_length=8000, description="Item ids, with commas")] = None
    collections: Annotated[str | None, Field(max_length=8000, description="This collection's id")] = None


class SearchBody(search.Search):
    """The body of ``POST /stac/search``."""

    datetime: Annotated[Annotated[str, AfterValidator(_datetime)] | None, Field(max_length=100)] = None


class CollectionsQuery(ItemsQuery):
    """What the list of collections takes."""

    q: Annotated[str | None, Field(max_length=500, description="Words to find")] = None


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Stac(parts)

    def add(template: str, handler: Callable[..., Any], summary: str, **description: Any) -> None:
        router.add_api_route(
            template, handler, methods=["GET"], summary=summary, tags=["STAC"], **described(template, **description)
        )

    geojson = (documents.GEOJSON,)
    add("/stac", face.catalog, "Landing page, which is a Catalog")
    add("/stac/catalog.json", face.catalog, "The same")
    add("/stac/conformance", face.conformance, "What it conforms to")
    add("/stac/collections", face.collections, "Collections", query=CollectionsQuery)
    add("/stac/collections/{collection_id}", face.collection, "One dataset, or one version of it, as Collection")
    add(
        "/stac/collections/{collection_id}/items",
        face.items,
        "Its versions as Items",
        query=CollectionItemsQuery,
        media_types=geojson,
    )
    add("/stac/search", face.find, "Items of all datasets", query=search.SearchQuery, media_types=geojson)
    router.add_api_route(
        "/stac/search",
        face.find_by_body,
        methods=["POST"],
        summary="Items of all datasets",
        tags=["STAC"],
        **described("/stac/search", body=search.Search, media_types=geojson, statuses=(*READ, 413, 415)),
    )
    add(
        "/stac/collections/{collection_id}/items/{item_id}",
        face.item,
        "One version as Item",
        media_types=geojson,
        statuses=READ,
    )
    return router


class _Stac:
    def __init__(self, parts: Parts) -> None:
        self._service: Lists = parts.service
        self._url = parts.public_url
        self._site = documents.Site(
            public_url=parts.public_url,
            id=parts.id,
            title=parts.title,
            description=parts.description,
            **({"download_cells": parts.limits["download_cells"]} if "download_cells" in parts.limits else {}),
        )

        # Threads of their own: a search may take seconds, and what else needs a thread does not wait for it.
        self._searching = ThreadPoolExecutor(max_workers=4, thread_name_prefix="search")

    def catalog(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)
        path = request.scope["path"]

        def build() -> bytes:
            page = self._service.datasets(limit=documents.CHILDREN)
            children = [(shown.texts.dataset_id, shown.texts.title) for shown in page.items]
            return replies.dumps(documents.catalog(self._site, children, path=path))

        return replies.reply(request, build, tag=tag)

    def conformance(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        content = replies.dumps(documents.conformance())
        return replies.reply(request, content, tag=replies.etag("conformance", content.decode()))

    def collections(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], CollectionsQuery)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)

        def build() -> bytes:
            filters: dict[str, Any] = {"limit": min(asked.limit, MAX_PAGE), "cursor": asked.token}
            filters |= {name: value for name, value in (("q", asked.q), ("datetime", asked.datetime)) if value}
            if asked.bbox is not None:
                filters["bbox"] = _box(asked.bbox)
            page = self._service.datasets(**filters, versions=True)
            known = list(page.items)
            query = _without_token(request)
            return replies.dumps(documents.collections(known, self._site, query=query, next_token=page.next))

        return replies.reply(request, build, tag=tag)

    def collection(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = self._service.shown(request.path_params["collection_id"])
        # Its links name every retained version, so it is as old as the catalog's last commit.
        tag = replies.etag_of(shown, request, "json", self._url, self._service.generation())

        def build() -> bytes:
            return replies.dumps(documents.collection(self._with_versions(shown), self._site))

        return replies.reply(request, build, tag=tag, headers=replies.versioned(shown))

    def items(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], CollectionItemsQuery)
        dataset = self._dataset(request)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)

        def build() -> bytes:
            dataset_id = dataset.texts.dataset_id
            versions = self._service.shown_versions(dataset_id)
            behind = _behind(versions, asked.token)
            limit = min(asked.limit, MAX_PAGE)
            found: list[Shown] = []
            following: str | None = None
            for version in behind:
                shown = self._service.shown(f"{dataset_id}@{version.version_id}")
                if not _fits(shown, asked):
                    continue
                if len(found) == limit:
                    following = found[-1].version.version_id
                    break
                found.append(shown.model_copy(update={"versions": versions}))
            query = _without_token(request)
            return replies.dumps(documents.items(dataset, found, self._site, query=query, next_token=following))

        return replies.reply(request, build, media_type=documents.GEOJSON, tag=tag)

    def item(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        dataset = self._dataset(request)
        dataset_id, at, version_id = request.path_params["item_id"].partition("@")
        if not at or dataset_id != dataset.texts.dataset_id:
            raise NotFound("There is no such item in this collection", what="version")
        shown = self._service.shown(f"{dataset_id}@{version_id}")
        if shown.version.version_id != version_id:
            raise NotFound("An item is named by its version id", what="version")
        tag = replies.etag_of(shown, request, "json", self._url, self._service.generation())

        def build() -> bytes:
            return replies.dumps(documents.item(self._with_versions(shown), self._site))

        return replies.reply(request, build, media_type=documents.GEOJSON, tag=tag, headers=replies.versioned(shown))

    def find(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], search.SearchQuery).search()
        checked = incoming.validated(asked.model_dump(), SearchBody)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)
        query = _without_token(request)

        def build() -> bytes:
            found = self._service.items(search.checked(checked))
            address = f"{self._url}/stac/search"
            links = [_link("self", f"{address}?{urlencode(query)}" if query else address)]
            if found.token is not None:
                links.append(_link("next", f"{address}?{urlencode(query | {'token': found.token})}"))
            return self._found(found, links)

        return replies.reply(request, build, media_type=documents.GEOJSON, tag=tag)

    async def find_by_body(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = await incoming.body(request, SearchBody, max_values=search.MAX_VALUES)

        def work() -> Response:
            found = self._service.items(search.checked(asked))
            address = f"{self._url}/stac/search"
            links = [_link("self", address) | {"method": "POST"}]
            if found.token is not None:
                links.append(_link("next", address) | {"method": "POST", "body": {"token": found.token}, "merge": True})
            return replies.reply(request, self._found(found, links), media_type=documents.GEOJSON)

        return await asyncio.get_running_loop().run_in_executor(self._searching, work)

    def _found(self, found: ItemPage, links: list[dict[str, Any]]) -> bytes:
        root = {"rel": "root", "href": f"{self._url}/stac", "type": "application/json", "title": self._site.title}
        features = [documents.item(shown, self._site) for shown in found.items]
        page = {"type": "FeatureCollection", "features": features, "links": [*links, root], "numberReturned": len(features)}
        return replies.dumps(page)

    def _with_versions(self, shown: Shown) -> Shown:
        return shown.model_copy(update={"versions": self._service.shown_versions(shown.texts.dataset_id)})

    def _dataset(self, request: Request) -> Shown:
        """Return the dataset of an items address; a pinned collection has the same items."""
        return self._service.shown(request.path_params["collection_id"])


def _link(rel: str, href: str) -> dict[str, Any]:
    title = "The next page" if rel == "next" else "This search"
    return {"rel": rel, "href": href, "type": documents.GEOJSON, "title": title}


def _box(text: str) -> tuple[float, float, float, float]:
    west, south, east, north = (float(part) for part in text.split(","))
    return west, south, east, north


def _fits(shown: Shown, asked: CollectionItemsQuery) -> bool:
    cube, dataset_id = shown.description, shown.texts.dataset_id
    if asked.ids is not None and f"{dataset_id}@{shown.version.version_id}" not in asked.ids.split(","):
        return False
    if asked.collections is not None and dataset_id not in asked.collections.split(","):
        return False
    if asked.bbox is not None and not search.meets(cube, _box(asked.bbox)):
        return False
    return asked.datetime is None or search.within(cube, *parse_interval(asked.datetime))


def _behind(versions: tuple[VersionRef, ...], token: str | None) -> tuple[VersionRef, ...]:
    if token is None:
        return versions
    for place, version in enumerate(versions):
        if version.version_id == token:
            return versions[place + 1 :]
    raise InvalidRequest(
        "token: was not given by this list", errors=[Problem(("query", "token"), "invalid-cursor", "was not given here")]
    )


def _without_token(request: Request) -> dict[str, str]:
    return {name: value for name, value in incoming.parameters(request.scope["query_string"])[0].items() if name != "token"}
