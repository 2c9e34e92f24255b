"""What adding one step costs, by how many steps are held: the whole ingestion, in one process that keeps its template of children.

    python benchmarks/append.py [--write docs/performance.md]

The bytes written are those of the new version that no other version has: the chunk at the border, the time, the metadata and the
manifest, which lists every object.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr
from serve import write

import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

HEADING = "## Adding a step"
COMMAND = "python benchmarks/append.py --write docs/performance.md"


def save(path: Path, first: int, count: int) -> FileOptions:
    """Write *count* hourly maps of 20 × 30 cells."""
    values = np.random.default_rng(first).standard_normal((count, 20, 30)).astype("f4")
    hours = {"units": "hours since 1990-01-01", "standard_name": "time"}
    made = xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(first, first + count), hours),
            "lat": ("lat", np.linspace(0, 19, 20), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 29, 30), {"units": "degrees_east"}),
        },
    )
    made.to_netcdf(path)
    return FileOptions(files=(str(path),))


def measure(folder: Path, held: int, repeats: int) -> str:
    root = folder / "instance"
    prepare(root)
    with cubeport.connect(root) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="x"), save(folder / "held.nc", 0, held))
        assert done.status == "completed", done.error
        took = []
        for number in range(repeats + 1):
            new = save(folder / f"{number}.nc", held + number, 1)
            began = time.perf_counter()
            done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), new)
            assert done.status == "completed", done.error
            took.append(time.perf_counter() - began)
        newest = service.usage().datasets[0].versions[-1]
    return f"| {held:,} | {statistics.median(took[1:]):.2f} | {newest.size_bytes:,} | {newest.own_bytes:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="*", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = ["| steps held | seconds to add one | bytes of the version | of them written for it |", "|---:|---:|---:|---:|"]
    for held in options.steps:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measure(Path(folder), held, options.repeats))
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    table = "\n".join([*lines, "", f"Maps of 20 × 30 cells; the median of {options.repeats}. {python}."])
    print(table)
    if options.write:
        write(options.write, table, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
