"""CSV (RFC 4180) from a cut of a cube: one row for each cell, with the axes first and then the fields. Missing values are empty,
infinite ones are ``inf`` and ``-inf``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cut import Cut
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.windows import UNKNOWN, aligned, time_axis
from cubeport.documents.coveragejson import Group, groups, plain
from cubeport.errors import NotAcceptable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    type Array = NDArray[Any]

MEDIA_TYPE = "text/csv"
_BLOCK_ROWS = 100_000


def encode(cut: Cut, *, deadline: Callable[[], None] = lambda: None) -> bytes:
    """Return the cut as one table, with rows in the order of the store, or of the line that was asked for. Its lines end with CRLF
    (RFC 4180).

    Parameters
    ----------
    deadline
        Called before each block of rows. It can raise to stop the work.

    Raises
    ------
    NotAcceptable
        If the fields are on different axes, which do not fit into one table.
    """
    layout = groups(cut.description, cut.windows)
    if len(layout) != 1:
        raise NotAcceptable(
            "These fields are on different axes, and a table has one kind of row.",
            next_step="With properties, request fields that share their axes.",
        )
    (group,) = layout
    dimensions = group.fields[0].dimensions
    shape = cut.windows.shape(dimensions)
    rows = _rows(cut, dimensions, shape)
    names, columns = _axes(cut, group, dimensions, shape, rows)
    for field in group.fields:
        values = cut.values[field.name]
        if field.dimensions != dimensions:
            values = values.transpose([field.dimensions.index(each) for each in dimensions])
        names.append(quoted(field.name))
        columns.append(cell_texts(values.ravel()[rows]))
    lines = [b",".join(names)]
    for start in range(0, len(rows), _BLOCK_ROWS):
        deadline()
        block = slice(start, start + _BLOCK_ROWS)
        lines.append(b"\r\n".join(map(b",".join, zip(*(column[block].tolist() for column in columns), strict=True))))
    return b"\r\n".join(lines) + b"\r\n"


def _axes(cut: Cut, group: Group, dimensions: Sequence[str], shape: Sequence[int], rows: Array) -> tuple[list[bytes], list[Array]]:
    """Return the names of labels and their columns in these rows: the axis (or the indices) of each dimension, the place, height
    and time that all cells have, then the positions of cells.
    """
    import numpy as np

    time = time_axis(cut.description)
    names, columns = [], []
    index = np.unravel_index(rows, shape)
    for at, dimension in enumerate(dimensions):
        axis = next((each for each in cut.description.axes if each.dimension == dimension and not each.scalar), None)
        if axis is not None and axis.name in cut.labels:
            labels = cut.labels[axis.name]
            stamps = ["" if each == UNKNOWN else str(stamp_at(int(each))) for each in labels] if axis is time else None
            texts = cell_texts(labels if stamps is None else np.array(stamps, dtype=object))
        else:
            texts = cell_texts(cut.windows.along[dimension].indices())
        names.append(quoted(dimension if axis is None else axis.name))
        columns.append(texts[index[at]])
    for axis in group.named.values():
        if axis.scalar and axis.name in cut.labels and axis.name not in dimensions:
            labels = cut.labels[axis.name]
            texts = cell_texts(np.array([str(stamp_at(int(each))) for each in labels], dtype=object) if axis is time else labels)
            names.append(quoted(axis.name))
            columns.append(np.repeat(texts, len(rows)))
    spatial = cut.description.spatial
    if group.composite and cut.positions is not None and spatial.family in ("curvilinear", "unstructured"):
        for name, values in zip((spatial.x, spatial.y), cut.positions, strict=True):
            placed = aligned(values, cut.description.cell_dimensions, dimensions)
            names.append(quoted(str(name)))
            columns.append(cell_texts(np.broadcast_to(placed, shape)[index]))
    temporal = cut.description.temporal
    own: list[tuple[str, Sequence[str], Array]] = []
    if cut.heights is not None and spatial.z is not None:
        own.append((spatial.z, cut.description.cell_dimensions, cut.heights))
    if cut.times is not None and temporal is not None and set(temporal.dimensions) <= set(dimensions):
        stamps = ["" if each == UNKNOWN else str(stamp_at(each)) for each in cut.times.ravel().tolist()]
        own.append((temporal.axis, temporal.dimensions, np.array(stamps, dtype=object).reshape(cut.times.shape)))
    for name, along, values in own:
        names.append(quoted(name))
        columns.append(cell_texts(np.broadcast_to(aligned(values, along, dimensions), shape)[index]))
    return names, columns


def _rows(cut: Cut, dimensions: Sequence[str], shape: Sequence[int]) -> Array:
    """Return the cells to write, as places in the raveled values, in the order of the rows."""
    import numpy as np

    mask, path = cut.windows.mask, cut.windows.path
    rows: Array = np.arange(prod(shape)).reshape(shape)
    if path is not None and path.keys() <= {*dimensions}:
        outer = [at for at, each in enumerate(dimensions) if each not in path]
        inner = [at for at, each in enumerate(dimensions) if each in path]
        index: tuple[Any, ...] = (..., *(path[dimensions[at]] for at in inner))
        rows = rows.transpose(outer + inner)[index]
    rows = rows.ravel()
    if mask is None or not set(mask.dimensions) <= set(dimensions):
        return rows
    inside: Array = np.broadcast_to(mask.aligned(dimensions), shape).ravel()[rows]
    return np.asarray(rows[inside])


def cell_texts(values: Array, *, missing: bytes = b"", infinite: bool = True) -> Array:
    """Return each value as text: the shortest decimal of its type. Missing values are *missing*, and infinite ones too unless they
    can be written, as *infinite* says.
    """
    import numpy as np
    import orjson

    if values.dtype.kind in "iufb":
        written = orjson.dumps(plain(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        found = np.array([missing if each == b"null" else each for each in written] if values.size else [], dtype=object)
        if infinite and values.dtype.kind == "f":
            found[np.isposinf(values)], found[np.isneginf(values)] = b"inf", b"-inf"
        return found
    return np.array([b"" if each is None else quoted(each) for each in plain(values)], dtype=object)


_FORMULA = re.compile(r"[=+\-@\t\r]")
_HARMLESS = re.compile(r"[+-]?[0-9][0-9TZ:.eE+-]*(?:, [+-]?[0-9][0-9.eE+-]*)*", re.ASCII)


def quoted(text: str) -> bytes:
    """Return a text as a cell. A text that a spreadsheet would run as a formula gets a leading ', as OWASP recommends."""
    if _FORMULA.match(text) and not _HARMLESS.fullmatch(text):
        text = "'" + text
    needs = any(mark in text for mark in ',"\r\n')
    return ('"' + text.replace('"', '""') + '"' if needs else text).encode()
