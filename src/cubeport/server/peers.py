"""Find out who opened a loopback connection, from the Linux kernel.

A loopback peer proves nothing, because a reverse proxy or a tunnel on this machine is one too and may add no headers. Therefore the
process that opened the connection is examined: its user, and whether it can be reached from elsewhere. If this cannot be seen (on
other systems, with a hidden ``/proc``, or in a container with its own process table), it counts as not proven.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

type Address = tuple[str, int]

PROC = Path("/proc")
_LISTENS = "0A"
"""The state of a listening TCP socket (``include/net/tcp_states.h``)."""
_UNIX_LISTENS = 0x10000
"""``__SO_ACCEPTCON`` among the flags of ``/proc/net/unix``."""
_ANY = frozenset({"00000000", "0" * 32})


def asks_for_itself(peer: Address | None, here: Address | None, proc: Path = PROC) -> bool:
    """Return whether a process of this user opened a loopback connection only for itself.

    It must not listen at an address that others can reach, have no incoming connections, and have no connections to other machines.
    It is then neither a proxy nor a tunnel.

    Parameters
    ----------
    peer, here
        The two ends of the connection, as seen by this process.
    """
    if peer is None or here is None:
        return False
    found = {each.inode: each for each in _sockets(proc)}
    ends = [each for each in found.values() if each.ports == (peer[1], here[1])]
    if len(ends) != 1 or ends[0].user != os.geteuid():
        return False
    held = _held(proc)
    holders = [sockets for sockets in held.values() if ends[0].inode in sockets]
    ours = held.get(os.getpid(), frozenset())
    ways = _Ways(found, _unix_ways_in(proc))
    return bool(holders) and not any(ways.lead_elsewhere(sockets, ours) for sockets in holders)


@dataclass(frozen=True, slots=True)
class _Socket:
    """A line of ``/proc/net/tcp`` or ``udp``."""

    inode: str
    user: int
    ports: tuple[int, int]
    """Its own port, and that of the other end."""
    listens: bool
    is_local: bool
    """Whether neither end is on another machine, and no other machine can reach it."""


class _Ways:
    """The sockets of this machine, and which of them can be reached from elsewhere."""

    def __init__(self, found: Mapping[str, _Socket], unix_ways_in: frozenset[str]) -> None:
        self._found = found
        self._unix_ways_in = unix_ways_in
        self._listening = frozenset(each.ports[0] for each in found.values() if each.listens)
        self._by_ports = {each.ports: inode for inode, each in found.items()}

    def lead_elsewhere(self, sockets: frozenset[str], ours: frozenset[str]) -> bool:
        """Return whether others can reach a process through one of its *sockets*: other machines, or processes except itself and
        ours.
        """
        inner = sockets | ours
        return any(
            each in self._unix_ways_in or (each in self._found and self._leads(self._found[each], inner)) for each in sockets
        )

    def _leads(self, each: _Socket, inner: frozenset[str]) -> bool:
        if each.listens or not each.is_local:
            return not each.is_local
        came_in = each.ports[0] in self._listening
        return came_in and self._by_ports.get(each.ports[::-1]) not in inner


def _sockets(proc: Path) -> Iterator[_Socket]:
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for fields in _lines(proc / "net" / table):
            if fields[9] == "0":
                continue  # belongs to no process (TIME_WAIT)
            (local, port), (remote, remote_port) = fields[1].split(":"), fields[2].split(":")
            listens = table.startswith("tcp") and fields[3] == _LISTENS
            yield _Socket(
                inode=fields[9],
                user=int(fields[7]),
                ports=(int(port, 16), int(remote_port, 16)),
                listens=listens,
                is_local=_is_loopback(local) and (remote in _ANY or _is_loopback(remote)),
            )


def _is_loopback(hexadecimal: str) -> bool:
    """Return whether an address in the tables is loopback. Addresses are 32-bit words, each with its lowest byte first."""
    if len(hexadecimal) == 8 or hexadecimal.startswith("0000000000000000FFFF0000"):
        return hexadecimal.endswith("7F")
    return hexadecimal == "0" * 24 + "01000000"


def _unix_ways_in(proc: Path) -> frozenset[str]:
    """Return the inodes of Unix sockets through which others can connect: listening sockets, and the ends that they accepted."""
    return frozenset(
        fields[6]
        for fields in _lines(proc / "net" / "unix")
        if int(fields[3], 16) & _UNIX_LISTENS or (len(fields) > 7 and fields[5] == "03")
    )


def _lines(table: Path) -> Iterator[list[str]]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:  # not Linux, or hidden
        return
    yield from (line.split() for line in lines)


def _held(proc: Path) -> Mapping[int, frozenset[str]]:
    """Return the inodes of the open sockets of each process of this user, by process id."""
    user = os.geteuid()
    held: dict[int, frozenset[str]] = {}
    # There are thousands of names, so they stay texts. A Path for each would cost more than everything else.
    for process in _names(str(proc)):
        folder = f"{proc}/{process}"
        if process.isdecimal() and _owner(folder) == user:
            targets = [_target(f"{folder}/fd/{each}") for each in _names(f"{folder}/fd")]
            held[int(process)] = frozenset(each[8:-1] for each in targets if each.startswith("socket:["))
    return held


def _names(folder: str) -> list[str]:
    with suppress(OSError):  # it has ended, or is hidden
        return os.listdir(folder)  # noqa: PTH208
    return []


def _owner(folder: str) -> int | None:
    with suppress(OSError):
        return os.stat(folder).st_uid  # noqa: PTH116
    return None


def _target(link: str) -> str:
    with suppress(OSError):  # it was closed meanwhile
        return os.readlink(link)  # noqa: PTH115
    return ""
