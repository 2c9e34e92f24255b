"""The service's side of the gate: it starts the template, hands units to children, listens to them, and ends them.

Nothing here opens a source with a library, and this process is never forked.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cubeport.adapters.sandbox import wire
from cubeport.adapters.sandbox.child import out_of_memory
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.catalog.disk import failpoints
from cubeport.errors import CubeportError, Interrupted, NotFound, PathEscapes, SourceRejected

type Progress = Callable[[str, int, int], None]

_LOG = logging.getLogger("cubeport.gate")
_BEAT_S = 0.5
"""How often ``progress`` is called while a child says nothing: so a cancelled job ends within it."""
_PATIENCE_S = 30.0
"""How long the template may take for what it does at once, but for imports on a busy machine."""
_PHASE = 64

_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "TMPDIR": "/nonexistent",
    "PATH": "/usr/bin:/bin",
    "HDF5_PLUGIN_PRELOAD": "::",
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLOSC_NTHREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""All that the template and its children have of an environment: no secret of the service, no switch of a library but ours."""


class Children:
    """The confined children of one service; several threads may use it at once.

    Parameters
    ----------
    limits
        What children are held to; at most ``limits.children`` run at once, further ones wait.
    tasks
        The allow-list of what can be asked for: ``module:function`` by name.
    modules
        Folders in which children find modules besides the installed ones.
    libraries
        What the template imports once, so that a child begins in milliseconds; those that are not installed are skipped.
    """

    def __init__(
        self,
        limits: SourceLimits | None = None,
        *,
        tasks: Mapping[str, str],
        modules: Sequence[Path] = (),
        libraries: Sequence[str] = (),
    ) -> None:
        self.limits = limits or SourceLimits()
        self._tasks = tasks
        self._arguments = (",".join(libraries), *map(str, modules))
        self._free = threading.BoundedSemaphore(self.limits.children)
        self._lock = threading.Lock()
        self.running = 0
        """Children that work now."""
        self._template: _Template | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(
        self,
        task: str,
        request: Mapping[str, Any],
        *,
        sources: Sequence[Path] = (),
        read: Sequence[Path] = (),
        write: Sequence[Path] = (),
        declared_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> Mapping[str, Any]:
        """Run *task* in a fresh child and return what it says: one JSON object, to be validated by the caller.

        Parameters
        ----------
        request
            JSON values only.
        sources
            Regular files or folders, absolute; opened here, component by component, without following a link.
        read, write
            Folders of ours that the child may read, or write in; the first of *write* is its working folder.
        declared_bytes
            What the sources declare, where it is known already: time is given for it.
        progress
            Called with what the child tells, and at least twice a second; whatever it raises ends the child and is raised here.

        Raises
        ------
        SourceRejected
            ``crashed`` when the child died, ``timed-out`` or ``too-big`` when a limit of ``gate.*`` ended it.
        CubeportError
            Whatever error of ours the task raised, of the same class.
        Interrupted
            If the template itself was killed.
        """
        if task not in self._tasks:
            raise ValueError(f"no child does {task!r}")
        beat = _Beat(progress)
        for each in sources:  # what cannot be opened needs no child
            with open_source(each):
                pass
        with contextlib.ExitStack() as stack:
            while not self._free.acquire(timeout=_BEAT_S):
                beat.now()
            stack.callback(self._done)
            with self._lock:
                self.running += 1
            unit = stack.enter_context(self._start(task))
            document = {
                "target": self._tasks[task],
                "request": dict(request),
                "limits": self.limits.to_mapping(),
                "sources": [each.name for each in sources],
                "read": [str(each) for each in read],
                "write": [str(each) for each in write],
                "declared_bytes": declared_bytes or 0,
                "fail_points": failpoints.armed(),
            }
            try:
                unit.send(document)
                self._hand_over(unit, beat, sources)
                answer = self._listen(unit, beat, declared_bytes or 0)
            except wire.Garbled as error:
                _LOG.error("a child of the gate broke off: %s", error)
                unit.end()
                raise _dead(self.limits, unit.ended()) from error
            return _result(answer, self.limits, unit.ended())

    def _done(self) -> None:
        with self._lock:
            self.running -= 1
        self._free.release()

    def close(self) -> None:
        """End the template and every child; idempotent."""
        with self._lock:
            self._closed = True
            if self._template is not None:
                self._template.close()
                self._template = None

    def template_pid(self) -> int:
        """Return the template's process id, starting it where it does not run."""
        with self._lock:
            return self._running().process.pid

    def _running(self) -> _Template:
        if self._closed:
            raise Interrupted("the service is closing")
        if self._template is not None and self._template.process.poll() is not None:
            self._template.close()
            self._template = None
        if self._template is None:
            self._template = _Template(self._arguments)
        return self._template

    def _start(self, task: str) -> _Unit:
        channel, theirs = socket.socketpair()
        lead, lead_theirs = socket.socketpair()
        try:
            with self._lock:
                message = f"{self._tasks[task].partition(':')[0]} {self.limits.kill_after_s}".encode()
                socket.send_fds(self._running().control, [message], [theirs.fileno(), lead_theirs.fileno()])
        except BaseException as error:
            channel.close()
            lead.close()
            if isinstance(error, OSError):
                raise Interrupted("the gate's template process has died") from error
            raise
        finally:
            theirs.close()
            lead_theirs.close()
        return _Unit(channel, lead, self.limits)

    def _hand_over(self, unit: _Unit, beat: _Beat, sources: Sequence[Path]) -> None:
        """Give the child the sources' descriptors, some at a time: a series of years has more files than this process may open."""
        deadline = time.monotonic() + self.limits.seconds(0)
        for batch in itertools.batched(sources, wire.DESCRIPTORS):
            with contextlib.ExitStack() as stack:
                unit.send_descriptors([stack.enter_context(open_source(each)) for each in batch])
                match frame := self._next(unit, beat, deadline):
                    case {"received": int()}:
                        continue
                    case {"error": _}:
                        _result(frame, self.limits, unit.ended())
                raise wire.Garbled("it does not receive its sources")

    def _listen(self, unit: _Unit, beat: _Beat, declared_bytes: int) -> Mapping[str, Any] | None:
        """Return the child's last word, ``None`` when it ended without one."""
        deadline = time.monotonic() + self.limits.seconds(declared_bytes)
        while True:
            match frame := self._next(unit, beat, deadline):
                case {"progress": [str(phase), int(done), int(total)]}:
                    beat.tell(phase[:_PHASE], done, total)
                case {"declared": int(declared)}:
                    deadline += max(0.0, self.limits.seconds(declared) - self.limits.seconds(declared_bytes))
                    declared_bytes = max(declared_bytes, declared)
                case {"passing": str(name)} if failpoints.armed():
                    failpoints.passing(name)  # here, not in the child: it counts over all children, and can kill the whole service
                    unit.send({})
                case _:
                    return frame

    def _next(self, unit: _Unit, beat: _Beat, deadline: float) -> Mapping[str, Any] | None:
        """Return the child's next message, or ``None`` at its end. Other jobs' messages reach their own waiters meanwhile."""
        while (left := deadline - time.monotonic()) > 0:
            try:
                return unit.next_frame(min(_BEAT_S, left))
            except TimeoutError:
                beat.now()
        unit.end()
        raise _timed_out(self.limits)


class _Beat:
    """Calls ``progress`` with the last that was told."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._last = ("start", 0, 0)

    def tell(self, phase: str, done: int, total: int) -> None:
        self._last = (phase, done, total)
        self.now()

    def now(self) -> None:
        if self._progress is not None:
            self._progress(*self._last)


class _Template:
    """The template process and the socket by which children are ordered."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # A fresh interpreter, started and not forked: the service may have threads and locks of any kind. Its own session:
            # an interrupt at the terminal reaches the service alone, which then decides.
            self.process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-I", "-m", "cubeport.adapters.sandbox.template", str(theirs.fileno()), *arguments],
                pass_fds=[theirs.fileno()],
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()

    def close(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def _broken_off() -> Iterator[None]:
    """A child that takes nothing more has ended, or does not behave: both are for its end to tell."""
    try:
        yield
    except OSError as error:
        raise wire.Garbled("it does not listen") from error


@dataclass(slots=True)
class _Ended:
    """How a child ended: its exit code (negative: the signal), or ``None`` when its template died too."""

    status: int | None
    max_rss: int = 0


class _Unit:
    """One child seen from the service; leaving the block ends it, and waits until it has ended."""

    def __init__(self, channel: socket.socket, lead: socket.socket, limits: SourceLimits) -> None:
        self._channel = channel
        self._lead = lead
        self._limits = limits
        self._held = bytearray()
        self._outcome: _Ended | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._outcome is None:
                self.end()
                self.ended()
        finally:
            self._channel.close()
            self._lead.close()

    def send(self, document: Mapping[str, Any]) -> None:
        with _broken_off():
            self._channel.settimeout(self._limits.base_s)
            wire.send(self._channel, document)

    def send_descriptors(self, descriptors: Sequence[int]) -> None:
        with _broken_off():
            self._channel.settimeout(self._limits.base_s)
            wire.send_descriptors(self._channel, descriptors)

    def next_frame(self, timeout_s: float) -> Mapping[str, Any] | None:
        """Return the next whole frame, or ``None`` at the end; a TimeoutError keeps what has come so far."""
        self._channel.settimeout(timeout_s)
        while True:
            frame = wire.take(self._held, self._limits.answer_bytes)
            if frame is not None:
                return frame
            try:
                part = self._channel.recv(1 << 18)
            except ConnectionError:
                part = b""
            if not part:
                if self._held:
                    raise wire.Garbled("a cut frame")
                return None
            self._held += part

    def end(self) -> None:
        """Ask the template to end the child: SIGTERM, then SIGKILL, to its whole group."""
        with contextlib.suppress(OSError):
            self._lead.shutdown(socket.SHUT_WR)

    def ended(self) -> _Ended:
        """Wait for the child's end, which is sure once it has answered or was asked to."""
        if self._outcome is None:
            self._lead.settimeout(self._limits.kill_after_s)
            self._outcome = self._wait()
        return self._outcome

    def _wait(self) -> _Ended:
        asked = False
        while True:
            try:
                frame = wire.receive(self._lead, 1_024)
            except TimeoutError:
                if asked:
                    raise Interrupted("the gate's template process does not answer") from None
                asked = True  # it answered and does not go: a thread or a handler of a library holds it
                self.end()
                self._lead.settimeout(self._limits.kill_after_s + _PATIENCE_S)
                continue
            except (wire.Garbled, OSError):
                return _Ended(None)
            match frame:
                case None:
                    return _Ended(None)
                case {"status": int(status), "max_rss": int(max_rss)}:
                    return _Ended(status, max_rss)


def _result(answer: Mapping[str, Any] | None, limits: SourceLimits, ended: _Ended) -> Mapping[str, Any]:
    match answer:
        case {"result": dict(result)}:
            return result
        case {"error": error}:
            try:
                ours = wire.error_from_mapping(error)
            except wire.Garbled:
                raise _crashed() from None
            raise ours
        case {"crashed": str(trace)}:
            _LOG.error("a child of the gate failed\n%s", trace)
            raise _crashed()
    raise _dead(limits, ended)


def _dead(limits: SourceLimits, ended: _Ended) -> CubeportError:
    """Return the error for a child that ended without a word that can be believed."""
    if ended.status is None:
        return Interrupted("the gate's template process has died", next_step="try again")
    if ended.status == -signal.SIGXCPU:
        return _timed_out(limits)
    if ended.status < 0 and ended.max_rss >= 0.95 * limits.memory_bytes:
        return out_of_memory(limits)
    return _crashed(-ended.status if ended.status < 0 else None)


def _crashed(number: int | None = None) -> SourceRejected:
    by = "" if number is None else f" by signal {number}"
    return SourceRejected(
        f"the process that read it died{by}",
        reason="crashed",
        next_step="check the file with the tools that made it; the log names the details",
    )


def _timed_out(limits: SourceLimits) -> SourceRejected:
    return SourceRejected(
        "reading it took longer than its declared size allows",
        reason="timed-out",
        next_step="raise gate.base_s, or bring the data in smaller pieces",
        setting="gate.base_s",
        limit=limits.base_s,
    )


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[int]:
    """Open *path*, an absolute path to a regular file or folder, component by component; no link is followed.

    Raises
    ------
    PathEscapes
        If the path is relative or has ``..``.
    NotFound
        If nothing is there.
    SourceRejected
        If a component is a link, or it is neither a regular file nor a folder, or it may not be read.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise PathEscapes("a source is named by an absolute path without ..")
    descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[1:]:
            # NONBLOCK: a FIFO without a writer would hold us for ever; it is refused below.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                inner = os.open(part, flags, dir_fd=descriptor)
            except OSError as error:
                raise _unopened(path, part, descriptor, error) from error
            os.close(descriptor)
            descriptor = inner
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise _unsafe(path, "is neither a regular file nor a folder")
        yield descriptor
    finally:
        os.close(descriptor)


def _unopened(path: Path, part: str, folder: int, error: OSError) -> CubeportError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return NotFound(f"there is no source {path.name}", what="source", next_step="check the path")
    with contextlib.suppress(OSError):
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            return _unsafe(path, "is reached through a symbolic link, which cubeport does not follow")
    if isinstance(error, PermissionError):
        return SourceRejected(f"{path.name} cannot be read by this service", reason="not-allowed", source=path.name)
    return _unsafe(path, "cannot be opened for reading")


def _unsafe(path: Path, why: str) -> SourceRejected:
    return SourceRejected(
        f"{path.name} {why}",
        reason="unsafe",
        source=path.name,
        next_step="name the real file or folder",
    )
