"""Growth: what a request costs the catalog does not depend on how many datasets there are.

Counted, not timed: steps of SQLite's machine while an address is answered, at 120 datasets and at 1,000. Every list gives a page of
the same length, and the bounds up to which records are listed or tested are small, so that both numbers are beyond them.
"""

from __future__ import annotations

import copy
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.families import FAMILIES
from tests.steps import Steps

import cubeport
from cubeport.adapters.backends.sql import places, search
from cubeport.catalog.backend import Row
from cubeport.catalog.forms.canonical import new_id
from cubeport.documents import stac
from cubeport.main import service as main
from cubeport.main.catalog import Catalog
from cubeport.server import crawlers, records
from cubeport.server.app import create_app
from cubeport.service import collections, datasets, items
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.state import CUBE, VERSION
from cubeport.settings import load

from .test_conditional import Site, add_file, addresses

FEW, MANY = 120, 1_000

SEARCHES = (
    "/stac/search?bbox=10,10,14,14&datetime=2005-01-01T00:00:00Z/2005-03-31T00:00:00Z",
    "/stac/search?limit=10&sortby=collection",
    "/stac/search?limit=10&sortby=-start_datetime",
    "/stac/search?collections=d00007",
    "/stac/search?filter=collection%3D'd00007'",
    "/stac/collections?bbox=10,10,14,14",
    "/stac/collections?q=seven&limit=10",
    "/ogcapi/collections?bbox=10,10,14,14",
    "/datasets?bbox=10,10,14,14",
    "/stac/collections/d00007/items",
    "/records?kind=dataset&q=seven&limit=10",
    "/records?bbox=10,10,14,14&limit=10",
    "/records?where=title:nowhere&limit=10",
    "/records?where=metadata.dataset.texts.description:nowhere&limit=10",
    "/records?not=title~*&sort=title&limit=10",
    "/records?where=kind:nothing&sort=-created_at&limit=10",
    "/records?count=true&limit=10",
    "/records?count=true&kind=dataset&limit=10",
    "/records?count=true&where=title~*9&limit=10",
    "/records?count=true&bbox=-180,-90,180,90&limit=10",
    "/records?facets=kind,title&limit=10",
    "/records?facets=metadata.dataset.texts.title&kind=dataset&limit=10",
    "/records?sort=metadata.dataset.texts.title&limit=10",
    "/records?sort=metadata.dataset.texts.title&where=title~*zz&limit=10",
    "/records?sort=metadata.nothing&limit=10",
    "/records?sort=-title&limit=10",
    "/stac/search?limit=10&sortby=title",
    "/stac/search?limit=10&sortby=-updated",
    "/stac/search?limit=10&filter=title%20LIKE%20'%25zz%25'",
    "/stac/search?limit=10&filter=nothing%20=%201",
    "/stac/collections?limit=10&filter=title%20LIKE%20'%25zz%25'",
    "/stac/collections?limit=10&sortby=title",
    "/stac/collections?limit=10&sortby=-start_datetime",
    "/stac/collections?limit=10&sortby=-updated",
    "/datasets?variable=zz&limit=10",
    "/?f=html&q=dataset",
    "/ogcapi/jobs",
)


BACK = (
    "/stac/collections?limit=10",
    "/stac/collections?limit=10&sortby=-id",
    "/stac/collections?limit=10&q=dataset",
    "/stac/collections?limit=10&bbox=-180,-90,180,90",
    "/stac/collections?limit=10&filter=title%20LIKE%20'%251%25'",
    "/ogcapi/collections?limit=10",
)
"""Lists whose page before the third is asked for."""

REFUSED = (
    "/records?sort=kind,title",
    "/records?sort=kind",
    "/records?sort=metadata.dataset.texts.license",
    "/stac/collections?sortby=license",
)
"""Orders for which all records would have to be sorted."""


def _clone(catalog: Any, seed: Any, rows: dict[str, Any], n: int, rng: random.Random) -> None:
    """Add a dataset with the cube of *seed*, in a place and a time of its own."""
    dataset_id, version_id, record_id = f"d{n:05}", new_id(), new_id()
    west, south, year = rng.uniform(-180, 170), rng.uniform(-80, 80), rng.randrange(1990, 2020)
    box, span = (west, south, west + 2, south + 2), {"start": f"{year}-01-01T00:00:00Z", "end": f"{year}-12-31T00:00:00Z"}
    title = "Dataset seven" if n == 7 else f"Dataset {n}"
    metadata = copy.deepcopy(dict(seed.metadata))
    metadata["dataset"]["texts"] |= {"dataset_id": dataset_id, "title": title}
    metadata["dataset"] |= {"latest": version_id, "head": version_id}
    metadata["dataset"]["shown_since"] = f"2026-01-01T00:00:00.{n:06}Z"
    catalog.backend.add_record(
        seed.replace(
            id=record_id,
            key=dataset_id,
            title=title,
            metadata=metadata,
            version=1,
            bbox=box,
            time=span,
            visibility="public",
            created_at=seed.created_at + timedelta(seconds=n),
        )
    )
    for table, row in rows.items():
        document = copy.deepcopy(dict(row.document))
        if table == VERSION:
            document |= {"version_id": version_id, "reach": {"bbox": box, **span}}
        catalog.rows.put(Row(table, version_id, document, record_id, row.state, row.seq))


def _commit(catalog: Any) -> None:
    """Change a record, so that the catalog has a new generation."""
    record = catalog.backend.get_by_key("d00003")
    catalog.backend.update_record(record)


def _check_totals(site: Site, count: int) -> None:
    """A whole list says how many there are, however many; a search that more match than are counted does not."""
    assert site.get("/datasets?limit=3&count=true").json()["number_matched"] == count
    assert site.get("/ogcapi/collections?limit=3").json()["numberMatched"] == count
    assert f"{count} datasets" in site.get("/?f=html").text
    assert "number_matched" not in site.get("/datasets?limit=3&count=true&q=dataset").json()
    assert "More than 10,000 datasets" in site.get("/?f=html&q=dataset").text


def _costs(root: Path, count: int) -> dict[str, int]:
    source = FAMILIES["regular"].write(root.parent, root.name)
    cubeport.Catalog.create(root).close()
    (root / "extents").mkdir(exist_ok=True)
    (root / "extents" / "there.yaml").write_text("extent_id: there\nname: There\nbbox: [-10, -10, 10, 10]\n")
    settings, catalog = load(root), Catalog.open(root)
    artifact = add_file(catalog, root.parent)
    children = main.children_of(settings)
    with main.service_of(settings, catalog, children) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="t"), FileOptions(files=(str(source),)))
        assert done.status == "completed", done.error
        version = done.version_id
        assert version is not None
        seed, rng = catalog.backend.get_by_key("t"), random.Random(3)
        rows = {table: catalog.rows.get(table, version) for table in (VERSION, CUBE)}
        with catalog.backend.transaction():
            for n in range(count):
                _clone(catalog, seed, rows, n, rng)
        app = create_app(main._app_parts(settings, service, children))
        main.warm_up(settings)
        site, steps = Site(app, service, root, [version], artifact), Steps(catalog)
        found: dict[str, int] = {}
        _check_totals(site, count + 1)
        for _, address in [*addresses(site), *((each, each) for each in (*SEARCHES, *REFUSED))]:
            site.get(address)  # what is opened once is opened
            if address in (*SEARCHES, *REFUSED):
                _commit(catalog)  # what was counted is counted anew
            steps.count = 0
            answer = site.get(address)
            assert answer.status_code == (400 if address in REFUSED else 200), (address, answer.text[:200])
            assert address not in REFUSED or "would have to be sorted" in answer.text
            found[address.replace(version, "VERSION").replace(artifact, "ARTIFACT")] = steps.count
        for path in BACK:
            page = site.get(path).json()
            for rel in ("next", "next", "prev"):
                [href] = [each["href"] for each in page["links"] if each["rel"] == rel]
                address = httpx.URL(href).raw_path.decode()
                site.get(address)
                steps.count = 0
                page = site.get(address).json()
            assert len(page["collections"]) > 0
            found[f"{path}: prev"] = steps.count
        return found


@pytest.mark.timeout(300)
def test_no_address_costs_more_where_more_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LISTED", 50)
    monkeypatch.setattr(places, "LISTED", 50)
    monkeypatch.setattr(stac, "CHILDREN", 50)
    monkeypatch.setattr(crawlers, "LISTED", 50)
    monkeypatch.setattr(records, "MOST_READ", 50)
    monkeypatch.setattr(records, "MOST_COUNTED", 50)
    monkeypatch.setattr(datasets, "MOST_READ", 50)
    monkeypatch.setattr(datasets, "MOST_COUNTED", 50)
    monkeypatch.setattr(items, "MOST_TESTED", 50)
    monkeypatch.setattr(collections, "MOST_TESTED", 50)
    few, many = _costs(tmp_path / "few", FEW), _costs(tmp_path / "many", MANY)
    grown = {address: (few[address], many[address]) for address in few if many[address] > 1.5 * few[address] + 12}
    assert not grown, "\n".join(f"{address}: {a} → {b}" for address, (a, b) in grown.items())
    assert max(few.values()) > 50, "the count counts"
