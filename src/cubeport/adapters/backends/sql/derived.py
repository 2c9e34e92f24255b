"""The derived tables: fields, artifacts, lineage, words and boxes, written with their records or rebuilt from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched

from sqlalchemy import bindparam, select

from cubeport.adapters.backends.sql import paths
from cubeport.adapters.backends.sql.batch import TABLES, Batch, Rows, derived_rows
from cubeport.adapters.backends.sql.dialect import Connection
from cubeport.adapters.backends.sql.rows import read_record
from cubeport.adapters.backends.sql.rows import rebuild as rebuild_rows
from cubeport.adapters.backends.sql.tables import DERIVED, ROW, Derived, at_most, record

BULK = 2_000
"""How many records have their rows inserted together. A larger number would only use more memory."""

_READ_AT_ONCE = 200
_NUMBERED = at_most(select(record.c.n, record.c.id, record.c.doc).where(record.c.n > bindparam("last")).order_by(record.c.n))


def write(
    connection: Connection, known: dict[str, int], number: int, record_id: str, old: Derived | None, new: Derived | None
) -> None:
    """Replace the derived rows of *old* by those of *new*. Only rows that differ are written."""
    paths.number_all(connection, known, {row[0] for of in (old, new) if of is not None for row in of.fields})
    before, after = (derived_rows([] if of is None else [(number, record_id, of)], known)[0] for of in (old, new))
    for name, table in TABLES.items():
        held, wanted = frozenset(before[name]), frozenset(after[name])
        if gone := held - wanted:
            same = " AND ".join(f"{each} = ?" for each in table.columns[: table.key])
            connection.executemany(f"DELETE FROM {name} WHERE {same}", [row[: table.key] for row in gone])  # noqa: S608  # our own names
        connection.dialect.fill(connection, name, table.columns, list(wanted - held))


def insert(connection: Connection, known: dict[str, int], batch: Batch, generation_of: Callable[[str], int]) -> None:
    """Insert new records with all their derived rows, table by table."""
    rows = [(number, *row, generation_of(row[0])) for number, row in zip(batch.numbers, batch.rows, strict=True)]
    connection.dialect.fill(connection, "record", ("n", *ROW), rows)
    _fill(connection, known, batch.derived, batch.unknown)


def _fill(connection: Connection, known: dict[str, int], derived: Mapping[str, Rows], unknown: Sequence[str]) -> None:
    """Insert derived rows. Paths that were unknown when the rows were made get their numbers first."""
    if unknown:
        paths.number_all(connection, known, unknown)
        numbers = [known[path] for path in unknown]
        fields = [row if row[0] > 0 else (numbers[-1 - row[0]], *row[1:]) for row in derived["field"]]
        derived = {**derived, "field": fields}
    for name, table in TABLES.items():
        connection.dialect.fill(connection, name, table.columns, derived[name])


def rebuild(connection: Connection) -> None:
    """Make the derived tables anew from the documents."""
    for name in DERIVED:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in connection.dialect.ddl(*DERIVED):
        connection.execute(statement)
    known: dict[str, int] = {}
    for batch in batched(numbered(connection), BULK):
        every = [(number, each, Derived.of(read_record(text).to_mapping())) for number, each, text in batch]
        _fill(connection, known, *derived_rows(every, known))
    rebuild_rows(connection)


def numbered(connection: Connection) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the id and the stored text of every record, by number."""
    last = 0
    while rows := connection.execute(connection.dialect.prepared(_NUMBERED), {"last": last, "most": _READ_AT_ONCE}).fetchall():
        last = rows[-1][0]
        yield from rows
