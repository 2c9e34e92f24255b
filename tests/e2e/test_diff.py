"""The difference of two versions: steps, coordinates, values and attributes, by digests first, the same from every side."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

import cubeport
from cubeport.adapters.engines.handles import OpenedVersions
from cubeport.errors import InvalidRequest, NotFound, TooLarge
from cubeport.main import prepare
from cubeport.service.diff import Diff
from cubeport.service.ingestions import FileOptions, IngestionRequest
from cubeport.service.service import Service

from .conftest import here, start, stop

LAT, LON = [10.0, 20.0, 30.0], [0.0, 1.0, 2.0, 3.0]


def cube(days: list[int], lat: list[float] = LAT, **more: Any) -> xr.Dataset:
    """Values say their day, row and column."""
    values = np.array([[[100 * day + row + col / 10 for col in LON] for row in lat] for day in days], "float32")
    return xr.Dataset(
        {"t": (("time", "lat", "lon"), values, {"units": "K"}), **more},
        coords={
            "time": ("time", np.asarray(days, "int64"), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", LON, {"units": "degrees_east"}),
        },
        attrs={"title": "Days"},
    )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    prepare(tmp_path / "i")
    with cubeport.connect(tmp_path / "i") as opened:
        yield opened


def put(service: Service, data: xr.Dataset, mode: str = "replace", **request: Any) -> str:
    path = Path(service.catalog.root or "").parent / "source.nc"
    data.to_netcdf(path)
    asked = IngestionRequest.model_validate(
        {"dataset_id": "x", "mode": mode, **request}
        | ({} if mode == "update" else {"template": {"layout": {"chunks": {"time": 4}}}})
    )
    done = service.ingest_here(asked, FileOptions(files=(str(path),)))
    assert done.status == "completed", done.error
    assert done.version_id is not None
    return done.version_id


def test_added_and_changed_steps_are_named_and_only_their_chunks_are_read(service: Service) -> None:
    first = put(service, cube(list(range(10))))
    wrong = cube([4, 10, 11])
    wrong["t"][0, 1, 2] += 5
    wrong["t"][0, 2, 0] = np.nan
    second = put(service, wrong, "update", on_overlap="replace")
    _, _, found = service.diff("x", first, second)
    [time] = found.dimensions
    assert (time.dimension, time.size, time.removed.count, time.reordered) == ("time", (10, 12), 0, False)
    assert (time.added.count, time.added.first, time.added.last) == (2, "2000-01-11T00:00:00Z", "2000-01-12T00:00:00Z")
    [t] = found.variables.changed
    assert (t.name, t.changed, t.became_missing, t.became_present) == ("t", 2, 1, 0)
    assert t.first == {"time": "2000-01-05T00:00:00Z", "lat": 20.0, "lon": 2.0}
    assert t.largest is not None
    assert (t.largest.absolute, t.largest.at) == (5.0, t.first)
    assert t.steps is not None
    assert t.steps.labels == ("2000-01-05T00:00:00Z",)
    assert (found.equal, found.attributes) == (False, ())
    # The first of three chunks in time is shared; of the last, two of four steps were there before.
    assert (found.compared.same_chunks, found.compared.read_chunks, found.compared.read_cells) == (1, 2, 6 * 12)
    _, _, back = service.diff("x", second, first)
    assert (back.dimensions[0].removed, back.variables.changed[0].became_present) == (time.added, 1)
    _, _, none = service.diff("x", second)
    assert none.equal


def test_labels_are_matched_where_steps_and_rows_moved(service: Service) -> None:
    first = put(service, cube(list(range(3, 10))))
    second = put(service, cube(list(range(10)), lat=[*LAT[::-1]]).assign_attrs(title="More days", note="new"))
    _, _, found = service.diff("x", first, second)
    time, lat = found.dimensions
    assert (time.added.count, time.added.last, lat.reordered, lat.added.count) == (3, "2000-01-03T00:00:00Z", True, 0)
    assert found.variables.changed == (), "values are compared where labels are the same"
    assert {(each.variable, each.name, each.old, each.new) for each in found.attributes} >= {
        (None, "title", "Days", "More days"),
        (None, "note", None, "new"),
    }


def test_variables_that_come_go_or_change_their_type_are_named(service: Service) -> None:
    first = put(service, cube([0, 1], u=(("lat", "lon"), np.zeros((3, 4)))))
    other = cube([0, 1], v=(("lat", "lon"), np.zeros((3, 4))))
    other["t"] = other.t.astype("float64")
    second = put(service, other)
    _, _, found = service.diff("x", first, second)
    assert (found.variables.added, found.variables.removed) == (("v",), ("u",))
    [t] = found.variables.changed
    assert (t.form, t.changed) == ({"dtype": ("float32", "float64")}, 0)
    same = put(service, other.assign_attrs(x=1))
    assert not service.diff("x", second, same)[2].variables.changed


def test_what_is_asked_for_wrongly_is_refused(service: Service) -> None:
    first = put(service, cube([0, 1]))
    put(service, cube([0, 1]) + 1)
    with pytest.raises(TooLarge) as caught:
        service.diff("x", first, most_cells=10)
    assert caught.value.members["value"] == 24
    with pytest.raises(NotFound):
        service.diff("x", "f" * 32)
    with pytest.raises(NotFound):
        service.diff("nosuch", first)
    other = service.shown("x").model_copy(update={"texts": service.shown("x").texts.model_copy(update={"dataset_id": "y"})})
    with pytest.raises(InvalidRequest):
        service._diff.between(service.shown("x"), other)


def test_memory_is_that_of_chunks_not_of_cubes(service: Service) -> None:
    days = list(range(400))
    values = np.random.default_rng(1).random((400, 50, 100), "float32")
    big = xr.Dataset(
        {"t": (("time", "lat", "lon"), values)},
        coords={
            "time": ("time", days, {"units": "days since 2000-01-01"}),
            "lat": ("lat", np.linspace(0, 50, 50), {"units": "degrees_north"}),
            "lon": ("lon", np.linspace(0, 50, 100), {"units": "degrees_east"}),
        },
    )
    first = put(service, big)
    second = put(service, big + 1)
    diff = Diff(lambda: OpenedVersions(service.engines, chunk_bytes=1 << 20), service._diff._manifest)
    versions = [service.shown(f"x@{each}") for each in (first, second)]
    diff.between(versions[1], versions[0], most_cells=10**9)  # imports what reading needs
    tracemalloc.start()
    found = diff.between(*versions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.variables.changed[0].changed == values.size
    assert found.variables.changed[0].largest is not None
    assert found.variables.changed[0].largest.absolute == pytest.approx(1, abs=1e-6)
    # The cache of chunks (1 MiB each way) and a few chunks of 80 kB, where each cube has 8 MB.
    assert peak < 6e6, peak


def test_command_line_http_and_client_say_the_same(tmp_path: Path, service: Service) -> None:
    root = Path(service.catalog.root or "")
    first = put(service, cube([0, 1]))
    service.tag("x", "old", version=first)
    second = put(service, cube([2]) + 0, "update")
    hidden = put(service, cube([3]), "update", publish=False)
    process, url = start(root)
    try:
        said = httpx.get(f"{url}/datasets/x/diff", params={"from": "old"}, trust_env=False)
        assert said.status_code == 200, said.text
        document = said.json()
        assert (document["kind"], document["from"]["version_id"], document["to"]["version_id"]) == ("VersionDiff", first, second)
        assert document["dimensions"][0]["added"]["labels"] == ["2000-01-03T00:00:00Z"]
        again = httpx.get(said.url, headers={"If-None-Match": said.headers["etag"]}, trust_env=False)
        assert again.status_code == 304
        printed = here("diff", "x@old", f"x@{second[:8]}", "--json", "--instance", root)
        assert json.loads(printed.stdout) == document
        told = here("diff", "x", "old", "--instance", root)
        assert told.stdout == "time: 1 added: 2000-01-03T00:00:00Z\n"
        assert here("diff", "x@old", "x@old", "--instance", root).stdout.startswith("The versions are equal")
        port: Any = cubeport.connect(url)
        assert port["x"].diff("old") == document
        assert port["x"].diff(port["x@old"]) == document
        for params, status in (
            ({}, 400),
            ({"from": "OLD"}, 400),
            ({"from": "nosuch"}, 404),
            ({"from": hidden}, 404),
            ({"from": "old", "more": "1"}, 400),
        ):
            reader = httpx.get(f"{url}/datasets/x/diff", params=params, headers={"X-Forwarded-For": "203.0.113.1"}, trust_env=False)
            assert reader.status_code == status, (params, reader.text)
        missing = here("diff", "x@ffffffff", "x@old", "--instance", root)
        assert missing.returncode == 3, missing.stderr
        usage = here("diff", "x", "--instance", root)
        assert (usage.returncode, "versions x" in usage.stderr) == (2, True)
    finally:
        stop(process)
