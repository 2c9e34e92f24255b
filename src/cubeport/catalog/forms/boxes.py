"""Boxes: west, south, east, north in degrees of CRS84; west > east crosses the antimeridian (RFC 7946, 5.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

type Box = tuple[float, float, float, float]


def checked_box(value: Sequence[float]) -> Box:
    """Return *value* as a box. Raises ValueError if it is not a box."""
    numbers = tuple(map(float, value))
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise ValueError("bbox is four numbers: west, south, east, north")
    west, south, east, north = numbers
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError("bbox must be west, south, east, north in CRS84 degrees with south <= north")
    return west, south, east, north


def boxes(west: float, south: float, east: float, north: float) -> tuple[Box, ...]:
    """Return the box as one box, or as two if it crosses the antimeridian."""
    if west > east:
        return (west, south, 180.0, north), (-180.0, south, east, north)
    return ((west, south, east, north),)


def query_boxes(bbox: Box) -> tuple[Box, ...]:
    """Return :func:`boxes`, with the antimeridian on both sides, because 180 and -180 are the same edge."""
    west, south, east, north = bbox
    found = boxes(*bbox)
    if west == -180 and east != 180:
        found += ((180.0, south, 180.0, north),)
    if east == 180 and west != -180:
        found += ((-180.0, south, -180.0, north),)
    return found


def meet(box: Box, bbox: Sequence[float]) -> bool:
    """Return whether two boxes intersect, including their edges."""
    return any(a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a in query_boxes(box) for b in boxes(*bbox))
