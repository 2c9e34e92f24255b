"""What makes bytes and names survive a power cut: the few calls that the libraries below us never make."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cubeport.errors import NoSpace, StoreUnavailable

_FULL = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: its fsync leaves the bytes in the drive."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}

FREE_BYTES = 1024 * 1024
"""Below, no commit is sure to find room: its journal, its rows and their log take about a tenth of that."""


def sync(descriptor: int) -> None:
    """Return when the file's bytes are on the disk. An error abandons them: a second try could succeed and mean nothing."""
    if _FULL is not None:
        fcntl.fcntl(descriptor, _FULL)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> list[Path]:
    """Make *folder* and its missing parents, durably; return those made here, outermost first."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    made = []
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o750)
            made.append(each)
            sync_folder(each.parent)
    return made


def demand_space(*folders: Path, free_bytes: int = FREE_BYTES) -> None:
    """Return if each of *folders* lies on a disk with that much space.

    Raises
    ------
    NoSpace
        Without a server's path in its words.
    StoreUnavailable
        If the disk does not answer.
    """
    for folder in folders:
        with store_errors("ask for free space"):
            found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        if free < free_bytes or (found.f_files and not found.f_favail):
            message = f"There is no space left: {free // 1024} KiB and {found.f_favail} file entries are free."
            raise NoSpace(message, next_step="cubeport gc")


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, whatever the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: Path, data: bytes) -> None:
    """Make *data* the content of *path*: beside it, synced, renamed over it. Readers see the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        write_all(descriptor, data)
        sync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn the system's errors into ours; *what* says, without a server's path, what could not be done."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise NoSpace(f"There is no space left to {what}.", next_step="cubeport gc") from exc
        raise StoreUnavailable(f"Could not {what}: {exc.strerror or exc}.", next_step="cubeport doctor") from exc
