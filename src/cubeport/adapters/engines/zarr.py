"""The engine ``zarr``. A version is a folder of plain Zarr files: written once, synced, renamed to its place, and never changed.

::

    <data>/staging/<operation>/new/…               what the children write: cube.zarr and manifest.json, untrusted
    <data>/staging/<operation>/data/…              only verified objects
    <data>/store/<dataset>/<version>/cube.zarr/…   the published tree
    <data>/store/<dataset>/<version>/manifest.json its objects with their sizes and sha256
    <data>/store/<dataset>/<version>/sources.json  of a virtual version, where the files are in which its chunks lie

Such files are others', below ``sources.roots``; they are compared with what they were at each read (:mod:`.parts`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from cubeport.adapters.engines import Place, parts
from cubeport.adapters.engines.disk import FILE, FOLDER, READ_ONLY, Disk, Levels, descriptor, open_file, read, remove
from cubeport.adapters.engines.manifest import (
    COPY,
    CUBE,
    MANIFEST,
    OVERVIEWS,
    OVERVIEWS_MANIFEST,
    SOURCES,
    Entries,
    Entry,
    Lying,
    by_folder,
    parse,
    sources_of,
    sources_to_bytes,
)
from cubeport.adapters.engines.objects import StoreObjects
from cubeport.adapters.engines.staging import Listed, StagingArea, folders, size, staged, version_place
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.disk.failpoints import passing, step
from cubeport.catalog.forms.canonical import is_id
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.write_request import Occupied, Pointed, Staging, StoredObject, StoreObject
from cubeport.errors import Corrupt, SourceChanged, SourceRejected, StoreUnavailable, TargetExists

_SINGLY = 100
"""Up to this many files and folders are synced one by one. For more, one syncfs costs less: 9 ms and 2 ms of CPU instead of 30 ms
and 16 ms for 225 folders, and 50 ms while another program writes 1.5 GB."""

_SYNCS = 8
"""How many files or folders are synced at the same time."""

_BLOCK = 1024 * 1024


@dataclass
class Writer(StagingArea):
    """Makes versions as folders below *data*. Staging and store must be on the same file system."""

    name = "zarr"
    points = True
    _is_set_up = False

    @classmethod
    def at(cls, place: Place) -> Writer:
        """Return the writer of an instance."""
        return cls(place.data, roots=place.roots, objects=place.objects)

    def set_up(self) -> None:
        """Make the folders ``staging`` and ``store``, and test that a folder can be renamed from one to the other. Idempotent.

        Raises
        ------
        StoreUnavailable
            If the folders cannot be made, or renaming from one to the other fails.
        """
        if self._is_set_up:
            return
        super().set_up()
        with store_errors("set up the data folder"):
            make_folders(self.data / "store")
            _probe(self.data / "staging", self.data / "store")
        self._is_set_up = True

    def assemble(self, staging: Staging, *, overviews: bool = False) -> None:
        """Move what the children wrote to ``data``, if all of it is in the manifest; with *overviews* the cube's overviews.

        The whole tree in ``new`` is renamed. All other objects of the manifest are unchanged ones of the parent and are shared with
        it by hard links, or copied if the file system does not support links.

        Raises
        ------
        SourceRejected
            ``unsafe``, if the manifest is not valid, or there is anything but the regular files that it describes.
        Corrupt
            If an object of the parent is damaged.
        """
        tree, listed = (OVERVIEWS, OVERVIEWS_MANIFEST) if overviews else (CUBE, MANIFEST)
        with store_errors("take in the data"):
            manifest = read(staging.new / listed)
            try:
                entries = parse(manifest)
            except ValueError as error:
                raise SourceRejected("the manifest that was written is not one of ours", reason="unsafe") from error
            target = staging.root / "data"
            parent = None if staging.parent is None else self.version(staging.dataset_id, staging.parent)
            if parent is not None and not (parent / listed).exists():
                parent = None  # of a parent without overviews nothing can be shared
            held = {} if parent is None else _entries(parent, staging.dataset_id, str(staging.parent), listed)
            sources = self._checked(entries, held, {} if parent is None else sources_of(parent), staging)
            written = self.adopt(staging, tree, entries)
            shared = [key for key, entry in entries.items() if entry.source is None and key not in written]
            if parent is None and shared:
                raise SourceRejected(f"{shared[0]!r} is in the manifest but was not written", reason="unsafe")
            if parent is not None:
                self._share(shared, entries, held, parent / tree, target / tree, staging)
            self.disk.write(target / listed, manifest)
            if sources and not overviews:
                self.disk.write(target / SOURCES, sources_to_bytes(sources))

    def _checked(self, entries: Entries, held: Entries, files: Mapping[Lying, Pointed], staging: Staging) -> list[Pointed]:
        """Return the files that the version points into: those that were ordered, and otherwise only what its parent has alike.

        A child wrote the manifest, so it is not believed.

        Raises
        ------
        SourceRejected
            ``unsafe`` for any other file; ``digest-mismatch`` when one has changed since it was hashed.
        """
        ordered = {Lying.of(each): each for each in staging.held}
        for key, entry in entries.items():
            if entry.source is not None and entry.source not in ordered and held.get(key) != entry:
                raise SourceRejected(f"{key!r} points into a file that is no source of the version", reason="unsafe")
        used = {entry.source for entry in entries.values() if entry.source is not None}
        if lost := used - ordered.keys() - files.keys():
            raise _corrupt(f"it does not say where {min(lost).name!r} is", staging.dataset_id, str(staging.parent))
        sources = [(ordered.get(each) or files[each]) for each in sorted(used)]
        for each in sources:
            try:
                parts.check_source(each, self.roots, self.objects)
            except SourceChanged as error:
                name = Path(each.path).name
                if each in staging.held:
                    raise SourceRejected.changed(name) from error
                raise
        return sources

    def _share(self, shared: list[str], entries: Entries, held: Entries, source: Path, target: Path, staging: Staging) -> None:
        """Share objects of the parent. Only equal entries of the parent's own manifest count, not other files in its folder."""
        where = staging.dataset_id, str(staging.parent)
        for key in shared:
            if held.get(key) != entries[key]:
                raise SourceRejected(
                    f"{key!r} is in the manifest, but was not written and does not belong to the parent", reason="unsafe"
                )
        with contextlib.closing(Levels(source)) as from_, contextlib.closing(Levels(target, self.disk)) as to:
            for folder, keys in by_folder(shared):
                made = to.open(folder.parts)
                try:
                    old = from_.open(folder.parts)
                    for key in keys:
                        self._link(key, entries, old, made, where)
                except (FileNotFoundError, NotADirectoryError) as error:
                    raise _corrupt(f"an object in {folder.as_posix()!r} is missing", *where) from error

    def _link(self, key: str, entries: Entries, old: int, made: int, where: tuple[str, str]) -> None:
        name = key.rpartition("/")[2]
        status = os.stat(name, dir_fd=old, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode) or status.st_size != entries[key].size:
            raise _corrupt(f"{key!r} has a different size than was written", *where)
        try:
            self.disk.link(name, name, source_fd=old, target_fd=made)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(name, key, entries, old, made, where)

    def _copy(self, name: str, key: str, entries: Entries, old: int, made: int, where: tuple[str, str]) -> None:
        data = b""
        with os.fdopen(os.open(name, FILE, dir_fd=old), "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != entries[key].sha256:
            raise _corrupt(f"{key!r} has different bytes than were written", *where)
        self.disk.write(name, data, folder_fd=made)

    def sync(self, staging: Staging) -> None:
        """Sync each new file, then each folder; or call syncfs once. An error abandons the version.

        A file that is shared with the parent was synced with the parent and did not change since, so only its new name is synced.
        Many are synced at the same time, because each waits for the disk, and the file system commits them together. Their order
        does not matter: nobody looks at them before :meth:`publish`.
        """
        with store_errors("make the data durable"):
            made, files = _to_sync(staging.root / "data", shares=staging.parent is not None)
            if len(made) + len(files) > _SINGLY:
                passing("fsync:half")
                with descriptor(staging.root, FOLDER) as opened:
                    self.disk.sync_all(opened)
                return
            half = len(files) // 2
            self._each(partial(_sync, self.disk, FILE), files[:half])
            passing("fsync:half")
            self._each(partial(_sync, self.disk, FILE), files[half:])
            self._each(partial(_sync, self.disk, FOLDER), made)

    def _each(self, sync: Callable[[str], None], paths: Sequence[str]) -> None:
        """Call *sync* for each path, in threads that are kept. Every call has returned before the first error is raised."""
        shares = [paths[n::_SYNCS] for n in range(min(_SYNCS, len(paths)))]
        running = [self._pool.submit(_call, sync, share) for share in shares[1:]]
        try:
            _call(sync, shares[0] if shares else ())
        finally:
            wait(running)
        for each in running:
            each.result()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_SYNCS - 1, thread_name_prefix="sync")

    def publish(self, staging: Staging) -> str:
        """Rename the version to ``store/<dataset>/<version>`` and sync the folders. Return an empty reference, because the ids say
        where it is.

        Raises
        ------
        TargetExists
            If the version already exists. A rename onto an empty folder would otherwise succeed silently.
        """
        final = self.version(staging.dataset_id, staging.version_id)
        with store_errors("publish the data"):
            with contextlib.suppress(FileExistsError):
                self.disk.make_folder(final.parent)
            if os.path.lexists(final):
                raise TargetExists("this version is already in the store", version_id=staging.version_id)
            self.disk.rename(staging.root / "data", final)
            folders = [str(final.parent), str(staging.root)]
            if staging.parent is None:
                # The folder of the dataset may have existed: its maker may have died before syncing its name. Where a version is
                # built on another, that one was committed, and its name and those above it were synced before.
                folders.append(str(final.parents[1]))
            self._each(partial(_sync, self.disk, FOLDER), folders)
        return ""

    def take_copy(self, staging: Staging) -> tuple[int, str]:
        """Move the copy that a child wrote to ``data``, read-only, and return its size and its sha256.

        Raises
        ------
        SourceRejected
            ``unsafe``, if it is not a regular file.
        """
        made = staging.new / COPY
        with store_errors("take in the copy"), os.fdopen(os.open(made, FILE), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise SourceRejected(f"{COPY} is not the file of one name that was to be written", reason="unsafe")
            os.fchmod(file.fileno(), READ_ONLY)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            self.disk.rename(made, staging.root / "data" / COPY)
        return status.st_size, sha256

    def beside_copy(self, staging: Staging) -> Sequence[Mapping[str, Any]]:
        """Return how to undo :meth:`publish_copy`."""
        final = self.version(staging.dataset_id, staging.version_id)
        return [self.compensation(final / COPY, staging.root / "data" / COPY)]

    def publish_copy(self, staging: Staging) -> None:
        """Move the copy next to the cube of the version, and sync its folder.

        What a killed process left there is moved away first: the catalog does not name it.
        """
        final, made = self.version(staging.dataset_id, staging.version_id), staging.root / "data"
        with store_errors("publish the copy"):
            if os.path.lexists(final / COPY):
                self.disk.rename(final / COPY, staging.root / f"left-{COPY}")
            self.disk.rename(made / COPY, final / COPY)
            _sync_folder(self.disk, final)
            _sync_folder(self.disk, made)

    def folder(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of a version; see :class:`~cubeport.service.ports.AddsOverviews`."""
        return self.version(dataset_id, version_id)

    def beside(self, staging: Staging) -> Sequence[Mapping[str, Any]]:
        """Return how to undo :meth:`publish_overviews`: the manifest first, so that no manifest is without its objects."""
        final, made = self.version(staging.dataset_id, staging.version_id), staging.root / "data"
        return [self.compensation(final / each, made / each) for each in (OVERVIEWS, OVERVIEWS_MANIFEST)]

    def publish_overviews(self, staging: Staging) -> None:
        """Move the assembled overviews next to the cube of the version, and sync its folder.

        What a killed process left there is moved away first: the catalog does not name it.
        """
        final, made = self.version(staging.dataset_id, staging.version_id), staging.root / "data"
        with store_errors("publish the overviews"):
            for each in (OVERVIEWS_MANIFEST, OVERVIEWS):
                if os.path.lexists(final / each):
                    self.disk.rename(final / each, staging.root / f"left-{each}")
            self.disk.rename(made / OVERVIEWS, final / OVERVIEWS)
            passing("publish:half")
            self.disk.rename(made / OVERVIEWS_MANIFEST, final / OVERVIEWS_MANIFEST)
            _sync_folder(self.disk, final)
            _sync_folder(self.disk, made)


class _Held(NamedTuple):
    """A version in memory."""

    cube: str
    """The tree's folder."""
    entries: Entries
    sources: Mapping[Lying, Pointed]
    is_remote: bool
    """Whether some of them are objects of a store."""


class Reader:
    """Reads versions below *data*.

    Parameters
    ----------
    entries
        How many manifest entries to cache, about 200 bytes each. A version never changes.
    roots
        The folders that may contain files of virtual versions, as absolute paths.
    objects
        Reads the objects of stores into which such versions point.
    """

    def __init__(
        self,
        data: Path,
        *,
        entries: int = 500_000,
        roots: Sequence[Path] = (),
        objects: StoreObjects | None = None,
        tree: str = CUBE,
        manifest: str = MANIFEST,
    ) -> None:
        self._data = data
        self._roots = tuple(roots)
        self._objects = objects
        self._tree, self._manifest = tree, manifest
        self._coarser = Reader(data, entries=entries // 4, tree=OVERVIEWS, manifest=OVERVIEWS_MANIFEST) if tree == CUBE else None
        self._most = entries
        self._manifests: Bounded[tuple[str, str], _Held] = Bounded(entries)

    @classmethod
    def at(cls, place: Place) -> Reader:
        """Return the reader of an instance."""
        return cls(place.data, roots=place.roots, objects=place.objects)

    def waits(self, dataset_id: str, version_id: str) -> bool:
        """Return whether the version points into objects of a store; everything else is on this machine."""
        return self._held(dataset_id, version_id).is_remote

    def path(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of the published tree."""
        return version_place(self._data, dataset_id, version_id) / CUBE

    def place(self, dataset_id: str, version_id: str, key: str) -> str | None:
        """Return the path of the object below ``store/``; ``None`` for a chunk in a source, which must be compared first."""
        entry = self._held(dataset_id, version_id).entries.get(key)
        if entry is not None and entry.source is not None:
            return None
        return f"{dataset_id}/{version_id}/{CUBE}/{key}"

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return the object, or ``None`` if the manifest of the version does not list the key.

        Raises
        ------
        Corrupt
            If the manifest lists the object but the store does not have it, or its size differs. Absent is not unreadable.
        StoreUnavailable
            If the store cannot be read.
        SourceChanged
            If it is in a source that is missing or has changed.
        """
        cube, entries, sources, _ = self._held(dataset_id, version_id)
        entry = entries.get(key)
        if entry is None:
            return None
        if entry.source is not None:
            return parts.opened(entry, sources, self._roots, self._objects)
        with store_errors("read an object"):
            try:
                opened = open_file(cube, key)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _corrupt(f"{key!r} is missing", dataset_id, version_id) from error
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise _corrupt(f"{key!r} is reached by a link", dataset_id, version_id) from error
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
                os.close(opened)
                raise _corrupt(f"{key!r} has a different size than was written", dataset_id, version_id)
            file = cast("BinaryIO", io.FileIO(opened))  # os.fdopen asks the kernel again what the file is
            return StoredObject(file=file, size=entry.size, digest=entry.sha256)

    def overview(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return an object of the version's overviews, whose keys begin with the level; raises as :meth:`read`."""
        assert self._coarser is not None
        return self._coarser.read(dataset_id, version_id, key)

    def local(self, dataset_id: str, version_id: str, scratch: Path) -> tuple[Path, None]:  # noqa: ARG002 (everything is here)
        """Return the folder of the version, which has all its objects."""
        return version_place(self._data, dataset_id, version_id), None

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return ``manifest.json`` as stored. Raises Corrupt if it is missing."""
        with store_errors("read a manifest"):
            return _manifest(version_place(self._data, dataset_id, version_id), dataset_id, version_id)

    def copy(self, dataset_id: str, version_id: str) -> StoredObject:
        """Return the NetCDF-4 copy of a version that has one. Raises Corrupt if it is missing."""
        place = version_place(self._data, dataset_id, version_id)
        with store_errors("read a copy"):
            path = Path(os.path.realpath(self._data), *place.relative_to(self._data).parts, COPY)
            try:
                file = os.fdopen(os.open(path, FILE), "rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _corrupt("its NetCDF copy is missing", dataset_id, version_id) from error
            return StoredObject(file, os.fstat(file.fileno()).st_size, "")

    def _held(self, dataset_id: str, version_id: str) -> _Held:
        """Return what is kept in memory of the version."""
        name = dataset_id, version_id
        held = self._manifests.get(name)
        if held is None:
            with store_errors("read a manifest"):
                place = version_place(self._data, dataset_id, version_id)
                # The path to the data folder may contain links; paths below it may not (see `open_file`).
                root = Path(os.path.realpath(self._data), *place.relative_to(self._data).parts, self._tree)
                found = _entries(place, dataset_id, version_id, self._manifest)
                sources = _sources(place, dataset_id, version_id)
                held = _Held(str(root), found, sources, any(isinstance(each, StoreObject) for each in sources.values()))
            # At least one manifest is kept, whatever its length, because it is needed again immediately.
            self._manifests.put(name, held, min(len(held.entries), self._most))
        return held


class Lister:
    """Lists, checks and removes the versions below *data*. It makes no folders, so a read-only instance can use it too."""

    profile: str | None = None

    def __init__(
        self, data: Path, disk: Disk | None = None, *, roots: Sequence[Path] = (), objects: StoreObjects | None = None
    ) -> None:
        self._data = data
        self._disk = disk or Disk()
        self._roots = tuple(roots)
        self._objects = objects

    @classmethod
    def at(cls, place: Place) -> Lister:
        """Return the lister of an instance."""
        return cls(place.data, roots=place.roots, objects=place.objects)

    def staged(self) -> list[Listed]:
        """Return the folders of ``staging``."""
        return staged(self._data)

    def versions(self) -> list[tuple[str, Listed]]:
        """Return the dataset and the folder of every version."""
        with store_errors("list the store"):
            return [
                (dataset.name, Listed.of(self._data, each))
                for dataset in folders(self._data / "store")
                for each in folders(dataset)
            ]

    def size(self, path: str) -> int:
        """Return the total size of everything below *path* in bytes."""
        return size(self._data / path)

    def occupied(self, dataset_id: str) -> Occupied:
        """Return the size of the dataset's versions. Files shared by hard links are counted once."""
        versions: dict[str, tuple[int, int]] = {}
        seen: set[int] = set()
        total = 0
        with store_errors("measure the versions of a dataset"):
            for folder in folders(version_place(self._data, dataset_id, "0" * 32).parent):
                size = own = 0
                for top, _, names in os.walk(folder):
                    for name in names:
                        found = (Path(top) / name).lstat()
                        size += found.st_size
                        own += found.st_size if found.st_nlink == 1 else 0
                        if found.st_nlink == 1 or found.st_ino not in seen:
                            total += found.st_size
                        if found.st_nlink > 1:
                            seen.add(found.st_ino)
                versions[folder.name] = size, own
        return Occupied(total, versions)

    def faults(
        self, path: str, *, digest: str, data: bool, after: str = "", copy: tuple[int, str] | None = None
    ) -> Iterator[tuple[str | None, str]]:
        """Yield each key of the version at *path* in order, with the kind of its difference from the manifest, or ``None``.
        A source that is not what it was is reported once, with the first of its chunks.

        Parameters
        ----------
        digest
            The sha256 of the manifest that the catalog recorded. A manifest with another sha256 is not trusted.
        data
            Whether to read every byte too.
        after
            Check only keys after this one. The manifest is always checked.
        copy
            The size and the sha256 of the NetCDF-4 copy that the catalog names, if it names one.
        """
        folder = self._data / path
        with store_errors("read a version"):
            try:
                manifest = (folder / MANIFEST).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                yield "missing-object", MANIFEST
                return
            if hashlib.sha256(manifest).hexdigest() != digest:
                yield "digest-differs", MANIFEST
                return
            entries = dict(parse(manifest))
            there = dict(_objects(folder / CUBE))
            coarser, held = _overviews(folder)
            if coarser is None:
                yield "not-a-manifest", OVERVIEWS_MANIFEST
            entries |= coarser or {}
            there |= held | {key: size for key, size in _objects(folder) if key == COPY}
            if copy is not None:
                entries[COPY] = Entry(*copy)
            sources, known = _sources(folder, folder.parent.name, folder.name), dict[Lying, str | None]()
            for key in sorted(key for key in entries.keys() | there.keys() if key > after):
                entry = entries.get(key)
                if entry is not None and entry.source is not None:
                    first = entry.source not in known
                    fault = self._fault_of(entry, sources, known, data=data)
                    if fault is not None and fault == known[entry.source] and not first:
                        fault = None  # reported with the first of its chunks
                    yield "extra-object" if key in there else fault, key
                elif key not in there:
                    yield "missing-object", key
                elif key not in entries:
                    yield "extra-object", key
                elif there[key] != entries[key].size:
                    yield "size-differs", key
                elif data and _sha256(self._data / self.object(path, key)) != entries[key].sha256:
                    yield "digest-differs", key
                else:
                    yield None, key

    def _fault_of(
        self, entry: Entry, sources: Mapping[Lying, Pointed], known: dict[Lying, str | None], *, data: bool
    ) -> str | None:
        """Return what is wrong with a chunk that lies in a source; *known* has what was found of each source."""
        assert entry.source is not None, "the caller has asked"
        if entry.source not in known:
            known[entry.source] = self._fault_of_source(sources.get(entry.source))
        if (fault := known[entry.source]) is not None or not data:
            return fault
        try:
            with parts.opened(entry, sources, self._roots, self._objects).file as file:
                digest = hashlib.file_digest(cast("io.FileIO", file), "sha256").hexdigest()
        except SourceChanged:  # between the look at it and this read
            return "source-changed"
        except StoreUnavailable:  # it gives other bytes than its ETag stands for, or has just gone
            return "source-unavailable"
        return None if digest == entry.sha256 else "digest-differs"

    def _fault_of_source(self, source: Pointed | None) -> str | None:
        if source is None:
            return "missing-object"  # nobody knows where it is any more
        try:
            parts.check_source(source, self._roots, self._objects)
        except StoreUnavailable:
            return "source-unavailable"
        except SourceChanged as error:
            return "source-missing" if error.members.get("missing") else "source-changed"
        return None

    def source(self, path: str, key: str) -> str | None:
        """Return the name of the file or object that contains a chunk; ``None`` if it is in the version itself."""
        entry = parse((self._data / path / MANIFEST).read_bytes()).get(key)
        return entry.source.name if entry is not None and entry.source is not None else None

    def sources(self, path: str) -> dict[str, str]:
        """Return the files and objects that the version points into, each as a request names it, with its sha256."""
        pointed = sources_of(self._data / path).values()
        return {f"store:{each.profile}/{each.key}" if isinstance(each, StoreObject) else each.path: each.sha256 for each in pointed}

    def object(self, path: str, key: str) -> str:
        """Return the path of an object of the version at *path*."""
        return f"{path}/{key}" if key == COPY or key.startswith(f"{OVERVIEWS}/") else f"{path}/{CUBE}/{key}"

    def strays(self) -> Iterator[str]:
        """Yield the paths in ``store`` that are neither the folder of a dataset or version nor a part of a cube."""
        with store_errors("list the store"):
            store = self._data / "store"
            for each in _strays(store):
                yield each.relative_to(self._data).as_posix()

    def drop(self, dataset_id: str, version_id: str) -> None:
        """Move the version to ``staging/trash-<version>`` and remove it. Idempotent, also after a kill in between."""
        final = version_place(self._data, dataset_id, version_id)
        trash = self._data / "staging" / f"trash-{version_id}"
        with store_errors("remove a version"):
            if final.exists():
                with step("trash"):
                    self._disk.rename(final, trash)
                    _sync_folder(self._disk, final.parent)
                    _sync_folder(self._disk, trash.parent)
            remove(trash)

    def datasets(self) -> Sequence[str]:
        """Return no datasets: :meth:`drop` frees everything."""
        return ()

    def is_unnamed(self, dataset_id: str, version_id: str) -> bool:  # noqa: ARG002 (that of the port)
        """Return False: the folder of a version is its name."""
        return False

    def collect(self, dataset_id: str, keep: Collection[str] = (), *, dry_run: bool = False) -> int:  # noqa: ARG002 (that of the port)
        """Return 0: :meth:`drop` has freed everything."""
        return 0


def _overviews(folder: Path) -> tuple[Entries | None, dict[str, int]]:
    """Return what the manifest of a version's overviews lists and what there is, by keys that begin with their folder.

    Without overviews both are empty. The first is ``None`` where the manifest is not one of ours.
    """
    try:
        listed = parse((folder / OVERVIEWS_MANIFEST).read_bytes())
    except FileNotFoundError:
        return {}, {f"{OVERVIEWS}/{key}": size for key, size in _objects(folder / OVERVIEWS)}
    except ValueError:
        return None, {}
    there = {f"{OVERVIEWS}/{key}": size for key, size in _objects(folder / OVERVIEWS)}
    return {f"{OVERVIEWS}/{key}": entry for key, entry in listed.items()}, there


def _strays(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield everything above the versions that is not a folder, and everything inside a version that is neither cube nor
    manifest.
    """
    if not folder.is_dir():
        return
    for each in sorted(folder.iterdir()):
        if depth == 2:
            if each.name not in (CUBE, MANIFEST, OVERVIEWS, OVERVIEWS_MANIFEST, SOURCES, COPY):
                yield each
        elif each.is_symlink() or not each.is_dir():
            yield each
        elif depth < 2 and (depth == 0 or is_id(each.name)):
            yield from _strays(each, depth + 1)


_NO_LINK = frozenset({errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of a file system that cannot link a file, because it has too many names (65,000 on ext4) or links are not supported."""


def _corrupt(what: str, dataset_id: str, version_id: str) -> Corrupt:
    return Corrupt(
        f"version {version_id} of {dataset_id} is damaged: {what}",
        next_step="cubeport fsck --data",
        dataset_id=dataset_id,
        version_id=version_id,
    )


def _manifest(place: Path, dataset_id: str, version_id: str, name: str = MANIFEST) -> bytes:
    try:
        return read(place / name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _corrupt("its manifest is missing", dataset_id, version_id) from error


def _entries(place: Path, dataset_id: str, version_id: str, name: str = MANIFEST) -> Entries:
    try:
        return parse(_manifest(place, dataset_id, version_id, name))
    except ValueError as error:
        raise _corrupt("its manifest cannot be read", dataset_id, version_id) from error


def _sources(place: Path, dataset_id: str, version_id: str) -> Mapping[Lying, Pointed]:
    try:
        return sources_of(place)
    except ValueError as error:
        raise _corrupt("the list of its sources cannot be read", dataset_id, version_id) from error


def _probe(staging: Path, store: Path) -> None:
    """Rename a folder from one to the other, as publishing does."""
    name = f".probe-{os.getpid()}-{threading.get_ident()}"
    (staging / name).mkdir()
    try:
        (staging / name).rename(store / name)
    except OSError as error:
        (staging / name).rmdir()
        raise StoreUnavailable(
            "staging and store must be on the same file system", next_step="mount only one file system below the data folder"
        ) from error
    (store / name).rmdir()


def _call(function: Callable[[str], None], paths: Sequence[str]) -> None:
    for path in paths:
        function(path)


def _to_sync(top: Path, *, shares: bool) -> tuple[list[str], list[str]]:
    """Return the folders and the files below *top* that nobody has synced, or enough of them to know that there are many.

    Files that a version *shares* with its parent have more names than one.
    """
    made: list[str] = []
    files: list[str] = []
    for folder, _, names in os.walk(top):
        made.append(folder)
        paths = [f"{folder}/{name}" for name in names]
        files += [path for path in paths if os.lstat(path).st_nlink == 1] if shares else paths
        if len(made) + len(files) > _SINGLY:
            break
    return made, files


def _sync(disk: Disk, flags: int, path: str) -> None:
    with descriptor(path, flags) as opened:
        disk.sync(opened)


def _sync_folder(disk: Disk, folder: Path) -> None:
    _sync(disk, FOLDER, str(folder))


def _objects(cube: Path) -> Iterator[tuple[str, int]]:
    """Yield the key and size of everything in the tree. Anything but a regular file has the size -1, which no manifest contains."""
    for top, names, files in os.walk(cube):
        links = [name for name in names if (Path(top) / name).is_symlink()]
        for name in (*files, *links):
            each = Path(top) / name
            found = each.lstat()
            yield each.relative_to(cube).as_posix(), found.st_size if stat.S_ISREG(found.st_mode) else -1


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
