"""How the values of a variable are spread: its ends, and the ends of the colours of a picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cubeport.cubes.cells import exact

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


class Values(NamedTuple):
    """What is known of all values of a variable."""

    spread: Spread = Spread()
    far: bool = False
    """Whether some values are so far beyond all others that the ends for pictures leave them out."""
    endless: bool = False
    """Whether some values are infinite."""

    def of_classes(self) -> Values:
        """Return it for classes and counts, of which pictures show all: each may be the one that matters."""
        least, greatest, *_ = self.spread
        return Values(Spread(least, greatest, least, greatest), endless=self.endless)

    def beside(self, known: Spread) -> Values:
        """Return what is known of these values and of others whose ends are *known*, which are not read again.

        These are judged by the others: values far beyond them are no measurements, even if all new values are.
        """
        least, greatest, low, high = known.hull(self.spread)
        if known.low is None or known.high is None or not known.low < known.high:
            return self._replace(spread=Spread(least, greatest, low, high))
        reach = _FAR * (known.high - known.low)
        lowest, highest = known.low - reach, known.high + reach
        far = any(each is not None and not lowest <= each <= highest for each in self.spread[:2])
        if low is not None and low < lowest:
            low = known.low
        if high is not None and high > highest:
            high = known.high
        return self._replace(spread=Spread(least, greatest, low, high), far=self.far or far)


class Part(NamedTuple):
    """What was seen of a block of decoded values."""

    least: float | None
    """The least finite value, ``None`` if there is none."""
    greatest: float | None
    endless: bool
    taken: Array
    """A sample of the finite values as doubles, for percentiles."""


def part_of(values: Array, chunks: Sequence[int], total: int) -> Part:
    """Return what is seen of a block of decoded values.

    Parameters
    ----------
    values
        Whole chunks.
    chunks
        The lengths of a chunk. Each gives its own sample, so that it does not matter in which blocks an array is read.
    total
        How many values the array has.
    """
    import numpy as np

    # fmin skips NaN without making a copy. Infinities need a copy, but they are rare.
    low, high, endless = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None), False
    if np.isinf(low) or np.isinf(high):
        finite, endless = values[np.isfinite(values)], True
        low, high = (finite.min(), finite.max()) if finite.size else (np.nan, np.nan)
    if np.isnan(low):
        return Part(None, None, endless, np.empty(0))
    return Part(float(exact(low)), float(exact(high)), endless, sampled(values, chunks, total))


def together(parts: Iterable[Part]) -> Values:
    """Return what is known of the values of an array from those of its blocks."""
    found = list(parts)
    least = [each.least for each in found if each.least is not None]
    greatest = [each.greatest for each in found if each.greatest is not None]
    endless = any(each.endless for each in found)
    if not least or not greatest:
        return Values(endless=endless)
    low, high, far = ends([each.taken for each in found])
    return Values(Spread(min(least), max(greatest), low, high), far, endless)


def sampled(values: Array, chunks: Sequence[int], total: int) -> Array:
    """Return every n-th value of each chunk of a block, of which only the finite ones are kept: percentiles then cost little."""
    import numpy as np

    step = max(1, math.ceil(total / SAMPLED))
    lengths = [max(1, each) for each in chunks]
    if step == 1 or all(size <= length for size, length in zip(values.shape, lengths, strict=True)):
        part = np.ravel(values)[::step].astype("float64")
    else:
        corners = itertools.product(*(range(0, size, length) for size, length in zip(values.shape, lengths, strict=True)))
        cut = (tuple(slice(at, at + length) for at, length in zip(corner, lengths, strict=True)) for corner in corners)
        part = np.concatenate([values[each].flat[::step] for each in cut]).astype("float64")
    return part[np.isfinite(part)]


def ends(taken: Sequence[Array]) -> tuple[float | None, float | None, bool]:
    """Return the 2nd and the 98th percentile, and whether values far beyond all others do not count.

    Where these percentiles are equal, as of rain that hardly ever falls, the ends of all that counts.
    """
    import numpy as np

    values = np.concatenate(taken) if taken else np.empty(0)
    if not values.size:
        return None, None, False
    first, middle, third = np.percentile(values, [25, 50, 75])
    kept = values[np.abs(values - middle) <= _FAR * (third - first)] if third > first else values
    low, high = np.percentile(kept, [2, 98])
    if low == high:
        low, high = kept.min(), kept.max()
    return float(low), float(high), kept.size < values.size
