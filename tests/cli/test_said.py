"""What the commands of datasets say where something is busy, missing or doubtful: found by using them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell
from tests.e2e.test_update import save

import cubeport
from cubeport.main import prepare
from cubeport.main import run as run_here
from cubeport.service.ingestions import IngestionRequest

CUBEPORT = [sys.executable, "-m", "cubeport"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with three versions of x, the first of which is published again, and a deleted dataset y."""
    folder = tmp_path_factory.mktemp("said")
    prepare(folder / "i")
    with cubeport.connect(folder / "i") as service:
        for dataset_id in ("x", "y"):
            first = service.ingest_here(IngestionRequest(dataset_id=dataset_id), save(folder / "first.nc", [0, 1, 2]))
            assert first.status == "completed", first.error
        service.delete("y")
        ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
        zone = {"type": "Feature", "id": "a", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        service.put_zone_set("districts", {"type": "FeatureCollection", "features": [zone]})
        fixed = IngestionRequest(dataset_id="x", mode="update", on_overlap="replace")
        assert service.ingest_here(fixed, save(folder / "fixed.nc", [1], add=0.5)).status == "completed"
        assert service.ingest_here(fixed, save(folder / "more.nc", [3])).status == "completed"
        first_id = service.versions("x")[-1][0].version_id
        service.rollback("x", to=first_id)
    return folder / "i"


def run(root: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*CUBEPORT, "--no-progress", "-i", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120, check=False)


def test_usage_names_the_published_version(root: Path) -> None:
    with cubeport.connect(root) as service:
        states = {used.dataset_id: [each.state for each in used.versions] for used in service.usage().datasets}
    assert states == {"x": ["latest", "retained", "retained"], "y": ["retained"]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("datasets", "There are no datasets: make one with cubeport ingest FILES... --id NAME."),
        ("datasets --q rain", "No dataset matches."),
        ("jobs", "There are no ingestions."),
        ("jobs --dataset x", "No ingestion matches."),
        ("changes", "There are no changes that readers could see."),
        ("extents", "There are no named areas: put one in extents/."),
        ("list", "There are no datasets and no other records."),
        ("derive --list", "There are no derived datasets: make one with cubeport derive."),
        ("apply", "sources.toml names no dataset: write a table [NAME] for each, with its uri."),
    ],
)
def test_an_empty_list_says_so(shell: Shell, words: str, told: str) -> None:
    """A newcomer who sees nothing does not know whether it worked. What a program reads stays empty."""
    shell.file("sources.toml", "[_META]\nschema = 1\n")
    assert shell(*words.split()) == (0, "", told + "\n")
    assert shell(*words.split(), "--quiet") == (0, "", "")


def test_what_to_do_about_zones_can_be_pasted(shell: Shell) -> None:
    """A shapefile was told about byte 0xba, and the property of the ids in the words of HTTP."""
    said = shell("zones", "add", shell.file("my zones.shp", "\x00\x00"), "--id", "d")
    assert f"ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES zones.geojson '{shell.root / 'my zones.shp'}'" in said.err
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    zone = {"type": "Feature", "properties": {"code": "A"}, "geometry": geometry}
    said = shell("zones", "add", shell.file("d.geojson", json.dumps({"type": "FeatureCollection", "features": [zone]})))
    assert "--id-property code" in said.err


def test_a_difference_in_one_step_is_told_as_one(root: Path) -> None:
    with cubeport.connect(root) as service:
        _, second, first = (each.version_id for each, _ in service.versions("x"))
    assert re.search(r"t: \d+ values changed in 1 step, 2000-\S+;", run(root, "diff", "x", first, second).stdout)


@pytest.mark.parametrize(
    ("words", "code", "advice"),
    [
        (
            "sync x --plan",
            0,
            "named directly: add new ones with `cubeport --instance {root} update x FILES`.",
        ),
        ("sync x", 0, "named directly: add new ones with `cubeport --instance {root} update x FILES`."),
        ("diff x 1 latest", 3, "cubeport --instance {root} versions x"),
        ("update nope {root}/../first.nc", 3, "cubeport --instance {root} ingest {root}/../first.nc --id nope"),
        ("sync --all --plan", 0, "No dataset has a template that says how to follow its source (sync)."),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_helps(root: Path, words: str, code: int, advice: str) -> None:
    said = run(root, *words.format(root=root).split())
    assert (said.returncode, advice.format(root=root) in said.stderr) == (code, True), said


def test_a_template_without_a_dataset_is_named_with_the_flag_that_it_needs(root: Path) -> None:
    template = root / "config/datasets/daily.yaml"
    template.write_text(
        "id: daily\ntitle: T\nperiod_type: daily\nsource: {kind: files, paths: [/data/x.nc]}\nsync: {kind: temporal}\n"
    )
    assert f"`cubeport --instance {root} ingest daily --start PERIOD` makes it" in run(root, "sync", "daily").stderr


def test_a_full_queue_names_its_setting(root: Path) -> None:
    with cubeport.connect(root, jobs__queue=1, sources__roots=[str(root.parent)]) as service:
        template = root / "config/datasets/queued.yaml"
        template.write_text(f"id: queued\ntitle: T\nperiod_type: daily\nsource: {{kind: files, paths: [{root.parent}/first.nc]}}\n")
        waiting = service.ingest(IngestionRequest(dataset_id="queued", start="2024-01-01"), waited_for=False)
        said = run(root, "update", "x", str(root.parent / "first.nc"), CUBEPORT_JOBS__QUEUE="1")
        service.cancel(waiting.ingestion_id)
    assert (said.returncode, "raise jobs.queue" in said.stderr) == (6, True), said


def test_who_holds_a_dataset_is_named_with_the_command(root: Path) -> None:
    """The first argument is the flag ``-i``, so the command is not simply the first word."""
    slow = {"CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": "planned:before=sleep:90"}
    command = [*CUBEPORT, "-i", str(root), "update", "x", str(root.parent / "more.nc")]
    with subprocess.Popen(command, env={**os.environ, **slow}, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        for _ in range(40):
            busy = run(
                root, "update", "x", str(root.parent / "fixed.nc"), "--on-overlap", "replace", CUBEPORT_INGEST__LOCK_WAIT_S="0.1"
            )
            if busy.returncode == 4 and "dataset-busy" in busy.stderr:
                break
        holder.kill()
    assert re.search(r"process \d+ on \S+\) since \S+, doing: \S+ update\.", busy.stderr), busy.stderr


def test_a_licence_that_programs_do_not_know_is_told_by_every_door(root: Path) -> None:
    words = "The licence 'mine' is not an SPDX identifier"
    assert words in run(root, "describe", "x", "--license", "mine").stderr
    assert words in run(root, "datasets", "x").stdout
    with cubeport.connect(root) as service:
        service.describe("x", license="CC-BY-4.0")
    assert words not in run(root, "datasets", "x").stdout


def test_any_first_word_is_a_place(tmp_path: Path) -> None:
    said: Any = run(tmp_path / "no where", "datasets")
    assert f"next: cubeport init '{tmp_path}/no where'" in said.stderr


def test_a_list_whose_entries_were_not_made_is_not_said_to_be_complete(root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "sources.toml"
    listed.write_text('[_META]\nschema = 1\n\n[ice]\nformat = "nc"\nuri = "https://example.com/ice.nc"\n')
    said = run(root, "lock", str(listed))
    advice = re.search(r"`cubeport --instance \S+ (apply .*)` makes it", said.stdout)
    assert (said.returncode, advice is not None) == (0, True), said
    assert advice is not None
    assert "add https://example.com to sources.origins" in run(root, *advice[1].split(), "--dry-run").stderr, "it is the next step"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cubeport -i {} update ", ["x"]),
        ("cubeport -i {} publish q", []),
        ("cubeport -i {} diff q@", []),
        ("cubeport -i {} diff x@l", ["x@latest"]),
        ("cubeport -i {} show ", ["x"]),
        ("cubeport -i {} restore ", ["y"]),
        ("cubeport -i {} zones show d", ["districts"]),
        ("cubeport -i {}/nowhere publish ", []),
        ("cubeport -i {}/nowhere zones show ", []),
        ("cubeport --url http://127.0.0.1:9 publish ", []),
    ],
    ids=["all", "other", "other-state", "state", "record", "deleted", "zones", "no-instance", "no-zones", "service"],
)
def test_a_shell_is_offered_the_ids_of_datasets_that_are_there(
    root: Path, words: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = words.format(root)
    completing = {"_CUBEPORT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    for name, value in completing.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        run_here([])
    said = capfd.readouterr()
    assert (said.out.split(), said.err) == (offered, "")


def test_a_shell_is_offered_the_states_of_a_dataset(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with cubeport.connect(root) as service:
        newest, second = (each.version_id for each, _ in service.versions("x")[:2])
        service.tag("x", "paper", version=second)
    try:
        for name, value in {"_CUBEPORT_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"cubeport -i {root} diff x@"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            run_here([])
        said = capfd.readouterr().out
    finally:
        with cubeport.connect(root) as service:
            service.untag("x", "paper")
    for each in ("x@paper", "x@latest", f"x@{newest}", f"x@{second}"):
        assert each in said


def test_a_database_that_does_not_answer_is_said_once(tmp_path: Path) -> None:
    prepare(tmp_path / "i")
    settings = tmp_path / "i/.cubeport/catalog.yaml"
    settings.write_text(re.sub("(?m)^backend: .*", 'backend: "postgresql://127.0.0.1:1/x"', settings.read_text()))

    def said(*more: str) -> str:
        command = [*CUBEPORT, "datasets", "--instance", str(tmp_path / "i"), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr

    assert said().count("does not answer") == 1
    assert "port 1 failed" in said("--verbose"), "its address is for who looks closer"
