"""``kill -9`` at any moment of the demonstration's ingest: nothing is half there, and the next run completes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.adapters.engines.opened import VersionStore

from .conftest import CUBEPORT, cli

pytest.importorskip("iris_sample_data", reason="the demonstration's data need the extra cubeport[demo]")

STEPS = [
    "started",
    "planned",
    "artifact_write_started",
    "begin",
    "bytes",
    "measure",
    "assemble",
    "fsync",
    "artifact_write_succeeded",
]
STEPS += ["publish", "catalog_write_started", "commit", "catalog_write_succeeded", "hooks_started", "afterwards"]
POINTS = [f"{name}:{side}" for name in STEPS for side in ("before", "after")] + ["bytes:half", "commit:unknown"]
SAMPLE = ["publish:after"]


def demo(root: Path, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*CUBEPORT, "demo", str(root), "--no-serve", "--no-progress"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def assert_whole(root: Path) -> None:
    """Whatever is published opens, with every value finite or missing as in the source; nothing else lies about."""
    import iris_sample_data

    sources = {"a1b-temperature": "A1B_north_america.nc", "ostia-sst": "ostia_monthly.nc"}
    with cubeport.connect(root) as service:
        shown = {each.texts.dataset_id: each for each in service.datasets(limit=1000).items}
        for dataset_id, name in sources.items():
            if dataset_id in shown:
                store = VersionStore(service.engines, dataset_id, shown[dataset_id].version.version_id)
                served = xr.open_zarr(store, consolidated=True, decode_times=False)
                with xr.open_dataset(Path(iris_sample_data.path) / name, decode_times=False) as wanted:
                    field = shown[dataset_id].description.fields[0]
                    np.testing.assert_array_equal(served[field].values, wanted[field].values)
    assert not list((root / ".cubeport" / "journal" / "open").glob("*")), "an operation was left open"
    assert not list((root / "data" / "staging").glob("*")), "bytes were left in staging"
    versions = {path.name for path in (root / "data" / "store").glob("*/*")}
    assert versions == {each.version.version_id for each in shown.values()}, "a version without a record, or the reverse"


def assert_completes(root: Path) -> None:
    done = cli("demo", root, "--no-serve", "--no-progress")
    assert done.returncode == 0, done.stderr
    assert_whole(root)
    again = cli("demo", root, "--no-serve", "--no-progress")
    assert "Nothing changed" in again.stderr


def killed_at(root: Path, point: str) -> None:
    process = demo(root, CUBEPORT_TESTING="1", CUBEPORT_FAIL_POINTS=point)
    assert process.wait(timeout=120) == -signal.SIGKILL, f"{point} did not fire"
    assert_whole(root)
    assert_completes(root)


@pytest.mark.parametrize("point", SAMPLE)
def test_a_kill_at_a_step_leaves_no_half(tmp_path: Path, point: str) -> None:
    killed_at(tmp_path / "demo", point)


@pytest.mark.crash
@pytest.mark.parametrize("point", [point for point in POINTS if point not in SAMPLE])
def test_a_kill_at_any_step_leaves_no_half(tmp_path: Path, point: str) -> None:
    killed_at(tmp_path / "demo", point)


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(10))
def test_a_kill_at_a_random_moment_leaves_no_half(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "demo"
    process = demo(root)
    time.sleep(random.Random(seed).uniform(0.5, 9.0))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if (root / ".cubeport" / "catalog.yaml").exists():
        assert_whole(root)
    assert_completes(root)
