"""Resident memory of one server process under mixed load, minute by minute, against the aim of its chunk cache and 200 MB.

    python benchmarks/resident.py [--minutes 10] [--clients 8] [--write docs/performance.md]

Clients ask for metadata, chunks, series, boxes as CoverageJSON and NetCDF, lists and searches at random places. *Server* is the
process that answers; *all* adds its template and the children of the moment, shared pages once for each (PSS).
"""

from __future__ import annotations

import http.client
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import psutil
from queries import box, make_instance, point
from report import arguments, report
from serve import announced, started

HEADING = "## Memory under load"
COMMAND = "python benchmarks/resident.py --write docs/performance.md"
CACHE_MB = 256
AIM_MB = CACHE_MB + 200


def addresses(rng: random.Random) -> Iterator[str]:
    """Yield addresses without end."""
    while True:
        area = box(rng)
        yield rng.choice(
            (
                "/zarr/cube/zarr.json",
                f"/zarr/cube/v/c/{rng.randrange(3)}/{rng.randrange(2)}/{rng.randrange(2)}",
                f"/ogcapi/collections/cube/position?{urlencode({**point(rng), 'f': 'covjson'})}",
                f"/ogcapi/collections/cube/cube?{urlencode({**area, 'f': 'covjson'})}",
                f"/ogcapi/collections/cube/cube?{urlencode({**area, 'f': 'netcdf'})}",
                "/stac/collections?limit=50",
                f"/stac/search?bbox={area['bbox']}",
            )
        )


def load(address: tuple[str, int], seed: int, until: float, answers: Counter[int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=120)
    for each in addresses(random.Random(seed)):
        if time.monotonic() > until:
            return
        connection.request("GET", each)
        answer = connection.getresponse()
        answer.read()
        answers[answer.status] += 1


def megabytes(process: psutil.Process) -> tuple[float, float]:
    """Return the resident memory of the server, and the share of the whole tree."""
    whole = 0
    for each in (process, *process.children(recursive=True)):
        try:
            whole += each.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return process.memory_info().rss / 2**20, whole / 2**20


def run(minutes: float, clients: int) -> str:
    answers: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as name:
        instance, _ = make_instance(Path(name))
        arguments = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(instance)]
        with started(arguments) as process:
            address, server = announced(process), psutil.Process(process.pid)
            idle, until = megabytes(server), time.monotonic() + 60 * minutes
            threads = [threading.Thread(target=load, args=(address, n, until, answers)) for n in range(clients)]
            for thread in threads:
                thread.start()
            lines = [f"| idle | {idle[0]:.0f} | {idle[1]:.0f} | |"]
            began = time.monotonic()
            while any(thread.is_alive() for thread in threads):
                time.sleep(min(60.0, max(1.0, until - time.monotonic())))
                found = megabytes(server)
                told = f"{(time.monotonic() - began) / 60:.1f} min"
                lines.append(f"| {told} | {found[0]:.0f} | {found[1]:.0f} | {sum(answers.values()):,} |")
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    words = f"{clients} clients; answers by status: {dict(answers)}. The aim is {CACHE_MB} + 200 = {AIM_MB} MB. {python}."
    return "\n".join(["| after | server, MB | all, MB | answers |", "|---|--:|--:|--:|", *lines, "", words])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    table = run(options.minutes, options.clients)
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
