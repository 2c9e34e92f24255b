"""A dataset that is private leaks through no address: not its id, title, variable, records, versions, nor who made what of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.families import FAMILIES

import cubeport
from cubeport.main import service as main
from cubeport.main.catalog import Catalog
from cubeport.server.app import App, create_app
from cubeport.server.streams import STOPPING
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.keys import Keys
from cubeport.settings import load

from .test_conditional import QUERIES

HIDDEN, DERIVED, ABSENT = "hushed-cube", "hushed-copy", "absent-cube"
"""Private datasets, the second derived from the first; and an id of equal length that nothing has."""
NONE = "0" * 32

PASSED_ON = ("clandestine", "7531.5")
"""What a public dataset that was derived from it may show."""
WORDS = (HIDDEN, DERIVED, "Quietly Held", "clandestine", "7531.5", "quiet-source", "hushed")
MONTHLY = {"period_type": "monthly", "partial": True, "least": 0.05, "method": "mean"}
CALLERS = ("", "anna")
"""Who may not see them: who has no key, and a key that ingests for all ids."""


TEMPLATE = f"""id: {HIDDEN}
title: Quietly Held
variables: [clandestine]
period_type: daily
source: {{kind: plugin, name: iris-sample-data, params: {{files: [A1B_north_america.nc]}}}}
"""


@dataclass
class Site:
    """An app over an instance with private datasets that were public before, and a public one that was derived from them."""

    app: App
    service: Any
    keys: dict[str, str]
    versions: list[str]
    jobs: list[str]
    record: str = ""
    secrets: list[str] = field(default_factory=list)

    def ask(
        self, method: str, path: str, by: str = "", *, body: Any = None, content: bytes | None = None, **more: str
    ) -> httpx.Response:
        headers = {"accept-encoding": "identity", **more}
        if by:
            headers["authorization"] = f"Bearer {self.keys[by]}"

        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=("203.0.113.9", 4711))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
                return await client.request(method, path, headers=headers, json=body, content=content)

        return asyncio.run(one())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("private") / "instance"
    seen = FAMILIES["regular"].write(root.parent, "t")
    with xr.open_dataset(seen) as data:
        data.rename(t="clandestine").map(lambda a: a * 0 + np.float32(7531.5), keep_attrs=True).to_netcdf(
            root.parent / "quiet-source.nc"
        )
    cubeport.Catalog.create(root).close()
    (root / "extents").mkdir(exist_ok=True)
    (root / "extents" / "there.yaml").write_text("extent_id: there\nname: There\nbbox: [-10, -10, 10, 10]\n")
    (root / "config" / "datasets").mkdir(parents=True, exist_ok=True)
    (root / "config" / "datasets" / f"{HIDDEN}.yaml").write_text(TEMPLATE)
    settings = load(root)
    children = main.children_of(settings)
    catalog = Catalog.open(root)
    keys = Keys(catalog.backend)
    given = {name: keys.add(name, scope=scope).text for name, scope in (("anna", "ingest"), ("boss", "admin"))}
    with main.service_of(settings, catalog, children) as service:
        done = service.ingest_here(IngestionRequest(dataset_id=HIDDEN), FileOptions(files=(str(root.parent / "quiet-source.nc"),)))
        assert done.status == "completed", done.error
        service.tag(HIDDEN, "hushed-tag")
        jobs = []
        for name in (DERIVED, "shown-copy"):
            found = service.derive("resample", [HIDDEN], dataset_id=name, params=MONTHLY, title="A copy")
            assert found.status == "completed", found.error
            jobs.append(found.ingestion_id)
        app = create_app(main._app_parts(settings, service, children))
        assert isinstance(app, App)
        site = Site(app, service, given, [done.version_id], [done.ingestion_id, jobs[0]])
        order = {"inputs": {"dataset": HIDDEN, "zones": "there"}}
        for by in CALLERS:
            made = site.ask("POST", "/ogcapi/processes/zonal-statistics/execution", by, body=order, prefer="respond-async")
            assert made.status_code == 201, made.text
            site.jobs.append(made.json()["jobID"])
        records = [service.catalog.get(name) for name in (HIDDEN, DERIVED)]
        for record in records:
            service.describe(record.key, title="Quietly Held")
            catalog.update(record.id, visibility="private")
        site.secrets += [*WORDS, *site.versions, *site.jobs, *(record.id for record in records)]
        site.record = records[0].id
        yield site


class Asked(NamedTuple):
    """A request, and the same for a dataset that does not exist."""

    method: str
    hidden: str
    absent: str
    body: Any = None
    absent_body: Any = None


def of_routes(site: Site) -> Iterator[Asked]:
    """Yield a request of every method of every route, with the names of the private dataset wherever the path takes names."""
    of_ids = [
        (HIDDEN, ABSENT),
        (f"{HIDDEN}@{site.versions[0]}", f"{ABSENT}@{NONE}"),
        (f"{HIDDEN}@hushed-tag", f"{ABSENT}@hushed-tag"),
    ]
    of_versions = [(site.versions[0], NONE)]
    names: dict[str, list[tuple[str, str]]] = {
        **dict.fromkeys(("dataset_id", "collection_id", "griddap_id", "item_id"), of_ids),
        "dap_name": [(f"{hidden}.{form}", f"{absent}.{form}") for hidden, absent in of_ids for form in ("das", "ascii", "info")],
        "griddap_name": [(f"{hidden}.{form}", f"{absent}.{form}") for hidden, absent in of_ids for form in ("csv", "das")],
        "template_id": of_ids[:1],
        "beginning": [(HIDDEN[:3], ABSENT[:3])],
        "record_id": [(HIDDEN, ABSENT), (site.record, NONE), (site.record[:12], NONE[:12])],
        "record_key": [(f"{HIDDEN}/1", f"{ABSENT}/1")],
        "ingestion_id": [(job, NONE) for job in site.jobs],
        "job_id": [(job, NONE) for job in site.jobs],
        **dict.fromkeys(("ref", "instance_id", "artifact_id", "digest", "sha256"), of_versions),
    }
    fixed = {
        "tag": "hushed-tag",
        "extent_id": "there",
        "zone_set_id": "there",
        "location_id": "there",
        "style_id": "balance",
        "process_id": "zonal-statistics",
        "kind": "not-found",
        "name": "cubeport.css",
        "table_form": "json",
        "tms": "WebMercatorQuad",
        "zoom": "0",
        "column": "0",
        "row": "0",
    }
    for route in site.app.routes:
        wanted = re.findall(r"\{(\w+)(?::\w+)?\}", route.path)
        for values in itertools.product(*(names.get(name) or [(fixed[name], fixed[name])] for name in wanted)):
            hidden = absent = route.path
            for name, (here, nowhere) in zip(wanted, values, strict=True):
                hidden = re.sub(rf"\{{{name}(?::\w+)?\}}", here, hidden)
                absent = re.sub(rf"\{{{name}(?::\w+)?\}}", nowhere, absent)
            query = QUERIES.get(hidden.rpartition("/")[2], "")
            for method in sorted(route.methods or ()):
                end = f"?{query}" if query and method == "GET" else ""
                body = {"title": "Mine"} if method == "PATCH" else None
                yield Asked(method, hidden + end, absent + end, body, body)


def of_stores() -> Iterator[Asked]:
    for face in ("zarr", "zarr-v2", "geozarr"):
        for key in ("", "/zarr.json", "/.zmetadata", "/clandestine/c/0/0/0", "/clandestine/0.0.0"):
            yield Asked("GET", f"/{face}/{HIDDEN}{key}", f"/{face}/{ABSENT}{key}")


def of_searches() -> Iterator[Asked]:
    for address in (
        "/datasets?q=Quietly&count=true&facets=variable",
        "/records?q=Quietly&count=true&facets=kind,visibility",
        "/records?where=title:Quietly",
        f"/changes?dataset_id={HIDDEN}",
        f"/ingestions?dataset_id={HIDDEN}",
        "/stac/collections?q=Quietly",
        f"/stac/collections?ids={HIDDEN}",
        f"/stac/search?collections={HIDDEN}",
        "/stac/search?bbox=-180,-90,180,90&sortby=-created",
        "/datasets/hushed-cub",
        *(f"/{name}/shown-copy" for name in ("datasets", "records", "stac/collections", "ogcapi/collections")),
        "/records/shown-copy/history",
        "/records/shown-copy/lineage",
        "/ingestions?dataset_id=shown-copy",
        "/zarr/hushed-cub/zarr.json",
        f"/datasets/shown-copy/table?zones=there&weights={HIDDEN}:clandestine",
    ):
        yield Asked(
            "GET", address, address.replace(HIDDEN, ABSENT).replace("Quietly", "Unknown").replace("hushed-cub", "absent-cub")
        )
    for path, body in (
        ("/stac/search", {}),
        ("/stac/search", {"collections": [HIDDEN]}),
        ("/stac/search", {"filter": {"op": "=", "args": [{"property": "collection"}, HIDDEN]}, "filter-lang": "cql2-json"}),
        ("/ogcapi/processes/zonal-statistics/execution", {"inputs": {"dataset": HIDDEN, "zones": "there"}}),
        (
            "/ingestions",
            {"dataset_id": "mine", "source": {"kind": "derived", "recipe": "resample", "inputs": [HIDDEN], "params": MONTHLY}},
        ),
    ):
        yield Asked("POST", path, path, body, json.loads(json.dumps(body).replace(HIDDEN, ABSENT)))


@pytest.mark.parametrize("by", CALLERS)
def test_nothing_tells_a_private_dataset_from_none(site: Site, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STOPPING, "is_set", lambda: True)  # streams end at once, after what is there already
    wrong = []
    for method, hidden, absent, body, other in [*of_routes(site), *of_stores(), *of_searches()]:
        for accept in ("application/json", "text/html") if method == "GET" and not by else ("application/json",):
            answer = site.ask(method, hidden, by, body=body, accept=accept)
            control = site.ask(method, absent, by, body=other, accept=accept)
            told = f"{answer.headers} {answer.text}"
            passed_on = PASSED_ON if "shown-copy" in told else ()
            leaked = [
                word
                for word in site.secrets
                if word in told and word not in passed_on and word not in hidden and word not in json.dumps(body)
            ]
            if leaked or answer.status_code != control.status_code:
                wrong.append(
                    f"{method} {hidden} {body or ''} {accept}: {answer.status_code} ({control.status_code} for none) {leaked}"
                )
    assert not wrong, "\n".join(wrong)


def test_its_owner_and_operators_see_it(site: Site) -> None:
    for path in (f"/datasets/{HIDDEN}", f"/zarr/{HIDDEN}/zarr.json", f"/ingestions/{site.jobs[0]}"):
        assert site.ask("GET", path, "boss").status_code == 200
        assert site.ask("GET", path, "anna").status_code == 404
    assert [len(site.ask("GET", "/dataset-templates", by).json()["items"]) for by in ("boss", "anna", "")] == [1, 0, 0]
    named = site.ask("GET", "/changes", "boss").text
    assert HIDDEN in named
    assert site.ask("POST", "/stac/search", "boss", body={"collections": [HIDDEN]}).json()["features"]


def test_nobody_pushes_a_version_into_it(site: Site) -> None:
    replica = site.ask("GET", f"/datasets/{HIDDEN}/replica", "boss").json()
    manifest = site.ask("GET", f"/zarr/{HIDDEN}?f=manifest", "boss").content
    missing = [
        site.ask("PUT", f"/replicas/{replica['digest']}?dataset_id={name}", "anna", content=manifest).json()["missing_objects"]
        for name in (ABSENT, HIDDEN)
    ]
    assert missing[0] == missing[1] > 0, "its bytes are nobody's to take"
    answer = site.ask("POST", f"/replicas/{replica['digest']}", "anna", body={"replica": replica})
    assert (answer.status_code, "There is no dataset" in answer.text) == (404, True), answer.text


def test_requests_run_in_threads_for_their_caller() -> None:
    """What runs in a bare executor has no viewer, and so would see everything."""
    server = Path(cubeport.__file__).parent / "server"
    bare = [each.name for each in server.glob("*.py") if "run_in_executor" in each.read_text() and each.name != "threads.py"]
    assert not bare, "use run_in of server/threads.py"


def test_what_was_public_and_became_private_is_not_told_again_after_its_record_is_purged(tmp_path: Path) -> None:
    """Without a record nothing says that it was private, and a feed with its first changes would say that it is published."""
    cubeport.Catalog.create(tmp_path / "i").close()
    settings, catalog = load(tmp_path / "i"), Catalog.open(tmp_path / "i")
    children = main.children_of(settings)
    source = FAMILIES["regular"].write(tmp_path, "t")
    key = Keys(catalog.backend).add("boss", scope="admin").text
    with main.service_of(settings, catalog, children) as service:
        for name in (HIDDEN, "open", "gone"):
            done = service.ingest_here(IngestionRequest(dataset_id=name), FileOptions(files=(str(source),)))
            assert done.status == "completed", done.error
        app = create_app(main._app_parts(settings, service, children))
        assert isinstance(app, App)
        site = Site(app, service, {"boss": key}, [], [])

        def told() -> list[tuple[str, str]]:
            return [(each["dataset_id"], each["type"]) for each in site.ask("GET", "/changes").json()["items"]]

        assert told() == [(name, "upserted") for name in (HIDDEN, "open", "gone")]
        catalog.update(catalog.get(HIDDEN).id, visibility="private")
        records = [service.delete(name, purge=True).id for name in (HIDDEN, "gone")]
        assert told() == [("open", "upserted"), ("gone", "upserted"), ("gone", "removed")]
        for each in records:
            catalog.purge(each)
        assert told() == [("open", "upserted"), ("gone", "removed")]
        assert site.ask("GET", f"/changes?dataset_id={HIDDEN}").json()["items"] == []


def test_jobs_and_inputs_do_not_name_a_dataset_whose_record_was_purged(tmp_path: Path) -> None:
    cubeport.Catalog.create(tmp_path / "i").close()
    (tmp_path / "i" / "extents").mkdir(exist_ok=True)
    (tmp_path / "i" / "extents" / "there.yaml").write_text("extent_id: there\nname: There\nbbox: [-10, -10, 10, 10]\n")
    settings, catalog = load(tmp_path / "i"), Catalog.open(tmp_path / "i")
    children = main.children_of(settings)
    source = FAMILIES["regular"].write(tmp_path, "t")
    made = Keys(catalog.backend)
    keys = {name: made.add(name, scope=scope).text for name, scope in (("anna", "ingest"), ("bob", "ingest"), ("boss", "admin"))}
    with main.service_of(settings, catalog, children) as service:
        done = service.ingest_here(IngestionRequest(dataset_id=HIDDEN), FileOptions(files=(str(source),)))
        assert done.status == "completed", done.error
        assert service.derive("resample", [HIDDEN], dataset_id="shown", params=MONTHLY, title="A copy").status == "completed"
        app = create_app(main._app_parts(settings, service, children))
        assert isinstance(app, App)
        site = Site(app, service, keys, [], [done.ingestion_id])
        order = {"inputs": {"dataset": HIDDEN, "zones": "there"}}
        ordered = site.ask("POST", "/ogcapi/processes/zonal-statistics/execution", "anna", body=order, prefer="respond-async")
        table = f"/ogcapi/jobs/{ordered.json()['jobID']}"
        paths = (
            *("/derived", "/ingestions", f"/ingestions/{done.ingestion_id}", "/changes", "/ogcapi/jobs", table),
            *("/datasets/shown", "/records/shown/lineage", "/stac/collections/shown", "/records/shown", "/datasets/shown/versions"),
        )
        silent = ["/datasets/shown", "/stac/collections/shown", "/datasets/shown/versions"]
        assert [path for path in paths if HIDDEN not in site.ask("GET", path, "anna").text] == silent
        catalog.update(catalog.get(HIDDEN).id, visibility="private")
        catalog.purge(service.delete(HIDDEN, purge=True).id, force=True)
        assert [path for path in paths if HIDDEN in site.ask("GET", path, "anna").text] == []
        assert all(HIDDEN in site.ask("GET", path, "boss").text for path in ("/derived", "/ingestions", "/ogcapi/jobs"))
        assert site.ask("GET", table, "anna").status_code == 404
        block = {"kind": "plugin", "name": "iris-sample-data", "params": {"files": ["A1B_north_america.nc"]}}
        asked = IngestionRequest.model_validate({"dataset_id": "never", "source": block})
        job = f"/ingestions/{service.ingest(asked, asker='bob').ingestion_id}"
        assert [site.ask("GET", job, by).status_code for by in keys] == [200, 200, 200], "what will be there"
        site.ask("DELETE", job, "bob")
        assert [site.ask("GET", job, by).status_code for by in keys] == [200, 200, 200], "nothing has ever been there"
        again = asked.model_copy(update={"dataset_id": HIDDEN})
        job = f"/ingestions/{service.ingest(again, asker='bob').ingestion_id}"
        site.ask("DELETE", job, "bob")
        assert [site.ask("GET", job, by).status_code for by in keys] == [404, 200, 200], "there was one"
