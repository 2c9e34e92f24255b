"""``import``: many files as records, a manifest, records of another catalog. It never publishes."""

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


def test_it_says_what_it_brings_and_exits_1_when_any_failed(shell: Shell, inbox: Path) -> None:
    fill(inbox, 2)
    said = shell("import", inbox / "*.csv", "--dry-run")
    assert (said.code, said.err.splitlines()[0]) == (0, "import: files that become records")
    said = shell("import", inbox / "*.csv", inbox / "gone.csv", "--continue-on-error", "--json")
    assert (said.code, said.json["counts"]) == (1, {"added": 2, "skipped": 0, "changed": 0, "failed": 1})
    assert "2 added, 0 skipped, 0 changed, 1 failed" in said.err
    manifest = inbox / "m.yaml"
    manifest.write_text("manifest: 1\nitems: [{source: 000.csv, key: k}]\n")
    assert shell.ok("import", manifest, "--json").err.startswith("import: a manifest of records\n")
    assert shell.ok("show", "k", "--json").json["artifacts"][0]["size_bytes"] == 4


def test_flags_of_another_form_are_refused(shell: Shell, inbox: Path) -> None:
    fill(inbox, 1)
    assert "--on-exists is for records" in shell("import", inbox / "*.csv", "--on-exists", "skip").err
    (inbox / "r.ndjson").write_text("")
    assert "--move is for files and manifests" in shell("import", inbox / "r.ndjson", "--move").err
    assert "cannot be combined" in shell("import", inbox / "000.csv", "--move", "--reference").err
    assert shell("search", "--count").out == "0\n"


def test_a_json_file_is_a_manifest_when_it_says_so_and_records_else(shell: Shell, inbox: Path) -> None:
    fill(inbox, 1)
    (inbox / "m.json").write_text(json.dumps({"manifest": 1, "items": [{"source": "000.csv", "key": "k"}]}))
    shell.ok("import", inbox / "m.json")
    record = shell.ok("show", "k", "--json").out
    shell.ok("purge", "k", "--yes")
    (inbox / "r.json").write_text(record)
    shell.ok("import", inbox / "r.json")
    assert shell.ok("show", "k", "--json").json["key"] == "k"


def test_two_at_once_take_each_file_once(shell: Shell, inbox: Path) -> None:
    fill(inbox, 20)
    script = Path(sys.executable).with_name("cubeport")
    both = [
        subprocess.Popen(
            [script, "import", inbox / "*.csv", "--json"], cwd=shell.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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


def test_what_is_said_of_all_files(shell: Shell, inbox: Path) -> None:
    """The seed's line, ``import GLOB --schema``: with metadata from names, and a file whose name says nothing."""
    schema = {"type": "object", "required": ["station", "year", "net"], "properties": {"year": {"type": "integer"}}}
    shell.file("reading.json", json.dumps(schema))
    shell.ok("schema", "import", "reading", "reading.json")
    for name in ("mhd_2018.csv", "mhd_2019.csv", "readme.csv"):
        (inbox / name).write_text(name)
    of_all = [
        "--schema",
        "reading",
        "--pattern",
        "{station}_{year}.csv",
        "--meta",
        "net=AGAGE",
        "--tag",
        "raw",
        "--kind",
        "reading",
    ]
    said = shell("import", inbox / "*.csv", *of_all, "--continue-on-error", "--json")
    assert (said.code, said.json["counts"]) == (1, {"added": 2, "skipped": 0, "changed": 0, "failed": 1})
    found = shell.ok("search", "year:2018", "station=mhd", "net=AGAGE", "tags=raw", "--json").json["items"]
    assert [(each["schema_name"], each["kind"], each["metadata"]["year"]) for each in found] == [("reading", "reading", 2018)]
    assert shell.ok("validate", "--all").code == 0
    (inbox / "r.ndjson").write_text("")
    for flags in (["--schema", "reading"], ["--pattern", "{a}"], ["--meta", "a=1"], ["--tag", "x"], ["--profile", "default"]):
        assert f"{flags[0]} is for files and manifests" in shell("import", inbox / "r.ndjson", *flags).err


def test_a_folder_is_said_to_be_one_record(shell: Shell) -> None:
    """ "Add many files" added a folder of many as one thing, and did not say so."""
    shell.file("inbox/a.csv")
    said = shell.ok("import", shell.root / "inbox", "--dry-run")
    assert "becomes one record; for a record of each file: cubeport import '" in said.err
    assert "one record" not in shell.ok("import", shell.root / "inbox" / "*", "--dry-run").err
