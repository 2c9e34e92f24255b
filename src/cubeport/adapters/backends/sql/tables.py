"""The tables, and the rows that a record's document has in the derived tables.

Statements are built with SQLAlchemy Core and compiled once for each ``dialect``. Values are always bound. Connections, transactions
and execution are our own (``store``), because cubeport needs BEGIN IMMEDIATE, its own lock, and a fast path of microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    column,
    func,
    literal_column,
    table,
)

from cubeport.adapters.backends.sql.seal import seal
from cubeport.catalog.forms.boxes import boxes
from cubeport.catalog.query import TEXT_COMPARED, comparable, document_words, leaves
from cubeport.catalog.terms import Scalar

SCHEMA = 5
"""The version of the tables that this release reads and writes. Releases with another one cannot use a catalog beside it. A new
index is no new version: it has a name that was never used, and older releases go on beside it.
"""


def compared(own: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the part of a long text that comparisons and sorting use, written exactly as in the indexes."""
    return func.substr(own, literal_column("1"), literal_column(str(TEXT_COMPARED)))


def at_most(statement: Select[Any]) -> Select[Any]:
    """Return the statement with the bind ``most`` as LIMIT. The dialect itself would bind the missing offset as a value."""
    return statement.limit(bindparam("most")).offset(literal_column("0"))


WHOLE = Integer().with_variant(BigInteger(), "postgresql")
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Compared by code point, whatever the language of the database."""

META = MetaData()

state = Table(
    "state",
    META,
    Column("catalog_id", TEXT, nullable=False),
    Column("schema", WHOLE, nullable=False),
    Column("generation", WHOLE, nullable=False),
    Column("retired", TEXT),  # the new catalog, after a conversion
)

record = Table(
    "record",
    META,
    Column("n", WHOLE, Identity(), primary_key=True),
    Column("id", TEXT, nullable=False),
    Column("key", TEXT),
    Column("kind", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("schema_name", TEXT),
    Column("schema_version", TEXT),
    Column("version", WHOLE, nullable=False),
    Column("title", TEXT),
    Column("created_at", TEXT, nullable=False),
    Column("created_by", TEXT),
    Column("updated_at", TEXT, nullable=False),
    Column("updated_by", TEXT),
    Column("time_start", TEXT),
    Column("time_end", TEXT),
    Column("operation_id", TEXT),
    Column("generation", WHOLE, nullable=False),
    Column("visibility", TEXT),
    Column("model_version", WHOLE, nullable=False),
    Column("doc", TEXT, nullable=False),  # canonical JSON as text: JSONB would rewrite numbers
)
Index("record_id", record.c.id, unique=True)
KEY_IS_LIVE = record.c.status != literal_column("'deleted'")
"""The condition of the partial index. SQLite uses the index only if a query contains exactly this condition."""
BY_LIVE_KEY = Index("record_key", record.c.key, unique=True, sqlite_where=KEY_IS_LIVE)
Index("record_kind", record.c.status, record.c.kind, record.c.created_at, record.c.id)
# Contains all columns that a list without terms needs, so that skipping a record does not read it.
Index("record_created", record.c.created_at, record.c.id, record.c.status, record.c.kind)
BY_KEY = Index("record_by_key", record.c.status, record.c.kind, record.c.key.is_(None), compared(record.c.key), record.c.id)
"""For lists of one kind in the order of their keys, which the service uses to list datasets."""
_SKIPPED = (record.c.id, record.c.status, record.c.kind)
ORDERS = {
    "title": Index("record_by_title", record.c.title.is_(None), compared(record.c.title), *_SKIPPED),
    "key": Index("record_in_key_order", record.c.key.is_(None), compared(record.c.key), *_SKIPPED),
    "updated_at": Index("record_updated", record.c.updated_at, *_SKIPPED),
    "time.start": Index("record_start", record.c.time_start.is_(None), record.c.time_start, *_SKIPPED),
    "time.end": Index("record_end", record.c.time_end.is_(None), record.c.time_end, *_SKIPPED),
}
"""By field, the index of all records in the order of that field, missing values last. It includes status and kind, so that skipping
a record does not read it."""

COLUMNS: Mapping[str, tuple[Column[Any], int]] = {
    **{name: (record.c[name], 2) for name in ("id", "key", "kind", "status", "schema_name", "schema_version", "title")},
    **{name: (record.c[name], 2) for name in ("created_at", "created_by", "updated_at", "updated_by")},
    **{name: (record.c[name], 2) for name in ("operation_id", "visibility")},
    **{name: (record.c[name], 1) for name in ("version", "model_version")},
    "time.start": (record.c.time_start, 2),
    "time.end": (record.c.time_end, 2),
}
"""The fields that are columns of ``record``, with their type code. Every other leaf is a row of ``field``."""

# A field has about thirty rows a record, so its name is stored once and numbered: half the bytes, and faster comparisons.
field_path = Table(
    "field_path",
    META,
    Column("id", WHOLE, primary_key=True, autoincrement=False),
    Column("name", TEXT, nullable=False, unique=True),
)

field = Table(
    "field",
    META,
    Column("path", WHOLE, primary_key=True, autoincrement=False),  # of field_path
    Column("type", Integer, primary_key=True, autoincrement=False),
    Column("num", Float, primary_key=True),  # 0 for text and
    Column("text", TEXT, primary_key=True),  # empty for numbers, not null: all five are the key
    Column("n", WHOLE, primary_key=True, autoincrement=False),  # of record; checking that for each row took a seventh of an import
    # 2: the record's smallest value of this path; 1: the smallest of its type; 0: neither. Sorting and summaries use it.
    Column("rank", Integer, nullable=False),
    sqlite_with_rowid=False,
)
Index("field_n", field.c.n, field.c.path, field.c.rank)

artifact = Table(
    "artifact",
    META,
    Column("n", WHOLE, ForeignKey("record.n", ondelete="CASCADE"), primary_key=True),
    Column("artifact_id", TEXT, primary_key=True),
    Column("role", TEXT, nullable=False),
    Column("format", TEXT),
    Column("status", TEXT, nullable=False),
    Column("profile", TEXT),
    Column("path", TEXT),
    Column("size", WHOLE),
    UniqueConstraint("profile", "path"),
    sqlite_with_rowid=False,
)

lineage = Table(
    "lineage",
    META,
    Column("n", WHOLE, ForeignKey("record.n", ondelete="CASCADE"), primary_key=True),
    Column("rel", TEXT, primary_key=True),
    Column("dst", TEXT, primary_key=True),
    Column("src", TEXT, nullable=False),
    sqlite_with_rowid=False,
)
Index("lineage_src", lineage.c.src, lineage.c.rel, lineage.c.dst)
Index("lineage_dst", lineage.c.dst, lineage.c.rel, lineage.c.src)

operation = Table(
    "operation",
    META,
    Column("operation_id", TEXT, primary_key=True),
    Column("parent_id", TEXT),
    Column("operation_type", TEXT, nullable=False),
    Column("status", TEXT, nullable=False),
    Column("started_at", TEXT, nullable=False),
    Column("ended_at", TEXT),
    Column("doc", TEXT, nullable=False),
)
Index("operation_status", operation.c.status, operation.c.started_at)
Index("operation_started", operation.c.started_at)

change = Table(
    "change",
    META,
    Column("id", TEXT, primary_key=True),
    Column("generation", WHOLE, nullable=False),
    Column("removed", Integer, nullable=False),
    sqlite_with_rowid=False,
)
Index("change_generation", change.c.generation, change.c.id, change.c.removed)

# The rows that users of the core store next to the records.
beside = Table(
    "beside",
    META,
    Column("tbl", TEXT, primary_key=True),
    Column("id", TEXT, primary_key=True),
    Column("owner", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("seq", WHOLE, nullable=False),
    Column("revision", WHOLE, nullable=False),
    Column("doc", TEXT, nullable=False),
)
Index("beside_owner", beside.c.tbl, beside.c.owner, beside.c.seq, beside.c.id)
Index("beside_state", beside.c.tbl, beside.c.state, beside.c.seq, beside.c.id)
Index("beside_seq", beside.c.tbl, beside.c.seq, beside.c.id)

# The place and time of searchable rows next to the records.
place = Table(
    "place",
    META,
    Column("n", WHOLE, Identity(), primary_key=True),
    Column("tbl", TEXT, nullable=False),
    Column("id", TEXT, nullable=False),
    Column("owner", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("seq", WHOLE, nullable=False),
    Column("known", Integer, nullable=False),
    Column("created", TEXT, nullable=False),
    Column("time_start", TEXT),
    Column("time_end", TEXT),
    UniqueConstraint("tbl", "id"),
)
_SHOWN = (place.c.tbl, place.c.state)
Index("place_created", *_SHOWN, place.c.created, place.c.id)
Index("place_start", *_SHOWN, place.c.time_start, place.c.id)
Index("place_end", *_SHOWN, place.c.time_end, place.c.id)
Index("place_id", *_SHOWN, place.c.id)
Index("place_owner", *_SHOWN, place.c.owner, place.c.created, place.c.id)
Index("place_owner_seq", place.c.tbl, place.c.state, place.c.owner, place.c.seq, place.c.id)
_VAGUE = place.c.known == literal_column("0")
VAGUE = Index("place_vague", place.c.n, sqlite_where=_VAGUE)
PARTIAL = (BY_LIVE_KEY, VAGUE)
"""Indexes of some rows only. What PostgreSQL is to know of them is said in its own module: SQLAlchemy would load that dialect, in
0.1 s, for an option that is named here."""

INDEXES: Mapping[str, Index] = {str(index.name): index for each in META.sorted_tables for index in each.indexes}
"""All indexes that this release needs, by name."""

record_text = table("record_text", column("rowid", WHOLE), column("words", TEXT))
"""The words of a record. They are already normalised, so the tokenizer only splits at spaces."""

_BOX = ("west", "east", "south", "north")
record_box = table(
    "record_box",
    *(column(name, WHOLE if name == "id" else Float()) for name in ("id", *_BOX, "start", "stop", *(f"x_{each}" for each in _BOX))),
)
"""Space and time as an R*Tree: row 2n, and also row 2n + 1 for a box across the antimeridian. The coordinates of the tree have 32
bits and are rounded outwards, so the columns ``x_*`` contain the exact box. The exact times are columns of ``record``. Times are in
years."""

BOX = tuple(each.name for each in record_box.c)

place_box = table("place_box", *(column(each.name, each.type) for each in record_box.c))
"""The same for ``place``."""

_NOWHERE = (1000.0, 1000.0, 1000.0, 1000.0)
_ALWAYS = 1e6

DERIVED = ("field_path", "field", "artifact", "lineage", "record_text", "record_box", "place", "place_box")
"""Tables that are rebuilt from the documents."""


type FieldRow = tuple[str, int, float, str, int]


class Derived(NamedTuple):
    """The rows of one document in each derived table, without the record's number."""

    fields: Sequence[FieldRow]
    artifacts: frozenset[tuple[Any, ...]]
    edges: frozenset[tuple[str, str]]
    words: str
    boxes: tuple[tuple[float | None, ...], ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Derived:
        """Return the rows of a record's document."""
        return cls(
            field_rows(document),
            frozenset(_artifact_row(each) for each in document["artifacts"]),
            frozenset((edge["rel"], edge["target"]) for edge in document["lineage"]),
            " ".join(sorted(document_words(document))),
            tuple(box_rows(document["time"], document["bbox"])),
        )


def record_row(document: Mapping[str, Any], doc: str) -> tuple[Any, ...]:
    """Return the values of the ``record`` table's :data:`ROW` but the last. The first is the record's id."""
    span = document["time"]
    times = (span["start"], span["end"]) if span else (None, None)
    return (*_SAME(document), *times, seal(doc))


_SAME_NAMES = tuple(each.name for each in record.c if each.name not in ("n", "time_start", "time_end", "generation", "doc"))
_SAME = itemgetter(*_SAME_NAMES)
ROW = (*_SAME_NAMES, "time_start", "time_end", "doc", "generation")
"""The columns of ``record`` except the number, in the order of :func:`record_row`, and the generation."""

_OF_COLUMNS = frozenset(name for name in COLUMNS if "." not in name) | {"time"}


def field_rows(document: Mapping[str, Any]) -> list[FieldRow]:
    """Return the path, type, number, text and rank of each leaf of a document that is not a column. No two are equal."""
    values: dict[str, Any] = {}
    several: dict[str, list[Scalar]] = {}
    for path, value in leaves({name: each for name, each in document.items() if name not in _OF_COLUMNS}):
        if path in values:
            several.setdefault(path, [values[path]]).append(value)
        values[path] = value
    for path in several:
        del values[path]
    rows: list[FieldRow] = []
    for path, value in values.items():  # nearly all: a record that is added waits for this
        if type(value) is str:
            rows.append((path, 2, 0.0, value[:TEXT_COMPARED], 2))
        else:
            code, seen = comparable(value)
            rows.append((path, code, seen, "", 2))  # type: ignore[arg-type]  # only a text has a text
    for path, found in several.items():
        last = 0
        every: list[tuple[int, Any]] = sorted(set(map(comparable, found)))
        for code, seen in every:
            rank = 2 if last == 0 else 1 if code != last else 0
            last = code
            rows.append((path, 2, 0.0, seen, rank) if code == 2 else (path, code, seen, "", rank))
    return rows


def _artifact_row(each: Mapping[str, Any]) -> tuple[Any, ...]:
    locator = each["locator"]
    profile = locator.get("profile")
    path = locator.get("path") or locator.get("urlpath") if profile else None
    return each["artifact_id"], each["role"], each["format"], each["status"], profile, path, each["size_bytes"]


def box_rows(span: Mapping[str, str | None] | None, bbox: Sequence[float] | None) -> list[tuple[float | None, ...]]:
    """Return the R*Tree rows for a place and a time without their numbers. Either can be unknown."""
    if span is None and bbox is None:
        return []
    times = (_ALWAYS, _ALWAYS)
    if span is not None:
        times = (
            -_ALWAYS if span["start"] is None else years(span["start"]),
            _ALWAYS if span["end"] is None else years(span["end"]),
        )
    if bbox is None:
        return [(*_NOWHERE, *times, None, None, None, None)]
    exact = [(west, east, south, north) for west, south, east, north in boxes(*bbox)]
    return [(*each, *times, *each) for each in exact]


def years(instant: str) -> float:
    """Return a timestamp in years for the R*Tree: monotonic, and of similar size to degrees, so that all axes have similar
    weight.
    """
    moment = datetime.fromisoformat(instant)
    return (moment.toordinal() + (moment.hour * 3600 + moment.minute * 60 + moment.second) / 86400) / 365.25
