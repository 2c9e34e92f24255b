"""OPeNDAP below ``/dap``: DAP2 for netCDF-C, pydap, Ferret, Panoply, MATLAB, R and IDL.

The URLs are ``/dap/{id}[@ref]`` with ``.dds``, ``.das``, ``.dods``, ``.ascii``, ``.info`` and ``.ver``, and constraints on index
ranges.
Errors have DAP2's own form, which clients show.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cubeport.documents import dap2
from cubeport.documents.texts import PublishedView
from cubeport.errors import CubeportError
from cubeport.server import html, negotiation, problems, replies
from cubeport.server.openapi import READ, described
from cubeport.service.queries import AnswerDeadline
from cubeport.service.slabs import Slabs, Source

if TYPE_CHECKING:
    from cubeport.server.parts import Reads

log = logging.getLogger("cubeport.server")

FORMS = ("dds", "das", "dods", "ascii", "asc", "info", "ver")
_TEXT = "text/plain; charset=utf-8"
_DATA = "application/octet-stream"
_HEADERS = {"XDODS-Server": "dods/2.0", "DAP-Version": "2.0", "XDAP": "2.0"}


class DapFace:
    """DAP2, with its routes."""

    def __init__(self, service: Reads, slabs: Slabs, *, site: html.Site) -> None:
        self._service = service
        self._slabs = slabs
        self._site = site
        self._url = site.public_url

    def routes(self) -> APIRouter:
        """Return the routes of this face."""
        router = APIRouter()
        router.add_api_route(
            "/dap/{dap_name}",
            self.answer,
            methods=["GET"],
            summary="OPeNDAP (DAP2): description, attributes, values by ranges of indices",
            tags=["OPeNDAP"],
            operation_id="dap.get",
            **described(
                "/dap/{dap_name}",
                statuses=(*READ, 413),
                media_types=("text/plain", _DATA, negotiation.HTML),
                problem_types=("text/plain",),
            ),
        )
        return router

    def answer(self, request: Request) -> Response:
        """Answer one DAP2 request."""
        try:
            return self._answered(request)
        except CubeportError as exc:
            status = problems.status_of(type(exc))
            if status >= 500:
                log.error("%s: %s", exc.kind, exc)
            headers = {**_HEADERS, "Content-Description": "dods_error", "Cache-Control": "no-store", **problems.headers(exc)}
            words = problems.in_words(exc, self._url)
            return Response(dap2.error(status, words), status, headers={**headers, "Content-Type": _TEXT})

    def _answered(self, request: Request) -> Response:
        name, dot, form = request.path_params["dap_name"].rpartition(".")
        if not dot or form not in FORMS:
            name, form = request.path_params["dap_name"], "info"
        if form == "ver":
            return replies.reply(request, b"Core version: dods/2.0\nServer version: cubeport\n", media_type=_TEXT, headers=_HEADERS)
        shown = self._service.shown(name)
        pinned = shown.pinned and name.endswith(f"@{shown.version.version_id}")
        raw: bytes = request.scope["query_string"]
        expression = raw.decode("latin-1") if len(raw) <= dap2.MAX_CONSTRAINT else " " * (dap2.MAX_CONSTRAINT + 1)
        return self.document(request, shown, form, self._slabs.source(shown), expression, pinned=pinned)

    def document(
        self, request: Request, shown: PublishedView, form: str, source: Source, expression: str, *, pinned: bool
    ) -> Response:
        """Return one document of a version. Raises InvalidRequest, TooLarge, Unavailable.

        Parameters
        ----------
        expression
            The constraint as it is in an address.
        pinned
            Whether the address names the version, so that the answer never changes.
        """
        # The page contains the dataset's title, which can be edited. Everything else depends only on the version.
        pinned = pinned and form != "info"
        make: dict[str, Callable[[PublishedView, Source, str], tuple[str, str, Any]]] = {
            "dds": self._dds,
            "das": self._das,
            "dods": self._dods,
            "ascii": self._ascii,
            "asc": self._ascii,
            "info": self._info,
        }
        kind, media_type, content = make[form](shown, source, expression)
        headers = {**_HEADERS, **replies.versioned(shown), "Content-Description": kind}
        cache = replies.IMMUTABLE if pinned else replies.NO_CACHE
        tag = replies.etag_of(shown, request, form, self._url, fixed=pinned)
        if media_type == negotiation.HTML:
            headers |= replies.PAGE_HEADERS
        if isinstance(content, str):
            content = content.encode()
        if isinstance(content, bytes):
            return replies.reply(request, content, media_type=media_type, tag=tag, cache=cache, headers=headers)
        return _streamed(request, content, media_type, tag, {**headers, "Cache-Control": cache})

    def _dds(self, shown: PublishedView, source: Source, expression: str) -> tuple[str, str, str]:  # noqa: ARG002
        return "dods_dds", _TEXT, dap2.dds(source.dataset, dap2.constrained(source.dataset, expression))

    def _das(self, shown: PublishedView, source: Source, expression: str) -> tuple[str, str, str]:  # noqa: ARG002
        return "dods_das", _TEXT, dap2.das(source.dataset, self._slabs.lengths(source, shown))

    def _dods(self, shown: PublishedView, source: Source, expression: str) -> tuple[str, str, _Stream]:
        parts = dap2.constrained(source.dataset, expression)
        self._slabs.check(source, shown, parts)
        size = dap2.size_of(parts)
        before = len(dap2.dds(source.dataset, parts).encode()) + len(b"\nData:\n")
        deadline = AnswerDeadline(self._slabs.limits.seconds)
        return "dods_data", _DATA, (lambda: self._slabs.data(source, parts, deadline), None if size is None else before + size)

    def _ascii(self, shown: PublishedView, source: Source, expression: str) -> tuple[str, str, _Stream]:
        parts = dap2.constrained(source.dataset, expression)
        self._slabs.check(source, shown, parts, text=True)
        deadline = AnswerDeadline(self._slabs.limits.seconds)
        return "dods_ascii", _TEXT, (lambda: self._slabs.text(source, parts, deadline), None)

    def _info(self, shown: PublishedView, source: Source, expression: str) -> tuple[str, str, bytes]:  # noqa: ARG002
        page = html.rendered(
            "dap.html",
            self._site,
            title=shown.texts.title,
            dataset=shown.texts.dataset_id,
            address=f"{self._url}/dap/{source.dataset.name}",
            variables=dap2.dds(source.dataset, dap2.constrained(source.dataset, "")),
            attributes=dap2.das(source.dataset, self._slabs.lengths(source, shown)),
            left_out=source.dataset.left_out,
        )
        return "dods_info", negotiation.HTML, page


type _Stream = tuple[Callable[[], Iterator[bytes]], int | None]


def _streamed(request: Request, stream: _Stream, media_type: str, tag: str, headers: dict[str, str]) -> Response:
    """Return values while they are read. Refusals happen before the first byte is sent."""
    make, size = stream
    known = request.headers.get("if-none-match")
    if known is not None and replies.fits(known, tag):
        return Response(status_code=304, headers={**headers, "ETag": tag})
    headers = {**headers, "ETag": tag, "Content-Type": media_type}
    if request.scope.get("cubeport.head"):
        return Response(b"", headers=headers | ({"Content-Length": str(size)} if size is not None else {}))
    blocks = make()
    first = [next(blocks, b""), next(blocks, b"")]  # description and first values: the store could be read
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(chain(first, blocks), headers=headers)
