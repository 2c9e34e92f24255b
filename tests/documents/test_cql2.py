"""Filters in CQL2: each of the standard's requirements classes that the STAC face lists has its row, by name."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeport.documents import cql2
from cubeport.documents.geojson import box_geometry
from cubeport.documents.stac import CONFORMS_TO
from cubeport.errors import InvalidRequest

FACTS: dict[str, Any] = {
    "id": "sst@1",
    "collection": "sst",
    "title": "Température de la mer",
    "n": 7,
    "m": 3.5,
    "deprecated": False,
    "variables": ["sst", "ice"],
    "created": "2026-01-02T03:04:05.250000Z",
    "datetime": None,
    "start_datetime": "2000-01-01T00:00:00Z",
    "end_datetime": "2000-12-31T12:00:00Z",
    "geometry": box_geometry((170.0, -10.0, -170.0, 10.0)),
    "small": box_geometry((1.0, 1.0, 2.0, 2.0)),
}

CLASSES: dict[str, list[tuple[str, bool]]] = {
    "cql2-text": [("collection = 'sst'", True), ("collection = 'it''s'", False)],
    "cql2-json": [("n = 7", True)],
    "basic-cql2": [
        ("n = 7", True), ("n <> 7", False), ("n < 7", False), ("n <= 7", True), ("n > 6", True), ("n >= 8", False),
        ("deprecated = FALSE", True), ("datetime IS NULL", True),
        ("missing IS NULL", True), ("n IS NOT NULL", True), ("n = 7 AND m = 3.5", True), ("n = 8 OR m = 3.5", True),
        ("NOT (n = 8)", True), ("created > TIMESTAMP('2026-01-02T03:04:05.2Z')", True),
        ("created = TIMESTAMP('2026-01-02T04:04:05.25+01:00')", True), ("created = DATE('2026-01-02')", True),
        ("created > DATE('2026-01-02')", False), ("created >= DATE('2026-01-02')", True), ("created < DATE('2026-01-03')", True),
        ("properties.n = 7", True),
        # Unknown is not false: neither a comparison with what is missing or of another type, nor its opposite, is true.
        ("missing = 3", False), ("NOT (missing = 3)", False), ("n = '7'", False), ("NOT (n = '7')", False),
        ("missing = 3 OR n = 7", True), ("missing = 3 AND n = 7", False), ("NOT (missing = 3 AND n = 8)", True),
    ],
    "advanced-comparison-operators": [
        ("title LIKE 'Temp%'", True), ("title LIKE '_emp%mer'", True), ("title LIKE 'emp%'", False),
        ("collection LIKE 's_t'", True), ("collection LIKE 's\\_t'", False), ("title NOT LIKE 'x%'", True),
        ("n BETWEEN 7 AND 9", True), ("n NOT BETWEEN 7 AND 9", False), ("missing BETWEEN 1 AND 2", False),
        ("collection IN ('a', 'sst')", True), ("n IN (1, 2)", False), ("n NOT IN (1, 2)", True), ("missing NOT IN (1)", False),
    ],
    "case-insensitive-comparison": [("CASEI(collection) = CASEI('SST')", True), ("CASEI(title) LIKE CASEI('TEMP%')", True)],
    "accent-insensitive-comparison": [("ACCENTI(title) LIKE ACCENTI('Temperature%')", True), ("ACCENTI(title) = 'x'", False)],
    "basic-spatial-functions": [
        ("S_INTERSECTS(geometry, POINT(175 0))", True), ("S_INTERSECTS(geometry, POINT(0 0))", False),
        ("S_INTERSECTS(geometry, BBOX(-175, -5, -172, 5))", True), ("S_INTERSECTS(geometry, BBOX(-100, -5, 100, 5))", False),
        ("S_INTERSECTS(missing, POINT(0 0))", False), ("NOT S_INTERSECTS(missing, POINT(0 0))", False),
    ],
    "spatial-functions": [
        ("S_WITHIN(geometry, BBOX(160, -20, -160, 20))", True), ("S_WITHIN(geometry, BBOX(175, -20, -160, 20))", False),
        ("S_CONTAINS(small, POINT(1.5 1.5))", True), ("S_DISJOINT(small, POINT(3 3))", True),
        ("S_EQUALS(small, BBOX(1,1,2,2))", True), ("S_TOUCHES(small, BBOX(2,1,3,2))", True),
        ("S_OVERLAPS(small, BBOX(1.5,1,3,2))", True), ("S_CROSSES(small, LINESTRING(0 0, 3 3))", True),
    ],
    "temporal-functions": [
        ("T_INTERSECTS(datetime, INTERVAL('2000-06-01', '..'))", True), ("T_INTERSECTS(datetime, DATE('2001-01-01'))", False),
        ("T_AFTER(created, TIMESTAMP('2025-01-01T00:00:00Z'))", True), ("T_BEFORE(created, DATE('2026-01-02'))", False),
        ("T_DURING(datetime, INTERVAL('1999-01-01', '2002-01-01'))", True), ("T_DISJOINT(datetime, created)", True),
        ("T_CONTAINS(datetime, DATE('2000-02-29'))", True), ("T_EQUALS(created, created)", True),
        ("T_STARTS(INTERVAL(start_datetime, created), INTERVAL('2000-01-01T00:00:00Z', '..'))", True),
        ("T_STARTEDBY(datetime, TIMESTAMP('2000-01-01T00:00:00Z'))", True),
        ("T_FINISHEDBY(datetime, TIMESTAMP('2000-12-31T12:00:00Z'))", True),
        ("T_FINISHES(datetime, INTERVAL('1999-01-01', '2000-12-31T12:00:00Z'))", True),
        ("T_MEETS(datetime, INTERVAL('2000-12-31T12:00:00Z', '..'))", True),
        ("T_METBY(datetime, INTERVAL('..', '2000-01-01T00:00:00Z'))", True),
        ("T_OVERLAPS(datetime, INTERVAL('2000-06-01', '2002-01-01'))", True),
        ("T_OVERLAPPEDBY(datetime, INTERVAL('1999-06-01', '2000-06-01'))", True),
        ("T_AFTER(missing, created)", False), ("NOT T_AFTER(missing, created)", False),
    ],
    "array-functions": [
        ("A_CONTAINS(variables, ('sst'))", True), ("A_CONTAINS(variables, ('sst', 'air'))", False),
        ("A_CONTAINEDBY(variables, ('sst', 'ice', 'x'))", True), ("A_EQUALS(variables, ('ice', 'sst'))", True),
        ("A_OVERLAPS(variables, ('air', 'ice'))", True), ("A_CONTAINS(title, ('T'))", False),
    ],
    "property-property": [("n > m", True), ("start_datetime < end_datetime", True), ("n = title", False)],
    "arithmetic": [
        ("n * 2 - 1 = 13", True), ("m / 7 = 0.5", True), ("n % 4 = 3", True), ("n div 2 = 3", True), ("n ^ 2 = 49", True),
        ("-n = -7", True), ("n / 0 = 1", False), ("title + 1 = 2", False), ("n ^ 99999999 = 1", False),
    ],
}  # fmt: skip


def test_every_class_of_cql2_that_is_listed_has_a_test_here() -> None:
    listed = {each.rpartition("/")[2] for each in CONFORMS_TO if "/cql2/" in each}
    assert listed == set(CLASSES)


@pytest.mark.parametrize(("text", "fits"), [case for cases in CLASSES.values() for case in cases])
def test_a_filter_fits_by_text_and_by_json(text: str, fits: bool) -> None:
    read = cql2.read(text)
    assert read.fits(FACTS) is fits
    assert cql2.read(None, json.loads(json.dumps(read.expression))).fits(FACTS) is fits


@pytest.mark.parametrize(
    "text",
    ["", "n =", "n = 7 OR", "'a'", "TRUE", "n", "explode(n) = 1", "S_INTERSECTS(geometry, POLYGON((0 0, 1 1, 0 1, 1 0, 0 0)))"],
)
def test_what_is_not_a_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cql2.read(text).fits(FACTS)
    assert caught.value.errors[0].loc == ("query", "filter")


@pytest.mark.parametrize(
    ("text", "advice", "instead"),
    [
        (
            "created BETWEEN TIMESTAMP('2000-01-01T00:00:00Z') AND TIMESTAMP('2001-01-01T00:00:00Z')",
            "write created >= … AND created <= …",
            "created >= TIMESTAMP('2000-01-01T00:00:00Z') AND created <= TIMESTAMP('2001-01-01T00:00:00Z')",
        ),
        ("title = NULL", "write IS NULL", "title IS NULL"),
        ("title = 'a' OR title <> NULL", "write IS NOT NULL", "title IS NOT NULL"),
        ("NOT deprecated", "write deprecated = true", "NOT deprecated = true"),
        ("n = 1 AND deprecated", "write deprecated = true", "n = 1 AND deprecated = true"),
    ],
)
def test_what_sql_allows_is_refused_with_what_to_write(text: str, advice: str, instead: str) -> None:
    """The reason was the library's: "is not valid under any of the schemas listed in the 'oneOf' keyword"."""
    with pytest.raises(InvalidRequest, match=re.escape(advice)):
        cql2.read(text)
    assert cql2.read(instead)


def test_between_may_have_expressions() -> None:
    assert cql2.read("n BETWEEN 1 + 1 AND m")


@pytest.mark.parametrize("text", ["(" * 30 + "n = 1" + ")" * 30, "n = 1 AND " * 500 + "n = 1", "title = '" + "x" * 5000 + "'"])
def test_what_might_take_long_to_read_is_refused_at_once(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidRequest):
        cql2.read(text)
    assert time.perf_counter() - began < 0.2


def test_a_bracket_in_quotes_does_not_count() -> None:
    assert not cql2.read(f"title = '{'(' * 50}'").fits(FACTS)


def test_a_deep_document_is_refused() -> None:
    document: Any = {"op": "=", "args": [{"property": "n"}, 1]}
    for _ in range(200):
        document = {"op": "not", "args": [document]}
    with pytest.raises(InvalidRequest, match="too deep"):
        cql2.read(None, document)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.text(alphabet="abc%_\\é", max_size=8), st.text(alphabet="abcé%", max_size=8))
def test_like_is_what_sqlite_says(pattern: str, text: str) -> None:
    if pattern.endswith("\\") or any(pattern[n + 1] not in "%_\\" for n in range(len(pattern) - 1) if pattern[n] == "\\"):
        return  # SQLite refuses or drops such escapes
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA case_sensitive_like = 1")
        (wanted,) = connection.execute("SELECT ? LIKE ? ESCAPE '\\'", (text, pattern)).fetchone()
    assert cql2._is_like(text, pattern) is bool(wanted)


def test_what_the_index_can_tell_is_read_from_the_filter() -> None:
    read = cql2.read("collection IN ('a', 'b') AND collection = 'a' AND S_INTERSECTS(geometry, BBOX(1,2,3,4)) AND n > 1")
    assert (read.values_of("collection"), read.values_of("id"), read.box) == (frozenset("a"), None, (1.0, 2.0, 3.0, 4.0))
    either = cql2.read("collection = 'a' OR S_INTERSECTS(geometry, BBOX(1,2,3,4))")
    assert (either.values_of("collection"), either.box) == (None, None)
    assert cql2.read("NOT S_INTERSECTS(geometry, BBOX(1,2,3,4))").box is None
