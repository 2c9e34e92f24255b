"""safety.md 4, over real sockets: heads of bad form and size, slow and silent clients, readers that take nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from cubeport.errors import Unavailable
from cubeport.server import run
from cubeport.server.app import App
from cubeport.server.edge import Edge
from cubeport.server.files import Answer, Asked

from .conftest import FakeEngine, FakeService, make_parts


class Hasty(Edge):
    """The same with short deadlines."""

    HEAD_S = 0.4
    BODY_IDLE_S = 0.4
    BODY_S = 1.2
    READER_S = 0.4
    TICK_S = 0.05


class Big:
    """Sends 40 MB whoever reads; says when it was cut."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"40000000")]})
        for _ in range(40):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.ended.set()


def serving(app: Any, protocol: type[Edge] = Hasty) -> Iterator[int]:
    bound = run.bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(app, http=protocol, ws="none", log_config=None, access_log=False, server_header=False, timeout_keep_alive=10)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield bound.getsockname()[1]
    server.should_exit = server.force_exit = True
    thread.join()
    bound.close()


@pytest.fixture
def port(service: FakeService, engine: FakeEngine) -> Iterator[int]:
    yield from serving(App(make_parts(service, engine)))


def talk(port: int, *parts: bytes, pause: float = 0.0, timeout: float = 5.0) -> bytes:
    """Send the parts one after another; return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def test_a_good_head(port: int) -> None:
    answer = talk(port, HEAD + b"\r\n")
    assert (status(answer), answer.endswith(b'{"status":"ok"}')) == (200, True)
    assert b"\r\nserver:" not in answer.lower()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"Host: localhost\r\n\r\n", 400),
        (HEAD.replace(b"localhost", b"a b") + b"\r\n", 400),
        (HEAD.replace(b"localhost", b"user@h") + b"\r\n", 400),
        (HEAD.replace(b"localhost", b"") + b"\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(100)) + b"\r\n", 431),
        (HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (HEAD.replace(b"/health", b"/" + b"a" * 9_000) + b"\r\n", 414),
        (b"GET /zarr/dap.zarr?" + b"a" * 8_185 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /dap/sst.dods?" + b"a" * 30_720 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /health?" + b"a" * 8_185 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_a_bad_head_is_refused_and_the_connection_closed(port: int, raw: bytes, expected: int) -> None:
    answer = talk(port, raw)
    assert status(answer) == expected
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    problem = json.loads(body)
    assert problem["status"] == expected
    # The members of every other problem, and a sentence that says what to do.
    assert problem.keys() == {"type", "kind", "title", "status", "detail", "instance", "errors", "code", "description"}
    assert problem["detail"].endswith(".")


def test_a_head_that_does_not_end_is_cut_by_size(port: int) -> None:
    began = time.monotonic()
    answer = talk(port, HEAD, *(b"X: " + b"a" * 8_000 for _ in range(8)), pause=0.005)
    assert status(answer) in (431, 0)  # 0: the reset came before the answer was read
    assert time.monotonic() - began < 0.4 + 1


def test_a_slow_head_a_silent_connection_and_an_idle_one_are_cut(port: int) -> None:
    for parts, expected in (((HEAD,), 408), ((), 0)):
        began = time.monotonic()
        assert status(talk(port, *parts)) == expected
        assert 0.3 < time.monotonic() - began < 2
    began = time.monotonic()
    answer = talk(port, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /health HTTP/1.1\r\n", pause=0.1)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.count(b"HTTP/1.1 408") == 1
    assert time.monotonic() - began < 2


def test_one_byte_at_a_time_does_not_help(port: int) -> None:
    began = time.monotonic()
    answer = talk(port, *(bytes([byte]) for byte in HEAD + b"X: 1\r\n" * 20), pause=0.01)
    assert status(answer) in (408, 0)
    assert time.monotonic() - began < 2.5


def test_a_slow_body_is_cut_and_nothing_happens(port: int, service: FakeService) -> None:
    head = b"POST /ingestions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    assert status(talk(port, head + b"{")) == 408
    began = time.monotonic()
    assert status(talk(port, head, *([b" "] * 20), pause=0.1)) in (408, 0)
    assert time.monotonic() - began < 3.5
    assert service.calls == []


def test_others_are_answered_meanwhile(port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    try:
        for each in held:
            each.sendall(b"GET /")
        began = time.monotonic()
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        assert time.monotonic() - began < 1
    finally:
        for each in held:
            each.close()


def test_too_many_connections_are_told_to_come_back(service: FakeService, engine: FakeEngine) -> None:
    class Narrow(Hasty):
        HEAD_S = 20.0
        MAX_CONNECTIONS = 3

    servers = serving(App(make_parts(service, engine)), Narrow)
    port = next(servers)
    try:
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        time.sleep(0.1)
        answer = talk(port, HEAD + b"\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert (status(answer), json.loads(body)["kind"], b"retry-after: 1" in head) == (503, "unavailable", True)
        held.pop().close()
        time.sleep(0.1)
        assert status(talk(port, HEAD + b"\r\n")) == 200
        for each in held:
            each.close()
    finally:
        next(servers, None)


def test_pipelined_requests_are_all_answered(port: int) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = talk(port, one * 4 + HEAD + b"\r\n")
    assert answer.count(b"HTTP/1.1 200") == 5


def drained(connection: socket.socket, pause: float = 0.0) -> int:
    """Return how many bytes came until the connection ended, whole or cut."""
    taken = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 20):
            taken += len(piece)
            time.sleep(pause)
    return taken


def test_a_reader_that_takes_nothing_is_cut_and_a_slow_one_is_not() -> None:
    big = Big()
    servers = serving(big)
    port = next(servers)
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(HEAD + b"\r\n")
            time.sleep(1.5)
            assert drained(connection) < 40_000_000
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(HEAD + b"\r\n")
            assert drained(connection, pause=0.005) > 40_000_000
    finally:
        next(servers, None)


def test_a_slow_reader_whose_answer_waits_in_the_kernel_gets_all_of_it() -> None:
    """A reader of 200 kB/s empties a third of the kernel's buffer in 6 s, and the deadline is 1.5 s."""

    class Patient(Hasty):
        READER_S = 1.5

    big = Big()
    servers = serving(big, Patient)
    port = next(servers)
    try:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            connection.connect(("127.0.0.1", port))
            connection.sendall(HEAD + b"\r\n")
            began, taken = time.monotonic(), 0
            while time.monotonic() - began < 4:
                taken += len(connection.recv(20_000))
                time.sleep(0.1)
            assert taken < 1_000_000
            assert taken + drained(connection) > 40_000_000
    finally:
        next(servers, None)


def test_an_address_of_opendap_may_be_long(port: int) -> None:
    assert status(talk(port, b"GET /dap/sst.dods?" + b"a," * 8_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) != 414


@pytest.mark.parametrize(
    "key",
    [
        *(b"%2e%2e/zarr.json", b"%252e%252e/zarr.json", b"../zarr.json", b"..%2fzarr.json", b"sst\\c/0/0/0", b"sst%5cc/0/0/0"),
        *(
            b"sst/c/00/0/0",
            b"sst/c/-1/0/0",
            b"zarr.json%00",
            b"zarr.json\x00",
            b"//etc/passwd",
            b"%2fetc%2fpasswd",
            b"sst/c/0/0/0%20",
        ),
    ],
)
def test_keys_on_the_wire_are_the_keys_that_are_checked(port: int, engine: FakeEngine, key: bytes) -> None:
    answer = talk(port, b"GET /zarr/sea/" + key + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status(answer) in (400, 404)
    assert engine.reads == []


class TestRun:
    def test_a_taken_port_is_told_plainly(self) -> None:
        with run.bind("127.0.0.1", 0) as bound:
            bound.listen()
            with pytest.raises(Unavailable, match="Address already in use"):
                run.bind("127.0.0.1", bound.getsockname()[1])

    def test_of_two_servers_that_start_at_the_same_time_one_is_told_plainly(self) -> None:
        with run.bind("127.0.0.1", 0) as first, run.bind("127.0.0.1", first.getsockname()[1]) as second:
            first.listen()
            with pytest.raises(Unavailable, match="Address already in use"):
                run.serve(Big(), [second])

    def test_a_server_that_cannot_answer_yet_refuses_connections(self) -> None:
        """A proxy then asks another machine at once. It would wait for seconds in the queue of one that starts."""
        with run.bind("127.0.0.1", 0) as bound, pytest.raises(ConnectionRefusedError):
            socket.create_connection(bound.getsockname(), timeout=5)

    def test_the_address_is_what_was_bound(self) -> None:
        with run.bind("127.0.0.1", 0) as bound:
            assert run.address(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"

    def test_sigterm_lets_a_running_request_end_and_returns(self) -> None:
        script = """
import asyncio, sys
from cubeport.server import run

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(0.8)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})

bound = run.bind("127.0.0.1", 0)
run.serve(app, [bound], ready=lambda: print(run.address(bound), flush=True))
print("closed", flush=True)
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            answers: list[str] = []
            asking = threading.Thread(target=lambda: answers.append(httpx.get(url).text))
            asking.start()
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGTERM)
            asking.join()
            assert process.stdout.read().strip() == "closed"
            assert process.wait() == 0
            assert answers == ["done"]


class Prompt(Hasty):
    """Answers without a task."""

    @staticmethod
    def at_once(*_: Any) -> Answer:
        return Answer(304, b'etag: "x"\r\n')


def test_a_connection_that_is_silent_after_an_answer_at_once_is_closed() -> None:
    for port in serving(Big(), Prompt):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            for _ in range(2):
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 304")
            assert client.recv(4096) == b""


class Parsing(Edge):
    """Answers reads without a task, with their target, and notes which requests it parsed."""

    parsed: list[bytes]

    @staticmethod
    def at_once(asked: Asked, _: str) -> Answer | None:
        return Answer(200, b"content-length: %d\r\n" % len(asked.target), asked.target) if asked.method == b"GET" else None

    def on_headers_complete(self) -> None:
        self.parsed.append(self.url)
        super().on_headers_complete()


class Early:
    """Answers before it reads the body."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"early"})


def get(target: bytes) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target


def taken(client: socket.socket, last: bytes) -> list[bytes]:
    """Receive answers until one with the body *last*; return the bodies of all."""
    bodies: list[bytes] = []
    with client.makefile("rb", buffering=0) as stream:
        while not bodies or bodies[-1] != last:
            size = 0
            while (line := stream.readline()).strip():
                name, _, value = line.partition(b":")
                size = int(value) if name == b"content-length" else size
            bodies.append(stream.read(size) or b"" if size else b"")
    return bodies


@pytest.fixture
def parsing() -> Iterator[tuple[socket.socket, list[bytes]]]:
    """A connection, and the targets of the requests that the parser saw."""
    Edge._HEADS.clear()
    protocol = type("Fresh", (Parsing,), {"parsed": (parsed := [])})
    for port in serving(Early(), protocol):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            yield client, parsed


def test_the_same_request_again_is_not_parsed_again(parsing: tuple[socket.socket, list[bytes]]) -> None:
    client, parsed = parsing
    for target in (b"/a", b"/a", b"/b", b"/a", b"/b"):
        client.sendall(get(target))
        assert taken(client, target) == [target]
    assert parsed == [b"/a", b"/b"]


def test_two_requests_in_one_piece_are_answered_both(parsing: tuple[socket.socket, list[bytes]]) -> None:
    client, _ = parsing
    for _ in range(2):
        client.sendall(get(b"/a") + get(b"/b"))
        assert taken(client, b"/b") == [b"/a", b"/b"]
    client.sendall(get(b"/a"))
    assert taken(client, b"/a") == [b"/a"]


def test_the_rest_of_a_request_is_no_request_of_its_own(parsing: tuple[socket.socket, list[bytes]]) -> None:
    """Its bytes alone may be a request that is known. They are a part of this one."""
    client, parsed = parsing
    client.sendall(get(b"/a"))
    assert taken(client, b"/a") == [b"/a"]
    client.sendall(b"GET /long HTTP/1.1\r\nX: ")
    time.sleep(0.1)  # mostly two pieces for the server then
    client.sendall(get(b"/a"))  # its first line is the value of X
    assert taken(client, b"/long") == [b"/long"]
    assert parsed == [b"/a", b"/long"]


def test_the_body_of_a_request_is_no_request(parsing: tuple[socket.socket, list[bytes]]) -> None:
    client, _ = parsing
    client.sendall(get(b"/a"))
    assert taken(client, b"/a") == [b"/a"]
    client.sendall(b"POST /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(get(b"/a")))
    assert taken(client, b"early") == [b"early"]
    client.sendall(get(b"/a"))
    client.sendall(get(b"/c"))
    assert taken(client, b"/c") == [b"/c"]
