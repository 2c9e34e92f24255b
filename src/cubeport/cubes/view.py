"""The view of a dataset's page: one field, one time, one level, one place. URLs contain labels, which stay valid after appends."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.pictures.looks import palettes
from cubeport.cubes.windows import time_axis
from cubeport.errors import InvalidRequest, Problem


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
    """The part of the map: ``west,south,east,north`` in degrees. ``None`` is all of the dataset."""
    look: str | None = None
    """A palette. ``None`` is that of the dataset."""
    range: str | None = None
    """``low,high``: the values of the first and the last colour. ``None`` is the range of the dataset."""


def window(bbox: str) -> tuple[float, float, float, float]:
    """Return the part of a map as (x, y, width, height) in degrees, with y pointing down; the east may lie beyond 180.

    Raises
    ------
    InvalidRequest
        If *bbox* is not a west, south, east and north with something between them.
    """
    parts = [float(each) for each in bbox.split(",") if _NUMBER.fullmatch(each.strip())]
    if len(parts) == len(bbox.split(",")) == 4:
        west, south, east, north = parts
        width, height = (east - west) % 360 or 360.0, north - south
        if -540 <= west <= 540 and -90 <= south < north <= 90:
            return west, -north, width, height
    why = "must be west,south,east,north in degrees"
    raise InvalidRequest(f"bbox: {why}", errors=[Problem(("query", "bbox"), "malformed", why)])


def colours(view: View) -> list[tuple[str, str]]:
    """Return the parameters of a map and of its legend that draw a view in its colours.

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
    if view.range is not None:
        try:
            low, high = (float(each) for each in view.range.split(","))
        except ValueError:
            low = high = math.nan
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            why = "must be low,high with low below high"
            raise InvalidRequest(f"range: {why}", errors=[Problem(("query", "range"), "malformed", why)])
        pairs.append(("range", f"{low!r},{high!r}"))
    return pairs


_NUMBER = re.compile(r"[-+]?[0-9]{1,3}(?:\.[0-9]{0,12})?")


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
