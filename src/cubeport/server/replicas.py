"""``/replicas``: receive versions from another instance, object by object, and describe ours to it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.errors import InvalidRequest, TooLarge
from cubeport.server import incoming, replies
from cubeport.server.auth import caller_of, sees_unpublished
from cubeport.server.bodies import MissingObjects, ReplicaRequest, Replication
from cubeport.server.openapi import INGEST, described
from cubeport.server.parts import Parts
from cubeport.service.replicate import Replica
from cubeport.service.templates import ID_PATTERN

MOST_MANIFEST = 128 << 20
MOST_OBJECT = 256 << 20
TOLD = 1_000
"""How many missing objects one answer names."""

_IN_MEMORY = 4 << 20
_PIECE = 1 << 20


class BeginQuery(incoming.Model):
    """The parameters of ``PUT /replicas/{digest}``."""

    dataset_id: Annotated[
        str | None, Field(pattern=ID_PATTERN, description="The dataset that gets the version: what it has need not be sent again")
    ] = None


def routes(parts: Parts) -> APIRouter:
    """Return the routes of this face."""
    router = APIRouter()
    face = _Replicas(parts)

    def add(method: str, template: str, handler: Callable[..., Any], summary: str, **description: Any) -> None:
        router.add_api_route(
            template, handler, methods=[method], summary=summary, tags=["Mirrors"], **described(template, **description)
        )

    add("GET", "/datasets/{dataset_id}/replica", face.replica, "What another instance needs to know of a version", schema=Replica)
    add(
        "PUT",
        "/replicas/{digest}",
        face.begin,
        "Take the manifest of a version in",
        query=BeginQuery,
        statuses=INGEST,
        schema=MissingObjects,
    )
    add("PUT", "/replicas/{digest}/objects/{sha256}", face.put, "Take one object of it in", statuses=INGEST)
    add(
        "POST",
        "/replicas/{digest}",
        face.finish,
        "Make and register the version whose objects were taken in",
        body=ReplicaRequest,
        statuses=INGEST,
        schema=Replication,
    )
    return router


class _Replicas:
    def __init__(self, parts: Parts) -> None:
        self._service = parts.service
        self._url = parts.public_url

    def replica(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        ref = request.path_params["dataset_id"]
        sees_all = sees_unpublished(request, ref.partition("@")[0])
        found = self._service.replica(ref, unpublished=sees_all)
        return replies.by_content(request, found.model_dump(mode="json"))

    async def begin(self, request: Request) -> Response:
        digest, dataset_id = request.path_params["digest"], incoming.query(request.scope["query_string"], BeginQuery).dataset_id
        if dataset_id is not None:  # what it has is taken from it, so only for who may read it; one that is hidden has nothing
            caller_of(request).check_dataset(dataset_id)
            dataset_id = dataset_id if await asyncio.to_thread(self._service.visible, dataset_id) else None
        with await _taken(request, MOST_MANIFEST) as file:
            begin = partial(self._service.begin_replica, digest, dataset_id=dataset_id)
            missing = await asyncio.to_thread(lambda: begin(file.read()))
        document = {
            "kind": "MissingObjects",
            "digest": digest,
            "missing": list(missing)[:TOLD],
            "missing_objects": len(missing),
            "missing_bytes": sum(missing.values()),
        }
        return replies.fresh(replies.dumps(document))

    async def put(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        digest, sha256 = request.path_params["digest"], request.path_params["sha256"]
        with await _taken(request, MOST_OBJECT) as file:
            await asyncio.to_thread(lambda: self._service.put_replica(digest, sha256, _pieces(file)))
        return replies.fresh(replies.dumps({"kind": "ArrivedObject", "digest": digest, "sha256": sha256}))

    async def finish(self, request: Request) -> Response:
        incoming.query(request.scope["query_string"], incoming.NoParameters)
        asked = await incoming.body(request, ReplicaRequest)
        caller_of(request).check_dataset(asked.replica.dataset_id)
        await asyncio.to_thread(self._service.check_visible, asked.replica.dataset_id)
        if asked.replica.digest != request.path_params["digest"]:
            raise InvalidRequest("The replica has another digest than the address")
        done = await asyncio.to_thread(lambda: self._service.arrive(asked.replica, publish=asked.publish, ref=asked.ref))
        return replies.fresh(replies.dumps(done.to_mapping()))


async def _taken(request: Request, most: int) -> IO[bytes]:
    """Return the body as a file, which is on the disk if it is long. Raises TooLarge."""
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by who gets it
    try:
        taken = 0
        async for piece in request.stream():
            taken += len(piece)
            if taken > most:
                raise TooLarge("The body is too long", limit=most, value=taken, unit="bytes")
            if taken <= _IN_MEMORY:
                file.write(piece)
            else:
                await asyncio.to_thread(file.write, piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
