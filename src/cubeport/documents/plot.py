"""A plot as SVG: one field at one place, along time or along a vertical axis. It uses no library and contains no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cubeport.documents.markup import escape, quoteattr
from cubeport.documents.titles import titled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

MEDIA_TYPE = "image/svg+xml"
WIDTH = 720
"""The width of a plot in pixels, if no other is asked for."""
_SERIES_HEIGHT, _PROFILE_HEIGHT = 300.0, 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 14.0, 16.0, 34.0
_MOST_POINTS = 2_000
"""Up to this many steps are drawn one by one. For more, the minimum and maximum of each pixel column are drawn."""
_STYLE = (
    ":root{--ink:#12222b;--soft:#556973;--line:#dfe7ea;--mark:#0a5c80}"
    "@media (prefers-color-scheme:dark){:root{--ink:#e7eff2;--soft:#a6b8c0;--line:#263842;--mark:#7cc6e0}}"
    "text{font:12px system-ui,sans-serif;fill:var(--soft);font-variant-numeric:tabular-nums}"
    ".title{fill:var(--ink);font-weight:600}.grid{stroke:var(--line);fill:none}"
    ".line{stroke:var(--mark);stroke-width:1.6;fill:none;stroke-linejoin:round;stroke-linecap:round}.dot{fill:var(--mark)}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """Values along one axis.

    ``positions`` are the positions along the axis (ascending or descending numbers), and ``labels`` are their names. ``values`` is
    NaN if unknown. All have the same length.
    """

    positions: Array
    labels: Sequence[str]
    values: Array
    title: str
    units: str | None
    upright: bool = False
    """Whether the axis is vertical, as in a profile."""
    downwards: bool = False
    """Whether a vertical axis increases downwards, like depths."""
    axis_title: str = ""


def svg(line: Line, width: int = WIDTH) -> bytes:
    """Return the plot, *width* pixels wide. Its ``aria-label`` describes it in one sentence."""
    return (_profile if line.upright else _series)(line, width)


def summary(line: Line) -> str:
    """Return a sentence that describes the plot."""
    import numpy as np

    known = np.isfinite(line.values)
    count, total = int(known.sum()), len(line.values)
    unit = f" {line.units}" if line.units and line.units != "1" else ""
    if not count:
        return f"{line.title}: no value is known at any of {total} places of the axis."
    low, high = int(np.nanargmin(line.values)), int(np.nanargmax(line.values))
    if total == 1:
        return f"{line.title}: {_number(line.values[0])}{unit} at {line.labels[0]}."
    missing = f" {total - count} of {total} are missing." if count < total else ""
    return (
        f"{line.title}: {count} values from {line.labels[0]} to {line.labels[-1]}; least {_number(line.values[low])}{unit} at "
        f"{line.labels[low]}, greatest {_number(line.values[high])}{unit} at {line.labels[high]}.{missing}"
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from at most *low* to at least *high*, about *count* of them."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    if high - low <= 1e-12 * max(abs(low), abs(high)) or high - low < 1e-300:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, count - 1)
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(each * scale for each in (1, 2, 2.5, 5, 10) if each * scale >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [at * step for at in range(first, last + 1)]


def _series(line: Line, width: int) -> bytes:
    import numpy as np

    known = line.values[np.isfinite(line.values)]
    marks = ticks(float(known.min()), float(known.max())) if known.size else [0.0, 1.0]
    height = _SERIES_HEIGHT
    across = _scale(float(line.positions[0]), float(line.positions[-1]), _LEFT, width - _RIGHT)
    up = _scale(marks[0], marks[-1], height - _BOTTOM, _TOP)
    body = [_gridline(_LEFT, up(each), width - _RIGHT, up(each), _number(each), "end", -8, 4) for each in marks if known.size]
    for at in _spread(line.labels, width):
        half = _DIGIT * len(line.labels[at]) / 2  # no label is cut off at a side
        middle = min(max(across(float(line.positions[at])), _LEFT + 14, half), width - half)
        body.append(_text(middle, height - 12, line.labels[at], "middle"))
    body += _drawn([across(float(each)) for each in line.positions], line.values, up)
    body += _empty(known.size, width, height)
    note = "Each column of pixels spans the least and the greatest value." if len(line.values) > _MOST_POINTS else ""
    return _document(line, width, height, body, note=note)


def _profile(line: Line, width: int) -> bytes:
    import numpy as np

    known = line.values[np.isfinite(line.values)]
    marks = ticks(float(known.min()), float(known.max())) if known.size else [0.0, 1.0]
    height = _PROFILE_HEIGHT
    across = _scale(marks[0], marks[-1], _LEFT, width - _RIGHT)
    levels = ticks(float(line.positions.min()), float(line.positions.max()))
    top, bottom = (_TOP + 8, height - _BOTTOM) if line.downwards else (height - _BOTTOM, _TOP + 8)
    up = _scale(levels[0], levels[-1], top, bottom)
    body = [_gridline(_LEFT, up(each), width - _RIGHT, up(each), _number(each), "end", -8, 4) for each in levels]
    for mark, label in zip(marks, map(_number, marks), strict=True) if known.size else ():
        # A number is centred below its mark unless it would be cut off.
        body.append(_text(min(across(mark), width - 3.9 * len(label)), height - 12, label, "middle"))
    known_at = [(at, value) for at, value in zip(line.positions, line.values, strict=True) if math.isfinite(value)]
    points = [(across(float(value)), up(float(at))) for at, value in known_at]
    body.append(_path(points))
    body += map(_dot, points)
    body += _empty(known.size, width, height)
    return _document(line, width, height, body, note=line.axis_title)


def _drawn(columns: Sequence[float], values: Array, up: Any) -> list[str]:
    """Return the line, with gaps for missing values. For very many values, return the range of each pixel column."""
    import numpy as np

    if len(values) > _MOST_POINTS:
        pixel = np.floor(np.asarray(columns)).astype(int)
        parts = []
        for at in np.unique(pixel):
            here = values[pixel == at]
            here = here[np.isfinite(here)]
            if here.size:
                parts.append(f"M{at} {up(float(here.min())):.1f}V{min(up(float(here.max())), up(float(here.min())) - 0.5):.1f}")
        return [f'<path class="line" d="{"".join(parts)}"/>']
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, value in zip(columns, values, strict=True):
        if math.isfinite(value):
            pieces[-1].append((x, up(float(value))))
        elif pieces[-1]:
            pieces.append([])
    drawn = [_path(piece) for piece in pieces if len(piece) > 1]
    return drawn + [_dot(piece[0]) for piece in pieces if len(piece) == 1]


def _document(line: Line, width: float, height: float, body: Sequence[str], *, note: str) -> bytes:
    box = f"0 0 {width:g} {height + 20:g}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label={quoteattr(summary(line))}>'
    most = max(int(width / _LETTER) - len(note), 12)
    title = f'<text class="title" x="0" y="12">{escape(titled(line.title, line.units, most=most))}</text>'
    foot = f'<text x="{width - _RIGHT:g}" y="12" text-anchor="end">{escape(note)}</text>' if note else ""
    return f'{head}<style>{_STYLE}</style>{title}{foot}<g transform="translate(0 20)">{"".join(body)}</g></svg>'.encode()


def _empty(known: int, width: float, height: float) -> list[str]:
    """Return what a plot without values says in its middle."""
    return [] if known else [_text((_LEFT + width - _RIGHT) / 2, height / 2, "no values", "middle")]


def _scale(low: float, high: float, start: float, end: float) -> Any:
    span = high - low or 1.0
    return lambda value: start + (value - low) * (end - start) / span


def _spread(labels: Sequence[str], width: float) -> list[int]:
    """Return the indices of about five labels from the first to the last, with the same distance if that is possible."""
    last = len(labels) - 1
    # The last label is pushed inwards, so that it ends with the picture.
    wide = _DIGIT * max(map(len, labels))
    room = (width - _LEFT - _RIGHT) / (wide + max(0.0, wide / 2 - _RIGHT) + 8)
    most = max(2, min(7, 1 + int(room)))
    if last < 2:
        return list(range(last + 1))
    for gaps in sorted(range(min(2, most - 1), most), key=lambda each: abs(each - 4)):
        if last % gaps == 0:
            return list(range(0, last + 1, last // gaps))
    for gaps in range(min(4, most - 1), 1, -1):
        found = sorted({round(at * last / gaps) for at in range(gaps + 1)})
        if all((b - a) * room >= last for a, b in pairwise(found)):
            return found
    return [0, last]


def _dot(point: tuple[float, float]) -> str:
    return f'<circle class="dot" cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="2.4"/>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return f'<path class="line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>' if len(points) > 1 else ""


def _gridline(x1: float, y1: float, x2: float, y2: float, label: str, anchor: str, dx: float, dy: float) -> str:
    return f'<path class="grid" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>' + _text(x1 + dx, y1 + dy, label, anchor)


_LETTER, _DIGIT = 8.0, 7.7
"""The width of a bold letter in a wide font in pixels, about, and of a digit, at most."""


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _number(value: float) -> str:
    return f"{float(value):.6g}"
