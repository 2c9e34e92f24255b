"""Waiting of requests for values: for a place among heavy answers, and cancelled if the client disconnects."""

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
    """Wait until the client disconnects, so that no work is done for answers that nobody reads."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    left.set()


def check_there(left: threading.Event) -> None:
    """Raise Cancelled if the client has disconnected."""
    if left.is_set():
        raise Cancelled("The client has closed the connection.")


@asynccontextmanager
async def place(queries: Queries, left: threading.Event) -> AsyncIterator[None]:
    """Hold a place for heavy work. Waiting uses no thread, so lists and light queries are not delayed.

    Raises
    ------
    Unavailable
        If no place becomes free in time.
    Cancelled
        If the client disconnects.
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
