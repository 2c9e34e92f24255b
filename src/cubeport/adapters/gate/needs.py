"""The task that says which values of an excerpt of a Zarr store a write would read, so that only those are fetched.

It prepares the source exactly as the write does. Arrays that are not there note what is asked of them instead of being read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import xarray as xr

from cubeport.adapters.engines import zarrv3
from cubeport.adapters.engines.zarrv3 import Grid
from cubeport.adapters.gate.write import open_all, prepare
from cubeport.adapters.sandbox import child
from cubeport.adapters.sources.excerpts import ExcerptArray, noting
from cubeport.adapters.sources.reading import native
from cubeport.cubes import layout
from cubeport.cubes.cutout import window_indexers
from cubeport.cubes.groups import find
from cubeport.cubes.periods import TimeLabel
from cubeport.cubes.write_request import SourceWindow
from cubeport.errors import CubeportError, NoData

_BLOCK_BYTES = 32 * 2**20


def needs(request: Mapping[str, Any], context: child.Context) -> dict[str, Any]:
    """Return the fields of :class:`~cubeport.cubes.excerpt.Needs`.

    ``request`` contains the fields of ``WriteRequest`` as for the write, except the target, and ``held``: spans of periods that the
    dataset has and that are not read again.
    """
    arrays: list[ExcerptArray] = []
    with contextlib.ExitStack() as stack, noting():
        try:
            opened = open_all(request, context, stack, lambda *_: None)
            arrays = [each for source in opened for each in source.excerpts]
            raw = prepare(request, opened).raw
        except CubeportError:
            # Of zeros in the place of values no error is true.
            if not (deciding := [each.path for each in arrays if each.noted()]):
                raise
            return {"arrays": {}, "whole": deciding}
        if deciding := [each.path for each in arrays if each.noted()]:
            return {"arrays": {}, "whole": deciding}
        _read(raw, request["append_dim"], request["held"], SourceWindow(**request["window"]).time_label)
        return {"arrays": {each.path: found for each in arrays if (found := each.noted())}, "whole": []}


def _read(raw: xr.Dataset, dimension: str | None, held: Sequence[tuple[str, str]], time_label: TimeLabel) -> None:
    """Ask for every value that a write asks for: what has no time at all, and the steps that are not held."""
    axis = find(raw).axis_of("t")
    along = dimension or (axis.dimension if axis is not None and not axis.scalar else None)
    runs = list(_runs(raw, along, held, time_label))
    lengths = layout.chunks(raw)
    for key, variable in raw.variables.items():
        parts = [variable] if along not in variable.dims else [variable.isel({along: each}) for each in runs]
        for part in parts:
            grid = Grid(part.shape, lengths[str(key)], native(part.dtype), None)
            for region, _ in zarrv3.blocks(grid, variable.encoding.get("chunks"), _BLOCK_BYTES):
                _ = part[region].values


def _runs(raw: xr.Dataset, along: str | None, held: Sequence[tuple[str, str]], time_label: TimeLabel) -> Iterator[slice]:
    """Yield the steps that are in no span of *held*."""
    if along is None:
        return
    new = [True] * raw.sizes[along]
    for start, end in held:
        with contextlib.suppress(NoData):  # the source does not have these
            of_span = window_indexers(raw, SourceWindow(start=start, end=end, time_label=time_label)).get(along, slice(None))
            for number in range(len(new))[of_span]:
                new[number] = False
    first = None
    for number, is_new in enumerate([*new, False]):
        if is_new and first is None:
            first = number
        elif not is_new and first is not None:
            yield slice(first, number)
            first = None
