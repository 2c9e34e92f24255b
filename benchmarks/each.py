"""What it costs to make a dataset of each of many small files, by `cubeport ingest FOLDER --each`.

    python benchmarks/each.py [--write docs/performance.md]

Beside it, in the same run, one process that opens each file with xarray, writes it with ``to_zarr``, reads that back, and syncs
each file and folder, as an ingestion does.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from append import save
from clock import Spent
from report import arguments, report

HEADING = "## Many small files"
COMMAND = "python benchmarks/each.py --write docs/performance.md"

PLAIN = """
import os, sys, warnings
from pathlib import Path
import xarray as xr
warnings.simplefilter("ignore")
for path in sorted(Path(sys.argv[1]).glob("*.nc")):
    target = Path(sys.argv[2]) / f"{path.stem}.zarr"
    with xr.open_dataset(path, decode_cf=False) as opened:
        opened.to_zarr(target, zarr_format=3, consolidated=True)
    with xr.open_zarr(target, decode_cf=False, chunks=None) as opened:
        opened.load()
    for each in (*target.rglob("*"), target):
        descriptor = os.open(each, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
"""


def spent(command: list[str]) -> Spent:
    """Run a command and return what it and its children used."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--files", type=int, default=1_000)
    options = parser.parse_args()
    command = str(Path(sys.executable).with_name("cubeport"))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("files", "one", "plain"):
            (folder / name).mkdir()
        for number in range(options.files):
            save(folder / f"files/f{number:05}.nc", number, 12, (20, 30))
        save(folder / "one/f.nc", 0, 12, (20, 30))
        subprocess.run([command, "init", str(folder / "i")], check=True, stdout=subprocess.DEVNULL)
        ingest = [command, "-i", str(folder / "i"), "-q", "ingest"]
        start = spent([*ingest, str(folder / "one"), "--each"])
        ours = spent([*ingest, str(folder / "files"), "--each"])
        plain = spent([sys.executable, "-c", PLAIN, str(folder / "files"), str(folder / "plain")])
    lines = ["| | s | CPU s | CPU ms a file |", "|---|---:|---:|---:|"]
    for name, each in (("`cubeport ingest FOLDER --each`", ours), ("`to_zarr`, read back and synced", plain)):
        lines.append(f"| {name} | {each.wall:.1f} | {each.cpu:.1f} | {each.cpu / options.files * 1e3:.0f} |")
    lines.append(f"| ratio | {ours.wall / plain.wall:.1f} | {ours.cpu / plain.cpu:.1f} | |")
    told = (
        f"{options.files:,} NetCDF-4 files of 12 maps of 20 × 30 cells. One file alone takes {start.cpu:.1f} s of CPU with the\n"
        f"start of the command. Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}."
    )
    table = "\n".join([*lines, "", told])
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
