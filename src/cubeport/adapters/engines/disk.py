"""The calls by which an engine changes names and makes them durable: one small port, so that a test can let each of them fail."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from cubeport.catalog.disk.durable import FILE_MODE, make_folder, sync, write_all

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: no link is followed."""

FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened: no link is followed, and a pipe does not block."""


class Disk:
    """The file system of this machine."""

    def make_folder(self, path: Path) -> None:
        """Make one folder. Raises FileExistsError."""
        make_folder(path)

    def rename(self, source: str | Path, target: str | Path, *, source_fd: int | None = None, target_fd: int | None = None) -> None:
        """Give *source* the name *target*, each below its folder's descriptor where one is given."""
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        """Give the file *source* the name *target* as well, each below its folder's descriptor."""
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)

    def write(self, path: str | Path, data: bytes, *, folder_fd: int | None = None) -> None:
        """Write a new file, below its folder's descriptor where one is given."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=folder_fd)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Return when the bytes of a file, or the names of a folder, are on the disk."""
        sync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Return when everything on the file system of *descriptor* is on the disk; errors are reported since Linux 5.8."""
        if _SYNCFS is None:
            raise OSError(errno.ENOSYS, "no syncfs")
        if _SYNCFS(descriptor) != 0:
            raise OSError(number := ctypes.get_errno(), os.strerror(number))


_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


@contextlib.contextmanager
def descriptor(path: str | Path, flags: int) -> Iterator[int]:
    """Open *path* for the block."""
    opened = os.open(path, flags)
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def beneath(root: str | Path, folders: Sequence[str]) -> Iterator[int]:
    """Open the folder below *root* for the block, step by step, following no link."""
    opened = os.open(root, FOLDER)
    try:
        for each in folders:
            inner = os.open(each, FOLDER, dir_fd=opened)
            os.close(opened)
            opened = inner
        yield opened
    finally:
        os.close(opened)


def open_file(root: str, key: str) -> int:
    """Open the file *key* below *root*, a path without links, for reading, and follow no link below it.

    The whole path is opened at once, and the kernel asked what was reached: a fifth of the time of going step by step. Where that
    is another path (by a link, or since a folder was moved meanwhile), or nobody says, each step is taken.
    """
    path = f"{root}/{key}"
    opened = os.open(path, FILE)
    try:
        if os.readlink(f"/proc/self/fd/{opened}") == path:  # noqa: PTH115  # each chunk that is served pays for it
            return opened
    except OSError:
        pass  # there is no /proc here
    os.close(opened)
    *inner, name = key.split("/")
    with beneath(root, inner) as folder:
        return os.open(name, FILE, dir_fd=folder)


def read(path: Path) -> bytes:
    """Return the bytes of a file, following no link."""
    with descriptor(path, FILE) as opened, os.fdopen(os.dup(opened), "rb") as file:
        return file.read()


def remove(folder: Path) -> None:
    """Remove a folder with everything in it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
