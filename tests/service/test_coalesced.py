"""Many threads that want the newest value at once share reads, and none gets an older one than there was when it asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cubeport.service.coalesced import Coalesced


def test_calls_at_the_same_time_share_a_read_that_began_after_them() -> None:
    truth, reads = 0, 0
    running = threading.Semaphore(1)

    def read() -> int:
        nonlocal reads
        assert running.acquire(blocking=False), "one read at a time"
        reads += 1
        seen = truth
        time.sleep(0.005)
        running.release()
        return seen

    value = Coalesced(read)

    def ask(_: int) -> bool:
        nonlocal truth
        for _ in range(20):
            before = truth
            truth += 1  # a commit that this caller knows of
            if value() < before:
                return False
        return True

    with ThreadPoolExecutor(40) as pool:
        assert all(pool.map(ask, range(40)))
    assert reads < 800 / 5, "800 calls"
    before = reads
    assert value() == truth
    assert reads == before + 1, "nothing is kept for a later call"


def test_a_failed_read_is_raised_once_and_the_others_read_again() -> None:
    started, failing = threading.Event(), True

    def read() -> str:
        nonlocal failing
        started.set()
        time.sleep(0.05)
        if failing:
            failing = False
            raise OSError("no network")
        return "now"

    value = Coalesced(read)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(value)
        started.wait()
        others = [pool.submit(value) for _ in range(3)]
        with pytest.raises(OSError, match="no network"):
            first.result()
        assert [each.result() for each in others] == ["now"] * 3
