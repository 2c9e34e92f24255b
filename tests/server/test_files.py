"""Parts of files as bodies, over real sockets: the same bytes as a copy, whatever the client does and whatever the kernel knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from cubeport.server import files, run
from cubeport.server.app import App
from cubeport.server.files import EXTENSION, FilePart, is_cached

from .conftest import V2, FakeEngine, FakeService, make_parts

LARGE = "sst/c/0/0/0"
SIZE = 9_000_000
"""More than a socket takes at once, and more than two pieces."""


@pytest.fixture
def content(engine: FakeEngine, tmp_path: Path) -> bytes:
    made = os.urandom(SIZE)
    engine.folder = Path(shutil.copytree(engine.folder, tmp_path / "store"))  # the other one is every test's
    (engine.folder / LARGE).write_bytes(made)
    return made


@pytest.fixture(params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest, service: FakeService, engine: FakeEngine, content: bytes) -> Iterator[int]:
    with served(App(make_parts(service, engine)), request.param) as port:
        yield port


@contextlib.contextmanager
def served(app: Any, loop: Any = "auto") -> Iterator[int]:
    bound = run.bind("127.0.0.1", 0)
    server = uvicorn.Server(
        uvicorn.Config(
            app, http=run.edge(1_000, getattr(app, "at_once", None)), ws="none", loop=loop, log_config=None, access_log=False
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the kernel sent of files, call by call."""
    counts: list[int] = []
    real = os.sendfile

    def counted(*arguments: Any) -> int:
        counts.append(real(*arguments))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", counted)
    return counts


needs_cachestat = pytest.mark.skipif(files._SYSCALL is None, reason="only Linux says what it has cached")


@needs_cachestat
def test_the_kernel_sends_what_it_has(port: int, content: bytes, sent: list[int]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            answer = client.get(f"/zarr/sea@{V2}/{LARGE}")
            assert answer.status_code == 200
            assert answer.content == content
        part = client.get(f"/zarr/sea/{LARGE}", headers={"Range": "bytes=100-100099"})
        assert (part.status_code, part.content) == (206, content[100:100_100])
        assert client.head(f"/zarr/sea/{LARGE}").headers["content-length"] == str(SIZE)
        assert client.get("/zarr/sea/zarr.json").json()["zarr_format"] == 3
    assert sum(sent) > SIZE, "nothing was left to the kernel: is there cachestat (Linux 6.5)?"


def test_what_is_not_cached_is_read_by_a_thread(
    port: int, content: bytes, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SYSCALL", None)
    assert httpx.get(f"http://127.0.0.1:{port}/zarr/sea/{LARGE}").content == content
    assert sent == []


def test_answers_keep_their_turn_when_they_are_asked_for_at_once(port: int, content: bytes) -> None:
    asked = b"".join(
        f"GET /zarr/sea/{key} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={span}\r\n\r\n".encode()
        for key, span in ((LARGE, "0-5999999"), ("zarr.json", "0-9"), (LARGE, "40000-99999"))
    )
    wanted = (content[:6_000_000], None, content[40_000:100_000])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client, client.makefile("rb") as read:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(asked)
        time.sleep(0.3)  # the socket is full long before the first answer is out
        for each in wanted:
            assert read.readline().startswith(b"HTTP/1.1 206")
            fields = dict(line.lower().split(b": ", 1) for line in iter(read.readline, b"\r\n"))
            body = read.read(int(fields[b"content-length"]))
            assert each is None or body == each


def test_a_file_that_became_shorter_is_cut_off_and_never_filled(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x" * 50_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert EXTENSION in scope["extensions"]
        with (tmp_path / "part").open("rb") as file:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"60000")]})
            await send({"type": "http.response.body", "body": FilePart(file.fileno(), 0, 60_000)})

    with served(app) as port, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{port}/")


@needs_cachestat
def test_a_part_is_cached_once_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    with (tmp_path / "file").open("rb") as file:
        os.fsync(file.fileno())
        file.read()
        whole = FilePart(file.fileno(), 0, 100_000)
        assert is_cached(whole)
        assert not is_cached(FilePart(file.fileno(), 0, 200_000)), "what is behind the end cannot be there"
        assert not is_cached(FilePart(file.fileno(), 0, 0))
