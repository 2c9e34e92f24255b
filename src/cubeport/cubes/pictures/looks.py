"""Looks: the palette, the range and the steps of a variable, and the class of each value.

Palettes are 256 colours each, made from cmap 0.8: cmocean (MIT), Crameri (MIT), matplotlib's viridis and magma (CC0), cividis
(BSD-3-Clause) and ColorBrewer (Apache-2.0). No palette is a rainbow: its order cannot be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cubeport.cubes.description import Variable

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

STEPS = 254
"""Colours of a continuous palette; index 0 is transparent, and one index is left."""

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
"""The first part of a CF standard name that a variable's own contains decides."""

_BY_UNITS: Mapping[str, str] = {
    "K": "thermal",
    "degC": "thermal",
    "Celsius": "thermal",
    "degrees_Celsius": "thermal",
    "m s-1": "speed",
}


@dataclass(frozen=True, slots=True)
class Look:
    """How a variable is drawn."""

    palette: str
    low: float
    high: float
    steps: int = STEPS
    hide_beyond: bool = False
    """Whether values outside of the range are transparent, not clamped to its ends."""
    logarithmic: bool = False
    flags: tuple[float, ...] = ()
    """The values of a variable of classes (CF ``flag_values``): each has a colour of its own."""
    meanings: tuple[str, ...] = ()

    def classes(self, values: Array) -> Array:
        """Return the palette index of each value, uint8: 0 for missing, else 1 to ``steps`` (or the place of its flag)."""
        import numpy as np

        numbers = np.asarray(values)
        if self.flags:
            order = np.argsort(self.flags)
            sorted_flags = np.asarray(self.flags, dtype="float64")[order]
            at = np.clip(np.searchsorted(sorted_flags, numbers), 0, len(sorted_flags) - 1)
            known = sorted_flags[at] == numbers
            return np.where(known, order[at] % (STEPS + 1) + 1, 0).astype("uint8")
        numbers = numbers.astype("float32" if numbers.dtype.itemsize <= 4 else "float64", copy=False)
        low, high = self.low, self.high
        shown = np.isfinite(numbers)
        if self.logarithmic:
            shown &= numbers > 0
            numbers = np.log10(np.where(shown, numbers, 1))
            low, high = math.log10(low), math.log10(high)
        if self.hide_beyond:
            shown &= (numbers >= low) & (numbers <= high)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = np.clip((numbers - low) * (self.steps / (high - low)), 0, self.steps - 1)
        return np.where(shown, np.where(shown, scaled, 0).astype("int64") + 1, 0).astype("uint8")

    def colours(self) -> Array:
        """Return red, green, blue of every index that :meth:`classes` gives, (n, 3) uint8; the first is never seen."""
        import numpy as np

        whole = palette(self.palette)
        count = len(self.flags) if self.flags else self.steps
        if self.flags and len(whole) < 256:
            taken = whole[np.arange(count) % len(whole)]
        else:
            taken = whole[np.round(np.linspace(0, len(whole) - 1, count)).astype(int)]
        return np.concatenate([np.zeros((1, 3), "uint8"), taken])[:256]

    def stops(self, count: int = 5) -> list[float]:
        """Return values that a legend names, from the lowest."""
        if self.flags:
            return list(self.flags)
        if self.logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            return [round_to(10 ** (low + (high - low) * n / (count - 1)), 3) for n in range(count)]
        return [round_to(self.low + (self.high - self.low) * n / (count - 1), 6) for n in range(count)]


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


def look_of(variable: Variable, render: Sequence[Mapping[str, Any]] = ()) -> Look:
    """Return how a variable is drawn: as the dataset's ``render`` says, else by its CF attributes and measured range.

    Raises
    ------
    ValueError
        When it has no value to draw.
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
    if isinstance(span, list | tuple) and len(span) == 2 and float(span[0]) < float(span[1]):
        low, high = float(span[0]), float(span[1])
    else:
        low, high = _measured(variable)
    chosen = name if name in palettes() else default_palette(variable, low, high)
    if chosen == "balance" and span is None:
        high = max(abs(low), abs(high))
        low = -high
    return Look(chosen, low, high, steps=int(given.get("steps", STEPS)))


def default_palette(variable: Variable, low: float, high: float) -> str:
    """Return the palette for what the variable is: by its standard name, its units, then by its sign."""
    name = (variable.standard_name or "").lower()
    for part, chosen in _BY_STANDARD_NAME:
        if part in name:
            return chosen
    if (variable.units or "") in _BY_UNITS:
        return _BY_UNITS[variable.units or ""]
    return "balance" if low < 0 < high and min(-low, high) > 0.2 * max(-low, high) else "viridis"


def _flags(variable: Variable) -> tuple[float, ...]:
    values = variable.attributes.get("flag_values")
    listed = values if isinstance(values, list | tuple) else [] if values is None else [values]
    return tuple(float(each) for each in listed)[:STEPS]


def _measured(variable: Variable) -> tuple[float, float]:
    """Return the measured range, rounded outwards to a step of 1, 2, 2.5 or 5 times a power of ten."""
    low, high = variable.valid_min, variable.valid_max
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{variable.name} has no value to draw")
    if high <= low:
        return low - 0.5, low + 0.5
    step = _nice((high - low) / 20)
    return round_to(math.floor(low / step) * step, 12), round_to(math.ceil(high / step) * step, 12)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= step * (1 - 1e-9))


def round_to(value: float, digits: int) -> float:
    """Return *value* with so many significant digits."""
    return float(f"{value:.{digits}g}")
