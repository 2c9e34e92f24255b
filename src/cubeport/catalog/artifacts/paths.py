"""Path templates such as ``{year_added}/{title_slug|original_stem}{original_suffix}``, which give plain path segments.

``str.format`` is not used, because a caller can provide a template, and ``{a.__class__}`` must have no meaning. Separators in
values become ``_``, so a value cannot create or leave a folder.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cubeport.catalog.artifacts.naming import split_suffix
from cubeport.catalog.forms.names import latin
from cubeport.errors import InvalidTemplate, PathEscapes

DIRECTORY = "{year_added}/{original_stem}"
FILENAME = "{title_slug|original_stem}{original_suffix}"
"""The default template of file names if neither the call, the profile nor ``catalog.yaml`` has one."""

ATTACHED = "{original_stem}{original_suffix}"
"""The default template of the file names of additional artifacts."""

FIELDS = (
    "date_added", "year_added", "month_added", "day_added", "original_filename", "original_stem", "original_suffix", "title_slug",
    "key_slug", "kind", "schema_name", "role", "id", "object_id", "sha256", "year_month",
)  # fmt: skip
"""The fields of all templates, in addition to ``metadata.a.b`` and those of plugins."""

SEGMENT_BYTES = 120

_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"(?P<name>[a-z_]+|metadata(?:\.[^.|:{}]+)+)(?::(?P<length>[1-9]\d{0,2}))?")

type Field = str | Callable[[], str]
"""A value, or a function for it if it is expensive (``sha256`` reads the source)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """``{a|b:8}``: the first value that is not empty, truncated to this many characters."""

    names: tuple[tuple[str, int | None], ...]


def parse(template: str, known: Mapping[str, object] | None = None) -> list[str | Choice]:
    """Return the literals and choices of *template*.

    Raises
    ------
    InvalidTemplate
        With the position of the problem, and similar names for an unknown field.
    """
    parts: list[str | Choice] = []
    end = 0
    for token in _TOKEN.finditer(template):
        parts.append(template[end : token.start()])
        end = token.end()
        if token[0] in ("{{", "}}"):
            parts.append(token[0][0])
        elif token[1] is None:
            raise _wrong(f"Template {template!r}: {token[0]} at {token.start() + 1} is single; write it twice.")
        else:
            parts.append(_choice(template, token[1], known))
    parts.append(template[end:])
    return [part for part in parts if part != ""]


def _choice(template: str, text: str, known: Mapping[str, object] | None) -> Choice:
    names = []
    for each in text.split("|"):
        found = _NAME.fullmatch(each)
        if found is None:
            raise _wrong(f"Template {template!r}: {each!r} is not a field; write {{a}}, {{a|b}} or {{a:8}}.")
        name = found["name"]
        if known is not None and name not in known and not name.startswith("metadata."):
            near = get_close_matches(name, known, 1)
            words = f"; do you mean {near[0]}?" if near else "."
            raise _wrong(f"Template {template!r}: there is no field {name}{words}")
        names.append((name, int(found["length"]) if found["length"] else None))
    return Choice(tuple(names))


def _wrong(text: str) -> InvalidTemplate:
    return InvalidTemplate(text, next_step="cubeport profiles")


def render(template: str, fields: Mapping[str, Field], metadata: Mapping[str, object] | None = None) -> str:
    """Return the relative path for *template*, with plain segments.

    Raises
    ------
    InvalidTemplate
        If it does not match the grammar.
    PathEscapes
        If the path is absolute, contains ``..``, or has an empty segment.
    """
    text = ""
    for part in parse(template, fields):
        text += part if isinstance(part, str) else _FORBIDDEN.sub("_", _first(part, fields, metadata or {}))
    if text.startswith("/"):
        words = f"Template {template!r} makes an absolute path; give one relative to the profile."
        raise PathEscapes(words, next_step="cubeport profiles")
    return "/".join(segment(each, template) for each in text.split("/"))


def _first(choice: Choice, fields: Mapping[str, Field], metadata: Mapping[str, object]) -> str:
    for name, length in choice.names:
        found = fields.get(name) if name in fields else _inner(metadata, name.split(".")[1:])
        value = found() if callable(found) else "" if found is None else str(found)
        if value:
            return value[:length]
    return ""


def _inner(metadata: object, path: list[str]) -> str | None:
    for name in path:
        metadata = metadata.get(name) if isinstance(metadata, Mapping) else None
    return None if isinstance(metadata, (Mapping, list)) or metadata is None else str(metadata)


def segment(text: str, template: str | None = None) -> str:
    """Return *text* as a plain path segment: NFC, no forbidden characters, no leading dot, at most 120 bytes."""
    if text in ("", ".", ".."):
        where = f"Template {template!r}" if template is not None else "The name"
        raise PathEscapes(f"{where} gives {'an empty segment' if not text else repr(text)}.", next_step="cubeport profiles")
    text = unicodedata.normalize("NFC", text)
    text = "".join("_" if unicodedata.category(c) in ("Cc", "Cs") else c for c in _FORBIDDEN.sub("_", text))
    if text.startswith("."):
        text = "_" + text[1:]
    if len(text.encode()) <= SEGMENT_BYTES:
        return text
    stem, suffix = split_suffix(text)
    return stem.encode()[: SEGMENT_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix


def slug(text: str | None) -> str:
    """Return *text* as lower-case ASCII words joined by ``-``. Diacritics are removed; other characters separate words."""
    return "-".join(re.findall(r"[a-z0-9]+", latin(text or "")))
