"""How a request for values waits for its place, and is given up when its client leaves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from cubeport.errors import Cancelled
from cubeport.service.queries import Queries, no_place

_POLL_S = 0.01


async def watch(request: Request, left: threading.Event) -> None:
    """Say when the client leaves: nobody pays for answers that nobody reads."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    left.set()


def check_there(left: threading.Event) -> None:
    """Give up when the client has left. Raises Cancelled."""
    if left.is_set():
        raise Cancelled("The client has closed the connection.")


@asynccontextmanager
async def place(queries: Queries, left: threading.Event) -> AsyncIterator[None]:
    """Hold a place of heavy work, waited for without a thread: lists and light queries are not held up.

    Raises
    ------
    Unavailable
        When none becomes free in time.
    Cancelled
        When the client leaves.
    """
    until = time.monotonic() + queries.limits.wait_s
    # Looked at before a place is taken: a free one is not for a client that has left already.
    check_there(left)
    while not queries.try_place():
        check_there(left)
        if time.monotonic() > until:
            raise no_place()
        await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        queries.leave_place()
