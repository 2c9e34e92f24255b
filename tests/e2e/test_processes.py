"""What four processes of one server answer, and what is left when they are killed and started again.

The numbers are the rows of docs/explanation/moving-checks.md.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.provided.places import name_of, netcdf
from tests.provider import running

from cubeport.main import prepare

from .conftest import start, stop
from .test_blackbox import FACES, Site, days

SETTINGS = """
retention: {keep_last: 1, keep_days: 0, grace_min: 0}
ingest: {lock_wait_s: 1}
"""


@dataclass
class Served(Site):
    """An instance behind a server of four processes that can be killed."""

    process: Any = None

    def serve(self) -> None:
        self.process, self.url = start(self.root, "--workers", "4")
        self.pid = self.process.pid

    def kill(self) -> None:
        """Kill all its processes at once."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for each in family:
            each.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, 20)
        self.process.communicate()

    def everywhere(self, dataset_id: str) -> set[tuple[bool, ...]]:
        return self.shown(dataset_id) | self.shown(dataset_id)

    def states(self, path: str) -> set[tuple[int, str]]:
        """Return status and kind of the answers of several processes."""
        answers = [self.ask("GET", path) for _ in range(6)]
        return {(each.status_code, each.json().get("kind", "") if each.status_code >= 400 else "") for each in answers}


pytestmark = pytest.mark.slow
"""A server of four processes and what waits for a clock: minutes on a busy machine."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "drop").mkdir()
    with running(folder / "provider") as provider:
        prepare(folder / "i", allow_roots=(str(folder / "drop"),), allow_origins=(provider.url,))
        with (folder / "i/config/service.yaml").open("a") as file:
            file.write(SETTINGS)
        made = Served("", folder / "i", folder / "drop", provider, 0, folder / "log")
        made.serve()
        yield made
        stop(made.process)


def until(site: Site, path: str, *, ended: bool = True, seconds: float = 60) -> dict[str, Any]:
    """Return the ingestion at *path* when it has ended, or when its data are fetched."""
    deadline = time.monotonic() + seconds
    while True:
        seen: dict[str, Any] = site.ask("GET", path).json()
        if seen["status"] not in ("accepted", "running", "retrying") if ended else seen["status"] == "running":
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)


def test_13_retention_spares_tags_and_what_it_removed_is_410_in_every_process(site: Served) -> None:
    first = site.ingest("kept", source=site.file("k1.nc", 0, 1))["version_id"]
    assert site.ask("PUT", "/datasets/kept/tags/paper", version=first).status_code == 200
    others = [site.ingest("kept", mode="update", source=site.file(f"k{n}.nc", n))["version_id"] for n in (2, 3)]
    assert [len(site.values(ref)) for ref in ("kept@paper", "kept")] == [2, 4]
    assert site.cli("gc").returncode == 0
    stored = {each.name for each in (site.root / "data/store/kept").iterdir()}
    assert stored == {first, others[1]}, "the bytes of the others are gone"
    assert [len(site.values(ref)) for ref in ("kept@paper", f"kept@{first}", "kept")] == [2, 2, 4]
    gone = f"kept@{others[0]}"
    for address in (f"zarr/{gone}/zarr.json", f"zarr/{gone}/t/c/0/0/0", f"datasets/{gone}", f"stac/collections/{gone}"):
        assert site.states("/" + address) == {(410, "version-removed")}, address
    assert site.states(f"/ogcapi/collections/{gone}/coverage") == {(410, "version-removed")}
    said = site.ask("GET", f"/zarr/{gone}/zarr.json")
    assert said.headers["cache-control"] == "no-store"
    assert (said.json()["title"], "was removed by retention" in said.json()["detail"]) == ("The version was removed", True)
    assert [each["state"] for each in site.versions("kept")] == ["latest", "removed", "retained"]
    assert site.ask("DELETE", "/datasets/kept/tags/paper").status_code == 200
    assert site.cli("gc").returncode == 0
    assert site.states(f"/zarr/kept@{first}/zarr.json") == {(410, "version-removed")}
    assert site.states("/zarr/kept@paper/zarr.json") == {(404, "not-found")}
    assert site.values("kept") == days(*range(4))
    assert site.cli("fsck", "--data").returncode == 0


def test_7_who_cannot_wait_hears_of_the_holder_and_a_killed_holder_leaves_no_lock(site: Served) -> None:
    place = site.template("held")
    place.temper(name_of(0), slow_s=30.0)
    asked = {"dataset_id": "held", "start": "2024-01-01", "end": "2024-01-02"}
    accepted = site.ask("POST", "/ingestions", headers={"Prefer": "wait=1"}, **asked)
    assert accepted.status_code == 202, accepted.text
    busy = site.refused(409, "dataset-busy", dataset_id="held", source=site.file("held.nc", 5))
    [note] = [json.loads(each.read_text()) for each in (site.root / ".cubeport/locks").rglob("held.lock.note")]
    assert f"process {note['pid']} " in busy["detail"], busy
    workers = {each.pid for each in psutil.Process(site.process.pid).children(recursive=True)}
    assert note["pid"] in workers | {site.process.pid}
    os.kill(note["pid"], signal.SIGKILL)
    place.calm(name_of(0))
    seen = until(site, accepted.headers["location"].removeprefix(site.url))
    assert (seen["status"], seen["error"]["kind"]) == ("failed", "interrupted")
    assert list((site.root / "data/staging").iterdir()) == []
    assert site.ingest("held", start="2024-01-01", end="2024-01-02")["action"] == "create", "the lock is free"
    assert site.everywhere("held") == {(True,) * 4}


def test_14_events_go_on_in_another_process(site: Served) -> None:
    place = site.template("told", days=range(4))
    for n in range(4):
        place.temper(name_of(n), slow_s=1.0)
    asked = {"dataset_id": "told", "start": "2024-01-01", "end": "2024-01-04"}
    accepted = site.ask("POST", "/ingestions", headers={"Prefer": "respond-async"}, **asked)
    path = accepted.headers["location"].removeprefix(site.url) + "/events"
    heard: list[tuple[str, int]] = []
    for _ in range(40):  # whoever is cut off after each event, and comes to whichever process answers
        headers = {"Last-Event-ID": str(heard[-1][1])} if heard else {}
        with httpx.stream("GET", site.url + path, headers=headers, timeout=60, trust_env=False) as answer:
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    heard.append((fields["event"], int(fields["id"])))
                    last = json.loads(fields["data"])
                    break
        if heard[-1][0] == "end":
            break
    assert (heard[-1][0], last["status"]) == ("end", "completed")
    assert len(heard) >= 3, "it was cut off on the way"
    numbers = [number for _, number in heard]
    assert numbers[:-1] == sorted(set(numbers[:-1])), "none came twice"
    assert [kind for kind, _ in heard].count("end") == 1


def test_26_pages_join_into_the_whole_while_others_insert(site: Served) -> None:
    before = {site.ingest(f"page-{n}", source=site.file(f"page{n}.nc", n))["dataset_id"] for n in range(7)}
    over = threading.Event()
    added: list[str] = []

    def insert() -> None:
        while not over.is_set():
            added.append(site.ingest(f"page-a{len(added)}", source=site.file(f"added{len(added)}.nc", 1))["dataset_id"])

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        for path, items, name in (
            ("/datasets?limit=2", "items", "dataset_id"),
            ("/stac/collections?limit=2", "collections", "id"),
            ("/ogcapi/collections?limit=2", "collections", "id"),
            ("/stac/search?limit=2", "features", "collection"),
            ("/records?kind=dataset&limit=2", "items", "key"),
        ):
            found: list[str] = []
            address: str | None = path
            began = len(added)
            while address is not None:
                page = site.ask("GET", address.removeprefix(site.url)).json()
                found += [str(each[name]) for each in page[items]]
                address = next((each["href"] for each in page["links"] if each["rel"] == "next"), None)
                if len(found) == 4:
                    deadline = time.monotonic() + 60
                    while len(added) == began and time.monotonic() < deadline:
                        time.sleep(0.05)  # one comes between two pages
            assert len(found) == len(set(found)), (path, found)
            assert before <= set(found), (path, before - set(found))
    finally:
        over.set()
        thread.join()
    assert len(added) >= 5


def test_1_and_15_after_a_kill_and_a_start_all_is_there_and_what_ran_ends_by_itself(site: Served) -> None:
    made = site.ingest("stays", source=site.file("stays.nc", 0, 1))
    assert site.everywhere("stays") == {(True,) * 4}
    place = site.template("goes-on", days=range(3))
    place.temper(name_of(2), slow_s=60.0)
    asked = {"dataset_id": "goes-on", "start": "2024-01-01", "end": "2024-01-03"}
    accepted = site.ask("POST", "/ingestions", headers={"Prefer": "respond-async"}, **asked)
    path = accepted.headers["location"].removeprefix(site.url)
    deadline = time.monotonic() + 60
    while not [each for each in place.requests("GET") if each[1].endswith(name_of(2))]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    site.kill()
    place.calm(name_of(2))
    place.forget()
    site.serve()
    assert site.everywhere("stays") == {(True,) * 4}
    assert site.ask("GET", "/datasets/stays").json()["latest_version"] == made["version_id"]
    seen = until(site, path)
    assert (seen["status"], seen["error"]) == ("completed", None), seen
    assert [each[1].rpartition("/")[2] for each in place.requests("GET")] == [name_of(2)], "nothing whole came a second time"
    assert site.everywhere("goes-on") == {(True,) * 4}
    assert list((site.root / "data/staging").iterdir()) == []
    stop(site.process)
    site.serve()
    assert {path: site.ask("GET", path).status_code for path in FACES} == dict.fromkeys(FACES, 200)
    assert site.everywhere("stays") == site.everywhere("goes-on") == {(True,) * 4}


@pytest.mark.timeout(900)
def test_12_and_16_a_schedule_of_four_processes_runs_once_and_once_for_all_that_was_missed(site: Served) -> None:
    every_minute = "extents: {temporal: {end: '2024-01-10'}}\nsync: {kind: temporal, schedule: '* * * * *'}\n"
    seen, hidden = (site.template(name, every_minute, days=range(2)) for name in ("due", "due-hidden"))
    site.ingest("due", start="2024-01-01", end="2024-01-02")
    site.ingest("due-hidden", start="2024-01-01", end="2024-01-02", publish=False)

    def add(*numbers: int) -> None:
        for place in (seen, hidden):
            for n in numbers:
                place.put(name_of(n), netcdf(site.drop, n))

    def runs(dataset_id: str) -> list[str]:
        listed = site.admin("GET", f"/ingestions?dataset_id={dataset_id}&limit=100").json()["items"]
        return [each["status"] for each in listed if each["kind"] == "sync"]

    def fires() -> set[str]:
        return {str(site.admin("GET", f"/datasets/{name}").json()["sync"]["last_run"]) for name in ("due", "due-hidden")}

    add(2)
    deadline = time.monotonic() + 150
    while len(site.values("due")) < 3 or len(site.admin("GET", "/datasets/due-hidden/versions").json()["items"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(1)
    stop(site.process)
    add(3, 4)
    time.sleep(130)  # two fires, while it is down
    site.serve()
    deadline = time.monotonic() + 150
    while len(site.values("due")) < 5:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert len(fires()) == 1
    for name in ("due", "due-hidden"):
        versions = site.admin("GET", f"/datasets/{name}/versions").json()["items"]
        assert [each["coverage"]["temporal"]["end"] for each in versions] == ["2024-01-05", "2024-01-03", "2024-01-02"], (
            "one run for each fire, and one for both that were missed"
        )
        assert set(runs(name)) <= {"completed"}
    assert site.ask("GET", "/zarr/due-hidden/zarr.json").status_code == 404, "nobody published it"
    assert site.admin("GET", "/datasets/due-hidden").json()["publication"]["status"] == "unpublished"


def test_nothing_is_left_of_all_this(site: Served) -> None:
    for folder in ("data/staging", ".cubeport/journal/open"):
        assert list(Path(site.root / folder).iterdir()) == []
