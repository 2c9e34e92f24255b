"""A catalog that several Unix users of one group write to, as real users: needs root to become them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sample import sample

import cubeport

GROUP, ANA, BEN = 15_000, 15_001, 15_002
DRIVER = """
import json, os, sys, tempfile
from cubeport.main import run

group, root, commands = json.loads(sys.argv[1])
# All that a command imports is imported as root: the interpreter may be in a folder that those users cannot read.
for kind in ("sqlite", "tinydb"):
    with tempfile.TemporaryDirectory() as spare:
        os.chdir(spare)
        os.mkdir("d"); open("d/a.txt", "w").close(); open("f.txt", "w").close()
        for line in ("init --catalog " + kind, "add f.txt --key k", "add d --key d", "edit k --set a=b", "purge d --yes", "gc"):
            run(line.split())
os.chdir(root)
codes = []
for user, umask, arguments in commands:
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.setgroups([group]); os.setgid(user); os.setuid(user); os.umask(umask)
        os._exit(run(arguments))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that two users of one group share: setgid, written by the group. pytest's own are for one user alone."""
    if os.geteuid() != 0:
        pytest.skip("becoming two users needs root: the promises of shared catalogs were NOT checked")
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        shared = Path(made) / "shared"
        shared.mkdir()
        os.chown(shared, 0, GROUP)
        shared.chmod(0o2770)
        yield shared


def run_as(folder: Path, *commands: tuple[int, int, list[str]]) -> tuple[list[int], str]:
    """Run each command (user, umask, arguments) in the folder as that user; return the exit codes and what was on stderr."""
    request = json.dumps([GROUP, str(folder), commands])
    done = subprocess.run([sys.executable, "-c", DRIVER, request], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("kind", sample(["sqlite", "tinydb"], every=2))
@pytest.mark.parametrize(("shared", "umask"), [(["--shared", "group"], 0o022), ([], 0o002)], ids=["shared-group", "umask-002"])
def test_two_users_of_one_group_write_to_one_catalog(folder: Path, shared: list[str], umask: int, kind: str) -> None:
    commands = [(ANA, umask, ["init", "--catalog", kind, *shared])]
    for n, user in enumerate((ANA, BEN, ANA, BEN)):
        (folder / f"{n}.txt").write_text(str(n))
        (folder / f"d{n}").mkdir()
        (folder / f"d{n}" / "a.txt").write_text(str(n))
        for each in (folder / f"{n}.txt", folder / f"d{n}", folder / f"d{n}" / "a.txt"):
            each.chmod(0o755)
        commands += [
            (user, umask, ["add", f"{n}.txt", "--key", f"k{n}", "--title", "same title"]),
            (user, umask, ["add", f"d{n}", "--key", f"d{n}"]),
        ]
    commands += [
        (BEN, umask, ["edit", "k0", "--set", "by=ben"]),
        (ANA, umask, ["purge", "k1", "--yes"]),
        (BEN, umask, ["purge", "d2", "--yes"]),
        (BEN, umask, ["gc"]),
    ]
    codes, said = run_as(folder, *commands)
    assert set(codes) == {0}, said
    with cubeport.Catalog.open(folder, read_only=True) as catalog:
        assert catalog.get("k0").metadata == {"by": "ben"}
        assert catalog.count() == 6
        assert {each.verdict for each in catalog.verify(all=True)} == {"ok"}
        assert {(each.created_by) for each in catalog.operations()} == {str(ANA), str(BEN)}
    others = [
        each for each in folder.rglob("*") if each.is_relative_to(folder / ".cubeport") and each.stat().st_mode & stat.S_IRWXO
    ]
    assert others == []


def test_without_either_the_problem_names_the_path(folder: Path) -> None:
    codes, said = run_as(folder, (ANA, 0o022, ["init"]), (BEN, 0o022, ["add", "--title", "x"]))
    assert codes == [0, 6], said
    assert ".cubeport/" in said
    assert "shared: group" in said
