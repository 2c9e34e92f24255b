"""Legends as PNG, for programs that show no SVG. They say what those of :mod:`cubeport.documents.maps` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubeport.cubes.pictures.letters import HIGH, WIDE, written
from cubeport.cubes.pictures.looks import Look
from cubeport.cubes.pictures.png import png
from cubeport.documents.maps import NO_VALUES
from cubeport.documents.titles import titled

if TYPE_CHECKING:
    import numpy as np

    type Array = np.ndarray[Any, Any]

_MARGIN, _BAR, _ROW = 8, 280, 20
_GROUND, _INK = (255, 255, 255), (20, 37, 46)
"""The colours of an SVG legend in daylight."""


def legend_png(title: str, units: str | None, look: Look) -> bytes:
    """Return the legend as a PNG picture: a colour bar with the values below it, or a row for each class. A field without values
    has neither, and says so.
    """
    import numpy as np

    label = titled(title, units)
    colours = look.colours()[1:]
    words = [each.replace("_", " ") for each in look.meanings or tuple(f"{value:g}" for value in look.flags)][: len(colours)]
    if look.empty:
        words = [NO_VALUES]
    width = max(_BAR, WIDE * len(label), *(24 + WIDE * len(each) for each in words)) + 2 * _MARGIN
    sheet = np.zeros(((24 + _ROW * len(words) if words else 56) + 2 * _MARGIN, width), "uint8")
    _write(sheet, label, _MARGIN, _MARGIN)
    if look.empty:
        _write(sheet, NO_VALUES, _MARGIN, _MARGIN + 24)
    elif look.flags:
        for number, each in enumerate(words):
            top = _MARGIN + 24 + _ROW * number
            sheet[top : top + 14, _MARGIN : _MARGIN + 16] = number + 2
            _write(sheet, each, _MARGIN + 24, top)
    else:
        top = _MARGIN + 24
        sheet[top : top + 14, _MARGIN : _MARGIN + _BAR] = 2 + np.arange(_BAR) * len(colours) // _BAR
        values = next(found for count in (5, 3, 2) if _fit(found := [f"{each:g}" for each in look.stops(count)]) or count == 2)
        for number, each in enumerate(values):
            middle = number * _BAR // (len(values) - 1)
            left = min(max(0, middle - WIDE * len(each) // 2), max(0, _BAR - WIDE * len(each)))
            _write(sheet, each, _MARGIN + left, top + 18)
    palette = np.concatenate([np.array([_GROUND, _INK], "uint8"), colours])[:256]
    return png(sheet, palette, np.full(len(palette), 255, "uint8"))


def _fit(labels: list[str]) -> bool:
    return WIDE * (sum(map(len, labels)) + len(labels) - 1) <= _BAR


def _write(sheet: Array, text: str, left: int, top: int) -> None:
    part = sheet[top : top + HIGH, left : left + WIDE * len(text)]
    part[written(text)[:, : part.shape[1]]] = 1
