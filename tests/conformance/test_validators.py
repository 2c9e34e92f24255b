"""Other people's validators judge the documents and files that we serve."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import Clients, Site

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def documents(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the STAC documents of the site to files: the catalog, every Collection and every Item."""
    folder = tmp_path_factory.mktemp("stac")
    with httpx.Client(base_url=site.url, trust_env=False, timeout=60) as client:
        (folder / "catalog.json").write_text(client.get("/stac/catalog.json").text)
        for collection in client.get("/stac/collections", params={"limit": 100}).json()["collections"]:
            name = collection["id"]
            (folder / f"{name}.json").write_text(client.get(f"/stac/collections/{name}").text)
            items = client.get(f"/stac/collections/{name}/items").json()["features"]
            assert items, name
            for item in items:
                (folder / f"{name}-item.json").write_text(client.get(f"/stac/collections/{name}/items/{item['id']}").text)
    return folder


def _known(schemas: Path) -> dict[str, str]:
    """Return the file of each schema by its address."""
    return {f"https://{each.relative_to(schemas)}": str(each) for each in schemas.rglob("*.json")}


MISSING = ("https://stac-extensions.github.io/web-map-links/v1.2.0/schema.json",)
"""Schemas that the folder does not have, and no package registry. Documents are not validated against these."""

PATCHED = """
import json, sys
import requests
folder, MISSING = sys.argv[1], set()

class Offline(requests.adapters.BaseAdapter):
    def send(self, request, **_):
        answer = requests.Response()
        answer.request, answer.url = request, request.url
        try:
            answer._content = open(folder + "/" + request.url.split("://")[1].split("#")[0], "rb").read()
            answer.status_code = 200
        except OSError:
            # A schema that is not in the folder accepts everything; its address is in the report.
            MISSING.add(request.url)
            answer._content, answer.status_code = b'{"$schema": "http://json-schema.org/draft-07/schema#"}', 200
        return answer

    def close(self):
        pass

before = requests.Session.get_adapter
requests.Session.get_adapter = lambda self, url: Offline() if url.startswith("https://") else before(self, url)
"""
"""Takes schemas from a folder: this machine may not reach the hosts that have them."""

STAC_VALIDATOR = (
    PATCHED
    + """
from stac_validator.validate import StacValidate
wrong = []
for path in sys.argv[2:]:
    found = StacValidate(path)
    if not found.run():
        said = found.message[0]
        wrong.append([path.rpartition("/")[2], said.get("error_type"), str(said.get("error_message"))[:300]])
print(json.dumps([len(sys.argv) - 2, wrong, sorted(MISSING)]))
"""
)

STAC_CHECK = (
    PATCHED
    + """
from stac_check.lint import Linter
wrong, advice = [], {}
for path in sys.argv[2:]:
    linter = Linter(path)
    name = path.rpartition("/")[2]
    if not linter.valid_stac:
        wrong.append([name, linter.error_type, str(linter.error_msg)[:300]])
    for key, said in linter.create_best_practices_dict().items():
        advice.setdefault(key, [name, said])
print(json.dumps([len(sys.argv) - 2, wrong, sorted(MISSING), advice]))
"""
)

ADVICE = {
    "bloated_links": "more than 20 links: the landing page of an API has those of its search and of all Collections up to 1,000",
    "searchable_identifiers": "the id of a version has an @, which names it on every face",
    "check_item_id": "these files are answers of an API, so their names are ours here",
    "check_catalog_id": "the same for Collections",
    "datetime_null": "data over a period have start_datetime and end_datetime, as STAC wants with datetime null",
    "check_summaries": "summaries are there where the data have standard names; an invented one would say nothing",
    "bbox_geometry_mismatch": "over 180° a bbox has west > east and its geometry two parts (RFC 7946, 5.2 and 3.1.9)",
    "geometry_coordinates_order": "the same: a longitude of 180 beside one of -180 is taken for a latitude",
    "check_bbox_antimeridian": "data all around the Earth have -180 to 180",
}
"""Advice of stac-check that does not fit, each with its reason."""


def _files(documents: Path) -> list[str]:
    found = sorted(map(str, documents.glob("*.json")))
    assert len(found) > 20
    return found


def test_stac_validator_and_stac_valid_accept_every_document(validators: Clients, documents: Path, schemas: Path) -> None:
    seen, wrong, missing = validators.told(STAC_VALIDATOR, str(schemas), *_files(documents))
    assert (wrong, missing) == ([], sorted(MISSING))
    assert seen > 20


def test_stac_check_accepts_every_document(validators: Clients, documents: Path, schemas: Path) -> None:
    seen, wrong, missing, advice = validators.told(STAC_CHECK, str(schemas), *_files(documents))
    assert (wrong, missing) == ([], sorted(MISSING))
    assert {name: said for name, said in advice.items() if name not in ADVICE} == {}
    assert seen > 20


def test_stac_node_validator_accepts_every_document(node: Path, documents: Path, schemas: Path, tmp_path: Path) -> None:
    known = _known(schemas)
    for number, address in enumerate(MISSING):
        (tmp_path / f"any-{number}.json").write_text(json.dumps({"$id": address}))
        known[address] = str(tmp_path / f"any-{number}.json")
    pairs = [f"{address}={file}" for address, file in known.items()]  # as release 1.3 reads them from a file
    (tmp_path / "config.json").write_text(json.dumps({"schemaMap": pairs}))
    program = ["node", "node_modules/stac-node-validator/bin/cli.js", "--config", str(tmp_path / "config.json")]
    done = subprocess.run([*program, *_files(documents)], cwd=node, capture_output=True, text=True, timeout=400, check=False)
    text = done.stdout + done.stderr
    assert re.search(r"Files: \d+", text), text[-2000:]
    assert done.returncode == 0, text[-3000:]


XSD = """
import json, os, sys
from importlib.util import find_spec
from lxml import etree
root = os.path.join(os.path.dirname(find_spec("mapproxy").origin), "test", "schemas")
xml = os.path.join(root, "xml.xsd")

class Local(etree.Resolver):
    def resolve(self, url, public, context):
        for host, folder in (("http://schemas.opengis.net/", root), ("https://schemas.opengis.net/", root)):
            if url.startswith(host):
                path = os.path.join(folder, url[len(host):])
                return self.resolve_filename(path if os.path.exists(path) else xml, context)
        if url.endswith("xml.xsd"):
            return self.resolve_filename(xml, context)

parser = etree.XMLParser(no_network=True)
parser.resolvers.add(Local())

def schema(path):
    return etree.XMLSchema(etree.parse(os.path.join(root, path), parser))

kinds = {"wms": schema("wms/1.3.0/capabilities_1_3_0.xsd"), "wmts": schema("wmts/1.0/wmtsGetCapabilities_response.xsd"),
         "exception": schema("wms/1.3.0/exceptions_1_3_0.xsd"), "ows": schema("ows/1.1.0/owsExceptionReport.xsd")}
wrong = []
for kind, path in (each.split("=", 1) for each in sys.argv[1:]):
    document = etree.parse(path, etree.XMLParser(no_network=True))
    if not kinds[kind].validate(document):
        wrong += [f"{path.rpartition('/')[2]}: {error.message}" for error in kinds[kind].error_log][:5]
print(json.dumps([len(sys.argv) - 1, wrong]))
"""


def test_capabilities_and_exceptions_fit_the_schemas_of_ogc(validators: Clients, site: Site, tmp_path: Path) -> None:
    asked = []
    with httpx.Client(base_url=site.url, trust_env=False, timeout=60) as client:
        names = [each["id"] for each in client.get("/stac/collections", params={"limit": 100}).json()["collections"]]
        for name in names:
            for kind, query in (
                ("wms", {"service": "WMS", "request": "GetCapabilities"}),
                ("wmts", {"service": "WMTS", "request": "GetCapabilities"}),
                ("exception", {"service": "WMS", "version": "1.3.0", "request": "GetMap", "layers": "nothing"}),
                ("ows", {"service": "WMTS", "version": "1.0.0", "request": "GetTile", "layer": "nothing"}),
            ):
                face = "wmts" if kind in ("wmts", "ows") else "wms"
                answer = client.get(f"/{face}/{name}", params=query)
                if answer.status_code == 404 and "has no horizontal position" in answer.text:
                    continue
                path = tmp_path / f"{name}-{kind}.xml"
                path.write_bytes(answer.content)
                asked.append(f"{kind}={path}")
    seen, wrong = validators.told(XSD, *asked)
    assert wrong == []
    assert seen > 30


def _findings(validators: Clients, path: Path, folder: Path) -> set[str]:
    """Return what compliance-checker finds against CF 1.8 in a file."""
    report = folder / f"{path.stem}.json"
    done = validators.run(
        "compliance-checker", "--test=cf:1.8", "--criteria=lenient", "--format=json", f"--output={report}", str(path)
    )
    assert report.exists(), done.stderr[-2000:]
    found: set[str] = set()
    for test in json.loads(report.read_text()).values():
        for priority in ("high_priorities", "medium_priorities"):
            for check in test[priority] if isinstance(test[priority], list) else ():
                score, of = check["value"]
                found |= {f"{check['name']}: {message}" for message in check["msgs"]} if score < of else set()
    return found


@pytest.mark.parametrize(
    "name", ["regular", "packed", "projected", "rotated-pole", "curvilinear", "unstructured", "pressure-levels", "members"]
)
def test_compliance_checker_finds_nothing_new_in_netcdf_answers(validators: Clients, site: Site, tmp_path: Path, name: str) -> None:
    source = _findings(validators, site.files / f"{name}.nc", tmp_path)
    for kind, path in (("download", f"/datasets/{name}/download"), ("coverage", f"/ogcapi/collections/{name}/coverage?f=netcdf")):
        answer = httpx.get(f"{site.url}{path}", trust_env=False, timeout=60)
        assert answer.status_code == 200, answer.text
        file = tmp_path / f"{name}-{kind}.nc"
        file.write_bytes(answer.content)
        assert _findings(validators, file, tmp_path) - source == set(), kind


def test_schemathesis_finds_no_server_error_and_no_undeclared_answer(validators: Clients, site: Site, tmp_path: Path) -> None:
    done = validators.run(
        "schemathesis", "run", f"{site.url}/openapi.json", "--url", site.url, "--phases", "examples,coverage,fuzzing",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance", "--max-examples", "3",
        "--include-method", "GET", "--exclude-path-regex", "/events$", "--seed", "1", "--workers", "2", "--max-failures", "20",
        "--request-timeout", "60", timeout=580, cwd=tmp_path,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert "operations" in text.lower(), text[-3000:]
    assert done.returncode == 0, text[-6000:]


GDAL = """
import json, sys
import numpy as np
from osgeo import gdal
gdal.UseExceptions()
wrong = []
for kind, path in (each.split("=", 1) for each in sys.argv[1:]):
    dataset = gdal.Open(path if kind == "tiff" else f'NETCDF:"{path}":t')
    values = dataset.ReadAsArray()
    wrong.append([kind, dataset.GetGeoTransform(), values.tolist()])
print(json.dumps([gdal.__version__, wrong]))
"""


def test_another_gdal_reads_geotiff_and_netcdf(validators: Clients, site: Site, tmp_path: Path) -> None:
    """GDAL of a wheel of its own, newer than the one that rasterio brings."""
    import numpy as np
    import xarray as xr

    asked: list[str] = []
    for kind, query in (("tiff", "f=geotiff&datetime=2020-01-02"), ("netcdf", "f=netcdf&datetime=2020-01-02")):
        answer = httpx.get(f"{site.url}/ogcapi/collections/regular/coverage?{query}", trust_env=False)
        path = tmp_path / f"part.{kind}"
        path.write_bytes(answer.content)
        asked.append(f"{kind}={path}")
    version, found = validators.told(GDAL, *asked)
    with xr.open_dataset(site.files / "regular.nc") as truth:
        expected: Any = truth.t.isel(time=1).values
        for kind, transform, values in found:
            assert np.array_equal(np.squeeze(values), expected), (version, kind)
            assert transform == [-180.0, 45.0, 0.0, 90.0, 0.0, -30.0], (version, kind)
