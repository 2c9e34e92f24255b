"""The command line for people: groups, examples, short flags, tables, and a check of the configuration."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.core
from tests.cli.conftest import Shell

from cubeport.cli import _help, _output
from cubeport.cli._app import build
from cubeport.cli._session import Session
from cubeport.main.command import wiring


def commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        whole = f"{above} {name}".strip()
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, whole)
        else:
            yield whole, command


ROOT = build(wiring())
LEAVES = dict(commands(ROOT))


def test_cubeport_alone_says_the_three_things_that_most_people_want(
    tmp_path_factory: pytest.TempPathFactory, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("nothing"))
    said = shell.ok()
    assert len(said.out.splitlines()) <= 15
    for command in ("cubeport demo", "cubeport init", "cubeport ingest", "cubeport serve"):
        assert command in said.out


def test_cubeport_alone_below_an_instance_says_what_to_do_in_it(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.ok("init", tmp_path / "i")
    monkeypatch.chdir(tmp_path / "i" / "config")
    said = shell.ok().out
    assert f"use the instance {tmp_path / 'i'}." in said
    assert "init" not in said
    assert "cubeport datasets" in said
    shell.ok("datasets")  # as it is written there
    assert "cubeport init" in shell.ok("--instance", tmp_path / "other").out


def test_help_groups_every_command_and_publishing_comes_first(shell: Shell) -> None:
    said = shell.ok("-h")
    assert said.out == shell.ok("--help").out
    titles = re.findall(r"^([A-Z][^:\n]+):$", said.out, re.MULTILINE)
    assert titles == ["Options", *_help.GROUPS]
    listed = {name for names in _help.GROUPS.values() for name in names}
    assert listed == set(re.findall(r"^  ([a-z][a-z-]+)  ", said.out, re.MULTILINE))
    for name in ROOT.commands:
        assert re.search(rf"^  {name} ", said.out, re.MULTILINE), name
    assert said.out.index("Publish data:") < said.out.index("  ingest ") < said.out.index("  add ")
    assert "..." not in said.out.partition("Publish data")[2]


def test_help_says_of_a_command_that_is_not_made_what_it_says_of_itself() -> None:
    waiting: Any = build(wiring()).commands
    before = {name: waiting.help(name) for name in waiting}
    assert before == {name: command.help for name, command in ROOT.commands.items()}


@pytest.mark.parametrize("name", LEAVES)
def test_each_command_has_an_example_and_no_name_of_a_type(shell: Shell, name: str) -> None:
    said = shell.ok(*name.split(), "-h").out
    assert "Examples:" in said
    for example in _help.EXAMPLES[name]:
        assert f"  {example}\n" in said
    assert not re.search(r"<\w+|list\[|range>|\[\[", said)
    assert "--no-progress" not in said  # one line names the global flags


EXAMPLES = [(name, line) for name, lines in _help.EXAMPLES.items() for line in lines if name in LEAVES]


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_each_example_is_a_command_line_that_is_understood(name: str, line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "cubeport"
    if line == _help.EXAMPLES[name][0]:
        assert words[: len(name.split())] == name.split()
    session = Session(wiring(), wiring().environment)
    context = ROOT.make_context("cubeport", list(words), obj=session)
    command: Any = ROOT
    rest = list(words)
    while isinstance(command, typer.core.TyperGroup):
        _, command, rest = command.resolve_command(context, rest)
    command.make_context(name, rest, parent=context)


def test_completion_offers_commands() -> None:
    script = Path(sys.executable).with_name("cubeport")
    done = subprocess.run(
        [script],
        env={"_CUBEPORT_COMPLETE": "complete_bash", "COMP_WORDS": "cubeport in", "COMP_CWORD": "1", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert set(done.stdout.split()) == {"ingest", "init", "info"}, done.stderr


def test_a_table_keeps_its_title_and_is_cut_only_on_a_terminal() -> None:
    rows = [("ostia-sst", "published", "surface_temperature", "2006-04 … 2010-09", "Sea surface temperature along the equator")]
    header = ("dataset", "state", "variable", "time", "title")
    assert _output.table(rows, header).splitlines()[1].split("  ")[-1] == rows[0][-1]
    cut = _output.table(rows, header, width=100).splitlines()
    assert max(map(len, cut)) <= 100
    assert cut[1].endswith("Sea surface temperature along the equator")
    assert cut[1].startswith("ostia-sst ")
    narrow = _output.table(rows, header, width=80).splitlines()[1]
    assert narrow.startswith("ostia-sst  published  surface")
    assert "Sea surface temperature along" in narrow


class TestCheckConfig:
    def test_it_reports_every_problem_at_once_and_each_at_its_place(self, shell: Shell) -> None:
        assert shell.ok("check-config").out == "The configuration has no problems.\n"
        shell.file("config/service.yaml", "server: {prot: 1}\nretention: {keep_last: 0}\nzarr: {offload: x}\n")
        shell.file("config/datasets/sst.yaml", "id: sst\ntitle: T\nperiod_type: monthly\nsource: {kind: fils}\n")
        shell.file("extents/x.yaml", "extent_id: x\nbbox: [0, 10, 5, 5]\n")
        shell.file("config/pipelines/p.yaml", "operation:\n  name: p\n  steps: [nothing-such]\n")
        said = shell("check-config")
        assert said.code == 2
        for place in (
            "config/service.yaml:1:10: server.prot: is unknown; did you mean 'port'?",
            "config/datasets/sst.yaml:4:10: source.kind: 'fils' is not one of",
            "extents/x.yaml:",
            "config/pipelines/p.yaml:",
        ):
            assert place in said.err, said.err
        assert len(shell("check-config", "--json").problem["errors"]) >= 5

    def test_a_profile_with_a_mistake_is_named_and_one_that_cannot_have_versions(self, shell: Shell) -> None:
        pytest.importorskip("icechunk")
        source = shell.file("a.nc")
        bulk = "{protocol: s3, root: 's3://b/c', endpoint_url: 'https://s3.example', anonymous: true, use: [%s]}"
        shell.file("config/service.yaml", "engine: icechunk\nprofile: bulk\n")
        for use, words in (("dta", "did you mean 'data'?"), ("source", "is not a profile with `protocol: s3` and `use: [data]`")):
            shell.file("config/profiles.yaml", f"profiles:\n  default: {{root: ./files}}\n  bulk: {bulk % use}\n")
            said = shell("check-config")
            assert (said.code, said.err.count("bulk"), words in said.err) == (2, 1, True), said.err
            refused = shell("ingest", source, "--id", "a")
            assert (refused.code, words in refused.err) == (2, True), refused.err
        shell.file("config/profiles.yaml", f"profiles:\n  default: {{root: ./files}}\n  bulk: {bulk % 'data'}\n")
        assert shell.ok("check-config").out == "The configuration has no problems.\n"

    def test_doctor_reports_a_template_that_is_not_used(self, shell: Shell) -> None:
        shell.file("config/datasets/sst.yaml", "id: sst\ntitle: T\nperiod_type: monthly\nsource: {kind: fils}\n")
        shell.file("config/service.yaml", "sources: {roots: [gone]}\n")
        said = shell("doctor", "--json")
        found = {each["place"]: each["level"] for each in said.json if each["kind"] == "configuration"}
        assert (said.code, found) == (1, {"config/datasets/sst.yaml:4:10": "warn", "config/service.yaml": "error"})

    def test_a_webhook_without_a_secret_is_named(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        hook = "{url: 'https://hooks.example.org/x', secret_env: HOOK_SECRET}"
        shell.file("config/service.yaml", f"webhooks: {{origins: ['https://hooks.example.org'], targets: [{hook}]}}\n")
        for secret in (None, "short"):
            if secret is not None:
                monkeypatch.setenv("HOOK_SECRET", secret)
            said = shell("check-config")
            assert (said.code, "webhooks.targets: The webhook to https://hooks.example.org needs a secret" in said.err) == (2, True)
            assert "HOOK_SECRET" in said.err
        monkeypatch.setenv("HOOK_SECRET", "long enough for a secret")
        assert shell.ok("check-config").out == "The configuration has no problems.\n"

    def test_a_folder_of_sources_that_is_not_there_is_named(self, shell: Shell) -> None:
        shell.file("config/service.yaml", "sources: {roots: [gone]}\n")
        assert "sources.roots: there is no folder" in shell("check-config").err

    def test_a_folder_of_sources_inside_the_instance_or_around_it_is_named(self, shell: Shell) -> None:
        shell.file("config/service.yaml", "sources: {roots: [config]}\n")
        assert "is inside the instance, where no source may be" in shell("check-config").err
        shell.file("config/service.yaml", "sources: {roots: [/]}\n")
        assert "sources.roots" not in shell("check-config").err
        found = [each for each in shell("doctor", "--json").json if each["kind"] == "wide-root"]
        assert [(each["level"], each["place"]) for each in found] == [("warn", "sources.roots")]
        shell.file("config/service.yaml", "sources: {roots: [/usr]}\n")
        assert "wide-root" not in shell("doctor").out


@pytest.mark.parametrize("group", ["export", "keys", "schema", "webhooks", "zones"])
def test_the_commands_of_a_group_are_explained_whole(shell: Shell, group: str) -> None:
    said = shell.ok(group, "--help").out
    assert "..." not in said.partition("Commands:")[2]
    assert said.count("\n", said.index("Commands:")) > 2
