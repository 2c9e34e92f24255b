"""A table of one zone and one statistic as a plot along time. It is the form of ``/datasets/{id}/plot``, and no form of a table."""

from __future__ import annotations

from functools import partial

from cubeport.cubes.calendars import ordinal
from cubeport.cubes.tables.table import Table
from cubeport.documents import plot
from cubeport.documents.tables.form import Elements, TableForm

_DEPARTURES = {"absolute": "departure", "percent": "departure in percent", "standard": "standardised departure"}


def plot_form(width: int) -> TableForm:
    """Return the form of plots of this width in pixels."""
    return TableForm("svg", "Plot", plot.MEDIA_TYPE, "svg", partial(_write, width))


def _write(width: int, table: Table, _: Elements) -> bytes:
    """Return the plot of the first column for the first zone, with the normal in its title."""
    import numpy as np

    column = table.columns[0]
    title = column.title or column.variable
    if table.relative_to is not None:
        first, last = table.relative_to
        title = f"{title}, {_DEPARTURES[table.departure or 'absolute']} from {first} to {last}"
    positions = np.array([ordinal(each, "standard") for each in table.starts], "float64")
    return plot.svg(plot.Line(positions, table.labels, column.values[:, 0], title, column.unit), width)
