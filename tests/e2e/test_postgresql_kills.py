"""``kill -9`` of a process that ingests into a catalog in PostgreSQL, at any step, while others live: nothing is half there.

Each child is forked from this process before anything is open, so that 240 kills take minutes and not hours.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
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


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore:This process")
def test_kills_across_an_ingestion_leave_nothing_half(tmp_path: Path, database: str) -> None:
    root = tmp_path / "instance"
    assert cli("init", root, "--catalog", database).returncode == 0
    dice, context = random.Random(7), multiprocessing.get_context("fork")
    sources = [made(tmp_path / f"{n}.nc", float(n)) for n in range(8)]
    with cubeport.connect(root) as service:
        first = service.ingest_here(IngestionRequest(dataset_id="cube"), FileOptions(files=(str(sources[0]),)))
        assert first.status == "completed", first.error
        service.publish("cube")
    began = time.monotonic()
    acknowledged: set[str] = {str(first.version_id)}
    seen: dict[str, float] = {}
    kills = whole = 0
    longest = 2.0
    while kills < KILLS:
        ours, theirs = context.Pipe()
        child = context.Process(target=work, args=(root, sources[(kills + whole) % 8], theirs))
        child.start()
        theirs.close()
        assert ours.poll(60), "the child never began"
        ours.recv()
        start = time.monotonic()
        if ours.poll(dice.uniform(0, longest)):
            status, version = ours.recv()
            assert status == "completed", (status, version)
            acknowledged.add(version)
            whole += 1
            longest = 0.9 * longest + 0.1 * (time.monotonic() - start)
            child.join(30)
        else:
            os.killpg(child.pid, signal.SIGKILL)
            child.join(30)
            kills += 1
            try:
                while ours.poll(0):
                    status, version = ours.recv()
                    acknowledged.add(version)
            except EOFError:
                pass
        ours.close()
        if kills % 12 == 0:
            assert_whole(root, database, acknowledged, seen)
    assert_whole(root, database, acknowledged, seen)
    spent = time.monotonic() - began
    print(f"{kills} kills and {whole} whole ingestions in {spent:.0f} s; {len(acknowledged)} acknowledged versions, none lost")
    assert cli("fsck", "--data", "--instance", root).returncode == 0


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
        [schema] = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cubeport_%'").fetchone() or [""]
        assert connection.execute(f"SELECT count(*) FROM {schema}.journal_open").fetchone() == (0,)
