"""Datasets for the tests of cubes, opened as the gate opens them: undecoded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr


@pytest.fixture
def opened(realdata: Path) -> Iterator[Callable[[str], xr.Dataset]]:
    """Open a real file by name, undecoded and lazy."""
    handles: list[xr.Dataset] = []

    def open_one(name: str) -> xr.Dataset:
        path = realdata / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, about the files
            if path.suffix == ".zarr":
                dataset = xr.open_zarr(path, decode_cf=False, chunks=None, consolidated=False)
            else:
                dataset = xr.open_dataset(path, decode_cf=False, engine="netcdf4")
        handles.append(dataset)
        return dataset

    yield open_one
    for each in handles:
        each.close()
