"""Content negotiation: ``f`` in the query, otherwise ``Accept`` (RFC 9110, 12.5.1).

A face gives its offers. Only this module parses ``Accept``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from starlette.requests import Request

from cubeport.errors import InvalidRequest, NotAcceptable, Problem

JSON, HTML = "application/json", "text/html; charset=utf-8"

_LONGEST = 2000
"""How many characters of ``Accept`` are read. Browsers send about 150."""

_PAGES: Mapping[str, str] = {"application/json": "json", "text/html": "html", "application/xhtml+xml": "html"}


def accepted(header: str | None) -> list[tuple[str, float]]:
    """Return the media ranges of an ``Accept`` header with their weights, in order. No header accepts everything.

    A malformed weight counts as 0, so that its range is never chosen.
    """
    found = []
    for part in (header or "*/*")[:_LONGEST].lower().split(","):
        media_range, *options = (piece.strip() for piece in part.split(";"))
        weight = next((option[2:] for option in options if option.startswith("q=")), "1")
        found.append((media_range, float(weight) if re.fullmatch(r"[01](\.\d{0,3})?", weight) else 0.0))
    return found


def preferred(request: Request, offers: Mapping[str, str]) -> str | None:
    """Return the form that ``Accept`` prefers, or ``None`` if it accepts none of them.

    The weight of an offer is that of the most specific range that matches it. For equal weights, the more specific range wins, then
    the earlier range, then the earlier offer.

    Parameters
    ----------
    offers
        The forms by media type, the default first.
    """
    ranges = accepted(request.headers.get("accept"))
    best: tuple[tuple[float, int, int], str] | None = None
    for media_type, form in offers.items():
        match = _match(media_type, ranges)
        if match is not None and match[0] > 0 and (best is None or match > best[0]):
            best = match, form
    return best[1] if best else None


def _match(media_type: str, ranges: list[tuple[str, float]]) -> tuple[float, int, int] | None:
    """Return the weight, specificity and position (later is smaller) of the range that applies to a media type."""
    spelled = ("*/*", f"{media_type.partition('/')[0]}/*", media_type)
    found = [(spelled.index(name), -place, weight) for place, (name, weight) in enumerate(ranges) if name in spelled]
    if not found:
        return None
    specificity, place, weight = max(found)
    return weight, specificity, place


def takes(request: Request, media_types: Collection[str]) -> bool:
    """Return whether ``Accept`` accepts one of *media_types*."""
    return preferred(request, dict.fromkeys(media_types, "")) is not None


def check_document(request: Request) -> None:
    """Refuse an ``Accept`` that takes neither JSON of any kind nor HTML. Raises NotAcceptable."""
    ranges = [media_range for media_range, weight in accepted(request.headers.get("accept")) if weight > 0]
    if not any(each in _DOCUMENTS or each.endswith("json") for each in ranges):
        raise NotAcceptable("This address has JSON and HTML", next_step="Send Accept: application/json or text/html.")


_DOCUMENTS = frozenset({*_PAGES, "application/*", "text/*", "*/*"})


def form(request: Request, f: str | None) -> str:
    """Return ``json`` or ``html``. ``f`` takes precedence over ``Accept``; the default is JSON.

    Raises
    ------
    NotAcceptable
        If ``Accept`` accepts neither.
    InvalidRequest
        If ``f`` has another value.
    """
    if f is not None:
        if f not in ("json", "html"):
            problem = Problem(("query", "f"), "not-a-choice", "must be json or html")
            raise InvalidRequest("f: must be json or html", errors=[problem])
        return f
    check_document(request)
    return preferred(request, _PAGES) or "json"
