"""Every address that a document or a page names leads somewhere, and to what its link says: for data of all families, with and
without a place, even and uneven, on one grid and on two.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.families import FAMILIES

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import here, start, stop
from .test_pages_back import walk

pytestmark = pytest.mark.slow

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
DAYS = ("time", [0, 1, 2], {"units": "days since 2020-01-01", "standard_name": "time"})
START = ("", "/stac", "/stac/search", "/ogcapi", "/ogcapi/processes", "/datasets", "/docs", "/openapi.json", "/changes")
QUERIES = re.compile(r"/(?:position|radius|area|cube|trajectory|corridor)$")
"""Links to these are to be completed: ``coords`` is required (19-086r6, 8.2)."""
BY_POST = re.compile(r"/execution$")
EACH = 6
"""How many addresses of one kind are asked, so that each dataset comes with each kind."""


def values(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype="f4").reshape(shape)


def more() -> dict[str, xr.Dataset]:
    uneven = {"time": DAYS, "lat": ("lat", [-60.0, -20, 10, 70], LAT), "lon": ("lon", [0.0, 90, 180, 270], LON)}
    second = {"lat2": ("lat2", [0.0, 10], LAT), "lon2": ("lon2", [0.0, 10], LON)}
    return {
        "uneven": xr.Dataset({"v": (("time", "lat", "lon"), values(3, 4, 4), {"units": "K"})}, uneven),
        "placeless": xr.Dataset({"v": (("time", "y", "x"), values(3, 4, 5))}, {"time": DAYS, "y": ("y", np.arange(4.0))}),
        "two-grids": xr.Dataset(
            {"v": (("time", "lat", "lon"), values(3, 4, 4)), "w": (("time", "lat2", "lon2"), values(3, 2, 2))}, {**uneven, **second}
        ),
        "stations": xr.Dataset(
            {"v": (("station", "time"), values(2, 3), {"coordinates": "lat lon name"})},
            {
                "time": DAYS,
                "lat": ("station", [50.0, 51], LAT),
                "lon": ("station", [8.0, 9], LON),
                "name": ("station", np.array(["A", "B b"], dtype=object), {"cf_role": "timeseries_id"}),
            },
        ),
    }


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("links")
    root = folder / "instance"
    assert here("init", root).returncode == 0
    files: dict[str, Path] = {}
    for name, data in more().items():
        files[name] = folder / f"{name}.nc"
        data.to_netcdf(files[name], engine="netcdf4")
    files |= {
        name: FAMILIES[name].write(folder, name) for name in ("regular", "projected", "curvilinear", "members", "unstructured")
    }
    with cubeport.connect(root) as service:
        for name, file in files.items():
            done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(file),)))
            assert done.status == "completed", (name, done.error)
    process, address = start(root)
    yield address
    stop(process)


def named(found: Any) -> Iterator[tuple[str, str | None]]:
    """Yield each address in a document, with the media type that its link says."""
    if isinstance(found, dict):
        if isinstance(found.get("href"), str) and found.get("method", "GET") == "GET" and not found.get("templated"):
            yield found["href"], found.get("type")
        for each in found.values():
            yield from named(each)
    elif isinstance(found, list):
        for each in found:
            yield from named(each)


def test_every_link_leads_to_what_it_says(url: str) -> None:
    with httpx.Client(timeout=60, trust_env=False) as client:
        faults, asked = crawled(client, url)
    assert not faults, "\n".join(map(str, faults))
    assert asked > 500


def crawled(client: httpx.Client, url: str) -> tuple[list[Any], int]:
    """Return what is wrong with the links below an address, and how many were asked."""
    asked, kinds = set[str](), Counter[str]()
    waiting: deque[tuple[str, str | None, str]] = deque((url + path, None, "") for path in START)
    faults: list[Any] = []
    while waiting:
        address, media_type, source = waiting.popleft()
        address = urldefrag(address)[0]
        path = re.sub(r"[0-9a-f]{32}", "V", address.partition("?")[0])
        path = re.sub(r"/(collections|datasets|zarr|zarr-v2|geozarr|wms|wmts|dap|griddap)/[^/@]+", r"/\1/D", path)
        kind = re.sub(r"/\d+(?=/|$)", "/N", path) + "?" + "&".join(re.findall(r"[?&]([^=&]+)", address))
        if not address.startswith(url) or address in asked or "{" in address or kinds[kind] >= EACH:
            continue
        if BY_POST.search(path):
            continue
        asked.add(address)
        kinds[kind] += 1
        answer = client.get(address, headers={"Accept": f"{media_type or '*/*'}, */*;q=0.1"})
        if answer.status_code != 200:
            if not (answer.status_code == 400 and QUERIES.search(address)):
                faults.append((answer.status_code, address, source, answer.text[:200]))
            continue
        given = answer.headers.get("content-type", "").partition(";")[0]
        # The address of a store answers with a listing: the type is that of the store below it.
        if media_type is not None and media_type.partition(";")[0] not in (given, "application/vnd.zarr"):
            faults.append((media_type, given, address, source))
        if "json" in given and "cov+json" not in given:
            waiting.extend((urljoin(address, href), said, address) for href, said in named(answer.json()))
        elif given == "text/html" or "xml" in given:
            links = re.findall(r'(?:href|src|template)="([^"#][^"]*)"', answer.text)
            waiting.extend((urljoin(address, unescape(each)), None, address) for each in links)
    return faults, len(asked)


def test_pages_of_coverages_lead_back_within_a_dataset(url: str) -> None:
    for path in ("/ogcapi/collections?", "/ogcapi/collections?q=two&", "/ogcapi/collections?bbox=0,-20,40,60&"):
        walk(url, path)
