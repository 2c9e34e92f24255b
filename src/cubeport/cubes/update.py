"""What an update changes: the steps that it adds or replaces in a cube, and the chunks that change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from cubeport.errors import Overlap

type OnOverlap = Literal["error", "skip", "replace"]

_TOLD = 100


@dataclass(frozen=True, slots=True)
class StepsChange:
    """How the steps of an updated cube relate to those of its parent, along one dimension."""

    dimension: str
    length: int
    """The number of steps of the parent."""
    kept: tuple[tuple[int, int], ...]
    """Ranges of steps that equal the parent's at the same index: ``start`` to ``stop`` (not included)."""
    added: int
    replaced: int

    @property
    def is_append(self) -> bool:
        """Whether all steps of the parent keep their indices, and new steps follow them."""
        return not self.replaced and self.kept == ((0, self.length),)

    @property
    def kind(self) -> Literal["none", "append", "extend", "revise"]:
        """The kind of the update in the catalog."""
        if not self.added and not self.replaced:
            return "none"
        return "revise" if self.replaced else "append" if self.is_append else "extend"


@dataclass(frozen=True, slots=True)
class StepRange:
    """Consecutive steps in the result, from the parent or from the new data: ``start`` to ``stop`` (not included)."""

    of_parent: bool
    start: int
    stop: int


def common(parent: Sequence[object], new: Sequence[object]) -> list[tuple[int, int]]:
    """Return the indices, in the parent and in the new data, of the steps that both ascending lists of labels have."""
    if parent and new and parent[-1] < new[0]:  # type: ignore[operator]  # labels of one kind
        return []
    places = {label: number for number, label in enumerate(parent)}
    return [(places[label], number) for number, label in enumerate(new) if label in places]


def differs(periods: Sequence[object], at: object, name: str) -> Overlap:
    """Return the refusal of new steps of which one has other values than the existing step.

    Parameters
    ----------
    periods
        The labels of all new steps that already exist.
    at, name
        The first step that differs, and its variable.
    """
    return Overlap(
        f"{len(periods)} of the new steps already exist, and {name!r} has other values at {at} than the existing data.",
        periods=[str(label) for label in periods[:_TOLD]],
        next_step="keep the existing steps with --on-overlap skip, or use the new ones with --on-overlap replace"
        " (on_overlap in a request)",
    )


def runs(parent: Sequence[object], new: Sequence[object], on_overlap: OnOverlap) -> tuple[list[StepRange], int]:
    """Return the union of two ascending lists of labels as step ranges, and how many steps of the parent are replaced.

    If both lists have a label, the parent's step is kept, unless *on_overlap* is ``replace``. For ``error``, the caller has found
    the values of these steps to be equal (:func:`common`).
    """
    if parent and new and parent[-1] < new[0]:  # type: ignore[operator]  # labels of one kind
        # Most updates only append steps, so no label needs to be looked up.
        return [StepRange(True, 0, len(parent)), StepRange(False, 0, len(new))], 0
    places = {label: number for number, label in enumerate(parent)}
    both = [label for label in new if label in places]
    lost = set(both) if on_overlap == "replace" else set()
    taken = [(label, False, n) for n, label in enumerate(new) if on_overlap == "replace" or label not in places]
    union = sorted([*((label, True, n) for n, label in enumerate(parent) if label not in lost), *taken], key=lambda each: each[0])  # type: ignore[arg-type,return-value]  # labels of one kind
    found: list[StepRange] = []
    for (of_parent, _), group in groupby(enumerate(union), key=lambda each: (each[1][1], each[1][2] - each[0])):
        numbers = [number for _, (_, _, number) in group]
        found.append(StepRange(of_parent, numbers[0], numbers[-1] + 1))
    return found, len(lost)


def change(dimension: str, length: int, found: Sequence[StepRange], replaced: int) -> StepsChange:
    """Return the change that *found* makes to a parent with *length* steps."""
    kept, at, new = [], 0, 0
    for run in found:
        count = run.stop - run.start
        if run.of_parent and run.start == at:
            kept.append((at, at + count))
        new += 0 if run.of_parent else count
        at += count
    return StepsChange(dimension, length, tuple(kept), new - replaced, replaced)


def untouched(size: int, length: int, change: StepsChange) -> frozenset[int]:
    """Return the chunk indices, along the dimension of the change, of chunks that equal the parent's.

    Parameters
    ----------
    size
        The number of steps of the updated cube.
    length
        The number of steps of a chunk, the same as in the parent.
    """
    found: set[int] = set()
    for start, stop in change.kept:
        # The end of the array cuts the last chunk, so it is the same only if both arrays end together or both continue.
        last = math.ceil(stop / length) if stop == size == change.length else stop // length
        found.update(range(math.ceil(start / length), last))
    return frozenset(found)
