"""Retention: what stays, what goes, in which order, and that an interruption changes nothing."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import cubeport
from cubeport.catalog.disk import failpoints
from cubeport.documents.texts import Texts
from cubeport.errors import Configuration, CubeportError, VersionRemoved
from cubeport.main import prepare, run
from cubeport.service.ingestions import FileOptions, IngestionRequest, Scope
from cubeport.service.retain import Rule, expired
from cubeport.service.state import DatasetState, VersionState

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOTHING_STAYS: dict[str, Any] = {"retention__keep_last": 1, "retention__keep_days": 0, "retention__grace_min": 0}


def version(seq: int, *, age_h: float, shown: bool = True) -> VersionState:
    made = NOW - timedelta(hours=age_h)
    return VersionState(
        version_id=f"{seq:032x}",
        seq=seq,
        kind="created",
        created_at=made,
        coverage={},
        request_scope=Scope(),
        size_bytes=1,
        digest="0" * 64,
        ingestion_id="0" * 32,
        engine="zarr",
        request_digest="0" * 64,
        shown_at=made if shown else None,
    )


def state(**values: Any) -> DatasetState:
    return DatasetState(texts=Texts(dataset_id="x", title="x", description="x"), **values)


def test_each_reason_to_stay_is_enough() -> None:
    versions = [version(seq, age_h=1000 - seq) for seq in range(1, 9)]
    ids = [each.version_id for each in versions]
    held = state(latest=ids[7], head=ids[6], tags={"paper": ids[0]}, shown_since=NOW - timedelta(hours=9), left={ids[1]: NOW})

    def gone(rule: Rule, at: datetime) -> list[int]:
        return [each.seq for each in expired(held, versions, rule, at)]

    # 1 is tagged, 2 was latest until now, 6 to 8 are the newest; 7 is head, 8 is latest.
    assert gone(Rule(keep_last=3, keep_days=1, grace_min=15), NOW) == [3, 4, 5]
    assert gone(Rule(keep_last=3, keep_days=100, grace_min=15), NOW) == []
    assert gone(Rule(keep_last=3, keep_days=1, grace_min=15), NOW + timedelta(minutes=15)) == [2, 3, 4, 5]


@given(
    ages=st.lists(st.floats(0, 500), min_size=1, max_size=12),
    latest=st.integers(0, 11),
    tagged=st.integers(0, 11),
    rule=st.builds(Rule, keep_last=st.integers(1, 5), keep_days=st.integers(0, 9), grace_min=st.integers(0, 90)),
)
def test_nothing_that_is_pointed_to_new_or_young_ever_goes(ages: list[float], latest: int, tagged: int, rule: Rule) -> None:
    versions = [version(seq, age_h=age) for seq, age in enumerate(sorted(ages, reverse=True), 1)]
    shown, kept = versions[latest % len(versions)], versions[tagged % len(versions)]
    held = state(latest=shown.version_id, tags={"kept": kept.version_id}, shown_since=NOW - timedelta(days=1))
    gone = {each.version_id for each in expired(held, versions, rule, NOW)}
    assert not gone & {shown.version_id, kept.version_id, *(each.version_id for each in versions[-rule.keep_last :])}
    assert all(NOW - each.created_at >= timedelta(days=rule.keep_days) for each in versions if each.version_id in gone)


def cube(path: Path, value: float) -> FileOptions:
    axes = {
        "time": ("time", [0], {"units": "days since 2001-01-01", "standard_name": "time"}),
        "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
        "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"}),
    }
    xr.Dataset({"t": (("time", "lat", "lon"), np.full((1, 2, 2), value))}, axes).to_netcdf(path)
    return FileOptions(files=(str(path),))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An instance whose dataset x has four versions, the second tagged."""
    prepare(tmp_path / "instance")
    with cubeport.connect(tmp_path / "instance") as service:
        for n in range(4):
            request = IngestionRequest(dataset_id="x", mode="replace" if n else "create", tag="paper" if n == 1 else None)
            assert service.ingest_here(request, cube(tmp_path / f"{n}.nc", float(n))).status == "completed"
    return tmp_path / "instance"


def stored(root: Path) -> set[str]:
    return {path.name for path in (root / "data" / "store" / "x").iterdir()}


def ids_of(service: Any) -> dict[int, str]:
    return {state.seq: state.version_id for state, _ in service.versions("x")}


def states_of(service: Any) -> dict[int, str]:
    return {state.seq: kept for state, kept in service.versions("x")}


def test_what_is_not_kept_goes_and_says_410(root: Path) -> None:
    with cubeport.connect(root) as service:
        assert service.retain() == [], "the defaults keep all that is young"
    with cubeport.connect(root, **NOTHING_STAYS) as service:
        ids = ids_of(service)
        expected = sorted(("freed", ids[n]) for n in (1, 3))
        assert sorted((each.act, each.version_id) for each in service.retain(dry_run=True)) == expected
        assert len(stored(root)) == 4
        before = service.generation()
        gone = sorted((each.act, each.version_id) for each in service.retain())
        assert gone == expected, "each once, with what became of it"
        assert service.generation() > before, "every process sees it at its next request"
        assert stored(root) == {ids[2], ids[4]}
        assert states_of(service) == {1: "freed", 2: "retained", 3: "freed", 4: "retained"}
        with pytest.raises(VersionRemoved):
            service.shown(f"x@{ids[1]}")
        assert service.shown("x@paper").version.version_id == ids[2]
        assert service.retain() == []
    with cubeport.Catalog.open(root) as catalog:
        assert catalog.fsck(data=True).findings == ()
        assert catalog.gc(older_than_s=0) == []


def test_gc_tells_what_retention_takes(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOTHING_STAYS.items():
        monkeypatch.setenv(f"CUBEPORT_{name.upper()}", str(value))
    for dry_run in (["--dry-run"], []):
        assert run(["-i", str(root), "--json", "gc", *dry_run]) == 0
        found = json.loads(capsys.readouterr().out)
        assert [each["kind"] for each in found] == ["freed-version"] * 2, "each version once"
        assert {each["removed"] for each in found} == {not dry_run}
        assert len({each["path"] for each in found}) == 2
    assert run(["-i", str(root), "--json", "usage"]) == 0
    usage = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in usage["datasets"][0]["versions"]] == ["retained", "latest"]


def test_bytes_of_a_purge_stay_for_the_grace_and_then_go(root: Path) -> None:
    with cubeport.connect(root) as service:
        service.delete("x", purge=True)
        assert len(stored(root)) == 4
        assert service.retain() == []
        usage = service.usage()
        assert (usage.datasets[0].status, {each.state for each in usage.datasets[0].versions}) == ("deleted", {"removed"})
        assert usage.would_free_bytes == usage.size_bytes > 0
    with cubeport.Catalog.open(root) as catalog:
        assert catalog.gc(older_than_s=0) == [], "gc leaves them to the readers as well"
    with cubeport.connect(root, retention__grace_min=0) as service:
        assert {each.act for each in service.retain()} == {"freed"}
        assert stored(root) == set()
        assert service.usage().size_bytes == 0


def test_a_version_that_cannot_be_freed_does_not_keep_the_others(root: Path) -> None:
    with cubeport.connect(root, **NOTHING_STAYS) as service:
        first = ids_of(service)[1]
        row = service.catalog.rows.get("version", first)
        assert row is not None
        service.catalog.rows.put(replace(row, document={**row.document, "engine": "nosuch"}))
        with pytest.raises(Configuration, match="'nosuch', which is not installed"):
            service.retain()
        assert states_of(service) == {1: "removed", 2: "retained", 3: "freed", 4: "retained"}
        assert len(stored(root)) == 3


def test_usage_counts_what_is_stored(root: Path) -> None:
    with cubeport.connect(root, **NOTHING_STAYS) as service:
        usage = service.usage()
        on_disk = sum(path.stat().st_size for path in (root / "data" / "store").rglob("*") if path.is_file())
        assert usage.size_bytes == on_disk
        [used] = usage.datasets
        assert [each.size_bytes for each in used.versions] == [each.own_bytes for each in used.versions]
        ids = ids_of(service)
        going = sum(each.own_bytes for each in used.versions if each.version_id in (ids[1], ids[3]))
        assert usage.would_free_bytes == going
        service.retain()
        assert service.usage().size_bytes == on_disk - going


@pytest.mark.parametrize("point", ["trash:before", "trash:after", "catalog_write_started:after", "catalog_write_succeeded:before"])
@pytest.mark.parametrize("action", ["raise", "eio", "enospc"])
def test_what_was_interrupted_is_finished_by_the_next(root: Path, point: str, action: str) -> None:
    for n in itertools.count(1):
        failpoints.arm(f"{point}@{n}={action}")
        try:
            with cubeport.connect(root, **NOTHING_STAYS) as service:
                service.retain()
            break
        except (failpoints.FailPointRaised, OSError, CubeportError):
            failpoints.arm("")
            with cubeport.connect(root, **NOTHING_STAYS) as service:
                assert service.shown("x").is_latest
        finally:
            failpoints.arm("")
        assert n < 20
    with cubeport.connect(root, **NOTHING_STAYS) as service:
        service.retain()
        assert set(states_of(service).values()) == {"retained", "freed"}
        assert len(stored(root)) == 2
        assert not list((root / "data" / "staging").iterdir())
    assert not list((root / ".cubeport" / "journal" / "open").iterdir())
