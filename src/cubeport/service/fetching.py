"""Which periods of a source are fetched: what is asked, less what is held, as far as the source has it. Pure.

Sources of other machines are asked for what is missing only; the files of this machine are read whole by the gate instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp, canonical
from cubeport.cubes.sources import Period
from cubeport.errors import CoverageIncomplete, Gap, InvalidPeriod, InvalidRequest, NoData
from cubeport.service.ingestions import Ingestion, Scope
from cubeport.service.scope import GAPS_TOLD
from cubeport.service.state import VersionState
from cubeport.service.templates import TemplateFields

TIMELESS = ("none", "climatology", "irregular")
"""Period types without periods that follow one another."""

_OURS = ("standard", "proleptic_gregorian")
"""Calendars in which the present has a place."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The periods that an ingestion may take, before the source was asked what it has."""

    first: Period
    last: Period
    held: frozenset[int] = frozenset()
    """Numbers of the periods that need not be fetched."""
    is_open: bool = False
    """Whether no end was named: the last one is then the newest that the source has."""

    @property
    def wanted(self) -> tuple[Period, ...]:
        """What would be fetched if the source had all of it."""
        span = range(self.last.number - self.first.number + 1)
        return tuple(each for each in map(self.first.moved, span) if each.number not in self.held)


@dataclass(frozen=True, slots=True)
class Taken:
    """The periods to take, and what is to be said of them."""

    periods: tuple[Period, ...]
    end: Period
    """The last one that is asked for."""
    warnings: tuple[tuple[str, str], ...] = ()


def asked(ingestion: Ingestion, fields: TemplateFields, scope: Scope, head: VersionState | None, *, now: datetime) -> Asked:
    """Return the periods that an ingestion asks for, and those of them that are held.

    Parameters
    ----------
    scope
        What the request says; without a start, what is held gives it.
    head
        The version to build on, if what it holds need not be fetched again.

    Raises
    ------
    InvalidRequest, InvalidPeriod, InvalidRange
    """
    kind = fields.period_type
    if kind is None or kind in TIMELESS:
        raise InvalidRequest(
            "A source with dates in its address needs periods that follow one another.",
            next_step="name the period_type (daily, monthly, …)",
        )
    coverage: Mapping[str, Any] = head.coverage if head else {}
    calendar = canonical(coverage.get("calendar") or fields.calendar or "") or "standard"
    temporal: Mapping[str, Any] = coverage.get("temporal") or {}
    start = scope.start or temporal.get("start")
    if start is None:
        raise InvalidRequest("A source with dates in its address needs a start.", next_step="name the first period (--start)")
    first = Period.parse(start, kind, calendar)
    end = scope.end or ingestion.until
    declared = fields.extents.temporal.end if fields.extents.temporal else None
    if end is not None:
        last = Period(periods.parse(end, kind, calendar, side="end"), kind, calendar)
    elif declared is not None:
        last = Period(periods.parse(declared, kind, calendar, side="end"), kind, calendar)
    elif calendar in _OURS:
        last = Period(periods.of(Stamp(now.year, now.month, now.day, now.hour), kind, calendar), kind, calendar)
    else:
        raise InvalidPeriod(
            f"The present time does not exist in the calendar {calendar}: name the end.", next_step="name the end (--end)"
        )
    held = _held(temporal, kind, calendar) if temporal else frozenset()
    return Asked(first, last, held, is_open=scope.end is None)


def _held(temporal: Mapping[str, Any], kind: str, calendar: CalendarName) -> frozenset[int]:
    def numbers(span: Mapping[str, Any]) -> range:
        first, last = (periods.parse(span[name], kind, calendar, side=name) for name in ("start", "end"))
        return range(first, last + 1)

    absent = {number for gap in temporal.get("gaps", ()) for number in numbers(gap)}
    return frozenset(numbers(temporal)) - absent


def take(query: Asked, there: Sequence[Period], *, allow_gaps: bool, follows: bool) -> Taken:
    """Return what to take of what is asked, when the source has the periods *there* of it.

    Parameters
    ----------
    there
        Ascending. What is held counts as there.
    follows
        Of a sync: it takes what comes before the first hole, and says so.

    Raises
    ------
    NoData
        When nothing is there, and nothing held.
    CoverageIncomplete
        When the start or the end that was named is not there.
    Gap
        When periods between are missing, unless gaps are allowed.
    """
    has = {each.number for each in there} | query.held
    wanted = [each for each in query.wanted if each.number in has]
    known = sorted(number for number in has if query.first.number <= number <= query.last.number)
    if not known:
        raise NoData(f"The source has nothing from {query.first} to {query.last}.", next_step="ask for periods that the source has")
    newest = Period(known[-1], query.last.type, query.last.calendar)
    end = newest if query.is_open else query.last
    if query.first.number not in has or end.number not in has:
        available = {"start": str(Period(known[0], end.type, end.calendar)), "end": str(newest)}
        raise CoverageIncomplete(
            f"The source has {available['start']} to {available['end']}.",
            requested={"start": str(query.first), "end": str(end)},
            available=available,
            next_step="request what is available",
        )
    holes = list(periods.gaps([number for number in known if number <= end.number]))
    least, most = min(query.held, default=None), max(query.held, default=None)
    fresh = [hole for hole in holes if least is None or most is None or hole[0] > most or hole[1] < least]
    behind = [hole for hole in fresh if most is None or hole[0] > most]
    if behind and follows and not allow_gaps:
        first = Period(behind[0][0], end.type, end.calendar)
        before = first.moved(-1)
        words = f"{first} is missing in the source: periods behind it wait until it is there"
        return Taken(tuple(each for each in wanted if each.number <= before.number), before, (("gap", words),))
    if fresh and not allow_gaps:
        named = [(Period(a, end.type, end.calendar), Period(b, end.type, end.calendar)) for a, b in fresh[:GAPS_TOLD]]
        missing = sum(b - a + 1 for a, b in fresh)
        raise Gap(
            f"{missing} of {end.number - query.first.number + 1} {end.type} periods are missing in the source.",
            gaps=[{"start": str(a), "end": str(b), "count": b.number - a.number + 1} for a, b in named],
            next_step="use allow_gaps if the source has nothing more",
        )
    return Taken(tuple(wanted), end)


def runs(taken: Sequence[Period]) -> tuple[dict[str, Any], ...]:
    """Return periods as ``{start, end, count}`` of each run without a hole."""
    found: list[list[Period]] = []
    for each in taken:
        if found and each.number == found[-1][-1].number + 1:
            found[-1].append(each)
        else:
            found.append([each])
    return tuple({"start": str(run[0]), "end": str(run[-1]), "count": len(run)} for run in found)
