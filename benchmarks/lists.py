"""Server CPU of lists and searches at a few datasets and at many, in one run.

    python benchmarks/lists.py [--sizes 10 100 10000 100000] [--write docs/performance.md]

One small real dataset is ingested; its rows are then copied, each copy with a place and time of its own, so that a server answers
from a catalog of any size. It grows from one size to the next; ratios compare with 100 datasets, which fill each page. CPU is
that of the server's threads (``/proc/*/schedstat``): a busy machine does not count. What is found is compared with the copies that
were made.
"""

from __future__ import annotations

import copy
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import xarray as xr

import cubeport
from cubeport.catalog.backend import Row
from cubeport.catalog.forms.canonical import new_id
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.state import CUBE, VERSION

from report import arguments, report  # isort: skip  # the benchmark next to this one
from serve import cpu_ns  # isort: skip  # the benchmark next to this one

HEADING = "## Lists and searches"
COMMAND = "python benchmarks/lists.py --write docs/performance.md"
BOX = (10.0, 10.0, 14.0, 14.0)
YEAR = 2005

REQUESTS = {
    "`/datasets?limit=50`": "/datasets?limit=50",
    "`/stac/collections?limit=50`": "/stac/collections?limit=50",
    "`/stac/collections?limit=100`": "/stac/collections?limit=100",
    "`/ogcapi/collections?limit=50`": "/ogcapi/collections?limit=50",
    "one collection": "/stac/collections/d000001",
    "its item": "/stac/collections/d000001/items/{item}",
    "its queryables": "/stac/collections/d000001/queryables",
    "`/ogcapi/collections/{id}`": "/ogcapi/collections/d000001",
    "`/datasets/{id}`": "/datasets/d000001",
    "`/datasets/{id}`, the page": "/datasets/d000001?f=html",
    "the landing page": "/?f=html",
    "the landing page, a word searched": "/?f=html&q=seven",
    "`/stac/queryables`": "/stac/queryables",
    "`/ogcapi`": "/ogcapi",
    "`/ogcapi/processes`": "/ogcapi/processes",
    "`/ogcapi/jobs`": "/ogcapi/jobs",
    "`/jobs`": "/jobs",
    "`/records?limit=50`": "/records?limit=50",
    "`/records`, a kind and a word": "/records?limit=10&kind=dataset&q=seven",
    "`/records`, counted": "/records?limit=10&count=true",
    "`/records`, a facet of a field": "/records?limit=10&facets=metadata.dataset.texts.license",
    "`/records`, in the order of a field": "/records?limit=10&sort=metadata.dataset.texts.title",
    "`/records/{id}`": "/records/d000001",
    "`/stac/search?limit=10`": "/stac/search?limit=10",
    "`/stac/search`, a box of 4° and a quarter": f"/stac/search?limit=10&bbox={','.join(map(str, BOX))}"
    f"&datetime={YEAR}-01-01T00:00:00Z/{YEAR}-03-31T00:00:00Z",
    "`/stac/search`, in the order of titles": "/stac/search?limit=10&sortby=title",
    "`/stac/search`, a filter that nothing fits": "/stac/search?limit=10&filter=title%20LIKE%20'%25zz%25'",
    "`/stac/collections`, a filter that nothing fits": "/stac/collections?limit=10&filter=title%20LIKE%20'%25zz%25'",
    "`/stac/collections`, the same box and quarter": f"/stac/collections?limit=10&bbox={','.join(map(str, BOX))}"
    f"&datetime={YEAR}-01-01T00:00:00Z/{YEAR}-03-31T00:00:00Z",
}


def instance(root: Path) -> None:
    """Make an instance of the one dataset that is copied."""
    axes = {"time": ("time", [0, 1], {"units": "days since 2005-01-01"}), "lat": [0.0, 1.0], "lon": [0.0, 1.0]}
    source = root.parent / "small.nc"
    data = xr.Dataset({"t": (("time", "lat", "lon"), np.zeros((2, 2, 2), "f4"))}, axes)
    data.lat.attrs, data.lon.attrs = {"standard_name": "latitude"}, {"standard_name": "longitude"}
    data.to_netcdf(source)
    cubeport.Catalog.create(root).close()
    with cubeport.connect(root) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="seed"), FileOptions(files=(str(source),)))
        assert done.status == "completed", done.error


def grow(root: Path, held: int, count: int, rng: random.Random) -> int:
    """Add copies up to *count*; return how many of them have a place in :data:`BOX` and time in the quarter."""
    hits = 0
    with cubeport.Catalog.open(root) as catalog:
        seed = catalog.backend.get_by_key("seed")
        assert seed is not None
        latest = seed.metadata["dataset"]["latest"]
        rows = {table: catalog.rows.get(table, latest) for table in (VERSION, CUBE)}
        for start in range(held, count, 5_000):
            with catalog.backend.transaction():
                for n in range(start, min(start + 5_000, count)):
                    hits += clone(catalog, seed, rows, n + 1, rng)
    return hits


def clone(catalog: Any, seed: Any, rows: dict[str, Any], n: int, rng: random.Random) -> bool:
    dataset_id, version_id, record_id = f"d{n:06}", new_id(), new_id()
    west, south, year = rng.uniform(-180, 170), rng.uniform(-80, 80), rng.randrange(1990, 2020)
    box = (west, south, west + 2, south + 2)
    span = {"start": f"{year}-01-01T00:00:00Z", "end": f"{year}-12-31T00:00:00Z"}
    metadata = copy.deepcopy(dict(seed.metadata))
    title = "Dataset seven" if n == 7 else f"Dataset {n}"
    metadata["dataset"]["texts"] |= {"dataset_id": dataset_id, "title": title}
    metadata["dataset"] |= {"latest": version_id, "head": version_id}
    names = {"id": record_id, "key": dataset_id, "title": title, "visibility": "public", "version": 1}
    when = seed.created_at + timedelta(seconds=n)
    record = seed.replace(**names, created_at=when, metadata=metadata, bbox=box, time=span)
    catalog.backend.add_record(record)
    for table, row in rows.items():
        document = copy.deepcopy(dict(row.document))
        if table == VERSION:
            document |= {"version_id": version_id, "reach": {"bbox": box, **span}}
        else:
            place(document["documents"]["item"], box, span)
        catalog.rows.put(Row(table, version_id, document, record_id, row.state, row.seq))
    inside = west <= BOX[2] and west + 2 >= BOX[0] and south <= BOX[3] and south + 2 >= BOX[1]
    return inside and year == YEAR


def place(item: dict[str, Any], box: tuple[float, float, float, float], span: dict[str, str]) -> None:
    """Give the item of a version a place and a time."""
    west, south, east, north = box
    item["bbox"] = list(box)
    item["properties"] |= {"start_datetime": span["start"], "end_datetime": span["end"]}
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item["geometry"] = {"type": "Polygon", "coordinates": [ring]}


@contextmanager
def served(root: Path) -> Iterator[tuple[httpx.Client, int]]:
    command = [sys.executable, "-m", "cubeport", "serve", "--instance", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        url = next(word for line in process.stdout for word in line.split() if word.startswith("http://127.0.0.1"))
        try:
            with httpx.Client(base_url=url.rstrip("/"), timeout=60, trust_env=False) as client:
                yield client, process.pid
        finally:
            process.terminate()


def measured(root: Path, hits: int, rounds: int) -> dict[str, float]:
    """Return the median CPU of each request, in ms; nothing is answered from a list that another request made."""
    costs: dict[str, list[float]] = {name: [] for name in REQUESTS}
    with served(root) as (client, process):
        item = client.get("/stac/collections/d000001/items").json()["features"][0]["id"]
        paths = {name: path.replace("{item}", item) for name, path in REQUESTS.items()}
        for name, path in paths.items():
            answer = client.get(path)
            assert answer.status_code == 200, (name, answer.text)
            if "box" in name:
                found = answer.json()["features" if "features" in answer.json() else "collections"]
                assert len(found) == min(10, hits), (name, len(found), hits)
        for _ in range(rounds):
            for name, path in paths.items():
                before = cpu_ns(process)
                assert client.get(path).status_code == 200
                costs[name].append((cpu_ns(process) - before) / 1e6)
    return {name: statistics.median(each) for name, each in costs.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    columns: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root, rng, held, hits = Path(folder) / "instance", random.Random(3), 0, 0
        instance(root)
        for count in sorted(options.sizes):
            hits += grow(root, held, count, rng)
            held = count
            columns[count] = measured(root, hits, options.rounds)
    base = columns[100] if 100 in columns else columns[min(columns)]
    most = columns[max(columns)]
    lines = [
        f"| server CPU, ms | {' datasets | '.join(f'{n:,}' for n in columns)} datasets | {max(columns):,} / 100 |",
        f"|---|{'--:|' * (len(columns) + 1)}",
        *(
            f"| {name} | {' | '.join(f'{column[name]:.1f}' for column in columns.values())} | {most[name] / base[name]:.2f} |"
            for name in REQUESTS
        ),
    ]
    table = "\n".join([*lines, "", f"Median of {options.rounds}. Python {platform.python_version()}, {os.cpu_count()} cores."])
    report(table, options.write, heading=HEADING, command=COMMAND)


if __name__ == "__main__":
    main()
