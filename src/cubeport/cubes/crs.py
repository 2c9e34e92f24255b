"""The reference system of a cube's native x and y, from CF grid mappings or from the attributes that other tools write instead."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Literal

from cubeport.cubes.description import Crs

# A PROJ definition can name files and grids to read. Text from outside must not choose them.
_READS_FILES = re.compile(r"\binit=|nadgrids|geoidgrids|grids=|catalog=|proj=pipeline|@|file:", re.IGNORECASE)

_LONGEST = 20_000
"""The longest definition that PROJ is given, in characters."""

_TEXTS = ("crs_wkt", "spatial_ref", "crs", "proj4", "proj4_string", "proj4_params", "esri_pe_string", "epsg_code")


@dataclass(frozen=True, slots=True)
class _GridMapping:
    """Attributes that are compared by their text, because values can be arrays."""

    text: str
    attributes: Mapping[str, Any] = field(compare=False)


def from_attributes(attributes: Mapping[str, Any]) -> Any | None:
    """Return the pyproj CRS that the attributes of a grid mapping define, or ``None`` if PROJ does not know it.

    It is kept, because PROJ takes up to a third of a second to make a datum that has no name.
    """
    return _made(_GridMapping(repr(sorted((key, repr(_plain(value))) for key, value in attributes.items())), dict(attributes)))


@lru_cache(maxsize=64)
def _made(mapping: _GridMapping) -> Any | None:
    import pyproj
    from pyproj.exceptions import CRSError

    attributes = mapping.attributes
    texts = {key: str(attributes[key]) for key in _TEXTS if isinstance(attributes.get(key), str)}
    if any(_READS_FILES.search(text) or len(text) > _LONGEST for text in texts.values()):
        texts = {}
    if "grid_mapping_name" in attributes and not (_is_bare(attributes) and any(key.startswith("proj4") for key in texts)):
        plain = {key: _plain(value) for key, value in attributes.items() if key not in _TEXTS}
        known = {key: texts[key] for key in ("crs_wkt", "spatial_ref") if key in texts}
        for parameters in (plain | known, plain):
            try:
                return pyproj.CRS.from_cf(parameters)
            except (CRSError, KeyError, TypeError, ValueError):
                continue
    for text in texts.values():
        if re.match(r"\+|EPSG:\d|OGC:|(PROJ|GEO|BOUND|COMPOUND|DERIVED)\w*\[", text.strip(), re.IGNORECASE):
            try:
                return pyproj.CRS.from_user_input(text.strip())
            except CRSError:
                continue
    return None


def declared(attributes: Mapping[str, Any]) -> Any | None:
    """Return the pyproj CRS that the Zarr convention *proj* declares (``proj:code``, ``proj:wkt2``, ``proj:projjson``), if any."""
    import pyproj
    from pyproj.exceptions import CRSError

    for key in ("proj:code", "proj:wkt2"):
        if isinstance(said := attributes.get(key), str) and (found := from_attributes({"crs_wkt": said})) is not None:
            return found
    text = json.dumps(said) if isinstance(said := attributes.get("proj:projjson"), dict) else ""
    if not text or len(text) > _LONGEST or _READS_FILES.search(text):
        return None
    try:
        return pyproj.CRS.from_json(text)
    except CRSError:
        return None


def of_labels(crs: Any, axis: Literal["x", "y"]) -> dict[str, str]:
    """Return the ``standard_name`` and the ``units`` that CF 4 and 5.6 give the labels of an axis in this pyproj CRS."""
    name = {"x": "longitude", "y": "latitude"}[axis]
    if crs.is_geographic and crs.is_derived:  # a rotated pole
        return {"standard_name": f"grid_{name}", "units": "degrees"}
    if crs.is_geographic:
        return {"standard_name": name, "units": {"x": "degrees_east", "y": "degrees_north"}[axis]}
    unit = crs.axis_info[0].unit_name if crs.axis_info else "metre"
    return {"standard_name": f"projection_{axis}_coordinate", "units": "m" if unit == "metre" else unit}


def is_off_greenwich(attributes: Mapping[str, Any]) -> bool:
    """Return whether longitudes count from another meridian, such as that of Paris. Needs no PROJ."""
    texts = (str(attributes[key]) for key in ("crs_wkt", "spatial_ref") if key in attributes)
    found = [match[1] for text in texts for match in _MERIDIAN.finditer(text)] or [_plain(attributes.get(_MERIDIAN_KEY, 0))]
    return any(abs(_number(each)) > 1e-9 for each in found)


def _number(value: Any) -> float:
    """Return the number that an attribute states, or 0 if it states none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


_MERIDIAN_KEY = "longitude_of_prime_meridian"
_MERIDIAN = re.compile(r'PRIMEM\["[^"]*",\s*(-?[0-9.]+)')


def _is_bare(attributes: Mapping[str, Any]) -> bool:
    """Return whether a grid mapping names no ellipsoid. A PROJ text in the same attributes is then better than assuming WGS 84."""
    return not any(
        key in attributes for key in ("earth_radius", "semi_major_axis", "crs_wkt", "spatial_ref", "horizontal_datum_name")
    )


def _plain(value: Any) -> Any:
    listed = value.tolist() if hasattr(value, "tolist") else value
    return listed[0] if isinstance(listed, list) and len(listed) == 1 else listed


def describe(crs: Any, attributes: Mapping[str, Any]) -> Crs:
    """Return the CRS as a value. It has an authority only if the attributes name one; cubeport does not guess it by similarity."""
    document = crs.to_json_dict()
    identity = document.get("id")
    code = str(attributes.get("epsg_code", ""))
    authority = None
    if isinstance(identity, dict):
        authority = f"{identity['authority']}:{identity['code']}"
    elif re.fullmatch(r"(?:EPSG:)?\d{4,6}", code):
        authority = f"EPSG:{code.removeprefix('EPSG:')}"
    return Crs(
        name=crs.name if crs.name not in ("undefined", "unknown") else str(attributes.get("grid_mapping_name", "unknown")),
        authority=authority,
        wkt2=crs.to_wkt("WKT2_2019"),
        projjson=document,
        geographic=bool(crs.is_geographic) and not bool(crs.is_derived),
    )


@cache
def crs84() -> Crs:
    """Return CRS84: longitude and latitude in degrees, in that order.

    It is created once, because PROJ opens its database again in each forked child, a third of the cost of checking a small file.
    """
    import pyproj

    crs = pyproj.CRS("OGC:CRS84")
    return Crs(
        name="WGS 84 (CRS84)", authority="OGC:CRS84", wkt2=crs.to_wkt("WKT2_2019"), projjson=crs.to_json_dict(), geographic=True
    )


MERCATOR = "EPSG:3857"
_EARTH_M = 6378137.0


def degrees_of_mercator(x: float, y: float) -> tuple[float, float]:
    """Return the longitude and latitude in degrees of a Web Mercator point (metres)."""
    return math.degrees(x / _EARTH_M), math.degrees(math.atan(math.sinh(y / _EARTH_M)))


def unit_factor(crs: Any, units: str | None, *, largest: float, attributes: Mapping[str, Any]) -> float | None:
    """Return the factor from stored x and y to the units of the CRS: km → m, and for geostationary grids angle × height.

    ``None`` if the units are not ones of x and y in this CRS, so the place of the cells is unknown.
    """
    text = (units or "").strip().lower()
    if attributes.get("grid_mapping_name") == "geostationary" or "geostationary" in crs.to_wkt().lower():
        height = float(_plain(attributes.get("perspective_point_height", 1.0)))
        if text in ("rad", "radian", "radians", "1", "") and largest < 1:
            return height
        if text in ("microradian", "microradians", "urad", "µrad"):
            return height * 1e-6
        if text in _DEGREES:
            return height / _DEGREES_OF_RADIAN
    if crs.is_geographic:
        return degrees_of(units)
    if text in ("", "1"):
        return 1.0
    metres = metres_of(text)
    axis = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return metres if metres is None else metres / (axis or 1.0)


def metres_of(units: str | None) -> float | None:
    """Return the factor from a length in *units* to metres, such as 100,000 for ``100 km``; ``None`` if it is not a length."""
    found = _LENGTH.fullmatch((units or "").strip().lower())
    length = _LENGTHS.get(found[2].replace("_", " ")) if found is not None else None
    return None if found is None or length is None else float(found[1] or 1) * length


def in_metres(attributes: Mapping[str, Any], units: str | None) -> Mapping[str, Any]:
    """Return a grid mapping with ``false_easting`` and ``false_northing`` in metres, as PROJ reads them.

    CF gives them in the units of x and y (Appendix F). Many writers give metres next to kilometres all the same: a number that
    would lie beyond the Earth in the units of x is in metres.
    """
    length = metres_of(units)
    if length in (None, 1.0) or any(key in attributes for key in ("crs_wkt", "spatial_ref")):
        return attributes
    found = {}
    for key in ("false_easting", "false_northing"):
        value = _plain(attributes.get(key))
        if isinstance(value, int | float) and abs(value * length) <= _CIRCUMFERENCE_M:
            found[key] = value * length
    return {**attributes, **found}


def in_units_of(crs: Any, factor: float, units: str) -> Any:
    """Return the CRS in the units of labels: *factor* is that from the labels to the units of *crs*, *units* their name."""
    import pyproj

    document = crs.to_json_dict()
    inner = document
    while "source_crs" in inner:
        inner = inner["source_crs"]
    own = crs.axis_info[0].unit_conversion_factor or 1.0
    kind = "LinearUnit" if crs.is_projected else "AngularUnit"
    for axis in inner["coordinate_system"]["axis"]:
        axis["unit"] = {"type": kind, "name": units, "conversion_factor": factor * own}
    return pyproj.CRS.from_json_dict({key: value for key, value in document.items() if key != "id"})


def degrees_of(units: str | None) -> float | None:
    """Return the factor from longitudes and latitudes in *units* to degrees; ``None`` if the units are not an angle."""
    text = (units or "").strip().lower()
    if text in ("", "1") or text.startswith("deg"):
        return 1.0
    return {
        **dict.fromkeys(("rad", "radian", "radians"), _DEGREES_OF_RADIAN),
        **dict.fromkeys(("arc_minute", "arc_minutes", "arcmin", "arcminute", "arcminutes"), 1 / 60),
        **dict.fromkeys(("arc_second", "arc_seconds", "arcsec", "arcsecond", "arcseconds"), 1 / 3600),
    }.get(text)


_DEGREES_OF_RADIAN = 57.29577951308232
_DEGREES = ("degree", "degrees", "deg")
_CIRCUMFERENCE_M = 40_100_000.0
_LENGTH = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)?\s*\*?\s*([a-z][a-z_ ]*)")
_LENGTHS = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1.0),
    **dict.fromkeys(("km", "kilometer", "kilometers", "kilometre", "kilometres"), 1000.0),
    **dict.fromkeys(("ft", "foot", "feet", "international foot", "international feet"), 0.3048),
    **dict.fromkeys(("us survey foot", "us survey feet", "ftus", "us ft", "foot us"), 1200 / 3937),
}
