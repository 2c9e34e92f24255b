"""``/metrics`` of a real server, read by Prometheus' own parser, says what was done to it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import xarray as xr
from prometheus_client.parser import text_string_to_metric_families

from .conftest import CUBEPORT, start, stop

type Metrics = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("metrics")
    lat, lon = (("lat", np.arange(4.0), {"units": "degrees_north"}), ("lon", np.arange(5.0), {"units": "degrees_east"}))
    xr.Dataset({"t": (("lat", "lon"), np.ones((4, 5), "f4"), {"units": "K"})}, {"lat": lat, "lon": lon}).to_netcdf(
        folder / "good.nc"
    )
    (folder / "bad.nc").write_bytes(b"CDF\x01")
    subprocess.run([*CUBEPORT, "init", str(folder / "i"), "--allow-root", str(folder)], check=True, capture_output=True)
    command = [sys.executable, "-m", "cubeport", "serve", "--port", "0", "--instance", str(folder / "i")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        url = next(found.group() for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with httpx.Client(base_url=url, timeout=60, trust_env=False, headers={"Accept-Encoding": "identity"}) as asking:
            for dataset_id in ("good", "bad"):
                asking.post("/ingestions", json={"dataset_id": dataset_id, "source": str(folder / f"{dataset_id}.nc")})
            yield asking
        process.terminate()


def measured(client: httpx.Client) -> Metrics:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = list(text_string_to_metric_families(answer.text))
    assert len({each.name for each in families}) == len(families)
    assert all(each.documentation and each.type in ("counter", "gauge", "histogram") for each in families)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(metrics: Metrics, name: str, /, **labels: str) -> float:
    return metrics[name, frozenset(labels.items())]


def test_ingestions_are_counted_by_outcome(client: httpx.Client) -> None:
    metrics = measured(client)
    assert value(metrics, "cubeport_ingestions_total", outcome="completed") == 1
    assert value(metrics, "cubeport_ingestions_total", outcome="failed") == 1
    assert value(metrics, "cubeport_ingestions_total", outcome="cancelled") == 0
    assert [value(metrics, "cubeport_jobs", status=each) for each in ("accepted", "running", "retrying")] == [0, 0, 0]
    assert value(metrics, "cubeport_open_units_of_work") == 0
    assert value(metrics, "cubeport_gate_children") == 0
    assert value(metrics, "cubeport_gate_children_limit") >= 1
    assert value(metrics, "cubeport_catalog_generation") >= 1
    assert value(metrics, "cubeport_disk_free_bytes") > 1e6
    assert value(metrics, "process_cpu_seconds_total") > 0
    assert {value(metrics, "cubeport_check", name=each) for each in ("catalog", "storage", "jobs", "space")} == {1}


def test_what_is_answered_and_kept_is_counted(client: httpx.Client) -> None:
    before = measured(client)
    path = "/ogcapi/collections/good/coverage?f=csv"
    size = len(client.get(path).content)
    first = measured(client)
    route = "/ogcapi/collections/{collection_id}/coverage"
    labels = {"face": "ogcapi", "route": route}
    assert value(first, "cubeport_response_bytes_total", **labels) == size
    assert value(first, "cubeport_requests_total", route=route, method="GET", status="200") == 1
    assert value(first, "cubeport_request_seconds_count", route=route) == 1
    assert value(first, "cubeport_cache_bytes", cache="chunks") > value(before, "cubeport_cache_bytes", cache="chunks")
    misses = value(first, "cubeport_cache_lookups_total", cache="chunks", result="miss")
    client.get(f"{path}&datetime=..")  # another answer from the same chunks
    client.get(f"{path}&bbox=0,0,2,2")
    second = measured(client)
    assert value(second, "cubeport_cache_lookups_total", cache="chunks", result="hit") > value(
        first, "cubeport_cache_lookups_total", cache="chunks", result="hit"
    )
    assert value(second, "cubeport_cache_lookups_total", cache="chunks", result="miss") == misses
    assert value(second, "cubeport_answer_bytes", place="disk") == 0


def test_a_running_ingestion_is_seen(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = next(iter(tmp_path_factory.getbasetemp().glob("metrics*")))
    values = np.random.default_rng(0).random((120, 250, 250))
    lat, lon = (("lat", np.arange(250) / 10, {"units": "degrees_north"}), ("lon", np.arange(250) / 10, {"units": "degrees_east"}))
    xr.Dataset({"t": (("z", "lat", "lon"), values)}, {"lat": lat, "lon": lon}).to_netcdf(folder / "large.nc")
    body = {"dataset_id": "large", "source": str(folder / "large.nc")}
    assert client.post("/ingestions", json=body, headers={"Prefer": "respond-async"}).status_code == 202
    most = dict.fromkeys(("cubeport_gate_children", "cubeport_open_units_of_work", "running"), 0.0)
    deadline, metrics = time.monotonic() + 60, measured(client)
    while value(metrics, "cubeport_ingestions_total", outcome="completed") < 2:
        assert time.monotonic() < deadline
        assert value(metrics, "cubeport_ingestions_total", outcome="failed") == 1, "the file of the fixture that is bad"
        metrics = measured(client)
        now = {name: value(metrics, name) for name in most if name != "running"}
        now["running"] = value(metrics, "cubeport_jobs", status="running")
        most = {name: max(before, now[name]) for name, before in most.items()}
    assert min(most.values()) >= 1, most


def test_one_setting_bounds_what_a_process_keeps(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values at many places are right, and what is kept of their chunks and versions stays below ``server.cache_bytes``."""
    folder, most = tmp_path_factory.mktemp("bounded"), 2_000_000
    values = np.random.default_rng(0).random((40, 200, 200)).astype("f4")
    lat, lon = (("lat", np.arange(200) / 10, {"units": "degrees_north"}), ("lon", np.arange(200) / 10, {"units": "degrees_east"}))
    clock = ("time", np.arange(40), {"units": "days since 2000-01-01", "standard_name": "time"})
    cube = xr.Dataset({"t": (("time", "lat", "lon"), values, {"units": "K"})}, {"time": clock, "lat": lat, "lon": lon})
    cube.to_netcdf(folder / "t.nc")
    subprocess.run([*CUBEPORT, "init", str(folder / "i"), "--allow-root", str(folder)], check=True, capture_output=True)
    subprocess.run([*CUBEPORT, "ingest", str(folder / "t.nc"), "--instance", str(folder / "i")], check=True, capture_output=True)
    monkeypatch.setenv("CUBEPORT_SERVER__CACHE_BYTES", str(most))
    process, url = start(folder / "i")
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            for place in range(0, 200, 20):
                query = {"coords": f"POINT({place / 10} {place / 10})", "f": "covjson"}
                document = client.get("/ogcapi/collections/t/position", params=query).json()
                assert document["ranges"]["t"]["values"] == pytest.approx(values[:, place, place])
            metrics = measured(client)
            kept = [value(metrics, "cubeport_cache_bytes", cache=cache) for cache in ("chunks", "versions")]
            assert 0 < sum(kept) <= most < values.nbytes
    finally:
        stop(process)
