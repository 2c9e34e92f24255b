"""What a request says, checked once: its query, its JSON body, its preferences. Every problem is told at once, no value echoed.

The framework's own readers take UTF-16, duplicate keys and NaN, keep the last of repeated parameters, and echo what was sent.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.types import Receive

from cubeport.errors import InvalidRequest, Problem, TooLarge, UnsupportedMediaType, UriTooLong

MAX_BODY = 1 << 20
MAX_DEPTH = 64
MAX_QUERY = 8 << 10
MAX_PARAMETERS = 100

_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Model(BaseModel):
    """Parameters or a body: frozen, and nothing that is not named here."""

    model_config = {"frozen": True, "extra": "forbid"}


class NoParameters(Model):
    """A query that takes nothing."""


def check_bbox(text: str) -> str:
    """Return *text* if it is a box; west > east crosses the antimeridian. Raises ValueError."""
    parts = text.split(",")
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError as exc:
        raise ValueError("must be west,south,east,north in degrees") from exc
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError("must be west,south,east,north in degrees, south not above north")
    return text


BBox = Annotated[Annotated[str, AfterValidator(check_bbox)], Field(description="west,south,east,north; west > east crosses 180°")]
Limit = Annotated[int, Field(ge=1, le=1000)]
Cursor = Annotated[str, Field(max_length=1000)]


class PageQuery(Model):
    """What a plain list takes."""

    limit: Limit = 100
    cursor: Cursor | None = None


class FormQuery(Model):
    """What an address with pages takes."""

    f: Literal["json", "html"] | None = None


def query[M: BaseModel](query_string: bytes, model: type[M]) -> M:
    """Return the parameters as *model*, each given at most once.

    Raises
    ------
    UriTooLong
        Over 8 KiB.
    InvalidRequest
        With every unknown, repeated or malformed parameter.
    """
    values, problems = parameters(query_string)
    try:
        checked = model.model_validate(values)
    except ValidationError as exc:
        problems += described(exc, "query")
        checked = None
    if problems or checked is None:
        raise InvalidRequest(_summary(problems, "parameter"), errors=problems)
    return checked


def parameters(query_string: bytes) -> tuple[dict[str, str], list[Problem]]:
    """Return the parameters by name, and what is wrong with their writing; see :func:`pairs`."""
    found, problems = pairs(query_string)
    values: dict[str, str] = {}
    for name, value in found:
        if name in values:
            problems.append(Problem(("query", name), "repeated", "is given more than once"))
        values[name] = value
    return values, problems


def pairs(query_string: bytes) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Return names and values in their order, repeated ones too, and what is wrong with their writing.

    Raises
    ------
    UriTooLong
        Over 8 KiB.
    InvalidRequest
        For more than 100 parameters.
    """
    if len(query_string) > MAX_QUERY:
        raise UriTooLong(f"The query is longer than {MAX_QUERY} bytes", limit=MAX_QUERY, value=len(query_string), unit="bytes")
    parts = [part for part in query_string.split(b"&") if part]
    if len(parts) > MAX_PARAMETERS:
        raise InvalidRequest(f"There are more than {MAX_PARAMETERS} parameters")
    found: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for part in parts:
        name, _, value = part.partition(b"=")
        try:
            found.append((_decoded(name), _decoded(value)))
        except ValueError as exc:
            problems.append(Problem(("query",), "bad-text", f"a parameter {exc}"))
    return found, problems


def _decoded(raw: bytes) -> str:
    if _BAD_PERCENT.search(raw):
        raise ValueError("has a % that is not followed by two hex digits")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError("is not UTF-8") from exc
    if _CONTROL.search(text):
        raise ValueError("holds a control character")
    return text


async def body(request: Request, *, may_be_empty: bool = False) -> Any:
    """Return the JSON body, read strictly (safety.md 4).

    Raises
    ------
    UnsupportedMediaType
        Not ``application/json`` in UTF-8, or with a content encoding.
    TooLarge
        Over 1 MiB; seen from its declared length before any of it is read.
    InvalidRequest
        Not JSON, or equal keys, NaN, an infinite or endless number, lone surrogates, more than 64 levels.
    """
    raw = await _read(request.headers, request.receive, MAX_BODY)
    if not raw and may_be_empty:
        return {}
    _check_media_type(request.headers)
    return strict_json(raw)


def _check_media_type(headers: Mapping[str, str]) -> None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("A body with a content encoding is not taken", next_step="Send it as it is.")
    media_type, *options = (part.strip().lower() for part in headers.get("content-type", "").split(";"))
    charsets = [option.removeprefix("charset=").strip('"') for option in options if option.startswith("charset=")]
    if media_type != "application/json" or any(charset != "utf-8" for charset in charsets):
        raise UnsupportedMediaType("The body must be application/json in UTF-8", next_step="Send Content-Type: application/json.")


async def _read(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise InvalidRequest("The request ended before its body did")
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes", limit=limit, unit="bytes")


def strict_json(raw: bytes) -> Any:
    """Return the value of a JSON text in UTF-8; see :func:`body`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _not_json("is not UTF-8") from exc
    if _depth(text) > MAX_DEPTH:
        raise _not_json(f"is nested deeper than {MAX_DEPTH} levels")
    problems: list[Problem] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(found)
        if len(value) < len(found):
            names = [name for name, _ in found]
            doubled = sorted({name for name in names if names.count(name) > 1})
            problems.extend(Problem(("body", name), "duplicate-key", "is here more than once") for name in doubled)
        return value

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=_constant, parse_float=_finite)
    except json.JSONDecodeError as exc:
        raise _not_json(f"is not JSON: {exc.msg} in line {exc.lineno}, column {exc.colno}") from exc
    except (ValueError, RecursionError) as exc:  # a number of more than 4 300 digits; NaN
        raise _not_json("holds a number that cannot be read") from exc
    if _has_surrogate(value):
        problems.append(Problem(("body",), "bad-text", "holds half of a surrogate pair"))
    if problems:
        raise InvalidRequest(_summary(problems, "member"), errors=problems)
    return value


def validated[M: BaseModel](value: Any, model: type[M]) -> M:
    """Return a JSON *value* as *model*; pydantic's strict mode is off for texts of periods, but no value is coerced silently."""
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as exc:
        problems = described(exc, "body")
        raise InvalidRequest(_summary(problems, "member"), errors=problems) from None


def described(exc: ValidationError, place: str) -> list[Problem]:
    """Return pydantic's errors in our words, without the values that were sent."""
    return [
        Problem((place, *error["loc"]), _kind(error["type"]), _words(error["type"], error["msg"]))
        for error in exc.errors(include_url=False, include_input=False, include_context=False)
    ]


_KINDS = {"extra_forbidden": "unknown", "missing": "required", "literal_error": "not-a-choice"}


def _kind(kind: str) -> str:
    return _KINDS.get(kind, kind.replace("_", "-"))


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "is not known here"
    return "is required" if kind == "missing" else message.removeprefix("Value error, ")


def _summary(problems: list[Problem], what: str) -> str:
    if len(problems) == 1:
        [problem] = problems
        where = ".".join(str(part)[:100] for part in problem.loc[1:])
        return f"{where}: {problem.message}" if where else f"The request {problem.message}"
    return f"{len(problems)} {what}s are not valid; errors lists them"


def _depth(text: str) -> int:
    """Return how deep the brackets outside strings go, in one pass, before a parser recurses."""
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("infinite")
    return value


def _has_surrogate(value: Any) -> bool:
    match value:
        case str():
            return any("\ud800" <= character <= "\udfff" for character in value)
        case dict():
            return any(_has_surrogate(name) or _has_surrogate(item) for name, item in value.items())
        case list():
            return any(_has_surrogate(item) for item in value)
    return False


def _not_json(why: str) -> InvalidRequest:
    return InvalidRequest(f"The body {why}", errors=[Problem(("body",), "bad-json", why)])


_WAIT = re.compile(r"wait=(\d{1,6})")


def preferred_wait(prefer: Iterable[str], longest: float) -> tuple[float, str | None]:
    """Return how many seconds to wait by ``Prefer`` (RFC 7240), and what ``Preference-Applied`` says of it."""
    for part in (part.strip().lower() for line in prefer for part in line.split(",")):
        if part == "respond-async":
            return 0.0, "respond-async"
        if found := _WAIT.fullmatch(part.replace(" ", "")):
            return min(float(found[1]), longest), f"wait={min(int(found[1]), int(longest))}"
    return longest, None
