"""Locks between processes: flock and nothing else, so that the kernel frees them when their holder dies.

A note next to the lock says who holds it. Nothing depends on it, so a failure to write it is ignored. There are no pid
files, lock files are never unlinked, and no other mechanism replaces flock. A *forked* child would share the lock; children are
started by exec, which closes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pwd
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from cubeport.catalog.disk.durable import open_file, store_errors
from cubeport.catalog.forms.canonical import dumps, now, timestamp
from cubeport.catalog.forms.redaction import redact, redact_text
from cubeport.errors import Locked

type LockState = Literal["free", "held", "left", "elsewhere"]
"""``left``: free, with the note of a process that died. ``elsewhere``: free here, with the note of another machine."""

_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.01


class FileLock:
    """An exclusive lock on the file at *path*, which stays there empty. One object is for one holder, not for threads to share.

    ::

        with FileLock(root / "locks" / "catalog.lock", {"operation_id": id}, timeout_s=10): ...

    Parameters
    ----------
    note
        What to write next to the lock while it is held, on top of what is known of this process: ``operation_id``, ``user``,
        ``command``. ``None`` writes no note, for a file that says itself who owns it.
    timeout_s
        How long ``with`` waits before it raises :class:`~cubeport.errors.Locked`, naming the holder.
    """

    def __init__(self, path: Path, note: Mapping[str, Any] | None = None, timeout_s: float = 10.0) -> None:
        self.path = path
        self.note = note
        self.timeout_s = timeout_s
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def try_lock(self) -> bool:
        """Take the lock if it is free; return whether this object holds it now. Any error leaves the lock free.

        Raises
        ------
        NoSpace, StoreUnavailable
            If the lock file cannot be made or opened.
        """
        if self._fd is not None:
            raise RuntimeError(f"{self.path.name} is already held by this object")
        with store_errors(f"open the lock {self.path.name}"):
            fd = open_file(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self.note is not None:
                note = _own_note() | redact(dict(self.note)) | {"since": timestamp(now())}
                _write_note(self.path, dumps(note))
            self._fd = fd
        except BlockingIOError:
            return False
        finally:
            # Whatever went wrong above, a lock that nobody holds as an object must not stay taken for the life of the process.
            if self._fd != fd:
                _free(fd)
        return True

    def acquire(self) -> Self:
        """Take the lock, waiting at most ``timeout_s``.

        Raises
        ------
        Locked
            Saying who holds it, since when, doing what.
        """
        deadline = time.monotonic() + self.timeout_s
        pause = _FIRST_PAUSE_S
        while not self.try_lock():
            left = deadline - time.monotonic()
            if left <= 0:
                raise _locked(self.path, self.timeout_s)
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
        return self

    def release(self) -> None:
        """Free the lock; nothing happens if it is not held."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            if self.note is not None:
                _write_note(self.path, "")
        finally:
            _free(fd)

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def holder(path: Path) -> dict[str, Any] | None:
    """Return the note next to the lock: ``{pid, host, user, process, command, operation_id, since}``, ``None`` without one."""
    with contextlib.suppress(OSError, ValueError):  # it informs people only: unreadable is as good as none
        note = json.loads(_note_path(path).read_text())
        return note if isinstance(note, dict) else None
    return None


def lock_state(path: Path) -> LockState:
    """Return whether somebody holds the lock; a moment later it may be otherwise."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return "free"
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    finally:
        os.close(fd)
    note = holder(path)
    if note is None:
        return "free"
    return "left" if note.get("host") == socket.gethostname() else "elsewhere"


def clear_note(path: Path) -> bool:
    """Remove the note of a holder that died, under its lock; return whether there was one to remove."""
    lock = FileLock(path)
    if holder(path) is None or not lock.try_lock():
        return False
    try:
        _write_note(path, "")
    finally:
        lock.release()
    return True


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".note")


def _free(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)  # not by closing alone: a child that is just being started may still have it open
    finally:
        os.close(fd)


def _write_note(path: Path, text: str) -> None:
    # Not synced, not renamed: it informs people only, and a torn one reads as none. A full or failing disk must cost the note and
    # nothing else: the lock itself needs no byte.
    with contextlib.suppress(OSError):
        fd = open_file(_note_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


@functools.lru_cache(1)
def _note_of(pid: int) -> dict[str, Any]:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    # Program and command only: later arguments may hold what a user typed as a value.
    command = [Path(sys.argv[0]).name or "python", *(word for word in sys.argv[1:2] if not word.startswith("-"))]
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "user": os.environ.get("CUBEPORT_USER") or user,
        "process": Path(sys.executable).name,
        "command": redact_text(" ".join(command)),
        "operation_id": None,
    }


def _own_note() -> dict[str, Any]:
    return _note_of(os.getpid())


def _locked(path: Path, waited_s: float) -> Locked:
    who = holder(path) or {}
    message = f"{path.stem} is locked; waited {waited_s:g} s."
    if who:
        message += f" Held by {who.get('user')} (process {who.get('pid')} on {who.get('host')}) since {who.get('since')}"
        message += f", doing: {who.get('command')}." if who.get("command") else "."
    return Locked(message, next_step="wait for the holder, or see `cubeport doctor`", what=path.name, holder=who or None)
