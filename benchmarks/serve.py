"""Server CPU per request for the bytes of a Zarr store: ours, alone and behind nginx, nginx, and Starlette's ``FileResponse``.

    python benchmarks/serve.py [--write docs/performance.md]

All serve the same files of one ingested version over one kept connection; ours also reads the catalog at each request. CPU
is that of the server's threads (``/proc/*/schedstat``), so neither the client nor a busy machine counts. A second table has what a
client sees: the median wait of Python's own HTTP client, and of opening the whole store by xarray, in rounds that alternate between
the servers; a ratio is the median of those of the rounds. nginx is needed in PATH.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import netCDF4
import numpy as np
import xarray as xr
from report import arguments, report

HEADING = "## Serving bytes"
COMMAND = "python benchmarks/serve.py --write docs/performance.md"

STARLETTE = """
import sys
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
from cubeport.server import run

root = Path(sys.argv[1])

async def file(request):
    return FileResponse(root / request.path_params["key"])

bound = run.bind("127.0.0.1", 0)
run.serve(Starlette(routes=[Route("/{key:path}", file)]), [bound], ready=lambda: print(run.address(bound), flush=True))
"""

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; types {{ application/json json; }}
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True)
class Served:
    name: str
    address: tuple[str, int]
    prefix: str
    process: int
    behind: int | None = None
    """A second process that works for the request."""


@dataclass(frozen=True)
class Case:
    name: str
    key: str
    header: str = ""
    conditional: bool = False


CASES = (
    Case("metadata (`zarr.json` of the root)", "zarr.json"),
    Case("the same, held by the client: 304", "zarr.json", conditional=True),
    Case("a chunk of about 340 kB", "field/c/0/0/0"),
    Case("its last 4 kB by a suffix range", "field/c/0/0/0", header="Range: bytes=-4096"),
)


class Connection:
    """One kept connection that reads whole answers and keeps nothing."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._socket = socket.create_connection(served.address, timeout=10)
        self._buffer = bytearray(1 << 20)

    def get(self, key: str, headers: str = "") -> tuple[int, dict[str, str], int]:
        extra = f"{headers}\r\n" if headers else ""
        self._socket.sendall(f"GET {self._served.prefix}/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}\r\n".encode())
        have = self._take(0)
        while (end := self._buffer.find(b"\r\n\r\n", 0, have)) < 0:
            have += self._take(have)
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status = int(lines[0].split(" ")[1])
        length = 0 if status == 304 else int(fields["content-length"])
        left = length - (have - end - 4)
        while left > 0:
            left -= self._take(0)
        return status, fields, length

    def _take(self, at: int) -> int:
        count = self._socket.recv_into(memoryview(self._buffer)[at:])
        if not count:
            raise ConnectionError(f"{self._served.name} closed the connection")
        return count


def cpu_ns(process: int) -> int:
    """Return the time on a processor of all threads of a process."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{process}/task").iterdir())


def working(served: Served) -> int:
    """Return the processor time of everything that answers."""
    return cpu_ns(served.process) + (cpu_ns(served.behind) if served.behind is not None else 0)


def measure(served: Served, case: Case, requests: int) -> tuple[float, float]:
    """Return microseconds of server CPU, and of waiting, a request."""
    connection = Connection(served)
    headers = case.header
    status, fields, length = connection.get(case.key, headers)
    if case.conditional:
        headers = f"If-None-Match: {fields['etag']}"
        status, _, length = connection.get(case.key, headers)
        assert status == 304, (served.name, status)
    elif case.header:
        assert (status, length) == (206, 4096), (served.name, status)
    else:
        assert status == 200, (served.name, status)
    for _ in range(requests // 5):
        connection.get(case.key, headers)
    cpu, clock = working(served), time.perf_counter()
    for _ in range(requests):
        connection.get(case.key, headers)
    return (working(served) - cpu) / requests / 1e3, (time.perf_counter() - clock) / requests * 1e6


BLOCK = 50
"""How many requests in a row are sent to one server within a round."""


def waits(everyone: list[Served], case: Case, rounds: int) -> dict[str, list[float]]:
    """Return the median wait of a client of each server in each round, in microseconds."""
    clients = {each.name: (each, http.client.HTTPConnection(*each.address, timeout=10)) for each in everyone if can(each, case)}
    asked: dict[str, dict[str, str]] = {}
    bodies = set()
    for name, (served, client) in clients.items():
        headers = dict([case.header.split(": ", 1)]) if case.header else {}
        answer, body = fetched(client, served, case, headers)
        bodies.add(body)
        asked[name] = {"If-None-Match": answer.headers["ETag"]} if case.conditional else headers
        assert answer.status == (206 if case.header else 200), (name, answer.status)
    assert len(bodies) == 1, f"{case.name}: the servers' bytes differ"
    found: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(rounds + 1):
        for name, (served, client) in clients.items():
            each = []
            for _ in range(BLOCK):
                began = time.perf_counter()
                answer, _ = fetched(client, served, case, asked[name])
                each.append(time.perf_counter() - began)
                assert answer.status == (304 if case.conditional else 206 if case.header else 200), (name, answer.status)
            if number:  # the first round warms
                found[name].append(statistics.median(each) * 1e6)
    return found


def fetched(
    client: http.client.HTTPConnection, served: Served, case: Case, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, bytes]:
    client.request("GET", f"{served.prefix}/{case.key}", headers=headers)
    answer = client.getresponse()
    return answer, answer.read()


def openings(everyone: list[Served], root: Path, rounds: int) -> dict[str, list[float]]:
    """Return how long xarray takes to open the store of each server, in each round, in microseconds. The values are compared."""
    whole = xr.open_zarr(root).load()
    found: dict[str, list[float]] = {each.name: [] for each in everyone if "Starlette" not in each.name}
    for number in range(rounds + 1):
        for each in everyone:
            if each.name not in found:
                continue  # it answers 500 for what is absent
            began = time.perf_counter()
            cube = xr.open_zarr(f"http://{each.address[0]}:{each.address[1]}{each.prefix}", chunks=None)
            if number:
                found[each.name].append((time.perf_counter() - began) * 1e6)
            else:
                xr.testing.assert_identical(cube.load(), whole)
    return found


def make_instance(folder: Path, python: str = sys.executable) -> tuple[Path, Path]:
    """Ingest a field of noise, whose chunks compress to about 340 kB, by that *python*; return the instance and the served tree."""
    source = folder / "noise.nc"
    rng = np.random.default_rng(1)
    with netCDF4.Dataset(source, "w") as made:
        for name, size in (("time", 8), ("lat", 256), ("lon", 344)):
            made.createDimension(name, size)
        time_, lat, lon = (made.createVariable(name, "f8", (name,)) for name in ("time", "lat", "lon"))
        time_.units, time_.standard_name = "days since 2020-01-01", "time"
        lat.units, lon.units = "degrees_north", "degrees_east"
        time_[:], lat[:], lon[:] = np.arange(8), np.linspace(-80, 80, 256), np.linspace(0, 343, 344)
        field = made.createVariable("field", "f4", ("time", "lat", "lon"))
        field[:] = rng.normal(size=(8, 256, 344)).astype("f4")
    instance = folder / "instance"
    command([python, "-m", "cubeport", "init", str(instance)])
    chunks = json.dumps({"time": 1, "lat": 256, "lon": 344})
    command([python, "-m", "cubeport", "ingest", str(source), "--id", "noise", "--chunks", chunks, "--instance", str(instance)])
    [root] = instance.glob("data/store/noise/*/cube.zarr")
    return instance, root


def command(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True, capture_output=True, env=environment())


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a server as a user has it: with bytecode kept, or the compiler would fill its memory."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | changes


@contextmanager
def started(arguments: list[str], **options: object) -> Iterator[subprocess.Popen[str]]:
    options.setdefault("env", environment())
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def ours(instance: Path, version: str) -> Iterator[list[Served]]:
    arguments = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(instance)]
    with started(arguments, env=environment(CUBEPORT_JOBS__WORKERS="1")) as process:
        address = announced(process)
        yield [
            Served("cubeport", address, f"/zarr/noise@{version}", process.pid),
            Served("cubeport, plain id", address, "/zarr/noise", process.pid),
        ]


@contextmanager
def starlette(root: Path) -> Iterator[Served]:
    with started([sys.executable, "-c", STARLETTE, str(root)]) as process:
        yield Served("Starlette FileResponse", announced(process), "", process.pid)


def announced(process: subprocess.Popen[str]) -> tuple[str, int]:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://(127\.0\.0\.1):(\d+)", line):
            return found[1], int(found[2])
    raise RuntimeError("the server did not start")


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    (folder / "nginx.conf").write_text(f"user root;\n{NGINX}".format(folder=folder, port=port, root=root))
    with started(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]) as process:
        wait_for(port)
        yield Served("nginx", ("127.0.0.1", port), "", process.pid)


@contextmanager
def recipe(mine: Served, store: Path, folder: Path, *, metadata_too: bool = False) -> Iterator[Served]:
    """Serve by the first configuration of docs/serving.md in front of ours, or by the one that sends metadata too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
    block, instead, _ = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    if metadata_too:
        block = re.sub(r"    location ~ .*?\n    }\n", lambda _: instead, block, flags=re.DOTALL)
    block = block.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{mine.address[1]}")
    block = block.replace("/srv/instance/data/store/", f"{store}/")
    paths = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"user root; daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}"
    (folder / "nginx.conf").write_text(f"{head}\nhttp {{ access_log off; keepalive_requests 1000000; {paths}\n{block} }}")
    with started(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]) as process:
        wait_for(port)
        yield Served(
            "behind nginx, metadata too" if metadata_too else "cubeport behind nginx",
            ("127.0.0.1", port),
            mine.prefix,
            process.pid,
            mine.process,
        )


def wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


def run(requests: int, rounds: int) -> str:
    if shutil.which("nginx") is None:
        raise SystemExit("nginx is not in PATH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        instance, root = make_instance(folder)
        with (
            ours(instance, root.parent.name) as mine,
            starlette(root) as theirs,
            nginx(root, folder / "nginx") as plain,
            recipe(mine[0], root.parents[2], folder / "recipe") as behind,
            recipe(mine[0], root.parents[2], folder / "static", metadata_too=True) as static,
        ):
            everyone = [*mine, behind, static, plain, theirs]
            seen = {case.name: waits(everyone, case, rounds) for case in CASES}
            seen["`xarray.open_zarr` of the whole store"] = openings(everyone, root, rounds)
            results = {case: {each.name: measure(each, case, requests) for each in everyone if can(each, case)} for case in CASES}
            size = len(httpx.get(f"http://{plain.address[0]}:{plain.address[1]}/field/c/0/0/0").content)
    names = [each.name for each in everyone]
    lines = [
        f"| server CPU a request, µs (in brackets: answered after, µs) | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(f"| {case.name} | {' | '.join(shown(found.get(each)) for each in names)} |" for case, found in results.items()),
    ]
    lines += [
        "",
        f"| a client's wait, p50 µs (in brackets: × nginx) | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
        *(f"| {name} | {' | '.join(beside(found, each) for each in names)} |" for name, found in seen.items()),
    ]
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    return "\n".join(
        [
            *lines,
            "",
            f"{requests} requests each over one connection, {rounds} rounds of {BLOCK}; the chunk has {size:,} bytes. {python}.",
        ]
    )


def can(served: Served, case: Case) -> bool:
    """Starlette's FileResponse never answers 304."""
    return not (case.conditional and "Starlette" in served.name)


def shown(result: tuple[float, float] | None) -> str:
    return "never" if result is None else f"{result[0]:.0f} ({result[1]:.0f})"


def beside(found: dict[str, list[float]], name: str) -> str:
    """Return the median of the rounds, and of their ratios to nginx."""
    if name not in found:
        return "never"
    ratio = statistics.median(ours / theirs for ours, theirs in zip(found[name], found["nginx"], strict=True))
    return f"{statistics.median(found[name]):.0f} ({ratio:.2f})"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    table = run(options.requests, options.rounds)
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
