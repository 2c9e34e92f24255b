"""Each kind of problem with its exit code and what it says to do next, as a command line leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Shell

from cubeport.main import Catalog

SECOND = "abcd0000000000000000000000000002"
ADVICE: list[tuple[str, int, str, str]] = [
    ("add --meta a.b", 2, "invalid-filter", "FIELD=VALUE"),
    ("search a..b=2", 2, "invalid-filter", "FIELD OP VALUE"),
    ("search --cursor xxxx", 2, "invalid-cursor", "without the cursor"),
    ("add h.txt --filename-template {nope}", 2, "invalid-template", "cubeport profiles"),
    ("add h.txt --filename-template {original_stem", 2, "invalid-template", "cubeport profiles"),
    ("add h.txt --filename-template ../{original_filename}", 2, "path-escapes", "cubeport profiles"),
    ("add h.txt --directory-template /etc", 2, "path-escapes", "cubeport profiles"),
    ("add --link nope=abcd0000000000000000000000000001", 2, "invalid-request", "cubeport plugins"),
    ("show abcd", 2, "ambiguous-id", "more of the id"),
    ("add --schema nope", 2, "unknown-schema", "cubeport schema import nope FILE"),
    ("add h.txt --profile nope", 2, "unknown-profile", "cubeport profiles"),
    ("add https://u:pw@example.org/x", 2, "secret-refused", "storage_options_env"),
    ("add https://example.org/x?token=abc", 2, "secret-refused", "storage_options_env"),
    ("show nothing", 3, "record-not-found", "cubeport search"),
    ("search nope=1", 3, "no-match", "cubeport fields"),
    ("path k", 3, "artifact-missing", "cubeport fetch"),
    ("--instance elsewhere search", 3, "not-a-catalog", "cubeport init"),
    ("--instance http://x.org/a search", 2, "invalid-request", "cubeport.connect('http://x.org/a')"),
    ("init s3://bucket/a", 2, "invalid-request", "name a folder"),
    ("init .", 4, "catalog-exists", "cubeport info"),
    ("add --key k", 4, "key-exists", "--on-exists"),
    ("edit k --set n=1 --if-version 9", 4, "stale-record", "cubeport show"),
    ("fetch k", 5, "source-rejected", "sources.origins"),
]


@pytest.mark.parametrize(("line", "code", "kind", "advice"), ADVICE, ids=[line for line, *_ in ADVICE])
def test_each_problem_says_its_kind_and_what_to_do_next(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, line: str, code: int, kind: str, advice: str
) -> None:
    monkeypatch.chdir(shell.root)
    shell.file("h.txt")
    for number in (1, 2):
        shell.ok("add", "--id", f"abcd000000000000000000000000000{number}")
    shell.ok("add", "https://example.org/x", "--key", "k")
    said = shell(*line.split())
    lines = said.err.splitlines()
    assert (said.code, lines[0].partition("]")[0]) == (code, f"error[{kind}")
    assert advice in next(each for each in lines if each.startswith("next: "))
    problem = shell(*line.split(), "--json").problem
    assert (problem["kind"], advice in problem["next"]) == (kind, True)
    assert {"title", "detail", "errors"} <= set(problem)


@pytest.mark.parametrize(
    "line",
    [
        "logs --limit -1",
        "operations --limit -1",
        "search --limit -1",
        "search --ids --paths",
        "add --policy maybe",
        "add --on-exists maybe",
    ],
)
def test_what_cannot_be_meant_is_refused_not_guessed(shell: Shell, line: str) -> None:
    said = shell(*line.split())
    assert (said.code, said.out) == (2, "")
    assert shell("search", "--count").out == "0\n"


def test_an_ambiguous_prefix_lists_candidates(shell: Shell) -> None:
    for number in (1, 2):
        shell.ok("add", "--id", f"abcd000000000000000000000000000{number}", "--title", f"t{number}")
    found = shell("show", "abcd", "--json").problem["candidates"]
    assert [(each["title"], each["kind"]) for each in found] == [("t1", "document"), ("t2", "document")]
    assert shell.ok("show", SECOND, "--json").json["title"] == "t2"


@pytest.mark.parametrize(("backend", "store"), [("sqlite", "catalog.db"), ("tinydb", "catalog.json")])
def test_no_command_writes_over_a_damaged_store_and_doctor_names_it(shell: Shell, tmp_path: Path, backend: str, store: str) -> None:
    Catalog.create(tmp_path / "new", catalog=backend).close()
    path = tmp_path / "new" / ".cubeport" / store
    path.write_bytes(b"\xd6damaged" * 400)
    for line in ("search", "add --title x", "fsck", "recover", "gc", "info", "export records"):
        said = shell("--instance", tmp_path / "new", *line.split())
        assert (said.code, said.err.partition("]")[0], said.out) == (1, "error[corrupt-catalog", ""), line
        assert ".bak" in said.err or "fsck` reports" in said.err
    assert shell("--instance", tmp_path / "new", "init").code == 4
    said = shell("--instance", tmp_path / "new", "doctor", "--json")
    assert (said.code, next((each["level"], each["kind"]) for each in said.json)) == (1, ("error", "corrupt-catalog"))
    assert path.read_bytes() == b"\xd6damaged" * 400


def test_a_record_of_every_kind_of_locator_is_shown(shell: Shell) -> None:
    record = shell.add(shell.file("h.txt"), "--key", "k").to_mapping()
    locators = [
        {"kind": "planned", "profile": "default", "path": "q/x"},
        {"kind": "inline", "text": "hi", "data_base64": None},
        {"kind": "unheard-of", "several": [1, 2.5, {"a": None}], "large": 1e300},
    ]
    for number, locator in enumerate(locators):
        record["artifacts"].append(record["artifacts"][0] | {"artifact_id": f"0000000{number}", "locator": locator})
    shell.ok("purge", "k", "--yes")
    shell.ok("import", shell.file("record.json", json.dumps(record)))
    said = shell.ok("show", "k").out
    assert said.count("artifacts:") == 1
    assert said.count("- artifact_id: ") == 4
    assert "several:\n        - 1\n        - 2.5\n" in said
    assert shell.ok("show", "k", "--json").json == record
