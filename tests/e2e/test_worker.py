"""Workers over real processes: ``cubeport worker`` runs the jobs that ``cubeport serve --no-jobs`` accepts."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

from .conftest import CUBEPORT, here, start, stop

HELD = {"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": "measure:before=sleep:60"}


class Worker:
    """A process of ``cubeport worker``, and what it has said."""

    def __init__(self, root: Path, *flags: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [*CUBEPORT, "worker", "--instance", str(root), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def until(self, words: str) -> None:
        wait(lambda: words in self.said or self.process.poll() is not None, lambda: self.said)
        assert words in self.said, self.said

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self._reader.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def wait(until: Callable[[], object], why: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


@pytest.fixture
def workers() -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def start(root: Path, *flags: str, **how: Any) -> Worker:
        made.append(Worker(root, *flags, **how))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def root(tmp_path: Path, files: Path) -> Path:
    assert here("init", tmp_path / "instance", "--allow-root", files).returncode == 0
    return tmp_path / "instance"


# Too large for a kept child, so that its data are in the staging folder before they are checked.
VALUES = np.random.default_rng(1).normal(280, 5, (20, 480, 500)).astype("float32")


@pytest.fixture
def source(files: Path) -> Path:
    cube = xr.Dataset(
        {"t": (("time", "lat", "lon"), VALUES, {"units": "K"})},
        coords={
            "time": ("time", np.arange(20), {"units": "days since 2024-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(-60, 60, 480), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 100, 500), {"units": "degrees_east"}),
        },
    )
    cube.to_netcdf(files / "t.nc")
    return files / "t.nc"


def get(url: str) -> Any:
    return httpx.get(url, timeout=60, trust_env=False).json()


def ask(url: str, source: Path, dataset_id: str = "t") -> httpx.Response:
    body = {"dataset_id": dataset_id, "source": str(source)}
    return httpx.post(f"{url}/ingestions", json=body, headers={"Prefer": "respond-async"}, timeout=60, trust_env=False)


def test_a_worker_runs_what_a_server_without_jobs_accepts_and_another_takes_what_a_killed_one_left(
    root: Path, source: Path, workers: Callable[..., Worker]
) -> None:
    server, url = start(root, "--no-jobs")
    try:
        answer = ask(url, source)
        assert answer.status_code == 202
        assert get(f"{url}/ready")["servers"] == {"running": 1, "running_jobs": 0, "other_configuration": 0, "other_version": 0}
        said = here("doctor", "--instance", root).stdout
        assert "1 waiting, and no process runs jobs" in said
        job = f"{url}/ingestions/{answer.json()['ingestion_id']}"
        doomed = workers(root, env=HELD)
        doomed.until("Runs the jobs, schedules and webhooks of")
        assert "2 ingestions at once; 1 job waits now." in doomed.said
        wait(lambda: list((root / "data" / "staging").rglob("zarr.json")), lambda: doomed.said)
        assert get(job)["status"] == "running"
        assert get(f"{url}/ready")["servers"]["running_jobs"] == 1
        doctor = here("doctor", "--all", "--instance", root).stdout
        assert "server without jobs" in doctor
        assert "worker" in doctor
        assert "no process runs jobs" not in doctor
        doomed.process.kill()
        doomed.process.wait(30)
        other = workers(root, "--jobs", "1")
        other.until("completed: create, version")
        assert "one ingestion at once" in other.said
        assert "the process that ran it died, and it waits again" in other.said
        seen = get(job)
        assert (seen["status"], seen["attempt"]) == ("completed", 2), seen
        with xr.open_zarr(f"{url}/zarr/t", storage_options={"client_kwargs": {"trust_env": False}}) as cube:
            np.testing.assert_array_equal(cube["t"].values, VALUES)
        assert get(f"{url}/ready")["servers"]["running_jobs"] == 1
        assert other.end() == 0
        assert "Stopping: no job begins any more" in other.said
        assert other.said.endswith("The worker has stopped.\n")
        assert get(f"{url}/ready")["servers"] == {"running": 1, "running_jobs": 0, "other_configuration": 0, "other_version": 0}
    finally:
        stop(server)


@pytest.mark.slow
def test_ctrl_c_lets_the_running_job_end_and_a_second_one_hands_it_over(
    root: Path, source: Path, workers: Callable[..., Worker]
) -> None:
    made = here("ingest", source, "--id", "t", "--async", "--json", "--instance", root)
    assert made.returncode == 0, made.stderr
    slow = workers(root, env={**HELD, "CUBEPORT_FAIL_POINTS": "measure:before=sleep:3"})
    wait(lambda: list((root / "data" / "staging").rglob("zarr.json")), lambda: slow.said)
    assert slow.end(signal.SIGINT) == 0, slow.said
    assert "completed: create, version" in slow.said
    assert "Stopping: no job begins any more" in slow.said
    made = here("ingest", source, "--id", "u", "--async", "--json", "--instance", root)
    held = workers(root, env=HELD)
    wait(lambda: list((root / "data" / "staging").rglob("zarr.json")), lambda: held.said)
    held.process.send_signal(signal.SIGINT)
    held.until("Stopping")
    assert held.end(signal.SIGINT) == 130, held.said
    assert "Stopped at once: the next process that looks takes the jobs that were running." in held.said
    again = workers(root)
    again.until("completed: create, version")
    assert again.end() == 0


def test_a_read_only_instance_has_no_worker(root: Path) -> None:
    with (root / "config" / "service.yaml").open("a") as file:
        file.write("read_only: true\n")
    refused = here("worker", "--instance", root)
    assert refused.returncode == 2
    assert "This instance is read-only, so it has no jobs to run." in refused.stderr
    assert "read_only: false" in refused.stderr


@pytest.mark.slow
def test_a_fire_of_a_schedule_runs_once_among_two_workers(root: Path, files: Path, workers: Callable[..., Worker]) -> None:
    def day(n: int) -> None:
        coords = {
            "time": ("time", [n], {"units": "days since 2024-01-01", "standard_name": "time"}),
            "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"}),
        }
        cube = xr.Dataset({"t": (("time", "lat", "lon"), np.full((1, 2, 2), n, "f4"), {"units": "K"})}, coords)
        cube.to_netcdf(files / f"sst_2024010{n + 1}.nc")

    (root / "config" / "datasets" / "sst.yaml").write_text(
        f"id: sst\ntitle: Sea surface temperature\nperiod_type: daily\n"
        f"source: {{kind: files, paths: '{files}/sst_{{YYYY}}{{MM}}{{DD}}.nc'}}\n"
        f"sync: {{kind: temporal, schedule: '* * * * *'}}\n"
    )
    day(0)
    made = here("ingest", "sst", "--start", "2024-01-01", "--instance", root)
    assert made.returncode == 0, made.stderr
    day(1)
    server, url = start(root, "--no-jobs")
    try:
        both = [workers(root), workers(root)]
        for each in both:
            each.until("Runs the jobs")
        deadline = time.monotonic() + 150
        while get(f"{url}/datasets/sst")["extent"]["temporal"]["end"] != "2024-01-02":
            assert time.monotonic() < deadline, [each.said for each in both]
            time.sleep(1)
        done = [each for each in get(f"{url}/ingestions?dataset_id=sst")["items"] if each["kind"] == "sync"]
        fires = {each["created_at"][:16] for each in done}
        assert len(done) == len(fires) >= 1, "one run for each minute"
        assert sum(each.said.count("completed: append") for each in both) == 1
        with xr.open_zarr(f"{url}/zarr/sst", storage_options={"client_kwargs": {"trust_env": False}}) as cube:
            np.testing.assert_array_equal(cube["t"].values[:, 0, 0], [0, 1])
    finally:
        stop(server)
