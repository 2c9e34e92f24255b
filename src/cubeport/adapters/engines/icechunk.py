"""The engine ``icechunk``. A dataset is a repository of Icechunk in an object store, and a version is a tag of a snapshot in it.

::

    <profile>/<dataset>/…                 the repository, as Icechunk writes it; the branch main is the newest version
    its tag v-<version>                   the snapshot of a version
    in a snapshot: <key>                  the cube, which any reader of Icechunk opens
                   .cubeport/manifest     the manifest of the version: its keys with sizes and sha256
                   .cubeport/overviews/…  the overviews of the cube
    <data>/staging/<operation>/…          where a version is made, on this machine

Icechunk compares neither the length nor the content of what it reads, so every object is compared with the manifest here. Readers
open the snapshot in the catalog, never a tag or a branch. What a dead writer leaves is garbage by construction: no tag names it.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import icechunk

from cubeport.adapters.engines import Place, documents, repositories
from cubeport.adapters.engines.disk import read
from cubeport.adapters.engines.manifest import CUBE, MANIFEST, OVERVIEWS, OVERVIEWS_MANIFEST, Entries, Entry, parse, trusted
from cubeport.adapters.engines.repositories import Repositories
from cubeport.adapters.engines.staging import Listed, StagingArea, checked_dataset, checked_id, size, staged
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.disk.failpoints import passing, step
from cubeport.cubes import keys
from cubeport.cubes.bounded import Bounded
from cubeport.cubes.write_request import Bring, Occupied, Staging, StoredObject
from cubeport.errors import Corrupt, DatasetBusy, InvalidConfiguration, SourceRejected, StoreUnavailable, TargetExists

HIDDEN = ".cubeport"
"""The part of a snapshot that is not of the cube. No group leads there, so readers of the cube do not see it."""

_SAMPLE = 100
"""Of the chunks that a version adds, one of so many is read back before it is published; and at least :data:`_LEAST`."""
_LEAST = 8

_PARENTS = 16
"""How many published versions a writer keeps open. Each has connections of its own."""

_OBJECTS_BYTES = 8 << 20
"""How many bytes of small objects a writer keeps."""
_SMALL = 128 << 10

_OPENED_AT_ONCE = 64
"""How many versions can be opened at the same time, at most."""

_TREES = ((CUBE, MANIFEST), (OVERVIEWS, OVERVIEWS_MANIFEST))


def _key(tree: str, key: str) -> str:
    """Return the key in a snapshot of an object of the cube or of its overviews."""
    return key if tree == CUBE else f"{HIDDEN}/overviews/{key}"


def _connected(place: Place) -> Repositories:
    if place.store is None:
        raise InvalidConfiguration(
            "The engine icechunk stores versions in an object store, and the setting profile names none.",
            next_step="name a profile of config/profiles.yaml that has `use: [data]` (config/service.yaml: profile)",
        )
    found: Repositories = place.store()
    return found


@dataclass
class Writer(StagingArea):
    """Makes versions as snapshots. The caller holds the lock of the dataset."""

    name = "icechunk"
    points = False

    store: Repositories = field(kw_only=True)
    references: Callable[[str], str] = field(kw_only=True)
    digests: Callable[[str], str] = field(kw_only=True)
    _made: dict[str, _Made] = field(default_factory=dict, init=False)
    """What each operation has made that is between :meth:`sync` and its end."""
    _parents: Bounded[str, _Held] = field(default_factory=lambda: Bounded(_PARENTS), init=False)
    """The versions that were published last, open: the next update of a dataset begins from one of them."""
    _objects: Bounded[str, bytes] = field(default_factory=lambda: Bounded(_OBJECTS_BYTES), init=False)
    """Small objects of parents by their sha256. Each update of a dataset reads the same coordinates."""

    @classmethod
    def at(cls, place: Place) -> Writer:
        """Return the writer of an instance. Raises InvalidConfiguration if ``profile`` is null."""
        return cls(place.data, roots=place.roots, store=_connected(place), references=place.references, digests=place.digests)

    def stage(
        self, operation_id: str, dataset_id: str, version_id: str, *, parent: str | None = None
    ) -> tuple[Staging, Sequence[Mapping[str, Any]]]:
        """Make ``staging/<op>`` with the metadata of the parent, and return it with the compensations to record."""
        self.set_up()
        if parent is None:
            self.store.demand(dataset_id)  # before the work, and while nothing would have to be undone there
        root = self._staging / checked_id(operation_id)
        with store_errors("make a staging folder"):
            self.disk.make_folder(root)
            for each in ("data", "source"):
                self.disk.make_folder(root / each)
        undo = [
            self.compensation(root, root),
            {"undo": "drop_tag", "path": _place(dataset_id, version_id), "proof": {"operation": operation_id}},
        ]
        base, bring = None, None
        if parent is not None:
            reader = Reader(self.store, self.references, self.digests, entries=0, objects=self._objects)
            if (held := self._parents.get(parent)) is not None:
                reader.keep(parent, held)
            base, bring = reader.local(dataset_id, checked_id(parent), root / "base")
        new, source = root / "new", root / "source"
        return (
            Staging(operation_id, dataset_id, version_id, root=root, new=new, source=source, parent=parent, base=base, bring=bring),
            undo,
        )

    def assemble(self, staging: Staging, *, overviews: bool = False) -> None:
        """Move the objects that the manifest lists, and only those, from ``new`` to ``data``. All others must be the parent's.

        Raises
        ------
        SourceRejected
            ``unsafe``, if the manifest is not valid, or lists what was not written and is not the parent's.
        """
        tree, listed = _TREES[overviews]
        with store_errors("take in the data"):
            manifest = read(staging.new / listed)
            entries = _parsed(manifest)
            held = _kept(staging, listed)
            written = self.adopt(staging, tree, entries)
            for key, entry in entries.items():
                if key not in written and held.get(key) != entry:
                    words = "is in the manifest, but was not written and does not belong to the parent"
                    raise SourceRejected(f"{key!r} {words}", reason="unsafe")
            self.disk.write(staging.root / "data" / listed, manifest)

    def sync(self, staging: Staging) -> None:
        """Send the version as a snapshot that nothing names, and compare what the store then has with its manifest.

        Raises
        ------
        StoreUnavailable
            If the store does not have every new object as it was sent. The version is then abandoned.
        """
        new, gone, manifests = self._changes(staging)
        self.store.make(staging.dataset_id)
        nodes = {key.removesuffix(f"/{keys.METADATA}"): path for key, (path, _) in new.items() if _is_metadata(key)}
        arrays = {node: content for node, path in nodes.items() if _is_array(content := path.read_bytes())}
        splits = repositories.splits(arrays, self.store.tuning.refs_per_manifest)
        repository = _there(self.store.writing(staging.dataset_id, splits))
        start = self.references(staging.parent) if staging.parent is not None else repositories.root_of(repository)
        session = self._session(repository)
        if session.snapshot_id != start:
            repositories.point_main(repository, start, there=session.snapshot_id)
            session = self._session(repository)
        if session.snapshot_id != start:
            raise DatasetBusy(f"Another process is writing {staging.dataset_id!r}.", next_step="try again")
        metadata, chunks = (
            [(key, path.read_bytes) for key, (path, _) in new.items() if _is_metadata(key) == wanted] for wanted in (True, False)
        )
        repositories.delete_all(session, gone)
        for each in sorted(metadata, key=lambda item: item[0].count("/")):
            repositories.set_all(session, [each])
        repositories.set_all(session, _halfway(chunks))
        for _, listed in _TREES:
            if listed in manifests:
                documents.put(session, _node(listed), manifests[listed])
            else:
                documents.remove(session, _node(listed))
        snapshot = self._flush(repository, session, staging)
        # In its own caches are the snapshot and the manifests as they were sent, not as the store has them.
        anew = repositories.afresh(repository, session, snapshot)
        checked = self._check(anew, {key: entry for key, (_, entry) in new.items()})
        held = _Held.of(checked, manifests[MANIFEST], manifests.get(OVERVIEWS_MANIFEST))
        self._made[staging.operation_id] = _Made(snapshot, start, repository, held)

    @staticmethod
    def _session(repository: icechunk.Repository) -> icechunk.Session:
        with repositories.errors("begin a version"):
            return repository.writable_session(repositories.MAIN)

    def _changes(self, staging: Staging) -> tuple[dict[str, tuple[Path, Entry]], list[str], dict[str, bytes]]:
        """Return the new objects, the keys of the parent that are gone, and the manifests of the version."""
        new: dict[str, tuple[Path, Entry]] = {}
        gone: list[str] = []
        manifests: dict[str, bytes] = {}
        for tree, listed in _TREES:
            folder = staging.root / "data"
            if (folder / listed).exists():
                manifests[listed] = manifest = read(folder / listed)
                entries = _parsed(manifest)
            else:
                entries = {}
            for key, entry in entries.items():
                if (path := folder / tree / key).is_file():
                    new[_key(tree, key)] = path, entry
            gone += [_key(tree, key) for key in _kept(staging, listed) if key not in entries]
        return new, gone, manifests

    def _flush(self, repository: icechunk.Repository, session: icechunk.Session, staging: Staging) -> str:
        said = {"operation": staging.operation_id, "dataset": staging.dataset_id, "version": staging.version_id}
        with repositories.errors("store a version"):
            try:
                return session.flush(f"version {staging.version_id}", metadata=said)
            except icechunk.IcechunkError:
                # An error does not show whether it happened: the operation in the metadata of the snapshot does.
                found = repositories.snapshot_of(repository, staging.operation_id)
                if found is None:
                    raise
                return found

    def _check(self, session: icechunk.Session | None, entries: Mapping[str, Entry]) -> icechunk.Session:
        """Compare the size of every new object, and the bytes of all metadata and of a sample of the chunks. Return the session
        that read them.
        """
        if session is None:
            raise StoreUnavailable("The store does not have the snapshot that was sent.", next_step="try again")
        found = repositories.sizes(session, entries)
        wrong = [key for key, entry in entries.items() if found[key] != entry.size]
        chunks = sorted(key for key in entries if not _is_metadata(key))
        sample = chunks[:: max(1, min(_SAMPLE, len(chunks) // _LEAST))]

        def compare(key: str, content: bytes | None) -> None:
            if content is None or not _is(content, entries[key]):
                wrong.append(key)

        repositories.get_all(session, [*(entries.keys() - set(chunks)), *sample], compare)
        if wrong:
            raise StoreUnavailable(
                f"The store does not have {len(wrong)} objects of the version as they were sent.", next_step="try again"
            )
        return session

    def publish(self, staging: Staging) -> str:
        """Give the snapshot the tag of the version, and return its id.

        Raises
        ------
        TargetExists
            If the version already exists.
        """
        made, tag = self._made[staging.operation_id], repositories.tag_of(staging.version_id)
        snapshot, repository = made.snapshot, made.repository
        with step("pointer"), repositories.errors("publish a version"):
            try:
                repository.create_tag(tag, snapshot)
            except icechunk.IcechunkError as error:
                # An error does not show whether it happened: the tag does.
                there = repositories.tagged(repository, staging.version_id)
                if there is None:
                    if not isinstance(error, icechunk.AlreadyExistsError):
                        raise
                    # A version from another service comes again, after it was undone or found damaged. No tag is made twice.
                    repositories.tag_again(repository, staging.version_id, snapshot)
                elif there != snapshot:
                    raise TargetExists("this version is already in the store", version_id=staging.version_id) from error
        self._parents.put(staging.version_id, made.held)
        return snapshot

    def afterwards(self, staging: Staging, reference: str) -> Sequence[Mapping[str, Any]]:
        """Return the action that points ``main`` from where the version began to the version."""
        proof = {"snapshot": reference, "before": self._made[staging.operation_id].start}
        return [{"action": "point_main", "path": _place(staging.dataset_id, staging.version_id), "proof": proof}]

    def clear(self, staging: Staging) -> None:
        """Remove ``staging/<op>``. Idempotent."""
        self._made.pop(staging.operation_id, None)
        super().clear(staging)


class _Made(NamedTuple):
    """A version that was stored and compared, and is not committed yet."""

    snapshot: str
    start: str
    """The snapshot that it began from, and which ``main`` names until the commit."""
    repository: icechunk.Repository
    held: _Held


class _Held(NamedTuple):
    """A version that is open."""

    session: icechunk.Session
    trees: Mapping[str, Entries]
    """The entries of the cube and of its overviews."""
    manifest: bytes
    root: bytes
    """The consolidated metadata of the cube, which every reader needs first."""

    @classmethod
    def of(cls, session: icechunk.Session, manifest: bytes, coarser: bytes | None, root: bytes | None = None) -> _Held:
        """Return it with a manifest that was compared with its digest, and with the manifest of the overviews."""
        trees = {} if coarser is None else {OVERVIEWS: parse(coarser)}
        root = repositories.get(session, keys.METADATA) if root is None else root
        return cls(session, {CUBE: trusted(manifest), **trees}, manifest, root or b"")


class Reader:
    """Reads versions.

    Parameters
    ----------
    references
        Returns the snapshot of a version.
    digests
        Returns the sha256 of the manifest of a version, with which it is compared when it is opened.
    entries
        How many manifest entries to cache. A version never changes.
    objects
        Where small objects are kept, by their sha256; ``None`` keeps none.
    """

    def __init__(
        self,
        store: Repositories,
        references: Callable[[str], str],
        digests: Callable[[str], str],
        *,
        entries: int = 500_000,
        objects: Bounded[str, bytes] | None = None,
    ) -> None:
        self._store = store
        self._references = references
        self._digests = digests
        self._most = entries
        self._open: Bounded[str, _Held] = Bounded(max(1, entries))
        self._objects = Bounded[str, bytes](0) if objects is None else objects
        self._turns = tuple(threading.Lock() for _ in range(_OPENED_AT_ONCE))

    @classmethod
    def at(cls, place: Place) -> Reader:
        """Return the reader of an instance. Raises InvalidConfiguration if ``profile`` is null."""
        return cls(_connected(place), place.references, place.digests)

    def waits(self, dataset_id: str, version_id: str) -> bool:  # noqa: ARG002 (that of the port)
        """Return True: the store is another machine."""
        return True

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return the object, or ``None`` if the manifest of the version does not list the key.

        Raises
        ------
        Corrupt
            If the store does not have the object, or its bytes are not what was written. Absent is not unreadable.
        StoreUnavailable
            If the store cannot be read.
        """
        return self._read(CUBE, dataset_id, version_id, key)

    def overview(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return an object of the version's overviews, whose keys begin with the level; raises as :meth:`read`."""
        return self._read(OVERVIEWS, dataset_id, version_id, key)

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return ``manifest.json`` as it was sealed. Raises as :meth:`read`."""
        return self._held(dataset_id, version_id).manifest

    def place(self, dataset_id: str, version_id: str, key: str) -> None:  # noqa: ARG002 (there are no files)
        """Return ``None``: there are no files."""
        return

    def local(self, dataset_id: str, version_id: str, scratch: Path) -> tuple[Path, Bring]:
        """Make the folder *scratch* with the manifests and all metadata of a version. Return it, and the function that brings one
        other object below it, or below another folder with the same version.
        """
        held = self._held(dataset_id, version_id)
        with store_errors("make a folder for a version"):
            make_folders(scratch / CUBE)
            (scratch / MANIFEST).write_bytes(held.manifest)
            if OVERVIEWS in held.trees:
                (scratch / OVERVIEWS_MANIFEST).write_bytes(documents.get(held.session, _node(OVERVIEWS_MANIFEST)) or b"")
        for tree, entries in held.trees.items():
            wanted = {_key(tree, key): key for key in entries if _is_metadata(key)}

            def put(inner: str, content: bytes | None, tree: str = tree, wanted: Mapping[str, str] = wanted) -> None:
                key = wanted[inner]
                _write(scratch / tree / key, self._checked(content, held.trees[tree][key], key, dataset_id, version_id))

            repositories.get_all(held.session, wanted, put)

        def bring(folder: Path, key: str) -> None:
            found = self.read(dataset_id, version_id, key)
            if found is None:
                raise SourceRejected(f"{key[:200]!r} is not an object of the version", reason="unsafe")
            _write(folder / CUBE / key, found.file.read())

        return scratch, bring

    def _read(self, tree: str, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        held = self._held(dataset_id, version_id)
        entry = held.trees.get(tree, {}).get(key)
        if entry is None:
            return None
        content = held.root if tree == CUBE and key == keys.METADATA else self._objects.get(entry.sha256)
        if content is None:
            try:
                content = repositories.get(held.session, _key(tree, key))
            except Corrupt:
                content = None
        data = self._checked(content, entry, key, dataset_id, version_id)
        if len(data) <= _SMALL:
            self._objects.put(entry.sha256, data, len(data))
        return StoredObject(file=io.BytesIO(data), size=entry.size, digest=entry.sha256)

    def _checked(self, content: bytes | None, entry: Entry, key: str, dataset_id: str, version_id: str) -> bytes:
        if content is not None and len(content) == entry.size and _is(content, entry):
            return content
        # What is kept would stay damaged after the version was brought again from the service that it mirrors.
        self._open.drop(version_id)
        if content is None:
            raise self._lost(f"{key!r} is missing", dataset_id, version_id)
        if len(content) != entry.size:
            raise _corrupt(f"{key!r} has a different size than was written", dataset_id, version_id)
        raise _corrupt(f"{key!r} has different bytes than were written", dataset_id, version_id)

    def _lost(self, what: str, dataset_id: str, version_id: str) -> Corrupt:
        """Return the error of an object that the store says it does not have. Raises StoreUnavailable if the whole bucket is gone,
        which looks the same to Icechunk.
        """
        self._store.place.ask()
        return _corrupt(what, dataset_id, version_id)

    def keep(self, version_id: str, held: _Held) -> None:
        """Keep a version that is open."""
        weight = sum(map(len, held.trees.values()))
        self._open.put(version_id, held, min(weight, max(1, self._most)))

    def _held(self, dataset_id: str, version_id: str) -> _Held:
        """Return what is kept in memory of the version."""
        held = self._open.get(checked_id(version_id))
        if held is not None:
            return held
        # All readers come at once to a version that was committed a moment ago. One opens it, and the others wait for that.
        with self._turns[hash(version_id) % len(self._turns)]:
            held = self._open.get(version_id)
            if held is None:
                held = self._opened(dataset_id, version_id)
                self.keep(version_id, held)
            return held

    def _opened(self, dataset_id: str, version_id: str) -> _Held:
        repository = self._store.find(dataset_id)
        if repository is None:
            raise self._lost("its repository is missing", dataset_id, version_id)
        session = repositories.at(repository, self._references(version_id))
        if session is None:
            raise self._lost("its snapshot is missing", dataset_id, version_id)
        nodes = [_node(listed) for _, listed in _TREES]
        try:
            with repositories.errors("open a version"):
                read = (*(documents.fetch(session, node) for node in nodes), repositories.fetch(session, keys.METADATA))
                manifest, coarser, root = repositories.run(repositories.together(*read))
        except ValueError as error:
            raise _corrupt("its manifest cannot be read", dataset_id, version_id) from error
        except Corrupt as error:
            raise self._lost("its manifest is missing", dataset_id, version_id) from error
        if manifest is None:
            raise _corrupt("its manifest is missing", dataset_id, version_id)
        # One that was damaged may not list an object that there is, and readers take an absent chunk for fill values.
        if hashlib.sha256(manifest).hexdigest() != self._digests(version_id):
            raise _corrupt("its manifest has different bytes than were written", dataset_id, version_id)
        try:
            return _Held.of(session, manifest, coarser, root or b"")
        except ValueError as error:
            raise _corrupt("the manifest of its overviews cannot be read", dataset_id, version_id) from error


class Lister:
    """Lists, checks and removes versions. It makes no repository, so a read-only instance can use it too."""

    def __init__(self, data: Path, store: Repositories, references: Callable[[str], str]) -> None:
        self._data = data
        self._store = store
        self._references = references
        self.profile: str | None = store.place.profile

    @classmethod
    def at(cls, place: Place) -> Lister:
        """Return the lister of an instance. Raises InvalidConfiguration if ``profile`` is null."""
        return cls(place.data, _connected(place), place.references)

    def staged(self) -> list[Listed]:
        """Return the folders of ``staging``."""
        return staged(self._data)

    def versions(self) -> list[tuple[str, Listed]]:
        """Return the dataset and the tag of every version."""
        found = []
        for dataset_id in self._store.datasets():
            repository = self._store.fresh(dataset_id)
            if repository is None:
                continue
            for version_id in repositories.versions_of(repository):
                snapshot = repositories.tagged(repository, version_id)
                if snapshot is not None:
                    at = repositories.modified(repository, snapshot).timestamp()
                    found.append((dataset_id, Listed(_place(dataset_id, version_id), version_id, at)))
        return found

    def size(self, path: str) -> int:
        """Return the total size of the version, or of the folder in staging, at *path* in bytes."""
        if path.startswith("staging/"):
            return size(self._data / path)
        session = self._session(*_parts(path))
        return 0 if session is None else sum(each.size for entries in _trees(session).values() for each in entries.values())

    def occupied(self, dataset_id: str) -> Occupied:
        """Return the size of the dataset's versions. Objects that versions share are counted once.

        An object is its version's own if no other version has it under the same key.
        """
        repository = self._store.find(dataset_id)
        if repository is None:
            return Occupied(0, {})
        listed: dict[str, dict[tuple[str, str, str], int]] = {}
        for version_id in repositories.versions_of(repository):
            session = self._session(dataset_id, version_id)
            trees = {} if session is None else _trees(session)
            listed[version_id] = {
                (tree, key, entry.sha256): entry.size for tree, entries in trees.items() for key, entry in entries.items()
            }
        times: dict[tuple[str, str, str], int] = {}
        for entries in listed.values():
            for each in entries:
                times[each] = times.get(each, 0) + 1
        metadata = {each: size for entries in listed.values() for each, size in entries.items() if _is_metadata(each[1])}
        with repositories.errors("measure the versions of a dataset"):
            chunks = repository.chunk_storage_stats()
        versions = {
            version_id: (sum(entries.values()), sum(size for each, size in entries.items() if times[each] == 1))
            for version_id, entries in listed.items()
        }
        return Occupied(sum(metadata.values()) + chunks.native_bytes + chunks.inlined_bytes, versions)

    def faults(
        self,
        path: str,
        *,
        digest: str,
        data: bool,
        after: str = "",
        copy: tuple[int, str] | None = None,  # noqa: ARG002 (its versions have none)
    ) -> Iterator[tuple[str | None, str]]:
        """Yield each key of the version at *path* in order, with the kind of its difference from the manifest, or ``None``.

        Without *data*, the objects are compared with what the snapshot says of them. With it, every byte is read.
        """
        session = self._session(*_parts(path))
        manifest = None if session is None else _found(session, MANIFEST)
        if session is None or manifest is None:
            yield "missing-object", MANIFEST
            return
        if hashlib.sha256(manifest).hexdigest() != digest:
            yield "digest-differs", MANIFEST
            return
        entries = {_key(tree, key): each for tree, listed in _trees(session).items() for key, each in listed.items()}
        ours = tuple(f"{_node(listed)}/" for _, listed in _TREES)
        there = {key for key in repositories.keys_of(session) if not key.startswith(ours)}
        sizes = repositories.sizes(session, sorted(entries.keys() & there))
        for key in sorted(key for key in entries.keys() | there if key > after):
            if key not in there:
                yield "missing-object", key
            elif key not in entries:
                yield "extra-object", key
            elif sizes[key] != entries[key].size:
                yield "size-differs", key
            else:
                yield (_fault_of(session, key, entries[key]) if data else None), key

    def object(self, path: str, key: str) -> str:
        """Return the path of an object of the version at *path*."""
        return f"{path}/{key}"

    def strays(self) -> Iterator[str]:
        """Yield what is in the store and in no repository."""
        return self._store.strays()

    def drop(self, dataset_id: str, version_id: str) -> None:
        """Delete the tag of the version. :meth:`collect` removes what no other version has. Idempotent."""
        drop_tag(self._store, dataset_id, version_id)

    def datasets(self) -> Sequence[str]:
        """Return the datasets with a repository."""
        return self._store.datasets()

    def is_unnamed(self, dataset_id: str, version_id: str) -> bool:
        """Return whether the snapshot of a version is in the store, but no tag names it."""
        repository = self._store.fresh(dataset_id)
        return (
            repository is not None
            and repositories.tagged(repository, version_id) is None
            and repositories.at(repository, self._references(version_id)) is not None
        )

    def collect(self, dataset_id: str, keep: Collection[str] = (), *, dry_run: bool = False) -> int:
        """Remove what no version of the dataset has and is old enough, and return its size in bytes.

        A version of *keep* that somebody has taken the tag from gets another one first: Icechunk removes what no tag names.

        The caller holds the lock of the dataset, and no operation on it is open, because Icechunk also deletes what an open
        writer has sent.
        """
        repository = self._store.fresh(dataset_id)
        if repository is None:
            return 0
        if not dry_run:
            for version_id in keep:
                if self.is_unnamed(dataset_id, version_id):
                    repositories.tag_again(repository, version_id, self._references(version_id))
        now = self._store.now()
        cutoff = now - timedelta(hours=self._store.tuning.gc_cutoff_h)
        with repositories.errors("remove what no version has"):
            if not dry_run:
                repository.expire_snapshots(cutoff)
            summary = repository.garbage_collect(cutoff, dry_run=dry_run)
        return int(summary.bytes_deleted) + self._store.forget(dataset_id, now, dry_run=dry_run)

    def _session(self, dataset_id: str, version_id: str) -> icechunk.Session | None:
        repository = self._store.find(dataset_id)
        snapshot = None if repository is None else repositories.tagged(repository, version_id)
        return None if repository is None or snapshot is None else repositories.at(repository, snapshot)


def drop_tag(store: Repositories, dataset_id: str, version_id: str) -> None:
    """Delete the tag of a version. Ids are random, so the tag is that of the version. Idempotent, also if an answer was lost."""
    checked_id(version_id)
    repository = store.fresh(dataset_id)
    if repository is None or repositories.tagged(repository, version_id) is None:
        return
    tag = repositories.versions_of(repository).get(version_id, repositories.tag_of(version_id))
    with step("pointer"), repositories.errors("remove a version"):
        try:
            repository.delete_tag(tag)
        except icechunk.IcechunkError:
            if repositories.tagged(repository, version_id) is not None:
                raise


def undo_tag(store: Callable[[], Repositories], compensation: Mapping[str, Any]) -> None:
    """Undo the publication of a version: delete its tag, if it is there. Its snapshot is then garbage."""
    drop_tag(store(), *_parts(str(compensation["path"])))


def move_main(store: Callable[[], Repositories], action: Mapping[str, Any]) -> None:
    """Point ``main`` to a committed version, unless its tag is gone or a later version has moved it already."""
    dataset_id, version_id = _parts(str(action["path"]))
    repository = store().writing(dataset_id)
    proof = action["proof"]
    if repository is not None and "before" in proof:  # it is not in journals of older releases
        with suppress(DatasetBusy, icechunk.NotFoundError), step("pointer"):
            repositories.point_main(repository, proof["snapshot"], there=proof["before"])
            return
    history = [] if repository is None else repositories.history_of(repository, version_id)
    if repository is None or not history:
        return
    snapshot, parent, *older = history
    with step("pointer"):
        try:
            repositories.point_main(repository, snapshot, there=parent)
        except DatasetBusy:
            with repositories.errors("read the branch of a dataset"):
                there = repository.lookup_branch(repositories.MAIN)
            if there in older:  # the branch did not follow the version before
                repositories.point_main(repository, snapshot, there=there)


def _there(repository: icechunk.Repository | None) -> icechunk.Repository:
    if repository is None:
        raise StoreUnavailable("The repository that was made is not there.", next_step="try again")
    return repository


def _place(dataset_id: str, version_id: str) -> str:
    """Return the path of a version in lists and journals."""
    return f"store/{checked_dataset(dataset_id)}/{checked_id(version_id)}"


def _parts(path: str) -> tuple[str, str]:
    _, dataset_id, version_id = path.split("/")
    return checked_dataset(dataset_id), checked_id(version_id)


def _parsed(manifest: bytes) -> Entries:
    try:
        entries = parse(manifest)
    except ValueError as error:
        raise SourceRejected("the manifest that was written is not one of ours", reason="unsafe") from error
    for key, entry in entries.items():
        if entry.source is not None or key.startswith(f"{HIDDEN}/"):
            raise SourceRejected(f"{key!r} cannot be in a version of the engine icechunk", reason="unsafe")
    return entries


def _kept(staging: Staging, listed: str) -> Entries:
    """Return the entries of the parent."""
    if staging.base is None or not (staging.base / listed).exists():
        return {}
    return parse(read(staging.base / listed))


def _is_metadata(key: str) -> bool:
    return key == keys.METADATA or key.endswith(f"/{keys.METADATA}")


def _is_array(document: bytes) -> bool:
    return bool(json.loads(document).get("node_type") == "array")


def _halfway(things: Sequence[Any]) -> Iterator[Any]:
    for number, each in enumerate(things):
        if number == len(things) // 2:
            passing("fsync:half")
        yield each


def _is(content: bytes, entry: Entry) -> bool:
    return len(content) == entry.size and hashlib.sha256(content).hexdigest() == entry.sha256


def _write(path: Path, content: bytes) -> None:
    """Make a file whole or not at all, because a child may look for it at the same time."""
    with store_errors("bring an object"):
        make_folders(path.parent)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(content)
        part.rename(path)


def _node(listed: str) -> str:
    """Return where a manifest is in a snapshot."""
    return f"{HIDDEN}/{'manifest' if listed == MANIFEST else 'overviews-manifest'}"


def _found(session: icechunk.Session, listed: str) -> bytes | None:
    try:
        return documents.get(session, _node(listed))
    except (ValueError, Corrupt):
        return None


def _trees(session: icechunk.Session) -> dict[str, Entries]:
    found = {tree: _found(session, listed) for tree, listed in _TREES}
    return {tree: parse(each) for tree, each in found.items() if each is not None}


def _fault_of(session: icechunk.Session, key: str, entry: Entry) -> str | None:
    try:
        content = repositories.get(session, key)
    except Corrupt:
        content = None
    if content is None:
        return "missing-object"
    if len(content) != entry.size:
        return "size-differs"
    return None if _is(content, entry) else "digest-differs"


def _corrupt(what: str, dataset_id: str, version_id: str) -> Corrupt:
    return Corrupt(
        f"version {version_id} of {dataset_id} is damaged: {what}",
        next_step="cubeport fsck --data",
        dataset_id=dataset_id,
        version_id=version_id,
    )
