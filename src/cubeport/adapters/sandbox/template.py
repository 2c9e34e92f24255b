"""The template process. It imports libraries, opens nothing, has one thread, and forks a child for each unit.

It is started as ``python -I -m cubeport.adapters.sandbox.template FD LIBRARIES [FOLDER…]``. For each unit, the service sends one
message over the socket FD: the module of its task, with two descriptors. The first is the child's channel, which the template does
not keep. The second is the *lead* of the unit: the template writes the child's process id to it, and later the child's exit status.
If the service closes the lead, the template ends the child. A service that cancels and a service that was killed therefore look the
same. If the socket itself is closed, the template ends all children and exits.
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
"""How often to check whether the service is alive if no message arrives, in seconds."""


@dataclass(slots=True)
class _Unit:
    pid: int
    lead: socket.socket
    kill_after_s: float
    deadline: float | None = None
    """The time at which SIGKILL follows SIGTERM."""
    let_go: bool = False


class Template:
    """The main loop: it forks for each message, reports each end, and ends a child whose lead was closed."""

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
        """Serve until the service closes the socket."""
        while os.getppid() == self._service:  # a fork of the service can keep the socket open after the service died
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
        with contextlib.suppress(Exception):  # the child imports the module again and reports the error
            importlib.import_module(module)
        channel, lead = (socket.socket(fileno=each) for each in descriptors)
        here = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(channel, here)
        channel.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # both do this, so that neither has to wait for the other
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
            _signal(pid, signal.SIGKILL)  # everything left in its group; before it is reaped, so that its id is not reused
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
        """End processes that left their group. This process is the subreaper of its descendants, so they are now its children."""
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
        """End all children and all processes that they started."""
        for pid in self._units:
            _signal(pid, signal.SIGKILL)
        self._units.clear()
        self._clear_strays()


def _let_go_of_all_but(kept: int) -> None:
    """Replace all inherited descriptors except *kept* and the standard ones by /dev/null.

    The numbers stay in use, because a library can close in the child what it opened in the template (PROJ does this with its
    database after a fork). If the number were reused by then, the library would close another file.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        if descriptor > 2 and descriptor not in (kept, nothing):
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _ended() -> int | None:
    """Return the process id of a child that has ended but was not reaped yet, or ``None`` if all are alive."""
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
    """Import the installed *libraries*, then serve. *folders* are added at the end of the module path."""
    sys.path += folders
    for number in (signal.SIGINT, signal.SIGTERM):  # a service that is asked to stop can first finish running work
        signal.signal(number, signal.SIG_IGN)
    landlock.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for name in libraries:
        with contextlib.suppress(ModuleNotFoundError, ValueError):  # ValueError: the name is empty
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
