"""Queries and their meaning, which :func:`matches` and :func:`compare` define.

A record is treated as its *leaves*: ``(path, value)`` for every text, number and boolean in its document. Lists are expanded, so
that a list matches if any of its elements does, at every level. TinyDB runs the functions here; tests compare SQL with them.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import math
import re
import unicodedata
from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict, overload

from cubeport.catalog.audience import Audience
from cubeport.catalog.forms import cursors
from cubeport.catalog.forms.boxes import Box, checked_box, meet
from cubeport.catalog.forms.canonical import dumps, timestamp
from cubeport.catalog.forms.patterns import Wildcard, is_like
from cubeport.catalog.models import CatalogRecord, TimeSpan
from cubeport.catalog.terms import Op, Scalar, Term, canonical_field, join_step, parse_term
from cubeport.errors import InvalidCursor, InvalidFilter, InvalidRequest
from cubeport.leap import without_leap

TEXT_COMPARED = 256
"""How many characters of a text comparisons use."""

WORD_COMPARED = 64
"""How many characters of a word a text search uses."""

TYPES = {1: "number", 2: "text", 3: "boolean"}
"""The types of leaves, in the sort order of mixed values. Values of different types never match."""

_ASCII_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


# --- time and space -------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A closed interval of timestamps, whose text order is time order. ``None`` is an open end."""

    start: str | None
    end: str | None


def parse_interval(text: str) -> Interval:
    """Return the interval of ``A/B``, ``A/..``, ``../B``, an instant, or a shortened date such as ``2020-03``, which includes the
    whole month.

    Raises
    ------
    InvalidFilter
        If it is not an interval, or ends before it starts.
    """
    first, slash, second = text.strip().partition("/")
    start = None if slash and first in ("", "..") else _moment(first, text)[0]
    end = None if slash and second in ("", "..") else _moment(second if slash else first, text)[1]
    if start is not None and end is not None and end < start:
        raise InvalidFilter(f"The interval {text!r} ends before it starts.")
    return Interval(start, end)


_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)


def _moment(text: str, whole: str) -> tuple[str, str]:
    """Return the first and the last microsecond of *text*."""
    try:
        if found := _DATE.fullmatch(text):
            year, month, day = (int(part) if part else None for part in found.groups())
            first = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
            last_month = month or 12
            last_day = day or monthrange(first.year, last_month)[1]
            last = datetime(first.year, last_month, last_day, 23, 59, 59, 999999, tzinfo=UTC)
            return timestamp(first), timestamp(last)
        if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text):
            raise ValueError(text)
        instant = datetime.fromisoformat(without_leap(text))
        exact = timestamp(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        if _DATE.fullmatch(text) or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*", text, re.ASCII):
            raise InvalidFilter(f"{whole!r} has a day or a time of day that does not exist.") from None
        raise InvalidFilter(
            f"{whole!r} is not a time; give an instant, a date (2020, 2020-03, 2020-03-04) or an interval A/B, A/.., ../B.",
        ) from None
    return exact, exact


# --- the query ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """A query of a search. All its conditions must match. Texts are parsed in the constructor, so a query is always valid.

    Parameters
    ----------
    where
        Terms, or their texts, all of which must match.
    text
        Words, each of which must be the start of a word in title, description, tags or key. Of several texts, any may match. A text
        without a word matches nothing.
    time
        An interval (text, :class:`TimeSpan` or pair) that must intersect that of the record, ends included.
    bbox
        West, south, east, north in CRS84 degrees, edges included; west > east crosses the antimeridian.
    kinds, statuses
        ``None`` for any.
    order
        Sort fields, with ``-`` for descending. Missing values come last in both directions; ties are sorted by id.
    count
        Whether to return the total number of matches too.
    audience
        The readers who ask, if they do not see every record.
    most_read
        On how many records a condition that no index answers, such as ``title:ice``, is tested for one page. The page then has
        what was found so far, perhaps nothing, and a cursor to continue. ``None``: until it is full.
    most_counted
        Among how many records matches are counted, and how many are sorted in an order that no index has: by several fields, or by
        a field such as ``kind``. Beyond it, the count says that there are more, and the order is refused. ``None``: all.
    """

    where: Sequence[Term | str] = ()
    text: str | Sequence[str] | None = None
    time: Interval | TimeSpan | str | None = None
    bbox: Sequence[float] | None = None
    kinds: Iterable[str] | None = None
    statuses: Iterable[str] | None = frozenset({"active"})
    order: Sequence[str] = ("-created_at",)
    limit: int = 50
    cursor: str | None = None
    count: bool = False
    audience: Audience | None = None
    most_read: int | None = None
    most_counted: int | None = None

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        where = (self.where,) if isinstance(self.where, (Term, str)) else self.where
        put("where", tuple(term if isinstance(term, Term) else parse_term(term) for term in where))
        put("time", _interval(self.time))
        put("bbox", None if self.bbox is None else _box(self.bbox))
        for name in ("kinds", "statuses"):
            value = getattr(self, name)
            put(name, None if value is None else frozenset((value,) if isinstance(value, str) else value))
        order = (self.order,) if isinstance(self.order, str) else self.order
        put("order", tuple(("-" if each.startswith("-") else "") + canonical_field(each.removeprefix("-")) for each in order))
        if type(self.limit) is not int or self.limit < 1:
            raise InvalidRequest(f"limit is a whole number from 1, not {self.limit!r}")

    @property
    def terms(self) -> tuple[Term, ...]:
        """``where``, parsed."""
        return self.where  # type: ignore[return-value]  # __post_init__ has read the texts

    @property
    def interval(self) -> Interval | None:
        """``time``, parsed."""
        return self.time  # type: ignore[return-value]  # likewise

    @property
    def box(self) -> Box | None:
        """``bbox``, checked."""
        return self.bbox  # type: ignore[return-value]  # likewise

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """The words of each text in ``text``, each once. Texts without a word are omitted."""
        texts = () if self.text is None else (self.text,) if isinstance(self.text, str) else self.text
        found = (tuple(sorted(words(each))) for each in texts)
        return tuple(sorted({each for each in found if each}))

    @property
    def matches_nothing(self) -> bool:
        """Whether ``text`` was given but has no word, so that no record matches."""
        return self.text is not None and not self.words

    @property
    def orders(self) -> tuple[tuple[str, bool], ...]:
        """``(canonical field, whether it is descending)`` for each part of ``order``."""
        return tuple((each.removeprefix("-"), each.startswith("-")) for each in self.order)

    def binding(self) -> str:
        """Return the digest of this query for its cursors. ``limit``, ``cursor``, ``count`` and the bounds ``most_read`` and
        ``most_counted`` can change between pages.
        """
        said: dict[str, Any] = {
            "where": sorted(dumps([term.field, term.op, term.value, term.negate]) for term in self.terms),
            "text": None if self.text is None else self.words,
            "time": self.interval,
            "bbox": self.box,
            "kinds": None if self.kinds is None else sorted(self.kinds),
            "statuses": None if self.statuses is None else sorted(self.statuses),
            "order": self.order,
        }
        if (by := self.audience) is not None:
            said["audience"] = [sorted(by.visibilities), by.unstated, by.name]
        return hashlib.sha256(dumps(said).encode()).hexdigest()[:16]

    def at(self, cursor: str | None) -> Query:
        """Return the same query, starting at *cursor*."""
        return replace(self, cursor=cursor)


class QueryFields(TypedDict, total=False):
    """The parts of a :class:`Query` except its terms, for all search methods."""

    text: str | None
    time: Interval | TimeSpan | str | tuple[datetime | None, datetime | None] | None
    bbox: Sequence[float] | None
    kinds: Iterable[str] | None
    statuses: Iterable[str] | None
    order: Sequence[str]
    limit: int
    cursor: str | None
    count: bool


def _interval(value: Any) -> Interval | None:
    match value:
        case None | Interval():
            return value
        case str():
            return parse_interval(value)
        case TimeSpan():
            return Interval(*(None if end is None else timestamp(end) for end in (value.start, value.end)))
        case (start, end):
            return Interval(*(None if each is None else timestamp(each) for each in (start, end)))
    raise InvalidFilter("time is a text such as 2020-03 or A/B, a TimeSpan or a pair of datetimes.")


def _box(value: Sequence[float]) -> Box:
    try:
        return checked_box(value)
    except (TypeError, ValueError) as exc:
        raise InvalidFilter(f"{exc}.") from None


@dataclass(frozen=True, slots=True, repr=False)
class Page(Sequence[CatalogRecord]):
    """A page of matching records in order. ``next`` is the cursor after them, or ``None`` at the end."""

    items: tuple[CatalogRecord, ...] = ()
    next: str | None = None
    matched: int | None = None
    """The total number of matches, if the query asked for it."""
    at_least: bool = False
    """Whether ``matched`` is a lower bound, because the query limits how many are counted."""
    damaged: tuple[str, ...] = ()
    """The ids of unreadable records that would be on this page. They are omitted; ``fsck`` reports details."""

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> CatalogRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[CatalogRecord]: ...
    def __getitem__(self, index: int | slice) -> CatalogRecord | Sequence[CatalogRecord]:
        return self.items[index]

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.id[:8]} {each.title or each.key or each.kind!s}" for each in self.items[:5])
        more = ", …" if len(self.items) > 5 else ""
        matched = "" if self.matched is None else f" of {self.matched}"
        return f"<Page of {len(self.items)}{matched} records: {shown}{more}>"

    def to_dataframe(self) -> Any:
        """Return the page as a ``pandas.DataFrame`` with one row for each record, indexed by id. Raises ExtraMissing."""
        from cubeport.catalog.frames import to_dataframe

        return to_dataframe(self.items)


# --- the meaning ----------------------------------------------------------------------------------------------------


def leaves(document: Mapping[str, Any]) -> list[tuple[str, Scalar]]:
    """Return ``(canonical field, value)`` for each text, number and boolean of a record's document, which is plain JSON."""
    found: list[tuple[str, Scalar]] = []
    for name, value in document.items():
        if value is not None:
            _collect("artifact" if name == "artifacts" else name, value, found)
    return found


def _collect(path: str, value: Any, found: list[tuple[str, Scalar]]) -> None:
    kind = type(value)  # plain JSON has no subclasses of dict and list, and this is faster than isinstance
    if kind is dict:
        for key, each in value.items():
            if (inner := type(each)) is dict or inner is list:
                _collect(f"{path}.{join_step(key)}", each, found)
            elif each is not None:  # most values: a call for each would take longer than the rest
                found.append((f"{path}.{join_step(key)}", each))
    elif kind is list:
        for each in value:
            if each is not None:
                _collect(path, each, found)
    else:
        found.append((path, value))


def type_of(value: Scalar) -> int:
    """Return the key of the value's type in :data:`TYPES`."""
    return 3 if isinstance(value, bool) else 2 if isinstance(value, str) else 1


def comparable(value: Scalar) -> tuple[int, float | str]:
    """Return the value in the form for comparisons: numbers and booleans as doubles, texts by their first 256 characters."""
    if isinstance(value, str):
        return 2, value[:TEXT_COMPARED]
    try:
        return 3 if value is True or value is False else 1, float(value)
    except OverflowError:
        return 1, math.inf if value > 0 else -math.inf


def fold(text: str) -> str:
    """Return *text* with A-Z as a-z, for the operators ``:`` and ``~``."""
    return text.translate(_ASCII_FOLD)


def fits(op: Op, value: Scalar, wanted: Scalar) -> bool:
    """Return whether the *value* of a leaf matches a *wanted* value. Values of different types never match."""
    if op == ":" and not isinstance(wanted, str):
        op = "="  # a number or boolean contains only itself
    if op in (":", "~"):
        if not isinstance(value, str) or not isinstance(wanted, str):
            return False
        seen, sought = fold(value[:TEXT_COMPARED]), fold(wanted)
        return sought in seen if op == ":" else _glob(sought, seen)
    (a_type, a), (b_type, b) = comparable(value), comparable(wanted)
    if a_type != b_type:
        return False
    match op:
        case "=":
            return a == b
        case "<":
            return a < b  # type: ignore[operator]  # both have the same type, because their type codes are equal
        case "<=":
            return a <= b  # type: ignore[operator]
        case ">":
            return a > b  # type: ignore[operator]
        case _:
            return a >= b  # type: ignore[operator]


_WILDCARDS = {"*": Wildcard.TEXT, "?": Wildcard.CHARACTER}


def _glob(pattern: str, text: str) -> bool:
    return is_like([_WILDCARDS.get(each, each) for each in pattern], text)


_ASCII_WORD = re.compile("[a-z0-9]+")


def words(text: str) -> set[str]:
    """Return the words of *text*: split at other than alphanumeric characters, NFKD without marks, case-folded, 64 characters at
    most.

    Words are normalised here, before FTS5 or tsvector see them, so that all backends agree.
    """
    if text.isascii():
        return {word[:WORD_COMPARED] for word in _ASCII_WORD.findall(text.lower())}
    for _ in range(2):  # case folding can add marks: a capital dotted I becomes i and a dot
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c)[0] != "M").casefold()
    spaced = "".join(c if c.isalnum() else " " for c in text)
    return {word[:WORD_COMPARED] for word in spaced.split()}


def document_words(document: Mapping[str, Any]) -> set[str]:
    """Return the words by which a text search finds the record: those of its title, description, tags and key."""
    return words("\n".join(filter(None, (document["title"], document["description"], document["key"], *document["tags"]))))


def matches(query: Query, record: CatalogRecord) -> bool:
    """Return whether the record matches the query, without paging. This defines the meaning of a query in every backend."""
    return document_matches(query, record.to_mapping())


def document_matches(query: Query, document: Mapping[str, Any]) -> bool:
    """Return whether the document of a record matches the query."""
    if query.statuses is not None and document["status"] not in query.statuses:
        return False
    if query.kinds is not None and document["kind"] not in query.kinds:
        return False
    if query.interval is not None and not in_time(query.interval, document["time"]):
        return False
    if query.box is not None and not in_space(query.box, document["bbox"]):
        return False
    if query.audience is not None and not query.audience.sees(document["visibility"], document["created_by"]):
        return False
    if query.matches_nothing:
        return False
    if query.words:
        has = document_words(document)
        if not any(all(any(each.startswith(word) for each in has) for word in text) for text in query.words):
            return False
    if not query.terms:
        return True
    all_leaves = leaves(document)
    return all(_term_fits(term, all_leaves) is not term.negate for term in query.terms)


def _term_fits(term: Term, all_leaves: Sequence[tuple[str, Scalar]]) -> bool:
    if term.op == "?":
        return any(path == term.field or path.startswith(term.field + ".") for path, _ in all_leaves)
    return any(fits(term.op, value, wanted) for path, value in all_leaves if path == term.field for wanted in term.wanted)


def in_time(interval: Interval, span: Mapping[str, str | None] | None) -> bool:
    """Return whether a span (``start``, ``end``; ``None`` is open) intersects the interval. An unknown span does not."""
    if span is None or (span["start"] is None and span["end"] is None):
        return False
    starts_in_time = interval.end is None or span["start"] is None or span["start"] <= interval.end
    return starts_in_time and (interval.start is None or span["end"] is None or span["end"] >= interval.start)


def in_space(box: Box, bbox: Sequence[float] | None) -> bool:
    """Return whether the box *bbox* intersects the requested *box*, including edges. An unknown box does not."""
    return bbox is not None and meet(box, bbox)


# --- order and pages ------------------------------------------------------------------------------------------------

type SortValue = tuple[int, float | str] | None
type SortKey = tuple[tuple[SortValue, ...], str]
"""The sort values of a record (``None`` if missing), and its id."""


def sort_key(query: Query, document: Mapping[str, Any]) -> SortKey:
    """Return the sort key of the record. A list sorts by its smallest value."""
    wanted: dict[str, list[tuple[int, float | str]]] = {name: [] for name, _ in query.orders}
    for path, value in leaves(document):
        if path in wanted:
            wanted[path].append(comparable(value))
    return tuple(min(wanted[name], default=None) for name, _ in query.orders), document["id"]


def compare(query: Query, a: SortKey, b: SortKey) -> int:
    """Return -1, 0 or 1 for the order of *a* and *b*: numbers < texts < booleans, missing last in both directions, ties by id."""
    for (_, descends), x, y in zip(query.orders, a[0], b[0], strict=True):
        if x == y:
            continue
        if x is None or y is None:
            return 1 if x is None else -1
        return -1 if (x < y) is not descends else 1
    return (a[1] > b[1]) - (a[1] < b[1])


def write_cursor(query: Query, key: SortKey) -> str:
    """Return the opaque cursor for the position after *key* in this query."""
    values, record_id = key
    # Infinity is not JSON. It represents integers larger than any double, and sorts like the largest double.
    said = [None if each is None else [each[0], repr(each[1]) if isinstance(each[1], float) else each[1]] for each in values]
    return cursors.write(query.binding(), said, record_id)


def read_cursor(query: Query) -> SortKey | None:
    """Return the sort key of the query's cursor, or ``None`` if it has none.

    Raises
    ------
    InvalidCursor
        If the cursor is not from this query.
    """
    if query.cursor is None:
        return None
    try:
        binding, said, record_id = cursors.read(query.cursor, 3)
        values = tuple(None if each is None else _sort_value(*each) for each in said)
    except (ValueError, TypeError):
        binding, values, record_id = None, (), None
    if binding != query.binding() or len(values) != len(query.orders) or not isinstance(record_id, str):
        raise InvalidCursor("The cursor does not belong to this query.", next_step="begin again without the cursor")
    return values, record_id


def _sort_value(type: int, value: str) -> tuple[int, float | str]:
    if type not in TYPES or not isinstance(value, str):
        raise ValueError(type)
    return type, value if type == 2 else float(value)


def select(query: Query, records: Iterable[CatalogRecord]) -> Page:
    """Return the page of the query from all records. The ``search`` of every backend must return the same."""
    after = read_cursor(query)
    found = [(sort_key(query, document), record) for record, document in matching(query, records)]
    rest = [each for each in found if after is None or compare(query, each[0], after) > 0]

    def order(a: tuple[SortKey, CatalogRecord], b: tuple[SortKey, CatalogRecord]) -> int:
        return compare(query, a[0], b[0])

    shown = heapq.nsmallest(query.limit, rest, key=functools.cmp_to_key(order))
    return Page(
        tuple(record for _, record in shown),
        write_cursor(query, shown[-1][0]) if len(rest) > len(shown) else None,
        len(found) if query.count else None,
    )


def matching(query: Query, records: Iterable[CatalogRecord]) -> Iterator[tuple[CatalogRecord, dict[str, Any]]]:
    """Yield the records that match, each with its document."""
    for record in records:
        document = record.to_mapping()
        if document_matches(query, document):
            yield record, document
