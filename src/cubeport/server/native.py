"""The native face: ``/datasets``, ``/ingestions``, ``/extent``, ``/dataset-templates`` and what a server says of itself."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.documents import native as documents
from cubeport.documents.native import DatasetDetail, DatasetSummary, Link, Version
from cubeport.documents.texts import Shown
from cubeport.errors import Cancelled, CubeportError, Forbidden, InvalidCursor, NotFound, Unauthorized
from cubeport.server import incoming, negotiation, problems, replies
from cubeport.server.auth import Caller
from cubeport.server.openapi import INGEST, READ, WRITE, described
from cubeport.server.parts import Parts, Service
from cubeport.service import present
from cubeport.service.ingestions import Ingestion, IngestionRequest
from cubeport.service.state import VersionState
from cubeport.service.templates import DatasetTemplate, Extent

NEWEST = 20
"""Versions in a dataset's detail."""


def check_bbox(text: str) -> str:
    """Return *text* if it is a box; west > east crosses the antimeridian. Raises ValueError."""
    parts = text.split(",")
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError as exc:
        raise ValueError("must be west,south,east,north in degrees") from exc
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError("must be west,south,east,north in degrees, south not above north")
    return text


Limit = Annotated[int, Field(ge=1, le=1000)]
Cursor = Annotated[str, Field(max_length=1000)]
Sort = Literal["dataset_id", "-dataset_id", "dataset_name", "-dataset_name", "last_updated", "-last_updated"]


class DatasetsQuery(incoming.Model):
    """What ``GET /datasets`` takes."""

    q: Annotated[str | None, Field(description="Words to find", max_length=500)] = None
    bbox: Annotated[
        Annotated[str, AfterValidator(check_bbox)] | None, Field(description="west,south,east,north; west > east crosses 180°")
    ] = None
    datetime: Annotated[str | None, Field(description="An RFC 3339 instant, or an interval a/b, ../b, a/..", max_length=100)] = None
    variable: Annotated[str | None, Field(max_length=200)] = None
    period_type: Annotated[str | None, Field(max_length=40)] = None
    source_dataset_id: Annotated[str | None, Field(max_length=64)] = None
    extent_id: Annotated[str | None, Field(max_length=64)] = None
    keyword: Annotated[str | None, Field(max_length=200)] = None
    publication: Literal["published", "unpublished", "any"] = "published"
    sort: Sort = "dataset_id"
    limit: Limit = 100
    cursor: Cursor | None = None
    count: bool = False


class PageQuery(incoming.Model):
    """What a plain list takes."""

    limit: Limit = 100
    cursor: Cursor | None = None


class TemplatesQuery(PageQuery):
    """What ``GET /dataset-templates`` takes."""

    q: Annotated[str | None, Field(max_length=500)] = None
    period_type: Annotated[str | None, Field(max_length=40)] = None


class IngestionsQuery(PageQuery):
    """What ``GET /ingestions`` takes."""

    dataset_id: Annotated[str | None, Field(max_length=64)] = None
    status: Literal["accepted", "running", "retrying", "completed", "failed", "cancelled"] | None = None


class FormQuery(incoming.Model):
    """What an address with pages takes."""

    f: Literal["json", "html"] | None = None


class DeleteQuery(incoming.Model):
    """What ``DELETE /datasets/{dataset_id}`` takes."""

    purge: bool = False


class PublishRequest(incoming.Model):
    """The body of ``POST /datasets/{dataset_id}/publish``; empty means the head."""

    version: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")] = None


class IngestionDocument(documents._Document):  # noqa: SLF001 (one family of documents)
    """One ingestion, whatever its status."""

    ingestion_id: str | None
    status: str
    dataset: DatasetSummary | None
    kind: str
    action: str | None
    reused: bool
    version_id: str | None
    request_scope: dict[str, Any]
    coverage: dict[str, Any] | None
    warnings: tuple[dict[str, str], ...]
    plan: dict[str, Any] | None
    progress: dict[str, Any] | None
    attempt: int
    cancel_requested: bool
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: dict[str, Any] | None
    links: tuple[Link, ...]


SCHEMAS = (
    IngestionRequest,
    IngestionDocument,
    PublishRequest,
    DatasetDetail,
    DatasetSummary,
    Version,
    documents.ExtentDocument,
    documents.TemplateDocument,
    documents.Listing[DatasetSummary],
    documents.Listing[Version],
    documents.Listing[documents.ExtentDocument],
    documents.Listing[documents.TemplateDocument],
    documents.Listing[IngestionDocument],
)
"""What ``/openapi.json`` names."""


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Native(parts)

    def add(method: str, template: str, handler: Callable[..., Any], summary: str, tag: str, **description: Any) -> None:
        router.add_api_route(template, handler, methods=[method], summary=summary, tags=[tag], **described(template, **description))

    listing = documents.Listing
    add("GET", "/datasets", face.datasets, "Datasets", "Datasets", query=DatasetsQuery, schema=listing[DatasetSummary])
    add(
        "GET",
        "/datasets/{dataset_id}",
        face.dataset,
        "One dataset",
        "Datasets",
        query=FormQuery,
        statuses=(*READ, 406),
        schema=DatasetDetail,
        media_types=("application/json", "text/html"),
    )
    add(
        "GET",
        "/datasets/{dataset_id}/versions",
        face.versions,
        "Its versions, newest first",
        "Datasets",
        query=PageQuery,
        schema=listing[Version],
    )
    add("GET", "/datasets/{dataset_id}/versions/{ref}", face.version, "One version", "Datasets", schema=Version)
    add(
        "POST",
        "/datasets/{dataset_id}/publish",
        face.publish,
        "Show its head, or the version named, on every face",
        "Datasets",
        body=PublishRequest,
        body_required=False,
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/unpublish",
        face.unpublish,
        "Take it off every face",
        "Datasets",
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add(
        "POST",
        "/datasets/{dataset_id}/restore",
        face.restore,
        "Bring the newest deleted dataset of that id back, unpublished",
        "Datasets",
        statuses=WRITE,
        schema=DatasetSummary,
    )
    add("DELETE", "/datasets/{dataset_id}", face.delete, "Delete it", "Datasets", query=DeleteQuery, statuses=WRITE)
    add(
        "POST",
        "/ingestions",
        face.ingest,
        "Make or change a dataset",
        "Ingestions",
        body=IngestionRequest,
        statuses=INGEST,
        success={200: "A new or reused version", 202: "Accepted; its Location tells how it goes"},
        schema=IngestionDocument,
    )
    add(
        "GET",
        "/ingestions",
        face.ingestions,
        "Ingestions, newest first",
        "Ingestions",
        query=IngestionsQuery,
        schema=listing[IngestionDocument],
    )
    add("GET", "/ingestions/{ingestion_id}", face.ingestion, "One ingestion", "Ingestions", schema=IngestionDocument)
    add(
        "DELETE",
        "/ingestions/{ingestion_id}",
        face.cancel,
        "Ask for its end",
        "Ingestions",
        statuses=(*READ, 409),
        success={202: "It will end; its address tells when"},
        schema=IngestionDocument,
    )
    add("GET", "/extent", face.extents, "Named areas", "What can be ingested", schema=listing[documents.ExtentDocument])
    add("GET", "/extent/{extent_id}", face.extent, "One area", "What can be ingested", schema=documents.ExtentDocument)
    add(
        "GET",
        "/dataset-templates",
        face.templates,
        "Sources that can be ingested",
        "What can be ingested",
        query=TemplatesQuery,
        schema=listing[documents.TemplateDocument],
    )
    add(
        "GET",
        "/dataset-templates/{template_id}",
        face.template,
        "One source",
        "What can be ingested",
        schema=documents.TemplateDocument,
    )
    add("GET", "/health", face.health, "Is the process alive?", "The service", statuses=(400, 500))
    add("GET", "/ready", face.ready, "Does all that it needs answer?", "The service", statuses=(400, 500, 503))
    add("GET", "/info", face.info, "What this service is", "The service")
    return router


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Threads that only wait for ingestions: their number bounds nothing else."""

    pool: ThreadPoolExecutor

    async def __call__(self, service: Service, ingestion_id: str, seconds: float) -> Ingestion:
        return await asyncio.get_running_loop().run_in_executor(self.pool, service.wait, ingestion_id, seconds)


class _Native:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._service = parts.service
        self._url = parts.public_url
        self._wait = _Waiting(ThreadPoolExecutor(max_workers=100, thread_name_prefix="waiting"))

    # --- datasets ---

    def datasets(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], DatasetsQuery)
        if asked.publication != "published":
            _must(request, "ingest")
        tag = replies.etag_of_list(self._service.generation(), request, "json", self._url)

        def build() -> bytes:
            filters = asked.model_dump(exclude_none=True, exclude={"bbox"})
            if asked.bbox is not None:
                filters["bbox"] = tuple(float(part) for part in asked.bbox.split(","))
            page = self._service.datasets(**filters)
            items = [documents.summary(shown, self._url) for shown in page.items]
            links = self._page_links("/datasets", request, page.next)
            return replies.dumps(documents.listing("DatasetList", items, links, matched=page.matched))

        return replies.reply(request, build, tag=tag)

    def dataset(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], FormQuery)
        form = negotiation.form(request, asked.f)
        shown = self._shown(request)
        # Whoever may ingest sees versions that were never shown: another document, so another tag.
        tag = replies.etag_of(shown, request, form, self._url, self._may_see_all(request))

        def build() -> bytes:
            detail = documents.detail(shown, self._url, versions=self._versions(request, shown, NEWEST)[0])
            if form == "html":
                from cubeport.server import pages

                return pages.dataset(self._parts, detail, shown)
            return detail.model_dump_json().encode()

        html = form == "html"
        return replies.reply(
            request,
            build,
            media_type=negotiation.HTML if html else negotiation.JSON,
            tag=tag,
            varies=("Accept",),
            headers=_versioned(shown) | (replies.PAGE_HEADERS if html else {}),
        )

    def versions(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], PageQuery)
        shown = self._shown(request)
        tag = replies.etag_of_list(self._service.generation(), request, f"json {self._may_see_all(request)}", self._url)

        def build() -> bytes:
            items, following = self._versions(request, shown, asked.limit, _place(asked.cursor))
            path = f"/datasets/{shown.texts.dataset_id}/versions"
            return replies.dumps(documents.listing("VersionList", items, self._page_links(path, request, following)))

        return replies.reply(request, build, tag=tag)

    def version(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        dataset_id, ref = request.path_params["dataset_id"].partition("@")[0], request.path_params["ref"]
        shown = self._service.shown(f"{dataset_id}@{ref}", unpublished=self._may_see_all(request))
        found = self._version(shown)
        tag = replies.etag_of(shown, request, "json", self._url, found.state)
        return replies.reply(request, lambda: found.model_dump_json().encode(), tag=tag, headers=_versioned(shown))

    def _version(self, shown: Shown) -> Version:
        after: tuple[int, str] | None = None
        while True:
            page = self._service.versions(shown.texts.dataset_id, limit=1000, after=after)
            for state, stored in page:
                if state.version_id == shown.version.version_id:
                    return self._version_document(shown, state, stored)
            if len(page) < 1000:
                raise NotFound("There is no such version", what="version")
            after = (page[-1][0].seq, page[-1][0].version_id)

    def _versions(
        self, request: Request, shown: Shown, limit: int, after: tuple[int, str] | None = None
    ) -> tuple[list[Version], str | None]:
        """Return one page of versions, and the cursor behind it. What was never shown is only for those who ingest."""
        found = self._service.versions(shown.texts.dataset_id, limit=limit + 1, after=after)
        page = found[:limit]
        seen = [each for each in page if each[0].shown_at is not None or self._may_see_all(request)]
        last = page[-1][0] if len(found) > limit else None
        following = _cursor(last.seq, last.version_id) if last else None
        return [self._version_document(shown, state, stored) for state, stored in seen], following

    def _version_document(self, shown: Shown, state: VersionState, stored: str) -> Version:
        return present.version(shown, state, stored, self._url)

    async def publish(self, request: Request) -> Response:
        asked = incoming.validated(await incoming.body(request, may_be_empty=True), PublishRequest)
        return await self._written(request, lambda dataset_id: self._service.publish(dataset_id, version=asked.version))

    async def unpublish(self, request: Request) -> Response:
        incoming.validated(await incoming.body(request, may_be_empty=True), incoming.NoParameters)
        return await self._written(request, self._service.unpublish)

    async def restore(self, request: Request) -> Response:
        incoming.validated(await incoming.body(request, may_be_empty=True), incoming.NoParameters)
        return await self._written(request, self._service.restore)

    async def _written(self, request: Request, write: Callable[[str], object]) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        dataset_id = _plain(request)

        def act() -> bytes:
            if request.headers.get("if-match") is not None:
                self._check_if_match(request, self._service.shown(dataset_id, unpublished=True))
            write(dataset_id)
            shown = self._service.shown(dataset_id, unpublished=True)
            return documents.summary(shown, self._url).model_dump_json().encode()

        return _fresh(await asyncio.to_thread(act))

    async def delete(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], DeleteQuery)
        dataset_id = _plain(request)

        def act() -> bytes:
            if_match: int | None = None
            if request.headers.get("if-match") is not None:
                shown = self._service.shown(dataset_id, unpublished=True)
                self._check_if_match(request, shown)
                if_match = shown.record_version
            record = self._service.delete(dataset_id, if_match=if_match, purge=asked.purge)
            return replies.dumps({"dataset_id": dataset_id, "status": "deleted", "record_version": record.version})

        return _fresh(await asyncio.to_thread(act))

    def _check_if_match(self, request: Request, shown: Shown) -> None:
        tags = [
            replies.etag_at(shown, f"/datasets/{shown.texts.dataset_id}", form, self._url, sees_all)
            for form in ("json", "html")
            for sees_all in (True, False)
        ]
        replies.check_if_match(request, tags)

    # --- ingestions ---

    async def ingest(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = incoming.validated(await incoming.body(request), IngestionRequest)
        _caller(request).check_dataset(asked.dataset_id)
        wait_s, applied = incoming.preferred_wait(request.headers.getlist("prefer"), self._parts.wait_s)
        ingestion = await asyncio.to_thread(self._service.ingest, asked, waited_for=wait_s > 0)
        if not ingestion.finished and ingestion.status != "planned" and wait_s > 0:
            # A caller that leaves cancels this wait, never the ingestion.
            ingestion = await self._wait(self._service, ingestion.ingestion_id, wait_s)
        if ingestion.status == "failed" and ingestion.error is not None:
            raise problems.revived(ingestion.error, ingestion_id=ingestion.ingestion_id)
        if ingestion.status == "cancelled":
            raise Cancelled("The ingestion was cancelled", ingestion_id=ingestion.ingestion_id)
        content = await asyncio.to_thread(lambda: replies.dumps(self._ingestion(ingestion)))
        headers = {"Preference-Applied": applied} if applied else {}
        if ingestion.finished or ingestion.status == "planned":
            return _fresh(content, headers=headers)
        headers |= {"Location": f"{self._url}/ingestions/{ingestion.ingestion_id}", "Retry-After": "1"}
        return _fresh(content, status=202, headers=headers)

    def ingestions(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], IngestionsQuery)
        page = self._service.ingestions(**asked.model_dump())
        seen = [each for each in page.items if _may_see(request, each.dataset_id)]
        links = self._page_links("/ingestions", request, page.next)
        listing = documents.listing("IngestionList", [], links) | {
            "items": [self._ingestion(each) for each in seen],
            "number_returned": len(seen),
        }
        return _fresh(replies.dumps(listing))

    def ingestion(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ingestion = self._service.ingestion(request.path_params["ingestion_id"])
        if not _may_see(request, ingestion.dataset_id):
            raise NotFound("There is no such ingestion", what="ingestion")
        return _fresh(replies.dumps(self._ingestion(ingestion)))

    def cancel(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ingestion_id = request.path_params["ingestion_id"]
        _caller(request).check_dataset(self._service.ingestion(ingestion_id).dataset_id)
        ingestion = self._service.cancel(ingestion_id)
        headers = {"Location": f"{self._url}/ingestions/{ingestion_id}", "Retry-After": "1"}
        return _fresh(replies.dumps(self._ingestion(ingestion)), status=202, headers=headers)

    def _ingestion(self, ingestion: Ingestion) -> dict[str, Any]:
        return present.ingestion(self._service, ingestion, self._url) | {"error": self._error(ingestion)}

    def _error(self, ingestion: Ingestion) -> dict[str, Any] | None:
        if ingestion.error is None:
            return None
        exc = problems.revived(ingestion.error)
        return problems.document(exc, public_url=self._url, request_id=ingestion.ingestion_id)

    # --- what can be ingested ---

    def extents(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        items = [_extent(extent) for _, extent in sorted(self._service.extents().items())]
        return self._by_content(request, documents.listing("ExtentList", items, self._page_links("/extent", request, None)))

    def extent(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        found = _extent(self._service.extent(request.path_params["extent_id"]))
        return self._by_content(request, found.model_dump(mode="json"))

    def templates(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], TemplatesQuery)
        words = (asked.q or "").lower().split()
        fitting = [
            template
            for name, template in sorted(self._service.templates().items())
            if (asked.cursor is None or name > asked.cursor)
            and asked.period_type in (None, template.period_type)
            and all(
                word in f"{name} {template.title} {template.description or ''} {' '.join(template.keywords)}".lower()
                for word in words
            )
        ]
        page = fitting[: asked.limit]
        following = page[-1].id if len(fitting) > asked.limit else None
        links = self._page_links("/dataset-templates", request, following)
        return self._by_content(request, documents.listing("DatasetTemplateList", [self._template(each) for each in page], links))

    def template(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        found = self._template(self._service.template(request.path_params["template_id"]))
        return self._by_content(request, found.model_dump(mode="json"))

    def _template(self, template: DatasetTemplate) -> documents.TemplateDocument:
        made = self._service.datasets(source_dataset_id=template.id, limit=100)
        return documents.TemplateDocument(
            **template.model_dump(include=_TEMPLATE_FIELDS),
            variables=tuple(each.model_dump(exclude_none=True) for each in template.variables),
            extents=template.extents.model_dump(mode="json", exclude_none=True),
            sync=documents.Sync(**template.sync.model_dump()),
            source=template.source.name,
            source_url=template.source.homepage,
            source_kind=template.source.kind,
            datasets=tuple(shown.texts.dataset_id for shown in made.items),
        )

    def _by_content(self, request: Request, document: Mapping[str, Any]) -> Response:
        """Answer what comes from files and not from the catalog: its ETag is that of its bytes."""
        content = replies.dumps(document)
        return replies.reply(request, content, tag=replies.etag("content", content.decode()))

    # --- the service ---

    async def health(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        return _fresh(b'{"status":"ok"}')

    def ready(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        checks = {name: _answers(check) for name, check in {"catalog": self._service.generation, **self._parts.checks}.items()}
        good = all(word == "ok" for word in checks.values())
        content = replies.dumps({"status": "ok" if good else "unavailable", "checks": checks})
        return _fresh(content, status=200 if good else 503, headers={} if good else {"Retry-After": "5"})

    def info(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        parts = self._parts
        return self._by_content(
            request,
            {
                "id": parts.id,
                "title": parts.title,
                "version": parts.version,
                "public_url": parts.public_url,
                "read_only": parts.gatekeeper.read_only,
                "engines": [],
                "source_kinds": [],
                "formats": [],
                "limits": dict(parts.limits),
                "libraries": {},
                **parts.info,
            },
        )

    # --- shared ---

    def _shown(self, request: Request) -> Shown:
        return self._service.shown(request.path_params["dataset_id"], unpublished=self._may_see_all(request))

    def _may_see_all(self, request: Request) -> bool:
        return _caller(request).may("ingest")

    def _page_links(self, path: str, request: Request, following: str | None) -> list[Link]:
        values = incoming.parameters(request.scope["query_string"])[0]
        query = f"?{urlencode(values)}" if values else ""
        links = [Link(href=f"{self._url}{path}{query}", rel="self", title="This page", type="application/json")]
        if following is not None:
            further = urlencode(values | {"cursor": following})
            links.append(Link(href=f"{self._url}{path}?{further}", rel="next", title="The next page", type="application/json"))
        return links


_TEMPLATE_FIELDS = {
    "id", "title", "short_name", "description", "keywords", "units", "resolution", "period_type", "license", "render"
}  # fmt: skip


def _extent(extent: Extent) -> documents.ExtentDocument:
    return documents.ExtentDocument(**extent.model_dump(exclude={"country_code"}))


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["cubeport.caller"]
    return caller


def _must(request: Request, scope: Literal["ingest", "admin"]) -> None:
    caller = _caller(request)
    if not caller.may(scope):
        raise (Unauthorized if caller.name is None else Forbidden)(f"This needs a key with the scope {scope}")


def _may_see(request: Request, dataset_id: str) -> bool:
    caller = _caller(request)
    return caller.may("admin") or caller.covers(dataset_id)


def _plain(request: Request) -> str:
    """Return the dataset id of a write, which is never pinned."""
    dataset_id: str = request.path_params["dataset_id"]
    if "@" in dataset_id:
        raise NotFound("A version is not written to; name the dataset alone", what="dataset")
    return dataset_id


def _versioned(shown: Shown) -> dict[str, str]:
    return {"Cubeport-Version": shown.version.version_id}


def _fresh(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return what no cache may keep: it tells of one moment."""
    return Response(content, status, headers={"Cache-Control": "no-store", "Content-Type": "application/json", **(headers or {})})


def _answers(check: Callable[[], object]) -> str:
    try:
        check()
    except CubeportError as exc:
        return exc.kind
    except OSError:
        return "unavailable"
    return "ok"


def _cursor(seq: int, row_id: str) -> str:
    return base64.urlsafe_b64encode(f"{seq}.{row_id}".encode()).decode().rstrip("=")


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        seq, _, row_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(".")
        return int(seq), row_id
    except (ValueError, binascii.Error) as exc:
        raise InvalidCursor("The cursor was not given by this list") from exc
