"""Killed at every named place of add, move, update and purge: afterwards nothing is lost, torn or left over.

``pytest -m crash`` runs every place on both backends; a sample runs always.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cubeport
from cubeport.catalog.disk import failpoints
from cubeport.catalog.disk.failpoints import NAMES, STATES
from cubeport.errors import BackendUnavailable, NoSpace, RecordNotFound, StoreUnavailable

KILLED = -signal.SIGKILL
ROLLBACK = ("rollback_started", "rolled_back", "failed")


def sides(*names: str) -> list[str]:
    return [f"{name}:{side}" for name in names for side in ("before", "after")]


BYTES = [*sides("artifact_write_started", "artifact_write_succeeded", "bytes", "fsync", "publish"), "bytes:half"]
COMMIT = [
    *sides(
        "started",
        "planned",
        "catalog_write_started",
        "commit",
        "catalog_write_succeeded",
        "hooks_started",
        "afterwards",
        "committed",
    ),
    "commit:unknown",
]
CASES: list[tuple[str, str]] = [
    *(("add", point) for point in (*COMMIT, *BYTES)),
    *(("move", point) for point in (*COMMIT, *BYTES, "planned:before@2", "planned:after@2")),
    *(("folder", point) for point in (*BYTES, "fsync:half", "artifact_write_started:before@2", "artifact_write_started:after@2")),
    *(("update", point) for point in (*COMMIT, *BYTES)),
    *(("purge", point) for point in COMMIT),
    *(("fail", point) for point in sides("rollback_started", "rolled_back")),
]
SAMPLE = [
    ("add", "bytes:half"),
    ("add", "publish:after"),
    ("move", "commit:unknown"),
    ("move", "afterwards:before"),
    ("update", "artifact_write_started:after"),
    ("purge", "commit:before"),
    ("purge", "afterwards:before"),
    ("fail", "rollback_started:before"),
]
ELSEWHERE = {*sides("lock", "begin", "fetch", "measure", "assemble", "overviews", "copy", "trash", "pointer"), "publish:half"}
"""Steps of an ingestion, of overviews, of NetCDF copies, of the service's gc and of tags in a bucket, which other tests pass."""

type Run = Callable[[str, str], int]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Callable[[Path, str, str], int]]:
    script = Path(__file__).with_name("zygote.py")
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def run(root: Path, action: str, points: str) -> int:
        process.stdin.write(json.dumps({"root": str(root), "action": action, "points": points}) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.fixture(scope="module", params=["sqlite", "tinydb"])
def made(request, tmp_path_factory) -> Path:
    """A catalog with one record, to be copied: a copy made while nobody writes opens anywhere."""
    root = tmp_path_factory.mktemp(request.param) / "instance"
    with cubeport.Catalog.create(root, request.param, plugins=False) as catalog:
        catalog.add_bytes(b"old bytes", {"n": 0}, filename="old.txt", key="old")
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "instance")
    (tmp_path / "source.bin").write_bytes(b"source" * 1000)
    (tmp_path / "tree" / "c").mkdir(parents=True)
    (tmp_path / "tree" / "zarr.json").write_bytes(b"{}")
    (tmp_path / "tree" / "c" / "0").write_bytes(b"0")
    return tmp_path / "instance"


@pytest.fixture
def run(zygote, root) -> Run:
    return lambda action, points: zygote(root, action, points)


def names(root: Path) -> list[str]:
    return sorted(p.relative_to(root / "files").as_posix() for p in (root / "files").rglob("*") if p.is_file())


def check_whole(catalog: cubeport.Catalog) -> None:
    """Hold what must be true after any death and one recovery: no record without bytes, no bytes without a record."""
    assert catalog.recover() == []
    assert [v for v in catalog.verify(all=True) if v.verdict != "ok"] == []
    checked = catalog.fsck(data=True)
    assert checked.findings == ()
    assert list((catalog.root / ".cubeport" / "journal" / "open").iterdir()) == []
    assert [o for o in catalog.operations() if o.status not in ("succeeded", "rolled_back")] == []
    ended = [o.operation_id for o in catalog.operations()]
    assert len(ended) == len(set(ended))


def found(catalog: cubeport.Catalog, key: str) -> cubeport.CatalogRecord | None:
    try:
        return catalog.get(key)
    except RecordNotFound:
        return None


def check_action(catalog: cubeport.Catalog, action: str, folder: Path) -> None:
    """Hold that the operation happened wholly or not at all; the moved source is in one of two places, always."""
    old = found(catalog, "old")
    match action:
        case "add":
            new = found(catalog, "new")
            assert new is None or catalog.path(new.id).read_bytes() == b"new bytes" * 1000
        case "move":
            moved, source = found(catalog, "moved"), folder / "source.bin"
            assert source.exists() == (moved is None)
            where = source if moved is None else catalog.path(moved.id)
            assert where.read_bytes() == b"source" * 1000
        case "folder":
            tree = found(catalog, "tree")
            assert tree is None or (catalog.path(tree.id) / "c" / "0").read_bytes() == b"0"
        case "update":
            assert old is not None
            assert (old.version, len(old.artifacts)) in ((1, 1), (2, 2))
        case "purge":
            assert (old is None) == (names(catalog.root) == [])
        case "fail":
            assert catalog.count(statuses=None) == 1
    if action != "purge":
        assert old is not None
        assert catalog.path(old.id).read_bytes() == b"old bytes"


def crash(run: Run, root: Path, action: str, points: str) -> None:
    assert run(action, points) == KILLED, "the fail point did not fire"
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        check_whole(catalog)
        check_action(catalog, action, root.parent)
        before = names(root), [r.to_json() for r in catalog.iterate(statuses=None, order=("id",))]
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        assert (names(root), [r.to_json() for r in catalog.iterate(statuses=None, order=("id",))]) == before, "twice is once"
    again = run(action, "")
    done = before != _state(root)
    assert again == {"fail": 2}.get(action, 0) or not done, "it can be done afterwards"


def _state(root: Path) -> tuple[list[str], list[str]]:
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        check_whole(catalog)
        return names(root), [r.to_json() for r in catalog.iterate(statuses=None, order=("id",))]


@pytest.mark.parametrize(("action", "point"), SAMPLE)
def test_a_kill_leaves_all_or_nothing(run, root, action, point):
    crash(run, root, action, point)


@pytest.mark.crash
@pytest.mark.parametrize(("action", "point"), CASES)
def test_a_kill_anywhere_leaves_all_or_nothing(run, root, action, point):
    crash(run, root, action, point)


RECOVERY = [*sides("recover", "rollback_started", "rolled_back")]


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p == "recover:after" else pytest.mark.crash) for p in RECOVERY])
def test_a_kill_in_recovery_is_recovered(run, root, point):
    assert run("move", "publish:after") == KILLED
    assert run("recover", point) == KILLED
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        check_whole(catalog)
        check_action(catalog, "move", root.parent)
        assert found(catalog, "moved") is None


@pytest.mark.crash
@pytest.mark.parametrize("point", sides("recover", "committed"))
def test_a_kill_in_recovery_forward_is_recovered(run, root, point):
    assert run("move", "afterwards:before") == KILLED
    assert run("recover", point) == KILLED
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        check_whole(catalog)
        check_action(catalog, "move", root.parent)
        assert found(catalog, "moved") is not None


@pytest.mark.crash
@pytest.mark.parametrize("point", sides("gc"))
def test_a_kill_in_gc_is_gone_on_with(run, root, point):
    with cubeport.Catalog.open(root, plugins=False) as catalog, catalog.unit_of_work("purge") as work:
        work.delete_record(catalog.get("old"))  # a purge whose after-action was lost
        work.commit()
    assert run("gc", point) == KILLED
    assert run("gc", "") == 0
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        check_whole(catalog)
    assert names(root) == []


@pytest.mark.crash
@pytest.mark.parametrize("point", sides("failed"))
def test_a_kill_where_nothing_can_be_undone_stays_for_a_person(run, root, point):
    assert run("stuck", point) == KILLED
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        [left] = catalog.recover()
        assert left.outcome == "left"
        assert [f.level for f in catalog.doctor() if f.kind == "open-operation"] == ["error"]
        [skipped] = catalog.recover(skip=True)
        assert skipped.outcome == "back"
        check_whole(catalog)


def test_opening_says_what_it_recovered(run, root):
    assert run("move", "publish:after") == KILLED
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        [back] = catalog.recovered
        assert (back.operation_type, back.last_state, back.outcome) == ("add", "artifact_write_started", "back")
        assert any("removed" in each for each in back.done)
        [event] = catalog.events.read(event="recover").items
        assert (event["event"], event["operation_id"]) == ("recover.back", back.operation_id)


def test_fail_points_need_a_test(root):
    """Whoever sets them by mistake is reported, and nothing starts."""
    code = "import sys, cubeport; cubeport.Catalog.open(sys.argv[1])"
    environment = {"CUBEPORT_FAIL_POINTS": "publish:before", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code, str(root)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "CUBEPORT_TESTING=1" in done.stderr
    add = "import sys, cubeport; cubeport.Catalog.open(sys.argv[1]).add_bytes(b'1')"
    killed = subprocess.run([sys.executable, "-c", add, str(root)], env=environment | {"CUBEPORT_TESTING": "1"}, timeout=60)
    assert killed.returncode == KILLED


def start(root: Path, points: str) -> subprocess.Popen[bytes]:
    code = (
        "import sys, cubeport\nwith cubeport.Catalog.open(sys.argv[1]) as c: c.add_bytes(b'paused' * 9, filename='x', key='paused')"
    )
    environment = {"CUBEPORT_FAIL_POINTS": points, "CUBEPORT_TESTING": "1", "PATH": ""}
    return subprocess.Popen([sys.executable, "-c", code, str(root)], env=environment, stderr=subprocess.DEVNULL)


def test_a_paused_owner_is_alive_and_goes_on(root):
    """Nobody may undo what a stopped process holds: its lock says that it lives."""
    owner = start(root, "catalog_write_started:before=stop")
    _, status = os.waitpid(owner.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        assert catalog.recovered == ()
        assert [o.status for o in catalog.operations(status="running")] == ["running"]
        assert catalog.gc(older_than_s=0) == []
        os.kill(owner.pid, signal.SIGCONT)
        assert owner.wait(60) == 0
        with catalog.open_artifact("paused") as reading:
            assert reading.read() == b"paused" * 9
        check_whole(catalog)


def test_an_interrupt_rolls_back(root):
    owner = start(root, "bytes:half=sleep:60")
    part = root / "files"
    deadline = time.monotonic() + 30
    while not list(part.rglob("*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)  # from making the file to its first half
    owner.send_signal(signal.SIGINT)
    assert owner.wait(30) != 0
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        assert catalog.recovered == (), "it undid itself"
        [last] = catalog.operations(limit=1)
        assert (last.status, last.error["kind"]) == ("rolled_back", "interrupted")
        check_whole(catalog)
        assert len(names(root)) == 1


def test_a_commit_is_known_however_many_follow_before_recovery(run, root):
    """A backend may forget old operations, but not one whose journal is open: its row alone keeps the committed bytes."""
    assert run("add", "commit:unknown") == KILLED
    with cubeport.Catalog.open(root, plugins=False, recover=False) as catalog:
        for n in range(120):
            catalog.add(title=str(n))
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        assert catalog.path("new").read_bytes() == b"new bytes" * 1000
        check_whole(catalog)


def test_every_name_fires_somewhere():
    """A fail point that no test passes is not there."""
    fired = {point.partition("@")[0] for _, point in CASES} | {*RECOVERY, *sides("gc", "failed"), "port"}
    assert fired | ELSEWHERE == set(NAMES)
    assert fired & ELSEWHERE == set()
    assert set(STATES) >= set(ROLLBACK)


# --- errors of every port -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["eio", "enospc"])
def test_every_call_of_a_port_may_fail(root, action):
    """The Nth call of the backend fails, for N = 1, 2, … until nothing fires: an error or success, and no trace either way."""
    outcomes = []
    for n in range(1, 60):
        failpoints.arm(f"port@{n}={action}")  # before opening: it puts the proxy around the backend
        with cubeport.Catalog.open(root, plugins=False, recover=False) as catalog:
            try:
                catalog.add_bytes(b"1", filename="x.txt", title=str(n))
                outcomes.append("added")
            except (StoreUnavailable, NoSpace, BackendUnavailable):
                outcomes.append("refused")
            finally:
                fired = failpoints.passed("port") >= n
                failpoints.arm("")
        with cubeport.Catalog.open(root, plugins=False) as catalog:
            check_whole(catalog)
            assert catalog.count(f'title="{n}"') == (outcomes[-1] == "added")
        if not fired:
            break
    assert not fired, "the calls do not end"
    assert outcomes[-1] == "added"
    assert "refused" in outcomes
