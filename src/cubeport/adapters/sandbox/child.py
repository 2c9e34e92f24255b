"""A child of the template, from its fork to its answer. It confines itself and then runs one task on open sources.

A *kept* child serves several units, one after another (:meth:`~cubeport.adapters.sandbox.children.Children.run_kept`). It has its
sources as bytes in memory, and can write nothing but bytes in memory, so that its confinement is the same for all of them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import resource
import signal
import socket
import stat
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cubeport.adapters.sandbox import landlock, wire
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.catalog.disk.durable import write_all
from cubeport.errors import CubeportError, ExtraMissing, NoSpace, SourceRejected

_PR_SET_PDEATHSIG = 1
_REQUEST_BYTES = 64 * 2**20
_TRACE = 16_000

type Task = Callable[[Mapping[str, Any], Context], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a task: a descriptor that the service opened without following links."""

    name: str
    fd: int
    is_folder: bool

    @property
    def path(self) -> Path:
        """A path to the descriptor itself, for libraries that open files by name."""
        return Path(f"/proc/self/fd/{self.fd}")


class Context:
    """What a task can use besides its request."""

    def __init__(
        self,
        channel: socket.socket,
        *,
        limits: SourceLimits,
        sources: tuple[Input, ...] = (),
        read: tuple[Path, ...] = (),
        write: tuple[Path, ...] = (),
        fail_points: bool = False,
        output: int | None = None,
    ) -> None:
        self.limits = limits
        self.sources = sources
        self.read = read
        """The folders that the task can read, as named by the caller."""
        self.write = write
        """The folders that the task can write to. The first is the working folder."""
        self._channel = channel
        self._output = output
        self._fail_points = fail_points
        self._speaking = threading.Lock()

    def progress(self, phase: str, done: int, total: int) -> None:
        """Report the progress of the task. The service ends a cancelled task from outside."""
        with self._speaking:
            wire.send(self._channel, {"progress": [phase, done, total]})

    def bring(self, folder: Path, name: str) -> None:
        """Ask the service to make the file *name* in *folder*, one of :attr:`read`, and wait for it. Threads may call it."""
        with self._speaking:
            wire.send(self._channel, {"bring": [str(folder), name]})
            wire.receive(self._channel, 1_024)

    def give(self, data: bytes) -> None:
        """Hand bytes to the service beside the answer, once. Only a kept child can do this."""
        assert self._output is not None, "only a kept child is asked for bytes"
        write_all(self._output, data)

    def declare(self, declared_bytes: int) -> None:
        """Report the declared size of the sources. It determines the time limit (``gate.base_s`` plus the size at a fixed rate)."""
        _cpu_seconds(self.limits.seconds(declared_bytes, len(self.sources)))
        with self._speaking:
            wire.send(self._channel, {"declared": declared_bytes})

    def fail_point(self, name: str) -> None:
        """Pass the fail point *name*. The service counts it and acts on it, because this process cannot kill the service."""
        if self._fail_points:
            with self._speaking:
                wire.send(self._channel, {"passing": name})
                wire.receive(self._channel, 1_024)


_NICE = 5
"""The niceness of a child. On a busy machine, processes that answer requests have priority."""


def live(channel: socket.socket, template: int) -> NoReturn:
    """Run as the child for one unit, or for several if it is kept, then exit."""
    code = 1
    try:
        _belong(template)
        request = wire.receive(channel, _REQUEST_BYTES)
        is_new = True
        while request is not None:
            done = _work(channel, request, is_new=is_new)
            code, is_new = 0, False
            # After a refusal it ends: what its source did to it is nobody else's.
            request = wire.receive(channel, _REQUEST_BYTES) if done and request["kept"] else None
    except OSError:
        pass  # the service has exited or stopped listening, so nobody can receive the answer
    finally:
        os._exit(code)


def _belong(template: int) -> None:
    """Make this process die when the template process dies."""
    landlock.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != template:
        os._exit(1)
    os.setpgid(0, 0)
    os.umask(0o077)
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(
            "1000"
        )  # if the machine runs out of memory, the kernel kills this process first


def _work(channel: socket.socket, request: Mapping[str, Any], *, is_new: bool) -> bool:
    """Run one unit and send its answer. Return whether it is a result."""
    limits = SourceLimits.from_mapping(request["limits"])
    held: list[int] = []
    try:
        _receive(channel, limits, request, held, is_new=is_new)
        context = _context(channel, limits, request, held)
        task = _task(request["target"])
        if is_new:
            _shut_in(context, request["declared_bytes"], kept=request["kept"])
        else:
            _cpu_seconds(limits.seconds(request["declared_bytes"]))
        watched = () if request["kept"] else context.sources  # what is in memory is sealed
        before = [_identity(each) for each in watched]
        result = task(request["request"], context)
        for source, identity in zip(watched, before, strict=True):
            if _identity(source) != identity:
                raise SourceRejected.changed(source.name)
        wire.send(channel, {"result": result})
        return True
    except CubeportError as error:
        wire.send(channel, {"error": wire.error_to_mapping(error)})
    except MemoryError:
        wire.send(channel, {"error": wire.error_to_mapping(out_of_memory(limits))})
    except ModuleNotFoundError as error:
        wire.send(channel, {"error": wire.error_to_mapping(_missing(error.name or str(error)))})
    except OSError as error:
        wire.send(channel, _os_error(error, limits))
    except Exception:  # noqa: BLE001 - the last of the child: it is reported to the service, which logs it and refuses the source
        wire.send(channel, _failed())
    finally:
        for each in held:
            os.close(each)
    return False


def _failed() -> dict[str, Any]:
    return {"crashed": traceback.format_exc()[-_TRACE:]}


def _receive(channel: socket.socket, limits: SourceLimits, request: Mapping[str, Any], held: list[int], *, is_new: bool) -> None:
    """Fill *held* with the descriptors of the sources, and after them with that for the output of a kept child."""
    kept = request["kept"]
    count = len(request["sources"]) + kept
    if is_new:  # it can never be raised again
        _limit(resource.RLIMIT_NOFILE, limits.open_files + (wire.DESCRIPTORS if kept else count))
    while len(held) < count:
        held += wire.receive_descriptors(channel)
        wire.send(channel, {"received": len(held)})


def _context(channel: socket.socket, limits: SourceLimits, request: Mapping[str, Any], fds: Sequence[int]) -> Context:
    names = request["sources"]
    return Context(
        channel,
        limits=limits,
        sources=tuple(Input(name, fd, stat.S_ISDIR(os.fstat(fd).st_mode)) for name, fd in zip(names, fds, strict=False)),
        read=tuple(map(Path, request["read"])),
        write=tuple(map(Path, request["write"])),
        fail_points=request["fail_points"],
        output=fds[len(names)] if request["kept"] else None,
    )


def _identity(source: Input) -> object:
    """Return the identity of a file, or of everything in a folder. It must be the same at the end of the task."""
    if not source.is_folder:
        return _marks(os.fstat(source.fd))
    digest = hashlib.sha256()
    for path, folders, files, folder in os.fwalk(".", dir_fd=source.fd):
        folders.sort()
        for name in sorted((*folders, *files)):
            digest.update(repr((path, name, _marks(os.stat(name, dir_fd=folder, follow_symlinks=False)))).encode())
    return digest.digest()


def _marks(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _os_error(error: OSError, limits: SourceLimits) -> dict[str, Any]:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            ours: CubeportError = no_space()
        case errno.EFBIG:
            ours = limits.too_big("file_bytes", limits.file_bytes + 1, "a file that would be written")
        case errno.EMFILE:
            ours = limits.too_big("open_files", limits.open_files + 1, "files that are open at once")
        case errno.ENOMEM:
            ours = out_of_memory(limits)
        case _:
            return _failed()
    return {"error": wire.error_to_mapping(ours)}


def no_space() -> NoSpace:
    """Return the error for a disk that was full while the data were written."""
    return NoSpace("there is not enough free space for the data", next_step="free space, then try again")


def out_of_memory(limits: SourceLimits) -> SourceRejected:
    """Return the refusal of a source that needs more than ``gate.memory_bytes``."""
    return SourceRejected(
        f"reading it takes more than {limits.memory_bytes:,} bytes of memory",
        reason="too-big",
        next_step="raise gate.memory_bytes, or bring the data in smaller pieces",
        setting="gate.memory_bytes",
        limit=limits.memory_bytes,
    )


def _task(target: str) -> Task:
    module, _, function = target.partition(":")
    try:
        task: Task = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise _missing(error.name or module) from error
    return task


def _missing(module: str) -> ExtraMissing:
    """Return the error for a library that is not installed. It does not blame the source."""
    name = module.partition(".")[0]
    return ExtraMissing(f"{name} is not installed", next_step="pip install 'cubeport[service]'", what=name)


def _shut_in(context: Context, declared_bytes: int, *, kept: bool) -> None:
    limits = context.limits
    here = str(context.write[0]) if context.write else "/"
    os.chdir(here)
    os.environ["TMPDIR"] = tempfile.tempdir = here
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    _limit(resource.RLIMIT_FSIZE, limits.kept_bytes if kept else limits.file_bytes)
    count = len(context.sources)
    _cpu_seconds(limits.seconds(declared_bytes, count), hard=limits.seconds(limits.declared_bytes, count))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails with EFBIG
    if limits.sandbox == "off":
        return
    leave_network()
    try:
        version = landlock.restrict(reachable(context, in_memory=kept))
    except OSError as error:
        raise ExtraMissing(
            f"this kernel has Landlock but refuses to confine the process that reads sources ({os.strerror(error.errno or 0)})",
            next_step="allow the landlock system calls in the seccomp profile of this container or unit",
            what="landlock",
        ) from error
    if not version and limits.sandbox == "require":
        raise ExtraMissing(
            "gate.sandbox is require, but this kernel has no Landlock, and nothing else "
            "keeps a child process away from the files of this machine",
            next_step="use Linux 5.13 or later with Landlock, or set gate.sandbox to prefer",
            what="landlock",
        )


def reachable(context: Context, *, in_memory: bool = False) -> landlock.Rules:
    """Return what a confined child can access: its sources and folders, Python, and the system's libraries.

    Sources that are *in_memory* need no rule and can have none: Landlock leaves descriptors alone that no path leads to.
    """
    python = {sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *(each for each in sys.path if each)}
    system = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
    return landlock.Rules(
        descriptors=[] if in_memory else [(each.fd, landlock.READ) for each in context.sources],
        paths=[
            *((str(each), landlock.READ) for each in context.read),
            *((str(each), landlock.WRITE) for each in context.write),
            *((each, landlock.RUN) for each in sorted(python)),
            *((each, landlock.RUN) for each in system),
            ("/dev/null", landlock.READ | landlock.WRITE_FILE),
            ("/dev/urandom", landlock.READ),
        ],
    )


def leave_network() -> bool:
    """Enter a network namespace without interfaces; return whether the kernel allowed it.

    Landlock only stops TCP (from version 4). A namespace also stops UDP, raw and packet sockets, but not sockets with a path. Root
    does not need a user namespace for this, and in one it could no longer read files of other users.
    """
    for flags in (os.CLONE_NEWNET, os.CLONE_NEWUSER | os.CLONE_NEWNET):
        with contextlib.suppress(OSError):
            os.unshare(flags)
            return True
    return False


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))


def _cpu_seconds(soft: float, *, hard: float | None = None) -> None:
    """Let this unit take *soft* seconds from now, and with *hard* the process so many in all."""
    soft += time.process_time()
    _, present = resource.getrlimit(resource.RLIMIT_CPU)
    highest = present if hard is None else int(hard) + 5
    if present != resource.RLIM_INFINITY:
        highest = min(highest, present)
    resource.setrlimit(resource.RLIMIT_CPU, (min(int(soft) + 1, highest), highest))
