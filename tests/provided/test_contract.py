"""Our own sources keep the promises that plugins are held to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tests.objectstore import KEY, SECRET, ObjectStore
from tests.provider import Provider, running

from cubeport.adapters.fetching.bringing import Bringer, listed
from cubeport.adapters.fetching.kept import KeptFolder
from cubeport.adapters.fetching.stac import Asset, StacSource
from cubeport.adapters.fetching.stores import StoreSource
from cubeport.adapters.fetching.urls import UrlSource
from cubeport.adapters.storage.fetching import KeepingFetcher
from cubeport.adapters.storage.local import LocalProfile
from cubeport.adapters.storage.remote import SCRATCH, RemoteProfile
from cubeport.cubes.placeholders import Pattern
from cubeport.cubes.sources import Area, Fetched, Period
from cubeport.cubes.write_request import BringOrder
from cubeport.errors import Configuration, CubeportError, NoData, SourceFailed, SourceRejected
from cubeport.service.testing.source import SourceContract

DAYS = tuple(Period.parse(f"2024-01-{n:02d}", "daily") for n in (1, 2, 3))
GONE = Period.parse("2024-01-05", "daily")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running(tmp_path_factory.mktemp("served")) as provider:
        for day in DAYS:
            provider.put(f"{day}.nc", str(day).encode())
        provider.put("202401.nc", b"a month")
        items = []
        for day in DAYS:
            properties = {"datetime": f"{day}T00:00:00Z"}
            assets = {"data": {"href": f"{day}.nc"}}
            items.append({"type": "Feature", "id": str(day), "properties": properties, "assets": assets, "links": []})
        provider.put("items.json", json.dumps({"type": "FeatureCollection", "features": items, "links": []}).encode())
        yield provider


def of(provider: Provider, name: str) -> UrlSource:
    return UrlSource(Pattern.of(f"{provider.url}/{name}", {}), KeepingFetcher([provider.url]))


class TestUrl(SourceContract):
    there = DAYS
    absent = GONE

    @pytest.fixture
    def source(self, served: Provider) -> UrlSource:
        return of(served, "{YYYY}-{MM}-{DD}.nc")


class TestUrlOfMonths(SourceContract):
    there = DAYS
    absent = Period.parse("2024-02-01", "daily")

    @pytest.fixture
    def source(self, served: Provider) -> UrlSource:
        return of(served, "{YYYY}{MM}.nc")


class TestStac(SourceContract):
    there = DAYS
    absent = GONE

    @pytest.fixture
    def source(self, served: Provider) -> StacSource:
        def of_asset(asset: Asset) -> UrlSource:
            return UrlSource(Pattern.of(asset.href, {}), KeepingFetcher([served.url]))

        return StacSource(
            f"{served.url}/items.json",
            KeepingFetcher([served.url]),
            of_asset,
            asset=None,
            interval=None,
            wanted={},
            stopping=threading.Event(),
        )


class TestFolder(SourceContract):
    there = DAYS
    absent = GONE

    @pytest.fixture
    def source(self, tmp_path: Path) -> StoreSource:
        (tmp_path / "root/a").mkdir(parents=True)
        for day in DAYS:
            (tmp_path / f"root/a/{day}.nc").write_text(str(day))
        return StoreSource(LocalProfile("x", tmp_path / "root"), Pattern.of("a/{YYYY}-{MM}-{DD}.nc", {}), most=1000)


class TestStore(SourceContract):
    there = DAYS
    absent = GONE

    @pytest.fixture
    def source(self, tmp_path: Path, object_store: ObjectStore) -> StoreSource:
        bucket = object_store.bucket()
        for day in DAYS:
            object_store.put(bucket, f"p/a/{day}.nc", str(day).encode())
        options = {"key": KEY, "secret": SECRET, "endpoint_url": object_store.endpoint}
        profile = RemoteProfile("x", "s3", f"s3://{bucket}/p", LocalProfile(SCRATCH, tmp_path / "scratch"), options=options)
        return StoreSource(profile, Pattern.of("a/{YYYY}-{MM}-{DD}.nc", {}), most=1000)


# --- plugins that break it -------------------------------------------------------------------------------------------


class Odd:
    """A source that does what it is told to."""

    max_concurrency: ClassVar[int] = 2

    def __init__(self, *, lists: object = None, gives: object = None) -> None:
        self.lists, self.gives = lists, gives
        self.fetched: list[str] = []
        self.area: Area | None = None

    def periods(self, start: Period, end: Period) -> object:
        if isinstance(self.lists, Exception):
            raise self.lists
        return self.lists

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> object:
        self.fetched.append(str(period))
        self.area = area
        if isinstance(self.gives, Exception):
            raise self.gives
        if self.gives is not None:
            return self.gives
        (into / "a.nc").write_text(str(period))
        return Fetched((into / "a.nc",), None)


@pytest.mark.parametrize(
    ("lists", "error", "words"),
    [
        ([DAYS[1], DAYS[0]], Configuration, "out of order"),
        ([DAYS[0], DAYS[0]], Configuration, "some of them twice"),
        ([GONE], Configuration, "not asked for"),
        (KeyError("station"), SourceFailed, "The source odd failed: KeyError"),
        (NoData("nothing"), NoData, "nothing"),
    ],
)
def test_a_list_that_lies_is_caught_by_name(lists: object, error: type[CubeportError], words: str) -> None:
    with pytest.raises(error, match=words):
        listed("odd", Odd(lists=lists), DAYS[0], DAYS[2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gives", "error", "words"),
    [
        (Fetched(()), Configuration, "did not return files"),
        ("a.nc", Configuration, "did not return files"),
        (Fetched((Path("/etc/passwd"),)), Configuration, "not below the folder"),
        (ZeroDivisionError("oops"), SourceFailed, r"odd failed for 2024-01-01: ZeroDivisionError: oops"),
    ],
)
def test_what_a_source_gives_is_held_to_its_contract(tmp_path: Path, gives: object, error: type[CubeportError], words: str) -> None:
    with pytest.raises(error, match=words):
        bring(tmp_path, Odd(gives=gives))


def bring(tmp_path: Path, source: object, *, job: str = "job", periods: tuple[Period, ...] = DAYS[:1]) -> list[str]:
    order = BringOrder(dataset_id="x", name="odd", source="odd", periods=periods, job=job, retries=0)
    with Bringer(KeptFolder(tmp_path, hours=1, max_bytes=1000)).bring(source, order, progress=lambda *_: None) as brought:  # type: ignore[arg-type]
        return [file.read_text() for file in brought.of(periods)]


def test_without_a_word_of_its_bytes_only_the_same_job_need_not_fetch_again(tmp_path: Path) -> None:
    source = Odd()
    assert bring(tmp_path, source, periods=DAYS) == list(map(str, DAYS))
    assert bring(tmp_path, source, periods=DAYS) == list(map(str, DAYS))
    assert sorted(source.fetched) == list(map(str, DAYS))
    bring(tmp_path, source, job="another")
    assert len(source.fetched) == 4


@pytest.mark.parametrize(("template", "source", "together"), [(4, 2, 2), (2, 8, 2), (3, 8, 3), (1, 8, 1)])
def test_no_more_periods_come_at_once_than_the_template_and_the_source_allow(
    tmp_path: Path, template: int, source: int, together: int
) -> None:
    """``ingestion.max_concurrency`` of a template, and ``max_concurrency`` of a source."""
    full, running, most = threading.Barrier(together), threading.Semaphore(together), []

    class Counted(Odd):
        max_concurrency: ClassVar[int] = source

        def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> object:
            most.append(running.acquire(blocking=False))
            full.wait(10)  # so many are here
            found = super().fetch_period(period, area, into)
            running.release()
            return found

    first = DAYS[0]
    order = BringOrder("x", "odd", "odd", tuple(first.moved(n) for n in range(12)), at_once=template, retries=0)
    with Bringer(KeptFolder(tmp_path, hours=1, max_bytes=10**6)).bring(Counted(), order, progress=lambda *_: None):  # type: ignore[arg-type]
        assert most == [True] * 12, "and never one more"


def test_the_area_of_the_extent_reaches_the_source(tmp_path: Path) -> None:
    source, area = Odd(), Area((4.0, 57.0, 32.0, 72.0), "NOR")
    order = BringOrder(dataset_id="x", name="odd", source="odd", periods=DAYS[:1], area=area)
    with Bringer(KeptFolder(tmp_path, hours=1, max_bytes=1000)).bring(source, order, progress=lambda *_: None):  # type: ignore[arg-type]
        assert source.area == area


def test_a_name_that_leads_inside_is_refused_on_kept_connections_too() -> None:
    fetcher = KeepingFetcher(["https://data.example"], resolve=lambda *_: ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(SourceRejected, match="not public"):
        fetcher.head("https://data.example/a.nc")


def test_a_redirect_is_refused_and_no_answer_of_another_part_is_believed(served: Provider) -> None:
    fetcher = KeepingFetcher([served.url])
    served.temper("202401.nc", status=302)
    with pytest.raises(SourceRejected, match="redirect"):
        fetcher.head(f"{served.url}/202401.nc")
    served.calm("202401.nc")
    with fetcher.get(f"{served.url}/202401.nc", start=2, etag='"another"') as answer:
        assert answer is not None
        assert (answer.start, answer.body.read(100)) == (0, b"a month"), "it is another by now: all of it came"
