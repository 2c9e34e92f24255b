"""The opened versions of a process. All queries take them from here.

There are two bounded caches: opened versions with their decoded coordinates, and decoded chunks (10–60 times faster on repeated
reads, measured; zarr-python does not cache them). Their keys (dataset id, version id) are never reused and versions never change,
so nothing needs to be invalidated.

xarray and zarr are imported when the first version is opened: a program that only lists datasets does not wait for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from cubeport.cubes.bounded import Bounded

if TYPE_CHECKING:
    from cubeport.adapters.engines.opened import Chunks, OpenedVersion, ReadsVersions
    from cubeport.cubes.description import CubeDescription

MIB = 1 << 20


class OpenedVersions:
    """The opened versions of a process.

    Parameters
    ----------
    engine
        The engine that reads versions.
    handle_bytes
        The largest total size of opened versions with their coordinates. The least recently used version is closed first.
    chunk_bytes
        The largest total size of cached decoded chunks of all versions.
    """

    def __init__(self, engine: ReadsVersions, *, handle_bytes: int = 64 * MIB, chunk_bytes: int = 192 * MIB) -> None:
        self._engine = engine
        self._kept: Bounded[tuple[str, str, int, tuple[str, ...]], OpenedVersion] = Bounded(handle_bytes)
        self._chunks: Chunks = Bounded(chunk_bytes)
        self._opening = Lock()

    @property
    def caches(self) -> Mapping[str, Bounded[Any, Any]]:
        """The caches: decoded ``chunks`` and opened ``versions``. Their weights are bytes."""
        return {"chunks": self._chunks, "versions": self._kept}

    def open(self, dataset_id: str, version_id: str, description: CubeDescription) -> OpenedVersion:
        """Return the opened version. *description* was measured when the version was sealed."""
        # Each grid of a store has its own axes; its fields identify it.
        # A version can get overviews later.
        key = dataset_id, version_id, description.overview_levels, description.fields
        found = self._kept.get(key)
        if found is None:
            with self._opening:
                found = self._kept.get(key)
                if found is None:
                    from cubeport.adapters.engines.opened import HANDLE_BYTES, OpenedVersion

                    found = OpenedVersion(
                        self._engine,
                        dataset_id,
                        version_id,
                        description,
                        self._chunks,
                        lambda opened, size: self._kept.put(key, opened, HANDLE_BYTES + size),
                        waits=self._engine.waits(dataset_id, version_id),
                    )
                    self._kept.put(key, found, HANDLE_BYTES)
        return found
