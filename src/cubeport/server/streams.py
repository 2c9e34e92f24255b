"""Server-sent events (HTML, 9.2): how one is written, and when streams that have no end of their own end."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse

from cubeport.server import replies

MEDIA_TYPE = "text/event-stream"

COMMENT_S = 15.0
"""A line that says nothing is sent so often, so that proxies keep the connection."""

COMMENT = b": still there\n\n"

STOPPING = threading.Event()
"""Set when this process was asked to stop: a stream ends then, and its client comes back to the next process."""


def event(kind: str, number: int | str, document: Mapping[str, Any]) -> bytes:
    """Return one event; *number* is what a client sends as ``Last-Event-ID`` when it comes back."""
    return f"event: {kind}\nid: {number}\ndata: ".encode() + replies.dumps(document) + b"\n\n"


def streaming(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return the answer that sends the events, which no cache and no proxy keeps back."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers=headers)
