"""What ``doctor`` says of the machine: whether the gate's children can be confined, and whether libraries are new enough."""

from __future__ import annotations

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
"""Floors of what comes with other packages, or beside them (safety.md 12). Our own requirements say theirs."""


def findings() -> Iterator[Finding]:
    """Yield a line for the sandbox and for each library that is here; nothing is imported."""
    yield sandbox(landlock.abi(), has_namespaces)
    for name, floor in sorted((OTHERS | _required()).items()):
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if _numbers(found) < _numbers(floor):
            yield Finding("library", name, f"is {found}, older than {floor}", f"pip install '{name}>={floor}'", "warn")
        else:
            yield Finding("library", name, f"is {found}", level="ok")


def sandbox(abi: int, namespaces: Callable[[], bool]) -> Finding:
    """Return what confines the gate's children here; *namespaces* is asked only where there is no Landlock."""
    if abi:
        return Finding("sandbox", "gate", f"the kernel has Landlock, version {abi}", level="ok")
    if namespaces():
        return Finding("sandbox", "gate", "the kernel has no Landlock, and has user namespaces", level="ok")
    message = "the kernel has neither Landlock nor user namespaces: what reads sources is confined by limits alone"
    return Finding("sandbox", "gate", message, "use Linux 5.13 or later with Landlock", "warn")


def has_namespaces() -> bool:
    """Tell whether a process may give itself user and network namespaces."""
    # Only the call itself tells; in a process of its own, as nobody comes back out of a namespace.
    attempt = "import os; os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)"
    return subprocess.run([sys.executable, "-I", "-c", attempt], capture_output=True, check=False).returncode == 0  # noqa: S603


def _required() -> dict[str, str]:
    floors = {}
    for line in requires("cubeport") or ():
        if found := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?[^;]*>=\s*([0-9.]+)", line):
            floors[found[1]] = found[2]
    return floors


def _numbers(text: str) -> tuple[int, ...]:
    """Return the release numbers that *text* begins with, without zeros at their end: 3.4 is 3.4.0."""
    found = re.match(r"[0-9.]*", text)
    numbers = [int(part) for part in found[0].split(".") if part] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
