"""The objects of a cube that a child makes: files in a folder, or bytes that a kept child hands over."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from cubeport.catalog.disk.durable import write_all
from cubeport.cubes import keys
from cubeport.cubes.write_request import StoredObject
from cubeport.errors import SourceRejected

_HEAD = struct.Struct("!IQ")
"""The lengths of a name and of its bytes."""


class Objects(Protocol):
    """What a child has made of a cube, by key."""

    def put(self, key: str, data: bytes) -> None:
        """Make a new object. Threads can call it concurrently."""

    def sizes(self) -> dict[str, int]:
        """Return the size of every object. Refuses anything that is not an object of a cube."""

    def read(self, key: str) -> bytes | None:
        """Return the bytes of an object, or ``None`` if there is none."""

    def open(self, key: str) -> StoredObject | None:
        """Return an object for reading, or ``None`` if there is none."""

    def digest(self, key: str) -> str:
        """Return the sha256 of an object."""

    def replace(self, key: str, data: bytes) -> None:
        """Put an object in place of one that is there."""


class InFolder:
    """Objects that are files below *root*, which :meth:`put` makes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: set[Path] = set()

    def put(self, key: str, data: bytes) -> None:
        path = self._root / key
        if path.parent not in self._made:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(path.parent)
        put(path, data)

    def sizes(self) -> dict[str, int]:
        """Return the size of every object. Refuses what is not a regular file with a valid key and exactly one name."""
        if self._root.is_symlink():  # a walk would follow it
            raise _unsafe(self._root.name)
        sizes = {}
        for folder, folders, files, descriptor in os.fwalk(self._root, follow_symlinks=False):
            for name in (*folders, *files):
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                key = str((Path(folder) / name).relative_to(self._root))
                if stat.S_ISDIR(status.st_mode):
                    continue
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or keys.parse(key) is None:
                    raise _unsafe(key)
                sizes[key] = status.st_size
        return sizes

    def read(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def open(self, key: str) -> StoredObject | None:
        path = self._root / key
        if keys.parse(key) is None or not path.is_file():
            return None
        return StoredObject(file=path.open("rb", buffering=0), size=path.stat().st_size, digest="")

    def digest(self, key: str) -> str:
        with (self._root / key).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def replace(self, key: str, data: bytes) -> None:
        (self._root / key).unlink()
        put(self._root / key, data)


class InMemory:
    """Objects that are bytes."""

    def __init__(self, held: Mapping[str, bytes] | None = None) -> None:
        self._held = dict(held or {})

    def put(self, key: str, data: bytes) -> None:
        self._held[key] = data

    def sizes(self) -> dict[str, int]:
        """Return the size of every object. Refuses one without a valid key."""
        for key in self._held:
            if keys.parse(key) is None:
                raise _unsafe(key)
        return {key: len(data) for key, data in self._held.items()}

    def read(self, key: str) -> bytes | None:
        return self._held.get(key)

    def open(self, key: str) -> StoredObject | None:
        data = self._held.get(key)
        return None if data is None else StoredObject(file=io.BytesIO(data), size=len(data), digest="")

    def digest(self, key: str) -> str:
        return hashlib.sha256(self._held[key]).hexdigest()

    def replace(self, key: str, data: bytes) -> None:
        self._held[key] = data

    def to_bytes(self) -> bytes:
        """Return all objects as one text of bytes, for :func:`from_bytes`."""
        return b"".join(part for key, data in self._held.items() for part in (_HEAD.pack(len(key), len(data)), key.encode(), data))


def from_bytes(data: bytes) -> dict[str, bytes]:
    """Return the objects of :meth:`InMemory.to_bytes`, from a process that is not trusted. Raises SourceRejected."""
    try:
        found = list(_parts(memoryview(data)))
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise SourceRejected("the process that read it handed over no objects", reason="crashed") from error
    return dict(found)


def _parts(data: memoryview) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(data):
        name, size = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size + name
        at = start + size
        if at > len(data):
            raise ValueError("cut")
        yield str(data[start - name : start], "ascii"), bytes(data[start:at])


def unpack(objects: Mapping[str, bytes], root: Path) -> None:
    """Write the objects as files below *root*, which is made. Raises SourceRejected for a name that is no key."""
    InMemory(objects).sizes()
    made = InFolder(root)
    root.mkdir()
    for key, data in objects.items():
        made.put(key, data)


def put(path: Path, data: bytes) -> None:
    """Write a new file. It must not exist."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _unsafe(key: str) -> SourceRejected:
    return SourceRejected(f"{key[:200]!r} was written, but is not an object of a cube", reason="unsafe")
