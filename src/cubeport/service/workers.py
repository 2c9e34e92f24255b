"""Who runs jobs: one lock file a process, held for its life. A free lock says that its process is dead; no clock decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cubeport.catalog.disk.durable import make_folders
from cubeport.catalog.disk.locks import FileLock, lock_state
from cubeport.catalog.forms.canonical import new_id


@dataclass(frozen=True, slots=True)
class Workers:
    """The lock files of an instance's workers, in *folder*."""

    folder: Path

    def begin(self, worker: str | None = None) -> Life:
        """Return the life of this process as a worker, begun."""
        make_folders(self.folder)
        worker = worker or new_id()
        return Life(worker, FileLock(self._path(worker), timeout_s=0).acquire())

    def is_dead(self, worker: str) -> bool:
        """Return whether the process of that worker has ended; writes nothing."""
        return lock_state(self._path(worker)) != "held"

    def bury(self, worker: str) -> None:
        """Remove the lock file of a dead worker; nobody takes that name again."""
        self._path(worker).unlink(missing_ok=True)

    def _path(self, worker: str) -> Path:
        return self.folder / f"{worker}.lock"


@dataclass(slots=True)
class Life:
    """A worker's hold on its lock."""

    worker: str
    _lock: FileLock

    def end(self) -> None:
        """Let others see that this worker is gone."""
        # The name is random and never used again, so it may be unlinked under its own lock.
        self._lock.path.unlink(missing_ok=True)
        self._lock.release()
