"""Several server processes on one socket: one state on all, a dead one comes back, all end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cubeport.main import Catalog


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    root = tmp_path / "instance"
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
    return [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]


def test_a_killed_process_comes_back_and_sigterm_ends_all(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    first = servers(process)
    assert len(first) == 2
    assert {httpx.get(f"{url}/ready").status_code for _ in range(10)} == {200}
    first[0].kill()
    deadline = time.monotonic() + 20
    while len(alive := [each for each in servers(process) if each.is_running()]) < 2 or first[0] in alive:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert httpx.get(f"{url}/health", timeout=20).status_code == 200
    last = servers(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 0
    assert not [each for each in last if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_no_orphan_holds_the_port(served: tuple[subprocess.Popen[str], str]) -> None:
    process, url = served
    children = servers(process)
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(children, timeout=20)
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    port = int(url.rpartition(":")[2])
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0
