"""A provider that rolls on: days appear, some late, some are corrected, a release replaces all of them, and the follower is killed.

What is held in the end equals the year ingested at once. A short run is in the default lane; the year is slow.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.e2e.conftest import CUBEPORT
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


def values(service: Any, dataset_id: str) -> xr.Dataset:
    store: Any = VersionStore(service.engines, dataset_id, service.shown(dataset_id).version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None, decode_times=False) as opened:
        return opened.load()


def by_day(data: xr.Dataset) -> dict[int, float]:
    return {int(n): float(v) for n, v in zip(data["time"].values, data["t"].values[:, 0, 0], strict=True)}


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
@pytest.mark.parametrize(
    ("length", "step"),
    [pytest.param(366, 14, marks=[pytest.mark.slow, pytest.mark.crash]), pytest.param(20, 5, marks=pytest.mark.slow)],
)
def test_a_year_that_is_followed_equals_the_year_at_once(tmp_path: Path, provider: Provider, length: int, step: int) -> None:
    root = instance(tmp_path / "instance", origins=(provider.url,))
    file = root / "config/datasets/days.yaml"
    file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=TEMPORAL))
    rolling = Rolling(provider, tmp_path)
    with cubeport.connect(root) as service:
        follow(service, root, rolling, length, step)


def follow(service: Any, root: Path, rolling: Rolling, length: int, step: int) -> None:
    """Follow the provider to the end of *length* days, *step* days at a time."""
    provider, file, chance = rolling.provider, root / "config/datasets/days.yaml", random.Random(2024)
    ticks = range(step, length + 1, step)
    times = [ticks[len(ticks) // 4], ticks[len(ticks) // 2], ticks[-1]]
    kills = dict(zip(times, ("fetch", "bytes:half", "commit:after"), strict=True))
    late: int | None = None
    for number in range(step):
        rolling.publish(number)
    assert ask(service, "days", start=day(0)).status == "completed"
    seen = step
    for upto in [*ticks[1:], length]:
        # A day that is late leaves a hole; it comes with the next tick.
        missing = chance.randrange(seen + 1, upto) if upto - seen > 2 and upto < length else None
        for number in range(seen, upto):
            if number != missing:
                rolling.publish(number)
        if late is not None:
            rolling.publish(late)
        # Two of the last days are corrected.
        for number in chance.sample(range(max(0, seen - 5), seen), 2):
            if number in rolling.said:
                rolling.publish(number, rolling.said[number] + 0.25)
        seen = upto
        if (kill := kills.get(upto)) == "fetch":
            slow = f"2024/{name_of(upto - 1)}"
            provider.temper(slow, slow_s=30)
            killed(root, after_s=0.3)
            provider.calm(slow)
            provider.forget()
            whole = {each.name for each in (root / "data/fetched").rglob("t_*.nc")}
        elif kill is not None:
            killed(root, at=kill)
        synced = service.sync("days")
        check(synced, service, rolling, upto if missing is None else missing)
        if kill == "fetch":
            again = {each[1].rpartition("/")[2] for each in provider.requests("GET")} & whole
            assert len(again) <= 1, (
                "what was whole before the kill did not come again, but for one that was just about to be marked"
            )
        late = missing
        if upto == ticks[len(ticks) // 2]:
            rolling.release_again(1000.0)
            file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=RELEASE))
            synced = service.sync("days")
            assert (synced.detail.action, synced.detail.reason) == ("rematerialize", "release_version_unknown")
            check(synced, service, rolling, upto if missing is None else missing)
            file.write_text(TEMPLATE.format(id="days", url=provider.url, sync=TEMPORAL))
    if late is not None:
        rolling.publish(late)
    service.sync("days")
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
