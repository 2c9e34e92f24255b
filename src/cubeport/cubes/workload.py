"""How the chunks of an ingestion are divided among workers, and how what they made becomes one cube again.

A unit is a set of whole chunks. No chunk is in two units, so workers need no lock, and a unit that is made twice gives the same
objects.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def divide(blocks: Sequence[Block], unit_bytes: int) -> tuple[Unit, ...]:
    """Return *blocks* in order as units of at most *unit_bytes*. A larger block is a unit by itself."""
    units: list[Unit] = []
    taken: list[Block] = []

    def close() -> None:
        if taken:
            units.append(Unit(tuple(each.box for each in taken), sum(b.chunks for b in taken), sum(b.size for b in taken)))
            taken.clear()

    for each in blocks:
        if not each.chunks:
            continue
        full = sum(b.size for b in taken) + each.size > unit_bytes or sum(b.chunks for b in taken) + each.chunks > UNIT_CHUNKS
        if full:
            close()
        taken.append(each)
    close()
    check_disjoint(units)
    return tuple(units)


def groups[T](items: Sequence[T], size: Callable[[T], int], most: int, count: int) -> list[list[T]]:
    """Return *items* in order in groups of at most *count*, and of at most *most* together. A larger one is a group by itself."""
    found: list[list[T]] = []
    room = 0
    for each in items:
        if not found or len(found[-1]) == count or size(each) > room:
            found.append([])
            room = most
        found[-1].append(each)
        room -= size(each)
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
