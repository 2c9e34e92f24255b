"""A table as a job of the instance: it is listed and cancelled like every other job, and survives the death of its server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import shapely
from shapely.geometry import mapping
from tests.families import FAMILIES

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli, start, stop

BODY = {"inputs": {"dataset": "regular", "period": "as-stored", "statistic": ["mean", "max"]}}
ZONES = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "id": "a", "properties": {"name": "A"}, "geometry": mapping(shapely.box(-20, -30, 40, 30))},
        {"type": "Feature", "id": "b", "properties": {"name": "B"}, "geometry": mapping(shapely.box(-150, 0, -100, 60))},
    ],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "instance"
    assert cli("init", root).returncode == 0
    with cubeport.connect(root) as service:
        file = FAMILIES["regular"].write(tmp_path, "regular")
        done = service.ingest_here(IngestionRequest(dataset_id="regular"), FileOptions(files=(str(file),)))
        assert done.status == "completed"
    return root


def order(client: httpx.Client) -> httpx.Response:
    body = {"inputs": {**BODY["inputs"], "zones": {"value": ZONES, "mediaType": "application/geo+json"}}}
    answer = client.post("/ogcapi/processes/zonal-statistics/execution", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 201, answer.text
    return answer


def listed(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cli("jobs", "--instance", root, "--json").stdout)["items"]
    return found


@pytest.mark.slow
def test_a_table_is_a_job_like_others_and_survives_its_server(root: Path) -> None:
    server, url = start(root, "--no-jobs")  # it accepts jobs and runs none
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        kept, given_up = (order(client).json()["jobID"] for _ in range(2))
    assert {each["ingestion_id"]: (each["kind"], each["action"], each["status"]) for each in listed(root)[:2]} == {
        kept: ("table", "table", "accepted"),
        given_up: ("table", "table", "accepted"),
    }
    said = cli("jobs", given_up[:8], "--cancel", "--instance", root)
    assert said.returncode == 0, said.stderr
    assert {"table", "cancelled"} <= set(said.stdout.split())
    assert "asked for" not in said.stdout, "a table has no periods of its own"
    server.kill()
    server.communicate()
    server, url = start(root)
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            until = time.monotonic() + 60
            while (status := client.get(f"/ogcapi/jobs/{kept}").json())["status"] != "successful":
                assert time.monotonic() < until, status
                time.sleep(0.1)
            table = client.get(f"/ogcapi/jobs/{kept}/results").text
            params = {"statistic": "mean,max"}
            at_once = client.post("/datasets/regular/table", params=params, json=ZONES)
            assert table == at_once.text
            assert len(table.splitlines()) == 1 + 2 * 2 * 3
            assert client.get(f"/ogcapi/jobs/{given_up}").json()["status"] == "dismissed"
        told = {each["ingestion_id"]: each["status"] for each in listed(root)}
        assert (told[kept], told[given_up]) == ("completed", "cancelled")
        assert f"/ogcapi/jobs/{kept}/results" in cli("jobs", kept[:8], "--instance", root).stdout
        again = json.loads(cli("jobs", given_up[:8], "--retry", "--instance", root, "--json").stdout)
        assert (again["ingestion_id"], again["status"]) == (given_up, "accepted")
    finally:
        stop(server)
