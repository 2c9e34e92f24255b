"""One resource into one file: resumed where the origin lets it, whole or not at all.

The bytes come into ``NAME.part``, with what the origin said of them in ``NAME.part.json``. A kill leaves both, and the
next attempt asks for the rest only if the resource still has the same strong ETag (RFC 9110, 13.1.5).
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cubeport.adapters.storage.fetching import Answer, OriginFetcher, Resource
from cubeport.catalog.disk.durable import replace_file
from cubeport.errors import Cancelled, SourceFailed, SourceRejected, SourceTimeout

_PIECE = 1 << 20
AGAIN_AFTER_S = (0.5, 2.0, 8.0)
"""How long a transfer that broke off waits before it goes on. What fails oftener than that fails."""

_NAME = re.compile(r"[^A-Za-z0-9._+-]+")


def name_of(target: str) -> str:
    """Return a file name for the last part of a path, without whatever a shell, a library or a person could stumble over."""
    last = unquote(target.partition("?")[0].rstrip("/").rpartition("/")[2], errors="replace")
    return _NAME.sub("-", last).strip("-.")[-120:] or "data"


def download(fetcher: OriginFetcher, uri: str, path: Path, *, stopping: threading.Event) -> Resource | None:
    """Bring a resource to *path*; return what the origin said of it, ``None`` when it says that there is none.

    Raises
    ------
    SourceRejected, SourceFailed, SourceTimeout
        What reading it raises. The part that came is kept for the next attempt.
    Cancelled
        When *stopping* was set.
    """
    return patiently(lambda: _once(fetcher, uri, path, stopping), stopping)


def patiently[T](act: Callable[[], T], stopping: threading.Event) -> T:
    """Return what *act* does; what may pass by itself is tried again, a few times."""
    for pause in AGAIN_AFTER_S:
        try:
            return act()
        except (SourceFailed, SourceTimeout):
            if stopping.wait(pause):
                raise
    return act()


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
    """Return what the origin said of the part that is there; a note that cannot be read is of no use."""
    try:
        said: dict[str, Any] = json.loads(note.read_bytes())
        return Resource(**said)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def small(fetcher: OriginFetcher, uri: str, *, most: int) -> bytes | None:
    """Return a small resource whole, ``None`` when the origin says that there is none.

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
