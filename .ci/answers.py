"""Write docs/reference/answers: one page for each door, with a real request and its answer for each feature.

    python .ci/answers.py          writes the pages
    python .ci/answers.py --check  says which pages differ from what the doors answer now

A server is started with a small dataset, each request is sent to it, and the part of the answer that matters is shown. Ids of
versions, digests and the time of making are replaced by words, because they differ each time.
"""

# ruff: noqa: E501  # a table of addresses, one feature a line
from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import xarray as xr

import cubeport
from cubeport.service.ingestions import FileOptions, IngestionRequest

PAGES = Path(__file__).resolve().parents[1] / "docs" / "reference" / "answers"
SHOWN_URL = "http://127.0.0.1:8000"
_LONGEST = 1_600

type Part = Callable[[Any], Any]


def of(*names: str) -> Part:
    """Return what takes some members of an object; ``a.b`` is a member of a member, and numbers are places in lists."""

    def take(document: Any) -> Any:
        found = {}
        for name in names:
            value = document
            for each in name.split("."):
                value = value[int(each)] if isinstance(value, list) else value[each]
            found[name] = value
        return next(iter(found.values())) if len(names) == 1 else found

    return take


def each_of(list_name: str, *names: str) -> Part:
    """Return what takes some members of each object of a list."""
    return lambda document: [of(*names)(each) for each in of(list_name)(document)]


def headers(*names: str) -> Part:
    """Return what takes headers of an answer."""
    return lambda answer: "\n".join(
        f"{name}: {answer.headers[name]}" for name in ("content-type", *names) if name in answer.headers
    )


@dataclass(frozen=True)
class Feature:
    """A feature of a door: what it is for, a request, and the part of the answer to show."""

    title: str
    words: str
    path: str
    part: Part | None = None
    """Of a JSON document; ``None`` shows the text."""
    of_headers: bool = False
    body: Any = None
    sent: tuple[tuple[str, str], ...] = ()
    """Headers of the request."""
    lines: int = 40


F = Feature
POINT = "POINT(5 55)"


def q(text: str) -> str:
    """Return a text as it is written in an address."""
    return quote(text, safe="(),:=/*@'\"<>+- ").replace(" ", "%20").replace('"', "%22")


WMS = "/wms/temp?SERVICE=WMS&VERSION=1.3.0"
VIEW = "&LAYERS=temp&CRS=CRS:84&BBOX=-2.5,47.5,17.5,62.5&WIDTH=4&HEIGHT=3&STYLES="

DOORS: dict[str, tuple[str, str, tuple[Feature, ...]]] = {
    "stac": (
        "STAC",
        "Every published dataset is a STAC Collection, and each of its versions an Item. See [Search with STAC](../../how-to/search.md).",
        (
            F("Landing page", "The catalog, with links to everything.", "/stac", of("type", "stac_version", "id", "title")),
            F("Conformance", "The conformance classes; each of them has a test.", "/stac/conformance", lambda d: d["conformsTo"][:6]),
            F("Collection", "A dataset, with its place, time and variables.", "/stac/collections/temp", of("id", "extent", "cube:dimensions.depth", "cube:variables.temp.dimensions")),
            F("Assets", "The addresses of the data.", "/stac/collections/temp", lambda d: {k: {"href": v["href"], "type": v["type"]} for k, v in d["assets"].items()}),
            F("Links to maps", "Links of the extension `web-map-links`, for STAC Browser and others.", "/stac/collections/temp", lambda d: [{k: each[k] for k in ("rel", "type", "href")} for each in d["links"] if each["rel"] in ("wms", "wmts", "tilejson")]),
            F("Renders", "How to draw a variable: its palette and range.", "/stac/collections/temp", of("renders")),
            F("Collection search", "Search by words, box and time.", "/stac/collections?q=temperature&bbox=0,50,10,60&datetime=2024-01-02T00:00:00Z", each_of("collections", "id", "title")),
            F("Items", "The versions of a dataset.", "/stac/collections/temp/items", of("features.0.id", "features.0.bbox", "features.0.properties.start_datetime", "numberReturned")),
            F("Search", "Search items by box, time and collection.", "/stac/search?collections=temp&bbox=0,50,10,60&datetime=2024-01-01T00:00:00Z/..&limit=5", each_of("features", "id", "collection")),
            F("Search by POST", "The same with a JSON body, here with a geometry.", "/stac/search", each_of("features", "id"), body={"collections": ["temp"], "intersects": {"type": "Point", "coordinates": [5, 55]}}),
            F("Filter (CQL2 text)", "A filter compares queryables.", "/stac/search?filter=" + q("collection = 'temp' AND deprecated = FALSE"), each_of("features", "id")),
            F("Filter (CQL2 JSON)", "The same filter as JSON.", "/stac/search", each_of("features", "id"), body={"filter-lang": "cql2-json", "filter": {"op": "a_contains", "args": [{"property": "variables"}, ["temp"]]}}),
            F("Queryables", "The names that a filter can use.", "/stac/queryables", lambda d: sorted(d["properties"])),
            F("Sort and fields", "Newest first, and only some members.", "/stac/search?sortby=-created&fields=id,properties.version", each_of("features", "id", "properties.version")),
        ),
    ),
    "zarr": (
        "Zarr",
        "The stored chunks, over HTTP. `/geozarr` adds the GeoZarr attributes, and `/zarr-v2` writes the metadata for readers of Zarr version 2, such as GDAL before 3.11.",
        (
            F("Listing", "The content of a store, for people. Zarr clients request `zarr.json` instead.", "/zarr/temp", of("kind", "dataset_id", "entries")),
            F("Metadata", "The metadata are consolidated, so a client needs only one request.", "/zarr/temp/zarr.json", lambda d: {"zarr_format": d["zarr_format"], "consolidated": sorted(d["consolidated_metadata"]["metadata"])}),
            F("Chunk", "As it is stored.", "/zarr/temp/temp/c/0/0/0/0", headers("content-length", "accept-ranges", "cache-control"), of_headers=True),
            F("Range", "A part of a chunk, as readers of shards request it.", "/zarr/temp/temp/c/0/0/0/0", headers("content-range", "content-length"), of_headers=True, sent=(("Range", "bytes=0-9"),)),
            F("One version", "A version never changes, so caches can keep it.", "/zarr/temp@VERSION/temp/c/0/0/0/0", headers("cache-control", "cubeport-version"), of_headers=True),
            F("Absent chunk", "404 means that the store does not have this key.", "/zarr/temp/temp/c/9/0/0/0", lambda d: {k: d[k] for k in ("kind", "status")}),
            F("Manifest", "Every key with its digest. You can check a mirror with it.", "/zarr/temp@VERSION?f=manifest", lambda d: {"algorithm": d["algorithm"], "keys": [each["key"] for each in d["entries"]][:4]}),
            F("GeoZarr view", "Conventions `proj` and `spatial` in the attributes; the chunks are the same.", "/geozarr/temp/zarr.json", lambda d: {k: v for k, v in d["attributes"].items() if k.startswith(("proj", "spatial"))}),
            F("Zarr version 2 view", "`.zmetadata` made from the same description.", "/zarr-v2/temp/.zmetadata", lambda d: {"keys": sorted(d["metadata"])[:6], "temp/.zarray": {k: d["metadata"]["temp/.zarray"][k] for k in ("shape", "chunks", "dtype", "fill_value")}}),
        ),
    ),
    "coverages": (
        "OGC API Coverages",
        "The cells of a grid, selected along its axes. All values are those of the data.",
        (
            F("Landing page", "Links to the collections and the definition.", "/ogcapi", each_of("links", "rel", "href")),
            F("Collection", "The extent and the reference systems.", "/ogcapi/collections/temp", of("id", "extent.spatial.bbox", "extent.temporal.interval", "crs", "storageCrs")),
            F("Schema", "The fields.", "/ogcapi/collections/temp/schema", of("properties.temp")),
            F("Slice", "One time and one level, as CoverageJSON.", "/ogcapi/collections/temp/coverage?datetime=2024-01-02&subset=depth(10)", lambda d: {"axes": {k: v["values"] for k, v in d["domain"]["axes"].items()}, "values": d["ranges"]["temp"]["values"]}),
            F("Trim", "`bbox` selects the cells that it overlaps.", "/ogcapi/collections/temp/coverage?bbox=4,54,6,61&datetime=2024-01-01&subset=depth(0)", lambda d: {"axes": {k: d["domain"]["axes"][k]["values"] for k in "xy"}, "values": d["ranges"]["temp"]["values"]}),
            F("Subset of axes", "`subset` uses the names in the store: `lat(low:high)`, `lon(value)`, and `time(*)` for the newest step.", "/ogcapi/collections/temp/coverage?subset=" + q("lat(54:61),lon(5),depth(0),time(*)") + "&f=csv"),
            F("Scaling", "Fewer cells; each has the value of the nearest cell of the data.", "/ogcapi/collections/temp/coverage?datetime=2024-01-01&subset=depth(0)&scale-size=" + q("lon(2),lat(1)"), of("ranges.temp.values")),
            F("Reference system", "The answer in another reference system; each cell has the value of the nearest cell of the data.", "/ogcapi/collections/temp/coverage?datetime=2024-01-01&subset=depth(0)&crs=EPSG:4326&bbox=0,50,5,55", of("domain.referencing.0.system.id", "ranges.temp.values")),
            F("Table", "A row for each cell.", "/ogcapi/collections/temp/coverage?f=csv&datetime=2024-01-03&subset=depth(0)&bbox=0,50,5,50"),
            F("NetCDF", "A NetCDF-4 file with attributes and bounds.", "/ogcapi/collections/temp/coverage?f=netcdf&datetime=2024-01-01", headers("content-datetime", "content-bbox", "cubeport-version"), of_headers=True),
            F("GeoTIFF", "One time and one level.", "/ogcapi/collections/temp/coverage?f=geotiff&datetime=2024-01-01&subset=depth(0)", headers("content-crs"), of_headers=True),
            F("Zarr", "A store in a zip file.", "/ogcapi/collections/temp/coverage?f=zarr&datetime=2024-01-01", headers(), of_headers=True),
            F("Cost", "The cost of an answer. No data are read.", "/ogcapi/collections/temp/coverage?estimate=true", of("cells", "chunks", "allowed", "format")),
            F("Errors", "One answer lists all problems.", "/ogcapi/collections/temp/coverage?bbox=1,2,3&f=xls", lambda d: {"status": d["status"], "errors": [each["message"] for each in d["errors"]]}),
        ),
    ),
    "edr": (
        "OGC API EDR",
        "Values at points, along lines and in areas. See [Get values at points, lines and areas](../../how-to/edr.md).",
        (
            F("Position", "The cell that contains a point.", f"/ogcapi/collections/temp/position?coords={q(POINT)}&z=0", of("ranges.temp.values", "domain.axes.t.values")),
            F("Several points", "A MULTIPOINT.", "/ogcapi/collections/temp/position?coords=" + q("MULTIPOINT((0 50),(15 60))") + "&z=0&datetime=2024-01-01", of("domain.axes.composite.values", "ranges.temp.values")),
            F("Radius", "Cells whose centre is within a distance.", f"/ogcapi/collections/temp/radius?coords={q(POINT)}&within=600&within-units=km&z=0&datetime=2024-01-01", of("ranges.temp.values")),
            F("Area", "Cells whose centre is in a polygon.", "/ogcapi/collections/temp/area?coords=" + q("POLYGON((-1 49,6 49,-1 56,-1 49))") + "&z=0&datetime=2024-01-01", of("ranges.temp.values")),
            F("Cube", "Cells that overlap a box, here at two levels.", "/ogcapi/collections/temp/cube?bbox=4,54,6,56&z=0/10&datetime=2024-01-01", of("domain.axes.z.values", "ranges.temp.values")),
            F("Trajectory", "Cells that a line passes through.", "/ogcapi/collections/temp/trajectory?coords=" + q("LINESTRING(0 50,10 55)") + "&z=0&datetime=2024-01-01", of("domain.axes.composite.values", "ranges.temp.values")),
            F("Trajectory with times", "A line with times, in seconds since 1970: each cell at the step in which the line is there.", "/ogcapi/collections/temp/trajectory?coords=" + q("LINESTRING M(0 50 1704067200,10 55 1704240000)") + "&z=0", of("domain.domainType", "domain.axes.composite.values", "ranges.temp.values")),
            F("Trajectory with heights and times", "The same with heights, on the way down.", "/ogcapi/collections/temp/trajectory?coords=" + q("LINESTRING ZM(0 50 0 1704067200,10 55 10 1704240000)"), of("domain.axes.composite.values", "ranges.temp.values")),
            F("Corridor", "The cells within a distance of a line.", "/ogcapi/collections/temp/corridor?coords=" + q("LINESTRING(0 50,15 50)") + "&corridor-width=100&width-units=km&corridor-height=5&height-units=m&z=0&datetime=2024-01-01", of("ranges.temp.values")),
            F("Locations", "Named areas that overlap the data.", "/ogcapi/collections/temp/locations", lambda d: [{"id": each["id"], "name": each["properties"].get("name")} for each in d["features"]]),
            F("One location", "The values of one location.", "/ogcapi/collections/temp/locations/middle?z=0&datetime=2024-01-01&f=csv"),
            F("Cube with fewer cells", "A given number of cells along an axis; each is a cell of the data.", "/ogcapi/collections/temp/cube?bbox=0,50,15,60&z=0&datetime=2024-01-01&resolution-x=2", of("domain.axes.x.values", "ranges.temp.values")),
            F("Departure from normal", "The value minus the mean of the same month over some years.", f"/ogcapi/collections/temp/position?coords={q(POINT)}&z=0&relative-to=2024/2024&f=csv"),
            F("Cost", "The cost of an answer. No data are read.", "/ogcapi/collections/temp/cube?bbox=4,54,6,56&estimate=true", of("cells", "chunks", "allowed", "format")),
            F("Instances", "The versions of the dataset.", "/ogcapi/collections/temp/instances", each_of("instances", "id")),
            F("CSV", "A series as a table.", f"/ogcapi/collections/temp/position?coords={q(POINT)}&z=0&f=csv"),
        ),
    ),
    "features": (
        "OGC API Features",
        "The places of a dataset, as GeoJSON for a GIS: its stations, and the named areas and zones that overlap it. See [Get values at points, lines and areas](../../how-to/edr.md#stations-and-areas-in-a-gis).",
        (
            F("Conformance", "The classes of Features.", "/ogcapi/conformance", lambda d: [each for each in d["conformsTo"] if "ogcapi-features" in each]),
            F("Items", "Items come in pages.", "/ogcapi/collections/temp/items?limit=1", of("numberMatched", "numberReturned", "features.0.id", "features.0.properties")),
            F("In a box", "Items that overlap a box.", "/ogcapi/collections/temp/items?bbox=12,50,15,52", of("numberMatched")),
            F("At a time", "Items with data at a time.", "/ogcapi/collections/temp/items?datetime=2024-01-02T00:00:00Z", of("numberMatched")),
            F("One item", "An item, with the address of its values.", "/ogcapi/collections/temp/items/middle", of("id", "geometry", "properties.edrqueryendpoint")),
            F("Errors", "The error names the parameter.", "/ogcapi/collections/temp/items?bbox=1,2", lambda d: {"status": d["status"], "errors": d["errors"]}),
        ),
    ),
    "tables": (
        "tables and OGC API Processes",
        "A value for each zone and period. Here the zone is the named area `middle`, from 3° E 53° N to 11° E 57° N. See [Make tables of districts](../../how-to/tables.md).",
        (
            F("Table", "A row for each zone, step, variable and statistic. Each cell is weighted by the part of it that is in the zone, and by its area.", "/datasets/temp/table?zones=middle&z=0"),
            F("Statistics and periods", "Several statistics, by month.", "/datasets/temp/table?zones=middle&z=0&period=month&min-share=0&statistic=mean,min,max"),
            F("JSON", "The same rows as objects.", "/datasets/temp/table?zones=middle&z=0&datetime=2024-01-01&f=json", of("rows.0")),
            F("Zones in the request", "Polygons that the service does not have.", "/datasets/temp/table?z=0&datetime=2024-01-01&f=json", of("rows.0"), body={"type": "FeatureCollection", "features": [{"type": "Feature", "id": "here", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [[[4, 54], [6, 54], [6, 56], [4, 56], [4, 54]]]}}]}),
            F("Cost", "The cost of a table. No data are read.", "/datasets/temp/table?zones=middle&z=0&estimate=true"),
            F("Processes", "The same table as a process.", "/ogcapi/processes", each_of("processes", "id", "title", "jobControlOptions")),
            F("Description of a process", "The inputs of the process.", "/ogcapi/processes/zonal-statistics", lambda d: sorted(d["inputs"])),
            F("Execution", "The answer is the table. With `Prefer: respond-async`, it is a job.", "/ogcapi/processes/zonal-statistics/execution", body={"inputs": {"dataset": "temp", "zones": "middle", "z": "0"}}),
            F("Errors", "One answer lists all problems.", "/datasets/temp/table?zones=middle&statistic=average&period=decade", lambda d: {"status": d["status"], "errors": [each["message"] for each in d["errors"]]}),
        ),
    ),
    "maps": (
        "OGC API Maps and Tiles",
        "Pictures of the data, cell by cell. See [Draw maps](../../how-to/maps.md).",
        (
            F("Map", "A PNG of one time and level.", "/ogcapi/collections/temp/map?datetime=2024-01-02&subset=depth(0)&width=400", headers("content-bbox", "content-crs", "content-datetime"), of_headers=True),
            F("Reference system", "Web Mercator, polar systems, any EPSG code of a projection.", "/ogcapi/collections/temp/map?crs=EPSG:3857&width=400", headers("content-crs"), of_headers=True),
            F("Styles", "The palettes.", "/ogcapi/collections/temp/styles", lambda d: [each["id"] for each in d["styles"]][:6]),
            F("Map in a style", "The address names the palette; range and steps are parameters.", "/ogcapi/collections/temp/styles/viridis/map?range=0,250&steps=5", headers(), of_headers=True),
            F("Box by axes", "`subset` selects a box by longitude and latitude, and a slice along other axes.", "/ogcapi/collections/temp/map?subset=" + q("Lat(48:57),Lon(0:10),depth(10)") + "&width=40", headers("content-bbox", "content-datetime"), of_headers=True),
            F("Cost", "What a map would read. No data are read.", "/ogcapi/collections/temp/map?estimate=true", of("pixels", "cells", "chunks", "allowed")),
            F("Legend", "The colours and their values; with `f=svg` or `f=png` as a picture.", "/datasets/temp/legend?f=json", of("palette", "range", "units")),
            F("Tilesets", "WebMercatorQuad and WorldCRS84Quad.", "/ogcapi/collections/temp/map/tiles", lambda d: [each["tileMatrixSetURI"] for each in d["tilesets"]]),
            F("Tile", "By zoom level, row and column.", "/ogcapi/collections/temp/map/tiles/WebMercatorQuad/3/2/4?datetime=2024-01-02", headers("cubeport-version"), of_headers=True),
            F("TileJSON", "For Leaflet, MapLibre and OpenLayers.", "/ogcapi/collections/temp/map/tiles/WebMercatorQuad?f=tilejson&datetime=2024-01-02", of("tilejson", "tiles", "bounds", "minzoom", "maxzoom")),
            F("Tile matrix set", "The definition of a tile matrix set.", "/ogcapi/tileMatrixSets/WebMercatorQuad", of("id", "crs", "tileMatrices.0.scaleDenominator")),
        ),
    ),
    "webmaps": (
        "WMS and WMTS",
        "One service for each dataset, for QGIS, GDAL and older programs. See [Draw maps](../../how-to/maps.md).",
        (
            F("Dimensions in the capabilities", "Times, levels and other axes of a layer.", f"{WMS}&REQUEST=GetCapabilities", lambda t: "\n".join(re.findall(r"<Dimension.*?</Dimension>", t))),
            F("GetMap", "A PNG; `TIME`, `ELEVATION` and `DIM_…` choose the slice.", f"{WMS}&REQUEST=GetMap{VIEW}&FORMAT=image/png&TIME=2024-01-02&ELEVATION=10", headers("cubeport-version"), of_headers=True),
            F("Palette and range", "`STYLES`, `COLORSCALERANGE`, `NUMCOLORBANDS`.", f"{WMS}&REQUEST=GetMap{VIEW}raster/magma&FORMAT=image/png&COLORSCALERANGE=0,250&NUMCOLORBANDS=10", headers(), of_headers=True),
            F("GetFeatureInfo", "The value under a pixel.", f"{WMS}&REQUEST=GetFeatureInfo{VIEW}&QUERY_LAYERS=temp&I=1&J=1&TIME=2024-01-02&ELEVATION=10", of("features.0.properties")),
            F("GetLegendGraphic", "The legend as PNG, or as `image/svg+xml`.", f"{WMS}&REQUEST=GetLegendGraphic&LAYER=temp&FORMAT=image/png", headers(), of_headers=True),
            F("Tile of the WMTS", "A tile by key-value parameters. The capabilities have a template for the other form.", "/wmts/temp?SERVICE=WMTS&VERSION=1.0.0&REQUEST=GetTile&LAYER=temp&STYLE=default&TILEMATRIXSET=WebMercatorQuad&TILEMATRIX=3&TILEROW=2&TILECOL=4&TIME=2024-01-02", headers(), of_headers=True),
            F("Template of the WMTS", "For programs that request tiles by path.", "/wmts/temp", lambda t: re.findall(r'template="([^"]*)"', t)[0].replace("&amp;", "&")),
            F("Errors", "The error document of the standard.", f"{WMS}&REQUEST=GetMap&LAYERS=none&CRS=CRS:84&BBOX=0,0,1,1&WIDTH=1&HEIGHT=1&STYLES="),
        ),
    ),
    "opendap": (
        "OPeNDAP",
        "DAP2, for netCDF-C, pydap, Ferret, MATLAB and IDL. See [Read with OPeNDAP](../../how-to/opendap.md).",
        (
            F("Structure", "`.dds`", "/dap/temp.dds"),
            F("Attributes", "`.das`", "/dap/temp.das", lines=24),
            F("Values as text", "Ranges of indices are `[first:stride:last]`.", "/dap/temp.ascii?temp[1][0][0:1:2][1]"),
            F("Values", "The binary values that clients read.", "/dap/temp.dods?temp[1][0][0:1:2][1]", headers("xdods-server", "content-description"), of_headers=True),
            F("Errors", "The error document of the protocol.", "/dap/temp.dods?wind"),
        ),
    ),
    "griddap": (
        "griddap",
        "ERDDAP's requests, so that erddapy and rerddap work. See [Keep ERDDAP addresses](../../how-to/griddap.md).",
        (
            F("Table", "Round brackets select by the values of an axis; without them, numbers are indices.", "/griddap/temp.csv?temp[(2024-01-02)][0][(50):(55)][(0):2:(10)]"),
            F("JSON", "The same table.", "/griddap/temp.json?temp[last][0][(50)][0:1]", of("table.columnNames", "table.rows")),
            F("NetCDF", "As it is stored.", "/griddap/temp.nc?temp[last][0][][]", headers(), of_headers=True),
            F("Picture", "A map.", "/griddap/temp.png?temp[last][0][][]", headers(), of_headers=True),
            F("Attributes", "All of them, as a table.", "/info/temp/index.csv", lines=8),
            F("Errors", "The error document of ERDDAP.", "/griddap/temp.csv?temp[(2031-01-01)][0][0][0]"),
        ),
    ),
}  # fmt: skip


@contextmanager
def served() -> Iterator[str]:
    """Serve a cube whose values are 100 × step + 50 × level + 10 × row + column."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "instance"
        cubeport.Catalog.create(root).close()
        (root / "extents").mkdir(exist_ok=True)
        for each in (root / "extents").iterdir():
            each.unlink()
        (root / "extents" / "middle.yaml").write_text("extent_id: middle\nname: The middle\nbbox: [3, 53, 11, 57]\n")
        step, level, row, column = np.meshgrid(np.arange(3), np.arange(2), np.arange(3), np.arange(4), indexing="ij")
        values = (100 * step + 50 * level + 10 * row + column).astype("f4")
        data = xr.Dataset(
            {"temp": (("time", "depth", "lat", "lon"), values, {"units": "degC", "standard_name": "sea_water_temperature"})},
            {
                "time": ("time", [0.0, 1, 2], {"units": "days since 2024-01-01", "standard_name": "time"}),
                "depth": ("depth", [0.0, 10], {"units": "m", "standard_name": "depth", "positive": "down"}),
                "lat": ("lat", [50.0, 55, 60], {"units": "degrees_north", "standard_name": "latitude"}),
                "lon": ("lon", [0.0, 5, 10, 15], {"units": "degrees_east", "standard_name": "longitude"}),
            },
            {"title": "Temperature of the sea"},
        )
        data.to_netcdf(Path(folder) / "temp.nc")
        with cubeport.connect(root) as service:
            done = service.ingest_here(IngestionRequest(dataset_id="temp"), FileOptions(files=(str(Path(folder) / "temp.nc"),)))
            assert done.status == "completed", done.error
        command = [sys.executable, "-m", "cubeport", "serve", "--instance", str(root), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:  # noqa: S603  # our own program
            assert process.stdout is not None
            try:
                url = next(found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
                for _ in range(600):
                    try:
                        httpx.get(f"{url}/health", trust_env=False).raise_for_status()
                        break
                    except httpx.HTTPError:
                        time.sleep(0.1)
                yield url
            finally:
                process.terminate()


def page(door: str, url: str, version: str) -> str:
    """Return the page of a door."""
    title, words, features = DOORS[door]
    lines = [
        f"# Example answers: {title}", "", "<!-- written by .ci/answers.py: change it there -->", "", words, "",
        "The requests go to a cube `temp(time, depth, lat, lon)` of 3 × 2 × 3 × 4 cells, each of which has the value 100 × step + "
        "50 × level + 10 × row + column. Only a part of long answers is shown.",
    ]  # fmt: skip
    for each in features:
        path = each.path.replace("VERSION", version)
        options = "".join(f" -H '{name}: {value}'" for name, value in each.sent)
        options += "" if each.body is None else f" -H 'Content-Type: application/json' -d '{json.dumps(each.body)}'"
        head = "I" if each.of_headers and not each.sent and each.body is None else ""
        sent = dict(each.sent)
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            answer = client.get(path, headers=sent) if each.body is None else client.post(path, json=each.body, headers=sent)
        assert answer.status_code < 500, (path, answer.text)
        shown, form = _shown(each, answer)
        address = f"{SHOWN_URL}{path}".replace(version, "VERSION")
        lines += [
            "", f"## {each.title}", "", each.words, "",
            "```sh", f"curl -gs{head}{options} '{address}'", "```", "",
            f'```{form} title="{answer.status_code}"', _steady(shown, url, version), "```",
        ]  # fmt: skip
    return "\n".join([*lines, ""])


def _shown(feature: Feature, answer: httpx.Response) -> tuple[str, str]:
    if feature.of_headers:
        assert feature.part is not None
        return feature.part(answer), "text"
    is_json = "json" in answer.headers["content-type"]
    if feature.part is not None:
        found = feature.part(answer.json() if is_json else answer.text)
        return (found, "text") if isinstance(found, str) else (_pretty(found), "json")
    lines = answer.text.strip().splitlines()
    kept = "\n".join(lines[: feature.lines] + (["…"] if len(lines) > feature.lines else []))
    assert len(kept) < 4 * _LONGEST, feature
    return kept, "text"


def _pretty(value: Any) -> str:
    """Return JSON with short lists and objects on one line."""

    def written(it: Any, indent: int) -> str:
        flat = json.dumps(it, ensure_ascii=False)
        if len(flat) + indent <= 110 or not isinstance(it, dict | list):
            return flat
        pad = " " * (indent + 2)
        if isinstance(it, dict):
            inner = ",\n".join(f"{pad}{json.dumps(k, ensure_ascii=False)}: {written(v, indent + 2)}" for k, v in it.items())
            return "{\n" + inner + "\n" + " " * indent + "}"
        return "[\n" + ",\n".join(pad + written(each, indent + 2) for each in it) + "\n" + " " * indent + "]"

    return written(value, 0)


def _steady(text: str, url: str, version: str) -> str:
    """Return the text with words in place of what differs each time."""
    text = text.replace(url, SHOWN_URL).replace(version, "VERSION")
    text = re.sub(r"\b[0-9a-f]{32,64}\b", "DIGEST", text)
    return re.sub(r"\b20(2[5-9]|[3-9]\d)-\d\d-\d\dT[\d:.]+Z", "THEN", text)


def main() -> None:
    """Write the pages, or say which differ."""
    check = "--check" in sys.argv[1:]
    stale = []
    with served() as url:
        version = httpx.get(f"{url}/datasets/temp", trust_env=False).json()["latest_version"]
        for door in DOORS:
            text, path = page(door, url, version), PAGES / f"{door}.md"
            if check:
                stale += [] if path.exists() and path.read_text() == text else [path.name]
            else:
                path.write_text(text)
    if stale:
        sys.exit(f"{', '.join(stale)} differ from the answers: run python .ci/answers.py")


if __name__ == "__main__":
    main()
