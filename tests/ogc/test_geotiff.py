"""GeoTIFF answers as GDAL reads them: the value, the place and the reference system of each pixel are those of the source."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import CRS, Transformer
from tests.families import FAMILIES

STRAIGHT = ["regular", "south-up", "from-0-to-360", "over-the-dateline", "days-of-360", "packed", "no-time", "projected"]


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, xr.Dataset], Any]:
    folder = tmp_path_factory.mktemp("geotiff")

    def write(name: str, data: xr.Dataset) -> Any:
        path = folder / f"tif-{name}.nc"
        if not path.exists():
            data.to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


def ask(client: httpx.Client, cube: Any, kind: str = "coverage", **query: str) -> httpx.Response:
    return client.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params={"f": "geotiff", **query})


def opened(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/tiff; application=geotiff"
    return rasterio.open(io.BytesIO(answer.content))


@pytest.mark.parametrize("name", STRAIGHT)
def test_gdal_reads_each_value_at_its_place(client: httpx.Client, put: Any, name: str) -> None:
    data = FAMILIES[name].make()
    cube = put(name, data)
    time = {} if "time" not in data.dims else {"subset": "time(*)"}
    truth = cube.truth()["t"]
    truth = truth.isel(time=-1) if "time" in truth.dims else truth
    x, y = (cube.description.axis(str(each)) for each in (cube.description.spatial.x, cube.description.spatial.y))
    with opened(ask(client, cube, **time)) as found:
        assert found.count == 1
        assert found.descriptions == ("t",)
        values = found.read(1)
        to_crs = Transformer.from_crs(found.crs, found.crs, always_xy=True)
        assert to_crs is not None
        shift = 0.0
        for column, lon in enumerate(truth[x.name].values.tolist()):
            for row, lat in enumerate(truth[y.name].values.tolist()):
                at = found.index(lon + shift, lat)
                if not 0 <= at[1] < found.width:
                    at = found.index(lon + (360 if at[1] < 0 else -360), lat)
                expected = float(truth.isel({x.dimension: column, y.dimension: row}))
                assert values[at] == pytest.approx(expected, nan_ok=True, abs=0)
        if name == "projected":
            there = Transformer.from_crs(found.crs.to_wkt(), "OGC:CRS84", always_xy=True).transform(*found.xy(0, 0))
            own = Transformer.from_crs(cube.description.spatial.crs.wkt2, "OGC:CRS84", always_xy=True).transform(*found.xy(0, 0))
            assert there == pytest.approx(own, abs=1e-7)
        else:
            assert found.crs.to_epsg() == 4326
        assert found.transform.e < 0 < found.transform.a


def test_a_reference_system_without_a_code_is_written_out(client: httpx.Client, put: Any) -> None:
    own = CRS.from_cf(
        {
            "grid_mapping_name": "lambert_azimuthal_equal_area",
            "longitude_of_projection_origin": 11.0,
            "latitude_of_projection_origin": 50.0,
            "false_easting": 4321000.0,
            "false_northing": 3210000.0,
        }
    )
    data = FAMILIES["projected"].make()
    data["crs"].attrs = {key: value for key, value in own.to_cf().items() if key != "crs_wkt"}
    cube = put("own-crs", data)
    assert cube.description.spatial.crs.authority is None
    with opened(ask(client, cube, subset="time(*)")) as found:
        there = Transformer.from_crs(found.crs.to_wkt(), "OGC:CRS84", always_xy=True).transform(*found.xy(2, 3))
        assert there == pytest.approx(Transformer.from_crs(own, "OGC:CRS84", always_xy=True).transform(*found.xy(2, 3)), abs=1e-6)


def test_fields_are_bands_with_their_names_and_units(client: httpx.Client, put: Any) -> None:
    data = FAMILIES["south-up"].make()
    data["u"] = data["t"] + 1000
    data["u"].attrs = {"units": "m s-1", "long_name": "a „wind“"}
    cube = put("bands", data)
    with opened(ask(client, cube, subset="time(*)", properties="u,t")) as found:
        assert found.descriptions == ("u", "t")
        assert found.units[0] == "m s-1"
        assert np.array_equal(found.read(1), found.read(2) + 1000, equal_nan=True)


def test_cells_outside_an_area_are_missing(client: httpx.Client, put: Any) -> None:
    cube = put("regular", FAMILIES["regular"].make())
    west, south, east, north = cube.description.spatial.bbox
    polygon = f"POLYGON(({west} {south},{east} {south},{west} {north},{west} {south}))"
    first = cube.truth()["time"].size
    assert first >= 1
    whole = ask(client, cube, "area", coords=polygon, datetime=cube.description.temporal.start)
    with opened(whole) as found:
        values = found.read(1, masked=True)
        assert values.mask.any()
        assert not values.mask.all()
        assert np.isnan(found.nodata)


@pytest.mark.parametrize(
    ("name", "query", "next_step"),
    [
        ("regular", {}, "datetime"),
        ("curvilinear", {"subset": "time(*)"}, "netcdf"),
        ("members", {"subset": "time(*)"}, "subset="),
        ("rotated-pole", {"subset": "time(*)"}, "crs="),
    ],
)
def test_what_has_no_form_is_refused_with_a_way_out(
    client: httpx.Client, put: Any, name: str, query: dict[str, str], next_step: str
) -> None:
    answer = ask(client, put(name, FAMILIES[name].make()), **query)
    assert answer.status_code == 406, answer.text
    assert next_step in answer.json()["detail"]
    estimated = ask(client, put(name, FAMILIES[name].make()), **query, estimate="true")
    assert (estimated.status_code, estimated.json()["detail"]) == (406, answer.json()["detail"]), (
        "an estimate promises nothing else"
    )


def test_a_download_is_a_file(client: httpx.Client, put: Any) -> None:
    cube = put("no-time", FAMILIES["no-time"].make())
    answer = client.get(f"/datasets/{cube.dataset_id}/download", params={"format": "geotiff", "variables": "t"})
    assert answer.headers["content-disposition"].endswith('.tif"')
    with rasterio.open(io.BytesIO(answer.content)) as found:
        assert found.read(1).shape == (found.height, found.width)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("classic-netcdf", "zarr-store")])
def test_every_link_to_a_coverage_leads_to_it(client: httpx.Client, put: Any, name: str) -> None:
    """A GeoTIFF has one map, which the title of its link names."""
    cube = put(name, FAMILIES[name].make())
    links = client.get(f"/ogcapi/collections/{cube.dataset_id}", params={"f": "json"}).json()["links"]
    found = [link for link in links if link["rel"].endswith("/coverage")]
    for link in found:
        answer = client.get(link["href"])
        assert answer.status_code == 200, (link, answer.text)
        assert answer.headers["content-type"].partition(";")[0] == link["type"].partition(";")[0]
    (tiff,) = [link for link in found if link["type"].startswith("image/tiff")] or [None]
    if name == "unstructured":
        assert tiff is None or "crs" in tiff["href"]
        return
    with opened(client.get(tiff["href"])) as picture:
        assert picture.crs is not None
        assert picture.count == 1
    assert ("2020-01-01" in tiff["title"]) is (name != "no-time")


def test_an_estimate_refuses_what_the_file_would(client: httpx.Client, put: Any) -> None:
    """Uneven rows, and one cell of them whose height nothing tells."""
    lat = ("lat", [-60.0, -20, 10, 70], {"units": "degrees_north", "standard_name": "latitude"})
    lon = ("lon", [0.0, 90, 180, 270], {"units": "degrees_east", "standard_name": "longitude"})
    cube = put("uneven", xr.Dataset({"v": (("lat", "lon"), np.arange(16.0).reshape(4, 4))}, {"lat": lat, "lon": lon}))
    for kind, query in (("coverage", {}), ("position", {"coords": "POINT(0 10)"})):
        for estimate in ("false", "true"):
            assert ask(client, cube, kind, **query, estimate=estimate).status_code == 406, (kind, estimate)
    links = client.get(f"/ogcapi/collections/{cube.dataset_id}", params={"f": "json"}).json()
    (tiff,) = [link for link in links["links"] if link["type"].startswith("image/tiff")]
    with opened(client.get(tiff["href"])) as found:
        assert found.crs.to_epsg() == 3857
    for name in ("locations", "items", "instances"):
        link = links["data_queries"][name]["link"]
        assert client.get(link["href"]).headers["content-type"].partition(";")[0] == link["type"]
