"""What is said to a caller whose selection is outside the data: where the data are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cubeport.cubes.description import CubeDescription
from cubeport.errors import NotFound


def no_data(description: CubeDescription) -> NotFound:
    """Return the error for a selection outside the data, with the extent of the data in words and as a member."""
    words = []
    if description.temporal is not None:
        first, last = (str(each).removesuffix("T00:00:00Z") for each in (description.temporal.start, description.temporal.end))
        words.append(f"at {first}" if first == last else f"from {first} to {last}")
    if description.spatial.bbox is not None:
        words.append("within west,south,east,north " + ",".join(f"{each:.6g}" for each in description.spatial.bbox))
    words += _heights(description)
    told = f" The data are {', '.join(words)}." if words else ""
    return NotFound(f"There are no data for this request.{told}", what="data", extent=_extent(description))


def _heights(description: CubeDescription) -> Iterator[str]:
    """Yield where the vertical axes are: a level in other units is the usual mistake."""
    for axis in description.axes:
        if axis.kind == "z" and not axis.scalar and axis.first is not None and axis.last is not None:
            low, high = sorted((axis.first, axis.last))
            yield f"at {axis.name} {low:g}{f' to {high:g}' if high > low else ''}{f' {axis.units}' if axis.units else ''}"


def _extent(description: CubeDescription) -> dict[str, Any]:
    """Return the extent of the data, for a caller whose selection is outside it."""
    extent: dict[str, Any] = {}
    if description.spatial.bbox is not None:
        extent["bbox"] = list(description.spatial.bbox)
    if description.temporal is not None:
        extent["interval"] = [description.temporal.start, description.temporal.end]
    extent["axes"] = dict(_limits(description))
    return extent


def _limits(description: CubeDescription) -> Iterator[tuple[str, Any]]:
    for axis in description.axes:
        if axis.kind in ("z", "member", "category", "other", "index") and not axis.scalar:
            if axis.lower is not None and axis.upper is not None:
                yield axis.name, [axis.lower, axis.upper]
            elif axis.values is not None:
                yield axis.name, list(axis.values[:100])
