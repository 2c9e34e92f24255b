"""Join several files to one lazy dataset, ordered by their decoded times, after comparing them with each other.

Variables, units, calendars, types and coordinates must agree; docs/repair.md gives the tolerances. An error names every file that
differs, not only the first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.adapters.sources.reading import TEXT, OpenedSource, decoding, native
from cubeport.cubes import calendars, times
from cubeport.cubes.decoding import decoded
from cubeport.cubes.groups import find
from cubeport.cubes.normalise import PACKING, TOLERANCE, dropped, joined_by_scalar, scalar_time
from cubeport.cubes.packing import MISSING, missing_numbers, says_nothing
from cubeport.cubes.raw import computed, dataset, variables
from cubeport.cubes.repairs import flag
from cubeport.cubes.stamps import Stamps
from cubeport.cubes.undated import FROM_START, START, is_start_said
from cubeport.cubes.units import canonical, conversion
from cubeport.cubes.update import OnOverlap
from cubeport.cubes.variables import is_longitude, is_text
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

_OWN_UNITS = re.compile(r"\s*(\w+)\s+since\s", re.IGNORECASE)
_MICROSECONDS = {"day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000, "millisecond": 1_000}
_SHORT = {"d": "day", "h": "hour", "hr": "hour", "min": "minute", "s": "second", "sec": "second", "ms": "millisecond"}

type Values = np.ndarray[Any, Any]


def join(
    sources: Sequence[OpenedSource],
    dimension: str | None = None,
    *,
    tolerance: float = TOLERANCE,
    on_overlap: OnOverlap = "error",
    skip_bad: bool = False,
) -> OpenedSource:
    """Return *sources* joined along *dimension* (by default the time axis). A single source is returned unchanged.

    Parameters
    ----------
    tolerance
        How much coordinates of two files may differ, as a share of a step. Rounding in single precision is also accepted.
    on_overlap
        What to do with steps that are in several files: refuse them (``error``), use the file that begins first (``skip``), or use
        the file that begins last (``replace``).
    skip_bad
        Whether to skip and report variables that not all files have.

    Raises
    ------
    VariablesMismatch, GridMismatch, DtypeMismatch, UnitsMismatch, CalendarMismatch
        If the files do not fit together. ``errors`` names all files that differ, for all kinds of difference.
    SourceRejected
        ``bad-time``, if their times overlap.
    """
    if len(sources) == 1:
        return sources[0]
    sources, warnings = _common_variables(sources, all_of_them=skip_bad)
    along, sources, more = _along(sources, dimension)
    warnings += more
    first = sources[0]
    _same_variables(sources, along)
    _all(partial(_same_calendars, sources), partial(_same_units, sources), partial(_same_dtypes, sources, along))
    sources = [at_reference(first, each) for each in sources]
    try:
        ordered, more = _ordered(sources, along, on_overlap)
    except SourceRejected:
        _same_grid(sources, along, tolerance)  # tiles of one time overlap too, and no choice of steps joins them
        raise
    sources, warnings = ordered, warnings + more
    _same_grid(sources, along, tolerance)
    sources, more = _widened(sources, along)
    warnings += more
    sources, more = _same_packing(sources, along)
    warnings += more
    head = sources[0].raw
    joined = {
        str(name): _joined(sources, str(name), along) if along in variable.dims else variable
        for name, variable in head.variables.items()
    }
    said = dict.fromkeys([each for source in sources for each in source.warnings] + warnings)
    return OpenedSource(f"{len(sources)} files", dataset(joined, head.attrs), tuple(said))


def check_alike(first: OpenedSource, other: OpenedSource, along: str, tolerance: float) -> None:
    """Check that *other* can be joined to *first*: dimensions, units, calendars, and all variables that are not joined.

    Raises
    ------
    VariablesMismatch, GridMismatch, UnitsMismatch, CalendarMismatch
        If they differ.
    """
    pair = [first, other]
    try:
        _same_variables(pair, along)
        _all(partial(_same_calendars, pair), partial(_same_units, pair))
        _same_grid(pair, along, tolerance)
    except CubeportError as error:
        if error.next_step is not None:
            error.next_step = error.next_step.replace(_APART, "publish it as another dataset: cubeport ingest FILES --id NAME")
        raise


_APART = "publish each file as a dataset of its own: --each"
"""What to do with files of a series that cannot be joined. An update has only the file that comes."""


def _all(*checks: Callable[[], None]) -> None:
    """Run all checks, then raise the first error with the problems of all."""
    found: list[CubeportError] = []
    for check in checks:
        try:
            check()
        except CubeportError as error:
            found.append(error)
    if len(found) > 1:
        first = found[0]
        others = "; ".join(error.message for error in found[1:])
        raise type(first)(
            f"{first.message}; {others}", next_step=first.next_step, errors=[each for error in found for each in error.errors]
        )
    if found:
        raise found[0]


def _common_variables(sources: Sequence[OpenedSource], *, all_of_them: bool) -> tuple[list[OpenedSource], list[tuple[str, str]]]:
    """Skip and report variables that fewer than half of the files have; with *all_of_them*, those that not all files have."""
    counts = Counter(str(name) for source in sources for name in source.raw.variables)
    least = len(sources) if all_of_them else len(sources) / 2
    odd = [name for name, count in counts.items() if count < least]
    if not odd:
        return list(sources), []
    told = ", ".join(f"{name!r} ({counts[name]} of {len(sources)})" for name in odd[:20])
    kept = [replace(each, raw=dropped(each.raw, [name for name in odd if name in each.raw.variables])) for each in sources]
    return kept, [("variable-skipped", f"variables that only some of the files have are skipped: {told}")]


def _along(sources: Sequence[OpenedSource], dimension: str | None) -> tuple[str, Sequence[OpenedSource], list[tuple[str, str]]]:
    """Return the dimension to join along, and the sources with it. The scalar time of a file becomes a dimension."""
    name = dimension or scalar_time([each.raw for each in sources], _time_axis(sources))
    single = [each.name for each in sources if _is_scalar(each, name)]
    if not single:
        return name, sources, []
    where = "each file" if len(single) == len(sources) else ", ".join(single[:5])
    told = f"{name!r} is a single value in {where}; the files are joined along it"
    also = _differing(sources) if len(single) == len(sources) else ()
    joined = [replace(each, raw=joined_by_scalar(each.raw, name, also)) if _is_scalar(each, name) else each for each in sources]
    return name, joined, [("time-joined", told)]


def _differing(sources: Sequence[OpenedSource]) -> list[str]:
    """Return the scalar numbers that all files have and that are not the same in all of them, such as the lead of a forecast."""
    first = sources[0].raw.variables
    names = [str(name) for name, each in first.items() if each.ndim == 0 and each.dtype.kind in "iuf"]
    shared = [name for name in names if all(_is_scalar(each, name) for each in sources)]
    return [name for name in shared if len({each.raw.variables[name].values.item() for each in sources}) > 1]


def _is_scalar(source: OpenedSource, name: str) -> bool:
    return name in source.raw.variables and source.raw.variables[name].ndim == 0


def _time_axis(sources: Sequence[OpenedSource]) -> str:
    """Return the time dimension, or the name of the scalar time that every file has."""
    axis = find(sources[0].raw).axis_of("t")
    if axis is not None:
        return axis.name if axis.scalar else axis.dimension
    names = [source.name for source in sources]
    dates = all(len(re.findall(r"(?<!\d)\d{8}(?!\d)", name)) == 1 for name in names)
    if all(is_start_said(source.raw) for source in sources):
        step = f"take the time from {START} of each file: {FROM_START}"
    elif dates:
        step = "take the time from the file names: --normalise 'set_time: {from_name: \"{YYYY}{MM}{DD}\"}'"
    else:
        step = "name the dimension to join along (--append-dim), or take the time from the file names with set_time of --normalise"
    raise VariablesMismatch(f"{names[0]} has no time axis along which to join several files", next_step=step)


@dataclass(frozen=True, slots=True)
class _Differences:
    """Collects the differences of several files, so that every differing file is named."""

    error: type[CubeportError]
    kind: str
    next_step: str | None = None

    def refuse(self, found: Iterable[tuple[str, str]], first: str) -> None:
        """Raise unless *found*, pairs of file and message, is empty."""
        problems = [Problem(("sources", file), self.kind, f"{file}: {words}, unlike {first}") for file, words in found]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise self.error(problems[0].message + more, next_step=self.next_step, errors=problems[:100])


def _same_variables(sources: Sequence[OpenedSource], along: str) -> None:
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
    if found:
        _Differences(VariablesMismatch, "variables-mismatch", _cure_of_variables(sources, along)).refuse(found, sources[0].name)


def _cure_of_variables(sources: Sequence[OpenedSource], along: str) -> str:
    """Return what to do with files that do not have the same variables of the same dimensions."""
    raws = [each.raw for each in sources]
    first = raws[0]
    common = [str(name) for name in first.variables if all(name in raw.variables for raw in raws)]
    turned = [name for name in common if len({raw.variables[name].dims for raw in raws}) > 1]
    order = max((first.variables[name].dims for name in turned), key=len, default=())
    if turned and all(_in_order(raw.variables[name].dims, order) == first.variables[name].dims for raw in raws for name in common):
        return f"give their dimensions one order: {flag({'transpose': list(map(str, order))})}"
    fields = [name for name in common if along in first.variables[name].dims and name not in turned and name not in _labels(first)]
    beyond = {str(name) for raw in raws for name in raw.variables} - set(common)
    if not turned and fields and not beyond & set(map(str, first.sizes)):
        return "leave out variables that not every file has: --skip-bad"
    return _APART


def _in_order(dimensions: tuple[Hashable, ...], order: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """Return the dimensions as the step ``transpose`` orders them."""
    return (*(each for each in order if each in dimensions), *(each for each in dimensions if each not in order))


def _same_dtypes(sources: Sequence[OpenedSource], along: str) -> None:
    first = sources[0].raw
    labels = _labels(first)
    found, numbers = [], True
    odd: dict[str, None] = {}
    for name, variable in variables(first).items():
        for each in sources[1:]:
            other = each.raw.variables[name]
            pair = (variable, other)
            if native(variable.dtype) == native(other.dtype) or _is_widened(
                pair, is_label=name in labels or along not in variable.dims
            ):
                continue
            found.append((each.name, f"variable {name!r} is {other.dtype} and not {variable.dtype}"))
            numbers = numbers and all(part.dtype.kind in "iuf" for part in pair)
            odd[name] = None
    cure = _APART
    if numbers and odd:
        cure = f"store them unpacked, as floating-point numbers: {flag({'decode_packed': list(odd)})}"
    _Differences(DtypeMismatch, "dtype-mismatch", cure).refuse(found, sources[0].name)


def _labels(raw: xr.Dataset) -> frozenset[str]:
    """Return the coordinates along one dimension, and their bounds."""
    labels = [raw.variables[name] for name in raw.sizes if name in raw.variables]
    bounds = [str(each.attrs[key]) for each in labels for key in ("bounds", "climatology") if key in each.attrs]
    return frozenset((*map(str, raw.sizes), *bounds))


def is_label(raw: xr.Dataset, name: str) -> bool:
    """Return whether a variable is a coordinate along one dimension, or its bounds."""
    return name in _labels(raw)


def _is_widened(pair: Sequence[xr.Variable], *, is_label: bool) -> bool:
    """Return whether numbers of both types are taken without losing a value.

    Single and double precision always are. Labels can also be whole numbers: one writer stores whole days so, another as double.
    """
    if all(each.dtype.kind == "f" for each in pair):
        return True
    if not is_label or any(each.dtype.kind not in "iuf" for each in pair):
        return False
    whole = [each for each in pair if each.dtype.kind in "iu"]
    return all(each.size == 0 or float(np.abs(each.values.astype("float64")).max()) <= _EXACT for each in whole)


_EXACT = 2.0**53
"""Up to this number, double precision has every whole number."""


def _widened(sources: Sequence[OpenedSource], along: str) -> tuple[list[OpenedSource], list[tuple[str, str]]]:
    """Return the files with joined numbers of different types in one type that has all their values."""
    found, warnings = list(sources), []
    for name, variable in variables(found[0].raw).items():
        kinds = {native(each.raw.variables[name].dtype) for each in found}
        if along not in variable.dims or len(kinds) == 1 or any(kind.kind not in "iuf" for kind in kinds):
            continue
        wide = np.result_type(*kinds)
        odd = [each.name for each in found if native(each.raw.variables[name].dtype) != wide]
        lack = "less precision" if all(kind.kind == "f" for kind in kinds) else "another type"
        warnings.append(("widened", f"{name!r} has {lack} in {', '.join(odd[:5])}; it is stored as {wide}"))
        found = [
            replace(each, raw=each.raw.assign({name: _wide(each.raw.variables[name], wide)}))
            if native(each.raw.variables[name].dtype) != wide
            else each
            for each in found
        ]
    return found, warnings


def _wide(variable: xr.Variable, kind: np.dtype[Any]) -> xr.Variable:
    fills = {key: kind.type(variable.attrs[key]) for key in ("_FillValue", "missing_value") if key in variable.attrs}
    return computed(variable, lambda values: values, kind, {**variable.attrs, **fills})


def _same_calendars(sources: Sequence[OpenedSource]) -> None:
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
    cure = f"files of one series have one calendar: {_APART}"
    _Differences(CalendarMismatch, "calendar-mismatch", cure).refuse(found, sources[0].name)


def _same_units(sources: Sequence[OpenedSource]) -> None:
    found = []
    cures: dict[str, str | None] = {}
    for key in sources[0].raw.variables:
        name = str(key)
        first = _units(sources[0].raw, name)
        for each in sources[1:]:
            other = _units(each.raw, name)
            if _plain_units(first) != _plain_units(other):
                found.append((each.name, f"{name!r} has the units {str(other)[:40]!r} and not {str(first)[:40]!r}"))
                can = isinstance(first, str) and isinstance(other, str) and conversion(other, first) is not None
                cures[name] = first if can else None
    next_step = None
    if None not in cures.values():
        next_step = f"convert them: --transform 'convert_units: {{{', '.join(f'{name}: {to}' for name, to in cures.items())}}}'"
    elif found:
        next_step = "cubeport cannot convert one into the other: ingest the file as a separate dataset, or correct its units"
    _Differences(UnitsMismatch, "units-mismatch", next_step).refuse(found, sources[0].name)


def _units(raw: xr.Dataset, name: str) -> Any:
    return raw.variables[name].attrs.get("units")


def _plain_units(units: Any) -> str | None:
    """Return units in a form in which aliases are equal. Times with equally long units count as equal, because they are
    converted.
    """
    if not isinstance(units, str):
        return None if units is None else str(units)
    if since := _OWN_UNITS.match(units):
        unit = _time_unit(since[1])
        return "since" if unit in _MICROSECONDS else f"{unit} since"
    return canonical(units)


def _time_unit(text: str) -> str:
    plain = text.lower()
    return _SHORT.get(plain) or _SHORT.get(plain.rstrip("s")) or plain.rstrip("s")


def _dated(raw: xr.Dataset) -> Mapping[str, xr.Variable]:
    return {str(name): each for name, each in raw.variables.items() if times.is_time_units(each.attrs.get("units"))}


def _reference(variable: xr.Variable, name: str) -> calendars.Stamp:
    """Return the reference date of a time variable."""
    return times.decode([0], variable.attrs["units"], times.calendar_of(variable.attrs, name=name), name=name)[0]


def at_reference(first: OpenedSource, source: OpenedSource) -> OpenedSource:
    """Return *source* with its times converted to the units and reference date of *first*. The moments stay the same."""
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
            held[each] = _counted_as(variable.attrs["units"], source.name, each, held[each], gap, units)
        held[name].attrs["units"] = variable.attrs["units"]
    return replace(source, raw=dataset(held, source.raw.attrs))


def _counted_as(wanted: str, source: str, name: str, variable: xr.Variable, gap: int, units: str) -> xr.Variable:
    """Return times in *units* as numbers of *wanted*, whose reference date is *gap* microseconds earlier.

    Raises UnitsMismatch if a number would be another moment or would not fit into the type.
    """
    own, unit = (_MICROSECONDS.get(_time_unit(text.split()[0])) for text in (units, wanted))
    with decoding(name, source):
        values = variable.values
    moved: Values | None = None
    if own is not None and unit is not None and not set(PACKING[:2]) & set(variable.attrs):
        steps = Fraction(gap, unit)
        shift = float(steps) if values.dtype.kind == "f" else int(steps)
        if own != unit:
            moved = _in_units(values, own, unit, gap, variable.attrs)
        elif Fraction(shift) == steps:
            moved = _added(values, shift, variable.attrs)
    if moved is not None:
        return xr.Variable(variable.dims, moved, dict(variable.attrs), variable.encoding)
    raise UnitsMismatch(
        f"{source}: {name!r} has the units {units!r}; as {wanted!r}, which the other data have, they would be rounded",
        next_step="write all files with the same units of time",
    )


def _real(values: Values, attributes: Mapping[str, Any]) -> Values:
    """Return which values are not fill values."""
    fills = [np.ravel(attributes[key]) for key in ("_FillValue", "missing_value") if key in attributes]
    return ~np.isin(values, np.concatenate(fills)) if fills else np.ones(values.shape, bool)


def _in_units(values: Values, own: int, unit: int, gap: int, attributes: Mapping[str, Any]) -> Values | None:
    """Return ``(values * own + gap) / unit`` (microseconds) in their own type; ``None`` if this changes the microsecond."""
    real = _real(values, attributes) & _finite(values)
    if values.dtype.kind != "f":
        limits = np.iinfo(values.dtype)
        whole = values[real].astype(object) * own + gap
        if any(each % unit or not limits.min <= each // unit <= limits.max for each in whole.tolist()):
            return None
        moved = values.copy()
        moved[real] = (whole // unit).astype(values.dtype)
        return moved
    moments = values[real].astype("longdouble") * own + gap
    moved = values.copy()
    moved[real] = (moments / unit).astype(values.dtype)
    return moved if bool((np.abs(moved[real].astype("longdouble") * unit - moments) < 0.5).all()) else None


def _added(values: Values, shift: float, attributes: Mapping[str, Any]) -> Values | None:
    """Return ``values + shift`` in their own type, with fill values unchanged; ``None`` if this is not exact."""
    real = _real(values, attributes)
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


def _ordered(
    sources: Sequence[OpenedSource], along: str, on_overlap: OnOverlap
) -> tuple[list[OpenedSource], list[tuple[str, str]]]:
    """Return the files in the order of their times or numbers, or in the given order if they have none or have text.

    If files overlap, *on_overlap* decides which parts of them are returned.
    """
    labels = find(sources[0].raw)
    axis = next((each for each in labels.axes if each.dimension == along and each.labels), None)
    if axis is None or is_text(sources[0].raw.variables[axis.name]):
        return list(sources), []
    spans = []
    for source in sources:
        found = labels_of(source, axis.name)
        if not found:
            raise SourceRejected(f"{source.name} has no labels along {along!r}", reason="empty", source=source.name)
        first, last = (found.earliest, found.latest) if isinstance(found, Stamps) else (min(found), max(found))
        spans.append(_Span(first, last, found, source))
    descending = any(not each.is_ascending for each in spans)
    spans.sort(key=lambda span: span.first, reverse=descending)
    pairs = ((one, other) for one, other in pairwise(spans) if (one.first <= other.last if descending else other.first <= one.last))
    clash = next(pairs, None)
    if clash is None:
        return [each.source for each in spans], []
    if not descending and all(one < other for each in spans for one, other in pairwise(each.labels)):
        parts, told = _without_overlap(spans, along, on_overlap)
        if on_overlap != "error" or not told:  # files whose steps alternate, such as one for each hour of the day, have none twice
            return parts, told
    one, other = (each.source.name for each in clash)
    low, high = max(each.first for each in clash), min(each.last for each in clash)
    where = f"at {low}" if low == high else f"from {low} to {high}"
    raise SourceRejected(
        f"{one} and {other} overlap along {along!r}, {where}",
        reason="bad-time" if axis.kind == "t" else "bad-coordinates",
        source=other,
        next_step="leave one of them out; or take the steps of the file that begins last (--on-overlap replace)"
        " or of the one that begins first (--on-overlap skip)",
    )


@dataclass(frozen=True, slots=True)
class _Span:
    """One file and its labels along the dimension that files are joined along."""

    first: Any
    last: Any
    labels: Sequence[Any]
    source: OpenedSource

    @property
    def is_ascending(self) -> bool:
        return bool(self.labels[0] <= self.labels[-1])


def _without_overlap(spans: Sequence[_Span], along: str, on_overlap: OnOverlap) -> tuple[list[OpenedSource], list[tuple[str, str]]]:
    """Return parts of the files, in order, that contain each step once. A step in several files comes from the first or the
    last.
    """
    owners: dict[Any, tuple[int, int]] = {}
    for number, span in enumerate(spans):
        for at, label in enumerate(span.labels):
            if on_overlap == "replace" or label not in owners:
                owners[label] = number, at
    parts = []
    places = [owners[label] for label in sorted(owners)]
    for (number, _), group in groupby(enumerate(places), key=lambda each: (each[1][0], each[1][1] - each[0])):
        steps = [at for _, (_, at) in group]
        source = spans[number].source
        parts.append(replace(source, raw=source.raw.isel({along: slice(steps[0], steps[-1] + 1)})))
    twice = sum(len(span.labels) for span in spans) - len(owners)
    taken = "last" if on_overlap == "replace" else "first"
    several = f"{twice} steps along {along!r} are" if twice > 1 else f"one step along {along!r} is"
    told = f"{several} in several files; the file that begins {taken} counts"
    return parts, [("overlap", told)] if twice else []


def labels_of(source: OpenedSource, name: str) -> Sequence[Any]:
    """Return the labels of an axis: dates of its calendar, otherwise numbers or texts."""
    variable = source.raw.variables[name]
    with decoding(name, source.name):
        values = decoded(variable)
    if times.is_time_units(variable.attrs.get("units")):
        return times.decode(values, variable.attrs["units"], times.calendar_of(variable.attrs, name=name), name=name)
    return list(np.ravel(values).tolist())


def _same_grid(sources: Sequence[OpenedSource], along: str, tolerance: float) -> None:
    """Compare all variables that are not joined with those of the first file."""
    found = []
    most = 0.0
    for key, variable in sources[0].raw.variables.items():
        name = str(key)
        if along in variable.dims:
            shape = tuple(size for dim, size in variable.sizes.items() if dim != along)
            for each in sources[1:]:
                other = each.raw.variables[name]
                if tuple(size for dim, size in other.sizes.items() if dim != along) != shape:
                    most = np.inf
                    found.append((each.name, f"variable {name!r} has another shape"))
            continue
        with decoding(name, sources[0].name):
            values = variable.values
        for each in sources[1:]:
            with decoding(name, each.name):
                other_values = each.raw.variables[name].values
            where, apart = _differs(values, other_values, variable.dims == (name,), tolerance)
            if where is not None:
                found.append((each.name, f"{name!r} differs at {where}"))
                most = max(most, apart)
    next_step = None
    if most <= 0.5:
        next_step = f"take them as one grid: --normalise 'tolerance: {float(f'{most * 1.01:.2g}'):g}'"
    elif found:
        next_step = _cure_of_grid(sources, along, tolerance) or "ingest the files of each grid together, as a separate dataset"
    _Differences(GridMismatch, "grid-mismatch", next_step).refuse(found, sources[0].name)


def _cure_of_grid(sources: Sequence[OpenedSource], along: str, tolerance: float) -> str | None:
    """Return the steps of ``normalise`` that give all files the coordinates of the first: rows in its order, and its longitudes."""
    first = sources[0].raw
    steps: dict[str, dict[str, Any]] = {}
    for key, variable in first.variables.items():
        name = str(key)
        if variable.dims != (name,) or name == along or variable.dtype.kind not in "iuf":
            continue
        values = variable.values.astype("float64")
        for each in sources[1:]:
            other = each.raw.variables[name].values.astype("float64")
            if _differs(values, other, True, tolerance)[0] is None:
                continue
            if values.shape == other.shape and _differs(np.sort(values), np.sort(other), True, tolerance)[0] is None:
                if not (_is_sorted(values) or _is_sorted(-values)):
                    return None
                steps[name] = {"sort": [name if _is_sorted(values) else f"-{name}"]}
            elif is_longitude(name, variable) and _is_sorted(values) and values.shape == other.shape:
                frame = 180 if values.min() < 0 else 360
                turned = [np.sort((each + 360 - frame) % 360 - 360 + frame) for each in (values, other)]
                if _differs(values, turned[0], True, tolerance)[0] or _differs(values, turned[1], True, tolerance)[0]:
                    return None
                steps[name] = {"wrap_longitude": frame}
            else:
                return None
    kinds = [each for each in steps.values() if "sort" in each]
    sort = [{"sort": [name for each in kinds for name in each["sort"]]}] if kinds else []
    wrap = [each for each in steps.values() if "wrap_longitude" in each]
    return f"give them one order: {' '.join(map(flag, (*sort, *wrap)))}" if steps else None


def _is_sorted(values: Values) -> bool:
    return bool((np.diff(values) > 0).all())


def _differs(a: Values, b: Values, is_axis: bool, tolerance: float) -> tuple[str | None, float]:
    """Return where two arrays differ (``None`` if they do not), and for axes the largest difference in steps.

    Axes may differ by *tolerance* of a step, other arrays by a millionth of a value, and both by rounding in single precision.
    """
    if a.shape != b.shape:
        return f"its shape, {b.shape} and not {a.shape}", np.inf
    apart = np.inf
    if a.dtype.kind not in "fiub" or b.dtype.kind not in "fiub" or "f" not in (a.dtype.kind, b.dtype.kind):
        same = np.asarray(a == b)
    else:
        one, other = a.astype("float64"), b.astype("float64")
        single = a.dtype.itemsize < 8 or b.dtype.itemsize < 8
        with np.errstate(invalid="ignore", over="ignore"):
            noise = np.spacing(np.abs(one).astype("float32")).astype("float64") if single else np.zeros(one.shape)
            if is_axis and a.size > 1:
                step = float(np.abs(np.diff(one)).min())
                same = np.abs(one - other) <= tolerance * step + noise
                apart = float(np.abs(one - other).max()) / step if step else np.inf
            else:
                same = (np.abs(one - other) <= _RELATIVE * np.abs(one) + noise) | (np.isnan(one) & np.isnan(other)) | (one == other)
    if bool(same.all()):
        return None, 0.0
    where = np.unravel_index(int(np.argmin(same)), a.shape)
    if not where:
        return f"its value, {b!s:.40} and not {a!s:.40}", apart
    return f"index {', '.join(str(int(i)) for i in where)}, {b[where]!s:.40} and not {a[where]!s:.40}", apart


_RELATIVE = 1e-6


def _same_packing(sources: Sequence[OpenedSource], along: str) -> tuple[list[OpenedSource], list[tuple[str, str]]]:
    """Return the files with differently packed variables decoded, and a warning for each such variable."""
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
    # Compared bit by bit, so that 0.1 as float32 is not 0.1.
    kept = {key: value for key, value in variable.attrs.items() if key in PACKING and not says_nothing(key, value, variable.dtype)}
    given = [np.asarray(kept[key]).tobytes() if key in kept else None for key in PACKING if key not in MISSING]
    return missing_numbers(variable.attrs, variable.dtype), *given


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
    """A decoded variable, converted to a type for the values of all files."""

    def __init__(self, variable: xr.Variable, dtype: np.dtype[Any]) -> None:
        self._variable = variable
        self.shape, self.dtype = variable.shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        return np.asarray(self._variable[key].values).astype(self.dtype)


class Joined(BackendArray):
    """A lazy concatenation of arrays. Only the requested parts are read."""

    def __init__(self, name: str, sources: Sequence[str], pieces: Sequence[xr.Variable], axis: int) -> None:
        self._name, self._sources, self.pieces, self.axis = name, sources, pieces, axis
        self._stops = np.cumsum([piece.shape[axis] for piece in pieces]).tolist()
        shape = list(pieces[0].shape)
        shape[axis] = self._stops[-1]
        self.shape, self.dtype = tuple(shape), pieces[0].dtype.newbyteorder("=")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        along = key[self.axis]
        if not isinstance(along, slice):
            piece = int(np.searchsorted(self._stops, along, side="right"))
            return self._piece(piece, key, along - self._start(piece))
        start, stop, step = along.indices(self.shape[self.axis])  # the adapter passes only positive steps
        parts = [
            self._piece(piece, key, slice(max(start - self._start(piece), 0), min(stop, end) - self._start(piece)))
            for piece, end in enumerate(self._stops)
            if self._start(piece) < stop and start < end
        ]
        axis = sum(isinstance(each, slice) for each in key[: self.axis])
        whole = np.concatenate(parts or [self._piece(0, key, slice(0))], axis=axis)
        return whole[(slice(None),) * axis + (slice(None, None, step),)]

    def _start(self, piece: int) -> int:
        return int(self._stops[piece - 1]) if piece else 0

    def _piece(self, piece: int, key: tuple[Any, ...], along: Any) -> Values:
        with decoding(self._name, self._sources[piece]):
            values = self.pieces[piece][(*key[: self.axis], along, *key[self.axis + 1 :])].values
        return np.asarray(values).astype(self.dtype, copy=False)


class Part(NamedTuple):
    """A part of a joined array."""

    start: int
    """Where it begins along the axis of the join."""
    variable: xr.Variable
    source: str
    """The name of its file."""


class Parts(BackendArray):
    """An array of which only some consecutive *parts* are here. No other values are read."""

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], axis: int, parts: Sequence[Part]) -> None:
        parts = sorted(parts, key=lambda part: part.start)
        self._joined = Joined(name, [part.source for part in parts], [part.variable for part in parts], axis)
        self._first, self._axis = parts[0].start, axis
        if any(one.start + one.variable.shape[axis] != other.start for one, other in pairwise(parts)):
            raise ValueError("the parts are not consecutive")
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> Values:
        start, stop, step = key[self._axis].indices(self.shape[self._axis])
        first, last = start - self._first, stop - self._first
        if first < 0 or last > self._joined.shape[self._axis]:
            raise IndexError("this part of the array is not here")
        inner = (*key[: self._axis], slice(first, last, step), *key[self._axis + 1 :])
        return np.asarray(self._joined[indexing.BasicIndexer(inner)])


def in_memory(variable: xr.Variable) -> bool:
    """Return whether all values of a variable, joined or not, are in memory."""
    data = variable._data  # noqa: SLF001 - what xarray reads from
    if isinstance(data, indexing.LazilyIndexedArray) and isinstance(data.array, Joined):
        return all(map(in_memory, data.array.pieces))
    return isinstance(data, np.ndarray)


def _joined(sources: Sequence[OpenedSource], name: str, along: str) -> xr.Variable:
    pieces = [each.raw.variables[name] for each in sources]
    first = pieces[0]
    axis = first.dims.index(along)
    if first.dtype == TEXT:
        return xr.Variable(first.dims, np.concatenate([piece.values for piece in pieces], axis=axis), first.attrs)
    lazily = indexing.LazilyIndexedArray(Joined(name, [each.name for each in sources], pieces, axis))
    return xr.Variable(first.dims, lazily, first.attrs, first.encoding)
