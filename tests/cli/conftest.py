"""The command line as a user has it: ``main.run`` over an instance of its own."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cubeport.catalog.models import CatalogRecord
from cubeport.cli._output import plain
from cubeport.main import Catalog, run


class Said(NamedTuple):
    """What a command line left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        return json.loads(self.err[self.err.index("{") :])


class Shell:
    """Runs commands in one instance."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: object, stdin: bytes | None = None) -> Said:
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        code = run([str(each) for each in arguments])
        return Said(code, *self._capsys.readouterr())

    def ok(self, *arguments: object, stdin: bytes | None = None) -> Said:
        said = self(*arguments, stdin=stdin)
        assert said.code == 0, said
        return said

    def add(self, *arguments: object) -> CatalogRecord:
        """Add a record and return it as it is stored."""
        said = self.ok("add", *arguments, "--json")
        return CatalogRecord.from_mapping({k: v for k, v in said.json.items() if k not in ("outcome", "warnings")})

    def file(self, name: str, text: str = "hello\n") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def catalog(self, *, read_only: bool = True) -> Catalog:
        return Catalog.open(self.root, read_only=read_only)

    def twin(self, value: Any) -> Any:
        """Return what ``--json`` would print of a twin's result."""
        return json.loads(json.dumps(plain(value)))


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    root = tmp_path / "instance"
    Catalog.create(root).close()
    monkeypatch.chdir(root)
    return Shell(root, capsys, monkeypatch)
