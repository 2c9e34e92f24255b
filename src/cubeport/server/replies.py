"""Answers: strong ETags from values, 304 before any document is built, gzip for text.

An ETag is ``"{version or generation}-{digest}"`` of everything on which the bytes depend, so it is known before the bytes are.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from cubeport.documents.native import Link
from cubeport.documents.texts import PublishedView
from cubeport.errors import PreconditionFailed
from cubeport.server import incoming
from cubeport.server.negotiation import JSON

REVISION = 1
"""Increases if the form of a document changes, so that clients request cached answers again."""

NO_CACHE = "no-cache"
IMMUTABLE = "public, max-age=31536000, immutable"

PAGE_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}
"""The headers of all pages: nothing from other hosts, and no inline code."""

_GZIP_FROM = 1024
_LARGE = 1 << 18
"""From this size in bytes, gzip's fastest level is used. For values of a coverage it takes half the time of level 4, with a tenth
more bytes."""
_COMPRESSIBLE = ("json", "html", "csv", "xml", "css", "javascript", "svg")
_ETAGS = re.compile(r'(?:W/)?"([^"]*)"')


def etag(head: str, *values: object) -> str:
    """Return the strong ETag of *values*, which begins with a version id or a generation."""
    digest = hashlib.sha256("\0".join(str(value) for value in values).encode()).hexdigest()
    return f'"{head[:16]}-{digest[:16]}"'


def etag_of(shown: PublishedView, request: Request, form: str, public_url: str, *more: object, fixed: bool = False) -> str:
    """Return the ETag of a document about one dataset.

    With *fixed*, the answer depends only on the version, so an edit of the record does not change it.
    """
    record = () if fixed else (shown.record_version, shown.record_id)
    query = request.scope.get("query_string", b"").decode("latin-1")
    path = request.scope.get("path", "")
    return etag(shown.version.version_id, path, query, form, *record, REVISION, public_url, *more)


def etag_of_dataset(shown: PublishedView, request: Request, form: str, public_url: str, *more: object) -> str:
    """Return the ETag of the document or page of a dataset: ``"{version}-{state}.{digest}"``.

    The document also says when the next sync is due, so its bytes and its ETag change with the clock. A write changes what the
    catalog has, and the state in the middle is of that alone: :func:`check_if_match` compares only this part.
    """
    digest = etag_of(shown, request, form, public_url, *more).strip('"').rpartition("-")[2]
    return f'"{_state(shown)}.{digest}"'


def _state(shown: PublishedView) -> str:
    return etag(shown.version.version_id, shown.record_version, shown.record_id).strip('"')


def etag_of_list(generation: int, request: Request, form: str, public_url: str) -> str:
    """Return the ETag of a list. It is valid for one generation of the catalog and, because callers see different records, for
    one caller.
    """
    query = request.scope.get("query_string", b"").decode("latin-1")
    caller = request.scope.get("cubeport.caller")
    by = () if caller is None or caller.name is None else (caller.scope, caller.name)
    return etag(f"g{generation}", request.scope.get("path", ""), query, form, generation, REVISION, public_url, *by)


def fits(header: str | None, tag: str) -> bool:
    """Return whether an ``If-None-Match`` contains *tag* (weak comparison, RFC 9110, 13.1.2)."""
    return header is not None and (header.strip() == "*" or tag.strip('"') in _ETAGS.findall(header))


def reply(
    request: Request,
    build: Callable[[], bytes] | bytes,
    *,
    media_type: str = JSON,
    tag: str | None = None,
    cache: str = NO_CACHE,
    headers: Mapping[str, str] | None = None,
    varies: Iterable[str] = (),
    status: int = 200,
    zipped: bytes | None = None,
    zip_from: int = _GZIP_FROM,
) -> Response:
    """Return the answer, or 304 without calling *build* if the client already has it.

    Parameters
    ----------
    zipped
        The compressed content, if it is known.
    zip_from
        The size in bytes from which text is compressed. Answers with values pass 0: their HEAD has the same ETag, and does not know
        the size.
    """
    compressible = any(part in media_type for part in _COMPRESSIBLE)
    wants_gzip = compressible and _accepts_gzip(request.headers.get("accept-encoding", ""))
    fields = {"Cache-Control": cache, **(headers or {})}
    vary = [*varies, *(("Accept-Encoding",) if compressible else ())]
    if vary:
        fields["Vary"] = ", ".join(vary)
    known = request.headers.get("if-none-match")
    if tag is not None and known is not None and request.method in ("GET", "HEAD"):
        for each in (tag, _zipped(tag)):
            if fits(known, each):
                return Response(status_code=304, headers={**fields, "ETag": each})
    content = build if isinstance(build, bytes) else build()
    if wants_gzip and len(content) > zip_from:
        content = zipped or gzip.compress(content, compresslevel=4 if len(content) < _LARGE else 1, mtime=0)
        fields["Content-Encoding"] = "gzip"
        tag = tag and _zipped(tag)
    if tag is not None:
        fields["ETag"] = tag
    return Response(content, status, headers={**fields, "Content-Type": media_type})


def _zipped(tag: str) -> str:
    return f'{tag[:-1]}-gz"'


def _accepts_gzip(header: str) -> bool:
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def dumps(value: Any) -> bytes:
    """Return *value* as strict JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def check_if_match(request: Request, shown: PublishedView) -> None:
    """Refuse a write whose ``If-Match`` has no tag of a document of the dataset in its present state. Raises PreconditionFailed."""
    wanted = request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    named = re.findall(r'(?<!W/)"([^"]*)"', wanted)
    if not any(each.partition(".")[0] == _state(shown) and "." in each for each in named):
        raise PreconditionFailed(
            "The dataset changed since it was read", next_step="Read it again, and repeat the request with its ETag."
        )


def versioned(shown: PublishedView) -> dict[str, str]:
    """Return the header with the version of an answer."""
    return {"Cubeport-Version": shown.version.version_id}


def fresh(content: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer that no cache may store, because it describes one moment."""
    return Response(content, status, headers={"Cache-Control": "no-store", "Content-Type": "application/json", **(headers or {})})


def by_content(request: Request, document: Mapping[str, Any]) -> Response:
    """Answer with a document that comes from files instead of the catalog. Its ETag is computed from its bytes."""
    content = dumps(document)
    return reply(request, content, tag=etag("content", content.decode()))


def page_links(address: str, request: Request, following: str | None) -> list[Link]:
    """Return the links of one page of the list at *address*: to itself and, with the cursor *following*, to the next page."""
    values = incoming.pairs(request.scope["query_string"])[0]
    query = f"?{urlencode(values)}" if values else ""
    links = [Link(href=f"{address}{query}", rel="self", title="This page", type=JSON)]
    if following is not None:
        further = urlencode([*(each for each in values if each[0] != "cursor"), ("cursor", following)])
        links.append(Link(href=f"{address}?{further}", rel="next", title="The next page", type=JSON))
    return links
