"""A real Dask scheduler with worker processes on real sockets, started as the documentation says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cubeport.adapters.executors.dask import DaskExecutor
from cubeport.errors import ExecutorUnavailable

PROGRAM = str(Path(sys.executable).with_name("dask"))


@dataclass
class Cluster:
    """A scheduler and its workers, each a process of its own with one thread and without a nanny."""

    folder: Path
    port: int
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def add(self, *prefix: str) -> subprocess.Popen[bytes]:
        """Start a worker, by the command *prefix* if there is one."""
        words = [*prefix, PROGRAM, "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        with (self.folder / f"worker-{time.monotonic_ns()}.log").open("wb") as log:
            self.workers.append(subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder, env=_environment(self.folder)))
        return self.workers[-1]

    def wait(self, count: int, seconds: float = 120) -> None:
        """Wait until the scheduler has *count* workers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if DaskExecutor(self.address, 1).state().workers == count:
                    return
            except ExecutorUnavailable:
                pass
            time.sleep(0.2)
        raise AssertionError("\n".join(each.read_text() for each in self.folder.glob("worker-*.log"))[-4_000:])

    def busy(self) -> list[subprocess.Popen[bytes]]:
        """Return the workers that have a confined child at work at the moment: its template's child."""

        def works(worker: subprocess.Popen[bytes]) -> bool:
            try:
                return any(each.children() for each in psutil.Process(worker.pid).children())
            except psutil.NoSuchProcess:
                return False

        return [each for each in self.workers if each.poll() is None and works(each)]

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker as a crash of its machine does."""
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)
        self.workers.remove(worker)


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Cluster]:
    """Start a scheduler and *workers*; end all of them at the end of the block."""
    folder.mkdir()
    with (folder / "scheduler.log").open("wb") as log:
        words = [PROGRAM, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        words += ["--scheduler-file", str(folder / "scheduler.json")]
        scheduler = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=_environment(folder))
    try:
        cluster = Cluster(folder, _port(folder / "scheduler.json", scheduler), scheduler)
        try:
            for _ in range(workers):
                cluster.add()
            cluster.wait(workers)
            yield cluster
        finally:
            for each in cluster.workers:
                each.kill()
            for each in cluster.workers:
                each.wait(10)
    finally:
        scheduler.kill()
        scheduler.wait(10)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder)}


def _port(file: Path, scheduler: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and scheduler.poll() is None:
        if file.exists() and (text := file.read_text()):
            return int(json.loads(text)["address"].rpartition(":")[2])
        time.sleep(0.1)
    raise AssertionError((file.parent / "scheduler.log").read_text()[-4_000:])
