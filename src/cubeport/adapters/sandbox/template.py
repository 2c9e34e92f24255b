"""The template process: libraries imported, nothing opened, one thread; it forks a child for each unit and waits for it.

Started as ``python -I -m cubeport.adapters.sandbox.template FD LIBRARIES [FOLDER…]``. The service sends, over the socket FD, one
message a unit: the module of its task, with two descriptors. The first is the child's channel, of which the template keeps
nothing; the second is the unit's *lead*: the template writes there the child's process id, later its end, and where the lead is
let go, the child is ended. So a service that cancels, and one that was killed, look the same. When the socket itself ends, all is
over.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cubeport.adapters.sandbox import landlock, wire
from cubeport.adapters.sandbox.child import live

_PR_SET_CHILD_SUBREAPER = 36
_GLANCE_S = 1.0
"""How often it looks whether its service lives, if nothing tells it."""


@dataclass(slots=True)
class _Unit:
    pid: int
    lead: socket.socket
    kill_after_s: float
    deadline: float | None = None
    """When SIGKILL follows the SIGTERM."""
    let_go: bool = False


class Template:
    """The loop: a message forks, an end is reported, a lead that is let go ends its child."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._service = os.getppid()
        self._units: dict[int, _Unit] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        for end in (self._wake, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until the service lets go."""
        while os.getppid() == self._service:  # a fork of the service may hold the socket open after its death
            for key, _ in self._selector.select(self._pause()):
                if key.fileobj is self._control:
                    if not self._fork():
                        return
                elif key.fileobj is self._woken:
                    self._woken.recv(4_096)
                else:
                    self._let_go(key.data)
            self._reap()
            for unit in self._units.values():
                if unit.deadline is not None and time.monotonic() >= unit.deadline:
                    _signal(unit.pid, signal.SIGKILL)

    def _pause(self) -> float:
        deadlines = [each.deadline for each in self._units.values() if each.deadline is not None]
        return max(0.01, min([_GLANCE_S, *(each - time.monotonic() for each in deadlines)]))

    def _fork(self) -> bool:
        body, descriptors, _, _ = socket.recv_fds(self._control, 256, 2)
        if len(descriptors) != 2:
            return False
        module, _, kill_after = body.decode().partition(" ")
        with contextlib.suppress(Exception):  # whatever it is, the child imports again, and tells
            importlib.import_module(module)
        channel, lead = (socket.socket(fileno=each) for each in descriptors)
        here = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(channel, here)
        channel.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # by both, so that neither has to wait for the other
        unit = _Unit(pid, lead, float(kill_after))
        self._units[pid] = unit
        self._selector.register(lead, selectors.EVENT_READ, unit)
        _tell(lead, {"pid": pid})
        return True

    def _become_child(self, channel: socket.socket, template: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _let_go_of_all_but(channel.fileno())
        live(channel, template)

    def _let_go(self, unit: _Unit) -> None:
        self._selector.unregister(unit.lead)
        unit.let_go = True
        unit.deadline = time.monotonic() + unit.kill_after_s
        _signal(unit.pid, signal.SIGTERM)

    def _reap(self) -> None:
        while (pid := _ended()) is not None:
            _signal(pid, signal.SIGKILL)  # whatever it left in its group; before it is reaped, so the number is still its own
            _, status, usage = os.wait4(pid, 0)
            unit = self._units.pop(pid, None)
            if unit is None:
                continue
            self._clear_strays()
            if not unit.let_go:
                self._selector.unregister(unit.lead)
            _tell(unit.lead, {"status": os.waitstatus_to_exitcode(status), "max_rss": usage.ru_maxrss * 1_024})
            unit.lead.close()

    def _clear_strays(self) -> None:
        """End what left its group: this process is the reaper of all that its children begin, so strays are its children now."""
        here = os.getpid()
        while True:
            pids = map(int, Path(f"/proc/{here}/task/{here}/children").read_text().split())
            strays = [pid for pid in pids if pid not in self._units]
            if not strays:
                return
            for pid in strays:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def end(self) -> None:
        """End all children and what they began."""
        for pid in self._units:
            _signal(pid, signal.SIGKILL)
        self._units.clear()
        self._clear_strays()


def _let_go_of_all_but(kept: int) -> None:
    """Put nothing behind every inherited descriptor but *kept* and the standard ones.

    The numbers stay taken: what a library opened in the template it may close in the child (PROJ does so with its database, as soon
    as it finds itself forked), and a number that was given out again by then is closed under its new owner.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in (kept, nothing):
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _ended() -> int | None:
    """Return the process id of a child that has ended and was not reaped yet, ``None`` while all live."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return ended.si_pid if ended else None


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _tell(lead: socket.socket, document: dict[str, int]) -> None:
    with contextlib.suppress(OSError):
        wire.send(lead, document)


def main(descriptor: int, libraries: list[str], folders: list[str]) -> None:
    """Import *libraries*, as far as they are installed, then serve; *folders* come after the others in the module path."""
    sys.path += folders
    for number in (signal.SIGINT, signal.SIGTERM):  # a service that is asked to stop may first finish what runs
        signal.signal(number, signal.SIG_IGN)
    landlock.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for name in libraries:
        with contextlib.suppress(ModuleNotFoundError, ValueError):  # ValueError: no name at all
            importlib.import_module(name)
    with socket.socket(fileno=descriptor) as control:
        control.set_inheritable(False)
        template = Template(control)
        try:
            template.serve()
        finally:
            template.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:])
