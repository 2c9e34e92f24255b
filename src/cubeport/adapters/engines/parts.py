"""Parts of sources: chunks of a virtual version are read from the source, and are always the bytes that were published.

A file is opened below a folder of ``sources.roots`` and compared with the manifest before *and* after each read. The kernel
changes the times of a file before a write changes its first byte. So if both comparisons agree, the bytes between them did not
change. An object of a store is compared by its ETag (:mod:`.objects`).
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Buffer, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cubeport.adapters.engines.disk import open_file
from cubeport.adapters.engines.manifest import changed
from cubeport.cubes.write_request import Pointed, SourceFile, StoredObject, StoreObject, marks_of
from cubeport.errors import Corrupt, StoreUnavailable

if TYPE_CHECKING:
    from cubeport.adapters.engines.manifest import Entry, Lying
    from cubeport.adapters.engines.objects import StoreObjects


def opened(
    entry: Entry, sources: Mapping[Lying, Pointed], roots: Sequence[Path], objects: StoreObjects | None = None
) -> StoredObject:
    """Return an object that is a part of a source.

    Parameters
    ----------
    sources
        The files of the version.
    roots
        The folders that may contain such files.
    objects
        Reads objects of stores; ``None`` in a child, which has no network.

    Raises
    ------
    SourceChanged
        If the source is not below one of *roots*, does not exist, or has changed.
    StoreUnavailable
        If it is an object of a store that cannot be read.
    Corrupt
        If the source is not in the version's list of files.
    """
    assert entry.source is not None, "the caller has asked"
    source = sources.get(entry.source)
    if source is None:
        raise Corrupt(f"A version does not say where its file {entry.source.name} is.", next_step="cubeport fsck --data")
    if isinstance(source, StoreObject):
        if objects is None:
            raise StoreUnavailable(
                f"A chunk of {entry.source.name} is in a store, which the process that makes a version cannot reach.",
                next_step="replace the whole dataset instead of updating it (--replace), or copy it (--storage copy)",
            )
        body = objects.read(source, entry.offset, entry.size, entry.sha256)
        return StoredObject(file=io.BytesIO(body), size=entry.size, digest=entry.sha256)
    part = Part(open_source(source, roots), source, entry.offset, entry.size)
    return StoredObject(file=part, size=entry.size, digest=entry.sha256, offset=entry.offset, check=part.check)  # type: ignore[arg-type]


def check_source(source: Pointed, roots: Sequence[Path], objects: StoreObjects | None) -> None:
    """Compare a source with what was recorded. Raises SourceChanged, which says if it is ``missing``, and StoreUnavailable."""
    if isinstance(source, StoreObject):
        assert objects is not None, "an engine has it"
        objects.check(source)
    else:
        os.close(open_source(source, roots))


def open_source(source: SourceFile, roots: Sequence[Path]) -> int:
    """Open a source without following links below its root, and compare it. Raises SourceChanged, StoreUnavailable."""
    root = next((each for each in roots if Path(source.path).is_relative_to(each)), None)
    if root is None:
        words = "is no longer in a folder that this server may read"
        raise changed(source, words, "add its folder to sources.roots again", missing=True)
    try:
        descriptor = open_file(str(root).rstrip("/"), Path(source.path).relative_to(root).as_posix())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise changed(source, "does not exist any more", missing=True) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise changed(source, "has become a link since") from error
        raise StoreUnavailable(  # whether it changed is unknown
            f"The version points into the file {Path(source.path).name}, which cannot be read now: {error.strerror}.",
            next_step="give the server the right to read the file, or try again when its disk answers",
        ) from error
    try:
        check(descriptor, source)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check(descriptor: int, source: SourceFile) -> None:
    """Compare an open file with its recorded identity. Raises SourceChanged."""
    if marks_of(os.fstat(descriptor)) != source.marks:
        raise changed(source, "has changed since")


class Part(io.RawIOBase):
    """A part of an open source as a file. Closing it closes the descriptor."""

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
        """Read from the part, and check that the source has not changed. Raises SourceChanged."""
        view = memoryview(buffer).cast("B")
        count = os.preadv(self._descriptor, [view[: max(0, self._size - self._at)]], self._offset + self._at)
        self.check()
        self._at += count
        return count

    def check(self) -> None:
        """Raise SourceChanged if the source has changed."""
        check(self._descriptor, self._source)

    def fileno(self) -> int:
        """Return the descriptor of the whole source; the part begins at ``StoredObject.offset``."""
        return self._descriptor

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
