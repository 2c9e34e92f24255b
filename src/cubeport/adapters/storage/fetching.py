"""The core's ``Fetcher``: bytes from allowed origins, complete or not at all.

A host name is resolved once, all its addresses must be public, and the connection uses a checked address. Settings of the
environment (such as proxies) are ignored, and redirects are not followed.
"""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin, urlsplit

import httpcore

from cubeport.catalog.forms.addresses import Origin, WebURL, is_public
from cubeport.errors import Cancelled, SourceFailed, SourceRejected, SourceTimeout

_AGAIN = {408, 425, 429}
"""Status codes below 500 that mean "try later"."""

_ABSENT = {404, 410}
"""Status codes that mean "does not exist". All other failures are errors."""

_CLOSED = {401, 403, 407}
"""Status codes that mean "not for everybody". No credentials are sent to addresses."""

_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of a body."""

    max_bytes: int = 50 * 2**30
    """``limits.source_bytes``."""
    idle_s: float = 30
    """The longest time without a byte, in seconds."""
    base_s: float = 60
    bytes_per_s: int = 100_000
    """The transfer may take :attr:`base_s` plus the time for the received bytes at this rate. Slower servers are cut off.
    In a block of :func:`within`, its time holds instead."""


_UNTIL: ContextVar[float | None] = ContextVar("until", default=None)
"""When the unit that this thread fetches is over, by :func:`time.monotonic`."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give what this thread fetches during the block so many seconds in all, instead of a rate."""
    before = _UNTIL.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _UNTIL.reset(before)


def is_over() -> bool:
    """Return whether the time of :func:`within` is over."""
    until = _UNTIL.get()
    return until is not None and time.monotonic() >= until


def hold_time(name: str) -> None:
    """Raise SourceTimeout if the time of :func:`within` is over: for a source whose reads know no limits."""
    if is_over():
        raise SourceTimeout(f"{name[:200]} took too long.", next_step="try again later")


def addresses_of(host: str, port: int) -> Sequence[str]:
    """Return all addresses of *host* from the system's resolver. Raises OSError, UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class OriginFetcher:
    """The port ``catalog.storage.Fetcher`` over HTTP.

    Parameters
    ----------
    origins
        The allowed origins, ``scheme://host:port``. A machine in the local network is allowed only by its literal address.
    resolve, network
        The functions that resolve names and open connections.
    """

    def __init__(
        self,
        origins: Iterable[str],
        bounds: Bounds | None = None,
        *,
        resolve: Callable[[str, int], Sequence[str]] = addresses_of,
        network: httpcore.NetworkBackend | None = None,
    ) -> None:
        self._origins = frozenset(Origin.parse(each) for each in origins)
        self._bounds = bounds or Bounds()
        self._resolve = resolve
        self._network = network or httpcore.SyncBackend()
        self.stopping = threading.Event()
        """If it is set, whatever reads ends within a second, as Cancelled, also while the origin sends nothing."""

    def network(self, origin: Origin) -> httpcore.NetworkBackend:
        """Return a network backend that connects only to *origin*, at checked addresses and within the limits."""
        return _Network(origin, _Watch(self._bounds, self.stopping), self._resolve, self._network)

    def size(self, uri: str) -> int | None:
        """Return the size that the origin reports, or ``None`` if it reports none."""
        with self._answer("HEAD", self._allowed(uri)) as response:
            return _length(response) if response.status == 200 and not _encoded(response) else None

    @contextmanager
    def open(self, uri: str) -> Iterator[BinaryIO]:
        """Open the bytes. Reading can raise the same errors as opening, because an origin can fail or stop at any byte."""
        url = self._allowed(uri)
        with self._answer("GET", url) as response:
            self._check(url, response)
            body = _Body(url.origin, response.iter_stream(), _length(response), self._bounds)
            yield cast("BinaryIO", io.BufferedReader(body))

    def check(self, uri: str) -> None:
        """Refuse a URL that is not allowed, without sending a request. Raises SourceRejected."""
        self._allowed(uri)

    def _allowed(self, uri: str) -> WebURL:
        try:
            url = WebURL.parse(uri)
        except ValueError as exc:
            raise SourceRejected(f"The address cannot be fetched: it {exc}.", reason="not-allowed") from None
        if url.origin not in self._origins:
            next_step = f"add {url.origin} to sources.origins in config/service.yaml, if it may be trusted"
            raise _refused(url.origin, "is not an origin that may be fetched from", "not-allowed", next_step=next_step)
        return url

    def head(self, uri: str, *, by_get: bool = False) -> Resource | None:
        """Return the origin's description of a resource, or ``None`` if it does not exist (404, 410).

        Parameters
        ----------
        by_get
            Use GET without reading the body, because some origins do not support HEAD.
        """
        url = self._allowed(uri)
        with self._answer("GET" if by_get else "HEAD", url) as response:
            if response.status in _ABSENT:
                return None
            self._check(url, response, whole=by_get)
            return _resource(response)

    @contextmanager
    def get(self, uri: str, *, start: int = 0, etag: str | None = None) -> Iterator[Answer | None]:
        """Open a resource from byte *start* if its ETag is still *etag*. Yield ``None`` if it does not exist.

        If the resource changed, or the origin does not support ranges, it sends the whole resource (RFC 9110, 13.1.5 "If-Range").
        """
        url = self._allowed(uri)
        headers = [("Range", f"bytes={start}-"), ("If-Range", etag)] if start and etag else []
        with self._answer("GET", url, headers) as response:
            if response.status in _ABSENT:
                yield None
                return
            resumed = bool(headers) and response.status == 206
            if resumed:
                _check_range(url.origin, response, start)
            else:
                self._check(url, response)
            found = _resource(response)
            body = _Body(url.origin, response.iter_stream(), found.size, self._bounds, before=start if resumed else 0)
            size = start + found.size if resumed and found.size is not None else found.size
            yield Answer(replace(found, size=size), start if resumed else 0, cast("BinaryIO", body))

    @contextmanager
    def _answer(self, method: str, url: WebURL, more: Sequence[tuple[str, str]] = ()) -> Iterator[httpcore.Response]:
        origin = url.origin
        where = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=url.target)
        headers = [("Host", origin.authority), ("User-Agent", "cubeport"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
        with self._pool(origin) as pool:
            with _source_errors(origin):
                response = pool.handle_request(httpcore.Request(method, where, headers=[*headers, *more]))
            try:
                yield response
            finally:
                response.close()

    @contextmanager
    def _pool(self, origin: Origin) -> Iterator[httpcore.ConnectionPool]:
        """Yield the connection for one request."""
        network = _Network(origin, _Watch(self._bounds, self.stopping), self._resolve, self._network)
        with httpcore.ConnectionPool(max_connections=1, max_keepalive_connections=0, network_backend=network) as pool:
            yield pool

    def _check(self, url: WebURL, response: httpcore.Response, *, whole: bool = True) -> None:
        status, origin = response.status, url.origin
        if status >= 500 or status in _AGAIN:
            raise SourceFailed(f"{origin} answers {status}.", upstream_status=status, next_step="try again later")
        if 300 <= status < 400:
            leads = _leads_to(url, response)
            next_step = "curl -sI ADDRESS shows where it leads: if that may be trusted, give that address, and allow its origin"
            words = f"answers with a redirect{leads}, which cubeport does not follow"
            raise _refused(origin, words, "not-allowed", next_step=next_step)
        if status != 200:
            next_step = (
                "check the address" if status not in _CLOSED else "use an address that needs no login, or fetch the file yourself"
            )
            raise _refused(origin, f"answers {status}", "unreadable", next_step=next_step, upstream_status=status)
        if _encoded(response):
            next_step = "fetch the file yourself (curl --compressed), and ingest it"
            words = "encodes the body, although the request asked for no encoding"
            raise _refused(origin, words, "unreadable", next_step=next_step)
        length = _length(response)
        if whole and length is None and b"chunked" not in _header(response, b"transfer-encoding").lower():
            next_step = "fetch the file yourself, compare its size or checksum with the publisher's, and ingest it"
            words = "does not say where the body ends, so it is unknown whether the body is complete"
            raise _refused(origin, words, "truncated", next_step=next_step)
        _hold(origin, length or 0, self._bounds)


class KeepingFetcher(OriginFetcher):
    """The same with persistent connections, one for each thread and origin."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._mine = threading.local()
        self._pools: list[httpcore.ConnectionPool] = []

    @contextmanager
    def _pool(self, origin: Origin) -> Iterator[httpcore.ConnectionPool]:
        held: dict[Origin, tuple[_Network, httpcore.ConnectionPool]] = self._mine.__dict__.setdefault("held", {})
        if origin not in held:
            network = _Network(origin, _Watch(self._bounds, self.stopping), self._resolve, self._network)
            pool = httpcore.ConnectionPool(
                max_connections=1, max_keepalive_connections=1, keepalive_expiry=20, network_backend=network
            )
            self._pools.append(pool)
            held[origin] = network, pool
        network, pool = held[origin]
        network.watch.restart()
        yield pool

    def __del__(self) -> None:
        """Close the connections when the last user is gone, because a source has no close method."""
        while self._pools:
            self._pools.pop().close()


@dataclass(frozen=True, slots=True)
class Resource:
    """The origin's description of a resource."""

    size: int | None
    etag: str | None = None
    """The ETag as sent; a weak ETag begins with ``W/``."""
    modified: str | None = None

    @property
    def strong(self) -> str | None:
        """The strong ETag, which identifies the exact bytes (RFC 9110, 8.8.3), or ``None``."""
        return self.etag if self.etag and self.etag.startswith('"') else None

    @property
    def validator(self) -> str | None:
        """The validator, which stays the same while the resource does: its ETag, otherwise its modification time and size."""
        return self.etag or (f"{self.modified} {self.size}" if self.modified and self.size is not None else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """A resource that is being received."""

    resource: Resource
    """The description. Its size is that of the whole resource."""
    start: int
    """The offset of the first byte."""
    body: BinaryIO
    """The unbuffered body. Reading raises the same errors as :meth:`OriginFetcher.open`."""


class _Body(io.RawIOBase):
    """A body as a file. Its bytes are counted, and an early end is an error."""

    def __init__(self, origin: Origin, chunks: Iterable[bytes], length: int | None, bounds: Bounds, *, before: int = 0) -> None:
        self._origin, self._length, self._bounds = origin, length, bounds
        self._before = before
        self._chunks = iter(chunks)
        self._left = b""
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if not self._left:
            with _source_errors(self._origin):
                self._left = next(self._chunks, b"")
            self._received += len(self._left)
            _hold(self._origin, self._before + self._received, self._bounds)
            if not self._left and self._length not in (None, self._received):
                raise _refused(self._origin, f"sent {self._received} bytes, but announced {self._length}", "truncated")
        taken, self._left = self._left[: len(into)], self._left[len(into) :]
        into[: len(taken)] = taken
        return len(taken)


class _Watch:
    """The time limits of a request."""

    def __init__(self, bounds: Bounds, stopping: threading.Event) -> None:
        self._bounds = bounds
        self.stopping = stopping
        self._started = time.monotonic()
        self.received = 0

    def restart(self) -> None:
        """Start another request on the same connection."""
        self._started = time.monotonic()
        self.received = 0

    def seconds(self) -> float:
        """Return the seconds left. Raises httpcore.ReadTimeout if there are none."""
        bounds = self._bounds
        until = _UNTIL.get()
        if until is None:
            until = self._started + bounds.base_s + self.received / bounds.bytes_per_s
        left = until - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("slower than allowed")
        return min(left, bounds.idle_s)


class _Network(httpcore.NetworkBackend):
    """Connects to checked addresses. ``Host`` and SNI are those of the URL."""

    def __init__(
        self, origin: Origin, watch: _Watch, resolve: Callable[[str, int], Sequence[str]], inner: httpcore.NetworkBackend
    ) -> None:
        self._origin, self.watch, self._resolve, self._inner = origin, watch, resolve, inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (ours holds)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("the host name has no address")
        for address in self._checked(host, port):
            try:
                stream = self._inner.connect_tcp(address, port, self.watch.seconds(), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
            else:
                return _Watched(stream, self.watch)
        raise failure

    def _checked(self, host: str, port: int) -> Sequence[str]:
        if self._origin.literal is not None:  # the allow-list contains exactly this address
            return [host]
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError("the host name cannot be resolved") from exc
        if not all(is_public(ip_address(each)) for each in found):
            next_step = "write its literal address into sources.origins, if it is your own machine"
            raise _refused(self._origin, "has an address that is not public", "not-allowed", next_step=next_step)
        return found


_LOOK_S = 1.0
"""How often somebody who waits for bytes looks whether to stop."""


class _Watched(httpcore.NetworkStream):
    """A stream that applies the time limits to each operation."""

    def __init__(self, inner: httpcore.NetworkStream, watch: _Watch) -> None:
        self._inner, self._watch = inner, watch

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 (ours holds)
        until = time.monotonic() + self._watch.seconds()
        while True:
            if self._watch.stopping.is_set():
                raise Cancelled("The fetch was stopped.")
            try:
                data = self._inner.read(max_bytes, min(_LOOK_S, max(0.0, until - time.monotonic())))
            except httpcore.ReadTimeout:
                if time.monotonic() >= until:
                    raise
                continue
            self._watch.received += len(data)
            return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, self._watch.seconds())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _Watched(self._inner.start_tls(ssl_context, server_hostname, self._watch.seconds()), self._watch)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@contextmanager
def _source_errors(origin: Origin) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as exc:
        raise SourceTimeout(f"{origin} took too long.", next_step="try again later") from exc
    except (httpcore.NetworkError, httpcore.ProtocolError) as exc:
        raise SourceFailed(f"{origin} failed: {str(exc)[:200]}.", next_step="try again later") from exc


def _refused(origin: Origin, text: str, reason: str, **rest: Any) -> SourceRejected:
    return SourceRejected(f"{origin} {text}.", reason=reason, source=str(origin), **rest)


def _leads_to(url: WebURL, response: httpcore.Response) -> str:
    """Return the origin of a redirect in words. Its path and query can be signed for this caller, so they are not told."""
    try:
        found = urlsplit(urljoin(str(url.origin), _header(response, b"location").decode("ascii")))
        host, port = found.hostname, found.port
    except ValueError:
        return ""
    if found.scheme not in ("http", "https") or not host:
        return ""
    return f" to {found.scheme}://{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}"


def _hold(origin: Origin, size: int, bounds: Bounds) -> None:
    if size > bounds.max_bytes:
        members = {"setting": "limits.source_bytes", "limit": bounds.max_bytes, "value": size}
        raise _refused(origin, f"sends more than {bounds.max_bytes} bytes", "too-big", **members)


def _check_range(origin: Origin, response: httpcore.Response, start: int) -> None:
    """Refuse a part that is not the requested one."""
    found = _RANGE.fullmatch(_header(response, b"content-range").decode("latin-1"))
    if found is None or int(found[1]) != start or _encoded(response) or _length(response) != int(found[2]) - start + 1:
        raise _refused(origin, "sends another part than was asked for", "unreadable")
    if found[3] != "*" and int(found[3]) != int(found[2]) + 1:
        raise _refused(origin, "sends less than the rest that was asked for", "truncated")


def _resource(response: httpcore.Response) -> Resource:
    def said(name: bytes) -> str | None:
        return _header(response, name).decode("latin-1")[:1_000] or None

    return Resource(_length(response), said(b"etag"), said(b"last-modified"))


def _header(response: httpcore.Response, name: bytes) -> bytes:
    return b",".join(value for key, value in response.headers if key.lower() == name)


def _encoded(response: httpcore.Response) -> bool:
    return _header(response, b"content-encoding").strip().lower() not in (b"", b"identity")


def _length(response: httpcore.Response) -> int | None:
    value = _header(response, b"content-length")
    return int(value) if value.isdigit() and len(value) < 20 else None
