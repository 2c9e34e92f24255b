"""Looks: the palette, range and steps of a variable, and the class of each value.

Each palette has 256 colours and is made from cmap 0.8: cmocean (MIT), Crameri (MIT), matplotlib's viridis and magma (CC0), cividis
(BSD-3-Clause) and ColorBrewer (Apache-2.0). There are no rainbow palettes, because readers cannot see their order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import Variable

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

STEPS = 254
"""The number of colours of a continuous palette. Index 0 is transparent, and one index is unused."""

_BY_STANDARD_NAME: tuple[tuple[str, str], ...] = (
    ("anomaly", "balance"),
    ("tendency", "balance"),
    ("northward", "balance"),
    ("eastward", "balance"),
    ("upward", "balance"),
    ("downward_x", "balance"),
    ("sea_floor_depth", "deep"),
    ("depth", "deep"),
    ("altitude", "topo"),
    ("bedrock", "topo"),
    ("sea_ice", "ice"),
    ("salinity", "haline"),
    ("precipitation", "rain"),
    ("rainfall", "rain"),
    ("snow", "Blues"),
    ("humidity", "YlGnBu"),
    ("moisture", "YlGnBu"),
    ("oxygen", "oxy"),
    ("speed", "speed"),
    ("temperature", "thermal"),
)
"""Palettes by a part of the CF standard name. The first part that the variable's standard name contains decides."""

_BY_UNITS: Mapping[str, str] = {
    "K": "thermal",
    "degC": "thermal",
    "Celsius": "thermal",
    "degrees_Celsius": "thermal",
    "m s-1": "speed",
}


_FARTHEST = 8e307
"""Colours end here, because double precision does not hold the length of a longer range."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a variable is drawn."""

    palette: str
    low: float
    high: float
    steps: int = STEPS
    hide_beyond: bool = False
    """Whether values outside the range are transparent instead of having the colour of its ends."""
    logarithmic: bool = False
    flags: tuple[float, ...] = ()
    """The values of a variable of classes (CF ``flag_values``). Each has its own colour."""
    meanings: tuple[str, ...] = ()
    empty: bool = False
    """Whether the variable has no value to draw, so that nobody knows a range."""

    def classes(self, values: Array) -> Array:
        """Return the palette index of each value, uint8: 0 for missing values, otherwise 1 to ``steps`` or the number of its
        flag.
        """
        import numpy as np

        numbers = np.asarray(values)
        if self.flags:
            order = np.argsort(self.flags)
            sorted_flags = np.asarray(self.flags, dtype="float64")[order]
            at = np.clip(np.searchsorted(sorted_flags, numbers), 0, len(sorted_flags) - 1)
            known = sorted_flags[at] == numbers
            return np.where(known, order[at] % (STEPS + 1) + 1, 0).astype("uint8")
        numbers = numbers.astype("float32" if numbers.dtype.itemsize <= 4 else "float64", copy=False)
        low, high = max(self.low, -_FARTHEST), min(self.high, _FARTHEST)
        shown = np.isfinite(numbers)
        if self.logarithmic:
            shown &= numbers > 0
            numbers = np.log10(np.where(shown, numbers, 1))
            low, high = math.log10(low), math.log10(high)
        if self.hide_beyond:
            shown &= (numbers >= low) & (numbers <= high)
        # The ends of a range may be one number here, or so near each other that no finite number of steps fits.
        gain = self.steps / (high - low) if high > low else 0.0
        if not math.isfinite(gain):
            gain = 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = numbers - low
            scaled *= gain
            np.clip(scaled, 0, self.steps - 1, out=scaled)
            classes = scaled.astype("uint8")
        # Added as integers, because a float just below a class would be rounded into the next one.
        classes += 1
        classes *= shown
        return classes

    def colours(self) -> Array:
        """Return red, green and blue of every index of :meth:`classes`, (n, 3) uint8, read-only. The first colour is never
        visible.
        """
        return _colours(self.palette, len(self.flags) or self.steps, bool(self.flags))

    def stops(self, count: int = 5) -> list[float]:
        """Return the values for a legend, in ascending order."""
        if self.flags:
            return list(self.flags)
        if self.logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            return [round_to(10 ** (low + (high - low) * n / (count - 1)), 3) for n in range(count)]
        return [round_to(self.low + (self.high - self.low) * n / (count - 1), 6) for n in range(count)]


@lru_cache(maxsize=64)
def _colours(name: str, count: int, apart: bool) -> Array:
    import numpy as np

    whole = palette(name)
    if apart and len(whole) < 256:
        taken = whole[np.arange(count) % len(whole)]
    else:
        taken = whole[np.round(np.linspace(0, len(whole) - 1, count)).astype(int)]
    found: Array = np.concatenate([np.zeros((1, 3), "uint8"), taken])[:256]
    found.flags.writeable = False
    return found


def palettes() -> tuple[str, ...]:
    """Return the names of all palettes."""
    return tuple(_stored())


def palette(name: str) -> Array:
    """Return the colours of a palette, (n, 3) uint8. Raises KeyError."""
    import numpy as np

    return np.frombuffer(bytes.fromhex(_stored()[name]), dtype="uint8").reshape(-1, 3)


@cache
def _stored() -> Mapping[str, str]:
    text = files(__package__).joinpath("palettes.json").read_text(encoding="utf-8")
    stored: dict[str, str] = json.loads(text)
    return dict(sorted(stored.items()))


def look_of(variable: Variable, render: Sequence[Mapping[str, Any]] = (), *, within: tuple[float, float] | None = None) -> Look:
    """Return how a variable is drawn: by the dataset's ``render``, otherwise by its CF attributes and measured range.

    Parameters
    ----------
    within
        The measured range of a part of the values, such as those of one level. The palette remains that of all of them.

    Raises
    ------
    ValueError
        If it has no value to draw.
    """
    given: dict[str, Any] = {}
    for each in render:
        if each.get("variable") in (None, variable.name):
            given |= {key: value for key, value in each.items() if value is not None}
    flags = _flags(variable)
    name = str(given.get("palette") or given.get("colormap") or "")
    if flags:
        meanings = tuple(str(variable.attributes.get("flag_meanings", "")).split())
        chosen = name if name in palettes() else "Paired"
        return Look(chosen, min(flags), max(flags), flags=flags, meanings=meanings)
    span = given.get("range")
    if span is not None and _is_range(span):
        low, high = float(span[0]), float(span[1])
    else:
        low, high = _measured(variable)
    chosen = name if name in palettes() else default_palette(variable, low, high)
    if within is not None and not _is_range(span):
        low, high = _rounded(*within)
    if chosen == "balance" and span is None:
        high = max(abs(low), abs(high))
        low = -high
    return Look(chosen, low, high, steps=int(given.get("steps", STEPS)))


def _is_range(given: Any) -> bool:
    return isinstance(given, list | tuple) and len(given) == 2 and float(given[0]) < float(given[1])


def default_palette(variable: Variable, low: float, high: float) -> str:
    """Return the palette of a variable by its standard name, otherwise by its units, otherwise by the sign of its values."""
    name = (variable.standard_name or "").lower()
    for part, chosen in _BY_STANDARD_NAME:
        if part in name:
            return chosen
    if (variable.units or "") in _BY_UNITS:
        return _BY_UNITS[variable.units or ""]
    return "balance" if low < 0 < high and min(-low, high) > 0.2 * max(-low, high) else "viridis"


def _flags(variable: Variable) -> tuple[float, ...]:
    values = variable.attributes.get("flag_values") if variable.has_classes else None
    listed = values if isinstance(values, list | tuple) else [] if values is None else [values]
    return tuple(float(each) for each in listed)[:STEPS]


def _measured(variable: Variable) -> tuple[float, float]:
    """Return the measured range, rounded outwards."""
    low, high = variable.shown_min, variable.shown_max
    if low is None or high is None:
        low, high = variable.valid_min, variable.valid_max  # of versions that were sealed before shown ends were measured
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{variable.name} has no value to draw")
    return _rounded(low, high)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Return a range, rounded outwards to a step of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        half = max(0.5, abs(low) * 1e-6)  # so that the ends of a range around 1e20 differ
        return low - half, low + half
    low, high = max(low, -_FARTHEST), min(high, _FARTHEST)
    step = _nice((high - low) / 20)
    return round_to(math.floor(low / step) * step, 12), round_to(math.ceil(high / step) * step, 12)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= step * (1 - 1e-9))


def round_to(value: float, digits: int) -> float:
    """Return *value* rounded to *digits* significant digits."""
    return float(f"{value:.{digits}g}")
