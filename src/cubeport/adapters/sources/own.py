"""Find the caller's own sources from names, globs and folders on the command line. It checks formats by content but opens no
data.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cubeport.adapters.sandbox.child import Input
from cubeport.errors import SourceRejected

_PACKED = (".7z", ".bz2", ".gz", ".tar", ".tgz", ".xz", ".z", ".zip", ".zst")
_ZARR = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


@dataclass(frozen=True, slots=True)
class Found:
    """The found sources."""

    sources: tuple[Path, ...]
    """Files and Zarr folders, each once, in the order of the names, and sorted by name inside a folder or glob."""
    skipped: Mapping[Path, str]
    """What was left out of searched folders, each with the reason in a few words."""


def find(names: Iterable[str]) -> Found:
    """Return the sources for *names*: files, Zarr folders, folders that contain them (searched recursively), and globs (also
    ``**``).

    A file that is named or matches a glob is accepted whatever it contains; the gate reports what is wrong with it. In searched
    folders, only files with a known format are accepted whose names are not those of backups or unfinished transfers, and hidden
    files are ignored.

    Raises
    ------
    SourceRejected
        ``empty``, if a name or glob matches nothing, or a folder contains nothing with a known format.
    """
    sources: dict[Path, None] = {}
    skipped: dict[Path, str] = {}
    for name in names:
        for path in _fitting(name):
            if not path.is_dir() or _is_source(path):
                sources[path] = None
                continue
            before = len(sources)
            for inner in _walked(path):
                if (reason := _temporary(inner) or _not_a_source(inner)) is None:
                    sources[inner] = None
                else:
                    skipped[inner] = reason
            if len(sources) == before:
                raise SourceRejected(
                    f"The folder {path} contains no file of a known format.", reason="empty", source=str(path)[:200]
                )
    return Found(tuple(sources), skipped)


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


def _temporary(path: Path) -> str | None:
    """Return the words for a name that programs give to what is not whole yet, or no longer current; ``None`` for any other."""
    if path.suffix.lower() in (".part", ".partial", ".tmp", ".crdownload", ".filepart"):
        return "its name is that of an unfinished transfer"
    return "its name is that of a backup" if path.name.endswith("~") or path.suffix.lower() in (".bak", ".orig") else None


def _is_source(path: Path) -> bool:
    return _not_a_source(path) is None


def _not_a_source(path: Path) -> str | None:
    """Return why *path* is no file or folder of a known format, by its content; ``None`` if it is one."""
    try:
        # Without blocking, because opening a pipe would wait for a process that writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        return "it is a link to nothing" if path.is_symlink() and not path.exists() else f"it cannot be opened: {exc.strerror}"
    try:
        found = os.fstat(descriptor)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return "it is no file"
        if stat.S_ISDIR(found.st_mode):
            # The format zarr accepts every folder, to report what is wrong with it. Here, a folder without these files is a folder
            # of sources.
            return None if any((path / name).is_file() for name in _ZARR) else "it is no Zarr store"
        # Only files in folders are looked into, and the formats import xarray, which takes as long as a small ingestion.
        from cubeport.adapters.sources.formats import FORMATS

        source = Input(path.name, descriptor, is_folder=False)
        if any(form.matches(source) for form in FORMATS.values()):
            return None
        if not found.st_size:
            return "it is empty"
        return "it is compressed; unpack it first" if path.suffix.lower() in _PACKED else "unknown format"
    finally:
        os.close(descriptor)
