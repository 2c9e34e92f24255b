"""EDR ``items`` and OGC API Features: stations and named areas, read by OWSLib and by GDAL's driver OAPIF."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import xarray as xr
from owslib.ogcapi.features import Features
from pyproj import Transformer
from tests.families import FAMILIES, LATITUDE, LONGITUDE, ROTATED, days

from cubeport.cubes.zones import read_zone_set
from cubeport.service.templates import Extent

pytestmark = pytest.mark.usefixtures("no_zones")

NAMES = ("Høyde", "Same place", "Over there", "Far east")
LON, LAT = np.array([10.25, 10.25, 200.5, 179.75], "f4"), np.array([60.1, 60.1, -10.0, 5.0], "f4")


def observed() -> xr.Dataset:
    """Four stations of three days; the first two have one position, the third is counted from 0 to 360."""
    values = np.arange(12, dtype="f4").reshape(4, 3)
    data = xr.Dataset({"t": (("station", "time"), values, {"units": "K", "coordinates": "lat lon"})})
    return data.assign_coords(
        lon=("station", LON, LONGITUDE),
        lat=("station", LAT, LATITUDE),
        name=("station", np.array(NAMES, dtype=object), {"cf_role": "timeseries_id"}),
        height=("station", np.array([12.5, 13.5, 0.1, np.nan], "f4"), {"standard_name": "height", "units": "m"}),
        time=days(),
    ).assign_attrs(featureType="timeSeries")


@pytest.fixture(scope="module")
def put(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, xr.Dataset], Any]:
    folder = tmp_path_factory.mktemp("features")

    def write(name: str, data: xr.Dataset) -> Any:
        path = folder / f"{name}.nc"
        if not path.exists():
            data.to_netcdf(path, engine="netcdf4")
        return stored(str(path))

    return write


@pytest.fixture(scope="module")
def stations(put: Any) -> Any:
    return put("observed", observed())


@pytest.fixture
def areas(shelf: Any) -> Iterator[None]:
    shelf.areas = {
        "norway": Extent(extent_id="norway", bbox=(5, 58, 12, 62), name="Norway"),
        "dateline": Extent(extent_id="dateline", bbox=(170, -20, -150, 20)),
        "south": Extent(extent_id="south", bbox=(-20, -80, 20, -70)),
    }
    yield
    shelf.areas = {}


def places(client: httpx.Client, cube: Any, **query: str) -> dict[str, Any]:
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/items", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/geo+json"
    return answer.json()


@pytest.mark.usefixtures("areas")
def test_stations_and_areas_are_features(client: httpx.Client, stations: Any) -> None:
    found = places(client, stations)
    assert [each["id"] for each in found["features"]] == [*NAMES, "norway", "dateline"]
    assert found["numberMatched"] == found["numberReturned"] == 6
    points = [each["geometry"]["coordinates"] for each in found["features"][:4]]
    assert points == [[10.25, 60.1], [10.25, 60.1], [-159.5, -10.0], [179.75, 5.0]]
    assert [each["properties"]["height"] for each in found["features"][:4]] == [12.5, 13.5, 0.1, None]
    for each in found["features"]:
        (own,) = [link["href"] for link in each["links"] if link["rel"] == "self"]
        one = client.get(own).json()
        assert (one["id"], one["geometry"], one["properties"]) == (each["id"], each["geometry"], each["properties"])
        assert {"self", "collection", "data"} <= {link["rel"] for link in one["links"]}


def test_each_list_has_the_forms_that_its_query_names(client: httpx.Client, stations: Any) -> None:
    base = f"/ogcapi/collections/{stations.dataset_id}"
    queries = client.get(base, params={"f": "json"}).json()["data_queries"]
    for name in ("items", "instances"):
        forms = queries[name]["link"]["variables"]["output_formats"]
        for form in forms:
            assert client.get(f"{base}/{name}", params={"f": form}).status_code == 200, (name, form)
        assert client.get(f"{base}/{name}", params={"f": "csv"}).status_code == 400
    (place, *_) = client.get(f"{base}/items").json()["features"]
    for form in queries["locations"]["link"]["variables"]["output_formats"]:
        assert client.get(f"{base}/locations/{place['id']}", params={"f": form}).status_code in (200, 406), form
    for path in ("locations", f"items/{place['id']}"):
        assert client.get(f"{base}/{path}", params={"f": "geojson"}).json() == client.get(f"{base}/{path}").json()


@pytest.mark.usefixtures("areas")
def test_each_station_has_its_own_values(client: httpx.Client, stations: Any) -> None:
    # Two stations have one position: a query by position finds the first, the name finds each.
    truth = stations.truth()["t"].values
    for at, each in enumerate(places(client, stations)["features"][:4]):
        answer = client.get(each["properties"]["edrqueryendpoint"])
        assert answer.json()["ranges"]["t"]["values"] == truth[at].tolist()
        one = client.get(each["properties"]["edrqueryendpoint"], params={"datetime": "2020-01-02", "f": "csv"})
        assert one.text.splitlines()[1].endswith(f"{truth[at, 1]:g}") or str(truth[at, 1]) in one.text
    assert client.get(f"/ogcapi/collections/{stations.dataset_id}/locations/nobody").status_code == 404
    assert client.get(f"/ogcapi/collections/{stations.dataset_id}/items/nobody").status_code == 404


@pytest.mark.usefixtures("areas")
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"bbox": "0,50,20,70"}, [*NAMES[:2], "norway"]),
        ({"bbox": "-170,-20,-150,0"}, [NAMES[2], "dateline"]),
        ({"bbox": "170,-20,-150,20"}, [*NAMES[2:], "dateline"]),
        ({"bbox": "-180,-90,180,90"}, [*NAMES, "norway", "dateline"]),
        ({"bbox": "0,0,1,1"}, []),
        ({"datetime": "2020-01-02T00:00:00Z"}, [*NAMES, "norway", "dateline"]),
        ({"datetime": "2021-01-01/.."}, []),
        ({"limit": "1", "bbox": "0,50,20,70"}, NAMES[:1]),
    ],
)
def test_a_box_and_a_time_choose_features(client: httpx.Client, stations: Any, query: dict[str, str], names: list[str]) -> None:
    assert [each["id"] for each in places(client, stations, **query)["features"]] == list(names)


@pytest.mark.usefixtures("areas")
def test_pages_join_to_the_whole(client: httpx.Client, stations: Any) -> None:
    whole, walked = places(client, stations), []
    url = f"/ogcapi/collections/{stations.dataset_id}/items?limit=1"
    while url:
        page = client.get(url).json()
        assert page["numberMatched"] == 6
        walked += page["features"]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    assert walked == whole["features"]
    for query in ({"limit": "0"}, {"limit": "x"}, {"cursor": "-1"}, {"bbox": "1,2,3"}, {"datetime": "soon"}, {"colour": "red"}):
        assert client.get(f"/ogcapi/collections/{stations.dataset_id}/items", params=query).status_code == 400
    wrong = {"bbox": "1,2", "limit": "0", "datetime": "yesterday"}
    for address in (f"/ogcapi/collections/{stations.dataset_id}/items", "/ogcapi/collections"):
        problems = client.get(address, params=wrong).json()["errors"]
        assert {each["loc"][1] for each in problems} == {*wrong}


@pytest.mark.usefixtures("areas")
def test_a_grid_has_the_areas_that_meet_it_and_data_without_place_none(client: httpx.Client, put: Any) -> None:
    grid = put("regular", FAMILIES["regular"].make())
    assert [each["id"] for each in places(client, grid)["features"]] == ["norway", "dateline", "south"]
    nowhere = put("nowhere", xr.Dataset({"n": ("time", np.arange(3.0))}, {"time": days()}))
    assert places(client, nowhere)["features"] == []


def test_the_points_of_a_way_are_no_stations(client: httpx.Client, put: Any) -> None:
    way = xr.Dataset({"o": ("obs", np.arange(5, dtype="f4"), {"coordinates": "time lat lon"})}, attrs={"featureType": "trajectory"})
    hours = {"units": "hours since 2020-01-01", "standard_name": "time"}
    way = way.assign_coords(
        time=("obs", np.arange(5.0), hours), lat=("obs", np.arange(5.0), LATITUDE), lon=("obs", np.arange(5.0), LONGITUDE)
    )
    assert places(client, put("way", way))["features"] == []


@pytest.mark.usefixtures("areas")
def test_owslib_reads_the_features(client: httpx.Client, stations: Any) -> None:
    face = Features(f"{str(client.base_url).rstrip('/')}/ogcapi")
    # Of the collections it reads one page, which other tests may have filled.
    assert face.collection(stations.dataset_id)["itemType"] == "feature"
    found = face.collection_items(stations.dataset_id, bbox=[0, 50, 20, 70])
    assert [each["id"] for each in found["features"]] == [*NAMES[:2], "norway"]
    assert face.collection_item(stations.dataset_id, "norway")["properties"]["name"] == "Norway"


@pytest.mark.usefixtures("areas")
@pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="needs GDAL's commands: apt-get install gdal-bin")
def test_gdal_reads_the_features(client: httpx.Client, stations: Any, tmp_path: Path) -> None:
    url = f"OAPIF:{str(client.base_url).rstrip('/')}/ogcapi/collections/{stations.dataset_id}"
    target = tmp_path / "read.geojson"
    # Two a page, so GDAL follows the links to the next ones.
    command = ["ogr2ogr", "-f", "GeoJSON", str(target), url, "-oo", "PAGE_SIZE=2", "--config", "GDAL_HTTP_TIMEOUT", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    read = json.loads(target.read_text())["features"]
    ours = places(client, stations)["features"]
    assert [each["properties"]["name"] for each in read] == [each["properties"]["name"] for each in ours]
    for theirs, own in zip(read, ours, strict=True):
        assert theirs["geometry"]["type"] == own["geometry"]["type"]
        if own["geometry"]["type"] == "Point":
            np.testing.assert_allclose(theirs["geometry"]["coordinates"], own["geometry"]["coordinates"])


@pytest.mark.parametrize("crs", ["OGC/1.3/CRS84", "EPSG/0/4326", "EPSG/0/3857"])
def test_features_are_in_the_reference_system_of_the_request(client: httpx.Client, stations: Any, crs: str) -> None:
    """GDAL 3.12 asks for the first of a collection, also if it is CRS84: 400 was all that it got."""
    path, uri = f"/ogcapi/collections/{stations.dataset_id}/items", f"http://www.opengis.net/def/crs/{crs}"
    answer = client.get(path, params={"crs": uri, "limit": 1})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-crs"] == f"<{uri}>"
    own, found = client.get(path).json()["features"][0], answer.json()["features"][0]
    onto = Transformer.from_crs("OGC:CRS84", ":".join(crs.split("/")[::2]))
    place = onto.transform(*own["geometry"]["coordinates"])
    assert found["geometry"]["coordinates"] == pytest.approx(place)
    assert client.get(f"{path}/{own['id']}", params={"crs": uri}).json()["geometry"] == found["geometry"]
    far = 1000 if crs.endswith("3857") else 0.01
    box = ",".join(str(each) for each in (place[0] - far, place[1] - far, place[0] + far, place[1] + far))
    near = client.get(path, params={"bbox": box, "bbox-crs": uri})
    assert near.status_code == 200, near.text
    assert own["id"] in [each["id"] for each in near.json()["features"]]
    assert near.json()["numberMatched"] < client.get(path).json()["numberMatched"]
    if crs.endswith("3857"):
        assert client.get(path, params={"bbox": "9,0,1,2", "bbox-crs": uri}).status_code == 400
    refused = client.get(path, params={"crs": "http://www.opengis.net/def/crs/EPSG/0/32633"})
    assert refused.status_code == 400
    assert "EPSG:3857" in refused.json()["detail"]


@pytest.mark.usefixtures("areas")
def test_features_are_in_a_storage_crs_without_a_code(client: httpx.Client, put: Any) -> None:
    """The collection lists it, so items take it (OGC API Features 2, 6.2): its x is before y, as in the coverage."""
    own = put("rotated", FAMILIES["rotated-pole"].make())
    path = f"/ogcapi/collections/{own.dataset_id}"
    uri = client.get(path).json()["storageCrs"]
    assert uri.endswith("#storageCrs")
    assert uri in client.get(path).json()["crs"]
    plain, found = (client.get(f"{path}/items", params=query) for query in ({}, {"crs": uri}))
    assert found.headers["content-crs"] == f"<{uri}>"
    onto = Transformer.from_crs("OGC:CRS84", ROTATED, always_xy=True)
    [norway], [ours] = plain.json()["features"], found.json()["features"]
    for place, other in zip(norway["geometry"]["coordinates"][0], ours["geometry"]["coordinates"][0], strict=True):
        assert other == pytest.approx(onto.transform(*place))
    for box, count in (("-10,5,0,10", 1), ("0,-10,5,-5", 0)):
        near = client.get(f"{path}/items", params={"bbox": box, "bbox-crs": uri})
        assert near.json()["numberMatched"] == count, near.text


DISTRICTS = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "no/03",
            "properties": {"name": "Oslo"},
            "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [40, 0], [40, 40], [0, 0]]]},
        },
        {
            "type": "Feature",
            "id": "seam",
            "properties": {"name": "Both sides of 180°"},
            "geometry": {"type": "Polygon", "coordinates": [[[170, -20], [190, -20], [190, 20], [170, 20], [170, -20]]]},
        },
    ],
}


def test_zones_are_places_too(client: httpx.Client, put: Any, shelf: Any) -> None:
    grid = put("regular", FAMILIES["regular"].make())
    shelf.zones = {"districts": read_zone_set("districts", DISTRICTS)}
    found = {each["id"]: each for each in places(client, grid)["features"]}
    assert list(found) == ["districts:no-03", "districts:seam"]
    assert [each["properties"]["name"] for each in found.values()] == ["Oslo", "Both sides of 180°"]
    assert [each["id"] for each in places(client, grid, bbox="-175,-5,-170,5")["features"]] == ["districts:seam"]
    base = f"/ogcapi/collections/{grid.dataset_id}"
    polygons = {"no-03": "0 0,40 0,40 40,0 0", "seam": "170 -20,190 -20,190 20,170 20,170 -20"}
    for name, ring in polygons.items():
        of_zone = client.get(found[f"districts:{name}"]["properties"]["edrqueryendpoint"], params={"f": "csv"})
        of_polygon = client.get(f"{base}/area", params={"coords": f"POLYGON(({ring}))", "f": "csv"})
        assert of_zone.status_code == 200
        assert of_zone.text == of_polygon.text
        assert len(of_zone.text.splitlines()) > 1
