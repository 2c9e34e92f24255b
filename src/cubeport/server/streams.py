"""Server-sent events (HTML, 9.2): the form of an event, and the end of streams that have no end of their own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse

from cubeport.server import replies

MEDIA_TYPE = "text/event-stream"

COMMENT_S = 15.0
"""Seconds between comments, which are sent so that proxies keep the connection open."""

COMMENT = b": still there\n\n"

STOPPING = threading.Event()
"""Set when this process must stop. Streams then end, and their clients reconnect to another process."""


def event(kind: str, number: int | str, document: Mapping[str, Any]) -> bytes:
    """Return one event. A client sends *number* as ``Last-Event-ID`` when it reconnects."""
    return f"event: {kind}\nid: {number}\ndata: ".encode() + replies.dumps(document) + b"\n\n"


def streaming(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return the answer that sends the events, with headers that stop caches and proxies from buffering it."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers=headers)
