"""Search the rows next to the records by place, time and record. The index for this is derived from the documents of the rows.

As in ``search``, a first statement lists the numbers of the rows that match each condition, up to a limit. If one condition matches
few rows, these give the page. Otherwise the index of the sort order is scanned, and each row is tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, ColumnElement, Text, and_, cast, false, func, literal, literal_column, or_, select, true, union_all

from cubeport.adapters.backends.sql.dialect import Connection, Dialect, among
from cubeport.adapters.backends.sql.search import SearchPlan, indexed, path_numbers, probe, run
from cubeport.adapters.backends.sql.tables import (
    BOX,
    BY_KEY,
    KEY_IS_LIVE,
    beside,
    box_rows,
    compared,
    place,
    place_box,
    record,
    years,
)
from cubeport.catalog.backend import Place, Row, RowOrder, RowSearch
from cubeport.catalog.forms.boxes import Box, query_boxes
from cubeport.catalog.query import Interval, Query

LISTED = 2_000
"""A condition that matches more rows than this is not listed, because scanning along the sort order finds a page sooner."""

_P = place.c
_COLUMNS: dict[RowOrder, Column[Any]] = {
    "created": _P.created,
    "start": _P.time_start,
    "end": _P.time_end,
    "id": _P.id,
    "owner.key": record.c.key,
    "owner.title": record.c.title,
    "owner.updated_at": record.c.updated_at,
}
_LONG: tuple[RowOrder, ...] = ("owner.key", "owner.title")

_INSERT = (
    "INSERT INTO place (tbl, id, owner, state, seq, known, created, time_start, time_end) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (tbl, id) DO UPDATE SET owner = excluded.owner, state = excluded.state, seq = excluded.seq,"
    " known = excluded.known, created = excluded.created, time_start = excluded.time_start, time_end = excluded.time_end"
    " RETURNING n"
)


# --- keeping --------------------------------------------------------------------------------------------------------


def keep(connection: Connection, row: Row) -> None:
    """Update the index from the row's document."""
    found = Place.of(row.document)
    if found is None:
        drop(connection, row.table, row.id)
        return
    values = (row.table, row.id, row.owner, row.state, row.seq, int(found.known), found.created, found.start, found.end)
    ((number,),) = connection.execute(_INSERT, values).fetchall()
    connection.execute("DELETE FROM place_box WHERE id IN (?, ?)", (2 * number, 2 * number + 1))
    connection.dialect.fill(connection, "place_box", BOX, [(2 * number + half, *box) for half, box in enumerate(_boxes(found))])


def drop(connection: Connection, table: str, id: str) -> None:
    """Remove the row from the index."""
    for (number,) in connection.execute("DELETE FROM place WHERE tbl = ? AND id = ? RETURNING n", (table, id)).fetchall():
        connection.execute("DELETE FROM place_box WHERE id IN (?, ?)", (2 * number, 2 * number + 1))


def differs(connection: Connection, row: Row) -> bool:
    """Return whether the index differs from the row's document."""
    held = connection.execute(
        "SELECT n, owner, state, seq, known, created, time_start, time_end FROM place WHERE tbl = ? AND id = ?", (row.table, row.id)
    ).fetchone()
    wanted = Place.of(row.document)
    if held is None or wanted is None:
        return held is not None or wanted is not None
    number, *columns = held
    if columns != [row.owner, row.state, row.seq, int(wanted.known), wanted.created, wanted.start, wanted.end]:
        return True
    return not same_boxes(held_boxes(connection, "place_box", number), _boxes(wanted))


def held_boxes(connection: Connection, tree: str, number: int) -> list[Any]:
    """Return the boxes of the record, or row, without their ids."""
    asked = f"SELECT {', '.join(BOX)} FROM {tree} WHERE id IN (?, ?) ORDER BY id"  # noqa: S608  # our own names
    return [box[1:] for box in connection.execute(asked, (2 * number, 2 * number + 1)).fetchall()]


def same_boxes(held: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Return whether the exact columns of the boxes are equal. The R*Tree's own coordinates are rounded outwards."""
    if len(held) != len(wanted):
        return False
    return all(
        h[6:] == w[6:] and all(h[i] <= w[i] and h[i + 1] >= w[i + 1] for i in (0, 2, 4)) for h, w in zip(held, wanted, strict=True)
    )


def strays(connection: Connection) -> Iterator[str]:
    """Yield rows that are in the index but not in the catalog."""
    missing = (
        "SELECT place.tbl, place.id FROM place LEFT JOIN beside ON beside.tbl = place.tbl AND beside.id = place.id"
        " WHERE beside.id IS NULL"
    )
    for table, id_ in connection.execute(missing):
        yield f"{table} {id_}"
    for (number,) in connection.execute("SELECT id FROM place_box WHERE id >> 1 NOT IN (SELECT n FROM place)"):
        yield f"place {number}"


def _boxes(found: Place) -> list[tuple[float | None, ...]]:
    span = None if found.start is None and found.end is None else {"start": found.start, "end": found.end}
    return box_rows(span, found.bbox)


# --- searching ------------------------------------------------------------------------------------------------------


def find(connection: Connection, query: RowSearch) -> list[Any]:
    """Return for each match the columns of ``beside``, the record's document, the sort values, and the row's id."""
    where: list[ColumnElement[bool]] = [_P.tbl == query.table, _P.state == query.state]
    owners = _owners(connection, query.owner)
    lists: list[frozenset[str] | None] = []
    if owners is not None:
        where.append(_P.owner.in_(owners))
        lists.append(_listed(connection, select(_P.n).where(*where)))
    if query.ids is not None:
        where.append(_P.id.in_(list(query.ids)))
        lists.append(_listed(connection, select(_P.n).where(*where), len(query.ids) + 1))
    if query.box is not None or query.interval is not None:
        vague, areas = _P.known == literal_column("0"), _areas(connection.dialect, query.interval, query.box)
        inside = [select(place_box.c.id.op(">>")(literal_column("1"))).select_from(place_box).where(each) for each in areas]
        lists.append(_listed(connection, union_all(*inside, select(_P.n).where(vague))))
        own = place_box.c.id.in_([_P.n * 2, _P.n * 2 + 1])
        # The columns of the row decide about its time; the R*Tree is asked once more about its place alone.
        by_row = lists[-1] is None and query.box is not None
        near = [probe(select(literal(1)).select_from(place_box).where(own, or_(*areas)))] if by_row else []
        times = [_in_time(query.interval)] if query.interval is not None else []
        where.append(or_(vague, and_(true(), *times, *near)))
    listed = [each for each in lists if each is not None]
    few = frozenset.intersection(*listed) if listed else None
    if few is not None and not few:
        return []
    return _with_documents(connection, _page(connection, query, where, few, owners))


def _owners(connection: Connection, owner: Query) -> list[str] | None:
    """Return the ids of the records if the query names them by their keys."""
    named = [set(term.wanted) for term in owner.terms if term.field == "key" and term.op == "=" and not term.negate]
    if not named:
        return None
    keys = [each for each in set.intersection(*named) if isinstance(each, str)]
    # The index of keys covers records that are not deleted. SQLite uses it only if the condition is written exactly like this.
    live = [] if owner.statuses is None or "deleted" in owner.statuses else [KEY_IS_LIVE]
    statement = select(record.c.id).where(record.c.key.in_(keys), *live)
    return [id_ for (id_,) in run(connection, indexed(statement, record, "INDEXED BY record_key" if live else ""))]


def _fits(connection: Connection, owner: Query) -> list[ColumnElement[bool]]:
    """Return the conditions on the record."""
    query = replace(owner, text=None, time=None, bbox=None)
    plan = SearchPlan.of(connection.dialect, query, path_numbers(connection, query))
    return [*plan.filters, *(each.probe for each in plan.candidates)]


def _listed(connection: Connection, numbers: Any, most: int = LISTED) -> frozenset[str] | None:
    """Return the numbers as text; ``None`` if there are *most* or more."""
    some = numbers.limit(most).subquery()
    ((text,),) = run(connection, select(func.aggregate_strings(cast(some.c[0], Text), ",")))
    found = text.split(",") if text else []
    return frozenset(found) if len(found) < most else None


def _page(
    connection: Connection,
    query: RowSearch,
    where: Sequence[ColumnElement[bool]],
    few: frozenset[str] | None,
    owners: list[str] | None,
) -> list[Any]:
    """Return the numbers, sort values and ids of the page."""
    keys = [_key(name) for name, _ in query.order]
    statement: Any = select(_P.n, *keys, _P.id).where(*where)
    of_owners, by_key = any(name.startswith("owner.") for name, _ in query.order), False
    if few is not None:
        statement = statement.where(among(_P.n, few))
        statement = indexed(statement, place, "NOT INDEXED")
    else:
        by_key = query.order[0][0] == "owner.key" and owners is None and len(list(query.owner.kinds or ())) == 1
        index = "place_owner" if by_key or (owners is not None and len(owners) == 1) else _INDEXES.get(query.order[0][0])
        statement = indexed(statement, place, f"INDEXED BY {index}" if index else "")
    if of_owners:
        statement = statement.select_from(record.join(place, record.c.id == _P.owner)).where(*_fits(connection, query.owner))
        statement = indexed(statement, record, f"INDEXED BY {BY_KEY.name}") if by_key else statement
    else:
        owner = select(literal(1)).select_from(record).where(record.c.id == _P.owner, *_fits(connection, query.owner))
        statement = statement.select_from(place).where(probe(indexed(owner, record, "INDEXED BY record_id")))
    found: list[Any] = []
    for conditions, order in _stretches(query, keys, by_key=by_key):
        found += run(connection, statement.where(*conditions).order_by(*order).limit(query.limit - len(found)))
        if len(found) >= query.limit:
            break
    return found


_INDEXES: dict[str, str] = {"created": "place_created", "start": "place_start", "end": "place_end", "id": "place_id"}


def _key(name: RowOrder) -> ColumnElement[Any]:
    own = _COLUMNS[name]
    return compared(own) if name in _LONG else own


def _stretches(
    query: RowSearch, keys: Sequence[ColumnElement[Any]], *, by_key: bool
) -> list[tuple[list[ColumnElement[bool]], list[ColumnElement[Any]]]]:
    """Return the conditions and the order of the parts of the page. Rows without the first value are a separate part.

    If one statement asked for both parts, SQLite would read the index from its beginning.
    """
    down = [descends for _, descends in query.order]
    columns = [_COLUMNS[name] for name, _ in query.order]

    def rest(first: int) -> list[ColumnElement[Any]]:
        tail = [
            term
            for key, own, descends in list(zip(keys, columns, down, strict=True))[first:]
            for term in ([own.is_(None)] if own.nullable else []) + [key.desc() if descends else key.asc()]
        ]
        return [*tail, _P.id.desc() if down[-1] else _P.id.asc()]

    after = query.after
    behind = [] if after is None else [_behind(keys, columns, down, after)]
    leading = keys[0].desc() if down[0] else keys[0].asc()
    if not columns[0].nullable:
        bound = [] if after is None else [keys[0] <= after[0] if down[0] else keys[0] >= after[0]]
        return [([*bound, *behind], [leading, *rest(1)])]
    parts = []
    if after is None or after[0] is not None:
        bound = [] if after is None else [keys[0] <= after[0] if down[0] else keys[0] >= after[0]]
        known = columns[0].is_(None) == false() if by_key else columns[0].is_not(None)  # in the words of the index
        parts.append(([known, *bound, *behind], [leading, *rest(1)]))
    missing = columns[0].is_(None) == true() if by_key else columns[0].is_(None)
    parts.append(([missing, *behind], rest(1)))
    return parts


def _behind(
    keys: Sequence[ColumnElement[Any]], columns: Sequence[Column[Any]], down: Sequence[bool], after: Sequence[str | None]
) -> ColumnElement[bool]:
    """Return whether a row is after the position *after*. Missing values come last in both directions."""
    ways: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for key, own, descends, value in zip(keys, columns, down, after[:-1], strict=True):
        if value is None:
            same = [*same, own.is_(None)]
            continue
        later = key < value if descends else key > value
        ways.append(and_(*same, or_(later, own.is_(None)) if own.nullable else later))
        same = [*same, key == value]
    last = after[-1]
    ways.append(and_(*same, _P.id < last if down[-1] else _P.id > last))
    return or_(*ways)


def _with_documents(connection: Connection, page: Sequence[Any]) -> list[Any]:
    if not page:
        return []
    own = (beside.c.tbl, beside.c.id, beside.c.doc, beside.c.owner, beside.c.state, beside.c.seq, beside.c.revision)
    joined = place.join(beside, and_(beside.c.tbl == _P.tbl, beside.c.id == _P.id)).join(record, record.c.id == _P.owner)
    numbers = among(_P.n, (str(n) for n, *_ in page))
    documents = {n: rest for n, *rest in run(connection, select(_P.n, *own, record.c.doc).select_from(joined).where(numbers))}
    return [(*documents[n], *at) for n, *at in page if n in documents]


def _in_time(interval: Interval) -> ColumnElement[bool]:
    begins = [] if interval.end is None else [or_(_P.time_start.is_(None), _P.time_start <= interval.end)]
    ends = [] if interval.start is None else [or_(_P.time_end.is_(None), _P.time_end >= interval.start)]
    return and_(or_(_P.time_start.is_not(None), _P.time_end.is_not(None)), *begins, *ends)


def _areas(dialect: Dialect, interval: Interval | None, box: Box | None) -> list[ColumnElement[bool]]:
    """Return alternative conditions for a row of the R*Tree to be in the box (exactly) and in the interval (to 32 bits)."""
    times: list[ColumnElement[bool]] = []
    if interval is not None and interval.end is not None:
        times.append(place_box.c.start <= years(interval.end))
    if interval is not None and interval.start is not None:
        times.append(place_box.c.stop >= years(interval.start))
    if box is None:
        return [and_(place_box.c.id >= 0, *times)]
    return [and_(*times, *dialect.meets(place_box, each)) for each in query_boxes(box)]


# --- of one record --------------------------------------------------------------------------------------------------

_OWN = "b.tbl, b.id, b.doc, b.owner, b.state, b.seq, b.revision"
_NEWEST = {
    "sqlite": f"SELECT {_OWN} FROM json_each(:listed) o CROSS JOIN place p ON p.n IN"  # noqa: S608  # our names
    " (SELECT q.n FROM place q INDEXED BY place_owner_seq WHERE q.tbl = :tbl AND q.state = :state AND q.owner = o.value"
    " ORDER BY q.seq DESC, q.id DESC LIMIT :most)"
    " JOIN beside b ON b.tbl = p.tbl AND b.id = p.id ORDER BY b.owner, b.seq DESC, b.id DESC",
    "postgresql": f"SELECT {_OWN} FROM json_array_elements_text(%(listed)s::json) o (value) CROSS JOIN LATERAL"  # noqa: S608
    " (SELECT q.tbl, q.id FROM place q WHERE q.tbl = %(tbl)s AND q.state = %(state)s AND q.owner = o.value"
    " ORDER BY q.seq DESC, q.id DESC LIMIT %(most)s) p"
    " JOIN beside b ON b.tbl = p.tbl AND b.id = p.id ORDER BY b.owner, b.seq DESC, b.id DESC",
}
_BESIDE = (
    "(SELECT q.id FROM place q {hint} WHERE q.tbl = p.tbl AND q.state = p.state AND q.owner = p.owner"
    " AND (q.seq, q.id) {than} (p.seq, p.id) ORDER BY q.seq {way}, q.id {way} LIMIT 1)"
)


def _neighbouring(hint: str) -> str:
    before, behind = _BESIDE.format(hint=hint, than="<", way="DESC"), _BESIDE.format(hint=hint, than=">", way="ASC")
    return f"SELECT p.id, {before}, {behind} FROM "  # noqa: S608  # our names


_NEIGHBOURS = {
    "sqlite": _neighbouring("INDEXED BY place_owner_seq")
    + "json_each(:listed) i CROSS JOIN place p ON p.tbl = :tbl AND p.id = i.value WHERE p.state = :state",
    "postgresql": _neighbouring("")
    + "json_array_elements_text(%(listed)s::json) i (value) JOIN place p ON p.tbl = %(tbl)s AND p.id = i.value"
    " WHERE p.state = %(state)s",
}


def newest(connection: Connection, table: str, state: str, owners: Sequence[str], most: int) -> list[Any]:
    """Return the columns of ``beside`` for the newest rows of each owner."""
    values = {"tbl": table, "state": state, "listed": json.dumps(list(owners)), "most": most}
    return connection.execute(_NEWEST[connection.dialect.name], values).fetchall()


def neighbours(connection: Connection, table: str, state: str, ids: Sequence[str]) -> list[Any]:
    """Return the id of each row with the ids of its neighbours among the rows of its owner."""
    values = {"tbl": table, "state": state, "listed": json.dumps(list(ids))}
    return connection.execute(_NEIGHBOURS[connection.dialect.name], values).fetchall()
