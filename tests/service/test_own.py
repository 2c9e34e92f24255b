"""The caller's own sources: names, globs and folders, told apart by content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cubeport.adapters.sources.own import find
from cubeport.errors import SourceRejected

HDF5, CLASSIC = b"\x89HDF\r\n\x1a\n" + b"\0" * 64, b"CDF\x01" + b"\0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {
        "b.nc": HDF5,
        "a.dat": CLASSIC,
        "notes.txt": b"CDF is a format",
        ".hidden.nc": HDF5,
        "deep/er/c.h5": HDF5,
        "store.zarr/zarr.json": b"{}",
        "store.zarr/x/c/0": b"",
        "old.zarr/.zgroup": b"{}",
    }.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.mkfifo(tmp_path / "in" / "pipe")
    return tmp_path / "in"


def names(folder: Path, paths: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_is_walked_by_content_and_a_zarr_folder_is_one_source(folder: Path) -> None:
    found = find([str(folder)])
    assert names(folder, found.sources) == ["a.dat", "b.nc", "deep/er/c.h5", "old.zarr", "store.zarr"]
    assert names(folder, found.skipped) == ["notes.txt", "pipe"]
    assert find([str(folder / "store.zarr")]).sources == (folder / "store.zarr",)


def test_what_is_named_is_taken_whatever_it_holds_and_once(folder: Path) -> None:
    found = find([str(folder / "notes.txt"), str(folder / "*.nc"), str(folder / "b.nc")])
    assert names(folder, found.sources) == ["notes.txt", "b.nc"]
    assert names(folder, find([str(folder / "**" / "*.h5")]).sources) == ["deep/er/c.h5"]


def test_links_to_folders_are_not_followed_by_a_walk(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret.nc").write_bytes(HDF5)
    (folder / "deep" / "link").symlink_to(tmp_path / "other")
    (folder / "deep" / "circle").symlink_to(folder)
    assert "deep/link/secret.nc" not in names(folder, find([str(folder)]).sources)


@pytest.mark.parametrize("name", ["gone.nc", "*.none", "empty"])
def test_what_fits_nothing_is_named(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SourceRejected) as caught:
        find([str(folder / name)])
    assert (caught.value.reason, name in caught.value.message) == ("empty", True)


def test_a_file_whose_name_looks_like_a_pattern_is_itself(folder: Path) -> None:
    (folder / "x[1].nc").write_bytes(HDF5)
    assert names(folder, find([str(folder / "x[1].nc")]).sources) == ["x[1].nc"]
