"""Measure a cube once, when a version is sealed. Every number of its description comes from the stored bytes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cubeport.cubes import crs as reference
from cubeport.cubes import footprint, periods, times
from cubeport.cubes.axes import CubeAxes, FoundAxis
from cubeport.cubes.calendars import CalendarName, Stamp, gregorian
from cubeport.cubes.cells import bounds, cells_of, degrees, labels, places, steps
from cubeport.cubes.decoding import decoded, opened
from cubeport.cubes.description import Axis, BoundingBox, Crs, CubeDescription, Grid, Spatial, Temporal, Variable
from cubeport.cubes.grids import heights_of, position_dims, reach_of
from cubeport.cubes.groups import find
from cubeport.cubes.periods import TimeLabel
from cubeport.cubes.presence import Presence
from cubeport.cubes.spread import Part, Spread, Values, part_of, together
from cubeport.cubes.stamps import Stamps
from cubeport.cubes.undeclared import undeclared
from cubeport.cubes.variables import is_latitude, is_longitude, is_text, text_dims
from cubeport.errors import SourceRejected, VariablesMismatch

if TYPE_CHECKING:
    import xarray as xr

_SHOWN = (
    "standard_name",
    "long_name",
    "units",
    "cell_methods",
    "positive",
    "calendar",
    "valid_range",
    "flag_values",
    "flag_meanings",
)

_BLOCK_BYTES = 32 * 1024 * 1024
"""How many decoded bytes are in memory at the same time while values are measured."""

_LISTED = 10_000
_LISTED_TIMES = 1_000


def describe(
    raw: xr.Dataset,
    *,
    chunks: Mapping[str, tuple[int, ...]] | None = None,
    fields: Sequence[str] | None = None,
    ranges: Mapping[str, Values | None] | None = None,
    presence: Presence | None = None,
    time_label: TimeLabel = "start",
    years: tuple[int, int] | None = None,
) -> CubeDescription:
    """Return the description of a dataset.

    Parameters
    ----------
    raw
        Opened with ``decode_cf=False`` and lazily indexable. Its values are read once, in blocks.
    chunks
        Chunk lengths of the store, by variable. Without them, those of the encoding are used, otherwise the shape.
    fields
        The data variables to offer together; ``None`` selects those on the axes that most of them share.
    ranges
        What is known already of the values of some variables, ``None`` for nothing. Their values are not read.
    presence
        What is known already of which steps have a value.
    time_label
        Which moment of its period each label of time is.
    years
        The first and the last year of a climatology, where no bounds of CF 7.4 tell them; ``None`` for other times.

    Raises
    ------
    SourceRejected
        If time or coordinates cannot be read, or there is no data variable. ``checks.check`` reports these problems in more detail.
    VariablesMismatch
        If the dataset does not have one of *fields*.
    """
    missing = [name for name in fields or () if name not in raw.variables]
    if missing:
        raise VariablesMismatch(f"there is no variable {', '.join(map(repr, missing))}")
    found = find(raw, fields)
    if not found.fields:
        raise SourceRejected("no variable contains data", reason="not-a-cube")
    notes = list(found.notes)
    axes, spatial, temporal, grids = _extents(raw, found, time_label, years)
    along = _along(raw, found, temporal)
    if presence is None and along is not None:
        presence = Presence(along, int(raw.sizes[along]))
    if temporal is not None and temporal.statistic is not None:
        words = f"{temporal.axis!r} is that of a climatology: {temporal.statistic}"
        notes.append(("climatology", f"{words}, and the year in its label is only one of them"))
    variables = tuple(_variable(raw, name, found, chunks or {}, ranges or {}, notes, presence) for name in map(str, raw.variables))
    if temporal is not None and presence is not None and presence.dimension == along:
        temporal = _with_empty(raw, found, temporal, presence, chunks or {}, ranges or {})
    return CubeDescription(
        axes=axes,
        variables=variables,
        fields=found.fields,
        spatial=spatial,
        temporal=temporal,
        grids=grids if fields is None else (),
        title=_text(raw.attrs, "title"),
        description=_text(raw.attrs, "summary", "description", "comment", "abstract"),
        license=_text(raw.attrs, "license", "licence"),
        attributes={str(key): plain(value) for key, value in raw.attrs.items()},
        size_bytes=sum(math.prod(v.shape) * _item_bytes(v) for v in variables),
        warnings=tuple(dict.fromkeys(notes)),
    )


def where_and_when(raw: xr.Dataset) -> tuple[BoundingBox | None, tuple[Temporal, ...]]:
    """Return the box of a dataset and the times of its grids, from its coordinates alone. No data values are read.

    Raises
    ------
    SourceRejected
        When time or coordinates cannot be read.
    """
    _, spatial, temporal, grids = _extents(raw, find(raw))
    return spatial.bbox, tuple(each for each in (temporal, *(grid.temporal for grid in grids)) if each is not None)


def _extents(
    raw: xr.Dataset, found: CubeAxes, time_label: TimeLabel = "start", years: tuple[int, int] | None = None
) -> tuple[tuple[Axis, ...], Spatial, Temporal | None, tuple[Grid, ...]]:
    axes, spatial, temporal = _extent(raw, found, time_label, years)
    grids: list[Grid] = []
    for other in found.others:
        along, place, time = _extent(raw, other, time_label, years)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", other.fields[0])
        taken = {each.name for each in grids}
        names = itertools.chain([name], (f"{name}-{n}" for n in itertools.count(2)))
        unique = next(each for each in names if each not in taken)
        grids.append(Grid(name=unique, axes=along, fields=other.fields, spatial=place, temporal=time))
    return axes, _box_of_all(spatial, [each.spatial for each in grids]), temporal, tuple(grids)


def _extent(
    raw: xr.Dataset, found: CubeAxes, time_label: TimeLabel, years: tuple[int, int] | None
) -> tuple[tuple[Axis, ...], Spatial, Temporal | None]:
    stamps = {a.name: _stamps(raw, a) for a in found.axes if a.kind == "t" and a.labels is not None}
    axes = tuple(_axis(raw, found, each, stamps.get(each.name)) for each in found.axes)
    return axes, _spatial(raw, found, axes), _temporal(raw, found, stamps, time_label, years)


def _box_of_all(spatial: Spatial, others: Sequence[Spatial]) -> Spatial:
    """Return the place with a box around all variables, including those on other grids than the fields."""
    import numpy as np

    known = [each.bbox for each in (spatial, *others) if each.bbox is not None]
    if len(set(known)) < 2:
        return spatial if spatial.bbox is not None or not known else spatial.model_copy(update={"bbox": known[0]})
    west = np.array([box[0] for box in known])
    east = np.array([box[2] + (360.0 if box[2] < box[0] else 0.0) for box in known])
    start, width = footprint.covered(west, east)
    south, north = min(box[1] for box in known), max(box[3] for box in known)
    return spatial.model_copy(update={"bbox": footprint.box(start, south, start + width, north)})


def plain(value: Any) -> Any:
    """Return an attribute as a JSON value; NaN and infinities become text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _text(attributes: Mapping[Any, Any], *names: str) -> str | None:
    lowered = {str(key).lower(): value for key, value in attributes.items()}
    return next((value.strip() for n in names if isinstance(value := lowered.get(n), str) and value.strip()), None)


def _stamps(raw: xr.Dataset, axis: FoundAxis) -> tuple[CalendarName, Stamps]:
    variable = raw.variables[axis.name]
    calendar = times.calendar_of(variable.attrs, name=axis.name)
    return calendar, times.decode(decoded(variable, name=axis.name), str(variable.attrs.get("units", "")), calendar, name=axis.name)


def _axis(raw: xr.Dataset, cube: CubeAxes, found: FoundAxis, stamps: tuple[CalendarName, Stamps] | None) -> Axis:
    size = 1 if found.scalar else int(raw.sizes[found.dimension])
    if found.labels is None:
        return Axis(name=found.name, dimension=found.dimension, kind=found.kind, size=size)
    variable = raw.variables[found.labels]
    positive = str(variable.attrs.get("positive", "")).strip().lower()
    common: dict[str, Any] = {
        "name": found.labels,
        "dimension": found.dimension,
        "kind": found.kind,
        "size": size,
        "units": _text(variable.attrs, "units"),
        "standard_name": _text(variable.attrs, "standard_name"),
        "long_name": _text(variable.attrs, "long_name"),
        "positive": positive if positive in ("up", "down") else None,
        "bounds": found.bounds,
        "scalar": found.scalar,
    }
    values = labels(raw, found.labels)
    if values.dtype.kind in "SUOT":
        return Axis(**common, values=tuple(map(str, values.tolist()))[:_LISTED])
    if len(values) == 0:
        return Axis(**common)
    edges = cells_of(raw, cube, found)
    if cube.family == "rectilinear" and found.name in (cube.x, cube.y) and degrees(raw, found.name) != 1.0:
        values, common["units"] = edges.labels, "degrees"
    regular, step = steps(values)
    lower, upper = edges.outer
    shown: tuple[float | str, ...] | None = None
    if stamps is None and not regular and len(values) <= _LISTED:
        shown = tuple(values.tolist())
    return Axis(
        **common,
        regular=regular,
        ascending=bool(values[-1] > values[0]) if len(values) > 1 else None,
        first=float(values[0]),
        last=float(values[-1]),
        step=step if regular else None,
        lower=lower,
        upper=upper,
        values=shown,
    )


def _variable(
    raw: xr.Dataset,
    name: str,
    found: CubeAxes,
    chunks: Mapping[str, tuple[int, ...]],
    ranges: Mapping[str, Values | None],
    notes: list[tuple[str, str]],
    presence: Presence | None,
) -> Variable:
    variable = raw.variables[name]
    role = found.roles[name]
    shape = tuple(int(n) for n in variable.shape)
    given = chunks.get(name) or variable.encoding.get("chunks") or variable.encoding.get("chunksizes") or shape
    own = tuple(min(int(n), m) if m else 1 for n, m in zip(given, shape, strict=True))
    seen, said = opened(variable, name=name)
    notes += [("decoding", f"{name!r}: {words}") for words in said]
    spread = Spread()
    if role in ("data", "auxiliary") and not is_text(variable):
        known = ranges[name] if name in ranges else _values(seen, own, name=name, presence=presence)
        unread, known = known is None, known or Values()
        spread, far, endless = known if seen.dtype.kind == "f" else known.of_classes()
        if endless:
            words = f"{name!r} has infinite values; JSON has no number for them, so CoverageJSON shows them as missing (null)"
            notes.append(("infinite", f"{words}, while Zarr, NetCDF and CSV contain them"))
        if far:
            words = f"{name!r} has values far beyond all others, perhaps a fill value that is not declared; colours leave them out"
            notes.append(("outliers", words))
        if role == "data" and spread.least is None and not unread and seen.size and seen.dtype.kind in "iuf":
            words = f"{name!r} has no finite value in any of its {seen.size:,} cells, so maps and tables of it are empty"
            notes.append(("all-missing", f"{words}; to leave it out, ingest the others with --variables"))
        if "cf_role" not in variable.attrs:  # a mesh topology has attributes only, and an id is no value
            notes += undeclared(name, variable, spread)
    mapping = variable.attrs.get("grid_mapping")
    return Variable(
        name=name,
        role=role,
        dimensions=tuple(map(str, variable.dims)),
        shape=shape,
        chunks=own,
        dtype=_dtype(variable.dtype),
        decoded_dtype=_dtype(seen.dtype),
        units=_text(variable.attrs, "units"),
        standard_name=_text(variable.attrs, "standard_name"),
        long_name=_text(variable.attrs, "long_name"),
        nodata=_nodata(variable),
        grid_mapping=mapping.split(":")[0].split()[0] if isinstance(mapping, str) and mapping.strip() else None,
        attributes={key: plain(variable.attrs[key]) for key in _SHOWN if key in variable.attrs},
        valid_min=spread.least,
        valid_max=spread.greatest,
        shown_min=spread.low,
        shown_max=spread.high,
    )


def _dtype(dtype: Any) -> str:
    return "string" if dtype.kind in "SUOT" else str(dtype.name)


def _nodata(variable: Any) -> float | int | str | None:
    value = variable.attrs.get("_FillValue", variable.attrs.get("missing_value"))
    if value is None or is_text(variable):
        return None
    listed = plain(value)
    first = listed[0] if isinstance(listed, list) and listed else listed
    if isinstance(first, str):
        return first if first in ("nan", "inf", "-inf") else None
    return first if isinstance(first, int | float) and not isinstance(first, bool) else None


def value_range(
    variable: xr.Variable,
    name: str,
    chunks: tuple[int, ...],
    *,
    beyond: tuple[int, int] = (0, 0),
    first: int = 0,
    presence: Presence | None = None,
) -> Values:
    """Return what is known of the values of a variable, as :func:`describe` measures them.

    *beyond* is an axis, and how many places along it are known already: their chunks are read, but they do not count. For
    *presence*, *first* is the step with which the variable begins.
    """
    if is_text(variable):
        return Values()
    own = tuple(min(n, m) if m else 1 for n, m in zip(chunks, variable.shape, strict=True))
    seen, _ = opened(variable, name=name)
    found = _values(seen, own, name=name, beyond=beyond, first=first, presence=presence)
    return found if seen.dtype.kind == "f" else found.of_classes()


def _values(
    seen: Any,
    chunks: tuple[int, ...],
    *,
    name: str,
    beyond: tuple[int, int] = (0, 0),
    first: int = 0,
    presence: Presence | None = None,
) -> Values:
    """Return what is known of the values. Whole chunks are read, a limited number at a time."""
    if not is_measured(seen):
        return Values()
    axis, known = beyond
    total = math.prod(size - known * (number == axis) for number, size in enumerate(seen.shape))
    parts: list[Part] = []
    for window in blocks(seen.shape, chunks, seen.dtype.itemsize):
        values = values_in(seen, window)
        if presence is not None and presence.dimension in seen.dims:
            begin = window[seen.dims.index(presence.dimension)].start
            presence.note(name, seen.dims, first + begin, values)
        if known and known > window[axis].start:
            values = values[(slice(None),) * axis + (slice(known - window[axis].start, None),)]
        if values.size:
            parts.append(part_of(values, chunks, total))
    return together(parts)


def is_measured(seen: Any) -> bool:
    """Return whether the ends of the values of a decoded variable are measured: whether they are numbers."""
    return seen.dtype.kind in "iufb"


def values_in(seen: Any, block: tuple[slice, ...]) -> Any:
    """Return the values of a block as an array."""
    import numpy as np

    return np.asarray(seen[block].values)


def blocks(shape: Sequence[int], chunks: Sequence[int], item_bytes: int, limit: int = _BLOCK_BYTES) -> Iterator[tuple[slice, ...]]:
    """Yield windows that cover an array once. Each has whole chunks and at most *limit* decoded bytes, or is a single chunk."""
    if 0 in shape:
        return
    lengths = list(chunks)
    for axis in reversed(range(len(shape))):
        rest = math.prod(lengths) // lengths[axis] * item_bytes
        most = max(1, limit // max(1, rest * chunks[axis]))
        lengths[axis] = min(chunks[axis] * most, max(shape[axis], 1))
        if lengths[axis] < shape[axis]:
            break
    ranges = ([slice(a, min(a + n, size)) for a in range(0, size, n)] for size, n in zip(shape, lengths, strict=True))
    yield from itertools.product(*ranges)


def _item_bytes(variable: Variable) -> int:
    import numpy as np

    return 1 if variable.decoded_dtype == "string" else int(np.dtype(variable.decoded_dtype).itemsize)


def _spatial(raw: xr.Dataset, found: CubeAxes, axes: Sequence[Axis]) -> Spatial:
    match found.family:
        case "rectilinear":
            return _rectilinear(raw, found, axes)
        case "projected":
            return _projected(found, axes)
        case "curvilinear" | "unstructured":
            x, y = str(found.x), str(found.y)
            scale, reach = degrees(raw, x), reach_of(raw, found)
            lon, lat = places(raw, x), places(raw, y)
            # Stations and trajectories are points; only cells extend beyond their positions.
            bbox = footprint.positions(lon, lat, footprint.corners_of(raw, x, y), spread=reach is None)
            return Spatial(
                family=found.family,
                bbox=bbox,
                x=x,
                y=y,
                crs=reference.crs84(),
                to_crs=scale,
                reach=reach,
                z=heights_of(raw, found),
                dimensions=position_dims(raw, x),
            )
        case _:
            return Spatial(family="none", bbox=named_place(raw, found))


def named_place(raw: xr.Dataset, found: CubeAxes) -> BoundingBox | None:
    """Return the box of positions that the fields name but do not vary along, such as that of a mooring, or ``None``."""
    words = [word for name in found.fields for word in str(raw.variables[name].attrs.get("coordinates", "")).split()]
    named = [word for word in dict.fromkeys(words) if word in raw.variables and raw.variables[word].ndim == 1]
    lon = next((name for name in named if is_longitude(name, raw.variables[name])), None)
    lat = next((name for name in named if is_latitude(name, raw.variables[name])), None)
    if lon is None or lat is None or raw.variables[lon].shape != raw.variables[lat].shape:
        return None
    import numpy as np

    x, y = places(raw, lon), places(raw, lat)
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any() or np.abs(x[known]).max() > 720 or np.abs(y[known]).max() > 90:
        return None
    return footprint.positions(x, y, None, spread=False)


def _native(found: CubeAxes, axes: Sequence[Axis]) -> tuple[Axis, Axis, tuple[float, float, float, float]]:
    x = next(axis for axis in axes if axis.name == found.x)
    y = next(axis for axis in axes if axis.name == found.y)
    if x.lower is None or x.upper is None or y.lower is None or y.upper is None:
        raise SourceRejected(f"coordinates {x.name!r} and {y.name!r} are not numbers", reason="bad-coordinates")
    return x, y, (x.lower, y.lower, x.upper, y.upper)


def _rectilinear(raw: xr.Dataset, found: CubeAxes, axes: Sequence[Axis]) -> Spatial:
    x, y, native = _native(found, axes)
    west, south, east, north = native
    bbox = footprint.box(west, south, east, north)
    return Spatial(
        family="rectilinear", bbox=bbox, native_bbox=native, x=x.name, y=y.name, crs=reference.crs84(), to_crs=degrees(raw, x.name)
    )


def _projected(found: CubeAxes, axes: Sequence[Axis]) -> Spatial:
    x, y, native = _native(found, axes)
    crs = reference.from_attributes(found.mapping)
    if crs is None:
        raise SourceRejected("the grid mapping is unknown", reason="bad-coordinates")
    largest = max(map(abs, native))
    factor = reference.unit_factor(crs, x.units, largest=largest, attributes=found.mapping)
    assert factor is not None  # with other units the family is not projected
    view = found.mapping if found.mapping.get("grid_mapping_name") == "geostationary" else None
    bbox = footprint.projected(crs, native, factor=factor, geostationary=view)
    return Spatial(
        family="projected",
        bbox=bbox,
        native_bbox=native,
        x=x.name,
        y=y.name,
        crs=reference.describe(crs, found.mapping),
        to_crs=factor,
        labels_crs=_of_labels(crs, factor, x.units, found.mapping),
    )


def _of_labels(crs: Any, factor: float, units: str | None, mapping: Mapping[str, Any]) -> Crs | None:
    """Return the reference system in the units of the labels; ``None`` if they are its own."""
    if abs(factor - 1) < 1e-9:
        return None
    of_height = mapping.get("grid_mapping_name") == "geostationary" and reference.metres_of(units) is None
    name = f"{units or 'radian'} at the height of the satellite" if of_height else str(units)
    return reference.describe(reference.in_units_of(crs, factor, name), {})


def _time_axis(raw: xr.Dataset, found: CubeAxes) -> FoundAxis | None:
    """Return the axis of the steps of the fields."""
    own = {str(d) for name in found.fields for d in raw.variables[name].dims}
    times = (a for a in found.axes if a.kind == "t" and a.labels is not None and (a.scalar or a.dimension in own))
    return next(times, None)


def _along(raw: xr.Dataset, found: CubeAxes, temporal: Temporal | None) -> str | None:
    """Return the dimension of the steps, if they have one."""
    if temporal is None or temporal.dimensions or (axis := _time_axis(raw, found)) is None or axis.scalar:
        return None
    return axis.dimension


def _with_empty(
    raw: xr.Dataset,
    found: CubeAxes,
    temporal: Temporal,
    presence: Presence,
    chunks: Mapping[str, tuple[int, ...]],
    ranges: Mapping[str, Values | None],
) -> Temporal:
    """Return it with the steps at which no field has a value."""
    names = [name for name in found.fields if presence.dimension in raw.variables[name].dims]
    for name in names:
        if presence.knows(name):
            continue
        seen, _ = opened(raw.variables[name], name=name)
        if not is_measured(seen) or ranges.get(name, Values()) is None:
            return temporal  # texts and dates are values too, and what is not read is unknown
        presence.search(name, seen, chunks.get(name) or seen.shape)
    lacking = presence.without(names)
    axis = _time_axis(raw, found)
    assert axis is not None
    moments = _moments(raw, axis, _stamps(raw, axis), temporal) if lacking else ()
    told = (*presence.empty, *(str(moments[number]) for number in lacking[:_LISTED_TIMES]))
    return temporal.model_copy(update={"empty": told[:_LISTED_TIMES], "empty_count": presence.count + len(lacking)})


def _bounds_of(
    raw: xr.Dataset, axis: FoundAxis, stamps: tuple[CalendarName, Stamps]
) -> tuple[tuple[Stamps, Stamps], tuple[Stamps, Stamps] | None]:
    """Return the starts and ends of the steps, and the same if they are where the steps begin and end, or ``None``."""
    calendar, labelled = stamps
    given = bounds(raw, axis)
    if given is None:
        return (labelled, labelled), None
    edges = raw.variables[str(axis.bounds)].attrs
    units = str(edges.get("units", raw.variables[axis.name].attrs.get("units", "")))
    starts, ends = (times.decode(given[:, side], units, calendar, name=str(axis.bounds)) for side in (0, 1))
    # The bounds of a climatology give the years that it covers, not where its steps begin and end.
    return (starts, ends), None if "climatology" in raw.variables[axis.name].attrs else (starts, ends)


def _moments(raw: xr.Dataset, axis: FoundAxis, stamps: tuple[CalendarName, Stamps], temporal: Temporal) -> Sequence[Stamp]:
    """Return the moments that decide the period of each step, also in a period type that the labels do not tell."""
    calendar, labelled = stamps
    kind = temporal.period_type or "irregular"
    if kind in ("irregular", "climatology"):
        return periods.within(labelled, calendar, temporal.time_label)
    return periods.moments(labelled, kind, calendar, _bounds_of(raw, axis, stamps)[1], temporal.time_label)


def _temporal(
    raw: xr.Dataset,
    found: CubeAxes,
    stamps: Mapping[str, tuple[CalendarName, Stamps]],
    time_label: TimeLabel,
    years: tuple[int, int] | None,
) -> Temporal | None:
    if found.times is not None:
        return _times_of_each(raw, found.times)
    axis = _time_axis(raw, found)
    if axis is None:
        return None
    calendar, labelled = stamps[axis.name]
    if not labelled:
        return None
    (starts, ends), whole = _bounds_of(raw, axis, stamps[axis.name])
    step = times.step_of(labelled, calendar, whole[0] if whole is not None else None)
    outer = str(gregorian(starts.earliest)), str(gregorian(ends.latest))
    if raw.variables[axis.name].attrs.get("climatology") in raw.variables:
        kind, years = "climatology", None  # its labels look like periods of one year
    elif years is not None:
        kind, outer = "climatology", (f"{years[0]:04d}-01-01T00:00:00Z", f"{years[1] + 1:04d}-01-01T00:00:00Z")
    else:
        kind = periods.infer(labelled, calendar, whole, frequency=_text(raw.attrs, "frequency"))
    said: dict[str, Any] = {}
    if kind != "climatology":
        numbers = periods.numbers_of(periods.moments(labelled, kind, calendar, whole, time_label), kind, calendar)

        def native(number: int) -> str:
            return periods.format_period(number, kind, calendar)

        holes = periods.gaps(numbers) if kind != "irregular" else ()
        said = {"first_period": native(numbers[0]), "last_period": native(numbers[-1])}
        said["gaps"] = tuple(
            (native(first), native(last), last - first + 1) for first, last in itertools.islice(holes, _LISTED_TIMES)
        )
    return Temporal(
        axis=axis.name,
        calendar=calendar,
        start=str(labelled[0]),
        end=str(labelled[-1]),
        count=len(labelled),
        step=step,
        values=tuple(map(str, labelled)) if step is None and len(labelled) <= _LISTED_TIMES else None,
        given_years=years,
        index_start=outer[0],
        index_end=outer[1],
        time_label=time_label,
        period_type=kind,
        **said,
    )


def _times_of_each(raw: xr.Dataset, name: str) -> Temporal | None:
    """Return the temporal extent of values whose times vary along several dimensions, or along positions in no order."""
    import numpy as np

    variable = raw.variables[name]
    calendar = times.calendar_of(variable.attrs, name=name)
    numbers = np.asarray(decoded(variable, name=name), dtype="float64").ravel()
    known = np.unique(numbers[np.isfinite(numbers)])
    if not known.size:
        return None
    stamps = times.decode(known, str(variable.attrs.get("units", "")), calendar, name=name)
    return Temporal(
        axis=name,
        dimensions=text_dims(variable),
        calendar=calendar,
        start=str(stamps[0]),
        end=str(stamps[-1]),
        count=len(stamps),
        values=tuple(map(str, stamps)) if len(stamps) <= _LISTED_TIMES else None,
        index_start=str(gregorian(stamps[0])),
        index_end=str(gregorian(stamps[-1])),
        period_type="irregular",
        first_period=str(stamps[0]),
        last_period=str(stamps[-1]),
    )
