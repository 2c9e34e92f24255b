"""A fetch that is killed goes on where it was, and one that is cancelled ends at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import CUBEPORT, here
from tests.provided.places import ask, instance
from tests.provided.test_urls import big
from tests.provider import Provider

import cubeport
from cubeport.service.ingestions import IngestionRequest


def until(true: Callable[[], object], what: str, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_after_a_kill_the_rest_comes_and_nothing_twice(tmp_path: Path, provider: Provider) -> None:
    data = big(tmp_path)
    provider.put("big.nc", data)
    provider.temper("big.nc", slow_s=0.05)
    root = instance(tmp_path / "instance", origins=(provider.url,))
    command = [*CUBEPORT, "ingest", f"{provider.url}/big.nc", "--id", "big", "-i", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    part = root / "data/fetched"
    until(lambda: [each for each in part.rglob("*.part") if each.stat().st_size > 1 << 20], "nothing came")
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    [left] = part.rglob("*.part")
    have = left.stat().st_size
    provider.calm("big.nc")
    provider.forget()
    with cubeport.connect(root) as service:
        done = ask(service, "big", source=f"{provider.url}/big.nc")
        assert done.status == "completed", done.error
        [asked] = provider.requests("GET")
        assert (asked[2], asked[3], asked[4]) == ("206", str(len(data) - have), f"bytes={have}-")
        [whole] = part.rglob("big.nc")
        assert whole.read_bytes() == data
    # What is kept is no stray of the store, and a check of it finds nothing.
    for words in (("fsck",), ("usage",)):
        checked = here(*words, "-i", root)
        assert "fetched" not in checked.stdout + checked.stderr, checked.stdout


def test_a_fetch_that_is_cancelled_ends_within_five_seconds(tmp_path: Path, provider: Provider) -> None:
    provider.put("big.nc", big(tmp_path))
    provider.temper("big.nc", slow_s=0.5)
    root = instance(tmp_path / "instance", origins=(provider.url,))
    with cubeport.connect(root) as service:
        service.start()
        request = IngestionRequest.model_validate({"dataset_id": "big", "source": f"{provider.url}/big.nc"})
        job = service.ingest(request, waited_for=False).ingestion_id
        until(lambda: list((root / "data/fetched").rglob("*.part")), "nothing came")
        until(lambda: service.ingestion(job).progress.phase == "fetching", "its phase is not told")
        began = time.monotonic()
        service.cancel(job)
        until(lambda: service.ingestion(job).finished, "it went on", seconds=10)
        assert (service.ingestion(job).status, time.monotonic() - began < 5) == ("cancelled", True)
        assert list(service.dataset_ids()) == []
