"""Find the type of the file system of a path. SQLite and TinyDB need shared memory and locks, which only work on local file
systems.
"""

from __future__ import annotations

import re
from pathlib import Path

from cubeport.errors import NetworkFilesystem

_NETWORK = {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
_NETWORK |= {"nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs"}
_ESCAPE = re.compile(r"\\([0-7]{3})")


def mount_type(path: Path, mountinfo: str | None = None) -> str | None:
    """Return the type of the file system of *path* (or its nearest existing parent), or ``None`` if it is unknown.

    Parameters
    ----------
    mountinfo
        The text of ``/proc/self/mountinfo`` (proc(5)). By default it is read.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text()
        except FileNotFoundError:
            return None
    resolved = path.resolve()
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_ESCAPE.sub(lambda found: chr(int(found.group(1), 8)), before.split(" ")[4]))
        if resolved.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), after.split(" ")[0]  # a later mount on the same point hides the earlier one
    return best[1] if best else None


def is_network(kind: str | None) -> bool:
    """Return whether a file system of this type is shared over a network, or can be (FUSE)."""
    return kind is not None and (kind in _NETWORK or kind.startswith("fuse."))


def refuse_network(path: Path, *, mountinfo: str | None = None) -> None:
    """Raise NetworkFilesystem with the type if *path* is on such a file system."""
    kind = mount_type(path, mountinfo)
    if is_network(kind):
        raise NetworkFilesystem(
            f"{path} is on a file system of type {kind}, where the catalog's shared memory and locks are not reliable.",
            next_step="put the catalog on a local disk; or, if one process at a time writes, make it with `cubeport init"
            " --allow-network-filesystem`, or set allow_network_filesystem: true in .cubeport/catalog.yaml of an existing one",
            filesystem=kind,
        )
