"""Parts of sources: chunks of a virtual version, read where they lie and never as anything else than what was published.

A source is opened below a folder of ``sources.roots`` and compared with what the manifest says of it before *and* behind each read:
the kernel moves a file's time of change before a write puts the first byte in place, so what was read between two equal looks is
what was there at the first.
"""

from __future__ import annotations

import io
import os
from collections.abc import Buffer, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cubeport.adapters.engines.disk import open_file
from cubeport.cubes.write_request import SourceFile, StoredObject, marks_of
from cubeport.errors import Corrupt, SourceChanged

if TYPE_CHECKING:
    from cubeport.adapters.engines.manifest import Entry, Lying


def opened(entry: Entry, sources: Mapping[Lying, SourceFile], roots: Sequence[Path]) -> StoredObject:
    """Return the object that lies in a source.

    Parameters
    ----------
    sources
        Where the files of the version are.
    roots
        The folders in which such files may be.

    Raises
    ------
    SourceChanged
        When the source is below none of *roots*, is not there, or is not what it was.
    Corrupt
        When the version's list of its files does not have it.
    """
    assert entry.source is not None, "the caller has asked"
    source = sources.get(entry.source)
    if source is None:
        raise Corrupt(f"A version has lost where its file {entry.source.name} is.", next_step="cubeport fsck --data")
    part = Part(open_source(source, roots), source, entry.offset, entry.size)
    return StoredObject(file=part, size=entry.size, digest=entry.sha256, offset=entry.offset, check=part.check)  # type: ignore[arg-type]


def open_source(source: SourceFile, roots: Sequence[Path]) -> int:
    """Open a source, following no link below its root, and compare it. Raises SourceChanged."""
    root = next((each for each in roots if Path(source.path).is_relative_to(each)), None)
    if root is None:
        raise _changed(source, "is no longer in a folder that this server may read", "add its folder to sources.roots again")
    try:
        descriptor = open_file(str(root).rstrip("/"), Path(source.path).relative_to(root).as_posix())
    except OSError as error:
        raise _changed(source, "cannot be opened") from error
    try:
        check(descriptor, source)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check(descriptor: int, source: SourceFile) -> None:
    """Compare an open file with what it was. Raises SourceChanged."""
    if marks_of(os.fstat(descriptor)) != source.marks:
        raise _changed(source, "has changed since")


def _changed(source: SourceFile, why: str, next_step: str | None = None) -> SourceChanged:
    return SourceChanged(
        f"The version points into the file {Path(source.path).name}, which {why}.",
        next_step=next_step or "ask its owner to ingest the file again: cubeport ingest FILE --replace --storage virtual",
        what="source",
    )


class Part(io.RawIOBase):
    """A part of an open source as a file of its own; it closes the descriptor."""

    def __init__(self, descriptor: int, source: SourceFile, offset: int, size: int) -> None:
        super().__init__()
        self._descriptor, self._source, self._offset, self._size = descriptor, source, offset, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        """Read from the part, and see that the source is still what it was. Raises SourceChanged."""
        view = memoryview(buffer).cast("B")
        count = os.preadv(self._descriptor, [view[: max(0, self._size - self._at)]], self._offset + self._at)
        self.check()
        self._at += count
        return count

    def check(self) -> None:
        """Raise SourceChanged when the source is not what it was."""
        check(self._descriptor, self._source)

    def fileno(self) -> int:
        """Return the descriptor of the whole source; the part begins at ``StoredObject.offset``."""
        return self._descriptor

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
