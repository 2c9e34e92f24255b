"""The number of the last commit, for many requests with a small number of reads.

Each request for a chunk needs this number, and a database answers over the network, in a fraction of a millisecond. So at most one
read runs at a time, and a request waits for the first read that *began* after it arrived. The number is then always current.
Handlers that run in threads share reads by the same rule (:class:`cubeport.service.coalesced.Coalesced`); here, no request
for a chunk needs a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial


class Freshness:
    """Reads for all requests of one event loop.

    Parameters
    ----------
    read
        Reads the number. It can block, and runs in a thread.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._running: asyncio.Task[int] | None = None
        self._next: asyncio.Future[int] | None = None

    async def __call__(self) -> int:
        """Return the number of the last commit, read after this call."""
        if self._running is None:
            self._running = asyncio.create_task(self._once())
            return await asyncio.shield(self._running)
        # The read that runs began before this request came, so it may have missed a commit that the sender knows of.
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._next)

    async def _once(self) -> int:
        try:
            return await asyncio.to_thread(self._read)
        finally:
            waiting, self._next, self._running = self._next, None, None
            if waiting is not None:
                self._running = asyncio.create_task(self._once())
                self._running.add_done_callback(partial(_pass_on, waiting))


def _pass_on(waiting: asyncio.Future[int], done: asyncio.Task[int]) -> None:
    if done.cancelled():
        waiting.cancel()
    elif (exc := done.exception()) is not None:
        waiting.set_exception(exc)
    else:
        waiting.set_result(done.result())
