"""What adding one step costs, by how many steps are held: the whole ingestion, in one process.

    python benchmarks/append.py [--write docs/performance.md]

Beside it, in the same run, is what cannot be saved: the objects that the new version has for itself (its chunks, the metadata of
each array, and the consolidated metadata), written again with zarr, and each of them and of their folders synced once, one after
another. Reading the source, checking what was written, links to what did not change, and the commit in the catalog are not in it.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr
import zarr
from clock import Spent, now
from report import arguments, report

import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest

HEADING = "## Adding a step"
COMMAND = "python benchmarks/append.py --write docs/performance.md"
CASES = (*(((20, 30), held) for held in (100, 1_000, 10_000, 100_000)), *(((361, 720), held) for held in (100, 1_000)))
"""Tiny maps, which show what a step costs besides its values, and maps of half a degree, as people have them."""


def save(path: Path, first: int, count: int, cells: tuple[int, int]) -> FileOptions:
    """Write *count* hourly maps."""
    values = np.random.default_rng(first).standard_normal((count, *cells), "f4")
    hours = {"units": "hours since 1990-01-01", "standard_name": "time"}
    made = xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(first, first + count), hours),
            "lat": ("lat", np.linspace(-45, 45, cells[0]), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 90, cells[1]), {"units": "degrees_east"}),
        },
    )
    made.to_netcdf(path)
    return FileOptions(files=(str(path),))


@contextmanager
def counted() -> Iterator[list[int]]:
    """Yield the list of descriptors that are synced in the block. Those of the catalog's database and syncfs are not in it."""
    synced: list[int] = []
    sync = os.fsync

    def count(descriptor: int) -> None:
        synced.append(descriptor)
        sync(descriptor)

    with mock.patch("os.fsync", count):
        yield synced


def written_again(version: Path, target: Path) -> tuple[Spent, int]:
    """Write the chunks that only *version* has into *target* with zarr, and sync all. Values are decoded before.

    Return the cost, and how many files and folders were synced.
    """
    old: Any = zarr.open_group(version / "cube.zarr", mode="r")
    parts = []
    for name, array in old.arrays():
        for path in (version / "cube.zarr" / name / "c").rglob("*"):
            if path.is_file() and path.stat().st_nlink == 1:
                index = map(int, path.relative_to(version / "cube.zarr" / name / "c").parts)
                region = tuple(
                    slice(i * n, min((i + 1) * n, size)) for i, n, size in zip(index, array.chunks, array.shape, strict=True)
                )
                parts.append((name, region, array[region]))
    began = now()
    new = zarr.create_group(target)
    arrays = {name: new.create_array(**_like(name, array)) for name, array in old.arrays()}
    for name, region, values in parts:
        arrays[name][region] = values
    zarr.consolidate_metadata(target)
    made = [*target.rglob("*"), target]
    for path in made:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return now() - began, len(made)


def _like(name: str, array: Any) -> dict[str, Any]:
    kept = {"shape": array.shape, "chunks": array.chunks, "dtype": array.dtype, "fill_value": array.fill_value}
    return {"name": name, **kept, "compressors": array.compressors, "filters": array.filters, "attributes": dict(array.attrs)}


def measure(folder: Path, held: int, repeats: int, cells: tuple[int, int]) -> str:
    root = folder / "instance"
    prepare(root)
    with cubeport.connect(root) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="x"), save(folder / "held.nc", 0, held, cells))
        assert done.status == "completed", done.error
        took, floor, syncs, theirs = [], [], 0, 0
        for number in range(repeats + 1):
            new = save(folder / f"{number}.nc", held + number, 1, cells)
            with counted() as synced:
                began = now()
                done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), new)
                took.append(now() - began)
            assert done.status == "completed", done.error
            [version] = root.glob(f"data/store/x/{done.version_id}")
            syncs = len(synced)
            spent, theirs = written_again(version, folder / "again.zarr")
            floor.append(spent)
            shutil.rmtree(folder / "again.zarr")
        newest = service.usage().datasets[0].versions[-1]
    ours, least = middle(took[1:]), middle(floor[1:])
    ratio = ours.cpu / least.cpu
    row = (
        f"{cells[0]} × {cells[1]}",
        f"{held:,}",
        *(f"{each.wall:.2f} ({each.cpu * 1e3:.0f})" for each in (ours, least)),
        f"{syncs} / {theirs}",
        f"{ours.wall / least.wall:.1f} ({ratio:.1f})",
        f"{newest.size_bytes:,}",
        f"{newest.own_bytes:,}",
    )
    return f"| {' | '.join(row)} |"


def middle(spent: list[Spent]) -> Spent:
    return Spent(statistics.median(each.wall for each in spent), statistics.median(each.cpu for each in spent))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    lines = [
        "| cells | steps held | one added, s (CPU ms) | its objects with zarr, s (CPU ms) | syncs | ratio (CPU) "
        "| bytes of the version | of them written for it |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cells, held in CASES:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measure(Path(folder), held, options.repeats, cells))
        print(lines[-1], flush=True)
    told = (
        f"Median of {options.repeats}. If a step is small enough, it is read by a child process that is kept. "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}."
    )
    table = "\n".join([*lines, "", told])
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
