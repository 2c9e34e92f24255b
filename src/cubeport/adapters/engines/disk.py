"""The file system calls with which an engine changes names and makes them durable, as a port, so that a test can make each fail."""

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
"""The flags to open a folder without following links."""

FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""The flags to open a file without following links and without blocking on a pipe."""

READ_ONLY = 0o444
"""The mode of a version's files: nobody changes them, and some are in several versions."""


class Disk:
    """The file system of this machine."""

    def make_folder(self, path: str | Path) -> None:
        """Make one folder. Raises FileExistsError."""
        make_folder(path)

    def rename(self, source: str | Path, target: str | Path, *, source_fd: int | None = None, target_fd: int | None = None) -> None:
        """Rename *source* to *target*, each relative to its folder's descriptor if one is given."""
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def link(self, source: str, target: str, *, source_fd: int, target_fd: int) -> None:
        """Create the hard link *target* to *source*, each relative to its folder's descriptor."""
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)

    def write(self, path: str | Path, data: bytes, *, folder_fd: int | None = None) -> None:
        """Write a new read-only file, relative to its folder's descriptor if one is given."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=folder_fd)
        try:
            write_all(descriptor, data)
            os.fchmod(descriptor, READ_ONLY)
        finally:
            os.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Sync a file or a folder to the disk."""
        sync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Sync the whole file system of *descriptor* to the disk. Linux reports errors since version 5.8."""
        if _SYNCFS is None:
            raise OSError(errno.ENOSYS, "no syncfs")
        if _SYNCFS(descriptor) != 0:
            raise OSError(number := ctypes.get_errno(), os.strerror(number))


_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


@contextlib.contextmanager
def descriptor(path: str | Path, flags: int) -> Iterator[int]:
    """Open *path* for the duration of the block."""
    opened = os.open(path, flags)
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def beneath(root: str | Path, folders: Sequence[str]) -> Iterator[int]:
    """Open the folder below *root* for the duration of the block, one level at a time, without following links."""
    opened = os.open(root, FOLDER)
    try:
        for each in folders:
            inner = os.open(each, FOLDER, dir_fd=opened)
            os.close(opened)
            opened = inner
        yield opened
    finally:
        os.close(opened)


class Levels:
    """Opens folders below *root*, one level at a time and without following links, and keeps the levels of the last one open.

    Neighbours share most of their levels, so that each level is opened once. With *disk*, missing folders are made.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root, self._disk = root, disk
        self._open: list[tuple[str, int]] = [("", os.open(root, FOLDER))]

    def open(self, folders: Sequence[str]) -> int:
        """Return the descriptor of a folder, which is open until the next call."""
        same = 0
        while same < min(len(folders), len(self._open) - 1) and self._open[same + 1][0] == folders[same]:
            same += 1
        self._close(same + 1)
        for depth, name in enumerate(folders[same:], same + 1):
            above = self._open[-1][1]
            try:
                opened = os.open(name, FOLDER, dir_fd=above)
            except FileNotFoundError:
                if self._disk is None:
                    raise
                self._disk.make_folder("/".join((str(self._root), *folders[:depth])))
                opened = os.open(name, FOLDER, dir_fd=above)
            self._open.append((name, opened))
        return self._open[-1][1]

    def close(self) -> None:
        """Close all levels."""
        self._close(0)

    def _close(self, kept: int) -> None:
        while len(self._open) > kept:
            os.close(self._open.pop()[1])


def open_file(root: str, key: str) -> int:
    """Open the file *key* below *root* for reading, without following links below *root*. *root* itself must not contain links.

    The whole path is opened with one call, and /proc then shows which path was reached. This takes a fifth of the time of opening
    level by level. If the path differs (because of a link or a moved folder), or /proc does not show it, the levels are opened one
    by one.
    """
    path = f"{root}/{key}"
    opened = os.open(path, FILE)
    try:
        if os.readlink(f"/proc/self/fd/{opened}") == path:  # noqa: PTH115  # each chunk that is served pays for it
            return opened
    except OSError:
        pass  # this system has no /proc
    os.close(opened)
    *inner, name = key.split("/")
    with beneath(root, inner) as folder:
        return os.open(name, FILE, dir_fd=folder)


def read(path: Path) -> bytes:
    """Return the bytes of a file, without following links."""
    with descriptor(path, FILE) as opened, os.fdopen(os.dup(opened), "rb") as file:
        return file.read()


def remove(folder: Path) -> None:
    """Remove a folder and everything in it, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
