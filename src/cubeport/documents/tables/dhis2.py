"""A table as data values that DHIS2 imports (``POST /api/dataValueSets``). Zone ids must be ids of organisation units."""

from __future__ import annotations

import re
from collections.abc import Callable

from cubeport.cubes.tables.table import Column, Table
from cubeport.documents.tables.form import Elements, TableForm, texts
from cubeport.errors import InvalidRequest, NotAcceptable, Problem


def _week(label: str) -> str:
    year, week = label.split("-W")
    return f"{year}W{int(week)}"


_PERIODS: dict[str, Callable[[str], str]] = {
    "day": lambda label: label[:10].replace("-", ""),
    "week": _week,
    "month": lambda label: label.replace("-", ""),
    "quarter": lambda label: label.replace("-", ""),
    "year": lambda label: label,
}
"""By kind: ``20250131``, ``2025W5``, ``202501``, ``2025Q1``, ``2025``."""
_UNIT = re.compile(r"[A-Za-z][A-Za-z0-9]{10}", re.ASCII)


def write(table: Table, elements: Elements) -> bytes:
    """Return ``{"dataValues": […]}``, without the zones that have no value.

    Raises
    ------
    NotAcceptable
        For periods that DHIS2 does not have: dekads, seasons, steps that are none.
    InvalidRequest
        Without a data element for each variable, or when a zone's id is not that of an organisation unit.
    """
    import orjson

    shown = _PERIODS.get(table.kind or "")
    if shown is None:
        names = ", ".join(_PERIODS)
        raise NotAcceptable(f"DHIS2 has no period for a {table.kind or table.period}.", next_step=f"Ask for a period of {names}.")
    wrong = [zone.id for zone in table.zone_set.zones if _UNIT.fullmatch(zone.id) is None]
    if wrong:
        raise InvalidRequest(
            f"The zone {wrong[0][:40]} does not have the id of an organisation unit of DHIS2 (11 letters and digits).",
            errors=[Problem(("query", "zones"), "not-dhis2", f"{len(wrong)} of the zones have other ids")],
            next_step="Keep the zones with the ids of DHIS2: PUT /zones/NAME?id_property=….",
        )
    values = [
        {"dataElement": element, "period": shown(label), "orgUnit": zone.id, "value": value}
        for column in table.columns
        for element in (_element(column, elements, alone=len(table.columns) == 1),)
        for place, zone in enumerate(table.zone_set.zones)
        for label, value in zip(table.labels, texts(column.values[:, place]), strict=True)
        if value
    ]
    return orjson.dumps({"dataValues": values})


def _element(column: Column, elements: Elements, *, alone: bool) -> str:
    found = dict(elements)
    element = found.get(column.name) or found.get(column.variable) or (found.get(None) if alone else None)
    if element is None:
        raise InvalidRequest(
            f"DHIS2 needs the data element of {column.name}.",
            errors=[Problem(("query", "data-element"), "missing", f"must name one for {column.name}")],
            next_step=f"Add data-element={column.name}:ID." if not alone else "Add data-element=ID.",
        )
    return element


FORM = TableForm("dhis2", "Data values for DHIS2", "application/json", "json", write)
