"""Compare requested, existing and measured periods, by ordinals of the calendar, never as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, canonical, parse_stamp
from cubeport.cubes.description import CubeDescription, Temporal
from cubeport.documents.native import climatology, empty, gaps, span
from cubeport.errors import (
    AreaOutsideSource,
    CalendarMismatch,
    CoverageIncomplete,
    Gap,
    InvalidRange,
    InvalidRequest,
    NoData,
    SourceRejected,
    UnitsMismatch,
    VariablesMismatch,
)
from cubeport.service.ingestions import Scope
from cubeport.service.templates import DatasetTemplate, TemplateFields

GAPS_TOLD = 100

AVAILABLE_STEP = "request what is available; without an end, that is up to the newest"

TIMELESS = ("none", "climatology", "irregular")
"""Period types without consecutive periods."""


def check_asked(scope: Scope, period_type: str, calendar: str) -> None:
    """Refuse texts that are not periods, and ranges whose end is before their start. Raises InvalidPeriod, InvalidRange."""
    known = canonical(calendar) or "standard"
    start = _ordinal(scope.start, period_type, known, "start")
    end = _ordinal(scope.end, period_type, known, "end")
    if start is not None and end is not None and end < start:
        raise InvalidRange(f"The end {scope.end} is before the start {scope.start}.")


def check_covered(template: DatasetTemplate, scope: Scope) -> None:
    """Refuse what is outside the area or the time range that the template says its source has. Raises AreaOutsideSource."""
    said = template.extents
    if said.spatial is not None and scope.bbox is not None and not _meet(said.spatial.bbox, scope.bbox):
        box = ", ".join(f"{each:g}" for each in said.spatial.bbox)
        raise AreaOutsideSource(
            f"The extent {scope.extent_id} does not meet the area of the source: template {template.id!r} says {box}.",
            next_step="choose an extent that the source covers (cubeport extents), or correct extents.spatial of the template",
        )
    kind = template.period_type
    if said.temporal is None or kind in ("none", "climatology"):
        return
    known = canonical(template.calendar or "") or "standard"
    begin = None if said.temporal.begin is None else periods.parse_holding(said.temporal.begin, kind, known)
    end = None if said.temporal.end is None else periods.parse_holding(said.temporal.end, kind, known, side="end")
    first, last = _ordinal(scope.start, kind, known, "start"), _ordinal(scope.end, kind, known, "end")
    asked = [each for each in (first, last) if each is not None]
    if (begin is not None and any(each < begin for each in asked)) or (end is not None and any(each > end for each in asked)):
        raise AreaOutsideSource(
            f"The source has {said.temporal.begin or '..'} to {said.temporal.end or '..'}: template {template.id!r} says so.",
            next_step="ask for periods in that range, or correct extents.temporal of the template",
        )


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Return whether two boxes have a point in common; west > east crosses the antimeridian."""
    west, south, east, north = one
    west_2, south_2, east_2, north_2 = other
    east, east_2 = east + 360 * (west > east), east_2 + 360 * (west_2 > east_2)
    beside = any(west <= east_2 + turn and west_2 + turn <= east for turn in (-360, 0, 360))
    return beside and south <= north_2 and south_2 <= north


def holds(held: Mapping[str, Any], scope: Scope, period_type: str) -> bool:
    """Return whether the existing coverage has all requested periods. A request without an end requests no newer periods."""
    temporal, calendar = held.get("temporal"), canonical(held.get("calendar") or "") or "standard"
    if temporal is None:
        return True
    first, last = _span(temporal, period_type, calendar)
    start = _ordinal(scope.start, period_type, calendar, "start")
    end = _ordinal(scope.end, period_type, calendar, "end")
    return (start is None or start >= first) and (end is None or end <= last)


def ends_early(held: Mapping[str, Any], limit: str | None, period_type: str) -> bool:
    """Return whether the data end at the *limit* of the ingestion that made them, so that their sources may have newer periods."""
    return limit is not None and holds(held, Scope(end=limit), period_type)


def check_begun(held: Mapping[str, Any], scope: Scope, period_type: str) -> None:
    """Refuse a request that begins after the last period, because none of its data exist. Raises CoverageIncomplete."""
    temporal, calendar = held.get("temporal"), canonical(held.get("calendar") or "") or "standard"
    start = _ordinal(scope.start, period_type, calendar, "start")
    if temporal is None or start is None or start <= _span(temporal, period_type, calendar)[1]:
        return
    raise CoverageIncomplete(
        f"The source has nothing from {scope.start} on; the dataset has {temporal['start']} to {temporal['end']}.",
        requested={"start": scope.start, "end": scope.end},
        available={"start": temporal["start"], "end": temporal["end"]},
        next_step="leave out the start: the next ingestion continues after the last period",
    )


def hull(scope: Scope, held: Mapping[str, Any], period_type: str) -> Scope:
    """Return the scope that covers both the request and the existing data, because published data never shrink."""
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


def spans(held: Mapping[str, Any], period_type: str) -> tuple[tuple[str, str], ...]:
    """Return the start and end of each run of consecutive periods that a coverage has. Without such periods there are none."""
    temporal, calendar = held.get("temporal"), canonical(held.get("calendar") or "") or "standard"
    if temporal is None or period_type in TIMELESS:
        return ()
    first, last = _span(temporal, period_type, calendar)
    starts, ends = [first], []
    for gap in temporal.get("gaps", ()):
        before, after = _span(gap, period_type, calendar)
        ends.append(before - 1)
        starts.append(after + 1)
    runs = zip(starts, [*ends, last], strict=True)
    return tuple(
        (periods.format_period(a, period_type, calendar), periods.format_period(b, period_type, calendar)) for a, b in runs
    )


def check_realised(scope: Scope, description: CubeDescription, period_type: str, *, allow_gaps: bool) -> None:
    """Refuse a cube that does not have all requested periods. Its coverage is measured.

    Raises
    ------
    CoverageIncomplete
        If the data do not have the requested start or end; with ``requested`` and ``available``.
    Gap
        If periods in between are missing and gaps are not allowed.
    SourceRejected
        ``bad-time``, if a period contains more than one step.
    """
    temporal = description.temporal
    if temporal is None or period_type in TIMELESS:
        return
    calendar = canonical(temporal.calendar) or "standard"
    held_from, held_to = span(temporal, period_type)
    first, last = _span({"start": held_from, "end": held_to}, period_type, calendar)
    start = _ordinal(scope.start, period_type, calendar, "start")
    end = _ordinal(scope.end, period_type, calendar, "end")
    if (start is not None and start < first) or (end is not None and end > last):
        raise CoverageIncomplete(
            f"The source has {held_from} to {held_to}.",
            requested={"start": scope.start, "end": scope.end},
            available={"start": held_from, "end": held_to},
            next_step=AVAILABLE_STEP,
        )
    expected = last - first + 1
    if temporal.count > expected:
        raise SourceRejected(
            f"{temporal.axis}: {temporal.count} steps are in {expected} {period_type} periods.",
            reason="bad-time",
            next_step=f"if the data are not {period_type}, repeat with --period-type {temporal.period_type}",
        )
    if temporal.count < expected and not allow_gaps:
        found = [gap.model_dump() for gap in gaps(temporal, period_type)[:GAPS_TOLD]]
        raise missing(found, expected - temporal.count, f"{expected} {period_type} periods")


def check_climatology(
    held: CubeDescription | None, fields: TemplateFields, description: CubeDescription, period_type: str, *, allow_gaps: bool
) -> None:
    """Refuse a climatology that does not have one step of each of its periods, and steps that are added to one.

    Raises
    ------
    Gap
        With the labels of the missing periods.
    SourceRejected
        ``bad-time``, if a period has several steps, or no time says which step is which period.
    """
    temporal, before, kind = description.temporal, None if held is None else held.temporal, fields.climatology
    if kind is None:
        if period_type == "climatology" and temporal is not None and before is not None and temporal.count != before.count:
            raise SourceRejected(
                f"{temporal.axis}: the dataset is a climatology of {before.count} steps, and has no place for other steps.",
                reason="bad-time",
                next_step="replace steps that it has (--on-overlap replace), or the dataset as a whole (--replace)",
            )
        return
    if temporal is None:
        raise SourceRejected(
            f"No time axis was found, so nothing says which step of the {kind} climatology is which.",
            reason="bad-time",
            next_step="give the data their time (normalise: set_time), or use period_type: none",
        )
    numbers, expected = climatology(temporal, kind)
    words = f"the {len(expected)} periods of a {kind} climatology"
    if len(numbers) > len(set(numbers)):
        raise SourceRejected(
            f"{temporal.axis}: {temporal.count} steps are in {words}.",
            reason="bad-time",
            next_step="name the period_type that the data have, or the climatology",
        )
    labels = [periods.CLIMATOLOGIES[kind][number] for number in sorted(expected.difference(numbers))]
    if labels and not allow_gaps:
        raise missing([{"start": each, "end": each, "count": 1} for each in labels[:GAPS_TOLD]], len(labels), words)


def missing(found: Sequence[Mapping[str, Any]], count: int, words: str) -> Gap:
    """Return the refusal of *count* missing periods, whose message names the first gap of *found*."""
    first = "" if not found else found[0]["start"] if count == 1 else f"{found[0]['start']} to {found[0]['end']}"
    where = f": {first}" if len(found) == 1 else f", first {first}" if found else ""
    return Gap(
        f"{count} of {words} {'is' if count == 1 else 'are'} missing{where}.",
        gaps=list(found),
        next_step="bring the missing periods too, or accept the gap with --allow-gaps (allow_gaps in a request or template)",
    )


def check_filled(held: CubeDescription | None, description: CubeDescription, period_type: str, *, on_empty: str) -> None:
    """Refuse new periods without any value, if these are to be refused. Those that the existing version has stay.

    Raises
    ------
    NoData
        With ``periods``.
    InvalidRequest
        If not all values were read.
    """
    temporal, before = description.temporal, None if held is None else held.temporal
    if on_empty != "refuse" or temporal is None:
        return
    found = empty(temporal, period_type)
    if found is None:
        raise InvalidRequest(
            "The template refuses periods without any value (on_empty), but only a sample of the values was read.",
            next_step="have all values read (verify full)",
        )
    old = set() if before is None else set(empty(before, period_type) or ())
    if new := [each for each in found if each not in old]:
        raise NoData(
            f"{listed(new)} {'has' if len(new) == 1 else 'have'} no value: all are missing.",
            periods=new[:GAPS_TOLD],
            next_step="wait until the source has values, or accept such periods with on_empty: warn (in ingestion of the template)",
        )


def empty_warning(temporal: Temporal | None, period_type: str) -> tuple[str, str] | None:
    """Return the warning of periods without any value; ``None`` if there are none, or nobody knows."""
    if temporal is None or not (found := empty(temporal, period_type)):
        return None
    count = temporal.empty_count
    what = "steps" if period_type in TIMELESS else f"{period_type} periods"
    words = f"{count:,} of {temporal.count:,} {what} {'has' if count == 1 else 'have'} no value (all are missing)"
    return "empty-periods", f"{words}: {listed(found, of=count)}"


def uneven_warning(temporal: Temporal | None, period_type: str) -> tuple[str, str] | None:
    """Return the warning of steps that are irregular only because some are missing, and how to say what they are."""
    calendar = None if temporal is None else canonical(temporal.calendar)
    if temporal is None or period_type != "irregular" or temporal.values is None or calendar is None:
        return None
    found = periods.nearly([parse_stamp(label, calendar) for label in temporal.values], calendar)
    if found is None:
        return None
    kind, count = found
    lost = gaps(temporal, kind)
    are = "is" if count == 1 else "are"
    words = f"the steps are {kind}, but {count:,} {are} missing (first {lost[0].start}), so they are taken as irregular"
    return "uneven-steps", f"{words}; if they are {kind}, repeat with --period-type {kind} --allow-gaps --replace"


def listed(found: Sequence[str], *, of: int | None = None) -> str:
    """Return the first texts, and how many more of them there are."""
    more = (len(found) if of is None else of) - 5
    return ", ".join(found[:5]) + (f" and {more:,} more" if more > 0 else "")


def check_said(fields: TemplateFields, description: CubeDescription) -> None:
    """Refuse data that do not match the template in units, standard names, calendar or years. Values are never converted.

    Raises
    ------
    UnitsMismatch, VariablesMismatch, CalendarMismatch
        With the values of the template and of the data.
    SourceRejected
        ``bad-time``, if the bounds of a climatology tell other years.
    """
    units = {choice.name: choice.units for choice in fields.variables}
    if fields.units and description.fields:
        units[description.fields[0]] = units.get(description.fields[0]) or fields.units
    standard_names = {choice.name: choice.standard_name for choice in fields.variables}
    for variable in description.variables:
        for said, held, error, word in (
            (units.get(variable.name), variable.units, UnitsMismatch, "units"),
            (standard_names.get(variable.name), variable.standard_name, VariablesMismatch, "standard_name"),
        ):
            if said is not None and said != held:
                raise error(
                    f"{variable.name}: the template says {word} {said!r}, the data say {held!r}.",
                    next_step=f"leave {word} out of the template, or write what the data say",
                )
    if fields.calendar is not None and (temporal := description.temporal) is not None:
        said_calendar, held_calendar = canonical(fields.calendar), canonical(temporal.calendar)
        if said_calendar != held_calendar:
            raise CalendarMismatch(
                f"The template says calendar {fields.calendar!r}, the data say {temporal.calendar!r}.",
                next_step="write the calendar of the data in the template",
            )
    if (years := fields.climatology_period) is not None and (temporal := description.temporal) is not None:
        said = " to ".join(dict.fromkeys(f"{year:04d}" for year in years))
        if temporal.years != said:
            raise SourceRejected(
                f"The template says climatology_period {said}, the bounds of the data say {temporal.years}.",
                reason="bad-time",
                next_step="leave climatology_period out of the template: the data tell it",
            )


def check_kept(held: Mapping[str, Any], description: CubeDescription, period_type: str) -> None:
    """Refuse a cube without some periods of the existing version, because published data never shrink.

    Raises
    ------
    CoverageIncomplete
        With ``requested`` (the existing periods) and ``available``.
    """
    before, temporal = held.get("temporal"), description.temporal
    if before is None or temporal is None or period_type in TIMELESS:
        return
    calendar = canonical(temporal.calendar) or "standard"
    now_from, now_to = span(temporal, period_type)
    first, last = _span({"start": now_from, "end": now_to}, period_type, calendar)
    held_first, held_last = _span(before, period_type, calendar)
    if first > held_first or last < held_last:
        raise CoverageIncomplete(
            f"The source has {now_from} to {now_to}, and {before['start']} to {before['end']} are already in the dataset.",
            requested={"start": before["start"], "end": before["end"]},
            available={"start": now_from, "end": now_to},
            next_step="restore the older files, or replace the dataset as a whole (mode replace)",
        )


def _span(temporal: Mapping[str, Any], period_type: str, calendar: CalendarName) -> tuple[int, int]:
    return (
        periods.parse(temporal["start"], period_type, calendar, side="start"),
        periods.parse(temporal["end"], period_type, calendar, side="end"),
    )


def _ordinal(text: str | None, period_type: str, calendar: CalendarName, side: periods.Side) -> int | None:
    return None if text is None else periods.parse(text, period_type, calendar, side=side)
