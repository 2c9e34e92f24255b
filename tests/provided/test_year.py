"""A provider that rolls on: days appear, some late, some are corrected, a release replaces all of them, and the follower is killed.

What is held in the end equals the year ingested at once. The follower of the year is ``cubeport serve``, asked over HTTP, and
killed at moments that nobody chose. The follower of twenty days is the command line, killed at fail points.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.e2e.conftest import CUBEPORT, cli, start
from tests.provided.places import ask, day, instance, name_of, netcdf
from tests.provider import Provider

import cubeport
from cubeport.adapters.engines.opened import VersionStore
from cubeport.service.sync import Synced

TEMPLATE = """\
id: {id}
title: Days
period_type: daily
source: {{kind: url, template: '{url}/{{YYYY}}/t_{{YYYY}}{{MM}}{{DD}}.nc'}}
layout: {{chunks: {{time: 8}}}}
sync: {sync}
"""
TEMPORAL = "{kind: temporal, revisit_periods: 10}"
RELEASE = "{kind: release, version: {value: v2}}"


@dataclass
class Rolling:
    """The provider, and what a day's file says now."""

    provider: Provider
    tmp_path: Path
    chance: random.Random
    said: dict[int, float] = field(default_factory=dict)
    release: float = 0.0

    def publish(self, number: int, value: float | None = None) -> None:
        value = float(number) if value is None else value
        self.said[number] = value
        add = value - number + self.release
        self.provider.put(f"2024/{name_of(number)}", netcdf(self.tmp_path, number, add=add))

    def release_again(self, add: float) -> None:
        """Publish every day anew."""
        self.release = add
        for number, value in self.said.items():
            self.publish(number, value)

    def expected(self, upto: int) -> dict[int, float]:
        return {number: self.said[number] + self.release for number in range(upto)}

    def ticks(self, length: int, step: int) -> Iterator[tuple[int, int]]:
        """Publish *step* days at a time, one of them late, and correct two of those before. Yield how many days have passed, and
        how many are there before the first hole.
        """
        seen, late = step, None
        for upto in [*range(2 * step, length, step), length]:
            # A day that is late leaves a hole; it comes with the next tick.
            missing = self.chance.randrange(seen + 1, upto) if upto - seen > 2 and upto < length else None
            for number in range(seen, upto):
                if number != missing:
                    self.publish(number)
            if late is not None:
                self.publish(late)
            for number in self.chance.sample(range(max(0, seen - 5), seen), 2):
                if number in self.said:
                    self.publish(number, self.said[number] + 0.25)
            seen, late = upto, missing
            yield upto, upto if missing is None else missing


def by_day(data: xr.Dataset) -> dict[int, float]:
    return {int(n): float(v) for n, v in zip(data["time"].values, data["t"].values[:, 0, 0], strict=True)}


# --- the year, followed by a server ------------------------------------------------------------------------------------------


@dataclass
class Served:
    """``cubeport serve`` of an instance, which is killed and started again."""

    root: Path
    url: str = ""
    process: Any = None

    def start(self) -> None:
        self.process, self.url = start(self.root)

    def kill(self) -> None:
        """Kill the server as the kernel does it. Nobody tidies up."""
        self.process.kill()
        self.process.communicate(timeout=30)

    def post(self, path: str, *, prefer: str = "wait=60", **body: Any) -> httpx.Response:
        headers = {"Prefer": prefer}
        answer = httpx.post(self.url + path, json=body, headers=headers, timeout=90, trust_env=False)
        assert answer.status_code in (200, 202), answer.text
        return answer

    def ended(self, answer: httpx.Response) -> dict[str, Any]:
        """Return the ingestion when it has ended, whichever process ends it."""
        path, deadline = httpx.URL(answer.headers["location"]).path, time.monotonic() + 60
        while True:
            said: dict[str, Any] = httpx.get(self.url + path, timeout=60, trust_env=False).json()
            if said["status"] not in ("accepted", "running", "retrying"):
                assert said["status"] == "completed", said
                return said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)

    def sync(self, expected: dict[int, float]) -> dict[str, Any]:
        """Sync, and return the answer, after which readers find what the provider has."""
        said: dict[str, Any] = self.post("/sync/days").json()
        assert said["status"] in ("completed", "up_to_date"), said
        assert by_day(self.read("days")) == expected
        return said

    def read(self, dataset_id: str) -> xr.Dataset:
        with xr.open_zarr(f"{self.url}/zarr/{dataset_id}.zarr", consolidated=True, chunks=None, decode_times=False) as opened:
            return opened.load()


@contextmanager
def served(root: Path) -> Iterator[Served]:
    made = Served(root)
    made.start()
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.communicate(timeout=60)


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.crash
def test_a_year_that_a_server_follows_equals_the_year_at_once(tmp_path: Path, provider: Provider) -> None:
    seed = int(os.environ.get("CUBEPORT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"CUBEPORT_SEED={seed}")
    chance = random.Random(seed)
    root = instance(tmp_path / "instance", origins=(provider.url,))
    file = root / "config/datasets/days.yaml"
    file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=TEMPORAL))
    rolling, length, step = Rolling(provider, tmp_path, chance), 366, 24
    for number in range(step):
        rolling.publish(number)
    kills = [2 + chance.randrange(3), 7, 10 + chance.randrange(4)]  # the second is in the new release
    with served(root) as server:
        server.post("/ingestions", dataset_id="days", start=day(0))
        took = 1.0
        for tick, (upto, whole) in enumerate(rolling.ticks(length, step), 1):
            release = tick == kills[1]
            if release:
                server.sync(rolling.expected(whole))
                rolling.release_again(1000.0)
                file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=RELEASE))
            if tick in kills:
                kill_in_a_sync(server, rolling, range(upto - step, upto), took * (3 if release else 1), chance)
            began = time.monotonic()
            said = server.sync(rolling.expected(whole))
            took = time.monotonic() - began
            if release:
                assert said["sync_detail"]["reason"] == "no_new_release", "the killed sync has ended by itself"
                file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=TEMPORAL))
        assert server.sync(rolling.expected(length))["status"] == "up_to_date"
        (root / "config/datasets/once.yaml").write_text(TEMPLATE.format(id="once", url=provider.url, sync=TEMPORAL))
        time.sleep(1.1)  # templates are looked at once a second
        server.ended(server.post("/ingestions", prefer="respond-async", dataset_id="once", start=day(0), end=day(length - 1)))
        followed, at_once = server.read("days"), server.read("once")
        assert by_day(followed) == rolling.expected(length)
        xr.testing.assert_identical(followed, at_once)
        versions = [httpx.get(f"{server.url}/datasets/{each}/versions/latest", trust_env=False).json() for each in ("days", "once")]
        assert versions[0]["digest"] == versions[1]["digest"], "every object is the same, to the byte"
    assert list((root / "data/staging").iterdir()) == []
    assert list((root / ".cubeport/journal/open").iterdir()) == []
    checked = cli("fsck", "--data", "-i", root)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def kill_in_a_sync(server: Served, rolling: Rolling, new: range, usual_s: float, chance: random.Random) -> None:
    """Ask for a sync, kill the server at some moment of it, start it again, and see the sync end without being asked for again."""
    names = [f"2024/{name_of(number)}" for number in new if number in rolling.said]
    for name in names:
        rolling.provider.temper(name, slow_s=0.1)
    answer = server.post("/sync/days", prefer="respond-async")
    moment = chance.uniform(0, usual_s + 0.1 * len(names) / 4)
    time.sleep(moment)
    server.kill()
    for name in names:
        rolling.provider.calm(name)
    server.start()
    said = server.ended(answer)
    print(f"killed after {moment:.2f} s; ended at attempt {said.get('attempt')}")


# --- twenty days, followed by the command line ---------------------------------------------------------------------------------


def values(service: Any, dataset_id: str) -> xr.Dataset:
    store: Any = VersionStore(service.engines, dataset_id, service.shown(dataset_id).version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as opened:
        return opened.load()


def killed(root: Path, *, after_s: float | None = None, at: str | None = None) -> None:
    """Run ``cubeport sync days`` and kill it: some time after it began to fetch, or at a fail point."""
    environment = {**os.environ, **({"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": at} if at else {})}
    command = [*CUBEPORT, "sync", "days", "-i", str(root)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    if after_s is not None:
        fetched = root / "data/fetched"
        deadline = time.monotonic() + 60
        while not list(fetched.rglob("*.part")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(120) == -signal.SIGKILL


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_days_that_the_command_line_follows_equal_the_days_at_once(tmp_path: Path, provider: Provider) -> None:
    root = instance(tmp_path / "instance", origins=(provider.url,))
    file = root / "config/datasets/days.yaml"
    file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=TEMPORAL))
    rolling = Rolling(provider, tmp_path, random.Random(2024))
    with cubeport.connect(root) as service:
        follow(service, root, rolling, 20, 5)


def follow(service: Any, root: Path, rolling: Rolling, length: int, step: int) -> None:
    """Follow the provider to the end of *length* days, *step* days at a time."""
    provider, file = rolling.provider, root / "config/datasets/days.yaml"
    kills = {2 * step: "fetch", 3 * step: "bytes:half", length: "commit:after"}
    for number in range(step):
        rolling.publish(number)
    assert ask(service, "days", start=day(0)).status == "completed"
    for upto, whole in rolling.ticks(length, step):
        if (kill := kills.get(upto)) == "fetch":
            slow = f"2024/{name_of(upto - 1)}"
            provider.temper(slow, slow_s=30)
            killed(root, after_s=0.3)
            provider.calm(slow)
            provider.forget()
            fetched = {each.name for each in (root / "data/fetched").rglob("t_*.nc")}
        elif kill is not None:
            killed(root, at=kill)
        check(service.sync("days"), service, rolling, whole)
        if kill == "fetch":
            again = {each[1].rpartition("/")[2] for each in provider.requests("GET")} & fetched
            assert len(again) <= 1, (
                "what was whole before the kill did not come again, but for one that was just about to be marked"
            )
        if upto == 2 * step:
            rolling.release_again(1000.0)
            file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=RELEASE))
            synced = service.sync("days")
            assert (synced.detail.action, synced.detail.reason) == ("rematerialize", "release_version_unknown")
            check(synced, service, rolling, whole)
            file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=TEMPORAL))
    assert service.sync("days").status == "up_to_date"
    once = TEMPLATE.format(id="once", url=provider.url, sync=TEMPORAL)
    (root / "config/datasets/once.yaml").write_text(once)
    ingested = ask(service, "once", start=day(0), end=day(length - 1))
    assert ingested.status == "completed", ingested.error
    followed, at_once = values(service, "days"), values(service, "once")
    assert by_day(followed) == rolling.expected(length)
    xr.testing.assert_identical(followed, at_once)
    np.testing.assert_array_equal(followed["t"].values, at_once["t"].values)
    assert not list((root / "data/staging").glob("*")) if (root / "data/staging").is_dir() else True


def check(synced: Synced, service: Any, rolling: Rolling, upto: int) -> None:
    """What is held after a sync is every day up to the first hole, as the provider says it now."""
    assert synced.ingestion is None or synced.ingestion.status == "completed", synced.ingestion.error
    assert by_day(values(service, "days")) == rolling.expected(upto)
