"""All forms of a table. To add a form, add a file with ``FORM`` to this folder, and its line here."""

from __future__ import annotations

from cubeport.documents.tables import chap, csv, dhis2, geojson, json, wide
from cubeport.documents.tables.form import TableForm

TABLE_FORMS: tuple[TableForm, ...] = (csv.FORM, wide.FORM, json.FORM, geojson.FORM, chap.FORM, dhis2.FORM)
"""Every form; the first is the default."""


def table_form(name: str) -> TableForm | None:
    """Return the form for a value of the parameter ``f``."""
    return next((each for each in TABLE_FORMS if name in (each.name, *each.also)), None)
