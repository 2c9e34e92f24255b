"""Lists by what changed when and by kind, and syncs with the choices of an ingestion, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

from .conftest import here, start, stop


def day(folder: Path, n: int) -> None:
    coords = {
        "time": ("time", [n], {"units": "days since 2024-01-01", "standard_name": "time"}),
        "lat": ("lat", [10.0, 20.0], {"units": "degrees_north"}),
        "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"}),
    }
    cube = xr.Dataset({"t": (("time", "lat", "lon"), np.full((1, 2, 2), n, "f4"), {"units": "K"})}, coords)
    cube.to_netcdf(folder / f"sst_2024010{n + 1}.nc")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "files").mkdir()
    assert here("init", folder / "i", "--allow-root", folder / "files").returncode == 0
    (folder / "i" / "config" / "datasets" / "sst.yaml").write_text(
        f"id: sst\ntitle: Sea surface temperature\nperiod_type: daily\n"
        f"source: {{kind: files, paths: '{folder}/files/sst_{{YYYY}}{{MM}}{{DD}}.nc'}}\nsync: {{kind: temporal}}\n"
    )
    day(folder / "files", 0)
    process, url = start(folder / "i")
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        yield client, folder / "files"
    stop(process)


def test_lists_by_time_and_kind_and_a_sync_with_a_copy(site: tuple[httpx.Client, Path]) -> None:
    client, files = site

    def ids(**query: Any) -> list[str]:
        answer = client.get("/datasets", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.json().get("number_matched", len(answer.json()["items"])) == len(answer.json()["items"])
        return [each["dataset_id"] for each in answer.json()["items"]]

    began = datetime.now(UTC)
    body = {"dataset_id": "own", "source": f"{files}/sst_20240101.nc", "template": {"period_type": "daily"}}
    assert client.post("/ingestions", json=body).json()["status"] == "completed"
    between = datetime.now(UTC)
    made = client.post("/ingestions", json={"dataset_id": "sst", "start": "2024-01-01"})
    assert made.json()["status"] == "completed", made.text
    after = datetime.now(UTC)

    assert ids(updated_since=began.isoformat(), count=True) == ["own", "sst"]
    assert ids(updated_since=between.isoformat(), count=True) == ["sst"]
    assert ids(updated_since=after.isoformat()) == []
    assert ids(updated_since=began.date().isoformat()) == ["own", "sst"]
    assert client.patch("/datasets/own", json={"title": "Other"}).status_code == 200
    assert ids(updated_since=after.isoformat()) == ["own"], "a new text is a change"
    refused = client.get("/datasets", params={"updated_since": "yesterday", "limit": 0})
    assert [each["loc"][1] for each in refused.json()["errors"]] == ["updated_since", "limit"]

    day(files, 1)
    wrong = client.post("/sync/sst", json={"on_overlap": "maybe", "prefer_zarr": 3})
    assert [each["loc"][1] for each in wrong.json()["errors"]] == ["prefer_zarr", "on_overlap"]
    synced = client.post("/sync/sst", json={"prefer_zarr": False, "on_overlap": "skip"})
    assert (synced.status_code, synced.json()["status"]) == (200, "completed"), synced.text
    [newest, oldest] = client.get("/datasets/sst/versions").json()["items"]
    assert [each["format"] for each in newest["copies"]] == ["netcdf"]
    assert oldest["copies"] == []

    assert client.get("/sync/own/plan", params={"end": ""}).json()["reason"] == "no_template"
    for dataset_id in ("own", "sst"):
        refused = client.get(f"/sync/{dataset_id}/plan", params={"end": "2024-13"})
        assert (refused.status_code, refused.json()["kind"]) == (400, "invalid-period"), refused.text

    def listed(**query: Any) -> list[tuple[str, str]]:
        answer = client.get("/ingestions", params=query)
        assert answer.status_code == 200, answer.text
        return [(each["kind"], each["dataset_id"]) for each in answer.json()["items"]]

    assert listed() == [("sync", "sst"), ("ingestion", "sst"), ("ingestion", "own")]
    assert listed(kind="sync") == [("sync", "sst")]
    assert listed(kind="ingestion", since=between.isoformat()) == [("ingestion", "sst")]
    assert listed(since=datetime.now(UTC).isoformat()) == []
    first = client.get("/ingestions", params={"kind": "ingestion", "limit": 1}).json()
    [following] = [each["href"] for each in first["links"] if each["rel"] == "next"]
    second = client.get(following).json()
    assert [each["dataset_id"] for each in (*first["items"], *second["items"])] == ["sst", "own"]
    assert client.get("/ingestions", params={"kind": "table"}).status_code == 400
