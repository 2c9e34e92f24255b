"""Bytes and server CPU of every kind of page, at a few datasets and at many.

    python benchmarks/pages.py [--many 100000] [--write docs/performance.md]

The budget of a page is 30 kB as a browser loads it for the first time (the page, its script and its style, compressed, without
pictures), and 20 ms of CPU once the server is warm. The command ends with 1 if a page is over. CPU is that of the server's threads,
so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import httpx
import numpy as np
import xarray as xr

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from browser import Browser  # isort: skip
from lists import grow, instance, served  # isort: skip  # the benchmarks next to this one
from report import arguments, report  # isort: skip
from serve import cpu_ns  # isort: skip

HEADING = "## Pages"
PICTURES_HEADING = "## The first picture on a slow line"
PICTURES_COMMAND = "python benchmarks/pages.py --pictures demo --write docs/performance.md"
COMMAND = "python benchmarks/pages.py --write docs/performance.md"
BYTES, CPU_MS = 30_000, 20.0
HEAVY = ("documentation",)
"""Swagger UI is a program of 480 kB that others make; it is loaded by no other page."""
STEPS, LEVELS = 3_000, 5
TEMPLATE = """\
id: air
title: Air of all levels
period_type: daily
source: {kind: files, paths: ["*.nc"]}
"""
BROWSER = {"Accept": "text/html", "Accept-Encoding": "gzip"}

PAGES = {
    "landing": "/",
    "a search by words": "/?q=temperature",
    "a search that finds most": "/?q=Dataset&sort=dataset_name",
    "a search by box and time": "/?bbox=10,10,14,14&datetime=2005-01-01/2005-03-31",
    "a search by keyword": "/?keyword=air",
    f"a dataset of {STEPS:,} steps and {LEVELS} levels": "/datasets/wide",
    "the same, at a place": "/datasets/wide?at=10,10&t=1990-06-01",
    "a small dataset": "/datasets/d000001",
    "list of datasets": "/datasets",
    "its versions": "/datasets/wide/versions",
    "jobs": "/jobs",
    "templates": "/dataset-templates",
    "a template": "/dataset-templates/air",
    "extents": "/extent",
    "zones": "/zones",
    "about": "/info",
    "STAC catalog": "/stac",
    "STAC collections": "/stac/collections",
    "a STAC collection": "/stac/collections/wide",
    "its items": "/stac/collections/wide/items",
    "its queryables": "/stac/collections/wide/queryables",
    "OGC API": "/ogcapi",
    "OGC collections": "/ogcapi/collections",
    "an OGC collection": "/ogcapi/collections/wide",
    "its schema": "/ogcapi/collections/wide/schema",
    "its coverage": "/ogcapi/collections/wide/coverage",
    "conformance": "/ogcapi/conformance",
    "processes": "/ogcapi/processes",
    "Zarr listing": "/zarr/wide",
    "problem": "/problems/gap",
    "not found": "/datasets/nothing",
    "documentation": "/docs",
    "help": "/help",
    "calendars": "/docs/calendars",
}
_LOADED = re.compile(r'<(?:script[^>]* src|link[^>]*rel="stylesheet"[^>]* href|link[^>]* href)="([^"]+\.(?:js|css)[^"]*)"')


def wide(folder: Path) -> Path:
    """Write a file with many steps, some levels and four fields, and return its path."""
    sizes = {"time": STEPS, "level": LEVELS, "lat": 18, "lon": 36}
    values = np.random.default_rng(1).normal(280, 10, tuple(sizes.values())).astype("f4")
    names = ("air_temperature", "eastward_wind", "northward_wind", "specific_humidity")
    units = ("K", "m s-1", "m s-1", "1")
    data = xr.Dataset(
        {name: (tuple(sizes), values, {"units": unit, "standard_name": name}) for name, unit in zip(names, units, strict=True)},
        {
            "time": ("time", np.arange(STEPS), {"units": "days since 1990-01-01"}),
            "level": ("level", [1000.0, 850, 700, 500, 300], {"units": "hPa", "standard_name": "air_pressure", "positive": "down"}),
            "lat": ("lat", np.arange(-85.0, 90, 10), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.arange(-175.0, 180, 10), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    data.to_netcdf(folder / "wide.nc")
    return folder / "wide.nc"


def fill(root: Path, count: int) -> None:
    """Make an instance of *count* small datasets and the wide one."""
    instance(root)
    grow(root, 0, count, random.Random(3))
    (root / "extents").mkdir(exist_ok=True)
    (root / "extents" / "there.yaml").write_text("extent_id: there\nname: There\nbbox: [-10, -10, 10, 10]\n")
    (root / "config" / "datasets").mkdir(parents=True, exist_ok=True)
    (root / "config" / "datasets" / "air.yaml").write_text(TEMPLATE)
    with cubeport.connect(root) as service:
        template = {"title": "Air of all levels", "keywords": ["air"], "license": "CC-BY-4.0"}
        request = IngestionRequest(dataset_id="wide", template=template)  # type: ignore[arg-type]
        done = service.ingest_here(request, FileOptions(files=(str(wide(root.parent)),)))
        assert done.status == "completed", done.error


def size(client: httpx.Client, answer: httpx.Response) -> int:
    """Return the bytes that a browser receives for a page, with its scripts and styles."""
    total = answer.num_bytes_downloaded
    for address in dict.fromkeys(_LOADED.findall(answer.text)):
        loaded = client.get(address, headers=BROWSER)
        assert loaded.status_code == 200, address
        total += loaded.num_bytes_downloaded
    return total


def measured(root: Path, rounds: int) -> dict[str, tuple[int, float]]:
    """Return the bytes of each page and its median CPU in ms."""
    found = {}
    with served(root) as (client, process):
        for name, path in PAGES.items():
            first = client.get(path, headers=BROWSER, follow_redirects=True)
            kind = first.headers["content-type"].partition(";")[0]
            assert (first.status_code, kind) == (404 if name == "not found" else 200, "text/html"), (name, first.text[:300])
            bytes_ = size(client, first)
            costs = []
            for _ in range(rounds):
                before = cpu_ns(process)
                client.get(path, headers=BROWSER, follow_redirects=True)
                costs.append((cpu_ns(process) - before) / 1e6)
            found[name] = (bytes_, statistics.median(costs))
    return found


LINE_BITS_S, DELAY_MS, PICTURE_MS = 1.6e6, 150, 1_000.0
"""The slow line of the first picture, and its budget."""
_LAST = (
    "new Promise(done => { const look = () => { const i = document.querySelector('image.data');"
    "const e = i && performance.getEntriesByName(new URL(i.getAttribute('href'), location).href)[0];"
    "e && e.responseEnd ? done([e.responseEnd, e.transferSize]) : setTimeout(look, 20) }; look() })"
)


def first_pictures(root: Path, names: Iterable[str]) -> list[tuple[str, float, int]]:
    """Return when the map of each dataset is in the browser after its address was entered on a slow line, in ms, and its bytes."""
    found = []
    with served(root) as (client, _), tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            for name in names:
                client.get(f"/datasets/{name}", headers=BROWSER)  # the server is warm, the browser is not
                page = browser.open(f"{client.base_url}/datasets/{name}?f=html", line=(LINE_BITS_S, DELAY_MS))
                ended, size = page.evaluate(_LAST)
                found.append((name, ended, size))
                page.close()
        finally:
            browser.close()
    return found


def pictures(options: argparse.Namespace) -> int:
    """Measure the first pictures of an instance."""
    with cubeport.connect(options.pictures) as service:
        names = [each.texts.dataset_id for each in service.datasets(limit=100).items if each.description.spatial.bbox is not None]
    rows = first_pictures(options.pictures, names)
    told = f"With {LINE_BITS_S / 1e6:g} Mbit/s and a delay of {DELAY_MS} ms for each request; the cache of the browser is empty."
    lines = ["| dataset | picture, kB | in the browser after, ms |", "|---|--:|--:|"]
    lines += [f"| {name} | {size / 1e3:.0f} | {ended:.0f} |" for name, ended, size in rows]
    table = "\n".join([*lines, "", told, f"Python {platform.python_version()}, {os.cpu_count()} cores."])
    report(table, options.write, heading=PICTURES_HEADING, command=PICTURES_COMMAND)
    return 1 if any(ended > PICTURE_MS for _, ended, _ in rows) else 0


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", type=Path, help="make the larger instance here, or use the one that is here")
    parser.add_argument("--pictures", type=Path, help="only the first pictures of the datasets of this instance, on a slow line")
    options = parser.parse_args()
    if options.pictures is not None:
        return pictures(options)
    columns: dict[int, dict[str, tuple[int, float]]] = {}
    for count in (100, options.many):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "instance"
            if options.keep is not None and count == options.many:
                root = options.keep / "instance"
            if not root.exists():
                root.parent.mkdir(parents=True, exist_ok=True)
                fill(root, count)
            columns[count] = measured(root, options.rounds)
    few, many = columns.values()
    lines = [
        f"| page | kB | CPU, ms: {' datasets | '.join(f'{n:,}' for n in columns)} datasets |",
        "|---|--:|--:|--:|",
        *(f"| {name} | {many[name][0] / 1e3:.1f} | {few[name][1]:.1f} | {many[name][1]:.1f} |" for name in PAGES),
    ]
    over = [name for name, (bytes_, cost) in many.items() if (bytes_ > BYTES and name not in HEAVY) or cost > CPU_MS]
    told = f"Over the budget of {BYTES // 1000} kB and {CPU_MS:g} ms: {', '.join(over) or 'none'}."
    table = "\n".join(
        [*lines, "", told, f"Median of {options.rounds}. Python {platform.python_version()}, {os.cpu_count()} cores."]
    )
    report(table, options.write, heading=HEADING, command=COMMAND)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
