"""Validate requests once: the query, the JSON body and the preferences. All problems are reported together (the first 20), without
values.

The framework's own parsers accept UTF-16, duplicate keys and NaN, use the last of repeated parameters, and echo what was sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from starlette.requests import Request
from starlette.types import Receive

from cubeport.catalog.forms import strictjson, wording
from cubeport.errors import InvalidRequest, Problem, TooLarge, UnsupportedMediaType, UriTooLong
from cubeport.leap import without_leap
from cubeport.server.threads import run_in

MAX_BODY = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""The largest number of JSON values in a body, unless the route accepts geometries."""
MAX_MEMBERS = 1_000
"""The largest number of members of one object."""
MAX_ERRORS = 20
"""How many problems are listed. If there are more, their number is given."""
MAX_QUERY = 8 << 10
MAX_PARAMETERS = 100

_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT = 4 << 10
"""Bodies up to this size are parsed on the event loop, because a thread would cost more."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Model(BaseModel):
    """Parameters or a body: an immutable value that refuses unknown names."""

    model_config = {"frozen": True, "extra": "forbid"}


class NoParameters(Model):
    """A query without parameters."""


def check_moment(text: object) -> object:
    """Return the instant that a parameter says. Raises ValueError."""
    if not isinstance(text, str):
        return text
    try:
        found = datetime.fromisoformat(without_leap(text))
    except ValueError as exc:
        raise ValueError(_NO_MOMENT) from exc
    if found.tzinfo is None and len(text) == _DAY:
        found = found.replace(tzinfo=UTC)
    if found.tzinfo is None:
        raise ValueError(_NO_MOMENT)
    return found


_NO_MOMENT = "must be an RFC 3339 instant such as 2024-01-31T00:00:00Z, or a day"
_DAY = len("2024-01-31")


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
Moment = Annotated[datetime, BeforeValidator(check_moment)]
"""An instant: RFC 3339 with its zone, or a day, which begins at midnight UTC."""
Ref = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
"""A version id, a tag or ``latest``."""
Limit = Annotated[int, Field(ge=1, le=1000)]
Cursor = Annotated[str, Field(max_length=1000)]


class PageQuery(Model):
    """The parameters of a plain list."""

    limit: Limit = 100
    cursor: Cursor | None = None


class FormQuery(Model):
    """The parameters of a URL that has a page."""

    f: Literal["json", "html"] | None = None


def query[M: BaseModel](query_string: bytes, model: type[M], *, lists: Collection[str] = (), joined: Collection[str] = ()) -> M:
    """Return the parameters as *model*. Each may be given at most once, except the *lists*, and the *joined*, whose texts are put
    together with commas.

    Raises
    ------
    UriTooLong
        Over 8 KiB.
    InvalidRequest
        With all unknown, repeated and malformed parameters.
    """
    values: dict[str, Any]
    values, problems = parameters(query_string, (*lists, *joined))
    values |= {name: ",".join(values[name]) for name in joined if name in values}
    try:
        checked = model.model_validate(values)
    except ValidationError as exc:
        problems += described(exc, "query", model)
        checked = None
    if problems or checked is None:
        told = {"next_step": _known(model)} if any(each.kind == "unknown" for each in problems) else {}
        raise InvalidRequest(_summary(problems, "parameter"), errors=problems[:MAX_ERRORS], **told)
    return checked


def _known(model: type[BaseModel]) -> str:
    names = sorted(field.alias or name for name, field in model.model_fields.items())
    return f"this address takes {', '.join(names)}" if names else "ask without parameters"


def parameters(query_string: bytes, lists: Collection[str] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Return the parameters by name, and encoding problems; see :func:`pairs`. Those of *lists* are lists of texts."""
    found, problems = pairs(query_string)
    values: dict[str, Any] = {}
    for name, value in found:
        if name in lists:
            values.setdefault(name, []).append(value)
            continue
        if name in values:
            problems.append(Problem(("query", name), "repeated", "is given more than once"))
        values[name] = value
    return values, problems


def pairs(query_string: bytes) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Return names and values in order, including repeated ones, and encoding problems.

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
            problems.append(Problem(("query",), "bad-text", f"has a parameter that {exc}"))
    return found, problems


def _decoded(raw: bytes) -> str:
    if _BAD_PERCENT.search(raw):
        raise ValueError("has a % that is not followed by two hexadecimal digits (write %25 for %)")
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError("is not UTF-8") from exc
    if _CONTROL.search(text):
        raise ValueError("contains a control character")
    return text


async def body[M: BaseModel](request: Request, model: type[M], *, may_be_empty: bool = False, max_values: int = MAX_VALUES) -> M:
    """Return the JSON body as *model*, parsed strictly and in linear time. A long body is parsed in a thread.

    Raises
    ------
    UnsupportedMediaType
        Not ``application/json`` in UTF-8, or with a content encoding.
    TooLarge
        If it is over 1 MiB (by its declared length, before anything is read), or has more than *max_values* JSON values.
    InvalidRequest
        If it is not JSON, has duplicate keys, NaN, an infinite or very long number, lone surrogates or more than 64 levels, or does
        not match *model*.
    """
    raw = await _read(request.headers, request.receive, MAX_BODY)
    if not raw and may_be_empty:
        return validated({}, model)
    _check_media_type(request.headers)

    def parse() -> M:
        strict_json(raw, max_values=max_values)
        return _validated(raw, model)

    if len(raw) <= _SHORT:
        return parse()
    return await run_in(_PARSING, parse)


_PARSING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bodies")
"""One separate thread, so that long bodies only wait for other long bodies. Only one could run at a time in any case."""


async def json_document(request: Request, *, limit: int, max_values: int, media_types: tuple[str, ...]) -> Any:
    """Return the JSON body of up to *limit* bytes, of one of *media_types*, read as strictly as :func:`body` and by a thread."""
    raw = await _read(request.headers, request.receive, limit)
    _check_media_type(request.headers, media_types)
    return await run_in(_PARSING, lambda: strict_json(raw, max_values=max_values))


def _check_media_type(headers: Mapping[str, str], media_types: tuple[str, ...] = ("application/json",)) -> None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("A body with a content encoding is not accepted", next_step="Send it without an encoding.")
    media_type, *options = (part.strip().lower() for part in headers.get("content-type", "").split(";"))
    charsets = [option.removeprefix("charset=").strip('"') for option in options if option.startswith("charset=")]
    if media_type not in media_types or any(charset != "utf-8" for charset in charsets):
        raise UnsupportedMediaType(
            f"The body must be {' or '.join(media_types)} in UTF-8", next_step=f"Send Content-Type: {media_types[0]}."
        )


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


def strict_json(raw: bytes, *, max_values: int = MAX_VALUES) -> Any:
    """Return the value of a JSON text in UTF-8; see :func:`body`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _not_json("is not UTF-8") from exc
    _check_size(raw, max_values)
    doubled: list[str] = []
    try:
        value = strictjson.strict_json(text, most=MAX_MEMBERS)
    except strictjson.DoubledNames as exc:
        value, doubled = exc.value, exc.names
    except strictjson.TooManyNames as exc:
        raise TooLarge(f"An object of the body has more than {MAX_MEMBERS} members", limit=MAX_MEMBERS, unit="members") from exc
    except json.JSONDecodeError as exc:
        raise _not_json(f"is not JSON: {exc.msg} in line {exc.lineno}, column {exc.colno}") from exc
    except RecursionError as exc:
        raise _too_deep() from exc
    except ValueError as exc:  # a number with too many digits, or NaN
        raise _not_json("contains a number that cannot be read") from exc
    problems = [Problem(("body", name), "duplicate-key", "is given more than once") for name in doubled]
    # Only an escape can give half of a surrogate pair, because the bytes are UTF-8.
    if _walked(value, with_texts=b"\\u" in raw):
        problems.append(Problem(("body",), "bad-text", "contains half of a surrogate pair"))
    if problems:
        raise InvalidRequest(_summary(problems, "member"), errors=problems[:MAX_ERRORS])
    return value


def _check_size(raw: bytes, limit: int) -> None:
    """Refuse a text with too many values before it is parsed. Raises TooLarge, InvalidRequest."""
    # Each value except the first needs a comma, or its own list or object. Texts can contain commas; then it is counted again
    # without them.
    outside: bytes | None = None
    for part in (b",", b"[", b"{"):
        if raw.count(part) < limit:
            continue
        outside = _without_texts(raw, limit) if outside is None else outside
        if outside is not None and outside.count(part) < limit:
            continue
        if part != b",":
            raise _not_json(f"is nested too deep, or has more than {limit} lists or objects")
        raise TooLarge(
            f"The body has more than {limit} values",
            limit=limit,
            unit="values",
            next_step="Send a simpler geometry, or shorter lists in several requests.",
        )


def _without_texts(raw: bytes, limit: int) -> bytes | None:
    """Return a JSON text without its strings; ``None`` if it has more strings than *limit* named values can have.

    Each step is one pass of a short C loop, because a regular expression would hold the GIL for 300 ms.
    """
    parts = raw.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"', 4 * limit + 1)
    return b"".join(parts[::2]) if len(parts) <= 4 * limit + 1 else None


def _walked(value: Any, *, with_texts: bool) -> bool:
    """Refuse values that are nested too deeply, and return whether a string has half of a surrogate pair."""
    level, half, depth = [value], False, 0
    while level:
        depth += any(isinstance(each, dict | list) for each in level)
        if depth > MAX_DEPTH:
            raise _too_deep()
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
                if with_texts:
                    below += each.keys()
            elif isinstance(each, list):
                below += each
            elif with_texts and isinstance(each, str):
                half = half or _SURROGATE.search(each) is not None
        level = below
    return half


def _too_deep() -> InvalidRequest:
    return _not_json(f"is nested deeper than {MAX_DEPTH} levels")


def validated[M: BaseModel](value: Any, model: type[M]) -> M:
    """Return a JSON *value* as *model*. pydantic's strict mode is off for texts of periods, but no value is coerced silently."""
    return _validated(json.dumps(value).encode(), model)


def _validated[M: BaseModel](text: bytes, model: type[M]) -> M:
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as exc:
        problems = described(exc, "body", model)
        raise InvalidRequest(_summary(problems, "member", count=exc.error_count()), errors=problems) from None


def described(exc: ValidationError, place: str, model: type[BaseModel] | None = None) -> list[Problem]:
    """Return the first 20 of pydantic's errors of *model* with our messages and without the values that were sent."""
    return [
        Problem((place, *error["loc"]), _kind(error["type"]), wording.message(error, model))
        for error in exc.errors(include_url=False, include_input=False, include_context=False)[:MAX_ERRORS]
    ]


_KINDS = {"extra_forbidden": "unknown", "missing": "required", "literal_error": "not-a-choice"}


def _kind(kind: str) -> str:
    return _KINDS.get(kind, kind.replace("_", "-"))


def _summary(problems: list[Problem], what: str, *, count: int = 0) -> str:
    count = max(count, len(problems))
    if count == 1:
        [problem] = problems
        where = ".".join(str(part)[:100] for part in problem.loc[1:])
        return wording.sentence(where, problem.message) if where else f"The request {problem.message}"
    return f"{count} {what}s are not valid{'' if count <= MAX_ERRORS else f', of which these are the first {MAX_ERRORS}'}"


def _not_json(why: str) -> InvalidRequest:
    return InvalidRequest(f"The body {why}", errors=[Problem(("body",), "bad-json", why)])


_WAIT = re.compile(r"wait=(\d{1,6})")


def preferred_wait(prefer: Iterable[str], longest: float) -> tuple[float, str | None]:
    """Return how many seconds to wait according to ``Prefer`` (RFC 7240), and the value of ``Preference-Applied``."""
    for part in (part.strip().lower() for line in prefer for part in line.split(",")):
        if part == "respond-async":
            return 0.0, "respond-async"
        if found := _WAIT.fullmatch(part.replace(" ", "")):
            return min(float(found[1]), longest), f"wait={min(int(found[1]), int(longest))}"
    return longest, None
