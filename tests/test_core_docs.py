"""The pages of ``docs/core`` are run as they stand: commands, Python, files and answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.pages import Block, blocks

from cubeport.cli import _app
from cubeport.cli._session import Wiring

DOCS = Path(__file__).resolve().parent.parent / "docs" / "core"


class Reader:
    """Somebody who does what the page says, in an empty folder, and holds the answers against the page's."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        self.site = site
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CUBEPORT_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = clean | {"PATH": path, "PYTHONPATH": str(site), "COLUMNS": "120", "LC_ALL": "C.UTF-8"}

    def run(self, block: Block) -> str:
        command = ["bash", "-eu", "-c", block.text] if block.language == "sh" else [sys.executable, "-c", block.text]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def follow(self, page: str) -> int:
        """Do all of it; return how many answers were compared."""
        said, compared = "", 0
        for block in blocks(f"core/{page}"):
            if block.language == "text":
                assert said == block.text
                compared += 1
            elif block.title == "install":
                self.install()
            elif block.title is not None:
                path = self.folder / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language in ("sh", "python"):
                said = self.run(block)
        return compared

    def install(self) -> None:
        """Lay the page's package out as an installer does."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        info = self.site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        ((group, points),) = project["entry-points"].items()
        (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()))
        for value in points.values():
            module = value.partition(":")[0]
            (self.folder / f"{module}.py").rename(self.site / f"{module}.py")
        (self.folder / "pyproject.toml").unlink()


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    for name in ("work", "site"):
        (tmp_path / name).mkdir()
    return Reader(tmp_path / "work", tmp_path / "site")


def test_the_quickstart_works_as_written(reader: Reader) -> None:
    assert reader.follow("quickstart.md") == 10
    headings = re.findall(r"^## (\w+)", (DOCS / "quickstart.md").read_text(), re.MULTILINE)
    assert headings[:6] == ["Create", "Add", "Search", "Path", "Fields", "Validate"]


def test_the_plugin_page_works_as_written(reader: Reader) -> None:
    assert reader.follow("plugins.md") == 3


@pytest.mark.parametrize(("page", "answers"), [("python.md", 5), pytest.param("files.md", 4, marks=pytest.mark.slow)])
def test_a_page_works_as_written(reader: Reader, page: str, answers: int) -> None:
    reader.environment["USER"] = "ana"
    assert reader.follow(page) == answers


def test_every_command_of_the_core_is_on_its_page() -> None:
    def never(*args: object, **kwargs: object) -> object:
        raise AssertionError("opens nothing")

    root = _app.build(Wiring(never, never))  # type: ignore[arg-type]
    text = (DOCS / "cli.md").read_text()
    written = set(re.findall(r"[a-z][a-z-]+", " ".join(re.findall(r"^\| (.+?) \|", text, re.MULTILINE))))
    assert set(root.commands) - written == set()
