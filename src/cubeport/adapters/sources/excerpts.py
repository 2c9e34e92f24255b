"""Arrays of a Zarr folder that has only an excerpt of its store. Values outside the excerpt are refused, or noted and not read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from cubeport.cubes.excerpt import NAME, Excerpt, Ranges, covers, union
from cubeport.cubes.raw import dataset, variables
from cubeport.errors import SourceRejected

_NOTING: ContextVar[bool] = ContextVar("noting", default=False)


@contextlib.contextmanager
def noting() -> Iterator[None]:
    """Within the block, return zeros for values that are not there, and note their indices."""
    token = _NOTING.set(True)
    try:
        yield
    finally:
        _NOTING.reset(token)


class ExcerptArray(BackendArray):
    """An array of which only some *ranges* are there."""

    def __init__(self, source: str, path: str, variable: xr.Variable, ranges: tuple[Ranges, ...]) -> None:
        self.path = path
        self._source, self._variable, self._ranges = source, variable, ranges
        self._noted: list[tuple[tuple[int, int], ...]] = []
        self.shape, self.dtype = variable.shape, variable.dtype

    def noted(self) -> tuple[Ranges, ...]:
        """Return the ranges along each dimension that were asked for and are not there, and forget them."""
        found, self._noted = self._noted, []
        return tuple(union(each[dim] for each in found) for dim in range(len(self.shape))) if found else ()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        spans, lengths = [], []
        for each, size in zip(key, self.shape, strict=True):
            taken = range(size)[each] if isinstance(each, slice) else range(int(each), int(each) + 1)
            spans.append((min(taken), max(taken) + 1) if len(taken) else (0, 0))
            lengths += [len(taken)] if isinstance(each, slice) else []
        if all(covers(ranges, *span) for ranges, span in zip(self._ranges, spans, strict=True)):
            return np.asarray(self._variable[key].values)
        if not _NOTING.get():
            raise SourceRejected(
                f"{self._source}: values of {self.path!r} are needed that were not fetched",
                reason="unreadable",
                source=self._source,
                next_step="ingest it without start, end and extent, and tell the authors of cubeport",
            )
        self._noted.append(tuple(spans))
        return np.broadcast_to(np.zeros((), self.dtype), lengths)


def excerpt_of(folder: Path, source: str) -> Excerpt | None:
    """Return the excerpt that the folder has, or ``None`` if it has its store completely. Raises SourceRejected."""
    try:
        return Excerpt.parse((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceRejected(
            f"{source} has a file {NAME} that does not say what it has", reason="unreadable", source=source
        ) from error


def guarded(source: str, group: str, raw: xr.Dataset, excerpt: Excerpt) -> tuple[xr.Dataset, list[ExcerptArray]]:
    """Return *raw*, a group of the store, with its arrays of the excerpt behind :class:`ExcerptArray`, and these."""
    found: list[ExcerptArray] = []

    def of(name: str, variable: xr.Variable) -> xr.Variable:
        path = f"{group}/{name}" if group else name
        ranges = excerpt.arrays.get(path)
        if ranges is None or len(ranges) != variable.ndim:
            return variable
        found.append(ExcerptArray(source, path, variable, ranges))
        return xr.Variable(variable.dims, indexing.LazilyIndexedArray(found[-1]), variable.attrs, variable.encoding)

    held = {name: of(name, variable) for name, variable in variables(raw).items()}
    whole = dataset(held, raw.attrs)
    whole.set_close(raw.close)
    return whole, found
