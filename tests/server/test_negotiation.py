"""``Accept`` is read once, for every face, by RFC 9110, 12.5.1."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from cubeport.errors import InvalidRequest, NotAcceptable
from cubeport.server import negotiation

OFFERS = {"application/json": "json", "text/html": "html", "text/csv": "csv"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def asking(accept: str | None) -> Request:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV", "csv"),
        ("text/*", "html"),
        ("text/*, text/html;q=0", "csv"),
        ("*/*;q=0.1, text/html;q=0.5", "html"),
        ("application/json;q=0, */*", "html"),
        ("text/html, */*", "html"),
        ("*/*, text/csv", "csv"),
        ("text/csv, application/json", "csv"),
        ("text/csv;q=0.3, application/json;q=0.4", "json"),
        ("text/csv;q=nonsense, application/json;q=0.001", "json"),
        (BROWSER, "html"),
        ("image/png", None),
        ("*/*;q=0", None),
        ("text/csv;q=0", None),
    ],
)
def test_the_most_specific_range_decides_and_the_best_offer_wins(accept: str | None, form: str | None) -> None:
    assert negotiation.preferred(asking(accept), OFFERS) == form
    assert negotiation.takes(asking(accept), set(OFFERS)) is (form is not None)


def test_f_beats_accept_and_neither_is_refused() -> None:
    assert negotiation.form(asking("text/html"), "json") == "json"
    assert negotiation.form(asking(BROWSER), None) == "html"
    assert negotiation.form(asking(None), None) == "json"
    with pytest.raises(NotAcceptable, match="JSON and HTML"):
        negotiation.form(asking("image/png"), None)
    with pytest.raises(InvalidRequest, match="json or html"):
        negotiation.form(asking(None), "xml")
