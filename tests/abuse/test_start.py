"""A start has no unlucky second: what requests need is imported before the port answers, so that none imports anything.

Two threads that imported shapely at one moment left it half initialised: coverages and searches were 500 until the next restart.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cubeport.main import Catalog

POINT = '{"type":"Point","coordinates":[0,0]}'
KINDS = (
    "/?f=html",
    "/datasets",
    "/datasets/tiny?f=html",
    "/stac",
    "/stac/collections/tiny/items",
    f"/stac/search?intersects={POINT}",
    "/zarr/tiny/zarr.json",
    "/ogcapi/collections/tiny/coverage?f=json",
    "/ogcapi/collections/tiny/coverage?f=netcdf",
    "/ogcapi/collections/tiny/position?coords=POINT(1 1)&f=csv",
    "/ogcapi/collections/tiny/area?coords=POLYGON((0 0,3 0,3 3,0 0))",
    "/datasets/tiny/download",
    "/ready",
    "/openapi.json",
)

IMPORTED = """
import asyncio, json, sys
import httpx
from pathlib import Path
from cubeport.main import service as instance
from cubeport.main.catalog import Catalog
from cubeport.server.app import create_app
from cubeport.settings import load

root, kinds = Path(sys.argv[1]), json.loads(sys.argv[2])
settings = load(root)

async def ask(app):
    asyncio.get_running_loop()
    found = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost", timeout=60) as client:
        for path in kinds:
            before = set(sys.modules)
            answer = await client.get(path)
            found[path] = [answer.status_code, sorted(set(sys.modules) - before)]
        before = set(sys.modules)
        answer = await client.post("/stac/search", json={"intersects": {"type": "Point", "coordinates": [0, 0]}})
        found["search"] = [answer.status_code, sorted(set(sys.modules) - before)]
    return found

children = instance.children_of(settings)
with instance.service_of(settings, Catalog.open(root), children) as service:
    app = create_app(instance._app_parts(settings, service, children))
    instance.warm_up(settings)
    print(json.dumps(asyncio.run(ask(app))))
"""


def test_no_request_imports_anything(instance: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, str(instance), json.dumps(KINDS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {path: answer for path, answer in found.items() if answer != [200, []]} == {}


def test_a_failed_warm_up_stops_the_start(instance: Path) -> None:
    script = (
        "import sys; sys.modules['shapely'] = None\n"
        "from cubeport.main import run\n"
        f"sys.exit(run(['serve', '--port', '0', '--instance', {str(instance)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "shapely" in done.stderr
    assert not re.search(r"http://127\.0\.0\.1:\d+", done.stdout)


def test_a_data_folder_that_cannot_be_set_up_stops_the_start(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "i").close()
    (tmp_path / "i" / "data").mkdir(exist_ok=True)
    (tmp_path / "i" / "data" / "store").write_text("not a folder")
    command = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(tmp_path / "i")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode not in (0, 1), done.stderr
    assert "store-unavailable" in done.stderr


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path.replace(" ", "%20"))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def knock(port: int, path: str, answers: list[Any]) -> None:
    """Ask until somebody listens, then note the first answer. Knocking costs little: the start itself needs the processor."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            answers.append((path, status(port, path)))
            return
        except ConnectionRefusedError:
            time.sleep(0.002)
    answers.append((path, "nobody listened"))


def starts(instance: Path, count: int) -> Iterator[list[Any]]:
    for _ in range(count):
        port = free_port()
        answers: list[Any] = []
        threads = [threading.Thread(target=knock, args=(port, path, answers)) for path in KINDS for _ in range(2)]
        for each in threads:
            each.start()
        process = subprocess.Popen(
            [sys.executable, "-m", "cubeport", "serve", "--port", str(port), "--instance", str(instance)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for each in threads:
                each.join()
            yield answers + [(path, status(port, path)) for path in KINDS]
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.mark.parametrize(
    "count", [pytest.param(2, marks=pytest.mark.slow), pytest.param(50, marks=[pytest.mark.abuse, pytest.mark.timeout(1800)])]
)
def test_requests_of_each_kind_from_the_first_millisecond(instance: Path, count: int) -> None:
    for answers in starts(instance, count):
        assert [each for each in answers if each[1] != 200] == []
        assert len(answers) == 3 * len(KINDS)
