"""Find the chunks of a cube that need not be copied, because a source contains them exactly as a Zarr array would.

A version can point at a variable if no step has changed its values, and if Zarr supports its chunks, filters, type and byte order,
which must be the same in every file. Every obstacle is reported, for every variable and every file. If a chunk of such a variable
is not in a source, it is written in the same form as the other chunks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from cubeport.adapters.engines import attributes
from cubeport.adapters.engines.zarrv3 import Form, Grid
from cubeport.adapters.sources.reading import TEXT, native
from cubeport.adapters.sources.series import Joined
from cubeport.adapters.sources.stored import Index, Stored, pieces
from cubeport.errors import Problem, SourceRejected

REFERENCES = "references.json"
"""The file in which the first child lists the chunks that are in sources, next to the tree."""

_SMALL_BYTES = 64 * 2**10
"""A smaller variable is copied: readers request it at once, and the copy takes almost no space."""

_CHUNK_BYTES = 256 * 2**20
"""Most decoded bytes of a chunk, because each is decoded as a whole."""

_TINY_BYTES = 1024
"""Fewest decoded bytes of a chunk: thousands of smaller chunks would be read one request at a time."""

_EVERY = 100
"""One of this many chunks is compared value by value."""

type Reference = tuple[int, int, int]
"""The number of the source, first byte, number of bytes."""


@dataclass
class Origins:
    """The arrays of the sources as they were opened, to find out whether later steps changed them."""

    _known: dict[int, tuple[Any, int, str]] = field(default_factory=dict)

    def note(self, source: int, raw: xr.Dataset) -> None:
        """Remember the variables of a source."""
        for name, variable in raw.variables.items():
            # The array itself is kept with it, so that no other one gets its identity.
            self._known[id(variable._data)] = (variable._data, source, str(name))  # noqa: SLF001 - what xarray reads from

    def names(self, source: int) -> frozenset[str]:
        """Return the names of the variables in a source."""
        return frozenset(name for _, number, name in self._known.values() if number == source)

    def runs(self, variable: xr.Variable) -> tuple[int | None, list[Run]]:
        """Return the axis along which the parts of *variable* are joined, and the parts. For a single source, the axis is
        ``None``.
        """
        axis, found = self._runs(variable._data, variable.shape)  # noqa: SLF001 - as above
        return axis, found

    def _runs(self, data: Any, shape: Index) -> tuple[int | None, list[Run]]:
        if (known := self._known.get(id(data))) is not None:
            return None, [Run(0, shape, known[1], known[2])]
        if not isinstance(data, indexing.LazilyIndexedArray) or not isinstance(data.array, Joined):
            return None, [Run(0, shape, None, "")]
        joined, start, found = data.array, 0, []
        for piece in joined.pieces:
            axis, inner = self._runs(piece._data, piece.shape)  # noqa: SLF001 - as above
            if axis not in (None, joined.axis):
                inner = [Run(0, piece.shape, None, "")]
            found += [Run(start + each.start, each.shape, each.source, each.name) for each in inner]
            start += piece.shape[joined.axis]
        return joined.axis, _taken(found, joined, data.key.tuple, shape)


@dataclass(frozen=True, slots=True)
class Run:
    """A part of a variable that begins at *start*: a whole variable of a source, or something else."""

    start: int
    shape: Index
    source: int | None
    name: str


def _taken(found: Sequence[Run], joined: Joined, key: Sequence[Any], shape: Index) -> list[Run]:
    """Return the runs that *key* selects from a joined array. A run that is not selected as a whole is unknown."""
    axis = joined.axis
    if len(key) != len(joined.shape) or not all(isinstance(each, slice) for each in key):
        return [Run(0, shape, None, "")]
    ends = [each.indices(size) for each, size in zip(key, joined.shape, strict=True)]
    whole = all(end == (0, size, 1) for n, (end, size) in enumerate(zip(ends, joined.shape, strict=True)) if n != axis)
    first, stop, step = ends[axis]
    kept = [each for each in found if first < each.start + each.shape[axis] and each.start < stop]
    if not whole or step != 1 or not kept or kept[0].start != first or kept[-1].start + kept[-1].shape[axis] != stop:
        return [Run(0, shape, None, "")]
    return [replace(each, start=each.start - first) for each in kept]


@dataclass(frozen=True)
class References:
    """An array that has some of its chunks in sources."""

    grid: Grid
    places: Mapping[Index, Reference]
    names: frozenset[str]
    """Its name in the sources."""


def is_sampled(grid: Grid, index: Index) -> bool:
    """Return whether both children hash the values of this chunk, if it is in a source."""
    counts = grid.counts
    number = 0
    for at, count in zip(index, counts, strict=True):
        number = number * count + at
    return number % _EVERY == 0 or number == math.prod(counts) - 1


type Ask = Callable[[int, str], Stored | str]
"""``ask(source, name)`` returns how a source stores a variable, or why a version cannot point at its chunks."""


def plan(
    raw: xr.Dataset,
    roles: Mapping[str, str],
    origins: Origins,
    ask: Ask,
    sources: Sequence[str],
    *,
    held: Mapping[str, Grid] | None = None,
    axis_name: str | None = None,
) -> tuple[dict[str, References], list[Problem]]:
    """Return the variables that need not be copied, and the obstacles for the others that are large enough.

    Parameters
    ----------
    sources
        Their names.
    held
        For an update, the arrays of its parent version, which do not change.
    axis_name
        For an update, the dimension along which steps are added. Variables without it keep the values of the parent.
    """
    found: dict[str, References] = {}
    problems: list[Problem] = []
    for key, variable in raw.variables.items():
        name = str(key)
        if roles.get(name) != "data" or variable.dtype == TEXT or variable.nbytes < _SMALL_BYTES:
            continue
        if axis_name is not None and axis_name not in variable.dims:
            continue
        said = _of_variable(name, variable, origins, ask, sources, None if held is None else held.get(name))
        if isinstance(said, References):
            found[name] = said
        else:
            problems += said
    return found, problems


def refuse(problems: Sequence[Problem]) -> None:
    """Raise SourceRejected (``not-virtual``) with all reasons, if there are any."""
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SourceRejected(
            f"not every chunk can be read where it lies: {problems[0].message}{more}",
            reason="not-virtual",
            next_step="copy what cannot be pointed at (--storage auto), or everything (--storage copy)",
            errors=list(problems[:_TOLD]),
        )


_TOLD = 1_000


def _of_variable(
    name: str, variable: xr.Variable, origins: Origins, ask: Ask, sources: Sequence[str], held: Grid | None
) -> References | list[Problem]:
    axis, runs = origins.runs(variable)

    def problem(source: int | None, words: str) -> Problem:
        where = "sources" if source is None else sources[source]
        said = f"{name!r} {words}" if source is None else f"{where}: {name!r} {words}"
        return Problem(("sources", where), "not-virtual", said)

    if all(run.source is None for run in runs) or (held is None and any(run.source is None for run in runs)):
        return [problem(None, "is not published as it is stored: it is cut, converted or computed on the way")]
    stored: dict[int, Stored] = {}
    problems = []
    for number, run in enumerate(runs):
        if run.source is None:
            continue
        said = ask(run.source, run.name)
        if isinstance(said, Stored) and said.shape != run.shape:
            said = "has another shape in the file than when it is read"
        if isinstance(said, Stored) and said.dtype != native(variable.dtype):
            said = f"is stored as {said.dtype} and read as {native(variable.dtype)}"
        if isinstance(said, str):
            problems.append(problem(run.source, said))
        else:
            stored[number] = said
    if problems:
        return problems
    grid = _grid(variable, axis, stored, held)
    if isinstance(grid, str):
        first = next(run.source for run in runs if run.source is not None)
        return [problem(first, grid)]
    length = None if axis is None else grid.chunks[axis]
    for number, each in stored.items():
        run = runs[number]
        if (other := _other(each, grid)) is not None:
            problems.append(problem(run.source, other))
        elif length is not None and run.start % length:
            before = next((before.source for before in reversed(runs[:number]) if before.shape[axis or 0] % length), None)
            words = f"begins at step {run.start:,}, which is no multiple of the chunk length {length}"
            problems.append(problem(run.source, words + (f"; {sources[before]} ends within a chunk" if before is not None else "")))
        elif not each.is_whole and not _same(each.fill, grid.fill, grid.dtype):
            problems.append(problem(run.source, "has chunks that were never written, and another value stands for them"))
    if problems:
        return problems
    places: dict[Index, Reference] = {}
    for number, each in stored.items():
        run = runs[number]
        assert run.source is not None, "only such runs are asked about"
        shift = 0 if length is None else run.start // length
        for index, (offset, size) in each.cut(grid.chunks).items():
            if any(i * n >= whole for i, n, whole in zip(index, grid.chunks, each.shape, strict=True)):
                continue  # a part of a chunk behind the end of the array
            at = index if axis is None else (*index[:axis], index[axis] + shift, *index[axis + 1 :])
            places[at] = (run.source, offset, size)
    if math.prod(grid.chunks) * grid.dtype.itemsize < _TINY_BYTES and len(places) > _EVERY:
        return [problem(None, f"has {len(places):,} chunks of fewer than {_TINY_BYTES:,} bytes")]
    return References(grid, places, frozenset(run.name for run in runs if run.source is not None))


def _grid(variable: xr.Variable, axis: int | None, stored: Mapping[int, Stored], held: Grid | None) -> Grid | str:
    """Return the grid that all stored runs have in common, or a message that says why there is none."""
    dtype = native(variable.dtype)
    if held is not None:
        if held.dtype != dtype:
            return f"is {dtype}, and {held.dtype} in the existing data"
        return Grid(variable.shape, held.chunks, dtype, held.fill, held.form)
    first = next(iter(stored.values()))
    chunks = first.chunks
    if not first.form.filters:
        lengths = [each.chunks[axis] for each in stored.values()] if axis is not None else []
        chunks = pieces(first.chunks, dtype.itemsize, axis, math.gcd(*lengths) if lengths else None)
    if math.prod(chunks) * dtype.itemsize > _CHUNK_BYTES:
        return f"has chunks of {math.prod(chunks) * dtype.itemsize:,} bytes; {_CHUNK_BYTES:,} is the most"
    fill = attributes.fill_of(variable.attrs, dtype)
    sparse = next((each for each in stored.values() if not each.is_whole), None)
    return Grid(variable.shape, chunks, dtype, fill if sparse is None or sparse.fill is None else sparse.fill, first.form)


def _other(stored: Stored, grid: Grid) -> str | None:
    """Return a message about the difference between the stored array and the grid, ``None`` if they agree."""
    if stored.form != grid.form:
        return f"is stored with {_filters(stored.form)}, and the rest with {_filters(grid.form)}"
    if not stored.can_be(grid.chunks):
        return f"has chunks of {'×'.join(map(str, stored.chunks))}, and the rest of {'×'.join(map(str, grid.chunks))}"
    return None


def _filters(form: Form | None) -> str:
    if form is None:
        return "zstd"
    names = " and ".join(f"{name} {number}" if number else name for name, number in form.filters) or "no filters"
    return f"{names}, {'big' if form.big_endian else 'little'}-endian"


def _same(stored: Any, fill: Any, dtype: np.dtype[Any]) -> bool:
    """Compare, bit by bit, the values that HDF5 and Zarr return for a chunk that was never written."""
    return stored is not None and np.array(stored, dtype).tobytes() == np.array(fill, dtype).tobytes()


# --- from the first child to the second ---


def to_bytes(found: Mapping[str, References]) -> bytes:
    """Return the document that :func:`parse` reads."""
    return json.dumps(
        {name: [[*index, *place] for index, place in each.places.items()] for name, each in found.items()}, separators=(",", ":")
    ).encode()


def parse(
    path: Path, arrays: Mapping[str, Grid], sizes: Sequence[int], written: Iterable[str]
) -> dict[str, dict[Index, Reference]]:
    """Check a document of references and return them by array. The child that wrote it is not trusted.

    Parameters
    ----------
    sizes
        The bytes of each source.
    written
        Keys of the objects that were written. A reference must not have one of these keys.

    Raises
    ------
    SourceRejected
        ``unsafe`` for a reference outside its source or its array.
    """
    if not path.exists():
        return {}
    objects = frozenset(written)
    found: dict[str, dict[Index, Reference]] = {}
    try:
        for name, rows in json.loads(path.read_bytes()).items():
            grid = arrays[name]
            rank, whole = len(grid.shape), math.prod(grid.chunks) * grid.dtype.itemsize
            places = found.setdefault(name, {})
            for row in rows:
                *at, source, offset, size = row
                index = tuple(at)
                good = (
                    all(type(each) is int and each >= 0 for each in row)
                    and len(index) == rank
                    and grid.has(index)
                    and index not in places
                    and size >= 1
                    and offset + size <= sizes[source]
                    and grid.form is not None
                    and (grid.form.filters or size == whole)
                    and f"{name}/c/{'/'.join(map(str, index))}" not in objects
                )
                if not good:
                    raise ValueError(name)
                places[index] = (source, offset, size)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SourceRejected("what was written points where it must not", reason="unsafe") from error
    return found
