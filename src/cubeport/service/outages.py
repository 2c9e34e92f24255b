"""One line in the log when something begins to fail, and one when it works again, however many threads try it and how often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from cubeport.errors import BackendUnavailable, CubeportError

REMINDER_S = 3600.0
"""After how long something that still fails is told again."""


class Watch(NamedTuple):
    """What is tried again and again, in the words of the log."""

    fails: str
    works: str


CATALOG = Watch("the catalog does not answer", "the catalog answers again")
"""Whatever was tried, this fails if the backend is unavailable."""


@dataclass
class _Failing:
    since: float
    told: float
    kinds: set[str] = field(default_factory=set)


@dataclass
class Outages:
    """What fails in this process at the moment. It is thread-safe.

    Parameters
    ----------
    log
        Gets the lines, as warnings.
    clock
        Gives the seconds.
    """

    log: logging.Logger
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failing: dict[Watch, _Failing] = field(default_factory=dict)
    _over: dict[Watch, float] = field(default_factory=dict)

    @contextmanager
    def watched(self, what: Watch) -> Iterator[None]:
        """Log an error of the block, unless its kind was told since *what* has begun to fail. The error is raised as before."""
        began = self.clock()
        try:
            yield
        except (CubeportError, OSError) as exc:
            self._failed(what, exc, began)
            raise
        self._works(what)

    def _failed(self, what: Watch, exc: CubeportError | OSError, began: float) -> None:
        kind = exc.kind if isinstance(exc, CubeportError) else type(exc).__name__
        with self._lock:
            at = self.clock()
            what = CATALOG if isinstance(exc, BackendUnavailable) else what
            if began < self._over.get(what, began):
                return  # another thread has seen since that it works
            found = self._failing.setdefault(what, _Failing(at, at))
            if kind not in found.kinds:
                self.log.warning("%s: %s", what.fails, exc)
            elif at - found.told >= REMINDER_S:
                self.log.warning("%s, for %s now: %s", what.fails, _long(at - found.since), exc)
            else:
                return
            found.kinds.add(kind)
            found.told = at

    def _works(self, what: Watch) -> None:
        if what not in self._failing:
            return  # as nearly always
        with self._lock:
            found = self._failing.pop(what, None)
            if found is not None:
                self._over[what] = self.clock()
                self.log.warning("%s, after %s", what.works, _long(self._over[what] - found.since))


def _long(seconds: float) -> str:
    """Return a duration in words."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
