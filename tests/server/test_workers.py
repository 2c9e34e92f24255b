"""Several server processes on one socket: one state on all, a dead one comes back, all end together."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import netCDF4
import psutil
import pytest

from cubeport.main import Catalog


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    root = tmp_path / "instance"
    if "published" in request.fixturenames:
        request.getfixturevalue("published")
    else:
        Catalog.create(root).close()
    command = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--workers", "2", "--no-jobs", "--instance", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        url = next((word for line in process.stdout for word in line.split() if word.startswith("http://")), "")
        assert url
        yield process, url.rstrip("/")
        if process.poll() is None:
            process.terminate()
            process.wait(40)


def servers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that hold the listening socket, without the one that watches them."""
    alive = [each for each in psutil.Process(process.pid).children() if each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if "spawn_main" in " ".join(each.cmdline())]


def test_a_killed_process_comes_back_and_sigterm_ends_all(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    first = servers(process)
    assert len(first) == 2
    assert {httpx.get(f"{url}/ready").status_code for _ in range(10)} == {200}
    first[0].kill()
    deadline = time.monotonic() + 20
    while len(alive := servers(process)) < 2 or first[0] in alive:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.get(f"{url}/health", timeout=20).status_code == 200
    last = servers(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert not [each for each in last if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param((signal.SIGTERM, signal.SIGINT), id="term-int"),
        pytest.param((signal.SIGINT, signal.SIGTERM), id="int-term", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_and_the_sigterm_of_the_parent_stop_quietly_in_either_order(
    tmp_path: Path, signals: tuple[signal.Signals, ...]
) -> None:
    """Ctrl-C reaches a server process and the one that watches it, which then stops it: uvicorn took that for a second Ctrl-C."""
    Catalog.create(tmp_path / "instance").close()
    command = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(tmp_path / "instance")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert any("Ctrl-C" in line for line in process.stdout)
        for each in signals:
            process.send_signal(each)
        said = process.stdout.read()
        assert (process.wait(40), said) == (0, "")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """An instance with one small dataset."""
    source = tmp_path / "small.nc"
    with netCDF4.Dataset(source, "w") as made:
        for name, size in (("lat", 4), ("lon", 5)):
            made.createDimension(name, size)
            variable = made.createVariable(name, "f8", (name,))
            variable.units = {"lat": "degrees_north", "lon": "degrees_east"}[name]
            variable[:] = range(size)
        made.createVariable("t", "f4", ("lat", "lon"))[:] = 1.5
    root = tmp_path / "instance"
    for command in (["init", str(root)], ["ingest", str(source), "--id", "small", "--instance", str(root)]):
        subprocess.run([sys.executable, "-m", "cubeport", *command], check=True, capture_output=True)
    return root


def fetched(url: str, path: str) -> tuple[int, str]:
    """Ask as a reader from elsewhere, over a connection of its own."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path, headers={"X-Forwarded-For": "8.8.8.8"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_commit_shows_in_every_process_at_the_next_request(published: Path, served: tuple[subprocess.Popen[str], str]) -> None:
    _, url = served
    faces = ("/datasets/small", "/zarr/small/zarr.json", "/stac/collections/small", "/stac/collections", "/datasets")

    def seen() -> set[tuple[str, bool]]:
        """What fresh connections see: the kernel spreads them over the processes."""
        found = set()
        for _ in range(8):
            for face in faces:
                status, text = fetched(url, face)
                found.add((face, status == 200 and (face.startswith("/zarr") or "small" in text)))
        return found

    assert seen() == {(face, True) for face in faces}
    for _ in range(3):
        assert httpx.post(f"{url}/datasets/small/unpublish").status_code == 200
        assert seen() == {(face, False) for face in faces}
        assert httpx.post(f"{url}/datasets/small/publish").status_code == 200
        assert seen() == {(face, True) for face in faces}


def test_no_orphan_holds_the_port(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    children = servers(process)
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(children, timeout=20)
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    port = int(url.rpartition(":")[2])
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0
