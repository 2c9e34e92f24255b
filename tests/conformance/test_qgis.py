"""QGIS itself, without a window: the layers that its browser finds, its pictures at several times, and the values that it reads."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import xarray as xr
from tests.families import FAMILIES

from cubeport.cubes.pictures.looks import Look

from .conftest import Site

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

PYTHON = "/usr/bin/python3"
"""That of Debian's python3-qgis, which no environment of ours has."""

BEGIN = """
import json, os, sys
from qgis.core import *
from qgis.PyQt.QtCore import QDateTime, QSize, Qt
from qgis.PyQt.QtGui import QColor
app = QgsApplication([], False)
app.initQgis()
url, asked = sys.argv[1], json.loads(sys.argv[2])

def tell(found):
    print(json.dumps(found), flush=True)
    os._exit(0)  # QGIS may crash while Python takes it down
"""

ANIMATED = (
    BEGIN
    + """
def layers(item, kept=[]):
    "Return the addresses of layers as the browser of QGIS makes them from capabilities."
    kept.append(item)
    if isinstance(item, QgsLayerItem):
        return [item.uri()]
    item.populate(True)
    return [uri for child in item.children() for uri in layers(child)]

def picture(layer, box, crs, day, size):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
    settings.setExtent(QgsRectangle(*box))
    settings.setOutputSize(QSize(*size))
    settings.setBackgroundColor(QColor(0, 0, 0, 0))
    settings.setIsTemporal(True)
    frame = [QDateTime.fromString(day + hour, Qt.ISODate) for hour in ("T00:00:00Z", "T23:59:59Z")]
    settings.setTemporalRange(QgsDateTimeRange(*frame))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    assert not job.errors(), [each.message for each in job.errors()]
    image = job.renderedImage()
    return [[list(image.pixelColor(x, y).getRgb()) for x in range(image.width())] for y in range(image.height())]

settings = QgsSettings()
provider = QgsApplication.dataItemProviderRegistry().provider("WMS")
found = []
for name, kind, box, crs, size in asked:
    query = "" if kind == "wms" else "?SERVICE=WMTS&REQUEST=GetCapabilities"
    settings.setValue(f"qgis/connections-wms/{name}-{kind}/url", f"{url}/{kind}/{name}{query}")
    for uri in layers(provider.createDataItem(f"wms:/{name}-{kind}", None)):
        if kind == "wmts" and ("styles=default" not in uri or crs not in uri):
            continue
        layer = QgsRasterLayer(uri, name, "wms")
        assert layer.isValid(), (uri, layer.error().message())
        span = layer.dataProvider().temporalCapabilities().availableTemporalRange()
        drawn = {day: picture(layer, box, crs, day, size) for day in ("2020-01-01", "2020-01-02", "2020-01-03")}
        ends = [each.toString(Qt.ISODate) for each in (span.begin(), span.end())]
        found.append({"name": name, "uri": uri, "animated": layer.temporalProperties().isActive(), "span": ends, "drawn": drawn})
tell({"version": Qgis.QGIS_VERSION, "found": found})
"""
)

VALUES = (
    BEGIN
    + """
found = []
for uri, points in asked:
    layer = QgsRasterLayer(uri, "x", "gdal")
    assert layer.isValid(), (uri, layer.error().message())
    values = [layer.dataProvider().identify(QgsPointXY(*at), QgsRaster.IdentifyFormatValue).results() for at in points]
    found.append({"crs": layer.crs().authid(), "values": [list(each.values()) for each in values]})
tell(found)
"""
)


def qgis(script: str, *arguments: str, folder: Path) -> Any:
    """Return what a script of QGIS prints last. The test is skipped if QGIS is not there."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    own |= {"QT_QPA_PLATFORM": "offscreen", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    there = subprocess.run([PYTHON, "-c", "import qgis.core"], env=own, capture_output=True, check=False, cwd=folder)
    if there.returncode != 0:
        pytest.skip("no QGIS on this machine: apt-get install --no-install-recommends qgis python3-qgis")
    done = subprocess.run(
        [PYTHON, "-c", script, *arguments], env=own, capture_output=True, text=True, timeout=240, check=False, cwd=folder
    )
    lines = done.stdout.strip().splitlines()
    assert lines, (done.returncode, done.stderr[-2000:])
    return json.loads(lines[-1])


def drawn_by_us(site: Site, path: str, **query: str) -> np.ndarray:
    answer = httpx.get(site.url + path, params=query, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    with rasterio.open(io.BytesIO(answer.content)) as opened:
        (band,), table = opened.read(), opened.colormap(1)
    return np.array([table.get(n, (0, 0, 0, 0)) for n in range(256)])[band]


WORLD, MERCATOR = (-180.0, -90.0, 180.0, 90.0), 20037508.342789244


WHOLE = ("regular", "from-0-to-360")
PARTS = ("over-the-dateline", "packed", "projected", "rotated-pole", "curvilinear", "unstructured")


def test_wms_is_animated(site: Site, tmp_path: Path) -> None:
    asked = [(name, "wms", WORLD, "EPSG:4326", (72, 36)) for name in (*WHOLE, *PARTS)]
    told = qgis(ANIMATED, site.url, json.dumps(asked), folder=tmp_path)
    print("QGIS", told["version"])
    assert [each["name"] for each in told["found"]] == [*WHOLE, *PARTS], "one layer each, of one field"
    for each in told["found"]:
        assert each["animated"]
        assert each["span"] == ["2020-01-01T00:00:00Z", "2020-01-03T00:00:00Z"]
        frames = []
        for day, pixels in each["drawn"].items():
            own = drawn_by_us(
                site, f"/wms/{each['name']}", SERVICE="WMS", VERSION="1.3.0", REQUEST="GetMap", LAYERS="t", STYLES="", CRS="CRS:84",
                BBOX="-180,-90,180,90", WIDTH="1440", HEIGHT="720", FORMAT="image/png", TRANSPARENT="TRUE", TIME=day,
            )  # fmt: skip
            seen = np.array(pixels)
            if each["name"] in WHOLE:
                assert np.array_equal(seen, own[10::20, 10::20])
            else:  # QGIS asks for the box of the layer, and fits that picture into its own pixels
                opaque = seen[..., 3] == 255
                assert opaque.any()
                assert {*map(tuple, seen[opaque].tolist())} <= {*map(tuple, own[own[..., 3] == 255].tolist())}
            frames.append(seen)
        assert not np.array_equal(frames[0], frames[1])
        assert not np.array_equal(frames[1], frames[2])


def test_the_colours_are_those_of_the_values(site: Site, tmp_path: Path) -> None:
    """Each cell of 45 by 30 degrees is 9 by 6 pixels."""
    (told,) = qgis(ANIMATED, site.url, json.dumps([("regular", "wms", WORLD, "EPSG:4326", (72, 36))]), folder=tmp_path)["found"]
    legend = httpx.get(f"{site.url}/datasets/regular/legend", params={"f": "json"}, trust_env=False).json()
    look = Look(legend["palette"], *legend["range"])
    values = FAMILIES["regular"].make().t.sortby("lat", ascending=False).values
    for value, pixels in zip(values, told["drawn"].values(), strict=True):
        assert np.array_equal(np.array(pixels)[3::6, 4::9, :3], look.colours()[look.classes(value)])


def test_wmts_has_a_layer_for_each_time(site: Site, tmp_path: Path) -> None:
    square = (-MERCATOR, -MERCATOR, MERCATOR, MERCATOR)
    told = qgis(ANIMATED, site.url, json.dumps([("regular", "wmts", square, "EPSG:3857", (256, 256))]), folder=tmp_path)["found"]
    days = [each["uri"].partition("Time%3D")[2][:10] for each in told]
    assert sorted(days) == ["2020-01-01", "2020-01-02", "2020-01-03"]
    for day, each in zip(days, told, strict=True):
        own = drawn_by_us(site, "/ogcapi/collections/regular/map/tiles/WebMercatorQuad/0/0/0", datetime=day)
        for pixels in each["drawn"].values():  # QGIS 3.22 does not animate tiles
            assert np.array_equal(np.array(pixels), own)


def test_values_are_those_of_the_source(site: Site, tmp_path: Path) -> None:
    points = [(-157.5, 75.0), (22.5, -15.0), (157.5, -75.0)]
    tiff = f"/vsicurl/{site.url}/ogcapi/collections/regular/coverage?f=geotiff&datetime=2020-01-02"
    zarr = f'ZARR:"/vsicurl/{site.url}/zarr-v2/regular":/t:1'
    dap = f'NETCDF:"{site.url}/dap/regular":t'
    told = qgis(VALUES, site.url, json.dumps([(each, points) for each in (tiff, zarr, dap)]), folder=tmp_path)
    with xr.open_dataset(site.files / "regular.nc") as source:
        series = [source.t.sel(lon=lon, lat=lat).values.tolist() for lon, lat in points]
    assert [each["values"] for each in told] == [[[each[1]] for each in series]] * 2 + [series]
    assert [each["crs"] for each in told] == ["EPSG:4326", "OGC:CRS84", ""]
