"""What search engines read: robots.txt, the sitemap, and the description of a dataset in its page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cubeport.documents.native import DatasetDetail
from cubeport.documents.schemaorg import summary

from .conftest import PATH, URL, Client, FakeService

NAMES = "{http://www.sitemaps.org/schemas/sitemap/0.9}"


def addresses(client: Client, path: str) -> list[str]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/xml"
    return [str(each.text) for each in ET.fromstring(answer.content).iter(f"{NAMES}loc")]


def test_the_sitemap_has_the_page_of_each_published_dataset(client: Client, service: FakeService) -> None:
    found = addresses(client, "/sitemap.xml")
    assert found == [f"{URL}/", f"{URL}/datasets/sea"]
    for each in found:
        page = client.get(each.removeprefix(URL), headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
    service.published = False
    assert addresses(client, "/sitemap.xml") == [f"{URL}/"]


def test_many_datasets_have_a_sitemap_for_each_first_character(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = sorted([*(f"a{n}" for n in range(700)), *(f"b{n}" for n in range(700)), "9"])

    def names(*, between: tuple[str, str], limit: int) -> Sequence[tuple[str, str]]:
        return [(each, "") for each in every if between[0] <= each < between[1]][:limit]

    monkeypatch.setattr(service, "dataset_names", names)
    index = addresses(client, "/sitemap.xml")
    assert index == [f"{URL}/sitemap.xml?first={first}" for first in "9ab"]
    found = [page for each in index for page in addresses(client, each.removeprefix(URL))]
    assert found == [f"{URL}/datasets/{each}" for each in every]
    assert client.get("/sitemap.xml?first=ab").status_code == 400


def test_robots_leave_the_data_alone_and_find_the_pages(client: Client) -> None:
    answer = client.get("/robots.txt")
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    assert f"Sitemap: {URL}/sitemap.xml" in lines
    rules = [re.compile(re.escape(line.removeprefix(f"Disallow: {PATH}")).replace(r"\*", ".*")) for line in lines if line[0] == "D"]

    def refused(path: str) -> bool:
        return any(rule.match(path) for rule in rules)

    for path in ("/zarr/sea/zarr.json", "/datasets/sea/download?bbox=1,2,3,4", "/ogcapi/collections/sea/coverage", "/dap/sea.dods"):
        assert refused(path), path
    for path in ("/", "/datasets/sea", "/datasets/sea/thumbnail.png", "/ogcapi/collections/sea/map", "/stac/collections/sea"):
        assert not refused(path), path


def test_a_page_describes_its_dataset_to_search_engines(client: Client) -> None:
    text = client.get("/datasets/sea?f=html").text
    assert f'<link rel="canonical" href="{URL}/datasets/sea">' in text
    [block] = re.findall(r'<script type="application/ld\+json">(.*?)</script>', text, re.DOTALL)
    found: dict[str, Any] = json.loads(block)
    told = client.get("/datasets/sea").json()
    west, south, east, north = (told["extent"]["spatial"][each] for each in ("xmin", "ymin", "xmax", "ymax"))
    assert found["spatialCoverage"]["geo"]["box"] == f"{south:g} {west:g} {north:g} {east:g}"
    assert found["temporalCoverage"] == f"{told['extent']['temporal']['start']}/{told['extent']['temporal']['end']}"
    assert [each["name"] for each in found["variableMeasured"]] == [each["name"] for each in told["variables"]]
    assert [each.get("unitText") for each in found["variableMeasured"]] == [each["units"] for each in told["variables"]]
    assert found["includedInDataCatalog"]["url"] == f"{URL}/"
    there = {each["contentUrl"] for each in found["distribution"]}
    assert f"{URL}/datasets/sea/download" in there
    assert there <= {each["href"] for each in told["links"]}


def test_what_nobody_described_is_described_by_what_is_known(client: Client) -> None:
    told = DatasetDetail.model_validate(client.get("/datasets/sea").json(), strict=False)
    assert summary(told) == told.description
    plain = told.model_copy(update={"description": told.dataset_name})
    assert summary(plain) == "Sea <script>: sea surface temperature; 2020-01-01 to 2020-01-04; 6 × 8 cells"
