"""What was scanned is what is read, and absent is not unreadable."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from tests.descriptors import held, left_since
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import LocalStore

from cubeport.adapters.sources.zarrstore import FolderStore
from cubeport.errors import SourceRejected

from .hostile import CASES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    root = zarr.open_group(path, mode="w")
    root.create_array("a", data=np.arange(16.0).reshape(4, 4), chunks=(2, 4), compressors=None, dimension_names=("y", "x"))
    root.create_group("g").create_array("b", data=np.arange(6), dimension_names=("z",))
    return path


@pytest.fixture
def store(folder: Path) -> Iterator[FolderStore]:
    opened = FolderStore("a.zarr", str(folder))
    yield opened
    opened.close()
    opened.close()


def values(store: FolderStore, name: str = "a") -> list[float]:
    array = zarr.open_group(store, mode="r")[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...]).ravel().tolist()


def test_it_reads_what_is_there(store: FolderStore) -> None:
    assert values(store) == list(np.arange(16.0))
    assert values(store, "g/b") == list(range(6))
    members = dict(zarr.open_group(store, mode="r").members(max_depth=None))
    assert sorted(members) == ["a", "g", "g/b"]


@pytest.mark.parametrize("name", ["rlds_v3.zarr", "analysed_sst.zarr"])
def test_it_reads_real_stores_as_zarr_does(realdata: Path, name: str) -> None:
    store = FolderStore(name, str(realdata / name))
    with (
        xr.open_dataset(store, engine="zarr", consolidated=False, decode_cf=False) as ours,
        xr.open_dataset(realdata / name, engine="zarr", consolidated=False, decode_cf=False) as theirs,
    ):
        xr.testing.assert_identical(ours.load(), theirs.load())
    store.close()


@pytest.mark.parametrize(
    "asked",
    [
        None,
        RangeByteRequest(3, 9),
        RangeByteRequest(60, 99),
        RangeByteRequest(90, 99),
        OffsetByteRequest(60),
        OffsetByteRequest(64),
        SuffixByteRequest(5),
        SuffixByteRequest(99),
    ],
)
def test_ranges_are_those_of_zarrs_own_store(store: FolderStore, folder: Path, asked: object) -> None:
    prototype = zarr.core.buffer.default_buffer_prototype()
    ours = asyncio.run(store.get("a/c/0/0", prototype, asked))
    theirs = asyncio.run(LocalStore(folder).get("a/c/0/0", prototype, asked))
    assert ours.to_bytes() == theirs.to_bytes()
    assert asyncio.run(store.get_partial_values(prototype, [("a/c/0/0", asked), ("none", None)]))[1] is None


def test_it_lists_what_is_there(store: FolderStore) -> None:
    async def all_of(keys) -> list[str]:
        return [key async for key in keys]

    assert asyncio.run(all_of(store.list_dir(""))) == ["a", "g", "zarr.json"]
    assert asyncio.run(all_of(store.list_dir("a/c"))) == ["0", "1"]
    assert asyncio.run(all_of(store.list_prefix("g/"))) == ["g/b/c/0", "g/b/zarr.json", "g/zarr.json"]
    assert len(asyncio.run(all_of(store.list()))) == 7
    assert asyncio.run(store.exists("a/zarr.json"))
    assert not asyncio.run(store.exists("a/none"))


def test_nothing_can_be_written(store: FolderStore) -> None:
    assert (store.supports_writes, store.supports_deletes, store.supports_listing, store.read_only) == (False, False, True, True)
    with pytest.raises(PermissionError):
        asyncio.run(store.delete("a/zarr.json"))
    with pytest.raises(PermissionError):
        asyncio.run(store.set("b", zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(b"")))


def test_a_chunk_that_was_never_there_is_fill(folder: Path) -> None:
    (folder / "a" / "c" / "1" / "0").unlink()
    store = FolderStore("a.zarr", str(folder))
    assert values(store)[8:] == [0.0] * 8
    store.close()


def lose(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.symlink_to(path.with_suffix(".old"))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    os.truncate(path, 9)


@pytest.mark.parametrize("change", [lose, link, fifo, cut])
def test_what_changes_after_the_scan_is_refused(store: FolderStore, folder: Path, change) -> None:
    change(folder / "a" / "c" / "1" / "0")
    with pytest.raises(SourceRejected, match="changed") as caught:
        values(store)
    assert caught.value.reason == "unreadable"


def test_a_folder_at_the_place_of_a_chunk_is_refused(folder: Path) -> None:
    chunk = folder / "a" / "c" / "1" / "0"
    chunk.unlink()
    chunk.mkdir()
    # The fact behind it: zarr's own store takes the folder for a chunk that is not there.
    assert np.asarray(zarr.open_group(folder, mode="r")["a"][...]).ravel().tolist()[8:] == [0.0] * 8
    store = FolderStore("a.zarr", str(folder))
    with pytest.raises(SourceRejected, match="something else"):
        values(store)
    store.close()


def test_a_file_at_the_place_of_a_folder_is_refused(folder: Path) -> None:
    (folder / "a" / "c" / "1" / "0").unlink()
    (folder / "a" / "c" / "1").rmdir()
    (folder / "a" / "c" / "1").write_bytes(b"x")
    store = FolderStore("a.zarr", str(folder))
    with pytest.raises(SourceRejected, match="something else"):
        values(store)
    store.close()


def test_what_the_scan_refuses_is_refused_here_too(tmp_path: Path) -> None:
    (case,) = [each for each in CASES.found if each.name == "zarr_fifo_at_a_c_0_0"]
    before = held()
    with pytest.raises(SourceRejected) as caught:
        FolderStore("source.zarr", str(case.make(tmp_path)))
    assert caught.value.reason == "unsafe"
    assert left_since(before) == []
