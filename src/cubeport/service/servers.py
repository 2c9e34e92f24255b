"""The processes that run on a catalog, what each does, and whether they have the same configuration. This is only reported to
people.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from cubeport.catalog.backend import CatalogBackend, Finding, Row
from cubeport.catalog.forms.canonical import now, timestamp
from cubeport.service.ingestions import WAITING
from cubeport.service.state import JOB
from cubeport.service.workers import Workers

SERVER = "server"
"""The table with one row for each process of ``serve`` or ``worker``. One that may only read writes none."""

_COMPARED = ("config", "extents", "zones")
"""Folders of an instance that must be the same on every machine."""


def configuration_digest(root: Path) -> str:
    """Return one digest of all files that configure an instance: their names below *root* and their bytes."""
    sha = hashlib.sha256()
    for folder in _COMPARED:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                sha.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return sha.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A process of ``serve`` or ``worker`` that is alive."""

    worker: str
    host: str
    version: str
    configuration: str
    """The digest of its configuration when it started."""
    began: str
    answers: bool = True
    """Whether it answers HTTP; a ``cubeport worker`` does not."""
    runs_jobs: bool = True
    """Whether it runs jobs; ``cubeport serve --no-jobs`` does not."""

    @classmethod
    def of(cls, row: Row) -> RunningServer:
        """Return the process of a row. What a newer release writes about it as well is left out."""
        known = {each.name for each in fields(cls)}
        return cls(row.id, **{name: value for name, value in row.document.items() if name in known})

    @property
    def does(self) -> str:
        """What the process is, in words."""
        return "worker" if not self.answers else "server" if self.runs_jobs else "server without jobs"


@dataclass(frozen=True, slots=True)
class Servers:
    """The processes of a catalog."""

    backend: CatalogBackend
    workers: Workers
    version: str
    configuration: str

    def announce(self, worker: str, *, answers: bool, runs_jobs: bool) -> None:
        """Add the row of this process, and remove the rows of dead ones."""
        said = {
            "answers": answers,
            "runs_jobs": runs_jobs,
            "host": socket.gethostname(),
            "version": self.version,
            "configuration": self.configuration,
            "began": timestamp(now()),
        }
        if self.backend.rows.get(SERVER, worker) is None:  # nobody may have removed it while the lock of this process was lost
            self.backend.rows.put(Row(SERVER, worker, said))
        for row in self.backend.rows.select(SERVER, limit=1000):
            if row.id != worker and self.workers.is_dead(row.id):
                self.backend.rows.delete(SERVER, row.id)

    def withdraw(self, worker: str) -> None:
        """Remove the row of this process."""
        self.backend.rows.delete(SERVER, worker)

    def running(self) -> list[RunningServer]:
        """Return the processes that are alive, by machine."""
        rows = self.backend.rows.select(SERVER, limit=1000)
        found = [RunningServer.of(row) for row in rows if not self.workers.is_dead(row.id)]
        return sorted(found, key=lambda each: (each.host, each.began))

    def summary(self) -> dict[str, int]:
        """Return how many processes answer HTTP, how many run jobs, and how many of both have another configuration or release
        than this process.
        """
        found = self.running()
        return {
            "running": sum(each.answers for each in found),
            "running_jobs": sum(each.runs_jobs for each in found),
            "other_configuration": sum(each.configuration != self.configuration for each in found),
            "other_version": sum(each.version != self.version for each in found),
        }

    def findings(self) -> Iterator[Finding]:
        """Yield a line for each process, for ``doctor``, and one if jobs wait that no process runs."""
        found = self.running()
        if not any(each.runs_jobs for each in found) and (waiting := self.backend.rows.count(JOB, states=WAITING)):
            words = f"{waiting} waiting, and no process runs jobs"
            yield Finding("jobs-not-run", "jobs", words, "cubeport worker, or cubeport serve without --no-jobs", "warn")
        for each in found:
            place, since = f"{each.does} {each.host}", f"runs {each.version} since {each.began}"
            if each.configuration != self.configuration:
                words = f"{since}, with another configuration than the one in this folder"
                yield Finding("other-configuration", place, words, "copy config/ and extents/, then start it again", "warn")
            elif each.version != self.version:
                yield Finding("other-version", place, f"{since}, another release than here", "upgrade all machines", "warn")
            else:
                yield Finding("server", place, since, level="ok")
