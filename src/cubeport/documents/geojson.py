"""Boxes as GeoJSON geometries (RFC 7946)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def are_closed(geometry: Mapping[str, Any]) -> bool:
    """Return whether each ring of a polygon ends where it begins (RFC 7946, 3.1.6); ``True`` for other geometries."""
    match geometry.get("type"):
        case "Polygon":
            rings = geometry["coordinates"]
        case "MultiPolygon":
            rings = [ring for polygon in geometry["coordinates"] for ring in polygon]
        case "GeometryCollection":
            return all(are_closed(each) for each in geometry["geometries"])
        case _:
            return True
    return all(len(ring) >= 4 and list(ring[0]) == list(ring[-1]) for ring in rings)


def box_geometry(bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return the box as GeoJSON, counter-clockwise and split at 180° if it crosses. A box without area becomes a point or a
    line.
    """
    west, south, east, north = bbox
    if west == east or south == north:
        if (west, south) == (east, north):
            return {"type": "Point", "coordinates": [west, south]}
        return {"type": "LineString", "coordinates": [[west, south], [east, north]]}

    def ring(left: float, right: float) -> list[list[list[float]]]:
        return [[[left, south], [right, south], [right, north], [left, north], [left, south]]]

    if west > east:
        return {"type": "MultiPolygon", "coordinates": [ring(west, 180.0), ring(-180.0, east)]}
    return {"type": "Polygon", "coordinates": ring(west, east)}
