"""An excerpt of a Zarr store: which index ranges of its larger arrays are there. Arrays that it does not name are complete.

A chunk that a store does not have is read as fill values. So a fetch of only some chunks records which these are, and a reader
refuses to read any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NAME = ".excerpt"
"""The file at the root of a folder that has only an excerpt of its store."""

type Ranges = tuple[tuple[int, int], ...]
"""Ascending index ranges along one dimension that do not touch, each ``start`` to ``stop`` (not included)."""


def union(found: Iterable[tuple[int, int]]) -> Ranges:
    """Return the ranges that cover the same indices."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if stop <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return tuple(joined)


def covers(ranges: Ranges, start: int, stop: int) -> bool:
    """Return whether all indices from *start* to *stop* (not included) are in *ranges*."""
    return stop <= start or any(first <= start and stop <= last for first, last in ranges)


def of_chunks(ranges: Ranges, length: int, size: int) -> tuple[Ranges, list[int]]:
    """Return the ranges widened to whole chunks of *length* in an array of *size*, and the indices of these chunks, ascending."""
    chunks = union((max(start, 0) // length, -(-min(stop, size) // length)) for start, stop in ranges)
    wide = union((first * length, min(last * length, size)) for first, last in chunks)
    return wide, [index for first, last in chunks for index in range(first, last)]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The parts of arrays, by path. A part is the product of its ranges along each dimension."""

    arrays: Mapping[str, tuple[Ranges, ...]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the content of :data:`NAME`. The same excerpt always gives the same bytes."""
        return json.dumps({path: self.arrays[path] for path in sorted(self.arrays)}).encode()

    @classmethod
    def parse(cls, data: bytes) -> Excerpt:
        """Undo :meth:`to_bytes`. Raises ValueError, KeyError or TypeError for anything else."""
        found: Mapping[str, list[list[list[int]]]] = json.loads(data)
        return cls({path: tuple(tuple((int(a), int(b)) for a, b in each) for each in dims) for path, dims in found.items()})


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request reads from a store."""

    arrays: Mapping[str, tuple[Ranges, ...]] = field(default_factory=dict)
    """By path of the arrays of an excerpt, the ranges that are read along each dimension."""
    whole: tuple[str, ...] = ()
    """Arrays whose values decide what is read. If there are any, fetch these first, and ask again."""
