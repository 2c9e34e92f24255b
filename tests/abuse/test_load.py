"""Hostile and honest clients at once: whoever only asks whether the service lives, or asks little, is answered soon.

``CUBEPORT_LOAD_S`` is the length of the run; the lane runs five minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .bodies import bodies

HONEST = (
    "/datasets",
    "/datasets/tiny",
    "/stac/collections/tiny",
    "/stac/search?bbox=0,0,2,2",
    "/zarr/tiny/zarr.json",
    "/ogcapi/collections/tiny/position?coords=POINT(1 1)",
    "/?f=html",
)
HOSTILE = (
    "/stac/search?limit=1000&ids=" + ",".join(f"tiny@{n:032x}" for n in range(180)),
    "/ogcapi/collections/tiny/coverage?subset=" + "lat(" * 900,
    "/ogcapi/collections/tiny/area?coords=POLYGON((" + ",".join(f"{n % 90}.{n} {n % 80}.{n}" for n in range(500)) + "))",
    "/datasets?q=" + "%22" * 160 + "&bbox=1,2,3",
    "/zarr/tiny/" + "a/" * 1000,
    "/datasets?" + "&".join(f"a{n}=1" for n in range(100)),
)


@pytest.fixture(scope="module")
def url(instance: Path) -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--instance", str(instance)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            process.terminate()


class Load:
    """Clients in threads, until the time is over."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.until = time.monotonic() + seconds
        self.times: dict[str, list[float]] = {"health": [], "honest": []}
        self.wrong: list[str] = []
        self.hostile = 0

    def run(self) -> None:
        kinds: list[Callable[[], None]] = [
            self.health,
            *([self.honest] * 2),
            *([self.posts] * 3),
            self.asks,
            self.chunks,
            self.leaves,
        ]
        threads = [threading.Thread(target=self.again, args=(each,)) for each in kinds]
        with contextlib.ExitStack() as held:
            for _ in range(100):  # silent connections
                held.enter_context(socket.create_connection(("127.0.0.1", self.port)))
            for each in threads:
                each.start()
            for each in threads:
                each.join()

    def again(self, act: Callable[[], None]) -> None:
        while time.monotonic() < self.until:
            try:
                act()
            except (http.client.HTTPException, OSError) as exc:
                if act in (self.health, self.honest):
                    self.wrong.append(repr(exc))

    def send(self, path: str, body: bytes | None = None) -> int:
        """Return the status of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request("GET" if body is None else "POST", path.replace(" ", "%20"), body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def ask(self, path: str, kind: str) -> None:
        began = time.monotonic()
        status = self.send(path)
        self.times[kind].append(time.monotonic() - began)
        if status != 200:
            self.wrong.append(f"{path}: {status}")

    def health(self) -> None:
        self.ask("/health", "health")
        time.sleep(0.02)

    def honest(self) -> None:
        self.ask(random.choice(HONEST), "honest")
        time.sleep(0.05)

    def posts(self) -> None:
        self.refused("/stac/search", random.choice(list(bodies().values())))

    def asks(self) -> None:
        self.refused(random.choice(HOSTILE))

    def refused(self, path: str, body: bytes | None = None) -> None:
        status = self.send(path, body)
        self.hostile += 1
        if status >= 500 and status != 503:
            self.wrong.append(f"{path[:80]}: {status}")

    def chunks(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            head = b"POST /stac/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            head += b"Transfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"5\r\n{}\r\n0\r\n\r\n")
            connection.recv(100)
        time.sleep(0.01)

    def leaves(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"GET /datasets/tiny/download HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.01)


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


LONG_S = float(os.environ.get("CUBEPORT_LOAD_S", "300"))


@pytest.mark.abuse
@pytest.mark.timeout(900)
def test_honest_clients_are_answered_among_hostile_ones(url: str) -> None:
    """For a quiet machine of two cores: clients and server share it."""
    load = Load(url, LONG_S)
    load.run()
    told = {
        kind: f"{len(times)} answers, p99 {p99(times) * 1000:.0f} ms, longest {max(times) * 1000:.0f} ms"
        for kind, times in load.times.items()
    }
    print(json.dumps(told | {"hostile": load.hostile}))
    assert load.wrong == []
    assert load.hostile > LONG_S
    assert p99(load.times["health"]) <= 0.1, told
    assert p99(load.times["honest"]) <= 2, told
