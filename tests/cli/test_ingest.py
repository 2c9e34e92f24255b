from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Shell


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def fill(inbox: Path, count: int) -> None:
    for i in range(count):
        (inbox / f"{i:03}.csv").write_text(f"n\n{i}\n")


class TestCommand:
    def test_it_says_what_it_understood_and_exits_1_when_any_failed(self, shell: Shell, inbox: Path) -> None:
        fill(inbox, 2)
        said = shell("ingest", inbox / "*.csv", "--dry-run")
        assert (said.code, said.err.splitlines()[0]) == (0, "ingest: files that become records")
        said = shell("ingest", inbox / "*.csv", inbox / "gone.csv", "--continue-on-error", "--json")
        assert (said.code, said.json["counts"]) == (1, {"added": 2, "skipped": 0, "changed": 0, "failed": 1})
        assert "2 added, 0 skipped, 0 changed, 1 failed" in said.err
        manifest = inbox / "m.yaml"
        manifest.write_text("manifest: 1\nitems: [{source: 000.csv, key: k}]\n")
        assert shell.ok("ingest", manifest, "--json").err.startswith("ingest: a manifest of records\n")
        assert shell.ok("show", "k", "--json").json["artifacts"][0]["size_bytes"] == 4

    def test_flags_of_the_other_half_are_refused(self, shell: Shell, inbox: Path) -> None:
        fill(inbox, 1)
        assert "--start is the service's" in shell("ingest", inbox / "*.csv", "--start", "2018").err
        assert "--move goes with a batch" in shell("ingest", inbox / "000.csv", "--id", "x", "--move").err

    def test_a_name_that_is_no_file_is_a_template(self, shell: Shell) -> None:
        said = shell("ingest", "no-such-template")
        assert said.err.startswith("ingest: a dataset template\n")
        assert said.code in (2, 3)

    def test_two_at_once_take_each_file_once(self, shell: Shell, inbox: Path) -> None:
        fill(inbox, 20)
        script = Path(sys.executable).with_name("cubeport")
        both = [
            subprocess.Popen(
                [script, "ingest", inbox / "*.csv", "--json"], cwd=shell.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for _ in range(2)
        ]
        said = [each.communicate(timeout=120) for each in both]
        assert [each.returncode for each in both] == [0, 0], said
        counts = [json.loads(out)["counts"] for out, _ in said]
        assert sum(each["added"] for each in counts) == 20
        assert sum(each["skipped"] for each in counts) == 20
        assert shell.ok("search", "--count").out == "20\n"
        assert shell.ok("fsck", "--json").json["findings"] == []
