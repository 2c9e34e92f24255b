"""Group the data variables of a dataset by the axes that they share, so that each group is one coverage.

The largest group is the *fields*; the others are described beside it, or named in a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cubeport.cubes import crs as reference
from cubeport.cubes.axes import CubeAxes, FoundAxis, axis_along, scalar_axes, with_true_bounds
from cubeport.cubes.companions import companions
from cubeport.cubes.decoding import decoded
from cubeport.cubes.grids import grid_of, mapping_of, own_positions, position_dims, positions_of
from cubeport.cubes.undated import is_reference_time, undated, without_valid_times
from cubeport.cubes.variables import Role, coordinates_of, dimensions_of, is_text, kind_of, named_coordinates, roles_with, text_dims

if TYPE_CHECKING:
    import xarray as xr


def find(raw: xr.Dataset, fields: Sequence[str] | None = None) -> CubeAxes:
    """Return the axes of an undecoded dataset. Only one-dimensional labels are read.

    Parameters
    ----------
    raw
        Opened with ``decode_cf=False``.
    fields
        The data variables to offer together; ``None`` selects the largest group that shares its axes.
    """
    named = named_coordinates(raw)
    roles = roles_with(raw, named)
    data = [name for name, role in roles.items() if role == "data"]
    notes: list[tuple[str, str]] = []
    labels = {dimension: axis_along(raw, dimension, named, roles, notes) for dimension in dimensions_of(raw, data)}
    first = _group(raw, data, labels, named, dict(roles), fields)
    others: list[CubeAxes] = []
    left = [name for name in data if name not in first.fields and text_dims(raw.variables[name])]
    while left and len(others) < _MOST_GRIDS:
        own = {dimension: labels[dimension] for dimension in dimensions_of(raw, left)}
        other = _group(raw, left, own, named, dict(roles), None)
        left = [name for name in left if name not in other.fields]
        along = set(dimensions_of(raw, other.fields))
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
    ordered = list(dict.fromkeys((*dimensions_of(raw, chosen), *labels)))
    axes = [labels[d] if d in labels else axis_along(raw, d, named, roles, notes) for d in ordered]
    own = set(dimensions_of(raw, chosen))
    stated = mapping_of(raw, chosen, roles)
    across = next((axis for axis in axes if axis.kind == "x" and axis.dimension in own and axis.labels), None)
    mapping = stated if across is None else reference.in_metres(stated, raw.variables[across.name].attrs.get("units"))
    family, x, y = grid_of(raw, chosen, [axis for axis in axes if axis.dimension in own], mapping, named, notes)
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
        axes = [replace(axis, kind="t") if is_reference_time(raw, axis) and axis.dimension in own else axis for axis in axes]
    if times is not None:
        roles[times] = "auxiliary"
        axes = [replace(axis, kind="other") if axis.kind == "t" and axis.dimension in own else axis for axis in axes]
    taken = [axis.kind for axis in axes if axis.dimension in own]
    axes += scalar_axes(raw, chosen, [*taken, "t"] if times is not None else taken, named, roles)
    axes = [with_true_bounds(raw, axis, notes) for axis in axes]
    if family == "none":
        # A section has one dimension of places and a station has none: scalars say where they are.
        there = {axis.kind: axis for axis in axes if axis.kind in ("x", "y") and (axis.scalar or axis.dimension in own)}
        if len(there) == 2 and any(axis.scalar for axis in there.values()):
            family, x, y = "rectilinear", there["x"].name, there["y"].name
    for axis in axes:
        if axis.labels is not None and roles.get(axis.labels) in ("auxiliary", "data"):
            roles[axis.labels] = "coordinate"
    if times is None and not any(axis.kind == "t" and (axis.scalar or axis.dimension in own) for axis in axes):
        notes += undated(raw, own)
    if times is None:
        notes += without_valid_times(raw, [axis for axis in axes if axis.dimension in own or axis.scalar])
    if fields is None and chosen:
        placed = position_dims(raw, x) if family in ("curvilinear", "unstructured") and x is not None else ()
        placed = placed or tuple(axis.dimension for axis in axes if axis.name in (x, y) and not axis.scalar)
        clocks = {axis.dimension for axis in labels.values() if axis.kind == "t"} - own
        positions = {x, y} if family in ("curvilinear", "unstructured") else None
        moments = {axis.name for axis in axes if axis.kind == "t"}

        def fits(name: str) -> bool:
            elsewhere = positions is not None and not own_positions(raw, name) <= positions
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
        of = [name for name in fields if axis.name in coordinates_of(raw, name)]
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
    return "grid_mapping" not in raw.variables[name].attrs or mapping_of(raw, (name,), roles) is mapping


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
    words = set(coordinates_of(raw, name)) & set(map(str, raw.variables))
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


def _fields(raw: xr.Dataset, data: Sequence[str], labels: Mapping[str, FoundAxis]) -> tuple[str, ...]:
    """Return the data variables on the axes that most of them share. Variables with a place and a time come first."""
    type Key = tuple[frozenset[str], frozenset[str], str | None, str]
    groups: dict[Key, list[str]] = {}
    for name in data:
        dims = frozenset(str(d) for d in raw.variables[name].dims)
        mapping = str(raw.variables[name].attrs.get("grid_mapping", ""))
        groups.setdefault((dims, own_positions(raw, name), _own_time(raw, name), mapping), []).append(name)

    def weight(key: Key) -> tuple[Any, ...]:
        kinds = [labels[dimension].kind for dimension in key[0]]
        first = raw.variables[groups[key][0]]
        x, y = positions_of(raw, [groups[key][0]], [])
        placed = ("x" in kinds and "y" in kinds) or (x is not None and y is not None)
        indices = sum(kind == "index" for kind in kinds) - (len(position_dims(raw, x)) if x is not None else 0)
        return placed, "t" in kinds, len(groups[key]), -max(indices, 0), len(key[0]), first.size

    # max() returns the first of equals, so the store's order decides.
    return tuple(groups[max(groups, key=weight)]) if groups else ()


def _own_time(raw: xr.Dataset, name: str) -> str | None:
    """Return the single time that a variable names for all its values, or ``None``."""
    scalars = (word for word in coordinates_of(raw, name) if raw.variables[word].ndim == 0)
    return next((word for word in scalars if kind_of(word, raw.variables[word]) == "t"), None)
