"""Locks: exclusive between holders, freed by death, and they say who has them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cubeport.catalog.disk.locks import FileLock, clear_note, holder, lock_state, noted
from cubeport.catalog.disk.mounts import is_network, mount_type, refuse_network
from cubeport.errors import Locked, NetworkFilesystem

HOLD = """
import sys
from pathlib import Path
from cubeport.catalog.disk.locks import FileLock
FileLock(Path(sys.argv[1]), {"operation_id": "op", "user": "anna", "token": "s3cret"}).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.lock"


@pytest.fixture
def other(path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


def test_one_holder_at_a_time(path: Path) -> None:
    with FileLock(path) as lock:
        assert lock.held
        assert not FileLock(path).try_lock()
    assert not lock.held
    assert FileLock(path).try_lock()
    assert path.exists(), "a lock file is never unlinked"


def test_locked_names_the_holder(path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(Locked) as caught:
        FileLock(path, timeout_s=0.05).acquire()
    said = caught.value
    assert said.members["holder"]["pid"] == other.pid
    assert said.members["holder"]["operation_id"] == "op"
    assert f"Held by anna (process {other.pid}" in said.message
    assert "s3cret" not in said.message + str(said.members)
    assert lock_state(path) == "held"


def test_death_frees_the_lock_and_leaves_the_note(path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock_state(path) == "left"
    with FileLock(path, timeout_s=0):
        assert not clear_note(path), "a note is not cleared under its holder"
    assert clear_note(path)
    assert lock_state(path) == "free"


def test_release_takes_the_note_away(path: Path) -> None:
    assert lock_state(path) == "free"
    with FileLock(path, {"command": "cubeport add"}):
        note = holder(path)
        assert note is not None
        assert (note["pid"], note["command"]) == (os.getpid(), "cubeport add")
    assert holder(path) is None
    assert lock_state(path) == "free"


def test_a_note_from_another_machine_cannot_be_told(path: Path) -> None:
    path.touch()
    path.with_name("catalog.lock.note").write_text('{"pid": 1, "host": "elsewhere.example"}')
    assert lock_state(path) == "elsewhere"


def test_a_started_child_does_not_inherit_the_lock(path: Path) -> None:
    lock = FileLock(path).acquire()
    program = "import sys; print('started', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        os.close(lock._fd)  # as if we had died: whoever else has the file open would keep the lock
        assert FileLock(path).try_lock()
    finally:
        child.communicate()


MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /srv/shared\040data rw - nfs4 server:/export rw
31 22 0:41 / /home/anna/remote rw - fuse.sshfs anna@host: rw
32 22 0:42 / /srv/hidden rw - nfs server:/x rw
33 22 0:43 / /srv/hidden rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("place", "kind", "network"),
    [
        ("/srv/shared data/catalog", "nfs4", True),
        ("/srv/shared", "ext4", False),
        ("/home/anna/remote/x", "fuse.sshfs", True),
        ("/srv/hidden/x", "tmpfs", False),
    ],
)
def test_the_mount_type_decides(place: str, kind: str, network: bool) -> None:
    assert mount_type(Path(place), MOUNTS) == kind
    assert is_network(kind) is network


def test_network_filesystems_are_refused_by_name() -> None:
    with pytest.raises(NetworkFilesystem, match="type nfs4"):
        refuse_network(Path("/srv/shared data/catalog"), mountinfo=MOUNTS)
    refuse_network(Path("/srv/local"), mountinfo=MOUNTS)


def test_only_locks_with_a_holder_or_a_dead_one_are_noted(tmp_path: Path) -> None:
    """A large instance has a lock for each dataset, and each ingestion looks for notes of the dead."""
    (tmp_path / "dataset").mkdir()
    for number in range(3):
        FileLock(tmp_path / f"dataset/free{number}.lock", {"command": "cubeport ingest"}).acquire().release()
    left = tmp_path / "dataset/left.lock"
    left.touch()
    left.with_name("left.lock.note").write_text('{"pid": 1}')
    with FileLock(tmp_path / "held.lock", {"command": "cubeport ingest"}):
        assert sorted(noted(tmp_path)) == [left, tmp_path / "held.lock"]
    assert list(noted(tmp_path)) == [left]
    assert clear_note(left)
    assert list(noted(tmp_path)) == []
