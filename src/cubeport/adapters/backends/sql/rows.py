"""The rows that users of the core store next to the records, in the same transactions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Select, bindparam, delete, func, insert, literal_column, select, tuple_, update

from cubeport.adapters.backends.sql import places
from cubeport.adapters.backends.sql.dialect import Connection, listed
from cubeport.adapters.backends.sql.problems import corrupt
from cubeport.adapters.backends.sql.seal import differs, intact, seal, unseal
from cubeport.adapters.backends.sql.search import run
from cubeport.adapters.backends.sql.store import Store
from cubeport.adapters.backends.sql.tables import beside
from cubeport.catalog.backend import Placed, Row, RowSearch, stale, taken
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.models import CatalogRecord, record_from_json
from cubeport.errors import CorruptCatalog, InvalidRequest, RecordExists

_log = logging.getLogger(__name__)

_CLAIMABLE = 100
"""How many rows a claim looks at."""

_C = beside.c
_COLUMNS = (_C.tbl, _C.id, _C.doc, _C.owner, _C.state, _C.seq, _C.revision)
_THIS = (_C.tbl == bindparam("in_tbl"), _C.id == bindparam("in_id"))

_GET = select(*_COLUMNS).where(*_THIS)
_INSERT = insert(beside).values({each.name: bindparam(each.name) for each in _C})
_UPDATE = (
    update(beside)
    .values({name: bindparam(name) for name in ("owner", "state", "seq", "doc")} | {"revision": _C.revision + literal_column("1")})
    .where(*_THIS, _C.revision == bindparam("read"))
)
_DELETE = delete(beside).where(*_THIS)
# The values come from one JSON text, so that a list of any length uses the same prepared statement.
_LISTED = listed(bindparam("listed"))
_MANY = select(*_COLUMNS).where(_C.tbl == bindparam("in_tbl"), _C.id.in_(select(_LISTED.c.value)))
_OF_OWNERS = (
    select(*_COLUMNS)
    .where(_C.tbl == bindparam("in_tbl"), _C.owner.in_(select(_LISTED.c.value)))
    .order_by(_C.owner, _C.seq.desc(), _C.id.desc())
)
_ALL = select(*_COLUMNS).order_by(_C.tbl, _C.id)
_HIGHEST = select(func.max(_C.seq)).where(_C.tbl == bindparam("in_tbl"), _C.owner == bindparam("in_owner"))


@cache
def _counted(of_owner: bool, in_states: bool) -> Select[Any]:
    """Return the statement that counts rows. It is cached, because the service often checks whether any key exists."""
    cuts = [_C.tbl == bindparam("in_tbl")]
    if of_owner:
        cuts.append(_C.owner == bindparam("in_owner"))
    if in_states:
        cuts.append(_C.state.in_(select(_LISTED.c.value)))
    return select(func.count()).select_from(beside).where(*cuts)


class SqlRows:
    """``Rows`` in the table ``beside``. A commit that changes only rows does not change the catalog's generation."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, table: str, id: str) -> Row | None:
        """Return the row, or ``None``."""
        found = self._store.one(_GET, {"in_tbl": table, "in_id": id})
        return None if found is None else _row(found)

    def get_many(self, table: str, ids: Sequence[str]) -> dict[str, Row]:
        """Return the existing rows by id."""
        if not ids:
            return {}
        found = self._store.all(_MANY, {"in_tbl": table, "listed": json.dumps(list(ids))})
        return {row.id: row for row in map(_row, found)}

    def of_owners(self, table: str, owners: Sequence[str]) -> dict[str, list[Row]]:
        """Return the rows of each owner that has any, the highest ``(seq, id)`` first."""
        rows: dict[str, list[Row]] = {}
        for found in self._store.all(_OF_OWNERS, {"in_tbl": table, "listed": json.dumps(list(owners))}):
            if (row := _row_or_none(found)) is not None:
                rows.setdefault(row.owner, []).append(row)
        return rows

    def put(self, row: Row) -> Row:
        """Insert the row, or compare-and-set; return it with its new revision."""
        stored = replace(row, revision=row.revision + 1)
        values = _values(stored)
        with self._store.write_rows() as transaction:
            if row.revision == 0:
                try:
                    with self._store.translated:
                        transaction.execute(_INSERT, values | {"tbl": row.table, "id": row.id, "revision": 1})
                except RecordExists:
                    raise taken(f"The {row.table} {row.id}") from None
                places.keep(transaction.connection, stored)
                return stored
            done = transaction.execute(_UPDATE, values | {"in_tbl": row.table, "in_id": row.id, "read": row.revision})
            if done.rowcount != 1:
                raise stale(f"The {row.table} {row.id}")
            places.keep(transaction.connection, stored)
        return stored

    def delete(self, table: str, id: str) -> None:
        """Remove the row if it exists."""
        with self._store.write_rows() as transaction:
            transaction.execute(_DELETE, {"in_tbl": table, "in_id": id})
            places.drop(transaction.connection, table, id)

    def select(
        self,
        table: str,
        *,
        owner: str | None = None,
        states: Sequence[str] | None = None,
        after: tuple[int, str] | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> list[Row]:
        """Return rows ordered by ``(seq, id)``, strictly after *after* in this direction."""
        statement = select(*_COLUMNS).where(*_cut(table, owner, states))
        place = tuple_(_C.seq, _C.id)
        if after is not None:
            statement = statement.where(place < tuple_(*after) if descending else place > tuple_(*after))
        order = [each.desc() if descending else each.asc() for each in (_C.seq, _C.id)]
        found = self._run(statement.order_by(*order).limit(limit))
        return [row for each in found if (row := _row_or_none(each)) is not None]

    def claim(self, table: str, states: Sequence[str], take: Callable[[Row], Row | None]) -> Row | None:
        """See ``Rows``. On PostgreSQL, rows that others are claiming are skipped, and nobody waits."""
        statement = select(*_COLUMNS).where(*_cut(table, None, states)).order_by(_C.seq, _C.id).limit(_CLAIMABLE)
        with self._store.write_rows() as transaction:
            for found in run(transaction.connection, statement.with_for_update(skip_locked=True)):
                row = _row_or_none(found)
                if row is not None and (changed := take(row)) is not None:
                    return self.put(changed)
        return None

    def find(self, search: RowSearch) -> list[Placed]:
        """Return the rows that match a place, a time and a record, in order."""
        with self._store.snapshot() as connection:
            found = places.find(connection, search)
        owners: dict[str, CatalogRecord | None] = {}
        placed: list[Placed] = []
        for each in found:
            own, owner, at = each[:7], each[7], each[8:]
            row = _row_or_none(own)
            if own[3] not in owners:
                owners[own[3]] = _owner_or_none(owner)
            record = owners[own[3]]
            if row is not None and record is not None:
                placed.append(Placed(row, record, tuple(at)))
        return placed

    def newest(self, table: str, state: str, owners: Sequence[str], most: int) -> dict[str, list[Row]]:
        """Return up to *most* searchable rows of each owner, the highest ``(seq, id)`` first."""
        with self._store.reading() as connection:
            found = places.newest(connection, table, state, owners, most)
        rows: dict[str, list[Row]] = {}
        for each in found:
            if (row := _row_or_none(each)) is not None:
                rows.setdefault(row.owner, []).append(row)
        return rows

    def neighbours(self, table: str, state: str, ids: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
        """Return, for each row, the ids of the previous and the next searchable row of its owner."""
        with self._store.reading() as connection:
            found = places.neighbours(connection, table, state, ids)
        return {id_: (before, behind) for id_, before, behind in found}

    def next_seq(self, table: str, owner: str = "") -> int:
        """Return the highest ``seq`` of the owner's rows plus one."""
        (highest,) = self._store.one(_HIGHEST, {"in_tbl": table, "in_owner": owner})
        return (highest or 0) + 1

    def count(self, table: str, *, owner: str | None = None, states: Sequence[str] | None = None) -> int:
        """Return the number of rows."""
        values = {"in_tbl": table, "in_owner": owner, "listed": json.dumps(list(states or ()))}
        found: int = self._store.one(_counted(owner is not None, states is not None), values)[0]
        return found

    def restore(self, row: Row) -> None:
        """Insert the row with its existing revision, for a conversion."""
        values = _values(row)
        with self._store.write() as transaction:
            transaction.execute(_INSERT, values | {"tbl": row.table, "id": row.id, "revision": row.revision})
            places.keep(transaction.connection, row)

    def all(self) -> Iterator[Row]:
        """Yield every row, by table and id, from one snapshot."""
        with self._store.snapshot() as connection:
            for found in connection.execute(connection.dialect.prepared(_ALL)):
                yield _row(found)

    def _run(self, statement: Any) -> list[Sequence[Any]]:
        with self._store.reading() as connection:
            return list(run(connection, statement))


def _cut(table: str, owner: str | None, states: Sequence[str] | None) -> list[Any]:
    conditions: list[Any] = [_C.tbl == table]
    if owner is not None:
        conditions.append(_C.owner == owner)
    if states is not None:
        conditions.append(_C.state.in_(list(states)))
    return conditions


def _values(row: Row) -> dict[str, Any]:
    """Return the columns of a row, with its existing revision."""
    doc = seal(dumps(row.document), *_belonging(row))
    return {"owner": row.owner, "state": row.state, "seq": row.seq, "doc": doc}


def _belonging(row: Row) -> tuple[object, ...]:
    """Return the columns that the digest covers, in the order of :func:`_row`."""
    return row.table, row.id, row.owner, row.state, row.seq, row.revision


def _row(found: Sequence[Any]) -> Row:
    """Return the row. Raises CorruptCatalog with its name if it differs from what was written."""
    table, id_, doc, owner, state, seq, revision = found
    try:
        if (text := intact(doc, table, id_, owner, state, seq, revision)) is None:
            raise differs(f"The {table} {id_}")
        return Row(table, id_, from_json(text), owner, state, seq, revision)
    except (ValueError, AttributeError) as exc:
        raise corrupt(f"The {table} {id_} in the catalog's database cannot be read: {exc}.") from exc


def _row_or_none(found: Sequence[Any]) -> Row | None:
    try:
        return _row(found)
    except CorruptCatalog as exc:
        _log.error("a row is missing from a list: %s", exc.message)
        return None


def _owner_or_none(text: str) -> CatalogRecord | None:
    try:
        return read_record(text)
    except CorruptCatalog as exc:
        _log.error("a record is missing from a list:  %s", exc.message)
        return None


def read_record(text: str) -> CatalogRecord:
    """Return the record of a stored text. Raises CorruptCatalog."""
    try:
        return record_from_json(unseal(text, "A record"))
    except (InvalidRequest, ValueError) as exc:
        raise corrupt(f"A record in the catalog's database is not valid: {exc}") from exc


def rebuild(connection: Connection) -> None:
    """Rebuild the index of places from the documents. Rows that cannot be read are skipped."""
    for found in connection.execute(connection.dialect.prepared(_ALL)).fetchall():
        if (row := _row_or_none(found)) is not None:
            places.keep(connection, row)


def differing(connection: Connection) -> Iterator[str]:
    """Yield the rows whose entry in the index of places is missing or differs from their documents."""
    for found in connection.execute(connection.dialect.prepared(_ALL)).fetchall():
        if (row := _row_or_none(found)) is not None and places.differs(connection, row):
            yield f"{row.table} {row.id}"
    yield from places.strays(connection)


def damaged(connection: Connection) -> Iterator[tuple[str, CorruptCatalog]]:
    """Yield damaged rows, each with the error that reading it raises."""
    for found in connection.execute(connection.dialect.prepared(_ALL)):
        try:
            _row(found)
        except CorruptCatalog as exc:
            yield f"{found[0]} {found[1]}", exc
