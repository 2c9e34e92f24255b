"""Tables whose cells count by the data of another dataset, such as people, instead of by their area."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cubeport.cubes.part import Deadline, Opened
from cubeport.cubes.tables.request import TableRequest
from cubeport.cubes.windows import IndexRange, Window, time_axis
from cubeport.documents.texts import PublishedView
from cubeport.errors import InvalidRequest, NotAcceptable, Problem, TooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cubeport.cubes.tables.grids import Grid
    from cubeport.cubes.tables.weights import Weights

    type Numbers = NDArray[np.float64]

_AREAL = ("sum", "count")
"""Statistics that do not depend on what a cell counts."""


def check_statistics(request: TableRequest) -> None:
    """Refuse statistics for which weights mean nothing. Raises InvalidRequest."""
    wrong = [each.text for each in request.statistics if each.statistic.name in _AREAL]
    if request.weights is not None and wrong:
        words = f"does not go with weights: {', '.join(wrong)} counts cells"
        raise InvalidRequest(f"statistic {words}.", errors=[Problem(("query", "statistic"), "clash", words)])


def weighted(
    weights: Weights, grid: Grid, opened: Opened, other: Opened, name: str, *, most_cells: int, deadline: Deadline
) -> Weights:
    """Return *weights* with what each cell counts in place of its area.

    Parameters
    ----------
    opened, grid
        The cube of the table, and its grid.
    other, name
        The cube that says what cells count, and its variable.

    Raises
    ------
    NotAcceptable
        When the cubes have different grids, unless both have longitudes and latitudes.
    """
    import numpy as np

    from cubeport.cubes.tables.amounts import checked, is_per_area, moved, per_cell
    from cubeport.cubes.tables.grids import digest_of, grid_of
    from cubeport.cubes.tables.weights import StraightGrid

    own = grid_of(other)
    values = checked(_values(other, name, most_cells=most_cells, deadline=deadline))
    per_area = is_per_area(other.attributes(name))
    if digest_of(other.description, own) == digest_of(opened.description, grid):
        amounts = values[weights.indices] * (weights.areas if per_area else 1.0)
    elif all(isinstance(each, StraightGrid) and each.project is None for each in (own, grid)):
        assert isinstance(own, StraightGrid)
        assert isinstance(grid, StraightGrid)
        amounts = moved(per_cell(values, own) if per_area else values, own, grid)[weights.indices]
    else:
        raise NotAcceptable(
            "The weights are on another grid than the data.",
            next_step="Name weights on the same grid. Other grids are possible only if both have longitudes and latitudes.",
        )
    count = len(weights.totals)
    zone = np.repeat(np.arange(count), np.diff(weights.starts))
    return replace(weights, areas=amounts, totals=np.bincount(zone, weights.fractions * amounts, count))


def _values(opened: Opened, name: str, *, most_cells: int, deadline: Deadline) -> Numbers:
    """Return the weights along the dimensions of the grid: the last step of time."""
    from cubeport.cubes.tables.grids import dimensions_of

    grid, own, sizes = dimensions_of(opened.description), opened.dimensions(name), opened.shape(name)
    time = time_axis(opened.description)
    along = {}
    for dimension, size in zip(own, sizes, strict=True):
        if dimension in grid:
            continue
        if size != 1 and (time is None or dimension != time.dimension):
            raise NotAcceptable(f"The weights have {size} values along {dimension}, but only one is allowed.")
        along[dimension] = Window(dimension, (IndexRange(size - 1, size),))
    if not set(grid) <= set(own) or opened.dtype(name).kind not in "iufb":
        raise NotAcceptable(f"{name} is not a number of each cell, so it cannot be a weight.")
    cells = 1
    for dimension in grid:
        cells *= sizes[own.index(dimension)]
    if cells > most_cells:
        raise TooLarge(
            f"The weights have {cells:,} cells; the limit is {most_cells:,}.",
            limit=most_cells, value=cells, unit="cells", setting="limits.table_cells", next_step="Name coarser weights.",
        )  # fmt: skip
    order = [each for each in own if each not in grid]
    raw = opened.raw(name, along, deadline=deadline).transpose([own.index(each) for each in (*order, *grid)])
    return opened.decode_like(name, raw.reshape(-1)).reshape(raw.shape[len(order) :]).astype("float64")


def variable_of(view: PublishedView, name: str) -> PublishedView:
    """Return the view of the grid on which the variable lies. Raises InvalidRequest if there is no such variable."""
    if name not in view.description.all_fields:
        some = ", ".join(view.description.all_fields[:8])
        words = f"{view.texts.dataset_id} has no variable {name[:60]}; it has {some}"
        raise InvalidRequest(f"weights: {words}.", errors=[Problem(("query", "weights"), "unknown", words)])
    return view.having((name,))
