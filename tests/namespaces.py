"""Machines of their own on one computer: network namespaces with a cable each, which a test can pull. Needs root and ``ip``."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


def needs_root() -> None:
    """Skip the test loudly where namespaces cannot be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip: network namespaces are the machines")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Namespace:
    """A machine: what runs in it reaches this computer at ``here``, and is reached at ``there``."""

    name: str
    here: str
    there: str

    @property
    def prefix(self) -> list[str]:
        """The words before a command that is to run in it."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Pull the cable: nobody is told, packets are lost."""
        _ip("link", "set", f"{self.name}a", "down")

    def join(self) -> None:
        """Plug the cable in again."""
        _ip("link", "set", f"{self.name}a", "up")


_ONE = threading.Lock()


@functools.cache
def _network() -> int:
    """Return N of the network 10.213.N.0/24 that is this process's own: it holds a lock on a file until it ends."""
    for number in range(256):
        lock = os.open(Path(tempfile.gettempdir()) / f"cubeport-network-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return number
    raise RuntimeError("256 processes of tests have networks")


@functools.cache
def _sweep() -> None:
    """Remove the namespaces of tests that were killed."""
    alive = {int(each.name) % 100_000 for each in Path("/proc").iterdir() if each.name.isdecimal()}
    for line in subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout.splitlines():
        found = re.match(r"(cp(\d+)n\d+)\b", line)
        if found is not None and int(found[2]) not in alive:
            subprocess.run(["ip", "netns", "del", found[1]], check=False, capture_output=True)


@contextlib.contextmanager
def namespace(number: int = 0) -> Iterator[Namespace]:
    """Give a namespace with a cable to this computer, removed at the end. *number*: different for each of one test."""
    # Subnets of four addresses in 10.213.0.0/16, which the test servers of PostgreSQL let in.
    base = 4 * number
    with _ONE:  # of the threads of this process
        network = _network()
        _sweep()
    name = f"cp{os.getpid() % 100_000}n{number}"
    made = Namespace(name, f"10.213.{network}.{base + 1}", f"10.213.{network}.{base + 2}")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
        _ip("link", "set", f"{name}b", "netns", name)
        _ip("addr", "add", f"{made.here}/30", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        for words in (
            ("addr", "add", f"{made.there}/30", "dev", f"{name}b"),
            ("link", "set", f"{name}b", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("netns", "exec", name, "ip", *words)
        yield made
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)
        _ip("netns", "del", name)
