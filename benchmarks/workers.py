"""How much faster the workers of a Dask cluster ingest many files than the server alone, in one run, and that the bytes are equal.

    python benchmarks/workers.py [--files 24] [--workers 2] [--write docs/performance.md]

The server alone, and a scheduler with workers on the same machine, ingest the same files in turn. The server has one core, and so
has each worker, as if they were machines with one core each; the first worker and the server share theirs. A first ingestion
of each is not counted: it starts the processes that the others find. On a machine with other work, compare the seconds of CPU: at
best, it takes those of the server and the part of one worker.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr
from report import arguments, report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import cubeport
import dask_cluster
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

HEADING = "## On a Dask cluster"
COMMAND = "python benchmarks/workers.py --write docs/performance.md"
DAYS, LAT, LON = 30, 361, 720


def make(folder: Path, count: int) -> tuple[str, ...]:
    """Write files of thirty days that compress about as real temperatures do."""
    found = []
    for number in range(count):
        values = 285 + np.random.default_rng(number).normal(scale=2, size=(DAYS, LAT, LON)).round(1)
        cube = xr.Dataset(
            {"t2m": (("time", "lat", "lon"), values.astype("float32"), {"units": "K"})},
            coords={
                "time": ("time", DAYS * number + np.arange(DAYS), {"units": "days since 1990-01-01", "standard_name": "time"}),
                "lat": ("lat", np.linspace(-90, 90, LAT), {"units": "degrees_north"}),
                "lon": ("lon", np.arange(LON) * 0.5, {"units": "degrees_east"}),
            },
        )
        path = folder / f"{number:03}.nc"
        cube.to_netcdf(path, encoding={"t2m": {"zlib": True, "complevel": 1, "chunksizes": (1, LAT, LON)}})
        found.append(str(path))
    return tuple(found)


def digest(root: Path, dataset_id: str) -> str:
    [version] = (root / "data/store" / dataset_id).iterdir()
    return hashlib.sha256((version / "manifest.json").read_bytes()).hexdigest()


def cpu_of(process: psutil.Process) -> float:
    """Return the seconds of CPU of a process, its children, and those of its children that have ended."""
    own = process.cpu_times()
    return own.user + own.system + own.children_user + own.children_system + sum(cpu_of(each) for each in process.children())


def shares(cluster: dask_cluster.Cluster) -> dict[str, float]:
    """Return the seconds of CPU of this process without scheduler and workers, which are its children, and of all workers."""
    workers, scheduler = (sum(cpu_of(psutil.Process(each.pid)) for each in own) for own in (cluster.workers, [cluster.scheduler]))
    return {"server CPU": cpu_of(psutil.Process()) - workers - scheduler, "CPU of all workers": workers}


def timed(service: Any, dataset_id: str, files: tuple[str, ...]) -> dict[str, float]:
    """Return the seconds of each phase, and of all."""
    began = time.perf_counter()
    phases: list[tuple[str, float]] = []

    def listener(phase: str, *_: int) -> None:
        if not phases or phases[-1][0] != phase:
            phases.append((phase, time.perf_counter()))

    done = service.ingest_here(IngestionRequest(dataset_id=dataset_id), FileOptions(files=files), listener=listener)
    assert done.status == "completed", done.error
    ends = [at for _, at in phases[1:]] + [time.perf_counter()]
    found = {"all": time.perf_counter() - began}
    for (name, at), end in zip(phases, ends, strict=True):
        found[name] = found.get(name, 0.0) + end - at
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--unit-bytes", type=int, default=256 * 2**20)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make(folder, options.files)
        megabytes = sum(Path(each).stat().st_size for each in files) / 1e6
        for each in ("alone", "dask"):
            prepare(folder / each)
        found: dict[str, list[dict[str, float]]] = {"alone": [], "dask": []}
        os.sched_setaffinity(0, cores[:1])
        with dask_cluster.running(folder / "cluster", 0) as cluster:
            for number in range(options.workers):
                cluster.add("taskset", "--cpu-list", str(cores[number % len(cores)]))
            cluster.wait(options.workers)
            dask = {"executor": "dask", "dask_address": cluster.address, "unit_bytes": options.unit_bytes}
            settings = {"alone": {}, "dask": {f"jobs__{key}": value for key, value in dask.items()}}
            with (
                cubeport.connect(folder / "alone") as alone,
                cubeport.connect(folder / "dask", **settings["dask"]) as shared,
            ):
                for number in range(options.repeat + 1):
                    for name, service in (("alone", alone), ("dask", shared)):
                        before = shares(cluster)
                        seconds = timed(service, f"d{number}", files)
                        seconds |= {each: after - before[each] for each, after in shares(cluster).items()}
                        print(name, {key: round(value, 2) for key, value in seconds.items()}, file=sys.stderr)
                        if number:
                            found[name].append(seconds)
                    assert digest(folder / "alone", f"d{number}") == digest(folder / "dask", f"d{number}")
    middle = {name: {phase: statistics.median(row[phase] for row in rows) for phase in rows[0]} for name, rows in found.items()}
    decoded = 4e-6 * options.files * DAYS * LAT * LON
    shown = ("all", "checking", "writing", "measuring", "server CPU", "CPU of all workers")
    lines = [
        f"{options.files} NetCDF-4 files of {megabytes:.0f} MB together ({decoded:.0f} MB decoded),",
        f"{options.workers} workers and the server with one core each, units of {options.unit_bytes / 2**20:.0f} MiB at most;"
        f" median of {options.repeat},",
        f"CPython {platform.python_version()}, {os.cpu_count()} cores at load {os.getloadavg()[0]:.0f}. The manifests are equal.",
        "",
        "| seconds | " + " | ".join(shown) + " | faster |",
        "|---" + "|--:" * (len(shown) + 1) + "|",
        *(
            f"| {name} | {' | '.join(f'{row[phase]:.2f}' for phase in shown)} | {middle['alone']['all'] / row['all']:.2f} |"
            for name, row in middle.items()
        ),
    ]
    report("\n".join(lines), options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
