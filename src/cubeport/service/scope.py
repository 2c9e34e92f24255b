"""Asked against held, asked against realised: periods compared by ordinals of the calendar, never as text (service.md 5.1, 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, canonical, parse_stamp
from cubeport.cubes.description import CubeDescription, Temporal
from cubeport.errors import CoverageIncomplete, Gap, InvalidRange, SourceRejected
from cubeport.service.ingestions import Scope

GAPS_TOLD = 100


def period_type_of(description: CubeDescription) -> str:
    """Return the period type that the data themselves show."""
    temporal = description.temporal
    return "none" if temporal is None else temporal.period_type or "irregular"


def check_asked(scope: Scope, period_type: str, calendar: str) -> None:
    """Refuse what is no period, or a range whose end lies before its start. Raises InvalidPeriod, InvalidRange."""
    known = canonical(calendar) or "standard"
    start = _ordinal(scope.start, period_type, known, "start")
    end = _ordinal(scope.end, period_type, known, "end")
    if start is not None and end is not None and end < start:
        raise InvalidRange(f"The end {scope.end} lies before the start {scope.start}.")


def holds(held: Mapping[str, Any], scope: Scope, period_type: str) -> bool:
    """Tell whether the held coverage has every period that is asked; an absent end asks for no more than is held."""
    temporal, calendar = held.get("temporal"), canonical(held.get("calendar") or "") or "standard"
    if temporal is None:
        return True
    first, last = _span(temporal, period_type, calendar)
    start = _ordinal(scope.start, period_type, calendar, "start")
    end = _ordinal(scope.end, period_type, calendar, "end")
    return (start is None or start >= first) and (end is None or end <= last)


def hull(scope: Scope, held: Mapping[str, Any], period_type: str) -> Scope:
    """Return the scope that covers both what is asked and what is held: nothing that is published shrinks."""
    temporal, calendar = held.get("temporal"), canonical(held.get("calendar") or "") or "standard"
    if temporal is None:
        return scope
    first, last = _span(temporal, period_type, calendar)
    start = _ordinal(scope.start, period_type, calendar, "start")
    end = _ordinal(scope.end, period_type, calendar, "end")
    return scope.model_copy(
        update={
            "start": scope.start if start is not None and start < first else temporal["start"],
            "end": scope.end if end is None or end > last else temporal["end"],
        }
    )


def check_realised(asked: Scope, description: CubeDescription, period_type: str, *, allow_gaps: bool) -> None:
    """Refuse a cube that is not all that was asked: coverage is measured, not believed.

    Raises
    ------
    CoverageIncomplete
        When a start or end that was named is not in the data; with ``requested`` and ``available``.
    Gap
        When periods between are missing, unless gaps are allowed.
    SourceRejected
        ``bad-time`` when a period holds more than one step.
    """
    temporal = description.temporal
    if temporal is None or period_type in ("irregular", "none", "climatology"):
        return
    calendar = canonical(temporal.calendar) or "standard"
    first, last = (periods.of(parse_stamp(label, calendar), period_type, calendar) for label in (temporal.start, temporal.end))
    start = _ordinal(asked.start, period_type, calendar, "start")
    end = _ordinal(asked.end, period_type, calendar, "end")
    if (start is not None and start < first) or (end is not None and end > last):
        available = {
            name: period(temporal, label, period_type) for name, label in (("start", temporal.start), ("end", temporal.end))
        }
        raise CoverageIncomplete(
            f"The source has {available['start']} to {available['end']}.",
            requested={"start": asked.start, "end": asked.end},
            available=available,
            next_step="ask for what is available",
        )
    span = last - first + 1
    if temporal.count > span:
        raise SourceRejected(
            f"{temporal.axis}: {temporal.count} steps lie in {span} {period_type} periods.",
            reason="bad-time",
            next_step="name the period_type that the data have",
        )
    if temporal.count < span and not allow_gaps:
        raise _gap(description, period_type, calendar, span)


def period(temporal: Temporal, label: str, period_type: str) -> str:
    """Return the native string of the period that holds *label*; the label itself where there are no periods."""
    calendar = canonical(temporal.calendar)
    if calendar is None or period_type in ("irregular", "none", "climatology"):
        return label
    return periods.format_period(periods.of(parse_stamp(label, calendar), period_type, calendar), period_type, calendar)


def _gap(description: CubeDescription, period_type: str, calendar: CalendarName, span: int) -> Gap:
    temporal = description.temporal
    assert temporal is not None
    numbers = [periods.of(parse_stamp(label, calendar), period_type, calendar) for label in temporal.values or ()]
    found = [
        {
            "start": periods.format_period(a, period_type, calendar),
            "end": periods.format_period(b, period_type, calendar),
            "count": b - a + 1,
        }
        for a, b in periods.gaps(numbers)
    ]
    return Gap(
        f"{span - temporal.count} of {span} {period_type} periods are missing.",
        gaps=found[:GAPS_TOLD],
        next_step="allow_gaps, if the source has no more",
    )


def _span(temporal: Mapping[str, Any], period_type: str, calendar: CalendarName) -> tuple[int, int]:
    return (
        periods.parse(temporal["start"], period_type, calendar, side="start"),
        periods.parse(temporal["end"], period_type, calendar, side="end"),
    )


def _ordinal(text: str | None, period_type: str, calendar: CalendarName, side: periods.Side) -> int | None:
    return None if text is None else periods.parse(text, period_type, calendar, side=side)
