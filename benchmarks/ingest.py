"""How long an ingestion takes against plain ``xarray.to_zarr`` of the same file with the same chunks, in one run.

    python benchmarks/ingest.py [--write docs/performance.md]

Ours does more: the source is scanned and hashed, both sides of the gate are confined processes, every chunk is decoded again
and compared with what was read, minima and maxima are measured, every object hashed, and all of it synced to the disk.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import netCDF4
import numpy as np
import psutil
from clock import Spent, now
from report import arguments, report

from cubeport.adapters.engines import zarr
from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.gate.tasks import confined
from cubeport.cubes.write_request import WriteRequest

HEADING = "## Ingest"
COMMAND = "python benchmarks/ingest.py --write docs/performance.md"

PLAIN = """
import sys, time, warnings, json
import xarray as xr, zarr
began, cpu = time.perf_counter(), time.process_time()
source, target, chunks = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with xr.open_dataset(source, decode_cf=False) as opened:
        opened.to_zarr(target, zarr_format=3, consolidated=True, encoding={n: {"chunks": tuple(c)} for n, c in chunks.items()})
wrote, of_cpu = time.perf_counter(), time.process_time()
print(wrote - began, of_cpu - cpu)
group = zarr.open_group(target, mode="r")
for name, lengths in chunks.items():
    array, step = group[name], lengths[0] if lengths else 1
    for first in range(0, array.shape[0] if lengths else 1, step):
        array[first : first + step] if lengths else array[...]
print(time.perf_counter() - wrote, time.process_time() - of_cpu)
"""


@dataclass(frozen=True)
class Case:
    shape: tuple[int, int, int]
    deflate: bool

    @property
    def name(self) -> str:
        return f"{' × '.join(map(str, self.shape))}, NetCDF-4 {'deflate' if self.deflate else 'as is'}"

    @property
    def file(self) -> str:
        return f"{'-'.join(map(str, self.shape))}-{self.deflate}.nc"

    @property
    def bytes(self) -> int:
        return 4 * math.prod(self.shape)


CASES = {
    "deflate": Case((3650, 361, 72), deflate=True),
    "as-is": Case((3650, 361, 72), deflate=False),
    "small": Case((366, 62, 68), deflate=True),
    "large": Case((3650, 721, 144), deflate=True),
}


def make(path: Path, case: Case) -> None:
    """Write a daily field that compresses about as real temperatures do."""
    times, rows, columns = case.shape
    random = np.random.default_rng(4711)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", times), ("lat", rows), ("lon", columns)):
            file.createDimension(name, size)
        for name, values, attributes in (
            ("time", np.arange(times), {"units": "days since 1990-01-01", "calendar": "standard", "standard_name": "time"}),
            ("lat", np.linspace(-90, 90, rows), {"units": "degrees_north", "standard_name": "latitude"}),
            ("lon", np.arange(columns) * 360 / columns, {"units": "degrees_east", "standard_name": "longitude"}),
        ):
            variable = file.createVariable(name, "f8", (name,))
            variable[:] = values
            variable.setncatts(attributes)
        field = file.createVariable(
            "t2m", "f4", ("time", "lat", "lon"), zlib=case.deflate, complevel=1, chunksizes=(min(times, 10), rows, columns)
        )
        field.setncatts({"units": "K", "standard_name": "air_temperature"})
        mean = 285 + 30 * np.cos(np.linspace(-np.pi / 2, np.pi / 2, rows))[None, :, None]
        for start in range(0, times, 100):
            days = np.arange(start, min(start + 100, times))
            season = 8 * np.sin(2 * np.pi * days / 365.25)[:, None, None]
            noise = random.normal(scale=2, size=(len(days), rows, columns)).round(1)
            field[start : start + len(days)] = mean + season + noise


class Peak:
    """The most memory that one child of the gate had, in bytes: looked at every 20 ms."""

    def __init__(self, template: int) -> None:
        self._template = psutil.Process(template)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for each in self._template.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.bytes = max(self.bytes, each.memory_info().rss)


def run(case: Case, folder: Path, sources: Path, gate: ConfinedGate, repeat: int) -> list[Spent]:
    """Return the medians of plain, its read-back, write, measure and publish."""
    source, target = sources / case.file, folder / "plain.zarr"
    if not source.exists():
        make(source, case)
    engine, lister = zarr.Writer(folder / "data"), zarr.Lister(folder / "data")
    rows = []
    for _ in range(repeat):
        staging, _ = engine.stage(secrets.token_hex(16), "benchmark", secrets.token_hex(16))
        engine.begin(staging)
        began = now()
        written = gate.write(WriteRequest(sources=(source,), target=staging.new))
        wrote = now()
        measured = gate.measure(staging.new, written)
        judged = now()
        engine.assemble(staging)
        engine.sync(staging)
        engine.publish(staging)
        published = now()
        engine.clear(staging)
        chunks = {each.name: each.chunks for each in measured.description.variables}
        command = [sys.executable, "-c", PLAIN, str(source), str(target), json.dumps(chunks)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        plain = [Spent(*each) for each in itertools.batched(map(float, said.stdout.split()), 2)]
        rows.append((*plain, wrote - began, judged - wrote, published - judged))
        shutil.rmtree(target)
        lister.drop(staging.dataset_id, staging.version_id)
    return [
        Spent(statistics.median(each.wall for each in column), statistics.median(each.cpu for each in column))
        for column in zip(*rows, strict=True)
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=["deflate", "as-is", "small"])
    parser.add_argument("--sources", type=Path, help="a folder that keeps the sources for the next run")
    options = parser.parse_args()
    lines = [
        "| source | MB | plain s (CPU) | its read-back s (CPU) | write s (CPU) | measure s (CPU) | publish s (CPU) "
        "| write / plain (CPU) | all / plain with read-back (CPU) | child, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as folder, confined() as children:
        template = children.template_pid()
        for case in map(CASES.__getitem__, options.cases):
            with Peak(template) as peak:
                sources = options.sources or Path(folder)
                plain, read, *ours = run(case, Path(folder), sources, ConfinedGate(children), options.repeat)
            whole, both = sum(ours, Spent(0, 0)), plain + read
            times = [f"{each.wall:.2f} ({each.cpu:.2f})" for each in (plain, read, *ours)]
            ratios = [f"{a.wall / b.wall:.2f} ({a.cpu / b.cpu:.2f})" for a, b in ((ours[0], plain), (whole, both))]
            cells = [case.name, f"{case.bytes / 1e6:,.0f}", *times, *ratios, f"{peak.bytes / 1e6:,.0f}"]
            lines.append(f"| {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    load = f"CPython {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    told = (
        f"Median of {options.repeat}, {load}. *Plain* is `xarray.to_zarr` of the same file with the same chunks, without\n"
        "checksums, checks or syncs; its read-back decodes every chunk again. *Write* and *measure* are the two child processes,\n"
        "and *publish* is the rest, until the version is visible. *Child* is the largest memory of a child process."
    )
    text = "\n".join([*lines, "", told])
    report(text, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
