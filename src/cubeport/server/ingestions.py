"""``/ingestions``: make datasets and follow the progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.catalog.forms.canonical import now, timestamp
from cubeport.documents import native as documents
from cubeport.errors import Cancelled, CubeportError
from cubeport.server import incoming, problems, replies, streams
from cubeport.server.auth import caller_of, may_know_of, sees_unpublished
from cubeport.server.bodies import IngestionDocument, SyncRequest, SyncResponse
from cubeport.server.incoming import PageQuery
from cubeport.server.openapi import INGEST, READ, described
from cubeport.server.parts import Ingests, Parts
from cubeport.server.threads import run_in
from cubeport.service import present
from cubeport.service.ingestions import Ingestion, IngestionRequest, Work, no_ingestion
from cubeport.service.sync import SyncDetail, Synced


class IngestionsQuery(PageQuery):
    """The parameters of ``GET /ingestions``."""

    dataset_id: Annotated[str | None, Field(max_length=64)] = None
    status: Literal["accepted", "running", "retrying", "completed", "failed", "cancelled"] | None = None
    kind: Annotated[Literal["ingestion", "sync"] | None, Field(description="Asked for by a request, or by a sync")] = None
    since: Annotated[incoming.Moment | None, Field(description="Only those asked for at this time or later, RFC 3339")] = None


class SyncPlanQuery(incoming.Model):
    """The parameters of ``GET /sync/{dataset_id}/plan``."""

    end: Annotated[str | None, Field(max_length=40, description="The last period to have; empty is none")] = None


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Ingestions(parts)

    def add(method: str, template: str, handler: Callable[..., Any], summary: str, tag: str, **description: Any) -> None:
        router.add_api_route(template, handler, methods=[method], summary=summary, tags=[tag], **described(template, **description))

    add(
        "POST",
        "/ingestions",
        face.ingest,
        "Make or change a dataset",
        "Ingestions",
        body=IngestionRequest,
        statuses=INGEST,
        success={200: "A new or reused version", 202: "Accepted; see its Location for the progress"},
        schema=IngestionDocument,
    )
    add(
        "GET",
        "/ingestions",
        face.ingestions,
        "Ingestions, newest first",
        "Ingestions",
        query=IngestionsQuery,
        schema=documents.Listing[IngestionDocument],
    )
    add(
        "POST",
        "/sync/{dataset_id}",
        face.sync,
        "Update a dataset from its source",
        "Ingestions",
        body=SyncRequest,
        body_required=False,
        statuses=INGEST,
        success={200: "The result", 202: "Accepted; see its Location for the progress"},
        schema=SyncResponse,
    )
    add(
        "GET",
        "/sync/{dataset_id}/plan",
        face.sync_plan,
        "What a sync would do; nothing is written",
        "Ingestions",
        query=SyncPlanQuery,
        statuses=INGEST,  # the source is asked what it has
        schema=SyncDetail,
    )
    add("GET", "/ingestions/{ingestion_id}", face.ingestion, "One ingestion", "Ingestions", schema=IngestionDocument)
    add(
        "GET",
        "/ingestions/{ingestion_id}/events",
        face.events,
        "Its progress, as server-sent events; the last is `end`",
        "Ingestions",
        media_types=(streams.MEDIA_TYPE,),
    )
    add(
        "DELETE",
        "/ingestions/{ingestion_id}",
        face.cancel,
        "Cancel it",
        "Ingestions",
        statuses=(*READ, 409),
        success={202: "It will be cancelled; its address says when"},
        schema=IngestionDocument,
    )
    add(
        "POST",
        "/ingestions/{ingestion_id}/retry",
        face.retry,
        "Send the same request again",
        "Ingestions",
        statuses=INGEST,
        success={202: "Accepted as a new ingestion; see its Location for the progress"},
        schema=IngestionDocument,
    )
    return router


_FOLLOW_S = 0.3
"""How often the state of an ingestion is read for a client that follows it, in seconds. It can run in any process."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Threads that only wait for ingestions, so that their number limits nothing else."""

    pool: ThreadPoolExecutor

    async def __call__(self, service: Ingests, ingestion_id: str, seconds: float) -> Work:
        return await run_in(self.pool, lambda: service.wait(ingestion_id, seconds))


class _Ingestions:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._service = parts.service
        self._url = parts.public_url
        self._wait = _Waiting(ThreadPoolExecutor(max_workers=100, thread_name_prefix="waiting"))

    async def ingest(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = await incoming.body(request, IngestionRequest)
        caller_of(request).check_dataset(asked.dataset_id)
        await asyncio.to_thread(self._service.check_visible, asked.dataset_id)
        if asked.source is not None and asked.source.kind == "derived":
            await asyncio.to_thread(self._check_inputs, request, asked.source.inputs)
        wait_s, applied = incoming.preferred_wait(request.headers.getlist("prefer"), self._parts.wait_s)
        ingestion: Work = await asyncio.to_thread(self._service.ingest, asked, waited_for=wait_s > 0, asker=caller_of(request).name)
        if not ingestion.finished and ingestion.status != "planned" and wait_s > 0:
            # A caller that disconnects cancels this wait, but not the ingestion.
            ingestion = await self._wait(self._service, ingestion.ingestion_id, wait_s)
        if ingestion.status == "failed" and ingestion.error is not None:
            raise CubeportError.from_mapping(ingestion.error, ingestion_id=ingestion.ingestion_id)
        if ingestion.status == "cancelled":
            raise Cancelled("The ingestion was cancelled", ingestion_id=ingestion.ingestion_id)
        content = await asyncio.to_thread(lambda: replies.dumps(self._ingestion(ingestion)))
        headers = {"Preference-Applied": applied} if applied else {}
        if ingestion.finished or ingestion.status == "planned":
            return replies.fresh(content, headers=headers)
        headers |= {"Location": f"{self._url}/ingestions/{ingestion.ingestion_id}", "Retry-After": "1"}
        return replies.fresh(content, status=202, headers=headers)

    def _check_inputs(self, request: Request, refs: Sequence[str]) -> None:
        """Refuse to derive from datasets that the caller may not see. Raises NotFound."""
        for ref in refs:
            self._service.shown(ref, unpublished=sees_unpublished(request, ref.partition("@")[0]))

    async def sync(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = await incoming.body(request, SyncRequest, may_be_empty=True)
        dataset_id = request.path_params["dataset_id"]
        caller_of(request).check_dataset(dataset_id)
        wait_s, applied = incoming.preferred_wait(request.headers.getlist("prefer"), self._parts.wait_s)
        begin = partial(self._service.sync, dataset_id, **asked.model_dump(), here=False, waited_for=wait_s > 0)
        synced = await asyncio.to_thread(begin)
        if synced.ingestion is not None and not synced.ingestion.finished and wait_s > 0:
            ran = await self._wait(self._service, synced.ingestion.ingestion_id, wait_s)
            synced = Synced.of(synced.detail, ran) if isinstance(ran, Ingestion) else synced
        ingestion = synced.ingestion
        if ingestion is not None and ingestion.status == "failed" and ingestion.error is not None:
            raise CubeportError.from_mapping(ingestion.error, ingestion_id=ingestion.ingestion_id)
        if ingestion is not None and ingestion.status == "cancelled":
            raise Cancelled("The sync was cancelled", ingestion_id=ingestion.ingestion_id)
        content = await asyncio.to_thread(lambda: replies.dumps(present.synced(self._service, synced, self._url)))
        headers = {"Preference-Applied": applied} if applied else {}
        if ingestion is None or ingestion.finished:
            return replies.fresh(content, headers=headers)
        headers |= {"Location": f"{self._url}/ingestions/{ingestion.ingestion_id}", "Retry-After": "1"}
        return replies.fresh(content, status=202, headers=headers)

    def sync_plan(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], SyncPlanQuery)
        dataset_id = request.path_params["dataset_id"]
        caller_of(request).check_dataset(dataset_id)
        return replies.fresh(self._service.sync_plan(dataset_id, end=asked.end).model_dump_json().encode())

    def ingestions(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], IngestionsQuery)
        page = self._service.ingestions(**asked.model_dump())
        seen = [each for each in page.items if self._may_see(request, each)]
        links = replies.page_links(f"{self._url}/ingestions", request, page.next)
        listing = documents.listing("IngestionList", [], links) | {
            "items": [self._ingestion(each) for each in seen],
            "number_returned": len(seen),
        }
        return replies.fresh(replies.dumps(listing))

    def ingestion(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ingestion = self._found(request, request.path_params["ingestion_id"])
        return replies.fresh(replies.dumps(self._ingestion(ingestion)))

    def _found(self, request: Request, ingestion_id: str) -> Work:
        ingestion = self._service.ingestion(ingestion_id)
        if not self._may_see(request, ingestion):
            raise no_ingestion(ingestion_id)
        return ingestion

    def _may_see(self, request: Request, ingestion: Work) -> bool:
        """Return whether the key is valid for the dataset of an ingestion, and its caller may see the dataset.

        If there is no record, an ingestion that has not finished is about to make it, and one that failed says why there is none.
        If any has completed, there was one, and it can have been private: then only who asked may see the others.
        """
        caller = caller_of(request)
        if caller.may("admin"):
            return True
        if not caller.covers(ingestion.dataset_id):
            return False
        if may_know_of(request, self._service, ingestion.dataset_id):
            return True
        is_new = isinstance(ingestion, Ingestion) and (not ingestion.finished or self._made_nothing(ingestion, caller.name))
        return is_new and may_know_of(request, self._service, ingestion.dataset_id, if_none=True)

    def _made_nothing(self, ingestion: Ingestion, asker: str | None) -> bool:
        if ingestion.asker == asker:
            return True
        page = self._service.ingestions(dataset_id=ingestion.dataset_id, status="completed", limit=1)
        return ingestion.status != "completed" and not page.items

    async def events(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ingestion_id = request.path_params["ingestion_id"]
        await asyncio.to_thread(self._found, request, ingestion_id)
        last = request.headers.get("last-event-id", "")
        seen = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return streams.streaming(self._events(ingestion_id, seen))

    async def _events(self, ingestion_id: str, seen: int) -> AsyncIterator[bytes]:
        """Yield changes as events. Their ids are numbers of changes, so a client that reconnects with its last id receives all
        later changes.
        """
        status, spoke = "", time.monotonic()
        while not streams.STOPPING.is_set():
            ingestion, number = await asyncio.to_thread(self._service.follow, ingestion_id)
            if ingestion.finished:
                for warning in ingestion.warnings:
                    yield streams.event("warning", number, self._told(ingestion, warning=warning))
                document = await asyncio.to_thread(self._ingestion, ingestion)
                yield streams.event("end", number, document)
                return
            if number > seen:
                kind, seen, status = "progress" if ingestion.status == status else "state", number, ingestion.status
                yield streams.event(kind, number, self._told(ingestion))
                spoke = time.monotonic()
            elif time.monotonic() - spoke > streams.COMMENT_S:
                yield streams.COMMENT
                spoke = time.monotonic()
            await asyncio.sleep(_FOLLOW_S)

    def _told(self, ingestion: Work, *, warning: Mapping[str, str] | None = None) -> dict[str, Any]:
        return {
            "ingestion_id": ingestion.ingestion_id,
            "time": timestamp(now()),
            "status": ingestion.status,
            "progress": ingestion.progress.model_dump(mode="json"),
            "warning": warning,
        }

    def cancel(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ingestion_id = request.path_params["ingestion_id"]
        caller_of(request).check_dataset(self._found(request, ingestion_id).dataset_id)
        ingestion = self._service.cancel(ingestion_id)
        headers = {"Location": f"{self._url}/ingestions/{ingestion_id}", "Retry-After": "1"}
        return replies.fresh(replies.dumps(self._ingestion(ingestion)), status=202, headers=headers)

    async def retry(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ingestion_id = request.path_params["ingestion_id"]

        def act() -> Response:
            caller_of(request).check_dataset(self._found(request, ingestion_id).dataset_id)
            ingestion = self._service.retry(ingestion_id, asker=caller_of(request).name)
            headers = {"Location": f"{self._url}/ingestions/{ingestion.ingestion_id}", "Retry-After": "1"}
            return replies.fresh(replies.dumps(self._ingestion(ingestion)), status=202, headers=headers)

        return await asyncio.to_thread(act)

    def _ingestion(self, ingestion: Work) -> dict[str, Any]:
        return present.ingestion(self._service, ingestion, self._url) | {"error": self._error(ingestion)}

    def _error(self, ingestion: Work) -> dict[str, Any] | None:
        if ingestion.error is None:
            return None
        exc = CubeportError.from_mapping(ingestion.error)
        return problems.document(exc, public_url=self._url, request_id=ingestion.ingestion_id)
