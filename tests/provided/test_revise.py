"""What changed at the source is taken again by a sync: only those periods, in a version that shares all others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e.conftest import CUBEPORT
from tests.provided.places import Place, days, held, name_of, netcdf

import cubeport
from cubeport.errors import AreaOutsideSource
from cubeport.main import prepare
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest

RULES = """\
layout: {{chunks: {{time: 4}}}}
extents: {{temporal: {{end: '{end}'}}}}
sync: {{kind: temporal, revisit_periods: {revisit}}}
"""


def follow(place: Place, end: str, revisit: int = 5) -> None:
    source = f"{{kind: url, template: '{place.provider.url}/{{YYYY}}/t_{{YYYY}}{{MM}}{{DD}}.nc'}}"
    place.template(source, RULES.format(end=end, revisit=revisit))


def test_a_correction_inside_is_taken_again_alone_and_all_else_is_shared(tmp_path: Path, rolling: Place) -> None:
    follow(rolling, "2024-01-10")
    first = rolling.ask("2024-01-01", "2024-01-10")
    assert first.status == "completed", first.error
    assert rolling.service.sync_plan(rolling.id).reason == "no_new_period"
    rolling.provider.put(f"2024/{name_of(7)}", netcdf(tmp_path, 7, add=0.5))
    rolling.provider.put(f"2024/{name_of(2)}", netcdf(tmp_path, 2, add=0.5))  # too long ago to be looked at
    rolling.provider.forget()
    plan = rolling.service.sync_plan(rolling.id)
    assert (plan.action, plan.reason, plan.revised) == ("revise", "source_changed", ("2024-01-08",))
    assert rolling.provider.requests("GET") == [], "a plan fetches nothing"
    done = rolling.service.sync(rolling.id)
    assert (done.status, done.ingestion.action) == ("completed", "revise"), done.ingestion.error
    assert len(rolling.provider.requests("GET")) == 1
    assert rolling.held() == days(*range(10), d7=7.5)
    assert held(rolling.service, f"{rolling.id}@{first.version_id}") == days(*range(10)), "the version before stays as it was"
    [newest, _] = [state for state, _ in rolling.service.versions(rolling.id)]
    assert newest.kind == "revised"
    store = rolling.root / "data/store" / rolling.id
    versions = str(first.version_id), newest.version_id
    chunks = [[(store / each / f"cube.zarr/t/c/{n}/0/0").stat().st_ino for n in range(3)] for each in versions]
    assert [a == b for a, b in zip(*chunks, strict=True)] == [True, False, True], "day 7 is in the second chunk of four days"
    # The same values again, asked for: nothing is made, and the list of operations says that nothing was to do.
    assert rolling.ask("2024-01-08", "2024-01-08", overwrite=True).reused
    assert rolling.service.catalog.operations(limit=1)[0].error == {
        "kind": "nothing-to-do",
        "message": f"the result is version {newest.version_id} in every value",
    }
    # Twice is once.
    assert rolling.service.sync_plan(rolling.id).reason == "no_new_period"
    assert rolling.service.sync(rolling.id).status == "up_to_date"
    assert len(rolling.service.versions(rolling.id)) == 2


def test_an_end_beyond_what_the_template_says_is_the_last_that_it_says(rolling: Place) -> None:
    follow(rolling, "2024-01-06")
    assert rolling.ask("2024-01-01", "2024-01-03").status == "completed"
    with pytest.raises(AreaOutsideSource, match=r"to 2024-01-06: template"):
        rolling.ask("2024-01-01", "2024-01-09")
    assert rolling.held() == days(*range(3))
    plan = rolling.service.sync_plan(rolling.id, end="2024-01-09")
    assert (plan.target_end, plan.target_end_source) == ("2024-01-06", "request_clamped_by_availability")
    assert (plan.action, plan.delta_end) == ("append", "2024-01-06")
    done = rolling.service.sync(rolling.id, end="2024-01-09")
    assert (done.status, done.detail.delta_end) == ("completed", "2024-01-06"), done.ingestion.error
    assert rolling.held() == days(*range(6))


def test_new_periods_and_corrections_are_one_version(tmp_path: Path, rolling: Place) -> None:
    follow(rolling, "2024-01-10")
    assert rolling.ask("2024-01-01", "2024-01-10").status == "completed"
    follow(rolling, "2024-01-12")
    for number, add in ((9, 0.5), (8, 0.25), (10, 0.0), (11, 0.0)):
        rolling.provider.put(f"2024/{name_of(number)}", netcdf(tmp_path, number, add=add))
    plan = rolling.service.sync_plan(rolling.id)
    assert (plan.action, plan.reason) == ("append", "new_periods_available_for_append")
    assert (plan.revised, plan.period_count) == (("2024-01-09", "2024-01-10"), 2)
    done = rolling.service.sync(rolling.id)
    assert done.status == "completed", done.ingestion.error
    assert rolling.held() == days(*range(12), d8=8.25, d9=9.5)
    assert len(rolling.service.versions(rolling.id)) == 2


def test_what_vanished_stays_and_nothing_is_looked_at_unasked(tmp_path: Path, rolling: Place) -> None:
    follow(rolling, "2024-01-10")
    assert rolling.ask("2024-01-01", "2024-01-10").status == "completed"
    (rolling.provider.root / "2024" / name_of(8)).unlink()
    plan = rolling.service.sync_plan(rolling.id)
    assert (plan.action, plan.reason) == ("no_op", "no_new_period")
    [warning] = plan.warnings
    assert (warning["kind"], "2024-01-09" in warning["message"]) == ("vanished", True), "and somebody hears of it"
    assert rolling.service.sync(rolling.id).status == "up_to_date"
    said = subprocess.run([*CUBEPORT, "-i", rolling.root, "sync", rolling.id], capture_output=True, text=True, check=True)
    assert "warning: " in said.stderr
    assert "says nothing of 2024-01-09 any more" in said.stderr
    assert rolling.held() == days(*range(10)), "nothing shrinks"
    follow(rolling, "2024-01-10", revisit=0)
    rolling.provider.put(f"2024/{name_of(9)}", netcdf(tmp_path, 9, add=0.5))
    assert rolling.service.sync_plan(rolling.id).reason == "no_new_period", "nothing is looked at unless it is asked for"


def test_a_file_of_this_machine_that_changed_is_read_again(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    prepare(tmp_path / "i", allow_roots=(str(drop),))
    rules = RULES.format(end="2024-01-08", revisit=3)
    text = f"id: local\ntitle: Days\nperiod_type: daily\nsource: {{kind: files, paths: ['{drop}/*.nc']}}\n{rules}"
    (tmp_path / "i/config/datasets/local.yaml").write_text(text)
    for first in (0, 4):
        (drop / name_of(first)).write_bytes(netcdf(tmp_path, *range(first, first + 4)))
    with cubeport.connect(tmp_path / "i") as service:
        done = service.ingest_here(IngestionRequest(dataset_id="local", start="2024-01-01"), FileOptions())
        assert done.status == "completed", done.error
        assert service.sync_plan("local").reason == "no_new_period"
        assert service.sync_plan("local").warnings == ()
        (drop / name_of(4)).write_bytes(netcdf(tmp_path, *range(4, 8), add=0.5))
        os.utime(drop / name_of(4), (1_900_000_000, 1_900_000_000))
        plan = service.sync_plan("local")
        assert (plan.reason, plan.revised) == ("source_changed", ("2024-01-06", "2024-01-07", "2024-01-08"))
        done = service.sync("local").ingestion
        assert (done.status, done.action) == ("completed", "revise"), done.error
        assert held(service, "local") == days(*range(8), d5=5.5, d6=6.5, d7=7.5), "day 4 is older than what is looked at again"
        assert service.sync("local").status == "up_to_date"


def test_files_of_this_machine_that_name_other_days_are_not_opened(tmp_path: Path) -> None:
    """A request for some days was refused because of a file of another day."""
    drop = tmp_path / "drop"
    drop.mkdir()
    prepare(tmp_path / "i", allow_roots=(str(drop),))
    text = f"id: local\ntitle: Days\nperiod_type: daily\nsource: {{kind: files, paths: ['{drop}/t_{{YYYY}}{{MM}}{{DD}}.nc']}}\n"
    (tmp_path / "i/config/datasets/local.yaml").write_text(text + RULES.format(end="2024-01-09", revisit=0))
    for number in (*range(4), *range(5, 8)):
        (drop / name_of(number)).write_bytes(netcdf(tmp_path, number))
    for number in (0, 8):
        (drop / name_of(number)).write_bytes(b"this is not NetCDF")
    with cubeport.connect(tmp_path / "i") as service:

        def asked(start: str | None, end: str | None, **more: Any) -> Any:
            request = IngestionRequest(dataset_id="local", start=start, end=end, **more)
            return service.ingest_here(request, FileOptions())

        done = asked("2024-01-02", "2024-01-03")
        assert (done.status, held(service, "local")) == ("completed", days(1, 2)), done.error
        assert asked("2024-01-02", "2024-01-03").reused
        done = asked("2024-01-06", "2024-01-06")
        assert (done.status, done.error["kind"]) == ("failed", "gap"), "the 4th and 5th are read as well, and one is not there"
        (drop / name_of(4)).write_bytes(netcdf(tmp_path, 4))
        assert asked("2024-01-06", "2024-01-06").status == "completed"
        assert held(service, "local") == days(*range(1, 6))
        (drop / name_of(2)).write_bytes(netcdf(tmp_path, 2, add=0.5))
        (drop / name_of(4)).write_bytes(b"this is not NetCDF")
        assert asked("2024-01-03", "2024-01-03", overwrite=True).status == "completed"
        assert held(service, "local") == days(*range(1, 6), d2=2.5)
        (drop / name_of(4)).write_bytes(netcdf(tmp_path, 4))
        assert "t_20240109.nc" in str(service.sync("local").ingestion.error), "of a day that is asked for"
        (drop / name_of(8)).unlink()
        assert service.sync("local").status == "completed"
        assert held(service, "local") == days(*range(1, 8), d2=2.5)
        assert service.sync("local").detail.reason == "no_new_period"
        assert asked("2024-01-09", "2024-01-09").error["kind"] == "coverage-incomplete"


@pytest.mark.slow
def test_the_command_that_a_sync_names_after_a_change_of_the_template_rebuilds_the_dataset(tmp_path: Path) -> None:
    """It named an option and no command."""
    drop, root = tmp_path / "drop", tmp_path / "i"
    drop.mkdir()
    (drop / "all.nc").write_bytes(netcdf(tmp_path, *range(6)))
    prepare(root, allow_roots=(str(drop),))
    (root / "extents/part.yaml").write_text("extent_id: part\nbbox: [0, 0, 20, 20]\n")
    template = root / "config/datasets/local.yaml"
    text = f"id: local\ntitle: Days\nperiod_type: daily\nsource: {{kind: files, paths: ['{drop}/*.nc']}}\n"
    template.write_text(text + RULES.format(end="2024-01-06", revisit=0))

    def run(*words: str) -> str:
        found = subprocess.run([*CUBEPORT, "-i", root, *words], capture_output=True, text=True, check=True)
        return found.stdout + found.stderr

    run("ingest", "local", "--extent", "part", "--start", "2024-01-02", "--end", "2024-01-04")
    template.write_text(template.read_text() + "transforms: [{scale: {t: {factor: 2}}}]\n")
    [_, command, _] = run("sync", "--all").split("`")
    run(*command.split()[1:])
    assert "up_to_date" in run("sync", "--all")
    with cubeport.connect(root) as service:
        assert held(service, "local_part") == {n: 2.0 * n for n in range(1, 6)}


@pytest.mark.parametrize("lists", [True, False], ids=["listed", "read"])
def test_a_new_release_that_does_not_have_every_period_yet_is_waited_for(tmp_path: Path, place: Place, lists: bool) -> None:
    """The plan says it where the source can list its periods; otherwise reading it tells, and the sync says it."""

    def publish(*numbers: int, add: float = 0.0) -> None:
        if not lists:
            place.provider.put("all.nc", netcdf(tmp_path, *numbers, add=add))
        for number in numbers * lists:
            place.provider.put(f"2024/{name_of(number)}", netcdf(tmp_path, number, add=add))

    def follow(version: str) -> None:
        address = "{YYYY}/t_{YYYY}{MM}{DD}.nc" if lists else "all.nc"
        sync = f"sync: {{kind: release, version: {{value: {version}}}}}"
        place.template(f"{{kind: url, template: '{place.provider.url}/{address}'}}", sync)

    publish(*range(4))
    follow("v1")
    assert place.ask("2024-01-01", "2024-01-04").status == "completed"
    assert place.service.sync_plan(place.id).reason == "no_new_release"
    follow("v2")
    if lists:
        (place.provider.root / "2024" / name_of(3)).unlink()
    publish(*range(3), add=0.5)
    if lists:
        assert place.service.sync_plan(place.id).status == "waiting_for_source"
    waiting = place.service.sync(place.id)
    assert (waiting.status, waiting.detail.action) == ("waiting_for_source", "no_op")
    assert (waiting.detail.reason, waiting.ingestion) == ("release_version_unavailable", None)
    assert place.held() == days(*range(4)), "nothing shrinks"
    publish(*range(4), add=0.5)
    done = place.service.sync(place.id)
    assert (done.status, done.detail.reason) == ("completed", "release_version_changed")
    assert place.held() == {number: number + 0.5 for number in range(4)}
    follow("v3")
    same = place.service.sync(place.id)
    assert (same.status, same.detail.action, same.detail.reason) == ("up_to_date", "no_op", "no_new_release"), "equal values"
    assert place.service.sync(place.id).ingestion is None, "and it is not read again"


def test_a_day_without_any_value_is_named_or_refused(tmp_path: Path, place: Place) -> None:
    def publish(number: int, add: float = 0.0) -> None:
        place.provider.put(f"2024/{name_of(number)}", netcdf(tmp_path, number, add=add))

    def empty() -> object:
        [newest, *_] = [state for state, _ in place.service.versions(place.id)]
        return newest.coverage["temporal"]["empty"], [
            each["message"] for each in newest.warnings if each["kind"] == "empty-periods"
        ]

    chunks = "layout: {chunks: {time: 2}}\n"
    for number in range(3):
        publish(number, add=np.nan if number == 1 else 0.0)
    place.by_day(sync=chunks)
    done = place.ask("2024-01-01", "2024-01-03")
    assert done.status == "completed", done.error
    words = "1 of 3 daily periods has no value (all are missing): 2024-01-02"
    assert empty() == (["2024-01-02"], [words])
    publish(3, add=np.nan)
    place.by_day(sync=chunks + "ingestion: {on_empty: refuse}\n")
    refused = place.ask("2024-01-01", "2024-01-04")
    assert (refused.error["kind"], refused.error["periods"]) == ("no-data", ["2024-01-04"]), "the one that is held may stay"
    publish(3)
    assert place.ask("2024-01-01", "2024-01-04").status == "completed"
    assert empty() == (["2024-01-02"], [words.replace("of 3", "of 4")]), "an append keeps what is known of the steps before"
    publish(1)
    assert place.ask("2024-01-02", "2024-01-02", overwrite=True).status == "completed"
    assert empty() == ([], [])


def test_days_with_gaps_are_days_once_somebody_says_so(tmp_path: Path, place: Place) -> None:
    file = tmp_path / "days.nc"
    file.write_bytes(netcdf(tmp_path, 0, 1, 2, 5, 6, 7))

    def ingest(**fields: object) -> Ingestion:
        return place.service.ingest_here(IngestionRequest(dataset_id=place.id, **fields), FileOptions(files=(str(file),)))

    first = ingest()
    [warning] = first.warnings
    assert warning["kind"] == "uneven-steps"
    assert "the steps are daily, but 2 are missing (first 2024-01-04)" in warning["message"]
    advised = {"template": {"period_type": "daily"}, "allow_gaps": True, "mode": "replace"}
    said = ingest(**advised)
    assert (said.status, said.reused, said.warnings) == ("completed", False, ()), "equal values, and other periods"
    assert said.coverage["temporal"]["gaps"] == [{"start": "2024-01-04", "end": "2024-01-05", "count": 2}]
    assert ingest(**advised).reused
