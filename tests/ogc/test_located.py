"""What locates a value travels with it: in every output form, of every family of grids, its place and its time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from jsonschema.validators import validator_for
from tests.families import FAMILIES

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}
HOURS = {"units": "hours since 2020-01-01", "standard_name": "time"}


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, xr.Dataset], Any]:
    folder = tmp_path_factory.mktemp("located")

    def write(name: str, data: xr.Dataset) -> Any:
        path = folder / f"{name}.nc"
        if not path.exists():
            data.to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


@pytest.fixture(scope="module")
def schema(schemas: Path) -> Any:
    found = json.loads((schemas / "schemas.opengis.net/covjson/1.0/coveragejson.json").read_text())
    return validator_for(found)(found)


def ask(client: httpx.Client, cube: Any, kind: str = "coverage", **query: str) -> httpx.Response:
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/{kind}", params=query)
    assert answer.status_code == 200, answer.text
    return answer


def rows(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


def netcdf(answer: httpx.Response) -> xr.Dataset:
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as found:
        return found.load()


def way() -> xr.Dataset:
    """One way: time, place and height along it."""
    return xr.Dataset(
        {"O3": ("obs", np.arange(5, dtype="f4"), {"units": "ppb", "coordinates": "time lat lon altitude"})},
        {
            "time": ("obs", np.arange(5) * 2.0, HOURS),
            "lat": ("obs", 52 - np.arange(5) * 0.5, LAT),
            "lon": ("obs", np.arange(5) * 0.5, LON),
            "altitude": ("obs", 2000.0 - 100 * np.arange(5), {"units": "m", "standard_name": "altitude", "positive": "up"}),
        },
        {"featureType": "trajectory"},
    )


def ways() -> xr.Dataset:
    """Two ways in one array, the second shorter."""
    nan = np.nan
    return xr.Dataset(
        {"sst": (("traj", "obs"), np.array([[1, 2, 3, 4], [5, 6, 7, nan]], "f4"), {"coordinates": "when lat lon"})},
        {
            "id": ("traj", np.array([11, 12], "i4"), {"cf_role": "trajectory_id"}),
            "when": (("traj", "obs"), [[0, 1, 2, 3], [10, 11, 12, nan]], HOURS),
            "lat": (("traj", "obs"), [[10, 10.1, 10.2, 10.3], [-40, -40.2, -40.4, nan]], LAT),
            "lon": (("traj", "obs"), [[0, 0.1, 0.2, 0.3], [100, 100.1, 100.2, nan]], LON),
        },
        {"featureType": "trajectory"},
    )


def ragged() -> xr.Dataset:
    """Two ways one after the other: their times go back in the middle."""
    return xr.Dataset(
        {"sst": ("obs", np.arange(6, dtype="f4"), {"coordinates": "time lat lon"})},
        {
            "rowSize": ("traj", np.array([3, 3], "i4"), {"sample_dimension": "obs"}),
            "time": ("obs", [10.0, 11, 12, 0, 1, 2], HOURS),
            "lat": ("obs", [0.0, 1, 2, 40, 41, 42], LAT),
            "lon": ("obs", [0.0, 1, 2, 100, 101, 102], LON),
        },
        {"featureType": "trajectory"},
    )


def runs() -> xr.Dataset:
    """Two runs of three steps: the time of each value is in ``valid_time(time, step)``."""
    return xr.Dataset(
        {"msl": (("time", "step", "lat", "lon"), np.arange(24, dtype="f4").reshape(2, 3, 2, 2), {"coordinates": "valid_time"})},
        {
            "time": ("time", [0.0, 12], {"units": "hours since 2020-01-01", "standard_name": "forecast_reference_time"}),
            "step": ("step", [0.0, 6, 12], {"units": "hours", "standard_name": "forecast_period"}),
            "valid_time": (("time", "step"), [[0.0, 6, 12], [12, 18, 24]], HOURS),
            "lat": ("lat", [54.0, 55], LAT),
            "lon": ("lon", [3.0, 4], LON),
        },
    )


def nest() -> xr.Dataset:
    """Positions that a model has written for each step, though they stand still."""
    east, north = np.meshgrid(np.arange(4) * 0.1 + 10, np.arange(3) * 0.1 + 45)
    both = {"coordinates": "XLONG XLAT XTIME"}
    return xr.Dataset(
        {"T2": (("Time", "south_north", "west_east"), np.arange(24, dtype="f4").reshape(2, 3, 4), both)},
        {
            "XTIME": ("Time", np.array([0, 60], "f4"), {"units": "minutes since 2020-01-01 00:00:00"}),
            "XLAT": (("Time", "south_north", "west_east"), np.stack([north, north]), {"units": "degree_north"}),
            "XLONG": (("Time", "south_north", "west_east"), np.stack([east, east]), {"units": "degree_east"}),
        },
    )


def test_a_way_has_its_time_place_and_height_in_every_form(client: httpx.Client, put: Any, schema: Any) -> None:
    cube, truth = put("way", way()), way()
    document = ask(client, cube).json()
    assert list(schema.iter_errors(document)) == []
    assert document["domain"]["domainType"] == "Trajectory"
    told = document["domain"]["axes"]["composite"]
    assert told["coordinates"] == ["t", "x", "y", "z"]
    assert [each[1:] for each in told["values"]] == np.stack([truth.lon, truth.lat, truth.altitude], axis=1).tolist()
    assert [each[0] for each in told["values"]] == [f"2020-01-01T{hour:02d}:00:00Z" for hour in range(0, 10, 2)]
    assert document["ranges"]["O3"]["values"] == truth.O3.values.tolist()
    assert {each["coordinates"][0] for each in document["domain"]["referencing"]} == {"x", "z", "t"}
    for row, (t, x, y, z), value in zip(rows(ask(client, cube, f="csv")), told["values"], truth.O3.values, strict=True):
        assert (row["time"], float(row["lon"]), float(row["lat"]), float(row["altitude"]), float(row["O3"])) == (t, x, y, z, value)
    found = netcdf(ask(client, cube, f="netcdf"))
    for name in ("time", "lat", "lon", "altitude", "O3"):
        assert found[name].values.tolist() == xr.decode_cf(truth)[name].values.tolist()


@pytest.mark.parametrize("made", [ways, ragged])
def test_several_ways_have_the_time_of_each_point(
    client: httpx.Client, put: Any, schema: Any, made: Callable[[], xr.Dataset]
) -> None:
    cube, truth = put(made.__name__, made()), made()
    name = "when" if "when" in truth else "time"
    document = ask(client, cube).json()
    assert list(schema.iter_errors(document)) == []
    known = np.isfinite(truth.lon.values)
    hours = truth[name].values[known]
    told = document["domain"]["axes"]["composite"]["values"]
    assert [each[0] for each in told] == [f"2020-01-01T{int(hour):02d}:00:00Z" for hour in hours]
    assert [each[1:] for each in told] == np.stack([truth.lon.values[known], truth.lat.values[known]], axis=1).tolist()
    assert document["ranges"]["sst"]["values"] == truth.sst.values[known].tolist()
    part = ask(client, cube, datetime="2020-01-01T11:00:00Z").json()
    assert part["ranges"]["sst"]["values"] == truth.sst.values[truth[name].values == 11].tolist()
    later = ask(client, cube, datetime="2020-01-01T10:00:00Z/..", bbox="-5,-50,150,60").json()
    assert later["ranges"]["sst"]["values"] == truth.sst.values[truth[name].values >= 10].tolist()
    with_time = rows(ask(client, cube, f="csv", datetime="2020-01-01T11:00:00Z"))
    assert [row[name] for row in with_time] == ["2020-01-01T11:00:00Z"]
    assert cube.description.temporal.start == "2020-01-01T00:00:00Z"
    assert cube.description.temporal.end == "2020-01-01T12:00:00Z"


def test_the_time_of_a_forecast_is_when_it_holds(client: httpx.Client, put: Any, schema: Any) -> None:
    cube, truth = put("runs", runs()), runs()
    document = ask(client, cube).json()
    assert list(schema.iter_errors(document)) == []
    hours = truth.valid_time.values.ravel()
    whens = [each["domain"]["axes"]["t"]["values"] for each in document["coverages"]]
    assert whens == [[f"2020-01-0{1 + int(hour) // 24}T{int(hour) % 24:02d}:00:00Z"] for hour in hours]
    values = [each["ranges"]["msl"]["values"] for each in document["coverages"]]
    assert values == truth.msl.values.reshape(6, 4).tolist()
    noon = ask(client, cube, datetime="2020-01-01T12:00:00Z").json()
    both = [truth.msl.values[0, 2].ravel().tolist(), truth.msl.values[1, 0].ravel().tolist()]
    assert [each["ranges"]["msl"]["values"] for each in noon["coverages"]] == both
    point = ask(client, cube, "position", coords="POINT(3 54)", datetime="2020-01-01T18:00:00Z").json()
    assert point["ranges"]["msl"]["values"] == [truth.msl.values[1, 1, 0, 0]]
    table = rows(ask(client, cube, f="csv", datetime="2020-01-01T12:00:00Z"))
    assert [row["valid_time"] for row in table] == ["2020-01-01T12:00:00Z"] * 8
    found = netcdf(ask(client, cube, f="netcdf", datetime="2020-01-01T12:00:00Z"))
    assert int(np.isfinite(found["msl"].values).sum()) == 8
    assert cube.description.temporal.end == "2020-01-02T00:00:00Z"


def test_positions_that_stand_still_are_the_place(client: httpx.Client, put: Any, schema: Any) -> None:
    cube, truth = put("nest", nest()), nest()
    assert cube.description.spatial.bbox == pytest.approx((9.95, 44.95, 10.35, 45.25))
    document = ask(client, cube).json()
    assert list(schema.iter_errors(document)) == []
    told = document["domain"]["axes"]["composite"]["values"]
    assert told == np.stack([truth.XLONG.values[0].ravel(), truth.XLAT.values[0].ravel()], axis=1).tolist()
    assert document["domain"]["axes"]["t"]["values"] == ["2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z"]
    assert document["ranges"]["T2"]["values"] == truth.T2.values.ravel().tolist()
    point = ask(client, cube, "position", coords="POINT(10.1 45.1)").json()
    assert point["ranges"]["T2"]["values"] == truth.T2.values[:, 1, 1].tolist()
    found = netcdf(ask(client, cube, "cube", bbox="10.05,45.05,10.25,45.15", f="netcdf"))
    assert found["XLONG"].shape == found["T2"].shape == (2, 1, 2)


def test_several_points_of_a_grid_are_places_of_their_own(client: httpx.Client, put: Any, schema: Any) -> None:
    cube = put("regular", FAMILIES["regular"].make())
    coords = "MULTIPOINT((1 14),(100 70),(-100 -50),(2 13))"
    document = ask(client, cube, "position", coords=coords).json()
    assert list(schema.iter_errors(document)) == []
    assert document["domain"]["domainType"] == "MultiPointSeries"
    # In the order of the question, so that a client knows which is which. The schema has no tuple twice, so they are the points
    # themselves: the first and the last are in one cell.
    assert document["domain"]["axes"]["composite"]["values"] == [[1, 14], [100, 70], [-100, -50], [2, 13]]
    places = [[22.5, 15.0], [112.5, 75.0], [-112.5, -45.0], [22.5, 15.0]]
    values = np.array(document["ranges"]["t"]["values"]).reshape(3, 4)
    truth = cube.truth()
    rows = ask(client, cube, "position", coords=coords, datetime="2020-01-02", f="csv").text.split()[1:]
    assert [float(row.split(",")[-1]) for row in rows] == [float(truth.t.isel(time=1).sel(lon=x, lat=y)) for x, y in places]
    for number, (x, y) in enumerate(places):
        assert values[:, number].tolist() == truth.t.sel(lon=x, lat=y).values.tolist()


def test_no_document_has_a_day_that_its_calendar_does_not_have(client: httpx.Client, put: Any) -> None:
    february = FAMILIES["days-of-360"].make()
    february["time"] = ("time", np.array([58.0, 59, 60]), {"units": "days since 2020-01-01", "calendar": "360_day"})
    cube = put("february", february)
    assert cube.description.temporal.end == "2020-03-01T00:00:00Z"
    extent = client.get(f"/ogcapi/collections/{cube.dataset_id}").json()["extent"]["temporal"]
    assert extent["trs"].endswith("Gregorian")
    assert extent["interval"] == [["2020-02-29T00:00:00Z", "2020-03-01T00:00:00Z"]]
    assert extent["grid"] == {"cellsCount": 3}
    system = ask(client, cube).json()["domain"]["referencing"][-1]["system"]
    assert system["calendar"].endswith("#360_day")


@pytest.mark.parametrize(
    ("attributes", "direction"),
    [
        ({"units": "millibars", "long_name": "pressure_level"}, "DOWN"),
        ({"units": "Pa", "positive": "up"}, "UP"),
        ({"units": "dbar"}, "DOWN"),
        ({"units": "m", "standard_name": "depth"}, "DOWN"),
        ({"units": "m", "standard_name": "height"}, "UP"),
    ],
)
def test_vertical_axes_point_where_they_grow(client: httpx.Client, put: Any, attributes: dict[str, str], direction: str) -> None:
    data = xr.Dataset(
        {"z": (("level", "lat", "lon"), np.zeros((4, 2, 2), "f4"))},
        {"level": ("level", [1000.0, 850, 500, 100], attributes), "lat": ("lat", [0.0, 1], LAT), "lon": ("lon", [0.0, 1], LON)},
    )
    cube = put("level-" + "-".join(attributes.values()).replace("_", "-"), data)
    document = client.get(f"/ogcapi/collections/{cube.dataset_id}").json()
    assert f",{direction}]" in document["extent"]["vertical"]["vrs"]
    (told,) = [
        each["system"]["cs"]["csAxes"] for each in ask(client, cube).json()["domain"]["referencing"] if "z" in each["coordinates"]
    ]
    assert told[0]["direction"] == direction.lower()


def test_what_has_no_place_has_no_box(client: httpx.Client, put: Any) -> None:
    cube = put("nowhere", xr.Dataset({"v": ("time", np.arange(3, dtype="f4"))}, {"time": ("time", [0.0, 1, 2], HOURS)}))
    assert cube.description.spatial.bbox is None
    assert "spatial" not in client.get(f"/ogcapi/collections/{cube.dataset_id}").json()["extent"]
    assert cube.documents["item"]["geometry"] is None
    assert "bbox" not in cube.documents["item"]
    refused = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"bbox": "0,0,1,1"})
    assert refused.status_code == 400
    for each in ("map", "styles", "map/tiles", *TILESETS, *(f"styles/viridis/{one}" for one in TILESETS)):
        nothing = client.get(f"/ogcapi/collections/{cube.dataset_id}/{each}")
        assert (nothing.status_code, "no horizontal position" in nothing.text) == (404, True), each
        assert nothing.json()["what"] == "map", each
    for door in ("wms", "wmts"):
        nothing = client.get(f"/{door}/{cube.dataset_id}", params={"REQUEST": "GetCapabilities", "SERVICE": door.upper()})
        assert (nothing.status_code, "no horizontal position" in nothing.text) == (404, True), door
        assert "Dimension" not in nothing.text  # no dimension of the request is wrong


def test_a_form_that_data_cannot_have_has_no_link(client: httpx.Client, put: Any) -> None:
    """CoverageJSON needs an axis of place, height or time, and GeoTIFF the width of a cell."""
    one = FAMILIES["regular"].make().isel(lat=[2], lon=[3])
    for name, data in (("counted", xr.Dataset({"v": ("k", np.arange(3, dtype="f4"))}, {"k": ("k", [1, 2, 3])})), ("one-cell", one)):
        links = client.get(f"/ogcapi/collections/{put(name, data).dataset_id}").json()["links"]
        found = [each["href"] for each in links if each["rel"].endswith("/coverage")]
        assert len(found) > 2
        for href in found:
            assert client.get(href).status_code == 200, href


TILESETS = ("map/tiles/WebMercatorQuad", "map/tiles/WebMercatorQuad?f=tilejson", "map/tiles/WebMercatorQuad/0/0/0")


def test_a_tilejson_names_no_tiles_that_are_refused(client: httpx.Client, stored: Any) -> None:
    base = f"/ogcapi/collections/{stored('coads_sst.nc').dataset_id}/map/tiles/WebMercatorQuad"
    for wrong in ("palette=nope", "properties=nope", "range=2,1", "scale=log&range=-1,1"):
        answers = [client.get(f"{base}{tile}?{wrong}{more}") for tile, more in (("/0/0/0", ""), ("", "&f=tilejson"), ("", ""))]
        assert [each.status_code for each in answers] == [400] * 3, wrong
        assert len({each.json()["detail"] for each in answers}) == 1
    for right in ("palette=viridis", "range=view", "range=1,30&scale=log&steps=9&beyond=hide"):
        assert client.get(f"{base}?{right}&f=tilejson").json()["tiles"][0].endswith(right.replace(",", "%2C"))
        assert client.get(f"{base}/0/0/0?{right}").status_code == 200


def hybrid() -> xr.Dataset:
    """Model levels, whose coefficients are named by formula_terms, or by nothing."""
    level = {"standard_name": "atmosphere_hybrid_sigma_pressure_coordinate", "formula_terms": "a: hyam b: hybm ps: ps", "axis": "Z"}
    return xr.Dataset(
        {
            "t": (("lev", "lat", "lon"), np.arange(12, dtype="f4").reshape(3, 2, 2)),
            "ps": (("lat", "lon"), np.full((2, 2), 1e5, "f4")),
            "hyam": ("lev", [0.0, 1000, 2000]),
            "hybm": ("lev", [1.0, 0.5, 0.1]),
            "sigma": ("lev", [1.0, 0.8, 0.5]),
            "hyai": ("ilev", [0.0, 1, 2, 3], {"long_name": "hybrid A coefficient at layer interfaces"}),
        },
        {"lev": ("lev", [1.0, 2, 3], level), "lat": ("lat", [0.0, 1], LAT), "lon": ("lon", [0.0, 1], LON)},
    )


def mesh() -> xr.Dataset:
    """Two triangles of UGRID: positions are named by the topology alone."""
    return xr.Dataset(
        {
            "mesh": (
                (),
                np.int32(0),
                {
                    "cf_role": "mesh_topology",
                    "topology_dimension": 2,
                    "node_coordinates": "node_lon node_lat",
                    "face_node_connectivity": "faces",
                    "face_coordinates": "face_lon face_lat",
                },
            ),
            "faces": (
                ("face", "three"),
                np.array([[0, 1, 2], [1, 3, 2]], "i4"),
                {"cf_role": "face_node_connectivity", "start_index": 0},
            ),
            "rain": (("time", "face"), np.arange(4, dtype="f4").reshape(2, 2), {"mesh": "mesh", "location": "face"}),
        },
        {
            "time": ("time", [0.0, 1], HOURS),
            "node_lon": ("node", [0.0, 10, 0, 10], LON),
            "node_lat": ("node", [0.0, 0, 10, 10], LAT),
            "face_lon": ("face", [3.0, 7], LON),
            "face_lat": ("face", [3.0, 7], LAT),
        },
    )


def cells() -> xr.Dataset:
    """Cells whose positions no attribute names."""
    return xr.Dataset(
        {"tas": (("time", "ncells"), np.arange(8, dtype="f4").reshape(2, 4))},
        {
            "time": ("time", [0.0, 1], HOURS),
            "clon": ("ncells", np.radians([0.0, 1, 2, 3]), {**LON, "units": "radian"}),
            "clat": ("ncells", np.radians([45.0, 46, 45, 46]), {**LAT, "units": "radian"}),
        },
    )


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (hybrid, {"t", "ps", "hyam", "hybm", "sigma", "hyai", "lev", "lat", "lon"}),
        (mesh, {"rain", "mesh", "faces", "node_lon", "node_lat", "face_lon", "face_lat", "time"}),
        (cells, {"tas", "clon", "clat", "time"}),
        (ways, {"sst", "when", "lat", "lon", "id"}),
        (nest, {"T2", "XTIME", "XLAT", "XLONG"}),
        (runs, {"msl", "time", "step", "valid_time", "lat", "lon"}),
    ],
)
@pytest.mark.parametrize("door", ["coverage", "download"])
def test_netcdf_has_all_that_locates_a_field(client: httpx.Client, put: Any, made: Any, names: set[str], door: str) -> None:
    cube, truth = put(made.__name__, made()), made()
    field = cube.description.fields[0]
    if door == "coverage":
        found = netcdf(ask(client, cube, f="netcdf", properties=field))
    else:
        answer = client.get(f"/datasets/{cube.dataset_id}/download", params={"variables": field})
        assert answer.status_code == 200, answer.text
        found = netcdf(answer)
    assert set(found.variables) == names
    for name in names - {"when", "lat", "lon", "sst"} if made is ways else names:
        assert found[name].values.tolist() == xr.decode_cf(truth)[name].values.tolist()


@pytest.mark.parametrize("family", [name for name, each in FAMILIES.items() if each.suffix == ".nc"])
def test_every_value_is_at_its_place_in_every_form(client: httpx.Client, put: Any, family: str) -> None:
    cube = put(f"family-{family}", FAMILIES[family].make())
    field = cube.description.fields[0]
    table = rows(ask(client, cube, f="csv", properties=field))
    file = netcdf(ask(client, cube, f="netcdf", properties=field))
    document = ask(client, cube, properties=field).json()
    flat = [v for part in document.get("coverages", [document]) for v in part["ranges"][field]["values"] if v is not None]
    written = [float(row[field]) for row in table if row[field]]
    assert sorted(flat) == pytest.approx(sorted(written))
    assert sorted(flat) == pytest.approx(sorted(file[field].values[np.isfinite(file[field].values)].ravel().tolist()))
    spatial = cube.description.spatial
    assert spatial.x in file
    assert spatial.y in file
    truth = xr.open_dataset(cube.source, engine="netcdf4")[field]
    assert np.array_equal(truth.values, file[field].values, equal_nan=True)
