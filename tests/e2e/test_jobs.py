"""Jobs over real processes: interrupted, killed and cancelled ones end, are seen to end, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import xarray as xr

from cubeport.adapters.sandbox.limits import SourceLimits

from .conftest import CUBEPORT, here, start, stop

HELD = {"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": "measure:before=sleep:20"}
"""Makes an ingestion stand still when its data are written and not yet checked."""


@pytest.fixture
def root(tmp_path: Path, realdata: Path) -> Path:
    (tmp_path / "files").mkdir()
    made = here("init", tmp_path / "instance", "--allow-root", realdata, "--allow-root", tmp_path / "files")
    assert made.returncode == 0, made.stderr
    return tmp_path / "instance"


@pytest.fixture
def large(root: Path, tmp_path: Path) -> Path:
    """Return a file that is too large for a kept child, so that its data are in the staging folder before they are checked."""
    values = np.random.default_rng(1).normal(280, 5, (20, 480, 500)).astype("float32")
    cube = xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"})},
        coords={
            "time": ("time", np.arange(20), {"units": "days since 2024-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(-60, 60, 480), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 100, 500), {"units": "degrees_east"}),
        },
    )
    made = tmp_path / "files" / "large.nc"
    cube.to_netcdf(made)
    assert made.stat().st_size > SourceLimits().kept_source_bytes
    return made


def jobs(root: Path) -> list[dict[str, object]]:
    listed = here("jobs", "--json", "--instance", root)
    assert listed.returncode == 0, listed.stderr
    found: list[dict[str, object]] = json.loads(listed.stdout)["items"]
    return found


def left(root: Path) -> list[str]:
    """Return what an ingestion that came to nothing must not leave."""
    folders = (root / "data" / "staging", root / "data" / "store", root / ".cubeport" / "journal" / "open")
    return [str(path) for folder in folders for path in folder.rglob("*")]


def until_held(root: Path) -> None:
    """Wait until an attempt has written its data."""
    deadline = time.monotonic() + 60
    while not list((root / "data" / "staging").rglob("zarr.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


def test_ctrl_c_ends_the_job_cleans_up_and_says_so(root: Path, large: Path) -> None:
    process = subprocess.Popen(
        [*CUBEPORT, "ingest", str(large), "--id", "lcc", "--instance", str(root), "--no-progress"],
        env={**os.environ, **HELD},
        stderr=subprocess.PIPE,
        text=True,
    )
    until_held(root)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    [job] = jobs(root)
    assert job["status"] == "cancelled"
    assert f"Interrupted: ingestion {job['ingestion_id']} of lcc was cancelled. It left nothing behind." in said
    assert left(root) == []
    assert "dead-worker" not in here("doctor", "--instance", root).stdout


def test_the_job_of_a_killed_server_is_ended_by_the_next_that_looks(root: Path, large: Path) -> None:
    body = {"dataset_id": "lcc", "source": str(large)}
    living, living_url = start(root, "--no-jobs")
    old = dict(os.environ)
    os.environ.update(HELD)
    try:
        doomed, doomed_url = start(root)
    finally:
        os.environ.clear()
        os.environ.update(old)
    try:
        accepted = httpx.post(
            f"{doomed_url}/ingestions", json=body, headers={"Prefer": "wait=1"}, timeout=60, trust_env=False
        ).json()
        path = f"{living_url}/ingestions/{accepted['ingestion_id']}"
        until_held(root)
        assert httpx.get(path, trust_env=False).json()["status"] == "running"
        doomed.kill()
        doomed.communicate()
        began = time.monotonic()
        seen = httpx.get(path, trust_env=False, timeout=60).json()
        assert (seen["status"], seen["error"]["kind"]) == ("failed", "interrupted")
        assert time.monotonic() - began < 10
        assert left(root) == [], "its staging is undone as well"
    finally:
        doomed.kill()
        stop(living)


def test_a_cancelled_job_ends_within_five_seconds(root: Path, large: Path) -> None:
    os.environ.update({**HELD, "CUBEPORT_FAIL_POINTS": "measure:before=sleep:2"})
    try:
        process, url = start(root)
    finally:
        for name in HELD:
            del os.environ[name]
    try:
        body = {"dataset_id": "lcc", "source": str(large)}
        accepted = httpx.post(
            f"{url}/ingestions", json=body, headers={"Prefer": "respond-async"}, timeout=60, trust_env=False
        ).json()
        until_held(root)
        path = f"{url}/ingestions/{accepted['ingestion_id']}"
        asked = httpx.delete(path, trust_env=False)
        assert (asked.status_code, asked.json()["cancel_requested"]) == (202, True)
        began = time.monotonic()
        while (seen := httpx.get(path, trust_env=False).json())["status"] == "running":
            assert time.monotonic() - began < 5
            time.sleep(0.1)
        assert seen["status"] == "cancelled"
        assert left(root) == []
        assert httpx.delete(path, trust_env=False).json()["kind"] == "already-finished"
    finally:
        stop(process)


def test_events_tell_how_it_goes_and_end_last(root: Path, realdata: Path) -> None:
    process, url = start(root)
    try:
        body = {"dataset_id": "lcc", "source": str(realdata / "test_lcc.nc")}
        accepted = httpx.post(
            f"{url}/ingestions", json=body, headers={"Prefer": "respond-async"}, timeout=60, trust_env=False
        ).json()
        path = f"{url}/ingestions/{accepted['ingestion_id']}/events"

        def heard(last: str | None = None) -> list[tuple[str, int, dict[str, object]]]:
            headers = {"Last-Event-ID": last} if last else {}
            with httpx.stream("GET", path, headers=headers, timeout=120, trust_env=False) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                text = answer.read().decode()
            found = []
            for block in filter(None, text.split("\n\n")):
                fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
                if fields:
                    found.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
            return found

        events = heard()
        assert events[-1][0] == "end"
        assert events[-1][2]["status"] == "completed"
        assert [kind for kind, _, _ in events].count("end") == 1
        numbers = [number for _, number, _ in events]
        assert numbers == sorted(numbers)
        again = heard(last=str(numbers[-1]))
        assert [kind for kind, _, _ in again if kind == "end"] == ["end"], "whoever comes back hears the end"
        assert httpx.get(f"{url}/ingestions/{'f' * 32}/events", trust_env=False).status_code == 404
    finally:
        stop(process)
