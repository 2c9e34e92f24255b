"""Named fail points, where a test can kill, break or pause the process. If none is armed, each costs one lookup in an empty
mapping.

``NAME[@N][=ACTION],…`` does ACTION (default ``kill``) at the Nth passing (default 1). This module does not read the environment:
``main`` reads ``CUBEPORT_FAIL_POINTS`` once, refuses it without ``CUBEPORT_TESTING=1``, and arms the points.
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
"""The states of the journal, in order."""

STEPS = (
    "lock",
    "begin",
    "fetch",
    "bytes",
    "measure",
    "assemble",
    "overviews",
    "copy",
    "fsync",
    "publish",
    "commit",
    "afterwards",
    "gc",
    "recover",
    "trash",
    "pointer",
)
"""The steps of an operation that are not states of its journal, and the steps of recovery and gc."""

SINGLE = ("bytes:half", "fsync:half", "publish:half", "commit:unknown", "port")
"""Points without before and after: halfway points, a commit with an unknown outcome, and each call of a port."""

NAMES = (*(f"{name}:{side}" for name in (*STATES, *STEPS) for side in ("before", "after")), *SINGLE)
"""All names. A test visits each of them, so that none is unused."""

_GRAMMAR = re.compile(
    r"(?P<name>[a-z_]+(?::[a-z]+)?)(?:@(?P<at>[1-9]\d{0,8}))?(?:=(?P<action>[a-z-]+)(?::(?P<argument>\d+(?:\.\d+)?))?)?"
)
_ACTIONS = ("kill", "kill-one", "eio", "enospc", "raise", "sleep", "stop")


class FailPointRaised(RuntimeError):
    """The unexpected error that the action ``raise`` raises."""


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
    """Arm the points in *text*, and disarm all others. An empty text disarms all points.

    Parameters
    ----------
    text
        The grammar above.
    root
        The main process of the service. ``kill`` ends it and all its descendants. The default is this process. A process that
        starts workers passes its own id to them.

    Raises
    ------
    InvalidConfiguration
        If *text* does not match the grammar, or names an unknown point or action.
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
    """Return how often the armed point *name* was passed, for tests that continue until nothing fires."""
    return max((point.passed for point in _armed.get(name, ())), default=0)


def passing(name: str) -> None:
    """Pass the point *name*. Nothing happens unless it is armed for this passing."""
    if _armed:
        _pass(name)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Pass ``name:before``, run the body, and pass ``name:after`` unless the body raises."""
    passing(f"{name}:before")
    yield
    passing(f"{name}:after")


def counted[T](port: T) -> T:
    """Return *port* with each method call passing the point ``port`` first, or *port* itself if that point is not armed."""
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
            with store_errors("reach the store"):  # as an adapter translates the errors of its library
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
    """Kill all processes of the service without running handlers, like a power cut.

    They are found by descent and not by process group, because a test that started the service in its own group must survive.
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
    """Return the living descendants of the process *root*. Zombies count as dead."""
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
