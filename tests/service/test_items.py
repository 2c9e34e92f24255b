"""Item search over real catalogs: what it finds is what a look at every version finds, whatever the order and the pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cubeport
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.models import CatalogRecord
from cubeport.cubes.description import CubeDescription, Spatial, Temporal
from cubeport.documents.texts import Texts
from cubeport.service import items, publish
from cubeport.service.datasets import Datasets
from cubeport.service.state import KIND, Cube, DatasetState, Publication, Reach, VersionState

MADE = "2026-01-01T00:00:00Z"


def cube(reach: Reach) -> CubeDescription:
    temporal = None
    if reach.start is not None and reach.end is not None:
        ends = {"start": reach.start, "end": reach.end, "index_start": reach.start, "index_end": reach.end}
        temporal = Temporal(axis="time", calendar="standard", count=2, **ends)
    family: Any = "rectilinear" if reach.bbox is not None else "none"
    return CubeDescription(
        axes=(),
        variables=(),
        fields=("t",),
        spatial=Spatial(family=family, bbox=reach.bbox or (-180, -90, 180, 90)),
        temporal=temporal,
    )


class Shelf:
    """A catalog with datasets of random places and times, and what each version's reach is."""

    def __init__(self, catalog: Any) -> None:
        self.catalog = catalog
        self.datasets = Datasets(catalog)
        self.truth: dict[str, Reach] = {}

    def add(self, dataset_id: str, *reaches: Reach, published: bool = True, known: bool = True) -> None:
        record: CatalogRecord | None = None
        state = DatasetState(texts=Texts(dataset_id=dataset_id, title=dataset_id, description=""))
        for seq, reach in enumerate(reaches, 1):
            version_id = new_id()
            version = VersionState(
                version_id=version_id, seq=seq, kind="created", created_at=MADE, coverage={}, request_scope={}, size_bytes=1,
                digest="d" * 64, ingestion_id="a" * 32, engine="zarr", request_digest="e" * 64, shown_at=MADE,
                reach=reach if known else None,
            )  # fmt: skip
            state = publish.pointed((record and DatasetState.of(record)) or state, version_id)
            if not published:
                state = state.model_copy(update={"publication": Publication()})
            shown = publish.with_shown(record or CatalogRecord(key=dataset_id, kind=KIND), state, cube(reach))
            backend = self.catalog.backend
            record = backend.add_record(shown) if record is None else backend.update_record(shown)
            self.catalog.rows.put(version.row(record.id))
            self.catalog.rows.put(Cube(description=cube(reach), documents={"item": {}}).row(version_id, record.id))
            if published:
                self.truth[f"{dataset_id}@{version_id}"] = reach

    def found(self, limit: int, **asked: Any) -> list[str]:
        """Return the ids of all pages, in order."""
        interval = asked.pop("interval", None)
        times = {"interval": interval, "datetime": "/".join(each or ".." for each in interval)} if interval else {}
        ids: list[str] = []
        token = None
        while True:
            page = items.find(self.datasets, items.ItemSearch(limit=limit, token=token, binding="b", **asked, **times))
            ids += [f"{each.texts.dataset_id}@{each.version.version_id}" for each in page.items]
            assert len(page.items) <= limit
            if (token := page.token) is None:
                return ids


@pytest.fixture(params=["sqlite", "tinydb"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    with cubeport.Catalog.create(tmp_path / "c", request.param) as catalog:
        yield Shelf(catalog)


def random_reach(rng: random.Random) -> Reach:
    place: dict[str, Any] = {}
    if rng.random() < 0.85:
        west, south = rng.uniform(-180, 170), rng.uniform(-90, 80)
        east = west + rng.uniform(1, 60)
        place["bbox"] = (west, south, east - 360 if east > 180 else east, min(90.0, south + rng.uniform(1, 30)))
    if rng.random() < 0.85:
        year = rng.randrange(1990, 2010)
        place |= {"start": f"{year}-01-01T00:00:00Z", "end": f"{year + rng.randrange(3)}-12-31T00:00:00Z"}
    return Reach(**place)


def test_every_search_finds_what_a_look_at_each_version_finds(shelf: Shelf) -> None:
    rng = random.Random(7)
    for n in range(60):
        reaches = [random_reach(rng) for _ in range(rng.choice([1, 1, 1, 3]))]
        shelf.add(f"d{rng.randrange(10**6):06}", *reaches, published=n % 9 != 0, known=n % 7 != 0)
    for _ in range(25):
        asked: dict[str, Any] = {}
        if rng.random() < 0.7:
            west, south = rng.uniform(-180, 150), rng.uniform(-90, 60)
            asked["box"] = (west, south, west + 30 if west < 150 else west - 330, south + 30)
        if rng.random() < 0.7:
            asked["interval"] = (f"{rng.randrange(1988, 2011)}-06-01T00:00:00Z", None)
        wanted = {
            key
            for key, reach in shelf.truth.items()
            if ("box" not in asked or reach.meets(asked["box"])) and ("interval" not in asked or reach.during(*asked["interval"]))
        }
        found = shelf.found(rng.choice([1, 7, 1000]), **asked)
        assert len(found) == len(set(found))
        assert set(found) == wanted
        assert [each.partition("@")[0] for each in found] == sorted(each.partition("@")[0] for each in found)


def test_an_older_version_is_found_where_it_was(shelf: Shelf) -> None:
    shelf.add("moved", Reach(bbox=(0, 0, 1, 1)), Reach(bbox=(50, 0, 51, 1)))
    shelf.add("grown", Reach(bbox=(0, 0, 1, 1)), Reach(bbox=(0, 0, 2, 2)))
    assert [each.partition("@")[0] for each in shelf.found(10, box=(0.2, 0.2, 0.3, 0.3))] == ["grown", "grown", "moved"]
    elsewhere = {
        each.state.texts.dataset_id: each.state.elsewhere for each in (shelf.datasets.get("moved"), shelf.datasets.get("grown"))
    }
    assert elsewhere == {"moved": True, "grown": False}


def test_what_has_no_place_or_no_time_is_found_by_searches_that_do_not_ask(shelf: Shelf) -> None:
    shelf.add("index", Reach(start="2000-01-01T00:00:00Z", end="2000-12-31T00:00:00Z"))
    shelf.add("relief", Reach(bbox=(0, 0, 10, 10)))
    assert len(shelf.found(10)) == 2
    assert [each.partition("@")[0] for each in shelf.found(10, box=(-180, -90, 180, 90))] == ["relief"]
    assert [each.partition("@")[0] for each in shelf.found(10, interval=(None, "2020-01-01T00:00:00Z"))] == ["index"]


def test_ids_and_collections_name_what_is_looked_at(shelf: Shelf) -> None:
    for name in ("a", "b", "c"):
        shelf.add(name, Reach(), Reach())
    second = next(each for each in shelf.truth if each.startswith("b"))
    assert shelf.found(1, ids=frozenset({second, "nobody@x"})) == [second]
    assert [each[0] for each in shelf.found(1, collections=frozenset({"a", "c", "x"}))] == ["a", "a", "c", "c"]
