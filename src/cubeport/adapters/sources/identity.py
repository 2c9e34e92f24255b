"""The identity of a source, without decoding it: its name, size, modification time, and the sha256 of its bytes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cubeport.errors import SourceRejected

_PIECE = 4 * 2**20


def identity(name: str, descriptor: int) -> dict[str, Any]:
    """Return ``name, size_bytes, sha256, modified_at`` of an open file or folder. The read position does not change.

    The digest of a folder covers the path of every regular file, a NUL and its bytes, in the order of the paths. Its modification
    time is that of its newest part, since a chunk that is written again does not change the folder's own. A link or a device in it
    is refused.
    """
    digest = hashlib.sha256()
    status = os.fstat(descriptor)
    newest = status.st_mtime
    if stat.S_ISDIR(status.st_mode):
        size = 0
        for path in sorted(_files(name, descriptor)):
            digest.update(path.encode() + b"\0")
            inner = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
            try:
                newest = max(newest, os.fstat(inner).st_mtime)
                size += _feed(digest, inner)
            finally:
                os.close(inner)
    else:
        size = _feed(digest, descriptor)
    return {"name": name, "size_bytes": size, "sha256": digest.hexdigest(), "modified_at": modified_at(newest)}


def stamps(paths: Sequence[Path]) -> tuple[tuple[str, int, str], ...]:
    """Return the name, size and modification time of each file or folder as in :func:`identity`, without opening it."""
    found = []
    for path in paths:
        status = path.lstat()
        size, newest = status.st_size, status.st_mtime
        if stat.S_ISDIR(status.st_mode):
            parts = [(Path(folder) / name).lstat() for folder, _, names in os.walk(path) for name in names]
            size = sum(each.st_size for each in parts)
            newest = max((newest, *(each.st_mtime for each in parts)))
        found.append((path.name, size, modified_at(newest)))
    return tuple(found)


def modified_at(seconds: float) -> str:
    """Return a time of change as an identity tells it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _files(name: str, descriptor: int) -> list[str]:
    found = []
    for folder, _, files, inner in os.fwalk(".", dir_fd=descriptor, follow_symlinks=False):
        for file in files:
            if not stat.S_ISREG(os.stat(file, dir_fd=inner, follow_symlinks=False).st_mode):
                raise SourceRejected(f"{name} contains something that is not a regular file", reason="unsafe", source=name)
            found.append(os.path.normpath(f"{folder}/{file}"))
    return found


def _feed(digest: Any, descriptor: int) -> int:
    at = 0
    while piece := os.pread(descriptor, _PIECE, at):
        digest.update(piece)
        at += len(piece)
    return at
