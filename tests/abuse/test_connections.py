"""Connections: more than there are descriptors for, and bodies whose chunks are malformed.

With the usual soft limit of 1,024 descriptors, 1,100 connections made 159,000 tracebacks in 20 seconds.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.server.conftest import Live

SERVER = """
import logging, resource, sys
from cubeport.server import run

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
logging.basicConfig(level="WARNING")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"good"})

bound = run.bind("127.0.0.1", 0)
run.serve(app, [bound], max_connections=1000, ready=lambda: print(bound.getsockname()[1], flush=True))
"""
CHUNKS = (
    b"zz\r\n",
    b"2\r\n{}x\r\n",
    b"-1\r\n\r\n",
    b"5\r\n{}\r\n0\r\n\r\n",
    b"ffffffffffffffffff\r\n",
    b"2\r\n{}\r\n0\r\nbad\r\n\r\n",
)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def serving(soft: int, hard: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(soft), str(hard)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.terminate()
        process.communicate(timeout=40)


def ask(connection: socket.socket) -> bytes:
    connection.sendall(GET)
    return connection.recv(4096)


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1_500, reason="needs 1,500 open files")
@pytest.mark.parametrize(("soft", "hard", "served"), [(200, 4_096, 700), (200, 600, 200)])
def test_silent_connections_never_use_up_the_descriptors(soft: int, hard: int, served: int) -> None:
    mine, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(mine, 1_500) if mine >= 0 else mine, most))
    with serving(soft, hard) as (port, process), contextlib.ExitStack() as held:
        first = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert ask(first).endswith(b"good")
        answered = 1
        for _ in range(699):
            each = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            if answered < served:
                assert ask(each).endswith(b"good")
                answered += 1
        assert ask(first).endswith(b"good")
        process.terminate()
        held.close()
        _, log = process.communicate(timeout=40)
    assert "Traceback" not in log
    assert log.count("\n") <= 2, log[:2000]
    assert ("280 connections are served at once" in log) is (hard == 600), log


def test_a_malformed_chunk_is_refused_without_a_traceback(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /ingestions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with caplog.at_level(logging.INFO):
        for bad in CHUNKS:
            with socket.create_connection(("127.0.0.1", live.port), timeout=10) as connection, contextlib.suppress(OSError):
                connection.sendall(head)
                connection.sendall(bad)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := connection.recv(4096):
                    answer += piece
                assert answer == b"" or int(answer.split(b" ", 2)[1]) in (400, 413), (bad, answer)
    assert [each for each in caplog.records if each.exc_info or each.levelno >= logging.ERROR] == []
