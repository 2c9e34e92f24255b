"""The journal: what is written is there after a death, and only a free lock lets others write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cubeport.catalog.disk import durable, failpoints
from cubeport.catalog.forms.canonical import new_id
from cubeport.catalog.testing.journal import JournalContract, states
from cubeport.catalog.work.journal import FileJournal
from cubeport.errors import NoSpace, StoreUnavailable


@pytest.fixture
def journal(tmp_path):
    return FileJournal(tmp_path / "journal")


@pytest.fixture(autouse=True)
def _disarm():
    yield
    failpoints.arm("")


@pytest.fixture
def syncs(monkeypatch):
    """The names of the files that were synced, in order."""
    names: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", fsync)
    return names


class TestFileJournal(JournalContract):
    @pytest.fixture
    def open_journal(self, tmp_path):
        return lambda: FileJournal(tmp_path / "journal")


def test_which_lines_are_synced(journal, syncs):
    entry = journal.begin(new_id())
    syncs.clear()
    name = f"{entry.operation_id}.jsonl"
    entry.write("started")
    entry.write("planned")
    assert syncs == []
    entry.write("artifact_write_started", durable=True)
    assert syncs == [name, "open"], "the line and, once, the name"
    entry.write("planned", {"afterwards": []}, binding=True)
    entry.settle()
    entry.settle()
    assert syncs == [name, "open", name], "a binding line is synced once, before the commit"
    entry.leave()


def test_closing_moves_the_whole_to_the_month_of_its_start(journal, syncs):
    entry = journal.begin(new_id())
    entry.write("started")
    entry.write("committed")
    month = journal.folder / f"operations-{entry.lines[0].at[:4]}{entry.lines[0].at[5:7]}.jsonl"
    syncs.clear()
    entry.close()
    assert journal.open_ids() == []
    assert [json.loads(line)["state"] for line in month.read_text().splitlines()] == ["started", "committed"]
    assert syncs == [month.name, "journal"]
    assert states(journal.read(entry.operation_id)) == ["started", "committed"]
    assert [states(lines) for lines in journal.closed()] == [["started", "committed"]]


def test_closed_twice_is_read_once(journal):
    entry = journal.begin(new_id())
    entry.write("started")
    entry.write("committed")
    content = journal.path(entry.operation_id).read_bytes()
    journal.archive(entry.lines[0].at[:7].replace("-", ""), content)  # killed before the unlink
    entry.leave()
    journal.take(entry.operation_id).close()
    assert states(journal.read(entry.operation_id)) == ["started", "committed"]
    assert len(list(journal.closed())) == 1


def test_a_torn_last_line_is_dropped_and_written_over(journal):
    entry = journal.begin(new_id())
    entry.write("started")
    entry.leave()
    with journal.path(entry.operation_id).open("a") as file:
        file.write('{"operation_id": "')
    taken = journal.take(entry.operation_id)
    assert states(taken.lines) == ["started"]
    taken.write("rollback_started")
    taken.leave()
    assert states(journal.read(entry.operation_id)) == ["started", "rollback_started"]


def test_a_torn_month_does_not_swallow_the_next_operation(journal):
    entry = journal.begin(new_id())
    entry.write("started")
    month = journal.folder / f"operations-{entry.lines[0].at[:4]}{entry.lines[0].at[5:7]}.jsonl"
    month.write_text('{"operation_id": "torn')
    entry.close()
    assert states(journal.read(entry.operation_id)) == ["started"]


def test_begin_survives_recovery_of_its_empty_file(journal, monkeypatch):
    """Between creating and locking the file, recovery may find it empty and drop it."""
    import fcntl

    from cubeport.catalog.work import journal as module

    operation_id, real, stolen = new_id(), fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not stolen:
            stolen.append(True)
            FileJournal(journal.folder).path(operation_id).unlink()
        real(descriptor, how)

    monkeypatch.setattr(module.fcntl, "flock", flock)
    entry = journal.begin(operation_id)
    entry.write("started")
    assert journal.open_ids() == [operation_id]
    entry.leave()


@pytest.mark.parametrize(("action", "error"), [("enospc", NoSpace), ("eio", StoreUnavailable)])
def test_errors_of_the_disk_are_ours(journal, action, error):
    entry = journal.begin(new_id())
    failpoints.arm(f"planned:before={action}")
    with pytest.raises(error):
        entry.write("planned")
    entry.leave()


def test_a_half_written_line_is_taken_back(journal, monkeypatch):
    entry = journal.begin(new_id())
    entry.write("started")
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:7])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "write", write)
        with pytest.raises(NoSpace):
            entry.write("planned")
    entry.write("rollback_started")
    assert states(journal.read(entry.operation_id)) == ["started", "rollback_started"]
    entry.leave()


def test_a_killed_owner_leaves_its_lines(journal):
    operation_id = new_id()
    code = (
        "import sys; from pathlib import Path\n"
        "from cubeport.catalog.disk import failpoints; from cubeport.catalog.work.journal import FileJournal\n"
        "entry = FileJournal(Path(sys.argv[1])).begin(sys.argv[2]); entry.write('started')\n"
        "failpoints.arm('planned:after'); entry.write('planned')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(journal.folder), operation_id], timeout=30)
    assert done.returncode == -signal.SIGKILL
    taken = journal.take(operation_id)
    assert states(taken.lines) == ["started", "planned"]
    taken.leave()


def test_a_torn_line_is_no_difference_and_a_changed_one_is(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    for n in range(2):
        entry = journal.begin(f"{n:032x}")
        entry.write("started", {"operation_type": "add", "n": n})
        entry.write("committed")
        entry.close()
    [month] = tmp_path.glob("operations-*.jsonl")
    content = month.read_bytes()
    first, second, _ = content.split(b"\n", 2)
    month.write_bytes(first + b"\n" + second[:40] + b"\n" + content)  # died while archiving; recover archived it again
    assert list(journal.differences()) == []
    assert len(list(journal.closed())) == 2
    month.write_bytes(content.replace(b'"add"', b'"edd"', 1))
    assert list(journal.differences()) == [f"{month.name}:1"]
    open_entry = journal.begin("f" * 32)
    open_entry.write("started", {"operation_type": "add"})
    with journal.path("f" * 32).open("ab") as file:
        file.write(b'{"at":"torn')
    month.write_bytes(content)
    assert list(journal.differences()) == []
    open_entry.leave()
