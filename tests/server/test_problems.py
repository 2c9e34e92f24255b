"""service.md 1: every error has a row, a kind that is never renamed, and nothing in it that should stay inside."""

from __future__ import annotations

import json

import pytest

from cubeport import errors
from cubeport.errors import CubeportError, Problem, SourceRejected, TooLarge
from cubeport.server import problems

EXPECTED = {
    "invalid-request": 400, "invalid-period": 400, "invalid-range": 400, "area-outside-source": 400, "unauthorized": 401,
    "forbidden": 403, "read-only": 403, "not-found": 404, "version-removed": 410, "cursor-expired": 410, "method-not-allowed": 405,
    "not-acceptable": 406, "precondition-failed": 412, "dataset-exists": 409, "dataset-busy": 409, "stale-record": 409,
    "already-finished": 409, "cancelled": 409, "tag-exists": 409, "nothing-to-publish": 409, "template-changed": 409,
    "extent-changed": 409, "no-data": 409, "coverage-incomplete": 409, "gap": 409, "overlap": 409,
    "grid-mismatch": 409, "variables-mismatch": 409, "dtype-mismatch": 409, "units-mismatch": 409, "calendar-mismatch": 409,
    "encoding-mismatch": 409, "too-large": 413, "uri-too-long": 414, "unsupported-media-type": 415,
    "internal": 500, "configuration": 500, "corrupt": 500, "source-rejected": 422, "source-failed": 502, "unavailable": 503,
    "catalog-moved": 503, "queue-full": 503, "interrupted": 503, "source-timeout": 504, "no-space": 507,
}  # fmt: skip
"""The table of service.md 1, copied by hand."""


def test_every_kind_of_the_specification_has_its_status() -> None:
    found = {each.kind: problems.status_of(each) for each in errors.kinds()}
    assert {kind: found[kind] for kind in EXPECTED} == EXPECTED


def test_kinds_are_distinct_and_titled() -> None:
    kinds = [each.kind for each in errors.kinds()]
    assert len(set(kinds)) == len(kinds)
    assert all(each.title() for each in errors.kinds())


def make(exc: CubeportError) -> dict[str, object]:
    document: dict[str, object] = json.loads(problems.body(exc, public_url="https://x.example/p", request_id="r1"))
    return document


def test_a_problem_says_what_where_and_what_next() -> None:
    exc = TooLarge("Too many cells", limit=5, value=9, unit="cells", setting="limits.json_cells", next_step="Ask for less.")
    exc.errors = (Problem(("query", "bbox"), "bad", "is bad"),)
    assert make(exc) == {
        "type": "https://x.example/p/problems/too-large",
        "kind": "too-large",
        "title": "The request or its answer is over a limit",
        "status": 413,
        "detail": "Too many cells. Ask for less.",
        "instance": "r1",
        "errors": [{"loc": ["query", "bbox"], "kind": "bad", "message": "is bad"}],
        "code": "too-large",
        "description": "Too many cells. Ask for less.",
        "next": "Ask for less.",
        "limit": 5,
        "value": 9,
        "unit": "cells",
        "setting": "limits.json_cells",
    }


@pytest.mark.parametrize(
    "exc",
    [
        CubeportError("KeyError in /srv/cubeport/secret.py"),
        errors.Corrupt("cannot read /srv/instance/data/store/x"),
        errors.BackendUnavailable("disk I/O error on /srv/instance/.cubeport/catalog.db"),
        errors.SourceFailed("https://user:planted@h.example/x?token=planted did not answer"),
        errors.Conflict("busy", token="planted"),
        errors.CatalogMoved.to("postgresql://ana@planted.example:5432/planted"),
    ],
)
def test_nothing_leaks(exc: CubeportError) -> None:
    text = json.dumps(make(exc))
    assert "/srv" not in text
    assert "planted" not in text


def test_a_step_of_the_command_line_is_told_as_its_route_or_not_at_all() -> None:
    assert make(errors.NotFound("There is no dataset 'x'.", next_step="cubeport datasets"))["detail"] == (
        "There is no dataset 'x'. Next: GET https://x.example/p/datasets."
    )
    assert make(errors.Corrupt("It is damaged.", next_step="cubeport fsck"))["detail"] == "It is damaged."
    told = problems.in_words(errors.NotFound("There is no dataset 'x'.", next_step="cubeport datasets"), "http://h")
    assert told == "There is no dataset 'x'. Next: GET http://h/datasets."
    rebuilt = CubeportError.from_mapping(make(errors.NotFound("There is no dataset 'x'.", next_step="cubeport datasets")))
    assert (rebuilt.message, rebuilt.next_step) == ("There is no dataset 'x'.", "cubeport datasets")
    assert CubeportError.from_mapping(make(TooLarge("Too many.", next_step="Ask for less."))).message == "Too many."
    assert make(errors.Gap("Two are missing.", next_step="allow_gaps"))["detail"] == "Two are missing. Next: allow_gaps."


def test_members_never_replace_what_every_problem_has() -> None:
    assert make(CubeportError("x", status=200, type="other"))["status"] == 500


def test_retry_allow_and_authenticate() -> None:
    assert problems.headers(errors.QueueFull("x")) == {"Retry-After": "5"}
    assert problems.headers(errors.QueueFull("x", retry_after_s=9)) == {"Retry-After": "9"}
    assert problems.headers(errors.DatasetBusy("x")) == {"Retry-After": "5"}
    assert problems.headers(errors.MethodNotAllowed("x", allow=("GET", "HEAD"))) == {"Allow": "GET, HEAD"}
    assert problems.headers(errors.Unauthorized("x")) == {"WWW-Authenticate": 'Bearer realm="cubeport"'}


@pytest.mark.parametrize("kind", sorted({each.kind for each in errors.kinds()}))
def test_a_stored_problem_comes_back_as_its_class(kind: str) -> None:
    stored = {"kind": kind, "title": "t", "detail": "d", "errors": [{"loc": ["a"], "kind": "k", "message": "m"}], "reason": "empty"}
    exc = CubeportError.from_mapping(stored, ingestion_id="i")
    assert exc.kind == kind
    assert (exc.message, exc.errors, dict(exc.members)) == (
        "d",
        (Problem(("a",), "k", "m"),),
        {"reason": "empty", "ingestion_id": "i"},
    )


def test_a_refused_source_keeps_its_reason() -> None:
    exc = SourceRejected("Cut short", reason="truncated", source="a.nc")
    assert CubeportError.from_mapping(exc.to_mapping()).members == {"reason": "truncated", "source": "a.nc"}
