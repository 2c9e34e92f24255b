"""Every address of the app, ETags, 304, HEAD, caching and ``Cubeport-Version``, before and after a commit."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.families import FAMILIES

import cubeport
from cubeport.main import service as main
from cubeport.main.catalog import Catalog
from cubeport.server.app import App, create_app
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.settings import load

MOMENTS = frozenset(
    {
        "/health",
        "/ready",
        "/metrics",
        "/info",
        "/usage",
        "/changes",
        "/ingestions",
        "/ingestions/{ingestion_id}",
        "/ingestions/{ingestion_id}/events",
        "/sync/{dataset_id}/plan",
        "/webhooks",
        "/derived",
        "/ogcapi/jobs",
        "/ogcapi/jobs/{job_id}",
        "/ogcapi/jobs/{job_id}/results",
        "/datasets/{dataset_id}/replica",
    }
)
"""Addresses that tell of one moment, of this process or of work, or are for keys and other instances: not asked here."""

DATA = re.compile(
    r"/(coverage|position|area|cube|radius|trajectory|corridor|download|map|dap|griddap|zarr|zarr-v2)\b|/tiles/\w+/\d"
)
"""Addresses whose answers at a version never change."""

QUERIES = {
    "coast.svg": "bbox=-10,-10,10,10",
    "position": "coords=POINT(1 1)",
    "area": "coords=POLYGON((-10 -10,10 -10,10 10,-10 10,-10 -10))",
    "cube": "bbox=-10,-10,10,10",
    "radius": "coords=POINT(1 1)&within=2000&within-units=km",
    "trajectory": "coords=LINESTRING(-10 0,10 0)",
    "corridor": "coords=LINESTRING(-10 0,10 0)&corridor-width=500&width-units=km",
    "coverage": "f=csv",
    "diff": "from=latest&to=latest",
    "plot": "at=1,1",
    "table": "zones=there",
}


@dataclass
class Site:
    """An app over a real instance with one dataset of two versions."""

    app: App
    service: Any
    root: Path
    versions: list[str]
    artifact: str
    """An artifact of the record ``file``."""
    values: dict[str, list[str]] = field(default_factory=dict)

    def ask(self, *requests: tuple[str, str, dict[str, str]]) -> list[httpx.Response]:
        async def all_of() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
                return [await client.request(method, path, headers=headers) for method, path, headers in requests]

        return asyncio.run(all_of())

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.ask(("GET", path, {"accept-encoding": "identity", **headers}))[0]

    def publish_another(self) -> None:
        """Make a version whose values differ."""
        file = self.root.parent / f"again-{len(self.versions)}.nc"
        changed = FAMILIES["regular"].make()
        changed["t"] = (changed.t + 1000 * len(self.versions)).assign_attrs(changed.t.attrs)
        changed.to_netcdf(file)
        request = IngestionRequest(dataset_id="t", overwrite=True)
        done = self.service.ingest_here(request, FileOptions(files=(str(file),)))
        assert done.status == "completed", done.error
        self.versions.append(done.version_id)


def add_file(catalog: Catalog, folder: Path) -> str:
    """Add the record ``file``, which is of no dataset; return its artifact."""
    path = folder / "notes.txt"
    path.write_text("What was done, and when.\n")
    record = catalog.add_file(path, key="file", title="Notes", visibility="public").record
    return record.artifacts[0].artifact_id


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("conditional") / "instance"
    source = FAMILIES["regular"].write(root.parent, "t")
    cubeport.Catalog.create(root).close()
    (root / "extents").mkdir(exist_ok=True)
    (root / "extents" / "there.yaml").write_text("extent_id: there\nname: There\nbbox: [-10, -10, 10, 10]\n")
    settings = load(root)
    children = main.children_of(settings)
    catalog = Catalog.open(root)
    artifact = add_file(catalog, root.parent)
    with main.service_of(settings, catalog, children) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(source),)))
        assert done.status == "completed", done.error
        app = create_app(main._app_parts(settings, service, children))
        assert isinstance(app, App)
        main.warm_up(settings)
        found = Site(app, service, root, [done.version_id], artifact)
        found.publish_another()
        yield found


GRIDDAP = ("csv", "json", "nc", "png", "dds", "das", "dods", "ncml", "html")
DOCUMENTS = ("info", ".ncml", ".html")
"""Endings below ``/dap`` and ``/griddap`` of documents with the title, which can be edited."""


def addresses(site: Site) -> Iterator[tuple[str, str]]:
    """Yield route and address of everything that can be read, and the raw addresses below ``/zarr`` and ``/zarr-v2``."""
    version = site.versions[-1]
    names = ["t", f"t@{version}"]
    known = {
        "dataset_id": names,
        "collection_id": names,
        "item_id": [f"t@{version}"],
        "ref": [version],
        "instance_id": [version],
        "style_id": ["balance"],
        "beginning": ["t"],
        "extent_id": ["there"],
        "zone_set_id": ["there"],
        "location_id": ["there"],
        "kind": ["not-found"],
        "record_id": ["file"],
        "artifact_id": [site.artifact],
        "process_id": ["zonal-statistics"],
        "name": ["cubeport.css"],
        "dap_name": [f"{name}.{form}" for name in names for form in ("dds", "das", "dods", "ascii", "info")],
        "griddap_id": names,
        "griddap_name": [
            f"{name}.{form}" for name in names for form in ("csv", "json", "nc", "png", "dds", "das", "dods", "ncml", "html")
        ],
        "table_form": ["csv", "json"],
        "tms": ["WebMercatorQuad"],
        "zoom": ["0"],
        "column": ["0"],
        "row": ["0"],
    }
    for route in site.app.routes:
        if "GET" not in (route.methods or ()) or route.path in MOMENTS:
            continue
        wanted = re.findall(r"\{(\w+)(?::\w+)?\}", route.path)
        if any(name in ("template_id", "ingestion_id", "record_key") for name in wanted):
            continue  # this instance has none, and a key with a / leads to the address of its record
        missing = [name for name in wanted if name not in known]
        assert not missing, f"{route.path}: give this test a value of {missing}"
        # A diff is of two versions, which its query names; an instance is a version, which its path names.
        one = ["t"] if route.path.endswith("/diff") or "/instances/" in route.path else names
        given = known | {"dataset_id": one, "collection_id": one}
        for values in itertools.product(*(given[name] for name in wanted)):
            path = route.path
            for name, value in zip(wanted, values, strict=True):
                path = re.sub(rf"\{{{name}(?::\w+)?\}}", value, path)
            query = QUERIES.get(path.rpartition("/")[2], "")
            yield route.path, f"{path}?{query}" if query else path
    for name in names:
        for key in ("zarr.json", "t/zarr.json", "t/c/0/0/0"):
            yield "/zarr", f"/zarr/{name}/{key}"
        for key in (".zmetadata", ".zgroup", ".zattrs", "t/.zarray", "t/.zattrs", "t/0.0.0"):
            yield "/zarr-v2", f"/zarr-v2/{name}/{key}"
        for key in ("zarr.json", "t/zarr.json", "t/c/0/0/0"):
            yield "/geozarr", f"/geozarr/{name}/{key}"


def test_every_address_is_conditional_and_its_head_is_its_get(site: Site) -> None:
    wrong: list[str] = []
    seen = 0
    for route, address in addresses(site):
        plain = {"accept-encoding": "identity"}
        first, again, head = site.ask(("GET", address, plain), ("GET", address, plain), ("HEAD", address, plain))
        if first.status_code != 200:
            wrong.append(f"{address}: {first.status_code} {first.text[:120]}")
            continue
        seen += 1
        tag = first.headers.get("etag")
        if tag is None or tag.startswith("W/"):
            wrong.append(f"{address}: no strong ETag")
            continue
        if first.content != again.content or again.headers["etag"] != tag:
            wrong.append(f"{address}: two answers differ")
        [held] = site.ask(("GET", address, {**plain, "if-none-match": tag}))
        if (held.status_code, held.content, held.headers.get("etag")) != (304, b"", tag):
            wrong.append(f"{address}: {held.status_code} for its own ETag")
        varies = first.headers.get("vary", "").split(", ")
        if len(set(varies)) < len(varies):
            wrong.append(f"{address}: Vary is {varies}")
        differing = [n for n in ("cache-control", "cubeport-version", "vary") if held.headers.get(n) != first.headers.get(n)]
        wrong += [f"{address}: {name} of a 304 differs" for name in differing]
        ours = {name: value for name, value in first.headers.items() if name not in ("x-request-id", "content-length")}
        theirs = {name: value for name, value in head.headers.items() if name not in ("x-request-id", "content-length")}
        if (head.status_code, head.content, theirs) != (200, b"", ours):
            wrong.append(f"{address}: HEAD differs: {set(ours.items()) ^ set(theirs.items())}")
        wrong += _caching(site, route, address, first)
    assert not wrong, "\n".join(wrong)
    assert seen > 60


ONLY_DOCUMENTS = ("/stac", "/zarr", "/geozarr", "/wms", "/wmts")
"""Faces whose readers send any ``Accept``, and get documents or bytes."""


def test_an_address_with_several_forms_has_what_accept_names_or_says_that_it_has_not(site: Site) -> None:
    """Where nothing can be chosen, ``Accept`` is no reason to refuse (RFC 9110, 12.5.1), and ``Vary`` does not name it."""
    wrong: list[str] = []
    chosen = 0
    for route, address in addresses(site):
        if "f=" in address or address.partition("@")[1]:
            continue
        plain, odd, any_, page = (
            site.get(address, accept=each)
            for each in ("*/*", "application/x-nothing", "application/x-nothing, */*;q=0.1", "text/html")
        )
        choice = "Accept" in plain.headers.get("vary", "").split(", ")
        chosen += choice
        refuses = choice and not route.startswith(ONLY_DOCUMENTS)
        if odd.status_code != (406 if refuses else 200):
            wrong.append(f"{route}: {odd.status_code}, Vary: {plain.headers.get('vary')}")
        kind = plain.headers["content-type"]
        named = site.get(address, accept=kind.partition(";")[0])
        if (named.status_code, named.headers["content-type"], any_.headers["content-type"]) != (200, kind, kind):
            wrong.append(
                f"{route}: {named.status_code}, {named.headers['content-type']} for its own {kind}; {any_.headers['content-type']}"
            )
        if not choice and page.headers["content-type"] != kind:
            wrong.append(f"{route}: a page, and no Vary")
    assert not wrong, "\n".join(wrong)
    assert chosen > 40


def _caching(site: Site, route: str, address: str, answer: httpx.Response) -> list[str]:
    version = site.versions[-1]
    names_one = bool(re.search(r"\{(dataset_id|collection_id|\w*dap_name|griddap_id)\}", route)) or route.startswith(
        ("/zarr", "/geozarr")
    )
    lists = route.endswith(("/items", "/versions", "/instances", "/locations", "/diff"))
    wrong = []
    if names_one and not lists and answer.headers.get("cubeport-version") != version:
        wrong.append(f"{address}: Cubeport-Version is {answer.headers.get('cubeport-version')}")
    immutable = "immutable" in answer.headers["cache-control"]
    lists = lists or (route == "/geozarr" and address.endswith("zarr.json"))  # attributes of this release, of drafts
    pinned = f"@{version}" in address.partition("?")[0] or f"/instances/{version}" in address
    if immutable and not pinned and not route.startswith("/assets"):
        wrong.append(f"{address}: immutable, and names no version")
    if pinned and DATA.search(address) and not lists and not immutable and "map" not in address and not address.endswith(DOCUMENTS):
        wrong.append(f"{address}: names a version, and is not immutable")
    return wrong


def test_a_new_version_changes_the_answers_that_it_changes_and_no_pinned_one(site: Site) -> None:
    before = {address: site.get(address) for _, address in addresses(site)}
    old = site.versions[-1]
    site.publish_another()
    wrong: list[str] = []
    changed = 0
    for address, first in before.items():
        second = site.get(address, **{"if-none-match": first.headers.get("etag", "")})
        if second.status_code == 304:
            # What the client holds must be what it would get.
            now = site.get(address)
            if now.content != first.content:
                wrong.append(f"{address}: 304, and the answer is another")
        elif second.status_code == 200:
            changed += second.content != first.content
            if f"@{old}" in address and "immutable" in first.headers["cache-control"]:
                wrong.append(f"{address}: pinned, and asked for again")
        else:
            wrong.append(f"{address}: {second.status_code}")
    assert not wrong, "\n".join(wrong)
    assert changed > 15
