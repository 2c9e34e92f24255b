"""Readers of two server processes while a dataset grows every second: nothing torn, no error, fresh, and nothing piles up."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.e2e.test_update import save

import cubeport
from cubeport.main import prepare
from cubeport.service.ingestions import IngestionRequest

from .conftest import start, stop

READERS = 4
FRESH_S = 5.0


def family(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def grown(pid: int) -> tuple[int, int]:
    """Return the resident bytes and the open descriptors of a server with its processes."""
    pages = descriptors = 0
    for each in family(pid):
        try:
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
            descriptors += len(list(Path(f"/proc/{each}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE"), descriptors


class Reader(threading.Thread):
    """Opens what is shown and compares every value with what that version must hold."""

    def __init__(self, url: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._over = url, over
        self.reads = self.seen = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._over.is_set():
                try:
                    self._read(client)
                except Exception as exc:  # noqa: BLE001 - whatever a reader meets is the finding
                    self.wrong.append(f"{type(exc).__name__}: {exc}"[:300])

    def _read(self, client: httpx.Client) -> None:
        told = client.get(f"{self._url}/datasets/x").raise_for_status().json()
        # What is read over several requests is read at the version's own address: the plain one may move on in between.
        version = told["latest_version"]
        with xr.open_zarr(f"{self._url}/zarr/x@{version}", consolidated=True, chunks=None, decode_times=False) as opened:
            days, values = opened.time.values, opened.t.values
        expected = np.broadcast_to(days.astype("float32")[:, None, None], values.shape)
        if not (np.array_equal(values, expected) and np.array_equal(days, np.arange(len(days)))):
            self.wrong.append(f"{version}: torn: {days.tolist()[-3:]} {values[-3:, 0, 0].tolist()}")
        if len(days) < self.seen:
            self.wrong.append(f"{version}: went back from {self.seen} to {len(days)}")
        self.seen = len(days)
        collection = client.get(f"{self._url}/stac/collections/x@{version}").raise_for_status().json()
        size = collection["cube:dimensions"]["time"]
        if told["extent"]["temporal"]["end"] is None or not size:
            self.wrong.append("an extent is missing")
        self.reads += 1


TEN_MINUTES = pytest.param(600, id="ten-minutes", marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.mark.parametrize("seconds", [pytest.param(5, id="sample"), TEN_MINUTES])
def test_readers_of_two_processes_see_whole_fresh_versions_while_it_grows(tmp_path: Path, seconds: int) -> None:
    prepare(tmp_path / "i")
    with (tmp_path / "i/config/service.yaml").open("a") as file:
        file.write("retention: {keep_last: 5, keep_days: 0, grace_min: 15}\n")
    with cubeport.connect(tmp_path / "i") as service:
        asked = IngestionRequest.model_validate({"dataset_id": "x", "template": {"layout": {"chunks": {"time": 4}}}})
        assert service.ingest_here(asked, save(tmp_path / "first.nc", list(range(8)))).status == "completed"
        process, url = start(tmp_path / "i", "--workers", "2")
        over = threading.Event()
        readers = [Reader(url, over) for _ in range(READERS)]
        try:
            for each in readers:
                each.start()
            latest: list[float] = []
            before: tuple[int, int] | None = None
            start_s = time.monotonic()
            for day in itertools.count(8):
                began = time.monotonic()
                if began - start_s > seconds:
                    break
                done = service.ingest_here(IngestionRequest(dataset_id="x", mode="update"), save(tmp_path / "new.nc", [day]))
                assert done.status == "completed", done.error
                committed = time.monotonic()
                while httpx.get(f"{url}/datasets/x", trust_env=False).json()["latest_version"] != done.version_id:
                    assert time.monotonic() - committed < FRESH_S, "the new version is not shown"
                latest.append(time.monotonic() - committed)
                if before is None and committed - start_s > seconds / 2:
                    before = grown(process.pid)
                time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
            after: Any = grown(process.pid)
        finally:
            over.set()
            for each in readers:
                each.join(60)
            stop(process)
    assert [wrong for each in readers for wrong in each.wrong] == []
    assert all(each.reads for each in readers)
    assert max(latest) < FRESH_S
    assert before is not None
    print(f"{len(latest)} appends, {sum(each.reads for each in readers)} reads, shown after {max(latest):.2f} s at most;")
    print(f"resident {before[0] >> 20} -> {after[0] >> 20} MiB, descriptors {before[1]} -> {after[1]}")
    assert after[0] - before[0] < 64 << 20, "memory grows"
    assert after[1] - before[1] < 50, "descriptors grow"
