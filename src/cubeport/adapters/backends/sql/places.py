"""Search the rows next to the records by place, time and record. The index for this is derived from the documents of the rows.

As in ``search``, a first statement lists the numbers of the rows that match each condition, up to a limit. If one condition matches
few rows, these give the page. Otherwise the index of the sort order is scanned, and each row is tested.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    Integer,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union_all,
)

from cubeport.adapters.backends.sql.dialect import SHAPES, Connection, Dialect, among, given, listed
from cubeport.adapters.backends.sql.search import SearchPlan, from_here, indexed, known, path_numbers, probe
from cubeport.adapters.backends.sql.tables import (
    BOX,
    BY_KEY,
    KEY_IS_LIVE,
    ORDERS,
    beside,
    box_rows,
    compared,
    place,
    place_box,
    record,
    years,
)
from cubeport.catalog.backend import Place, Row, RowOrder, RowSearch
from cubeport.catalog.forms.boxes import query_boxes
from cubeport.catalog.query import Query
from cubeport.errors import InvalidRequest

LISTED = 2_000
"""A condition that matches more rows than this is not listed, because scanning along the sort order finds a page sooner."""

TIED = 10_000
"""At most this many rows with the same value are sorted by a second key."""

SHORT = 200
"""If a record has fewer rows than this, they are listed and tested, and no other condition is asked for."""

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
    asked = Asked.of(connection, query)
    if asked is None:
        return []
    few, placed = _few(connection, query, asked)
    if few is not None and not few:
        return []
    if few is None:
        _check_ties(connection, asked)
    return _with_documents(connection, query.table, _page(connection, query, asked, few, placed=placed))


@dataclass(frozen=True, slots=True)
class Asked:
    """A search without its values: what the text of its statements depends on. For each, they are built once."""

    conditions: Query
    """What is asked of the record. Its values are in the text."""
    kinds: tuple[type, ...]
    """The types of these values: a boolean is equal to a number, and does not match the same."""
    numbers: tuple[tuple[str, int], ...]
    """The numbers of the fields that the conditions name."""
    owners: Literal["any", "one", "some"]
    """Whether the record is known by its id."""
    ids: bool
    time: tuple[bool, bool] | None
    """Whether the interval has a start, and an end."""
    boxes: int
    """How many boxes the place is looked for in: two where it crosses the antimeridian."""
    order: tuple[tuple[RowOrder, bool], ...]
    after: tuple[bool, ...] | None
    """Whether each value of the position after which the page begins is known."""
    values: Mapping[str, Any] = field(compare=False)
    """The values, by the names that the statements have for them."""

    @classmethod
    def of(cls, connection: Connection, query: RowSearch) -> Asked | None:
        """Return what the query asks; ``None`` if no row can match."""
        conditions, keys = _without_keys(query.owner)
        values: dict[str, Any] = {"tbl": query.table, "state": query.state, "most": query.limit}
        owners: list[str] | None = None
        if keys is not None:
            owners = _owners(connection, query.owner, keys)
            if not owners:
                return None
            values["owner"], values["owners"] = owners[0], json.dumps(owners)
        if query.ids is not None:
            values["ids"] = json.dumps(list(query.ids))
        if (interval := query.interval) is not None:
            ends = (("since", interval.start), ("until", interval.end))
            values |= {name: each for name, each in ends if each is not None}
            values |= {f"{name}_year": years(each) for name, each in ends if each is not None}
        boxes = [] if query.box is None else query_boxes(query.box)
        for i, box in enumerate(boxes):
            values |= {f"{name}_{i}": float(each) for name, each in zip(_SIDES, box, strict=True)}
        for i, each in enumerate(query.after or ()):
            values[f"after_{i}"] = each
        return cls(
            conditions,
            tuple(type(each) for term in conditions.terms for each in term.wanted),
            tuple(sorted(path_numbers(connection, conditions).items())),
            "any" if owners is None else "one" if len(owners) == 1 else "some",
            query.ids is not None,
            None if interval is None else (interval.start is not None, interval.end is not None),
            len(boxes),
            tuple(query.order),
            None if query.after is None else tuple(each is not None for each in query.after),
            values,
        )


_SIDES = ("west", "south", "east", "north")


def _without_keys(owner: Query) -> tuple[Query, list[str] | None]:
    """Return the conditions on the record without those that name it by its key, and these keys."""
    named = [term for term in owner.terms if term.field == "key" and term.op == "=" and not term.negate]
    rest = tuple(term for term in owner.terms if term not in named)
    keys = [each for each in set.intersection(*(set(term.wanted) for term in named)) if isinstance(each, str)] if named else None
    return replace(owner, where=rest, text=None, time=None, bbox=None, cursor=None), keys


def _owners(connection: Connection, owner: Query, keys: Sequence[str]) -> list[str]:
    """Return the ids of the records with these keys."""
    # The index of keys covers records that are not deleted. SQLite uses it only if the condition is written exactly like this.
    is_live = owner.statuses is not None and "deleted" not in owner.statuses
    statement = _OF_LIVE_KEYS if is_live else _OF_KEYS
    return [id_ for (id_,) in connection.execute(connection.dialect.prepared(statement), {"names": json.dumps(keys)})]


def _few(connection: Connection, query: RowSearch, asked: Asked) -> tuple[frozenset[str] | None, bool]:
    """Return the numbers of all rows that can match, as text, or ``None`` if they are too many to list; and whether their places
    were compared.
    """
    lists: list[frozenset[str] | None] = []
    if asked.owners != "any" and not asked.ids:
        # The rows of one record can be read in order, so they are listed only if this is less than asking for anything else.
        most = SHORT if asked.owners == "one" else LISTED
        lists.append(_listed(connection, asked, "owners", most))
        if lists[0] is not None and len(lists[0]) <= SHORT:
            return lists[0], False
    if asked.ids:
        return _listed(connection, asked, "ids", len(query.ids or ()) + 1), False
    placed = False
    if asked.time is not None or asked.boxes:
        lists.append(_listed(connection, asked, "boxes", LISTED))
        placed = lists[-1] is not None
    known = [each for each in lists if each is not None]
    return frozenset.intersection(*known) if known else None, placed


def _check_ties(connection: Connection, asked: Asked) -> None:
    """Check that few rows have the same first value, if there is a second key: all of them are sorted for a page.

    Raises
    ------
    InvalidRequest
    """
    first, descends = asked.order[0]
    if len(asked.order) < 2 or first not in _INDEXES or first == "id":
        return
    own = _key(first)
    start = asked.after is not None and asked.after[0]
    bound = [] if not start else [own <= _at(0) if descends else own >= _at(0)]
    walk = select(own).where(*_SHOWN, own.is_not(None), *bound).order_by(own.desc() if descends else own.asc())
    walk = indexed(walk.select_from(place), place, f"INDEXED BY {_INDEXES[first]}")
    ends = []
    for offset in (0, TIED):
        text, constants = connection.dialect.made(walk.limit(1).offset(offset))
        ends.append(connection.execute(text, {**constants, **asked.values}).fetchall())
    if ends[1] and ends[0] == ends[1]:
        raise InvalidRequest(
            f"More than {TIED:,} items have the same value of the first sort key.",
            next_step="sort by one key, or give bbox, datetime or collections",
        )


def _listed(connection: Connection, asked: Asked, by: _By, most: int) -> frozenset[str] | None:
    """Return the numbers as text; ``None`` if there are *most* or more."""
    parts = (asked.owners, asked.time, asked.boxes) if by == "boxes" else (asked.owners, None, 0)
    text, constants = _listing(connection.dialect, by, *parts)
    ((joined,),) = connection.execute(text, {**constants, **asked.values, "most": most}).fetchall()
    found = joined.split(",") if joined else []
    return frozenset(found) if len(found) < most else None


type _By = Literal["owners", "ids", "boxes"]


@lru_cache(maxsize=SHAPES)
def _listing(dialect: Dialect, by: _By, owners: str, time: tuple[bool, bool] | None, boxes: int) -> tuple[str, Mapping[str, Any]]:
    """Return the statement that lists the numbers of rows, as one text: fetching thousands of rows would cost more."""
    numbers: Any
    match by:
        case "owners":
            numbers = select(_P.n).where(*_SHOWN, _of_owners(owners))
        case "ids":
            numbers = select(_P.n).where(*_SHOWN, _WITH_IDS)
        case "boxes":
            inside = [
                select(place_box.c.id.op(">>")(literal_column("1"))).select_from(place_box).where(each)
                for each in _areas(dialect, time, boxes)
            ]
            numbers = union_all(*inside, select(_P.n).where(_VAGUE))
    some = numbers.limit(given("most", Integer())).subquery()
    return dialect.made(select(func.aggregate_strings(cast(some.c[0], Text), ",")))


_SHOWN = (_P.tbl == given("tbl"), _P.state == given("state"))
_VAGUE = _P.known == literal_column("0")
_WITH_IDS = _P.id.in_(select(listed(given("ids", Text())).c.value))
_BY_KEYS = record.c.key.in_(select(listed(bindparam("names")).c.value))
_OF_KEYS = select(record.c.id).where(_BY_KEYS)
_OF_LIVE_KEYS = indexed(select(record.c.id).where(_BY_KEYS, KEY_IS_LIVE), record, "INDEXED BY record_key")


def _of_owners(owners: str) -> ColumnElement[bool]:
    if owners == "one":
        return _P.owner == given("owner")
    return _P.owner.in_(select(listed(given("owners", Text())).c.value))


def _fits(dialect: Dialect, asked: Asked) -> list[ColumnElement[bool]]:
    """Return the conditions on the record."""
    plan = SearchPlan.of(dialect, asked.conditions, dict(asked.numbers))
    return [*plan.filters, *(each.probe for each in plan.candidates)]


def _page(connection: Connection, query: RowSearch, asked: Asked, few: frozenset[str] | None, *, placed: bool) -> list[Any]:
    """Return the numbers, sort values and ids of the page."""
    found: list[Any] = []
    values = asked.values if few is None else {**asked.values, "few": ",".join(few)}
    for text, constants in _pages(connection.dialect, asked, few=few is not None, placed=placed):
        found += connection.execute(text, {**constants, **values, "most": query.limit - len(found)}).fetchall()
        if len(found) >= query.limit:
            break
    return found


@lru_cache(maxsize=SHAPES)
def _pages(dialect: Dialect, asked: Asked, *, few: bool, placed: bool) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return the statements of a page. Each is needed if those before have found too little."""
    where: list[ColumnElement[bool]] = [*_SHOWN]
    if asked.owners != "any":
        where.append(_of_owners(asked.owners))
    if asked.ids:
        where.append(_WITH_IDS)
    if asked.time is not None or asked.boxes:
        own = place_box.c.id.in_([_P.n * 2, _P.n * 2 + 1])
        # The columns of the row decide about its time; the R*Tree is asked once more about its place alone.
        by_row = asked.boxes > 0 and not placed
        areas = or_(*_areas(dialect, asked.time, asked.boxes))
        near = [probe(select(literal(1)).select_from(place_box).where(own, areas))] if by_row else []
        times = [_in_time(*asked.time)] if asked.time is not None else []
        where.append(or_(_VAGUE, and_(true(), *times, *near)))
    keys = [_key(name) for name, _ in asked.order]
    statement: Any = select(_P.n, *keys, _P.id).where(*where)
    of_owners, walked = any(name.startswith("owner.") for name, _ in asked.order), None
    if few:
        statement = statement.where(among(_P.n, given("few", Text())))
        statement = indexed(statement, place, "NOT INDEXED")
    else:
        first = asked.order[0][0]
        if asked.owners == "any" and first == "owner.title":
            walked = ORDERS["title"].name
        elif asked.owners == "any" and first == "owner.key" and len(list(asked.conditions.kinds or ())) == 1:
            walked = BY_KEY.name
        index = "place_owner" if walked or asked.owners == "one" else _INDEXES.get(first)
        statement = indexed(statement, place, f"INDEXED BY {index}" if index else "")
    if of_owners:
        statement = statement.select_from(record.join(place, record.c.id == _P.owner)).where(*_fits(dialect, asked))
        statement = indexed(statement, record, f"INDEXED BY {walked}") if walked else statement
    else:
        owner = select(literal(1)).select_from(record).where(record.c.id == _P.owner, *_fits(dialect, asked))
        statement = statement.select_from(place).where(probe(indexed(owner, record, "INDEXED BY record_id")))
    parts = _stretches(asked, keys, of_records=walked is not None, whole=dialect.orders_whole)
    return tuple(
        dialect.made(statement.where(*conditions).order_by(*order).limit(given("most", Integer()))) for conditions, order in parts
    )


_INDEXES: dict[str, str] = {"created": "place_created", "start": "place_start", "end": "place_end", "id": "place_id"}


def _key(name: RowOrder) -> ColumnElement[Any]:
    own = _COLUMNS[name]
    return compared(own) if name in _LONG else own


def _stretches(
    asked: Asked, keys: Sequence[ColumnElement[Any]], *, of_records: bool, whole: bool
) -> list[tuple[list[ColumnElement[bool]], list[ColumnElement[Any]]]]:
    """Return the conditions and the order of the parts of the page. Rows without the first value are a separate part.

    If one statement asked for both parts, SQLite would read the index from its beginning. *whole* is :attr:`Dialect.orders_whole`.
    """
    down = [descends for _, descends in asked.order]
    columns = [_COLUMNS[name] for name, _ in asked.order]

    def rest(first: int) -> list[ColumnElement[Any]]:
        tail = [
            term
            for key, own, descends in list(zip(keys, columns, down, strict=True))[first:]
            for term in ([own.is_(None)] if own.nullable else []) + [key.desc() if descends else key.asc()]
        ]
        return [*tail, _P.id.desc() if down[-1] else _P.id.asc()]

    after = asked.after
    behind = [] if after is None else [_behind(keys, columns, down, after)]
    first = columns[0].is_(None)
    leading = [each.desc() if down[0] else each.asc() for each in ([first] if of_records and whole else []) + [keys[0]]]
    bound: list[ColumnElement[bool]] = []
    if after is not None and after[0]:
        bound = [from_here(first, keys[0], _at(0), down[0], whole=of_records and whole)]
    if not columns[0].nullable:
        return [([*bound, *behind], [*leading, *rest(1)])]
    parts = []
    if after is None or after[0]:
        there = known(first, whole=whole) if of_records else columns[0].is_not(None)
        parts.append(([there, *bound, *behind], [*leading, *rest(1)]))
    missing = first == true() if of_records else first
    parts.append(([missing, *behind], rest(1)))
    return parts


def _at(number: int) -> ColumnElement[Any]:
    """Return a value of the position after which the page begins."""
    return given(f"after_{number}", Text())


def _behind(
    keys: Sequence[ColumnElement[Any]], columns: Sequence[Column[Any]], down: Sequence[bool], after: Sequence[bool]
) -> ColumnElement[bool]:
    """Return whether a row is after the position. Missing values come last in both directions."""
    ways: list[ColumnElement[bool]] = []
    same: list[ColumnElement[bool]] = []
    for i, (key, own, descends, there) in enumerate(zip(keys, columns, down, after[:-1], strict=True)):
        if not there:
            same = [*same, own.is_(None)]
            continue
        later = key < _at(i) if descends else key > _at(i)
        ways.append(and_(*same, or_(later, own.is_(None)) if own.nullable else later))
        same = [*same, key == _at(i)]
    last = _at(len(after) - 1)
    ways.append(and_(*same, _P.id < last if down[-1] else _P.id > last))
    return or_(*ways)


_OWN = (beside.c.tbl, beside.c.id, beside.c.doc, beside.c.owner, beside.c.state, beside.c.seq, beside.c.revision)
_ROWS = select(*_OWN).where(beside.c.tbl == bindparam("tbl"), beside.c.id.in_(select(listed(bindparam("ids")).c.value)))
_RECORDS = select(record.c.id, record.c.doc).where(record.c.id.in_(select(listed(bindparam("ids")).c.value)))


def _with_documents(connection: Connection, table: str, page: Sequence[Any]) -> list[Any]:
    """Return the rows of a page. The document of a record that has many of them is read once."""
    if not page:
        return []
    prepared, ids = connection.dialect.prepared, json.dumps([at[-1] for _, *at in page])
    rows = {each[1]: each for each in connection.execute(prepared(_ROWS), {"tbl": table, "ids": ids})}
    owners = json.dumps(sorted({each[3] for each in rows.values()}))
    records = dict(connection.execute(prepared(_RECORDS), {"ids": owners}).fetchall())
    found = ((rows.get(at[-1]), at) for _, *at in page)
    return [(*row, records[row[3]], *at) for row, at in found if row is not None and row[3] in records]


def _in_time(starts: bool, ends: bool) -> ColumnElement[bool]:
    begins = [or_(_P.time_start.is_(None), _P.time_start <= given("until"))] if ends else []
    stops = [or_(_P.time_end.is_(None), _P.time_end >= given("since"))] if starts else []
    return and_(or_(_P.time_start.is_not(None), _P.time_end.is_not(None)), *begins, *stops)


def _areas(dialect: Dialect, time: tuple[bool, bool] | None, boxes: int) -> list[ColumnElement[bool]]:
    """Return alternative conditions for a row of the R*Tree to be in the box (exactly) and in the interval (to 32 bits)."""
    starts, ends = time or (False, False)
    times: list[ColumnElement[bool]] = []
    if ends:
        times.append(place_box.c.start <= given("until_year", Float()))
    if starts:
        times.append(place_box.c.stop >= given("since_year", Float()))
    if not boxes:
        return [and_(place_box.c.id >= 0, *times)]
    sides = ([given(f"{name}_{i}", Float()) for name in _SIDES] for i in range(boxes))
    return [and_(*times, *dialect.meets(place_box, (west, south, east, north))) for west, south, east, north in sides]


# --- of one record --------------------------------------------------------------------------------------------------

_OF_B = "b.tbl, b.id, b.doc, b.owner, b.state, b.seq, b.revision"
_NEWEST = {
    "sqlite": f"SELECT {_OF_B} FROM json_each(:listed) o CROSS JOIN place p ON p.n IN"  # noqa: S608  # our names
    " (SELECT q.n FROM place q INDEXED BY place_owner_seq WHERE q.tbl = :tbl AND q.state = :state AND q.owner = o.value"
    " ORDER BY q.seq DESC, q.id DESC LIMIT :most)"
    " JOIN beside b ON b.tbl = p.tbl AND b.id = p.id ORDER BY b.owner, b.seq DESC, b.id DESC",
    "postgresql": f"SELECT {_OF_B} FROM json_array_elements_text(%(listed)s::json) o (value) CROSS JOIN LATERAL"  # noqa: S608
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
