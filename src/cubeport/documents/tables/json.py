"""A table as JSON: its dataset, how it was made, and its rows."""

from __future__ import annotations

from typing import Any

from cubeport.cubes.tables.table import Column, Table
from cubeport.documents.tables.form import Elements, TableForm, number


def document(table: Table) -> dict[str, Any]:
    """Return the table as a JSON value."""
    return {
        "kind": "Table",
        "dataset_id": table.dataset_id,
        "version_id": table.version_id,
        "title": table.title,
        "zone_set": table.zone_set.id,
        "period": table.period,
        "relative_to": None if table.relative_to is None else list(table.relative_to),
        "departure": table.departure,
        "periods": [
            {"period": label, "start": str(start), "end": str(end)}
            for label, start, end in zip(table.labels, table.starts, table.ends, strict=True)
        ],
        "columns": [_column(each) for each in table.columns],
        "rows": [
            {
                "zone": zone.id,
                "name": zone.name,
                "period": label,
                "variable": column.variable,
                "statistic": column.statistic,
                "value": number(value),
                "cells": int(cells),
                "share": round(share, 6),
            }
            for column in table.columns
            for zone, *numbers in zip(
                table.zone_set.zones, column.values.T.tolist(), column.cells.T.tolist(), column.shares.T.tolist(), strict=True
            )
            for label, value, cells, share in zip(table.labels, *numbers, strict=True)
        ],
    }


def _column(column: Column) -> dict[str, Any]:
    return {
        "variable": column.variable,
        "title": column.title,
        "statistic": column.statistic,
        "unit": column.unit,
        "period_statistic": column.method,
        "period_statistic_from": column.method_from,
    }


def write(table: Table, _: Elements) -> bytes:
    """Return the table as JSON in UTF-8."""
    import orjson

    return orjson.dumps(document(table))


FORM = TableForm("json", "JSON", "application/json", "json", write)
