"""What is in the records: their fields with types and examples, and the values of a field."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cubeport.catalog.forms.redaction import MASK, is_secret_name, redact_text
from cubeport.catalog.models import CatalogRecord
from cubeport.catalog.query import TYPES, Query, comparable, leaves, matching
from cubeport.catalog.terms import Scalar, canonical_field, shown_field, split_field


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """A summary of one metadata field, or of ``tags``, over many records. All counts are numbers of records."""

    field: str
    types: Mapping[str, int]
    """How many records have a value of each type: ``number``, ``text``, ``boolean``."""
    records: int
    examples: tuple[Scalar, ...] = ()
    """The five smallest values, truncated to 80 characters, with secrets masked."""
    schemas: tuple[str, ...] = ()


def summarise(query: Query | None, records: Iterable[CatalogRecord]) -> list[FieldSummary]:
    """Return the fields of the matching records, sorted. The ``list_fields`` of every backend must return the same."""
    values: dict[str, set[tuple[int, float | str]]] = defaultdict(set)
    types: dict[str, Counter[int]] = defaultdict(Counter)
    counts: Counter[str] = Counter()
    schemas: dict[str, set[str]] = defaultdict(set)
    for _, document in matching(query or Query(), records):
        own: dict[str, set[tuple[int, float | str]]] = defaultdict(set)
        for path, value in leaves(document):
            if is_summarised(path):
                own[path].add(comparable(value))
        for path, found in own.items():
            values[path] |= found
            types[path].update({code for code, _ in found})
            counts[path] += 1
            if document["schema_name"]:
                schemas[path].add(document["schema_name"])
    return sorted(
        (field_summary(path, types[path], counts[path], heapq.nsmallest(5, values[path]), schemas[path]) for path in values),
        key=lambda each: each.field,
    )


def count_values(query: Query | None, name: str, records: Iterable[CatalogRecord], limit: int) -> list[tuple[Scalar, int]]:
    """Return the values of a field with their numbers of records. The ``field_values`` of every backend must return the same."""
    path = canonical_field(name)
    counts: Counter[tuple[int, float | str]] = Counter()
    for _, document in matching(query or Query(), records):
        counts.update({comparable(value) for at, value in leaves(document) if at == path})
    ranked = heapq.nsmallest(limit, counts.items(), key=lambda item: (-item[1], item[0]))
    return [(plain_value(*value), count) for value, count in ranked]


def is_summarised(path: str) -> bool:
    """Return whether ``fields`` lists this canonical field. It lists metadata and tags, which belong to the caller."""
    return path == "tags" or path.startswith("metadata.")


def field_summary(
    path: str, types: Mapping[int, int], records: int, smallest: Sequence[tuple[int, float | str]], schemas: Iterable[str]
) -> FieldSummary:
    """Return the summary of one canonical field, with examples that are safe to show."""
    secret = any(is_secret_name(step) for step in split_field(path))
    return FieldSummary(
        shown_field(path),
        {TYPES[code]: types[code] for code in sorted(types)},
        records,
        (MASK,) if secret else tuple(dict.fromkeys(_example(*each) for each in smallest)),
        tuple(sorted(schemas)),
    )


def plain_value(type: int, value: float | str) -> Scalar:
    """Return a result of :func:`comparable` as a JSON value."""
    if type == 3:
        return bool(value)
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _example(type: int, value: float | str) -> Scalar:
    plain = plain_value(type, value)
    return redact_text(plain)[:80] if isinstance(plain, str) else plain
