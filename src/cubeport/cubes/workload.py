"""How the chunks of an ingestion are divided among workers, and how what they made becomes one cube again.

A unit is a set of whole chunks. No chunk is in two units, so workers need no lock, and a unit that is made twice gives the same
objects.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cubeport.errors import Corrupt

type Index = tuple[int, ...]

UNIT_CHUNKS = 20_000
"""The most chunks in a unit: a worker's answer names each."""


class Box(NamedTuple):
    """Chunks of one array that are beside each other: from the index *start* to *stop*, which is not included."""

    array: str
    start: Index
    stop: Index

    @property
    def volume(self) -> int:
        """How many chunks it has."""
        return math.prod(end - first for first, end in zip(self.start, self.stop, strict=True))

    def indices(self) -> Iterator[Index]:
        """Yield the index of each chunk, in C order."""
        return itertools.product(*(range(first, end) for first, end in zip(self.start, self.stop, strict=True)))


class Block(NamedTuple):
    """A box that is best read at once, because it covers the chunks of the source."""

    box: Box
    chunks: int
    """How many of its chunks must be written. An update shares the others with the version before."""
    size: int
    """Their decoded size in bytes."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The part of one worker."""

    boxes: tuple[Box, ...]
    chunks: int
    """How many chunks of the boxes it writes."""
    size: int
    """In decoded bytes."""


@dataclass(frozen=True, slots=True)
class Made:
    """A chunk that a worker made."""

    array: str
    index: Index
    digest: str
    """The sha256 of its values in hex."""
    size: int | None
    """The length of its object in bytes; ``None`` if all values are the fill value, so that there is no object."""


class Run(NamedTuple):
    """A part of an array whose values are those of one source, unchanged."""

    start: int
    """Where it begins along the axis of its array."""
    length: int
    source: int
    """The number of the source."""
    name: str
    """The name of the array in the source."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The parts of an array, in order, along the axis along which its sources are joined."""

    axis: int
    chunk: int
    """The length of a chunk along the axis."""
    parts: tuple[Run, ...]

    def of(self, box: Box) -> tuple[Run, ...]:
        """Return the parts that have values of *box*."""
        first, stop = box.start[self.axis] * self.chunk, box.stop[self.axis] * self.chunk
        return tuple(each for each in self.parts if each.start < stop and first < each.start + each.length)


def runs_of(unit: Unit, known: Mapping[str, Runs]) -> dict[str, tuple[int, tuple[Run, ...]]] | None:
    """Return the axis and the parts of each array that a unit has to read; ``None`` if it needs all sources."""
    found: dict[str, set[Run]] = {}
    for box in unit.boxes:
        if box.array not in known:
            return None
        found.setdefault(box.array, set()).update(known[box.array].of(box))
    # Boxes can be apart along the axis; the parts between them are read by nobody, but keep the others in place.
    return {
        name: (known[name].axis, tuple(each for each in known[name].parts if min(parts).start <= each.start <= max(parts).start))
        for name, parts in found.items()
    }


UNIT_BYTES = 64 * 2**20
"""Smaller units are not made only so that all workers have one: each costs a worker two child processes and opened sources."""


def divide(blocks: Sequence[Block], unit_bytes: int, *, workers: int = 1) -> tuple[Unit, ...]:
    """Return *blocks* in order as units of at most *unit_bytes*. A larger block is a unit by itself.

    So many units of about the same size that *workers* have the same to do, twice each if the units are not small then.
    """
    blocks = [each for each in blocks if each.chunks]
    weights = [(each.size, each.chunks) for each in blocks]
    total = sum(size for size, _ in weights)
    count = share(math.ceil(total / unit_bytes), min(2 * workers, total // UNIT_BYTES), workers)
    found = together(blocks, weights, count, most=(unit_bytes, UNIT_CHUNKS))
    units = tuple(Unit(tuple(each.box for each in own), sum(b.chunks for b in own), sum(b.size for b in own)) for own in found)
    check_disjoint(units)
    return units


def share(needed: int, wanted: int, workers: int) -> int:
    """Return how many parts to make: *needed* or *wanted*, whichever is more, and the same number for each of *workers*."""
    parts = max(1, needed, wanted)
    return parts if parts <= workers else math.ceil(parts / workers) * workers


def together[T](items: Sequence[T], weights: Sequence[tuple[int, int]], count: int, *, most: tuple[int, int]) -> list[list[T]]:
    """Return *items* in order in groups, about *count* of about the same size.

    *weights* are the size of each item and how much else is counted of it. No group has more than *most* of either, unless it has
    one item.
    """
    total = sum(size for size, _ in weights)
    found: list[list[T]] = []
    place, before, taken = -1, 0, (0, 0)
    for item, (size, number) in zip(items, weights, strict=True):
        # The group that has the middle of an item has all of it.
        own = min((2 * before + size) * count // (2 * total), count - 1) if total else 0
        if own != place or taken[0] + size > most[0] or taken[1] + number > most[1]:
            found.append([])
            place, taken = own, (0, 0)
        found[-1].append(item)
        before, taken = before + size, (taken[0] + size, taken[1] + number)
    return found


def check_disjoint(units: Sequence[Unit]) -> None:
    """Raise Corrupt if two units have the same chunk."""
    seen: set[tuple[str, Index]] = set()
    for unit in units:
        for box in unit.boxes:
            for index in box.indices():
                _once(seen, box.array, index)


def merge(units: Sequence[Unit], answers: Sequence[Sequence[Made]], arrays: Sequence[str]) -> dict[str, str]:
    """Return the digest of each of *arrays* from the chunks that the worker of each unit made.

    Raises
    ------
    Corrupt
        If two units made the same chunk, or if a unit made another chunk than its own, or not all of its own.
    """
    check_disjoint(units)
    seen: set[tuple[str, Index]] = set()
    found: dict[str, dict[Index, bytes]] = {name: {} for name in arrays}
    for number, (unit, made) in enumerate(zip(units, answers, strict=True)):
        own = {(box.array, index) for box in unit.boxes for index in box.indices()}
        for each in made:
            if (each.array, each.index) not in own:
                raise Corrupt(f"Unit {number} made {_shown(each.array, each.index)}, which is not in it.", next_step=_STEP)
            _once(seen, each.array, each.index)
            found[each.array][each.index] = bytes.fromhex(each.digest)
        if len(made) != unit.chunks:
            raise Corrupt(f"Unit {number} made {len(made)} of {unit.chunks} chunks.", next_step=_STEP)
    # As in the store: the sha256 of the chunks' sha256s, in C order.
    return {name: hashlib.sha256(b"".join(chunks[index] for index in sorted(chunks))).hexdigest() for name, chunks in found.items()}


_STEP = "nothing was published; install the same release of cubeport on all workers, and try again"


def _once(seen: set[tuple[str, Index]], array: str, index: Index) -> None:
    if (array, index) in seen:
        raise Corrupt(f"Two units have the chunk {_shown(array, index)}, so nothing is merged.", next_step=_STEP)
    seen.add((array, index))


def _shown(array: str, index: Index) -> str:
    return "/".join((array, "c", *map(str, index)))
