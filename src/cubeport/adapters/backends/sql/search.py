"""A query as SQL. What it means is ``catalog.query``'s; this module only says it so that few rows are looked at.

A page is driven either by its most selective condition (few candidates, then sorted) or by the index of its order (then each
condition is probed per record). The first statement counts candidates up to a bound, so that the choice never rests on a guess:
SQLite's planner knows nothing of how a caller's values are spread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    column,
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

from cubeport.adapters.backends.sql.tables import COLUMNS, DIALECT, field, record, record_box, record_text, years
from cubeport.catalog.query import (
    TEXT_COMPARED,
    Box,
    Interval,
    Op,
    Query,
    Scalar,
    SortKey,
    Term,
    canonical_field,
    comparable,
    fold,
    plain_value,
    query_boxes,
)

FEW = 2_000
"""Up to so many candidates, reading and sorting them beats walking an index and probing."""

MANY = 20_000
"""From so many candidates on, a probe per record beats collecting them."""

_LONG = ("title", "key", "schema_version", "created_by", "updated_by")


def run(connection: sqlite3.Connection, statement: ClauseElement) -> list[Any]:
    """Return the rows of a statement that is built for one call."""
    text, values = said(statement)
    return connection.execute(text, values).fetchall()


def said(statement: ClauseElement) -> tuple[str, dict[str, Any]]:
    """Return the text of a statement and the values of its binds."""
    compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    return str(compiled), dict(compiled.params)


@dataclass(frozen=True, slots=True)
class Candidates:
    """One condition that an index can answer: who fits, and whether a given record does."""

    parts: tuple[Select[Any], ...]
    """Selects of record numbers, fit to be joined; a record may come more than once."""
    probe: ColumnElement[bool]

    def numbers(self) -> Any:
        """Return the select of all the numbers."""
        return self.parts[0] if len(self.parts) == 1 else union_all(*self.parts)

    def bounded_count(self, most: int) -> Any:
        """Return the scalar select of how many there are, at most *most* being counted."""
        inner = self.numbers().limit(most).subquery()
        return select(func.count()).select_from(inner).scalar_subquery()


@dataclass(frozen=True, slots=True)
class Plan:
    """A query as conditions: those on the record's own columns, and those that an index answers."""

    filters: tuple[ColumnElement[bool], ...]
    candidates: tuple[Candidates, ...]

    @classmethod
    def of(cls, query: Query) -> Plan:
        """Return the plan of *query*, paging apart."""
        filters: list[ColumnElement[bool]] = []
        candidates: list[Candidates] = []
        if query.statuses is not None:
            filters.append(record.c.status.in_(sorted(query.statuses)))
        if query.kinds is not None:
            filters.append(record.c.kind.in_(sorted(query.kinds)))
        if query.interval is not None:
            filters.append(_in_time(query.interval))
        if query.interval is not None or query.box is not None:
            candidates.append(_in_box(query.interval, query.box))
        if query.words:
            candidates.append(_with_words(query.words))
        for term in query.terms:
            own = _own_column(term)
            if own is not None and term.negate:
                filters.append(not_(func.coalesce(own, false())))
            elif own is not None:
                filters.append(own)
            if own is not None and not (term.field in ("id", "key") and term.op == "=" and not term.negate):
                continue
            found = _with_key(term) if own is not None else _with_field(term)
            if term.negate:
                filters.append(not_(found.probe))
            else:
                candidates.append(found)
        return cls(tuple(filters), tuple(candidates))


# --- conditions -----------------------------------------------------------------------------------------------------


def _own_column(term: Term) -> ColumnElement[bool] | None:
    """Return the term as a condition on the record's columns, ``None`` where rows of ``field`` answer it."""
    if term.op == "?":
        inside = [each for name, (each, _) in COLUMNS.items() if name == term.field or name.startswith(term.field + ".")]
        return or_(*(each.is_not(None) for each in inside)) if inside else None
    if term.field not in COLUMNS:
        return None
    own, code = COLUMNS[term.field]
    wanted = [each for each in term.wanted if comparable(each)[0] == code]
    seen = func.substr(own, 1, TEXT_COMPARED) if own.name in _LONG else own
    return or_(false(), *(_compared(seen, term.op, each) for each in wanted))


def _compared(seen: ColumnElement[Any], op: Op, wanted: Scalar) -> ColumnElement[bool]:
    if op in (":", "~"):
        if not isinstance(wanted, str):
            return false()
        return func.lower(seen).like(_pattern(op, wanted), escape="\\")
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
    escaped = fold(wanted).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%" if op == ":" else escaped.replace("*", "%").replace("?", "_")


def _with_key(term: Term) -> Candidates:
    own, _ = COLUMNS[term.field]
    wanted = [each for each in term.wanted if isinstance(each, str)]
    other = record.alias("other")
    fit = other.c[own.name].in_(wanted)
    if own.name == "id":
        return Candidates((select(other.c.n).where(fit),), own.in_(wanted))
    live = other.c.status != literal_column("'deleted'")  # as the partial index of keys says it
    return Candidates(
        (select(other.c.n).where(fit, live), select(other.c.n).where(fit, other.c.status == "deleted")), own.in_(wanted)
    )


def _with_field(term: Term) -> Candidates:
    conditions = _field_conditions(term)
    probe = exists(select(literal(1)).select_from(field).where(field.c.n == record.c.n, or_(*conditions)))
    return Candidates(tuple(select(field.c.n).where(each) for each in conditions), probe)


def _field_conditions(term: Term) -> list[ColumnElement[bool]]:
    """Return one condition per range of the table's key; any of them may fit."""
    if term.op == "?":
        below = and_(field.c.path > term.field + ".", field.c.path < term.field + "/")  # "/" follows "."
        return [field.c.path == term.field, below]
    conditions: list[ColumnElement[bool]] = []
    for code, own in ((1, field.c.num), (2, field.c.text), (3, field.c.num)):
        wanted = [each for each in term.wanted if comparable(each)[0] == code]
        if not wanted or (term.op in (":", "~") and code != 2):
            continue
        among = own.in_([comparable(each)[1] for each in wanted]) if term.op == "=" else None
        fit = among if among is not None else or_(*(_compared(own, term.op, each) for each in wanted))
        key = [field.c.path == term.field, field.c.type == code]
        conditions.append(and_(*key, *([field.c.num == 0] if code == 2 else []), fit))
    return conditions or [false()]


def _with_words(words: Sequence[str]) -> Candidates:
    asked = " AND ".join(f'"{word}" *' for word in words)
    match: ColumnElement[bool] = column("record_text").op("MATCH")(asked)  # the table's hidden column, which means all of it
    own = record_text.c.rowid == record.c.n
    return Candidates(
        (select(record_text.c.rowid).where(match),),
        exists(select(literal(1)).select_from(record_text).where(own, match)),
    )


def _in_time(asked: Interval) -> ColumnElement[bool]:
    start, end = record.c.time_start, record.c.time_end
    known = or_(start.is_not(None), end.is_not(None))
    begins = [] if asked.end is None else [or_(start.is_(None), start <= asked.end)]
    ends = [] if asked.start is None else [or_(end.is_(None), end >= asked.start)]
    return and_(known, *begins, *ends)


def _in_box(interval: Interval | None, box: Box | None) -> Candidates:
    """Return who meets the box exactly, and the interval as nearly as 32 bits tell; the filters hold the exact times."""
    c = record_box.c
    times: list[ColumnElement[bool]] = []
    if interval is not None and interval.end is not None:
        times.append(c.start <= years(interval.end))
    if interval is not None and interval.start is not None:
        times.append(c.stop >= years(interval.start))
    areas = [and_(*times)] if times else [c.id >= 0]
    if box is not None:
        areas = [
            and_(*times, c.west <= e, c.east >= w, c.south <= n, c.north >= s, c.x_west <= e, c.x_east >= w)
            & and_(c.x_south <= n, c.x_north >= s)
            for w, s, e, n in query_boxes(box)
        ]
    numbers = tuple(select(c.id.op(">>")(1)).select_from(record_box).where(each) for each in areas)
    own = c.id.in_([record.c.n * 2, record.c.n * 2 + 1])
    return Candidates(numbers, exists(select(literal(1)).select_from(record_box).where(own, or_(*areas))))


# --- order ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One part of the order: what is compared, in turn, and whether it is missing."""

    parts: tuple[ColumnElement[Any], ...]
    missing: ColumnElement[bool] | None
    descends: bool
    joined: Any = None
    """The alias of ``field`` that holds it."""

    def order_by(self) -> list[ColumnElement[Any]]:
        """Return the terms of ORDER BY."""
        parts: list[ColumnElement[Any]] = [each.desc() if self.descends else each.asc() for each in self.parts]
        return parts if self.missing is None else [self.missing.asc(), *parts]

    def same(self, values: Sequence[Any] | None) -> ColumnElement[bool]:
        """Tell whether the record stands at these values; ``None`` stands for missing."""
        if values is None:
            return self.missing if self.missing is not None else false()
        return and_(*(part == value for part, value in zip(self.parts, values, strict=True)))

    def behind(self, values: Sequence[Any] | None) -> ColumnElement[bool]:
        """Tell whether the record stands behind these values."""
        if values is None:
            return false()
        if len(self.parts) == 1:
            later = self.parts[0] < values[0] if self.descends else self.parts[0] > values[0]
        else:
            here, there = tuple_(*self.parts), tuple_(*values)
            later = here < there if self.descends else here > there
        return later if self.missing is None else or_(self.missing, later)


def _order_keys(query: Query) -> list[OrderKey]:
    keys: list[OrderKey] = []
    for name, descends in query.orders:
        if name in COLUMNS:
            own, _ = COLUMNS[name]
            seen = func.substr(own, 1, TEXT_COMPARED) if own.name in _LONG else own
            keys.append(OrderKey((seen,), own.is_(None) if own.nullable else None, descends))
        else:
            joined = field.alias(f"order_{len(keys)}")
            parts = (joined.c.type, joined.c.num, joined.c.text)
            on = and_(joined.c.n == record.c.n, joined.c.path == name, joined.c.rank == 2)
            keys.append(OrderKey(parts, joined.c.n.is_(None), descends, (joined, on)))
    return keys


def _behind(keys: Sequence[OrderKey], after: SortKey) -> ColumnElement[bool]:
    values = [_parts(key, value) for key, value in zip(keys, after[0], strict=True)]
    ways: list[ColumnElement[bool]] = []
    for i, key in enumerate(keys):
        ways.append(and_(*(k.same(v) for k, v in zip(keys[:i], values[:i], strict=True)), key.behind(values[i])))
    ways.append(and_(*(k.same(v) for k, v in zip(keys, values, strict=True)), record.c.id > after[1]))
    behind = or_(*ways)
    if keys and keys[0].missing is None and values[0] is not None:
        first, bound = keys[0].parts[0], values[0][0]
        return and_(first <= bound if keys[0].descends else first >= bound, behind)  # said for the index alone
    return behind


def _parts(key: OrderKey, value: tuple[int, float | str] | None) -> list[Any] | None:
    if value is None:
        return None
    code, seen = value
    if len(key.parts) == 1:
        return [seen]
    return [code, 0.0, seen] if code == 2 else [code, seen, ""]


# --- statements -----------------------------------------------------------------------------------------------------


def page_documents(connection: sqlite3.Connection, query: Query, after: SortKey | None) -> list[str]:
    """Return the documents of the page behind *after*, and one more where there is one."""
    plan = Plan.of(query)
    keys = _order_keys(query)
    conditions, few = _conditions(connection, plan)
    source: Any = record
    for key in keys:
        if key.joined is not None:
            source = source.outerjoin(*key.joined)
    statement = select(record.c.doc).select_from(source).where(*conditions)
    statement = statement.with_hint(record, "NOT INDEXED" if few else _order_index(query))
    if after is not None:
        statement = statement.where(_behind(keys, after))
    order = [each for key in keys for each in key.order_by()]
    return [row[0] for row in run(connection, statement.order_by(*order, record.c.id).limit(query.limit + 1))]


def _order_index(query: Query) -> str:
    match query.orders:
        case () | (("id", False),):
            return "INDEXED BY record_id"
        case (("created_at", _),):
            single = all(each is not None and len(list(each)) == 1 for each in (query.statuses, query.kinds))
            return "INDEXED BY record_kind" if single else "INDEXED BY record_created"
    return "NOT INDEXED"


def _conditions(connection: sqlite3.Connection, plan: Plan) -> tuple[list[ColumnElement[bool]], bool]:
    """Return the plan's conditions, and whether one of them leaves few candidates, which then are where to start."""
    counts = _counts(connection, plan)
    best = min(counts, default=MANY)
    conditions = list(plan.filters)
    driven = False
    for each, count in zip(plan.candidates, counts, strict=True):
        if best <= FEW:
            starts = count == best and not driven
            driven = driven or starts
            conditions.append(record.c.n.in_(each.numbers()) if starts else each.probe)
        else:
            # "+ 0" keeps the planner from starting here.
            conditions.append(each.probe if count >= MANY else (record.c.n + 0).in_(each.numbers()))
    return conditions, driven


def _counts(connection: sqlite3.Connection, plan: Plan) -> Sequence[int]:
    if not plan.candidates:
        return ()
    counts: Sequence[int] = run(connection, select(*(each.bounded_count(MANY) for each in plan.candidates)))[0]
    return counts


def count_records(connection: sqlite3.Connection, query: Query) -> int:
    """Return how many records fit, paging apart."""
    plan = Plan.of(query)
    conditions, few = _conditions(connection, plan)
    statement = select(func.count()).select_from(record).where(*conditions)
    if plan.candidates:
        statement = statement.with_hint(record, "NOT INDEXED" if few else "INDEXED BY record_created")
    found: int = run(connection, statement)[0][0]
    return found


def matching_numbers(connection: sqlite3.Connection, query: Query) -> Any | None:
    """Return the select of the numbers of all records that fit, or ``None`` where that is every record."""
    plan = Plan.of(query)
    conditions, _ = _conditions(connection, plan)
    if not plan.candidates and not run(
        connection, select(record.c.n).where(not_(func.coalesce(and_(*conditions, true()), false()))).limit(1)
    ):
        return None
    return select(record.c.n).where(*conditions)


def distinct_values(connection: sqlite3.Connection, name: str, query: Query, most: int) -> list[tuple[Scalar, int]]:
    """Return the distinct values of a field and how many records have each, most frequent first, then smallest."""
    path = canonical_field(name)
    numbers = matching_numbers(connection, query)
    if path in COLUMNS:
        own, code = COLUMNS[path]
        seen = func.substr(own, 1, TEXT_COMPARED) if code == 2 else own
        statement = select(literal(code), seen, seen, func.count()).where(own.is_not(None)).group_by(seen)
        among = record.c.n
    else:
        c = field.c
        statement = select(c.type, c.num, c.text, func.count()).where(c.path == path).group_by(c.type, c.num, c.text)
        among = c.n
    if numbers is not None:
        statement = statement.where(among.in_(numbers))
    rows = run(connection, statement.order_by(func.count().desc(), *statement.selected_columns[:3]).limit(most))
    return [(plain_value(code, text if code == 2 else number), count) for code, number, text, count in rows]
