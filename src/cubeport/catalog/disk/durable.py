"""Make bytes and names survive a power cut, with calls that the libraries below do not make."""

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
"""For macOS, whose fsync leaves the bytes in the cache of the drive."""

FILE_MODE = 0o660
FOLDER_MODE = 0o770
"""The mode of the folders that we make, before the umask: with 022 the group can only read, with 002 it can also write. Others have
no access."""

_shared: set[Path] = set()
"""The folders of catalogs with ``shared: group``. Everything made below them is for the whole group, whatever the umask. It is one
table for the process, because the code that makes files knows a path but no catalog."""

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}

FREE_BYTES = 1024 * 1024
"""With less free space than this, a commit could fail. Its journal, its rows and their log need about a tenth of it."""


def sync(descriptor: int) -> None:
    """Sync the bytes of a file to the disk. After an error do not retry, because a second call could succeed without effect."""
    if _FULL is not None:
        fcntl.fcntl(descriptor, _FULL)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def share_with_group(root: Path) -> None:
    """Let the group write everything that is made below *root* from now on, and make it inherit the group (setgid)."""
    _shared.add(root.resolve())


def give_to_group(path: Path) -> None:
    """Give the group the owner's permissions on *path*, if it is ours and below a shared root. Otherwise do nothing."""
    if not _shared or not any(path.resolve().is_relative_to(root) for root in _shared):
        return
    found = path.stat()
    wanted = found.st_mode | ((found.st_mode & 0o700) >> 3) | (0o2000 if path.is_dir() else 0)
    if found.st_uid == os.geteuid() and found.st_mode != wanted:
        path.chmod(stat.S_IMODE(wanted))


def open_file(path: Path, flags: int) -> int:
    """Open *path* and return its descriptor. A new file gets the mode of our files."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
    if _shared and flags & os.O_CREAT:
        give_to_group(path)
    return descriptor


def make_folder(path: str | Path) -> None:
    """Make a folder with the mode of our folders. Raises FileExistsError, FileNotFoundError."""
    os.mkdir(path, FOLDER_MODE)  # noqa: PTH102  # a version has many, and a Path would cost more than the folder
    if _shared:
        give_to_group(Path(path))


def make_folders(folder: Path) -> list[Path]:
    """Make *folder* and its missing parents durably. Return the new folders, outermost first."""
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
    """Check that the disks of all *folders* have *free_bytes* of free space.

    Raises
    ------
    NoSpace
        If a disk has less. The message does not contain a path of the server.
    StoreUnavailable
        If a disk does not respond.
    """
    for folder in folders:
        with store_errors("ask for free space"):
            found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        if free < free_bytes or (found.f_files and not found.f_favail):
            message = f"There is no space left: {free // 1024} KiB and {found.f_favail} file entries are free."
            raise NoSpace(message, next_step="cubeport gc")


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, also if the kernel accepts only a part at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_beside(path: Path, data: bytes) -> Path:
    """Write and sync *data* to a temporary file next to *path*, and return its path. A failed write leaves no file."""
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
    """Replace the content of *path* by *data*, through a synced temporary file and a rename. Readers see either the old or the new
    bytes.
    """
    write_beside(path, data).replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Translate the system's errors to ours. *what* says what failed, without a path of the server."""
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
        if exc.errno == errno.EROFS:
            raise StoreUnavailable(
                f"Could not {what}: the folder is on a file system that is read-only.",
                next_step="make it writable, or only read what is there: cubeport serve --read-only",
            ) from exc
        raise StoreUnavailable(f"Could not {what}: {exc.strerror or exc}.", next_step="cubeport doctor") from exc


def _shown(path: str | bytes | int) -> str:
    """Return the part of a path that a message may show: from ``.cubeport`` on, or its last two parts, but no full path of a
    server.
    """
    parts = Path(os.fsdecode(path) if isinstance(path, (str, bytes)) else str(path)).parts
    return "/".join(parts[parts.index(".cubeport") :] if ".cubeport" in parts else parts[-2:])
