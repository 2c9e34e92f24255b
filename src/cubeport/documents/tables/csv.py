"""A table as CSV, with one row for each zone, period, variable and statistic (the long form of pandas and R)."""

from __future__ import annotations

from itertools import repeat

from cubeport.cubes.tables.table import Table
from cubeport.documents.table import quoted
from cubeport.documents.tables.form import Elements, TableForm, texts

COLUMNS = ("zone", "name", "period", "variable", "statistic", "value", "cells", "share")


def write(table: Table, _: Elements) -> bytes:
    """Return the table. Lines end with CRLF (RFC 4180), and missing values are empty."""
    lines = [",".join(COLUMNS).encode()]
    periods = [quoted(each) for each in table.labels]
    for column in table.columns:
        named = quoted(column.variable), quoted(column.statistic)
        for place, zone in enumerate(table.zone_set.zones):
            values, cells, shares = (
                [each.encode() for each in texts(found[:, place])]
                for found in (column.values, column.cells, column.shares.round(6))
            )
            rows = zip(
                repeat(quoted(zone.id)),
                repeat(quoted(zone.name)),
                periods,
                repeat(named[0]),
                repeat(named[1]),
                values,
                cells,
                shares,
            )
            lines += map(b",".join, rows)
    return b"\r\n".join(lines) + b"\r\n"


FORM = TableForm("csv", "CSV", "text/csv", "csv", write)
