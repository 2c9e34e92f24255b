"""What reaches the disk and when, by the system calls of a whole process: a kill could not show it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cubeport

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: WHAT REACHES THE DISK IS NOT TESTED"
)

SCRIPT = """
import os, sys, cubeport
def mark(name):
    try: os.stat("/marker/" + name)
    except FileNotFoundError: pass
with cubeport.Catalog.open(sys.argv[1], plugins=False) as catalog:
    for n in range(int(sys.argv[2])):
        mark(f"begin-{n}")
        catalog.add_bytes(b"bytes" * 200, {"n": n}, filename=f"file-{n}.txt")
        mark(f"end-{n}")
"""

CALL = re.compile(r"^(?:\d+ +)?(?P<call>\w+)\((?P<rest>.*)$")
DESCRIPTOR = re.compile(r"^\d+<(?P<path>[^>]*)>")
QUOTED = re.compile(r'"(?P<path>[^"]*)"')


def traced(root: Path, adds: int) -> dict[int, list[tuple[str, str]]]:
    """Return (call, path) of each add, paths relative to the catalog."""
    log = root.parent / "strace.log"
    calls = "fsync,fdatasync,link,linkat,unlink,unlinkat,rename,renameat,renameat2,stat,newfstatat,pwrite64,write"
    command = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={calls}", "-o", str(log)]
    subprocess.run([*command, sys.executable, "-c", SCRIPT, str(root), str(adds)], check=True, timeout=240)
    found: dict[int, list[tuple[str, str]]] = {}
    current = None
    for line in log.read_text(errors="replace").splitlines():
        call = CALL.match(line)
        if call is None:
            continue
        name, rest = call["call"], call["rest"]
        if marker := re.search(r"/marker/(begin|end)-(\d+)", rest):
            current = int(marker[2]) if marker[1] == "begin" else None
            continue
        if current is None or name in ("stat", "newfstatat"):
            continue
        path = DESCRIPTOR.match(rest) if name in ("fsync", "fdatasync", "write", "pwrite64") else None
        quoted = QUOTED.findall(rest)
        where = path["path"] if path else quoted[-1] if quoted else ""
        found.setdefault(current, []).append((name, where.removeprefix(f"{root}/")))
    return found


@pytest.fixture(params=["sqlite", "tinydb"])
def root(request, tmp_path) -> Path:
    cubeport.Catalog.create(tmp_path / "instance", request.param, plugins=False).close()
    return (tmp_path / "instance").resolve()


def syncs(calls: list[tuple[str, str]]) -> list[str]:
    return [path for call, path in calls if call in ("fsync", "fdatasync")]


def test_an_add_syncs_in_the_order_that_survives_a_power_cut(root):
    calls = traced(root, 3)[2]
    at: dict[str, int] = {}
    for n, (call, path) in enumerate(calls):
        name = Path(path).name
        if call in ("fsync", "fdatasync"):
            if "journal/open/" in path:
                at.setdefault("journal line", n)
            elif path.endswith("journal/open"):
                at.setdefault("journal name", n)
            elif name.endswith(".part") and "files/" in path:
                at.setdefault("bytes", n)
            elif name == "file-2":
                at.setdefault("name", n)
            elif name in ("catalog.db-wal", ".cubeport"):
                at["commit"] = n
            elif name.startswith("operations-"):
                at.setdefault("month", n)
        elif call.startswith("link") and "files/" in path:
            at.setdefault("link", n)
        elif call.startswith("write") and name.endswith(".part") and "files/" in path:
            at.setdefault("first byte", n)
        elif call.startswith("unlink") and "journal/open/" in path:
            at.setdefault("closed", n)
    wanted = ["journal line", "journal name", "first byte", "bytes", "link", "name", "commit", "month", "closed"]
    assert sorted(at, key=at.__getitem__) == wanted, calls


def test_syncs_are_few_and_do_not_grow(root):
    counts = {n: len(syncs(calls)) for n, calls in traced(root, 60).items() if n}  # the first add makes folders and a month
    early, late = sorted(list(counts.values())[:20]), sorted(list(counts.values())[-20:])
    assert early[10] == late[10] <= 8, counts
    assert sum(counts.values()) <= 8 * len(counts), "with SQLite's checkpoints"
