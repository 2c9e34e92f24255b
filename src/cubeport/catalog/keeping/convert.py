"""Convert a catalog from one backend to another: copy one snapshot, compare all documents, and then retire the old store.

The conversion can be killed safely at any point. The copy is complete before the old store is marked. The mark names the new store,
so the next process that finds it can finish by writing the new backend to ``catalog.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from cubeport.catalog.backend import CatalogBackend, RecordChange, Row
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.models import CatalogRecord, Operation
from cubeport.errors import CatalogExists, HashMismatch

_ALL = 2**31


class Portable(CatalogBackend, Protocol):
    """A backend that can be converted to another backend of cubeport."""

    @property
    def catalog_id(self) -> str: ...

    def alone(self) -> AbstractContextManager[object]:
        """Return a transaction beside which nobody else writes, rows included."""

    def all_operations(self) -> Iterator[Operation]:
        """Yield every operation by id."""

    def all_rows(self) -> Iterator[Row]:
        """Yield all rows that are stored next to the records, by table and id."""

    def load(
        self,
        records: Iterable[CatalogRecord],
        operations: Iterable[Operation],
        rows: Iterable[Row],
        changes: Iterable[RecordChange],
        generation: int,
    ) -> None:
        """Load a complete catalog into this empty one in one commit, with revisions and generations unchanged."""

    def retire(self, target: str) -> None:
        """Mark the store as moved to *target*. From now on writers get CatalogMoved, which contains *target*."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of a conversion: the number of records and rows, and the digest, which is the same in both stores."""

    records: int
    rows: int
    digest: str


def convert(source: Portable, target: Portable, to: str) -> Conversion:
    """Copy everything from *source* to the empty *target*, compare both, and mark *source* as moved to *to*.

    Writers of the source wait during the conversion and then get CatalogMoved. The caller must then replace ``catalog.yaml``.

    Raises
    ------
    CatalogExists
        If the target is not empty.
    HashMismatch
        If the target does not return the same documents. The source is unchanged; the caller must discard the target.
    """
    if target.generation() or next(target.iterate(), None) or next(target.all_rows(), None):
        raise CatalogExists("The target of a conversion must be empty.")
    with source.alone():
        target.load(source.iterate(), source.all_operations(), source.all_rows(), source.changes(0, _ALL), source.generation())
        was, now = digest(source), digest(target)
        if was != now:
            raise HashMismatch("The converted catalog differs from the old one, which remains in use.", next_step="cubeport doctor")
        source.retire(to)
    return now


def digest(backend: Portable) -> Conversion:
    """Return the number of records and rows, and one sha256 of the sorted documents of records, of rows, and of the generation.

    Operations are not in the digest, because a backend may keep only the newest (as TinyDB does).
    """
    sha = hashlib.sha256()
    records = rows = 0
    for record in backend.iterate():
        sha.update(record.to_json().encode() + b"\n")
        records += 1
    for row in backend.all_rows():
        sha.update(dumps([row.table, row.id, row.document, row.owner, row.state, row.seq, row.revision]).encode() + b"\n")
        rows += 1
    sha.update(str(backend.generation()).encode())
    return Conversion(records, rows, sha.hexdigest())
