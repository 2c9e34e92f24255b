"""Write bytes to a target that nobody reads yet, and measure their size and hash."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Protocol

from cubeport.catalog.disk.durable import FOLDER_MODE, store_errors
from cubeport.catalog.disk.failpoints import passing
from cubeport.catalog.forms.canonical import in_utf8
from cubeport.catalog.models import TargetKind
from cubeport.errors import Conflict, InvalidRequest, NotFound, TooLarge

BLOCK = 1024 * 1024
MAX_UNZIP_BYTES = 50 * 1024**3
"""The largest size of an unzipped file."""
MAX_UNZIP_RATIO = 200
"""The largest ratio of unzipped to zipped size. Text and sparse grids seldom reach 50; a zip bomb has 1,000."""
SMALL_UNZIP_BYTES = 16 * 1024**2
"""Any zip file may unzip to this size, however small it is."""
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
"""The first bytes of archives and compressed files. A tar file has its signature at byte 257."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The size and hash of written bytes."""

    size_bytes: int
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PathSource:
    """A path, and how to read it: as ``file``, ``directory``, or ``zip_file`` with one member."""

    path: Path
    kind: Literal["file", "directory", "zip_file"] = "file"


def path_source(path: str | Path, kind: Literal["file", "directory", "zip_file"] | None = None) -> PathSource:
    """Return a writer's source for a path. Without *kind*, the type of the path decides."""
    path = Path(path).absolute()
    if kind is None:
        kind = "directory" if path.is_dir() else "file"
    if not path.exists():
        raise NotFound(f"There is no {kind.replace('_', ' ')} {path}.")
    if not (path.is_file() or path.is_dir()):
        # Checked before it is opened, because opening a pipe would block.
        raise InvalidRequest(f"{path} is not a regular file.")
    if (name := in_utf8(str(path))) != str(path):
        raise InvalidRequest(f"The name of {name} is not UTF-8, so no record can contain it.", next_step="rename it first")
    return PathSource(path, kind)


class ArtifactWriter(Protocol):
    """Writes *source* to *target*, an empty file or folder with a temporary name."""

    @property
    def target_kind(self) -> TargetKind:
        """Return whether the target is a file or a folder."""

    def write(self, target: Path, source: Any) -> WriteResult | None:
        """Write everything. If it returns ``None``, the caller measures the result."""


class CopyWriter:
    """Copies a file. Refuses a file that changes while it is read."""

    target_kind: ClassVar[TargetKind] = "file"

    def write(self, target: Path, source: PathSource) -> WriteResult:
        """Copy the file and compute its hash at the same time."""
        with store_errors("read the source"), source.path.open("rb") as reading:
            before = os.fstat(reading.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise InvalidRequest(f"{source.path.name} is not a regular file.")
            result = _pour(_blocks(reading), target, half_at=before.st_size // 2)
            after = os.fstat(reading.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or result.size_bytes != after.st_size:
            raise Conflict(f"{source.path.name} changed while it was read.")
        return result


class BytesWriter:
    """Writes bytes, or the rest of an open binary file."""

    target_kind: ClassVar[TargetKind] = "file"

    def write(self, target: Path, source: bytes | BinaryIO) -> WriteResult:
        """Write and hash in passing."""
        if isinstance(source, bytes):
            half = len(source) // 2
            return _pour(iter((source[:half], source[half:])), target, half_at=half)
        return _pour(_blocks(source), target, half_at=0)


class DirectoryWriter:
    """Copies a folder of regular files. Refuses links and anything else in it."""

    target_kind: ClassVar[TargetKind] = "directory"

    def write(self, target: Path, source: PathSource) -> WriteResult:
        """Copy all files and compute their hashes at the same time."""
        with store_errors("read the source"):
            files = sorted(_regular(source.path))
        lines, size = [], 0
        for n, each in enumerate(files):
            if n == len(files) // 2:
                passing("bytes:half")
            to = target / each.relative_to(source.path)
            to.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
            with store_errors("read the source"), each.open("rb") as reading:
                result = _pour(_blocks(reading), to)
            lines.append((result.hashes["sha256"], result.size_bytes, each.relative_to(source.path).as_posix()))
            size += result.size_bytes
        return WriteResult(size, {"sha256-tree": tree_hash(lines)})


@dataclass(frozen=True, slots=True)
class FunctionArtifactWriter:
    """Calls ``fn(target, source)``, which writes the target."""

    fn: Callable[[Path, Any], object]
    target_kind: TargetKind = "file"

    def write(self, target: Path, source: Any) -> None:
        """Call the function."""
        passing("bytes:half")
        self.fn(target, source)


@dataclass(frozen=True, slots=True)
class UnzipSingleFileArtifactWriter:
    """Writes the single regular member of a zip file. Its actual bytes are counted, whatever size the zip file declares.

    A member that is itself an archive is refused.
    """

    max_unzip_bytes: int = MAX_UNZIP_BYTES
    max_unzip_ratio: int = MAX_UNZIP_RATIO
    target_kind: ClassVar[TargetKind] = "file"

    def write(self, target: Path, source: PathSource) -> WriteResult:
        """Write and hash in passing."""
        try:
            with store_errors("read the source"), zipfile.ZipFile(source.path) as archive:
                member = self.member(archive)
                stored = source.path.stat().st_size
                limit, rule = self.max_unzip_bytes, "max_unzip_bytes"
                if (by_ratio := max(SMALL_UNZIP_BYTES, stored * self.max_unzip_ratio)) < limit:
                    limit, rule = by_ratio, "max_unzip_ratio"
                with archive.open(member) as reading:
                    return _pour(_at_most(_no_archive(_blocks(reading)), limit, rule), target, half_at=member.file_size // 2)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as exc:
            raise InvalidRequest(f"{source.path.name} is not a zip file that can be read: {exc}") from exc

    @staticmethod
    def member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        """Return the only member, which must be a regular file with a plain name. Raises InvalidRequest."""
        members = [each for each in archive.infolist() if not each.is_dir()]
        if len(members) != 1:
            raise InvalidRequest(f"The zip file has {len(members)} members; only a zip file with exactly one is accepted.")
        [member] = members
        name = member.filename
        if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
            raise InvalidRequest("The zip file's member has an absolute name or one with '..'.")
        if member.flag_bits & 0x1:
            raise InvalidRequest("The zip file's member is encrypted.")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise InvalidRequest("The zip file's member is not a regular file.")
        return member


@dataclass(frozen=True, slots=True)
class Writing:
    """A writer with its source."""

    writer: ArtifactWriter
    source: Any

    def write(self, target: Path, hash: str = "sha256") -> WriteResult:
        """Write to *target*, and measure what the writer did not return."""
        with store_errors("write the artifact"):
            result = self.writer.write(target, self.source)
            result = measure(target) if result is None else result
        return result if hash != "none" else WriteResult(result.size_bytes)


def writing(source: object, writer: ArtifactWriter | None = None) -> Writing:
    """Return the writer for *source*: bytes, an open file, a path, or a :class:`PathSource`."""
    if isinstance(source, Writing):
        return source
    if isinstance(source, (str, Path)):
        source = path_source(source)
    if writer is not None:
        return Writing(writer, source)
    if isinstance(source, PathSource):
        by_kind: dict[str, ArtifactWriter] = {
            "file": CopyWriter(),
            "directory": DirectoryWriter(),
            "zip_file": UnzipSingleFileArtifactWriter(),
        }
        return Writing(by_kind[source.kind], source)
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, io.TextIOBase):
        raise InvalidRequest("A file opened as text is not a source of bytes; open it in binary mode.")
    if isinstance(source, bytes) or hasattr(source, "read"):
        return Writing(BytesWriter(), source)
    raise InvalidRequest(f"A {type(source).__name__} is not a source of bytes; give bytes, a path or an open file.")


def measure(path: Path) -> WriteResult:
    """Return the size and hash of the file or folder at *path*, by reading it."""
    if not path.is_dir():
        size, digest = _read(path)
        return WriteResult(size, {"sha256": digest})
    lines = []
    for each in sorted(_regular(path)):
        size, digest = _read(each)
        lines.append((digest, size, each.relative_to(path).as_posix()))
    return WriteResult(sum(size for _, size, _ in lines), {"sha256-tree": tree_hash(lines)})


def tree_hash(lines: Iterable[tuple[str, int, str]]) -> str:
    """Return the ``sha256-tree`` of (sha256, size, relative path) of every file."""
    text = "".join(f"{digest}  {size}  {path}\n" for digest, size, path in sorted(lines, key=lambda line: line[2]))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(reading: BinaryIO) -> tuple[int, str]:
    """Return the number and the sha256 of the remaining bytes of *reading*."""
    size, digest = 0, hashlib.sha256()
    for block in _blocks(reading):
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


def _read(path: Path) -> tuple[int, str]:
    with path.open("rb") as reading:
        return sha256_of(reading)


def _blocks(reading: Any) -> Iterator[bytes]:
    while block := reading.read(BLOCK):
        yield block


def _at_most(blocks: Iterable[bytes], limit: int, rule: str) -> Iterator[bytes]:
    size = 0
    for block in blocks:
        size += len(block)
        if size > limit:
            raise TooLarge(
                f"The member expands to more than {limit} bytes.",
                limit=limit,
                rule=rule,
                next_step="unzip it first, then add the file",
            )
        yield block


def _no_archive(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield *blocks* unchanged. Raises InvalidRequest if they begin like an archive."""
    for number, block in enumerate(blocks):
        if number == 0 and (block.startswith(_ARCHIVES) or block[257:262] == b"ustar"):
            raise InvalidRequest(
                "The zip file's member is an archive or compressed itself.", next_step="unzip it first, then add its content"
            )
        yield block


def _pour(blocks: Iterator[bytes], target: Path, *, half_at: int | None = None) -> WriteResult:
    """Write *blocks* to *target*. The fail point ``bytes:half`` is passed once, after *half_at* bytes."""
    size, digest = 0, hashlib.sha256()
    with target.open("wb") as file:
        for block in blocks:
            file.write(block)
            digest.update(block)
            size += len(block)
            if half_at is not None and size >= half_at:
                file.flush()
                passing("bytes:half")
                half_at = None
    return WriteResult(size, {"sha256": digest.hexdigest()})


def _regular(top: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(top):
        for name in (*names, *files):
            each = Path(folder) / name
            mode = each.lstat().st_mode
            if stat.S_ISREG(mode):
                yield each
            elif not stat.S_ISDIR(mode):
                raise InvalidRequest(
                    f"{each.relative_to(top)} is not a regular file; a folder may contain only regular files, no links."
                )
