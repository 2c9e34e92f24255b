"""The OGC face over a real socket: documents, choice of form, refusals, limits, downloads, and a client of others."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import xarray as xr
from jsonschema import Draft4Validator
from owslib.ogcapi.coverages import Coverages

from cubeport.documents import ogc

VERSION = "0123456789abcdef0123456789abcdef"
COV = "application/vnd.cov+json"


@pytest.fixture(scope="module")
def rlds(stored: Any) -> Any:
    return stored("rlds_Amon_IPSL-CM6A-LR_185001.nc")


@pytest.fixture(scope="module")
def co2(stored: Any) -> Any:
    """31 steps, 161 × 320, packed, north-up, 0–360."""
    return stored("SMALL_total_column_co2.nc", chunks={"time": 4, "latitude": 60, "longitude": 80})


@pytest.fixture(scope="module")
def url(client: httpx.Client, rlds: Any) -> str:
    return f"/ogcapi/collections/{rlds.dataset_id}"


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["kind"] == document["code"] == kind
    return document


# --- documents ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coverages_schema(schemas: Path) -> Callable[[str, Any], list[str]]:
    """Validate by a component of the Coverages draft; extents of further dimensions apply to those alone (schemas/README)."""
    components = json.loads((schemas / "ogc/coverages/ogcapi-coverages-1.bundled.json").read_text())["components"]
    uad = components["schemas"]["extent-uad"]["allOf"][1]
    uad["properties"] = {"spatial": {}, "temporal": {}}

    def check(name: str, document: Any) -> list[str]:
        validator = Draft4Validator({"components": components, "$ref": f"#/components/schemas/{name}"})
        return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(document)]

    return check


def test_the_landing_page_leads_everywhere(client: httpx.Client, coverages_schema: Any) -> None:
    document = client.get("/ogcapi").json()
    assert coverages_schema("landingPage", document) == []
    here = {link["rel"]: link for link in document["links"]}
    for rel in ("self", "conformance", "data"):
        answer = client.get(here[rel]["href"])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == here[rel]["type"]
    assert client.get("/ogcapi/").json() == document


def test_conformance_is_declared(client: httpx.Client, coverages_schema: Any) -> None:
    document = client.get("/ogcapi/conformance").json()
    assert coverages_schema("confClasses", document) == []
    assert document["conformsTo"] == list(ogc.CONFORMANCE)
    assert not any("oas30" in each for each in document["conformsTo"])


def test_pages_join_into_all_collections(client: httpx.Client, rlds: Any, co2: Any, coverages_schema: Any) -> None:
    whole = client.get("/ogcapi/collections", params={"limit": 1000}).json()
    assert coverages_schema("collections", whole) == []
    names = [each["id"] for each in whole["collections"]]
    assert {rlds.dataset_id, co2.dataset_id} <= set(names)
    found, address = [], "/ogcapi/collections?limit=1"
    while address:
        page = client.get(address).json()
        assert page["numberReturned"] == len(page["collections"]) == 1
        found += [each["id"] for each in page["collections"]]
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    assert found == names


@pytest.mark.parametrize(
    "name",
    [
        "rlds_Amon_IPSL-CM6A-LR_185001.nc",
        "Arctic20_1to5Feb_2016.nc",
        "sst_CMIP6_ssp245_mon_201501-210012.nc",
        "sic_SImon_CanESM5_2020.nc",
    ],
)
def test_a_collection_says_what_the_cube_is(client: httpx.Client, stored: Any, name: str, coverages_schema: Any) -> None:
    cube = stored(name)
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}")
    document = answer.json()
    assert coverages_schema("collectionDesc", document) == []
    assert answer.headers["cubeport-version"] == VERSION
    assert document["description"] == "<b>${HOME}</b>"
    assert document["extent"]["spatial"]["bbox"] == [list(cube.description.spatial.bbox)]
    assert document["extent"]["temporal"]["interval"][0] == [cube.description.temporal.start, cube.description.temporal.end]
    assert set(document["parameter_names"]) == set(cube.description.fields)
    assert document["storageCrs"] in document["crs"]
    for link in document["links"]:
        path = urlsplit(link["href"]).path
        # The face of maps has tests of its own, and is not in this app.
        if path.startswith("/ogcapi") and "/map" not in path:
            # A GeoTIFF is one map, so a link to all of a coverage is refused where it is more.
            refused = (413, 406) if link["href"].endswith("f=geotiff") else (413,)
            assert client.head(link["href"]).status_code in ((200, *refused) if "coverage" in link["rel"] else (200,))


def test_axes_of_their_own_stand_under_their_own_name(client: httpx.Client, stored: Any) -> None:
    cube = stored("sst_CMIP6_ssp245_mon_201501-210012.nc")
    extent = client.get(f"/ogcapi/collections/{cube.dataset_id}").json()["extent"]
    assert len(extent["member_id"]["grid"]["coordinates"]) == 20
    assert extent["temporal"]["grid"] == {"cellsCount": 1032, "firstCoordinate": "2015-01-01T00:00:00Z", "resolution": "P1M"}


def test_the_schema_has_the_fields(client: httpx.Client, url: str) -> None:
    answer = client.get(f"{url}/schema")
    assert answer.headers["content-type"] == "application/schema+json"
    document = answer.json()
    assert document["$id"] == f"{client.base_url}{url[1:]}/schema" or document["$id"].endswith(f"{url}/schema")
    assert document["properties"]["rlds"] == {
        "title": "Surface Downwelling Longwave Radiation",
        "type": "number",
        "x-ogc-propertySeq": 1,
        "x-ogc-unit": "W.m-2",
        "x-ogc-definition": "http://vocab.nerc.ac.uk/standard_name/surface_downwelling_longwave_flux_in_air/",
        "x-ogc-statistics": document["properties"]["rlds"]["x-ogc-statistics"],
    }


def test_a_pinned_collection_carries_its_version(client: httpx.Client, url: str, rlds: Any) -> None:
    document = client.get(f"{url}@{VERSION}").json()
    assert document["id"] == f"{rlds.dataset_id}@{VERSION}"
    assert all(f"@{VERSION}" in link["href"] for link in document["links"] if "coverage" in link["rel"])


@pytest.mark.parametrize(
    "path", ["/ogcapi/collections/nothing", "/ogcapi/collections/nothing/coverage", "/ogcapi/collections/nothing/schema"]
)
def test_what_is_not_there_is_404(client: httpx.Client, path: str) -> None:
    problem(client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/ogcapi/admin/config", "/ogcapi/static/x", "/ogcapi/stac", "/ogcapi/TileMatrixSets"],
)
def test_nothing_else_of_pygeoapi_is_mounted(client: httpx.Client, path: str) -> None:
    problem(client.get(path), 404, "not-found")


# --- choosing a form ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", COV),
        (COV, COV),
        ("application/prs.coverage+json", COV),
        ("application/json", COV),
        ("application/x-netcdf", "application/x-netcdf"),
        (f"application/x-netcdf;q=0.5, {COV}", COV),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
    ],
)
def test_accept_chooses(client: httpx.Client, url: str, accept: str, media_type: str) -> None:
    answer = client.get(f"{url}/coverage", params={"bbox": "0,0,5,5"}, headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    assert "Accept" in answer.headers["vary"]


def test_f_beats_accept(client: httpx.Client, url: str) -> None:
    answer = client.get(f"{url}/coverage", params={"bbox": "0,0,5,5", "f": "json"}, headers={"Accept": "application/x-netcdf"})
    assert answer.headers["content-type"] == COV
    for path in ("/ogcapi", "/ogcapi/conformance", "/ogcapi/collections", url, f"{url}/schema", f"{url}/items", f"{url}/instances"):
        plain, asked = (client.get(path, params={"f": "json"}, headers={"Accept": each}) for each in ("*/*", "text/html"))
        assert (asked.status_code, asked.content) == (200, plain.content), path


def test_forms_that_are_not_there_are_refused(client: httpx.Client, url: str) -> None:
    problem(client.get(f"{url}/coverage", headers={"Accept": "image/gif"}), 406, "not-acceptable")
    problem(client.get(url, headers={"Accept": "image/gif"}), 406, "not-acceptable")
    for form in ("jpeg", "gif"):
        problem(client.get(f"{url}/coverage", params={"f": form}), 400, "invalid-request")
    problem(client.get(url, params={"f": "gif"}), 400, "invalid-request")


# --- refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"bbox": "1,2,3"},
        {"bbox": "a,b,c,d"},
        {"bbox": "nan,0,1,1"},
        {"bbox": "0,10,1,-10"},
        {"bbox": "-600,0,1,1"},
        {"subset": "[" * 2000},
        {"subset": "(" * 2000},
        {"subset": "Lat(1:2"},
        {"subset": "depth(3)"},
        {"datetime": "tomorrow"},
        {"datetime": "1850-02-30"},
        {"properties": "snow"},
        {"scale-factor": "0.5"},
        {"scale-size": "Lon(1000)"},
        {"width": "2"},
        {"crs": "EPSG:2154"},
        {"subset": "Lat(1:2)", "subset-crs": "EPSG:4326"},
        {"colour": "red"},
        {"bbox": "0,0,1,1", "bbox-crs": "[EPSG:2154]"},
        {"bbox": "0,0,1,1", "subset": "Lon(1:2)"},
    ],
    ids=lambda query: next(iter(query)) + "=" + next(iter(query.values()))[:12],
)
def test_what_cannot_be_taken_is_400_and_fast(client: httpx.Client, url: str, query: dict[str, str]) -> None:
    began = time.perf_counter()
    document = problem(client.get(f"{url}/coverage", params=query), 400, "invalid-request")
    assert time.perf_counter() - began < 2
    assert document["errors"]
    assert all(each["loc"][0] == "query" for each in document["errors"])


def test_all_problems_are_told_together(client: httpx.Client, url: str) -> None:
    document = problem(client.get(f"{url}/coverage?bbox=1&datetime=x&colour=red&f=gif&estimate=1"), 400, "invalid-request")
    assert [each["loc"][1] for each in document["errors"]] == ["bbox", "datetime", "colour", "f", "estimate"]


@pytest.mark.parametrize("query", ["bbox=%zz", "bbox=%ff", "properties=%00%ff"])
def test_what_is_no_text_is_400(client: httpx.Client, url: str, query: str) -> None:
    problem(client.get(f"{url}/coverage?{query}"), 400, "invalid-request")


def test_outside_the_data_is_404_with_the_extent(client: httpx.Client, url: str, stored: Any) -> None:
    document = problem(client.get(f"{url}/coverage", params={"datetime": "1999"}), 404, "not-found")
    assert document["what"] == "data"
    assert document["extent"]["interval"] == ["1850-01-16T12:00:00Z", "1850-01-16T12:00:00Z"]
    bathymetry = stored("gebco_2020.nc")
    problem(
        client.get(f"/ogcapi/collections/{bathymetry.dataset_id}/coverage", params={"bbox": "-60,-40,-50,-30"}), 404, "not-found"
    )


def test_without_a_place_a_box_is_400(client: httpx.Client, stored: Any) -> None:
    cube = stored("msftmz_Omon_NorCPM1_185001.nc")
    problem(client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"bbox": "0,0,1,1"}), 400, "invalid-request")
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"subset": "lat(0:10),lev(0:100)"})
    assert answer.status_code == 200
    assert next(each["id"] for each in answer.json()["coverages"]).startswith("sector=")
    assert "domainType" not in answer.json()["coverages"][0]["domain"]


# --- what is reported next to the values -------------------------------------------------------------------------------------


def test_headers_say_what_is_returned(client: httpx.Client, url: str) -> None:
    answer = client.get(f"{url}/coverage", params={"bbox": "-3,10,3,12"})
    assert answer.headers["content-crs"] == "<http://www.opengis.net/def/crs/OGC/1.3/CRS84>"
    west, south, east, north = (float(edge) for edge in answer.headers["content-bbox"].split(","))
    assert west <= -3 < 3 <= east
    assert south <= 10 < 12 <= north
    assert east - west < 12
    assert answer.headers["content-datetime"] == "1850-01-16T12:00:00Z"
    assert answer.headers["cubeport-version"] == VERSION
    assert "x-powered-by" not in answer.headers


def test_a_known_answer_is_304_and_nothing_is_opened(client: httpx.Client, url: str, shelf: Any) -> None:
    query = {"bbox": "-3,10,3,12"}
    first = client.get(f"{url}/coverage", params=query)
    before = len(shelf.engine.reads)
    again = client.get(f"{url}/coverage", params=query, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]
    assert len(shelf.engine.reads) == before
    assert first.headers["cache-control"] == "no-cache"
    other = client.get(f"{url}/coverage", params={**query, "f": "netcdf"}, headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


def test_a_pinned_answer_is_immutable(client: httpx.Client, url: str) -> None:
    answer = client.get(f"{url}@{VERSION}/coverage", params={"bbox": "-3,10,3,12"})
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get(f"{url}@latest/coverage", params={"bbox": "-3,10,3,12"}).headers["cache-control"] == "no-cache"


def test_head_has_the_headers_and_reads_no_values(client: httpx.Client, co2: Any, shelf: Any) -> None:
    address = f"/ogcapi/collections/{co2.dataset_id}/coverage"
    query = {"bbox": "100,-50,120,-40", "datetime": "2006-01-02"}
    client.get(address, params={**query, "estimate": "true"})
    before = len(shelf.engine.reads)
    head = client.head(address, params=query)
    assert head.status_code == 200
    assert head.content == b""
    assert "content-length" not in head.headers
    assert [key for key in shelf.engine.reads[before:] if "/tcco2/c/" in key] == []
    whole = client.get(address, params=query)
    for name in ("etag", "content-bbox", "content-datetime", "content-crs", "content-type", "cubeport-version"):
        assert head.headers[name] == whole.headers[name]


def test_gzip_is_offered(client: httpx.Client, url: str) -> None:
    answer = client.get(f"{url}/coverage", params={"bbox": "-30,-30,30,30"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["etag"].endswith('-gz"')


def test_scaled_answers_have_values_of_the_source(client: httpx.Client, co2: Any, equal: Any) -> None:
    query = {"scale-size": "Lon(36),Lat(18)", "datetime": "2006-01-03T06:00:00Z"}
    answer = client.get(f"/ogcapi/collections/{co2.dataset_id}/coverage", params=query)
    assert answer.headers["content-interpolation"] == "nearest-neighbor"
    document = answer.json()
    axes, truth = document["domain"]["axes"], co2.truth()
    x = [int(np.abs(truth["longitude"].values - each).argmin()) for each in axes["x"]["values"]]
    y = [int(np.abs(truth["latitude"].values - each).argmin()) for each in axes["y"]["values"]]
    assert (len(x), len(y)) == (36, 18)
    time_at = [str(each)[:19] for each in xr.decode_cf(truth)["time"].values].index("2006-01-03T06:00:00")
    assert equal(document["ranges"]["tcco2"]["values"], truth["tcco2"].values[time_at][np.ix_(y, x)], packed=True)
    netcdf = client.get(f"/ogcapi/collections/{co2.dataset_id}/coverage", params={**query, "f": "netcdf"})
    with opened(netcdf) as found:
        assert equal(document["ranges"]["tcco2"]["values"], found["tcco2"].values)


# --- limits -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(serve: Any, co2: Any) -> httpx.Client:
    """A server with low limits."""
    return serve(json_cells=150_000, binary_cells=1_000_000, download_cells=1_000_000)


def test_what_is_too_large_is_413_before_anything_is_read(small: httpx.Client, co2: Any, shelf: Any) -> None:
    address = f"/ogcapi/collections/{co2.dataset_id}/coverage"
    small.get(address, params={"estimate": "true"})
    before = len(shelf.engine.reads)
    began = time.perf_counter()
    document = problem(small.get(address), 413, "too-large")
    assert time.perf_counter() - began < 2
    assert [key for key in shelf.engine.reads[before:] if "/tcco2/c/" in key] == []
    assert document["setting"] == "limits.json_cells"
    assert (document["limit"], document["value"], document["unit"]) == (150_000, 31 * 161 * 320, "cells")
    assert [each["title"] for each in document["alternatives"]] == [
        "The longest time from the start that fits",
        "All of it with fewer cells",
        "All of it as Zarr",
        "The cost",
    ]
    first = small.get(document["alternatives"][0]["href"])
    assert first.status_code == 200
    assert len(first.json()["domain"]["axes"]["t"]["values"]) == 2
    fewer = small.get(document["alternatives"][1]["href"]).json()
    assert 90_000 < len(fewer["ranges"]["tcco2"]["values"]) <= 150_000
    assert small.get(document["alternatives"][-1]["href"]).json()["allowed"] is False


def test_netcdf_is_offered_where_it_fits(small: httpx.Client, co2: Any) -> None:
    address = f"/ogcapi/collections/{co2.dataset_id}/coverage"
    document = problem(small.get(address, params={"datetime": "2006-01-01/2006-01-02", "f": "covjson"}), 413, "too-large")
    netcdf = next(each["href"] for each in document["alternatives"] if each["title"] == "The same as NetCDF")
    with xr.open_dataset(io.BytesIO(small.get(netcdf).content), engine="h5netcdf") as found:
        assert dict(found.sizes) == {"time": 7, "latitude": 161, "longitude": 320}


def test_chunks_and_bytes_have_limits_too(serve: Any, co2: Any) -> None:
    address = f"/ogcapi/collections/{co2.dataset_id}/coverage"
    few, light = serve(chunks=7), serve(answer_bytes=1000)
    # 4 × 3 chunks of one step; 2 × 1 of a corner.
    document = problem(few.get(address, params={"datetime": "2006-01-01T06:00:00Z"}), 413, "too-large")
    assert (document["setting"], document["value"]) == ("limits.chunks", 12)
    assert few.get(address, params={"datetime": "2006-01-01T06:00:00Z", "bbox": "0,-90,10,0"}).status_code == 200
    assert (
        problem(light.get(address, params={"datetime": "2006-01-01T06:00:00Z"}), 413, "too-large")["setting"]
        == "limits.answer_bytes"
    )


QUERIES = [
    ("SMALL_total_column_co2.nc", {"datetime": "2006-01-02T06:00:00Z"}),
    ("rlds_Amon_IPSL-CM6A-LR_185001.nc", {}),
    ("gebco_2020.nc", {}),
    ("tasmax_day_CanESM2_365day_2095.nc", {"datetime": "2095-03", "properties": "tasmax"}),
    ("test_lcc.nc", {"datetime": "../.."}),
    ("sst_CMIP6_ssp245_mon_201501-210012.nc", {"datetime": "2050/2060"}),
    ("small_rotPole_precipitation.nc", {}),
]


@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[name[:12] for name, _ in QUERIES])
@pytest.mark.parametrize("form", ["covjson", "netcdf"])
def test_an_estimate_is_within_a_fifth(
    client: httpx.Client, stored: Any, shelf: Any, name: str, query: dict[str, str], form: str
) -> None:
    cube = stored(name)
    address = f"/ogcapi/collections/{cube.dataset_id}/coverage"
    if "sst" in name and form == "covjson":
        # Land is missing, which only the values tell: estimates learn it from the answers before.
        client.get(address, params={"datetime": "2020/2030", "f": form})
    client.get(address, params={**query, "f": form, "estimate": "true"})
    before = len(shelf.engine.reads)
    told = client.get(address, params={**query, "f": form, "estimate": "true"}).json()
    assert shelf.engine.reads[before:] == []
    answer = client.get(address, params={**query, "f": form})
    assert told["allowed"] is True
    assert told["format"] == form
    assert abs(told["bytes"] - len(answer.content)) <= 0.2 * len(answer.content)
    if form == "covjson":
        document = answer.json()
        parts = document["coverages"] if document["type"] == "CoverageCollection" else [document]
        assert told["cells"] == sum(len(part["values"]) for each in parts for part in each["ranges"].values())


def test_heavy_answers_wait_for_a_place_and_then_503(serve: Any, co2: Any) -> None:
    server = serve(heavy=1, wait_s=0.01)
    address = f"/ogcapi/collections/{co2.dataset_id}/coverage?f=netcdf"
    statuses: list[int] = []
    lock = threading.Lock()

    def ask() -> None:
        answer = httpx.get(f"{server.base_url}{address}", timeout=60)
        with lock:
            statuses.append(answer.status_code)
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1

    for _ in range(20):  # on a loaded machine, four clients may come one after another
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if 503 in statuses:
            break
    assert set(statuses) == {200, 503}


def test_the_work_is_given_up_when_the_client_leaves(serve: Any, co2: Any, scratch: Path) -> None:
    server = serve(heavy=1, wait_s=20)
    address = f"/datasets/{co2.dataset_id}/download"
    host = urlsplit(str(server.base_url))
    for _ in range(3):
        with socket.create_connection((host.hostname, host.port)) as impatient:
            impatient.sendall(f"GET {address} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            time.sleep(0.05)
    # The one place is free again, and nothing lies about.
    assert server.get(address).status_code == 200
    assert list(scratch.iterdir()) == []


# --- downloads ----------------------------------------------------------------------------------------------------------


def opened(answer: httpx.Response, **options: Any) -> xr.Dataset:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-netcdf"
    assert int(answer.headers["content-length"]) == len(answer.content)
    return xr.open_dataset(io.BytesIO(answer.content), engine="h5netcdf", **options).load()


RAW = {"decode_cf": False}


@pytest.mark.parametrize(
    "name",
    [
        "SMALL_total_column_co2.nc",
        "rlds_Amon_IPSL-CM6A-LR_185001.nc",
        "tasmax_day_HadGEM2-CC_360day_2095.nc",
        "gebco_2020.nc",
        "small_rotPole_precipitation.nc",
        "cmems_mod_bal_phy_anfc_P1D.nc",
        "sic_SImon_CanESM5_2020.nc",
    ],
)
def test_a_whole_download_is_the_source_as_stored(client: httpx.Client, stored: Any, realdata: Path, name: str) -> None:
    cube = stored(name)
    answer = client.get(f"/datasets/{cube.dataset_id}/download")
    with opened(answer, **RAW) as ours, xr.open_dataset(realdata / name, engine="netcdf4", **RAW) as theirs:
        # Text is stored as text of any length: the dimension of its characters is gone.
        assert {name: size for name, size in theirs.sizes.items() if "strlen" not in str(name).lower()} == dict(ours.sizes)
        assert list(ours.variables) == list(theirs.variables)
        bounds = {str(theirs[each].attrs.get("bounds")) for each in theirs.variables}
        for each in theirs.variables:
            if theirs[each].dtype.kind not in "iuf":
                continue
            assert ours[each].dims == theirs[each].dims
            assert ours[each].dtype == theirs[each].dtype, each
            a, b = ours[each].values, theirs[each].values
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), each
            for key in (
                "_FillValue",
                "scale_factor",
                "add_offset",
                "units",
                "calendar",
                "bounds",
                "grid_mapping",
                "coordinates",
                "standard_name",
            ):
                if each in bounds and key in ("units", "calendar"):
                    continue
                if key not in theirs[each].attrs:
                    assert key not in ours[each].attrs
                elif isinstance(theirs[each].attrs[key], str):
                    assert ours[each].attrs[key] == theirs[each].attrs[key]
                else:
                    assert np.allclose(ours[each].attrs[key], theirs[each].attrs[key], rtol=1e-7, equal_nan=True)


def test_a_download_is_named_by_its_time(client: httpx.Client, co2: Any, rlds: Any) -> None:
    def name(query: dict[str, str], dataset_id: str = co2.dataset_id) -> str:
        return client.get(f"/datasets/{dataset_id}/download", params=query).headers["content-disposition"]

    assert (
        name({"start": "2006-01-02", "end": "2006-01-02"})
        == f'attachment; filename="{co2.dataset_id}_20060102T000000Z_20060102T180000Z.nc"'
    )
    assert name({}, rlds.dataset_id).endswith('_18500116T120000Z_18500116T120000Z.nc"')


def test_a_part_is_downloaded_packed(client: httpx.Client, co2: Any, realdata: Path) -> None:
    answer = client.get(
        f"/datasets/{co2.dataset_id}/download",
        params={"bbox": "-5,40,5,45", "start": "2006-01-03", "end": "2006-01-03", "variables": "tcco2"},
    )
    with opened(answer, **RAW) as ours, xr.open_dataset(realdata / "SMALL_total_column_co2.nc", engine="netcdf4", **RAW) as theirs:
        assert ours["tcco2"].dtype == theirs["tcco2"].dtype
        lons, lats = theirs["longitude"].values, theirs["latitude"].values
        x = np.concatenate([np.flatnonzero(lons > 354.5), np.flatnonzero(lons < 5.5)])
        x = [at for at in x if -5.5625 <= ((lons[at] + 180) % 360) - 180 <= 5.5625]
        y = [at for at in range(lats.size) if ours["latitude"].values.min() <= lats[at] <= ours["latitude"].values.max()]
        t = [list(theirs["time"].values).index(each) for each in ours["time"].values]
        assert len(t) == 4
        expected = theirs["tcco2"].values[np.ix_(t, y, x)]
        assert np.array_equal(ours["tcco2"].values, expected)
        turned = ours["longitude"].values
        assert (np.diff(turned) > 0).all()
        assert np.allclose(turned % 360, lons[x], atol=1e-4)


def test_an_instant_keeps_the_dimension_in_a_download_and_not_in_a_coverage(client: httpx.Client, co2: Any) -> None:
    query = {"datetime": "2006-01-03T12:00:00Z", "bbox": "0,40,5,45"}
    with opened(client.get(f"/datasets/{co2.dataset_id}/download", params=query)) as download:
        assert download["tcco2"].dims == ("time", "latitude", "longitude")
    with opened(client.get(f"/ogcapi/collections/{co2.dataset_id}/coverage", params={**query, "f": "netcdf"})) as coverage:
        assert coverage["tcco2"].dims == ("latitude", "longitude")
        assert coverage["time"].dims == ()
        assert str(coverage["time"].values)[:19] == "2006-01-03T12:00:00"
        assert "time" in coverage.coords
        assert np.array_equal(coverage["tcco2"].values, download["tcco2"].values[0])


def test_downloads_are_refused_like_coverages(client: httpx.Client, small: httpx.Client, co2: Any) -> None:
    address = f"/datasets/{co2.dataset_id}/download"
    document = problem(client.get(f"{address}?variables=snow&bbox=1&format=gif&start=x&colour=red"), 400, "invalid-request")
    assert {each["loc"][1] for each in document["errors"]} == {"bbox", "format", "start", "colour"}
    problem(client.get(address, params={"start": "2006", "datetime": "2006"}), 400, "invalid-request")
    problem(client.get(address, params={"variables": "snow"}), 400, "invalid-request")
    problem(client.get(address, params={"start": "2006-02"}), 404, "not-found")
    problem(client.get(address, headers={"Accept": "image/png"}), 406, "not-acceptable")
    too_large = problem(small.get(address), 413, "too-large")
    assert too_large["setting"] == "limits.download_cells"
    href = too_large["alternatives"][0]["href"]
    assert "/datasets/" in href
    assert small.get(href).status_code == 200


def test_start_and_end_are_periods_of_the_dataset(client: httpx.Client, stored: Any, shelf: Any) -> None:
    cube = stored("tasmax_day_HadGEM2-CC_360day_2095.nc")
    address = f"/datasets/{cube.dataset_id}/download"

    def days(**query: str) -> str:
        answer = client.get(address, params=query)
        assert answer.status_code == 200, answer.text
        return answer.headers["content-datetime"]

    assert days(start="2095-02") == "2095-02-01T00:00:00Z/2095-12-30T00:00:00Z"
    cube.period_type = "pentad"
    try:
        assert days(start="2095-02-P6", end="2095-03-P1") == "2095-02-26T00:00:00Z/2095-03-05T00:00:00Z"
        assert days(end="2095-02") == "2095-01-01T00:00:00Z/2095-02-30T00:00:00Z"
        problem(client.get(address, params={"start": "2095-02-P7"}), 400, "invalid-period")
        problem(client.get(address, params={"start": "2095-03", "end": "2095-02"}), 400, "invalid-range")
    finally:
        cube.period_type = None


def test_a_download_is_estimated(client: httpx.Client, co2: Any) -> None:
    address = f"/datasets/{co2.dataset_id}/download"
    told = client.get(address, params={"estimate": "true"}).json()
    assert told["cells"] == 31 * 161 * 320
    assert abs(told["bytes"] - len(client.get(address).content)) < 0.2 * told["bytes"]


def test_no_temporary_file_is_left(client: httpx.Client, co2: Any, scratch: Path) -> None:
    assert client.get(f"/datasets/{co2.dataset_id}/download", params={"bbox": "0,0,5,5"}).status_code == 200
    assert list(scratch.iterdir()) == []


# --- grids of other kinds -----------------------------------------------------------------------------------------------


def test_curvilinear_cells_outside_the_box_are_missing(client: httpx.Client, stored: Any, equal: Any) -> None:
    cube = stored("sic_SImon_CanESM5_2020.nc")
    query = {"bbox": "-20,60,10,70", "datetime": "2020-03", "properties": "siconc"}
    document = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params=query).json()
    assert document["domain"]["domainType"] == "MultiPoint"
    points = np.array(document["domain"]["axes"]["composite"]["values"])
    truth = cube.truth()
    lon, lat = truth["longitude"].values, truth["latitude"].values
    inside = ((lon + 20) % 360 <= 30) & (lat >= 60) & (lat <= 70)
    assert len(points) == inside.sum()
    assert equal(document["ranges"]["siconc"]["values"], truth["siconc"].values[2][inside])
    with opened(
        client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={**query, "f": "netcdf"}), decode_times=False
    ) as found:
        ours, where = (
            found["siconc"].values,
            ((found["longitude"].values + 20) % 360 <= 30) & (found["latitude"].values >= 60) & (found["latitude"].values <= 70),
        )
        assert np.isnan(ours[~where]).all()
        assert np.array_equal(ours[where], truth["siconc"].values[2][inside], equal_nan=True)


def test_members_become_coverages_of_their_own(client: httpx.Client, stored: Any, equal: Any) -> None:
    cube = stored("small_FC_167_mon_19601101.nc")
    answer = client.get(f"/ogcapi/collections/{cube.dataset_id}/coverage", params={"bbox": "-5,40,5,45"})
    document = answer.json()
    assert document["type"] == "CoverageCollection"
    truth = cube.truth()["tas"]
    assert len(document["coverages"]) == truth.sizes["ensemble"] * truth.sizes["time"]
    axes = document["coverages"][5]["domain"]["axes"]
    lons, lats = cube.truth()["longitude"].values, cube.truth()["latitude"].values
    x = [int(np.argmin(np.abs((lons - each + 180) % 360 - 180))) for each in axes["x"]["values"]]
    y = [int(np.argmin(np.abs(lats - each))) for each in axes["y"]["values"]]
    for number, coverage in enumerate(document["coverages"]):
        time_at, member = divmod(number, truth.sizes["ensemble"])
        expected = truth.transpose("time", "ensemble", "latitude", "longitude").values[time_at, member][np.ix_(y, x)]
        assert equal(coverage["ranges"]["tas"]["values"], expected)


def test_a_storage_crs_without_a_name_has_an_address(client: httpx.Client, stored: Any) -> None:
    cube = stored("tas_ANT-44_HIRHAM5_20060101.nc")
    address = f"/ogcapi/collections/{cube.dataset_id}"
    document = client.get(address).json()
    crs = document["storageCrs"]
    assert crs.endswith("#storageCrs")
    west, south = document["extent"]["spatial"]["storageCrsBbox"][0][:2]
    answer = client.get(
        f"{address}/coverage",
        params={"bbox": f"{west},{south},{west + 2},{south + 1}", "bbox-crs": crs, "properties": "tas"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-crs"] == f"<{crs}>"
    assert next(float(edge) for edge in answer.headers["content-bbox"].split(",")) <= west


# --- another's client ---------------------------------------------------------------------------------------------------


def test_owslib_reads_landing_collections_and_coverage(client: httpx.Client, rlds: Any) -> None:
    there = Coverages(f"{client.base_url}/ogcapi".replace("//ogcapi", "/ogcapi"))
    assert "http://www.opengis.net/spec/ogcapi-common-1/1.0/conf/core" in there.conformance()["conformsTo"]
    assert there.coverages()  # one page of them: other test files have datasets here too
    assert there.collection(rlds.dataset_id)["id"] == rlds.dataset_id
    content = there.coverage(rlds.dataset_id, subset=[("Lat", 10, 20), ("Lon", 0, 10)], properties=["rlds"]).read()
    document = json.loads(content)
    axes = document["domain"]["axes"]
    truth = rlds.truth()
    expected = truth["rlds"].sel(lat=axes["y"]["values"], lon=axes["x"]["values"], method="nearest").values
    assert np.array_equal(np.array(document["ranges"]["rlds"]["values"], dtype="float32"), expected.ravel())
    assert min(axes["y"]["values"]) < 11
    assert max(axes["y"]["values"]) > 19


def test_values_are_declared_as_pages_too(client: httpx.Client) -> None:
    """A browser gets a page from each address with values, so the OpenAPI document says so."""
    paths = client.get("/openapi.json").json()["paths"]
    for place in ("coverage", "position", "locations/{location_id}"):
        answers = paths[f"/ogcapi/collections/{{collection_id}}/{place}"]["get"]["responses"]
        assert {"text/html", "text/csv"} <= answers["200"]["content"].keys(), place
