"""A cache of bounded size for values that never change: versions, their documents and their chunks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable


class Bounded[K: Hashable, V]:
    """A thread-safe mapping that keeps the most recently used values up to a total weight.

    Parameters
    ----------
    most
        The largest total weight. A value that is heavier than this is not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        """How many lookups found their key, and how many did not."""

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    @property
    def weight(self) -> int:
        """The total weight of the values that are kept."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return the value and make it the most recently used; ``None`` if there is none."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, weight: int = 1) -> None:
        """Keep the value and drop the least recently used values to make room. A value above the limit is not kept."""
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
        """Drop the value if it is kept."""
        with self._lock:
            _, weight = self._kept.pop(key, (None, 0))
            self._weight -= weight

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            self._kept.clear()
            self._weight = 0
