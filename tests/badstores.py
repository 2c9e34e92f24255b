"""Stores that break a promise of S3: a proxy before a good one with one fault, and rclone, a real one."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from tests.objectstore import KEY, SECRET, ObjectStore

type Headers = dict[str, str]

_HOP = {"connection", "transfer-encoding", "keep-alive"}


def _without(*names: str) -> Callable[[Headers], Headers]:
    return lambda headers: {name: value for name, value in headers.items() if name.lower() not in names}


FAULTS: Mapping[str, Callable[[Headers], Headers]] = {
    "ignores-if-none-match": _without("if-none-match"),
    "ignores-if-match": _without("if-match"),
    "ignores-range": _without("range"),
    "answers-stale": dict,
}
"""What a proxy does to the headers of a request. ``answers-stale`` also gives the first body of each object for ever."""


@contextmanager
def lying(store: ObjectStore, fault: str) -> Iterator[ObjectStore]:
    """Give *store* behind a proxy with a fault. The store must not verify signatures, as moto does not."""
    behind = urlsplit(store.endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        first: ClassVar[dict[str, tuple[int, Headers, bytes]]] = {}

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            stale = fault == "answers-stale" and self.command == "GET" and "range" not in self.headers
            if not (stale and self.path in self.first):
                upstream = http.client.HTTPConnection(behind.netloc, timeout=30)
                upstream.request(self.command, self.path, body, FAULTS[fault](dict(self.headers.items())))
                answer = upstream.getresponse()
                found = answer.status, dict(answer.getheaders()), answer.read()
                upstream.close()
                if stale and answer.status == 200:
                    self.first[self.path] = found
            else:
                found = self.first[self.path]
            status, headers, content = found
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP | {"content-length"}:
                    self.send_header(name, value)
            self.send_header("content-length", headers.get("content-length", "0") if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

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


@contextmanager
def rclone(folder: Path) -> Iterator[ObjectStore]:
    """Run ``rclone serve s3``, which answers 200 to every conditional write and to every range."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("rclone")
    command = [program, "serve", "s3", "--config", "/dev/null", "--auth-key", f"{KEY},{SECRET}", "--addr", f"127.0.0.1:{port}"]
    with subprocess.Popen([*command, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while not _listens(port):
                assert process.poll() is None, "rclone has ended"
                assert time.monotonic() < until, "rclone did not start"
                time.sleep(0.1)
            yield ObjectStore(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0
