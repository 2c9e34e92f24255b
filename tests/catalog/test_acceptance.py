"""What the plan asks for, as it is written there; ``docs/core/coming-from.md`` says what differs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.cli.conftest import Shell, shell  # noqa: F401 - a fixture

import cubeport
from cubeport import normalise_locator

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[cubeport.Catalog]:
    with cubeport.Catalog.create(tmp_path / "catalog") as opened:
        yield opened


class Paper(BaseModel):
    title: str
    year: int


def test_the_four_lines_of_a_unit_of_work(catalog: cubeport.Catalog) -> None:
    with catalog.unit_of_work(operation_type="add", user_id=None) as uow:
        record = uow.plan_record(kind="document", title="x")
        artifact = uow.plan_artifact(record, filename="x.txt")
        uow.write_artifact(artifact, b"...")
        uow.add_record(record)
    assert catalog.get(record.id).path().read_bytes() == b"..."
    with catalog.unit_of_work(operation_type="add") as uow:
        uow.add_record(uow.plan_record(title="committed by hand"))
        uow.commit()
    assert catalog.count() == 2


def test_add_with_the_name_of_a_schema_and_validate_a_record(catalog: cubeport.Catalog) -> None:
    catalog.register_schema("paper", Paper)
    record = catalog.add({"title": "Notes", "year": 1843}, schema_name="paper").record
    assert catalog.validate(record).valid
    assert not catalog.validate(record.replace(metadata={"title": "Notes"})).valid
    assert [each.title for each in catalog.search("year:1843")] == [record.title]


def test_where_the_bytes_of_a_record_are(catalog: cubeport.Catalog) -> None:
    record = catalog.add_bytes(b"1", filename="a.txt").record
    assert record.path().read_bytes() == b"1"
    assert catalog.get(record.id).path() == record.path()
    more = catalog.add_artifact(record=record, source=b"2", filename="b.txt", role="log")  # `catalog.append` elsewhere
    assert more.record.path("log").read_bytes() == b"2"
    assert "catalog.append" in (ROOT / "docs" / "core" / "coming-from.md").read_text()


def test_locators_by_their_kind() -> None:
    assert normalise_locator({"kind": "planned_path", "value": "a/b"}).kind == "planned"
    assert normalise_locator({"kind": "local_path", "value": "/a/b"}).kind == "path"
    assert normalise_locator({"kind": "external_uri", "value": "https://example.org/x"}).kind == "uri"
    assert normalise_locator({"kind": "fsspec_url", "value": "s3://bucket/x"}).kind == "urlpath"
    assert normalise_locator("hdl:11676/abc").kind == "uri"
    assert normalise_locator("ark:/12025/654xz321").kind == "uri"


def test_the_commands(shell: Shell) -> None:  # noqa: F811
    shell.ok("schema", "import", "paper", shell.file("paper.json", json.dumps(Paper.model_json_schema())))
    shell.file("one.csv", "a,b\n1,2\n")
    shell.ok("import", "*.csv", "--schema", "paper", "--meta", "title=One", "--meta", "year=2020")
    (record,) = shell.ok("search", "schema_name=paper", "--json").json["items"]
    shell.file("record.json", shell.ok("show", record["id"], "--json").out)
    assert shell.ok("validate", "--file", "record.json").code == 0
    assert shell.ok("extract-metadata", "one.csv", "--json").json["metadata"]["file"]["media_type"] == "text/csv"
    assert shell("search", "--count").out == "1\n"
    events = shell.ok("logs", "--record", record["id"][:8], "--json").json["items"]
    assert {"operation.succeeded"} <= {each["event"] for each in events}
    # `cubeport ingest GLOB` publishes datasets here; records of files come by `import`, and the refusal says so.
    refused = shell("ingest", "one.csv", "--schema", "paper")
    assert (refused.code, "next: cubeport import --help" in refused.err) == (2, True)
    assert "cubeport import" in (ROOT / "docs" / "core" / "coming-from.md").read_text()


def test_the_users_name_in_a_profile(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("USER", "ana")
    shell.file("config/profiles.yaml", "profiles:\n  default: {root: ./files}\n  scratch: {root: ./scratch/$USER}\n")
    (shell.root / "scratch" / "ana").mkdir(parents=True)
    record = shell.add(shell.file("x.txt"), "--profile", "scratch")
    assert shell.ok("path", record.id).out.startswith(str(shell.root / "scratch" / "ana"))


def test_the_extras_of_the_plan() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"netcdf", "zarr", "fetch", "s3", "grib", "client", "service", "all", "dev"} <= set(extras)


def test_a_planned_record_can_come_from_another_of_the_same_unit_of_work(catalog: cubeport.Catalog) -> None:
    with catalog.unit_of_work("derive") as work:
        raw = work.plan_record(title="raw")
        mean = work.plan_record(title="mean", lineage=[{"rel": "derived_from", "target": raw.id}])
        work.add_record(raw)
        work.add_record(mean)
    assert [each.target for each in catalog.get(mean.id).lineage] == [raw.id]
