"""``kind: store``: files below a storage profile, for example in an S3-compatible store, with dates in their keys."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from cubeport.adapters.fetching.downloads import name_of, validator
from cubeport.adapters.fetching.patience import patiently
from cubeport.adapters.fetching.zarrs import PerhapsZarr, ZarrSource
from cubeport.adapters.storage.fetching import hold_time
from cubeport.catalog.artifacts.storage import Profile, Stored
from cubeport.catalog.disk.durable import replace_file
from cubeport.cubes.placeholders import DATES, Pattern
from cubeport.cubes.sources import Area, Fetched, Period
from cubeport.errors import ArtifactMissing, Cancelled, NoData, SourceRejected, StoreUnavailable

_PIECE = 1 << 20


def check_key(key: str) -> str:
    """Return *key* if it stays below the root of its profile. Raises SourceRejected."""
    parts = key.split("/")
    if not key or key.startswith("/") or "\\" in key or "\0" in key or any(part in ("", ".", "..") for part in parts):
        raise SourceRejected(
            f"{key[:200]!r} is not a key: parts joined by /, none of them empty or dots.",
            reason="not-allowed",
            next_step="name the key from the root of the profile on, without a slash before it",
        )
    return key


def take(profile: Profile, key: str, path: Path, *, most: int, stopping: threading.Event) -> str | None:
    """Download an object to *path*. Return its validator, or ``None`` if the store says that it does not exist.

    A download that was killed is resumed if the object is still the same.

    Raises
    ------
    SourceRejected
        ``too-big`` over *most* bytes.
    StoreUnavailable
        If the store cannot be read, or the object changed during the download.
    Cancelled
        If *stopping* was set.
    """
    stored = profile.stat(key)
    if stored is None or stored.kind != "file":
        return None
    _hold(key, stored.size_bytes, most)
    part, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    said = validator(stored)
    try:
        have = part.stat().st_size if json.loads(note.read_bytes()) == said else 0
    except (FileNotFoundError, ValueError):
        have = 0
    replace_file(note, json.dumps(said).encode())
    try:
        with profile.open(key) as source, part.open("ab" if have else "wb") as file:
            source.seek(have)
            while piece := source.read(_PIECE):
                file.write(piece)
                if stopping.is_set():
                    raise Cancelled("The fetch was stopped.")
                hold_time(key)
            file.flush()
            os.fsync(file.fileno())
    except ArtifactMissing:
        return None
    now = profile.stat(key)
    if now is None or validator(now) != said or part.stat().st_size != stored.size_bytes:
        note.unlink()
        raise StoreUnavailable(f"{key[:200]} changed while it was fetched.", next_step="try again")
    part.replace(path)
    note.unlink()
    return said


def _hold(key: str, size: int, most: int) -> None:
    if size > most:
        raise SourceRejected(
            f"{key[:200]} has {size} bytes, more than {most}.",
            reason="too-big",
            setting="limits.source_bytes",
            limit=most,
            value=size,
            next_step="raise limits.source_bytes, or take a smaller part",
        )


class StoreSource(PerhapsZarr):
    """One object for each period's key, or a single object or Zarr store."""

    max_concurrency = 8
    resumes = True
    is_patient = True

    def __init__(self, profile: Profile, pattern: Pattern, *, most: int, store: ZarrSource | None = None) -> None:
        super().__init__(store)
        self._profile = profile
        self._is_s3 = getattr(profile, "protocol", None) == "s3"
        self._pattern = pattern
        self._most = most
        self._stopping = threading.Event()
        self.is_periodic = pattern.has_dates

    def stop(self) -> None:
        """Stop running fetches."""
        self._stopping.set()

    def location(self, period: Period | None) -> tuple[str, str] | None:
        """Return the profile and the key of an object of an S3 store, into which a version may point; ``None`` for other stores."""
        return (self._profile.name, self._pattern.at(period)) if self._is_s3 and self._store is None else None

    def unit(self, period: Period) -> str:
        """Return the key of a period. Periods of the same object share it."""
        return self._pattern.at(period)

    def periods(self, start: Period, end: Period) -> Sequence[Period]:
        """Return the periods whose object the store lists."""
        there = self._listed()
        asked = (start.moved(n) for n in range(end.number - start.number + 1))
        return [each for each in asked if self._pattern.at(each) in there]

    def validator(self, period: Period | None) -> str | None:
        """Return the current validator of the object; ``None`` for a Zarr store, which checks each key itself."""
        if self._store is not None:
            return None
        stored = self._profile.stat(self._pattern.at(period))
        return validator(stored) if stored is not None else None

    def fetch_period(self, period: Period | None, area: Area | None, into: Path) -> Fetched:
        """Fetch the whole object. Raises NoData if the store says that it does not exist."""
        if self._store is not None:
            return self._store.fetch_period(period, area, into)
        key = self._pattern.at(period)
        path = into / name_of(key)
        said = patiently(lambda: take(self._profile, key, path, most=self._most, stopping=self._stopping), self._stopping)
        if said is None:
            step = "check the key and the period"
            if period is None:
                step = "check the key; that of a Zarr store ends in .zarr or in /"
            raise NoData(f"There is no object {self._profile.name}/{key[:300]}.", next_step=step)
        return Fetched((path,), said)

    def _listed(self) -> Mapping[str, Stored]:
        """Return the objects that match the pattern, by key. Only folders without placeholders are listed."""
        folder = self._pattern.before.rpartition("/")[0]
        pieces = re.split(r"(\{[A-Z]+\})", self._pattern.text)
        fits = re.compile("".join(DATES[p[1:-1]] if p.startswith("{") else re.escape(p) for p in pieces)).fullmatch
        found = {}
        for stored in self._profile.files(folder) if folder else self._profile.walk():
            key = f"{folder}/{stored.path}" if folder else stored.path
            if stored.kind == "file" and fits(key):
                found[key] = stored
        return found
