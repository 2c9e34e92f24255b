"""The workers that run jobs. Each process holds one lock while it lives; a free lock means that its process is dead."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock

from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.locks import Hold, Locks


@dataclass(frozen=True, slots=True)
class Workers:
    """The locks of an instance's workers."""

    locks: Locks

    def begin(self, worker: str | None = None) -> Life:
        """Take the lock of this process as a worker and return it."""
        life = Life(worker or new_id(), self.locks)
        life.renew()
        return life

    def is_dead(self, worker: str) -> bool:
        """Return whether the process of a worker has ended. Nothing is written."""
        return not self.locks.held("worker", worker)

    def bury(self, worker: str) -> None:
        """Remove the rest of a dead worker. Its name is never used again."""
        self.locks.forget("worker", worker)


@dataclass(slots=True)
class Life:
    """The lock of a living worker."""

    worker: str
    _locks: Locks
    _hold: Hold | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _renewing: Lock = field(default_factory=Lock)

    def renew(self) -> bool:
        """Take the lock if it is not held yet or was lost with a database connection, and return whether it had to be taken."""
        with self._renewing:
            if self._hold is not None and not self._hold.lost():
                return False
            self._hold = None  # so that the next call tries again if the database does not answer yet
            self._stack.close()
            hold = self._locks.hold("worker", self.worker)
            self._stack.enter_context(hold)
            self._hold = hold
            return True

    def end(self) -> None:
        """Release the lock, so that others see that this worker has ended."""
        # The name is random and never used again, so it can be removed while its own lock is held.
        self._locks.forget("worker", self.worker)
        self._stack.close()
