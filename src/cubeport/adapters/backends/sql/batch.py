"""Records with all their rows, numbered, so that they only have to be inserted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, Self

from cubeport.adapters.backends.sql.rows import read_record
from cubeport.adapters.backends.sql.tables import BOX, ROW, Derived, record_row
from cubeport.catalog.models import CatalogRecord, storable

_KIND, _SCHEMA, _DOC = (ROW.index(name) for name in ("kind", "schema_name", "doc"))

type Rows = Sequence[tuple[Any, ...]]


class Table(NamedTuple):
    """A derived table whose rows are made and inserted by position."""

    columns: tuple[str, ...]
    key: int
    """How many of the columns are the key."""
    number: Callable[[tuple[Any, ...]], int]
    """Returns the number of the record that a row belongs to."""


TABLES: Mapping[str, Table] = {
    "field": Table(("path", "type", "num", "text", "n", "rank"), 5, itemgetter(4)),
    "artifact": Table(("n", "artifact_id", "role", "format", "status", "profile", "path", "size"), 2, itemgetter(0)),
    "lineage": Table(("n", "rel", "dst", "src"), 3, itemgetter(0)),
    "record_text": Table(("rowid", "words"), 1, itemgetter(0)),
    "record_box": Table(BOX, 1, lambda row: int(row[0]) // 2),
}


class Prepared(NamedTuple):
    """A valid record of a batch. See ``cubeport.catalog.backend.Prepared``."""

    row: tuple[Any, ...]
    """The values of ``ROW`` but the last, the generation, which only the transaction knows."""

    @property
    def id(self) -> str:
        """The record's id."""
        found: str = self.row[0]
        return found

    @property
    def kind(self) -> str:
        """The record's kind."""
        found: str = self.row[_KIND]
        return found

    @property
    def schema_name(self) -> str | None:
        """The name of the record's schema."""
        found: str | None = self.row[_SCHEMA]
        return found

    def record(self) -> CatalogRecord:
        """Return the record itself."""
        return read_record(self.row[_DOC])


@dataclass(frozen=True, slots=True)
class Batch:
    """Valid records with their rows in all tables. See ``cubeport.catalog.backend.Batch``."""

    numbers: Sequence[int]
    rows: Rows
    """Of ``record``, in the same order: the values of ``ROW`` but the last, the generation."""
    derived: Mapping[str, Rows]
    """Of each of :data:`TABLES`."""
    unknown: Sequence[str]
    """Paths that had no number yet: rows of ``field`` have −1 for the first, −2 for the second, and so on."""

    @classmethod
    def of(cls, records: Iterable[CatalogRecord], numbers: Sequence[int], known: Mapping[str, int]) -> Self:
        """Return the rows of records. Raises InvalidRequest if one is too large.

        Parameters
        ----------
        numbers
            A number for each record. There can be more.
        known
            The numbers of paths.
        """
        rows, every = [], []
        for number, record in zip(numbers, records, strict=False):
            document, text = storable(record)
            rows.append(record_row(document, text))
            every.append((number, record.id, Derived.of(document)))
        derived, unknown = derived_rows(every, known)
        return cls(numbers[: len(rows)], rows, derived, unknown)

    def __iter__(self) -> Iterator[Prepared]:
        return map(Prepared, self.rows)

    def without(self, ids: Collection[str]) -> Batch:
        """Return the batch without these records."""
        if not ids:
            return self
        kept = {number: row for number, row in zip(self.numbers, self.rows, strict=True) if row[0] not in ids}
        derived = {name: [row for row in rows if TABLES[name].number(row) in kept] for name, rows in self.derived.items()}
        return Batch(list(kept), list(kept.values()), derived, self.unknown)


def derived_rows(records: Iterable[tuple[int, str, Derived]], known: Mapping[str, int]) -> tuple[Mapping[str, Rows], Sequence[str]]:
    """Return the rows of records, each with its number and id, in each of :data:`TABLES`; and the paths that are not *known*."""
    numbers = _Numbers(known)
    fields: list[tuple[Any, ...]] = []
    artifacts: list[tuple[Any, ...]] = []
    edges: list[tuple[Any, ...]] = []
    words: list[tuple[Any, ...]] = []
    boxes: list[tuple[Any, ...]] = []
    for number, record_id, of in records:
        fields += [(numbers[path], code, num, text, number, rank) for path, code, num, text, rank in of.fields]
        artifacts += [(number, *row) for row in of.artifacts]
        edges += [(number, *row, record_id) for row in of.edges]
        words.append((number, of.words))
        boxes += [(2 * number + half, *box) for half, box in enumerate(of.boxes)]
    fields.sort()  # by the key of the table, so that its pages are changed one after the other
    rows = dict(zip(TABLES, (fields, artifacts, edges, words, boxes), strict=True))
    return rows, numbers.unknown


class _Numbers(dict[str, int]):
    """The numbers of paths. Unknown ones get negative numbers."""

    def __init__(self, known: Mapping[str, int]) -> None:
        super().__init__(known)
        self.unknown: list[str] = []

    def __missing__(self, path: str) -> int:
        self.unknown.append(path)
        number = self[path] = -len(self.unknown)
        return number
