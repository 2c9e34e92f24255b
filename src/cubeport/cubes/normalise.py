"""The steps of ``normalise`` on a raw dataset. They change names, order, attributes and coordinates, but no value of a field;
only ``set_dtype`` rounds values to another precision.

Each step is a pure function of the dataset and the step's options. If a step does not fit the source, the error gives its number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import xarray as xr

from cubeport.cubes import calendars
from cubeport.cubes.affine import NoTransform, with_axes
from cubeport.cubes.companions import REFERENCES
from cubeport.cubes.crs import of_labels
from cubeport.cubes.decoding import decoded
from cubeport.cubes.gathered import NotGathered, scattered
from cubeport.cubes.groups import find
from cubeport.cubes.mending import in_days
from cubeport.cubes.packing import VALID, valid_range
from cubeport.cubes.ragged import NotRagged, by_station
from cubeport.cubes.raw import computed, dataset, expanded, renamed, variables
from cubeport.cubes.repairs import flag
from cubeport.cubes.steps import NormaliseStep, Positions, SetTime, parsed
from cubeport.cubes.times import is_time_units
from cubeport.cubes.variables import is_longitude, kind_of, text_dims
from cubeport.errors import InvalidRequest, SourceRejected

PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
TOLERANCE = 1e-5
"""How much coordinates of two files may differ, as a share of a step."""

PRECISIONS = ("float32", "float64")
"""The types between which ``set_dtype`` converts."""

_FILE = "global"
_CHANGED_RANGES = (*VALID, "actual_range")


def tolerance(steps: Sequence[Mapping[str, Any]]) -> float:
    """Return the tolerance that *steps* set."""
    return next((float(step["tolerance"]) for step in reversed(steps) if "tolerance" in step), TOLERANCE)


def normalise(raw: xr.Dataset, steps: Sequence[Mapping[str, Any]], *, file: str = "") -> xr.Dataset:
    """Apply *steps* to *raw* in order and return the result.

    Parameters
    ----------
    steps
        As :meth:`~cubeport.cubes.steps.NormaliseStep.plain` returns them.
    file
        The name of the file, for ``set_time: {from_name: …}``.

    Raises
    ------
    InvalidRequest
        If a step does not fit the source. The message names the step and what the source contains.
    SourceRejected
        If a step cannot read the values that it needs.
    """
    for number, (name, value) in enumerate(parsed(NormaliseStep, list(steps)), 1):
        try:
            raw = _STEPS[name](raw, value, file)
        except Unfit as error:
            raise error.refusal(f"normalise, step {number} ({name})") from None
    return raw


def from_elsewhere(steps: Sequence[Mapping[str, Any]]) -> Positions | None:
    """Return the step whose positions are not among the other variables of a source, or ``None``."""
    found = (value for name, value in parsed(NormaliseStep, list(steps)) if isinstance(value, Positions))
    return next((each for each in found if each.file is not None or each.group is not None), None)


def dropped_by(steps: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the variables that *steps* drop, by their names in the source."""
    names: dict[str, str] = {}
    gone = set()
    for step in steps:
        names |= {new: names.get(old, old) for old, new in step.get("rename", {}).items()}
        gone |= {names.get(name, name) for name in step.get("drop", ())}
    return gone


class Unfit(Exception):
    """A step does not fit the source."""

    def __init__(self, text: str, next_step: str | None = None) -> None:
        super().__init__(text)
        self.next_step = next_step

    def refusal(self, step: str) -> InvalidRequest:
        """Return the refusal that names the *step*."""
        return InvalidRequest(f"{step}: {self}", next_step=self.next_step)


def need(raw: xr.Dataset, names: Iterable[str], *, dimensions: bool = False, where: str = "the source") -> None:
    """Raise unless the source, or what is named *where*, has every variable (or dimension) of *names*."""
    held = {*map(str, raw.variables), *(map(str, raw.sizes) if dimensions else ())}
    missing = [name for name in names if name not in held]
    if missing:
        raise Unfit(f"{where} has no {', '.join(map(repr, missing))}", f"choose from {', '.join(sorted(held))[:500]}")


def _rename(raw: xr.Dataset, names: Mapping[str, str], _: str) -> xr.Dataset:
    need(raw, names, dimensions=True)
    held = [*map(str, raw.variables), *(str(d) for d in raw.sizes if d not in raw.variables)]
    after = [names.get(name, name) for name in held]
    if len(set(after)) != len(after):
        twice = sorted({name for name in after if after.count(name) > 1})
        raise Unfit(f"two variables or dimensions would be called {', '.join(twice)}", "choose other names")
    return renamed(raw, names)


def _drop(raw: xr.Dataset, names: Sequence[str], _: str) -> xr.Dataset:
    need(raw, names)
    return dropped(raw, names)


def dropped(raw: xr.Dataset, names: Iterable[str]) -> xr.Dataset:
    """Return *raw* without the variables *names* and without references to them in attributes."""
    gone = set(names)
    held = {}
    for name, variable in variables(raw).items():
        if name in gone:
            continue
        other = variable.copy(deep=False)
        other.attrs = dict(variable.attrs)
        for key in REFERENCES:
            words = str(other.attrs.get(key, "")).split()
            if not gone & set(words):
                continue
            kept = [] if key in ("formula_terms", "cell_measures") else [word for word in words if word not in gone]
            other.attrs[key] = " ".join(kept)
            if not kept:
                del other.attrs[key]
        held[name] = other
    return dataset(held, raw.attrs)


def _squeeze(raw: xr.Dataset, dims: Sequence[str] | bool, _: str) -> xr.Dataset:
    chosen = [str(d) for d, n in raw.sizes.items() if n == 1] if dims is True else list(dims)  # type: ignore[arg-type]  # names then
    need(raw, chosen, dimensions=True)
    long = [d for d in chosen if raw.sizes.get(d, 0) != 1]
    if long:
        raise Unfit(f"{', '.join(f'{d!r} has length {raw.sizes.get(d, 0)}' for d in long)}; only a length of 1 can be removed")
    held = {name: each.isel({d: 0 for d in chosen if d in each.dims}) for name, each in variables(raw).items()}
    return dataset(held, raw.attrs)


def _transpose(raw: xr.Dataset, dims: Sequence[str], _: str) -> xr.Dataset:
    need(raw, dims, dimensions=True)

    def turned(variable: xr.Variable) -> xr.Variable:
        order = [d for d in dims if d in variable.dims]
        return variable.transpose(*order, *(d for d in variable.dims if d not in order))

    return dataset({name: turned(each) for name, each in variables(raw).items()}, raw.attrs)


def _sort(raw: xr.Dataset, names: Sequence[str], _: str) -> xr.Dataset:
    for text in names:
        name = text.removeprefix("-")
        need(raw, [name])
        variable = raw.variables[name]
        if variable.ndim != 1:
            raise Unfit(f"{name!r} has {variable.ndim} dimensions; you can sort only by labels along one dimension")
        values = decoded(variable, name=name)
        order = np.argsort(values, kind="stable")
        raw = at(raw, str(variable.dims[0]), order[::-1] if text.startswith("-") else order)
    return raw


def _drop_missing(raw: xr.Dataset, names: Sequence[str], _: str) -> xr.Dataset:
    for name in names:
        values = _along_one(raw, name)
        missing = np.array([each is None or each == "" or each != each for each in values.tolist()], dtype=bool)
        raw = at(raw, str(raw.variables[name].dims[0]), np.flatnonzero(~missing))
    return raw


def _drop_duplicates(raw: xr.Dataset, names: Sequence[str], _: str) -> xr.Dataset:
    for name in names:
        last = {label: index for index, label in enumerate(_along_one(raw, name).tolist())}
        raw = at(raw, str(raw.variables[name].dims[0]), np.array(sorted(last.values()), dtype="int64"))
    return raw


def _along_one(raw: xr.Dataset, name: str) -> np.ndarray[Any, Any]:
    """Return the labels of a coordinate along one dimension."""
    need(raw, [name])
    values: np.ndarray[Any, Any] = np.asarray(decoded(raw.variables[name], name=name))
    if values.ndim != 1:
        raise Unfit(f"{name!r} has {values.ndim} dimensions; steps are removed by labels along one dimension")
    return values


def at(raw: xr.Dataset, dimension: str, order: np.ndarray[Any, Any]) -> xr.Dataset:
    """Return *raw* indexed by *order* along *dimension*."""
    if len(order) == raw.sizes[dimension] and (np.diff(order) == 1).all():
        return raw
    held = {name: each.isel({dimension: order}) if dimension in each.dims else each for name, each in variables(raw).items()}
    return dataset(held, raw.attrs)


def _wrap_longitude(raw: xr.Dataset, end: int, _: str) -> xr.Dataset:
    found = [name for name, each in variables(raw).items() if each.ndim and is_longitude(name, each)]
    if not found:
        raise Unfit("the source has no longitude", "give it units first: set_attributes: {lon: {units: degrees_east}}")
    for name in found:
        variable = raw.variables[name]

        def wrapped(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            numbers = np.asarray(values, "float64")
            low = end - 360
            # Only labels outside the range are moved, so that no other label gets a rounding error.
            return np.where((numbers >= low) & (numbers < end), numbers, (numbers - low) % 360 + low)

        if variable.ndim > 1:
            held = variables(raw)
            held[name] = computed(variable, wrapped, _floating(variable.dtype), variable.attrs)
            raw = dataset(held, raw.attrs)
            continue
        values = np.asarray(decoded(variable, name=name), "float64")
        new = wrapped(values)
        held = variables(raw)
        attributes = {key: value for key, value in variable.attrs.items() if key not in (*PACKING, *_CHANGED_RANGES)}
        held[name] = xr.Variable(variable.dims, new.astype(_floating(variable.dtype)), attributes)
        bounds = str(variable.attrs.get("bounds"))
        if bounds in held:
            edges = held[bounds]
            moved = np.asarray(decoded(edges, name=bounds), "float64") + (new - values)[:, np.newaxis]
            held[bounds] = xr.Variable(edges.dims, moved.astype(_floating(edges.dtype)), dict(edges.attrs))
        raw = at(dataset(held, raw.attrs), str(variable.dims[0]), np.argsort(new, kind="stable"))
    return raw


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "f" else np.dtype("float64")


def _decode_packed(raw: xr.Dataset, names: Sequence[str] | bool, _: str) -> xr.Dataset:
    held = variables(raw)
    chosen = [n for n, v in held.items() if {"scale_factor", "add_offset"} & set(v.attrs)] if names is True else list(names)  # type: ignore[arg-type]  # names then
    need(raw, chosen)
    return dataset({name: unpacked(name, each) if name in chosen else each for name, each in held.items()}, raw.attrs)


def unpacked(name: str, variable: xr.Variable) -> xr.Variable:
    """Return *variable* lazily as unpacked floating-point numbers, with missing values as NaN, and its valid range unpacked."""
    opened = xr.conventions.decode_cf_variable(name, variable, concat_characters=False, decode_times=False, decode_timedelta=False)
    kind = opened.dtype if opened.dtype.kind == "f" else np.result_type("float32", opened.dtype)
    attributes = {key: value for key, value in variable.attrs.items() if key not in (*PACKING, *VALID)}
    ends = dict(zip(("valid_min", "valid_max"), valid_range(variable), strict=True))
    attributes |= {key: kind.type(end) for key, end in ends.items() if np.isfinite(end)}
    opened.encoding = dict(variable.encoding)
    return computed(opened, lambda values: values, kind, {**attributes, "_FillValue": kind.type(np.nan)})


def _set_dtype(raw: xr.Dataset, wanted: Mapping[str, str], file: str) -> xr.Dataset:
    need(raw, wanted)
    held = variables(raw)
    edges = {str(each.attrs[key]) for each in held.values() for key in ("bounds", "climatology") if key in each.attrs}
    for name, kind in wanted.items():
        variable = held[name]
        if variable.dims == (name,) or name in edges or is_time_units(variable.attrs.get("units")):
            raise Unfit(f"{name!r} is a coordinate, and cubeport does not round labels", "leave it out of set_dtype")
        if {"scale_factor", "add_offset"} & set(variable.attrs):
            cure = flag({"decode_packed": [name]})
            raise Unfit(f"{name!r} is packed, so its numbers are not its values", f"unpack it first: {cure}")
        if variable.dtype.name not in PRECISIONS:
            raise Unfit(f"{name!r} is {variable.dtype.name}, and the step only converts between {' and '.join(PRECISIONS)}")
        held[name] = in_precision(name, variable, np.dtype(kind), file)
    return dataset(held, raw.attrs)


def in_precision(name: str, variable: xr.Variable, kind: np.dtype[Any], file: str = "") -> xr.Variable:
    """Return floating-point numbers lazily in another precision, rounded to the nearest. What was missing is missing, and else
    nothing is.

    Reading the result raises InvalidRequest where a finite value would become infinite, or be taken for a missing one.
    """
    own = variable.dtype.newbyteorder("=")
    if own == kind:
        return variable
    attributes = dict(variable.attrs)
    marks: dict[float, Any] = {}
    for key in ("_FillValue", "missing_value", *_CHANGED_RANGES):
        given = np.asarray(attributes.get(key))
        if given.dtype.kind not in "iuf":
            continue
        with np.errstate(over="ignore"):
            numbers = given.astype(own)
            cast = numbers.astype(kind)
        if key in _CHANGED_RANGES:
            is_beyond = np.isinf(cast) & np.isfinite(numbers)
            cast = np.where(is_beyond, np.copysign(np.finfo(kind).max, cast), cast)
        else:
            pairs = [(each, _mark(each, kind)) for each in np.ravel(numbers)]
            marks |= {float(old): new for old, new in pairs if not np.isnan(old)}
            cast = np.array([new for _, new in pairs], kind).reshape(numbers.shape)
        attributes[key] = cast.astype(kind)[()]
    words = f"{file}: {name!r}" if file else repr(name)

    def converted(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found = np.asarray(values.astype(kind))
        is_missing = np.zeros(values.shape, bool)
        for old, new in marks.items():
            is_missing |= (is_old := values == own.type(old))
            found[is_old] = new
        if (lost := np.isinf(found) & np.isfinite(values)).any():
            raise _unheld(
                name, f"{words} has the value {values[lost][0]:.6g}, and the largest number of {kind} is {np.finfo(kind).max:.6g}"
            )
        if (lost := np.isin(found, [*marks.values()]) & ~is_missing).any():
            value = float(values[lost][0])
            raise _unheld(name, f"{words} has the value {value!r}, which {kind} cannot tell from the one that marks missing values")
        return found

    return computed(variable, converted, kind, attributes)


def _mark(number: Any, kind: np.dtype[Any]) -> Any:
    """Return what marks missing values in another precision: the nearest number, or NaN if that is infinite.

    In double precision, it is the decimal number that a short text in single precision means: 1e20 and not 1.00000002004e+20. No
    number that single precision has is equal to it.
    """
    with np.errstate(over="ignore"):
        cast = kind.type(number)
    if np.isinf(cast) and np.isfinite(number):
        return kind.type(np.nan)
    text = np.format_float_scientific(number, unique=True, trim="-")
    digits = sum(each.isdigit() for each in text.partition("e")[0])
    return kind.type(text) if kind.itemsize > number.itemsize and digits <= _DIGITS else cast


_DIGITS = 5
"""A number with more digits, such as the default fill value of NetCDF, is meant as the type has it, in both precisions."""


def _unheld(name: str, words: str) -> InvalidRequest:
    step = (
        f"correct the value in the file; or leave {name!r} out of set_dtype, and make the dataset in double precision (--replace)"
    )
    return InvalidRequest(f"normalise (set_dtype): {words}", next_step=step)


def _set_attributes(raw: xr.Dataset, wanted: Mapping[str, Mapping[str, Any]], _: str) -> xr.Dataset:
    need(raw, [name for name in wanted if name != _FILE or _FILE in raw.variables])
    held = variables(raw)
    attributes = dict(raw.attrs)
    for name, changes in wanted.items():
        of_file = name == _FILE and name not in held
        target = attributes if of_file else dict(held[name].attrs)
        for key, value in changes.items():
            if value is None:
                target.pop(key, None)
            else:
                target[key] = _like(value, target.get(key), held.get(name), key)
        if not of_file:
            held[name] = held[name].copy(deep=False)
            held[name].attrs = target
    return dataset(held, attributes)


def _like(value: Any, old: Any, variable: xr.Variable | None, key: str) -> Any:
    """Return a number in the type of the old attribute, or in the type of the values if CF requires it."""
    if isinstance(value, str):
        return value
    if key in ("_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "flag_values") and variable is not None:
        return np.asarray(value, variable.dtype)[()]
    return np.asarray(value, getattr(old, "dtype", None))[()]


def _set_crs(raw: xr.Dataset, text: str, _: str) -> xr.Dataset:
    import pyproj

    try:
        crs = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        raise Unfit(f"{text[:80]!r} is not a reference system that PROJ knows", "write it as EPSG:3035, or as WKT") from None
    held = variables(raw)
    name = next(n for n in ("crs", "spatial_ref", "grid_mapping_of_cubeport") if n not in held and n not in raw.sizes)
    by_name = {n: v for n, v in held.items() if v.dims == (n,)}
    x = next((n for n, v in by_name.items() if kind_of(n, v) == "x" or n.lower() in ("x", "easting", "xc")), None)
    y = next((n for n, v in by_name.items() if kind_of(n, v) == "y" or n.lower() in ("y", "northing", "yc")), None)
    if x is None or y is None:
        raise Unfit("the source has no coordinates x and y", "rename them first: rename: {…: x, …: y}")
    if crs.is_projected or crs.is_geographic:
        for labels, said in ((x, of_labels(crs, "x")), (y, of_labels(crs, "y"))):
            held[labels] = held[labels].copy(deep=False)
            given = {key: value for key, value in held[labels].attrs.items() if key != "standard_name"}
            held[labels].attrs = {**said, **given}
    for each, variable in held.items():
        if x in variable.dims and y in variable.dims:
            held[each] = variable.copy(deep=False)
            held[each].attrs = {**variable.attrs, "grid_mapping": name}
    held[name] = xr.Variable((), np.int32(0), crs.to_cf())
    return dataset(held, raw.attrs)


_PLACES = {
    "YYYY": r"(?P<Y>\d{4})",
    "MM": r"(?P<m>\d\d)",
    "DD": r"(?P<d>\d\d)",
    "DOY": r"(?P<j>\d{3})",
    "hh": r"(?P<H>\d\d)",
    "mm": r"(?P<M>\d\d)",
}
_SINCE = "minutes since 1970-01-01"


def _set_time(raw: xr.Dataset, step: SetTime, file: str) -> xr.Dataset:
    name = step.variable
    if step.from_name is not None:
        minutes = _minutes_of_name(step.from_name, file, _calendar(step))
        return _one_step(raw, name, np.array([minutes]), {"units": _SINCE, "calendar": step.calendar or "standard"})
    if step.from_attribute is not None:
        return _date(raw, step)
    if step.from_variable is not None:
        return _dates(raw, step)
    held = variables(raw)
    attributes = {"units": step.units, "calendar": step.calendar, "standard_name": "time"}
    given = {key: value for key, value in attributes.items() if value is not None}
    if step.values is None:
        need(raw, [name])
        held[name] = held[name].copy(deep=False)
        held[name].attrs = {**held[name].attrs, **given}
        return dataset(held, raw.attrs)
    values = np.asarray(step.values, "float64")
    if raw.sizes.get(name, 1 if len(values) == 1 else -1) != len(values):
        raise Unfit(f"there are {len(values)} values, and {name!r} has {raw.sizes.get(name, 'no')} steps")
    if name not in raw.sizes:
        return _one_step(raw, name, values, given)
    old = held[name].attrs if name in held else {}
    held[name] = xr.Variable((name,), values, {**{k: v for k, v in old.items() if k not in (*PACKING, "bounds")}, **given})
    return dataset(held, raw.attrs)


def _calendar(step: SetTime) -> calendars.CalendarName:
    found = calendars.canonical(step.calendar or "standard")
    if found is None:
        raise Unfit(f"CF has no calendar {step.calendar!r}", f"use one of {', '.join(get_args(calendars.CalendarName.__value__))}")
    return found


def _since_1970(year: int, month: int, day: int, calendar: calendars.CalendarName) -> int:
    """Return the days of *calendar* from 1970-01-01 to a date. Raises ValueError if the calendar does not have it."""
    if not calendars.exists(year, month, day, calendar):
        raise ValueError(f"the calendar {calendar} has no day {year:04d}-{month:02d}-{day:02d}")
    return calendars.day_number(year, month, day, calendar) - calendars.day_number(1970, 1, 1, calendar)


def _minutes_of_name(pattern: str, file: str, calendar: calendars.CalendarName) -> int:
    pieces = re.split(r"(\{[A-Za-z]+\})", pattern)
    unknown = [p for p in pieces if p.startswith("{") and p[1:-1] not in _PLACES]
    if unknown:
        raise Unfit(f"{unknown[0]} is not a part of a date", f"use {', '.join(f'{{{key}}}' for key in _PLACES)}")
    expression = "".join(_PLACES[p[1:-1]] if p.startswith("{") else re.escape(p).replace(r"\*", ".*") for p in pieces if p)
    try:
        found = re.search(expression, file)
    except re.error:
        raise Unfit(f"{pattern!r} names a part of the date twice") from None
    if found is None:
        raise Unfit(f"the file name {file[:80]!r} does not fit {pattern!r}")
    parts = found.groupdict()
    if "Y" not in parts:
        raise Unfit(f"{pattern!r} has no year", "put {YYYY} where it is")
    try:
        day = _since_1970(int(parts["Y"]), int(parts.get("m") or 1), int(parts.get("d") or 1), calendar)
    except ValueError as error:
        raise Unfit(f"the file name {file[:80]!r} has no date at {pattern!r}: {error}") from None
    day += int(parts["j"]) - 1 if parts.get("j") else 0
    return day * 1_440 + int(parts.get("H") or 0) * 60 + int(parts.get("M") or 0)


def _one_step(raw: xr.Dataset, name: str, values: np.ndarray[Any, Any], attributes: Mapping[str, Any]) -> xr.Dataset:
    """Return *raw* with the time *values* (one step) as a dimension of every field."""
    if raw.sizes.get(name, 1) != 1:
        raise Unfit(f"{name!r} has {raw.sizes[name]} steps, but the name of the file has one time")
    held = variables(raw)
    held[name] = xr.Variable((), values[0], {"standard_name": "time", **attributes})
    if name in raw.sizes:
        held[name] = xr.Variable((name,), values, held[name].attrs)
        return dataset(held, raw.attrs)
    return joined_by_scalar(dataset(held, raw.attrs), name)


def _dates(raw: xr.Dataset, step: SetTime) -> xr.Dataset:
    source = str(step.from_variable)
    need(raw, [source])
    variable = raw.variables[source]
    values = decoded(variable, name=source)
    calendar = _calendar(step)
    try:
        if variable.dtype == "f4" and np.nanmax(values, initial=0) > _WHOLE_IN_SINGLE:
            raise ValueError("it has single precision, which has no odd number above 16777216")
        ticks = np.array([_ticks(each, calendar) for each in np.ravel(values)], "int64").reshape(values.shape)
    except ValueError as error:
        raise SourceRejected(
            f"{source!r} does not contain dates that can be read: {error}",
            reason="bad-time",
            next_step=f"say its times with --normalise 'set_time: {{variable: {step.variable}, values: […], "
            "units: days since 2000-01-01}', or remove set_time: it is an axis of numbers then",
        ) from None
    held = variables(raw)
    dims = variable.dims
    name = str(dims[0]) if len(dims) == 1 else step.variable
    held[name] = xr.Variable(dims, *_counted(ticks, step))
    return dataset(held, raw.attrs)


def _date(raw: xr.Dataset, step: SetTime) -> xr.Dataset:
    """Return *raw* with the date of a global attribute as its one step."""
    name = str(step.from_attribute)
    if name not in raw.attrs:
        raise Unfit(f"the file has no attribute {name!r}", f"choose from {', '.join(sorted(map(str, raw.attrs)))[:500]}")
    try:
        ticks = _ticks(raw.attrs[name], _calendar(step))
    except ValueError as error:
        raise Unfit(
            f"the attribute {name!r} is no date: {error}", "use {YYYY}{MM}{DD} of the file name: set_time: {from_name: …}"
        ) from None
    return _one_step(raw, step.variable, *_counted(np.array([ticks]), step))


def _counted(ticks: np.ndarray[Any, Any], step: SetTime) -> tuple[np.ndarray[Any, Any], dict[str, str]]:
    """Return times, given in microseconds from 1970-01-01, in the largest unit that has no fractions, and their attributes."""
    unit, length = next(pair for pair in _UNITS if (ticks % pair[1] == 0).all())
    attributes = {"standard_name": "time", "units": f"{unit} since 1970-01-01", "calendar": step.calendar or "standard"}
    return ticks // length, attributes


_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_UNITS = (("days", _DAY), ("minutes", 60 * _SECOND), ("seconds", _SECOND), ("milliseconds", 1_000), ("microseconds", 1))
_WHOLE_IN_SINGLE = 2.0**24
_ISO = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt _](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,6})0*)?)?)?(?:[Zz]|\+00:?00)?)?)?)?", re.ASCII
)


def _ticks(value: Any, calendar: calendars.CalendarName) -> int:
    """Return the microseconds from 1970-01-01 to a date, in the days of *calendar*. Raises ValueError if it is none.

    A number has 4, 6, 7 (year and day of the year), 8, 10, 12 or 14 digits. A fraction after 8 digits is a part of the day (CDO's
    ``day as %Y%m%d.%f``), and after 4 digits a part of the year, in seconds.
    """
    if not isinstance(value, int | float | np.integer | np.floating):
        digits = str(value).strip()
        if not digits.isdigit():
            return _of_parts(_iso(digits), calendar)
        value = int(digits)
    if not np.isfinite(value):
        raise ValueError("a date is missing")
    whole = int(value // 1)
    text, part = str(whole), float(value) - whole
    if len(text) not in ((4, 6, 7, 8, 10, 12, 14) if not part else (4, 8)):
        raise ValueError(f"{value:.17g} is not a date")
    if len(text) == 7:
        day, last = int(text[4:]), _since_1970(int(text[:4]) + 1, 1, 1, calendar)
        first = _since_1970(int(text[:4]), 1, 1, calendar)
        if not 1 <= day <= last - first:
            raise ValueError(f"{text} is not a year and a day of it")
        return (first + day - 1) * _DAY
    start = _of_parts([text[:4], *(text[at : at + 2] for at in range(4, len(text), 2))], calendar)
    if not part:
        return start
    length = 86_400 if len(text) == 8 else _since_1970(whole + 1, 1, 1, calendar) * 86_400 - start // _SECOND
    return start + round(part * length) * _SECOND


def _iso(text: str) -> list[str]:
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a date" if text else "a date is missing")
    *parts, fraction = found.groups()
    return [*(part for part in parts if part is not None), *([] if fraction is None else [fraction.ljust(6, "0")])]


def _of_parts(parts: Sequence[str], calendar: calendars.CalendarName) -> int:
    """Return the microseconds since 1970-01-01 of year, month, day, hour, minute, second and its millionths, the last of which may
    be missing.
    """
    year, month, day, hour, minute, second, millionths = (*map(int, parts), *(1, 1, 1, 0, 0, 0, 0)[len(parts) :])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{hour:02d}:{minute:02d}:{second:02d} is not a time of day")
    return _since_1970(year, month, day, calendar) * _DAY + ((hour * 60 + minute) * 60 + second) * _SECOND + millionths


def _decode_periods(raw: xr.Dataset, names: Mapping[str, str], _: str) -> xr.Dataset:
    need(raw, names)
    for name, how in names.items():
        raw = in_days(raw, name, parts=how == "parts")
    return raw


def _coordinate_units(raw: xr.Dataset, units: Mapping[str, str], file: str) -> xr.Dataset:
    return _set_attributes(raw, {name: {"units": text} for name, text in units.items()}, file)


def _positions(raw: xr.Dataset, step: Positions, _: str) -> xr.Dataset:
    need(raw, [step.longitude, step.latitude])
    held = variables(raw)
    for name, standard, units in ((step.longitude, "longitude", "degrees_east"), (step.latitude, "latitude", "degrees_north")):
        variable = _standing(name, held[name])
        given = str(variable.attrs.get("units", "")).lower()
        variable.attrs = {
            **variable.attrs,
            "standard_name": standard,
            "units": variable.attrs["units"] if "rad" in given else units,
        }
        held[name] = variable
    pair = held[step.longitude], held[step.latitude]
    if pair[0].dims != pair[1].dims:
        if any(each.ndim != 1 for each in pair):
            raise Unfit(f"{step.longitude!r} and {step.latitude!r} have different dimensions")
        return dataset(held, raw.attrs)  # the labels of two axes
    dims = set(pair[0].dims)
    for name, variable in held.items():
        if name not in (step.longitude, step.latitude) and dims <= set(variable.dims) and variable.dtype.kind in "iufb":
            words = [w for w in str(variable.attrs.get("coordinates", "")).split() if w not in (step.longitude, step.latitude)]
            held[name] = variable.copy(deep=False)
            held[name].attrs = {**variable.attrs, "coordinates": " ".join([*words, step.latitude, step.longitude])}
    return dataset(held, raw.attrs)


def placed(raw: xr.Dataset, step: Positions, grid: xr.Dataset, where: str) -> tuple[xr.Dataset, list[tuple[str, str]]]:
    """Return *raw* with the positions of cells, and their bounds, that *grid* has, and warnings.

    They replace variables with their names. Their dimensions are those of *raw* with the same name, or the only ones with the same
    length, which is reported.

    Parameters
    ----------
    where
        What *grid* is, in messages.

    Raises
    ------
    Unfit
        If *grid* has no such variables, or no dimension of *raw* fits them.
    """
    names = [step.longitude, step.latitude]
    need(grid, names, where=where)
    own = dict.fromkeys(dim for name in names for dim in text_dims(grid.variables[name]))
    places = {dim: _place_of(raw, dim, grid.sizes[dim], set(own), where) for dim in own}
    if len(set(places.values())) < len(places):
        raise Unfit(f"dimensions of {where} have the same length, so it is unknown which is which", "rename them in one of the two")
    edges = [edge for name in names if (edge := str(grid.variables[name].attrs.get("bounds"))) in grid.variables]
    held = variables(raw)
    for name in (*names, *edges):
        variable = grid.variables[name]
        corners = {dim: f"{dim}_of_{name}" for dim in text_dims(variable) if dim not in own and dim in raw.sizes}
        held[name] = variable.copy(deep=False)
        held[name].dims = tuple({**corners, **places}.get(dim, dim) for dim in text_dims(variable))
    other = {dim: place for dim, place in places.items() if dim != place}
    said = ", ".join(f"{dim!r} is {place!r} here, which has its length of {grid.sizes[dim]}" for dim, place in other.items())
    words = f"the positions {step.longitude!r} and {step.latitude!r} are those of {where}; its dimension {said}"
    return dataset(held, raw.attrs), [("positions-taken", words)] if other else []


def _place_of(raw: xr.Dataset, dimension: str, length: int, own: set[str], where: str) -> str:
    if dimension in raw.sizes:
        if raw.sizes[dimension] == length:
            return dimension
        raise Unfit(
            f"{dimension!r} has {length} cells in {where}, and {raw.sizes[dimension]} in the source", "bring the grid of these data"
        )
    fits = [str(dim) for dim, size in raw.sizes.items() if size == length and dim not in own and dim not in raw.variables]
    if len(fits) != 1:
        found = f"several of the source do: {', '.join(fits)}" if fits else "no dimension of the source does"
        raise Unfit(
            f"{dimension!r} of {where} has {length} cells, and {found}",
            "rename the one that it is, in the source or in the grid file",
        )
    return fits[0]


def _standing(name: str, variable: xr.Variable) -> xr.Variable:
    """Return positions without a dimension along which they do not change, such as the time in WRF output."""
    while variable.ndim > 2:
        values = np.asarray(decoded(variable, name=name))
        if not (values == values[:1]).all():
            raise Unfit(f"{name!r} changes along {variable.dims[0]!r}: the grid moves")
        variable = variable.isel({variable.dims[0]: 0})
    return variable.copy(deep=False)


def _join_scalar_time(raw: xr.Dataset, name: str, _: str) -> xr.Dataset:
    need(raw, [name])
    if raw.variables[name].ndim:
        raise Unfit(f"{name!r} is not one number: it has the dimensions {', '.join(map(str, raw.variables[name].dims))}")
    return joined_by_scalar(raw, name)


def scalar_time(raws: Sequence[xr.Dataset], name: str) -> str:
    """Return the scalar time along which files of one step each are joined: *name*, or ``time`` where that differs in each file.

    A forecast has the time of its start beside the one that it is valid for. Of one run a day, cfgrib joins by the start.
    """
    values = [raw.variables["time"].values for raw in raws if _is_scalar_time(raw, "time")]
    return "time" if len(values) == len(raws) == len({each.item() for each in values}) else name


def _is_scalar_time(raw: xr.Dataset, name: str) -> bool:
    return name in raw.variables and raw.variables[name].ndim == 0 and is_time_units(raw.variables[name].attrs.get("units"))


def joined_by_scalar(raw: xr.Dataset, name: str, also: Collection[str] = ()) -> xr.Dataset:
    """Return *raw* with the scalar coordinate *name* as a new first dimension of length 1 of itself, of every field, of other
    scalar times, and of *also*, which are other numbers in each file.
    """
    along = {field for field, role in find(raw).roles.items() if role == "data"} | {name}
    along |= {str(each) for each in raw.variables if _is_scalar_time(raw, str(each))}
    along |= {each for each in also if raw.variables[each].ndim == 0}
    held = {}
    for each, variable in variables(raw).items():
        if each in along:
            other = expanded(variable, name)
            words = [w for w in str(variable.attrs.get("coordinates", "")).split() if w != name]
            other.attrs = {key: value for key, value in variable.attrs.items() if key != "coordinates"}
            if words:
                other.attrs["coordinates"] = " ".join(words)
            held[each] = other
        else:
            held[each] = variable
    return dataset(held, raw.attrs)


def _ragged(raw: xr.Dataset, names: Sequence[str], _: str) -> xr.Dataset:
    for name in names:
        need(raw, [name], dimensions=True)
        try:
            raw = by_station(raw, name)
        except NotRagged as error:
            raise Unfit(str(error)) from None
    return raw


def _scatter(raw: xr.Dataset, names: Sequence[str], _: str) -> xr.Dataset:
    for name in names:
        need(raw, [name])
        try:
            raw = scattered(raw, name)
        except NotGathered as error:
            raise Unfit(str(error)) from None
    return raw


def _axes_from_transform(raw: xr.Dataset, given: Sequence[float] | bool, _: str) -> xr.Dataset:
    try:
        return with_axes(raw, None if isinstance(given, bool) else given)
    except NoTransform as error:
        raise Unfit(str(error)) from None


def _unchanged(raw: xr.Dataset, _value: float, _: str) -> xr.Dataset:
    return raw


_STEPS: Mapping[str, Callable[[xr.Dataset, Any, str], xr.Dataset]] = {
    "rename": _rename,
    "drop": _drop,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "sort": _sort,
    "drop_missing": _drop_missing,
    "drop_duplicates": _drop_duplicates,
    "wrap_longitude": _wrap_longitude,
    "decode_packed": _decode_packed,
    "set_dtype": _set_dtype,
    "set_attributes": _set_attributes,
    "set_crs": _set_crs,
    "set_time": _set_time,
    "decode_periods": _decode_periods,
    "coordinate_units": _coordinate_units,
    "positions": _positions,
    "axes_from_transform": _axes_from_transform,
    "scatter": _scatter,
    "join_scalar_time": _join_scalar_time,
    "ragged": _ragged,
    "tolerance": _unchanged,  # used when files are joined
}
