"""Overviews from the template to the pixel: values as xarray makes them coarser, shared by updates, drawn at small scales."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
from jsonschema import Draft7Validator

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import cli, here, start, stop

SHAPE = (61, 90)
"""Odd, so that an edge is kept at each level: 61, 31, 16."""


def cube(days: int, *, packed: bool = False) -> xr.Dataset:
    """Fields of each kind: means, a mask, classes; with missing cells, the northern row first, from 0 to 360."""
    random = np.random.default_rng(7)
    values = random.normal(280, 10, (40, *SHAPE)).astype("float32")
    values[:, 10:14, 20:27] = np.nan
    lat = np.linspace(90, -90, SHAPE[0])
    lon = np.arange(0, 360, 4.0)
    data = xr.Dataset(
        {
            "t": (("time", "lat", "lon"), values[:days], {"units": "K"}),
            "ice": (("time", "lat", "lon"), random.integers(0, 2, (40, *SHAPE)).astype("int8")[:days]),
            "soil": (("lat", "lon"), random.integers(3, 9, SHAPE).astype("int16"), {"flag_values": np.arange(3, 9, dtype="int16")}),
            "mean": ("time", np.arange(days, dtype="float64")),
        },
        {
            "time": ("time", np.arange(days), {"units": "days since 2000-01-01", "standard_name": "time"}),
            "lat": ("lat", lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", lon, {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    if packed:
        data.t.encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}
    return data


def coarser(field: xr.DataArray, how: str) -> xr.DataArray:
    """Return the next level as xarray makes it."""
    if how == "nearest":
        return field.isel(lat=slice(None, None, 2), lon=slice(None, None, 2))
    return getattr(field.coarsen(lat=2, lon=2, boundary="pad"), how)()


@dataclass
class Site:
    root: Path
    url: str


def ingest(service: Any, dataset_id: str, file: Path, pyramid: dict[str, Any] | None = None, **more: Any) -> Any:
    layout = {"chunks": {"time": 4, "lat": 20, "lon": 45}} | ({"pyramid": pyramid} if pyramid is not None else {})
    template = {} if more.get("mode") == "update" else {"template": {"layout": layout}}
    request = IngestionRequest.model_validate({"dataset_id": dataset_id, **template, **more})
    done = service.ingest_here(request, FileOptions(files=(str(file),)))
    assert done.status == "completed", done.error
    return service.shown(dataset_id)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("overviews") / "instance"
    cubeport.Catalog.create(root).close()
    (root / "config").mkdir(exist_ok=True)
    with (root / "config/service.yaml").open("a") as file:
        file.write(f"sources:\n  roots: ['{root.parent}']\n")
    for name, data in (("plain", cube(10)), ("packed", cube(10, packed=True)), ("grown", cube(30))):
        data.to_netcdf(root.parent / f"{name}.nc")
    cube(34).isel(time=slice(30, 34)).to_netcdf(root.parent / "more.nc")
    cube(34).to_netcdf(root.parent / "whole.nc")
    with cubeport.connect(root) as service:
        ingest(service, "without", root.parent / "plain.nc")
        ingest(service, "plain", root.parent / "plain.nc", {"levels": 2})
        ingest(service, "packed", root.parent / "packed.nc", {"levels": 2})
        ingest(service, "first-cell", root.parent / "plain.nc", {"levels": 1, "method": "nearest"})
        ingest(service, "grown", root.parent / "grown.nc", {"levels": 2})
        ingest(service, "grown", root.parent / "more.nc", mode="update")
        ingest(service, "rebuilt", root.parent / "whole.nc", {"levels": 2})
    process, url = start(root)
    yield Site(root, url)
    stop(process)


def level(site: Site, name: str, number: int | str) -> xr.Dataset:
    return xr.open_dataset(f"{site.url}/zarr/{name}/{number}", engine="zarr", zarr_format=3, chunks=None, consolidated=True).load()


@pytest.mark.parametrize("name", ["plain", "packed", "first-cell"])
def test_each_level_is_the_level_before_as_xarray_makes_it_coarser(site: Site, name: str) -> None:
    with xr.open_dataset(site.root.parent / f"{'packed' if name == 'packed' else 'plain'}.nc") as file:
        truth = file.load()
    how = {"t": "mean", "ice": "max", "soil": "nearest"} if name != "first-cell" else dict.fromkeys(("t", "ice", "soil"), "nearest")
    xr.testing.assert_equal(level(site, name, 0), truth)
    held = {field: truth[field] for field in how}
    for number in range(1, 2 if name == "first-cell" else 3):
        found = level(site, name, number)
        for field, method in how.items():
            held[field] = coarser(held[field], method)
            np.testing.assert_allclose(found[field].values, held[field].values, rtol=3e-7 * number)
            assert np.array_equal(np.isnan(found[field]), np.isnan(held[field]))
        # The middles of the cells; the last one of an odd length is as wide as the others.
        assert np.allclose(np.diff(found.lat), -3 * 2**number)
        assert np.allclose(found.lat[0], 90 - 3 * (2**number - 1) / 2)
        assert np.allclose(found.lon, np.arange(found.lon.size) * 4 * 2**number + 4 * (2**number - 1) / 2)
        xr.testing.assert_equal(found["mean"], truth["mean"])
        assert found.time.identical(truth.time.drop_attrs()) or np.array_equal(found.time, truth.time)


def test_the_cube_is_the_same_with_and_without(site: Site) -> None:
    with cubeport.connect(site.root, read_only=True) as service:
        assert service.shown("plain").version.digest == service.shown("without").version.digest
        assert service.shown("plain").description.overview_levels == 2
        assert service.shown("without").description.overview_levels == 0
    assert httpx.get(f"{site.url}/zarr/without/1/zarr.json", trust_env=False).status_code == 404
    for key in ("3/zarr.json", "1/t/c/9/9/9", "0/nothing/zarr.json", "1", "01/zarr.json", "1/%2e%2e/manifest.json"):
        assert httpx.get(f"{site.url}/zarr/plain/{key}", trust_env=False).status_code == 404, key
    plain, zero = (httpx.get(f"{site.url}/zarr/plain/{key}", trust_env=False) for key in ("zarr.json", "0/zarr.json"))
    assert plain.content == zero.content


def test_an_update_shares_what_did_not_change_and_equals_a_rebuild(site: Site) -> None:
    with cubeport.connect(site.root, read_only=True) as service:
        places = [site.root / "data/store" / name / service.shown(name).version.version_id for name in ("grown", "rebuilt")]
    grown, rebuilt = ({p.relative_to(each).as_posix(): p for p in each.rglob("*") if p.is_file()} for each in places)
    own = sorted(name for name in grown if name.startswith("overviews.zarr/"))
    assert own == sorted(name for name in rebuilt if name.startswith("overviews.zarr/"))
    assert len(own) > 50
    for name in own:
        assert grown[name].read_bytes() == rebuilt[name].read_bytes(), name
    assert grown["overviews.json"].read_bytes() == rebuilt["overviews.json"].read_bytes()
    shared = {name for name in own if grown[name].stat().st_nlink > 1}
    # 34 steps in chunks of 4, of which the update wrote the last two.
    assert {name for name in own if "/t/c/" in name or "/ice/c/" in name} - shared == {
        f"overviews.zarr/{number}/{field}/c/{at}/0/0" for number in (1, 2) for field in ("t", "ice") for at in (7, 8)
    }
    listed = json.loads(grown["overviews.json"].read_bytes())["entries"]
    assert {each["key"]: each["sha256"] for each in listed} == {
        name.removeprefix("overviews.zarr/"): hashlib.sha256(grown[name].read_bytes()).hexdigest() for name in own
    }


@pytest.mark.slow
def test_an_update_makes_no_overviews_that_were_turned_off(tmp_path: Path) -> None:
    """A slice of more than a million cells has them by default."""
    cubeport.Catalog.create(tmp_path / "instance").close()
    lat, lon = np.linspace(-51, 51, 1025), np.linspace(0, 102, 1025)
    for day in (0, 1):
        time = ("time", [day], {"units": "days since 2000-01-01"})
        t = (("time", "lat", "lon"), np.full((1, lat.size, lon.size), day, "u1"))
        data = xr.Dataset({"t": t}, {"time": time, "lat": lat, "lon": lon})
        data.lat.attrs, data.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
        data.to_netcdf(tmp_path / f"{day}.nc")
    with cubeport.connect(tmp_path / "instance") as service:
        for day, more in ((0, {"template": {"layout": {"pyramid": {"levels": "off"}}}}), (1, {"mode": "update"})):
            request = IngestionRequest.model_validate({"dataset_id": "x", **more})
            done = service.ingest_here(request, FileOptions(files=(str(tmp_path / f"{day}.nc"),)))
            assert done.status == "completed", done.error
            assert service.shown("x").description.overview_levels == 0


def test_damage_to_overviews_is_found(site: Site, tmp_path: Path) -> None:
    root = tmp_path / "instance"
    cubeport.Catalog.create(root).close()
    with cubeport.connect(root) as service:
        shown = ingest(service, "x", site.root.parent / "plain.nc", {"levels": 1})
        assert not service.catalog.fsck(data=True).findings
        place = root / "data/store/x" / shown.version.version_id / "overviews.zarr/1/t/c/0/0/0"
        place.chmod(0o644)
        content = bytearray(place.read_bytes())
        content[len(content) // 2] ^= 1
        place.write_bytes(content)
        [found] = service.catalog.fsck(data=True).findings
        assert "overviews.zarr/1/t/c/0/0/0" in str(found)


def drawn(site: Site, path: str, **query: str) -> tuple[np.ndarray, httpx.Headers]:
    answer = httpx.get(f"{site.url}{path}", params=query, trust_env=False)
    assert answer.status_code == 200, answer.text
    with rasterio.MemoryFile(answer.content) as file, file.open() as picture:
        return picture.read(1), answer.headers


@pytest.mark.parametrize(("width", "number"), [(90, 0), (60, 0), (45, 1), (30, 1), (22, 2), (9, 2)])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_pixel_has_the_value_of_the_level_whose_cells_are_not_larger(site: Site, width: int, number: int) -> None:
    height = max(1, round(width * 61 / 90))
    query = {"properties": "t", "datetime": "2000-01-03", "bbox": "-1.9,-89.8,358.1,89.8", "range": "250,310", "steps": "200"}
    found, headers = drawn(site, "/ogcapi/collections/plain/map", width=str(width), height=str(height), **query)
    assert headers["cubeport-overview"] == str(number)
    data = level(site, "plain", number).t.isel(time=2)
    # The cell under the middle of each pixel, by the edges of the cells.
    lat, lon = 89.8 - (np.arange(height) + 0.5) * 179.6 / height, -1.9 + (np.arange(width) + 0.5) * 360 / width
    rows = np.floor((91.5 - lat) / 3).astype(int) >> number
    columns = np.floor((lon + 2) / 4).astype(int) >> number
    values = data.values[np.ix_(rows, columns)]
    classes = np.where(np.isnan(values), 0, 1 + np.clip(np.floor((values - 250) / 60 * 200), 0, 199)).astype(int)
    assert (np.abs(found.astype(int) - classes) <= (classes > 0)).all()
    assert (found == classes).mean() > 0.98, "but for values on the edge of a colour"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tiles_of_small_zooms_come_from_overviews_and_values_from_the_cube(site: Site) -> None:
    _, headers = drawn(site, "/ogcapi/collections/plain/map/tiles/WorldCRS84Quad/0/0/0", datetime="2000-01-03")
    assert headers["cubeport-overview"] == "0", "256 pixels for 45 cells"
    info = httpx.get(
        f"{site.url}/wms/plain",
        params={
            "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetFeatureInfo", "LAYERS": "t", "QUERY_LAYERS": "t", "STYLES": "",
            "CRS": "CRS:84", "BBOX": "-2,-90,358,90", "WIDTH": "9", "HEIGHT": "6", "I": "3", "J": "2", "TIME": "2000-01-03",
            "FORMAT": "image/png", "INFO_FORMAT": "application/json",
        },
        trust_env=False,
    )  # fmt: skip
    with xr.open_dataset(site.root.parent / "plain.nc") as truth:
        value = float(truth.t.isel(time=2).sel(lat=90 - 2.5 * 30, lon=-2 + 3.5 * 40, method="nearest"))
    assert f"{value:.4f}"[:6] in info.text, info.text


def test_geozarr_tells_of_all_levels(site: Site, schemas: Path) -> None:
    root = httpx.get(f"{site.url}/geozarr/plain/zarr.json", trust_env=False).json()
    folder = schemas / "zarr-conventions"
    for name in ("multiscales", "spatial", "proj"):
        Draft7Validator(json.loads((folder / f"{name}-v0.1.json").read_text())).validate(root)
    Draft7Validator(json.loads((folder / "zarr-conventions-v1.json").read_text())).validate(root)
    layout = root["attributes"]["multiscales"]["layout"]
    assert [each["asset"] for each in layout] == ["0", "1", "2"]
    for each in layout:
        group = httpx.get(f"{site.url}/geozarr/plain/{each['asset']}/zarr.json", trust_env=False).json()
        array = httpx.get(f"{site.url}/geozarr/plain/{each['asset']}/t/zarr.json", trust_env=False).json()
        assert array["shape"][1:] == each["spatial:shape"]
        assert array["attributes"]["spatial:transform"] == each["spatial:transform"]
        assert group["consolidated_metadata"]["metadata"]["t"] == array
        assert root["consolidated_metadata"]["metadata"][f"{each['asset']}/t"] == array
        data = level(site, "plain", each["asset"])
        step, _, west, _, down, north = each["spatial:transform"]
        assert np.allclose(data.lon, west + step * (np.arange(data.lon.size) + 0.5))
        assert np.allclose(data.lat, north + down * (np.arange(data.lat.size) + 0.5))
        with xr.open_dataset(f"{site.url}/geozarr/plain/{each['asset']}", engine="zarr", zarr_format=3, chunks=None) as same:
            xr.testing.assert_equal(same.load(), data)


TEMPLATE = """
id: late
title: Late
period_type: daily
source: {{kind: files, paths: {file}}}
layout: {{chunks: {{time: 4, lat: 20, lon: 45}}{pyramid}}}
"""


def late(root: Path, file: Path, pyramid: str = "") -> None:
    """Write the template of a dataset, with or without overviews."""
    (root / "config/datasets").mkdir(parents=True, exist_ok=True)
    (root / "config/datasets/late.yaml").write_text(TEMPLATE.format(file=file, pyramid=pyramid))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_refresh_makes_missing_overviews_without_a_version(site: Site) -> None:
    late(site.root, site.root.parent / "plain.nc")
    done = here("ingest", "late", "--start", "2000-01-01", "--instance", site.root)
    assert done.returncode == 0, done.stderr
    query = {"properties": "t", "datetime": "2000-01-03", "bbox": "-2,-90,358,90", "width": "9", "height": "6"}
    whole, headers = drawn(site, "/ogcapi/collections/late/map", **query)
    assert "cubeport-overview" not in headers
    with cubeport.connect(site.root, read_only=True) as service:
        before = service.shown("late")
    nothing = here("refresh", "late", "--overviews", "--instance", site.root)
    assert (nothing.returncode, nothing.stdout) == (0, "Nothing changed.\n")

    late(site.root, site.root.parent / "plain.nc", ", pyramid: {levels: 2}")
    for point in ("overviews:after", "publish:half", "commit:before"):
        environment = {**os.environ, "CUBEPORT_TESTING": "1", "CUBEPORT_FAIL_POINTS": point}
        killed = cli("refresh", "late", "--overviews", "--instance", site.root, env=environment)
        assert killed.returncode == -9, (point, killed.stdout, killed.stderr)
        assert drawn(site, "/ogcapi/collections/late/map", **query)[1]["etag"] == headers["etag"], "nothing happened yet"
    made = here("refresh", "late", "--overviews", "--instance", site.root)
    assert made.returncode == 0, made.stderr
    assert f"late: overviews of {before.version.version_id}" in made.stdout

    # The server, which was running all the time, draws from them at its next request.
    found, after = drawn(site, "/ogcapi/collections/late/map", **query)
    twin, _ = drawn(site, "/ogcapi/collections/plain/map", **query)
    assert after["cubeport-overview"] == "2"
    assert after["etag"] != headers["etag"]
    assert np.array_equal(found, twin)
    assert not np.array_equal(found, whole)
    for number in (0, 1, 2):
        xr.testing.assert_equal(level(site, "late", number), level(site, "plain", number))
    document = httpx.get(f"{site.url}/geozarr/late/zarr.json", trust_env=False).json()
    assert [each["asset"] for each in document["attributes"]["multiscales"]["layout"]] == ["0", "1", "2"]
    with cubeport.connect(site.root) as service:
        shown = service.shown("late")
        assert (shown.version, shown.description.overview_levels) == (before.version, 2)
        assert not service.catalog.fsck(data=True).findings
        assert not list((site.root / "data/staging").iterdir())
        assert service.make_overviews("late") == [], "it has them"
