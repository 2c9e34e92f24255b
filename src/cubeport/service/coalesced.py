"""One read for all threads that want the same current value at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Coalesced[T]:
    """A value that another machine has, such as the number of the last commit in a database.

    At most one read runs at a time. A call waits for the first read that *began* after the call, so the value is always current: a
    commit that a caller knows of is in it.

    Parameters
    ----------
    read
        Reads the value. It can block, and can raise; then the waiting calls read again.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._changed = threading.Condition()
        self._begun = 0
        self._running = False
        self._last: tuple[int, T] | None = None
        """The number of the last read that ended, and what it read."""

    def __call__(self) -> T:
        """Return the value, read after this call."""
        with self._changed:
            wanted = self._begun + 1
            while self._running and (self._last is None or self._last[0] < wanted):
                self._changed.wait()
            if self._last is not None and self._last[0] >= wanted:
                return self._last[1]
            self._begun += 1
            mine, self._running = self._begun, True
        try:
            value = self._read()
        except BaseException:
            self._end(None)
            raise
        self._end((mine, value))
        return value

    def _end(self, found: tuple[int, T] | None) -> None:
        with self._changed:
            self._running = False
            self._last = found or self._last
            self._changed.notify_all()
