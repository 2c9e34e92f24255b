"""Values as they are: on the way in by flags, on the way out as CSV and tables."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from tests.cli.conftest import Shell


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--meta", "v=null", None),
        ("--meta", 'v={"a": [1, null]}', {"a": [1, None]}),
        ("--meta", "v=1.5", 1.5),
        ("--meta", "v=true", True),
        ("--meta-text", "v=1.10", "1.10"),
        ("--meta-text", "v=null", "null"),
        ("--meta-json", "v=[{}]", [{}]),
    ],
)
def test_metadata_of_a_flag(shell: Shell, flag: str, text: str, value: Any) -> None:
    assert shell.add(flag, text).metadata == {"v": value}


def test_what_is_not_json_is_shown_at_its_place(shell: Shell) -> None:
    said = shell("add", "--meta-json", "v={")
    assert said.code == 2
    assert "^" in said.err


def test_an_edit_sets_time_and_box(shell: Shell) -> None:
    record = shell.add("--title", "x")
    changed = json.loads(shell.ok("edit", record.id, "--time", "2018-06", "--bbox", "-1,0,1,2", "--json").out)
    assert changed["time"]["start"] == "2018-06-01T00:00:00.000000Z"
    assert changed["bbox"] == [-1.0, 0.0, 1.0, 2.0]


@pytest.mark.parametrize("title", ["می\u200cخواهم", "👩\u200d🔬", "two\nlines", "a,b", "tab\there"])
def test_csv_holds_the_text_itself(shell: Shell, title: str) -> None:
    shell.add("--title", title)
    [_, row] = csv.reader(io.StringIO(shell.ok("search", "--fields", "title", "--format", "csv").out, newline=""))
    assert row == [title]


def test_a_list_in_csv_is_joined_so_that_names_stay_whole(shell: Shell) -> None:
    shell.add("--meta", 'authors=["Last, First", "Other, Name"]')
    [_, row] = csv.reader(io.StringIO(shell.ok("search", "--fields", "authors", "--format", "csv").out))
    assert row == ["Last, First; Other, Name"]


def test_a_terminal_gets_joiners_and_no_controls(shell: Shell) -> None:
    shell.add("--title", "می\u200cخواهم\x1b[31m\nnext")
    out = shell.ok("search").out
    assert "می\u200cخواهم�[31m↵next" in out


def test_a_record_of_show_is_validated_from_its_file(shell: Shell) -> None:
    shell.file("s.json", '{"type": "object", "required": ["site"]}')
    shell.ok("schema", "import", "site", "s.json")
    record = shell.add("--schema", "site", "--meta", "site=Oslo")
    shell.file("record.json", shell.ok("show", record.id, "--json").out)
    assert "valid (site 1)" in shell.ok("validate", "--file", "record.json").out
    shell.file("bad.json", json.dumps(json.loads((shell.root / "record.json").read_text()) | {"metadata": {}}))
    assert shell("validate", "--file", "bad.json").code == 1


def test_metadata_of_a_path_are_printed(shell: Shell) -> None:
    shell.file("x.txt", "hello")
    assert shell.ok("extract-metadata", "x.txt", "--json").json["metadata"]["file"]["size_bytes"] == 5
    assert shell.ok("search", "--count").out == "0\n"


def test_the_log_of_a_record(shell: Shell) -> None:
    record = shell.add("--title", "x")
    shell.ok("edit", record.id, "--title", "y")
    done = [each["event"] for each in shell.ok("logs", "--record", record.id[:8], "--json").json["items"]]
    assert done.count("operation.succeeded") == 2


def test_a_key_with_a_colon_is_linked(shell: Shell) -> None:
    run = shell.add("--key", "run:1")
    assert shell.add("--link", "produced_by=run:1").lineage[0].target == run.id


def test_a_schema_is_named_with_its_version(shell: Shell) -> None:
    shell.file("s.json", '{"type": "object"}')
    shell.ok("schema", "import", "site", "s.json")
    assert shell.ok("schema", "show", "site@1").out == shell.ok("schema", "show", "site", "1").out


def test_metadata_are_edited_as_they_are_added(shell: Shell) -> None:
    record = shell.add("--meta", 'instrument={"id": 7, "place": "roof"}', "--meta", "title=theirs")
    shell.ok("edit", record.id, "--meta", "instrument.id=8", "--meta", "title=ours", "--meta-text", "version=1.10")
    shown = shell.ok("show", record.id, "--json").json
    assert shown["metadata"] == {"instrument": {"id": 8, "place": "roof"}, "title": "ours", "version": "1.10"}
    assert shown["title"] is None


def test_a_history_names_artifacts_and_links_and_does_not_print_them(shell: Shell) -> None:
    first, second = shell.add("--key", "first"), shell.add("--key", "second")
    shell.ok("add", shell.file("notes.txt"), "--to", "first", "--role", "log")
    shell.ok("edit", "first", "--link", "uses=second")
    shell.ok("detach", "first", "log", "--yes")
    lines = shell.ok("history", "first").out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[1:4]] == [
        f"artifacts: -log notes.txt ({shell.ok('show', 'first@2', '--json').json['artifacts'][0]['artifact_id']})",
        f"lineage: +uses {second.id}",
        f"artifacts: +log notes.txt ({shell.ok('show', 'first@2', '--json').json['artifacts'][0]['artifact_id']})",
    ]
    assert first.id in shell.ok("show", "first").out


def test_a_missing_file_is_named_with_its_folder(shell: Shell) -> None:
    assert f"There is no file {shell.root / 'sub' / 'x.nc'}." in shell("add", "sub/x.nc").err


def test_records_without_a_title_are_listed_by_the_name_of_their_file(shell: Shell) -> None:
    shell.file("in/MHD_2018.csv")
    shell.ok("import", "in/*.csv")
    shell.add("--key", "of-its-own")
    shell.add("--title", "Oslo")
    assert sorted(line.split()[2] for line in shell.ok("search").out.splitlines()[1:]) == ["MHD_2018.csv", "Oslo", "of-its-own"]
    named = shell.ok("search", "--format", "compact").out.splitlines()
    assert sorted(line.split()[1] for line in named) == ["MHD_2018.csv", "Oslo", "of-its-own"]


def test_a_deleted_record_is_restored_and_purged_by_its_key(shell: Shell) -> None:
    shell.ok("delete", shell.add("--key", "k", "--title", "older").id, "--yes")
    newer = shell.add("--key", "k", "--title", "newer")
    shell.ok("delete", "k", "--yes")
    refused = shell("show", "k")
    assert "The record with the key 'k' was deleted." in refused.err
    assert f"next: cubeport restore {newer.id[:8]}" in refused.err
    assert newer.id in shell.ok("restore", "k").out
    assert shell.ok("show", "k", "--json").json["title"] == "newer"
    shell.ok("delete", "k", "--yes")
    assert newer.id in shell.ok("purge", "k", "--yes").out
    assert [each["title"] for each in shell.ok("search", "--status", "any", "--json").json["items"]] == ["older"]


def test_a_schema_that_is_missing_can_be_imported_as_the_error_says(shell: Shell) -> None:
    refused = shell("add", "--schema", "paper")
    assert "next: cubeport schema import paper FILE" in refused.err
