"""A dry run writes nothing at all: after each one, the whole tree of the instance is what it was, and no catalog has moved on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell
from tests.cli.test_help import LEAVES
from tests.cli.test_ingest import write

COMMANDS = {
    "add": ["add", "{inbox}/notes.txt", "--copy", "--dry-run"],
    "delete": ["delete", "tas", "--dry-run"],
    "restore": ["restore", "{gone}", "--dry-run"],
    "purge": ["purge", "{gone}", "--dry-run"],
    "extract-metadata": ["extract-metadata", "doc", "--dry-run"],
    "import": ["import", "{inbox}/*.txt", "--dry-run"],
    "run": ["run", "short", "{inbox}/notes.txt", "--dry-run"],
    "recover": ["recover", "--dry-run"],
    "gc": ["gc", "--dry-run"],
    "list": ["list", "--where", "key = tas", "--delete", "--dry-run"],
    "ingest": ["ingest", "{inbox}/tas_20200103.nc", "--id", "new", "--dry-run"],
    "ingest, each": ["ingest", "{inbox}", "--each", "--dry-run"],
    "ingest, template": ["ingest", "warm", "--start", "2020-01-01", "--dry-run"],
    "update": ["update", "tas", "{inbox}/tas_20200103.nc", "--dry-run"],
    "sync": ["sync", "warm", "--plan"],
    "sync, all": ["sync", "--all", "--plan"],
    "export stac": ["export", "stac", "{inbox}/static", "tas", "--dry-run"],
    "export static": ["export", "static", "{inbox}/static", "--link", "--dry-run"],
    "apply": ["apply", "{inbox}/sources.toml", "--dry-run"],
}
"""By command, and by the form of it, one that would change something."""


def tree(root: Path) -> Mapping[str, Any]:
    """Return the mode, size, time of change and sha256 of everything below *root*, by path."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        if path.name.endswith("-shm"):
            continue  # the memory that processes share, in which SQLite counts readers
        status = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[path.relative_to(root).as_posix()] = (status.st_mode, status.st_size, status.st_mtime_ns, digest)
    return found


def test_every_command_with_a_dry_run_is_here() -> None:
    dry = {
        name
        for name, each in LEAVES.items()
        if {"--dry-run", "--plan"} & {option for param in each.params for option in param.opts}
    }
    assert dry == {name.partition(",")[0] for name in COMMANDS}


@pytest.fixture
def names(shell: Shell, tmp_path: Path) -> Mapping[str, str]:
    """An instance with a dataset, another of a template, a record and a deleted one, and files that are not ingested yet."""
    folder = tmp_path / "inbox"
    for day in (1, 2, 3):
        write(folder / f"tas_2020010{day}.nc", month=day)
    (folder / "notes.txt").write_text("hello")
    (folder / "sources.toml").write_text('[_META]\nschema = 1\n\n[fresh]\nuri = "http://127.0.0.1:9/tas.nc"\n')
    shell.file("config/service.yaml", f"sources:\n  roots: ['{folder}']\n  origins: ['http://127.0.0.1:9']\n")
    block = f"source: {{kind: files, paths: ['{folder}/tas_*.nc']}}\nsync: {{kind: temporal}}\n"
    shell.file("config/datasets/warm.yaml", f"id: warm\ntitle: Warm\nperiod_type: daily\n{block}")
    shell.file("config/pipelines/short.yaml", "operation: {name: short, steps: [plan-path, write-artifact, commit-record]}\n")
    shell.ok("ingest", folder / "tas_20200101.nc", "--id", "tas")
    shell.ok("ingest", "warm", "--start", "2020-01-01", "--end", "2020-01-02")
    shell.ok("add", folder / "notes.txt", "--copy", "--key", "doc")
    gone = shell.add("--title", "Gone").id
    shell.ok("delete", gone, "--yes")
    return {"inbox": str(folder), "gone": gone}


def test_a_dry_run_writes_nothing(shell: Shell, names: Mapping[str, str]) -> None:
    before = tree(shell.root)
    changed = {}
    for name, command in COMMANDS.items():
        said = shell(*(each.format(**names) for each in command))
        assert said.code == 0, (name, said)
        if (after := tree(shell.root)) != before:
            changed[name] = sorted(path for path in after.keys() | before.keys() if after.get(path) != before.get(path))
        before = after
    assert changed == {}
    # Each of them would have done something: it is not a command that had nothing to do.
    for name in ("update", "sync", "ingest", "import"):
        command = [each.format(**names) for each in COMMANDS[name] if each not in ("--dry-run", "--plan")]
        assert shell(*command).code == 0
        after = tree(shell.root)
        assert after != before, name
        before = after
