"""What the gate is built on: each fact was seen with the versions of requirements.lock, and a change of one asks for a decision."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
from h5py import h5z

from cubeport.adapters.gate import tasks
from cubeport.adapters.sandbox import landlock
from cubeport.adapters.sandbox.children import Children
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.errors import SourceRejected

MODULES = Path(__file__).resolve().parent.parent / "gate" / "modules"
SECRET = b"planted-secret"
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")


def children(**limits: Any) -> Children:
    return tasks.confined(SourceLimits(**limits), tasks={"read": "gate_tasks:read"}, modules=[MODULES])


@pytest.fixture(scope="module")
def confined() -> Iterator[Children]:
    with children() as opened:
        yield opened


@pytest.fixture(scope="module")
def open_(request: pytest.FixtureRequest) -> Iterator[Children]:
    with children(sandbox="off") as opened:
        yield opened


def external_storage(folder: Path) -> Path:
    (folder / "secret").write_bytes(SECRET)
    with h5py.File(folder / "upload.nc", "w") as file:
        file.create_dataset("a", shape=(len(SECRET),), dtype="u1", external=[(str(folder / "secret"), 0, len(SECRET))])
    return folder / "upload.nc"


def external_link(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["a"] = np.frombuffer(SECRET, "u1")
    with h5py.File(folder / "upload.nc", "w") as file:
        file["a"] = h5py.ExternalLink(str(folder / "secret.h5"), "/a")
    return folder / "upload.nc"


def virtual_dataset(folder: Path) -> Path:
    with h5py.File(folder / "secret.h5", "w") as file:
        file["a"] = np.frombuffer(SECRET, "u1")
    with h5py.File(folder / "upload.nc", "w") as file:
        layout = h5py.VirtualLayout(shape=(len(SECRET),), dtype="u1")
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "a", shape=(len(SECRET),))
        file.create_virtual_dataset("a", layout)
    return folder / "upload.nc"


ESCAPES = (external_storage, external_link, virtual_dataset)
REQUEST = {"library": "h5py", "variable": "a"}


@pytest.mark.parametrize("escape", ESCAPES)
def test_hdf5_leads_out_of_the_file_in_silence(open_: Children, tmp_path: Path, escape: Any) -> None:
    """So the walk has to find it: without sandbox and scan, an upload reads another file of the server."""
    assert bytes(open_.run("read", REQUEST, sources=[escape(tmp_path)])["values"]) == SECRET


@needs_landlock
@pytest.mark.parametrize("escape", [external_storage, external_link])
def test_landlock_alone_stops_links_and_storage(confined: Children, tmp_path: Path, escape: Any) -> None:
    with pytest.raises(SourceRejected):
        confined.run("read", REQUEST, sources=[escape(tmp_path)])


@needs_landlock
def test_landlock_alone_turns_a_virtual_dataset_into_zeros(confined: Children, tmp_path: Path) -> None:
    """So the sandbox is the second wall, not the first."""
    assert confined.run("read", REQUEST, sources=[virtual_dataset(tmp_path)])["values"] == [0] * len(SECRET)


@pytest.mark.parametrize("library", ["h5py", "netCDF4"])
def test_libraries_open_the_descriptors_own_path(confined: Children, tmp_path: Path, library: str) -> None:
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as file:
        file.createDimension("x", 3)
        file.createVariable("a", "i4", ("x",))[:] = [1, 2, 3]
    assert confined.run("read", {"library": library, "variable": "a"}, sources=[tmp_path / "a.nc"])["values"] == [1, 2, 3]


def test_a_cut_classic_file_is_read_with_invented_values(confined: Children, tmp_path: Path) -> None:
    """netcdf4-python#1030: so the header is compared with the size by ourselves."""
    path = tmp_path / "a.nc"
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
        file.createDimension("x", 100)
        file.createVariable("a", "i4", ("x",))[:] = np.arange(1, 101)
    body = path.read_bytes()
    path.write_bytes(body[: len(body) - 200])
    values = confined.run("read", {"library": "netCDF4", "variable": "a"}, sources=[path])["values"]
    assert values == [*range(1, 51), *[0] * 50]


def test_hdf5_says_that_a_file_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(1_000)
    path.write_bytes(path.read_bytes()[:4_000])
    with pytest.raises(OSError, match="truncated file"):
        h5py.File(path)


@pytest.mark.parametrize("length", [10, 5_000])
def test_hdf5_takes_a_chunk_of_any_length(tmp_path: Path, length: int) -> None:
    """What a short chunk lacks is read from elsewhere in memory: so chunks are measured before HDF5 decodes them."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("a", shape=(1_000,), chunks=(1_000,), dtype="u1", compression="gzip")
        data.id.write_direct_chunk((0,), zlib.compress(bytes([7]) * length))
    with h5py.File(path) as file:
        assert file["a"][: min(length, 1_000)].tolist() == [7] * min(length, 1_000)


def test_the_filters_that_hdf5_has_built_in() -> None:
    assert [h5z.filter_avail(number) for number in (1, 2, 3, 4)] == [True] * 4


def test_the_template_is_one_thread(confined: Children) -> None:
    """A fork of several threads may lock up: so no import may start one."""
    status = Path(f"/proc/{confined.template_pid()}/status").read_text()
    assert "Threads:\t1\n" in status
