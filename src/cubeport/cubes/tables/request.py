"""The request for a table: its parameters are parsed once, by their own grammar, into one value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cubeport.cubes.selection import Selection, parse
from cubeport.cubes.tables import statistics, timing
from cubeport.cubes.tables.statistics import RequestedStatistic
from cubeport.cubes.tables.timing import AS_STORED, Method
from cubeport.errors import InvalidRequest, Problem, unknown_parameter

type Departure = Literal["absolute", "percent", "standard"]

DEPARTURES: tuple[Departure, ...] = ("absolute", "percent", "standard")
_METHODS: dict[str, Method] = {"mean": "mean", "sum": "sum", "min": "minimum", "max": "maximum"}
"""How steps become a period, as a request writes it."""
_MOST_STATISTICS = 10
_MOST_YEARS = 200
_YEARS = re.compile(r"([0-9]{4})/([0-9]{4})", re.ASCII)
_ELEMENT = re.compile(r"(?:([^:,]{1,256}):)?([A-Za-z][A-Za-z0-9]{10})", re.ASCII)

PARAMETERS = {
    "zones": "The id of a zone set, or of an extent",
    "zone": "The ids of some of its zones, with commas",
    "statistic": "mean (default), sum, min, max, median, stdev, count, p5 … p95, share(N), majority; several with commas",
    "period": "as-stored (default), day, week, dekad, month, quarter, season, year",
    "period-statistic": "mean, sum, min, max: how steps become a period; else what cell_methods say",
    "min-share": "The part of a period that must have values, 0 to 1 (default 0.8)",
    "datetime": "Which times: an instant, or a/b, ../b, a/..; each period that meets it is whole",
    "variables": "Fields, with commas; the default is the first",
    "z": "One level",
    "subset": "axis(value) of each other axis",
    "weights": "dataset:variable, such as population:people: what cells count, instead of their area; its last step",
    "relative-to": "The years of the normal, such as 1991/2020: values are departures from it",
    "departure": "absolute (default), percent, standard",
    "data-element": "For dhis2: the id of the data element, or variable:id with commas",
    "estimate": "true: only what the table would cost",
}
"""What a table takes, beside ``f``, in the order of the definition."""


@dataclass(frozen=True, slots=True)
class TableRequest:
    """A request for a table, without the zones, which have an id or are in the body."""

    selection: Selection = field(default_factory=Selection)
    """``datetime``, ``properties`` and ``subsets``; at most one value of each axis that is not time."""
    zones: str | None = None
    zone: tuple[str, ...] = ()
    statistics: tuple[RequestedStatistic, ...] = field(default_factory=lambda: (statistics.asked("mean"),))
    period: str = AS_STORED
    method: Method | None = None
    """How steps become a period; ``None`` leaves it to ``cell_methods``."""
    min_share: float = 0.8
    weights: tuple[str, str] | None = None
    """The dataset (or ``id@version``) and the variable that say what each cell counts; ``None`` is its area."""
    years: tuple[int, int] | None = None
    """First and last year of the normal."""
    departure: Departure = "absolute"
    elements: tuple[tuple[str | None, str], ...] = ()
    """Data elements of DHIS2, by variable; ``None`` is the only one."""
    estimate: bool = False


def parse_table(pairs: Sequence[tuple[str, str]]) -> TableRequest:
    """Return the request for the parameters, which do not include ``f``.

    Raises
    ------
    InvalidRequest
        With every problem.
    """
    problems: list[Problem] = []
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            problems.append(unknown_parameter(name, PARAMETERS))
        elif name in given:
            problems.append(Problem(("query", name), "repeated", f"{name} may be given once"))
        given.setdefault(name, value)
    found: dict[str, Any] = {}
    for name, (member, read) in _READERS.items():
        if name in given:
            try:
                found[member] = read(given[name])
            except ValueError as error:
                problems.append(Problem(("query", name), "malformed", f"{name} {error}"))
    taken = [(theirs, given[ours]) for ours, theirs in (("variables", "properties"), ("datetime", "datetime")) if ours in given]
    subsets = [given["subset"]] if "subset" in given else []
    if "z" in given:
        subsets.append(f"z({given['z']})")
    if subsets:
        taken.append(("subset", ",".join(subsets)))
    try:
        found["selection"] = parse(taken, forms=(), allowed=("datetime", "subset", "properties"))
    except InvalidRequest as refused:
        problems += map(renamed, refused.errors)
    if "departure" in given and "relative-to" not in given:
        problems.append(Problem(("query", "departure"), "missing", "departure needs relative-to, the years of the normal"))
    if problems:
        raise InvalidRequest("The query has parameters that are not valid.", errors=problems)
    return TableRequest(**found)


def renamed(problem: Problem) -> Problem:
    """Return the problem of a selection in terms of the parameters of a table."""
    if problem.loc[1] != "properties":
        return problem
    return Problem(("query", "variables"), problem.kind, problem.message.replace("properties", "variables"))


def _ids(text: str) -> tuple[str, ...]:
    ids = tuple(each.strip() for each in text.split(","))
    if not all(0 < len(each) <= 200 for each in ids):
        raise ValueError("must be ids with a comma between them")
    return ids


def _zones(text: str) -> str:
    if not 0 < len(text) <= 64:
        raise ValueError("must be the id of a zone set")
    return text


def _statistics(text: str) -> tuple[RequestedStatistic, ...]:
    found = tuple(statistics.asked(each.strip()) for each in text.split(","))
    if len({each.text for each in found}) < len(found) or len(found) > _MOST_STATISTICS:
        raise ValueError(f"may be up to {_MOST_STATISTICS} different ones, with commas")
    return found


def _choice[T](choices: dict[str, T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return choices[text]

    return read


def _share(text: str) -> float:
    try:
        share = float(text) if len(text) < 20 else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("must be a number from 0 to 1")
    return share


def _weights(text: str) -> tuple[str, str]:
    dataset, _, variable = text.partition(":")
    if not dataset or not variable or len(text) > 400:
        raise ValueError("must be dataset:variable, such as population:people")
    return dataset, variable


def years_in(text: str) -> tuple[int, int]:
    """Return the years of a normal. Raises ValueError with a message that continues a sentence beginning with the parameter."""
    found = _YEARS.fullmatch(text)
    if found is None or not 0 <= int(found[2]) - int(found[1]) < _MOST_YEARS:
        raise ValueError(f"must be the first and the last year, such as 1991/2020, up to {_MOST_YEARS} years")
    return int(found[1]), int(found[2])


def _elements(text: str) -> tuple[tuple[str | None, str], ...]:
    found = [_ELEMENT.fullmatch(each.strip()) for each in text.split(",")]
    if not all(found):
        raise ValueError("must be ids of DHIS2 (11 letters and digits), or variable:id, with commas")
    return tuple((each[1], each[2]) for each in found if each is not None)


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "zones": ("zones", _zones),
    "zone": ("zone", _ids),
    "statistic": ("statistics", _statistics),
    "period": ("period", _choice({each: each for each in (AS_STORED, *(kind.name for kind in timing.KINDS))})),
    "period-statistic": ("method", _choice(_METHODS)),
    "min-share": ("min_share", _share),
    "weights": ("weights", _weights),
    "relative-to": ("years", years_in),
    "departure": ("departure", _choice({each: each for each in DEPARTURES})),
    "data-element": ("elements", _elements),
    "estimate": ("estimate", _choice({"true": True, "false": False})),
}
