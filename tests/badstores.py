"""Stores and networks that break a promise: a proxy before a good store with one fault, and two real stores that lie."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.objectstore import KEY, SECRET, ObjectStore

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class Killed(Exception):
    """The connection ends without an answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True
    """Whether all of the body is sent."""


@dataclass(frozen=True)
class Request:
    """A request on its way through the proxy."""

    behind: str
    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def forward(self, *without: str, body: bytes | None = None) -> Answer:
        """Send it on, without some headers, and return the answer."""
        upstream = http.client.HTTPConnection(self.behind, timeout=30)
        with contextlib.closing(upstream):
            kept = {name: value for name, value in self.headers.items() if name.lower() not in without}
            upstream.request(self.method, self.path, self.body if body is None else body, kept)
            answer = upstream.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())


type Fault = Callable[[Request], Answer]


@contextmanager
def behind(store: ObjectStore, fault: Fault) -> Iterator[ObjectStore]:
    """Give *store* behind a proxy. Signatures hold, because the header Host is kept, unless the fault changes what is signed."""
    address = urlsplit(store.endpoint).netloc
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            request = Request(address, next(numbers), self.command, self.path, dict(self.headers.items()), body)
            try:
                found = fault(request)
            except Killed:
                self.close_connection = True
                return
            self.send_response(found.status)
            for name, value in found.headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            length = found.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(found.body))
            self.send_header("content-length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body if found.whole else found.body[: len(found.body) // 2])
                self.close_connection = not found.whole

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ObjectStore(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()


# --- stores that lie --------------------------------------------------------------------------------------------------


def _stale() -> Fault:
    """Give the first body of each object again, whatever it has become."""
    first: dict[str, Answer] = {}

    def fault(request: Request) -> Answer:
        if request.method != "GET" or any(name.lower() == "range" for name in request.headers):
            return request.forward()
        if request.path not in first:
            first[request.path] = request.forward()
        return first[request.path]

    return fault


LIES: Mapping[str, Callable[[], Fault]] = {
    "ignores-if-none-match": lambda: lambda request: request.forward("if-none-match"),
    "ignores-if-match": lambda: lambda request: request.forward("if-match"),
    "ignores-range": lambda: lambda request: request.forward("range"),
    "answers-stale": _stale,
}


def lying(store: ObjectStore, lie: str) -> contextlib.AbstractContextManager[ObjectStore]:
    """Give *store* behind a proxy that lies. The store must not verify signatures, as moto does not."""
    return behind(store, LIES[lie]())


# --- networks that fail -----------------------------------------------------------------------------------------------


def _flipped(body: bytes) -> bytes:
    return bytes([*body[:-1], body[-1] ^ 1]) if body else body


def _every(count: int, what: Fault) -> Fault:
    """Do it to one of *count* requests, and forward the others; but never twice in a row to the same request, which would then have
    been sent in vain as often as chance wants.
    """
    hit: set[tuple[str, ...]] = set()

    def fault(request: Request) -> Answer:
        said = request.method, request.path, *(value for name, value in request.headers.items() if name.lower() == "range")
        if request.number % count == count - 1 and said not in hit:
            hit.add(said)
            return what(request)
        hit.discard(said)
        return request.forward()

    return fault


def _kill_before(_: Request) -> Answer:
    raise Killed


def _kill_after(request: Request) -> Answer:
    request.forward()
    raise Killed


def _answering(status: int, code: str) -> Fault:
    answer = Answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())
    return lambda _: answer


def _after(count: int, what: Fault) -> Fault:
    """Forward the first requests, and do it to all that follow. The numbers begin anew with each proxy."""
    return lambda request: request.forward() if request.number < count else what(request)


def _twice(request: Request) -> Answer:
    """Send a request twice, as a proxy does that lost the first answer."""
    request.forward()
    return request.forward()


def _slow(request: Request) -> Answer:
    time.sleep(0.3)
    return request.forward()


def _cut(request: Request) -> Answer:
    found = request.forward()
    return Answer(found.status, found.headers, found.body, whole=False) if request.method == "GET" and found.body else found


def _flip_sent(request: Request) -> Answer:
    return request.forward(body=_flipped(request.body))


def _flip_answered(request: Request) -> Answer:
    found = request.forward()
    return Answer(found.status, found.headers, _flipped(found.body)) if request.method == "GET" else found


NETWORKS: Mapping[str, Fault] = {
    "kills-requests": _every(3, _kill_before),
    "kills-answers": _every(3, _kill_after),
    "answers-503": _every(2, _answering(503, "SlowDown")),
    "answers-429": _every(2, _answering(429, "TooManyRequests")),
    "answers-500": _every(2, _answering(500, "InternalError")),
    "refuses-credentials": _answering(403, "InvalidAccessKeyId"),
    "credentials-end": _after(12, _answering(400, "ExpiredToken")),
    "stops-midway": _after(12, _kill_before),
    "sends-twice": _every(3, _twice),
    "is-slow": _every(2, _slow),
    "cuts-answers": _every(3, _cut),
    "flips-what-is-sent": _every(5, _flip_sent),
    "flips-what-is-answered": _flip_answered,
    "is-gone": _kill_before,
}


@contextmanager
def rclone(folder: Path) -> Iterator[ObjectStore]:
    """Run ``rclone serve s3``, which answers 200 to every conditional write and to every range."""
    words = ["serve", "s3", "--config", "/dev/null", "--auth-key", f"{KEY},{SECRET}", "--addr", "127.0.0.1:{port}"]
    with _running("rclone", [*words, str(folder)]) as store:
        yield store


@contextmanager
def localbucket(folder: Path) -> Iterator[ObjectStore]:
    """Run ``localbucket``, which keeps If-None-Match, ignores If-Match, and removes no list of objects."""
    with _running("localbucket", ["--port", "{port}", str(folder)]) as store:
        yield store


@contextmanager
def _running(name: str, words: Sequence[str]) -> Iterator[ObjectStore]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name(name), *(each.format(port=port) for each in words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while not _listens(port):
                assert process.poll() is None, f"{name} has ended"
                assert time.monotonic() < until, f"{name} did not start"
                time.sleep(0.1)
            yield ObjectStore(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0
