"""Item search over real catalogs: what it finds is what a look at every version finds, whatever the order and the pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.steps import Steps

import cubeport
from cubeport.adapters.backends.sql import places
from cubeport.adapters.backends.sql.places import LISTED
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import Interval
from cubeport.cubes.description import CubeDescription, Spatial, Temporal
from cubeport.documents import cql2
from cubeport.documents.texts import Texts
from cubeport.errors import InvalidRequest
from cubeport.service import items, publish
from cubeport.service.datasets import Datasets
from cubeport.service.state import KIND, Cube, DatasetState, Publication, Reach, VersionState


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
        self.versions: dict[str, VersionState] = {}

    def add(self, dataset_id: str, *reaches: Reach, published: bool = True, known: bool = True, made: str = "2026") -> None:
        record: CatalogRecord | None = None
        state = DatasetState(texts=Texts(dataset_id=dataset_id, title=dataset_id, description=""))
        for seq, reach in enumerate(reaches, 1):
            version_id = new_id()
            version = VersionState(
                version_id=version_id, seq=seq, kind="created", created_at=f"{made}-01-01T00:00:00Z", coverage={},
                request_scope={}, size_bytes=1,
                digest="d" * 64, ingestion_id="a" * 32, engine="zarr", request_digest="e" * 64, shown_at=f"{made}-01-01T00:00:00Z",
                reach=reach if known else None,
            )  # fmt: skip
            state = publish.pointed((record and DatasetState.of(record)) or state, version_id)
            if not published:
                state = state.model_copy(update={"publication": Publication()})
            shown = publish.with_shown(record or CatalogRecord(key=dataset_id, kind=KIND), state, cube(reach))
            backend = self.catalog.backend
            record = backend.add_record(shown) if record is None else backend.update_record(shown)
            self.catalog.rows.put(version.row(record.id))
            documents = {"item": {"geometry": None, "properties": {}}}
            self.catalog.rows.put(Cube(description=cube(reach), documents=documents).row(version_id, record.id))
            if published:
                self.truth[f"{dataset_id}@{version_id}"] = reach
                self.versions[version_id] = version

    def value(self, item: str, name: str) -> Any:
        """Return what the item is sorted by."""
        dataset_id, _, version_id = item.partition("@")
        if name in ("start", "end"):
            return getattr(self.truth[item], name)
        return {"created": self.versions[version_id].created_at, "id": version_id}.get(name, dataset_id)

    def found(self, limit: int, **asked: Any) -> list[str]:
        """Return the ids of all pages, in order."""
        interval = asked.pop("interval", None)
        times = {"interval": Interval(*interval)} if interval else {}
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
        found = shelf.found(rng.choice([1, 7, 1000]), **asked, order=(("owner.key", False), ("created", True)))
        assert len(found) == len(set(found))
        assert set(found) == wanted
        assert [each.partition("@")[0] for each in found] == sorted(each.partition("@")[0] for each in found)


def test_an_older_version_is_found_where_it_was(shelf: Shelf) -> None:
    shelf.add("moved", Reach(bbox=(0, 0, 1, 1)), Reach(bbox=(50, 0, 51, 1)))
    shelf.add("grown", Reach(bbox=(0, 0, 1, 1)), Reach(bbox=(0, 0, 2, 2)))
    names = [each.partition("@")[0] for each in shelf.found(10, box=(0.2, 0.2, 0.3, 0.3), order=(("owner.key", False),))]
    assert names == ["grown", "grown", "moved"]


def test_an_older_version_is_found_as_soon_as_its_dataset_has_moved(shelf: Shelf) -> None:
    shelf.add("still", Reach(bbox=(0, 0, 1, 1)))
    assert len(shelf.found(10, box=(0.2, 0.2, 0.3, 0.3))) == 1
    shelf.add("moved", Reach(bbox=(0, 0, 1, 1)), Reach(bbox=(50, 0, 51, 1)))
    found = shelf.found(10, box=(0.2, 0.2, 0.3, 0.3), order=(("owner.key", False),))
    assert [each.partition("@")[0] for each in found] == ["moved", "still"]


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
    assert shelf.found(1, ids=frozenset({second, "nobody@x", f"a@{second.partition('@')[2]}"})) == [second]
    assert sorted(each[0] for each in shelf.found(1, collections=frozenset({"a", "c", "x"}))) == ["a", "a", "c", "c"]
    assert shelf.found(1, ids=frozenset({f"a@{second.partition('@')[2]}"})) == []


@pytest.mark.parametrize("name", ["created", "start", "end", "id", "owner.key", "owner.title"])
def test_items_come_in_the_order_that_is_asked_for(shelf: Shelf, name: Any) -> None:
    rng = random.Random(3)
    for n in range(12):
        shelf.add(f"d{rng.randrange(10**6):06}", *(random_reach(rng) for _ in range(1 + n % 2)), made=f"20{rng.randrange(10, 30)}")
    up, down = (shelf.found(5, order=((name, descends),)) for descends in (False, True))
    values = {item: shelf.value(item, name) for item in shelf.truth}
    known = [item for item in up if values[item] is not None]
    assert sorted(up) == sorted(down) == sorted(shelf.truth)
    assert [values[item] for item in known] == sorted(values[item] for item in known)
    assert up[len(known) :] == sorted(up[len(known) :], key=lambda each: each.partition("@")[2]), "what has none comes last"
    assert [item for item in down if values[item] is not None] == known[::-1]


def test_a_second_key_is_refused_where_too_many_have_the_same_first_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them would be sorted for one page. What the refusal advises works."""
    monkeypatch.setattr(places, "TIED", 3)
    both: Any = (("start", False), ("owner.title", True))
    with cubeport.Catalog.create(tmp_path / "c") as catalog:
        shelf, same = Shelf(catalog), Reach(bbox=(0, 0, 1, 1), start="2020-01-01T00:00:00Z", end="2020-02-01T00:00:00Z")
        for name in ("a", "b", "c"):
            shelf.add(name, same)
        assert [each[0] for each in shelf.found(2, order=both)] == ["c", "b", "a"]
        shelf.add("d", same)
        with pytest.raises(InvalidRequest, match="More than 3 items have the same value") as refused:
            shelf.found(2, order=both)
        assert refused.value.next_step == "sort by one key, or give bbox, datetime or collections"
        assert len(shelf.found(2, order=both[:1])) == 4
        for given in (
            {"box": (0, 0, 1, 1)},
            {"interval": ("2019-01-01T00:00:00Z", "2021-01-01T00:00:00Z")},
            {"collections": frozenset("abcd")},
        ):
            assert [each[0] for each in shelf.found(2, order=both, **given)] == ["d", "c", "b", "a"], given


def test_a_filter_is_asked_of_what_the_index_finds(shelf: Shelf) -> None:
    shelf.add("a", Reach(bbox=(0, 0, 1, 1)), Reach(bbox=(0, 0, 2, 2)))
    shelf.add("b", Reach())

    def found(text: str, limit: int = 1) -> list[str]:
        return sorted(each.partition("@")[0] for each in shelf.found(limit, tests=(cql2.read(text).fits,)))

    assert found("deprecated = FALSE") == ["a", "b"]
    assert found("deprecated = TRUE AND title LIKE 'a, version %'") == ["a"]
    assert found("title = 'a'") == [], "the title of an item is not that of its dataset"
    assert found("S_INTERSECTS(geometry, BBOX(0.5,0.5,3,3))") == ["a", "a"]
    assert found("geometry IS NULL", 10) == ["b"]
    assert found("A_CONTAINS(variables, ('t'))", 10) == ["a", "a", "b"]
    assert found("A_CONTAINS(variables, ('u'))", 10) == []


@pytest.mark.parametrize(
    "order",
    [
        (("created", True),),
        (("created", False),),
        (("owner.key", False),),
        (("owner.key", True), ("id", False)),
        (("start", True),),
    ],
)
def test_pages_lead_back_to_those_before(shelf: Shelf, order: items.Order) -> None:
    for name in "abcde":
        shelf.add(name, Reach(), Reach())

    def page(token: str | None) -> tuple[list[str], items.ItemPage]:
        search = items.ItemSearch(limit=3, token=token, binding="b", order=order)
        found = items.find(shelf.datasets, search)
        return [each.version.version_id for each in found.items], found

    there: list[list[str]] = []
    ids, found = page(None)
    assert found.before is None
    while True:
        there.append(ids)
        if found.token is None:
            break
        ids, found = page(found.token)
    assert [len(each) for each in there] == [3, 3, 3, 1]
    if order == (("start", True),):
        assert found.before is None, "items without a start are last in both directions"
        return
    back = [ids]
    while found.before is not None:
        ids, found = page(found.before)
        back.append(ids)
    assert back == there[::-1]
    assert page(found.token)[0] == there[1]
    with pytest.raises(InvalidRequest, match="does not belong"):
        items.find(shelf.datasets, items.ItemSearch(token=page(found.token)[1].before, binding="other", order=order))


def test_a_search_that_takes_too_long_goes_on_by_its_token(shelf: Shelf) -> None:
    """Each step looks at one version at least, so the pages of even the slowest search join into the whole."""
    for name in ("a", "b", "c"):
        shelf.add(name, Reach(), Reach())
    found: list[str] = []
    token, pages = None, 0
    while True:
        search = items.ItemSearch(token=token, tests=(cql2.read("deprecated = FALSE").fits,))
        page = items.find(shelf.datasets, search, deadline_s=-1)
        found += [each.texts.dataset_id for each in page.items]
        pages += 1
        if (token := page.token) is None:
            break
    assert (sorted(found), pages) == (["a", "b", "c"], 7)


def test_a_search_costs_the_same_whatever_the_number_of_datasets(tmp_path: Path) -> None:
    """Steps of SQLite's machine, in hundreds: what a page costs at 10 datasets and at 1,000, where nothing walks them all."""
    costs: dict[int, dict[str, int]] = {}
    searches: dict[str, dict[str, Any]] = {
        "box and time": {"box": (10, 10, 14, 14), "interval": Interval("2005-01-01T00:00:00Z", "2005-03-31T00:00:00Z")},
        "the newest": {},
        "by id": {"order": (("owner.key", False), ("id", False))},
        "by time": {"order": (("start", True),)},
        "one collection": {"collections": frozenset({"d0003"})},
        "the world": {"box": (-180, -90, 180, 90)},
    }
    for count in (20, 1000):
        with cubeport.Catalog.create(tmp_path / str(count)) as catalog:
            shelf, rng = Shelf(catalog), random.Random(1)
            with catalog.backend.transaction():
                for n in range(count):
                    shelf.add(f"d{n:04}", random_reach(rng) if n else Reach(bbox=(11, 11, 12, 12)))
            counted = Steps(catalog)
            for name, asked in searches.items():
                items.find(shelf.datasets, items.ItemSearch(limit=10, **asked))
                counted.count = 0
                page = items.find(shelf.datasets, items.ItemSearch(limit=10, **asked))
                costs.setdefault(count, {})[name] = counted.count
                assert page.items or name == "box and time"
    few, many = costs[20], costs[1000]
    assert all(many[name] <= 2 * few[name] + 10 for name in searches if name != "the world"), costs
    # What is in a box is listed up to a bound, less than a hundred steps for each.
    assert many["the world"] <= few["the world"] + min(1000, LISTED), costs
