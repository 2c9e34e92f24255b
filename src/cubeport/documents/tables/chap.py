"""A table as the CSV that CHAP models (climate and health) read: ``time_period``, ``location``, one column a variable."""

from __future__ import annotations

from cubeport.cubes.tables.table import Table
from cubeport.documents.table import quoted
from cubeport.documents.tables.form import Elements, TableForm, texts
from cubeport.errors import NotAcceptable

_KINDS = ("day", "week", "month", "year")


def write(table: Table, _: Elements) -> bytes:
    """Return the table. Months are ``2023-01``, weeks ``2023-W01``. Raises NotAcceptable for other periods."""
    if table.kind not in _KINDS:
        raise NotAcceptable(
            f"CHAP has no period for a {table.kind or table.period}.", next_step="Ask for period=month or period=week."
        )
    lines = [b",".join([b"time_period", b"location", *(quoted(column.name.replace(" ", "_")) for column in table.columns)])]
    for place, zone in enumerate(table.zone_set.zones):
        columns = [[text.encode() for text in texts(column.values[:, place])] for column in table.columns]
        for at, label in enumerate(table.labels):
            lines.append(b",".join([label.encode(), quoted(zone.id), *(column[at] for column in columns)]))
    return b"\r\n".join(lines) + b"\r\n"


FORM = TableForm("chap", "CSV for CHAP", "text/csv", "csv", write)
