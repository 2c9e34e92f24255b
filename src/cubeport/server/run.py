"""Run the server: bind the sockets first, make the application for their address, listen, and drain requests at the end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from cubeport.errors import InvalidConfiguration, Unavailable
from cubeport.server import streams
from cubeport.server.edge import Edge
from cubeport.server.files import AtOnce

log = logging.getLogger("cubeport.server")

DRAIN_S = 30
"""How long running requests may take after SIGTERM, in seconds."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket with this address, which does not listen yet: until the server can answer, a proxy shall ask another
    machine at once, and not wait in the queue of this one. Port 0 selects a free port.

    Raises
    ------
    Unavailable
        If the address is in use or does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is given explicitly, because asyncio only then sends small answers without delay (46 ms each, measured).
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as exc:
        bound.close()
        raise _unusable(host, port, exc) from exc
    return bound


_FIRST_PASSED = 3
"""The descriptor of the first socket that systemd passes on."""


def passed() -> socket.socket | None:
    """Return the socket at which systemd listens for this process (sd_listen_fds(3)), if it does.

    It listens also while no server runs, so that clients and proxies wait for the next one instead of being refused.

    Raises
    ------
    InvalidConfiguration
        If there are several, or it is not one of TCP.
    """
    count = os.environ.get("LISTEN_FDS", "0")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or count == "0":
        return None
    if count != "1":
        raise InvalidConfiguration(f"systemd passes {count} sockets to this server, which takes one", next_step=_ONE_SOCKET)
    os.set_inheritable(_FIRST_PASSED, False)
    found = socket.socket(fileno=_FIRST_PASSED)
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        raise InvalidConfiguration("The socket that systemd passes to this server is not one of TCP", next_step=_ONE_SOCKET)
    return found


_ONE_SOCKET = "write one ListenStream=ADDRESS:PORT into the socket unit"


def _unusable(host: str, port: int, exc: Exception) -> Unavailable:
    reason = getattr(exc, "strerror", None) or "the address cannot be used"
    return Unavailable(f"Port {port} on {host}: {reason}", next_step="Choose another with --port, or 0 for a free one.")


def address(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def connections(wanted: int) -> int:
    """Raise the soft limit of open files for *wanted* connections, and return how many connections it allows.

    Each connection needs a descriptor. 256 more are reserved for the files of answers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + Edge.SPARE + _FILES + _BACKLOG
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - Edge.SPARE - _FILES))
    if allowed < wanted:
        log.warning(
            "server.max_connections is %s, but the system allows %s open files: %s connections are served at once",
            wanted,
            soft,
            allowed,
        )
    return allowed


_FILES = 256
_BACKLOG = 2_048
"""How many connections the event loop can accept in one turn, before any of them is counted."""


def serve(
    app: ASGIApp,
    bound: Sequence[socket.socket],
    *,
    max_connections: int = 1_000,
    at_once: AtOnce | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Answer until SIGINT or SIGTERM, then wait up to 30 s for running requests, and return.

    Parameters
    ----------
    at_once
        Answers what needs no task.
    ready
        Called when the server is ready.
    """
    config = uvicorn.Config(
        app,
        http=edge(connections(max_connections), at_once),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Forwarding headers are ignored here, because links come from public_url.
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=DRAIN_S,
    )
    _Server(config, ready).run(sockets=list(bound))


def edge(max_connections: int, at_once: AtOnce | None = None) -> type[Edge]:
    """Return the protocol of a server: uvicorn makes one object of it for each connection."""
    own: dict[str, object] = {"MAX_CONNECTIONS": max_connections}
    return type("Edge", (Edge,), own if at_once is None else own | {"at_once": staticmethod(at_once)})


def serve_many(work: Callable[[Callable[[], None]], object], count: int, *, ready: Callable[[], None] | None = None) -> int:
    """Keep *count* server processes running until SIGINT or SIGTERM, then let each drain. Return the exit code.

    Parameters
    ----------
    work
        The function of each process. It builds its own parts, calls its argument when it is ready, and serves until SIGTERM. It
        runs in a new interpreter, not in a fork, so it must be picklable.
    ready
        Called when all processes are ready.
    """
    context = multiprocessing.get_context("spawn")
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    workers = [_Worker(context, work) for _ in range(count)]
    try:
        while not stopping.wait(0.1):
            if ready is not None and all(worker.answers for worker in workers):
                ready()
                ready = None
            for worker in workers:
                if not worker.keep_alive():
                    log.error("a server process ended before it answered, so the others are stopped")
                    return 1
        return 0
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(DRAIN_S + 5)
            worker.process.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Worker:
    """One server process. It is restarted if it dies, but not if it was never ready, because a restart would not help."""

    def __init__(self, context: SpawnContext, work: Callable[[Callable[[], None]], object]) -> None:
        self._context = context
        self._work = work
        self._start()

    def _start(self) -> None:
        self._ready = self._context.Event()
        self.process = self._context.Process(target=_in_worker, args=(self._work, self._ready))
        self.process.start()

    @property
    def answers(self) -> bool:
        return self._ready.is_set()

    def keep_alive(self) -> bool:
        if self.process.is_alive():
            return True
        if not self._ready.is_set():
            return False
        log.error("server process %s died (%s) and is started again", self.process.pid, self.process.exitcode)
        self._start()
        return True


def _in_worker(work: Callable[[Callable[[], None]], object], ready: Event) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A killed parent cannot stop this process, so it watches the parent, and no orphan keeps the port.
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    work(ready.set)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


class _Quiet:
    """Logs errors of the event loop. A lack of descriptors is logged once a second, because asyncio reports it for each
    connection.
    """

    def __init__(self) -> None:
        self._logged = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if not isinstance(exc, OSError) or exc.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            loop.default_exception_handler(context)
        elif (now := loop.time()) - self._logged >= 1:
            self._logged = now
            log.error("cannot accept connections now: %s", exc.strerror)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_Quiet())
        for bound in sockets or ():
            # Two servers that start at the same time can bind one address; only one of them can listen.
            try:
                bound.listen(_BACKLOG)
            except OSError as exc:
                host, port = bound.getsockname()[:2]
                raise _unusable(host, port, exc) from exc
        await super().startup(sockets)
        if self._ready is not None and self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and let streams end, which would have this process wait until ``DRAIN_S`` is over."""
        streams.STOPPING.set()
        if sig == signal.SIGINT and sig not in self._captured_signals:
            # Ctrl-C also reaches the parent of this process, whose SIGTERM can come first. Only a second one is in a hurry.
            self._captured_signals.append(sig)
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal and return. uvicorn's own method raises the signal again, which would skip closing the parts."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if multiprocessing.parent_process() is not None:
                # Ctrl-C reaches this process and its parent, which then stops it again: that must not cut its closing short.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
