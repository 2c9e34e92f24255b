"""Find the axes of a gridded dataset by the CF conventions: by attributes first, then by names, never by position.

Datasets are *undecoded* (``decode_cf=False``): attributes such as ``coordinates``, ``bounds`` and ``grid_mapping`` are still there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from cubeport.cubes import crs as reference
from cubeport.cubes.companions import companions, of_topology
from cubeport.cubes.decoding import decoded as decoded
from cubeport.cubes.description import AxisKind, GridFamily
from cubeport.cubes.times import is_time_units

if TYPE_CHECKING:
    import xarray as xr

type Role = Literal["data", "auxiliary", "coordinate", "bounds", "grid_mapping"]

_LON_UNITS = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}
_LAT_UNITS = {"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"}
PRESSURE_UNITS = {"pa", "hpa", "kpa", "mb", "mbar", "millibar", "millibars", "bar", "dbar", "decibar", "atm", "pascal"}

_STANDARD_NAMES: dict[str, AxisKind] = {
    "longitude": "x",
    "grid_longitude": "x",
    "projection_x_coordinate": "x",
    "projection_x_angular_coordinate": "x",
    "latitude": "y",
    "grid_latitude": "y",
    "projection_y_coordinate": "y",
    "projection_y_angular_coordinate": "y",
    "time": "t",
    "forecast_reference_time": "other",
    "forecast_period": "other",
    "realization": "member",
    "air_pressure": "z",
    "sea_water_pressure": "z",
    "altitude": "z",
    "height": "z",
    "depth": "z",
    "geopotential_height": "z",
    "model_level_number": "z",
    "height_above_mean_sea_level": "z",
    "height_above_reference_ellipsoid": "z",
    "height_above_geopotential_datum": "z",
    "depth_below_geoid": "z",
    "depth_below_sea_surface": "z",
}
_VERTICAL = re.compile(r"(atmosphere|ocean)_\w*coordinate\w*")

_UCAR_TYPES: dict[str, AxisKind] = {
    "lon": "x",
    "geox": "x",
    "lat": "y",
    "geoy": "y",
    "height": "z",
    "pressure": "z",
    "geoz": "z",
    "time": "t",
    "runtime": "other",
    "ensemble": "member",
}

_NAMES: tuple[tuple[AxisKind, re.Pattern[str]], ...] = (
    ("x", re.compile(r"x|xc|rlon|lon|long|longitude|nav_lon|easting|x_?coord(inate)?|projection_x_coordinate")),
    ("y", re.compile(r"y|yc|rlat|lat|latitude|nav_lat|northing|y_?coord(inate)?|projection_y_coordinate")),
    (
        "z",
        re.compile(
            r"z|lev|levels?|plev\d*|depth|height|altitude|pressure|isobaric\w*|heightaboveground|deptht|depthu|depthv|depthw"
        ),
    ),
    ("member", re.compile(r"member|members|member_id|realization|realisation|ensemble|ensemble_member|ens|number")),
)


@dataclass(frozen=True, slots=True)
class FoundAxis:
    """One dimension of the data variables, or a scalar coordinate, with its coordinate variable."""

    dimension: str
    """The dimension; for a scalar coordinate, its own name."""
    labels: str | None
    kind: AxisKind
    bounds: str | None = None
    scalar: bool = False
    apart: bool = False
    """Whether a variable with more dimensions has the name of the dimension, such as the positions ``lat(lat, lon)``."""

    @property
    def name(self) -> str:
        """The coordinate variable, or the dimension if it has no coordinate variable."""
        return self.labels or (f"{self.dimension}_index" if self.apart else self.dimension)


@dataclass(frozen=True, slots=True)
class CubeAxes:
    """The role of each variable, and the axes of the fields."""

    roles: Mapping[str, Role]
    axes: tuple[FoundAxis, ...]
    fields: tuple[str, ...]
    family: GridFamily
    x: str | None
    y: str | None
    """Names of the horizontal coordinate variables; for curvilinear and unstructured grids, of the 2-D or 1-D positions."""
    mapping: Mapping[str, Any]
    """Attributes of the grid mapping of the fields; empty if there is none."""
    notes: tuple[tuple[str, str], ...] = ()
    """``(kind, message)`` for everything that was ignored."""
    times: str | None = None
    """The variable with the times of the values if time is not an axis: the valid time of each run and step, or the time of each
    point of several trajectories."""
    others: tuple[CubeAxes, ...] = ()
    """The axes of the data variables that are not fields but have a place or a time, grouped by the cells that they share."""

    def axis_of(self, kind: AxisKind) -> FoundAxis | None:
        """Return the axis of this kind among the dimensions of the fields, or ``None``."""
        return next((axis for axis in self.axes if axis.kind == kind), None)


def find(raw: xr.Dataset, fields: Sequence[str] | None = None) -> CubeAxes:
    """Return the axes of an undecoded dataset. Only one-dimensional labels are read.

    Parameters
    ----------
    raw
        Opened with ``decode_cf=False``.
    fields
        The data variables to offer together; ``None`` selects the largest group that shares its axes.
    """
    named = _named_coordinates(raw)
    roles = _roles(raw, named)
    data = [name for name, role in roles.items() if role == "data"]
    notes: list[tuple[str, str]] = []
    labels = {dimension: _labels(raw, dimension, named, roles, notes) for dimension in _dimensions(raw, data)}
    first = _group(raw, data, labels, named, dict(roles), fields)
    others: list[CubeAxes] = []
    left = [name for name in data if name not in first.fields and text_dims(raw.variables[name])]
    while left and len(others) < _MOST_GRIDS:
        own = {dimension: labels[dimension] for dimension in _dimensions(raw, left)}
        other = _group(raw, left, own, named, dict(roles), None)
        left = [name for name in left if name not in other.fields]
        along = set(_dimensions(raw, other.fields))
        axes = tuple(axis for axis in other.axes if axis.scalar or axis.dimension in along)
        dated = other.times is not None or any(axis.kind == "t" for axis in axes if not axis.scalar)
        if other.family != "none" or dated:
            others.append(replace(other, axes=axes))
    notes += [note for each in (first, *others) for note in each.notes]
    if fields is None:
        notes += [_beside(first, other) for other in others]
        notes += _nowhere(raw, (first, *others), roles)
        notes += _texts(raw, (first, *others), named)
    return replace(first, notes=tuple(dict.fromkeys(notes)), others=tuple(others))


_MOST_GRIDS = 16
"""How many grids of one file are described besides the first."""


def _group(
    raw: xr.Dataset,
    data: Sequence[str],
    labels: Mapping[str, FoundAxis],
    named: Sequence[str],
    roles: dict[str, Role],
    fields: Sequence[str] | None,
) -> CubeAxes:
    """Return the axes of *fields*, or of the *data* that share most axes. Updates *roles* to match these axes."""
    notes: list[tuple[str, str]] = []
    chosen = tuple(fields) if fields is not None else _fields(raw, data, labels)
    ordered = list(dict.fromkeys((*_dimensions(raw, chosen), *labels)))
    axes = [labels[d] if d in labels else _labels(raw, d, named, roles, notes) for d in ordered]
    own = set(_dimensions(raw, chosen))
    stated = _mapping(raw, chosen, roles)
    across = next((axis for axis in axes if axis.kind == "x" and axis.dimension in own and axis.labels), None)
    mapping = stated if across is None else reference.in_metres(stated, raw.variables[across.name].attrs.get("units"))
    family, x, y = _grid(raw, chosen, [axis for axis in axes if axis.dimension in own], mapping, named, notes)
    if family in ("curvilinear", "unstructured"):
        cells = set(position_dims(raw, str(x)))
        # If positions give the place, a 1-D x or y along their dimensions is only a row or column number.
        axes = [
            replace(axis, kind="index", bounds=None) if axis.dimension in cells and axis.kind in ("x", "y", "other") else axis
            for axis in axes
        ]
    times = _times(raw, chosen, roles, named)
    clock = next((axis for axis in axes if axis.kind == "t" and axis.dimension in own), None)
    if times is not None and clock is not None:
        along = set(text_dims(raw.variables[times]))
        flat = {axis.dimension for axis in axes if axis.kind in ("x", "y")}
        flat |= set(position_dims(raw, x)) if x is not None else set()
        if clock.dimension not in along or along & flat:
            times = None  # when each part of a scene was observed, besides its time
    on_the_way = family == "unstructured" and clock is not None and (clock.dimension,) == position_dims(raw, str(x))
    if clock is not None and on_the_way and not _rises(raw.variables[clock.name]):
        # Several trajectories or stations, one after the other: their times are not monotonic, so they are not an axis.
        times = times or clock.labels
        axes = [FoundAxis(axis.dimension, None, "index") if axis is clock else axis for axis in axes]
    if times is None and not any(axis.kind == "t" for axis in axes if axis.dimension in own):
        # The start of the forecasts is the only time in the file.
        axes = [replace(axis, kind="t") if _is_reference_time(raw, axis) and axis.dimension in own else axis for axis in axes]
    if times is not None:
        roles[times] = "auxiliary"
        axes = [replace(axis, kind="other") if axis.kind == "t" and axis.dimension in own else axis for axis in axes]
    taken = [axis.kind for axis in axes if axis.dimension in own]
    axes += _scalars(raw, chosen, [*taken, "t"] if times is not None else taken, named, roles)
    axes = [_believed(raw, axis, notes) for axis in axes]
    if family == "none":
        # A section has one dimension of places and a station has none: scalars say where they are.
        there = {axis.kind: axis for axis in axes if axis.kind in ("x", "y") and (axis.scalar or axis.dimension in own)}
        if len(there) == 2 and any(axis.scalar for axis in there.values()):
            family, x, y = "rectilinear", there["x"].name, there["y"].name
    for axis in axes:
        if axis.labels is not None and roles.get(axis.labels) in ("auxiliary", "data"):
            roles[axis.labels] = "coordinate"
    if times is None and not any(axis.kind == "t" and (axis.scalar or axis.dimension in own) for axis in axes):
        notes += _undated(raw, own)
    if times is None:
        notes += _without_valid_times(raw, [axis for axis in axes if axis.dimension in own or axis.scalar])
    if fields is None and chosen:
        placed = position_dims(raw, x) if family in ("curvilinear", "unstructured") and x is not None else ()
        placed = placed or tuple(axis.dimension for axis in axes if axis.name in (x, y) and not axis.scalar)
        clocks = {axis.dimension for axis in labels.values() if axis.kind == "t"} - own
        positions = {x, y} if family in ("curvilinear", "unstructured") else None
        moments = {axis.name for axis in axes if axis.kind == "t"}

        def fits(name: str) -> bool:
            elsewhere = positions is not None and not _own_positions(raw, name) <= positions
            return not elsewhere and _own_time(raw, name) in {None, *moments}

        beside = [name for name in data if name not in chosen and fits(name)]
        chosen = (*chosen, *(name for name in beside if _is_beside(raw, name, placed, clocks, stated, roles)))
    axes = _shared(raw, chosen, axes, notes)
    return CubeAxes(
        roles=roles, axes=tuple(axes), fields=chosen, family=family, x=x, y=y, mapping=mapping, notes=tuple(notes), times=times
    )


def _shared(raw: xr.Dataset, fields: Sequence[str], axes: Sequence[FoundAxis], notes: list[tuple[str, str]]) -> list[FoundAxis]:
    """Return the axes without scalar heights and members that only some of the fields name: 2 m is not where the others hold."""
    kept = []
    for axis in axes:
        of = [name for name in fields if axis.name in _words(raw, name)]
        if axis.scalar and axis.kind in ("z", "member") and of and len(of) < len(fields):
            names = ", ".join(map(repr, of[:5])) + (f" and {len(of) - 5} more" if len(of) > 5 else "")
            words = f"{axis.name!r} is a coordinate of {names} alone: the Zarr store and NetCDF files have it, OGC and EDR do not"
            notes.append(("coordinate-of-some", words))
        else:
            kept.append(axis)
    return kept


def _is_beside(
    raw: xr.Dataset, name: str, cells: Sequence[str], clocks: set[str], mapping: Mapping[str, Any], roles: Mapping[str, Role]
) -> bool:
    """Return whether a variable is on the same cells as the fields, and on their times or without time. Heights may be its own.

    A coverage has one axis of time, so a variable along another one of *clocks* is in a coverage of its own.
    """
    dims = text_dims(raw.variables[name])
    if not cells or not set(cells) <= set(dims) or clocks & set(dims):
        return False
    return "grid_mapping" not in raw.variables[name].attrs or _mapping(raw, (name,), roles) is mapping


def _beside(first: CubeAxes, other: CubeAxes) -> tuple[str, str]:
    """Return a warning that says where to find the variables of another grid."""
    names = ", ".join(map(repr, other.fields[:20])) + (f" and {len(other.fields) - 20} more" if len(other.fields) > 20 else "")
    many = len(other.fields) > 1
    words = (
        f"{names} {'are' if many else 'is'} on another grid than {first.fields[0]!r}: OGC and EDR queries find "
        f"{'them' if many else 'it'} "
        f"in a collection of {'their' if many else 'its'} own, whose id ends with ':{other.fields[0]}'"
    )
    return "other-grids", words


def _nowhere(raw: xr.Dataset, groups: Sequence[CubeAxes], roles: Mapping[str, Role]) -> list[tuple[str, str]]:
    """Return a warning that names the data variables that belong to no grid, because they have neither a place nor a time."""
    fields = [name for each in groups for name in each.fields]
    taken = companions(
        fields,
        names=list(map(str, raw.variables)),
        attributes=lambda name: raw.variables[name].attrs,
        dimensions=lambda name: text_dims(raw.variables[name]),
        roles=roles,
        vertical=[axis.dimension for each in groups for axis in each.axes if axis.kind == "z"],
    )
    left = [name for name, role in roles.items() if role == "data" and name not in taken and text_dims(raw.variables[name])]
    if not left:
        return []
    names = ", ".join(map(repr, left[:20])) + (f" and {len(left) - 20} more" if len(left) > 20 else "")
    many = len(left) > 1
    words = (
        f"{names} {'have' if many else 'has'} neither a place nor a time that is known: {'they are' if many else 'it is'} in the "
        f"Zarr store and in NetCDF downloads of all variables, but no OGC or EDR query has {'them' if many else 'it'}"
    )
    # Without any label a variable is no dataset of its own either, so nothing is advised.
    alone = [name for name in left if _can_be_alone(raw, name)]
    if alone:
        some = "them" if len(alone) == len(left) and many else "it" if not many else ", ".join(map(repr, alone[:20]))
        words += f"; to query {some}, publish a separate dataset with --variables {','.join(alone[:20])}"
    return [("other-grids", words)]


def _can_be_alone(raw: xr.Dataset, name: str) -> bool:
    """Return whether a dataset of this variable alone would have an axis with labels of a known kind."""
    words = set(_words(raw, name)) & set(map(str, raw.variables))
    own = raw[[name, *({*text_dims(raw.variables[name]), *words} & set(map(str, raw.variables)) - {name})]]
    return any(axis.labels is not None and axis.kind != "index" for axis in find(own, (name,)).axes)


def _texts(raw: xr.Dataset, groups: Sequence[CubeAxes], named: Sequence[str]) -> list[tuple[str, str]]:
    """Return a warning that names the variables of text that are data: they label no axis, no station and no field."""
    labels = {axis.name for each in groups for axis in each.axes}
    alone = {position_dims(raw, each.x) for each in groups if each.family == "unstructured" and each.x is not None}

    def is_data(name: str, variable: Any) -> bool:
        dims = text_dims(variable)
        label = name in labels or name in named or name in raw.sizes or "cf_role" in variable.attrs or dims in alone
        return is_text(variable) and bool(dims) and not label

    left = [str(name) for name, variable in raw.variables.items() if is_data(str(name), variable)]
    if not left:
        return []
    names = ", ".join(map(repr, left[:20])) + (f" and {len(left) - 20} more" if len(left) > 20 else "")
    words = f"{names}: OGC and EDR queries return numbers, so only the Zarr store and NetCDF files of the whole have these texts"
    return [("texts", words)]


def _times(raw: xr.Dataset, fields: Sequence[str], roles: Mapping[str, Role], named: Sequence[str]) -> str | None:
    """Return the variable with times along two or more dimensions of the fields: for each run and step, or each point of each
    trajectory.
    """
    if not fields:
        return None
    within = set(map(str, raw.variables[fields[0]].dims))

    def fits(name: str) -> bool:
        variable = raw.variables[name]
        return (
            roles.get(name) == "auxiliary"
            and variable.ndim >= 2
            and set(text_dims(variable)) <= within
            and kind_of(name, variable) == "t"
            and variable.attrs.get("standard_name") != "forecast_reference_time"
        )

    return next((name for name in dict.fromkeys((*named, *map(str, raw.variables))) if fits(name)), None)


def is_ragged(raw: xr.Dataset, dimension: str) -> bool:
    """Return whether the dimension has the observations of several features one after the other (CF 9.3.3, 9.3.4)."""
    return any(
        variable.attrs.get("sample_dimension") == dimension
        or ("instance_dimension" in variable.attrs and text_dims(variable) == (dimension,))
        for variable in raw.variables.values()
    )


def _rises(variable: Any) -> bool:
    import numpy as np

    values = np.asarray(decoded(variable), dtype="float64")
    return bool(np.isfinite(values).all() and (np.diff(values) > 0).all())


_TIME_NAMES = re.compile(r"(valid_?)?(time|date|datetime|times|xtime)(_counter|_centered|_instant)?|t", re.IGNORECASE)


def _undated(raw: xr.Dataset, own: set[str]) -> list[tuple[str, str]]:
    """Return a warning for each variable or dimension that looks like a time but cannot be read as one."""
    found = []
    for name in dict.fromkeys((*map(str, raw.variables), *own)):
        variable = raw.variables.get(name)
        standard = "" if variable is None else str(variable.attrs.get("standard_name", ""))
        seems = (
            standard == "time"
            or (_TIME_NAMES.fullmatch(name) is not None and (variable is None or variable.ndim < 2))  # t can also be a temperature
            or (variable is not None and str(variable.attrs.get("axis", "")).upper() == "T")
        )
        along = name in own if variable is None else set(text_dims(variable)) <= own and (variable.ndim > 0 or standard == "time")
        if seems and along:
            found.append(("undated-time", _undated_words(raw, name)))
    return found


_LEADS = re.compile(r"lead(_?times?)?|steps?|forecast_?(hour|period|lead|step)s?", re.IGNORECASE)
_STARTS = re.compile(
    r"(init|initial|ref|reference|forecast_?reference|run|base|start|analysis|issue)_?(times?|dates?)?", re.IGNORECASE
)
_DURATION = re.compile(r"((milli|micro)?sec(ond)?|min(ute)?|h|hr|hour|day|d|s|week|month|year)s?", re.IGNORECASE)


def _without_valid_times(raw: xr.Dataset, axes: Sequence[FoundAxis]) -> list[tuple[str, str]]:
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
    return named or _is_reference_time(raw, axis)


_UNITS_OF_TIME = re.compile(r"(milli|micro)?seconds?|secs?|s|min(ute)?s?|h(ou)?rs?|h|days?|d|weeks?|months?|years?", re.IGNORECASE)
_LEAST_DATE = 1_000
"""The least number that can be a date: a year of four digits."""


def _undated_words(raw: xr.Dataset, name: str) -> str:
    """Return what keeps a variable, or a dimension without one, from being a time, and the repair that fits."""
    if name not in raw.variables:
        return (
            f"nothing says which times are along the dimension {name!r}, so the data have no time. To say it, ingest with "
            f"--normalise 'set_time: {{values: […], units: days since 2000-01-01}}', with its {raw.sizes[name]} values"
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


def _believed(raw: xr.Dataset, axis: FoundAxis, notes: list[tuple[str, str]]) -> FoundAxis:
    """Return the axis, without its bounds if they do not contain its labels: they are in another order, or were never written."""
    import numpy as np

    if axis.bounds is None or axis.labels is None or axis.kind not in ("x", "y", "z", "t", "other"):
        return axis
    label, edge = raw.variables[axis.labels], raw.variables[axis.bounds]
    other_units = edge.attrs.get("units", label.attrs.get("units")) != label.attrs.get("units")
    if other_units or edge.dtype.kind not in "iuf" or edge.shape != (*label.shape, 2) or "climatology" in label.attrs:
        return axis
    values = np.atleast_1d(np.asarray(decoded(label), dtype="float64"))
    ends = np.asarray(decoded(edge), dtype="float64").reshape(-1, 2)
    if not np.isfinite(ends).all():
        return axis
    low, high = ends.min(axis=1), ends.max(axis=1)
    if axis.kind == "x" and is_longitude(axis.labels, label):
        values = values + 360 * np.round(((low + high) / 2 - values) / 360)
        wraps = (high - low > 180) & (high - low < 360)
        low, high = np.where(wraps, -np.inf, low), np.where(wraps, np.inf, high)
    past = np.maximum(np.maximum(low - values, values - high), 0)
    step = float(np.median(np.abs(np.diff(values)))) if len(values) > 1 else 0.0
    if (past <= _PAST_BOUNDS * np.maximum(high - low, step) + 1e-6 * np.abs(values)).all():
        return axis
    at = int(past.argmax())
    notes.append(
        (
            "bounds-ignored",
            f"{axis.bounds!r} does not contain the labels of {axis.labels!r} (at index {at}, {values[at]:g} is not within "
            f"{ends[at].min():g} and {ends[at].max():g}): cells are taken from the labels",
        )
    )
    return replace(axis, bounds=None)


_PAST_BOUNDS = 0.25
"""Labels may be outside their bounds by this share of a cell, because of rounding."""


def _is_reference_time(raw: xr.Dataset, axis: FoundAxis) -> bool:
    attributes = raw.variables[axis.labels].attrs if axis.labels is not None else {}
    return attributes.get("standard_name") == "forecast_reference_time" and is_time_units(attributes.get("units"))


def text_dims(variable: Any) -> tuple[str, ...]:
    """Return the dimensions as a reader sees them, without the last dimension of a character array, which is the length of its
    texts.
    """
    dims = tuple(str(dimension) for dimension in variable.dims)
    return dims[:-1] if is_chars(variable) else dims


def is_chars(variable: Any) -> bool:
    """Return whether the variable is an array of single characters, as NetCDF-3 stores text."""
    return bool(variable.dtype.kind == "S" and variable.dtype.itemsize == 1 and variable.ndim > 0)


def is_text(variable: Any) -> bool:
    """Return whether the variable contains text."""
    return variable.dtype.kind in "SUOT"


def kind_of(name: str, variable: Any) -> AxisKind | None:
    """Return the kind of a coordinate variable by CF, or ``None`` if neither its attributes nor its name tell."""
    attributes = variable.attrs
    standard = str(attributes.get("standard_name", "")).strip().lower()
    units = str(attributes.get("units", "")).strip()
    if "grid_index" in standard:
        return "index"
    if is_text(variable):
        return "member" if standard == "realization" or _matches("member", name) else "category"
    if variable.dtype.kind not in "iuf":
        return "other"
    if standard in _STANDARD_NAMES and (standard != "time" or is_time_units(units)):
        return _STANDARD_NAMES[standard]
    if _VERTICAL.fullmatch(standard):
        return "z"
    if is_time_units(units):
        return "t"
    axis = str(attributes.get("axis", "")).strip().lower()
    if axis in ("x", "y", "z"):
        return axis  # type: ignore[return-value]  # narrowed by the tuple, which mypy does not follow
    if standard == "time" or axis == "t":
        return "other"  # labels without a date are numbers, not times
    lowered = units.lower()
    if lowered in _LON_UNITS:
        return "x"
    if lowered in _LAT_UNITS:
        return "y"
    ucar = str(attributes.get("_CoordinateAxisType", "")).strip().lower()
    if ucar in _UCAR_TYPES:
        return _UCAR_TYPES[ucar] if _UCAR_TYPES[ucar] != "t" else "other"
    if lowered in PRESSURE_UNITS or str(attributes.get("positive", "")).lower() in ("up", "down"):
        return "z"
    return next((kind for kind, pattern in _NAMES if pattern.fullmatch(name.lower())), None)


def _matches(kind: AxisKind, name: str) -> bool:
    return any(kind == each and pattern.fullmatch(name.lower()) for each, pattern in _NAMES)


def is_longitude(name: str, variable: Any) -> bool:
    """Return whether the variable contains true longitudes (not those of a rotated pole)."""
    return _is_true(name, variable, "longitude", _LON_UNITS, ("lon", "long", "longitude", "nav_lon"))


def is_latitude(name: str, variable: Any) -> bool:
    """Return whether the variable contains true latitudes."""
    return _is_true(name, variable, "latitude", _LAT_UNITS, ("lat", "latitude", "nav_lat"))


def _is_true(name: str, variable: Any, standard: str, units: set[str], names: tuple[str, ...]) -> bool:
    if is_text(variable):
        return False
    given = str(variable.attrs.get("standard_name", "")).strip().lower()
    if given == standard or given.startswith(f"{standard}_at_"):
        return True
    if given.startswith(("grid_", "projection_")):
        return False
    text = str(variable.attrs.get("units", "")).strip().lower()
    return text in units or (name.lower() in names and text in ("", "degrees", "degree", "deg", "1"))


def position_dims(raw: xr.Dataset, name: str) -> tuple[str, ...]:
    """Return the dimensions of the cells that have these positions, without a leading time dimension along which they do not
    change.
    """
    dims = text_dims(raw.variables[name])
    return dims[1:] if len(dims) == _WITH_TIME else dims


_WITH_TIME = 3
"""The number of dimensions of positions that a model repeats for each step."""

STATION_REACH = 0.25
"""A station, a profile or a point of a trajectory answers for places within this many degrees, about 28 km."""

_FEATURES = ("point", "timeseries", "trajectory", "profile", "timeseriesprofile", "trajectoryprofile")


def reach_of(raw: xr.Dataset, found: CubeAxes) -> float | None:
    """Return the reach of 1-D positions in degrees if they are stations or other features (CF 9); ``None`` if they are cells."""
    if found.family != "unstructured" or found.x is None:
        return None
    return STATION_REACH if _are_features(raw, found.fields, found.x) else None


def heights_of(raw: xr.Dataset, found: CubeAxes) -> str | None:
    """Return the variable with the height or depth of each position of trajectories and soundings, or ``None``."""
    if found.family != "unstructured" or found.x is None:
        return None
    along = position_dims(raw, found.x)
    heights = (
        str(name)
        for name, variable in raw.variables.items()
        if found.roles.get(str(name)) in ("auxiliary", "coordinate")
        and text_dims(variable) == along
        and str(name) not in (found.x, found.y)
        and kind_of(str(name), variable) == "z"
    )
    return next(heights, None)


def _are_features(raw: xr.Dataset, fields: Sequence[str], x: str) -> bool:
    """Return whether positions belong to stations, trajectories or profiles, by ``featureType``, a ``cf_role``, or names along
    them.
    """
    position = raw.variables[x]
    along = text_dims(position)
    if isinstance(position.attrs.get("bounds"), str) or any("mesh" in raw.variables[name].attrs for name in fields):
        return False
    if str(raw.attrs.get("featureType", raw.attrs.get("feature_type", ""))).strip().lower() in _FEATURES:
        return True
    return any(
        str(variable.attrs.get("cf_role", "")).endswith("_id") or (is_text(variable) and text_dims(variable) == along)
        for variable in raw.variables.values()
        if set(text_dims(variable)) <= set(along)
    )


def _named_coordinates(raw: xr.Dataset) -> list[str]:
    """Return the existing variables that ``coordinates`` attributes name, in the order of their first mention."""
    texts = [str(v.attrs["coordinates"]) for v in raw.variables.values() if isinstance(v.attrs.get("coordinates"), str)]
    texts += [str(raw.attrs["coordinates"])] if isinstance(raw.attrs.get("coordinates"), str) else []
    return [name for name in dict.fromkeys(word for text in texts for word in text.split()) if name in raw.variables]


def roles_of(raw: xr.Dataset) -> Mapping[str, Role]:
    """Return the role of each variable, from names and attributes alone."""
    return _roles(raw, _named_coordinates(raw))


def _roles(raw: xr.Dataset, named: Iterable[str]) -> dict[str, Role]:
    referred: dict[str, Role] = {}
    coordinates = set(named)
    for name, variable in raw.variables.items():
        for key in ("bounds", "climatology"):
            if isinstance(variable.attrs.get(key), str) and variable.attrs[key] in raw.variables:
                referred[variable.attrs[key]] = "bounds"
        for word in re.findall(r"[^\s:]+", str(variable.attrs.get("grid_mapping", ""))):
            if word in raw.variables and word not in raw.sizes and raw.variables[word].size <= 1:
                referred[word] = "grid_mapping"
        if "grid_mapping_name" in variable.attrs:
            referred[str(name)] = "grid_mapping"
    meshed = {
        word
        for variable in raw.variables.values()
        if str(variable.attrs.get("cf_role", "")) == "mesh_topology"
        for word in of_topology(variable.attrs)
    }
    roles: dict[str, Role] = {}
    for key_, variable in raw.variables.items():
        name = str(key_)
        dims = text_dims(variable)
        if name in referred:
            roles[name] = referred[name]
        elif dims == (name,):
            roles[name] = "coordinate"
        elif (
            name in coordinates
            or name in meshed
            or variable.ndim == 0
            or variable.dtype.kind not in "iufb"
            or {"cf_role", "sample_dimension", "instance_dimension"} & variable.attrs.keys()
            or is_longitude(name, variable)
            or is_latitude(name, variable)
            or str(variable.attrs.get("standard_name", "")) in ("longitude", "latitude", "time", "grid_longitude", "grid_latitude")
            or (str(variable.attrs.get("axis", "")).upper() in ("X", "Y", "Z", "T") and variable.ndim == 1)
        ):
            roles[name] = "auxiliary"
        else:
            roles[name] = "data"
    return roles


def _dimensions(raw: xr.Dataset, names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(str(d) for name in names for d in raw.variables[name].dims))


def _labels(
    raw: xr.Dataset, dimension: str, named: Sequence[str], roles: Mapping[str, Role], notes: list[tuple[str, str]]
) -> FoundAxis:
    """Return the axis of a dimension: its own coordinate, otherwise the best one-dimensional coordinate along it."""
    own = raw.variables.get(dimension)
    if own is not None and text_dims(own) == (dimension,) and roles.get(dimension) != "bounds":
        its_kind = kind_of(dimension, own) or "other"
        if its_kind == "other" and (valid := _valid_time(raw, dimension, roles)):
            return FoundAxis(dimension, valid, "t", _bounds(raw, raw.variables[valid]))
        if its_kind not in ("other", "category", "member") or _are_labels(own):
            return FoundAxis(dimension, dimension, its_kind, _bounds(raw, own))
        notes.append(("labels-ignored", f"{dimension!r} has labels that are missing or not unique; it is used as an index"))
        return FoundAxis(dimension, None, "index")
    along = [str(n) for n, v in raw.variables.items() if text_dims(v) == (dimension,) and roles[str(n)] == "auxiliary"]
    kinds = {name: kind for name in along if (kind := kind_of(name, raw.variables[name])) is not None}
    if {"x", "y"} <= set(kinds.values()):
        # Longitude and latitude along the same dimension are positions of points, not axes.
        kinds = {name: kind for name, kind in kinds.items() if kind not in ("x", "y")}
    ranked = sorted(
        (name for name, kind in kinds.items() if kind not in ("other", "index")),
        key=lambda name: (is_text(raw.variables[name]), named.index(name) if name in named else len(named)),
    )
    for name in ranked:
        kind = kinds[name]
        if kind == "t" or _are_labels(raw.variables[name]):
            return FoundAxis(dimension, name, kind, _bounds(raw, raw.variables[name]))
    apart = own is not None and len(text_dims(own)) > 1
    return FoundAxis(dimension, None, "member" if _matches("member", dimension) else "index", apart=apart)


def _valid_time(raw: xr.Dataset, dimension: str, roles: Mapping[str, Role]) -> str | None:
    """Return the variable of valid times along a dimension of lead times."""
    times = (
        str(name)
        for name, variable in raw.variables.items()
        if text_dims(variable) == (dimension,) and roles[str(name)] == "auxiliary" and kind_of(str(name), variable) == "t"
    )
    return next(times, None)


def _are_labels(variable: Any) -> bool:
    """Return whether the values can identify the cells of an axis: none is missing, and all are different."""
    import numpy as np

    values = decoded(variable)
    if is_text(variable):
        texts = ["" if text is None else str(text) for text in np.ravel(values).tolist()]
        return all(texts) and len(set(texts)) == len(texts)
    if not np.isfinite(np.asarray(values, dtype="float64")).all():
        return False
    return len(np.unique(values)) == len(values)


def _bounds(raw: xr.Dataset, variable: Any) -> str | None:
    for key in ("bounds", "climatology"):
        name = variable.attrs.get(key)
        if isinstance(name, str) and name in raw.variables and raw.variables[name].ndim == variable.ndim + 1:
            return name
    return None


def _fields(raw: xr.Dataset, data: Sequence[str], labels: Mapping[str, FoundAxis]) -> tuple[str, ...]:
    """Return the data variables on the axes that most of them share. Variables with a place and a time come first."""
    type Key = tuple[frozenset[str], frozenset[str], str | None, str]
    groups: dict[Key, list[str]] = {}
    for name in data:
        dims = frozenset(str(d) for d in raw.variables[name].dims)
        mapping = str(raw.variables[name].attrs.get("grid_mapping", ""))
        groups.setdefault((dims, _own_positions(raw, name), _own_time(raw, name), mapping), []).append(name)

    def weight(key: Key) -> tuple[Any, ...]:
        kinds = [labels[dimension].kind for dimension in key[0]]
        first = raw.variables[groups[key][0]]
        x, y = _positions(raw, [groups[key][0]], [])
        placed = ("x" in kinds and "y" in kinds) or (x is not None and y is not None)
        indices = sum(kind == "index" for kind in kinds) - (len(position_dims(raw, x)) if x is not None else 0)
        return placed, "t" in kinds, len(groups[key]), -max(indices, 0), len(key[0]), first.size

    # max() returns the first of equals, so the store's order decides.
    return tuple(groups[max(groups, key=weight)]) if groups else ()


def _words(raw: xr.Dataset, name: str) -> list[str]:
    """Return the coordinates that a variable names and the file has."""
    return [word for word in str(raw.variables[name].attrs.get("coordinates", "")).split() if word in raw.variables]


def _own_positions(raw: xr.Dataset, name: str) -> frozenset[str]:
    """Return the longitudes and latitudes that a variable names for its cells. Variables with the same dimensions may differ."""
    within = set(text_dims(raw.variables[name]))

    def places(word: str) -> bool:
        variable = raw.variables[word]
        own = variable.ndim > 0 and set(text_dims(variable)) <= within
        return own and (is_longitude(word, variable) or is_latitude(word, variable))

    return frozenset(word for word in _words(raw, name) if places(word))


def _own_time(raw: xr.Dataset, name: str) -> str | None:
    """Return the single time that a variable names for all its values, or ``None``."""
    scalars = (word for word in _words(raw, name) if raw.variables[word].ndim == 0)
    return next((word for word in scalars if kind_of(word, raw.variables[word]) == "t"), None)


def _mapping(raw: xr.Dataset, fields: Sequence[str], roles: Mapping[str, Role]) -> Mapping[str, Any]:
    """Return the attributes that define the reference system of the fields."""
    for name in fields:
        for word in re.findall(r"[^\s:]+", str(raw.variables[name].attrs.get("grid_mapping", ""))):
            if word in raw.variables and roles.get(word) == "grid_mapping":
                return raw.variables[word].attrs
            if word in raw.variables and {"grid_mapping_name", "spatial_ref", "crs_wkt"} & set(raw.variables[word].attrs):
                return raw.variables[word].attrs
    alone = [name for name, role in roles.items() if role == "grid_mapping"]
    alone += [n for n in ("spatial_ref", "crs") if n in raw.variables and n not in alone and raw.variables[n].ndim == 0]
    if len(alone) == 1:
        return raw.variables[alone[0]].attrs
    for attributes in (*(raw.variables[name].attrs for name in fields), raw.attrs):
        texts = {key: attributes[key] for key in ("crs_wkt", "spatial_ref", "crs", "proj4") if isinstance(attributes.get(key), str)}
        if texts:
            return texts
    return {}


def _positions(raw: xr.Dataset, fields: Sequence[str], named: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the names of the longitudes and latitudes, 1-D or 2-D, of the cells of the first field."""
    if not fields:
        return None, None
    field = raw.variables[fields[0]]
    words = str(field.attrs.get("coordinates", "")).split()
    mesh = raw.variables.get(str(field.attrs.get("mesh", "")))
    if mesh is not None:
        words += str(mesh.attrs.get(f"{field.attrs.get('location', 'face')}_coordinates", "")).split()
    candidates = [word for word in dict.fromkeys((*words, *named, *map(str, raw.variables))) if word in raw.variables]
    within = set(map(str, field.dims))

    def fits(name: str) -> bool:
        dims = text_dims(raw.variables[name])
        return 1 <= len(dims) <= _WITH_TIME and set(dims) <= within

    for x in (name for name in candidates if is_longitude(name, raw.variables[name]) and fits(name) and _is_written(raw, name)):
        for y in candidates:
            if is_latitude(y, raw.variables[y]) and text_dims(raw.variables[y]) == text_dims(raw.variables[x]):
                return x, y
    return None, None


def _grid(
    raw: xr.Dataset,
    fields: Sequence[str],
    axes: Sequence[FoundAxis],
    mapping: Mapping[str, Any],
    named: Sequence[str],
    notes: list[tuple[str, str]],
) -> tuple[GridFamily, str | None, str | None]:
    x = next((axis for axis in axes if axis.kind == "x" and axis.labels), None)
    y = next((axis for axis in axes if axis.kind == "y" and axis.labels), None)
    lon, lat = _positions(raw, fields, named)
    if x is not None and y is not None:
        x_name, y_name = x.name, y.name
        geographic = is_longitude(x_name, raw.variables[x_name]) and is_latitude(y_name, raw.variables[y_name])
        geographic |= mapping.get("grid_mapping_name") == "latitude_longitude"
        if geographic and not reference.is_off_greenwich(mapping):
            return "rectilinear", x_name, y_name
        found = reference.from_attributes(mapping) if mapping else None
        if found is not None and found.is_geographic and not found.is_derived and not found.prime_meridian.longitude:
            return "rectilinear", x_name, y_name
        unknown = None if found is None else _unknown_units(raw, (x, y), found, mapping)
        if unknown is not None:
            notes.append(("no-crs", f"{unknown}, so the place is unknown"))
            if lon is None:
                return "none", None, None
        elif found is not None:
            if lon is not None and lat is not None and (apart := _apart(raw, (x, y), (lon, lat), found, mapping)) is not None:
                words = (
                    f"the grid mapping puts cells up to {apart:.3g}° from where {lon!r} and {lat!r} say; cubeport uses the latter"
                )
                notes.append(("two-places", words))
                return "curvilinear", lon, lat
            return "projected", x_name, y_name
        elif geographic:
            return "rectilinear", x_name, y_name
        elif lon is None:
            notes.append(("no-crs", f"{x_name!r} and {y_name!r} have no known reference system, so the place is unknown"))
            return "none", None, None
    if lon is not None and lat is not None:
        leading, *rest = text_dims(raw.variables[lon])
        if len(rest) + 1 == _WITH_TIME and not (_stands_still(raw, lon) and _stands_still(raw, lat)):
            words = f"the positions {lon!r} and {lat!r} move along {leading!r}: the place is taken as unknown"
            notes.append(("no-place", words))
            return "none", None, None
        flat = len(position_dims(raw, lon)) == 1 or _are_features(raw, fields, lon)
        return ("unstructured" if flat else "curvilinear"), lon, lat
    return "none", None, None


def _unknown_units(raw: xr.Dataset, axes: tuple[FoundAxis, FoundAxis], crs: Any, mapping: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the units of x and y, or ``None`` if both have the same units and the CRS can use them."""
    import numpy as np

    given = [str(raw.variables[axis.name].attrs.get("units", "")).strip() for axis in axes]
    factors = []
    for axis, units in zip(axes, given, strict=True):
        largest = float(np.abs(np.asarray(decoded(raw.variables[axis.name]), dtype="float64")).max(initial=0.0))
        factors.append(reference.unit_factor(crs, units, largest=largest, attributes=mapping))
        if factors[-1] is None:
            return f"{axis.name!r} has the units {units[:40]!r}, which are not those of a coordinate of {crs.name!r}"
    if factors[0] != factors[1] and all(given):
        return f"{axes[0].name!r} has the units {given[0][:40]!r} and {axes[1].name!r} {given[1][:40]!r}"
    return None


def _apart(
    raw: xr.Dataset, axes: tuple[FoundAxis, FoundAxis], positions: tuple[str, str], crs: Any, mapping: Mapping[str, Any]
) -> float | None:
    """Return by how many degrees a grid mapping and 2-D positions differ, or ``None`` if it is less than half a cell.

    From half a cell on, the cell at a position of the file would be its neighbour.
    """
    import numpy as np
    import pyproj

    x, y = axes
    lon, lat = (raw.variables[name] for name in positions)
    if text_dims(lon) != (y.dimension, x.dimension) or min(lon.shape) < 2:
        return None
    across, up = (np.asarray(decoded(raw.variables[axis.name]), dtype="float64") for axis in axes)
    largest = float(max(np.abs(across).max(), np.abs(up).max()))
    factor = reference.unit_factor(crs, raw.variables[x.name].attrs.get("units"), largest=largest, attributes=mapping)
    assert factor is not None  # the caller looked
    onto = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    rows, columns = (np.unique(np.linspace(0, size - 2, 4).astype(int)) for size in lon.shape)
    farthest, told = 0.0, 0
    for row in rows.tolist():
        for column in columns.tolist():
            here = (slice(row, row + 2), slice(column, column + 2))
            east, north = (np.asarray(decoded(each[here]), dtype="float64") for each in (lon, lat))
            ours = onto.transform(across[column] * factor, up[row] * factor)
            if not (np.isfinite(east).all() and np.isfinite(north).all() and np.isfinite(ours).all()):
                continue
            scale = np.cos(np.radians(north[0, 0]))
            step = np.hypot(((east - east[0, 0] + 180) % 360 - 180) * scale, north - north[0, 0]).max()
            off = np.hypot(((ours[0] - east[0, 0] + 180) % 360 - 180) * scale, ours[1] - north[0, 0])
            told += 1
            farthest = max(farthest, float(off)) if off > step / 2 > 0 else farthest
    return farthest if told and farthest else None


def _is_written(raw: xr.Dataset, name: str) -> bool:
    """Return whether positions were written; an array that was never written contains only one number."""
    import numpy as np

    variable = raw.variables[name]
    if variable.ndim < 2 or variable.size < 2:
        return True
    corners = variable[tuple(slice(None, None, max(1, size - 1)) for size in variable.shape)]
    if len(np.unique(np.asarray(decoded(corners), dtype="float64"))) > 1:
        return True
    return len(np.unique(np.asarray(decoded(variable), dtype="float64"))) > 1


def _stands_still(raw: xr.Dataset, name: str) -> bool:
    import numpy as np

    values = np.asarray(decoded(raw.variables[name]))
    return bool(np.array_equal(values, np.broadcast_to(values[:1], values.shape), equal_nan=values.dtype.kind == "f"))


def _scalars(
    raw: xr.Dataset, fields: Sequence[str], taken: Sequence[AxisKind], named: Sequence[str], roles: Mapping[str, Role]
) -> list[FoundAxis]:
    """Return the scalar coordinates of kinds that no dimension has: those that ``coordinates`` names, and a single scalar time."""
    words = [word for name in fields for word in str(raw.variables[name].attrs.get("coordinates", "")).split()]
    words += [word for word in str(raw.attrs.get("coordinates", "")).split() if word in named]
    times = [
        str(n)
        for n, v in raw.variables.items()
        if v.attrs.get("standard_name") == "time" or str(v.attrs.get("axis", "")).upper() == "T"
    ]
    found: dict[AxisKind, FoundAxis] = {}
    for name in dict.fromkeys((*words, *times, *map(str, raw.variables))):
        variable = raw.variables.get(name)
        if variable is None or variable.ndim or is_text(variable) or roles.get(name) not in ("auxiliary", "coordinate"):
            continue
        if name not in words and name not in times and not _is_placed(name, words, raw, fields):
            continue
        kind = kind_of(name, variable)
        if kind in ("x", "y", "z", "t", "member") and kind not in taken and kind not in found:
            found[kind] = FoundAxis(name, name, kind, _bounds(raw, variable), scalar=True)
    return list(found.values())


def _is_placed(name: str, terms: Sequence[str], raw: xr.Dataset, fields: Sequence[str]) -> bool:
    """Return whether a scalar that no field names can be a coordinate: its name says so, and the fields name no other."""
    plain = name.lower() in ("lon", "longitude", "lat", "latitude", "time", "height", "depth", "level")
    return plain and not terms and all("coordinates" not in raw.variables[field].attrs for field in fields)
