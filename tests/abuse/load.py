"""Clients of one kind in a process of their own: ``python load.py KIND URL SECONDS`` prints what they saw as JSON.

Those that measure are not those that attack: threads of one process would wait for each other, and call it the server's time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable

from bodies import bodies

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


class Clients:
    """Threads that ask again and again until the time is over."""

    def __init__(self, url: str, seconds: float) -> None:
        self.port = int(url.rpartition(":")[2])
        self.until = time.monotonic() + seconds
        self.times: list[float] = []
        self.wrong: list[str] = []
        self.sent = 0

    def run(self, kind: str) -> None:
        kinds: dict[str, list[Callable[[], None]]] = {
            "health": [self.health],
            "honest": [self.honest] * 2,
            "hostile": [*([self.posts] * 3), self.asks, self.chunks, self.leaves],
        }
        threads = [threading.Thread(target=self.again, args=(each, kind)) for each in kinds[kind]]
        with contextlib.ExitStack() as held:
            for _ in range(100 if kind == "hostile" else 0):  # silent connections
                held.enter_context(socket.create_connection(("127.0.0.1", self.port)))
            for each in threads:
                each.start()
            for each in threads:
                each.join()

    def again(self, act: Callable[[], None], kind: str) -> None:
        while time.monotonic() < self.until:
            try:
                act()
            except (http.client.HTTPException, OSError) as exc:
                if kind != "hostile":
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

    def ask(self, path: str) -> None:
        began = time.monotonic()
        status = self.send(path)
        self.times.append(time.monotonic() - began)
        if status != 200:
            self.wrong.append(f"{path}: {status}")

    def health(self) -> None:
        self.ask("/health")
        time.sleep(0.02)

    def honest(self) -> None:
        self.ask(random.choice(HONEST))
        time.sleep(0.05)

    def posts(self) -> None:
        self.refused("/stac/search", random.choice(list(bodies().values())))

    def asks(self) -> None:
        self.refused(random.choice(HOSTILE))

    def refused(self, path: str, body: bytes | None = None) -> None:
        status = self.send(path, body)
        self.sent += 1
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


if __name__ == "__main__":
    clients = Clients(sys.argv[2], float(sys.argv[3]))
    clients.run(sys.argv[1])
    print(json.dumps({"times": clients.times, "wrong": clients.wrong[:20], "sent": clients.sent}))
