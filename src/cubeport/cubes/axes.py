"""The axes of the fields of a dataset: one for each dimension, with the variable that labels it, and the scalar coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes.decoding import decoded
from cubeport.cubes.description import AxisKind, GridFamily
from cubeport.cubes.variables import Role, bounds_of, is_longitude, is_named, is_text, kind_of, text_dims

if TYPE_CHECKING:
    import xarray as xr


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


def with_true_bounds(raw: xr.Dataset, axis: FoundAxis, notes: list[tuple[str, str]]) -> FoundAxis:
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


def axis_along(
    raw: xr.Dataset, dimension: str, named: Sequence[str], roles: Mapping[str, Role], notes: list[tuple[str, str]]
) -> FoundAxis:
    """Return the axis of a dimension: its own coordinate, otherwise the best one-dimensional coordinate along it."""
    own = raw.variables.get(dimension)
    if own is not None and text_dims(own) == (dimension,) and roles.get(dimension) != "bounds":
        its_kind = kind_of(dimension, own) or "other"
        if its_kind == "other" and (valid := _valid_time(raw, dimension, roles)):
            return FoundAxis(dimension, valid, "t", bounds_of(raw, raw.variables[valid]))
        if its_kind not in ("other", "category", "member") or _are_labels(own):
            return FoundAxis(dimension, dimension, its_kind, bounds_of(raw, own))
        notes.append(("labels-ignored", f"{dimension!r} has labels that are missing or not unique; it is used as an index"))
        return FoundAxis(dimension, None, "index")
    along = [str(n) for n, v in raw.variables.items() if text_dims(v) == (dimension,) and roles[str(n)] == "auxiliary"]
    kinds = {name: kind for name in along if (kind := kind_of(name, raw.variables[name])) is not None}
    if {"x", "y"} <= set(kinds.values()):
        # Longitude and latitude along the same dimension are positions of points, not axes, and so is the height of each station
        # (CF H.2). A sounding that drifts has its levels along the dimension.
        sounding = _is_sounding(raw, [name for name, kind in kinds.items() if kind == "z"])
        kinds = {name: kind for name, kind in kinds.items() if kind not in (("x", "y") if sounding else ("x", "y", "z"))}
    ranked = sorted(
        (name for name, kind in kinds.items() if kind not in ("other", "index")),
        key=lambda name: (is_text(raw.variables[name]), named.index(name) if name in named else len(named)),
    )
    for name in ranked:
        kind = kinds[name]
        if kind == "t" or _are_labels(raw.variables[name]):
            return FoundAxis(dimension, name, kind, bounds_of(raw, raw.variables[name]))
    apart = own is not None and len(text_dims(own)) > 1
    return FoundAxis(dimension, None, "member" if is_named("member", dimension) else "index", apart=apart)


def _is_sounding(raw: xr.Dataset, heights: Sequence[str]) -> bool:
    """Return whether the points are levels of one profile: their file says so, and their heights go one way."""
    import numpy as np

    if "profile" not in str(raw.attrs.get("featureType", "")).lower() or not heights:
        return False
    steps = np.diff(np.asarray(decoded(raw.variables[heights[0]]), dtype="float64"))
    return bool((steps > 0).all() or (steps < 0).all())


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


def scalar_axes(
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
            found[kind] = FoundAxis(name, name, kind, bounds_of(raw, variable), scalar=True)
    return list(found.values())


def _is_placed(name: str, terms: Sequence[str], raw: xr.Dataset, fields: Sequence[str]) -> bool:
    """Return whether a scalar that no field names can be a coordinate: its name says so, and the fields name no other."""
    plain = name.lower() in ("lon", "longitude", "lat", "latitude", "time", "height", "depth", "level")
    return plain and not terms and all("coordinates" not in raw.variables[field].attrs for field in fields)
