"""Pictures of griddap: constraints by axis and commands such as ``&.size=600|400``, as a query of a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cubeport.cubes.griddap import GridAxis, GridOffer, resolve_query
from cubeport.cubes.part import Opened
from cubeport.cubes.pictures.looks import palettes
from cubeport.cubes.pictures.places import CRS84, Canvas
from cubeport.cubes.resolve import cells
from cubeport.cubes.selection import Selection, Slice, Subset, parse_datetime, read_number, stamp_at
from cubeport.cubes.windows import Window, storage_crs
from cubeport.errors import InvalidRequest, Problem
from cubeport.service.pictures import PictureQuery, world

_WIDTH = 512
_DRAWN = ".draw, .vars, .size, .colorBar and .bgColor"


def picture_query(opened: Opened, offered: GridOffer, constraints: str, commands: Sequence[str]) -> PictureQuery:
    """Return the picture of one field: the ranges of the axes of the map are its box, every other axis has one label.

    Without constraints, the whole map is drawn at the newest time and the first label of the other axes.

    Raises
    ------
    InvalidRequest
        If the query has several fields, a range along another axis, a stride along the map, or a command that is not offered.
    NotFound
        If a value is outside the labels, or the data have no horizontal position.
    """
    description = opened.description
    given = _commands(commands)
    across = description.cell_dimensions or tuple(
        axis.dimension for axis in (description.axis_of("y"), description.axis_of("x")) if axis is not None and not axis.scalar
    )
    windows: Mapping[str, Window] = {}
    field = next(iter(offered.fields))
    if constraints.strip():
        found = resolve_query(offered, constraints)
        if found.of_axes or len(found.names) != 1:
            raise _wrong("a picture shows one variable.")
        field, windows = found.names[0], found.windows
    if not set(across) <= set(offered.fields[field]):
        raise _wrong(f"{field} is not on the axes of a map.")
    _check_vars(given.get(".vars"), [offered.axes[each].name for each in reversed(across)], field)
    subsets, moment = [], None
    for dimension in offered.fields[field]:
        axis, window = offered.axes[dimension], windows.get(dimension)
        if dimension in across or window is None:
            continue
        if window.size != 1:
            raise _wrong(f"a picture shows one value of {axis.name}; the range has {window.size}.")
        label = axis.labels[window.runs[0].start]
        if axis.calendar:
            moment = parse_datetime(str(stamp_at(int(label))))
        else:
            subsets.append(Subset(axis.name, Slice((str(label) if axis.is_text else float(label),))))
    canvas = _canvas(opened, [offered.axes[each] for each in across], windows, given.get(".size"))
    palette, limits, logarithmic, steps = _colours(given.get(".colorBar"))
    selection = Selection(properties=(field,), subsets=tuple(subsets), datetime=moment)
    background = None if ".bgColor" not in given else _background(given[".bgColor"])
    return PictureQuery(
        canvas, selection, range=limits, palette=palette, logarithmic=logarithmic, steps=steps, background=background
    )


def _commands(texts: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for each in texts:
        name, _, value = each.partition("=")
        if name not in (".draw", ".vars", ".size", ".colorBar", ".bgColor"):
            raise _wrong(f'"{name[:40]}" is not offered for pictures; these are: {_DRAWN}.')
        if name in given:
            raise _wrong(f"{name} is given twice.")
        given[name] = value
    if given.get(".draw", "surface") != "surface":
        raise _wrong(".draw must be surface; lines are at /datasets/{id}/plot.")
    return given


def _check_vars(text: str | None, axes: Sequence[str], field: str) -> None:
    if text is not None and text.split("|")[:3] != [*axes, field]:
        raise _wrong(f".vars must be {'|'.join([*axes, field])}.")


def _canvas(opened: Opened, across: Sequence[GridAxis], windows: Mapping[str, Window], size: str | None) -> Canvas:
    """Return the frame of the ranges along the axes of the map: the outer edges of the cells, in the system of the axes."""
    description = opened.description
    taken = [windows.get(axis.dimension) for axis in across]
    whole = all(window is None or window.size == axis.size for axis, window in zip(across, taken, strict=True))
    pixels = None if size is None else _pixels(size)
    if len(across) != 2 or description.cell_dimensions or (description.spatial.family == "projected" and whole):
        if not whole:
            raise _wrong(
                "the axes of this grid count cells, so a picture shows all of it; /ogcapi/collections/{id}/map takes a box."
            )
        drawn = world(description, _WIDTH)
        return drawn if pixels is None else Canvas(drawn.bbox, *pixels, drawn.crs)
    crs = storage_crs(description)
    if crs == "native":
        raise _wrong("the reference system of these axes has no code, so a picture shows all of it.")
    edges = []
    for axis, window in zip(across, taken, strict=True):
        if window is not None and len(window.runs) > 1:
            raise _wrong(f"a picture shows every cell of {axis.name}; leave out the stride.")
        found = cells(description, description.axis(axis.dimension), opened.labels())
        run = slice(None) if window is None else slice(window.runs[0].start, window.runs[0].stop)
        edges.append((float(found.lower[run].min()), float(found.upper[run].max())))
    if any(low == high for low, high in edges):  # one label without bounds
        if crs != CRS84:
            raise _wrong("a row or a column of this grid has no extent, so a picture shows all of it.")
        edges = [(low - 0.5, high + 0.5) if low == high else (low, high) for low, high in edges]  # as maps of such data
    (south, north), (west, east) = edges
    if pixels is None:
        ratio = (north - south) / (east - west)
        if crs == CRS84:
            ratio /= max(0.1, math.cos(math.radians((south + north) / 2)))
        pixels = (_WIDTH, max(1, round(_WIDTH * ratio))) if ratio <= 1 else (max(1, round(_WIDTH / ratio)), _WIDTH)
    return Canvas((west, south, east, north), *pixels, crs)


def _pixels(text: str) -> tuple[int, int]:
    parts = text.split("|")
    if len(parts) != 2 or not all(each.isascii() and each.isdigit() and int(each[:9]) > 0 for each in parts):
        raise _wrong(".size must be width|height in pixels.")
    width, height = (int(each[:9]) for each in parts)
    return width, height


def _colours(text: str | None) -> tuple[str | None, tuple[float, float] | None, bool | None, int | None]:
    """Return palette, range, scale and number of colours of ``palette|continuous|scale|min|max|sections``."""
    palette, continuous, scale, low, high, sections = [*(text or "").split("|"), *[""] * 6][:6]
    if palette and palette not in palettes():
        raise _wrong(f'.colorBar: the palette "{palette[:40]}" is not offered; these are: {", ".join(palettes())}.')
    if continuous not in ("", "C", "D") or scale not in ("", "Linear", "Log"):
        raise _wrong(".colorBar must be palette|C or D|Linear or Log|min|max|number of sections.")
    if (low == "") != (high == ""):
        raise _wrong(".colorBar: give min and max, or neither.")
    try:
        limits = (read_number(low), read_number(high)) if low else None
        steps = int(read_number(sections)) if sections and continuous == "D" else None
    except ValueError as error:
        raise _wrong(f".colorBar {error}.") from error
    if (limits is not None and limits[0] >= limits[1]) or (steps is not None and not 2 <= steps <= 254):
        raise _wrong(".colorBar: min must be below max, and sections between 2 and 254.")
    return palette or None, limits, {"": None, "Linear": False, "Log": True}[scale], steps


def _background(text: str) -> tuple[int, int, int]:
    """Return the colour of ``0xAARRGGBB`` without its opacity."""
    digits = text.removeprefix("0x")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if len(raw) not in (3, 4):
        raise _wrong(".bgColor must be 0xRRGGBB or 0xAARRGGBB.")
    return raw[-3], raw[-2], raw[-1]


def _wrong(why: str) -> InvalidRequest:
    return InvalidRequest(f"Query error: {why}", errors=[Problem(("query",), "bad-command", why)])
