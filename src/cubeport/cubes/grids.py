"""The horizontal grid of the fields of a dataset: their positions, their reference system, and the family of the grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cubeport.cubes import crs as reference
from cubeport.cubes.axes import CubeAxes, FoundAxis
from cubeport.cubes.decoding import decoded
from cubeport.cubes.description import GridFamily
from cubeport.cubes.repairs import flag
from cubeport.cubes.variables import Role, coordinates_of, is_latitude, is_longitude, is_text, kind_of, text_dims

if TYPE_CHECKING:
    import xarray as xr


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


def own_positions(raw: xr.Dataset, name: str) -> frozenset[str]:
    """Return the longitudes and latitudes that a variable names for its cells. Variables with the same dimensions may differ."""
    within = set(text_dims(raw.variables[name]))

    def places(word: str) -> bool:
        variable = raw.variables[word]
        own = variable.ndim > 0 and set(text_dims(variable)) <= within
        return own and (is_longitude(word, variable) or is_latitude(word, variable))

    return frozenset(word for word in coordinates_of(raw, name) if places(word))


def mapping_of(raw: xr.Dataset, fields: Sequence[str], roles: Mapping[str, Role]) -> Mapping[str, Any]:
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


def positions_of(raw: xr.Dataset, fields: Sequence[str], named: Sequence[str]) -> tuple[str | None, str | None]:
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


def grid_of(
    raw: xr.Dataset,
    fields: Sequence[str],
    axes: Sequence[FoundAxis],
    mapping: Mapping[str, Any],
    named: Sequence[str],
    notes: list[tuple[str, str]],
) -> tuple[GridFamily, str | None, str | None]:
    """Return the family of the grid of *fields*, and the names of its horizontal coordinates or positions, if it has a place."""
    x = next((axis for axis in axes if axis.kind == "x" and axis.labels), None)
    y = next((axis for axis in axes if axis.kind == "y" and axis.labels), None)
    lon, lat = positions_of(raw, fields, named)
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
            words = f"{x_name!r} and {y_name!r} have no known reference system, so the place is unknown"
            notes.append(("no-crs", f"{words}. {_to_say_it(raw, x_name, y_name)}"))
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


def _to_say_it(raw: xr.Dataset, x: str, y: str) -> str:
    """Return the repair that says the reference system: degrees, if the labels can be degrees."""
    import numpy as np

    across, up = (np.abs(np.asarray(decoded(raw.variables[name]), dtype="float64")).max(initial=0.0) for name in (x, y))
    if across <= _TURN and up <= _POLE:
        return f"If they are degrees of longitude and latitude, ingest with {flag({'set_crs': 'EPSG:4326'})}"
    return f"To say it, ingest with {flag({'set_crs': 'EPSG:3035'})}, with its own code"


_TURN, _POLE = 360.0, 90.0


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
