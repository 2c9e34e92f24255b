"""Several files as one lazy dataset: ordered by their decoded times, held against each other whole before a value is taken.

The checks and their kinds are those of service.md 5.2. Of several files every offender is named, not the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.adapters.sources.reading import TEXT, Source, decoding, native
from cubeport.cubes import axes, calendars, times
from cubeport.cubes.raw import dataset
from cubeport.errors import (
    CalendarMismatch,
    CubeportError,
    DtypeMismatch,
    GridMismatch,
    Problem,
    SourceRejected,
    UnitsMismatch,
    VariablesMismatch,
)

PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
_TOLERANCE = 1e-6
"""Part of a step by which coordinates of two files may differ."""
_OWN_UNITS = re.compile(r"\s*(\w+)\s+since\s", re.IGNORECASE)
_ALIASES = {
    **dict.fromkeys(("degree_north", "degree_n", "degrees_n", "degreen", "degreesn"), "degrees_north"),
    **dict.fromkeys(("degree_east", "degree_e", "degrees_e", "degreee", "degreese"), "degrees_east"),
    **dict.fromkeys(("kelvin", "degk", "deg_k", "degrees_kelvin", "degree_kelvin"), "K"),
    **dict.fromkeys(("degc", "deg_c", "celsius", "degree_celsius", "degrees_celsius", "degree_c", "degrees_c"), "degC"),
    **dict.fromkeys(("metre", "metres", "meter", "meters"), "m"),
    **dict.fromkeys(("", "dimensionless", "none", "unitless"), "1"),
}
"""Words for the same unit, in lower case; a unit itself is told by its case (``MPa`` is not ``mPa``)."""
_MICROSECONDS = {"day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000, "millisecond": 1_000}
_SHORT = {"d": "day", "h": "hour", "hr": "hour", "min": "minute", "s": "second", "sec": "second", "ms": "millisecond"}

type Values = np.ndarray[Any, Any]


def join(sources: Sequence[Source], dimension: str | None = None) -> Source:
    """Return *sources* as one, joined along *dimension* (the time axis when not given); one source is returned as it is.

    Raises
    ------
    VariablesMismatch, GridMismatch, DtypeMismatch, UnitsMismatch, CalendarMismatch
        When they do not belong together; ``errors`` names every offending file.
    SourceRejected
        ``bad-time`` when their times meet or overlap.
    """
    if len(sources) == 1:
        return sources[0]
    first = sources[0]
    along = dimension or _time_dimension(first)
    _same_variables(sources, along)
    _same_calendars(sources)
    _same_units(sources)
    sources = _ordered([_at_reference(first, each) for each in sources], along)
    _same_dtypes(sources)
    _same_grid(sources, along)
    sources, warnings = _same_packing(sources, along)
    head = sources[0].raw
    joined = {
        str(name): _joined(sources, str(name), along) if along in variable.dims else variable
        for name, variable in head.variables.items()
    }
    said = dict.fromkeys([each for source in sources for each in source.warnings] + warnings)
    return Source(f"{len(sources)} files", dataset(joined, head.attrs), tuple(said))


def _time_dimension(source: Source) -> str:
    axis = axes.find(source.raw).axis_of("t")
    if axis is None or axis.scalar:
        raise VariablesMismatch(
            f"{source.name} has no time axis to join several files along",
            next_step="name the dimension to join along, or ingest one file",
        )
    return axis.dimension


@dataclass(frozen=True, slots=True)
class _Differences:
    """What several files have wrong, gathered so that every offender is named."""

    error: type[CubeportError]
    kind: str

    def refuse(self, found: Iterable[tuple[str, str]], first: str) -> None:
        """Raise unless *found*, pairs of file and words, is empty."""
        problems = [Problem(("sources", file), self.kind, f"{file}: {words}, unlike {first}") for file, words in found]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise self.error(problems[0].message + more, errors=problems[:100])


def _same_variables(sources: Sequence[Source], along: str) -> None:
    first = sources[0].raw
    if not any(along in variable.dims for variable in first.variables.values()):
        raise VariablesMismatch(f"no variable of {sources[0].name} has the dimension {along!r}")

    def differences(raw: xr.Dataset) -> str | None:
        missing, further = set(first.variables) - set(raw.variables), set(raw.variables) - set(first.variables)
        if missing or further:
            return "variables " + ", ".join(
                [f"{name!r} is missing" for name in sorted(map(str, missing))][:5]
                + [f"{name!r} is new" for name in sorted(map(str, further))][:5]
            )
        turned = [str(name) for name, each in first.variables.items() if each.dims != raw.variables[name].dims]
        return f"variable {turned[0]!r} has other dimensions" if turned else None

    found = [(each.name, words) for each in sources[1:] if (words := differences(each.raw)) is not None]
    _Differences(VariablesMismatch, "variables-mismatch").refuse(found, sources[0].name)


def _same_dtypes(sources: Sequence[Source]) -> None:
    first = sources[0].raw
    found = [
        (each.name, f"variable {name!r} is {each.raw.variables[name].dtype} and not {variable.dtype}")
        for each in sources[1:]
        for name, variable in first.variables.items()
        if native(each.raw.variables[name].dtype) != native(variable.dtype)
    ]
    _Differences(DtypeMismatch, "dtype-mismatch").refuse(found, sources[0].name)


def _same_calendars(sources: Sequence[Source]) -> None:
    found = []
    for name, variable in _dated(sources[0].raw).items():
        first = times.calendar_of(variable.attrs, name=name)
        for each in sources[1:]:
            other = times.calendar_of(each.raw.variables[name].attrs, name=name)
            dates = [
                _reference(raw.variables[name], name)
                for raw in (sources[0].raw, each.raw)
                if times.is_time_units(_units(raw, name))
            ]
            if len(dates) == 2 and not calendars.same(first, other, earliest=min(dates)):
                found.append((each.name, f"{name!r} has the calendar {other} and not {first}"))
    _Differences(CalendarMismatch, "calendar-mismatch").refuse(found, sources[0].name)


def _same_units(sources: Sequence[Source]) -> None:
    found = []
    for key in sources[0].raw.variables:
        name = str(key)
        first = _units(sources[0].raw, name)
        for each in sources[1:]:
            other = _units(each.raw, name)
            if _plain_units(first) != _plain_units(other):
                found.append((each.name, f"{name!r} has the units {str(other)[:40]!r} and not {str(first)[:40]!r}"))
    _Differences(UnitsMismatch, "units-mismatch").refuse(found, sources[0].name)


def _units(raw: xr.Dataset, name: str) -> Any:
    return raw.variables[name].attrs.get("units")


def _plain_units(units: Any) -> str | None:
    """Return units such that aliases are equal; of time, the unit alone: its reference date may differ."""
    if not isinstance(units, str):
        return None if units is None else str(units)
    if since := _OWN_UNITS.match(units):
        return f"{_time_unit(since[1])} since"
    text = " ".join(units.split())
    return _ALIASES.get(text.lower(), text)


def _time_unit(text: str) -> str:
    plain = text.lower()
    return _SHORT.get(plain) or _SHORT.get(plain.rstrip("s")) or plain.rstrip("s")


def _dated(raw: xr.Dataset) -> Mapping[str, xr.Variable]:
    return {str(name): each for name, each in raw.variables.items() if times.is_time_units(each.attrs.get("units"))}


def _reference(variable: xr.Variable, name: str) -> calendars.Stamp:
    """Return the date that the numbers of a time variable count from."""
    return times.decode([0], variable.attrs["units"], times.calendar_of(variable.attrs, name=name), name=name)[0]


def _at_reference(first: Source, source: Source) -> Source:
    """Return *source* with its times counted from the reference dates of *first*, exactly."""
    held = {str(name): each for name, each in source.raw.variables.items()}
    for name, variable in _dated(first.raw).items():
        own = held[name]
        units = own.attrs["units"]
        if units == variable.attrs["units"]:
            continue
        calendar = times.calendar_of(variable.attrs, name=name)
        gap = calendars.ordinal(_reference(own, name), calendar) - calendars.ordinal(_reference(variable, name), calendar)
        bounds = [own.attrs[key] for key in ("bounds", "climatology") if own.attrs.get(key) in held]
        for each in [name, *(key for key in bounds if "units" not in held[key].attrs)]:
            held[each] = _shifted(source.name, each, held[each], gap, units)
        held[name].attrs["units"] = variable.attrs["units"]
    return replace(source, raw=dataset(held, source.raw.attrs))


def _shifted(source: str, name: str, variable: xr.Variable, gap: int, units: str) -> xr.Variable:
    """Return *variable* with *gap* microseconds added to its numbers; refused where that would round or overflow."""
    unit = _MICROSECONDS.get(_time_unit(units.split()[0]))
    steps = Fraction(gap, unit) if unit else None
    with decoding(name, source):
        values = variable.values
    if steps is not None and not set(PACKING[:2]) & set(variable.attrs):
        shift = float(steps) if values.dtype.kind == "f" else int(steps)
        if Fraction(shift) == steps:
            moved = _added(values, shift, variable.attrs)
            if moved is not None:
                return xr.Variable(variable.dims, moved, dict(variable.attrs), variable.encoding)
    raise UnitsMismatch(
        f"{source}: {name!r} counts from another date, and its numbers cannot be moved to the first file's without loss",
        next_step="write all files with the same units of time",
    )


def _added(values: Values, shift: float, attributes: Mapping[str, Any]) -> Values | None:
    """Return ``values + shift`` in their own type, fill values left alone; ``None`` where that is not exact."""
    fills = [np.ravel(attributes[key]) for key in ("_FillValue", "missing_value") if key in attributes]
    real = ~np.isin(values, np.concatenate(fills)) if fills else np.ones(values.shape, bool)
    if values.dtype.kind == "f":
        wide = values.astype("longdouble") + np.longdouble(shift)
    else:
        wide = values.astype(object) + int(shift)
        limits = np.iinfo(values.dtype)
        if any(not limits.min <= each <= limits.max for each in wide[real].ravel()):
            return None
    with np.errstate(all="ignore"):
        moved = np.where(real, wide, values).astype(values.dtype)
    exact = moved[real].astype(wide.dtype) == wide[real]
    return moved if bool(np.all(exact | ~_finite(values[real]))) else None


def _finite(values: Values) -> Values:
    return np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)


def _ordered(sources: Sequence[Source], along: str) -> list[Source]:
    """Return the files in the order of their times or numbers; as given when they have none, or texts."""
    labels = axes.find(sources[0].raw)
    axis = next((each for each in labels.axes if each.dimension == along and each.labels), None)
    if axis is None or axes.is_text(sources[0].raw.variables[axis.name]):
        return list(sources)
    spans = []
    for source in sources:
        found = _labels(source, axis.name)
        if not found:
            raise SourceRejected(f"{source.name} has no labels along {along!r}", reason="empty", source=source.name)
        spans.append((min(found), max(found), found[0] <= found[-1], source))
    descending = any(not upward for *_, upward, _ in spans)
    spans.sort(key=lambda span: span[0], reverse=descending)
    for (low, high, _, one), (following, top, _, other) in pairwise(spans):
        if (low <= top) if descending else (following <= high):
            raise SourceRejected(
                f"{one.name} and {other.name} overlap along {along!r}",
                reason="bad-time" if axis.kind == "t" else "bad-coordinates",
                source=other.name,
                next_step="leave one of them out",
            )
    return [source for *_, source in spans]


def _labels(source: Source, name: str) -> list[Any]:
    variable = source.raw.variables[name]
    with decoding(name, source.name):
        values = axes.decoded(variable)
    if times.is_time_units(variable.attrs.get("units")):
        return list(times.decode(values, variable.attrs["units"], times.calendar_of(variable.attrs, name=name), name=name))
    return list(np.ravel(values).tolist())


def _same_grid(sources: Sequence[Source], along: str) -> None:
    """Hold every variable that is not joined against the first file's."""
    found = []
    for key, variable in sources[0].raw.variables.items():
        name = str(key)
        if along in variable.dims:
            shape = tuple(size for dim, size in variable.sizes.items() if dim != along)
            for each in sources[1:]:
                other = each.raw.variables[name]
                if tuple(size for dim, size in other.sizes.items() if dim != along) != shape:
                    found.append((each.name, f"variable {name!r} has another shape"))
            continue
        with decoding(name, sources[0].name):
            values = variable.values
        for each in sources[1:]:
            with decoding(name, each.name):
                other_values = each.raw.variables[name].values
            if (where := _differs(values, other_values, variable.dims == (name,))) is not None:
                found.append((each.name, f"{name!r} differs at {where}"))
    _Differences(GridMismatch, "grid-mismatch").refuse(found, sources[0].name)


def _differs(a: Values, b: Values, is_axis: bool) -> str | None:
    """Say where two arrays differ: axes by more than a millionth of a step, others by a bit that counts."""
    if a.shape != b.shape:
        return f"its shape, {b.shape} and not {a.shape}"
    if a.dtype.kind not in "fiub":
        same = np.asarray(a == b)
    elif is_axis and a.size > 1:
        step = float(np.abs(np.diff(a.astype("float64"))).min())
        same = np.abs(a.astype("float64") - b.astype("float64")) <= _TOLERANCE * step
    else:
        same = np.isclose(a, b, rtol=_TOLERANCE, atol=0, equal_nan=True) if a.dtype.kind == "f" else np.asarray(a == b)
    if bool(same.all()):
        return None
    where = np.unravel_index(int(np.argmin(same)), a.shape)
    return "index " + ", ".join(str(int(i)) for i in where) if where else "its value"


def _same_packing(sources: Sequence[Source], along: str) -> tuple[list[Source], list[tuple[str, str]]]:
    """Return the files with variables that they pack differently decoded to numbers, and the warnings that say so."""
    sources, warnings = list(sources), []
    for key, variable in sources[0].raw.variables.items():
        name = str(key)
        if along not in variable.dims or variable.dtype == TEXT:
            continue
        kept = [_packing(each.raw.variables[name]) for each in sources]
        if all(each == kept[0] for each in kept):
            continue
        odd = [source.name for source, each in zip(sources, kept, strict=True) if each != kept[0]]
        warnings.append(("unpacked", f"{name!r} is packed differently in {', '.join(odd[:5])}; all its values are stored decoded"))
        decoded = [_decoded(name, each.raw.variables[name]) for each in sources]
        kind = np.result_type("float32", *(each.dtype for each in decoded))
        sources = [
            replace(source, raw=source.raw.assign({name: _as_floats(each, kind)}))
            for source, each in zip(sources, decoded, strict=True)
        ]
    return sources, warnings


def _packing(variable: xr.Variable) -> tuple[Any, ...]:
    # By their bits: a NaN fill equals itself, and 0.1 as float32 is not 0.1.
    return tuple(np.asarray(variable.attrs[key]).tobytes() if key in variable.attrs else None for key in PACKING)


def _decoded(name: str, variable: xr.Variable) -> xr.Variable:
    opened = xr.conventions.decode_cf_variable(name, variable, concat_characters=False, decode_times=False, decode_timedelta=False)
    opened.attrs = {key: value for key, value in variable.attrs.items() if key not in PACKING}
    return opened


def _as_floats(variable: xr.Variable, kind: np.dtype[Any]) -> xr.Variable:
    lazily = indexing.LazilyIndexedArray(_Cast(variable, kind))
    return xr.Variable(
        variable.dims,
        lazily,
        {**variable.attrs, "_FillValue": kind.type(np.nan)},
        {"chunksizes": variable.encoding.get("chunksizes")},
    )


class _Cast(BackendArray):
    """A decoded variable in a type that holds those of all files."""

    def __init__(self, variable: xr.Variable, dtype: np.dtype[Any]) -> None:
        self._variable = variable
        self.shape, self.dtype = variable.shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        return np.asarray(self._variable[key].values).astype(self.dtype)


class _Joined(BackendArray):
    """Arrays laid end to end, read only where they are asked for."""

    def __init__(self, name: str, sources: Sequence[str], pieces: Sequence[xr.Variable], axis: int) -> None:
        self._name, self._sources, self._pieces, self._axis = name, sources, pieces, axis
        self._stops = np.cumsum([piece.shape[axis] for piece in pieces]).tolist()
        shape = list(pieces[0].shape)
        shape[axis] = self._stops[-1]
        self.shape, self.dtype = tuple(shape), pieces[0].dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        along = key[self._axis]
        if not isinstance(along, slice):
            piece = int(np.searchsorted(self._stops, along, side="right"))
            return self._piece(piece, key, along - self._start(piece))
        start, stop, step = along.indices(self.shape[self._axis])  # the adapter gives positive steps only
        parts = [
            self._piece(piece, key, slice(max(start - self._start(piece), 0), min(stop, end) - self._start(piece)))
            for piece, end in enumerate(self._stops)
            if self._start(piece) < stop and start < end
        ]
        axis = sum(isinstance(each, slice) for each in key[: self._axis])
        whole = np.concatenate(parts or [self._piece(0, key, slice(0))], axis=axis)
        return whole[(slice(None),) * axis + (slice(None, None, step),)]

    def _start(self, piece: int) -> int:
        return int(self._stops[piece - 1]) if piece else 0

    def _piece(self, piece: int, key: tuple[Any, ...], along: Any) -> Values:
        with decoding(self._name, self._sources[piece]):
            values = self._pieces[piece][(*key[: self._axis], along, *key[self._axis + 1 :])].values
        return np.asarray(values).astype(self.dtype, copy=False)


def _joined(sources: Sequence[Source], name: str, along: str) -> xr.Variable:
    pieces = [each.raw.variables[name] for each in sources]
    first = pieces[0]
    axis = first.dims.index(along)
    if first.dtype == TEXT:
        return xr.Variable(first.dims, np.concatenate([piece.values for piece in pieces], axis=axis), first.attrs)
    lazily = indexing.LazilyIndexedArray(_Joined(name, [each.name for each in sources], pieces, axis))
    return xr.Variable(first.dims, lazily, first.attrs, first.encoding)
