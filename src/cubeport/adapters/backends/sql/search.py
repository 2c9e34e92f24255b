"""A query as SQL. ``catalog.query`` defines what a query means; this module expresses it so that few rows are read.

First, one statement lists the numbers of the records that match each condition, up to a limit. SQLite's planner does not know how
the values are distributed; with these lists the choice does not depend on a guess. Conditions that match few records are
intersected and give the page. Conditions that match many are tested for each record, along the index of the sort order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.sql import ClauseElement

from cubeport.adapters.backends.sql import paths
from cubeport.adapters.backends.sql.dialect import Connection, Dialect, Sides, among
from cubeport.adapters.backends.sql.tables import (
    BY_KEY,
    COLUMNS,
    ORDERS,
    compared,
    field,
    field_path,
    record,
    record_box,
    record_text,
    years,
)
from cubeport.catalog.audience import Audience
from cubeport.catalog.forms.boxes import Box, query_boxes
from cubeport.catalog.models import RecordStatus
from cubeport.catalog.query import TEXT_COMPARED, Interval, Query, SortKey, comparable, fold
from cubeport.catalog.summaries import plain_value
from cubeport.catalog.terms import Op, Scalar, Term, canonical_field
from cubeport.errors import InvalidRequest

LISTED = 6_000
"""A condition that matches more records than this is not listed but tested for each record."""

FEW = 1_000
"""Up to this many records are read and sorted. For more, scanning along the sort order finds a page sooner."""

_NO_PATH = 0
"""The number of no path: paths are numbered from 1."""

_LONG = ("title", "key", "schema_version", "created_by", "updated_by")


def run(connection: Connection, statement: ClauseElement) -> list[Any]:
    """Return the rows of a statement that is compiled for one call."""
    text, values = connection.dialect.compiled(statement)
    return connection.execute(text, values).fetchall()


def probe(statement: Select[Any]) -> ColumnElement[bool]:
    """Return whether the select has a row, to be asked of each record. PostgreSQL would make a join of it, and guess its cost."""
    return exists(statement.suffix_with("OFFSET 0", dialect="postgresql"))


def indexed(statement: Any, of: Any, hint: str) -> Any:
    """Return the statement with the index that SQLite is to walk; PostgreSQL finds it."""
    return statement.with_hint(of, hint, "sqlite")


@dataclass(frozen=True, slots=True)
class Candidates:
    """A condition that an index can answer: which records match, and whether a given record matches."""

    parts: tuple[Select[Any], ...]
    """Selects of record numbers that can be combined. A record can occur more than once."""
    probe: ColumnElement[bool]
    scans: bool = False
    """Whether the index does not answer it, but is read from its beginning to its end."""

    def numbers(self) -> Any:
        """Return the select of all numbers."""
        return self.parts[0] if len(self.parts) == 1 else union_all(*self.parts)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """A query as conditions: those on the columns of the record, and those that an index answers."""

    filters: tuple[ColumnElement[bool], ...]
    candidates: tuple[Candidates, ...]
    others: tuple[str, ...] | None = None
    """The statuses that do not match, if the status is all that the filters ask about."""

    @classmethod
    def of(cls, dialect: Dialect, query: Query, numbers: Mapping[str, int]) -> SearchPlan:
        """Return the plan of *query*, without paging. The table of fields knows paths by the *numbers*."""
        filters: list[ColumnElement[bool]] = []
        candidates: list[Candidates] = []
        if query.statuses is not None:
            filters.append(record.c.status.in_(sorted(query.statuses)))
        if query.kinds is not None:
            filters.append(record.c.kind.in_(sorted(query.kinds)))
        if query.interval is not None:
            filters.append(_in_time(query.interval))
        if query.interval is not None or query.box is not None:
            candidates.append(_in_box(dialect, query.interval, query.box))
        if query.audience is not None:
            filters.append(_seen_by(query.audience))
        if query.matches_nothing:
            filters.append(false())
        if query.words:
            candidates.append(_with_words(dialect, query.words))
        for term in query.terms:
            own = _own_column(term)
            if own is not None and term.negate:
                filters.append(not_(func.coalesce(own, false())))
            elif own is not None:
                filters.append(own)
            if own is not None and not _names_records(term):
                continue
            found = _with_key(term) if own is not None else _with_field(term, numbers.get(term.field))
            if term.negate:
                filters.append(not_(found.probe))
            else:
                candidates.append(found)
        only_status = query.statuses is not None and len(filters) == 1
        others = tuple(sorted(set(get_args(RecordStatus)) - set(query.statuses or ()))) if only_status else None
        return cls(tuple(filters), tuple(candidates), others)


# --- conditions -----------------------------------------------------------------------------------------------------


def _own_column(term: Term) -> ColumnElement[bool] | None:
    """Return the term as a condition on the columns of the record; ``None`` if rows of ``field`` answer it."""
    if term.op == "?":
        inside = [each for name, (each, _) in COLUMNS.items() if name == term.field or name.startswith(term.field + ".")]
        return or_(*(each.is_not(None) for each in inside)) if inside else None
    if term.field not in COLUMNS:
        return None
    own, code = COLUMNS[term.field]
    wanted = [each for each in term.wanted if comparable(each)[0] == code]
    seen = compared(own) if own.name in _LONG else own
    return or_(false(), *(_compared(seen, term.op, each) for each in wanted))


def _compared(seen: ColumnElement[Any], op: Op, wanted: Scalar) -> ColumnElement[bool]:
    if op == ":" and not isinstance(wanted, str):
        op = "="  # a number or boolean contains only itself
    if op in (":", "~"):
        if not isinstance(wanted, str):
            return false()
        return func.lower(seen).like(_pattern(op, wanted), escape="!")
    value = comparable(wanted)[1]
    match op:
        case "=":
            return seen == value
        case "<":
            return seen < value
        case "<=":
            return seen <= value
        case ">":
            return seen > value
        case _:
            return seen >= value


def _pattern(op: Op, wanted: str) -> str:
    escaped = fold(wanted).replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%" if op == ":" else escaped.replace("*", "%").replace("?", "_")


def _names_records(term: Term) -> bool:
    """Return whether the term selects ids or keys by index. A text that comparisons truncate can match several keys."""
    short = all(isinstance(each, str) and len(each) < TEXT_COMPARED for each in term.wanted)
    return term.field in ("id", "key") and term.op == "=" and not term.negate and short


def _with_key(term: Term) -> Candidates:
    own, _ = COLUMNS[term.field]
    wanted = [str(each) for each in term.wanted]
    other = record.alias("other")
    fit = other.c[own.name].in_(wanted)
    if own.name == "id":
        return Candidates((select(other.c.n).where(fit),), own.in_(wanted))
    live = other.c.status != literal_column("'deleted'")  # written exactly as in the partial index of keys
    return Candidates(
        (select(other.c.n).where(fit, live), select(other.c.n).where(fit, other.c.status == "deleted")), own.in_(wanted)
    )


def path_numbers(connection: Connection, query: Query) -> Mapping[str, int]:
    """Return the numbers of the fields that the query names."""
    names = {each.field for each in query.terms} | {name for name, _ in query.orders}
    names -= COLUMNS.keys()
    return paths.numbers(connection, names) if names else {}


def _with_field(term: Term, number: int | None) -> Candidates:
    conditions = _field_conditions(term, number)
    # The table's own key begins with values that many records share, and SQLite would choose it.
    own = indexed(select(literal(1)).select_from(field), field, "INDEXED BY field_n")
    fits = probe(own.where(field.c.n == record.c.n, or_(*conditions)))
    return Candidates(tuple(select(field.c.n).where(each) for each in conditions), fits, scans=term.op in (":", "~"))


def _field_conditions(term: Term, number: int | None) -> list[ColumnElement[bool]]:
    """Return alternative conditions, one for each range of the table's key."""
    if term.op == "?":
        name = field_path.c.name
        below = select(field_path.c.id).where(name > term.field + ".", name < term.field + "/")  # "/" follows "."
        return [*([field.c.path == number] if number is not None else []), field.c.path.in_(below)]
    if number is None:  # no record has ever had the field
        return [false()]
    conditions: list[ColumnElement[bool]] = []
    for code, own in ((1, field.c.num), (2, field.c.text), (3, field.c.num)):
        wanted = [each for each in term.wanted if comparable(each)[0] == code]
        op: Op = "=" if term.op == ":" and code != 2 else term.op
        if not wanted or (op == "~" and code != 2):
            continue
        equal = own.in_([comparable(each)[1] for each in wanted]) if op == "=" else None
        fit = equal if equal is not None else or_(*(_compared(own, op, each) for each in wanted))
        key = [field.c.path == number, field.c.type == code]
        conditions.append(and_(*key, *([field.c.num == 0] if code == 2 else []), fit))
    return conditions or [false()]


def _with_words(dialect: Dialect, texts: Sequence[Sequence[str]]) -> Candidates:
    found, held = dialect.with_words(texts)
    words = select(literal(1)).select_from(record_text).where(record_text.c.rowid == record.c.n, held)
    return Candidates((select(record_text.c.rowid).where(found),), probe(words))


def _seen_by(audience: Audience) -> ColumnElement[bool]:
    own = record.c.visibility
    seen: ColumnElement[bool] = own.in_(sorted(audience.visibilities))
    if audience.unstated:
        seen = or_(seen, own.is_(None))
    return seen if audience.name is None else or_(seen, record.c.created_by == audience.name)


def _in_time(interval: Interval) -> ColumnElement[bool]:
    start, end = record.c.time_start, record.c.time_end
    known = or_(start.is_not(None), end.is_not(None))
    begins = [] if interval.end is None else [or_(start.is_(None), start <= interval.end)]
    ends = [] if interval.start is None else [or_(end.is_(None), end >= interval.start)]
    return and_(known, *begins, *ends)


def _in_box(dialect: Dialect, interval: Interval | None, box: Box | None) -> Candidates:
    """Return the records that intersect the box (exactly) and the interval (to 32 bits). The filters check the exact times."""
    c = record_box.c
    times: list[ColumnElement[bool]] = []
    if interval is not None and interval.end is not None:
        times.append(c.start <= years(interval.end))
    if interval is not None and interval.start is not None:
        times.append(c.stop >= years(interval.start))
    areas = [and_(*times)] if times else [c.id >= 0]
    if box is not None:
        areas = [and_(*times, *dialect.meets(record_box, _sides(each))) for each in query_boxes(box)]
    numbers = tuple(select(c.id.op(">>")(literal_column("1"))).select_from(record_box).where(each) for each in areas)
    own = c.id.in_([record.c.n * 2, record.c.n * 2 + 1])
    return Candidates(numbers, probe(select(literal(1)).select_from(record_box).where(own, or_(*areas))))


def _sides(box: Box) -> Sides:
    west, south, east, north = (literal(float(each)) for each in box)
    return west, south, east, north


# --- order ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key of the sort order: the columns to compare, and whether the value is missing."""

    parts: tuple[ColumnElement[Any], ...]
    missing: ColumnElement[bool] | None
    descends: bool
    joined: Any = None
    """The alias of ``field`` that contains the value."""

    def order_by(self) -> list[ColumnElement[Any]]:
        """Return the terms of ORDER BY."""
        parts: list[ColumnElement[Any]] = [each.desc() if self.descends else each.asc() for each in self.parts]
        return parts if self.missing is None else [self.missing.asc(), *parts]

    def same(self, values: Sequence[Any] | None) -> ColumnElement[bool]:
        """Return the condition that the record has these values; ``None`` is missing."""
        if values is None:
            return self.missing if self.missing is not None else false()
        return and_(*(part == value for part, value in zip(self.parts, values, strict=True)))

    def behind(self, values: Sequence[Any] | None) -> ColumnElement[bool]:
        """Return the condition that the record sorts after these values."""
        if values is None:
            return false()
        if len(self.parts) == 1:
            later = self.parts[0] < values[0] if self.descends else self.parts[0] > values[0]
        else:
            here, there = tuple_(*self.parts), tuple_(*values)
            later = here < there if self.descends else here > there
        return later if self.missing is None else or_(self.missing, later)


def _order_keys(query: Query, numbers: Mapping[str, int]) -> list[OrderKey]:
    keys: list[OrderKey] = []
    for name, descends in query.orders:
        if name in COLUMNS:
            own, _ = COLUMNS[name]
            seen = compared(own) if own.name in _LONG else own
            keys.append(OrderKey((seen,), own.is_(None) if own.nullable else None, descends))
        else:
            joined = field.alias(f"order_{len(keys)}")
            parts = (joined.c.type, joined.c.num, joined.c.text)
            on = and_(joined.c.n == record.c.n, joined.c.path == numbers.get(name, _NO_PATH), joined.c.rank == 2)
            keys.append(OrderKey(parts, joined.c.n.is_(None), descends, (joined, on)))
    return keys


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the sort order that one statement returns."""

    conditions: tuple[ColumnElement[bool], ...]
    order: tuple[ColumnElement[Any], ...]


def _stretches(keys: Sequence[OrderKey], after: SortKey | None, *, along: bool, whole: bool) -> list[Stretch]:
    """Return the parts of the sort order after *after*.

    Records without the first value come last, in a separate part, if the search goes *along* an index. If one statement asked for
    both parts, SQLite would read the index from its beginning, even if the query names a range of the first value. *whole* is
    :attr:`Dialect.orders_whole`.
    """
    order = tuple(each for key in keys for each in key.order_by())
    first, rest = keys[0] if keys else None, tuple(each for key in keys[1:] for each in key.order_by())
    lead: tuple[ColumnElement[Any], ...] = ()
    if whole and first is not None and first.missing is not None:
        lead = (first.missing.desc() if first.descends else first.missing.asc(),)  # the index is read in one direction
    parted = first is not None and first.missing is not None and first.joined is None
    if after is None:
        if first is None or first.missing is None or not parted or not (first.descends or along):
            return [Stretch((), order)]
        return [Stretch((known(first.missing, whole=whole),), (*lead, *order[1:])), Stretch((first.missing == true(),), rest)]
    behind = _behind(keys, after)
    if first is None or first.missing is None or not parted or after[0][0] is None:
        return [Stretch((behind,), order)]
    bound = _parts(first, after[0][0])
    assert bound is not None
    here = from_here(first.missing, first.parts[0], bound[0], first.descends, whole=whole)
    return [
        Stretch((known(first.missing, whole=whole), here, behind), (*lead, *order[1:])),
        Stretch((first.missing == true(),), rest),
    ]


def known(missing: ColumnElement[bool], *, whole: bool) -> ColumnElement[bool]:
    """Return the condition that a value is not missing, in the words of an index on (``x IS NULL``, ``x``).

    PostgreSQL takes ``(x IS NULL) = false`` for ``x IS NOT NULL``, which is not in the index. *whole* is
    :attr:`Dialect.orders_whole`.
    """
    return missing <= literal_column("false") if whole else missing == false()


def from_here(
    missing: ColumnElement[bool], part: ColumnElement[Any], value: Any, descends: bool, *, whole: bool
) -> ColumnElement[bool]:
    """Return the condition with which such an index is read from a value on, and not from its beginning."""
    here, there = (tuple_(missing, part), tuple_(false(), value)) if whole else (part, value)
    return here <= there if descends else here >= there


def _behind(keys: Sequence[OrderKey], after: SortKey) -> ColumnElement[bool]:
    values = [_parts(key, value) for key, value in zip(keys, after[0], strict=True)]
    ways: list[ColumnElement[bool]] = []
    for i, key in enumerate(keys):
        ways.append(and_(*(k.same(v) for k, v in zip(keys[:i], values[:i], strict=True)), key.behind(values[i])))
    ways.append(and_(*(k.same(v) for k, v in zip(keys, values, strict=True)), record.c.id > after[1]))
    behind = or_(*ways)
    if keys and keys[0].missing is None and values[0] is not None:
        first, bound = keys[0].parts[0], values[0][0]
        return and_(first <= bound if keys[0].descends else first >= bound, behind)  # only helps the index
    return behind


def _parts(key: OrderKey, value: tuple[int, float | str] | None) -> list[Any] | None:
    if value is None:
        return None
    code, seen = value
    if len(key.parts) == 1:
        return [seen]
    return [code, 0.0, seen] if code == 2 else [code, seen, ""]


# --- statements -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """A plan with the results of its conditions."""

    plan: SearchPlan
    few: frozenset[str] | None
    """The numbers of the records that match all listed conditions; ``None`` if no condition was listed."""
    many: tuple[Candidates, ...]
    """The conditions that match too many records to list."""
    numbers: Mapping[str, int]
    """The numbers of the fields that the query names."""

    @classmethod
    def of(cls, connection: Connection, query: Query) -> Start:
        """Return the start of *query*. One statement lists the records that match each condition, up to a limit."""
        numbered = path_numbers(connection, query)
        plan = SearchPlan.of(connection.dialect, query, numbered)
        scanned = [each for each in plan.candidates if each.scans and query.most_read is not None]
        indexed = [each for each in plan.candidates if each not in scanned]
        if not indexed:
            return cls(plan, None, tuple(scanned), numbered)
        lists = [each.numbers().limit(LISTED).subquery() for each in indexed]
        # One text for each condition, because fetching thousands of rows would cost more than finding them.
        texts = [select(func.aggregate_strings(cast(numbers.c[0], Text), ",")).scalar_subquery() for numbers in lists]
        listed = [text.split(",") if text else [] for text in run(connection, select(*texts))[0]]
        few = [frozenset(numbers) for numbers in listed if len(numbers) < LISTED]
        many = (each for each, numbers in zip(indexed, listed, strict=True) if len(numbers) >= LISTED)
        return cls(plan, frozenset.intersection(*few) if few else None, (*many, *scanned), numbered)

    @property
    def nothing(self) -> bool:
        """Whether no record can match."""
        return self.few is not None and not self.few

    @property
    def sorts(self) -> bool:
        """Whether the matching records are few enough to sort all of them for a page."""
        return self.few is not None and len(self.few) <= FEW

    @property
    def tests(self) -> bool:
        """Whether records are tested one by one, perhaps many before the first that matches."""
        return not self.sorts and (self.few is not None or bool(self.many) or self.plan.others is None)

    def page(self, order: str, *, along: bool = False) -> Any:
        """Return the select of matching records. It scans along the index *order* if there are too many to sort.

        With *along* the order comes from another table, so that the scan must not start with the records.
        """
        probes = (*self.plan.filters, *(each.probe for each in self.many))
        statement = select().select_from(record).where(*probes)
        if self.few is None:
            return indexed(statement, record, order)
        if self.sorts or (order == UNORDERED and not along):
            return indexed(statement.where(among(record.c.n, self.few)), record, UNORDERED)
        # "+ 0" prevents the planner from starting with this condition.
        return indexed(statement.where(among(record.c.n + 0, self.few)), record, order)

    def fits(self) -> ColumnElement[bool]:
        """Return whether a record matches all conditions."""
        return and_(true(), *self.plan.filters, *(each.probe for each in self.plan.candidates))

    def number(self) -> Any:
        """Return the select of the number of matching records."""
        if self.few is not None or not self.plan.candidates:
            return self.page(BY_CREATION if self.plan.candidates else "").add_columns(func.count())
        among = ((record.c.n + 0).in_(each.numbers()) for each in self.many)
        walk = select(func.count()).select_from(record).where(*self.plan.filters, *among)
        return indexed(walk, record, BY_CREATION)


type Columns = Sequence[ColumnElement[Any]]

_FIRST_READ = 2_000
"""How many records a page tests at first, if it may not test all."""

BY_ID = "INDEXED BY record_id"
BY_CREATION = "INDEXED BY record_created"
UNORDERED = "NOT INDEXED"


def page_rows(
    connection: Connection, query: Query, start: Start, after: SortKey | None, most: int, columns: Columns
) -> tuple[list[tuple[Any, ...]], SortKey | None]:
    """Return the columns of up to *most* records after *after*; and, if the search stopped before it had so many, the position at
    which it goes on.
    """
    if start.nothing:
        return [], None
    keys = _order_keys(query, start.numbers)
    found: list[tuple[Any, ...]] = []
    if query.most_counted is not None and start.few is None and _order_index(query) == UNORDERED:
        some = _some(query, start, query.most_counted + 1)
        if run(connection, select(func.count()).select_from(some))[0][0] <= query.most_counted:
            return _sorted(connection, start, some, keys, after, most, columns), None
        if len(keys) == 1 and keys[0].joined is not None:
            return _by_value(connection, query, start, keys[0], after, most, columns)
        raise _unsortable(query)
    if keys and keys[0].joined is not None and not start.sorts:
        if after is None or after[0][0] is not None:
            found = _with_first_value(connection, start, keys, after, most, columns)
            after = None
        if len(found) < most:
            found += _without_first_value(connection, start, keys, after, most - len(found), columns)
        return found, None
    statement = start.page(_order_index(query)).add_columns(*columns)
    statement = statement.select_from(_joined(record, keys))
    stops = query.most_read is not None and start.tests and _order_index(query) != UNORDERED
    for stretch in _stretches(keys, after, along=not start.sorts, whole=connection.dialect.orders_whole):
        last, rows = None, []
        # To find how far it may go takes as long as going there, and most pages are full long before.
        for reach in sorted({min(_FIRST_READ, query.most_read or 0), query.most_read or 0}) if stops else (0,):
            last = _Bound.of(connection, query, keys, stretch, reach) if stops else None
            within = () if last is None else (last.reaches(keys),)
            rest = statement.where(*stretch.conditions, *within).order_by(*stretch.order, record.c.id)
            rows = run(connection, rest.limit(most - len(found)))
            if last is None or len(rows) == most - len(found):
                break
        found += [tuple(row) for row in rows]
        if len(found) >= most:
            break
        if last is not None:
            return found, last.position(query)
    return found, None


@dataclass(frozen=True, slots=True)
class _Bound:
    """The last record that a page may test."""

    values: tuple[Any, ...]
    id: str

    @classmethod
    def of(cls, connection: Connection, query: Query, keys: Sequence[OrderKey], stretch: Stretch, most: int) -> _Bound | None:
        """Return the record *most* places on in this part of the order; ``None`` if the part ends before."""
        own = [part for key in keys for part in key.parts]
        statement = indexed(select(*own, record.c.id), record, _order_index(query))
        if _is_single(query):  # the indexes of one kind begin with it
            statement = statement.where(record.c.status.in_(query.statuses or ()), record.c.kind.in_(query.kinds or ()))
        statement = statement.where(*stretch.conditions).order_by(*stretch.order, record.c.id)
        found = run(connection, statement.limit(1).offset(most - 1))
        return cls(tuple(found[0][:-1]), found[0][-1]) if found else None

    def reaches(self, keys: Sequence[OrderKey]) -> ColumnElement[bool]:
        """Return whether a record of the part is not behind this one."""
        if not keys or self.values[0] is None:
            return record.c.id <= self.id
        (part,), value, descends = keys[0].parts, self.values[0], keys[0].descends
        return and_(
            part >= value if descends else part <= value, or_(part > value if descends else part < value, record.c.id <= self.id)
        )

    def position(self, query: Query) -> SortKey:
        """Return its position in the order."""
        names = (name for name, _ in query.orders)
        values = zip(names, self.values, strict=True)
        return tuple(None if value is None else (COLUMNS[name][1], value) for name, value in values), self.id


def _joined(source: Any, keys: Sequence[OrderKey]) -> Any:
    for key in keys:
        if key.joined is not None:
            source = source.outerjoin(*key.joined)
    return source


def _with_first_value(
    connection: Connection, start: Start, keys: Sequence[OrderKey], after: SortKey | None, most: int, columns: Columns
) -> list[tuple[Any, ...]]:
    """Return the page of records that have the first value of the order, along the table of fields, whose key is in that order."""
    first = keys[0]
    values, on = first.joined
    statement = start.page(UNORDERED, along=True).add_columns(*columns)
    statement = statement.select_from(_joined(values.join(record, on), keys[1:]))
    if after is not None:
        here, there = tuple_(*first.parts), tuple_(*(_parts(first, after[0][0]) or ()))
        statement = statement.where(here <= there if first.descends else here >= there, _behind(keys, after))
    parts = [each.desc() if first.descends else each.asc() for each in first.parts]
    order = (*parts, *(each for key in keys[1:] for each in key.order_by()), record.c.id)
    return [tuple(row) for row in run(connection, statement.order_by(*order).limit(most))]


def _without_first_value(
    connection: Connection, start: Start, keys: Sequence[OrderKey], after: SortKey | None, most: int, columns: Columns
) -> list[tuple[Any, ...]]:
    """Return the page of records without the first value of the order, which come last."""
    rest = keys[1:]
    statement = start.page(UNORDERED if rest else BY_ID).add_columns(*columns).select_from(_joined(record, keys))
    behind = [] if after is None else [_behind(keys, after)]
    order = (*(each for key in rest for each in key.order_by()), record.c.id)
    statement = statement.where(keys[0].missing, *behind).order_by(*order).limit(most)
    return [tuple(row) for row in run(connection, statement)]


def _unsortable(query: Query) -> InvalidRequest:
    return InvalidRequest(
        f"More than {query.most_counted:,} records would have to be sorted by {','.join(query.order)}.",
        next_step=f"add a condition that fewer records fit, or sort by one of {', '.join(('created_at', *ORDERS))}",
    )


def _sorted(
    connection: Connection,
    start: Start,
    some: Any,
    keys: Sequence[OrderKey],
    after: SortKey | None,
    most: int,
    columns: Columns,
) -> list[tuple[Any, ...]]:
    """Return a page of the records of *some*, all of which are read and sorted."""
    behind = [] if after is None else [_behind(keys, after)]
    statement = select(*columns).select_from(_joined(record, keys)).where(record.c.n.in_(select(some.c.n)), start.fits(), *behind)
    order = (*(each for key in keys for each in key.order_by()), record.c.id)
    return [tuple(row) for row in run(connection, statement.order_by(*order).limit(most))]


def _by_value(
    connection: Connection, query: Query, start: Start, key: OrderKey, after: SortKey | None, most: int, columns: Columns
) -> tuple[list[tuple[Any, ...]], SortKey | None]:
    """Return a page in the order of one field, which reads at most ``query.most_counted`` values, and where to go on.

    Raises
    ------
    InvalidRequest
        If more records have the same value, as those are sorted by their ids.
    """
    c, (values, on) = field.c, key.joined
    parts, reach = (c.type, c.num, c.text), query.most_counted or 0
    found: list[tuple[Any, ...]] = []
    if after is None or after[0][0] is not None:
        there = None if after is None else tuple_(*(_parts(key, after[0][0]) or ()))
        here = tuple_(*parts)
        within = [c.path == start.numbers.get(query.orders[0][0], _NO_PATH)]
        if there is not None:
            within.append(here <= there if key.descends else here >= there)
        order = [each.desc() if key.descends else each.asc() for each in parts]
        walked = select(*parts).where(*within).order_by(*order)
        ends = run(connection, walked.limit(1)), run(connection, walked.limit(1).offset(reach))
        first, last = (rows[0] if rows else None for rows in ends)
        if last is not None and first == last:
            raise _unsortable(query)
        stop = last
        statement = start.page(UNORDERED, along=True).add_columns(*columns).select_from(values.join(record, on))
        if after is not None:
            own = tuple_(*key.parts)
            statement = statement.where(own <= there if key.descends else own >= there, _behind([key], after))
        if stop is not None:  # the last value is left to the next page, with all records that have it
            own, at = tuple_(*key.parts), tuple_(*stop)
            statement = statement.where(own > at if key.descends else own < at)
        along = [each.desc() if key.descends else each.asc() for each in key.parts]
        found = [tuple(row) for row in run(connection, statement.order_by(*along, record.c.id).limit(most))]
        if len(found) >= most:
            return found, None
        if stop is not None:
            code, number, text = stop
            return found, (((code, text if code == 2 else number),), "")
        after = None
    last_id = run(connection, _ids_after(after).limit(1).offset(reach - 1))
    statement = start.page(BY_ID).add_columns(*columns).select_from(_joined(record, [key])).where(key.missing)
    if after is not None:
        statement = statement.where(record.c.id > after[1])
    if last_id:
        statement = statement.where(record.c.id <= last_id[0][0])
    found += [tuple(row) for row in run(connection, statement.order_by(record.c.id).limit(most - len(found)))]
    if len(found) >= most or not last_id:
        return found, None
    return found, ((None,), last_id[0][0])


def _ids_after(after: SortKey | None) -> Select[Any]:
    statement: Select[Any] = indexed(select(record.c.id), record, BY_ID).order_by(record.c.id)
    return statement if after is None else statement.where(record.c.id > after[1])


def _is_single(query: Query) -> bool:
    return all(each is not None and len(list(each)) == 1 for each in (query.statuses, query.kinds))


def _order_index(query: Query) -> str:
    single = _is_single(query)
    match query.orders:
        case () | (("id", False),):
            return BY_ID
        case (("created_at", _),):
            return "INDEXED BY record_kind" if single else BY_CREATION
        case (("key", False),) if single:
            return f"INDEXED BY {BY_KEY.name}"
        case ((name, _),) if name in ORDERS:
            return f"INDEXED BY {ORDERS[name].name}"
    return UNORDERED


def count_records(connection: Connection, query: Query, start: Start) -> tuple[int, bool]:
    """Return how many records match, without paging; and whether these are all, or only those among ``query.most_counted``."""
    if start.nothing:
        return 0, True
    if start.few is not None and not start.many and start.plan.others is not None:
        # To read the status of each would take ten times as long: there are few records of other statuses.
        others = select(record.c.n).where(record.c.status.in_(start.plan.others)).limit(LISTED)
        left_out = run(connection, indexed(others, record, "INDEXED BY record_kind"))
        if len(left_out) < LISTED:
            return len(start.few) - len(start.few & {str(number) for (number,) in left_out}), True
    if start.few is not None or query.most_counted is None:
        found: int = run(connection, start.number())[0][0]
        return found, True
    some = _some(query, start, query.most_counted + 1)
    if _by_kind_alone(query, start):
        seen = fit = run(connection, select(func.count()).select_from(some))[0][0]
    else:
        fits = case((start.fits(), 1), else_=0)
        seen, fit = run(connection, select(func.count(), func.sum(fits)).select_from(some.join(record, record.c.n == some.c.n)))[0]
    return min(fit or 0, query.most_counted), seen <= query.most_counted


def _by_kind_alone(query: Query, start: Start) -> bool:
    """Return whether status and kind are all that is asked."""
    return not start.plan.candidates and len(start.plan.filters) == sum(each is not None for each in (query.statuses, query.kinds))


def _some(query: Query, start: Start, most: int) -> Any:
    """Return the numbers of up to *most* records among which all are that match, if they are fewer.

    They are those of the first condition that an index answers; without one, those of the statuses and kinds.
    """
    listed = next((each for each in start.many if not each.scans), None)
    if listed is not None:
        numbers = listed.numbers().limit(most).subquery()
        return select(numbers.c[0].label("n")).distinct().subquery()
    statuses = sorted(get_args(RecordStatus) if query.statuses is None else query.statuses)
    statement = select(record.c.n).where(record.c.status.in_(statuses))
    if query.kinds is not None:
        statement = statement.where(record.c.kind.in_(sorted(query.kinds)))
    return indexed(statement.limit(most), record, "INDEXED BY record_kind").subquery()


def _matching_some(connection: Connection, query: Query) -> Any:
    """Return the select of the numbers of the matching records among ``query.most_counted``."""
    start = Start.of(connection, query)
    if start.few is not None:
        return start.page(UNORDERED).add_columns(record.c.n)
    some = _some(query, start, query.most_counted or 0)
    return select(record.c.n).select_from(some.join(record, record.c.n == some.c.n)).where(start.fits())


def matching_numbers(connection: Connection, query: Query) -> Any | None:
    """Return the select of the numbers of all matching records, or ``None`` if every record matches."""
    plan = SearchPlan.of(connection.dialect, query, path_numbers(connection, query))
    fits = and_(true(), *plan.filters, *(record.c.n.in_(each.numbers()) for each in plan.candidates))
    if not plan.candidates and not run(connection, select(record.c.n).where(not_(func.coalesce(fits, false()))).limit(1)):
        return None
    return select(record.c.n).where(fits)


def distinct_values(connection: Connection, name: str, query: Query, most: int) -> list[tuple[Scalar, int]]:
    """Return the distinct values of a field and how many records have each, most frequent first, then smallest."""
    path = canonical_field(name)
    numbers = matching_numbers(connection, query) if query.most_counted is None else _matching_some(connection, query)
    if path in COLUMNS:
        own, code = COLUMNS[path]
        seen = compared(own) if code == 2 else own
        statement = select(literal(code), seen, seen, func.count()).where(own.is_not(None)).group_by(seen)
        among = record.c.n
    else:
        c = field.c
        number = paths.numbers(connection, [path]).get(path, _NO_PATH)
        statement = select(c.type, c.num, c.text, func.count()).where(c.path == number).group_by(c.type, c.num, c.text)
        among = c.n
    if numbers is not None:
        statement = statement.where(among.in_(numbers))
    if query.most_counted is not None and path not in COLUMNS:
        # By the records, which are few: the table of fields has the values of all.
        statement = indexed(statement.select_from(field), field, "INDEXED BY field_n")
    rows = run(connection, statement.order_by(func.count().desc(), *statement.selected_columns[:3]).limit(most))
    return [(plain_value(code, text if code == 2 else number), count) for code, number, text, count in rows]
