"""The tasks of the gate called in this process, and what it means that two datasets are equal."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubeport.adapters.gate.write import write
from cubeport.adapters.sandbox.child import Context, Input
from cubeport.adapters.sandbox.limits import SourceLimits

WINDOW = {"bbox": None, "start": None, "end": None, "clip": "touch"}


class Desk(Context):
    """A context that keeps what it is reported."""

    def __init__(self, sources: tuple[Input, ...] = ()) -> None:
        super().__init__(socket.socket(), limits=SourceLimits(), sources=sources)
        self._channel.close()
        self.told: list[tuple[str, int, int]] = []
        self.declared = 0
        self.points: list[str] = []

    def progress(self, phase: str, done: int, total: int) -> None:
        self.told.append((phase, done, total))

    def declare(self, declared_bytes: int) -> None:
        self.declared = declared_bytes

    def fail_point(self, name: str) -> None:
        self.points.append(name)


@contextmanager
def desk(paths: Iterable[Path]) -> Iterator[Desk]:
    opened = tuple(Input(path.name, os.open(path, os.O_RDONLY), path.is_dir()) for path in paths)
    try:
        yield Desk(opened)
    finally:
        for each in opened:
            os.close(each.fd)


def written(target: Path, *paths: Path, **changes: Any) -> dict[str, Any]:
    """Write the sources into *target*, which is made, and return what the first child says."""
    target.mkdir()
    request = {"target": str(target), "window": WINDOW, "variables": None, "attributes": {}, "chunks": None}
    with desk(paths) as context:
        return write({**request, "append_dim": None, "group": None, **changes}, context)


def source_of(path: Path, **options: Any) -> xr.Dataset:
    """Open a source the way its reader would."""
    if path.is_dir():
        return xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None, **options)
    if path.read_bytes()[:3] == b"CDF":
        return xr.open_dataset(path, engine="netcdf4", **options)
    return xr.open_dataset(path, engine="h5netcdf", phony_dims="sort", **options)


def ours_of(target: Path, **options: Any) -> xr.Dataset:
    """Open what we wrote the way a user would, whether it is consolidated yet or not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        return xr.open_zarr(target / "cube.zarr", consolidated=False, chunks=None, **options)


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Say whether two arrays hold the same stored values: every bit of numbers, every character of texts."""
    if a.dtype.kind in "SUOT" or b.dtype.kind in "SUOT":
        return a.shape == b.shape and texts(a) == texts(b)
    native = [np.ascontiguousarray(each, each.dtype.newbyteorder("=")) for each in (a, b)]
    return a.shape == b.shape and native[0].dtype == native[1].dtype and native[0].tobytes() == native[1].tobytes()


def texts(values: np.ndarray[Any, Any]) -> list[Any]:
    """Return the texts, missing ones as ``None``."""
    plain = [each.decode() if isinstance(each, bytes) else each for each in values.ravel().tolist()]
    return [None if isinstance(each, float) else each for each in plain]


def same_values(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Say whether two arrays of decoded values are equal, missing at the same places.

    Zarr's attributes have no ``float32``: values that a ``float32`` scale factor unpacks come as ``float64`` from Zarr, and
    are equal to the last place of a ``float32``.
    """
    if a.dtype.kind in "SUOT" or b.dtype.kind in "SUOT":
        return a.shape == b.shape and texts(a) == texts(b)
    if a.shape != b.shape:
        return False
    missing = [each != each if each.dtype.kind != "M" else np.isnat(each) for each in (a, b)]
    if not (missing[0] == missing[1]).all():
        return False
    if a.dtype == b.dtype:
        return bool(((a == b) | missing[0]).all())
    assert (a.dtype, b.dtype) == (np.float32, np.float64)
    held = ~missing[0]
    room = np.spacing(np.abs(a[held]).max(initial=np.float32(0))) * 2
    return bool((np.abs(a[held] - b[held]) <= room).all())


def plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes such that equal ones compare equal: lists for arrays, NaN as a word, text as UTF-8."""

    def one(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        if isinstance(value, list):
            return [one(each) for each in value]
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            # UTF-8 that its HDF5 type calls ASCII comes with its bytes escaped.
            return value.encode("utf-8", "surrogateescape").decode()
        return "NaN" if isinstance(value, float) and value != value else value

    return {str(key): one(value) for key, value in attributes.items()}


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below *root* by its path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
