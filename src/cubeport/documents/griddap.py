"""The documents of ERDDAP's griddap: tables as CSV and JSON, NcML, the table of attributes, errors. Pure functions.

The forms are those that ERDDAP writes. A table has one row for each cell, with the axes first; its times are ISO 8601 texts with
the units ``UTC``. NcML and the table of attributes give times in seconds since 1970.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from cubeport.cubes.cut import Cut
from cubeport.cubes.griddap import GridAxis
from cubeport.cubes.selection import stamp_at
from cubeport.cubes.windows import UNKNOWN, time_axis
from cubeport.documents.coveragejson import plain
from cubeport.documents.markup import Element, document, element
from cubeport.documents.table import cell_texts, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    type Array = NDArray[Any]

TIME_UNITS = "seconds since 1970-01-01T00:00:00Z"
STATUSES = {
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 410: "Gone", 413: "Payload Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
_TYPES = {
    "i1": "byte", "u1": "ubyte", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint", "i8": "long", "u8": "ulong",
    "f2": "float", "f4": "float", "f8": "double", "b1": "byte",
}  # fmt: skip
"""ERDDAP's names of types, by numpy's kind and size; ``String`` for everything else."""
_PACKING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "units", "calendar", "coordinates", "bounds")
"""Attributes of stored values that do not apply to the decoded values, or that have an own line."""
_BLOCK_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    units: str | None
    type: str
    values: Array


def type_of(dtype: np.dtype[Any]) -> str:
    """Return ERDDAP's name of a type."""
    return _TYPES.get(f"{dtype.kind}{dtype.itemsize}", "String")


def type_named(name: str) -> str:
    """Return ERDDAP's name of a type by the name that a description gives it, such as ``float32``."""
    import numpy as np

    try:
        return type_of(np.dtype(name))
    except TypeError:
        return "String"


def columns(cut: Cut) -> list[Column]:
    """Return the columns of a cut whose fields share their dimensions: the axes in the order of the store, then the fields."""
    import numpy as np

    time = time_axis(cut.description)
    first = cut.description.variable(cut.windows.fields[0])
    shape = cut.windows.shape(first.dimensions)
    found = []
    for at, dimension in enumerate(first.dimensions):
        axis = next((each for each in cut.description.axes if each.dimension == dimension and not each.scalar), None)
        known = axis is not None and axis.name in cut.labels
        labels = cut.labels[axis.name] if axis is not None and known else cut.windows.along[dimension].indices().astype("int32")
        column = label_column(
            axis.name if axis is not None and known else dimension, axis.units if axis else None, labels, axis is time
        )
        spread = np.tile(np.repeat(column.values, prod(shape[at + 1 :])), prod(shape[:at]))
        found.append(Column(column.name, column.units, column.type, spread))
    for name in cut.windows.fields:
        values = cut.values[name]
        found.append(Column(name, cut.description.variable(name).units, type_of(values.dtype), values.ravel()))
    return found


def label_column(name: str, units: str | None, labels: Array, is_time: bool) -> Column:
    """Return the column of the labels of an axis; times as texts."""
    import numpy as np

    if not is_time:
        return Column(name, units, type_of(labels.dtype), labels)
    stamps = [None if each == UNKNOWN else str(stamp_at(each)) for each in labels.tolist()]
    return Column(name, "UTC", "String", np.array(stamps, dtype=object))


def csv(found: Sequence[Column], *, deadline: Callable[[], None] = lambda: None) -> bytes:
    """Return a table as CSV with two header rows, names and units. Missing numbers are ``NaN``; columns may differ in length.

    Parameters
    ----------
    deadline
        Called before each block of rows. It can raise to stop the work.
    """
    lines = [b",".join(quoted(each.name) for each in found), b",".join(quoted(each.units or "") for each in found)]
    for block in _blocks(found, deadline):
        cells = [cell_texts(each, missing=b"NaN") for each in block]
        lines += map(b",".join, zip(*(each.tolist() for each in cells), strict=True))
    return b"\n".join(lines) + b"\n"


def with_units(table: bytes) -> bytes:
    """Return a CSV table with one header row instead of two: ``name (units)``, ERDDAP's ``csvp``."""
    import csv as reader

    names, units, rows = table.split(b"\n", 2)
    pairs = zip(*next(zip(reader.reader([names.decode()]), reader.reader([units.decode()]), strict=True)), strict=True)
    return b",".join(quoted(f"{name} ({unit})" if unit else name) for name, unit in pairs) + b"\n" + rows


def without_header(table: bytes) -> bytes:
    """Return the rows of a CSV table: ERDDAP's ``csv0``."""
    return table.split(b"\n", 2)[2]


def table_json(found: Sequence[Column], *, deadline: Callable[[], None] = lambda: None) -> bytes:
    """Return a table in ERDDAP's JSON form. Missing numbers are ``null``."""
    head = {
        "columnNames": [each.name for each in found],
        "columnTypes": [each.type for each in found],
        "columnUnits": [each.units for each in found],
    }
    rows: list[bytes] = []
    for block in _blocks(found, deadline):
        rows += [b"[" + b",".join(row) + b"]" for row in zip(*(_tokens(each).tolist() for each in block), strict=True)]
    opening = json.dumps(head, ensure_ascii=False).encode()[:-1]
    return b'{"table":' + opening + b',"rows":[\n' + b",\n".join(rows) + b"\n]}}\n"


def _blocks(found: Sequence[Column], deadline: Callable[[], None]) -> Iterator[list[Array]]:
    """Yield the columns in blocks of rows. Shorter columns (of axes alone) are filled up with missing values."""
    import numpy as np

    rows = max(len(each.values) for each in found)
    for start in range(0, rows, _BLOCK_ROWS):
        deadline()
        block = []
        for each in found:
            values = each.values[start : start + _BLOCK_ROWS]
            short = min(rows - start, _BLOCK_ROWS) - len(values)
            if short:
                filled = values.astype("float64") if values.dtype.kind in "iuf" else values
                values = np.concatenate([filled, np.full(short, np.nan if filled.dtype.kind == "f" else None, dtype=filled.dtype)])
            block.append(values)
        yield block


def _tokens(values: Array) -> Array:
    import numpy as np

    if values.dtype.kind in "iufb":
        return cell_texts(values, missing=b"null", infinite=False)
    return np.array([json.dumps(each, ensure_ascii=False).encode() for each in plain(values)], dtype=object)


# --- descriptions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Described:
    """An axis or a field as griddap describes it: decoded, times in seconds since 1970."""

    name: str
    type: str
    axes: tuple[str, ...]
    """The names of the axes in order; for an axis its own name."""
    size: int
    """How many labels an axis has; 0 for a field."""
    attributes: Mapping[str, Any]
    spacing: float | None = None
    """The even or the mean step of an axis with more than one number."""
    even: bool = False


def axis_attributes(axis: GridAxis, stored: Mapping[str, Any], units: str | None) -> dict[str, Any]:
    """Return the attributes of an axis: its range, its units and what is stored about it."""
    kept: dict[str, Any] = {} if (span := axis.range()) is None else {"actual_range": [*span]}
    said = TIME_UNITS if axis.calendar else units
    if axis.calendar and axis.calendar not in ("standard", "proleptic_gregorian"):
        kept["calendar"] = axis.calendar
    return kept | field_attributes(stored, said)


def field_attributes(stored: Mapping[str, Any], units: str | None) -> dict[str, Any]:
    """Return the attributes of decoded values."""
    kept = {name: value for name, value in stored.items() if name not in _PACKING}
    return kept | ({} if units is None else {"units": units})


def ncml(location: str, attributes: Mapping[str, Any], described: Iterable[Described]) -> bytes:
    """Return the description as NcML."""
    known = list(described)
    root = element(
        "netcdf",
        *_xml_attributes(attributes),
        *(element("dimension", attributes={"name": each.name, "length": str(each.size)}) for each in known if each.size),
        *map(_xml_variable, known),
        attributes={"xmlns": "https://www.unidata.ucar.edu/namespaces/netcdf/ncml-2.2", "location": location},
    )
    return document(root, indented=True) + b"\n"


def _xml_variable(each: Described) -> Element:
    attributes = {"name": each.name, "shape": " ".join(each.axes), "type": each.type}
    return element("variable", *_xml_attributes(each.attributes), attributes=attributes)


def _xml_attributes(attributes: Mapping[str, Any]) -> Iterator[Element]:
    for name, value in attributes.items():
        kind, text = _said(value, " ")
        typed = {} if kind == "String" else {"type": kind}
        yield element("attribute", attributes={"name": name, **typed, "value": text})


def info(attributes: Mapping[str, Any], described: Iterable[Described]) -> list[Column]:
    """Return ERDDAP's table of a dataset's axes, fields and attributes (``/info/{id}/index.csv``)."""
    import numpy as np

    rows = [("attribute", "NC_GLOBAL", name, *_said(value, ", ")) for name, value in attributes.items()]
    for each in described:
        if each.size:
            spacing = "" if each.spacing is None else f", evenlySpaced={str(each.even).lower()}, averageSpacing={each.spacing:.10g}"
            rows.append(("dimension", each.name, "", each.type, f"nValues={each.size}{spacing}"))
        else:
            rows.append(("variable", each.name, "", each.type, ", ".join(each.axes)))
        rows += [("attribute", each.name, name, *_said(value, ", ")) for name, value in each.attributes.items()]
    names = ("Row Type", "Variable Name", "Attribute Name", "Data Type", "Value")
    return [Column(name, None, "String", np.array([row[at] for row in rows], dtype=object)) for at, name in enumerate(names)]


def info_csv(found: Sequence[Column]) -> bytes:
    """Return the table of attributes as CSV, which has no row of units."""
    return with_units(csv(found))


def _said(value: Any, between: str) -> tuple[str, str]:
    """Return the type and the text of an attribute."""
    values = list(value) if isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0 else [value]
    plain_values = [each.item() if hasattr(each, "item") else each for each in values]
    if all(isinstance(each, int) and not isinstance(each, bool) for each in plain_values):
        small = all(-(2**31) <= each < 2**31 for each in plain_values)
        return "int" if small else "long", between.join(map(str, plain_values))
    if all(isinstance(each, int | float) for each in plain_values):
        return "double", between.join(repr(float(each)) for each in plain_values)
    return "String", between.join(map(str, plain_values))


def error(status: int, message: str) -> bytes:
    """Return an error in ERDDAP's form, which its clients show."""
    words = json.dumps(f"{STATUSES.get(status, 'Error')}: {message}", ensure_ascii=False)
    return f"Error {{\n    code={status};\n    message={words};\n}}\n".encode()
