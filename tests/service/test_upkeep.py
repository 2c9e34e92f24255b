"""Versions under ``fsck`` and ``gc``: planted faults are found, what lives is left alone, and only what is ours goes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

import cubeport
from cubeport.adapters.engines import zarr
from cubeport.catalog.forms.canonical import new_id, now
from cubeport.catalog.locks import FileLocks
from cubeport.documents.texts import Texts
from cubeport.service.ingestions import Scope
from cubeport.service.publish import with_state
from cubeport.service.state import VERSION, DatasetState, Publication, VersionState

OBJECTS = {"zarr.json": b"{}", "sst/zarr.json": b"{}", "sst/c/0": b"chunk 0", "sst/c/1": b"chunk 1"}


@pytest.fixture
def catalog(tmp_path):
    (tmp_path / "data" / "store").mkdir(parents=True)
    (tmp_path / "data" / "staging").mkdir()
    with cubeport.Catalog.create(tmp_path, plugins=False) as opened:
        yield opened


def data(catalog) -> Path:
    return catalog.root / "data"


def keep(catalog, dataset: str = "sst", state: str = "retained") -> tuple[str, Path]:
    """Make a version whole: its folder, its record and its row."""
    version = new_id()
    folder = data(catalog) / "store" / dataset / version
    entries = []
    for key, content in sorted(OBJECTS.items()):
        (folder / "cube.zarr" / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cube.zarr" / key).write_bytes(content)
        entries.append({"key": key, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    manifest = json.dumps({"algorithm": "sha256", "entries": entries}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    record = catalog.add(kind="dataset", key=dataset, on_exists="skip").record
    row = VersionState(
        version_id=version,
        seq=1,
        kind="created",
        created_at=now(),
        coverage={},
        request_scope=Scope(),
        size_bytes=1,
        digest=hashlib.sha256(manifest).hexdigest(),
        ingestion_id=new_id(),
        engine="zarr",
        request_digest="0" * 64,
    ).row(record.id, state=state)
    catalog.rows.put(row)
    return version, folder


def findings(catalog, **how) -> list[tuple[str, str]]:
    return sorted((each.kind, each.place) for each in catalog.fsck(**how).findings)


def age(path: Path) -> None:
    os.utime(path, (path.stat().st_mtime - 90_000,) * 2)


def test_a_whole_version_has_no_findings(catalog):
    keep(catalog)
    assert findings(catalog, data=True) == []
    assert catalog.gc(older_than_s=0) == []


def test_every_planted_fault_is_found_and_named(catalog):
    version, folder = keep(catalog)
    cube = folder / "cube.zarr"
    (cube / "sst" / "c" / "0").unlink()
    (cube / "sst" / "c" / "2").write_bytes(b"nobody listed me")
    (cube / "sst" / "zarr.json").write_bytes(b"{ }")
    (cube / "sst" / "c" / "1").write_bytes(b"chunk X")
    named = f"sst@{version}/sst"
    quick = [("extra-object", f"{named}/c/2"), ("missing-object", f"{named}/c/0"), ("size-differs", f"{named}/zarr.json")]
    assert findings(catalog) == quick
    assert findings(catalog, data=True) == sorted([*quick, ("digest-differs", f"{named}/c/1")])


def test_an_object_that_is_a_link_is_not_what_was_written(catalog, tmp_path):
    version, folder = keep(catalog)
    chunk = folder / "cube.zarr" / "sst" / "c" / "0"
    chunk.unlink()
    (tmp_path / "other").write_bytes(OBJECTS["sst/c/0"])
    chunk.symlink_to(tmp_path / "other")
    assert findings(catalog) == [("size-differs", f"sst@{version}/sst/c/0")]


def test_a_manifest_that_changed_is_believed_in_nothing(catalog):
    version, folder = keep(catalog)
    (folder / "manifest.json").write_bytes(b"{}")
    assert findings(catalog) == [("digest-differs", f"sst@{version}/manifest.json")]


def test_a_version_that_is_gone_is_missing(catalog):
    version, folder = keep(catalog)
    folder.rename(catalog.root / "elsewhere")
    assert findings(catalog) == [("missing-data", f"sst@{version}")]


def test_what_nothing_keeps_goes_when_it_is_old_enough(catalog):
    _, kept = keep(catalog)
    _, removed = keep(catalog, state="freed")
    store, staging = data(catalog) / "store", data(catalog) / "staging"
    orphan = store / "sst" / new_id()
    orphan.mkdir()
    stale, trash, strange = staging / new_id(), staging / f"trash-{new_id()}", store / "sst" / "my-notes"
    for each in (stale, trash, strange):
        each.mkdir()
        (each / "file").write_bytes(b"1")
    assert [kind for kind, _ in findings(catalog)] == [
        "orphan-staging",
        "orphan-staging",
        "orphan-version",
        "orphan-version",
        "unknown-file",
    ]
    assert [each.path for each in catalog.gc() if each.removed] == [], "too young"
    for each in (orphan, stale, trash, strange, removed):
        age(each)
    assert sorted(each.path for each in catalog.gc() if each.removed) == sorted(
        each.relative_to(data(catalog)).as_posix() for each in (orphan, stale, trash, removed)
    )
    assert kept.is_dir()
    assert strange.is_dir()
    assert findings(catalog, data=True) == [("unknown-file", f"data:store/sst/{strange.name}")]


def test_a_running_operation_keeps_its_bytes(catalog):
    with catalog.unit_of_work("ingest") as work:
        version = new_id()
        staging = data(catalog) / "staging" / work.operation_id
        made = data(catalog) / "store" / "sst" / version
        for each in (staging, made):
            each.mkdir(parents=True)
        work.compensate({"undo": "remove_tree", "profile": "data", "path": f"store/sst/{version}", "proof": {"inode": 0}})
        assert catalog.gc(older_than_s=0) == []
        assert findings(catalog) == []


def test_versions_of_a_purged_dataset_are_garbage(catalog):
    version, folder = keep(catalog)
    catalog.purge("sst")
    assert [(each.path, each.removed) for each in catalog.gc(older_than_s=0)] == [(f"store/sst/{version}", True)]
    assert not folder.exists()


def test_repair_moves_orphans_to_quarantine(catalog):
    orphan = data(catalog) / "store" / "sst" / new_id()
    orphan.mkdir(parents=True)
    (orphan / "file").write_bytes(b"1")
    [repaired] = catalog.fsck(repair=True).repaired
    assert repaired.endswith("moved to quarantine")
    assert not orphan.exists()
    [moved] = (catalog.root / ".cubeport" / "quarantine").iterdir()
    assert (moved / "file").read_bytes() == b"1"


def test_a_check_without_repair_touches_nothing(catalog):
    version, folder = keep(catalog)
    before = catalog.rows.get(VERSION, version)
    (folder / "cube.zarr" / "zarr.json").unlink()
    catalog.fsck(data=True)
    catalog.gc(older_than_s=0)
    assert catalog.rows.get(VERSION, version) == before
    assert folder.is_dir()


def dataset(catalog, *versions: str, shown: str) -> None:
    """Give the record of ``sst`` the state of a published dataset with these versions."""
    record = catalog.get("sst")
    state = DatasetState(
        texts=Texts(dataset_id="sst", title="Sea", description="Sea", period_type="none"),
        latest=shown,
        head=versions[-1],
        tags={"first": versions[0], "last": versions[-1]},
        publication=Publication(status="published", published_at=now()),
    )
    with catalog.unit_of_work("test") as work:
        work.update_record(with_state(record, state))
        work.commit()


def test_repair_takes_a_broken_version_off_and_moves_it_to_quarantine(catalog):
    whole, _ = keep(catalog)
    broken, folder = keep(catalog)
    dataset(catalog, whole, broken, shown=broken)
    (folder / "cube.zarr" / "sst" / "c" / "1").write_bytes(b"chunk X")
    assert findings(catalog, data=True) == [("digest-differs", f"sst@{broken}/sst/c/1")]
    [repaired] = catalog.fsck(data=True, repair=True).repaired
    assert f"sst@{broken}: marked missing" in repaired
    assert "sst is unpublished" in repaired
    assert catalog.rows.get(VERSION, broken).state == "missing"
    assert catalog.rows.get(VERSION, whole).state == "retained"
    state = DatasetState.of(catalog.get("sst"))
    assert (state.published, state.latest, state.head, state.tags) == (False, whole, whole, {"first": whole})
    assert not folder.exists()
    [moved] = (catalog.root / ".cubeport" / "quarantine").iterdir()
    assert (moved / "cube.zarr" / "sst" / "c" / "1").read_bytes() == b"chunk X"
    assert findings(catalog, data=True) == [], "twice is once"
    assert catalog.fsck(data=True, repair=True).repaired == ()


def test_repair_leaves_what_is_in_work_and_what_was_restored(catalog):
    """A version was taken off while an ingestion built on it, and after somebody had brought its chunk back."""
    version, folder = keep(catalog)
    dataset(catalog, version, shown=version)
    chunk = folder / "cube.zarr" / "sst" / "c" / "1"
    chunk.write_bytes(b"chunk X")
    found = catalog.fsck(data=True).findings
    locks = FileLocks(catalog.root / ".cubeport" / "locks")
    with locks.hold("dataset", "sst"):
        assert catalog.fsck(data=True, repair=True).repaired == ()
    chunk.write_bytes(OBJECTS["sst/c/1"])
    [keeper] = catalog.parts.keepers()
    assert keeper.repair(catalog.ports, found, catalog.root / ".cubeport" / "quarantine") == []
    assert catalog.rows.get(VERSION, version).state == "retained"
    assert DatasetState.of(catalog.get("sst")).published
    assert findings(catalog, data=True) == []


def test_an_older_broken_version_costs_nothing_that_is_shown(catalog):
    broken, folder = keep(catalog)
    whole, _ = keep(catalog)
    dataset(catalog, broken, whole, shown=whole)
    (folder / "cube.zarr" / "zarr.json").unlink()
    catalog.fsck(repair=True)
    state = DatasetState.of(catalog.get("sst"))
    assert (state.published, state.latest, state.head, state.tags) == (True, whole, whole, {"last": whole})
    assert catalog.rows.get(VERSION, broken).state == "missing"


def test_an_extra_object_is_moved_alone(catalog):
    version, folder = keep(catalog)
    dataset(catalog, version, shown=version)
    (folder / "cube.zarr" / "extra.txt").write_bytes(b"1")
    assert [each.endswith("moved to quarantine") for each in catalog.fsck(repair=True).repaired] == [True]
    assert catalog.rows.get(VERSION, version).state == "retained"
    assert DatasetState.of(catalog.get("sst")).published
    assert findings(catalog, data=True) == []
    [moved] = (catalog.root / ".cubeport" / "quarantine").iterdir()
    assert moved.read_bytes() == b"1"


def test_stray_files_in_the_store_are_seen(catalog):
    _, folder = keep(catalog)
    store = data(catalog) / "store"
    places = (store / "notes.txt", store / "sst" / "notes.txt", folder / "notes.txt")
    for each in places:
        each.write_bytes(b"1")
    seen = findings(catalog)
    assert seen == sorted(("unknown-file", f"data:{each.relative_to(data(catalog)).as_posix()}") for each in places)
    assert catalog.fsck(repair=True).repaired == ()
    assert all(each.exists() for each in places), "nobody proves them ours"


def test_the_time_limit_bounds_bytes_and_resume_goes_on(catalog, monkeypatch):
    kept = [keep(catalog) for _ in range(3)]
    for _, folder in kept:
        (folder / "cube.zarr" / "sst" / "c" / "0").write_bytes(b"chunk X")
    whole = sorted(findings(catalog, data=True))
    assert len(whole) == 3
    read: list[str] = []
    real = zarr._sha256
    monkeypatch.setattr(zarr, "_sha256", lambda path: read.append(path.as_posix()) or real(path))
    rounds = 0
    checked = catalog.fsck(data=True, time_limit_s=0)
    while not checked.complete:
        rounds += 1
        before = len(read)
        checked = catalog.fsck(data=True, time_limit_s=0, resume=True)
        assert len(read) - before <= 1, "it stops between two files"
    assert rounds >= 10
    assert len(read) == len(set(read)) == 3 * len(OBJECTS), "no byte is read twice"
    assert sorted((each.kind, each.place) for each in checked.findings) == whole


def test_one_dataset_is_checked_with_its_versions(catalog):
    _, folder = keep(catalog)
    _, other = keep(catalog, dataset="ice")
    for each in (folder, other):
        (each / "cube.zarr" / "zarr.json").unlink()
    [found] = catalog.fsck("sst").findings
    assert found.place.startswith("sst@")


def test_a_flipped_bit_of_the_journal_is_found(catalog):
    for n in range(3):
        catalog.add(metadata={"n": n})
    assert findings(catalog) == []
    [month] = (catalog.root / ".cubeport" / "journal").glob("operations-*.jsonl")
    content = month.read_bytes()
    lines = content.splitlines(keepends=True)
    for bit in range(0, 8 * len(content), 97):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        month.write_bytes(flipped)
        seen = [place for kind, place in findings(catalog) if kind == "journal-differs"]
        assert seen, (bit, bytes(flipped[bit // 8 - 20 : bit // 8 + 20]))
    month.write_bytes(content)
    assert findings(catalog) == []
    assert len(lines) >= 3
