"""How the values of a variable are spread: its ends, and the ends of the colours of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

SAMPLED = 1 << 20
"""Values of which percentiles are taken, at most."""
_FAR = 1e3
"""Values that are so many times the middle spread away from the median are no measurements: fill values that nobody declared."""


class Spread(NamedTuple):
    """Ends of decoded values; ``None`` where there is no number."""

    least: float | None = None
    greatest: float | None = None
    low: float | None = None
    """The 2nd percentile of what is shown."""
    high: float | None = None
    """The 98th percentile."""

    def hull(self, other: Spread) -> Spread:
        """Return the ends of both together."""
        return Spread(
            *(
                choose((each for each in pair if each is not None), default=None)
                for choose, pair in zip((min, max, min, max), zip(self, other, strict=True), strict=True)
            )
        )


@dataclass
class Sample:
    """Every n-th value of those that are read, so that percentiles cost little."""

    total: int
    """How many values there are in all."""
    _taken: list[Array] = field(default_factory=list)

    def add(self, values: Array) -> None:
        """Take some of a block."""
        import numpy as np

        part = np.ravel(values)[:: max(1, math.ceil(self.total / SAMPLED))].astype("float64")
        self._taken.append(part[np.isfinite(part)])

    def ends(self) -> tuple[float | None, float | None, bool]:
        """Return the 2nd and the 98th percentile, and whether values far beyond all others do not count.

        Where these percentiles are equal, as of rain that hardly ever falls, the ends of all that counts.
        """
        import numpy as np

        values = np.concatenate(self._taken) if self._taken else np.empty(0)
        if not values.size:
            return None, None, False
        first, middle, third = np.percentile(values, [25, 50, 75])
        kept = values[np.abs(values - middle) <= _FAR * (third - first)] if third > first else values
        low, high = np.percentile(kept, [2, 98])
        if low == high:
            low, high = kept.min(), kept.max()
        return float(low), float(high), kept.size < values.size
