"""The service's side of the sandbox: it starts the template, sends units to children, reads their answers, and ends them.

No library opens a source in this process, and this process is never forked.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import select
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
from typing import Any, ClassVar, Self

from cubeport.adapters.sandbox import wire
from cubeport.adapters.sandbox.child import no_space, out_of_memory
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.catalog.disk import failpoints
from cubeport.catalog.disk.durable import write_all
from cubeport.errors import CubeportError, Interrupted, NotFound, PathEscapes, SourceRejected

type Progress = Callable[[str, int, int], None]

_LOG = logging.getLogger("cubeport.gate")
_BEAT_S = 0.5
"""How often ``progress`` is called while a child sends nothing, in seconds. A cancelled job ends within this time."""
_PATIENCE_S = 30.0
"""The timeout in seconds for quick actions of the template, which must first finish its imports."""
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
"""The complete environment of the template and its children. It contains no secrets of the service, and only our library
settings."""


class Children:
    """The confined children of one service. It is thread-safe.

    Services of one process whose template would import the same share one template, which ends with the last of them: its imports
    take a second of CPU and 140 MB.

    Parameters
    ----------
    limits
        The limits of children. At most ``limits.children`` run at the same time; others wait.
    tasks
        The allowed tasks: ``module:function`` by name.
    modules
        Folders with modules that children can import, in addition to installed modules.
    libraries
        The modules that the template imports once, so that a child starts in milliseconds. Modules that are not installed are
        skipped.
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
        """How many children are running."""
        self._template: _Template | None = None
        self._units: set[_Unit] = set()
        self._idle: list[_Kept] = []
        """The kept children that wait, the longest waiting first."""
        self._timer: threading.Timer | None = None
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
        bring: Mapping[str, Callable[[str], None]] | None = None,
    ) -> Mapping[str, Any]:
        """Run *task* in a new child and return its answer, one JSON object that the caller must validate.

        Parameters
        ----------
        request
            The request, with JSON values only.
        sources
            Absolute paths of regular files or folders. They are opened here, component by component, without following links.
        read, write
            Folders that the child can read, and folders that it can write to. The first of *write* is its working folder.
        declared_bytes
            The declared size of the sources, if it is already known. It determines the time limit.
        progress
            Called with the child's progress, and at least twice a second. If it raises, the child is ended and the error is raised
            here.
        bring
            By folder in *read*, the function that makes one more file in it, by the name that the child asks for. The function
            checks the name. Its errors end the child.

        Raises
        ------
        SourceRejected
            ``crashed``, if the child died; ``timed-out`` or ``too-big``, if a limit of ``gate.*`` ended it.
        CubeportError
            An error of the same class, if the task raised one of our errors.
        Interrupted
            If the template itself was killed.
        """
        if task not in self._tasks:
            raise ValueError(f"no child does {task!r}")
        beat = _Beat(progress)
        for each in sources:  # check that all can be opened before starting a child
            with open_source(each):
                pass
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._turn(beat))
            unit = stack.enter_context(self._start(task))
            stack.callback(self._units.discard, unit)
            document = self._document(task, request, [each.name for each in sources], read, write, declared_bytes or 0)
            try:
                unit.send(document)
                self._hand_over(unit, beat, sources)
                answer = self._listen(unit, beat, declared_bytes or 0, len(sources), bring or {})
            except wire.Garbled as error:
                _LOG.error("a child of the gate broke off: %s", error)
                unit.end()
                raise _dead(self.limits, unit.ended(), write) from error
            if answer is None and self._closed:
                raise Interrupted("the service is closing")
            return _result(answer, self.limits, unit.ended(), write)

    def _document(
        self,
        task: str,
        request: Mapping[str, Any],
        sources: Sequence[str],
        read: Sequence[Path],
        write: Sequence[Path] = (),
        declared_bytes: int = 0,
        *,
        kept: bool = False,
    ) -> dict[str, Any]:
        """Return what a child is told of its unit."""
        return {
            "target": self._tasks[task],
            "request": dict(request),
            "limits": self.limits.to_mapping(),
            "sources": list(sources),
            "read": [str(each) for each in read],
            "write": [str(each) for each in write],
            "declared_bytes": declared_bytes,
            "fail_points": failpoints.armed(),
            "kept": kept,
        }

    def run_kept(
        self,
        task: str,
        request: Mapping[str, Any],
        *,
        keep: str,
        contents: Sequence[tuple[str, bytes]],
        read: Sequence[Path] = (),
        progress: Progress | None = None,
    ) -> tuple[Mapping[str, Any], bytes]:
        """Run *task* in a child that stays for later units, and return its answer with the bytes that it gave.

        The child can read the folders *read* and what it gets here, and write nothing. It serves only units with the same task,
        *keep* and *read*; see docs/adr/0049. After an error it is ended. The caller then runs the unit again in a child of its
        own (:meth:`run`), because an earlier unit of a kept child can be the cause.

        Parameters
        ----------
        keep
            Whose sources these are: one process reads them one after another.
        contents
            Name and bytes of each source.

        Raises
        ------
        SourceRejected, CubeportError, Interrupted
            As :meth:`run`.
        """
        beat = _Beat(progress)
        with self._turn(beat), contextlib.ExitStack() as stack:
            files = [stack.enter_context(_memory(data, seal=True)) for _, data in contents]
            output = stack.enter_context(_memory(b""))
            kept = self._kept(_Keeping(task, keep, tuple(map(str, read))))
            document = self._document(task, request, [name for name, _ in contents], read, kept=True)
            try:
                answer, given = self._run_kept(kept.unit, beat, document, files, output)
            except BaseException:
                self._end(kept)
                raise
            kept.served += 1
            if kept.served < self.limits.kept_units:
                self._put_back(kept)
            else:
                self._end(kept)
            return answer, given

    def _run_kept(
        self, unit: _Unit, beat: _Beat, document: Mapping[str, Any], files: Sequence[int], output: int
    ) -> tuple[Mapping[str, Any], bytes]:
        try:
            unit.send(document)
            unit.send_descriptors([*files, output])
            deadline = time.monotonic() + self.limits.seconds(0, len(files))
            match frame := self._next(unit, beat, deadline):
                case {"received": int()}:
                    frame = self._listen(unit, beat, 0, len(files), {})
        except wire.Garbled as error:
            _LOG.error("a child of the gate broke off: %s", error)
            unit.end()
            raise _dead(self.limits, unit.ended()) from error
        match frame:
            case {"result": dict(result)}:
                size = min(os.fstat(output).st_size, self.limits.kept_bytes + 1)
                return result, os.pread(output, size, 0)
        if frame is None and self._closed:
            raise Interrupted("the service is closing")
        unit.end()
        return _result(frame, self.limits, unit.ended()), b""  # it raises

    def _kept(self, keeping: _Keeping) -> _Kept:
        """Return a waiting child for such units, or start one."""
        while True:
            with self._lock:
                # The last used first, so that those that are too many are not used again, and end.
                found = next((each for each in reversed(self._idle) if each.keeping == keeping), None)
                if found is None:
                    break
                self._idle.remove(found)
            if found.unit.is_silent():
                return found
            self._end(found)  # it was killed, or its template was
        return _Kept(keeping, self._start(keeping.task))

    def _put_back(self, kept: _Kept) -> None:
        kept.since = time.monotonic()
        with self._lock:
            ended = [kept]
            if not self._closed:
                self._idle.append(kept)
                ended = self._idle[: -_WAITING * self.limits.children]
                self._idle = self._idle[len(ended) :]
                self._wind_up()
        for each in ended:
            self._end(each)

    def _wind_up(self) -> None:
        """Start the timer that ends children that wait for too long, if it is not running. The lock is held."""
        if self._timer is None and self._idle:
            self._timer = threading.Timer(self.limits.kept_s, self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        before = time.monotonic() - self.limits.kept_s
        with self._lock:
            ended = [each for each in self._idle if each.since <= before]
            self._idle = [each for each in self._idle if each.since > before]
            self._timer = None
            self._wind_up()
        for each in ended:
            with contextlib.suppress(Interrupted):  # the template does not answer, which the next unit is told
                self._end(each)

    def _end(self, kept: _Kept) -> None:
        with kept.unit:
            self._units.discard(kept.unit)

    @contextlib.contextmanager
    def _turn(self, beat: _Beat) -> Iterator[None]:
        """Wait until another child may run."""
        while not self._free.acquire(timeout=_BEAT_S):
            beat.now()
        try:
            with self._lock:
                self.running += 1
            yield
        finally:
            with self._lock:
                self.running -= 1
            self._free.release()

    def close(self) -> None:
        """End all children, and the template if no other service uses it. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
        for each in idle:
            self._end(each)
        with self._lock:
            if self._template is not None:
                for unit in tuple(self._units):
                    unit.end()
                self._template.give_back()
                self._template = None

    def template_pid(self) -> int:
        """Return the process id of the template. Starts the template if it is not running."""
        with self._lock:
            return self._running().process.pid

    def _running(self) -> _Template:
        if self._closed:
            raise Interrupted("the service is closing")
        if self._template is not None and self._template.process.poll() is not None:
            self._template.give_back()
            self._template = None
        if self._template is None:
            self._template = _Template.shared(self._arguments)
        return self._template

    def _start(self, task: str) -> _Unit:
        channel, theirs = socket.socketpair()
        lead, lead_theirs = socket.socketpair()
        try:
            with self._lock:
                message = f"{self._tasks[task].partition(':')[0]} {self.limits.kill_after_s}".encode()
                socket.send_fds(self._running().control, [message], [theirs.fileno(), lead_theirs.fileno()])
                unit = _Unit(channel, lead, self.limits)
                self._units.add(unit)
                return unit
        except BaseException as error:
            channel.close()
            lead.close()
            if isinstance(error, OSError):
                raise Interrupted("the gate's template process has died") from error
            raise
        finally:
            theirs.close()
            lead_theirs.close()

    def _hand_over(self, unit: _Unit, beat: _Beat, sources: Sequence[Path]) -> None:
        """Send the sources' descriptors to the child in batches, because a long series has more files than this process can
        open.
        """
        deadline = time.monotonic() + self.limits.seconds(0, len(sources))
        for batch in itertools.batched(sources, wire.DESCRIPTORS):
            with contextlib.ExitStack() as stack:
                unit.send_descriptors([stack.enter_context(open_source(each)) for each in batch])
                match frame := self._next(unit, beat, deadline):
                    case {"received": int()}:
                        continue
                    case {"error": _}:
                        _result(frame, self.limits, unit.ended())
                raise wire.Garbled("it does not receive its sources")

    def _listen(
        self, unit: _Unit, beat: _Beat, declared_bytes: int, sources: int, bring: Mapping[str, Callable[[str], None]]
    ) -> Mapping[str, Any] | None:
        """Return the child's final message, or ``None`` if it ended without one."""
        deadline = time.monotonic() + self.limits.seconds(declared_bytes, sources)
        while True:
            match frame := self._next(unit, beat, deadline):
                case {"progress": [str(phase), int(done), int(total)]}:
                    beat.tell(phase[:_PHASE], done, total)
                case {"declared": int(declared)}:
                    deadline += max(0.0, self.limits.seconds(declared) - self.limits.seconds(declared_bytes))
                    declared_bytes = max(declared_bytes, declared)
                case {"bring": [str(folder), str(name)]} if folder in bring:
                    began = time.monotonic()
                    bring[folder](name)
                    deadline += time.monotonic() - began  # the child waits for the store, which is no fault of its source
                    unit.send({})
                case {"passing": str(name)} if failpoints.armed():
                    failpoints.passing(name)  # here, not in the child: it counts over all children and can kill the whole service
                    unit.send({})
                case _:
                    return frame

    def _next(self, unit: _Unit, beat: _Beat, deadline: float) -> Mapping[str, Any] | None:
        """Return the child's next message, or ``None`` at its end. Other jobs receive their messages at the same time."""
        while (left := deadline - time.monotonic()) > 0:
            try:
                return unit.next_frame(min(_BEAT_S, left))
            except TimeoutError:
                beat.now()
        unit.end()
        raise _timed_out(self.limits)


_WAITING = 4
"""How many kept children may wait for each that can run: a reading and a checking one, for two datasets."""


@dataclass(frozen=True, slots=True)
class _Keeping:
    """What the units of a kept child have in common."""

    task: str
    keep: str
    read: tuple[str, ...]


@dataclass(slots=True)
class _Kept:
    """A kept child."""

    keeping: _Keeping
    unit: _Unit
    served: int = 0
    since: float = 0.0
    """When it began to wait."""


@contextlib.contextmanager
def _memory(data: bytes, *, seal: bool = False) -> Iterator[int]:
    """Yield a descriptor of a file in memory that contains *data*, which nobody can change if it is sealed.

    Raises
    ------
    SourceRejected
        ``too-big``, if the machine gives no memory for it, or allows no such files. It can then be read by another child.
    """
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.memfd_create("cubeport", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            stack.callback(os.close, descriptor)
            write_all(descriptor, data)
            os.lseek(descriptor, 0, os.SEEK_SET)
            if seal:
                seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        except OSError as error:
            raise SourceRejected("this machine has not enough memory for it", reason="too-big") from error
        yield descriptor


class _Beat:
    """Calls ``progress`` with the last reported values."""

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
    """The template process, and the socket that requests children."""

    _lock = threading.Lock()
    _running: ClassVar[dict[tuple[int, tuple[str, ...]], _Template]] = {}
    """The templates of this process that were not found dead. A fork has the process id of its own in the key."""

    @classmethod
    def shared(cls, arguments: tuple[str, ...]) -> _Template:
        """Return the running template with *arguments*, or start it. Each user gives it back once."""
        with cls._lock:
            key = os.getpid(), arguments
            found = cls._running.get(key)
            if found is None or found.process.poll() is not None:
                found = cls._running[key] = cls(arguments)
            found._users += 1
            return found

    def give_back(self) -> None:
        """End it if this was its last user."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for key in [key for key, each in self._running.items() if each is self]:
                del self._running[key]
        self._close()

    def __init__(self, arguments: Sequence[str]) -> None:
        self._users = 0
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # A new interpreter instead of a fork, because the service can have threads and locks. It has its own session, so that
            # an interrupt at the terminal reaches only the service, which then decides.
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

    def _close(self) -> None:
        self.control.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def _broken_off() -> Iterator[None]:
    """Ignore a broken channel: the child has ended or misbehaves, and its exit status will show which."""
    try:
        yield
    except OSError as error:
        raise wire.Garbled("it does not listen") from error


@dataclass(slots=True)
class _Ended:
    """How a child ended: its exit code (negative for a signal), or ``None`` if its template died too."""

    status: int | None
    max_rss: int = 0


class _Unit:
    """The service's handle of one child. Leaving the block ends the child and waits for its end."""

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
        """Return the next complete frame, or ``None`` at the end. After a TimeoutError, the received part is kept."""
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

    def is_silent(self) -> bool:
        """Return whether the child neither ended nor sent anything."""
        return not select.select([self._channel], [], [], 0)[0]

    def end(self) -> None:
        """Ask the template to end the child: SIGTERM, then SIGKILL, to its whole process group."""
        with contextlib.suppress(OSError):
            self._lead.shutdown(socket.SHUT_WR)

    def ended(self) -> _Ended:
        """Wait for the end of the child. It is certain after the child has answered or was asked to end."""
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
                asked = True  # it answered but does not exit, because of a library's thread or handler
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


def _result(answer: Mapping[str, Any] | None, limits: SourceLimits, ended: _Ended, write: Sequence[Path] = ()) -> Mapping[str, Any]:
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
            raise no_space() if _is_full(write) else _crashed()
    raise _dead(limits, ended, write)


_ROOM_BYTES = 256 * 1024
"""A disk with less room than this is full: some file systems keep a last piece back."""


def _is_full(folders: Sequence[Path]) -> bool:
    """Return whether a child could not write. Libraries say so in many ways, and HDF5 also by dying; what it wrote still lies
    there.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            status = os.statvfs(folder)
            if status.f_bavail * status.f_frsize < _ROOM_BYTES:
                return True
    return False


def _dead(limits: SourceLimits, ended: _Ended, write: Sequence[Path] = ()) -> CubeportError:
    """Return the error for a child that ended without a valid answer."""
    if _is_full(write):
        return no_space()
    if ended.status is None:
        return Interrupted("the gate's template process has died", next_step="try again")
    if ended.status == -signal.SIGXCPU:
        return _timed_out(limits)
    if ended.status < 0 and ended.max_rss >= 0.95 * limits.memory_bytes:
        return out_of_memory(limits)
    return _crashed(-ended.status if ended.status < 0 else None)


def _crashed(number: int | None = None) -> SourceRejected:
    by = "" if number is None else f" by signal {number}"
    step = "check the file with the tools that made it; the log names the details"
    if number == signal.SIGKILL:  # nothing in a file ends a process so
        step = "look whether this machine or its container is short of memory (the log of the kernel says so), then try again"
    return SourceRejected(f"the process that read it died{by}", reason="crashed", next_step=step)


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
    """Open *path*, an absolute path to a regular file or folder, component by component, without following links.

    Raises
    ------
    PathEscapes
        If the path is relative or has ``..``.
    NotFound
        If it does not exist.
    SourceRejected
        If a component is a link, or the path is neither a regular file nor a folder, or it may not be read.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise PathEscapes("a source is named by an absolute path without ..")
    descriptor = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.parts[1:]:
            # NONBLOCK, because opening a FIFO without a writer would block forever. It is refused below.
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
