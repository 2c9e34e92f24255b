"""safety.md 4: queries and bodies read strictly, every problem at once, no value echoed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.errors import InvalidRequest, UriTooLong
from cubeport.server import incoming

from .conftest import Client, FakeService


def refused(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        incoming.strict_json(raw)
    return caught.value


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
        max_leaves=15,
    )
)
def test_json_reads_back(value: Any) -> None:
    assert incoming.strict_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"a": NaN}', "bad-json"),
        (b'{"a": Infinity}', "bad-json"),
        (b'{"a": 1e999}', "bad-json"),
        (b'{"a": ' + b"1" * 5000 + b"}", "bad-json"),
        (b'{"a": 1, "a": 2}', "duplicate-key"),
        (b'{"b": {"a": 1, "a": 2}}', "duplicate-key"),
        (b'"\\ud800"', "bad-text"),
        (b'{"\\udc00": 1}', "bad-text"),
        ('{"a": 1}'.encode("utf-16"), "bad-json"),
        (b'\xef\xbb\xbf{"a": 1}', "bad-json"),
        (b"\xff", "bad-json"),
        (b"", "bad-json"),
        (b"{'a': 1}", "bad-json"),
        (b"[" * 65 + b"]" * 65, "bad-json"),
        (b"[" * 500_000, "bad-json"),
        (b'{"a":' * 100_000, "bad-json"),
    ],
)
def test_what_is_not_strict_json_is_refused(raw: bytes, kind: str) -> None:
    exc = refused(raw)
    assert exc.errors[0].kind == kind
    assert len(str(exc)) < 300


def test_sixty_four_levels_and_brackets_in_text_pass() -> None:
    assert incoming.strict_json(b"[" * 64 + b"]" * 64)
    assert incoming.strict_json(json.dumps("[" * 1000 + '"{\\').encode()) == "[" * 1000 + '"{\\'


def test_equal_keys_are_all_named() -> None:
    exc = refused(b'{"a": 1, "a": 2, "b": {"c": 1, "c": 2}}')
    assert {each.loc for each in exc.errors} == {("body", "a"), ("body", "c")}


class Query(incoming.Model):
    limit: int = 1
    name: str | None = None


def test_a_query_tells_every_problem_at_once_and_echoes_nothing() -> None:
    with pytest.raises(InvalidRequest) as caught:
        incoming.query(b"limit=SECRETVALUE&name=a&name=b&what=SECRETVALUE&x=%zz&y=%ff&z=%00", Query)
    found = [(each.loc, each.kind) for each in caught.value.errors]
    assert found == [
        (("query",), "bad-text"),
        (("query",), "bad-text"),
        (("query",), "bad-text"),
        (("query", "name"), "repeated"),
        (("query", "limit"), "int-parsing"),
        (("query", "what"), "unknown"),
    ]
    assert "SECRETVALUE" not in "".join(each.message for each in caught.value.errors) + str(caught.value)
    assert caught.value.next_step == "this address takes limit, name"


@given(st.dictionaries(st.sampled_from(["name"]), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))))
def test_parameters_read_back(values: dict[str, str]) -> None:
    from urllib.parse import urlencode

    assert incoming.parameters(urlencode(values).encode()) == (values, [])


def test_too_much_is_refused() -> None:
    with pytest.raises(UriTooLong):
        incoming.query(b"name=" + b"a" * 9000, Query)
    with pytest.raises(InvalidRequest, match="100 parameters"):
        incoming.query(b"&".join(b"a%d=1" % n for n in range(101)), Query)


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ([], (60.0, None)),
        (["respond-async"], (0.0, "respond-async")),
        (["wait=5"], (5.0, "wait=5")),
        (["wait=500"], (60.0, "wait=60")),
        (["handling=strict, wait = 7"], (7.0, "wait=7")),
        (["wait=x"], (60.0, None)),
        (["wait=5", "respond-async"], (5.0, "wait=5")),
    ],
)
def test_prefer(prefer: list[str], expected: tuple[float, str | None]) -> None:
    assert incoming.preferred_wait(prefer, 60.0) == expected


class TestOverHttp:
    @pytest.mark.parametrize(
        ("headers", "content", "status", "kind"),
        [
            ({"Content-Type": "text/plain"}, b"{}", 415, "unsupported-media-type"),
            ({"Content-Type": "application/json; charset=utf-16"}, b"{}", 415, "unsupported-media-type"),
            ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}", 415, "unsupported-media-type"),
            ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415, "unsupported-media-type"),
            ({}, b"{}", 415, "unsupported-media-type"),
            ({"Content-Type": "application/json"}, b" " * (1 << 20) + b"{}", 413, "too-large"),
            ({"Content-Type": "application/json"}, b"{", 400, "invalid-request"),
            ({"Content-Type": "application/json"}, b"", 400, "invalid-request"),
            ({"Content-Type": "application/json"}, b"[]", 400, "invalid-request"),
            ({"Content-Type": "application/json"}, b'{"dataset_id":"sea","bbox":[1],"country_code":"NOR"}', 400, "invalid-request"),
        ],
    )
    def test_bodies(
        self, client: Client, service: FakeService, headers: dict[str, str], content: bytes, status: int, kind: str
    ) -> None:
        answer = client.post("/ingestions", headers=headers, content=content)
        assert (answer.status_code, answer.json()["kind"]) == (status, kind)
        assert service.calls == []

    def test_all_problems_of_a_body_at_once(self, client: Client) -> None:
        body = {"dataset_id": "SECRET VALUE", "overwrite": "yes", "mode": "smash", "what": 1}
        problem = client.post("/ingestions", json=body).json()
        assert {tuple(each["loc"]): each["kind"] for each in problem["errors"]} == {
            ("body", "dataset_id"): "string-pattern-mismatch",
            ("body", "overwrite"): "bool-type",
            ("body", "mode"): "not-a-choice",
            ("body", "what"): "unknown",
        }
        assert "SECRET VALUE" not in json.dumps(problem)
