"""Stores and services are read by other people's newest releases; values are compared with the source."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .conftest import Clients, Site

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]

NAMES = "regular,south-up,from-0-to-360,packed,members,pressure-levels,projected,rotated-pole,curvilinear,unstructured"

OBSTORE = """
import json, sys
import numpy as np, xarray as xr
from obstore.store import HTTPStore
from zarr.storage import ObjectStore
url, folder, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
wrong = []
for name in names:
    store = ObjectStore(HTTPStore.from_url(f"{url}/zarr/{name}", client_options={"allow_http": True}), read_only=True)
    with xr.open_dataset(f"{folder}/{name}.nc", decode_timedelta=False) as truth:
        with xr.open_zarr(store, consolidated=True, decode_timedelta=False, chunks=None) as found:
            for each in truth.variables:
                if not np.array_equal(found[each].values, truth[each].values, equal_nan=truth[each].dtype.kind == "f"):
                    wrong.append(f"{name}: {each}")
print(json.dumps(wrong))
"""


def test_obstore_reads_every_value(clients: Clients, site: Site) -> None:
    assert clients.told(OBSTORE, site.url, str(site.files), NAMES) == []


ZARRITA = """
import * as zarr from "zarrita";
const [url, name] = process.argv.slice(2);
const group = await zarr.open(new zarr.FetchStore(`${url}/zarr/${name}`), { kind: "group" });
const array = await zarr.open(group.resolve("t"), { kind: "array" });
const { data, shape } = await zarr.get(array);
console.log(JSON.stringify([shape, Array.from(data, Number)]));
"""


@pytest.mark.parametrize("name", ["regular", "south-up", "projected", "members"])
def test_zarrita_reads_every_value(node: Path, site: Site, name: str) -> None:
    import numpy as np
    import xarray as xr

    (node / "read.mjs").write_text(ZARRITA)
    done = subprocess.run(["node", "read.mjs", site.url, name], cwd=node, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    shape, values = json.loads(done.stdout)
    with xr.open_dataset(site.files / f"{name}.nc", mask_and_scale=False, decode_times=False) as truth:
        assert tuple(shape) == truth.t.shape
        assert np.array_equal(np.array(values, truth.t.dtype), truth.t.values.ravel())


OWSLIB = """
import json, sys
import xarray as xr
from owslib.ogcapi.coverages import Coverages
from owslib.ogcapi.edr import EnvironmentalDataRetrieval
from owslib.wms import WebMapService
from owslib.wmts import WebMapTileService
url, folder = sys.argv[1:]
said = {}
with xr.open_dataset(f"{folder}/regular.nc") as truth:
    coverages = Coverages(f"{url}/ogcapi/")
    said["listed"] = "regular" in coverages.coverages()
    said["fields"] = "t" in json.dumps(coverages.coverage_schema("regular") if hasattr(coverages, "coverage_schema") else
                                       coverages.collection_schema("regular"))
    answer = coverages.coverage("regular", subset={"lat": (-30, 30), "lon": (-45, 45)}, datetime="2020-01-02")
    document = json.loads(answer.getvalue())
    axes = document["domain"]["axes"]
    part = truth.t.sel(time="2020-01-02", lat=axes["y"]["values"], lon=axes["x"]["values"])
    said["coverage"] = part.size == 4 and document["ranges"]["t"]["values"] == part.values.ravel().tolist()
    edr = EnvironmentalDataRetrieval(f"{url}/ogcapi/")
    point = edr.query_data("regular", "position", coords="POINT(22.5 15)", parameter_names=["t"])
    document = point if isinstance(point, dict) else json.loads(point.getvalue())
    said["position"] = document["ranges"]["t"]["values"] == truth.t.sel(lat=15, lon=22.5).values.tolist()
wms = WebMapService(f"{url}/wms/regular", version="1.3.0")
said["wms"] = wms.getmap(layers=["t"], srs="EPSG:4326", bbox=(-90, -180, 90, 180), size=(64, 32), format="image/png",
                         time="2020-01-02T00:00:00Z").read()[:4] == b"\\x89PNG"
wmts = WebMapTileService(f"{url}/wmts/regular")
layer = next(iter(wmts.contents))
tile = wmts.gettile(layer=layer, tilematrixset="WebMercatorQuad", tilematrix="0", row=0, column=0, format="image/png")
said["wmts"] = tile.read()[:4] == b"\\x89PNG"
print(json.dumps(said))
"""


def test_owslib_reads_coverages_edr_wms_and_wmts(clients: Clients, site: Site) -> None:
    said = clients.told(OWSLIB, site.url, str(site.files))
    assert said == dict.fromkeys(("listed", "fields", "coverage", "position", "wms", "wmts"), True)


NETCDF = """
import json, sys
import netCDF4, numpy as np
url, folder, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
wrong = []
for name in names:
    with netCDF4.Dataset(f"{folder}/{name}.nc") as truth, netCDF4.Dataset(f"{url}/dap/{name}") as found:
        for each in truth.variables:
            mine, theirs = np.ma.filled(found[each][...]), np.ma.filled(truth[each][...])
            if mine.dtype.kind in "iuf" and not np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f"):
                wrong.append(f"{name}: {each}")
print(json.dumps(wrong))
"""


def test_netcdf_c_reads_every_value_by_opendap(clients: Clients, site: Site) -> None:
    assert clients.told(NETCDF, site.url, str(site.files), NAMES) == []
