"""The calls by which an engine changes names and makes them durable: one small port, so that a test can let each of them fail."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from cubeport.catalog.disk.durable import sync, write_all


class Disk:
    """The file system of this machine."""

    def make_folder(self, path: Path) -> None:
        """Make one folder. Raises FileExistsError."""
        path.mkdir(mode=0o750)

    def rename(self, source: str | Path, target: str | Path, *, source_fd: int | None = None, target_fd: int | None = None) -> None:
        """Give *source* the name *target*, each below its folder's descriptor where one is given."""
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Return when the bytes of a file, or the names of a folder, are on the disk."""
        sync(descriptor)

    def sync_all(self, descriptor: int) -> None:
        """Return when everything on the file system of *descriptor* is on the disk; errors are told since Linux 5.8."""
        if _SYNCFS is None:
            raise OSError(errno.ENOSYS, "no syncfs")
        if _SYNCFS(descriptor) != 0:
            raise OSError(number := ctypes.get_errno(), os.strerror(number))


_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
