"""Convert a catalog from one backend to another: copy one snapshot, compare all documents, and then retire the old store.

The conversion can be killed safely at any point. The copy is complete before the old store is marked. The mark names the new store,
so the next process that finds it can finish by writing the new backend to ``catalog.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from cubeport.catalog.backend import CatalogBackend, RecordChange, Row
from cubeport.catalog.forms.canonical import dumps
from cubeport.catalog.models import CatalogRecord, Operation
from cubeport.errors import CatalogExists, HashMismatch

_ALL = 2**31


class Portable(CatalogBackend, Protocol):
    """A backend that can be emptied into another one of ours."""

    @property
    def catalog_id(self) -> str: ...

    def all_operations(self) -> Iterator[Operation]:
        """Yield every operation by id."""

    def all_rows(self) -> Iterator[Row]:
        """Yield every row next to the records, by table and id."""

    def load(
        self,
        records: Iterable[CatalogRecord],
        operations: Iterable[Operation],
        rows: Iterable[Row],
        changes: Iterable[RecordChange],
        generation: int,
    ) -> None:
        """Take over a whole catalog into this empty one, as one commit: revisions and generations as they are."""

    def retire(self, target: str) -> None:
        """Mark the store as moved to *target*: from now on writers get CatalogMoved, which names it as ``target``."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was moved: how many records and rows, and the digest that both stores agree on."""

    records: int
    rows: int
    digest: str


def convert(source: Portable, target: Portable, to: str) -> Conversion:
    """Copy everything from *source* into the empty *target*, compare, and mark *source* as moved *to* there.

    Writers of the source wait meanwhile; then they get CatalogMoved. Swapping ``catalog.yaml`` is the caller's next step.

    Raises
    ------
    CatalogExists
        If the target holds anything.
    HashMismatch
        If the target does not give back what went in; the source is as before, and the target is to be thrown away.
    """
    if target.generation() or next(target.iterate(), None) or next(target.all_rows(), None):
        raise CatalogExists("The target of a conversion must be empty.")
    with source.transaction():
        target.load(source.iterate(), source.all_operations(), source.all_rows(), source.changes(0, _ALL), source.generation())
        was, now = digest(source), digest(target)
        if was != now:
            raise HashMismatch("The converted catalog differs from the old one, which remains in use.", next_step="cubeport doctor")
        source.retire(to)
    return now


def digest(backend: Portable) -> Conversion:
    """Return how much the backend holds, with one sha256 over the documents of records, then rows, each sorted, and the generation.

    Operations are not in the digest: a backend may keep only the newest (TinyDB does).
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
