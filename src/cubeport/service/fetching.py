"""Decide which periods of a source to fetch: the requested periods that exist in the source but not in the dataset. Pure functions.

From other machines only missing periods are fetched. Local files are read completely by the gate instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cubeport.cubes import periods
from cubeport.cubes.calendars import CalendarName, Stamp, canonical
from cubeport.cubes.sources import Period
from cubeport.errors import CoverageIncomplete, InvalidPeriod, InvalidRequest, NoData, TooLarge
from cubeport.service.ingestions import Ingestion, Scope
from cubeport.service.scope import AVAILABLE_STEP, GAPS_TOLD, TIMELESS, missing
from cubeport.service.state import VersionState
from cubeport.service.templates import TemplateFields

_OURS = ("standard", "proleptic_gregorian")
"""Calendars that contain the current date."""


@dataclass(frozen=True, slots=True)
class RequestedPeriods:
    """The periods that an ingestion requests, before the source was asked which periods it has."""

    first: Period
    last: Period
    held: frozenset[int] = frozenset()
    """The numbers of periods that the dataset already has."""
    is_open: bool = False
    """Whether the request has no end. The last period is then the newest one of the source."""

    @property
    def whole(self) -> tuple[int, int]:
        """The numbers of the first and last period to have: those of the request, and those between it and the dataset, because a
        dataset has no gaps.
        """
        if not self.held:
            return self.first.number, self.last.number
        return min(self.first.number, max(self.held) + 1), max(self.last.number, min(self.held) - 1)

    @property
    def count(self) -> int:
        """How many periods are to be fetched if the source has all of them."""
        first, last = self.whole
        return max(0, last - first + 1) - sum(first <= number <= last for number in self.held)

    @property
    def wanted(self) -> tuple[Period, ...]:
        """The periods to fetch if the source has all of them."""
        first, last = self.whole
        return tuple(
            Period(number, self.first.type, self.first.calendar) for number in range(first, last + 1) if number not in self.held
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """The periods to fetch, and the resulting warnings."""

    periods: tuple[Period, ...]
    end: Period
    """The last requested period."""
    warnings: tuple[tuple[str, str], ...] = ()


MOST_PERIODS = 1_000_000
"""How many periods one ingestion may fetch, if the settings do not say it."""


def asked(
    ingestion: Ingestion,
    fields: TemplateFields,
    scope: Scope,
    head: VersionState | None,
    *,
    now: datetime,
    most: int = MOST_PERIODS,
) -> RequestedPeriods:
    """Return the periods that an ingestion requests, and those that the dataset already has.

    Parameters
    ----------
    scope
        The scope of the request. The default of its start is that of the dataset.
    head
        The version to update, if its periods need not be fetched again.
    most
        How many periods may be missing.

    Raises
    ------
    InvalidRequest, InvalidPeriod, InvalidRange
        If start or end is not valid for the template.
    TooLarge
        If more periods are missing. They are counted, not listed.
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
        last = Period(periods.parse_holding(declared, kind, calendar, side="end"), kind, calendar)
    elif calendar in _OURS:
        last = Period(periods.of(Stamp(now.year, now.month, now.day, now.hour), kind, calendar), kind, calendar)
    else:
        raise InvalidPeriod(
            f"The present time does not exist in the calendar {calendar}: name the end.", next_step="name the end (--end)"
        )
    held = _held(temporal, kind, calendar) if temporal else frozenset()
    request = RequestedPeriods(first, last, held, is_open=scope.end is None)
    if (count := request.count) > most:
        raise TooLarge(
            f"The request asks for {count:,} {kind} periods; the limit is {most:,}.",
            limit=most,
            value=count,
            unit="periods",
            setting="limits.periods",
            next_step=f"ask for a part of it, such as --start {first} --end {first.moved(most - 1)}",
        )
    return request


def _held(temporal: Mapping[str, Any], kind: str, calendar: CalendarName) -> frozenset[int]:
    def numbers(span: Mapping[str, Any]) -> range:
        first, last = (periods.parse(span[name], kind, calendar, side=name) for name in ("start", "end"))
        return range(first, last + 1)

    absent = {number for gap in temporal.get("gaps", ()) for number in numbers(gap)}
    return frozenset(numbers(temporal)) - absent


def take(query: RequestedPeriods, there: Sequence[Period], *, allow_gaps: bool, follows: bool) -> Taken:
    """Return the periods to fetch if the source has the periods *there*.

    Parameters
    ----------
    there
        The existing periods, ascending. Periods of the dataset count as existing.
    follows
        Whether this is a sync, which fetches periods up to the first gap and reports it.

    Raises
    ------
    NoData
        If neither the source nor the dataset has any of the periods.
    CoverageIncomplete
        If the requested start or end does not exist.
    Gap
        If periods in between are missing and gaps are not allowed.
    """
    has = {each.number for each in there} | query.held
    wanted = [each for each in query.wanted if each.number in has]
    begin, stop = query.whole
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
            next_step=AVAILABLE_STEP,
        )
    # What the dataset has next to the request is the border of a gap too.
    holes = list(periods.gaps(sorted(number for number in has if begin - 1 <= number <= stop + 1)))
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
        count = sum(b - a + 1 for a, b in fresh)
        words = f"{max(end.number, fresh[-1][1]) - begin + 1} {end.type} periods of the source"
        raise missing([{"start": str(a), "end": str(b), "count": b.number - a.number + 1} for a, b in named], count, words)
    return Taken(tuple(wanted), end)


def runs(taken: Sequence[Period]) -> tuple[dict[str, Any], ...]:
    """Return periods as ``{start, end, count}`` for each run without a gap."""
    found: list[list[Period]] = []
    for each in taken:
        if found and each.number == found[-1][-1].number + 1:
            found[-1].append(each)
        else:
            found.append([each])
    return tuple({"start": str(run[0]), "end": str(run[-1]), "count": len(run)} for run in found)
