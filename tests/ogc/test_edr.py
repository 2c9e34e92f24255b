"""EDR over a real socket: points, polygons and boxes give the source's values at their places."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import shapely
import xarray as xr
import yaml
from covjson_pydantic.coverage import Coverage
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from jsonschema.validators import validator_for
from owslib.ogcapi.edr import EnvironmentalDataRetrieval
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from cubeport.cubes.edr.queries import parse_query, query_of
from cubeport.cubes.edr.query import Place
from cubeport.cubes.selection import Selection, Slice, Subset, Trim
from cubeport.errors import InvalidRequest

FORMS = ("json", "covjson", "netcdf", "csv")
EXAMPLES = {
    "position": {"coords": "POINT(0.5 50.5)"},
    "radius": {"coords": "POINT(0.5 50.5)", "within": "50", "within-units": "km"},
    "area": {"coords": "POLYGON((0 50,1 50,1 51,0 50))"},
    "cube": {"bbox": "0,50,1,51"},
    "trajectory": {"coords": "LINESTRING(0 50,1 51)"},
    "corridor": {"coords": "LINESTRING(0 50,1 51)", "corridor-width": "50", "width-units": "km"},
    "locations": {},
    "items": {},
    "instances": {},
}


@pytest.fixture(scope="module")
def co2(stored: Any) -> Any:
    return stored("SMALL_total_column_co2.nc", chunks={"time": 4, "latitude": 60, "longitude": 80})


def ask(client: httpx.Client, cube: Any, kind: str, **query: str) -> Any:
    answer = client.get(
        f"/ogcapi/collections/{cube.dataset_id}/{kind}", params={name.replace("_", "-"): text for name, text in query.items()}
    )
    assert answer.status_code == 200, answer.text
    return answer


@pytest.fixture(scope="module")
def valid(schemas: Path) -> Any:
    schema = json.loads((schemas / "schemas.opengis.net/covjson/1.0/coveragejson.json").read_text())

    def check(answer: httpx.Response) -> Any:
        assert list(validator_for(schema)(schema).iter_errors(answer.json())) == []
        if answer.json()["type"] == "Coverage":
            Coverage.model_validate_json(answer.content)
        return answer.json()

    return check


@pytest.mark.parametrize(("lon", "lat"), [(10.2, 47.9), (-70.1, -33.4), (179.9, 0.3), (-0.4, 89.9), (359.7, -89.9)])
def test_a_position_is_the_series_of_the_cell_that_holds_it(
    client: httpx.Client, co2: Any, valid: Any, equal: Any, lon: float, lat: float
) -> None:
    document = valid(ask(client, co2, "position", coords=f"POINT({lon} {lat})"))
    assert document["domain"]["domainType"] == "PointSeries"
    truth = co2.truth()
    x = int(np.abs((truth["longitude"].values - lon + 180) % 360 - 180).argmin())
    y = int(np.abs(truth["latitude"].values - lat).argmin())
    assert equal(document["ranges"]["tcco2"]["values"], truth["tcco2"].values[:, y, x], packed=True)
    assert abs(document["domain"]["axes"]["x"]["values"][0] - lon) <= 0.5625
    assert len(document["domain"]["axes"]["t"]["values"]) == 31


def test_a_height_in_coords_is_a_level(client: httpx.Client, stored: Any) -> None:
    cube = stored("cmems_mod_bal_phy_anfc_P1D.nc")
    truth = cube.truth()
    lon, lat, depth = (float(truth[each].values[at]) for each, at in (("longitude", 5), ("latitude", 20), ("depth", 0)))
    flat = ask(client, cube, "position", coords=f"POINT({lon!r} {lat!r})", z=repr(depth)).json()
    for text in ("POINT Z({})", "POINTZ({})", "POINT({})", "point z ( {} )"):  # many programs write no Z
        text = text.format(f"{lon!r} {lat!r} {depth!r}")
        assert ask(client, cube, "position", coords=text).json() == flat
    several = f"MULTIPOINT Z(({lon!r} {lat!r} {depth!r}),({lon + 0.001!r} {lat!r} {depth!r}))"
    assert ask(client, cube, "position", coords=several).status_code == 200
    for query, words in (
        ({"coords": f"MULTIPOINT Z(({lon!r} {lat!r} 1),({lon!r} {lat!r} 2))"}, "must have one height"),
        ({"coords": f"POINT Z({lon!r} {lat!r} 1)", "z": "1"}, "cannot be combined"),
        ({"coords": f"POINT M({lon!r} {lat!r} 1)"}, "write the places without it, and ask for times with datetime"),
        ({"coords": f"POINT Z({lon!r} {lat!r} nan)"}, "must have a height at each place"),
    ):
        answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/position", params=query)
        assert answer.status_code == 400
        (problem,) = answer.json()["errors"]
        assert words in problem["message"]


def test_a_cube_has_as_many_cells_as_asked(client: httpx.Client, co2: Any) -> None:
    box = {"bbox": "0,40,20,60", "datetime": co2.description.temporal.start}
    for asked, scaled in (
        ({"resolution-x": "4", "resolution-y": "3"}, "lon(4),lat(3)"),
        ({"resolution-x": "4"}, "lon(4)"),
        ({"resolution-y": "1"}, "lat(1)"),
    ):
        cube = client.get(f"/ogcapi/collections/{co2.dataset_id}/cube", params={**box, **asked})
        coverage = client.get(f"/ogcapi/collections/{co2.dataset_id}/coverage", params={**box, "scale-size": scaled})
        assert cube.status_code == 200, cube.text
        assert cube.json() == coverage.json()
        assert cube.headers["content-interpolation"] == coverage.headers["content-interpolation"]
        axes = cube.json()["domain"]["axes"]
        assert {f"resolution-{name}": str(len(axes[name]["values"])) for name in ("x", "y")}.items() >= asked.items()
    for bad, words in (
        ({"resolution-x": "0"}, ("resolution-x", "resolution-x must be a whole number above 0")),
        ({"resolution-y": "1.5"}, ("resolution-y", "resolution-y must be a whole number above 0")),
        ({"resolution-y": "4000"}, ("resolution-y", "latitude has 18 cells here, and there are no finer ones")),
    ):
        answer = client.get(f"/ogcapi/collections/{co2.dataset_id}/cube", params={**box, **bad})
        (problem,) = answer.json()["errors"]
        assert (problem["loc"][1], problem["message"]) == words
    assert "resolution-x" in client.get(f"/ogcapi/collections/{co2.dataset_id}/position?coords=POINT(1 50)&resolution-x=2").text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("position?coords=POINT(1 50)&z=5", "z: these data have no vertical axis"),
        ("coverage?subset=depth(5)", "depth: these data have no vertical axis"),
        (
            "area?coords=POLYGON((0 0,1 1,1 0))",
            "coords must have rings that end where they begin: repeat the first point as the last",
        ),
        ("position?coords=POINT 1 2", "coords must be POINT or MULTIPOINT as well-known text"),
    ],
)
def test_a_refusal_says_what_is_wrong(client: httpx.Client, co2: Any, query: str, words: str) -> None:
    answer = client.get(f"/ogcapi/collections/{co2.dataset_id}/{query}")
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (400, words)


@pytest.mark.parametrize("coords", ["POINT(10 48)", "MULTIPOINT((10 48),(20 48))"])
def test_head_has_the_etag_of_get_however_it_is_sent(client: httpx.Client, co2: Any, coords: str) -> None:
    """Small answers too: a HEAD does not know the size, so it may not decide about gzip."""
    for coding in ("gzip", "identity"):
        for query in ({}, {"datetime": co2.description.temporal.start}, {"f": "csv"}):
            options: dict[str, Any] = {"params": {"coords": coords, **query}, "headers": {"accept-encoding": coding}}
            address = f"/ogcapi/collections/{co2.dataset_id}/position"
            get, head = client.get(address, **options), client.head(address, **options)
            assert (get.status_code, head.status_code) == (200, 200)
            told = [{name: each.headers.get(name) for name in ("etag", "content-encoding", "vary")} for each in (get, head)]
            assert told[0] == told[1]


def test_points_profiles_and_both(client: httpx.Client, stored: Any, valid: Any, equal: Any) -> None:
    cube = stored("cmems_mod_bal_phy_anfc_P1D.nc")
    truth = cube.truth()
    lon, lat = float(truth["longitude"].values[5]), float(truth["latitude"].values[20])
    where = f"POINT({lon!r} {lat!r})"
    first = cube.description.temporal.start
    domain = valid(
        ask(
            client, cube, "position", coords=where, datetime=first, z=repr(float(truth["depth"].values[0])), parameter_name="thetao"
        )
    )["domain"]
    assert domain["domainType"] == "Point"
    profile = valid(ask(client, cube, "position", coords=where, datetime=first, parameter_name="thetao"))
    assert profile["domain"]["domainType"] == "VerticalProfile"
    assert equal(profile["ranges"]["thetao"]["values"], truth["thetao"].values[0, :, 20, 5])
    both = valid(ask(client, cube, "position", coords=where, parameter_name="thetao", z="0/10"))
    assert both["domain"]["domainType"] == "Grid"
    levels = truth["depth"].values
    assert equal(both["ranges"]["thetao"]["values"], truth["thetao"].values[:, (levels >= 0) & (levels <= 10), 20, 5])


def test_levels_are_picked_trimmed_and_counted(client: httpx.Client, stored: Any) -> None:
    cube = stored("archv_hycom.nc")
    depths = cube.truth()[cube.description.axis_of("z").name].values

    def levels(z: str) -> list[float]:
        document = ask(client, cube, "position", coords="POINT(-80 25)", z=z).json()
        return [float(each) for each in document["domain"]["axes"]["z"]["values"]]

    assert levels(f"{depths[3]},{depths[5]}") == [depths[3], depths[5]]
    assert levels(f"{depths[2]}/{depths[4]}") == depths[2:5].tolist()
    assert levels(f"{depths[4]}/{depths[2]}") == depths[2:5].tolist()
    assert levels("R2/0/10") == [0, 10]


def test_a_native_grid_is_asked_in_degrees(client: httpx.Client, stored: Any, equal: Any) -> None:
    cube = stored("tmean_1910_1910.nc")
    # Greenwich Observatory: 538 900 m E, 177 300 m N.
    document = ask(client, cube, "position", coords="POINT(-0.00145 51.4777)", parameter_name="tmean").json()
    axes = document["domain"]["axes"]
    assert abs(axes["x"]["values"][0] - 538900) <= 2500
    assert abs(axes["y"]["values"][0] - 177300) <= 2500
    truth = cube.truth()
    x, y = (cube.description.axis_of(kind).name for kind in ("x", "y"))
    value = truth["tmean"].isel(
        {
            cube.description.axis_of("x").dimension: int(np.argmin(np.abs(truth[x].values - axes["x"]["values"][0]))),
            cube.description.axis_of("y").dimension: int(np.argmin(np.abs(truth[y].values - axes["y"]["values"][0]))),
        }
    )
    assert equal(document["ranges"]["tmean"]["values"], value.values)


def test_the_nearest_cell_of_a_curvilinear_grid_and_none_outside(client: httpx.Client, stored: Any, equal: Any) -> None:
    cube = stored("sic_SImon_CanESM5_2020.nc")
    truth = cube.truth()
    j, i = 280, 100
    lon, lat = float(truth["longitude"].values[j, i]), float(truth["latitude"].values[j, i])
    document = ask(client, cube, "position", coords=f"POINT({lon - 360!r} {lat!r})", parameter_name="siconc").json()
    assert equal(document["ranges"]["siconc"]["values"], truth["siconc"].values[:, j, i])
    regional = stored("croco_his.nc")
    answer = client.get(f"/ogcapi/collections/{regional.dataset_id}/position", params={"coords": "POINT(100 70)"})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON((5 42,14 44,10 52,5 42))",
        "POLYGON((-8 40,8 40,8 46,-8 46,-8 40),(-2 42,2 42,2 44,-2 44,-2 42))",
        "MULTIPOLYGON(((170 -5,190 -5,190 5,170 5,170 -5)))",
    ],
)
def test_an_area_hides_what_lies_outside(client: httpx.Client, co2: Any, valid: Any, equal: Any, text: str) -> None:
    answer = ask(client, co2, "area", coords=text, datetime="2006-01-03T06:00:00Z")
    document = valid(answer)
    axes, told = document["domain"]["axes"], document["ranges"]["tcco2"]
    truth = co2.truth()
    polygon = shapely.from_wkt(text)
    at_time = [str(each) for each in stamps(truth)].index("2006-01-03T06:00:00Z")
    x = [int(np.abs((truth["longitude"].values - each + 180) % 360 - 180).argmin()) for each in axes["x"]["values"]]
    y = [int(np.abs(truth["latitude"].values - each).argmin()) for each in axes["y"]["values"]]
    lon, lat = np.meshgrid(axes["x"]["values"], axes["y"]["values"])
    expected = np.where(shapely.intersects_xy(polygon, lon, lat), truth["tcco2"].values[at_time][np.ix_(y, x)], np.nan)
    assert equal(told["values"], expected, packed=True)
    assert 0 < np.isfinite(expected).sum() < expected.size or "MULTI" in text
    with xr.open_dataset(
        io.BytesIO(ask(client, co2, "area", coords=text, datetime="2006-01-03T06:00:00Z", f="netcdf").content), engine="h5netcdf"
    ) as found:
        assert equal(told["values"], found["tcco2"].values)
    rows = ask(client, co2, "area", coords=text, datetime="2006-01-03T06:00:00Z", f="csv").text.strip().splitlines()
    assert len(rows) - 1 == np.isfinite(expected).sum()


def stamps(truth: xr.Dataset) -> list[str]:
    return [f"{np.datetime_as_string(each, unit='s')}Z" for each in xr.decode_cf(truth)["time"].values]


def test_an_area_within_one_cell_is_that_cell(client: httpx.Client, co2: Any) -> None:
    document = ask(
        client, co2, "area", coords="POLYGON((10.3 47.3,10.5 47.3,10.4 47.5,10.3 47.3))", datetime="2006-01-03T06:00:00Z"
    ).json()
    assert document["ranges"]["tcco2"]["shape"] == [1, 1, 1]
    assert document["ranges"]["tcco2"]["values"][0] is not None


def test_an_area_of_integers_keeps_them(client: httpx.Client, stored: Any) -> None:
    cube = stored("gebco_2020.nc")
    told = ask(client, cube, "area", coords="POLYGON((12.3 55.3,12.6 55.3,12.45 55.6,12.3 55.3))").json()["ranges"]["elevation"]
    assert told["dataType"] == "integer"
    assert None in told["values"]
    assert all(each is None or isinstance(each, int) for each in told["values"])


def test_a_cube_is_the_coverage_of_its_box(client: httpx.Client, co2: Any, stored: Any) -> None:
    query = {"bbox": "-5,40,5,45", "datetime": "2006-01-03/2006-01-03"}
    cube = ask(client, co2, "cube", **query).json()
    coverage = client.get(f"/ogcapi/collections/{co2.dataset_id}/coverage", params=query).json()
    assert cube == coverage
    deep = stored("archv_hycom.nc")
    assert len(ask(client, deep, "cube", bbox="-80,24,-79,25", z="0/20").json()["domain"]["axes"]["z"]["values"]) < 10


@pytest.mark.parametrize(
    ("kind", "query", "names"),
    [
        ("position", "", ["coords"]),
        ("position", "coords=POINT(1)", ["coords"]),
        ("position", "coords=POINT(nan 1)", ["coords"]),
        ("position", "coords=POINT(1 91)", ["coords"]),
        ("position", "coords=POINT EMPTY", ["coords"]),
        ("position", "coords=POLYGON((0 0,1 1,1 0,0 0))", ["coords"]),
        ("area", "coords=POINT(1 1)", ["coords"]),
        ("area", "coords=POLYGON((0 0,1 1,1 0,0 1,0 0))", ["coords"]),
        ("area", "coords=" + "(" * 3000, ["coords"]),
        ("cube", "coords=POINT(1 1)", ["coords", "bbox"]),
        ("cube", "bbox=1,2,3", ["bbox"]),
        ("position", "coords=POINT(1 1)&z=a&parameter-name=&bbox=1,2,3,4&f=gif", ["bbox", "parameter-name", "f", "z"]),
        ("position", "coords=POINT(1 1)&z=1/2/3/4", ["z"]),
        ("position", "coords=POINT(1 1)&z=R99999999999/0/1", ["z"]),
        ("position", "coords=POINT(1 1)&parameter-name=snow", ["parameter-name"]),
        ("position", "coords=POINT(1 1)&coords=POINT(2 2)", ["coords"]),
    ],
)
def test_what_cannot_be_taken_is_400(client: httpx.Client, co2: Any, kind: str, query: str, names: list[str]) -> None:
    answer = client.get(f"/ogcapi/collections/{co2.dataset_id}/{kind}?{query}")
    assert answer.status_code == 400, answer.text
    assert [each["loc"][1] for each in answer.json()["errors"]] == names


def test_edr_has_limits_and_estimates_too(serve: Any, co2: Any) -> None:
    small = serve(json_cells=100)
    address = f"/ogcapi/collections/{co2.dataset_id}/cube"
    refused = small.get(address, params={"bbox": "0,0,10,10"})
    assert refused.status_code == 413
    href = next(each["href"] for each in refused.json()["alternatives"] if "longest time" in each["title"])
    assert "/cube?" in href
    assert small.get(href).status_code == 200
    assert small.get(address, params={"bbox": "0,0,10,10", "estimate": "true"}).json()["allowed"] is False


def test_without_a_place_there_is_no_position(client: httpx.Client, stored: Any) -> None:
    cube = stored("outCSne30_timeseries.nc")
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/position", params={"coords": "POINT(1 1)"})
    assert answer.status_code == 400
    assert client.get(f"/ogcapi/collections/{cube.dataset_id}").json()["data_queries"] == {}


@pytest.mark.parametrize("name", ["SMALL_total_column_co2.nc", "tmean_1910_1910.nc", "cmems_mod_bal_phy_anfc_P1D.nc"])
def test_a_collection_fits_the_edr_schema(client: httpx.Client, stored: Any, schemas: Path, name: str) -> None:
    folder = schemas / "ogc/edr"

    def load(uri: str) -> Resource[Any]:
        return Resource.from_contents(
            yaml.safe_load((folder / uri.removeprefix("http://edr/")).read_text()), default_specification=DRAFT4
        )

    registry: Registry[Any] = Registry(retrieve=load)  # type: ignore[call-arg]
    document = client.get(f"/ogcapi/collections/{stored(name).dataset_id}").json()
    validator = Draft4Validator({"$ref": "http://edr/collections/collection.yaml"}, registry=registry)
    assert [f"{list(error.path)}: {error.message[:200]}" for error in validator.iter_errors(document)] == []
    for kind, query in document["data_queries"].items():
        assert client.get(query["link"]["href"], params=EXAMPLES[kind]).status_code in (200, 404)


def test_owslib_asks_a_position(client: httpx.Client, co2: Any, equal: Any) -> None:
    there = EnvironmentalDataRetrieval(f"{str(client.base_url).rstrip('/')}/ogcapi")
    document = there.query_data(
        co2.dataset_id, "position", coords="POINT(10.2 47.9)", datetime_="2006-01-03/2006-01-03", parameter_names=["tcco2"]
    )
    truth = co2.truth()
    x, y = int(np.abs(truth["longitude"].values - 10.2).argmin()), int(np.abs(truth["latitude"].values - 47.9).argmin())
    days = [each.startswith("2006-01-03") for each in stamps(truth)]
    assert equal(document["ranges"]["tcco2"]["values"], truth["tcco2"].values[days, y, x], packed=True)


def test_owslib_lists_the_collections_with_edr_queries(client: httpx.Client, co2: Any) -> None:
    found = EnvironmentalDataRetrieval(f"{str(client.base_url).rstrip('/')}/ogcapi").data()
    page = client.get("/ogcapi/collections").json()["collections"]
    assert found == [each["id"] for each in page if each["data_queries"]]
    document = client.get(f"/ogcapi/collections/{co2.dataset_id}").json()
    (places,) = [each["href"] for each in document["links"] if each["rel"] == "data"]
    assert client.get(places).json()["type"] == "FeatureCollection"


# --- the grammar --------------------------------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6).map(lambda value: value + 0.0)


@given(
    st.floats(-180, 180).map(lambda value: value + 0.0),
    st.floats(-90, 90).map(lambda value: value + 0.0),
    st.none()
    | st.lists(numbers, min_size=1, max_size=3).map(lambda values: Slice(tuple(values)))
    | st.tuples(numbers, numbers).map(lambda ends: Trim(*sorted(ends))),
)
def test_what_is_formatted_is_read_back(lon: float, lat: float, levels: Any) -> None:
    coords = shapely.to_wkt(shapely.Point(lon, lat), rounding_precision=-1)
    selection = Selection(subsets=() if levels is None else (Subset("z", levels),), properties=("a", "b"))
    place = Place("position", (("coords", coords),))
    assert parse_query("position", query_of(place, selection), forms=FORMS) == (place, selection)


@pytest.mark.parametrize("sizes", [{"resolution-x": "4", "resolution-y": "2"}, {"resolution-y": "1000000"}])
def test_a_number_of_cells_is_read_back(sizes: dict[str, str]) -> None:
    place, selection = parse_query("cube", [("bbox", "0,0,1,1"), *sizes.items()], forms=FORMS)
    assert parse_query("cube", query_of(place, selection), forms=FORMS) == (place, selection)
    assert sizes.items() <= dict(query_of(place, selection)).items()


@given(
    st.lists(st.tuples(st.sampled_from(["coords", "z", "bbox", "datetime", "parameter-name"]), st.text(max_size=30)), max_size=4),
    st.sampled_from(["position", "area", "cube"]),
)
def test_any_text_is_read_or_refused(pairs: list[tuple[str, str]], kind: Any) -> None:
    try:
        place, _ = parse_query(kind, pairs, forms=FORMS)
    except InvalidRequest:
        return
    assert place.kind == kind


def test_a_radius_takes_the_cells_within_the_distance(client: httpx.Client, co2: Any, valid: Any) -> None:
    query = {"coords": "POINT(179.5 62.1)", "within": "800", "within_units": "km", "parameter_name": "tcco2"}
    document = valid(ask(client, co2, "radius", **query))
    axes, block = document["domain"]["axes"], document["ranges"]["tcco2"]
    truth = co2.truth()
    taken = np.asarray(block["values"], dtype=float).reshape(block["shape"])
    columns = [int(np.abs((truth["longitude"].values - each + 180) % 360 - 180).argmin()) for each in axes["x"]["values"]]
    rows = [int(np.abs(truth["latitude"].values - each).argmin()) for each in axes["y"]["values"]]
    from pyproj import Geod

    lon, lat = np.meshgrid(truth["longitude"].values[columns], truth["latitude"].values[rows])
    metres = Geod(ellps="WGS84").inv(np.full(lon.shape, 179.5), np.full(lon.shape, 62.1), lon, lat)[2]
    expected = np.where(metres <= 800_000, truth["tcco2"].values[:, rows][:, :, columns], np.nan)
    assert np.isfinite(taken).sum() == np.isfinite(expected).sum() > 100
    assert np.allclose(taken, expected, equal_nan=True)
