"""A server of raw sockets: it counts who connects, keeps what was asked, and answers with the bytes it is reported to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

type Answer = bytes | Callable[[socket.socket], None]


class Server:
    """Listens on 127.0.0.1; ``answers`` by path, 404 for all others."""

    def __init__(self) -> None:
        self.accepted = 0
        self.heads: list[str] = []
        self.answers: dict[str, Answer] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if self._closing:
                    return
                self.accepted += 1
                self._one(connection)

    _closing = False

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        head = b""
        while b"\r\n\r\n" not in head and (more := connection.recv(4096)):
            head += more
        text = head.decode("latin-1")
        self.heads.append(text)
        path = text.split(" ")[1] if " " in text else ""
        answer = self.answers.get(path, response(b"", status="404 Not Found"))
        try:
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if text.startswith("HEAD") else answer)
        except OSError:
            pass  # whoever asked has had enough

    def close(self) -> None:
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._socket.close()


def response(body: bytes, *headers: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """Return a response of *body*; *length* is said of it, ``None`` for none, by default the true one."""
    said = [] if length is None else [f"Content-Length: {len(body) if length < 0 else length}"]
    return "\r\n".join([f"HTTP/1.1 {status}", *said, *headers, "Connection: close", "", ""]).encode() + body


def dripping(*, headers: bool, for_s: float) -> Callable[[socket.socket], None]:
    """Return an answer that sends a byte each 20 ms, of its head or of its body."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: " if headers else b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        until = time.monotonic() + for_s
        while time.monotonic() < until:
            connection.sendall(b"x")
            time.sleep(0.02)

    return answer


def silent(connection: socket.socket) -> None:
    """Send half of a body, then nothing until the other side leaves."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    connection.recv(1)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
