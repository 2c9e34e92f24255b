"""Repairs that cubeport makes in every source without being asked, each with a warning.

It repairs text that is not UTF-8, control characters, attributes too long to publish, variables without values, the name that
xarray gives to an unnamed array, whole months or years since a date, and time zones that libraries skip. Each of these has only one
meaning. Every other change must be requested (:mod:`cubeport.cubes.normalise`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from cubeport.cubes import calendars, times
from cubeport.cubes.checks import ATTRIBUTE_BYTES
from cubeport.cubes.decoding import decoded
from cubeport.cubes.raw import dataset, renamed, variables
from cubeport.errors import SourceRejected

_SHOWN = 20
"""A warning names this many repairs of one kind and counts the others."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NAMELESS, _NAMED = "__xarray_dataarray_variable__", "values"
_PERIODS = re.compile(r"\s*(months?|mons?|years?|common_years?)\s+since\s+(.+)", re.IGNORECASE)

_WEEKS = re.compile(r"\s*weeks?\s+since\s+(.+)", re.IGNORECASE)

type Warnings = list[tuple[str, str]]


def mend(raw: xr.Dataset) -> tuple[xr.Dataset, Warnings]:
    """Return an undecoded dataset with its defects repaired, and a warning for each repair."""
    warnings: Warnings = []
    raw = _texts(raw, warnings)
    raw = _valued(raw, warnings)
    return _named(raw, warnings), warnings


def _texts(raw: xr.Dataset, warnings: Warnings) -> xr.Dataset:
    repaired: list[str] = []
    skipped: list[str] = []

    def mended(attributes: Mapping[Any, Any], owner: str) -> dict[Any, Any]:
        kept = {}
        for key, value in attributes.items():
            where = f"{key!r} of {owner}"
            better = _text_of(value)
            if _size(better) > ATTRIBUTE_BYTES:
                skipped.append(where)
                continue
            if better is not value:
                repaired.append(where)
            kept[key] = better
        return kept

    raw = raw.copy(deep=False)
    raw.attrs = mended(raw.attrs, "the file")
    for name, variable in raw.variables.items():
        variable.attrs = mended(variable.attrs, repr(str(name)))
    if repaired:
        warnings.append(
            (
                "text-repaired",
                f"texts not in UTF-8 were read as Latin-1, and control characters removed: {_list(repaired)}",
            )
        )
    if skipped:
        warnings.append(("attribute-skipped", f"attributes of more than {ATTRIBUTE_BYTES:,} bytes are skipped: {_list(skipped)}"))
    return raw


def _text_of(value: Any) -> Any:
    """Return *value* with clean text, or the same object if it is already clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        better = [_text_of(each) for each in value]
        return value if all(a is b for a, b in zip(value, better, strict=True)) else better
    if isinstance(value, np.ndarray) and value.dtype.kind in "UOT":
        held = value.ravel().tolist()
        better = [_text_of(each) for each in held]
        same = all(a is b for a, b in zip(held, better, strict=True))
        return value if same else np.array(better, dtype=object).reshape(value.shape)
    return value


def clean(text: str) -> str:
    """Return *text* without control characters except tabs and line feeds. Bytes that are not UTF-8 are read as Windows-1252."""
    if not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text):
        raw = text.encode("utf-8", "surrogateescape")
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub("", text) if _CONTROL.search(text) else text
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    if getattr(getattr(value, "dtype", None), "kind", "-") in "UOT":
        return sum(_size(each) for each in value.ravel().tolist())
    return int(getattr(value, "nbytes", 0))


def _valued(raw: xr.Dataset, warnings: Warnings) -> xr.Dataset:
    """Drop variables along a dimension of length 0, unless most fields have it: such a source has no data."""
    empty = {name: [str(d) for d, n in each.sizes.items() if n == 0] for name, each in variables(raw).items() if 0 in each.shape}
    fields = [name for name, each in variables(raw).items() if each.dtype.kind in "biuf" and each.ndim and each.dims != (name,)]
    if not empty or 2 * sum(name in empty for name in fields) > len(fields):
        return raw
    parts = [f"{name!r} ({', '.join(dims)} has length 0)" for name, dims in empty.items()]
    warnings.append(("variable-skipped", f"variables without values are skipped: {_list(parts)}"))
    return raw.drop_vars(list(empty))


def _named(raw: xr.Dataset, warnings: Warnings) -> xr.Dataset:
    if _NAMELESS not in raw.variables or _NAMED in raw.variables or _NAMED in raw.sizes:
        return raw
    warnings.append(("variable-renamed", f"an array without a name is called {_NAMED!r} here"))
    return renamed(raw, {_NAMELESS: _NAMED})


def counted_in_days(raw: xr.Dataset) -> tuple[xr.Dataset, Warnings]:
    """Return *raw* with weeks, and whole months and years, since a date converted to days, dates in a form that all libraries read
    alike, and a warning for each.

    Libraries do not decode weeks, and months and years only in calendars with months of equal length.

    Raises
    ------
    SourceRejected
        ``bad-time``, if the numbers are not whole.
    """
    warnings: Warnings = []
    for key, variable in list(raw.variables.items()):
        units, name = str(variable.attrs.get("units", "")), str(key)
        if variable.dtype.kind not in "iuf" or variable.size == 0:
            continue
        if (spelled := times.spelled_out(units, name=name)) != units:
            held = variables(raw)
            held[name] = variable.copy(deep=False)
            held[name].attrs = {**variable.attrs, "units": spelled}
            raw = dataset(held, raw.attrs)
            words = f"libraries read the date in the units of {name!r}, {units[:80]!r}, differently: they are now {spelled[:80]!r}"
            warnings.append(("time-repaired", words))
            units = spelled
        if weeks := _WEEKS.fullmatch(units):
            raw = _scaled(raw, name, 7, f"days since {weeks[1]}")
            warnings.append(("time-repaired", f"{name!r} counted weeks since {weeks[1][:40]}; it now counts days"))
            continue
        found = _PERIODS.fullmatch(units)
        if found is None:
            continue
        if times.calendar_of(variable.attrs, name=name) == "360_day" and variable.dtype.kind == "f":
            continue  # a month is always 30 days here, so libraries decode fractions too
        raw = in_days(raw, name)
        warnings.append(
            (
                "time-repaired",
                f"{name!r} counted {found[1].lower()} since {found[2][:40]}; it now counts days, by calendar months",
            )
        )
    return raw, warnings


def _scaled(raw: xr.Dataset, name: str, factor: int, units: str) -> xr.Dataset:
    """Return *raw* with the numbers of *name* and of its bounds times *factor*, and new units."""
    held = variables(raw)
    for each in (name, *_bounds_of(raw, name)):
        old = held[each]
        given = {k: v for k, v in old.attrs.items() if k not in _PACKING}
        numbers = np.asarray(decoded(old, name=each), dtype="float64") * factor
        held[each] = xr.Variable(old.dims, numbers, given | ({"units": units} if "units" in given or each == name else {}))
    return dataset(held, raw.attrs)


def _bounds_of(raw: xr.Dataset, name: str) -> list[str]:
    given = raw.variables[name].attrs
    return [str(given[key]) for key in ("bounds", "climatology") if str(given.get(key)) in raw.variables]


_PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")


def in_days(raw: xr.Dataset, name: str, *, parts: bool = False) -> xr.Dataset:
    """Return *raw* with the months or years since a date of *name* and of its bounds converted to days since that date.

    Parameters
    ----------
    parts
        Whether a fraction is a part of its own calendar month or year. Otherwise fractions are refused.
    """
    variable = raw.variables[name]
    found = _PERIODS.fullmatch(str(variable.attrs.get("units", "")))
    if found is None:
        raise SourceRejected(
            f"{name!r} counts neither months nor years since a date: its units are {str(variable.attrs.get('units'))[:40]!r}",
            reason="bad-time",
            next_step=f"leave {name} out of decode_periods, or give it its units first with set_attributes",
        )
    months = 1 if found[1].lower().startswith("mon") else 12
    calendar = times.calendar_of(variable.attrs, name=name)
    since = _date(found[2])
    start = times.decode([0], f"days since {since}", calendar, name=name)[0]
    held = variables(raw)
    for each in (name, *_bounds_of(raw, name)):
        old = held[each]
        numbers = np.asarray(decoded(old, name=each), dtype="float64")
        if not parts and (odd := np.flatnonzero((numbers % 1 != 0).ravel())).size:
            where = int(odd[0])
            raise SourceRejected(
                f"{each!r} at index {where} is {numbers.ravel()[where]:g} {found[1].lower()}: "
                "a fraction of a month or year has no fixed length",
                reason="bad-time",
                next_step="to count fractions as parts of their own calendar month, use "
                f"--normalise 'decode_periods: {{{name}: parts}}'",
            )
        days = np.array([_days(start, float(n) * months, calendar) for n in numbers.ravel()]).reshape(numbers.shape)
        attributes = {k: v for k, v in old.attrs.items() if k not in _PACKING}
        if "units" in attributes or each == name:
            attributes["units"] = f"days since {since}"
        held[each] = xr.Variable(old.dims, days.astype("int32") if (days % 1 == 0).all() else days, attributes)
    return dataset(held, raw.attrs)


def _date(text: str) -> str:
    """Return the date of *text*. ``jan 1899``, as some archives write it, is the first day of the month."""
    found = _MONTH_OF_YEAR.fullmatch(text.strip())
    return f"{found[2]}-{_MONTHS.index(found[1].lower()[:3]) + 1:02d}-01" if found else text.strip()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_OF_YEAR = re.compile(rf"((?:{'|'.join(_MONTHS)})[a-z]*)[ -](\d{{4}})", re.IGNORECASE)


def _days(start: calendars.Stamp, months: float, calendar: calendars.CalendarName) -> float:
    """Return the days from *start* until *months* calendar months later. In a shorter month, the day becomes its last day."""

    def at(whole: int) -> float:
        total = start.year * 12 + start.month - 1 + whole
        year, month = total // 12, total % 12 + 1
        day = min(start.day, calendars.days_in_month(year, month, calendar))
        return calendars.day_number(year, month, day, calendar)

    whole = int(months // 1)
    first = at(whole)
    return first + (months - whole) * (at(whole + 1) - first) - at(0)


def _list(parts: list[str]) -> str:
    more = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + more
