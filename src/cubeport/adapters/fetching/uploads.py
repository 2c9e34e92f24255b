"""Files that a client sent. They are kept in ``data_dir/uploads`` for a day, and only the API key that sent them can use them.

:mod:`.shared_uploads` has those of several machines.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Self

from cubeport.catalog.disk.durable import FREE_BYTES, demand_space, make_folders, replace_file, store_errors
from cubeport.catalog.forms.canonical import new_id, now
from cubeport.cubes.write_request import Upload
from cubeport.errors import NotFound, SourceRejected, TooLarge

KEPT_H = 24
SAID = "upload.json"
"""The document of an upload, next to its file. It is written last."""

_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[^A-Za-z0-9._+-]+")


class UploadFolder:
    """The uploads of an instance.

    Parameters
    ----------
    max_bytes
        ``limits.upload_bytes``.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root = root
        self.max_bytes = max_bytes

    def begin(self, *, filename: str, owner: str | None, declared: int | None) -> Receiving:
        """Return the object that receives the bytes.

        Raises
        ------
        TooLarge
            If the declared size is above the limit.
        NoSpace
            If the disk does not have enough space.
        """
        if declared is not None:
            self.hold(declared)
        with store_errors("take the upload"):
            make_folders(self._root)
            demand_space(self._root, free_bytes=FREE_BYTES + (declared or 0))
        self._remove_old()
        return Receiving(self, new_id(), _NAME.sub("-", filename).strip("-.")[-120:] or "upload", owner)

    def hold(self, size: int) -> None:
        """Raise TooLarge if *size* is above ``limits.upload_bytes``."""
        if size > self.max_bytes:
            raise TooLarge(
                f"An upload may have {self.max_bytes} bytes.",
                limit=self.max_bytes,
                value=size,
                unit="bytes",
                setting="limits.upload_bytes",
                next_step="raise limits.upload_bytes, or put the file below a folder of sources.roots and name its path",
            )

    def folder(self, upload_id: str) -> Path:
        """Return the folder of an upload."""
        return self._root / upload_id

    def file(self, upload_id: str, *, owner: str | None) -> Path:
        """Return the file of an upload of *owner*. Raises NotFound for any other caller."""
        said = self._said(upload_id) if _ID.fullmatch(upload_id) else None
        if said is None or said["owner"] != owner:
            raise NotFound(f"There is no upload {upload_id[:40]}.", what="upload", next_step="send the file to POST /uploads")
        return self.folder(upload_id) / str(said["filename"])

    def share(self, upload_id: str) -> None:
        """Make an upload that has come known to other machines: there are none."""

    def prune(self) -> None:
        """Remove uploads that are older than a day or were never finished."""
        self._remove_old()

    def _remove_old(self) -> None:
        before = time.time() - KEPT_H * 3600
        for each in self._root.glob("*"):
            if _ID.fullmatch(each.name) and each.stat().st_mtime < before:
                shutil.rmtree(each, ignore_errors=True)

    def _said(self, upload_id: str) -> Mapping[str, Any] | None:
        document = self._document(upload_id)
        try:
            said: Mapping[str, Any] = json.loads(document or b"")
        except ValueError:
            return None
        return said if said["expires_at"] > now().isoformat() else None

    def _document(self, upload_id: str) -> bytes | None:
        try:
            return (self.folder(upload_id) / SAID).read_bytes()
        except FileNotFoundError:
            return None


class Receiving:
    """An upload in progress. If the block ends without :meth:`finish`, nothing is kept."""

    def __init__(self, uploads: UploadFolder, upload_id: str, filename: str, owner: str | None) -> None:
        self._uploads, self._id, self._owner = uploads, upload_id, owner
        # Stored under a name of our own, so that a file called upload.json is like any other file.
        self._filename = filename if filename != SAID else "upload-.json"
        self._folder = uploads.folder(upload_id)
        self._digest = hashlib.sha256()
        self._size = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        with store_errors("take the upload"):
            make_folders(self._folder)
            self._file = (self._folder / self._filename).open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:  # it was not finished
            self._file.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, piece: bytes) -> None:
        """Write the next bytes. Raises TooLarge, NoSpace."""
        assert self._file is not None
        self._size += len(piece)
        self._uploads.hold(self._size)
        with store_errors("take the upload"):
            self._file.write(piece)
        self._digest.update(piece)

    def finish(self, *, sha256: str | None) -> Upload:
        """Complete the upload and return it.

        Raises
        ------
        SourceRejected
            ``empty``; ``digest-mismatch``, if its sha256 is not the one that the sender gave.
        StoreUnavailable
            If it cannot be shared with the other machines. It is then not kept.
        """
        assert self._file is not None
        if self._size == 0:
            raise SourceRejected("The body is empty.", reason="empty", next_step="send the bytes of the file as the body")
        digest = self._digest.hexdigest()
        if sha256 is not None and sha256.lower() != digest:
            raise SourceRejected(
                f"The sha256 of the {self._size} bytes that arrived is not the one that was given.",
                reason="digest-mismatch",
                next_step="send it again",
            )
        expires = now() + timedelta(hours=KEPT_H)
        upload = Upload(self._id, self._filename, self._size, digest, expires)
        with store_errors("take the upload"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            said = {**asdict(upload), "expires_at": expires.isoformat(), "owner": self._owner}
            replace_file(self._folder / SAID, json.dumps(said).encode())
        self._uploads.share(self._id)
        self._file = None
        return upload
