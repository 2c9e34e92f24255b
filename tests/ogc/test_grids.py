"""Each grid of a file is a coverage: ``{dataset_id}:{grid}`` is listed, described and queried, and its values are the source's."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from tests.cubes.test_groups import DAYS, LAT, LON

from cubeport.documents import native, stac
from cubeport.documents.texts import PublishedView
from cubeport.errors import NotFound
from cubeport.service.datasets import Datasets


def source() -> xr.Dataset:
    """Two resolutions, and the mean over the world, in one file."""
    return xr.Dataset(
        {
            "low": (("time", "lat", "lon"), np.arange(12.0).reshape(2, 2, 3)),
            "high": (("time", "lat_hi", "lon_hi"), 100 + np.arange(48.0).reshape(2, 4, 6)),
            "mean": (("time",), [7.0, 8.0]),
        },
        {
            "time": ("time", [0.0, 1], DAYS),
            "lat": ("lat", [0.0, 10], LAT),
            "lon": ("lon", [0.0, 10, 20], LON),
            "lat_hi": ("lat_hi", np.arange(4) * 5.0, LAT),
            "lon_hi": ("lon_hi", np.arange(6) * 5.0, LON),
        },
    )


@pytest.fixture(scope="module")
def cube(stored: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("grids") / "two-grids.nc"
    source().to_netcdf(path, engine="netcdf4")
    return stored(str(path))


@pytest.fixture(scope="module")
def five(cube: Any, shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("grids") / "two.nc"
    source().to_netcdf(path, engine="netcdf4")
    for name in ("two-aa", "two-ab", "two-ac", "two-zz"):
        shelf.keep(name, path)
    return shelf


def names(cube: Any) -> list[str]:
    return [each.coverage_name for each in cube.shown().coverages()]


def field_of(name: str) -> str:
    return name.partition(":")[2] or "high"


def get(client: httpx.Client, path: str, **query: str) -> httpx.Response:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer


def test_every_field_is_of_one_coverage(cube: Any) -> None:
    assert names(cube) == ["two-grids", "two-grids:low", "two-grids:mean"]
    assert cube.description.fields == ("high",)
    words = " ".join(text for _, text in cube.description.warnings)
    assert all(f"'{name}' is on another grid than 'high'" in words for name in ("low", "mean"))


@pytest.mark.parametrize("grid", ["two-grids", "two-grids:low", "two-grids:mean"])
def test_its_values_are_those_of_the_source(client: httpx.Client, cube: Any, grid: str) -> None:
    field, truth = field_of(grid), source()
    base = f"/ogcapi/collections/{grid}"
    described = get(client, base).json()
    assert described["id"] == grid
    assert list(described["parameter_names"]) == [field] == list(get(client, f"{base}/schema").json()["properties"])
    answer = get(client, f"{base}/coverage").json()
    assert np.array_equal(answer["ranges"][field]["values"], truth[field].values.ravel())
    with xr.open_dataset(io.BytesIO(get(client, f"{base}/coverage", f="netcdf").content), engine="h5netcdf") as found:
        assert np.array_equal(found[field], truth[field])
        assert not {"low", "high", "mean"} & set(found.variables) - {field}
    day = get(client, f"{base}/coverage", datetime="2020-01-02").json()
    assert day["ranges"][field]["values"] == truth[field][1].values.ravel().tolist()
    if field == "mean":
        assert described["data_queries"] == {}
        return
    point = get(client, f"{base}/position", coords="POINT(10 10)").json()
    here = {each: 10.0 for each in truth[field].dims if each != "time"}
    assert point["ranges"][field]["values"] == truth[field].sel(here).values.tolist()
    box = get(client, f"{base}/cube", bbox="4,4,11,11", f="csv").text.splitlines()[1:]
    lat, lon = (str(each) for each in truth[field].dims[1:])
    spacing = 5 if field == "high" else 10
    inside = truth[field].sel({lat: slice(4 - spacing / 2, 11 + spacing / 2), lon: slice(4 - spacing / 2, 11 + spacing / 2)})
    assert sorted(float(row.split(",")[-1]) for row in box) == sorted(inside.values.ravel().tolist())


def test_the_pinned_one_says_so(client: httpx.Client, cube: Any) -> None:
    version = cube.shown().version.version_id
    pinned = get(client, f"/ogcapi/collections/two-grids:low@{version}")
    assert pinned.json()["id"] == f"two-grids:low@{version}"
    whole = get(client, f"/ogcapi/collections/two-grids:low@{version}/coverage")
    assert "immutable" in whole.headers["Cache-Control"]
    assert whole.json()["ranges"]["low"]["values"] == list(range(12))


def test_a_grid_that_is_not_there_is_not_found(cube: Any) -> None:
    class One(Datasets):
        def __init__(self) -> None: ...

        def shown(self, ref: str, *, unpublished: bool = False) -> PublishedView:
            assert ref in ("two-grids", "two-grids@latest")
            return cube.shown()

    assert One().coverage("two-grids:low@latest").description.fields == ("low",)
    assert One().coverage("two-grids").grid is None
    for name in ("two-grids:", "two-grids:high", "two-grids:LOW"):
        with pytest.raises(NotFound) as raised:
            One().coverage(name)
        assert raised.value.next_step == "its other grids: low, mean"


@pytest.mark.parametrize("damaged", [set(), {"two-aa"}, {"two-zz"}, {"two-aa", "two-ab", "two-zz"}])
def test_pages_of_collections_have_each_coverage_once(
    client: httpx.Client, five: Any, monkeypatch: pytest.MonkeyPatch, damaged: set[str]
) -> None:
    """Also beside datasets that cannot be read."""
    monkeypatch.setattr(five, "damaged", damaged)
    whole = get(client, "/ogcapi/collections", limit="1000").json()
    every = [each["id"] for each in whole["collections"]]
    assert whole["numberReturned"] == len(every) == len(set(every))
    assert {"two-grids", "two-grids:low", "two-grids:mean"} <= set(every)
    for limit in (1, 2, 3):
        seen: list[str] = []
        address = f"/ogcapi/collections?limit={limit}"
        while address:
            page = client.get(address).json()
            assert (0 if damaged else 1) <= page["numberReturned"] <= limit
            assert damaged or page["numberMatched"] == len(every)
            seen += [each["id"] for each in page["collections"]]
            address = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
        assert seen == every, limit
        back: list[str] = []
        while True:
            back = [each["id"] for each in page["collections"]] + back
            there = [link["href"] for link in page["links"] if link["rel"] == "prev"]
            if not there:
                break
            before, page = page, client.get(there[0]).json()
            # And on again from there.
            [on] = [link["href"] for link in page["links"] if link["rel"] == "next"]
            assert damaged or client.get(on).json()["collections"][: before["numberReturned"]] == before["collections"]
        assert back == every, limit


def test_coverages_are_counted_once_for_each_state_of_the_catalog() -> None:
    from types import SimpleNamespace

    from cubeport.server.ogcapi import OgcFace

    asked: list[dict[str, Any]] = []

    def datasets(**how: Any) -> Any:
        asked.append(how)
        return SimpleNamespace(matched=len(asked), next=None, items=())

    queries = SimpleNamespace(versions=None, limits=SimpleNamespace(heavy=1))
    service = SimpleNamespace(datasets=datasets)
    face = OgcFace(service, queries, public_url="", title="", description="")  # type: ignore[arg-type]
    assert [face._matched(1, {}), face._matched(1, {}), len(asked)] == [1, 1, 2]
    assert [face._matched(1, {"q": "x"}), face._matched(2, {}), len(asked)] == [3, 5, 6]


def test_a_download_takes_the_grid_of_its_variables(client: httpx.Client, cube: Any) -> None:
    answer = get(client, "/datasets/two-grids/download", variables="low", format="csv")
    assert sorted(float(row.split(",")[-1]) for row in answer.text.splitlines()[1:]) == list(range(12))
    whole = get(client, "/datasets/two-grids/download")
    with xr.open_dataset(io.BytesIO(whole.content), engine="h5netcdf") as found:
        for name in ("low", "high", "mean"):
            assert np.array_equal(found[name], source()[name])


def test_every_face_names_every_variable(cube: Any) -> None:
    shown = cube.shown()
    summary = native.summary(shown, "https://data.example")
    assert {each.name: each.coverage for each in summary.variables} == {
        "high": "two-grids",
        "low": "two-grids:low",
        "mean": "two-grids:mean",
    }
    document = stac.collection(shown, stac.Site(id="x", title="x", public_url="https://data.example"))
    assert {"high", "low", "mean"} <= set(document["cube:variables"])
    assert {"lat", "lon", "lat_hi", "lon_hi"} <= set(document["cube:dimensions"])
    linked = [link["href"] for link in document["links"] if link["rel"] == stac.COVERAGE]
    assert linked == [f"https://data.example/ogcapi/collections/{name}/coverage" for name in names(cube)]
