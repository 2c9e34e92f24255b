"""Faults that small projects met on the catalog, as kinds: keys with colons, edits that clear, strict schemas at every door…"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import cubeport
from cubeport.catalog.events import EventLog
from cubeport.catalog.hooks import HookResult
from cubeport.catalog.models import ExternalURILocator, LocalPathLocator, normalise_locator
from cubeport.errors import HookFailed, InvalidFilter, InvalidRequest, RecordExists, SchemaInvalid, TargetExists, UnknownSchema

SITE = {"type": "object", "required": ["site"], "properties": {"site": {"type": "string"}}}


@pytest.fixture(params=["sqlite", "tinydb"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with cubeport.Catalog.create(tmp_path / "instance", request.param, user_id="ana", plugins=False) as opened:
        yield opened


# --- keys and identifiers with colons -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["run:1", "doi:10.5555/x", "hdl:11676/abc", "file:///data/x.nc", "https://example.org/x"])
def test_lineage_finds_a_record_by_a_key_with_colons(catalog: Any, key: str) -> None:
    run = catalog.add(key=key)
    made = catalog.add(lineage=[("produced_by", key)])
    assert made.record.lineage[0].target == run.id
    assert [edge.source for edge in catalog.lineage(key, direction="down").edges] == [made.id]
    linked = catalog.add(title="later")
    assert catalog.update(linked.id, link=[("uses", key)]).lineage[0].target == run.id


def test_a_uri_that_no_record_has_stays_a_uri(catalog: Any) -> None:
    made = catalog.add(lineage=[("derived_from", "doi:10.5555/nobody")])
    assert made.record.lineage[0].target == "doi:10.5555/nobody"


@pytest.mark.parametrize("text", ["hdl:11676/abc", "ark:/12345/x", "doi:10.5555/x", "urn:isbn:1", "swh:1:rev:0", "ftp://h/x"])
def test_any_scheme_that_is_not_a_file_is_a_uri(text: str) -> None:
    assert normalise_locator(text) == ExternalURILocator(uri=text)


def test_a_file_whose_name_has_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:1.txt").write_text("x")
    assert normalise_locator("run:1.txt") == LocalPathLocator(path=str(tmp_path / "run:1.txt"))


def test_an_identifier_is_an_external_artifact(catalog: Any) -> None:
    [artifact] = catalog.add_artifact(locator="hdl:11676/abc").record.artifacts
    assert (artifact.locator.kind, artifact.status) == ("uri", "external")


# --- export ---------------------------------------------------------------------------------------------------------


def test_a_folder_artifact_is_exported_with_its_bytes(catalog: Any, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    (folder / "in").mkdir(parents=True)
    (folder / "a.txt").write_text("1")
    (folder / "in" / "b.txt").write_text("2")
    catalog.add_file(folder)
    assert catalog.export_records(tmp_path / "r.ndjson", with_bytes=tmp_path / "out") == 1
    copied = {each.name: each.read_text() for each in (tmp_path / "out").rglob("*.txt")}
    assert copied == {"a.txt": "1", "b.txt": "2"}


def test_a_failed_export_leaves_no_file_in_the_way(catalog: Any, tmp_path: Path) -> None:
    added = catalog.add_bytes(b"1", filename="x.txt")
    catalog.path(added.id).unlink()
    for _ in range(2):
        with pytest.raises(cubeport.CubeportError) as caught:
            catalog.export_records(tmp_path / "r.ndjson", with_bytes=tmp_path / "out")
        assert not isinstance(caught.value, TargetExists)
    assert not (tmp_path / "r.ndjson").exists()


# --- edits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [[], None, ()])
def test_an_edit_clears_tags(catalog: Any, nothing: Any) -> None:
    added = catalog.add(tags=["a", "b"])
    changed = catalog.update(added.id, tags=nothing)
    assert (changed.tags, changed.version) == ((), 2)


def test_an_edge_is_removed(catalog: Any) -> None:
    one = catalog.add()
    two = catalog.add(lineage=[("uses", one.id)])
    assert catalog.update(two.id, unlink=[("uses", one.id)]).lineage == ()
    with pytest.raises(InvalidRequest, match="no edge"):
        catalog.update(two.id, unlink=[("uses", one.id)])


def test_the_advice_for_a_dangling_edge_works(catalog: Any) -> None:
    one = catalog.add()
    two = catalog.add(lineage=[("uses", one.id)])
    catalog.purge(one.id, force=True)
    [finding] = catalog.fsck().findings
    assert finding.next_step == f"cubeport edit {two.id} --unlink uses={one.id}"
    catalog.update(two.id, unlink=[("uses", one.id)])
    assert catalog.fsck().findings == ()


# --- logs -----------------------------------------------------------------------------------------------------------


def test_the_log_of_a_record_has_all_that_was_done_to_it(catalog: Any) -> None:
    catalog.hooks.register("before_record_commit", lambda context, payload: None, name="seen")
    added = catalog.add_bytes(b"x", filename="x.txt")
    other = catalog.add()
    catalog.update(added.id, title="t")
    catalog.delete(added.id)
    events = catalog.logs(record=added.id, limit=None).items
    done = [each["extra"]["operation_type"] for each in events if each["event"] == "operation.succeeded"]
    assert done == ["add", "update", "delete"]
    assert {"operation.started", "hook.succeeded"} <= {each["event"] for each in events}
    operations = {each["operation_id"] for each in events}
    assert not operations & {each["operation_id"] for each in catalog.logs(record=other.id).items}


def test_a_failed_add_is_in_the_log_of_its_record(catalog: Any) -> None:
    catalog.hooks.register("before_path_plan", lambda context, payload: 1 / 0, name="broken", required=True)
    with pytest.raises(HookFailed):
        catalog.add_bytes(b"x", id="a" * 32, filename="x.txt")
    levels = {(each["event"], each["level"]) for each in catalog.logs(record="a" * 32).items}
    assert ("operation.failed", "error") in levels


def test_an_import_is_in_the_log_of_each_record(catalog: Any, tmp_path: Path) -> None:
    ids = [catalog.add(title=str(n)).id for n in range(3)]
    lines = list(catalog.export_lines())
    with cubeport.Catalog.create(tmp_path / "other", plugins=False) as other:
        other.import_records(lines)
        assert all(other.logs(record=each, event="operation.succeeded").items for each in ids)
    assert isinstance(catalog.events, EventLog)


# --- unit of work ---------------------------------------------------------------------------------------------------


def test_the_end_of_a_unit_of_work_stores_what_was_written(catalog: Any) -> None:
    with catalog.unit_of_work() as uow:
        record = uow.plan_record(title="four lines")
        uow.write_artifact(uow.plan_artifact(record, filename="x.txt"), b"bytes")
        uow.add_record(record)
    assert catalog.path(catalog.one(text="four").id).read_bytes() == b"bytes"


def test_a_failure_at_the_end_is_raised_and_leaves_nothing(catalog: Any) -> None:
    catalog.add(id="b" * 32)

    def four_lines() -> None:
        with catalog.unit_of_work() as uow:
            record = uow.plan_record(id="b" * 32)
            uow.write_artifact(uow.plan_artifact(record, filename="x.txt"), b"bytes")
            uow.add_record(record)

    with pytest.raises(RecordExists):
        four_lines()
    assert [each for each in (catalog.root / "files").rglob("*") if each.is_file()] == []
    assert catalog.operations()[0].status == "rolled_back"
    assert catalog.doctor()[0].level == "ok"


# --- what is dropped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"title": "T"}, {"tags": ["q"]}, {"kind": "run"}, {"time": "2020"}, {"key": "k"}])
def test_an_artifact_of_a_record_does_not_drop_what_it_is_given(catalog: Any, said: dict[str, Any]) -> None:
    catalog.add(key="A")
    with pytest.raises(InvalidRequest, match=next(iter(said))):
        catalog.add_artifact(record="A", source=b"x", filename="s.sh", **said)


def test_metadata_with_an_artifact_of_a_record_is_the_artifacts(catalog: Any) -> None:
    catalog.add(key="A", metadata={"of": "record"})
    catalog.add_artifact({"page": 3}, record="A", source=b"x", filename="s.sh")
    record = catalog.get("A")
    assert (record.metadata, record.artifacts[0].metadata) == ({"of": "record"}, {"page": 3})


# --- hooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["before_record_validate", "before_record_commit", "after_record_validate"])
def test_a_hook_cannot_change_what_it_is_shown(catalog: Any, point: str) -> None:
    def sneaky(context: Any, payload: Any) -> None:
        for record in getattr(payload, "records", None) or [payload.record]:
            record.metadata["sneaky"] = 1
            record.metadata["deep"]["sneaky"] = 1

    catalog.hooks.register(point, sneaky, name="sneaky")
    assert catalog.add({"deep": {"a": 1}}).record.metadata == {"deep": {"a": 1}}


def test_a_rule_of_a_hook_holds_for_updates(catalog: Any) -> None:
    def refuse(context: Any, payload: Any) -> HookResult | None:
        if payload.record.metadata.get("site") == "bad":
            raise ValueError("bad site")
        return HookResult(tags_add=("seen",))

    catalog.hooks.register("before_record_validate", refuse, name="rule", required=True)
    added = catalog.add({"site": "good"})
    with pytest.raises(HookFailed):
        catalog.update(added.id, set={"site": "bad"})
    assert catalog.get(added.id).metadata == {"site": "good"}
    assert catalog.update(added.id, set={"n": 1}).tags == ("seen",)


# --- strict schemas at every door -----------------------------------------------------------------------------------


@pytest.fixture
def strict(tmp_path: Path) -> Any:
    root = tmp_path / "strict"
    cubeport.Catalog.create(root, plugins=False).close()
    with (root / ".cubeport" / "catalog.yaml").open("a") as file:
        file.write("schemas: {paper: {schema: site, policy: strict}}\n")
    with cubeport.Catalog.open(root, plugins=False) as opened:
        opened.register_schema("site", SITE)
        yield opened


def test_add_update_and_unit_of_work_are_held_to_the_schema(strict: Any) -> None:
    with pytest.raises(SchemaInvalid):
        strict.add(kind="paper")
    added = strict.add({"site": "x"}, kind="paper")
    with pytest.raises(SchemaInvalid):
        strict.update(added.id, unset=["site"])
    with pytest.raises(SchemaInvalid), strict.unit_of_work() as uow:
        uow.add_record(uow.plan_record(kind="paper"))
    with pytest.raises(UnknownSchema), strict.unit_of_work() as uow:
        uow.add_record(uow.plan_record(schema_name="nope", schema_version="1"))
    assert strict.count(statuses=None) == 1
    assert strict.verify(all=True, record=True) == []


def test_a_pipeline_is_held_to_the_schema(strict: Any, tmp_path: Path) -> None:
    folder = strict.root / "config" / "pipelines"
    folder.mkdir(parents=True)
    steps = "[plan-path, write-artifact, commit-record]"
    (folder / "p.yaml").write_text(f"operation: {{name: p, steps: {steps}, record: {{kind: paper}}}}\n")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(SchemaInvalid):
        strict.run("p", tmp_path / "x.txt")
    assert strict.count(statuses=None) == 0
    assert [each for each in (strict.root / "files").rglob("*") if each.is_file()] == []


def test_an_import_is_held_to_the_schema_unless_it_says_otherwise(strict: Any) -> None:
    line = cubeport.CatalogRecord(kind="paper").to_json()
    with pytest.raises(SchemaInvalid):
        strict.import_records([line])
    assert strict.count() == 0
    assert strict.import_records([line], schema_policy="off").added == 1


# --- texts and values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["🌍", "!!!", "", "   "])
def test_a_text_without_a_word_matches_nothing(catalog: Any, text: str) -> None:
    catalog.add(title="anything")
    assert list(catalog.search(text=text)) == []
    assert catalog.count(text=text) == 0


@pytest.mark.parametrize("term", ["x==1", "year>>2018", "year=>2018", "a!=!b"])
def test_a_doubled_operator_is_refused(term: str) -> None:
    with pytest.raises(InvalidFilter, match="once"):
        cubeport.Query(term)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda c: c.add([1]), "mapping"),
        (lambda c: c.search(limit="3"), "whole number"),
        (lambda c: c.add_bytes(io.StringIO("x")), "binary"),
        (lambda c: c.add_bytes("secret.txt"), "add_file"),
        (lambda c: c.get(3), "id, a key"),
    ],
)
def test_what_cannot_be_meant_is_said_in_words(catalog: Any, call: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        call(catalog)


def test_the_plan_of_an_added_artifact_is_where_it_is(catalog: Any) -> None:
    names = [catalog.add_bytes(b"x", title="same", filename="x.txt").plan.relative_path for _ in range(2)]
    assert len(set(names)) == 2
    assert all((catalog.root / "files" / name).is_file() for name in names)


@pytest.mark.parametrize(("title", "slug"), [("Große Straße", "grosse-strasse"), ("Ørsted Łódź æ", "orsted-lodz-ae")])
def test_letters_of_europe_are_spelled_in_names(catalog: Any, title: str, slug: str) -> None:
    assert catalog.add_bytes(b"x", title=title, filename="x.txt").plan.filename == f"{slug}.txt"


def test_a_view_reports_the_record_whose_field_is_empty(catalog: Any, tmp_path: Path) -> None:
    catalog.add_bytes(b"1", {"authors": ["a", "b"]}, title="list", filename="1.txt")
    catalog.add_bytes(b"2", {"authors": "c"}, title="text", filename="2.txt")
    plan = catalog.view(tmp_path / "view", "{metadata.authors}/{title_slug}{original_suffix}", apply=True)
    assert sorted(link.state for link in plan.links) == ["unsupported", "up-to-date"]
    assert (tmp_path / "view" / "c" / "text.txt").read_bytes() == b"2"


def test_doctor_warns_of_a_large_tinydb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubeport.catalog.keeping.doctor.TINYDB_RECORDS", 2)
    for kind in ("tinydb", "sqlite"):
        with cubeport.Catalog.create(tmp_path / kind, kind, plugins=False) as opened:
            for _ in range(3):
                opened.add()
            warned = [each for each in opened.doctor() if each.kind == "tinydb-size"]
            assert len(warned) == (kind == "tinydb")


def test_times_are_read_as_a_search_reads_them(catalog: Any) -> None:
    from datetime import date, datetime

    for time in ("2018-06", date(2018, 6, 1), datetime(2018, 6, 1), ("2018-06-01", "2018-07-01T00:00:00Z")):  # noqa: DTZ001
        added = catalog.add(time=time)
        assert json.loads(added.record.to_json())["time"]["start"] == "2018-06-01T00:00:00.000000Z"
