"""Describe an answer from its plan: headers, the time that it covers, and its file name."""

from __future__ import annotations

from cubeport.cubes.resolve import cells
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.windows import LATITUDE_FIRST, UNKNOWN, storage_crs, time_axis
from cubeport.documents import coveragejson
from cubeport.service.plans import QueryPlan


def headers(plan: QueryPlan) -> dict[str, str]:
    """Return the headers ``Content-Crs``, ``Content-Bbox`` and ``Content-Datetime`` of the answer."""
    told: dict[str, str] = {}
    crs = storage_crs(plan.description)
    if plan.description.spatial.family != "none":
        own = f"{plan.part.public_url}/ogcapi/collections/{plan.shown.coverage_name}"
        told["Content-Crs"] = f"<{coveragejson.crs_uri(crs, own)}>"
    box = _box(plan)
    if box is not None:
        ordered = (box[1], box[0], box[3], box[2]) if crs == LATITUDE_FIRST else box
        told["Content-Bbox"] = ",".join(f"{edge:.10g}" for edge in ordered)
    # In another reference system, the cells belong to another kind of grid.
    carried = plan.description.spatial.family != plan.shown.description.spatial.family
    if plan.query.selection.scale is not None or carried:
        told["Content-Interpolation"] = "nearest-neighbor"
    span = period(plan)
    if span is not None:
        told["Content-Datetime"] = span[0] if span[0] == span[1] else "/".join(span)
    if plan.form.download:
        told["Content-Disposition"] = f'attachment; filename="{file_name(plan)}"'
    return told


def period(plan: QueryPlan) -> tuple[str, str] | None:
    """Return the first and last time label of the answer."""
    axis, labels = time_axis(plan.description), plan.part.opened.labels().values
    if axis is None or axis.name not in labels:
        return None
    window = None if axis.scalar else plan.part.windows.along.get(axis.dimension)
    if not axis.scalar and window is None:
        return None
    taken = labels[axis.name] if window is None else labels[axis.name][window.indices()]
    taken = taken[taken != UNKNOWN]  # of a place outside a way
    return str(stamp_at(int(taken.min()))), str(stamp_at(int(taken.max())))


def file_name(plan: QueryPlan) -> str:
    """Return ``{id}_{start}_{end}.{suffix}``, with only dates if all labels are at midnight."""
    span = period(plan)
    name, suffix = plan.shown.texts.dataset_id, plan.form.suffix
    if span is None:
        return f"{name}.{suffix}"
    midnight = all(end.endswith("T00:00:00Z") for end in span)
    return "_".join([name, *(end[:10] if midnight else end.replace(":", "").replace("-", "") for end in span)]) + f".{suffix}"


def _box(plan: QueryPlan) -> tuple[float, float, float, float] | None:
    """Return the outer edges of the cells of the answer, in the native reference system."""
    description, labels = plan.description, plan.part.opened.labels()
    x, y = description.axis_of("x"), description.axis_of("y")
    if x is None or y is None or description.spatial.family not in ("rectilinear", "projected"):
        return None
    ends: list[tuple[float, float]] = []
    for axis in (x, y):
        window = plan.part.windows.along.get(axis.dimension)
        if axis.scalar or window is None:
            return None
        found = cells(description, axis, labels)
        lower, upper = found.lower, found.upper
        pieces = [(lower[run.start : run.stop] + run.shift, upper[run.start : run.stop] + run.shift) for run in window.runs]
        ends.append((min(float(low.min()) for low, _ in pieces), max(float(high.max()) for _, high in pieces)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]
