"""How long an ingestion takes against plain ``xarray.to_zarr`` of the same file with the same chunks, in one run.

    python benchmarks/ingest.py [--write docs/performance.md]

Ours does more: the source is scanned and hashed, both sides of the gate are confined processes, every chunk is decoded again
and compared with what was read, minima and maxima are measured, every object hashed, and all of it synced to the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np
import psutil

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
print(time.perf_counter() - began, time.process_time() - cpu)
"""


@dataclass(frozen=True)
class Case:
    name: str
    shape: tuple[int, int, int]
    deflate: bool


CASES = (
    Case("3650 × 361 × 72, NetCDF-4 deflate", (3650, 361, 72), True),
    Case("3650 × 361 × 72, NetCDF-4 as is", (3650, 361, 72), False),
    Case("366 × 62 × 68, NetCDF-4 deflate", (366, 62, 68), True),
)


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


@dataclass(frozen=True)
class Clock:
    """Wall and CPU seconds of this process, its children, and those of the gate's template."""

    template: int

    def now(self) -> tuple[float, float]:
        own, theirs = os.times(), psutil.Process(self.template).cpu_times()
        children = theirs.children_user + theirs.children_system
        return time.perf_counter(), own.user + own.system + own.children_user + own.children_system + children

    def since(self, before: tuple[float, float]) -> tuple[float, float]:
        wall, cpu = self.now()
        return wall - before[0], cpu - before[1]


def run(case: Case, folder: Path, gate: ConfinedGate, clock: Clock, repeat: int) -> list[tuple[float, float]]:
    """Return the medians of plain, write, measure and publish, wall and CPU seconds each."""
    source, target = folder / "source.nc", folder / "plain.zarr"
    make(source, case)
    engine, lister = zarr.Writer(folder / "data"), zarr.Lister(folder / "data")
    rows = []
    for _ in range(repeat):
        staging, _ = engine.stage(secrets.token_hex(16), "benchmark", secrets.token_hex(16))
        engine.begin(staging)
        before = clock.now()
        written = gate.write(WriteRequest(sources=(source,), target=staging.new))
        wrote = clock.since(before)
        before = clock.now()
        measured = gate.measure(staging.new, written)
        judged = clock.since(before)
        before = clock.now()
        engine.assemble(staging)
        engine.sync(staging)
        engine.publish(staging)
        published = clock.since(before)
        engine.clear(staging)
        chunks = {each.name: each.chunks for each in measured.description.variables}
        command = [sys.executable, "-c", PLAIN, str(source), str(target), json.dumps(chunks)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        wall, cpu = said.stdout.split()
        rows.append(((float(wall), float(cpu)), wrote, judged, published))
        shutil.rmtree(target)
        lister.drop(staging.dataset_id, staging.version_id)
    source.unlink()
    return [
        (statistics.median(w for w, _ in column), statistics.median(c for _, c in column)) for column in zip(*rows, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    lines = [
        HEADING,
        "",
        f"`{COMMAND}`: median of {options.repeat}, CPython {platform.python_version()}, 2 cores shared with other work.",
        "*Plain* is `xarray.to_zarr` of the same file with the same chunks, without hash, check or sync; *write*, *measure* and",
        "*publish* are the two children and the engine's steps 9 to 12. CPU seconds tell more than the clock on a shared machine.",
        "",
        "| source | MB | plain s (CPU) | write s (CPU) | measure s (CPU) | publish s (CPU) "
        "| write / plain (CPU) | all / plain (CPU) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with confined() as children, tempfile.TemporaryDirectory() as folder:
        gate, clock = ConfinedGate(children), Clock(children.template_pid())
        for case in CASES:
            plain, *ours = run(case, Path(folder), gate, clock, options.repeat)
            whole = (sum(wall for wall, _ in ours), sum(cpu for _, cpu in ours))
            times = [f"{wall:.2f} ({cpu:.2f})" for wall, cpu in (plain, *ours)]
            ratios = [f"{each[0] / plain[0]:.2f} ({each[1] / plain[1]:.2f})" for each in (ours[0], whole)]
            lines.append(f"| {' | '.join([case.name, f'{4e-6 * np.prod(case.shape):.0f}', *times, *ratios])} |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if options.write is None:
        print(text)
        return
    page = options.write.read_text() if options.write.exists() else "# Performance\n"
    head, found, tail = page.partition(f"{HEADING}\n")
    rest = tail.partition("\n## ")
    after = f"\n## {rest[2]}" if rest[1] else ""
    options.write.write_text((head if found else f"{page.rstrip()}\n\n") + text + after)


if __name__ == "__main__":
    main()
