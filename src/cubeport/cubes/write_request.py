"""What is said between the service and the parts that make versions: orders and their answers, as plain frozen values.

``service/ports.py`` says who does what with them; they are here because ``service`` and ``adapters`` never import each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.sources import Area, Period
from cubeport.cubes.update import OnOverlap, StepsChange

type Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; raises :class:`~cubeport.errors.Cancelled` when the job was cancelled."""


@dataclass(frozen=True, slots=True)
class SourceWindow:
    """The part of the source that is asked for; ``None`` is all of it. Periods are labels of the data's own calendar, inclusive."""

    bbox: tuple[float, float, float, float] | None = None
    """CRS84; cells that meet it are taken (``clip: touch``), or cells whose centre is inside (``centre``)."""
    start: str | None = None
    end: str | None = None
    clip: str = "touch"


@dataclass(frozen=True, slots=True)
class Base:
    """The version that an update builds on."""

    folder: Path
    """With its tree and manifest."""
    digest: str
    """sha256 of its manifest, as the catalog has it."""
    ranges: Mapping[str, tuple[float | None, float | None]]
    """The least and the greatest value of each variable, as measured."""
    on_overlap: OnOverlap = "error"


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What the first child does: gate the sources, take the window, write a Zarr v3 group into ``target``."""

    sources: tuple[Path, ...]
    """Local files, or one Zarr folder. Opened by the worker without following links; the child gets descriptors."""
    target: Path
    """An empty folder that the child may write in: ``staging/<op>/new``."""
    window: SourceWindow = field(default_factory=SourceWindow)
    variables: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Global attributes to set (``--attrs``)."""
    chunks: Mapping[str, int] | None = None
    """Chunk lengths by dimension; ``None`` = about 1 MiB a chunk, balanced between map and series."""
    append_dim: str | None = None
    """The dimension along which several files are joined; ``None`` = the time axis."""
    group: str | None = None
    normalise: tuple[Mapping[str, Any], ...] = ()
    """Steps that change the form of each source, as :meth:`~cubeport.cubes.steps.NormaliseStep.plain` gives them."""
    transforms: tuple[Mapping[str, Any], ...] = ()
    """Steps that change values, after the sources are joined."""
    skip_bad: bool = False
    """Whether variables that cannot be published are left out, and reported, instead of refusing the source."""
    on_overlap: OnOverlap = "error"
    """What is taken of steps that several of the sources have."""
    base: Base | None = None
    """With it, the sources are added to this version: everything that they do not touch is shared with it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What the first child says it wrote; hostile until the second child has read it back."""

    digests: Mapping[str, str]
    """By variable, in the store's order: sha256 over the sha256s of its chunks' values (C order, little-endian), in C order."""
    warnings: tuple[tuple[str, str], ...] = ()
    change: StepsChange | None = None
    """Of an update: how its steps follow from those of the base. Digests are then of the chunks that were written."""
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


@dataclass(frozen=True, slots=True)
class BringOrder:
    """What is to be fetched of a source that is not on this machine."""

    dataset_id: str
    name: str
    """What the source is called in messages."""
    source: str
    """What tells it from any other: digest of its block."""
    periods: tuple[Period | None, ...]
    """``None`` alone is all of a source without periods."""
    area: Area | None = None
    job: str = ""
    """Who fetches: what it fetched before it was killed needs no second look."""
    at_once: int = 4
    stops_at_missing: bool = False
    """Whether nothing behind a period that is missing is of interest."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What was fetched."""

    files: tuple[tuple[Period | None, tuple[Path, ...]], ...]
    """Of each period that was there, in the order asked for; periods may share files."""
    missing: tuple[Period, ...] = ()
    """Periods that the source says do not exist."""
    validators: Mapping[str, str] = field(default_factory=dict)
    """By period, what the source said of its bytes."""

    @property
    def periods(self) -> tuple[Period, ...]:
        """The periods that were there."""
        return tuple(period for period, _ in self.files if period is not None)

    def of(self, periods: Sequence[Period | None]) -> tuple[Path, ...]:
        """Return the files of *periods*, each once."""
        wanted = set(periods)
        return tuple(dict.fromkeys(file for period, files in self.files if period in wanted for file in files))


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client sent."""

    upload_id: str
    filename: str
    """A label, without whatever could be a path."""
    size_bytes: int
    sha256: str
    expires_at: datetime


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
    parent: str | None = None
    """The version that this one is built on: objects that are not written again are taken from it."""
    base: Path | None = None
    """The parent's folder, with tree and manifest, which the children may read."""


@dataclass(frozen=True, slots=True)
class Occupied:
    """The bytes of a dataset's versions in a store."""

    size_bytes: int
    """Of everything, an object that versions share counted once."""
    versions: Mapping[str, tuple[int, int]]
    """By version: all its bytes, and those that no other version shares."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a version, open for reading. The caller closes it."""

    file: BinaryIO
    """Unbuffered, on a descriptor that was opened below the version's folder without following links; an engine without files
    gives one in memory (``io.BytesIO``)."""
    size: int
    digest: str
    """sha256 from the manifest, hex."""
