"""A table as CSV for spreadsheets, with one row for each zone and one column for each period."""

from __future__ import annotations

from cubeport.cubes.tables.table import Table
from cubeport.documents.table import quoted
from cubeport.documents.tables.form import Elements, TableForm, texts


def write(table: Table, _: Elements) -> bytes:
    """Return the table. If it has several variables or statistics, a column names the one of each row."""
    alone = len(table.columns) == 1
    heads = [f"{label}" if alone else f"{column.name} {label}".strip() for column in table.columns for label in table.labels]
    heads = [head or column.name for head, column in zip(heads, [c for c in table.columns for _ in table.labels], strict=True)]
    lines = [b",".join([b"zone", b"name", *map(quoted, heads)])]
    for place, zone in enumerate(table.zone_set.zones):
        values = [text.encode() for column in table.columns for text in texts(column.values[:, place])]
        lines.append(b",".join([quoted(zone.id), quoted(zone.name), *values]))
    return b"\r\n".join(lines) + b"\r\n"


FORM = TableForm("csv-wide", "CSV, a column for each period", "text/csv", "csv", write)
