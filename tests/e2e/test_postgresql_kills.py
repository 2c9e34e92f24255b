"""``kill -9`` of a process that ingests into a catalog in PostgreSQL, at any step, while others live: nothing is half there.

Each child is forked from this process before anything is open, so that 240 kills take minutes and not hours. The moments are drawn
over the time that an ingestion takes here and now, over its end, and over the moments after its version can be seen, so that kills
leave the old version and the new one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import xarray as xr

import cubeport
from cubeport.adapters.engines.opened import VersionStore
from cubeport.errors import CubeportError
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli

KILLS = int(os.environ.get("CUBEPORT_KILLS", "24"))


def made(path: Path, level: float) -> Path:
    xr.Dataset(
        {"t": (("time", "lat", "lon"), np.full((4, 30, 40), level, "f4"), {"units": "K"})},
        {
            "time": ("time", np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[ns]")),
            "lat": ("lat", np.linspace(0, 58, 30), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 78, 40), {"units": "degrees_east"}),
        },
    ).to_netcdf(path, engine="h5netcdf")
    return path


def work(root: Path, source: Path, told: Any) -> None:
    """Replace the cube, tell the version that was acknowledged, and live until told to end. Killed at any moment."""
    os.setsid()
    with cubeport.connect(root) as service:
        told.send(("begun", None))
        try:
            done = service.ingest_here(IngestionRequest(dataset_id="cube", mode="replace"), FileOptions(files=(str(source),)))
        except CubeportError as exc:
            told.send(("refused", exc.kind))
            return
        told.send((done.status, done.version_id or done.error))
        told.recv()


class Children:
    """Processes that ingest, one after the other, each a cube of its own level."""

    def __init__(self, root: Path, database: str) -> None:
        self.root, self.database = root, database
        self.began = 0
        self.context = multiprocessing.get_context("fork")

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[int, Any]]:
        """Yield the pid of a process that has just begun, and what it tells. It is awaited at the end."""
        ours, theirs = self.context.Pipe()
        self.began += 1
        source = made(self.root.parent / "next.nc", float(self.began))
        child = self.context.Process(target=work, args=(self.root, source, theirs))
        child.start()
        theirs.close()
        assert child.pid is not None
        assert ours.poll(60), "the child never began"
        assert ours.recv() == ("begun", None)
        yield child.pid, ours
        child.join(60)
        ours.close()

    def whole(self) -> tuple[str, float]:
        """Let one end. Return the version that it made, and how long it took in seconds."""
        with self.one() as (_, told):
            start = time.monotonic()
            version = self.version(told)
            assert version is not None, "an ingestion did not end"
            told.send("end")
            return version, time.monotonic() - start

    def killed(self, after: float) -> str | None:
        """Kill one *after* so many seconds. Return the version that it had told."""
        with self.one() as (pid, told):
            time.sleep(after)
            os.killpg(pid, signal.SIGKILL)  # its own children too
            return self.version(told)

    def killed_on_commit(self, after: float) -> str | None:
        """Kill one *after* so many seconds from when its version can be seen. Return the version that it had told."""
        before = versions(self.database)
        with self.one() as (pid, told):
            deadline = time.monotonic() + 120
            while versions(self.database) == before:
                assert time.monotonic() < deadline, "an ingestion did not end"
            time.sleep(after)
            os.killpg(pid, signal.SIGKILL)
            return self.version(told)

    @staticmethod
    def version(told: Any) -> str | None:
        """Return the version that a process tells, or ``None`` if it ends before."""
        try:
            status, version = told.recv()
        except (EOFError, ConnectionResetError):
            return None
        assert status == "completed", (status, version)
        return str(version)


@pytest.mark.crash
@pytest.mark.timeout(7_200)
@pytest.mark.filterwarnings("ignore:This process")
def test_kills_across_an_ingestion_leave_nothing_half(tmp_path: Path, database: str) -> None:
    root = tmp_path / "instance"
    assert cli("init", root, "--catalog", database).returncode == 0
    dice = random.Random(7)
    with cubeport.connect(root) as service:
        source = made(tmp_path / "first.nc", 0.0)
        first = service.ingest_here(IngestionRequest(dataset_id="cube"), FileOptions(files=(str(source),)))
        assert first.status == "completed", first.error
        service.publish("cube")
    began = time.monotonic()
    children = Children(root, database)
    acknowledged, seen = {str(first.version_id)}, dict[str, float]()
    whole = 0.0
    old = new = told = 0
    for kill in range(KILLS):
        if kill % 12 == 0:  # how long one takes depends on what else the machine does
            version, whole = children.whole()
            acknowledged.add(version)
        before = versions(database)
        match kill % 3:
            case 0:
                said = children.killed(whole * dice.uniform(0, 1))
            case 1:
                said = children.killed(whole * dice.uniform(0.7, 1.1))
            case _:
                said = children.killed_on_commit(dice.choice([0, dice.uniform(0, 0.1)]))
        if said is not None:
            acknowledged.add(said)
        now = versions(database)
        assert before <= now, "a committed version went away"
        assert len(now - before) <= 1
        old += now == before
        new += now != before
        told += said is not None
        if kill % 12 == 11 or kill == KILLS - 1:
            assert_whole(root, database, acknowledged, seen)
            assert now == set(seen), "a recovery made a version, or removed one"
    print(f"{KILLS} kills in {time.monotonic() - began:.0f} s: {old} left the old version, {new} the new one,")
    print(f"{new - told} of these before it was told; {len(acknowledged)} versions were told, none was lost")
    assert old >= KILLS // 8
    assert new - told >= KILLS // 24
    assert cli("fsck", "--data", "--instance", root).returncode == 0


def versions(database: str) -> set[str]:
    """Return the versions that are committed, from the table itself."""
    with psycopg.connect(database) as connection:
        found = connection.execute(f"SELECT id FROM {schema_in(connection)}.beside WHERE tbl = 'version'")
        return {version for (version,) in found}


def schema_in(connection: psycopg.Connection[Any]) -> str:
    [(schema,)] = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cubeport_%'").fetchall()
    return str(schema)


def assert_whole(root: Path, database: str, acknowledged: set[str], seen: dict[str, float]) -> None:
    """Recover as the next process does; every acknowledged version is there, and each version has values of one level."""
    with cubeport.connect(root) as service:
        service.catalog.recover()
        states = [state for state, stored in service.versions("cube", limit=1000) if stored == "retained"]
        assert acknowledged <= {state.version_id for state in states}, "an acknowledged version was lost"
        for state in states:
            if state.version_id not in seen:
                store: Any = VersionStore(service.engines, "cube", state.version_id)
                with xr.open_zarr(store, consolidated=True) as opened:
                    levels = np.unique(opened.t.values)
                assert len(levels) == 1, "a version of two states"
                seen[state.version_id] = float(levels[0])
        assert {path.name for path in (root / "data" / "store" / "cube").glob("*")} == {state.version_id for state in states}
    assert list((root / "data" / "staging").glob("*")) == []
    with psycopg.connect(database) as connection:
        assert connection.execute(f"SELECT count(*) FROM {schema_in(connection)}.journal_open").fetchone() == (0,)
