"""WMS and WMTS as OWSLib and GDAL read them: pixels, values, times and refusals of every grid family over a real socket."""

from __future__ import annotations

import html
import io
import random
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from owslib.wms import WebMapService
from owslib.wmts import WebMapTileService
from tests.families import FAMILIES, positions
from tests.sample import sample

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

from .conftest import Server, start, stop

pytestmark = pytest.mark.filterwarnings("ignore")


def pixels(content: bytes) -> np.ndarray:
    """Return red, green, blue and opacity, (height, width, 4), as GDAL decodes them."""
    with rasterio.open(io.BytesIO(content)) as opened:
        (band,), table = opened.read(), opened.colormap(1)
    return np.array([table.get(n, (0, 0, 0, 0)) for n in range(256)], "uint8")[band]


def test_feature_info_has_forms_and_is_conditional(families: Server) -> None:
    asked = {
        "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetFeatureInfo", "LAYERS": "t", "QUERY_LAYERS": "t", "STYLES": "",
        "CRS": "CRS:84", "BBOX": "-180,-90,180,90", "WIDTH": "8", "HEIGHT": "6", "TIME": "2020-01-02", "I": "0", "J": "0",
    }  # fmt: skip
    for form, text in (
        ("application/json", '"value": 100.0'),
        ("text/plain", "t: 100.0 K"),
        ("text/html", '<th scope="row">t</th><td>100.0 K</td>'),
    ):
        answer = families.get("/wms/regular", **asked, INFO_FORMAT=form)
        assert answer.headers["content-type"].startswith(form)
        assert text in answer.text
        again = httpx.get(str(answer.url), headers={"if-none-match": answer.headers["etag"]}, trust_env=False)
        assert again.status_code == 304


def test_the_legend_graphic_is_that_of_the_map(families: Server) -> None:
    """GetLegendGraphic, as programs ask for it that do not read ``LegendURL``."""
    asked = {"SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetLegendGraphic", "LAYER": "t", "FORMAT": "image/svg+xml"}
    own = families.get("/wms/regular", **asked)
    assert own.headers["content-type"] == "image/svg+xml"
    assert own.content == families.get("/datasets/regular/legend", properties="t").content
    png = families.get("/wms/regular", **(asked | {"FORMAT": "image/png"}))
    assert png.headers["content-type"] == "image/png"
    assert png.content == families.get("/datasets/regular/legend", properties="t", f="png").content
    changed = families.get("/wms/regular", **asked, STYLE="raster/magma", COLORSCALERANGE="0,50")
    colours, texts = (ET.fromstring(changed.content).iter(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("stop", "text"))
    shown = families.get(
        "/wms/regular", SERVICE="WMS", VERSION="1.3.0", REQUEST="GetMap", LAYERS="t", STYLES="raster/magma", COLORSCALERANGE="0,50",
        CRS="CRS:84", BBOX="-180,-90,180,90", WIDTH="8", HEIGHT="6", FORMAT="image/png", TIME="2020-01-01",
    )  # fmt: skip
    stops = [each.get("stop-color") for each in colours]
    assert "#" + bytes(pixels(shown.content)[0, 0, :3].tolist()).hex() == stops[0], "the first cell is 0"
    assert [each.text for each in texts][1:] == ["0", "12.5", "25", "37.5", "50"]
    for wrong in ({"LAYER": "u"}, {"FORMAT": "image/jpeg"}, {"STYLE": "rainbow"}, {"COLORSCALERANGE": "auto"}):
        refused = families.get("/wms/regular", **(asked | wrong))
        assert refused.status_code == 400
        assert "ServiceException" in refused.text


def test_a_map_shows_one_time(families: Server) -> None:
    for period in ("2020-01-01/2020-01-02", "../..", "2020-01-01/.."):
        answer = families.get("/ogcapi/collections/regular/map", datetime=period)
        assert answer.status_code == 400
        assert "one time" in answer.text


@pytest.mark.parametrize("name", FAMILIES)
def test_owslib_reads_the_layer_and_its_pixels_are_the_map(families: Server, name: str) -> None:
    service = WebMapService(f"{families.url}/wms/{name}", version="1.3.0")
    assert list(service.contents) == ["t"]
    layer = service["t"]
    west, south, east, north = layer.boundingBoxWGS84
    assert {"CRS:84", "EPSG:4326", "EPSG:3857"} <= set(layer.crsOptions)
    assert layer.queryable
    for crs, box, ours in (
        ("CRS:84", (west, south, east, north), "OGC:CRS84"),
        ("EPSG:4326", (west, south, east, north), "OGC:CRS84"),
    ):
        answer = service.getmap(
            layers=["t"], styles=["default"], srs=crs, bbox=box, size=(60, 40), format="image/png", transparent=True
        )
        drawn = pixels(answer.read())
        same = families.get(
            f"/ogcapi/collections/{name}/map", bbox=",".join(map(str, box)), crs=ours, width=60, height=40, properties="t"
        )
        assert np.array_equal(drawn, pixels(same.content))
        assert drawn[..., 3].any()


@pytest.mark.parametrize("name", ["from-0-to-360", "south-up", "projected", "rotated-pole", "curvilinear"])
@pytest.mark.parametrize("crs", sample(["EPSG:4326", "EPSG:3857"], every=2))
def test_feature_info_is_the_value_under_the_pixel(families: Server, name: str, crs: str) -> None:
    west, south, east, north = families.json(f"/ogcapi/collections/{name}")["extent"]["spatial"]["bbox"][0]
    south, north = max(south, -80), min(north, 80)
    onto = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    box = (*onto.transform(west, south), *onto.transform(east, north))
    asked = (box[1], box[0], box[3], box[2]) if crs == "EPSG:4326" else box
    common = {"SERVICE": "WMS", "VERSION": "1.3.0", "CRS": crs, "BBOX": ",".join(map(repr, asked)), "WIDTH": "80", "HEIGHT": "50"}
    common |= {"STYLES": "", "TIME": "2020-01-02T00:00:00Z"}
    rng, found = random.Random(1), 0
    for _ in range(15):
        i, j = rng.randrange(80), rng.randrange(50)
        answer = families.get(
            f"/wms/{name}",
            **common,
            REQUEST="GetFeatureInfo",
            LAYERS="t",
            QUERY_LAYERS="t",
            I=i,
            J=j,
            INFO_FORMAT="application/json",
        )
        assert answer.status_code == 200, answer.text
        (feature,) = answer.json()["features"]
        x, y = box[0] + (i + 0.5) / 80 * (box[2] - box[0]), box[3] - (j + 0.5) / 50 * (box[3] - box[1])
        lon, lat = onto.transform(x, y, direction="INVERSE")
        truth = families.get(f"/ogcapi/collections/{name}/position", coords=f"POINT({lon} {lat})", datetime="2020-01-02")
        value = feature["properties"]["value"]
        if name == "curvilinear" and (truth.status_code == 404 or value is None):
            continue  # the nearest centre and the quadrilateral differ at the border
        expected = None if truth.status_code == 404 else truth.json()["ranges"]["t"]["values"][0]
        assert value == expected or name == "curvilinear", (i, j, lon, lat)
        assert feature["properties"]["time"] == "2020-01-02T00:00:00Z"
        found += value is not None
    assert found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("half", sample([1e-6, 1e-2], every=2))
def test_however_near_one_looks_the_value_is_that_of_the_cell(families: Server, name: str, half: float) -> None:
    field = FAMILIES[name].make().t
    lon, lat = positions(FAMILIES[name])
    cells = field.values.reshape(-1, lon.size)
    for cell in range(0, lon.size, 7):
        x, y = (lon[cell] + 180) % 360 - 180, lat[cell]
        answer = families.get(
            f"/wms/{name}",
            SERVICE="WMS",
            VERSION="1.3.0",
            REQUEST="GetFeatureInfo",
            LAYERS="t",
            QUERY_LAYERS="t",
            CRS="CRS:84",
            BBOX=f"{x - half:.9f},{y - half:.9f},{x + half:.9f},{y + half:.9f}",
            WIDTH=3,
            HEIGHT=3,
            I=1,
            J=1,
            INFO_FORMAT="application/json",
        )
        assert answer.status_code == 200, answer.text
        (feature,) = answer.json()["features"]
        assert feature["properties"]["value"] in cells[:, cell].tolist(), (cell, x, y)


def test_the_frame_of_an_animation_shows_its_first_step(families: Server) -> None:
    """The temporal controller of QGIS sends the interval of each frame, also one that is all of the time."""
    asked = {"SERVICE": "WMS", "VERSION": "1.3.0", "LAYERS": "t", "STYLES": "", "CRS": "EPSG:4326", "BBOX": "-90,-180,90,180"}
    asked |= {"WIDTH": "8", "HEIGHT": "6", "FORMAT": "image/png", "COLORSCALERANGE": "0,300"}
    pictures = {day: families.get("/wms/regular", **asked, REQUEST="GetMap", TIME=f"2020-01-0{day}").content for day in (1, 2, 3)}
    assert len(set(pictures.values())) == 3
    for period, day in {
        "2020-01-02T00:00:00Z/2020-01-03T00:00:00Z": 2,
        "2020-01-01T12:00:00Z/2020-01-02T12:00:00Z": 2,
        "2020-01-03T00:00:00Z/2020-01-04T00:00:00Z": 3,
        "2020-01-01T00:00:00Z/2020-01-03T00:00:00Z": 1,
        "2019-01-01T00:00:00Z/2021-01-01T00:00:00Z": 1,
    }.items():
        shown = families.get("/wms/regular", **asked, REQUEST="GetMap", TIME=period)
        assert shown.content == pictures[day], period
        info = families.get("/wms/regular", **asked, REQUEST="GetFeatureInfo", QUERY_LAYERS="t", I="0", J="0", TIME=period)
        assert info.json()["features"][0]["properties"]["time"] == f"2020-01-0{day}T00:00:00Z"
    for period in ("2021-01-01T00:00:00Z/2021-01-02T00:00:00Z", "2020-01-01/2020-01-03/P1D", "2020-01-01,2020-01-02"):
        refused = families.get("/wms/regular", **asked, REQUEST="GetMap", TIME=period)
        assert refused.status_code in (400, 404)
        assert "ServiceException" in refused.text


def test_times_and_levels_are_dimensions(families: Server) -> None:
    service = WebMapService(f"{families.url}/wms/pressure-levels", version="1.3.0")
    dimensions = service["t"].dimensions
    assert {"time", "elevation"} <= set(dimensions)
    labels = families.json("/ogcapi/collections/pressure-levels")["extent"]
    assert dimensions["time"]["values"] == ["2020-01-01T00:00:00Z/2020-01-03T00:00:00Z/P1D"]
    assert dimensions["time"]["default"] == "2020-01-03T00:00:00Z"
    assert len(dimensions["elevation"]["values"]) == labels["vertical"]["grid"]["cellsCount"]
    box = ",".join(map(str, service["t"].boundingBoxWGS84))
    common = {
        "REQUEST": "GetFeatureInfo",
        "LAYERS": "t",
        "QUERY_LAYERS": "t",
        "CRS": "CRS:84",
        "BBOX": box,
        "WIDTH": 20,
        "HEIGHT": 20,
    }
    seen = {
        (time, level): families.get("/wms/pressure-levels", **common, I=10, J=10, TIME=time, ELEVATION=level).json()
        for time in ("2020-01-01", "2020-01-02T00:00:00Z")
        for level in dimensions["elevation"]["values"]
    }
    values = {key: each["features"][0]["properties"]["value"] for key, each in seen.items()}
    assert len(set(values.values())) == len(values)
    # What a map shows that its request does not name (06-042, C.4.2 and C.4.3).
    asked = {**common, "REQUEST": "GetMap"}
    told = families.get("/wms/pressure-levels", **asked, ELEVATION=600).headers.get_list("warning")
    assert told == ["99 Default value used: time=2020-01-03T00:00:00Z ISO8601", "99 Nearest value used: elevation=500.0 hPa"]
    assert "warning" not in families.get("/wms/pressure-levels", **asked, TIME="2020-01-01", ELEVATION="500").headers
    capabilities = families.get("/wms/pressure-levels", REQUEST="GetCapabilities").text
    assert re.findall(r'<Dimension name="(\w+)"[^>]* nearestValue="1"', capabilities) == ["elevation"]


def test_owslib_reads_tiles_of_every_time(families: Server) -> None:
    service = WebMapTileService(f"{families.url}/wmts/from-0-to-360")
    layer = service["t"]
    assert set(layer.tilematrixsetlinks) == {"WebMercatorQuad", "WorldCRS84Quad"}
    times = layer.dimensions["Time"]
    assert times["values"] == ["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z"]
    tile = service.gettile(layer="t", tilematrixset="WebMercatorQuad", tilematrix="1", row=0, column=1, format="image/png")
    (template,) = [each["template"] for each in layer.resourceURLs]
    address = template.format(TileMatrixSet="WebMercatorQuad", TileMatrix=1, TileRow=0, TileCol=1, Time=times["default"])
    rest = httpx.get(address)
    assert rest.status_code == 200, rest.text
    assert np.array_equal(pixels(tile.read()), pixels(rest.content))
    earlier = httpx.get(
        template.format(TileMatrixSet="WebMercatorQuad", TileMatrix=1, TileRow=0, TileCol=1, Time=times["values"][0])
    )
    assert not np.array_equal(pixels(earlier.content), pixels(rest.content))
    capabilities = families.get("/wmts/from-0-to-360/1.0.0/WMTSCapabilities.xml")
    assert capabilities.content == families.get("/wmts/from-0-to-360", SERVICE="WMTS", REQUEST="GetCapabilities").content


def test_gdal_reads_both(families: Server) -> None:
    with rasterio.Env() as environment:
        known = set(environment.drivers())
    if not {"WMS", "WMTS"} <= known:
        pytest.skip("this GDAL has no WMS and WMTS drivers")
    with rasterio.open(
        f"WMS:{families.url}/wms/south-up?SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS=t&STYLES=default"
        "&CRS=EPSG:4326&FORMAT=image/png&BBOX=-25,-25,25,25"
    ) as found:
        assert found.count in (1, 3, 4)
        assert found.read(1, out_shape=(20, 20)).any()
    with rasterio.open(f"WMTS:{families.url}/wmts/south-up,layer=t") as found:
        assert found.crs.to_epsg() in (3857, 4326)


def refusal(answer: httpx.Response) -> tuple[str | None, str]:
    """Return code and text of an exception report of either service."""
    assert answer.headers["content-type"].startswith("text/xml")
    root = ET.fromstring(answer.content)
    found: Any = root[0]
    return found.get("code") or found.get("exceptionCode"), "".join(found.itertext())


GOOD = {"REQUEST": "GetMap", "LAYERS": "t", "STYLES": "", "CRS": "EPSG:4326", "BBOX": "-20,-20,20,20", "WIDTH": "8", "HEIGHT": "8"}


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"LAYERS": "snow"}, "LayerNotDefined", "one of t"),
        ({"STYLES": "rainbow"}, "StyleNotDefined", "viridis"),
        ({"CRS": "EPSG:999999"}, "InvalidCRS", "999999"),
        ({"CRS": ""}, "InvalidCRS", "CRS"),
        ({"BBOX": "1,2,3"}, None, "four numbers"),
        ({"BBOX": "20,20,-20,-20"}, None, "before"),
        ({"WIDTH": "999999"}, None, "WIDTH"),
        ({"TIME": "1850-01-01"}, "InvalidDimensionValue", "no data"),
        ({"TIME": "yesterday"}, "InvalidDimensionValue", "TIME"),
        ({"TIME": "2020-01-01,2020-01-03"}, "InvalidDimensionValue", "one value"),
        ({"FORMAT": "image/bmp"}, "InvalidFormat", "image/png"),
        ({"REQUEST": "GetMagic"}, "OperationNotSupported", "GetMap"),
        ({"BGCOLOR": "red"}, None, "RRGGBB"),
        ({"COLORSCALERANGE": "5,1"}, None, "COLORSCALERANGE"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_xml(families: Server, changes: dict[str, str], code: str | None, word: str) -> None:
    answer = families.get("/wms/south-up", **{**GOOD, **changes})
    assert answer.status_code in (400, 404)
    told, text = refusal(answer)
    assert told == code
    assert word.lower() in text.lower()


def test_a_tile_that_is_not_there_is_refused_in_xml(families: Server) -> None:
    answer = families.get(
        "/wmts/south-up", REQUEST="GetTile", LAYER="t", TILEMATRIXSET="WebMercatorQuad", TILEMATRIX=0, TILEROW=5, TILECOL=0
    )
    assert refusal(answer)[0] == "TileOutOfRange"


def test_names_of_parameters_are_read_in_any_case_and_once(families: Server) -> None:
    lower = families.get("/wms/south-up", **{name.lower(): text for name, text in GOOD.items()})
    assert np.array_equal(pixels(lower.content), pixels(families.get("/wms/south-up", **GOOD).content))
    assert families.get("/wms/south-up?LAYERS=t&layers=t").status_code == 400


def test_pinned_and_dated_maps_never_change(families: Server) -> None:
    version = families.get("/wms/south-up").headers["cubeport-version"]
    dated = families.get(f"/wms/south-up@{version}", **GOOD, TIME="2020-01-01")
    assert "immutable" in dated.headers["cache-control"]
    again = httpx.get(str(dated.request.url), headers={"If-None-Match": dated.headers["etag"]})
    assert again.status_code == 304


# --- forecasts --------------------------------------------------------------------------------------------------------


def forecasts() -> xr.Dataset:
    """Three runs of four steps, whose times overlap; each value tells its run, step and cell."""
    starts, steps = np.array([0.0, 12, 24]), np.array([0.0, 6, 12, 18])
    number = np.arange(3)[:, None, None, None] * 100 + np.arange(4)[:, None, None] * 10 + np.arange(6).reshape(2, 3)
    hours = {"units": "hours since 2020-01-01", "standard_name": "time"}
    return xr.Dataset(
        {"t": (("run", "step", "lat", "lon"), number.astype("f4"), {"units": "K", "coordinates": "valid"})},
        {
            "run": ("run", starts, hours | {"standard_name": "forecast_reference_time"}),
            "step": ("step", steps, {"units": "hours", "standard_name": "forecast_period"}),
            "valid": (("run", "step"), starts[:, None] + steps, hours),
            "lat": ("lat", [50.0, 40], {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", [0.0, 10, 20], {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def stamp(hour: float) -> str:
    return f"2020-01-0{1 + int(hour) // 24}T{int(hour) % 24:02}:00:00Z"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("runs") / "instance"
    cubeport.Catalog.create(root).close()
    file = root.parent / "runs.nc"
    forecasts().to_netcdf(file)
    with cubeport.connect(root) as service:
        done = service.ingest_here(IngestionRequest(dataset_id="runs"), FileOptions(files=(str(file),)))
        assert done.status == "completed", done.error
    process, url = start(root)
    yield Server(url, root, process)
    stop(process)


def test_the_times_of_forecasts_animate_and_the_run_is_chosen(runs: Server) -> None:
    """TIME is when a forecast holds; ``reference_time`` is its run, by default the newest that has the time (12-111r1)."""
    service, truth = WebMapService(f"{runs.url}/wms/runs", version="1.3.0"), forecasts()
    layer = service["t"]
    assert set(layer.dimensions) == {"time", "reference_time"}
    hours, starts = np.unique(truth.valid.values), truth.run.values
    assert layer.timepositions == [stamp(hour) for hour in hours]
    assert layer.dimensions["reference_time"]["values"] == [stamp(hour) for hour in starts]
    assert layer.dimensions["reference_time"]["default"] == "2020-01-02T00:00:00Z"
    assert layer.defaulttimeposition == "2020-01-02T18:00:00Z"
    asked = {
        "SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetFeatureInfo", "LAYERS": "t", "QUERY_LAYERS": "t", "STYLES": "",
        "CRS": "CRS:84", "BBOX": "-5,35,25,55", "WIDTH": "3", "HEIGHT": "2",
    }  # fmt: skip

    def values(**more: str) -> list[float]:
        cells = [runs.get("/wms/runs", **asked, **more, I=str(i), J=str(j)).json() for j in range(2) for i in range(3)]
        return [each["features"][0]["properties"]["value"] for each in cells]

    for hour in hours:
        wanted: list[float] = []
        for at in [at for at, begin in enumerate(starts) if 0 <= hour - begin <= 18]:
            wanted = truth.t.values[at, int(hour - starts[at]) // 6].ravel().tolist()
            run = stamp(starts[at])
            assert values(TIME=stamp(hour), DIM_REFERENCE_TIME=run) == values(TIME=stamp(hour), REFERENCE_TIME=run) == wanted
        assert values(TIME=stamp(hour)) == wanted, "the newest run"
        assert values(TIME=f"{stamp(hour)}/{stamp(hour)}") == wanted, "QGIS asks for frames by their intervals"
    assert values() == truth.t.values[2, 3].ravel().tolist()
    assert values(DIM_REFERENCE_TIME=stamp(0)) == truth.t.values[0, 3].ravel().tolist()
    assert values(DIM_REFERENCE_TIME=stamp(0), DIM_STEP="6") == truth.t.values[0, 1].ravel().tolist()
    wrong = runs.get("/wms/runs", **asked, I="0", J="0", TIME=stamp(0), DIM_REFERENCE_TIME=stamp(24))
    assert wrong.status_code == 404
    assert 'code="InvalidDimensionValue"' in wrong.text


def test_tiles_of_forecasts_have_both_dimensions(runs: Server) -> None:
    layer, truth = WebMapTileService(f"{runs.url}/wmts/runs")["t"], forecasts()
    assert set(layer.dimensions) == {"Time", "reference_time"}
    template, seen = layer.resourceURLs[0]["template"], set()
    place = {"TileMatrixSet": "WebMercatorQuad", "TileMatrix": 3, "TileRow": 2, "TileCol": 4}
    for run, step in ((0, 1), (1, 2), (2, 0)):
        names = {"Time": stamp(truth.valid.values[run, step]), "reference_time": stamp(truth.run.values[run])}
        address = template
        for name, value in {**names, **place}.items():
            address = address.replace(f"{{{name}}}", str(value))
        tile = httpx.get(address, trust_env=False)
        assert tile.status_code == 200, tile.text
        kvp = {"SERVICE": "WMTS", "VERSION": "1.0.0", "REQUEST": "GetTile", "LAYER": "t", "STYLE": "default"}
        same = runs.get("/wmts/runs", **kvp, **{each.upper(): str(value) for each, value in {**names, **place}.items()})
        assert tile.content == same.content
        seen.add(tile.content)
    assert len(seen) == 3, "each run and step has its own colours"


def test_a_run_is_selected_by_its_date_in_coverages(runs: Server) -> None:
    truth = forecasts().t.values
    for subset, wanted in (
        ('run("2020-01-01T12:00:00Z"),step(6)', truth[1, 1]),
        ("run(12),step(6)", truth[1, 1]),
        ("run(*),step(0)", truth[2, 0]),
        ("run(2020-01-02),step(0)", truth[2, 0]),
    ):
        found = runs.json("/ogcapi/collections/runs/coverage", subset=subset, f="json")
        assert found["ranges"]["t"]["values"] == wanted.ravel().tolist(), subset
    span = runs.json("/ogcapi/collections/runs/coverage", subset='run("2020-01-01T06":*),step(0)', f="json")
    assert [each["ranges"]["t"]["values"] for each in span["coverages"]] == truth[1:, 0].reshape(2, 6).tolist()
    assert runs.get("/ogcapi/collections/runs/coverage", subset='run("2020-01-03")').status_code == 404
    assert runs.get("/ogcapi/collections/runs/coverage", subset='run("soon")').status_code == 400


@pytest.mark.parametrize("name", ["wms", "wmts"])
def test_a_browser_at_the_bare_address_reads_what_to_do_with_it(families: Server, name: str) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    page = httpx.get(f"{families.url}/{name}/regular", headers=browser, trust_env=False)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Accept" in page.headers["vary"]
    address = re.search(r"<code>(http[^<]+)</code>", page.text)
    assert address is not None
    given = html.unescape(address[1])
    read = WebMapService(given, version="1.3.0") if name == "wms" else WebMapTileService(given)
    assert list(read.contents) == ["t"]
    # Programs get what they got: a bare address without a preference, and any parameter whatever is accepted.
    for query, headers in (("", {}), ("?SERVICE=" + name.upper(), browser), ("?REQUEST=GetCapabilities", browser)):
        answer = httpx.get(f"{families.url}/{name}/regular{query}", headers=headers, trust_env=False)
        assert answer.headers["content-type"].startswith("text/xml"), query
    nowhere = httpx.get(f"{families.url}/{name}/nix", headers=browser, trust_env=False)
    assert (nowhere.status_code, nowhere.headers["content-type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize("address", ["datasets/regulr?f=html", "wms/regulr", "zarr/regulr"])
def test_who_mistypes_an_id_can_search_for_it(families: Server, address: str) -> None:
    page = httpx.get(f"{families.url}/{address}", headers={"Accept": "text/html"}, trust_env=False)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert re.search(r'<input id="q" name="q"[^>]* value="regulr"', page.text)
    assert httpx.get(f"{families.url}/{address.partition('?')[0]}", trust_env=False).json()["dataset_id"] == "regulr"
