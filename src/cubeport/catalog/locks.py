"""Locks by name between the processes of a catalog. A lock is freed when its holder dies: by the kernel on one machine, by the
database on several. No clock, lease or pid file is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from cubeport.catalog.disk.durable import make_folders
from cubeport.catalog.disk.locks import FileLock, lock_state

type LockKind = Literal["dataset", "webhook", "worker"]


class Hold(Protocol):
    """A lock that is held while its ``with`` block lasts."""

    def __enter__(self) -> object:
        """Take it. Raises Locked, naming the holder, if it is not free in time."""

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None, /) -> None: ...

    def lost(self) -> bool:
        """Return whether this object took the lock and lost it, as after a restart of the database."""


class Locks(Protocol):
    """Locks by name."""

    def hold(self, kind: LockKind, name: str, wait_s: float = 0.0) -> Hold:
        """Return the lock of that name. ``with`` takes it, after at most *wait_s* seconds."""

    def held(self, kind: LockKind, name: str) -> bool:
        """Return whether somebody holds the lock. This can change at any time."""

    def forget(self, kind: LockKind, name: str) -> None:
        """Remove the traces of a lock whose name is never used again."""


class _FileHold(FileLock):
    def lost(self) -> bool:
        return False


class FileLocks:
    """Locks of one machine: files in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hold(self, kind: LockKind, name: str, wait_s: float = 0.0) -> Hold:
        """See :class:`Locks`."""
        path = self._path(kind, name)
        make_folders(path.parent)
        note: Mapping[str, Any] | None = None if kind == "worker" else {}
        return _FileHold(path, note, wait_s)

    def held(self, kind: LockKind, name: str) -> bool:
        """See :class:`Locks`."""
        return lock_state(self._path(kind, name)) == "held"

    def forget(self, kind: LockKind, name: str) -> None:
        """See :class:`Locks`."""
        self._path(kind, name).unlink(missing_ok=True)

    def _path(self, kind: LockKind, name: str) -> Path:
        match kind:
            case "dataset":
                return self.folder / "datasets" / f"{name}.lock"
            case "webhook":
                return self.folder / f"webhook-{name}.lock"
            case "worker":
                return self.folder / "workers" / f"{name}.lock"
