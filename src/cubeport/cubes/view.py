"""The view of a dataset's page: one field, one time, one level, one place. URLs contain labels, which stay valid after appends."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cubeport.cubes.description import BoundingBox, CubeDescription, Spatial
from cubeport.cubes.pictures.looks import palettes
from cubeport.cubes.pictures.places import CRS84, transform
from cubeport.cubes.windows import time_axis
from cubeport.errors import InvalidRequest, Problem

type Window = tuple[float, float, float, float]
"""x, y, width, height of a part of a map, with y pointing down: degrees, or metres of a polar map."""


@dataclass(frozen=True, slots=True)
class View:
    """The selected view. ``None`` lets the service choose: the first field, the first level, the newest time."""

    v: str | None = None
    """A field."""
    t: str | None = None
    """A time, in the format of ``datetime`` of a coverage."""
    z: str | None = None
    """A level."""
    subset: str | None = None
    """``axis(value)``, separated by commas: one label of each other axis."""
    at: str | None = None
    """``lon,lat`` in degrees."""
    bbox: str | None = None
    """The part of the map: ``west,south,east,north`` in degrees, or xmin,ymin,xmax,ymax in metres of a polar map. ``None`` is the
    whole dataset.
    """
    map: str | None = None
    """``world``, ``north`` or ``south``. ``None`` is the map of the dataset's own grid."""
    look: str | None = None
    """A palette. ``None`` is that of the dataset."""
    range: str | None = None
    """``low,high``: the values of the first and the last colour. ``auto`` is the range of the dataset, and ``None`` that of
    the level at all times, if the field has levels.
    """


def known_field(description: CubeDescription, field: str | None) -> None:
    """Raise InvalidRequest if a view names a field that the data do not have."""
    if field is not None and field not in description.fields:
        why = f"name one of {', '.join(description.all_fields[:20])}"
        raise InvalidRequest(f"v: {why}", errors=[Problem(("query", "v"), "unknown-field", f"v: {why}")])


POLAR = {"north": "EPSG:3995", "south": "EPSG:3031"}
"""Maps around a pole, and their reference systems: polar stereographic, true at 71 degrees, Greenwich pointing down or up."""
_NEAR_POLE, _AROUND = 60.0, 50.0
"""A polar map is offered for data beyond the first latitude. It shows what lies beyond the second, or all of a smaller dataset."""
_WIDEST_M = 2e7


def maps(spatial: Spatial) -> tuple[str, ...]:
    """Return the maps of a dataset, the one that is shown first at the beginning: a polar one if its own grid is polar."""
    if spatial.bbox is None:
        return ("world",)
    _, south, _, north = spatial.bbox
    own = spatial.family == "projected" and spatial.crs is not None and "Polar Stereographic" in (spatial.crs.wkt2 or "")
    pole = "north" if south + north > 0 else "south"
    near = [name for name, beyond in (("north", north), ("south", -south)) if beyond > _NEAR_POLE or (own and name == pole)]
    return (*([pole] if own else []), "world", *(name for name in near if not (own and name == pole)))


def polar_frame(box: BoundingBox, name: str) -> Window:
    """Return what a polar map shows at first, 2:1, in metres: the circle of a latitude, or a smaller box."""
    import numpy as np

    west, south, east, north = box
    east += 360 if east < west else 0
    into = transform(CRS84, POLAR[name])
    low = max(south, _AROUND) if name == "north" else min(north, -_AROUND)
    if east - west >= 180 or (south, north)[name == "north"] in (90, -90):
        _, reach = (abs(float(each)) for each in into(0.0, low))
        xmin, ymin, xmax, ymax = -reach, -reach, reach, reach
    else:
        lon, lat = np.linspace(west, east, 31), np.linspace(south, north, 31)
        x, y = into(np.r_[lon, lon, np.full(31, west), np.full(31, east)], np.r_[np.full(31, south), np.full(31, north), lat, lat])
        xmin, ymin, xmax, ymax = (float(each) for each in (x.min(), y.min(), x.max(), y.max()))
    width = min(2 * _WIDEST_M, max(1.1 * (xmax - xmin), 2.2 * (ymax - ymin), 4e5))
    return round((xmin + xmax - width) / 2), round(-(ymin + ymax) / 2 - width / 4), round(width), round(width / 2)


def pin(at: str, name: str) -> tuple[float, float]:
    """Return where a place is on a map, with y pointing down."""
    lon, lat = (float(each) for each in at.split(","))
    if name not in POLAR:
        return lon, -lat
    x, y = transform(CRS84, POLAR[name])(lon, lat)
    return round(float(x)), -round(float(y))


def window(bbox: str, name: str = "world") -> Window:
    """Return the part of a map as (x, y, width, height) in its units, with y pointing down.

    Raises
    ------
    InvalidRequest
        If *bbox* is not a box with something in it.
    """
    x0, y0, x1, y1 = corners(bbox, POLAR.get(name))
    return x0, -y1, x1 - x0, y1 - y0


def corners(bbox: str, polar: str | None = None) -> tuple[float, float, float, float]:
    """Return xmin, ymin, xmax, ymax of a part of a map: degrees, of which the east may lie beyond 180; metres of a polar system.

    Raises
    ------
    InvalidRequest
        If *bbox* is not a box with something in it.
    """
    parts = [float(each) for each in bbox.split(",") if _NUMBER.fullmatch(each.strip())]
    if len(parts) == len(bbox.split(",")) == 4:
        x0, y0, x1, y1 = parts
        if polar is not None and -_WIDEST_M <= x0 < x1 <= _WIDEST_M and -_WIDEST_M <= y0 < y1 <= _WIDEST_M:
            return x0, y0, x1, y1
        if polar is None and -540 <= x0 <= 540 and abs(x1) <= 999 and -90 <= y0 < y1 <= 90:
            return x0, y0, x0 + ((x1 - x0) % 360 or 360.0), y1
    why = f"must be xmin,ymin,xmax,ymax in metres of {polar}" if polar else "must be west,south,east,north in degrees"
    raise InvalidRequest(f"bbox: {why}", errors=[Problem(("query", "bbox"), "malformed", why)])


def colours(view: View, *, levels: bool) -> list[tuple[str, str]]:
    """Return the parameters of a map and of its legend that draw a view in its colours.

    With *levels*, the range is that of the level unless the view has another: values at one level differ little compared with those
    of all.

    Raises
    ------
    InvalidRequest
        If there is no such palette, or the range is not two numbers, the lower one first.
    """
    pairs = []
    if view.look is not None:
        if view.look not in palettes():
            why = f"name one of {', '.join(palettes())}"
            raise InvalidRequest(f"look: {why}", errors=[Problem(("query", "look"), "unknown-palette", why)])
        pairs.append(("palette", view.look))
    if view.range is None and levels:
        pairs.append(("range", "level"))
    elif view.range not in (None, "auto"):
        try:
            low, high = (float(each) for each in str(view.range).split(","))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            why = "must be low,high with low below high; or auto"
            raise InvalidRequest(f"range: {why}", errors=[Problem(("query", "range"), "malformed", why)])
        pairs.append(("range", f"{low!r},{high!r}"))
    return pairs


_NUMBER = re.compile(r"[-+]?[0-9]{1,8}(?:\.[0-9]{0,12})?")


def plot_parameters(description: CubeDescription, view: View) -> list[tuple[str, str]]:
    """Return the coverage parameters that leave one axis of the field: time, or the vertical axis if a time is given."""
    field = view.v or description.fields[0]
    pairs = [("properties", field)]
    if view.t is not None:
        pairs.append(("datetime", view.t))
    if view.subset:
        pairs.append(("subset", view.subset))
    z, time = description.axis_of("z"), time_axis(description)
    dimensions = description.variable(field).dimensions if field in description.fields else ()
    has_series = time is not None and time.dimension in dimensions and time.size > 1 and (view.t is None or "/" in view.t)
    named = {part.split("(", 1)[0].strip() for part in (view.subset or "").split(",")}
    for axis in description.axes:
        if axis.scalar or axis.dimension not in dimensions or axis.name in named or axis.kind in ("x", "y") or axis is time:
            continue
        if axis is z and view.z is not None:
            pairs.append(("subset", f"{axis.name}({view.z})"))
        elif axis.size > 1 and (axis is not z or has_series):
            first = axis.values[0] if axis.values else axis.first
            if first is not None:
                pairs.append(("subset", f'{axis.name}("{first}")' if isinstance(first, str) else f"{axis.name}({first!r})"))
    return pairs


def point(text: str | None) -> str:
    """Return ``lon,lat`` as well-known text. Raises InvalidRequest."""
    try:
        lon, lat = (float(each) for each in (text or "").split(","))
        if not (math.isfinite(lon) and math.isfinite(lat)):
            raise ValueError(text)
    except ValueError as exc:
        why = "must be lon,lat in degrees"
        kind = "missing" if text is None else "malformed"
        raise InvalidRequest(f"at: {why}", errors=[Problem(("query", "at"), kind, why)]) from exc
    return f"POINT({lon!r} {lat!r})"
