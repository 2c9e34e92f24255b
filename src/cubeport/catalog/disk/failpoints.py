"""Places where a test may kill, break or pause us, by name. Unarmed they cost one look at an empty mapping.

``NAME[@N][=ACTION],…``: at the Nth passing (1) do ACTION (``kill``). Nothing here reads the environment: ``main`` reads
``CUBEPORT_FAIL_POINTS`` once, refuses it without ``CUBEPORT_TESTING=1``, and arms.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, cast

from cubeport.catalog.disk.durable import store_errors
from cubeport.errors import InvalidConfiguration

STATES = (
    "started",
    "planned",
    "artifact_write_started",
    "artifact_write_succeeded",
    "catalog_write_started",
    "catalog_write_succeeded",
    "hooks_started",
    "committed",
    "rollback_started",
    "rolled_back",
    "failed",
)
"""The journal's states in order."""

STEPS = (
    "lock",
    "begin",
    "fetch",
    "bytes",
    "measure",
    "assemble",
    "fsync",
    "publish",
    "commit",
    "afterwards",
    "gc",
    "recover",
    "trash",
)
"""The steps of an operation that are not states of its journal, and those of recovery and of gc."""

SINGLE = ("bytes:half", "fsync:half", "commit:unknown", "port")
"""Points without a before and an after: halfway, the lost answer of a commit, each call of a port."""

NAMES = (*(f"{name}:{side}" for name in (*STATES, *STEPS) for side in ("before", "after")), *SINGLE)
"""Every name there is; a test walks it, so none is dead."""

_GRAMMAR = re.compile(
    r"(?P<name>[a-z_]+(?::[a-z]+)?)(?:@(?P<at>[1-9]\d{0,8}))?(?:=(?P<action>[a-z-]+)(?::(?P<argument>\d+(?:\.\d+)?))?)?"
)
_ACTIONS = ("kill", "kill-one", "eio", "enospc", "raise", "sleep", "stop")


class FailPointRaised(RuntimeError):
    """What the action ``raise`` raises: an error that nobody foresaw."""


@dataclass(slots=True)
class _Point:
    at: int
    action: str
    seconds: float
    passed: int = 0


_armed: dict[str, list[_Point]] = {}
_counting = threading.Lock()
_root = 0


def arm(text: str, *, root: int | None = None) -> None:
    """Arm the points that *text* names, in place of those armed before; an empty text disarms.

    Parameters
    ----------
    text
        The grammar above.
    root
        The process that began the service: ``kill`` ends it and all its descendants. Default: this process. A process that
        starts workers passes its own id on to them.

    Raises
    ------
    InvalidConfiguration
        If *text* does not fit the grammar or names an unknown point or action: a fail point that cannot fire tests nothing.
    """
    global _root
    points: dict[str, list[_Point]] = {}
    for item in filter(None, text.split(",")):
        name, point = _parse(item)
        points.setdefault(name, []).append(point)
    _root = root or os.getpid()
    _armed.clear()
    _armed.update(points)


def _parse(item: str) -> tuple[str, _Point]:
    found = _GRAMMAR.fullmatch(item)
    if found is None:
        raise InvalidConfiguration(f"{item!r} is not a fail point; write NAME[@N][=ACTION].")
    action, argument = found["action"] or "kill", found["argument"]
    if found["name"] not in NAMES:
        raise InvalidConfiguration(f"There is no fail point {found['name']!r}.")
    if action not in _ACTIONS or (action == "sleep") != (argument is not None):
        raise InvalidConfiguration(f"{item!r}: the actions are {', '.join(_ACTIONS)}, and sleep:SECONDS.")
    return found["name"], _Point(int(found["at"] or 1), action, float(argument or 0))


def armed() -> bool:
    """Return whether any point is armed in this process."""
    return bool(_armed)


def passed(name: str) -> int:
    """Return how often the armed point *name* was passed, for tests that walk until nothing fires."""
    return max((point.passed for point in _armed.get(name, ())), default=0)


def passing(name: str) -> None:
    """Pass the point *name*: nothing happens unless it is armed for this passing."""
    if _armed:
        _pass(name)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Pass ``name:before``, run the body, pass ``name:after``; a body that raises does not get after itself."""
    passing(f"{name}:before")
    yield
    passing(f"{name}:after")


def counted[T](port: T) -> T:
    """Return *port* such that each call of a method passes ``port`` first; the port itself while that point is not armed."""
    return cast("T", _Counted(port)) if "port" in _armed else port


class _Counted:
    def __init__(self, port: object) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if name == "rows":
            return _Counted(value)
        if not callable(value):
            return value

        @wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            with store_errors("reach the store"):  # as an adapter turns its library's errors into ours
                passing("port")
            return value(*args, **kwargs)

        return call


def _pass(name: str) -> None:
    due = []
    with _counting:
        for point in _armed.get(name, ()):
            point.passed += 1
            if point.passed == point.at:
                due.append(point)
    for point in due:
        _act(name, point)


def _act(name: str, point: _Point) -> None:
    match point.action:
        case "kill":
            _kill_service()
        case "kill-one":
            _kill_self()
        case "eio":
            raise OSError(errno.EIO, f"fail point {name}")
        case "enospc":
            raise OSError(errno.ENOSPC, f"fail point {name}")
        case "raise":
            raise FailPointRaised(f"fail point {name}")
        case "sleep":
            time.sleep(point.seconds)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)


def _kill_service() -> NoReturn:
    """End the service as a power cut of its processes would: nobody gets to run a handler.

    By descent and not by process group: a test that started us in its own group must survive us.
    """
    while others := _descendants(_root) - {os.getpid()}:
        for pid in others:
            _kill(pid)
        time.sleep(0.001)
    if _root != os.getpid():
        _kill(_root)
    _kill_self()


def _kill_self() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable: SIGKILL cannot be survived")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _descendants(root: int) -> set[int]:
    """Return the living processes that *root* began, directly or not; zombies are dead."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            parents[int(folder.name)] = int(parent)
    found: set[int] = set()
    front = {root}
    while front:
        front = {pid for pid, parent in parents.items() if parent in front} - found
        found |= front
    return found
