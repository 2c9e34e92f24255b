"""The checks of ``doctor`` for the machine: how the gate's children will be confined, and whether libraries are new enough."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from cubeport.adapters.sandbox import landlock
from cubeport.catalog.backend import Finding

OTHERS = {
    "aiohttp": "3.14",
    "eccodes": "2.50",
    "h11": "0.16",
    "httpcore": "1.0.9",
    "icechunk": "2.3",
    "obstore": "0.12",
    "psycopg": "3.3",
    "s3fs": "2026.9",
    "urllib3": "2.7",
}
"""The minimum versions of indirect and optional dependencies. Those of direct dependencies are in our own requirements."""


def findings(setting: str) -> Iterator[Finding]:
    """Yield how children are confined with ``gate.sandbox`` = *setting*, and each installed library. Nothing is imported."""
    yield sandbox(setting, landlock.abi(), can_leave_network)
    if os.geteuid() == 0:
        yield Finding(
            "sandbox",
            "user",
            "runs as root: a child process that a malicious source controls can still change modes and owners of files, and"
            " connect to the sockets of other services",
            "run cubeport as a dedicated user",
            "warn",
        )
    for name, floor in sorted((OTHERS | _required()).items()):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if _numbers(found) < _numbers(floor):
            yield Finding("library", name, f"is {found}, older than {floor}", f"pip install '{name}>={floor}'", "warn")
        else:
            yield Finding("library", name, f"is {found}", level="ok")


def sandbox(setting: str, abi: int, network: Callable[[], bool]) -> Finding:
    """Return how the children of the gate are confined.

    Parameters
    ----------
    setting
        ``gate.sandbox``: ``prefer``, ``require`` or ``off``.
    abi
        The Landlock version, or 0 if there is none.
    network
        Returns whether a child can leave the network. It is called only if needed.
    """
    landlock_next = "use Linux 5.13 or later with Landlock"
    if setting == "off":
        message = "gate.sandbox is off: the process that reads sources can reach all files and networks that the service can reach"
        return Finding("sandbox", "gate", message, "set gate.sandbox to prefer or require", "warn")
    if abi:
        net = "no network" if network() else "no TCP" if abi >= _TCP else "the network of the service"
        return Finding(
            "sandbox", "gate", f"child processes can reach only their sources, by Landlock version {abi}, and {net}", level="ok"
        )
    if setting == "require":
        message = "gate.sandbox is require but the kernel has no Landlock: every source will be refused"
        return Finding("sandbox", "gate", message, f"{landlock_next}, or set gate.sandbox to prefer", "error")
    net = "no network" if network() else "its network"
    message = f"the kernel has no Landlock: the process that reads sources can reach all files of the service, and {net}"
    return Finding("sandbox", "gate", message, landlock_next, "warn")


_TCP = 4
"""The first Landlock version that stops TCP."""


def can_leave_network() -> bool:
    """Return whether a process can create a network namespace for itself."""
    # Only the call itself shows this. It runs in a separate process, because a process cannot leave the namespace again.
    attempt = "from cubeport.adapters.sandbox.child import leave_network; raise SystemExit(not leave_network())"
    return subprocess.run([sys.executable, "-I", "-c", attempt], capture_output=True, check=False).returncode == 0  # noqa: S603


def _required() -> dict[str, str]:
    floors = {}
    for line in requires("cubeport") or ():
        if found := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?[^;]*>=\s*([0-9.]+)", line):
            floors[found[1]] = found[2]
    return floors


def _numbers(text: str) -> tuple[int, ...]:
    """Return the release numbers at the start of *text*, without trailing zeros, so that 3.4 equals 3.4.0."""
    found = re.match(r"[0-9.]*", text)
    numbers = [int(part) for part in found[0].split(".") if part] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
