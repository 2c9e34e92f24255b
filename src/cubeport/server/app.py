"""The ASGI application, which routes requests by path before any framework sees them.

It implements everything that all answers have in common: request ids, security and CORS headers, HEAD as GET, trailing slashes, the
prefix of ``public_url``, authorisation, and problem documents for all errors. It is plain ASGI, because the Zarr handler would cost
four times as much behind one ``BaseHTTPMiddleware``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cubeport import errors
from cubeport.catalog.audience import Audience
from cubeport.cubes.bounded import Bounded
from cubeport.documents.dap2 import MAX_CONSTRAINT
from cubeport.errors import CubeportError, MethodNotAllowed, NotFound, Problem, UriTooLong
from cubeport.server import (
    about,
    browsing,
    crawlers,
    datasets,
    html,
    incoming,
    ingestions,
    negotiation,
    pages,
    problems,
    records,
    replicas,
    replies,
    stac,
    uploads,
    zones,
)
from cubeport.server.auth import KEY_HEADERS, OPEN, Connection, audience_of
from cubeport.server.clients import Clients
from cubeport.server.files import Answer, Asked, Headers, lines
from cubeport.server.freshness import Freshness
from cubeport.server.geozarr import GeoZarrFace
from cubeport.server.parts import Parts
from cubeport.server.probes import Probes
from cubeport.server.traffic import Traffic, to_stderr
from cubeport.server.zarr import Address, ZarrFace
from cubeport.server.zarr_v2 import ZarrV2Face
from cubeport.service import viewing

log = logging.getLogger("cubeport.server")

_READS = ("GET", "HEAD", "OPTIONS")
_ALLOW_HEADERS = b"Range, If-Range, If-None-Match, Accept, Content-Type, Prefer"
_EXPOSE_HEADERS = (
    b"ETag, Content-Range, Accept-Ranges, Content-Length, Link, Retry-After, Content-Crs, Content-Bbox, Content-Datetime, "
    b"Cubeport-Version"
)


def create_app(parts: Parts) -> App:
    """Return the application. It opens and starts nothing, because *parts* are ready."""
    return App(parts)


class App:
    """The application with all faces."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._prefix = urlsplit(parts.public_url).path.rstrip("/").encode()
        self._cors = _Cors(parts.cors_origins)
        offload_prefix = parts.offload_prefix if parts.offload == "x-accel-redirect" else None
        freshness = Freshness(parts.service.generation) if parts.remote_catalog else None
        self._zarr = ZarrFace(parts.service, parts.engine, parts.public_url, offload_prefix=offload_prefix, freshness=freshness)
        self._zarr_v2 = ZarrV2Face(parts.service, parts.engine, parts.public_url, self._zarr)
        self._geozarr = GeoZarrFace(parts.service, parts.engine, parts.public_url, self._zarr)
        self.traffic = Traffic(to_stderr if parts.access_log else None, parts.log_form)
        self._clients = Clients(parts.trusted_proxies if parts.access_log else ())  # only that log names them
        self.framework = _framework(parts, self.traffic, Probes(self, queries=parts.queries is not None))
        self._routed = AsyncExitStackMiddleware(_handle)
        self._unchanged: Bounded[bytes, _Unchanged] = Bounded(_MOST_UNCHANGED)

    @property
    def routes(self) -> list[Route]:
        """All routes except those below ``/zarr/``, for the test that each has a scope."""
        return [route for route in self.framework.router.routes if isinstance(route, Route)]

    @cached_property
    def _routes(self) -> _Routes:
        return _Routes(self.routes)

    def at_once(self, asked: Asked, peer: str) -> Answer | None:
        """Return the answer to a read of a Zarr object that was read before, or of a picture that the client holds, if nothing was
        committed since; otherwise ``None``: then :meth:`__call__` answers, the same.

        A task, its scope and its messages take longer than the rest of a small answer.
        """
        if asked.method != b"GET" or not self._parts.gatekeeper.public_reads or not self._cors.any:
            return None
        if not _UNUSUAL.isdisjoint(asked.names):
            return None
        began = time.perf_counter()
        raw = _below(asked.target, self._prefix)
        if raw.startswith(b"/zarr/"):
            route, answer = _ZARR, self._zarr.at_once(raw[6:], asked.headers)
        else:
            route, answer = self._held(asked)
        if answer is None:
            return None
        request_id = _request_id()
        self.traffic.add(
            route=route,
            method="GET",
            target=asked.text,
            client=self._clients.of(peer, asked.headers),
            status=answer.status,
            size=len(answer.body),
            seconds=time.perf_counter() - began,
            request_id=request_id,
        )
        head = b"%s%sx-request-id: %s\r\n" % (answer.lines, _TO_ALL, request_id.encode())
        return Answer(answer.status, head, answer.body, answer.file)

    def _held(self, asked: Asked) -> tuple[str, Answer | None]:
        """Return the route, and 304 if the client has the picture that this target was seen to have since the last commit."""
        if asked.tag is None or (known := self._unchanged.get(asked.target)) is None or known.tag != asked.tag:
            return "", None
        try:
            if self._parts.service.generation() != known.generation:
                return "", None
        except CubeportError:
            return "", None  # the call finds it again, and says it
        return known.route, Answer(304, known.lines)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, also after any error."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            self.traffic.flush()
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        began = time.perf_counter()
        request_id = _request_id()
        viewer = viewing.Viewer(partial(self._audience, scope))
        token = viewing.CURRENT.set(viewer)
        out = _Outgoing(
            send, scope["method"], viewer, [*self._cors.headers(scope), *_COMMON, (b"x-request-id", request_id.encode())]
        )
        try:
            await self._answer({**scope, "cubeport.request_id": request_id}, receive, out)
        except CubeportError as exc:
            await self._problem(exc, scope, request_id, out)
        except RequestValidationError as exc:
            found = [Problem(tuple(each["loc"]), each["type"], each["msg"]) for each in exc.errors()]
            await self._problem(errors.InvalidRequest("The request is not valid", errors=found), scope, request_id, out)
        except HTTPException as exc:
            allow = dict(exc.headers or {}).get("Allow", "GET").split(", ")
            members: dict[str, Any] = {"allow": allow} if exc.status_code == 405 else {}
            await self._problem(_BY_STATUS.get(exc.status_code, CubeportError)(exc.detail, **members), scope, request_id, out)
        except Exception:
            # The only place for unexpected errors. The traceback is logged once, and the caller sees nothing of it.
            log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            await self._problem(CubeportError("unforeseen"), scope, request_id, out)
        finally:
            viewing.CURRENT.reset(token)
            if "cubeport.caller" not in scope:  # our own probes are not counted as requests
                self._note(scope, out, time.perf_counter() - began, request_id)

    def _audience(self, scope: Scope) -> Audience | None:
        caller = scope.get("cubeport.caller")
        return audience_of(self._parts.gatekeeper.caller(Connection.of(scope)) if caller is None else caller)

    def _note(self, scope: Scope, out: _Outgoing, seconds: float, request_id: str) -> None:
        peer, query = scope.get("client"), scope["query_string"]
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        self.traffic.add(
            route=out.route,
            method=scope["method"],
            target=(raw + (b"?" + query if query else b"")).decode("latin-1"),
            client=self._clients.of(peer[0] if peer else "-", scope["headers"]),
            status=out.status,
            size=out.size,
            seconds=seconds,
            request_id=request_id,
        )

    async def _answer(self, scope: Scope, receive: Receive, send: _Outgoing) -> None:
        method = scope["method"]
        raw = _below(scope.get("raw_path") or scope["path"].encode(), self._prefix)
        most = MAX_CONSTRAINT if raw.startswith(b"/dap/") else incoming.MAX_QUERY
        if len(scope["query_string"]) > most:
            raise UriTooLong("The query is too long", limit=most, value=len(scope["query_string"]), unit="bytes")
        if raw.startswith(b"/zarr/"):
            send.route = _ZARR
            await self._answer_zarr({**scope, "cubeport.path": raw[6:]}, receive, send)
            return
        if raw.startswith(b"/zarr-v2/"):
            send.route = "/zarr-v2/{key}"
            await self._answer_view("/zarr-v2", self._zarr_v2, {**scope, "cubeport.path": raw[9:]}, receive, send)
            return
        if raw.startswith(b"/geozarr/"):
            send.route = "/geozarr/{key}"
            await self._answer_view("/geozarr", self._geozarr, {**scope, "cubeport.path": raw[9:]}, receive, send)
            return
        path = _decoded(raw)
        asked = {**scope, "path": path, "raw_path": raw, "root_path": "", "app": self.framework, "cubeport.head": method == "HEAD"}
        asked["method"] = "GET" if method == "HEAD" else method
        route, allowed = self._match(asked)
        if not allowed:
            face, _, rest = path[1:].partition("/")
            own = f": each dataset has its own, /{face}/ID" if face in _OF_DATASETS and not rest else ""
            step = f"Begin at {self._parts.public_url}/."
            raise NotFound(f"There is nothing at this address{own}", what="path", next_step=step)
        if method == "OPTIONS":
            await self._options(scope, send, allowed)
            return
        if route is not None:
            send.route = route.path
        if route is None:
            raise MethodNotAllowed(f"This address does not accept {method[:20]}", allow=allowed)
        needed = self._parts.gatekeeper.needed(asked["method"], route.path)
        if (caller := scope.get("cubeport.caller")) is None:
            check = partial(self._parts.gatekeeper.check, needed, method, Connection.of(scope))
            caller = check() if needed in OPEN else await asyncio.to_thread(check)
        if needed not in OPEN and "dataset_id" in asked["path_params"]:
            if asked["method"] != "GET":
                caller.check_dataset(asked["path_params"]["dataset_id"])
            await asyncio.to_thread(self._parts.service.check_visible, asked["path_params"]["dataset_id"])
        asked |= {"cubeport.caller": caller, "cubeport.route": route, "state": {}}
        if asked["method"] == "GET" and browsing.has_values(route.path):
            await browsing.answer_values(self._parts, asked, receive, send, self._routed)
        elif asked["method"] == "GET" and route.path == browsing.PLOT and b"f=html" in asked["query_string"].split(b"&"):
            await browsing.answer_plot(self._parts, asked, receive, send, self._routed)
        elif asked["method"] == "GET" and route.path == browsing.TABLE and b"f=html" in asked["query_string"].split(b"&"):
            await browsing.answer_table(self._parts, asked, receive, send, self._routed)
        elif asked["method"] == "GET" and route.path in browsing.BROWSABLE:
            await browsing.answer(self._parts, asked, receive, send, self._routed)
        else:
            await self._routed(asked, receive, send)
        if send.status == 304 and method == "GET" and asked["state"].get("lasting") and not self._parts.remote_catalog:
            self._keep(scope, asked["state"]["generation"], send)

    def _keep(self, scope: Scope, generation: int, sent: _Outgoing) -> None:
        """Keep that a picture was not changed, if everybody is told so."""
        query, headers = scope["query_string"], sent.headers
        tag = next((value for name, value in headers if name == b"etag"), None)
        if tag is None or sent.restricted or any(name == b"vary" for name, _ in headers):
            return
        target = scope["raw_path"] + (b"?" + query if query else b"")
        kept = _Unchanged(generation, tag, lines(headers), sent.route)
        self._unchanged.put(target, kept, len(target) + len(kept.lines) + 500)

    async def _answer_zarr(self, scope: Scope, receive: Receive, send: _Outgoing) -> None:
        if scope["method"] == "OPTIONS":
            await self._options(scope, send, _READS)
            return
        if scope["method"] not in _READS:
            raise MethodNotAllowed("Zarr is read with GET and HEAD", allow=_READS)
        if "cubeport.caller" not in scope:
            self._parts.gatekeeper.check_read(Connection.of(scope))
        address = Address.parse(scope["cubeport.path"])
        if address.asks_for_zarr_2 and not browsing.problem_asked(scope):
            await self._zarr.answer_absent(address, scope, send)
        elif address.key is None:
            path = f"/zarr/{scope['cubeport.path'].decode('latin-1')}"
            await browsing.answer(self._parts, {**scope, "path": path}, receive, send, self._zarr)
        else:
            await self._zarr.answer_object(address, scope, send)

    async def _answer_view(self, name: str, view: ASGIApp, scope: Scope, receive: Receive, send: _Outgoing) -> None:
        if scope["method"] == "OPTIONS":
            await self._options(scope, send, _READS)
            return
        if scope["method"] not in _READS:
            raise MethodNotAllowed("Zarr is read with GET and HEAD", allow=_READS)
        self._parts.gatekeeper.check_read(Connection.of(scope))
        ref = scope["cubeport.path"].rstrip(b"/")
        if b"/" in ref or not ref:
            await view(scope, receive, send)
        else:
            path = f"{name}/{ref.decode('latin-1')}"
            await browsing.answer(self._parts, {**scope, "path": path}, receive, send, view)

    def _match(self, scope: Scope) -> tuple[Route | None, tuple[str, ...]]:
        """Return the route for method and path, and all methods of the path. The path parameters are added to *scope*."""
        found: Route | None = None
        allowed: set[str] = set()
        for route in self._routes.of(scope["path"]):
            match, child = route.matches(scope)
            if match is Match.NONE:
                continue
            allowed |= route.methods or set()
            if match is Match.FULL and found is None:
                found = route
                scope.update(child)
        if "GET" in allowed:
            allowed |= {"HEAD"}
        return found, tuple(sorted(allowed | {"OPTIONS"})) if allowed else ()

    async def _options(self, scope: Scope, send: _Outgoing, allowed: Iterable[str]) -> None:
        headers = [(b"allow", ", ".join(allowed).encode())]
        readable = (*_READS, "POST") if _is_search(scope) else _READS
        if any(name == b"access-control-request-method" for name, _ in scope["headers"]):
            headers += [
                # Only reads are allowed for pages of other origins; the browser blocks everything else.
                (b"access-control-allow-methods", ", ".join(each for each in allowed if each in readable).encode()),
                (b"access-control-allow-headers", _ALLOW_HEADERS),
                (b"access-control-max-age", b"86400"),
            ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _problem(self, exc: CubeportError, scope: Scope, request_id: str, out: _Outgoing) -> None:
        status = problems.status_of(type(exc))
        if status >= 500 and type(exc) is not CubeportError:
            log.error("request %s: %s: %s", request_id, exc.kind, exc, exc_info=exc if status == 500 else None)
        if out.started:
            return  # The server closes the connection if the answer is incomplete.
        document = problems.document(exc, public_url=self._parts.public_url, request_id=request_id)
        if scope["method"] in ("GET", "HEAD") and browsing.problem_asked(scope):
            content, more = (
                html.problem(self._parts, document, scope["path"]),
                {"content-type": negotiation.HTML, **replies.PAGE_HEADERS},
            )
        else:
            content, more = problems.dumps(document), {"content-type": problems.MEDIA_TYPE}
        headers = {
            **more,
            "content-length": str(len(content)),
            "cache-control": "no-store",
            "vary": "Accept",
            **problems.headers(exc),
        }
        encoded = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await out({"type": "http.response.start", "status": status, "headers": encoded})
        await out({"type": "http.response.body", "body": content})


_COMMON = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]

_ZARR = "/zarr/{key}"
_UNUSUAL = KEY_HEADERS | {b"content-length", b"transfer-encoding", b"expect"}
"""Headers of requests that identify a caller, or have a body."""

_BY_STATUS: dict[int, type[CubeportError]] = {404: NotFound, 405: MethodNotAllowed, 400: errors.InvalidRequest}


def _is_search(scope: Scope) -> bool:
    """Return whether a request is to one of the reads that may be a POST: what they ask does not fit into an address."""
    return bool(scope["path"].rstrip("/").endswith(("/stac/search", "/table")))


@dataclass(frozen=True, slots=True)
class _Unchanged:
    """How a client is told that it has the current picture, as long as nothing is committed."""

    generation: int
    """That of the catalog before it was answered so."""
    tag: bytes
    lines: bytes
    route: str


_MOST_UNCHANGED = 4 << 20
"""The memory for these, in bytes."""


class _Outgoing:
    """Adds the common headers to the first message, and sends no body for HEAD."""

    def __init__(self, send: Send, method: str, viewer: viewing.Viewer, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._viewer = viewer
        self._head = method == "HEAD"
        self._headers = headers
        self.started = False
        self.route = "none"
        """The template of the route that answers."""
        self.status, self.size = 0, 0
        self.headers: Headers = ()
        """Those of the answer, without the common ones."""

    @property
    def restricted(self) -> bool:
        """Whether the answer is not for everybody."""
        return self._viewer.restricted

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            self.headers = headers = message.get("headers", ())
            if self._viewer.restricted:
                headers = [
                    (name, value.replace(b"public", b"private") if name == b"cache-control" else value) for name, value in headers
                ]
            await self._send({**message, "headers": [*headers, *self._headers]})
        elif self._head and message["type"] == "http.response.body":
            await self._send({**message, "body": b""})
        else:
            self.size += len(message.get("body", b""))
            await self._send(message)


class _Cors:
    """Allows reads for pages of the configured origins, without credentials, and no writes."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self.any = "*" in origins
        """Whether the headers are the same for all requests."""
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return the CORS headers of an answer."""
        if scope["method"] not in _READS and not _is_search(scope):
            return []
        if self.any:
            return _ANY_ORIGIN
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin is None or origin.lower() not in self._origins:
            return [(b"vary", b"Origin")]
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin"), (b"access-control-expose-headers", _EXPOSE_HEADERS)]


_ANY_ORIGIN = [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSE_HEADERS)]
_TO_ALL = lines([*_ANY_ORIGIN, *_COMMON])
"""The lines of every answer to a read, if every origin may read."""


def _framework(parts: Parts, traffic: Traffic, probe: about.Probe) -> FastAPI:
    """Return FastAPI, used only for routing and schemas, without its own pages, middleware and redirects."""
    framework = FastAPI(
        title=parts.title,
        description=parts.description,
        version=parts.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in _routers(parts, framework, traffic, probe):
        # include_router is not used, because it nests routes, and the scopes are checked by iterating over all routes.
        framework.router.routes.extend(router.routes)
    return framework


def _routers(parts: Parts, framework: FastAPI, traffic: Traffic, probe: about.Probe) -> Iterable[APIRouter]:
    yield datasets.routes(parts)
    yield records.routes(parts)
    yield ingestions.routes(parts)
    yield uploads.routes(parts)
    yield replicas.routes(parts)
    yield about.routes(parts, traffic, probe)
    yield zones.routes(parts)
    yield stac.routes(parts)
    yield pages.routes(parts, framework)
    yield crawlers.routes(parts)
    if parts.queries is not None:
        yield parts.queries.routes()
    if parts.pictures is not None:
        yield parts.pictures.routes()
    if parts.dap is not None:
        yield parts.dap.routes()
    if parts.griddap is not None:
        yield parts.griddap.routes()
    if parts.tables is not None:
        yield parts.tables.routes()
    if parts.processes is not None:
        yield parts.processes.routes()


async def _handle(scope: Scope, receive: Receive, send: Send) -> None:
    route: APIRoute = scope["cubeport.route"]
    await route.handle(scope, receive, send)


def _request_id() -> str:
    """Return a name for a request. It guards nothing, so it need not cost a call of the system."""
    return f"{random.getrandbits(64):016x}"


def _below(raw: bytes, prefix: bytes) -> bytes:
    """Return the path without the prefix of ``public_url`` (if present) and without a trailing slash."""
    if prefix and raw.startswith(prefix) and raw[len(prefix) : len(prefix) + 1] in (b"", b"/"):
        raw = raw[len(prefix) :]
    return (raw[:-1] if len(raw) > 1 and raw.endswith(b"/") else raw) or b"/"


class _Routes:
    """Routes by the first part of their addresses and by how many parts they have, because comparing a request with each of more
    than a hundred routes takes longer than a small answer.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._all = tuple(routes)
        shapes = {_shape_of(each.path) for each in routes}
        self._known = {shape: tuple(each for each in routes if _can_have(each.path, shape)) for shape in shapes}

    def of(self, path: str) -> Sequence[Route]:
        """Return the routes that can match the path, in their order."""
        return self._known.get(_shape_of(path), self._all)


_OF_DATASETS = ("wms", "wmts", "dap", "griddap", "zarr", "zarr-v2", "geozarr")
"""Paths that other servers have for all data at once, and this one for each dataset."""


def _shape_of(path: str) -> tuple[str, int]:
    return path[1:].partition("/")[0], path.count("/")


def _can_have(template: str, shape: tuple[str, int]) -> bool:
    first, parts = _shape_of(template)
    return (first == shape[0] or "{" in first) and (parts == shape[1] or ":path}" in template)


def _decoded(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise NotFound("There is nothing at this address", what="path") from exc


async def _lifespan(receive: Receive, send: Send) -> None:
    """Confirm start and shutdown. ``main`` starts and closes the parts."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
