"""``kill -9`` of a process that ingests into a catalog in PostgreSQL, at any step, while others live: nothing is half there.

Each child is forked from this process before anything is open, so that 240 kills take minutes and not hours. The moments are drawn
over the time that an ingestion takes here and now, half of them over its end, where the commit is, so that kills leave the old
version and the new one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
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
    """Replace the cube, and tell the version that was acknowledged. Killed at any moment."""
    os.setsid()
    with cubeport.connect(root) as service:
        told.send(("begun", None))
        try:
            done = service.ingest_here(IngestionRequest(dataset_id="cube", mode="replace"), FileOptions(files=(str(source),)))
        except CubeportError as exc:
            told.send(("refused", exc.kind))
            return
        told.send((done.status, done.version_id))


class Children:
    """Processes that ingest, one after the other. The clock of each starts when it says that it begins."""

    def __init__(self, root: Path, sources: list[Path]) -> None:
        self.root, self.sources = root, sources
        self.began = 0
        self.context = multiprocessing.get_context("fork")

    @contextlib.contextmanager
    def one(self) -> Iterator[tuple[BaseProcess, Any]]:
        """Yield a process that has just begun, and what it tells."""
        ours, theirs = self.context.Pipe()
        child = self.context.Process(target=work, args=(self.root, self.sources[self.began % len(self.sources)], theirs))
        self.began += 1
        child.start()
        theirs.close()
        assert ours.poll(60), "the child never began"
        assert ours.recv() == ("begun", None)
        yield child, ours
        child.join(30)
        ours.close()

    def whole(self) -> tuple[str, float]:
        """Let one end. Return the version that it made, and how long it took in seconds."""
        with self.one() as (_, told):
            start = time.monotonic()
            assert told.poll(120), "an ingestion did not end"
            status, version = told.recv()
            assert status == "completed", (status, version)
            return version, time.monotonic() - start

    def killed(self, after: float) -> tuple[bool, str | None]:
        """Kill one *after* so many seconds. Return whether it still lived, and the version that it had told."""
        with self.one() as (child, told):
            child.join(after)
            lived = child.exitcode is None
            if lived and child.pid is not None:
                os.killpg(child.pid, signal.SIGKILL)  # its own children too
                child.join(30)
            try:
                status, version = told.recv()
            except EOFError:
                return lived, None
            assert status == "completed", (status, version)
            return lived, str(version)


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore:This process")
def test_kills_across_an_ingestion_leave_nothing_half(tmp_path: Path, database: str) -> None:
    root = tmp_path / "instance"
    assert cli("init", root, "--catalog", database).returncode == 0
    dice = random.Random(7)
    sources = [made(tmp_path / f"{n}.nc", float(n)) for n in range(8)]
    with cubeport.connect(root) as service:
        first = service.ingest_here(IngestionRequest(dataset_id="cube"), FileOptions(files=(str(sources[0]),)))
        assert first.status == "completed", first.error
        service.publish("cube")
    began = time.monotonic()
    children = Children(root, sources[1:])
    acknowledged, seen = {str(first.version_id)}, dict[str, float]()
    kept = versions(database)
    old = new = told = 0
    while (kills := old + new) < KILLS:
        if kills % 12 == 0:  # how long one takes depends on what else the machine does
            version, whole = children.whole()
            acknowledged.add(version)
            kept = versions(database)
        lived, told_version = children.killed(whole * (dice.uniform(0, 1.1) if kills % 2 else dice.uniform(0.75, 1.1)))
        if told_version is not None:
            acknowledged.add(told_version)
        now = versions(database)
        assert kept <= now, "a committed version went away"
        assert len(now - kept) <= 1
        if lived:
            old, new, told = old + (now == kept), new + (now != kept), told + (told_version is not None)
        kept = now
        if lived and kills % 12 == 11:
            assert_whole(root, database, acknowledged, seen)
            assert kept == set(seen), "a recovery made a version, or removed one"
    assert_whole(root, database, acknowledged, seen)
    spent = time.monotonic() - began
    print(f"{KILLS} kills in {spent:.0f} s: {old} left the old version, {new} the new one, of which {told} had told it;")
    print(f"{len(acknowledged)} told versions, none lost")
    assert old >= KILLS // 8
    assert new >= KILLS // 8
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
