"""What one variable of a dataset is by the CF conventions: its kind, its role, and its dimensions as a reader sees them.

Attributes count first, then names, never position. Datasets are *undecoded* (``decode_cf=False``): attributes such as
``coordinates``, ``bounds`` and ``grid_mapping`` are still there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from cubeport.cubes.companions import of_topology
from cubeport.cubes.description import AxisKind
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
        return "member" if standard == "realization" or is_named("member", name) else "category"
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


def is_named(kind: AxisKind, name: str) -> bool:
    """Return whether a name is one of those that this kind of axis commonly has."""
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


def named_coordinates(raw: xr.Dataset) -> list[str]:
    """Return the existing variables that ``coordinates`` attributes name, in the order of their first mention."""
    texts = [str(v.attrs["coordinates"]) for v in raw.variables.values() if isinstance(v.attrs.get("coordinates"), str)]
    texts += [str(raw.attrs["coordinates"])] if isinstance(raw.attrs.get("coordinates"), str) else []
    return [name for name in dict.fromkeys(word for text in texts for word in text.split()) if name in raw.variables]


def roles_of(raw: xr.Dataset) -> Mapping[str, Role]:
    """Return the role of each variable, from names and attributes alone."""
    return roles_with(raw, named_coordinates(raw))


def roles_with(raw: xr.Dataset, named: Iterable[str]) -> dict[str, Role]:
    """Return the role of each variable; *named* are those that ``coordinates`` attributes name."""
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


def dimensions_of(raw: xr.Dataset, names: Iterable[str]) -> list[str]:
    """Return the dimensions of some variables, each once, in the order of their first mention."""
    return list(dict.fromkeys(str(d) for name in names for d in raw.variables[name].dims))


def bounds_of(raw: xr.Dataset, variable: Any) -> str | None:
    """Return the variable with the bounds of the cells that a coordinate variable labels, or ``None`` (CF 7.1, 7.4)."""
    for key in ("bounds", "climatology"):
        name = variable.attrs.get(key)
        if isinstance(name, str) and name in raw.variables and raw.variables[name].ndim == variable.ndim + 1:
            return name
    return None


def coordinates_of(raw: xr.Dataset, name: str) -> list[str]:
    """Return the coordinates that a variable names and the file has."""
    return [word for word in str(raw.variables[name].attrs.get("coordinates", "")).split() if word in raw.variables]
