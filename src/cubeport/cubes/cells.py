"""The cells of an axis: the edges from CF bounds, otherwise the midpoints between labels, and half a step at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cubeport.cubes.axes import CubeAxes, FoundAxis
from cubeport.cubes.crs import degrees_of
from cubeport.cubes.decoding import decoded
from cubeport.cubes.grids import position_dims
from cubeport.cubes.variables import text_dims
from cubeport.errors import SourceRejected

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    type Numbers = np.ndarray[Any, np.dtype[np.float64]]
    type Array = np.ndarray[Any, Any]

_KEPT_LABELS = 1 << 16
"""Axes with up to this many labels are cached as float64, at most 64 of them."""


def exact(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return numbers as float64. float32 is converted by its shortest decimal, so that a stored 0.1 is 0.1 and not 0.10000000149.

    Do not write to the result: short arrays are cached, because each query needs the same labels several times.
    """
    import numpy as np

    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float16):
        return array.astype("float64")
    if array.size > _KEPT_LABELS:
        return array.astype(str).astype("float64")
    return _decimals(array.dtype.str, array.tobytes()).reshape(array.shape)


@lru_cache(maxsize=64)
def _decimals(dtype: str, content: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    import numpy as np

    found = np.frombuffer(content, dtype=dtype).astype(str).astype("float64")
    found.setflags(write=False)
    return found


def labels(raw: xr.Dataset, name: str) -> Any:
    """Return the labels of a coordinate as a one-dimensional array of texts or of decoded numbers."""
    import numpy as np

    values = np.atleast_1d(decoded(raw.variables[name], name=name))
    return values if values.dtype.kind in "SUOT" else exact(values)


def places(raw: xr.Dataset, name: str) -> Numbers:
    """Return true longitudes or latitudes in degrees, whatever their stored unit. If they are stored for each step, return the
    first.

    Raises
    ------
    SourceRejected
        ``bad-coordinates``, if their units are not an angle.
    """
    factor = degrees(raw, name)
    values = exact(decoded(_standing(raw, name), name=name))
    return values if factor == 1.0 else in_degrees(values, factor)


def _standing(raw: xr.Dataset, name: str) -> Any:
    """Return positions without a leading time dimension, because they do not change in time."""
    variable = raw.variables[name]
    return variable if position_dims(raw, name) == text_dims(variable) else variable[0]


def in_degrees(values: Numbers, factor: float) -> Numbers:
    """Return angles times *factor*, rounded to a tenth of a millimetre on the ground."""
    import numpy as np

    return np.asarray(np.round(values * factor, 9))


def degrees(raw: xr.Dataset, name: str) -> float:
    """Return the factor that converts a true longitude or latitude to degrees. Raises SourceRejected as :func:`places`."""
    units = raw.variables[name].attrs.get("units")
    factor = degrees_of(units if isinstance(units, str) else None)
    if factor is None:
        raise SourceRejected(
            f"{name!r} has the units {str(units)[:40]!r}, which are not angles, so the places are unknown",
            reason="bad-coordinates",
            next_step=f"write {name!r} in degrees in the source, with units 'degrees_east' or 'degrees_north'",
        )
    return factor


def cells_of(raw: xr.Dataset, found: CubeAxes, axis: FoundAxis) -> Cells:
    """Return the cells of a numeric axis, longitudes and latitudes in degrees. Raises SourceRejected as :func:`places`."""
    import numpy as np

    stored, given = np.atleast_1d(decoded(raw.variables[axis.name], name=axis.name)), bounds(raw, axis)
    placed = found.family == "rectilinear" and axis.name in (found.x, found.y)
    factor = degrees(raw, axis.name) if placed else 1.0
    if factor != 1.0:
        stored, given = in_degrees(exact(stored), factor), None if given is None else in_degrees(given, factor)
    turned = str(raw.variables[axis.name].attrs.get("units", "")).strip().lower().startswith("degree")
    return cells(
        stored,
        given,
        spread=axis.kind in ("x", "y") and not axis.scalar,
        circle=axis.name == found.x and (placed or (found.family == "projected" and turned)),
        latitude=placed and axis.name == found.y,
    )


def bounds(raw: xr.Dataset, axis: FoundAxis) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the CF bounds of an axis, ``(n, 2)``, lower edge first; ``None`` if it has no complete bounds."""
    import numpy as np

    if axis.bounds is None or axis.labels is None:
        return None
    variable = raw.variables[axis.bounds]
    if variable.dtype.kind not in "iuf":
        return None
    values = exact(decoded(variable, name=axis.bounds))
    if axis.scalar:
        values = values.reshape(1, -1)
    if values.ndim != 2 or values.shape != (raw.variables[axis.labels].size, 2) or not np.isfinite(values).all():
        return None
    return np.sort(values, axis=1)


def steps(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[bool, float | None]:
    """Return whether labels are evenly spaced, and their mean step, signed, with ten significant digits.

    Evenly means within 10⁻⁶ of a step, or within the precision of single-precision labels.
    """
    import numpy as np

    if len(values) < 2:
        return False, None
    step = float((values[-1] - values[0]) / (len(values) - 1))
    if step == 0 or not math.isfinite(step):
        return False, None
    even = values[0] + step * np.arange(len(values))
    # float32 labels, and sums of float32 steps, have rounding errors in their last digits. They still count as even.
    single = max(2.5e-7 * float(np.abs(values).max()), abs(step) * 5e-5)
    noise = min(single, abs(step) * 1e-2) if _is_single(values) else 0.0
    regular = bool(np.abs(values - even).max() <= max(abs(step) * 1e-6, noise))
    return regular, float(f"{step:.10g}")


def _is_single(values: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    import numpy as np

    if float(np.abs(values).max()) < _SINGLE_WHOLE and bool((np.rint(values) == values).all()):
        return True  # float32 has each of these whole numbers, and none with fewer digits is as near
    some = values[:100]  # most that are not are so from the first
    return bool((exact(some.astype("float32")) == some).all()) and bool((exact(values.astype("float32")) == values).all())


_SINGLE_WHOLE = 1 << 24


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one axis in stored order. On the circle, each cell is in the same turn as its label."""

    labels: Numbers
    lower: Numbers
    upper: Numbers
    """The edges of each label's cell; on an axis of points, both are the label."""
    circle: bool = False
    """Whether the axis goes round the Earth, so that 350 and −10 are the same place."""
    grain: float = 0.0
    """The relative precision of the stored type."""
    once: Once | None = None
    """The cells without those that repeat a place of the circle; ``None`` if none does, as on nearly all grids."""

    @property
    def outer(self) -> tuple[float, float]:
        """The outermost edges, sorted; on the circle, the edges at its largest gap, in the turn of the label after the gap."""
        import numpy as np

        low, high = float(self.lower.min()), float(self.upper.max())
        if not self.circle or len(self.lower) < 2:
            return low, high
        gaps, order = _gaps_between(self.lower, self.upper)
        if gaps.max() <= CLOSE * float(np.median(self.upper - self.lower)) + 1e-9:
            return (low, high) if high - low >= 360 else (low, low + 360.0)
        if high - low < 360 and gaps.max() <= _SEAM * (360.0 - (high - low)):
            return low, high
        first = int(order[(int(gaps.argmax()) + 1) % len(order)])
        start = float(self.lower[first])
        digits = digits_of(step=float(np.median(self.upper - self.lower)))
        return start, round(start + 360.0 - float(gaps.max()), digits)

    @property
    def slack(self) -> Numbers:
        """The largest difference of two numbers that count as equal: 10⁻⁹ of a cell plus the precision of the stored type."""
        import numpy as np

        size = np.maximum(np.abs(self.lower), np.abs(self.upper))
        return np.asarray(np.maximum(1e-9 * (self.upper - self.lower), 2 * self.grain * size))


@dataclass(frozen=True, slots=True)
class Once:
    """The cells of a circle, with one for each place, where columns come round again: 0…360 or −180…180, both ends included.

    It is the first as stored, and it has the whole of the place, also if bounds give each of the two a half. Everything that finds
    cells by place uses this, so boxes, positions, lines, zones and pictures have the same of the two.
    """

    cells: Cells
    index: Array
    """The index of each of these cells among all, as stored."""
    last: Array
    """The index of the last of all cells at the same place, which is the same as ``index`` for nearly all."""

    def of(self, found: Array) -> Array:
        """Return indices among all cells, of indices among these; −1 stays."""
        import numpy as np

        return np.asarray(np.where(found >= 0, self.index[found], -1).astype(found.dtype))


def with_once(found: Cells) -> Cells:
    """Return the cells of a circle with :attr:`Cells.once`."""
    import numpy as np

    count = len(found.labels)
    near = max(CLOSE * float(np.median(found.upper - found.lower)), 1e-9) if count else 0.0
    if count < 2 or float(np.ptp(found.labels)) < 360.0 - near:
        return found
    places = found.labels % 360.0
    order = np.argsort(places, kind="stable")
    apart = np.diff(places[order], prepend=places[order[-1]] - 360.0) > near
    if apart.all() or not apart.any():
        return found
    # From one that is apart from the one before it, because labels of one place can be on both sides of 0.
    start = int(apart.argmax())
    number = np.empty(count, "int64")
    number[np.roll(order, -start)] = np.cumsum(np.roll(apart, -start)) - 1
    _, first, place = np.unique(number, return_index=True, return_inverse=True)
    last = first.copy()
    np.maximum.at(last, place, np.arange(count))
    turned = 360.0 * np.round((found.labels - found.labels[first][place]) / 360.0)
    lower, upper = found.lower[first], found.upper[first]
    np.minimum.at(lower, place, found.lower - turned)
    np.maximum.at(upper, place, found.upper - turned)
    # Rounded labels differ in their last digits, and so do their edges.
    lower = np.where(found.lower[first] - lower <= near, found.lower[first], lower)
    upper = np.where(upper - found.upper[first] <= near, found.upper[first], upper)
    own = np.argsort(first)
    cells = Cells(found.labels[first[own]], lower[own], upper[own], True, found.grain)
    return replace(found, once=Once(cells, first[own], last[own]))


CLOSE = 1e-3
"""Gaps between cells of up to this share of a cell are rounding errors of the labels, not holes."""

_SEAM = 2.0
"""Longitudes keep their stored frame, unless one of their gaps is this many times as wide as the gap between the two ends."""

_HOLE = 1.5
"""Labels that are this many steps apart on an otherwise even axis have a hole between them; their cells end half a step from each
label."""
_HOLE_OF_UNEVEN = 3.0
"""The same for labels that are uneven on purpose, such as those of stretched grids."""


def cells(stored: Any, given: Numbers | None, *, spread: bool, circle: bool = False, latitude: bool = False) -> Cells:
    """Return the cells of labels: from CF bounds if given, otherwise from midpoint to midpoint; without *spread*, points.

    On the circle the seam is the largest gap between labels, in whatever turn they are stored: 323…359, 0…3 as well as 170…180,
    −179…−170. At the seam and at holes, a cell ends half a step from its label.

    Parameters
    ----------
    stored
        Decoded labels in their stored type, which gives their precision.
    given
        CF bounds, ``(n, 2)``, in any order.
    spread
        Whether labels without bounds are cells (x and y) or points (all other axes).
    circle
        Whether the labels are longitudes in degrees, of the Earth or of a rotated pole.
    latitude
        Whether the labels are latitudes in degrees. No cell extends beyond a pole.
    """
    import numpy as np

    stored = np.asarray(stored)
    labels = exact(stored)
    if given is not None:
        lower, upper = np.min(given, axis=1), np.max(given, axis=1)
        if circle:
            lower, upper = _in_turn(labels, lower, upper)
    elif not spread or len(labels) < 2:
        lower, upper = labels, labels
    else:
        lower, upper = _around(labels) if circle and float(np.ptp(labels)) < 360 else _between(labels)
    if len(labels) > 1:
        lower, upper = _closed(lower, upper, circle=circle)
    if latitude:
        lower, upper = np.clip(lower, -90, 90), np.clip(upper, -90, 90)
    grain = float(np.finfo(stored.dtype).eps) if stored.dtype.kind == "f" else 0.0
    found = Cells(labels, lower, upper, circle, grain)
    return with_once(found) if circle else found


def _between(labels: Numbers) -> tuple[Numbers, Numbers]:
    """Return the edges of monotonic labels on a line."""
    import numpy as np

    gaps = np.diff(labels)
    before, after = np.concatenate((gaps[:1], gaps)), np.concatenate((gaps, gaps[-1:]))
    ends = np.zeros(len(labels), bool)
    holes = _holes(np.abs(gaps), around=False)
    return _edges(labels, before, after, np.append(ends[:1], holes), np.append(holes, ends[:1]))


def _around(labels: Numbers) -> tuple[Numbers, Numbers]:
    """Return the edges of labels on the circle."""
    import numpy as np

    places = labels % 360.0
    order = np.argsort(places, kind="stable")
    gaps = np.diff(places[order], append=places[order[0]] + 360.0)
    holes = _holes(gaps, around=True)
    lower, upper = np.empty(len(labels)), np.empty(len(labels))
    lower[order], upper[order] = _edges(labels[order], np.roll(gaps, 1), gaps, np.roll(holes, 1), holes)
    return lower, upper


def _holes(gaps: Numbers, *, around: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return between which labels there is a hole, which is a gap much wider than the steps on both sides."""
    import numpy as np

    if len(gaps) < 2:
        return np.zeros(len(gaps), bool)
    if around and len(gaps) == 2:  # two labels: the wider gap is the hole
        return gaps > _HOLE * gaps.min()
    middle = float(np.median(gaps))
    usual = gaps[gaps < _HOLE * middle]
    even = len(usual) > 1 and float(np.ptp(usual)) <= 0.02 * middle
    nearby = np.maximum(np.roll(gaps, 1), np.roll(gaps, -1)) if around else np.maximum(_shifted(gaps, 1), _shifted(gaps, -1))
    if around and not even:
        # The seam is the largest gap. Between uneven labels, other gaps are holes only if they are far wider than their neighbours.
        seam = np.arange(len(gaps)) == int(gaps.argmax())
        return np.where(seam, gaps > _HOLE * nearby, gaps > _HOLE_OF_UNEVEN * nearby)
    return gaps > (_HOLE * middle if even else _HOLE_OF_UNEVEN * nearby)


def _shifted(gaps: Numbers, by: int) -> Numbers:
    import numpy as np

    moved = np.roll(gaps, by)
    moved[0 if by > 0 else -1] = np.inf  # an end has only one neighbour, so a hole cannot be detected there
    return moved


def _edges(labels: Numbers, before: Numbers, after: Numbers, hole_before: Any, hole_after: Any) -> tuple[Numbers, Numbers]:
    """Return lower and upper edges, half a gap from each label; at a hole, half the step on the other side of the label."""
    import numpy as np

    known = np.concatenate((before[~hole_before], after[~hole_after]))
    alone = float(np.median(known)) if len(known) else 0.0
    back = np.where(hole_before, np.where(hole_after, alone, after), before)
    on = np.where(hole_after, np.where(hole_before, alone, before), after)
    first, second = labels - back / 2, labels + on / 2
    sizes = np.abs(np.concatenate((before, after)))
    digits = digits_of(step=float(sizes[sizes > 0].min()) if (sizes > 0).any() else 0.0)
    first, second = np.round(first, digits), np.round(second, digits)
    return np.minimum(first, second), np.maximum(first, second)


def _in_turn(labels: Numbers, lower: Numbers, upper: Numbers) -> tuple[Numbers, Numbers]:
    """Return bounds in the turn of their labels. Some files write a cell across the seam as [358.75, 1.25]."""
    import numpy as np

    wraps = (upper - lower > 180) & (upper - lower < 360 - 1e-6) & (len(labels) > 1)
    lower, upper = np.where(wraps, upper - 360, lower), np.where(wraps, lower, upper)
    apart = np.round((labels - (lower + upper) / 2) / 360) * 360
    return lower + apart, upper + apart


def _gaps_between(lower: Numbers, upper: Numbers) -> tuple[Numbers, Any]:
    """Return the gap after each cell on the circle (0 if cells touch), sorted by lower edge, and this order."""
    import numpy as np

    start = lower % 360.0
    order = np.argsort(start, kind="stable")
    begin = start[order]
    reached = np.maximum.accumulate(begin + (upper - lower)[order])
    following = np.append(begin[1:], begin[0] + 360.0)
    return np.maximum(following - np.maximum(reached, reached[-1] - 360.0), 0.0), order


def _closed(lower: Numbers, upper: Numbers, *, circle: bool) -> tuple[Numbers, Numbers]:
    """Return the edges without tiny holes and overlaps.

    Labels in single precision leave gaps of 10⁻⁴ of a step; rounding, an overlap of the last digit.
    """
    import numpy as np

    width = float(np.median(upper - lower))
    if width <= 0:
        return lower, upper
    if circle:
        gaps, order = _gaps_between(lower, upper)
    else:
        order = np.argsort(lower, kind="stable")
        gaps = np.append(lower[order][1:] - upper[order][:-1], 0.0)
    hair = (gaps <= CLOSE * width) & (gaps >= -1e-9 * width)
    joined, following = upper[order] + gaps, np.roll(lower[order], -1)
    joined = np.where(np.abs(following - joined) <= CLOSE * width, following, joined)  # in the same turn, to the last digit
    upper = upper.copy()
    upper[order] = np.where(hair, joined, upper[order])
    return lower, upper


def digits_of(step: float) -> int:
    """Return the number of decimals that resolves 10⁻⁹ of a step."""
    return max(0, min(15, 9 - math.floor(math.log10(step)))) if step > 0 and math.isfinite(step) else 12
