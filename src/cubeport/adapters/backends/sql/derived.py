"""The derived tables: fields, artifacts, lineage, words and boxes, written with their records or rebuilt from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched
from typing import Any

from sqlalchemy import bindparam, select

from cubeport.adapters.backends.sql import paths
from cubeport.adapters.backends.sql.dialect import Connection
from cubeport.adapters.backends.sql.prepared import Prepared
from cubeport.adapters.backends.sql.rows import read_record
from cubeport.adapters.backends.sql.rows import rebuild as rebuild_rows
from cubeport.adapters.backends.sql.tables import BOX, DERIVED, ROW, Derived, at_most, record

BULK = 2_000
"""How many records have their rows inserted together. A larger number would only use more memory."""

TABLES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "field": (("path", "type", "num", "text", "n", "rank"), 5),
    "artifact": (("n", "artifact_id", "role", "format", "status", "profile", "path", "size"), 2),
    "lineage": (("n", "rel", "dst", "src"), 3),
}
"""Tables whose rows are compared and written by position: their columns, and how many of these are the key."""

_READ_AT_ONCE = 200
_NUMBERED = at_most(select(record.c.n, record.c.id, record.c.doc).where(record.c.n > bindparam("last")).order_by(record.c.n))


def write(
    connection: Connection, known: dict[str, int], number: int, record_id: str, old: Derived | None, new: Derived | None
) -> None:
    """Replace the derived rows of *old* by those of *new*. Only rows that differ are written."""
    before = {name: frozenset(rows) for name, rows in _rows(connection, known, [(number, record_id, old)] if old else []).items()}
    after = {name: frozenset(rows) for name, rows in _rows(connection, known, [(number, record_id, new)] if new else []).items()}
    for table, (columns, width) in TABLES.items():
        if gone := before[table] - after[table]:
            same = " AND ".join(f"{each} = ?" for each in columns[:width])
            connection.executemany(f"DELETE FROM {table} WHERE {same}", [row[:width] for row in gone])  # noqa: S608  # our own names
        connection.dialect.fill(connection, table, columns, list(after[table] - before[table]))
    if (old.words if old else None) != (new.words if new else None):
        if old:
            connection.execute("DELETE FROM record_text WHERE rowid = ?", (number,))
        if new:
            connection.execute("INSERT INTO record_text (rowid, words) VALUES (?, ?)", (number, new.words))
    if (old.boxes if old else ()) != (new.boxes if new else ()):
        if old and old.boxes:
            connection.execute("DELETE FROM record_box WHERE id IN (?, ?)", (2 * number, 2 * number + 1))
        boxes = [(2 * number + half, *box) for half, box in enumerate(new.boxes if new else ())]
        connection.dialect.fill(connection, "record_box", BOX, boxes)


def insert(connection: Connection, known: dict[str, int], records: Sequence[Prepared], generation_of: Callable[[str], int]) -> None:
    """Insert new records with all their derived rows, table by table."""
    numbers = connection.dialect.next_numbers(connection, len(records))
    rows = [(number, *each.row, generation_of(each.id)) for number, each in zip(numbers, records, strict=True)]
    connection.dialect.fill(connection, "record", ("n", *ROW), rows)
    _insert(connection, known, [(number, each.id, each.derived) for number, each in zip(numbers, records, strict=True)])


def _insert(connection: Connection, known: dict[str, int], records: Sequence[tuple[int, str, Derived]]) -> None:
    """Insert the derived rows of many records.

    Rows of fields come record by record, so that their index by record grows at its end. Sorted by the key of the table they took
    a third longer: the index was then written at random places, and the sorting came on top.
    """
    fill = connection.dialect.fill
    for table, rows in _rows(connection, known, records).items():
        fill(connection, table, TABLES[table][0], rows)
    fill(connection, "record_text", ("rowid", "words"), [(number, of.words) for number, _, of in records])
    boxes = [(2 * number + half, *box) for number, _, of in records for half, box in enumerate(of.boxes)]
    fill(connection, "record_box", BOX, boxes)


def _rows(
    connection: Connection, known: dict[str, int], records: Sequence[tuple[int, str, Derived]]
) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of the records in each of :data:`TABLES`."""
    paths.number_all(connection, known, {row[0] for _, _, of in records for row in of.fields})
    return {
        "field": [
            (known[path], code, num, text, number, rank) for number, _, of in records for path, code, num, text, rank in of.fields
        ],
        "artifact": [(number, *row) for number, _, of in records for row in of.artifacts],
        "lineage": [(number, *row, record_id) for number, record_id, of in records for row in of.edges],
    }


def rebuild(connection: Connection) -> None:
    """Make the derived tables anew from the documents."""
    for name in DERIVED:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in connection.dialect.ddl(*DERIVED):
        connection.execute(statement)
    known: dict[str, int] = {}
    for batch in batched(numbered(connection), BULK):
        _insert(connection, known, [(number, each, Derived.of(read_record(text).to_mapping())) for number, each, text in batch])
    rebuild_rows(connection)


def numbered(connection: Connection) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the id and the stored text of every record, by number."""
    last = 0
    while rows := connection.execute(connection.dialect.prepared(_NUMBERED), {"last": last, "most": _READ_AT_ONCE}).fetchall():
        last = rows[-1][0]
        yield from rows
