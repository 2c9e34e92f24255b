"""What it costs to find that a file has only steps that the dataset has, with equal values: nothing to do.

    python benchmarks/overlap.py [--write docs/performance.md]

Every value of both is read and compared. The children that do it may use ``gate.memory_bytes``, of which Python and the libraries
take 450 MiB. The last line has one other value, in its last step, which is refused.
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path

import netCDF4
import numpy as np
import psutil
from clock import Spent, now
from ingest import Peak
from report import arguments, report

import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

HEADING = "## Steps that are there already"
COMMAND = "python benchmarks/overlap.py --write docs/performance.md"
MEMORY = 490 << 20
"""``gate.memory_bytes``: what Python and the libraries take, and a tenth of the largest source."""
SIDE = 512
"""Cells along each side of a map of 1 MiB."""


def save(path: Path, steps: int, title: str, *, other: bool = False) -> FileOptions:
    """Write *steps* maps of noise, deflated; with *other*, the last value of all is another one."""
    random = np.random.default_rng(7)
    with netCDF4.Dataset(path, "w") as file:
        file.title = title
        sizes = {"time": steps, "lat": SIDE, "lon": SIDE}
        units = {"time": "days since 2000-01-01", "lat": "degrees_north", "lon": "degrees_east"}
        for name, size in sizes.items():
            file.createDimension(name, size)
            labels = file.createVariable(name, "f8", (name,))
            labels[:], labels.units = np.arange(size) * (1 if name == "time" else 0.1), units[name]
        field = file.createVariable("t", "f4", tuple(sizes), zlib=True, complevel=1, chunksizes=(1, SIDE, SIDE))
        field.units = "K"
        for step in range(steps):
            values = random.normal(280, 8, (SIDE, SIDE)).astype("f4").round(1)
            if other and step == steps - 1:
                values[-1, -1] += 1
            field[step] = values
    return FileOptions(files=(str(path),))


def measure(folder: Path, steps: int, *, other: bool) -> str:
    root = folder / "instance"
    prepare(root)
    with cubeport.connect(root, gate__memory_bytes=MEMORY) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="x"), save(folder / "held.nc", steps, "first"))
        assert done.status == "completed", done.error
        again = save(folder / "again.nc", steps, "second", other=other)
        [template] = psutil.Process().children()
        with Peak(template.pid) as peak:
            began = now()
            done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), again)
            spent: Spent = now() - began
    kind = "refused (overlap)" if done.error is not None else "nothing to do" if done.reused else "a version"
    assert kind == ("refused (overlap)" if other else "nothing to do"), done
    mib = (folder / "again.nc").stat().st_size / 2**20
    return f"| {steps:,} | {mib:,.0f} | {kind} | {spent.wall:.1f} | {spent.cpu:.1f} | {peak.bytes / 2**20:.0f} |"


def main() -> None:
    parser = arguments(__doc__)
    options = parser.parse_args()
    lines = ["| maps of 1 MiB | file, MiB | answer | s | CPU s | child, MiB |", "|---:|---:|---|---:|---:|---:|"]
    for steps, other in ((4, False), (40, False), (400, False), (400, True)):
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measure(Path(folder), steps, other=other))
        print(lines[-1], flush=True)
    told = (
        "The file has steps that the dataset already has. "
        f"`gate.memory_bytes` is {MEMORY >> 20} MiB: {MEMORY - (450 << 20) >> 20} MiB more than Python and the libraries take.\n"
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}."
    )
    table = "\n".join([*lines, "", told])
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
