"""The query language of ERDDAP's griddap: variables with one constraint in brackets for each axis, by index or by label.

For example ``sst[(2006-04-01T12:00:00Z):2:(last)][0:10][(last-5):(last)]``. A number is an index from 0. A value in parentheses
is a label of the axis; the nearest label counts. Both ends are included. Times are ISO 8601 texts or seconds since 1970. The
rules are those of ERDDAP's documentation of griddap; longitudes are not taken modulo 360.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeport.cubes.calendars import CalendarName, canonical, ordinal, stamp_of
from cubeport.cubes.part import Opened
from cubeport.cubes.selection import Instant, first_of, in_utc, order, parse_datetime, read_number, stamp_at
from cubeport.cubes.windows import UNKNOWN, IndexRange, Window, time_axis
from cubeport.errors import InvalidRequest, NotFound, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

EPOCH = Instant((1970, 1, 1))
_SECOND = 1_000_000
_PART = re.compile(r"([^\[\],]+)((?:\[[^\[\]]*\])*)")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_POINT = r"\([^()]*\)|[^():]*"
_RANGE = re.compile(rf"\s*({_POINT})\s*(?::\s*({_POINT})\s*)?(?::\s*({_POINT})\s*)?")
_LAST = re.compile(r"last\s*(?:-\s*([0-9.eE+-]{1,40}))?")
_INDEX = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One axis of the fields, with all its labels."""

    name: str
    """The coordinate variable, or the dimension if it has none."""
    dimension: str
    labels: Array
    """Numbers, texts, or for time the numbers of :func:`cubeport.cubes.selection.order`."""
    calendar: CalendarName | None = None
    """The calendar if the labels are times."""

    @property
    def size(self) -> int:
        """How many labels there are."""
        return len(self.labels)

    @property
    def is_text(self) -> bool:
        """Whether the labels are texts."""
        return self.labels.dtype.kind not in "iufb"

    def seconds(self, label: int) -> float:
        """Return a label of time as seconds since 1970 in the axis's own calendar."""
        assert self.calendar is not None  # only times are asked
        return (ordinal(stamp_at(label), self.calendar) - ordinal(stamp_at(first_of(EPOCH)), self.calendar)) / _SECOND

    def range(self) -> tuple[float, float] | None:
        """Return the smallest and the largest label as numbers, times as seconds since 1970; ``None`` for texts and no labels."""
        import numpy as np

        known = self._known()
        if self.is_text or not known.size:
            return None
        low, high = known.min(), known.max()
        return (self.seconds(int(low)), self.seconds(int(high))) if self.calendar else (float(np.float64(low)), float(high))

    def _known(self) -> Array:
        import numpy as np

        if self.is_text:
            return self.labels
        known: Array = self.labels[self.labels != UNKNOWN] if self.calendar else self.labels[np.isfinite(self.labels)]
        return known


@dataclass(frozen=True, slots=True)
class GridOffer:
    """What griddap offers of one coverage: its axes by dimension, and its fields with their dimensions in order."""

    axes: Mapping[str, GridAxis]
    fields: Mapping[str, tuple[str, ...]]

    def axis(self, name: str) -> GridAxis | None:
        """Return the axis with this name, or ``None``."""
        return next((each for each in self.axes.values() if each.name == name), None)


@dataclass(frozen=True, slots=True)
class GridRequest:
    """A query that is resolved against the labels: the names in the order of the query, and a window for each dimension."""

    names: tuple[str, ...]
    windows: Mapping[str, Window]
    of_axes: bool = False
    """Whether the names are those of axes, so that the answer has their labels only."""


def offer(opened: Opened) -> GridOffer:
    """Return what griddap offers of an open version. Only coordinates are read."""
    import numpy as np

    description, labels = opened.description, opened.labels().values
    time = time_axis(description)
    axes: dict[str, GridAxis] = {}
    fields: dict[str, tuple[str, ...]] = {}
    for name in description.fields:
        fields[name] = opened.dimensions(name)
        for dimension, size in zip(fields[name], opened.shape(name), strict=True):
            axis = next((each for each in description.axes if each.dimension == dimension and not each.scalar), None)
            if dimension in axes:
                continue
            if axis is None or axis.name not in labels:
                axes[dimension] = GridAxis(dimension, dimension, np.arange(size, dtype="int32"))
            else:
                calendar = canonical(description.temporal.calendar) if axis is time and description.temporal else None
                axes[dimension] = GridAxis(axis.name, dimension, labels[axis.name], calendar)
    return GridOffer(axes, fields)


def resolve_query(offered: GridOffer, query: str) -> GridRequest:
    """Return the request of a decoded query string without its graphics commands. An empty query requests everything.

    Raises
    ------
    InvalidRequest
        If it is not in the language, names something that the dataset does not have, or asks for fields on different cells.
    NotFound
        If a value is outside the labels of its axis by more than half a step.
    """
    text = query.strip()
    if not text:
        names = _together(offered)
        return GridRequest(names, {each: _whole(offered.axes[each]) for each in offered.fields[names[0]]})
    parts = [_split(each) for each in _parts(text)]
    names = tuple(name for name, _ in parts)
    for name in names:
        if names.count(name) > 1:
            raise _wrong(f"{name} is named twice.")
    if all(offered.axis(name) is not None for name in names):
        return GridRequest(names, dict(_labels_of(offered, parts)), of_axes=True)
    windows: dict[str, Window] | None = None
    for name, brackets in parts:
        dimensions = offered.fields.get(name)
        if dimensions is None:
            known = ", ".join([*offered.fields][:30])
            raise _wrong(f'Unrecognized variable="{name[:80]}". The variables are {known}.')
        if brackets and len(brackets) != len(dimensions):
            wanted = ", ".join(offered.axes[each].name for each in dimensions)
            given = f"{len(brackets)} constraint{'' if len(brackets) == 1 else 's'} in brackets"
            axes = "1 axis" if len(dimensions) == 1 else f"{len(dimensions)} axes"
            raise _wrong(f"For variable={name}: {given}; it has {axes}: {wanted}.")
        texts = brackets or [""] * len(dimensions)
        found = {
            dimension: _window(offered.axes[dimension], each, f"For variable={name} axis#{at}={offered.axes[dimension].name}")
            for at, (dimension, each) in enumerate(zip(dimensions, texts, strict=True))
        }
        if windows is not None and list(found.items()) != list(windows.items()):
            raise _wrong(f"The constraints of all variables must be the same: those of {name} differ from those of {names[0]}.")
        windows = found
    assert windows is not None  # a query has at least one part
    return GridRequest(names, windows)


def _together(offered: GridOffer) -> tuple[str, ...]:
    """Return the fields that share the dimensions of most fields: all that one table can have."""
    shapes = [*offered.fields.values()]
    most = max(shapes, key=shapes.count)
    return tuple(name for name, dimensions in offered.fields.items() if dimensions == most)


def _labels_of(offered: GridOffer, parts: Sequence[tuple[str, list[str]]]) -> list[tuple[str, Window]]:
    found = []
    for name, brackets in parts:
        axis = offered.axis(name)
        assert axis is not None  # the caller has checked
        if len(brackets) > 1:
            raise _wrong(f"For axis={name}: an axis has one constraint in brackets.")
        found.append((axis.dimension, _window(axis, brackets[0] if brackets else "", f"For variable={name} axis#0={name}")))
    return found


def _parts(text: str) -> list[str]:
    """Return the parts between commas outside of brackets. Linear in the length."""
    found, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif char == "," and depth == 0:
            found.append(text[start:at])
            start = at + 1
    return [*found, text[start:]]


def _split(part: str) -> tuple[str, list[str]]:
    read = _PART.fullmatch(part.strip())
    if read is None:
        raise _wrong(f'"{part[:80]}" is not variable[constraint]…, with one pair of brackets for each axis.')
    return read[1].strip(), _BRACKET.findall(read[2])


def _whole(axis: GridAxis) -> Window:
    return Window(axis.dimension, (IndexRange(0, axis.size),))


def _window(axis: GridAxis, text: str, where: str) -> Window:
    """Return the indices of one constraint. A range against the order of the axis is turned round, as in ERDDAP."""
    if not axis.size:
        raise _nothing(f"{where}: it has no labels.")
    if not text.strip():
        return _whole(axis)
    where = f'{where} Constraint="[{text[:80]}]"'
    read = _RANGE.fullmatch(text)
    if read is None:
        raise _wrong(f"{where}: it must be [value], [start:stop] or [start:stride:stop].")
    first, second, third = read.groups()
    stride = 1
    if third is not None:
        if second is None or not _INDEX.fullmatch(second.strip()) or int(second) < 1:
            raise _wrong(f"{where}: Stride={(second or '').strip()[:40]} is invalid.")
        stride, second = int(second), third
    start = _index(axis, first.strip(), where, "Start")
    stop = start if second is None else _index(axis, second.strip(), where, "Stop")
    start, stop = min(start, stop), max(start, stop)
    if stride == 1:
        return Window(axis.dimension, (IndexRange(start, stop + 1),))
    return Window(axis.dimension, tuple(IndexRange(each, each + 1) for each in range(start, stop + 1, stride)))


def _index(axis: GridAxis, text: str, where: str, role: str) -> int:
    if text.startswith("("):
        inner = text[1:-1].strip()
        if not inner:
            raise _wrong(f"{where}: The {role} value inside () is missing.")
        return _nearest(axis, inner, where, role)
    last = _LAST.fullmatch(text)
    back = last[1] if last is not None else None
    if last is not None and (back is None or _INDEX.fullmatch(back)):
        found = axis.size - 1 - int(back or 0)
    elif _INDEX.fullmatch(text):
        found = int(text)
    else:
        found = -1
    if not 0 <= found < axis.size:
        raise _wrong(f'{where}: {role}="{text[:40]}" is invalid. It must be an integer between 0 and {axis.size - 1}.')
    return found


def _nearest(axis: GridAxis, text: str, where: str, role: str) -> int:
    """Return the index of the label that is nearest to a value; the larger label if two are equally near."""
    import numpy as np

    last = _LAST.fullmatch(text)
    if last is not None and last[1] is None:
        return axis.size - 1
    if axis.is_text:
        hits = np.flatnonzero(axis.labels.astype(str) == text)
        if not hits.size:
            raise _nothing(f'{where}: {role}="{text[:40]}" is none of the labels, which are texts.')
        return int(hits[0])
    try:
        value = _value(axis, text, last)
    except ValueError as error:
        raise _wrong(f'{where}: {role}="{text[:40]}" {error}.') from error
    return _nearest_time(axis, value, where, role, text) if axis.calendar else _nearest_number(axis, value, where, role, text)


def _value(axis: GridAxis, text: str, last: re.Match[str] | None) -> float:
    """Return a value as a number of the axis; for time, seconds since 1970. Raises ValueError with a message for the caller."""
    if last is not None:
        end = axis.labels[-1]
        return (axis.seconds(int(end)) if axis.calendar else float(end)) - read_number(last[1])
    if axis.calendar is None:
        return read_number(text)
    try:
        return read_number(text) if not re.fullmatch(r"\d{4}", text) else _seconds(axis, text)
    except ValueError:
        return _seconds(axis, text)


def _seconds(axis: GridAxis, text: str) -> float:
    found = parse_datetime(text)
    if not isinstance(found, Instant):
        raise ValueError("must be one time")  # the caller turns this into its answer
    assert axis.calendar is not None  # the caller has checked
    return axis.seconds(first_of(in_utc(found, axis.calendar)))


def _nearest_number(axis: GridAxis, value: float, where: str, role: str, text: str) -> int:
    import numpy as np

    numbers = axis.labels.astype("float64")
    known = np.isfinite(numbers)
    if not known.any():
        raise _nothing(f"{where}: all labels are missing.")
    low, high = float(numbers[known].min()), float(numbers[known].max())
    rough = abs(numbers[-1] - numbers[0]) / (axis.size - 1) / 2 if axis.size > 1 else max(abs(low) / 100, 0.01)
    _check_inside(value, low, high, float(rough), where, role, text)
    distance = np.where(known, np.abs(numbers - value), np.inf)
    near = np.flatnonzero(distance == distance.min())
    return int(near[np.argmax(numbers[near])])


def _nearest_time(axis: GridAxis, value: float, where: str, role: str, text: str) -> int:
    """As for numbers. Only the labels next to the value are counted in seconds, because that is slow for long axes."""
    import numpy as np

    places = np.argsort(axis.labels, kind="stable")
    places = places[axis.labels[places] != UNKNOWN]
    if not places.size:
        raise _nothing(f"{where}: all times are missing.")
    low, high = (axis.seconds(int(axis.labels[each])) for each in (places[0], places[-1]))
    rough = (high - low) / (places.size - 1) / 2 if places.size > 1 else 43_200.0
    _check_inside(value, low, high, rough, where, role, text)
    assert axis.calendar is not None  # the caller has checked
    epoch = ordinal(stamp_at(first_of(EPOCH)), axis.calendar)
    wanted = order(stamp_of(round(value * _SECOND) + epoch, axis.calendar))
    at = int(np.searchsorted(axis.labels[places], wanted))
    near = [int(places[each]) for each in (at - 1, at) if 0 <= each < places.size]
    return min(reversed(near), key=lambda each: abs(axis.seconds(int(axis.labels[each])) - value))


def _check_inside(value: float, low: float, high: float, rough: float, where: str, role: str, text: str) -> None:
    """Raise NotFound for a value outside the labels by more than half a step."""
    slack = rough * (1 + 1e-9) + 1e-9 * max(abs(low), abs(high))
    if value < low - slack:
        raise _nothing(f'{where}: {role}="{text[:40]}" is less than the axis minimum={low:.10g} (and even {low - rough:.10g}).')
    if value > high + slack:
        raise _nothing(
            f'{where}: {role}="{text[:40]}" is greater than the axis maximum={high:.10g} (and even {high + rough:.10g}).'
        )


def _wrong(why: str) -> InvalidRequest:
    return InvalidRequest(f"Query error: {why}", errors=[Problem(("query",), "bad-constraint", why)])


def _nothing(why: str) -> NotFound:
    return NotFound(f"Your query produced no matching results. Query error: {why}", what="data")
