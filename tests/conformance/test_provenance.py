"""RO-Crates and OpenLineage events in the libraries of those who made the standards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conformance.conftest import Clients

import cubeport

pytestmark = pytest.mark.conformance


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[cubeport.Catalog]:
    with cubeport.Catalog.create(tmp_path / "instance", user_id="ana", plugins=False) as opened:
        raw = opened.add_bytes(
            b"raw", {"station": "MHD"}, title="Raw", filename="My raw.csv", time="2018", bbox=(-10, 40, 30, 60)
        ).record
        opened.add_bytes(b"std", title="Standard", filename="s.csv", lineage=[("derived_from", raw)])
        opened.add_artifact(locator="https://example.org/x.nc", title="There")
        yield opened


def test_the_ro_crate_library_reads_a_crate_and_writes_it_again(
    clients: Clients, catalog: cubeport.Catalog, tmp_path: Path
) -> None:
    catalog.export_crate(tmp_path / "crate", name="A crate", license="https://example.org/l")
    script = """
import json, sys
from rocrate.rocrate import ROCrate
crate = ROCrate(sys.argv[1])
crate.write(sys.argv[2])
again = ROCrate(sys.argv[2])
print(json.dumps({
    "name": again.name, "license": str(again.license),
    "datasets": sorted(each["name"] for each in again.get_by_type("Dataset") if each.id != "./"),
    "files": sorted((each["name"], each["sha256"]) for each in again.get_by_type("File") if "://" not in each.id),
    "actions": sorted(each["name"] for each in again.get_by_type("CreateAction")),
    "based_on": [other.id for each in again.get_by_type("Dataset") for other in each.get("isBasedOn") or []],
}))
"""
    done = clients.python(script, str(tmp_path / "crate"), str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    records = {each.title: each for each in catalog.iterate()}
    assert (found["name"], found["license"]) == ("A crate", "https://example.org/l")
    assert found["datasets"] == ["Raw", "Standard", "There"]
    wanted = {each.original_name: each.hashes["sha256"] for title in ("Raw", "Standard") for each in records[title].artifacts}
    assert dict(found["files"]) == wanted
    assert len(found["actions"]) == 3
    assert found["based_on"] == [f"{records['Raw'].id}/"]
    copies = sorted(each.read_bytes() for each in (tmp_path / "again").rglob("*.csv"))
    assert copies == [b"raw", b"std"]


def test_the_client_of_openlineage_takes_each_run_event(clients: Clients, catalog: cubeport.Catalog, tmp_path: Path) -> None:
    events = list(catalog.run_events())
    (tmp_path / "events.json").write_text(json.dumps(events))
    script = """
import json, sys
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.serde import Serde
found = []
for each in json.load(open(sys.argv[1])):
    event = RunEvent(
        eventType=RunState(each["eventType"]), eventTime=each["eventTime"], producer=each["producer"],
        run=Run(runId=each["run"]["runId"]), job=Job(namespace=each["job"]["namespace"], name=each["job"]["name"]),
        inputs=[InputDataset(namespace=i["namespace"], name=i["name"]) for i in each.get("inputs", [])],
        outputs=[OutputDataset(namespace=o["namespace"], name=o["name"]) for o in each.get("outputs", [])],
    )
    said = Serde.to_dict(event)
    spec = [each["schemaURL"].rpartition("/spec/")[2] for each in (said, each)]
    assert spec[0] == spec[1], spec
    found.append([said["eventType"], said["run"]["runId"], said["eventTime"]])
print(json.dumps(found))
"""
    done = clients.python(script, str(tmp_path / "events.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[each["eventType"], each["run"]["runId"], each["eventTime"]] for each in events]
    assert [each["eventType"] for each in events].count("COMPLETE") == 3
