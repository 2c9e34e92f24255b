"""What makes bytes and names survive a power cut: the few calls that the libraries below us never make."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cubeport.errors import NoSpace, StoreUnavailable

_FULL = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: its fsync leaves the bytes in the drive."""

FILE_MODE = 0o660
FOLDER_MODE = 0o770
"""What is asked for files and folders that we make. The umask takes from it: 022 leaves the group reading only, 002 lets it write.
Others never get anything."""

_shared: set[Path] = set()
"""Folders of catalogs with ``shared: group``: what is made below them is for the whole group, whatever the umask. One table for the
process, as files are made by code that knows a path and no catalog."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}

FREE_BYTES = 1024 * 1024
"""Below, no commit is sure to find room: its journal, its rows and their log take about a tenth of that."""


def sync(descriptor: int) -> None:
    """Return when the file's bytes are on the disk. An error abandons them: a second try could succeed and mean nothing."""
    if _FULL is not None:
        fcntl.fcntl(descriptor, _FULL)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def share_with_group(root: Path) -> None:
    """Let the group write everything that is made below *root* from now on, and keep its group (setgid)."""
    _shared.add(root.resolve())


def give_to_group(path: Path) -> None:
    """Give the group what the owner may do with *path*, if it is below a shared root and ours; do nothing elsewhere."""
    if not _shared or not any(path.resolve().is_relative_to(root) for root in _shared):
        return
    found = path.stat()
    wanted = found.st_mode | ((found.st_mode & 0o700) >> 3) | (0o2000 if path.is_dir() else 0)
    if found.st_uid == os.geteuid() and found.st_mode != wanted:
        path.chmod(stat.S_IMODE(wanted))


def open_file(path: Path, flags: int) -> int:
    """Return a descriptor of *path*, with the mode of our files if it is made here."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    if _shared and flags & os.O_CREAT:
        give_to_group(path)
    return descriptor


def make_folder(path: Path) -> None:
    """Make one folder with the mode of our folders. Raises FileExistsError, FileNotFoundError."""
    path.mkdir(mode=FOLDER_MODE)
    give_to_group(path)


def make_folders(folder: Path) -> list[Path]:
    """Make *folder* and its missing parents, durably; return those made here, outermost first."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    made = []
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            make_folder(each)
            made.append(each)
            sync_folder(each.parent)
    return made


def demand_space(*folders: Path, free_bytes: int = FREE_BYTES) -> None:
    """Return if each of *folders* is on a disk with that much space.

    Raises
    ------
    NoSpace
        Without a server's path in its words.
    StoreUnavailable
        If the disk does not answer.
    """
    for folder in folders:
        with store_errors("ask for free space"):
            found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        if free < free_bytes or (found.f_files and not found.f_favail):
            message = f"There is no space left: {free // 1024} KiB and {found.f_favail} file entries are free."
            raise NoSpace(message, next_step="cubeport gc")


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte, whatever the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_beside(path: Path, data: bytes) -> Path:
    """Write *data* next to *path*, whole and synced, and return where it is. A write that fails leaves nothing there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(descriptor, data)
        sync(descriptor)
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(descriptor)
    return temporary


def replace_file(path: Path, data: bytes) -> None:
    """Make *data* the content of *path*: next to it, synced, renamed over it. Readers see the old bytes or the new ones."""
    write_beside(path, data).replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn the system's errors into ours; *what* says, without a server's path, what could not be done."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise NoSpace(f"There is no space left to {what}.", next_step="cubeport gc") from exc
        if exc.errno in (errno.EACCES, errno.EPERM) and exc.filename is not None:
            raise StoreUnavailable(
                f"Could not {what}: {_shown(exc.filename)}: {exc.strerror}.",
                next_step="ask its owner; a catalog that a group writes to is made with `cubeport init --shared group`, or has"
                " `shared: group` in .cubeport/catalog.yaml and `chmod -R g+rwX` on its files",
            ) from exc
        raise StoreUnavailable(f"Could not {what}: {exc.strerror or exc}.", next_step="cubeport doctor") from exc


def _shown(path: str | bytes | int) -> str:
    """Return a path as a message may show it: from ``.cubeport`` on, or its last two steps, never a whole path of a server."""
    parts = Path(os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)).parts
    return "/".join(parts[parts.index(".cubeport") :] if ".cubeport" in parts else parts[-2:])
