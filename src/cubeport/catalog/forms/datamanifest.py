"""A list of sources as a ``datamanifest.toml`` (spec-v5.9, schema 1): datasets by name, each with its URL and checksum.

Tables whose names begin with ``_`` belong to the specification or to other tools and are not changed. A checksum is added as a line
of text, so comments, order and unknown fields stay.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cubeport.errors import InvalidRequest

SCHEMA = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"uri": str, "sha256": str, "format": str, "version": str, "description": str, "storage_path": str}
_HEADER = re.compile(r"^\s*\[\s*(?P<name>[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')\s*\]\s*(?:#.*)?$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A dataset in the list."""

    name: str
    uri: str | None
    """The URL; ``None`` for a dataset that a function makes."""
    sha256: str | None
    format: str | None
    description: str | None
    uris: tuple[str, ...]
    """The URLs of a dataset of several files, which has no ``uri``."""
    is_external: bool
    """Whether nobody may fetch it (``skip_download``)."""
    own: Mapping[str, Any]
    """The table ``_CUBEPORT``, with fields of an ingestion request (``template``, ``mode``, …) and ``dataset_id``."""


def text_of(data: bytes) -> str:
    """Return the text of a list with its own ends of lines. Raises InvalidRequest if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidRequest(
            f"The list of sources is not UTF-8: byte {exc.start} is 0x{data[exc.start]:02x}.", next_step="save it as UTF-8"
        ) from None


def read(text: str) -> list[Entry]:
    """Return the datasets of a list, in the order of the file.

    Raises
    ------
    InvalidRequest
        With all problems: invalid TOML, another schema, fields of wrong types, an invalid checksum.
    """
    try:
        document = _loaded(text)
    except tomllib.TOMLDecodeError as exc:
        raise InvalidRequest(f"The list of sources is not TOML: {exc}.") from None
    problems = []
    schema = document.get("_META", {}).get("schema") if isinstance(document.get("_META", {}), Mapping) else None
    if schema != SCHEMA:
        said = "it does not say its schema" if schema is None else f"its schema is {schema!r}, and cubeport reads {SCHEMA}"
        problems.append(f"{said}: write [_META] and below it schema = {SCHEMA}")
    found = []
    for name, table in document.items():
        if name.startswith("_"):
            continue
        if not isinstance(table, Mapping):
            problems.append(f"{name} is not a table")
            continue
        for field, kind in _FIELDS.items():
            if field in table and not isinstance(table[field], kind):
                problems.append(f"{name}.{field} is not text")
        uris = table.get("uris", [])
        if not isinstance(uris, list) or not all(isinstance(each, str) for each in uris):
            problems.append(f"{name}.uris is not a list of texts")
            uris = []
        if uris and table.get("uri"):
            problems.append(f"{name} has both uri and uris: keep one of them")
        if not isinstance(table.get("skip_download", False), bool):
            problems.append(f"{name}.skip_download is neither true nor false")
        own = table.get("_CUBEPORT", {})
        if not isinstance(own, Mapping):
            problems.append(f"{name}._CUBEPORT is not a table")
            own = {}
        sha256 = table.get("sha256")
        if isinstance(sha256, str) and not _SHA256.fullmatch(sha256):
            problems.append(f"{name}.sha256 is not 64 hexadecimal digits in small letters")
        found.append(
            Entry(
                name,
                table.get("uri") or None,
                sha256,
                table.get("format"),
                table.get("description"),
                tuple(uris),
                table.get("skip_download", False) is True,
                dict(own),
            )
        )
    if problems:
        raise InvalidRequest("The list of sources cannot be read: " + "; ".join(problems[:20]) + ".")
    return found


def fill(text: str, checksums: Mapping[str, str]) -> str:
    """Return the list with ``sha256`` added to the tables of these datasets, which have none yet. Nothing else changes.

    Raises
    ------
    InvalidRequest
        If a line cannot be added to a table, because it is inline or uses dotted keys.
    """
    lines, wanted = text.splitlines(keepends=True), dict(checksums)
    out: list[str] = []
    for line in lines:
        out.append(line)
        header = _HEADER.match(line.removeprefix("\ufeff"))
        name = _plain(header["name"]) if header is not None else None
        if name in wanted:
            end = "\r\n" if "\r\n" in text else "\n"
            if not line.endswith("\n"):
                out[-1] += end
            out.append(f'sha256 = "{wanted.pop(name)}"{end}')
    filled = "".join(out)
    if wanted or _without(filled, checksums) != _loaded(text):
        names = ", ".join(sorted(wanted or checksums))
        raise InvalidRequest(
            f"The checksum of {names} cannot be added: its table is not written as a header of its own.",
            next_step="write it as [name]",
        )
    return filled


def _loaded(text: str) -> dict[str, Any]:
    """Return the document of a text, which may begin with a byte order mark, as editors on Windows write it."""
    return tomllib.loads(text.removeprefix("\ufeff").replace("\r\n", "\n"))


def _plain(name: str) -> str:
    if name[0] == '"':
        text: str = json.loads(name)
        return text
    return name.strip("'")


def _without(text: str, checksums: Mapping[str, str]) -> dict[str, Any]:
    """Return the document without the checksums that were added."""
    document = _loaded(text)
    for name, sha256 in checksums.items():
        if isinstance(document.get(name), dict) and document[name].get("sha256") == sha256:
            del document[name]["sha256"]
    return document
