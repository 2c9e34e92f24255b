"""Two servers with no folder in common, one PostgreSQL and one bucket: what one publishes, the other shows at its next request.

``CUBEPORT_WRITERS_S`` is how long four writers append while the servers are killed.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.seaweedfs import SeaweedFS

pytest.importorskip("icechunk")

from .conftest import cli, start, stop
from .test_postgresql import Machine, killed, made, values


@pytest.fixture
def machines(
    tmp_path: Path, database: str, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Machine]]:
    """Give what starts a server by the name of its machine. They have the files of the sources in common, and nothing else."""
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    running: list[Machine] = []
    first, sources = tmp_path / "a", tmp_path / "sources"
    sources.mkdir()
    bulk = seaweed.profile(f"{seaweed.bucket()}/cubes", use=["data"])
    (first / "config").mkdir(parents=True)
    profiles = {"default": {"protocol": "file", "root": "./files"}, "bulk": dict(bulk)}
    (first / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    settings = f"engine: icechunk\nprofile: bulk\nauth: {{open_on_loopback: true}}\nsources: {{roots: ['{sources}']}}\n"
    (first / "config/service.yaml").write_text(settings)

    def machine(name: str) -> Machine:
        root = tmp_path / name
        if not (root / ".cubeport").exists():
            if root == first:
                done = cli("init", root, "--catalog", database)
                assert done.returncode == 0, done.stderr
            else:
                shutil.copytree(first / "config", root / "config")
                (root / ".cubeport").mkdir()
                shutil.copy(first / ".cubeport" / "catalog.yaml", root / ".cubeport")
        process, url = start(root)
        running.append(Machine(root, process, url))
        return running[-1]

    yield machine
    for each in running:
        if each.process.poll() is None:
            stop(each.process)


@pytest.mark.parametrize("kills", [pytest.param(1, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.crash)])
def test_two_servers_share_a_catalog_and_a_bucket_and_nothing_else(
    machines: Callable[[str], Machine], tmp_path: Path, kills: int
) -> None:
    sources = tmp_path / "sources"
    first, second = machines("a"), machines("b")
    for n, (at, other) in enumerate([(first, second), (second, first)]):
        done = at.ingest("cube", made(sources / f"{n}.nc", n + 0.5), mode="replace")
        assert done.json()["status"] == "completed", done.text
        for each in (other, at):
            np.testing.assert_array_equal(values(each.url, "cube"), np.full((4, 3, 5), n + 0.5, "f4"))
        shown = other.get("/ogcapi/collections/cube/coverage", f="netcdf")
        with xr.open_dataset(io.BytesIO(shown.content), engine="h5netcdf") as answer:
            np.testing.assert_array_equal(answer["t"].values, np.full((4, 3, 5), n + 0.5, "f4"))
    # One dies while it replaces; the other shows the old or the new, and takes the next version without help.
    with ThreadPoolExecutor(1) as pool:
        for n in range(2, 2 + kills):
            pending = pool.submit(second.ingest, "cube", made(sources / f"{n}.nc", n + 0.5), mode="replace")
            time.sleep(0.3 * n)
            killed(second)
            pending.exception()
            seen = set(np.unique(values(first.url, "cube")).tolist())
            assert seen in ({n - 0.5}, {n + 0.5}), "old or new"
            done = first.ingest("cube", made(sources / f"{n}-again.nc", n + 0.5), mode="replace")
            assert done.json()["status"] == "completed", done.text
            second = machines("b")
            for each in (first, second):
                np.testing.assert_array_equal(values(each.url, "cube"), np.full((4, 3, 5), n + 0.5, "f4"))
    checked = cli("fsck", "--data", "--instance", first.root)
    assert checked.returncode == 0, checked.stdout


WRITERS_S = float(os.environ.get("CUBEPORT_WRITERS_S", "60"))


def hours(path: Path, steps: range) -> Path:
    """Write a file whose values are the number of their step."""
    levels = np.arange(steps.start, steps.stop)
    xr.Dataset(
        {"t": (("time", "lat", "lon"), np.ones((len(levels), 20, 30), "f4") * levels[:, None, None], {"units": "K"})},
        {
            "time": ("time", levels, {"units": "hours since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", np.linspace(0, 38, 20), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 58, 30), {"units": "degrees_east"}),
        },
    ).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.crash
@pytest.mark.timeout(3_600)
def test_what_four_writers_were_told_is_there_although_both_servers_are_killed_again_and_again(
    machines: Callable[[str], Machine], tmp_path: Path
) -> None:
    pair = [machines("a"), machines("b")]
    done = pair[0].ingest("cube", hours(tmp_path / "sources/first.nc", range(3)))
    assert done.json()["status"] == "completed", done.text
    numbers, acknowledged, kills = itertools.count(3), [0, 1, 2], 0
    until = time.monotonic() + WRITERS_S
    writing = threading.Lock()

    def write(place: int) -> None:
        while time.monotonic() < until:
            with writing:
                step = next(numbers)
                source = hours(tmp_path / f"sources/{step}.nc", range(step, step + 1))
            while time.monotonic() < until + 30:  # also until a server is back
                try:
                    answer = pair[place].ingest("cube", source, mode="update", allow_gaps=True).json()
                except (httpx.TransportError, ValueError):
                    answer = {}
                if answer.get("status") == "completed":
                    acknowledged.append(step)
                    break
                time.sleep(0.3)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, place) for place in (0, 1, 0, 1)]
        while time.monotonic() < until:
            time.sleep(6)
            killed(pair[kills % 2])
            pair[kills % 2] = machines("ab"[kills % 2])
            kills += 1
        for each in writers:
            each.result()
    with xr.open_zarr(f"{pair[0].url}/zarr/cube", consolidated=True, decode_times=False) as served:
        steps, levels = served["time"].values.tolist(), served["t"].values
    print(f"{len(acknowledged)} steps acknowledged, {len(steps)} there; {kills} kills")
    assert set(acknowledged) <= set(steps), "an acknowledged step is lost"
    assert steps == sorted(set(steps))
    np.testing.assert_array_equal(levels, np.ones_like(levels) * np.array(steps, "f4")[:, None, None])
    assert len(acknowledged) > kills
    for each in pair:
        stop(each.process)
        assert cli("datasets", "--instance", each.root).returncode == 0
        assert list((each.root / "data/staging").iterdir()) == [], "what a killed server left there"
    checked = cli("fsck", "--data", "--instance", pair[0].root)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_a_server_ingests_what_another_received(machines: Callable[[str], Machine], tmp_path: Path) -> None:
    first, second = machines("a"), machines("b")
    body = made(tmp_path / "sent.nc", 7.5).read_bytes()
    sent = httpx.post(f"{first.url}/uploads", content=body, timeout=60, trust_env=False).json()
    request = {"dataset_id": "sent", "source": f"upload:{sent['upload_id']}", "publish": True}
    done = httpx.post(f"{second.url}/ingestions", json=request, headers={"Prefer": "wait=60"}, timeout=120, trust_env=False)
    assert done.json()["status"] == "completed", done.text
    for each in (first, second):
        np.testing.assert_array_equal(values(each.url, "sent"), np.full((4, 3, 5), 7.5, "f4"))
    assert cli("fsck", "--data", "--instance", first.root).returncode == 0, "an upload is no stray object"
