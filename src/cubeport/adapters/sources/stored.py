"""How a source stores the chunks of an array, for versions that point at them: the bytes of each chunk and its filters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubeport.adapters.engines.zarrv3 import Form

type Index = tuple[int, ...]
type Place = tuple[int, int]
"""First byte, and number of bytes."""

_PIECE_BYTES = 2**20
"""Approximate bytes of the parts into which a contiguous array is cut."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One array of a source."""

    shape: Index
    chunks: Index
    """For an array without chunks, the lengths of the largest boxes whose values are contiguous."""
    dtype: np.dtype[Any]
    """In native byte order; the stored order is in *form*."""
    form: Form
    places: Mapping[Index, Place]
    """By position in the grid of chunks. A chunk that is not listed was never written; its values are *fill*."""
    fill: Any = None
    """``None`` if every chunk exists, or if this is not known."""

    @property
    def is_whole(self) -> bool:
        """Whether every chunk exists."""
        counts = (math.ceil(size / length) for size, length in zip(self.shape, self.chunks, strict=True))
        return len(self.places) == math.prod(counts)

    def can_be(self, lengths: Index) -> bool:
        """Return whether every chunk can be cut into chunks of *lengths* with contiguous values."""
        if self.form.filters or lengths == self.chunks:
            return lengths == self.chunks
        return all(whole % part == 0 for whole, part in zip(self.chunks, lengths, strict=True)) and any(
            all(each == 1 for each in lengths[:at]) and lengths[at + 1 :] == self.chunks[at + 1 :] for at in range(len(lengths))
        )

    def cut(self, lengths: Index) -> Mapping[Index, Place]:
        """Return the positions of chunks of *lengths*, for which :meth:`can_be` is true. Without filters, a part of a chunk can be
        read alone.
        """
        if lengths == self.chunks:
            return self.places
        return dict(self._cut(lengths))

    def _cut(self, lengths: Index) -> Iterator[tuple[Index, Place]]:
        counts = [whole // part for whole, part in zip(self.chunks, lengths, strict=True)]
        size = math.prod(lengths) * self.dtype.itemsize
        inner = list(itertools.product(*map(range, counts)))
        for index, (offset, _) in self.places.items():
            for number, place in enumerate(inner):
                yield (
                    tuple(i * count + j for i, count, j in zip(index, counts, place, strict=True)),
                    (offset + number * size, size),
                )


def pieces(block: Index, itemsize: int, axis: int | None = None, unit: int | None = None) -> Index:
    """Return the lengths of chunks of about 1 MiB that divide a box of values in C order without a remainder.

    Parameters
    ----------
    axis, unit
        Along *axis* a length must divide *unit*, so that boxes of several files make one grid.
    """
    wanted = tuple(unit if n == axis and unit is not None else size for n, size in enumerate(block))
    for at, size in enumerate(wanted):
        rest = math.prod(block[at + 1 :]) * itemsize
        # Boxes that lie one behind the other have all of the later dimensions.
        if any(wanted[n] != block[n] for n in range(at + 1, len(block))):
            continue
        fits = [n for n in range(1, size + 1) if size % n == 0 and n * rest <= _PIECE_BYTES]
        if fits:
            return (*(1,) * at, fits[-1], *block[at + 1 :])
    return (1,) * len(block)
