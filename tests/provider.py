"""A provider of data over HTTP, as a process of its own: a folder behind GET and HEAD, with ETags and ranges, and its tempers.

``NAME.temper`` next to a file says how it is served, as JSON: ``status`` (an error instead) and ``times`` (how often it is sent),
``cut`` (bytes, then the connection is closed), ``slow_s`` (seconds for each 64 KiB), ``etag``, ``ranges`` and ``head`` (false: not
known). Each request is a line of ``requests.log``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PIECE = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        path = self.root / name
        temper: dict[str, Any] = {}
        if (said := path.with_name(path.name + ".temper")).is_file():
            temper = json.loads(said.read_text())
        if (times := temper.get("times")) is not None and body:
            said.write_text(json.dumps({**temper, "times": times - 1})) if times > 1 else said.unlink()
        if not body and temper.get("head") is False:
            self.head(405)
            return
        if (status := temper.get("status")) and (body or "times" not in temper):
            self.head(int(status))
            return
        if not path.is_file() or ".." in name or path.suffix in (".temper", ".log"):
            self.head(404)
            return
        data = path.read_bytes()
        headers = {"Content-Type": "application/octet-stream"}
        etag = f'"{sha256(data).hexdigest()[:16]}"'
        if temper.get("etag", True):
            headers["ETag"] = etag
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and temper.get("ranges", True) and self.headers.get("If-Range", etag) == etag and int(asked[1]) < len(data):
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        self.head(status, len(rest), headers)
        if not body:
            return
        cut = temper.get("cut")
        sent = rest if cut is None else rest[: max(0, int(cut) - start)]
        for at in range(0, len(sent), PIECE):
            if pause := temper.get("slow_s"):
                time.sleep(float(pause))
            self.wfile.write(sent[at : at + PIECE])
        if len(sent) < len(rest):
            self.close_connection = True
            self.connection.close()

    def head(self, status: int, length: int = 0, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        with (self.root / "requests.log").open("a") as log:  # before the answer, so that whoever has it sees the line
            log.write(f"{self.command} {self.path} {status} {length} {self.headers.get('Range', '-')}\n")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Provider:
    """A running provider, or a folder of one."""

    url: str
    root: Path
    top: Path | None = None

    def below(self, name: str) -> Provider:
        """Return a folder of it."""
        return Provider(f"{self.url}/{name}", self.root / name, self.top or self.root)

    def put(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def temper(self, name: str, **how: Any) -> None:
        (self.root / f"{name}.temper").write_text(json.dumps(how))

    def calm(self, name: str) -> None:
        (self.root / f"{name}.temper").unlink(missing_ok=True)

    def requests(self, method: str = "") -> list[list[str]]:
        """Return ``[method, path, status, bytes, range]`` of each request in this folder since :meth:`forget`."""
        log = (self.top or self.root) / "requests.log"
        lines = [line.split(" ") for line in log.read_text().splitlines()] if log.is_file() else []
        path = urlsplit(self.url).path + "/"
        return [each for each in lines if each[0].startswith(method) and each[1].startswith(path)]

    def forget(self) -> None:
        ((self.top or self.root) / "requests.log").unlink(missing_ok=True)

    def sent(self) -> int:
        """Return the bytes of all bodies that were promised."""
        return sum(int(each[3]) for each in self.requests("GET"))


@contextmanager
def running(root: Path) -> Iterator[Provider]:
    """Serve *root* on a free port until left."""
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Provider(process.stdout.readline().strip(), root)
        finally:
            process.kill()


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
