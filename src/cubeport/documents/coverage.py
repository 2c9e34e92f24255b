"""What a version holds, as measured: the Coverage document of service.md 3. Kept with the version, copied by every face."""

from __future__ import annotations

from typing import Any

from cubeport.cubes import periods
from cubeport.cubes.calendars import canonical, parse_stamp
from cubeport.cubes.description import CubeDescription, Temporal


def coverage(description: CubeDescription, period_type: str) -> dict[str, Any]:
    """Return ``{temporal, spatial, spatial_wgs84, grid, calendar}``: space as cell edges in the data's CRS, time as periods."""
    spatial, temporal = description.spatial, description.temporal
    native = spatial.native_bbox or spatial.bbox
    geographic = spatial.crs is None or spatial.crs.geographic
    x, y = description.axis_of("x"), description.axis_of("y")
    return {
        "temporal": temporal and _temporal(temporal, period_type),
        "spatial": _box(native),
        "spatial_wgs84": None if geographic else _box(spatial.bbox),
        "grid": {
            "shape": [axis.size for axis in (y, x) if axis],
            "step": [axis.step for axis in (y, x) if axis],
            "crs": spatial.crs.authority or spatial.crs.name if spatial.crs else "OGC:CRS84",
        },
        "calendar": temporal.calendar if temporal else None,
    }


def period(temporal: Temporal, label: str, period_type: str) -> str:
    """Return the native string of the period that holds *label*; the label itself where there are no periods."""
    calendar = canonical(temporal.calendar)
    if calendar is None or period_type in ("irregular", "none", "climatology"):
        return label
    return periods.format_period(periods.of(parse_stamp(label, calendar), period_type, calendar), period_type, calendar)


def _temporal(temporal: Temporal, period_type: str) -> dict[str, Any]:
    return {
        "start": period(temporal, temporal.start, period_type),
        "end": period(temporal, temporal.end, period_type),
        "count": temporal.count,
        "gaps": [{"start": start, "end": end, "count": count} for start, end, count in temporal.gaps],
        "empty": [],
    }


def _box(box: tuple[float, float, float, float]) -> dict[str, float]:
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
