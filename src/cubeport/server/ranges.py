"""Files as answers: whole, or the part that ``Range`` names (RFC 9110, 14)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cubeport.cubes.write_request import StoredObject
from cubeport.server.zarr import send_object

_BLOCK = 1 << 18


class RangedFile(Response):
    """A file, or the part of it that ``Range`` names. It is closed after it is sent.

    Parameters
    ----------
    file, size
        The file, and its length.
    headers
        All but the length. Without ``ETag``, no condition in ``If-Range`` is true.
    """

    def __init__(self, file: BinaryIO, size: int, headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "Accept-Ranges": "bytes"})
        self._stored = StoredObject(file, size, "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI; no body is read)
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        with self._stored.file:
            method = "HEAD" if scope.get("cubeport.head") else scope["method"]
            await send_object({**scope, "method": method}, send, self._stored, headers, self.headers.get("etag", ""))


class AnswerFile(StreamingResponse):
    """An unnamed file that was made for this answer. It is gone after it is sent or the client disconnects.

    If it has an ``ETag``, the next request for it gets the same bytes, so that a client can ask for parts.
    """

    def __init__(self, file: BinaryIO, headers: Mapping[str, str]) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        file.seek(0)
        kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        super().__init__(iter(partial(file.read, _BLOCK), b""), headers={**kept, "Content-Length": str(self._size)})
        self._in_parts = "etag" in self.headers
        if self._in_parts:
            self.headers["Accept-Ranges"] = "bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._in_parts and any(name == b"range" for name, _ in scope["headers"]):
                await RangedFile(self._file, self._size, self.headers)(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def in_parts(request: Request, answer: Response) -> Response:
    """Return the part of a whole answer that ``Range`` names; without one, the answer."""
    answer.headers["Accept-Ranges"] = "bytes"
    if "range" not in request.headers or answer.status_code != 200:
        return answer
    return RangedFile(io.BytesIO(answer.body), len(answer.body), answer.headers)
