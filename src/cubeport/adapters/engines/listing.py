"""What lies below a data folder, for upkeep: versions, staging, and whether a version is what its manifest says."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cubeport.catalog.disk.durable import store_errors
from cubeport.cubes.keys import CUBE, MANIFEST

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Listed:
    """One folder: its path relative to the data folder, its name, and when it last changed."""

    path: str
    name: str
    modified_s: float


@dataclass(slots=True)
class DataFolder:
    """The versions and staging folders of the engine ``zarr`` below *data*."""

    data: Path

    def staged(self) -> list[Listed]:
        """Return what lies in ``staging``."""
        with store_errors("list the staging folder"):
            return [_listed(self.data, each) for each in _folders(self.data / "staging")]

    def versions(self) -> list[tuple[str, Listed]]:
        """Return the dataset and the folder of everything in ``store``."""
        with store_errors("list the store"):
            datasets = _folders(self.data / "store")
            return [(dataset.name, _listed(self.data, each)) for dataset in datasets for each in _folders(dataset)]

    def size(self, path: str) -> int:
        """Return the bytes of everything below *path*."""
        total = 0
        with store_errors("measure a folder"):
            for top, _, names in os.walk(self.data / path):
                total += sum((Path(top) / name).lstat().st_size for name in names)
        return total

    def faults(self, path: str, *, digest: str, data: bool) -> Iterator[tuple[str, str]]:
        """Yield the kind and key of everything in the version at *path* that is not as its manifest says.

        Parameters
        ----------
        digest
            The sha256 of the manifest, as the catalog has it: nothing below is believed without.
        data
            Read every byte, too.
        """
        folder = self.data / path
        with store_errors("read a version"):
            try:
                manifest = (folder / MANIFEST).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                yield "missing-object", MANIFEST
                return
            if hashlib.sha256(manifest).hexdigest() != digest:
                yield "digest-differs", MANIFEST
                return
            entries = {each["key"]: (each["size"], each["sha256"]) for each in json.loads(manifest)["entries"]}
            there = dict(_objects(folder / CUBE))
            yield from (("missing-object", key) for key in sorted(entries.keys() - there.keys()))
            yield from (("extra-object", key) for key in sorted(there.keys() - entries.keys()))
            for key in sorted(entries.keys() & there.keys()):
                size, expected = entries[key]
                if there[key] != size:
                    yield "size-differs", key
                elif data and _sha256(folder / CUBE / key) != expected:
                    yield "digest-differs", key


def _folders(top: Path) -> list[Path]:
    if not top.is_dir():
        return []
    return sorted(each for each in top.iterdir() if each.is_dir() and not each.is_symlink())


def _listed(data: Path, folder: Path) -> Listed:
    return Listed(folder.relative_to(data).as_posix(), folder.name, folder.lstat().st_mtime)


def _objects(cube: Path) -> Iterator[tuple[str, int]]:
    """Yield key and size of everything in the tree; what is no regular file has the size -1, which no manifest says."""
    for top, names, files in os.walk(cube):
        links = [name for name in names if (Path(top) / name).is_symlink()]
        for name in (*files, *links):
            each = Path(top) / name
            found = each.lstat()
            yield each.relative_to(cube).as_posix(), found.st_size if stat.S_ISREG(found.st_mode) else -1


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
