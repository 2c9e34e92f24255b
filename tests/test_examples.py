"""Every example prints what it says, twice, from an installed package and nothing of this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.installed import lay_out

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/expected.txt"))


def run(name: str, folder: Path, python: Path, site: Path | None = None) -> str:
    """Run the example in a copy of its folder, as its README says; return what it prints."""
    shutil.copytree(EXAMPLES / name, folder)
    _, command = commands(name)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("CUBEPORT_", "PYTHON"))}
    environment = clean | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "COLUMNS": "120"}
    environment |= {"PYTHONPATH": str(site)} if site else {}
    done = subprocess.run(command.split(), cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout


def commands(name: str) -> list[str]:
    """Return the two commands of the example's README: how to install, how to run."""
    (block,) = re.findall(r"```sh\n(.*?)```", (EXAMPLES / name / "README.md").read_text(), re.DOTALL)
    return block.splitlines()


def test_each_example_is_listed_and_the_list_has_no_other() -> None:
    listed = re.findall(r"\]\(([\w-]+)/README\.md\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == NAMES == sorted(each.name for each in EXAMPLES.iterdir() if each.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_what_it_says(name: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    if (EXAMPLES / name / "plugin").is_dir():
        lay_out(EXAMPLES / name / "plugin", site)
    expected = (EXAMPLES / name / "expected.txt").read_text()
    assert run(name, tmp_path / "once", Path(sys.executable), site) == expected


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_examples_run_from_wheels_in_a_fresh_environment(tmp_path: Path) -> None:
    """By pip, as the READMEs say; twice each, in folders of their own."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=EXAMPLES.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for name in NAMES:
        for wanted in re.findall(r'"([^"]+)"|(cubeport|\./plugin)\b', commands(name)[0].removeprefix("pip install ")):
            package = "".join(wanted)
            target = EXAMPLES / name / "plugin" if package == "./plugin" else str(wheel) + package.removeprefix("cubeport")
            subprocess.run([*install, str(target)], check=True)
        for time in ("once", "again"):
            assert run(name, tmp_path / name / time, python) == (EXAMPLES / name / "expected.txt").read_text(), name
