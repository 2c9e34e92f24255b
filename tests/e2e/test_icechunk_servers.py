"""Two servers with no folder in common, one PostgreSQL and one bucket: what one publishes, the other shows at its next request."""

from __future__ import annotations

import io
import json
import shutil
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
