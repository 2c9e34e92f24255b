"""XML as trees of the standard library. Texts of datasets may have characters that XML 1.0 does not allow; these are left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET
from xml.sax import saxutils

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

type Element = ET.Element


def legal(text: str) -> str:
    """Return a text with only the characters of XML 1.0 (2.2)."""
    return _ILLEGAL.sub("", text)


def escape(text: str) -> str:
    """Return a text as it is written between two tags."""
    return saxutils.escape(legal(text))


def quoteattr(text: str) -> str:
    """Return a text as the value of an attribute, in quotation marks."""
    return saxutils.quoteattr(legal(text))


def element(name: str, *inside: Element | str, attributes: Mapping[str, str] | None = None) -> Element:
    """Return an element with a text, or with elements.

    Parameters
    ----------
    name
        With its prefix, whose namespace is an attribute ``xmlns:…`` of the root.
    """
    made = ET.Element(name, {key: legal(value) for key, value in (attributes or {}).items()})
    for each in inside:
        if isinstance(each, str):
            made.text = legal(each)
        else:
            made.append(each)
    return made


def document(root: Element, *, indented: bool = False) -> bytes:
    """Return the document in UTF-8, with its declaration."""
    if indented:
        ET.indent(root)
    content: bytes = ET.tostring(root, "utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + content
