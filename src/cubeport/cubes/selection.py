"""A selection, which is what a query asks for, and the grammar that parses it from parameters.

The scanner looks at each character once, so that no text makes it slow (pygeoapi's regular expression for ``subset`` takes cubic
time). This module does not know what a name means; :mod:`cubeport.cubes.resolve` compares the selection with a cube.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cubeport.cubes.calendars import Stamp, canonical, exists, ordinal, stamp_of
from cubeport.errors import InvalidRequest, Problem, not_among
from cubeport.leap import without_leap

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
"""Longitude and latitude in degrees on WGS 84, the default CRS of a ``bbox``."""

COVERAGE_PARAMETERS = (
    "bbox",
    "bbox-crs",
    "datetime",
    "subset",
    "subset-crs",
    "properties",
    "exclude-properties",
    "scale-factor",
    "scale-axes",
    "scale-size",
    "crs",
    "f",
    "estimate",
)
"""The parameters of a coverage, in the order of a canonical query."""

LATER = ("resolution", "width", "height")
"""Parameters of the standards that cubeport does not support. It refuses them by name, because ignoring them would give a wrong
answer."""

_SCALES: tuple[Literal["scale-factor", "scale-axes", "scale-size"], ...] = ("scale-factor", "scale-axes", "scale-size")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_TIME = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[Tt]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_CRS_URI = re.compile(r"https?://www\.opengis\.net/def/crs/([A-Za-z]{2,10})/[0-9.]{1,6}/([A-Za-z0-9]{1,10})")
_CRS_CURIE = re.compile(r"\[?([A-Za-z]{2,10}):([A-Za-z0-9]{1,10})\]?")

_SPANS = ((1, 12), (1, 31), (0, 23), (0, 59), (0, 59), (0, 999_999))
"""The smallest and largest month, day, hour, minute, second and microsecond, for the fields that a shorter form omits."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A time as calendar fields: those that were given, and the UTC offset in minutes if there was one.

    No calendar is applied: ``2095-02-30`` is a valid day in ``360_day`` only.
    """

    fields: tuple[int, ...]
    offset: int = 0

    def __str__(self) -> str:
        year, *rest = self.fields
        text = f"{year:04d}"
        for mark, value in zip(("-", "-", "T", ":", ":"), rest[:5], strict=False):
            text += f"{mark}{value:02d}"
        if len(rest) == 6:
            text += f".{rest[5]:06d}"
        if len(rest) < 3:
            return text
        sign, minutes = "-" if self.offset < 0 else "+", abs(self.offset)
        return f"{text}{sign}{minutes // 60:02d}:{minutes % 60:02d}" if minutes else f"{text}Z"


type Point = float | str
"""A value on an axis: a number, or quoted text."""


@dataclass(frozen=True, slots=True)
class Trim:
    """A closed interval of an axis; ``None`` is an open end."""

    low: Point | None
    high: Point | None


@dataclass(frozen=True, slots=True)
class Slice:
    """Single values of an axis: one value selects one label, several values select several labels."""

    values: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Latest:
    """The last label of an axis: ``time(*)``."""


@dataclass(frozen=True, slots=True)
class Subset:
    """One ``axis(…)`` of a ``subset`` parameter, with the axis name as written."""

    axis: str
    part: Trim | Slice | Latest

    def __str__(self) -> str:
        match self.part:
            case Latest():
                return f"{self.axis}(*)"
            case Slice(values):
                return f"{self.axis}({','.join(map(_shown, values))})"
            case Trim(low, high):
                ends = ("*" if end is None else _shown(end) for end in (low, high))
                return f"{self.axis}({':'.join(ends)})"


@dataclass(frozen=True, slots=True)
class Period:
    """A time interval ``a/b``, ``../b`` or ``a/..``; ``end`` extends to the end of its last component."""

    start: Instant | None
    end: Instant | None

    def __str__(self) -> str:
        return f"{self.start or '..'}/{self.end or '..'}"


@dataclass(frozen=True, slots=True)
class Scale:
    """Fewer cells along x and y: by a factor on both, by a factor on each named axis, or to a size of each."""

    family: Literal["scale-factor", "scale-axes", "scale-size"]
    parts: tuple[tuple[str, float], ...]
    """Pairs of axis (as written) and number; for ``scale-factor``, one number without an axis."""

    def __str__(self) -> str:
        return ",".join(f"{axis}({_shown(number)})" if axis else _shown(number) for axis, number in self.parts)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a caller asks of a coverage. Parsing the result of :meth:`query` gives the same selection."""

    bbox: tuple[float, ...] | None = None
    """Four numbers, or six with the vertical range as third and sixth."""
    bbox_crs: str | None = None
    """The CRS of ``bbox`` as ``AUTHORITY:code``; ``None`` is CRS84."""
    datetime: Instant | Period | None = None
    subsets: tuple[Subset, ...] = ()
    subset_crs: str | None = None
    properties: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    scale: Scale | None = None
    crs: str | None = None
    """The CRS of the answer as ``AUTHORITY:code``; ``None`` is that of the store."""
    form: str | None = None
    """The value of ``f``; if ``None``, the ``Accept`` header decides."""
    estimate: bool = False

    def query(self) -> list[tuple[str, str]]:
        """Return the parameters in canonical form and order."""
        pairs: list[tuple[str, str | None]] = [
            ("bbox", None if self.bbox is None else ",".join(map(_shown, self.bbox))),
            ("bbox-crs", _curie(self.bbox_crs)),
            ("datetime", None if self.datetime is None else str(self.datetime)),
            *(("subset", str(subset)) for subset in self.subsets),
            ("subset-crs", _curie(self.subset_crs)),
            ("properties", None if self.properties is None else ",".join(self.properties)),
            ("exclude-properties", ",".join(self.excluded) or None),
            *(() if self.scale is None else ((self.scale.family, str(self.scale)),)),
            ("crs", _curie(self.crs)),
            ("f", self.form),
            ("estimate", "true" if self.estimate else None),
        ]
        return [(name, value) for name, value in pairs if value is not None]


class _Malformed(Exception):
    """A value does not match the grammar. The message is for the caller and never contains the value."""

    def __init__(self, message: str, kind: str = "malformed") -> None:
        super().__init__(message)
        self.kind = kind


def parse(pairs: Iterable[tuple[str, str]], *, forms: Sequence[str], allowed: Sequence[str] = COVERAGE_PARAMETERS) -> Selection:
    """Return the selection of decoded query parameters.

    Parameters
    ----------
    pairs
        Percent-decoded names and values, in the order of the query.
    forms
        The values of ``f`` that the resource supports.
    allowed
        The parameters that the resource supports.

    Raises
    ------
    InvalidRequest
        With one problem for each parameter that is unknown, repeated (except ``subset``) or malformed.
    """
    problems: list[Problem] = []
    found: dict[str, object] = {}
    subsets: list[Subset] = []
    for name, value in pairs:
        try:
            if name not in allowed:
                raise _not_taken(name, allowed)
            if name == "subset":
                subsets.extend(_subsets(value))
                continue
            if name in found:
                raise _Malformed("may appear only once", "repeated")
            found[name] = None
            found[name] = _value(name, value, forms)
        except _Malformed as malformed:
            problems.append(Problem(("query", name[:60]), malformed.kind, f"{name[:60]} {malformed}"))
    bbox, crs = found.get("bbox"), found.get("bbox-crs")
    if isinstance(bbox, tuple):
        if crs == "EPSG:4326":
            # The axis order is latitude, longitude (EPSG registry). All code below uses the same box in CRS84.
            bbox, crs, found["bbox-crs"] = _swapped(bbox), None, None
        problems.extend(_unordered(bbox))
        if crs in (None, "OGC:CRS84"):
            problems.extend(_off_the_globe(bbox))
    if crs is not None and "bbox" not in found:
        problems.append(Problem(("query", "bbox-crs"), "missing", "bbox-crs needs bbox"))
    if found.get("properties") is not None and found.get("exclude-properties") is not None:
        problems.append(Problem(("query", "exclude-properties"), "clash", "properties and exclude-properties cannot be combined"))
    families = [name for name in _SCALES if name in found]
    problems += [Problem(("query", name), "clash", f"{name} and {families[0]} cannot be combined") for name in families[1:]]
    if problems:
        raise InvalidRequest("The query has parameters that are not valid.", errors=problems)
    return Selection(
        bbox=bbox,  # type: ignore[arg-type]  # _value gives each parameter's own type
        bbox_crs=None if crs == "OGC:CRS84" else crs,  # type: ignore[arg-type]
        datetime=found.get("datetime"),  # type: ignore[arg-type]
        subsets=tuple(subsets),
        subset_crs=found.get("subset-crs"),  # type: ignore[arg-type]
        properties=found.get("properties"),  # type: ignore[arg-type]
        excluded=found.get("exclude-properties") or (),  # type: ignore[arg-type]
        scale=next((found[name] for name in _SCALES if name in found), None),  # type: ignore[arg-type]
        crs=found.get("crs"),  # type: ignore[arg-type]
        form=found.get("f"),  # type: ignore[arg-type]
        estimate=bool(found.get("estimate")),
    )


def parse_datetime(text: str) -> Instant | Period:
    """Return an instant, or a period if the text contains ``/``. Raises ValueError with a message for the caller."""
    try:
        return _datetime(text)
    except _Malformed as malformed:
        raise ValueError(str(malformed)) from malformed


def read_number(text: str) -> float:
    """Return a finite number. Raises ValueError with a message for the caller."""
    try:
        return _number(text.strip())
    except _Malformed as malformed:
        raise ValueError(str(malformed)) from malformed


def parse_crs(text: str) -> str:
    """Return ``AUTHORITY:code`` for the URI or CURIE of a reference system, by its syntax alone. Raises ValueError.

    A native system without an authority is ``native``. Collections give it their own URL with ``#storageCrs``.
    """
    if text.endswith("#storageCrs"):
        return "native"
    if text.strip("[]").upper() == "CRS84":  # the name that EDR clients use
        return "OGC:CRS84"
    match = _CRS_URI.fullmatch(text) or _CRS_CURIE.fullmatch(text)
    if match is None:
        raise ValueError("must be the URI or the [AUTHORITY:code] of a reference system")
    return "OGC:CRS84" if match[2].upper() == "CRS84" else f"{match[1].upper()}:{match[2]}"


def _curie(code: str | None) -> str | None:
    return None if code is None else "#storageCrs" if code == "native" else f"[{code}]"


def _not_taken(name: str, allowed: Iterable[str]) -> _Malformed:
    return _Malformed("is not offered yet", "not-offered") if name in LATER else _Malformed(not_among(allowed), "unknown")


def _value(name: str, text: str, forms: Sequence[str]) -> object:
    match name:
        case "bbox":
            return _bbox(text)
        case "bbox-crs" | "subset-crs" | "crs":
            try:
                return parse_crs(text)
            except ValueError as error:
                raise _Malformed(str(error)) from error
        case "datetime":
            return _datetime(text)
        case "properties" | "exclude-properties" | "variables":
            return _names(text)
        case "scale-factor":
            return Scale(name, (("", _factor(text)),))
        case "scale-axes" | "scale-size":
            return _scale(name, text)
        case "estimate":
            if text not in ("true", "false"):
                raise _Malformed("must be true or false")
            return text == "true"
        case _:
            if text not in forms:
                raise _Malformed(f"must be one of {', '.join(forms)}", "not-offered")
            return text


def _number(text: str) -> float:
    if len(text) > 40 or _NUMBER.fullmatch(text) is None or not math.isfinite(number := float(text)):
        raise _Malformed("must have finite numbers")
    return number


def _bbox(text: str) -> tuple[float, ...]:
    box = tuple(_number(part) for part in text.split(",", 7))
    if len(box) not in (4, 6):
        raise _Malformed("must have 4 numbers, or 6 with the vertical")
    return box


def _swapped(box: tuple[float, ...]) -> tuple[float, ...]:
    """Return a box with latitudes first as a box with longitudes first."""
    half = len(box) // 2
    return (box[1], box[0], *box[2:half], box[half + 1], box[half], *box[half + 2 :])


def _unordered(box: tuple[float, ...]) -> Iterable[Problem]:
    half = len(box) // 2
    if any(box[at] > box[at + half] for at in range(1, half)):
        words = "bbox must have each lower end before its upper end; only west may be greater than east"
        yield Problem(("query", "bbox"), "invalid-range", words)


def _off_the_globe(box: tuple[float, ...]) -> Iterable[Problem]:
    half = len(box) // 2
    if max(abs(box[0]), abs(box[half])) > 540:
        yield Problem(("query", "bbox", 0), "out-of-range", "bbox longitudes must be within ±540")
    if max(abs(box[1]), abs(box[half + 1])) > 90:
        yield Problem(("query", "bbox", 1), "out-of-range", "bbox latitudes must be within ±90")


def _datetime(text: str) -> Instant | Period:
    if "/" not in text:
        return _instant(text)
    start_text, _, end_text = text.partition("/")
    start, end = (None if end in ("", "..") else _instant(end) for end in (start_text, end_text))
    if start is not None and end is not None and first_of(start) > last_of(end):
        raise _Malformed("must have its start before its end", "invalid-range")
    return Period(start, end)


def _instant(text: str) -> Instant:
    match = _TIME.fullmatch(without_leap(text)) if len(text) <= 40 else None
    if match is None:
        raise _Malformed("must be times of RFC 3339 or a shorter form, such as 2006, 2006-04 or 2006-04-01T12:00:00Z")
    fields = [int(part) for part in match.groups()[:6] if part is not None]
    if match[7] is not None:
        fields.append(int(match[7][:6].ljust(6, "0")))
    if not all(low <= value <= high for value, (low, high) in zip(fields[1:], _SPANS, strict=False)):
        raise _Malformed("has a month, day, hour, minute or second that exists in no calendar")
    offset = 0
    if match[8] is not None and match[8] not in "Zz":
        offset = (int(match[8][1:3]) * 60 + int(match[8][4:6])) * (-1 if match[8][0] == "-" else 1)
        if int(match[8][1:3]) > 23 or int(match[8][4:6]) > 59:
            raise _Malformed("has an offset of a day or more")
    return Instant(tuple(fields), offset)


def _factor(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1e9:
        raise _Malformed("must be greater than 0", "out-of-range")
    return number


def _scale(family: Literal["scale-axes", "scale-size"], text: str) -> Scale:
    """Parse ``axis(number)``, or several separated by commas."""
    parts = []
    for subset in _subsets(text):
        values = subset.part.values if isinstance(subset.part, Slice) else ()
        if len(values) != 1 or not isinstance(values[0], float):
            raise _Malformed("must be axis(number), or several with commas")
        number = _factor(_shown(values[0]))
        if family == "scale-size" and not number.is_integer():
            raise _Malformed("must have whole numbers")
        parts.append((subset.axis, number))
    return Scale(family, tuple(parts))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not all(0 < len(name) <= 256 for name in names):
        raise _Malformed("must be names with a comma between them")
    if len(set(names)) != len(names):
        raise _Malformed("has a name twice", "repeated")
    return names


def _subsets(text: str) -> list[Subset]:
    """Parse ``axis(…)``, or several separated by commas, as OWSLib sends them."""
    found, at = [], 0
    while True:
        opening = text.find("(", at)
        name = text[at:opening].strip() if opening >= 0 else ""
        if not 0 < len(name) <= 256 or "," in name or ")" in name:
            raise _Malformed("must be axis(low:high), axis(value) or axis(value,value)")
        part, at = _part(text, opening + 1)
        found.append(Subset(name.strip('"'), part))
        if at == len(text):
            return found
        if text[at] != ",":
            raise _Malformed("must have a comma between one axis and the next")
        at += 1


def _part(text: str, at: int) -> tuple[Trim | Slice | Latest, int]:
    """Parse the text between the brackets, from *at*. Return the result and the position after the closing bracket."""
    ends: list[Point | None] = []
    marks: list[str] = []
    while True:
        value, at = _end(text, at)
        ends.append(value)
        if at >= len(text) or text[at] not in ",:)":
            raise _Malformed("has a bracket that is not closed, or a text without quotes")
        marks.append(text[at])
        at += 1
        if marks[-1] == ")":
            break
    points = tuple(end for end in ends if end is not None)
    if marks == [")"] and not points:
        return Latest(), at
    if marks == [":", ")"]:
        return Trim(ends[0], ends[1]), at
    if ":" in marks or len(points) != len(ends):
        raise _Malformed("may have one low:high, or values with commas, in each bracket")
    return Slice(points), at


def _end(text: str, at: int) -> tuple[Point | None, int]:
    """Parse one number, quoted text, bare text or ``*``."""
    if text[at : at + 1] == '"':
        closing = text.find('"', at + 1)
        if closing < 0:
            raise _Malformed("has a quote that is not closed")
        return text[at + 1 : closing], closing + 1
    end = at
    while end < len(text) and text[end] not in ',:)("':
        end += 1
    bare = text[at:end].strip()
    if not bare:
        raise _Malformed("has an empty value")
    if bare == "*":
        return None, end
    if _NUMBER.fullmatch(bare) or bare.lower() in ("nan", "inf", "+inf", "-inf", "infinity"):
        return _number(bare), end
    return bare, end


def _shown(value: Point) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


# --- calendar fields as one number ------------------------------------------------------------------------------------


def order(fields: Sequence[int]) -> int:
    """Return year, month, day, hour, minute, second and microsecond as one number that sorts like them, in every calendar.

    The number does not count elapsed time, because each month has 31 days here. Comparing two numbers compares calendar fields.
    """
    year, month, day, hour, minute, second, micro = fields
    return (((((year * 12 + month - 1) * 31 + day - 1) * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micro


def stamp_at(order: int) -> Stamp:
    """Return the fields of a number of :func:`order`."""
    seconds, micro = divmod(order, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    months, day = divmod(days, 31)
    year, month = divmod(months, 12)
    return Stamp(year, month + 1, day + 1, hour, minute, second, micro)


def first_of(instant: Instant) -> int:
    """Return the order of the first moment that the instant includes, ignoring its offset."""
    given = instant.fields
    return order(given + tuple(low for low, _ in _SPANS[len(given) - 1 :]))


def last_of(instant: Instant) -> int:
    """Return the order of the last moment that the instant includes; an instant with seconds is a single moment."""
    given = instant.fields
    spans = _SPANS[len(given) - 1 :]
    return order(given + (tuple(low for low, _ in spans) if len(given) >= 6 else tuple(high for _, high in spans)))


def in_utc(instant: Instant, calendar: str) -> Instant:
    """Return the same instant in UTC, by the days of *calendar*.

    Raises
    ------
    ValueError
        If the calendar has no such day.
    """
    fields, name = instant.fields, canonical(calendar) or "standard"
    if len(fields) >= 3 and not exists(fields[0], fields[1], fields[2], name):
        raise ValueError(f"the calendar {name} has no such day")
    if not instant.offset:
        return instant
    moved = stamp_of(ordinal(Stamp(*fields), name) - instant.offset * 60_000_000, name)
    return Instant(tuple(moved[: max(5, len(fields))]))


def to_milliseconds(instant: Instant, calendar: str) -> Instant:
    """Return the nearest whole millisecond to an instant in UTC; other instants are returned unchanged."""
    if len(instant.fields) < 7 or instant.fields[6] % 1000 == 0:
        return instant
    name = canonical(calendar) or "standard"
    return Instant(tuple(stamp_of((ordinal(Stamp(*instant.fields), name) + 500) // 1000 * 1000, name)))
