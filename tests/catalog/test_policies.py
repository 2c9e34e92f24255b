"""Policies in ``catalog.yaml``: required metadata, and how long records are kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cubeport
from cubeport.errors import InvalidConfiguration, SchemaInvalid


def opened(root: Path, policies: str) -> Any:
    if not root.exists():
        cubeport.Catalog.create(root, plugins=False).close()
    with (root / ".cubeport" / "catalog.yaml").open("a") as file:
        file.write(policies)
    return cubeport.Catalog.open(root, plugins=False)


def test_required_fields_hold_at_every_door(tmp_path: Path) -> None:
    rule = "schemas: {report: {required: [title, site, instrument.id], policy: strict}}\n"
    with opened(tmp_path / "instance", rule) as catalog:
        with pytest.raises(SchemaInvalid) as refused:
            catalog.add({"site": ""}, kind="report")
        assert [each.loc for each in refused.value.errors] == [("title",), ("metadata", "site"), ("metadata", "instrument", "id")]
        catalog.add({"anything": 1}, kind="note")
        whole = {"site": "Oslo", "instrument": {"id": 7}}
        record = catalog.add(whole, kind="report", title="A visit").record
        assert catalog.validate(record).valid
        with pytest.raises(SchemaInvalid, match=r"metadata\.site: is missing"):
            catalog.update(record, unset=["site"])
        with pytest.raises(SchemaInvalid), catalog.unit_of_work("add") as work:
            work.add_record(work.plan_record(kind="report", title="Another"))
        with pytest.raises(SchemaInvalid):
            catalog.import_records(record.replace(id="a" * 32, title=None).to_json())
        assert catalog.count(kinds={"report"}) == 1
        assert catalog.add({}, kind="report", schema_policy="warn").warnings


def test_a_required_field_is_told_once_with_a_schema_that_demands_it_too(tmp_path: Path) -> None:
    with opened(tmp_path / "instance", "schemas: {report: {schema: report, required: [site]}}\n") as catalog:
        catalog.register_schema("report", {"type": "object", "required": ["site", "year"]})
        issues = catalog.validate(catalog.add({}, kind="report").record).errors
        assert [(each.path, each.code) for each in issues] == [("metadata.site", "required"), ("metadata.year", "required")]


@pytest.mark.parametrize(
    "policy", ["schemas: {report: {required: ['a..b']}}", "retention: {kinds: {dataset: {delete_days: 1}}}", "retention: {days: 1}"]
)
def test_a_policy_that_cannot_act_is_refused(tmp_path: Path, policy: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"catalog\.yaml:\d"):
        opened(tmp_path / "instance", f"{policy}\n")


def test_what_is_kept_no_longer_is_deleted_then_purged(tmp_path: Path) -> None:
    rule = "retention: {purge_deleted_days: 30, kinds: {preview: {delete_days: 90}}}\n"
    with opened(tmp_path / "instance", rule) as catalog:
        preview = catalog.add_bytes(b"picture", kind="preview", filename="a.png").record
        paper = catalog.add(kind="paper").record
        bytes_at = catalog.path(preview)
        pointed = catalog.add(kind="preview").record
        catalog.add(kind="paper", lineage=[("derived_from", pointed)])
        assert catalog.retain() == [], "nothing is old"

        def after(days: float) -> None:
            catalog.ports = replace(catalog.ports, clock=lambda: datetime.now(UTC) + timedelta(days=days))

        after(89)
        assert catalog.retain() == []
        after(91)
        assert {each.kind for each in catalog.retain(dry_run=True)} == {"delete-record"}
        assert catalog.get(preview).status == "active", "a dry run changes nothing"
        assert sorted(each.path for each in catalog.retain()) == sorted([preview.id, pointed.id])
        assert catalog.get(preview).status == "deleted"
        assert catalog.get(paper).status == "active"
        assert bytes_at.exists()
        after(91 + 31)
        purged = {each.path: each for each in catalog.retain()}
        assert purged[preview.id].removed
        assert purged[preview.id].size_bytes == 7
        assert not bytes_at.exists()
        assert not purged[pointed.id].removed
        assert "kept, as 1 record" in purged[pointed.id].reason
        assert catalog.get(pointed).status == "deleted"
        assert [each.operation_type for each in catalog.operations(limit=1)] == ["purge"]
