"""Files in which answers are assembled: small answers in memory, others in unnamed files on the data disk, within a quota."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self, cast

from cubeport.errors import NoSpace, StoreUnavailable

MIB = 1 << 20


class AnswerRoom:
    """The files of one process.

    Parameters
    ----------
    folder
        The folder for the files of answers. It is created when the first file is needed.
    disk_bytes
        The largest total size of answers on the disk, including those that are still being sent.
    memory_bytes
        Answers up to this size stay in memory, within *memory_total*.
        memory_total
            The largest total size of answers in memory.
    """

    def __init__(self, folder: Path, *, disk_bytes: int, memory_bytes: int = 16 * MIB, memory_total: int = 256 * MIB) -> None:
        self._folder = folder
        self._disk_bytes = disk_bytes
        self._memory_bytes = memory_bytes
        self._memory_total = memory_total
        self._on_disk = self._in_memory = 0
        self._lock = threading.Lock()

    def open(self, declared_bytes: int) -> BinaryIO:
        """Return an empty file for about this many bytes.

        Raises
        ------
        NoSpace
            If the answers that are being sent use up the quota, or the disk is full.
        """
        if self._take_memory(declared_bytes):
            return cast(BinaryIO, _InMemory(self, declared_bytes))
        return self._file(declared_bytes)

    def hold(self, content: bytes) -> BinaryIO:
        """Return *content* as a file, positioned at its start. Raises as :meth:`open`."""
        if self._take_memory(len(content)):
            return cast(BinaryIO, _InMemory(self, len(content), content))
        file = self._file(len(content))
        try:
            file.write(content)
            self.finished(file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def finished(self, file: BinaryIO) -> BinaryIO:
        """Return a file that is completely written. Raises NoSpace or StoreUnavailable if a write failed."""
        failed: OSError | None = getattr(file, "failed", None)
        if failed is None:
            return file
        if failed.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace("The disk is full.", next_step=_LESS) from failed
        raise StoreUnavailable("The file of the answer cannot be written now.", next_step="Try again later.") from failed

    def _take_memory(self, size: int) -> bool:
        with self._lock:
            fits = size <= self._memory_bytes and self._in_memory + size <= self._memory_total
            self._in_memory += size if fits else 0
            return fits

    def _file(self, size: int) -> BinaryIO:
        with self._lock:
            if self._on_disk + size > self._disk_bytes:
                raise NoSpace(
                    f"Answers that are being sent take {self._on_disk // MIB} of {self._disk_bytes // MIB} MiB.",
                    next_step="Try again later, or ask for a smaller part.",
                )
            self._on_disk += size
        try:
            return cast(BinaryIO, _OnDisk(self, size))
        except BaseException:
            self.give_back(size, disk=True)
            raise

    def give_back(self, size: int, *, disk: bool) -> None:
        """Release a part of the disk quota or of the memory."""
        with self._lock:
            if disk:
                self._on_disk -= size
            else:
                self._in_memory -= size

    @property
    def taken(self) -> tuple[int, int]:
        """The bytes of answers on the disk and in memory."""
        return self._on_disk, self._in_memory


class _InMemory(BytesIO):
    """A small answer."""

    def __init__(self, room: AnswerRoom, declared_bytes: int, content: bytes = b"") -> None:
        super().__init__(content)
        self._room = room
        self._declared = declared_bytes

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._room.give_back(self._declared, disk=False)

    def __del__(self) -> None:
        self.close()


class _OnDisk:
    """An unnamed file for HDF5 to write to. A failed write is recorded in ``failed``, because HDF5 hides it.

    After a failure, further writes are discarded, so that HDF5 can close its objects.
    """

    def __init__(self, room: AnswerRoom, declared_bytes: int) -> None:
        folder = room._folder  # noqa: SLF001  # two classes, one thing
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
            if free < declared_bytes:
                raise NoSpace(
                    f"The answer needs {declared_bytes // MIB} MiB; the disk has {free // MIB} MiB free.", next_step=_LESS
                )
            self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115  # closed when it is sent
        except OSError as error:
            raise NoSpace("There is no room for the file of the answer.", next_step=_LESS) from error
        self._room = room
        self._declared = declared_bytes
        self.failed: OSError | None = None

    def write(self, data: memoryview) -> int:
        view = memoryview(data).cast("B")
        try:
            done = 0
            while self.failed is None and done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self.failed = error
        return len(view)

    def readinto(self, buffer: memoryview) -> int:
        return os.readv(self._file.fileno(), [buffer])

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.failed = error
            return size or 0

    def flush(self) -> None: ...

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._room.give_back(self._declared, disk=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_declared"):
            self.close()


_LESS = "Try a smaller part, or read the Zarr store."
