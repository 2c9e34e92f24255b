"""A Zarr store in a folder as a store of zarr-python, read through descriptors, so that exactly the scanned files are read.

zarr's own ``LocalStore`` follows links that appear after the scan. It also treats a folder in the place of a chunk as a missing
chunk, which a reader then silently fills.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.core import default_buffer_prototype

from cubeport.adapters.readonly import ReadOnlyStore, span_of
from cubeport.adapters.sandbox.limits import SourceLimits
from cubeport.adapters.sources.scanned import shown, unreadable
from cubeport.adapters.sources.zarrfolder import listing, opened_key
from cubeport.cubes.excerpt import NAME


class FolderStore(ReadOnlyStore):
    """The read-only store below *path*, as it was when this object was made."""

    refusal = "a source is only read"

    def __init__(self, name: str, path: str, limits: SourceLimits | None = None) -> None:
        super().__init__()
        self._name = name
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._let_go = weakref.finalize(self, os.close, self._descriptor)  # xarray does not close stores that the caller opened
        try:
            self._files, self._folders = listing(name, self._descriptor, limits or SourceLimits())
            self._files.pop(NAME, None)  # it is about the store and not of it
        except BaseException:
            self._let_go()
            raise

    def __eq__(self, other: object) -> bool:
        return self is other

    def close(self) -> None:
        """Close the folder. Idempotent."""
        super().close()
        self._let_go()

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes, or ``None`` if the folder had no such file.

        Raises
        ------
        SourceRejected
            If the file cannot be read now, or is something else. Absent is not unreadable.
        """
        if not self._has(key):
            return None
        try:
            with opened_key(self._descriptor, key) as file:
                start, end = span_of(byte_range, self._files[key])
                body = _pread(file, start, end - start)
        except OSError as error:
            raise unreadable(self._name, f"changed while it was read: {shown(key)}") from error
        if len(body) != end - start:
            raise unreadable(self._name, f"changed while it was read: {shown(key)}")
        return (prototype or default_buffer_prototype()).buffer.from_bytes(body)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    def _has(self, key: str) -> bool:
        if key in self._files:
            return True
        above = key
        while above:
            if above in self._files or (above == key and key in self._folders and not self._is_node(key)):
                raise unreadable(self._name, f"has something else in the place of {shown(key)}")
            above = above.rpartition("/")[0]
        return False

    def _is_node(self, key: str) -> bool:
        return any(f"{key}/{leaf}" in self._files for leaf in ("zarr.json", ".zarray", ".zgroup"))

    async def exists(self, key: str) -> bool:
        return self._has(key)

    @property
    def supports_listing(self) -> bool:
        return True

    async def list(self) -> AsyncIterator[str]:
        for key in sorted(self._files):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in sorted(self._files):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        inside = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        for key in sorted({*self._files, *self._folders}):
            if key.startswith(inside) and "/" not in key.removeprefix(inside):
                yield key.removeprefix(inside)


def _pread(file: int, start: int, length: int) -> bytes:
    """Return *length* bytes from *start*, or fewer at the end of the file. One system call returns at most 2 GiB."""
    parts = []
    while length and (part := os.pread(file, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return b"".join(parts)
