"""A real full disk: every writing command says ``no-space``, never ``locked``, and all is well again when space returns."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

SCRIPT = """
import json, os, sys
from pathlib import Path
import cubeport
from cubeport.errors import CubeportError

disk, backend = Path(sys.argv[1]), sys.argv[2]
root = disk / "instance"
root.mkdir()
cubeport.Catalog.create(root, backend, plugins=False).close()
fill = disk / "fill"

def attempt(what, act):
    try:
        act()
    except BaseException as exc:
        kind = exc.kind if isinstance(exc, CubeportError) else type(exc).__name__
        seen.append([level, what, kind, str(exc)])
    else:
        seen.append([level, what, "ok", ""])

seen = []
kept = []
for level in (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192):
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with fill.open("wb") as file:
        left = free - level * 1024
        while left > 0:
            left -= file.write(bytes(min(left, 1 << 20)))
    with cubeport.Catalog.open(root, plugins=False, recover=False) as catalog:
        attempt("add", lambda: kept.append(catalog.add_bytes(os.urandom(20_000), {"n": level}, filename="a.bin").record.id))
        attempt("add again", lambda: kept.append(catalog.add_bytes(os.urandom(20_000), {"n": level}, filename="b.bin").record.id))
        attempt("recover", catalog.recover)
        for each in kept:
            catalog.get(each)
    fill.unlink()
    with cubeport.Catalog.open(root, plugins=False) as catalog:
        kept.append(catalog.add(metadata={"back": level}).record.id)
        assert not catalog.ports.journal.open_ids(), "recovered when space returned"
        findings = [f"{each.kind} {each.place}" for each in catalog.fsck(data=True).findings]
        assert findings == [], findings
        assert {each.id for each in catalog.search(limit=1000)} == set(kept)
print(json.dumps(seen))
"""


@pytest.mark.parametrize("backend", ["sqlite", "tinydb"])
def test_every_write_says_no_space_and_nothing_is_lost(on_a_small_disk: Callable[..., str], backend: str) -> None:
    seen = json.loads(on_a_small_disk(SCRIPT, backend))
    wrong = [each for each in seen if each[2] not in ("ok", "no-space")]
    assert not wrong
    assert sum(each[2] == "no-space" for each in seen) >= 6, seen
    assert any(each[1].startswith("add") and each[2] == "ok" for each in seen), "the levels reach from nothing to enough"
