"""Files in the styles of producers: each value is found at its own place and time."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
from owslib.wms import WebMapService
from zarr.storage import ZipStore

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
DAYS = {"units": "days since 2020-01-01", "standard_name": "time"}


def pixels(content: bytes) -> np.ndarray:
    """Return red, green, blue and opacity of each pixel of a PNG."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(io.BytesIO(content)) as opened:
            table = opened.colormap(1)
            return np.array([table.get(index, (0, 0, 0, 0)) for index in range(256)])[opened.read(1)]


def values(client: httpx.Client, path: str, **query: str) -> list[float | None]:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    return [each for part in document.get("coverages", [document]) for each in part["ranges"]["t"]["values"]]


def at_stations(*heights: float) -> xr.Dataset:
    """CF H.2.1: stations with their heights, which its example marks as a vertical axis."""
    count = len(heights)
    alt = np.array(heights), {"units": "m", "standard_name": "height", "positive": "up", "axis": "Z"}
    return xr.Dataset(
        {"t": (("time", "station"), np.arange(2.0 * count).reshape(2, count), {"units": "K", "coordinates": "lon lat alt"})},
        {
            "lon": ("station", 8.0 + 2 * np.arange(count), LON),
            "lat": ("station", np.full(count, 47.0), LAT),
            "alt": ("station", *alt),
            "time": ("time", [0.0, 1], DAYS),
        },
        {"featureType": "timeSeries"},
    )


@pytest.mark.usefixtures("no_zones")
@pytest.mark.parametrize("heights", [(500.0, 1800.0, 900.0), (300.0, 400.0, 900.0)], ids=["any-order", "ascending"])
def test_the_height_of_a_station_is_no_axis(client: httpx.Client, keep: Any, heights: tuple[float, ...]) -> None:
    """Heights in no order were refused, with the advice to sort the stations, and others became levels."""
    dataset = keep(f"stations-{heights[1]:g}", at_stations(*heights))
    described = client.get(f"/ogcapi/collections/{dataset}").json()
    assert "vertical" not in described["extent"]
    assert values(client, f"/ogcapi/collections/{dataset}/position", coords="POINT(10 47)") == [1, 4]
    items = client.get(f"/ogcapi/collections/{dataset}/locations").json()["features"]
    assert [each["properties"]["alt"] for each in items] == list(heights)
    refused = client.get(f"/ogcapi/collections/{dataset}/coverage", params={"crs": "[EPSG:3857]"})
    assert (refused.status_code, "their places are in CRS84: leave crs out" in refused.text) == (400, True)


def test_a_sounding_that_drifts_has_levels(client: httpx.Client, keep: Any) -> None:
    level = {"units": "m", "standard_name": "height", "positive": "up", "axis": "Z"}
    data = xr.Dataset(
        {"t": ("obs", [1.0, 2, 3], {"units": "K", "coordinates": "lon lat alt"})},
        {"lon": ("obs", [8.0, 8.5, 9], LON), "lat": ("obs", [47.0, 47, 47], LAT), "alt": ("obs", [10.0, 100, 500], level)},
        {"featureType": "profile"},
    )
    described = client.get(f"/ogcapi/collections/{keep('sounding', data)}").json()
    assert described["extent"]["vertical"]["interval"] == [["10.0", "500.0"]]


@pytest.mark.parametrize(
    ("lon", "lat"), [((0.0, 1, 2), (45.0,)), ((7.0,), (45.0, 46)), ((7.0,), (45.0,))], ids=["row", "column", "cell"]
)
@pytest.mark.parametrize("boxed", [False, True], ids=["whole", "box"])
def test_one_row_or_column_is_in_every_reference_system(
    client: httpx.Client, keep: Any, lon: tuple[float, ...], lat: tuple[float, ...], boxed: bool
) -> None:
    """A row was 500, and a column was spread around the Earth."""
    cells = np.arange(1.0 * len(lon) * len(lat)).reshape(len(lat), len(lon)) + 1
    axes = {"lon": ("lon", list(lon), LON), "lat": ("lat", list(lat), LAT)}
    data = xr.Dataset({"t": (("lat", "lon"), cells, {"units": "K"})}, axes)
    dataset = keep(f"line-{len(lon)}-{len(lat)}", data)
    box = {"bbox": f"{lon[-1] - 0.1},{lat[-1] - 0.1},{lon[-1] + 0.1},{lat[-1] + 0.1}"} if boxed else {}
    for crs in ("[EPSG:3857]", "[EPSG:4326]", "[OGC:CRS84]"):
        found = values(client, f"/ogcapi/collections/{dataset}/coverage", crs=crs, **box)
        assert sorted(each for each in found if each) == (sorted(cells.ravel())[-1:] if boxed else sorted(cells.ravel())), crs
        assert None not in found, crs


def test_a_time_with_more_digits_than_its_label_is_that_label(client: httpx.Client, keep: Any) -> None:
    """Days in double precision: xarray reads 03:00:00.002591744, and the label here is rounded to the millisecond. It was 404."""
    days = 43830 + np.arange(3) / 8 + np.array([0, 3e-8, -3e-8])
    data = xr.Dataset(
        {"t": (("time", "lat", "lon"), np.arange(12.0).reshape(3, 2, 2), {"units": "K"})},
        {
            "lon": ("lon", [0.0, 1], LON),
            "lat": ("lat", [50.0, 51], LAT),
            "time": ("time", days, {"units": "days since 1900-01-01", "standard_name": "time"}),
        },
    )
    dataset = keep("noisy-days", data)
    with xr.open_dataset(f"{client.base_url}/zarr/{dataset}", engine="zarr", chunks=None) as opened:
        stamps = [str(each) for each in opened.time.values]
    assert stamps[1].startswith("2020-01-02T03:00:00.00259")
    path = f"/ogcapi/collections/{dataset}/position"
    for step, stamp in enumerate(stamps):
        for text in (f"{stamp}Z", stamp[:26] + "Z"):
            assert values(client, path, coords="POINT(1 50)", datetime=text) == [4 * step + 1]
            assert values(client, path, coords="POINT(1 50)", datetime=f"{text}/{text}") == [4 * step + 1]
            assert values(client, path, coords="POINT(1 50)", subset=f'time("{text}")') == [4 * step + 1]


def square(name: str, cells: Any, **attributes: Any) -> xr.Dataset:
    """Two rows and three columns from 0 to 20° east and from 40 to 50° north."""
    return xr.Dataset(
        {name: (("lat", "lon"), np.asarray(cells).reshape(2, 3), attributes)},
        {"lon": ("lon", [0.0, 10, 20], LON), "lat": ("lat", [50.0, 40], LAT)},
    )


TRIANGLE = "POLYGON((-4 36,24 36,24 54,-4 36))"


@pytest.mark.parametrize("form", ["json", "csv", "netcdf", "zarr"])
def test_true_and_false_are_numbers_and_missing_outside(client: httpx.Client, keep: Any, tmp_path: Path, form: str) -> None:
    """Points outside were false in every form, and CoverageJSON of an area had ``true`` among integers."""
    data = square("t", [True, False, True, False, True, True])
    dataset = keep("masks", data)
    places = {"coords": "MULTIPOINT((0 50),(10 50),(90 0))", "f": form}

    def read(answer: httpx.Response) -> list[float | None]:
        assert answer.status_code == 200, answer.text
        if form == "json":
            assert "true" not in answer.text
            found: list[float | None] = answer.json()["ranges"]["t"]["values"]
            return found
        if form == "csv":
            cells = [line.split(",")[-1] for line in answer.text.split()[1:]]
            return [float(each) if each else None for each in cells]
        path = tmp_path / f"part.{form}"
        path.write_bytes(answer.content)
        store: Any = ZipStore(path, mode="r") if form == "zarr" else path
        with xr.open_dataset(store, engine="zarr" if form == "zarr" else "h5netcdf") as opened:
            return [None if each != each else float(each) for each in opened["t"].values.ravel().tolist()]

    assert read(client.get(f"/ogcapi/collections/{dataset}/position", params=places)) == [1, 0, None]
    region = read(client.get(f"/ogcapi/collections/{dataset}/area", params={"coords": TRIANGLE, "f": form}))
    assert [each for each in region if each is not None] == [1, 1, 1]
    turned = client.get(f"/ogcapi/collections/{dataset}/coverage", params={"crs": "[EPSG:3857]", "bbox": "15,30,60,55", "f": form})
    assert set(read(turned)) == {1}
    lon, lat = np.meshgrid(np.arange(0.0, 60, 10), np.arange(0.0, 60, 10))
    places = {"lon": (("y", "x"), lon + 2 * lat, LON), "lat": (("y", "x"), lat, LAT)}
    sheared = xr.Dataset({"t": (("y", "x"), lon > lat)}, places)
    path = f"/ogcapi/collections/{keep('curved-masks', sheared)}/coverage"
    curved = client.get(path, params={"crs": "[EPSG:4326]", "f": form})
    assert set(read(curved)) == {1, 0, None}


def test_every_number_of_a_byte_is_a_value_beside_the_data(client: httpx.Client, keep: Any) -> None:
    """255 is what the NetCDF library takes for missing; here it was missing in answers with places outside the data."""
    data = square("t", np.array([255, 1, 2, 3, 4, 5], "u1"))
    data["t"].encoding["_FillValue"] = None
    path = f"/ogcapi/collections/{keep('bytes', data)}/position"
    assert values(client, path, coords="MULTIPOINT((0 50),(10 50),(90 0))") == [255, 1, None]


def test_flags_of_a_measured_quantity_are_no_classes(client: httpx.Client, keep: Any) -> None:
    """Sea ice concentrations have flags for land and coast (NSIDC): their map was empty, and CoverageJSON had no unit."""
    special = {"flag_values": np.array([251, 252, 253, 254, 255], "u1"), "flag_meanings": "pole unused coast land missing"}
    packed = {"_FillValue": np.uint8(255), "scale_factor": 0.01, "add_offset": 0.0, "units": "1"}
    ice = square("t", np.array([0, 50, 100, 254, 255, 25], "u1"), **special, **packed)
    cover = square("t", np.array([1, 2, 2, 3, 0, 1], "u1"), flag_values=np.array([1, 2, 3], "u1"), flag_meanings="wood lake town")
    ice["t"].encoding["_FillValue"] = ice["t"].attrs.pop("_FillValue")
    assert "categories" not in str(client.get(f"/ogcapi/collections/{keep('ice', ice)}/position?coords=POINT(0 50)").json())
    assert "categories" in str(client.get(f"/ogcapi/collections/{keep('cover', cover)}/position?coords=POINT(0 50)").json())
    for dataset, drawn in ((keep("ice", ice), 5), (keep("cover", cover), 5)):
        answer = client.get(f"/ogcapi/collections/{dataset}/map", params={"bbox": "-5,35,25,55", "width": 3, "height": 2})
        assert answer.status_code == 200, answer.text
        assert int((pixels(answer.content)[..., 3] > 0).sum()) == drawn


def test_a_curved_grid_is_in_every_turn_of_a_wide_map(client: httpx.Client, keep: Any) -> None:
    """A map of more than 360° had its cells once."""
    lon, lat = np.meshgrid(np.arange(-170.0, 180, 20), np.arange(-60.0, 61, 20))
    cells = np.arange(1.0 * lon.size).reshape(lon.shape)
    data = xr.Dataset(
        {"t": (("j", "i"), cells, {"units": "K", "coordinates": "lon lat"})},
        {"lon": (("j", "i"), lon + np.linspace(0, 3, lon.shape[0])[:, None], LON), "lat": (("j", "i"), lat, LAT)},
    )
    dataset = keep("round", data)
    once, wide = (
        pixels(client.get(f"/ogcapi/collections/{dataset}/map", params={"bbox": box, "width": width, "height": 60}).content)
        for box, width in (("-180,-60,180,60", 180), ("-360,-60,360,60", 360))
    )
    assert np.array_equal(wide[:, 90:270], once)
    assert np.array_equal(wide[:, :90], once[:, 90:])
    assert np.array_equal(wide[:, 270:], once[:, :90])


@pytest.mark.parametrize(
    ("lon", "lat"), [((0.0, 1, 2), (45.0,)), ((7.0,), (45.0, 46)), ((7.0,), (45.0,))], ids=["row", "column", "cell"]
)
def test_a_map_shows_a_row_without_bounds(client: httpx.Client, keep: Any, lon: tuple[float, ...], lat: tuple[float, ...]) -> None:
    """Its width is unknown: the map was empty, and the box in the capabilities of the WMS had no extent, which GetMap refuses."""
    cells = np.arange(1.0 * len(lon) * len(lat)).reshape(len(lat), len(lon)) + 1
    axes = {"lon": ("lon", list(lon), LON), "lat": ("lat", list(lat), LAT)}
    dataset = keep(f"line-{len(lon)}-{len(lat)}", xr.Dataset({"t": (("lat", "lon"), cells, {"units": "K"})}, axes))
    layer = WebMapService(f"{client.base_url}/wms/{dataset}", version="1.3.0")["t"]
    (west, south, east, north) = layer.boundingBoxWGS84
    assert east > west
    assert north > south
    asked = {
        "LAYERS": "t",
        "QUERY_LAYERS": "t",
        "CRS": "CRS:84",
        "BBOX": f"{west},{south},{east},{north}",
        "WIDTH": "61",
        "HEIGHT": "61",
        "TRANSPARENT": "TRUE",
    }
    seen = pixels(client.get(f"/wms/{dataset}", params=asked | {"REQUEST": "GetMap", "FORMAT": "image/png"}).content)[..., 3] > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert (rows.size == 7, columns.size == 7) == (len(lat) == 1, len(lon) == 1)
    at = {"I": str(columns[-1]), "J": str(rows[0]), "INFO_FORMAT": "application/json"}
    told = client.get(f"/wms/{dataset}", params=asked | at | {"REQUEST": "GetFeatureInfo"}).json()
    assert told["features"][0]["properties"]["value"] == cells[int(lat.index(max(lat))), -1]
    tiles = client.get(f"/ogcapi/collections/{dataset}/map/tiles/WebMercatorQuad", params={"f": "tilejson"}).json()
    assert tiles["bounds"] == [west, south, east, north]


def test_a_position_on_a_sheared_grid_has_a_value_where_maps_have_one(client: httpx.Client, keep: Any) -> None:
    """At the border, the nearest centre is not always that of the cell with the place. Such places were 404."""
    j, i = np.meshgrid(np.arange(6.0), np.arange(7.0), indexing="ij")
    data = xr.Dataset(
        {"t": (("y", "x"), np.arange(42.0).reshape(6, 7), {"units": "K", "coordinates": "lon lat"})},
        {"lon": (("y", "x"), -30 + 4 * i + 3 * j, LON), "lat": (("y", "x"), 50 + 3 * j - 1.2 * i, LAT)},
    )
    dataset = keep("sheared", data)
    path = f"/ogcapi/collections/{dataset}/position"
    asked = {"LAYERS": "t", "QUERY_LAYERS": "t", "CRS": "CRS:84", "WIDTH": "3", "HEIGHT": "3", "I": "1", "J": "1"}
    for lon, lat in ((-25.4246, 57.2827), (-23.2923, 58.6), (-31.0, 52.0)):
        box = f"{lon - 0.01},{lat - 0.01},{lon + 0.01},{lat + 0.01}"
        told = client.get(f"/wms/{dataset}", params=asked | {"REQUEST": "GetFeatureInfo", "BBOX": box}).json()
        drawn = told["features"][0]["properties"]["value"]
        point = client.get(path, params={"coords": f"POINT({lon} {lat})"})
        assert (drawn is None) == (point.status_code == 404)
        assert drawn is None or point.json()["ranges"]["t"]["values"] == [drawn]


def test_data_without_a_place_have_no_layers(client: httpx.Client, keep: Any) -> None:
    """GetFeatureInfo said that there are no data for a dimension."""
    dataset = keep("nowhere", xr.Dataset({"t": ("time", [1.0, 2])}, {"time": ("time", [0.0, 1], DAYS)}))
    asked = {"LAYERS": "t", "QUERY_LAYERS": "t", "CRS": "CRS:84", "BBOX": "0,0,1,1", "WIDTH": "3", "HEIGHT": "3"}
    for request in ("GetFeatureInfo", "GetMap"):
        answer = client.get(f"/wms/{dataset}", params=asked | {"REQUEST": request, "FORMAT": "image/png", "I": "1", "J": "1"})
        assert 'code="LayerNotDefined"' in answer.text
        assert "no horizontal position" in answer.text
