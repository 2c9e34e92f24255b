"""Uploads that every machine of a catalog has: each is in the bucket of the versions too.

One machine receives a file, another may run its ingestion. That one fetches the file when it is first asked for it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubeport.adapters.fetching.uploads import KEPT_H, SAID, UploadFolder
from cubeport.adapters.storage.s3 import S3Place, time_of
from cubeport.catalog.disk.durable import FREE_BYTES, demand_space, make_folders, store_errors
from cubeport.catalog.forms.canonical import new_id
from cubeport.errors import ArtifactMissing, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

_AT_ONCE = 8 << 20
"""Bytes of one request. The client gives each request 30 s, however large it is."""


class SharedUploads(UploadFolder):
    """The uploads of all machines. Files that this one received or fetched are in its own folder as well.

    Parameters
    ----------
    place
        Returns where the uploads are in the object store. It is called for the first upload.
    """

    def __init__(self, root: Path, place: Callable[[], S3Place], *, max_bytes: int) -> None:
        super().__init__(root, max_bytes=max_bytes)
        self._find = place

    @cached_property
    def _place(self) -> S3Place:
        return self._find()

    @cached_property
    def _store(self) -> S3Store:
        return self._place.connect()

    def file(self, upload_id: str, *, owner: str | None) -> Path:
        """Return the file of an upload of *owner*, fetched if another machine received it.

        Raises
        ------
        NotFound
            For any other caller.
        StoreUnavailable
            If the object store cannot be read, or gives other bytes than were sent.
        """
        path = super().file(upload_id, owner=owner)
        if not path.exists():
            self._fetch(upload_id)
        return path

    def share(self, upload_id: str) -> None:
        """Put an upload that has come into the object store: the file first, since its document says that it is there."""
        said = self._said(upload_id)
        assert said is not None, "it has just come"
        with self._place.errors("keep the upload"):
            for name in (str(said["filename"]), SAID):
                self._store.put(f"{upload_id}/{name}", self.folder(upload_id) / name)

    def prune(self) -> None:
        """Remove uploads that are older than a day, from the object store too."""
        super().prune()
        with self._place.errors("remove old uploads"):
            before = time_of(self._store) - timedelta(hours=KEPT_H)
            old = [each["path"] for page in self._store.list() for each in page if each["last_modified"] < before]
            if old:
                self._store.delete(old)

    def _document(self, upload_id: str) -> bytes | None:
        """Return the document of an upload from this machine or from the object store."""
        own = super()._document(upload_id)
        if own is not None:
            return own
        try:
            with self._place.errors("look for the upload"):
                return bytes(self._store.get(f"{upload_id}/{SAID}").bytes())
        except ArtifactMissing:
            return None

    def _fetch(self, upload_id: str) -> None:
        """Fetch an upload into the folder of this machine, whole or not at all."""
        document = self._document(upload_id)
        assert document is not None, "it was found just now"
        said: Mapping[str, Any] = json.loads(document)
        beside = self.folder(new_id())  # of the form of an upload, so that it is pruned if this process is killed
        size, digest = int(said["size_bytes"]), hashlib.sha256()
        try:
            with store_errors("fetch the upload"):
                make_folders(beside)
                demand_space(beside, free_bytes=FREE_BYTES + size)
                with (beside / str(said["filename"])).open("wb") as file:
                    for start in range(0, size, _AT_ONCE):
                        part = self._part(f"{upload_id}/{said['filename']}", start, min(start + _AT_ONCE, size))
                        digest.update(part)
                        file.write(part)
                if digest.hexdigest() != said["sha256"]:
                    raise StoreUnavailable("The object store returned other bytes than were sent.", next_step="send the file again")
                (beside / SAID).write_bytes(document)
                try:
                    beside.rename(self.folder(upload_id))
                except OSError:
                    if not self.folder(upload_id).exists():  # otherwise another thread or process was faster
                        raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _part(self, key: str, start: int, end: int) -> bytes:
        with self._place.errors("fetch the upload"):
            return bytes(self._store.get_range(key, start=start, end=end))
