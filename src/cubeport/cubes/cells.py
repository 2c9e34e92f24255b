"""Cells of an axis: the edges that CF bounds give, or the midpoints between labels with half a step outside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cubeport.cubes.axes import FoundAxis
from cubeport.cubes.decoding import decoded

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr


def exact(values: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return numbers as float64; float32 by its shortest decimal, so that a stored 0.1 reads 0.1 and not 0.10000000149."""
    import numpy as np

    array = np.asarray(values)
    if array.dtype in (np.float32, np.float16):
        return array.astype(str).astype("float64")
    return array.astype("float64")


def labels(raw: xr.Dataset, name: str) -> Any:
    """Return the labels of a coordinate as a one-dimensional array: texts, or numbers as a reader sees them."""
    import numpy as np

    values = np.atleast_1d(decoded(raw.variables[name], name=name))
    return values if values.dtype.kind in "SUOT" else exact(values)


def bounds(raw: xr.Dataset, axis: FoundAxis) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return the CF bounds of an axis, ``(n, 2)``, lower first; ``None`` where it has none that is whole."""
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
    """Return whether labels are evenly spaced, and the mean step, ten significant digits, signed.

    Evenly means within 10⁻⁶ of a step; of labels in single precision, within what that precision can hold.
    """
    import numpy as np

    if len(values) < 2:
        return False, None
    step = float((values[-1] - values[0]) / (len(values) - 1))
    if step == 0 or not math.isfinite(step):
        return False, None
    even = values[0] + step * np.arange(len(values))
    # float32 labels, or sums of float32 steps, are off by their own last digits; that is no unevenness.
    single = max(2.5e-7 * float(np.abs(values).max()), abs(step) * 5e-5)
    noise = min(single, abs(step) * 1e-2) if _is_single(values) else 0.0
    regular = bool(np.abs(values - even).max() <= max(abs(step) * 1e-6, noise))
    return regular, float(f"{step:.10g}")


def _is_single(values: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    return bool((exact(values.astype("float32")) == values).all())


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one axis in stored order."""

    lower: np.ndarray[Any, np.dtype[np.float64]]
    upper: np.ndarray[Any, np.dtype[np.float64]]
    """Per label; on point axes both are the label."""

    @property
    def outer(self) -> tuple[float, float]:
        """The outermost edges, sorted."""
        return float(self.lower.min()), float(self.upper.max())


def cells(
    values: np.ndarray[Any, np.dtype[np.float64]], given: np.ndarray[Any, np.dtype[np.float64]] | None, *, spread: bool
) -> Cells:
    """Return the cells of labels.

    Parameters
    ----------
    values
        Labels, monotonic.
    given
        CF bounds, ``(n, 2)``.
    spread
        Whether labels without bounds stand for cells (x and y), not for points (all other axes).
    """
    import numpy as np

    if given is not None:
        return Cells(given[:, 0], given[:, 1])
    if not spread or len(values) < 2:
        return Cells(values, values)
    middle = (values[:-1] + values[1:]) / 2
    edges = np.concatenate(([values[0] - (values[1] - values[0]) / 2], middle, [values[-1] + (values[-1] - values[-2]) / 2]))
    digits = digits_of(step=float(np.abs(np.diff(values)).min()))
    edges = np.round(edges, digits)
    return Cells(np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:]))


def digits_of(step: float) -> int:
    """Return the decimals that tell 10⁻⁹ of a step."""
    return max(0, min(15, 9 - math.floor(math.log10(step)))) if step > 0 and math.isfinite(step) else 12
