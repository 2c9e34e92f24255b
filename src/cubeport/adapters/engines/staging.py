"""The folders in which versions are made: one below ``staging`` for each operation. Its name and inode prove who made it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cubeport.adapters.engines.disk import READ_ONLY, Disk, remove
from cubeport.adapters.engines.manifest import Entries
from cubeport.adapters.engines.objects import StoreObjects
from cubeport.catalog.disk.durable import make_folders, store_errors
from cubeport.cubes.keys import SEGMENT
from cubeport.cubes.write_request import Staging
from cubeport.errors import PathEscapes, SourceRejected

_ID = re.compile(r"[0-9a-f]{32}")
_DATASET = re.compile(SEGMENT, re.ASCII)


@dataclass(frozen=True, slots=True)
class Listed:
    """A folder or file: its path relative to the data folder, its name, and the time of its last change."""

    path: str
    name: str
    modified_s: float

    @classmethod
    def of(cls, data: Path, place: Path, name: str | None = None) -> Listed:
        """Return the entry for *place* below *data*."""
        return cls(place.relative_to(data).as_posix(), name or place.name, place.lstat().st_mtime)


@dataclass
class StagingArea:
    """The part of a writer that all engines share. It makes and removes ``staging/<operation>``."""

    data: Path
    profile: str = "data"
    """The storage profile with the root *data*. Compensations name paths in it."""
    disk: Disk = field(default_factory=Disk)
    roots: Sequence[Path] = ()
    """The folders, absolute, in which files may lie that a version points into."""
    objects: StoreObjects | None = None
    """Reads the objects of stores that a version may point into."""

    def set_up(self) -> None:
        """Make the folder ``staging``. A server's start and :meth:`stage` call it, so that a dry run makes no folder. Idempotent.

        Raises
        ------
        StoreUnavailable
            If the folder cannot be made.
        """
        with store_errors("set up the data folder"):
            make_folders(self._staging)

    def claim(self, operation_id: str) -> Mapping[str, Any]:
        """Return how to undo ``staging/<op>`` before it is made. Its name alone proves that it is ours, because no other operation
        uses it.
        """
        place = self._staging / checked_id(operation_id)
        return {"undo": "remove_tree", "profile": self.profile, "path": place.relative_to(self.data).as_posix(), "proof": {}}

    def stage(
        self, operation_id: str, dataset_id: str, version_id: str, *, parent: str | None = None
    ) -> tuple[Staging, Sequence[Mapping[str, Any]]]:
        """Make ``staging/<op>`` and return it with the compensations to record in the journal before the first byte."""
        self.set_up()
        if parent is not None:
            checked_id(parent)
        final = self.version(dataset_id, version_id)
        root = self._staging / checked_id(operation_id)
        with store_errors("make a staging folder"):
            self.disk.make_folder(root)
            for each in ("data", "source"):
                self.disk.make_folder(root / each)
        undo = [
            # A renamed folder keeps its inode. It proves that the version's folder in the store is ours.
            self.compensation(root, root),
            self.compensation(final, root / "data"),
        ]
        base = None if parent is None else self.version(dataset_id, parent)
        new, source = root / "new", root / "source"
        staging = Staging(operation_id, dataset_id, version_id, root=root, new=new, source=source, parent=parent, base=base)
        return staging, undo

    def begin(self, staging: Staging) -> None:
        """Make ``new``, to which the gate's children write."""
        with store_errors("make a staging folder"):
            self.disk.make_folder(staging.new)

    def adopt(self, staging: Staging, tree: str, entries: Entries) -> frozenset[str]:
        """Move the *tree* that the children wrote from ``new`` to ``data`` as a whole, read-only, and return the keys of its
        objects.

        Raises
        ------
        SourceRejected
            ``unsafe``, if there is anything in it but the regular files that their entries describe.
        """
        new, target = staging.new / tree, staging.root / "data" / tree
        if not os.path.lexists(new):
            self.disk.make_folder(target)
            return frozenset()
        if not stat.S_ISDIR(os.lstat(new).st_mode):  # a walk would follow a link here
            raise SourceRejected(f"{tree} is no folder", reason="unsafe")
        found, made = set(), []
        for folder, inner, files, opened in os.fwalk(new, follow_symlinks=False):
            inside = "" if folder == str(new) else f"{folder.removeprefix(f'{new}/')}/"
            made.append(inside)
            for name in (*inner, *files):
                key, status = inside + name, os.stat(name, dir_fd=opened, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    continue
                entry = entries.get(key)
                if entry is None or entry.source is not None:
                    raise SourceRejected(f"{key[:200]!r} was written, but is not in the manifest", reason="unsafe")
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != entry.size:
                    raise SourceRejected(f"{key!r} is not the file in the manifest", reason="unsafe")
                os.chmod(name, READ_ONLY, dir_fd=opened)  # it is the file that was looked at
                found.add(key)
        above = {"" if each == Path() else f"{each}/" for key in found for each in Path(key).parents} | {""}
        mode = stat.S_IMODE(target.parent.stat().st_mode)  # a child makes folders that only its user can open
        for inside in reversed(made):  # the walk names parents first
            if inside in above:
                (new / inside).chmod(mode)
            else:  # what arrived in it is shared with the parent, or nothing did
                (new / inside).rmdir()
        self.disk.rename(new, target)
        return frozenset(found)

    def clear(self, staging: Staging) -> None:
        """Remove ``staging/<op>``. Idempotent."""
        with store_errors("remove a staging folder"):
            remove(staging.root)

    def afterwards(self, staging: Staging, reference: str) -> Sequence[Mapping[str, Any]]:  # noqa: ARG002 (that of a port)
        """Return what to do after the commit: nothing."""
        return ()

    def compensation(self, path: Path, made: Path) -> dict[str, Any]:
        """Return how to undo *path*, to which *made* will be renamed."""
        found = made.lstat()
        proof = {"device": found.st_dev, "inode": found.st_ino}
        return {"undo": "remove_tree", "profile": self.profile, "path": path.relative_to(self.data).as_posix(), "proof": proof}

    def version(self, dataset_id: str, version_id: str) -> Path:
        """Return the folder of a version in the store."""
        return version_place(self.data, dataset_id, version_id)

    @property
    def _staging(self) -> Path:
        return self.data / "staging"


def version_place(data: Path, dataset_id: str, version_id: str) -> Path:
    """Return the folder of a version below the data folder. Raises PathEscapes for names that are not ids."""
    return data / "store" / checked_dataset(dataset_id) / checked_id(version_id)


def checked_dataset(name: str) -> str:
    """Return *name* after checking its grammar again, because it becomes part of a path. Raises PathEscapes."""
    if not _DATASET.fullmatch(name):
        raise PathEscapes("not the name of a dataset")
    return name


def checked_id(name: str) -> str:
    """Return *name* after checking its grammar again, because it becomes part of a path. Raises PathEscapes."""
    if not _ID.fullmatch(name):
        raise PathEscapes("not the name of a version or an operation")
    return name


def staged(data: Path) -> list[Listed]:
    """Return the folders of ``staging``."""
    with store_errors("list the staging folder"):
        return [Listed.of(data, each) for each in folders(data / "staging")]


def folders(top: Path) -> list[Path]:
    """Return the folders in *top*, sorted, without links; an empty list if *top* is missing."""
    if not top.is_dir():
        return []
    return sorted(each for each in top.iterdir() if each.is_dir() and not each.is_symlink())


def size(path: Path) -> int:
    """Return the total size of everything below *path* in bytes."""
    total = 0
    with store_errors("measure a folder"):
        for top, _, names in os.walk(path):
            total += sum((Path(top) / name).lstat().st_size for name in names)
    return total
