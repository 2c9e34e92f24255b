"""What goes off when it is decoded ends the child at most: the limits of memory and time are the wall."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.descriptors import held, left_since

from cubeport.adapters.gate.gate import ConfinedGate
from cubeport.adapters.gate.tasks import confined
from cubeport.adapters.sandbox.children import Children
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.cubes.write_request import WriteRequest
from cubeport.errors import SourceRejected

from .bombs import CASES, netcdf, netcdf_of_all_filters, store

SAMPLE = ("hdf5_deflate_bomb", "zarr3_zstd_bomb", "zarr3_chunk_too_short")


@pytest.fixture(scope="module")
def small() -> Iterator[Children]:
    with confined(SourceLimits(memory_bytes=3 * 2**28)) as opened:
        yield opened


def hold(children: Children, name: str, folder: Path) -> None:
    make, reasons = CASES[name]
    source = make(folder)
    target = folder / "new"
    target.mkdir()
    others = set(psutil.Process(children.template_pid()).children())  # that services of other tests keep
    service = psutil.Process()
    before, opened, began = service.memory_info().rss, held(), time.monotonic()
    with pytest.raises(SourceRejected) as caught:
        ConfinedGate(children).write(WriteRequest(sources=(source,), target=target))
    assert caught.value.reason in reasons, caught.value
    assert time.monotonic() - began < 30
    assert service.memory_info().rss - before < 50 * 2**20
    assert left_since(opened) == []
    assert set(psutil.Process(children.template_pid()).children()) <= others


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample(small: Children, name: str, tmp_path: Path) -> None:
    hold(small, name, tmp_path)


@pytest.mark.hostile
@pytest.mark.parametrize("name", CASES)
def test_all(small: Children, name: str, tmp_path: Path) -> None:
    hold(small, name, tmp_path)


GOOD = {
    "netcdf": netcdf,
    "netcdf_of_all_filters": netcdf_of_all_filters,
    "zarr2": lambda folder: store(folder, 2, None),
    "zarr3": lambda folder: store(folder, 3, None),
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_without_the_bad_chunk_they_pass(small: Children, make, tmp_path: Path) -> None:
    source = make(tmp_path)
    target = tmp_path / "new"
    target.mkdir()
    assert "tas" in ConfinedGate(small).write(WriteRequest(sources=(source,), target=target)).digests
