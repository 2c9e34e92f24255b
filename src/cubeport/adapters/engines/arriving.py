"""Versions that are being received from another instance.

Objects are kept by their sha256 until the version is complete, so that an interrupted transfer continues where it stopped.

::

    <data>/arriving/<digest of the version>/manifest.json
    <data>/arriving/<digest of the version>/<sha256 of an object>
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cubeport.adapters.engines.disk import FOLDER, Disk, descriptor, read, remove
from cubeport.adapters.engines.manifest import CUBE, MANIFEST, Entries, parse
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.forms.canonical import new_id
from cubeport.cubes.write_request import Staging, StoredObject
from cubeport.errors import NotFound, SourceRejected, TooLarge

_SHA256 = re.compile(r"[0-9a-f]{64}")
MOST_MANIFEST = 128 << 20
MOST_OBJECT = 256 << 20
"""The largest size of one object in bytes, which is also the largest size of a decoded chunk."""
KEPT_S = 24 * 3600.0
"""How long an incomplete version is kept after its last object, in seconds."""


class Stored(Protocol):
    """The versions of this instance."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None: ...

    def manifest(self, dataset_id: str, version_id: str) -> bytes: ...


@dataclass
class Arrivals:
    """The versions that are being received below *data*."""

    data: Path
    limit: int = 50 * 2**30
    """The largest size of one version in bytes: ``limits.source_bytes``."""
    disk: Disk = field(default_factory=Disk)

    def begin(self, digest: str, manifest: bytes) -> dict[str, int]:
        """Accept the manifest of a version, and return the sizes of the missing objects by sha256.

        Raises
        ------
        SourceRejected
            ``digest-mismatch`` or ``unreadable``, if the manifest does not have *digest* or is not valid.
            TooLarge
                If the version is larger than :attr:`limit`, or one of its objects is too large.
        """
        folder = self._folder(digest)
        if len(manifest) > MOST_MANIFEST:
            raise TooLarge("The manifest is too long.", limit=MOST_MANIFEST, value=len(manifest), unit="bytes")
        if hashlib.sha256(manifest).hexdigest() != digest:
            raise SourceRejected("The manifest has other bytes than its digest says.", reason="digest-mismatch")
        entries = _entries(manifest)
        if (total := sum(entry.size for entry in entries.values())) > self.limit:
            raise TooLarge("The version is too large.", limit=self.limit, value=total, unit="bytes", setting="limits.source_bytes")
        with store_errors("take in a version"):
            make_folders(folder)
            path = folder / MANIFEST
            if not path.exists():
                self._write(path, [manifest])
        return self._missing(digest, entries)

    def missing(self, digest: str) -> dict[str, int]:
        """Return the sizes of the missing objects of a version by sha256. Raises NotFound before :meth:`begin`."""
        return self._missing(digest, self._begun(digest))

    def put(self, digest: str, sha256: str, pieces: Iterable[bytes]) -> None:
        """Receive one object. It is kept only if it is complete and its bytes match *sha256*.

        Raises
        ------
        NotFound
            If the manifest of the version does not list the object.
        SourceRejected
            ``digest-mismatch``, if the bytes differ.
        """
        sizes = {each.sha256: each.size for each in self._begun(digest).values()}
        if sha256 not in sizes:
            raise NotFound("The version has no such object.", what="data")
        if sizes[sha256] > MOST_OBJECT:
            raise TooLarge("An object is too long.", limit=MOST_OBJECT, value=sizes[sha256], unit="bytes")
        with store_errors("take in an object"):
            self._write(self._folder(digest) / sha256, _checked(pieces, sha256, sizes[sha256]))

    def seed(self, digest: str, stored: Stored, dataset_id: str, version_id: str) -> int:
        """Copy objects that a version of this instance already has; return how many."""
        missing, taken = self.missing(digest), 0
        with store_errors("take objects of a version"):
            for key, entry in _entries(stored.manifest(dataset_id, version_id)).items():
                if entry.sha256 in missing and entry.source is None:
                    found = stored.read(dataset_id, version_id, key)
                    assert found is not None, "its manifest lists the key"
                    with found.file as file:
                        self._write(self._folder(digest) / entry.sha256, _checked([file.read()], entry.sha256, entry.size))
                    del missing[entry.sha256]
                    taken += 1
        return taken

    def place(self, digest: str, staging: Staging) -> None:
        """Move every object under its key into ``new`` of *staging*. Raises SourceRejected (``truncated``) if any is missing."""
        entries = self._begun(digest)
        if missing := self._missing(digest, entries):
            raise SourceRejected(f"{len(missing)} objects have not arrived.", reason="truncated", next_step="send them, then this")
        last = {entry.sha256: key for key, entry in entries.items()}
        with store_errors("place the objects"):
            self.disk.make_folder(staging.new / CUBE)
            made = {staging.new / CUBE}
            for key, entry in entries.items():
                target = staging.new / CUBE / key
                for each in reversed([each for each in target.parents if each.is_relative_to(staging.new / CUBE)]):
                    if each not in made:
                        self.disk.make_folder(each)
                        made.add(each)
                source = self._folder(digest) / entry.sha256
                if last[entry.sha256] == key:
                    self.disk.rename(source, target)
                else:  # several keys have these bytes, and the gate refuses a file with two names
                    self.disk.write(target, read(source))

    def thin(self, staging: Staging) -> None:
        """Remove objects from ``new`` that equal the parent's. They are shared with the parent when the version is assembled."""
        if staging.base is None:
            return
        with store_errors("share objects with the version before"):
            held, coming = _entries(read(staging.base / MANIFEST)), _entries(read(staging.new / MANIFEST))
            for key, entry in coming.items():
                if held.get(key) == entry:
                    (staging.new / CUBE / key).unlink()

    def drop(self, digest: str) -> None:
        """Remove the objects of a received version. Idempotent."""
        with store_errors("remove what arrived"):
            remove(self._folder(digest))

    def prune(self) -> None:
        """Remove versions that have been incomplete for too long."""
        top = self.data / "arriving"
        with store_errors("remove what arrived in part"):
            for each in top.iterdir() if top.is_dir() else ():
                if each.is_dir() and time.time() - each.stat().st_mtime > KEPT_S:
                    shutil.rmtree(each, ignore_errors=True)

    def _missing(self, digest: str, entries: Entries) -> dict[str, int]:
        here = {each.name for each in self._folder(digest).iterdir()}
        return {entry.sha256: entry.size for entry in entries.values() if entry.sha256 not in here}

    def _begun(self, digest: str) -> Entries:
        path = self._folder(digest) / MANIFEST
        with store_errors("look at what arrived"):
            if not path.exists():
                raise NotFound("No such version is on its way.", what="version", next_step="send its manifest first")
            return _entries(read(path))

    def _write(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Write a complete file or none, even if another process writes it at the same time."""
        beside = path.with_name(f"{path.name}.{new_id()[:8]}")
        try:
            with beside.open("xb") as file:
                for each in pieces:
                    file.write(each)
            self.disk.rename(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        with descriptor(path.parent, FOLDER) as opened:
            os.utime(opened)

    def _folder(self, digest: str) -> Path:
        if not _SHA256.fullmatch(digest):
            raise NotFound("That is not the digest of a version.", what="version")
        return self.data / "arriving" / digest


def _entries(manifest: bytes) -> Entries:
    try:
        return parse(manifest)
    except ValueError:
        raise SourceRejected("The manifest is not one of a version.", reason="unreadable") from None


def _checked(pieces: Iterable[bytes], sha256: str, size: int) -> Iterable[bytes]:
    found, taken = hashlib.sha256(), 0
    for each in pieces:
        taken += len(each)
        if taken > size:
            break
        found.update(each)
        yield each
    if taken != size or found.hexdigest() != sha256:
        raise SourceRejected("An object has other bytes than its digest says.", reason="digest-mismatch")
