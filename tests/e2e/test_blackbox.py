"""Moving datasets seen from outside only: HTTP and the command line of a server with two processes, and the state left behind.

The numbers are the rows of docs/explanation/moving-checks.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.catalog.test_blackbox import CELL, ROOT, definitions
from tests.gate import gribs
from tests.provided.places import name_of, netcdf
from tests.provider import Provider, running

from cubeport.main import prepare

from .conftest import CUBEPORT, start

SECRET = "planted-9f3aSECRET77"
FACES = ("/datasets?limit=1000", "/stac/catalog.json", "/ogcapi/collections?limit=1000")


@dataclass
class Site:
    url: str
    root: Path
    drop: Path
    provider: Provider
    pid: int
    log: Path

    def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, json=body or None, headers=headers, timeout=90, trust_env=False)

    def admin(self, method: str, path: str, **body: Any) -> httpx.Response:
        """Ask as somebody who may read the instance's own token."""
        token = (self.root / ".cubeport/local-token").read_text().strip()
        return self.ask(method, path, headers={"Authorization": f"Bearer {token}"}, **body)

    def ingest(self, dataset_id: str, **fields: Any) -> dict[str, Any]:
        answer = self.ask("POST", "/ingestions", dataset_id=dataset_id, **fields)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        assert document["status"] == "completed"
        return document

    def refused(self, status: int, kind: str, method: str = "POST", path: str = "/ingestions", **body: Any) -> dict[str, Any]:
        answer = self.ask(method, path, **body)
        assert (answer.status_code, answer.json()["kind"]) == (status, kind), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = answer.json()
        return document

    def file(self, name: str, *days: int, **how: Any) -> str:
        path = self.drop / name
        path.write_bytes(netcdf(self.drop, *days, **how))
        return str(path)

    def template(self, dataset_id: str, more: str = "", days: range = range(10)) -> Provider:
        """Make a template that follows a provider of its own, which has *days*."""
        place = self.provider.below(dataset_id)
        for number in days:
            place.put(name_of(number), netcdf(self.drop, number))
        source = f"{{kind: url, template: '{place.url}/t_{{YYYY}}{{MM}}{{DD}}.nc'}}"
        text = f"id: {dataset_id}\ntitle: Days\nperiod_type: daily\nsource: {source}\n{more}"
        (self.root / f"config/datasets/{dataset_id}.yaml").write_text(text)
        time.sleep(1.1)  # templates are looked at once a second
        place.forget()
        return place

    def shown(self, dataset_id: str) -> set[tuple[bool, ...]]:
        """Return on which faces the dataset is, as both processes answer."""
        return {
            (
                *(f"/{dataset_id}" in self.ask("GET", path).text for path in FACES),
                self.ask("GET", f"/zarr/{dataset_id}/zarr.json").status_code == 200,
            )
            for _ in range(8)
        }

    def values(self, ref: str) -> dict[int, float]:
        with xr.open_zarr(f"{self.url}/zarr/{ref}.zarr", consolidated=True, chunks=None, decode_times=False) as opened:
            return {int(n): float(value) for n, value in zip(opened.time.values, opened.t.values[:, 0, 0], strict=True)}

    def versions(self, dataset_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/datasets/{dataset_id}/versions").json()["items"]
        return found

    def store(self, dataset_id: str) -> str:
        """Return one hash of all bytes and names that the dataset has on disk."""
        folder = self.root / "data/store" / dataset_id
        found = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            found.update(path.relative_to(folder).as_posix().encode() + (path.read_bytes() if path.is_file() else b"/"))
        return found.hexdigest()

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*CUBEPORT, "-i", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def days(*numbers: int, **changed: float) -> dict[int, float]:
    return {n: changed.get(f"d{n}", float(n)) for n in numbers}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("blackbox")
    drop = folder / "drop"
    drop.mkdir()
    with running(folder / "provider") as provider:
        root = folder / "i"
        prepare(root, allow_roots=(str(drop),), allow_origins=(provider.url,))
        with (root / "config/service.yaml").open("a") as settings:
            settings.write("limits: {download_cells: 1000000}\n")
        keys = "key_env: BLACKBOX_KEY, secret_env: BLACKBOX_SECRET"
        (root / "config/profiles.yaml").write_text(
            "profiles:\n  default: {protocol: file, root: ./files}\n"
            f"  bucket: {{protocol: s3, root: b/x, endpoint_url: 'http://127.0.0.1:9', {keys}, use: [source]}}\n"
        )
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("BLACKBOX_KEY", "AKID")
            environment.setenv("BLACKBOX_SECRET", SECRET)
            process, url = start(root, "--workers", "2")
        log = threading.Thread(target=kept, args=(process, folder / "log"))
        log.start()  # nobody waits for a reader of what the server says
        yield Site(url, root, drop, provider, process.pid, folder / "log")
        process.terminate()
        assert process.wait(40) == 0
        log.join()


def kept(process: subprocess.Popen[str], log: Path) -> None:
    """Write what a server says to a file, until it ends."""
    assert process.stdout is not None
    with process.stdout, log.open("w", buffering=1) as file:
        file.writelines(process.stdout)


def test_the_page_has_every_row_and_names_tests_that_exist() -> None:
    page = (ROOT / "docs/explanation/moving-checks.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 29)]
    assert all(CELL.findall(row[-1]) for row in rows)
    for path, _, name in (each.partition("::") for each in CELL.findall(page) if "::" in each):
        assert name in definitions(ROOT / path), name


def test_1_and_2_a_dataset_comes_to_all_faces_at_once_and_leaves_them_at_once(site: Site) -> None:
    made = site.ingest("come", source=site.file("come.nc", 0, 1))
    assert site.shown("come") == {(True,) * 4}
    assert site.ask("POST", "/datasets/come/unpublish").status_code == 200
    assert site.shown("come") == {(False,) * 4}
    assert {site.ask("GET", f"/zarr/come@{made['version_id']}/zarr.json").status_code for _ in range(4)} == {410}, (
        "gone, so that no reader takes it for fill values"
    )
    assert site.ask("POST", "/datasets/come/publish").json()["publication"]["status"] == "published"
    assert site.admin("DELETE", "/datasets/come").json()["status"] == "deleted"
    assert site.shown("come") == {(False,) * 4}
    back = site.admin("POST", "/datasets/come/restore").json()
    assert back["publication"]["status"] == "unpublished"
    assert site.shown("come") == {(False,) * 4}
    assert site.admin("DELETE", "/datasets/come").status_code == 200
    fresh = site.ingest("come", source=site.file("come2.nc", 5))
    assert (fresh["action"], len(site.versions("come"))) == ("create", 1)


def test_3_the_same_twice_is_one_version_and_no_request_to_the_source(site: Site) -> None:
    place = site.template("twice")
    first = site.ingest("twice", start="2024-01-01", end="2024-01-03")
    place.forget()
    again = site.ingest("twice", start="2024-01-01", end="2024-01-03")
    assert (again["reused"], again["version_id"], place.requests()) == (True, first["version_id"], [])
    body = {"dataset_id": "twice", "start": "2024-01-01", "end": "2024-01-06"}
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: site.ask("POST", "/ingestions", headers={"Prefer": "wait=60"}, **body).json(), range(2)))
    assert {each["status"] for each in both} == {"completed"}
    assert len({each["version_id"] for each in both}) == 1
    assert len(site.versions("twice")) == 2


def test_4_and_5_a_narrower_request_shrinks_nothing_and_what_is_not_there_is_named(site: Site) -> None:
    place = site.template("narrow")
    (place.root / name_of(7)).unlink()
    first = site.ingest("narrow", start="2024-01-03", end="2024-01-06")
    assert first["request_scope"]["start"] == "2024-01-03"
    before = site.store("narrow")
    narrow = site.ingest("narrow", start="2024-01-04", end="2024-01-05")
    assert (narrow["reused"], narrow["request_scope"]["end"], narrow["coverage"]["temporal"]["count"]) == (True, "2024-01-05", 4)
    assert site.refused(409, "gap", dataset_id="narrow", start="2024-01-03", end="2024-01-09")["gaps"] == [
        {"start": "2024-01-08", "end": "2024-01-08", "count": 1}
    ]
    short = site.refused(409, "coverage-incomplete", dataset_id="narrow", start="2024-01-03", end="2024-01-30")
    assert (short["requested"]["end"], short["available"]["end"]) == ("2024-01-30", "2024-01-10")
    site.refused(400, "invalid-range", dataset_id="narrow", start="2024-01-05", end="2024-01-03")
    assert site.store("narrow") == before
    earlier = site.ingest("narrow", start="2024-01-01", end="2024-01-04")
    assert (earlier["action"], site.values("narrow")) == ("extend", days(*range(6)))
    assert site.values(f"narrow@{first['version_id']}") == days(*range(2, 6)), "the older version is as it was"


def test_5_nothing_at_all_is_no_data(site: Site) -> None:
    site.template("empty", days=range(0))
    site.refused(409, "no-data", dataset_id="empty", start="2024-01-01", end="2024-01-04")
    assert site.ask("GET", "/datasets/empty").status_code == 404


def test_7_two_on_one_dataset_go_in_order_and_who_cannot_wait_hears_of_the_other(site: Site) -> None:
    place = site.template("busy")
    place.temper(name_of(0), slow_s=4.0)
    slow: list[httpx.Response] = []
    asked = {"dataset_id": "busy", "start": "2024-01-01", "end": "2024-01-02"}
    thread = threading.Thread(target=lambda: slow.append(site.ask("POST", "/ingestions", **asked)))
    thread.start()
    time.sleep(1.0)
    beside = site.ask("POST", "/ingestions", dataset_id="busy", start="2024-01-01", end="2024-01-05")
    thread.join()
    assert slow[0].json()["status"] == "completed", slow[0].text
    assert beside.json()["status"] == "completed", beside.text
    assert site.values("busy") == days(*range(5))


def test_8_updates_add_and_correct_exactly_what_they_hold(site: Site) -> None:
    site.ingest("grow", source=site.file("g1.nc", *range(10)), template={"layout": {"chunks": {"time": 4}}})
    site.ingest("grow", mode="update", source=site.file("g2.nc", *range(10, 15)))
    for path, inside in (("/datasets/grow", '"end":"2024-01-15"'), ("/stac/collections/grow", "2024-01-15")):
        assert inside in site.ask("GET", path).text.replace('": "', '":"'), path
    assert len(site.ask("GET", "/ogcapi/collections/grow").text.split("2024-01-15")) > 1
    some = site.file("g3.nc", *range(12, 18), add=0.5)
    refused = site.refused(409, "overlap", dataset_id="grow", mode="update", source=some)
    assert len(refused["periods"]) == 3
    site.ingest("grow", mode="update", source=some, on_overlap="replace")
    expected = days(*range(18), **{f"d{n}": n + 0.5 for n in range(12, 18)})
    assert site.values("grow") == expected
    site.ingest("grow", mode="update", source=site.file("g4.nc", 3, add=0.25), on_overlap="replace")
    assert site.values("grow") == {**expected, 3: 3.25}
    count = len(site.versions("grow"))
    again = site.ingest("grow", mode="update", source=site.file("g4.nc", 3, add=0.25), on_overlap="replace")
    assert (again["reused"], len(site.versions("grow"))) == (True, count) == (True, 4)


@pytest.mark.parametrize(
    ("kind", "status", "how"),
    [
        ("grid-mismatch", 409, {"lats": 4}),
        ("units-mismatch", 409, {"units": "Pa"}),
        ("calendar-mismatch", 409, {"calendar": "noleap"}),
    ],
)
def test_9_what_does_not_fit_is_named_and_leaves_everything(site: Site, kind: str, status: int, how: dict[str, Any]) -> None:
    if site.ask("GET", "/datasets/fits").status_code == 404:
        site.ingest("fits", source=site.file("fits.nc", *range(4)))
    before = site.store("fits")
    bad = site.file("bad.nc", 4, **how)
    site.refused(status, kind, dataset_id="fits", mode="update", source=bad)
    if kind == "units-mismatch":  # the command line says the same; one kind is enough, because each command is a process
        said = site.cli("update", "fits", bad)
        assert said.returncode == 4, said.stderr
        assert f"error[{kind}]" in said.stderr
        assert site.cli("update", "none-such", bad).returncode == 3
        assert site.cli("ingest", bad, "--id", "fits").returncode == 4
    assert site.store("fits") == before
    assert site.values("fits") == days(*range(4))


def test_10_a_sync_is_as_its_plan_and_a_plan_writes_nothing(site: Site) -> None:
    place = site.template("follow", "extents: {temporal: {end: '2024-01-10'}}\nsync: {kind: temporal}\n", days=range(8))
    site.ingest("follow", start="2024-01-01", end="2024-01-03")
    before = site.store("follow")
    plan = site.ask("GET", "/sync/follow/plan?end=").json()
    assert (plan["action"], plan["reason"]) == ("append", "new_periods_available_for_append")
    assert (plan["delta_start"], plan["delta_end"], plan["target_end_source"]) == (
        "2024-01-04",
        "2024-01-08",
        "default_today_clamped_by_availability",
    ), "what the source has, not all that it could have"
    assert plan["target_end"] == "2024-01-10"
    assert site.store("follow") == before
    assert site.ask("GET", "/sync/follow/plan?end=tomorrow").status_code == 400
    (place.root / name_of(5)).unlink()
    plan = site.ask("GET", "/sync/follow/plan").json()
    assert (plan["delta_end"], [each["kind"] for each in plan["warnings"]]) == ("2024-01-05", ["gap"])
    done = site.ask("POST", "/sync/follow").json()
    assert done["sync_detail"]["delta_end"] == "2024-01-05"
    assert done["status"] == "completed", done
    assert site.values("follow") == days(*range(5)), "the delta ends before the first hole"
    assert site.ask("POST", "/sync/follow").json()["status"] == "up_to_date"
    site.ingest("direct", source=site.file("direct.nc", 0))
    assert site.ask("POST", "/sync/direct").json()["status"] == "not_syncable"


@pytest.mark.parametrize("end", ["2024-02-30", "2024-13-01", "2024-W99", "soon", "2024-01-03T25:00:00Z"])
def test_11_a_period_that_is_none_is_refused(site: Site, end: str) -> None:
    if not (site.root / "config/datasets/calendar.yaml").exists():
        site.template("calendar")
    site.refused(400, "invalid-period", dataset_id="calendar", start="2024-01-01", end=end)


def test_11_coarser_and_zoned_periods_are_what_they_mean(site: Site) -> None:
    site.template("coarse")
    made = site.ingest("coarse", start="2024-01-01T23:30:00+02:00", end="2024-01-03")
    assert (made["coverage"]["temporal"]["start"], made["coverage"]["temporal"]["end"]) == ("2024-01-01", "2024-01-03")


def test_12_what_is_not_published_is_not_seen(site: Site) -> None:
    site.ingest("quiet", source=site.file("q1.nc", 0, 1))
    quiet = site.ingest("quiet", mode="update", source=site.file("q2.nc", 2), publish=False)
    assert site.values("quiet") == days(0, 1)
    assert site.ask("GET", f"/zarr/quiet@{quiet['version_id']}/zarr.json").status_code == 404
    assert site.ask("POST", "/datasets/quiet/publish").status_code == 200
    assert site.values("quiet") == days(0, 1, 2)
    first = site.versions("quiet")[-1]["version_id"]
    assert site.admin("POST", "/datasets/quiet/rollback", to=first).status_code == 200
    assert site.values("quiet") == days(0, 1)
    site.ingest("quiet", mode="update", source=site.file("q3.nc", 2, add=0.5))
    assert site.values("quiet") == days(0, 1, 2, d2=2.5), "built on the one that it went back to"


def test_13_tags_name_versions_and_only_versions_are_immutable(site: Site) -> None:
    first = site.ingest("named", source=site.file("n1.nc", 0, 1))["version_id"]
    assert site.ask("PUT", "/datasets/named/tags/paper", version=first).status_code == 200
    site.ingest("named", mode="update", source=site.file("n2.nc", 2))
    assert [len(site.values(ref)) for ref in ("named@paper", f"named@{first}", "named")] == [2, 2, 3]
    cached = {ref: site.ask("GET", f"/zarr/{ref}/zarr.json").headers["cache-control"] for ref in ("named@paper", f"named@{first}")}
    assert "immutable" in cached[f"named@{first}"]
    assert "immutable" not in cached["named@paper"]
    newest = site.versions("named")[0]["version_id"]
    site.refused(409, "tag-exists", "PUT", "/datasets/named/tags/paper", version=newest)


def test_14_and_15_what_runs_on_is_followed_and_cancelled(site: Site) -> None:
    place = site.template("slow")
    place.temper(name_of(2), slow_s=20.0)
    asked = {"dataset_id": "slow", "start": "2024-01-01", "end": "2024-01-04"}
    accepted = site.ask("POST", "/ingestions", headers={"Prefer": "respond-async"}, **asked)
    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "respond-async")
    assert accepted.json()["dataset"] is None
    location = accepted.headers["location"].removeprefix(site.url)
    waited = site.ask("POST", "/ingestions", headers={"Prefer": "wait=1"}, **asked)
    assert (waited.status_code, waited.json()["ingestion_id"]) == (202, accepted.json()["ingestion_id"]), (
        "one request, one ingestion"
    )
    assert site.ask("DELETE", location).status_code == 202
    began = time.monotonic()
    while (seen := site.ask("GET", location).json())["status"] in ("accepted", "running"):
        assert time.monotonic() - began < 10, "5 s are promised; a busy machine takes longer"
        time.sleep(0.1)
    assert seen["status"] == "cancelled"
    assert list((site.root / "data/staging").iterdir()) == []
    site.refused(409, "already-finished", "DELETE", location)
    place.calm(name_of(2))
    assert site.ingest("slow", start="2024-01-01", end="2024-01-04")["action"] == "create"


def test_17_and_18_what_may_not_come_in_is_refused_and_the_server_goes_on(site: Site, tmp_path: Path) -> None:
    sent = httpx.post(
        f"{site.url}/uploads?filename=up.nc",
        content=netcdf(site.drop, 0, 1),
        headers={"Content-Type": "application/octet-stream"},
        trust_env=False,
    )
    assert sent.status_code == 201, sent.text
    assert site.ingest("uploaded", source=f"upload:{sent.json()['upload_id']}")["action"] == "create"
    outside = tmp_path / "outside.nc"
    outside.write_bytes(netcdf(tmp_path, 0))
    (site.drop / "link.nc").symlink_to(outside)
    site.provider.forget()
    for source in (
        str(outside),
        str(site.drop / "link.nc"),
        "https://elsewhere.example.org/a.nc",
        f"{site.provider.url.replace('://', '://me:word@')}/a.nc",
        f"simplecache::{site.provider.url}/a.nc",
        "file:///etc/passwd",
    ):
        answer = site.ask("POST", "/ingestions", dataset_id="in", source=source)
        assert answer.status_code in (400, 422), (source, answer.text)
        assert "word" not in answer.text
    assert site.provider.requests() == []
    (site.drop / "page.nc").write_text("<!doctype html><title>Not found</title>")
    os.mkfifo(site.drop / "pipe.nc")
    cut = netcdf(site.drop, *range(8))
    (site.drop / "cut.nc").write_bytes(cut[: len(cut) // 2])
    for name in ("page.nc", "pipe.nc", "cut.nc"):
        refused = site.refused(422, "source-rejected", dataset_id="in", source=str(site.drop / name))
        assert refused["reason"] in ("unreadable", "truncated", "not-allowed", "unsafe"), refused
    assert site.ask("GET", "/health").status_code == 200
    assert site.ask("GET", "/datasets/in").status_code == 404


def test_19_a_series_is_ordered_by_time_and_a_bad_file_is_named(site: Site) -> None:
    later, sooner = site.file("a.nc", 5, 6), site.file("b.nc", 3, 4)
    site.ingest("series", source=[later, sooner])
    assert site.values("series") == days(3, 4, 5, 6)
    bad = site.drop / "c.nc"
    bad.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    refused = site.refused(422, "source-rejected", dataset_id="series2", source=[later, sooner, str(bad)])
    assert "c.nc" in refused["detail"]


def test_20_a_download_is_the_part_that_was_asked_for(site: Site) -> None:
    site.ingest("part", source=site.file("part.nc", *range(6)))
    address = "/datasets/part/download?bbox=-0.5,5,1.5,25&datetime=2024-01-02T00:00:00Z/2024-01-04T00:00:00Z"
    answer = site.ask("GET", address)
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as part:
        assert dict(part.sizes) == {"time": 3, "lat": 2, "lon": 2}
        assert part.t.values[:, 0, 0].tolist() == [1, 2, 3]
    estimate = site.ask("GET", f"{address}&estimate=true").json()
    assert estimate["cells"] == 12
    assert site.ask("GET", "/datasets/part/download?bbox=100,5,110,25").json()["what"] == "data"
    assert site.ask("GET", "/datasets/part/download?bbox=1,2,3").status_code == 400
    assert not [each for each in (site.root / "data").rglob("*.nc") if not {"fetched", "uploads"} & set(each.parts)], (
        "no temporary file is left"
    )


def test_21_a_broken_template_costs_itself_only(site: Site) -> None:
    (site.root / "config/datasets/broken.yaml").write_text(
        "id: broken\ntitle: '${HOME}'\nperiod_type: dayly\nsource: {kind: files, paths: [a.nc]}\n"
    )
    time.sleep(1.1)
    try:
        told = site.admin("GET", "/dataset-templates").json()
        assert any("broken.yaml:3" in str(each) for each in told["problems"]), told
        assert "problems" not in site.ask("GET", "/dataset-templates").json(), "readers see no file of the instance"
        assert site.ask("GET", "/datasets").status_code == 200
        checked = site.cli("check-config")
        assert checked.returncode == 2
        assert "broken.yaml:3" in checked.stdout + checked.stderr
    finally:
        (site.root / "config/datasets/broken.yaml").unlink()
        time.sleep(1.1)


def test_22_a_template_that_changes_values_asks_for_overwrite_and_a_text_makes_no_version(site: Site) -> None:
    site.template("changing")
    site.ingest("changing", start="2024-01-01", end="2024-01-02")
    path = site.root / "config/datasets/changing.yaml"
    path.write_text(path.read_text().replace("title: Days", "title: New days"))
    time.sleep(1.1)
    again = site.ingest("changing", start="2024-01-01", end="2024-01-02")
    assert (again["reused"], site.ask("GET", "/datasets/changing").json()["dataset_name"]) == (True, "New days")
    assert len(site.versions("changing")) == 1
    before = site.ask("GET", "/datasets/changing")
    assert before.json()["sync"]["kind"] == "static"
    path.write_text(path.read_text() + "transforms: [{kelvin_to_celsius: t}]\nsync: {kind: temporal, schedule: '0 6 * * *'}\n")
    time.sleep(1.1)
    followed = site.ask("GET", "/datasets/changing", headers={"If-None-Match": before.headers["etag"]})
    assert followed.status_code == 200, "nothing was committed, and the document is another"
    assert (followed.json()["sync"]["kind"], followed.json()["sync"]["next_run"][10:19]) == ("temporal", "T06:00:00")
    assert site.ask("GET", "/sync/changing/plan").json()["reason"] == "template_changed"
    site.refused(409, "template-changed", dataset_id="changing", start="2024-01-01", end="2024-01-03")
    site.ingest("changing", start="2024-01-01", end="2024-01-02", overwrite=True)
    assert {n: round(v, 2) for n, v in site.values("changing").items()} == {0: -273.15, 1: -272.15}


def test_23_a_foreign_page_and_a_proxy_have_no_rights(site: Site) -> None:
    body = {"dataset_id": "foreign", "source": site.file("foreign.nc", 0)}
    for headers, status in (
        ({"Origin": "https://evil.example.org"}, 403),
        ({"X-Forwarded-For": "203.0.113.1"}, 401),
        ({"Authorization": "Bearer cp_abc_wrong"}, 401),
    ):
        assert site.ask("POST", "/ingestions", headers=headers, **body).status_code == status, headers
    assert site.ask("GET", "/datasets/foreign").status_code == 404


def test_25_the_feed_replayed_is_the_list(site: Site) -> None:
    site.ingest("replayed", source=site.file("replayed.nc", 0))
    there: set[str] = set()
    cursor = ""
    while True:
        page = site.ask("GET", f"/changes?limit=50{cursor}").json()
        for each in page["items"]:
            (there.add if each["type"] == "upserted" else there.discard)(each["dataset_id"])
        if not page["items"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    listed = {each["dataset_id"] for each in site.ask("GET", "/datasets?limit=1000").json()["items"]}
    assert there == listed
    assert "replayed" in listed


def test_27_the_command_line_beside_the_server_says_what_it_says(site: Site) -> None:
    path = site.file("beside.nc", 0, 1)
    assert site.cli("ingest", path, "--id", "beside").returncode == 0
    assert site.shown("beside") == {(True,) * 4}
    told = site.cli("datasets", "beside", "--json")

    def plain(document: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in document.items() if key != "links"}

    mine, theirs = json.loads(told.stdout), site.ask("GET", "/datasets/beside").json()
    assert {key: mine[key] for key in ("dataset_id", "extent", "publication", "variables", "latest_version")} == {
        key: theirs[key] for key in ("dataset_id", "extent", "publication", "variables", "latest_version")
    }
    assert set(plain(mine)) == set(plain(theirs))
    assert np.isfinite(list(site.values("beside").values())).all()


REASONS: dict[str, tuple[str, str, tuple[str, str, str]]] = {
    # By id: the template when the dataset is made and when it is followed, and what is to be seen.
    "r-static": ("", "", ("not_syncable", "static_dataset", "not_syncable")),
    "r-missing": ("", "gone", ("not_syncable", "template_missing", "not_syncable")),
    "r-broken": ("", "sync: {kind: tempral}", ("not_syncable", "template_missing", "not_syncable")),
    "r-changed": (
        "sync: {kind: temporal}",
        "sync: {kind: temporal}\ntransforms: [{scale: {t: {factor: 2}}}]",
        ("not_syncable", "template_changed", "not_syncable"),
    ),
    "r-append": ("", "sync: {kind: temporal}", ("append", "new_periods_available_for_append", "completed")),
    "r-again": ("", "sync: {kind: temporal, execution: rematerialize}", ("rematerialize", "new_periods_available", "completed")),
    "r-revise": ("", "sync: {kind: temporal, revisit_periods: 2}", ("revise", "source_changed", "completed")),
    "r-nothing": ("", "sync: {kind: temporal}", ("no_op", "no_new_period", "up_to_date")),
    "r-release": (
        "sync: {kind: release, version: {value: v1}}",
        "sync: {kind: release, version: {value: v2}}",
        ("rematerialize", "release_version_changed", "completed"),
    ),
    "r-unknown": ("", "sync: {kind: release, version: {value: v2}}", ("rematerialize", "release_version_unknown", "completed")),
    "r-waits": (
        "",
        "sync: {kind: release, version: {value: v2}}\nextents: {temporal: {end: '2024-01-02'}}",
        ("no_op", "release_version_unavailable", "waiting_for_source"),
    ),
    "r-newer": ("", "sync: {kind: release}", ("rematerialize", "new_release_available", "completed")),
    "r-same": ("", "sync: {kind: release}", ("no_op", "no_new_release", "up_to_date")),
}
HOLDS_ALL = ("r-revise", "r-nothing", "r-same")


@pytest.mark.slow
def test_10_every_reason_is_seen_from_outside_and_done_as_planned(site: Site) -> None:
    place = site.provider.below("reasons")

    def write(name: str, more: str) -> None:
        source = f"{{kind: url, template: '{place.url}/{name}/t_{{YYYY}}{{MM}}{{DD}}.nc'}}"
        until = "" if "extents" in more else "extents: {temporal: {end: '2024-01-04'}}\n"
        text = f"id: {name}\ntitle: Days\nperiod_type: daily\nsource: {source}\n{until}{more}\n"
        (site.root / f"config/datasets/{name}.yaml").write_text(text)

    for name, (first, _, _) in REASONS.items():
        for number in range(4):
            place.put(f"{name}/{name_of(number)}", netcdf(site.drop, number))
        write(name, first)
    time.sleep(1.1)
    for name in REASONS:
        site.ingest(name, start="2024-01-01", end="2024-01-04" if name in HOLDS_ALL else "2024-01-03")
    place.put(f"r-revise/{name_of(3)}", netcdf(site.drop, 3, add=0.5))
    for name, (_, later, _) in REASONS.items():
        write(name, later)
    (site.root / "config/datasets/r-missing.yaml").unlink()
    bad = {"r-rule": "function: nobody", "r-late": "lag_days: 999999999", "r-ancient": "latest_year_offset: -9999"}
    for name, rules in bad.items():
        place.put(f"{name}/{name_of(0)}", netcdf(site.drop, 0))
        write(name, f"sync: {{kind: temporal, availability: {{{rules}}}}}")
    time.sleep(1.1)
    for name, (_, _, (action, reason, status)) in REASONS.items():
        before = site.store(name)
        plan = site.ask("GET", f"/sync/{name}/plan").json()
        assert (plan["action"], plan["reason"]) == (action, reason), (name, plan)
        assert site.store(name) == before, name
        done = site.ask("POST", f"/sync/{name}").json()
        assert (done["status"], done["sync_detail"]["reason"]) == (status, reason), (name, done)
        assert (site.store(name) != before) == (status == "completed"), name
    assert site.values("r-append") == site.values("r-again") == days(*range(4))
    assert site.values("r-revise") == days(*range(4), d3=3.5)
    assert site.values("r-waits") == days(0, 1, 2), "nothing shrinks"
    for name in ("r-late", "r-ancient"):
        assert site.refused(404, "not-found", "GET", f"/sync/{name}/plan")["what"] == "dataset"
    site.ingest("r-rule", start="2024-01-01", end="2024-01-01")
    for _ in range(100):  # a rule that nobody gives stops nothing else
        site.refused(500, "configuration", "GET", "/sync/r-rule/plan")
    assert site.ask("GET", "/sync/r-append/plan").json()["reason"] == "no_new_period"
    assert "names the availability function 'nobody'" in site.ask("POST", "/sync/r-rule").text
    told = site.admin("GET", "/dataset-templates?limit=1000").text
    assert "sync.availability.lag_days" in told
    assert "sync.availability.latest_year_offset" in told


@pytest.mark.slow
def test_6_overwrite_and_rollback_under_readers_tear_nothing(site: Site) -> None:
    site.ingest("six", source=site.file("six.nc", *range(8)), template={"layout": {"chunks": {"time": 1}}})
    first = site.versions("six")[0]["version_id"]
    over = threading.Event()
    wrong: list[str] = []
    reads = {"store": 0, "download": 0, "coverage": 0}

    def one(ref: str, values: np.ndarray[Any, Any]) -> None:
        """What one answer says is of one version: every day is its number and the same addition."""
        added = {float(each) for each in values[:, 0, 0] - np.arange(len(values))}
        if len(added) != 1 or not (values == values[:, :1, :1]).all():
            wrong.append(f"{ref}: mixed {sorted(added)}")

    def follow(what: str) -> None:
        with httpx.Client(base_url=site.url, trust_env=False, timeout=60) as client:
            while not over.is_set():
                try:
                    told = client.get("/datasets/six").raise_for_status().json()
                    version = told["latest_version"]
                    if what == "store":
                        address = f"{site.url}/zarr/six@{version}"
                        with xr.open_zarr(address, consolidated=True, chunks=None, decode_times=False) as opened:
                            one(version, opened.t.values)
                            size = opened.sizes["time"]
                        stac = client.get(f"/stac/collections/six@{version}").raise_for_status().json()
                        end = stac["extent"]["temporal"]["interval"][0][1]
                        if int(end[8:10]) not in (size, size + 1):
                            wrong.append(f"{version}: STAC says {end} of {size} days")
                    elif what == "download":
                        answer = client.get("/datasets/six/download").raise_for_status()
                        with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as file:
                            one("download", file.t.values)
                    else:
                        answer = client.get("/ogcapi/collections/six/coverage?f=json").raise_for_status()
                        range_ = answer.json()["ranges"]["t"]
                        one("coverage", np.array(range_["values"], "f8").reshape(range_["shape"]))
                    reads[what] += 1
                except Exception as exc:  # noqa: BLE001 - whatever a reader meets is the finding
                    wrong.append(f"{what}: {type(exc).__name__}: {exc}"[:300])

    readers = [threading.Thread(target=follow, args=(what,)) for what in reads]
    for each in readers:
        each.start()
    try:
        for turn in range(1, 6):
            file = site.file("six2.nc", *range(8 + turn % 2), add=100.0 * turn)
            site.ingest("six", mode="update", source=file, on_overlap="replace")
            answer = site.admin("POST", "/datasets/six/rollback", to=first)
            assert answer.status_code == 200, answer.text
            assert answer.json()["latest_version"] == first
    finally:
        over.set()
        for each in readers:
            each.join(90)
    assert wrong == []
    assert all(reads.values()), reads


def resident(site: Site) -> dict[int, int]:
    """Return the most memory that each process which answers requests has had, in bytes."""
    found = {}
    for pid in (site.pid, *map(int, Path(f"/proc/{site.pid}/task/{site.pid}/children").read_text().split())):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if b"resource_tracker" not in b" ".join(words):
            found[pid] = int(status["VmHWM"].split()[0]) * 1024
    return found


@pytest.mark.slow
def test_17_a_planted_secret_is_nowhere(site: Site) -> None:
    """In a profile, an address, its name and word, parameters, headers, a name of a file, a field that does not exist."""
    place = site.provider.below("secrets")
    place.put("a.nc", netcdf(site.drop, 0))
    answers: list[httpx.Response] = []

    def post(source: Any, *, headers: dict[str, str] | None = None, **more: Any) -> int:
        answers.append(site.ask("POST", "/ingestions", headers=headers, dataset_id="secret", mode="replace", source=source, **more))
        return answers[-1].status_code

    signed = f"{place.url}/a.nc?token={SECRET}"
    assert post(signed) == post(f"{place.url}/a.nc?when={SECRET}") == 200  # no query string is stored, whatever its names
    place.temper("a.nc", status=403)
    codes = [
        post(signed),
        post("store:bucket/a.nc"),
        post(f"{place.url.replace('://', f'://me:{SECRET}@')}/a.nc"),
        post({"kind": "url", "template": f"{place.url}/{{k}}.nc?token={SECRET}", "params": {"k": "none"}}),
        post({"kind": "plugin", "name": "nobody", "params": {"password": SECRET}}),
        post(signed, headers={"Authorization": f"Bearer cp_abc_{SECRET}"}),
        post(signed, headers={"X-API-Key": SECRET}),
        post(signed, headers={"Cookie": f"session={SECRET}"}),
        post(signed, secret=SECRET),
    ]
    assert all(code >= 400 for code in codes), codes
    answers += [site.ask("GET", f"{path}{mark}api_key={SECRET}") for path, mark in (("/datasets", "?"), ("/datasets/secret", "?"))]
    paths = (
        "/ingestions?limit=1000",
        "/datasets/secret",
        "/datasets/secret/versions",
        "/changes",
        "/info",
        "/stac/collections/secret",
    )
    answers += [site.admin("GET", path) for path in (*paths, "/zarr/secret/zarr.json", "/metrics", "/usage", "/dataset-templates")]
    assert [each.url for each in answers if SECRET in each.text or SECRET in str(each.headers)] == []
    said = [site.cli(*words) for words in (("logs",), ("jobs", "--json"), ("datasets", "secret", "--json"), ("history", "secret"))]
    assert not any(SECRET in each.stdout + each.stderr for each in said)
    assert SECRET not in site.log.read_text()
    assert [each for each in site.root.rglob("*") if each.is_file() and SECRET.encode() in each.read_bytes()] == []


@pytest.mark.slow
def test_19_levels_that_clash_in_grib_are_refused_with_the_keys_that_choose_one(site: Site) -> None:
    levels = ("isobaricInhPa:850:{}:t", "heightAboveGround:2:{}:2t", "heightAboveGround:10:{}:10u")
    first, second = (
        gribs.made(site.drop / f"{day}.grib2", *(each.format(day) for each in levels)) for day in ("20240101", "20240102")
    )
    block = {"kind": "files", "paths": str(first)}
    refused = site.refused(422, "source-rejected", dataset_id="levels", source=block)
    assert (refused["reason"], refused["filter_by_keys"]) == (
        "not-a-cube",
        ["typeOfLevel=isobaricInhPa", "typeOfLevel=heightAboveGround"],
    )
    one, other = (dict([each.split("=")]) for each in refused["filter_by_keys"])
    again = site.refused(422, "source-rejected", dataset_id="levels", source={**block, "filter_by_keys": other})
    assert again["filter_by_keys"] == [f"typeOfLevel=heightAboveGround,shortName={name}" for name in ("2t", "10u")]
    steps = {"normalise": [{"join_scalar_time": "time"}]}  # one step has no time axis to add others to
    site.ingest("levels", source={**block, "filter_by_keys": one}, template=steps)
    # A new file of it is refused in the same way, and the flag that is named is one of the command.
    said = site.cli("update", "levels", str(second))
    assert (said.returncode, "--filter-by-keys typeOfLevel=isobaricInhPa" in said.stderr) == (5, True), said.stderr
    done = site.cli("update", "levels", str(second), "--filter-by-keys", "typeOfLevel=isobaricInhPa")
    assert done.returncode == 0, done.stderr
    with xr.open_zarr(f"{site.url}/zarr/levels.zarr", consolidated=True, chunks=None) as opened:
        assert (opened.t.values == [gribs.field(0), gribs.field(0)]).all()
        assert opened.time.values.astype("M8[D]").astype(str).tolist() == ["2024-01-01", "2024-01-02"]


@pytest.mark.slow
def test_18_ten_hostile_files_do_not_grow_the_server(site: Site) -> None:
    import h5py

    def file(name: str, data: bytes) -> Path:
        (site.drop / name).write_bytes(data)
        return site.drop / name

    def hdf5(name: str, shape: tuple[int, ...], chunks: tuple[int, ...], *, filled: bool = False) -> Path:
        with h5py.File(site.drop / name, "w") as made:
            made.create_dataset("t", shape, "f8", chunks=chunks, compression=9)
            if filled:
                made["t"][: chunks[0], : chunks[1]] = np.zeros(chunks)
        return site.drop / name

    whole = netcdf(site.drop, *range(50))
    sources = [
        file("18-text.nc", b"<!doctype html>" + b"x" * (60 << 20)),
        file("18-zeros.nc", bytes(60 << 20)),
        file("18-cut.nc", whole[: len(whole) // 2]),
        file("18-behind.nc", whole[:3000] + os.urandom(60 << 20)),
        file("18-grib.grib", b"GRIB" + bytes(3) + b"\x01" + bytes(60 << 20)),
        file("18-classic.nc", b"CDF\x01" + b"\xff" * 4096),
        hdf5("18-declared.nc", (10**6, 10**5), (1000, 1000)),
        hdf5("18-chunk.nc", (10**5, 10**4), (10**4, 5000)),
        hdf5("18-bomb.nc", (8000, 8000), (4000, 4000), filled=True),
        site.drop / "18-none.nc",
    ]
    site.ingest("eighteen", source=site.file("18.nc", 0, 1))
    before = resident(site)
    assert len(before) >= 3, "the parent and two that answer"
    for path in sources:
        answer = site.ask("POST", "/ingestions", dataset_id="in18", source=str(path))
        assert answer.status_code == 422, (path.name, answer.status_code, answer.text[:300])
        assert answer.json()["kind"] == "source-rejected", path.name
    for _ in range(8):
        assert site.ask("GET", "/datasets/eighteen").status_code == 200
    after = resident(site)
    grown = {pid: (after[pid] - before[pid]) >> 20 for pid in before if pid in after}
    print("MiB more:", grown)
    assert len(grown) == len(before), "no process has ended"
    assert max(grown.values()) <= 50, grown


def test_19_two_packings_become_one_with_the_right_values(site: Site) -> None:
    def packed(name: str, first: int, scale: float, offset: float) -> str:
        with xr.open_dataset(io.BytesIO(netcdf(site.drop, first, first + 1)), decode_times=False, engine="h5netcdf") as opened:
            made = opened.load()
        made.t.encoding = {"dtype": "int16", "scale_factor": scale, "add_offset": offset, "_FillValue": -32768}
        made.to_netcdf(site.drop / name)
        return str(site.drop / name)

    sources = [packed("p1.nc", 0, 0.5, 0.0), packed("p2.nc", 2, 0.25, 1.0)]
    made = site.ingest("packings", source=sources)
    assert [(each["kind"], "p2.nc" in each["message"]) for each in made["warnings"]] == [("unpacked", True)]
    with xr.open_zarr(f"{site.url}/zarr/packings.zarr", consolidated=True, chunks=None, decode_times=False) as opened:
        assert opened.t.values[:, 0, 0].tolist() == [0, 1, 2, 3]
        assert opened.t.dtype.kind == "f"
    site.ingest("packed", source=sources[0])
    site.refused(409, "encoding-mismatch", dataset_id="packed", mode="update", source=sources[1])


@pytest.mark.slow
def test_20_an_estimate_is_near_and_what_is_too_much_is_refused_unread(site: Site, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    data = xr.Dataset(
        {"t": (("time", "lat", "lon"), random.normal(280, 9, (24, 200, 200)).astype("f4"), {"units": "K"})},
        {
            "time": ("time", np.arange(24), {"units": "days since 2024-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(-10, 10, 200), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 20, 200), {"units": "degrees_east"}),
        },
    )
    data.to_netcdf(site.drop / "random.nc")
    data["t"] = (data.t.dims, np.round(data.t.values / 40) * 40, data.t.attrs)
    data.to_netcdf(site.drop / "smooth.nc")
    for name in ("random", "smooth"):
        site.ingest(name, source=str(site.drop / f"{name}.nc"))
        for query in ("", "?bbox=2,-5,12,5", "?start=2024-01-03&end=2024-01-06", "?bbox=2,-5,12,5&format=csv"):
            joined = f"/datasets/{name}/download{query}{'&' if query else '?'}estimate=true"
            estimate = site.ask("GET", joined).json()
            answer = site.ask("GET", f"/datasets/{name}/download{query}")
            assert answer.status_code == 200, answer.text[:300]
            size = len(answer.content)
            assert 0.8 <= estimate["bytes"] / size <= 1.25, (name, query, estimate, size)
    xr.concat([data, data.assign_coords(time=data.time + 24)], "time", join="outer").to_netcdf(site.drop / "large.nc")
    site.ingest("large", source=str(site.drop / "large.nc"))
    chunks = [each for each in (site.root / "data/store/large").rglob("*") if "/t/c/" in str(each) and each.is_file()]
    assert chunks
    for each in chunks:
        each.unlink()
    began = time.monotonic()
    refused = site.refused(413, "too-large", "GET", "/datasets/large/download")
    assert time.monotonic() - began < 1
    assert (refused["setting"], refused["limit"], bool(refused["alternatives"])) == ("limits.download_cells", 1_000_000, True)
    unread = site.ask("GET", "/datasets/large/download?start=2024-01-03&end=2024-01-03")
    assert (unread.status_code, unread.json()["kind"]) == (500, "corrupt"), "there was nothing to read"
