"""Parameters become a Selection by our own grammar, in time linear in the text."""

from __future__ import annotations

import contextlib
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeport.cubes.download import parse_download
from cubeport.cubes.selection import (
    Instant,
    Latest,
    Period,
    Scale,
    Selection,
    Slice,
    Subset,
    Trim,
    first_of,
    in_utc,
    last_of,
    parse,
    stamp_at,
)
from cubeport.errors import InvalidRequest

FORMS = ("json", "covjson", "netcdf")


def read(*pairs: tuple[str, str]) -> Selection:
    return parse(pairs, forms=FORMS)


def refusal(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        read(*pairs)
    return [(str(problem.loc[1]), problem.kind) for problem in caught.value.errors]


def test_nothing_asked_is_everything() -> None:
    assert read() == Selection()


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("1,2,3,4", (1, 2, 3, 4)),
        ("-10.5,-4e1,1e1,.5", (-10.5, -40, 10, 0.5)),
        ("170,-10,-170,10", (170, -10, -170, 10)),
        ("1,2,0,3,4,500", (1, 2, 0, 3, 4, 500)),
    ],
)
def test_a_box_has_four_or_six_numbers(text: str, box: tuple[float, ...]) -> None:
    assert read(("bbox", text)).bbox == box


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "1,2,3,4,5", "a,b,c,d", "nan,0,1,1", "inf,0,1,1", "1e999,0,1,1", "", "1,2,3,4,", "0x1,2,3,4", "1;2;3;4", "１,2,3,4"],
)
def test_a_malformed_box_is_refused(text: str) -> None:
    assert refusal(("bbox", text)) == [("bbox", "malformed")]


def test_south_above_north_is_refused_while_west_beyond_east_crosses() -> None:
    assert refusal(("bbox", "0,10,1,-10")) == [("bbox", "invalid-range")]
    assert refusal(("bbox", "0,0,9,1,1,2")) == [("bbox", "invalid-range")]


def test_degrees_end_at_540_and_90_and_metres_do_not() -> None:
    assert refusal(("bbox", "-541,-91,0,0")) == [("bbox", "out-of-range"), ("bbox", "out-of-range")]
    assert read(("bbox", "0,0,700000,1300000"), ("bbox-crs", "[EPSG:27700]")).bbox_crs == "EPSG:27700"


@pytest.mark.parametrize(
    "text",
    ["http://www.opengis.net/def/crs/OGC/1.3/CRS84", "https://www.opengis.net/def/crs/OGC/0/CRS84", "OGC:CRS84", "[OGC:CRS84]"],
)
def test_crs84_has_several_names(text: str) -> None:
    assert read(("bbox", "0,0,1,1"), ("bbox-crs", text)).bbox_crs is None


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("2006", (2006,)),
        ("2006-04", (2006, 4)),
        ("2095-02-30", (2095, 2, 30)),
        ("2006-04-01T12Z", (2006, 4, 1, 12)),
        ("2006-04-01T12:30", (2006, 4, 1, 12, 30)),
        ("2006-04-01t12:30:15.25z", (2006, 4, 1, 12, 30, 15, 250000)),
    ],
)
def test_an_instant_keeps_the_fields_that_were_given(text: str, fields: tuple[int, ...]) -> None:
    assert read(("datetime", text)).datetime == Instant(fields)


@pytest.mark.parametrize(
    "text",
    [
        "2006-4",
        "06-04-01",
        "2006-13",
        "2006-00-01",
        "2006-01-32",
        "yesterday",
        "2006/2007/2008",
        "2006-01-01T24:00",
        "2006-01-01T00:00+24:00",
        " 2006",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert refusal(("datetime", text)) == [("datetime", "malformed")]


def test_periods_may_be_open() -> None:
    a, b = Instant((2006, 4)), Instant((2007,))
    assert read(("datetime", "2006-04/2007")).datetime == Period(a, b)
    assert read(("datetime", "2006-04/..")).datetime == read(("datetime", "2006-04/")).datetime == Period(a, None)
    assert read(("datetime", "../2007")).datetime == Period(None, b)
    assert refusal(("datetime", "2008/2007")) == [("datetime", "invalid-range")]


def test_a_short_end_reaches_the_end_of_its_last_component() -> None:
    assert stamp_at(last_of(Instant((2006, 4))))[:6] == (2006, 4, 31, 23, 59, 59)
    assert first_of(Instant((2006, 4))) == last_of(Instant((2006, 4, 1, 0, 0, 0)))


@pytest.mark.parametrize(
    ("text", "calendar", "utc"),
    [
        ("2006-02-30T23:00:00-05:00", "360_day", (2006, 3, 1, 4, 0, 0)),
        ("2004-02-28T23:00:00-05:00", "noleap", (2004, 3, 1, 4, 0, 0)),
        ("2004-02-28T23:00:00-05:00", "standard", (2004, 2, 29, 4, 0, 0)),
        ("2004-01-01T01:00:00+02:00", "standard", (2003, 12, 31, 23, 0, 0)),
    ],
)
def test_an_offset_is_taken_away_by_the_days_of_the_calendar(text: str, calendar: str, utc: tuple[int, ...]) -> None:
    instant = read(("datetime", text)).datetime
    assert isinstance(instant, Instant)
    assert in_utc(instant, calendar).fields == utc


def test_a_day_that_the_calendar_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="no such day"):
        in_utc(Instant((2095, 2, 30)), "noleap")


@pytest.mark.parametrize(
    ("text", "subsets"),
    [
        ("Lat(10:20)", [Subset("Lat", Trim(10, 20))]),
        ("Lat(10:20),Lon(-5.5:*)", [Subset("Lat", Trim(10, 20)), Subset("Lon", Trim(-5.5, None))]),
        ('time("2006-04-01T00:00:00Z":"2006-05")', [Subset("time", Trim("2006-04-01T00:00:00Z", "2006-05"))]),
        ("time(*)", [Subset("time", Latest())]),
        ('member("r1i1p1f1","r2")', [Subset("member", Slice(("r1i1p1f1", "r2")))]),
        ("level(500,850)", [Subset("level", Slice((500, 850)))]),
        ("member(r1)", [Subset("member", Slice(("r1",)))]),
        ("time(2006-04)", [Subset("time", Slice(("2006-04",)))]),
        ('name("a)b(c,d:e")', [Subset("name", Slice(("a)b(c,d:e",)))]),
    ],
)
def test_subset_reads_trims_slices_and_lists(text: str, subsets: list[Subset]) -> None:
    assert list(read(("subset", text)).subsets) == subsets


MALFORMED = (
    """|Lat|Lat(|Lat()|Lat(1:2|Lat(1:2:3)|Lat(1,*)|Lat(nan)|Lat(-inf:inf)|Lat(1:2)Lon(3:4)|Lat(1:2),|(1:2)|Lat("1)|lat)1(|a,b(1)"""
)


@pytest.mark.parametrize("text", [*MALFORMED.split("|"), "[" * 2000, "(" * 2000, "Lat(" * 500])
def test_malformed_subsets_are_refused_at_once(text: str) -> None:
    began = time.perf_counter()
    assert refusal(("subset", text)) == [("subset", "malformed")]
    assert time.perf_counter() - began < 0.05


def test_time_grows_with_the_length_and_no_faster() -> None:
    def seconds(count: int) -> float:
        began = time.perf_counter()
        refusal(("subset", "Lat(" + "1," * count + "x"))
        return time.perf_counter() - began

    seconds(100)
    assert seconds(200_000) < 60 * max(seconds(20_000), 1e-3)


def test_every_problem_is_told_at_once_and_no_value_is_echoed() -> None:
    pairs = [
        ("bbox", "1,2,secret"),
        ("bbox", "0,0,1,1"),
        ("colour", "red"),
        ("width", "2"),
        ("datetime", "x"),
        ("f", "gif"),
        ("estimate", "yes"),
    ]
    with pytest.raises(InvalidRequest) as caught:
        read(*pairs)
    assert [(problem.loc[1], problem.kind) for problem in caught.value.errors] == [
        ("bbox", "malformed"),
        ("bbox", "repeated"),
        ("colour", "unknown"),
        ("width", "not-offered"),
        ("datetime", "malformed"),
        ("f", "not-offered"),
        ("estimate", "malformed"),
    ]
    assert "secret" not in str(caught.value.to_mapping())


def test_an_unknown_parameter_is_refused_with_those_that_exist() -> None:
    """``f`` is ``format`` in a download, where refusals said only that ``f`` is none."""
    with pytest.raises(InvalidRequest) as caught:
        parse_download([("f", "netcdf")])
    (problem,) = caught.value.errors
    words = "f is not a parameter here, where there are only bbox, datetime, end, estimate, format, start, variables"
    assert (problem.kind, problem.message) == ("unknown", words)


def test_parameters_that_say_nothing_together_are_refused() -> None:
    assert refusal(("bbox-crs", "OGC:CRS84")) == [("bbox-crs", "missing")]
    assert refusal(("properties", "a"), ("exclude-properties", "b")) == [("exclude-properties", "clash")]
    assert refusal(("properties", "a,a")) == [("properties", "repeated")]


# --- parse ∘ format -----------------------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False, width=64).map(lambda value: value + 0.0)
names = st.text(string.ascii_letters + string.digits + "_-.", min_size=1, max_size=12)
texts = st.text(st.characters(exclude_characters='"', exclude_categories=("Cs", "Cc")), max_size=12)
points = st.one_of(numbers, texts)


@st.composite
def instants(draw: st.DrawFn) -> Instant:
    limits = [(0, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59), (0, 999_999)]
    count = draw(st.integers(1, 7))
    fields = tuple(draw(st.integers(low, high)) for low, high in limits[:count])
    return Instant(fields, draw(st.integers(-1439, 1439)) if count > 3 else 0)


@st.composite
def periods(draw: st.DrawFn) -> Period:
    start, end = draw(st.none() | instants()), draw(st.none() | instants())
    if start is not None and end is not None and first_of(start) > last_of(end):
        start, end = end, start
    return Period(start, end)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, ...]:
    lon, lat = st.floats(-540, 540), st.floats(-90, 90)
    south, north = sorted((draw(lat) + 0.0, draw(lat) + 0.0))
    return (draw(lon) + 0.0, south, draw(lon) + 0.0, north)


parts = st.one_of(
    st.builds(Trim, st.none() | points, st.none() | points),
    st.lists(points, min_size=1, max_size=4).map(lambda values: Slice(tuple(values))),
    st.just(Latest()),
)
selections = st.builds(
    Selection,
    bbox=st.none() | boxes(),
    datetime=st.none() | instants() | periods(),
    subsets=st.lists(st.builds(Subset, names, parts), max_size=3).map(tuple),
    crs=st.sampled_from([None, "OGC:CRS84", "EPSG:27700", "native"]),
    subset_crs=st.sampled_from([None, "OGC:CRS84", "EPSG:27700", "native"]),
    scale=st.none()
    | st.floats(0.01, 1e6).map(lambda factor: Scale("scale-factor", (("", factor),)))
    | st.lists(st.tuples(names, st.integers(1, 1000).map(float)), min_size=1, max_size=2).map(
        lambda parts: Scale("scale-size", tuple(parts))
    ),
    properties=st.none() | st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    form=st.none() | st.sampled_from(FORMS),
    estimate=st.booleans(),
)


@given(selections)
def test_what_is_formatted_is_read_back(selection: Selection) -> None:
    assert parse(selection.query(), forms=FORMS) == selection


@given(st.lists(st.tuples(st.sampled_from(["bbox", "datetime", "subset", "properties", "f"]), st.text(max_size=40)), max_size=4))
def test_any_text_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    with contextlib.suppress(InvalidRequest):
        parse(pairs, forms=FORMS)
