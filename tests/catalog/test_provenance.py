"""Provenance in the words of others: RO-Crate 1.1 and OpenLineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest

import cubeport
from cubeport.errors import TargetExists


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    with cubeport.Catalog.create(tmp_path / "instance", user_id="ana", plugins=False) as opened:
        yield opened


@pytest.fixture
def crate(catalog: Any, tmp_path: Path) -> dict[str, Any]:
    """Export a raw record, one that derives from it, and an external one; return the entities by id."""
    raw = catalog.add_bytes(
        b"raw", {"station": "MHD", "deep": {"a": 1}}, title="Raw", filename="My raw.csv", time="2018", bbox=[-10, 40, 30, 60]
    )
    catalog.add_bytes(b"std", title="Standard", filename="s.csv", lineage=[("derived_from", raw)])
    catalog.add_artifact(locator="https://example.org/x.nc", title="There")
    assert catalog.export_crate(tmp_path / "crate", name="A crate", license="https://example.org/l") == 3
    document = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_text())
    assert document["@context"] == "https://w3id.org/ro/crate/1.1/context"
    entities = {each["@id"]: each for each in document["@graph"]}
    assert len(entities) == len(document["@graph"])
    return entities


def named(crate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in crate.values() if each.get("name") == name and each["@type"] == "Dataset")


def test_the_descriptor_and_the_root_are_as_the_standard_wants(crate: dict[str, Any]) -> None:
    descriptor, root = crate["ro-crate-metadata.json"], crate["./"]
    assert (descriptor["@type"], descriptor["about"]) == ("CreativeWork", {"@id": "./"})
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    assert len(root["hasPart"]) == 3


def test_every_reference_inside_the_crate_leads_somewhere(crate: dict[str, Any]) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            found = [value["@id"]] if set(value) == {"@id"} else []
            return found + [each for inner in value.values() for each in references(inner)]
        return [each for inner in value for each in references(inner)] if isinstance(value, list) else []

    inside = [each for entity in crate.values() for each in references(entity) if "://" not in each]
    assert set(inside) - crate.keys() == set()


def test_files_are_in_the_crate_with_their_names_and_hashes(crate: dict[str, Any], tmp_path: Path) -> None:
    files = [each for each in crate.values() if each["@type"] == "File"]
    local = [each for each in files if "://" not in each["@id"]]
    assert sorted(each["name"] for each in files) == ["My raw.csv", "s.csv", "x.nc"]
    assert all((tmp_path / "crate" / unquote(each["@id"])).is_file() for each in local)
    assert all(" " not in each["@id"] for each in files)
    folders = [each["@id"] for each in crate.values() if each["@type"] == "Dataset" and each["@id"] != "./"]
    assert len(folders) == 3
    assert all((tmp_path / "crate" / each).is_dir() for each in folders), "also the folder of a record without bytes here"
    assert all(len(each["sha256"]) == 64 and each["contentSize"] == "3" for each in local)


def test_a_record_is_a_dataset_with_time_place_metadata_and_lineage(crate: dict[str, Any]) -> None:
    raw, standard = named(crate, "Raw"), named(crate, "Standard")
    assert raw["temporalCoverage"].startswith("2018-01-01T00:00:00.000000Z/2018-12-31T")
    assert crate[crate[raw["spatialCoverage"]["@id"]]["geo"]["@id"]]["box"] == "40.0 -10.0 60.0 30.0"
    properties = {crate[each["@id"]]["name"]: crate[each["@id"]]["value"] for each in raw["additionalProperty"]}
    assert properties == {"station": "MHD", "deep": '{"a":1}'}
    assert standard["isBasedOn"] == [{"@id": raw["@id"]}]


def test_an_operation_is_an_action_of_a_person(crate: dict[str, Any]) -> None:
    actions = [each for each in crate.values() if each["@type"] == "CreateAction"]
    assert len(actions) == 3
    assert all(each["agent"] == {"@id": "#user-ana"} and each["result"] for each in actions)
    assert crate["#user-ana"]["name"] == "ana"


def test_a_crate_is_not_written_over(catalog: Any, crate: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TargetExists):
        catalog.export_crate(tmp_path / "crate", name="again")


def test_operations_are_runs(catalog: Any) -> None:
    one = catalog.add(title="x")
    with pytest.raises(cubeport.CubeportError):
        catalog.add_bytes(b"x", hashes={"sha256": "0" * 64}, filename="x.txt")
    events = list(catalog.run_events())
    assert [each["eventType"] for each in events] == ["START", "COMPLETE", "START", "ABORT"]
    assert {"run", "job", "eventTime", "producer", "schemaURL"} <= events[0].keys()
    assert UUID(events[0]["run"]["runId"]).hex == events[1]["run"]["runId"].replace("-", "")
    assert events[1]["outputs"] == [{"namespace": f"cubeport://{catalog.catalog_id}", "name": one.id}]
    assert "sha256" in events[3]["run"]["facets"]["errorMessage"]["message"]


def test_a_catalog_alone_has_no_service_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cubeport.main.run(["init", "--core"]) == 0
    assert sorted(each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if ".cubeport" not in each.parts) == [
        "config",
        "config/profiles.yaml",
        "files",
    ]
