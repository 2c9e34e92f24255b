"""The requests of the service to the parts that make versions, and their results, as plain immutable values.

``service/ports.py`` defines who uses them. They are in this package because ``service`` and ``adapters`` never import each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.excerpt import Needs
from cubeport.cubes.periods import TimeLabel
from cubeport.cubes.sources import Area, Period
from cubeport.cubes.spread import Spread
from cubeport.cubes.update import OnOverlap, StepsChange

type Progress = Callable[[str, int, int], None]
"""``progress(phase, done, total)``; raises :class:`~cubeport.errors.Cancelled` if the job was cancelled."""


type Bring = Callable[[Path, str], None]
"""``bring(folder, key)`` makes an object of a version in an object store a file below a folder of this machine."""

type Storage = Literal["copy", "virtual", "auto"]
"""Whether the chunks of a version are copied, are read from the source where it lies, or are what each variable allows."""

type Verify = Literal["full", "sample"]
"""Which chunks that lie in a source are decoded before the version is published: all, or the first, the last and 1 %."""


class SourceFile(NamedTuple):
    """A file that a version points into, and what tells it from each other state of it."""

    path: str
    """Absolute."""
    device: int
    inode: int
    size: int
    """In bytes."""
    mtime_ns: int
    ctime_ns: int
    sha256: str
    """Of all its bytes, hex."""

    @property
    def marks(self) -> tuple[int, int, int, int, int]:
        """Device, inode, size, and times of change of bytes and of inode, in ns: all that is compared at each read."""
        return self[1:6]


class StoreKey(NamedTuple):
    """An object of an S3 store in one of its states."""

    profile: str
    """The storage profile, whose root the key counts from."""
    key: str
    etag: str
    """What the store says of these bytes, with its quotes."""


class StoreObject(NamedTuple):
    """An object of an S3 store that a version points into, and what tells it from each other state of it."""

    profile: str
    """The storage profile, whose root the key counts from."""
    key: str
    etag: str
    """What is compared at each read, with its quotes."""
    size: int
    """In bytes."""
    sha256: str
    """Of all its bytes, hex."""

    @property
    def path(self) -> str:
        """The key, whose last part is its name."""
        return self.key


type Pointed = SourceFile | StoreObject
"""What a version can point into."""


def marks_of(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return what :attr:`SourceFile.marks` is compared with."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True, slots=True)
class SourceWindow:
    """The requested part of the source; ``None`` is all of it. Periods are in the data's own calendar, both ends included."""

    bbox: tuple[float, float, float, float] | None = None
    """The box in CRS84. It selects the cells that it intersects (``clip: touch``), or those with their centre inside
    (``centre``)."""
    start: str | None = None
    end: str | None = None
    clip: str = "touch"
    time_label: TimeLabel = "start"
    """Which moment of its period a label of the source is."""
    is_all: bool = False
    """Whether the files were fetched for these periods, so that they should have no others."""


@dataclass(frozen=True, slots=True)
class Base:
    """The version that an update builds on."""

    folder: Path
    """The folder of the version, with its tree and manifest."""
    digest: str
    """sha256 of its manifest, as recorded in the catalog."""
    ranges: Mapping[str, Spread]
    """The measured ends of each variable."""
    empty: tuple[tuple[str, ...], int] = ((), 0)
    """The moments of the steps without a value, which may be only the first ones, and how many there are."""
    notes: tuple[tuple[str, str], ...] = ()
    """What was found odd about its values, as kind and message."""
    on_overlap: OnOverlap = "error"
    bring: Bring | None = None
    """Brings an object that is not in *folder* yet; ``None`` if all are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """How to read sources: which part, and repaired in which way."""

    sources: tuple[Path, ...]
    """Local files, or one Zarr folder. The worker opens them without following links and passes descriptors to the child."""
    window: SourceWindow = field(default_factory=SourceWindow)
    variables: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Global attributes to set (``--attrs``)."""
    chunks: Mapping[str, int] | None = None
    """Chunk lengths by dimension; ``None`` selects about 1 MiB a chunk, balanced between maps and series."""
    append_dim: str | None = None
    """The dimension along which several files are joined; ``None`` is the time axis."""
    group: str | None = None
    normalise: tuple[Mapping[str, Any], ...] = ()
    """Steps that change the form of each source, as :meth:`~cubeport.cubes.steps.NormaliseStep.plain` returns them."""
    transforms: tuple[Mapping[str, Any], ...] = ()
    """Steps that change values, after the sources are joined."""
    functions: Mapping[str, str] = field(default_factory=dict)
    """The functions of plugins that ``transforms`` name, as ``module:name``."""
    skip_bad: bool = False
    """Whether to skip and report variables that cannot be published, instead of refusing the source."""
    on_overlap: OnOverlap = "error"
    """What to do with steps that are in several sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest(ReadRequest):
    """The request to the first child: check the sources, cut the window, and write a Zarr v3 group to ``target``."""

    target: Path
    """An empty folder that the child can write to: ``staging/<op>/new``."""
    storage: Storage = "copy"
    held: tuple[SourceFile, ...] = ()
    """The sources as they were hashed already, if the version may point into them: one each, in order."""
    base: Base | None = None
    """The version to update. The result shares everything with it that the sources do not change."""
    keep: str | None = None
    """Whose sources these are, if a child that read others of theirs before may read them; ``None`` is a new child."""


@dataclass(frozen=True, slots=True)
class Written:
    """The first child's report of what it wrote. It is untrusted until the second child has read the bytes back."""

    digests: Mapping[str, str]
    """By variable, in the order of the store: the sha256 of the sha256s of its chunks' values (C order, little-endian), in C
    order."""
    warnings: tuple[tuple[str, str], ...] = ()
    change: StepsChange | None = None
    """For an update: how its steps relate to those of the base. The digests then cover only the chunks that were written."""
    sources: tuple[Mapping[str, Any], ...] = ()
    """The identity of each source: name, size_bytes, sha256, modified_at."""
    given: Mapping[str, bytes] | None = None
    """The objects by key if a kept child wrote them; else they are in ``staging/<op>/new``."""
    keep: str | None = None
    """That of the request, if a kept child wrote them."""
    shares: tuple[Path, ...] = ()
    """The folders in which workers of an executor say what they read back of the chunks that workers wrote."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The second child's measurements from decoding every staged chunk."""

    description: CubeDescription
    documents: Mapping[str, Any]
    """``stac``, ``item``, ``ogc``, ``schema``."""
    files: int
    size_bytes: int
    digest: str
    """The sha256 of ``manifest.json`` in hex, which is the digest of the version."""


type Choose = Callable[[Path], Needs]
"""``choose(folder)`` returns what is needed of a Zarr store, from an excerpt of it."""


@dataclass(frozen=True, slots=True)
class BringOrder:
    """A request to fetch data from a source on another machine."""

    dataset_id: str
    name: str
    """The name of the source in messages."""
    source: str
    """The identity of the source: the digest of its block in the template."""
    periods: tuple[Period | None, ...]
    """The periods to fetch; a single ``None`` is all of a source without periods."""
    area: Area | None = None
    job: str = ""
    """The job that fetches. Files that it fetched before it was killed are not checked again."""
    at_once: int = 4
    timeout_s: float = 600
    """The longest time of a try to fetch one file or period, in seconds."""
    retries: int = 3
    """How often such a try is made again after an error that can pass."""
    stops_at_missing: bool = False
    """Whether to stop at the first missing period."""
    choose: Choose | None = None
    """Says which part of a source without periods is needed; ``None`` is all of it."""


@dataclass(frozen=True, slots=True)
class Brought:
    """The fetched files."""

    files: tuple[tuple[Period | None, tuple[Path, ...]], ...]
    """The files of each existing period, in the requested order. Periods can share files."""
    missing: tuple[Period, ...] = ()
    """Periods that the source says do not exist."""
    validators: Mapping[str, str] = field(default_factory=dict)
    """The source's validator of each period."""
    objects: Mapping[Path, StoreKey] = field(default_factory=dict)
    """Where the files of an S3 store came from, in the state that was fetched."""

    @property
    def periods(self) -> tuple[Period, ...]:
        """The periods that exist."""
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
    """A label, without any characters that could form a path."""
    size_bytes: int
    sha256: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Staging:
    """The folders in which the bytes of one operation are made."""

    operation_id: str
    dataset_id: str
    version_id: str
    root: Path
    """``staging/<op>``."""
    new: Path
    """``staging/<op>/new``, to which the children write."""
    source: Path
    """``staging/<op>/source``, which contains the fetched files."""
    held: tuple[Pointed, ...] = ()
    """The files and objects that the version may point into, besides those of its parent."""
    parent: str | None = None
    """The version that this one updates. Objects that are not written again come from it."""
    base: Path | None = None
    """The parent's folder, with tree and manifest, which the children can read."""
    bring: Bring | None = None
    """Brings an object of the parent that is not in a folder yet; ``None`` if all are in *base*."""


@dataclass(frozen=True, slots=True)
class Occupied:
    """The size of a dataset's versions in a store."""

    size_bytes: int
    """The total size. Objects that versions share are counted once."""
    versions: Mapping[str, tuple[int, int]]
    """For each version: its total bytes, and the bytes that no other version shares."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a version, open for reading. The caller closes it."""

    file: BinaryIO
    """An unbuffered file, opened below the version's folder without following links. An engine without files returns one in memory
    (``io.BytesIO``). It begins and ends with the object, also if its descriptor is that of a larger file."""
    size: int
    digest: str
    """The sha256 from the manifest, in hex."""
    offset: int = 0
    """The first byte of the object in ``file.fileno()``."""
    check: Callable[[], None] | None = None
    """For a part of a source: call it after each read through the descriptor; ``file`` calls it itself. Raises SourceChanged."""
