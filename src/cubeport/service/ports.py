"""What the service needs from outside. ``adapters`` implement these; ``main`` brings the two together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.forms import Answer, Encoder, Form, Room
from cubeport.cubes.part import OpenedCube
from cubeport.cubes.sources import Area, Period, PeriodSource
from cubeport.cubes.write_request import (
    Base,
    BringOrder,
    Brought,
    Measured,
    Occupied,
    Progress,
    SourceWindow,
    Staging,
    StoredObject,
    Upload,
    WriteRequest,
    Written,
)
from cubeport.cubes.zones import ZoneSet
from cubeport.service.templates import SourceBlock

__all__ = [
    "Area",
    "Base",
    "BringOrder",
    "Brought",
    "Encoders",
    "Gate",
    "Listed",
    "Lister",
    "Measured",
    "OpenedCube",
    "PeriodSource",
    "Progress",
    "Reader",
    "Receiving",
    "Room",
    "SourceWindow",
    "Sources",
    "Staging",
    "StoredObject",
    "Upload",
    "Uploads",
    "Versions",
    "Way",
    "WriteRequest",
    "Writer",
    "Written",
    "ZoneStore",
]


class Gate(Protocol):
    """The only way in: confined children that read what came from outside."""

    def identify(self, sources: Sequence[Path]) -> tuple[Mapping[str, Any], ...]:
        """Return the identity of each source without decoding it: ``name``, ``size_bytes``, ``sha256``. Raises SourceRejected."""

    def write(self, order: WriteRequest, *, progress: Progress | None = None) -> Written:
        """Run the first child; ``target`` stays its owner's. Raises SourceRejected, AreaOutsideSource and data conflicts."""

    def measure(
        self,
        written: Path,
        expected: Written,
        *,
        fields: Sequence[str] | None = None,
        base: Base | None = None,
        arrived: bool = False,
        progress: Progress | None = None,
    ) -> Measured:
        """Run the second child: decode all of ``staging/<op>/new``, compare digests, describe, write ``manifest.json`` beside.

        With *arrived* no child has written it: variables and their order are those of its own metadata, and there is no digest of
        values to compare with.
        """

    def overviews(self, staging: Staging, digest: str, cube: CubeDescription) -> None:
        """Let a child write the overviews that *cube* names into ``staging/<op>/new``, from the assembled cube in ``data``.

        *digest* is that of the cube's manifest. What did not change since the parent is not written.
        """

    def close(self) -> None: ...


class Writer(Protocol):
    """The role of an engine that makes versions: the methods are called in this order, for one version after the other."""

    name: str
    """What the catalog records as the engine of the version; it is read by the engine of that name."""

    def claim(self, operation_id: str) -> Mapping[str, Any]:
        """Return the compensation to journal before :meth:`stage`: a kill between the two must leave no folder behind."""

    def stage(
        self, operation_id: str, dataset_id: str, version_id: str, *, parent: str | None = None
    ) -> tuple[Staging, Sequence[Mapping[str, Any]]]:
        """Make ``staging/<op>`` and return it with the compensations to journal: ``{undo, profile, path, proof}``."""

    def begin(self, staging: Staging) -> None:
        """Make the folder ``new``, in which the gate's children write."""

    def assemble(self, staging: Staging, *, overviews: bool = False) -> None:
        """Take in the objects that the manifest in ``new`` lists, and only those; what was not written is the parent's.

        With *overviews* those of the cube's overviews, which have a manifest of their own.
        """

    def sync(self, staging: Staging) -> None:
        """Make every byte and every name durable. An error abandons the version."""

    def publish(self, staging: Staging) -> None:
        """Move the version to where it is read, durably. Raises TargetExists."""

    def clear(self, staging: Staging) -> None:
        """Remove ``staging/<op>``; idempotent."""


class Reader(Protocol):
    """The role of an engine that reads versions."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return the object, or ``None`` when the version's manifest does not list the key.

        Raises
        ------
        Corrupt
            When the manifest lists it and the store does not have it: absent is not unreadable.
        StoreUnavailable
            When the store cannot be read.
        """

    def overview(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return an object of the version's overviews, whose keys begin with the level; as :meth:`read`."""

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return ``manifest.json`` as stored. Raises Corrupt where it is missing."""

    def place(self, dataset_id: str, version_id: str, key: str) -> str | None:
        """Return the path of the object below the engine's store, for a web server that sends files; ``None`` without files."""


class Listed(Protocol):
    """A folder or file in a store."""

    @property
    def path(self) -> str:
        """Relative to the data folder."""

    @property
    def name(self) -> str: ...

    @property
    def modified_s(self) -> float:
        """When it last changed, by the clock of the store."""


class Lister(Protocol):
    """The role of an engine that looks after what is stored: it lists, measures, checks and removes."""

    def staged(self) -> Sequence[Listed]:
        """Return what is in staging."""

    def versions(self) -> Sequence[tuple[str, Listed]]:
        """Return the dataset and the place of every version of this engine; the name of the place is the version's id."""

    def size(self, path: str) -> int:
        """Return the bytes of everything at a listed path."""

    def occupied(self, dataset_id: str) -> Occupied:
        """Return the bytes of the dataset's versions of this engine."""

    def faults(self, path: str, *, digest: str, data: bool, after: str = "") -> Iterator[tuple[str | None, str]]:
        """Yield each key of the version behind *after*, in order, with the kind of what differs from the manifest there.

        The manifest itself, whose sha256 is *digest*, is looked at first; *data* reads every byte.
        """

    def object(self, path: str, key: str) -> str:
        """Return the path of an object of the version at *path*."""

    def strays(self) -> Iterator[str]:
        """Yield the paths of files that are in the store and belong to no version."""

    def drop(self, dataset_id: str, version_id: str) -> None:
        """Remove the version's bytes; idempotent, also after a kill in between."""


class Sources(Protocol):
    """Where data come from. Looks names up and fetches bytes; what is in them is the gate's to read."""

    def resolve(
        self, source: SourceBlock, *, asker: str | None = None, variables: Sequence[str] = ()
    ) -> tuple[Path, ...] | PeriodSource:
        """Return the files (or Zarr folders) of this machine that the block names, or the source that can fetch them.

        Nothing is asked of another machine here. *asker* is who may use an upload; of a
        Zarr store the *variables* alone need be fetched.

        Raises
        ------
        SourceRejected
            ``not-allowed`` outside roots and origins or by a scheme that is refused; ``empty`` when nothing is there.
        InvalidRequest, UnknownProfile
            For a plugin or a profile that is not there, or parameters that it does not take.
        """

    def stamps(self, files: tuple[Path, ...]) -> tuple[tuple[str, int, str], ...]:
        """Return name, size in bytes and time of change of local files, without opening them."""

    def own(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the command line's own files; they need lie under no root. Raises SourceRejected when one is not there."""

    def listed(
        self, name: str, source: PeriodSource, start: Period, end: Period, *, is_open: bool = False
    ) -> tuple[Period, ...] | None:
        """Return the periods that the source lists, ``None`` if it cannot list. Raises Configuration for a list that lies.

        With an open end, a source that must be asked for each period is asked until it has had none for a while.
        """

    def bring(self, source: PeriodSource, order: BringOrder, *, progress: Progress) -> AbstractContextManager[Brought]:
        """Fetch what is ordered; its files stay where they are until left."""


class Receiving(Protocol):
    """An upload on its way. Leaving it without :meth:`finish` leaves nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def take(self, piece: bytes) -> None:
        """Write the next bytes. Raises TooLarge, NoSpace."""

    def finish(self, *, sha256: str | None) -> Upload:
        """Make it whole, and return what was sent. Raises SourceRejected (``empty``, ``digest-mismatch``)."""


class Uploads(Protocol):
    """Files that clients send."""

    def begin(self, *, filename: str, owner: str | None, declared: int | None) -> Receiving:
        """Return what takes the bytes. Raises TooLarge, NoSpace."""


class Versions(Protocol):
    """Versions open for reading, kept open within bounds: a version never changes, so nothing is ever invalidated."""

    def open(self, dataset_id: str, version_id: str, description: CubeDescription) -> OpenedCube:
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


class ZoneStore(Protocol):
    """Where the zone sets of an instance are kept."""

    @property
    def most_zones(self) -> int:
        """How many zones a set may have."""

    def all(self) -> Mapping[str, ZoneSet]:
        """Return the sets that are valid, by id, sorted."""

    def problems(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """Return each file that is not a valid set, and what is wrong with it."""

    def put(self, zone_set: ZoneSet) -> None:
        """Keep a set under its id, whole or not at all. Raises NoSpace, StoreUnavailable."""

    def remove(self, zone_set_id: str) -> bool:
        """Remove a set; return whether it was there. Raises StoreUnavailable."""
