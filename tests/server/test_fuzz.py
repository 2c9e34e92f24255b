"""Every route under nonsense: a declared status, a problem document, never a 5xx, nothing echoed that could hurt."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubeport.server.app import App

from .conftest import V1, Client, FakeEngine, FakeService, make_parts, write

NASTY = [
    *("", " ", "../..", "%2e%2e", "a" * 300, "\x7f", "sea", "sea@first", f"sea@{V1}", "é", "🌊", "<script>", "${HOME}", "{{7*7}}"),
    *(
        "1,2,3,4",
        "nan,nan,nan,nan",
        "1e999",
        "-1",
        "0",
        "100",
        "2020-01-01",
        "2020-01-01T00:00:00Z/..",
        "../..",
        "true",
        "html",
        "json",
    ),
    *("' OR 1=1 --", "[" * 50, "(" * 50, "null", "1" * 400, "01", "+1", "9" * 32),
]
VALUES = st.sampled_from(NASTY) | st.text(max_size=40)


@cache
def operations() -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    with Client(app()) as client:
        document = client.get("/openapi.json").json()
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            names = tuple(each["name"] for each in operation.get("parameters", ()) if each["in"] == "query")
            found.append((method.upper(), path, names, tuple(operation["responses"])))
    return found


@cache
def app() -> App:
    import tempfile

    return App(make_parts(FakeService(), FakeEngine(write(Path(tempfile.mkdtemp())))))


@pytest.mark.parametrize("index", range(60))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nonsense_gets_a_declared_answer(index: int, data: Any) -> None:
    method, template, names, declared = operations()[index % len(operations())]
    path = re.sub(r"\{\w+\}", lambda _: quote(data.draw(VALUES), safe="") or "x", template)
    chosen = data.draw(st.lists(st.sampled_from([*names, "nonsense"]), max_size=4))
    query = "&".join(f"{quote_plus(name)}={quote_plus(data.draw(VALUES), errors='replace')}" for name in chosen)
    headers = {"Accept": data.draw(st.sampled_from(["*/*", "text/html", "image/png", "application/json;q=0.1", ";;;", "a" * 500]))}
    body = data.draw(st.sampled_from([b"", b"{}", b"[]", b'{"a":', b'{"dataset_id":"sea"}', b"\xff", b'{"version":"latest"}']))
    if method != "GET":
        headers["Content-Type"] = data.draw(st.sampled_from(["application/json", "text/plain"]))
    with Client(app()) as client:
        answer = client.request(method, f"{path}?{query}", headers=headers, content=body if method != "GET" else None)
    assert answer.status_code < 500, (method, path, query)
    # A path that decodes to another route, or to none, answers as that one does.
    if "/" not in path.replace(template.split("{")[0], "", 1):
        assert str(answer.status_code) in (*declared, "404"), (method, path, query, answer.status_code)
    if answer.status_code >= 400 and answer.headers["content-type"].startswith("text/html"):
        assert headers["Accept"] == "text/html" or "f=html" in query, "a problem is a page for browsers only"
    elif answer.status_code >= 400:
        problem = json.loads(answer.content)
        assert (problem["status"], answer.headers["content-type"]) == (answer.status_code, "application/problem+json")
        assert all(len(str(part)) <= 200 for each in problem["errors"] for part in each["loc"])


def test_every_operation_is_among_them() -> None:
    assert 20 <= len(operations()) <= 90
