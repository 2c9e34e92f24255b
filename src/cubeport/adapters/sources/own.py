"""Find the caller's own sources from names, globs and folders on the command line. It checks formats by content but opens no
data.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cubeport.adapters.sandbox.child import Input
from cubeport.errors import SourceRejected

_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


@dataclass(frozen=True, slots=True)
class Found:
    """The found sources."""

    sources: tuple[Path, ...]
    """Files and Zarr folders, each once, in the order of the names, and sorted by name inside a folder or glob."""
    skipped: tuple[Path, ...] = ()
    """Files in searched folders that have no known format."""


def find(names: Iterable[str]) -> Found:
    """Return the sources for *names*: files, Zarr folders, folders that contain them (searched recursively), and globs (also
    ``**``).

    A file that is named or matches a glob is accepted whatever it contains; the gate reports what is wrong with it. In searched
    folders, only files with a known format are accepted, and hidden files are ignored.

    Raises
    ------
    SourceRejected
        ``empty``, if a name or glob matches nothing, or a folder contains nothing with a known format.
    """
    sources: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    for name in names:
        for path in _fitting(name):
            if not path.is_dir() or _is_source(path):
                sources[path] = None
                continue
            before = len(sources)
            for inner in _walked(path):
                (sources if _is_source(inner) else skipped)[inner] = None
            if len(sources) == before:
                raise SourceRejected(
                    f"The folder {path} contains no file of a known format.", reason="empty", source=str(path)[:200]
                )
    return Found(tuple(sources), tuple(skipped))


def _fitting(name: str) -> list[Path]:
    if os.path.lexists(name):
        return [Path(name)]
    if not glob.has_magic(name):
        raise SourceRejected(f"{name}: there is no such file.", reason="empty", source=name[:200], next_step="check the path")
    if found := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute patterns
        return [Path(each) for each in found]
    raise SourceRejected(f"{name} matches no file.", reason="empty", source=name[:200], next_step="check the pattern")


def _walked(folder: Path) -> Iterator[Path]:
    """Yield the files and Zarr folders below *folder*, by name. Links to folders are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False) and not _is_source(path):
            yield from _walked(path)
        else:
            yield path


def _is_source(path: Path) -> bool:
    """Return whether *path* is a file or folder of a known format, by its content."""
    try:
        # Without blocking, because opening a pipe would wait for a process that writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return False
        if stat.S_ISDIR(mode):
            # The format zarr accepts every folder, to report what is wrong with it. Here, a folder without these files is a folder
            # of sources.
            return any((path / name).is_file() for name in _ZARR)
        # Only files in folders are looked into, and the formats import xarray, which takes as long as a small ingestion.
        from cubeport.adapters.sources.formats import FORMATS

        source = Input(path.name, descriptor, is_folder=False)
        return any(form.matches(source) for form in FORMATS.values())
    finally:
        os.close(descriptor)
