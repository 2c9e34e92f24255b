"""Versions: rollback, tags and the feed of changes, one commit each, seen at once on every face."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import xarray as xr

import cubeport
from cubeport.errors import CursorExpired, DatasetExists, InvalidCursor, InvalidRequest, NotFound, TagExists
from cubeport.service.changes import Changes
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.service import Service
from cubeport.service.state import CHANGE

from .conftest import here, start, stop


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three states of a small series, each with another first value."""
    folder = tmp_path_factory.mktemp("files")
    made = []
    for n in range(3):
        data = xr.Dataset(
            {"t": (("time", "lat", "lon"), [[[float(n), 1.0], [2.0, 3.0]]] * 2, {"units": "K"})},
            coords={
                "time": ("time", [0, 1], {"units": "days since 2020-01-01", "standard_name": "time"}),
                "lat": ("lat", [10.0, 20.0], {"units": "degrees_north", "standard_name": "latitude"}),
                "lon": ("lon", [30.0, 40.0], {"units": "degrees_east", "standard_name": "longitude"}),
            },
        )
        made.append(folder / f"s{n}.nc")
        data.to_netcdf(made[-1])
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    assert here("init", tmp_path / "i").returncode == 0
    return tmp_path / "i"


@pytest.fixture
def service(root: Path) -> Iterator[Service]:
    with cubeport.connect(root) as opened:
        yield opened


def ingest(service: Service, path: Path, dataset_id: str = "t", **request: Any) -> str:
    asked = IngestionRequest(dataset_id=dataset_id, mode="replace", **request)
    done = service.ingest_here(asked, FileOptions(files=(str(path),)))
    assert done.status == "completed", done.error
    assert done.version_id is not None
    return done.version_id


def first_value(service: Service, ref: str = "t") -> float:
    shown = service.shown(ref)
    path = next(Path(service.catalog.root or "").glob(f"data/store/t/{shown.version.version_id}/cube.zarr"))
    return float(xr.open_zarr(path, consolidated=True)["t"].values[0, 0, 0])


def test_an_ingestion_waits_for_its_dataset_and_says_so_only_then(service: Service, small: list[Path]) -> None:
    told: list[str] = []
    stored: list[tuple[str, int]] = []
    waits = threading.Event()

    def listener(phase: str, done: int, total: int) -> None:
        told.append(phase)
        if phase == "waiting":
            waits.set()
        else:
            work, changes = service.follow(service.ingestions(limit=1).items[0].ingestion_id)
            stored.append((work.progress.phase, changes))

    def run() -> None:
        asked = IngestionRequest(dataset_id="t", mode="replace")
        done = service.ingest_here(asked, FileOptions(files=(str(small[0]),)), listener=listener)
        assert done.status == "completed", done.error

    run()
    assert told[0] == "planning"
    assert stored[0] == ("planning", 1), "its row was not written again since it was accepted"
    told.clear()
    stored.clear()
    locks = service.catalog.parts.named_locks
    assert locks is not None
    with ThreadPoolExecutor(1) as pool:
        with locks.hold("dataset", "t"):
            running = pool.submit(run)
            assert waits.wait(60)
            while service.ingestions(limit=1).items[0].progress.phase != "waiting":
                assert not running.done()
        running.result()
    assert told[:2] == ["waiting", "planning"]


def test_an_ingestion_looks_at_no_lock_but_its_own(service: Service, root: Path, small: list[Path]) -> None:
    """Every dataset has a lock. An ingestion that looked at all of them would cost more with each dataset."""
    ingest(service, small[0])
    [folder] = {each.parent for each in (root / ".cubeport/locks").rglob("t.lock")}
    left = folder / "other.lock.note"
    left.with_suffix("").touch()
    left.write_text('{"pid": 1}')
    ingest(service, small[1])
    assert left.read_text() == '{"pid": 1}'
    with cubeport.connect(root):
        assert left.read_text() == "", "an instance that is opened clears what the dead have left"


def test_rollback_is_one_commit_and_the_next_ingestion_builds_on_it(service: Service, small: list[Path]) -> None:
    one, two, three = (ingest(service, path) for path in small)
    assert first_value(service) == 2
    service.rollback("t", to=one)
    state = service.dataset("t").state
    assert (state.latest, state.head, state.published) == (one, one, True)
    assert first_value(service) == 0
    assert [state.version_id for state, _ in service.versions("t")] == [three, two, one], "later ones stay listed"
    record = service.dataset("t").record.version
    service.rollback("t", to=one)
    assert service.dataset("t").record.version == record, "twice is once"
    service.publish("t", version=three)
    assert first_value(service) == 2
    service.unpublish("t")
    service.rollback("t", to=two)
    state = service.dataset("t").state
    assert (state.published, state.head) == (False, two)
    again = ingest(service, small[2], publish=False)
    versions = {state.version_id: state for state, _ in service.versions("t")}
    assert versions[again].parent_id == two
    assert service.versions("t")[0][0].version_id == again, "the newest comes first, whatever it builds on"
    with pytest.raises(NotFound):
        service.rollback("t", to="f" * 32)
    with pytest.raises(NotFound):
        service.rollback("none", to=one)


def test_tags_name_versions_and_never_move_unless_forced(service: Service, small: list[Path]) -> None:
    one, two = ingest(service, small[0]), ingest(service, small[1])
    service.tag("t", "first", version=one)
    service.tag("t", "first", version=one)
    assert service.shown("t@first").version.version_id == one
    assert first_value(service, "t@first") == 0
    with pytest.raises(TagExists):
        service.tag("t", "first", version=two)
    service.tag("t", "first", version=two, force=True)
    assert service.shown("t@first").version.version_id == two
    service.rollback("t", to="first")
    service.untag("t", "first")
    with pytest.raises(NotFound):
        service.shown("t@first")
    with pytest.raises(NotFound):
        service.untag("t", "first")
    for bad in ("latest", "1st", "UPPER", "with space", "", "x" * 65):
        with pytest.raises(InvalidRequest):
            service.tag("t", bad, version=one)


def replay(service: Service) -> tuple[dict[str, str | None], list[tuple[str, str, str]]]:
    """Return what the feed says is published, with its version, and its entries."""
    seen: dict[str, str | None] = {}
    entries = []
    cursor = None
    while (page := service.changes(cursor=cursor, limit=2)).items:
        for each in page.items:
            entries.append((each.dataset_id, each.type, each.reason))
            if each.type == "removed":
                seen.pop(each.dataset_id)
            else:
                seen[each.dataset_id] = each.version_id
        cursor = page.next
    return seen, entries


def published(service: Service) -> dict[str, str | None]:
    return {each.texts.dataset_id: each.latest for each in service.datasets(limit=1000).items}


def test_a_dataset_whose_id_is_taken_is_restored_by_its_record_after_the_other_is_deleted(
    service: Service, small: list[Path]
) -> None:
    old = ingest(service, small[0])
    deleted = service.delete("t")
    new = ingest(service, small[1])
    with pytest.raises(DatasetExists) as refused:
        service.restore("t")
    assert f"cubeport restore {deleted.id}" in str(refused.value.next_step)
    assert published(service) == {"t": new}
    service.delete("t")
    generation = service.generation()
    service.restore(deleted.id)
    assert service.generation() == generation + 1, "one commit: readers never see it published in between"
    assert published(service) == {}
    service.publish("t")
    assert published(service) == {"t": old}


def test_the_feed_replayed_is_the_list_of_datasets(service: Service, small: list[Path]) -> None:
    one = ingest(service, small[0])
    ingest(service, small[1])
    ingest(service, small[0], "other", publish=False)
    service.describe("other", title="nobody sees it")
    assert replay(service) == (published(service), [("t", "upserted", "created"), ("t", "upserted", "version")])
    service.publish("other")
    service.describe("t", title="Seen")
    service.rollback("t", to=one)
    service.unpublish("t")
    service.unpublish("t")
    service.publish("t")
    service.delete("other")
    service.restore("other")
    ingest(service, small[1], "other")
    seen, entries = replay(service)
    assert seen == published(service)
    assert seen["t"] == one
    assert entries[2:] == [
        ("other", "upserted", "published"),
        ("t", "upserted", "metadata"),
        ("t", "upserted", "rolled_back"),
        ("t", "removed", "unpublished"),
        ("t", "upserted", "published"),
        ("other", "removed", "deleted"),
        ("other", "upserted", "published"),  # by a new version: readers did not see it before
    ]
    assert [each.dataset_id for each in service.changes(dataset_id="other").items] == ["other"] * 3
    end = service.changes(limit=1000).next
    assert service.changes(cursor=end) == service.changes(cursor=end)
    assert service.changes(cursor=end).items == ()
    for wrong in ("x", "", end + "x"):
        with pytest.raises(InvalidCursor):
            service.changes(cursor=wrong)


def test_a_cursor_behind_what_was_forgotten_has_expired(service: Service, small: list[Path]) -> None:
    ingest(service, small[0])
    begin = service.changes(limit=1).next
    for n in range(4):
        service.describe("t", title=f"title {n}")
    feed = Changes(service.catalog.backend, keep_days=0)
    assert feed.prune() == 4
    assert service.catalog.rows.count(CHANGE) == 1, "the newest stays, so that numbers go on"
    with pytest.raises(CursorExpired):
        feed.page(cursor=begin)
    last = feed.page().items[-1]
    service.describe("t", title="more")
    assert [each.seq for each in feed.page(cursor=last.cursor).items] == [last.seq + 1]


def test_over_http_and_on_the_command_line(root: Path, small: list[Path]) -> None:
    with cubeport.connect(root) as service:
        one, two = ingest(service, small[0]), ingest(service, small[1])
    process, url = start(root)
    try:
        put = httpx.put(f"{url}/datasets/t/tags/old", json={"version": one}, trust_env=False)
        assert (put.status_code, put.json()["version_id"], put.json()["tags"]) == (200, one, ["old"])
        assert put.json() == httpx.get(f"{url}/datasets/t/versions/{one}", trust_env=False).json()
        clash = httpx.put(f"{url}/datasets/t/tags/old", json={"version": two}, trust_env=False)
        assert (clash.status_code, clash.json()["kind"]) == (409, "tag-exists")
        pinned = httpx.get(f"{url}/datasets/t@old", trust_env=False)
        assert pinned.status_code == 200
        back = here("rollback", "t", "--to", one[:8], "--instance", root)
        assert back.returncode == 0, back.stderr
        assert httpx.get(f"{url}/datasets/t", trust_env=False).json()["latest_version"] == one
        assert httpx.get(f"{url}/stac/collections/t", trust_env=False).status_code == 200
        feed = httpx.get(f"{url}/changes", trust_env=False).json()
        assert [each["reason"] for each in feed["items"]] == ["created", "version", "metadata", "rolled_back"]
        assert feed["items"][-1]["version_id"] == one
        waited = httpx.get(f"{url}/changes", params={"cursor": feed["next_cursor"], "wait": 1}, timeout=30, trust_env=False)
        assert waited.json()["items"] == []
        with following(url, feed["items"][0]["cursor"]) as heard:
            assert [(kind, each["reason"]) for kind, _, each in heard(3)] == [
                ("change", reason) for reason in ("version", "metadata", "rolled_back")
            ]
            began = time.monotonic()
            gone = httpx.delete(f"{url}/datasets/t/tags/old", trust_env=False)
            ((_, last, change),) = heard(1)
            assert time.monotonic() - began < 5
        assert (gone.json()["version_id"], gone.json()["tags"]) == (one, [])
        assert (change["reason"], change["href"]) == ("metadata", f"{url}/datasets/t")
        assert httpx.get(f"{url}/changes", params={"cursor": last}, trust_env=False).json()["items"] == []
        with following(url, **{"Last-Event-ID": feed["next_cursor"]}) as heard:
            assert heard(1) == [("change", last, change)], "who comes back receives what came later, once"
        for wrong in ({"cursor": "x"}, {"cursor": last, "wait": 1}, {"limit": 5}):
            refused = httpx.get(f"{url}/changes", params=wrong, headers={"Accept": "text/event-stream"}, trust_env=False)
            assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
        listed = here("changes", "--json", "--instance", root)
        assert len(json.loads(listed.stdout)["items"]) == 5
        for more, tags in (((), ["cli"]), (("--delete",), [])):
            said = here("tag", "t", "cli", *more, *(() if more else ("--version", one)), "--json", "--instance", root)
            assert (json.loads(said.stdout)["version_id"], json.loads(said.stdout)["tags"]) == (one, tags), said.stderr
        for method, path in (("POST", "/datasets/t/rollback"), ("PUT", "/datasets/t/tags/x"), ("DELETE", "/datasets/t/tags/x")):
            reader = httpx.request(method, url + path, json={}, headers={"X-Forwarded-For": "203.0.113.1"}, trust_env=False)
            assert reader.status_code == 401, (method, path, reader.text)
        with cubeport.connect(root) as service:
            Changes(service.catalog.backend, keep_days=0).prune()
        for accept in ("application/json", "text/event-stream"):
            expired = httpx.get(f"{url}/changes", params={"cursor": last}, headers={"Accept": accept}, trust_env=False)
            assert (expired.status_code, expired.json()["kind"]) == (410, "cursor-expired")
            assert [each["href"] for each in expired.json()["links"]] == [f"{url}/datasets", f"{url}/changes"]
            last = (
                httpx.get(expired.json()["links"][1]["href"], trust_env=False).json()["next_cursor"] if "stream" in accept else last
            )
        began = time.monotonic()
        with following(url, last):  # a stream that nothing ends does not keep the server
            stop(process)
        assert time.monotonic() - began < 15
    finally:
        stop(process)


@contextmanager
def following(url: str, cursor: str | None = None, **headers: str) -> Iterator[Callable[[int], list[tuple[str, str, Any]]]]:
    """Follow the feed as server-sent events; what is given returns the next events."""
    asked = {"cursor": cursor} if cursor else {}
    accept = {"Accept": "text/event-stream", **headers}
    with httpx.stream("GET", f"{url}/changes", params=asked, headers=accept, timeout=30, trust_env=False) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()

        def heard(count: int) -> list[tuple[str, str, Any]]:
            found: list[tuple[str, str, Any]] = []
            fields: dict[str, str] = {}
            while len(found) < count:
                line = next(lines)
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif not line and fields:
                    found.append((fields["event"], fields["id"], json.loads(fields["data"])))
                    fields = {}
            return found

        yield heard


def test_a_dataset_with_several_grids_is_found_by_each_of_its_variables(service: Service, tmp_path: Path) -> None:
    north, east = {"units": "degrees_north"}, {"units": "degrees_east"}
    xr.Dataset(
        {"fine": (("y", "x"), [[1.0, 2], [3, 4]]), "coarse": (("yy", "xx"), [[5.0, 6], [7, 8]])},
        {"y": ("y", [0.0, 1], north), "x": ("x", [0.0, 1], east), "yy": ("yy", [0.0, 2], north), "xx": ("xx", [0.0, 2], east)},
    ).to_netcdf(tmp_path / "two.nc")
    ingest(service, tmp_path / "two.nc", "two")
    xr.open_dataset(tmp_path / "two.nc")[["fine"]].to_netcdf(tmp_path / "one.nc")
    ingest(service, tmp_path / "one.nc", "one")
    assert [each.texts.dataset_id for each in service.datasets(variable="coarse").items] == ["two"]
    assert [each.texts.dataset_id for each in service.datasets(variable="fine").items] == ["one", "two"]
    assert [each.texts.dataset_id for each in service.datasets(several_grids=True).items] == ["two"]
    assert service.coverage("two:coarse").description.fields == ("coarse",)
    with pytest.raises(NotFound):
        service.coverage("one:coarse")
