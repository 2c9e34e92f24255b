"""What a session leaves below ``.cubeport`` is for its owner and group alone, however open the umask is: 0 lets the group write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.cli.conftest import Shell

from cubeport.catalog.disk.locks import FileLock
from cubeport.main import connect


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the permissions of the folder and of everything in it, by path."""
    return {each.relative_to(folder).as_posix(): stat.S_IMODE(each.lstat().st_mode) for each in (folder, *folder.rglob("*"))}


def allowed(path: Path) -> set[int]:
    return {0o700, 0o750, 0o770} if path.is_dir() else {0o600, 0o640, 0o660}


@pytest.mark.usefixtures("open_umask")
@pytest.mark.parametrize("kind", ["sqlite", "tinydb"])
def test_nobody_else_reads_what_lies_beside_the_catalog(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    root = tmp_path / "new"
    shell.ok("init", root, "--catalog", kind)
    monkeypatch.chdir(root)
    shell.root = root
    (root / "config" / "profiles.yaml").write_text(
        f"profiles:\n  default: {{protocol: file, root: ./files}}\n  mem: {{protocol: memory, root: 'memory://modes-{kind}'}}\n"
    )
    record = shell.add(shell.file("a.txt"), "--key", "k")
    assert "  mem:" in shell.ok("add", shell.file("b.txt"), "--profile", "mem").out
    shell.file("s.json", '{"type": "object"}')
    shell.ok("schema", "import", "paper", "s.json")
    shell.ok("edit", "k", "--title", "x")
    shell("fetch", record.id)
    shell.ok("delete", "k", "--yes")
    shell.ok("purge", record.id, "--yes")
    xr.Dataset({"v": (("lat", "lon"), np.ones((2, 3)))}, {"lat": [1.0, 2.0], "lon": [1.0, 2.0, 3.0]}).to_netcdf(root / "c.nc")
    shell.ok("ingest", root / "c.nc", "--id", "cube")
    shell.ok("fsck")
    shell.ok("gc")
    with connect(root) as service, FileLock(root / ".cubeport" / "locks" / "held.lock", {"command": "test"}):
        service.start()
        service.catalog.add({}, title="while others are open")
        found = modes(root / ".cubeport")
    wrong = {path: oct(mode) for path, mode in found.items() if mode not in allowed(root / ".cubeport" / path)}
    assert wrong == {}
    store = {"catalog.db", "catalog.db-wal", "catalog.db-shm"} if kind == "sqlite" else {"catalog.json", "catalog.json.bak"}
    expected = {"catalog.yaml", "locks/catalog.lock", "locks/held.lock.note", "locks/datasets/cube.lock", "scratch", *store}
    assert expected <= found.keys()
    for beginning in ("journal/operations-", "logs/events-", "schemas/paper", "locks/workers/"):
        assert any(path.startswith(beginning) for path in found), beginning
