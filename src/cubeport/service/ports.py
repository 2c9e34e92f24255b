"""What the service needs from outside. ``adapters`` implement these; ``main`` brings the two together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cubeport.cubes.description import CubeDescription

type Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; raises :class:`~cubeport.errors.Cancelled` when the job was cancelled."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the source that is asked for; ``None`` is all of it. Periods are labels of the data's own calendar, inclusive."""

    bbox: tuple[float, float, float, float] | None = None
    """CRS84; cells that meet it are taken (``clip: touch``), or cells whose centre lies inside (``centre``)."""
    start: str | None = None
    end: str | None = None
    clip: str = "touch"


@dataclass(frozen=True, slots=True)
class WriteOrder:
    """What the first child does: gate the sources, take the window, write a Zarr v3 group into ``target``."""

    sources: tuple[Path, ...]
    """Local files, or one Zarr folder. Opened by the worker without following links; the child gets descriptors."""
    target: Path
    """An empty folder that the child may write in: ``staging/<op>/new``."""
    window: Window = field(default_factory=Window)
    variables: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Global attributes to set (``--attrs``)."""
    chunks: Mapping[str, int] | None = None
    """Chunk lengths by dimension; ``None`` = DESIGN.md's layout."""
    append_dim: str | None = None
    """The dimension along which several files are joined; ``None`` = the time axis."""
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What the first child says it wrote; hostile until the second child has read it back."""

    digests: Mapping[str, str]
    """sha256 of the stored values by variable, C order, little-endian."""
    warnings: tuple[tuple[str, str], ...] = ()
    sources: tuple[Mapping[str, Any], ...] = ()
    """Identity of each source: name, size_bytes, sha256, modified_at."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the second child found by decoding every staged chunk."""

    description: CubeDescription
    documents: Mapping[str, Any]
    """``stac``, ``item``, ``ogc``, ``schema``."""
    files: int
    size_bytes: int
    digest: str
    """sha256 of ``manifest.json``, hex: the version's digest."""


class Gate(Protocol):
    """The only way in: confined children that read what came from outside (safety.md 2)."""

    def identify(self, sources: Sequence[Path]) -> tuple[Mapping[str, Any], ...]:
        """Return the identity of each source without decoding it: ``name``, ``size_bytes``, ``sha256``. Raises SourceRejected."""

    def write(self, order: WriteOrder, *, progress: Progress | None = None) -> Written:
        """Run the first child. Raises SourceRejected, NoData, AreaOutsideSource, VariablesMismatch … ; leaves ``target`` to its owner."""

    def measure(
        self, written: Path, expected: Written, *, fields: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Measured:
        """Run the second child over ``staging/<op>/new``: decode, compare digests, describe, write ``manifest.json`` beside the cube."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Staging:
    """Where one operation's bytes are made, and where they will be."""

    operation_id: str
    dataset_id: str
    version_id: str
    root: Path
    """``staging/<op>``."""
    new: Path
    """``staging/<op>/new``: what the children write."""
    source: Path
    """``staging/<op>/source``: what was fetched."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a version, open for reading; whoever gets it closes it."""

    file: BinaryIO
    """Unbuffered, on a descriptor opened beneath the version's folder without following links."""
    size: int
    digest: str
    """sha256 from the manifest, hex."""


class Engine(Protocol):
    """How versions lie on disk (safety.md 7). Named steps are those of safety.md 6."""

    name: str

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
