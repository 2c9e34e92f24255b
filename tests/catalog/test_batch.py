from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cubeport.catalog.batch import BatchResult
from cubeport.catalog.hooks import WritePayload
from cubeport.errors import HookFailed, InvalidConfiguration, InvalidRequest, NoMatch
from cubeport.main import Catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "instance", plugins=False) as opened:
        yield opened


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def fill(inbox: Path, count: int) -> None:
    for i in range(count):
        (inbox / f"{i:03}.csv").write_text(f"n\n{i}\n")


def outcomes(batch: BatchResult) -> list[str]:
    return [item.outcome for item in batch.items]


class TestFiles:
    def test_a_hundred_files_of_which_three_are_bad(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 97)
        bad = [str(inbox / f"gone{i}.csv") for i in range(3)]
        sources = [bad[0], str(inbox / "*.csv"), *bad[1:]]
        planned = catalog.ingest(*sources, dry_run=True)
        assert planned.counts == {"add": 97, "skip": 0, "changed": 0, "error": 3}
        assert catalog.count() == 0
        done = catalog.ingest(*sources, continue_on_error=True)
        assert done.counts == {"added": 97, "skipped": 0, "changed": 0, "failed": 3}
        assert [item.reason for item in done.items if item.outcome == "failed"] == [f"{path} is not there" for path in bad]
        assert catalog.count() == 97
        again = catalog.ingest(*sources, continue_on_error=True)
        assert again.counts == {"added": 0, "skipped": 97, "changed": 0, "failed": 3}
        assert catalog.count() == 97

    def test_each_is_an_operation_whose_parent_is_the_batch(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 2)
        done = catalog.ingest(str(inbox / "*.csv"), kind="table")
        operations = {each.operation_id: each for each in catalog.operations()}
        assert operations[done.batch_id].operation_type == "ingest"
        for item in done.items:
            assert item.operation_id is not None
            assert operations[item.operation_id].parent_id == done.batch_id
            assert item.record_id is not None
            record = catalog.get(item.record_id)
            assert (record.key, record.kind) == (Path(item.source).as_uri(), "table")

    def test_it_stops_at_the_first_failure_and_goes_on_the_next_time(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 3)

        def refuses(context: object, payload: WritePayload) -> None:
            if "001" in payload.plan.filename:
                raise ValueError("not today")

        catalog.hooks.register("before_artifact_write", refuses, name="no")
        stopped = catalog.ingest(str(inbox / "*.csv"))
        assert outcomes(stopped) == ["added", "failed"]
        assert stopped.items[1].error is not None
        assert stopped.items[1].error["kind"] == HookFailed.kind
        assert catalog.count() == 1
        went_on = catalog.ingest(str(inbox / "*.csv"), continue_on_error=True)
        assert outcomes(went_on) == ["skipped", "failed", "added"]

    def test_an_interrupted_batch_is_completed_by_the_next(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 4)
        seen: list[int] = []

        def interrupt(context: object, payload: object) -> None:
            seen.append(1)
            if len(seen) == 3:
                raise KeyboardInterrupt

        catalog.hooks.register("before_artifact_write", interrupt, name="interrupt")
        with pytest.raises(KeyboardInterrupt):
            catalog.ingest(str(inbox / "*.csv"))
        assert catalog.count() == 2
        assert catalog.ingest(str(inbox / "*.csv")).counts == {"added": 2, "skipped": 2, "changed": 0, "failed": 0}

    def test_a_changed_source_is_told_and_taken_when_wanted(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 2)
        first = catalog.ingest(str(inbox / "*.csv"))
        (inbox / "000.csv").write_text("n\n0\nmore\n")
        os.utime(inbox / "001.csv", (0, 0))
        told = catalog.ingest(str(inbox / "*.csv"))
        assert outcomes(told) == ["changed", "changed"]
        assert told.items[0].reason == "has 9 bytes, not 4; use --on-changed new_version to add it"
        assert told.items[1].reason == "was changed at 1970-01-01T00:00:00Z; use --on-changed new_version to add it"
        assert catalog.count() == 2
        taken = catalog.ingest(str(inbox / "*.csv"), on_changed="new_version")
        assert outcomes(taken) == ["changed", "changed"]
        renewed = catalog.get((inbox / "000.csv").as_uri())
        assert [(edge.rel, edge.target) for edge in renewed.lineage] == [("version_of", first.items[0].record_id)]
        assert catalog.get(str(first.items[0].record_id)).status == "deprecated"
        assert catalog.ingest(str(inbox / "*.csv")).counts["skipped"] == 2

    def test_what_was_moved_in_is_skipped_though_its_source_is_gone(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 1)
        path = inbox / "000.csv"
        assert catalog.ingest(path, mode="move").counts["added"] == 1
        assert not path.exists()
        assert catalog.ingest(path, mode="move").items[0].reason == "already added; the source is gone"

    def test_a_pattern_that_fits_nothing_is_no_match(self, catalog: Catalog, inbox: Path) -> None:
        with pytest.raises(NoMatch):
            catalog.ingest(str(inbox / "*.nc"))

    def test_folders_are_items_too(self, catalog: Catalog, inbox: Path) -> None:
        (inbox / "a.zarr").mkdir()
        (inbox / "a.zarr" / "zarr.json").write_text("{}")
        done = catalog.ingest(str(inbox / "*.zarr"))
        assert catalog.get(str(done.items[0].record_id)).artifacts[0].target_kind == "directory"
        assert outcomes(catalog.ingest(str(inbox / "*.zarr"))) == ["skipped"]

    def test_two_stars_name_each_file_once(self, catalog: Catalog, inbox: Path) -> None:
        (inbox / "deep" / "c.zarr" / "t").mkdir(parents=True)
        (inbox / "empty").mkdir()
        for name in ("a.csv", "deep/b.csv", "deep/c.zarr/zarr.json", "deep/c.zarr/t/zarr.json"):
            (inbox / name).write_text(name)
        (inbox / "0.csv").symlink_to("a.csv")
        (inbox / "deep" / "around").symlink_to(inbox)
        planned = catalog.ingest(str(inbox / "**" / "*"), dry_run=True)
        found = [Path(each.source).relative_to(inbox).as_posix() for each in planned.items]
        assert found == ["a.csv", "deep/b.csv", "deep/c.zarr", "empty"]
        assert catalog.ingest(str(inbox / "**" / "*")).counts["added"] == 4

    def test_a_name_that_is_not_utf8_is_refused_by_name_and_leaves_nothing(self, catalog: Catalog, inbox: Path) -> None:
        (inbox / os.fsdecode(b"caf\xe9.csv")).write_text("a")
        [item] = catalog.ingest(str(inbox / "*.csv"), dry_run=True).items
        assert (item.outcome, Path(item.source).name, "not UTF-8" in str(item.reason)) == ("error", r"caf\xe9.csv", True)
        with pytest.raises(InvalidRequest, match=r"caf\\xe9\.csv is not UTF-8"):
            catalog.add_file(inbox / os.fsdecode(b"caf\xe9.csv"))
        assert catalog.ports.journal.open_ids() == []


class TestManifest:
    MANIFEST = """\
manifest: 1
defaults: {kind: table, tags: [june], metadata: {project: x, year: 2018}, mode: reference}
items:
  - {source: 000.csv, key: first, title: First, metadata: {year: 2019}}
  - {source: 001.csv, mode: copy, tags: [extra], artifacts: [{source: 002.csv, role: log}]}
  - {source: "https://example.org/far.nc"}
"""

    def test_defaults_items_and_more_artifacts(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 3)
        path = inbox / "manifest.yaml"
        path.write_text(self.MANIFEST)
        done = catalog.ingest(path, manifest=True)
        assert outcomes(done) == ["added", "added", "added"]
        first, second, third = (catalog.get(str(item.record_id)) for item in done.items)
        assert (first.key, first.title, first.kind, first.tags) == ("first", "First", "table", ("june",))
        assert first.metadata == {"project": "x", "year": 2019}
        assert not first.artifacts[0].managed
        assert second.tags == ("june", "extra")
        assert [(a.role, a.managed) for a in second.artifacts] == [("primary", True), ("log", True)]
        assert third.artifacts[0].status == "external"
        assert catalog.ingest(path, manifest=True).counts["skipped"] == 3

    def test_an_item_with_a_missing_artifact_leaves_nothing(self, catalog: Catalog, inbox: Path) -> None:
        fill(inbox, 2)
        path = inbox / "manifest.yaml"
        path.write_text(self.MANIFEST)
        done = catalog.ingest(path, manifest=True, continue_on_error=True)
        assert outcomes(done) == ["added", "failed", "added"]
        assert done.items[1].reason == f"{inbox / '002.csv'} is not there"

    def test_every_problem_of_a_manifest_comes_with_its_place(self, catalog: Catalog, inbox: Path) -> None:
        path = inbox / "manifest.yaml"
        path.write_text("manifest: 1\nitems:\n  - {sorce: a}\n  - {source: b, mode: steal}\n")
        with pytest.raises(InvalidConfiguration) as caught:
            catalog.ingest(path, manifest=True)
        lines = caught.value.message.splitlines()
        assert any(line.startswith("manifest.yaml:3:") and "sorce" in line for line in lines)
        assert any(line.startswith("manifest.yaml:4:") and "steal" in line for line in lines)


# --- what items can say ---------------------------------------------------------------------------------------------


def test_an_item_says_time_box_links_and_what_is_known_of_its_bytes(catalog, tmp_path):
    run = catalog.add(key="run:1")
    (tmp_path / "m.yaml").write_text(
        """manifest: 1
items:
  - source: https://example.org/v8_ch4_2018.nc
    time: 2018
    bbox: [-10, 40, 30, 60]
    links: {produced_by: "run:1"}
    size_bytes: 5
    sha256: "%s"
"""
        % ("a" * 64)
    )
    [item] = catalog.ingest(tmp_path / "m.yaml", manifest=True).items
    record = catalog.get(item.record_id)
    assert (record.time.start.year, record.bbox) == (2018, (-10, 40, 30, 60))
    assert record.lineage[0].target == run.id
    assert (record.artifacts[0].size_bytes, record.artifacts[0].hashes) == (5, {"sha256": "a" * 64})


def test_file_names_become_metadata_by_a_pattern(catalog, tmp_path):
    for name in ("MHD_2018_ch4.csv", "CGO_0099_ch4.csv", "odd.csv"):
        (tmp_path / name).write_text(name)
    done = catalog.ingest(
        str(tmp_path / "*.csv"),
        pattern="{station}_{year}_ch4.csv",
        metadata={"network": "AGAGE"},
        tags=["raw"],
        continue_on_error=True,
    )
    assert done.counts == {"added": 2, "skipped": 0, "changed": 0, "failed": 1}
    found = catalog.one(station="MHD")
    assert (found.metadata, found.tags) == ({"station": "MHD", "year": 2018, "network": "AGAGE"}, ("raw",))
    assert catalog.one(station="CGO").metadata["year"] == "0099"
    assert "does not match the pattern" in next(each.reason for each in done.items if each.outcome == "failed")


def test_a_failed_item_is_in_the_log(catalog, tmp_path):
    (tmp_path / "x.csv").write_text("x")
    done = catalog.ingest(str(tmp_path / "x.csv"), str(tmp_path / "missing.csv"), continue_on_error=True)
    [event] = catalog.logs(event="batch").items
    assert "missing.csv" in event["message"]
    assert event["operation_id"] == done.batch_id


def test_a_batch_takes_a_schema(catalog, tmp_path):
    catalog.register_schema("site", {"type": "object", "required": ["site"]})
    (tmp_path / "x.csv").write_text("x")
    [item] = catalog.ingest(str(tmp_path / "x.csv"), schema="site", metadata={"site": "a"}).items
    assert catalog.get(item.record_id).schema_name == "site"
