"""Which of the files of this machine are of the asked periods, by the dates in their names (``kind: files``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cubeport.cubes import periods
from cubeport.cubes.calendars import canonical
from cubeport.cubes.placeholders import period_in
from cubeport.cubes.sources import Period
from cubeport.service.ingestions import Scope
from cubeport.service.scope import TIMELESS
from cubeport.service.wanted import Wanted


def may_say_periods(wanted: Wanted) -> bool:
    """Return whether the names of the files may say their periods: those of a template whose steps have periods."""
    block, kind = wanted.block, wanted.fields.period_type
    return block is not None and block.kind == "files" and kind is not None and kind not in TIMELESS


def of_periods(wanted: Wanted, scope: Scope) -> Wanted:
    """Return the request without the files whose names say that they are of periods outside *scope*.

    If that is all of them, they stay, so that the refusal says which periods there are. Steps that are labelled with the end of
    their period, and the hours of a day that a file names, can be in the file before or after, so these stay too.
    """
    fields, block = wanted.fields, wanted.block
    kind = fields.period_type
    if not may_say_periods(wanted) or block is None or kind is None or (scope.start, scope.end) == (None, None):
        return wanted
    calendar = canonical(fields.calendar or "") or "standard"
    first = Period.parse(scope.start, kind, calendar).start if scope.start is not None else None
    last = Period(periods.parse(scope.end, kind, calendar, side="end"), kind, calendar).end if scope.end is not None else None

    def may_have(file: Path) -> bool:
        found = next((each for text in block.paths if (each := period_in(file, text, calendar)) is not None), None)
        if found is None:
            return True
        beside = int(fields.time_label == "end" or ("hourly" in kind and found.type != "hourly"))
        before, after = found.moved(-beside), found.moved(beside)
        return (last is None or before.start < last) and (first is None or first < after.end)

    files = tuple(each for each in wanted.files if may_have(each))
    return replace(wanted, files=files) if files else wanted
