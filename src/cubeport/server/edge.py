"""The HTTP protocol below ASGI, which ends slow, silent and malformed connections.

uvicorn has no deadlines for the head of a request, for its body, or for a client that receives nothing. httptools accepts several
``Host`` headers, or none, and heads of any size. One timer for each connection checks everything, so that requests cost nothing
extra.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import socket
import sys
import termios
from typing import Any, ClassVar
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cubeport.cubes.bounded import Bounded
from cubeport.documents.dap2 import MAX_CONSTRAINT
from cubeport.server.files import EXTENSION, Answer, Asked, FilePart, Headers, lines

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_FRAMINGS = frozenset({b"content-length", b"transfer-encoding"})
_DAP = re.compile(rb"/(?:[^/?]+/){0,8}?dap/")


_DETAILS = {
    408: "The request did not arrive in time. Send it again.",
    414: "The address is longer than 8 KiB (30 KiB for OPeNDAP). Request less at once, or send the search by POST.",
    431: "The headers are too long, or too many.",
    503: "Too many connections are open. Try again in a second.",
}
"""The problem and the next step of answers that are sent before there is a complete request."""


class _Joined:
    """A transport that sends the head of an answer together with the following data, with one system call and one wake-up of the
    client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        # These are asked at each request, and __getattr__ takes longer than they do.
        self.is_closing, self.get_write_buffer_size = transport.is_closing, transport.get_write_buffer_size
        # The transport's own descriptor, because uvloop's socket object cannot send.
        self._socket = socket.socket(fileno=transport.get_extra_info("socket").fileno())

    def write(self, data: bytes | FilePart) -> None:
        """Write data. A head waits for its body, but not longer than this turn of the loop. After closing, nothing is written."""
        if self._transport.is_closing():
            self._head = None
        elif isinstance(data, FilePart):
            self._send(data)
        elif self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data) if data else (head,))
        elif data.startswith(_FINAL_HEADS):
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._transport.write(data)

    def answer(self, head: bytes, body: bytes | bytearray | FilePart) -> None:
        """Write a whole answer."""
        if isinstance(body, FilePart):
            self._head = head
            self._send(body)
        elif len(body) < _SMALL:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def _send(self, part: FilePart) -> None:
        """Let the kernel send the part of a file as far as the connection accepts it now. The rest is written as bytes."""
        head, self._head = self._head or b"", None
        began = sent = 0
        if not self._transport.get_write_buffer_size():  # otherwise it would overtake waiting data
            try:
                began = self._socket.send(head, socket.MSG_MORE) if head else 0
                if began == len(head):
                    sent = os.sendfile(self._socket.fileno(), part.descriptor, part.begin, part.count)
            except OSError:
                pass  # the socket is full or broken; the transport handles both
        if sent < part.count:
            rest = part.rest(sent)
            self._transport.writelines((head[began:], rest))
            if len(rest) < part.count - sent:
                self._transport.abort()

    def waiting(self) -> int:
        """Return the bytes that the client has not taken: in the transport, and in the send buffer of the kernel (Linux).

        The kernel takes more of an answer only when a third of its buffer is free, which is a megabyte. A reader of 40 kB/s takes
        half a minute for that, and would seem to take nothing.
        """
        queued = bytearray(4)
        try:
            fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, queued)
        except OSError:  # it is closed, or the system does not tell
            queued = bytearray(4)
        return self._transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def flush(self) -> None:
        """Send a head that was not followed by a body."""
        head, self._head = self._head, None
        if head is not None and not self._transport.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        """Send waiting data, then close."""
        self.flush()
        self._transport.close()

    def detach(self) -> None:
        """Give the descriptor up. The transport closes it."""
        self._socket.detach()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


_SMALL = 16 << 10
"""Up to this size in bytes, copying a body costs less than a list of buffers."""

_EXTENSIONS: dict[str, dict[object, object]] = {EXTENSION: {}}

_FINAL_HEADS = tuple(b"HTTP/1.1 %d" % hundred for hundred in (2, 3, 4, 5))
"""The beginnings of final answers. 100 Continue must not wait."""


class Edge(HttpToolsProtocol):
    """uvicorn's protocol with limits on size, form and time."""

    HEAD_S: ClassVar[float] = 10.0
    """The time from connecting, or from the last answer, to the end of the head of a request."""
    BODY_IDLE_S: ClassVar[float] = 10.0
    BODY_S: ClassVar[float] = 30.0
    UPLOAD_BYTES_PER_S: ClassVar[float] = 10_000.0
    READER_S: ClassVar[float] = 30.0
    """How long a client may receive nothing of the waiting data."""
    TICK_S: ClassVar[float] = 1.0
    MAX_CONNECTIONS: ClassVar[int] = 1_000
    """The largest number of connections. Further connections get 503 and are closed."""
    SPARE: ClassVar[int] = 64
    """How many further connections get this answer after reading their request. Even more connections are closed immediately."""
    MAX_HEADERS: ClassVar[int] = 100
    MAX_HEAD: ClassVar[int] = 32 << 10
    MAX_TARGET: ClassVar[int] = 8 << 10
    MAX_TARGET_DAP: ClassVar[int] = MAX_CONSTRAINT

    _HEADS: ClassVar[Bounded[bytes, Asked]] = Bounded(1 << 20)
    """Requests that were answered at once, by their bytes. Clients send the same bytes again, and parsing them takes a third of the
    time of a small answer.
    """

    _own: tuple[Headers, bytes] = ((), b"")
    """The headers that each answer has, and their lines."""

    _refusal: int = 400
    _answered = False
    _is_over = False
    _head_bytes = 0
    _in_head = False
    """Whether a head has begun and is not complete. An answer at once ends before the data with its request are counted."""
    _is_between = True
    """Whether the parser waits for the first byte of a request. Bytes within one are never looked up."""
    _begun = 0
    """How many requests began in the data that are being parsed."""
    _head: Asked | None = None
    """The last request in these data, if it was answered at once."""
    _was_asked = False
    """Whether the application was asked for an answer at once before the data are parsed, and had none."""
    _body_began: float | None = None
    _is_upload = False
    _body_bytes = 0
    _stuck: tuple[float, int] | None = None
    _timer: asyncio.TimerHandle | None = None

    @staticmethod
    def at_once(asked: Asked, peer: str) -> Answer | None:  # noqa: ARG004 (see AtOnce)
        """Return the answer to a request for which nothing has to wait. This class has none; the server gives its application's."""
        return None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        """Start the time limits of the connection."""
        if len(self.connections) >= self.MAX_CONNECTIONS + self.SPARE:
            # No answer: each connection that waits for its request uses a descriptor, silent ones for seconds.
            transport.abort()
            return
        self._is_over = len(self.connections) >= self.MAX_CONNECTIONS
        self._joined = _Joined(transport, self.loop)
        super().connection_made(self._joined)  # type: ignore[arg-type]  # it behaves like one by delegation
        self._head_began: float | None = self.loop.time()
        self._timer = self.loop.call_later(self.TICK_S, self._watch)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limits of the connection."""
        if self._timer is None:
            return  # it was closed immediately
        self._timer.cancel()
        super().connection_lost(exc)
        self._joined.detach()

    def data_received(self, data: bytes) -> None:
        """Pass data to the parser, and count the bytes of an unfinished head."""
        if self.transport.is_closing() or (self._is_between and self._answer_again(data)):
            return
        was_between, self._begun, self._head = self._is_between, 0, None
        super().data_received(data)
        self._was_asked = False
        if self._head is not None and was_between and self._is_between and self._begun == 1:
            self._HEADS.put(data, self._head, len(data))
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.MAX_HEAD:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """Handle the start of a request. On an idle connection, its time counts from the last answer."""
        if self._head_began is None:
            self._head_began = self.loop.time()
        self._in_head, self._is_between = True, False
        self._begun += 1
        super().on_message_begin()
        if self.scheme == "http":  # the kernel does not encrypt
            self.scope["extensions"] = _EXTENSIONS

    def on_headers_complete(self) -> None:
        """Check the complete head, then let uvicorn begin the request."""
        status = self._fault()
        if status is not None:
            self._refusal = status
            # httptools converts it to its own error, which leads to send_400_response.
            raise ValueError("refused")
        self._head_began, self._head_bytes, self._in_head = None, 0, False
        head = Asked(self.parser.get_method(), self.url, self.headers)
        if not self._was_asked and self._stays_open() and (answer := self._at_once(head)) is not None:
            self._answered, self._head = True, head
            self._answer(answer)
            return
        self._answered, self._head = False, None
        self._body_began = self._body_last = self.loop.time()
        self._is_upload, self._body_bytes = self.url.partition(b"?")[0].endswith(b"/uploads"), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handle a part of the body."""
        self._body_last = self.loop.time()
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of the body."""
        self._body_began, self._is_between = None, True
        if not self._answered:
            super().on_message_complete()

    def _answer_again(self, data: bytes) -> bool:
        """Answer a request whose bytes were parsed before, if it can be answered at once; return whether it was."""
        if self._is_over or (head := self._HEADS.get(data)) is None:
            return False
        if (answer := self._at_once(head)) is None:
            self._was_asked = True
            return False
        self._unset_keepalive_if_required()
        self._answer(answer)
        return True

    def _is_free(self) -> bool:
        """Return whether nothing else is being sent or must be sent first. A client that receives slowly waits in its own task."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            not self.pipeline
            and self.scheme == "http"
            and (cycle is None or cycle.response_complete)
            and not self.transport.get_write_buffer_size()
            and not self.transport.is_closing()
        )

    def _stays_open(self) -> bool:
        """Return whether the connection stays as it is after the request that was parsed."""
        return self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive() and not self.parser.should_upgrade()

    def _at_once(self, head: Asked) -> Answer | None:
        """Return the answer to a request if the application has it."""
        return self.at_once(head, self.client[0] if self.client else "-") if self._is_free() else None

    def _answer(self, answer: Answer) -> None:
        own = self.server_state.default_headers  # a new list each second
        if own is not self._own[0]:
            self._own = own, lines(own)
        head = b"%s%s%s\r\n" % (STATUS_LINE[answer.status], self._own[1], answer.lines)
        try:
            self._joined.answer(head, answer.body)
        finally:
            if answer.file is not None:
                answer.file.close()
        # Nothing waits behind it, and `_watch` ends the connection if no request follows, so uvicorn's timer is not needed.
        self.server_state.total_requests += 1
        self._head_began = self.loop.time()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        self._body_began = None
        if not self.pipeline and self._head_began is None:
            self._head_began = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Handle a client that receives slower than data are written."""
        self._stuck = (self.loop.time(), self._joined.waiting())
        super().pause_writing()

    def resume_writing(self) -> None:
        """Handle a client that has caught up."""
        self._stuck = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's words are for all faults alike)
        """Answer something that is not an HTTP request."""
        self._refuse(self._refusal)

    def _fault(self) -> int | None:
        if self._is_over:
            return 503
        if len(self.url) > self.MAX_TARGET and (len(self.url) > self.MAX_TARGET_DAP or not _DAP.match(self.url)):
            return 414
        size, hosts, framings = 4 * len(self.headers), [], set()
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts.append(value)
            elif name in _FRAMINGS:
                framings.add(name)
        if len(self.headers) > self.MAX_HEADERS or size > self.MAX_HEAD:
            return 431
        return 400 if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]) or framings == _FRAMINGS else None

    def _refuse(self, status: int) -> None:
        """Send an error without a request and close, because nothing after an invalid head can be trusted."""
        text = STATUS_LINE[status][9:].strip()
        kind = {414: b"uri-too-long", 408: b"unavailable", 503: b"unavailable"}.get(status, b"invalid-request")
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        detail = _DETAILS.get(status, "The request is malformed. Send it as HTTP/1.1 requires (RFC 9112).")
        problem = {"type": "about:blank", "kind": kind.decode(), "title": text.decode(), "status": status, "detail": detail}
        problem |= {"instance": f"urn:uuid:{uuid4()}", "errors": [], "code": kind.decode(), "description": detail}
        body = json.dumps(problem).encode()
        self.transport.write(
            b"%scontent-type: application/problem+json\r\nx-content-type-options: nosniff\r\ncontent-length: %d\r\n"
            b"%sconnection: close\r\n\r\n%s" % (STATUS_LINE[status], len(body), retry, body)
        )
        self.transport.close()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            # A handler that is still reading the body of this request is notified that it has ended.
            cycle.disconnected = True
            cycle.message_event.set()

    def _watch(self) -> None:
        if self.transport.is_closing():
            # A closing transport that cannot send its remaining data would stay open forever.
            if self._reader_is_stuck():
                self.transport.abort()
                return
        else:
            self._check()
        self._timer = self.loop.call_later(self.TICK_S, self._watch)

    def _check(self) -> None:
        now = self.loop.time()
        if self._head_began is not None and now - self._head_began > self.HEAD_S:
            if self._head_bytes:
                self._refuse(408)
            else:
                self.transport.close()
        elif self._body_began is not None and (now - self._body_began > self._body_s() or now - self._body_last > self.BODY_IDLE_S):
            if self.cycle.response_started:
                self.transport.abort()
            else:
                self._refuse(408)
        elif self._reader_is_stuck():
            self.transport.abort()

    def _body_s(self) -> float:
        """Return how long the body may take. A file may take any time if it arrives fast enough."""
        return self.BODY_S + (self._body_bytes / self.UPLOAD_BYTES_PER_S if self._is_upload else 0)

    def _reader_is_stuck(self) -> bool:
        if self._stuck is None:
            return False
        since, size = self._stuck
        now, left = self.loop.time(), self._joined.waiting()
        if left < size:
            self._stuck = (now, left)
            return False
        return now - since > self.READER_S
