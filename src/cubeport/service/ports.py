"""What the service needs from outside. ``adapters`` implement these; ``main`` brings the two together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.forms import Answer, Encoder, Form, Room
from cubeport.cubes.orders import Measured, Progress, Staging, StoredObject, Window, WriteOrder, Written
from cubeport.cubes.part import Opened
from cubeport.service.templates import SourceBlock

__all__ = [
    "Encoders",
    "Engine",
    "Gate",
    "Measured",
    "Opened",
    "Progress",
    "Room",
    "Sources",
    "Staging",
    "StoredObject",
    "Versions",
    "Way",
    "Window",
    "WriteOrder",
    "Written",
]


class Gate(Protocol):
    """The only way in: confined children that read what came from outside (safety.md 2)."""

    def identify(self, sources: Sequence[Path]) -> tuple[Mapping[str, Any], ...]:
        """Return the identity of each source without decoding it: ``name``, ``size_bytes``, ``sha256``. Raises SourceRejected."""

    def write(self, order: WriteOrder, *, progress: Progress | None = None) -> Written:
        """Run the first child; ``target`` stays its owner's. Raises SourceRejected, AreaOutsideSource and data conflicts."""

    def measure(
        self, written: Path, expected: Written, *, fields: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Measured:
        """Run the second child: decode all of ``staging/<op>/new``, compare digests, describe, write ``manifest.json`` beside."""

    def close(self) -> None: ...


class Engine(Protocol):
    """How versions lie on disk (safety.md 7). Named steps are those of safety.md 6."""

    name: str

    def claim(self, operation_id: str) -> Mapping[str, Any]:
        """Return the compensation to journal before :meth:`stage`: a kill between the two must leave no folder behind."""

    def stage(self, operation_id: str, dataset_id: str, version_id: str) -> tuple[Staging, Sequence[Mapping[str, Any]]]:
        """Make ``staging/<op>`` (step 4) and return it with the compensations to journal: ``{undo, profile, path, proof}``."""

    def begin(self, staging: Staging, parent: str | None) -> None:
        """Step 5: make ``new``; with a parent, set up the overlay over its files."""

    def assemble(self, staging: Staging) -> None:
        """Step 9: take the verified keys, and only those, into ``staging/<op>/data``."""

    def sync(self, staging: Staging) -> None:
        """Step 10: files 0444; fsync each, then every folder, deepest first (or one syncfs). An error abandons the version."""

    def publish(self, staging: Staging) -> None:
        """Step 12: rename into ``store/<dataset>/<V>``; fsync both folders."""

    def clear(self, staging: Staging) -> None:
        """Remove ``staging/<op>``; idempotent."""

    def path(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of the served tree (``cube.zarr``) for readers in this process."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return the object, or ``None`` when the version's manifest does not list the key.

        Raises
        ------
        Corrupt
            When the manifest lists it and the store does not have it: absent is not unreadable.
        StoreUnavailable
            When the store cannot be read.
        """

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return ``manifest.json`` as it lies."""

    def drop(self, dataset_id: str, version_id: str) -> None:
        """Remove the version's bytes by way of ``staging/trash-<V>``; idempotent."""


class Sources(Protocol):
    """Where data come from: which local files a source block means. Lists and looks up; never opens a file."""

    def resolve(self, source: SourceBlock) -> tuple[Path, ...]:
        """Return the files (or one Zarr folder) that the block names, inside ``sources.roots`` or of a plugin.

        Raises
        ------
        SourceRejected
            ``not-allowed`` outside the roots or by a scheme that is refused; ``empty`` when nothing is there.
        """

    def own(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the command line's own files; they need lie under no root. Raises SourceRejected when one is not there."""


class Versions(Protocol):
    """Versions open for reading, kept open within bounds: a version never changes, so nothing is ever invalidated."""

    def open(self, dataset_id: str, version_id: str, description: CubeDescription) -> Opened:
        """Return the opened version; *description* is what was measured when it was sealed.

        Raises
        ------
        Corrupt, StoreUnavailable
            When its metadata are missing or damaged; when the store cannot be read now.
        """


class Encoders(Protocol):
    """Those who write the output forms."""

    def of(self, form: Form) -> Encoder:
        """Return the encoder of *form*."""


class Way(Protocol):
    """The way of an answer through pygeoapi: its API functions call our provider, and the provider calls *make*, once."""

    def coverage(self, name: str, make: Callable[[], Answer], *, form: Form) -> Answer:
        """Return what *make* returns; what it raises comes through. *name* is ``{dataset_id}@{version_id}``."""

    def edr(self, name: str, make: Callable[[], Answer], *, kind: str, where: Mapping[str, str], form: Form) -> Answer:
        """Return the same for an EDR query of *kind*; *where* is its ``coords`` or ``bbox`` in canonical form."""
