"""One read at a time, and none that began before the request: counted, and with a read that fails."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cubeport.errors import BackendUnavailable
from cubeport.server.freshness import Freshness


class Commits:
    """A number that others raise, and how it is read."""

    def __init__(self) -> None:
        self.number = 0
        self.reads = 0
        self.running = 0
        self.most = 0
        self.fails = False
        self._lock = threading.Lock()

    def read(self) -> int:
        with self._lock:
            self.reads += 1
            self.running += 1
            self.most = max(self.most, self.running)
        seen = self.number
        time.sleep(0.01)
        with self._lock:
            self.running -= 1
        if self.fails:
            raise BackendUnavailable("gone")
        return seen


def test_many_requests_cost_few_reads_and_none_sees_the_past() -> None:
    commits = Commits()

    async def request(fresh: Freshness, n: int) -> None:
        await asyncio.sleep(n * 0.0005)
        if n % 7 == 0:
            commits.number += 1
        known = commits.number
        assert await fresh() >= known, "a request sees each commit that came before it"

    async def all_of_them() -> None:
        fresh = Freshness(commits.read)
        await asyncio.gather(*(request(fresh, n) for n in range(200)))

    asyncio.run(all_of_them())
    assert commits.most == 1
    assert commits.reads < 40


def test_a_read_that_fails_fails_those_who_wait_for_it_and_no_others() -> None:
    commits = Commits()

    async def asking() -> None:
        fresh = Freshness(commits.read)
        commits.fails = True
        found = await asyncio.gather(fresh(), fresh(), fresh(), return_exceptions=True)
        assert [type(each) for each in found] == [BackendUnavailable] * 3
        commits.fails = False
        assert await fresh() == 0

    asyncio.run(asking())


def test_a_client_that_leaves_takes_nobody_with_it() -> None:
    commits = Commits()

    async def leaving() -> None:
        fresh = Freshness(commits.read)
        first, second = asyncio.create_task(fresh()), asyncio.create_task(fresh())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 0
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(leaving())
