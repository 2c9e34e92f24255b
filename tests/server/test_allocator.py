"""The threads of a server share two arenas of glibc, so that freed chunks are used again by all of them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ARENAS = """
import ctypes, sys, threading
from cubeport.main.allocator import share_arenas

if sys.argv[1] == "ours":
    share_arenas()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
meeting = threading.Barrier(8)

def work():
    libc.malloc(100_000)
    meeting.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_threads_share_two_arenas_unless_the_environment_decides(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    found = {}
    for name, way, more in (("ours", "ours", {}), ("default", "default", {}), ("set", "ours", {"MALLOC_ARENA_MAX": "4"})):
        target = tmp_path / name
        subprocess.run([sys.executable, "-c", ARENAS, way, str(target)], env=plain | more, check=True)
        found[name] = target.read_text().count("<heap nr=")
    assert (found["ours"], found["set"]) == (2, 4), found
    assert found["default"] > 4, found
