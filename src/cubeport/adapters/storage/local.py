"""A profile in the local file system. Files are created exclusively, synced, and published without replacing others."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import stat as modes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, Unpack

from cubeport.adapters.storage.settings import ConfiguredProfile, ProfileSettings
from cubeport.catalog.artifacts.storage import StoragePlan, Stored, part_path, suffixed
from cubeport.catalog.disk.durable import give_to_group, make_folder, make_folders, open_file, store_errors, sync, sync_folder
from cubeport.catalog.disk.failpoints import passing
from cubeport.catalog.models import LocalPathLocator, TargetKind
from cubeport.errors import ArtifactMissing, CubeportError, PathEscapes, StoreUnavailable, TargetExists

_TRIES = 20
"""How often a folder is made again after other processes removed it."""

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}


class LocalProfile(ConfiguredProfile):
    """Managed bytes below one folder."""

    unique_names = False

    def __init__(self, name: str, root: Path, **settings: Unpack[ProfileSettings]) -> None:
        super().__init__(name, **settings)
        self.root = root

    def locator(self, path: str) -> LocalPathLocator:
        """Return the locator of a path relative to the root."""
        return LocalPathLocator(path=path, profile=self.name)

    def check(self, path: str) -> None:
        """Raise PathEscapes if *path* resolves outside the root, by ``..`` or by a link on the way."""
        root = self.root.resolve()
        if not (root / path).parent.resolve().is_relative_to(root):
            raise PathEscapes(f"{path} leads outside the root of profile {self.name}.", next_step="cubeport profiles")

    def target(self, plan: StoragePlan, operation_id: str) -> LocalTarget:
        """Make an empty file or folder next to the final name; see :class:`~cubeport.catalog.artifacts.storage.Profile`."""
        assert plan.relative_path is not None, "a plan for this profile has a path"
        self._reachable()
        self.check(plan.relative_path)
        with store_errors("write the artifact"):
            return LocalTarget(self, plan, plan.relative_path, operation_id)

    def stat(self, path: str) -> Stored | None:
        """Return the description of a path, or ``None``; see :class:`~cubeport.catalog.artifacts.storage.Profile`."""
        self._reachable()
        with store_errors("inspect the artifact"):
            try:
                found = (self.root / path).lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            return _stored(path, found)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading, but not through a link that leads out of the root."""
        self._reachable()
        self.check(path)
        with store_errors("open the artifact"):
            try:
                return os.fdopen(os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
            except FileNotFoundError:
                raise ArtifactMissing(f"The bytes at {path} are missing.", next_step="cubeport verify --all") from None

    def local_path(self, path: str) -> Path | None:
        """Return the path in the file system."""
        return self.root / path

    def files(self, path: str) -> Iterator[Stored]:
        """Yield the files of a directory artifact, sorted by their relative paths."""
        self._reachable()
        with store_errors("list the artifact"):
            top = self.root / path
            for each in sorted(_below(top), key=lambda p: p.relative_to(top).as_posix()):
                yield _stored(each.relative_to(top).as_posix(), each.lstat())

    def walk(self) -> Iterator[Stored]:
        """Yield all files below the root. Files that disappear meanwhile are skipped."""
        self._reachable()
        with store_errors("list the store"):
            for each in _below(self.root):
                with contextlib.suppress(FileNotFoundError):
                    yield _stored(each.relative_to(self.root).as_posix(), each.lstat())

    def remove(
        self, path: str, proof: Mapping[str, Any], *, operation_id: str | None = None
    ) -> Literal["removed", "absent", "not-ours"]:
        """Remove a path durably if *proof* matches; see :class:`~cubeport.catalog.artifacts.storage.Profile`."""
        self._reachable()
        place = self.root / path
        with store_errors("remove the bytes"):
            try:
                found = place.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return "absent"
            named = operation_id is not None and operation_id in place.name
            if not (named or _proves(proof, found) or _proves(proof, _lstat(place / "data"))):
                return "not-ours"
            self.check(path)
            shutil.rmtree(place) if modes.S_ISDIR(found.st_mode) else place.unlink()
            sync_folder(place.parent)
        return "removed"

    def remove_folders(self, folders: Iterable[Mapping[str, Any]]) -> None:
        """Remove the folders that an operation made and that are empty, innermost first."""
        for each in reversed(list(folders)):
            place = self.root / each["path"]
            found = _lstat(place)
            if found is not None and found.st_ino == each["inode"]:
                with contextlib.suppress(OSError):  # it is in use, so it stays
                    place.rmdir()

    def quarantine(self, path: str, to: Path) -> None:
        """Move a file or folder to *to*."""
        with store_errors("move to quarantine"):
            make_folders(to.parent)
            shutil.move(self.root / path, to)
            sync_folder(to.parent)
            sync_folder((self.root / path).parent)

    def now(self) -> float:
        """Return the current time by the clock of the file system, from the timestamp of a probe file."""
        if not self.writable:
            return time.time()
        with store_errors("ask the store for its time"):
            probe = self.root / f".probe.{os.getpid()}.part"
            probe.touch()
            try:
                return probe.stat().st_mtime
            finally:
                probe.unlink()

    def free_bytes(self) -> int | None:
        """Return the free space."""
        self._reachable()
        with store_errors("ask for free space"):
            return shutil.disk_usage(self.root).free

    def problems(self) -> list[CubeportError]:
        """Return the problems of the profile, each with what to do. Nothing is changed."""
        if not self.root.is_dir():
            step = f"mount its disk, make the folder, or name another root for {self.name} in config/profiles.yaml"
            return [StoreUnavailable(f"its root {self.root} is not a folder", next_step=step)]
        if self.writable and not os.access(self.root, os.W_OK | os.X_OK):
            step = f"give the user of cubeport the right to write there: ls -ld {shlex.quote(str(self.root))}"
            return [StoreUnavailable(f"its root {self.root} cannot be written", next_step=step)]
        return []

    def _reachable(self) -> None:
        # If the root is missing (not mounted), its contents are unknown. Absent is not unreadable.
        if not self.root.is_dir():
            raise StoreUnavailable(
                f"The root of profile {self.name} does not exist.", next_step="make the folder, or mount it; cubeport doctor"
            )


class LocalTarget:
    """Bytes that are being written: a hidden file or folder next to the final name, created exclusively."""

    def __init__(self, profile: LocalProfile, plan: StoragePlan, path: str, operation_id: str) -> None:
        self._profile = profile
        self._kind: TargetKind = plan.target_kind
        self._candidates = [path] + ([suffixed(path, plan.object_id)] if plan.collision == "suffix" else [])
        self._part = part_path(path, operation_id)
        self.path = profile.root / self._part
        made = self._make()
        found = self.path.lstat()
        proof = {"device": found.st_dev, "inode": found.st_ino}
        folders = [{"path": str(f.relative_to(profile.root)), "inode": f.stat().st_ino} for f in made]
        undo = "remove_tree" if self._kind == "directory" else "remove_file"
        self.compensations: list[dict[str, Any]] = [
            {"undo": "remove_temp", "profile": profile.name, "path": self._part, "proof": proof, "folders": folders},
            *({"undo": undo, "profile": profile.name, "path": each, "proof": proof} for each in self._candidates),
        ]

    def _make(self) -> list[Path]:
        made: list[Path] = []
        for _ in range(_TRIES):
            made += make_folders(self.path.parent)
            try:
                if self._kind == "directory":
                    make_folder(self.path)
                else:
                    os.close(open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileNotFoundError:
                continue  # the folder was empty, and the operation that made it was rolled back
            return made
        raise StoreUnavailable("The folder of the artifact disappears as soon as it is made.", next_step="cubeport doctor")

    def seal(self) -> None:
        """Sync every file, then every folder, deepest first."""
        with store_errors("write the artifact"):
            if self._kind == "file":
                _sync_file(self.path)
                return
            files = [each for each in _below(self.path) if each.is_file() and not each.is_symlink()]
            # Other libraries made these with their own modes. In a shared catalog they must belong to the group.
            for each in (*files, *(Path(top) for top, _, _ in os.walk(self.path))):
                give_to_group(each)
            for n, each in enumerate(files):
                if n == len(files) // 2:
                    passing("fsync:half")
                _sync_file(each)
            for folder in sorted((Path(top) for top, _, _ in os.walk(self.path)), reverse=True):
                sync_folder(folder)

    def publish(self, claim: Callable[[Mapping[str, Any]], None]) -> str:
        """Take the first free name; see :class:`~cubeport.catalog.artifacts.storage.Target`."""
        with store_errors("publish the artifact"):
            for path in self._candidates:
                try:
                    self._take(path, claim)
                except FileExistsError:
                    continue
                sync_folder(self.path.parent)
                return path
        raise TargetExists(f"{self._candidates[0]} already exists in profile {self._profile.name}.")

    def _take(self, path: str, claim: Callable[[Mapping[str, Any]], None]) -> None:
        final = self._profile.root / path
        if self._kind == "directory":
            make_folder(final)
        else:
            try:
                os.link(self.path, final, follow_symlinks=False)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
                os.close(open_file(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            else:
                self.path.unlink()
                return
        # The empty placeholder reserves the name until our bytes are renamed over it.
        found = final.lstat()
        proof = {"device": found.st_dev, "inode": found.st_ino}
        claim({"undo": "remove_tree", "profile": self._profile.name, "path": path, "proof": proof})
        self.path.rename(final)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _below(top: Path) -> Iterator[Path]:
    """Yield everything below *top* that is not a folder. A folder that cannot be listed is an error, not an empty folder."""

    def refuse(exc: OSError) -> None:
        if not isinstance(exc, FileNotFoundError):
            raise exc

    for folder, names, files in os.walk(top, onerror=refuse):
        names.sort()
        yield from (Path(folder) / name for name in sorted(files))
        yield from (Path(folder) / name for name in names if (Path(folder) / name).is_symlink())


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _proves(proof: Mapping[str, Any], found: os.stat_result | None) -> bool:
    if found is None or "inode" not in proof:
        return False
    return (proof["inode"], proof.get("device", found.st_dev)) == (found.st_ino, found.st_dev)


def _stored(path: str, found: os.stat_result) -> Stored:
    kind: Literal["file", "directory", "other"] = (
        "file" if modes.S_ISREG(found.st_mode) else "directory" if modes.S_ISDIR(found.st_mode) else "other"
    )
    return Stored(path, kind, found.st_size, found.st_mtime, {"device": found.st_dev, "inode": found.st_ino})
