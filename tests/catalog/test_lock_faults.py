"""Any failure after a lock was taken leaves it free: a full or failing disk, an interrupt, at any call or line."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.descriptors import held, left_since

from cubeport.catalog.disk import durable, locks
from cubeport.catalog.disk.locks import FileLock, lock_state
from cubeport.catalog.work.journal import FileJournal
from cubeport.errors import CubeportError

NOTE = {"operation_id": "op", "token": "s3cret"}


def failing_call(at: int, error: Callable[[], BaseException], fired: list[Any]) -> Callable[[FrameType, str, Any], None]:
    """Return a profile function that raises at the *at*-th call of a C function after the next ``flock`` of a lock file."""
    state = {"locked": False, "calls": 0}

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if not frame.f_code.co_filename.endswith(("locks.py", "journal.py", "canonical.py", "redaction.py", "durable.py")):
            return
        if event == "c_return" and arg is fcntl.flock:
            state["locked"] = True
        elif event == "c_call" and state["locked"] and arg is not fcntl.flock and arg is not os.close:
            state["calls"] += 1
            if state["calls"] == at:
                fired.append(arg)
                raise error()

    return profile


def failing_line(at: int, fired: list[int]) -> Callable[[FrameType, str, Any], Any]:
    """Return a trace function that interrupts at the *at*-th line of ``try_lock`` behind the one that takes the lock."""
    state = {"lines": -1}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is not FileLock.try_lock.__code__:
            return None
        if event == "line" and state["lines"] < 0 and "fd" in frame.f_locals:
            state["lines"] = 0
        elif event == "line" and state["lines"] >= 0 and frame.f_locals["self"]._fd is None and not _freeing(frame):
            state["lines"] += 1
            if state["lines"] == at:
                fired.append(frame.f_lineno)
                raise KeyboardInterrupt
        return trace

    return trace


def _freeing(frame: FrameType) -> bool:
    return frame.f_lineno >= _line_of("if self._fd != fd:")


def _line_of(text: str) -> int:
    lines = Path(locks.__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_an_error_of_the_disk_at_any_call_costs_the_note_and_nothing_else(tmp_path: Path, code: int) -> None:
    path = tmp_path / "catalog.lock"
    opens_and_writes = 0
    for at in range(1, 200):
        fired: list[Any] = []
        before = held()
        lock = FileLock(path, NOTE, timeout_s=0)
        sys.setprofile(failing_call(at, lambda: OSError(code, "injected"), fired))
        try:
            lock.acquire()
        except OSError:
            assert not lock.held
        finally:
            sys.setprofile(None)
        if not fired:
            break
        if fired[0] in (os.open, os.write):
            opens_and_writes += 1
            assert lock.held, "the note is for people: its failure is ignored"
        lock.release()
        assert lock_state(path) in ("free", "left"), fired
        assert left_since(before) == [], "no descriptor is left open"
    else:
        pytest.fail("it never ended")
    assert opens_and_writes == 2


def test_an_interrupt_at_any_line_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "catalog.lock"
    lines = set()
    for at in range(1, 50):
        fired: list[int] = []
        sys.settrace(failing_line(at, fired))
        try:
            FileLock(path, NOTE, timeout_s=0).acquire().release()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        if not fired:
            break
        lines |= set(fired)
        with FileLock(path, timeout_s=0) as lock:
            assert lock.held, f"line {fired} kept it"
    else:
        pytest.fail("it never ended")
    assert len(lines) >= 3, "the test reached the lines behind flock"


def test_releasing_on_a_full_disk_frees(tmp_path: Path) -> None:
    path = tmp_path / "catalog.lock"
    for at in range(1, 20):
        fired: list[Any] = []
        lock = FileLock(path, NOTE, timeout_s=0).acquire()
        assert lock_state(path) == "held"

        def full(frame: FrameType, event: str, arg: Any, at: int = at, fired: list[Any] = fired) -> None:
            if event == "c_call" and arg in (os.open, os.write, os.ftruncate) and frame.f_code.co_filename == locks.__file__:
                fired.append(arg)
                if len(fired) == at:
                    raise OSError(errno.ENOSPC, "injected")

        sys.setprofile(full)
        try:
            lock.release()
        finally:
            sys.setprofile(None)
        assert lock_state(path) != "held"
        if len(fired) < at:
            break


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_journal_that_fails_at_any_call_holds_nothing(tmp_path: Path, code: int) -> None:
    journal = FileJournal(tmp_path / "journal")
    for at in range(1, 100):
        fired: list[Any] = []
        operation = f"{at:032x}"
        entry = None
        sys.setprofile(failing_call(at, lambda: OSError(code, "injected"), fired))
        try:
            entry = journal.begin(operation)
            entry.write("started", {"operation_type": "test"}, durable=True)
        except (CubeportError, OSError):
            pass
        finally:
            sys.setprofile(None)
        if entry is not None:
            entry.leave()
        if not fired:
            break
        if journal.path(operation).exists():
            assert not journal.alive(operation), fired
    else:
        pytest.fail("it never ended")


def test_a_lock_file_that_cannot_be_made_says_that_the_disk_is_full(tmp_path: Path) -> None:
    def full(frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and arg is os.open and frame.f_code.co_filename == durable.__file__:
            raise OSError(errno.ENOSPC, "injected")

    sys.setprofile(full)
    try:
        with pytest.raises(CubeportError) as caught:
            FileLock(tmp_path / "catalog.lock", NOTE, timeout_s=0).acquire()
    finally:
        sys.setprofile(None)
    assert caught.value.kind == "no-space"
