"""Other people's clients and validators read what we serve."""

from __future__ import annotations

import json
import re

import pytest
from tests.pages import blocks

from .conftest import Clients, Site

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]

CLASSES = (
    "core", "browseable", "collections", "features", "item-search", "item-search#sort", "item-search#fields", "features#sort",
    "features#fields", "filter",
)  # fmt: skip

KNOWN = {
    r"'bbox': '181.0,91.0|\"bbox\": \[181.0, 91.0": "a box outside the world is 400 here, also next to ids",
    r"\"op\": \"between\", \"args\": \[\{\"property\": \"eo:cloud_cover\"\}, \[": "a form of BETWEEN that final CQL2 does not have",
    r"\"collections\": \"\w+\"": "collections is a list in a body, and the validator sends a text",
    r"\{\"fields\": null\} had unexpected status code 200": "null is as good as nothing",
    r"'exclude': \['geometry'\], 'include': .* response contained 'properties.version'": "what is not excluded stays",
    r"'include': \['properties.version'\].* response contained fewer than 5": "what is named is what is given",
}
"""Findings of stac-api-validator 0.6.8 that we answer otherwise on purpose, each with its reason."""

NETWORK = re.compile(r"schemas\.stacspec\.org|stac-extensions\.github\.io|ConnectionError|NameResolutionError")


def test_stac_api_validator_finds_no_errors_but_those_that_are_known(clients: Clients, site: Site) -> None:
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}
    done = clients.run(
        "stac-api-validator", "--root-url", f"{site.url}/stac", "--collection", "packed", "--geometry", json.dumps(geometry),
        "--fields-nested-property", "properties.version", "--no-validate-pagination",
        *(part for name in CLASSES for part in ("--conformance", name)),
        timeout=500,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert "Errors:" in text or "Errors: none" in text, text[-2000:]
    found = [line for line in text.partition("Errors:")[2].splitlines() if line.startswith("- ")]
    offline = [line for line in found if NETWORK.search(line)]
    wrong = [line for line in found if line not in offline and not any(re.search(known, line) for known in KNOWN)]
    # What follows from a request that was answered otherwise: the validator goes on without an answer.
    wrong = [line for line in wrong if not re.search(r"response had not? items in response for", line)]
    assert not wrong, "\n".join(wrong)
    if offline:
        print(f"{len(offline)} validations were skipped: the schemas cannot be fetched from here")


DAP = """
import json, sys
import numpy as np, xarray as xr
url, folder, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
wrong = []
for name in names:
    with xr.open_dataset(f"{folder}/{name}.nc", decode_timedelta=False) as truth:
        with xr.open_dataset(f"{url}/dap/{name}", engine="pydap", decode_timedelta=False) as found:
            for each in truth.variables:
                if not np.array_equal(found[each].values, truth[each].values, equal_nan=truth[each].dtype.kind == "f"):
                    wrong.append(f"{name}: {each}")
print(json.dumps(wrong))
"""

FAMILIES_READ = "regular,south-up,from-0-to-360,packed,members,pressure-levels,projected,rotated-pole,curvilinear,unstructured"


def test_pydap_reads_the_values_of_the_source(clients: Clients, site: Site) -> None:
    done = clients.python(DAP, site.url, str(site.files), FAMILIES_READ)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == []


XPYSTAC = """
import json, sys
import numpy as np, pystac_client, xarray as xr
url, folder = sys.argv[1:]
client = pystac_client.Client.open(f"{url}/stac")
wrong, opened = [], 0
for collection in client.get_collections():
    with xr.open_dataset(f"{folder}/{collection.id}.nc", decode_timedelta=False) as truth:
        items = list(client.search(collections=[collection.id], filter="deprecated = FALSE", filter_lang="cql2-text").items())
        assert len(items) == 1, (collection.id, items)
        assets = [*collection.assets.values(), *items[0].assets.values()]
        for asset in (each for each in assets if (each.media_type or "").startswith("application/vnd.zarr")):
            with xr.open_dataset(asset, engine="stac", decode_timedelta=False) as found:
                opened += 1
                if not np.array_equal(found.t.values, truth.t.values, equal_nan=True):
                    wrong.append(f"{collection.id}: {asset.href}")
print(json.dumps([opened, wrong]))
"""


def test_xpystac_opens_every_asset_that_is_typed_zarr(clients: Clients, site: Site) -> None:
    done = clients.python(XPYSTAC, site.url, str(site.files))
    assert done.returncode == 0, done.stderr[-2000:]
    opened, wrong = json.loads(done.stdout.strip().splitlines()[-1])
    assert wrong == []
    assert opened >= 3 * 10


RUSTAC = """
import asyncio, json, sys
import pystac_client, rustac
api = f"{sys.argv[1]}/stac"
client = pystac_client.Client.open(api)

async def main():
    wrong = []
    for asked in (
        {"limit": 3},
        {"collections": ["regular", "projected"]},
        {"bbox": [170, -10, -170, 10]},
        {"datetime": "2020-01-02T00:00:00Z/.."},
        {"intersects": {"type": "Point", "coordinates": [12, 45]}},
        {"filter": "collection = 'regular' AND deprecated = FALSE"},
        {"sortby": "+id", "limit": 4},
    ):
        ours = [each["id"] for each in await rustac.search(api, **asked)]
        lang = {"filter_lang": "cql2-text"} if "filter" in asked else {}
        theirs = [each.id for each in client.search(**asked, **lang).items()]
        if ours != theirs or not ours:
            wrong.append([asked, ours, theirs])
    return wrong

print(json.dumps(asyncio.run(main())))
"""


def test_rustac_finds_the_same_items_as_pystac_client(clients: Clients, site: Site) -> None:
    assert clients.told(RUSTAC, site.url) == []


ODC = """
import json, sys
import numpy as np, odc.stac, pystac, pystac_client, xarray as xr
url, folder, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
client = pystac_client.Client.open(f"{url}/stac")
wrong = []
for name in names:
    (item,) = client.search(collections=[name], filter="deprecated = FALSE", filter_lang="cql2-text").items()
    with xr.open_dataset(f"{folder}/{name}.nc") as truth:
        step = float(abs(truth.lon[1] - truth.lon[0])), float(abs(truth.lat[1] - truth.lat[0]))
        if step[0] != step[1]:
            step = (min(step),) * 2
        days = []
        for n, day in enumerate(("2020-01-01", "2020-01-02", "2020-01-03")):
            href = f"{url}/ogcapi/collections/{item.id}/coverage?f=geotiff&datetime={day}"
            document = {**item.to_dict(), "id": f"{item.id}-{n}", "assets": {"t": {"href": href, "type": pystac.MediaType.GEOTIFF}}}
            document["properties"] = {**document["properties"], "datetime": f"{day}T00:00:00Z"}
            days.append(pystac.Item.from_dict(document))
        found = odc.stac.load(days, bands=["t"], crs="EPSG:4326", resolution=step[0], anchor="floating", bbox=item.bbox).t
        for at in np.ndindex(truth.t.shape):
            cell = truth.t[at]
            got = float(found.isel(time=at[0]).sel(latitude=float(cell.lat), longitude=float(cell.lon), method="nearest"))
            if got != float(cell):
                wrong.append(f"{name} {at}: {got} {float(cell)}")
        try:  # the Zarr store of an item: nothing, or a refusal, and never other values
            whole = odc.stac.load([item], crs="EPSG:4326", resolution=step[0])
            wrong += [f"{name}: {each} was loaded from Zarr" for each in whole.data_vars]
        except (ValueError, KeyError) as refused:
            print("refused", refused)
print(json.dumps(wrong[:20]))
"""


def test_odc_stac_loads_the_values_of_geotiff_answers(clients: Clients, site: Site) -> None:
    """odc-stac reads rasters: the address of a GeoTIFF for each time is one. It finds no band in a Zarr asset, and says nothing."""
    assert clients.told(ODC, site.url, str(site.files), "regular,south-up") == []


def test_the_lines_for_odc_stac_work_as_written(clients: Clients, site: Site) -> None:
    (program,) = [each.text for each in blocks("reference/clients.md") if each.title == "odc-stac"]
    for ours, here in (("http://127.0.0.1:8000", site.url), ('["tas"]).items', '["regular"]).items'), ("2024-01-02", "2020-01-02")):
        assert ours in program
        program = program.replace(ours, here)
    done = clients.python(program)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tas " in done.stdout


RIO_TILER = """
import json, sys
import numpy as np, pyproj, xarray as xr, zarr
from rio_tiler.experimental.zarr import GroupReader
from zarr_cm import proj, spatial
url, folder, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
wrong = []
for name in names:
    group = zarr.open_group(f"{url}/geozarr/{name}", mode="r", zarr_format=3)
    for node in (group, group["t"]):
        document = json.loads(json.dumps(node.metadata.to_dict(), default=str))
        proj.validate_node_metadata(document)
        spatial.validate_node_metadata(document)
    with xr.open_dataset(f"{folder}/{name}.nc", mask_and_scale=False, decode_times=False) as truth, GroupReader(group) as reader:
        x, y = np.meshgrid(truth[truth.t.dims[-1]], truth[truth.t.dims[-2]])
        if "crs" in truth:
            to = pyproj.Transformer.from_crs(pyproj.CRS.from_cf(truth.crs.attrs), "OGC:CRS84", always_xy=True)
            x, y = to.transform(x, y)
        for at in np.ndindex(x.shape):
            found = reader.point(float(x[at]), float(y[at]), variables="t").array.data.ravel()
            if not np.array_equal(found, truth.t.values[(slice(None), *at)]):
                wrong.append(f"{name} {at}: {found} {truth.t.values[(slice(None), *at)]}")
print(json.dumps(wrong[:20]))
"""


def test_rio_tiler_finds_the_value_of_every_cell_in_geozarr(clients: Clients, site: Site) -> None:
    done = clients.python(RIO_TILER, site.url, str(site.files), "regular,south-up,packed,over-the-dateline,projected,rotated-pole")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == []
