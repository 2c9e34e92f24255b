"""One catalog in PostgreSQL, two servers: what one publishes the other shows at its next request, also when one is killed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
import xarray as xr
from tests.pages import blocks
from tests.postgres import Server

from cubeport.errors import NotFound

from .conftest import cli, here, start, stop
from .test_worker import Worker


@dataclass
class Machine:
    """An instance folder of its own, as on a machine of its own; only the database and the folder of chunks are shared."""

    root: Path
    process: subprocess.Popen[str]
    url: str

    def get(self, path: str, **params: Any) -> httpx.Response:
        return httpx.get(self.url + path, params=params, timeout=60, trust_env=False)

    def ingest(self, dataset_id: str, source: Path, wait: str = "60", **more: Any) -> httpx.Response:
        body = {"dataset_id": dataset_id, "source": {"kind": "files", "paths": [str(source)]}, "publish": True, **more}
        headers = {"Prefer": f"wait={wait}"}
        return httpx.post(self.url + "/ingestions", json=body, headers=headers, timeout=120, trust_env=False)


def values(url: str, dataset_id: str) -> np.ndarray[Any, Any]:
    """Return what xarray reads of the Zarr over HTTP."""
    with xr.open_zarr(f"{url}/zarr/{dataset_id}", consolidated=True) as served:
        return np.asarray(served["t"].values)


def made(path: Path, level: float) -> Path:
    """Write a small NetCDF file whose values are all *level*."""
    xr.Dataset(
        {"t": (("time", "lat", "lon"), np.full((4, 3, 5), level, "f4"), {"units": "K"})},
        {
            "time": ("time", np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]").astype("datetime64[ns]")),
            "lat": ("lat", [10.0, 20.0, 30.0], {"units": "degrees_north"}),
            "lon": ("lon", [1.0, 2.0, 3.0, 4.0, 5.0], {"units": "degrees_east"}),
        },
    ).to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "sources").mkdir()
    return tmp_path / "sources"


@pytest.fixture
def instances(tmp_path: Path, database: str, sources: Path) -> Callable[[str], Path]:
    """Give what makes the folder of a machine by its name. The first makes the catalog, the others get its ``catalog.yaml``."""
    first = tmp_path / "a"
    (tmp_path / "shared").mkdir()

    def instance(name: str) -> Path:
        root = tmp_path / name
        if (root / ".cubeport").exists():
            return root
        if root == first:
            done = here("init", root, "--catalog", database, "--allow-root", sources)
            assert done.returncode == 0, done.stderr
            with (root / "config" / "service.yaml").open("a") as file:
                file.write(f"data_dir: {tmp_path / 'shared'}\n")
        else:
            shutil.copytree(first / "config", root / "config")
            (root / ".cubeport").mkdir()
            shutil.copy(first / ".cubeport" / "catalog.yaml", root / ".cubeport")
        return root

    return instance


@pytest.fixture
def machines(instances: Callable[[str], Path]) -> Iterator[Callable[..., Machine]]:
    """Give what starts a server by the name of its machine."""
    running: list[Machine] = []

    def machine(name: str, *flags: str) -> Machine:
        root = instances(name)
        process, url = start(root, *flags)
        running.append(Machine(root, process, url))
        return running[-1]

    yield machine
    for each in running:
        if each.process.poll() is None:
            stop(each.process)


def killed(machine: Machine) -> None:
    """Kill the server and its children as a power cut would."""
    machine.process.send_signal(signal.SIGKILL)
    machine.process.communicate(timeout=20)


@pytest.mark.slow
def test_a_worker_of_another_machine_takes_what_a_killed_one_left(
    machines: Callable[..., Machine], instances: Callable[[str], Path], sources: Path
) -> None:
    server = machines("a", "--no-jobs")
    source = made(sources / "t.nc", 1.5)
    accepted = server.ingest("cube", source, wait="0")
    assert accepted.status_code == 202, accepted.text
    doomed = Worker(instances("b"), env={"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": "measure:before=sleep:120"})
    other: Worker | None = None
    try:
        doomed.until("begins, attempt 1")
        assert server.get("/ready").json()["servers"] == {
            "running": 1,
            "running_jobs": 1,
            "other_configuration": 0,
            "other_version": 0,
        }
        doomed.process.kill()
        doomed.process.wait(30)
        other = Worker(instances("c"))
        other.until("completed: create, version")
        np.testing.assert_array_equal(values(server.url, "cube"), np.full((4, 3, 5), 1.5, "f4"))
        job = server.get(f"/ingestions/{accepted.json()['ingestion_id']}").json()
        assert (job["status"], job["attempt"]) == ("completed", 2)
        assert other.end() == 0
        assert server.get("/ready").json()["servers"]["running_jobs"] == 0
    finally:
        for each in (doomed, *([other] if other is not None else [])):
            each.close()


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.crash)])
def test_two_servers_show_one_catalog_and_survive_each_others_death(
    machines: Callable[[str], Machine], sources: Path, database: str, kills: int
) -> None:
    first, second = machines("a"), machines("b")
    for n, (at, other) in enumerate([(first, second), (second, first)]):
        done = at.ingest(f"cube{n}", made(sources / f"{n}.nc", n + 0.5))
        assert done.status_code in (200, 201), done.text
        assert done.json()["status"] == "completed", done.text
        np.testing.assert_array_equal(values(other.url, f"cube{n}"), np.full((4, 3, 5), n + 0.5, "f4"))
        shown = other.get(f"/ogcapi/collections/cube{n}/coverage", f="netcdf")
        with xr.open_dataset(io.BytesIO(shown.content), engine="h5netcdf") as answer:
            np.testing.assert_array_equal(answer["t"].values, np.full((4, 3, 5), n + 0.5, "f4"))
        assert other.get("/stac/collections/cube0").status_code == 200
    # One replaces while the other is killed again and again; each acknowledged state is what the survivor shows next.
    with ThreadPoolExecutor(1) as pool:
        for n in range(2, 2 + kills):
            source = made(sources / f"{n}.nc", n + 0.5)
            pending = pool.submit(first.ingest, "cube0", source, mode="replace")
            time.sleep(0.1 * n)
            killed(second)
            done = pending.result()
            assert done.json()["status"] == "completed", done.text
            second = machines("b")
            for each in (first, second):
                np.testing.assert_array_equal(values(each.url, "cube0"), np.full((4, 3, 5), n + 0.5, "f4"))
    assert second.get("/ready").json()["servers"] == {
        "running": 2,
        "running_jobs": 2,
        "other_configuration": 0,
        "other_version": 0,
    }
    stop(second.process)
    with (second.root / "config" / "service.yaml").open("a") as file:
        file.write("# another\n")
    second = machines("b")
    assert first.get("/ready").json()["servers"]["other_configuration"] == 1
    assert "other-configuration" in here("doctor", "--instance", first.root).stdout
    with psycopg.connect(database) as connection:
        schema = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cubeport_%'").fetchone()
        assert schema is not None
        assert connection.execute(f"SELECT count(*) FROM {schema[0]}.journal_open").fetchone() == (0,)


@pytest.mark.slow
def test_a_killed_ingestion_is_done_again_by_the_other_server(
    machines: Callable[[str], Machine], sources: Path, tmp_path: Path
) -> None:
    """Its job is a row, its lock and its journal are sessions: whoever lives sees that its owner is dead, and goes on."""
    first = machines("a")
    assert first.ingest("cube", made(sources / "0.nc", 0.5)).json()["status"] == "completed"
    stop(first.process)
    os.environ["CUBEPORT_TESTING"], os.environ["CUBEPORT_FAIL_POINTS"] = "1", "publish:after"
    try:
        dying = machines("a")
    finally:
        del os.environ["CUBEPORT_TESTING"], os.environ["CUBEPORT_FAIL_POINTS"]
    second = machines("b")
    accepted = dying.ingest("cube", made(sources / "1.nc", 1.5), wait="0", mode="replace")
    assert accepted.status_code == 202, accepted.text
    dying.process.communicate(timeout=60)
    assert dying.process.returncode == -signal.SIGKILL
    np.testing.assert_array_equal(values(second.url, "cube"), np.full((4, 3, 5), 0.5, "f4"), err_msg="nothing is half there")
    job = f"/ingestions/{accepted.json()['ingestion_id']}"
    deadline = time.monotonic() + 60
    while (seen := second.get(job).json())["status"] not in ("completed", "failed") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert seen["status"] == "completed", seen
    np.testing.assert_array_equal(values(second.url, "cube"), np.full((4, 3, 5), 1.5, "f4"))
    left = list((tmp_path / "shared" / "staging").glob("*"))
    assert left == [], "what the dead one had begun is gone"
    doctor = here("doctor", "--instance", second.root)
    assert "open-operation" not in doctor.stdout, doctor.stdout


@pytest.mark.slow
def test_there_and_back(tmp_path: Path, database: str, sources: Path) -> None:
    """``convert`` moves an instance into the database and back; records, versions and values stay."""
    root = tmp_path / "instance"
    assert cli("init", root, "--allow-root", sources).returncode == 0
    source = made(sources / "0.nc", 7.5)
    done = cli("ingest", source, "--id", "cube", "--instance", root, "--json")
    assert done.returncode == 0, done.stderr
    before = cli("export", "records", "-o", tmp_path / "before.ndjson", "--instance", root)
    assert before.returncode == 0, before.stderr
    for step, to in enumerate((database, "sqlite", database)):
        moved = cli("convert", "--to", to, "--instance", root)
        assert moved.returncode == 0, moved.stderr
        after = tmp_path / f"after{step}.ndjson"
        assert cli("export", "records", "-o", after, "--instance", root).returncode == 0
        assert after.read_bytes() == (tmp_path / "before.ndjson").read_bytes()
        checked = cli("fsck", "--data", "--instance", root)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "password" not in (root / ".cubeport" / "catalog.yaml").read_text()
    process, url = start(root)
    try:
        np.testing.assert_array_equal(values(url, "cube"), np.full((4, 3, 5), 7.5, "f4"))
    finally:
        stop(process)


def test_addresses_with_passwords_are_written_nowhere(tmp_path: Path, database: str) -> None:
    secret = database.replace("cubeport@", "cubeport:geheim@")
    refused = cli("init", tmp_path / "x", "--catalog", secret)
    assert refused.returncode == 2
    assert "error[secret-refused]" in refused.stderr
    assert "geheim" not in refused.stderr
    env = {**os.environ, "CUBEPORT_CATALOG_URL": secret}
    assert cli("init", tmp_path / "x", "--catalog", "postgresql", env=env).returncode == 0
    assert cli("add", "-", "--instance", tmp_path / "x", "--json", env=env).returncode in (0, 2)
    told = json.loads(cli("info", "--instance", tmp_path / "x", "--json", env=env).stdout)
    assert set(told["versions"]) == {"cubeport", "postgresql"}
    for path in (tmp_path / "x").rglob("*"):
        assert path.is_dir() or b"geheim" not in path.read_bytes(), path
    without = cli("info", "--instance", tmp_path / "x")
    assert "CUBEPORT_CATALOG_URL" in without.stderr
    (tmp_path / "y").mkdir()
    assert cli("init", tmp_path / "y").returncode == 0
    assert "convert --to postgresql" in cli("info", "--instance", tmp_path / "y", env=env).stderr


def page(title: str) -> str:
    """Return a block of the page on PostgreSQL."""
    (found,) = [each.text for each in blocks("operations/postgresql.md") if each.title == title]
    return found


@pytest.mark.slow
def test_the_page_works_as_written(tmp_path: Path, postgres_server: Server) -> None:
    """Roles, set up, another machine, backup and restore; only the host and the folders are others."""
    port, name = postgres_server.port, f"t{tmp_path.stat().st_ino}"
    url = f"postgresql://climate@127.0.0.1:{port}/{name}"

    def run(text: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        text = text.replace("postgresql://climate@db.example.org/climate", url).replace("/srv", str(tmp_path))
        path = f"{Path(sys.executable).parent}:{postgres_server.programs}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path}
        return subprocess.run(["sh", "-euc", text], cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)

    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS climate")
        for statement in page("roles.sql").replace("DATABASE climate", f"DATABASE {name}").split(";")[:2]:
            connection.execute(statement)
    root = tmp_path / "climate"
    root.mkdir()
    for done in (run(page("set up"), root), run("echo one | cubeport add - --filename one.txt --title one --key one", root)):
        assert done.returncode == 0, done.stderr
    second = run(page("another machine"), root)
    assert second.returncode == 0, second.stdout + second.stderr
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'cubeport_%'").fetchone()
        assert found is not None
        reading = page("reader.sql").replace("cubeport_0123abcd", found[0]).replace("reader", f"{name}_reader")
    with psycopg.connect(postgres_server.url(name), autocommit=True) as connection:
        for statement in reading.strip().rstrip(";").split(";"):
            connection.execute(statement)
    as_reader = {**os.environ, "CUBEPORT_CATALOG_URL": url.replace("climate@", f"{name}_reader@")}
    assert "one" in cli("search", "--instance", root, env=as_reader).stdout
    refused = cli("edit", "one", "--title", "two", "--instance", root, env=as_reader)
    assert "error[read-only]: The role of the database address does not have the right" in refused.stderr
    dumped = run(page("back up"), tmp_path)
    assert dumped.returncode == 0, dumped.stderr
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {found[0]} CASCADE")
    assert "error[corrupt-catalog]" in cli("search", "--instance", root).stderr
    restored = run(page("restore"), tmp_path)
    assert restored.returncode == 0, restored.stderr
    assert "one" in cli("search", "--instance", root).stdout
    checked = cli("fsck", "--data", "--instance", root)
    assert checked.returncode == 0, checked.stdout


def test_requests_at_the_same_time_share_one_question_and_miss_no_commit(tmp_path: Path, database: str, sources: Path) -> None:
    """A dataset is not read for each request, and each request after a commit shows it."""
    import cubeport
    from cubeport.service.ingestions import FileOptions, IngestionRequest

    root = tmp_path / "instance"
    assert cli("init", root, "--catalog", database, "--allow-root", sources).returncode == 0
    with cubeport.connect(root) as service, cubeport.connect(root) as other:
        request, files = IngestionRequest(dataset_id="cube"), FileOptions(files=(str(made(sources / "0.nc", 0.5)),))
        assert service.ingest_here(request, files).status == "completed"
        service.publish("cube")
        statements: list[str] = []
        store: Any = service.catalog.backend.store  # type: ignore[attr-defined]
        fetched = store._fetched
        store._fetched = lambda connection, text, *more: (statements.append(str(text)), fetched(connection, text, *more))[1]
        with ThreadPoolExecutor(16) as pool:
            for n in range(3):
                other.describe("cube", title=f"Title {n}")
                statements.clear()
                seen = list(pool.map(lambda _: service.shown("cube").texts.title, range(64)))
                assert set(seen) == {f"Title {n}"}
                assert statements.count("{}") < 64, "several requests share one question for the generation"
                # Each of the threads can miss the new view once, before the first has read it.
                assert statements.count("{'key': 'cube'}") <= 16, statements
            service.catalog.update("cube", visibility="private")
            assert service.shown("cube").visibility == "private"
            other.unpublish("cube")
            with pytest.raises(NotFound):
                service.shown("cube")
