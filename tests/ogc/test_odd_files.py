"""Odd files at the doors of pictures, tables and plots: each answer is right, or refused with a next step that works."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
DAYS = {"units": "days since 2020-01-01", "standard_name": "time"}
DEPTH = {"units": "m", "standard_name": "depth", "positive": "down", "axis": "Z"}


def grid(values: Any, **attributes: Any) -> xr.Dataset:
    return xr.Dataset(
        {"t": (("lat", "lon"), np.asarray(values).reshape(2, 3), attributes)},
        {"lon": ("lon", [0.0, 10, 20], LON), "lat": ("lat", [30.0, 20], LAT)},
    )


def at_a_place(client: httpx.Client, dataset: str, lon: float, lat: float, **more: str) -> float | None:
    """Return the value that a map shows at a place."""
    box = f"{lon - 0.01},{lat - 0.01},{lon + 0.01},{lat + 0.01}"
    asked = {"REQUEST": "GetFeatureInfo", "LAYERS": "t", "QUERY_LAYERS": "t", "CRS": "CRS:84", "BBOX": box}
    pixel = {"WIDTH": "3", "HEIGHT": "3", "I": "1", "J": "1", "INFO_FORMAT": "application/json"}
    answer = client.get(f"/wms/{dataset}", params=asked | pixel | more)
    assert answer.status_code == 200, answer.text
    found: float | None = answer.json()["features"][0]["properties"]["value"]
    return found


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("far-i8", np.arange(6) + 2**60 + 1),
        ("far-u8", np.arange(6).astype("u8") + np.uint64(2**63 + 1)),
        ("constant-1e20", np.full(6, 1e20)),
        ("constant-minus-1e300", np.full(6, -1e300)),
        ("both-ends", np.array([-1.7e308, 1.7e308, 0, 0, 0, 0])),
        ("subnormal", np.array([0, 1e-320, 0, 0, 0, 0])),
    ],
)
def test_a_range_that_double_precision_hardly_has_is_drawn(client: httpx.Client, keep: Any, name: str, values: Any) -> None:
    dataset = keep(name, grid(values))
    for path in ("thumbnail.png", "legend"):
        assert client.get(f"/datasets/{dataset}/{path}").status_code == 200, path
    for scale in ({}, {"LOGSCALE": "true", "COLORSCALERANGE": "1,1e300"}, {"COLORSCALERANGE": "auto"}):
        drawn = {"REQUEST": "GetMap", "LAYERS": "t", "CRS": "CRS:84", "BBOX": "0,20,20,30", "WIDTH": "8", "HEIGHT": "8"}
        answer = client.get(f"/wms/{dataset}", params={**drawn, "FORMAT": "image/png", **scale})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text


def station(*, time: bool) -> xr.Dataset:
    """Four depths below one place, whose time is a scalar too, or a series at one place."""
    if time:
        values = xr.Dataset({"t": ("time", np.arange(4.0) + 1)}, {"time": ("time", [0.0, 1, 2, 3], DAYS)})
    else:
        values = xr.Dataset({"t": ("z", np.arange(4.0) + 1)}, {"z": ("z", [0.0, 5, 10, 20], DEPTH), "time": ((), 2.0, DAYS)})
    return values.assign_coords(lon=((), 5.0, LON), lat=((), 50.0, LAT)).assign(t=values.t.assign_attrs(units="K"))


def test_a_map_of_data_at_one_place_has_their_value_there(client: httpx.Client, keep: Any) -> None:
    series, profile = keep("one-series", station(time=True)), keep("one-profile", station(time=False))
    assert at_a_place(client, series, 5, 50, TIME="2020-01-03") == 3.0
    assert at_a_place(client, profile, 5, 50, ELEVATION="10") == 3.0
    assert at_a_place(client, profile, 9, 50) is None
    drawn = "REQUEST=GetMap&LAYERS=t&CRS=CRS:84&BBOX=4.9,49.9,5.1,50.1&WIDTH=9&HEIGHT=9&FORMAT=image/png"
    assert client.get(f"/wms/{profile}?{drawn}").status_code == 200


def test_a_table_tells_the_place_and_the_time_that_all_values_have(client: httpx.Client, keep: Any) -> None:
    """They were in every form but CSV."""
    profile, series = keep("one-profile", station(time=False)), keep("one-series", station(time=True))
    for path in (f"/ogcapi/collections/{profile}/coverage?f=csv", f"/datasets/{profile}/download?format=csv"):
        found = rows(client.get(path))
        assert {(each["lon"], each["lat"], each["time"]) for each in found} == {("5.0", "50.0", "2020-01-03T00:00:00Z")}
        assert [(each["z"], each["t"]) for each in found] == [("0.0", "1.0"), ("5.0", "2.0"), ("10.0", "3.0"), ("20.0", "4.0")]
    found = rows(client.get(f"/ogcapi/collections/{series}/position?coords=POINT(5 50)&f=csv"))
    assert [(each["lon"], each["lat"], each["time"][:10], each["t"]) for each in found][1] == ("5.0", "50.0", "2020-01-02", "2.0")
    now = keep("one-time", grid(range(6)).assign_coords(time=((), 2.0, DAYS)))
    found = rows(client.get(f"/ogcapi/collections/{now}/coverage?f=csv"))
    assert {each["time"] for each in found} == {"2020-01-03T00:00:00Z"}
    assert [float(each["t"]) for each in found] == [0, 1, 2, 3, 4, 5]


def curvilinear() -> xr.Dataset:
    lon, lat = np.meshgrid(np.arange(0.0, 50, 10), [40.0, 30, 20, 10])
    lon[0, 0] = lat[0, 0] = lon[2, 2] = lat[2, 2] = np.nan
    return xr.Dataset(
        {"t": (("y", "x"), np.arange(20.0).reshape(4, 5), {"coordinates": "lon lat", "units": "K"})},
        {"lon": (("y", "x"), lon, LON), "lat": (("y", "x"), lat, LAT)},
    )


def test_a_cell_beside_one_without_a_position_is_on_maps_and_in_tables(client: httpx.Client, keep: Any, shelf: Any) -> None:
    """It had no corners, so maps and tables had no value where positions had one."""
    dataset, data = keep("hole", curvilinear()), curvilinear()
    for at in np.ndindex(4, 5):
        lon, lat = float(data.lon[at]), float(data.lat[at])
        if lon == lon:
            wanted = float(data.t[at])
            point = client.get(f"/ogcapi/collections/{dataset}/position?coords=POINT({lon} {lat})").json()
            assert point["ranges"]["t"]["values"] == [wanted]
            assert at_a_place(client, dataset, lon, lat) == wanted, at
    assert at_a_place(client, dataset, 20, 20) is None
    ring = [[19, 29], [21, 29], [21, 31], [19, 31], [19, 29]]
    zone = {"type": "Feature", "properties": {"code": "a"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    table = client.post(
        f"/datasets/{dataset}/table?id_property=code&statistic=mean,count", json={"type": "FeatureCollection", "features": [zone]}
    )
    assert float(rows(table)[0]["value"]) == 7


def levels(**dims: Any) -> xr.Dataset:
    data = grid(np.arange(6.0), units="K").expand_dims(time=np.array([0.0, 1]))
    data["time"].attrs = DAYS
    for name, (labels, attributes) in reversed(dims.items()):
        data = data.expand_dims({name: labels if labels is not None else 3})
        if labels is not None:
            data[name].attrs = attributes
    number = np.arange(data.t.size, dtype="f8").reshape(data.t.shape)
    return data.assign(t=(data.t.dims, number, {"units": "K"}))


ASKED = {
    "depths": levels(z=([0.0, 10, 100], DEPTH)),
    "numbers-of-levels": levels(z=(np.array([1, 2, 3], "i4"), {"units": "level", "axis": "Z", "positive": "down"})),
    "members": levels(realization=(np.array([1, 2, 3], "i4"), {"standard_name": "realization"})),
    "members-without-labels": levels(ens=(None, {})),
    "steps": levels(step=([0.0, 6, 12], {"units": "hours", "standard_name": "forecast_period"})),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_table_that_needs_one_label_names_labels_that_work(client: httpx.Client, keep: Any, name: str) -> None:
    dataset = keep(name, ASKED[name])
    ring = [[-4, 16], [24, 16], [24, 34], [-4, 34], [-4, 16]]
    zone = {"type": "Feature", "properties": {"code": "a"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    areas = {"type": "FeatureCollection", "features": [zone]}
    refused = client.post(f"/datasets/{dataset}/table?id_property=code&datetime=2020-01-01", json=areas)
    assert refused.status_code == 400, refused.text
    advised = re.search(r": ((?:z|subset)=\S+)\.$", refused.json()["detail"])
    assert advised, refused.json()["detail"]
    done = client.post(f"/datasets/{dataset}/table?id_property=code&datetime=2020-01-01&statistic=min&{advised[1]}", json=areas)
    assert [float(each["value"]) for each in rows(done)] == [0.0]


def label_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    found = re.search(r'aria-label="([^"]*)"', answer.text)
    assert found
    return found[1]


def test_a_plot_says_at_which_level_and_member_it_is(client: httpx.Client, keep: Any) -> None:
    """Without a choice it is at the first, which nobody could see."""
    depths, members = keep("depths", ASKED["depths"]), keep("members", ASKED["members"])
    assert label_of(client.get(f"/datasets/{depths}/plot?at=0,30&z=10")).startswith("t, z 10 m: 2 values")
    assert label_of(client.get(f"/datasets/{members}/plot?at=0,30")).startswith("t, realization 1: 2 values")
    assert label_of(client.get(f"/datasets/{members}/plot?at=0,30&subset=realization(3)")).startswith("t, realization 3: ")
    assert label_of(client.get(f"/datasets/{depths}/plot?at=0,30&t=2020-01-02&subset=z(0:100)")).startswith(
        "t, 2020-01-02T00:00:00Z: 3 "
    )


def test_the_next_step_of_a_plot_along_two_axes_works(client: httpx.Client, keep: Any) -> None:
    dataset = keep("members-without-labels", ASKED["members-without-labels"])
    refused = client.get(f"/datasets/{dataset}/plot?at=0,30")
    assert (refused.status_code, "subset=ens(…)" in refused.text) == (406, True)
    assert label_of(client.get(f"/datasets/{dataset}/plot?at=0,30&subset=ens(1)")).startswith("t")


def test_refusals_speak_of_what_was_asked(client: httpx.Client, keep: Any) -> None:
    levels, hole = keep("depths", ASKED["depths"]), keep("hole", curvilinear())
    assert "1 range of t, which has 4 dimensions" in client.get(f"/dap/{levels}.dds?t[0]").text
    assert "1 constraint in brackets; it has 4 axes" in client.get(f"/griddap/{levels}.csv?t[0]").text
    tall = client.get(f"/ogcapi/collections/{levels}/coverage?f=geotiff&datetime=2020-01-01").json()["detail"]
    assert tall.endswith("t has 3 along z. Choose one with subset=z(…).")
    assert client.get(f"/ogcapi/collections/{levels}/coverage?f=geotiff&datetime=2020-01-01&subset=z(10)").status_code == 200
    point = client.get(f"/ogcapi/collections/{levels}/trajectory?coords=LINESTRING(0 30,0 30)").json()["errors"][0]["message"]
    assert point == "coords must be a line with two different places"
    choice = client.get(f"/ogcapi/collections/{levels}/schema?f=xml").json()["detail"]
    assert choice == "f must be 'json' or 'html'."
    refused = client.get(f"/ogcapi/collections/{hole}/trajectory?coords=LINESTRING(5 15,35 38)&f=geotiff").json()["detail"]
    assert refused.endswith("Request f=netcdf or f=csv.")
    assert client.get(f"/ogcapi/collections/{hole}/trajectory?coords=LINESTRING(5 15,35 38)&f=csv").status_code == 200


def forecasts(*, run_first: bool) -> xr.Dataset:
    """Two runs of three steps of 12 hours, so that two forecasts are valid at some times. A value is 10 × run + step."""
    values = 10.0 * np.arange(2)[:, None] + np.arange(3) + np.zeros((2, 3, 2, 3)).transpose(2, 3, 0, 1)
    data = xr.Dataset(
        {"t": (("lat", "lon", "run", "step"), values, {"coordinates": "valid", "units": "K"})},
        {
            "run": ("run", [0.0, 1], {"units": "days since 2020-01-01", "standard_name": "forecast_reference_time"}),
            "step": ("step", [0.0, 12, 24], {"units": "hours", "standard_name": "forecast_period"}),
            "valid": (("run", "step"), [[0.0, 0.5, 1], [1, 1.5, 2]], DAYS),
            "lon": ("lon", [0.0, 10, 20], LON),
            "lat": ("lat", [30.0, 20], LAT),
        },
    )
    return data.transpose("run", "step", "lat", "lon") if run_first else data.transpose("step", "run", "lat", "lon")


@pytest.mark.parametrize("run_first", [True, False])
def test_a_map_of_a_forecast_is_of_the_time_that_is_asked(client: httpx.Client, keep: Any, run_first: bool) -> None:
    """TIME had no effect: the map was that of the first step of the first run, which looked like the wished one."""
    dataset = keep(f"forecasts-{run_first}", forecasts(run_first=run_first))
    for time, value in (("2020-01-01", 0.0), ("2020-01-01T12:00:00Z", 1.0), ("2020-01-02T12:00:00Z", 11.0), ("2020-01-03", 12.0)):
        assert at_a_place(client, dataset, 10, 20, TIME=time) == value, time
        drawn = client.get(f"/ogcapi/collections/{dataset}/map?datetime={time}&bbox=-5,15,25,35&width=30")
        whole = client.get(
            f"/ogcapi/collections/{dataset}/map?subset=run({value // 10:g}),step({12 * (value % 10):g})&bbox=-5,15,25,35&width=30"
        )
        assert (drawn.status_code, drawn.content) == (200, whole.content), time
    # At this time both runs have a forecast: the newest counts.
    assert at_a_place(client, dataset, 10, 20, TIME="2020-01-02T00:00:00Z") == 10.0
    assert at_a_place(client, dataset, 10, 20, TIME="2020-01-02T00:00:00Z", DIM_RUN="0") == 2.0
    asked = "REQUEST=GetMap&LAYERS=t&CRS=CRS:84&BBOX=0,20,20,30&WIDTH=8&HEIGHT=8&FORMAT=image/png"
    assert "There are no data" in client.get(f"/wms/{dataset}?{asked}&TIME=1999-01-01").text
    one = keep("one-time", grid(range(6)).assign_coords(time=((), 2.0, DAYS)))
    assert at_a_place(client, one, 10, 20, TIME="2020-01-03") == 4.0
    assert "There are no data" in client.get(f"/wms/{one}?{asked}&TIME=1999-01-01").text


def test_a_map_of_a_way_has_the_points_of_the_time_that_is_asked(client: httpx.Client, keep: Any) -> None:
    way = xr.Dataset(
        {"t": ("obs", np.arange(4, dtype="i4"), {"coordinates": "time lat lon"})},
        {
            "time": ("obs", [0.0, 1, 2, 3], DAYS),
            "lat": ("obs", [50.0, 51, 52, 53], LAT),
            "lon": ("obs", [5.0, 6, 7, 8], LON),
            "way": ((), "a", {"cf_role": "trajectory_id"}),
        },
        {"featureType": "trajectory"},
    )
    dataset = keep("way", way)
    for at in range(4):
        assert at_a_place(client, dataset, 5 + at, 50 + at) == at
        shown = at_a_place(client, dataset, 5 + at, 50 + at, TIME="2020-01-02T00:00:00Z/2020-01-03T00:00:00Z")
        assert shown == (at if at in (1, 2) else None)
    drawn = "REQUEST=GetMap&LAYERS=t&CRS=CRS:84&BBOX=4,49,9,54&WIDTH=64&HEIGHT=64&FORMAT=image/png&TRANSPARENT=TRUE"
    whole, part = (client.get(f"/wms/{dataset}?{drawn}{more}") for more in ("", "&TIME=2020-01-02T00:00:00Z"))
    assert (whole.status_code, part.status_code) == (200, 200)
    assert len(whole.content) != len(part.content)


def test_values_that_are_no_table_have_a_page(client: httpx.Client, keep: Any) -> None:
    """A browser got 406 for the link to the values of every dataset with a mask beside its series."""
    data = levels().assign(mask=(("lat", "lon"), np.array([[1, 0, 1], [1, 1, 0]], "i1")))
    dataset = keep("mask-beside", data)
    page = client.get(f"/ogcapi/collections/{dataset}/coverage", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "These fields are on different axes" in page.text
    one = client.get(f"/ogcapi/collections/{dataset}/coverage?properties=mask", headers={"Accept": "text/html"})
    assert "<td>30.0</td><td>0.0</td><td>1</td>" in one.text
    assert client.get(f"/ogcapi/collections/{dataset}/coverage?f=csv").status_code == 406


def test_the_next_step_of_a_table_of_forecasts_works(client: httpx.Client, keep: Any) -> None:
    dataset = keep("forecasts-True", forecasts(run_first=True))
    ring = [[6, 16], [14, 16], [14, 24], [6, 24], [6, 16]]
    zone = {"type": "Feature", "properties": {"code": "a"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    areas = {"type": "FeatureCollection", "features": [zone]}
    refused = client.post(f"/datasets/{dataset}/table?id_property=code&subset=run(0),step(0)", json=areas)
    assert (refused.status_code, "Ask EDR area" in refused.text) == (406, True)
    text = ",".join(f"{x} {y}" for x, y in ring)
    area = client.get(f"/ogcapi/collections/{dataset}/area?coords=POLYGON(({text}))&datetime=2020-01-01T12:00:00Z&f=csv")
    assert [float(each["t"]) for each in rows(area) if each["t"]] == [1.0]


def test_a_plot_is_as_wide_as_was_asked(client: httpx.Client, stored: Any) -> None:
    address = f"/datasets/{stored('coads_sst.nc').dataset_id}/plot?at=220,20"
    drawn = {}
    for width in (320, 720, 1200):
        text = client.get(address, params={"at": "220,20", "w": str(width)}).text
        assert f'viewBox="0 0 {width} ' in text
        points = [float(each) for each in re.findall(r"[ML]([\d.]+) [\d.]+", text)]
        assert width - 40 < max(points) <= width, "the line goes to the end"
        drawn[width] = text.count('text-anchor="middle"')
    assert drawn[320] < drawn[1200], "labels of times do not run into each other"
    assert client.get(address).text == client.get(address, params={"at": "220,20", "w": "720"}).text
    for wrong in ("319", "1201", "wide"):
        refused = client.get(address, params={"at": "220,20", "w": wrong})
        assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (400, ["query", "w"])


def test_accept_chooses_the_picture_or_the_values_of_a_plot(client: httpx.Client, stored: Any) -> None:
    address = f"/datasets/{stored('coads_sst.nc').dataset_id}/plot?at=220,20"
    as_browsers_ask = {"accept": "image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8"}
    assert client.get(address, headers=as_browsers_ask).headers["content-type"] == "image/svg+xml"
    table = client.get(address, headers={"accept": "text/csv"})
    assert table.text == client.get(f"{address}&f=csv").text
    refused = client.get(address, headers={"accept": "image/jpeg"})
    assert (refused.status_code, refused.headers["vary"]) == (406, "Accept")
