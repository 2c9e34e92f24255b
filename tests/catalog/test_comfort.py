"""What a user of Python expects of a catalog: records that know their bytes, searches by name, tables, one place of names."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import cubeport
from cubeport.errors import InvalidRequest, RecordNotFound, SchemaInvalid, UnknownSchema

SITE = {"type": "object", "required": ["site"], "properties": {"site": {"type": "string"}}}


@pytest.fixture(params=["sqlite", "tinydb"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with cubeport.Catalog.create(tmp_path / "instance", request.param, user_id="ana", plugins=False) as opened:
        yield opened


def test_a_record_knows_its_path_wherever_it_comes_from(catalog: Any) -> None:
    added = catalog.add_bytes(b"bytes", title="T", filename="x.txt")
    [found] = catalog.search(text="t")
    for record in (added, added.record, catalog.get(added.id), found, next(catalog.iterate()), catalog.one()):
        assert record.path().read_bytes() == b"bytes"
        assert record.title == "T"
        with record.open() as reading:
            assert reading.read() == b"bytes"
    changed = catalog.update(added, title="U")
    assert changed.path() == added.path()


def test_what_a_record_knows_is_no_part_of_it(catalog: Any) -> None:
    added = catalog.add_bytes(b"bytes", filename="x.txt")
    bound = catalog.get(added.id)
    plain = cubeport.CatalogRecord.from_mapping(bound.to_mapping())
    assert bound == plain
    assert bound.to_json() == plain.to_json()
    for other in (pickle.loads(pickle.dumps(bound)), plain):
        assert other == bound
        with pytest.raises(InvalidRequest, match="open catalog"):
            other.path()
    assert copy.deepcopy(bound).path() == bound.path()


def test_artifacts_are_opened_by_their_format(catalog: Any, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    xr.Dataset({"t": ("x", [1.0, 2.0])}).to_netcdf(tmp_path / "a.nc")
    with catalog.add_file(tmp_path / "a.nc").open() as opened:
        assert opened["t"].values.tolist() == [1.0, 2.0]
    assert catalog.add_bytes(b"a,b\n1,2\n", filename="t.csv").open()["b"].tolist() == [2]
    assert catalog.add_bytes(b'{"a": [1]}', filename="t.json").open() == {"a": [1]}
    with catalog.add_bytes(b"text", filename="t.txt").open() as reading:
        assert reading.read() == b"text"


def test_records_are_taken_where_ids_are(catalog: Any, tmp_path: Path) -> None:
    one, two = catalog.add_bytes(b"1", filename="1.txt"), catalog.add()
    catalog.add_artifact(record=two, source=b"2", filename="2.txt")
    linked = catalog.update(two.record, link=[("uses", one)])
    assert linked.lineage[0].target == one.id
    assert catalog.path(one.record) == catalog.path(one.id)
    assert [each.record_id for each in catalog.verify(one, two)] == [one.id, two.id]
    assert catalog.lineage(one, direction="down").root == one.id
    catalog.delete(two)
    assert catalog.restore(two).status == "active"


def test_a_search_by_names_and_by_a_mapping(catalog: Any) -> None:
    oslo = catalog.add({"site": "Oslo", "year": 2018, "station": {"id": 7}}, kind="run")
    catalog.add({"site": "Rome", "year": 2018})
    assert [each.id for each in catalog.search(site="Oslo", year=2018)] == [oslo.id]
    assert [each.id for each in catalog.search({"station.id": 7})] == [oslo.id]
    assert catalog.count(site=["Oslo", "Rome"]) == 2
    assert catalog.one({"kind": "run"}, site="Oslo").id == oslo.id
    with pytest.raises(InvalidRequest, match="a mapping"):
        catalog.search(3)


def test_records_as_a_table(catalog: Any) -> None:
    pytest.importorskip("pandas")
    assert catalog.to_dataframe().empty
    catalog.add({"site": "Oslo", "n": 1}, title="a", tags=["x"])
    catalog.add({"site": "Rome"}, title="b")
    frame = catalog.to_dataframe(order=("title",))
    assert frame["title"].tolist() == ["a", "b"]
    assert frame["metadata.site"].tolist() == ["Oslo", "Rome"]
    assert frame.index.name == "id"
    assert len(catalog.search(site="Oslo").to_dataframe()) == 1


def test_open_or_create(tmp_path: Path) -> None:
    with cubeport.Catalog.open_or_create(tmp_path / "c", plugins=False) as made:
        made.add(title="x")
    with cubeport.Catalog.open_or_create(tmp_path / "c", plugins=False) as again:
        assert again.one().title == "x"


def test_names_have_one_place() -> None:
    for name in ("Catalog", "CatalogRecord", "HookResult", "Extracted", "BackendContract", "CubeportError", "Schema", "UnitOfWork"):
        assert getattr(cubeport, name).__name__ == name


def test_reprs_are_short(catalog: Any) -> None:
    catalog.add(title="a")
    assert str(catalog.root) in repr(catalog)
    assert repr(catalog.search()).startswith("<Page of 1 records: ")


def test_a_schema_by_its_name_alone_is_the_newest(catalog: Any) -> None:
    catalog.register_schema("site", SITE)
    catalog.register_schema("site", {**SITE, "title": "newer"}, "2")
    added = catalog.add({"site": "x"}, schema_name="site")
    assert (added.record.schema_name, added.record.schema_version) == ("site", "2")
    with pytest.raises(UnknownSchema):
        catalog.add(schema_name="nope")
    with pytest.raises(SchemaInvalid):
        catalog.add(schema_name="site", schema_policy="strict")


def test_a_record_is_validated_as_it_is_given(catalog: Any) -> None:
    catalog.register_schema("site", SITE)
    record = catalog.add({"site": "x"}, schema_name="site").record
    assert catalog.validate(record).valid
    assert not catalog.validate(record.replace(metadata={})).valid
    assert list(catalog.validate(record.id)) == [record.id]


def test_metadata_of_a_path_are_read_and_not_stored(catalog: Any, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    found = catalog.read_metadata(tmp_path / "x.txt")
    assert found.metadata["file"]["size_bytes"] == 5
    assert catalog.count() == 0
    assert json.loads(json.dumps(found.to_mapping()))["source"].endswith("x.txt")


def test_a_planned_record_is_said_as_an_added_one(catalog) -> None:
    """Pairs of lineage, keys, times as text, the newest schema; and the artifact keeps its name."""
    catalog.add(key="run:1", title="source")
    catalog.register_schema("s", {"type": "object"})
    with catalog.unit_of_work("ingest") as work:
        record = work.plan_record(key="k", time="2018-06", lineage=[("derived_from", "run:1")], schema_name="s")
        work.write_artifact(work.plan_artifact(record, filename="a b.txt"), b"x")
        work.add_record(record)
    found = catalog.get("k")
    assert found.lineage[0].target == catalog.get("run:1").id
    assert (found.time.start.month, found.time.end.day, found.schema_version) == (6, 30, "1")
    assert (found.artifacts[0].original_name, found.artifacts[0].format, found.artifacts[0].media_type) == (
        "a b.txt",
        "text",
        "text/plain",
    )


def test_what_is_shown_of_a_value_fits_on_a_line(catalog) -> None:
    """In a notebook one sees which record it is; its whole document is ``to_json``."""
    added = catalog.add_bytes(b"x", {"deep": list(range(500))}, filename="x.txt", key="k", title="T")
    short = added.id[:8]
    assert repr(added) == f"<Added added: <CatalogRecord {short} document key='k' title='T' (version 1, 1 artifact)>>"
    assert str(catalog.delete("k")) == f"<CatalogRecord {short} document key='k' title='T' (version 2 deleted, 1 artifact)>"
    assert repr(catalog.lineage(added)) == f"<LineageGraph of {short}: 0 edges, 1 records>"
    events = catalog.logs(record=added.id)
    assert repr(events) == f"<EventPage of {len(events)} events>"
    assert len(list(events)) == len(events.items) > 0


def test_events_of_a_record_are_found_by_whatever_names_it(catalog) -> None:
    """By its key nothing was found, without a word."""
    added = catalog.add({"a": 1}, key="run:1")
    expected = list(catalog.logs(record=added.id))
    assert expected
    for name in ("run:1", added.id[:8], added, catalog.get("run:1")):
        assert list(catalog.logs(record=name)) == expected
    with pytest.raises(RecordNotFound):
        catalog.logs(record="run:2")
    catalog.delete("run:1")
    catalog.purge(added.id)
    assert len(list(catalog.logs(record=added.id))) > len(expected)
