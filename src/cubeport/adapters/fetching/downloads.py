"""Download one resource to one file, completely or not at all, and resume if the origin supports it.

The bytes are written to ``NAME.part``, and the origin's headers to ``NAME.part.json``. If the process is killed, both stay, and the
next attempt requests the rest if the resource still has the same strong ETag (RFC 9110, 13.1.5).
"""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cubeport.adapters.fetching.patience import patiently
from cubeport.adapters.storage.fetching import Answer, OriginFetcher, Resource
from cubeport.catalog.artifacts.storage import Stored
from cubeport.catalog.disk.durable import replace_file
from cubeport.errors import Cancelled, SourceRejected

_PIECE = 1 << 20
_NAME = re.compile(r"[^A-Za-z0-9._+-]+")


def name_of(target: str) -> str:
    """Return a file name for the last part of a path, without characters that could cause problems in a shell or a library."""
    last = unquote(target.partition("?")[0].rstrip("/").rpartition("/")[2], errors="replace")
    return _NAME.sub("-", last).strip("-.")[-120:] or "data"


def validator(stored: Stored) -> str:
    """Return the validator of an object, which stays the same while the object does: its ETag, otherwise size and time."""
    return stored.etag or f"{stored.modified_s} {stored.size_bytes}"


def download(fetcher: OriginFetcher, uri: str, path: Path, *, stopping: threading.Event) -> Resource | None:
    """Download a resource to *path*. Return the origin's description of it, or ``None`` if the origin says that it does not exist.

    Raises
    ------
    SourceRejected, SourceFailed, SourceTimeout
        What reading raises. The received part is kept for the next attempt.
    Cancelled
        If *stopping* was set.
    """
    return patiently(lambda: _once(fetcher, uri, path, stopping), stopping)


def _once(fetcher: OriginFetcher, uri: str, path: Path, stopping: threading.Event) -> Resource | None:
    part, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    held = _noted(note)
    have = part.stat().st_size if held is not None and part.is_file() else 0
    with fetcher.get(uri, start=have, etag=held.strong if held else None) as answer:
        if answer is None:
            return None
        _take(answer, part, note, stopping)
    part.replace(path)
    note.unlink(missing_ok=True)
    return answer.resource


def _take(answer: Answer, part: Path, note: Path, stopping: threading.Event) -> None:
    with part.open("ab" if answer.start else "wb") as file:
        if answer.start == 0:
            replace_file(note, json.dumps(asdict(answer.resource)).encode())
        while piece := answer.body.read(_PIECE):
            file.write(piece)
            if stopping.is_set():
                raise Cancelled("The fetch was stopped.")
        file.flush()
        os.fsync(file.fileno())


def _noted(note: Path) -> Resource | None:
    """Return the origin's description of the received part, or ``None`` if the note is missing or unreadable."""
    try:
        said: dict[str, Any] = json.loads(note.read_bytes())
        return Resource(**said)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def small(fetcher: OriginFetcher, uri: str, *, most: int) -> bytes | None:
    """Return a small resource, or ``None`` if the origin says that it does not exist.

    Raises
    ------
    SourceRejected
        ``too-big`` over *most* bytes.
    """
    with fetcher.get(uri) as answer:
        if answer is None:
            return None
        found = bytearray()
        while piece := answer.body.read(_PIECE):
            found += piece
            if len(found) > most:
                raise SourceRejected(f"{uri.partition('?')[0][:200]} is longer than {most} bytes.", reason="too-big")
        return bytes(found)
