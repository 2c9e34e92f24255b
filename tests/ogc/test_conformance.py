"""Every conformance class that is claimed has a test of its name here, and no test stands for a class that is not."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr

from cubeport.documents import ogc

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

VERSION = "0123456789abcdef0123456789abcdef"


class Server:
    """One collection behind the server: 31 steps, 161 × 320, packed, north-up, 0–360."""

    def __init__(self, client: httpx.Client, cube: Any) -> None:
        self.client, self.cube = client, cube
        self.path = f"/ogcapi/collections/{cube.dataset_id}"

    def get(self, path: str = "", **query: str) -> Any:
        answer = self.client.get(
            path or f"{self.path}/coverage", params={name.replace("_", "-"): text for name, text in query.items()}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def server(client: httpx.Client, stored: Any) -> Server:
    return Server(client, stored("SMALL_total_column_co2.nc", chunks={"time": 4, "latitude": 60, "longitude": 80}))


def common_core(server: Server) -> None:
    """/req/core/http: HTTP/1.1, errors with a type of their own."""
    assert server.client.get("/ogcapi").http_version == "HTTP/1.1"
    assert server.client.get("/ogcapi/nothing").headers["content-type"] == "application/problem+json"


def common_landing_page(server: Server) -> None:
    """/req/landing-page/root-success, conformance-success, api-definition."""
    rels = {link["rel"] for link in server.get("/ogcapi")["links"]}
    assert {"self", "service-desc", "conformance", "data"} <= rels
    assert server.client.get("/openapi.json").json()["openapi"].startswith("3.1")


def common_json(server: Server) -> None:
    """/req/json/content: every document is JSON."""
    for path in ("/ogcapi", "/ogcapi/conformance", "/ogcapi/collections", server.path):
        assert server.client.get(path).headers["content-type"] == "application/json"


def common_collections(server: Server) -> None:
    """/req/collections: the list and each member agree."""
    listed = {each["id"]: each for each in server.get("/ogcapi/collections", limit="1000")["collections"]}
    assert listed[server.cube.dataset_id] == server.get(server.path)


def common_uad_collections(server: Server) -> None:
    """Further dimensions stand in the extent under their own name."""
    assert "grid" in server.get(server.path)["extent"]["temporal"]


def common_simple_query(server: Server) -> None:
    """/req/simple-query: bbox, datetime and limit choose collections, and the answer says how many there are."""
    page = server.get("/ogcapi/collections", limit="1")
    assert len(page["collections"]) == page["numberReturned"] == 1
    assert page["numberMatched"] >= 1
    west, south, east, north = server.get(server.path)["extent"]["spatial"]["bbox"][0]
    inside = server.get("/ogcapi/collections", bbox=f"{west},{south},{east},{north}", datetime="../..", limit="1000")
    assert server.cube.dataset_id in [each["id"] for each in inside["collections"]]


def coverages_core(server: Server) -> None:
    """A link to the coverage, and the coverage behind it."""
    links = server.get(server.path)["links"]
    href = next(
        link["href"]
        for link in links
        if link["rel"] == "http://www.opengis.net/def/rel/ogc/1.0/coverage" and "netcdf" in link["type"]
    )
    answer = server.client.get(href)
    assert answer.status_code == 200
    assert answer.headers["content-crs"] == "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>"


def subsetting_spatial(server: Server) -> None:
    """``bbox``, and ``subset`` by Lat and Lon: the same cells."""
    box = server.get(bbox="10,40,20,50", datetime="2006-01-05")
    assert box["ranges"] == server.get(subset="Lat(40:50),Lon(10:20)", datetime="2006-01-05")["ranges"]
    assert all(9 <= each <= 21 for each in box["domain"]["axes"]["x"]["values"])


def subsetting_temporal(server: Server) -> None:
    """``datetime``, and ``subset`` by time: the same steps."""
    trim = server.get(bbox="10,40,12,42", datetime="2006-01-03/2006-01-04")
    assert len(trim["domain"]["axes"]["t"]["values"]) == 8
    assert trim["ranges"] == server.get(bbox="10,40,12,42", subset='time("2006-01-03":"2006-01-04")')["ranges"]


def subsetting_general(server: Server) -> None:
    """``subset`` by the store's own names, trims and slices."""
    one = server.get(subset="latitude(45.2),longitude(10)", datetime="2006-01-03T06:00:00Z")
    assert one["ranges"]["tcco2"]["shape"] == [1, 1, 1]


def multi_slicing(server: Server) -> None:
    """``subset=axis(v1,v2)``: several places on an axis."""
    document = server.get(subset="latitude(45,-45),longitude(10)", datetime="2006-01-03T06:00:00Z")
    assert document["domain"]["axes"]["y"]["values"] == [45, -45]


def field_selection(server: Server) -> None:
    """``properties``: the fields asked for, unknown ones refused."""
    assert list(server.get(properties="tcco2", bbox="10,40,12,42")["ranges"]) == ["tcco2"]
    assert server.client.get(f"{server.path}/coverage", params={"properties": "snow"}).status_code == 400
    assert list(server.get(f"{server.path}/schema")["properties"]) == ["tcco2"]


def drawn(server: Server, path: str = "", **query: str) -> np.ndarray:
    """Return the palette indices of a picture, as GDAL decodes them."""
    named = {name.replace("_", "-"): text for name, text in query.items()}
    answer = server.client.get(path or f"{server.path}/map", params=named)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    with rasterio.open(io.BytesIO(answer.content)) as found:
        return np.asarray(found.read(1))


def maps_core(server: Server) -> None:
    """A map, with its box and its reference system in the headers."""
    answer = server.client.get(f"{server.path}/map")
    assert answer.headers["content-crs"] == "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>"
    assert len(answer.headers["content-bbox"].split(",")) == 4


def maps_collection(server: Server) -> None:
    """The collection links to its map."""
    links = server.get(server.path)["links"]
    (href,) = [each["href"] for each in links if each["rel"] == "http://www.opengis.net/def/rel/ogc/1.0/map"]
    assert drawn(server, href).any()


def maps_styled(server: Server) -> None:
    """/req/styled-map: the styles of a collection, each with its map: the default one is the plain map."""
    found = server.get(f"{server.path}/styles")
    assert found["default"] == "default"
    hrefs = {each["id"]: each["links"][0]["href"] for each in found["styles"]}
    assert {"default", "viridis", "thermal"} <= set(hrefs)
    plain, same, other = (
        server.client.get(href, params={"width": "90"}).content
        for href in (f"{server.path}/map", hrefs["default"], hrefs["balance"])
    )
    assert plain == same
    assert plain != other
    assert (
        server.client.get(hrefs["balance"], params={"width": "90"}).content
        == server.client.get(f"{server.path}/map", params={"width": "90", "palette": "balance"}).content
    )
    tiles = server.get(f"{server.path}/styles/balance/map/tiles/WebMercatorQuad")
    (template,) = [each["href"] for each in tiles["links"] if each["rel"] == "item"]
    tile = server.client.get(template.format(tileMatrix=0, tileRow=0, tileCol=0)).content
    assert tile == server.client.get(f"{server.path}/map/tiles/WebMercatorQuad/0/0/0", params={"palette": "balance"}).content
    assert server.client.get(f"{server.path}/styles/none/map").status_code == 404
    assert server.client.get(hrefs["balance"], params={"palette": "gray"}).status_code == 400


def maps_scaling(server: Server) -> None:
    """/req/scaling: ``width`` and ``height`` are the size; one gives the other."""
    assert drawn(server, width="64", height="32").shape == (32, 64)
    assert drawn(server, width="64").shape[1] == 64


def maps_background(server: Server) -> None:
    """/req/background: ``transparent`` and ``bgcolor`` are what pixels without data have."""
    clear = server.client.get(f"{server.path}/map", params={"width": "16", "bbox": "0,0,10,10"})
    blue = server.client.get(
        f"{server.path}/map", params={"width": "16", "bbox": "0,0,10,10", "transparent": "false", "bgcolor": "0x0000ff"}
    )
    with rasterio.open(io.BytesIO(clear.content)) as found:
        assert found.colormap(1)[0][3] == 0
    with rasterio.open(io.BytesIO(blue.content)) as found:
        assert found.colormap(1)[0] == (0, 0, 255, 255)


def maps_spatial_subsetting(server: Server) -> None:
    """/req/spatial-subsetting: ``bbox`` is the part of the map, by either axis order of its system."""
    part = drawn(server, bbox="10,40,20,50", width="50", height="50")
    assert np.array_equal(part, drawn(server, bbox="40,10,50,20", bbox_crs="EPSG:4326", width="50", height="50"))
    assert not np.array_equal(part, drawn(server, width="50", height="50"))


def html(server: Server) -> None:
    """/req/html: every resource of the collection is a page for a browser, values too."""
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    paths = ["/ogcapi", "/ogcapi/conformance", "/ogcapi/collections", "/ogcapi/tileMatrixSets", server.path]
    paths += [f"{server.path}/{each}" for each in ("schema", "instances", "locations", "items", "styles", "map/tiles")]
    values = ["coverage", "position?coords=POINT(10 45)", "cube?bbox=10,40,12,42"]
    for path in (*paths, *(f"{server.path}/{each}" for each in values)):
        answer = server.client.get(path, headers=browser)
        assert answer.status_code == 200, (path, answer.text[:300])
        assert answer.headers["content-type"].startswith("text/html"), path
        assert "<h1>" in answer.text
    page = server.client.get(f"{server.path}/position?coords=POINT(10 45)&f=html").text
    told = server.get(f"{server.path}/position", coords="POINT(10 45)")["ranges"]["tcco2"]["values"]
    assert f"<td>{told[0]:.6g}"[:9] in page
    assert server.client.get(f"{server.path}/position?coords=POINT(10 45)", headers={"Accept": "*/*"}).json()["type"] == "Coverage"
    assert server.client.get(f"{server.path}/position?coords=POINT(nowhere)", headers=browser).status_code == 400


def maps_datetime(server: Server) -> None:
    """``datetime`` chooses the step."""
    assert not np.array_equal(drawn(server, datetime="2006-01-03T06:00:00Z"), drawn(server, datetime="2006-01-05T06:00:00Z"))


def maps_general_subsetting(server: Server) -> None:
    """``subset`` chooses a label of an axis."""
    told = drawn(server, subset='time("2006-01-03T06:00:00Z")')
    assert np.array_equal(told, drawn(server, datetime="2006-01-03T06:00:00Z"))


def maps_crs(server: Server) -> None:
    """``crs`` is the system of the picture."""
    answer = server.client.get(f"{server.path}/map", params={"crs": "EPSG:3857", "width": "64"})
    assert answer.headers["content-crs"] == "<http://www.opengis.net/def/crs/EPSG/0/3857>"
    assert not np.array_equal(drawn(server, crs="EPSG:3857", width="64", height="64"), drawn(server, width="64", height="64"))


def maps_png(server: Server) -> None:
    """PNG by its media type."""
    assert server.client.get(f"{server.path}/map", headers={"Accept": "image/png"}).content.startswith(b"\x89PNG")


def tilesets(server: Server) -> None:
    """The tilesets of the map, each with its tiles: the one that covers the world is the map of the world."""
    listed = server.get(f"{server.path}/map/tiles")["tilesets"]
    assert {each["tileMatrixSetURI"].rsplit("/", 1)[1] for each in listed} == {"WebMercatorQuad", "WorldCRS84Quad"}
    for each in listed:
        (own,) = [link["href"] for link in each["links"] if link["rel"] == "self"]
        assert server.get(own)["dataType"] == "map"
        (template,) = [link["href"] for link in each["links"] if link["rel"] == "item"]
        tile = drawn(server, template.format(tileMatrix=0, tileRow=0, tileCol=0))
        assert tile.shape == (256, 256)
        definition = server.get(*[link["href"] for link in each["links"] if link["rel"].endswith("tiling-scheme")])
        assert definition["tileMatrices"][0]["tileWidth"] == 256
    west = drawn(server, f"{server.path}/map/tiles/WorldCRS84Quad/0/0/0")
    assert np.array_equal(west, drawn(server, bbox="-180,-90,0,90", width="256", height="256"))


def crs(server: Server) -> None:
    """``crs`` and ``bbox-crs``: each listed system answers, and the axis order of EPSG:4326 is that of its definition."""
    listed = server.get(server.path)["crs"]
    assert {each.rsplit("/", 1)[1] for each in listed} == {"CRS84", "4326", "3857"}
    plain = server.get(bbox="10,40,20,50", datetime="2006-01-05")
    swapped = server.get(bbox="40,10,50,20", bbox_crs="[EPSG:4326]", datetime="2006-01-05")
    assert plain["ranges"] == swapped["ranges"]
    for each in listed:
        answer = server.client.get(
            f"{server.path}/coverage", params={"bbox": "10,40,20,50", "datetime": "2006-01-03T06:00:00Z", "crs": each}
        )
        assert answer.headers["content-crs"] == f"<{each}>"


def scaling_spatial(server: Server) -> None:
    """``scale-factor``, ``scale-axes`` and ``scale-size``: fewer cells, each of them one of the data."""
    query = {"bbox": "10,40,20,50", "datetime": "2006-01-03T06:00:00Z"}
    whole = server.get(**query)
    for scaled in ({"scale_factor": "2"}, {"scale_axes": "Lat(2),Lon(2)"}, {"scale_size": "Lat(4),Lon(4)"}):
        found = server.get(**query, **scaled)
        assert found["ranges"]["tcco2"]["shape"][1] < whole["ranges"]["tcco2"]["shape"][1]
        assert set(found["ranges"]["tcco2"]["values"]) <= set(whole["ranges"]["tcco2"]["values"])


def coveragejson(server: Server) -> None:
    """CoverageJSON by its media type."""
    answer = server.client.get(
        f"{server.path}/coverage", params={"bbox": "10,40,12,42"}, headers={"Accept": "application/vnd.cov+json"}
    )
    assert answer.headers["content-type"] == "application/vnd.cov+json"
    assert json.loads(answer.content)["type"] == "Coverage"


def netcdf(server: Server) -> None:
    """NetCDF by its media type, with the same values."""
    query = {"bbox": "10,40,12,42", "datetime": "2006-01-03/2006-01-03"}
    answer = server.client.get(f"{server.path}/coverage", params=query, headers={"Accept": "application/x-netcdf"})
    with xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf") as found:
        told = np.array(server.get(**query)["ranges"]["tcco2"]["values"])
        assert np.allclose(found["tcco2"].values.ravel(), told, rtol=1e-12)


def edr_core(server: Server) -> None:
    """Landing page, conformance and an API definition are those of Common; a position answers."""
    document = server.get(f"{server.path}/position", coords="POINT(10 45)", datetime="2006-01-03T06:00:00Z")
    assert document["domain"]["domainType"] == "Point"


def edr_collections(server: Server) -> None:
    """/req/collections: extent, data queries, parameter names, output formats and reference systems of each."""
    for each in server.get("/ogcapi/collections", limit="1000")["collections"]:
        assert {"extent", "data_queries", "parameter_names", "output_formats", "crs", "links"} <= each.keys()


def edr_queries(server: Server) -> None:
    """Each query that is listed answers."""
    where = {
        "position": {"coords": "POINT(10 45)"},
        "area": {"coords": "POLYGON((8 44,12 44,10 48,8 44))"},
        "cube": {"bbox": "8,44,12,48"},
        "radius": {"coords": "POINT(10 45)", "within": "200", "within-units": "km"},
        "trajectory": {"coords": "LINESTRING(8 44,12 48)"},
        "corridor": {"coords": "LINESTRING(8 44,12 48)", "corridor-width": "200", "width-units": "km"},
        "locations": {},
        "items": {},
        "instances": {},
    }
    listed = server.get(server.path)["data_queries"]
    assert set(listed) == set(where)
    for kind, query in listed.items():
        assert server.client.get(query["link"]["href"], params=where[kind]).status_code == 200


def edr_json(server: Server) -> None:
    """Documents are JSON."""
    assert server.client.get(server.path).headers["content-type"] == "application/json"


def edr_covjson(server: Server) -> None:
    """Answers are CoverageJSON."""
    answer = server.client.get(f"{server.path}/position", params={"coords": "POINT(10 45)"})
    assert answer.headers["content-type"] == "application/vnd.cov+json"


def geotiff(server: Server) -> None:
    """GeoTIFF by its media type, with the same values."""
    query = {"bbox": "10,40,12,42", "datetime": "2006-01-03T06:00:00Z"}
    answer = server.client.get(f"{server.path}/coverage", params=query, headers={"Accept": "image/tiff; application=geotiff"})
    with rasterio.open(io.BytesIO(answer.content)) as found:
        told = server.get(**query)
        assert np.array_equal(found.read(1).ravel(), np.array(told["ranges"]["tcco2"]["values"]))


def edr_instances(server: Server) -> None:
    """/req/instances: each version is described in full, and queried by the same queries with the same answers."""
    (instance,) = server.get(f"{server.path}/instances")["instances"]
    assert instance["id"] == VERSION
    assert server.get(f"{server.path}/instances/{VERSION}")["parameter_names"] == instance["parameter_names"]
    plain = server.get(f"{server.path}/position", coords="POINT(10 45)")
    assert server.get(f"{server.path}/instances/{VERSION}/position", coords="POINT(10 45)") == plain


def edr_geojson(server: Server) -> None:
    """/req/edr-geojson: locations are GeoJSON features."""
    answer = server.client.get(f"{server.path}/locations")
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.json()["type"] == "FeatureCollection"


def features_core(server: Server) -> None:
    """/req/core: items by pages, in a box and at a time, each at an address of its own; other parameters are refused."""
    links = server.get(server.path)["links"]
    (href,) = [each["href"] for each in links if each["rel"] == "items"]
    page = server.get(href, limit="10")
    assert page["type"] == "FeatureCollection"
    assert page["numberReturned"] == len(page["features"]) <= page["numberMatched"]
    assert page["timeStamp"].endswith("Z")
    assert server.get(href, datetime="1800-01-01T00:00:00Z")["features"] == []
    assert server.client.get(href, params={"unknown": "1"}).status_code == 400
    assert server.client.get(href, params={"bbox": "1,2,3"}).status_code == 400


def features_geojson(server: Server) -> None:
    """/req/geojson: features are GeoJSON by their media type."""
    answer = server.client.get(f"{server.path}/items", headers={"Accept": "application/geo+json"})
    assert answer.headers["content-type"] == "application/geo+json"


def processes_core(server: Server) -> None:
    """/req/core/process-list, process-execute-sync, pc-no-such-process: a list, an execution, and what is not there."""
    west, south, east, north = server.get(server.path)["extent"]["spatial"]["bbox"][0]
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    zone = {"type": "Feature", "id": "all", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    zones = {"value": {"type": "FeatureCollection", "features": [zone]}}
    listed = server.get("/ogcapi/processes")
    assert [each["id"] for each in listed["processes"]] == ["zonal-statistics"]
    inputs = {"dataset": server.cube.dataset_id, "zones": zones, "statistic": "max"}
    answer = server.client.post("/ogcapi/processes/zonal-statistics/execution", json={"inputs": inputs, "response": "document"})
    table = answer.json()["table"]
    assert len(table["value"].splitlines()) == 1 + 31
    missing = server.client.post("/ogcapi/processes/other/execution", json={"inputs": inputs})
    assert (missing.status_code, missing.json()["type"].rpartition("/")[2]) == (404, "no-such-process")


def processes_description(server: Server) -> None:
    """/req/ogc-process-description: inputs and outputs with schemas and occurrences."""
    described = server.get("/ogcapi/processes/zonal-statistics")
    assert all({"schema", "minOccurs", "maxOccurs"} <= set(each) for each in described["inputs"].values())
    assert all("schema" in each for each in described["outputs"].values())
    assert {"id", "version", "jobControlOptions", "outputTransmission", "links"} <= set(described)


def processes_json(server: Server) -> None:
    """/req/json/definition: documents are JSON."""
    for path in ("/ogcapi/processes", "/ogcapi/processes/zonal-statistics", "/ogcapi/jobs"):
        assert server.client.get(path).headers["content-type"] == "application/json"


def processes_html(server: Server) -> None:
    """/req/html/definition: each document is a page for people too."""
    for path in ("/ogcapi/processes", "/ogcapi/processes/zonal-statistics", "/ogcapi/jobs"):
        answer = server.client.get(path, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def processes_jobs(server: Server) -> None:
    """/req/job-list, /req/dismiss: there is a list of jobs, a job can be looked at, and dismissed at its end, it is gone."""
    assert {"jobs", "links"} <= set(server.get("/ogcapi/jobs"))
    zone = {"type": "Polygon", "coordinates": [[[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]]}
    zones = {"type": "FeatureCollection", "features": [{"type": "Feature", "id": "a", "properties": {}, "geometry": zone}]}
    inputs = {"dataset": server.cube.dataset_id, "zones": {"value": zones}}
    execution = "/ogcapi/processes/zonal-statistics/execution"
    job = server.client.post(execution, json={"inputs": inputs}, headers={"Prefer": "respond-async"})
    assert (job.status_code, job.headers["preference-applied"]) == (201, "respond-async")
    deadline = time.monotonic() + 60
    while (found := server.client.get(job.headers["location"]).json())["status"] in ("accepted", "running"):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert (found["jobID"], found["status"]) == (job.json()["jobID"], "successful")
    assert server.client.delete(job.headers["location"]).json()["status"] == "dismissed"
    assert server.client.get(job.headers["location"]).status_code == 404


_EDR = {
    "core": edr_core,
    "collections": edr_collections,
    "queries": edr_queries,
    "json": edr_json,
    "covjson": edr_covjson,
    "instances": edr_instances,
    "edr-geojson": edr_geojson,
    "html": html,
}
_COVERAGES = {
    "core": coverages_core,
    "subsetting-spatial": subsetting_spatial,
    "subsetting-temporal": subsetting_temporal,
    "subsetting-general": subsetting_general,
    "multi-slicing": multi_slicing,
    "field-selection": field_selection,
    "crs": crs,
    "scaling-spatial": scaling_spatial,
    "coveragejson": coveragejson,
    "netcdf": netcdf,
    "geotiff": geotiff,
    "html": html,
}
_MAPS = {
    "core": maps_core,
    "collection-map": maps_collection,
    "styled-map": maps_styled,
    "scaling": maps_scaling,
    "background": maps_background,
    "spatial-subsetting": maps_spatial_subsetting,
    "datetime": maps_datetime,
    "general-subsetting": maps_general_subsetting,
    "crs": maps_crs,
    "png": maps_png,
    "tilesets": tilesets,
}
TESTS: dict[str, Callable[[Server], None]] = {
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core": common_core,
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/landing-page": common_landing_page,
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/json": common_json,
    "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/html": html,
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/html": html,
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections": common_collections,
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/uad-collections": common_uad_collections,
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/simple-query": common_simple_query,
    **{
        f"{scheme}://www.opengis.net/spec/ogcapi-coverages-1/1.0/conf/{name}": test
        for scheme in ("http", "https")
        for name, test in _COVERAGES.items()
    },
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core": features_core,
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson": features_geojson,
    **{f"http://www.opengis.net/spec/ogcapi-maps-1/1.0/conf/{name}": test for name, test in _MAPS.items()},
    **{
        f"http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/{name}": test
        for name, test in {
            "core": processes_core,
            "ogc-process-description": processes_description,
            "json": processes_json,
            "html": processes_html,
            "job-list": processes_jobs,
            "dismiss": processes_jobs,
        }.items()
    },
    **{
        f"http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/{name}": tilesets
        for name in ("core", "tileset", "tilesets-list", "png")
    },
    **{
        f"http://www.opengis.net/spec/ogcapi-edr-1/{version}/conf/{name}": test
        for version in ("1.1", "1.2")
        for name, test in _EDR.items()
    },
}


def test_what_is_claimed_is_what_is_tested() -> None:
    assert set(ogc.CONFORMANCE) == set(TESTS)
    assert len(ogc.CONFORMANCE) == len(set(ogc.CONFORMANCE))


@pytest.mark.parametrize(
    "name", list(TESTS), ids=lambda name: name.split("ogcapi-")[1] + (" https" if name.startswith("https") else "")
)
def test_class(name: str, server: Server) -> None:
    TESTS[name](server)
