"""The STAC face: sealed documents merged with the record's texts and links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import packaging.licenses  # noqa: F401  # a licence of a dataset loads it, and no request is to import anything
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from cubeport.documents import queryables
from cubeport.documents import stac as documents
from cubeport.documents.fields import of_all
from cubeport.documents.texts import PublishedView
from cubeport.errors import NotFound
from cubeport.server import incoming, replies, search
from cubeport.server.openapi import READ, described
from cubeport.server.parts import Lists, Parts
from cubeport.server.threads import run_in
from cubeport.service.branches import branch, parent
from cubeport.service.items import ItemPage

SCHEMA = "application/schema+json"


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
    add("/stac/catalogs/{beginning}", face.part, "The datasets whose ids begin so, as Catalog")
    add("/stac/conformance", face.conformance, "What it conforms to")
    add("/stac/collections", face.collections, "Collections", query=search.CollectionsQuery)
    add("/stac/collections/{collection_id}", face.collection, "One dataset, or one version of it, as Collection")
    add(
        "/stac/collections/{collection_id}/items",
        face.items,
        "Its versions as Items",
        query=search.SearchQuery,
        media_types=geojson,
    )
    add("/stac/queryables", face.queryables, "Names that filters can use", media_types=(SCHEMA,))
    add(
        "/stac/collections/{collection_id}/queryables",
        face.queryables_of,
        "What filters on its items may ask",
        media_types=(SCHEMA,),
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

        # Searches have their own threads, because a search can take seconds and must not delay other work.
        self._searching = ThreadPoolExecutor(max_workers=4, thread_name_prefix="search")

    def catalog(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)
        path = request.scope["path"]

        def build() -> bytes:
            found = branch(self._service.dataset_names, "", most=documents.CHILDREN)
            return replies.dumps(documents.catalog(self._site, found.datasets, parts=found.branches, path=path))

        return replies.reply(request, build, tag=tag)

    def part(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)
        beginning = request.path_params["beginning"]

        def build() -> bytes:
            found = branch(self._service.dataset_names, beginning, most=documents.CHILDREN)
            if not found.datasets and not found.branches:
                raise NotFound("No dataset has an id with this beginning", what="path", next_step=f"{self._url}/stac")
            above = parent(self._service.dataset_names, beginning)
            return replies.dumps(documents.part(self._site, beginning, found.datasets, parts=found.branches, parent=above))

        return replies.reply(request, build, tag=tag)

    def conformance(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        content = replies.dumps(documents.conformance())
        return replies.reply(request, content, tag=replies.etag("conformance", content.decode()))

    def collections(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], search.CollectionsQuery)
        body = search.read(asked)
        checked, fields = search.collections(body, asked.q), search.fields(body)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)

        def build() -> bytes:
            page = self._service.collections(checked)
            query = _without_token(request)
            found, matched = list(page.items), page.matched
            document = documents.collections(
                found, self._site, query=query, next_token=page.next, previous_token=page.before, matched=matched
            )
            return replies.dumps({**document, "collections": of_all(document["collections"], fields)})

        return replies.reply(request, build, tag=tag)

    def queryables(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        content = replies.dumps(queryables.queryables(f"{self._url}/stac/queryables", title="Names that filters can use"))
        return replies.reply(request, content, media_type=SCHEMA, tag=replies.etag("queryables", content.decode()))

    def queryables_of(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = self._dataset(request)
        tag = replies.etag_of(shown, request, "json", self._url)

        def build() -> bytes:
            name, cube = shown.texts.dataset_id, shown.description
            standard = [each for field in cube.fields if (each := cube.variable(field).standard_name)]
            known = {"collection": [name], "variables": list(cube.fields), "standard_names": list(dict.fromkeys(standard))}
            address = f"{self._url}/stac/collections/{request.path_params['collection_id']}/queryables"
            return replies.dumps(queryables.queryables(address, title=f"What filters on {shown.texts.title} may ask", values=known))

        return replies.reply(request, build, media_type=SCHEMA, tag=tag, headers=replies.versioned(shown))

    def collection(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        shown = self._service.shown(request.path_params["collection_id"])
        # Its links contain all retained versions, so it can change with every commit of the catalog.
        tag = replies.etag_of(shown, request, "json", self._url, self._service.generation())

        def build() -> bytes:
            [whole] = self._service.with_versions(shown)
            return replies.dumps(documents.collection(whole, self._site))

        return replies.reply(request, build, tag=tag, headers=replies.versioned(shown))

    def items(self, request: Request) -> Response:
        asked = search.read(incoming.query(request.scope["query_string"], search.SearchQuery))
        dataset = self._dataset(request)
        dataset_id = dataset.texts.dataset_id
        elsewhere = asked.collections is not None and dataset_id not in asked.collections
        checked = search.items(asked.model_copy(update={"collections": [] if elsewhere else [dataset_id]}))
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)

        def build() -> bytes:
            found = self._service.items(checked)
            query = _without_token(request)
            page = documents.items(
                dataset, found.items, self._site, query=query, next_token=found.token, previous_token=found.before
            )
            return replies.dumps({**page, "features": of_all(page["features"], search.fields(asked))})

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
            [whole] = self._service.with_versions(shown)
            return replies.dumps(documents.item(whole, self._site))

        return replies.reply(request, build, media_type=documents.GEOJSON, tag=tag, headers=replies.versioned(shown))

    def find(self, request: Request) -> Response:
        asked = search.read(incoming.query(request.scope["query_string"], search.SearchQuery))
        checked = search.items(asked)
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)
        query = _without_token(request)

        def build() -> bytes:
            found = self._service.items(checked)
            address = f"{self._url}/stac/search"
            links = [_link("self", f"{address}?{urlencode(query)}" if query else address)]
            for rel, token in found.tokens:
                links.append(_link(rel, f"{address}?{urlencode(query | {'token': token})}"))
            return self._found(found, links, asked)

        return replies.reply(request, build, media_type=documents.GEOJSON, tag=tag)

    async def find_by_body(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = await incoming.body(request, search.Search, max_values=search.MAX_VALUES)

        def work() -> Response:
            found = self._service.items(search.items(asked))
            address = f"{self._url}/stac/search"
            links = [_link("self", address) | {"method": "POST"}]
            for rel, token in found.tokens:
                # The whole query, though clients should merge it with theirs: rustac sends the body of the link alone.
                given = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
                body = {**given, "token": token}
                links.append(_link(rel, address) | {"method": "POST", "body": body, "merge": True})
            return replies.reply(request, self._found(found, links, asked), media_type=documents.GEOJSON)

        return await run_in(self._searching, work)

    def _found(self, found: ItemPage, links: list[dict[str, Any]], query: search.Search) -> bytes:
        root = {"rel": "root", "href": f"{self._url}/stac", "type": "application/json", "title": self._site.title}
        features: list[Mapping[str, Any]] = [documents.item(shown, self._site) for shown in found.items]
        page = {
            "type": "FeatureCollection",
            "features": of_all(features, search.fields(query)),
            "links": [*links, root],
            **documents.counted(len(features), found.matched),
        }
        return replies.dumps(page)

    def _dataset(self, request: Request) -> PublishedView:
        """Return the dataset of an items URL. A pinned collection has the same items."""
        return self._service.shown(request.path_params["collection_id"])


def _link(rel: str, href: str) -> dict[str, Any]:
    title = {"next": "The next page", "prev": "The previous page"}.get(rel, "This search")
    return {"rel": rel, "href": href, "type": documents.GEOJSON, "title": title}


def _without_token(request: Request) -> dict[str, str]:
    return {name: value for name, value in incoming.parameters(request.scope["query_string"])[0].items() if name != "token"}
