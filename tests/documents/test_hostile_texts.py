"""Texts that others wrote do nothing in the programs of those who read them: links and cells."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from pydantic import ValidationError

from cubeport.cubes.pictures.looks import Look
from cubeport.documents import griddap, maps, webmaps
from cubeport.documents.table import quoted
from cubeport.documents.texts import Provider, Texts
from cubeport.service.templates import SourceBlock, TemplateFields

BAD = (
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,<script>",
    "vbscript:x",
    "file:///etc/passwd",
    "//evil.example",
    "x",
    "",
)
GOOD = ("https://creativecommons.org/licenses/by/4.0/", "http://example.org/a?b=c#d")


@pytest.mark.parametrize("address", BAD)
def test_only_web_addresses_become_links(address: str) -> None:
    for make in (
        lambda: TemplateFields(license_url=address),
        lambda: SourceBlock(kind="files", paths=("a",), homepage=address),
        lambda: Provider(name="x", url=address),
    ):
        with pytest.raises(ValidationError, match="http"):
            make()
    kept = Texts(dataset_id="a", title="A", description="A", license_url=address, source_url=address)
    assert (kept.license_url, kept.source_url) == (None, None)


@pytest.mark.parametrize("address", GOOD)
def test_web_addresses_stay_as_they_are(address: str) -> None:
    assert TemplateFields(license_url=address).license_url == address
    assert Texts(dataset_id="a", title="A", description="A", license_url=address).license_url == address


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(1,2)", '"\'@SUM(1,2)"'),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3+cmd", "'-2+3+cmd"),
        ("\t=1", "'\t=1"),
        ("\r=1", '"\'\r=1"'),
        ("-", "'-"),
        ("-1.5e-3", "-1.5e-3"),
        ("+12", "+12"),
        ("-0044-03-15T00:00:00Z", "-0044-03-15T00:00:00Z"),
        ("Station = 4", "Station = 4"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text: str, cell: str) -> None:
    assert quoted(text).decode() == cell


@pytest.mark.parametrize("text", ["SST\x00\x01", "a\ud800b\uffff", "]]>&lt;<x a='\"'>", "tab\tline\n"])
def test_xml_is_well_formed_whatever_the_texts_of_a_dataset(text: str) -> None:
    """Titles that a program padded with zeros, and texts that look like markup."""
    times = webmaps.Dimension("time", "time", "ISO8601", text, ("2020-01-01T00:00:00Z",), "2020-01-01T00:00:00Z")
    layer = webmaps.Layer(
        text, text, (-10.0, -10.0, 10.0, 10.0), ("CRS:84",), "viridis", ("viridis",), (times,), "http://a/l", "http://a/t"
    )
    kept = text.replace("\x00", "").replace("\x01", "").replace("\ud800", "").replace("\uffff", "")
    described = griddap.Described("t", "float", ("time",), 0, {"long_name": text})
    for content, name in (
        (webmaps.wms(text, text, [layer], "http://a", most_side=4, attribution=text), "{http://www.opengis.net/wms}Title"),
        (webmaps.wmts(text, text, [layer], "http://a"), "{http://www.opengis.net/ows/1.1}Title"),
        (webmaps.wms_problem(text, text), "{http://www.opengis.net/ogc}ServiceException"),
        (webmaps.wmts_problem("x", text, text), "{http://www.opengis.net/ows/1.1}ExceptionText"),
        (maps.legend_svg(text, text, Look("viridis", 0.0, 1.0)), "{http://www.w3.org/2000/svg}text"),
    ):
        found = [each.text or "" for each in ET.fromstring(content).iter(name)]
        assert any(kept in each for each in found), (name, found)
    root = ET.fromstring(griddap.ncml("http://a", {"title": text}, [described]))
    assert [each.get("value") for each in root.iter() if each.tag.endswith("attribute")] == [kept, kept]
