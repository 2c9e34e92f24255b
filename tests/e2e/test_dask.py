"""Ingestions on a real Dask cluster: the same bytes as without it, whatever happens to workers and scheduler."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from tests import dask_cluster
from tests.dask_cluster import Cluster
from tests.objectstore import ObjectStore
from tests.pages import Follower, blocks

import cubeport
from cubeport.adapters.executors.dask import DaskExecutor
from cubeport.errors import ExecutorUnavailable
from cubeport.main import executing, prepare
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest

from .conftest import CUBEPORT, cli, start, stop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNIT = 4_000_000
"""Bytes of a unit: each of the tests' ingestions has at least eight."""
FILES = 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster.running(tmp_path_factory.mktemp("dask") / "cluster", 2) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """12 files of 10 days, compressed."""
    folder = tmp_path_factory.mktemp("sources")
    made = []
    for number in range(FILES):
        values = np.round(np.random.default_rng(number).normal(280, 10, (10, 180, 360)), 1).astype("float32")
        cube = xr.Dataset(
            {"t": (("time", "lat", "lon"), values, {"units": "K"})},
            coords={
                "time": ("time", 10 * number + np.arange(10), {"units": "days since 2000-01-01", "standard_name": "time"}),
                "lat": ("lat", np.linspace(-89.5, 89.5, 180), {"units": "degrees_north"}),
                "lon": ("lon", np.arange(360.0), {"units": "degrees_east"}),
            },
        )
        made.append(folder / f"days-{number:02}.nc")
        cube.to_netcdf(made[-1], encoding={"t": {"zlib": True, "complevel": 1, "chunksizes": (1, 180, 360)}})
    return made


def flags(cluster: Cluster, **more: Any) -> dict[str, Any]:
    return {"jobs__executor": "dask", "jobs__dask_address": cluster.address, "jobs__unit_bytes": UNIT} | more


def ingested(root: Path, files: list[Path], listener: Callable[[str, int, int], None] | None = None, **settings: Any) -> Ingestion:
    """Ingest *files* into a new instance."""
    prepare(root)
    with cubeport.connect(root, **settings) as service:
        return service.ingest_here(IngestionRequest(dataset_id="d"), FileOptions(files=tuple(map(str, files))), listener=listener)


def stored(root: Path) -> dict[str, str]:
    [folder] = root.glob("data/store/d/*")
    return {
        str(each.relative_to(folder)): hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.rglob("*") if each.is_file()
    }


def attempts(root: Path) -> int:
    """How many times a unit was begun."""
    return sum(each.is_dir() for each in root.glob("data/staging/*/units/*"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, files: list[Path]) -> dict[str, str]:
    """The version that this process makes alone."""
    root = tmp_path_factory.mktemp("plain") / "instance"
    assert ingested(root, files).status == "completed"
    return stored(root)


def test_twelve_files_are_the_same_bytes(cluster: Cluster, files: list[Path], plain: dict[str, str], tmp_path: Path) -> None:
    begun: list[int] = []
    phases: list[str] = []

    def listener(phase: str, done: int, total: int) -> None:
        phases.append(phase)
        begun.append(attempts(tmp_path / "instance"))

    done = ingested(tmp_path / "instance", files, listener, **flags(cluster))
    assert done.status == "completed", done.error
    assert stored(tmp_path / "instance") == plain
    assert max(begun) >= 8, "the workers made it"
    assert not any((tmp_path / "instance" / "data" / "staging").iterdir())
    assert list(dict.fromkeys(phases)) == [
        "planning",
        "checking",
        "writing",
        "measuring",
        "sealing",
        "committing",
        "done",
    ]


@contextmanager
def killing_one(cluster: Cluster, root: Path, *, after: int, later_s: float) -> Iterator[list[int]]:
    """Kill a worker whose child works, once, a moment after more than so many units have begun. Start another one."""
    killed: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while attempts(root) <= after and not ended.wait(0.005):
            pass
        ended.wait(later_s)
        while not ended.is_set() and not killed:
            if busy := cluster.busy():
                killed.append(busy[0].pid)
                cluster.kill(busy[0])
                cluster.add()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_a_worker_killed_in_the_middle_changes_nothing(
    cluster: Cluster, files: list[Path], plain: dict[str, str], tmp_path: Path
) -> None:
    begun: list[int] = []
    assert (
        ingested(tmp_path / "whole", files, lambda *_: begun.append(attempts(tmp_path / "whole")), **flags(cluster)).error is None
    )
    for point in range(10):
        root = tmp_path / str(point)
        after = point // 2 * max(begun) // 6  # of the checks, and of the units, each of which is written and read back
        with killing_one(cluster, root, after=after, later_s=0.1 * (point % 2)) as killed:
            done = ingested(root, files, **flags(cluster))
        assert done.status == "completed", done.error
        assert killed, f"nobody was killed at {point}"
        assert stored(root) == plain
        shutil.rmtree(root)
        cluster.wait(2)


def test_a_worker_killed_with_answers_that_nobody_has_fetched(
    cluster: Cluster, files: list[Path], plain: dict[str, str], tmp_path: Path
) -> None:
    """Its finished units are lost with it, and are made again."""
    from distributed import Client

    root = tmp_path / "instance"
    killed: list[int] = []
    checks: list[int] = []

    def answers(dask_scheduler: Any) -> dict[str, int]:
        return {each.address: len(each.has_what) for each in dask_scheduler.workers.values()}

    def listener(phase: str, done: int, total: int) -> None:
        if phase != "writing" or killed:
            return
        checks.append(attempts(root))
        if checks[-1] == checks[0]:  # no unit has begun yet
            return
        with Client(cluster.address, set_as_default=False) as client:
            pids = client.run(os.getpid)
            deadline = time.monotonic() + 60
            while not (held := [each for each, count in client.run_on_scheduler(answers).items() if count]):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            [victim] = [each for each in cluster.workers if each.pid == pids[held[0]]]
            killed.append(victim.pid)
            cluster.kill(victim)
            cluster.add()
            while held[0] in client.run_on_scheduler(answers):
                time.sleep(0.02)

    done = ingested(root, files, listener, **flags(cluster))
    assert done.status == "completed", done.error
    assert killed
    assert stored(root) == plain
    cluster.wait(2)


def test_all_workers_killed_and_started_again(cluster: Cluster, files: list[Path], plain: dict[str, str], tmp_path: Path) -> None:
    killed: list[int] = []

    def listener(phase: str, done: int, total: int) -> None:
        if phase == "writing" and done and not killed and attempts(tmp_path / "instance") > 2:
            for each in tuple(cluster.workers):
                killed.append(each.pid)
                cluster.kill(each)
            cluster.add()
            cluster.add()

    done = ingested(tmp_path / "instance", files, listener, **flags(cluster))
    assert done.status == "completed", done.error
    assert len(killed) == 2
    assert stored(tmp_path / "instance") == plain
    cluster.wait(2)


def test_a_damaged_file_is_refused_in_the_same_words(cluster: Cluster, files: list[Path], tmp_path: Path) -> None:
    bad = [tmp_path / each.name for each in files]
    for source, target in zip(files, bad, strict=True):
        shutil.copy(source, target)
    middle = bad[7].stat().st_size // 2
    with bad[7].open("r+b") as file:
        file.seek(middle)
        file.write(os.urandom(5_000))
    words = []
    for name, settings in (("alone", {}), ("dask", flags(cluster))):
        done = ingested(tmp_path / name, bad, **settings)
        assert done.status == "failed"
        assert done.error is not None
        words.append({key: value for key, value in done.error.items() if key != "operation_id"})
        assert not any((tmp_path / name / "data" / "staging").iterdir())
    assert words[0] == words[1]
    assert "days-07.nc" in words[0]["detail"]


def test_a_cancelled_ingestion_leaves_nothing_and_the_workers_are_free(cluster: Cluster, files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "instance"
    prepare(root)
    with cubeport.connect(root, **flags(cluster)) as service:

        def listener(phase: str, done: int, total: int) -> None:
            if phase == "writing" and done and attempts(root) > 2:
                service.cancel(service.ingestions().items[0].ingestion_id)

        options = FileOptions(files=tuple(map(str, files)))
        done = service.ingest_here(IngestionRequest(dataset_id="d"), options, listener=listener)
        assert done.status == "cancelled"
        assert not any((root / "data" / "staging").iterdir())
        assert not list(root.glob("data/store/*/*"))
    deadline = time.monotonic() + 10
    while cluster.busy() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not cluster.busy()


def test_a_server_that_dies_leaves_nothing_behind_at_the_workers(cluster: Cluster, files: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "instance"
    prepare(root)
    environment = {**os.environ, **{f"CUBEPORT_{key.upper()}": str(value) for key, value in flags(cluster).items()}}
    words = ["ingest", *files, "--id", "d", "--instance", root]
    process = subprocess.Popen([*CUBEPORT, *map(str, words)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (attempts(root) > 2 and cluster.busy()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it was killed before its end"
    process.send_signal(signal.SIGKILL)
    process.wait()
    recovered = cli("recover", "--instance", root)
    assert recovered.returncode == 0, recovered.stderr
    deadline = time.monotonic() + 30
    while cluster.busy() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not cluster.busy()
    assert not any((root / "data" / "staging").iterdir())


def test_a_scheduler_that_does_not_answer_is_a_refusal(
    cluster: Cluster, files: list[Path], plain: dict[str, str], tmp_path: Path
) -> None:
    nobody = flags(cluster, jobs__dask_address="tcp://127.0.0.1:9", jobs__dask_wait_s=1)
    began = time.monotonic()
    done = ingested(tmp_path / "nobody", files, **nobody)
    assert done.status == "failed"
    assert done.error is not None
    assert (done.error["kind"], done.error["detail"]) == (
        "executor-unavailable", "The Dask scheduler tcp://127.0.0.1:9 does not answer."
    )  # fmt: skip
    assert time.monotonic() - began < 60
    assert not any((tmp_path / "nobody" / "data" / "staging").iterdir())
    # What a worker is not needed for goes on.
    with cubeport.connect(tmp_path / "nobody", **nobody) as service:
        small = service.ingest_here(IngestionRequest(dataset_id="small"), FileOptions(files=(str(files[0]),)))
        assert small.status == "completed", small.error


def test_a_stopped_scheduler_and_one_without_workers_are_refusals(files: list[Path], tmp_path: Path) -> None:
    with dask_cluster.running(tmp_path / "empty", 0) as empty:
        done = ingested(tmp_path / "none", files, **flags(empty, jobs__dask_wait_s=2))
        assert done.error is not None
        assert done.error["detail"] == f"The Dask scheduler {empty.address} has no workers."
        empty.add()
        empty.wait(1)
        stopped: list[float] = []

        def listener(phase: str, done: int, total: int) -> None:
            if phase == "writing" and done and not stopped and attempts(tmp_path / "stopped") > 2:
                stopped.append(time.monotonic())
                empty.scheduler.send_signal(signal.SIGSTOP)

        try:
            done = ingested(tmp_path / "stopped", files, listener, **flags(empty, jobs__dask_wait_s=3))
            assert done.error is not None
            assert done.error["kind"] == "executor-unavailable"
            assert time.monotonic() - stopped[0] < 12, "3 s of patience and 2 s for the workers, not 10 and 5 more"
        finally:
            empty.scheduler.send_signal(signal.SIGCONT)


def test_a_silent_scheduler_takes_dask_wait_s_and_does_not_hold_up_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing
        executor = DaskExecutor(f"tcp://127.0.0.1:{silent.getsockname()[1]}", 1.5)
        executor.width()  # imports Dask
        time.sleep(2.1)
        began = time.monotonic()
        with pytest.raises(ExecutorUnavailable, match="does not answer"):
            executor.run([{}], progress=lambda _: None, stop=lambda: None)
        assert time.monotonic() - began < 4
        began = time.monotonic()
        for _ in range(10):
            assert executing.summary(executor) == {"status": "executor-unavailable"}
        assert time.monotonic() - began < 3, "no answer is remembered too"


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_a_worker_that_does_not_see_the_folder_is_named(files: list[Path], tmp_path: Path) -> None:
    """The worker has an empty folder where the server has its data, as on a machine without the mount."""
    root = tmp_path / "instance"
    (root / "data").mkdir(parents=True)
    with dask_cluster.running(tmp_path / "cluster", 0) as apart:
        apart.add("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {root}/data && exec "$@"', "sh")
        apart.wait(1)
        done = ingested(root, files, **flags(apart))
        assert done.error is not None
        assert done.error["kind"] == "executor-unavailable"
        assert "does not see the data folder of the server" in done.error["detail"]
        assert "mount the folder of data_dir" in done.error["next"]


def test_ready_and_doctor_say_whether_the_scheduler_answers(cluster: Cluster, tmp_path: Path) -> None:
    root = tmp_path / "instance"
    prepare(root)
    service = root / "config" / "service.yaml"
    text = service.read_text()
    for address, word in ((cluster.address, "ok"), ("tcp://127.0.0.1:9", "executor-unavailable")):
        service.write_text(f"{text}\njobs: {{executor: dask, dask_address: '{address}'}}\n")
        process, url = start(root)
        try:
            answer = httpx.get(url + "/ready", timeout=30, trust_env=False)
            assert answer.status_code == 200  # readers need no executor
            assert answer.json()["executor"] == ({"status": "ok", "workers": 2, "threads": 2} if word == "ok" else {"status": word})
        finally:
            stop(process)
        doctor = cli("doctor", "--instance", root, "--json")
        found = [each for each in json.loads(doctor.stdout) if each["place"] == "jobs.dask_address"]
        assert [(each["kind"], each["level"]) for each in found] == [("executor", "ok") if word == "ok" else (word, "error")]
        assert doctor.returncode == (0 if word == "ok" else 1)


def test_without_the_setting_nothing_of_dask_is_imported(files: list[Path], tmp_path: Path) -> None:
    program = (
        "import sys, cubeport\n"
        "from pathlib import Path\n"
        "from cubeport.main import prepare\n"
        "from cubeport.service.ingestions import FileOptions, IngestionRequest\n"
        "prepare(Path(sys.argv[1]))\n"
        "with cubeport.connect(sys.argv[1]) as service:\n"
        "    done = service.ingest_here(IngestionRequest(dataset_id='d'), FileOptions(files=tuple(sys.argv[2:])))\n"
        "    assert done.status == 'completed', done.error\n"
        "print([each for each in sys.modules if each.startswith(('distributed', 'tornado', 'cubeport.adapters.executors'))])\n"
    )
    words = [sys.executable, "-c", program, tmp_path / "instance", *files[:2]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_page_works_as_written(files: list[Path], tmp_path: Path) -> None:
    """The commands of the page, with a free port and small units. Without workers, the same ingestion is refused."""
    install, cluster, ingest = (each for each in blocks("how-to/dask.md") if each.language == "sh")
    [_, example] = (each for each in blocks("how-to/dask.md") if each.title or each.language == "python")
    assert "cubeport[dask]" in install.text
    assert "scheduler_address" in example.text
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    reader = Follower(tmp_path)
    reader.environment |= {
        "CUBEPORT_JOBS__UNIT_BYTES": str(UNIT),
        "CUBEPORT_JOBS__DASK_WAIT_S": "2",
        "DASK_TEMPORARY_DIRECTORY": str(tmp_path),
    }
    prepare(tmp_path)
    (tmp_path / "archive").mkdir()
    for each in files:
        shutil.copy(each, tmp_path / "archive")
    [settings] = (each for each in blocks("how-to/dask.md") if each.language == "yaml")
    (tmp_path / "config" / "service.yaml").write_text(settings.text.replace("8786", port))
    with ExitStack() as stack:
        started = []
        for line in cluster.text.splitlines():
            command = ["bash", "-c", f"exec {line.replace('8786', port)}"]
            log = stack.enter_context((tmp_path / f"{len(started)}.log").open("wb"))
            process = subprocess.Popen(command, cwd=tmp_path, env=reader.environment, stdout=log, stderr=log)
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            started.append(process)
        Cluster(tmp_path, int(port), started[0]).wait(2)
        said = reader.run(ingest)
        assert "2 workers, 2 threads" in said
        started[1].terminate()
        started[1].wait(30)
        again = subprocess.run(
            [*CUBEPORT, "ingest", *map(str, files), "--id", "other"],
            cwd=tmp_path, env=reader.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert again.returncode == 6, again.stdout + again.stderr
        assert "has no workers" in again.stderr


def test_an_update_is_that_of_one_process(cluster: Cluster, files: list[Path], plain: dict[str, str], tmp_path: Path) -> None:
    """The last four files are added to a dataset of eight, and the result is compared with an update without Dask."""
    found = []
    for name, settings in (("alone", {}), ("dask", flags(cluster))):
        root = tmp_path / name
        assert ingested(root, files[:8], **settings).status == "completed"
        seen: list[int] = []
        with cubeport.connect(root, **settings) as service:
            options = FileOptions(files=tuple(map(str, files[8:])))
            request = IngestionRequest(dataset_id="d", mode="update", publish=True)
            done = service.ingest_here(request, options, listener=lambda *_: seen.append(attempts(root)))  # noqa: B023 - in this turn
            assert done.status == "completed", done.error
            found.append(service.shown("d").version.digest)
        assert (max(seen) > 2) == (name == "dask")
    assert found[0] == found[1]


def test_versions_in_a_bucket_are_written_by_workers_and_sent_by_the_server(
    cluster: Cluster,
    files: list[Path],
    plain: dict[str, str],
    tmp_path: Path,
    object_store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("icechunk")
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "instance"
    (root / "config").mkdir(parents=True)
    profiles = {
        "default": {"protocol": "file", "root": "./files"},
        "bulk": object_store.profile(f"{object_store.bucket()}/cubes", use=["data"]),
    }
    (root / "config" / "profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    (root / "config" / "service.yaml").write_text("engine: icechunk\nprofile: bulk\n")
    begun: list[int] = []
    done = ingested(root, files[:10], lambda *_: begun.append(attempts(root)), **flags(cluster))
    assert done.status == "completed", done.error
    assert max(begun) > 6
    with cubeport.connect(root, **flags(cluster)) as service:
        request = IngestionRequest(dataset_id="d", mode="update", publish=True)
        updated = service.ingest_here(request, FileOptions(files=tuple(map(str, files[10:]))))
        assert updated.status == "completed", updated.error
        values = service["d"].open().t.values
    with xr.open_mfdataset(files, combine="by_coords") as sources:
        assert values.tobytes() == sources.t.values.tobytes()
