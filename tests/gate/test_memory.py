"""Memory is bounded by ``gate.memory_bytes``, whatever the source holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import cubeport
from cubeport.adapters.engines.opened import VersionStore
from cubeport.errors import SourceRejected
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest

LIMIT = 512 << 20
"""Python and the libraries that a child has loaded take about 450 MiB of address space."""


def long_store(path: Path, steps: int) -> np.ndarray[Any, Any]:
    """Write a store of *steps* fields of 1 MiB, all alike, and return one of them. Making it takes no memory and hardly a disk."""
    field = np.tile(np.random.default_rng(1).random(1024, "float32"), 256).reshape(1, 512, 512)
    coords = {
        "time": ("time", [0], {"units": "days since 2000-01-01"}),
        "lat": ("lat", np.arange(512) * 0.25 - 60, {"units": "degrees_north"}),
        "lon": ("lon", np.arange(512) * 0.25, {"units": "degrees_east"}),
    }
    data = xr.Dataset({"t": (("time", "lat", "lon"), field, {"units": "K"})}, coords)
    data.to_zarr(path, encoding={"t": {"chunks": (1, 512, 512)}}, consolidated=False)
    shutil.rmtree(path / "time")
    group: Any = zarr.open_group(path, mode="a", use_consolidated=False)
    group["t"].resize((steps, 512, 512))
    time = group.create_array("time", data=np.arange(steps), dimension_names=["time"], chunks=(steps,))
    time.attrs["units"] = "days since 2000-01-01"
    one = (path / "t/c/0/0/0").read_bytes()
    for number in range(1, steps):
        folder = path / f"t/c/{number}/0"
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(one)
    return field[0]


def ingest(tmp_path: Path, source: Path, **flags: int) -> tuple[Any, Ingestion]:
    prepare(tmp_path / "instance")
    service = cubeport.connect(tmp_path / "instance", **flags)
    return service, service.ingest_here(IngestionRequest(dataset_id="long"), FileOptions(files=(str(source),)))


@pytest.mark.parametrize("steps", [pytest.param(11 * (LIMIT >> 20), marks=[pytest.mark.slow, pytest.mark.timeout(1200)]), 540])
def test_a_source_of_more_than_the_memory_goes_through(tmp_path: Path, steps: int) -> None:
    """In full: more than ten times ``gate.memory_bytes``."""
    field = long_store(tmp_path / "long.zarr", steps)
    service, done = ingest(tmp_path, tmp_path / "long.zarr", gate__memory_bytes=LIMIT)
    with service:
        assert done.status == "completed", done.error
        store: Any = VersionStore(service.engines, "long", service.shown("long").version.version_id)
        with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
            assert opened.sizes["time"] == steps
            for number in (0, steps // 2, steps - 1):
                np.testing.assert_array_equal(opened["t"][number].values, field)


def test_too_little_memory_is_named_as_such(tmp_path: Path) -> None:
    long_store(tmp_path / "long.zarr", 4)
    service, done = ingest(tmp_path, tmp_path / "long.zarr", gate__memory_bytes=300 << 20)
    with service:
        assert done.error is not None
        assert (done.error["reason"], done.error["setting"]) == ("too-big", "gate.memory_bytes"), done.error
        assert done.error["kind"] == SourceRejected.kind
