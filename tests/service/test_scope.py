from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from cubeport.cubes.description import CubeDescription, Spatial, Temporal
from cubeport.errors import AreaOutsideSource, CoverageIncomplete, Gap, InvalidPeriod, InvalidRange, SourceRejected
from cubeport.service.ingestions import Scope
from cubeport.service.scope import check_asked, check_climatology, check_covered, check_realised, holds, hull
from cubeport.service.templates import DatasetTemplate, TemplateFields

MONTHS = {"temporal": {"start": "2006-04", "end": "2010-09", "count": 54}, "calendar": "standard"}
YEARS_360 = {"temporal": {"start": "1860", "end": "2099", "count": 240}, "calendar": "360_day"}


def cube(start: str, end: str, count: int, *, values: tuple[str, ...] | None = None, calendar: str = "standard") -> CubeDescription:
    temporal = Temporal(axis="time", calendar=calendar, start=start, end=end, count=count, values=values)
    return CubeDescription(
        axes=(), variables=(), fields=(), spatial=Spatial(family="none", bbox=(-180, -90, 180, 90)), temporal=temporal
    )


@pytest.mark.parametrize(
    ("start", "end", "held"),
    [
        ("2006-04", "2010-09", True),
        ("2006-04", None, True),
        ("2007", "2008", True),
        ("2006-03", "2010-09", False),
        ("2006-04", "2010-10", False),
        ("2010", None, True),
    ],
)
def test_what_is_held_is_told_by_periods(start: str, end: str | None, held: bool) -> None:
    assert holds(MONTHS, Scope(start=start, end=end), "monthly") is held


def normal(days: Iterable[object], calendar: str = "standard") -> CubeDescription:
    labels = tuple(f"{each}T00:00:00Z" for each in days)
    return cube(labels[0], labels[-1], len(labels), values=labels, calendar=calendar)


def year(number: int, *without: str) -> list[str]:
    days = (str(date(number, 1, 1) + timedelta(each)) for each in range(366))
    return [each for each in days if each.startswith(str(number)) and each[5:] not in without]


def months(day: str, *without: int) -> list[str]:
    return [f"1995-{month:02}-{day}" for month in range(1, 13) if month not in without]


THIRDS = sorted([*months("01"), *months("11"), *months("21")])


@pytest.mark.parametrize(
    ("kind", "found", "missing"),
    [
        ("monthly", normal(months("16")), []),
        ("monthly", normal(months("16", 5, 7)), ["05", "07"]),
        ("seasonal", normal(["1995-01-16", "1995-04-16", "1995-10-16"]), ["JJA"]),
        ("dekadal", normal(THIRDS), []),
        ("dekadal", normal(THIRDS[:-1]), ["36"]),
        ("daily", normal(year(1995)), []),
        ("daily", normal(year(1996)), []),
        ("daily", normal(year(1996, "02-29")), ["060"]),
        ("daily", normal((f"1995-{m:02}-{d:02}" for m in range(1, 13) for d in range(1, 31)), "360_day"), []),
    ],
)
def test_a_climatology_has_a_step_of_each_of_its_periods(kind: str, found: CubeDescription, missing: list[str]) -> None:
    said = TemplateFields.model_validate({"period_type": "climatology", "climatology": kind})
    with pytest.raises(Gap) if missing else nullcontext() as caught:
        check_climatology(None, said, found, "climatology", allow_gaps=False)
    assert [each["start"] for each in (caught.value.members["gaps"] if caught is not None else ())] == missing
    check_climatology(None, said, found, "climatology", allow_gaps=True)


def test_a_climatology_has_no_place_for_more_steps() -> None:
    said, whole = TemplateFields.model_validate({"period_type": "climatology", "climatology": "monthly"}), normal(months("16"))
    twice = normal([*months("01"), *months("16")])
    undated = whole.model_copy(update={"temporal": None})
    for held, fields, found in ((None, said, twice), (None, said, undated), (whole, TemplateFields(), twice)):
        with pytest.raises(SourceRejected) as caught:
            check_climatology(held, fields, found, "climatology", allow_gaps=True)
        assert caught.value.members["reason"] == "bad-time"
    check_climatology(whole, TemplateFields(), whole, "climatology", allow_gaps=False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"period_type": "climatology"}, "needs climatology: one of monthly"),
        ({"period_type": "monthly", "climatology": "monthly"}, "goes with period_type: climatology"),
        ({"period_type": "climatology", "climatology": "weekly"}, "monthly"),
    ],
)
def test_a_template_says_of_what_its_climatology_is(fields: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TemplateFields.model_validate(fields)


def test_a_hull_never_shrinks() -> None:
    assert hull(Scope(start="2007-01", end="2011-12"), MONTHS, "monthly") == Scope(start="2006-04", end="2011-12")
    assert hull(Scope(start="2005-01", end="2005-12"), MONTHS, "monthly") == Scope(start="2005-01", end="2010-09")
    assert hull(Scope(start="1900", end="1950"), YEARS_360, "yearly") == Scope(start="1860", end="2099")


def test_a_range_is_compared_by_calendar_and_not_as_text() -> None:
    check_asked(Scope(start="2095-02-30", end="2095-03-01"), "daily", "360_day")
    with pytest.raises(InvalidPeriod):
        check_asked(Scope(start="2095-02-30"), "daily", "standard")
    with pytest.raises(InvalidRange):
        check_asked(Scope(start="2010-02", end="2010-01"), "monthly", "standard")


@pytest.mark.parametrize(
    ("source", "asked", "covered"),
    [
        ((-135.9, 14.3, -44.0, 60.7), (-100, 20, -90, 30), True),
        ((-135.9, 14.3, -44.0, 60.7), (5, 40, 10, 50), False),
        ((-135.9, 14.3, -44.0, 60.7), (-100, -20, -90, 10), False),
        ((170, -30, -170, 30), (-175, 0, -160, 10), True),
        ((170, -30, -170, 30), (0, 0, 10, 10), False),
        ((170, -30, 180, 30), (-180, 0, -170, 10), True),
        ((-180, -90, 180, 90), (176, -20, -178, -15), True),
    ],
)
def test_an_area_that_the_source_does_not_have_is_refused(source: Any, asked: Any, *, covered: bool) -> None:
    with nullcontext() if covered else pytest.raises(AreaOutsideSource, match="extent here"):
        check_covered(said(spatial={"bbox": source}), Scope(extent_id="here", bbox=asked))


@pytest.mark.parametrize(
    ("start", "end", "covered"),
    [
        ("2006-04", "2010-09", True),
        ("2007", None, True),
        (None, None, True),
        ("2006", "2007", False),
        ("2006-03", None, False),
        ("2008-01", "2010-10", False),
        ("2011-01", None, False),
        (None, "2010-12", False),
    ],
)
def test_periods_that_the_source_does_not_have_are_refused(start: str | None, end: str | None, *, covered: bool) -> None:
    with nullcontext() if covered else pytest.raises(AreaOutsideSource, match="2006-04 to 2010-09: template 'sst' says so"):
        check_covered(said(temporal={"begin": "2006-04", "end": "2010-09"}), Scope(start=start, end=end))


@pytest.mark.parametrize(
    ("extents", "words"),
    [
        ({"temporal": {"begin": "yesterday"}}, "extents.temporal: "),
        ({"temporal": {"begin": "2010-01", "end": "2009-12"}}, "the end 2009-12 is before the begin 2010-01"),
        ({"temporal": {"end": "2009-W07"}}, "extents.temporal: "),
        ({"spatial": {"bbox": [0, 10, 5, 5]}}, "south < north"),
        ({"spatial": {"bbox": [0, 10, 400, 50]}}, "in degrees"),
    ],
)
def test_what_is_no_area_or_period_is_refused_where_it_is_written(extents: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        said(**extents)


def said(**extents: Any) -> DatasetTemplate:
    source = {"kind": "files", "paths": ["a.nc"]}
    return DatasetTemplate.model_validate(
        {"id": "sst", "title": "SST", "period_type": "monthly", "source": source, "extents": extents}
    )


def refused(error: type[Exception], asked: Scope, description: CubeDescription, **options: Any) -> Any:
    with pytest.raises(error) as caught:
        check_realised(asked, description, "daily", allow_gaps=options.get("allow_gaps", False))
    return caught.value


def test_an_end_that_the_source_does_not_have_is_incomplete() -> None:
    january = cube("2024-01-01T00:00:00Z", "2024-01-30T00:00:00Z", 30)
    problem = refused(CoverageIncomplete, Scope(start="2024-01-01", end="2024-01-31"), january)
    assert problem.members["available"] == {"start": "2024-01-01", "end": "2024-01-30"}
    check_realised(Scope(start="2024-01-01", end="2024-01-30"), january, "daily", allow_gaps=False)


def test_missing_days_are_a_gap_that_can_be_allowed() -> None:
    days = ("2024-01-01T12:00:00Z", "2024-01-02T12:00:00Z", "2024-01-05T12:00:00Z")
    holed = cube(days[0], days[-1], 3, values=days)
    problem = refused(Gap, Scope(), holed)
    assert problem.members["gaps"] == [{"start": "2024-01-03", "end": "2024-01-04", "count": 2}]
    check_realised(Scope(), holed, "daily", allow_gaps=True)


def test_two_steps_in_one_day_are_no_daily_data() -> None:
    hourly = cube("2024-01-01T00:00:00Z", "2024-01-01T18:00:00Z", 4)
    assert refused(SourceRejected, Scope(), hourly).reason == "bad-time"
