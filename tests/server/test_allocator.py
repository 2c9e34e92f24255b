"""A server gives memory back when chunks are freed, so that its cache bounds it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

KEPT = """
import os, sys
from cubeport.main.allocator import return_what_is_freed

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

if sys.argv[1] == "ours":
    return_what_is_freed()
bytearray(2 << 20)  # as glibc sees it, blocks of this size come and go
before = resident()
blocks = [bytearray(b"1") * (512 << 10) for _ in range(200)]
del blocks[::2]
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_freed_blocks_between_others_return_to_the_system() -> None:
    kept = {}
    for way in ("ours", "default"):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        done = subprocess.run([sys.executable, "-c", KEPT, way], env=environment, capture_output=True, text=True, check=True)
        kept[way] = float(done.stdout)
    assert 45 < kept["ours"] < 60, kept
    assert kept["default"] > 90, kept
