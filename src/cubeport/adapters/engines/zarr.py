"""The engine ``zarr``: a version is a folder of plain Zarr files, written once, synced, renamed into place, never changed.

::

    <data>/staging/<operation>/new/…               what the children write: cube.zarr and manifest.json, still hostile
    <data>/staging/<operation>/data/…              what was verified, and nothing else
    <data>/store/<dataset>/<version>/cube.zarr/…   the served tree
    <data>/store/<dataset>/<version>/manifest.json its objects with their sizes and sha256
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from cubeport.adapters.engines.disk import Disk
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.catalog.disk.failpoints import passing, step
from cubeport.cubes.keys import CUBE, KEY, MANIFEST, NODE
from cubeport.cubes.orders import Staging, StoredObject
from cubeport.errors import Corrupt, InvalidRequest, PathEscapes, SourceRejected, StoreUnavailable, TargetExists

_ID = re.compile(r"[0-9a-f]{32}")
_DATASET = re.compile(NODE)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_SINGLY = 2_000
"""Files and folders that are synced one by one; above, one syncfs is quicker (5 000 files: 0.15 against 1.1 s)."""
_CACHED_ENTRIES = 500_000
"""Entries of manifests that are kept in memory, some 200 bytes each."""

type Entries = Mapping[str, tuple[int, str]]
"""Size and sha256 of every object by its key."""


@dataclass
class ZarrEngine:
    """Versions as folders below *data*; staging and store lie on one file system, which is tried out here.

    Raises
    ------
    StoreUnavailable
        If the folders cannot be made, or nothing can be renamed from one into the other.
    """

    data: Path
    profile: str = "data"
    """The storage profile whose root *data* is: compensations name places in it."""
    disk: Disk = field(default_factory=Disk)
    name: str = field(default="zarr", init=False)
    _manifests: OrderedDict[tuple[str, str], tuple[str, Entries]] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        with store_errors("set up the data folder"):
            for each in (self._staging, self._store):
                make_folders(each)
            _probe(self._staging, self._store)

    @property
    def _staging(self) -> Path:
        return self.data / "staging"

    @property
    def _store(self) -> Path:
        return self.data / "store"

    # --- making a version, in the order of safety.md 6 -----------------------------------------------------------------

    def claim(self, operation_id: str) -> Mapping[str, Any]:
        """Return how to undo ``staging/<op>`` before it is made: its name alone proves it ours, since no other operation has it."""
        place = self._staging / _checked(_ID, operation_id)
        return {"undo": "remove_tree", "profile": self.profile, "path": place.relative_to(self.data).as_posix(), "proof": {}}

    def stage(self, operation_id: str, dataset_id: str, version_id: str) -> tuple[Staging, Sequence[Mapping[str, Any]]]:
        """Make ``staging/<op>`` (step 4) and return it with the compensations to journal before the first byte."""
        final = self._version(dataset_id, version_id)
        root = self._staging / _checked(_ID, operation_id)
        with store_errors("make a staging folder"):
            self.disk.make_folder(root)
            for each in ("data", "source"):
                self.disk.make_folder(root / each)
        undo = [
            # The folder that is renamed keeps its inode: it proves ours what lies in the store under the version's name.
            self._compensation(root, root),
            self._compensation(final, root / "data"),
        ]
        return Staging(operation_id, dataset_id, version_id, root=root, new=root / "new", source=root / "source"), undo

    def _compensation(self, path: Path, made: Path) -> dict[str, Any]:
        found = made.lstat()
        proof = {"device": found.st_dev, "inode": found.st_ino}
        return {"undo": "remove_tree", "profile": self.profile, "path": path.relative_to(self.data).as_posix(), "proof": proof}

    def begin(self, staging: Staging, parent: str | None) -> None:
        """Step 5: make ``new``. Raises InvalidRequest for a parent: this engine makes whole versions only."""
        if parent is not None:
            raise InvalidRequest("the engine zarr makes whole versions; it cannot build on a parent", parent=parent)
        with store_errors("make a staging folder"):
            self.disk.make_folder(staging.new)

    def assemble(self, staging: Staging) -> None:
        """Step 9: take the keys of the manifest, and only those, from ``new`` into ``data``.

        Raises
        ------
        SourceRejected
            ``unsafe``, when the manifest is not one of ours, or an object is not the plain file that it says.
        """
        with store_errors("take in the data"):
            manifest = _read(staging.new / MANIFEST)
            try:
                entries = _parsed(manifest)
            except ValueError as error:
                raise SourceRejected("the manifest that was written is not one of ours", reason="unsafe") from error
            self._move(entries, staging.new / CUBE, staging.root / "data" / CUBE)
            self.disk.write(staging.root / "data" / MANIFEST, manifest)

    def _move(self, entries: Entries, source: Path, target: Path) -> None:
        self.disk.make_folder(target)
        for folder, keys in _by_folder(entries):
            for each in reversed([folder, *folder.parents][:-1]):
                with contextlib.suppress(FileExistsError):
                    self.disk.make_folder(target / each)
            with _opened(source, folder.parts) as old, _opened(target, folder.parts) as new:
                for key in keys:
                    name = key.rpartition("/")[2]
                    status = os.stat(name, dir_fd=old, follow_symlinks=False)
                    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != entries[key][0]:
                        raise SourceRejected(f"{key!r} is not the file that the manifest says", reason="unsafe")
                    self.disk.rename(name, name, source_fd=old, target_fd=new)

    def sync(self, staging: Staging) -> None:
        """Step 10: files 0444; fsync each, then every folder, deepest first, or one syncfs. An error abandons the version."""
        with store_errors("make the data durable"):
            folders, files = [], []
            for top, _, names in os.walk(staging.root / "data"):
                folders.append(Path(top))
                files += [Path(top) / name for name in names]
            whole = len(folders) + len(files) > _SINGLY
            for done, each in enumerate(files):
                if done == len(files) // 2:
                    passing("fsync:half")
                with _descriptor(each, _FILE) as descriptor:
                    os.fchmod(descriptor, 0o444)
                    if not whole:
                        self.disk.sync(descriptor)
            if whole:
                with _descriptor(staging.root, _FOLDER) as descriptor:
                    self.disk.sync_all(descriptor)
                return
            for each in reversed(folders):  # os.walk gives parents first
                self._sync_folder(each)

    def publish(self, staging: Staging) -> None:
        """Step 12: rename into ``store/<dataset>/<V>``; fsync both folders.

        Raises
        ------
        TargetExists
            When the version is there already: a rename onto an empty folder would succeed in silence.
        """
        final = self._version(staging.dataset_id, staging.version_id)
        with store_errors("publish the data"):
            with contextlib.suppress(FileExistsError):
                self.disk.make_folder(final.parent)
            self._sync_folder(self._store)  # also when it was there: whether its maker lived to sync it, nobody knows
            if os.path.lexists(final):
                raise TargetExists("this version is in the store already", version_id=staging.version_id)
            self.disk.rename(staging.root / "data", final)
            self._sync_folder(final.parent)
            self._sync_folder(staging.root)

    def clear(self, staging: Staging) -> None:
        """Remove ``staging/<op>``; idempotent."""
        with store_errors("remove a staging folder"):
            _remove(staging.root)

    def drop(self, dataset_id: str, version_id: str) -> None:
        """Remove the version's bytes by way of ``staging/trash-<V>``; idempotent, also after a kill in between."""
        final = self._version(dataset_id, version_id)
        trash = self._staging / f"trash-{version_id}"
        with store_errors("remove a version"):
            if final.exists():
                with step("trash"):
                    self.disk.rename(final, trash)
                    self._sync_folder(final.parent)
                    self._sync_folder(self._staging)
            _remove(trash)
        with self._lock:
            self._manifests.pop((dataset_id, version_id), None)

    def _sync_folder(self, folder: Path) -> None:
        with _descriptor(folder, _FOLDER) as descriptor:
            self.disk.sync(descriptor)

    # --- reading a version ---------------------------------------------------------------------------------------------

    def path(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of the served tree for readers in this process."""
        return self._version(dataset_id, version_id) / CUBE

    def read(self, dataset_id: str, version_id: str, key: str) -> StoredObject | None:
        """Return the object, or ``None`` when the version's manifest does not list the key.

        Raises
        ------
        Corrupt
            When the manifest lists it and the store does not have it, or not in that size: absent is not unreadable.
        StoreUnavailable
            When the store cannot be read.
        """
        cube, entries = self._held(dataset_id, version_id)
        entry = entries.get(key)
        if entry is None:
            return None
        size, digest = entry
        *folders, name = key.split("/")
        with store_errors("read an object"):
            try:
                with _opened(cube, folders) as folder:
                    descriptor = os.open(name, _FILE, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _corrupt(f"{key!r} is missing", dataset_id, version_id) from error
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise _corrupt(f"{key!r} is reached by a link", dataset_id, version_id) from error
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                os.close(descriptor)
                raise _corrupt(f"{key!r} has another size than was written", dataset_id, version_id)
            return StoredObject(file=cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0)), size=size, digest=digest)

    def manifest(self, dataset_id: str, version_id: str) -> bytes:
        """Return ``manifest.json`` as it lies. Raises Corrupt where there is none."""
        with store_errors("read a manifest"):
            try:
                return _read(self._version(dataset_id, version_id) / MANIFEST)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _corrupt("its manifest is missing", dataset_id, version_id) from error

    def _held(self, dataset_id: str, version_id: str) -> tuple[str, Entries]:
        """Return the tree's folder and the manifest's entries; a version never changes, so they are kept while there is room."""
        name = dataset_id, version_id
        with self._lock:
            held = self._manifests.get(name)
            if held is not None:
                self._manifests.move_to_end(name)
                return held
        try:
            held = str(self.path(*name)), _parsed(self.manifest(*name))
        except ValueError as error:
            raise _corrupt("its manifest cannot be read", dataset_id, version_id) from error
        with self._lock:
            self._manifests[name] = held
            while len(self._manifests) > 1 and sum(len(entries) for _, entries in self._manifests.values()) > _CACHED_ENTRIES:
                self._manifests.popitem(last=False)
        return held

    def _version(self, dataset_id: str, version_id: str) -> Path:
        return self._store / _checked(_DATASET, dataset_id) / _checked(_ID, version_id)


def _checked(grammar: re.Pattern[str], name: str) -> str:
    """Return *name* once more held against its grammar: it becomes part of a path."""
    if not grammar.fullmatch(name):
        raise PathEscapes("not the name of a dataset, version or operation")
    return name


def _corrupt(what: str, dataset_id: str, version_id: str) -> Corrupt:
    return Corrupt(
        f"version {version_id} of {dataset_id} is damaged: {what}",
        next_step="cubeport fsck --data",
        dataset_id=dataset_id,
        version_id=version_id,
    )


def _probe(staging: Path, store: Path) -> None:
    """Rename a folder from one into the other, as publishing will."""
    name = f".probe-{os.getpid()}-{threading.get_ident()}"
    (staging / name).mkdir()
    try:
        (staging / name).rename(store / name)
    except OSError as error:
        (staging / name).rmdir()
        raise StoreUnavailable(
            "staging and store must lie on one file system", next_step="mount one file system below the data folder"
        ) from error
    (store / name).rmdir()


def _parsed(manifest: bytes) -> Entries:
    """Return the entries. Raises ValueError unless it is a manifest with keys by the grammar, each once, in order."""
    try:
        document = json.loads(manifest)
        entries = {each["key"]: (int(each["size"]), str(each["sha256"])) for each in document["entries"]}
        ordered = (
            document["algorithm"] == "sha256" and list(entries) == sorted(entries) and len(entries) == len(document["entries"])
        )
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError("not a manifest") from error
    if not ordered or not all(KEY.fullmatch(key) for key in entries):
        raise ValueError("not a manifest")
    return entries


def _by_folder(keys: Entries) -> Iterator[tuple[Path, list[str]]]:
    """Yield the keys of each folder, so that it is opened once."""
    grouped: dict[str, list[str]] = {}
    for key in keys:
        grouped.setdefault(key.rpartition("/")[0], []).append(key)
    for folder, held in grouped.items():
        yield Path(folder), held


@contextlib.contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(root: str | Path, folders: Sequence[str]) -> Iterator[int]:
    """Open the folder below *root*, step by step, following no link."""
    descriptor = os.open(root, _FOLDER)
    try:
        for each in folders:
            inner = os.open(each, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    with _descriptor(path, _FILE) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read()


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
