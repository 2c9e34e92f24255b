"""The power goes: what the disk holds at that moment is a copy of a mounted image, as the page cache above it is lost.

``pytest -m crash`` cuts at every named place. Needs root, ext4 and loop mounts; skipped loudly without.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cubeport
from cubeport.catalog.work import recovery

MEGABYTES = 48
BYTES = [f"{name}:{side}" for name in ("artifact_write_started", "bytes", "fsync", "publish") for side in ("before", "after")]
COMMIT = [
    "catalog_write_started:after",
    "commit:unknown",
    "commit:after",
    "afterwards:before",
    "afterwards:after",
    "committed:after",
]


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=60)


class Machine:
    """A file system on an image, and what is left of it after the power went."""

    def __init__(self, folder: Path) -> None:
        self.image, self.mounted, self.after = folder / "disk.img", folder / "before", folder / "after"
        with self.image.open("wb") as file:
            file.truncate(MEGABYTES * 1024**2)
        for each in (self.mounted, self.after):
            each.mkdir()
        if _run("mkfs.ext4", "-q", "-F", self.image).returncode or self._mount(self.image, self.mounted).returncode:
            pytest.skip("NO LOOP MOUNT OF EXT4 HERE: power cuts are not tested")

    @staticmethod
    def _mount(image: Path, where: Path) -> subprocess.CompletedProcess[str]:
        # Nothing reaches the image by the mere passing of time.
        return _run("mount", "-o", "loop,commit=600", image, where)

    def settle(self) -> None:
        """Write everything out, as after a quiet night."""
        _run("sync", "-f", self.mounted)

    def cut(self) -> None:
        """Take what the disk holds now, and start the machine again from that."""
        copy = self.image.with_name("copy.img")
        shutil.copyfile(self.image, copy)
        done = self._mount(copy, self.after)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        for each in (self.after, self.mounted):
            if os.path.ismount(each):
                _run("umount", each)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    # Whoever recovers does so after the restart: another boot, in which devices have other numbers.
    monkeypatch.setattr(recovery, "machine", lambda: {"host": "here", "boot": "the next one"})
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("NOT ROOT, OR NO mkfs.ext4: power cuts are not tested")
    made = Machine(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["sqlite", "tinydb"])
def root(request, machine) -> Path:
    folder = machine.mounted / "instance"
    with cubeport.Catalog.create(folder, request.param, plugins=False) as catalog:
        catalog.add_bytes(b"old bytes", {"n": 0}, filename="old.txt", key="old")
    (machine.mounted / "source.bin").write_bytes(b"source" * 1000)
    machine.settle()
    return folder


@pytest.fixture(scope="module")
def child() -> Iterator[Callable[[Path, str, str], int]]:
    script = Path(__file__).with_name("zygote.py")
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def run(root: Path, action: str, points: str) -> int:
        process.stdin.write(json.dumps({"root": str(root), "action": action, "points": points}) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def check(machine: Machine, action: str, *, acknowledged: bool) -> None:
    with cubeport.Catalog.open(machine.after / "instance", plugins=False) as catalog:
        assert catalog.recover() == []
        assert catalog.fsck(data=True).findings == ()
        keys = {record.key for record in catalog.iterate()}
        source = machine.after / "source.bin"
        match action:
            case "add":
                assert "new" in keys or not acknowledged
            case "move":
                assert "moved" in keys or not acknowledged
                place = catalog.path("moved") if "moved" in keys else source
                assert place.read_bytes() == b"source" * 1000
            case "update":
                assert len(catalog.get("old").artifacts) == 2 or not acknowledged
            case "purge":
                assert "old" not in keys or not acknowledged
        if action != "purge":
            assert catalog.path("old").read_bytes() == b"old bytes"


@pytest.mark.parametrize("action", ["move", *(pytest.param(each, marks=pytest.mark.crash) for each in ("add", "update", "purge"))])
def test_acknowledged_is_durable(machine, root, child, action):
    assert child(root, action, "") == 0
    machine.cut()
    check(machine, action, acknowledged=True)


CASES = [(action, point) for action in ("add", "move", "update") for point in (*BYTES, *COMMIT)]
CASES += [("purge", point) for point in COMMIT]


@pytest.mark.crash
@pytest.mark.parametrize(("action", "point"), CASES)
def test_a_cut_anywhere_leaves_all_or_nothing(machine, root, child, action, point):
    assert child(root, action, point) == -signal.SIGKILL
    machine.cut()
    check(machine, action, acknowledged=False)


@pytest.mark.crash
@pytest.mark.parametrize("point", ["recover:after", "rolled_back:after"])
def test_a_cut_in_recovery_is_recovered(machine, root, child, point):
    assert child(root, "move", "publish:after") == -signal.SIGKILL
    assert child(root, "recover", point) == -signal.SIGKILL
    machine.cut()
    check(machine, "move", acknowledged=False)
