"""The ports of the service: what it needs from outside. ``adapters`` implement them, and ``main`` connects both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from cubeport.cubes.description import CubeDescription
from cubeport.cubes.excerpt import Needs
from cubeport.cubes.forms import Answer, Encoder, Form, Room
from cubeport.cubes.part import OpenedCube
from cubeport.cubes.periods import TimeLabel
from cubeport.cubes.sources import Area, Period, PeriodSource
from cubeport.cubes.write_request import (
    Base,
    Bring,
    BringOrder,
    Brought,
    Measured,
    Occupied,
    Pointed,
    Progress,
    ReadRequest,
    SourceFile,
    SourceWindow,
    Staging,
    Storage,
    StoredObject,
    StoreKey,
    StoreObject,
    Upload,
    Verify,
    WriteRequest,
    Written,
)
from cubeport.cubes.zones import ZoneSet
from cubeport.service.templates import SourceBlock

__all__ = [
    "Area",
    "Base",
    "Bring",
    "BringOrder",
    "Brought",
    "Encoders",
    "ExportTarget",
    "Gate",
    "KeepsCopies",
    "Listed",
    "Lister",
    "Measured",
    "Needs",
    "OpenedCube",
    "PeriodSource",
    "Pointed",
    "Progress",
    "ReadRequest",
    "Reader",
    "Receiving",
    "Room",
    "SendsCopies",
    "SourceFile",
    "SourceWindow",
    "Sources",
    "Staging",
    "Storage",
    "StoreKey",
    "StoreObject",
    "StoredObject",
    "Upload",
    "Uploads",
    "Verify",
    "Versions",
    "Way",
    "WriteRequest",
    "Writer",
    "Written",
    "ZoneStore",
]


class Gate(Protocol):
    """The gate: confined children that read all data from outside."""

    def identify(self, sources: Sequence[Path]) -> tuple[Mapping[str, Any], ...]:
        """Return the identity of each source without decoding it: ``name``, ``size_bytes`` and ``sha256``. Raises
        SourceRejected.
        """

    def needs(self, order: ReadRequest, held: Sequence[tuple[str, str]]) -> Needs:
        """Run a child that says what a write would read of excerpts of the sources. Steps of the *held* spans of periods (start and
        end, both included) are not read. Raises what the write would raise from labels alone.
        """

    def hold(self, sources: Sequence[Path]) -> tuple[SourceFile, ...]:
        """Return what tells each source, a file, from each other state of it; it has not changed for a moment.

        Raises
        ------
        SourceRejected
            ``not-virtual`` for a folder; ``digest-mismatch`` for a file that is being written.
        """

    def write(self, order: WriteRequest, *, progress: Progress | None = None) -> Written:
        """Run the first child. The caller stays the owner of ``target``. Raises SourceRejected, AreaOutsideSource and data
        conflicts.
        """

    def measure(
        self,
        written: Path,
        expected: Written,
        *,
        fields: Sequence[str] | None = None,
        base: Base | None = None,
        arrived: bool = False,
        held: Sequence[SourceFile] = (),
        pointed: Sequence[Pointed] = (),
        verify: Verify = "full",
        time_label: TimeLabel = "start",
        years: tuple[int, int] | None = None,
        progress: Progress | None = None,
    ) -> Measured:
        """Run the second child: decode everything in ``staging/<op>/new``, compare digests, describe the cube, write
        ``manifest.json``.

        With *arrived*, another instance wrote the version. The variables and their order are then those of its own metadata, and
        there are no digests of values to compare. With *held*, chunks may be in these sources, and *verify*
        says which of them to decode. The version points into *pointed* instead, in the same order, where *held* are copies.
        *time_label* is that of the steps, and *years* those of a climatology whose bounds do not tell them.
        """

    def overviews(self, staging: Staging, digest: str, cube: CubeDescription, *, version: Path | None = None) -> None:
        """Let a child write the overviews that *cube* names into ``staging/<op>/new``, from the assembled cube in ``data``.

        *digest* is that of the cube's manifest. What did not change since the parent is not written. With *version*, the cube is in
        the folder of an existing version.
        """

    def copy(self, staging: Staging, digest: str, cube: CubeDescription, *, version: Path | None = None) -> None:
        """Let a child copy the assembled cube in ``data`` into one NetCDF-4 file in ``staging/<op>/new``, and compare both.

        *digest* is that of the cube's manifest. With *version*, the cube is in the folder of an existing version.

        Raises
        ------
        SourceRejected
            ``not-netcdf``, with every part of the cube that the format cannot hold.
        """

    def close(self) -> None: ...


class Writer(Protocol):
    """The role of an engine that makes versions. The methods are called in this order, for one version at a time."""

    name: str
    """The name of the engine in the catalog. The version is read by the engine with this name."""

    points: bool
    """Whether its versions can point into files of this machine."""

    def set_up(self) -> None:
        """Make what :meth:`stage` needs, and test that versions can be published there. Idempotent. Raises StoreUnavailable."""

    def claim(self, operation_id: str) -> Mapping[str, Any]:
        """Return the compensation to record in the journal before :meth:`stage`, so that a kill in between leaves no folder."""

    def stage(
        self, operation_id: str, dataset_id: str, version_id: str, *, parent: str | None = None
    ) -> tuple[Staging, Sequence[Mapping[str, Any]]]:
        """Make ``staging/<op>`` and return it with the compensations to record: ``{undo, profile, path, proof}``."""

    def begin(self, staging: Staging) -> None:
        """Make the folder ``new``, to which the gate's children write."""

    def assemble(self, staging: Staging, *, overviews: bool = False) -> None:
        """Assemble the objects that the manifest in ``new`` lists, and only those. Objects that were not written come from the
        parent.

        With *overviews*, assemble those of the cube's overviews, which have their own manifest.

        Chunks may be in the files of ``staging.held`` and of the parent. Raises SourceRejected for any other file.
        """

    def sync(self, staging: Staging) -> None:
        """Make every byte and every name durable. An error abandons the version."""

    def publish(self, staging: Staging) -> str:
        """Move the version durably to its final place. Return its reference, for the catalog. Raises TargetExists."""

    def afterwards(self, staging: Staging, reference: str) -> Sequence[Mapping[str, Any]]:
        """Return what to do after the commit, as actions for the journal."""

    def clear(self, staging: Staging) -> None:
        """Remove ``staging/<op>``. Idempotent."""


@runtime_checkable
class AddsOverviews(Protocol):
    """A writer that can give overviews to a version that is already in the store."""

    def folder(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of the version, which the gate's child reads."""

    def beside(self, staging: Staging) -> Sequence[Mapping[str, Any]]:
        """Return the compensations to record before :meth:`publish_overviews`."""

    def publish_overviews(self, staging: Staging) -> None:
        """Move the assembled overviews durably next to the cube of the version. Readers see them when the catalog names them."""


@runtime_checkable
class KeepsCopies(Protocol):
    """A writer whose versions can have a NetCDF-4 copy beside the cube."""

    name: str

    def folder(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of the version, which the gate's child reads."""

    def take_copy(self, staging: Staging) -> tuple[int, str]:
        """Take in the copy that a child wrote to ``new``, as a part of the version, and return its size and its sha256."""

    def beside_copy(self, staging: Staging) -> Sequence[Mapping[str, Any]]:
        """Return the compensations to record before :meth:`publish_copy`."""

    def publish_copy(self, staging: Staging) -> None:
        """Move the copy durably next to the cube of an existing version. Readers see it when the catalog names it."""


@runtime_checkable
class SendsCopies(Protocol):
    """A reader of versions that can have a copy."""

    def copy(self, dataset_id: str, version_id: str) -> StoredObject:
        """Return the NetCDF-4 copy of a version that has one, without its digest. Raises Corrupt if it is missing."""


class Reader(Protocol):
    """The role of an engine that reads versions. Threads may call it."""

    def waits(self, dataset_id: str, version_id: str) -> bool:
        """Return whether reading a version waits for another machine, so that an event loop must not do it."""

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return the object, or ``None`` if the manifest of the version does not list the key.

        Raises
        ------
        Corrupt
            If the manifest lists the object but the store does not have it. Absent is not unreadable.
        StoreUnavailable
            When the store cannot be read.
        SourceChanged
            When the object lies in a source that is not what it was.
        """

    def overview(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return an object of the version's overviews, whose keys begin with the level; as :meth:`read`."""

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return ``manifest.json`` as stored. Raises Corrupt if it is missing."""

    def local(self, dataset_id: str, version_id: str, scratch: Path) -> tuple[Path, Bring | None]:
        """Return a folder with the manifests and the metadata of a version, and the function that brings one other object below it;
        ``None`` if all are there. The folder is *scratch*, which does not exist yet, where the engine has none.
        """

    def place(self, dataset_id: str, version_id: str, key: str) -> str | None:
        """Return the path of the object below the engine's store, for a web server that sends files; ``None`` if there are no
        files.
        """


class Listed(Protocol):
    """A folder or file in a store."""

    @property
    def path(self) -> str:
        """The path relative to the data folder."""

    @property
    def name(self) -> str: ...

    @property
    def modified_s(self) -> float:
        """The time of the last change, by the clock of the store."""


class Lister(Protocol):
    """The role of an engine that maintains stored versions: it lists, measures, checks and removes them."""

    profile: str | None
    """The profile of the object store with its versions; ``None`` if they are folders in the data folder."""

    def staged(self) -> Sequence[Listed]:
        """Return the folders in staging."""

    def versions(self) -> Sequence[tuple[str, Listed]]:
        """Return the dataset and the folder of every version of this engine. The name of the folder is the id of the version."""

    def size(self, path: str) -> int:
        """Return the total size of everything at a listed path in bytes."""

    def occupied(self, dataset_id: str) -> Occupied:
        """Return the size of the dataset's versions in this engine."""

    def faults(
        self, path: str, *, digest: str, data: bool, after: str = "", copy: tuple[int, str] | None = None
    ) -> Iterator[tuple[str | None, str]]:
        """Yield each key of the version after *after* in order, with the kind of its difference from the manifest, or ``None``.

        The manifest itself, whose sha256 must be *digest*, is checked first. With *data*, every byte is read. *copy* is the size
        and the sha256 of the NetCDF-4 copy that the catalog names.
        """

    def source(self, path: str, key: str) -> str | None:
        """Return the name of the file or object that contains a chunk; ``None`` if it is in the version itself. An engine whose
        faults name no sources need not have this.
        """

    def sources(self, path: str) -> Mapping[str, str]:
        """Return the files and objects that the version points into, each as a request names it, with its sha256. An engine whose
        faults name no sources need not have this.
        """

    def object(self, path: str, key: str) -> str:
        """Return the path of an object of the version at *path*."""

    def strays(self) -> Iterator[str]:
        """Yield the paths of files in the store that belong to no version."""

    def drop(self, dataset_id: str, version_id: str) -> None:
        """Remove the version, so that :meth:`collect` can free its bytes. Idempotent, also after a kill in between."""

    def datasets(self) -> Sequence[str]:
        """Return the datasets with bytes that :meth:`collect` can free."""

    def is_unnamed(self, dataset_id: str, version_id: str) -> bool:
        """Return whether the version's bytes are in the store, but nothing there names it, so that :meth:`versions` lacks it."""

    def collect(self, dataset_id: str, keep: Collection[str] = (), *, dry_run: bool = False) -> int:
        """Free the bytes that no version of the dataset has any more; return how many. The caller holds the lock of the dataset.

        The versions of *keep* stay, also where the store has lost their names.
        """


class Sources(Protocol):
    """The sources of data. They resolve names and fetch bytes; only the gate reads the contents."""

    def resolve(
        self, source: SourceBlock, *, asker: str | None = None, variables: Sequence[str] = ()
    ) -> tuple[Path, ...] | PeriodSource:
        """Return the local files (or Zarr folders) that the block names, or the source that can fetch them.

        No request is sent to another machine here. *asker* is the key that may use an upload. From a Zarr store, only *variables*
        need to be fetched.

        Raises
        ------
        SourceRejected
            ``not-allowed`` outside roots and origins or with a refused scheme; ``empty`` if nothing is found.
        InvalidRequest, UnknownProfile
            If the plugin or profile does not exist, or does not accept the parameters.
        """

    def stamps(self, files: tuple[Path, ...]) -> tuple[tuple[str, int, str], ...]:
        """Return the name, size in bytes and modification time of local files, without opening them."""

    def own(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the command line's own files, which need not be below a root. Raises SourceRejected if one does not exist."""

    def outside(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return those of *files* that a version may not point into: outside ``sources.roots``, or inside the instance."""

    def listed(
        self, name: str, source: PeriodSource, start: Period, end: Period, *, is_open: bool = False
    ) -> tuple[Period, ...] | None:
        """Return the periods that the source lists; ``None`` if it cannot list. Raises Configuration for a list that breaks the
        contract.

        With an open end, a source with ``asks_each`` is searched until it has had no period for a while.
        """

    def bring(self, source: PeriodSource, order: BringOrder, *, progress: Progress) -> AbstractContextManager[Brought]:
        """Fetch the periods of *order*. The files stay in place until the block ends."""


class Receiving(Protocol):
    """An upload in progress. If the block ends without :meth:`finish`, nothing is kept."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def take(self, piece: bytes) -> None:
        """Write the next bytes. Raises TooLarge, NoSpace."""

    def finish(self, *, sha256: str | None) -> Upload:
        """Complete the upload and return it. Raises SourceRejected (``empty``, ``digest-mismatch``), StoreUnavailable."""


class Uploads(Protocol):
    """Files that clients send."""

    def begin(self, *, filename: str, owner: str | None, declared: int | None) -> Receiving:
        """Return the object that receives the bytes. Raises TooLarge, NoSpace."""


class Versions(Protocol):
    """Opens versions for reading, and caches opened versions. A version never changes, so nothing needs to be invalidated."""

    def open(self, dataset_id: str, version_id: str, description: CubeDescription) -> OpenedCube:
        """Return the opened version. *description* was measured when the version was sealed.

        Raises
        ------
        Corrupt, StoreUnavailable
            If its metadata are missing or damaged; if the store cannot be read at the moment.
        """


class Encoders(Protocol):
    """The encoders of the output forms."""

    def of(self, form: Form) -> Encoder:
        """Return the encoder of *form*."""


class Way(Protocol):
    """Makes an answer through pygeoapi: its API functions call our provider, and the provider calls *make* once."""

    def coverage(self, name: str, make: Callable[[], Answer], *, form: Form) -> Answer:
        """Return the result of *make*, or raise its errors. *name* is ``{dataset_id}@{version_id}``."""

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


class ExportTarget(Protocol):
    """Where exports are written. Keys are joined by ``/``; every object is whole, or not there."""

    @property
    def url(self) -> str:
        """The address of the target."""

    def within(self, name: str) -> str | None:
        """Return the address of another export that *name* would lie in, or ``None``. Raises StoreUnavailable."""

    def listed(self, name: str) -> Mapping[str, int]:
        """Return the size in bytes of each object below *name*, by its key there. Raises StoreUnavailable."""

    def clear(self, name: str) -> None:
        """Remove what a killed export left unfinished below *name*."""

    def read(self, key: str) -> bytes | None:
        """Return an object, or ``None`` if the store says that there is none. Raises StoreUnavailable."""

    def create(self, key: str, body: bytes) -> bool:
        """Write an object if there is none. Return whether it was written. Raises NoSpace, StoreUnavailable."""

    def put(self, key: str, body: bytes) -> None:
        """Write or replace an object. May be called from several threads. Raises NoSpace, StoreUnavailable."""
