"""Errors as problem documents (RFC 9457), with the table of statuses.

All members are safe to show. They contain no traceback, path, SQL or secret, and never the refused value.
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
    errors.CatalogMoved: 503,  # for callers: another server may have been restarted already
    errors.Refused: 422,
    errors.Unavailable: 503,
    errors.SourceFailed: 502,
    errors.SourceTimeout: 504,
    errors.NoSpace: 507,
    errors.Corrupt: 500,
}
"""The status by error class. A class without a row has the status of its nearest base class."""

_RETRY_AFTER_S = {429: 1, 503: 5}
_RESERVED = frozenset({"type", "kind", "title", "status", "detail", "instance", "errors", "code", "description", "next"})
_LONGEST_TEXT = 200
_MOST_ERRORS = 100
"""The largest number of listed problems, so that answers do not grow with the request. For requests,
:data:`cubeport.server.incoming.MAX_ERRORS` is lower."""
_SERVER_PATH = re.compile(r"(?<![\w:/.])/(?:[\w.@+-]+/)+[\w.@+-]*")


def status_of(kind: type[CubeportError]) -> int:
    """Return the HTTP status of an error class."""
    return next(STATUS[each] for each in kind.__mro__ if each in STATUS)


def document(exc: CubeportError, *, public_url: str, request_id: str) -> dict[str, Any]:
    """Return the problem document of *exc*. ``code`` and ``description`` are the OGC and STAC names of kind and detail.

    ``next`` is what to do next, as the command line says it. ``detail`` says it as well, if it can be done over HTTP.
    """
    status = status_of(type(exc))
    detail = _detail(exc, status, public_url)
    problem: dict[str, Any] = {
        "type": exc.type_uri or f"{public_url}/problems/{exc.kind}",
        "kind": exc.kind,
        "title": exc.title(),
        "status": status,
        "detail": detail,
        "instance": request_id,
        "errors": [_shown(each) for each in exc.errors[:_MOST_ERRORS]],
        "code": exc.kind,
        "description": detail,
    }
    if exc.next_step is not None and type(exc) is not CubeportError:
        step = redact_text(exc.next_step)
        problem["next"] = _SERVER_PATH.sub("…", step) if status >= 500 else step
    members = {name: value for name, value in exc.members.items() if name not in _RESERVED and value is not None}
    # Redaction removes the query of a URL, which can contain a secret. Alternatives are URLs of ours that need their query.
    ours = {name: members.pop(name) for name in ("alternatives",) if name in members}
    return {**problem, **redact(members), **ours}


def headers(exc: CubeportError) -> dict[str, str]:
    """Return the headers that the status of *exc* needs."""
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
    """Return any problem document as bytes."""
    return json.dumps(problem, ensure_ascii=False, allow_nan=False, default=str).encode("utf-8", "replace")


def _detail(exc: CubeportError, status: int, public_url: str) -> str:
    if type(exc) is CubeportError:
        return "Something in the service went wrong; its log has the request id."
    message = redact_text(exc.message)
    if status >= 500:
        # Messages about internal errors can name our files.
        message = _SERVER_PATH.sub("…", message)
    return " ".join(_sentence(each) for each in (message, _next(exc.next_step, public_url)) if each)


_INSTEAD = {
    "cubeport datasets": "/datasets",
    "cubeport templates": "/dataset-templates",
    "cubeport extents": "/extent",
    "cubeport jobs": "/ingestions",
    "cubeport zones list": "/zones",
}
"""The URLs at which HTTP callers find what a command lists."""


def in_words(exc: CubeportError, public_url: str) -> str:
    """Return the detail of an error as text, for answers that are no problem documents."""
    return _detail(exc, status_of(type(exc)), public_url)


def _next(step: str | None, public_url: str) -> str | None:
    """Return the next step as a sentence. Commands are useless over HTTP, except those for which there is a route."""
    if step is not None and step.startswith("cubeport "):
        return f"Next: GET {public_url}{_INSTEAD[step]}" if step in _INSTEAD else None
    return f"Next: {step}" if step and not step[0].isupper() else step


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _shown(problem: Problem) -> dict[str, Any]:
    loc = [part[:_LONGEST_TEXT] if isinstance(part, str) else part for part in problem.loc]
    return {"loc": loc, "kind": problem.kind, "message": redact_text(problem.message)[: 4 * _LONGEST_TEXT]}
