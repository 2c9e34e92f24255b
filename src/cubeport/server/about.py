"""Information about the server: ``/health``, ``/ready``, ``/info``, and what it can ingest."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.documents import native as documents
from cubeport.errors import CubeportError
from cubeport.server import incoming, replies
from cubeport.server.auth import caller_of, may_know_of
from cubeport.server.incoming import PageQuery
from cubeport.server.openapi import described
from cubeport.server.parts import Parts
from cubeport.server.traffic import MEDIA_TYPE, Metric, Traffic
from cubeport.service import present, retain

type Probe = Callable[[], Awaitable[Mapping[str, str]]]
"""Tests each face. Returns ``ok`` or the problem, by the name of the face."""


class TemplatesQuery(PageQuery):
    """The parameters of ``GET /dataset-templates``."""

    q: Annotated[str | None, Field(max_length=500)] = None
    period_type: Annotated[str | None, Field(max_length=40)] = None


def routes(parts: Parts, traffic: Traffic, probe: Probe) -> APIRouter:
    """Return the routes of this face. *probe* tests the faces, and *traffic* counts the answers."""
    router = APIRouter()
    face = _About(parts, traffic, probe)

    def add(method: str, template: str, handler: Callable[..., Any], summary: str, tag: str, **description: Any) -> None:
        router.add_api_route(template, handler, methods=[method], summary=summary, tags=[tag], **described(template, **description))

    add("GET", "/extent", face.extents, "Named areas", "What can be ingested", schema=documents.Listing[documents.ExtentDocument])
    add("GET", "/extent/{extent_id}", face.extent, "One area", "What can be ingested", schema=documents.ExtentDocument)
    add(
        "GET",
        "/dataset-templates",
        face.templates,
        "Sources that can be ingested",
        "What can be ingested",
        query=TemplatesQuery,
        schema=documents.TemplateList,
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
    add("GET", "/ready", face.ready, "Does everything that it needs answer?", "The service", statuses=(400, 500, 503))
    add("GET", "/usage", face.usage, "Bytes by dataset and version", "The service")
    add("GET", "/recipes", face.recipes, "What datasets can be derived by", "The service")
    add("GET", "/derived", face.derived, "Derived datasets, and which are stale", "The service")
    add("GET", "/webhooks", face.webhooks, "The receivers of changes, and the progress of each", "The service")
    add("GET", "/info", face.info, "What this service is", "The service")
    add(
        "GET",
        "/metrics",
        face.metrics,
        "Counts for Prometheus",
        "The service",
        statuses=(400, 401, 403, 500),
        media_types=(MEDIA_TYPE,),
    )
    return router


class _About:
    def __init__(self, parts: Parts, traffic: Traffic, probe: Probe) -> None:
        self._parts = parts
        self._traffic = traffic
        self._probe = probe
        self._service = parts.service
        self._url = parts.public_url
        self._own = (
            Metric("cubeport_check", "gauge", "Whether this check of /ready passes.", self._checks),
            Metric("cubeport_catalog_generation", "gauge", "The sequence number of the newest commit.", self._generation),
        )

    def _checks(self) -> Mapping[str, float]:
        return {f'name="{name}"': float(_answers(check)[0] == "ok") for name, check in self._parts.checks.items()}

    def _generation(self) -> Mapping[str, float]:
        return {"": self._service.generation()}

    async def recipes(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        return replies.by_content(request, {"kind": "RecipeList", "items": self._service.recipes()})

    async def derived(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        covers = caller_of(request).covers

        def listed() -> bytes:
            found = self._service.derived()
            seen = [each for each in found if covers(each["dataset_id"]) and self._service.visible(each["dataset_id"])]
            return replies.dumps({"kind": "DerivedList", "items": [self._told(request, each) for each in seen]})

        return replies.fresh(await asyncio.to_thread(listed))

    def _told(self, request: Request, derived: dict[str, Any]) -> dict[str, Any]:
        """Return what is told of a derived dataset, without inputs that do not exist for the caller."""
        inputs = {name: told for name, told in derived["inputs"].items() if may_know_of(request, self._service, told["dataset_id"])}
        return derived if len(inputs) == len(derived["inputs"]) else {**derived, "inputs": inputs, "newer": []}

    async def webhooks(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        found = await asyncio.to_thread(self._service.webhooks)
        return replies.fresh(replies.dumps({"kind": "WebhookList", "items": found}))

    async def usage(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        # This checks every file of every version, so it does not run on the event loop.
        return replies.fresh(await asyncio.to_thread(lambda: replies.dumps(retain.document(self._service.usage()))))

    # --- sources to ingest ---

    def extents(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        items = [present.extent(extent) for _, extent in sorted(self._service.extents().items())]
        return replies.by_content(
            request, documents.listing("ExtentList", items, replies.page_links(f"{self._url}/extent", request, None))
        )

    def extent(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        found = present.extent(self._service.extent(request.path_params["extent_id"]))
        return replies.by_content(request, found.model_dump(mode="json"))

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
        links = replies.page_links(f"{self._url}/dataset-templates", request, following)
        document = documents.listing("DatasetTemplateList", [present.template(self._service, each) for each in page], links)
        if caller_of(request).may("admin"):
            document["problems"] = [problem for each in self._service.broken() for problem in each.problems]
        return replies.by_content(request, document)

    def template(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        found = present.template(self._service, self._service.template(request.path_params["template_id"]))
        return replies.by_content(request, found.model_dump(mode="json"))

    # --- the service ---

    async def health(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        return replies.fresh(b'{"status":"ok"}')

    async def ready(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = {"catalog": self._service.generation, **self._parts.checks}
        found = await asyncio.to_thread(lambda: {name: _answers(check) for name, check in asked.items()})
        checks = {name: word for name, (word, _) in found.items()}
        if checks["catalog"] == "ok":
            checks |= await self._probe()
        good = all(word == "ok" for word in checks.values())
        document: dict[str, Any] = {"status": "ok" if good else "unavailable", "checks": checks}
        if earlier := {name: round(ago, 1) for name, (_, ago) in found.items() if ago}:
            document["checked_s_ago"] = earlier
        if self._parts.servers is not None and checks["catalog"] == "ok":
            document["servers"] = await asyncio.to_thread(self._parts.servers)
        if self._parts.executor is not None:
            document["executor"] = await asyncio.to_thread(self._parts.executor)
        content = replies.dumps(document)
        return replies.fresh(content, status=200 if good else 503, headers={} if good else {"Retry-After": "5"})

    def metrics(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        content = self._traffic.text((*self._own, *self._parts.metrics, *_PROCESS)).encode()
        return Response(content, headers={"Cache-Control": "no-store", "Content-Type": MEDIA_TYPE})

    def info(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        parts = self._parts
        return replies.by_content(
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


def _answers(check: Callable[[], object]) -> tuple[str, float]:
    """Return ``ok`` or the problem, and how many seconds ago that was found."""
    try:
        found = check()
    except CubeportError as exc:
        return exc.kind, 0.0
    except OSError:
        return "unavailable", 0.0
    return "ok", found if isinstance(found, float) else 0.0


def _resident() -> Mapping[str, float]:
    return {"": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")}


def _descriptors() -> Mapping[str, float]:
    return {"": sum(1 for _ in Path("/proc/self/fd").iterdir())}


def _cpu() -> Mapping[str, float]:
    return {"": time.process_time()}


_PROCESS = (
    Metric("process_resident_memory_bytes", "gauge", "Resident memory of this process.", _resident),
    Metric("process_open_fds", "gauge", "Open file descriptors of this process.", _descriptors),
    Metric("process_cpu_seconds_total", "counter", "Processor time of this process.", _cpu),
)
"""Process metrics by their names in Prometheus. Without ``/proc`` they are omitted."""
