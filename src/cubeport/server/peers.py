"""Who is at the other end of a loopback connection: the user that its process runs as, as the kernel of Linux tells it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

type Address = tuple[str, int]

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def same_user(peer: Address | None, here: Address | None) -> bool | None:
    """Tell whether the process that opened a loopback connection runs as the user of this one; ``None`` when nobody can tell.

    Parameters
    ----------
    peer, here
        The two ends of the connection, as this process sees them.
    """
    if peer is None or here is None:
        return None
    users = {user for mine, theirs, user in _connections() if (mine, theirs) == (peer[1], here[1])}
    return users == {os.geteuid()} if users else None


def _connections() -> Iterator[tuple[int, int, int]]:
    """Yield local port, remote port and user of each TCP socket of this machine."""
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:  # not Linux, or not shown here
            continue
        for line in lines:
            fields = line.split()
            yield int(fields[1].rpartition(":")[2], 16), int(fields[2].rpartition(":")[2], 16), int(fields[7])
