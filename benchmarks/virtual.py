"""What a version without a copy costs: to publish a file of about 230 MB, and to serve a chunk, beside a copy and in the same run.

    python benchmarks/virtual.py [--write docs/performance.md]

The service of one process ingests the file in turn as a copy, and without one with each kind of verification. Then a server answers
for the same chunk of both, in turn; a figure is the processor time of the server, and the clock, a request.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from report import arguments, report
from serve import Case, Served, announced, measure, started

import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

HEADING = "## Without a copy"
COMMAND = "python benchmarks/virtual.py --write docs/performance.md"
WAYS = {
    "copy": {},
    "virtual, all decoded": {"storage": "virtual"},
    "virtual, a sample": {"storage": "virtual", "verify": "sample"},
}
SHAPE, CHUNKS = (1120, 241, 480), (2, 241, 480)


def make(path: Path) -> None:
    """Write nine months of six-hourly fields that compress about as real temperatures do."""
    random = np.random.default_rng(4711)
    with netCDF4.Dataset(path, "w") as file:
        axes = (
            ("time", np.arange(SHAPE[0]) * 6.0, {"units": "hours since 1990-01-01", "standard_name": "time"}),
            ("lat", np.linspace(-90, 90, SHAPE[1]), {"units": "degrees_north", "standard_name": "latitude"}),
            ("lon", np.arange(SHAPE[2]) * 0.75, {"units": "degrees_east", "standard_name": "longitude"}),
        )
        for name, values, attributes in axes:
            file.createDimension(name, values.size)
            variable = file.createVariable(name, "f8", (name,))
            variable[:] = values
            variable.setncatts(attributes)
        field = file.createVariable("t2m", "f4", ("time", "lat", "lon"), zlib=True, complevel=1, chunksizes=CHUNKS)
        field.setncatts({"units": "K", "standard_name": "air_temperature"})
        mean = 285 + 30 * np.cos(np.linspace(-np.pi / 2, np.pi / 2, SHAPE[1]))[None, :, None]
        for start in range(0, SHAPE[0], 20):
            field[start : start + 20] = mean + random.normal(scale=2, size=(20, *SHAPE[1:])).round(1)


def published(service: Any, source: Path, repeat: int) -> dict[str, float]:
    """Return the median seconds of each way."""
    layout = {"layout": {"chunks": dict(zip(("time", "lat", "lon"), CHUNKS, strict=True))}}
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(repeat):
        for name, how in WAYS.items():
            request = {"dataset_id": f"x{number}-{list(WAYS).index(name)}", "template": layout, **how}
            before = time.perf_counter()
            done = service.ingest_here(IngestionRequest.model_validate(request), FileOptions(files=(str(source),)))
            found[name].append(time.perf_counter() - before)
            assert done.status == "completed", done.error
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def served(instance: Path, requests: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the medians over rounds of server and client microseconds a chunk, of the copy and of the file."""
    arguments = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--no-jobs", "--instance", str(instance)]
    found: dict[str, list[tuple[float, float]]] = {"copy": [], "virtual": []}
    with started(arguments, env={**os.environ, "CUBEPORT_JOBS__WORKERS": "1"}) as process:
        address = announced(process)
        for _ in range(rounds):
            for name, dataset_id in (("copy", "x0-0"), ("virtual", "x0-1")):
                chunk = Case("a chunk", "t2m/c/7/0/0")
                found[name].append(measure(Served(name, address, f"/zarr/{dataset_id}", process.pid), chunk, requests))
    return {name: (statistics.median(c for c, _ in rows), statistics.median(w for _, w in rows)) for name, rows in found.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sources").mkdir()
        source = folder / "sources" / "source.nc"
        make(source)
        instance = folder / "instance"
        prepare(instance)
        (instance / "config" / "service.yaml").write_text(f"sources:\n  roots: [{folder / 'sources'}]\n")
        with cubeport.connect(instance) as service:
            ways = published(service, source, options.repeat)
        sizes = [
            sum(each.stat().st_size for each in (instance / "data/store").glob(f"x0-{n}/**/*") if each.is_file()) for n in (0, 1)
        ]
        chunks = served(instance, options.requests, 5)
        megabytes = source.stat().st_size / 1e6
    decoded, chunk = (4e-6 * np.prod(each) for each in (SHAPE, CHUNKS))
    lines = [
        f"A NetCDF-4 file of {megabytes:.0f} MB ({decoded:.0f} MB decoded) in chunks of {chunk:.1f} MB;",
        f"median of {options.repeat}, CPython {platform.python_version()}, 2 cores at load {os.getloadavg()[0]:.0f}.",
        "The copy has the same chunks as the file. Compare the ratios within one run.",
        "",
        "| to publish | s | of a copy | on the disk |",
        "|---|--:|--:|--:|",
        *(
            f"| {name} | {wall:.2f} | {wall / ways['copy']:.2f} | {sizes[min(n, 1)] / 1e6:.2f} MB |"
            for n, (name, wall) in enumerate(ways.items())
        ),
        "",
        "| to serve a chunk over `/zarr` | server CPU µs | client µs |",
        "|---|--:|--:|",
        *(f"| {name} | {cpu:.0f} | {wall:.0f} |" for name, (cpu, wall) in chunks.items()),
    ]
    report("\n".join(lines), options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
