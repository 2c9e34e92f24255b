"""Locks between processes. They use only flock, so that the kernel releases them when their holder dies.

A note next to the lock names its holder. Nothing depends on the note, so a failure to write it is ignored. There are no pid files,
and lock files are never unlinked. A *forked* child would share the lock, but children are started by exec, which closes it.
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from cubeport.catalog.disk.durable import open_file, store_errors
from cubeport.catalog.forms.canonical import dumps, now, timestamp
from cubeport.catalog.forms.redaction import redact, redact_text
from cubeport.errors import Locked

type LockState = Literal["free", "held", "left", "elsewhere"]
"""``left`` is free, with the note of a dead process. ``elsewhere`` is free here, with the note of another machine."""

_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.01
_NOTE = ".note"
"""What the name of a note ends with: that of its lock and this."""


class FileLock:
    """An exclusive lock on the file at *path*, which stays empty. Each holder needs its own object; threads cannot share one.

    ::

        with FileLock(root / "locks" / "catalog.lock", {"operation_id": id}, timeout_s=10): ...

    Parameters
    ----------
    note
        What to write next to the lock while it is held, in addition to the description of this process: ``operation_id``, ``user``,
        ``command``. ``None`` writes no note, for a file that names its own owner.
    timeout_s
        How long ``with`` waits before it raises :class:`~cubeport.errors.Locked` with the name of the holder.
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
        """Take the lock if it is free. Return whether this object holds it now. After an error the lock is free.

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
            # After any error above, release the lock. Without an object it would stay locked until the process ends.
            if self._fd != fd:
                _free(fd)
        return True

    def acquire(self) -> Self:
        """Take the lock. Wait at most ``timeout_s``.

        Raises
        ------
        Locked
            With the holder, the time and the command.
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
        """Release the lock. Nothing happens if it is not held."""
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
    """Return the note next to the lock, ``{pid, host, user, process, command, operation_id, since}``, or ``None``."""
    with contextlib.suppress(OSError, ValueError):  # the note only informs people, so an unreadable note counts as none
        note = json.loads(_note_path(path).read_text())
        return note if isinstance(note, dict) else None
    return None


def lock_state(path: Path) -> LockState:
    """Return whether somebody holds the lock. This can change at any time."""
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


def noted(folder: Path) -> Iterator[Path]:
    """Yield the locks below *folder* that have a note: those that are held, and those whose holder died.

    Notes of the others, of which a large instance has tens of thousands, are empty and are not opened.
    """
    for top, _, names in os.walk(folder):
        for name in names:
            if name.endswith(_NOTE) and (note := Path(top, name)).stat().st_size:
                yield note.with_name(name.removesuffix(_NOTE))


def clear_note(path: Path) -> bool:
    """Remove the note of a dead holder while holding its lock. Return whether there was one."""
    lock = FileLock(path)
    if holder(path) is None or not lock.try_lock():
        return False
    try:
        _write_note(path, "")
    finally:
        lock.release()
    return True


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + _NOTE)


def _free(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough: a child that is just starting may still have it open
    finally:
        os.close(fd)


def _write_note(path: Path, text: str) -> None:
    # Neither synced nor renamed: the note only informs people, and an incomplete note counts as none. On a full or failing disk
    # only the note is lost, because the lock itself needs no bytes.
    with contextlib.suppress(OSError):
        fd = open_file(_note_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


_DOING: list[str] = []
"""The command of this process, if it is told."""


def doing(command: str) -> None:
    """Say which command this process runs, for the notes of its locks: its arguments are not looked at."""
    _DOING[:] = [command]
    _note_of.cache_clear()


@functools.lru_cache(1)
def _note_of(pid: int) -> dict[str, Any]:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    # Only the program and the command, because later arguments can contain private values.
    command = [Path(sys.argv[0]).name or "python", *([_DOING[-1]] if _DOING else [])]
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
