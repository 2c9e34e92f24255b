"""``cubeport list``: what is there, how big it is, and deleting what was selected, shown first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from tests.cli.conftest import Shell

import cubeport


def test_records_are_listed_with_their_bytes_and_deleted_only_where_they_match(shell: Shell) -> None:
    old = shell.add(shell.file("old.txt", "12345"), "--key", "old", "--tag", "draft")
    shell.add(shell.file("new.txt", "123"), "--key", "new")
    shell.add("--key", "bare")
    listed = {each["name"]: each["size_bytes"] for each in shell.ok("list", "--json").json["items"]}
    assert listed == {"old": 5, "new": 3, "bare": 0}
    dry = shell.ok("list", "--where", "tags : draft", "--delete", "--dry-run", "--json")
    assert [(each["name"], each["outcome"]) for each in dry.json["items"]] == [("old", "would delete")]
    assert "Nothing was deleted" in dry.err
    assert len(shell.ok("list", "--json").json["items"]) == 3
    asked = shell("list", "--where", "tags : draft", "--delete")
    assert asked.code == 2, "no terminal to ask on"
    assert "old" in asked.err, "what would go is shown first"
    assert shell.ok("list", "--where", "tags : draft", "--delete", "--yes").out.split()[-1] == "deleted"
    assert {each["name"] for each in shell.ok("list", "--json").json["items"]} == {"new", "bare"}
    shell.ok("restore", old.id)
    assert {each["name"] for each in shell.ok("list", "--json").json["items"]} == {"old", "new", "bare"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--delete", "--yes"), 2, "needs a condition"),
        (("--dry-run",), 2, "are for --delete"),
        (("--where", "key = none"), 3, "Nothing matches"),
        (("--where", "key = a", "--delete", "--purge", "--yes"), 2, "--purge is for datasets"),
    ],
)
def test_what_would_delete_everything_or_does_nothing_is_refused(
    shell: Shell, arguments: tuple[str, ...], code: int, words: str
) -> None:
    shell.add("--key", "a")
    said = shell("list", *arguments)
    assert said.code == code
    assert words in said.err
    assert len(shell.ok("list", "--json").json["items"]) == 1


def test_datasets_are_selected_by_what_they_are_and_leave_every_face(shell: Shell, tmp_path: Path) -> None:
    for name in ("keep", "drop"):
        values = xr.Dataset({name: (("y", "x"), np.ones((2, 2)))}, {"y": ("y", [0.0, 1], {"units": "degrees_north"})})
        values.assign_coords(x=("x", [0.0, 1], {"units": "degrees_east"})).to_netcdf(tmp_path / f"{name}.nc")
        shell.ok("ingest", tmp_path / f"{name}.nc", "--id", name, "--title", f"The {name}")
    sizes = {each["name"]: each["size_bytes"] for each in shell.ok("list", "--kind", "dataset", "--json").json["items"]}
    assert set(sizes) == {"keep", "drop"}
    used = {each["dataset_id"]: each["size_bytes"] for each in json.loads(shell.ok("usage", "--json").out)["datasets"]}
    assert sizes == used
    shell.ok("list", "--kind", "dataset", "--where", "title : drop", "--delete", "--purge", "--yes")
    with cubeport.connect(shell.root) as service:
        assert [each.texts.dataset_id for each in service.datasets().items] == ["keep"]
