"""The encoder for a plot (:mod:`cubeport.documents.plot`) of one field at one place, along time or along the vertical axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cubeport.cubes.calendars import Stamp, canonical, ordinal
from cubeport.cubes.cut import Cut
from cubeport.cubes.description import Axis, CubeDescription
from cubeport.cubes.forms import Encoder, Room
from cubeport.cubes.part import Deadline, Part
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.windows import time_axis
from cubeport.documents import plot
from cubeport.documents.coveragejson import direction_of
from cubeport.documents.native import period_labels, written_period
from cubeport.documents.titles import titled
from cubeport.errors import NotAcceptable

_BYTES_OF_A_STEP = 14


class _Plot(Encoder):
    def size(self, part: Part) -> int:
        """Return the approximate size of the drawing in bytes."""
        return 2_000 + _BYTES_OF_A_STEP * min(part.cost.cells, 2_000)

    def encode(self, part: Part, room: Room, deadline: Deadline) -> bytes:  # noqa: ARG002  # it is made of bytes at once
        return plot.svg(line_of(part.opened.cut(part.windows, deadline=deadline)), part.width)


def line_of(cut: Cut) -> plot.Line:
    """Return the line to draw for a cut at one place.

    Raises
    ------
    NotAcceptable
        If the cut has several fields or more than one axis.
    """
    import numpy as np

    if len(cut.windows.fields) != 1:
        raise NotAcceptable("A plot shows one field.", next_step="Name one field with v.")
    (name,) = cut.windows.fields
    description, variable = cut.description, cut.description.variable(name)
    values = np.asarray(np.ma.filled(np.ma.masked_invalid(cut.values[name].astype("float64")), np.nan))
    mask = cut.windows.mask
    if mask is not None and set(mask.dimensions) <= set(variable.dimensions):
        values = np.where(mask.aligned(variable.dimensions), values, np.nan)
    long = [(dimension, size) for dimension, size in zip(variable.dimensions, values.shape, strict=True) if size > 1]
    if len(long) > 1:
        raise NotAcceptable(
            f"A plot is along one axis, and {' and '.join(dimension for dimension, _ in long)} are left.",
            next_step=f"Choose one label of all but one: {', '.join(_choice(description, each) for each, _ in long)}.",
        )
    time = time_axis(description)
    dimension = long[0][0] if long else (time.dimension if time is not None else variable.dimensions[0])
    axis = next((each for each in description.axes if each.dimension == dimension and not each.scalar), None)
    title = ", ".join((variable.title, *_held(cut, variable.dimensions, dimension)))
    flat = values.ravel()
    if axis is None or axis.name not in cut.labels:
        indices = np.arange(flat.size)
        return plot.Line(indices, [str(each) for each in indices], flat, title, variable.units)
    labels = cut.labels[axis.name]
    if axis is time:
        temporal = description.temporal
        period = written_period(None, temporal)
        stamps = [stamp_at(int(each)) for each in labels]
        return plot.Line(
            _elapsed(stamps, temporal.calendar if temporal else ""),
            _short([str(each) for each in stamps], period),
            flat,
            title,
            variable.units,
        )
    return _along(axis, np.asarray(labels), flat, title, variable.units)


def _choice(description: CubeDescription, dimension: str) -> str:
    """Return the parameter of a plot that chooses a label of a dimension."""
    axis = next((each for each in description.axes if each.dimension == dimension and not each.scalar), None)
    if axis is not None and axis is time_axis(description):
        return "one time with t"
    if axis is not None and axis.kind == "z":
        return "one level with z"
    return f"one label with subset={dimension if axis is None else axis.name}(…)"


def _held(cut: Cut, dimensions: Sequence[str], drawn: str) -> Iterator[str]:
    """Yield the label at which the plot is, of each other axis than the place that has several: a member or a level."""
    for dimension in dimensions:
        axis = next((each for each in cut.description.axes if each.dimension == dimension and not each.scalar), None)
        if dimension == drawn or axis is None or axis.kind in ("x", "y") or axis.size == 1 or axis.name not in cut.labels:
            continue
        label = cut.labels[axis.name][0]
        if axis is time_axis(cut.description):
            yield str(stamp_at(int(label)))
        else:
            text = f"{label:g}" if isinstance(label, float) else str(label)
            yield f"{axis.name} {text}{f' {axis.units}' if axis.units and axis.units != '1' else ''}"


def _along(axis: Axis, labels: Any, values: Any, title: str, units: str | None) -> plot.Line:
    import numpy as np

    texts = [f"{each:g}" if isinstance(each, float) else str(each) for each in labels.tolist()]
    numeric = labels.dtype.kind in "iuf"
    positions = labels.astype("float64") if numeric else np.arange(values.size, dtype="float64")
    upright = axis.kind == "z" and numeric
    name = titled(axis.long_name or axis.name, axis.units)
    return plot.Line(
        positions, texts, values, title, units, upright=upright, downwards=direction_of(axis) == "down", axis_title=name
    )


def _elapsed(stamps: Sequence[Stamp], calendar: str) -> Any:
    """Return times as positions of a plot: by the days of their calendar, or one after the other if it is unknown."""
    import numpy as np

    known = canonical(calendar)
    return (
        np.arange(len(stamps), dtype="float64") if known is None else np.array([ordinal(each, known) for each in stamps], "float64")
    )


def _short(stamps: list[str], period: str | None) -> Sequence[str]:
    """Return times in a short form: the period, or the date if no two steps are on the same day."""
    named = period_labels(stamps, period)
    days = [each[:10] for each in named]
    return days if len(set(days)) == len(days) else named


ENCODER = _Plot()
