"""``POST /uploads``: receive a file, which can then be ingested as ``upload:ID``."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from cubeport.catalog.forms.canonical import timestamp
from cubeport.errors import InvalidRequest, UnsupportedMediaType
from cubeport.server import incoming, replies
from cubeport.server.auth import caller_of
from cubeport.server.bodies import UploadDocument
from cubeport.server.openapi import INGEST, described
from cubeport.server.parts import Parts

_AT_ONCE = 1 << 20


class UploadQuery(incoming.Model):
    """The parameters of ``POST /uploads``."""

    filename: Annotated[str, Field(min_length=1, max_length=200, description="A label; what could be a path is taken out")] = (
        "upload"
    )
    sha256: Annotated[str | None, Field(pattern="^[0-9A-Fa-f]{64}$", description="What the bytes must have")] = None


def routes(parts: Parts) -> APIRouter:
    """Return the route of this face."""
    router = APIRouter()
    router.add_api_route(
        "/uploads",
        _Uploads(parts).receive,
        methods=["POST"],
        summary="Send a file, to be ingested as upload:ID",
        tags=["Ingestions"],
        **described(
            "/uploads",
            query=UploadQuery,
            raw_body="application/octet-stream",
            statuses=INGEST,
            success={201: "What came; it is kept for a day, for the same key"},
            schema=UploadDocument,
        ),
    )
    return router


class _Uploads:
    def __init__(self, parts: Parts) -> None:
        self._service = parts.service

    async def receive(self, request: Request) -> Response:
        asked = incoming.query(request.scope["query_string"], UploadQuery)
        headers = request.headers
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise UnsupportedMediaType("A body with a content encoding is not accepted", next_step="Send it without an encoding.")
        if headers.get("content-type", "").lower().startswith("multipart/"):
            raise UnsupportedMediaType(
                "The body is the file itself, not a form", next_step="Send the bytes alone: curl --data-binary @FILE."
            )
        declared = headers.get("content-length")
        size = int(declared) if declared is not None and declared.isdecimal() and len(declared) < 20 else None
        begin = self._service.receive
        with await asyncio.to_thread(begin, asked.filename, owner=caller_of(request).name, declared=size) as receiving:
            held: list[bytes] = []
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise InvalidRequest("The request ended before its body did", next_step="Send it again.")
                held.append(message.get("body", b""))
                last = not message.get("more_body", False)
                if last or sum(map(len, held)) >= _AT_ONCE:
                    await asyncio.to_thread(receiving.take, b"".join(held))
                    held = []
                if last:
                    break
            upload = await asyncio.to_thread(receiving.finish, sha256=asked.sha256)
        document: dict[str, Any] = {
            "upload_id": upload.upload_id,
            "filename": upload.filename,
            "size_bytes": upload.size_bytes,
            "sha256": upload.sha256,
            "expires_at": timestamp(upload.expires_at),
        }
        return replies.fresh(replies.dumps(document), status=201)
