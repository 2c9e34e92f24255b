"""What a sync plan costs by how many datasets there are; sources are not asked.

    python benchmarks/syncplan.py [--write docs/performance.md]

One dataset of a template is ingested; its rows are copied, so that a catalog of any size follows the source. Each plan is of
another dataset and has its answer compared: one day more is due. Every tenth dataset has a template of its own.
"""

from __future__ import annotations

import copy
import os
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from report import arguments, report

import cubeport
from cubeport.catalog.forms.canonical import new_id
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.state import VERSION

HEADING = "## Sync plans"
COMMAND = "python benchmarks/syncplan.py --write docs/performance.md"
TEMPLATE = """\
id: {id}
title: Days
period_type: daily
source: {{kind: files, paths: {path}}}
sync: {{kind: temporal, execution: append}}
"""


def instance(root: Path, count: int) -> None:
    """Make an instance of *count* datasets that follow the files of one template each ten."""
    prepare(root, allow_roots=(str(root.parent),))
    axes = {"time": ("time", [0, 1], {"units": "days since 2024-01-01"}), "lat": [0.0, 1.0], "lon": [0.0, 1.0]}
    data = xr.Dataset({"t": (("time", "lat", "lon"), np.zeros((2, 2, 2), "f4"))}, axes)
    data.lat.attrs, data.lon.attrs = {"standard_name": "latitude"}, {"standard_name": "longitude"}
    data.to_netcdf(root.parent / "days.nc")
    for number in range(0, count, 10):
        template = TEMPLATE.format(id=f"t{number:06}", path=root.parent / "days.nc")
        (root / f"config/datasets/t{number:06}.yaml").write_text(template)
    with cubeport.connect(root) as service:
        done = service.ingest_here(IngestionRequest.model_validate({"dataset_id": "t000000", "start": "2024-01-01"}), FileOptions())
        assert done.status == "completed", done.error
    with cubeport.Catalog.open(root) as catalog:
        seed = catalog.backend.get_by_key("t000000")
        assert seed is not None
        row = catalog.rows.get(VERSION, seed.metadata["dataset"]["latest"])
        digests = {each.id: each.digest() for each in service_templates(root)}
        for start in range(1, count, 500):
            with catalog.backend.transaction():
                for number in range(start, min(start + 500, count)):
                    clone(catalog, seed, row, number, digests)


def service_templates(root: Path) -> list[Any]:
    with cubeport.connect(root) as service:
        return list(service.templates().values())


def clone(catalog: Any, seed: Any, row: Any, number: int, digests: dict[str, str]) -> None:
    dataset_id, version_id, record_id, template = f"d{number:06}", new_id(), new_id(), f"t{number // 10 * 10:06}"
    metadata = copy.deepcopy(dict(seed.metadata))
    metadata["dataset"]["texts"] |= {"dataset_id": dataset_id}
    metadata["dataset"] |= {"latest": version_id, "head": version_id}
    metadata["dataset"] |= {"source_dataset_id": template, "template_digest": digests[template]}
    catalog.backend.add_record(seed.replace(id=record_id, key=dataset_id, metadata=metadata, version=1))
    document = {**row.document, "version_id": version_id}
    catalog.rows.put(type(row)(VERSION, version_id, document, record_id, row.state, row.seq))


def measured(root: Path, count: int, rounds: int) -> tuple[float, float]:
    """Return the medians of the time and of the processor's, in ms."""
    chosen, took = random.Random(3), []
    with cubeport.connect(root) as service:
        for _ in range(rounds + 3):
            dataset_id = f"d{chosen.randrange(1, count):06}"
            began, cpu = time.perf_counter(), time.process_time()
            plan = service.sync_plan(dataset_id, end="2024-01-03")
            took.append(((time.perf_counter() - began) * 1e3, (time.process_time() - cpu) * 1e3))
            assert (plan.action, plan.delta_start, plan.period_count) == ("append", "2024-01-03", 1), plan
    wall, of_cpu = zip(*took[3:], strict=True)
    return statistics.median(wall), statistics.median(of_cpu)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--datasets", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    lines = ["| datasets | templates | a plan, ms | of which CPU |", "|--:|--:|--:|--:|"]
    for count in options.datasets:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "instance"
            instance(root, count)
            wall, cpu = measured(root, count, options.rounds)
        lines.append(f"| {count:,} | {(count + 9) // 10:,} | {wall:.1f} | {cpu:.1f} |")
        print(lines[-1], flush=True)
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    table = "\n".join([*lines, "", f"Median of {options.rounds}. Python {platform.python_version()}, {load}."])
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
