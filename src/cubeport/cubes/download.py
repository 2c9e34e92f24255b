"""Parameters of a download (``/datasets/{dataset_id}/download``), with their own names and the dataset's own period type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cubeport.cubes import periods
from cubeport.cubes.calendars import canonical, ordinal, stamp_of
from cubeport.cubes.description import CubeDescription
from cubeport.cubes.forms import downloads
from cubeport.cubes.resolve import resolve
from cubeport.cubes.selection import Instant, Period, Selection, first_of, last_of, parse, parse_datetime
from cubeport.cubes.windows import Labels, Windows
from cubeport.errors import InvalidPeriod, InvalidRange, InvalidRequest, Problem, renamed, unknown_parameter

PARAMETERS = ("format", "bbox", "datetime", "start", "end", "variables", "estimate")
NAMES = {"f": "format", "properties": "variables"}
"""The names that a download uses for parameters of coverages."""
_FIELDS = {"hourly": 4, "daily": 3, "monthly": 2, "yearly": 1}
"""How many of the fields year, month, day and hour name a period of each type."""
_PERIOD = re.compile(r"[0-9]{4}[0-9TtZzWPD:.+-]{0,36}", re.ASCII)


def parse_download(pairs: Sequence[tuple[str, str]]) -> tuple[Selection, dict[str, str]]:
    """Return the selection, and ``start`` and ``end`` as written. Raises InvalidRequest with all problems."""
    ends = {name: value for name, value in pairs if name in ("start", "end")}
    problems = [
        Problem(("query", name), "malformed", f"{name} must be a period, such as 2024-01-31, 2024-01 or 2024-W05")
        for name, value in ends.items()
        if not _PERIOD.fullmatch(value)
    ]
    if ends and any(name == "datetime" for name, _ in pairs):
        problems.append(Problem(("query", "datetime"), "clash", "datetime says the same as start and end"))
    if len(ends) < sum(name in ends for name, _ in pairs):
        problems.append(Problem(("query", "start"), "repeated", "start and end may appear only once"))
    for name, _ in pairs:
        if name not in PARAMETERS:
            problems.append(unknown_parameter(name, PARAMETERS))
    theirs = {ours: name for name, ours in NAMES.items()}
    taken = [(theirs.get(name, name), value) for name, value in pairs if name in PARAMETERS and name not in ends]
    selection = Selection()
    try:
        names = tuple(form.name for form in downloads())
        selection = parse(taken, forms=names, allowed=("f", "bbox", "datetime", "properties", "estimate"))
    except InvalidRequest as refused:
        problems += [renamed(each, NAMES) for each in refused.errors]
    if problems:
        raise InvalidRequest("The query has parameters that are not valid.", errors=problems)
    return selection, ends


def resolve_download(description: CubeDescription, labels: Labels, selection: Selection) -> Windows:
    """Return what the download selects. Raises as :func:`cubeport.cubes.resolve.resolve`, with the names of a download."""
    try:
        return resolve(description, labels, selection)
    except InvalidRequest as refused:
        raise InvalidRequest(refused.message, errors=[renamed(each, NAMES) for each in refused.errors]) from refused


def period_of(description: CubeDescription, period_type: str | None, ends: Mapping[str, str]) -> Period:
    """Return the time from the first moment of ``start`` to the last moment of ``end``, in periods of the dataset's own type.

    Raises
    ------
    InvalidRequest, InvalidPeriod, InvalidRange
        If the dataset has no time, if a text is not a period of its type and calendar, or if the end is before the start.
    """
    temporal = description.temporal
    if temporal is None:
        raise InvalidRequest("These data have no time.", errors=[Problem(("query", "start"), "no-axis", "these data have no time")])
    calendar = canonical(temporal.calendar) or "standard"
    # If the period type is unknown, any date is accepted: each end is a day, a month or a year, as written.
    dated = period_type in periods.PERIOD_TYPES and period_type not in ("climatology", "irregular", "none")

    def end(name: str) -> Instant | None:
        if name not in ends:
            return None
        if not dated or period_type is None:
            return _date(name, ends[name])
        number = periods.parse(ends[name], period_type, calendar, side="start" if name == "start" else "end")
        if temporal.time_label == "end":
            # The label of a step is the first moment of the next period, and not of its own.
            edge = (
                periods.end_of(number, period_type, calendar) if name == "end" else periods.start_of(number, period_type, calendar)
            )
            return Instant(tuple(stamp_of(ordinal(edge, calendar) + (name == "start"), calendar)))
        if (fields := _FIELDS.get(period_type)) is not None:
            return Instant(tuple(periods.start_of(number, period_type, calendar))[:fields])
        if name == "start":
            return Instant(tuple(periods.start_of(number, period_type, calendar)))
        return Instant(tuple(stamp_of(ordinal(periods.end_of(number, period_type, calendar), calendar) - 1, calendar)))

    first, last = end("start"), end("end")
    if first is not None and last is not None and first_of(first) > last_of(last):
        raise InvalidRange(
            "The end is before the start.", errors=[Problem(("query", "end"), "invalid-range", "end is before start")]
        )
    return Period(first, last)


def _date(name: str, text: str) -> Instant:
    try:
        found = parse_datetime(text)
    except ValueError as error:
        raise InvalidPeriod(f"{name} {error}.", errors=[Problem(("query", name), "malformed", f"{name} {error}")]) from error
    if isinstance(found, Instant):
        return found
    raise InvalidPeriod(f"{name} must be one period.", errors=[Problem(("query", name), "malformed", f"{name} is an interval")])
