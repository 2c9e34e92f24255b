"""What terms, words, intervals and boxes mean. That backends agree is the contract's to show; here is what they agree on."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeport.catalog.models import Artifact, CatalogRecord, Lineage, LocalPathLocator, TimeSpan
from cubeport.catalog.query import (
    Interval,
    Page,
    Query,
    comparable,
    leaves,
    matches,
    parse_interval,
    read_cursor,
    select,
    words,
    write_cursor,
)
from cubeport.catalog.summaries import FieldSummary, count_values, summarise
from cubeport.catalog.terms import (
    Term,
    canonical_field,
    join_field,
    parse_assignment,
    parse_term,
    read_value,
    shown_field,
    split_field,
)
from cubeport.catalog.testing.generated import sample
from cubeport.errors import InvalidCursor, InvalidFilter, InvalidRequest

RECORD = CatalogRecord(
    key="run-7",
    kind="dataset",
    title="Sea Surface Température, Größe",
    description="L'été à İstanbul 2018_v2",
    tags=("ocean", "SST"),
    metadata={
        "year": 2018,
        "label": "2018",
        "ready": True,
        "empty": {},
        "nothing": None,
        "a.b": "dotted",
        "a": {"b": [1, {"c": "deep"}, [2, 3]], "title": "inner"},
        "title": "shadowed",
        "long": "x" * 256 + "tail",
    },
    artifacts=(Artifact(locator=LocalPathLocator(path="a/b.nc", profile="default"), format="netcdf", size_bytes=10),),
    lineage=(Lineage(rel="uses", target="urn:x"),),
    time=TimeSpan(start=datetime(2020, 3, 1, tzinfo=UTC), end=datetime(2020, 3, 31, tzinfo=UTC)),
    bbox=(170, -10, -170, 10),
    created_at=datetime(2021, 1, 1, tzinfo=UTC),
)


def fits(*terms: str, **asked: Any) -> bool:
    return matches(Query(where=terms, **asked), RECORD)


# --- terms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("year=2018", True),
        ("year:2018", True),
        ("year:201", False),
        ('year:"2018"', False),
        ("year~2018", False),
        ("ready:true", True),
        ("label:18", True),
        ("label=2018", True),
        ('year="2018"', False),
        ('label="2018"', True),
        ("year>=2018.0", True),
        ("year<2018", False),
        ("year!=2018", False),
        ("year!=2019", True),
        ("absent!=2019", True),
        ("absent=2019", False),
        ("year>text", False),
        ("ready=true", True),
        ('ready="true"', False),
        ("ready=1", False),
        ("ready=false", False),
        ("year?", True),
        ("absent?", False),
        ("nothing?", False),
        ("empty?", False),
        ("a?", True),
        ("a.b?", True),
        ('"a.b"=dotted', True),
        ("a.b=dotted", False),
        ("a.b=3", True),
        ("a.b.c=deep", True),
        ("metadata.a.b.c:EE", True),
        ("title:surface", True),
        ("title:shadowed", False),
        ("metadata.title=shadowed", True),
        ("title~*Surface*", True),
        ("title~sea?surface*", True),
        ("title~Surface", False),
        ("tags=ocean", True),
        ('tags=["sst","SST"]', True),
        ("tags=[]", False),
        ("tags:ss", True),
        ("kind=dataset", True),
        ("version>=1", True),
        ("artifact.format=netcdf", True),
        ("artifacts.format=netcdf", True),
        ("artifact.size_bytes<=10", True),
        ("artifact.locator.profile=default", True),
        ("lineage.rel=uses", True),
        ("time?", True),
        ("time.end<2020-04", True),
        ("bbox=-170", True),
        ("created_at>2020", True),
        ("created_at>=2021-01-01", True),
        ("schema_name?", False),
        (f"long={'x' * 256}other tail", True),
        ("long:tail", False),
        (f"long~{'x' * 256}", True),
        ("title = Sea*", False),
        ("year >= 2000", True),
    ],
)
def test_terms(term: str, expected: bool) -> None:
    assert fits(term) is expected
    assert matches(Query(where=[parse_term(term, negate=True)]), RECORD) is not expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-0.5e3", -500.0),
        ("007", "007"),
        ("true", True),
        ("True", "True"),
        ("null", "null"),
        ("NaN", "NaN"),
        ('"7"', "7"),
        ('"a \\"b\\""', 'a "b"'),
        ('["a", 1, {"b": null}]', ["a", 1, {"b": None}]),
        ("free text: with = and ?", "free text: with = and ?"),
        ("  spaced ", "spaced"),
        ('" spaced "', " spaced "),
        ("", ""),
        ("1e999", None),
        ('"open', None),
        ("[1,", None),
        ("[NaN]", None),
        ('"\\u0000"', None),
    ],
)
def test_values(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(InvalidFilter):
            read_value(text)
        return
    found = read_value(text)
    assert (found, type(found)) == (value, type(value))


def test_assignments() -> None:
    assert parse_assignment("a.b=7") == (("a", "b"), 7)
    assert parse_assignment('"a.b".c = x=y') == (("a.b", "c"), "x=y")
    with pytest.raises(InvalidFilter, match="= is expected"):
        parse_assignment("a>7")


@pytest.mark.parametrize(
    ("text", "column"),
    [("a. b=3", 2), ("=3", 0), ("a", 1), ("a?3", 2), ("a=[1", 2), ('a="x', 2), ('"a=3', 0), ("a b=3", 2), (".a=3", 0), ("", 0)],
)
def test_what_does_not_fit_the_grammar_has_a_caret_under_it(text: str, column: int) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_term(text)
    shown, caret = caught.value.message.splitlines()[-2:]
    assert shown.removeprefix("    ") == text
    assert caret == " " * (4 + column) + "^"
    assert "FIELD OP VALUE" in (caught.value.next_step or "")


def test_terms_from_python() -> None:
    assert Term("a", "!=", 1) == Term("metadata.a", "=", 1, negate=True)
    assert Term("created_at", ">", datetime(2020, 1, 1, tzinfo=UTC)).value == "2020-01-01T00:00:00.000000Z"
    assert Term("a", "=", [1, "x"]).wanted == (1, "x")
    for bad in ({"a": 1}, [[1]], None, math.nan):
        with pytest.raises(InvalidRequest):
            Term("a", "=", bad)
    with pytest.raises(InvalidFilter, match="not an operator"):
        Term("a", "~=", 1)  # type: ignore[arg-type]


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4))
def test_fields_are_read_as_they_are_written(path: list[str]) -> None:
    try:
        text = join_field(path)
        text.encode()
    except UnicodeEncodeError:
        return
    assert split_field(text) == tuple(path)
    canonical = canonical_field(text)
    assert canonical_field(canonical) == canonical
    assert canonical_field(shown_field(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "canonical", "shown"),
    [
        ("year", "metadata.year", "year"),
        ("title", "title", "title"),
        ("metadata.title", "metadata.title", "metadata.title"),
        ("metadata.metadata.x", "metadata.metadata.x", "metadata.metadata.x"),
        ("metadata.artifact.x", "metadata.artifact.x", "metadata.artifact.x"),
        ("artifacts.role", "artifact.role", "artifact.role"),
        ('"x y"."z"', 'metadata."x y".z', '"x y".z'),
        ("metadata", "metadata", "metadata"),
    ],
)
def test_canonical_fields(text: str, canonical: str, shown: str) -> None:
    assert canonical_field(text) == canonical
    assert shown_field(canonical) == shown


def test_a_pattern_cannot_take_for_ever() -> None:
    record = sample(1, metadata={"a": "a" * 256})
    started = time.process_time()
    assert not matches(Query(where=["a~" + "a*" * 60 + "b"]), record)
    assert time.process_time() - started < 5, "backtracking would take years"


# --- words, time, space ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sea temp", True),
        ("TEMPERATURE", True),
        ("grosse", True),
        ("GRÖSS", True),
        ("istanbul", True),
        ("run 7", True),
        ("v2", True),
        ("sst", True),
        ("emperature", False),
        ("sea nothing", False),
        ("!!", False),
        ("", False),
        ("dataset", False),
    ],
)
def test_text(text: str, expected: bool) -> None:
    assert fits(text=text) is expected


@given(st.text(max_size=30))
def test_words_are_stable(text: str) -> None:
    found = words(text)
    assert words(" ".join(found)) == found
    assert all(word == word.casefold() and word.isalnum() and len(word) <= 64 for word in found)
    assert words(text.upper()) >= {word for word in found if word.isascii() and text.isascii()}


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2020-03", "2020-03-01T00:00:00.000000Z", "2020-03-31T23:59:59.999999Z"),
        ("2020", "2020-01-01T00:00:00.000000Z", "2020-12-31T23:59:59.999999Z"),
        ("2020-02-29", "2020-02-29T00:00:00.000000Z", "2020-02-29T23:59:59.999999Z"),
        ("2020-02/2020-03", "2020-02-01T00:00:00.000000Z", "2020-03-31T23:59:59.999999Z"),
        ("../2020", None, "2020-12-31T23:59:59.999999Z"),
        ("2020/..", "2020-01-01T00:00:00.000000Z", None),
        ("/2020", None, "2020-12-31T23:59:59.999999Z"),
        ("../..", None, None),
        ("9999-12-31", "9999-12-31T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"),
        ("0001", "0001-01-01T00:00:00.000000Z", "0001-12-31T23:59:59.999999Z"),
        ("2020-03-01T12:00+02:00", "2020-03-01T10:00:00.000000Z", "2020-03-01T10:00:00.000000Z"),
        ("2020-03-01T12:00:00.5", "2020-03-01T12:00:00.500000Z", "2020-03-01T12:00:00.500000Z"),
    ],
)
def test_intervals(text: str, start: str | None, end: str | None) -> None:
    assert parse_interval(text) == Interval(start, end)


@pytest.mark.parametrize(
    "text", ["", "2020-13", "2021-02-29", "2020/2019", "tomorrow", "20200301", "2020-W10", "..", "2020/2021/2022", "0000", "12:00"]
)
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_interval(text)


@pytest.mark.parametrize("text", ["2021-02-29", "2020-13", "2021-02-30T00:00:00Z/..", "2020-01-01T25:00:00Z"])
def test_a_day_that_does_not_exist_is_told_as_that(text: str) -> None:
    """A STAC search, which takes no dates alone, advised to give a date."""
    with pytest.raises(InvalidFilter, match=f"{text}' has a day or a time of day that does not exist"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("2020-03-31/2021", True),
        ("2020-03-31T00:00:00Z", True),
        ("2020-03-31T00:00:00.000001Z/..", False),
        ("../2020-03-01T00:00:00Z", True),
        ("../2020-02", False),
        ("2020-03-10", True),
        ("../..", True),
    ],
)
def test_time_intersects_ends_included(asked: str, expected: bool) -> None:
    assert fits(time=asked) is expected
    assert not matches(Query(time=asked), sample(1)), "a record without a time does not fit"


def test_open_spans_reach_on() -> None:
    since = sample(1, time=TimeSpan(start=datetime(2020, 1, 1, tzinfo=UTC)))
    assert matches(Query(time="9999"), since)
    assert not matches(Query(time="2019"), since)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((175, 0, 176, 1), True),
        ((-176, 0, -175, 1), True),
        ((-170, 10, 0, 20), True),
        ((-169.9, 0, 169.9, 1), False),
        ((160, -20, -160, 20), True),
        ((180, 0, 180, 0), True),
        ((0, 10.1, 180, 20), False),
    ],
)
def test_boxes_meet_edges_included_over_the_antimeridian(asked: tuple[float, ...], expected: bool) -> None:
    assert fits(bbox=asked) is expected
    assert not matches(Query(bbox=asked), sample(1)), "a record without a box does not fit"


def test_180_and_minus_180_are_one_edge() -> None:
    east, west = sample(1, bbox=(170, 0, 180, 1)), sample(2, bbox=(-180, 0, -170, 1))
    assert matches(Query(bbox=(-180, 0, -175, 1)), east)
    assert matches(Query(bbox=(175, 0, 180, 1)), west)


@pytest.mark.parametrize("bbox", [(0, 0, 1), (0, 1, 1, 0), (0, 0, 181, 1), (0, -91, 1, 1), (0, 0, math.nan, 1)])
def test_what_is_no_box(bbox: tuple[float, ...]) -> None:
    with pytest.raises(InvalidFilter, match="bbox"):
        Query(bbox=bbox)


# --- queries, pages, fields -----------------------------------------------------------------------------------------


def test_a_query_reads_its_texts_on_the_way_in() -> None:
    query = Query(where="year>2000", time="2020", kinds="dataset", statuses="active", order="-year")
    assert query.terms == (Term("year", ">", (2000, "2000")),)
    assert (query.kinds, query.statuses, query.order) == (frozenset({"dataset"}), frozenset({"active"}), ("-metadata.year",))
    assert hash(query) == hash(
        Query(where=["year>2000"], time=Interval(*parse_interval("2020")), kinds={"dataset"}, order=["-year"])
    )
    with pytest.raises(InvalidRequest, match="limit"):
        Query(limit=0)


def test_statuses_and_kinds() -> None:
    gone = sample(1, status="deleted", deleted_from="active")
    assert not matches(Query(), gone)
    assert matches(Query(statuses=None), gone)
    assert matches(Query(statuses={"deleted"}, kinds={"document"}), gone)
    assert not matches(Query(statuses=None, kinds=set()), gone)


def test_a_page_is_a_sequence() -> None:
    records = [sample(i) for i in range(3)]
    page = select(Query(order=("created_at",), limit=2, count=True), records)
    assert (list(page), len(page), page[-1], page[:1], page.matched) == (records[:2], 2, records[1], (records[0],), 3)
    assert page.next is not None
    assert not Page()
    last = select(Query(order=("created_at",), limit=2, cursor=page.next), records)
    assert (list(last), last.next) == (records[2:], None)


@settings(max_examples=50)
@given(
    st.lists(st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5).filter(str.isprintable) | st.booleans())
)
def test_cursors_carry_any_value(values: list[Any]) -> None:
    query = Query(order=[f"f{i}" for i in range(len(values))])
    key = (tuple(None if value is None else comparable(value) for value in values), "a" * 32)
    assert read_cursor(query.at(write_cursor(query, key))) == key


def test_a_cursor_names_no_place_in_another_query() -> None:
    query = Query(order=("title",))
    cursor = write_cursor(query, (((2, "t"),), "a" * 32))
    for other in (Query(order=("-title",)), Query(order=("title",), statuses=None), Query(order=("title",), text="x")):
        with pytest.raises(InvalidCursor):
            read_cursor(other.at(cursor))


def test_fields_are_summed_up_with_secrets_masked() -> None:
    records = [
        sample(1, metadata={"year": [2018, "x", 2019], "login": {"api_token": "s3cret"}, "url": "https://u:p@h.org/a?k=v"}),
        sample(2, metadata={"year": 2018.5, "title": "t" * 100}, schema_name="s", schema_version="1", tags=["b"]),
        sample(3, metadata={"hidden": 1}, status="deleted"),
    ]
    assert summarise(None, records) == [
        FieldSummary("login.api_token", {"text": 1}, 1, ("***",), ()),
        FieldSummary("metadata.title", {"text": 1}, 1, ("t" * 80,), ("s",)),
        FieldSummary("tags", {"text": 1}, 1, ("b",), ("s",)),
        FieldSummary("url", {"text": 1}, 1, ("https://h.org/a",), ()),
        FieldSummary("year", {"number": 2, "text": 1}, 2, (2018, 2018.5, 2019, "x"), ("s",)),
    ]
    assert count_values(None, "year", records, 2) == [(2018, 1), (2018.5, 1)]
    assert count_values(Query(statuses=None), "status", records, 5) == [("active", 2), ("deleted", 1)]


def test_leaves() -> None:
    assert leaves({"artifacts": [{"role": "log"}], "metadata": {"a.b": [1, [None, {"c": True}]]}, "title": None}) == [
        ("artifact.role", "log"),
        ('metadata."a.b"', 1),
        ('metadata."a.b".c', True),
    ]
