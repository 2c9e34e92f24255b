"""The licence that a file states: nothing is made of what it does not say."""

from __future__ import annotations

import pytest

from cubeport.documents.licences import UNSTATED, doubt, spdx, stated

CMIP6 = (
    "CMIP6 model data produced by IPSL is licensed under a Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International"
    " License (https://creativecommons.org/licenses). Consult https://pcmdi.llnl.gov/CMIP6/TermsOfUse for terms of use."
)


@pytest.mark.parametrize(
    ("words", "identifier", "url"),
    [
        (CMIP6, "other", "https://creativecommons.org/licenses"),
        ("CC-BY-4.0", "CC-BY-4.0", None),
        ("CC BY 4.0", "CC-BY-4.0", None),
        ("Creative Commons Attribution 4.0 International", "CC-BY-4.0", None),
        ("CC BY-NC-SA 3.0", "CC-BY-NC-SA-3.0", None),
        ("CC0-1.0", "CC0-1.0", None),
        ("Freely available", "other", None),
        ("CC BY 4.0 or CC BY-SA 4.0", "other", None),
        ("see https://example.org/terms.", "other", "https://example.org/terms"),
        ("javascript:alert(1)", "other", None),
    ],
)
def test_words_become_an_identifier_only_where_they_are_one(words: str, identifier: str, url: str | None) -> None:
    found = stated({"license": words})
    assert found is not None
    assert (found.identifier, found.url, found.text) == (identifier, url, words)


def test_nothing_stated_is_nothing() -> None:
    assert stated({"title": "x", "license": " "}) is None
    assert stated({"License": "MIT"}) is not None


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("CC-BY-4.0", "CC-BY-4.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("LicenseRef-Ours", "LicenseRef-Ours"),
        ("nonsense", None),
        ("various", None),
        ("other", None),
        ("CC BY 4.0", None),
        ("(" * 190, None),
        ("MIT OR " * 100 + "MIT", None),
        ("__import__('os')", None),
    ],
)
def test_spdx_expressions_are_known_and_nothing_else(text: str, known: str | None) -> None:
    assert spdx(text) == known


def test_a_licence_that_no_program_knows_is_doubted_and_its_address_asked_for() -> None:
    assert doubt("CC-BY-4.0", None) is None
    assert doubt(None, None) is None
    assert doubt(UNSTATED, None) is None
    assert doubt("other", "https://example.org/terms") is None
    assert "--license-url" in str(doubt("nonsense", None))
    assert "--license-url" not in str(doubt("nonsense", "https://example.org/terms"))
