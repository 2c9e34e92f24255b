"""Which steps of a cube have a value: a day whose values are all missing has a label as any other day."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Steps = np.ndarray[Any, np.dtype[np.bool_]]

_EVERY = 7
"""One of so many values is looked at first: nearly always one of them is there."""


@dataclass(slots=True)
class Presence:
    """Notes, of each variable, which steps along one dimension have a value, as blocks of its decoded values are read.

    Parameters
    ----------
    dimension, size
        The dimension of the steps, and how many there are.
    known
        How many of the first steps are those of an earlier version, of which it is known already.
    empty, count
        The labels of those of them without a value, which may be only the first ones, and how many there are.
    """

    dimension: str
    size: int
    known: int = 0
    empty: tuple[str, ...] = ()
    count: int = 0
    _has: dict[str, Steps] = field(default_factory=dict)

    def note(self, name: str, dimensions: Sequence[str], first: int, values: NDArray[Any]) -> None:
        """Note a block of decoded values of a variable, whose first step is *first*."""
        if self.dimension not in dimensions or not values.size:
            return
        import numpy as np

        axis = list(dimensions).index(self.dimension)
        has = self._of(name)[first : first + values.shape[axis]]
        if has.all():
            return
        if values.dtype.kind != "f":
            has[:] = True  # an integer that is missing becomes a floating-point NaN when it is decoded
            return
        steps = np.moveaxis(values, axis, 0)
        some: tuple[slice, ...] = (slice(None), *[slice(None, None, _EVERY)] * (steps.ndim - 1))
        for part in (steps[some], steps):
            open_ = np.flatnonzero(~has)
            if open_.size:
                own = part if open_.size == len(part) else part[open_]
                has[open_] = ~np.isnan(own).all(axis=tuple(range(1, own.ndim)))

    def search(self, name: str, seen: Any, chunks: Sequence[int]) -> None:
        """Note a variable whose values nobody reads for another reason: chunk after chunk, until each step has a value."""
        import numpy as np

        axis = list(seen.dims).index(self.dimension)
        has, length = self._of(name), max(1, chunks[axis])
        for first in range(self.known // length * length, self.size, length):
            ranges = [
                [slice(first, first + length)] if at == axis else [slice(a, a + own) for a in range(0, size, max(1, own))]
                for at, (size, own) in enumerate(zip(seen.shape, chunks, strict=True))
            ]
            for window in itertools.product(*ranges):
                if has[first : first + length].all():
                    break
                self.note(name, seen.dims, first, np.asarray(seen[window].values))

    def knows(self, name: str) -> bool:
        """Return whether the variable was noted."""
        return name in self._has

    def without(self, names: Sequence[str]) -> list[int]:
        """Return the steps, after those that are known, at which none of the variables has a value."""
        import numpy as np

        has = np.logical_or.reduce([self._of(name) for name in names])
        return [int(each) for each in np.flatnonzero(~has)]

    def _of(self, name: str) -> Steps:
        import numpy as np

        if name not in self._has:
            self._has[name] = np.zeros(self.size, bool)
            self._has[name][: self.known] = True
        return self._has[name]
