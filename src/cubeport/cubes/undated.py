"""Warnings of what looks like a time and cannot be read as one, each with the repair that fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cubeport.cubes.axes import FoundAxis
from cubeport.cubes.decoding import decoded
from cubeport.cubes.times import is_time_units
from cubeport.cubes.variables import is_text, text_dims

if TYPE_CHECKING:
    import xarray as xr

_TIME_NAMES = re.compile(r"(valid_?)?(time|date|datetime|times|xtime)(_counter|_centered|_instant)?|t", re.IGNORECASE)


def undated(raw: xr.Dataset, own: set[str]) -> list[tuple[str, str]]:
    """Return a warning for each variable or dimension that looks like a time but cannot be read as one."""
    found: list[str] = []
    for name in dict.fromkeys((*map(str, raw.variables), *own)):
        variable = raw.variables.get(name)
        standard = "" if variable is None else str(variable.attrs.get("standard_name", ""))
        seems = (
            standard == "time"
            or (_TIME_NAMES.fullmatch(name) is not None and (variable is None or variable.ndim < 2))  # t can also be a temperature
            or (variable is not None and str(variable.attrs.get("axis", "")).upper() == "T")
        )
        along = name in own if variable is None else set(text_dims(variable)) <= own and (variable.ndim > 0 or standard == "time")
        told = variable is None and any(text_dims(raw.variables[each]) == (name,) for each in found if each in raw.variables)
        if seems and along and not told:
            found.append(name)
    notes = [("undated-time", _undated_words(raw, name)) for name in found]
    if not notes and is_start_said(raw):
        words = f"the data have no time, and {START} says {str(raw.attrs[START])[:40]!r}. To have that as their time, ingest with"
        notes.append(("undated-time", f"{words} {FROM_START}"))
    return notes


START = "time_coverage_start"
"""The global attribute with the first time of a file (ACDD 1.3), which many satellite products have instead of a time axis."""
FROM_START = f"--normalise 'set_time: {{from_attribute: {START}}}'"


def is_start_said(raw: xr.Dataset) -> bool:
    """Return whether the file says its first time in a global attribute."""
    return re.match(r"\d{4}-?\d\d-?\d\d", str(raw.attrs.get(START, ""))) is not None


_LEADS = re.compile(r"lead(_?times?)?|steps?|forecast_?(hour|period|lead|step)s?", re.IGNORECASE)
_STARTS = re.compile(
    r"(init|initial|ref|reference|forecast_?reference|run|base|start|analysis|issue)_?(times?|dates?)?", re.IGNORECASE
)

_DURATION = re.compile(r"((milli|micro)?sec(ond)?|min(ute)?|h|hr|hour|day|d|s|week|month|year)s?", re.IGNORECASE)


def without_valid_times(raw: xr.Dataset, axes: Sequence[FoundAxis]) -> list[tuple[str, str]]:
    """Return a warning if the values are for times after the start of a forecast, and only the start or the lead is in the file."""
    import numpy as np

    def is_lead(axis: FoundAxis) -> bool:
        if axis.scalar or axis.kind != "other" or axis.labels is None or is_text(variable := raw.variables[axis.labels]):
            return False
        units = str(variable.attrs.get("units", ""))
        named = _LEADS.fullmatch(axis.labels) is not None and _DURATION.fullmatch(units.strip()) is not None
        return (variable.attrs.get("standard_name") == "forecast_period" or named) and bool(np.any(decoded(variable)))

    lead = next((axis for axis in axes if is_lead(axis)), None)
    clock = next((axis for axis in axes if axis.kind == "t"), None)
    starts = clock is not None and _is_start(raw, clock)
    if lead is None or (clock is not None and not starts):
        return []  # a time that is no start is the time of the values, as CF says
    words = f"{lead.labels!r} counts from the start of a forecast, and the file does not have the times that its values are for"
    if clock is None:
        then = f"so the data have no time. Add start + {lead.labels} along {lead.dimension!r}, with the standard_name 'time'"
    else:
        then = (
            f"so the time of these data is the start of the forecast, {clock.labels!r}: searches, datetime and answers have that. "
            f"To have the other, add {clock.labels} + {lead.labels} along ({clock.dimension}, {lead.dimension}), "
            "with the standard_name 'time'"
        )
    return [("no-valid-time", f"{words}, {then}")]


def _is_start(raw: xr.Dataset, axis: FoundAxis) -> bool:
    named = _STARTS.fullmatch(axis.name) is not None and raw.variables[axis.name].attrs.get("standard_name") != "time"
    return named or is_reference_time(raw, axis)


_UNITS_OF_TIME = re.compile(r"(milli|micro)?seconds?|secs?|s|min(ute)?s?|h(ou)?rs?|h|days?|d|weeks?|months?|years?", re.IGNORECASE)

_LEAST_DATE = 1_000
"""The least number that can be a date: a year of four digits."""


def _undated_words(raw: xr.Dataset, name: str) -> str:
    """Return what keeps a variable, or a dimension without one, from being a time, and the repair that fits."""
    if name not in raw.variables:
        variable = "" if name == "time" else f"variable: {name}, "
        return (
            f"nothing says which times are along the dimension {name!r}, so the data have no time. To say it, ingest with "
            f"--normalise 'set_time: {{{variable}values: […], units: days since 2000-01-01}}', with its {raw.sizes[name]} values"
        )
    given = raw.variables[name].attrs.get("units")
    units = "no units" if given is None else f"the units {str(given)[:40]!r}"
    words = (
        f"{name!r} has {units}, so it is not read as time and the data have no time; "
        "CF writes a time as numbers with units such as 'days since 2000-01-01'. "
    )
    counts = given.strip() if isinstance(given, str) and _UNITS_OF_TIME.fullmatch(given.strip()) else None
    if counts is None and _may_be_dates(raw.variables[name]):
        return f"{words}If it contains dates, ingest with --normalise 'set_time: {{from_variable: {name}}}'"
    since = f"set_attributes: {{{name}: {{units: {counts or 'days'} since 2000-01-01}}}}"
    return f"{words}If it counts from a date, ingest with --normalise '{since}', with that date{'' if counts else ' and unit'}"


def _may_be_dates(variable: Any) -> bool:
    """Return whether the first label is text, or a number with as many digits as a date has."""
    return (
        is_text(variable)
        or not variable.size
        or abs(float(decoded(variable[(slice(0, 1),) * variable.ndim]).flat[0])) >= _LEAST_DATE
    )


def is_reference_time(raw: xr.Dataset, axis: FoundAxis) -> bool:
    """Return whether the labels say when the forecasts started, as dates."""
    attributes = raw.variables[axis.labels].attrs if axis.labels is not None else {}
    return attributes.get("standard_name") == "forecast_reference_time" and is_time_units(attributes.get("units"))
