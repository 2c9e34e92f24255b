"""A page of the documentation as the blocks that a reader would paste, and a reader who pastes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent.parent / "docs"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    title: str | None
    text: str


def blocks(page: str, *, since: str = "", until: str = "") -> list[Block]:
    """Return the fenced blocks of a page below ``docs/``, in order; those between two headings where they are given."""
    text = (DOCS / page).read_text()
    begin = text.index(f"\n{since}\n") if since else 0
    end = text.index(f"\n{until}\n") if until else len(text)
    return [Block(language, title or None, block) for language, title, block in FENCE.findall(text[begin:end])]


class Follower:
    """Somebody who does what a page says, in one folder, and compares each answer with the page's."""

    def __init__(self, folder: Path, *, replace: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.replace = replace or {}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("CUBEPORT_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = clean | {"PATH": path, "COLUMNS": "120", "LC_ALL": "C.UTF-8", "NO_PROXY": "127.0.0.1"}
        self.timeout_s = 120.0
        """After this a command is taken to hang. A page whose commands start many processes needs more on a busy machine."""
        self.outputs: list[str] = []

    def run(self, block: Block) -> str:
        text = block.text
        for old, new in self.replace.items():
            text = text.replace(old, new)
        command = ["bash", "-eu", "-c", text] if block.language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=self.timeout_s
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        self.outputs.append(done.stdout)
        return done.stdout

    def follow(self, page: str, *, since: str = "", until: str = "") -> int:
        """Run each untitled ``sh`` and ``python`` block, write those called ``….py``; return how many answers were compared."""
        output, compared = "", 0
        for block in blocks(page, since=since, until=until):
            if block.language == "text":
                assert output == block.text
                compared += 1
            elif block.title is None and block.language in ("sh", "python"):
                output = self.run(block)
            elif block.title is not None and block.title.endswith(".py"):
                (self.folder / block.title).write_text(block.text)
        return compared
