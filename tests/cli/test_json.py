"""With ``--json`` every command prints one JSON document on stdout, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Shell

from cubeport.catalog.models import CatalogRecord
from cubeport.cli import _app
from cubeport.cli._session import Wiring

COMMANDS: dict[str, tuple[str, ...]] = {
    "add": ("add", "a.txt", "--title", "more"),
    "search": ("search",),
    "list": ("list",),
    "show": ("show", "k"),
    "history": ("history", "k"),
    "path": ("path", "k"),
    "get": ("get", "k", "-o", "copies"),
    "replace": ("replace", "k", "a.txt"),
    "detach": ("detach", "k", "primary", "--yes"),
    "edit": ("edit", "k", "--title", "new"),
    "delete": ("delete", "k", "--dry-run"),
    "restore": ("restore", "k", "--dry-run"),
    "purge": ("purge", "k", "--dry-run"),
    "info": ("info",),
    "fields": ("fields",),
    "lineage": ("lineage", "k"),
    "validate": ("validate", "--all"),
    "schema list": ("schema", "list"),
    "schema show": ("schema", "show", "paper"),
    "schema export": ("schema", "export", "paper"),
    "schema import": ("schema", "import", "paper", "paper.json", "--version", "2"),
    "extract-metadata": ("extract-metadata", "k"),
    "verify": ("verify", "--all"),
    "view": ("view", "links", "--template", "{title_slug}"),
    "run": ("run", "tidy", "a.txt", "--dry-run"),
    "init": ("init", "new"),
    "plugins": ("plugins", "--no-plugins"),
    "profiles": ("profiles",),
    "logs": ("logs",),
    "operations": ("operations",),
    "doctor": ("doctor",),
    "recover": ("recover",),
    "fsck": ("fsck",),
    "gc": ("gc", "--dry-run"),
    "convert": ("convert", "--to", "tinydb"),
    "migrate": ("migrate",),
    "export records": ("export", "records", "-o", "all.ndjson"),
    "export ro-crate": ("export", "ro-crate", "crate"),
    "export intake": ("export", "intake", "intake.yaml"),
    "import": ("import", "a.txt", "--dry-run"),
}
NEED_A_GATE = {"fetch", "drop"}
BYTES = {"cat", "export openlineage", "export urls"}
"""Commands whose result is bytes, or a document a line, with or without ``--json``."""


@pytest.fixture
def filled(shell: Shell) -> CatalogRecord:
    shell.file("a.txt")
    shell.file("empty.ndjson", "")
    shell.file("paper.json", '{"type": "object"}')
    shell.file("config/pipelines/tidy.yaml", "operation:\n  name: tidy\n  steps: [validate-record, commit-record]\n")
    shell.ok("schema", "import", "paper", "paper.json")
    return shell.add("a.txt", "--key", "k", "--title", "x", "--meta", "year=2018")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", COMMANDS)
def test_one_document_and_nothing_else(shell: Shell, name: str) -> None:
    said = shell.ok(*COMMANDS[name], "--json")
    assert said.json is not None
    assert "\x1b" not in shell(*(part if part != "new" else "other" for part in COMMANDS[name])).out


def test_no_command_of_the_core_is_left_out() -> None:
    def never(*args: object, **how: object) -> object:
        raise AssertionError("opens nothing")

    root = _app.build(Wiring(never, never))  # type: ignore[arg-type]
    every = set()
    for name, command in root.commands.items():
        every |= {f"{name} {inner}" for inner in getattr(command, "commands", {})} or {name}
    assert every == set(COMMANDS) | NEED_A_GATE | BYTES


def test_paths_on_stdout_are_whole(shell: Shell, filled: CatalogRecord) -> None:
    assert Path(shell.ok("path", filled.id[:6]).out.strip()).is_absolute()
