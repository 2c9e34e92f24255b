"""Filters in CQL2 (OGC 21-065r2): parse text or JSON, validate it, and evaluate it for one object after another.

The library ``cql2`` parses and validates. This module defines the meaning of a filter, with the three-valued logic of the standard:
a comparison with a missing value or a value of another type is unknown, and only true matches.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property, partial
from typing import Any

from cubeport.catalog.forms.patterns import Wildcard, is_like
from cubeport.documents.geojson import box_geometry
from cubeport.errors import InvalidRequest, Problem
from cubeport.leap import without_leap

MAX_TEXT = 4_096
MAX_TERMS = 100
MAX_DEPTH = 8
"""The largest depth of brackets. The library needs a second for twenty open brackets, and 20 seconds for thirty (measured with cql2
0.6)."""

TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated")

type Value = Any
type Facts = Mapping[str, Any]
"""The facts about one object, by name: texts, numbers, booleans, lists of these, and GeoJSON under ``geometry``."""


@dataclass(frozen=True)
class Filter:
    """A parsed and validated filter."""

    expression: Mapping[str, Any]
    """The filter as CQL2-JSON."""

    def fits(self, facts: Facts) -> bool:
        """Return whether the filter is true for these facts."""
        return _value(self.expression, facts) is True

    @cached_property
    def properties(self) -> frozenset[str]:
        """The names that the filter uses."""
        return frozenset(_properties(self.expression))

    @cached_property
    def terms(self) -> tuple[Mapping[str, Any], ...]:
        """The conditions that must all be true."""
        return tuple(_conjunction(self.expression))

    def values_of(self, name: str) -> frozenset[str] | None:
        """Return the texts to which the filter restricts *name*, or ``None``."""
        found: list[frozenset[str]] = []
        for term in self.terms:
            match term:
                case {"op": "=", "args": [{"property": own}, str() as wanted]} if own == name:
                    found.append(frozenset((wanted,)))
                case {"op": "in", "args": [{"property": own}, [*wanted]]} if own == name:
                    found.append(frozenset(each for each in wanted if isinstance(each, str)))
        return frozenset.intersection(*found) if found else None

    @cached_property
    def box(self) -> tuple[float, float, float, float] | None:
        """The box in CRS84 that a geometry must intersect, if the filter has one inside the world: west, south, east, north."""
        for term in self.terms:
            match term:
                case {"op": op, "args": [{"property": "geometry"}, {"bbox": [*edges]}]} if op in _MEETING:
                    west, south, east, north = edges if len(edges) == 4 else (edges[0], edges[1], edges[3], edges[4])
                case {"op": op, "args": [{"property": "geometry"}, {"type": str()} as literal]} if op in _MEETING:
                    west, south, east, north = _shape(literal).bounds
                case _:
                    continue
            if abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90:
                return west, south, east, north
        return None


def read(text: str | None, document: Any = None) -> Filter:
    """Return the filter of a CQL2 text, or of a CQL2-JSON document.

    Raises
    ------
    InvalidRequest
        If it is not CQL2, is too long or too deeply nested, or uses an unknown function.
    """
    import json

    import cql2

    found: Any = None
    try:
        if text is not None:
            check_size(text)
            expression = cql2.parse_text(text)
        else:
            _check_tree(document)
            expression = cql2.parse_json(json.dumps(document))
        found = expression.to_json()
        expression.validate()
        if not isinstance(found, dict):
            raise TypeError("a condition is expected")
    except (cql2.ParseError, cql2.ValidationError, ValueError, TypeError) as exc:
        raise _wrong(_advice(found) or f"cannot be read as CQL2: {_reason(exc)}") from exc
    if "op" not in found:
        raise _wrong("must be a condition, for example collection = 'sst'")
    for op in _operators(found):
        if op not in _OPERATORS:
            raise _wrong(f"{op[:40]!r} is not a function that is known here")
    return Filter(found)


def _advice(found: Any) -> str | None:
    """Return how to write what SQL allows and CQL2 does not; ``None`` if nothing of this kind is in an invalid filter."""
    match found:
        case {"property": str(name)}:
            return f"has the property {name[:40]!r} as a condition: write {name[:40]} = true"
        case {"op": "between", "args": [what, *ends]} if not all(isinstance(each, int | float) for each in ends):
            name = what["property"][:40] if isinstance(what, dict) and isinstance(what.get("property"), str) else "a"
            return f"has BETWEEN with ends that are not numbers: write {name} >= … AND {name} <= …"
        case {"op": "=" | "<>" as op, "args": [*args]} if None in args:
            return f"compares with null: write {'IS NULL' if op == '=' else 'IS NOT NULL'}"
        case {"op": "and" | "or" | "not", "args": [*args]}:
            return next((advice for each in args if (advice := _advice(each)) is not None), None)
    return None


def _reason(exc: Exception) -> str:
    """Return the last line of the library's message, which says what it expected."""
    lines = [line.strip(" =|") for line in str(exc).splitlines() if line.strip(" =|")]
    return lines[-1][:200] if lines else "malformed"


_MEETING = ("s_intersects", "s_within", "s_equals", "s_touches", "s_overlaps", "s_crosses", "s_contains")
"""The relations that can only be true if the boxes of two geometries intersect."""


def check_size(text: str) -> None:
    """Refuse a text whose parsing could take long, in one pass. Raises ValueError."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"it has {len(text)} characters; at most {MAX_TEXT} are read")
    quote: str | None = None
    depth = 0
    for char in text:
        if quote is not None:
            quote = None if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "(":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"brackets are nested deeper than {MAX_DEPTH}")
        elif char == ")":
            depth -= 1
    if len(re.findall(r"\b(?:and|or|not)\b", text, re.IGNORECASE)) > MAX_TERMS:
        raise ValueError(f"it has more than {MAX_TERMS} terms")


def _check_tree(document: Any) -> None:
    pending, count = [(document, 0)], 0
    while pending:
        each, depth = pending.pop()
        count += 1
        if depth > 4 * MAX_DEPTH or count > 100 * MAX_TERMS:
            raise ValueError("it is too deep or too large")
        inside = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        pending += [(part, depth + 1) for part in inside]


def _wrong(why: str) -> InvalidRequest:
    return InvalidRequest(f"filter: {why}", errors=[Problem(("query", "filter"), "bad-filter", why)])


def _operators(tree: Any) -> list[str]:
    found: list[str] = []
    if isinstance(tree, dict):
        if isinstance(tree.get("op"), str):
            found.append(tree["op"])
        for each in tree.values():
            found += _operators(each)
    elif isinstance(tree, list):
        for each in tree:
            found += _operators(each)
    return found


def _properties(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("property"), str):
            return [_name(tree["property"])]
        return [name for each in tree.values() for name in _properties(each)]
    return [name for each in tree for name in _properties(each)] if isinstance(tree, list) else []


def _conjunction(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if tree.get("op") != "and":
        return [tree]
    return [part for each in tree["args"] if isinstance(each, dict) for part in _conjunction(each)]


def _name(text: str) -> str:
    return text.removeprefix("properties.")


# --- what it means --------------------------------------------------------------------------------------------------


def _value(tree: Any, facts: Facts) -> Value:
    """Return the value of an expression; ``None`` is unknown."""
    if not isinstance(tree, dict):
        return [_value(each, facts) for each in tree] if isinstance(tree, list) else tree
    if "property" in tree:
        name = _name(tree["property"])
        value = facts.get(name)
        return _instant(value) if name in TIMES else value
    if "timestamp" in tree:
        return _instant(tree["timestamp"])
    if "date" in tree:
        return _Day(date.fromisoformat(tree["date"]))
    if "op" not in tree:
        return tree  # a geometry, a box or an interval, which the operator interprets
    op, args = tree["op"], tree["args"]
    return _OPERATORS[op](args, facts)


@dataclass(frozen=True, slots=True)
class _Day:
    """A calendar day, which is compared with instants as a whole day."""

    day: date

    @property
    def ends(self) -> tuple[datetime, datetime]:
        first = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        return first, first.replace(hour=23, minute=59, second=59, microsecond=999_999)


def _instant(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = datetime.fromisoformat(without_leap(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _compare(op: str) -> Callable[[Sequence[Any], Facts], bool | None]:
    test = {"=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[op]

    def compared(args: Sequence[Any], facts: Facts) -> bool | None:
        a, b = (_value(each, facts) for each in args)
        return _tested(test, a, b)

    return compared


def _tested(test: Callable[[Any, Any], bool], a: Value, b: Value) -> bool | None:
    if a is None or b is None:
        return None
    for x, y in ((a, b), (b, a)):
        if isinstance(x, datetime) and isinstance(y, str) and (read := _instant(y)) is not None:
            a, b = (x, read) if x is a else (read, x)
    if isinstance(a, _Day) or isinstance(b, _Day):
        return _of_days(test, a, b)
    return test(a, b) if _kind(a) == _kind(b) and _kind(a) is not None else None


def _of_days(test: Callable[[Any, Any], bool], a: Value, b: Value) -> bool | None:
    x, y = _span(a), _span(b)
    if x is None or y is None:
        return None
    before, meets, behind = x[1] < y[0], x[0] <= y[1] and y[0] <= x[1], x[0] > y[1]
    return {
        operator.eq: meets,
        operator.ne: not meets,
        operator.lt: before,
        operator.gt: behind,
        operator.le: before or meets,
        operator.ge: behind or meets,
    }[test]


def _span(value: Value) -> tuple[datetime, datetime] | None:
    if isinstance(value, _Day):
        return value.ends
    return (value, value) if isinstance(value, datetime) else None


def _kind(value: Value) -> str | None:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case datetime():
            return "time"
    return None


def _joined(decides: bool, args: Sequence[Any], facts: Facts) -> bool | None:
    """Return the value of ``and`` (false decides it) or of ``or`` (true does), in the logic of three values."""
    unknown = False
    for each in args:
        value: object = _value(each, facts)
        if not isinstance(value, bool):
            unknown = True
        elif value == decides:
            return value
    return None if unknown else not decides


def _not(args: Sequence[Any], facts: Facts) -> bool | None:
    value = _value(args[0], facts)
    return not value if isinstance(value, bool) else None


def _is_null(args: Sequence[Any], facts: Facts) -> bool:
    return _value(args[0], facts) is None


def _in(args: Sequence[Any], facts: Facts) -> bool | None:
    value = _value(args[0], facts)
    return None if value is None else any(_tested(operator.eq, value, _value(each, facts)) is True for each in args[1])


def _between(args: Sequence[Any], facts: Facts) -> bool | None:
    value, low, high = (_value(each, facts) for each in args)
    tests = (_tested(operator.ge, value, low), _tested(operator.le, value, high))
    return False if False in tests else None if None in tests else True


def _like(args: Sequence[Any], facts: Facts) -> bool | None:
    value, pattern = (_value(each, facts) for each in args)
    if not isinstance(value, str) or not isinstance(pattern, str):
        return None
    return _is_like(value, pattern)


def _is_like(text: str, pattern: str) -> bool:
    """Return whether *text* matches the pattern: ``%`` is any text, ``_`` is one character, and a backslash escapes the next
    character.
    """
    wanted: list[str | Wildcard] = []
    escaped = False
    for char in pattern:
        if not escaped and char == "\\":
            escaped = True
            continue
        wanted.append(char if escaped else _WILDCARDS.get(char, char))
        escaped = False
    return is_like(wanted, text)


_WILDCARDS = {"%": Wildcard.TEXT, "_": Wildcard.CHARACTER}


def _casei(args: Sequence[Any], facts: Facts) -> Value:
    return _folded(_value(args[0], facts), str.casefold)


def _accenti(args: Sequence[Any], facts: Facts) -> Value:
    def bare(text: str) -> str:
        return "".join(each for each in unicodedata.normalize("NFD", text) if unicodedata.category(each) != "Mn")

    return _folded(_value(args[0], facts), bare)


def _folded(value: Value, fold: Callable[[str], str]) -> Value:
    if isinstance(value, list):
        return [_folded(each, fold) for each in value]
    return fold(value) if isinstance(value, str) else None


def _arithmetic(act: Callable[[Any, Any], Any]) -> Callable[[Sequence[Any], Facts], Value]:
    def done(args: Sequence[Any], facts: Facts) -> Value:
        a, b = (_value(each, facts) for each in args)
        if _kind(a) != "number" or _kind(b) != "number":
            return None
        try:
            found = act(a, b)
        except (ZeroDivisionError, OverflowError):
            return None
        return found if isinstance(found, int | float) else None

    return done


def _power(a: float, b: float) -> Value:
    return None if abs(b) > 1_000 else float(a) ** b


# --- arrays, places, times ------------------------------------------------------------------------------------------


def _array(test: Callable[[list[Any], list[Any]], bool]) -> Callable[[Sequence[Any], Facts], bool | None]:
    def done(args: Sequence[Any], facts: Facts) -> bool | None:
        a, b = (_value(each, facts) for each in args)
        return test(a, b) if isinstance(a, list) and isinstance(b, list) else None

    return done


def _contains(a: list[Any], b: list[Any]) -> bool:
    return all(each in a for each in b)


def _spatial(predicate: str) -> Callable[[Sequence[Any], Facts], bool | None]:
    def done(args: Sequence[Any], facts: Facts) -> bool | None:
        a, b = (_value(each, facts) for each in args)
        if not isinstance(a, Mapping) or not isinstance(b, Mapping):
            return None
        return bool(getattr(_shape(a), predicate)(_shape(b)))

    return done


def _shape(document: Mapping[str, Any]) -> Any:
    from shapely.errors import ShapelyError
    from shapely.geometry import shape

    try:
        if "bbox" in document:
            edges = document["bbox"]
            west, south, east, north = edges if len(edges) == 4 else (edges[0], edges[1], edges[3], edges[4])
            document = box_geometry((west, south, east, north))
        found = shape(dict(document))
    except (ShapelyError, ValueError, TypeError, KeyError, AttributeError, IndexError) as exc:
        raise _wrong("has a geometry that cannot be read") from exc
    if not found.is_valid:
        raise _wrong("has a geometry that is not valid")
    return found


type _Ends = tuple[datetime, datetime]
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def _ends(tree: Any, facts: Facts) -> _Ends | None:
    """Return the first and last instant. The ``datetime`` of an object with a duration is its whole time."""
    if isinstance(tree, dict) and "interval" in tree:
        start, end = (_edge(each, facts) for each in tree["interval"])
        first = start[0] if isinstance(start, tuple) else _FIRST if start == ".." else None
        last = end[1] if isinstance(end, tuple) else _LAST if end == ".." else None
        return None if first is None or last is None else (first, last)
    if tree == {"property": "datetime"} and facts.get("datetime") is None:
        start, end = (_edge({"property": name}, facts) for name in ("start_datetime", "end_datetime"))
        return None if not isinstance(start, tuple) or not isinstance(end, tuple) else (start[0], end[1])
    found = _edge(tree, facts)
    return found if isinstance(found, tuple) else None


def _edge(tree: Any, facts: Facts) -> _Ends | str | None:
    if tree == "..":
        return ".."
    value = _value(tree, facts)
    if isinstance(value, str):
        value = _Day(date.fromisoformat(value)) if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII) else _instant(value)
    return value.ends if isinstance(value, _Day) else (value, value) if isinstance(value, datetime) else None


def _temporal(test: Callable[[_Ends, _Ends], bool]) -> Callable[[Sequence[Any], Facts], bool | None]:
    def done(args: Sequence[Any], facts: Facts) -> bool | None:
        a, b = (_ends(each, facts) for each in args)
        return None if a is None or b is None else test(a, b)

    return done


_OPERATORS: Mapping[str, Callable[[Sequence[Any], Facts], Value]] = {
    **{op: _compare(op) for op in ("=", "<>", "<", "<=", ">", ">=")},
    "and": partial(_joined, False),
    "or": partial(_joined, True),
    "not": _not,
    "isNull": _is_null,
    "in": _in,
    "between": _between,
    "like": _like,
    "casei": _casei,
    "accenti": _accenti,
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(operator.truediv),
    "%": _arithmetic(operator.mod),
    "div": _arithmetic(operator.floordiv),
    "^": _arithmetic(_power),
    "a_contains": _array(_contains),
    "a_containedBy": _array(lambda a, b: _contains(b, a)),
    "a_equals": _array(lambda a, b: _contains(a, b) and _contains(b, a)),
    "a_overlaps": _array(lambda a, b: any(each in a for each in b)),
    **{
        f"s_{name}": _spatial(name)
        for name in ("intersects", "equals", "disjoint", "touches", "within", "overlaps", "crosses", "contains")
    },
    "t_after": _temporal(lambda a, b: a[0] > b[1]),
    "t_before": _temporal(lambda a, b: a[1] < b[0]),
    "t_contains": _temporal(lambda a, b: a[0] < b[0] and a[1] > b[1]),
    "t_disjoint": _temporal(lambda a, b: a[1] < b[0] or a[0] > b[1]),
    "t_during": _temporal(lambda a, b: a[0] > b[0] and a[1] < b[1]),
    "t_equals": _temporal(lambda a, b: a == b),
    "t_finishedBy": _temporal(lambda a, b: a[0] < b[0] and a[1] == b[1]),
    "t_finishes": _temporal(lambda a, b: a[0] > b[0] and a[1] == b[1]),
    "t_intersects": _temporal(lambda a, b: a[0] <= b[1] and a[1] >= b[0]),
    "t_meets": _temporal(lambda a, b: a[1] == b[0]),
    "t_metBy": _temporal(lambda a, b: a[0] == b[1]),
    "t_overlappedBy": _temporal(lambda a, b: b[0] < a[0] < b[1] < a[1]),
    "t_overlaps": _temporal(lambda a, b: a[0] < b[0] < a[1] < b[1]),
    "t_startedBy": _temporal(lambda a, b: a[0] == b[0] and a[1] > b[1]),
    "t_starts": _temporal(lambda a, b: a[0] == b[0] and a[1] < b[1]),
}
"""All operators and functions of the standard."""
