"""A new month in place: ``cubeport ingest TEMPLATE`` and ``cubeport sync`` find it, say so, and drop nothing that is held."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

import cubeport

from .conftest import here, start, stop

TEMPLATE = """\
id: sst
title: Sea surface temperature
period_type: monthly
source: {{kind: files, paths: ['{folder}/*.nc']}}
{sync}
"""


def month(folder: Path, number: int, *, value: float | None = None) -> None:
    """Write the file of a month of 2020, counted from 0, whose values say which it is. It lay there for two minutes."""
    value = float(number) if value is None else value
    days = [0, 31, 60, 91, 121, 152, 182]
    xr.Dataset(
        {"sst": (("time", "lat", "lon"), np.full((1, 2, 2), value, "float32"), {"units": "K"})},
        coords={
            "time": ("time", [days[number]], {"units": "days since 2020-01-01", "standard_name": "time"}),
            "lat": ("lat", [10.0, 20.0], {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", [30.0, 40.0], {"units": "degrees_east", "standard_name": "longitude"}),
        },
    ).to_netcdf(folder / f"sst-{number}.nc")
    os.utime(folder / f"sst-{number}.nc", (time.time() - 120,) * 2)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Return what makes an instance with two months in its source."""

    def make(sync: str = "") -> Path:
        folder, root = tmp_path / "months", tmp_path / "i"
        folder.mkdir()
        for number in range(2):
            month(folder, number)
        assert here("init", root, "--allow-root", folder).returncode == 0
        (root / "config" / "datasets" / "sst.yaml").write_text(TEMPLATE.format(folder=folder, sync=sync))
        done = here("ingest", "sst", "--start", "2020-01", "--instance", root)
        assert done.returncode == 0, done.stderr
        return root

    return make


def run(root: Path, *words: str) -> dict[str, Any]:
    done = here(*words, "--json", "--instance", root)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def values(root: Path) -> list[float]:
    with cubeport.connect(root) as service:
        version = service.shown("sst").version.version_id
    return [float(v) for v in xr.open_zarr(root / "data" / "store" / "sst" / version / "cube.zarr")["sst"].values[:, 0, 0]]


def test_a_monthly_file_in_place_is_seen(made: Callable[..., Path], tmp_path: Path) -> None:
    root = made()
    assert run(root, "ingest", "sst")["reused"] is True, "the source is what it was"
    month(tmp_path / "months", 2)
    said = here("ingest", "sst", "--instance", root)
    assert "it has 2020-01 to 2020-03" in said.stdout
    assert values(root) == [0, 1, 2]
    month(tmp_path / "months", 3)
    again = run(root, "ingest", "sst", "--start", "2020-03")
    assert (again["reused"], again["coverage"]["temporal"]["end"]) == (False, "2020-04")
    assert values(root) == [0, 1, 2, 3]
    assert run(root, "ingest", "sst", "--start", "2020-03")["reused"] is True
    (tmp_path / "months" / "sst-0.nc").unlink()
    month(tmp_path / "months", 4)
    run(root, "ingest", "sst")
    assert values(root) == [0, 1, 2, 3, 4], "what the source does not have any more is kept"
    month(tmp_path / "months", 1, value=11)
    month(tmp_path / "months", 3, value=13)
    revised = run(root, "ingest", "sst", "--start", "2020-02", "--end", "2020-03", "--overwrite")
    assert revised["action"] == "revise"
    assert values(root) == [0, 11, 2, 3, 4], "exactly the requested periods are ingested again"
    with cubeport.connect(root) as service:
        kinds = [state.kind for state, _ in service.versions("sst")]
    assert kinds == ["revised", "appended", "appended", "appended", "created"]


def test_without_an_end_the_newest_comes_even_if_an_earlier_request_had_one(made: Callable[..., Path]) -> None:
    root = made()
    assert run(root, "delete", "sst", "--purge", "--yes")
    run(root, "ingest", "sst", "--start", "2020-01", "--end", "2020-01")
    assert values(root) == [0]
    assert run(root, "ingest", "sst", "--end", "2020-01")["reused"] is True
    newest = run(root, "ingest", "sst")
    assert (newest["reused"], newest["coverage"]["temporal"]["end"]) == (False, "2020-02"), "the same files have more"
    assert values(root) == [0, 1]
    assert run(root, "ingest", "sst")["reused"] is True


def test_sync_plans_and_adds_what_is_new(made: Callable[..., Path], tmp_path: Path) -> None:
    root = made("sync: {kind: temporal, schedule: '0 0 1 1 *'}")
    plan = run(root, "sync", "sst", "--plan")["items"][0]
    assert (plan["action"], plan["reason"], plan["delta_start"]) == ("no_op", "no_new_period", None), "no file is new"
    before = sorted(str(path) for path in (root / "data").rglob("*"))
    nothing = run(root, "sync", "sst")["items"][0]
    assert (nothing["status"], nothing["message"]) == ("up_to_date", "The source has nothing new.")
    assert nothing["sync_id"] is None, "files that are as they were are not read again"
    assert sorted(str(path) for path in (root / "data").rglob("*")) == before
    month(tmp_path / "months", 1)
    os.utime(tmp_path / "months" / "sst-1.nc")
    looked = run(root, "sync", "sst")["items"][0]
    assert (looked["status"], looked["sync_id"] is None) == ("up_to_date", False), "it was read, and has nothing new"
    assert (looked["sync_detail"]["action"], looked["sync_detail"]["reason"]) == ("no_op", "no_new_period")
    month(tmp_path / "months", 2)
    month(tmp_path / "months", 3)
    plan = run(root, "sync", "sst", "--plan")["items"][0]
    assert (plan["action"], plan["reason"]) == ("append", "new_periods_available_for_append")
    assert (plan["current_end"], plan["delta_start"]) == ("2020-02", "2020-03")
    refused = here("sync", "sst", "--end", "2020-09", "--instance", root)
    assert (refused.returncode, "coverage-incomplete" in refused.stderr) == (4, True)
    some = run(root, "sync", "sst", "--end", "2020-03")["items"][0]
    assert (some["status"], some["sync_detail"]["delta_end"]) == ("completed", "2020-03")
    assert values(root) == [0, 1, 2]
    done = run(root, "sync", "--all")["items"][0]
    assert done["status"] == "completed"
    detail = done["sync_detail"]
    assert (detail["delta_start"], detail["delta_end"]) == ("2020-04", "2020-04"), "what was added, not what could have been"
    assert done["dataset"]["extent"]["temporal"] == {"start": "2020-01", "end": "2020-04"}
    assert values(root) == [0, 1, 2, 3]
    with cubeport.connect(root) as service:
        assert [each.kind for each in service.ingestions().items].count("sync") == 4
        service.unpublish("sst")
        month(tmp_path / "months", 4)
        synced = service.sync("sst")
        assert synced.status == "completed"
        assert not service.dataset("sst").state.published, "a sync keeps the status"
    assert here("sync", "none", "--instance", root).returncode == 3
    assert here("sync", "--instance", root).returncode == 2
    assert here("sync", "sst", "--end", "2019-01", "--instance", root).returncode == 2


@pytest.mark.slow
def test_sync_over_http(made: Callable[..., Path], tmp_path: Path) -> None:
    root = made("sync: {kind: temporal}")
    process, url = start(root)
    try:
        plan = httpx.get(f"{url}/sync/sst/plan", params={"end": ""}, trust_env=False)
        assert (plan.status_code, plan.json()["action"]) == (200, "no_op")
        month(tmp_path / "months", 2)
        assert httpx.get(f"{url}/sync/sst/plan", trust_env=False).json()["action"] == "append"
        done = httpx.post(f"{url}/sync/sst", timeout=120, trust_env=False)
        assert done.status_code == 200, done.text
        assert (done.json()["status"], done.json()["dataset"]["extent"]["temporal"]["end"]) == ("completed", "2020-03")
        assert done.json()["sync_detail"]["delta_end"] == "2020-03"
        ingestion = httpx.get(f"{url}/ingestions/{done.json()['sync_id']}", trust_env=False).json()
        assert (ingestion["kind"], ingestion["status"]) == ("sync", "completed")
        later = httpx.post(f"{url}/sync/sst", json={"end": "2020-03"}, timeout=60, trust_env=False).json()
        assert (later["status"], later["sync_id"]) == ("up_to_date", None)
        assert httpx.post(f"{url}/sync/sst", json={"end": "x"}, trust_env=False).json()["kind"] == "invalid-period"
        assert httpx.post(f"{url}/sync/none", trust_env=False).status_code == 404
        reader = httpx.get(f"{url}/sync/sst/plan", headers={"X-Forwarded-For": "203.0.113.1"}, trust_env=False)
        assert reader.status_code == 401
    finally:
        stop(process)


def test_a_job_is_left_to_the_server_and_told_in_words(made: Callable[..., Path], tmp_path: Path) -> None:
    root = made()
    month(tmp_path / "months", 2)
    process, url = start(root)
    try:
        accepted = here("ingest", "sst", "--async", "--instance", root)
        assert accepted.returncode == 0, accepted.stderr
        job = re.fullmatch(
            r"sst: accepted as ([0-9a-f]{32}); a running server of the instance \(cubeport serve\) does it\.\n", accepted.stdout
        )
        assert job, accepted.stdout
        assert f"next: cubeport --instance {root} jobs {job[1][:8]} --follow" in accepted.stderr
        ended = here("jobs", job[1][:8], "--follow", "--instance", root)
        assert ended.returncode == 0, ended.stderr
        told = dict(line.split(": ", 1) for line in ended.stdout.splitlines())
        assert (told["status"], told["time"], told["asked for"]) == (
            "completed",
            "2020-01 to 2020-03",
            "the beginning to the newest",
        )
        assert told["action"] == "append: the dataset does not have all requested periods"
        assert "links" not in ended.stdout
        zarr = xr.open_dataset(f"{url}/zarr/sst", engine="zarr")
        assert [float(each) for each in zarr.sst[:, 0, 0]] == [0, 1, 2]
        files = here("ingest", tmp_path / "months" / "sst-1.nc", "--id", "one", "--async", "--instance", root)
        assert files.returncode == 0, files.stderr
        assert run(root, "jobs", files.stdout.split()[3].rstrip(";"), "--follow")["status"] == "completed"
        assert here("ingest", "sst", "--async", "--dry-run", "--instance", root).returncode == 2
    finally:
        stop(process)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    month(outside, 1)
    refused = here("ingest", outside / "sst-1.nc", "--id", "two", "--async", "--instance", root)
    assert (refused.returncode, "sources.roots" in refused.stderr) == (5, True), "a server reads no file that it may not"


def test_what_was_not_done_is_not_told_as_done(made: Callable[..., Path]) -> None:
    root = made("sync: {kind: temporal}")
    assert "has new texts: title" in here("describe", "sst", "--title", "Sea", "--instance", root).stdout
    assert here("describe", "sst", "--title", "Sea", "--instance", root).stdout.startswith("Nothing changed")
    assert "There is nothing to remove." in here("gc", "--instance", root).stderr
    assert "retention would free nothing" in here("usage", "--instance", root).stderr
    wrong = here("sync", "sst", "--end", "soon", "--instance", root)
    assert (wrong.returncode, "'soon' is not a period of type monthly, such as 2024-01" in wrong.stderr) == (2, True)
    run(root, "delete", "sst", "--purge", "--yes")
    only = here("sync", "sst", "--instance", root)
    assert (only.returncode, f"`cubeport --instance {root} ingest sst --start PERIOD` makes it" in only.stderr) == (3, True)
    (root / "config/datasets/sst.yaml").write_text("id: sst\ntitel: x\n")
    broken = here("ingest", "sst", "--instance", root)
    assert (broken.returncode, f"next: cubeport --instance {root} check-config" in broken.stderr) == (3, True)
