"""What differs between two versions of a cube: coordinates, steps, values and attributes.

Steps and cells are matched by their labels, not by their positions. Chunks with the same digest in both versions are equal and are
not read. The others are read one at a time, so memory use does not grow with the size of the cubes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from cubeport.cubes.description import Value
from cubeport.cubes.part import Deadline, Opened
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.windows import UNKNOWN, Window, runs_of, time_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

LISTED = 100
"""The largest number of labels in one list of the answer. The counts are always complete."""

_PACKING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "units", "calendar")
"""The attributes that define the meaning of stored numbers."""


class Labels(Value):
    """Some labels of a dimension: their number, the first and the last, and a list of the first hundred."""

    count: int
    first: str | float | int | None = None
    last: str | float | int | None = None
    labels: tuple[str | float | int, ...] = ()


class DimensionDifference(Value):
    """A dimension whose labels differ between the versions."""

    dimension: str
    size: tuple[int | None, int | None]
    """The sizes in the older and the newer version; ``None`` if a version does not have the dimension."""
    added: Labels
    removed: Labels
    reordered: bool = False
    """Whether the labels are the same but in another order."""


class LargestDifference(Value):
    """The largest absolute difference of two values that are present in both versions, in decoded units."""

    absolute: float
    old: float
    new: float
    at: dict[str, str | float | int]
    """The label along each dimension, or the index if there is no label."""


class VariableDifference(Value):
    """A variable of both versions whose values, dimensions or type differ."""

    name: str
    form: Mapping[str, tuple[Any, Any]] = Field(default_factory=dict)
    """``dimensions`` and ``dtype`` if they differ, older and newer. If the dimensions differ, values are not compared."""
    changed: int = 0
    """How many values differ, of those whose labels are in both versions."""
    became_missing: int = 0
    became_present: int = 0
    first: dict[str, str | float | int] | None = None
    """The place of the first changed value, in the order of the store."""
    largest: LargestDifference | None = None
    steps: Labels | None = None
    """The time steps with a changed value; ``None`` for a variable without time."""


class AttributeDifference(Value):
    """A global attribute (``variable`` is null) or an attribute of a variable; null if a version does not have it."""

    variable: str | None
    name: str
    old: Any
    new: Any


class Variables(Value):
    """Which variables were added, removed and changed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[VariableDifference, ...] = ()


class Compared(Value):
    """How much was compared by digest alone, and how much was read."""

    same_chunks: int
    """How many chunks have the same bytes in both versions."""
    read_chunks: int
    read_cells: int


class Difference(Value):
    """The differences between two versions."""

    equal: bool
    dimensions: tuple[DimensionDifference, ...] = ()
    variables: Variables = Variables()
    attributes: tuple[AttributeDifference, ...] = ()
    compared: Compared


@dataclass(frozen=True, slots=True)
class _Matched:
    """How the labels of one dimension match: the indices of the common labels in both versions, in the order of the newer one."""

    old: Array
    new: Array
    names: Callable[[Iterable[int]], list[str | float | int]]
    """Returns the labels at indices of the newer version."""

    @property
    def in_place(self) -> Array:
        found: Array = self.old == self.new
        return found


class Comparison:
    """A comparison of two versions of a dataset.

    Parameters
    ----------
    objects
        The entries of each version's manifest, by key. Equal entries mean equal bytes.
    """

    def __init__(
        self,
        old: Opened,
        new: Opened,
        objects: tuple[Mapping[str, object], Mapping[str, object]],
        *,
        deadline: Deadline | None = None,
    ) -> None:
        self._old, self._new = old, new
        self._objects = objects
        self._deadline = deadline or (lambda: None)
        self._dimensions: list[DimensionDifference] = []
        self._matched: dict[str, _Matched] = {}
        for dimension in dict.fromkeys((*_sizes(old), *_sizes(new))):
            self._match(dimension)
        clock = time_axis(new.description)
        self._time = clock.dimension if clock is not None else None
        labels = {axis.name for each in (old, new) for axis in each.description.axes if not axis.scalar}
        names = set(old.names()) & set(new.names())
        # The labels of an axis are compared by matching; coordinates with more dimensions are compared as values.
        self._compared = [each for each in new.names() if each in names and not (each in labels and len(new.dimensions(each)) == 1)]

    def cells(self) -> int:
        """Return how many values of each version :meth:`difference` will read; only digests are used."""
        return sum(
            math.prod(len(places) for _, places in parts)
            for name in self._compared
            if not self._form(name).keys() & {"dimensions"}
            for parts in self._differing(name)
            if parts is not None
        )

    def difference(self) -> Difference:
        """Read the chunks that may differ, and return the differences.

        Raises
        ------
        Corrupt, StoreUnavailable
            As reading does. The deadline can also raise its own error.
        """
        same = read = cells = 0
        changed = []
        for name in self._compared:
            found = VariableDifference(name=name, form=self._form(name))
            if "dimensions" not in found.form:
                every = list(self._differing(name))
                parts = [each for each in every if each is not None]
                found = self._values(found, parts)
                same, read = same + len(every) - len(parts), read + len(parts)
                cells += sum(math.prod(len(places) for _, places in each) for each in parts)
            if found != VariableDifference(name=name):
                changed.append(found)
        held, coming = self._old.names(), self._new.names()
        variables = Variables(
            added=tuple(each for each in coming if each not in held),
            removed=tuple(each for each in held if each not in coming),
            changed=tuple(changed),
        )
        attributes = tuple(self._attributes())
        return Difference(
            equal=not (self._dimensions or variables != Variables() or attributes),
            dimensions=tuple(self._dimensions),
            variables=variables,
            attributes=attributes,
            compared=Compared(same_chunks=same, read_chunks=read, read_cells=cells),
        )

    def _match(self, dimension: str) -> None:
        (held, told), (coming, tell) = (_labels(each, dimension) for each in (self._old, self._new))
        sizes = tuple(_sizes(each).get(dimension) for each in (self._old, self._new))
        unique = all(each is not None and len(np.unique(each)) == len(each) for each in (held, coming))
        if unique and held is not None and coming is not None and held.dtype.kind == coming.dtype.kind:
            _, new, old = np.intersect1d(coming, held, assume_unique=True, return_indices=True)
            ascending = np.argsort(new)
            new, old = new[ascending], old[ascending]
        else:  # no labels, or labels that are not unique: indices are matched
            old = new = np.arange(min(sizes[0] or 0, sizes[1] or 0))
        added = np.setdiff1d(np.arange(sizes[1] or 0), new)
        removed = np.setdiff1d(np.arange(sizes[0] or 0), old)
        reordered = bool(len(old) > 1 and (np.diff(old) < 0).any())
        if sizes[0] != sizes[1] or len(added) or len(removed) or reordered:
            self._dimensions.append(
                DimensionDifference(
                    dimension=dimension,
                    size=(sizes[0], sizes[1]),
                    added=_told(added, tell),
                    removed=_told(removed, told),
                    reordered=reordered,
                )
            )
        self._matched[dimension] = _Matched(old, new, tell)

    def _form(self, name: str) -> dict[str, tuple[Any, Any]]:
        found: dict[str, tuple[Any, Any]] = {}
        if self._old.dimensions(name) != self._new.dimensions(name):
            found["dimensions"] = list(self._old.dimensions(name)), list(self._new.dimensions(name))
        if self._old.dtype(name) != self._new.dtype(name):
            found["dtype"] = str(self._old.dtype(name)), str(self._new.dtype(name))
        return found

    def _differing(self, name: str) -> Iterator[tuple[tuple[Array, Array], ...] | None]:
        """Yield, for each chunk of the newer version with common labels, the indices in both versions, by dimension.

        Yields ``None`` for a chunk whose bytes are the same in both.
        """
        dimensions = self._new.dimensions(name)
        lengths = _chunks(self._new, name)
        alike = (
            _chunks(self._old, name) == lengths
            and self._old.dtype(name) == self._new.dtype(name)
            and all(
                _plain(self._old.attributes(name).get(each)) == _plain(self._new.attributes(name).get(each)) for each in _PACKING
            )
        )
        along = []
        for dimension, length in zip(dimensions, lengths, strict=True):
            matched = self._matched[dimension]
            numbers = matched.new // length
            parts = []
            for number in np.unique(numbers).tolist():
                inside = numbers == number
                parts.append((number, matched.old[inside], matched.new[inside], bool(matched.in_place[inside].all())))
            along.append(parts)
        held, coming = self._objects
        for place in product(*along):
            if alike and all(each[3] for each in place):
                key = "/".join([name, "c", *(str(each[0]) for each in place)])
                if held.get(key) == coming.get(key):
                    yield None
                    continue
            yield tuple((each[1], each[2]) for each in place)

    def _values(self, found: VariableDifference, parts: Sequence[tuple[tuple[Array, Array], ...]]) -> VariableDifference:
        name, dimensions = found.name, self._new.dimensions(found.name)
        steps: set[int] = set()
        changed = missing = present = 0
        first: tuple[int, ...] | None = None
        largest: tuple[float, float, float, tuple[int, ...]] | None = None
        for part in parts:
            self._deadline()
            old, new = (
                each.raw(name, {d: Window(d, runs_of(pair[side])) for d, pair in zip(dimensions, part, strict=True)})
                for side, each in enumerate((self._old, self._new))
            )
            if old.dtype.kind in "biuf" and new.dtype.kind in "biuf":
                old, new = self._old.decode(name, old), self._new.decode(name, new)
            lost, got = _missing(old), _missing(new)
            differs = (old != new) & ~(lost & got)
            if not differs.any():
                continue
            changed += int(differs.sum())
            missing += int((differs & got & ~lost).sum())
            present += int((differs & lost & ~got).sum())
            where = np.argwhere(differs)
            here = tuple(int(pair[1][at]) for pair, at in zip(part, where[0], strict=True))
            first = here if first is None or here < first else first
            if self._time in dimensions:
                axis = dimensions.index(self._time)
                steps.update(part[axis][1][np.unique(where[:, axis])].tolist())
            both = differs & ~lost & ~got
            if old.dtype.kind in "biuf" and new.dtype.kind in "biuf" and both.any():
                with np.errstate(invalid="ignore", over="ignore"):
                    gap = np.where(both, np.abs(new.astype("float64") - old.astype("float64")), -1.0)
                gap = np.where(np.isfinite(gap), gap, -1.0)
                at = np.unravel_index(int(gap.argmax()), gap.shape)
                if gap[at] >= 0 and (largest is None or gap[at] > largest[0]):
                    place = tuple(int(pair[1][each]) for pair, each in zip(part, at, strict=True))
                    largest = float(gap[at]), float(old[at]), float(new[at]), place
        if not changed:
            return found
        clock = self._matched[self._time].names if self._time in dimensions and self._time is not None else None
        return found.model_copy(
            update={
                "changed": changed,
                "became_missing": missing,
                "became_present": present,
                "first": self._at(dimensions, first or ()),
                "largest": largest
                and LargestDifference(absolute=largest[0], old=largest[1], new=largest[2], at=self._at(dimensions, largest[3])),
                "steps": None if clock is None else _told(np.array(sorted(steps), "int64"), clock),
            }
        )

    def _at(self, dimensions: Sequence[str], place: Sequence[int]) -> dict[str, str | float | int]:
        return {name: self._matched[name].names([at])[0] for name, at in zip(dimensions, place, strict=True)}

    def _attributes(self) -> Iterator[AttributeDifference]:
        pairs: list[tuple[str | None, Mapping[str, Any], Mapping[str, Any]]] = [
            (None, self._old.global_attributes(), self._new.global_attributes())
        ]
        held = set(self._old.names())
        pairs += [(each, self._old.attributes(each), self._new.attributes(each)) for each in self._new.names() if each in held]
        for variable, before, after in pairs:
            for name in dict.fromkeys((*before, *after)):
                old, new = _plain(before.get(name)), _plain(after.get(name))
                if old != new:
                    yield AttributeDifference(variable=variable, name=str(name), old=old, new=new)


def _sizes(opened: Opened) -> dict[str, int]:
    """Return the length of each dimension of a version."""
    return {
        dimension: size
        for name in opened.names()
        for dimension, size in zip(opened.dimensions(name), opened.shape(name), strict=True)
    }


def _labels(opened: Opened, dimension: str) -> tuple[Array | None, Callable[[Iterable[int]], list[str | float | int]]]:
    """Return the labels of a dimension (``None`` if it has none), and a function that formats the labels at given indices."""
    clock = time_axis(opened.description)
    for axis in opened.description.axes:
        if axis.dimension != dimension or axis.scalar or axis.name not in opened.labels().values:
            continue
        values = opened.labels().values[axis.name]
        if values.ndim == 1:
            is_time = clock is not None and clock.name == axis.name
            return values, partial(_named, values, is_time=is_time)
    return None, list


def _named(values: Array, places: Iterable[int], *, is_time: bool) -> list[str | float | int]:
    return [_label(values[each], is_time=is_time) for each in places]


def _label(value: Any, *, is_time: bool) -> str | float | int:
    if is_time:
        return "unknown" if int(value) == UNKNOWN else str(stamp_at(int(value)))
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return str(plain)
    return plain if isinstance(plain, int | float) else str(plain)


def _told(places: Array, names: Callable[[Iterable[int]], list[str | float | int]]) -> Labels:
    if not len(places):
        return Labels(count=0)
    ends = names([int(places[0]), int(places[-1])])
    return Labels(count=len(places), first=ends[0], last=ends[1], labels=tuple(names(places[:LISTED].tolist())))


def _chunks(opened: Opened, name: str) -> tuple[int, ...]:
    found = next((each.chunks for each in opened.description.variables if each.name == name), None)
    return tuple(max(1, each) for each in (found if found is not None else opened.shape(name)))


def _missing(values: Array) -> Array:
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.zeros(values.shape, "bool")


def _plain(value: Any) -> Any:
    """Return an attribute as strict JSON; NaN and infinities become text."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
