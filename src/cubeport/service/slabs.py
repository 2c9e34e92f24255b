"""Stored values by index ranges, for OPeNDAP. Their cost comes from metadata, and they are read in blocks within a deadline."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from cubeport.cubes.bounded import Bounded
from cubeport.cubes.part import Deadline, Opened
from cubeport.cubes.windows import IndexRange, Window
from cubeport.documents import dap2
from cubeport.documents.dap2 import Part, Slab, Variable
from cubeport.documents.texts import PublishedView
from cubeport.errors import TooLarge
from cubeport.service.queries import LIGHT_CELLS, Queries

_BLOCK = 4 << 20
"""The approximate number of stored bytes to read at a time. Data that a slow client has not received are not in memory."""

_VERSIONS = 256
"""Of how many versions the lengths of texts are kept."""


@dataclass(frozen=True, slots=True)
class Source:
    """One version for DAP2."""

    opened: Opened
    dataset: dap2.Dataset


class Slabs:
    """Reads index ranges. A process has one; it shares the places for heavy work with all queries."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.limits = queries.limits
        self._lengths: Bounded[tuple[str, tuple[str, ...]], dict[str, int]] = Bounded(_VERSIONS)

    def source(self, shown: PublishedView, *, only: Collection[str] | None = None) -> Source:
        """Return the opened version, with all variables or *only* some of them. No values are read."""
        opened = self._queries.versions.open(shown.texts.dataset_id, shown.version.version_id, shown.description)
        variables: list[Variable] = []
        left_out: dict[str, str] = {}
        for name in opened.names():
            if only is not None and name not in only:
                continue
            dtype = opened.dtype(name)
            code = dap2.code_of(dtype)
            if code is None:
                left_out[name] = f"DAP2 has no type for {dtype.name}"
                continue
            found = Variable(name, code, opened.dimensions(name), opened.shape(name), opened.attributes(name))
            # netCDF-C asks for all small variables at once, so that one which is refused would make the others unreadable.
            if only is None and found.dimensions != (name,) and _is_large(shown, found):
                left_out[name] = "it has whole numbers beyond 2^53, and no type of DAP2 holds them"
            else:
                variables.append(found)
        name = f"{shown.texts.dataset_id}@{shown.version.version_id}" if shown.pinned else shown.texts.dataset_id
        return Source(opened, dap2.Dataset(name, dap2.grids(variables), opened.global_attributes(), left_out))

    def lengths(self, source: Source, shown: PublishedView) -> dict[str, int]:
        """Return the bytes of the longest text of each variable of texts with at most :data:`LIGHT_CELLS` texts, which are read."""
        texts = [each for each in source.dataset.variables if each.code == "text" and math.prod(each.shape) <= LIGHT_CELLS]
        if not texts:
            return {}
        key = shown.version.version_id, tuple(each.name for each in texts)
        found = self._lengths.get(key)
        if found is None:
            found = {each.name: dap2.longest(source.opened.raw(each.name, {})) for each in texts}
            self._lengths.put(key, found)
        return found

    def check(self, source: Source, shown: PublishedView, parts: tuple[Part, ...], *, text: bool = False) -> None:
        """Refuse requests above a limit (TooLarge) or that DAP2 cannot express (InvalidRequest), from metadata alone.

        Only labels that are large whole numbers are read: nanoseconds often end with many zero bits, so that Float64 holds them.
        """
        for part in parts:
            for variable, slabs in part.members:
                if not _is_large(shown, variable):
                    continue
                few = len(slabs) == 1 and slabs[0].size <= LIGHT_CELLS
                if not few or not dap2.is_exact(source.opened.raw(variable.name, _windows(variable, slabs))):
                    raise dap2.too_large(variable.name)
        cells = sum(part.cells for part in parts)
        size = dap2.size_of(parts) or 8 * cells
        setting = "csv_cells" if text else "binary_cells"
        checks = (
            (f"limits.{setting}", getattr(self.limits, setting), cells, "cells"),
            ("limits.answer_bytes", self.limits.answer_bytes, size, "bytes"),
            ("limits.chunks", self.limits.chunks, sum(map(_chunks, _members(shown, parts))), "chunks"),
        )
        for name, limit, value, unit in checks:
            if value > limit:
                raise TooLarge(
                    f"The answer would have {value:,} {unit}; the limit is {limit:,}.",
                    limit=limit,
                    value=value,
                    unit=unit,
                    setting=name,
                    next_step="Ask for ranges of indices: NAME[start:stride:stop], or read the Zarr store.",
                )

    def data(self, source: Source, parts: tuple[Part, ...], deadline: Deadline) -> Iterator[bytes]:
        """Yield the description of the requested parts and their values. Raises Unavailable if no place becomes free in time.

        A place is held while a block is read, but not while the client receives it.
        """
        yield dap2.dds(source.dataset, parts).encode() + b"\nData:\n"
        for part in parts:
            for variable, slabs in part.members:
                yield from self._values(source.opened, variable, slabs, deadline)

    def _values(self, opened: Opened, variable: Variable, slabs: tuple[Slab, ...], deadline: Deadline) -> Iterator[bytes]:
        before, sent = dap2.head(variable, slabs), 0
        for block in _blocks(slabs):
            with self._queries.place() if math.prod(slab.size for slab in block) > LIGHT_CELLS else nullcontext():
                values = opened.raw(variable.name, _windows(variable, block), deadline=deadline)
            piece = dap2.encoded(variable, values, is_array=bool(slabs))
            sent += len(piece)
            yield before + piece
            before = b""
        yield dap2.padding(sent)

    def text(self, source: Source, parts: tuple[Part, ...], deadline: Deadline) -> Iterator[bytes]:
        """Yield the same as text."""
        yield dap2.dds(source.dataset, parts).encode() + b"---------------------------------------------\n"
        for part in parts:
            for variable, slabs in part.members:
                with self._queries.place() if part.cells > LIGHT_CELLS else nullcontext():
                    values = source.opened.raw(variable.name, _windows(variable, slabs), deadline=deadline)
                inside = part.variable.name if part.form != "array" else None
                yield "".join(f"{line}\n" for line in dap2.ascii_of(variable, values, slabs, of=inside)).encode() + b"\n"


def _blocks(slabs: tuple[Slab, ...]) -> Iterator[tuple[Slab, ...]]:
    """Yield the slabs in parts along the first dimension that has more than one index."""
    row = math.prod(slab.size for slab in slabs) * 8
    along = next((n for n, slab in enumerate(slabs) if slab.size > 1), None)
    if along is None or row <= _BLOCK:
        yield slabs
        return
    slab = slabs[along]
    step = max(1, slab.size * _BLOCK // row)
    for first in range(0, slab.size, step):
        last = min(first + step, slab.size) - 1
        part = Slab(slab.start + first * slab.stride, slab.stride, slab.start + last * slab.stride)
        yield (*slabs[:along], part, *slabs[along + 1 :])


def _windows(variable: Variable, slabs: tuple[Slab, ...]) -> dict[str, Window]:
    return {name: Window(name, _runs(slab)) for name, slab in zip(variable.dimensions, slabs, strict=True)}


def _runs(slab: Slab) -> tuple[IndexRange, ...]:
    if slab.stride == 1:
        return (IndexRange(slab.start, slab.stop + 1),)
    return tuple(IndexRange(each, each + 1) for each in range(slab.start, slab.stop + 1, slab.stride))


def _is_large(shown: PublishedView, variable: Variable) -> bool:
    """Return whether the variable has, or may have, whole numbers that Float64 does not hold."""
    return variable.meant in ("i8", "u8") and _reach(shown, variable.name) > dap2.EXACT


def _reach(shown: PublishedView, name: str) -> float:
    """Return the largest absolute value of a variable, if it was measured."""
    axes = [each for each in shown.description.axes if each.name == name]
    ends = [end for axis in axes for end in (axis.first, axis.last)]
    variable = next((each for each in shown.description.variables if each.name == name), None)
    if variable is not None and "scale_factor" not in variable.attributes:
        ends += [variable.valid_min, variable.valid_max]
    return max((abs(each) for each in ends if each is not None), default=0.0)


def _members(shown: PublishedView, parts: tuple[Part, ...]) -> Iterator[tuple[tuple[Slab, ...], tuple[int, ...]]]:
    lengths = {each.name: each.chunks for each in shown.description.variables}
    for part in parts:
        for variable, slabs in part.members:
            yield slabs, lengths.get(variable.name, variable.shape)


def _chunks(member: tuple[tuple[Slab, ...], tuple[int, ...]]) -> int:
    slabs, lengths = member
    return math.prod(
        min(slab.size, slab.stop // length - slab.start // length + 1) for slab, length in zip(slabs, lengths, strict=True)
    )
