"""Texts that others wrote do nothing in the programs of those who read them: links and cells."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

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
