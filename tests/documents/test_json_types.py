"""Every document that we send is what its type says; the check lists everything that is wrong, each with its place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import xarray as xr
from tests.families import FAMILIES

from cubeport.cubes.describe import describe
from cubeport.documents import json_types, ogc, stac
from cubeport.documents.json_types import problems
from cubeport.documents.texts import PublishedView, Texts, VersionRef

SITE = stac.Site(public_url="https://data.example")
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def shown(name: str, path: Any) -> PublishedView:
    """Return the family's dataset as a face sees it, sealed from its file."""
    engine: dict[str, Any] = {"engine": "zarr"} if path.suffix == ".zarr" else {}
    with xr.open_dataset(path, decode_cf=False, **engine) as raw:
        description = describe(raw)
        sealed = {**stac.seal(description, raw), "ogc": ogc.seal(description)}
    version = VersionRef(version_id="1" * 32, created_at=MADE, digest="d" * 64, size_bytes=1)
    return PublishedView(
        texts=Texts(dataset_id=name, title=name, description=name, license="CC-BY-4.0"),
        version=version,
        description=description,
        sealed=sealed,
        record_version=1,
        record_id="2" * 32,
        created_at=MADE,
        updated_at=MADE,
        versions=(version,),
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_document_of_every_grid_family_is_what_its_type_says(name: str, tmp_path: Any) -> None:
    dataset = shown(name, FAMILIES[name].write(tmp_path, name))
    url = SITE.public_url
    documents = [
        (stac.collection(dataset, SITE), json_types.CollectionJSON),
        (stac.collections([dataset], SITE, next_token="t"), json_types.CollectionsJSON),
        (stac.item(dataset, SITE), json_types.ItemJSON),
        (stac.items(dataset, [dataset], SITE, matched=1), json_types.ItemCollectionJSON),
        (stac.catalog(SITE, [(name, name)]), json_types.CatalogJSON),
        (ogc.collection(dataset, public_url=url), json_types.CoverageCollectionJSON),
        (ogc.collections([dataset], public_url=url, links=[], matched=None), json_types.CoverageCollectionsJSON),
        (ogc.landing(title="t", description="d", public_url=url), json_types.LandingPageJSON),
        (ogc.conformance(), json_types.ConformanceJSON),
    ]
    assert [found for document, form in documents if (found := problems(document, form))] == []


def test_all_that_is_wrong_is_listed_with_its_place(tmp_path: Any) -> None:
    collection: Any = stac.collection(shown("regular", FAMILIES["regular"].write(tmp_path, "regular")), SITE)
    del collection["license"]
    collection["extent"]["spatial"]["bbox"] = [[1.0, 2.0]]
    collection["links"][0]["title"] = None
    collection["assets"]["zarr"]["zarr:consolidated"] = "yes"
    found = problems(collection, json_types.CollectionJSON)
    assert {each.loc for each in found} == {
        ("license",),
        ("extent", "spatial", "bbox", 0),
        ("links", 0, "title"),
        ("assets", "zarr", "zarr:consolidated"),
    }


def test_an_item_without_a_place_has_no_geometry_and_no_box() -> None:
    raw = xr.Dataset({"index": ("time", [1.0, 2.0])}, {"time": ("time", [0, 1], {"units": "days since 2020-01-01"})})
    description = describe(raw)
    item = stac.seal(description, raw)["item"]
    assert item["geometry"] is None
    assert "bbox" not in item
