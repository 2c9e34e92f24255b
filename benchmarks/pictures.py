"""The figures of pictures: the first one, that of a page, one that the client holds, curvilinear grids, memory, and changing tiles.

    python benchmarks/pictures.py [--minutes 10] [--tiles 10000] [--write docs/performance.md]

Each server is one process of `cubeport serve`, asked over one kept connection; nginx answers with the same PNG as a file. Cubes
have 0.25° (721 × 1440 cells, 24 steps), with and without overviews, and 300 × 360 cells of a curvilinear grid. In the last part, 8
clients read tiles while the dataset gets a new version each second; every answer is decoded afterwards and compared with the values
of the version that it names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from report import arguments, report  # isort: skip  # the benchmarks next to this one
from serve import Connection, Served, announced, cpu_ns, environment, nginx, started  # isort: skip  # the benchmarks next to this one

HEADING = "## Pictures"
COMMAND = "python benchmarks/pictures.py --write docs/performance.md"
STEPS = 24
DAYS = [f"2020-01-{day:02d}" for day in range(1, STEPS + 1)]
PLACE = {"units": "degrees_north", "standard_name": "latitude"}, {"units": "degrees_east", "standard_name": "longitude"}
GREYS = 16
"""The values of the dataset that changes: each is a grey of its own."""


def waves(steps: int, lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 2, (steps, *np.broadcast_shapes(lat.shape, lon.shape)))
    return (288 - 40 * np.sin(np.radians(lat)) ** 2 + 8 * np.cos(np.radians(3 * lon)) + noise).astype("float32")


def times(steps: int) -> tuple[str, np.ndarray, dict[str, str]]:
    return "time", np.arange(steps), {"units": "days since 2020-01-01", "standard_name": "time"}


def quarter() -> xr.Dataset:
    lat, lon = np.linspace(90, -90, 721), np.arange(-180, 180, 0.25)
    data = {"t": (("time", "lat", "lon"), waves(STEPS, lat[:, None], lon[None]), {"units": "K"})}
    return xr.Dataset(data, {"time": times(STEPS), "lat": ("lat", lat, PLACE[0]), "lon": ("lon", lon, PLACE[1])})


def curvilinear() -> xr.Dataset:
    j, i = np.meshgrid(np.linspace(0, 1, 300), np.linspace(0, 1, 360), indexing="ij")
    lon, lat = -60 + 100 * i + 20 * j * (i - 0.5), 20 + 60 * j + 8 * np.sin(np.pi * i)
    data = {"t": (("time", "y", "x"), waves(STEPS, lat, lon), {"units": "K", "coordinates": "lat lon"})}
    places = {"lat": (("y", "x"), lat, PLACE[0]), "lon": (("y", "x"), lon, PLACE[1])}
    return xr.Dataset(data, {"time": times(STEPS), **places})


def greys(number: int) -> xr.Dataset:
    lat, lon = np.arange(89.5, -90, -1), np.arange(-179.5, 180, 1)
    rows, columns = np.arange(180)[:, None], np.arange(360)[None]
    values = ((rows + 3 * columns + 7 * number) % GREYS).astype("float32")
    places = {"lat": ("lat", lat, PLACE[0]), "lon": ("lon", lon, PLACE[1])}
    return xr.Dataset({"g": (("lat", "lon"), values, {"units": "1"})}, places)


def ingest(service: Any, folder: Path, name: str, data: xr.Dataset, **more: Any) -> str:
    """Publish *data* and return the version."""
    path = folder / f"{name}.nc"
    data.to_netcdf(path)
    done = service.ingest_here(IngestionRequest(dataset_id=name, **more), FileOptions(files=(str(path),)))
    assert done.status == "completed", done.error
    return str(done.version_id)


@contextlib.contextmanager
def server(instance: Path) -> Iterator[Served]:
    arguments = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(instance)]
    with started(arguments, env=environment(CUBEPORT_JOBS__WORKERS="1")) as process:
        yield Served("cubeport", announced(process), "/ogcapi/collections", process.pid)


def tile(name: str, zoom: int, row: int, column: int, day: str | None = None, more: str = "") -> str:
    dated = f"&datetime={day}" if day else ""
    return f"{name}/map/tiles/WebMercatorQuad/{zoom}/{row}/{column}?palette=gray{dated}{more}"


def page(name: str, day: str) -> str:
    return f"{name}/map?width=720&height=360&datetime={day}"


def clock(connection: Connection, key: str) -> float:
    """Return how long a client waits, in ms."""
    began = time.perf_counter()
    status, _, _ = connection.get(key)
    assert status == 200, (key, status)
    return (time.perf_counter() - began) * 1e3


def first(instance: Path) -> tuple[list[float], list[float]]:
    """Return the wait for the first picture after a start, and for the next, of several starts."""
    begun, after = [], []
    for _ in range(5):
        with server(instance) as served:
            connection = Connection(served)
            begun.append(clock(connection, tile("quarter", 2, 1, 2, DAYS[3])))
            after.append(clock(connection, tile("quarter", 2, 1, 2, DAYS[4])))
    return begun, after


def steps(served: Served, keys: list[str], rounds: int = 4) -> tuple[float, float]:
    """Return the median wait and the CPU of a picture in ms, with its chunks in memory. Each shows another step than the last."""
    connection = Connection(served)
    for key in keys:
        clock(connection, key)
    before = cpu_ns(served.process)
    waits = [clock(connection, key) for key in keys * rounds]
    return statistics.median(waits), (cpu_ns(served.process) - before) / 1e6 / len(waits)


def spent(served: Served, key: str) -> float:
    connection = Connection(served)
    before = cpu_ns(served.process)
    clock(connection, key)
    return (cpu_ns(served.process) - before) / 1e6


SETTLED_S = 4.0
"""For 3 s after a commit, and after a start, SQLite is asked whether there is a newer one; then a look at the log's file tells."""


def held(served: Served, folder: Path, key: str) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield waits for a 304 of ours and of nginx in µs, in rounds that alternate, for each place of client and servers.

    Where the scheduler puts a server decides more than what the server does: to wake a processor that is idle takes as long as a
    304 of nginx. So each place is measured by itself, the same for both.
    """
    (folder / "files").mkdir()
    with contextlib.closing(urlopen(served, key)) as answer:
        (folder / "files" / "picture.png").write_bytes(answer.read())
    with nginx(folder / "files", folder / "nginx") as plain:
        sides = []
        for side, wanted in ((served, key), (plain, "picture.png")):
            connection = Connection(side)
            _, fields, _ = connection.get(wanted)
            sides.append((connection, wanted, f"If-None-Match: {fields['etag']}"))
        time.sleep(SETTLED_S)
        allowed = os.sched_getaffinity(0)
        client, *others = sorted(allowed)
        places = [("on the core of the client", client), *(("on another core", each) for each in others[:1])]
        for name, core in places:
            try:
                bind(os.getpid(), {client})
                for side in (served, plain):
                    bind(side.process, {core})
                yield name, *alternately(sides)
            finally:
                for process in (os.getpid(), served.process, plain.process):
                    bind(process, allowed)


def bind(process: int, cores: set[int]) -> None:
    """Let all threads of a process run on these cores only."""
    for task in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def alternately(sides: list[tuple[Connection, str, str]], rounds: int = 30, block: int = 100) -> tuple[list[float], list[float]]:
    """Return the median waits for a 304 of both sides in each round, in µs."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for waits, (connection, wanted, headers) in zip(found, sides, strict=True):
            each = []
            for _ in range(block):
                began = time.perf_counter()
                status, _, _ = connection.get(wanted, headers)
                each.append((time.perf_counter() - began) * 1e6)
                assert status == 304, (wanted, status)
            if number:
                waits.append(statistics.median(each))
    return found


def urlopen(served: Served, key: str) -> Any:
    import urllib.request

    return urllib.request.urlopen(f"http://{served.address[0]}:{served.address[1]}{served.prefix}/{key}")


def memory(instance: Path, count: int) -> tuple[float, float]:
    """Return the resident memory after the first 500 tiles and after *count*, in MiB."""
    rng = random.Random(1)
    with server(instance) as served:
        connection, process = Connection(served), psutil.Process(served.process)
        for number in range(count):
            zoom = rng.randrange(2, 8)
            clock(connection, tile("quarter", zoom, rng.randrange(2**zoom), rng.randrange(2**zoom), rng.choice(DAYS)))
            if number == min(500, count - 1):
                begun = process.memory_info().rss / 2**20
        return begun, process.memory_info().rss / 2**20


# --- tiles of a dataset that changes ----------------------------------------------------------------------------------------


@dataclasses.dataclass
class Seen:
    statuses: Counter[int]
    answers: Counter[tuple[str, int, int, int, bytes]]
    """By version, tile and picture."""
    waits: list[float]


def read(served: Served, seed: int, until: float, seen: Seen) -> None:
    import http.client

    rng, client = random.Random(seed), http.client.HTTPConnection(*served.address, timeout=60)
    while time.monotonic() < until:
        zoom = rng.randrange(1, 4)
        place = zoom, rng.randrange(2**zoom), rng.randrange(2**zoom)
        began = time.perf_counter()
        client.request("GET", f"{served.prefix}/{tile('greys', *place, more=f'&range=0,{GREYS}&steps={GREYS}')}")
        answer = client.getresponse()
        content = answer.read()
        seen.waits.append(time.perf_counter() - began)
        seen.statuses[answer.status] += 1
        if answer.status == 200:
            seen.answers[answer.headers["Cubeport-Version"], *place, content] += 1


def indices(picture: bytes) -> np.ndarray:
    """Return the palette index of each pixel of a PNG as its specification says."""
    at, data, (width, height) = 8, b"", (0, 0)
    while at < len(picture):
        size, kind = int.from_bytes(picture[at : at + 4], "big"), picture[at + 4 : at + 8]
        body = picture[at + 8 : at + 8 + size]
        assert zlib.crc32(kind + body) == int.from_bytes(picture[at + 8 + size : at + 12 + size], "big"), "a torn picture"
        if kind == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        data += body if kind == b"IDAT" else b""
        at += size + 12
    assert kind == b"IEND"
    rows = np.frombuffer(zlib.decompress(data), "uint8").reshape(height, width + 1)
    assert np.isin(rows[:, 0], (0, 1)).all(), "another filter than None and Sub"
    whole = np.cumsum(rows[:, 1:], axis=1, dtype="uint8")
    return np.where(rows[:, :1] == 1, whole, rows[:, 1:])


def expected(number: int, zoom: int, row: int, column: int) -> np.ndarray:
    """Return the palette index of the cell at the centre of each pixel: 1 is the first grey."""
    pixel = (np.arange(256) + 0.5) / 256
    lon = (column + pixel) / 2**zoom * 360 - 180
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * (row + pixel) / 2**zoom))))
    rows, columns = np.floor(90 - lat).astype(int), np.floor(lon + 180).astype(int)
    return 1 + (rows[:, None] + 3 * columns[None] + 7 * number) % GREYS


def changing(instance: Path, folder: Path, minutes: float, clients: int = 8) -> str:
    versions: dict[str, int] = {}
    seen = [Seen(Counter(), Counter(), []) for _ in range(clients)]
    with cubeport.connect(instance) as service, server(instance) as served:
        numbers = itertools.count()
        number = next(numbers)
        versions[ingest(service, folder, "greys", greys(number))] = number
        process = psutil.Process(served.process)
        until = time.monotonic() + 60 * minutes
        threads = [threading.Thread(target=read, args=(served, n, until, each)) for n, each in enumerate(seen)]
        for thread in threads:
            thread.start()
        sizes = []
        while time.monotonic() < until:
            began = time.monotonic()
            number = next(numbers)
            versions[ingest(service, folder, "greys", greys(number), mode="replace")] = number
            sizes.append(process.memory_info().rss / 2**20)
            time.sleep(max(0.0, 1 - (time.monotonic() - began)))
        for thread in threads:
            thread.join()
    wrong, shown, total = 0, set(), 0
    for each in seen:
        for (version, *place, content), count in each.answers.items():
            total += count
            shown.add(version)
            if not np.array_equal(indices(content), expected(versions[version], *place)):
                wrong += count
    statuses = sum((each.statuses for each in seen), Counter[int]())
    waits = np.sort(np.concatenate([each.waits for each in seen])) * 1e3
    begin, end = statistics.mean(sizes[len(sizes) // 10 : len(sizes) // 5]), statistics.mean(sizes[-len(sizes) // 10 :])
    return (
        f"{clients} clients, {minutes:g} min, {len(versions)} versions ({len(shown)} of which were seen): {total:,} tiles, "
        f"by status {dict(statuses)}; "
        f"{wrong} wrong or torn. p50 {waits[len(waits) // 2]:.1f} ms, p99 {waits[int(len(waits) * 0.99)]:.0f} ms. "
        f"Resident memory {begin:.0f} MiB early, {end:.0f} MiB at the end."
    )


def run(minutes: float, tiles: int) -> str:
    lines = ["| figure | measured | aim |", "|---|--:|--:|"]

    def say(name: str, found: str, wanted: str) -> None:
        lines.append(f"| {name} | {found} | {wanted} |")
        print(lines[-1], flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        instance = folder / "instance"
        cubeport.Catalog.create(instance).close()
        with cubeport.connect(instance) as service:
            # By default, a grid of this size has no overviews yet.
            for dataset, levels in (("quarter", 2), ("plain", "off")):
                ingest(service, folder, dataset, quarter(), template={"layout": {"pyramid": {"levels": levels}}})
            ingest(service, folder, "curvilinear", curvilinear())
        begun, after = first(instance)
        say("the first tile after a start, ms", f"{statistics.median(begun):.0f} ({min(begun):.0f} to {max(begun):.0f})", "≤ 150")
        say("the next tile, ms", f"{statistics.median(after):.1f}", "")
        with server(instance) as served:
            say(
                "curvilinear 300 × 360, first 720 × 360, ms CPU (server just started)",
                f"{spent(served, page('curvilinear', DAYS[0])):.0f}",
                "",
            )
            wide = "curvilinear/map?width=721&height=361&datetime="
            say("its first picture of another size, ms CPU", f"{spent(served, wide + DAYS[0]):.0f}", "≤ 100")
            wait, cpu = steps(served, [page("curvilinear", day) for day in DAYS])
            say("its next step, ms (CPU)", f"{wait:.1f} ({cpu:.1f})", "(≤ 2)")
            small = [f"curvilinear/map?width=256&height=256&datetime={day}" for day in DAYS]
            wait, cpu = steps(served, small)
            say("its next step, 256 × 256, ms (CPU)", f"{wait:.1f} ({cpu:.1f})", "(≤ 2)")
        with server(instance) as served:
            wait, cpu = steps(served, [page("quarter", day) for day in DAYS])
            say("a page's picture, 720 × 360, another step each, ms (CPU)", f"{wait:.1f} ({cpu:.1f})", "≤ 15")
            for zoom, row, column, wanted in ((0, 0, 0, "(≤ 4)"), (2, 1, 2, "(≤ 5)"), (5, 10, 17, "(≤ 2)")):
                wait, cpu = steps(served, [tile("quarter", zoom, row, column, day) for day in DAYS])
                say(f"a tile of zoom {zoom}, another step each, ms (CPU)", f"{wait:.1f} ({cpu:.1f})", wanted)
            for place, ours, theirs in held(served, folder, page("quarter", DAYS[0])):
                ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
                told = f"{statistics.median(ours):.0f}, {statistics.median(theirs):.0f}: {ratio:.2f}"
                say(f"a picture that the client holds (304), {place}, µs; nginx, µs: ratio", told, "≤ 1.5")
        with server(instance) as served:
            wait, cpu = steps(served, [tile("plain", 0, 0, 0, day) for day in DAYS])
            say("a tile of zoom 0 without overviews, another step each, ms (CPU)", f"{wait:.1f} ({cpu:.1f})", "(≤ 25)")
        begin, end = memory(instance, tiles)
        say(f"resident after 500 and after {tiles:,} tiles, MiB", f"{begin:.0f}, {end:.0f}: +{end - begin:.0f}", "≤ +80")
        words = changing(instance, folder, minutes) if minutes else ""
        print(words)
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    told = f"Tiles while the dataset gets a version each second: {words}" if words else ""
    return "\n".join([*lines, "", f"{told} {python}.".strip()])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tiles", type=int, default=10_000)
    options = parser.parse_args()
    table = run(options.minutes, options.tiles)
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
