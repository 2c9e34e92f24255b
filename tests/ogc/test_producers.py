"""Files in the styles of producers: each value is found at its own place and time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
DAYS = {"units": "days since 2020-01-01", "standard_name": "time"}


@pytest.fixture(scope="module")
def keep(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, xr.Dataset], str]:
    folder = tmp_path_factory.mktemp("producers")

    def write(name: str, data: xr.Dataset) -> str:
        path: Path = folder / f"{name}.nc"
        if not path.exists():
            data.to_netcdf(path, engine="netcdf4")
        return str(stored(str(path)).dataset_id)

    return write


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


@pytest.mark.parametrize("heights", [(500.0, 1800.0, 900.0), (300.0, 400.0, 900.0)], ids=["any-order", "ascending"])
def test_the_height_of_a_station_is_no_axis(client: httpx.Client, keep: Any, heights: tuple[float, ...]) -> None:
    """Heights in no order were refused, with the advice to sort the stations, and others became levels."""
    dataset = keep(f"stations-{heights[1]:g}", at_stations(*heights))
    described = client.get(f"/ogcapi/collections/{dataset}").json()
    assert "vertical" not in described["extent"]
    assert values(client, f"/ogcapi/collections/{dataset}/position", coords="POINT(10 47)") == [1, 4]
    items = client.get(f"/ogcapi/collections/{dataset}/locations").json()["features"]
    assert [each["properties"]["alt"] for each in items] == list(heights)


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
