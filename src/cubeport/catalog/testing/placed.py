"""Rows with a place and a time, searches for them, and what these must find."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from cubeport.catalog.backend import CatalogBackend, Place, Row, RowSearch
from cubeport.catalog.models import (
    CatalogRecord,
)
from cubeport.catalog.query import Interval, Query, matches
from cubeport.catalog.terms import Term
from cubeport.catalog.testing.generated import sample


def placed_rows(rng: random.Random, backend: CatalogBackend) -> tuple[dict[str, CatalogRecord], list[Row]]:
    """Add 40 records with rows that have a place, a time, both or neither; return both."""
    records: dict[str, CatalogRecord] = {}
    rows: list[Row] = []
    with backend.transaction():
        for n in range(40):
            title = rng.choice([None, f"t{n % 7}"])
            given = {"key": None if n % 11 == 0 else f"k{rng.randrange(10**6)}", "kind": "ab"[n % 5 == 0], "title": title}
            record = backend.add_record(sample(n, **given, metadata={"listed": n % 4 != 0}))
            records[record.id] = record
            for _ in range(rng.choice([1, 1, 2, 6])):
                rows.append(backend.rows.put(_placed_row(rng, len(rows), record.id)))
    return records, rows


def _placed_row(rng: random.Random, n: int, owner: str) -> Row:
    reach: dict[str, Any] = {"bbox": None, "start": None, "end": None}
    if rng.random() < 0.9:
        west, south = rng.uniform(-180, 180), rng.uniform(-90, 80)
        east = west + rng.uniform(0, 60)
        reach["bbox"] = [west, south, east - 360 if east > 180 else east, south + rng.uniform(0, 10)]
    if rng.random() < 0.9:
        year = rng.randrange(1990, 2010)
        reach |= {"start": f"{year}-01-01T00:00:00Z", "end": f"{year + rng.randrange(3)}-12-31T00:00:00Z"}
    made = f"20{rng.randrange(10, 30)}-01-01T00:00:00Z"
    return Row(
        "v",
        f"{rng.randrange(16**8):08x}{n:04}",
        {"created_at": made, "shown_at": made, "reach": reach if rng.random() < 0.95 else None},
        owner,
        "there",
        n,
    )


def random_row_search(rng: random.Random, rows: Sequence[Row], records: Mapping[str, CatalogRecord]) -> RowSearch:
    """Return a search that some of the rows match."""
    names: list[Any] = ["created", "start", "end", "id", "owner.key", "owner.title", "owner.updated_at"]
    chosen: dict[str, Any] = {}
    if rng.random() < 0.5:
        west, south = rng.uniform(-180, 180), rng.uniform(-90, 60)
        chosen["box"] = (west, south, west + 50 if west < 130 else west - 310, south + 30)
    if rng.random() < 0.5:
        ends = f"{rng.randrange(1988, 2012)}-06-01T00:00:00Z"
        chosen["interval"] = Interval(*rng.choice([(ends, None), (None, ends), (ends, ends)]))
    if rng.random() < 0.2:
        chosen["ids"] = [row.id for row in rng.sample(list(rows), 8)] + ["nobody"]
    where = [Term("metadata.listed", "=", True)] if rng.random() < 0.5 else []
    if rng.random() < 0.3:
        named = [each.key for each in rng.sample(list(records.values()), 6) if each.key]
        where.append(Term("key", "=", (*named, "nobody")))
    order = [(name, rng.random() < 0.5) for name in rng.sample(names, rng.choice([1, 1, 2]))]
    kinds = rng.choice([None, ["a"], ["b"]])
    return RowSearch("v", "there", Query(where=where, kinds=kinds), order=order, limit=rng.choice([1, 7, 1000]), **chosen)


def row_fits(row: Row, owner: CatalogRecord, query: RowSearch) -> bool:
    """Return whether the search finds the row, by its meaning in words."""
    place = Place.of(row.document)
    return (
        place is not None
        and place.fits(query.box, query.interval)
        and (query.ids is None or row.id in query.ids)
        and matches(query.owner, owner)
    )


def row_order(row: Row, owner: CatalogRecord, query: RowSearch) -> tuple[Any, ...]:
    """Return the key that sorts rows as the search orders them."""
    place, document = Place.of(row.document), owner.to_mapping()
    assert place is not None
    values = {"created": place.created, "start": place.start, "end": place.end, "id": row.id}
    values |= {f"owner.{name}": document[name] for name in ("key", "title", "updated_at")}
    return tuple(_turned(values[name], descends) for name, descends in query.order)


def _turned(value: str | None, descends: bool) -> tuple[Any, ...]:
    if value is None:
        return (1,)
    return (0, (*(-ord(c) for c in value), 1)) if descends else (0, value)
