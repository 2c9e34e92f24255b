"""The common forms of all documents of the catalog: JSON, timestamps, ids and names.

Each value has exactly one text (sorted keys, UTF-8, no NaN), so that equal values give equal bytes on disk, over HTTP and in
digests.
"""

from __future__ import annotations

import json
import math
import re
import secrets
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo

from cubeport.catalog.forms.clock import now as now
from cubeport.errors import InvalidRequest, Problem
from cubeport.leap import without_leap

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None

MAX_DEPTH = 32
"""The largest nesting depth of a document."""

MAX_KEY = 256
"""The largest number of characters in a key of a document."""

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_ID = re.compile(r"[0-9a-f]{32}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def new_id() -> str:
    """Return a random id of 32 lower-case hex digits.

    It is random instead of time-ordered, so that five characters are enough to select one of 1,000 records added together.
    """
    return secrets.token_hex(16)


def is_id(text: str) -> bool:
    """Return whether *text* is a complete id."""
    return _ID.fullmatch(text) is not None


def timestamp(instant: datetime) -> str:
    """Return *instant* as RFC 3339 in UTC with six decimals and ``Z``, so that text order is time order."""
    if instant.tzinfo is not UTC:
        instant = instant.astimezone(UTC)
    return instant.isoformat(timespec="microseconds")[:26] + "Z"


def json_value(value: object, path: str = "$") -> Json:
    """Return *value* as plain JSON: datetimes, paths and numpy scalars become text or numbers.

    Raises
    ------
    InvalidRequest
        With the place of a value that JSON cannot express: NaN, infinity, U+0000, bytes, an unknown type, nesting above
        :data:`MAX_DEPTH`, or a key that is empty or longer than :data:`MAX_KEY`.
    """
    try:
        return _copied(value, 0)
    except _OddError:
        return _json(value, path, 0)


class _OddError(Exception):
    """A value is not plain JSON."""


def _copied(value: Any, depth: int) -> Json:
    """Return a copy of plain JSON, which is the usual case. Any other value raises, and is then processed with its place."""
    kind = type(value)
    if kind is str:
        if "\0" in value or not (value.isascii() or _SURROGATE.search(value) is None):
            raise _OddError
    elif kind is dict:
        if depth >= MAX_DEPTH:
            raise _OddError
        for key in value:
            if type(key) is not str or not key.isascii() or "\0" in key or not 1 <= len(key) <= MAX_KEY:
                raise _OddError
        return {key: _copied(each, depth + 1) for key, each in value.items()}
    elif kind is list:
        if depth >= MAX_DEPTH:
            raise _OddError
        return [_copied(each, depth + 1) for each in value]
    elif kind is float:
        if not math.isfinite(value):
            raise _OddError
    elif kind is not int and kind is not bool and value is not None:
        raise _OddError
    return value  # type: ignore[no-any-return]  # only plain values remain


def _json(value: object, path: str, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise _unsayable(path, f"is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool():
            return value
        case str():
            return _text(value, path)
        case int():
            return int(value)
        case float():
            if not math.isfinite(value):
                raise _unsayable(path, "is not a finite number")
            return float(value)
        case datetime():
            return timestamp(value if value.tzinfo else value.replace(tzinfo=UTC))
        case PurePath():
            return _text(str(value), path)
        case Mapping():
            return {_key(k, path): _json(v, f"{path}.{k}", depth + 1) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            items = sorted(value) if isinstance(value, (set, frozenset)) else value
            return [_json(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(items)]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy scalars, without importing numpy
        return _json(value.item(), path, depth)
    if hasattr(value, "isoformat"):
        return _text(str(value.isoformat()), path)
    raise _unsayable(path, f"is a {type(value).__name__}, which JSON cannot represent")


def in_utf8(name: str) -> str:
    r"""Return the name of a file as text: bytes that are not UTF-8 become ``\xe9``."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _text(value: str, path: str) -> str:
    if "\0" in value or (not value.isascii() and _SURROGATE.search(value)):
        raise _unsayable(path, "contains U+0000 or a lone surrogate")
    return str(value)


def _key(key: object, path: str) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
        raise _unsayable(path, f"has a key that is not a text of 1 to {MAX_KEY} characters")
    return _text(key, path)


def _unsayable(path: str, why: str) -> InvalidRequest:
    message = f"{path} {why}"
    return InvalidRequest(message, errors=[Problem((path,), "invalid-json", message)])


def dumps(value: object, *, indent: bool = False) -> str:
    """Return the canonical JSON text of *value*: sorted keys at all levels, on one line or indented by two."""
    return (_PRETTY if indent else _PLAIN).encode(value)


_PLAIN = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_PRETTY = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)


def check_name(text: str) -> str:
    """Return *text* if it is a valid name (kind, schema, profile, plugin, hook, relation), otherwise raise ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError("must be 1 to 64 of a-z 0-9 . _ - and begin with a letter")
    return text


def check_plain(text: str, longest: int) -> str:
    """Return *text* if it has 1 to *longest* characters and no control characters, otherwise raise ValueError."""
    plain = text.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)
    if not 1 <= len(text) <= longest or not plain:
        raise ValueError(f"must be 1 to {longest} characters without control characters")
    return text


def _check_id(text: str) -> str:
    if not is_id(text):
        raise ValueError("must be 32 lower-case hex digits")
    return text


def _instant(value: object) -> object:
    if isinstance(value, str):
        value = datetime.fromisoformat(without_leap(value))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("must name its offset from UTC, for example a final Z")
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    raise ValueError("must be an RFC 3339 timestamp")


TRUSTED = object()
"""The validation context for documents from our own store, which are already plain JSON."""


def _json_object(value: object, info: ValidationInfo) -> object:
    return value if info.context is TRUSTED else json_value(value, "$")


type Id = Annotated[str, AfterValidator(_check_id)]
type Name = Annotated[str, AfterValidator(check_name)]
type Tag = Annotated[str, AfterValidator(lambda text: check_plain(text, 128))]
type Key = Annotated[str, AfterValidator(lambda text: check_plain(text, 512))]
type Timestamp = Annotated[datetime, BeforeValidator(_instant), PlainSerializer(timestamp, when_used="json")]
type JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object)]
