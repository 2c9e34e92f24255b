"""The steps of a cube with the period of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cubeport.cubes import periods
from cubeport.cubes.calendars import canonical
from cubeport.cubes.description import Axis
from cubeport.cubes.part import Opened
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.tables.timing import Steps, kind_of_steps


def steps_of(opened: Opened, time: Axis, period_type: str | None) -> Steps:
    """Return all steps of the cube, with the period of each."""
    description = opened.description
    temporal = description.temporal
    assert temporal is not None  # it has a time axis
    calendar = canonical(temporal.calendar) or "standard"
    labels = opened.labels()
    stamps = tuple(stamp_at(int(each)) for each in labels.values[time.name].reshape(-1))
    given = labels.bounds.get(time.name)
    bounds = None
    if given is not None:
        ends = given.reshape(-1, 2)
        bounds = tuple(stamp_at(int(each)) for each in ends.min(axis=1)), tuple(stamp_at(int(each)) for each in ends.max(axis=1))
    period_type = period_type or "irregular"
    dated = period_type not in ("irregular", "none", "climatology")
    starts, stops, spans = stamps, stamps, False
    if dated:
        moments = periods.moments(stamps, period_type, calendar, bounds, temporal.time_label)
        numbers = periods.numbers_of(moments, period_type, calendar)
        texts = tuple(periods.format_period(each, period_type, calendar) for each in numbers)
        starts = tuple(periods.start_of(each, period_type, calendar) for each in numbers)
        stops = tuple(periods.end_of(each, period_type, calendar) for each in numbers)
        spans = True
    else:
        texts = tuple(map(str, stamps))
    if bounds is not None and period_type != "climatology" and all(a < b for a, b in zip(*bounds, strict=True)):
        starts, stops, spans = *bounds, True
    return Steps(texts, starts, stops, calendar, spans, kind_of_steps(period_type))


def taking(steps: Steps, indices: Sequence[int]) -> Steps:
    """Return some of the steps."""
    return replace(
        steps,
        labels=tuple(steps.labels[each] for each in indices),
        starts=tuple(steps.starts[each] for each in indices),
        ends=tuple(steps.ends[each] for each in indices),
    )
