"""Errors as problem documents (RFC 9457): the one table of statuses, and nothing in an answer that should stay inside.

Every member is safe to show: no traceback, path, SQL or secret, and never the value that was refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cubeport import errors
from cubeport.catalog.forms.redaction import redact, redact_text
from cubeport.errors import CubeportError, Problem

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[CubeportError], int] = {
    CubeportError: 500,
    errors.InvalidRequest: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.ReadOnly: 403,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.UriTooLong: 414,
    errors.UnsupportedMediaType: 415,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.Refused: 422,
    errors.Unavailable: 503,
    errors.SourceFailed: 502,
    errors.SourceTimeout: 504,
    errors.NoSpace: 507,
    errors.Corrupt: 500,
}
"""By class; a class without a row has that of the nearest one above it."""

_RETRY_AFTER_S = {429: 1, 503: 5}
_RESERVED = frozenset({"type", "kind", "title", "status", "detail", "instance", "errors", "code", "description"})
_LONGEST_TEXT = 200
_MOST_ERRORS = 100
"""So that no answer grows with what was sent; of a request, fewer are listed (:data:`cubeport.server.incoming.MAX_ERRORS`)."""
_SERVER_PATH = re.compile(r"(?<![\w:/.])/(?:[\w.@+-]+/)+[\w.@+-]*")


def status_of(kind: type[CubeportError]) -> int:
    """Return the HTTP status of an error class."""
    return next(STATUS[each] for each in kind.__mro__ if each in STATUS)


def document(exc: CubeportError, *, public_url: str, request_id: str) -> dict[str, Any]:
    """Return the problem document of *exc*. ``code`` and ``description`` are what the OGC and STAC schemas call kind and detail."""
    status = status_of(type(exc))
    detail = _detail(exc, status, public_url)
    problem: dict[str, Any] = {
        "type": f"{public_url}/problems/{exc.kind}",
        "kind": exc.kind,
        "title": exc.title(),
        "status": status,
        "detail": detail,
        "instance": request_id,
        "errors": [_shown(each) for each in exc.errors[:_MOST_ERRORS]],
        "code": exc.kind,
        "description": detail,
    }
    members = {name: value for name, value in exc.members.items() if name not in _RESERVED and value is not None}
    # Redaction cuts the query off a URL, as it may hold a secret; what else can be asked is a URL of ours, and all query.
    ours = {name: members.pop(name) for name in ("alternatives",) if name in members}
    return {**problem, **redact(members), **ours}


def headers(exc: CubeportError) -> dict[str, str]:
    """Return the headers that the status of *exc* asks for."""
    status = status_of(type(exc))
    found: dict[str, str] = {}
    if status == 401:
        found["WWW-Authenticate"] = 'Bearer realm="cubeport"'
    if status == 405:
        found["Allow"] = ", ".join(exc.members.get("allow", ()))
    if status in _RETRY_AFTER_S or exc.kind == "dataset-busy":
        found["Retry-After"] = str(exc.members.get("retry_after_s", _RETRY_AFTER_S.get(status, 5)))
    return found


def body(exc: CubeportError, *, public_url: str, request_id: str) -> bytes:
    """Return the problem document as bytes."""
    return dumps(document(exc, public_url=public_url, request_id=request_id))


def dumps(problem: Mapping[str, Any]) -> bytes:
    """Return a problem document as bytes, whatever its members are."""
    return json.dumps(problem, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "replace")


def _detail(exc: CubeportError, status: int, public_url: str) -> str:
    if type(exc) is CubeportError:
        return "Something in the service went wrong; its log has the request id."
    message = redact_text(exc.message)
    if status >= 500:
        # What is wrong with us may be said in words that name our files.
        message = _SERVER_PATH.sub("…", message)
    return " ".join(_sentence(each) for each in (message, _next(exc.next_step, public_url)) if each)


_INSTEAD = {
    "cubeport datasets": "/datasets",
    "cubeport templates": "/dataset-templates",
    "cubeport extents": "/extent",
    "cubeport jobs": "/ingestions",
    "cubeport zones list": "/zones",
}
"""Where a caller over HTTP finds what the command lists."""


def _next(step: str | None, public_url: str) -> str | None:
    """Return the next step as a sentence; a command is of no use over HTTP, but for those that a route stands for."""
    if step is not None and step.startswith("cubeport "):
        return f"Next: GET {public_url}{_INSTEAD[step]}" if step in _INSTEAD else None
    return f"Next: {step}" if step and not step[0].isupper() else step


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _shown(problem: Problem) -> dict[str, Any]:
    loc = [part[:_LONGEST_TEXT] if isinstance(part, str) else part for part in problem.loc]
    return {"loc": loc, "kind": problem.kind, "message": redact_text(problem.message)[: 4 * _LONGEST_TEXT]}
