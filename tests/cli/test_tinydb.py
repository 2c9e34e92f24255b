"""The same commands over the other backend: what a user sees does not tell which one it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Shell


@pytest.fixture
def other(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    root = tmp_path / "tiny"
    shell.ok("init", root, "--catalog", "tinydb")
    monkeypatch.chdir(root)
    shell.root = root
    return shell


def test_a_record_through_its_whole_life(other: Shell) -> None:
    schema = other.file("s.json", json.dumps({"required": ["year"]}))
    other.ok("schema", "import", "paper", schema)
    record = other.add(other.file("a.txt"), "--key", "k", "--title", "June", "--meta", "year=2018", "--schema", "paper")
    assert other.ok("search", "year>=2018", "--text", "jun", "--count").out == "1\n"
    assert other("search", "year=1").code == 3
    assert Path(other.ok("path", "k").out.strip()).read_text() == "hello\n"
    assert other.ok("validate", "--all", "--json").json[record.id]["valid"]
    assert other.ok("edit", "k", "--set", "year=2019", "--json").json["version"] == 2
    assert other("edit", "k", "--title", "x", "--if-version", "1").code == 4
    assert [f["field"] for f in other.ok("fields", "--json").json] == ["year"]
    other.ok("delete", "k", "--yes")
    assert other.ok("search", "--status", "deleted", "--ids").out == f"{record.id}\n"
    other.ok("restore", record.id)
    assert other.ok("verify", "--all").code == 0
    assert other.ok("fsck", "--json").json["findings"] == []
    assert [o["operation_type"] for o in other.ok("operations", "--json").json] == ["restore", "delete", "update", "add"]
    assert {each["level"] for each in other.ok("doctor", "--json").json if each["place"] not in ("user", "auth")} == {"ok"}
    assert other.ok("info", "--json").json["settings"]["backend"] == "tinydb"
    other.ok("purge", record.id, "--yes")
    assert json.loads((other.root / ".cubeport" / "catalog.json").read_text())
    assert other.ok("search", "--status", "any", "--count").out == "0\n"
