"""The catalog as a user of Python sees it: everything over the real stores, on both backends."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import BaseModel

import cubeport
from cubeport.adapters.storage.local import LocalProfile
from cubeport.catalog.artifacts.writers import path_source
from cubeport.catalog.disk import durable
from cubeport.catalog.hooks import HookResult
from cubeport.catalog.models import ExternalURILocator, Lineage, LocalPathLocator
from cubeport.errors import (
    AmbiguousId,
    ArtifactMissing,
    CatalogExists,
    Conflict,
    HashMismatch,
    HookFailed,
    InvalidConfiguration,
    InvalidRequest,
    KeyExists,
    NewerModel,
    NoMatch,
    NotACatalog,
    NotFound,
    OutsideProfile,
    PathEscapes,
    ReadOnly,
    RecordExists,
    RecordNotFound,
    SchemaInvalid,
    SourceRejected,
    StaleRecord,
    TargetExists,
    UnknownProfile,
    UnknownSchema,
)


@pytest.fixture(params=["sqlite", "tinydb"])
def catalog(request, tmp_path):
    with cubeport.Catalog.create(tmp_path / "instance", request.param, user_id="ana", plugins=False) as opened:
        yield opened


def files(catalog) -> list[str]:
    root = catalog.root / "files"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- making and opening ---------------------------------------------------------------------------------------------


def test_a_catalog_is_made_once_and_opened_again(catalog):
    added = catalog.add({"a": 1}, title="x")
    with pytest.raises(CatalogExists):
        cubeport.Catalog.create(catalog.root)
    with cubeport.Catalog.open(catalog.root, plugins=False) as again:
        assert again.get(added.id) == added.record
        assert again.catalog_id == catalog.catalog_id


def test_a_folder_without_a_catalog_is_none(tmp_path):
    with pytest.raises(NotACatalog) as caught:
        cubeport.Catalog.open(tmp_path)
    assert caught.value.next_step == f"cubeport init {tmp_path}"


def test_a_creation_that_was_killed_is_gone_on_with(tmp_path):
    root = tmp_path / "i"
    cubeport.Catalog.create(root).close()
    (root / ".cubeport" / "catalog.yaml").unlink()  # it comes last
    with cubeport.Catalog.create(root) as catalog:
        assert catalog.count() == 0


def test_configuration_that_is_there_stays(tmp_path):
    (tmp_path / "config").mkdir()
    written = "profiles:\n  default: {protocol: file, root: ./elsewhere}\n"
    (tmp_path / "config" / "profiles.yaml").write_text(written)
    (tmp_path / "elsewhere").mkdir()
    with cubeport.Catalog.create(tmp_path) as catalog:
        catalog.add_bytes(b"1", filename="x")
    assert (tmp_path / "config" / "profiles.yaml").read_text() == written
    assert [p for p in (tmp_path / "elsewhere").rglob("*") if p.is_file()]


def test_a_newer_format_is_neither_read_nor_written(tmp_path):
    cubeport.Catalog.create(tmp_path).close()
    file = tmp_path / ".cubeport" / "catalog.yaml"
    file.write_text(file.read_text().replace("format: 1", "format: 2"))
    with pytest.raises(NewerModel):
        cubeport.Catalog.open(tmp_path)


def test_a_file_without_profiles_stops_the_opening_and_leaves_nothing_open(catalog):
    (catalog.root / "config" / "profiles.yaml").write_text("a: 1\nprofiles:\n  default: {root: ./files}\n")
    with pytest.raises(InvalidConfiguration, match=r"profiles\.yaml:1"):
        cubeport.Catalog.open(catalog.root)


def test_read_only_writes_nothing(catalog):
    added = catalog.add_bytes(b"1", filename="x")
    before = {p: p.stat().st_mtime_ns for p in catalog.root.rglob("*") if p.is_file() and "logs" not in p.parts}
    with cubeport.Catalog.open(catalog.root, read_only=True) as reading:
        assert reading.get(added.id) == added.record
        for write in (
            lambda: reading.add(),
            lambda: reading.add_bytes(b"2"),
            lambda: reading.update(added.id, title="y"),
            lambda: reading.delete(added.id),
            lambda: reading.recover(),
            lambda: reading.gc(),
        ):
            with pytest.raises(ReadOnly):
                write()
    after = {p: p.stat().st_mtime_ns for p in catalog.root.rglob("*") if p.is_file() and "logs" not in p.parts}
    assert {p: m for p, m in after.items() if not p.name.endswith(("-shm", "-wal"))} == {
        p: m for p, m in before.items() if not p.name.endswith(("-shm", "-wal"))
    }


def test_a_moved_catalog_finds_its_bytes(catalog, tmp_path):
    added = catalog.add_bytes(b"bytes", filename="x.txt")
    catalog.close()
    moved = tmp_path / "moved"
    catalog.root.rename(moved)
    with cubeport.Catalog.open(moved) as again:
        assert again.path(added.id).read_bytes() == b"bytes"
        assert [each.verdict for each in again.verify(added.id)] == ["ok"]


# --- finding --------------------------------------------------------------------------------------------------------


def test_ids_keys_and_prefixes(catalog):
    one = catalog.add(id="aaaa0000" + "1" * 24, key="the-key", title="One")
    catalog.add(id="aaaa1111" + "2" * 24, title="Two")
    assert catalog.get(one.id).title == "One"
    assert catalog.get("the-key").id == one.id
    assert catalog.get("aaaa0").id == one.id
    with pytest.raises(AmbiguousId) as caught:
        catalog.get("aaaa")
    assert [(c["kind"], c["title"]) for c in caught.value.members["candidates"]] == [("document", "One"), ("document", "Two")]
    for absent in ("aaa", "bbbb", "nothing"):
        with pytest.raises(RecordNotFound):
            catalog.get(absent)
    with pytest.raises(RecordNotFound, match="'the-kye'; did you mean 'the-key'"):
        catalog.get("the-kye")


def test_one_demands_exactly_one(catalog):
    catalog.add({"a": 1}, title="x")
    catalog.add({"a": 1}, title="y")
    assert catalog.one('title="x"').title == "x"
    with pytest.raises(NoMatch):
        catalog.one("a=2")
    with pytest.raises(AmbiguousId):
        catalog.one("a=1")


def test_iterate_walks_all_pages(catalog):
    ids = {catalog.add({"n": n}).id for n in range(7)}
    assert [each.id for each in catalog.iterate(order=("id",), limit=2)] == sorted(ids)


# --- adding ---------------------------------------------------------------------------------------------------------


def test_add_bytes(catalog):
    added = catalog.add_bytes(b"hello", {"a": {"b": 1}}, filename="Report.TXT", title="Ein Bericht", tags=["t"], kind="document")
    [artifact] = added.record.artifacts
    year = f"{added.record.created_at:%Y}"
    assert artifact.locator == LocalPathLocator(profile="default", path=f"{year}/Report/ein-bericht.TXT")
    assert (artifact.size_bytes, artifact.hashes, artifact.media_type) == (5, {"sha256": digest(b"hello")}, "text/plain")
    assert catalog.path(added.id).read_bytes() == b"hello"
    with catalog.open_artifact(added.id) as reading:
        assert reading.read() == b"hello"
    assert added.record.metadata == {"a": {"b": 1}}
    assert (catalog.root / "files" / artifact.locator.path).stat().st_mode & 0o777 == 0o640


def test_a_record_alone(catalog):
    added = catalog.add({"a": 1}, title="x", time={"start": "2020-01-01T00:00:00Z", "end": None}, bbox=(1, 2, 3, 4))
    stored = catalog.get(added.id)
    assert (stored.artifacts, stored.bbox, stored.created_by) == ((), (1, 2, 3, 4), "ana")


def test_a_file_is_copied(catalog, tmp_path):
    source = tmp_path / "data.tar.gz"
    source.write_bytes(b"packed")
    added = catalog.add_file(source)
    assert source.exists()
    assert added.record.artifacts[0].locator.path.endswith("/data/data.tar.gz")
    assert added.record.artifacts[0].modified_at.timestamp() == pytest.approx(source.stat().st_mtime)


def test_a_file_is_moved_behind_the_commit(catalog, tmp_path):
    source = tmp_path / "data.bin"
    source.write_bytes(b"1234")
    added = catalog.add_file(source, operation="move")
    assert not source.exists()
    assert catalog.path(added.id).read_bytes() == b"1234"


def test_a_move_that_fails_keeps_the_source(catalog, tmp_path):
    source = tmp_path / "data.bin"
    source.write_bytes(b"1234")
    catalog.hooks.register("before_record_commit", lambda context, payload: 1 / 0, name="broken")
    with pytest.raises(HookFailed):
        catalog.add_file(source, operation="move")
    assert source.read_bytes() == b"1234"
    assert files(catalog) == []


def test_a_folder_is_copied_whole_with_a_tree_hash(catalog, tmp_path):
    folder = tmp_path / "cube.zarr"
    (folder / "c").mkdir(parents=True)
    (folder / "zarr.json").write_bytes(b"{}")
    (folder / "c" / "0").write_bytes(b"0")
    [artifact] = catalog.add_file(folder).record.artifacts
    lines = f"{digest(b'0')}  1  c/0\n{digest(b'{}')}  2  zarr.json\n"
    assert artifact.hashes == {"sha256-tree": digest(lines.encode())}
    assert (artifact.target_kind, artifact.size_bytes, artifact.format) == ("directory", 3, "zarr")
    assert files(catalog) == sorted(f"{artifact.locator.path}/{name}" for name in ("c/0", "zarr.json"))


def test_a_folder_with_a_link_is_refused(catalog, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequest, match="not a regular file"):
        catalog.add_file(folder)
    assert files(catalog) == []


def test_a_reference_is_never_touched(catalog, tmp_path):
    source = tmp_path / "data.bin"
    source.write_bytes(b"1234")
    before = source.stat()
    added = catalog.add_file(source, operation="reference", hash=True)
    [artifact] = added.record.artifacts
    assert (artifact.locator, artifact.managed) == (LocalPathLocator(path=str(source)), False)
    assert artifact.hashes == {"sha256": digest(b"1234")}
    catalog.delete(added.id)
    catalog.purge(added.id)
    assert source.read_bytes() == b"1234"
    assert source.stat() == before or source.stat().st_mtime_ns == before.st_mtime_ns


def test_an_external_artifact_is_only_noted(catalog):
    added = catalog.add_artifact(locator="https://example.org/a/data.nc", title="x")
    [artifact] = added.record.artifacts
    assert (artifact.locator, artifact.status) == (ExternalURILocator(uri="https://example.org/a/data.nc"), "external")
    assert artifact.format == "netcdf"
    with pytest.raises(ArtifactMissing):
        catalog.path(added.id)


def test_a_second_artifact_of_a_record(catalog):
    added = catalog.add_bytes(b"1", filename="a.txt", title="x")
    more = catalog.add_artifact(record=added.id, source=b"22", filename="preview.png", role="preview")
    assert [(a.role, a.size_bytes) for a in more.record.artifacts] == [("primary", 1), ("preview", 2)]
    assert more.record.version == 2
    assert catalog.path(added.id, more.record.artifacts[1].artifact_id).read_bytes() == b"22"


def test_one_name_twice_gives_two_paths(catalog):
    paths = {catalog.add_bytes(b"1", filename="x.tar.gz").record.artifacts[0].locator.path for _ in range(3)}
    assert len(paths) == 3
    assert all(path.endswith(".tar.gz") for path in paths)


def test_collision_error(catalog):
    catalog.add_bytes(b"1", filename="x.txt", filename_template="fixed.txt", directory_template="d")
    profile = catalog.profiles.get("default")
    profile.collision = "error"
    with pytest.raises(TargetExists):
        catalog.add_bytes(b"2", filename="x.txt", filename_template="fixed.txt", directory_template="d")
    assert files(catalog) == ["d/fixed.txt"]


def test_an_explicit_locator_skips_templates_not_checks(catalog, tmp_path):
    added = catalog.add_artifact(source=b"1", locator={"kind": "path", "profile": "default", "path": "exactly/here.bin"})
    assert files(catalog) == ["exactly/here.bin"]
    assert added.record.artifacts[0].locator.path == "exactly/here.bin"
    inside = catalog.root / "files" / "also" / "here.bin"
    catalog.add_artifact(source=b"2", locator=inside)
    assert inside.read_bytes() == b"2"
    with pytest.raises(TargetExists):
        catalog.add_artifact(source=b"3", locator=inside)
    with pytest.raises(OutsideProfile):
        catalog.add_artifact(source=b"3", locator=tmp_path / "outside.bin")
    assert not (tmp_path / "outside.bin").exists()


def test_a_path_may_not_leave_its_root_by_a_link(catalog, tmp_path):
    (catalog.root / "files" / "out").symlink_to(tmp_path)
    with pytest.raises(PathEscapes):
        catalog.add_bytes(b"1", filename="x", directory_template="out", filename_template="x")
    assert not (tmp_path / "x").exists()


def test_planning_writes_nothing(catalog):
    plan = catalog.plan_artifact_storage(
        "somewhere/Data.nc", kind="dataset", metadata={"a": "v"}, directory_template="{kind}/{metadata.a}"
    )
    assert (plan.relative_path, plan.profile, plan.target_kind) == ("dataset/v/Data.nc", "default", "file")
    assert files(catalog) == []
    added = catalog.add_artifact(storage_plan=plan, source=b"1")
    assert files(catalog) == ["dataset/v/Data.nc"]
    assert added.record.artifacts[0].locator == plan.locator


def test_a_dry_run_says_where_and_does_nothing(catalog):
    added = catalog.add_bytes(b"1", filename="x.txt", title="T", dry_run=True)
    assert (added.outcome, added.plan.filename) == ("planned", "t.txt")
    assert (files(catalog), catalog.count(), catalog.operations()) == ([], 0, [])


def test_one_member_of_a_zip(catalog, tmp_path):
    path = tmp_path / "one.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner/data.csv", "a,b\n1,2\n")
    added = catalog.add_file(path_source(path, "zip_file"))
    assert catalog.path(added.id).read_text() == "a,b\n1,2\n"
    assert added.record.artifacts[0].locator.path.endswith("/data.csv")


@pytest.mark.parametrize("names", [[], ["a", "b"], ["../a"], ["/a"], ["x/../../a"]])
def test_other_zips_are_refused(catalog, tmp_path, names):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(InvalidRequest):
        catalog.add_file(path_source(path, "zip_file"))
    assert (files(catalog), catalog.count()) == ([], 0)


def test_a_missing_file_is_told_before_anything_is_written(catalog, tmp_path):
    with pytest.raises(NotFound):
        catalog.add_file(tmp_path / "nothing")
    assert catalog.operations() == []


def test_an_error_is_one_event_with_its_type_and_user(catalog, tmp_path):
    catalog.hooks.register("before_record_commit", lambda context, payload: 1 / 0, name="broken")
    for fail, error in (
        (lambda: catalog.add_file(tmp_path / "nothing"), NotFound),
        (lambda: catalog.add_bytes(b"1"), HookFailed),
    ):
        with pytest.raises(error):
            fail()
    told = [each for each in catalog.events.read(user="ana", level="error").items if each["event"] == "operation.failed"]
    assert [each["exception_type"] for each in told] == ["NotFound", "HookFailed"]
    assert [each["operation_id"] is None for each in told] == [True, False]


def test_unknown_words_are_refused(catalog):
    with pytest.raises(InvalidRequest, match="titel"):
        catalog.add(titel="x")
    with pytest.raises(UnknownProfile):
        catalog.add_bytes(b"1", profile="defualt")


# --- keys -----------------------------------------------------------------------------------------------------------


def test_an_add_with_a_key_is_idempotent(catalog):
    first = catalog.add_bytes(b"1", key="k", filename="x")
    with pytest.raises(KeyExists):
        catalog.add_bytes(b"2", key="k", filename="x")
    again = catalog.add_bytes(b"2", key="k", filename="x", on_exists="skip")
    assert (again.outcome, again.record) == ("skipped", first.record)
    assert len(files(catalog)) == 1
    new = catalog.add_bytes(b"2", key="k", filename="x", on_exists="new_version")
    assert catalog.get("k").id == new.id
    former = catalog.get(first.id)
    assert (former.key, former.status) == (None, "deprecated")
    [edge] = new.record.lineage
    assert (edge.rel, edge.target, edge.operation_id) == ("version_of", first.id, new.operation_id)


def test_an_id_is_given_once(catalog):
    first = catalog.add(title="x")
    with pytest.raises(RecordExists):
        catalog.add_bytes(b"1", id=first.id)
    assert files(catalog) == []


# --- changing -------------------------------------------------------------------------------------------------------


def test_update_sets_and_unsets(catalog):
    added = catalog.add({"a": {"b": 1, "c": 2}}, title="x", tags=["one", "two"])
    other = catalog.add()
    updated = catalog.update(
        added.id, title="y", set={"a.d": 3}, unset=["a.b"], tags_add=["three"], tags_remove=["one"], link=[("uses", other.id[:8])]
    )
    assert (updated.title, updated.metadata, updated.tags) == ("y", {"a": {"c": 2, "d": 3}}, ("two", "three"))
    assert [(e.rel, e.target) for e in updated.lineage] == [("uses", other.id)]
    assert updated.version == 2
    assert catalog.update(added.id, title="y").version == 2, "nothing changed"
    assert catalog.update_metadata(added.id, {"z": 1}, replace=True).metadata == {"z": 1}


def test_a_stale_update_is_a_conflict(catalog):
    added = catalog.add(title="x")
    catalog.update(added.id, title="y", if_version=1)
    with pytest.raises(StaleRecord):
        catalog.update(added.id, title="z", if_version=1)
    assert catalog.get(added.id).title == "y"


def test_what_the_catalog_sets_cannot_be_set(catalog):
    added = catalog.add()
    for field in ("id", "version", "created_by", "operation_id", "artifacts"):
        with pytest.raises(InvalidRequest):
            catalog.update(added.id, **{field: 1})


def test_delete_restore_purge(catalog):
    added = catalog.add_bytes(b"1", filename="x", key="k")
    deleted = catalog.delete(added.id)
    assert (deleted.status, deleted.deleted_from, deleted.deleted_by) == ("deleted", "active", "ana")
    assert len(files(catalog)) == 1, "bytes stay"
    assert catalog.delete(added.id) == deleted
    taken = catalog.add(key="k")
    with pytest.raises(KeyExists):
        catalog.restore(added.id)
    catalog.delete(taken.id)
    restored = catalog.restore(added.id)
    assert (restored.status, restored.deleted_at, restored.key) == ("active", None, "k")
    assert catalog.purge(added.id, dry_run=True).id == added.id
    catalog.purge(added.id)
    assert files(catalog) == []
    with pytest.raises(RecordNotFound):
        catalog.get(added.id)


def test_purge_of_what_others_point_to_needs_force(catalog):
    target = catalog.add()
    pointing = catalog.add(lineage=[("derived_from", target.id)])
    with pytest.raises(Conflict):
        catalog.purge(target.id)
    catalog.purge(target.id, force=True)
    assert [(f.kind, f.place) for f in catalog.fsck().findings] == [("dangling-edge", pointing.id)]


def test_lineage_goes_both_ways(catalog):
    raw = catalog.add(title="raw")
    middle = catalog.add(lineage=[("derived_from", raw.id), Lineage(rel="uses", target="https://example.org/x")])
    last = catalog.add(lineage=[("derived_from", middle.id)])
    up = catalog.lineage(last.id, direction="up")
    assert {(e.source, e.target) for e in up.edges} == {
        (last.id, middle.id),
        (middle.id, raw.id),
        (middle.id, "https://example.org/x"),
    }
    assert {e.source for e in catalog.lineage(raw.id, direction="down").edges} == {middle.id, last.id}
    assert len(catalog.lineage(last.id, direction="up", depth=1).edges) == 1
    assert {e.rel for e in catalog.lineage(last.id, rel="derived_from").edges} == {"derived_from"}


# --- schemas and hooks ----------------------------------------------------------------------------------------------


class Paper(BaseModel):
    year: int


def test_one_bad_record_under_each_policy(catalog):
    catalog.register_schema("paper", Paper)
    said = {"schema_name": "paper", "schema_version": "1"}
    assert catalog.add({"year": "x"}, schema_policy="off", **said).warnings == ()
    warned = catalog.add({"year": "x"}, schema_policy="warn", **said)
    assert len(warned.warnings) == 1
    with pytest.raises(SchemaInvalid):
        catalog.add_bytes(b"1", {"year": "x"}, schema_policy="strict", **said)
    assert (catalog.count(), files(catalog)) == (2, [])
    with pytest.raises(UnknownSchema):
        catalog.add(schema_name="papre", schema_version="1", schema_policy="off")
    assert [result.valid for result in catalog.validate(all=True).values()] == [False, False]


def test_hooks_change_what_they_may(catalog):
    catalog.hooks.register("before_record_validate", lambda c, p: HookResult(metadata_updates={"from.validate": 1}), name="one")
    catalog.hooks.register(
        "after_artifact_write", lambda c, p: HookResult(metadata_updates={"size": p.artifact.size_bytes}), name="two"
    )
    catalog.hooks.register("before_record_commit", lambda c, p: HookResult(tags_add=("tagged",)), name="three")
    catalog.hooks.register(
        "before_path_plan",
        lambda c, p: HookResult(locator={"kind": "planned", "profile": "default", "path": "by/hook.bin"}),
        name="four",
    )
    record = catalog.add_bytes(b"123", filename="x").record
    assert record.metadata == {"from": {"validate": 1}, "size": 3}
    assert record.tags == ("tagged",)
    assert files(catalog) == ["by/hook.bin"]


def test_what_the_last_hook_changes_is_validated_again(catalog):
    catalog.register_schema("paper", Paper)
    catalog.schemas.policy = "strict"
    catalog.hooks.register("before_record_commit", lambda c, p: HookResult(metadata_updates={"year": "x"}), name="late")
    with pytest.raises(SchemaInvalid):
        catalog.add_bytes(b"1", {"year": 2020}, schema_name="paper", schema_version="1")
    assert (catalog.count(), files(catalog)) == (0, [])


def test_an_error_of_others_names_its_operation_too(catalog):
    with pytest.raises(ZeroDivisionError) as caught, catalog.unit_of_work() as work:
        raise ZeroDivisionError
    assert caught.value.operation_id == work.operation_id


def test_an_optional_hook_that_fails_is_a_warning(catalog):
    catalog.hooks.register("after_path_plan", lambda c, p: 1 / 0, name="weak", required=False)
    added = catalog.add_bytes(b"1", filename="x")
    assert [("weak" in w, "ZeroDivisionError" in w) for w in added.warnings] == [(True, True)]


def test_extraction_fills_its_own_block(catalog, tmp_path):
    source = tmp_path / "x.csv"
    source.write_text("a,b\n")
    record = catalog.add_file(source, {"mine": 1}, extract_metadata=True).record
    assert record.metadata["mine"] == 1
    assert record.metadata["file"]["_extractor"]["name"] == "file"


# --- integrity ------------------------------------------------------------------------------------------------------


def test_verify_names_each_fault(catalog, tmp_path):
    ids = [catalog.add_bytes(b"12345", filename=f"{n}.bin").id for n in range(4)]
    catalog.path(ids[1]).unlink()
    catalog.path(ids[2]).write_bytes(b"1234")
    catalog.path(ids[3]).write_bytes(b"1234X")
    verdicts = [catalog.verify(each)[0].verdict for each in ids]
    assert verdicts == ["ok", "missing", "size-differs", "hash-differs"]
    assert [catalog.verify(each, fast=True)[0].verdict for each in ids] == ["ok", "missing", "size-differs", "ok"]
    catalog.verify(*ids, record=True)
    assert [catalog.get(each).artifacts[0].status for each in ids] == ["available", "missing", "available", "available"]
    assert catalog.get(ids[0]).artifacts[0].checked_at is not None


def test_a_store_that_is_gone_is_unreachable_never_missing(catalog):
    added = catalog.add_bytes(b"1", filename="x")
    (catalog.root / "files").rename(catalog.root / "unmounted")
    assert [each.verdict for each in catalog.verify(added.id, record=True)] == ["unreachable"]
    assert catalog.get(added.id).artifacts[0].status == "available"


class Origin:
    """A fetcher over a dictionary."""

    def __init__(self, **uris):
        self.uris = {uri.replace("_", "/"): data for uri, data in uris.items()}
        self.asked = []

    def size(self, uri):
        data = self.uris.get(uri)
        return None if data is None else len(data)

    @contextmanager
    def open(self, uri):
        self.asked.append(uri)
        yield io.BytesIO(self.uris[uri])


URI = "https://example.org/data/file.nc"


@pytest.fixture
def fetching(catalog):
    origin = Origin()
    origin.uris[URI] = b"remote bytes"
    from dataclasses import replace

    catalog.parts = replace(catalog.parts, fetcher=origin)
    return catalog, origin


def test_fetch_and_drop(fetching):
    catalog, origin = fetching
    added = catalog.add_artifact(locator=URI)
    fetched = catalog.fetch(added.id)
    [artifact] = fetched.artifacts
    assert catalog.path(added.id).read_bytes() == b"remote bytes"
    assert (artifact.status, artifact.origin, artifact.hashes) == (
        "available",
        ExternalURILocator(uri=URI),
        {"sha256": digest(b"remote bytes")},
    )
    origin.uris[URI] = b"other"
    with pytest.raises(InvalidRequest):
        catalog.drop(added.id)
    origin.uris[URI] = b"remote bytes"
    [dropped] = catalog.drop(added.id).artifacts
    assert (dropped.status, dropped.locator, dropped.hashes) == ("external", ExternalURILocator(uri=URI), artifact.hashes)
    assert files(catalog) == []
    origin.uris[URI] = b"REMOTE BYTES"
    with pytest.raises(HashMismatch):
        catalog.fetch(added.id)
    assert files(catalog) == []


def test_a_known_hash_must_agree_wherever_the_bytes_go(fetching):
    catalog, origin = fetching
    added = catalog.add_artifact(locator=URI)
    catalog.fetch(added.id)
    catalog.drop(added.id)
    catalog.ports.profiles.add(LocalProfile("unhashed", catalog.root / "unhashed", hash="none"))
    (catalog.root / "unhashed").mkdir()
    origin.uris[URI] = b"REMOTE BYTES"
    with pytest.raises(HashMismatch):
        catalog.fetch(added.id, profile="unhashed")
    assert list((catalog.root / "unhashed").iterdir()) == []
    origin.uris[URI] = b"remote bytes"
    [artifact] = catalog.fetch(added.id, profile="unhashed").artifacts
    assert artifact.hashes == {"sha256": digest(b"remote bytes")}


def test_nothing_is_fetched_without_the_gate(catalog):
    added = catalog.add_artifact(locator=URI)
    with pytest.raises(SourceRejected) as caught:
        catalog.fetch(added.id)
    assert caught.value.reason == "not-allowed"


# --- upkeep ---------------------------------------------------------------------------------------------------------


def test_a_healthy_catalog_is_said_to_be_healthy(catalog):
    catalog.add_bytes(b"1", filename="x")
    # That the tests run as root, or where the kernel confines less, is not a fault of the catalog.
    assert {finding.level for finding in catalog.doctor() if finding.kind != "sandbox"} == {"ok"}
    checked = catalog.fsck(data=True)
    assert (checked.findings, checked.complete, checked.records, checked.artifacts) == ((), True, 1, 1)
    assert catalog.gc() == []


def test_doctor_says_what_is_wrong(catalog):
    (catalog.root / "files").rename(catalog.root / "unmounted")
    wrong = [finding for finding in catalog.doctor() if finding.level == "error"]
    assert [(finding.kind, finding.place) for finding in wrong] == [("store-unavailable", "profile default")]
    assert "mount its disk" in wrong[0].next_step


def test_fsck_finds_planted_faults_and_repair_only_moves(catalog):
    root = catalog.root / "files"
    ids = [catalog.add_bytes(b"12345", filename=f"{n}.bin").id for n in range(3)]
    catalog.path(ids[0]).unlink()
    catalog.path(ids[1]).write_bytes(b"1234X")
    (root / "theirs.txt").write_text("a stranger's")
    orphan = catalog.path(ids[2])
    with catalog.unit_of_work("purge") as work:  # a purge whose after-action was lost
        work.delete_record(catalog.get(ids[2]))
        work.commit()
    kinds = sorted(finding.kind for finding in catalog.fsck(data=True).findings)
    assert kinds == ["digest-differs", "missing-object", "orphan-file", "unknown-file"]
    assert sorted(f.kind for f in catalog.fsck().findings) == ["missing-object", "orphan-file", "unknown-file"]
    repaired = catalog.fsck(repair=True).repaired
    assert len(repaired) == 2
    assert not orphan.exists()
    assert [p.read_bytes() for p in (catalog.root / ".cubeport" / "quarantine").iterdir()] == [b"12345"]
    assert (root / "theirs.txt").read_text() == "a stranger's"
    assert catalog.get(ids[0]).artifacts[0].status == "missing"


def test_fsck_stops_at_its_time_and_goes_on(catalog):
    ids = [catalog.add_bytes(b"12345", filename=f"{n}.bin").id for n in range(3)]
    for each in ids:
        catalog.path(each).unlink()
    first = catalog.fsck(time_limit_s=0)
    assert (first.complete, first.records) == (False, 1)
    rest = catalog.fsck(resume=True)
    assert (rest.complete, rest.records) == (True, 3)
    assert sorted(f.place.partition("/")[0] for f in rest.findings if f.kind == "missing-object") == sorted(ids)


def test_gc_removes_empty_folders_that_we_made_and_no_others(catalog):
    added = catalog.add_bytes(b"1", filename="x.bin", directory_template="ours/{original_stem}")
    theirs = catalog.root / "files" / "theirs"
    theirs.mkdir()
    catalog.purge(added.id)
    assert (catalog.root / "files" / "ours" / "x").is_dir()
    catalog.gc()
    assert [p.name for p in (catalog.root / "files").iterdir()] == ["theirs"]


def test_gc_removes_ours_by_age_and_lists_strangers(catalog):
    added = catalog.add_bytes(b"12345", filename="x.bin")
    path = catalog.path(added.id)
    stranger = catalog.root / "files" / "theirs.txt"
    stranger.write_text("a stranger's")
    part = path.with_name(f".y.bin.{'0' * 32}.part")
    part.write_text("left")
    with catalog.unit_of_work("purge") as work:
        work.delete_record(added.record)
        work.commit()
    assert [(g.removed, g.ours) for g in catalog.gc()] == [(False, False)], "too young, and the stranger"
    old = path.stat().st_mtime - 90_000
    for each in (path, part, stranger):
        os.utime(each, (old, old))
    assert sorted(g.ours for g in catalog.gc(dry_run=True)) == [False, True, True]
    assert path.exists()
    assert sorted((g.ours, g.removed) for g in catalog.gc()) == [(False, False), (True, True), (True, True)]
    assert [p for p in (catalog.root / "files").rglob("*") if p.is_file()] == [stranger]


def test_operations_tell_what_happened(catalog):
    added = catalog.add_bytes(b"1", filename="x")
    with pytest.raises(InvalidRequest), catalog.unit_of_work("transform", user_id="ben"):  # noqa: PT012 - the unit fails
        assert [o.status for o in catalog.operations(status="running")] == ["running"]
        raise InvalidRequest("no")
    failed, ok = catalog.operations()
    assert (failed.operation_type, failed.status, failed.error["kind"], failed.created_by) == (
        "transform",
        "rolled_back",
        "invalid-request",
        "ben",
    )
    assert (ok.operation_type, ok.status, ok.outputs) == (
        "add",
        "succeeded",
        (added.id, f"{added.id}/{added.record.artifacts[0].artifact_id}"),
    )
    told = catalog.operation(ok.operation_id[:8])
    assert (told["journal"][0]["state"], told["journal"][-1]["state"]) == ("started", "committed")


def test_info_counts(catalog):
    catalog.add_bytes(b"12345", filename="x", kind="run")
    catalog.delete(catalog.add().id)
    said = catalog.info()
    assert said["records"] == {"total": 2, "by_kind": {"run": 1, "document": 1}, "by_status": {"active": 1, "deleted": 1}}
    assert (said["artifacts"], said["managed_bytes"]) == (1, 5)


# --- costs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch):
    names: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(durable.os, "fsync", fsync)
    return names


def test_syncs_of_an_add_are_few_and_do_not_grow(tmp_path, syncs):
    """SQLite's own sync of its commit comes on top: one."""
    with cubeport.Catalog.create(tmp_path, plugins=False) as catalog:
        counts = {}
        for n in range(120):
            syncs.clear()
            catalog.add_bytes(b"1", {"n": n}, filename=f"{n}.txt")
            counts[n] = len(syncs)
    assert counts[10] == counts[119] <= 7, counts


def test_importing_cubeport_costs_next_to_nothing():
    code = (
        "import sys, time; t = time.process_time(); import cubeport; t = time.process_time() - t\n"
        "heavy = {'pydantic', 'sqlalchemy', 'fsspec', 'tinydb', 'xarray', 'zarr', 'numpy', 'fastapi', 'yaml'} & set(sys.modules)\n"
        "print(t, *sorted(heavy)); [getattr(cubeport, n) for n in cubeport.__all__ if n not in ('connect',)]\n"
        "loaded = {'xarray', 'zarr', 'numpy', 'fastapi', 'pygeoapi', 'sqlalchemy', 'fsspec'} & set(sys.modules)\n"
        "print(*sorted(loaded))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    first, second = done.stdout.split("\n")[:2]
    seconds, *heavy = first.split()
    assert heavy == []
    assert float(seconds) <= 0.05
    assert second == ""


def test_the_catalog_loads_no_scientific_library(tmp_path):
    code = (
        "import sys, cubeport; c = cubeport.Catalog.create(sys.argv[1]); c.add_bytes(b'1', filename='x'); c.search(); c.close()\n"
        "print(*sorted({'xarray', 'zarr', 'numpy', 'fastapi', 'pygeoapi', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


# --- many writers ---------------------------------------------------------------------------------------------------

ADDS = (
    "import sys, cubeport\n"
    "with cubeport.Catalog.open(sys.argv[1], plugins=False) as catalog:\n"
    "    for n in range(int(sys.argv[3])): catalog.add_bytes(b'x' * n, {'who': sys.argv[2]}, filename='same.txt')\n"
)


def _writers(root: Path, processes: int, adds: int) -> None:
    # What is held here is that nothing is lost, on any machine; how long a writer may wait is a figure of the benchmarks.
    file = root / ".cubeport" / "catalog.yaml"
    file.write_text(f"{file.read_text()}lock_timeout_s: 300\n")
    with cubeport.Catalog.open(root, plugins=False) as reader:
        running = [subprocess.Popen([sys.executable, "-c", ADDS, str(root), str(n), str(adds)]) for n in range(processes)]
        while any(each.poll() is None for each in running):
            page = reader.search(limit=10)
            assert all(record.artifacts for record in page), "never half a record"
        assert [each.wait() for each in running] == [0] * processes
        assert reader.count() == processes * adds
        assert len(list((root / "files").rglob("*.txt"))) == processes * adds
        assert reader.fsck(data=True).findings == ()


def test_two_writers_and_a_reader(catalog):
    _writers(catalog.root, 2, 10)


@pytest.mark.slow
def test_eight_writers_lose_nothing(catalog):
    _writers(catalog.root, 8, 100)


def test_a_key_that_was_taken_meanwhile_is_told_with_its_holder(tmp_path: Path) -> None:
    with cubeport.Catalog.create(tmp_path) as catalog:
        first = catalog.add({}, key="k").record
        catalog.delete(first.id)
        second = catalog.add({}, key="k").record
        with pytest.raises(KeyExists) as told:
            catalog.restore(first.id)
        assert second.id[:8] in told.value.message
        assert told.value.next_step == f"cubeport delete {second.id[:8]}, then restore"
        catalog.delete(second.id)
        assert catalog.restore(first.id).status == "active"


def test_recovering_an_operation_that_never_was_is_not_found(tmp_path: Path) -> None:
    with cubeport.Catalog.create(tmp_path) as catalog:
        done = catalog.add({}, title="x").operation_id
        assert catalog.recover(done) == []
        with pytest.raises(NotFound, match="No operations begin with 'nope'"):
            catalog.recover("nope")
