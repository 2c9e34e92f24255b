"""Fail points: their grammar, their actions, and that an unarmed one does nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from cubeport.catalog.disk import failpoints
from cubeport.catalog.disk.failpoints import FailPointRaised, passing, step
from cubeport.errors import InvalidConfiguration


@pytest.fixture(autouse=True)
def _disarm():
    yield
    failpoints.arm("")


def test_nothing_happens_unarmed():
    for name in failpoints.NAMES:
        passing(name)


def test_names_are_unique_and_hold_every_state_and_step_twice():
    assert len(set(failpoints.NAMES)) == len(failpoints.NAMES)
    assert {"committed:before", "publish:after", "bytes:half", "commit:unknown", "port"} <= set(failpoints.NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "nowhere:before",
        "publish",
        "publish:before@0",
        "publish:before=explode",
        "publish:before=sleep",
        "publish:before=kill:3",
        "x y",
    ],
)
def test_a_point_that_cannot_fire_is_refused(text):
    with pytest.raises(InvalidConfiguration):
        failpoints.arm(text)


def test_fires_at_the_nth_passing_and_only_then():
    failpoints.arm("bytes:half@3=raise")
    passing("bytes:half")
    passing("bytes:half")
    with pytest.raises(FailPointRaised, match="bytes:half"):
        passing("bytes:half")
    passing("bytes:half")


@pytest.mark.parametrize(("action", "number"), [("eio", errno.EIO), ("enospc", errno.ENOSPC)])
def test_errors_of_the_system(action, number):
    failpoints.arm(f"publish:before={action}")
    ran = False
    with pytest.raises(OSError) as caught, step("publish"):
        ran = True
    assert (caught.value.errno, ran) == (number, False)


def test_a_body_that_raises_is_not_followed_by_after():
    failpoints.arm("publish:after=raise")
    with pytest.raises(KeyError), step("publish"):
        raise KeyError
    with pytest.raises(FailPointRaised), step("publish"):
        pass


def test_sleep_pauses():
    failpoints.arm("gc:before=sleep:0.05")
    began = time.monotonic()
    passing("gc:before")
    assert time.monotonic() - began >= 0.05


def test_counted_port_passes_once_a_call():
    class Store:
        size = 3

        def get(self, key):
            return key * 2

    store = Store()
    assert failpoints.counted(store) is store
    failpoints.arm("port@2=raise")
    port = failpoints.counted(store)
    assert (port.get("a"), port.size) == ("aa", 3)
    with pytest.raises(FailPointRaised):
        port.get("b")


SERVICE = """
import subprocess, sys
from cubeport.catalog.disk import failpoints
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
failpoints.arm("publish:before=ACTION")
failpoints.passing("publish:before")
"""


def _run(action: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", SERVICE.replace("ACTION", action)], capture_output=True, text=True, timeout=30)
    return done.returncode, int(done.stdout)


def test_kill_ends_the_process_and_its_children_but_not_whoever_started_it():
    status, child = _run("kill")
    assert status == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        _await_death(child)


def _await_death(pid: int) -> None:
    for _ in range(200):
        os.kill(pid, 0)
        time.sleep(0.01)


def test_kill_one_leaves_the_children():
    status, child = _run("kill-one")
    assert status == -signal.SIGKILL
    os.kill(child, signal.SIGKILL)
