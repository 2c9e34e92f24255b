"""A cache with a bound, for values that never change: versions, their documents and their chunks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable


class Bounded[K: Hashable, V]:
    """A mapping that keeps the most recently used values while their weights stay within a sum; safe in threads.

    Parameters
    ----------
    most
        The sum of the weights; a value that is heavier on its own is not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        """How often what was asked for was there, and was not."""

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    @property
    def weight(self) -> int:
        """The sum of the weights of what is kept."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return the value, which becomes the most recently used, or ``None``."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep the value; the least recently used ones make room. One that has become too heavy is no longer kept."""
        with self._lock:
            _, before = self._kept.pop(key, (None, 0))
            self._weight -= before
            if weight > self._most:
                return
            self._weight += weight
            self._kept[key] = value, weight
            while self._weight > self._most:
                _, (_, gone) = self._kept.popitem(last=False)
                self._weight -= gone

    def drop(self, key: K) -> None:
        """Forget the value, if it is kept."""
        with self._lock:
            _, weight = self._kept.pop(key, (None, 0))
            self._weight -= weight

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._weight = 0
