"""The licence in the global attribute ``license`` (ACDD) or ``licence`` of a file: identifier, link and text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_URL = re.compile(r"https?://[^\s<>\"\'()]+")
_CREATIVE = re.compile(
    r"(?:creative\s+commons|cc)[\s-]*(?P<kind>by(?:[\s-]*(?:nc|sa|nd))*|attribution(?:[\s-]*(?:non[\s-]*commercial|share[\s-]*alike|no[\s-]*derivatives))*)"
    r"(?:[\s-]*(?:international|unported|licen[cs]e|\(.{1,20}?\)))*[\s-]*v?(?P<version>[1-4]\.\d)",
    re.IGNORECASE,
)
_WORDS = (("attribution", "BY"), ("noncommercial", "NC"), ("sharealike", "SA"), ("noderivatives", "ND"))
_PLAIN = re.compile(r"CC0-1\.0|CC-BY(?:-(?:NC|SA|ND))*-[1-4]\.\d|ODbL-1\.0|ODC-By-1\.0|PDDL-1\.0|OGL-UK-[123]\.0|MIT|Apache-2\.0")
_TEXT = 2_000
_EXPRESSION = 200
"""The largest number of characters in an SPDX expression."""
_NAME = 60
"""The largest number of characters in the name of a licence."""


UNSTATED = "various"
"""What is kept of data whose licence nobody has stated. No face shows it, because it would be read as a statement."""


def in_words(license: str | None, url: str | None) -> str:
    """Return a licence for people."""
    if license is None or license == UNSTATED:
        return "not stated"
    return "as stated in the attribution" if license == "other" and url is None else license


@lru_cache(1_000)
def spdx(text: str) -> str | None:
    """Return an SPDX expression with its identifiers spelled as SPDX does, or ``None`` if *text* is none."""
    # The core, which is installed without it, loads this module too.
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if len(text) > _EXPRESSION:
        return None
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return None


def in_stac(license: str) -> str:
    """Return the ``license`` of a STAC document: an SPDX expression, or ``other`` (STAC Collection 1.1)."""
    return spdx(license) or "other"


def doubt(license: str | None, url: str | None) -> str | None:
    """Return a warning about a licence that no program can recognise, or ``None``."""
    if license is None or license == UNSTATED or spdx(license) is not None or (license == "other" and url is not None):
        return None
    words = f"The licence {license[:_NAME]!r} is not an SPDX identifier such as CC-BY-4.0, so STAC says 'other'."
    return words if url is not None else f"{words} license_url (--license-url) gives the address of its text."


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a file."""

    identifier: str
    """An SPDX identifier if the text names exactly one licence, otherwise ``other`` (STAC 1.1, "license")."""
    url: str | None
    text: str
    """The first 2,000 characters of the text in the file."""


def stated(attributes: Mapping[str, Any]) -> Licence | None:
    """Return the licence in the attributes of a file, or ``None`` if there is none."""
    lowered = {key.lower(): value for key, value in attributes.items() if isinstance(value, str) and value.strip()}
    words = next((" ".join(lowered[name].split()) for name in ("license", "licence", "license_id") if name in lowered), None)
    if words is None:
        return None
    url = _URL.search(words)
    return Licence(_identifier(words), url[0].rstrip(".,;") if url else None, words[:_TEXT])


def _identifier(text: str) -> str:
    if len(text) > _NAME:
        return "other"  # a sentence can add conditions to the licence that it names
    found = {each[0] for each in _PLAIN.finditer(text)} | {_creative(each) for each in _CREATIVE.finditer(text)}
    return found.pop() if len(found) == 1 else "other"


def _creative(found: re.Match[str]) -> str:
    kind = re.sub(r"[\s-]+", "", found["kind"].lower())
    parts = [short for word, short in _WORDS if word in kind] or [p for p in ("BY", "NC", "SA", "ND") if p.lower() in kind]
    return f"CC-{'-'.join(parts)}-{found['version']}"
