"""Pictures of odd data and by odd parameters (pictures.md, P1.7: 3, 4, 9 and 10)."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .conftest import VERSION

LON = {"units": "degrees_east", "standard_name": "longitude"}
LAT = {"units": "degrees_north", "standard_name": "latitude"}


def odd(values: Any, lat: Any, lon: Any) -> xr.Dataset:
    field = (("lat", "lon"), np.asarray(values, "f4"), {"units": "K"})
    return xr.Dataset({"v": field}, {"lat": ("lat", np.asarray(lat, "f8"), LAT), "lon": ("lon", np.asarray(lon, "f8"), LON)})


def some(**cells: float) -> np.ndarray:
    found = np.arange(12.0).reshape(3, 4)
    for at, value in cells.items():
        found[int(at[1]), int(at[2])] = value
    return found


ODD = {
    "missing": odd(some(c00=np.nan, c23=np.nan), [-10, 0, 10], [0, 10, 20, 30]),
    "infinite": odd(some(c00=np.inf, c23=-np.inf), [-10, 0, 10], [0, 10, 20, 30]),
    "constant": odd(np.full((3, 4), 280.5), [-10, 0, 10], [0, 10, 20, 30]),
    "zero": odd(np.zeros((3, 4)), [-10, 0, 10], [0, 10, 20, 30]),
    "nothing": odd(np.full((3, 4), np.nan), [-10, 0, 10], [0, 10, 20, 30]),
    "one-row": odd([[1, 2, 3, 4]], [5], [0, 10, 20, 30]),
    "one-column": odd([[1], [2], [3]], [-10, 0, 10], [5]),
    "one-cell": odd([[7]], [5], [5]),
    "huge": odd(some(c00=1e30, c23=-1e30), [-10, 0, 10], [0, 10, 20, 30]),
}


@pytest.fixture(scope="module")
def kept(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    folder, done = tmp_path_factory.mktemp("odd-pictures"), {}

    def put(name: str) -> str:
        if name not in done:
            ODD[name].to_netcdf(folder / f"{name}.nc")
            done[name] = shelf.keep(f"odd-{name}", folder / f"{name}.nc").dataset_id
        return done[name]

    return put


def pixels(content: bytes) -> np.ndarray:
    """Return red, green, blue and opacity of each pixel, as GDAL decodes the picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(io.BytesIO(content)) as opened:
            numbers = opened.read(1)
            colours = opened.colormap(1)
    return np.array([[colours[int(each)] for each in row] for row in numbers])


@pytest.mark.parametrize("name", ODD)
def test_odd_values_have_a_picture_a_legend_and_tiles(client: httpx.Client, kept: Callable[[str], str], name: str) -> None:
    data = ODD[name]
    base = f"/ogcapi/collections/{kept(name)}"
    answer = client.get(f"{base}/map", params={"bbox": "-5,-15,35,15", "width": 40, "height": 30})
    assert answer.status_code == 200, answer.text
    seen = pixels(answer.content)
    assert seen.shape == (30, 40, 4)
    drawn = data.v.reindex(lat=np.arange(14.5, -15, -1), lon=np.arange(-4.5, 35), method="nearest", tolerance=5).values
    if data.lat.size > 1 and data.lon.size > 1:
        assert np.array_equal(seen[..., 3] > 0, np.isfinite(drawn))
    own = kept(name)
    for address in (
        f"{base}/map/tiles/WebMercatorQuad/0/0/0",
        f"{base}/map?range=auto",
        f"{base}/map?range=view",
        f"{base}/map?scale=log&range=1,10",
        f"/datasets/{own}/legend",
        f"/datasets/{own}/legend?f=json",
    ):
        assert client.get(address).status_code == 200, address


def test_a_picture_with_a_long_side_is_refused_by_this_side(client: httpx.Client, kept: Callable[[str], str]) -> None:
    address = f"/ogcapi/collections/{kept('one-column')}/map"
    refused = client.get(address, params={"width": 400})
    assert (refused.status_code, refused.json()["limit"], refused.json()["unit"]) == (413, 4096, "pixels on a side")
    assert refused.json()["value"] > 4096
    assert "Leave out width and height, or set both of them" in refused.text
    assert client.get(address).status_code == 200
    assert pixels(client.get(address, params={"width": 40, "height": 400}).content).shape == (400, 40, 4)


def test_the_legend_of_a_field_without_values_says_so(client: httpx.Client, kept: Callable[[str], str]) -> None:
    empty, full = (f"/datasets/{kept(name)}/legend" for name in ("nothing", "zero"))
    document = client.get(empty, params={"f": "json"}).json()
    assert (document["range"], document["stops"]) == (None, [])
    assert "no values" in (svg := client.get(empty, params={"f": "svg"}).text)
    assert "linearGradient" not in svg
    picture = client.get(empty, params={"f": "png"}).content
    assert len(np.unique(pixels(picture).reshape(-1, 4), axis=0)) == 2, "ground and ink alone, no bar"
    assert client.get(empty, params={"f": "json", "range": "0,5"}).json()["range"] == [0, 5]
    assert client.get(full, params={"f": "json"}).json()["range"] == [-0.5, 0.5]


def test_the_range_of_a_level_is_that_of_all_its_times(client: httpx.Client, shelf: Any, tmp_path: Path) -> None:
    """Values at one level differ little. Steps in time do not change the colours, and the legend has their range."""
    values = np.array([5000.0, 100.0])[:, None, None] + np.arange(12.0).reshape(3, 4)  # by level
    values = values + np.arange(4.0)[:, None, None, None] * 10  # and by time
    height = xr.Dataset(
        {"g": (("time", "plev", "lat", "lon"), values, {"units": "m"}), "s": (("lat", "lon"), values[0, 0], {"units": "m"})},
        {"plev": ("plev", [500.0, 1000.0], {"units": "hPa", "positive": "down", "axis": "Z"})}
        | {"lat": ("lat", [-10.0, 0, 10], LAT), "lon": ("lon", [0.0, 10, 20, 30], LON)}
        | {"time": ("time", range(4), {"units": "days since 2020-01-01", "standard_name": "time"})},
    )
    height.to_netcdf(tmp_path / "height.nc")
    own = shelf.keep("odd-height", tmp_path / "height.nc").dataset_id

    def legend(query: str) -> list[float]:
        answer = client.get(f"/datasets/{own}/legend?f=json&{query}")
        assert answer.status_code == 200, answer.text
        found: list[float] = answer.json()["range"]
        return found

    assert legend("properties=g")[1] - legend("properties=g")[0] > 4000
    first, second = (legend(f"properties=g&range=level&subset=plev({level})") for level in (500, 1000))
    assert legend("properties=g&range=level") == first
    for found, least in ((first, 5000), (second, 100)):
        assert least <= found[0] <= least + 2
        assert least + 39 <= found[1] <= least + 45
    assert legend("properties=s&range=level") == legend("properties=s")
    for day in range(1, 5):
        base = f"/ogcapi/collections/{own}/map?width=40&properties=g&subset=plev(1000)&datetime=2020-01-0{day}"
        ours = client.get(f"{base}&range=level")
        assert ours.content == client.get(f"{base}&range={second[0]},{second[1]}").content
        assert ours.content != client.get(base).content
        asked = "REQUEST=GetMap&LAYERS=g&STYLES=&CRS=CRS:84&BBOX=-5,-15,35,15&WIDTH=40&HEIGHT=30&ELEVATION=1000"
        wms = f"/wms/{own}?{asked}&TIME=2020-01-0{day}&COLORSCALERANGE="
        assert (
            client.get(f"{wms}level").content
            == client.get(f"{wms}{second[0]},{second[1]}").content
            != client.get(wms[:-17]).content
        )
    legends = f"/wms/{own}?REQUEST=GetLegendGraphic&LAYER=g&FORMAT=image/svg%2Bxml"
    for level, found in ((500, first), (1000, second)):
        graphic = client.get(f"{legends}&COLORSCALERANGE=level&ELEVATION={level}")
        assert graphic.content == client.get(f"{legends}&COLORSCALERANGE={found[0]},{found[1]}").content
    # The first level at the last time.
    low, high = first
    drawn = client.get(f"/ogcapi/collections/{own}/map?width=512&bbox=-5,-15,35,15&properties=g&range={low},{high}")
    assert client.get(f"/datasets/{own}/thumbnail.png").content == drawn.content


def test_tiles_of_members_and_levels(client: httpx.Client, shelf: Any, tmp_path: Path) -> None:
    """The template of WMTS has a subset for each: tiles took only one. Its tile is that of key and value."""
    axes = {"plev": ("plev", [500.0, 1000.0], {"units": "hPa", "positive": "down", "axis": "Z"})}
    axes |= {"member": ("member", [1, 2], {"standard_name": "realization"})}
    axes |= {"lat": ("lat", [-10.0, 0], LAT), "lon": ("lon", [0.0, 10], LON)}
    values = np.arange(16.0).reshape(2, 2, 2, 2)
    xr.Dataset({"g": (("member", "plev", "lat", "lon"), values, {"units": "m"})}, axes).to_netcdf(tmp_path / "both.nc")
    own = shelf.keep("odd-both", tmp_path / "both.nc").dataset_id
    capabilities = client.get(f"/wmts/{own}?REQUEST=GetCapabilities").text
    [template] = re.findall(r'template="[^"]*?(/ogcapi[^"]*)"', capabilities)
    place = {"TileMatrixSet": "WebMercatorQuad", "TileMatrix": "0", "TileRow": "0", "TileCol": "0"}
    asked = {"REQUEST": "GetTile", "LAYER": "g", "FORMAT": "image/png", **place}
    found = set()
    for member in ("1", "2"):
        for level in ("500.0", "1000.0"):
            holes = {**place, "member": member, "Elevation": level}
            address = re.sub(r"{(\w+)}", lambda each, holes=holes: holes[each[1]], html.unescape(template))
            tile = client.get(address)
            assert tile.status_code == 200, tile.text
            assert tile.content == client.get(f"/wmts/{own}", params={**asked, "member": member, "Elevation": level}).content
            found.add(tile.content)
            described = address.replace("/0/0/0?", "?f=tilejson&")
            assert client.get(described).json()["tiles"][0].count("subset=") == 2
    assert len(found) == 4
    refused = client.get(f"/wmts/{own}", params={**asked, "FORMAT": "image/jpeg"})
    assert (refused.status_code, "InvalidParameterValue" in refused.text) == (400, True)


@pytest.mark.parametrize("damage", ["cut", "lost"])
def test_a_damaged_step_hides_no_other(client: httpx.Client, shelf: Any, tmp_path: Path, damage: str) -> None:
    """The range of a level is that of the steps that can be read; the map of the damaged one is an error."""
    values = np.arange(24.0).reshape(3, 2, 2, 2) * [[[[1]]], [[[1]]], [[[100]]]]
    axes = {"plev": ("plev", [500.0, 1000.0], {"units": "hPa", "positive": "down", "axis": "Z"})}
    axes |= {"lat": ("lat", [-10.0, 0], LAT), "lon": ("lon", [0.0, 10], LON)}
    axes |= {"time": ("time", range(3), {"units": "days since 2020-01-01", "standard_name": "time"})}
    xr.Dataset({"g": (("time", "plev", "lat", "lon"), values, {"units": "m"})}, axes).to_netcdf(tmp_path / "steps.nc")
    own = shelf.keep(f"odd-{damage}", tmp_path / "steps.nc", chunks={"time": 1})
    chunk = shelf.engine.path(own.dataset_id, VERSION) / "g" / "c" / "2" / "0" / "0" / "0"
    if damage == "lost":
        chunk.unlink()
    else:
        chunk.write_bytes(chunk.read_bytes()[:7])
    legend = client.get(f"/datasets/{own.dataset_id}/legend?f=json&range=level")
    assert legend.json()["range"] == [0, 11]
    base = f"/ogcapi/collections/{own.dataset_id}/map?width=10&range="
    for day in (1, 2):
        ours, wanted = (client.get(f"{base}{one}&datetime=2020-01-0{day}") for one in ("level", "0,11"))
        assert (ours.status_code, ours.content) == (200, wanted.content)
    broken = client.get(f"{base}level&datetime=2020-01-03")
    assert (broken.status_code, broken.json()["kind"]) == (500, "corrupt")


@pytest.mark.parametrize("box", ["-360,-90,360,90", "-180,-90,540,90", "-5,-90,715,90"])
def test_a_box_of_two_turns_shows_the_data_twice(client: httpx.Client, kept: Callable[[str], str], box: str) -> None:
    """The colour of each pixel is that of its place, in whatever turn it is."""
    west, _, east, _ = (float(each) for each in box.split(","))
    answer = client.get(f"/ogcapi/collections/{kept('missing')}/map", params={"bbox": box, "width": 720, "height": 180})
    if answer.status_code == 400:
        assert "bbox" in answer.text
        return
    assert answer.status_code == 200, answer.text
    seen = pixels(answer.content)
    assert seen.shape == (180, 720, 4)
    assert east - west == 720
    assert np.array_equal(seen[:, :360], seen[:, 360:])
    assert (seen[..., 3] > 0).sum() == 2 * (40 * 30 - 2 * 100)


NONSENSE = st.sampled_from(
    ["", "x", "0", "-1", "nan", "inf", "1e400", "٣", "a,b", "1,1", "9,1", "*", "../..", "<b>", "%00", "NaN,1"]
)


def one_of(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values) | NONSENSE


MAP = {
    "bbox": one_of("-5,-15,35,15", "0,0,1,1", "170,-10,-170,10", "-180,-90,180,90", "0,0,0,0", "1,2,3"),
    "bbox-crs": one_of("CRS84", "EPSG:4326", "[EPSG:3857]"),
    "crs": one_of("CRS84", "EPSG:4326", "EPSG:3857", "EPSG:3995", "EPSG:3413", "EPSG:32633", "EPSG:999999"),
    "width": one_of("1", "7", "64", "5000"),
    "height": one_of("1", "9", "64", "5000"),
    "properties": one_of("v", "v,v", "lat"),
    "datetime": one_of("2020-01-01", "../.."),
    "subset": one_of("lat(0)", "lat(-10:10)", "time(*)"),
    "transparent": one_of("true", "false"),
    "bgcolor": one_of("0xff00ff", "#112233", "white"),
    "range": one_of("0,10", "auto", "view", "level", "5,5"),
    "steps": one_of("2", "16", "254", "255"),
    "beyond": one_of("clamp", "hide"),
    "scale": one_of("linear", "log"),
    "palette": one_of("viridis", "batlow", "jet"),
    "f": one_of("png", "html", "json", "jpeg"),
    "estimate": one_of("true", "false"),
    "nix": NONSENSE,
}
WMS = {
    "SERVICE": one_of("WMS"),
    "VERSION": one_of("1.3.0", "1.1.1"),
    "REQUEST": one_of("GetMap", "GetFeatureInfo", "GetCapabilities", "GetLegendGraphic"),
    "LAYERS": one_of("v", "v,v"),
    "LAYER": one_of("v"),
    "QUERY_LAYERS": one_of("v"),
    "STYLES": one_of("", "raster/viridis", "raster/nix"),
    "CRS": one_of("CRS:84", "EPSG:4326", "EPSG:3857"),
    "BBOX": one_of("-5,-15,35,15", "-180,-90,180,90"),
    "WIDTH": one_of("16", "4097"),
    "HEIGHT": one_of("16", "4097"),
    "I": one_of("3", "99"),
    "J": one_of("3", "99"),
    "FORMAT": one_of("image/png", "image/jpeg"),
    "INFO_FORMAT": one_of("application/json", "text/plain"),
    "TRANSPARENT": one_of("TRUE", "FALSE"),
    "BGCOLOR": one_of("0xFFFFFF"),
    "EXCEPTIONS": one_of("XML", "INIMAGE", "BLANK"),
    "TIME": one_of("2020-01-01", "current"),
    "ELEVATION": one_of("10"),
    "DIM_RUN": one_of("1"),
    "COLORSCALERANGE": one_of("0,10", "auto"),
    "NUMCOLORBANDS": one_of("10", "300"),
    "ABOVEMAXCOLOR": one_of("extend", "transparent"),
    "BELOWMINCOLOR": one_of("extend", "transparent"),
    "LOGSCALE": one_of("true", "false"),
}
QUIET: dict[str, Any] = {
    "deadline": None,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@settings(max_examples=6, **QUIET)
@given(asked=st.fixed_dictionaries({}, optional=MAP))
def test_every_parameter_of_a_map_is_drawn_or_refused(
    client: httpx.Client, kept: Callable[[str], str], asked: dict[str, str]
) -> None:
    answer = client.get(f"/ogcapi/collections/{kept('missing')}/map", params=asked)
    assert answer.status_code in (200, 400, 404, 406, 413), (asked, answer.text)
    if answer.status_code != 200:
        assert asked.get("f") == "html" or answer.json()["kind"], asked
    elif answer.headers["content-type"] == "image/png":
        height, width, _ = pixels(answer.content).shape
        assert width == int(asked.get("width", width))
        assert height == int(asked.get("height", height))


@settings(max_examples=20, **QUIET)
@given(asked=st.fixed_dictionaries({}, optional=WMS))
def test_every_parameter_of_a_wms_is_drawn_or_refused(
    client: httpx.Client, kept: Callable[[str], str], asked: dict[str, str]
) -> None:
    asked = {"SERVICE": "WMS", "REQUEST": "GetMap", "VERSION": "1.3.0"} | asked
    answer = client.get(f"/wms/{kept('missing')}", params=asked)
    assert answer.status_code in (200, 400, 404, 406, 413), (asked, answer.text)
    if answer.status_code != 200:
        assert "ServiceException" in answer.text, (asked, answer.text)
