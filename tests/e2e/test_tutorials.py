"""The tutorials work as written: a folder becomes a dataset, and clients that know nothing of cubeport read its numbers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from shapely.geometry import box, shape
from tests.pages import Block, Follower, blocks

import cubeport
from cubeport import settings
from cubeport.adapters.engines.opened import VersionStore
from cubeport.main import Catalog, prepare

from .conftest import start, stop


def test_the_tutorials_work_as_written(tmp_path: Path) -> None:
    officer = Follower(tmp_path)
    officer.follow("tutorials/publish.md")
    assert "tas" in officer.outputs[-1]
    assert "Air temperature" in officer.outputs[-1]
    process, url = start(tmp_path / "climate")
    try:
        scientist = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
        assert scientist.follow("tutorials/read.md") == 1
    finally:
        stop(process)
    _, series, _, sizes, coverage = scientist.outputs
    assert [float(row["tas"]) for row in csv.DictReader(io.StringIO(series))] == [281.0, 282.0]
    assert sizes.strip() == "{'time': 2, 'lat': 11, 'lon': 21}"
    assert set(json.loads(coverage)["ranges"]["tas"]["values"]) == {285.0}


def test_the_page_on_changes_works_as_written(tmp_path: Path) -> None:
    prepare(tmp_path / "here")
    reader = Follower(tmp_path / "here")
    reader.follow("how-to/changes.md")
    [written] = [each.text for each in blocks("how-to/changes.md") if each.language == "yaml"]
    (tmp_path / "here/config/service.yaml").write_text(written)
    assert settings.load(tmp_path / "here").webhooks.targets[0].secret_env == "HOOK_SECRET"


@pytest.mark.slow
def test_the_page_on_deleting_works_as_written(tmp_path: Path) -> None:
    prepare(tmp_path / "here")
    with Catalog.open(tmp_path / "here") as catalog:
        catalog.add(title="First draft")
    reader = Follower(tmp_path / "here")
    reader.follow("how-to/select-and-delete.md")
    assert "would delete" in reader.outputs[-1]


@pytest.mark.slow
def test_the_page_on_texts_works_as_written(tmp_path: Path) -> None:
    prepare(tmp_path / "here")
    axes = {"lat": ("lat", [0.0, 1.0], {"units": "degrees_north"}), "lon": ("lon", [0.0, 1.0], {"units": "degrees_east"})}
    xr.Dataset({"tas": (("lat", "lon"), np.ones((2, 2), "f4"))}, axes).to_netcdf(tmp_path / "tas.nc", engine="h5netcdf")
    reader = Follower(tmp_path / "here")
    reader.run(Block("sh", None, "cubeport ingest ../tas.nc --id tas --quiet"))
    assert reader.follow("how-to/texts.md") == 1
    assert "title" in reader.outputs[-1]
    with cubeport.connect(tmp_path / "here") as service:
        assert service.shown("tas").texts.license == "CC-BY-4.0"


@pytest.mark.slow
def test_the_page_on_new_steps_works_as_written(tmp_path: Path) -> None:
    reader = Follower(tmp_path)
    reader.follow("how-to/update.md")
    with cubeport.connect(tmp_path / "station") as service:
        states = [(state.kind, state.coverage["temporal"]["count"]) for state, _ in service.versions("tas")]
        assert states == [("revised", 12), ("appended", 12), ("created", 10)]
        store: Any = VersionStore(service.engines, "tas", service.shown("tas").version.version_id)
        with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
            assert opened.tas.values[:, 0, 0].tolist() == pytest.approx(
                [280, 281, 282, 283.2, 284.2, 285, 286, 287, 288, 289, 290.1, 291.1], rel=1e-6
            )


@pytest.mark.slow
def test_the_page_on_derived_datasets_works_as_written(tmp_path: Path) -> None:
    reader = Follower(tmp_path)
    reader.follow("how-to/derive.md")
    with cubeport.connect(tmp_path / "derived") as service:
        assert {each["dataset_id"]: each["state"] for each in service.derived()} == {
            "tas-monthly": "fresh",
            "tas-normal": "fresh",
            "tas-anomaly": "fresh",
        }


@pytest.mark.slow
def test_the_page_on_files_without_a_copy_works_as_written(tmp_path: Path) -> None:
    reader = Follower(tmp_path)
    reader.follow("how-to/virtual.md")
    with cubeport.connect(tmp_path / "station") as service:
        assert [state.kind for state, _ in service.versions("tas")] == ["replaced", "created"]
        shown = service.shown("tas")
        store: Any = VersionStore(service.engines, "tas", shown.version.version_id)
        with xr.open_zarr(store, chunks=None) as opened, xr.open_dataset(tmp_path / "archive/tas.nc") as source:
            assert opened.tas.values.tobytes() == source.tas.values.tobytes()
        assert shown.sealed["storage"]["chunks"] == 4


@pytest.mark.slow
def test_the_pages_on_big_files_and_on_names_work_as_written(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    prepare(tmp_path / "here", allow_roots=[str(tmp_path / "archive")])
    data = xr.Dataset(
        {"tas": (("time", "lat", "lon"), np.zeros((48, 20, 20), "f4"), {"units": "K"})},
        coords={
            "time": ("time", np.arange(48), {"units": "hours since 2020-01-01"}),
            "lat": ("lat", np.arange(20.0), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(20.0), {"units": "degrees_east"}),
        },
    )
    data.to_netcdf(tmp_path / "archive" / "big.nc", engine="h5netcdf")
    reader = Follower(tmp_path / "here")
    reader.follow("how-to/big-files.md")
    assert "would create" in reader.outputs[0]
    with cubeport.connect(tmp_path / "here") as service:
        assert service.shown("big").sealed["storage"]["chunks"] > 0
        assert service.shown("series").description.variable("tas").chunks == (24, 10, 10)
    [written] = [each.text for each in blocks("how-to/branding.md") if each.language == "yaml"]
    (tmp_path / "here/config/service.yaml").write_text(written)
    reader.follow("how-to/branding.md")
    assert settings.load(tmp_path / "here").title == "Meteorological service of Example"


@pytest.mark.slow
def test_the_page_on_tables_works_as_written(tmp_path: Path) -> None:
    """The months of a district are those that numpy makes of its cells, on the page as in the answers."""
    before = Follower(tmp_path)
    before.follow("how-to/tables.md", until="## Ask for a table")
    process, url = start(tmp_path / "health")
    try:
        reader = Follower(tmp_path, replace={"http://127.0.0.1:8000": url})
        reader.follow("how-to/tables.md", since="## Ask for a table")
    finally:
        stop(process)
    long, pivot, wide, weighted, departures, values, accepted, job = reader.outputs
    rows = list(csv.DictReader(io.StringIO(long)))
    assert [(row["name"], row["period"]) for row in rows] == [
        (name, f"2020-{month:02d}") for name in ("West", "East") for month in (1, 2, 3)
    ]
    # Each day adds its number within 30 days to the latitude; January's are 0 to 29, and 0.
    assert float(rows[0]["value"]) == pytest.approx(sum(range(30)) + 31 * 7.25, rel=0.01)
    assert rows[0]["share"] == "1"
    assert {"East", "West", "2020-01"} <= set(pivot.split())
    assert wide.splitlines()[0] == "zone,name,2020,2021"
    east = shape(json.loads((tmp_path / "admin2.geojson").read_text())["features"][1]["geometry"])
    people = xr.open_dataset(tmp_path / "people.nc").people
    here = np.array(
        [
            [
                box(x - 0.25, y - 0.25, x + 0.25, y + 0.25).intersection(east).area * float(people.sel(lat=y, lon=x))
                for x in people.lon.values
            ]
            for y in people.lat.values
        ]
    )
    latitude = (here * people.lat.values[:, None]).sum() / here.sum()
    told = {
        (row["name"], row["period"]): float(row["value"])
        for row in csv.DictReader(io.StringIO(weighted[weighted.index("zone,") :]))
    }
    assert told["East", "2020"] == pytest.approx((np.arange(366) % 30).sum() + 366 * latitude, rel=1e-5)
    assert abs(float(next(csv.DictReader(io.StringIO(departures)))["value"])) < 100
    assert json.loads(accepted)["processID"] == "zonal-statistics"
    assert job.splitlines()[1] == long.splitlines()[1], "the job has the rows of the address"
    found = json.loads(values)["dataValues"]
    assert {(each["orgUnit"], each["period"]) for each in found} == {("O6uvpzGd5pu", "202001"), ("fdc6uOvgoji", "202001")}


def test_the_page_on_scale_computes_what_it_prints(tmp_path: Path) -> None:
    assert Follower(tmp_path).follow("explanation/scale.md") == 1


@pytest.mark.parametrize("page", [pytest.param("calendars", marks=pytest.mark.slow), "gate"])
def test_an_explanation_is_true_as_written(tmp_path: Path, page: str) -> None:
    assert Follower(tmp_path).follow(f"explanation/{page}.md") >= 1


def test_one_record_is_on_every_face_as_written(tmp_path: Path) -> None:
    page = "explanation/one-idea.md"
    reader = Follower(tmp_path)
    found = {each.title: each for each in blocks(page) if each.title}
    (tmp_path / "make.py").write_text(found["make.py"].text)
    *begin, last = found["begin"].text.strip().splitlines()
    assert last.startswith("cubeport serve")
    reader.run(found["begin"]._replace(text="\n".join(begin)))
    process, url = start(tmp_path / "climate")
    try:
        reader.replace = {"http://127.0.0.1:8000": url}
        assert reader.follow(page) == 2
    finally:
        stop(process)
