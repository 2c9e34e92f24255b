"""Hostile and honest clients at once: whoever only asks whether the service lives, or asks little, is answered soon.

``CUBEPORT_LOAD_S`` is the length of the run; the lane runs five minutes. Attackers, readers and the asking for ``/health`` are a
process each. A bare uvicorn, which only reads what it is sent, is put under the same load in the same run: no server in Python
answers sooner on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

KINDS = ("hostile", "honest", "health")

BARE = """
import socket, sys
import uvicorn

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (message := await receive()).get("more_body"):
        pass
    status = 200 if scope["method"] == "GET" else 400
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"good"})

bound = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[bound])
"""


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[str]:
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.terminate()


def loaded(url: str, seconds: float) -> Mapping[str, Mapping[str, Any]]:
    """Return what each kind of clients saw, all at once."""
    script = str(Path(__file__).with_name("load.py"))
    running = {
        kind: subprocess.Popen([sys.executable, script, kind, url, str(seconds)], stdout=subprocess.PIPE, text=True)
        for kind in KINDS
    }
    found = {kind: process.communicate(timeout=seconds + 120)[0] for kind, process in running.items()}
    return {kind: json.loads(text) for kind, text in found.items()}


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def told(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    words = {
        kind: f"{len(times)} answers, median {statistics.median(times) * 1000:.0f} ms, p99 {p99(times) * 1000:.0f} ms, "
        f"longest {max(times) * 1000:.0f} ms"
        for kind in ("health", "honest")
        if (times := found[kind]["times"])
    }
    return words | {"hostile": f"{found['hostile']['sent']} requests"}


LONG_S = float(os.environ.get("CUBEPORT_LOAD_S", "300"))
SHORT_S = 3.0
QUIET_S = 0.05
"""The 99th percentile of the bare server's answers where nothing else runs."""


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=[pytest.mark.abuse, pytest.mark.timeout(900)])])
def test_honest_clients_are_answered_among_hostile_ones(instance: Path, seconds: float) -> None:
    """The times are those of a quiet machine of two cores, which clients and server share; on a busy one, all takes longer."""
    with serving("-c", BARE) as bare:
        floor = loaded(bare, max(SHORT_S, seconds / 10))
    with serving("-m", "cubeport", "serve", "--port", "0", "--instance", str(instance)) as url:
        found = loaded(url, seconds)
    slower = max(1.0, p99(floor["health"]["times"]) / QUIET_S)
    print(json.dumps({"service": told(found), "bare uvicorn": told(floor), "slower than a quiet machine": slower}, indent=1))
    assert [each for kind in KINDS for each in found[kind]["wrong"]] == []
    assert found["hostile"]["sent"] > seconds / slower
    assert max(found["health"]["times"]) <= 2 * slower
    assert p99(found["honest"]["times"]) <= 2 * slower
    if seconds > SHORT_S:
        assert p99(found["health"]["times"]) <= 0.1 * slower
