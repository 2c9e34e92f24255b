"""Objects of S3 stores that versions point into: each read names the ETag that was recorded, so other bytes are never taken.

A store compares the ETag before it answers (``If-Match``, RFC 9110, 13.1.1). The ETag of the answer and the sha256 of the part are
compared here as well, for a store that ignores the condition and for a byte that changed on the way.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cubeport.adapters.engines.manifest import changed
from cubeport.adapters.storage.s3 import S3Place
from cubeport.cubes.write_request import StoreObject
from cubeport.errors import ArtifactMissing, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import S3Store


class StoreObjects:
    """Reads parts of objects. Threads may share it.

    Parameters
    ----------
    places
        Returns the roots of the profiles with ``use: [source]``, by name. It is called again for a profile that is not known yet.
    """

    def __init__(self, places: Callable[[], Mapping[str, S3Place]]) -> None:
        self._places = places
        self._stores: dict[str, tuple[S3Place, S3Store]] = {}
        self._lock = threading.Lock()

    def read(self, source: StoreObject, offset: int, size: int, sha256: str) -> bytes:
        """Return *size* bytes from *offset* on.

        Raises
        ------
        SourceChanged
            If the object is missing or has another ETag, or its profile is no longer for sources.
        StoreUnavailable
            If the store cannot be read, or gives other bytes than its ETag stands for.
        """
        place, store = self._store(source)
        from obstore.exceptions import PreconditionError

        try:
            with place.errors(f"read {source.key}"):
                try:
                    answer = store.get(source.key, options={"range": (offset, offset + size), "if_match": source.etag})
                    body = bytes(answer.bytes())
                except PreconditionError as exc:
                    raise changed(source, "has changed since") from exc
        except ArtifactMissing as exc:
            raise changed(source, "does not exist any more", missing=True) from exc
        if answer.meta["e_tag"] != source.etag:
            raise changed(source, "has changed since")
        if len(body) != size or (sha256 and hashlib.sha256(body).hexdigest() != sha256):
            raise StoreUnavailable(
                f"The store returned other bytes of {source.key} than before.", next_step="try again, then cubeport fsck --data"
            )
        return body

    def check(self, source: StoreObject) -> None:
        """Compare an object with what was recorded, without reading it. Raises as :meth:`read`."""
        place, store = self._store(source)
        try:
            with place.errors(f"look at {source.key}"):
                found = store.head(source.key)
        except ArtifactMissing as exc:
            raise changed(source, "does not exist any more", missing=True) from exc
        if (found["e_tag"], found["size"]) != (source.etag, source.size):
            raise changed(source, "has changed since")

    def _store(self, source: StoreObject) -> tuple[S3Place, S3Store]:
        with self._lock:
            found = self._stores.get(source.profile)
            if found is None:
                place = self._places().get(source.profile)
                if place is None:
                    step = f"write `use: [source]` into the profile {source.profile} of config/profiles.yaml again"
                    words = f"is in the profile {source.profile}, from which this server may not read"
                    raise changed(source, words, step, missing=True)
                found = self._stores[source.profile] = place, place.connect()
            return found
