"""What an update does with the repairs that a dataset was made with: sums never follow differences, nor kelvin celsius."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from tests.e2e.conftest import cli
from tests.provided.places import Place

import cubeport
from cubeport.adapters.engines.opened import VersionStore
from cubeport.service.ingestions import FileOptions, Ingestion, IngestionRequest

pytestmark = pytest.mark.slow


def hours(folder: Path, first: int, count: int = 6, *, since: int = 0, name: str = "rain") -> Path:
    """Write hours from *first*, of which the value is the number of hours since *since*, and return the file."""
    values = np.arange(first - since + 1, first - since + 1 + count, dtype="float32")[:, None, None] * np.ones((1, 2, 2), "f4")
    path = folder / f"{name}_{first:03d}.nc"
    xr.Dataset(
        {name: (("time", "lat", "lon"), values, {"units": "mm"})},
        coords={
            "time": ("time", np.arange(first, first + count), {"units": "hours since 2020-01-01"}),
            "lat": ("lat", [1.0, 2.0], {"units": "degrees_north"}),
            "lon": ("lon", [3.0, 4.0], {"units": "degrees_east"}),
        },
    ).to_netcdf(path)
    return path


def bring(place: Place, *files: Path, **fields: Any) -> Ingestion:
    request = IngestionRequest.model_validate({"dataset_id": place.id, **fields})
    done = place.service.ingest_here(request, FileOptions(files=tuple(map(str, files))))
    assert isinstance(done, Ingestion)
    return done


def values(place: Place, name: str = "rain") -> list[float]:
    shown = place.service.shown(place.id)
    store: Any = VersionStore(place.service.engines, place.id, shown.version.version_id)
    with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
        return [float(each) for each in opened[name].values[:, 0, 0]]


SUMS = {"transforms": [{"deaccumulate": "rain"}]}


def test_an_update_repeats_the_steps_that_made_the_dataset(place: Place, tmp_path: Path) -> None:
    steps = {"normalise": [{"rename": {"rain": "pr"}}], "transforms": [{"scale": {"pr": {"factor": 10}}}]}
    assert bring(place, hours(tmp_path, 0), template=steps).status == "completed"
    done = bring(place, hours(tmp_path, 6), mode="update")
    assert (done.status, done.action) == ("completed", "append"), done.error
    assert values(place, "pr") == [10.0 * n for n in range(1, 13)]
    assert "the files went through the steps that made the dataset: rename, scale" in str(done.warnings)
    # Steps that the request gives are all there are of their kind; the empty list is a list too.
    own = bring(place, hours(tmp_path, 12, name="pr"), mode="update", template={"normalise": [], "transforms": []})
    assert own.status == "completed", own.error
    assert values(place, "pr")[12:] == [13.0, 14, 15, 16, 17, 18]
    assert "repaired" not in [each["kind"] for each in own.warnings]


def test_the_first_step_of_an_update_is_never_taken_for_a_difference(place: Place, tmp_path: Path) -> None:
    first, second, third = (hours(tmp_path, n) for n in (0, 6, 12))
    assert bring(place, first, template=SUMS).status == "completed"
    for fields in ({}, {"template": SUMS}, {"on_overlap": "replace"}):
        refused = bring(place, second, mode="update", **fields)
        assert refused.error is not None
        assert (refused.error["kind"], refused.error["reason"]) == ("source-rejected", "bad-time")
        assert "'rain' is a sum since a start before 2020-01-01T06:00:00Z" in refused.error["detail"]
    assert bring(place, first, second, mode="update", on_overlap="skip").action == "append"
    assert values(place) == [1.0] * 12
    # Across the border of files that are brought together there is no such question.
    assert bring(place, second, third, mode="update", on_overlap="skip").action == "append"
    assert values(place) == [1.0] * 18


def test_steps_before_the_first_begin_where_they_say(place: Place, tmp_path: Path) -> None:
    assert bring(place, hours(tmp_path, 6), template=SUMS).status == "completed"
    assert values(place) == [7.0, 1, 1, 1, 1, 1]
    assert bring(place, hours(tmp_path, 0), mode="update").status == "completed"
    assert values(place)[:6] == [1.0] * 6


def test_the_advice_of_the_refusal_works_when_it_is_pasted(tmp_path: Path) -> None:
    root = tmp_path / "instance"
    assert cli("init", root, "-q").returncode == 0
    hours(tmp_path, 0)
    later = hours(tmp_path, 6, since=6)
    made = cli("-i", root, "ingest", tmp_path / "rain_000.nc", "--id", "rain", "--transform", "deaccumulate: rain")
    assert made.returncode == 0, made.stderr
    refused = cli("-i", root, "update", "rain", later)
    assert refused.returncode == 5
    found = re.search(r"--transform '[^']+'", refused.stderr)
    assert found is not None
    done = cli("-i", root, "update", "rain", later, *shlex.split(found[0]))
    assert done.returncode == 0, done.stderr


def test_the_advice_on_a_sum_has_the_other_steps_of_the_dataset(tmp_path: Path) -> None:
    """It was the one step, by which values were neither scaled nor allowed to fall."""
    root = tmp_path / "instance"
    assert cli("init", root, "-q").returncode == 0
    first, later = hours(tmp_path, 0), hours(tmp_path, 6, since=6)
    given = ["--transform", "deaccumulate: {rain: {restarts: false}}", "--transform", "scale: {rain: {factor: 10}}"]
    assert cli("-i", root, "ingest", first, "--id", "rain", *given).returncode == 0
    refused = cli("-i", root, "update", "rain", later)
    advice = refused.stderr.partition("with this file: ")[2].splitlines()[0]
    assert advice.startswith("""--transform 'deaccumulate: {"rain": {"restarts": false, "first": "sum"}}' --transform 'scale: """)
    done = cli("-i", root, "update", "rain", later, *shlex.split(advice))
    assert done.returncode == 0, done.stderr
    with cubeport.connect(root) as service:
        shown = service.shown("rain")
        store: Any = VersionStore(service.engines, "rain", shown.version.version_id)
        with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
            assert opened["rain"].values[:, 0, 0].tolist() == [10.0] * 12


@pytest.mark.parametrize("rule", [{"first": "sum"}, {"first": "sum", "restarts": False}])
def test_a_source_says_that_its_sums_begin_with_it(place: Place, tmp_path: Path, rule: dict[str, Any]) -> None:
    template = {"transforms": [{"deaccumulate": {"rain": rule}}]}
    assert bring(place, hours(tmp_path, 0), template=template).status == "completed"
    assert bring(place, hours(tmp_path, 6, since=6), mode="update").action == "append"
    assert values(place) == [1.0] * 12


def marked(folder: Path, first: int, *, low: float | None = None) -> Path:
    """Write hours in which a value may be far below its valid range."""
    path = hours(folder, first, name="t")
    with xr.open_dataset(path, decode_cf=False) as opened:
        raw = opened.load()
    raw.t.attrs = {"units": "K", "valid_min": np.float32(0)}
    if low is not None:
        raw.t[1, 0, 0] = low
    raw.to_netcdf(path)
    return path


def test_the_advice_of_a_warning_makes_the_dataset_again(tmp_path: Path) -> None:
    """It named its own step only, which replaced those of the dataset, and a dataset that exists was refused."""
    root, bad, good = tmp_path / "instance", marked(tmp_path, 0, low=-999), marked(tmp_path, 6)
    steps = ["--normalise", "rename: {t: tas}", "--transform", "mask: {tas: {equal: 3}}"]
    assert cli("init", root, "-q").returncode == 0
    once = cli("-i", root, "ingest", bad, "--id", "once", *steps)
    for dataset, files, own in (("once", [bad], steps), ("twice", [good, bad], [])):
        said = once
        if dataset == "twice":
            assert cli("-i", root, "ingest", good, "--id", dataset, *steps).returncode == 0
            said = cli("-i", root, "update", dataset, bad)
        words = "repeat with " if dataset == "once" else "ingest all files of twice again with "
        advice = shlex.split(said.stderr.partition(f"To make them missing, {words}")[2].splitlines()[0])
        assert "--replace" in advice
        done = cli("-i", root, "ingest", *files, "--id", dataset, *own, *advice)
        assert done.returncode == 0, done.stderr
        assert "To make them missing" not in done.stderr
        with cubeport.connect(root) as service:
            shown = service.shown(dataset)
            store: Any = VersionStore(service.engines, dataset, shown.version.version_id)
            with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
                found = opened["tas"].values[:, 0, 0].tolist()
        np.testing.assert_array_equal(found, [n if n not in (2, 3) else np.nan for n in range(1, 6 * len(files) + 1)])


def test_the_advice_of_a_template_works_when_it_is_written_into_its_file(tmp_path: Path) -> None:
    """Its own steps are in the list that it prints: the line of the file becomes that line."""
    root, second = tmp_path / "instance", hours(tmp_path, 6)
    hours(tmp_path, 0)
    with xr.open_dataset(second, decode_cf=False) as opened:
        raw = opened.load()
    raw.isel(lat=[1, 0]).to_netcdf(second)
    assert cli("init", root, "--allow-root", tmp_path, "-q").returncode == 0
    block = f"id: sst\ntitle: S\nperiod_type: hourly\nsource: {{kind: files, paths: '{tmp_path}/rain_*.nc'}}\n"
    file = root / "config/datasets/sst.yaml"
    file.write_text(f"{block}normalise: [{{rename: {{rain: pr}}}}]\n")
    second.rename(later := tmp_path / "later.nc")
    assert cli("-i", root, "ingest", "sst", "--start", "2020-01-01T00").returncode == 0
    later.rename(second)
    refused = cli("-i", root, "ingest", "sst")
    found = re.search(r"next: .*: (normalise: \[.*\]) \(in the template sst\)$", refused.stderr, re.MULTILINE)
    assert found is not None, refused.stderr
    file.write_text(f"{block}{found[1]}\n")
    done = cli("-i", root, "ingest", "sst", "--overwrite", "--start", "2020-01-01T00")
    assert done.returncode == 0, done.stderr
    with cubeport.connect(root) as service:
        shown = service.shown("sst")
        store: Any = VersionStore(service.engines, "sst", shown.version.version_id)
        with xr.open_zarr(store, consolidated=True, chunks=None) as opened:
            assert opened["pr"].values.tolist() == [[[n, n]] * 2 for n in range(1, 13)]
            assert opened["lat"].values.tolist() == [1.0, 2.0]
